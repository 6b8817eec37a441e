/*
 * host_policy.h - what a host must show to get a mail: the strictest of all that govern it
 *
 * The connector says a least; rules and the floor that queued mail has on record raise it, and so
 * do policies from outside: DANE (RFC 7672), MTA-STS (RFC 8461), REQUIRETLS (RFC 8689). What is
 * learned from outside raises, and never lowers (CONNECTORS 8.4). The sender may say that a message
 * is better delivered than protected (TLS-Required: no): that takes policies from outside off, and
 * nothing else.
 *
 * Pure. Whoever asks DNS and fetches policies fills the facts in before there is a connection; the
 * result goes with it. Floor memory is asked when the connection is there (mta/link_floor.c).
 */
#ifndef RINGPOST_MTA_HOST_POLICY_H
#define RINGPOST_MTA_HOST_POLICY_H

#include "mta/outbound_token.h"
#include "mta/route.h"

/* What DNS says of a host's TLSA records. */
enum host_dane {
    HOST_DANE_OFF,      /* not asked for: dane = none, no TLS, or no validation */
    HOST_DANE_INSECURE, /* its MX or address records are not signed: there is nothing to ask for */
    HOST_DANE_ABSENT,   /* signed, and none are there; or those that are there are not signed */
    HOST_DANE_USABLE,
    HOST_DANE_UNUSABLE, /* all are of kinds that SMTP does not use */
    HOST_DANE_BAD,      /* malformed, and none that is usable besides */
    HOST_DANE_BOGUS,    /* could not be asked, or validation failed: whatever stands there */
    HOST_DANES,
};

/* What the policy of the recipient's domain says; NONE: there is none, or it is not looked at. */
enum host_sts { HOST_STS_NONE, HOST_STS_TESTING, HOST_STS_ENFORCE };

/* That had a say, as a set of bits. */
enum host_governor {
    GOVERNED_BY_CONNECTOR = 1 << 0,
    GOVERNED_BY_RULE = 1 << 1,
    GOVERNED_BY_RECORD = 1 << 2, /* the floor that queued mail has on record */
    GOVERNED_BY_DANE = 1 << 3,
    GOVERNED_BY_STS = 1 << 4,
    GOVERNED_BY_REQUIRETLS = 1 << 5,
    GOVERNED_BY_MEMORY = 1 << 6,
    GOVERNORS = 7,
};

/* Of the message. */
enum host_message {
    MESSAGE_REQUIRETLS = 1 << 0,
    MESSAGE_TLS_NOT_REQUIRED = 1 << 1, /* TLS-Required: no; REQUIRETLS wins over it */
};

struct host_policy_facts {
    enum tls_level connector; /* its floor (route_floor) */
    enum tls_level floor;     /* what rules or the record demand; less than the connector's: none */
    bool floor_recorded;      /* by record; else by rule */
    enum dane_mode dane_mode;
    enum host_dane dane;
    enum host_sts sts;
    bool sts_lists;   /* the policy lists this MX host */
    bool mx_secure;   /* the MX answer was validated, or the operator named the host */
    unsigned message; /* enum host_message */
};

struct host_policy {
    enum outbound_token token; /* not NONE: this host must not be used; another one may */
    enum tls_level level; /* of the session: what the certificate must show for the connector */
    bool dane;            /* and besides, it must fit a TLSA record */
    bool sts;             /* and besides, bear the MX host's name and have a public chain */
    bool requiretls;      /* and REQUIRETLS must be offered under TLS */
    bool no_memory;       /* what is remembered of the host does not count */
    unsigned governors;   /* enum host_governor */
    enum outbound_token reported; /* by MTA-STS in testing: to be told, and nothing follows */
};

struct host_policy host_policy(const struct host_policy_facts *facts);

enum { HOST_GOVERNORS_TEXT_MAX = 80 };
/* "connector,dane" */
void host_governors_text(unsigned governors, char out[static HOST_GOVERNORS_TEXT_MAX]);
/* "usable", "insecure", ... */
const char *host_dane_name(enum host_dane dane);

#endif
