/*
 * explain_known.h - `ringpost explain --online`: what the running server knows of a way out, and
 * where we would come from
 *
 * The server is asked over its admin socket, if it answers there; else what only it knows is said
 * not to be known. Nothing here changes anything.
 */
#ifndef RINGPOST_MTA_EXPLAIN_KNOWN_H
#define RINGPOST_MTA_EXPLAIN_KNOWN_H

#include <jansson.h>

#include "mta/config.h"
#include "mta/resolve.h"

/* What floor memory has of a host, as `tls report --json` tells it: {"known", "why", "record"}.
 * domain: whose MX it is, "" of a host that the configuration names. */
json_t *explain_memory(const struct config *config, const struct resolve_target *target,
                       const char *domain);
/* {"ehlo", "ipv4": [..], "ipv6": [..], "ipv4_now", "ipv6_now"}: the addresses of source-addresses,
 * of which each connection takes one by chance. With none the kernel chooses: what it would choose
 * now towards the first host of the family is .._now; "": there is no such host, or no way. */
json_t *explain_source(const struct route *route, const struct resolve_target *targets,
                       unsigned count);
/* {"known", "why", "destination", "connections", "limit", "rate", "waiting", "active", "deferred",
 * "held", "binds", "bind_why", "error"}: connections in use of all that share the limit; waiting:
 * messages that are ready before this one. Without a server limit and rate are the configuration's.
 */
json_t *explain_throttle(const struct config *config, const struct route *route, const char *key);

/* For people, as lines. */
void explain_memory_print(const json_t *memory);
void explain_source_print(const json_t *source);
void explain_throttle_print(const json_t *throttle);

#endif
