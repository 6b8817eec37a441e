/*
 * queue_job.h - an operator's verb over many messages: each shard's part of it, a slice at a time
 *
 *   control --HANDOFF_JOB--> WORKING --all was looked at--> SETTLED --nothing is active--> OVER
 *                               '-------- HANDOFF_JOB_TOLD to control at each arrow --------'
 *
 * A part walks its shard's queues, reads envelopes where the selection asks for them, and applies
 * the verb to units that fit. What it says has happened is on stable storage: held, released and
 * retried units by a record of their own, discarded and bounced ones by their outcome. A unit that
 * is being delivered is left alone until that attempt has settled; then the verb holds for what is
 * left of it. SETTLED: only such ones are left.
 *
 * Mail goes on meanwhile: JOB_SCAN messages a turn of the loop, JOB_SLOTS of them under way. A
 * shard that drains ends its part where it is. Control owns job and parts, and reads the numbers
 * while they are counted; the rest of a part is its shard's until OVER.
 */
#ifndef RINGPOST_MTA_QUEUE_JOB_H
#define RINGPOST_MTA_QUEUE_JOB_H

#include "mta/connector_marks.h"
#include "mta/next_hop.h"
#include "mta/queue_select.h"

struct server_log;
struct server_shard;

enum {
    JOB_SCAN = 512,
    JOB_SLOTS = 32,
    JOB_WAITING_MAX = 8'192, /* messages that are being delivered, of a shard */
    JOB_REASON_MAX = RESOLVE_WHY_MAX,
};

enum queue_verb {
    QUEUE_HOLD,
    QUEUE_RELEASE,
    QUEUE_RETRY,
    QUEUE_DISCARD,
    QUEUE_BOUNCE,
    QUEUE_REROUTE, /* looks for the way again: an order (mta/queue_orders.h) may say another one */
    QUEUE_VERBS,
};
const char *queue_verb_name(enum queue_verb verb);
/* False: there is no such verb. */
bool queue_verb_named(const char *name, enum queue_verb *verb);

/* What a verb does to a unit in this state. */
enum queue_verb_step { VERB_LEAVES, VERB_CHANGES, VERB_WAITS };
enum queue_verb_step queue_verb_step(enum queue_verb verb, enum unit_state state);

struct queue_job {
    enum queue_verb verb;             /* QUEUE_VERBS: none, it is only looked at (mta/inspect.h) */
    bool dry_run;                     /* only counts */
    struct queue_selection selection; /* without the state active: that is waited for */
    char by[CONNECTOR_BY_MAX];
    char reason[JOB_REASON_MAX];
};

/* By what memory has of it: the unit; some unit of the message. */
bool queue_job_means(const struct queue_job *job, const struct unit *unit);
bool queue_job_may_mean(const struct queue_job *job, const struct message *message);

enum queue_part_state { PART_WORKING, PART_SETTLED, PART_OVER };

struct queue_part_numbers {
    uint64_t looked, total;     /* messages, of those in the queue at the beginning */
    uint64_t messages;          /* that it is about */
    uint64_t units, recipients; /* that were changed */
    uint64_t active;            /* messages being delivered, that it waits for */
    uint64_t failed;            /* units that could not be changed */
};

/* One message under way. */
struct queue_slot {
    struct queue_part *part;
    struct task task;
    struct spool_read read;
    struct attempt_word word;
    struct server_log *log;
    uint64_t id;         /* 0: free */
    uint32_t left;       /* units to look at, at most */
    uint32_t recipients; /* of the unit under way */
    uint16_t tries;
    enum attempt_purpose purpose; /* of the unit under way; SEND: none, it is marked */
    bool released;                /* some unit of it */
    bool reading;
    bool counted;
    bool failed; /* some unit of it was not changed, and may be later */
    char key[DESTINATION_KEY_MAX];
    struct queue_recipients wanted;
};

struct queue_waiting {
    struct server_log *log;
    uint64_t id;
    uint16_t tries;
};

struct queue_part {
    const struct queue_job *job;
    struct queue_part_numbers numbers;
    void *owner;
    /* the shard's own */
    struct list node;
    struct shard *shard;
    struct task task;
    struct timer timer;
    unsigned log;
    uint32_t cursor;
    unsigned ids_done;
    bool scanned;
    bool told_settled;
    uint64_t until_ms;
    uint64_t began_ms;
    unsigned slots_used;
    unsigned waiting_count;
    struct unit *unit_of[RECIPIENTS_MAX]; /* of a message's recipients, while it is looked at */
    struct queue_slot slots[JOB_SLOTS];
    struct queue_waiting waiting[JOB_WAITING_MAX];
};

/* Handler of HANDOFF_JOB. */
void queue_part_asked(struct shard *shard, const struct handoff *handoff);
/* The shard drains: its parts end as soon as what they have under way is settled. */
void queue_parts_stop(struct server_shard *server);

#endif
