/*
 * spool_internal.h - what the files of the spool share and nobody else sees
 *
 *   spool.c        opening, closing, one turn of the loop, numbers
 *   spool_log.c    blocks, records into blocks, batches to the disk, verdicts
 *   spool_write.c  messages and outcomes into records
 *   spool_read.c   records out of the cache or from the disk
 *   compact.c      moving what lives out of the oldest segment
 */
#ifndef RINGPOST_QUEUE_SPOOL_INTERNAL_H
#define RINGPOST_QUEUE_SPOOL_INTERNAL_H

#include "core/pool.h"
#include "queue/segment.h"
#include "queue/spool.h"

enum {
    CHUNK_BYTES_MAX = 32 * 1'024, /* payload; so that a record fits a read buffer */
    READ_BUFFER_BYTES = 64 * 1'024,
    READ_BIG_BUFFERS = 4,  /* of a block's size, for large MESSAGE and OUTCOME records */
    FAILURES_TO_BREAK = 2, /* writes in a row */
    WRITES_TO_MEND = 4,
    PROOFS_MAX = 6, /* one each TICK_MS */
    WAKES_PER_TURN = 64,
    TICK_MS = 1'000,
    ID_COUNTER_BITS = SPOOL_ID_LOG_SHIFT,
    ID_GAP = 1 << 20, /* ids skipped at a restart: begun, and in no batch */
    COMPACT_MOVES = 32,
    COMPACT_LEFT = 2,   /* segments beyond the reserve: below that there is something to do */
    COMPACT_SLACK = 16, /* segments that may be dead while there are enough of them */
    COMPACT_PAUSE_MAX_MS = 300'000,
    COMPACT_GIVE_UP_MS = 8'000, /* after so long, and so many tries, what cannot be */
    COMPACT_GIVE_UP_TRIES = 4,  /* read is taken for lost */
    COMPACT_UNREADABLE = 64,    /* messages, remembered until their segment is walked */
    COMPACT_DOUBTS = 64,        /* places */
    COMPACT_ASIDE_BYTES = 64 * 1'024,
    SEGMENTS_EXTRA = 16, /* beyond the bound, see segment.h */
    SEGMENTS_EXTRA_MOVES = 64,
    COMPACT_RECORDS_PER_TURN = 256,
};

/* A stretch of the log in memory: filled, written, and kept as cache until it is needed again.
 *   0 <= durable <= submitted <= sealed <= fill; a batch is open while sealed < fill */
struct spool_block {
    struct list node; /* pending: something of it is not durable, or it is current; or cached */
    uint8_t *bytes;
    uint64_t position; /* of bytes[0]; 0: empty */
    uint32_t durable, submitted, sealed, fill;
    uint32_t pins;
    uint32_t records;        /* in the open batch */
    uint32_t sealed_oldest;  /* retirement that the newest sealed batch tells */
    uint32_t sealed_records; /* in that one */
    int32_t hash_next;
};

/* Memory for a read, with the read: may outlive its reader. */
struct spool_buffer {
    struct list node; /* free */
    struct op op;
    struct spool *spool;
    struct task *task; /* of the reader; NULL: it ended */
    uint8_t *bytes;
    uint32_t capacity;
    uint32_t segment; /* held while in flight */
    uint32_t skip;    /* bytes before the record */
    int32_t result;
    bool inflight;
    bool big;
    uint8_t use; /* enum buffer_use */
};

/* Each use has buffers of its own, and whoever waits for one holds only those of earlier uses: so
 * readers cannot wait for each other in a circle. */
enum buffer_use { BUFFER_MESSAGE, BUFFER_INDEX, BUFFER_PART, BUFFER_USES };

struct spool_extents {
    uint32_t count, index_count;
    uint8_t list[SPOOL_EXTENTS_MAX * EXTENT_BYTES];
    uint8_t index[SPOOL_EXTENTS_MAX * EXTENT_BYTES];
};

struct compact;

struct spool {
    struct shard *shard;
    struct spool_options options;
    struct segments segments;
    struct hook hook;
    struct task wake; /* makes the loop turn once more */
    struct timer tick;
    bool closed;

    /* log */
    uint64_t seed;
    uint64_t key;          /* of the current segment */
    uint64_t batch_number; /* of the last one sealed */
    uint64_t sealed_end;   /* position where it ends */
    uint64_t torn_from;    /* for the first batch after a recovery; else 0 */
    uint64_t durable;      /* position */
    uint32_t retired;      /* oldest, as the disk knows it */
    struct spool_block *blocks;
    struct spool_block *current;
    bool for_moves; /* its segment was taken when nothing but what is for moves was left */
    struct list pending;
    struct list cached;
    struct list commits; /* struct commit, by end */
    struct list writers; /* with records in the log, not committed */
    uint32_t blocks_pinned;
    int32_t *hash;
    uint32_t hash_mask;
    uint8_t *arena;
    struct op write;
    struct spool_block *writing;
    uint32_t writing_from, writing_to, writing_oldest, writing_records;
    uint64_t writing_ns;
    bool landed;
    int result;
    uint32_t failures; /* in a row */
    uint32_t mended;   /* writes since */
    bool broken;
    bool unproven;        /* no BATCH behind it says what of the last write counts */
    uint32_t proofs_left; /* after spool_stop: as often such a batch may be tried */

    /* messages */
    uint64_t next_id;
    uint32_t staging_bytes;
    struct pool staging;
    struct pool extents;
    struct list waiting_append; /* spool_writer.waiting */
    struct list waiting_commit; /* struct commit of outcomes that got -EAGAIN */

    /* reading */
    struct spool_buffer *buffers;
    uint32_t buffers_count;
    struct list buffers_free[BUFFER_USES], buffers_big[BUFFER_USES];
    struct list waiting_read[BUFFER_USES]; /* spool_read.waiting */
    uint32_t reads_inflight;
    uint8_t *buffer_arena;
    size_t buffer_arena_bytes;

    struct compact *compact;
    struct spool_metrics metrics;
};

/* spool_log.c */
int log_init(struct spool *spool);
void log_free(struct spool *spool);
/* Room for a record. 0 with where its payload goes and its position; -EAGAIN; -ENOSPC. Nothing
 * else may be appended before log_append. */
int log_reserve(struct spool *spool, size_t payload_bytes, enum segment_use use, uint8_t **payload,
                uint64_t *position);
/* Completes the record there; the payload may have become shorter. Returns its bytes. */
uint32_t log_append(struct spool *spool, enum record_kind kind, uint64_t id,
                    uint32_t payload_bytes);
/* True when so many bytes of records can be appended without waiting. */
bool log_has_room(const struct spool *spool, uint32_t bytes);
/* done will be called when all appended so far is durable. */
void log_commit(struct spool *spool, struct commit *commit);
/* An empty batch: to tell the disk about retirements, or to see whether it works again. */
int log_touch(struct spool *spool, enum segment_use use);
void log_landed(struct spool *spool);
void log_flush(struct spool *spool);
/* The block that has this position, if it is in memory. */
struct spool_block *log_cached(struct spool *spool, uint64_t position);
void log_pin(struct spool *spool, struct spool_block *block);
void log_unpin(struct spool *spool, struct spool_block *block);

/* spool_write.c */
void write_failed(struct spool *spool, uint64_t durable);
void write_wake(struct spool *spool);
void write_settled(struct spool_writer *writer, int result);
/* For compaction: a message that has its id and its encoded envelope already, and outcomes. */
void write_begin_moved(struct spool *spool, struct spool_writer *writer, uint64_t id,
                       struct task *task);
int write_commit_encoded(struct spool_writer *writer, const struct message_head *head,
                         struct commit *commit);
size_t write_outcomes_max(const struct spool *spool);

/* spool_read.c */
size_t read_bytes(const struct spool_options *options);
int read_init(struct spool *spool);
void read_free(struct spool *spool);
/* The encoded envelope, and its head. */
int read_message(struct spool_read *read);
/* After an error of an outcome or a part, of a message that could be read itself: steps over the
 * record that could not. *position: where that is; 0: not known. False: there is none to step over.
 */
bool read_skip_outcome(struct spool_read *read, uint64_t *position);
void read_skip_part(struct spool_read *read, uint64_t *position);

/* compact.c */
size_t compact_bytes(const struct spool *spool); /* asks for its options only */
int compact_init(struct spool *spool);
void compact_free(struct spool *spool);
void compact_run(struct spool *spool);
void compact_write_failed(struct spool *spool); /* a segment was lost to it */
void compact_gained(struct spool *spool);       /* segments are free again */
bool compact_idle(const struct spool *spool);
void compact_tick(struct spool *spool);
/* A reader could not read this message. */
void compact_unreadable(struct spool *spool, uint64_t id);

static inline struct record_keys spool_keys(const struct spool *spool, uint32_t sequence)
{
    const struct segment *segment = segments_find(&spool->segments, sequence);
    return (struct record_keys) { spool->seed, segment != NULL ? segment->key : 0 };
}

static inline uint32_t stored_first(const struct stored *stored)
{
    return stored->segment - stored->span;
}
static inline uint64_t stored_position(const struct stored *stored)
{
    return log_position(stored->segment, stored->offset);
}
static inline uint64_t stored_outcome(const struct stored *stored)
{
    return log_position(stored->outcome_segment, stored->outcome_offset);
}

#endif
