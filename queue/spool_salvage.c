/*
 * spool_salvage.c - what is intact of a damaged log, written into a new one
 *
 *   for each live message: read to its end once, so that nothing half goes over
 *     -> a writer, as compaction has them -> commit; the loop turns when all writers wait
 *
 * Owns a spool of its own while it runs. Bounds: SALVAGE_WRITERS messages under way.
 */
#include "queue/spool_salvage.h"

#include <errno.h>
#include <stdlib.h>

#include "core/check.h"
#include "queue/spool_internal.h"

enum {
    SALVAGE_WRITERS = 64,
    SALVAGE_CACHE_BLOCKS = 16,
    SALVAGE_READ_BUFFERS = 8,
    SALVAGE_STEP_MS = 1'000,
    SALVAGE_SPARE = 16, /* segments beyond what the old log has */
    SALVAGE_OUTCOMES_BYTES = RECIPIENTS_MAX * (OUTCOME_FIXED_BYTES + OUTCOME_TEXT_MAX),
};

struct salvage;

struct slot {
    struct salvage *salvage;
    struct spool_writer writer;
    struct commit commit;
    bool busy;
};

struct salvage {
    struct shard shard;
    struct spool *spool;
    struct spool_check *check;
    struct spool_salvage_numbers *numbers;
    struct task task; /* only makes the loop turn */
    struct slot *filling;
    int failed;        /* errno of a write */
    uint8_t *outcomes; /* of a message, with their texts cut */
    struct slot slots[SALVAGE_WRITERS];
};

static void on_task(struct task *task)
{
    (void)task;
}

static void on_done(struct commit *commit, int result)
{
    struct slot *slot = container_of(commit, struct slot, commit);
    struct salvage *s = slot->salvage;
    slot->busy = false;
    if (result < 0)
        s->failed = result;
    else
        s->numbers->copied++;
}

static int turn(struct salvage *s)
{
    int r = shard_step(&s->shard, s->shard.now_ms + SALVAGE_STEP_MS);
    return r < 0 ? r : s->failed;
}

static int slot_take(struct salvage *s, struct slot **slot)
{
    for (;;) {
        for (unsigned i = 0; i < SALVAGE_WRITERS; i++)
            if (!s->slots[i].busy) {
                *slot = &s->slots[i];
                return 0;
            }
        int r = turn(s);
        if (r < 0)
            return r;
    }
}

static int piece_is_there(void *owner, struct slice piece)
{
    (void)owner;
    return piece.data == NULL ? -EBADMSG : 0;
}

static int piece_copy(void *owner, struct slice piece)
{
    struct salvage *s = owner;
    if (piece.data == NULL)
        return -EIO; /* it was there a moment ago */
    for (size_t at = 0; at < piece.size; at += SPOOL_STAGING_BYTES) {
        int r;
        while ((r = spool_write_body(&s->filling->writer,
                                     slice_part(piece, at, SPOOL_STAGING_BYTES))) == -EAGAIN) {
            r = turn(s);
            if (r < 0)
                return r;
        }
        if (r < 0)
            return r;
    }
    return 0;
}

/* The same with texts cut until they fit one record, as compaction does; without, they always do.
 */
static struct slice shortened(struct salvage *s, struct slice outcomes)
{
    static const size_t limits[] = { 64, 0 };
    size_t size = SIZE_MAX;
    for (unsigned i = 0; i < ARRAY_COUNT(limits) && size > write_outcomes_max(s->spool); i++) {
        size_t cursor = 0;
        struct outcome o;
        size = 0;
        while (outcome_next(outcomes, &cursor, &o) == 1) /* none becomes longer by this */
            size += outcome_encode(&o, limits[i], s->outcomes + size);
    }
    CHECK(size <= write_outcomes_max(s->spool));
    return slice_of(s->outcomes, size);
}

static int commit_copy(struct salvage *s, const struct spool_check_message *m)
{
    struct slot *slot = s->filling;
    uint32_t count;
    struct slice outcomes = spool_check_outcomes(s->check, m->id, &count);
    if (outcomes.size > write_outcomes_max(s->spool))
        outcomes = shortened(s, outcomes);
    const struct message_head head = {
        .envelope = m->head.envelope,
        .recipients = m->recipients,
        .outcome_bytes = outcomes,
        .outcomes = count,
    };
    slot->commit = (struct commit) { .done = on_done };
    int r;
    while ((r = write_commit_encoded(&slot->writer, &head, &slot->commit)) == -EAGAIN) {
        r = turn(s);
        if (r < 0)
            return r;
    }
    slot->busy = r == 0;
    return r;
}

static int copy_message(struct salvage *s, const struct spool_check_message *m)
{
    int r = slot_take(s, &s->filling);
    if (r < 0)
        return r;
    s->filling->salvage = s;
    write_begin_moved(s->spool, &s->filling->writer, m->id, &s->task);
    r = spool_check_body(s->check, m, piece_copy, s);
    if (r == 0)
        r = commit_copy(s, m);
    if (r < 0)
        spool_write_abort(&s->filling->writer);
    return r;
}

static int copy_all(struct salvage *s, void (*told)(void *owner, uint64_t id), void *owner)
{
    size_t cursor = 0;
    struct spool_check_message m;
    int r;
    while ((r = spool_check_next(s->check, &cursor, &m)) != 0) {
        if (r == 1 && m.damaged)
            r = -EBADMSG;
        if (r == 1)
            r = spool_check_body(s->check, &m, piece_is_there, NULL);
        if (r == 0)
            r = copy_message(s, &m);
        if (r == -EBADMSG) {
            s->numbers->damaged++;
            told(owner, m.id);
            r = 0;
        }
        if (r < 0)
            return r;
    }
    while (!spool_idle(s->spool)) {
        r = turn(s);
        if (r < 0)
            return r;
    }
    return 0;
}

/* Even after a failure: what is in flight has to land before memory goes. */
static void salvage_close(struct salvage *s)
{
    spool_stop(s->spool);
    for (unsigned i = 0; i < SALVAGE_WRITERS; i++)
        if (!s->slots[i].busy)
            spool_write_abort(&s->slots[i].writer);
    int r = 0;
    while (r == 0 && !spool_idle(s->spool))
        r = shard_step(&s->shard, s->shard.now_ms + SALVAGE_STEP_MS);
    if (r == 0)
        spool_close(s->spool);
    shard_forget(&s->task);
}

int spool_salvage(struct ring *ring, struct spool_check *check, const char *directory,
                  uint32_t number, void (*told)(void *owner, uint64_t id), void *owner,
                  struct spool_salvage_numbers *numbers, const char **why)
{
    const struct spool_check_numbers *old = spool_check_numbers(check);
    *numbers = (struct spool_salvage_numbers) { 0 };
    *why = "out of memory";
    struct salvage *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    s->outcomes = malloc(SALVAGE_OUTCOMES_BYTES);
    if (s->outcomes == NULL) {
        free(s);
        return -ENOMEM;
    }
    s->check = check;
    s->numbers = numbers;
    task_init(&s->task, on_task);
    shard_init(&s->shard, ring, NULL, 0);
    const struct spool_options options = {
        .directory = directory,
        .number = number,
        .segment_bytes = old->segment_bytes,
        .block_bytes = old->block_bytes,
        .segments_max = MIN(old->report.segments + SALVAGE_SPARE, (uint32_t)SPOOL_SEGMENTS_MAX),
        .cache_blocks = SALVAGE_CACHE_BLOCKS,
        .writers_max = SALVAGE_WRITERS,
        .read_buffers = SALVAGE_READ_BUFFERS,
    };
    int r = spool_open(&s->shard, &options, NULL, &s->spool, why);
    if (r < 0) {
        free(s->outcomes);
        free(s);
        return r;
    }
    /* Ids are never used twice, also not those that the old log spent on what is gone. */
    s->spool->next_id = MAX(s->spool->next_id, old->report.highest_id + ID_GAP);
    r = copy_all(s, told, owner);
    *why = r == -ENOSPC ? "no space for the new log" : "the new log cannot be written";
    salvage_close(s);
    free(s->outcomes);
    free(s);
    return r;
}
