/*
 * tls_client_cache.c - the references to sessions, and when they are let go
 *
 *   key: absent --put--> 1 or 2 sessions --take (1.3), expired, forget, evicted--> absent
 *
 * BoringSSL's memory holds the sessions, some kB each with the peer's chain: what bounds it is the
 * number of keys times TLS_CLIENT_CACHE_TICKETS. One thread.
 */
#include "tls/tls_client_cache.h"

#include "core/check.h"
#include "tls/tls_boringssl.h"

struct client_entry {
    struct tls_lru_entry lru;
    SSL_SESSION *sessions[TLS_CLIENT_CACHE_TICKETS]; /* the newest first; at least that one */
};

static struct client_entry *entry_of(struct tls_lru_entry *entry)
{
    return entry == NULL ? NULL : container_of(entry, struct client_entry, lru);
}

int tls_client_cache_init(struct tls_client_cache *cache, uint32_t count)
{
    cache->numbers = (struct tls_client_cache_numbers) { 0 };
    return tls_lru_init(&cache->lru, "client sessions", sizeof(struct client_entry), count);
}

static void sessions_drop(struct client_entry *entry)
{
    for (unsigned i = 0; i < TLS_CLIENT_CACHE_TICKETS; i++) {
        SSL_SESSION_free(entry->sessions[i]);
        entry->sessions[i] = NULL;
    }
}

static void entry_drop(struct tls_client_cache *cache, struct client_entry *entry)
{
    sessions_drop(entry);
    tls_lru_remove(&cache->lru, &entry->lru);
    metric_sub(&cache->numbers.keys, 1);
}

void tls_client_cache_clear(struct tls_client_cache *cache)
{
    for (struct client_entry *entry; (entry = entry_of(tls_lru_first(&cache->lru))) != NULL;)
        entry_drop(cache, entry);
}

void tls_client_cache_free(struct tls_client_cache *cache)
{
    tls_client_cache_clear(cache);
    tls_lru_free(&cache->lru);
}

static struct client_entry *entry_add(struct tls_client_cache *cache, const struct tls_lru_key *key)
{
    struct client_entry *oldest = entry_of(tls_lru_oldest_when_full(&cache->lru));
    if (oldest != NULL) {
        entry_drop(cache, oldest);
        metric_add(&cache->numbers.evicted, 1);
    }
    struct client_entry *entry = entry_of(tls_lru_add(&cache->lru, key));
    for (unsigned i = 0; i < TLS_CLIENT_CACHE_TICKETS; i++)
        entry->sessions[i] = NULL;
    metric_add(&cache->numbers.keys, 1);
    return entry;
}

void tls_client_cache_put(struct tls_client_cache *cache, const struct tls_lru_key *key,
                          SSL_SESSION *session)
{
    CHECK(session != NULL);
    struct client_entry *entry = entry_of(tls_lru_find(&cache->lru, key));
    if (entry == NULL)
        entry = entry_add(cache, key);
    /* a server that changed its version takes none of the other kind */
    bool is_single = SSL_SESSION_should_be_single_use(session) == 1;
    if (entry->sessions[0] != NULL &&
        !(is_single && SSL_SESSION_should_be_single_use(entry->sessions[0]) == 1))
        sessions_drop(entry);
    SSL_SESSION_free(entry->sessions[TLS_CLIENT_CACHE_TICKETS - 1]);
    for (unsigned i = TLS_CLIENT_CACHE_TICKETS - 1; i > 0; i--)
        entry->sessions[i] = entry->sessions[i - 1];
    entry->sessions[0] = session;
    metric_add(&cache->numbers.stored, 1);
}

/* A clock that steps back makes nothing older. */
static bool is_expired(const SSL_SESSION *session, uint64_t now_s)
{
    uint64_t made_s = SSL_SESSION_get_time(session);
    return now_s > made_s && now_s - made_s >= SSL_SESSION_get_timeout(session);
}

/* The newest one, out of the entry; NULL: it has none left. */
static SSL_SESSION *entry_shift(struct client_entry *entry)
{
    SSL_SESSION *session = entry->sessions[0];
    for (unsigned i = 1; i < TLS_CLIENT_CACHE_TICKETS; i++)
        entry->sessions[i - 1] = entry->sessions[i];
    entry->sessions[TLS_CLIENT_CACHE_TICKETS - 1] = NULL;
    return session;
}

SSL_SESSION *tls_client_cache_take(struct tls_client_cache *cache, const struct tls_lru_key *key,
                                   uint64_t now_s)
{
    struct client_entry *entry = entry_of(tls_lru_find(&cache->lru, key));
    SSL_SESSION *session = NULL;
    while (entry != NULL && (session = entry_shift(entry)) != NULL && is_expired(session, now_s)) {
        SSL_SESSION_free(session);
        metric_add(&cache->numbers.expired, 1);
    }
    metric_add(session != NULL ? &cache->numbers.hits : &cache->numbers.misses, 1);
    if (session != NULL && SSL_SESSION_should_be_single_use(session) != 1) {
        entry->sessions[0] = session;
        CHECK(SSL_SESSION_up_ref(session) == 1);
    }
    if (entry != NULL && entry->sessions[0] == NULL)
        entry_drop(cache, entry);
    return session;
}

void tls_client_cache_forget(struct tls_client_cache *cache, const struct tls_lru_key *key)
{
    struct client_entry *entry = entry_of(tls_lru_find(&cache->lru, key));
    if (entry != NULL)
        entry_drop(cache, entry);
}

/* ---- numbers ---- */

#define CLIENT_CACHE_NUMBER(field, name, label, words, type)                                       \
    {                                                                                              \
        "ringpost_tls_client_cache_" name, label, words, type, 0,                                  \
            offsetof(struct tls_client_cache_numbers, field)                                       \
    }

/* clang-format off */
const struct metric tls_client_cache_metrics_table[] = {
    CLIENT_CACHE_NUMBER(stored, "stored_total", NULL, "Sessions that servers gave us", METRIC_COUNTER),
    CLIENT_CACHE_NUMBER(hits, "lookups_total", "result=\"hit\"", "Connections that looked for a session to resume", METRIC_COUNTER),
    CLIENT_CACHE_NUMBER(misses, "lookups_total", "result=\"miss\"", "Connections that looked for a session to resume", METRIC_COUNTER),
    CLIENT_CACHE_NUMBER(expired, "expired_total", NULL, "Sessions that were too old when looked for", METRIC_COUNTER),
    CLIENT_CACHE_NUMBER(evicted, "evicted_total", NULL, "Hosts whose sessions made room for another's", METRIC_COUNTER),
    CLIENT_CACHE_NUMBER(keys, "hosts", NULL, "Hosts and policies with a session", METRIC_GAUGE),
};
/* clang-format on */
const unsigned tls_client_cache_metrics_count = ARRAY_COUNT(tls_client_cache_metrics_table);
