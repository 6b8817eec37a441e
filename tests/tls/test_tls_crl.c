/*
 * test_tls_crl.c - lists of revoked certificates: which are taken, and what they say of a chain
 */
#include "tls/tls_crl.h"

#include <criterion/criterion.h>
#include <errno.h>

#include "tests/tls/pki_crl.h"
#include "tls/tls_verify.h"

#define LEAF_URL "http://crl.middle.example/leaf.crl"
#define MIDDLE_URL "http://crl.root.example/ca.crl"

/* A root, an intermediate that points to the root's list, a leaf that points to the other one. */
struct world {
    struct pki *root, *middle, *leaf;
    struct tls_roots *roots;
    struct tls_peer peer;
    char why[TLS_WHY_MAX];
};

static void verify(struct world *w)
{
    STACK_OF(CRYPTO_BUFFER) *chain = pki_chain(w->leaf, w->middle, NULL);
    cr_assert_eq(tls_verify_chain(chain, w->roots, TLS_PURPOSE_ANY, PKI_NOW, &w->peer), 0);
    cr_assert_eq(w->peer.verdict, TLS_VERDICT_VALID, "%s", w->peer.reason);
    sk_CRYPTO_BUFFER_pop_free(chain, CRYPTO_BUFFER_free);
}

static struct world world_of(struct pki_options leaf, struct pki_options middle)
{
    struct world w = { 0 };
    leaf.cn = "mx.d.example";
    leaf.names[0] = SLICE("mx.d.example");
    middle.cn = "Middle";
    middle.is_ca = true;
    w.root = pki_make(NULL, (struct pki_options) { .cn = "Root", .is_ca = true });
    w.middle = pki_make(w.root, middle);
    w.leaf = pki_make(w.middle, leaf);
    w.roots = pki_roots(w.root, NULL);
    verify(&w);
    return w;
}

static struct world world_make(void)
{
    return world_of((struct pki_options) { .crls = { LEAF_URL } },
                    (struct pki_options) { .crls = { MIDDLE_URL } });
}

static void world_end(struct world *w)
{
    pki_free(w->root);
    pki_free(w->middle);
    pki_free(w->leaf);
    tls_roots_drop(w->roots);
}

/* With these lists, which are used up. */
static enum tls_crl_status status_at(struct world *w, int64_t now, struct tls_crl *a,
                                     struct tls_crl *b)
{
    struct tls_crl *lists[2];
    struct tls_crls *set;
    unsigned count = 0;
    if (a != NULL)
        lists[count++] = a;
    if (b != NULL)
        lists[count++] = b;
    cr_assert_eq(tls_crls_make(lists, count, &set), 0);
    enum tls_crl_status status = tls_crls_status(set, &w->peer.questions, now, w->why);
    cr_assert_eq(w->why[0] == '\0', status <= TLS_CRL_GOOD);
    tls_crls_drop(set);
    tls_crl_drop(a);
    tls_crl_drop(b);
    return status;
}

static enum tls_crl_status status_of(struct world *w, struct tls_crl *a, struct tls_crl *b)
{
    return status_at(w, PKI_NOW, a, b);
}

static struct tls_crl *leaf_list(const struct world *w, struct pki_crl_options options)
{
    return pki_crl(w->middle, LEAF_URL, &options);
}

static struct tls_crl *middle_list(const struct world *w, struct pki_crl_options options)
{
    return pki_crl(w->root, MIDDLE_URL, &options);
}

static void says(const struct world *w, const char *words)
{
    cr_assert_not_null(strstr(w->why, words), "'%s' in '%s'", words, w->why);
}

/* ---- what is no list ---- */

static int refused_with(struct world *w, const struct pki *issuer, struct pki_crl_options options)
{
    struct tls_crl *list = NULL;
    struct slice der = pki_crl_der(w->middle, &options);
    int r = tls_crl_read(der, LEAF_URL, pki_der(issuer), &list, w->why);
    cr_assert_lt(r, 0);
    cr_assert_null(list);
    cr_assert_eq(ERR_peek_error(), 0);
    OPENSSL_free((void *)(uintptr_t)der.data);
    return r;
}

static int refused(struct world *w, struct pki_crl_options options)
{
    return refused_with(w, w->middle, options);
}

Test(tls_crl, of_whom_it_is)
{
    struct world w = world_make();
    cr_assert_eq(refused_with(&w, w.root, (struct pki_crl_options) { 0 }), -EACCES);
    says(&w, "is of CN=Middle, and not of CN=Root");
    cr_assert_eq(refused(&w, (struct pki_crl_options) { .signer = w.root }), -EACCES);
    says(&w, "signature that is not of CN=Middle");
    cr_assert_eq(refused(&w, (struct pki_crl_options) { .sha1 = true }), -EACCES);
    says(&w, "SHA-1");
    world_end(&w);
}

Test(tls_crl, an_issuer_that_may_not_sign_lists)
{
    struct world w = world_of((struct pki_options) { .crls = { LEAF_URL } },
                              (struct pki_options) { .no_crl_sign = true });
    cr_assert_eq(refused(&w, (struct pki_crl_options) { 0 }), -EACCES);
    says(&w, "may not sign lists");
    world_end(&w);
}

Test(tls_crl, kinds_that_are_refused)
{
    static const struct {
        struct pki_crl_options options;
        const char *words;
    } kinds[] = {
        { { .delta = true }, "delta" },
        { { .indirect = true }, "indirect" },
        { { .attributes = true }, "attribute" },
        { { .reasons = true }, "some reasons" },
        { { .unknown_critical = true }, "critical extension" },
        { { .many = 1, .entry_issuer = true }, "indirect" },
        { { .many = 1, .entry_unknown_critical = true }, "critical extension" },
        { { .point = "http://crl.middle.example/other.crl" }, "another distribution point" },
    };
    struct world w = world_make();
    for (unsigned i = 0; i < ARRAY_COUNT(kinds); i++) {
        cr_assert_eq(refused(&w, kinds[i].options), -ENOTSUP, "%s: %s", kinds[i].words, w.why);
        says(&w, kinds[i].words);
    }
    cr_assert_eq(refused(&w, (struct pki_crl_options) { .users = true, .cas = true }), -EBADMSG);
    cr_assert_eq(refused(&w, (struct pki_crl_options) { .next_update = -1 }), -EBADMSG);
    says(&w, "when the next one comes");
    world_end(&w);
}

Test(tls_crl, bytes_that_are_none)
{
    static const struct slice others[] = {
        SLICE(""), SLICE("<html>not found</html>"), SLICE("\x30\x03\x02\x01\x01"),
        SLICE("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"),
        SLICE("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    };
    struct world w = world_make();
    struct tls_crl *list;
    for (unsigned i = 0; i < ARRAY_COUNT(others); i++)
        cr_assert_eq(tls_crl_read(others[i], LEAF_URL, pki_der(w.middle), &list, w.why), -EBADMSG);
    struct slice der = pki_crl_der(w.middle, &(struct pki_crl_options) { .many = 3 });
    for (size_t size = 0; size < der.size; size++)
        cr_assert_lt(
            tls_crl_read(slice_of(der.data, size), LEAF_URL, pki_der(w.middle), &list, w.why), 0);
    cr_assert_eq(tls_crl_read(der, LEAF_URL, SLICE("no certificate"), &list, w.why), -EACCES);
    cr_assert_eq(tls_crl_read(slice_of(der.data, TLS_CRL_BYTES_MAX + 1), LEAF_URL,
                              pki_der(w.middle), &list, w.why),
                 -EFBIG);
    OPENSSL_free((void *)(uintptr_t)der.data);
    cr_assert_eq(ERR_peek_error(), 0);
    world_end(&w);
}

Test(tls_crl, too_many_entries)
{
    struct world w = world_make();
    cr_assert_eq(refused(&w, (struct pki_crl_options) { .many = TLS_CRL_ENTRIES_MAX + 1 }), -EFBIG);
    world_end(&w);
}

Test(tls_crl, pem_is_taken_as_well)
{
    struct world w = world_make();
    struct slice der = pki_crl_der(w.middle, &(struct pki_crl_options) { .many = 3 });
    static char text[4'096];
    static uint8_t base64[2'048];
    size_t size = EVP_EncodeBlock(base64, der.data, der.size);
    snprintf(text, sizeof(text), "-----BEGIN X509 CRL-----\n");
    for (size_t at = 0; at < size; at += 64)
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%.64s\n", base64 + at);
    snprintf(text + strlen(text), sizeof(text) - strlen(text), "-----END X509 CRL-----\n");
    struct tls_crl *list;
    cr_assert_eq(tls_crl_read(slice_of_string(text), LEAF_URL, pki_der(w.middle), &list, w.why), 0,
                 "%s", w.why);
    cr_assert_eq(tls_crl_count(list), 3);
    cr_assert_str_eq(tls_crl_issuer(list), "CN=Middle");
    cr_assert_eq(tls_crl_this_update(list), PKI_NOW - PKI_DAY);
    cr_assert_eq(tls_crl_next_update(list), PKI_NOW + 7 * PKI_DAY);
    tls_crl_drop(list);
    OPENSSL_free((void *)(uintptr_t)der.data);
    world_end(&w);
}

/* ---- what a set says ---- */

Test(tls_crl, unknown_until_each_list_is_there)
{
    struct world w = world_make();
    cr_assert_eq(tls_crls_status(NULL, &w.peer.questions, PKI_NOW, w.why), TLS_CRL_UNKNOWN);
    says(&w, "certificate 1 of 3 cannot be looked up: its list has not been fetched");
    cr_assert_eq(status_of(&w, leaf_list(&w, (struct pki_crl_options) { 0 }), NULL),
                 TLS_CRL_UNKNOWN);
    says(&w, "certificate 2 of 3");
    cr_assert_eq(status_of(&w, leaf_list(&w, (struct pki_crl_options) { .many = 100 }),
                           middle_list(&w, (struct pki_crl_options) { 0 })),
                 TLS_CRL_GOOD);
    world_end(&w);
}

Test(tls_crl, revoked_wherever_in_the_chain)
{
    struct world w = world_make();
    cr_assert_eq(
        status_of(&w, leaf_list(&w, (struct pki_crl_options) { .revoked = { w.leaf }, .many = 99 }),
                  NULL),
        TLS_CRL_REVOKED);
    says(&w, "certificate 1 of 3 is revoked");
    /* that the leaf's is not known does not hide it */
    cr_assert_eq(
        status_of(&w, NULL, middle_list(&w, (struct pki_crl_options) { .revoked = { w.middle } })),
        TLS_CRL_REVOKED);
    says(&w, "certificate 2 of 3 is revoked");
    /* the same number by another issuer is another certificate */
    cr_assert_eq(status_of(&w, leaf_list(&w, (struct pki_crl_options) { .revoked = { w.middle } }),
                           middle_list(&w, (struct pki_crl_options) { .revoked = { w.leaf } })),
                 TLS_CRL_GOOD);
    world_end(&w);
}

Test(tls_crl, no_grace_after_the_next_update)
{
    struct world w = world_make();
    int64_t next = PKI_NOW + 7 * PKI_DAY;
    struct pki_crl_options empty = { 0 }, revoked = { .revoked = { w.leaf } };
    cr_assert_eq(status_at(&w, next, leaf_list(&w, empty), middle_list(&w, empty)), TLS_CRL_GOOD);
    cr_assert_eq(status_at(&w, next + 1, leaf_list(&w, empty), middle_list(&w, empty)),
                 TLS_CRL_UNKNOWN);
    says(&w, "older than its next update");
    cr_assert_eq(status_at(&w, next + 1, leaf_list(&w, revoked), middle_list(&w, empty)),
                 TLS_CRL_REVOKED);
    cr_assert_eq(status_at(&w, PKI_NOW - PKI_DAY - 1, leaf_list(&w, empty), middle_list(&w, empty)),
                 TLS_CRL_UNKNOWN);
    says(&w, "of the future");
    world_end(&w);
}

Test(tls_crl, a_list_for_others_says_nothing)
{
    struct world w = world_make();
    struct pki_crl_options users = { .point = LEAF_URL, .users = true };
    struct pki_crl_options cas = { .cas = true };
    cr_assert_eq(status_of(&w, leaf_list(&w, users), middle_list(&w, cas)), TLS_CRL_GOOD);
    struct pki_crl_options wrong = { .cas = true, .revoked = { w.leaf } };
    cr_assert_eq(status_of(&w, leaf_list(&w, wrong), middle_list(&w, cas)), TLS_CRL_UNKNOWN);
    says(&w, "other kinds of certificates");
    struct pki_crl_options users_only = { .users = true };
    cr_assert_eq(status_of(&w, leaf_list(&w, users), middle_list(&w, users_only)), TLS_CRL_UNKNOWN);
    world_end(&w);
}

Test(tls_crl, the_list_of_another_url_is_none)
{
    struct world w = world_make();
    struct pki_crl_options empty = { 0 };
    cr_assert_eq(status_of(&w, pki_crl(w.middle, "http://crl.middle.example/x.crl", &empty),
                           middle_list(&w, empty)),
                 TLS_CRL_UNKNOWN);
    world_end(&w);
}

Test(tls_crl, any_of_several_points_will_do)
{
    struct world w = world_of((struct pki_options) { .crls = { "https://first.example/", LEAF_URL },
                                                     .has_other_points = true },
                              (struct pki_options) { .crls = { MIDDLE_URL } });
    struct pki_crl_options empty = { 0 };
    cr_assert_eq(w.peer.questions.at[0].count, 2);
    cr_assert_eq(status_of(&w, leaf_list(&w, empty), middle_list(&w, empty)), TLS_CRL_GOOD);
    world_end(&w);
}

Test(tls_crl, without_a_pointer_only_a_short_life_is_enough)
{
    struct pki_options middle = { .crls = { MIDDLE_URL } };
    struct pki_options leaf = { .not_before = PKI_NOW - PKI_DAY,
                                .not_after = PKI_NOW + 6 * PKI_DAY };
    struct world w = world_of(leaf, middle);
    cr_assert_eq(status_of(&w, NULL, middle_list(&w, (struct pki_crl_options) { 0 })),
                 TLS_CRL_GOOD);
    world_end(&w);
    leaf.not_after++;
    w = world_of(leaf, middle);
    cr_assert_eq(status_of(&w, NULL, middle_list(&w, (struct pki_crl_options) { 0 })),
                 TLS_CRL_UNKNOWN);
    says(&w, "points to no list");
    world_end(&w);
    /* one that points to nothing that can be fetched, however short its life */
    leaf.not_after = PKI_NOW + PKI_DAY;
    leaf.has_other_points = true;
    w = world_of(leaf, middle);
    cr_assert_eq(status_of(&w, NULL, middle_list(&w, (struct pki_crl_options) { 0 })),
                 TLS_CRL_UNKNOWN);
    world_end(&w);
}

Test(tls_crl, nothing_is_asked_of_a_chain_that_is_not_valid)
{
    struct world w = world_make();
    STACK_OF(CRYPTO_BUFFER) *chain = pki_chain(w.leaf, NULL); /* its issuer is missing */
    cr_assert_eq(tls_verify_chain(chain, w.roots, TLS_PURPOSE_ANY, PKI_NOW, &w.peer), 0);
    cr_assert_eq(w.peer.verdict, TLS_VERDICT_UNTRUSTED);
    cr_assert_eq(tls_crls_status(NULL, &w.peer.questions, PKI_NOW, w.why), TLS_CRL_NONE);
    sk_CRYPTO_BUFFER_pop_free(chain, CRYPTO_BUFFER_free);
    world_end(&w);
}

/* ---- pointers ---- */

struct found {
    struct tls_crl_pointer *pointers[8];
    unsigned count;
};

static void on_found(void *owner, struct tls_crl_pointer *pointer)
{
    struct found *found = owner;
    found->pointers[found->count++] = pointer;
}

Test(tls_crl, pointers_lead_to_what_answers)
{
    struct world w = world_make();
    struct found found = { .count = 0 };
    STACK_OF(CRYPTO_BUFFER) *chain = pki_chain(w.leaf, w.middle, NULL);
    cr_assert_eq(tls_verify_pointers(chain, w.roots, PKI_NOW, on_found, &found), 0);
    cr_assert_eq(found.count, 2);
    cr_assert_str_eq(found.pointers[0]->url, LEAF_URL);
    cr_assert_str_eq(found.pointers[1]->url, MIDDLE_URL);
    for (unsigned i = 0; i < found.count; i++) {
        cr_assert_arr_eq(found.pointers[i]->id, w.peer.questions.at[i].ids[0], TLS_DIGEST_BYTES);
        free(found.pointers[i]);
    }
    /* nobody's lists are fetched for a chain that leads to no root */
    found.count = 0;
    cr_assert_eq(tls_verify_pointers(chain, NULL, PKI_NOW, on_found, &found), 0);
    cr_assert_eq(tls_verify_pointers(NULL, w.roots, PKI_NOW, on_found, &found), 0);
    cr_assert_eq(found.count, 0);
    sk_CRYPTO_BUFFER_pop_free(chain, CRYPTO_BUFFER_free);
    world_end(&w);
}

Test(tls_crl, urls)
{
    static const char *const good[] = { "http://a/", "https://a.example/b?c=d",
                                        "http://a.example/@" };
    static const char *const bad[] = { "",
                                       "http://",
                                       "ftp://a/",
                                       "HTTP://a/",
                                       "file:///etc/passwd",
                                       "http://a b/",
                                       "http://user@a/",
                                       "http://a/\x01",
                                       "http://a/\xc3\xa4" };
    for (unsigned i = 0; i < ARRAY_COUNT(good); i++)
        cr_assert(tls_crl_url_usable(slice_of_string(good[i])), "%s", good[i]);
    for (unsigned i = 0; i < ARRAY_COUNT(bad); i++)
        cr_assert_not(tls_crl_url_usable(slice_of_string(bad[i])), "%s", bad[i]);
    char text[TLS_CRL_URL_MAX + 1];
    memset(text, 'a', sizeof(text));
    memcpy(text, "http://", 7);
    cr_assert(tls_crl_url_usable(slice_of(text, TLS_CRL_URL_MAX - 1)));
    cr_assert_not(tls_crl_url_usable(slice_of(text, TLS_CRL_URL_MAX)));
}
