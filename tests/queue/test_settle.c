/*
 * test_settle.c - what is on record of a unit: held by an operator, told of as late, tried once
 */
#include "tests/queue/queue_world.h"

static bool is_even(void *argument, uint32_t recipient)
{
    (void)argument;
    return recipient % 2 == 0;
}

static bool is_none(void *argument, uint32_t recipient)
{
    (void)argument;
    (void)recipient;
    return false;
}

static int mark(struct queue_world *w, struct unit *unit, enum outcome_kind kind)
{
    unsigned settled = w->settled;
    cr_assert(queue_settles(&w->queue, unit->count));
    cr_assert_eq(queue_mark(&w->queue, unit, kind, SLICE("held by hand"), world_on_settled, w), 0);
    cr_assert_eq(unit->state, UNIT_SETTLING);
    return queue_wait_settled(w, settled + 1);
}

static struct unit *unit_in(struct queue_world *w, uint64_t id, enum unit_state state)
{
    for (struct unit *unit = queue_message(&w->queue, id)->units; unit != NULL;
         unit = unit->sibling)
        if (unit->state == state)
            return unit;
    return NULL;
}

Test(settle, what_is_held_stays_so_over_crashes_until_it_is_released)
{
    struct queue_world *w = queue_world_new(70);
    uint64_t id = queue_mail(w, "a@x.test b@x.test c@x.test d@x.test e@x.test");
    struct unit *unit = unit_in(w, id, UNIT_READY);
    cr_assert_null(queue_take_part(&w->queue, unit, is_none, NULL));
    struct unit *part = queue_take_part(&w->queue, unit, is_even, NULL);
    cr_assert_neq(part, unit);
    cr_assert_eq(part->count, 3);
    queue_agrees(w);
    cr_assert_eq(mark(w, part, OUTCOME_HELD), 0);
    cr_assert_eq(part->state, UNIT_HELD);
    cr_assert_eq(w->queue.metrics.recipients_held, 3);
    cr_assert_eq(w->queue.metrics.deferrals, 0);
    queue_agrees(w);
    for (unsigned i = 0; i < 2; i++) {
        queue_world_crash(w, i == 0 ? SIM_KILL : SIM_POWER);
        cr_assert_eq(queue_world_open(w), 0);
        queue_agrees(w);
        cr_assert_eq(unit_in(w, id, UNIT_HELD)->count, 3);
        cr_assert_eq(unit_in(w, id, UNIT_READY)->count, 2);
    }
    queue_world_run(w, DAY_MS);
    cr_assert_eq(unit_in(w, id, UNIT_HELD)->count, 3, "no timer lets it go");
    unit = unit_in(w, id, UNIT_HELD);
    cr_assert_eq(queue_take_part(&w->queue, unit, is_even, NULL), unit, "they are all it has");
    cr_assert_eq(mark(w, unit, OUTCOME_RELEASED), 0);
    queue_world_run(w, 1);
    cr_assert_eq(unit->state, UNIT_READY);
    queue_world_crash(w, SIM_KILL);
    cr_assert_eq(queue_world_open(w), 0);
    cr_assert_null(unit_in(w, id, UNIT_HELD));
    cr_assert_eq(unit_in(w, id, UNIT_READY)->count, 5, "one unit again");
    cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:x.test"), "ddddd"), 0);
    queue_world_free(w);
}

Test(settle, held_mail_expires)
{
    struct queue_world *w = queue_world_new(71);
    uint64_t id = queue_mail(w, "a@x.test");
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    cr_assert_eq(mark(w, unit, OUTCOME_HELD), 0);
    queue_world_run(w, 5 * DAY_MS + 1'000);
    cr_assert_eq(w->expired_count, 1);
    cr_assert_eq(queue_settle_as(w, w->expired[0], "e"), 0);
    cr_assert_null(queue_message(&w->queue, id));
    queue_world_free(w);
}

Test(settle, nothing_is_tried_while_an_operator_waits_for_the_attempt_to_settle)
{
    struct queue_world *w = queue_world_new(72);
    uint64_t id = queue_mail(w, "a@x.test b@x.test");
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    queue_message(&w->queue, id)->ordered = true;
    queue_put_back(&w->queue, unit);
    cr_assert_eq(unit->state, UNIT_DEFERRED);
    queue_world_run(w, 1'100);
    cr_assert_eq(unit->state, UNIT_READY, "but only for a moment");
    cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:x.test"), "d "), 0);
    cr_assert_eq(unit->state, UNIT_DEFERRED);
    queue_message(&w->queue, id)->ordered = false;
    queue_world_run(w, 1'100);
    cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:x.test"), "d"), 0);
    queue_world_free(w);
}

/* ---- mail that is late ---- */

enum { HOUR_MS = 3'600'000, MINUTE_MS = 60'000 };

static struct unit *late[64];
static unsigned late_count;

static void world_late(void *owner, struct unit *unit)
{
    struct queue_world *w = owner;
    cr_assert(unit_is_late(unit));
    cr_assert_eq(unit->state, UNIT_READY);
    cr_assert_lt(late_count, ARRAY_COUNT(late));
    queue_take(&w->queue, unit);
    late[late_count++] = unit;
}

static void world_late_again(void *owner, struct unit *unit)
{
    late_count++;
    queue_late_again(&((struct queue_world *)owner)->queue, unit);
}

static struct queue_world *late_world(uint64_t seed)
{
    struct queue_world *w = queue_world_make(seed);
    w->options.warn_after_ms = 4ULL * HOUR_MS;
    w->options.late = world_late;
    late_count = 0;
    cr_assert_eq(queue_world_open(w), 0);
    return w;
}

/* As one that tells of all of the unit's recipients. */
static void settle_late(struct queue_world *w, struct unit *unit)
{
    struct outcome outcomes[8];
    uint32_t place = unit->first, recipient, count = 0;
    while (unit_next(unit, &place, &recipient))
        outcomes[count++] = (struct outcome) { .recipient = recipient,
                                               .kind = OUTCOME_DEFERRED,
                                               .flags = OUTCOME_DELAY_TOLD,
                                               .text = SLICE("nobody answers") };
    unsigned settled = w->settled;
    cr_assert_eq(queue_settle_late(&w->queue, unit, outcomes, count, world_on_settled, w), 0);
    cr_assert_eq(queue_wait_settled(w, settled + 1), 0);
}

Test(settle, who_waits_without_attempts_is_told_of_once_and_stays_ready)
{
    struct queue_world *w = late_world(1);
    queue_mail(w, "a@x.test b@x.test");
    queue_world_run(w, 4 * HOUR_MS - MINUTE_MS);
    cr_assert_eq(late_count, 0);
    queue_world_run(w, 2 * MINUTE_MS);
    cr_assert_eq(late_count, 1);
    struct unit *unit = late[0];
    uint64_t deferrals = w->queue.metrics.deferrals;
    settle_late(w, unit);
    cr_assert_eq(unit->state, UNIT_READY);
    cr_assert_eq(unit->attempts, 0, "there was none");
    cr_assert_eq(w->queue.metrics.deferrals, deferrals);
    cr_assert_eq(w->wanted_last, unit->destination, "it may have been wanted meanwhile");
    queue_agrees(w);
    queue_world_run(w, 4ULL * DAY_MS);
    cr_assert_eq(late_count, 1);
    cr_assert_eq(w->expired_count, 0);
    queue_world_run(w, 1ULL * DAY_MS);
    cr_assert_eq(w->expired_count, 1, "its life is not longer for that");
    queue_world_free(w);
}

/* The attempt at that time can tell what was said, so there is one at that time. */
Test(settle, who_is_deferred_is_tried_when_it_is_time)
{
    struct queue_world *w = late_world(2);
    struct mail_class *class = &w->queue.classes.slots[0];
    class->retry_initial_ms = class->retry_max_ms = 3 * HOUR_MS;
    queue_mail(w, "a@x.test");
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    cr_assert_eq(queue_settle_as(w, unit, "l"), 0);
    queue_world_run(w, 3 * HOUR_MS + 50 * MINUTE_MS);
    unit = queue_pull_from(w, "mx:x.test");
    cr_assert_not(unit_is_late(unit));
    cr_assert_eq(queue_settle_as(w, unit, "l"), 0);
    queue_world_run(w, 10 * MINUTE_MS + 30'000);
    cr_assert_eq(queue_there(w, "mx:x.test")->ready_count, 1);
    cr_assert_eq(late_count, 0, "an attempt comes first");
    unit = queue_pull_from(w, "mx:x.test");
    cr_assert(unit_is_late(unit));
    queue_warned(unit);
    cr_assert_not(unit_is_late(unit));
    cr_assert_eq(queue_settle_as(w, unit, "l"), 0);
    queue_world_run(w, 2 * HOUR_MS);
    cr_assert_eq(unit->state, UNIT_DEFERRED, "and then by the curve again");
    queue_world_free(w);
}

Test(settle, without_an_attempt_patience_ends)
{
    struct queue_world *w = late_world(3);
    queue_mail(w, "a@x.test");
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    queue_world_run(w, 5 * HOUR_MS);
    cr_assert(unit_is_late(unit));
    queue_put_back(&w->queue, unit);
    queue_world_run(w, 30'000);
    cr_assert_eq(late_count, 0);
    queue_world_run(w, MINUTE_MS);
    cr_assert_eq(late_count, 1);
    queue_world_free(w);
}

Test(settle, the_null_sender_and_what_is_held_are_never_late)
{
    struct queue_world *w = late_world(4);
    uint64_t id = queue_mail(w, "a@x.test");
    queue_message(&w->queue, id)->null_sender = true;
    queue_mail(w, "a@y.test");
    queue_hold(&w->queue, queue_pull_from(w, "mx:y.test"));
    queue_world_run(w, 3ULL * DAY_MS);
    cr_assert_eq(late_count, 0);
    queue_world_free(w);
}

/* A million that may not be told of now must not cost a million timers a minute. */
Test(settle, who_cannot_be_told_of_is_asked_about_less_and_less)
{
    struct queue_world *w = queue_world_make(5);
    w->options.warn_after_ms = 4ULL * HOUR_MS;
    w->options.late = world_late_again;
    late_count = 0;
    cr_assert_eq(queue_world_open(w), 0);
    queue_mail(w, "a@x.test");
    queue_world_run(w, 4 * HOUR_MS + 10 * MINUTE_MS);
    cr_assert_geq(late_count, 3);
    queue_world_run(w, 4ULL * DAY_MS);
    cr_assert_leq(late_count, 60);
    queue_world_run(w, 1ULL * DAY_MS);
    cr_assert_eq(w->expired_count, 1);
    queue_world_free(w);
}

Test(settle, what_was_told_is_remembered_through_later_attempts)
{
    for (unsigned attempts = 0; attempts < 3; attempts++) {
        struct queue_world *w = late_world(10 + attempts);
        w->queue.classes.slots[0].retry_initial_ms = MINUTE_MS;
        w->options.retry_initial_ms = MINUTE_MS;
        queue_mail(w, "a@x.test b@x.test");
        queue_world_run(w, 4 * HOUR_MS + 2 * MINUTE_MS);
        cr_assert_eq(late_count, 1);
        settle_late(w, late[0]);
        for (unsigned i = 0; i < attempts; i++) {
            cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:x.test"), "ll"), 0);
            queue_world_run(w, HOUR_MS);
        }
        queue_world_crash(w, SIM_POWER);
        cr_assert_eq(queue_world_open(w), 0);
        queue_world_run(w, 3ULL * DAY_MS);
        cr_assert_eq(late_count, 1, "after %u attempts", attempts);
        cr_assert_eq(w->queue.metrics.recipients_recovered, 2);
        queue_world_free(w);
    }
}

/* Some of its recipients were tried and told of, the others not. */
Test(settle, those_that_were_not_tried_are_still_to_be_told)
{
    struct queue_world *w = late_world(20);
    queue_mail(w, "a@x.test b@x.test");
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    queue_world_run(w, 5 * HOUR_MS);
    const struct outcome outcome = { .recipient = 0,
                                     .kind = OUTCOME_DEFERRED,
                                     .flags = OUTCOME_DELAY_TOLD };
    cr_assert_eq(queue_settle(&w->queue, unit, &outcome, 1, true, world_on_settled, w), 0);
    cr_assert_eq(queue_wait_settled(w, 1), 0);
    cr_assert_eq(unit->state, UNIT_READY);
    cr_assert(unit_is_late(unit));
    queue_world_run(w, 2 * MINUTE_MS);
    cr_assert_eq(late_count, 1);
    cr_assert_eq(late[0], unit);
    settle_late(w, unit);
    queue_world_run(w, DAY_MS);
    cr_assert_eq(late_count, 1);
    queue_world_free(w);
}

Test(settle, who_goes_another_way_is_not_told_of_twice)
{
    struct queue_world *w = late_world(21);
    queue_mail(w, "a@x.test b@x.test");
    queue_world_run(w, 4 * HOUR_MS + MINUTE_MS);
    settle_late(w, late[0]);
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    cr_assert_eq(queue_move(&w->queue, unit, 0, "mx:y.test", 9), 0);
    cr_assert_eq(queue_move(&w->queue, unit, 1, "mx:z.test", 9), 1);
    queue_world_run(w, 2ULL * DAY_MS);
    cr_assert_eq(late_count, 1);
    queue_world_free(w);
}

/* ---- a life of one attempt ---- */

static struct queue_world *short_world(uint64_t seed)
{
    struct queue_world *w = queue_world_make(seed);
    w->options.age_max_ms = 0;
    cr_assert_eq(queue_world_open(w), 0);
    return w;
}

Test(settle, a_life_of_nothing_is_one_attempt)
{
    struct queue_world *w = short_world(30);
    queue_mail(w, "a@x.test");
    queue_world_run(w, MINUTE_MS);
    cr_assert_eq(w->expired_count, 0);
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    cr_assert_not(unit_expired(unit));
    cr_assert(unit_is_over(unit), "what the attempt brings is final");
    cr_assert_eq(queue_settle_as(w, unit, "e"), 0);
    queue_world_free(w);
}

Test(settle, a_destination_that_fails_was_the_one_attempt)
{
    struct queue_world *w = short_world(31);
    queue_mail(w, "a@x.test");
    queue_mail(w, "b@x.test");
    queue_world_run(w, 10);
    cr_assert_eq(w->expired_count, 0);
    queue_destination_failed(&w->queue, queue_there(w, "mx:x.test"), SLICE("refused"));
    queue_world_run(w, 10);
    cr_assert_eq(w->expired_count, 2);
    queue_world_free(w);
}

Test(settle, the_one_attempt_is_waited_for_an_hour)
{
    struct queue_world *w = short_world(32);
    queue_mail(w, "a@x.test");
    queue_world_run(w, HOUR_MS - MINUTE_MS);
    cr_assert_eq(w->expired_count, 0);
    queue_world_run(w, 2 * MINUTE_MS);
    cr_assert_eq(w->expired_count, 1);
    queue_world_free(w);
}

/* ---- a disk that takes nothing ---- */

static unsigned left_alone;

static bool leave_alone(void *argument)
{
    (void)argument;
    left_alone++;
    return true;
}

Test(settle, what_cannot_be_recorded_is_not_waited_for_up_to_a_bound)
{
    enum { MORE = 10, MAIL = QUEUE_UNRECORDED_MAX + MORE };
    struct queue_world *w = queue_world_make(60);
    left_alone = 0;
    w->options.unrecorded = leave_alone;
    cr_assert_eq(queue_world_open(w), 0);
    for (unsigned i = 0; i < MAIL; i++)
        queue_mail(w, "a@x.test");
    queue_world_run(w, 2'000);
    const uint64_t failed = spool_metrics(w->spool)->writes_failed;
    sim_fail(w->sim, w->machine, SIM_WRITE, 0, 1'000'000, -EIO);
    for (unsigned i = 0; i < MAIL; i++) {
        queue_begin_settle(w, queue_pull_from(w, "mx:x.test"), i % 2 == 0 ? "d" : "l");
        queue_world_run(w, 7);
    }
    queue_world_run(w, 10'000);
    cr_assert_eq(left_alone, QUEUE_UNRECORDED_MAX, "asked once for each");
    cr_assert_eq(w->queue.metrics.settlements_alone, QUEUE_UNRECORDED_MAX);
    cr_assert_eq(w->settled, 0);
    cr_assert_eq(w->queue.metrics.recipients_delivered, 0);
    const uint64_t writes = spool_metrics(w->spool)->writes_failed - failed;
    queue_world_run(w, 20'000);
    cr_assert_leq(spool_metrics(w->spool)->writes_failed - failed - writes, 2 * 20,
                  "all of them try in one write");
    queue_agrees(w);
    sim_fail(w->sim, w->machine, SIM_WRITE, 0, 0, 0);
    queue_world_run(w, 10'000);
    cr_assert_leq(w->settled, MORE, "those who waited, but for those whose turn it was to leave");
    cr_assert_eq(w->settled + left_alone, MAIL);
    cr_assert_eq(w->result, 0);
    cr_assert_not(queue_is_settling(&w->queue));
    cr_assert_eq(w->queue.metrics.settlements_alone, 0);
    cr_assert_eq(w->queue.metrics.recipients_delivered, MAIL / 2);
    cr_assert_eq(w->queue.metrics.messages, MAIL / 2);
    queue_world_free(w);
}

/* All try again in the same millisecond, which for some comes soon after their first try. */
Test(settle, in_the_first_second_all_of_them_are_waited_for)
{
    for (unsigned ms = 0; ms < 1'000; ms += 100) {
        struct queue_world *w = queue_world_make(62);
        left_alone = 0;
        w->options.unrecorded = leave_alone;
        cr_assert_eq(queue_world_open(w), 0);
        queue_mail(w, "a@x.test");
        queue_world_run(w, 2'000 + ms);
        sim_fail(w->sim, w->machine, SIM_WRITE, 0, 1'000'000, -EIO);
        queue_begin_settle(w, queue_pull_from(w, "mx:x.test"), "d");
        queue_world_run(w, 999);
        cr_assert_eq(left_alone, 0, "%u ms", ms);
        queue_world_run(w, 1'201);
        cr_assert_eq(left_alone, 1, "%u ms", ms);
        sim_fail(w->sim, w->machine, SIM_WRITE, 0, 0, 0);
        queue_world_run(w, 10'000);
        cr_assert_not(queue_is_settling(&w->queue));
        queue_world_free(w);
    }
}

Test(settle, a_drain_gives_up_what_nobody_waits_for_too)
{
    struct queue_world *w = queue_world_make(61);
    w->options.unrecorded = leave_alone;
    cr_assert_eq(queue_world_open(w), 0);
    queue_mail(w, "a@x.test");
    queue_world_run(w, 2'000);
    sim_fail(w->sim, w->machine, SIM_WRITE, 0, 1'000'000, -EIO);
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    queue_begin_settle(w, unit, "d");
    queue_world_run(w, 5'000);
    cr_assert_eq(w->queue.metrics.settlements_alone, 1);
    cr_assert(queue_is_settling(&w->queue));
    queue_drain(&w->queue);
    queue_world_run(w, 5'000);
    cr_assert_not(queue_is_settling(&w->queue));
    cr_assert_eq(w->queue.metrics.settlements_alone, 0);
    cr_assert_eq(unit->state, UNIT_DEFERRED, "delivered again, after the next start");
    sim_fail(w->sim, w->machine, SIM_WRITE, 0, 0, 0);
    queue_world_free(w);
}
