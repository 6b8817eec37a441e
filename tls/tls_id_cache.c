/*
 * tls_id_cache.c - a set-associative table whose slots are sequence locks
 *
 *   slot: empty --put--> full --remove, found expired, of an old generation, or evicted--> wiped
 *
 * A writer takes a slot by making its sequence odd; when somebody else has it, it gives up. A
 * reader copies, and looks whether the sequence is still the one it began with; when not, it gives
 * up too. So nothing waits, and a thread that dies in between costs one slot.
 *
 * Ids are 32 random octets of BoringSSL's, so their first ones are the hash. A stranger can ask for
 * any id, and thereby look into any set, but not choose where something is put.
 *
 * Owns its memory, which holds the keys of sessions: it is a secret mapping, and slots are wiped.
 * Bounds: slots, TLS_ID_CACHE_SESSION_BYTES_MAX. All threads; each counts in its own numbers.
 */
#include "tls/tls_id_cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "tls/tls_boringssl.h"
#include "tls/tls_id_cache_inside.h"

/* ---- a slot ---- */

/* False: somebody else writes it. */
static bool slot_take(struct id_slot *slot, uint64_t *sequence)
{
    *sequence = atomic_load_explicit(&slot->sequence, memory_order_relaxed);
    if (*sequence % 2 != 0 ||
        !atomic_compare_exchange_strong_explicit(&slot->sequence, sequence, *sequence + 1,
                                                 memory_order_acquire, memory_order_relaxed))
        return false;
    /* a reader that sees one of our words sees the odd sequence too */
    atomic_thread_fence(memory_order_release);
    return true;
}

static void slot_give(struct id_slot *slot, uint64_t sequence)
{
    atomic_store_explicit(&slot->sequence, sequence + 2, memory_order_release);
}

static void words_write(_Atomic uint64_t *words, size_t count, struct slice bytes)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t word = 0;
        if (8 * i < bytes.size)
            memcpy(&word, bytes.data + 8 * i, MIN(bytes.size - 8 * i, sizeof(word)));
        atomic_store_explicit(&words[i], word, memory_order_relaxed);
    }
}

static void words_read(const _Atomic uint64_t *words, size_t size, uint8_t *bytes)
{
    for (size_t i = 0; 8 * i < size; i++) {
        uint64_t word = atomic_load_explicit(&words[i], memory_order_relaxed);
        memcpy(bytes + 8 * i, &word, MIN(size - 8 * i, sizeof(word)));
    }
}

/* By whoever has taken it; wipes what is not written. */
static void slot_write(struct id_slot *slot, struct slice id, struct slice session,
                       uint64_t expires_ms, uint32_t generation)
{
    atomic_store_explicit(&slot->expires_ms, expires_ms, memory_order_relaxed);
    atomic_store_explicit(&slot->generation, generation, memory_order_relaxed);
    atomic_store_explicit(&slot->id_size, (uint16_t)id.size, memory_order_relaxed);
    atomic_store_explicit(&slot->session_size, (uint16_t)session.size, memory_order_relaxed);
    words_write(slot->id, ID_WORDS, id);
    words_write(slot->session, SESSION_WORDS, session);
}

static uint64_t slot_expires_ms(const struct id_slot *slot)
{
    return atomic_load_explicit(&slot->expires_ms, memory_order_relaxed);
}

/* Without its lock this is a guess; under it, or within one sequence, it is true. */
static bool slot_has(const struct id_slot *slot, struct slice id)
{
    uint8_t have[ID_BYTES_MAX];
    if (slot_expires_ms(slot) == 0 ||
        atomic_load_explicit(&slot->id_size, memory_order_relaxed) != id.size)
        return false;
    words_read(slot->id, id.size, have);
    return memcmp(have, id.data, id.size) == 0;
}

static bool slot_is_old(const struct tls_id_cache *cache, const struct id_slot *slot)
{
    return atomic_load_explicit(&slot->generation, memory_order_relaxed) !=
           atomic_load_explicit(&cache->generation, memory_order_acquire);
}

/* ---- the table ---- */

int tls_id_cache_make(uint32_t slots, uint32_t lifetime_s, struct tls_id_cache **result)
{
    if (slots == 0 || slots > TLS_ID_CACHE_SLOTS_MAX || lifetime_s == 0)
        return -EINVAL;
    uint32_t count = TLS_ID_CACHE_WAYS;
    while (count < slots)
        count *= 2;
    struct tls_id_cache *cache = calloc(1, sizeof(*cache));
    if (cache == NULL)
        return -ENOMEM;
    int r = tls_secret_make(&cache->secret, count * sizeof(struct id_slot));
    if (r < 0) {
        free(cache);
        return r;
    }
    cache->slots = (void *)cache->secret.data;
    cache->sets_mask = count / TLS_ID_CACHE_WAYS - 1;
    cache->lifetime_s = lifetime_s;
    *result = cache;
    return 0;
}

void tls_id_cache_free(struct tls_id_cache *cache)
{
    if (cache == NULL)
        return;
    tls_secret_free(&cache->secret);
    free(cache);
}

void tls_id_cache_forget(struct tls_id_cache *cache)
{
    atomic_fetch_add_explicit(&cache->generation, 1, memory_order_acq_rel);
}

bool tls_id_cache_is_locked(const struct tls_id_cache *cache)
{
    return cache->secret.is_locked;
}

static struct id_slot *set_of(const struct tls_id_cache *cache, struct slice id)
{
    uint64_t hash;
    CHECK(id.size >= sizeof(hash));
    memcpy(&hash, id.data, sizeof(hash));
    return &cache->slots[(hash & cache->sets_mask) * TLS_ID_CACHE_WAYS];
}

/* Where to put it: where it is already, else in what is empty, old, or first to expire. */
static struct id_slot *slot_for(const struct tls_id_cache *cache, struct slice id, uint64_t now_ms)
{
    struct id_slot *set = set_of(cache, id);
    struct id_slot *best = NULL;
    uint64_t best_ms = UINT64_MAX;
    for (unsigned way = 0; way < TLS_ID_CACHE_WAYS; way++) {
        if (slot_has(&set[way], id))
            return &set[way];
        uint64_t expires_ms = slot_is_old(cache, &set[way]) ? 0 : slot_expires_ms(&set[way]);
        if (expires_ms <= now_ms)
            expires_ms = 0;
        if (best == NULL || expires_ms < best_ms) {
            best = &set[way];
            best_ms = expires_ms;
        }
    }
    return best;
}

void id_cache_put(struct tls_id_cache *cache, struct slice id, struct slice session,
                  uint64_t now_ms, struct tls_id_cache_numbers *numbers)
{
    uint64_t sequence;
    if (id.size < ID_BYTES_MIN || id.size > ID_BYTES_MAX)
        return;
    if (session.size > TLS_ID_CACHE_SESSION_BYTES_MAX) {
        metric_add(&numbers->too_big, 1);
        return;
    }
    struct id_slot *slot = slot_for(cache, id, now_ms);
    if (!slot_take(slot, &sequence)) {
        metric_add(&numbers->busy, 1);
        return;
    }
    uint32_t generation = atomic_load_explicit(&cache->generation, memory_order_acquire);
    if (slot_expires_ms(slot) > now_ms && !slot_is_old(cache, slot) && !slot_has(slot, id))
        metric_add(&numbers->evicted, 1);
    slot_write(slot, id, session, now_ms + cache->lifetime_s * 1000ULL, generation);
    slot_give(slot, sequence);
    metric_add(&numbers->stored, 1);
}

enum found { FOUND, FOUND_NOT, FOUND_BUSY, FOUND_EXPIRED };

/* FOUND: session has *size bytes, and was whole. */
static enum found slot_read(const struct tls_id_cache *cache, struct id_slot *slot, struct slice id,
                            uint64_t now_ms, uint8_t *session, size_t *size)
{
    uint64_t sequence = atomic_load_explicit(&slot->sequence, memory_order_acquire);
    if (sequence % 2 != 0)
        return FOUND_BUSY;
    if (!slot_has(slot, id))
        return FOUND_NOT;
    enum found found = FOUND;
    if (slot_expires_ms(slot) <= now_ms || slot_is_old(cache, slot))
        found = FOUND_EXPIRED;
    *size = atomic_load_explicit(&slot->session_size, memory_order_relaxed);
    if (*size > TLS_ID_CACHE_SESSION_BYTES_MAX)
        return FOUND_BUSY;
    words_read(slot->session, *size, session);
    atomic_thread_fence(memory_order_acquire);
    bool is_whole = atomic_load_explicit(&slot->sequence, memory_order_relaxed) == sequence;
    return is_whole ? found : FOUND_BUSY;
}

/* When it is still the one: another may have come in since. */
static void slot_wipe(struct id_slot *slot, struct slice id, struct tls_id_cache_numbers *numbers)
{
    uint64_t sequence;
    if (!slot_take(slot, &sequence)) {
        metric_add(&numbers->busy, 1);
        return;
    }
    if (slot_has(slot, id))
        slot_write(slot, slice_of(NULL, 0), slice_of(NULL, 0), 0, 0);
    slot_give(slot, sequence);
}

size_t id_cache_get(struct tls_id_cache *cache, struct slice id, uint64_t now_ms,
                    uint8_t session[TLS_ID_CACHE_SESSION_BYTES_MAX],
                    struct tls_id_cache_numbers *numbers)
{
    bool was_busy = false;
    size_t size;
    if (id.size < ID_BYTES_MIN || id.size > ID_BYTES_MAX) {
        metric_add(&numbers->misses, 1);
        return 0;
    }
    struct id_slot *set = set_of(cache, id);
    for (unsigned way = 0; way < TLS_ID_CACHE_WAYS; way++) {
        switch (slot_read(cache, &set[way], id, now_ms, session, &size)) {
        case FOUND: metric_add(&numbers->hits, 1); return size;
        case FOUND_EXPIRED:
            slot_wipe(&set[way], id, numbers);
            metric_add(&numbers->expired, 1);
            return 0;
        case FOUND_BUSY: was_busy = true; break;
        case FOUND_NOT: break;
        }
    }
    metric_add(was_busy ? &numbers->busy : &numbers->misses, 1);
    return 0;
}

void id_cache_remove(struct tls_id_cache *cache, struct slice id,
                     struct tls_id_cache_numbers *numbers)
{
    if (id.size < ID_BYTES_MIN || id.size > ID_BYTES_MAX)
        return;
    struct id_slot *set = set_of(cache, id);
    for (unsigned way = 0; way < TLS_ID_CACHE_WAYS; way++)
        if (slot_has(&set[way], id))
            slot_wipe(&set[way], id, numbers);
}

/* ---- what BoringSSL calls ---- */

static int context_index = -1;

static void context_index_make(void)
{
    context_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static struct tls_id_cache_user *user_of(const SSL_CTX *context)
{
    struct tls_id_cache_user *user = SSL_CTX_get_ex_data(context, context_index);
    CHECK(user != NULL); /* it changed to a context that was not attached */
    return user;
}

static struct slice id_of(const SSL_SESSION *session)
{
    unsigned size;
    const uint8_t *id = SSL_SESSION_get_id(session, &size);
    return slice_of(id, size);
}

/* 0: the reference stays BoringSSL's, we have a copy. */
static int on_new(SSL *ssl, SSL_SESSION *session)
{
    struct tls_id_cache_user *user = user_of(SSL_get_SSL_CTX(ssl));
    const STACK_OF(CRYPTO_BUFFER) *chain = SSL_SESSION_get0_peer_certificates(session);
    if (!SSL_is_server(ssl) || SSL_SESSION_get_protocol_version(session) > TLS1_2_VERSION)
        return 0;
    if (chain != NULL && sk_CRYPTO_BUFFER_num(chain) > 0) {
        metric_add(&user->numbers.withheld, 1);
        return 0;
    }
    uint8_t *bytes;
    size_t size;
    if (SSL_SESSION_to_bytes(session, &bytes, &size) != 1) {
        ERR_clear_error();
        return 0;
    }
    id_cache_put(user->cache, id_of(session), slice_of(bytes, size), *user->now_ms, &user->numbers);
    OPENSSL_free(bytes); /* wipes */
    return 0;
}

/* The session is BoringSSL's to free: no copy of ours to count references of. */
static SSL_SESSION *on_get(SSL *ssl, const uint8_t *id, int id_size, int *keeps_reference)
{
    SSL_CTX *context = SSL_get_SSL_CTX(ssl);
    struct tls_id_cache_user *user = user_of(context);
    uint8_t bytes[TLS_ID_CACHE_SESSION_BYTES_MAX];
    *keeps_reference = 0;
    size_t size = id_cache_get(user->cache, slice_of(id, (size_t)id_size), *user->now_ms, bytes,
                               &user->numbers);
    if (size == 0)
        return NULL;
    SSL_SESSION *session = SSL_SESSION_from_bytes(bytes, size, context);
    OPENSSL_cleanse(bytes, size);
    ERR_clear_error();
    return session;
}

static void on_remove(SSL_CTX *context, SSL_SESSION *session)
{
    struct tls_id_cache_user *user = user_of(context);
    id_cache_remove(user->cache, id_of(session), &user->numbers);
}

int tls_id_cache_attach(struct tls_id_cache_user *user, SSL_CTX *context)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    CHECK(user->cache != NULL);
    CHECK(user->now_ms != NULL);
    CHECK(pthread_once(&once, context_index_make) == 0);
    if (context_index < 0 || SSL_CTX_set_ex_data(context, context_index, user) != 1) {
        ERR_clear_error();
        return -ENOMEM;
    }
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_SERVER | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, on_new);
    SSL_CTX_sess_set_get_cb(context, on_get);
    SSL_CTX_sess_set_remove_cb(context, on_remove);
    return 0;
}

/* ---- numbers ---- */

#define ID_CACHE_COUNTER(field, name, label, words)                                                \
    {                                                                                              \
        "ringpost_tls_id_cache_" name, label, words, METRIC_COUNTER, 0,                            \
            offsetof(struct tls_id_cache_numbers, field)                                           \
    }

/* clang-format off */
const struct metric tls_id_cache_metrics_table[] = {
    ID_CACHE_COUNTER(stored, "stored_total", NULL, "Sessions of TLS 1.2 kept for clients without tickets"),
    ID_CACHE_COUNTER(hits, "lookups_total", "result=\"hit\"", "Session ids that clients came back with"),
    ID_CACHE_COUNTER(misses, "lookups_total", "result=\"miss\"", "Session ids that clients came back with"),
    ID_CACHE_COUNTER(expired, "lookups_total", "result=\"expired\"", "Session ids that clients came back with"),
    ID_CACHE_COUNTER(evicted, "evicted_total", NULL, "Sessions that made room before their time"),
    ID_CACHE_COUNTER(busy, "busy_total", NULL, "Times that another shard wrote just there"),
    ID_CACHE_COUNTER(too_big, "refused_total", "reason=\"too_big\"", "Sessions that were not kept"),
    ID_CACHE_COUNTER(withheld, "refused_total", "reason=\"client_certificate\"", "Sessions that were not kept"),
};
/* clang-format on */
const unsigned tls_id_cache_metrics_count = ARRAY_COUNT(tls_id_cache_metrics_table);
