/*
 * probe.h - a next hop, met as a delivery meets it, and everything that was seen on the way
 *
 * Runs to its end on the calling thread, on a ring of its own: the outbound session (smtp_client.h)
 * and its TLS, with the policy of a route. EHLO, STARTTLS, EHLO, QUIT; a message is only sent where
 * the options have one, once.
 */
#ifndef RINGPOST_MTA_PROBE_H
#define RINGPOST_MTA_PROBE_H

#include <jansson.h>

#include "core/net.h"
#include "mta/route.h"

enum { PROBE_ADDRESSES_MAX = 16, PROBE_NAMES_MAX = 32, PROBE_RECIPIENTS_MAX = 16 };

struct probe_mail {
    struct slice sender;
    const struct slice *recipients;
    unsigned recipients_count; /* 1 to PROBE_RECIPIENTS_MAX */
    struct slice content;      /* ASCII, lines that end in CRLF */
};

struct probe_options {
    const struct net_address *addresses; /* with ports; tried in order, until one is good */
    unsigned addresses_count;
    const char *host;        /* for SNI and for words */
    const char *server_name; /* SNI; NULL: host, where that is a name */
    bool is_name;            /* host is one, and no address */
    const char *helo_name;   /* ours */
    bool is_lmtp;
    bool is_implicit;
    enum route_clear clear;
    const struct tls_client_policy *policy; /* sealed with the names below */
    const struct slice *names;              /* wanted in the certificate */
    unsigned names_count;
    uint32_t timeout_ms;           /* of each step */
    const struct probe_mail *mail; /* NULL: none is sent */
};

/* What was seen, as one object; ok in it says whether the level is met. NULL: said why on standard
 * error (no io_uring, no memory). */
json_t *probe_run(const struct probe_options *options);

#endif
