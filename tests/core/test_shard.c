/*
 * test_shard.c - the loop's order, its tasks, and what shards hand each other
 *
 * Most on simulated rings; one test with two real ones and their threads.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include "core/shard.h"
#include "tests/sim/sim.h"

enum { EVENTS_MAX = 64, KIND = 3 };

struct world {
    struct sim *sim;
    struct shard_group group;
    struct shard shards[3];
    char events[EVENTS_MAX];
    unsigned events_count;
};

static struct world *world;

static void event(char what)
{
    cr_assert_lt(world->events_count, EVENTS_MAX - 1);
    world->events[world->events_count++] = what;
}

static void world_new(unsigned shards)
{
    const struct sim_options calm = sim_calm(1);
    const struct ring_options ring = {
        .entries = 64, .sockets_max = 8, .recv_buffers = 4, .recv_buffer_bytes = 256
    };
    world = calloc(1, sizeof(*world));
    world->sim = sim_new(&calm);
    unsigned machine = sim_machine(world->sim, "192.0.2.1");
    cr_assert_eq(shard_group_init(&world->group, shards), 0);
    for (unsigned i = 0; i < shards; i++)
        shard_init(&world->shards[i], sim_ring(world->sim, machine, &ring), &world->group, i);
}

static void world_free(void)
{
    sim_free(world->sim);
    shard_group_free(&world->group);
    free(world);
    world = NULL;
}

static void step(unsigned shard)
{
    struct shard *s = &world->shards[shard];
    cr_assert_eq(shard_step(s, s->now_ms), 0);
}

/* ---- tasks ---- */

struct named_task {
    struct task task;
    char name;
    struct shard *shard;
    struct named_task *queue_next, *forget;
};

static void task_run(struct task *task)
{
    struct named_task *t = container_of(task, struct named_task, task);
    event(t->name);
    if (t->forget != NULL)
        shard_forget(&t->forget->task);
    if (t->queue_next != NULL)
        shard_run_later(t->shard, &t->queue_next->task);
}

Test(shard, tasks_run_once_and_in_order)
{
    world_new(1);
    struct shard *s = &world->shards[0];
    struct named_task a = { .name = 'a' }, b = { .name = 'b' }, c = { .name = 'c' };
    task_init(&a.task, task_run);
    task_init(&b.task, task_run);
    task_init(&c.task, task_run);
    shard_forget(&a.task); /* in no list: harmless */
    shard_run_later(s, &b.task);
    shard_run_later(s, &a.task);
    shard_run_later(s, &b.task);
    shard_run_later(s, &c.task);
    shard_forget(&c.task);
    step(0);
    step(0);
    cr_assert_str_eq(world->events, "ba");
    world_free();
}

Test(shard, what_tasks_queue_is_for_the_next_step)
{
    world_new(1);
    struct shard *s = &world->shards[0];
    struct named_task a = { .name = 'a', .shard = s }, b = { .name = 'b', .shard = s };
    struct named_task c = { .name = 'c' };
    task_init(&a.task, task_run);
    task_init(&b.task, task_run);
    task_init(&c.task, task_run);
    a.queue_next = &a; /* itself, for ever */
    a.forget = &b;
    shard_run_later(s, &a.task);
    shard_run_later(s, &b.task);
    shard_run_later(s, &c.task);
    step(0);
    cr_assert_str_eq(world->events, "ac", "b was forgotten by a, in the same step");
    step(0);
    cr_assert_str_eq(world->events, "aca");
    world_free();
}

/* ---- the order of a step ---- */

static void on_hook(struct hook *hook)
{
    (void)hook;
    event('h');
}

static void on_timer(struct timer *timer)
{
    (void)timer;
    event('t');
}

static void on_handoff(struct shard *shard, const struct handoff *handoff)
{
    (void)shard;
    cr_assert_eq(handoff->kind, KIND);
    event((char)handoff->number);
}

Test(shard, handoffs_then_timers_then_tasks_then_hooks)
{
    world_new(2);
    struct shard *s = &world->shards[0];
    struct named_task a = { .name = 'a' };
    struct hook hook;
    struct timer timer;
    shard_handle(s, KIND, on_handoff);
    task_init(&a.task, task_run);
    timer_init(&timer, on_timer);
    shard_hook(s, &hook, on_hook);
    step(0);
    cr_assert_str_eq(world->events, "h");
    shard_run_later(s, &a.task);
    shard_timer_arm(s, &timer, 0);
    cr_assert_eq(shard_handoff(s, 0, (struct handoff) { .kind = KIND, .number = '1' }), 0);
    cr_assert_eq(
        shard_handoff(&world->shards[1], 0, (struct handoff) { .kind = KIND, .number = '2' }), 0);
    s->woken = true;
    step(0);
    cr_assert_str_eq(world->events, "h12tah");
    world_free();
}

/* ---- handoffs ---- */

static unsigned received;
static uint64_t expected_next;

static void on_number(struct shard *shard, const struct handoff *handoff)
{
    (void)shard;
    cr_assert_eq(handoff->number, expected_next++, "in order, none lost");
    received++;
}

Test(shard, a_kind_has_one_handler, .signal = SIGABRT)
{
    world_new(1);
    shard_handle(&world->shards[0], KIND, on_handoff);
    shard_handle(&world->shards[0], KIND, on_handoff);
}

Test(shard, a_full_ring_says_so_and_goes_on_when_it_was_emptied)
{
    world_new(3);
    received = 0;
    expected_next = 0;
    shard_handle(&world->shards[1], KIND, on_number);
    for (unsigned i = 0; i < HANDOFFS_MAX; i++)
        cr_assert_eq(
            shard_handoff(&world->shards[0], 1, (struct handoff) { .kind = KIND, .number = i }), 0);
    cr_assert_eq(shard_handoff(&world->shards[0], 1, (struct handoff) { .kind = KIND }), -EAGAIN);
    /* Of each pair its own. */
    cr_assert_eq(shard_handoff(&world->shards[0], 2, (struct handoff) { .kind = KIND }), 0);
    sim_shard(world->sim, &world->shards[1]);
    sim_run(world->sim, sim_now_ms(world->sim) + 1'000);
    cr_assert_eq(received, HANDOFFS_MAX);
    for (unsigned i = 0; i < 10; i++)
        cr_assert_eq(shard_handoff(&world->shards[0], 1,
                                   (struct handoff) { .kind = KIND, .number = HANDOFFS_MAX + i }),
                     0);
    sim_run(world->sim, sim_now_ms(world->sim) + 1'000);
    cr_assert_eq(received, HANDOFFS_MAX + 10);
    world_free();
}

static void on_echo(struct shard *shard, const struct handoff *handoff)
{
    if (handoff->number == 0)
        return;
    struct handoff answer = { .kind = KIND, .number = handoff->number - 1 };
    cr_assert_eq(shard_handoff(shard, handoff->from, answer), 0);
    received++;
}

Test(shard, who_is_asleep_is_woken)
{
    world_new(3);
    received = 0;
    for (unsigned i = 0; i < 3; i++) {
        shard_handle(&world->shards[i], KIND, on_echo);
        sim_shard(world->sim, &world->shards[i]);
    }
    sim_run(world->sim, sim_now_ms(world->sim) + 1'000);
    cr_assert_eq(
        shard_handoff(&world->shards[0], 1, (struct handoff) { .kind = KIND, .number = 100 }), 0);
    cr_assert_eq(
        shard_handoff(&world->shards[2], 2, (struct handoff) { .kind = KIND, .number = 50 }), 0);
    sim_run(world->sim, sim_now_ms(world->sim) + 60'000);
    cr_assert_eq(received, 150);
    world_free();
}

/* ---- real rings, real threads ---- */

enum { COUNT = 200'000 };

struct thread_shard {
    struct shard shard;
    struct shard_group *group;
    unsigned index;
    uint64_t next_in, next_out;
    struct task task;
    int result;
};

static void real_on_number(struct shard *shard, const struct handoff *handoff)
{
    struct thread_shard *t = shard->owner;
    if (handoff->number != t->next_in)
        abort();
    t->next_in++;
}

static void real_send(struct task *task)
{
    struct thread_shard *t = container_of(task, struct thread_shard, task);
    unsigned other = 1 - t->index;
    while (t->next_out < COUNT) {
        struct handoff handoff = { .kind = KIND, .number = t->next_out };
        if (shard_handoff(&t->shard, other, handoff) < 0)
            break;
        t->next_out++;
    }
    if (t->next_out < COUNT)
        shard_run_later(&t->shard, &t->task);
}

static void real_stop(struct hook *hook);

struct real_hook {
    struct hook hook;
    struct thread_shard *t;
    bool last; /* one step more: the last wake leaves with it */
};

static void real_stop(struct hook *hook)
{
    struct real_hook *h = container_of(hook, struct real_hook, hook);
    if (h->last)
        h->t->shard.stop = true;
    if (h->t->next_in == COUNT && h->t->next_out == COUNT) {
        h->last = true;
        h->t->shard.woken = true;
    }
}

static void *real_thread(void *argument)
{
    struct thread_shard *t = argument;
    struct real_hook hook = { .t = t };
    shard_hook(&t->shard, &hook.hook, real_stop);
    shard_run_later(&t->shard, &t->task);
    t->result = shard_loop(&t->shard);
    return NULL;
}

Test(shard, two_threads_hand_each_other_everything)
{
    const struct ring_options options = {
        .entries = 64, .sockets_max = 16, .recv_buffers = 4, .recv_buffer_bytes = 4'096
    };
    struct shard_group group;
    struct thread_shard shards[2] = { 0 };
    pthread_t threads[2];
    cr_assert_eq(shard_group_init(&group, 2), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct ring *ring;
        const char *what;
        int r = ring_new(&options, &ring, &what);
        if (r == -EPERM || r == -ENOSYS)
            cr_skip_test("no io_uring here: %s", what);
        cr_assert_eq(r, 0, "%s", what);
        shards[i].group = &group;
        shards[i].index = i;
        shard_init(&shards[i].shard, ring, &group, i);
        shards[i].shard.owner = &shards[i];
        shard_handle(&shards[i].shard, KIND, real_on_number);
        task_init(&shards[i].task, real_send);
    }
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, real_thread, &shards[i]), 0);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    for (unsigned i = 0; i < 2; i++) {
        cr_assert_eq(shards[i].result, 0);
        cr_assert_eq(shards[i].next_in, COUNT);
        ring_free(shards[i].shard.ring);
    }
    shard_group_free(&group);
}

/* ---- the clock ---- */

struct clocks { /* a ring of which only the clocks are there */
    struct ring ring;
    uint64_t monotonic_ns;
    int64_t wall_us;
    int64_t slept_us;
    unsigned reads, late_at; /* this reading was kept from running between two clocks */
    int64_t late_us;
};

static void clocks_clock(struct ring *ring, uint64_t *monotonic_ns, int64_t *wall_us)
{
    struct clocks *c = (struct clocks *)ring;
    *wall_us = c->wall_us;
    *monotonic_ns = c->monotonic_ns;
    if (++c->reads == c->late_at)
        *wall_us -= c->late_us;
}

static int64_t clocks_slept(struct ring *ring)
{
    return ((struct clocks *)ring)->slept_us;
}

static uint64_t clocks_entropy(struct ring *ring)
{
    (void)ring;
    return 1;
}

static int clocks_wait(struct ring *ring, uint64_t until_ms)
{
    (void)ring;
    (void)until_ms;
    return 0;
}

static const struct ring_ops clocks_ops = {
    .clock = clocks_clock, .slept = clocks_slept, .entropy = clocks_entropy, .wait = clocks_wait
};

enum { TEN_YEARS_S = 315'576'000 };
static const int64_t day_one_us = 1'893'456'000'000'000; /* 2030 */

static void clocks_new(struct clocks *c, struct shard *s)
{
    *c = (struct clocks) { .ring.ops = &clocks_ops,
                           .monotonic_ns = 5'000'000'000,
                           .wall_us = day_one_us,
                           .slept_us = 7'000'000 };
    shard_init(s, &c->ring, NULL, 0);
    cr_assert_eq(s->wall_us, day_one_us);
    cr_assert_eq(s->steady_us, day_one_us);
}

static void clocks_pass(struct clocks *c, struct shard *s, int64_t us)
{
    c->monotonic_ns += (uint64_t)us * 1'000;
    c->wall_us += us;
    cr_assert_eq(shard_step(s, 0), 0);
}

Test(shard, a_clock_that_is_set_makes_nothing_older)
{
    struct clocks c;
    struct shard s;
    clocks_new(&c, &s);
    const int64_t steps_s[] = { TEN_YEARS_S, -TEN_YEARS_S, -TEN_YEARS_S, 2, -2, 0 };
    int64_t ahead_us = 0;
    for (unsigned i = 0; i < ARRAY_COUNT(steps_s); i++) {
        c.wall_us += steps_s[i] * 1'000'000;
        ahead_us += steps_s[i] * 1'000'000;
        clocks_pass(&c, &s, 100'000);
        cr_assert_eq(s.steady_us, day_one_us + 100'000 * (i + 1));
        cr_assert_eq(s.wall_us, s.steady_us + ahead_us, "dates are those of the clock");
        cr_assert_eq(shard_date_us(&s, day_one_us), day_one_us + ahead_us);
        cr_assert_eq(s.clock.steps, MIN(i + 1, 5));
        cr_assert_eq(s.clock.step_us, steps_s[MIN(i, 4)] * 1'000'000);
    }
}

Test(shard, small_steps_are_none_until_they_add_up)
{
    struct clocks c;
    struct shard s;
    clocks_new(&c, &s);
    for (unsigned i = 1; i <= 5; i++) {
        c.wall_us += 300'000;
        clocks_pass(&c, &s, 10);
        cr_assert_eq(s.clock.steps, i < 4 ? 0 : 1);
        cr_assert_eq(s.steady_us, day_one_us + 10 * i);
    }
    cr_assert_eq(s.clock.step_us, 1'200'000);
}

Test(shard, time_that_the_machine_was_suspended_has_passed)
{
    struct clocks c;
    struct shard s;
    clocks_new(&c, &s);
    c.wall_us += 3'600'000'000; /* the monotonic clock stood still */
    c.slept_us += 3'600'000'000;
    clocks_pass(&c, &s, 0);
    cr_assert_eq(s.clock.steps, 0);
    cr_assert_eq(s.steady_us, s.wall_us);
    c.wall_us += 3'600'000'000 + TEN_YEARS_S * INT64_C(1'000'000); /* both at once */
    c.slept_us += 3'600'000'000;
    clocks_pass(&c, &s, 0);
    cr_assert_eq(s.clock.steps, 1);
    cr_assert_eq(s.clock.step_us, TEN_YEARS_S * INT64_C(1'000'000));
    cr_assert_eq(s.steady_us, day_one_us + 7'200'000'000);
}

Test(shard, who_is_kept_from_running_between_two_clocks_sees_no_step)
{
    struct clocks c;
    struct shard s;
    clocks_new(&c, &s);
    c.late_at = c.reads + 1;
    c.late_us = 4'000'000;
    clocks_pass(&c, &s, 10);
    cr_assert_gt(c.reads, c.late_at);
    cr_assert_eq(s.clock.steps, 0);
    cr_assert_eq(s.wall_us, day_one_us + 10);
    cr_assert_eq(s.steady_us, day_one_us + 10);
}

Test(shard, what_the_clock_is_ahead_by_from_before_stays_so)
{
    struct clocks c;
    struct shard s;
    clocks_new(&c, &s);
    shard_clock_begin(&s, TEN_YEARS_S * INT64_C(1'000'000));
    cr_assert_eq(s.steady_us, day_one_us - TEN_YEARS_S * INT64_C(1'000'000));
    c.wall_us -= TEN_YEARS_S * INT64_C(1'000'000);
    clocks_pass(&c, &s, 10);
    cr_assert_eq(s.steady_us, s.wall_us, "it was put right");
    cr_assert_eq(s.clock.steps, 1);
}
