/*
 * test_compact.c - what lives on gets out of the way, with its outcomes, and power may go meanwhile
 */
#include "tests/queue/spool_world.h"

/* One message in eight stays; traffic that dies at once presses the log forward. */
static struct world *pressed(uint64_t seed, unsigned turns)
{
    const struct sim_options calm = sim_calm(seed);
    struct world *w = world_new(&calm);
    w->options.segments_max = 8;
    cr_assert_eq(world_open(w), 0);
    for (unsigned i = 0; i < turns; i++) {
        bool stays = i < 6;
        int index = world_send(w, stays ? 30'000 : 12'000, stays ? 3 : 1);
        if (index < 0) {
            world_run(w, 1'000);
            continue;
        }
        struct world_message *m = &w->messages[index];
        cr_assert_eq(world_outcome(m, 0, true), 0);
        world_run(w, 30);
        if (stays) {
            cr_assert_eq(world_outcome(m, 1, false), 0);
            world_run(w, 30);
        }
    }
    return w;
}

static void all_stay(struct world *w, unsigned count)
{
    unsigned live = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        struct world_message *m = &w->messages[i];
        if (m->state != M_LIVE)
            continue;
        live++;
        cr_assert_eq(m->done, 1);
        cr_assert_eq(world_read(w, m), 0);
    }
    cr_assert_eq(live, count);
}

Test(compact, an_unreadable_message_is_told_and_does_not_stop_the_others)
{
    struct world *w = pressed(1, 10);
    world_close(w);
    cr_assert_eq(world_open(w), 0);
    (void)sim_corrupt(w->sim, w->machine, "spool/log-000/segment-000000", 6'000, 1);
    for (unsigned i = 0; i < 300; i++) {
        int index = spool_room(w->spool, 0) == 0 ? world_send(w, 12'000, 1) : -ENOSPC;
        if (index >= 0)
            cr_assert_eq(world_outcome(&w->messages[index], 0, true), 0);
        world_run(w, index >= 0 ? 30 : 1'000);
    }
    cr_assert_geq(spool_metrics(w->spool)->quarantined, 1);
    cr_assert_geq(spool_metrics(w->spool)->moved, 1);
    world_close(w);
    world_free(w);
}

Test(compact, messages_and_outcomes_survive_being_moved)
{
    struct world *w = pressed(2, 600);
    cr_assert_geq(spool_metrics(w->spool)->moved, 6);
    cr_assert_gt(w->acknowledged, 500);
    all_stay(w, 6);
    world_close(w);
    cr_assert_eq(world_open(w), 0);
    world_compare(w);
    cr_assert_eq(w->report.damages, 0);
    all_stay(w, 6);
    world_close(w);
    world_free(w);
}

Test(compact, it_does_not_write_more_than_it_takes_in)
{
    struct world *w = pressed(3, 600);
    const struct spool_metrics *m = spool_metrics(w->spool);
    cr_assert_lt(m->moved_bytes, m->bytes / 2);
    world_close(w);
    world_free(w);
}

/* With all the space of the world: one message in a hundred stays for as long as the test lasts. */
Test(compact, a_few_that_stay_do_not_hold_the_log)
{
    const struct sim_options calm = sim_calm(5);
    struct world *w = world_new(&calm);
    w->options.segments_max = 1'024;
    cr_assert_eq(world_open(w), 0);
    const struct spool_metrics *m = spool_metrics(w->spool);
    const uint64_t slack = 16, under_way = 4;
    unsigned stay = 0;
    uint64_t highest = 0;
    for (unsigned i = 0; i < 2'500; i++) {
        struct world_message *message = &w->messages[world_send(w, 12'000, 1)];
        cr_assert_eq(world_outcome(message, 0, i % 100 != 0), 0);
        stay += i % 100 == 0;
        world_run(w, 30);
        uint64_t used = m->segments_live;
        highest = MAX(highest, used);
        cr_assert_leq(used, 2 * (m->live_bytes / w->options.segment_bytes + 1) + slack + under_way);
    }
    cr_assert_gt(m->bytes / w->options.segment_bytes, 3 * highest, "it went round");
    cr_assert_geq(m->moved, stay);
    cr_assert_lt(m->moved_bytes, m->bytes / 20, "nor are they moved all the time");
    for (uint32_t i = 0; i < w->count; i++)
        if (w->messages[i].state == M_LIVE)
            cr_assert_eq(world_read(w, &w->messages[i]), 0);
    world_close(w);
    world_free(w);
}

/* Mail that comes and goes, until the log has been through all of its segments. */
static void flow(struct world *w, unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        int index = world_send(w, 12'000, 1);
        cr_assert_geq(index, 0);
        cr_assert_eq(world_outcome(&w->messages[index], 0, true), 0);
        world_run(w, 30);
    }
}

static bool aside; /* there is something in the quarantine directory */

static void on_aside(void *argument, const char *name)
{
    (void)argument;
    aside = aside || strstr(name, "-moved") != NULL;
}

/* Its own record is gone: it is put aside, stays in the queue, and holds no segment. */
Test(compact, a_lost_message_does_not_hold_the_log)
{
    const struct sim_options calm = sim_calm(6);
    struct world *w = world_new(&calm);
    w->options.segments_max = 256;
    cr_assert_eq(world_open(w), 0);
    struct world_message *m = &w->messages[world_send(w, 5'000, 1)];
    flow(w, 3);
    world_close(w);
    cr_assert_eq(world_open(w), 0); /* not in memory any more */
    world_compare(w);
    uint32_t offset = m->stored.offset;
    cr_assert_eq(m->stored.segment, 1);
    const char *file = "spool/log-000/segment-000000";
    cr_assert_eq(sim_corrupt(w->sim, w->machine, file, offset + 500, 1), 0);
    cr_assert_eq(world_read(w, m), -EBADMSG);
    flow(w, 500);
    world_run(w, 60'000);
    flow(w, 50);
    world_run(w, 10'000);
    const struct spool_metrics *numbers = spool_metrics(w->spool);
    cr_assert_leq(numbers->segments_live, 24);
    cr_assert_eq(numbers->live_messages, 1);
    cr_assert_eq(numbers->live_bytes, 0);
    aside = false;
    cr_assert_geq(w->ring->ops->now_list(w->ring, "spool/quarantine", on_aside, NULL), 0);
    cr_assert(aside);
    cr_assert_eq(world_read(w, m), -EBADMSG);
    uint64_t quarantined = numbers->quarantined;
    world_run(w, 600'000);
    cr_assert_eq(numbers->quarantined, quarantined, "nobody looks for it again");
    /* An operator discards it. */
    cr_assert_eq(world_outcome(m, 0, true), 0);
    world_run(w, 2'000);
    cr_assert_eq(m->state, M_FINISHED);
    cr_assert_eq(numbers->live_messages, 0);
    world_close(w);
    world_free(w);
}

/* A piece of its body is gone: what is left goes on as damaged, with its outcomes. */
Test(compact, a_damaged_message_does_not_hold_the_log)
{
    const struct sim_options calm = sim_calm(7);
    struct world *w = world_new(&calm);
    w->options.segments_max = 256;
    cr_assert_eq(world_open(w), 0);
    struct world_message *m = &w->messages[world_send(w, 100'000, 3)];
    cr_assert_eq(world_outcome(m, 1, true), 0);
    flow(w, 3);
    world_close(w);
    cr_assert_eq(world_open(w), 0);
    world_compare(w);
    (void)sim_corrupt(w->sim, w->machine, "spool/log-000/segment-000000", 6'000, 1);
    cr_assert_eq(world_read(w, m), -EBADMSG);
    flow(w, 500);
    world_run(w, 60'000);
    flow(w, 50);
    world_run(w, 10'000);
    const struct spool_metrics *numbers = spool_metrics(w->spool);
    cr_assert_leq(numbers->segments_live, 24);
    cr_assert_geq(numbers->moved, 1);
    cr_assert_eq(world_read(w, m), -EBADMSG, "never to be sent as if it were whole");
    m->bytes = 0; /* of what is left, which the recovery tells as it was */
    world_close(w);
    w->options.found = NULL;
    cr_assert_eq(world_open(w), 0);
    cr_assert_eq(w->report.messages_live, 1);
    cr_assert_eq(w->report.messages_damaged, 1);
    cr_assert_eq(w->report.damages, 0, "the damage is not in the log any more");
    world_close(w);
    world_free(w);
}

/* A message that no space is left for, walk after walk; then there is some, and one read fails. */
Test(compact, a_read_that_fails_once_loses_nothing)
{
    for (unsigned skip = 0; skip < 24; skip++) {
        const struct sim_options calm = sim_calm(10 + skip);
        struct world *w = world_new(&calm);
        cr_assert_eq(world_open(w), 0);
        struct world_message *m = &w->messages[world_send(w, 700'000, 1)];
        flow(w, 90);
        world_close(w);
        cr_assert_eq(world_open(w), 0); /* not in memory any more */
        world_compare(w);
        sim_disk_bytes(w->sim, w->machine, 1);
        world_run(w, 60'000);
        cr_assert_eq(spool_metrics(w->spool)->moved, 0);
        const uint64_t some = 4 * w->options.segment_bytes + 100'000;
        sim_fail(w->sim, w->machine, SIM_READ, skip, 1, -EIO);
        for (unsigned i = 0; i < 2; i++) { /* the copy that was begun has taken what there was */
            sim_disk_bytes(w->sim, w->machine, sim_disk_used(w->sim, w->machine) + some);
            world_run(w, 600'000);
        }
        cr_assert_geq(spool_metrics(w->spool)->moved, 1);
        cr_assert_eq(world_read(w, m), 0, "read %u", skip);
        world_close(w);
        world_free(w);
    }
}

Test(compact, failed_writes_lose_nothing)
{
    struct world *w = pressed(4, 60);
    for (unsigned i = 0; i < 200; i++) {
        if (i % 5 == 0)
            sim_fail(w->sim, w->machine, SIM_WRITE, i % 7, 1, -EIO);
        if (spool_room(w->spool, 0) < 0) {
            world_run(w, 2'000);
            continue;
        }
        int index = world_send(w, 12'000, 1);
        if (index >= 0)
            (void)world_outcome(&w->messages[index], 0, true);
        world_run(w, 30);
    }
    sim_fail(w->sim, w->machine, SIM_WRITE, 0, 0, 0);
    world_run(w, 5'000);
    world_crash(w, SIM_POWER);
    cr_assert_eq(world_open(w), 0);
    world_compare(w);
    for (uint32_t i = 0; i < w->count; i++)
        if (w->messages[i].state == M_LIVE)
            cr_assert_eq(world_read(w, &w->messages[i]), 0);
    world_close(w);
    world_free(w);
}

/* What is appended to two messages out of three is dead with the next one's. */
static void deferrals(struct world *w, unsigned turn)
{
    for (unsigned i = 0; i < 16; i++) {
        struct world_message *m = &w->messages[(turn * 16 + i) % w->count];
        if (m->state == M_LIVE && !m->outcome_busy)
            (void)world_outcome(m, i % 2, false);
    }
}

static void all_end(struct world *w)
{
    for (unsigned turn = 0; turn < 400 && spool_metrics(w->spool)->live_messages > 0; turn++) {
        for (uint32_t i = 0; i < w->count; i++) {
            struct world_message *m = &w->messages[i];
            for (uint32_t r = 0; r < m->recipients && m->state == M_LIVE && !m->outcome_busy; r++)
                if ((m->done & 1u << r) == 0)
                    (void)world_outcome(m, r, true);
        }
        world_run(w, 1'000);
    }
}

/* Full of messages that wait, and every write but a few fails for some minutes: outcomes and moves
 * both take what is left. When the disk works again all of it is recorded, without a new start. */
Test(compact, a_full_log_comes_back_after_writes_that_failed)
{
    const struct sim_options calm = sim_calm(8);
    struct world *w = world_new(&calm);
    w->options.segments_max = 8;
    cr_assert_eq(world_open(w), 0);
    while (spool_room(w->spool, 0) == 0)
        cr_assert_geq(world_send(w, 6'000, 2), 0);
    for (unsigned i = 0; i < 1'500; i++) {
        sim_fail(w->sim, w->machine, SIM_WRITE, i % 7, 1, -EIO);
        deferrals(w, i);
        world_run(w, 200);
    }
    sim_fail(w->sim, w->machine, SIM_WRITE, 0, 0, 0);
    cr_assert_gt(spool_metrics(w->spool)->writes_failed, 50);
    all_end(w);
    cr_assert_eq(spool_metrics(w->spool)->live_messages, 0);
    cr_assert_eq(spool_room(w->spool, 0), 0);
    world_close(w);
    cr_assert_eq(world_open(w), 0);
    cr_assert_eq(w->report.messages_live, 0);
    world_close(w);
    world_free(w);
}

/* Each write that fails ends a segment, of which next to nothing is used. */
Test(compact, segments_that_ended_early_do_not_fill_the_log)
{
    const struct sim_options calm = sim_calm(9);
    struct world *w = world_new(&calm);
    w->options.segments_max = 8;
    cr_assert_eq(world_open(w), 0);
    for (unsigned i = 0; i < 200 && spool_room(w->spool, 0) == 0; i++) {
        cr_assert_geq(world_send(w, 500, 2), 0);
        world_run(w, 200);
        sim_fail(w->sim, w->machine, SIM_WRITE, 0, 1, -EIO);
        (void)world_outcome(&w->messages[i], 0, false);
        world_run(w, 200);
    }
    sim_fail(w->sim, w->machine, SIM_WRITE, 0, 0, 0);
    cr_assert_gt(spool_metrics(w->spool)->writes_failed, 5);
    cr_assert_neq(spool_room(w->spool, 0), 0);
    world_run(w, 30'000);
    cr_assert_eq(spool_room(w->spool, 0), 0);
    cr_assert_gt(spool_metrics(w->spool)->moved, 0);
    for (uint32_t i = 0; i < w->count; i++)
        if (w->messages[i].state == M_LIVE)
            cr_assert_eq(world_read(w, &w->messages[i]), 0);
    all_end(w);
    cr_assert_eq(spool_metrics(w->spool)->live_messages, 0);
    world_close(w);
    world_free(w);
}
