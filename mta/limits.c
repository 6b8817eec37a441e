/*
 * limits.c - counting connections by address and network, rates by token bucket
 *
 * Two count tables (address; /24 or /64) with linear probing and backward-shift deletion: no
 * tombstones, so probe lengths do not grow with age. Slots are twice the capacity and each open
 * connection takes at most one in each, so a free slot is always found.
 *
 * A rate is one number an address: the moment at which its bucket is full again (GCRA). They live
 * in sets of RATE_WAYS; a newcomer takes the place of the one that is full soonest, which loses
 * least.
 */
#include "mta/limits.h"

#include <errno.h>
#include <stdlib.h>

#include "core/check.h"

enum { RATE_WAYS = 8, RATE_SETS_MIN = 128, MINUTE_MS = 60'000 };

struct count {
    uint8_t octets[16];
    uint32_t count; /* 0: the slot is free */
};

struct table {
    struct count *slots;
    uint32_t mask;
    uint32_t used;
};

struct rate {
    uint8_t octets[16];
    uint64_t full_us; /* when the bucket is full again; 0: the slot is free */
};

struct limits {
    uint64_t key[2];
    uint32_t capacity;
    uint32_t connections;
    struct table addresses;
    struct table networks;
    struct rate *rates;
    uint32_t rate_sets_mask;
};

static inline uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static inline void sip_round(uint64_t v[static 4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

/* SipHash-2-4 (Aumasson and Bernstein, 2012) of exactly 16 octets. */
static uint64_t hash_of(const struct limits *limits, const uint8_t octets[static 16])
{
    uint64_t words[3] = { 0, 0, (uint64_t)16 << 56 };
    memcpy(words, octets, 16);
    uint64_t v[4] = { limits->key[0] ^ 0x736f6d6570736575, limits->key[1] ^ 0x646f72616e646f6d,
                      limits->key[0] ^ 0x6c7967656e657261, limits->key[1] ^ 0x7465646279746573 };
    for (unsigned i = 0; i < 3; i++) {
        v[3] ^= words[i];
        sip_round(v);
        sip_round(v);
        v[0] ^= words[i];
    }
    v[2] ^= 0xff;
    for (unsigned i = 0; i < 4; i++)
        sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static uint32_t power_of_two(uint64_t at_least)
{
    uint64_t n = 16;
    while (n < at_least)
        n *= 2;
    return (uint32_t)n;
}

static int table_init(struct table *table, uint32_t capacity)
{
    uint32_t slots = power_of_two(2 * (uint64_t)capacity);
    table->slots = calloc(slots, sizeof(table->slots[0]));
    table->mask = slots - 1;
    return table->slots == NULL ? -ENOMEM : 0;
}

int limits_new(uint32_t capacity, const uint8_t key[LIMITS_KEY_BYTES], struct limits **out)
{
    CHECK(capacity > 0 && capacity <= LIMITS_CONNECTIONS_MAX);
    struct limits *limits = calloc(1, sizeof(*limits));
    if (limits == NULL)
        return -ENOMEM;
    memcpy(limits->key, key, sizeof(limits->key));
    limits->capacity = capacity;
    uint32_t sets = MAX((uint32_t)RATE_SETS_MIN, power_of_two(capacity) / RATE_WAYS);
    limits->rate_sets_mask = sets - 1;
    limits->rates = calloc((size_t)sets * RATE_WAYS, sizeof(limits->rates[0]));
    if (limits->rates == NULL || table_init(&limits->addresses, capacity) < 0 ||
        table_init(&limits->networks, capacity) < 0) {
        limits_free(limits);
        return -ENOMEM;
    }
    *out = limits;
    return 0;
}

void limits_free(struct limits *limits)
{
    if (limits == NULL)
        return;
    free(limits->addresses.slots);
    free(limits->networks.slots);
    free(limits->rates);
    free(limits);
}

/* Where octets is, or the free slot where it would be. */
static uint32_t table_slot(const struct limits *limits, const struct table *table,
                           const uint8_t octets[static 16])
{
    uint32_t at = (uint32_t)hash_of(limits, octets) & table->mask;
    while (table->slots[at].count > 0 && memcmp(table->slots[at].octets, octets, 16) != 0)
        at = (at + 1) & table->mask;
    return at;
}

static void table_add(struct table *table, uint32_t at, const uint8_t octets[static 16])
{
    struct count *slot = &table->slots[at];
    if (slot->count++ > 0)
        return;
    memcpy(slot->octets, octets, 16);
    table->used++;
    CHECK(table->used <= table->mask / 2 + 1);
}

/* Frees a slot and moves those behind it forward that would not be found any more. */
static void table_delete(const struct limits *limits, struct table *table, uint32_t hole)
{
    table->slots[hole].count = 0;
    table->used--;
    for (uint32_t at = (hole + 1) & table->mask; table->slots[at].count > 0;
         at = (at + 1) & table->mask) {
        uint32_t home = (uint32_t)hash_of(limits, table->slots[at].octets) & table->mask;
        if (((at - home) & table->mask) < ((at - hole) & table->mask))
            continue;
        table->slots[hole] = table->slots[at];
        table->slots[at].count = 0;
        hole = at;
    }
}

static void table_remove(const struct limits *limits, struct table *table,
                         const uint8_t octets[static 16])
{
    uint32_t at = table_slot(limits, table, octets);
    CHECK(table->slots[at].count > 0); /* closed more often than opened */
    if (--table->slots[at].count == 0)
        table_delete(limits, table, at);
}

static struct net_address network_of(const struct net_address *address)
{
    return net_masked(address, net_is_v4(address) ? 96 + 24 : 64);
}

/* Whether the bucket has a token; takes it. */
static bool rate_take(struct limits *limits, const struct limits_options *options,
                      const uint8_t octets[static 16], uint64_t now_ms)
{
    uint32_t set = (uint32_t)(hash_of(limits, octets) >> 32) & limits->rate_sets_mask;
    struct rate *ways = &limits->rates[(size_t)set * RATE_WAYS];
    struct rate *rate = &ways[0];
    for (unsigned i = 0; i < RATE_WAYS; i++) {
        if (ways[i].full_us > 0 && memcmp(ways[i].octets, octets, 16) == 0) {
            rate = &ways[i];
            break;
        }
        if (ways[i].full_us < rate->full_us)
            rate = &ways[i];
    }
    uint64_t now_us = now_ms * 1'000 + 1; /* never 0 */
    uint64_t token_us = (uint64_t)MINUTE_MS * 1'000 / options->rate_per_minute;
    uint64_t burst = MAX(options->rate_burst, 1U);
    if (rate->full_us == 0 || memcmp(rate->octets, octets, 16) != 0) {
        memcpy(rate->octets, octets, 16);
        rate->full_us = now_us;
    }
    uint64_t full_us = MAX(rate->full_us, now_us);
    if (full_us + token_us > now_us + burst * token_us)
        return false;
    rate->full_us = full_us + token_us;
    return true;
}

enum limits_verdict limits_open(struct limits *limits, const struct limits_options *options,
                                const struct net_address *address, bool exempt, uint64_t now_ms)
{
    uint32_t most = limits->capacity;
    if (options->connections_max > 0)
        most = MIN(most, options->connections_max);
    if (limits->connections >= most)
        return LIMITS_SHARD_FULL;
    struct net_address network = network_of(address);
    bool v4 = net_is_v4(address);
    uint32_t address_at = table_slot(limits, &limits->addresses, address->octets);
    uint32_t network_at = table_slot(limits, &limits->networks, network.octets);
    uint32_t of_network_max = v4 ? options->per_v4_24 : options->per_v6_64;
    if (!exempt) {
        if (options->per_address > 0 &&
            limits->addresses.slots[address_at].count >= options->per_address)
            return LIMITS_ADDRESS_FULL;
        if (of_network_max > 0 && limits->networks.slots[network_at].count >= of_network_max)
            return LIMITS_NETWORK_FULL;
        const uint8_t *who = v4 ? address->octets : network.octets;
        if (options->rate_per_minute > 0 && !rate_take(limits, options, who, now_ms))
            return LIMITS_RATE;
    }
    table_add(&limits->addresses, address_at, address->octets);
    table_add(&limits->networks, network_at, network.octets);
    limits->connections++;
    return LIMITS_ADMITTED;
}

void limits_close(struct limits *limits, const struct net_address *address)
{
    struct net_address network = network_of(address);
    CHECK(limits->connections > 0);
    limits->connections--;
    table_remove(limits, &limits->addresses, address->octets);
    table_remove(limits, &limits->networks, network.octets);
}

uint32_t limits_connections(const struct limits *limits)
{
    return limits->connections;
}

uint32_t limits_of_address(const struct limits *limits, const struct net_address *address)
{
    return limits->addresses.slots[table_slot(limits, &limits->addresses, address->octets)].count;
}

uint32_t limits_of_network(const struct limits *limits, const struct net_address *address)
{
    struct net_address network = network_of(address);
    return limits->networks.slots[table_slot(limits, &limits->networks, network.octets)].count;
}

bool limits_under_load(const struct limits *limits, const struct limits_options *options,
                       uint32_t percent)
{
    uint32_t most = limits->capacity;
    if (options->connections_max > 0)
        most = MIN(most, options->connections_max);
    return (uint64_t)limits->connections * 100 > (uint64_t)most * percent;
}

const char *limits_verdict_name(enum limits_verdict verdict)
{
    static const char *const names[] = {
        [LIMITS_ADMITTED] = "admitted",
        [LIMITS_SHARD_FULL] = "shard-full",
        [LIMITS_ADDRESS_FULL] = "address-full",
        [LIMITS_NETWORK_FULL] = "network-full",
        [LIMITS_RATE] = "rate",
    };
    CHECK((size_t)verdict < ARRAY_COUNT(names));
    return names[verdict];
}
