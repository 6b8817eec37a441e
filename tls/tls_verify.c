/*
 * tls_verify.c - from a presented chain to a verdict
 *
 *   bounds -> parse all -> facts of the leaf -> path to a root (BoringSSL) -> issuers, dates,
 * usage, strength (ours, over that path) -> VALID. The first that fails is the verdict.
 *
 * BoringSSL builds the path and checks signatures, critical extensions and name constraints. No
 * purpose is set there: public CAs stop issuing for clients, and its server side would demand just
 * that. Dates are passed over there and looked at here, so that "expired" is said of a chain that
 * is right otherwise, and so that a purpose, too, has a verdict of its own.
 * Surprise: BoringSSL asks the path length of presented certificates only; here it is asked of the
 * root too.
 */
#include "tls/tls_verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"

static const char *const verdict_names[TLS_VERDICTS] = {
    [TLS_VERDICT_NONE] = "none",
    [TLS_VERDICT_VALID] = "valid",
    [TLS_VERDICT_UNTRUSTED] = "untrusted",
    [TLS_VERDICT_EXPIRED] = "expired",
    [TLS_VERDICT_NOT_YET] = "not-yet",
    [TLS_VERDICT_USAGE] = "usage",
    [TLS_VERDICT_WEAK] = "weak",
    [TLS_VERDICT_REVOKED] = "revoked",
    [TLS_VERDICT_REVOCATION_UNKNOWN] = "revocation-unknown",
    [TLS_VERDICT_MALFORMED] = "malformed",
};

const char *tls_verdict_name(enum tls_verdict verdict)
{
    CHECK(verdict < TLS_VERDICTS);
    return verdict_names[verdict];
}

/* One verification. The stack owns what was parsed; context, once begun, owns the path. */
struct verification {
    struct tls_peer *peer;
    enum tls_purpose purpose;
    int64_t now;
    X509_STORE *store;   /* what is trusted; NULL: nothing */
    unsigned long flags; /* of BoringSSL */
    STACK_OF(X509) * parsed;
    X509_STORE_CTX *context;
    const STACK_OF(X509) * path; /* leaf first; NULL until there is one */
};

static void judge(struct verification *v, enum tls_verdict verdict, const STACK_OF(X509) * of,
                  size_t index, const char *format, ...) PRINTF_LIKE(5, 6);

/* "certificate 1 of 3 (CN=a.example) " and the words. */
static void judge(struct verification *v, enum tls_verdict verdict, const STACK_OF(X509) * of,
                  size_t index, const char *format, ...)
{
    char subject[TLS_SUBJECT_MAX], words[TLS_WHY_MAX];
    CHECK(index < sk_X509_num(of));
    size_t count = of == v->parsed ? v->peer->count : sk_X509_num(of);
    va_list list;
    va_start(list, format);
    vsnprintf(words, sizeof(words), format, list);
    va_end(list);
    tls_certificate_name(X509_get_subject_name(sk_X509_value(of, index)), subject);
    v->peer->verdict = verdict;
    tls_why(v->peer->reason, "certificate %zu of %zu (%s) %s", index + 1, count, subject, words);
}

static int no_memory(struct verification *v)
{
    v->peer->verdict = TLS_VERDICT_UNTRUSTED;
    tls_why(v->peer->reason, "no memory to verify with");
    return -ENOMEM;
}

/* ---- before there is a path; 0: go on, 1: judged ---- */

static int check_bounds(struct verification *v, const STACK_OF(CRYPTO_BUFFER) * chain)
{
    size_t count = sk_CRYPTO_BUFFER_num(chain), bytes = 0;
    for (size_t i = 0; i < count; i++) {
        struct slice der = tls_certificate_der(sk_CRYPTO_BUFFER_value(chain, i));
        bytes += der.size;
        if (i < TLS_CHAIN_MAX && bytes <= TLS_CHAIN_BYTES_MAX)
            SHA256(der.data, der.size, v->peer->digests[v->peer->count++]);
    }
    if (count <= TLS_CHAIN_MAX && bytes <= TLS_CHAIN_BYTES_MAX)
        return 0;
    v->peer->verdict = TLS_VERDICT_MALFORMED;
    tls_why(v->peer->reason,
            "a chain of %zu certificates, %zu bytes; more than %u or %u is refused", count, bytes,
            TLS_CHAIN_MAX, TLS_CHAIN_BYTES_MAX);
    return 1;
}

/* 0, 1, or -ENOMEM */
static int parse(struct verification *v, const STACK_OF(CRYPTO_BUFFER) * chain, size_t index)
{
    X509 *x509 = X509_parse_from_buffer(sk_CRYPTO_BUFFER_value(chain, index));
    if (x509 == NULL) {
        v->peer->verdict = TLS_VERDICT_MALFORMED;
        tls_why(v->peer->reason, "certificate %zu of %u cannot be parsed", index + 1,
                v->peer->count);
        return 1;
    }
    if (!sk_X509_push(v->parsed, x509)) {
        X509_free(x509);
        return no_memory(v);
    }
    return 0;
}

static int read_leaf(struct verification *v)
{
    const char *why = "";
    struct tls_certificate *leaf = &v->peer->leaf;
    if (tls_certificate_read(sk_X509_value(v->parsed, 0), leaf, &why) < 0) {
        judge(v, TLS_VERDICT_MALFORMED, v->parsed, 0, "%s", why);
        return 1;
    }
    if (leaf->names.count == 0 && leaf->names.ignored > 0) {
        judge(v, TLS_VERDICT_MALFORMED, v->parsed, 0, "has %u dNSNames, none of them usable",
              leaf->names.ignored);
        return 1;
    }
    return 0;
}

/* Before any signature is looked at: that is what would take long. */
static int check_keys(struct verification *v)
{
    for (size_t i = 0; i < sk_X509_num(v->parsed); i++) {
        enum tls_key key;
        unsigned bits;
        int r = tls_certificate_key(sk_X509_value(v->parsed, i), &key, &bits);
        if (r == 0 && !(key == TLS_KEY_RSA && bits > TLS_RSA_BITS_MAX))
            continue;
        if (r < 0)
            judge(v, TLS_VERDICT_MALFORMED, v->parsed, i, "has a key that cannot be read");
        else
            judge(v, TLS_VERDICT_MALFORMED, v->parsed, i, "has an RSA key of %u bits, more than %u",
                  bits, TLS_RSA_BITS_MAX);
        return 1;
    }
    return 0;
}

/* ---- the path, by BoringSSL ---- */

/* Dates are looked at once there is a path; check_dates does. */
static int pass_over_dates(int ok, X509_STORE_CTX *context)
{
    int error = X509_STORE_CTX_get_error(context);
    return ok || error == X509_V_ERR_CERT_HAS_EXPIRED || error == X509_V_ERR_CERT_NOT_YET_VALID;
}

/* What is said of a path that could not be built, or does not hold. */
static const struct {
    int error;
    enum tls_verdict verdict;
    const char *words;
} path_errors[] = {
    { X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT, TLS_VERDICT_UNTRUSTED,
      "is self-signed, and not among the roots" },
    { X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN, TLS_VERDICT_UNTRUSTED,
      "is self-signed, and not among the roots" },
    { X509_V_ERR_CERT_SIGNATURE_FAILURE, TLS_VERDICT_UNTRUSTED,
      "has a signature that is not its issuer's" },
    { X509_V_ERR_UNABLE_TO_DECRYPT_CERT_SIGNATURE, TLS_VERDICT_UNTRUSTED,
      "has a signature that is not its issuer's" },
    { X509_V_ERR_INVALID_CA, TLS_VERDICT_UNTRUSTED, "signed another, and is not a CA" },
    { X509_V_ERR_PATH_LENGTH_EXCEEDED, TLS_VERDICT_UNTRUSTED,
      "does not allow as many CAs below it (path length)" },
    { X509_V_ERR_UNHANDLED_CRITICAL_EXTENSION, TLS_VERDICT_UNTRUSTED,
      "has a critical extension that is not known here" },
    { X509_V_ERR_PERMITTED_VIOLATION, TLS_VERDICT_UNTRUSTED,
      "has a name that an issuer above it may not sign (name constraints)" },
    { X509_V_ERR_EXCLUDED_VIOLATION, TLS_VERDICT_UNTRUSTED,
      "has a name that an issuer above it may not sign (name constraints)" },
    { X509_V_ERR_CERT_CHAIN_TOO_LONG, TLS_VERDICT_UNTRUSTED, "is too far from a root" },
    { X509_V_ERR_UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY, TLS_VERDICT_MALFORMED,
      "has a key that cannot be read" },
    { X509_V_ERR_ERROR_IN_CERT_NOT_BEFORE_FIELD, TLS_VERDICT_MALFORMED,
      "has dates that cannot be read" },
    { X509_V_ERR_ERROR_IN_CERT_NOT_AFTER_FIELD, TLS_VERDICT_MALFORMED,
      "has dates that cannot be read" },
    { X509_V_ERR_INVALID_EXTENSION, TLS_VERDICT_MALFORMED, "has extensions that cannot be read" },
};

static bool lacks_issuer(int error)
{
    return error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT ||
           error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
           error == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE;
}

/* After X509_verify_cert said no. */
static int judge_path(struct verification *v)
{
    int error = X509_STORE_CTX_get_error(v->context);
    int depth = X509_STORE_CTX_get_error_depth(v->context);
    const STACK_OF(X509) *of = X509_STORE_CTX_get0_chain(v->context);
    if (error == X509_V_ERR_OUT_OF_MEM)
        return no_memory(v);
    if (of == NULL || sk_X509_num(of) == 0)
        of = v->parsed;
    size_t index = depth < 0 ? 0 : MIN((size_t)depth, sk_X509_num(of) - 1);
    if (lacks_issuer(error)) {
        char issuer[TLS_SUBJECT_MAX];
        tls_certificate_name(X509_get_issuer_name(sk_X509_value(of, index)), issuer);
        judge(v, TLS_VERDICT_UNTRUSTED, of, index,
              "is issued by %s, which is neither presented nor among the roots", issuer);
        return 1;
    }
    for (size_t i = 0; i < ARRAY_COUNT(path_errors); i++) {
        if (path_errors[i].error == error) {
            judge(v, path_errors[i].verdict, of, index, "%s", path_errors[i].words);
            return 1;
        }
    }
    judge(v, TLS_VERDICT_UNTRUSTED, of, index, "cannot be verified: %s",
          X509_verify_cert_error_string(error));
    return 1;
}

static int find_path(struct verification *v)
{
    v->context = X509_STORE_CTX_new();
    if (v->context == NULL ||
        !X509_STORE_CTX_init(v->context, v->store, sk_X509_value(v->parsed, 0), v->parsed))
        return no_memory(v);
    X509_STORE_CTX_set_time(v->context, 0, (time_t)v->now);
    X509_STORE_CTX_set_depth(v->context, TLS_CHAIN_MAX);
    X509_STORE_CTX_set_flags(v->context, v->flags);
    X509_STORE_CTX_set_verify_cb(v->context, pass_over_dates);
    if (X509_verify_cert(v->context) != 1)
        return judge_path(v);
    v->path = X509_STORE_CTX_get0_chain(v->context);
    CHECK(v->path != NULL);
    CHECK(sk_X509_num(v->path) > 0);
    return 0;
}

/* ---- the path, by ourselves ---- */

static void note_root(struct verification *v)
{
    X509 *root = sk_X509_value(v->path, sk_X509_num(v->path) - 1);
    tls_certificate_name(X509_get_subject_name(root), v->peer->root);
    unsigned size = TLS_DIGEST_BYTES;
    if (!X509_digest(root, EVP_sha256(), v->peer->root_digest, &size))
        memset(v->peer->root_digest, 0, TLS_DIGEST_BYTES);
}

/* RFC 5280 section 4.2.1.9: CAs that are not issued by themselves count. */
static int check_issuers(struct verification *v)
{
    long below = 0;
    for (size_t i = 1; i < sk_X509_num(v->path); i++) {
        X509 *issuer = sk_X509_value(v->path, i);
        if (!X509_check_ca(issuer)) {
            judge(v, TLS_VERDICT_UNTRUSTED, v->path, i, "signed another, and is not a CA");
            return 1;
        }
        long allowed = X509_get_pathlen(issuer);
        if (allowed >= 0 && below > allowed) {
            judge(v, TLS_VERDICT_UNTRUSTED, v->path, i,
                  "allows %ld CAs below it, and has %ld (path length)", allowed, below);
            return 1;
        }
        if ((X509_get_extension_flags(issuer) & EXFLAG_SI) == 0)
            below++;
    }
    return 0;
}

static int check_dates(struct verification *v)
{
    for (size_t i = 0; i < sk_X509_num(v->path); i++) {
        int64_t not_before, not_after;
        char day[TLS_TEXT_DATE_BYTES];
        if (tls_certificate_dates(sk_X509_value(v->path, i), &not_before, &not_after) < 0) {
            judge(v, TLS_VERDICT_MALFORMED, v->path, i, "has dates that cannot be read");
            return 1;
        }
        if (v->now > not_after) {
            tls_text_date(not_after, day);
            judge(v, TLS_VERDICT_EXPIRED, v->path, i, "expired %s", day);
            return 1;
        }
        if (v->now < not_before) {
            tls_text_date(not_before, day);
            judge(v, TLS_VERDICT_NOT_YET, v->path, i, "is valid from %s on", day);
            return 1;
        }
    }
    return 0;
}

/* The leaf's, and what CAs below the root may issue for. */
static int check_usage(struct verification *v)
{
    static const struct {
        unsigned usage;
        const char *words;
    } wanted[] = {
        [TLS_PURPOSE_ANY] = { TLS_USAGE_CLIENT | TLS_USAGE_SERVER, "neither clients nor servers" },
        [TLS_PURPOSE_CLIENT] = { TLS_USAGE_CLIENT, "no clients" },
        [TLS_PURPOSE_SERVER] = { TLS_USAGE_SERVER, "no servers" },
    };
    size_t count = sk_X509_num(v->path);
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && i + 1 == count)
            break;
        if ((tls_certificate_usage(sk_X509_value(v->path, i)) & wanted[v->purpose].usage) == 0) {
            judge(v, TLS_VERDICT_USAGE, v->path, i, "is for %s (extended key usage)",
                  wanted[v->purpose].words);
            return 1;
        }
    }
    return 0;
}

static int check_strength(struct verification *v)
{
    size_t count = sk_X509_num(v->path);
    for (size_t i = 0; i < count; i++) {
        X509 *x509 = sk_X509_value(v->path, i);
        bool is_root = i + 1 == count;
        enum tls_key key = TLS_KEY_OTHER;
        unsigned bits = 0;
        const char *weak = is_root ? NULL : tls_certificate_weak_signature(x509);
        if (weak == NULL && (i == 0 || !is_root) && tls_certificate_key(x509, &key, &bits) == 0)
            weak = tls_certificate_weak_key(key, bits);
        if (weak != NULL) {
            judge(v, TLS_VERDICT_WEAK, v->path, i, "%s", weak);
            return 1;
        }
    }
    return 0;
}

static void note_questions(struct verification *v)
{
    struct tls_crl_questions *questions = &v->peer->questions;
    for (size_t i = 0; i + 1 < sk_X509_num(v->path); i++) {
        questions->is_longer = questions->count == TLS_CHAIN_MAX;
        if (questions->is_longer)
            return;
        tls_crl_question(sk_X509_value(v->path, i), sk_X509_value(v->path, i + 1),
                         &questions->at[questions->count++]);
    }
}

static int verify(struct verification *v, const STACK_OF(CRYPTO_BUFFER) * chain)
{
    int r;
    if ((r = check_bounds(v, chain)) != 0)
        return r;
    struct slice leaf = tls_certificate_der(sk_CRYPTO_BUFFER_value(chain, 0));
    v->peer->has_key = tls_certificate_digests(leaf, &v->peer->leaf) == 0;
    /* The facts of the leaf are wanted, whatever else is wrong. */
    if ((r = parse(v, chain, 0)) != 0 || (r = read_leaf(v)) != 0)
        return r;
    for (size_t i = 1; i < v->peer->count; i++)
        if ((r = parse(v, chain, i)) != 0)
            return r;
    if ((r = check_keys(v)) != 0)
        return r;
    if (v->store == NULL) {
        v->peer->verdict = TLS_VERDICT_UNTRUSTED;
        tls_why(v->peer->reason, "there are no roots to verify with");
        return 1;
    }
    if ((r = find_path(v)) != 0)
        return r;
    note_root(v);
    if ((r = check_issuers(v)) != 0 || (r = check_dates(v)) != 0 || (r = check_usage(v)) != 0 ||
        (r = check_strength(v)) != 0)
        return r;
    v->peer->verdict = TLS_VERDICT_VALID;
    if (v->flags == 0) /* what is trusted by DNS is revoked there */
        note_questions(v);
    return 0;
}

static void end(struct verification *v)
{
    X509_STORE_CTX_free(v->context);
    sk_X509_pop_free(v->parsed, X509_free);
    ERR_clear_error();
}

static int verify_by(X509_STORE *store, unsigned long flags, const STACK_OF(CRYPTO_BUFFER) * chain,
                     enum tls_purpose purpose, int64_t now_seconds, struct tls_peer *peer)
{
    *peer = (struct tls_peer) { .verdict = TLS_VERDICT_NONE };
    tls_why(peer->reason, "no certificate was presented");
    if (chain == NULL || sk_CRYPTO_BUFFER_num(chain) == 0)
        return 0;
    peer->reason[0] = '\0';
    peer->verdict = TLS_VERDICT_UNTRUSTED;
    struct verification v = {
        .peer = peer, .purpose = purpose, .now = now_seconds, .store = store, .flags = flags
    };
    v.parsed = sk_X509_new_null();
    int r = v.parsed == NULL ? no_memory(&v) : verify(&v, chain);
    end(&v);
    CHECK((peer->verdict == TLS_VERDICT_VALID) == (r == 0));
    return MIN(r, 0);
}

int tls_verify_chain(const STACK_OF(CRYPTO_BUFFER) * chain, const struct tls_roots *roots,
                     enum tls_purpose purpose, int64_t now_seconds, struct tls_peer *peer)
{
    return verify_by(roots == NULL ? NULL : tls_roots_store(roots), 0, chain, purpose, now_seconds,
                     peer);
}

int tls_verify_anchored(const STACK_OF(CRYPTO_BUFFER) * chain, X509_STORE *anchors,
                        enum tls_purpose purpose, int64_t now_seconds, struct tls_peer *peer)
{
    return verify_by(anchors, X509_V_FLAG_PARTIAL_CHAIN | X509_V_FLAG_TRUSTED_FIRST, chain, purpose,
                     now_seconds, peer);
}

/* ---- where its lists are ---- */

/* Those of one certificate. 0 or -ENOMEM. */
static int hand_out(X509 *x509, X509 *issuer,
                    void (*found)(void *owner, struct tls_crl_pointer *pointer), void *owner)
{
    char url[TLS_CRL_URL_MAX];
    uint8_t *der = NULL;
    int size = tls_crl_url(x509, 0, url) ? i2d_X509(issuer, &der) : 0;
    int r = size < 0 ? -ENOMEM : 0;
    for (unsigned i = 0; size > 0 && r == 0 && tls_crl_url(x509, i, url); i++) {
        struct tls_crl_pointer *pointer = tls_crl_pointer_make(url, slice_of(der, (size_t)size));
        if (pointer == NULL)
            r = -ENOMEM;
        else
            found(owner, pointer);
    }
    OPENSSL_free(der);
    return r;
}

int tls_verify_pointers(const STACK_OF(CRYPTO_BUFFER) * chain, const struct tls_roots *roots,
                        int64_t now_seconds,
                        void (*found)(void *owner, struct tls_crl_pointer *pointer), void *owner)
{
    if (chain == NULL || sk_CRYPTO_BUFFER_num(chain) == 0)
        return 0;
    struct tls_peer *peer = calloc(1, sizeof(*peer));
    if (peer == NULL)
        return -ENOMEM;
    struct verification v = {
        .peer = peer,
        .purpose = TLS_PURPOSE_ANY,
        .now = now_seconds,
        .store = roots == NULL ? NULL : tls_roots_store(roots),
    };
    v.parsed = sk_X509_new_null();
    int r = v.parsed == NULL ? no_memory(&v) : verify(&v, chain);
    for (size_t i = 0; r == 0 && i + 1 < sk_X509_num(v.path); i++)
        r = hand_out(sk_X509_value(v.path, i), sk_X509_value(v.path, i + 1), found, owner);
    end(&v);
    free(peer);
    return MIN(r, 0);
}

/* ---- names and pins ---- */

static size_t list_patterns(const struct slice *patterns, size_t patterns_count, char *text,
                            size_t capacity)
{
    size_t used = tls_text_append(text, capacity, 0, "%s", patterns_count == 0 ? "nothing" : "");
    for (size_t i = 0; i < patterns_count; i++) {
        char pattern[TLS_NAME_MAX + 1];
        tls_text_escape(patterns[i], pattern, sizeof(pattern));
        used = tls_text_append(text, capacity, used, "%s%s", i == 0 ? "" : ", ", pattern);
    }
    return used;
}

static bool has_names(const struct tls_names *names)
{
    return names->count + names->ignored + names->dropped > 0;
}

static void explain_name(const struct tls_peer *peer, const struct slice *patterns,
                         size_t patterns_count, unsigned allow, char why[static TLS_WHY_MAX])
{
    enum { PRESENTED_BYTES = TLS_WHY_MAX / 2, WANTED_BYTES = TLS_WHY_MAX / 4 };
    char presented[PRESENTED_BYTES], wanted[WANTED_BYTES];
    const char *name = peer->leaf.common_name;
    list_patterns(patterns, patterns_count, wanted, sizeof(wanted));
    tls_names_text(&peer->leaf.names, presented, sizeof(presented));
    if (has_names(&peer->leaf.names) || name[0] == '\0')
        tls_why(why, "presents %s; wanted %s", presented, wanted);
    else
        tls_why(why, "presents no dNSName, and CN %.*s%s; wanted %s", PRESENTED_BYTES / 2, name,
                (allow & TLS_ALLOW_COMMON_NAME) == 0 ? ", which is not looked at" : "", wanted);
}

bool tls_verify_name(const struct tls_peer *peer, const struct slice *patterns,
                     size_t patterns_count, unsigned allow, struct slice *matched,
                     char why[static TLS_WHY_MAX])
{
    const struct tls_names *names = &peer->leaf.names;
    bool cert_wildcard = (allow & TLS_ALLOW_WILDCARD) != 0;
    why[0] = '\0';
    if (tls_name_best(patterns, patterns_count, names, cert_wildcard, matched))
        return true;
    if ((allow & TLS_ALLOW_COMMON_NAME) != 0 && !has_names(names)) {
        struct slice name = slice_of_string(peer->leaf.common_name);
        for (size_t i = 0; i < patterns_count; i++) {
            if (tls_name_match(patterns[i], name, cert_wildcard)) {
                *matched = name;
                return true;
            }
        }
    }
    explain_name(peer, patterns, patterns_count, allow, why);
    return false;
}

int tls_verify_pin(const struct tls_peer *peer, const uint8_t (*pins)[TLS_DIGEST_BYTES],
                   size_t pins_count)
{
    for (size_t i = 0; peer->has_key && i < pins_count && i <= INT32_MAX; i++)
        if (memcmp(pins[i], peer->leaf.spki, TLS_DIGEST_BYTES) == 0)
            return (int)i;
    return -ENOENT;
}
