/*
 * test_tls_ticket.c - which tickets are taken, with keys that come, go, and are not ours
 */
#include "tls/tls_ticket.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/metrics.h"
#include "tests/tls/handshake.h"
#include "tls/tls_ticket_inside.h"

static const int64_t NOW_US = 1'764'167'999'000'000;
static const int64_t HOUR_US = 3'600'000'000;

static const uint16_t versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };

static struct tls_ticket_keys keys;
static struct tls_tickets *tickets;
static const struct tls_ticket_numbers *numbers;
static SSL_CTX *server;
static SSL_CTX *client;
static SSL_SESSION *session;

static void start(void)
{
    cr_assert_eq(tls_tickets_make(&tickets), 0);
    numbers = tls_tickets_numbers(tickets);
    server = handshake_server_context();
    client = handshake_client_context();
    cr_assert_eq(tls_tickets_attach(tickets, server), 0);
    tls_ticket_keys_make(NOW_US, &keys);
}

static void stop(void)
{
    SSL_SESSION_free(session);
    SSL_CTX_free(client);
    SSL_CTX_free(server);
    tls_tickets_free(tickets);
    tls_ticket_keys_wipe(&keys);
}

TestSuite(tls_ticket, .init = start, .fini = stop);

static void take(void)
{
    cr_assert_eq(tls_tickets_take(tickets, &keys), 0);
}

/* For each version anew: runs with a client that has no session yet. */
#define EACH_VERSION                                                                               \
    for (unsigned v = 0; v < ARRAY_COUNT(versions) && begin_version(versions[v]); v++)

static bool begin_version(uint16_t version)
{
    handshake_version(client, version);
    SSL_SESSION_free(session);
    session = NULL;
    return true;
}

/* A handshake that must work; whether it was resumed. */
static bool resumes(void)
{
    bool resumed;
    cr_assert(handshake_once(client, server, &session, &resumed));
    return resumed;
}

Test(tls_ticket, without_keys_there_are_handshakes_all_the_same)
{
    EACH_VERSION
    {
        cr_assert_not(resumes());
        cr_assert_not(resumes());
    }
    cr_assert_eq(numbers->exhausted, 4);
    cr_assert_eq(numbers->unknown_key, 2);
    cr_assert_eq(numbers->sealed, 0);
}

static void flip(size_t index)
{
    const uint8_t *ticket;
    size_t size;
    SSL_SESSION_get0_ticket(session, &ticket, &size);
    uint8_t *copy = malloc(size);
    memcpy(copy, ticket, size);
    copy[index < size ? index : size - 1] ^= 1;
    cr_assert_eq(SSL_SESSION_set_ticket(session, copy, size), 1);
    free(copy);
}

Test(tls_ticket, tampered)
{
    take();
    EACH_VERSION
    {
        static const size_t damaged_at[] = { 16, 27, 28, 60, SIZE_MAX };
        for (unsigned i = 0; i < ARRAY_COUNT(damaged_at); i++) {
            resumes();
            flip(damaged_at[i]);
            uint64_t before = numbers->damaged;
            cr_assert_not(resumes());
            cr_assert_eq(numbers->damaged, before + 1, "%zu", damaged_at[i]);
        }
        resumes();
        flip(0);
        uint64_t before = numbers->unknown_key;
        cr_assert_not(resumes());
        cr_assert_eq(numbers->unknown_key, before + 1);
    }
}

Test(tls_ticket, cut_short)
{
    take();
    EACH_VERSION
    {
        for (size_t size = 1; size < 46; size += 11) {
            static const uint8_t zeroes[64];
            resumes();
            cr_assert_eq(SSL_SESSION_set_ticket(session, zeroes, size), 1);
            cr_assert_not(resumes());
        }
    }
    cr_assert_eq(numbers->damaged, 8);
    cr_assert_eq(numbers->unknown_key, 2);
}

Test(tls_ticket, another_listener_does_not_take_it)
{
    take();
    EACH_VERSION
    {
        cr_assert_eq(SSL_CTX_set_session_id_context(server, (const uint8_t *)"this", 4), 1);
        resumes();
        cr_assert_eq(SSL_CTX_set_session_id_context(server, (const uint8_t *)"other", 5), 1);
        cr_assert_not(resumes());
        cr_assert(resumes());
    }
}

Test(tls_ticket, current_key)
{
    take();
    EACH_VERSION
    {
        cr_assert_not(resumes());
        cr_assert(resumes());
        cr_assert(resumes());
    }
    cr_assert_eq(numbers->opened_current, 4);
    cr_assert_eq(numbers->sealed, versions[0] == TLS1_2_VERSION ? 1 + 3 : 0,
                 "one a full handshake, and one more for each resumption of TLS 1.3");
}

Test(tls_ticket, the_previous_key_opens_and_no_more)
{
    take();
    EACH_VERSION
    {
        cr_assert_not(resumes());
        tls_ticket_keys_rotate(&keys, NOW_US + HOUR_US);
        take();
        uint64_t before = numbers->opened_previous;
        cr_assert(resumes());
        cr_assert_eq(numbers->opened_previous, before + 1);
    }
}

Test(tls_ticket, a_key_that_was_dropped)
{
    take();
    EACH_VERSION
    {
        cr_assert_not(resumes());
        tls_ticket_keys_rotate(&keys, NOW_US);
        tls_ticket_keys_rotate(&keys, NOW_US);
        take();
        cr_assert_not(resumes());
        cr_assert(resumes(), "and gets one of the new key");
    }
    cr_assert_eq(numbers->unknown_key, 2);
}

Test(tls_ticket, rotation_while_a_handshake_runs)
{
    take();
    EACH_VERSION
    {
        struct handshake h;
        resumes();
        handshake_begin(&h, client, server, session);
        cr_assert_eq(SSL_do_handshake(h.client), -1);
        tls_ticket_keys_rotate(&keys, NOW_US);
        take();
        cr_assert(handshake_run(&h));
        cr_assert(handshake_resumed(&h));
        handshake_end(&h);
    }
}

Test(tls_ticket, the_previous_key_expires)
{
    cr_assert_not(tls_ticket_keys_expired(&keys, INT64_MAX, 0), "there is none");
    tls_ticket_keys_rotate(&keys, NOW_US);
    cr_assert_not(tls_ticket_keys_expired(&keys, NOW_US + HOUR_US, HOUR_US));
    cr_assert_not(tls_ticket_keys_expired(&keys, NOW_US - HOUR_US, HOUR_US));
    cr_assert(tls_ticket_keys_expired(&keys, NOW_US + HOUR_US + 1, HOUR_US));
    static const struct tls_ticket_key none;
    cr_assert_eq(memcmp(&keys.previous, &none, sizeof(none)), 0);
    cr_assert_eq(keys.flags, TLS_TICKET_HAS_CURRENT);
    cr_assert_not(tls_ticket_keys_expired(&keys, NOW_US + 2 * HOUR_US, HOUR_US));
}

Test(tls_ticket, a_key_seals_only_so_many)
{
    take();
    EACH_VERSION
    {
        tickets->seals = TLS_TICKET_SEALS_MAX - 1;
        cr_assert_not(resumes());
        take(); /* the same key again counts on */
        cr_assert(resumes() || versions[v] == TLS1_3_VERSION);
        uint64_t before = numbers->exhausted;
        begin_version(versions[v]);
        cr_assert_not(resumes());
        cr_assert_eq(numbers->exhausted, before + 1);
        cr_assert_not(resumes());
        tls_ticket_keys_rotate(&keys, NOW_US);
        take();
        resumes();
        cr_assert(resumes());
    }
}

static enum ssl_verify_result_t verify_anything(SSL *ssl, uint8_t *alert)
{
    (void)ssl;
    (void)alert;
    return ssl_verify_ok;
}

Test(tls_ticket, who_presents_a_certificate_gets_none)
{
    take();
    SSL_CTX_free(client);
    client = handshake_server_context(); /* has a certificate */
    SSL_CTX_set_custom_verify(server, SSL_VERIFY_PEER, verify_anything);
    EACH_VERSION
    {
        for (unsigned i = 0; i < 2; i++) {
            struct handshake h;
            handshake_begin(&h, client, server, NULL);
            cr_assert(handshake_run(&h));
            handshake_end(&h);
        }
    }
    cr_assert_eq(numbers->withheld, 4);
    cr_assert_eq(numbers->sealed, 0);
}

Test(tls_ticket, two_shards_one_set_of_keys)
{
    struct tls_tickets *others;
    SSL_CTX *other = handshake_server_context();
    SSL_CTX *both[] = { server, other };
    cr_assert_eq(tls_tickets_make(&others), 0);
    cr_assert_eq(tls_tickets_attach(others, other), 0);
    take();
    cr_assert_eq(tls_tickets_take(others, &keys), 0);
    EACH_VERSION
    {
        resumes();
        for (unsigned i = 0; i < 4; i++) {
            bool resumed;
            cr_assert(handshake_once(client, both[i % 2], &session, &resumed));
            cr_assert(resumed);
        }
    }
    SSL_CTX_free(other);
    tls_tickets_free(others);
}

static bool in_memory(const uint8_t *bytes, size_t size)
{
    return memmem(tickets->secret.data, tickets->secret.size, bytes, size) != NULL;
}

Test(tls_ticket, old_keys_are_gone)
{
    struct tls_ticket_keys none = { 0 };
    take();
    uint8_t old[TLS_TICKET_SECRET_BYTES];
    memcpy(old, keys.current.secret, sizeof(old));
    cr_assert(in_memory(keys.current.name, sizeof(keys.current.name)));
    cr_assert(in_memory(old, sizeof(old)), "AES-256 begins its schedule with the key");
    tls_ticket_keys_rotate(&keys, NOW_US);
    tls_ticket_keys_rotate(&keys, NOW_US);
    take();
    cr_assert_not(in_memory(old, sizeof(old)));
    cr_assert_eq(tls_tickets_take(tickets, &none), 0);
    for (size_t i = 0; i < tickets->secret.size; i++)
        cr_assert_eq(tickets->secret.data[i], 0);
    static const struct tls_ticket_keys wiped;
    tls_ticket_keys_wipe(&keys);
    cr_assert_eq(memcmp(&keys, &wiped, sizeof(keys)), 0);
}

Test(tls_ticket, a_child_has_no_keys)
{
    take();
    EACH_VERSION
    {
        cr_assert_not(resumes());
        pid_t child = fork();
        if (child == 0) {
            bool resumed;
            bool worked = handshake_once(client, server, &session, &resumed);
            _exit(worked && !resumed && numbers->unknown_key == 1 ? 0 : 1);
        }
        int status;
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
        cr_assert(resumes());
    }
}

Test(tls_ticket, metrics)
{
    struct metrics metrics;
    struct metrics_source source;
    char *text;
    take();
    handshake_version(client, TLS1_3_VERSION);
    resumes();
    resumes();
    metrics_init(&metrics);
    metrics_add_source(&metrics, &source, tls_ticket_metrics_table, tls_ticket_metrics_count,
                       numbers, 0);
    cr_assert_gt(metrics_render(&metrics, &text), 0);
    cr_assert_not_null(strstr(text, "ringpost_tls_ticket_sealed_total{shard=\"0\"} 2"), "%s", text);
    cr_assert_not_null(
        strstr(text, "ringpost_tls_ticket_opened_total{key=\"current\",shard=\"0\"} 1"));
    free(text);
}
