/*
 * histogram.c - values in buckets whose width is a sixteenth of their power of two
 *
 * Bucket 0 to 15 hold one value each; from there on, a value's highest bit chooses sixteen buckets
 * and the four bits behind it one of these. Readers count the buckets, not the total: the two are
 * not written at once.
 */
#include "core/histogram.h"

#include "core/check.h"

enum { STEPS = 1 << HISTOGRAM_STEP_BITS };
static const uint64_t value_max = (UINT64_C(1) << HISTOGRAM_VALUE_BITS) - 1;

static uint64_t load(const uint64_t *from)
{
    return __atomic_load_n(from, __ATOMIC_RELAXED);
}

static void store(uint64_t *to, uint64_t value)
{
    __atomic_store_n(to, value, __ATOMIC_RELAXED);
}

static unsigned bucket_of(uint64_t value)
{
    if (value < STEPS)
        return (unsigned)value;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - HISTOGRAM_STEP_BITS;
    return ((shift + 1) << HISTOGRAM_STEP_BITS) + ((unsigned)(value >> shift) % STEPS);
}

/* The largest value that falls into the bucket. */
static uint64_t bucket_upper(unsigned bucket)
{
    if (bucket < STEPS)
        return bucket;
    unsigned shift = (bucket >> HISTOGRAM_STEP_BITS) - 1;
    return ((uint64_t)(STEPS + bucket % STEPS + 1) << shift) - 1;
}

void histogram_add(struct histogram *histogram, uint64_t value)
{
    value = MIN(value, value_max);
    unsigned bucket = bucket_of(value);
    CHECK(bucket < HISTOGRAM_BUCKETS);
    store(&histogram->count, load(&histogram->count) + 1);
    store(&histogram->sum, load(&histogram->sum) + value);
    if (value > load(&histogram->max))
        store(&histogram->max, value);
    store(&histogram->buckets[bucket], load(&histogram->buckets[bucket]) + 1);
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
    store(&to->count, load(&to->count) + load(&from->count));
    store(&to->sum, load(&to->sum) + load(&from->sum));
    store(&to->max, MAX(load(&to->max), load(&from->max)));
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        store(&to->buckets[i], load(&to->buckets[i]) + load(&from->buckets[i]));
}

uint64_t histogram_quantile(const struct histogram *histogram, double share)
{
    CHECK(share >= 0 && share <= 1);
    uint64_t total = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        total += load(&histogram->buckets[i]);
    if (total == 0)
        return 0;
    double exact = share * (double)total;
    uint64_t rank = (uint64_t)exact;
    if ((double)rank < exact || rank == 0)
        rank++;
    uint64_t seen = 0;
    unsigned last = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        uint64_t here = load(&histogram->buckets[i]);
        if (here == 0)
            continue;
        seen += here;
        last = i;
        if (seen >= rank)
            break;
    }
    return bucket_upper(last);
}

uint64_t histogram_at_most(const struct histogram *histogram, uint64_t limit)
{
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS && bucket_upper(i) <= limit; i++)
        seen += load(&histogram->buckets[i]);
    return seen;
}
