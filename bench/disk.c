/*
 * disk.c - the limit of the disk: a bare loop of write and sync
 *
 * The file is preallocated and was written whole once before the start, so that in the measured
 * time no block is allocated and a sync is a data write only, as in a recycled spool segment. It is
 * deliberately without ring and shard: plain system calls, one thread for each write under way, are
 * the least that anybody has to pay.
 */
#include "bench/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bench/options.h"
#include "bench/result.h"
#include "bench/worker.h"
#include "core/metrics.h"

enum {
    DIRECT_ALIGNMENT = 4096,
    FILL_BYTES = 1 << 20,
    DEPTH_MAX = 64,
    US_IN_NS = 1'000,
    SECOND_NS = 1'000'000'000,
};

enum disk_mode { DISK_DSYNC, DISK_FDATASYNC };

static const char help[] =
    "usage: ringpost-bench disk --file PATH [options]\n"
    "\n"
    "The limit of the disk: writes pieces into a preallocated file, one behind the other, from "
    "the\n"
    "front again at its end, and makes each durable before the next one. No server that syncs can\n"
    "move more bytes in pieces of that size, unless it gathers several into one sync.\n"
    "\n"
    "  --file PATH         on the disk to be measured; made, filled, and removed at the end. A "
    "file\n"
    "                      that is there already is refused, unless --keep is given\n"
    "  --keep              use a file that is there, and leave it there\n"
    "  --size BYTES        of each piece; K, M, G may follow (4096)\n"
    "  --seconds S         how long (5)\n"
    "  --depth N           pieces under way at the same time, a thread each (1)\n"
    "  --mode dsync        each write durable by itself: pwritev2 with RWF_DSYNC (default)\n"
    "  --mode fdatasync    pwrite, then fdatasync\n"
    "  --direct            O_DIRECT, past the page cache; --size must be a multiple of 4096\n"
    "  --file-size BYTES   of the file (1G)\n"
    "  --json FILE         the result; - is standard output. Keys: writes, seconds,\n"
    "                      writes_per_second, bytes_per_second, latency_us {p50, p90, p99, p999,\n"
    "                      max, mean, count} (write and sync together), size, depth, mode, "
    "direct,\n"
    "                      cpu_us_self\n"
    "  --quiet             no progress lines on standard error\n"
    "  --help              this text\n"
    "\n"
    "Examples:\n"
    "  ringpost-bench disk --file /var/spool/ringpost/limit --size 100K --seconds 10\n"
    "  ringpost-bench disk --file /var/spool/ringpost/limit --size 1M --depth 4 --mode fdatasync\n";

struct disk_options {
    const char *file;
    const char *json;
    uint64_t size;
    uint64_t file_size;
    double seconds;
    unsigned depth;
    enum disk_mode mode;
    bool direct;
    bool keep;
    bool quiet;
};

struct disk_shared {
    const struct disk_options *options;
    int fd;
    uint64_t next; /* piece */
    bool stop;
};

struct disk_writer {
    struct disk_shared *shared;
    pthread_t thread;
    bool started;
    int error;
    uint64_t writes;
    struct histogram latency;
};

static bool disk_options(int argc, char **argv, struct disk_options *o)
{
    enum {
        FILE_PATH = 256,
        SIZE,
        SECONDS,
        DEPTH,
        MODE,
        DIRECT,
        FILE_SIZE,
        KEEP,
        JSON,
        QUIET,
        HELP
    };
    static const struct option options[] = {
        { "file", required_argument, NULL, FILE_PATH },
        { "size", required_argument, NULL, SIZE },
        { "seconds", required_argument, NULL, SECONDS },
        { "depth", required_argument, NULL, DEPTH },
        { "mode", required_argument, NULL, MODE },
        { "direct", no_argument, NULL, DIRECT },
        { "file-size", required_argument, NULL, FILE_SIZE },
        { "keep", no_argument, NULL, KEEP },
        { "json", required_argument, NULL, JSON },
        { "quiet", no_argument, NULL, QUIET },
        { "help", no_argument, NULL, HELP },
        { NULL, 0, NULL, 0 },
    };
    *o = (struct disk_options) { .size = 4096, .file_size = 1 << 30, .seconds = 5, .depth = 1 };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case FILE_PATH: o->file = optarg; break;
        case SIZE: o->size = option_number("--size", optarg, 1, 1 << 30); break;
        case SECONDS: o->seconds = option_decimal("--seconds", optarg, 0.001, 1e6); break;
        case DEPTH: o->depth = (unsigned)option_number("--depth", optarg, 1, DEPTH_MAX); break;
        case MODE:
            if (strcmp(optarg, "dsync") != 0 && strcmp(optarg, "fdatasync") != 0)
                option_wrong("--mode", "takes dsync or fdatasync");
            o->mode = strcmp(optarg, "dsync") == 0 ? DISK_DSYNC : DISK_FDATASYNC;
            break;
        case DIRECT: o->direct = true; break;
        case FILE_SIZE:
            o->file_size = option_number("--file-size", optarg, FILL_BYTES, UINT64_C(1) << 44);
            break;
        case KEEP: o->keep = true; break;
        case JSON: o->json = optarg; break;
        case QUIET: o->quiet = true; break;
        case HELP: fputs(help, stdout); return false;
        default: exit(EXIT_USAGE);
        }
    }
    options_end(argc, argv);
    if (o->file == NULL)
        option_wrong("--file", "is needed");
    if (o->direct && o->size % DIRECT_ALIGNMENT != 0)
        option_wrong("--size", "must be a multiple of 4096 with --direct");
    if (o->size * o->depth > o->file_size)
        option_wrong("--file-size", "must hold all pieces that are under way");
    return true;
}

/* ---- the file ---- */

static int disk_fill(int fd, uint64_t size)
{
    static const uint8_t zeros[FILL_BYTES];
    int r = posix_fallocate(fd, 0, (off_t)size);
    if (r != 0 && r != EOPNOTSUPP)
        return -r;
    for (uint64_t at = 0; at < size;) {
        ssize_t written = pwrite(fd, zeros, MIN(size - at, sizeof(zeros)), (off_t)at);
        if (written < 0)
            return -errno;
        at += (uint64_t)written;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

/* A descriptor of a file that is full of zeros and on the disk, or errno. */
static int disk_open(const struct disk_options *o)
{
    int fd = open(o->file, O_RDWR | O_CREAT | O_CLOEXEC | (o->keep ? 0 : O_EXCL), 0600);
    if (fd < 0)
        return -errno;
    int r = disk_fill(fd, o->file_size);
    close(fd);
    if (r == 0) {
        fd = open(o->file, O_RDWR | O_CLOEXEC | (o->direct ? O_DIRECT : 0));
        r = fd < 0 ? -errno : fd;
    }
    if (r < 0 && !o->keep)
        unlink(o->file);
    return r;
}

/* ---- the loop ---- */

static int disk_write(const struct disk_shared *shared, const struct iovec *piece, off_t offset)
{
    ssize_t written =
        pwritev2(shared->fd, piece, 1, offset, shared->options->mode == DISK_DSYNC ? RWF_DSYNC : 0);
    if (written < 0)
        return -errno;
    if ((size_t)written < piece->iov_len)
        return -ENOSPC;
    if (shared->options->mode == DISK_FDATASYNC && fdatasync(shared->fd) < 0)
        return -errno;
    return 0;
}

static void *disk_run(void *argument)
{
    struct disk_writer *writer = argument;
    struct disk_shared *shared = writer->shared;
    const struct disk_options *o = shared->options;
    const uint64_t pieces = o->file_size / o->size;
    void *bytes = aligned_alloc(DIRECT_ALIGNMENT, (o->size + DIRECT_ALIGNMENT - 1) /
                                                      DIRECT_ALIGNMENT * DIRECT_ALIGNMENT);
    if (bytes == NULL) {
        writer->error = -ENOMEM;
        return NULL;
    }
    memset(bytes, 'x', o->size);
    const struct iovec piece = { bytes, o->size };
    uint64_t before_ns = result_now_ns();
    while (!__atomic_load_n(&shared->stop, __ATOMIC_RELAXED)) {
        uint64_t index = __atomic_fetch_add(&shared->next, 1, __ATOMIC_RELAXED) % pieces;
        writer->error = disk_write(shared, &piece, (off_t)(index * o->size));
        if (writer->error < 0)
            break;
        uint64_t now_ns = result_now_ns();
        histogram_add(&writer->latency, (now_ns - before_ns) / US_IN_NS);
        metric_add(&writer->writes, 1);
        before_ns = now_ns;
    }
    free(bytes);
    return NULL;
}

static uint64_t disk_writes(const struct disk_writer *writers, unsigned count)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < count; i++)
        total += metric_get(&writers[i].writes);
    return total;
}

static void disk_watch(const struct disk_writer *writers, const struct disk_options *o,
                       uint64_t begun_ns)
{
    uint64_t end_ns = begun_ns + (uint64_t)(o->seconds * SECOND_NS);
    uint64_t before = 0;
    for (uint64_t now_ns = begun_ns; now_ns < end_ns; now_ns = result_now_ns()) {
        uint64_t left_ms = (end_ns - now_ns) / 1'000'000 + 1;
        int signal_number = signals_wait((uint32_t)MIN(left_ms, 1000U));
        if (signal_number == SIGINT || signal_number == SIGTERM)
            return;
        uint64_t writes = disk_writes(writers, o->depth);
        result_progress(o->quiet, "%llu writes", (unsigned long long)(writes - before));
        before = writes;
    }
}

static void disk_report(const struct disk_writer *writers, const struct disk_options *o,
                        double seconds, uint64_t cpu_us)
{
    struct histogram *latency = calloc(1, sizeof(*latency));
    if (latency == NULL)
        return;
    for (unsigned i = 0; i < o->depth; i++)
        histogram_merge(latency, &writers[i].latency);
    uint64_t writes = disk_writes(writers, o->depth);
    double rate = (double)writes / seconds;
    if (o->json == NULL || strcmp(o->json, "-") != 0)
        printf("writes %llu of %llu bytes in %.3f s, %.0f writes/s, %.1f MB/s, us p50 %llu p99 "
               "%llu max %llu\n",
               (unsigned long long)writes, (unsigned long long)o->size, seconds, rate,
               rate * (double)o->size / 1e6, (unsigned long long)histogram_quantile(latency, 0.5),
               (unsigned long long)histogram_quantile(latency, 0.99),
               (unsigned long long)latency->max);
    result_write(o->json, json_pack("{s:I, s:f, s:f, s:f, s:o, s:I, s:I, s:s, s:b, s:I}", "writes",
                                    (json_int_t)writes, "seconds", seconds, "writes_per_second",
                                    rate, "bytes_per_second", rate * (double)o->size, "latency_us",
                                    result_latency(latency), "size", (json_int_t)o->size, "depth",
                                    (json_int_t)o->depth, "mode",
                                    o->mode == DISK_DSYNC ? "dsync" : "fdatasync", "direct",
                                    (int)o->direct, "cpu_us_self", (json_int_t)cpu_us));
    free(latency);
}

int disk_main(int argc, char **argv)
{
    struct disk_options o;
    if (!disk_options(argc, argv, &o))
        return EXIT_OK;
    struct disk_shared shared = { .options = &o, .fd = disk_open(&o) };
    if (shared.fd < 0) {
        fprintf(stderr, "ringpost-bench disk: %s: %s\n", o.file, strerror(-shared.fd));
        return EXIT_NOTHING;
    }
    int error = 0;
    struct disk_writer *writers = calloc(o.depth, sizeof(*writers));
    if (writers == NULL)
        error = -ENOMEM;
    uint64_t cpu_us = result_cpu_us();
    uint64_t begun_ns = result_now_ns();
    for (unsigned i = 0; error == 0 && i < o.depth; i++) {
        writers[i].shared = &shared;
        error = -pthread_create(&writers[i].thread, NULL, disk_run, &writers[i]);
        writers[i].started = error == 0;
    }
    if (error == 0)
        disk_watch(writers, &o, begun_ns);
    __atomic_store_n(&shared.stop, true, __ATOMIC_RELAXED);
    for (unsigned i = 0; writers != NULL && i < o.depth; i++) {
        if (writers[i].started)
            pthread_join(writers[i].thread, NULL);
        if (error == 0)
            error = writers[i].error;
    }
    if (error == 0)
        disk_report(writers, &o, (double)(result_now_ns() - begun_ns) / SECOND_NS,
                    result_cpu_us() - cpu_us);
    else
        fprintf(stderr, "ringpost-bench disk: %s: %s\n", o.file, strerror(-error));
    free(writers);
    close(shared.fd);
    if (!o.keep)
        unlink(o.file);
    return error == 0 ? EXIT_OK : EXIT_NOTHING;
}
