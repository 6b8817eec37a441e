/*
 * test_tls_client.c - levels, steps, and what is resumed by whom
 */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "tests/tls/pair_world.h"
#include "tests/tls/pki_crl.h"
#include "tls/tls_session_inside.h"
#include "tls/tls_verify.h"

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

TestSuite(tls_client, .init = setup, .fini = teardown);

static enum pair_result once(const struct tls_client_policy *policy,
                             const struct tls_client_target *target)
{
    enum tls_result client, server;
    pair_free(&pair);
    pair_init(&pair, 1, 0);
    pair_world_begin(&w, &pair, false, policy, target);
    enum pair_result r = pair_handshake(&pair, &client, &server);
    if (r == PAIR_DONE)
        cr_assert(pair_send(&pair, pair.server, pair.client, 3));
    return r;
}

static const char *why(void)
{
    static char text[TLS_TEXT_MAX];
    tls_session_why(pair.client, text);
    return text;
}

/* What the server shows, and the level from which on that is not enough. */
Test(tls_client, each_level_demands_what_it_says)
{
    static const struct {
        enum pair_credential shows;
        enum tls_level fails_from;
        const char *words;
    } cases[] = {
        { PAIR_ECDSA, TLS_LEVELS, "" },
        { PAIR_RSA, TLS_LEVELS, "" },
        { PAIR_WILD, TLS_LEVEL_NAME, "presents *.wild.example" },
        { PAIR_STRANGER, TLS_LEVEL_CHAIN, "self-signed" },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        w.options.credentials = (struct tls_credential *const *)&pki.credentials[cases[i].shows];
        w.options.credentials_count = 1;
        pair_world_reload(&w);
        for (enum tls_level level = TLS_LEVEL_MAY; level < TLS_LEVELS; level++) {
            struct tls_client_policy policy = pair_policy(&w, level);
            struct tls_client_target target = pair_target("server.example");
            tls_client_cache_clear(&w.sessions);
            bool fails = level >= cases[i].fails_from;
            cr_assert_eq(once(&policy, &target), fails ? PAIR_FAILED : PAIR_DONE,
                         "case %zu level %d: %s", i, level, why());
            if (fails)
                cr_assert_not_null(strstr(why(), cases[i].words), "%s", why());
            cr_assert_eq(tls_client_name_ok(pair.client),
                         cases[i].shows == PAIR_ECDSA || cases[i].shows == PAIR_RSA);
        }
    }
}

Test(tls_client, nothing_is_trusted_without_roots)
{
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_CHAIN);
    struct tls_client_target target = pair_target("server.example");
    policy.roots = NULL;
    tls_client_policy_seal(&policy, NULL, 0);
    cr_assert_eq(once(&policy, &target), PAIR_FAILED);
}

Test(tls_client, a_session_of_one_policy_is_none_of_another)
{
    struct tls_client_policy may = pair_policy(&w, TLS_LEVEL_MAY);
    struct tls_client_policy name = pair_policy(&w, TLS_LEVEL_NAME);
    struct tls_client_target target = pair_target("server.example");
    struct tls_facts facts;
    for (unsigned i = 0; i < 3; i++) {
        cr_assert_eq(once(&may, &target), PAIR_DONE);
        tls_session_facts(pair.client, &facts);
        cr_assert_eq(facts.is_resumed, i > 0);
        cr_assert_not_null(facts.peer, "who it was is known from before");
        cr_assert_eq(facts.peer->verdict, TLS_VERDICT_VALID);
        cr_assert_str_eq(facts.peer->leaf.issuer, "CN=root");
        cr_assert(tls_client_name_ok(pair.client));
    }
    cr_assert_eq(once(&name, &target), PAIR_DONE);
    tls_session_facts(pair.client, &facts);
    cr_assert(!facts.is_resumed);
    /* other names wanted, other host, other SNI: likewise */
    static const struct slice others[] = { SLICE("server.example"), SLICE("x.example") };
    struct tls_client_policy wider = name;
    tls_client_policy_seal(&wider, others, 2);
    cr_assert_eq(once(&wider, &target), PAIR_DONE);
    tls_session_facts(pair.client, &facts);
    cr_assert(!facts.is_resumed);
    static const uint8_t host[TLS_CLIENT_HOST_BYTES] = { 2 };
    target.host = host;
    cr_assert_eq(once(&name, &target), PAIR_DONE);
    tls_session_facts(pair.client, &facts);
    cr_assert(!facts.is_resumed);
}

/* A reload may have taken the root away: what was verified once is verified again. */
Test(tls_client, a_resumed_session_is_judged_again_where_the_level_judges)
{
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_NAME);
    struct tls_client_target target = pair_target("server.example");
    cr_assert_eq(once(&policy, &target), PAIR_DONE);
    w.wall_us += INT64_C(3'600) * 1'000'000 / 2;
    cr_assert_eq(once(&policy, &target), PAIR_DONE);
    struct tls_facts facts;
    tls_session_facts(pair.client, &facts);
    cr_assert(facts.is_resumed);
    cr_assert_not_null(facts.peer, "judged again");
    struct tls_client_policy strict = policy;
    strict.roots = NULL; /* the digest is the same: as if the bundle had changed under it */
    cr_assert_eq(once(&strict, &target), PAIR_FAILED);
}

/* ---- a host that wants our certificate ---- */

static uint8_t refuses_by; /* an alert; 0: it takes what comes */

static enum ssl_verify_result_t on_ours(SSL *ssl, uint8_t *alert)
{
    (void)ssl;
    *alert = refuses_by;
    return refuses_by == 0 ? ssl_verify_ok : ssl_verify_invalid;
}

/* False: the host refused; by TLS 1.3 that is heard at a read. */
static bool demanded(const struct tls_client_policy *policy, int mode, unsigned version_max)
{
    struct tls_client_target target = pair_target("server.example");
    enum tls_result client, server;
    pair_free(&pair);
    pair_init(&pair, 1, 0);
    target.version_max = version_max;
    pair_world_begin(&w, &pair, false, policy, &target);
    if (mode != SSL_VERIFY_NONE)
        SSL_set_custom_verify(pair.server->ssl, mode, on_ours);
    enum pair_result r = pair_handshake(&pair, &client, &server);
    if (server == TLS_OK)
        return r == PAIR_DONE && pair_send(&pair, pair.server, pair.client, 3);
    uint8_t octet;
    size_t bytes;
    if (client == TLS_OK)
        cr_assert_eq(tls_session_read(pair.client, &octet, 1, &bytes), TLS_FAILED);
    return false;
}

Test(tls_client, a_host_that_refuses_us_for_our_certificate_is_told_from_others)
{
    enum { DEMANDS = SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT };
    static const uint8_t about[] = {
        SSL_AD_BAD_CERTIFICATE,     SSL_AD_UNSUPPORTED_CERTIFICATE, SSL_AD_CERTIFICATE_REVOKED,
        SSL_AD_CERTIFICATE_EXPIRED, SSL_AD_CERTIFICATE_UNKNOWN,     SSL_AD_UNKNOWN_CA,
        SSL_AD_ACCESS_DENIED,       SSL_AD_HANDSHAKE_FAILURE,
    };
    static const uint8_t not_about[] = { SSL_AD_DECRYPT_ERROR, SSL_AD_INTERNAL_ERROR,
                                         SSL_AD_UNEXPECTED_MESSAGE, SSL_AD_PROTOCOL_VERSION };
    for (unsigned version = TLS_VERSION_12; version <= TLS_VERSION_13; version++) {
        struct tls_client_policy none = pair_policy(&w, TLS_LEVEL_ENCRYPT), ours = none;
        ours.credential = pki.credentials[PAIR_CLIENT];
        tls_client_policy_seal(&ours, NULL, 0);
        tls_client_cache_clear(&w.sessions);
        refuses_by = 0;
        cr_assert(demanded(&none, SSL_VERIFY_NONE, version));
        cr_assert(!tls_client_asked(pair.client));
        tls_client_cache_clear(&w.sessions);
        cr_assert(demanded(&none, SSL_VERIFY_PEER, version), "asked, and not insisted on");
        cr_assert(tls_client_asked(pair.client), "without one, too");
        tls_client_cache_clear(&w.sessions);
        cr_assert(demanded(&ours, DEMANDS, version));
        cr_assert(tls_client_asked(pair.client));
        tls_client_cache_clear(&w.sessions);
        cr_assert(!demanded(&none, DEMANDS, version));
        cr_assert(tls_client_refused(pair.client), "%s", why());
        for (size_t i = 0; i < ARRAY_COUNT(about); i++) {
            refuses_by = about[i];
            cr_assert(!demanded(&ours, DEMANDS, version));
            cr_assert(tls_client_refused(pair.client), "%s", why());
        }
        for (size_t i = 0; i < ARRAY_COUNT(not_about); i++) {
            refuses_by = not_about[i];
            cr_assert(!demanded(&ours, DEMANDS, version));
            cr_assert(!tls_client_refused(pair.client), "%s", why());
        }
    }
}

/* Nobody was asked: an alert is about something else. And the other way round, who failed is us. */
Test(tls_client, other_failures_are_not_about_our_certificate)
{
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_CHAIN);
    struct tls_client_target target = pair_target("server.example");
    policy.roots = NULL;
    tls_client_policy_seal(&policy, NULL, 0);
    cr_assert_eq(once(&policy, &target), PAIR_FAILED);
    cr_assert(!tls_client_refused(pair.client), "%s", why());
    refuses_by = SSL_AD_BAD_CERTIFICATE;
    cr_assert(!demanded(&policy, SSL_VERIFY_PEER, TLS_VERSION_12), "%s", why());
    cr_assert(!tls_client_refused(pair.client), "it was ours that failed: %s", why());
}

/* What it says to mail may still be about the certificate that it saw, or did not see, then. */
Test(tls_client, a_resumed_session_knows_that_it_was_asked)
{
    for (unsigned version = TLS_VERSION_12; version <= TLS_VERSION_13; version++)
        for (int asks = 0; asks < 2; asks++) {
            struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_NAME);
            const int mode = asks ? SSL_VERIFY_PEER : SSL_VERIFY_NONE;
            struct tls_facts facts;
            refuses_by = 0;
            tls_client_cache_clear(&w.sessions);
            cr_assert(demanded(&policy, mode, version));
            cr_assert(demanded(&policy, SSL_VERIFY_NONE, version));
            tls_session_facts(pair.client, &facts);
            cr_assert(facts.is_resumed);
            cr_assert_eq(tls_client_asked(pair.client), asks == 1);
        }
}

static const uint8_t (*pins_of(enum pair_credential credential,
                               uint8_t pins[2][TLS_DIGEST_BYTES]))[TLS_DIGEST_BYTES]
{
    memset(pins[0], 7, TLS_DIGEST_BYTES);
    memcpy(pins[1], tls_credential_leaf(w.pki->credentials[credential])->spki, TLS_DIGEST_BYTES);
    return (const uint8_t(*)[TLS_DIGEST_BYTES])pins;
}

/* At ENCRYPT the key alone counts, above it besides chain and name. */
Test(tls_client, a_pinned_key_must_be_shown)
{
    static const struct {
        enum tls_level level;
        enum pair_credential shows, pinned;
        bool good;
    } cases[] = {
        { TLS_LEVEL_ENCRYPT, PAIR_ECDSA, PAIR_ECDSA, true },
        { TLS_LEVEL_ENCRYPT, PAIR_STRANGER, PAIR_STRANGER, true },
        { TLS_LEVEL_ENCRYPT, PAIR_ECDSA, PAIR_RSA, false },
        { TLS_LEVEL_ENCRYPT, PAIR_STRANGER, PAIR_RSA, false },
        { TLS_LEVEL_NAME, PAIR_ECDSA, PAIR_ECDSA, true },
        { TLS_LEVEL_NAME, PAIR_ECDSA, PAIR_RSA, false },
        { TLS_LEVEL_CHAIN, PAIR_STRANGER, PAIR_STRANGER, false },
        { TLS_LEVEL_NAME, PAIR_WILD, PAIR_WILD, false },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        uint8_t pins[2][TLS_DIGEST_BYTES];
        struct tls_client_policy policy = pair_policy(&w, cases[i].level);
        struct tls_client_target target = pair_target("server.example");
        policy.pins = pins_of(cases[i].pinned, pins);
        policy.pins_count = 2;
        tls_client_policy_seal(&policy, target.names, target.names_count);
        w.options.credentials = &w.pki->credentials[cases[i].shows];
        w.options.credentials_count = 1;
        pair_world_reload(&w);
        cr_assert_eq(once(&policy, &target), cases[i].good ? PAIR_DONE : PAIR_FAILED, "%zu", i);
        bool by_pin = !cases[i].good && cases[i].shows != cases[i].pinned;
        cr_assert_eq(tls_client_pin_missed(pair.client), by_pin, "%zu", i);
        if (by_pin)
            cr_assert_not_null(strstr(why(), "pinned"), "%s", why());
        cr_assert_eq(once(&policy, &target), cases[i].good ? PAIR_DONE : PAIR_FAILED,
                     "%zu, and again, when a session may be resumed", i);
    }
}

Test(tls_client, what_was_verified_without_pins_is_not_resumed_with_them)
{
    uint8_t pins[2][TLS_DIGEST_BYTES];
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_ENCRYPT);
    struct tls_client_target target = pair_target("server.example");
    cr_assert_eq(once(&policy, &target), PAIR_DONE);
    policy.pins = pins_of(PAIR_RSA, pins);
    policy.pins_count = 1;
    tls_client_policy_seal(&policy, NULL, 0);
    cr_assert_eq(once(&policy, &target), PAIR_FAILED);
}

/* T-28: who wants the hybrid group goes down no step, and can tell what it got. */
Test(tls_client, a_hybrid_that_is_wanted_is_told_from_what_is_none)
{
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_ENCRYPT);
    struct tls_client_target target = pair_target("server.example");
    policy.needs_hybrid = true;
    tls_client_policy_seal(&policy, NULL, 0);
    cr_assert_eq(once(&policy, &target), PAIR_DONE);
    cr_assert_eq(tls_client_is_hybrid(pair.client), tls_client_has_hybrid());
    target.group_only = tls_client_group_named("X25519");
    target.is_fresh = true;
    cr_assert_eq(once(&policy, &target), PAIR_DONE);
    cr_assert(!tls_client_is_hybrid(pair.client));
    cr_assert_eq(tls_client_step_after(&policy, TLS_STEP_ALL), TLS_STEPS);
    for (enum tls_step step = TLS_STEP_ALL; step < TLS_STEPS; step++)
        cr_assert_eq(tls_client_step_fits(&policy, step), step == TLS_STEP_ALL);
}

/* A set with the one list that the server's certificate points to. */
static void lists_are(bool revoked)
{
    struct pki leaf = { .x509 = X509_parse_from_buffer(
                            (CRYPTO_BUFFER *)(uintptr_t)tls_credential_chain_at(
                                pki.credentials[PAIR_ECDSA], 0)) };
    int64_t now = w.wall_us / 1'000'000;
    struct pki_crl_options options = { .this_update = now - PKI_DAY,
                                       .next_update = now + PKI_DAY,
                                       .revoked = { revoked ? &leaf : NULL },
                                       .many = 3 };
    struct tls_crl *list = pki_crl(pki.root, PAIR_CRL, &options);
    struct tls_crls *set;
    cr_assert_eq(tls_crls_make(&list, 1, &set), 0);
    tls_crl_watch_take(&w.shard.crls, set);
    tls_crl_drop(list);
    X509_free(leaf.x509);
}

static enum tls_verdict verdict(void)
{
    struct tls_facts facts;
    tls_session_facts(pair.client, &facts);
    return facts.peer->verdict;
}

static unsigned told;

static void on_told(void *owner, struct tls_crl_pointer *pointer)
{
    cr_assert_eq(owner, &w);
    cr_assert_str_eq(pointer->url, PAIR_CRL);
    told++;
    free(pointer);
}

Test(tls_client, revocation_by_mode_and_level)
{
    static const struct {
        enum tls_revocation mode;
        enum tls_level level;
        enum tls_crl_status status;
        enum tls_verdict verdict; /* VALID: it works */
    } cases[] = {
        { TLS_REVOCATION_OFF, TLS_LEVEL_NAME, TLS_CRL_REVOKED, TLS_VERDICT_VALID },
        { TLS_REVOCATION_SOFT, TLS_LEVEL_ENCRYPT, TLS_CRL_REVOKED, TLS_VERDICT_VALID },
        { TLS_REVOCATION_SOFT, TLS_LEVEL_CHAIN, TLS_CRL_REVOKED, TLS_VERDICT_REVOKED },
        { TLS_REVOCATION_SOFT, TLS_LEVEL_NAME, TLS_CRL_UNKNOWN, TLS_VERDICT_VALID },
        { TLS_REVOCATION_HARD, TLS_LEVEL_NAME, TLS_CRL_UNKNOWN, TLS_VERDICT_REVOCATION_UNKNOWN },
        { TLS_REVOCATION_HARD, TLS_LEVEL_NAME, TLS_CRL_GOOD, TLS_VERDICT_VALID },
        { TLS_REVOCATION_HARD, TLS_LEVEL_NAME, TLS_CRL_REVOKED, TLS_VERDICT_REVOKED },
    };
    w.options.credentials = (struct tls_credential *const *)&pki.credentials[PAIR_ECDSA];
    w.options.credentials_count = 1;
    pair_world_reload(&w);
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++) {
        struct tls_client_policy policy = pair_policy(&w, cases[i].level);
        struct tls_client_target target = pair_target("server.example");
        policy.revocation = cases[i].mode;
        if (cases[i].status == TLS_CRL_UNKNOWN)
            tls_crl_watch_take(&w.shard.crls, NULL);
        else
            lists_are(cases[i].status == TLS_CRL_REVOKED);
        tls_client_cache_clear(&w.sessions);
        bool fails = cases[i].verdict != TLS_VERDICT_VALID;
        cr_assert_eq(once(&policy, &target), fails ? PAIR_FAILED : PAIR_DONE, "case %zu: %s", i,
                     why());
        cr_assert_eq(verdict(), cases[i].verdict, "case %zu", i);
        if (fails)
            cr_assert_not_null(strstr(why(), cases[i].status == TLS_CRL_REVOKED
                                                 ? "is revoked"
                                                 : "cannot be looked up"),
                               "%s", why());
    }
}

Test(tls_client, a_resumed_session_is_looked_up_again)
{
    w.options.credentials = (struct tls_credential *const *)&pki.credentials[PAIR_ECDSA];
    w.options.credentials_count = 1;
    pair_world_reload(&w);
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_NAME);
    struct tls_client_target target = pair_target("server.example");
    struct tls_facts facts;
    policy.revocation = TLS_REVOCATION_SOFT;
    w.shard.crls.tell = on_told;
    w.shard.crls.owner = &w;
    cr_assert_eq(once(&policy, &target), PAIR_DONE); /* nothing is known yet */
    cr_assert_eq(once(&policy, &target), PAIR_DONE);
    tls_session_facts(pair.client, &facts);
    cr_assert(facts.is_resumed);
    cr_assert_eq(told, 1, "once, however often it is missed");
    w.wall_us += INT64_C(1'000'000) * TLS_CRL_TELL_S;
    cr_assert_eq(once(&policy, &target), PAIR_DONE);
    cr_assert_eq(told, 2);
    lists_are(true);
    cr_assert_eq(once(&policy, &target), PAIR_FAILED);
    cr_assert_eq(verdict(), TLS_VERDICT_REVOKED);
    cr_assert_eq(w.shard.crls.numbers.client[TLS_CRL_UNKNOWN], 3);
    cr_assert_eq(w.shard.crls.numbers.client[TLS_CRL_REVOKED], 1);
}

Test(tls_client, a_ticket_is_used_once)
{
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_MAY);
    struct tls_client_target target = pair_target("server.example");
    cr_assert_eq(once(&policy, &target), PAIR_DONE);
    uint64_t hits = w.sessions.numbers.hits;
    /* Two at the same time: there is one ticket. */
    struct pair other;
    pair_free(&pair);
    pair_init(&pair, 5, 0);
    pair_init(&other, 6, 0);
    pair_world_begin(&w, &pair, false, &policy, &target);
    pair_world_begin(&w, &other, false, &policy, &target);
    cr_assert_eq(w.sessions.numbers.hits, hits + 1);
    pair_free(&other);
}

Test(tls_client, a_policy_does_not_go_down_to_what_another_one_needed)
{
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_INTERNAL);
    policy.version_min = TLS_VERSION_13;
    cr_assert(tls_client_step_fits(&policy, TLS_STEP_SMALL));
    cr_assert_not(tls_client_step_fits(&policy, TLS_STEP_12));
    cr_assert_not(tls_client_step_fits(&policy, TLS_STEP_QUIET));
    policy = pair_policy(&w, TLS_LEVEL_ENCRYPT);
    policy.version_min = TLS_VERSION_10;
    cr_assert(tls_client_step_fits(&policy, TLS_STEP_12));
    cr_assert_not(tls_client_step_fits(&policy, TLS_STEP_RSA), "no forward secrecy");
}

Test(tls_client, steps_end)
{
    for (enum tls_level level = TLS_LEVEL_MAY; level < TLS_LEVELS; level++)
        for (unsigned version = TLS_VERSION_10; version <= TLS_VERSION_13; version++) {
            struct tls_client_policy policy = pair_policy(&w, level);
            policy.version_min = version;
            enum tls_step step = TLS_STEP_ALL;
            unsigned steps = 0;
            while (step != TLS_STEPS) {
                enum tls_step next = tls_client_step_after(&policy, step);
                cr_assert_gt(next, step);
                cr_assert(tls_client_step_fits(&policy, next));
                if (next == TLS_STEP_12)
                    cr_assert_leq(version, TLS_VERSION_12);
                if (next == TLS_STEP_RSA)
                    cr_assert(level == TLS_LEVEL_MAY && version < TLS_VERSION_12);
                step = next;
                steps++;
            }
            cr_assert_leq(steps, TLS_STEPS);
        }
}

/* Of a ClientHello that nobody has taken from the wire. */
static bool offers(uint16_t suite)
{
    enum { SESSION_ID_AT = 5 + 4 + 2 + 32 }; /* record, message, version, random */
    const uint8_t *hello = pair.to_server.bytes + pair.to_server.at;
    size_t at = SESSION_ID_AT + 1 + hello[SESSION_ID_AT];
    size_t size = (size_t)(hello[at] << 8 | hello[at + 1]);
    cr_assert_lt(at + 2 + size, pair.to_server.size);
    for (size_t i = at + 2; i < at + 2 + size; i += 2)
        if ((hello[i] << 8 | hello[i + 1]) == suite)
            return true;
    return false;
}

Test(tls_client, suites_go_by_level_version_and_step)
{
    enum { ECDHE_GCM = 0xc02b, ECDHE_CBC = 0xc013, RSA_GCM = 0x009c, RSA_3DES = 0x000a };
    static const struct {
        enum tls_level level;
        unsigned version_min;
        enum tls_step step;
        bool ecdhe_gcm, ecdhe_cbc, rsa;
    } cases[] = {
        { TLS_LEVEL_MAY, TLS_VERSION_12, TLS_STEP_ALL, true, true, false },
        { TLS_LEVEL_MAY, TLS_VERSION_12, TLS_STEP_12, true, true, false },
        { TLS_LEVEL_MAY, TLS_VERSION_10, TLS_STEP_ALL, true, true, true },
        { TLS_LEVEL_MAY, TLS_VERSION_10, TLS_STEP_RSA, false, false, true },
        { TLS_LEVEL_ENCRYPT, TLS_VERSION_12, TLS_STEP_ALL, true, false, false },
        { TLS_LEVEL_ENCRYPT, TLS_VERSION_10, TLS_STEP_12, true, false, false },
        { TLS_LEVEL_CHAIN, TLS_VERSION_12, TLS_STEP_ALL, true, false, false },
        { TLS_LEVEL_NAME, TLS_VERSION_12, TLS_STEP_12, true, false, false },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
        struct tls_client_policy policy = pair_policy(&w, cases[i].level);
        policy.version_min = cases[i].version_min;
        struct tls_client_target target = pair_target("server.example");
        target.step = cases[i].step;
        pair_free(&pair);
        pair_init(&pair, 1, 0);
        pair_world_begin(&w, &pair, false, &policy, &target);
        cr_assert_eq(tls_session_handshake(pair.client), TLS_WANT_IN);
        cr_assert_eq(offers(ECDHE_GCM), cases[i].ecdhe_gcm, "case %u", i);
        cr_assert_eq(offers(ECDHE_CBC), cases[i].ecdhe_cbc, "case %u", i);
        cr_assert_eq(offers(RSA_GCM), cases[i].rsa, "case %u", i);
        cr_assert_eq(offers(RSA_3DES), cases[i].rsa, "case %u", i);
    }
}

Test(tls_client, the_group_that_a_host_chose_is_offered_first)
{
    struct tls_client_policy policy = pair_policy(&w, TLS_LEVEL_MAY);
    struct tls_client_target target = pair_target("server.example");
    cr_assert_eq(once(&policy, &target), PAIR_DONE);
    target.group = 23; /* secp256r1 */
    tls_client_cache_clear(&w.sessions);
    cr_assert_eq(once(&policy, &target), PAIR_DONE);
    cr_assert_eq(tls_client_group(pair.client), 23);
    cr_assert(!tls_client_retried(pair.client));
    target.group = 0x7777; /* one that nobody knows */
    tls_client_cache_clear(&w.sessions);
    cr_assert_eq(once(&policy, &target), PAIR_DONE);
}
