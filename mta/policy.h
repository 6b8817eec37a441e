/*
 * policy.h - what a listener and the relay section say of a client
 *
 * Pure. Nobody is trusted for being on loopback: only what the file lists counts. Connectors
 * (mta/inbound.h) build on it.
 */
#ifndef RINGPOST_MTA_POLICY_H
#define RINGPOST_MTA_POLICY_H

#include "core/net.h"
#include "core/slice.h"

struct config;
struct config_listener;

/* Whether this client may send anywhere: it is in relay { networks }, and the listener lets it.
 * client: behind a trusted proxy the address that the proxy told. */
bool policy_is_submission(const struct config *config, const struct config_listener *listener,
                          const struct net_address *client);

/* The domain of <postmaster>: the first exact one of relay { domains }, or the hostname. */
struct slice policy_postmaster_domain(const struct config *config);

/* Whether the peer of a socket must begin with a PROXY header: the listener says proxy yes for it.
 * A peer that is not listed is an ordinary client and must not send one. */
bool policy_expects_proxy(const struct config_listener *listener, const struct net_address *peer);

#endif
