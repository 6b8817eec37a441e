/*
 * result.c - how results leave
 */
#include "bench/result.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "core/metrics.h"

enum { PATH_BYTES = 4096, US_IN_S = 1'000'000 };

static json_int_t quantile(const struct histogram *histogram, double share)
{
    return (json_int_t)MIN(histogram_quantile(histogram, share), histogram->max);
}

json_t *result_latency(const struct histogram *histogram)
{
    double mean = histogram->count == 0 ? 0 : (double)histogram->sum / (double)histogram->count;
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:I}", "p50", quantile(histogram, 0.5), "p90",
                     quantile(histogram, 0.9), "p99", quantile(histogram, 0.99), "p999",
                     quantile(histogram, 0.999), "max", (json_int_t)histogram->max, "mean", mean,
                     "count", (json_int_t)histogram->count);
}

uint64_t result_sum(const uint64_t *first, size_t stride, unsigned count)
{
    uint64_t sum = 0;
    for (unsigned i = 0; i < count; i++)
        sum += metric_get((const void *)((const char *)first + i * stride));
    return sum;
}

void result_write(const char *path, json_t *root)
{
    const size_t flags = JSON_INDENT(2) | JSON_PRESERVE_ORDER | JSON_REAL_PRECISION(9);
    if (path == NULL) {
        json_decref(root);
        return;
    }
    if (strcmp(path, "-") == 0) {
        json_dumpf(root, stdout, flags);
        putchar('\n');
        fflush(stdout);
        json_decref(root);
        return;
    }
    char beside[PATH_BYTES];
    int size = snprintf(beside, sizeof(beside), "%s.new", path);
    if (size < 0 || (size_t)size >= sizeof(beside) || json_dump_file(root, beside, flags) < 0 ||
        rename(beside, path) < 0)
        fprintf(stderr, "ringpost-bench: cannot write %s: %s\n", path, strerror(errno));
    json_decref(root);
}

void result_progress(bool quiet, const char *format, ...)
{
    if (quiet)
        return;
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

uint64_t result_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1'000'000'000 + (uint64_t)now.tv_nsec;
}

static uint64_t timeval_us(struct timeval t)
{
    return (uint64_t)t.tv_sec * US_IN_S + (uint64_t)t.tv_usec;
}

uint64_t result_cpu_us(void)
{
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) < 0)
        return 0;
    return timeval_us(usage.ru_utime) + timeval_us(usage.ru_stime);
}

/* ---- lists of ids ---- */

int result_ids_open(struct result_ids *ids, const char *path)
{
    ids->size = 0;
    ids->fd = -1;
    if (path == NULL)
        return 0;
    ids->fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    return ids->fd < 0 ? -errno : 0;
}

void result_ids_add(struct result_ids *ids, const void *id, size_t size)
{
    size = MIN(size, (size_t)RESULT_ID_MAX);
    if (ids->size + size + 1 > sizeof(ids->bytes))
        result_ids_flush(ids);
    memcpy(ids->bytes + ids->size, id, size);
    ids->bytes[ids->size + size] = '\n';
    ids->size += size + 1;
}

void result_ids_flush(struct result_ids *ids)
{
    for (size_t at = 0; at < ids->size;) {
        ssize_t written = write(ids->fd, ids->bytes + at, ids->size - at);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            fprintf(stderr, "ringpost-bench: cannot write the list of ids: %s\n", strerror(errno));
            _exit(1);
        }
        at += (size_t)written;
    }
    ids->size = 0;
}

void result_ids_close(struct result_ids *ids)
{
    if (ids->fd < 0)
        return;
    result_ids_flush(ids);
    close(ids->fd);
    ids->fd = -1;
}
