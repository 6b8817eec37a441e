/*
 * test_tls_verify.c - each verdict with a chain that earns it, and what is said about it
 */
#include "tls/tls_verify.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>

#include "tests/tls/pki.h"

/* A root, an intermediate, and what a test adds. */
struct world {
    struct pki *root;
    struct pki *middle;
    struct tls_roots *roots;
    struct tls_peer peer;
};

static struct world world_with(struct pki_options root, struct pki_options middle)
{
    struct world w = { 0 };
    root.cn = "Root";
    root.is_ca = true;
    middle.cn = "Middle";
    w.root = pki_make(NULL, root);
    w.middle = pki_make(w.root, middle);
    w.roots = pki_roots(w.root, NULL);
    return w;
}

static struct world world_make(void)
{
    return world_with((struct pki_options) { 0 }, (struct pki_options) { .is_ca = true });
}

static void world_end(struct world *w)
{
    pki_free(w->root);
    pki_free(w->middle);
    tls_roots_drop(w->roots);
}

static struct pki_options leaf_options(void)
{
    return (struct pki_options) { .cn = "mx.d.example",
                                  .names = { SLICE("mx.d.example"), SLICE("*.e.example") } };
}

/* Verifies and gives the chain back. */
static enum tls_verdict verify_as(struct world *w, enum tls_purpose purpose,
                                  STACK_OF(CRYPTO_BUFFER) * chain)
{
    cr_assert_eq(tls_verify_chain(chain, w->roots, purpose, PKI_NOW, &w->peer), 0);
    cr_assert_eq(ERR_peek_error(), 0);
    cr_assert_eq(w->peer.reason[0] == '\0', w->peer.verdict == TLS_VERDICT_VALID);
    for (const char *c = w->peer.reason; *c != '\0'; c++)
        cr_assert(*c >= ' ' && *c < 0x7f);
    sk_CRYPTO_BUFFER_pop_free(chain, CRYPTO_BUFFER_free);
    return w->peer.verdict;
}

static enum tls_verdict verify(struct world *w, STACK_OF(CRYPTO_BUFFER) * chain)
{
    return verify_as(w, TLS_PURPOSE_ANY, chain);
}

/* A leaf with these options below the intermediate. */
static enum tls_verdict verify_leaf(struct world *w, enum tls_purpose purpose,
                                    struct pki_options options)
{
    struct pki *leaf = pki_make(w->middle, options);
    enum tls_verdict verdict = verify_as(w, purpose, pki_chain(leaf, w->middle, NULL));
    pki_free(leaf);
    return verdict;
}

static void says(const struct world *w, const char *words)
{
    cr_assert_not_null(strstr(w->peer.reason, words), "'%s' in '%s'", words, w->peer.reason);
}

static STACK_OF(CRYPTO_BUFFER) * chain_of_bytes(struct slice bytes)
{
    STACK_OF(CRYPTO_BUFFER) *chain = sk_CRYPTO_BUFFER_new_null();
    sk_CRYPTO_BUFFER_push(chain, CRYPTO_BUFFER_new(bytes.data, bytes.size, NULL));
    return chain;
}

/* ---- malformed ---- */

Test(tls_verify, garbage)
{
    struct world w = world_make();
    cr_assert_eq(verify(&w, chain_of_bytes(SLICE("this is no DER"))), TLS_VERDICT_MALFORMED);
    says(&w, "certificate 1 of 1 cannot be parsed");
    cr_assert_not(w.peer.has_key);
    cr_assert_eq(verify(&w, chain_of_bytes(SLICE(""))), TLS_VERDICT_MALFORMED);

    struct pki *leaf = pki_make(w.middle, leaf_options());
    STACK_OF(CRYPTO_BUFFER) *chain = pki_chain(leaf, w.middle, NULL);
    sk_CRYPTO_BUFFER_push(chain, CRYPTO_BUFFER_new((const uint8_t *)"x", 1, NULL));
    cr_assert_eq(verify(&w, chain), TLS_VERDICT_MALFORMED);
    says(&w, "certificate 3 of 3 cannot be parsed");
    cr_assert(w.peer.has_key, "facts of the leaf all the same");
    cr_assert_str_eq(w.peer.leaf.subject, "CN=mx.d.example");

    struct slice der = tls_certificate_der(leaf->buffer);
    uint8_t more[2'048];
    memcpy(more, der.data, der.size);
    more[der.size] = 0;
    cr_assert_eq(verify(&w, chain_of_bytes(slice_of(more, der.size + 1))), TLS_VERDICT_MALFORMED);
    for (size_t i = 0; i < der.size; i += 7)
        cr_assert_eq(verify(&w, chain_of_bytes(slice_of(more, i))), TLS_VERDICT_MALFORMED);
    pki_free(leaf);
    world_end(&w);
}

Test(tls_verify, chain_too_long)
{
    struct world w = world_make();
    struct pki *leaf = pki_make(w.middle, leaf_options());
    STACK_OF(CRYPTO_BUFFER) *chain = pki_chain(leaf, w.middle, NULL);
    for (unsigned i = 2; i < TLS_CHAIN_MAX; i++) {
        CRYPTO_BUFFER_up_ref(w.middle->buffer);
        sk_CRYPTO_BUFFER_push(chain, w.middle->buffer);
    }
    cr_assert_eq(sk_CRYPTO_BUFFER_num(chain), TLS_CHAIN_MAX);
    CRYPTO_BUFFER_up_ref(w.middle->buffer);
    STACK_OF(CRYPTO_BUFFER) *longer = sk_CRYPTO_BUFFER_dup(chain);
    for (size_t i = 0; i < sk_CRYPTO_BUFFER_num(chain); i++)
        CRYPTO_BUFFER_up_ref(sk_CRYPTO_BUFFER_value(chain, i));
    sk_CRYPTO_BUFFER_push(longer, w.middle->buffer);
    cr_assert_eq(verify(&w, chain), TLS_VERDICT_VALID);
    cr_assert_eq(w.peer.count, TLS_CHAIN_MAX);
    cr_assert_eq(verify(&w, longer), TLS_VERDICT_MALFORMED);
    says(&w, "a chain of 9 certificates");
    cr_assert_eq(w.peer.count, TLS_CHAIN_MAX);
    pki_free(leaf);
    world_end(&w);
}

Test(tls_verify, chain_too_large)
{
    struct world w = world_make();
    struct pki_options options = leaf_options();
    options.names_many = 2'000;
    struct pki *leaf = pki_make(w.middle, options);
    cr_assert_gt(CRYPTO_BUFFER_len(leaf->buffer), TLS_CHAIN_BYTES_MAX / 2);
    cr_assert_eq(verify(&w, pki_chain(leaf, w.middle, NULL)), TLS_VERDICT_VALID);
    cr_assert_eq(w.peer.leaf.names.count, TLS_NAMES_MAX);
    cr_assert_eq(w.peer.leaf.names.dropped, 2'000 + 2 - TLS_NAMES_MAX);
    cr_assert_eq(verify(&w, pki_chain(leaf, leaf, NULL)), TLS_VERDICT_MALFORMED);
    says(&w, "65536");
    pki_free(leaf);
    world_end(&w);
}

Test(tls_verify, rsa_too_large)
{
    struct world w = world_make();
    struct pki_options options = leaf_options();
    options.key = PKI_RSA_HUGE;
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, options), TLS_VERDICT_MALFORMED);
    says(&w, "RSA key of 8256 bits, more than 8192");
    world_end(&w);
}

Test(tls_verify, no_usable_name)
{
    struct world w = world_make();
    struct pki_options options = { .names = { SLICE("mx.d.example\0.evil"),
                                              SLICE("m*.d.example") } };
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, options), TLS_VERDICT_MALFORMED);
    says(&w, "certificate 1 of 2 ((no name)) has 2 dNSNames, none of them usable");
    options.names[2] = SLICE("mx.d.example");
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, options), TLS_VERDICT_VALID);
    cr_assert_eq(w.peer.leaf.names.ignored, 2);
    cr_assert_eq(w.peer.leaf.names.count, 1);
    world_end(&w);
}

Test(tls_verify, broken_names)
{
    struct world w = world_make();
    struct pki_options options = { .cn = "mx.d.example", .has_broken_names = true };
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, options), TLS_VERDICT_MALFORMED);
    options.names[0] = SLICE("mx.d.example");
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, options), TLS_VERDICT_MALFORMED, "two of them");
    says(&w, "has a subjectAltName that cannot be read");
    world_end(&w);
}

/* ---- untrusted ---- */

Test(tls_verify, self_signed)
{
    struct world w = world_make();
    struct pki *leaf = pki_make(NULL, leaf_options());
    cr_assert_eq(verify(&w, pki_chain(leaf, NULL)), TLS_VERDICT_UNTRUSTED);
    cr_assert_str_eq(
        w.peer.reason,
        "certificate 1 of 1 (CN=mx.d.example) is self-signed, and not among the roots");
    cr_assert_str_eq(w.peer.root, "");
    tls_roots_drop(w.roots);
    w.roots = pki_roots(w.root, leaf, NULL);
    cr_assert_eq(verify(&w, pki_chain(leaf, NULL)), TLS_VERDICT_VALID, "a root itself");
    pki_free(leaf);
    world_end(&w);
}

Test(tls_verify, other_root)
{
    struct world w = world_make(), other = world_make();
    struct pki *leaf = pki_make(other.middle, leaf_options());
    cr_assert_eq(verify(&w, pki_chain(leaf, other.middle, NULL)), TLS_VERDICT_UNTRUSTED,
                 "a root of the same name did not sign it");
    cr_assert_eq(verify(&w, pki_chain(leaf, other.middle, other.root, NULL)),
                 TLS_VERDICT_UNTRUSTED);
    cr_assert_eq(verify(&other, pki_chain(leaf, other.middle, NULL)), TLS_VERDICT_VALID);
    cr_assert_eq(verify(&other, pki_chain(leaf, other.middle, other.root, NULL)),
                 TLS_VERDICT_VALID);
    pki_free(leaf);
    world_end(&w);
    world_end(&other);
}

Test(tls_verify, missing_intermediate)
{
    struct world w = world_make();
    struct pki *leaf = pki_make(w.middle, leaf_options());
    cr_assert_eq(verify(&w, pki_chain(leaf, NULL)), TLS_VERDICT_UNTRUSTED);
    says(&w, "certificate 1 of 1 (CN=mx.d.example) is issued by CN=Middle, which is neither");
    cr_assert_eq(verify(&w, pki_chain(leaf, w.root, NULL)), TLS_VERDICT_UNTRUSTED);
    struct world partial = { .roots = pki_roots(w.middle, NULL) };
    cr_assert_eq(verify(&partial, pki_chain(leaf, w.middle, NULL)), TLS_VERDICT_UNTRUSTED,
                 "an intermediate among the roots is no anchor");
    says(&partial, "certificate 2 of 2 (CN=Middle) is issued by CN=Root");
    tls_roots_drop(partial.roots);
    pki_free(leaf);
    world_end(&w);
}

Test(tls_verify, any_order_above_the_leaf)
{
    struct world w = world_make();
    struct pki *lower = pki_make(w.middle, (struct pki_options) { .cn = "Lower", .is_ca = true });
    struct pki *leaf = pki_make(lower, leaf_options());
    cr_assert_eq(verify(&w, pki_chain(leaf, w.middle, lower, NULL)), TLS_VERDICT_VALID);
    pki_free(lower);
    pki_free(leaf);
    world_end(&w);
}

Test(tls_verify, no_roots)
{
    struct world w = world_make();
    struct tls_roots *roots = w.roots;
    w.roots = NULL;
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, leaf_options()), TLS_VERDICT_UNTRUSTED);
    says(&w, "no roots");
    w.roots = roots;
    world_end(&w);
}

Test(tls_verify, issuer_that_is_not_a_ca)
{
    static const struct pki_options middles[] = {
        { .is_not_ca = true },
        { .is_ca = false },
        { .is_not_ca = true, .usage = PKI_SERVER },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(middles); i++) {
        struct world w = world_with((struct pki_options) { 0 }, middles[i]);
        cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, leaf_options()), TLS_VERDICT_UNTRUSTED);
        says(&w, "(CN=Middle) signed another, and is not a CA");
        world_end(&w);
    }
}

Test(tls_verify, root_that_is_not_a_ca)
{
    struct world w = { .root = pki_make(NULL, (struct pki_options) { .cn = "Host" }) };
    w.roots = pki_roots(w.root, NULL);
    w.middle = pki_make(w.root, leaf_options());
    cr_assert_eq(verify(&w, pki_chain(w.middle, NULL)), TLS_VERDICT_UNTRUSTED);
    says(&w, "certificate 2 of 2 (CN=Host) signed another, and is not a CA");
    cr_assert_eq(verify(&w, pki_chain(w.root, NULL)), TLS_VERDICT_VALID);
    world_end(&w);
}

Test(tls_verify, path_length)
{
    static const struct {
        int root, middle, lower;
        enum tls_verdict verdict;
        const char *words;
    } rows[] = {
        { 0, 0, 0, TLS_VERDICT_VALID, "" },
        { 3, 2, 1, TLS_VERDICT_VALID, "" },
        { 0, 1, 0, TLS_VERDICT_UNTRUSTED, "certificate 3 of 4 (CN=Middle)" },
        { 2, 0, 0, TLS_VERDICT_UNTRUSTED, "certificate 4 of 4 (CN=Root) allows 1 CAs below it" },
        { 1, 0, 0, TLS_VERDICT_UNTRUSTED, "(path length)" },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        struct world w = world_with(
            (struct pki_options) { .path_length_plus_1 = rows[i].root },
            (struct pki_options) { .is_ca = true, .path_length_plus_1 = rows[i].middle });
        struct pki *lower = pki_make(
            w.middle, (struct pki_options) {
                          .cn = "Lower", .is_ca = true, .path_length_plus_1 = rows[i].lower });
        struct pki *leaf = pki_make(lower, leaf_options());
        cr_assert_eq(verify(&w, pki_chain(leaf, lower, w.middle, NULL)), rows[i].verdict, "%u: %s",
                     i, w.peer.reason);
        says(&w, rows[i].words);
        pki_free(leaf);
        pki_free(lower);
        world_end(&w);
    }
}

Test(tls_verify, forged_signature)
{
    struct world w = world_make();
    struct pki *leaf = pki_make(w.middle, leaf_options());
    struct slice der = tls_certificate_der(leaf->buffer);
    uint8_t forged[2'048];
    cr_assert_leq(der.size, sizeof(forged));
    memcpy(forged, der.data, der.size);
    forged[der.size - 1] ^= 1;
    STACK_OF(CRYPTO_BUFFER) *chain = chain_of_bytes(slice_of(forged, der.size));
    CRYPTO_BUFFER_up_ref(w.middle->buffer);
    sk_CRYPTO_BUFFER_push(chain, w.middle->buffer);
    cr_assert_eq(verify(&w, chain), TLS_VERDICT_UNTRUSTED);
    says(&w, "certificate 1 of 3 (CN=mx.d.example) has a signature that is not its issuer's");
    pki_free(leaf);
    world_end(&w);
}

Test(tls_verify, unknown_critical_extension)
{
    struct world w = world_make();
    struct pki_options options = leaf_options();
    options.has_unknown_critical = true;
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, options), TLS_VERDICT_UNTRUSTED);
    says(&w, "critical extension");
    world_end(&w);
}

Test(tls_verify, name_constraints)
{
    struct world w = world_with((struct pki_options) { 0 },
                                (struct pki_options) { .is_ca = true, .permitted = "e.example" });
    struct pki_options inside = { .names = { SLICE("mx.e.example") } };
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, leaf_options()), TLS_VERDICT_UNTRUSTED);
    says(&w, "name constraints");
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, inside), TLS_VERDICT_VALID, "%s", w.peer.reason);
    world_end(&w);
}

/* ---- dates ---- */

Test(tls_verify, expired)
{
    struct world w = world_make();
    struct pki_options options = leaf_options();
    options.not_after = PKI_NOW;
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, options), TLS_VERDICT_VALID, "the last second");
    options.not_after = PKI_NOW - 1;
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, options), TLS_VERDICT_EXPIRED);
    cr_assert_str_eq(w.peer.reason, "certificate 1 of 3 (CN=mx.d.example) expired 2030-03-17");
    cr_assert_str_eq(w.peer.root, "CN=Root");
    world_end(&w);
}

Test(tls_verify, not_yet)
{
    struct world w = world_make();
    struct pki_options options = leaf_options();
    options.not_before = PKI_NOW + PKI_DAY;
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, options), TLS_VERDICT_NOT_YET);
    says(&w, "certificate 1 of 3 (CN=mx.d.example) is valid from 2030-03-18 on");
    world_end(&w);
}

Test(tls_verify, issuers_have_dates_too)
{
    struct world w =
        world_with((struct pki_options) { 0 },
                   (struct pki_options) { .is_ca = true, .not_after = PKI_NOW - 40 * PKI_DAY });
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, leaf_options()), TLS_VERDICT_EXPIRED);
    says(&w, "certificate 2 of 3 (CN=Middle) expired 2030-02-05");
    world_end(&w);
    w = world_with((struct pki_options) { .not_after = PKI_NOW - 1 },
                   (struct pki_options) { .is_ca = true });
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, leaf_options()), TLS_VERDICT_EXPIRED);
    says(&w, "certificate 3 of 3 (CN=Root)");
    world_end(&w);
}

Test(tls_verify, expired_and_untrusted_is_untrusted)
{
    struct world w = world_make();
    struct pki_options options = leaf_options();
    options.not_after = PKI_NOW - 1;
    struct pki *leaf = pki_make(NULL, options);
    cr_assert_eq(verify(&w, pki_chain(leaf, NULL)), TLS_VERDICT_UNTRUSTED);
    pki_free(leaf);
    world_end(&w);
}

/* ---- usage ---- */

Test(tls_verify, usage)
{
    static const struct {
        unsigned usage;
        enum tls_verdict any, client, server;
    } rows[] = {
        { 0, TLS_VERDICT_VALID, TLS_VERDICT_VALID, TLS_VERDICT_VALID },
        { PKI_ANY, TLS_VERDICT_VALID, TLS_VERDICT_VALID, TLS_VERDICT_VALID },
        { PKI_CLIENT, TLS_VERDICT_VALID, TLS_VERDICT_VALID, TLS_VERDICT_USAGE },
        { PKI_SERVER, TLS_VERDICT_VALID, TLS_VERDICT_USAGE, TLS_VERDICT_VALID },
        { PKI_SERVER | PKI_CLIENT, TLS_VERDICT_VALID, TLS_VERDICT_VALID, TLS_VERDICT_VALID },
        { PKI_EMAIL, TLS_VERDICT_USAGE, TLS_VERDICT_USAGE, TLS_VERDICT_USAGE },
        { PKI_EMAIL | PKI_ANY, TLS_VERDICT_VALID, TLS_VERDICT_VALID, TLS_VERDICT_VALID },
    };
    struct world w = world_make();
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        struct pki_options options = leaf_options();
        options.usage = rows[i].usage;
        cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, options), rows[i].any, "%u", i);
        cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_CLIENT, options), rows[i].client, "%u", i);
        cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_SERVER, options), rows[i].server, "%u", i);
    }
    says(&w, "");
    world_end(&w);
}

Test(tls_verify, usage_of_an_issuer)
{
    struct world w = world_with((struct pki_options) { .usage = PKI_EMAIL },
                                (struct pki_options) { .is_ca = true, .usage = PKI_CLIENT });
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_SERVER, leaf_options()), TLS_VERDICT_USAGE);
    says(&w, "certificate 2 of 3 (CN=Middle) is for no servers (extended key usage)");
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_CLIENT, leaf_options()), TLS_VERDICT_VALID,
                 "the root's is not looked at: %s", w.peer.reason);
    world_end(&w);
}

/* ---- weak ---- */

Test(tls_verify, weak_leaf)
{
    struct world w = world_make();
    struct pki_options options = leaf_options();
    options.key = PKI_RSA_1024;
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, options), TLS_VERDICT_WEAK);
    says(&w, "certificate 1 of 3 (CN=mx.d.example) has an RSA key shorter than 2048 bits");
    cr_assert_eq(w.peer.leaf.key, TLS_KEY_RSA);
    cr_assert_eq(w.peer.leaf.key_bits, 1'024);
    options.key = PKI_P224;
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, options), TLS_VERDICT_WEAK);
    says(&w, "EC key shorter than 256 bits");
    options.key = PKI_P256;
    options.sha1 = true;
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, options), TLS_VERDICT_WEAK);
    says(&w, "certificate 1 of 3 (CN=mx.d.example) is signed with SHA-1");
    world_end(&w);
}

Test(tls_verify, weak_issuer)
{
    struct world w = world_with((struct pki_options) { 0 },
                                (struct pki_options) { .is_ca = true, .sha1 = true });
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, leaf_options()), TLS_VERDICT_WEAK);
    says(&w, "certificate 2 of 3 (CN=Middle) is signed with SHA-1");
    world_end(&w);
    w = world_with((struct pki_options) { 0 },
                   (struct pki_options) { .is_ca = true, .key = PKI_RSA_1024 });
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, leaf_options()), TLS_VERDICT_WEAK);
    says(&w, "certificate 2 of 3 (CN=Middle) has an RSA key");
    world_end(&w);
}

Test(tls_verify, weak_root_is_an_anchor_all_the_same)
{
    struct world w = world_with((struct pki_options) { .sha1 = true, .key = PKI_RSA_1024 },
                                (struct pki_options) { .is_ca = true });
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, leaf_options()), TLS_VERDICT_VALID, "%s",
                 w.peer.reason);
    world_end(&w);
}

Test(tls_verify, pss_is_as_strong_as_its_digest)
{
    struct world w = world_with((struct pki_options) { 0 },
                                (struct pki_options) { .is_ca = true, .key = PKI_RSA_2048 });
    struct pki_options options = leaf_options();
    options.pss = true;
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, options), TLS_VERDICT_VALID, "%s", w.peer.reason);
    world_end(&w);
}

/* ---- valid, and its facts ---- */

Test(tls_verify, nothing_presented)
{
    struct world w = world_make();
    cr_assert_eq(tls_verify_chain(NULL, w.roots, TLS_PURPOSE_ANY, PKI_NOW, &w.peer), 0);
    cr_assert_eq(w.peer.verdict, TLS_VERDICT_NONE);
    cr_assert_eq(verify(&w, sk_CRYPTO_BUFFER_new_null()), TLS_VERDICT_NONE);
    cr_assert_not(w.peer.has_key);
    world_end(&w);
}

Test(tls_verify, keys)
{
    static const struct {
        enum pki_key pki;
        enum tls_key key;
        unsigned bits;
    } rows[] = { { PKI_P256, TLS_KEY_EC, 256 },
                 { PKI_P384, TLS_KEY_EC, 384 },
                 { PKI_P521, TLS_KEY_EC, 521 },
                 { PKI_RSA_2048, TLS_KEY_RSA, 2'048 } };
    struct world w = world_make();
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        struct pki_options options = leaf_options();
        options.key = rows[i].pki;
        cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, options), TLS_VERDICT_VALID, "%s",
                     w.peer.reason);
        cr_assert_eq(w.peer.leaf.key, rows[i].key);
        cr_assert_eq(w.peer.leaf.key_bits, rows[i].bits);
    }
    world_end(&w);
}

Test(tls_verify, facts)
{
    struct world w = world_make();
    struct pki_options options = leaf_options();
    options.cn = "mx\n\\d";
    options.usage = PKI_CLIENT;
    options.not_after = PKI_NOW + 90 * PKI_DAY;
    struct pki *leaf = pki_make(w.middle, options);
    cr_assert_eq(verify(&w, pki_chain(leaf, w.middle, NULL)), TLS_VERDICT_VALID);
    const struct tls_certificate *facts = &w.peer.leaf;
    uint8_t digest[TLS_DIGEST_BYTES];
    struct slice der = tls_certificate_der(leaf->buffer);
    SHA256(der.data, der.size, digest);
    cr_assert_arr_eq(facts->digest, digest, TLS_DIGEST_BYTES);
    cr_assert_eq(w.peer.count, 2);
    cr_assert_arr_eq(w.peer.digests[0], digest, TLS_DIGEST_BYTES);
    uint8_t *spki = NULL;
    int spki_bytes = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(leaf->x509), &spki);
    SHA256(spki, (size_t)spki_bytes, digest);
    OPENSSL_free(spki);
    cr_assert_arr_eq(facts->spki, digest, TLS_DIGEST_BYTES);
    der = tls_certificate_der(w.root->buffer);
    SHA256(der.data, der.size, digest);
    cr_assert_arr_eq(w.peer.root_digest, digest, TLS_DIGEST_BYTES);
    cr_assert_str_eq(w.peer.root, "CN=Root");
    cr_assert_str_eq(facts->issuer, "CN=Middle");
    cr_assert_null(strpbrk(facts->subject, "\n"));
    cr_assert_str_eq(facts->common_name, "mx\\x0a\\x5cd");
    cr_assert_eq(facts->serial[0], '1');
    cr_assert_eq(strlen(facts->serial), 4);
    cr_assert_eq(facts->not_after, PKI_NOW + 90 * PKI_DAY);
    cr_assert_lt(facts->not_before, PKI_NOW);
    cr_assert_eq(facts->usage, TLS_USAGE_CLIENT);
    cr_assert_eq(facts->names.count, 2);
    cr_assert(slice_equal(tls_names_at(&facts->names, 1), SLICE("*.e.example")));
    pki_free(leaf);
    world_end(&w);
}

Test(tls_verify, every_verdict_has_a_name)
{
    for (unsigned i = 0; i < TLS_VERDICTS; i++)
        cr_assert_not_null(tls_verdict_name(i), "%u", i);
    cr_assert_str_eq(tls_verdict_name(TLS_VERDICT_NOT_YET), "not-yet");
}

Test(tls_verify, no_such_verdict, .signal = SIGABRT)
{
    tls_verdict_name(TLS_VERDICTS);
}

/* ---- names and pins ---- */

static bool named(struct world *w, const char *pattern, unsigned allow, char *why)
{
    struct slice patterns[] = { slice_of_string(pattern) }, matched;
    bool is = tls_verify_name(&w->peer, patterns, 1, allow, &matched, why);
    cr_assert_eq(is, why[0] == '\0');
    return is;
}

Test(tls_verify, names)
{
    char why[TLS_WHY_MAX];
    struct world w = world_make();
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, leaf_options()), TLS_VERDICT_VALID);
    cr_assert(named(&w, "MX.d.example", 0, why));
    cr_assert(named(&w, "*.d.example", 0, why));
    cr_assert(named(&w, "a.e.example", TLS_ALLOW_WILDCARD, why));
    cr_assert_not(named(&w, "a.e.example", 0, why));
    cr_assert_str_eq(why, "presents mx.d.example, *.e.example; wanted a.e.example");
    struct slice two[] = { SLICE("c.example"), SLICE("x\n") }, matched;
    cr_assert_not(tls_verify_name(&w.peer, two, 2, 0, &matched, why));
    cr_assert_str_eq(why, "presents mx.d.example, *.e.example; wanted c.example, x\\x0a");
    cr_assert_not(tls_verify_name(&w.peer, NULL, 0, TLS_ALLOW_WILDCARD, &matched, why));
    cr_assert_str_eq(why, "presents mx.d.example, *.e.example; wanted nothing");
    world_end(&w);
}

/* N-10, N-11 of section 16.1, and what must not be a CN. */
Test(tls_verify, common_name)
{
    char why[TLS_WHY_MAX];
    struct world w = world_make();
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, (struct pki_options) { .cn = "mx.d.example" }),
                 TLS_VERDICT_VALID);
    cr_assert_not(named(&w, "mx.d.example", TLS_ALLOW_WILDCARD, why), "N-10");
    cr_assert_str_eq(why, "presents no dNSName, and CN mx.d.example, which is not looked at; "
                          "wanted mx.d.example");
    cr_assert(named(&w, "mx.d.example", TLS_ALLOW_WILDCARD | TLS_ALLOW_COMMON_NAME, why), "N-11");
    cr_assert_not(named(&w, "my.d.example", TLS_ALLOW_COMMON_NAME, why));
    cr_assert_str_eq(why, "presents no dNSName, and CN mx.d.example; wanted my.d.example");

    struct pki_options both = { .cn = "mx.d.example", .names = { SLICE("other.example") } };
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, both), TLS_VERDICT_VALID);
    cr_assert_not(named(&w, "mx.d.example", TLS_ALLOW_COMMON_NAME, why), "there is a dNSName");
    both.names[0] = SLICE("oth*er.example");
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, both), TLS_VERDICT_MALFORMED);
    cr_assert_not(named(&w, "mx.d.example", TLS_ALLOW_COMMON_NAME, why), "even an unusable one");
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, (struct pki_options) { .cn = "*.d.example" }),
                 TLS_VERDICT_VALID);
    cr_assert_not(named(&w, "mx.d.example", TLS_ALLOW_COMMON_NAME, why));
    cr_assert(named(&w, "mx.d.example", TLS_ALLOW_COMMON_NAME | TLS_ALLOW_WILDCARD, why));
    cr_assert_eq(verify_leaf(&w, TLS_PURPOSE_ANY, (struct pki_options) { 0 }), TLS_VERDICT_VALID);
    cr_assert_not(named(&w, "mx.d.example", TLS_ALLOW_COMMON_NAME, why));
    cr_assert_str_eq(why, "presents no name; wanted mx.d.example");
    world_end(&w);
}

Test(tls_verify, pins)
{
    struct world w = world_make();
    uint8_t pins[3][TLS_DIGEST_BYTES] = { 0 };
    cr_assert_eq(verify(&w, chain_of_bytes(SLICE("garbage"))), TLS_VERDICT_MALFORMED);
    cr_assert_eq(tls_verify_pin(&w.peer, pins, 3), -ENOENT, "no key is no pin of zeros");
    struct pki *leaf = pki_make(NULL, leaf_options());
    cr_assert_eq(verify(&w, pki_chain(leaf, NULL)), TLS_VERDICT_UNTRUSTED);
    cr_assert_eq(tls_verify_pin(&w.peer, pins, 3), -ENOENT);
    memcpy(pins[1], w.peer.leaf.spki, TLS_DIGEST_BYTES);
    cr_assert_eq(tls_verify_pin(&w.peer, pins, 3), 1);
    cr_assert_eq(tls_verify_pin(&w.peer, pins, 1), -ENOENT);
    cr_assert_eq(tls_verify_pin(&w.peer, NULL, 0), -ENOENT);
    pki_free(leaf);
    world_end(&w);
}
