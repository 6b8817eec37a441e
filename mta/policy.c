/*
 * policy.c - who may send anywhere, who speaks PROXY
 */
#include "mta/policy.h"

#include "core/check.h"
#include "mta/config.h"

bool policy_is_submission(const struct config *config, const struct config_listener *listener,
                          const struct net_address *client)
{
    return listener->relay && networks_hold(config->relay.networks, client);
}

struct slice policy_postmaster_domain(const struct config *config)
{
    return slice_of_string(config->relay.postmaster_domain);
}

bool policy_expects_proxy(const struct config_listener *listener, const struct net_address *peer)
{
    return networks_hold(listener->proxy_from, peer);
}
