/*
 * hop_limits.c - how old mail to a next hop may get
 *
 * tls-max-age holds from when all hosts failed for want of TLS until one of them takes mail, or
 * fails by something else: mail does not expire earlier because a host is down.
 */
#include "core/check.h"
#include "mta/next_hop.h"
#include "mta/outbound.h"

/* Of a destination's key; NULL: none carries it now. */
static const struct route *route_of_key(const struct config *config, const char *key)
{
    struct route_key_parts parts;
    if (!route_key_read(key, &parts))
        return NULL; /* parked */
    if (parts.name.size == 0)
        return &config->default_route;
    const struct outbound *connector = outbound_named(&config->outbound, parts.name);
    return connector == NULL ? NULL : &connector->route;
}

uint64_t deliver_age_max(void *argument, const char *key)
{
    const struct deliver *deliver = argument;
    const struct generation *current = deliver->generations->current;
    const struct route *route = current == NULL ? NULL : route_of_key(current->config, key);
    return route == NULL ? 0 : route->age_max_ms;
}

/* Nothing but the protection that is wanted stands in the way: the host is there. */
static bool is_tls(enum outbound_token token)
{
    return outbound_token_row(token)->retry.subject == 7;
}

bool hop_waits_for_tls(const struct destination *destination)
{
    return is_tls(hop_token(destination));
}

void hop_host_failed(struct next_hop *hop, enum outbound_token token)
{
    hop->failed_otherwise = hop->failed_otherwise || !is_tls(token);
}

void hop_all_failed(struct next_hop *hop, enum outbound_token token)
{
    uint64_t age_ms = deliver_age_max(hop->deliver, hop->destination->key);
    bool only_tls = is_tls(token) && !hop->failed_otherwise;
    if (only_tls && hop->route != NULL && hop->route->tls_age_max_ms != 0)
        age_ms = age_ms == 0 ? hop->route->tls_age_max_ms : MIN(age_ms, hop->route->tls_age_max_ms);
    hop->failed_otherwise = false;
    queue_destination_age(hop->destination, age_ms);
}

void hop_works(struct next_hop *hop)
{
    hop->failed_otherwise = false;
    queue_destination_age(hop->destination, deliver_age_max(hop->deliver, hop->destination->key));
}
