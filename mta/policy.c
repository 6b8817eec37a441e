/*
 * policy.c - the relay decision, and who speaks PROXY
 *
 * Pure: the parsed domain and the client's address decide, nothing else. No look at % or ! in local
 * parts, none at source routes (mta/address.c dropped them), none at loopback.
 */
#include "mta/policy.h"

#include "core/check.h"
#include "mta/config.h"

enum policy_relay policy_relay(const struct policy_facts *facts)
{
    const struct config *config = facts->config;
    struct pattern_match match;
    CHECK(config != NULL && facts->listener != NULL && facts->client != NULL);
    if (facts->recipient_domain.size == 0)
        return POLICY_RELAY_POSTMASTER;
    if (pattern_set_find(config->relay.domains, facts->recipient_domain, &match))
        return POLICY_RELAY_DOMAIN;
    if (facts->listener->relay && networks_hold(config->relay.networks, facts->client))
        return POLICY_RELAY_NETWORK;
    return POLICY_RELAY_DENIED;
}

const char *policy_relay_name(enum policy_relay verdict)
{
    static const char *const names[] = {
        [POLICY_RELAY_DOMAIN] = "domain",
        [POLICY_RELAY_POSTMASTER] = "postmaster",
        [POLICY_RELAY_NETWORK] = "network",
        [POLICY_RELAY_DENIED] = "denied",
    };
    CHECK((size_t)verdict < ARRAY_COUNT(names));
    return names[verdict];
}

struct slice policy_postmaster_domain(const struct config *config)
{
    return slice_of_string(config->relay.postmaster_domain);
}

bool policy_expects_proxy(const struct config_listener *listener, const struct net_address *peer)
{
    return networks_hold(listener->proxy_from, peer);
}
