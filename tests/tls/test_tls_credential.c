/*
 * test_tls_credential.c - our own certificate: each mistake in the files is told with the way out
 */
#include "tls/tls_credential.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/tls/pki.h"

enum { TEXT_BYTES = 1 << 14 };

struct world {
    struct pki *root;
    struct pki *middle;
    struct pki *leaf;
    char directory[PKI_PATH_BYTES];
    char chain[TEXT_BYTES]; /* what goes into the files */
    char key[TEXT_BYTES];
    char why[TLS_WHY_MAX];
    struct tls_credential *credential;
};

static struct world *world_make(struct pki_options leaf)
{
    struct world *w = calloc(1, sizeof(*w));
    w->root = pki_make(NULL, (struct pki_options) { .cn = "Root", .is_ca = true });
    w->middle = pki_make(w->root, (struct pki_options) { .cn = "Middle", .is_ca = true });
    leaf.cn = "mx.us.example";
    if (leaf.names[0].data == NULL)
        leaf.names[0] = SLICE("mx.us.example");
    w->leaf = pki_make(w->middle, leaf);
    pki_directory_make(w->directory);
    return w;
}

static void world_free(struct world *w)
{
    pki_free(w->root);
    pki_free(w->middle);
    pki_free(w->leaf);
    pki_directory_remove(w->directory);
    tls_credential_drop(w->credential);
    free(w);
}

static void add(struct world *w, const struct pki *pki)
{
    pki_pem_certificate(pki, w->chain, TEXT_BYTES);
}

/* Leaf, intermediate, and the key. */
static void fill(struct world *w, enum pki_key_form form)
{
    add(w, w->leaf);
    add(w, w->middle);
    pki_pem_key(w->leaf, form, w->key, TEXT_BYTES);
}

static int load_mode(struct world *w, unsigned mode)
{
    const char *chain = pki_file(w->directory, "chain.pem", w->chain, 0644);
    const char *key = pki_file(w->directory, "key.pem", w->key, mode);
    tls_credential_drop(w->credential);
    w->credential = NULL;
    int r = tls_credential_load_at(chain, key, PKI_NOW, &w->credential, w->why);
    cr_assert_eq(r == 0, w->credential != NULL);
    cr_assert_eq(ERR_peek_error(), 0);
    return r;
}

static int load(struct world *w)
{
    return load_mode(w, 0600);
}

static void says(const struct world *w, const char *words)
{
    cr_assert_not_null(strstr(w->why, words), "'%s' in '%s'", words, w->why);
}

Test(tls_credential, files_missing)
{
    struct world *w = world_make((struct pki_options) { 0 });
    fill(w, PKI_PKCS8);
    const char *chain = pki_file(w->directory, "chain.pem", w->chain, 0644);
    cr_assert_eq(
        tls_credential_load("/nonexistent/a.pem", "/nonexistent/b.pem", &w->credential, w->why),
        -ENOENT);
    says(w, "/nonexistent/a.pem: No such file or directory");
    cr_assert_eq(tls_credential_load(chain, "/nonexistent/b.pem", &w->credential, w->why), -ENOENT);
    says(w, "/nonexistent/b.pem: No such file or directory");
    cr_assert_eq(tls_credential_load(w->directory, "/nonexistent/b.pem", &w->credential, w->why),
                 -EINVAL);
    says(w, "not a regular file");
    world_free(w);
}

Test(tls_credential, files_empty_or_broken)
{
    struct world *w = world_make((struct pki_options) { 0 });
    cr_assert_eq(load(w), -EINVAL);
    says(w, "chain.pem: no certificate in it");
    strcpy(w->chain, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    cr_assert_eq(load(w), -EINVAL);
    says(w, "chain.pem: line 1: not a certificate");
    strcpy(w->chain, "-----BEGIN CERTIFICATE-----\nAAAA\n");
    cr_assert_eq(load(w), -EINVAL);
    says(w, "chain.pem: line 1: a PEM block that is broken");
    w->chain[0] = '\0';
    add(w, w->leaf);
    cr_assert_eq(load(w), -EINVAL);
    says(w, "key.pem: no key in it");
    strcpy(w->key, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    cr_assert_eq(load(w), -EINVAL);
    says(w, "key.pem: line 1: a key that cannot be read");
    strcpy(w->key, "\n-----BEGIN EC PRIVATE KEY-----\nA*AA\n-----END EC PRIVATE KEY-----\n");
    cr_assert_eq(load(w), -EINVAL);
    says(w, "key.pem: line 2: a key that is broken");
    world_free(w);
}

Test(tls_credential, key_that_others_may_read)
{
    struct world *w = world_make((struct pki_options) { 0 });
    fill(w, PKI_PKCS8);
    cr_assert_eq(load_mode(w, 0640), -EACCES);
    says(w, "key.pem: the key may be read by others (mode 0640): chmod 600 ");
    cr_assert_eq(load_mode(w, 0604), -EACCES);
    cr_assert_eq(load_mode(w, 0400), 0, "%s", w->why);
    world_free(w);
}

Test(tls_credential, key_of_another_user)
{
    struct world *w = world_make((struct pki_options) { 0 });
    fill(w, PKI_PKCS8);
    const char *chain = pki_file(w->directory, "chain.pem", w->chain, 0644);
    const char *key = pki_file(w->directory, "key.pem", w->key, 0600);
    if (geteuid() == 0) { /* else we cannot make one */
        cr_assert_eq(chown(key, 12'345, 12'345), 0);
        cr_assert_eq(tls_credential_load(chain, key, &w->credential, w->why), -EACCES);
        says(w, "belongs to user 12345, neither root nor user 0");
    }
    world_free(w);
}

Test(tls_credential, key_that_is_encrypted)
{
    struct world *w = world_make((struct pki_options) { 0 });
    add(w, w->leaf);
    strcpy(w->key,
           "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----");
    cr_assert_eq(load(w), -EINVAL);
    says(w, "the key is encrypted");
    says(w, "openssl pkey -in");
    strcpy(w->key, "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
                   "DEK-Info: AES-256-CBC,00\n\nAAAA\n-----END EC PRIVATE KEY-----\n");
    cr_assert_eq(load(w), -EINVAL);
    says(w, "the key is encrypted");
    world_free(w);
}

Test(tls_credential, key_of_another_certificate)
{
    struct world *w = world_make((struct pki_options) { 0 });
    add(w, w->leaf);
    pki_pem_key(w->root, PKI_PKCS8, w->key, TEXT_BYTES);
    cr_assert_eq(load(w), -EINVAL);
    says(w, "the key does not belong to the certificate in ");
    says(w, "(CN=mx.us.example)");
    world_free(w);
}

Test(tls_credential, chain_in_the_wrong_order)
{
    struct world *w = world_make((struct pki_options) { 0 });
    pki_pem_key(w->leaf, PKI_PKCS8, w->key, TEXT_BYTES);
    add(w, w->middle);
    add(w, w->leaf);
    cr_assert_eq(load(w), -EINVAL);
    says(w, "in the wrong order: the key belongs to certificate 2");
    w->chain[0] = '\0';
    add(w, w->leaf);
    add(w, w->root);
    add(w, w->middle);
    cr_assert_eq(load(w), -EINVAL);
    says(w, "certificate 2 (CN=Root) did not issue the one before it, which wants CN=Middle");
    w->chain[0] = '\0';
    for (unsigned i = 0; i <= TLS_CHAIN_MAX; i++)
        add(w, w->leaf);
    cr_assert_eq(load(w), -EINVAL);
    says(w, "more than 8 certificates");
    world_free(w);
}

Test(tls_credential, issuer_of_the_same_name_is_not_enough)
{
    struct world *w = world_make((struct pki_options) { 0 });
    struct pki *other = pki_make(w->root, (struct pki_options) { .cn = "Middle", .is_ca = true });
    pki_pem_key(w->leaf, PKI_PKCS8, w->key, TEXT_BYTES);
    add(w, w->leaf);
    add(w, other);
    cr_assert_eq(load(w), -EINVAL);
    says(w, "did not issue");
    pki_free(other);
    world_free(w);
}

Test(tls_credential, keys_that_are_refused)
{
    static const struct {
        enum pki_key key;
        const char *words;
    } rows[] = {
        { PKI_RSA_1024, "an RSA key of 1024 bits: 2048 is the least" },
        { PKI_P224, "ECDSA P-256, P-384 or RSA is wanted" },
        { PKI_P521, "ECDSA P-256, P-384 or RSA is wanted" },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        struct world *w = world_make((struct pki_options) { .key = rows[i].key });
        fill(w, PKI_PKCS8);
        cr_assert_eq(load(w), -EINVAL);
        says(w, rows[i].words);
        world_free(w);
    }
}

Test(tls_credential, dates_are_a_warning)
{
    struct world *w = world_make((struct pki_options) { .not_after = PKI_NOW - 1 });
    fill(w, PKI_PKCS8);
    cr_assert_eq(load(w), 0);
    says(w, "expired 2030-03-17");
    world_free(w);
    w = world_make((struct pki_options) { .not_before = PKI_NOW + PKI_DAY });
    fill(w, PKI_PKCS8);
    cr_assert_eq(load(w), 0);
    says(w, "is valid from 2030-03-18 on");
    world_free(w);
    w = world_make((struct pki_options) { .names = { SLICE("*.*") } });
    fill(w, PKI_PKCS8);
    cr_assert_eq(load(w), 0);
    says(w, "has no dNSName");
    world_free(w);
}

Test(tls_credential, kinds_of_keys)
{
    static const struct {
        enum pki_key key;
        const char *text;
    } rows[] = { { PKI_P256, "ECDSA P-256" },
                 { PKI_P384, "ECDSA P-384" },
                 { PKI_RSA_2048, "RSA 2048 bits" } };
    static struct tls_credential_text text;
    for (unsigned i = 0; i < ARRAY_COUNT(rows); i++) {
        struct world *w = world_make((struct pki_options) { .key = rows[i].key });
        fill(w, PKI_TRADITIONAL);
        cr_assert_eq(load(w), 0, "%s", w->why);
        cr_assert_str_eq(w->why, "");
        w->key[0] = '\0';
        pki_pem_key(w->leaf, PKI_PKCS8, w->key, TEXT_BYTES);
        cr_assert_eq(load(w), 0, "%s", w->why);
        cr_assert_eq(tls_credential_describe(w->credential, NULL, PKI_NOW, &text), 0);
        cr_assert_str_eq(text.key, rows[i].text);
        world_free(w);
    }
}

Test(tls_credential, all_in_one_file)
{
    struct world *w = world_make((struct pki_options) { 0 });
    fill(w, PKI_PKCS8);
    pki_pem_key(w->leaf, PKI_PKCS8, w->chain, TEXT_BYTES);
    const char *path = pki_file(w->directory, "both.pem", w->chain, 0600);
    cr_assert_eq(tls_credential_load(path, path, &w->credential, w->why), 0, "%s", w->why);
    cr_assert_eq(tls_credential_chain_count(w->credential), 2);
    struct slice der = tls_certificate_der(tls_credential_chain_at(w->credential, 1));
    cr_assert(slice_equal(der, tls_certificate_der(w->middle->buffer)));
    world_free(w);
}

Test(tls_credential, on_a_context)
{
    struct world *w = world_make((struct pki_options) { 0 });
    fill(w, PKI_PKCS8);
    cr_assert_eq(load(w), 0);
    SSL_CTX *context = SSL_CTX_new(TLS_with_buffers_method());
    cr_assert_eq(tls_credential_use_on(w->credential, context), 0);
    struct tls_credential *second = tls_credential_use(w->credential);
    tls_credential_drop(w->credential);
    w->credential = second;
    const STACK_OF(CRYPTO_BUFFER) *chain = SSL_CTX_get0_chain(context);
    cr_assert_eq(sk_CRYPTO_BUFFER_num(chain), 2);
    tls_credential_drop(second);
    w->credential = NULL;
    cr_assert(slice_equal(tls_certificate_der(sk_CRYPTO_BUFFER_value(chain, 0)),
                          tls_certificate_der(w->leaf->buffer)),
              "the context has references of its own");
    SSL_CTX_free(context);
    world_free(w);
}

Test(tls_credential, describe)
{
    static struct tls_credential_text text;
    struct world *w = world_make(
        (struct pki_options) { .names = { SLICE("mx.us.example"), SLICE("*.us.example") } });
    fill(w, PKI_PKCS8);
    cr_assert_eq(load(w), 0);
    struct tls_roots *roots = pki_roots(w->root, NULL);
    cr_assert_eq(tls_credential_describe(w->credential, NULL, PKI_NOW, &text), 0);
    cr_assert_str_eq(text.root, "");
    cr_assert_str_eq(text.verdict, "");
    cr_assert_eq(tls_credential_describe(w->credential, roots, PKI_NOW, &text), 0);
    cr_assert_str_eq(text.names, "mx.us.example, *.us.example");
    cr_assert_str_eq(text.subject, "CN=mx.us.example");
    cr_assert_str_eq(text.issuer, "CN=Middle");
    cr_assert_str_eq(text.root, "CN=Root");
    cr_assert_str_eq(text.verdict, "valid");
    cr_assert_str_eq(text.not_after, "2040-03-16");
    cr_assert_str_eq(text.not_before, "2020-03-17");
    cr_assert_eq(strlen(text.fingerprint), 64);
    cr_assert_eq(strlen(text.pin_hex), 64);
    cr_assert_eq(strlen(text.pin_base64), 44);
    cr_assert_eq(text.tlsa_count, 2);
    cr_assert_eq(memcmp(text.tlsa[0], "3 1 1 ", 6), 0);
    cr_assert_str_eq(text.tlsa[0] + 6, text.pin_hex);
    cr_assert_eq(memcmp(text.tlsa[1], "2 1 1 ", 6), 0);
    cr_assert_eq(strlen(text.tlsa[1]), 6 + 64);
    uint8_t pin[48];
    size_t pin_bytes;
    cr_assert(EVP_DecodeBase64(pin, &pin_bytes, sizeof(pin), (const uint8_t *)text.pin_base64, 44));
    cr_assert_arr_eq(pin, tls_credential_leaf(w->credential)->spki, TLS_DIGEST_BYTES);
    cr_assert_eq(tls_credential_describe(w->credential, roots, PKI_NOW + 9'999L * PKI_DAY, &text),
                 0);
    cr_assert_not_null(
        strstr(text.verdict, "expired: certificate 1 of 3 (CN=mx.us.example) expired"), "%s",
        text.verdict);
    tls_roots_drop(roots);
    world_free(w);
}
