/*
 * test_recovery.c - damage is found, put aside and told; all the rest is found
 */
#include <fcntl.h>

#include "tests/queue/spool_world.h"

static const char first_file[] = "spool/log-000/segment-000000";

/* A log with so many small messages, each in a write of its own, in the first segment; closed, or
 * left by a power cut right after the last one was acknowledged. */
static struct world *small_log(uint64_t seed, uint32_t messages, bool cut)
{
    const struct sim_options calm = sim_calm(seed);
    struct world *w = world_new(&calm);
    cr_assert_eq(world_open(w), 0);
    for (uint32_t i = 0; i < messages; i++)
        cr_assert_eq(world_send(w, 500, 1), (int)i);
    if (cut)
        world_crash(w, SIM_POWER);
    else
        world_close(w);
    return w;
}

static uint32_t found(const struct world *w)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < w->count; i++)
        count += w->messages[i].found;
    return count;
}

static void count_name(void *argument, const char *name)
{
    *(uint32_t *)argument += name[0] != '.';
}

static uint32_t quarantined(struct world *w)
{
    uint32_t count = 0;
    (void)w->ring->ops->now_list(w->ring, "spool/quarantine", count_name, &count);
    return count;
}

Test(recovery, a_damaged_record_costs_itself_and_is_told)
{
    for (uint32_t victim = 0; victim < 10; victim++) {
        struct world *w = small_log(10 + victim, 10, false);
        uint32_t offset = w->messages[victim].stored.offset;
        for (unsigned where = 0; where < 3; where++) {
            const uint32_t at[] = { 0, 30, 200 };
            cr_assert_eq(sim_corrupt(w->sim, w->machine, first_file, offset + at[where], 1), 0);
            cr_assert_eq(world_open(w), 0);
            cr_assert_eq(w->report.damages, 1);
            cr_assert_eq(w->report.quarantine_failed, 0);
            cr_assert_eq(quarantined(w), 1);
            cr_assert_eq(found(w), 9);
            cr_assert(!w->messages[victim].found);
            world_close(w);
        }
        world_free(w);
    }
}

Test(recovery, a_damaged_batch_head_costs_nothing)
{
    for (uint32_t victim = 0; victim < 10; victim++) {
        struct world *w = small_log(30 + victim, 10, false);
        uint32_t offset = w->messages[victim].stored.offset & ~4'095u;
        cr_assert_eq(sim_corrupt(w->sim, w->machine, first_file, offset, 64), 0);
        cr_assert_eq(world_open(w), 0);
        cr_assert_eq(found(w), 10, "victim %u", victim);
        cr_assert_geq(w->report.damages, 1);
        world_close(w);
        world_free(w);
    }
}

Test(recovery, damage_in_the_last_write_costs_that_message_alone)
{
    struct world *w = small_log(50, 10, true);
    uint32_t offset = w->messages[9].stored.offset;
    cr_assert_eq(sim_corrupt(w->sim, w->machine, first_file, offset + 50, 1), 0);
    cr_assert_eq(world_open(w), 0);
    cr_assert_eq(found(w), 9);
    cr_assert_gt(w->report.torn_bytes, 0);
    cr_assert_eq(w->report.damages, 0);
    cr_assert_geq(world_send(w, 10, 1), 0); /* the next segment tells where this one ended */
    world_close(w);
    uint64_t torn = w->report.torn_bytes;
    for (unsigned again = 0; again < 2; again++) {
        cr_assert_eq(world_open(w), 0);
        cr_assert_eq(found(w), 10);
        cr_assert_eq(w->report.torn_bytes, torn);
        cr_assert_eq(w->report.damages, 0);
        world_close(w);
    }
    world_free(w);
}

Test(recovery, a_lost_sector_in_every_place)
{
    for (uint32_t sector = 0; sector < 60; sector++) {
        struct world *w = small_log(100 + sector, 12, false);
        cr_assert_eq(sim_corrupt(w->sim, w->machine, first_file, sector * 1'024u, 512), 0);
        cr_assert_eq(world_open(w), 0);
        cr_assert_geq(found(w), 11, "sector %u: %u", sector, found(w));
        if (found(w) < 12)
            cr_assert_gt(w->report.damages, 0, "sector %u", sector);
        world_close(w);
        world_free(w);
    }
}

Test(recovery, a_missing_file_is_told)
{
    const struct sim_options calm = sim_calm(60);
    struct world *w = world_new(&calm);
    cr_assert_eq(world_open(w), 0);
    for (unsigned i = 0; i < 60; i++)
        cr_assert_geq(world_send(w, 15'000, 1), 0);
    world_close(w);
    struct stored middle = w->messages[30].stored;
    cr_assert_gt(middle.segment, 1);
    char path[64];
    cr_assert_eq(world_open(w), 0);
    cr_assert_eq(w->report.segments_gone, 0);
    world_close(w);
    const struct ring_options options = {
        .entries = 8, .sockets_max = 8, .recv_buffers = 4, .recv_buffer_bytes = 256
    };
    struct ring *ring = sim_ring(w->sim, w->machine, &options);
    snprintf(path, sizeof(path), "spool/log-000/segment-%06u", (unsigned)middle.segment - 1);
    cr_assert_eq(ring->ops->now_unlink(ring, path), 0);
    ring_free(ring);
    cr_assert_eq(world_open(w), 0);
    cr_assert_eq(w->report.segments_gone, 1);
    cr_assert(!w->messages[30].found);
    cr_assert(w->messages[59].found);
    world_close(w);
    world_free(w);
}

Test(recovery, half_made_files_and_strange_names_never_refuse_a_start)
{
    struct world *w = small_log(70, 3, false);
    const struct ring_options options = {
        .entries = 8, .sockets_max = 8, .recv_buffers = 4, .recv_buffer_bytes = 256
    };
    struct ring *ring = sim_ring(w->sim, w->machine, &options);
    const char *names[] = { "spool/log-000/segment-000009", "spool/log-000/segment-000010",
                            "spool/log-000/segment-x", "spool/log-000/lost+found" };
    for (unsigned i = 0; i < ARRAY_COUNT(names); i++) {
        int fd = ring->ops->now_open(ring, names[i], O_RDWR | O_CREAT, 0600);
        cr_assert_geq(fd, 0);
        if (i > 0)
            cr_assert_eq(ring->ops->now_write(ring, fd, "half a file", 11, 0), 11);
        (void)ring->ops->now_close(ring, fd);
    }
    ring_free(ring);
    cr_assert_eq(world_open(w), 0);
    cr_assert_eq(found(w), 3);
    world_run(w, 5'000);
    cr_assert_geq(world_send(w, 100, 1), 0);
    world_close(w);
    world_free(w);
}

Test(recovery, a_damaged_chunk_marks_its_message)
{
    const struct sim_options calm = sim_calm(80);
    struct world *w = world_new(&calm);
    cr_assert_eq(world_open(w), 0);
    cr_assert_eq(world_send(w, 60'000, 1), 0);
    cr_assert_eq(world_send(w, 100, 1), 1);
    world_close(w);
    cr_assert_eq(sim_corrupt(w->sim, w->machine, first_file, 6'000, 1), 0);
    cr_assert_eq(world_open(w), 0);
    cr_assert_eq(w->report.messages_damaged, 1);
    cr_assert_eq(w->report.damages, 1);
    cr_assert_eq(found(w), 2);
    cr_assert_eq(world_read(w, &w->messages[0]), -EBADMSG);
    cr_assert_eq(world_read(w, &w->messages[1]), 0);
    world_close(w);
    world_free(w);
}
