/*
 * recovery.h - reading a log back: at start, and offline for "ringpost spool check"
 *
 * Reads every segment forward, cuts the torn tail of the newest, finds the next valid record after
 * a damaged one, and never skips silently: a damaged range is copied to the quarantine directory,
 * counted and reported. It changes nothing in the log.
 */
#ifndef RINGPOST_QUEUE_RECOVERY_H
#define RINGPOST_QUEUE_RECOVERY_H

#include "core/ring.h"
#include "queue/spool.h"

struct recovered {
    struct stored stored;
    struct envelope envelope;       /* decoded; borrows, for the time of the call */
    const struct outcome *outcomes; /* the newest of each recipient that has one */
    uint32_t outcomes_count;
    bool damaged; /* body or an outcome is damaged: keep it held, visible */
};

struct recovery_report {
    uint32_t segments;      /* with records in them */
    uint32_t segments_free; /* files that hold nothing of this log */
    uint32_t segments_gone; /* sequence numbers that should have a file and have none */
    uint64_t bytes;         /* read */
    uint64_t batches;
    uint64_t records; /* valid ones */
    uint64_t messages_live;
    uint64_t messages_finished;
    uint64_t messages_damaged; /* live, and something of it is unreadable */
    uint64_t messages_torn;    /* in the last, never acknowledged write; dropped */
    uint64_t unfinished;       /* uploads that never were committed */
    uint64_t damages;          /* ranges in quarantine */
    uint64_t damage_bytes;
    uint64_t torn_bytes; /* of the last write */
    uint64_t quarantine_failed;
    uint64_t highest_id;
};

struct recovery_options {
    const char *directory;
    const char *quarantine; /* NULL: nothing is copied */
    uint32_t number;
    uint32_t segment_bytes;
    uint32_t block_bytes;
    uint32_t segments_max;
    bool prove; /* the log will be gone on with: sync all of it, and write the last batch again, as
                   it is, see recovery_disk_prove. False: nothing is written */
    void *owner;
    void (*found)(void *owner, const struct recovered *recovered); /* may be NULL */
    /* For a look that counts for itself; each may be NULL. Each intact MESSAGE and OUTCOME record,
     * in the order of the log. */
    int (*record)(void *owner, const struct record *record, uint64_t position);
    /* Each range that nothing intact was found in. torn: in a write that nobody was told about. */
    void (*range)(void *owner, uint32_t file, uint64_t position, uint32_t bytes, bool torn);
};

struct recovery; /* what spool_open goes on from */

/* 0 or errno with *why. On success *recovery (if wanted) is to be freed. */
[[nodiscard]] int recovery_run(struct ring *ring, const struct recovery_options *options,
                               struct recovery_report *report, struct recovery **recovery,
                               const char **why);
void recovery_free(struct recovery *recovery);

#endif
