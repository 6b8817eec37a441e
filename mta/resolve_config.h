/*
 * resolve_config.h - what the configuration and a route say to DNS and to resolving
 *
 * The same for the server's deliveries and for a command that looks where they would go. What is
 * returned points into the configuration.
 */
#ifndef RINGPOST_MTA_RESOLVE_CONFIG_H
#define RINGPOST_MTA_RESOLVE_CONFIG_H

#include "mta/config.h"
#include "mta/resolve.h"

struct dns_options resolve_dns_options(const struct config *config);
struct resolve_policy resolve_policy_of(const struct config *config, const struct route *route);
/* domain: the recipient's, whose MX the host may stand for. */
struct resolve_hop resolve_hop_of(const struct route *route, const struct route_host *host,
                                  const char *domain);

#endif
