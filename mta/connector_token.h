/*
 * connector_token.h - why a connector refuses: one enum, and one table of all that follows from it
 *
 * Reply, enhanced status, the word in logs, metrics and replies come from the same row, so that
 * what the client hears is what the operator finds. Where several apply, the one that stands first
 * here counts (CONNECTORS 6.2).
 */
#ifndef RINGPOST_MTA_CONNECTOR_TOKEN_H
#define RINGPOST_MTA_CONNECTOR_TOKEN_H

#include "core/slice.h"
#include "mta/smtp_reply.h"

enum connector_token {
    TOKEN_NONE, /* nothing stands in the way */
    TOKEN_TLS_REQUIRED,
    TOKEN_TLS_TOO_WEAK,
    TOKEN_CERT_NONE,
    TOKEN_CERT_UNTRUSTED,
    TOKEN_CERT_EXPIRED,
    TOKEN_CERT_USAGE,
    TOKEN_CERT_NAME,
    TOKEN_CERT_PIN,
    TOKEN_CERT_REVOKED,
    TOKEN_REVOCATION_UNKNOWN,
    TOKEN_ADDRESS_MISMATCH,
    TOKEN_RELAY_DENIED,
    TOKEN_OWN_SENDER,
    TOKEN_BLOCKED,
    TOKEN_RATE,
    TOKEN_CONNECTIONS,
    TOKEN_RECIPIENTS,
    TOKEN_SIZE,
    TOKENS
};

/* How it is refused: for good, or so that the client tries again. */
enum connector_class { CONNECTOR_REJECT, CONNECTOR_DEFER };

/* Whose words: ours, or those that Exchange Online uses. */
enum connector_replies { CONNECTOR_REPLIES_PLAIN, CONNECTOR_REPLIES_EXCHANGE };

struct connector_reply {
    uint16_t code;
    struct smtp_enhanced enhanced;
    const char *text;
};

/* "cert-name": for replies, logs, metrics. "" of TOKEN_NONE. */
const char *connector_token_name(enum connector_token token);

/* Not for TOKEN_NONE. A token that has one class only answers by that one: a wish to reject what
 * cannot be judged is a deferral. */
const struct connector_reply *connector_reply(enum connector_token token,
                                              enum connector_class class,
                                              enum connector_replies replies);

#endif
