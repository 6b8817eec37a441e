/*
 * test_settle.c - an operator's hand in the queue: what is held stays held, on disk
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
