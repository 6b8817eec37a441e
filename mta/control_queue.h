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
#include "mta/queue_orders.h"
#include "mta/queue_top.h"

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

/* One walk at a time; who asks meanwhile shares its answer. */
struct control_top {
    struct queue_top_question **questions; /* of each shard; NULL: none is under way */
    unsigned left;                         /* shards that have not answered */
    unsigned limit;
    uint64_t number; /* of the walk under way, or the last one */
    json_t *answer;  /* of the last one */
};

struct control_queue {
    struct control_top top;
    struct control_job *jobs; /* QUEUE_JOBS_MAX */
    uint64_t last;            /* number of a job */
};

struct control_orders {
    struct queue_orders *now;
    uint64_t last;   /* number of an order */
    uint64_t untold; /* shards that have not got the newest set, a bit each */
    struct timer timer;
    char path[ORDERS_PATH_MAX];
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
/* The number of the walk whose answer is to be waited for; or -EBUSY, -ENOMEM. */
[[nodiscard]] int64_t control_top_ask(struct control *control, enum queue_top_order order,
                                      unsigned limit, const char *only);
/* NULL: not yet. Borrowed. */
json_t *control_top_answer(const struct control *control, uint64_t number);
/* The selection, as fields of a line. */
void control_queue_log(struct log_line *line, const struct queue_selection *selection,
                       int64_t now_us);

/* ---- control_orders.c ---- */

/* As the user we are to be, before the logs are opened. 0, or an errno that was told. */
[[nodiscard]] int control_orders_open(struct control *control, const struct config *config);
void control_orders_start(struct control *control);
/* After the shards' threads. */
void control_orders_close(struct control *control);
/* to: of a reroute a connector, of a relax a level; number and times are ours. The order's number;
 * or an errno, and words. */
[[nodiscard]] int64_t control_orders_give(struct control *control, struct queue_order *order,
                                          const char *to, char words[static QUEUE_WORDS_MAX]);
/* What is suspended by that destination or connector is not any more. */
[[nodiscard]] int control_orders_resume(struct control *control, const struct queue_order *order,
                                        char words[static QUEUE_WORDS_MAX]);
[[nodiscard]] int control_orders_forget(struct control *control, uint64_t number, const char *by,
                                        char words[static QUEUE_WORDS_MAX]);
/* {"orders": [..]} */
json_t *control_orders_report(const struct control *control);

#endif
