/*
 * outbound_token.h - why mail does not go to a host: one enum, and one table of all that follows
 *
 * The word in logs, metrics and reports, the enhanced status while it is tried again and when its
 * time is up, and what a TLS report (RFC 8460) calls it come from the same row, so that what the
 * sender hears is what the operator finds (CONNECTORS 9).
 */
#ifndef RINGPOST_MTA_OUTBOUND_TOKEN_H
#define RINGPOST_MTA_OUTBOUND_TOKEN_H

#include "core/metrics.h"
#include "mta/connector_token.h"
#include "mta/smtp_reply.h"

enum outbound_token {
    FAULT_NONE,
    FAULT_STARTTLS_NONE,
    FAULT_STARTTLS_REFUSED,
    FAULT_HANDSHAKE,
    FAULT_TOO_WEAK,
    FAULT_CHAIN,
    FAULT_EXPIRED,
    FAULT_NAME,
    FAULT_PIN,
    FAULT_REVOKED,
    FAULT_REVOCATION_UNKNOWN,
    FAULT_TLSA,
    FAULT_TLSA_BAD,
    FAULT_DNSSEC,
    FAULT_DANE_REQUIRED,
    FAULT_STS_MX,
    FAULT_STS_CERT,
    FAULT_STS_FETCH,  /* recorded, and nothing follows */
    FAULT_STS_POLICY, /* likewise */
    FAULT_MEMORY,
    FAULT_REQUIRETLS,
    FAULT_PEER_DEMANDS_TLS,
    FAULT_CLIENT_CERT, /* where it says so by a reply the status is the peer's own */
    FAULT_CONNECT,
    FAULT_CONFIG,
    FAULT_SIZE,
    FAULT_LOOP,
    OUTBOUND_TOKENS
};

struct outbound_token_row {
    const char *name;            /* "starttls-none"; "" of FAULT_NONE */
    struct smtp_enhanced retry;  /* while it is tried again; klass 0: it is not */
    struct smtp_enhanced expiry; /* when it bounces; klass 0: it does not */
    const char *report;          /* result type of a TLS report; "": it is not reported there */
    /* What Exchange Online writes, the class aside, which is that of the other two. */
    struct smtp_enhanced exchange;      /* klass 0: nothing of the kind */
    struct smtp_enhanced exchange_dane; /* the same where DANE governs; klass 0: as above */
    const char *words;                  /* for people */
};

const struct outbound_token_row *outbound_token_row(enum outbound_token token);
const char *outbound_token_name(enum outbound_token token);

/* The status that follows while it is tried again (the one of a token that is not: when it
 * bounces), or when its time is up; in the words of Exchange Online where those are wanted and
 * there are some. dane: DANE governs the host. */
struct smtp_enhanced outbound_token_status(enum outbound_token token, bool over,
                                           enum connector_replies replies, bool dane);

/* Of a host that had asked for a certificate of ours: the reply is about that one. 5.7.51 is what
 * Exchange Online and ringpost itself (replies = exchange) say then; others name it in words. */
bool outbound_reply_is_client_cert(struct smtp_enhanced status, struct slice text);

/* Hosts that did not get mail, by token, as a part of deliver_metrics. */
struct outbound_token_numbers {
    uint64_t hosts[OUTBOUND_TOKENS];
};
/* Rows with the names of tokens, offsets in struct outbound_token_numbers. */
extern const struct metric outbound_token_metrics[];
extern const unsigned outbound_token_metrics_count;

#endif
