/*
 * test_clock_kept.c - what a start makes of the clock, and the file with what was known of it
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mta/clock_kept.h"

static const int64_t s = 1'000'000;
static const int64_t day = 86'400 * INT64_C(1'000'000);
static const int64_t decade = 3'653 * 86'400 * INT64_C(1'000'000);
static const int64_t then = 1'893'456'000 * INT64_C(1'000'000);

Test(clock_kept, mail_gets_older_by_what_the_server_was_away)
{
    const struct clock_kept kept = { .wall_us = then, .steady_us = then - 5 * s };
    const struct {
        int64_t by;
        enum clock_verdict verdict;
        int64_t passed;
    } rows[] = {
        { 0, CLOCK_FITS, 0 },
        { 3 * s, CLOCK_FITS, 3 * s },
        { 30 * day, CLOCK_FITS, 30 * day },
        { 30 * day + 1, CLOCK_IS_AHEAD, 0 },
        { decade, CLOCK_IS_AHEAD, 0 },
        { -2 * s, CLOCK_FITS, 0 },
        { -60 * s, CLOCK_FITS, 0 },
        { -60 * s - 1, CLOCK_IS_BEHIND, 0 },
        { -decade, CLOCK_IS_BEHIND, 0 },
        { -then, CLOCK_IS_BEHIND, 0 }, /* a machine without a battery */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        int64_t steady_us;
        cr_expect_eq(clock_resume(&kept, then + rows[i].by, &steady_us), rows[i].verdict, "%zu", i);
        cr_expect_eq(steady_us, kept.steady_us + rows[i].passed, "%zu", i);
    }
}

/* Wrong, wrong again, and right: the ages are what they were, and the sum of it all is nothing. */
Test(clock_kept, a_clock_that_was_wrong_and_is_put_right_leaves_nothing_behind)
{
    struct clock_kept kept = { .wall_us = then, .steady_us = then };
    const int64_t walls[] = { then + decade, then + decade + 10 * s, then + 20 * s };
    const int64_t steady[] = { then, then + 10 * s, then + 10 * s };
    for (size_t i = 0; i < 3; i++) {
        int64_t steady_us;
        (void)clock_resume(&kept, walls[i], &steady_us);
        cr_assert_eq(steady_us, steady[i], "%zu", i);
        kept = (struct clock_kept) { walls[i], steady_us };
    }
}

Test(clock_kept, the_file_is_read_as_it_was_written_or_not_at_all)
{
    char directory[] = "/tmp/ringpost-clock.XXXXXX";
    char path[64];
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/clock.json", directory);
    struct clock_kept kept = { 1, 2 };
    cr_assert_eq(clock_kept_read(path, &kept), -ENOENT);
    const struct clock_kept written = { then, then - decade };
    cr_assert_eq(clock_kept_write(path, &written), 0);
    cr_assert_eq(clock_kept_read(path, &kept), 0);
    cr_assert_eq(kept.wall_us, then);
    cr_assert_eq(kept.steady_us, then - decade);
    const char *const bad[] = { "",
                                "[]",
                                "{\"wall_us\": 5}",
                                "{\"wall_us\": 5, \"steady_us\": \"6\"}",
                                "{\"wall_us\": -5, \"steady_us\": 6}",
                                "{\"wall_us\": 5, \"steady_us\": 9223372036854775807}" };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        FILE *f = fopen(path, "w");
        fputs(bad[i], f);
        fclose(f);
        cr_assert_eq(clock_kept_read(path, &kept), -EBADMSG, "%zu", i);
        cr_assert_eq(kept.wall_us, then);
    }
    unlink(path);
    rmdir(directory);
}
