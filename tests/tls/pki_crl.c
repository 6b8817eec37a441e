/*
 * pki_crl.c - lists of revoked certificates by CBB, so that they can be wrong
 */
#include "tests/tls/pki_crl.h"

#include <stdio.h>
#include <time.h>

#include "core/check.h"

enum {
    TAG_0_OF = CBS_ASN1_CONTEXT_SPECIFIC | CBS_ASN1_CONSTRUCTED | 0,
    SERIALS_OF_NOBODY = 0x7000'0000,
};

static void add_time(CBB *to, int64_t at)
{
    CBB value;
    struct tm tm;
    char text[16];
    const time_t seconds = (time_t)at;
    CHECK(gmtime_r(&seconds, &tm) != NULL);
    CHECK(strftime(text, sizeof(text), "%y%m%d%H%M%SZ", &tm) == 13);
    CHECK(CBB_add_asn1(to, &value, CBS_ASN1_UTCTIME));
    CHECK(CBB_add_bytes(&value, (const uint8_t *)text, 13));
    CHECK(CBB_flush(to));
}

static void add_extension(CBB *to, int nid, bool is_critical, struct slice der)
{
    CBB extension, value;
    CHECK(CBB_add_asn1(to, &extension, CBS_ASN1_SEQUENCE));
    CHECK(OBJ_nid2cbb(&extension, nid));
    if (is_critical)
        CHECK(CBB_add_asn1_bool(&extension, 1));
    CHECK(CBB_add_asn1(&extension, &value, CBS_ASN1_OCTETSTRING));
    CHECK(CBB_add_bytes(&value, der.data, der.size));
    CHECK(CBB_flush(to));
}

static void add_entry(CBB *to, struct slice serial, const struct pki_crl_options *options,
                      bool is_first)
{
    CBB entry, number, extensions;
    CHECK(CBB_add_asn1(to, &entry, CBS_ASN1_SEQUENCE));
    CHECK(CBB_add_asn1(&entry, &number, CBS_ASN1_INTEGER));
    CHECK(CBB_add_bytes(&number, serial.data, serial.size));
    add_time(&entry, PKI_NOW - 10 * PKI_DAY);
    CHECK(CBB_add_asn1(&entry, &extensions, CBS_ASN1_SEQUENCE));
    add_extension(&extensions, NID_crl_reason, false, SLICE("\x0a\x01\x01")); /* keyCompromise */
    if (is_first && options->entry_issuer)
        add_extension(&extensions, NID_certificate_issuer, true, SLICE("\x30\x00"));
    if (is_first && options->entry_unknown_critical)
        add_extension(&extensions, NID_netscape_comment, true, SLICE("\x16\x01x"));
    CHECK(CBB_flush(to));
}

static void add_entries(CBB *tbs, const struct pki_crl_options *options)
{
    CBB entries;
    if (options->revoked[0] == NULL && options->many == 0)
        return;
    CHECK(CBB_add_asn1(tbs, &entries, CBS_ASN1_SEQUENCE));
    for (unsigned i = 0; i < options->many; i++) {
        uint32_t number = SERIALS_OF_NOBODY + options->many - i;
        const uint8_t serial[] = { (uint8_t)(number >> 24), (uint8_t)(number >> 16),
                                   (uint8_t)(number >> 8), (uint8_t)number };
        add_entry(&entries, slice_of(serial, sizeof(serial)), options, i == 0);
    }
    for (unsigned i = 0; i < PKI_REVOKED_MAX && options->revoked[i] != NULL; i++) {
        const ASN1_INTEGER *serial = X509_get0_serialNumber(options->revoked[i]->x509);
        add_entry(&entries,
                  slice_of(ASN1_STRING_get0_data(serial), (size_t)ASN1_STRING_length(serial)),
                  options, i == 0 && options->many == 0);
    }
    CHECK(CBB_flush(tbs));
}

static void add_flag(CBB *to, unsigned number, bool flag)
{
    CBB value;
    if (!flag)
        return;
    CHECK(CBB_add_asn1(to, &value, CBS_ASN1_CONTEXT_SPECIFIC | number));
    CHECK(CBB_add_u8(&value, 0xff));
    CHECK(CBB_flush(to));
}

static void add_scope(CBB *extensions, const struct pki_crl_options *options)
{
    CBB all, point, name, full, url, reasons;
    uint8_t *der;
    size_t size;
    if (options->point == NULL && !options->users && !options->cas && !options->reasons &&
        !options->indirect && !options->attributes)
        return;
    CHECK(CBB_init(&all, 64));
    CHECK(CBB_add_asn1(&all, &point, CBS_ASN1_SEQUENCE));
    if (options->point != NULL) {
        CHECK(CBB_add_asn1(&point, &name, TAG_0_OF));
        CHECK(CBB_add_asn1(&name, &full, TAG_0_OF));
        CHECK(CBB_add_asn1(&full, &url, CBS_ASN1_CONTEXT_SPECIFIC | 6));
        CHECK(CBB_add_bytes(&url, (const uint8_t *)options->point, strlen(options->point)));
        CHECK(CBB_flush(&point));
    }
    add_flag(&point, 1, options->users);
    add_flag(&point, 2, options->cas);
    if (options->reasons) {
        CHECK(CBB_add_asn1(&point, &reasons, CBS_ASN1_CONTEXT_SPECIFIC | 3));
        CHECK(CBB_add_bytes(&reasons, (const uint8_t *)"\x01\x02", 2));
        CHECK(CBB_flush(&point));
    }
    add_flag(&point, 4, options->indirect);
    add_flag(&point, 5, options->attributes);
    CHECK(CBB_finish(&all, &der, &size));
    add_extension(extensions, NID_issuing_distribution_point, true, slice_of(der, size));
    OPENSSL_free(der);
}

static void add_extensions(CBB *tbs, const struct pki_crl_options *options)
{
    CBB outer, extensions;
    CHECK(CBB_add_asn1(tbs, &outer, TAG_0_OF));
    CHECK(CBB_add_asn1(&outer, &extensions, CBS_ASN1_SEQUENCE));
    add_extension(&extensions, NID_crl_number, false, SLICE("\x02\x01\x05"));
    add_scope(&extensions, options);
    if (options->delta)
        add_extension(&extensions, NID_delta_crl, true, SLICE("\x02\x01\x04"));
    if (options->unknown_critical)
        add_extension(&extensions, NID_netscape_comment, true, SLICE("\x16\x01x"));
    CHECK(CBB_flush(tbs));
}

static void add_algorithm(CBB *to, const struct pki_crl_options *options)
{
    CBB algorithm;
    CHECK(CBB_add_asn1(to, &algorithm, CBS_ASN1_SEQUENCE));
    CHECK(OBJ_nid2cbb(&algorithm, options->sha1 ? NID_ecdsa_with_SHA1 : NID_ecdsa_with_SHA256));
    CHECK(CBB_flush(to));
}

static struct slice finish(CBB *all)
{
    uint8_t *der;
    size_t size;
    CHECK(CBB_finish(all, &der, &size));
    return slice_of(der, size);
}

static struct slice tbs_of(const struct pki *issuer, const struct pki_crl_options *options)
{
    CBB all, tbs;
    uint8_t *name = NULL;
    int size = i2d_X509_NAME(X509_get_subject_name(issuer->x509), &name);
    CHECK(size > 0);
    CHECK(CBB_init(&all, 256));
    CHECK(CBB_add_asn1(&all, &tbs, CBS_ASN1_SEQUENCE));
    CHECK(CBB_add_asn1_uint64(&tbs, 1));
    add_algorithm(&tbs, options);
    CHECK(CBB_add_bytes(&tbs, name, (size_t)size));
    OPENSSL_free(name);
    add_time(&tbs, options->this_update != 0 ? options->this_update : PKI_NOW - PKI_DAY);
    if (options->next_update >= 0)
        add_time(&tbs, options->next_update != 0 ? options->next_update : PKI_NOW + 7 * PKI_DAY);
    add_entries(&tbs, options);
    add_extensions(&tbs, options);
    return finish(&all);
}

struct slice pki_crl_der(const struct pki *issuer, const struct pki_crl_options *options)
{
    const struct pki *signer = options->signer == NULL ? issuer : options->signer;
    struct slice tbs = tbs_of(issuer, options);
    uint8_t signature[256];
    size_t size = sizeof(signature);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    CHECK(context != NULL);
    CHECK(EVP_DigestSignInit(context, NULL, options->sha1 ? EVP_sha1() : EVP_sha256(), NULL,
                             signer->key));
    CHECK(EVP_DigestSign(context, signature, &size, tbs.data, tbs.size));
    EVP_MD_CTX_free(context);
    CBB all, list, value;
    CHECK(CBB_init(&all, 256));
    CHECK(CBB_add_asn1(&all, &list, CBS_ASN1_SEQUENCE));
    CHECK(CBB_add_bytes(&list, tbs.data, tbs.size));
    add_algorithm(&list, options);
    CHECK(CBB_add_asn1(&list, &value, CBS_ASN1_BITSTRING));
    CHECK(CBB_add_u8(&value, 0));
    CHECK(CBB_add_bytes(&value, signature, size));
    OPENSSL_free((void *)(uintptr_t)tbs.data);
    return finish(&all);
}

struct slice pki_der(const struct pki *pki)
{
    return slice_of(CRYPTO_BUFFER_data(pki->buffer), CRYPTO_BUFFER_len(pki->buffer));
}

struct tls_crl *pki_crl(const struct pki *issuer, const char *url,
                        const struct pki_crl_options *options)
{
    struct slice der = pki_crl_der(issuer, options);
    char why[TLS_WHY_MAX];
    struct tls_crl *list;
    CHECK(tls_crl_read(der, url, pki_der(issuer), &list, why) == 0);
    OPENSSL_free((void *)(uintptr_t)der.data);
    return list;
}
