/*
 * recovery_internal.h - what a recovery leaves for the spool to go on from
 */
#ifndef RINGPOST_QUEUE_RECOVERY_INTERNAL_H
#define RINGPOST_QUEUE_RECOVERY_INTERNAL_H

#include "queue/recovery.h"

struct recovery_file {
    uint32_t number;   /* in its name */
    uint32_t sequence; /* 0: free */
    uint32_t bytes;    /* of log in it */
    uint64_t size;
    uint64_t key;
    uint64_t before;    /* of its first BATCH */
    uint64_t torn_from; /* likewise */
    bool first_known;   /* it has one */
    bool walked;        /* part of the log; others are free */
};

struct recovery {
    struct recovery_file *files;
    uint32_t files_count;
    uint32_t oldest, newest;
    uint64_t end;       /* position behind all that was found */
    uint64_t torn_from; /* position; 0: nothing was torn */
    uint64_t batch_number;
    uint64_t next_id;
    uint64_t seed;       /* 0: the log is new */
    bool identity_known; /* there is a file that says so */
};

/* Makes the file "identity"; its name is durable once the directory is synced. 0 or errno. */
int recovery_identity_write(struct ring *ring, const char *directory, uint64_t seed,
                            uint32_t number);

#endif
