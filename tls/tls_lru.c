/*
 * tls_lru.c - a hash table with a list through it
 *
 *   absent --add--> present --find--> present, last used --remove--> absent
 *
 * Hosts are what strangers make us connect to, so the hash is keyed (SipHash). Bounds: the pool's
 * count; a bucket holds one entry on average at most. One thread.
 */
#include "tls/tls_lru.h"

#include <errno.h>
#include <string.h>

#include "core/check.h"
#include "tls/tls_boringssl.h"

int tls_lru_init(struct tls_lru *lru, const char *name, size_t entry_bytes, uint32_t count)
{
    CHECK(entry_bytes >= sizeof(struct tls_lru_entry));
    *lru = (struct tls_lru) { 0 };
    list_init(&lru->used);
    if (count == 0 || count > TLS_LRU_COUNT_MAX)
        return -EINVAL;
    uint32_t buckets = 1;
    while (buckets < count)
        buckets *= 2;
    int r = pool_init(&lru->pool, name, entry_bytes, count);
    if (r == 0)
        r = pool_init(&lru->buckets_pool, name, buckets * sizeof(struct list), 1);
    if (r < 0) {
        tls_lru_free(lru);
        return r;
    }
    lru->mask = buckets - 1;
    lru->buckets = pool_take(&lru->buckets_pool);
    for (uint32_t i = 0; i < buckets; i++)
        list_init(&lru->buckets[i]);
    CHECK(RAND_bytes((uint8_t *)lru->seed, sizeof(lru->seed)) == 1);
    return 0;
}

void tls_lru_free(struct tls_lru *lru)
{
    pool_free(&lru->pool);
    pool_free(&lru->buckets_pool);
    lru->buckets = NULL;
    list_init(&lru->used);
}

static struct list *bucket_of(const struct tls_lru *lru, const struct tls_lru_key *key)
{
    CHECK(key->size > 0);
    CHECK(key->size <= TLS_KEY_BYTES_MAX);
    return &lru->buckets[SIPHASH_24(lru->seed, key->bytes, key->size) & lru->mask];
}

struct tls_lru_entry *tls_lru_find(struct tls_lru *lru, const struct tls_lru_key *key)
{
    list_each (node, bucket_of(lru, key)) {
        struct tls_lru_entry *entry = container_of(node, struct tls_lru_entry, chain);
        if (entry->key.size != key->size || memcmp(entry->key.bytes, key->bytes, key->size) != 0)
            continue;
        list_remove(&entry->used);
        list_push(&lru->used, &entry->used);
        return entry;
    }
    return NULL;
}

struct tls_lru_entry *tls_lru_first(struct tls_lru *lru)
{
    if (list_empty(&lru->used))
        return NULL;
    return container_of(lru->used.next, struct tls_lru_entry, used);
}

struct tls_lru_entry *tls_lru_oldest_when_full(struct tls_lru *lru)
{
    return lru->pool.used < lru->pool.count ? NULL : tls_lru_first(lru);
}

struct tls_lru_entry *tls_lru_add(struct tls_lru *lru, const struct tls_lru_key *key)
{
    struct tls_lru_entry *entry = pool_take(&lru->pool);
    CHECK(entry != NULL);
    entry->key = *key;
    list_push(&lru->used, &entry->used);
    list_push(bucket_of(lru, key), &entry->chain);
    return entry;
}

void tls_lru_remove(struct tls_lru *lru, struct tls_lru_entry *entry)
{
    list_remove(&entry->used);
    list_remove(&entry->chain);
    pool_give(&lru->pool, entry);
}
