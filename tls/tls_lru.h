/*
 * tls_lru.h - what a shard remembers of its peers: by key, at most so many, the last used stay
 *
 * The one behind tls_client_cache and tls_hosts. Entries begin with a struct tls_lru_entry and come
 * from a pool, which is never asked for more than it has: a new one takes the place of the one that
 * was not used for the longest time.
 */
#ifndef RINGPOST_TLS_LRU_H
#define RINGPOST_TLS_LRU_H

#include "core/check.h"
#include "core/list.h"
#include "core/pool.h"
#include "core/slice.h"

enum { TLS_KEY_BYTES_MAX = 64, TLS_LRU_COUNT_MAX = 1 << 20 };

/* Compared as a whole. What does not fit is hashed by the caller, with a hash that nobody can make
 * collide (SHA-256). */
struct tls_lru_key {
    uint8_t size; /* 1 to TLS_KEY_BYTES_MAX */
    uint8_t bytes[TLS_KEY_BYTES_MAX];
};

static inline struct tls_lru_key tls_lru_key_of(struct slice bytes)
{
    CHECK(bytes.size > 0);
    CHECK(bytes.size <= TLS_KEY_BYTES_MAX); /* cut, it would be another one's */
    struct tls_lru_key key = { .size = (uint8_t)bytes.size };
    memcpy(key.bytes, bytes.data, key.size);
    return key;
}

struct tls_lru_entry {
    struct list used;  /* in tls_lru.used, the last used one at the end */
    struct list chain; /* in its bucket */
    struct tls_lru_key key;
};

struct tls_lru {
    struct pool pool;
    struct pool buckets_pool; /* one object: all of the buckets */
    struct list used;
    struct list *buckets;
    uint32_t mask;
    uint64_t seed[2]; /* so that no stranger fills one bucket */
};

/* 0, -EINVAL for a count of 0 or too many, or -ENOMEM. name is kept. */
[[nodiscard]] int tls_lru_init(struct tls_lru *lru, const char *name, size_t entry_bytes,
                               uint32_t count);
/* The entries' own things are the caller's to free before. */
void tls_lru_free(struct tls_lru *lru);

/* NULL: not there. Found means used. */
struct tls_lru_entry *tls_lru_find(struct tls_lru *lru, const struct tls_lru_key *key);
/* The one to go when there is no room for another, else NULL. */
struct tls_lru_entry *tls_lru_oldest_when_full(struct tls_lru *lru);
/* A key that is not there, while there is room. What follows the entry's head is not cleared. */
struct tls_lru_entry *tls_lru_add(struct tls_lru *lru, const struct tls_lru_key *key);
void tls_lru_remove(struct tls_lru *lru, struct tls_lru_entry *entry);
/* Any one, or NULL: to empty it. */
struct tls_lru_entry *tls_lru_first(struct tls_lru *lru);

#endif
