/*
 * resolve_order.c - which addresses may be tried, and in which order: the pure part of resolving
 *
 * RFC 5321 5.1: lower preference first, equal ones in random order. Addresses of one host come in
 * rounds, so that a host with many of them does not keep the others of its rank waiting, and one
 * family that is cut off costs every second try and no more.
 *
 * Owns nothing. Bounds: the arrays are short (RESOLVE_HOSTS_MAX, RESOLVE_FOUND_MAX), so sorting is
 * by insertion, which neither allocates nor reorders equals.
 */
#include <errno.h>
#include <strings.h>

#include "mta/address.h"
#include "mta/resolve.h"

enum resolve_address resolve_judge(const struct resolve_policy *policy, bool trusted,
                                   const struct net_address *address)
{
    for (unsigned i = 0; i < policy->own_count; i++) {
        const struct net_address *own = &policy->own[i];
        /* What an operator wrote is only a loop when it is the very socket we listen on. */
        bool any_port = !trusted || own->port == 0;
        if (net_equal_host(own, address) && (any_port || own->port == address->port))
            return RESOLVE_ADDRESS_OWN;
    }
    if (net_is_v4(address) ? policy->no_ipv4 : policy->no_ipv6)
        return RESOLVE_ADDRESS_FAMILY;
    if (trusted || !net_is_special(address))
        return RESOLVE_ADDRESS_GOOD;
    for (unsigned i = 0; i < policy->allowed_count; i++)
        if (net_in(&policy->allowed[i], address))
            return RESOLVE_ADDRESS_GOOD;
    return RESOLVE_ADDRESS_SPECIAL;
}

bool resolve_own_name(const struct resolve_policy *policy, const char *name)
{
    for (unsigned i = 0; i < policy->own_names_count; i++)
        if (strcasecmp(policy->own_names[i], name) == 0)
            return true;
    return false;
}

int resolve_literal(const char *text, struct net_address *address)
{
    struct slice s = slice_of_string(text);
    if (!address_literal_valid(s))
        return -EINVAL;
    s = slice_part(s, 1, s.size - 2);
    if (slice_starts_nocase(s, SLICE("IPv6:")))
        s = slice_from(s, 5);
    return net_parse(s, 0, address);
}

static bool host_before(const struct resolve_host *a, const struct resolve_host *b)
{
    if (a->rank != b->rank)
        return a->rank < b->rank;
    return a->shuffle < b->shuffle;
}

void resolve_sort_hosts(struct resolve_host *hosts, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        struct resolve_host host = hosts[i];
        unsigned at = i;
        for (; at > 0 && host_before(&host, &hosts[at - 1]); at--)
            hosts[at] = hosts[at - 1];
        hosts[at] = host;
    }
}

static bool found_before(const struct resolve_found *a, const struct resolve_found *b)
{
    if (a->rank != b->rank)
        return a->rank < b->rank;
    if (a->round != b->round)
        return a->round < b->round;
    if (a->shuffle != b->shuffle)
        return a->shuffle < b->shuffle;
    if (a->v4 != b->v4)
        return a->v4 == (bool)(a->shuffle & 1);
    return false;
}

void resolve_sort_found(struct resolve_found *found, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        struct resolve_found each = found[i];
        unsigned at = i;
        for (; at > 0 && found_before(&each, &found[at - 1]); at--)
            found[at] = found[at - 1];
        found[at] = each;
    }
}
