/*
 * control_queue.h - operators' verbs over the queue, seen from the control thread
 *
 *   begin -> a part to each shard -> DONE: all but what is being delivered -> OVER
 *
 * Included by control.h, which has one of these. Bounds: QUEUE_JOBS_MAX at a time; the last ones
 * that are over are remembered until their place is needed.
 */
#ifndef RINGPOST_MTA_CONTROL_QUEUE_H
#define RINGPOST_MTA_CONTROL_QUEUE_H

#include <jansson.h>

#include "mta/queue_job.h"

enum { QUEUE_JOBS_MAX = 16, QUEUE_WORDS_MAX = 256 };

struct control;

struct control_job {
    uint64_t number; /* 0: there is none */
    struct queue_job job;
    struct queue_part *parts;      /* NULL: it is over */
    unsigned settled, over;        /* shards */
    struct queue_part_numbers sum; /* of those that are over */
    int64_t at_us;
};

struct control_queue {
    struct control_job *jobs; /* QUEUE_JOBS_MAX */
    uint64_t last;            /* number of a job */
};

/* Before the shards' threads. 0 or -ENOMEM. */
[[nodiscard]] int control_queue_open(struct control *control);
void control_queue_start(struct control *control);
/* After the shards' threads. */
void control_queue_close(struct control *control);

/* Begins a verb. Its number, or -EINVAL (what is meant cannot be), -EBUSY: words. */
[[nodiscard]] int64_t control_queue_begin(struct control *control, const struct queue_job *job,
                                          char words[static QUEUE_WORDS_MAX]);
/* All but what is being delivered has been looked at. True also of one that is not known. */
bool control_queue_done(const struct control *control, uint64_t number);
/* {"job": .., "verb": .., "state": "working", "done" or "over", numbers}; NULL: it is not known. */
json_t *control_queue_report(const struct control *control, uint64_t number);

#endif
