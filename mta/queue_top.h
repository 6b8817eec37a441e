/*
 * queue_top.h - the destinations that most mail waits for: counts by state, the oldest, what binds
 *
 *   control --HANDOFF_TOP--> each shard walks its queues, TOP_SCAN messages a turn
 *           <--HANDOFF_TOP_TOLD-- rows of the largest --merged--> a page
 *
 * Counts are taken by a walk over all messages, not from sums that are kept for it: the table of
 * destinations has no field for it, and nothing on a message's way pays. Mail that moves meanwhile
 * may be counted twice or not at all. A destination is on several shards, each of which tells of
 * its TOP_ROWS_MAX largest: so one that is small on each of them can be missed.
 *
 * Control owns the question and its memory until it is answered.
 */
#ifndef RINGPOST_MTA_QUEUE_TOP_H
#define RINGPOST_MTA_QUEUE_TOP_H

#include <jansson.h>

#include "core/shard.h"
#include "queue/queue.h"

enum { TOP_ROWS_MAX = 1'000, TOP_LIMIT_MAX = 500, TOP_BINDS_WORDS = 128, TOP_SCAN = 1'024 };

enum queue_top_order { TOP_BY_COUNT, TOP_BY_AGE };

struct queue_top_row {
    char key[DESTINATION_KEY_MAX];
    uint64_t units[UNIT_HELD + 1]; /* by state */
    uint64_t recipients;
    uint64_t connections;
    uint64_t failures; /* in a row */
    uint64_t retry_ms; /* from now; 0: no back-off */
    int64_t oldest_us; /* arrival */
    uint64_t bound;    /* units ready where that binds which is named: */
    const char *binds;
    char words[TOP_BINDS_WORDS];
    char error[QUEUE_TEXT_MAX];
};

/* A destination while it is counted, by its index in the pool. */
struct queue_top_count {
    uint32_t units[UNIT_HELD + 1];
    uint32_t recipients;
    int64_t oldest_us;
};

struct queue_top_question {
    /* asked */
    enum queue_top_order order;
    char only[DESTINATION_KEY_MAX]; /* this destination, whether it has mail or not; "": all */
    void *owner;
    /* answered */
    uint32_t site_connections; /* of ONLY: of all that share its limit, in this shard */
    uint32_t site_limit;       /* over all shards; 0: it has no connections */
    uint32_t site_rate;        /* messages a minute; 0: no limit */
    uint64_t destinations;     /* that have mail */
    uint64_t units;
    uint32_t rows_count;
    struct queue_top_row rows[TOP_ROWS_MAX];
    /* the shard's own */
    struct shard *shard;
    struct task task;
    unsigned log;
    uint32_t cursor; /* of messages, then of destinations */
    bool counted;
    uint32_t heap_count;
    struct {
        uint64_t rank;
        uint32_t index;   /* of the destination, in the present log */
    } heap[TOP_ROWS_MAX]; /* the least first */
    uint32_t counts_size;
    struct queue_top_count counts[]; /* as many as a queue has destinations */
};

/* NULL: no memory. */
struct queue_top_question *queue_top_new(uint32_t destinations_max, enum queue_top_order order,
                                         const char *only);
/* Handler of HANDOFF_TOP. */
void queue_top_asked(struct shard *shard, const struct handoff *handoff);
/* {"destinations": [..], totals, of ONLY also "site"}: the largest of all shards' answers, which
 * are used up. */
json_t *queue_top_merge(struct queue_top_question *const *answers, unsigned count, unsigned limit,
                        int64_t now_us);

#endif
