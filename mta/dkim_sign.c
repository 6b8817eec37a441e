/*
 * dkim_sign.c - canonical forms go into SHA-256 as they are read; the digest is what is signed
 *
 * Octets are looked at one by one: what is signed here are reports, some a day.
 */
#include "mta/dkim_sign.h"

#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "tls/tls_key.h"

enum {
    NAMES_MAX = 64,          /* listed in h= */
    SIGNATURE_BYTES = 1'024, /* of the largest key, and room */
    SIGNATURE_TEXT = SIGNATURE_BYTES * 4 / 3 + 8,
    ED25519_BYTES = 64,
    LINE_BYTES = 64, /* of b= */
};

/* ---- keys ---- */

static int check_kind(const char *path, const EVP_PKEY *key, char why[static TLS_WHY_MAX])
{
    if (EVP_PKEY_id(key) == EVP_PKEY_ED25519)
        return 0;
    if (EVP_PKEY_id(key) != EVP_PKEY_RSA) {
        tls_why(why, "%s: DKIM has no such keys; RSA or Ed25519 is wanted", path);
        return -EINVAL;
    }
    const int bits = EVP_PKEY_bits(key);
    if (bits < DKIM_RSA_BITS_MIN || bits > DKIM_RSA_BITS_MAX) {
        tls_why(why, "%s: an RSA key of %d bits; 2048 are wanted", path, bits);
        return -EINVAL;
    }
    if (bits < DKIM_RSA_BITS_WANTED)
        tls_why(why, "%s: an RSA key of %d bits: many no longer trust it, 2048 are wanted", path,
                bits);
    return 0;
}

int dkim_key_load(const char *path, EVP_PKEY **out, char why[static TLS_WHY_MAX])
{
    EVP_PKEY *key = NULL;
    why[0] = '\0';
    *out = NULL;
    int r = tls_key_load(path, "RSA or Ed25519", &key, why);
    if (r == 0)
        r = check_kind(path, key, why);
    if (r < 0)
        EVP_PKEY_free(key);
    else
        *out = key;
    return r;
}

/* ---- canonical forms ---- */

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static void hash_text(SHA256_CTX *sha, const char *text)
{
    SHA256_Update(sha, text, strlen(text));
}

void dkim_body_hash(struct slice body, uint8_t hash[static DKIM_HASH_BYTES])
{
    SHA256_CTX sha;
    size_t ends = 0; /* of lines, not hashed yet: at the end of the body they do not count */
    bool blank = false, any = false;
    SHA256_Init(&sha);
    for (size_t i = 0; i < body.size; i++) {
        const uint8_t c = body.data[i];
        if (c == '\r' && i + 1 < body.size && body.data[i + 1] == '\n') {
            ends++;
            i++;
            blank = false; /* at the end of a line it does not count either */
            continue;
        }
        if (is_blank(c)) {
            blank = true;
            continue;
        }
        for (; ends > 0; ends--)
            hash_text(&sha, "\r\n");
        if (blank)
            hash_text(&sha, " ");
        blank = false;
        any = true;
        SHA256_Update(&sha, &c, 1);
    }
    if (any) /* one of nothing but empty lines is empty; else it ends with one CRLF */
        hash_text(&sha, "\r\n");
    SHA256_Final(hash, &sha);
}

static struct slice trim(struct slice s)
{
    while (s.size > 0 && is_blank(s.data[0]))
        s = slice_from(s, 1);
    while (s.size > 0 && is_blank(s.data[s.size - 1]))
        s.size--;
    return s;
}

/* Section 3.4.2, without the CRLF at its end. */
static void hash_field(SHA256_CTX *sha, struct slice field)
{
    const ptrdiff_t colon = slice_find(field, ':');
    CHECK(colon >= 0);
    const struct slice name = trim(slice_part(field, 0, (size_t)colon));
    for (size_t i = 0; i < name.size; i++) {
        const uint8_t c = ascii_lower(name.data[i]);
        SHA256_Update(sha, &c, 1);
    }
    hash_text(sha, ":");
    bool blank = false, begun = false;
    for (size_t i = (size_t)colon + 1; i < field.size; i++) {
        const uint8_t c = field.data[i];
        if (c == '\r' || c == '\n')
            continue; /* unfolded: what follows is a blank, or the end */
        if (is_blank(c)) {
            blank = true;
            continue;
        }
        if (blank && begun)
            hash_text(sha, " ");
        blank = false;
        begun = true;
        SHA256_Update(sha, &c, 1);
    }
}

/* The field that begins at *at, without its CRLF; *at is behind it. False: no more. */
static bool field_next(struct slice header, size_t *at, struct slice *field)
{
    const size_t begin = *at;
    if (begin >= header.size)
        return false;
    size_t end = begin;
    while (end < header.size) {
        if (header.data[end++] == '\n' && (end == header.size || !is_blank(header.data[end])))
            break;
    }
    *at = end;
    while (end > begin && (header.data[end - 1] == '\n' || header.data[end - 1] == '\r'))
        end--;
    *field = slice_part(header, begin, end - begin);
    return true;
}

/* The field of this name that nth others of it stand below. False: there is none. */
static bool field_find(struct slice header, struct slice name, unsigned nth, struct slice *found)
{
    struct slice field;
    unsigned count = 0;
    for (size_t at = 0; field_next(header, &at, &field);) {
        const ptrdiff_t colon = slice_find(field, ':');
        count += colon > 0 && slice_equal_nocase(trim(slice_part(field, 0, (size_t)colon)), name);
    }
    if (nth >= count)
        return false;
    count -= nth; /* so many fields of the name from the top on */
    for (size_t at = 0; field_next(header, &at, &field);) {
        const ptrdiff_t colon = slice_find(field, ':');
        if (colon <= 0 || !slice_equal_nocase(trim(slice_part(field, 0, (size_t)colon)), name))
            continue;
        *found = field;
        if (--count == 0)
            return true;
    }
    return false;
}

void dkim_header_hash(struct slice header, struct slice names, struct slice signature,
                      uint8_t hash[static DKIM_HASH_BYTES])
{
    struct slice seen[NAMES_MAX];
    unsigned seen_count = 0;
    SHA256_CTX sha;
    SHA256_Init(&sha);
    while (names.size > 0 && seen_count < NAMES_MAX) {
        const ptrdiff_t colon = slice_find(names, ':');
        const size_t size = colon < 0 ? names.size : (size_t)colon;
        const struct slice name = trim(slice_part(names, 0, size));
        names = slice_from(names, size + 1);
        unsigned nth = 0;
        for (unsigned i = 0; i < seen_count; i++)
            nth += slice_equal_nocase(seen[i], name);
        seen[seen_count++] = name;
        struct slice field;
        if (!field_find(header, name, nth, &field))
            continue; /* "the null string": so that nobody adds one */
        hash_field(&sha, field);
        hash_text(&sha, "\r\n");
    }
    hash_field(&sha, signature);
    SHA256_Final(hash, &sha);
}

/* ---- signing ---- */

/* The length of the signature; 0: none. */
static size_t sign_hash(const struct dkim_key *key, const uint8_t hash[static DKIM_HASH_BYTES],
                        uint8_t out[static SIGNATURE_BYTES])
{
    size_t size = 0;
    if (EVP_PKEY_id(key->key) == EVP_PKEY_ED25519) { /* RFC 8463 3: of the digest, and not of what
                                                        it is of */
        EVP_MD_CTX *context = EVP_MD_CTX_new();
        size = ED25519_BYTES;
        if (context == NULL || !EVP_DigestSignInit(context, NULL, NULL, NULL, key->key) ||
            !EVP_DigestSign(context, out, &size, hash, DKIM_HASH_BYTES))
            size = 0;
        EVP_MD_CTX_free(context);
    } else {
        RSA *rsa = EVP_PKEY_get0_RSA(key->key);
        unsigned bytes = 0;
        if (rsa != NULL && RSA_size(rsa) <= SIGNATURE_BYTES &&
            RSA_sign(NID_sha256, hash, DKIM_HASH_BYTES, out, &bytes, rsa))
            size = bytes;
    }
    ERR_clear_error();
    return size;
}

int dkim_sign(const struct dkim_key *key, struct slice header, struct slice body, const char *names,
              int64_t now_s, char field[static DKIM_FIELD_BYTES_MAX])
{
    uint8_t hash[DKIM_HASH_BYTES], signature[SIGNATURE_BYTES];
    char text[SIGNATURE_TEXT];
    const char *algorithm =
        EVP_PKEY_id(key->key) == EVP_PKEY_ED25519 ? "ed25519-sha256" : "rsa-sha256";
    dkim_body_hash(body, hash);
    EVP_EncodeBlock((uint8_t *)text, hash, DKIM_HASH_BYTES);
    int size = snprintf(field, DKIM_FIELD_BYTES_MAX,
                        "DKIM-Signature: v=1; a=%s; c=relaxed/relaxed; d=%s;\r\n"
                        "\ts=%s; t=%lld;\r\n\th=%s;\r\n\tbh=%s;\r\n\tb=",
                        algorithm, key->domain, key->selector, (long long)now_s, names, text);
    if (size < 0 || size >= DKIM_FIELD_BYTES_MAX)
        return -EMSGSIZE;
    dkim_header_hash(header, slice_of_string(names), slice_of(field, (size_t)size), hash);
    const size_t signed_bytes = sign_hash(key, hash, signature);
    if (signed_bytes == 0)
        return -EIO;
    EVP_EncodeBlock((uint8_t *)text, signature, signed_bytes);
    for (const char *at = text; *at != '\0'; at += strnlen(at, LINE_BYTES)) {
        size += snprintf(field + size, (size_t)(DKIM_FIELD_BYTES_MAX - size), "%s%.*s",
                         at == text ? "" : "\r\n\t", LINE_BYTES, at);
        if (size >= DKIM_FIELD_BYTES_MAX)
            return -EMSGSIZE;
    }
    size += snprintf(field + size, (size_t)(DKIM_FIELD_BYTES_MAX - size), "\r\n");
    return size < DKIM_FIELD_BYTES_MAX ? 0 : -EMSGSIZE;
}
