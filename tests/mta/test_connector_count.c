/*
 * test_connector_count.c - so many a period, and rows that nobody has touched
 */
#include <criterion/criterion.h>

#include "mta/connector_count.h"

enum { MINUTE = CONNECTOR_MINUTE_US };

Test(connector_count, so_many_may_come_at_once)
{
    uint64_t full = 0;
    const uint64_t now = 1'000'000'000;
    for (unsigned i = 0; i < 6; i++)
        cr_assert(connector_take_one(&full, now, 6, MINUTE), "%u", i);
    cr_assert_not(connector_take_one(&full, now, 6, MINUTE));
    cr_assert_not(connector_take_one(&full, now + MINUTE / 6 - 1, 6, MINUTE));
    cr_assert(connector_take_one(&full, now + MINUTE / 6, 6, MINUTE));
    cr_assert_not(connector_take_one(&full, now + MINUTE / 6, 6, MINUTE));
}

Test(connector_count, what_is_saved_is_no_more_than_a_period)
{
    uint64_t full = 0;
    uint64_t now = 1'000'000'000;
    cr_assert(connector_take_one(&full, now, 2, MINUTE));
    now += 100ULL * MINUTE;
    cr_assert(connector_take_one(&full, now, 2, MINUTE));
    cr_assert(connector_take_one(&full, now, 2, MINUTE));
    cr_assert_not(connector_take_one(&full, now, 2, MINUTE));
}

Test(connector_count, a_limit_beyond_the_clock_lets_all_pass)
{
    uint64_t full = 0;
    for (unsigned i = 0; i < 100; i++)
        cr_assert(connector_take_one(&full, 5, 1'000'000'000, MINUTE));
}

Test(connector_count, rows_and_marks_are_zero_at_first)
{
    struct connector_counts counts = { .in = NULL };
    cr_assert_eq(connector_counts_init(&counts, 1), 0);
    cr_assert_not(connector_is_blocked(&counts, CONNECTOR_IN, 7));
    cr_assert_not(connector_is_blocked(NULL, CONNECTOR_OUT, 7));
    counts.now[CONNECTOR_IN] = connector_now_new();
    cr_assert_not_null(counts.now[CONNECTOR_IN]);
    cr_assert_not(connector_is_blocked(&counts, CONNECTOR_IN, 7));
    counts.now[CONNECTOR_IN][7].blocked = 1;
    cr_assert(connector_is_blocked(&counts, CONNECTOR_IN, 7));
    cr_assert_not(connector_is_blocked(&counts, CONNECTOR_IN, 8));
    connector_count(&counts.in[CONNECTOR_SLOTS_MAX - 1].traffic,
                    &counts.in[CONNECTOR_SLOTS_MAX - 1].by_address, 2);
    cr_assert_eq(counts.in[CONNECTOR_SLOTS_MAX - 1].by_address, 2);
    cr_assert_eq(counts.in[CONNECTOR_SLOTS_MAX - 1].traffic.events, 1);
    connector_now_free(counts.now[CONNECTOR_IN]);
    connector_counts_free(&counts);
}
