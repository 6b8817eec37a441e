/*
 * test_bounce_limits.c - no minute has more reports than it may, whoever they are for
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "core/random.h"
#include "queue/bounce_limits.h"

static struct bounce_limits limits;

static enum bounce_limit take(const struct bounce_rates *rates, const char *sender, bool failure,
                              uint64_t minute)
{
    return bounce_limits_take(&limits, rates, slice_of_string(sender), failure, minute);
}

Test(bounce_limits, without_limits_all_may)
{
    const struct bounce_rates rates = { 0 };
    bounce_limits_init(&limits, 1);
    for (unsigned i = 0; i < 10'000; i++)
        cr_assert_eq(take(&rates, "a@x.test", i % 2 == 0, 0), BOUNCE_MAY);
}

Test(bounce_limits, each_limit_holds_for_its_minute)
{
    const struct bounce_rates rates = { .all = 100, .sender = 5, .domain = 8 };
    bounce_limits_init(&limits, 2);
    for (uint64_t minute = 0; minute < 3; minute++) {
        for (unsigned i = 0; i < 5; i++)
            cr_assert_eq(take(&rates, "a@x.test", true, minute), BOUNCE_MAY);
        cr_assert_eq(take(&rates, "a@x.test", true, minute), BOUNCE_OVER_SENDER);
        cr_assert_eq(take(&rates, "A@X.Test", true, minute), BOUNCE_OVER_SENDER, "without case");
        for (unsigned i = 0; i < 3; i++)
            cr_assert_eq(take(&rates, "b@x.test", true, minute), BOUNCE_MAY);
        cr_assert_eq(take(&rates, "b@x.test", true, minute), BOUNCE_OVER_DOMAIN);
        cr_assert_eq(take(&rates, "b@x.test.test", true, minute), BOUNCE_MAY);
        unsigned more = 0;
        for (unsigned i = 0; i < 1'000; i++) {
            char sender[64];
            snprintf(sender, sizeof(sender), "a@d%u.test", i);
            more += take(&rates, sender, true, minute) == BOUNCE_MAY;
        }
        cr_assert_eq(more, 100 - 9);
        cr_assert_eq(take(&rates, "new@new.test", true, minute), BOUNCE_OVER_ALL);
        cr_assert(bounce_limits_full(&limits, &rates, true, minute));
        cr_assert_not(bounce_limits_full(&limits, &rates, true, minute + 1));
    }
}

Test(bounce_limits, what_need_not_be_has_half)
{
    const struct bounce_rates rates = { .all = 10, .sender = 5 };
    bounce_limits_init(&limits, 3);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(take(&rates, "a@x.test", false, 7), BOUNCE_MAY);
    cr_assert_eq(take(&rates, "a@x.test", false, 7), BOUNCE_OVER_SENDER);
    cr_assert_eq(take(&rates, "a@x.test", true, 7), BOUNCE_MAY);
    cr_assert_eq(take(&rates, "b@x.test", false, 7), BOUNCE_MAY);
    cr_assert_eq(take(&rates, "b@x.test", false, 7), BOUNCE_OVER_ALL);
    cr_assert(bounce_limits_full(&limits, &rates, false, 7));
    cr_assert_not(bounce_limits_full(&limits, &rates, true, 7));
    /* One a minute is one, of whatever kind. */
    const struct bounce_rates one = { .all = 1, .sender = 1 };
    bounce_limits_init(&limits, 3);
    cr_assert_eq(take(&one, "a@x.test", false, 7), BOUNCE_MAY);
    cr_assert_eq(take(&one, "b@x.test", true, 7), BOUNCE_OVER_ALL);
}

/* However many senders there are: the table is of one size, and the sum is what may be. */
Test(bounce_limits, a_flood_of_senders_is_held_by_the_sum)
{
    const struct bounce_rates rates = { .all = 600, .sender = 2, .domain = 50 };
    struct random random;
    random_seed(&random, 9);
    bounce_limits_init(&limits, random_next(&random));
    for (uint64_t minute = 100; minute < 110; minute++) {
        unsigned may = 0;
        for (unsigned i = 0; i < 20'000; i++) {
            char sender[64];
            snprintf(sender, sizeof(sender), "s%llu@d%llu.test",
                     (unsigned long long)random_below(&random, 100'000),
                     (unsigned long long)random_below(&random, 1'000));
            may += take(&rates, sender, true, minute) == BOUNCE_MAY;
        }
        cr_assert_eq(may, 600);
    }
}
