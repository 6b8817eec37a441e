/*
 * test_tls_client_cache.c - which session is offered, and how often
 */
#include "tls/tls_client_cache.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "tests/tls/handshake.h"

enum { KEYS = 4 };

static struct tls_client_cache cache;
static SSL_CTX *server;
static SSL_CTX *client;

static void start(void)
{
    cr_assert_eq(tls_client_cache_init(&cache, KEYS), 0);
    server = handshake_server_context();
    client = handshake_client_context();
}

static void stop(void)
{
    tls_client_cache_free(&cache);
    SSL_CTX_free(client);
    SSL_CTX_free(server);
}

TestSuite(tls_client_cache, .init = start, .fini = stop);

static struct tls_lru_key key(const char *words)
{
    return tls_lru_key_of(slice_of_string(words));
}

/* What a server of this version gives; the caller's. */
static SSL_SESSION *session_of(uint16_t version)
{
    struct handshake h;
    handshake_version(client, version);
    handshake_begin(&h, client, server, NULL);
    cr_assert(handshake_run(&h));
    SSL_SESSION *session = handshake_take_session(&h);
    handshake_end(&h);
    cr_assert_not_null(session);
    return session;
}

static void put(const char *words, SSL_SESSION *session)
{
    struct tls_lru_key k = key(words);
    tls_client_cache_put(&cache, &k, session);
}

static SSL_SESSION *take(const char *words, uint64_t now_s)
{
    struct tls_lru_key k = key(words);
    return tls_client_cache_take(&cache, &k, now_s);
}

/* Takes what should be this one, and lets go. */
static void takes(const char *words, uint64_t now_s, const SSL_SESSION *wanted)
{
    SSL_SESSION *session = take(words, now_s);
    cr_assert_eq(session, wanted);
    SSL_SESSION_free(session);
}

Test(tls_client_cache, counts_that_make_no_sense)
{
    struct tls_client_cache other;
    cr_assert_eq(tls_client_cache_init(&other, 0), -EINVAL);
    tls_client_cache_free(&other);
}

Test(tls_client_cache, another_key)
{
    SSL_SESSION *session = session_of(TLS1_2_VERSION);
    put("192.0.2.1:25 mx.example dane", session);
    takes("192.0.2.1:25 mx.example", SSL_SESSION_get_time(session), NULL);
    takes("192.0.2.1:25 mx.example pkix", SSL_SESSION_get_time(session), NULL);
    takes("192.0.2.1:25 mx.example dane", SSL_SESSION_get_time(session), session);
    cr_assert_eq(cache.numbers.misses, 2);
    cr_assert_eq(cache.numbers.hits, 1);
}

Test(tls_client_cache, of_tls12_stay)
{
    SSL_SESSION *session = session_of(TLS1_2_VERSION);
    uint64_t made_s = SSL_SESSION_get_time(session);
    put("a", session);
    for (unsigned i = 0; i < 3; i++)
        takes("a", made_s, session);
    SSL_SESSION *newer = session_of(TLS1_2_VERSION);
    put("a", newer);
    takes("a", made_s, newer);
    cr_assert_eq(cache.numbers.keys, 1);
}

Test(tls_client_cache, of_tls13_are_used_once)
{
    SSL_SESSION *sessions[3];
    for (unsigned i = 0; i < 3; i++) {
        sessions[i] = session_of(TLS1_3_VERSION);
        put("a", sessions[i]);
    }
    uint64_t now_s = SSL_SESSION_get_time(sessions[2]);
    takes("a", now_s, sessions[2]);
    takes("a", now_s, sessions[1]);
    takes("a", now_s, NULL);
    cr_assert_eq(cache.numbers.stored, 3);
    cr_assert_eq(cache.numbers.hits, 2);
    cr_assert_eq(cache.numbers.misses, 1);
    cr_assert_eq(cache.numbers.keys, 0);
}

Test(tls_client_cache, a_server_that_changes_its_version)
{
    SSL_SESSION *old = session_of(TLS1_3_VERSION);
    SSL_SESSION *new = session_of(TLS1_2_VERSION);
    uint64_t now_s = SSL_SESSION_get_time(new);
    put("a", old);
    put("a", new);
    takes("a", now_s, new);
    takes("a", now_s, new);
    SSL_SESSION *newest = session_of(TLS1_3_VERSION);
    put("a", newest);
    takes("a", now_s, newest);
    takes("a", now_s, NULL);
}

Test(tls_client_cache, expired)
{
    SSL_SESSION *sessions[2] = { session_of(TLS1_3_VERSION), session_of(TLS1_3_VERSION) };
    uint64_t made_s = SSL_SESSION_get_time(sessions[1]);
    uint32_t timeout_s = SSL_SESSION_get_timeout(sessions[1]);
    cr_assert_gt(timeout_s, 0);
    SSL_SESSION *old = session_of(TLS1_2_VERSION);
    put("old", old);
    put("a", sessions[0]);
    put("a", sessions[1]);
    takes("a", made_s - 1000, sessions[1]); /* a clock that stepped back */
    put("a", session_of(TLS1_3_VERSION));
    takes("a", made_s + 10 * timeout_s, NULL);
    cr_assert_eq(cache.numbers.expired, 2);
    takes("old", SSL_SESSION_get_time(old) + SSL_SESSION_get_timeout(old), NULL);
    cr_assert_eq(cache.numbers.expired, 3);
    cr_assert_eq(cache.numbers.keys, 0);
}

Test(tls_client_cache, makes_room)
{
    static const char *const names[] = { "a", "b", "c", "d", "e" };
    SSL_SESSION *session = session_of(TLS1_2_VERSION);
    uint64_t now_s = SSL_SESSION_get_time(session);
    for (unsigned i = 0; i < KEYS; i++) {
        SSL_SESSION_up_ref(session);
        put(names[i], session);
    }
    takes("a", now_s, session);
    put("e", session);
    takes("b", now_s, NULL);
    takes("a", now_s, session);
    takes("e", now_s, session);
    cr_assert_eq(cache.numbers.evicted, 1);
    cr_assert_eq(cache.numbers.keys, KEYS);
    struct tls_lru_key k = key("a");
    tls_client_cache_forget(&cache, &k);
    tls_client_cache_forget(&cache, &k);
    takes("a", now_s, NULL);
    tls_client_cache_clear(&cache);
    takes("e", now_s, NULL);
    cr_assert_eq(cache.numbers.keys, 0);
}

Test(tls_client_cache, resumes)
{
    for (uint16_t version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
        SSL_SESSION *got = session_of(version);
        uint64_t now_s = SSL_SESSION_get_time(got);
        put("a", got);
        for (unsigned i = 0; i < 3; i++) {
            struct handshake h;
            SSL_SESSION *session = take("a", now_s);
            handshake_begin(&h, client, server, session);
            SSL_SESSION_free(session);
            cr_assert(handshake_run(&h));
            cr_assert(handshake_resumed(&h));
            for (SSL_SESSION *next; (next = handshake_take_session(&h)) != NULL;)
                put("a", next);
            handshake_end(&h);
        }
        tls_client_cache_clear(&cache);
    }
}

Test(tls_client_cache, metrics)
{
    struct metrics metrics;
    struct metrics_source source;
    char *text;
    takes("a", 1, NULL);
    metrics_init(&metrics);
    metrics_add_source(&metrics, &source, tls_client_cache_metrics_table,
                       tls_client_cache_metrics_count, &cache.numbers, 0);
    cr_assert_gt(metrics_render(&metrics, &text), 0);
    cr_assert_not_null(
        strstr(text, "tls_client_cache_lookups_total{result=\"miss\",shard=\"0\"} 1"));
    free(text);
}
