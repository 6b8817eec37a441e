/*
 * test_tls_id_cache.c - sessions by id: found, not found, made room for, and never half
 */
#include "tls/tls_id_cache.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tls/handshake.h"
#include "tests/tls/id_cache_hammer.h"
#include "tls/tls_id_cache_inside.h"

enum { SLOTS = 64, LIFETIME_S = 60 };

static struct tls_id_cache *cache;
static struct tls_id_cache_numbers numbers;
static uint8_t got[TLS_ID_CACHE_SESSION_BYTES_MAX];

static void start(void)
{
    cr_assert_eq(tls_id_cache_make(SLOTS, LIFETIME_S, &cache), 0);
}

static void stop(void)
{
    tls_id_cache_free(cache);
}

TestSuite(tls_id_cache, .init = start, .fini = stop);

/* The set is told by its first octet, the rest by number. */
static struct slice id(uint8_t set, uint32_t number)
{
    static uint8_t bytes[ID_BYTES_MAX];
    memset(bytes, 7, sizeof(bytes));
    bytes[0] = set;
    memcpy(bytes + 10, &number, sizeof(number));
    return slice_of(bytes, sizeof(bytes));
}

static void put(uint8_t set, uint32_t number, uint64_t now_ms)
{
    id_cache_put(cache, id(set, number), slice_of(&number, sizeof(number)), now_ms, &numbers);
}

static bool has(uint8_t set, uint32_t number, uint64_t now_ms)
{
    size_t size = id_cache_get(cache, id(set, number), now_ms, got, &numbers);
    cr_assert(size == 0 || (size == sizeof(number) && memcmp(got, &number, size) == 0));
    return size != 0;
}

static size_t bytes_set(void)
{
    size_t set = 0;
    for (size_t i = 0; i < SLOTS; i++) {
        const uint8_t *slot = (const uint8_t *)&cache->slots[i];
        for (size_t b = sizeof(cache->slots[i].sequence); b < sizeof(cache->slots[i]); b++)
            set += slot[b] != 0;
    }
    return set;
}

Test(tls_id_cache, sizes_that_make_no_sense)
{
    struct tls_id_cache *other;
    cr_assert_eq(tls_id_cache_make(0, 1, &other), -EINVAL);
    cr_assert_eq(tls_id_cache_make(TLS_ID_CACHE_SLOTS_MAX + 1, 1, &other), -EINVAL);
    cr_assert_eq(tls_id_cache_make(1, 0, &other), -EINVAL);
}

Test(tls_id_cache, ids_that_are_none_of_ours)
{
    uint8_t bytes[64] = { 1 };
    for (size_t size = 0; size < sizeof(bytes); size++) {
        if (size >= ID_BYTES_MIN && size <= ID_BYTES_MAX)
            continue;
        id_cache_put(cache, slice_of(bytes, size), SLICE("x"), 1, &numbers);
        id_cache_remove(cache, slice_of(bytes, size), &numbers);
        cr_assert_eq(id_cache_get(cache, slice_of(bytes, size), 1, got, &numbers), 0);
    }
    cr_assert_eq(numbers.stored, 0);
    cr_assert_eq(bytes_set(), 0);
}

Test(tls_id_cache, too_big)
{
    static uint8_t big[TLS_ID_CACHE_SESSION_BYTES_MAX + 1] = { 1 };
    id_cache_put(cache, id(1, 1), slice_of(big, sizeof(big)), 1, &numbers);
    cr_assert_eq(numbers.too_big, 1);
    cr_assert_not(has(1, 1, 1));
    id_cache_put(cache, id(1, 1), slice_of(big, sizeof(big) - 1), 1, &numbers);
    cr_assert_eq(id_cache_get(cache, id(1, 1), 1, got, &numbers), sizeof(big) - 1);
    cr_assert_arr_eq(got, big, sizeof(big) - 1);
}

Test(tls_id_cache, an_id_of_another_length)
{
    put(1, 1, 1);
    struct slice cut = slice_part(id(1, 1), 0, ID_BYTES_MAX - 1);
    cr_assert_eq(id_cache_get(cache, cut, 1, got, &numbers), 0);
}

Test(tls_id_cache, expires)
{
    put(1, 1, 1000);
    cr_assert(has(1, 1, 1000 + LIFETIME_S * 1000 - 1));
    cr_assert_not(has(1, 1, 1000 + LIFETIME_S * 1000));
    cr_assert_eq(numbers.expired, 1);
    cr_assert_eq(bytes_set(), 0, "wiped");
    cr_assert_not(has(1, 1, 1000));
    cr_assert_eq(numbers.misses, 1);
}

Test(tls_id_cache, generation)
{
    put(1, 1, 1);
    tls_id_cache_forget(cache);
    cr_assert_not(has(1, 1, 1));
    cr_assert_eq(numbers.hits, 0);
    put(1, 1, 1);
    cr_assert(has(1, 1, 1));
}

Test(tls_id_cache, makes_room_for_the_next)
{
    for (uint32_t i = 0; i < TLS_ID_CACHE_WAYS; i++)
        put(3, i, 1000 + i);
    cr_assert_eq(numbers.evicted, 0);
    put(3, 100, 2000);
    cr_assert_eq(numbers.evicted, 1);
    cr_assert_not(has(3, 0, 2000), "the first to expire");
    for (uint32_t i = 1; i < TLS_ID_CACHE_WAYS; i++)
        cr_assert(has(3, i, 2000));
    cr_assert(has(3, 100, 2000));
    put(3, 100, 3000);
    cr_assert_eq(numbers.evicted, 1, "in its own place");
    id_cache_remove(cache, id(3, 2), &numbers);
    cr_assert_not(has(3, 2, 3000));
    put(3, 101, 3000);
    cr_assert_eq(numbers.evicted, 1, "in the empty one");
    tls_id_cache_forget(cache);
    put(3, 102, 3000);
    cr_assert_eq(numbers.evicted, 1, "in one of an old generation");
}

Test(tls_id_cache, a_shorter_one_leaves_nothing_of_a_longer)
{
    static uint8_t longer[TLS_ID_CACHE_SESSION_BYTES_MAX];
    memset(longer, 0xaa, sizeof(longer));
    id_cache_put(cache, id(1, 1), slice_of(longer, sizeof(longer)), 1, &numbers);
    put(1, 1, 1);
    cr_assert_eq(memchr(cache->secret.data, 0xaa, cache->secret.size), NULL);
}

Test(tls_id_cache, a_slot_that_is_being_written)
{
    put(1, 1, 1);
    struct id_slot *slot = &cache->slots[TLS_ID_CACHE_WAYS];
    for (unsigned i = 0; i < SLOTS; i++)
        if (atomic_load(&cache->slots[i].expires_ms) != 0)
            slot = &cache->slots[i];
    atomic_fetch_add(&slot->sequence, 1);
    cr_assert_not(has(1, 1, 1));
    put(1, 1, 1);
    cr_assert_eq(numbers.busy, 2);
    cr_assert_eq(numbers.stored, 1);
    atomic_fetch_add(&slot->sequence, 1);
    cr_assert(has(1, 1, 1));
}

Test(tls_id_cache, hammer, .timeout = 120)
{
    struct tls_id_cache_numbers sum;
    cr_assert_eq(id_cache_hammer(4, 200'000, &sum), 0);
    cr_assert_gt(sum.hits, 0);
    cr_assert_gt(sum.stored, 0);
    cr_assert_gt(sum.evicted, 0);
}

/* ---- handshakes ---- */

static uint64_t clock_ms = 1000;
static struct tls_id_cache_user users[2];
static SSL_CTX *servers[2];
static SSL_CTX *client;

static void contexts_make(void)
{
    client = handshake_client_context();
    SSL_CTX_set_options(client, SSL_OP_NO_TICKET);
    handshake_version(client, TLS1_2_VERSION);
    for (unsigned i = 0; i < 2; i++) {
        users[i] = (struct tls_id_cache_user) { .cache = cache, .now_ms = &clock_ms };
        servers[i] = handshake_server_context();
        cr_assert_eq(tls_id_cache_attach(&users[i], servers[i]), 0);
    }
}

static void contexts_free(void)
{
    SSL_CTX_free(client);
    SSL_CTX_free(servers[0]);
    SSL_CTX_free(servers[1]);
}

static bool resumes(unsigned shard, SSL_SESSION **session)
{
    bool resumed;
    cr_assert(handshake_once(client, servers[shard], session, &resumed));
    return resumed;
}

Test(tls_id_cache, handshakes_on_two_shards)
{
    SSL_SESSION *session = NULL;
    contexts_make();
    cr_assert_not(resumes(0, &session));
    cr_assert_eq(users[0].numbers.stored, 1);
    cr_assert(resumes(1, &session));
    cr_assert(resumes(0, &session));
    cr_assert_eq(users[0].numbers.hits, 1);
    cr_assert_eq(users[1].numbers.hits, 1);
    tls_id_cache_forget(cache);
    cr_assert_not(resumes(1, &session));
    cr_assert(resumes(0, &session));
    clock_ms += LIFETIME_S * 1000;
    cr_assert_not(resumes(0, &session));
    cr_assert_eq(users[0].numbers.expired, 1);
    SSL_CTX_set_session_id_context(servers[1], (const uint8_t *)"other", 5);
    cr_assert_not(resumes(1, &session), "another listener");
    SSL_SESSION_free(session);
    contexts_free();
}

Test(tls_id_cache, clients_with_tickets_do_not_fill_it)
{
    SSL_SESSION *session = NULL;
    contexts_make();
    SSL_CTX_clear_options(client, SSL_OP_NO_TICKET);
    for (uint16_t version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        handshake_version(client, version);
        cr_assert_not(resumes(0, &session));
        cr_assert(resumes(0, &session));
        SSL_SESSION_free(session);
        session = NULL;
    }
    cr_assert_eq(users[0].numbers.stored, 0);
    contexts_free();
}

static enum ssl_verify_result_t verify_anything(SSL *ssl, uint8_t *alert)
{
    (void)ssl;
    (void)alert;
    return ssl_verify_ok;
}

Test(tls_id_cache, who_presents_a_certificate_is_not_kept)
{
    struct handshake h;
    contexts_make();
    SSL_CTX_free(client);
    client = handshake_server_context(); /* has a certificate */
    SSL_CTX_set_options(client, SSL_OP_NO_TICKET);
    handshake_version(client, TLS1_2_VERSION);
    SSL_CTX_set_custom_verify(servers[0], SSL_VERIFY_PEER, verify_anything);
    handshake_begin(&h, client, servers[0], NULL);
    cr_assert(handshake_run(&h));
    handshake_end(&h);
    cr_assert_eq(users[0].numbers.withheld, 1);
    cr_assert_eq(bytes_set(), 0);
    contexts_free();
}

Test(tls_id_cache, metrics)
{
    struct metrics metrics;
    struct metrics_source source;
    char *text;
    put(1, 1, 1);
    has(1, 1, 1);
    metrics_init(&metrics);
    metrics_add_source(&metrics, &source, tls_id_cache_metrics_table, tls_id_cache_metrics_count,
                       &numbers, 0);
    cr_assert_gt(metrics_render(&metrics, &text), 0);
    cr_assert_not_null(strstr(text, "tls_id_cache_lookups_total{result=\"hit\",shard=\"0\"} 1"));
    free(text);
}
