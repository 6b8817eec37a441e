/*
 * bounce_limits.h - how many reports a minute: in all, to a sender, to a sender's domain
 *
 * Counts by the minute, for one shard. Reports that need not be (delays, successes) may use half of
 * what there is, so that they never stand in the way of a failure. Who has had none this minute
 * takes the place of who had least when the table is full: then the limit in all is what holds.
 * Bounds: BOUNCE_LIMIT_SLOTS. Pure: no clock, no allocation.
 */
#ifndef RINGPOST_QUEUE_BOUNCE_LIMITS_H
#define RINGPOST_QUEUE_BOUNCE_LIMITS_H

#include "core/slice.h"

enum { BOUNCE_LIMIT_SLOTS = 1'024, BOUNCE_LIMIT_WAYS = 4 };

struct bounce_rates { /* a minute; 0: no limit */
    uint32_t all, sender, domain;
};

enum bounce_limit { BOUNCE_MAY, BOUNCE_OVER_ALL, BOUNCE_OVER_SENDER, BOUNCE_OVER_DOMAIN };

struct bounce_limits {
    uint64_t minute;
    uint64_t key; /* of the hashes: which addresses share a slot is not for strangers to choose */
    uint32_t all;
    struct bounce_limit_slot {
        uint64_t hash;
        uint32_t minute; /* its low half */
        uint32_t count;
    } slots[BOUNCE_LIMIT_SLOTS];
};

void bounce_limits_init(struct bounce_limits *limits, uint64_t key);
/* May one more go to this sender? It is counted when it may. */
enum bounce_limit bounce_limits_take(struct bounce_limits *limits, const struct bounce_rates *rates,
                                     struct slice sender, bool failure, uint64_t minute);
/* True: no report of this kind may go to anybody now. */
bool bounce_limits_full(const struct bounce_limits *limits, const struct bounce_rates *rates,
                        bool failure, uint64_t minute);
/* "all", "sender", "domain". */
const char *bounce_limit_name(enum bounce_limit limit);

#endif
