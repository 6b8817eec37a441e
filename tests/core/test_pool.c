/*
 * test_pool.c - a pool that is full, and objects that come back
 */
#include "core/pool.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>

enum { OBJECTS = 1000, OBJECT_BYTES = 100 };

static struct pool pool;

static void start(void)
{
    cr_assert_eq(pool_init(&pool, "test", OBJECT_BYTES, OBJECTS), 0);
}

static void stop(void)
{
    pool_free(&pool);
}

TestSuite(pool, .init = start, .fini = stop);

Test(pool, more_memory_than_there_is)
{
    struct pool huge;
    cr_assert_eq(pool_init(&huge, "huge", SIZE_MAX / 1024, 1000), -ENOMEM);
}

Test(pool, a_full_pool_refuses_and_counts)
{
    for (unsigned i = 0; i < OBJECTS; i++)
        cr_assert_neq(pool_take(&pool), NULL);
    cr_assert_eq(pool_take(&pool), NULL);
    cr_assert_eq(pool_take(&pool), NULL);
    cr_assert_eq(pool.refused, 2);
    cr_assert_eq(pool.used, OBJECTS);
}

Test(pool, giving_what_is_not_of_the_pool, .signal = SIGABRT)
{
    uint8_t *object = pool_take(&pool);
    pool_give(&pool, object + 1);
}

Test(pool, giving_more_than_was_taken, .signal = SIGABRT)
{
    void *object = pool_take(&pool);
    pool_give(&pool, object);
    pool_give(&pool, object);
}

Test(pool, objects_do_not_overlap_and_keep_their_bytes)
{
    static uint8_t *objects[OBJECTS];
    for (unsigned i = 0; i < OBJECTS; i++) {
        objects[i] = pool_take(&pool);
        cr_assert_eq((uintptr_t)objects[i] % 16, 0);
        memset(objects[i], (int)(i % 251), OBJECT_BYTES);
        cr_assert_eq(pool_at(&pool, pool_index(&pool, objects[i])), objects[i]);
    }
    for (unsigned i = 0; i < OBJECTS; i++)
        for (unsigned b = 0; b < OBJECT_BYTES; b++)
            cr_assert_eq(objects[i][b], i % 251);
    for (unsigned i = 0; i < OBJECTS; i++)
        pool_give(&pool, objects[i]);
    cr_assert_eq(pool.used, 0);
}

Test(pool, the_last_one_given_is_taken_first)
{
    void *first = pool_take(&pool);
    void *second = pool_take(&pool);
    pool_give(&pool, first);
    pool_give(&pool, second);
    cr_assert_eq(pool_take(&pool), second);
    cr_assert_eq(pool_take(&pool), first);
    cr_assert_eq(pool.touched, 2);
}
