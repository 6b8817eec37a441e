/*
 * readiness.h - whom an inbound connector in test would refuse: peer networks, senders, tokens
 *
 *   would be refused --readiness_add--> this shard's table --readiness_gather--> control: the top
 *
 * Bounded for any number of connectors and strangers: READINESS_SETS sets of READINESS_WAYS. A
 * newcomer takes the place of the one in its set that was seen least, and its count (Metwally's
 * space saving): what comes often stays, and `over` tells by how much a count may be too high.
 *
 * Only the shard writes; control reads meanwhile, and reads a set again that was being changed.
 */
#ifndef RINGPOST_MTA_READINESS_H
#define RINGPOST_MTA_READINESS_H

#include "core/net.h"
#include "core/slice.h"
#include "mta/connector_token.h"

enum { READINESS_SETS = 512, READINESS_WAYS = 8, READINESS_DOMAIN_MAX = 256 };

struct readiness_entry {
    uint64_t count;     /* 0: free */
    uint64_t over;      /* of count, at most this much is somebody else's */
    uint64_t connector; /* hash of its name */
    uint32_t token;
    uint32_t bits; /* of network */
    uint8_t network[16];
    char domain[READINESS_DOMAIN_MAX]; /* of MAIL FROM; "": the null sender */
};

struct readiness_set {
    uint64_t sequence; /* odd: it is being changed */
    struct readiness_entry ways[READINESS_WAYS];
};

struct readiness {
    struct readiness_set *sets; /* NULL: nothing is kept */
    uint64_t seed;
};

[[nodiscard]] int readiness_init(struct readiness *readiness, uint64_t seed);
void readiness_free(struct readiness *readiness);
void readiness_add(struct readiness *readiness, const char *connector,
                   const struct net_address *peer, struct slice domain, enum connector_token token);
/* Copies those of this connector to out, which has room for READINESS_SETS * READINESS_WAYS; how
 * many. From any thread. */
unsigned readiness_gather(const struct readiness *readiness, const char *connector,
                          struct readiness_entry *out);
/* Adds up those that are the same, of several shards; sorted by count. How many are left. */
unsigned readiness_merge(struct readiness_entry *entries, unsigned count);

#endif
