/*
 * test_unit_time.c - when mail is too old, whatever clocks say and however long the server was away
 */
#include "tests/queue/queue_world.h"

/* ---- expiry ---- */

Test(unit_time, expiry_finds_units_that_are_ready_or_deferred)
{
    struct queue_world *w = queue_world_new(18);
    uint64_t ready = queue_mail(w, "a@ready.test");
    uint64_t deferred = queue_mail(w, "a@deferred.test");
    w->queue.classes.slots[0].retry_max_ms = w->queue.classes.slots[0].retry_initial_ms =
        30U * DAY_MS;
    cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:deferred.test"), "l"), 0);
    queue_world_run(w, 5ULL * DAY_MS - 60'000);
    cr_assert_eq(w->expired_count, 0);
    queue_world_run(w, 120'000);
    cr_assert_eq(w->expired_count, 2);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t id = w->expired[i]->message->stored.id;
        cr_assert(id == ready || id == deferred);
        cr_assert_eq(queue_settle_as(w, w->expired[i], "e"), 0);
    }
    cr_assert_eq(w->queue.metrics.recipients_expired, 2);
    cr_assert_eq(w->queue.metrics.messages, 0);
    queue_world_free(w);
}

Test(unit_time, an_active_unit_is_left_alone_and_expires_when_it_comes_back)
{
    struct queue_world *w = queue_world_new(19);
    queue_mail(w, "a@x.test");
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    queue_world_run(w, 6ULL * DAY_MS);
    cr_assert_eq(w->expired_count, 0);
    cr_assert(unit_expired(unit));
    queue_put_back(&w->queue, unit);
    queue_world_run(w, 10);
    cr_assert_eq(w->expired_count, 1);
    queue_world_free(w);
}

/* Whoever could not settle an expired unit (no bounce can be made just now) asks for a deferral: it
 * has a back-off like any other, or the disk would see nothing but this unit. */
Test(unit_time, an_expired_unit_that_is_deferred_waits_like_any_other)
{
    struct queue_world *w = queue_world_new(20);
    queue_mail(w, "a@x.test");
    queue_world_run(w, 5ULL * DAY_MS + 60'000);
    cr_assert_eq(w->expired_count, 1);
    cr_assert_eq(queue_settle_as(w, w->expired[0], "l"), 0);
    queue_world_run(w, 20'000);
    cr_assert_eq(w->expired_count, 1);
    queue_world_run(w, 120'000);
    cr_assert_eq(w->expired_count, 2);
    queue_delay(&w->queue, w->expired[1]);
    queue_world_run(w, 20'000);
    cr_assert_eq(w->expired_count, 2);
    queue_world_run(w, 300'000);
    cr_assert_eq(w->expired_count, 3);
    queue_world_free(w);
}

Test(unit_time, clock_jumps_change_no_age)
{
    static const int64_t jumps_days[] = { 3'653, -3'653, -3'653, 3'653, 0 };
    struct queue_world *w = queue_world_new(21);
    const struct queue_scan_metrics *scan = &w->queue.scan.metrics;
    scan_start(&w->queue);
    queue_mail(w, "a@ready.test");
    queue_mail(w, "a@deferred.test");
    for (unsigned i = 0; i < ARRAY_COUNT(jumps_days); i++) {
        cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:deferred.test"), "l"), 0);
        sim_wall_jump(w->sim, jumps_days[i] * (int64_t)DAY_MS * 1'000);
        queue_world_run(w, w->options.retry_max_ms * 3 / 2);
        cr_assert_eq(queue_there(w, "mx:deferred.test")->ready_count, 1, "due as ever");
        cr_assert_eq(w->expired_count, 0);
        cr_assert_eq(scan->overdue, 0);
        cr_assert_lt(scan->oldest_ms[UNIT_READY], DAY_MS);
    }
    cr_assert_eq(w->shard.clock.steps, ARRAY_COUNT(jumps_days) - 1);
    /* And what comes while the clock is wrong is as old as it is, too. */
    sim_wall_jump(w->sim, 3'653LL * (int64_t)DAY_MS * 1'000);
    queue_mail(w, "a@late.test");
    sim_wall_jump(w->sim, -3'653LL * (int64_t)DAY_MS * 1'000);
    queue_world_run(w, 5ULL * DAY_MS - 60'000);
    cr_assert_eq(w->expired_count, 2);
    queue_world_run(w, 120'000);
    cr_assert_eq(w->expired_count, 3);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(queue_settle_as(w, w->expired[i], "e"), 0);
    scan_stop(&w->queue);
    queue_agrees(w);
    queue_world_free(w);
}

/* ---- a new start ---- */

/* Ready, deferred and held, all of it older than it may get. */
static struct queue_world *world_of_old_mail(uint64_t seed)
{
    struct queue_world *w = queue_world_new(seed);
    queue_mail(w, "a@ready.test");
    queue_mail(w, "a@deferred.test");
    queue_mail(w, "a@held.test");
    cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:deferred.test"), "l"), 0);
    cr_assert_eq(queue_mark(&w->queue, queue_pull_from(w, "mx:held.test"), OUTCOME_HELD,
                            SLICE("wait"), world_on_settled, w),
                 0);
    queue_world_run(w, 1'000);
    queue_world_crash(w, SIM_KILL);
    queue_world_run(w, 7ULL * DAY_MS);
    cr_assert_eq(queue_world_open(w), 0);
    return w;
}

Test(unit_time, mail_that_expired_while_we_were_down_is_tried_once)
{
    struct queue_world *w = world_of_old_mail(28);
    queue_world_run(w, 10);
    cr_assert_eq(w->expired_count, 1, "what nobody would try");
    cr_assert_eq(queue_settle_as(w, w->expired[0], "e"), 0);
    struct unit *ready = queue_pull_from(w, "mx:ready.test");
    struct unit *deferred = queue_pull_from(w, "mx:deferred.test");
    cr_assert_not(unit_expired(ready));
    cr_assert_not(unit_expired(deferred));
    cr_assert_not(unit_is_late(ready), "a delay is not told when time is up");
    cr_assert(unit_is_over(ready), "but it is the last time");
    cr_assert_eq(queue_settle_as(w, ready, "d"), 0);
    cr_assert_eq(queue_settle_as(w, deferred, "e"), 0);
    queue_world_free(w);
}

Test(unit_time, mail_that_is_not_tried_after_a_start_expires_all_the_same)
{
    struct queue_world *w = world_of_old_mail(30);
    const uint64_t longest_ms = w->options.retry_max_ms * 6ULL / 5;
    queue_world_run(w, longest_ms - 60'000);
    cr_assert_eq(w->expired_count, 1);
    queue_world_run(w, 120'000);
    cr_assert_eq(w->expired_count, 3);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(queue_settle_as(w, w->expired[i], "e"), 0);
    queue_world_free(w);
}

Test(unit_time, mail_whose_time_ends_before_it_is_due_is_tried_at_its_end)
{
    struct queue_world *w = queue_world_new(31);
    w->queue.classes.slots[0].retry_initial_ms = w->options.retry_initial_ms = 3'600'000;
    queue_mail(w, "a@x.test");
    queue_world_run(w, w->options.age_max_ms - 900'000);
    cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:x.test"), "l"), 0);
    queue_world_crash(w, SIM_KILL);
    cr_assert_eq(queue_world_open(w), 0);
    queue_world_run(w, 600'000);
    cr_assert_eq(w->queue.metrics.units_deferred, 1);
    queue_world_run(w, 600'000);
    cr_assert_eq(w->expired_count, 0);
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    cr_assert(unit_is_over(unit));
    cr_assert_eq(queue_settle_as(w, unit, "e"), 0);
    queue_world_free(w);
}
