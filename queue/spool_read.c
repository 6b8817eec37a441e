/*
 * spool_read.c - records out of the cache or from the disk
 *
 *   hold: empty --cached--> pinned block, or a copy of the record once many blocks are pinned
 *              `--else--> buffer in flight --landed--> checked --> payload, -EBADMSG or -EIO
 *
 * A reader that stays long (a slow next hop) must not stop the log: at most half of the blocks are
 * ever pinned. What comes from the disk is checked against its checksum and its message id; what
 * never left memory is not read again. A reader that ends while a read is in flight leaves the
 * buffer to its landing. A reader holds the first segment of its message, so all of it stays.
 */
#include "queue/spool_internal.h"

#include <errno.h>
#include <stdlib.h>

#include "core/check.h"
#include "core/memory.h"

enum { OUTCOMES_NOT_BEGUN, OUTCOMES_IN_LOG, OUTCOMES_IN_MESSAGE, FIRST_READ_BYTES = 8'192 };

static_assert(CHUNK_BYTES_MAX + RECORD_HEAD_BYTES + 2 * BATCH_ALIGNMENT <= READ_BUFFER_BYTES);

/* Few messages need an index; big ones are never one. */
static const uint8_t buffer_uses[] = { BUFFER_MESSAGE, BUFFER_PART, BUFFER_MESSAGE, BUFFER_PART,
                                       BUFFER_MESSAGE, BUFFER_PART, BUFFER_MESSAGE, BUFFER_INDEX };

static void buffer_give(struct spool *s, struct spool_buffer *buffer)
{
    list_push_front(buffer->big ? &s->buffers_big[buffer->use] : &s->buffers_free[buffer->use],
                    &buffer->node);
    struct list *node = list_pop(&s->waiting_read[buffer->use]);
    if (node != NULL)
        shard_run_later(s->shard, container_of(node, struct spool_read, waiting)->task);
}

static void on_read(struct op *op, int res, unsigned flags)
{
    (void)flags;
    struct spool_buffer *buffer = container_of(op, struct spool_buffer, op);
    struct spool *s = buffer->spool;
    buffer->inflight = false;
    buffer->result = res;
    s->reads_inflight--;
    segments_release(&s->segments, buffer->segment);
    if (buffer->task != NULL)
        shard_run_later(s->shard, buffer->task);
    else
        buffer_give(s, buffer);
}

size_t read_bytes(const struct spool_options *options)
{
    return (size_t)options->read_buffers * READ_BUFFER_BYTES +
           (size_t)READ_BIG_BUFFERS * options->block_bytes;
}

int read_init(struct spool *s)
{
    for (unsigned use = 0; use < BUFFER_USES; use++) {
        list_init(&s->buffers_free[use]);
        list_init(&s->buffers_big[use]);
        list_init(&s->waiting_read[use]);
    }
    s->buffers_count = s->options.read_buffers + READ_BIG_BUFFERS;
    s->buffers = calloc(s->buffers_count, sizeof(*s->buffers));
    s->buffer_arena_bytes = read_bytes(&s->options);
    s->buffer_arena = memory_reserve(s->buffer_arena_bytes);
    if (s->buffers == NULL || s->buffer_arena == NULL)
        return -ENOMEM;
    uint8_t *at = s->buffer_arena;
    for (uint32_t i = 0; i < s->buffers_count; i++) {
        struct spool_buffer *buffer = &s->buffers[i];
        buffer->spool = s;
        buffer->op.landed = on_read;
        buffer->big = i >= s->options.read_buffers;
        buffer->capacity = buffer->big ? s->options.block_bytes : READ_BUFFER_BYTES;
        buffer->bytes = at;
        buffer->use = buffer_uses[i % ARRAY_COUNT(buffer_uses)];
        at += buffer->capacity;
        list_push(buffer->big ? &s->buffers_big[buffer->use] : &s->buffers_free[buffer->use],
                  &buffer->node);
    }
    return 0;
}

void read_free(struct spool *s)
{
    CHECK(s->reads_inflight == 0);
    free(s->buffers);
    memory_release(s->buffer_arena, s->buffer_arena_bytes);
}

/* ---- one record ---- */

static void hold_drop(struct spool *s, struct spool_hold *hold)
{
    if (hold->block != NULL)
        log_unpin(s, hold->block);
    if (hold->buffer != NULL && hold->buffer->inflight)
        hold->buffer->task = NULL;
    else if (hold->buffer != NULL)
        buffer_give(s, hold->buffer);
    *hold = (struct spool_hold) { 0 };
}

static struct spool_buffer *buffer_take(struct spool_read *read, const struct spool_hold *hold,
                                        uint32_t bytes)
{
    struct spool *s = read->spool;
    unsigned use = hold == &read->message ? BUFFER_MESSAGE
                   : hold == &read->index ? BUFFER_INDEX
                                          : BUFFER_PART;
    bool big = bytes > READ_BUFFER_BYTES;
    struct list *node = list_pop(big ? &s->buffers_big[use] : &s->buffers_free[use]);
    if (node == NULL) {
        list_remove(&read->waiting);
        list_push(&s->waiting_read[use], &read->waiting);
        return NULL;
    }
    return container_of(node, struct spool_buffer, node);
}

static int read_failed(struct spool_read *read, int error)
{
    metric_add(&read->spool->metrics.reads_failed, 1);
    return read->error = error;
}

static bool is_wanted(const struct spool_read *read, const struct record *record,
                      enum record_kind kind)
{
    return record->kind == kind && record->id == read->stored.id;
}

static int hold_cached(struct spool_read *read, struct spool_hold *hold, struct spool_block *block,
                       enum record_kind kind)
{
    struct spool *s = read->spool;
    uint32_t at = (uint32_t)(hold->position - block->position);
    struct record record;
    struct record_keys keys = spool_keys(s, position_segment(hold->position));
    struct slice in = slice_of(block->bytes + at, block->fill - at);
    if (record_check_head(in, hold->position, keys, &record) != RECORD_OK ||
        !is_wanted(read, &record, kind))
        return read_failed(read, -EBADMSG);
    if (block->pins > 0 || s->blocks_pinned < s->options.cache_blocks / 2) {
        log_pin(s, block);
        hold->block = block;
        hold->payload = record.payload;
    } else {
        struct spool_buffer *buffer = buffer_take(read, hold, record.bytes);
        if (buffer == NULL)
            return -EAGAIN;
        memcpy(buffer->bytes, record.payload.data, record.payload.size);
        hold->buffer = buffer;
        hold->payload = slice_of(buffer->bytes, record.payload.size);
    }
    metric_add(&s->metrics.reads_cached, 1);
    return 0;
}

/* Reads so many bytes from the record on, as far as its block goes. */
static int hold_start(struct spool_read *read, struct spool_hold *hold, uint32_t bytes)
{
    struct spool *s = read->spool;
    uint32_t sequence = position_segment(hold->position);
    uint32_t offset = position_offset(hold->position);
    struct segment *segment = segments_find(&s->segments, sequence);
    if (segment == NULL || offset >= s->options.segment_bytes)
        return read_failed(read, -EBADMSG);
    uint32_t from = offset & ~(uint32_t)(BATCH_ALIGNMENT - 1);
    uint32_t to = (from | (s->options.block_bytes - 1)) + 1;
    if (bytes < to - offset)
        to = (offset + bytes + BATCH_ALIGNMENT - 1) & ~(uint32_t)(BATCH_ALIGNMENT - 1);
    struct spool_buffer *buffer = buffer_take(read, hold, to - from);
    if (buffer == NULL)
        return -EAGAIN;
    buffer->task = read->task;
    buffer->skip = offset - from;
    buffer->inflight = true;
    buffer->segment = sequence;
    hold->buffer = buffer;
    s->reads_inflight++;
    segments_hold(&s->segments, sequence);
    metric_add(&s->metrics.reads, 1);
    ring_read(s->shard->ring, &buffer->op, &segment->file, buffer->bytes, to - from, from);
    return -EAGAIN;
}

static int hold_check(struct spool_read *read, struct spool_hold *hold, enum record_kind kind)
{
    struct spool *s = read->spool;
    struct spool_buffer *buffer = hold->buffer;
    if (buffer->result < 0)
        return read_failed(read, -EIO);
    struct record record;
    struct record_keys keys = spool_keys(s, position_segment(hold->position));
    struct slice in = slice_from(slice_of(buffer->bytes, (size_t)buffer->result), buffer->skip);
    enum record_check r = record_check(in, hold->position, keys, &record);
    if (r == RECORD_CUT && is_wanted(read, &record, kind) && in.size < record.bytes &&
        record.bytes < s->options.block_bytes && !buffer->big) {
        uint64_t position = hold->position;
        hold_drop(s, hold); /* longer than thought: all of it now */
        hold->position = position;
        return hold_start(read, hold, MAX(record.bytes, (uint32_t)READ_BUFFER_BYTES));
    }
    if (r != RECORD_OK || !is_wanted(read, &record, kind))
        return read_failed(read, -EBADMSG);
    hold->payload = record.payload;
    return 0;
}

/* The record at position, of about so many bytes. 0, -EAGAIN, -EBADMSG, -EIO. */
static int hold_load(struct spool_read *read, struct spool_hold *hold, uint64_t position,
                     uint32_t bytes, enum record_kind kind)
{
    if (read->error < 0)
        return read->error;
    if (hold->position != position) {
        hold_drop(read->spool, hold);
        hold->position = position;
    }
    if (hold->payload.data != NULL)
        return 0;
    if (hold->buffer != NULL)
        return hold->buffer->inflight ? -EAGAIN : hold_check(read, hold, kind);
    struct spool_block *block = log_cached(read->spool, position);
    if (block != NULL && position - block->position < block->fill)
        return hold_cached(read, hold, block, kind);
    return hold_start(read, hold, bytes);
}

/* ---- a message ---- */

void spool_read_begin(struct spool *s, struct spool_read *read, const struct stored *stored,
                      struct task *task)
{
    CHECK(stored->id != 0);
    *read = (struct spool_read) { .spool = s, .task = task, .stored = *stored };
    list_init(&read->waiting);
    segments_hold(&s->segments, stored_first(stored));
}

int read_message(struct spool_read *read)
{
    uint32_t bytes = (uint32_t)MIN((uint64_t)read->stored.units * RECORD_ALIGNMENT,
                                   (uint64_t)READ_BUFFER_BYTES - BATCH_ALIGNMENT * 2);
    int r = hold_load(read, &read->message, stored_position(&read->stored),
                      MAX(bytes, (uint32_t)RECORD_HEAD_BYTES), RECORD_MESSAGE);
    if (r < 0 || read->head_known)
        return r;
    if (message_head_decode(read->message.payload, &read->head) < 0 ||
        read->head.index_count > SPOOL_EXTENTS_MAX || read->head.extents_count > SPOOL_EXTENTS_MAX)
        return read_failed(read, -EBADMSG);
    read->head_known = true;
    spool_read_rewind(read);
    return 0;
}

int spool_read_envelope(struct spool_read *read, struct envelope *envelope)
{
    int r = read_message(read);
    if (r < 0)
        return r;
    if (envelope_decode(read->head.envelope, envelope) < 0)
        return read_failed(read, -EBADMSG);
    return 0;
}

int spool_read_outcome(struct spool_read *read, struct outcome *outcome)
{
    int r = read_message(read);
    if (r < 0)
        return r;
    uint64_t floor = stored_position(&read->stored); /* older ones are in the message itself */
    if (read->outcome_stage == OUTCOMES_NOT_BEGUN) {
        read->outcome_at = stored_outcome(&read->stored);
        read->outcome_stage = OUTCOMES_IN_LOG;
    }
    while (read->outcome_stage == OUTCOMES_IN_LOG) {
        if (read->outcome_at <= floor) {
            read->outcome_stage = OUTCOMES_IN_MESSAGE;
            read->outcome_cursor = 0;
            break;
        }
        struct outcome_head head;
        r = hold_load(read, &read->part, read->outcome_at, FIRST_READ_BYTES, RECORD_OUTCOME);
        if (r < 0)
            return r;
        if (outcome_head_decode(read->part.payload, &head) < 0 || head.previous >= read->outcome_at)
            return read_failed(read, -EBADMSG);
        r = outcome_next(head.outcomes, &read->outcome_cursor, outcome);
        if (r != 0)
            return r;
        read->outcome_at = head.previous;
        read->outcome_cursor = 0;
    }
    r = outcome_next(read->head.outcome_bytes, &read->outcome_cursor, outcome);
    return r < 0 ? read_failed(read, r) : r;
}

void spool_read_rewind(struct spool_read *read)
{
    read->extent = 0;
    read->body_left = read->head.body_bytes;
}

/* The extent with this number, from an INDEX record or from the message's own list. */
static int find_extent(struct spool_read *read, struct extent *extent)
{
    uint32_t indexed = read->head.index_count * SPOOL_EXTENTS_MAX;
    if (read->extent >= indexed) {
        *extent = extent_decode(read->head.extents, read->extent - indexed);
        return 0;
    }
    struct extent index = extent_decode(read->head.index, read->extent / SPOOL_EXTENTS_MAX);
    if (read->index.position != log_position(index.segment, index.offset))
        hold_drop(read->spool, &read->part); /* see enum buffer_use */
    int r = hold_load(read, &read->index, log_position(index.segment, index.offset),
                      record_bytes(SPOOL_EXTENTS_MAX * EXTENT_BYTES), RECORD_INDEX);
    if (r < 0)
        return r;
    if (read->index.payload.size != SPOOL_EXTENTS_MAX * EXTENT_BYTES)
        return read_failed(read, -EBADMSG);
    *extent = extent_decode(read->index.payload, read->extent % SPOOL_EXTENTS_MAX);
    return 0;
}

int spool_read_body(struct spool_read *read, struct slice *part)
{
    int r = read_message(read);
    if (r < 0)
        return r;
    if ((read->head.flags & MESSAGE_DAMAGED) != 0 && !read->partial)
        return read_failed(read, -EBADMSG);
    uint32_t extents = read->head.index_count * SPOOL_EXTENTS_MAX + read->head.extents_count;
    if (read->extent > extents || (read->extent == extents && read->head.tail.size == 0))
        return read->body_left == 0 || read->partial ? 0 : read_failed(read, -EBADMSG);
    if (read->extent == extents) {
        *part = read->head.tail;
    } else {
        struct extent extent;
        r = find_extent(read, &extent);
        if (r < 0)
            return r;
        if (extent.bytes > CHUNK_BYTES_MAX)
            return read_failed(read, -EBADMSG);
        r = hold_load(read, &read->part, log_position(extent.segment, extent.offset),
                      record_bytes(extent.bytes), RECORD_CHUNK);
        if (r < 0)
            return r;
        *part = read->part.payload;
        if (part->size != extent.bytes)
            return read_failed(read, -EBADMSG);
    }
    if (part->size > read->body_left)
        return read_failed(read, -EBADMSG);
    read->body_left -= part->size;
    read->extent++;
    return 1;
}

bool read_skip_outcome(struct spool_read *read, uint64_t *position)
{
    if (read->outcome_stage != OUTCOMES_IN_LOG)
        return false;
    *position = read->outcome_at;
    read->error = 0;
    read->outcome_at = 0; /* older ones are known only to that record; the message's own follow */
    read->outcome_cursor = 0;
    return true;
}

void read_skip_part(struct spool_read *read, uint64_t *position)
{
    bool index = read->index.position != 0 && read->index.payload.data == NULL;
    *position = index ? read->index.position : read->part.position;
    read->error = 0;
    if (index) /* all that it speaks of */
        read->extent = (read->extent / SPOOL_EXTENTS_MAX + 1) * SPOOL_EXTENTS_MAX;
    else
        read->extent++;
}

void spool_read_end(struct spool_read *read)
{
    struct spool *s = read->spool;
    if (s == NULL)
        return;
    hold_drop(s, &read->message);
    hold_drop(s, &read->part);
    hold_drop(s, &read->index);
    list_remove(&read->waiting);
    segments_release(&s->segments, stored_first(&read->stored));
    read->spool = NULL;
}

void spool_quarantine(struct spool *s, const struct stored *stored)
{
    metric_add(&s->metrics.quarantined, 1);
    compact_unreadable(s, stored->id);
}
