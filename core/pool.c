/*
 * pool.c - objects of one size out of one reservation
 *
 * Under AddressSanitizer an object that was given back is poisoned, so that a late user is caught;
 * so is what comes after the last one that was ever taken, for who writes past it. Not all of the
 * rest, which may be gigabytes of address space: marks are memory, an eighth of what they are for.
 */
#include "core/pool.h"

#include <errno.h>

#include "core/check.h"
#include "core/memory.h"

#if defined(__SANITIZE_ADDRESS__)
#define POOL_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POOL_ASAN 1
#endif
#endif
#ifdef POOL_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(pointer, size) __asan_poison_memory_region((pointer), (size))
#define UNPOISON(pointer, size) __asan_unpoison_memory_region((pointer), (size))
#else
#define POISON(pointer, size) ((void)(pointer), (void)(size))
#define UNPOISON(pointer, size) ((void)(pointer), (void)(size))
#endif

enum { POISON_AHEAD = 4'096 };

/* Bytes from the beginning on that were taken or are marked. */
static size_t marked(const struct pool *pool)
{
    return MIN(pool->size * pool->touched + POISON_AHEAD, pool->size * pool->count);
}

static void poison_ahead(const struct pool *pool)
{
    size_t taken = pool->size * pool->touched;
    POISON(pool->memory + taken, marked(pool) - taken);
}

int pool_init(struct pool *pool, const char *name, size_t object_size, uint32_t count)
{
    CHECK(object_size > 0);
    CHECK(count > 0);
    *pool = (struct pool) { .name = name, .count = count };
    pool->size = (object_size + POOL_ALIGNMENT - 1) / POOL_ALIGNMENT * POOL_ALIGNMENT;
    pool->memory = memory_reserve(pool->size * count);
    if (pool->memory == NULL)
        return -ENOMEM;
    poison_ahead(pool);
    return 0;
}

void pool_free(struct pool *pool)
{
    if (pool->memory == NULL)
        return;
    UNPOISON(pool->memory, marked(pool));
    memory_release(pool->memory, pool->size * pool->count);
    *pool = (struct pool) { 0 };
}

void *pool_take(struct pool *pool)
{
    void *object = pool->free;
    if (object != NULL) {
        UNPOISON(object, pool->size);
        pool->free = *(void **)object;
    } else if (pool->touched < pool->count) {
        object = pool->memory + (size_t)pool->touched++ * pool->size;
        UNPOISON(object, pool->size);
        poison_ahead(pool);
    } else {
        pool->refused++;
        return NULL;
    }
    pool->used++;
    return object;
}

void pool_give(struct pool *pool, void *object)
{
    CHECK(pool->used > 0);
    CHECK(pool_index(pool, object) < pool->touched);
    *(void **)object = pool->free;
    pool->free = object;
    pool->used--;
    POISON(object, pool->size);
}

uint32_t pool_index(const struct pool *pool, const void *object)
{
    size_t offset = (size_t)((const uint8_t *)object - pool->memory);
    CHECK(offset % pool->size == 0);
    CHECK(offset / pool->size < pool->count);
    return (uint32_t)(offset / pool->size);
}

void *pool_at(const struct pool *pool, uint32_t index)
{
    CHECK(index < pool->count);
    return pool->memory + (size_t)index * pool->size;
}
