/*
 * tls_key.c - the mistakes people make with keys, in their order: file, permissions, encryption
 */
#include "tls/tls_key.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tls/tls_pem.h"

/* One load: where from, and where to say what is wrong. */
struct load {
    const char *path;
    const char *wanted;
    EVP_PKEY *key;
    char *why; /* TLS_WHY_MAX */
};

static int check_permissions(struct load *l, const struct tls_pem_file *file)
{
    if ((file->mode & (S_IRWXG | S_IRWXO)) != 0) {
        tls_why(l->why, "%s: the key may be read by others (mode %04o): chmod 600 %s", l->path,
                (unsigned)file->mode & 07777, l->path);
        return -EACCES;
    }
    if (file->owner != 0 && file->owner != geteuid()) {
        tls_why(l->why,
                "%s: the key belongs to user %u, neither root nor user %u as whom we run: chown it",
                l->path, (unsigned)file->owner, (unsigned)geteuid());
        return -EACCES;
    }
    return 0;
}

static EVP_PKEY *parse_ec(CBS *in)
{
    EC_KEY *ec = EC_KEY_parse_private_key(in, NULL);
    EVP_PKEY *key = ec == NULL ? NULL : EVP_PKEY_new();
    if (key != NULL && !EVP_PKEY_set1_EC_KEY(key, ec)) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    EC_KEY_free(ec);
    return key;
}

static EVP_PKEY *parse_rsa(CBS *in)
{
    RSA *rsa = RSA_parse_private_key(in);
    EVP_PKEY *key = rsa == NULL ? NULL : EVP_PKEY_new();
    if (key != NULL && !EVP_PKEY_set1_RSA(key, rsa)) {
        EVP_PKEY_free(key);
        key = NULL;
    }
    RSA_free(rsa);
    return key;
}

static EVP_PKEY *parse_key(const struct tls_pem *pem)
{
    CBS in;
    CBS_init(&in, pem->der, pem->der_size);
    EVP_PKEY *key = slice_equal(pem->label, SLICE("EC PRIVATE KEY")) ? parse_ec(&in)
                    : slice_equal(pem->label, SLICE("RSA PRIVATE KEY"))
                        ? parse_rsa(&in)
                        : EVP_parse_private_key(&in);
    ERR_clear_error();
    return key;
}

static int take_key(struct load *l, const struct tls_pem *pem)
{
    if (pem->is_encrypted) {
        tls_why(l->why,
                "%s: the key is encrypted, and nobody is here to type a passphrase: write it "
                "without one (openssl pkey -in %s -out NEW), readable by its owner alone",
                l->path, l->path);
        return -EINVAL;
    }
    l->key = parse_key(pem);
    if (l->key != NULL)
        return 0;
    tls_why(l->why, "%s: line %u: a key that cannot be read; %s is wanted", l->path, pem->line,
            l->wanted);
    return -EINVAL;
}

/* The first key of the file; certificates and EC PARAMETERS may stand there too. */
static int read_key(struct load *l, struct slice text)
{
    struct tls_pem_cursor cursor = tls_pem_begin(text);
    struct tls_pem pem;
    int r;
    while (l->key == NULL && (r = tls_pem_next(&cursor, &pem)) != 0) {
        if (r == -ENOMEM) {
            tls_why(l->why, "%s: no memory", l->path);
            return r;
        }
        bool is_key = slice_ends_nocase(pem.label, SLICE("PRIVATE KEY"));
        if (is_key && r < 0 && !pem.is_encrypted)
            tls_why(l->why, "%s: line %u: a key that is broken", l->path, pem.line);
        else if (is_key)
            r = take_key(l, &pem);
        tls_pem_free(&pem);
        if (is_key && r < 0)
            return -EINVAL;
    }
    if (l->key != NULL)
        return 0;
    tls_why(l->why, "%s: no key in it (PEM is wanted: -----BEGIN PRIVATE KEY-----)", l->path);
    return -EINVAL;
}

int tls_key_load(const char *path, const char *wanted, EVP_PKEY **key, char why[static TLS_WHY_MAX])
{
    struct load l = { .path = path, .wanted = wanted, .why = why };
    struct tls_pem_file file;
    int r = tls_pem_file_read(path, TLS_KEY_FILE_BYTES_MAX, &file, why);
    if (r < 0)
        return r;
    r = check_permissions(&l, &file);
    if (r == 0)
        r = read_key(&l, slice_of(file.data, file.size));
    tls_pem_file_free(&file);
    *key = l.key;
    return r;
}
