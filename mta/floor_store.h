/*
 * floor_store.h - floor memory on disk: LMDB, one file, used by the control thread only
 *
 *   open --get, put, drop, next--> a batch of changes --commit--> durable
 *
 * Nothing in it is worth a wait: what a crash takes with it (the batch) is learned again. A file
 * that is damaged is moved aside and a new one begun; the report tells of it. LMDB has no checksums
 * and a damaged file may take the process down that reads it, so at start the whole file is read by
 * a child process first; records have a checksum of their own.
 *
 * Bounded: records_max, the ones not seen for the longest time go first.
 */
#ifndef RINGPOST_MTA_FLOOR_STORE_H
#define RINGPOST_MTA_FLOOR_STORE_H

#include "mta/floor.h"

enum { FLOOR_PATH_MAX = 1'024 };

struct floor_store;

struct floor_store_report {
    bool damaged;               /* the file was moved, to aside */
    char aside[FLOOR_PATH_MAX]; /* "": it could not be moved */
    char why[128];
};

/* With no other thread that takes locks yet, for it forks. 0, or an errno; report is filled in
 * either way. */
[[nodiscard]] int floor_store_open(const char *path, uint32_t records_max,
                                   struct floor_store **store, struct floor_store_report *report);
/* Commits. NULL is allowed. */
void floor_store_close(struct floor_store *store);
/* A function below said -EBADMSG: what it was stays beside, and the store is empty. now_s names the
 * file. 0, or an errno: there is no store any more. */
[[nodiscard]] int floor_store_renew(struct floor_store **store, struct floor_store_report *report);

/* All: 0; -ENOENT; -EBADMSG: damaged; or another errno. Names that are together longer than LMDB
 * takes are never there (-ENAMETOOLONG). */
[[nodiscard]] int floor_store_get(struct floor_store *store, const char *host, const char *domain,
                                  struct floor_record *record);
/* dropped: how many had to go for it. */
[[nodiscard]] int floor_store_put(struct floor_store *store, const char *host, const char *domain,
                                  const struct floor_record *record, unsigned *dropped);
[[nodiscard]] int floor_store_drop(struct floor_store *store, const char *host, const char *domain);
/* The first one behind host and domain in the order of names ("" and "": the first of all), which
 * host and domain then name. */
[[nodiscard]] int floor_store_next(struct floor_store *store, char host[static FLOOR_HOST_MAX],
                                   char domain[static FLOOR_DOMAIN_MAX],
                                   struct floor_record *record);
/* Nothing to do when nothing has changed. */
[[nodiscard]] int floor_store_commit(struct floor_store *store);
uint64_t floor_store_count(struct floor_store *store);

#endif
