/*
 * hop_targets.c - where a next hop is: asked for, kept until its answers' time to live is over
 *
 * Names are kept once, in HOP_NAMES_BYTES; addresses whose name finds no room are left out, unless
 * there would be none.
 */
#include "mta/next_hop.h"
#include "mta/resolve_config.h"

enum {
    TARGETS_TTL_MIN_MS = 5'000,
    TARGETS_TTL_MAX_MS = 3'600'000,
    MS_IN_S = 1'000,
};

/* Each name once. NULL: an empty one, or no room. */
static const char *hop_keep_name(struct next_hop *hop, const char *name)
{
    size_t size = strlen(name) + 1;
    if (size == 1)
        return NULL;
    for (size_t at = 0; at < hop->names_size; at += strlen(hop->names + at) + 1)
        if (strcmp(hop->names + at, name) == 0)
            return hop->names + at;
    if (hop->names_size + size > HOP_NAMES_BYTES)
        return NULL;
    hop->names_size += (uint32_t)size;
    return memcpy(hop->names + hop->names_size - size, name, size);
}

static void hop_keep_targets(struct next_hop *hop, const struct resolve_result *result)
{
    hop->names_size = 0;
    unsigned kept = 0;
    for (unsigned i = 0; i < MIN(result->count, (unsigned)RESOLVE_TARGETS_MAX); i++) {
        const struct resolve_target *from = &result->targets[i];
        const char *host = hop_keep_name(hop, from->host);
        const char *canonical = hop_keep_name(hop, from->canonical);
        bool whole = host != NULL && canonical != NULL;
        if (!whole && *from->host != '\0' && kept > 0)
            continue; /* too many long names: less than all that is known of it will not do */
        hop->targets[kept++] = (struct hop_target) {
            .address = from->address,
            .host = host,
            .canonical = canonical,
            .rank = from->rank,
            .secure = from->secure && whole,
            .mx_secure = from->mx_secure && whole,
        };
    }
    hop->targets_count = kept;
    uint64_t ttl_ms = (uint64_t)result->ttl_s * MS_IN_S;
    ttl_ms = MIN(MAX(ttl_ms, (uint64_t)TARGETS_TTL_MIN_MS), (uint64_t)TARGETS_TTL_MAX_MS);
    hop->targets_until_ms = hop->deliver->shard->now_ms + ttl_ms;
    hop->target_next = 0;
    hop->sts_until_ms = 0;
    hop->lacking = 0;
}

static void hop_on_resolved(struct resolve_request *request, const struct resolve_result *result)
{
    struct next_hop *hop = container_of(request, struct next_hop, request);
    const struct attempt_failure failure = { result->code, result->enhanced, result->why, NULL };
    hop_promise_end(hop);
    hop_share_freed(hop->deliver);
    switch (result->verdict) {
    case RESOLVE_FOUND:
        hop_keep_targets(hop, result);
        hop_site_is(hop, &result->site);
        hop_pump(hop);
        return;
    case RESOLVE_PERMANENT:
        hop_stops_waiting(hop);
        hop_refuse_all(hop, &failure);
        return;
    case RESOLVE_TEMPORARY:
        hop_fail(hop, result->bogus ? FAULT_DNSSEC : FAULT_CONNECT, slice_of_string(result->why));
        return;
    }
}

bool hop_resolve(struct next_hop *hop)
{
    const struct route *route = hop->route;
    struct resolve_hop hops[RESOLVE_HOPS_MAX];
    unsigned count = MIN(route->hosts_count, (unsigned)RESOLVE_HOPS_MAX);
    unsigned first = 0;
    if (route->order == ROUTE_BALANCED)
        first = (unsigned)random_below(&hop->deliver->shard->random, route->hosts_count);
    for (unsigned i = 0; i < count; i++)
        hops[i] =
            resolve_hop_of(route, &route->hosts[(first + i) % route->hosts_count], hop->domain);
    const struct resolve_policy policy = resolve_policy_of(hop->generation->config, route);
    hop->request.resolved = hop_on_resolved;
    return resolve_start(hop->deliver->resolves, &policy, hops, count, &hop->request) == 0;
}
