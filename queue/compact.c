/*
 * compact.c - moving what lives out of the oldest segment, so that it can be used again
 *
 *   the oldest segment is read block by block; each message of which a record is found and that
 *   the queue still has is moved:
 *
 *   move: FREE --> OUTCOMES --> BODY --> COMMIT --> DURABLE? --done(0)--> *stored rewritten, FREE
 *                     ^-- an outcome came meanwhile --'  `--failed, or gone meanwhile--> FREE
 *
 * A copy keeps its id. Its MESSAGE record includes all outcomes up to the moment when it is
 * appended, checked then; so whatever comes later in the log still counts, and whatever is earlier
 * is included. The old copy is retired only after the new one is durable, by an ordinary batch.
 *
 * Runs when more than half of the log is dead, and that is COMPACT_SLACK segments or segments are
 * short; in the reserve whenever it gains a segment, and the last segments are its own. While
 * writes fail it pauses there, or it would use them up. So a byte is moved less than once for each
 * byte that is taken in, and the log is at most twice what lives and the slack, however few
 * messages stay however long. Only ever the oldest segment: a sparse one behind it comes to its
 * turn with the same write amplification, and no outcome is ever gone before the message that it
 * speaks of.
 *
 * A walk that leaves something behind is repeated after a pause that doubles. A place that could
 * not be read COMPACT_GIVE_UP_TRIES times in COMPACT_GIVE_UP_MS is lost, whatever else made walks
 * fail: it is copied as it is into the quarantine directory, and does not hold the log. A message
 * whose own record can be read is moved without the rest, as MESSAGE_DAMAGED: that is never sent.
 * One whose record cannot stays in the queue without a place in the log: each read of it fails, so
 * it is held, and shown until this run ends.
 *
 * Bounds: COMPACT_MOVES at a time, COMPACT_RECORDS_PER_TURN, COMPACT_UNREADABLE, COMPACT_DOUBTS.
 */
#include "queue/spool_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "core/memory.h"

enum move_state { MOVE_FREE, MOVE_OUTCOMES, MOVE_BODY, MOVE_COMMIT, MOVE_DURABLE };

/* Texts are shortened until the outcomes of a message fit. */
static const size_t text_limits[] = { OUTCOME_TEXT_MAX, 64, 0 };

struct move {
    struct compact *compact;
    enum move_state state;
    struct task task; /* only makes the loop turn: compact_run steps all moves */
    struct spool_read read;
    struct spool_writer writer;
    struct commit commit;
    struct stored from;
    struct slice part; /* of the body, not yet written */
    struct outcome_filter filter;
    uint8_t *outcomes;
    size_t outcomes_bytes;
    uint64_t bytes; /* of the message in the log */
    uint32_t outcomes_count;
    unsigned text_limit;
    bool body_done;
    bool damaged; /* something of it was stepped over, by this move or an earlier one */
};

/* A place of the log that could not be read. */
struct doubt {
    uint64_t position; /* 0: none */
    uint64_t first_ms, last_ms;
    uint32_t tries;
};

struct compact {
    struct spool *spool;
    uint32_t segment; /* being emptied; 0: none */
    uint32_t block;   /* offset of the block in memory */
    bool loaded, reading, landed, walked;
    int result;
    uint64_t unreadable[COMPACT_UNREADABLE]; /* ids */
    uint32_t unreadable_count;
    struct doubt doubts[COMPACT_DOUBTS];
    uint32_t stuck;    /* segment that a walk could not empty; 0: none */
    uint32_t pause_ms; /* before it is walked again */
    uint64_t again_ms;
    size_t at; /* in the block */
    struct op op;
    uint8_t *bytes;
    uint8_t *sector; /* of what is put aside */
    uint8_t *arena;
    size_t arena_bytes;
    uint32_t active; /* moves */
    uint64_t active_bytes;
    uint32_t failed_pause_ms; /* after a write that failed when there was no other space */
    uint64_t failed_until_ms;
    struct move moves[COMPACT_MOVES];
};

static void on_read(struct op *op, int res, unsigned flags)
{
    (void)flags;
    struct compact *c = container_of(op, struct compact, op);
    c->landed = true;
    c->result = res;
}

static void on_task(struct task *task)
{
    (void)task;
}

size_t compact_bytes(const struct spool *s)
{
    return s->options.block_bytes + COMPACT_MOVES * write_outcomes_max(s) + BATCH_ALIGNMENT;
}

int compact_init(struct spool *s)
{
    struct compact *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    s->compact = c;
    c->spool = s;
    c->op.landed = on_read;
    size_t outcomes = write_outcomes_max(s);
    c->arena_bytes = compact_bytes(s);
    c->arena = c->bytes = memory_reserve(c->arena_bytes);
    if (c->arena == NULL)
        return -ENOMEM;
    c->sector = c->arena + c->arena_bytes - BATCH_ALIGNMENT;
    for (unsigned i = 0; i < COMPACT_MOVES; i++) {
        c->moves[i].compact = c;
        c->moves[i].outcomes = c->arena + s->options.block_bytes + i * outcomes;
        task_init(&c->moves[i].task, on_task);
    }
    return 0;
}

void compact_free(struct spool *s)
{
    struct compact *c = s->compact;
    if (c == NULL)
        return;
    memory_release(c->arena, c->arena_bytes);
    free(c);
}

bool compact_idle(const struct spool *s)
{
    return s->compact->active == 0 && !s->compact->reading;
}

/* ---- moving one message ---- */

static struct stored *move_live(const struct move *m)
{
    const struct spool *s = m->compact->spool;
    struct stored *live = s->options.find(s->options.owner, m->from.id);
    if (live == NULL || stored_position(live) != stored_position(&m->from))
        return NULL;
    return live;
}

static void move_end(struct move *m)
{
    spool_read_end(&m->read);
    spool_write_abort(&m->writer);
    shard_forget(&m->task);
    m->state = MOVE_FREE;
    m->compact->active--;
    m->compact->active_bytes -= m->bytes;
}

static void move_durable(struct commit *commit, int result)
{
    struct move *m = container_of(commit, struct move, commit);
    struct spool *s = m->compact->spool;
    if (result == 0) {
        struct stored copy = m->writer.stored;
        struct stored *live = move_live(m);
        if (live == NULL) {
            spool_free(s, &copy);
        } else {
            if (stored_outcome(live) > stored_position(&copy)) {
                copy.outcome_segment = live->outcome_segment;
                copy.outcome_offset = live->outcome_offset;
            }
            struct stored old = *live;
            spool_free(s, &old);
            *live = copy;
            metric_add(&s->metrics.moved, 1);
            metric_add(&s->metrics.moved_bytes, (uint64_t)copy.units * RECORD_ALIGNMENT);
        }
    }
    move_end(m);
}

static void gather_again(struct move *m)
{
    m->filter = (struct outcome_filter) { 0 };
    m->outcomes_bytes = 0;
    m->outcomes_count = 0;
    m->state = MOVE_OUTCOMES;
}

static void read_again(struct move *m, const struct stored *live)
{
    struct spool *s = m->compact->spool;
    spool_read_end(&m->read);
    m->from = *live;
    spool_read_begin(s, &m->read, live, &m->task);
    m->read.partial = true;
    m->text_limit = 0;
    gather_again(m);
}

/* Each step: 1 go on, 0 wait, or an error that ends the move. */
static int move_outcomes(struct move *m)
{
    struct outcome outcome;
    int r;
    while ((r = spool_read_outcome(&m->read, &outcome)) == 1) {
        if (!outcome_counts(&m->filter, &outcome))
            continue;
        size_t limit = text_limits[m->text_limit];
        if (m->outcomes_bytes + outcome_bytes(&outcome, limit) >
            write_outcomes_max(m->compact->spool)) {
            if (++m->text_limit == ARRAY_COUNT(text_limits))
                return -E2BIG;
            struct stored from = m->from;
            unsigned text_limit = m->text_limit;
            read_again(m, &from);
            m->text_limit = text_limit;
            return 1;
        }
        m->outcomes_bytes += outcome_encode(&outcome, limit, m->outcomes + m->outcomes_bytes);
        m->outcomes_count++;
    }
    if (r < 0)
        return r;
    m->state = m->body_done ? MOVE_COMMIT : MOVE_BODY;
    return 1;
}

static int move_body(struct move *m)
{
    for (;;) {
        while (m->part.size > 0) {
            struct slice piece = slice_part(m->part, 0, SPOOL_STAGING_BYTES);
            int r = spool_write_body(&m->writer, piece);
            if (r < 0)
                return r;
            m->part = slice_from(m->part, piece.size);
        }
        int r = spool_read_body(&m->read, &m->part);
        if (r < 0)
            return r;
        if (r == 0 && m->read.body_left != 0 && !m->damaged)
            return -EBADMSG;
        if (r == 0) {
            m->body_done = true;
            m->state = MOVE_COMMIT;
            return 1;
        }
    }
}

static int move_commit(struct move *m)
{
    const struct stored *live = move_live(m);
    if (live == NULL)
        return -ENOENT;
    if (stored_outcome(live) != stored_outcome(&m->from)) {
        read_again(m, live);
        return 1;
    }
    int r = read_message(&m->read);
    if (r < 0)
        return r;
    const struct message_head head = {
        .flags = m->read.head.flags | (m->damaged ? MESSAGE_DAMAGED : 0u),
        .envelope = m->read.head.envelope,
        .recipients = m->read.head.recipients,
        .outcome_bytes = slice_of(m->outcomes, m->outcomes_bytes),
        .outcomes = m->outcomes_count,
    };
    r = write_commit_encoded(&m->writer, &head, &m->commit);
    if (r < 0)
        return r;
    m->state = MOVE_DURABLE;
    return 0;
}

/* ---- what cannot be read ---- */

static int copy_sectors(struct compact *c, const struct segment *segment, int fd, uint32_t from,
                        uint32_t to)
{
    struct ring *ring = c->spool->shard->ring;
    for (uint32_t at = from; at < to; at += BATCH_ALIGNMENT) {
        int64_t n = ring->ops->now_read(ring, segment->file.fd, c->sector, BATCH_ALIGNMENT, at);
        if (n < BATCH_ALIGNMENT) /* what is left of it counts */
            memset(c->sector, 0, BATCH_ALIGNMENT);
        n = ring->ops->now_write(ring, fd, c->sector, BATCH_ALIGNMENT, at - from);
        if (n != BATCH_ALIGNMENT)
            return n < 0 ? (int)n : -ENOSPC;
    }
    return ring->ops->now_sync(ring, fd);
}

static int sync_name(struct ring *ring, const char *directory)
{
    int fd = ring->ops->now_open(ring, directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    int r = ring->ops->now_sync(ring, fd);
    (void)ring->ops->now_close(ring, fd);
    return r;
}

/* What the log has there, within its block, into a file of the quarantine directory; durable, or
 * the log goes on being held. The shard waits for it: once for each damaged place. */
static bool put_aside(struct compact *c, uint64_t position, uint64_t bytes)
{
    const struct spool *s = c->spool;
    struct ring *ring = s->shard->ring;
    const uint32_t offset = position_offset(position);
    const struct segment *segment = segments_find(&s->segments, position_segment(position));
    if (position == 0 || segment == NULL || offset >= s->options.segment_bytes)
        return true; /* there is nothing */
    if (s->options.quarantine == NULL)
        return false;
    uint32_t from = offset & ~(uint32_t)(BATCH_ALIGNMENT - 1);
    uint32_t end = (from | (s->options.block_bytes - 1)) + 1;
    uint32_t to = (uint32_t)MIN((uint64_t)end, offset + bytes);
    char path[SEGMENT_PATH_MAX];
    int n = snprintf(path, sizeof(path), "%s/log-%03u-file-%06u-segment-%010u-%08x-moved",
                     s->options.quarantine, (unsigned)s->options.number,
                     (unsigned)(segment - s->segments.files), (unsigned)segment->sequence,
                     (unsigned)from);
    if (n < 0 || n >= (int)sizeof(path))
        return false;
    int r = ring->ops->now_mkdir(ring, s->options.quarantine, 0700);
    if (r < 0 && r != -EEXIST)
        return false;
    int fd =
        ring->ops->now_open(ring, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fd == -EEXIST;
    r = copy_sectors(c, segment, fd, from, to);
    (void)ring->ops->now_close(ring, fd);
    if (r >= 0)
        r = sync_name(ring, s->options.quarantine);
    if (r < 0)
        (void)ring->ops->now_unlink(ring, path);
    return r >= 0;
}

/* Nothing but its id is left: it stays in the queue, and holds no segment. */
static void move_lost(struct move *m)
{
    struct spool *s = m->compact->spool;
    struct stored *live = move_live(m);
    if (live == NULL)
        return;
    uint64_t bytes = (uint64_t)live->units * RECORD_ALIGNMENT;
    segments_release(&s->segments, stored_first(live));
    metric_sub(&s->metrics.live_bytes, bytes);
    metric_add(&s->metrics.dead_bytes, bytes);
    *live = (struct stored) { .id = live->id, .single = live->single };
}

/* The read of this place has failed once more. True: often and long enough. */
static bool is_lost(struct compact *c, uint64_t position)
{
    const uint64_t now_ms = c->spool->shard->now_ms;
    struct doubt *doubt = c->doubts;
    for (unsigned i = 0; i < COMPACT_DOUBTS && doubt->position != position; i++)
        if (c->doubts[i].position == position || c->doubts[i].last_ms < doubt->last_ms)
            doubt = &c->doubts[i];
    if (doubt->position != position)
        *doubt = (struct doubt) { .position = position, .first_ms = now_ms };
    doubt->last_ms = now_ms;
    return ++doubt->tries >= COMPACT_GIVE_UP_TRIES &&
           now_ms >= doubt->first_ms + COMPACT_GIVE_UP_MS;
}

/* A read failed. True: that was put aside and stepped over, and the move goes on. */
static bool move_skips(struct move *m)
{
    struct compact *c = m->compact;
    uint64_t position = stored_position(&m->from);
    if (m->read.head_known && m->state == MOVE_OUTCOMES) {
        if (!read_skip_outcome(&m->read, &position))
            return false;
    } else if (m->read.head_known) {
        read_skip_part(&m->read, &position);
    }
    if (!is_lost(c, position != 0 ? position : stored_position(&m->from)))
        return false; /* it may be readable next time */
    if (!m->read.head_known) {
        if (put_aside(c, position, (uint64_t)m->from.units * RECORD_ALIGNMENT))
            move_lost(m);
        return false;
    }
    m->damaged = true;
    return put_aside(c, position, COMPACT_ASIDE_BYTES);
}

void compact_unreadable(struct spool *s, uint64_t id)
{
    struct compact *c = s->compact;
    for (uint32_t i = 0; i < c->unreadable_count; i++)
        if (c->unreadable[i] == id)
            return;
    if (c->unreadable_count < COMPACT_UNREADABLE)
        c->unreadable[c->unreadable_count++] = id;
}

static void move_step(struct move *m)
{
    int r = 1;
    while (r == 1) {
        switch (m->state) {
        case MOVE_OUTCOMES: r = move_outcomes(m); break;
        case MOVE_BODY: r = move_body(m); break;
        case MOVE_COMMIT: r = move_commit(m); break;
        case MOVE_DURABLE:
        case MOVE_FREE: return;
        }
        if (r < 0 && m->read.error < 0 && move_skips(m))
            r = 1;
    }
    if (r == 0 || r == -EAGAIN)
        return;
    if (r == -EBADMSG)
        spool_quarantine(m->compact->spool, &m->from);
    move_end(m);
}

static void move_begin(struct compact *c, const struct stored *live)
{
    struct move *m = c->moves;
    while (m->state != MOVE_FREE)
        m++;
    m->from = *live;
    m->part = slice_of(NULL, 0);
    m->body_done = false;
    m->damaged = false;
    m->text_limit = 0;
    m->commit = (struct commit) { .done = move_durable };
    m->read = (struct spool_read) { 0 };
    m->bytes = (uint64_t)live->units * RECORD_ALIGNMENT;
    c->active++;
    c->active_bytes += m->bytes;
    spool_read_begin(c->spool, &m->read, live, &m->task);
    m->read.partial = true;
    write_begin_moved(c->spool, &m->writer, live->id, &m->task);
    gather_again(m);
    move_step(m);
}

/* ---- walking the oldest segment ---- */

static bool is_moving(const struct compact *c, uint64_t id)
{
    for (unsigned i = 0; i < COMPACT_MOVES; i++)
        if (c->moves[i].state != MOVE_FREE && c->moves[i].from.id == id)
            return true;
    return false;
}

/* In the last space one that comes to its end frees some, and many that have begun need all of it:
 * so one, or as many as are one write. A write for each small one would need more than it frees. */
static bool move_may_begin(const struct compact *c, const struct stored *live)
{
    const struct spool *s = c->spool;
    if (c->active == 0 || segments_left(&s->segments) > s->segments.reserve)
        return c->active < COMPACT_MOVES;
    return c->active < COMPACT_MOVES &&
           c->active_bytes + (uint64_t)live->units * RECORD_ALIGNMENT <= s->options.block_bytes / 2;
}

enum walk { WALK_DONE, WALK_MORE, WALK_WAIT };

/* A block of the segment is in memory: looks at its records. WALK_WAIT: for the end of a move. */
static enum walk walk_block(struct compact *c)
{
    struct spool *s = c->spool;
    struct slice in = slice_of(c->bytes, s->options.block_bytes);
    for (unsigned n = 0; n < COMPACT_RECORDS_PER_TURN; n++) {
        const size_t before = c->at;
        struct record record;
        size_t at;
        enum record_check r = record_find(in, log_position(c->segment, c->block),
                                          spool_keys(s, c->segment), &c->at, &at, &record);
        if (r == RECORD_INVALID)
            return WALK_DONE;
        if (record.kind != RECORD_MESSAGE && record.kind != RECORD_CHUNK)
            continue;
        const struct stored *live = s->options.find(s->options.owner, record.id);
        if (live == NULL || stored_first(live) != c->segment || is_moving(c, record.id))
            continue;
        if (!move_may_begin(c, live)) {
            c->at = before;
            return WALK_WAIT;
        }
        move_begin(c, live);
    }
    return c->at < in.size ? WALK_MORE : WALK_DONE;
}

/* Those whose record has no head any more are not found by a walk. */
static void walk_unreadable(struct compact *c)
{
    const struct spool *s = c->spool;
    for (uint32_t i = c->unreadable_count; i-- > 0;) {
        const struct stored *live = s->options.find(s->options.owner, c->unreadable[i]);
        if (live == NULL || live->segment == 0)
            c->unreadable[i] = c->unreadable[--c->unreadable_count];
        else if (stored_first(live) == c->segment && !is_moving(c, live->id) &&
                 move_may_begin(c, live))
            move_begin(c, live);
    }
}

static void walk(struct compact *c)
{
    struct spool *s = c->spool;
    if (c->reading) {
        if (!c->landed)
            return;
        c->reading = c->landed = false;
        c->loaded = true;
        c->at = c->result == (int)s->options.block_bytes ? 0 : s->options.block_bytes;
    }
    if (c->loaded) {
        const enum walk step = walk_block(c);
        if (step == WALK_MORE)
            shard_run_later(s->shard, &s->wake);
        if (step != WALK_DONE) /* the end of a move turns the loop */
            return;
        c->loaded = false;
        c->block += s->options.block_bytes;
    }
    const struct segment *segment = segments_find(&s->segments, c->segment);
    if (segment == NULL || c->block >= s->options.segment_bytes) {
        walk_unreadable(c);
        c->walked = true;
        return;
    }
    c->reading = true;
    ring_read(s->shard->ring, &c->op, &segment->file, c->bytes, s->options.block_bytes, c->block);
}

/* What full segments hold, and those that a failed write has ended early, besides what lives. */
static uint64_t dead_bytes(const struct spool *s)
{
    const uint64_t used = s->segments.states[SEGMENT_USED];
    const uint64_t ended = used > 0 ? (used - 1) * s->options.segment_bytes : 0;
    const uint64_t live = s->metrics.live_bytes;
    return MAX(s->metrics.dead_bytes, ended > live ? ended - live : 0);
}

static bool compact_wanted(const struct spool *s)
{
    const struct compact *c = s->compact;
    uint32_t left = segments_left(&s->segments);
    uint64_t some = s->options.segment_bytes;
    if (left > s->segments.reserve) /* below that outcomes are at stake, whatever it costs */
        some = MAX(some, s->metrics.live_bytes);
    if (left > s->segments.reserve + COMPACT_LEFT)
        some = MAX(some, (uint64_t)COMPACT_SLACK * s->options.segment_bytes);
    return !s->closed && s->options.find != NULL &&
           s->segments.oldest < position_segment(s->durable) && dead_bytes(s) > some &&
           (c->stuck != s->segments.oldest || s->shard->now_ms >= c->again_ms);
}

/* The oldest segment was walked, all moves have ended, and it is still held. */
static void stuck(struct compact *c)
{
    const struct spool *s = c->spool;
    c->pause_ms =
        c->stuck == c->segment ? MIN(2 * c->pause_ms, (uint32_t)COMPACT_PAUSE_MAX_MS) : TICK_MS;
    c->stuck = c->segment;
    c->again_ms = s->shard->now_ms + c->pause_ms;
    c->segment = 0;
}

void compact_run(struct spool *s)
{
    struct compact *c = s->compact;
    for (unsigned i = 0; c->active > 0 && i < COMPACT_MOVES; i++)
        move_step(&c->moves[i]);
    if (c->segment != 0 && c->segment != s->segments.oldest && !c->reading)
        c->segment = 0; /* done */
    if (s->shard->now_ms < c->failed_until_ms && !c->reading)
        return;
    if (c->segment == 0 && compact_wanted(s)) {
        const struct segment *oldest = segments_find(&s->segments, s->segments.oldest);
        if (oldest == NULL || oldest->holders == 0)
            return;
        c->segment = s->segments.oldest;
        c->block = 0;
        c->loaded = c->walked = false;
    }
    if (c->segment != 0 && !c->walked && !(s->closed && !c->reading))
        walk(c);
}

/* Each failed write costs a segment, and when the last one is gone nothing helps but a new start.
 */
void compact_write_failed(struct spool *s)
{
    struct compact *c = s->compact;
    if (!segments_last(&s->segments))
        return;
    c->failed_pause_ms = c->failed_pause_ms == 0
                             ? TICK_MS
                             : MIN(2 * c->failed_pause_ms, (uint32_t)COMPACT_PAUSE_MAX_MS);
    c->failed_until_ms = s->shard->now_ms + c->failed_pause_ms;
}

void compact_gained(struct spool *s)
{
    s->compact->failed_pause_ms = 0;
    s->compact->failed_until_ms = 0;
}

void compact_tick(struct spool *s)
{
    struct compact *c = s->compact;
    if (c->segment != 0 && c->walked && c->active == 0 && !c->reading)
        stuck(c); /* what was left may be movable later */
}
