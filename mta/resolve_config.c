/*
 * resolve_config.c - from configuration and route to what core/dns and resolve.c are asked with
 *
 * Pure. What an operator wrote as a host is trusted with any address; MX records of strangers are
 * not, unless the route says so.
 */
#include "mta/resolve_config.h"

struct dns_options resolve_dns_options(const struct config *config)
{
    const struct config_dns *d = &config->dns;
    return (struct dns_options) {
        .forwarders = d->forwarders,
        .forwarders_count = d->forwarders_count,
        .trust_anchor_file = d->trust_anchor_file,
        .root_hints_file = d->root_hints_file,
        .timeout_ms = d->timeout_ms,
        .queries_max = d->queries_max,
    };
}

struct resolve_policy resolve_policy_of(const struct config *config, const struct route *route)
{
    const struct networks *private_networks = config->delivery.private_networks;
    unsigned allowed = networks_count(private_networks);
    return (struct resolve_policy) {
        .port = route->port,
        .own_names = &config->hostname,
        .own_names_count = 1,
        .own = config->delivery.own_addresses,
        .own_count = config->delivery.own_addresses_count,
        .allowed = allowed == 0 ? NULL : networks_prefix(private_networks, 0),
        .allowed_count = allowed,
        .total_ms = config->dns.timeout_ms * 2,
    };
}

struct resolve_hop resolve_hop_of(const struct route *route, const struct route_host *host,
                                  const char *domain)
{
    switch (host->kind) {
    case ROUTE_HOST_ADDRESS:
        return (struct resolve_hop) { .kind = RESOLVE_ADDRESS,
                                      .name = "",
                                      .port = host->port,
                                      .address = host->address,
                                      .trusted = true };
    case ROUTE_HOST_NAME:
        return (struct resolve_hop) {
            .kind = RESOLVE_HOST, .name = host->name, .port = host->port, .trusted = true
        };
    case ROUTE_HOST_MX_OF:
        return (struct resolve_hop) { .kind = RESOLVE_MX,
                                      .name = host->name,
                                      .port = host->port,
                                      .trusted = route->allow_special };
    case ROUTE_HOST_MX: break;
    }
    return (struct resolve_hop) {
        .kind = RESOLVE_MX, .name = domain, .port = host->port, .trusted = route->allow_special
    };
}
