/*
 * test_spool.c - the promise of the spool: before power cuts, failed writes, and full disks
 */
#include "tests/queue/spool_world.h"
#include "tests/core/fewer.h"

Test(spool, a_log_of_another_number_or_size_is_refused)
{
    const struct sim_options calm = sim_calm(1);
    struct world *w = world_new(&calm);
    cr_assert_eq(world_open(w), 0);
    cr_assert_geq(world_send(w, 100, 1), 0);
    world_close(w);
    w->options.number = 4;
    cr_assert_eq(world_open(w), -EBADMSG);
    ring_free(w->ring);
    w->options.number = 3;
    w->options.segment_bytes *= 2;
    cr_assert_eq(world_open(w), -EBADMSG);
    ring_free(w->ring);
    w->options.segment_bytes /= 2;
    cr_assert_eq(world_open(w), 0);
    cr_assert_eq(w->report.messages_live, 1);
    world_close(w);
    world_free(w);
}

Test(spool, a_failed_write_is_minus_eio_and_the_next_message_goes_on)
{
    const struct sim_options calm = sim_calm(2);
    struct world *w = world_new(&calm);
    cr_assert_eq(world_open(w), 0);
    world_run(w, 2'000); /* segments ahead are prepared */
    cr_assert_geq(world_send(w, 1'000, 1), 0);
    sim_fail(w->sim, w->machine, SIM_WRITE, 0, 1, -EIO);
    cr_assert_eq(world_send(w, 1'000, 1), -EIO);
    cr_assert_eq(spool_room(w->spool, 0), 0, "one failure does not break the spool");
    int third = world_send(w, 1'000, 1);
    cr_assert_geq(third, 0);
    cr_assert_eq(world_read(w, &w->messages[0]), 0);
    cr_assert_eq(world_read(w, &w->messages[third]), 0);
    world_crash(w, SIM_POWER);
    cr_assert_eq(world_open(w), 0);
    world_compare(w);
    cr_assert_eq(w->report.messages_live, 2);
    cr_assert_eq(w->report.damages, 0);
    world_close(w);
    world_free(w);
}

Test(spool, two_failures_in_a_row_break_it_and_it_mends)
{
    const struct sim_options calm = sim_calm(3);
    struct world *w = world_new(&calm);
    cr_assert_eq(world_open(w), 0);
    world_run(w, 2'000);
    sim_fail(w->sim, w->machine, SIM_WRITE, 0, 1'000, -EIO); /* those that prepare, too */
    cr_assert_eq(world_send(w, 1'000, 1), -EIO);
    cr_assert_eq(world_send(w, 1'000, 1), -EIO);
    sim_fail(w->sim, w->machine, SIM_WRITE, 0, 0, 0);
    cr_assert_eq(spool_room(w->spool, 0), -EIO);
    cr_assert_null(world_upload(w, 10, 1));
    world_run(w, 20'000);
    cr_assert_eq(spool_room(w->spool, 0), 0);
    cr_assert_geq(world_send(w, 1'000, 1), 0);
    world_close(w);
    world_free(w);
}

enum { UNLUCKY = 20 }; /* in some of so many the disk has what it said that it did not take */

static struct world *world_with_refused_mail(unsigned seed)
{
    const struct sim_options calm = sim_calm(seed);
    struct world *w = world_new(&calm);
    cr_assert_eq(world_open(w), 0);
    world_run(w, 2'000);
    cr_assert_geq(world_send(w, 1'000, 1), 0);
    sim_fail(w->sim, w->machine, SIM_WRITE, 0, UINT64_MAX, -EIO); /* those that prepare, too */
    cr_assert_eq(world_send(w, 1'000, 1), -EIO);
    cr_assert_eq(world_send(w, 1'000, 1), -EIO);
    world_run(w, 10'000);
    spool_stop(w->spool);
    return w;
}

/* The disk works again. How many are found that heard 451. */
static uint64_t world_refused_found(struct world *w)
{
    cr_assert(spool_idle(w->spool));
    spool_close(w->spool);
    ring_free(w->ring);
    sim_fail(w->sim, w->machine, SIM_WRITE, 0, 0, 0);
    cr_assert_eq(world_open(w), 0);
    world_compare(w);
    const uint64_t found = w->report.messages_live - 1;
    world_close(w);
    world_free(w);
    return found;
}

Test(spool, refused_mail_is_not_found_after_an_end_that_the_disk_takes_late)
{
    for (unsigned seed = 1; seed <= UNLUCKY; seed++) {
        struct world *w = world_with_refused_mail(seed);
        world_run(w, 1'500);
        cr_assert(!spool_idle(w->spool), "it waits for the disk");
        sim_fail(w->sim, w->machine, SIM_WRITE, 0, 0, 0);
        cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + 60'000, world_is_idle, w));
        cr_assert(spool_proven(w->spool));
        cr_assert_eq(world_refused_found(w), 0, "seed %u", seed);
    }
}

Test(spool, an_end_does_not_wait_for_ever_for_a_disk_that_takes_nothing)
{
    uint64_t found = 0;
    for (unsigned seed = 1; seed <= UNLUCKY; seed++) {
        struct world *w = world_with_refused_mail(seed);
        cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + 10'000, world_is_idle, w));
        cr_assert(!spool_proven(w->spool), "and says so");
        world_run(w, 5'000); /* it tries no more */
        found += world_refused_found(w);
    }
    cr_assert_gt(found, 0, "then the test before this one shows nothing");
}

Test(spool, no_done_before_the_write_is_durable)
{
    const struct sim_options calm = sim_calm(4);
    struct world *w = world_new(&calm);
    cr_assert_eq(world_open(w), 0);
    world_run(w, 2'000);
    sim_hold(w->sim, w->machine, SIM_SYNC, true);
    struct world_upload *u = world_upload(w, 5'000, 1);
    world_run(w, 30'000);
    cr_assert(!u->landed);
    world_crash(w, SIM_POWER);
    sim_hold(w->sim, w->machine, SIM_SYNC, false);
    cr_assert_eq(world_open(w), 0);
    world_compare(w);
    world_close(w);
    world_free(w);
}

Test(spool, a_full_log_refuses_mail_takes_outcomes_and_recovers)
{
    const struct sim_options calm = sim_calm(5);
    struct world *w = world_new(&calm);
    w->options.segments_max = 8;
    cr_assert_eq(world_open(w), 0);
    while (spool_room(w->spool, 0) == 0 && w->count < 500)
        (void)world_send(w, 20'000, 1);
    cr_assert_eq(spool_room(w->spool, 0), -ENOSPC);
    cr_assert_gt(w->acknowledged, 20);
    uint32_t count = w->count;
    for (uint32_t i = 0; i < count; i++)
        if (w->messages[i].state == M_LIVE) {
            cr_assert_eq(world_outcome(&w->messages[i], 0, true), 0);
            world_run(w, 50);
        }
    world_run(w, 10'000);
    cr_assert_eq(spool_metrics(w->spool)->live_messages, 0);
    cr_assert_eq(spool_room(w->spool, 0), 0);
    cr_assert_geq(world_send(w, 20'000, 1), 0);
    world_close(w);
    world_free(w);
}

Test(spool, what_was_written_is_read_from_memory_and_from_disk)
{
    const struct sim_options calm = sim_calm(6);
    const uint32_t sizes[] = { 0, 1, 100, 8'191, 8'193, 16'384, 60'000, 300'000, 1'000'000 };
    struct world *w = world_new(&calm);
    w->options.segments_max = 64;
    cr_assert_eq(world_open(w), 0);
    for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++) {
        int index = world_send(w, sizes[i], 1 + i % 3);
        cr_assert_geq(index, 0);
        cr_assert_eq(world_read(w, &w->messages[index]), 0);
    }
    cr_assert_eq(world_send(w, 2 << 20, 1), -EFBIG);
    world_close(w);
    cr_assert_eq(world_open(w), 0);
    world_compare(w);
    for (unsigned i = 0; i < ARRAY_COUNT(sizes); i++)
        cr_assert_eq(world_read(w, &w->messages[i]), 0);
    cr_assert_gt(spool_metrics(w->spool)->reads, 0);
    world_close(w);
    world_free(w);
}

Test(spool, a_damaged_body_is_ebadmsg)
{
    const struct sim_options calm = sim_calm(7);
    struct world *w = world_new(&calm);
    cr_assert_eq(world_open(w), 0);
    int index = world_send(w, 100'000, 1);
    world_close(w);
    cr_assert_eq(world_open(w), 0);
    for (unsigned i = 0; i < 16; i++) {
        char path[64];
        snprintf(path, sizeof(path), "spool/log-000/segment-%06u", i);
        (void)sim_corrupt(w->sim, w->machine, path, 9'000, 1);
    }
    cr_assert_eq(world_read(w, &w->messages[index]), -EBADMSG);
    world_close(w);
    world_free(w);
}

/* Some mail, with the n-th operation of this kind failing. True: there were that many. */
static bool nth_run(enum sim_operation kind, uint64_t n, int error)
{
    const struct sim_options calm = sim_calm(1'000 + n);
    struct world *w = world_new(&calm);
    w->options.segments_max = 8;
    uint64_t before = sim_count(w->sim, w->machine, kind);
    sim_fail(w->sim, w->machine, kind, n, 1, error);
    if (world_open(w) < 0) {
        ring_free(w->ring);
        cr_assert_eq(world_open(w), 0, "a single failure, and it never opens again");
    }
    for (unsigned i = 0; i < 24; i++) {
        if (spool_room(w->spool, 0) < 0) {
            world_run(w, 1'500);
            continue;
        }
        int index = world_send(w, i % 4 == 0 ? 70'000 : 2'000, 1);
        if (index >= 0 && i % 3 != 0)
            (void)world_outcome(&w->messages[index], 0, true);
        world_run(w, 100);
    }
    cr_assert_gt(w->acknowledged, 15, "one failure stopped more than it had to");
    bool there = sim_count(w->sim, w->machine, kind) > before + n;
    world_crash(w, SIM_POWER);
    sim_fail(w->sim, w->machine, kind, 0, 0, 0);
    cr_assert_eq(world_open(w), 0);
    world_compare(w);
    for (uint32_t i = 0; i < w->count; i++)
        if (w->messages[i].state == M_LIVE)
            cr_assert_eq(world_read(w, &w->messages[i]), 0);
    world_close(w);
    world_free(w);
    return there;
}

Test(spool, each_single_operation_may_fail)
{
    for (uint64_t n = 0; nth_run(SIM_WRITE, n, -EIO); n++)
        ;
    for (uint64_t n = 0; nth_run(SIM_WRITE, n, -ENOSPC); n++)
        ;
    for (uint64_t n = 0; nth_run(SIM_SYNC, n, -EIO); n++)
        ;
    for (uint64_t n = 0; nth_run(SIM_OPEN, n, -EMFILE); n++)
        ;
    for (uint64_t n = 0; nth_run(SIM_NAMES, n, -EIO); n++)
        ;
}

/* ---- everything at once ---- */

static void random_turn(struct world *w, struct random *random)
{
    uint64_t what = random_below(random, 100);
    if (what < 30) {
        uint32_t bytes = (uint32_t)random_below(random, 3'000);
        if (random_below(random, 3) == 0 && w->count % 8 != 0)
            bytes = (uint32_t)random_below(random, 120'000);
        (void)world_upload(w, bytes, 1 + (uint32_t)random_below(random, WORLD_RECIPIENTS));
    } else if (what < 90 && w->count > 0) {
        /* One in eight lives long, until there are many of them. */
        uint64_t back = MIN(w->count, 60u);
        if (random_below(random, 4) == 0)
            back = w->count;
        uint32_t index = w->count - 1 - (uint32_t)random_below(random, back);
        struct world_message *m = &w->messages[index];
        if (index % 8 == 0 && index + 200 > w->count)
            return;
        uint32_t recipient = (uint32_t)random_below(random, m->recipients);
        if (m->state == M_LIVE && !m->outcome_busy && (m->done & 1u << recipient) == 0)
            (void)world_outcome(m, recipient, random_below(random, 4) != 0);
    } else if (what < 93 && w->count > 0) {
        struct world_upload *u = &w->uploads[random_below(random, WORLD_UPLOADS)];
        if (u->message != NULL && u->message->state == M_OPEN && random_below(random, 4) == 0) {
            spool_write_abort(&u->writer);
            shard_forget(&u->task);
            u->message->state = M_NONE;
            u->message = NULL;
        }
    }
    sim_run(w->sim, sim_now_ms(w->sim) + random_below(random, 20));
}

static void random_run(uint64_t seed, bool storm)
{
    struct sim_options options = storm ? sim_storm(seed) : sim_calm(seed);
    options.read_error_ppm = 0; /* an unreadable sector is damage: the other tests' matter */
    options.open_error_ppm = 0;
    struct world *w = world_new(&options);
    w->options.segments_max = 8 + (uint32_t)(seed % 6);
    struct random random;
    random_seed(&random, seed);
    uint64_t moved = 0;
    for (unsigned life = 0; life < 6; life++) {
        sim_faults(w->sim, w->machine, false);
        int r = world_open(w);
        cr_assert_eq(r, 0, "seed %llu life %u: open gave %d", (unsigned long long)seed, life, r);
        world_compare(w);
        cr_assert_eq(w->report.damages, 0, "seed %llu life %u: %llu damages",
                     (unsigned long long)seed, life, (unsigned long long)w->report.damages);
        cr_assert_eq(w->report.messages_damaged, 0);
        cr_assert_eq(w->report.segments_gone, 0);
        sim_faults(w->sim, w->machine, storm);
        uint64_t turns = 50 + random_below(&random, 1'200);
        for (uint64_t turn = 0; turn < turns; turn++) {
            random_turn(w, &random);
            if (turn % 64 == 0 && w->count > 0) {
                struct world_message *m = &w->messages[random_below(&random, w->count)];
                if (m->state == M_LIVE && !m->outcome_busy)
                    cr_assert_eq(world_read(w, m), 0);
            }
        }
        moved += spool_metrics(w->spool)->moved;
        world_crash(w, random_below(&random, 3) == 0 ? SIM_KILL : SIM_POWER);
    }
    sim_faults(w->sim, w->machine, false);
    cr_assert_eq(world_open(w), 0);
    world_compare(w);
    for (uint32_t i = 0; i < w->count; i++)
        if (w->messages[i].state == M_LIVE)
            cr_assert_eq(world_read(w, &w->messages[i]), 0);
    if (getenv("SPOOL_TEST_VERBOSE") != NULL)
        fprintf(stderr, "seed %llu: %u messages, %u acknowledged, %u refused, moved %llu\n",
                (unsigned long long)seed, w->count, w->acknowledged, w->refused,
                (unsigned long long)moved);
    world_close(w);
    world_free(w);
}

static uint64_t first_seed(void)
{
    const char *text = getenv("SPOOL_TEST_FIRST_SEED");
    return text != NULL ? strtoull(text, NULL, 10) : 1;
}

static uint64_t seeds(void)
{
    const char *text = getenv("SPOOL_TEST_SEEDS");
    return text != NULL ? strtoull(text, NULL, 10) : FEWER(20);
}

Test(spool, nothing_acknowledged_is_lost_in_power_cuts)
{
    for (uint64_t seed = first_seed(); seed < first_seed() + seeds(); seed++)
        random_run(seed, false);
}

Test(spool, nothing_acknowledged_is_lost_in_storms)
{
    for (uint64_t seed = first_seed(); seed < first_seed() + seeds(); seed++)
        random_run(seed, true);
}
