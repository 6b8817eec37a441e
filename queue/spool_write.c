/*
 * spool_write.c - messages and outcomes into records
 *
 * The usual message is staged until its commit and then is one MESSAGE record: envelope and body
 * under one checksum. A larger one goes to the log in CHUNK records as it comes; its extents are
 * kept by the writer, and in INDEX records of SPOOL_EXTENTS_MAX once there are more. What a writer
 * that gave up has written is dead space.
 *
 * Owns nothing but two pools: staging buffers and extent lists; a writer has one of each at most,
 * until its commit. A writer holds the segment of its first record, so that this is not retired.
 * Bounds: writers_max, message_bytes_max, SPOOL_EXTENTS_MAX squared chunks.
 */
#include "queue/spool_internal.h"

#include <errno.h>

#include "core/check.h"

enum { WRITER_IDLE, WRITER_OPEN, WRITER_COMMITTED };

static_assert((int)OUTCOME_RECIPIENTS_MAX == (int)RECIPIENTS_MAX);
/* What was staged and one piece more are one chunk. */
static_assert(2 * SPOOL_STAGING_BYTES <= CHUNK_BYTES_MAX);

size_t write_outcomes_max(const struct spool *s)
{
    return s->options.block_bytes / 8 * 3;
}

size_t spool_envelope_max(const struct spool *s)
{
    return s->options.block_bytes / 8 * 3;
}

uint32_t spool_recipients_max(const struct spool *s)
{
    return (uint32_t)MIN((size_t)RECIPIENTS_MAX, write_outcomes_max(s) / OUTCOME_FIXED_BYTES);
}

int spool_room(const struct spool *s, uint64_t bytes)
{
    if (s->broken)
        return -EIO;
    uint64_t room = 0;
    uint32_t left = segments_left(&s->segments);
    if (left > s->segments.reserve)
        room = (uint64_t)(left - s->segments.reserve) * s->options.segment_bytes;
    if (s->current != NULL)
        room += s->options.segment_bytes - position_offset(s->current->position) - s->current->fill;
    /* Heads, padding, and the ends of blocks where a record did not fit. */
    return room > bytes + bytes / 8 + s->options.block_bytes ? 0 : -ENOSPC;
}

static void writer_open(struct spool *s, struct spool_writer *w, uint64_t id, struct task *task,
                        bool urgent)
{
    *w = (struct spool_writer) { .spool = s, .task = task, .id = id, .urgent = urgent };
    w->state = WRITER_OPEN;
    list_init(&w->node);
    list_init(&w->waiting);
}

int spool_write_begin(struct spool *s, struct spool_writer *w, struct task *task)
{
    int r = spool_room(s, 0);
    if (r < 0) {
        metric_add(&s->metrics.refused_space, 1);
        return r;
    }
    writer_open(s, w, s->next_id++, task, false);
    return 0;
}

void write_begin_moved(struct spool *s, struct spool_writer *w, uint64_t id, struct task *task)
{
    writer_open(s, w, id, task, true);
}

/* Sorts out why an append did not work. */
static int writer_refused(struct spool_writer *w, int r)
{
    struct spool *s = w->spool;
    if (r != -EAGAIN) {
        w->error = r;
        metric_add(&s->metrics.refused_space, 1);
        return r;
    }
    metric_add(&s->metrics.appends_stalled, 1);
    list_remove(&w->waiting);
    list_push(&s->waiting_append, &w->waiting);
    return r;
}

static void writer_wrote(struct spool_writer *w, uint64_t position, uint32_t bytes)
{
    w->last = position;
    w->log_bytes += bytes;
    if (w->first_segment != 0)
        return;
    w->first_segment = position_segment(position);
    segments_hold(&w->spool->segments, w->first_segment);
    list_push(&w->spool->writers, &w->node);
}

static enum segment_use use_of(const struct spool_writer *w)
{
    return w->urgent ? SEGMENT_FOR_MOVES : SEGMENT_FOR_MAIL;
}

/* Puts a full list of extents into the log and begins a new one. */
static int write_index(struct spool_writer *w)
{
    struct spool_extents *extents = w->extents;
    if (extents->count < SPOOL_EXTENTS_MAX)
        return 0;
    if (extents->index_count == SPOOL_EXTENTS_MAX)
        return w->error = -EFBIG;
    uint8_t *payload;
    uint64_t position;
    int r = log_reserve(w->spool, sizeof(extents->list), use_of(w), &payload, &position);
    if (r < 0)
        return writer_refused(w, r);
    memcpy(payload, extents->list, sizeof(extents->list));
    writer_wrote(w, position, log_append(w->spool, RECORD_INDEX, w->id, sizeof(extents->list)));
    struct extent extent = { position_segment(position), position_offset(position),
                             sizeof(extents->list) };
    extent_encode(&extent, extents->index + extents->index_count++ * EXTENT_BYTES);
    extents->count = 0;
    return 0;
}

/* What is staged and body, as one record. */
static int write_chunk(struct spool_writer *w, struct slice body)
{
    struct spool *s = w->spool;
    if (w->extents == NULL) {
        w->extents = pool_take(&s->extents);
        if (w->extents == NULL)
            return w->error = -ENOMEM;
        w->extents->count = w->extents->index_count = 0;
    }
    int r = write_index(w);
    if (r < 0)
        return r;
    uint32_t bytes = w->staged + (uint32_t)body.size;
    uint8_t *payload;
    uint64_t position;
    r = log_reserve(s, bytes, use_of(w), &payload, &position);
    if (r < 0)
        return writer_refused(w, r);
    memcpy(payload, w->staging, w->staged);
    memcpy(payload + w->staged, body.data, body.size);
    writer_wrote(w, position, log_append(s, RECORD_CHUNK, w->id, bytes));
    struct extent extent = { position_segment(position), position_offset(position), bytes };
    extent_encode(&extent, w->extents->list + w->extents->count++ * EXTENT_BYTES);
    w->staged = 0;
    return 0;
}

int spool_write_body(struct spool_writer *w, struct slice body)
{
    struct spool *s = w->spool;
    CHECK(w->state == WRITER_OPEN);
    CHECK(body.size <= SPOOL_STAGING_BYTES);
    if (w->error < 0)
        return w->error;
    if (body.size == 0)
        return 0;
    if (w->body_bytes + body.size > s->options.message_bytes_max && !w->urgent)
        return w->error = -EFBIG;
    if (w->staging == NULL) {
        w->staging = pool_take(&s->staging);
        if (w->staging == NULL)
            return w->error = -ENOMEM;
    }
    if (w->staged + body.size > s->staging_bytes) {
        int r = write_chunk(w, body);
        if (r < 0)
            return r;
    } else {
        memcpy(w->staging + w->staged, body.data, body.size);
        w->staged += (uint32_t)body.size;
    }
    w->body_bytes += body.size;
    return 0;
}

static void writer_give_back(struct spool_writer *w)
{
    if (w->staging != NULL)
        pool_give(&w->spool->staging, w->staging);
    if (w->extents != NULL)
        pool_give(&w->spool->extents, w->extents);
    w->staging = NULL;
    w->extents = NULL;
    list_remove(&w->node);
    list_remove(&w->waiting);
}

/* Reserves and completes the MESSAGE record; envelope is encoded when it is given as bytes. */
static int write_message(struct spool_writer *w, struct message_head *head,
                         const struct envelope *envelope, struct commit *commit)
{
    struct spool *s = w->spool;
    CHECK(w->state == WRITER_OPEN);
    if (w->error < 0)
        return w->error;
    if (head->envelope.size > spool_envelope_max(s) || head->recipients > spool_recipients_max(s))
        return -E2BIG;
    head->body_bytes = w->body_bytes;
    head->tail = slice_of(w->staging, w->staged);
    if (w->extents != NULL) {
        head->index_count = w->extents->index_count;
        head->index = slice_of(w->extents->index, (size_t)head->index_count * EXTENT_BYTES);
        head->extents_count = w->extents->count;
        head->extents = slice_of(w->extents->list, (size_t)head->extents_count * EXTENT_BYTES);
    }
    size_t bytes = message_head_bytes(head);
    uint8_t *payload;
    uint64_t position;
    int r = log_reserve(s, bytes, use_of(w), &payload, &position);
    if (r < 0)
        return writer_refused(w, r);
    writer_wrote(w, position, record_bytes(bytes));
    head->units = (uint32_t)(w->log_bytes / RECORD_ALIGNMENT);
    head->first_segment = w->first_segment;
    CHECK(position_segment(position) - w->first_segment <= UINT16_MAX);
    message_head_encode(head, payload);
    if (envelope != NULL)
        envelope_encode(envelope,
                        payload + MESSAGE_FIXED_BYTES + head->index.size + head->extents.size);
    (void)log_append(s, RECORD_MESSAGE, w->id, (uint32_t)bytes);
    w->stored = (struct stored) {
        .id = w->id,
        .segment = position_segment(position),
        .offset = position_offset(position),
        .units = head->units,
        .span = (uint16_t)(position_segment(position) - w->first_segment),
        .single = head->recipients == 1,
    };
    writer_give_back(w);
    w->state = WRITER_COMMITTED;
    w->commit = commit;
    commit->writer = w;
    commit->stored = &w->stored;
    log_commit(s, commit);
    return 0;
}

int spool_write_commit(struct spool_writer *w, const struct envelope *given, struct commit *commit)
{
    CHECK(given->recipients_count > 0);
    struct envelope envelope = *given;
    envelope.body_bytes = w->body_bytes;
    struct message_head head = {
        .recipients = envelope.recipients_count,
        .envelope = slice_of(NULL, envelope_bytes(&envelope)),
    };
    return write_message(w, &head, &envelope, commit);
}

int write_commit_encoded(struct spool_writer *w, const struct message_head *given,
                         struct commit *commit)
{
    struct message_head head = {
        .flags = given->flags,
        .recipients = given->recipients,
        .envelope = given->envelope,
        .outcome_bytes = given->outcome_bytes,
        .outcomes = given->outcomes,
    };
    return write_message(w, &head, NULL, commit);
}

void write_settled(struct spool_writer *w, int result)
{
    struct spool *s = w->spool;
    CHECK(w->state == WRITER_COMMITTED);
    w->state = WRITER_IDLE;
    w->commit = NULL;
    if (result < 0) {
        segments_release(&s->segments, w->first_segment);
        metric_add(&s->metrics.messages_failed, 1);
        return;
    }
    uint64_t bytes = (uint64_t)w->stored.units * RECORD_ALIGNMENT;
    if (!w->urgent)
        metric_add(&s->metrics.messages, 1);
    metric_add(&s->metrics.live_messages, 1);
    metric_add(&s->metrics.live_bytes, bytes);
    metric_sub(&s->metrics.dead_bytes, bytes);
}

void spool_write_abort(struct spool_writer *w)
{
    if (w->state == WRITER_IDLE)
        return;
    CHECK(w->state == WRITER_OPEN);
    writer_give_back(w);
    if (w->first_segment != 0)
        segments_release(&w->spool->segments, w->first_segment);
    metric_add(&w->spool->metrics.aborted, 1);
    w->state = WRITER_IDLE;
}

void spool_free(struct spool *s, struct stored *stored)
{
    CHECK(stored->id != 0);
    uint64_t bytes = (uint64_t)stored->units * RECORD_ALIGNMENT;
    segments_release(&s->segments, stored_first(stored));
    metric_sub(&s->metrics.live_messages, 1);
    metric_sub(&s->metrics.live_bytes, bytes);
    metric_add(&s->metrics.dead_bytes, bytes);
    *stored = (struct stored) { 0 };
}

/* ---- outcomes ---- */

int spool_outcome(struct spool *s, struct stored *stored, const struct outcome *outcomes,
                  uint32_t count, bool whole, struct commit *commit)
{
    CHECK(count > 0);
    CHECK(stored->id != 0);
    size_t bytes = OUTCOME_HEAD_BYTES;
    for (uint32_t i = 0; i < count; i++)
        bytes += outcome_bytes(&outcomes[i], OUTCOME_TEXT_MAX);
    if (bytes > write_outcomes_max(s))
        return -E2BIG;
    uint8_t *payload;
    uint64_t position;
    int r = log_reserve(s, bytes, SEGMENT_FOR_OUTCOMES, &payload, &position);
    if (r == -EAGAIN) {
        metric_add(&s->metrics.appends_stalled, 1);
        list_push(&s->waiting_commit, &commit->node);
    }
    if (r < 0)
        return r;
    uint64_t previous = 0;
    if (!whole && !stored->single && stored_outcome(stored) > stored_position(stored))
        previous = stored_outcome(stored);
    outcome_head_encode(previous, count, payload);
    size_t at = OUTCOME_HEAD_BYTES;
    for (uint32_t i = 0; i < count; i++)
        at += outcome_encode(&outcomes[i], OUTCOME_TEXT_MAX, payload + at);
    (void)log_append(s, RECORD_OUTCOME, stored->id, (uint32_t)bytes);
    metric_add(&s->metrics.outcomes, count);
    commit->writer = NULL;
    commit->stored = stored;
    commit->previous_segment = stored->outcome_segment;
    commit->previous_offset = stored->outcome_offset;
    stored->outcome_segment = position_segment(position);
    stored->outcome_offset = position_offset(position);
    log_commit(s, commit);
    return 0;
}

/* ---- waiting ---- */

void write_failed(struct spool *s, uint64_t durable)
{
    list_each (node, &s->writers) {
        struct spool_writer *w = container_of(node, struct spool_writer, node);
        if (w->last >= durable && w->error == 0)
            w->error = -EIO;
    }
}

void write_wake(struct spool *s)
{
    struct list woken;
    list_init(&woken);
    for (unsigned i = 0; i < WAKES_PER_TURN && !list_empty(&s->waiting_append); i++) {
        struct list *node = list_pop(&s->waiting_append);
        struct spool_writer *w = container_of(node, struct spool_writer, waiting);
        if (w->task != NULL)
            shard_run_later(s->shard, w->task);
    }
    for (unsigned i = 0; i < WAKES_PER_TURN && !list_empty(&s->waiting_commit); i++)
        list_push(&woken, list_pop(&s->waiting_commit));
    struct list *node;
    while ((node = list_pop(&woken)) != NULL) {
        struct commit *commit = container_of(node, struct commit, node);
        commit->done(commit, -EAGAIN);
    }
}
