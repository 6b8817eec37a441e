/*
 * test_generation.c - sessions keep the configuration they began with; the last one gives it back
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>

#include "mta/generation.h"

/* Only their addresses matter here. */
static const char configs[GENERATIONS_MAX + 2];

static const struct config *config(unsigned number)
{
    return (const struct config *)(const void *)&configs[number];
}

struct released {
    const struct config *last;
    unsigned count;
};

static void on_released(void *owner, const struct config *what)
{
    struct released *r = owner;
    r->last = what;
    r->count++;
}

/* The list's head must not move after its making. */
#define MAKE(g, r)                                                                                 \
    struct released r = { 0 };                                                                     \
    struct generations g = { .owner = &r, .released = on_released };                               \
    cr_assert_eq(generations_init(&g), 0)

Test(generation, nobody_uses_what_is_not_there, .signal = SIGABRT)
{
    MAKE(g, r);
    (void)generation_use(&g);
}

Test(generation, dropping_twice_is_our_mistake, .signal = SIGABRT)
{
    MAKE(g, r);
    cr_assert_eq(generations_switch(&g, config(0)), 0);
    struct generation *one = generation_use(&g);
    generation_drop(&g, one);
    generation_drop(&g, one);
}

Test(generation, too_many_alive_refuse_the_next_and_change_nothing)
{
    MAKE(g, r);
    struct generation *users[GENERATIONS_MAX];
    for (unsigned i = 0; i < GENERATIONS_MAX; i++) {
        cr_assert_eq(generations_switch(&g, config(i)), 0);
        users[i] = generation_use(&g);
    }
    cr_assert_eq(generations_switch(&g, config(GENERATIONS_MAX)), -EBUSY);
    cr_assert_eq(g.current->config, config(GENERATIONS_MAX - 1));
    generation_drop(&g, users[3]);
    cr_assert_eq(r.last, config(3));
    cr_assert_eq(generations_switch(&g, config(GENERATIONS_MAX)), 0);
    for (unsigned i = 0; i < GENERATIONS_MAX; i++)
        if (i != 3)
            generation_drop(&g, users[i]);
    cr_assert_eq(r.count, GENERATIONS_MAX);
    cr_assert_eq(g.pool.used, 1);
    cr_assert(list_empty(&g.retired));
    generations_free(&g);
}

Test(generation, an_unused_one_is_released_by_the_switch)
{
    MAKE(g, r);
    cr_assert_eq(generations_switch(&g, config(0)), 0);
    cr_assert_eq(r.count, 0);
    cr_assert_eq(generations_switch(&g, config(1)), 0);
    cr_assert_eq(r.count, 1);
    cr_assert_eq(r.last, config(0));
    generations_free(&g);
}

Test(generation, a_used_one_lives_until_its_last_user)
{
    MAKE(g, r);
    cr_assert_eq(generations_switch(&g, config(0)), 0);
    struct generation *a = generation_use(&g), *b = generation_use(&g);
    cr_assert_eq(a, b);
    generation_drop(&g, b);
    cr_assert_eq(r.count, 0, "the current one stays though nobody uses it now");
    b = generation_use(&g);
    cr_assert_eq(generations_switch(&g, config(1)), 0);
    cr_assert_eq(generations_switch(&g, config(2)), 0);
    cr_assert_eq(r.count, 1);
    struct generation *c = generation_use(&g);
    cr_assert_eq(c->config, config(2));
    cr_assert_eq(a->config, config(0));
    generation_drop(&g, a);
    cr_assert_eq(r.count, 1);
    generation_drop(&g, b);
    cr_assert_eq(r.count, 2);
    cr_assert_eq(r.last, config(0));
    generation_drop(&g, c);
    cr_assert_eq(r.count, 2);
    generations_free(&g);
}

Test(generation, nobody_has_to_be_told)
{
    struct generations g = { 0 };
    cr_assert_eq(generations_init(&g), 0);
    cr_assert_eq(generations_switch(&g, config(0)), 0);
    cr_assert_eq(generations_switch(&g, config(1)), 0);
    cr_assert_eq(g.pool.used, 1);
    generations_free(&g);
}
