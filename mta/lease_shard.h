/*
 * lease_shard.h - a shard's part in leases: what it holds, what it owns, and the way in between
 *
 *   lease_take_slot ... -> dirty -> end of the step: asks and tells go out, one for each lease
 *
 * A lease's owner is a shard by its key. Asks and tells travel in messages of the sender's pool,
 * which come back empty; when none is left, or the way is full, what is to be said waits. With one
 * shard, or when the owner is this one, nothing travels.
 */
#ifndef RINGPOST_MTA_LEASE_SHARD_H
#define RINGPOST_MTA_LEASE_SHARD_H

#include "core/shard.h"
#include "queue/lease.h"

enum {
    LEASE_MESSAGES = 256, /* under way, of a shard */
};
static_assert((int)LEASE_MESSAGES * 2 < (int)HANDOFFS_MAX);

/* Goes by HANDOFF_LEASE, and comes back by HANDOFF_LEASE_BACK. */
struct lease_message {
    struct list node; /* of homeward */
    unsigned home;
    bool tells;
    union {
        struct lease_ask ask;
        struct lease_tell tell;
    };
};

/* One per shard; all zero: it has none. */
struct lease_shard {
    struct shard *shard;
    unsigned shards; /* that have leases; 1: all are this one's own */
    struct lease_holder holder;
    struct lease_owner owner;
    struct lease_numbers numbers;
    struct pool messages;
    struct list homeward; /* others' messages that found the way back full */
    struct list woken;    /* leases: something in this shard made room */
    struct hook hook;
    struct task again;
    struct timer retry; /* the way was full, or all messages were under way */
};

/* The most memory that it takes. */
uint64_t lease_shard_bytes(uint32_t hops, unsigned shards);
/* hops: next hops of this shard; shards: with mail, the first ones of the group. */
[[nodiscard]] int lease_shard_init(struct lease_shard *leases, struct shard *shard, uint32_t hops,
                                   unsigned shards,
                                   void (*changed)(void *owner, struct lease *lease), void *owner);
void lease_shard_free(struct lease_shard *leases); /* harmless when init has not run */
/* What is to be said of this lease is said, and answered, if its owner is this shard. */
void lease_shard_now(struct lease_shard *leases, struct lease *lease);
/* changed() is called for it, from the loop. */
void lease_shard_wake(struct lease_shard *leases, struct lease *lease);

#endif
