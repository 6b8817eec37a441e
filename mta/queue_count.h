/*
 * queue_count.h - what waits in a shard's queues, by outbound connector: how much, and since when
 *
 *   every COUNT_MS, or more seldom: each message in turn, some in a turn of the loop
 *     --> the rows of this round --> all at once the rows that control reads
 *
 * A walk over the queue's own structure, so that nothing is counted on a message's way; a big queue
 * is walked so seldom that it takes no more than a hundredth of the time.
 */
#ifndef RINGPOST_MTA_QUEUE_COUNT_H
#define RINGPOST_MTA_QUEUE_COUNT_H

#include "core/shard.h"
#include "queue/queue.h"

struct server_shard;

/* By slot (mta/connector_slots.h); slot 0: by no connector. */
struct queue_row {
    uint64_t recipients;
    uint64_t oldest_us; /* arrival of the oldest; 0: there is none */
};

struct queue_count {
    struct server_shard *server;
    struct timer timer;
    struct task task;
    struct queue_row *rows;         /* CONNECTOR_SLOTS_MAX; control reads these */
    struct queue_row *counts;       /* of this round */
    const struct destination *last; /* and its slot: neighbours often go the same way */
    uint32_t last_slot;
    uint32_t rows_end; /* of rows and counts: behind the last one that is not zero */
    uint32_t counts_end;
    uint32_t cursor;
    unsigned log;
    uint64_t spent_ns; /* in this round */
};

/* 0 or -ENOMEM. */
[[nodiscard]] int queue_count_init(struct queue_count *count, struct server_shard *server);
void queue_count_free(struct queue_count *count); /* harmless when init has not run */
/* With the logs open; nothing when init has not run. */
void queue_count_start(struct queue_count *count);
/* No more rounds. */
void queue_count_stop(struct queue_count *count);

#endif
