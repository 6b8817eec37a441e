/*
 * store.h - small durable state on disk: LMDB, one file, used by the control thread only
 *
 *   open --get, put, drop, next--> a batch of changes --commit--> durable
 *
 * For what is worth keeping and not worth a wait: what a crash takes with it (the batch) is found
 * out again. A file that is damaged is moved aside and a new one begun; the report tells of it.
 * LMDB has no checksums and a damaged file may take the process down that reads it, so at start the
 * whole file is read by a child process first; records have a checksum of their own.
 *
 * A record is octets under a key of octets; its kind says whether it is good, and when it was seen
 * last. Bounded: records_max, the ones not seen for the longest time go first.
 */
#ifndef RINGPOST_MTA_STORE_H
#define RINGPOST_MTA_STORE_H

#include "core/slice.h"

enum { STORE_PATH_MAX = 1'024, STORE_KEY_MAX = 511 };

struct store;

struct store_kind {
    uint32_t format;       /* of its records; another one in the file is damage */
    uint32_t record_bytes; /* the largest */
    uint32_t bytes_guess;  /* of one in the file, with its share of half empty and old pages */
    bool (*key_good)(struct slice key);
    bool (*good)(struct slice record);
    int64_t (*seen)(struct slice record); /* of a good one */
    /* One to try with whether the file takes changes. It is not kept. */
    void (*sample)(struct slice *key, struct slice *record);
};

struct store_report {
    bool damaged;               /* the file was moved, to aside */
    char aside[STORE_PATH_MAX]; /* "": it could not be moved */
    char why[128];
};

/* kind stays. With no other thread that takes locks yet, for it forks. 0, or an errno; report is
 * filled in either way. */
[[nodiscard]] int store_open(const char *path, const struct store_kind *kind, uint32_t records_max,
                             struct store **store, struct store_report *report);
/* Commits. NULL is allowed. */
void store_close(struct store *store);
/* A function below said -EBADMSG: what it was stays beside, and the store is empty. 0, or an errno:
 * there is no store any more. */
[[nodiscard]] int store_renew(struct store **store, struct store_report *report);

/* All: 0; -ENOENT; -EBADMSG: damaged; or another errno. A key that is longer than STORE_KEY_MAX is
 * never there (-ENAMETOOLONG). */

/* record has room for the kind's largest. */
[[nodiscard]] int store_get(struct store *store, struct slice key, void *record, size_t *bytes);
/* dropped: how many had to go for it. */
[[nodiscard]] int store_put(struct store *store, struct slice key, struct slice record,
                            unsigned *dropped);
[[nodiscard]] int store_drop(struct store *store, struct slice key);
/* The first one behind key in the order of octets ("": the first of all), which key then is. */
[[nodiscard]] int store_next(struct store *store, uint8_t key[static STORE_KEY_MAX],
                             size_t *key_bytes, void *record, size_t *bytes);
/* Nothing to do when nothing has changed. */
[[nodiscard]] int store_commit(struct store *store);
uint64_t store_count(struct store *store);

#endif
