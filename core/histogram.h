/*
 * histogram.h - a bounded log-linear histogram: percentiles of times and sizes
 *
 * 16 linear steps in each power of two: a value is known within 6.25 %, from 0 to 2^40, in a fixed
 * 5 KiB. Written by one thread (relaxed stores), merged and read by any.
 */
#ifndef RINGPOST_CORE_HISTOGRAM_H
#define RINGPOST_CORE_HISTOGRAM_H

#include "core/compiler.h"

enum {
    HISTOGRAM_STEP_BITS = 4,
    HISTOGRAM_VALUE_BITS = 40,
    HISTOGRAM_BUCKETS = (HISTOGRAM_VALUE_BITS - HISTOGRAM_STEP_BITS + 1) << HISTOGRAM_STEP_BITS
};

struct histogram {
    uint64_t count;
    uint64_t sum;
    uint64_t max;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *histogram, uint64_t value); /* cut to 2^40 - 1 */
void histogram_merge(struct histogram *to, const struct histogram *from);
/* The upper edge of the bucket that holds the share (0 to 1) of all values; 0 when empty. */
uint64_t histogram_quantile(const struct histogram *histogram, double share);
/* How many values are <= limit, to within a bucket. */
uint64_t histogram_at_most(const struct histogram *histogram, uint64_t limit);

#endif
