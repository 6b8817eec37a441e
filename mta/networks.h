/*
 * networks.h - sets of address prefixes with a longest-prefix look-up
 *
 * Built when a configuration is loaded, read-only from then on. Prefixes may nest; they are cut
 * into disjoint ranges at the end of building, so a look-up is one binary search over 128-bit
 * numbers. IPv4 lives in ::ffff:0:0/96 like everywhere (core/net.h).
 */
#ifndef RINGPOST_MTA_NETWORKS_H
#define RINGPOST_MTA_NETWORKS_H

#include "core/net.h"

enum {
    NETWORKS_PREFIXES_MAX = 16'384, /* in one set */
    NETWORKS_DEPTH_MAX = 129,       /* that nest, so that one address is in all of them */
};

struct networks;

/* 0 or -ENOMEM. */
[[nodiscard]] int networks_new(struct networks **networks);
void networks_free(struct networks *networks); /* NULL is allowed */

/* 0, -EEXIST (the same prefix is in; the first value stays, and *other is it), -ENOSPC, -ENOMEM.
 * other may be NULL. */
[[nodiscard]] int networks_add(struct networks *networks, const struct net_prefix *prefix,
                               uint32_t value, uint32_t *other);
/* Ends building; before that nothing is found. 0 or -ENOMEM. */
[[nodiscard]] int networks_seal(struct networks *networks);

unsigned networks_count(const struct networks *networks);
const struct net_prefix *networks_prefix(const struct networks *networks, unsigned index);

/* The longest prefix that holds the address; NULL: none. value may be NULL. The set may be NULL. */
const struct net_prefix *networks_find(const struct networks *networks,
                                       const struct net_address *address, uint32_t *value);

/* The values of all prefixes that hold the address, the longest first; how many. */
unsigned networks_find_all(const struct networks *networks, const struct net_address *address,
                           uint32_t values[static NETWORKS_DEPTH_MAX]);

static inline bool networks_hold(const struct networks *networks, const struct net_address *address)
{
    return networks_find(networks, address, NULL) != NULL;
}

#endif
