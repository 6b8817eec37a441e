/*
 * result.h - numbers for people and for scripts: percentiles, JSON files, progress, lists of ids
 */
#ifndef RINGPOST_BENCH_RESULT_H
#define RINGPOST_BENCH_RESULT_H

#include <jansson.h>

#include "core/compiler.h"
#include "core/histogram.h"

/* {"p50", "p90", "p99", "p999", "max", "mean", "count"} of a histogram of microseconds. */
json_t *result_latency(const struct histogram *histogram);

/* Of a number that each of count threads keeps for itself, stride bytes from that of the one
 * before.
 */
uint64_t result_sum(const uint64_t *first, size_t stride, unsigned count);

/* Writes root to path (beside it first, then renamed: a reader never sees half of it) and gives
 * root up. "-" is standard output; NULL writes nothing. Errors are told on standard error. */
void result_write(const char *path, json_t *root);

/* A line of progress on standard error, unless quiet. */
void result_progress(bool quiet, const char *format, ...) PRINTF_LIKE(2, 3);

uint64_t result_now_ns(void); /* monotonic */
uint64_t result_cpu_us(void); /* of this process, user and system */

/*
 * Lines of ids, appended to a file. One of these per thread; whole lines are written at once
 * (O_APPEND), so threads and processes may share the file.
 */
enum { RESULT_IDS_BYTES = 65'536, RESULT_ID_MAX = 200 };

struct result_ids {
    int fd; /* -1: not wanted */
    size_t size;
    uint8_t bytes[RESULT_IDS_BYTES];
};

/* path NULL: not wanted. 0 or errno. */
[[nodiscard]] int result_ids_open(struct result_ids *ids, const char *path);
/* id is cut to RESULT_ID_MAX octets. Writes when the buffer is full. */
void result_ids_add(struct result_ids *ids, const void *id, size_t size);
/* What was added is with the kernel after this, or the program ends: a list with holes is worth
 * nothing. */
void result_ids_flush(struct result_ids *ids);
void result_ids_close(struct result_ids *ids);

#endif
