/*
 * tlsrpt_txt.h - where a domain wants its reports: the record at _smtp._tls.DOMAIN (RFC 8460 3)
 *
 * Pure, and strict: what is not as section 3 has it is no record, or a malformed one.
 */
#ifndef RINGPOST_MTA_TLSRPT_TXT_H
#define RINGPOST_MTA_TLSRPT_TXT_H

#include "core/slice.h"

enum {
    TLSRPT_URIS_MAX = 8, /* of a record; further ones are left out */
    TLSRPT_URI_MAX = 512,
};

enum tlsrpt_scheme { TLSRPT_MAILTO, TLSRPT_HTTPS };

struct tlsrpt_uri {
    enum tlsrpt_scheme scheme;
    char text[TLSRPT_URI_MAX]; /* as it stands there */
};

struct tlsrpt_uris {
    unsigned count; /* of uris; of other schemes, or too long, there are none */
    struct tlsrpt_uri uris[TLSRPT_URIS_MAX];
};

enum tlsrpt_txt {
    TLSRPT_TXT_OTHER,   /* not one of TLSRPT */
    TLSRPT_TXT_INVALID, /* one, and malformed */
    TLSRPT_TXT_VALID,
};
/* rdata of a TXT record. uris: when VALID. */
enum tlsrpt_txt tlsrpt_txt_read(struct slice rdata, struct tlsrpt_uris *uris);

/* The mailbox of a mailto: URI (RFC 6068), decoded; what else it asks for is left out. False: it
 * is not exactly one, or no ASCII. */
bool tlsrpt_mailbox(const char *uri, char mailbox[static TLSRPT_URI_MAX]);

#endif
