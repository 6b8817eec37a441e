/*
 * test_tls_session.c - a session over a wire that is cut up and cut off
 */
#include <criterion/criterion.h>

#include "tests/tls/pair_world.h"
#include "tls/tls_verify.h"

enum { RECORD_HEAD = 5 };

static struct pair_pki pki;
static struct pair_world w;
static struct pair pair;

static void setup(void)
{
    pair_pki_make(&pki);
    pair_world_init(&w, &pki, NULL, true, 0);
}

static void teardown(void)
{
    pair_free(&pair);
    pair_world_free(&w);
    pair_pki_free(&pki);
}

TestSuite(tls_session, .init = setup, .fini = teardown);

static enum pair_result handshake(enum tls_level level, uint64_t seed, size_t piece, uint64_t cut)
{
    struct tls_client_policy policy = pair_policy(&w, level);
    struct tls_client_target target = pair_target("server.example");
    enum tls_result client, server;
    pair_init(&pair, seed, piece);
    pair.cut_at = cut;
    pair_world_begin(&w, &pair, false, &policy, &target);
    return pair_handshake(&pair, &client, &server);
}

/* ---- invalid first ---- */

Test(tls_session, garbage_fails_with_words)
{
    pair_init(&pair, 1, 0);
    pair.server = tls_server_accept(w.server, false, &pair_ends, &pair.server_end);
    static const char text[] = "EHLO client.example\r\nMAIL FROM:<a@b.example>\r\n";
    cr_assert_eq(pair_ends.put(&pair.client_end, (const uint8_t *)text, sizeof(text) - 1),
                 sizeof(text) - 1);
    cr_assert_eq(tls_session_handshake(pair.server), TLS_FAILED);
    cr_assert_eq(tls_session_handshake(pair.server), TLS_FAILED, "for good");
    char why[TLS_TEXT_MAX];
    cr_assert_gt(tls_session_why(pair.server, why), 0);
    cr_assert_str_eq(why, "wrong version number");
    cr_assert_eq(w.shard.numbers.server.failed, 1);
}

Test(tls_session, a_cut_after_each_octet_leaves_both_waiting)
{
    cr_assert_eq(handshake(TLS_LEVEL_NAME, 1, 0, UINT64_MAX), PAIR_DONE);
    uint64_t all = pair.to_server.carried + pair.to_client.carried;
    pair_free(&pair);
    for (uint64_t cut = 0; cut < all; cut += cut < 64 ? 1 : 7) {
        tls_client_cache_clear(&w.sessions);
        enum pair_result r = handshake(TLS_LEVEL_NAME, cut, 0, cut);
        /* The last flight is the client's: it is done then, and the server is not. */
        cr_assert_neq(r, PAIR_FAILED, "cut after %lu of %lu", cut, all);
        pair_free(&pair);
    }
}

Test(tls_session, one_wrong_octet_never_passes)
{
    for (unsigned i = 0; i < 200; i++) {
        struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_NAME);
        struct tls_client_target target = pair_target("server.example");
        tls_client_cache_clear(&w.sessions);
        pair_init(&pair, i, 0);
        pair_world_begin(&w, &pair, false, &policy, &target);
        cr_assert_eq(tls_session_handshake(pair.client), TLS_WANT_IN);
        struct pair_wire *wire = &pair.to_server;
        if (i % 2 == 1) { /* in the server's flight */
            cr_assert_eq(tls_session_handshake(pair.server), TLS_WANT_IN);
            wire = &pair.to_client;
        }
        /* of the first record's body: the version in the head of a record is nobody's concern */
        size_t body = (size_t)(wire->bytes[3] << 8 | wire->bytes[4]);
        size_t at = RECORD_HEAD + (size_t)random_below(&pair.random, body);
        wire->bytes[at] ^= (uint8_t)(1 << random_below(&pair.random, 8));
        enum tls_result client, server;
        pair.cut_at = wire->carried + 20'000;
        cr_assert_neq(pair_handshake(&pair, &client, &server), PAIR_DONE, "octet %zu", at);
        pair_free(&pair);
    }
}

Test(tls_session, a_close_notify_is_an_end_and_a_cut_is_none)
{
    cr_assert_eq(handshake(TLS_LEVEL_MAY, 2, 0, UINT64_MAX), PAIR_DONE);
    cr_assert(pair_send(&pair, pair.server, pair.client, 10));
    uint8_t in[64];
    size_t bytes;
    cr_assert_eq(tls_session_read(pair.client, in, sizeof(in), &bytes), TLS_WANT_IN);
    cr_assert_eq(tls_session_close(pair.server), TLS_OK);
    cr_assert_eq(tls_session_read(pair.client, in, sizeof(in), &bytes), TLS_CLOSED);
    cr_assert_eq(tls_session_read(pair.client, in, sizeof(in), &bytes), TLS_CLOSED);
}

Test(tls_session, a_close_instead_of_a_handshake_fails)
{
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_MAY);
    struct tls_client_target target = pair_target("server.example");
    pair_init(&pair, 2, 0);
    pair_world_begin(&w, &pair, false, &policy, &target);
    static const uint8_t close_notify[] = { 21, 3, 1, 0, 2, 1, 0 };
    pair_ends.put(&pair.server_end, close_notify, sizeof(close_notify));
    cr_assert_eq(tls_session_handshake(pair.client), TLS_FAILED);
    char why[TLS_TEXT_MAX];
    tls_session_why(pair.client, why);
    cr_assert_gt(strlen(why), 5, "%s", why);
}

/* ---- what works ---- */

Test(tls_session, octets_arrive_as_they_were_in_any_pieces)
{
    static const size_t pieces[] = { 0, 1, 2, 7, 100, 5'000 };
    static const size_t sizes[] = { 1, 100, 16'384, 16'385, 100'000 };
    for (size_t i = 0; i < ARRAY_COUNT(pieces); i++) {
        cr_assert_eq(handshake(TLS_LEVEL_NAME, i, pieces[i], UINT64_MAX), PAIR_DONE);
        for (size_t k = 0; k < ARRAY_COUNT(sizes); k++) {
            if (pieces[i] == 1 && sizes[k] > 20'000)
                continue;
            cr_assert(pair_send(&pair, pair.client, pair.server, sizes[k]));
            cr_assert(pair_send(&pair, pair.server, pair.client, sizes[k]));
        }
        pair_free(&pair);
    }
}

Test(tls_session, facts_are_told)
{
    cr_assert_eq(handshake(TLS_LEVEL_NAME, 3, 0, UINT64_MAX), PAIR_DONE);
    struct tls_facts facts;
    tls_session_facts(pair.server, &facts);
    cr_assert_str_eq(facts.version, "TLSv1.3");
    cr_assert_str_eq(facts.server_name, "server.example");
    cr_assert(strncmp(facts.suite, "TLS_", 4) == 0);
    cr_assert(strstr(facts.group, "X25519") != NULL, "%s", facts.group);
    cr_assert_null(facts.peer);
    cr_assert(!facts.is_resumed);
    cr_assert(!facts.is_pooled);
    tls_session_facts(pair.client, &facts);
    cr_assert_not_null(facts.peer);
    cr_assert_eq(facts.peer->verdict, TLS_VERDICT_VALID);
    cr_assert_eq(w.shard.numbers.server.full, 1);
    cr_assert_eq(w.shard.numbers.server.tls13, 1);
    cr_assert_eq(w.shard.numbers.client.certificates_valid, 1);
}
