/*
 * tls_dane.c - matching certificates against TLSA records
 *
 * Usage 3 compares the leaf, by a walk over its DER. For usage 2 the certificates that are anchors
 * (presented ones that a record describes, one that a record holds, presented ones that a record's
 * bare key has signed) become a store of their own, and tls_verify judges the chain by it as it
 * does by public roots: issuers, dates, usage, strength.
 *
 * Of several digests of the same thing the strongest counts (RFC 7671 9): whoever can forge the
 * weak one gains nothing.
 */
#include "tls/tls_dane.h"

#include <stdio.h>

#include "core/check.h"
#include "tls/tls_verify.h"

enum { USAGE_TA = 2, USAGE_EE = 3 };
enum { SELECT_CERTIFICATE, SELECT_KEY, SELECTORS };
enum { MATCH_FULL, MATCH_SHA256, MATCH_SHA512, MATCHINGS };
enum { HEADER_BYTES = 3 };

/* ---- the set ---- */

static struct slice data_of(const struct tls_dane_set *set, const struct tls_dane_record *record)
{
    return slice_of(set->data + record->at, record->size);
}

static EVP_PKEY *key_parse(struct slice spki)
{
    CBS cbs;
    CBS_init(&cbs, spki.data, spki.size);
    EVP_PKEY *key = EVP_parse_public_key(&cbs);
    ERR_clear_error();
    if (key != NULL && CBS_len(&cbs) == 0 && EVP_PKEY_bits(key) <= TLS_RSA_BITS_MAX)
        return key;
    EVP_PKEY_free(key);
    return NULL;
}

static bool is_well_formed(const struct tls_dane_record *record, struct slice data)
{
    if (record->matching != MATCH_FULL)
        return data.size ==
               (record->matching == MATCH_SHA256 ? SHA256_DIGEST_LENGTH : SHA512_DIGEST_LENGTH);
    if (record->selector == SELECT_KEY) {
        EVP_PKEY *key = key_parse(data);
        EVP_PKEY_free(key);
        return key != NULL;
    }
    X509 *x509 = tls_certificate_parse(data);
    X509_free(x509);
    return x509 != NULL;
}

static int compare(const struct tls_dane_set *set, const struct tls_dane_record *a,
                   const struct tls_dane_record *b)
{
    const uint8_t x[] = { a->usage, a->selector, a->matching };
    const uint8_t y[] = { b->usage, b->selector, b->matching };
    int r = memcmp(x, y, sizeof(x));
    if (r == 0)
        r = memcmp(set->data + a->at, set->data + b->at, MIN(a->size, b->size));
    return r != 0 ? r : (int)a->size - (int)b->size;
}

void tls_dane_add(struct tls_dane_set *set, struct slice rdata)
{
    if (rdata.size <= HEADER_BYTES) {
        set->malformed++;
        return;
    }
    struct tls_dane_record record = { rdata.data[0], rdata.data[1], rdata.data[2], 0, 0 };
    struct slice data = slice_from(rdata, HEADER_BYTES);
    if (record.usage < USAGE_TA || record.usage > USAGE_EE || record.selector >= SELECTORS ||
        record.matching >= MATCHINGS) {
        set->unusable++;
        return;
    }
    if (data.size > TLS_DANE_BYTES_MAX - set->bytes || set->count == TLS_DANE_RECORDS_MAX) {
        set->left_out++;
        return;
    }
    if (!is_well_formed(&record, data)) {
        set->malformed++;
        return;
    }
    bool bare =
        record.usage == USAGE_TA && record.selector == SELECT_KEY && record.matching == MATCH_FULL;
    if (bare && set->keys == TLS_DANE_KEYS_MAX) {
        set->left_out++;
        return;
    }
    set->keys += bare;
    record.at = (uint16_t)set->bytes;
    record.size = (uint16_t)data.size;
    memcpy(set->data + set->bytes, data.data, data.size);
    set->bytes += (uint32_t)data.size;
    unsigned at = set->count++;
    for (; at > 0 && compare(set, &record, &set->records[at - 1]) < 0; at--)
        set->records[at] = set->records[at - 1];
    set->records[at] = record;
}
static_assert(TLS_DANE_BYTES_MAX <= UINT16_MAX);

void tls_dane_digest(const struct tls_dane_set *set, uint8_t digest[static 32])
{
    SHA256_CTX hash;
    SHA256_Init(&hash);
    for (unsigned i = 0; i < set->count; i++) {
        const struct tls_dane_record *record = &set->records[i];
        const uint8_t head[] = { record->usage, record->selector, record->matching,
                                 (uint8_t)(record->size >> 8), (uint8_t)record->size };
        SHA256_Update(&hash, head, sizeof(head));
        SHA256_Update(&hash, set->data + record->at, record->size);
    }
    SHA256_Final(digest, &hash);
}

void tls_dane_text(const struct tls_dane_set *set, unsigned index,
                   char out[static TLS_DANE_TEXT_MAX])
{
    enum { SHOWN_BYTES = 64 };
    CHECK(index < set->count);
    const struct tls_dane_record *record = &set->records[index];
    size_t size = (size_t)snprintf(out, TLS_DANE_TEXT_MAX, "%u %u %u ", record->usage,
                                   record->selector, record->matching);
    for (unsigned i = 0; i < MIN(record->size, (uint16_t)SHOWN_BYTES); i++)
        size += (size_t)snprintf(out + size, TLS_DANE_TEXT_MAX - size, "%02x",
                                 set->data[record->at + i]);
    if (record->size > SHOWN_BYTES)
        snprintf(out + size, TLS_DANE_TEXT_MAX - size, "...");
}
static_assert((int)TLS_DANE_TEXT_MAX > 6 + 2 * 64 + 3);

/* ---- matching ---- */

/* A stronger digest of the same thing is there. */
static bool is_outdone(const struct tls_dane_set *set, const struct tls_dane_record *record)
{
    for (unsigned i = 0; record->matching == MATCH_SHA256 && i < set->count; i++) {
        const struct tls_dane_record *other = &set->records[i];
        if (other->matching == MATCH_SHA512 && other->usage == record->usage &&
            other->selector == record->selector)
            return true;
    }
    return false;
}

static bool record_fits(const struct tls_dane_set *set, const struct tls_dane_record *record,
                        struct slice certificate)
{
    uint8_t digest[SHA512_DIGEST_LENGTH];
    struct slice part = certificate;
    if (record->selector == SELECT_KEY && tls_certificate_spki(certificate, &part) < 0)
        return false;
    switch (record->matching) {
    case MATCH_FULL: return slice_equal(part, data_of(set, record));
    case MATCH_SHA256:
        SHA256(part.data, part.size, digest);
        return slice_equal(slice_of(digest, SHA256_DIGEST_LENGTH), data_of(set, record));
    default:
        SHA512(part.data, part.size, digest);
        return slice_equal(slice_of(digest, SHA512_DIGEST_LENGTH), data_of(set, record));
    }
}

static bool fits(const struct tls_dane_set *set, unsigned usage, struct slice certificate)
{
    for (unsigned i = 0; i < set->count; i++)
        if (set->records[i].usage == usage && !is_outdone(set, &set->records[i]) &&
            record_fits(set, &set->records[i], certificate))
            return true;
    return false;
}

/* ---- usage 2 ---- */

static bool has_usage(const struct tls_dane_set *set, unsigned usage)
{
    for (unsigned i = 0; i < set->count; i++)
        if (set->records[i].usage == usage)
            return true;
    return false;
}

static unsigned anchor_add(X509_STORE *store, X509 *x509)
{
    unsigned added = x509 != NULL && X509_STORE_add_cert(store, x509) == 1;
    X509_free(x509);
    return added;
}

/* Certificates that the key of a record has signed itself; the leaf may be one. */
static unsigned anchors_of_key(X509_STORE *store, const STACK_OF(CRYPTO_BUFFER) * chain,
                               struct slice spki)
{
    unsigned count = 0;
    EVP_PKEY *key = key_parse(spki);
    for (size_t i = 0; key != NULL && i < sk_CRYPTO_BUFFER_num(chain); i++) {
        X509 *x509 = X509_parse_from_buffer(sk_CRYPTO_BUFFER_value(chain, i));
        if (x509 != NULL && tls_certificate_weak_signature(x509) == NULL &&
            X509_verify(x509, key) == 1)
            count += anchor_add(store, x509);
        else
            X509_free(x509);
    }
    EVP_PKEY_free(key);
    return count;
}

static unsigned anchors_add(X509_STORE *store, const STACK_OF(CRYPTO_BUFFER) * chain,
                            const struct tls_dane_set *set)
{
    unsigned count = 0;
    for (size_t i = 1; i < sk_CRYPTO_BUFFER_num(chain); i++)
        if (fits(set, USAGE_TA, tls_certificate_der(sk_CRYPTO_BUFFER_value(chain, i))))
            count += anchor_add(store, X509_parse_from_buffer(sk_CRYPTO_BUFFER_value(chain, i)));
    for (unsigned i = 0; i < set->count; i++) {
        const struct tls_dane_record *record = &set->records[i];
        if (record->usage != USAGE_TA || record->matching != MATCH_FULL)
            continue;
        if (record->selector == SELECT_CERTIFICATE)
            count += anchor_add(store, tls_certificate_parse(data_of(set, record)));
        else
            count += anchors_of_key(store, chain, data_of(set, record));
    }
    return count;
}

static enum tls_dane_match verify_anchored(const STACK_OF(CRYPTO_BUFFER) * chain,
                                           const struct tls_dane_set *set,
                                           const struct slice *names, unsigned names_count,
                                           int64_t now, char why[static TLS_WHY_MAX])
{
    struct tls_peer peer;
    struct slice matched;
    X509_STORE *store = X509_STORE_new();
    enum tls_dane_match match = TLS_DANE_NO_MATCH;
    if (store == NULL) {
        tls_why(why, "no memory to verify with");
        return match;
    }
    if (anchors_add(store, chain, set) > 0) {
        if (tls_verify_anchored(chain, store, TLS_PURPOSE_SERVER, now, &peer) < 0 ||
            peer.verdict != TLS_VERDICT_VALID)
            tls_why(why, "TLSA: %s", peer.reason);
        else if (tls_verify_name(&peer, names, names_count,
                                 TLS_ALLOW_WILDCARD | TLS_ALLOW_COMMON_NAME, &matched, why))
            match = TLS_DANE_TA;
        else
            match = TLS_DANE_NO_NAME;
    }
    X509_STORE_free(store);
    ERR_clear_error();
    return match;
}

enum tls_dane_match tls_dane_verify(const struct stack_st_CRYPTO_BUFFER *chain,
                                    const struct tls_dane_set *set, const struct slice *names,
                                    unsigned names_count, int64_t now_seconds,
                                    char why[static TLS_WHY_MAX])
{
    why[0] = '\0';
    if (chain == NULL || sk_CRYPTO_BUFFER_num(chain) == 0) {
        tls_why(why, "no certificate was presented");
        return TLS_DANE_NO_MATCH;
    }
    if (fits(set, USAGE_EE, tls_certificate_der(sk_CRYPTO_BUFFER_value(chain, 0))))
        return TLS_DANE_EE;
    enum tls_dane_match match = TLS_DANE_NO_MATCH;
    if (has_usage(set, USAGE_TA) && sk_CRYPTO_BUFFER_num(chain) <= TLS_CHAIN_MAX)
        match = verify_anchored(chain, set, names, names_count, now_seconds, why);
    if (match == TLS_DANE_NO_MATCH && why[0] == '\0')
        tls_why(why, "none of its %u TLSA records fits what it presents", set->count);
    return match;
}

const char *tls_dane_match_name(enum tls_dane_match match)
{
    return match == TLS_DANE_EE ? "dane-ee" : match == TLS_DANE_TA ? "dane-ta" : "none";
}
