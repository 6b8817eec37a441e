/*
 * tlsrpt_mail.h - a report about TLS as mail (RFC 8460 section 5.3): multipart/report, signed
 *
 * Pure, but for the memory that it is made in.
 */
#ifndef RINGPOST_MTA_TLSRPT_MAIL_H
#define RINGPOST_MTA_TLSRPT_MAIL_H

#include "mta/dkim_sign.h"

enum { TLSRPT_SIGNATURES_MAX = 4 };

struct tlsrpt_mail {
    const char *from;      /* mailbox */
    const char *to;        /* mailbox */
    const char *submitter; /* whose report it is: a domain */
    const char *domain;    /* that it is about */
    const char *id;        /* of the report */
    uint32_t day;
    int64_t now_us;
    uint64_t random;     /* for the boundary */
    struct slice packed; /* the report, gzipped */
    const struct dkim_key *keys;
    unsigned keys_count;
};

/* malloc'd, NULL: no memory. *size: its octets; *signatures: of these keys that are the sender's
 * (of its domain, or one above), how many have signed. */
char *tlsrpt_mail_make(const struct tlsrpt_mail *mail, size_t *size, unsigned *signatures);

#endif
