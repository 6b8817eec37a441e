/*
 * limits.h - how many connections an address, a /24 or a /64 holds on a shard, and how often it
 * opens one
 *
 * One per shard, its memory taken at start. Counts are kept for every open connection whatever the
 * limits are, so a reload that brings limits finds true counts. limits_open counts a connection
 * when it admits it; limits_close must follow exactly once for each that was admitted, with the
 * same address.
 *
 * Tables use open addressing under a keyed hash (SipHash-2-4), so nobody can pick addresses that
 * collide; they have twice as many slots as there may be connections, so they cannot overflow.
 * Rates are kept in a bounded cache: a stranger with many networks can push others' rates out,
 * never their counts. IPv6 rates are per /64.
 */
#ifndef RINGPOST_MTA_LIMITS_H
#define RINGPOST_MTA_LIMITS_H

#include "core/net.h"

enum {
    LIMITS_CONNECTIONS_MAX = 1 << 20, /* capacity of one shard, at most */
    LIMITS_KEY_BYTES = 16,
};

/* From the configuration; 0 is no limit. */
struct limits_options {
    uint32_t connections_max; /* on this shard; never above the capacity given to limits_new */
    uint32_t per_address;
    uint32_t per_v4_24;
    uint32_t per_v6_64;
    uint32_t rate_per_minute; /* new connections of one IPv4 address or one IPv6 /64 */
    uint32_t rate_burst;      /* that many at once before the rate counts; 0: as 1 */
};

enum limits_verdict {
    LIMITS_ADMITTED,     /* counted */
    LIMITS_SHARD_FULL,   /* 421 4.3.2 */
    LIMITS_ADDRESS_FULL, /* 421 4.7.0; none of these is counted */
    LIMITS_NETWORK_FULL,
    LIMITS_RATE, /* 421 4.7.28 */
};

struct limits;

/* key: random octets (from the kernel; of the seed in the simulator). 0 or -ENOMEM. */
[[nodiscard]] int limits_new(uint32_t connections_capacity, const uint8_t key[LIMITS_KEY_BYTES],
                             struct limits **limits);
void limits_free(struct limits *limits); /* NULL is allowed */

/* exempt: only the shard's own bound holds (trusted proxies before their header, networks that are
 * listed as exempt); it is counted all the same. The port of address is not looked at. */
enum limits_verdict limits_open(struct limits *limits, const struct limits_options *options,
                                const struct net_address *address, bool exempt, uint64_t now_ms);
void limits_close(struct limits *limits, const struct net_address *address);

uint32_t limits_connections(const struct limits *limits);
uint32_t limits_of_address(const struct limits *limits, const struct net_address *address);
uint32_t limits_of_network(const struct limits *limits, const struct net_address *address);

/* More than percent of the shard's connections are in use: deadlines shrink. */
bool limits_under_load(const struct limits *limits, const struct limits_options *options,
                       uint32_t percent);

const char *limits_verdict_name(enum limits_verdict verdict); /* for logs and metric labels */

#endif
