/*
 * test_segment.c - files are made ahead, used in turn, retired from the oldest on
 */
#include "queue/segment.h"
#include "tests/queue/spool_world.h"

struct files {
    struct world *w;
    struct segments segments;
    struct hook hook;
    struct timer timer; /* makes the loop turn */
};

static void run(struct hook *hook)
{
    segments_run(&container_of(hook, struct files, hook)->segments);
}

static void turn(struct timer *timer)
{
    struct files *f = container_of(timer, struct files, timer);
    segments_tick(&f->segments);
    shard_timer_arm(&f->w->shard, timer, 500);
}

static struct files *files_new(uint64_t seed, uint32_t count, uint64_t disk_bytes)
{
    struct sim_options calm = sim_calm(seed);
    calm.disk_bytes = disk_bytes;
    struct files *f = calloc(1, sizeof(*f));
    f->w = world_new(&calm);
    const struct ring_options ring = {
        .entries = 64, .sockets_max = 256, .recv_buffers = 4, .recv_buffer_bytes = 256
    };
    f->w->ring = sim_ring(f->w->sim, f->w->machine, &ring);
    shard_init(&f->w->shard, f->w->ring, NULL, 0);
    cr_assert_eq(f->w->ring->ops->now_mkdir(f->w->ring, "spool/log-000", 0700), 0);
    cr_assert_eq(
        segments_init(&f->segments, &f->w->shard, "spool/log-000", 256 * 1'024, count, 2, 2), 0);
    shard_hook(&f->w->shard, &f->hook, run);
    timer_init(&f->timer, turn);
    shard_timer_arm(&f->w->shard, &f->timer, 1);
    sim_shard(f->w->sim, &f->w->shard);
    return f;
}

static void files_free(struct files *f)
{
    world_run(f->w, 30'000);
    segments_free(&f->segments);
    ring_free(f->w->ring);
    world_free(f->w);
    free(f);
}

Test(segment, a_full_disk_makes_none_and_leaves_nothing_behind)
{
    struct files *f = files_new(1, 16, 200 * 1'024);
    struct segment *segment;
    cr_assert_eq(segments_first(&f->segments), -ENOSPC);
    world_run(f->w, 20'000);
    cr_assert_eq(segments_take(&f->segments, true, &segment), -ENOSPC);
    cr_assert_eq(f->segments.states[SEGMENT_FREE], 0);
    cr_assert_lt(sim_disk_used(f->w->sim, f->w->machine), 100 * 1'024);
    sim_disk_bytes(f->w->sim, f->w->machine, 0);
    world_run(f->w, 20'000);
    cr_assert_eq(f->segments.states[SEGMENT_FREE], 2);
    files_free(f);
}

Test(segment, a_failed_sync_of_file_or_directory_is_not_free)
{
    for (unsigned skip = 0; skip < 2; skip++) {
        struct files *f = files_new(2 + skip, 16, 0);
        sim_fail(f->w->sim, f->w->machine, SIM_SYNC, skip, 1'000'000, -EIO);
        world_run(f->w, 5'000);
        cr_assert_eq(f->segments.states[SEGMENT_FREE], 0);
        sim_fail(f->w->sim, f->w->machine, SIM_SYNC, 0, 0, 0);
        world_run(f->w, 5'000);
        cr_assert_eq(f->segments.states[SEGMENT_FREE], 2);
        files_free(f);
    }
}

Test(segment, the_reserve_is_not_for_mail)
{
    struct files *f = files_new(4, 4, 0);
    struct segment *segment;
    world_run(f->w, 5'000);
    for (uint32_t i = 1; i <= 4; i++) {
        cr_assert_eq(segments_take(&f->segments, false, &segment), i <= 2 ? 0 : -ENOSPC);
        if (i > 2)
            cr_assert_eq(segments_take(&f->segments, true, &segment), 0);
        cr_assert_eq(segment->sequence, i);
        world_run(f->w, 5'000);
    }
    cr_assert_eq(segments_take(&f->segments, true, &segment), -ENOSPC);
    files_free(f);
}

Test(segment, a_held_one_stops_retirement_of_all_after_it)
{
    struct files *f = files_new(5, 8, 0);
    struct segment *segment;
    for (uint32_t i = 1; i <= 4; i++) {
        world_run(f->w, 5'000);
        cr_assert_eq(segments_take(&f->segments, true, &segment), 0);
    }
    segments_hold(&f->segments, 2);
    segments_advance(&f->segments, 4);
    cr_assert_eq(f->segments.oldest, 2);
    (void)segments_retire(&f->segments, f->segments.oldest);
    cr_assert_null(segments_find(&f->segments, 1));
    cr_assert_not_null(segments_find(&f->segments, 2));
    cr_assert_not_null(segments_find(&f->segments, 3));
    segments_release(&f->segments, 2);
    segments_advance(&f->segments, 4);
    cr_assert_eq(f->segments.oldest, 4);
    (void)segments_retire(&f->segments, 4);
    cr_assert_null(segments_find(&f->segments, 3));
    cr_assert_not_null(segments_find(&f->segments, 4));
    files_free(f);
}

Test(segment, each_use_has_a_key_of_its_own)
{
    struct files *f = files_new(6, 4, 0);
    struct segment *segment;
    uint64_t keys[3];
    for (unsigned i = 0; i < 3; i++) {
        world_run(f->w, 5'000);
        cr_assert_eq(segments_take(&f->segments, true, &segment), 0);
        keys[i] = segment->key;
        segments_advance(&f->segments, segment->sequence + 1);
        (void)segments_retire(&f->segments, f->segments.oldest);
    }
    cr_assert_neq(keys[0], keys[1]);
    cr_assert_neq(keys[1], keys[2]);
    files_free(f);
}
