/*
 * test_tls_roots.c - bundles of roots: what is in them, and what is only nearly in them
 */
#include "tls/tls_roots.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/tls/pki.h"
#include "tls/tls_verify.h"

enum { TEXT_BYTES = 1 << 15 };

struct bundle {
    struct pki *a;
    struct pki *b;
    char text[TEXT_BYTES];
    char why[TLS_WHY_MAX];
};

static struct bundle *bundle_make(void)
{
    struct bundle *bundle = calloc(1, sizeof(*bundle));
    bundle->a = pki_make(NULL, (struct pki_options) { .cn = "A", .is_ca = true });
    bundle->b = pki_make(NULL, (struct pki_options) { .cn = "B", .is_ca = true });
    return bundle;
}

static void bundle_free(struct bundle *bundle)
{
    pki_free(bundle->a);
    pki_free(bundle->b);
    free(bundle);
}

static int load(struct bundle *bundle, struct tls_roots **roots)
{
    return tls_roots_of(slice_of_string(bundle->text), "bundle", roots, bundle->why);
}

Test(tls_roots, none)
{
    struct tls_roots *roots = NULL;
    struct bundle *bundle = bundle_make();
    cr_assert_eq(load(bundle, &roots), -EBADMSG);
    cr_assert_not_null(strstr(bundle->why, "bundle: no certificate in it"));
    pki_pem_key(bundle->a, PKI_PKCS8, bundle->text, TEXT_BYTES);
    strcat(bundle->text, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    cr_assert_eq(load(bundle, &roots), -EBADMSG);
    cr_assert_null(roots);
    bundle_free(bundle);
}

Test(tls_roots, files_that_are_not)
{
    char why[TLS_WHY_MAX];
    struct tls_roots *roots;
    cr_assert_eq(tls_roots_load("/nonexistent/roots.pem", &roots, why), -ENOENT);
    cr_assert_not_null(strstr(why, "/nonexistent/roots.pem: No such file"));
    cr_assert_eq(tls_roots_load("/dev/null", &roots, why), -EINVAL);
}

Test(tls_roots, broken_in_the_middle)
{
    struct tls_roots *roots;
    struct bundle *bundle = bundle_make();
    pki_pem_certificate(bundle->a, bundle->text, TEXT_BYTES);
    strcat(bundle->text, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    strcat(bundle->text, "-----BEGIN CERTIFICATE-----\nAA*A\n-----END CERTIFICATE-----\n");
    pki_pem_certificate(bundle->b, bundle->text, TEXT_BYTES);
    cr_assert_eq(load(bundle, &roots), 0);
    cr_assert_eq(tls_roots_count(roots), 2);
    cr_assert_eq(tls_roots_broken(roots), 2);
    unsigned first = 0, second = 0;
    cr_assert_eq(
        sscanf(bundle->why, "bundle: not a certificate, skipped: line %u, %u", &first, &second), 2,
        "%s", bundle->why);
    cr_assert_gt(first, 5);
    cr_assert_eq(second, first + 3);
    tls_roots_drop(roots);
    bundle_free(bundle);
}

Test(tls_roots, the_same_set_has_the_same_digest)
{
    struct tls_roots *one, *other, *less;
    struct bundle *bundle = bundle_make();
    pki_pem_certificate(bundle->a, bundle->text, TEXT_BYTES);
    cr_assert_eq(load(bundle, &less), 0);
    pki_pem_certificate(bundle->b, bundle->text, TEXT_BYTES);
    cr_assert_eq(load(bundle, &one), 0);
    cr_assert_str_eq(bundle->why, "");
    bundle->text[0] = '\0';
    pki_pem_certificate(bundle->b, bundle->text, TEXT_BYTES);
    pki_pem_certificate(bundle->a, bundle->text, TEXT_BYTES);
    pki_pem_certificate(bundle->b, bundle->text, TEXT_BYTES);
    cr_assert_eq(load(bundle, &other), 0);
    cr_assert_eq(tls_roots_count(other), 2, "a duplicate is skipped");
    cr_assert_eq(tls_roots_broken(other), 0);
    cr_assert_eq(strlen(tls_roots_digest(one)), 64);
    cr_assert_str_eq(tls_roots_digest(one), tls_roots_digest(other));
    cr_assert_str_neq(tls_roots_digest(one), tls_roots_digest(less));
    tls_roots_drop(one);
    tls_roots_drop(other);
    tls_roots_drop(less);
    tls_roots_drop(NULL);
    bundle_free(bundle);
}

Test(tls_roots, of_a_file)
{
    char directory[PKI_PATH_BYTES];
    struct tls_roots *roots;
    struct bundle *bundle = bundle_make();
    pki_directory_make(directory);
    pki_pem_certificate(bundle->a, bundle->text, TEXT_BYTES);
    const char *path = pki_file(directory, "roots.pem", bundle->text, 0644);
    cr_assert_eq(tls_roots_load(path, &roots, bundle->why), 0);
    cr_assert_str_eq(tls_roots_path(roots), path);
    cr_assert_eq(tls_roots_count(roots), 1);
    tls_roots_drop(roots);
    pki_directory_remove(directory);
    bundle_free(bundle);
}

Test(tls_roots, of_the_system)
{
    char why[TLS_WHY_MAX];
    struct tls_roots *roots;
    int r = tls_roots_load(NULL, &roots, why);
    if (r == -ENOENT) { /* a machine without them */
        cr_assert_not_null(strstr(why, "install ca-certificates"));
        return;
    }
    cr_assert_eq(r, 0, "%s", why);
    cr_assert_gt(tls_roots_count(roots), 10);
    tls_roots_drop(roots);
}

struct worker {
    struct tls_roots *roots;
    STACK_OF(CRYPTO_BUFFER) * chain;
    unsigned valid;
};

static void *verify_often(void *argument)
{
    struct worker *worker = argument;
    struct tls_peer *peer = malloc(sizeof(*peer));
    for (unsigned i = 0; i < 50; i++)
        if (tls_verify_chain(worker->chain, worker->roots, TLS_PURPOSE_ANY, PKI_NOW, peer) == 0)
            worker->valid += peer->verdict == TLS_VERDICT_VALID;
    free(peer);
    tls_roots_drop(worker->roots);
    return NULL;
}

/* Each thread drops its reference; who is last frees, while others verify. */
Test(tls_roots, shared_by_threads)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    struct worker workers[THREADS];
    struct pki *root = pki_make(NULL, (struct pki_options) { .cn = "Root", .is_ca = true });
    struct pki *leaf = pki_make(root, (struct pki_options) { .names = { SLICE("a.example") } });
    STACK_OF(CRYPTO_BUFFER) *chain = pki_chain(leaf, NULL);
    struct tls_roots *roots = pki_roots(root, NULL);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker) { .roots = tls_roots_use(roots), .chain = chain };
        cr_assert_eq(pthread_create(&threads[i], NULL, verify_often, &workers[i]), 0);
    }
    tls_roots_drop(roots);
    for (unsigned i = 0; i < THREADS; i++) {
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
        cr_assert_eq(workers[i].valid, 50);
    }
    sk_CRYPTO_BUFFER_pop_free(chain, CRYPTO_BUFFER_free);
    pki_free(root);
    pki_free(leaf);
}

Test(tls_roots, one_by_one_and_by_digest)
{
    struct bundle *bundle = bundle_make();
    struct tls_roots *roots = NULL;
    pki_pem_certificate(bundle->a, bundle->text, TEXT_BYTES);
    size_t used = strlen(bundle->text);
    pki_pem_certificate(bundle->b, bundle->text + used, TEXT_BYTES - used);
    cr_assert_eq(load(bundle, &roots), 0, "%s", bundle->why);
    cr_assert_eq(tls_roots_count(roots), 2U);
    uint8_t digest[2][TLS_DIGEST_BYTES], other[TLS_DIGEST_BYTES] = { 0 };
    for (unsigned i = 0; i < 2; i++) {
        unsigned size = TLS_DIGEST_BYTES;
        cr_assert(X509_digest(tls_roots_at(roots, i), EVP_sha256(), digest[i], &size));
        X509 *found = tls_roots_find(roots, digest[i]);
        cr_expect_eq(found, tls_roots_at(roots, i));
        X509_free(found);
    }
    cr_expect_neq(memcmp(digest[0], digest[1], TLS_DIGEST_BYTES), 0);
    cr_expect_null(tls_roots_find(roots, other));
    tls_roots_drop(roots);
    bundle_free(bundle);
}
