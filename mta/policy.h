/*
 * policy.h - who may send through us, and to whom
 *
 * Pure decisions over a configuration generation and facts of the session. Nobody is trusted for
 * being on loopback: only what the file lists counts.
 */
#ifndef RINGPOST_MTA_POLICY_H
#define RINGPOST_MTA_POLICY_H

#include "core/net.h"
#include "core/slice.h"

struct config;
struct config_listener;

enum policy_relay {
    POLICY_RELAY_DOMAIN,     /* yes: the recipient's domain is one of relay { domains } */
    POLICY_RELAY_POSTMASTER, /* yes: <postmaster> without domain (RFC 5321 4.5.1) */
    POLICY_RELAY_NETWORK,    /* yes: the client is in relay { networks }, the listener lets it */
    POLICY_RELAY_DENIED,     /* no: 550 5.7.1 */
};

struct policy_facts {
    const struct config *config;
    const struct config_listener *listener;
    const struct net_address *client; /* behind a trusted proxy: the address the proxy told */
    struct slice sender_domain;       /* normal form; empty: null sender. Not looked at today: MAIL
                                         FROM proves nothing. Connectors will */
    struct slice recipient_domain;    /* normal form (mta/pattern.h); empty: bare postmaster */
};

enum policy_relay policy_relay(const struct policy_facts *facts);

static inline bool policy_relay_allowed(enum policy_relay verdict)
{
    return verdict != POLICY_RELAY_DENIED;
}

/* For logs: "domain", "postmaster", "network", "denied". */
const char *policy_relay_name(enum policy_relay verdict);

/* The domain of <postmaster>: the first exact one of relay { domains }, or the hostname. */
struct slice policy_postmaster_domain(const struct config *config);

/* Whether the peer of a socket must begin with a PROXY header: the listener says proxy yes for it.
 * A peer that is not listed is an ordinary client and must not send one. */
bool policy_expects_proxy(const struct config_listener *listener, const struct net_address *peer);

#endif
