/*
 * tls_crl.c - certificate revocation lists: what is read of them, and how they are asked
 *
 * BoringSSL parses a list once, to verify the signature on it; what is kept comes from a walk over
 * the same bytes: serial numbers in fixed places, sorted. The walk also reads the extensions, of
 * lists (issuing distribution point) and of certificates (distribution points), so that nothing of
 * the library's own matching of names takes part.
 *
 * Surprise: the distribution point that a list names must be the URL that it was fetched from, byte
 * by byte (RFC 5280 section 6.3.3 b 2): a CA with many lists would otherwise be asked the wrong
 * one.
 */
#include "tls/tls_crl.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/check.h"
#include "tls/tls_pem.h"

enum {
    SCOPE_USERS = 1,
    SCOPE_CAS = 2,
    ASKED_EVERY_S = 600, /* the note of it is written no more often */
    SERIAL_OCTETS_MAX = TLS_CRL_SERIAL_BYTES - 1,
    TAG_URL = CBS_ASN1_CONTEXT_SPECIFIC | 6,
    TAG_0_OF = CBS_ASN1_CONTEXT_SPECIFIC | CBS_ASN1_CONSTRUCTED | 0,
    TAG_1 = CBS_ASN1_CONTEXT_SPECIFIC | 1,
    TAG_2 = CBS_ASN1_CONTEXT_SPECIFIC | 2,
    TAG_3 = CBS_ASN1_CONTEXT_SPECIFIC | 3,
    TAG_4 = CBS_ASN1_CONTEXT_SPECIFIC | 4,
    TAG_5 = CBS_ASN1_CONTEXT_SPECIFIC | 5,
};

struct tls_crl {
    atomic_uint references;
    _Atomic int64_t asked_at;
    uint8_t id[TLS_DIGEST_BYTES];
    int64_t this_update;
    int64_t next_update;
    unsigned scope;
    unsigned count;
    uint8_t (*serials)[TLS_CRL_SERIAL_BYTES]; /* sorted */
    char issuer[TLS_SUBJECT_MAX];
};

struct tls_crls {
    atomic_uint references;
    unsigned count;
    struct tls_crl *lists[]; /* by id */
};

const char *tls_crl_status_name(enum tls_crl_status status)
{
    static const char *const names[TLS_CRL_STATUSES] = {
        [TLS_CRL_NONE] = "",
        [TLS_CRL_GOOD] = "good",
        [TLS_CRL_UNKNOWN] = "unknown",
        [TLS_CRL_REVOKED] = "revoked",
    };
    CHECK(status < TLS_CRL_STATUSES);
    return names[status];
}

static struct slice slice_of_cbs(const CBS *cbs)
{
    return slice_of(CBS_data(cbs), CBS_len(cbs));
}

/* ---- serial numbers ---- */

/* The content of an INTEGER, without octets that say nothing. False: too long. */
static bool serial_take(struct slice content, uint8_t serial[static TLS_CRL_SERIAL_BYTES])
{
    while (content.size > 1 && content.data[0] == 0 && (content.data[1] & 0x80) == 0)
        content = slice_from(content, 1);
    memset(serial, 0, TLS_CRL_SERIAL_BYTES);
    if (content.size == 0 || content.size > SERIAL_OCTETS_MAX)
        return false;
    serial[0] = (uint8_t)content.size;
    memcpy(serial + 1, content.data, content.size);
    return true;
}

static int serial_compare(const void *a, const void *b)
{
    return memcmp(a, b, TLS_CRL_SERIAL_BYTES);
}

static void serial_of(const X509 *x509, uint8_t serial[static TLS_CRL_SERIAL_BYTES])
{
    uint8_t *der = NULL;
    CBS in, content;
    int size = i2d_ASN1_INTEGER(X509_get0_serialNumber(x509), &der);
    memset(serial, 0, TLS_CRL_SERIAL_BYTES);
    if (size < 0) {
        ERR_clear_error();
        return;
    }
    CBS_init(&in, der, (size_t)size);
    if (CBS_get_asn1(&in, &content, CBS_ASN1_INTEGER))
        (void)serial_take(slice_of_cbs(&content), serial);
    OPENSSL_free(der);
}

/* ---- where a certificate's lists are ---- */

bool tls_crl_url_usable(struct slice url)
{
    size_t scheme = 0;
    if (url.size > 7 && memcmp(url.data, "http://", 7) == 0)
        scheme = 7;
    else if (url.size > 8 && memcmp(url.data, "https://", 8) == 0)
        scheme = 8;
    if (scheme == 0 || url.size >= TLS_CRL_URL_MAX)
        return false;
    bool in_host = true;
    for (size_t i = scheme; i < url.size; i++) {
        uint8_t c = url.data[i];
        in_host = in_host && c != '/' && c != '?' && c != '#';
        if (c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || c == '<' || c == '>' ||
            (in_host && c == '@'))
            return false;
    }
    return true;
}

/* The GeneralNames of a distribution point, [0] { [0] fullName }. */
static bool names_of_point(CBS *point, CBS *names)
{
    CBS name;
    int has_name;
    return CBS_get_optional_asn1(point, &name, &has_name, TAG_0_OF) && has_name &&
           CBS_get_asn1(&name, names, TAG_0_OF);
}

/* The next one that can be asked for: points with reasons or with an issuer of their own are for
 * indirect lists, or such that do not tell all. */
static bool next_url(CBS *points, CBS *names, struct slice *url)
{
    for (;;) {
        unsigned tag;
        CBS value, point;
        while (CBS_len(names) > 0 && CBS_get_any_asn1(names, &value, &tag)) {
            *url = slice_of_cbs(&value);
            if (tag == TAG_URL && tls_crl_url_usable(*url))
                return true;
        }
        if (CBS_len(points) == 0 || !CBS_get_asn1(points, &point, CBS_ASN1_SEQUENCE))
            return false;
        if (!names_of_point(&point, names) || CBS_len(&point) > 0)
            CBS_init(names, NULL, 0);
    }
}

/* False: it says nothing of lists. points: what it says. */
static bool points_of(X509 *x509, CBS *points)
{
    int index = X509_get_ext_by_NID(x509, NID_crl_distribution_points, -1);
    if (index < 0)
        return false;
    const ASN1_STRING *value =
        (const ASN1_STRING *)X509_EXTENSION_get_data(X509_get_ext(x509, index));
    CBS in;
    CBS_init(&in, ASN1_STRING_get0_data(value), (size_t)ASN1_STRING_length(value));
    if (!CBS_get_asn1(&in, points, CBS_ASN1_SEQUENCE))
        CBS_init(points, NULL, 0);
    return true;
}

bool tls_crl_url(X509 *x509, unsigned index, char url[static TLS_CRL_URL_MAX])
{
    CBS points, names;
    struct slice found;
    CBS_init(&names, NULL, 0);
    if (!points_of(x509, &points))
        return false;
    for (unsigned i = 0; i < TLS_CRL_POINTERS_MAX && next_url(&points, &names, &found); i++) {
        if (i < index)
            continue;
        memcpy(url, found.data, found.size);
        url[found.size] = '\0';
        return true;
    }
    return false;
}

static void id_of(const char *url, const uint8_t issuer[static TLS_DIGEST_BYTES],
                  uint8_t id[static TLS_DIGEST_BYTES])
{
    SHA256_CTX hash;
    SHA256_Init(&hash);
    SHA256_Update(&hash, issuer, TLS_DIGEST_BYTES);
    SHA256_Update(&hash, url, strlen(url));
    SHA256_Final(id, &hash);
}

void tls_crl_id(const char *url, struct slice issuer, uint8_t id[static TLS_DIGEST_BYTES])
{
    uint8_t digest[TLS_DIGEST_BYTES];
    SHA256(issuer.data, issuer.size, digest);
    id_of(url, digest, id);
}

void tls_crl_question(X509 *x509, X509 *issuer, struct tls_crl_question *question)
{
    CBS points;
    char url[TLS_CRL_URL_MAX];
    uint8_t digest[TLS_DIGEST_BYTES];
    unsigned size = TLS_DIGEST_BYTES;
    int64_t from, until;
    *question = (struct tls_crl_question) { .is_ca = X509_check_ca(x509) != 0 };
    serial_of(x509, question->serial);
    if (!points_of(x509, &points))
        question->needs_none = tls_certificate_dates(x509, &from, &until) == 0 &&
                               until - from <= TLS_CRL_SHORT_LIVED_S;
    if (!X509_digest(issuer, EVP_sha256(), digest, &size)) {
        ERR_clear_error();
        return;
    }
    while (question->count < TLS_CRL_POINTERS_MAX && tls_crl_url(x509, question->count, url))
        id_of(url, digest, question->ids[question->count++]);
}

struct tls_crl_pointer *tls_crl_pointer_make(const char *url, struct slice issuer)
{
    size_t size = strlen(url);
    CHECK(size < TLS_CRL_URL_MAX);
    struct tls_crl_pointer *pointer = calloc(1, sizeof(*pointer) + issuer.size);
    if (pointer == NULL)
        return NULL;
    memcpy(pointer->url, url, size);
    pointer->issuer_size = issuer.size;
    memcpy(pointer->issuer, issuer.data, issuer.size);
    tls_crl_id(url, issuer, pointer->id);
    return pointer;
}

/* ---- reading a list ---- */

struct reading {
    struct tls_crl *list;
    const char *url;
    CBS entries;    /* empty: none */
    CBS extensions; /* likewise */
    char *why;
};

static int refuse(struct reading *r, int error, const char *words)
{
    tls_why(r->why, "%s", words);
    return error;
}

static int malformed(struct reading *r)
{
    return refuse(r, -EBADMSG, "is no list that can be read");
}

static bool skip_time(CBS *in)
{
    CBS time;
    unsigned tag;
    return CBS_get_any_asn1(in, &time, &tag) &&
           (tag == CBS_ASN1_UTCTIME || tag == CBS_ASN1_GENERALIZEDTIME);
}

/* RFC 5280 section 5.1: TBSCertList, down to where the entries and the extensions are. */
static int open_list(struct reading *r, struct slice der)
{
    CBS in, all, tbs, outer;
    int has_entries, has_extensions;
    CBS_init(&in, der.data, der.size);
    bool ok = CBS_get_asn1(&in, &all, CBS_ASN1_SEQUENCE) && CBS_len(&in) == 0 &&
              CBS_get_asn1(&all, &tbs, CBS_ASN1_SEQUENCE) &&
              CBS_get_optional_asn1(&tbs, NULL, NULL, CBS_ASN1_INTEGER) && /* version */
              CBS_get_asn1(&tbs, NULL, CBS_ASN1_SEQUENCE) &&               /* signature */
              CBS_get_asn1(&tbs, NULL, CBS_ASN1_SEQUENCE) &&               /* issuer */
              skip_time(&tbs);
    if (!ok)
        return malformed(r);
    if (!CBS_peek_asn1_tag(&tbs, CBS_ASN1_UTCTIME) &&
        !CBS_peek_asn1_tag(&tbs, CBS_ASN1_GENERALIZEDTIME))
        return refuse(r, -EBADMSG, "does not say when the next one comes");
    if (!skip_time(&tbs) ||
        !CBS_get_optional_asn1(&tbs, &r->entries, &has_entries, CBS_ASN1_SEQUENCE) ||
        !CBS_get_optional_asn1(&tbs, &outer, &has_extensions, TAG_0_OF) || CBS_len(&tbs) != 0 ||
        (has_extensions &&
         (!CBS_get_asn1(&outer, &r->extensions, CBS_ASN1_SEQUENCE) || CBS_len(&outer) != 0)))
        return malformed(r);
    if (!has_entries)
        CBS_init(&r->entries, NULL, 0);
    if (!has_extensions)
        CBS_init(&r->extensions, NULL, 0);
    return 0;
}

/* DER says TRUE by ff; whatever is not FALSE counts. */
static bool flag_take(CBS *in, unsigned tag, bool *flag)
{
    CBS value;
    int present;
    if (!CBS_get_optional_asn1(in, &value, &present, tag))
        return false;
    *flag = present && CBS_len(&value) == 1 && CBS_data(&value)[0] != 0;
    return !present || CBS_len(&value) == 1;
}

/* nid: NID_undef for what is not known. */
static bool next_extension(CBS *extensions, int *nid, bool *is_critical, CBS *value)
{
    CBS extension, oid;
    if (!CBS_get_asn1(extensions, &extension, CBS_ASN1_SEQUENCE) ||
        !CBS_get_asn1(&extension, &oid, CBS_ASN1_OBJECT) ||
        !flag_take(&extension, CBS_ASN1_BOOLEAN, is_critical) ||
        !CBS_get_asn1(&extension, value, CBS_ASN1_OCTETSTRING) || CBS_len(&extension) != 0)
        return false;
    *nid = OBJ_cbs2nid(&oid);
    return true;
}

static bool names_have(CBS names, const char *url)
{
    CBS value;
    unsigned tag;
    while (CBS_len(&names) > 0 && CBS_get_any_asn1(&names, &value, &tag))
        if (tag == TAG_URL && slice_equal(slice_of_cbs(&value), slice_of_string(url)))
            return true;
    return false;
}

/* RFC 5280 section 5.2.5. */
static int read_scope(struct reading *r, CBS value)
{
    CBS point, name, names;
    int has_name, has_reasons;
    bool users, cas, indirect, attributes;
    if (!CBS_get_asn1(&value, &point, CBS_ASN1_SEQUENCE) || CBS_len(&value) != 0 ||
        !CBS_get_optional_asn1(&point, &name, &has_name, TAG_0_OF) ||
        !flag_take(&point, TAG_1, &users) || !flag_take(&point, TAG_2, &cas) ||
        !CBS_get_optional_asn1(&point, NULL, &has_reasons, TAG_3) ||
        !flag_take(&point, TAG_4, &indirect) || !flag_take(&point, TAG_5, &attributes) ||
        CBS_len(&point) != 0)
        return malformed(r);
    if (indirect)
        return refuse(r, -ENOTSUP, "is an indirect list, for certificates of other issuers");
    if (attributes)
        return refuse(r, -ENOTSUP, "is for attribute certificates only");
    if (has_reasons)
        return refuse(r, -ENOTSUP, "is for some reasons of revocation only");
    if (users && cas)
        return malformed(r);
    if (has_name && (!CBS_get_asn1(&name, &names, TAG_0_OF) || !names_have(names, r->url)))
        return refuse(r, -ENOTSUP,
                      "is for another distribution point than the one it was fetched from");
    r->list->scope = users ? SCOPE_USERS : cas ? SCOPE_CAS : SCOPE_USERS | SCOPE_CAS;
    return 0;
}

static int read_extensions(struct reading *r)
{
    bool has_scope = false;
    while (CBS_len(&r->extensions) > 0) {
        CBS value;
        int nid;
        bool is_critical;
        if (!next_extension(&r->extensions, &nid, &is_critical, &value))
            return malformed(r);
        if (nid == NID_delta_crl)
            return refuse(r, -ENOTSUP, "is a delta, and no whole list");
        if (nid == NID_issuing_distribution_point) {
            if (has_scope)
                return malformed(r);
            int error = read_scope(r, value);
            if (error < 0)
                return error;
            has_scope = true;
        } else if (is_critical && nid != NID_crl_number && nid != NID_authority_key_identifier) {
            return refuse(r, -ENOTSUP, "has a critical extension that is not known here");
        }
    }
    return 0;
}

/* 0: fine. */
static int check_entry_extensions(struct reading *r, CBS *entry)
{
    CBS extensions, value;
    int nid;
    bool is_critical;
    if (CBS_len(entry) == 0)
        return 0;
    if (!CBS_get_asn1(entry, &extensions, CBS_ASN1_SEQUENCE) || CBS_len(entry) != 0)
        return malformed(r);
    while (CBS_len(&extensions) > 0) {
        if (!next_extension(&extensions, &nid, &is_critical, &value))
            return malformed(r);
        if (nid == NID_certificate_issuer)
            return refuse(r, -ENOTSUP, "is an indirect list, for certificates of other issuers");
        if (is_critical && nid != NID_crl_reason && nid != NID_invalidity_date)
            return refuse(r, -ENOTSUP,
                          "has an entry with a critical extension that is not known here");
    }
    return 0;
}

static int count_entries(struct reading *r, size_t *count)
{
    CBS entries = r->entries;
    for (*count = 0; CBS_len(&entries) > 0; ++*count) {
        if (!CBS_get_asn1(&entries, NULL, CBS_ASN1_SEQUENCE))
            return malformed(r);
        if (*count == TLS_CRL_ENTRIES_MAX) {
            tls_why(r->why, "has more than %u entries", TLS_CRL_ENTRIES_MAX);
            return -EFBIG;
        }
    }
    return 0;
}

static int read_entries(struct reading *r)
{
    size_t count;
    int error = count_entries(r, &count);
    if (error < 0)
        return error;
    struct tls_crl *list = r->list;
    list->serials = calloc(MAX(count, 1U), sizeof(list->serials[0]));
    if (list->serials == NULL)
        return refuse(r, -ENOMEM, "cannot be read: no memory");
    while (CBS_len(&r->entries) > 0) {
        CBS entry, serial;
        if (!CBS_get_asn1(&r->entries, &entry, CBS_ASN1_SEQUENCE) ||
            !CBS_get_asn1(&entry, &serial, CBS_ASN1_INTEGER) || !skip_time(&entry) ||
            !serial_take(slice_of_cbs(&serial), list->serials[list->count]))
            return malformed(r);
        if ((error = check_entry_extensions(r, &entry)) < 0)
            return error;
        list->count++;
    }
    CHECK(list->count == count);
    qsort(list->serials, count, sizeof(list->serials[0]), serial_compare);
    return 0;
}

/* ---- who signed it ---- */

static int read_dates(struct reading *r, const X509_CRL *crl)
{
    struct tls_crl *list = r->list;
    if (X509_CRL_get0_nextUpdate(crl) == NULL ||
        tls_certificate_time(X509_CRL_get0_lastUpdate(crl), &list->this_update) < 0 ||
        tls_certificate_time(X509_CRL_get0_nextUpdate(crl), &list->next_update) < 0)
        return refuse(r, -EBADMSG, "has dates that cannot be read");
    return 0;
}

static int check_issuer(struct reading *r, X509_CRL *crl, X509 *issuer)
{
    const X509_ALGOR *algorithm;
    X509_CRL_get0_signature(crl, NULL, &algorithm);
    const char *weak = tls_certificate_weak_algorithm(algorithm);
    char subject[TLS_SUBJECT_MAX];
    tls_certificate_name(X509_get_subject_name(issuer), subject);
    tls_certificate_name(X509_CRL_get_issuer(crl), r->list->issuer);
    if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(issuer)) != 0) {
        tls_why(r->why, "is of %s, and not of %s", r->list->issuer, subject);
        return -EACCES;
    }
    if (weak != NULL)
        return refuse(r, -EACCES, weak);
    if ((X509_get_key_usage(issuer) & KU_CRL_SIGN) == 0) {
        tls_why(r->why, "is of %s, which may not sign lists (key usage)", subject);
        return -EACCES;
    }
    EVP_PKEY *key = X509_get_pubkey(issuer);
    bool signed_by = key != NULL && X509_CRL_verify(crl, key) == 1;
    EVP_PKEY_free(key);
    if (signed_by)
        return 0;
    tls_why(r->why, "has a signature that is not of %s", subject);
    return -EACCES;
}

static int read_list(struct reading *r, struct slice der, struct slice issuer_der)
{
    int error = open_list(r, der);
    if (error == 0)
        error = read_extensions(r);
    if (error == 0)
        error = read_entries(r);
    if (error < 0)
        return error;
    const uint8_t *at = der.data;
    X509_CRL *crl = d2i_X509_CRL(NULL, &at, (long)der.size);
    X509 *issuer = tls_certificate_parse(issuer_der);
    if (crl == NULL)
        error = malformed(r);
    else if (issuer == NULL)
        error = refuse(r, -EACCES, "has an issuer whose certificate cannot be read");
    if (error == 0)
        error = read_dates(r, crl);
    if (error == 0)
        error = check_issuer(r, crl, issuer);
    X509_free(issuer);
    X509_CRL_free(crl);
    ERR_clear_error();
    return error;
}

/* 0, with pem.der to be freed and der the list. */
static int find_der(struct reading *r, struct slice bytes, struct tls_pem *pem, struct slice *der)
{
    *pem = (struct tls_pem) { .line = 0 };
    *der = bytes;
    if (bytes.size > TLS_CRL_BYTES_MAX) {
        tls_why(r->why, "has %zu bytes, more than %u", bytes.size, TLS_CRL_BYTES_MAX);
        return -EFBIG;
    }
    struct slice begins = SLICE("-----BEGIN ");
    if (!slice_equal(slice_part(bytes, 0, begins.size), begins))
        return 0;
    struct tls_pem_cursor cursor = tls_pem_begin(bytes);
    int found = tls_pem_next(&cursor, pem);
    if (found == -ENOMEM)
        return refuse(r, -ENOMEM, "cannot be read: no memory");
    if (found != 1 || !slice_equal(pem->label, SLICE("X509 CRL")))
        return malformed(r);
    *der = slice_of(pem->der, pem->der_size);
    return 0;
}

int tls_crl_read(struct slice bytes, const char *url, struct slice issuer, struct tls_crl **out,
                 char why[static TLS_WHY_MAX])
{
    why[0] = '\0';
    struct reading r = { .url = url, .why = why };
    struct tls_pem pem;
    struct slice der;
    int error = find_der(&r, bytes, &pem, &der);
    struct tls_crl *list = error < 0 ? NULL : calloc(1, sizeof(*list));
    if (error == 0 && list == NULL)
        error = refuse(&r, -ENOMEM, "cannot be read: no memory");
    if (error == 0) {
        atomic_init(&list->references, 1);
        atomic_init(&list->asked_at, 0);
        list->scope = SCOPE_USERS | SCOPE_CAS;
        tls_crl_id(url, issuer, list->id);
        r.list = list;
        error = read_list(&r, der, issuer);
    }
    tls_pem_free(&pem);
    if (error < 0) {
        tls_crl_drop(list);
        return error;
    }
    *out = list;
    return 0;
}

struct tls_crl *tls_crl_use(struct tls_crl *list)
{
    unsigned before = atomic_fetch_add_explicit(&list->references, 1, memory_order_relaxed);
    CHECK(before > 0);
    return list;
}

void tls_crl_drop(struct tls_crl *list)
{
    if (list == NULL)
        return;
    unsigned before = atomic_fetch_sub_explicit(&list->references, 1, memory_order_acq_rel);
    CHECK(before > 0);
    if (before > 1)
        return;
    free(list->serials);
    free(list);
}

const uint8_t *tls_crl_list_id(const struct tls_crl *list)
{
    return list->id;
}

const char *tls_crl_issuer(const struct tls_crl *list)
{
    return list->issuer;
}

int64_t tls_crl_this_update(const struct tls_crl *list)
{
    return list->this_update;
}

int64_t tls_crl_next_update(const struct tls_crl *list)
{
    return list->next_update;
}

unsigned tls_crl_count(const struct tls_crl *list)
{
    return list->count;
}

int64_t tls_crl_asked_at(const struct tls_crl *list)
{
    return atomic_load_explicit(&list->asked_at, memory_order_relaxed);
}

/* ---- sets ---- */

static int list_compare(const void *a, const void *b)
{
    const struct tls_crl *const *x = a;
    const struct tls_crl *const *y = b;
    return memcmp((*x)->id, (*y)->id, TLS_DIGEST_BYTES);
}

int tls_crls_make(struct tls_crl *const *lists, unsigned count, struct tls_crls **out)
{
    CHECK(count <= TLS_CRLS_MAX);
    struct tls_crls *set = calloc(1, sizeof(*set) + count * sizeof(lists[0]));
    if (set == NULL)
        return -ENOMEM;
    atomic_init(&set->references, 1);
    for (; set->count < count; set->count++)
        set->lists[set->count] = tls_crl_use(lists[set->count]);
    qsort(set->lists, count, sizeof(struct tls_crl *), list_compare);
    for (unsigned i = 1; i < count; i++)
        CHECK(list_compare(&set->lists[i - 1], &set->lists[i]) < 0);
    *out = set;
    return 0;
}

struct tls_crls *tls_crls_use(struct tls_crls *set)
{
    unsigned before = atomic_fetch_add_explicit(&set->references, 1, memory_order_relaxed);
    CHECK(before > 0);
    return set;
}

void tls_crls_drop(struct tls_crls *set)
{
    if (set == NULL)
        return;
    unsigned before = atomic_fetch_sub_explicit(&set->references, 1, memory_order_acq_rel);
    CHECK(before > 0);
    if (before > 1)
        return;
    for (unsigned i = 0; i < set->count; i++)
        tls_crl_drop(set->lists[i]);
    free(set);
}

/* ---- asking ---- */

static struct tls_crl *find(const struct tls_crls *set, const uint8_t id[static TLS_DIGEST_BYTES])
{
    unsigned low = 0, high = set == NULL ? 0 : set->count;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        int order = memcmp(id, set->lists[middle]->id, TLS_DIGEST_BYTES);
        if (order == 0)
            return set->lists[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

static void note_asked(struct tls_crl *list, int64_t now)
{
    if (now - tls_crl_asked_at(list) >= ASKED_EVERY_S)
        atomic_store_explicit(&list->asked_at, now, memory_order_relaxed);
}

/* What one list says; words are about the certificate. */
static enum tls_crl_status ask_list(struct tls_crl *list, const struct tls_crl_question *question,
                                    int64_t now, const char **words)
{
    note_asked(list, now);
    *words = "its list is for other kinds of certificates";
    if ((list->scope & (question->is_ca ? SCOPE_CAS : SCOPE_USERS)) == 0)
        return TLS_CRL_UNKNOWN;
    *words = "it is on the list of its issuer";
    if (bsearch(question->serial, list->serials, list->count, sizeof(list->serials[0]),
                serial_compare) != NULL)
        return TLS_CRL_REVOKED; /* also by an old list: who keeps us from a newer one wins nothing
                                 */
    *words = "its list is older than its next update";
    if (now > list->next_update)
        return TLS_CRL_UNKNOWN;
    *words = "its list is of the future";
    return now < list->this_update ? TLS_CRL_UNKNOWN : TLS_CRL_GOOD;
}

static enum tls_crl_status ask(const struct tls_crls *set, const struct tls_crl_question *question,
                               int64_t now, const char **words)
{
    enum tls_crl_status best = TLS_CRL_UNKNOWN;
    const char *said;
    if (question->needs_none)
        return TLS_CRL_GOOD;
    *words = question->count == 0 ? "it points to no list that can be fetched"
                                  : "its list has not been fetched";
    if (question->serial[0] == 0) {
        *words = "its serial number is too long";
        return TLS_CRL_UNKNOWN;
    }
    for (unsigned i = 0; i < question->count; i++) {
        struct tls_crl *list = find(set, question->ids[i]);
        if (list == NULL)
            continue;
        enum tls_crl_status status = ask_list(list, question, now, &said);
        if (status == TLS_CRL_GOOD)
            best = TLS_CRL_GOOD;
        else if (best != TLS_CRL_GOOD)
            *words = said;
        if (status == TLS_CRL_REVOKED) {
            *words = said;
            return TLS_CRL_REVOKED;
        }
    }
    return best;
}

enum tls_crl_status tls_crls_status(const struct tls_crls *set,
                                    const struct tls_crl_questions *questions, int64_t now_seconds,
                                    char why[static TLS_WHY_MAX])
{
    enum tls_crl_status worst = questions->count == 0 ? TLS_CRL_NONE : TLS_CRL_GOOD;
    why[0] = '\0';
    for (unsigned i = 0; i < questions->count && worst < TLS_CRL_REVOKED; i++) {
        const char *words = "";
        enum tls_crl_status status = ask(set, &questions->at[i], now_seconds, &words);
        if (status <= worst)
            continue;
        worst = status;
        tls_why(why, "certificate %u of %u %s: %s", i + 1, questions->count + 1U,
                status == TLS_CRL_REVOKED ? "is revoked" : "cannot be looked up", words);
    }
    if (questions->is_longer && worst < TLS_CRL_UNKNOWN) {
        worst = TLS_CRL_UNKNOWN;
        tls_why(why, "the chain is too long to be looked up");
    }
    return worst;
}
