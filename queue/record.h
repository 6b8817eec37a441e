/*
 * record.h - the forms that bytes have in the log; pure, no state, no I/O
 *
 * A record is a head of 40 bytes and a payload, padded to 8. The head's checksum is seeded with a
 * secret (a BATCH: of the log; others: of this use of the segment, told by its BATCHes) and bound
 * to the position, so what an older use of the segment left behind, what a disk wrote to the wrong
 * place, and what somebody put into a message body to look like a record are all equally invalid.
 * The head has a checksum of its own: a damaged payload can be named and stepped over.
 *
 * A write to the disk is a batch: records in one piece, 4 KiB aligned at both ends, the first of
 * them a BATCH that tells how the one before it ended. Positions are segment << 32 | offset.
 */
#ifndef RINGPOST_QUEUE_RECORD_H
#define RINGPOST_QUEUE_RECORD_H

#include "core/slice.h"

enum {
    RECORD_HEAD_BYTES = 40,
    RECORD_ALIGNMENT = 8,
    RECORD_ZEROS_BYTES = 256,
    BATCH_ALIGNMENT = 4'096,
    BATCH_PAYLOAD_BYTES = 96,
    BATCH_BYTES = RECORD_HEAD_BYTES + BATCH_PAYLOAD_BYTES,
    MESSAGE_FIXED_BYTES = 48,
    EXTENT_BYTES = 12,
    OUTCOME_HEAD_BYTES = 16,
    OUTCOME_FIXED_BYTES = 40,
    OUTCOME_TEXT_MAX = 512,
    OUTCOME_RECIPIENTS_MAX = 10'000,
};

enum record_kind {
    RECORD_BATCH = 1, /* begins each write; id is the batch's number */
    RECORD_CHUNK,     /* a piece of a body */
    RECORD_INDEX,     /* extents of a large body */
    RECORD_MESSAGE,   /* the commit of a message: envelope, extents, outcomes, end of body */
    RECORD_OUTCOME,   /* what became of recipients */
    RECORD_KINDS
};

struct record {
    enum record_kind kind;
    uint64_t id;
    struct slice payload;
    uint32_t bytes; /* head, payload, padding */
};

static inline uint64_t log_position(uint32_t segment, uint32_t offset)
{
    return (uint64_t)segment << 32 | offset;
}
static inline uint32_t position_segment(uint64_t position)
{
    return (uint32_t)(position >> 32);
}
static inline uint32_t position_offset(uint64_t position)
{
    return (uint32_t)position;
}
static inline uint32_t record_bytes(size_t payload_bytes)
{
    return (uint32_t)((RECORD_HEAD_BYTES + payload_bytes + RECORD_ALIGNMENT - 1) &
                      ~(size_t)(RECORD_ALIGNMENT - 1));
}

struct record_keys {
    uint64_t log;
    uint64_t segment;
};

/* Completes the record at `at`, whose payload is there already: padding, head, checksums. */
void record_seal(uint8_t *at, enum record_kind kind, uint64_t id, uint32_t payload_bytes,
                 uint64_t position, uint64_t key);

enum record_check {
    RECORD_OK,
    RECORD_INVALID, /* no record here */
    RECORD_CUT,     /* a valid head, but in ends before the payload does; record->bytes is set */
    RECORD_DAMAGED, /* a valid head, the payload's checksum is wrong; all fields are set */
};
/* Looks for a record at the start of in. */
enum record_check record_check(struct slice in, uint64_t position, struct record_keys keys,
                               struct record *record);
/* The same without the payload's checksum, for bytes that never left memory. */
enum record_check record_check_head(struct slice in, uint64_t position, struct record_keys keys,
                                    struct record *record);

/* RECORD_ZEROS_BYTES of nothing: what a segment is made of before it is written to. */
bool record_zeros(const uint8_t *at);
/* The first intact or damaged record at or behind *offset (8-aligned) of a stretch of the log that
 * starts at position; *offset moves behind it, *at is where it begins. RECORD_INVALID: none left.
 */
enum record_check record_find(struct slice in, uint64_t position, struct record_keys keys,
                              size_t *offset, size_t *at, struct record *record);

/* ---- BATCH ---- */

struct batch {
    uint64_t number;
    uint64_t seed;      /* of the log; so the first BATCH explains itself */
    uint64_t key;       /* of this use of the segment */
    uint64_t before;    /* where the batch before this one ended: the log has no gap */
    uint64_t torn_from; /* recovery found from here to before a write that never was completed */
    uint64_t durable;   /* known durable when this one was sealed */
    uint64_t next_id;   /* above every message id begun so far */
    int64_t wall_us;
    uint32_t bytes;   /* of the write */
    uint32_t used;    /* of it, to the end of the last record */
    uint32_t oldest;  /* segments before this one are retired */
    uint32_t log;     /* number of the log */
    uint32_t records; /* in it, with this one */
    uint32_t segment_bytes;
    uint32_t block_bytes;
};
/* Writes and seals a whole BATCH record (BATCH_BYTES). */
void batch_encode(const struct batch *batch, uint8_t *at, uint64_t position);
/* A BATCH record at the start of in, of the log with this seed (0: of any log). 0 or -EBADMSG. */
[[nodiscard]] int batch_decode(struct slice in, uint64_t position, uint64_t seed,
                               struct batch *batch);

/* ---- MESSAGE ---- */

struct extent {
    uint32_t segment;
    uint32_t offset;
    uint32_t bytes; /* of payload */
};

enum message_flags {
    MESSAGE_DAMAGED = 1 << 0, /* a copy of what could be read of one: never to be sent */
};

/* The body is: the extents of each index record, the extents here, the tail. */
struct message_head {
    uint64_t body_bytes;
    uint32_t flags;         /* enum message_flags */
    uint32_t units;         /* bytes in the log / 8, all records of it */
    uint32_t first_segment; /* that holds something of it */
    uint32_t recipients;
    uint32_t outcomes; /* how many are in outcome_bytes */
    uint32_t index_count;
    uint32_t extents_count;
    struct slice index;   /* index_count extents of INDEX records */
    struct slice extents; /* extents_count extents of CHUNK records */
    struct slice envelope;
    struct slice outcome_bytes;
    struct slice tail;
};
size_t message_head_bytes(const struct message_head *head); /* of the payload */
/* Copies all five slices; those with data NULL are left for the caller to fill in. */
void message_head_encode(const struct message_head *head, uint8_t *out);
[[nodiscard]] int message_head_decode(struct slice in, struct message_head *head);

void extent_encode(const struct extent *extent, uint8_t *out);
/* index below the number of extents in list. */
struct extent extent_decode(struct slice list, uint32_t index);

/* ---- OUTCOME ---- */

enum { OUTCOME_ALL = 0xffff'ffffu }; /* recipient: each one that has no final outcome yet */

enum outcome_kind {
    OUTCOME_DELIVERED = 1, /* final, as the next three */
    OUTCOME_BOUNCED,       /* and the DSN, if one is due, is on stable storage */
    OUTCOME_EXPIRED,
    OUTCOME_DISCARDED,
    OUTCOME_DEFERRED, /* until due_us */
    OUTCOME_HELD,     /* by an operator */
    OUTCOME_RELEASED, /* and due at due_us */
    OUTCOME_KINDS
};

enum outcome_flags {
    OUTCOME_DELAY_TOLD = 1 << 0,    /* the delay warning is on stable storage, or nobody wants it */
    OUTCOME_DSN_DELEGATED = 1 << 1, /* the next hop took over NOTIFY (RFC 3461 5.2.1) */
    OUTCOME_DSN_RELAYED = 1 << 2,   /* relayed to a host without DSN */
};

struct outcome {
    uint32_t recipient; /* index in the envelope, or OUTCOME_ALL */
    uint8_t kind;       /* enum outcome_kind */
    uint8_t flags;      /* enum outcome_flags */
    uint16_t code;      /* SMTP reply code; 0: none */
    uint16_t status[3]; /* enhanced status x.y.z; 0.0.0: none */
    uint32_t attempts;
    int64_t time_us; /* steady, as is due_us */
    int64_t due_us;
    struct slice text; /* cut to OUTCOME_TEXT_MAX when encoded */
};

static inline bool outcome_final(uint8_t kind)
{
    return kind >= OUTCOME_DELIVERED && kind <= OUTCOME_DISCARDED;
}
/* Bytes when the text is cut to text_max. */
size_t outcome_bytes(const struct outcome *outcome, size_t text_max);
size_t outcome_encode(const struct outcome *outcome, size_t text_max, uint8_t *out);
/* The outcome at *cursor (starts as 0), which moves behind it. 1; 0: none left; -EBADMSG. */
[[nodiscard]] int outcome_next(struct slice in, size_t *cursor, struct outcome *outcome);

/* Goes through outcomes newest first and says which of them still count: the newest of each
 * recipient, and what was final before an OUTCOME_ALL. */
struct outcome_filter {
    bool all_seen;
    uint8_t seen[OUTCOME_RECIPIENTS_MAX / 8 + 1];
};
bool outcome_counts(struct outcome_filter *filter, const struct outcome *outcome);

/* The payload of an OUTCOME record: this head, then outcomes. */
struct outcome_head {
    uint64_t previous; /* the record before this one of the same message; 0: none that counts */
    uint32_t count;
    struct slice outcomes;
};
void outcome_head_encode(uint64_t previous, uint32_t count, uint8_t *out);
/* Also checks that there are count well-formed outcomes. 0 or -EBADMSG. */
[[nodiscard]] int outcome_head_decode(struct slice payload, struct outcome_head *head);

#endif
