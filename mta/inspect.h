/*
 * inspect.h - what an operator asks a shard about its queue, answered as JSON
 *
 * Control hands a question to a shard, which fills it in without hurrying (envelopes are read from
 * the spool, INSPECT_SCAN messages are looked at in a turn of the loop) and hands it back. Bounded:
 * a page of INSPECT_PAGE_MAX messages, INSPECT_RECIPIENTS recipients each.
 */
#ifndef RINGPOST_MTA_INSPECT_H
#define RINGPOST_MTA_INSPECT_H

#include <jansson.h>

#include "core/shard.h"
#include "mta/queue_job.h"
#include "queue/spool.h"

enum {
    INSPECT_PAGE = 100,
    INSPECT_PAGE_MAX = 1'000,
    INSPECT_RECIPIENTS = 100,
    INSPECT_SCAN = 512,
};

struct queue;

struct inspect_question {
    /* asked */
    uint64_t id;            /* one message, with its recipients; 0: a page */
    unsigned log;           /* of this shard, */
    uint32_t cursor;        /* and where its page begins: 0, or what the last answer said */
    unsigned limit;         /* messages of the page */
    struct queue_job means; /* those that a verb would change, or (QUEUE_VERBS) that are selected */
    void *owner;
    /* answered */
    json_t *messages; /* array */
    bool more;        /* log and cursor say where the next page begins */
    /* the shard's own */
    struct task task;
    struct shard *shard;
    struct queue *queue;
    struct spool_read read;
    struct queue_recipients wanted;
    uint64_t reading; /* id of the message under way; 0: none */
};

/* Sender, size, recipients and where it came from, into entry. */
void inspect_envelope(const struct envelope *envelope, json_t *entry);
json_t *inspect_outcome(const struct outcome *outcome);
/* Handler of HANDOFF_ASK. */
void inspect_asked(struct shard *shard, const struct handoff *handoff);

#endif
