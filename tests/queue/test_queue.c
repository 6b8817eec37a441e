/*
 * test_queue.c - nothing is lost, nothing is forgotten, nobody is tried too soon
 */
#include <signal.h>

#include "tests/queue/queue_world.h"

/* ---- full ---- */

Test(queue, a_full_queue_is_known_before_mail_is_taken)
{
    struct queue_world *w = queue_world_make(1);
    w->options.messages_max = 100;
    w->options.recipients_max = 5;
    cr_assert_eq(queue_world_open(w), 0);
    for (unsigned i = 0; i < 5; i++)
        cr_assert(queue_reserve(&w->queue));
    cr_assert(!queue_reserve(&w->queue));
    cr_assert_eq(w->queue.metrics.refused_full, 1);
    queue_unreserve(&w->queue, 2);
    cr_assert(queue_reserve(&w->queue));
    queue_unreserve(&w->queue, 4);
    queue_mail(w, "a@x.test b@x.test c@x.test");
    cr_assert(queue_reserve(&w->queue));
    cr_assert(queue_reserve(&w->queue));
    cr_assert(!queue_reserve(&w->queue), "places are taken by mail, too");
    queue_unreserve(&w->queue, 2);
    cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:x.test"), "ddd"), 0);
    for (unsigned i = 0; i < 5; i++)
        cr_assert(queue_reserve(&w->queue));
    queue_unreserve(&w->queue, 5);
    queue_world_free(w);
}

Test(queue, messages_run_out_too)
{
    struct queue_world *w = queue_world_make(2);
    w->options.messages_max = 2;
    cr_assert_eq(queue_world_open(w), 0);
    queue_mail(w, "a@x.test");
    queue_mail(w, "a@x.test");
    cr_assert(!queue_reserve(&w->queue));
    queue_world_free(w);
}

Test(queue, unreserving_what_was_not_reserved_is_our_mistake, .signal = SIGABRT)
{
    struct queue_world *w = queue_world_new(3);
    cr_assert(queue_reserve(&w->queue));
    queue_unreserve(&w->queue, 2);
}

static int move(struct queue_world *w, struct unit *unit, uint32_t recipient, const char *key)
{
    return queue_move(&w->queue, unit, recipient, key, strlen(key));
}

/* The recipient that it has next. */
static uint32_t next_of(const struct unit *unit)
{
    uint32_t place = unit->first, recipient;
    cr_assert(unit_next(unit, &place, &recipient));
    return recipient;
}

Test(queue, more_domains_than_destinations_refuse_mail_and_park_what_is_durable)
{
    struct queue_world *w = queue_world_make(4);
    w->options.destinations_max = 12; /* one of them is for parking */
    cr_assert_eq(queue_world_open(w), 0);
    char address[64];
    for (unsigned i = 0; i < 10; i++) {
        snprintf(address, sizeof(address), "a@d%u.test", i);
        queue_mail(w, address);
    }
    uint64_t id = queue_mail(w, "a@new-1.test b@d3.test c@new-2.test d@new-3.test");
    cr_assert(!queue_reserve(&w->queue));
    cr_assert_eq(queue_message(&w->queue, id)->units_count, 4);
    cr_assert_eq(w->queue.parking->ready_count, 2, "each for itself: they go different ways");
    queue_agrees(w);
    struct unit *unit = queue_pull(&w->queue, w->queue.parking);
    cr_assert_eq(move(w, unit, next_of(unit), "mx:new-2.test"), -ENOSPC);
    queue_delay(&w->queue, unit);
    cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:d0.test"), "d"), 0);
    cr_assert(queue_reserve(&w->queue), "an idle one gives way");
    queue_unreserve(&w->queue, 1);
    unit = queue_pull(&w->queue, w->queue.parking);
    cr_assert_eq(move(w, unit, next_of(unit), "mx:new-3.test"), 1);
    cr_assert(!queue_reserve(&w->queue));
    queue_agrees(w);
    queue_world_free(w);
}

Test(queue, a_connected_destination_does_not_give_way)
{
    struct queue_world *w = queue_world_make(40);
    w->options.destinations_max = 2;
    cr_assert_eq(queue_world_open(w), 0);
    queue_mail(w, "a@x.test");
    cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:x.test"), "d"), 0);
    w->keeps_destinations = true;
    queue_mail(w, "a@y.test");
    cr_assert_eq(w->queue.parking->ready_count, 1);
    w->keeps_destinations = false;
    struct unit *unit = queue_pull(&w->queue, w->queue.parking);
    cr_assert_eq(move(w, unit, next_of(unit), "mx:y.test"), 1);
    queue_agrees(w);
    queue_world_free(w);
}

Test(queue, idle_destinations_give_way_but_not_those_of_the_message_being_added)
{
    struct queue_world *w = queue_world_make(5);
    w->options.destinations_max = 8;
    cr_assert_eq(queue_world_open(w), 0);
    for (unsigned i = 0; i < 20; i++) {
        char addresses[512] = "";
        for (unsigned k = 0; k < 6; k++)
            snprintf(addresses + strlen(addresses), sizeof(addresses) - strlen(addresses),
                     "%sa@d%u-%u.test", k == 0 ? "" : " ", i, k);
        uint64_t id = queue_mail(w, addresses);
        struct message *message = queue_message(&w->queue, id);
        cr_assert_eq(message->units_count, 6);
        for (unsigned k = 0; k < 6; k++) {
            char key[64];
            snprintf(key, sizeof(key), "mx:d%u-%u.test", i, k);
            cr_assert_eq(queue_settle_as(w, queue_pull_from(w, key), "d"), 0);
        }
        cr_assert_null(queue_message(&w->queue, id));
    }
    cr_assert_leq(w->queue.destinations.used, 8);
    queue_world_free(w);
}

/* ---- settlements that fail ---- */

Test(queue, an_outcome_that_cannot_be_recorded_is_recorded_later)
{
    struct queue_world *w = queue_world_new(6);
    queue_world_run(w, 2'000);
    queue_mail(w, "a@x.test b@x.test");
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    sim_fail(w->sim, w->machine, SIM_WRITE, 0, 100, -EIO);
    queue_begin_settle(w, unit, "dd");
    queue_world_run(w, 30'000);
    cr_assert_eq(w->settled, 0, "nobody is told before it is durable");
    cr_assert_geq(w->queue.metrics.settle_failures, 10);
    cr_assert_leq(w->queue.metrics.settle_failures, 31, "one try a second");
    cr_assert_eq(w->queue.metrics.recipients_delivered, 0);
    cr_assert_eq(unit->state, UNIT_SETTLING, "to give it back would be to deliver it again");
    cr_assert_eq(unit->count, 2);
    cr_assert_null(queue_pull(&w->queue, queue_there(w, "mx:x.test")));
    queue_agrees(w);
    sim_fail(w->sim, w->machine, SIM_WRITE, 0, 0, 0);
    cr_assert_eq(queue_wait_settled(w, 1), 0);
    cr_assert_eq(w->queue.metrics.recipients_delivered, 2);
    cr_assert_eq(w->queue.metrics.messages, 0);
    queue_world_free(w);
}

Test(queue, a_drain_gives_up_what_the_disk_does_not_take)
{
    for (unsigned drain_first = 0; drain_first < 2; drain_first++) {
        struct queue_world *w = queue_world_new(6);
        queue_world_run(w, 2'000);
        queue_mail(w, "a@x.test b@x.test");
        struct unit *unit = queue_pull_from(w, "mx:x.test");
        sim_fail(w->sim, w->machine, SIM_WRITE, 0, 100, -EIO);
        if (drain_first == 1)
            queue_drain(&w->queue);
        queue_begin_settle(w, unit, "dd");
        if (drain_first == 0) {
            queue_world_run(w, 10'000);
            queue_drain(&w->queue);
        }
        cr_assert_eq(w->settled, 0);
        queue_world_run(w, 5'000);
        cr_assert_eq(w->settled, 1);
        cr_assert_lt(w->result, 0);
        cr_assert_eq(w->queue.metrics.recipients_delivered, 0, "not delivered as far as we know");
        cr_assert_eq(unit->state, UNIT_DEFERRED);
        cr_assert_eq(unit->count, 2);
        queue_agrees(w);
        queue_world_crash(w, SIM_POWER);
        sim_fail(w->sim, w->machine, SIM_WRITE, 0, 0, 0);
        cr_assert_eq(queue_world_open(w), 0);
        cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:x.test"), "dd"), 0);
        queue_world_free(w);
    }
}

Test(queue, a_drain_records_what_one_failed_write_took)
{
    struct queue_world *w = queue_world_new(6);
    queue_world_run(w, 2'000);
    queue_mail(w, "a@x.test");
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    sim_fail(w->sim, w->machine, SIM_WRITE, 0, 1, -EIO);
    queue_drain(&w->queue);
    cr_assert_eq(queue_settle_as(w, unit, "d"), 0);
    cr_assert_eq(w->queue.metrics.settle_failures, 1);
    cr_assert_eq(w->queue.metrics.messages, 0);
    queue_world_free(w);
}

static void many_recipients(char *text, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        text += sprintf(text, "%srecipient-%u@x.test", i == 0 ? "" : " ", i);
}

Test(queue, outcomes_recorded_before_a_failure_stay_recorded)
{
    struct queue_world *w = queue_world_make(7);
    w->spool_options.block_bytes = 256 * 1'024;
    w->spool_options.segment_bytes = 1'024 * 1'024;
    cr_assert_eq(queue_world_open(w), 0);
    static char addresses[64'000], letters[1'201];
    queue_world_run(w, 2'000);
    many_recipients(addresses, 1'200);
    memset(letters, 'd', 1'200);
    queue_mail(w, addresses);
    queue_world_run(w, 5'000);
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    sim_fail(w->sim, w->machine, SIM_WRITE, 1, 100, -EIO); /* from the second record on */
    queue_drain(&w->queue);
    cr_assert_lt(queue_settle_as(w, unit, letters), 0);
    cr_assert_gt(w->queue.metrics.recipients_delivered, 0);
    cr_assert_gt(unit->count, 0);
    cr_assert_eq(unit->count + w->queue.metrics.recipients_delivered, 1'200);
    cr_assert_eq(unit->state, UNIT_DEFERRED);
    queue_agrees(w);
    /* Those are not tried again, not even after a crash. */
    uint32_t left = unit->count;
    queue_world_crash(w, SIM_POWER);
    sim_fail(w->sim, w->machine, SIM_WRITE, 0, 0, 0);
    cr_assert_eq(queue_world_open(w), 0);
    cr_assert_eq(w->queue.metrics.recipients_queued, left);
    queue_world_free(w);
}

Test(queue, many_outcomes_with_long_texts_fit_small_blocks_in_pieces)
{
    struct queue_world *w = queue_world_make(8);
    w->spool_options.block_bytes = 256 * 1'024;
    w->spool_options.segment_bytes = 1'024 * 1'024;
    cr_assert_eq(queue_world_open(w), 0);
    static char addresses[64'000], text[600];
    static struct outcome outcomes[1'000];
    many_recipients(addresses, 1'000);
    memset(text, 'x', sizeof(text));
    queue_mail(w, addresses);
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    for (uint32_t i = 0; i < 1'000; i++)
        outcomes[i] = (struct outcome) {
            .recipient = i, .kind = OUTCOME_BOUNCED, .code = 550, .text = slice_of(text, 600)
        };
    cr_assert_eq(queue_settle(&w->queue, unit, outcomes, 1'000, false, world_on_settled, w), 0);
    cr_assert_eq(queue_wait_settled(w, 1), 0);
    cr_assert_eq(w->queue.metrics.recipients_bounced, 1'000);
    cr_assert_eq(w->queue.metrics.messages, 0);
    queue_world_free(w);
}

/* ---- adding and pulling ---- */

Test(queue, a_message_is_one_unit_for_each_destination)
{
    struct queue_world *w = queue_world_new(9);
    uint64_t id = queue_mail(w, "a@x.test b@y.test c@x.test d@z.test e@x.test");
    struct message *message = queue_message(&w->queue, id);
    cr_assert_eq(message->units_count, 3);
    cr_assert_eq(w->wanted, 3);
    cr_assert_eq(w->queue.reserved, 0);
    cr_assert_null(queue_pull(&w->queue, queue_there(w, "mx:nowhere.test")));
    struct unit *x = queue_pull_from(w, "mx:x.test");
    cr_assert_eq(x->count, 3);
    cr_assert_eq(x->state, UNIT_ACTIVE);
    uint32_t place = x->first, recipient;
    cr_assert(unit_next(x, &place, &recipient) && recipient == 4);
    cr_assert(unit_next(x, &place, &recipient) && recipient == 2);
    cr_assert(unit_next(x, &place, &recipient) && recipient == 0);
    cr_assert(!unit_next(x, &place, &recipient));
    cr_assert_null(queue_pull(&w->queue, x->destination), "once");
    queue_agrees(w);
    cr_assert_eq(queue_settle_as(w, x, "ddd"), 0);
    cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:y.test"), "b"), 0);
    cr_assert_not_null(queue_message(&w->queue, id));
    cr_assert_eq(spool_metrics(w->spool)->live_messages, 1);
    cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:z.test"), "e"), 0);
    cr_assert_null(queue_message(&w->queue, id));
    cr_assert_eq(spool_metrics(w->spool)->live_messages, 0);
    cr_assert_eq(w->queue.metrics.recipients_delivered, 3);
    cr_assert_eq(w->queue.metrics.recipients_bounced, 1);
    cr_assert_eq(w->queue.metrics.recipients_expired, 1);
    queue_world_free(w);
}

Test(queue, first_come_first_served_and_put_back_is_first)
{
    struct queue_world *w = queue_world_new(10);
    uint64_t first = queue_mail(w, "a@x.test");
    uint64_t second = queue_mail(w, "a@x.test");
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    cr_assert_eq(unit->message->stored.id, first);
    queue_put_back(&w->queue, unit);
    cr_assert_eq(queue_pull_from(w, "mx:x.test"), unit);
    cr_assert_eq(queue_pull_from(w, "mx:x.test")->message->stored.id, second);
    queue_agrees(w);
    queue_world_free(w);
}

Test(queue, messages_are_listed_though_others_come_and_go)
{
    struct queue_world *w = queue_world_new(11);
    for (unsigned i = 0; i < 20; i++)
        queue_mail(w, "a@x.test");
    for (unsigned i = 0; i < 20; i++) {
        struct unit *unit = queue_pull_from(w, "mx:x.test");
        if (i % 3 != 0)
            cr_assert_eq(queue_settle_as(w, unit, "d"), 0);
    }
    uint32_t cursor = 0, listed = 0;
    while (queue_next(&w->queue, &cursor) != NULL)
        listed++;
    cr_assert_eq(listed, 7);
    queue_world_free(w);
}

/* ---- deferral ---- */

Test(queue, the_retry_curve_grows_to_its_maximum_within_the_jitter)
{
    struct queue_world *w = queue_world_new(12);
    w->queue.classes.slots[0].age_max_ms = 500ULL * DAY_MS;
    queue_mail(w, "a@x.test");
    uint64_t least = UINT64_MAX, most = 0;
    for (unsigned attempt = 1; attempt <= 40; attempt++) {
        struct unit *unit = queue_pull_from(w, "mx:x.test");
        uint64_t nominal = MIN(60'000ULL << MIN(attempt - 1, 20U), 3'600'000ULL);
        uint64_t before = w->shard.now_ms;
        cr_assert_eq(queue_settle_as(w, unit, "l"), 0);
        cr_assert_eq(unit->state, UNIT_DEFERRED);
        cr_assert_eq(unit->attempts, attempt);
        uint64_t wait = unit->timer.due_ms - before;
        cr_assert_geq(wait, nominal * 80 / 100 - 1, "attempt %u: %lu", attempt, wait);
        cr_assert_leq(wait, nominal * 120 / 100 + 1'000, "attempt %u: %lu", attempt, wait);
        if (attempt > 8) {
            least = MIN(least, wait);
            most = MAX(most, wait);
        }
        unsigned wanted = w->wanted;
        sim_run(w->sim, unit->timer.due_ms - 1);
        cr_assert_eq(unit->state, UNIT_DEFERRED, "not before its time");
        queue_world_run(w, 10);
        cr_assert_eq(unit->state, UNIT_READY);
        cr_assert_eq(w->wanted, wanted + 1);
    }
    cr_assert_gt(most - least, 360'000, "jitter spreads them");
    queue_world_free(w);
}

Test(queue, who_is_final_leaves_and_who_is_deferred_stays)
{
    struct queue_world *w = queue_world_new(13);
    queue_mail(w, "a@x.test b@x.test c@x.test d@x.test");
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    cr_assert_eq(queue_settle_as(w, unit, "dlbl"), 0);
    cr_assert_eq(unit->count, 2);
    uint32_t place = unit->first, recipient;
    cr_assert(unit_next(unit, &place, &recipient) && recipient == 3);
    cr_assert(unit_next(unit, &place, &recipient) && recipient == 1);
    cr_assert_eq(unit->state, UNIT_DEFERRED);
    cr_assert_eq(w->queue.metrics.deferrals, 2);
    queue_agrees(w);
    queue_world_free(w);
}

/* RFC 9422: of many recipients a host takes some at a time. */
Test(queue, the_untried_go_at_once_and_do_not_drag_the_deferred_along)
{
    struct queue_world *w = queue_world_new(14);
    uint64_t id = queue_mail(w, "a@x.test b@x.test c@x.test d@x.test");
    cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:x.test"), "dl  "), 0);
    queue_agrees(w);
    /* b was deferred: it has its back-off. c and d are next. */
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    uint32_t place = unit->first, recipient;
    cr_assert(unit_next(unit, &place, &recipient) && recipient == 3);
    cr_assert(unit_next(unit, &place, &recipient) && recipient == 2);
    cr_assert(!unit_next(unit, &place, &recipient));
    cr_assert_null(queue_pull(&w->queue, unit->destination));
    cr_assert_eq(queue_settle_as(w, unit, "dd"), 0);
    cr_assert_eq(queue_message(&w->queue, id)->units_count, 1);
    cr_assert_null(queue_pull(&w->queue, queue_there(w, "mx:x.test")));
    queue_world_run(w, 120'000);
    unit = queue_pull_from(w, "mx:x.test");
    place = unit->first;
    cr_assert(unit_next(unit, &place, &recipient) && recipient == 1);
    cr_assert_eq(queue_settle_as(w, unit, "d"), 0);
    cr_assert_eq(w->queue.metrics.messages, 0);
    queue_world_free(w);
}

Test(queue, all_untried_but_one_final_goes_at_once_and_first)
{
    struct queue_world *w = queue_world_new(15);
    uint64_t id = queue_mail(w, "a@x.test b@x.test c@x.test");
    queue_mail(w, "z@x.test");
    cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:x.test"), "d  "), 0);
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    cr_assert_eq(unit->message->stored.id, id);
    cr_assert_eq(unit->count, 2);
    queue_agrees(w);
    queue_world_free(w);
}

Test(queue, delay_records_nothing_and_follows_the_curve)
{
    struct queue_world *w = queue_world_new(16);
    queue_mail(w, "a@x.test");
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    uint64_t outcomes = spool_metrics(w->spool)->outcomes;
    queue_delay(&w->queue, unit);
    cr_assert_eq(unit->state, UNIT_DEFERRED);
    cr_assert_eq(spool_metrics(w->spool)->outcomes, outcomes);
    queue_world_run(w, 40'000);
    cr_assert_eq(unit->state, UNIT_DEFERRED);
    queue_world_run(w, 40'000);
    cr_assert_eq(unit->state, UNIT_READY);
    queue_world_free(w);
}

Test(queue, what_is_held_stays_until_it_expires)
{
    struct queue_world *w = queue_world_new(17);
    queue_mail(w, "a@x.test");
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    queue_hold(&w->queue, unit);
    queue_agrees(w);
    queue_world_run(w, 5ULL * DAY_MS - 60'000);
    cr_assert_eq(unit->state, UNIT_HELD);
    cr_assert_eq(w->expired_count, 0);
    sim_wall_jump(w->sim, -1LL * DAY_MS * 1'000);
    queue_world_run(w, 50'000);
    cr_assert_eq(w->expired_count, 0);
    queue_world_run(w, 20'000);
    cr_assert_eq(w->expired_count, 1, "neither earlier nor later, whatever the clock is set to");
    cr_assert_eq(queue_settle_as(w, unit, "e"), 0);
    queue_world_free(w);
}

/* ---- destinations ---- */

Test(queue, a_destination_backs_off_and_is_asked_for_again)
{
    struct queue_world *w = queue_world_new(22);
    queue_mail(w, "a@x.test");
    struct destination *d = queue_there(w, "mx:x.test");
    for (unsigned i = 1; i <= 10; i++) {
        uint64_t nominal = MIN(60'000ULL << (i - 1), 3'600'000ULL);
        queue_destination_failed(&w->queue, d, SLICE("nobody is there"));
        cr_assert_eq(d->failures, i);
        cr_assert_str_eq(d->error, "nobody is there");
        cr_assert_geq(d->retry_ms - w->shard.now_ms, nominal * 80 / 100);
        cr_assert_leq(d->retry_ms - w->shard.now_ms, nominal * 120 / 100);
        unsigned wanted = w->wanted;
        sim_run(w->sim, d->retry_ms - 1);
        cr_assert_eq(w->wanted, wanted);
        queue_world_run(w, 10);
        cr_assert_eq(w->wanted, wanted + 1);
        cr_assert_eq(w->wanted_last, d);
    }
    queue_destination_failed(&w->queue, d, SLICE("again"));
    queue_destination_works(&w->queue, d);
    cr_assert_eq(d->failures, 0);
    cr_assert_eq(d->retry_ms, 0);
    unsigned wanted = w->wanted;
    queue_world_run(w, 2 * 3'600'000);
    cr_assert_eq(w->wanted, wanted);
    queue_world_free(w);
}

Test(queue, an_endless_error_text_is_cut)
{
    struct queue_world *w = queue_world_new(23);
    char text[1'000];
    memset(text, 'x', sizeof(text));
    struct destination *d = queue_there(w, "mx:x.test");
    queue_destination_failed(&w->queue, d, slice_of(text, sizeof(text)));
    cr_assert_eq(strlen(d->error), QUEUE_TEXT_MAX - 1);
    queue_world_free(w);
}

static void count_ready(void *argument, struct destination *d)
{
    cr_assert_gt(d->ready_count, 0);
    ++*(unsigned *)argument;
}

Test(queue, each_ready_names_those_with_mail)
{
    struct queue_world *w = queue_world_new(24);
    queue_mail(w, "a@x.test b@y.test c@z.test");
    (void)queue_there(w, "mx:empty.test");
    (void)queue_pull_from(w, "mx:y.test");
    unsigned ready = 0;
    queue_each_ready(&w->queue, count_ready, &ready);
    cr_assert_eq(ready, 2);
    queue_world_free(w);
}

Test(queue, some_ready_comes_to_its_end_and_names_each_once)
{
    struct queue_world *w = queue_world_new(24);
    queue_mail(w, "a@x.test b@y.test c@z.test");
    for (uint32_t slots = 1; slots <= UINT32_MAX / 2; slots *= 3) {
        unsigned ready = 0;
        unsigned turns = 1;
        uint32_t cursor = 0;
        while (queue_some_ready(&w->queue, &cursor, slots, count_ready, &ready))
            cr_assert_leq(cursor, turns++ * (uint64_t)slots);
        cr_assert_eq(ready, 3);
        cr_assert_eq(cursor, w->queue.hashes_mask + 1);
    }
    queue_world_free(w);
}

Test(queue, a_unit_moves_to_where_its_route_leads_now)
{
    struct queue_world *w = queue_world_new(25);
    queue_mail(w, "a@x.test b@x.test");
    struct destination *old = queue_there(w, "mx:x.test");
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    cr_assert_eq(move(w, unit, 0, "outbound:smart"), 0);
    cr_assert_eq(unit->state, UNIT_ACTIVE, "b has not moved");
    queue_agrees(w);
    cr_assert_eq(move(w, unit, 1, "outbound:smart"), 1);
    cr_assert_eq(w->wanted_last, queue_there(w, "outbound:smart"));
    cr_assert_eq(old->ready_count + old->active_count + old->waiting_count, 0);
    queue_agrees(w);
    unit = queue_pull_from(w, "outbound:smart");
    cr_assert_eq(unit->count, 2, "they travel together");
    cr_assert_eq(queue_settle_as(w, unit, "dd"), 0);
    queue_world_free(w);
}

Test(queue, recipients_of_a_unit_go_different_ways)
{
    struct queue_world *w = queue_world_new(26);
    queue_mail(w, "a@x.test b@x.test c@x.test d@x.test e@y.test");
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    cr_assert_eq(move(w, unit, 2, "outbound:one"), 0);
    cr_assert_eq(move(w, unit, 0, "outbound:one"), 0);
    cr_assert_eq(move(w, unit, 3, "outbound:two"), 0);
    queue_agrees(w);
    struct unit *one = queue_pull_from(w, "outbound:one");
    cr_assert_eq(one->count, 2);
    cr_assert_eq(move(w, unit, 1, "outbound:one"), 1, "nothing there is ready: it goes as it is");
    cr_assert_eq(queue_pull_from(w, "outbound:one"), unit);
    queue_agrees(w);
    cr_assert_eq(queue_settle_as(w, one, "dd"), 0);
    cr_assert_eq(queue_settle_as(w, unit, "d"), 0);
    cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "outbound:two"), "d"), 0);
    cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:y.test"), "d"), 0);
    queue_world_free(w);
}

Test(queue, those_that_are_parked_do_not_travel_together)
{
    struct queue_world *w = queue_world_new(27);
    queue_mail(w, "a@x.test b@x.test c@x.test");
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    for (uint32_t i = 0; i < 3; i++)
        cr_assert_eq(move(w, unit, i, QUEUE_PARKING_KEY), i == 2);
    for (unsigned i = 0; i < 3; i++) {
        unit = queue_pull_from(w, QUEUE_PARKING_KEY);
        cr_assert_eq(unit->count, 1);
        cr_assert_eq(queue_settle_as(w, unit, "d"), 0);
    }
    queue_world_free(w);
}

/* ---- a new start ---- */

Test(queue, a_crash_forgets_no_recipient_and_repeats_no_final_one)
{
    for (uint64_t seed = 100; seed < 110; seed++) {
        struct queue_world *w = queue_world_new(seed);
        uint64_t id = queue_mail(w, "a@x.test b@x.test c@y.test d@y.test e@z.test");
        uint64_t other = queue_mail(w, "a@x.test");
        struct unit *x = queue_pull_from(w, "mx:x.test");
        struct unit *y = queue_pull_from(w, "mx:y.test");
        /* Two units of one message at the same time: neither record stands for the other. */
        queue_begin_settle(w, x, "dl");
        queue_begin_settle(w, y, "bd");
        cr_assert_eq(queue_wait_settled(w, 2), 0);
        queue_world_crash(w, seed % 2 == 0 ? SIM_POWER : SIM_KILL);
        cr_assert_eq(queue_world_open(w), 0);
        cr_assert_eq(w->queue.metrics.messages, 2);
        cr_assert_eq(w->queue.metrics.recipients_recovered, 3, "seed %lu: %lu", seed,
                     w->queue.metrics.recipients_recovered);
        struct message *message = queue_message(&w->queue, id);
        cr_assert_not_null(message);
        cr_assert_not_null(queue_message(&w->queue, other));
        cr_assert_eq(message->units_count, 2);
        cr_assert_eq(queue_there(w, "mx:y.test")->ready_count, 0);
        queue_agrees(w);
        queue_world_free(w);
    }
}

Test(queue, what_was_not_durable_is_tried_again)
{
    struct queue_world *w = queue_world_new(26);
    uint64_t id = queue_mail(w, "a@x.test b@x.test");
    queue_world_run(w, 2'000);
    sim_hold(w->sim, w->machine, SIM_SYNC, true);
    sim_hold(w->sim, w->machine, SIM_WRITE, true);
    queue_begin_settle(w, queue_pull_from(w, "mx:x.test"), "dd");
    queue_world_run(w, 10'000);
    cr_assert_eq(w->settled, 0, "nobody is told before it is durable");
    queue_world_crash(w, SIM_POWER);
    sim_hold(w->sim, w->machine, SIM_SYNC, false);
    sim_hold(w->sim, w->machine, SIM_WRITE, false);
    cr_assert_eq(queue_world_open(w), 0);
    uint64_t queued = w->queue.metrics.recipients_queued;
    cr_assert(queued == 2 || queued == 0, "all of the record or nothing of it");
    if (queued == 2)
        cr_assert_eq(queue_message(&w->queue, id)->units_count, 1);
    queue_world_free(w);
}

Test(queue, a_deferral_is_remembered_over_a_restart)
{
    struct queue_world *w = queue_world_new(27);
    w->queue.classes.slots[0].retry_initial_ms = w->options.retry_initial_ms = 3'600'000;
    queue_mail(w, "a@x.test");
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    cr_assert_eq(queue_settle_as(w, unit, "l"), 0);
    uint64_t due_ms = unit->timer.due_ms;
    queue_world_run(w, 600'000);
    queue_world_crash(w, SIM_KILL);
    cr_assert_eq(queue_world_open(w), 0);
    cr_assert_eq(w->queue.metrics.units_deferred, 1);
    sim_run(w->sim, due_ms - 1'000);
    cr_assert_eq(w->queue.metrics.units_deferred, 1);
    queue_world_run(w, 2'000);
    unit = queue_pull_from(w, "mx:x.test");
    cr_assert_eq(unit->attempts, 1);
    queue_world_free(w);
}

Test(queue, recovered_mail_without_a_place_is_said_so)
{
    struct queue_world *w = queue_world_new(29);
    queue_mail(w, "a@x.test b@y.test c@z.test");
    queue_mail(w, "d@x.test");
    queue_world_crash(w, SIM_KILL);
    w->options.recipients_max = 2;
    cr_assert_gt(queue_world_open(w), 0);
    queue_world_crash(w, SIM_KILL);
    sim_free(w->sim);
    free(w);
}

/* Some of one destination are held, in two classes, and one of these has others that are not. */
Test(queue, what_is_held_is_held_after_a_start_whatever_else_goes_there)
{
    struct queue_world *w = queue_world_new(30);
    struct recipient to[] = {
        { .address = SLICE("a@x.test"), .class = SLICE("a") },
        { .address = SLICE("b@x.test"), .class = SLICE("b") },
        { .address = SLICE("c@x.test"), .class = SLICE("b") },
    };
    const struct envelope envelope = { .sender = SLICE("s@sender.test"),
                                       .arrival_us = w->shard.steady_us,
                                       .recipients = to,
                                       .recipients_count = ARRAY_COUNT(to) };
    const struct outcome held[] = { { .recipient = 0, .kind = OUTCOME_HELD },
                                    { .recipient = 1, .kind = OUTCOME_HELD } };
    struct recovered recovered = { .stored = { .id = 7 }, .outcomes = held, .outcomes_count = 2 };
    uint8_t bytes[512];
    const size_t size = envelope_bytes(&envelope);
    cr_assert_leq(size, sizeof(bytes));
    envelope_encode(&envelope, bytes);
    cr_assert_eq(envelope_decode(slice_of(bytes, size), &recovered.envelope), 0);
    queue_found(&w->queue, &recovered);
    cr_assert_eq(w->queue.metrics.units_ready, 1);
    cr_assert_eq(w->queue.metrics.units_held, 2);
    struct unit *unit = queue_pull_from(w, "mx:x.test");
    cr_assert_eq(unit->count, 1);
    cr_assert_eq(next_of(unit), 2);
    queue_put_back(&w->queue, unit);
    queue_world_crash(w, SIM_KILL);
    sim_free(w->sim);
    free(w);
}

/* ---- all together ---- */

Test(queue, counts_agree_whatever_happens)
{
    for (uint64_t seed = 200; seed < 206; seed++) {
        struct queue_world *w = queue_world_new(seed);
        struct random random;
        random_seed(&random, seed);
        for (unsigned step = 0; step < 300; step++) {
            char key[32], addresses[256] = "", letters[16] = "";
            snprintf(key, sizeof(key), "mx:d%u.test", (unsigned)random_below(&random, 5));
            struct destination *d = queue_there(w, key);
            struct unit *unit = queue_pull(&w->queue, d);
            uint64_t choice = random_below(&random, 10);
            if (unit == NULL || choice < 3) {
                if (unit != NULL)
                    queue_put_back(&w->queue, unit);
                unsigned count = 1 + (unsigned)random_below(&random, 8);
                for (unsigned i = 0; i < count; i++)
                    snprintf(addresses + strlen(addresses), sizeof(addresses) - strlen(addresses),
                             "%sr%u@d%u.test", i == 0 ? "" : " ", i,
                             (unsigned)random_below(&random, 5));
                queue_mail(w, addresses);
                continue;
            }
            if (choice == 3) {
                queue_delay(&w->queue, unit);
            } else if (choice == 4) {
                int moved = 0; /* some, or all */
                for (uint32_t left = unit->count; left > 0 && moved == 0; left--)
                    if (random_below(&random, 4) > 0)
                        moved = move(w, unit, next_of(unit), "mx:d0.test");
                cr_assert_geq(moved, 0);
                if (moved == 0)
                    queue_put_back(&w->queue, unit);
            } else {
                for (uint32_t i = 0; i < unit->count; i++)
                    letters[i] = "ddlb "[random_below(&random, i == 0 ? 4 : 5)];
                if (choice == 5)
                    sim_fail(w->sim, w->machine, SIM_WRITE, 0, 1, -EIO);
                queue_begin_settle(w, unit, letters);
                if (choice == 6)
                    (void)queue_wait_settled(w, w->settled + 1);
            }
            queue_world_run(w, random_below(&random, 2) == 0 ? 0 : 90'000);
            queue_agrees(w);
            if (random_below(&random, 40) == 0) {
                uint64_t before = w->queue.metrics.recipients_queued;
                queue_world_crash(w, SIM_POWER);
                sim_fail(w->sim, w->machine, SIM_WRITE, 0, 0, 0);
                cr_assert_eq(queue_world_open(w), 0);
                cr_assert_leq(w->queue.metrics.recipients_queued, before);
            }
        }
        queue_world_run(w, 5'000);
        queue_world_free(w);
    }
}

/* ---- what it takes ---- */

Test(queue, one_recipient_takes_no_place_and_several_take_one_less)
{
    struct queue_world *w = queue_world_new(40);
    queue_mail(w, "a@x.test");
    queue_mail(w, "a@x.test b@y.test");
    cr_assert_eq(w->queue.places.used, 0);
    queue_mail(w, "a@z.test b@z.test c@z.test");
    cr_assert_eq(w->queue.places.used, 2);
    size_t each = w->queue.messages.size + w->queue.units.size + 2 * sizeof(*w->queue.table);
    cr_assert_leq(each, QUEUE_MESSAGE_BYTES_MAX);
    queue_world_free(w);
}

Test(queue, recipients_that_settle_in_any_order_leave_the_others)
{
    static const char *const orders[] = { "d  ", " d ", "  d", "dd ", "d d", " dd" };
    for (unsigned i = 0; i < ARRAY_COUNT(orders); i++) {
        struct queue_world *w = queue_world_new(50 + i);
        queue_mail(w, "a@x.test b@x.test c@x.test");
        cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:x.test"), orders[i]), 0);
        queue_agrees(w);
        struct unit *unit = queue_pull_from(w, "mx:x.test");
        uint32_t place = unit->first, recipient;
        for (uint32_t left = 3; left-- > 0;)
            if (orders[i][left] == ' ')
                cr_assert(unit_next(unit, &place, &recipient) && recipient == left);
        cr_assert(!unit_next(unit, &place, &recipient));
        char rest[4] = "ddd";
        rest[unit->count] = '\0';
        cr_assert_eq(queue_settle_as(w, unit, rest), 0);
        cr_assert_eq(w->queue.places.used, 0);
        queue_world_free(w);
    }
}

Test(queue, recipients_that_move_in_any_order_travel_the_highest_first)
{
    static const uint32_t orders[][3] = { { 0, 1, 2 }, { 2, 1, 0 }, { 1, 0, 2 },
                                          { 1, 2, 0 }, { 2, 0, 1 }, { 0, 2, 1 } };
    for (unsigned i = 0; i < ARRAY_COUNT(orders); i++) {
        struct queue_world *w = queue_world_new(60 + i);
        queue_mail(w, "a@x.test b@x.test c@x.test");
        struct unit *unit = queue_pull_from(w, "mx:x.test");
        for (unsigned k = 0; k < 3; k++) {
            cr_assert_eq(move(w, unit, orders[i][k], "outbound:one"), k == 2);
            if (k < 2) {
                queue_put_back(&w->queue, unit);
                queue_agrees(w);
                cr_assert_eq(queue_pull_from(w, "mx:x.test"), unit);
            }
        }
        queue_agrees(w);
        unit = queue_pull_from(w, "outbound:one");
        cr_assert_eq(unit->count, 3);
        cr_assert_eq(queue_settle_as(w, unit, "ddd"), 0);
        queue_world_free(w);
    }
}

Test(queue, a_unit_of_which_some_are_deferred_and_some_untried_splits_in_any_way)
{
    static const char *const ways[] = { "l  ", " l ", "  l", "ll ", "l l", " ll" };
    for (unsigned i = 0; i < ARRAY_COUNT(ways); i++) {
        struct queue_world *w = queue_world_new(70 + i);
        queue_mail(w, "a@x.test b@x.test c@x.test");
        cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:x.test"), ways[i]), 0);
        cr_assert_eq(w->queue.metrics.units_ready, 1);
        cr_assert_eq(w->queue.metrics.units_deferred, 1);
        queue_agrees(w);
        queue_world_free(w);
    }
}
