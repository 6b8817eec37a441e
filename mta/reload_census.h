/*
 * reload_census.h - what a reload would do to the mail that waits: a shard counts, before it
 * happens
 *
 *   control --HANDOFF_CENSUS--> each shard reads the envelopes of its queue --HANDOFF_COUNTED-->
 * back
 *
 * For each recipient that waits, the choice by the configuration in force is held against that by
 * the candidate: whether it goes by another connector, and whether the TLS level demanded there is
 * a lower one. Levels on record are left out: what is asked is what was configured, and will be.
 *
 * Control owns the question and both configurations, which stay as they are until it is answered. A
 * few messages at a time, so mail goes on; mail that comes meanwhile may be missed, and was chosen
 * a way for a moment ago.
 */
#ifndef RINGPOST_MTA_RELOAD_CENSUS_H
#define RINGPOST_MTA_RELOAD_CENSUS_H

#include "core/shard.h"
#include "queue/envelope.h"
#include "queue/spool.h"

struct config;
struct queue;

enum { CENSUS_STEP = 64, CENSUS_WORDS = (RECIPIENTS_MAX + 63) / 64 };

/* Recipients. */
struct census_row {
    uint64_t moves;  /* go by another connector, or none */
    uint64_t weaker; /* with less TLS demanded */
};

struct reload_census {
    /* asked */
    const struct config *now, *next;
    /* answered: by the index of the connector in now; the last one: by none */
    struct census_row *rows;
    /* the shard's own */
    struct task task;
    struct shard *shard;
    unsigned log;
    uint32_t cursor;
    struct queue *queue;
    struct spool_read read;
    uint64_t reading;               /* id of the message under way; 0: none */
    uint64_t waiting[CENSUS_WORDS]; /* its recipients that are not final, a bit each */
};

/* False: nothing that a choice depends on has changed, so there is nothing to count. */
bool reload_census_is_needed(const struct config *now, const struct config *next);
/* Handler of HANDOFF_CENSUS. */
void reload_census_asked(struct shard *shard, const struct handoff *handoff);

#endif
