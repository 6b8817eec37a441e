/*
 * fail_pool.c - a pool that is empty when a test wants it to be
 *
 * The linker leads pool_take here (--wrap). Places in the queue are reserved before they are taken,
 * and a cache makes room by itself: of those there is one, always, and they do not fail.
 */
#include "core/pool.h"
#include "tests/sim/fail_each.h"

#include <string.h>

void *__real_pool_take(struct pool *pool);
void *__wrap_pool_take(struct pool *pool);

static void (*watch)(void *argument);
static void *watch_argument;
static bool refused_now;
static bool paused;
static const char *limited;
static uint32_t limit;

void fail_pool_watch(void (*call)(void *argument), void *argument)
{
    watch = call;
    watch_argument = argument;
}

void fail_pool_now(void)
{
    refused_now = true;
}

void fail_pool_pause(bool on)
{
    paused = on;
}

static bool is_reserved(const struct pool *pool)
{
    static const char *const names[] = { "messages",        "units",     "places",
                                         "client sessions", "tls hosts", "floor records",
                                         "sts policies" };
    for (unsigned i = 0; i < ARRAY_COUNT(names); i++)
        if (strcmp(pool->name, names[i]) == 0)
            return true;
    return false;
}

void fail_pool_most(const char *pool, uint32_t most)
{
    limited = pool;
    limit = most;
}

void *__wrap_pool_take(struct pool *pool)
{
    if (limited != NULL && pool->used >= limit && strcmp(pool->name, limited) == 0)
        return NULL;
    if (watch != NULL && !paused && !is_reserved(pool))
        watch(watch_argument);
    if (!refused_now)
        return __real_pool_take(pool);
    refused_now = false;
    pool->refused++;
    return NULL;
}
