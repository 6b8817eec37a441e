/*
 * tls_make.c - a key, and its self-signed certificate, as PEM
 *
 * The certificate is an end entity's, not a CA's: its key can vouch for nothing but itself, also
 * where somebody takes it for a root. Extensions are written by CBB. Owns nothing afterwards.
 */
#include "tls/tls_make.h"

#include <errno.h>

#include "core/check.h"
#include "tls/tls_boringssl.h"
#include "tls/tls_name.h"

enum { RSA_BITS = 2'048, SERIAL_BYTES = 16, CN_MAX = 64, LINE_BYTES = 48, LINE_CHARACTERS = 64 };

/* ---- the key ---- */

static bool take_ec(EVP_PKEY *key)
{
    EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    if (ec != NULL && EC_KEY_generate_key(ec) && EVP_PKEY_assign_EC_KEY(key, ec))
        return true;
    EC_KEY_free(ec);
    return false;
}

static bool take_rsa(EVP_PKEY *key)
{
    RSA *rsa = RSA_new();
    BIGNUM *e = BN_new();
    bool ok = rsa != NULL && e != NULL && BN_set_word(e, RSA_F4) &&
              RSA_generate_key_ex(rsa, RSA_BITS, e, NULL) && EVP_PKEY_assign_RSA(key, rsa);
    if (!ok)
        RSA_free(rsa);
    BN_free(e);
    return ok;
}

static EVP_PKEY *key_make(bool is_rsa)
{
    EVP_PKEY *key = EVP_PKEY_new();
    if (key == NULL || (is_rsa ? take_rsa(key) : take_ec(key)))
        return key;
    EVP_PKEY_free(key);
    return NULL;
}

/* ---- extensions ---- */

static bool add_extension(X509 *x509, int nid, bool is_critical, CBB *value)
{
    uint8_t *der = NULL;
    size_t size = 0;
    if (!CBB_finish(value, &der, &size)) {
        CBB_cleanup(value);
        return false;
    }
    ASN1_OCTET_STRING *octets = ASN1_OCTET_STRING_new();
    X509_EXTENSION *extension = NULL;
    if (octets != NULL && ASN1_STRING_set(octets, der, (int)size))
        extension = X509_EXTENSION_create_by_NID(NULL, nid, is_critical, octets);
    bool ok = extension != NULL && X509_add_ext(x509, extension, -1);
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(octets);
    OPENSSL_free(der);
    return ok;
}

static bool add_names(X509 *x509, const struct tls_make_options *options)
{
    CBB all, sequence, name;
    bool ok = CBB_init(&all, 64) && CBB_add_asn1(&all, &sequence, CBS_ASN1_SEQUENCE);
    for (unsigned i = 0; ok && i < options->names_count; i++)
        ok = CBB_add_asn1(&sequence, &name, CBS_ASN1_CONTEXT_SPECIFIC | 2) &&
             CBB_add_bytes(&name, options->names[i].data, options->names[i].size) &&
             CBB_flush(&sequence);
    return ok && add_extension(x509, NID_subject_alt_name, false, &all);
}

/* No CA; for servers and for clients. A key usage without keyCertSign would keep those who take the
 * certificate for a root from finding that it is its own issuer. */
static bool add_purposes(X509 *x509)
{
    CBB all, inner;
    return CBB_init(&all, 16) && CBB_add_asn1(&all, &inner, CBS_ASN1_SEQUENCE) &&
           add_extension(x509, NID_basic_constraints, true, &all) && CBB_init(&all, 32) &&
           CBB_add_asn1(&all, &inner, CBS_ASN1_SEQUENCE) && OBJ_nid2cbb(&inner, NID_server_auth) &&
           OBJ_nid2cbb(&inner, NID_client_auth) &&
           add_extension(x509, NID_ext_key_usage, false, &all);
}

/* ---- the certificate ---- */

static bool set_serial(X509 *x509)
{
    uint8_t random[SERIAL_BYTES];
    RAND_bytes(random, sizeof(random));
    random[0] = (random[0] & 0x3f) | 0x40; /* positive, and as long as it is */
    BIGNUM *number = BN_bin2bn(random, sizeof(random), NULL);
    ASN1_INTEGER *serial = number == NULL ? NULL : BN_to_ASN1_INTEGER(number, NULL);
    bool ok = serial != NULL && X509_set_serialNumber(x509, serial);
    ASN1_INTEGER_free(serial);
    BN_free(number);
    return ok;
}

static bool set_dates(X509 *x509, const struct tls_make_options *options)
{
    ASN1_TIME *from = ASN1_TIME_set(NULL, (time_t)options->not_before);
    ASN1_TIME *to = ASN1_TIME_set(NULL, (time_t)options->not_after);
    bool ok = from != NULL && to != NULL && X509_set1_notBefore(x509, from) &&
              X509_set1_notAfter(x509, to);
    ASN1_TIME_free(from);
    ASN1_TIME_free(to);
    return ok;
}

static bool set_subject(X509 *x509, struct slice name)
{
    X509_NAME *subject = X509_NAME_new();
    /* RFC 5280 appendix A: a CN has 64 characters at most; longer ones stand in the names only */
    struct slice cn = name.size <= CN_MAX ? name : SLICE("self-signed");
    bool ok = subject != NULL &&
              X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8, cn.data,
                                         (int)cn.size, -1, 0) &&
              X509_set_subject_name(x509, subject) && X509_set_issuer_name(x509, subject);
    X509_NAME_free(subject);
    return ok;
}

static bool certificate_make(X509 *x509, EVP_PKEY *key, const struct tls_make_options *options)
{
    return X509_set_version(x509, X509_VERSION_3) && set_serial(x509) &&
           set_subject(x509, options->names[0]) && set_dates(x509, options) &&
           X509_set_pubkey(x509, key) && add_names(x509, options) && add_purposes(x509) &&
           X509_sign(x509, key, EVP_sha256()) > 0;
}

/* ---- PEM ---- */

static bool pem_write(const char *label, struct slice der, char *text, size_t capacity)
{
    size_t used = tls_text_append(text, capacity, 0, "-----BEGIN %s-----\n", label);
    for (size_t i = 0; i < der.size; i += LINE_BYTES) {
        char line[LINE_CHARACTERS + 1];
        struct slice part = slice_part(der, i, LINE_BYTES);
        EVP_EncodeBlock((uint8_t *)line, part.data, part.size);
        used = tls_text_append(text, capacity, used, "%s\n", line);
        OPENSSL_cleanse(line, sizeof(line));
    }
    used = tls_text_append(text, capacity, used, "-----END %s-----\n", label);
    return used < capacity - 1;
}

static bool certificate_write(X509 *x509, struct tls_made *made)
{
    uint8_t *der = NULL;
    int size = i2d_X509(x509, &der);
    bool ok = size > 0 && pem_write("CERTIFICATE", slice_of(der, (size_t)size), made->certificate,
                                    sizeof(made->certificate));
    OPENSSL_free(der);
    return ok;
}

static bool key_write(const EVP_PKEY *key, struct tls_made *made)
{
    CBB out;
    uint8_t *der = NULL;
    size_t size = 0;
    if (!CBB_init(&out, 0) || !EVP_marshal_private_key(&out, key) ||
        !CBB_finish(&out, &der, &size)) {
        CBB_cleanup(&out);
        return false;
    }
    bool ok = pem_write("PRIVATE KEY", slice_of(der, size), made->key, sizeof(made->key));
    OPENSSL_free(der); /* wipes */
    return ok;
}

/* ---- all of it ---- */

int tls_make_self_signed(const struct tls_make_options *options, struct tls_made *made,
                         char why[static TLS_WHY_MAX])
{
    CHECK(options->names_count >= 1 && options->names_count <= TLS_MAKE_NAMES_MAX);
    why[0] = '\0';
    made->certificate[0] = made->key[0] = '\0';
    for (unsigned i = 0; i < options->names_count; i++) {
        char shown[TLS_NAME_MAX];
        if (tls_name_usable(options->names[i]))
            continue;
        tls_text_escape(options->names[i], shown, sizeof(shown));
        tls_why(why, "%.200s is no name for a certificate: write mx.example.org, or *.example.org",
                shown);
        return -EINVAL;
    }
    if (options->not_after <= options->not_before) {
        tls_why(why, "it would end before it begins");
        return -EINVAL;
    }
    EVP_PKEY *key = key_make(options->is_rsa);
    X509 *x509 = X509_new();
    bool ok = key != NULL && x509 != NULL && certificate_make(x509, key, options) &&
              certificate_write(x509, made) && key_write(key, made);
    X509_free(x509);
    EVP_PKEY_free(key);
    ERR_clear_error();
    if (ok)
        return 0;
    tls_why(why, "no memory, or no certificate can be made of this");
    return -ENOMEM;
}

void tls_make_erase(struct tls_made *made)
{
    OPENSSL_cleanse(made, sizeof(*made));
}
