/*
 * recovery_table.h - the parts of a recovery: reading files, what was lost, the table of messages
 *
 * recovery.c walks; this remembers, and reports in the end. Nothing here outlives a recovery.
 */
#ifndef RINGPOST_QUEUE_RECOVERY_TABLE_H
#define RINGPOST_QUEUE_RECOVERY_TABLE_H

#include "queue/recovery_internal.h"

enum { RECOVERY_CACHE_BLOCKS = 8 };

/* ---- files ---- */

struct recovery_disk {
    struct ring *ring;
    const struct recovery_options *options;
    const struct recovery *recovery;
    int fd; /* of the file that was read last; -1: none */
    uint32_t fd_number;
    uint64_t clock;
    uint8_t *arena;
    struct {
        uint32_t number, block;
        uint32_t bytes;
        uint64_t used; /* clock; 0: empty */
    } cache[RECOVERY_CACHE_BLOCKS];
};

int recovery_disk_init(struct recovery_disk *disk, struct ring *ring,
                       const struct recovery_options *options, const struct recovery *recovery);
void recovery_disk_free(struct recovery_disk *disk);
int recovery_disk_open(struct recovery_disk *disk, const struct recovery_file *file,
                       uint64_t *size);
/* A block of a file, shorter at its end; what cannot be read is zeros. The slice lives for
 * RECOVERY_CACHE_BLOCKS - 1 more calls. */
int recovery_disk_read(struct recovery_disk *disk, const struct recovery_file *file, uint32_t block,
                       struct slice *in);
/* The same into memory of the caller, block_bytes. */
int recovery_disk_load(struct recovery_disk *disk, const struct recovery_file *file, uint32_t block,
                       uint8_t *memory, struct slice *in);
/* It is read soon, from its begin to its end. */
void recovery_disk_ahead(struct recovery_disk *disk, const struct recovery_file *file);
int recovery_disk_sync(struct recovery_disk *disk, const struct recovery_file *file);
/* The log's secret from the file "identity", so that a log whose first BATCH is damaged can be read
 * all the same. 0, or -EBADMSG: there is none (yet), or it is damaged. */
int recovery_identity_read(struct recovery_disk *disk, uint64_t *seed);
/* Writes these bytes again, as they were read, and syncs. The last write of the log may be one that
 * failed, and that the kernel still shows from memory: a sync alone would say that all is well. */
int recovery_disk_prove(struct recovery_disk *disk, const struct recovery_file *file, uint32_t from,
                        uint32_t to);
/* The record of this kind and message there, checked. 0, -EBADMSG, or another errno. */
int recovery_disk_record(struct recovery_disk *disk, uint64_t position, enum record_kind kind,
                         uint64_t id, struct slice *payload);

/* ---- what was lost, in the order of the log ---- */

struct recovery_range {
    uint64_t position;
    uint32_t bytes;
    bool torn; /* in a write that nobody was told about */
};

struct recovery_ranges {
    struct recovery_range *list;
    size_t count, capacity;
    bool out_of_memory;
};

void recovery_ranges_add(struct recovery_ranges *ranges, uint64_t position, uint32_t bytes);
/* The first range that touches these bytes, or NULL. */
const struct recovery_range *recovery_ranges_find(const struct recovery_ranges *ranges,
                                                  uint64_t position, uint32_t bytes);
int recovery_quarantine(struct recovery_disk *disk, const struct recovery_file *file,
                        const struct recovery_range *range);

/* ---- messages ---- */

struct recovery_entry {
    struct stored stored; /* segment 0: no MESSAGE record yet */
    uint32_t recipients;
    uint32_t finals;
    uint8_t *final; /* bit of each recipient; NULL: none yet, or one recipient */
};

struct recovery_table {
    struct recovery_disk *disk;
    const struct recovery_ranges *ranges;
    struct recovery_entry *entries; /* open addressing; id 0: empty */
    size_t count, capacity;
};

void recovery_table_init(struct recovery_table *table, struct recovery_disk *disk,
                         const struct recovery_ranges *ranges);
void recovery_table_free(struct recovery_table *table);
/* Records in the order of the log. 0, -EBADMSG: intact, and yet not what it should be; -ENOMEM. */
int recovery_table_message(struct recovery_table *table, const struct record *record,
                           uint64_t position);
int recovery_table_outcome(struct recovery_table *table, const struct record *record,
                           uint64_t position);
int recovery_table_part(struct recovery_table *table, uint64_t id);
/* Calls found() for what lives. */
int recovery_table_report(struct recovery_table *table, uint32_t oldest,
                          struct recovery_report *report);

#endif
