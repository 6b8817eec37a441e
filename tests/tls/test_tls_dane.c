/*
 * test_tls_dane.c - TLSA records against chains of all kinds, and in sessions (RFC 7671, 7672)
 */
#include "tls/tls_dane.h"

#include <criterion/criterion.h>

#include "tests/tls/pair_world.h"
#include "tests/tls/pki.h"
#include "tls/tls_verify.h"

enum { RDATA_MAX = 3 + 4'096 };

static struct pki *root, *middle, *leaf, *stranger, *old, *other;
static const struct slice base = SLICE("mx.d.example");

static struct pki_options leaf_options(void)
{
    return (struct pki_options) { .cn = "leaf", .names = { SLICE("mx.d.example") } };
}

static void make_pki(void)
{
    root = pki_make(NULL, (struct pki_options) { .cn = "Root", .is_ca = true });
    middle = pki_make(root, (struct pki_options) { .cn = "Middle", .is_ca = true });
    leaf = pki_make(middle, leaf_options());
    stranger = pki_make(NULL, (struct pki_options) { .cn = "elsewhere" });
    struct pki_options expired = leaf_options();
    expired.not_after = PKI_NOW - PKI_DAY;
    old = pki_make(middle, expired);
    struct pki_options misnamed = { .cn = "x", .names = { SLICE("mx.other.example") } };
    other = pki_make(middle, misnamed);
}

static void free_pki(void)
{
    struct pki *all[] = { root, middle, leaf, stranger, old, other };
    for (size_t i = 0; i < ARRAY_COUNT(all); i++)
        pki_free(all[i]);
}

TestSuite(tls_dane, .init = make_pki, .fini = free_pki);

static void add(struct tls_dane_set *set, unsigned usage, unsigned selector, unsigned matching,
                const struct pki *of)
{
    uint8_t rdata[RDATA_MAX] = { (uint8_t)usage, (uint8_t)selector, (uint8_t)matching };
    struct slice part = tls_certificate_der(of->buffer);
    if (selector == 1)
        cr_assert_eq(tls_certificate_spki(part, &part), 0);
    size_t size = part.size;
    if (matching == 1)
        SHA256(part.data, part.size, rdata + 3), size = 32;
    else if (matching == 2)
        SHA512(part.data, part.size, rdata + 3), size = 64;
    else
        memcpy(rdata + 3, part.data, size);
    tls_dane_add(set, slice_of(rdata, 3 + size));
}

static void add_raw(struct tls_dane_set *set, const char *rdata, size_t size)
{
    tls_dane_add(set, slice_of(rdata, size));
}

static char words[TLS_WHY_MAX];

/* Gives the chain back. */
static enum tls_dane_match verify(const struct tls_dane_set *set, STACK_OF(CRYPTO_BUFFER) * chain)
{
    enum tls_dane_match match = tls_dane_verify(chain, set, &base, 1, PKI_NOW, words);
    cr_assert_eq(ERR_peek_error(), 0);
    cr_assert_eq(words[0] == '\0', match >= TLS_DANE_EE, "%s", words);
    sk_CRYPTO_BUFFER_pop_free(chain, CRYPTO_BUFFER_free);
    return match;
}

static enum tls_dane_match by(unsigned usage, unsigned selector, unsigned matching,
                              const struct pki *of, STACK_OF(CRYPTO_BUFFER) * chain)
{
    struct tls_dane_set set = { 0 };
    add(&set, usage, selector, matching, of);
    cr_assert_eq(set.count, 1);
    return verify(&set, chain);
}

Test(tls_dane, usage_3_is_the_leaf_whatever_else_it_is)
{
    for (unsigned selector = 0; selector < 2; selector++)
        for (unsigned matching = 0; matching < 3; matching++) {
            cr_expect_eq(by(3, selector, matching, leaf, pki_chain(leaf, middle, NULL)),
                         TLS_DANE_EE);
            cr_expect_eq(by(3, selector, matching, leaf, pki_chain(leaf, NULL)), TLS_DANE_EE);
            cr_expect_eq(by(3, selector, matching, stranger, pki_chain(stranger, NULL)),
                         TLS_DANE_EE, "self-signed, without the name");
            cr_expect_eq(by(3, selector, matching, old, pki_chain(old, middle, NULL)), TLS_DANE_EE,
                         "expired");
            cr_expect_eq(by(3, selector, matching, other, pki_chain(other, NULL)), TLS_DANE_EE,
                         "of another name");
            cr_expect_eq(by(3, selector, matching, stranger, pki_chain(leaf, middle, NULL)),
                         TLS_DANE_NO_MATCH);
            cr_expect_eq(by(3, selector, matching, middle, pki_chain(leaf, middle, NULL)),
                         TLS_DANE_NO_MATCH, "an issuer is not the host");
        }
    struct tls_dane_set set = { 0 };
    add(&set, 3, 1, 1, leaf);
    cr_expect_eq(verify(&set, NULL), TLS_DANE_NO_MATCH);
    cr_expect_str_eq(words, "no certificate was presented");
}

Test(tls_dane, usage_2_is_an_authority_in_the_chain)
{
    for (unsigned selector = 0; selector < 2; selector++)
        for (unsigned matching = 0; matching < 3; matching++) {
            cr_expect_eq(by(2, selector, matching, middle, pki_chain(leaf, middle, NULL)),
                         TLS_DANE_TA, "%u %u: %s", selector, matching, words);
            cr_expect_eq(by(2, selector, matching, root, pki_chain(leaf, middle, root, NULL)),
                         TLS_DANE_TA, "%u %u: %s", selector, matching, words);
            cr_expect_eq(by(2, selector, matching, middle, pki_chain(leaf, middle, root, NULL)),
                         TLS_DANE_TA, "%u %u: %s", selector, matching, words);
            cr_expect_eq(by(2, selector, matching, stranger, pki_chain(leaf, middle, root, NULL)),
                         TLS_DANE_NO_MATCH);
            cr_expect_eq(by(2, selector, matching, old, pki_chain(leaf, middle, root, NULL)),
                         TLS_DANE_NO_MATCH);
            cr_expect_eq(by(2, selector, matching, middle, pki_chain(old, middle, NULL)),
                         TLS_DANE_NO_MATCH);
            cr_expect_not_null(strstr(words, "expired"), "%s", words);
            cr_expect_eq(by(2, selector, matching, middle, pki_chain(other, middle, NULL)),
                         TLS_DANE_NO_NAME);
            cr_expect_not_null(strstr(words, "wanted mx.d.example"), "%s", words);
            cr_expect_eq(by(2, selector, matching, middle, pki_chain(stranger, middle, NULL)),
                         TLS_DANE_NO_MATCH, "the anchor is presented, and has signed nothing");
        }
}

/* RFC 7671 5.2.2, 5.2.3: the anchor need not be presented when the record holds it whole. */
Test(tls_dane, usage_2_may_hold_the_anchor_itself)
{
    cr_expect_eq(by(2, 0, 0, middle, pki_chain(leaf, NULL)), TLS_DANE_TA, "%s", words);
    cr_expect_eq(by(2, 1, 0, middle, pki_chain(leaf, NULL)), TLS_DANE_TA, "%s", words);
    cr_expect_eq(by(2, 0, 0, root, pki_chain(leaf, middle, NULL)), TLS_DANE_TA, "%s", words);
    cr_expect_eq(by(2, 1, 0, root, pki_chain(leaf, middle, NULL)), TLS_DANE_TA, "%s", words);
    cr_expect_eq(by(2, 0, 0, root, pki_chain(leaf, NULL)), TLS_DANE_NO_MATCH, "a gap");
    cr_expect_eq(by(2, 1, 0, root, pki_chain(leaf, NULL)), TLS_DANE_NO_MATCH, "a gap");
    cr_expect_eq(by(2, 0, 1, middle, pki_chain(leaf, NULL)), TLS_DANE_NO_MATCH, "a digest only");
    cr_expect_eq(by(2, 1, 0, middle, pki_chain(old, NULL)), TLS_DANE_NO_MATCH, "expired");
    cr_expect_eq(by(2, 1, 0, middle, pki_chain(other, NULL)), TLS_DANE_NO_NAME);
}

/* Who can make the leaf an authority signs with it what he likes. */
Test(tls_dane, usage_2_asks_for_an_authority)
{
    struct pki *below = pki_make(leaf, leaf_options());
    cr_expect_eq(by(2, 1, 1, leaf, pki_chain(leaf, middle, NULL)), TLS_DANE_NO_MATCH,
                 "the host is no authority");
    cr_expect_eq(by(2, 1, 1, leaf, pki_chain(below, leaf, NULL)), TLS_DANE_NO_MATCH);
    cr_expect_eq(by(2, 1, 1, middle, pki_chain(below, leaf, middle, NULL)), TLS_DANE_NO_MATCH);
    pki_free(below);
}

Test(tls_dane, one_record_of_many_will_do)
{
    struct tls_dane_set set = { 0 };
    add(&set, 3, 1, 1, stranger);
    add(&set, 2, 1, 1, root);
    add(&set, 3, 0, 1, leaf);
    cr_expect_eq(verify(&set, pki_chain(leaf, NULL)), TLS_DANE_EE);
    cr_expect_eq(verify(&set, pki_chain(old, middle, root, NULL)), TLS_DANE_NO_MATCH);
    cr_expect_eq(verify(&set, pki_chain(stranger, NULL)), TLS_DANE_EE);
}

/* RFC 7671 9 */
Test(tls_dane, the_strongest_digest_counts)
{
    struct tls_dane_set set = { 0 };
    add(&set, 3, 1, 1, leaf);
    add(&set, 3, 1, 2, stranger);
    cr_expect_eq(verify(&set, pki_chain(leaf, NULL)), TLS_DANE_NO_MATCH);
    cr_expect_eq(verify(&set, pki_chain(stranger, NULL)), TLS_DANE_EE);
    add(&set, 3, 0, 1, leaf); /* another selector: by itself */
    cr_expect_eq(verify(&set, pki_chain(leaf, NULL)), TLS_DANE_EE);
    struct tls_dane_set whole = { 0 };
    add(&whole, 3, 1, 0, leaf); /* no digest, so none outdoes it */
    add(&whole, 3, 1, 2, stranger);
    cr_expect_eq(verify(&whole, pki_chain(leaf, NULL)), TLS_DANE_EE);
}

Test(tls_dane, what_cannot_be_used_is_told_apart)
{
    struct tls_dane_set set = { 0 };
    add(&set, 0, 1, 1, leaf);
    add(&set, 1, 0, 2, leaf);
    add(&set, 255, 1, 1, leaf);
    add_raw(&set,
            "\3\2\1"
            "12345678901234567890123456789012",
            35);
    add_raw(&set,
            "\3\1\3"
            "12345678901234567890123456789012",
            35);
    cr_expect_eq(set.unusable, 5);
    add_raw(&set, "", 0);
    add_raw(&set, "\3\1\1", 3);
    add_raw(&set,
            "\3\1\1"
            "1234567890123456789012345678901",
            34);
    add_raw(&set,
            "\3\1\2"
            "12345678901234567890123456789012",
            35);
    add_raw(&set,
            "\2\0\0"
            "no certificate",
            17);
    add_raw(&set,
            "\2\1\0"
            "no key",
            9);
    cr_expect_eq(set.malformed, 6);
    cr_expect_eq(set.count, 0);
    cr_expect_eq(set.left_out, 0);
}

Test(tls_dane, bounds)
{
    struct tls_dane_set set = { 0 };
    for (unsigned i = 0; i < TLS_DANE_RECORDS_MAX + 3; i++) {
        char rdata[35] = { 3, 1, 1, (char)i };
        add_raw(&set, rdata, sizeof(rdata));
    }
    cr_expect_eq(set.count, TLS_DANE_RECORDS_MAX);
    cr_expect_eq(set.left_out, 3);
    struct tls_dane_set keys = { 0 };
    for (unsigned i = 0; i < TLS_DANE_KEYS_MAX + 1; i++)
        add(&keys, 2, 1, 0, i % 2 == 0 ? root : middle);
    cr_expect_eq(keys.count, TLS_DANE_KEYS_MAX);
    cr_expect_eq(keys.left_out, 1);
    struct tls_dane_set large = { 0 };
    while (large.left_out == 0)
        add(&large, 3, 0, 0, leaf);
    cr_expect_leq(large.bytes, TLS_DANE_BYTES_MAX);
    cr_expect_eq(verify(&large, pki_chain(leaf, NULL)), TLS_DANE_EE);
}

Test(tls_dane, the_order_of_an_answer_does_not_count)
{
    uint8_t one[32], two[32];
    struct tls_dane_set a = { 0 }, b = { 0 };
    add(&a, 3, 1, 1, leaf), add(&a, 3, 1, 1, old), add(&a, 2, 0, 2, root);
    add(&b, 2, 0, 2, root), add(&b, 3, 1, 1, old), add(&b, 3, 1, 1, leaf);
    tls_dane_digest(&a, one), tls_dane_digest(&b, two);
    cr_expect_arr_eq(one, two, 32);
    add(&b, 3, 0, 1, leaf);
    tls_dane_digest(&b, two);
    cr_expect_neq(memcmp(one, two, 32), 0);
    char text[TLS_DANE_TEXT_MAX];
    tls_dane_text(&a, 0, text);
    cr_expect_eq(strncmp(text, "2 0 2 ", 6), 0, "%s", text);
    cr_expect_eq(strlen(text), 6 + 128);
}

/* ---- in sessions ---- */

static struct pair_pki keys;
static struct pair_world w;
static struct pair pair;

static void world_make(void)
{
    make_pki();
    pair_pki_make(&keys);
    pair_world_init(&w, &keys, NULL, true, 0);
}

static void world_free(void)
{
    pair_free(&pair);
    pair_world_free(&w);
    pair_pki_free(&keys);
    free_pki();
}

TestSuite(tls_dane_session, .init = world_make, .fini = world_free);

/* 3 1 1 of what the server will show. */
static void add_shown(struct tls_dane_set *set, enum pair_credential shown)
{
    uint8_t rdata[3 + 32] = { 3, 1, 1 };
    memcpy(rdata + 3, tls_credential_leaf(keys.credentials[shown])->spki, 32);
    tls_dane_add(set, slice_of(rdata, sizeof(rdata)));
}

static struct tls_client_policy policy_with(enum tls_level level, const struct tls_dane_set *set)
{
    struct tls_client_policy policy = pair_policy(&w, level);
    policy.dane = set;
    policy.dane_names = &base;
    policy.dane_names_count = 1;
    tls_client_policy_seal(&policy, NULL, 0);
    return policy;
}

static bool opens(const struct tls_client_policy *policy, bool *resumed)
{
    enum tls_result client, server;
    struct tls_client_target target = pair_target("server.example");
    struct tls_facts facts;
    pair_free(&pair);
    pair_init(&pair, 1, 0);
    pair_world_begin(&w, &pair, false, policy, &target);
    if (pair_handshake(&pair, &client, &server) != PAIR_DONE)
        return false;
    cr_assert(pair_send(&pair, pair.server, pair.client, 3));
    tls_session_facts(pair.client, &facts);
    *resumed = facts.is_resumed;
    return true;
}

static void show(enum pair_credential shown)
{
    w.options.credentials = (struct tls_credential *const *)&keys.credentials[shown];
    w.options.credentials_count = 1;
    pair_world_reload(&w);
}

Test(tls_dane_session, decides_beside_the_level)
{
    bool resumed;
    struct tls_dane_set set = { 0 };
    add_shown(&set, PAIR_STRANGER);
    show(PAIR_STRANGER);
    struct tls_client_policy policy = policy_with(TLS_LEVEL_ENCRYPT, &set);
    cr_assert(opens(&policy, &resumed), "self-signed, and just that one is named");
    cr_assert_eq(tls_client_dane(pair.client), TLS_DANE_EE);
    struct tls_facts facts;
    tls_session_facts(pair.client, &facts);
    cr_assert_neq(facts.peer->verdict, TLS_VERDICT_VALID, "and what it is worth else, is told");
    policy = policy_with(TLS_LEVEL_CHAIN, &set);
    cr_assert_not(opens(&policy, &resumed), "the connector's own wish stays");
    show(PAIR_ECDSA);
    policy = policy_with(TLS_LEVEL_NAME, &set);
    cr_assert_not(opens(&policy, &resumed), "a valid certificate, and no record for it");
    cr_assert_eq(tls_client_dane(pair.client), TLS_DANE_NO_MATCH);
    char text[TLS_TEXT_MAX];
    tls_session_why(pair.client, text);
    cr_assert_not_null(strstr(text, "none of its 1 TLSA records"), "%s", text);
}

Test(tls_dane_session, a_session_is_resumed_under_its_own_records_only)
{
    bool resumed;
    struct tls_dane_set set = { 0 }, more = { 0 };
    add_shown(&set, PAIR_ECDSA);
    add_shown(&more, PAIR_ECDSA);
    add_shown(&more, PAIR_RSA);
    show(PAIR_ECDSA);
    const struct tls_client_policy plain = pair_policy(&w, TLS_LEVEL_ENCRYPT);
    const struct tls_client_policy dane = policy_with(TLS_LEVEL_ENCRYPT, &set);
    const struct tls_client_policy other_set = policy_with(TLS_LEVEL_ENCRYPT, &more);
    cr_assert(opens(&plain, &resumed));
    cr_assert(opens(&dane, &resumed) && !resumed);
    cr_assert(opens(&other_set, &resumed) && !resumed);
    for (unsigned i = 0; i < 2; i++) {
        cr_assert(opens(&dane, &resumed) && resumed);
        cr_assert_eq(tls_client_dane(pair.client), TLS_DANE_EE, "judged again");
    }
}
