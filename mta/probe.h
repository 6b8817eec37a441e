/*
 * probe.h - a next hop, met as a delivery meets it, and everything that was seen on the way
 *
 * Runs to its end on the calling thread, on a ring of its own: the outbound session (smtp_client.h)
 * and its TLS, with the policy of a route. No message is sent: EHLO, STARTTLS, EHLO, QUIT.
 */
#ifndef RINGPOST_MTA_PROBE_H
#define RINGPOST_MTA_PROBE_H

#include <jansson.h>

#include "core/net.h"
#include "mta/route.h"

enum { PROBE_ADDRESSES_MAX = 16, PROBE_NAMES_MAX = 32 };

struct probe_options {
    const struct net_address *addresses; /* with ports; tried in order, until one is good */
    unsigned addresses_count;
    const char *host;      /* for SNI and for words */
    bool is_name;          /* host is one, and no address */
    const char *helo_name; /* ours */
    bool is_lmtp;
    bool is_implicit;
    enum route_clear clear;
    const struct tls_client_policy *policy; /* sealed with the names below */
    const struct slice *names;              /* wanted in the certificate */
    unsigned names_count;
    uint32_t timeout_ms; /* of each step */
};

/* What was seen, as one object; ok in it says whether the level is met. NULL: said why on standard
 * error (no io_uring, no memory). */
json_t *probe_run(const struct probe_options *options);

#endif
