/*
 * shard.h - one thread's world: a ring, a clock, timers, and what is to be run next
 *
 * A shard owns everything it touches; two shards meet only in handoffs. Completions, timers and
 * handoffs leave facts and queue tasks; tasks run to their end. The loop is one function, so that
 * a thread calls it for ever and the simulator calls it for one of many shards at a time:
 *
 *   shard_step: wait (ring) -> clock -> handoffs -> timers -> tasks queued so far -> hooks
 *
 * The wall clock can be set, by any amount and at any time; the difference to the monotonic one
 * tells when that was (both are slewed alike). What follows it are dates. Ages and waits follow
 * steady_us.
 *
 * Hooks run at the end of each step, before the next wait: what was gathered in the step goes out
 * in one batch (the spool starts its write there).
 */
#ifndef RINGPOST_CORE_SHARD_H
#define RINGPOST_CORE_SHARD_H

#include "core/list.h"
#include "core/random.h"
#include "core/ring.h"
#include "core/timer.h"

enum {
    SHARDS_MAX = 64,           /* with the control thread's, which is the last one */
    HANDOFF_KINDS_MAX = 48,    /* numbered by the layers above */
    HANDOFFS_MAX = 1024,       /* waiting between two shards, one direction */
    CLOCK_STEP_US = 1'000'000, /* what the wall clock may be off before it counts as set anew */
};

struct task {
    struct list node;
    void (*run)(struct task *task);
};

struct hook {
    struct list node;
    void (*run)(struct hook *hook);
};

/* A message between shards: plain values, and a pointer whose ownership goes with it. */
struct handoff {
    uint32_t kind;
    uint32_t from; /* filled in: index of the sender */
    uint64_t number;
    void *pointer;
};

struct shard;
struct shard_group;
struct log;

typedef void (*handoff_handler)(struct shard *shard, const struct handoff *handoff);

struct shard {
    struct ring *ring;
    struct shard_group *group;
    unsigned index;
    uint64_t now_ms; /* monotonic; as of the last wait */
    uint64_t now_ns;
    int64_t wall_us;   /* since the epoch, as the clock is set: for dates */
    int64_t steady_us; /* the same without the clock's steps since then: for ages, for what is due
                          on record; time that the machine was suspended has passed */
    struct shard_clock {
        int64_t wall_us;   /* less the monotonic time, as of the last step */
        int64_t steady_us; /* less the monotonic time */
        int64_t slept_us;
        int64_t step_us; /* the last one */
        uint64_t steps;  /* of the wall clock, that were seen */
    } clock;
    struct timers timers;
    struct random random;
    struct list runnable; /* tasks */
    struct list hooks;
    handoff_handler handlers[HANDOFF_KINDS_MAX];
    struct log *log; /* this shard's log buffer; NULL: nothing is logged */
    void *owner;     /* what the layer above keeps per shard */
    uint32_t ran; /* tasks in this step: for hooks that want to know whether it was a quiet one */
    bool woken;
    bool stop;
};

/* Bounded rings between each pair of its shards. Made once, before the threads. */
struct shard_group {
    unsigned count;
    struct shard *shards[SHARDS_MAX];
    struct handoff_ring *handoffs; /* [from * count + to] */
};

[[nodiscard]] int shard_group_init(struct shard_group *group, unsigned count);
void shard_group_free(struct shard_group *group);

/* Takes the ring over. The shard becomes number index of group (which may be NULL: it is alone). */
void shard_init(struct shard *shard, struct ring *ring, struct shard_group *group, unsigned index);

/* At start: steps of the wall clock that are known of from before add up to so much. */
void shard_clock_begin(struct shard *shard, int64_t ahead_us);
/* A steady time as the wall clock would show it now. */
static inline int64_t shard_date_us(const struct shard *shard, int64_t steady_us)
{
    return steady_us + (shard->wall_us - shard->steady_us);
}
/* In whole seconds, both: the two clocks may be microseconds apart. */
static inline int64_t shard_date_s(const struct shard *shard, int64_t steady_s)
{
    const int64_t second_us = 1'000'000;
    return (shard_date_us(shard, steady_s * second_us) + second_us / 2) / second_us;
}

/* One turn of the loop; waits at most until limit_ms (monotonic). 0, or an errno of the ring. */
[[nodiscard]] int shard_step(struct shard *shard, uint64_t limit_ms);
/* Turns until shard->stop. */
[[nodiscard]] int shard_loop(struct shard *shard);

void task_init(struct task *task, void (*run)(struct task *task));
/* Queues the task for this step, or the next one if called from a task; once, however often asked.
 */
void shard_run_later(struct shard *shard, struct task *task);
/* Takes it out again: for owners that are about to be freed. */
void shard_forget(struct task *task);

void shard_hook(struct shard *shard, struct hook *hook, void (*run)(struct hook *hook));

static inline void shard_timer_arm(struct shard *shard, struct timer *timer, uint64_t delay_ms)
{
    timer_arm(&shard->timers, timer, shard->now_ms + delay_ms);
}
static inline void shard_timer_disarm(struct shard *shard, struct timer *timer)
{
    timer_disarm(&shard->timers, timer);
}

/* To shard number `to` of the same group, from this shard's thread; may be itself. 0, or -EAGAIN:
 * HANDOFFS_MAX are waiting there; the caller keeps the pointer. Order is kept per pair. */
[[nodiscard]] int shard_handoff(struct shard *from, unsigned to, struct handoff handoff);
void shard_handle(struct shard *shard, uint32_t kind, handoff_handler handler);

#endif
