/*
 * spool_log.c - records into blocks, batches to the disk, and the verdict on each
 *
 *   log_reserve, log_append --> open batch --seal--> sealed --ring_write--> submitted --> durable
 *                                                                      `--> failed: log_fail
 *
 * One write is in flight at most, so the log on the disk has no holes: what is durable is all that
 * was sealed up to a position. All that is appended meanwhile is the next write. A batch lies in
 * one block and begins and ends at 4 KiB, so no write ever touches a sector that holds something
 * durable: a torn write can hurt nothing but itself.
 *
 * When power goes
 *   before the write lands        none, some or all of its sectors are there. Nobody was told.
 *                                 Recovery takes what is valid of it; the next segment's first
 *                                 BATCH says where that was (before, torn_from).
 *   with the first write of a     its file has old records or zeros, or parts of this batch: a
 *   segment in flight             segment without an intact BATCH was never used.
 *   after it landed               the batch is there, and with it all batches before.
 *   after a failed write          the disk may have it or not, all in it got -EIO. The next
 *                                 segment's first BATCH says that the log goes on from the last
 *                                 durable position; if that was not written either, messages that
 *                                 were refused may be found: delivered twice at most, never lost.
 *                                 A recovery writes the last batch that it believes once more:
 *                                 the kernel may show from memory what the disk never took.
 *   during retirement             a file is used again only after a batch that calls it retired
 *                                 (oldest) is durable. Strictly from the oldest on, so an outcome
 *                                 is there for as long as the message that it speaks of.
 *   during a move (compact.c)     the copy is a new MESSAGE with the same id, behind every outcome
 *                                 that it includes; the old one is retired after it is durable.
 *
 * When nothing comes for a second, and at the end, an empty batch follows the last one: it proves
 * that one, so that damage to it is not taken for a torn write; and after a failed write it says
 * that what the disk may have of that does not count. The end waits some seconds for a disk that
 * does not take it, or for a segment to put it into.
 *
 * A failed write is final for its batch and for all that was appended behind it; its pages are
 * never written again, the segment is closed at the last durable position.
 */
#include "queue/spool_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "core/check.h"
#include "core/memory.h"

static void on_written(struct op *op, int res, unsigned flags)
{
    (void)flags;
    struct spool *s = container_of(op, struct spool, write);
    s->landed = true;
    s->result = res;
}

int log_init(struct spool *s)
{
    uint32_t count = s->options.cache_blocks;
    list_init(&s->pending);
    list_init(&s->cached);
    list_init(&s->commits);
    s->write.landed = on_written;
    s->blocks = calloc(count, sizeof(*s->blocks));
    for (s->hash_mask = 1; s->hash_mask < 2 * count;)
        s->hash_mask *= 2;
    s->hash = malloc(s->hash_mask * sizeof(*s->hash));
    s->arena = memory_reserve((size_t)count * s->options.block_bytes);
    if (s->blocks == NULL || s->hash == NULL || s->arena == NULL)
        return -ENOMEM;
    memset(s->hash, 0xff, s->hash_mask * sizeof(*s->hash));
    s->hash_mask--;
    for (uint32_t i = 0; i < count; i++) {
        s->blocks[i].bytes = s->arena + (size_t)i * s->options.block_bytes;
        list_push(&s->cached, &s->blocks[i].node);
    }
    return 0;
}

void log_free(struct spool *s)
{
    free(s->blocks);
    free(s->hash);
    memory_release(s->arena, (size_t)s->options.cache_blocks * s->options.block_bytes);
}

/* ---- which block has what ---- */

static int32_t *bucket_of(const struct spool *s, uint64_t position)
{
    uint64_t number =
        position_offset(position) / s->options.block_bytes +
        (uint64_t)position_segment(position) * (s->options.segment_bytes / s->options.block_bytes);
    return &s->hash[number & s->hash_mask];
}

struct spool_block *log_cached(struct spool *s, uint64_t position)
{
    position &= ~(uint64_t)(s->options.block_bytes - 1);
    for (int32_t i = *bucket_of(s, position); i >= 0; i = s->blocks[i].hash_next)
        if (s->blocks[i].position == position)
            return &s->blocks[i];
    return NULL;
}

static void block_forget(struct spool *s, struct spool_block *block)
{
    if (block->position == 0)
        return;
    int32_t *link = bucket_of(s, block->position);
    while (&s->blocks[*link] != block)
        link = &s->blocks[*link].hash_next;
    *link = block->hash_next;
    block->position = 0;
}

static void block_name(struct spool *s, struct spool_block *block, uint64_t position)
{
    int32_t *bucket = bucket_of(s, position);
    block->position = position;
    block->hash_next = *bucket;
    *bucket = (int32_t)(block - s->blocks);
}

void log_pin(struct spool *s, struct spool_block *block)
{
    if (block->pins++ == 0)
        s->blocks_pinned++;
}

void log_unpin(struct spool *s, struct spool_block *block)
{
    CHECK(block->pins > 0);
    if (--block->pins == 0)
        s->blocks_pinned--;
}

/* A block that may be filled anew: the oldest one that nobody reads. */
static struct spool_block *block_spare(const struct spool *s)
{
    list_each (node, &s->cached) {
        struct spool_block *block = container_of(node, struct spool_block, node);
        if (block->pins == 0)
            return block;
    }
    return NULL;
}

/* ---- appending ---- */

static uint64_t end_of(const struct spool_block *block)
{
    return block->position + block->fill;
}

static void batch_open(struct spool_block *block)
{
    CHECK(block->sealed == block->fill);
    CHECK(block->fill % BATCH_ALIGNMENT == 0);
    block->fill += BATCH_BYTES;
    block->records = 1;
}

static void batch_seal(struct spool *s, struct spool_block *block)
{
    CHECK(block->fill >= block->sealed + BATCH_BYTES);
    uint32_t used = block->fill - block->sealed;
    uint32_t bytes = (used + BATCH_ALIGNMENT - 1) & ~(uint32_t)(BATCH_ALIGNMENT - 1);
    uint8_t *at = block->bytes + block->sealed;
    memset(at + used, 0, bytes - used);
    struct batch batch = {
        .number = ++s->batch_number,
        .seed = s->seed,
        .key = s->key,
        .before = s->sealed_end,
        .torn_from = s->torn_from,
        .durable = s->durable,
        .next_id = s->next_id,
        .wall_us = s->shard->wall_us,
        .bytes = bytes,
        .used = used,
        .oldest = s->segments.oldest,
        .log = s->options.number,
        .records = block->records,
        .segment_bytes = s->options.segment_bytes,
        .block_bytes = s->options.block_bytes,
    };
    batch_encode(&batch, at, block->position + block->sealed);
    metric_add(&s->metrics.padding_bytes, bytes - used);
    histogram_add(&s->metrics.batch_records, block->records);
    block->fill = block->sealed += bytes;
    block->sealed_oldest = s->segments.oldest;
    block->sealed_records = block->records;
    s->sealed_end = end_of(block);
}

/* Leaves the current block; it stays pending until all of it is durable. */
static void block_close(struct spool *s)
{
    struct spool_block *block = s->current;
    s->current = NULL;
    if (block->fill > block->sealed)
        batch_seal(s, block);
    if (block->durable == block->fill) {
        list_remove(&block->node);
        list_push(&s->cached, &block->node);
    }
}

/* A block of the same segment is behind the current one. */
static bool block_follows(const struct spool *s)
{
    return s->current != NULL && position_offset(s->current->position) + s->options.block_bytes <
                                     s->options.segment_bytes;
}

static int block_next(struct spool *s, enum segment_use use)
{
    struct spool_block *block = block_spare(s);
    if (block == NULL)
        return -EAGAIN;
    uint64_t position, key = s->key;
    if (block_follows(s)) {
        position = s->current->position + s->options.block_bytes;
    } else {
        struct segment *segment;
        const bool last = segments_last(&s->segments);
        int r = segments_take(&s->segments, use, &segment);
        if (r < 0)
            return r;
        s->for_moves = last;
        position = log_position(segment->sequence, 0);
        key = segment->key;
    }
    if (s->current != NULL)
        block_close(s);
    s->key = key;
    block_forget(s, block);
    block_name(s, block, position);
    block->durable = block->submitted = block->sealed = block->fill = 0;
    list_remove(&block->node);
    list_push(&s->pending, &block->node);
    s->current = block;
    return 0;
}

static uint32_t room_in(const struct spool *s, const struct spool_block *block)
{
    if (block == NULL)
        return 0;
    uint32_t used = block->fill + (block->fill == block->sealed ? BATCH_BYTES : 0);
    return s->options.block_bytes - MIN(used, s->options.block_bytes);
}

/* What is left of the current block for records. The last room of all is for the batch that tells
 * what is retired: without it no file is ever free again. */
static uint32_t room_for_records(const struct spool *s)
{
    uint32_t room = room_in(s, s->current);
    if (room > 0 && !block_follows(s) && segments_none(&s->segments))
        room -= MIN(room, 2u * BATCH_ALIGNMENT);
    return room;
}

bool log_has_room(const struct spool *s, uint32_t bytes)
{
    if (room_for_records(s) >= bytes)
        return true;
    if (block_spare(s) == NULL)
        return false;
    return block_follows(s) || s->segments.states[SEGMENT_FREE] > 0;
}

int log_reserve(struct spool *s, size_t payload_bytes, enum segment_use use, uint8_t **payload,
                uint64_t *position)
{
    if (s->for_moves && use != SEGMENT_FOR_MOVES && segments_last(&s->segments))
        return -ENOSPC; /* as long as there is nothing else */
    CHECK(payload_bytes < s->options.block_bytes);
    uint32_t bytes = record_bytes(payload_bytes);
    CHECK(bytes + BATCH_BYTES <= s->options.block_bytes);
    if (room_for_records(s) < bytes) {
        int r = block_next(s, use);
        if (r < 0)
            return r;
    }
    struct spool_block *block = s->current;
    if (block->fill == block->sealed)
        batch_open(block);
    CHECK(s->options.block_bytes - block->fill >= bytes);
    *payload = block->bytes + block->fill + RECORD_HEAD_BYTES;
    *position = end_of(block);
    return 0;
}

uint32_t log_append(struct spool *s, enum record_kind kind, uint64_t id, uint32_t payload_bytes)
{
    struct spool_block *block = s->current;
    record_seal(block->bytes + block->fill, kind, id, payload_bytes, end_of(block), s->key);
    block->fill += record_bytes(payload_bytes);
    block->records++;
    CHECK(block->fill <= s->options.block_bytes);
    if (s->writing == NULL) /* the hook may have had its turn already */
        shard_run_later(s->shard, &s->wake);
    return record_bytes(payload_bytes);
}

void log_commit(struct spool *s, struct commit *commit)
{
    commit->end = end_of(s->current);
    list_push(&s->commits, &commit->node);
}

int log_touch(struct spool *s, enum segment_use use)
{
    if (room_in(s, s->current) == 0) {
        int r = block_next(s, use);
        if (r < 0)
            return r;
    }
    if (s->current->fill == s->current->sealed)
        batch_open(s->current);
    return 0;
}

/* ---- writing ---- */

static void write_start(struct spool *s, struct spool_block *block)
{
    struct segment *segment = segments_find(&s->segments, position_segment(block->position));
    CHECK(segment != NULL);
    s->writing = block;
    s->writing_from = block->submitted;
    s->writing_to = block->sealed;
    s->writing_oldest = block->sealed_oldest;
    s->writing_records = block->sealed_records;
    s->writing_ns = s->shard->now_ns;
    block->submitted = block->sealed;
    ring_write(s->shard->ring, &s->write, &segment->file, block->bytes + s->writing_from,
               s->writing_to - s->writing_from, position_offset(block->position) + s->writing_from,
               RING_WRITE_DURABLE);
}

void log_flush(struct spool *s)
{
    if (s->writing != NULL || list_empty(&s->pending))
        return;
    struct spool_block *block = container_of(s->pending.next, struct spool_block, node);
    if (block == s->current && block->fill > block->sealed)
        batch_seal(s, block);
    if (block->sealed > block->submitted)
        write_start(s, block);
}

static void commits_done(struct spool *s)
{
    while (!list_empty(&s->commits)) {
        struct commit *commit = container_of(s->commits.next, struct commit, node);
        if (commit->end > s->durable)
            return;
        list_remove(&commit->node);
        if (commit->writer != NULL)
            write_settled(commit->writer, 0);
        commit->done(commit, 0);
    }
}

static void write_durable(struct spool *s)
{
    struct spool_block *block = s->writing;
    struct segment *segment = segments_find(&s->segments, position_segment(block->position));
    uint32_t bytes = s->writing_to - s->writing_from;
    s->writing = NULL;
    s->torn_from = 0;
    block->durable = s->writing_to;
    segment->bytes += bytes;
    s->durable = block->position + s->writing_to;
    metric_add(&s->metrics.writes, 1);
    metric_add(&s->metrics.bytes, bytes);
    metric_add(&s->metrics.dead_bytes, bytes); /* messages take theirs out of it */
    histogram_add(&s->metrics.write_us, (s->shard->now_ns - s->writing_ns) / 1'000);
    if (block != s->current && block->durable == block->fill) {
        list_remove(&block->node);
        list_push(&s->cached, &block->node);
    }
    s->failures = 0;
    s->unproven = s->writing_records > 1;
    if (s->broken && ++s->mended >= WRITES_TO_MEND)
        s->broken = false;
    if (s->writing_oldest > s->retired) {
        s->retired = s->writing_oldest;
        metric_sub(&s->metrics.dead_bytes, segments_retire(&s->segments, s->retired));
        compact_gained(s);
    }
    commits_done(s);
}

/* Nothing that was appended since the last durable position will ever be. */
static void log_fail(struct spool *s)
{
    s->writing = NULL;
    s->current = NULL;
    uint32_t durable_segment = position_segment(s->durable);
    while (!list_empty(&s->pending)) {
        struct spool_block *block = container_of(s->pending.next, struct spool_block, node);
        uint32_t sequence = position_segment(block->position);
        struct segment *segment = segments_find(&s->segments, sequence);
        if (segment != NULL)
            segments_fail(&s->segments, segment, sequence <= durable_segment);
        block->fill = block->sealed = block->submitted = block->durable;
        if (block->durable == 0)
            block_forget(s, block);
        list_remove(&block->node);
        list_push(&s->cached, &block->node);
    }
    s->sealed_end = s->durable;
    s->unproven = true; /* the disk may have it: a batch must say that it does not count */
    s->mended = 0;
    metric_add(&s->metrics.writes_failed, 1);
    if (++s->failures >= FAILURES_TO_BREAK)
        s->broken = true;
    write_failed(s, s->durable);
    compact_write_failed(s);

    struct list failed;
    list_init(&failed);
    list_append(&failed, &s->commits);
    /* Newest first: each takes back the outcome that it added to its message. */
    for (struct list *node = failed.previous; node != &failed; node = node->previous) {
        struct commit *commit = container_of(node, struct commit, node);
        if (commit->writer == NULL) {
            commit->stored->outcome_segment = commit->previous_segment;
            commit->stored->outcome_offset = commit->previous_offset;
        }
    }
    struct list *node;
    while ((node = list_pop(&failed)) != NULL) {
        struct commit *commit = container_of(node, struct commit, node);
        if (commit->writer != NULL)
            write_settled(commit->writer, -EIO);
        commit->done(commit, -EIO);
    }
}

void log_landed(struct spool *s)
{
    if (!s->landed)
        return;
    s->landed = false;
    uint32_t bytes = s->writing_to - s->writing_from;
    if (s->result == (int)bytes) {
        write_durable(s);
        return;
    }
    /* Part of it, in whole sectors: the rest was never tried, so trying it is no retry. */
    if (s->result > 0 && s->result < (int)bytes && s->result % BATCH_ALIGNMENT == 0) {
        struct spool_block *block = s->writing;
        struct segment *segment = segments_find(&s->segments, position_segment(block->position));
        uint32_t done = (uint32_t)s->result;
        metric_add(&s->metrics.bytes, done);
        metric_add(&s->metrics.dead_bytes, done);
        segment->bytes += done;
        s->writing_from += done;
        ring_write(s->shard->ring, &s->write, &segment->file, block->bytes + s->writing_from,
                   s->writing_to - s->writing_from,
                   position_offset(block->position) + s->writing_from, RING_WRITE_DURABLE);
        return;
    }
    log_fail(s);
}
