/*
 * tls_credential.c - reads a chain and its key, and finds what is wrong with them before peers do
 *
 * The order of the checks is that of the mistakes people make: files, permissions, a key that is
 * encrypted or of another certificate, a chain in the wrong order. An expired certificate is a
 * warning only: most senders do not look, and mail without TLS would be worse.
 */
#include "tls/tls_credential.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "core/check.h"
#include "tls/tls_key.h"
#include "tls/tls_pem.h"

struct tls_credential {
    atomic_uint references;
    unsigned count;
    CRYPTO_BUFFER *chain[TLS_CHAIN_MAX]; /* the leaf first */
    EVP_PKEY *key;
    struct tls_certificate leaf;
};

/* One load: what is under way, and where to say what is wrong. */
struct load {
    const char *chain_path;
    const char *key_path;
    struct tls_credential *made;
    X509 *parsed[TLS_CHAIN_MAX];
    char *why; /* TLS_WHY_MAX */
};

struct tls_credential *tls_credential_use(struct tls_credential *credential)
{
    unsigned before = atomic_fetch_add_explicit(&credential->references, 1, memory_order_relaxed);
    CHECK(before > 0);
    return credential;
}

void tls_credential_drop(struct tls_credential *credential)
{
    if (credential == NULL)
        return;
    unsigned before = atomic_fetch_sub_explicit(&credential->references, 1, memory_order_acq_rel);
    CHECK(before > 0);
    if (before > 1)
        return;
    for (unsigned i = 0; i < credential->count; i++)
        CRYPTO_BUFFER_free(credential->chain[i]);
    EVP_PKEY_free(credential->key);
    free(credential);
}

static int no_memory(struct load *l)
{
    tls_why(l->why, "%s: no memory", l->chain_path);
    return -ENOMEM;
}

/* ---- the chain ---- */

static int add_certificate(struct load *l, const struct tls_pem *pem)
{
    struct tls_credential *c = l->made;
    if (c->count == TLS_CHAIN_MAX) {
        tls_why(l->why,
                "%s: more than %u certificates: leave the roots and what does not belong here out",
                l->chain_path, TLS_CHAIN_MAX);
        return -EINVAL;
    }
    X509 *x509 = tls_certificate_parse(slice_of(pem->der, pem->der_size));
    if (x509 == NULL) {
        tls_why(l->why, "%s: line %u: not a certificate that can be read", l->chain_path,
                pem->line);
        return -EINVAL;
    }
    CRYPTO_BUFFER *buffer = CRYPTO_BUFFER_new(pem->der, pem->der_size, NULL);
    if (buffer == NULL) {
        X509_free(x509);
        return no_memory(l);
    }
    l->parsed[c->count] = x509;
    c->chain[c->count++] = buffer;
    return 0;
}

/* Keys may stand in the same file. */
static int read_chain(struct load *l, struct slice text)
{
    struct tls_pem_cursor cursor = tls_pem_begin(text);
    struct tls_pem pem;
    int r;
    while ((r = tls_pem_next(&cursor, &pem)) != 0) {
        if (r == -EBADMSG)
            tls_why(l->why, "%s: line %u: a PEM block that is broken", l->chain_path, pem.line);
        else if (r > 0)
            r = slice_equal(pem.label, SLICE("CERTIFICATE")) ? add_certificate(l, &pem) : 0;
        tls_pem_free(&pem);
        if (r < 0)
            return r == -EBADMSG ? -EINVAL : r;
    }
    if (l->made->count > 0)
        return 0;
    tls_why(l->why,
            "%s: no certificate in it (PEM is wanted: -----BEGIN CERTIFICATE-----, the leaf first)",
            l->chain_path);
    return -EINVAL;
}

static int load_chain(struct load *l)
{
    struct tls_pem_file file;
    int r = tls_pem_file_read(l->chain_path, TLS_CREDENTIAL_FILE_BYTES_MAX, &file, l->why);
    if (r < 0)
        return r;
    r = read_chain(l, slice_of(file.data, file.size));
    tls_pem_file_free(&file);
    return r;
}

/* ---- the key ---- */

static int load_key(struct load *l)
{
    return tls_key_load(l->key_path, "ECDSA P-256, P-384 or RSA", &l->made->key, l->why);
}

/* ---- do they fit ---- */

static bool is_key_of(const struct load *l, unsigned index)
{
    EVP_PKEY *public = X509_get_pubkey(l->parsed[index]);
    bool is_same = public != NULL && EVP_PKEY_cmp(public, l->made->key) == 1;
    EVP_PKEY_free(public);
    ERR_clear_error();
    return is_same;
}

static int check_key_fits(struct load *l)
{
    if (is_key_of(l, 0))
        return 0;
    for (unsigned i = 1; i < l->made->count; i++) {
        if (is_key_of(l, i)) {
            tls_why(l->why,
                    "%s: in the wrong order: the key belongs to certificate %u, which has to be "
                    "the first, followed by its issuer",
                    l->chain_path, i + 1);
            return -EINVAL;
        }
    }
    tls_why(l->why, "%s: the key does not belong to the certificate in %s (%s)", l->key_path,
            l->chain_path, l->made->leaf.subject);
    return -EINVAL;
}

static bool is_issuer(X509 *issuer, X509 *subject)
{
    EVP_PKEY *key = X509_get_pubkey(issuer);
    bool is = key != NULL && X509_check_issued(issuer, subject) == X509_V_OK &&
              X509_verify(subject, key) == 1;
    EVP_PKEY_free(key);
    ERR_clear_error();
    return is;
}

static int check_order(struct load *l)
{
    for (unsigned i = 1; i < l->made->count; i++) {
        if (is_issuer(l->parsed[i], l->parsed[i - 1]))
            continue;
        char subject[TLS_SUBJECT_MAX], issuer[TLS_SUBJECT_MAX];
        tls_certificate_name(X509_get_subject_name(l->parsed[i]), subject);
        tls_certificate_name(X509_get_issuer_name(l->parsed[i - 1]), issuer);
        tls_why(l->why,
                "%s: certificate %u (%.100s) did not issue the one before it, which wants %.100s: "
                "the leaf comes first, then each one's issuer, and no others",
                l->chain_path, i + 1, subject, issuer);
        return -EINVAL;
    }
    return 0;
}

static int check_strength(struct load *l)
{
    const struct tls_certificate *leaf = &l->made->leaf;
    bool is_ec = leaf->key == TLS_KEY_EC && (leaf->key_bits == 256 || leaf->key_bits == 384);
    bool is_rsa = leaf->key == TLS_KEY_RSA && leaf->key_bits <= TLS_RSA_BITS_MAX;
    if (is_rsa && leaf->key_bits < TLS_RSA_BITS_MIN) {
        tls_why(l->why, "%s: an RSA key of %u bits: %u is the least, and ECDSA P-256 is better",
                l->key_path, leaf->key_bits, TLS_RSA_BITS_MIN);
        return -EINVAL;
    }
    if (is_ec || is_rsa)
        return 0;
    tls_why(l->why, "%s: a key that many peers cannot use: ECDSA P-256, P-384 or RSA is wanted",
            l->key_path);
    return -EINVAL;
}

static int read_leaf(struct load *l)
{
    const char *words = "";
    if (tls_certificate_digests(tls_certificate_der(l->made->chain[0]), &l->made->leaf) == 0 &&
        tls_certificate_read(l->parsed[0], &l->made->leaf, &words) == 0)
        return 0;
    tls_why(l->why, "%s: the first certificate %s", l->chain_path,
            words[0] != '\0' ? words : "cannot be read");
    return -EINVAL;
}

static void warn(struct load *l, int64_t now)
{
    const struct tls_certificate *leaf = &l->made->leaf;
    char day[TLS_TEXT_DATE_BYTES];
    if (now > leaf->not_after) {
        tls_text_date(leaf->not_after, day);
        tls_why(l->why, "%s: expired %s: peers that verify will not accept it", l->chain_path, day);
    } else if (now < leaf->not_before) {
        tls_text_date(leaf->not_before, day);
        tls_why(l->why, "%s: is valid from %s on; is the clock right?", l->chain_path, day);
    } else if (leaf->names.count == 0) {
        tls_why(l->why, "%s: has no dNSName: peers that compare names will not accept it",
                l->chain_path);
    }
}

static int load_all(struct load *l)
{
    int r;
    if ((r = load_chain(l)) < 0 || (r = read_leaf(l)) < 0)
        return r;
    if (l->key_path != NULL &&
        ((r = load_key(l)) < 0 || (r = check_key_fits(l)) < 0 || (r = check_strength(l)) < 0))
        return r;
    return check_order(l);
}

int tls_credential_load_at(const char *chain_path, const char *key_path, int64_t now_seconds,
                           struct tls_credential **credential, char why[static TLS_WHY_MAX])
{
    struct load l = { .chain_path = chain_path, .key_path = key_path, .why = why };
    why[0] = '\0';
    l.made = calloc(1, sizeof(*l.made));
    if (l.made == NULL)
        return no_memory(&l);
    atomic_init(&l.made->references, 1);
    int r = load_all(&l);
    for (unsigned i = 0; i < l.made->count; i++)
        X509_free(l.parsed[i]);
    if (r < 0) {
        tls_credential_drop(l.made);
        return r;
    }
    warn(&l, now_seconds);
    *credential = l.made;
    return 0;
}

int tls_credential_load(const char *chain_path, const char *key_path,
                        struct tls_credential **credential, char why[static TLS_WHY_MAX])
{
    return tls_credential_load_at(chain_path, key_path, time(NULL), credential, why);
}

int tls_credential_look(const char *chain_path, struct tls_credential **credential,
                        char why[static TLS_WHY_MAX])
{
    return tls_credential_load_at(chain_path, NULL, time(NULL), credential, why);
}

/* ---- what is made of it ---- */

int tls_credential_use_on(const struct tls_credential *credential, SSL_CTX *context)
{
    CHECK(credential->key != NULL);
    int ok = SSL_CTX_set_chain_and_key(context, (CRYPTO_BUFFER *const *)credential->chain,
                                       credential->count, credential->key, NULL);
    ERR_clear_error();
    return ok ? 0 : -ENOMEM;
}

int tls_credential_use_for(const struct tls_credential *credential, SSL *ssl)
{
    CHECK(credential->key != NULL);
    int ok = SSL_set_chain_and_key(ssl, (CRYPTO_BUFFER *const *)credential->chain,
                                   credential->count, credential->key, NULL);
    ERR_clear_error();
    return ok ? 0 : -ENOMEM;
}

const struct tls_certificate *tls_credential_leaf(const struct tls_credential *credential)
{
    return &credential->leaf;
}

unsigned tls_credential_chain_count(const struct tls_credential *credential)
{
    return credential->count;
}

const CRYPTO_BUFFER *tls_credential_chain_at(const struct tls_credential *credential,
                                             unsigned index)
{
    CHECK(index < credential->count);
    return credential->chain[index];
}

static void describe_tlsa(const struct tls_credential *c, struct tls_credential_text *text)
{
    for (unsigned i = 0; i < c->count; i++) {
        struct slice spki;
        uint8_t digest[TLS_DIGEST_BYTES];
        if (tls_certificate_spki(tls_certificate_der(c->chain[i]), &spki) < 0)
            continue;
        SHA256(spki.data, spki.size, digest);
        char *record = text->tlsa[text->tlsa_count++];
        size_t used = tls_text_append(record, TLS_TLSA_BYTES, 0, "%d 1 1 ", i == 0 ? 3 : 2);
        tls_text_hex(slice_of(digest, sizeof(digest)), record + used, TLS_TLSA_BYTES - used);
    }
}

int tls_credential_verify(const struct tls_credential *credential, const struct tls_roots *roots,
                          enum tls_purpose purpose, int64_t now_seconds, struct tls_peer *peer)
{
    STACK_OF(CRYPTO_BUFFER) *chain = sk_CRYPTO_BUFFER_new_null();
    int r = chain == NULL ? -ENOMEM : 0;
    for (unsigned i = 0; r == 0 && i < credential->count; i++)
        if (!sk_CRYPTO_BUFFER_push(chain, credential->chain[i]))
            r = -ENOMEM;
    if (r == 0)
        r = tls_verify_chain(chain, roots, purpose, now_seconds, peer);
    sk_CRYPTO_BUFFER_free(chain);
    return r;
}

static int describe_trust(const struct tls_credential *c, const struct tls_roots *roots,
                          int64_t now_seconds, struct tls_credential_text *text)
{
    struct tls_peer *peer = malloc(sizeof(*peer));
    int r = peer == NULL ? -ENOMEM
                         : tls_credential_verify(c, roots, TLS_PURPOSE_SERVER, now_seconds, peer);
    if (r == 0) {
        slice_to_string(slice_of_string(peer->root), text->root, sizeof(text->root));
        if (text->root[0] != '\0')
            tls_text_hex(slice_of(peer->root_digest, TLS_DIGEST_BYTES), text->root_sha256,
                         sizeof(text->root_sha256));
        bool is_valid = peer->verdict == TLS_VERDICT_VALID;
        tls_text_append(text->verdict, sizeof(text->verdict), 0, "%s%s%s",
                        tls_verdict_name(peer->verdict), is_valid ? "" : ": ", peer->reason);
    }
    free(peer);
    return r;
}

int tls_credential_describe(const struct tls_credential *credential, const struct tls_roots *roots,
                            int64_t now_seconds, struct tls_credential_text *text)
{
    const struct tls_certificate *leaf = &credential->leaf;
    *text = (struct tls_credential_text) { 0 };
    tls_names_text(&leaf->names, text->names, sizeof(text->names));
    memcpy(text->subject, leaf->subject, sizeof(text->subject));
    memcpy(text->issuer, leaf->issuer, sizeof(text->issuer));
    memcpy(text->serial, leaf->serial, sizeof(text->serial));
    tls_certificate_key_text(leaf->key, leaf->key_bits, text->key);
    tls_text_date(leaf->not_before, text->not_before);
    tls_text_date(leaf->not_after, text->not_after);
    tls_text_hex(slice_of(leaf->digest, TLS_DIGEST_BYTES), text->fingerprint, TLS_DIGEST_HEX_BYTES);
    tls_text_hex(slice_of(leaf->spki, TLS_DIGEST_BYTES), text->pin_hex, TLS_DIGEST_HEX_BYTES);
    EVP_EncodeBlock((uint8_t *)text->pin_base64, leaf->spki, TLS_DIGEST_BYTES);
    describe_tlsa(credential, text);
    return roots == NULL ? 0 : describe_trust(credential, roots, now_seconds, text);
}
