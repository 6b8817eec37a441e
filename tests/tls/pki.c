/*
 * pki.c - keys, certificates and PEM by BoringSSL; extensions by CBB, so that they can be wrong too
 */
#include "tests/tls/pki.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/check.h"

enum {
    YEARS_10 = 3652 * PKI_DAY,
    EXTENSION_MAX = 60'000,
    RSA_HUGE_BYTES = (8'192 + 64) / 8,
};

/* ---- keys ---- */

static EVP_PKEY *make_ec(int curve)
{
    EVP_PKEY *key = EVP_PKEY_new();
    EC_KEY *ec = EC_KEY_new_by_curve_name(curve);
    CHECK(key != NULL && ec != NULL);
    CHECK(EC_KEY_generate_key(ec));
    CHECK(EVP_PKEY_assign_EC_KEY(key, ec));
    return key;
}

static EVP_PKEY *make_rsa(int bits)
{
    EVP_PKEY *key = EVP_PKEY_new();
    RSA *rsa = RSA_new();
    BIGNUM *e = BN_new();
    CHECK(key != NULL && rsa != NULL && e != NULL);
    CHECK(BN_set_word(e, RSA_F4));
    CHECK(RSA_generate_key_ex(rsa, bits, e, NULL));
    CHECK(EVP_PKEY_assign_RSA(key, rsa));
    BN_free(e);
    return key;
}

static EVP_PKEY *make_rsa_huge(void)
{
    uint8_t modulus[RSA_HUGE_BYTES];
    memset(modulus, 0xa5, sizeof(modulus));
    EVP_PKEY *key = EVP_PKEY_new();
    RSA *rsa = RSA_new();
    BIGNUM *n = BN_bin2bn(modulus, sizeof(modulus), NULL), *e = BN_new();
    CHECK(key != NULL && rsa != NULL && n != NULL && e != NULL);
    CHECK(BN_set_word(e, RSA_F4));
    CHECK(RSA_set0_key(rsa, n, e, NULL));
    CHECK(EVP_PKEY_assign_RSA(key, rsa));
    return key;
}

static EVP_PKEY *make_key(enum pki_key kind)
{
    switch (kind) {
    case PKI_P224: return make_ec(NID_secp224r1);
    case PKI_P384: return make_ec(NID_secp384r1);
    case PKI_P521: return make_ec(NID_secp521r1);
    case PKI_RSA_1024: return make_rsa(1'024);
    case PKI_RSA_2048: return make_rsa(2'048);
    case PKI_RSA_HUGE: return make_rsa_huge();
    default: return make_ec(NID_X9_62_prime256v1);
    }
}

/* ---- extensions ---- */

static void add_extension(X509 *x509, int nid, bool is_critical, struct slice der)
{
    ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
    CHECK(value != NULL);
    CHECK(ASN1_STRING_set(value, der.data, (int)der.size));
    X509_EXTENSION *extension = X509_EXTENSION_create_by_NID(NULL, nid, is_critical, value);
    CHECK(extension != NULL);
    CHECK(X509_add_ext(x509, extension, -1));
    X509_EXTENSION_free(extension);
    ASN1_OCTET_STRING_free(value);
}

struct extension {
    CBB all;
    CBB sequence;
};

static void begin(struct extension *e)
{
    CHECK(CBB_init(&e->all, 64));
    CHECK(CBB_add_asn1(&e->all, &e->sequence, CBS_ASN1_SEQUENCE));
}

static void end(struct extension *e, X509 *x509, int nid, bool is_critical)
{
    uint8_t *der;
    size_t size;
    CHECK(CBB_finish(&e->all, &der, &size));
    add_extension(x509, nid, is_critical, slice_of(der, size));
    OPENSSL_free(der);
}

static void add_name(struct extension *e, struct slice name)
{
    CBB value;
    CHECK(CBB_add_asn1(&e->sequence, &value, CBS_ASN1_CONTEXT_SPECIFIC | 2));
    CHECK(CBB_add_bytes(&value, name.data, name.size));
    CHECK(CBB_flush(&e->sequence));
}

static void add_names(X509 *x509, const struct pki_options *options)
{
    struct extension e;
    if (options->has_broken_names)
        add_extension(x509, NID_subject_alt_name, false, SLICE("\x30\x7fxx"));
    if (options->names[0].data == NULL && options->names_many == 0)
        return;
    begin(&e);
    for (unsigned i = 0; i < PKI_NAMES_MAX && options->names[i].data != NULL; i++)
        add_name(&e, options->names[i]);
    for (unsigned i = 0; i < options->names_many; i++) {
        char name[32];
        snprintf(name, sizeof(name), "n%u.many.example", i);
        add_name(&e, slice_of_string(name));
    }
    end(&e, x509, NID_subject_alt_name, false);
}

static void add_constraints(X509 *x509, const struct pki_options *options)
{
    struct extension e;
    if (!options->is_ca && !options->is_not_ca)
        return;
    begin(&e);
    if (options->is_ca)
        CHECK(CBB_add_asn1_bool(&e.sequence, 1));
    if (options->path_length_plus_1 > 0)
        CHECK(CBB_add_asn1_uint64(&e.sequence, (uint64_t)options->path_length_plus_1 - 1));
    end(&e, x509, NID_basic_constraints, true);
}

static void add_usage(X509 *x509, unsigned usage)
{
    static const struct {
        enum pki_usage usage;
        int nid;
    } nids[] = { { PKI_CLIENT, NID_client_auth },
                 { PKI_SERVER, NID_server_auth },
                 { PKI_ANY, NID_anyExtendedKeyUsage },
                 { PKI_EMAIL, NID_email_protect } };
    struct extension e;
    if (usage == 0)
        return;
    begin(&e);
    for (unsigned i = 0; i < ARRAY_COUNT(nids); i++)
        if ((usage & nids[i].usage) != 0)
            CHECK(OBJ_nid2cbb(&e.sequence, nids[i].nid));
    end(&e, x509, NID_ext_key_usage, false);
}

/* RFC 5280 section 4.2.1.10: permittedSubtrees [0], each a GeneralSubtree with a dNSName. */
static void add_permitted(X509 *x509, const char *domain)
{
    struct extension e;
    CBB permitted, subtree, name;
    if (domain == NULL)
        return;
    begin(&e);
    CHECK(CBB_add_asn1(&e.sequence, &permitted,
                       CBS_ASN1_CONTEXT_SPECIFIC | CBS_ASN1_CONSTRUCTED | 0));
    CHECK(CBB_add_asn1(&permitted, &subtree, CBS_ASN1_SEQUENCE));
    CHECK(CBB_add_asn1(&subtree, &name, CBS_ASN1_CONTEXT_SPECIFIC | 2));
    CHECK(CBB_add_bytes(&name, (const uint8_t *)domain, strlen(domain)));
    end(&e, x509, NID_name_constraints, true);
}

/* RFC 5280 section 4.2.1.13: a DistributionPoint with one URL in its fullName. */
static void add_point(struct extension *e, const char *url, bool has_reasons)
{
    CBB point, name, full, value, reasons;
    const unsigned of_0 = CBS_ASN1_CONTEXT_SPECIFIC | CBS_ASN1_CONSTRUCTED | 0;
    CHECK(CBB_add_asn1(&e->sequence, &point, CBS_ASN1_SEQUENCE));
    CHECK(CBB_add_asn1(&point, &name, of_0));
    CHECK(CBB_add_asn1(&name, &full, of_0));
    CHECK(CBB_add_asn1(&full, &value, CBS_ASN1_CONTEXT_SPECIFIC | 6));
    CHECK(CBB_add_bytes(&value, (const uint8_t *)url, strlen(url)));
    if (has_reasons) {
        CHECK(CBB_add_asn1(&point, &reasons, CBS_ASN1_CONTEXT_SPECIFIC | 1));
        CHECK(CBB_add_bytes(&reasons, (const uint8_t *)"\x01\x02", 2));
    }
    CHECK(CBB_flush(&e->sequence));
}

static void add_points(X509 *x509, const struct pki_options *options)
{
    struct extension e;
    if (options->crls[0] == NULL && !options->has_other_points)
        return;
    begin(&e);
    if (options->has_other_points) {
        add_point(&e, "http://reasons.example/a.crl", true);
        add_point(&e, "ldap://directory.example/cn=a", false);
    }
    for (unsigned i = 0; i < ARRAY_COUNT(options->crls) && options->crls[i] != NULL; i++)
        add_point(&e, options->crls[i], false);
    end(&e, x509, NID_crl_distribution_points, false);
}

/* ---- certificates ---- */

static void set_dates(X509 *x509, const struct pki_options *options)
{
    int64_t from = options->not_before != 0 ? options->not_before : (int64_t)PKI_NOW - YEARS_10;
    int64_t to = options->not_after != 0 ? options->not_after : (int64_t)PKI_NOW + YEARS_10;
    ASN1_TIME *not_before = ASN1_TIME_set(NULL, (time_t)from);
    ASN1_TIME *not_after = ASN1_TIME_set(NULL, (time_t)to);
    CHECK(not_before != NULL && not_after != NULL);
    CHECK(X509_set1_notBefore(x509, not_before));
    CHECK(X509_set1_notAfter(x509, not_after));
    ASN1_TIME_free(not_before);
    ASN1_TIME_free(not_after);
}

static void set_names(X509 *x509, const struct pki *issuer, const char *cn)
{
    X509_NAME *subject = X509_NAME_new();
    CHECK(subject != NULL);
    if (cn != NULL)
        CHECK(X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8,
                                         (const uint8_t *)cn, -1, -1, 0));
    CHECK(X509_set_subject_name(x509, subject));
    CHECK(
        X509_set_issuer_name(x509, issuer == NULL ? subject : X509_get_subject_name(issuer->x509)));
    X509_NAME_free(subject);
}

static void sign(X509 *x509, EVP_PKEY *key, const struct pki_options *options)
{
    const EVP_MD *digest = options->sha1 ? EVP_sha1() : EVP_sha256();
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    EVP_PKEY_CTX *padding;
    CHECK(context != NULL);
    CHECK(EVP_DigestSignInit(context, &padding, digest, NULL, key));
    if (options->pss) {
        CHECK(EVP_PKEY_CTX_set_rsa_padding(padding, RSA_PKCS1_PSS_PADDING));
        CHECK(EVP_PKEY_CTX_set_rsa_pss_saltlen(padding, -1)); /* as long as the digest */
    }
    CHECK(X509_sign_ctx(x509, context));
    EVP_MD_CTX_free(context);
}

static CRYPTO_BUFFER *buffer_of(X509 *x509)
{
    uint8_t *der = NULL;
    int size = i2d_X509(x509, &der);
    CHECK(size > 0);
    CRYPTO_BUFFER *buffer = CRYPTO_BUFFER_new(der, (size_t)size, NULL);
    CHECK(buffer != NULL);
    OPENSSL_free(der);
    return buffer;
}

struct pki *pki_make(const struct pki *issuer, struct pki_options options)
{
    static long serial = 0x1000;
    struct pki *pki = calloc(1, sizeof(*pki));
    CHECK(pki != NULL);
    pki->key = make_key(options.key);
    pki->x509 = X509_new();
    CHECK(pki->x509 != NULL);
    CHECK(X509_set_version(pki->x509, X509_VERSION_3));
    ASN1_INTEGER *number = ASN1_INTEGER_new();
    CHECK(number != NULL);
    CHECK(ASN1_INTEGER_set(number, ++serial));
    CHECK(X509_set_serialNumber(pki->x509, number));
    ASN1_INTEGER_free(number);
    set_names(pki->x509, issuer, options.cn);
    set_dates(pki->x509, &options);
    CHECK(X509_set_pubkey(pki->x509, pki->key));
    add_constraints(pki->x509, &options);
    add_names(pki->x509, &options);
    add_usage(pki->x509, options.usage);
    add_permitted(pki->x509, options.permitted);
    add_points(pki->x509, &options);
    if (options.no_crl_sign) /* digitalSignature, keyCertSign */
        add_extension(pki->x509, NID_key_usage, true, SLICE("\x03\x02\x02\x84"));
    if (options.has_unknown_critical)
        add_extension(pki->x509, NID_netscape_comment, true, SLICE("\x16\x01x"));
    sign(pki->x509, issuer == NULL ? pki->key : issuer->key, &options);
    pki->buffer = buffer_of(pki->x509);
    return pki;
}

void pki_free(struct pki *pki)
{
    if (pki == NULL)
        return;
    X509_free(pki->x509);
    EVP_PKEY_free(pki->key);
    CRYPTO_BUFFER_free(pki->buffer);
    free(pki);
}

STACK_OF(CRYPTO_BUFFER) * pki_chain(const struct pki *first, ...)
{
    STACK_OF(CRYPTO_BUFFER) *chain = sk_CRYPTO_BUFFER_new_null();
    va_list list;
    CHECK(chain != NULL);
    va_start(list, first);
    for (const struct pki *each = first; each != NULL; each = va_arg(list, const struct pki *)) {
        CHECK(CRYPTO_BUFFER_up_ref(each->buffer));
        CHECK(sk_CRYPTO_BUFFER_push(chain, each->buffer));
    }
    va_end(list);
    return chain;
}

struct tls_roots *pki_roots(const struct pki *first, ...)
{
    static char text[1 << 16];
    char why[TLS_WHY_MAX];
    struct tls_roots *roots;
    va_list list;
    text[0] = '\0';
    va_start(list, first);
    for (const struct pki *each = first; each != NULL; each = va_arg(list, const struct pki *))
        pki_pem_certificate(each, text, sizeof(text));
    va_end(list);
    CHECK(tls_roots_of(slice_of_string(text), "test", &roots, why) == 0);
    CHECK(why[0] == '\0');
    return roots;
}

/* ---- files ---- */

void pki_directory_make(char path[static PKI_PATH_BYTES])
{
    const char *base = getenv("TMPDIR");
    snprintf(path, PKI_PATH_BYTES, "%s/ringpost-pki.XXXXXX", base == NULL ? "/tmp" : base);
    CHECK(mkdtemp(path) != NULL);
}

void pki_directory_remove(const char *path)
{
    DIR *directory = opendir(path);
    CHECK(directory != NULL);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        if (entry->d_name[0] != '.')
            CHECK(unlinkat(dirfd(directory), entry->d_name, 0) == 0);
    closedir(directory);
    CHECK(rmdir(path) == 0);
}

const char *pki_file(const char *directory, const char *name, const char *text, unsigned mode)
{
    static char paths[4][2 * PKI_PATH_BYTES];
    static unsigned next;
    char *path = paths[next++ % ARRAY_COUNT(paths)];
    snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(fd >= 0);
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CHECK(fchmod(fd, mode) == 0);
    close(fd);
    return path;
}

static void append_pem(const char *label, struct slice der, char *text, size_t capacity)
{
    enum { LINE_BYTES = 48, LINE_CHARACTERS = 64 };
    size_t used = strlen(text);
    used += (size_t)snprintf(text + used, capacity - used, "-----BEGIN %s-----\n", label);
    for (size_t i = 0; i < der.size; i += LINE_BYTES) {
        char line[LINE_CHARACTERS + 1];
        struct slice part = slice_part(der, i, LINE_BYTES);
        EVP_EncodeBlock((uint8_t *)line, part.data, part.size);
        CHECK(used < capacity);
        used += (size_t)snprintf(text + used, capacity - used, "%s\n", line);
    }
    CHECK(used < capacity);
    used += (size_t)snprintf(text + used, capacity - used, "-----END %s-----\n", label);
    CHECK(used < capacity);
}

void pki_pem_certificate(const struct pki *pki, char *text, size_t capacity)
{
    append_pem("CERTIFICATE",
               slice_of(CRYPTO_BUFFER_data(pki->buffer), CRYPTO_BUFFER_len(pki->buffer)), text,
               capacity);
}

void pki_pem_key(const struct pki *pki, enum pki_key_form form, char *text, size_t capacity)
{
    CBB all;
    uint8_t *der;
    size_t size;
    const char *label = "PRIVATE KEY";
    CHECK(CBB_init(&all, 256));
    if (form == PKI_PKCS8) {
        CHECK(EVP_marshal_private_key(&all, pki->key));
    } else if (EVP_PKEY_id(pki->key) == EVP_PKEY_RSA) {
        label = "RSA PRIVATE KEY";
        CHECK(RSA_marshal_private_key(&all, EVP_PKEY_get0_RSA(pki->key)));
    } else {
        label = "EC PRIVATE KEY";
        CHECK(EC_KEY_marshal_private_key(&all, EVP_PKEY_get0_EC_KEY(pki->key), 0));
    }
    CHECK(CBB_finish(&all, &der, &size));
    append_pem(label, slice_of(der, size), text, capacity);
    OPENSSL_free(der);
}
