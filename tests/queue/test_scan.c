/*
 * test_scan.c - the count of the whole queue: exact while mail comes and goes, and not to be fooled
 *
 * Most of these break something on purpose, as a mistake in the queue would, and ask whether it is
 * found.
 */
#include "queue/queue_inside.h"
#include "tests/queue/queue_world.h"

enum { MANY = 2 * SCAN_SLOTS + 100 };

static struct queue_world *scan_world(uint64_t seed)
{
    struct queue_world *w = queue_world_make(seed);
    w->spool_options.segments_max = 128; /* room for MANY, each a batch of its own */
    cr_assert_eq(queue_world_open(w), 0);
    scan_start(&w->queue);
    return w;
}

static void scan_world_free(struct queue_world *w)
{
    scan_stop(&w->queue);
    queue_world_free(w);
}

static bool passed(void *argument)
{
    struct queue_world *w = argument;
    return w->queue.scan.metrics.passes >= w->next;
}

static void run_passes(struct queue_world *w, uint64_t passes)
{
    w->next = w->queue.scan.metrics.passes + passes;
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + 10 * DAY_MS, passed, w));
}

static void in_balance(struct queue_world *w)
{
    cr_assert_eq(w->queue.scan.metrics.balance, 0, "%lld recipients",
                 (long long)w->queue.scan.metrics.balance);
    cr_assert_eq(w->queue.scan.metrics.unlisted, 0, "%lld messages",
                 (long long)w->queue.scan.metrics.unlisted);
}

static struct unit *only_unit(struct queue_world *w)
{
    uint32_t cursor = 0;
    struct message *message = queue_next(&w->queue, &cursor);
    cr_assert_not_null(message);
    return message->units;
}

/* ---- counting ---- */

Test(scan, is_exact_while_mail_comes_and_goes)
{
    struct queue_world *w = scan_world(1);
    struct random random;
    random_seed(&random, 1);
    uint64_t passes = 0, during = 0;
    for (unsigned i = 0; i < MANY; i++) /* more than one slice */
        cr_assert_neq(queue_mail(w, "a@d0.test b@d0.test c@d1.test"), 0);
    run_passes(w, 1);
    in_balance(w);
    for (unsigned step = 0; step < 3'000; step++) {
        char key[32], letters[16] = "";
        snprintf(key, sizeof(key), "mx:d%u.test", (unsigned)random_below(&random, 2));
        struct unit *unit = queue_pull(&w->queue, queue_there(w, key));
        if (unit == NULL || random_below(&random, 3) == 0) {
            if (unit != NULL)
                queue_put_back(&w->queue, unit);
            (void)queue_mail(w, random_below(&random, 2) == 0 ? "x@d1.test"
                                                              : "a@d0.test b@d1.test c@d0.test");
        } else {
            for (uint32_t i = 0; i < unit->count; i++)
                letters[i] = "dble"[random_below(&random, 4)];
            queue_begin_settle(w, unit, letters);
        }
        if (random_below(&random, 4) == 0)
            queue_world_run(w, random_below(&random, 40));
        if (w->queue.settlements.used > 32)
            queue_world_run(w, 200);
        during += w->queue.scan.cursor > 0;
        if (w->queue.scan.cursor == 0) /* without its pause */
            shard_timer_arm(&w->shard, &w->queue.scan.timer, SCAN_SLICE_MS);
        if (passes == w->queue.scan.metrics.passes)
            continue;
        passes = w->queue.scan.metrics.passes;
        in_balance(w);
    }
    cr_assert_gt(passes, 5);
    cr_assert_gt(during, 100, "mail came and went during passes");
    queue_world_run(w, 60'000);
    in_balance(w);
    scan_world_free(w);
}

Test(scan, finds_a_unit_that_its_message_lost)
{
    struct queue_world *w = scan_world(2);
    queue_mail(w, "a@d0.test b@d1.test c@d1.test");
    queue_mail(w, "a@d0.test");
    run_passes(w, 1);
    in_balance(w);
    uint32_t cursor = 0;
    struct message *message = queue_next(&w->queue, &cursor);
    struct unit *lost = message->units; /* the last one made: of d1.test */
    message->units = lost->sibling;
    run_passes(w, 2);
    cr_assert_eq(w->queue.scan.metrics.balance, 2);
    message->units = lost;
    run_passes(w, 2);
    in_balance(w);
    scan_world_free(w);
}

Test(scan, finds_a_message_that_the_queue_forgot)
{
    struct queue_world *w = scan_world(3);
    uint64_t id = queue_mail(w, "a@d0.test b@d1.test");
    queue_mail(w, "a@d0.test");
    struct message *message = queue_message(&w->queue, id);
    struct message **slot = queue_table_slot(&w->queue, id);
    cr_assert_eq(*slot, message);
    *slot = message->chain;
    run_passes(w, 2);
    cr_assert_eq(w->queue.scan.metrics.balance, 2);
    cr_assert_eq(w->queue.scan.metrics.unlisted, 1, "the spool still has it");
    *slot = message;
    run_passes(w, 2);
    in_balance(w);
    scan_world_free(w);
}

Test(scan, finds_a_recipient_that_was_counted_out_and_stayed)
{
    struct queue_world *w = scan_world(4);
    queue_mail(w, "a@d0.test b@d1.test");
    metric_add(&w->queue.metrics.recipients_delivered, 1);
    run_passes(w, 2);
    cr_assert_eq((int64_t)w->queue.scan.metrics.balance, -1);
    metric_sub(&w->queue.metrics.recipients_delivered, 1);
    run_passes(w, 2);
    in_balance(w);
    scan_world_free(w);
}

/* ---- age ---- */

Test(scan, tells_the_oldest_of_each_state)
{
    struct queue_world *w = scan_world(5);
    queue_mail(w, "a@held.test");
    queue_world_run(w, 60'000);
    queue_mail(w, "a@active.test");
    queue_world_run(w, 60'000);
    queue_mail(w, "a@ready.test");
    queue_hold(&w->queue, queue_pull_from(w, "mx:held.test"));
    struct unit *active = queue_pull_from(w, "mx:active.test");
    run_passes(w, 2);
    const uint64_t *oldest = w->queue.scan.metrics.oldest_ms;
    cr_assert_geq(oldest[UNIT_HELD], 120'000);
    cr_assert_geq(oldest[UNIT_ACTIVE], 60'000);
    cr_assert_lt(oldest[UNIT_ACTIVE], oldest[UNIT_HELD]);
    cr_assert_gt(oldest[UNIT_READY], 0);
    cr_assert_lt(oldest[UNIT_READY], oldest[UNIT_ACTIVE]);
    cr_assert_eq(oldest[UNIT_DEFERRED], 0);
    cr_assert_eq(oldest[UNIT_SETTLING], 0);
    cr_assert_eq(w->queue.scan.metrics.overdue, 0);
    queue_put_back(&w->queue, active);
    scan_world_free(w);
}

/* A state whose timer is lost: expired all the same, once, and counted. */
static void expires_without_its_timer(struct queue_world *w, enum unit_state state)
{
    struct unit *unit = only_unit(w);
    cr_assert_eq(unit->state, state);
    cr_assert(timer_armed(&unit->timer));
    timer_disarm(&w->shard.timers, &unit->timer);
    queue_world_run(w, w->options.age_max_ms + SCAN_GRACE_MS);
    run_passes(w, 2);
    cr_assert_eq(w->expired_count, 1, "state %u", state);
    cr_assert_eq(w->expired[0], unit);
    cr_assert_eq(w->queue.scan.metrics.expired, 1);
    cr_assert_eq(w->queue.scan.metrics.overdue, 1, "it is not gone yet");
    cr_assert_eq(queue_settle_as(w, unit, "e"), 0);
    run_passes(w, 2);
    cr_assert_eq(w->queue.scan.metrics.overdue, 0);
    in_balance(w);
}

Test(scan, expires_what_is_ready_and_lost_its_timer)
{
    struct queue_world *w = scan_world(6);
    queue_mail(w, "a@d0.test");
    expires_without_its_timer(w, UNIT_READY);
    scan_world_free(w);
}

Test(scan, expires_what_is_held_and_lost_its_timer)
{
    struct queue_world *w = scan_world(7);
    queue_mail(w, "a@d0.test");
    queue_hold(&w->queue, queue_pull_from(w, "mx:d0.test"));
    expires_without_its_timer(w, UNIT_HELD);
    scan_world_free(w);
}

Test(scan, expires_what_has_a_timer_for_the_end_of_the_world)
{
    struct queue_world *w = scan_world(8);
    queue_mail(w, "a@d0.test");
    struct unit *unit = only_unit(w);
    timer_arm(&w->shard.timers, &unit->timer, w->shard.now_ms + 3'650ULL * DAY_MS);
    queue_world_run(w, w->options.age_max_ms + SCAN_GRACE_MS);
    run_passes(w, 2);
    cr_assert_eq(w->expired_count, 1);
    cr_assert_eq(w->queue.scan.metrics.expired, 1);
    queue_settle_as(w, unit, "e");
    scan_world_free(w);
}

/* A shard that stood still: its timers are late, and fire in the same turn as the scan's. */
Test(scan, nothing_is_lost_because_a_shard_stood_still)
{
    enum { UNITS = 8 };
    struct queue_world *w = scan_world(10);
    for (unsigned i = 0; i < UNITS; i++) {
        queue_mail(w, "a@d0.test");
        cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:d0.test"), "l"), 0);
        queue_world_run(w, 37);
    }
    const struct sim_range usual = sim_options(w->sim)->step;
    sim_options(w->sim)->step = (struct sim_range) { 600'000'000'000, 600'000'000'000 };
    queue_world_run(w, 3'600'000);
    sim_options(w->sim)->step = usual;
    run_passes(w, 2);
    cr_assert_eq(w->queue.scan.metrics.woken, 0);
    cr_assert_eq(w->queue.scan.metrics.expired, 0);
    for (unsigned i = 0; i < UNITS; i++)
        cr_assert_eq(queue_settle_as(w, queue_pull_from(w, "mx:d0.test"), "d"), 0);
    in_balance(w);
    scan_world_free(w);
}

Test(scan, lets_what_is_deferred_go_on_when_its_timer_is_lost)
{
    struct queue_world *w = scan_world(9);
    queue_mail(w, "a@d0.test");
    queue_settle_as(w, queue_pull_from(w, "mx:d0.test"), "l");
    struct unit *unit = only_unit(w);
    cr_assert_eq(unit->state, UNIT_DEFERRED);
    timer_disarm(&w->shard.timers, &unit->timer);
    unsigned wanted = w->wanted;
    run_passes(w, 2);
    cr_assert_eq(unit->state, UNIT_READY);
    cr_assert_eq(w->wanted, wanted + 1);
    cr_assert_eq(w->queue.scan.metrics.woken, 1);
    cr_assert_eq(w->expired_count, 0);
    scan_world_free(w);
}

Test(scan, has_a_destination_looked_after_that_everybody_forgot)
{
    struct queue_world *w = scan_world(16);
    queue_mail(w, "a@d0.test");
    struct destination *d = queue_there(w, "mx:d0.test");
    d->owner = NULL;
    const unsigned wanted = w->wanted;
    run_passes(w, 2);
    cr_assert_eq(w->wanted, wanted + 1);
    cr_assert_eq(w->queue.scan.metrics.woken, 1);
    d->owner = NULL; /* this time its timer will see to it */
    queue_destination_again(&w->queue, d, 60'000);
    run_passes(w, 2);
    cr_assert_eq(w->queue.scan.metrics.woken, 1);
    scan_world_free(w);
}

Test(scan, leaves_alone_what_has_its_timer)
{
    struct queue_world *w = scan_world(10);
    queue_mail(w, "a@d0.test");
    queue_mail(w, "a@d1.test");
    queue_settle_as(w, queue_pull_from(w, "mx:d0.test"), "l");
    run_passes(w, 3);
    cr_assert_eq(w->queue.metrics.units_deferred, 1);
    queue_world_run(w, w->options.age_max_ms + 60'000);
    cr_assert_eq(w->expired_count, 2, "by their timers");
    cr_assert_eq(w->queue.scan.metrics.expired, 0);
    cr_assert_eq(w->queue.scan.metrics.woken, 0);
    for (unsigned i = 0; i < 2; i++)
        queue_settle_as(w, w->expired[i], "e");
    scan_world_free(w);
}

Test(scan, does_not_hurry_what_waits_for_its_turn_to_expire)
{
    struct queue_world *w = scan_world(11);
    queue_mail(w, "a@d0.test");
    queue_world_run(w, w->options.age_max_ms + 1'000);
    cr_assert_eq(w->expired_count, 1);
    queue_delay(&w->queue, w->expired[0]); /* no room for its bounce, say */
    run_passes(w, 3);
    cr_assert_eq(w->queue.scan.metrics.expired, 0);
    cr_assert_eq(w->queue.scan.metrics.overdue, 1, "and everybody can see it");
    queue_world_run(w, 2ULL * w->options.retry_max_ms);
    cr_assert_eq(w->expired_count, 2, "by its timer again");
    queue_settle_as(w, w->expired[1], "e");
    scan_world_free(w);
}

Test(scan, does_not_care_what_the_clock_is_set_to)
{
    struct queue_world *w = scan_world(13);
    queue_mail(w, "a@d0.test");
    run_passes(w, 1);
    sim_wall_jump(w->sim, 3'653LL * DAY_MS * 1'000);
    run_passes(w, 3);
    cr_assert_eq(w->queue.scan.metrics.overdue, 0);
    cr_assert_eq(w->queue.scan.patient_ms, 0);
    queue_world_run(w, 2ULL * w->options.retry_max_ms);
    cr_assert_eq(w->expired_count, 0);
    scan_world_free(w);
}

Test(scan, is_patient_after_the_machine_was_suspended)
{
    struct queue_world *w = scan_world(12);
    queue_mail(w, "a@d0.test");
    run_passes(w, 1);
    w->shard.clock.steady_us += 30LL * DAY_MS * 1'000;
    run_passes(w, 10);
    cr_assert_eq(w->expired_count, 0, "its timer may do it");
    cr_assert_eq(w->queue.scan.metrics.overdue, 1);
    queue_world_run(w, 2ULL * w->options.retry_max_ms);
    cr_assert_eq(w->expired_count, 1);
    cr_assert_eq(w->queue.scan.metrics.expired, 1);
    queue_settle_as(w, w->expired[0], "e");
    scan_world_free(w);
}
