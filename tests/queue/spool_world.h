/*
 * spool_world.h - a spool on a simulated machine, uploads into it, and what must be true of it
 *
 * The model: each message that was begun, whether it was acknowledged, which of its recipients have
 * a durable final outcome. After a crash every acknowledged message that is not finished must be
 * found, whole; what was committed and not acknowledged may be found; nothing else may.
 * Segments are small, so that a few hundred messages go through recycling and compaction.
 */
#ifndef RINGPOST_TESTS_QUEUE_SPOOL_WORLD_H
#define RINGPOST_TESTS_QUEUE_SPOOL_WORLD_H

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "queue/recovery.h"
#include "queue/spool.h"
#include "tests/sim/sim.h"

#define MAYBE_UNUSED __attribute__((unused))

enum { WORLD_MESSAGES_MAX = 4'096, WORLD_RECIPIENTS = 3, WORLD_UPLOADS = 16 };

enum world_state { M_NONE, M_OPEN, M_COMMITTED, M_LIVE, M_ENDING, M_FINISHED, M_LOST };

struct world;

struct world_message {
    struct world *world;
    struct stored stored;
    uint64_t id;
    uint32_t bytes;
    uint32_t recipients;
    uint32_t done;  /* bits: recipients with a durable final outcome */
    uint32_t asked; /* bits: a final outcome is on its way */
    uint32_t tried; /* bits: one was asked for, and may be on the disk */
    enum world_state state;
    bool found; /* by the last recovery */
    struct commit outcome;
    bool outcome_busy;
};

struct world_upload {
    struct world *world;
    struct task task;
    struct spool_writer writer;
    struct commit commit;
    struct world_message *message; /* NULL: idle */
    uint32_t at;
    int result;
    bool landed;
};

struct world {
    struct sim *sim;
    unsigned machine;
    struct ring *ring;
    struct shard shard;
    struct spool *spool;
    struct spool_options options;
    struct recovery_report report;
    struct world_message messages[WORLD_MESSAGES_MAX];
    uint32_t count;
    struct world_upload uploads[WORLD_UPLOADS];
    uint32_t acknowledged, refused;
};

static uint8_t world_octet(uint64_t id, uint64_t at)
{
    return (uint8_t)((id * 31 + at * 7 + (at >> 8) * 13) ^ (at >> 13));
}

static struct world_message *world_find(struct world *w, uint64_t id)
{
    for (uint32_t i = w->count; i-- > 0;)
        if (w->messages[i].id == id)
            return &w->messages[i];
    return NULL;
}

static struct stored *world_find_stored(void *owner, uint64_t id)
{
    struct world_message *m = world_find(owner, id);
    return m != NULL && (m->state == M_LIVE || m->state == M_ENDING) ? &m->stored : NULL;
}

static void world_found(void *owner, const struct recovered *recovered)
{
    struct world *w = owner;
    struct world_message *m = world_find(w, recovered->stored.id);
    cr_assert_not_null(m, "a message that never was");
    cr_assert(!m->found, "found twice");
    cr_assert_neq(m->state, M_OPEN, "found without a commit");
    cr_assert_neq(m->state, M_FINISHED, "a finished message is back");
    cr_assert_eq(recovered->envelope.recipients_count, m->recipients);
    cr_assert_eq(recovered->envelope.body_bytes, m->bytes);
    m->found = true;
    m->stored = recovered->stored;
    uint32_t done = 0;
    for (uint32_t i = 0; i < recovered->outcomes_count; i++)
        if (outcome_final(recovered->outcomes[i].kind))
            done |= 1u << recovered->outcomes[i].recipient;
    cr_assert_eq(m->done & ~done, 0, "message %u: durable outcomes %x, found %x (%u:%x, %u:%x)",
                 (unsigned)(m - w->messages), m->done, done, recovered->stored.segment,
                 recovered->stored.offset, recovered->stored.outcome_segment,
                 recovered->stored.outcome_offset);
    cr_assert_eq(done & ~(m->done | m->tried), 0, "an outcome that never was");
    m->done = done;
}

static MAYBE_UNUSED struct spool_options world_options(struct world *w)
{
    return (struct spool_options) {
        .directory = "spool/log-000",
        .quarantine = "spool/quarantine",
        .number = 3,
        .segment_bytes = 256 * 1'024,
        .block_bytes = 64 * 1'024,
        .segments_max = 16,
        .cache_blocks = 6,
        .writers_max = 64,
        .read_buffers = 16,
        .message_bytes_max = 1 << 20,
        .owner = w,
        .find = world_find_stored,
        .found = world_found,
    };
}

/* A ring, a shard, and the spool opened on what the disk has. The result of spool_open. */
static MAYBE_UNUSED int world_open(struct world *w)
{
    const struct ring_options ring = {
        .entries = 64, .sockets_max = 256, .recv_buffers = 4, .recv_buffer_bytes = 256
    };
    const char *why = NULL;
    for (uint32_t i = 0; i < w->count; i++)
        w->messages[i].found = false;
    w->ring = sim_ring(w->sim, w->machine, &ring);
    shard_init(&w->shard, w->ring, NULL, 0);
    int r = spool_open(&w->shard, &w->options, &w->report, &w->spool, &why);
    if (r == 0)
        sim_shard(w->sim, &w->shard);
    else
        cr_assert_not_null(why);
    return r;
}

static MAYBE_UNUSED struct world *world_new(const struct sim_options *options)
{
    struct world *w = calloc(1, sizeof(*w));
    w->sim = sim_new(options);
    w->machine = sim_machine(w->sim, "192.0.2.1");
    w->options = world_options(w);
    const struct ring_options ring = {
        .entries = 8, .sockets_max = 8, .recv_buffers = 4, .recv_buffer_bytes = 256
    };
    struct ring *first = sim_ring(w->sim, w->machine, &ring);
    cr_assert_eq(first->ops->now_mkdir(first, "spool", 0700), 0);
    int fd = first->ops->now_open(first, ".", 0200000 /* O_DIRECTORY */, 0);
    if (fd >= 0) {
        (void)first->ops->now_sync(first, fd);
        (void)first->ops->now_close(first, fd);
    }
    ring_free(first);
    return w;
}

static MAYBE_UNUSED void world_run(struct world *w, uint64_t ms)
{
    sim_run(w->sim, sim_now_ms(w->sim) + ms);
}

static bool world_is_idle(void *argument)
{
    const struct world *w = argument;
    return spool_idle(w->spool);
}

/* Orderly end. */
static MAYBE_UNUSED void world_close(struct world *w)
{
    spool_stop(w->spool);
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + 60'000, world_is_idle, w));
    spool_close(w->spool);
    w->spool = NULL;
    ring_free(w->ring);
}

static MAYBE_UNUSED void world_free(struct world *w)
{
    sim_free(w->sim);
    free(w);
}

/* ---- uploads ---- */

static void upload_done(struct commit *commit, int result)
{
    struct world_upload *u = container_of(commit, struct world_upload, commit);
    struct world_message *m = u->message;
    cr_assert(result == 0 || result == -EIO);
    u->result = result;
    u->landed = true;
    u->message = NULL;
    m->state = result == 0 ? M_LIVE : M_COMMITTED; /* refused ones may come back */
    if (result == 0) {
        m->stored = u->writer.stored;
        u->world->acknowledged++;
    } else {
        u->world->refused++;
    }
}

static void upload_run(struct task *task)
{
    struct world_upload *u = container_of(task, struct world_upload, task);
    struct world_message *m = u->message;
    int r = 0;
    if (m == NULL || m->state != M_OPEN)
        return;
    while (u->at < m->bytes && r == 0) {
        uint8_t piece[SPOOL_STAGING_BYTES];
        uint32_t bytes = MIN(m->bytes - u->at, (uint32_t)(u->at % 3 == 0 ? 1'500 : sizeof(piece)));
        for (uint32_t i = 0; i < bytes; i++)
            piece[i] = world_octet(m->id, u->at + i);
        r = spool_write_body(&u->writer, slice_of(piece, bytes));
        if (r == 0)
            u->at += bytes;
    }
    if (r == 0) {
        struct recipient recipients[WORLD_RECIPIENTS] = { { .address = SLICE("a@example.org") },
                                                          { .address = SLICE("b@example.org") },
                                                          { .address = SLICE("c@example.org") } };
        struct envelope envelope = { .sender = SLICE("s@example.com"),
                                     .helo = SLICE("client.example.com"),
                                     .recipients_count = m->recipients,
                                     .recipients = recipients };
        r = spool_write_commit(&u->writer, &envelope, &u->commit);
        if (r == 0)
            m->state = M_COMMITTED;
    }
    if (r == 0 || r == -EAGAIN)
        return;
    spool_write_abort(&u->writer);
    m->state = M_NONE;
    u->message = NULL;
    u->result = r;
    u->landed = true;
    u->world->refused++;
}

/* Starts a message of so many bytes; NULL when all uploads are busy or there is no room. */
static MAYBE_UNUSED struct world_upload *world_upload(struct world *w, uint32_t bytes,
                                                      uint32_t recipients)
{
    struct world_upload *u = w->uploads;
    while (u < w->uploads + WORLD_UPLOADS && u->message != NULL)
        u++;
    if (u == w->uploads + WORLD_UPLOADS || w->count == WORLD_MESSAGES_MAX)
        return NULL;
    u->world = w;
    u->commit = (struct commit) { .done = upload_done };
    u->at = 0;
    u->landed = false;
    task_init(&u->task, upload_run);
    u->result = spool_write_begin(w->spool, &u->writer, &u->task);
    if (u->result < 0)
        return NULL;
    struct world_message *m = &w->messages[w->count++];
    *m = (struct world_message) {
        .world = w, .id = u->writer.id, .bytes = bytes, .recipients = recipients, .state = M_OPEN
    };
    for (uint32_t i = 0; i + 1 < w->count; i++)
        cr_assert_neq(w->messages[i].id, m->id, "an id twice");
    u->message = m;
    shard_run_later(&w->shard, &u->task);
    return u;
}

static bool upload_has_landed(void *argument)
{
    return ((struct world_upload *)argument)->landed;
}

/* Uploads one message and waits; its index, or the error. */
static MAYBE_UNUSED int world_send(struct world *w, uint32_t bytes, uint32_t recipients)
{
    struct world_upload *u = world_upload(w, bytes, recipients);
    cr_assert_not_null(u);
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + 60'000, upload_has_landed, u));
    return u->result < 0 ? u->result : (int)w->count - 1;
}

/* ---- outcomes ---- */

static void outcome_done(struct commit *commit, int result)
{
    struct world_message *m = container_of(commit, struct world_message, outcome);
    m->outcome_busy = false;
    if (m->state == M_ENDING)
        m->state = M_LIVE;
    if (result == 0)
        m->done |= m->asked;
    m->asked = 0;
    if (result < 0)
        return;
    if (m->done == (1u << m->recipients) - 1) {
        m->state = M_FINISHED;
        spool_free(m->world->spool, &m->stored);
    }
}

static MAYBE_UNUSED int world_outcome(struct world_message *m, uint32_t recipient, bool final)
{
    struct outcome outcome = { .recipient = recipient,
                               .kind = final ? OUTCOME_DELIVERED : OUTCOME_DEFERRED,
                               .code = final ? 250 : 451,
                               .attempts = 1,
                               .text = SLICE("as the next hop said") };
    m->outcome = (struct commit) { .done = outcome_done };
    int r = spool_outcome(m->world->spool, &m->stored, &outcome, 1, false, &m->outcome);
    if (r == 0 || r == -EAGAIN)
        m->outcome_busy = true;
    if (r == 0 && final)
        m->tried |= m->asked = 1u << recipient;
    if (r == 0)
        m->state = M_ENDING;
    return r;
}

/* ---- reading back ---- */

static void reader_task(struct task *task)
{
    (void)task;
}

/* The whole message as it should be: 0, or the reader's error. Turns the loop. */
static MAYBE_UNUSED int world_read(struct world *w, struct world_message *m)
{
    struct spool_read read;
    struct task task;
    task_init(&task, reader_task);
    spool_read_begin(w->spool, &read, &m->stored, &task);
    struct envelope envelope;
    int r;
    while ((r = spool_read_envelope(&read, &envelope)) == -EAGAIN)
        cr_assert(sim_run_one(w->sim));
    uint64_t at = 0;
    if (r == 0) {
        cr_assert(slice_equal(envelope.sender, SLICE("s@example.com")));
        cr_assert_eq(envelope.recipients_count, m->recipients);
    }
    while (r == 0) {
        struct outcome outcome;
        while ((r = spool_read_outcome(&read, &outcome)) == -EAGAIN)
            cr_assert(sim_run_one(w->sim));
        if (r <= 0)
            break;
        cr_assert(outcome.recipient < m->recipients);
        r = 0;
    }
    while (r == 0) {
        struct slice part;
        while ((r = spool_read_body(&read, &part)) == -EAGAIN)
            cr_assert(sim_run_one(w->sim));
        if (r <= 0)
            break;
        for (size_t i = 0; i < part.size; i++)
            if (part.data[i] != world_octet(m->id, at + i))
                cr_assert_fail("body of %llx differs at %llu", (unsigned long long)m->id,
                               (unsigned long long)(at + i));
        at += part.size;
        r = 0;
    }
    if (r == 0)
        cr_assert_eq(at, m->bytes);
    spool_read_end(&read);
    shard_forget(&task);
    return r;
}

/* ---- crashes ---- */

/* Memory that went with its process: nobody frees it, and it is no leak. */
static struct spool *world_gone[4'096];
static unsigned world_gone_count;

/* All that ran is gone; the disk and the model stay. */
static MAYBE_UNUSED void world_crash(struct world *w, enum sim_crash how)
{
    sim_crash(w->sim, w->machine, how);
    world_gone[world_gone_count++ % ARRAY_COUNT(world_gone)] = w->spool;
    w->spool = NULL;
    memset(w->uploads, 0, sizeof(w->uploads));
    for (uint32_t i = 0; i < w->count; i++) {
        struct world_message *m = &w->messages[i];
        m->outcome_busy = false;
        if (m->state == M_ENDING)
            m->state = M_LIVE;
        if (m->state == M_OPEN)
            m->state = M_NONE;
    }
}

/* What the recovery found against the model. */
static MAYBE_UNUSED void world_compare(struct world *w)
{
    for (uint32_t i = 0; i < w->count; i++) {
        struct world_message *m = &w->messages[i];
        if (m->found) {
            cr_assert(m->state == M_LIVE || m->state == M_COMMITTED);
            m->state = M_LIVE;
            m->asked = 0;
            m->tried = m->done;
        } else if (m->state == M_LIVE) {
            bool ended = (m->done | m->tried) == (1u << m->recipients) - 1;
            cr_assert(ended, "message %u (%u bytes, id %llx) was acknowledged and is lost", i,
                      m->bytes, (unsigned long long)m->id);
            m->state = M_FINISHED;
        } else if (m->state == M_COMMITTED) {
            m->state = M_LOST;
        }
    }
}

#endif
