/*
 * memory_plan.h - the most memory that a configuration can take, and how many messages fit in
 *
 * Pools have a size each, so the sum is known before anything runs: `check` tells it, and `serve`
 * makes its queues as large as limits { memory-max } leaves room for. What is no pool (the TLS
 * library's own memory, configuration, DNS) is estimated on the high side here, and watched while
 * it runs (control_memory.c). No I/O, no state.
 */
#ifndef RINGPOST_MTA_MEMORY_PLAN_H
#define RINGPOST_MTA_MEMORY_PLAN_H

#include "mta/config.h"

/* Bytes are of all shards together. */
struct memory_plan {
    uint64_t sessions_bytes; /* of clients: sessions and their buffers, messages on their way in */
    uint64_t deliveries_bytes;   /* next hops, their leases, connections to them, attempts */
    uint64_t spool_bytes;        /* cache, reading, compaction */
    uint64_t destinations_bytes; /* that mail waits for */
    uint64_t queue_bytes;        /* messages that wait */
    uint64_t pools_bytes;        /* all of these */
    uint64_t rest_bytes;         /* estimated: what is no pool */
    uint64_t total_bytes;
    uint32_t messages_max, recipients_max, destinations_max; /* of the queue of one shard */
};

enum {
    MEMORY_PLAN_MESSAGES_MIN = 1'000, /* of one shard */
    MEMORY_PLAN_TEXT = 512,
};

/* False: limits { memory-max } is too little for MEMORY_PLAN_MESSAGES_MIN; total_bytes is what that
 * would take. */
bool memory_plan_make(const struct config *config, unsigned shards, struct memory_plan *plan);
/* What takes how much, in words. */
void memory_plan_words(const struct memory_plan *plan, char text[static MEMORY_PLAN_TEXT]);

#endif
