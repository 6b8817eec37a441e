/*
 * spool.h - messages on stable storage: one append-only log, its writers and its readers
 *
 * A spool is one log in one directory and belongs to one shard. What it promises:
 *
 *   commit->done(commit, 0) of a message: body and envelope are on stable storage, and so are the
 *   file's size and its name. Before that call nobody may say 250. Never called from inside the
 *   call that asked, always from the shard's loop.
 *
 *   writer:  IDLE --begin--> OPEN --body*--> OPEN --commit--> COMMITTED --done--> (begin again)
 *                              `--abort / an error--> IDLE
 *   reader:  IDLE --begin--> READING: envelope, outcomes, body, in any order --end--> IDLE
 *
 * -EAGAIN from a writer or reader means: its task will be run once it is worth asking again; the
 * call had no effect. Other errors of a writer are final for the message: -ENOSPC (452), -EIO
 * (451), -EFBIG (552: more than message_bytes_max), -E2BIG (452: envelope too large), -ENOMEM (452:
 * more than writers_max messages are open). Failure of a batch fails all that was in it and all
 * that waited behind it, never more than that.
 */
#ifndef RINGPOST_QUEUE_SPOOL_H
#define RINGPOST_QUEUE_SPOOL_H

#include "core/list.h"
#include "core/metrics.h"
#include "core/shard.h"
#include "queue/envelope.h"
#include "queue/record.h"

enum {
    SPOOL_STAGING_BYTES = 16'384, /* a message up to here is one record */
    SPOOL_EXTENTS_MAX = 128,      /* of a list; lists of lists: 16384 chunks, 256 MiB */
    SPOOL_LOGS_MAX = 1'024,
    SPOOL_SEGMENTS_MAX = 65'536,
    SPOOL_SEGMENT_BYTES_MIN = 256 * 1'024,
    SPOOL_BLOCK_BYTES_MIN = 64 * 1'024,
    SPOOL_ID_LOG_SHIFT = 54, /* of a message's id: above is the number of the log it began in */
};

/* Where a message is. All that memory must keep of one; owned by the queue, filled in by the spool
 * (writer->stored at done, recovery, spool_outcome, compaction). */
struct stored {
    uint64_t id;
    uint32_t segment; /* of the MESSAGE record: sequence number and offset */
    uint32_t offset;
    uint32_t outcome_segment; /* newest OUTCOME record; 0: none */
    uint32_t outcome_offset;
    uint32_t units;  /* bytes it takes in the log / 8, all records */
    uint16_t span;   /* how many segments before that one hold chunks of it */
    uint16_t single; /* 1: one recipient */
};
static_assert(sizeof(struct stored) == 32);

struct spool;
struct spool_buffer;
struct spool_block;
struct recovery_report;
struct recovered;

/* Zero means the default in brackets. */
struct spool_options {
    const char *directory;     /* of this log, exists or is made (its parent exists); kept */
    const char *quarantine;    /* damaged ranges are copied here; made when needed; kept */
    uint32_t number;           /* of this log, below SPOOL_LOGS_MAX; part of every message id */
    uint32_t segment_bytes;    /* [64 MiB] multiple of block_bytes */
    uint32_t block_bytes;      /* [1 MiB] power of two; the largest record and write */
    uint32_t segments_max;     /* [256] so 16 GiB */
    uint32_t segments_reserve; /* [2] not for new mail */
    uint32_t segments_moves;   /* [1] of those, for compaction alone: the largest message and one */
    uint32_t segments_ahead;   /* [2] prepared before they are needed */
    uint32_t cache_blocks;     /* [32] at least 4 */
    uint32_t writers_max;      /* [8192] messages between their first octet and commit */
    uint32_t read_buffers;     /* [1024] of 64 KiB, touched as needed, for what misses the cache */
    uint64_t message_bytes_max; /* [100 MiB] */
    void *owner;
    /* The live message with this id, or NULL. Asked by compaction; it moves what it finds and
     * rewrites *stored when the copy is durable. Must see each message from its commit's done(0),
     * or from found(), until spool_free. */
    struct stored *(*find)(void *owner, uint64_t id);
    /* Each live message, once, from spool_open. The queue copies what it needs. */
    void (*found)(void *owner, const struct recovered *recovered);
};

/* The most memory that it takes with these options: for messages on their way in; for its cache,
 * for reading and for compaction. */
uint64_t spool_writers_bytes(const struct spool_options *options);
uint64_t spool_buffers_bytes(const struct spool_options *options);

/* Opens the log, recovers it (queue/recovery.h), makes it ready. Blocks; before the loop runs. On
 * failure *why says in words what is wrong (valid until the next call in this thread).
 * report may be NULL. */
[[nodiscard]] int spool_open(struct shard *shard, const struct spool_options *options,
                             struct recovery_report *report, struct spool **spool,
                             const char **why);
/* Starts nothing new of its own: no segments prepared ahead, no compaction. Before the end. Only
 * where the last write is not proven yet, it tries for some seconds to write a batch behind it. */
void spool_stop(struct spool *spool);
/* True once nothing waits for the disk: turn the loop until then before spool_close. */
bool spool_idle(const struct spool *spool);
/* A batch says what of the last write counts. If not even the end brought one (the disk takes
 * nothing), the next start may find messages that were refused after a failed write. */
bool spool_proven(const struct spool *spool);
/* All writers aborted or done, all readers ended, spool_idle. Also unhooks from the shard. */
void spool_close(struct spool *spool);

/* May new mail of about so many bytes be taken in? 0, -ENOSPC (452 4.3.1), -EIO (broken: 421/451).
 * For MAIL FROM with SIZE, and for readiness (bytes 0). */
[[nodiscard]] int spool_room(const struct spool *spool, uint64_t bytes);
/* The largest encoded envelope that fits (envelope_bytes), and how many recipients. */
size_t spool_envelope_max(const struct spool *spool);
uint32_t spool_recipients_max(const struct spool *spool);

/* ---- durability ---- */

/* Alive and untouched until done was called. */
struct commit {
    struct list node;
    void (*done)(struct commit *commit, int result);
    uint64_t end; /* ours from here on: position in the log that must become durable */
    struct spool_writer *writer;
    struct stored *stored;
    uint32_t previous_segment, previous_offset;
};

/* ---- writing ---- */

struct spool_writer {
    struct list node; /* ours, all of it but id and stored */
    struct list waiting;
    struct spool *spool;
    struct task *task;
    uint8_t *staging;
    struct spool_extents *extents;
    struct commit *commit;
    uint64_t id;         /* of the message, from begin on */
    uint64_t body_bytes; /* so far */
    uint64_t log_bytes;
    uint64_t last; /* position of its newest record; 0: none yet */
    uint32_t staged;
    uint32_t first_segment; /* that holds something of it; 0: none yet */
    int error;
    uint8_t state;
    bool urgent;          /* compaction: may use the reserve */
    struct stored stored; /* valid when commit->done came with 0 */
};

/* Gives the message an id: unique for ever, over restarts and logs. The task is the one to run
 * after an -EAGAIN. The writer's memory needs no preparation. 0, -ENOSPC, -EIO. */
[[nodiscard]] int spool_write_begin(struct spool *spool, struct spool_writer *writer,
                                    struct task *task);
/* Copies body: all of it or none. At most SPOOL_STAGING_BYTES a call. 0 or an error as above. */
[[nodiscard]] int spool_write_body(struct spool_writer *writer, struct slice body);
/* Appends the envelope (copied at once) and asks for durability. 0: done will be called, exactly
 * once, with 0 or -EIO. Other results: not asked; -EAGAIN: again later. After 0 the writer and the
 * commit stay alive until done; giving up unwrites nothing. */
[[nodiscard]] int spool_write_commit(struct spool_writer *writer, const struct envelope *envelope,
                                     struct commit *commit);
/* Forgets the message; what the log has of it is dead space. Not after a commit. Also after an
 * error, before the writer may begin again. Harmless on an idle (zeroed) writer. */
void spool_write_abort(struct spool_writer *writer);

/* ---- outcomes ---- */

/* Records what became of recipients. stored and commit stay alive until done: called once with 0,
 * or with -EIO or -ENOSPC (nothing recorded: ask again), or with -EAGAIN after this returned
 * -EAGAIN. whole: the outcomes speak of every recipient that ever had one (so that older records
 * need not be read again; single recipient messages: implied). Texts are cut to OUTCOME_TEXT_MAX.
 * Returns 0, -EAGAIN (nothing recorded; done(-EAGAIN) says when to ask again), -ENOSPC, -E2BIG:
 * more outcomes than a block holds, split them. */
[[nodiscard]] int spool_outcome(struct spool *spool, struct stored *stored,
                                const struct outcome *outcomes, uint32_t count, bool whole,
                                struct commit *commit);
/* All recipients have a final outcome and it is durable (done(0)): the message's space is dead.
 * Readers of it may still be open. stored is zeroed. */
void spool_free(struct spool *spool, struct stored *stored);

/* ---- reading ---- */

struct spool_read {
    struct spool *spool; /* ours, all of it */
    struct task *task;
    struct list waiting;
    struct stored stored;
    struct spool_hold {
        struct spool_block *block;   /* pinned in the cache, or */
        struct spool_buffer *buffer; /* read, or being read */
        uint64_t position;           /* of the record that is here, or wanted; 0: none */
        struct slice payload;        /* of the verified record; data NULL: not there yet */
    } message, part, index;
    struct message_head head;
    bool head_known;
    bool partial; /* compaction: what can be read of a damaged message is wanted */
    uint8_t outcome_stage;
    uint64_t outcome_at; /* OUTCOME record to look at; 0: none left */
    struct slice outcomes;
    size_t outcome_cursor;
    uint64_t body_left;
    uint32_t extent;
    int error;
};

/* Opens a message for reading; the task is run after an -EAGAIN. stored is copied: the message may
 * get outcomes, move or be freed meanwhile, its bytes stay. */
void spool_read_begin(struct spool *spool, struct spool_read *read, const struct stored *stored,
                      struct task *task);
/* The envelope; its slices live until spool_read_end. 0, -EAGAIN, -EBADMSG (checksum: quarantine
 * it, see spool_quarantine), -EIO. */
[[nodiscard]] int spool_read_envelope(struct spool_read *read, struct envelope *envelope);
/* What is known of the recipients, newest first: the first one of a recipient counts, later ones of
 * the same recipient are history (and may be missing). 1: there is one, its text lives until the
 * next call on this reader; 0: no more; or an error as above. */
[[nodiscard]] int spool_read_outcome(struct spool_read *read, struct outcome *outcome);
/* The next part of the body; lives until the next call on this reader. 1: here it is; 0: the body
 * is complete; or an error as above. */
[[nodiscard]] int spool_read_body(struct spool_read *read, struct slice *part);
/* The body from its first octet again. */
void spool_read_rewind(struct spool_read *read);
/* At any time; harmless on an idle (zeroed) reader. */
void spool_read_end(struct spool_read *read);
/* Counts a message that a reader found damaged (-EBADMSG). The queue keeps it, held. Compaction
 * will not let it hold the log: see compact.c. */
void spool_quarantine(struct spool *spool, const struct stored *stored);

/* ---- numbers ---- */

struct spool_metrics {
    uint64_t writes, writes_failed, bytes, messages, messages_failed, aborted, outcomes;
    uint64_t appends_stalled, refused_space, quarantined, moved, moved_bytes, padding_bytes;
    uint64_t reads, reads_cached, reads_failed;
    uint64_t live_messages, live_bytes, dead_bytes;
    uint64_t segments_live, segments_free, segments_failed, segments_preparing, broken;
    struct histogram batch_records; /* records a write */
    struct histogram write_us;      /* start of a durable write to its landing */
};
extern const struct metric spool_metrics_table[];
extern const unsigned spool_metrics_count;
const struct spool_metrics *spool_metrics(const struct spool *spool);

#endif
