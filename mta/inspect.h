/*
 * inspect.h - what an operator asks a shard about its queue, answered as JSON
 *
 * Control hands a question to a shard, which fills it in without hurrying (envelopes are read from
 * the spool) and hands it back. Bounded: a page of INSPECT_PAGE messages, INSPECT_RECIPIENTS
 * recipients each.
 */
#ifndef RINGPOST_MTA_INSPECT_H
#define RINGPOST_MTA_INSPECT_H

#include <jansson.h>

#include "core/shard.h"
#include "queue/spool.h"

enum { INSPECT_PAGE = 100, INSPECT_RECIPIENTS = 100 };

struct queue;

struct inspect_question {
    /* asked */
    uint64_t id;     /* one message, with its recipients; 0: a page */
    unsigned log;    /* of this shard, */
    uint32_t cursor; /* and where its page begins: 0, or what the last answer said */
    void *owner;
    /* answered */
    json_t *messages; /* array */
    bool more;        /* log and cursor say where the next page begins */
    /* the shard's own */
    struct task task;
    struct shard *shard;
    struct queue *queue;
    struct spool_read read;
    uint64_t reading; /* id of the message under way; 0: none */
};

/* Handler of HANDOFF_ASK. */
void inspect_asked(struct shard *shard, const struct handoff *handoff);

#endif
