/*
 * test_timer.c - the timer wheel against an array that is searched from end to end
 */
#include "core/timer.h"

#include <criterion/criterion.h>

#include "core/random.h"

enum { MODEL_TIMERS = 300, FIRED_MAX = 4096 };

struct model_timer {
    struct timer timer;
    bool armed;
    uint64_t due_ms;
    unsigned number;
};

static struct timers timers;
static struct model_timer model[MODEL_TIMERS];
static uint64_t now_ms;
static unsigned fired_count;
static uint64_t fired_last_ms;

static void model_arm(struct model_timer *m, uint64_t due_ms)
{
    timer_arm(&timers, &m->timer, due_ms);
    m->armed = true;
    m->due_ms = due_ms;
}

static void model_fired(struct timer *timer)
{
    struct model_timer *m = container_of(timer, struct model_timer, timer);
    cr_assert(m->armed, "timer %u fired and was not armed", m->number);
    cr_assert(m->due_ms <= now_ms, "timer %u fired early", m->number);
    cr_assert(!timer_armed(timer));
    uint64_t due_ms = timer->due_ms;
    cr_assert(due_ms >= fired_last_ms, "out of order");
    fired_last_ms = due_ms;
    m->armed = false;
    fired_count++;
}

static void model_start(uint64_t at_ms)
{
    now_ms = at_ms;
    fired_count = 0;
    fired_last_ms = 0;
    timers_init(&timers, now_ms);
    for (unsigned i = 0; i < MODEL_TIMERS; i++) {
        model[i] = (struct model_timer) { .number = i };
        timer_init(&model[i].timer, model_fired);
    }
}

static uint64_t model_earliest(void)
{
    uint64_t earliest = UINT64_MAX;
    for (unsigned i = 0; i < MODEL_TIMERS; i++)
        if (model[i].armed)
            earliest = MIN(earliest, MAX(model[i].due_ms, timers.now_ms));
    return earliest;
}

static void model_check(void)
{
    unsigned armed = 0;
    for (unsigned i = 0; i < MODEL_TIMERS; i++) {
        cr_assert_eq(model[i].armed, timer_armed(&model[i].timer), "timer %u", i);
        armed += model[i].armed;
    }
    cr_assert_eq(armed, timers.armed);
    uint64_t next = timers_next(&timers);
    uint64_t earliest = model_earliest();
    cr_assert(next <= earliest, "would sleep until %lu, past %lu", next, earliest);
    if (armed == 0)
        cr_assert_eq(next, UINT64_MAX);
    else
        cr_assert(next >= timers.now_ms);
}

static void model_run(uint64_t to_ms)
{
    now_ms = to_ms;
    timers_run(&timers, to_ms);
    for (unsigned i = 0; i < MODEL_TIMERS; i++)
        cr_assert(!model[i].armed || model[i].due_ms > to_ms, "timer %u did not fire", i);
    model_check();
}

/* A span of any size: as many of 36 bits as the luck of the draw. */
static uint64_t model_span(struct random *random, unsigned bits_max)
{
    return random_next(random) >> (64 - 1 - random_below(random, bits_max));
}

static void model_play(uint64_t seed, uint64_t from_ms, unsigned steps)
{
    struct random random;
    random_seed(&random, seed);
    model_start(from_ms);
    for (unsigned i = 0; i < steps; i++) {
        struct model_timer *m = &model[random_below(&random, MODEL_TIMERS)];
        switch (random_below(&random, 8)) {
        case 0:
        case 1:
        case 2: model_arm(m, now_ms + model_span(&random, 38)); break;
        case 3: model_arm(m, now_ms - MIN(now_ms, model_span(&random, 20))); break;
        case 4:
            timer_disarm(&timers, &m->timer);
            m->armed = false;
            break;
        case 5: model_run(now_ms + model_span(&random, 10)); break;
        case 6:
            if (random_below(&random, 20) == 0)
                model_run(now_ms + model_span(&random, 37));
            break;
        case 7: /* as the shard does: sleep as long as it is allowed, and no longer */
            if (timers_next(&timers) != UINT64_MAX)
                model_run(timers_next(&timers));
            break;
        }
        if (i % 16 == 0)
            model_check();
    }
    cr_assert(fired_count > steps / 20, "seed %lu: only %u fired", seed, fired_count);
}

Test(timer, a_timer_that_was_never_armed_can_be_disarmed)
{
    model_start(1000);
    timer_disarm(&timers, &model[0].timer);
    cr_assert_eq(timers.armed, 0);
    cr_assert_eq(timers_next(&timers), UINT64_MAX);
}

Test(timer, a_clock_that_goes_back_fires_nothing)
{
    model_start(1000);
    model_arm(&model[0], 1001);
    timers_run(&timers, 10);
    cr_assert_eq(fired_count, 0);
    cr_assert_eq(timers.now_ms, 1000);
    model_run(1001);
    cr_assert_eq(fired_count, 1);
}

Test(timer, a_time_that_has_passed_fires_in_the_next_run)
{
    model_start(1000);
    model_arm(&model[0], 3);
    model_arm(&model[1], 1000);
    model_arm(&model[2], 1001);
    cr_assert_eq(timers_next(&timers), 1000);
    model_run(1000);
    cr_assert_eq(fired_count, 2);
    cr_assert(model[2].armed);
}

Test(timer, never_and_the_largest_time_do_not_fire)
{
    model_start(1000);
    model_arm(&model[0], UINT64_MAX);
    model_run(UINT64_C(1) << 50);
    cr_assert_eq(fired_count, 0);
    cr_assert(model[0].armed);
}

Test(timer, random_operations_agree_with_the_model)
{
    for (uint64_t seed = 1; seed <= 6; seed++)
        model_play(seed, 1'000'000 * seed, 20'000);
}

Test(timer, around_the_end_of_a_turn_of_the_top_level)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        model_play(seed, (UINT64_C(1) << 36) - 5, 10'000);
        model_play(seed, (UINT64_C(3) << 36) - (UINT64_C(1) << 30), 10'000);
    }
}

Test(timer, every_millisecond_near_the_borders_of_the_slots)
{
    for (unsigned bits = 0; bits < 38; bits++) {
        uint64_t border = UINT64_C(1) << bits;
        for (uint64_t start = border - MIN(border, 3); start < border + 3; start++) {
            model_start(start);
            for (unsigned i = 0; i < 20; i++)
                model_arm(&model[i], border + i);
            for (unsigned i = 20; i < 40; i++)
                model_arm(&model[i], 2 * border + i);
            while (timers.armed > 0)
                model_run(timers_next(&timers));
            cr_assert_eq(fired_count, 40);
        }
    }
}

Test(timer, a_jump_of_a_century_visits_no_empty_slots)
{
    model_start(1000);
    model_arm(&model[0], UINT64_C(1) << 41);
    model_arm(&model[1], 5000);
    model_run(UINT64_C(1) << 42); /* would not come back if it stepped through the milliseconds */
    cr_assert_eq(fired_count, 2);
}

static struct timer first;
static struct timer second;
static struct timer third;
static unsigned runs;

static void disarms_the_second(struct timer *timer)
{
    (void)timer;
    runs++;
    timer_disarm(&timers, &second);
}

static void must_not_fire(struct timer *timer)
{
    (void)timer;
    cr_assert_fail("was disarmed");
}

Test(timer, a_callback_disarms_another_that_is_due_in_the_same_run)
{
    timers_init(&timers, 0);
    timer_init(&first, disarms_the_second);
    timer_init(&second, must_not_fire);
    runs = 0;
    timer_arm(&timers, &first, 70);
    timer_arm(&timers, &second, 70);
    timer_arm(&timers, &second, 71);
    timers_run(&timers, 100);
    cr_assert_eq(runs, 1);
    cr_assert_eq(timers.armed, 0);
    cr_assert_eq(timers_next(&timers), UINT64_MAX);
}

static void arms_itself_for_now(struct timer *timer)
{
    runs++;
    timer_arm(&timers, timer, timers.now_ms);
}

Test(timer, a_callback_that_arms_itself_for_now_does_not_hold_the_run)
{
    timers_init(&timers, 0);
    timer_init(&first, arms_itself_for_now);
    runs = 0;
    timer_arm(&timers, &first, 70);
    timers_run(&timers, 1'000'000);
    cr_assert_eq(runs, 1);
    cr_assert_eq(timers_next(&timers), 1'000'000);
    timers_run(&timers, 1'000'000);
    cr_assert_eq(runs, 2);
    timer_disarm(&timers, &first);
    cr_assert_eq(timers_next(&timers), UINT64_MAX);
}

static void moves_the_third(struct timer *timer)
{
    (void)timer;
    runs++;
    timer_arm(&timers, &third, timers.now_ms + 50);
}

Test(timer, a_callback_moves_another_that_is_due_in_the_same_run)
{
    timers_init(&timers, 0);
    timer_init(&first, moves_the_third);
    timer_init(&third, disarms_the_second);
    timer_init(&second, must_not_fire);
    runs = 0;
    timer_arm(&timers, &first, 10);
    timer_arm(&timers, &third, 11);
    timers_run(&timers, 20);
    cr_assert_eq(runs, 1);
    cr_assert_eq(third.due_ms, 70);
    timers_run(&timers, 69);
    cr_assert_eq(runs, 1);
    timers_run(&timers, 70);
    cr_assert_eq(runs, 2);
}
