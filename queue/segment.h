/*
 * segment.h - the files of a log: made ahead, used in turn, used again
 *
 *   NONE --prepare: open, zeros, sync, directory sync--> FREE --take--> USED --retire--> FREE
 *                                                                 `--a failed write--> FAILED
 *
 * Files are named by number and never by what is in them; a segment gets a new sequence number each
 * time it is taken, and sequence numbers are never used twice. The oldest segment is retired first,
 * always: so an outcome is never gone before the message it speaks of. Zeros are written rather
 * than blocks reserved, so that a durable write into a segment is a write of data alone.
 */
#ifndef RINGPOST_QUEUE_SEGMENT_H
#define RINGPOST_QUEUE_SEGMENT_H

#include "core/shard.h"

enum { SEGMENT_PATH_MAX = 512 };

enum segment_state { SEGMENT_NONE, SEGMENT_PREPARING, SEGMENT_FREE, SEGMENT_USED, SEGMENT_FAILED };

struct segment {
    uint32_t sequence; /* USED, and FAILED before anything of it was durable */
    uint32_t bytes;    /* written to it */
    uint32_t holders;  /* messages, writers and readers whose first byte is in here */
    uint8_t state;
    bool suspect; /* a write failed: to be proved again before it is used again */
    uint64_t key; /* of this use: no record of another one is valid */
    struct ring_file file;
};

enum segment_step { PREPARE_IDLE, PREPARE_OPEN, PREPARE_FILL, PREPARE_SYNC, PREPARE_NAME };

struct segments {
    struct shard *shard;
    const char *directory;
    uint32_t segment_bytes, count, reserve, ahead;
    uint32_t for_moves; /* of the reserve: not for outcomes either */
    /* Of count, for when failed writes ate the reserve: not for mail, and for moves alone. */
    uint32_t extra, extra_moves;
    struct segment *files; /* count */
    uint32_t *by_sequence; /* index + 1 of the file; 0: none */
    uint32_t by_mask;
    uint32_t oldest; /* sequence; all before it are retired or about to be */
    uint32_t newest; /* last sequence that was taken */
    uint32_t states[SEGMENT_FAILED + 1];
    struct ring_file name; /* the directory, to make names durable */
    /* preparing */
    enum segment_step step;
    struct segment *preparing;
    struct op op;
    bool landed;
    int result;
    uint32_t filled;
    uint64_t retry_ms;
    uint64_t free_disk; /* as of the last tick */
    uint8_t *zeros;
    int direct; /* O_DIRECT, or 0 where the file system refuses it */
    char path[SEGMENT_PATH_MAX];
};

/* directory is kept and open. 0 or errno. */
[[nodiscard]] int segments_init(struct segments *segments, struct shard *shard,
                                const char *directory, uint32_t segment_bytes, uint32_t count,
                                uint32_t reserve, uint32_t ahead);
/* Nothing in flight (segments_idle). */
void segments_free(struct segments *segments);
bool segments_idle(const struct segments *segments);

/* At start: a file that recovery found, free (sequence 0) or used. 0 or errno. */
[[nodiscard]] int segments_adopt(struct segments *segments, uint32_t number, uint32_t sequence,
                                 uint64_t key, uint32_t bytes);
/* At start, after the adoptions: makes one segment if there is no free one, on the spot. */
[[nodiscard]] int segments_first(struct segments *segments);

/* Each turn of the loop: goes on preparing. */
void segments_run(struct segments *segments);
/* Once a second: looks at the disk's free space. */
void segments_tick(struct segments *segments);
/* What the log grows for. Mail ends before the reserve. Outcomes end the messages they speak of,
 * but no segment is free before what else lives in the oldest is out of it: so moves have the last
 * word. */
enum segment_use { SEGMENT_FOR_MAIL, SEGMENT_FOR_OUTCOMES, SEGMENT_FOR_MOVES };

/* How many segments could still be taken for mail, the reserve included, the extra ones not. */
uint32_t segments_left(const struct segments *segments);
/* Nothing is left but what is for moves; nothing at all. */
bool segments_last(const struct segments *segments);
bool segments_none(const struct segments *segments);

/* A free segment becomes USED as number newest + 1. 0; -EAGAIN: one is being prepared; -ENOSPC. */
[[nodiscard]] int segments_take(struct segments *segments, enum segment_use use,
                                struct segment **segment);
struct segment *segments_find(const struct segments *segments, uint32_t sequence); /* or NULL */

void segments_hold(struct segments *segments, uint32_t sequence);
void segments_release(struct segments *segments, uint32_t sequence);
/* Moves oldest over segments that nobody holds, up to and without limit. */
void segments_advance(struct segments *segments, uint32_t limit);
/* It is durable that all before oldest are retired: their files are free. Returns their bytes. */
uint64_t segments_retire(struct segments *segments, uint32_t oldest);
/* A write to it failed; durable: something of it is, so it stays until it is retired. */
void segments_fail(struct segments *segments, struct segment *segment, bool durable);

size_t segment_path(const char *directory, uint32_t number, char out[static SEGMENT_PATH_MAX]);

#endif
