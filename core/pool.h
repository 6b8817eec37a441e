/*
 * pool.h - a fixed number of objects of one size
 *
 * Address space is reserved at start; pages are touched only when objects are first used, and the
 * object given back last is taken first, so memory in use follows load. A full pool answers NULL:
 * the caller has a reply for that.
 */
#ifndef RINGPOST_CORE_POOL_H
#define RINGPOST_CORE_POOL_H

#include "core/compiler.h"

struct pool {
    const char *name;
    uint8_t *memory;
    void *free;       /* linked through the first word of each free object */
    size_t size;      /* bytes an object, rounded up to 16 */
    uint32_t count;   /* how many there are */
    uint32_t touched; /* how many were ever taken */
    uint32_t used;    /* how many are taken now */
    uint64_t refused; /* how often there was none */
};

enum { POOL_ALIGNMENT = 16 };

/* What such a pool takes when all of it is used. */
static inline uint64_t pool_bytes(size_t object_size, uint32_t count)
{
    return (object_size + POOL_ALIGNMENT - 1) / POOL_ALIGNMENT * POOL_ALIGNMENT * (uint64_t)count;
}

/* How many of those that few of all need, of most at all. */
static inline uint32_t pool_share(uint32_t all, uint32_t most)
{
    enum { FEW = 32, LEAST = 4 };
    return MIN(MAX(all / FEW, (uint32_t)LEAST), most);
}

/* 0, or -ENOMEM. name is kept. */
[[nodiscard]] int pool_init(struct pool *pool, const char *name, size_t object_size,
                            uint32_t count);
void pool_free(struct pool *pool);

/* An object, not cleared; NULL when all are taken (counted in refused). */
void *pool_take(struct pool *pool);
void pool_give(struct pool *pool, void *object);

/* Index of an object, 0 to count - 1, and back. */
uint32_t pool_index(const struct pool *pool, const void *object);
void *pool_at(const struct pool *pool, uint32_t index);

#endif
