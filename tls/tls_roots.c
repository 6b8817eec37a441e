/*
 * tls_roots.c - reads a PEM bundle into an X509_STORE
 *
 * One certificate that this BoringSSL cannot read must not cost us all the others: it is counted
 * and named. Blocks with other labels (a key, "TRUSTED CERTIFICATE") are broken ones to us.
 */
#include "tls/tls_roots.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/check.h"
#include "tls/tls_certificate.h"
#include "tls/tls_pem.h"

struct tls_roots {
    atomic_uint references;
    X509_STORE *store;
    unsigned count;
    unsigned broken;
    uint8_t (*digests)[TLS_DIGEST_BYTES]; /* sorted once all are read */
    char digest[TLS_DIGEST_HEX_BYTES];
    char *path;
};

/* Debian and its like, Fedora and RHEL, openSUSE, Alpine and the BSDs. */
static const char *const system_paths[] = {
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
};

static struct tls_roots *make(const char *path)
{
    struct tls_roots *roots = calloc(1, sizeof(*roots));
    if (roots == NULL)
        return NULL;
    atomic_init(&roots->references, 1);
    roots->store = X509_STORE_new();
    roots->digests = calloc(TLS_ROOTS_MAX, sizeof(roots->digests[0]));
    roots->path = strdup(path);
    if (roots->store == NULL || roots->digests == NULL || roots->path == NULL) {
        tls_roots_drop(roots);
        return NULL;
    }
    return roots;
}

struct tls_roots *tls_roots_use(struct tls_roots *roots)
{
    unsigned before = atomic_fetch_add_explicit(&roots->references, 1, memory_order_relaxed);
    CHECK(before > 0);
    return roots;
}

void tls_roots_drop(struct tls_roots *roots)
{
    if (roots == NULL)
        return;
    unsigned before = atomic_fetch_sub_explicit(&roots->references, 1, memory_order_acq_rel);
    CHECK(before > 0);
    if (before > 1)
        return;
    X509_STORE_free(roots->store);
    free(roots->digests);
    free(roots->path);
    free(roots);
}

static bool is_known(const struct tls_roots *roots, const uint8_t digest[static TLS_DIGEST_BYTES])
{
    for (unsigned i = 0; i < roots->count; i++)
        if (memcmp(roots->digests[i], digest, TLS_DIGEST_BYTES) == 0)
            return true;
    return false;
}

/* 0, -EBADMSG: not a certificate, -EFBIG, -ENOMEM. */
static int add(struct tls_roots *roots, struct slice der)
{
    uint8_t digest[TLS_DIGEST_BYTES];
    SHA256(der.data, der.size, digest);
    if (is_known(roots, digest))
        return 0;
    X509 *x509 = tls_certificate_parse(der);
    if (x509 == NULL || (X509_get_extension_flags(x509) & EXFLAG_INVALID) != 0) {
        X509_free(x509);
        return -EBADMSG;
    }
    int r = roots->count == TLS_ROOTS_MAX ? -EFBIG : 0;
    if (r == 0 && !X509_STORE_add_cert(roots->store, x509))
        r = -ENOMEM;
    if (r == 0)
        memcpy(roots->digests[roots->count++], digest, TLS_DIGEST_BYTES);
    X509_free(x509);
    return r;
}

static int add_block(struct tls_roots *roots, const struct tls_pem *pem)
{
    if (!slice_equal(pem->label, SLICE("CERTIFICATE")))
        return -EBADMSG;
    return add(roots, slice_of(pem->der, pem->der_size));
}

static size_t name_broken(char why[static TLS_WHY_MAX], size_t used, const char *called,
                          const struct tls_pem *pem)
{
    if (used == 0)
        return tls_text_append(why, TLS_WHY_MAX, 0, "%s: not a certificate, skipped: line %u",
                               called, pem->line);
    return tls_text_append(why, TLS_WHY_MAX, used, ", %u", pem->line);
}

/* Goes on past what is broken. */
static int add_all(struct tls_roots *roots, struct slice text, const char *called,
                   char why[static TLS_WHY_MAX])
{
    struct tls_pem_cursor cursor = tls_pem_begin(text);
    struct tls_pem pem;
    size_t used = 0;
    int r;
    while ((r = tls_pem_next(&cursor, &pem)) != 0) {
        if (r > 0)
            r = add_block(roots, &pem);
        tls_pem_free(&pem);
        if (r == -EBADMSG) {
            roots->broken++;
            used = name_broken(why, used, called, &pem);
        } else if (r < 0) {
            break;
        }
    }
    ERR_clear_error();
    return r;
}

static int compare(const void *a, const void *b)
{
    return memcmp(a, b, TLS_DIGEST_BYTES);
}

static void seal(struct tls_roots *roots)
{
    uint8_t digest[TLS_DIGEST_BYTES];
    qsort(roots->digests, roots->count, sizeof(roots->digests[0]), compare);
    SHA256(roots->digests[0], roots->count * sizeof(roots->digests[0]), digest);
    tls_text_hex(slice_of(digest, sizeof(digest)), roots->digest, sizeof(roots->digest));
}

int tls_roots_of(struct slice pem, const char *called, struct tls_roots **roots,
                 char why[static TLS_WHY_MAX])
{
    why[0] = '\0';
    struct tls_roots *made = make(called);
    int r = made == NULL ? -ENOMEM : add_all(made, pem, called, why);
    if (r == 0 && made->count == 0)
        r = -EBADMSG;
    if (r == -EBADMSG)
        tls_why(why,
                "%s: no certificate in it that can be read (PEM is wanted, "
                "-----BEGIN CERTIFICATE-----)",
                called);
    else if (r == -EFBIG)
        tls_why(why, "%s: more than %u certificates", called, TLS_ROOTS_MAX);
    else if (r == -ENOMEM)
        tls_why(why, "%s: no memory", called);
    if (r < 0) {
        tls_roots_drop(made);
        return r;
    }
    seal(made);
    *roots = made;
    return 0;
}

static const char *system_path(void)
{
    for (unsigned i = 0; i < ARRAY_COUNT(system_paths); i++) {
        char why[TLS_WHY_MAX];
        struct tls_pem_file file;
        if (tls_pem_file_read(system_paths[i], TLS_ROOTS_FILE_BYTES_MAX, &file, why) == 0) {
            tls_pem_file_free(&file);
            return system_paths[i];
        }
    }
    return NULL;
}

/* The system's bundle as it was read last: it is the same for hours, and takes milliseconds to
 * read.
 */
static struct {
    pthread_mutex_t lock;
    struct tls_roots *roots;
    struct stat facts;
} kept = { .lock = PTHREAD_MUTEX_INITIALIZER };

static bool facts_equal(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
           a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* NULL: not read yet, or it has changed. */
static struct tls_roots *kept_use(void)
{
    struct stat now;
    struct tls_roots *roots = NULL;
    pthread_mutex_lock(&kept.lock);
    if (kept.roots != NULL && stat(tls_roots_path(kept.roots), &now) == 0 &&
        facts_equal(&now, &kept.facts))
        roots = tls_roots_use(kept.roots);
    pthread_mutex_unlock(&kept.lock);
    return roots;
}

/* facts: as they were before it was read. */
static void kept_take(struct tls_roots *roots, const struct stat *facts)
{
    pthread_mutex_lock(&kept.lock);
    tls_roots_drop(kept.roots);
    kept.roots = tls_roots_use(roots);
    kept.facts = *facts;
    pthread_mutex_unlock(&kept.lock);
}

int tls_roots_load(const char *path, struct tls_roots **roots, char why[static TLS_WHY_MAX])
{
    bool is_system = path == NULL;
    if (is_system && (*roots = kept_use()) != NULL) {
        why[0] = '\0';
        return 0;
    }
    if (is_system)
        path = system_path();
    if (path == NULL) {
        tls_why(why,
                "no bundle of root certificates where systems have one (%s, ...): install "
                "ca-certificates, or name a file",
                system_paths[0]);
        return -ENOENT;
    }
    struct tls_pem_file file;
    struct stat facts;
    bool known = stat(path, &facts) == 0;
    int r = tls_pem_file_read(path, TLS_ROOTS_FILE_BYTES_MAX, &file, why);
    if (r < 0)
        return r;
    r = tls_roots_of(slice_of(file.data, file.size), path, roots, why);
    tls_pem_file_free(&file);
    if (r == 0 && is_system && known && tls_roots_broken(*roots) == 0)
        kept_take(*roots, &facts);
    return r;
}

X509_STORE *tls_roots_store(const struct tls_roots *roots)
{
    return roots->store;
}

unsigned tls_roots_count(const struct tls_roots *roots)
{
    return roots->count;
}

unsigned tls_roots_broken(const struct tls_roots *roots)
{
    return roots->broken;
}

const char *tls_roots_digest(const struct tls_roots *roots)
{
    return roots->digest;
}

X509 *tls_roots_at(const struct tls_roots *roots, unsigned index)
{
    const STACK_OF(X509_OBJECT) *objects = X509_STORE_get0_objects(roots->store);
    CHECK(index < roots->count);
    CHECK(sk_X509_OBJECT_num(objects) == roots->count);
    return X509_OBJECT_get0_X509(sk_X509_OBJECT_value(objects, index));
}

X509 *tls_roots_find(const struct tls_roots *roots, const uint8_t digest[static TLS_DIGEST_BYTES])
{
    for (unsigned i = 0; i < roots->count; i++) {
        X509 *x509 = tls_roots_at(roots, i);
        uint8_t other[TLS_DIGEST_BYTES];
        unsigned size = sizeof(other);
        if (X509_digest(x509, EVP_sha256(), other, &size) &&
            memcmp(other, digest, sizeof(other)) == 0) {
            X509_up_ref(x509);
            return x509;
        }
    }
    return NULL;
}

const char *tls_roots_path(const struct tls_roots *roots)
{
    return roots->path;
}
