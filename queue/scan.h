/*
 * scan.h - the whole queue, counted anew and again: is anything lost, is anything forgotten?
 *
 *   PAUSE --PAUSE_MS--> a slice of slots --SLICE_MS--> the next one .. --the last--> judged, PAUSE
 *
 * Slices walk the memory of messages slot by slot, whatever lists and timers say of them, and count
 * the recipients that are there. What comes or goes behind the cursor meanwhile is put right as it
 * happens (scan_count), so that a pass ends with the number of this very moment: what came in less
 * what went out must be that. So must the spool's number of live messages be that of the queue.
 *
 * Expiry holds here too: a unit that is older than it may get, and whose timer will not say so, is
 * expired; a deferred one whose timer is lost goes on. Both mean a mistake of ours, are counted and
 * logged.
 *
 * Owned by its queue. Bounds: SCAN_SLOTS a slice, SCAN_LINES events a pass.
 */
#ifndef RINGPOST_QUEUE_SCAN_H
#define RINGPOST_QUEUE_SCAN_H

#include "core/metrics.h"
#include "core/timer.h"

enum {
    SCAN_SLOTS = 1'024,
    SCAN_SLICE_MS = 25,
    SCAN_PAUSE_MS = 5'000,
    SCAN_GRACE_MS = 5'000, /* a timer may be as late as a busy shard is */
    SCAN_LINES = 16,
    SCAN_STATES = 5, /* of a unit */
};

struct queue;

struct queue_scan_metrics {
    uint64_t balance;  /* recipients; signed */
    uint64_t unlisted; /* messages; signed */
    uint64_t oldest_ms[SCAN_STATES];
    uint64_t overdue;
    uint64_t passes, pass_ms, expired, woken;
};
extern const struct metric queue_scan_metrics_table[];
extern const unsigned queue_scan_metrics_count;

struct queue_scan {
    struct queue *queue;
    struct timer timer;
    uint32_t cursor; /* slots before this one are counted; 0: no pass is under way */
    uint32_t lines;
    uint64_t began_ms;
    int64_t clock_us;    /* the steady clock less the monotonic one, as it was last */
    uint64_t patient_ms; /* monotonic; we were suspended: until then nobody is expired */
    int64_t recipients, messages;
    int64_t oldest_us[SCAN_STATES]; /* arrival; INT64_MAX: none */
    uint64_t overdue;
    uint64_t told_balance, told_unlisted, told_overdue;
    struct queue_scan_metrics metrics;
};

/* From the shard's loop; the queue has its spool. Stop before any queue of the shard is freed. */
void scan_start(struct queue *queue);
void scan_stop(struct queue *queue);

/* The message in this slot of its pool has so many more: see cursor. */
static inline void scan_count(struct queue_scan *scan, uint32_t slot, int64_t messages,
                              int64_t recipients)
{
    if (slot >= scan->cursor)
        return;
    scan->messages += messages;
    scan->recipients += recipients;
}

#endif
