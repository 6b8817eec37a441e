/*
 * pki_crl.h - lists of revoked certificates for tests: right ones, and wrong in each way there is
 */
#ifndef RINGPOST_TESTS_TLS_PKI_CRL_H
#define RINGPOST_TESTS_TLS_PKI_CRL_H

#include "tests/tls/pki.h"
#include "tls/tls_crl.h"

enum { PKI_REVOKED_MAX = 4 };

/* All zero: an empty list, from a day before PKI_NOW until a week after it. */
struct pki_crl_options {
    const struct pki *revoked[PKI_REVOKED_MAX];
    unsigned many; /* that many more entries, of serial numbers that no certificate here has */
    int64_t this_update;
    int64_t next_update;      /* -1: none */
    const struct pki *signer; /* whose key signs it; NULL: the issuer's */
    bool sha1;
    /* the issuing distribution point */
    const char *point;
    bool users, cas, reasons, indirect, attributes;
    /* extensions of the list, and of its first entry */
    bool delta, unknown_critical;
    bool entry_issuer, entry_unknown_critical;
};

/* DER, to be freed by OPENSSL_free. */
struct slice pki_crl_der(const struct pki *issuer, const struct pki_crl_options *options);
/* A list that must be fine. */
struct tls_crl *pki_crl(const struct pki *issuer, const char *url,
                        const struct pki_crl_options *options);
struct slice pki_der(const struct pki *pki);

#endif
