/*
 * test_tls_make.c - a pair that is made can be loaded, and says what was asked for
 */
#include "tls/tls_make.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tls/pki.h"
#include "tls/tls_credential.h"
#include "tls/tls_roots.h"
#include "tls/tls_verify.h"

static struct tls_made made;
static char why[TLS_WHY_MAX];

static int make(struct tls_make_options options)
{
    static const struct slice names[] = { SLICE("mx.us.example"), SLICE("*.us.example") };
    if (options.names == NULL) {
        options.names = names;
        options.names_count = ARRAY_COUNT(names);
    }
    if (options.not_after == 0) {
        options.not_before = PKI_NOW - PKI_DAY;
        options.not_after = PKI_NOW + 90 * PKI_DAY;
    }
    return tls_make_self_signed(&options, &made, why);
}

static void is_good(bool is_rsa, const char *key)
{
    char directory[PKI_PATH_BYTES];
    struct tls_credential *credential;
    cr_assert_eq(make((struct tls_make_options) { .is_rsa = is_rsa }), 0, "%s", why);
    pki_directory_make(directory);
    const char *chain_path = pki_file(directory, "c.pem", made.certificate, 0644);
    const char *key_path = pki_file(directory, "k.pem", made.key, 0600);
    cr_assert_eq(tls_credential_load_at(chain_path, key_path, PKI_NOW, &credential, why), 0, "%s",
                 why);
    cr_expect_str_eq(why, "");
    struct tls_roots *roots;
    cr_assert_eq(tls_roots_of(slice_of_string(made.certificate), "itself", &roots, why), 0);
    struct tls_credential_text *text = calloc(1, sizeof(*text));
    cr_assert_eq(tls_credential_describe(credential, roots, PKI_NOW, text), 0);
    cr_expect_str_eq(text->names, "mx.us.example, *.us.example");
    cr_expect_str_eq(text->subject, "CN=mx.us.example");
    cr_expect_str_eq(text->issuer, "CN=mx.us.example");
    cr_expect_str_eq(text->key, key);
    cr_expect_str_eq(text->verdict, "valid", "%s", text->verdict);
    cr_expect_eq(text->tlsa_count, 1);
    const struct tls_certificate *leaf = tls_credential_leaf(credential);
    cr_expect_eq(leaf->usage, TLS_USAGE_CLIENT | TLS_USAGE_SERVER);
    cr_expect_eq(leaf->not_after, PKI_NOW + 90 * PKI_DAY);
    free(text);
    tls_roots_drop(roots);
    tls_credential_drop(credential);

    /* without its key it can still be described */
    cr_assert_eq(tls_credential_look(chain_path, &credential, why), 0, "%s", why);
    cr_expect_eq(tls_credential_chain_count(credential), 1);
    tls_credential_drop(credential);
    pki_directory_remove(directory);
}

Test(tls_make, what_is_no_name_is_refused)
{
    static const struct slice bad[] = {
        SLICE(""),      SLICE("a b"),          SLICE("a..b"), SLICE("*"),
        SLICE("*.com"), SLICE("m*.a.example"), SLICE("."),    SLICE("\n"),
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        cr_expect_eq(make((struct tls_make_options) { .names = &bad[i], .names_count = 1 }),
                     -EINVAL, "%zu", i);
        cr_expect_neq(strstr(why, "is no name"), NULL, "%s", why);
        cr_expect_str_eq(made.key, "");
    }
}

Test(tls_make, no_time_is_refused)
{
    cr_expect_eq(make((struct tls_make_options) { .not_before = 10, .not_after = 10 }), -EINVAL);
    cr_expect_neq(strstr(why, "end before"), NULL, "%s", why);
}

Test(tls_make, as_many_long_names_as_there_may_be)
{
    static char texts[TLS_MAKE_NAMES_MAX][256];
    struct slice names[TLS_MAKE_NAMES_MAX];
    for (unsigned i = 0; i < TLS_MAKE_NAMES_MAX; i++) {
        size_t size = 0;
        while (size < 240)
            size += (size_t)snprintf(texts[i] + size, sizeof(texts[i]) - size, "label-%02u.", i);
        texts[i][size - 1] = '\0';
        names[i] = slice_of_string(texts[i]);
    }
    cr_assert_eq(
        make((struct tls_make_options) { .names = names, .names_count = TLS_MAKE_NAMES_MAX }), 0,
        "%s", why);
}

Test(tls_make, ecdsa)
{
    is_good(false, "ECDSA P-256");
}

Test(tls_make, rsa)
{
    is_good(true, "RSA 2048 bits");
}

Test(tls_make, no_two_are_the_same)
{
    cr_assert_eq(make((struct tls_make_options) { 0 }), 0);
    struct tls_made *first = malloc(sizeof(made));
    *first = made;
    cr_assert_eq(make((struct tls_make_options) { 0 }), 0);
    cr_expect_str_neq(first->key, made.key);
    cr_expect_str_neq(first->certificate, made.certificate);
    tls_make_erase(first);
    cr_expect_str_eq(first->key, "");
    free(first);
}
