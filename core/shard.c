/*
 * shard.c - the loop, its tasks and hooks, and the bounded rings between shards
 *
 * A handoff ring has one producer and one consumer: the producer owns tail, the consumer head. A
 * wake is sent only when the consumer has not been told since it last looked; the flag is cleared
 * before the rings are read, so a handoff posted meanwhile sends the next wake.
 */
#include "core/shard.h"

#include <errno.h>
#include <stdlib.h>

#include "core/check.h"
#include "core/memory.h"
#include "core/metrics.h"

static_assert((HANDOFFS_MAX & (HANDOFFS_MAX - 1)) == 0);

enum { CACHE_LINE = 64, MS_IN_NS = 1'000'000, US_IN_NS = 1'000, CLOCK_LOOKS_MAX = 4 };

struct handoff_ring {
    _Alignas(CACHE_LINE) uint32_t head;
    _Alignas(CACHE_LINE) uint32_t tail;
    _Alignas(CACHE_LINE) bool told; /* used of the diagonal's ring only: is this shard awake */
    struct handoff slots[HANDOFFS_MAX];
};

static struct handoff_ring *handoff_ring(const struct shard_group *group, unsigned from,
                                         unsigned to)
{
    return &group->handoffs[(size_t)from * group->count + to];
}

int shard_group_init(struct shard_group *group, unsigned count)
{
    CHECK(count > 0);
    CHECK(count <= SHARDS_MAX);
    *group = (struct shard_group) { .count = count };
    group->handoffs = memory_reserve(sizeof(struct handoff_ring) * count * count);
    return group->handoffs == NULL ? -ENOMEM : 0;
}

void shard_group_free(struct shard_group *group)
{
    memory_release(group->handoffs, sizeof(struct handoff_ring) * group->count * group->count);
    *group = (struct shard_group) { 0 };
}

static void shard_woken(struct ring *ring, void *argument)
{
    struct shard *shard = argument;
    CHECK(shard->ring == ring);
    shard->woken = true;
}

/* The wall clock less the monotonic one. Who is kept from running between two looks at clocks sees
 * a step that is none: two readings have to agree. */
static int64_t clock_difference(struct shard *shard)
{
    int64_t before_us = INT64_MAX;
    for (unsigned looks = 0;; looks++) {
        ring_clock(shard->ring, &shard->now_ns, &shard->wall_us);
        const int64_t now_us = shard->wall_us - (int64_t)(shard->now_ns / US_IN_NS);
        if (looks == CLOCK_LOOKS_MAX ||
            (looks > 0 && llabs(now_us - before_us) < CLOCK_STEP_US / 10))
            return now_us;
        before_us = now_us;
    }
}

/* Has it been set, or was the machine suspended? */
static void clock_moved(struct shard *shard)
{
    struct shard_clock *clock = &shard->clock;
    const int64_t moved_us = clock_difference(shard) - clock->wall_us;
    const int64_t slept_us = ring_slept_us(shard->ring) - clock->slept_us;
    if (llabs(moved_us) <= CLOCK_STEP_US)
        return;
    clock->slept_us += slept_us;
    clock->steady_us += slept_us;
    clock->wall_us += slept_us;
    const int64_t step_us = moved_us - slept_us;
    if (llabs(step_us) <= CLOCK_STEP_US)
        return;
    clock->wall_us += step_us;
    clock->step_us = step_us;
    metric_add(&clock->steps, 1);
}

static void shard_read_clock(struct shard *shard)
{
    ring_clock(shard->ring, &shard->now_ns, &shard->wall_us);
    const int64_t moved_us =
        shard->wall_us - (int64_t)(shard->now_ns / US_IN_NS) - shard->clock.wall_us;
    if (moved_us > CLOCK_STEP_US || moved_us < -CLOCK_STEP_US)
        clock_moved(shard);
    shard->now_ms = shard->now_ns / MS_IN_NS;
    shard->steady_us = (int64_t)(shard->now_ns / US_IN_NS) + shard->clock.steady_us;
}

void shard_clock_begin(struct shard *shard, int64_t ahead_us)
{
    shard->clock.steady_us = shard->clock.wall_us - ahead_us;
    shard_read_clock(shard);
}

void shard_init(struct shard *shard, struct ring *ring, struct shard_group *group, unsigned index)
{
    *shard = (struct shard) { .ring = ring, .group = group, .index = index };
    ring->woken = shard_woken;
    ring->woken_argument = shard;
    shard->clock.slept_us = ring_slept_us(ring);
    shard->clock.wall_us = clock_difference(shard);
    shard_clock_begin(shard, 0);
    timers_init(&shard->timers, shard->now_ms);
    random_seed(&shard->random, ring_entropy(ring));
    list_init(&shard->runnable);
    list_init(&shard->hooks);
    if (group == NULL)
        return;
    CHECK(index < group->count);
    CHECK(group->shards[index] == NULL);
    group->shards[index] = shard;
    shard->woken = true; /* what was posted before the thread ran is found in the first step */
}

static void shard_receive(struct shard *shard)
{
    struct shard_group *group = shard->group;
    (void)__atomic_exchange_n(&handoff_ring(group, shard->index, shard->index)->told, false,
                              __ATOMIC_SEQ_CST);
    for (unsigned from = 0; from < group->count; from++) {
        struct handoff_ring *ring = handoff_ring(group, from, shard->index);
        uint32_t tail = __atomic_load_n(&ring->tail, __ATOMIC_ACQUIRE);
        for (uint32_t head = ring->head; head != tail;) {
            struct handoff handoff = ring->slots[head % HANDOFFS_MAX];
            __atomic_store_n(&ring->head, ++head, __ATOMIC_RELEASE);
            CHECK(handoff.kind < HANDOFF_KINDS_MAX);
            CHECK(shard->handlers[handoff.kind] != NULL);
            shard->handlers[handoff.kind](shard, &handoff);
        }
    }
}

int shard_step(struct shard *shard, uint64_t limit_ms)
{
    uint64_t until_ms = 0;
    if (list_empty(&shard->runnable) && !shard->woken)
        until_ms = MIN(limit_ms, timers_next(&shard->timers));
    int r = ring_wait(shard->ring, until_ms);
    if (r < 0)
        return r;
    shard_read_clock(shard);
    if (shard->woken) {
        shard->woken = false;
        if (shard->group != NULL)
            shard_receive(shard);
    }
    timers_run(&shard->timers, shard->now_ms);

    struct list now; /* what these tasks queue is for the next step */
    list_init(&now);
    list_append(&now, &shard->runnable);
    shard->ran = 0;
    struct list *node;
    while ((node = list_pop(&now)) != NULL) {
        struct task *task = container_of(node, struct task, node);
        shard->ran++;
        task->run(task);
    }
    list_each_safe(hook, &shard->hooks)
    {
        struct hook *each = container_of(hook, struct hook, node);
        each->run(each);
    }
    return 0;
}

int shard_loop(struct shard *shard)
{
    while (!shard->stop) {
        int r = shard_step(shard, UINT64_MAX);
        if (r < 0)
            return r;
    }
    return 0;
}

void task_init(struct task *task, void (*run)(struct task *task))
{
    list_init(&task->node);
    task->run = run;
}

void shard_run_later(struct shard *shard, struct task *task)
{
    if (list_empty(&task->node))
        list_push(&shard->runnable, &task->node);
}

void shard_forget(struct task *task)
{
    list_remove(&task->node);
}

void shard_hook(struct shard *shard, struct hook *hook, void (*run)(struct hook *hook))
{
    hook->run = run;
    list_push(&shard->hooks, &hook->node);
}

int shard_handoff(struct shard *from, unsigned to, struct handoff handoff)
{
    struct shard_group *group = from->group;
    CHECK(group != NULL);
    CHECK(to < group->count);
    CHECK(group->shards[to] != NULL);
    struct handoff_ring *ring = handoff_ring(group, from->index, to);
    uint32_t head = __atomic_load_n(&ring->head, __ATOMIC_ACQUIRE);
    if (ring->tail - head == HANDOFFS_MAX)
        return -EAGAIN;
    handoff.from = from->index;
    ring->slots[ring->tail % HANDOFFS_MAX] = handoff;
    __atomic_store_n(&ring->tail, ring->tail + 1, __ATOMIC_RELEASE);
    if (!__atomic_exchange_n(&handoff_ring(group, to, to)->told, true, __ATOMIC_SEQ_CST))
        ring_wake(from->ring, group->shards[to]->ring);
    return 0;
}

void shard_handle(struct shard *shard, uint32_t kind, handoff_handler handler)
{
    CHECK(kind < HANDOFF_KINDS_MAX);
    CHECK(shard->handlers[kind] == NULL);
    shard->handlers[kind] = handler;
}
