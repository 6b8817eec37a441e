/*
 * test_histogram.c - percentiles of values against the sorted values themselves
 */
#include "core/histogram.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdlib.h>

#include "core/random.h"

static struct histogram h;

Test(histogram, an_empty_one_has_no_percentiles)
{
    cr_assert_eq(histogram_quantile(&h, 0), 0);
    cr_assert_eq(histogram_quantile(&h, 1), 0);
    cr_assert_eq(histogram_at_most(&h, UINT64_MAX), 0);
}

Test(histogram, a_share_above_one_is_a_mistake, .signal = SIGABRT)
{
    (void)histogram_quantile(&h, 1.01);
}

Test(histogram, values_that_are_too_large_are_cut)
{
    histogram_add(&h, UINT64_MAX);
    cr_assert_eq(h.max, (UINT64_C(1) << 40) - 1);
    cr_assert_eq(h.sum, (UINT64_C(1) << 40) - 1);
    cr_assert_eq(histogram_quantile(&h, 0.5), (UINT64_C(1) << 40) - 1);
    cr_assert_eq(h.buckets[HISTOGRAM_BUCKETS - 1], 1);
}

Test(histogram, small_values_are_exact)
{
    for (uint64_t v = 0; v < 32; v++)
        histogram_add(&h, v);
    for (uint64_t v = 0; v < 32; v++) {
        cr_assert_eq(histogram_at_most(&h, v), v + 1);
        cr_assert_eq(histogram_quantile(&h, (double)(v + 1) / 32), v);
    }
    cr_assert_eq(histogram_quantile(&h, 0), 0);
}

Test(histogram, every_value_is_in_the_bucket_of_its_size)
{
    for (unsigned bits = 0; bits < 40; bits++) {
        for (int step = -1; step <= 1; step++) {
            uint64_t value = (UINT64_C(1) << bits) + (uint64_t)step;
            struct histogram one = { 0 };
            histogram_add(&one, value);
            uint64_t upper = histogram_quantile(&one, 1);
            cr_assert(upper >= value && upper <= value + value / 16, "%lu: %lu", value, upper);
            cr_assert_eq(histogram_at_most(&one, upper), 1);
            cr_assert_eq(upper == 0 ? 0 : histogram_at_most(&one, upper - 1), 0);
        }
    }
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

Test(histogram, percentiles_are_within_a_sixteenth)
{
    enum { VALUES = 4999 }; /* no share of it is a whole number */
    static uint64_t values[VALUES];
    static const double shares[] = { 0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.999, 1 };
    struct random random;
    struct histogram parts[2] = { 0 };
    uint64_t sum = 0;
    random_seed(&random, 11);
    for (unsigned i = 0; i < VALUES; i++) {
        values[i] = random_next(&random) >> (24 + random_below(&random, 40));
        sum += values[i];
        histogram_add(&parts[i % 2], values[i]);
    }
    histogram_merge(&h, &parts[0]);
    histogram_merge(&h, &parts[1]);
    qsort(values, VALUES, sizeof(values[0]), by_value);
    cr_assert_eq(h.count, VALUES);
    cr_assert_eq(h.sum, sum);
    cr_assert_eq(h.max, values[VALUES - 1]);
    for (unsigned i = 0; i < ARRAY_COUNT(shares); i++) {
        double exact = shares[i] * VALUES;
        unsigned rank = (unsigned)exact;
        rank += (double)rank < exact || rank == 0;
        uint64_t want = values[rank - 1];
        uint64_t got = histogram_quantile(&h, shares[i]);
        cr_assert(got >= want && got <= want + want / 16, "%f: %lu for %lu", shares[i], got, want);
    }
}
