/*
 * hop_limits.c - how old mail to a next hop may get, and how fast it may go there
 *
 * tls-max-age holds from when all hosts failed for want of TLS until one of them takes mail, or
 * fails by something else: mail does not expire earlier because a host is down.
 *
 * max-rate is a bucket of each shard's part of it: what is not used in a second is lost, so that a
 * next hop that was down does not get all at once. The wait is the destination's timer, which its
 * back-off uses too: whichever ends later.
 */
#include "core/check.h"
#include "mta/next_hop.h"
#include "mta/outbound.h"

enum { MINUTE_US = 60'000'000, SECOND_US = 1'000'000, US_IN_MS = 1'000 };

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

static uint64_t interval_us(const struct next_hop *hop)
{
    return (uint64_t)MINUTE_US * hop->deliver->shards / hop->route->rate_max;
}

bool hop_must_wait(struct next_hop *hop)
{
    struct deliver *deliver = hop->deliver;
    if (hop->route == NULL || hop->route->rate_max == 0)
        return false;
    const uint64_t now_us = deliver->shard->now_ms * US_IN_MS;
    const uint64_t ahead_us = MAX(interval_us(hop), (uint64_t)SECOND_US) - interval_us(hop);
    if (hop->rate_us <= now_us + ahead_us)
        return false;
    uint64_t wait_ms = (hop->rate_us - now_us - ahead_us) / US_IN_MS + 1;
    if (hop->destination->retry_ms > deliver->shard->now_ms)
        wait_ms = MAX(wait_ms, hop->destination->retry_ms - deliver->shard->now_ms);
    queue_destination_again(deliver->queue, hop->destination, wait_ms);
    return true;
}

void hop_sends(struct next_hop *hop)
{
    if (hop->route == NULL || hop->route->rate_max == 0)
        return;
    hop->rate_us = MAX(hop->rate_us, hop->deliver->shard->now_ms * US_IN_MS) + interval_us(hop);
}
