/*
 * fuzz_crl.c - whatever may be served in place of a list of revoked certificates
 *
 * The issuer's key is known to nobody any more, so no input but the seeds is a list that is taken;
 * what comes before the signature, and the seeds themselves, go through all of it. Where the seeds
 * are taken (they are for this URL), they must answer for any serial number.
 */
#include "core/check.h"
#include "tls/tls_crl.h"
#include "tls/tls_pem.h"

static const char issuer[] = "-----BEGIN CERTIFICATE-----\n"
                             "MIIBhTCCASugAwIBAgIURvcCdY39UZrz+g5IbDuAZ6/5d0owCgYIKoZIzj0EAwIw\n"
                             "EDEOMAwGA1UEAwwFTGlzdHMwHhcNMjYxMTI2MjExMjQwWhcNNDYxMTIxMjExMjQw\n"
                             "WjAQMQ4wDAYDVQQDDAVMaXN0czBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABGKa\n"
                             "I03zOm9T5tQvhYyoFQkmEB4uXHxPGXF5JsFDjA8XVmnTcukVvfda4oXmSsk9iiQz\n"
                             "rr/BUDpkPJ3l4UPbay+jYzBhMB0GA1UdDgQWBBQTVmakc0JpWhNXv392vsenpxJg\n"
                             "XTAfBgNVHSMEGDAWgBQTVmakc0JpWhNXv392vsenpxJgXTAPBgNVHRMBAf8EBTAD\n"
                             "AQH/MA4GA1UdDwEB/wQEAwIBBjAKBggqhkjOPQQDAgNIADBFAiBtBw62iWvK+GGO\n"
                             "LeirA46bCxe6B1ctlxuXzyqonQ77mwIhANCm1ru0oiGCyCXRL8zl/en2a1SAPV29\n"
                             "PquCqkYmDqaH\n"
                             "-----END CERTIFICATE-----\n";

static const char url[] = "http://crl.example/a.crl";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct slice issuer_once(void)
{
    static struct tls_pem pem;
    struct tls_pem_cursor cursor = tls_pem_begin(slice_of_string(issuer));
    if (pem.der == NULL)
        CHECK(tls_pem_next(&cursor, &pem) == 1);
    return slice_of(pem.der, pem.der_size);
}

static void ask(struct tls_crl *list)
{
    struct tls_crls *set;
    struct tls_crl_questions questions = { .count = 1 };
    struct tls_crl_question *question = &questions.at[0];
    char why[TLS_WHY_MAX];
    CHECK(tls_crl_count(list) <= TLS_CRL_ENTRIES_MAX);
    question->count = 1;
    memcpy(question->ids[0], tls_crl_list_id(list), TLS_DIGEST_BYTES);
    CHECK(tls_crls_make(&list, 1, &set) == 0);
    for (unsigned serial = 0; serial < 8; serial++) {
        question->serial[0] = 1;
        question->serial[1] = (uint8_t)serial;
        CHECK(tls_crls_status(set, &questions, tls_crl_this_update(list), why) != TLS_CRL_NONE);
    }
    tls_crls_drop(set);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct tls_crl *list;
    char why[TLS_WHY_MAX];
    int r = tls_crl_read(slice_of(data, size), url, issuer_once(), &list, why);
    CHECK(ERR_peek_error() == 0);
    CHECK((r < 0) == (why[0] != '\0'));
    for (const char *c = why; *c != '\0'; c++)
        CHECK(*c >= ' ' && *c < 0x7f);
    if (r == 0) {
        ask(list);
        tls_crl_drop(list);
    }
    return 0;
}
