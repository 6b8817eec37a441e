/*
 * tls_certificate.c - reads one certificate: names, dates, key, usage, strength
 *
 * BoringSSL parses; here its answers are turned into numbers and bounded texts. What a certificate
 * says twice (two subjectAltNames) or brokenly is -EBADMSG, and never half of it.
 */
#include "tls/tls_certificate.h"

#include <errno.h>
#include <limits.h>

#include "core/check.h"
#include "tls/tls_text.h"

enum { SECONDS_PER_DAY = 86'400 };

/* RFC 5280 section 4.1: what stands before the key. */
static bool skip_to_spki(CBS *tbs)
{
    return CBS_get_optional_asn1(tbs, NULL, NULL,
                                 CBS_ASN1_CONTEXT_SPECIFIC | CBS_ASN1_CONSTRUCTED | 0) &&
           CBS_get_asn1(tbs, NULL, CBS_ASN1_INTEGER) &&  /* serialNumber */
           CBS_get_asn1(tbs, NULL, CBS_ASN1_SEQUENCE) && /* signature */
           CBS_get_asn1(tbs, NULL, CBS_ASN1_SEQUENCE) && /* issuer */
           CBS_get_asn1(tbs, NULL, CBS_ASN1_SEQUENCE) && /* validity */
           CBS_get_asn1(tbs, NULL, CBS_ASN1_SEQUENCE);   /* subject */
}

int tls_certificate_spki(struct slice der, struct slice *spki)
{
    CBS in, certificate, tbs, key;
    CBS_init(&in, der.data, der.size);
    if (!CBS_get_asn1(&in, &certificate, CBS_ASN1_SEQUENCE) || CBS_len(&in) != 0 ||
        !CBS_get_asn1(&certificate, &tbs, CBS_ASN1_SEQUENCE) || !skip_to_spki(&tbs) ||
        !CBS_get_asn1_element(&tbs, &key, CBS_ASN1_SEQUENCE))
        return -EBADMSG;
    *spki = slice_of(CBS_data(&key), CBS_len(&key));
    return 0;
}

int tls_certificate_digests(struct slice der, struct tls_certificate *certificate)
{
    SHA256(der.data, der.size, certificate->digest);
    memset(certificate->spki, 0, TLS_DIGEST_BYTES);
    struct slice spki;
    int r = tls_certificate_spki(der, &spki);
    if (r == 0)
        SHA256(spki.data, spki.size, certificate->spki);
    return r;
}

X509 *tls_certificate_parse(struct slice der)
{
    CRYPTO_BUFFER *buffer = CRYPTO_BUFFER_new(der.data, der.size, NULL);
    if (buffer == NULL)
        return NULL;
    X509 *x509 = X509_parse_from_buffer(buffer);
    CRYPTO_BUFFER_free(buffer);
    ERR_clear_error();
    return x509;
}

void tls_certificate_name(const X509_NAME *name, char text[static TLS_SUBJECT_MAX])
{
    BIO *memory = BIO_new(BIO_s_mem());
    const uint8_t *printed = NULL;
    size_t size = 0;
    if (memory != NULL && X509_NAME_print_ex(memory, (X509_NAME *)name, 0, XN_FLAG_RFC2253) >= 0 &&
        !BIO_mem_contents(memory, &printed, &size))
        size = 0;
    tls_text_escape(slice_of(printed, size), text, TLS_SUBJECT_MAX);
    if (size == 0)
        slice_to_string(SLICE("(no name)"), text, TLS_SUBJECT_MAX);
    BIO_free(memory);
    ERR_clear_error();
}

int tls_certificate_time(const ASN1_TIME *from, int64_t *unix_seconds)
{
    int days, seconds;
    ASN1_TIME *epoch = ASN1_TIME_set(NULL, 0);
    int ok = epoch != NULL && ASN1_TIME_diff(&days, &seconds, epoch, from);
    ASN1_TIME_free(epoch);
    if (!ok)
        return -EBADMSG;
    *unix_seconds = (int64_t)days * SECONDS_PER_DAY + seconds;
    return 0;
}

int tls_certificate_dates(const X509 *x509, int64_t *not_before, int64_t *not_after)
{
    int r = tls_certificate_time(X509_get0_notBefore(x509), not_before);
    if (r == 0)
        r = tls_certificate_time(X509_get0_notAfter(x509), not_after);
    ERR_clear_error();
    return r;
}

static enum tls_key key_of(const EVP_PKEY *key)
{
    switch (EVP_PKEY_id(key)) {
    case EVP_PKEY_RSA: return TLS_KEY_RSA;
    case EVP_PKEY_EC: return TLS_KEY_EC;
    case EVP_PKEY_ED25519: return TLS_KEY_ED25519;
    default: return TLS_KEY_OTHER;
    }
}

int tls_certificate_key(X509 *x509, enum tls_key *key, unsigned *bits)
{
    EVP_PKEY *public = X509_get_pubkey(x509);
    if (public == NULL) {
        ERR_clear_error();
        return -EBADMSG;
    }
    *key = key_of(public);
    *bits = (unsigned)EVP_PKEY_bits(public);
    EVP_PKEY_free(public);
    return 0;
}

unsigned tls_certificate_usage(X509 *x509)
{
    if ((X509_get_extension_flags(x509) & EXFLAG_XKUSAGE) == 0)
        return TLS_USAGE_CLIENT | TLS_USAGE_SERVER | TLS_USAGE_UNLIMITED;
    uint32_t flags = X509_get_extended_key_usage(x509);
    unsigned usage = 0;
    if ((flags & (XKU_SSL_CLIENT | XKU_ANYEKU)) != 0)
        usage |= TLS_USAGE_CLIENT;
    if ((flags & (XKU_SSL_SERVER | XKU_ANYEKU)) != 0)
        usage |= TLS_USAGE_SERVER;
    if ((flags & XKU_ANYEKU) != 0)
        usage |= TLS_USAGE_ANY;
    return usage;
}

const char *tls_certificate_weak_key(enum tls_key key, unsigned bits)
{
    static_assert(TLS_RSA_BITS_MIN == 2'048 && TLS_EC_BITS_MIN == 256);
    switch (key) {
    case TLS_KEY_RSA:
        return bits < TLS_RSA_BITS_MIN ? "has an RSA key shorter than 2048 bits" : NULL;
    case TLS_KEY_EC: return bits < TLS_EC_BITS_MIN ? "has an EC key shorter than 256 bits" : NULL;
    case TLS_KEY_ED25519: return NULL;
    default: return "has a key of an unknown kind";
    }
}

static bool is_strong_digest(int nid)
{
    return nid == NID_sha256 || nid == NID_sha384 || nid == NID_sha512;
}

/* The digest inside of RSASSA-PSS-params (RFC 4055 section 3.1), where SHA-1 is the default. */
static int pss_digest(const void *parameters, int type)
{
    if (type != V_ASN1_SEQUENCE)
        return NID_undef;
    const ASN1_STRING *string = parameters;
    CBS in, sequence, explicit, algorithm, oid;
    CBS_init(&in, ASN1_STRING_get0_data(string), (size_t)ASN1_STRING_length(string));
    if (!CBS_get_asn1(&in, &sequence, CBS_ASN1_SEQUENCE) ||
        !CBS_get_asn1(&sequence, &explicit, CBS_ASN1_CONTEXT_SPECIFIC | CBS_ASN1_CONSTRUCTED | 0) ||
        !CBS_get_asn1(&explicit, &algorithm, CBS_ASN1_SEQUENCE) ||
        !CBS_get_asn1(&algorithm, &oid, CBS_ASN1_OBJECT))
        return NID_undef;
    return OBJ_cbs2nid(&oid);
}

const char *tls_certificate_weak_algorithm(const X509_ALGOR *algorithm)
{
    const ASN1_OBJECT *object;
    const void *parameters;
    int type, digest = NID_undef, key = NID_undef;
    X509_ALGOR_get0(&object, &type, &parameters, algorithm);
    int signature = OBJ_obj2nid(object);
    if (signature == NID_ED25519)
        return NULL;
    if (signature == NID_rsassaPss)
        digest = pss_digest(parameters, type);
    else
        OBJ_find_sigid_algs(signature, &digest, &key);
    if (is_strong_digest(digest))
        return NULL;
    return digest == NID_sha1 ? "is signed with SHA-1"
                              : "is signed with an old or unknown digest, not SHA-256 or longer";
}

const char *tls_certificate_weak_signature(const X509 *x509)
{
    return tls_certificate_weak_algorithm(X509_get0_tbs_sigalg(x509));
}

static void read_serial(const X509 *x509, char text[static TLS_SERIAL_MAX])
{
    const ASN1_INTEGER *serial = X509_get0_serialNumber(x509);
    size_t sign = 0;
    if (ASN1_STRING_type((const ASN1_STRING *)serial) == V_ASN1_NEG_INTEGER)
        text[sign++] = '-';
    tls_text_hex(slice_of(ASN1_STRING_get0_data((const ASN1_STRING *)serial),
                          (size_t)ASN1_STRING_length((const ASN1_STRING *)serial)),
                 text + sign, TLS_SERIAL_MAX - sign);
}

static void read_common_name(const X509 *x509, struct tls_certificate *certificate)
{
    const X509_NAME *subject = X509_get_subject_name(x509);
    int index = -1, last = -1;
    while ((index = X509_NAME_get_index_by_NID((X509_NAME *)subject, NID_commonName, last)) >= 0)
        last = index;
    certificate->common_name[0] = '\0';
    if (last < 0)
        return;
    const X509_NAME_ENTRY *entry = X509_NAME_get_entry((X509_NAME *)subject, last);
    uint8_t *utf8;
    int size = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data((X509_NAME_ENTRY *)entry));
    if (size < 0)
        return;
    /* One that is cut here was too long for a name, and still is. */
    tls_text_escape(slice_of(utf8, (size_t)size), certificate->common_name,
                    sizeof(certificate->common_name));
    OPENSSL_free(utf8);
}

static int read_names(const X509 *x509, struct tls_names *names)
{
    *names = (struct tls_names) { 0 };
    int index = X509_get_ext_by_NID((X509 *)x509, NID_subject_alt_name, -1);
    if (index < 0)
        return 0;
    if (X509_get_ext_by_NID((X509 *)x509, NID_subject_alt_name, index) >= 0)
        return -EBADMSG;
    const ASN1_STRING *value =
        (const ASN1_STRING *)X509_EXTENSION_get_data(X509_get_ext((X509 *)x509, index));
    return tls_names_read(
        names, slice_of(ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value)));
}

int tls_certificate_read(X509 *x509, struct tls_certificate *certificate, const char **why)
{
    tls_certificate_name(X509_get_subject_name(x509), certificate->subject);
    tls_certificate_name(X509_get_issuer_name(x509), certificate->issuer);
    read_serial(x509, certificate->serial);
    read_common_name(x509, certificate);
    certificate->usage = tls_certificate_usage(x509);
    int r = read_names(x509, &certificate->names);
    if (r < 0) {
        *why = "has a subjectAltName that cannot be read";
    } else if (tls_certificate_dates(x509, &certificate->not_before, &certificate->not_after) < 0) {
        *why = "has dates that cannot be read";
        r = -EBADMSG;
    } else if (tls_certificate_key(x509, &certificate->key, &certificate->key_bits) < 0) {
        *why = "has a key that cannot be read";
        r = -EBADMSG;
    } else if ((X509_get_extension_flags(x509) & EXFLAG_INVALID) != 0) {
        *why = "has extensions that cannot be read";
        r = -EBADMSG;
    }
    ERR_clear_error();
    return r;
}

int tls_certificate_look(struct slice der, struct tls_certificate *certificate, const char **why)
{
    *certificate = (struct tls_certificate) { 0 };
    *why = "is none that can be read";
    if (tls_certificate_digests(der, certificate) < 0)
        return -EBADMSG;
    X509 *x509 = tls_certificate_parse(der);
    if (x509 == NULL)
        return -EBADMSG;
    int r = tls_certificate_read(x509, certificate, why);
    X509_free(x509);
    return r;
}

void tls_certificate_key_text(enum tls_key key, unsigned bits, char text[static TLS_KEY_TEXT_BYTES])
{
    switch (key) {
    case TLS_KEY_EC: tls_text_append(text, TLS_KEY_TEXT_BYTES, 0, "ECDSA P-%u", bits); break;
    case TLS_KEY_RSA: tls_text_append(text, TLS_KEY_TEXT_BYTES, 0, "RSA %u bits", bits); break;
    case TLS_KEY_ED25519: tls_text_append(text, TLS_KEY_TEXT_BYTES, 0, "Ed25519"); break;
    default: tls_text_append(text, TLS_KEY_TEXT_BYTES, 0, "of an unknown kind"); break;
    }
}
