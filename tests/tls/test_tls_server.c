/*
 * test_tls_server.c - certificates by name, resumption, client certificates
 */
#include <criterion/criterion.h>

#include "tests/tls/pair_world.h"
#include "tls/tls_verify.h"

static struct pair_pki pki;
static struct pair_world w;
static struct pair pair;

static void setup(void)
{
    pair_pki_make(&pki);
    pair_world_init(&w, &pki, NULL, true, 64);
}

static void teardown(void)
{
    pair_free(&pair);
    pair_world_free(&w);
    pair_pki_free(&pki);
}

TestSuite(tls_server, .init = setup, .fini = teardown);

static enum pair_result once(const struct tls_client_policy *policy,
                             const struct tls_client_target *target, bool asks)
{
    enum tls_result client, server;
    pair_free(&pair);
    pair_init(&pair, 1, 0);
    pair_world_begin(&w, &pair, asks, policy, target);
    enum pair_result r = pair_handshake(&pair, &client, &server);
    if (r == PAIR_DONE) /* tickets of TLS 1.3 come with the server's first words */
        cr_assert(pair_send(&pair, pair.server, pair.client, 3));
    return r;
}

static const struct tls_peer *shown(const char *name)
{
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_MAY);
    struct tls_client_target target = pair_target(name);
    tls_client_cache_clear(&w.sessions);
    cr_assert_eq(once(&policy, &target, false), PAIR_DONE);
    struct tls_facts facts;
    tls_session_facts(pair.client, &facts);
    cr_assert_not_null(facts.peer);
    return facts.peer;
}

Test(tls_server, the_certificate_goes_by_the_name)
{
    cr_assert_str_eq(shown("server.example")->leaf.common_name, "ecdsa");
    cr_assert_str_eq(shown("a.wild.example")->leaf.common_name, "wild");
    cr_assert_str_eq(shown("unknown.example")->leaf.common_name, "ecdsa", "the first one");
    cr_assert_str_eq(shown("b.a.wild.example")->leaf.common_name, "ecdsa", "one label only");
    cr_assert_str_eq(shown("")->leaf.common_name, "ecdsa");
}

static bool resumed(void)
{
    struct tls_facts client, server;
    tls_session_facts(pair.client, &client);
    tls_session_facts(pair.server, &server);
    cr_assert_eq(client.is_resumed, server.is_resumed);
    return client.is_resumed;
}

/* ---- names for which clients are asked ---- */

static const struct slice reserved[] = { SLICE("partner.example"), SLICE("*.wild.example") };

/* Whether the server has seen the client's certificate. */
static bool showed(const char *name, enum tls_asks asks, unsigned version_max)
{
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_ENCRYPT);
    struct tls_client_target target = pair_target(name);
    enum tls_result client, server;
    struct tls_facts facts;
    policy.credential = pki.credentials[PAIR_CLIENT];
    tls_client_policy_seal(&policy, NULL, 0);
    target.version_max = version_max;
    pair_free(&pair);
    pair_init(&pair, 1, 0);
    pair_world_begin(&w, &pair, asks, &policy, &target);
    cr_assert_eq(pair_handshake(&pair, &client, &server), PAIR_DONE);
    cr_assert(pair_send(&pair, pair.server, pair.client, 3));
    tls_session_facts(pair.server, &facts);
    cr_assert(facts.peer == NULL || facts.peer->verdict == TLS_VERDICT_VALID);
    cr_assert_eq(tls_client_asked(pair.client), facts.peer != NULL);
    return facts.peer != NULL;
}

Test(tls_server, who_names_a_reserved_name_is_asked_for_a_certificate)
{
    static const struct {
        const char *name;
        bool is_reserved;
    } cases[] = {
        { "server.example", false },    { "", false },
        { "partner.example", true },    { "PARTNER.example", true },
        { "a.partner.example", false }, { "notpartner.example", false },
        { "a.wild.example", true },     { "b.a.Wild.Example", true },
        { "wild.example", false },      { "awild.example", false },
    };
    for (unsigned version = TLS_VERSION_12; version <= TLS_VERSION_13; version++)
        for (unsigned one = 0; one < 2; one++) {
            w.options.credentials_count = one ? 1 : 3;
            w.options.asked_names = reserved;
            w.options.asked_names_count = ARRAY_COUNT(reserved);
            pair_world_reload(&w);
            for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
                tls_client_cache_clear(&w.sessions);
                cr_assert_eq(showed(cases[i].name, TLS_ASKS_BY_NAME, version), cases[i].is_reserved,
                             "%s", cases[i].name);
                tls_client_cache_clear(&w.sessions);
                cr_assert(showed(cases[i].name, TLS_ASKS_ALWAYS, version));
                tls_client_cache_clear(&w.sessions);
                cr_assert(!showed(cases[i].name, TLS_ASKS_NEVER, version));
            }
            w.options.asked_names_count = 0;
            pair_world_reload(&w);
            tls_client_cache_clear(&w.sessions);
            cr_assert(!showed("partner.example", TLS_ASKS_BY_NAME, version));
        }
}

Test(tls_server, a_session_in_which_nobody_was_asked_is_not_resumed_under_a_reserved_name)
{
    for (unsigned version = TLS_VERSION_12; version <= TLS_VERSION_13; version++) {
        struct tls_facts facts;
        tls_client_cache_clear(&w.sessions);
        w.options.asked_names_count = 0;
        pair_world_reload(&w);
        cr_assert(!showed("partner.example", TLS_ASKS_BY_NAME, version));
        cr_assert(!showed("partner.example", TLS_ASKS_BY_NAME, version));
        tls_session_facts(pair.client, &facts);
        cr_assert(facts.is_resumed, "it has a session to offer");
        w.options.asked_names = reserved;
        w.options.asked_names_count = ARRAY_COUNT(reserved);
        pair_world_reload(&w);
        cr_assert(showed("partner.example", TLS_ASKS_BY_NAME, version));
        tls_session_facts(pair.client, &facts);
        cr_assert(!facts.is_resumed);
    }
}

Test(tls_server, a_ticket_resumes_before_and_after_a_rotation_and_not_after_two)
{
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_NAME);
    struct tls_client_target target = pair_target("server.example");
    cr_assert_eq(once(&policy, &target, false), PAIR_DONE);
    cr_assert(!resumed());
    cr_assert_eq(once(&policy, &target, false), PAIR_DONE);
    cr_assert(resumed());
    tls_ticket_keys_rotate(&w.keys, w.wall_us);
    cr_assert_eq(tls_tickets_take(w.shard.tickets, &w.keys), 0);
    cr_assert_eq(once(&policy, &target, false), PAIR_DONE);
    cr_assert(resumed(), "by the previous key");
    pair_world_reload(&w);
    cr_assert_eq(once(&policy, &target, false), PAIR_DONE);
    cr_assert(resumed(), "a reload forgets nothing");
    for (unsigned i = 0; i < 2; i++)
        tls_ticket_keys_rotate(&w.keys, w.wall_us);
    cr_assert_eq(tls_tickets_take(w.shard.tickets, &w.keys), 0);
    cr_assert_eq(once(&policy, &target, false), PAIR_DONE);
    cr_assert(!resumed());
}

Test(tls_server, a_ticket_of_one_listener_is_none_on_another)
{
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_NAME);
    struct tls_client_target target = pair_target("server.example");
    cr_assert_eq(once(&policy, &target, false), PAIR_DONE);
    w.options.name = "other";
    pair_world_reload(&w);
    cr_assert_eq(once(&policy, &target, false), PAIR_DONE);
    cr_assert(!resumed());
}

Test(tls_server, tls_12_resumes_by_ticket)
{
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_NAME);
    struct tls_client_target target = pair_target("server.example");
    target.step = TLS_STEP_ALL;
    w.options.version_min = TLS_VERSION_12;
    struct tls_client_target old = target;
    old.step = TLS_STEP_12;
    cr_assert_eq(once(&policy, &old, false), PAIR_FAILED,
                 "who falls back to 1.2 without need is told so (RFC 7507)");
    char why[TLS_TEXT_MAX];
    tls_session_why(pair.client, why);
    cr_assert_not_null(strstr(why, "inappropriate fallback"), "%s", why);
}

Test(tls_server, a_client_certificate_is_asked_for_judged_and_never_demanded)
{
    struct tls_client_target target = pair_target("server.example");
    static const struct {
        int credential; /* -1: none */
        enum tls_verdict verdict;
    } cases[] = {
        { -1, TLS_VERDICT_NONE },
        { PAIR_CLIENT, TLS_VERDICT_VALID },
        { PAIR_STRANGER, TLS_VERDICT_UNTRUSTED },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_ENCRYPT);
        if (cases[i].credential >= 0)
            policy.credential = pki.credentials[cases[i].credential];
        tls_client_policy_seal(&policy, NULL, 0);
        for (unsigned again = 0; again < 2; again++) {
            cr_assert_eq(once(&policy, &target, true), PAIR_DONE);
            struct tls_facts facts;
            tls_session_facts(pair.server, &facts);
            cr_assert_eq(facts.peer != NULL, cases[i].credential >= 0);
            if (facts.peer != NULL)
                cr_assert_eq(facts.peer->verdict, cases[i].verdict, "%s", facts.peer->reason);
            /* What carries a verdict is not resumed: the next one is asked anew. */
            cr_assert_eq(resumed(), again == 1 && cases[i].credential < 0);
        }
    }
}

Test(tls_server, nobody_is_asked_unless_it_is_wanted)
{
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_ENCRYPT);
    struct tls_client_target target = pair_target("server.example");
    policy.credential = pki.credentials[PAIR_CLIENT];
    tls_client_policy_seal(&policy, NULL, 0);
    cr_assert_eq(once(&policy, &target, false), PAIR_DONE);
    struct tls_facts facts;
    tls_session_facts(pair.server, &facts);
    cr_assert_null(facts.peer);
}

Test(tls_server, key_shares_come_from_the_pool_while_there_are_any)
{
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_NAME);
    struct tls_client_target target = pair_target("server.example");
    while (tls_keyshares_fill(w.shard.keyshares, 64, 1))
        continue;
    cr_assert_eq(once(&policy, &target, false), PAIR_DONE);
    struct tls_facts facts;
    tls_session_facts(pair.server, &facts);
    cr_assert(facts.is_pooled);
    tls_session_facts(pair.client, &facts);
    cr_assert(facts.is_pooled);
    for (unsigned i = 0; i < 64; i++) {
        tls_client_cache_clear(&w.sessions);
        cr_assert_eq(once(&policy, &target, false), PAIR_DONE);
    }
    tls_session_facts(pair.server, &facts);
    cr_assert(!facts.is_pooled, "an empty pool is no reason to fail");
    cr_assert_gt(tls_keyshares_numbers(w.shard.keyshares)->misses, 0);
}

Test(tls_server, versions_under_the_minimum_are_refused)
{
    w.options.version_min = TLS_VERSION_13;
    pair_world_reload(&w);
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_NAME);
    struct tls_client_target target = pair_target("server.example");
    target.step = TLS_STEP_12;
    cr_assert_eq(once(&policy, &target, false), PAIR_FAILED);
    target.step = TLS_STEP_ALL;
    cr_assert_eq(once(&policy, &target, false), PAIR_DONE);
}
