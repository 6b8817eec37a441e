/*
 * queue_world.h - a queue over a real spool on a simulated disk, and a delivering side of few words
 *
 * The delivering side remembers what it was told (wanted, expired) and does nothing by itself:
 * tests pull and settle. queue_agrees() counts everything a second time and compares.
 */
#ifndef RINGPOST_TESTS_QUEUE_QUEUE_WORLD_H
#define RINGPOST_TESTS_QUEUE_QUEUE_WORLD_H

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "queue/queue.h"
#include "tests/sim/sim.h"

#define MAYBE_UNUSED __attribute__((unused))

enum { EXPIRED_MAX = 64, WORLD_RECIPIENTS_MAX = 2'000, DAY_MS = 86'400'000 };

struct queue_world {
    struct sim *sim;
    unsigned machine;
    struct ring *ring;
    struct shard shard;
    struct spool *spool;
    struct spool_options spool_options;
    struct queue_options options;
    struct queue queue;
    struct recovery_report report;
    unsigned wanted;
    struct destination *wanted_last;
    bool keeps_destinations; /* unwanted says no */
    const char *class;       /* of mail that is queued; NULL: none */
    struct unit *expired[EXPIRED_MAX];
    unsigned expired_count;
    int result; /* of the last settlement that ended */
    unsigned settled;
    uint64_t next;
};

/* One upload and then queue_add. */
struct queue_upload {
    struct queue_world *w;
    struct task task;
    struct spool_writer writer;
    struct commit commit;
    struct envelope envelope;
    bool done;
    int result;
    uint64_t id;
};

static size_t world_route(void *owner, const struct envelope *envelope,
                          const struct recipient *recipient, char key[static DESTINATION_KEY_MAX])
{
    const struct slice address = recipient->address;
    (void)owner;
    (void)envelope;
    ptrdiff_t at = slice_find(address, '@');
    int size = snprintf(key, DESTINATION_KEY_MAX, "mx:%.*s", (int)(address.size - (size_t)at - 1),
                        (const char *)address.data + at + 1);
    return (size_t)size;
}

static void world_wanted(void *owner, struct destination *d)
{
    struct queue_world *w = owner;
    w->wanted++;
    w->wanted_last = d;
    d->owner = w; /* which looks after it from now on */
}

static bool world_unwanted(void *owner, struct destination *d)
{
    (void)d;
    return !((struct queue_world *)owner)->keeps_destinations;
}

static void world_expired(void *owner, struct unit *unit)
{
    struct queue_world *w = owner;
    cr_assert(unit_expired(unit));
    queue_take(&w->queue, unit);
    cr_assert_lt(w->expired_count, EXPIRED_MAX);
    w->expired[w->expired_count++] = unit;
}

static MAYBE_UNUSED int queue_world_open(struct queue_world *w)
{
    const struct ring_options ring = {
        .entries = 64, .sockets_max = 256, .recv_buffers = 4, .recv_buffer_bytes = 256
    };
    const char *why = NULL;
    w->ring = sim_ring(w->sim, w->machine, &ring);
    shard_init(&w->shard, w->ring, NULL, 0);
    cr_assert_eq(queue_init(&w->queue, &w->shard, &w->options), 0);
    int r = spool_open(&w->shard, &w->spool_options, &w->report, &w->spool, &why);
    cr_assert_eq(r, 0, "%s", why);
    w->queue.spool = w->spool;
    sim_shard(w->sim, &w->shard);
    w->expired_count = 0;
    return (int)w->queue.unplaced;
}

static MAYBE_UNUSED struct queue_world *queue_world_make(uint64_t seed)
{
    const struct sim_options calm = sim_calm(seed);
    struct queue_world *w = calloc(1, sizeof(*w));
    w->sim = sim_new(&calm);
    w->machine = sim_machine(w->sim, "192.0.2.1");
    w->spool_options = (struct spool_options) {
        .directory = "log-000",
        .quarantine = "quarantine",
        .segment_bytes = 256 * 1'024,
        .block_bytes = 64 * 1'024,
        .segments_max = 16,
        .cache_blocks = 6,
        .writers_max = 64,
        .read_buffers = 16,
        .message_bytes_max = 1 << 20,
        .owner = &w->queue,
        .find = queue_find_stored,
        .found = queue_found,
    };
    w->options = (struct queue_options) {
        .messages_max = 4'096,
        .recipients_max = 8'192,
        .destinations_max = 256,
        .active_max = 64,
        .age_max_ms = 5 * DAY_MS,
        .retry_initial_ms = 60'000,
        .retry_max_ms = 3'600'000,
        .retry_factor_percent = 200,
        .retry_jitter_percent = 20,
        .owner = w,
        .route = world_route,
        .wanted = world_wanted,
        .unwanted = world_unwanted,
        .expired = world_expired,
    };
    return w;
}

static MAYBE_UNUSED struct queue_world *queue_world_new(uint64_t seed)
{
    struct queue_world *w = queue_world_make(seed);
    cr_assert_eq(queue_world_open(w), 0);
    return w;
}

static MAYBE_UNUSED void queue_world_run(struct queue_world *w, uint64_t ms)
{
    sim_run(w->sim, sim_now_ms(w->sim) + ms);
}

/* Every count of the queue, counted again. */
static MAYBE_UNUSED void queue_agrees(struct queue_world *w)
{
    struct queue *q = &w->queue;
    uint64_t states[UNIT_HELD + 1] = { 0 }, messages = 0, units = 0, recipients = 0;
    uint64_t lanes[LANES] = { 0 };
    uint32_t classes[CLASS_SLOTS] = { 0 };
    uint32_t cursor = 0;
    struct message *message;
    while ((message = queue_next(q, &cursor)) != NULL) {
        uint32_t count = 0;
        messages++;
        cr_assert_eq(queue_message(q, message->stored.id), message);
        for (struct unit *unit = message->units; unit != NULL; unit = unit->sibling, count++) {
            uint32_t place = unit->first, recipient, places = 0, last = UINT32_MAX;
            while (unit_next(unit, &place, &recipient)) {
                cr_assert_lt(recipient, last, "the highest first");
                last = recipient;
                places++;
            }
            cr_assert_eq(places, unit->count);
            cr_assert_gt(places, 0);
            cr_assert_eq(unit->message, message);
            recipients += places;
            states[unit->state]++;
            classes[unit->class]++;
            if (unit->state == UNIT_READY)
                lanes[unit_class(unit)->lane]++;
            if (unit->state == UNIT_READY || unit->state == UNIT_DEFERRED)
                cr_assert(timer_armed(&unit->timer), "nothing is forgotten");
        }
        cr_assert_eq(count, message->units_count);
        units += count;
    }
    cr_assert_eq(messages, q->metrics.messages);
    cr_assert_eq(messages, q->messages.used);
    cr_assert_eq(units, q->units.used);
    cr_assert_eq(recipients, q->recipients);
    cr_assert_leq(q->places.used, recipients);
    cr_assert_eq(recipients, q->metrics.recipients_queued);
    cr_assert_eq(states[UNIT_READY], q->metrics.units_ready);
    for (unsigned lane = 0; lane < LANES; lane++)
        cr_assert_eq(lanes[lane], q->metrics.lanes_ready[lane], "lane %u", lane);
    for (unsigned slot = 0; slot < CLASS_SLOTS; slot++)
        cr_assert_eq(classes[slot], q->classes.units[slot], "slot %u", slot);
    cr_assert_eq(states[UNIT_ACTIVE] + states[UNIT_SETTLING], q->metrics.units_active);
    cr_assert_eq(states[UNIT_DEFERRED], q->metrics.units_deferred);
    cr_assert_eq(states[UNIT_HELD], q->metrics.units_held);
    cr_assert_eq(q->destinations.used, q->metrics.destinations);
    uint64_t in = q->metrics.recipients_accepted + q->metrics.recipients_recovered;
    uint64_t out = q->metrics.recipients_delivered + q->metrics.recipients_bounced +
                   q->metrics.recipients_expired + q->metrics.recipients_discarded;
    cr_assert_eq(in, out + recipients, "the balance is zero");
}

static bool queue_world_idle(void *argument)
{
    return spool_idle(((struct queue_world *)argument)->spool);
}

static MAYBE_UNUSED void queue_world_free(struct queue_world *w)
{
    queue_agrees(w);
    cr_assert_eq(w->queue.settlements.used, 0);
    cr_assert_eq(w->queue.large.used, 0);
    cr_assert_eq(w->queue.reserved, 0);
    spool_stop(w->spool);
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + 60'000, queue_world_idle, w));
    spool_close(w->spool);
    queue_free(&w->queue);
    sim_free(w->sim);
    free(w);
}

static MAYBE_UNUSED void queue_world_crash(struct queue_world *w, enum sim_crash how)
{
    static struct spool *dead[1'000]; /* their memory went with the process: nobody frees it */
    static unsigned dead_count;
    dead[dead_count++ % ARRAY_COUNT(dead)] = w->spool;
    sim_crash(w->sim, w->machine, how);
    queue_free(&w->queue);
}

/* ---- mail ---- */

static void upload_on_commit(struct commit *commit, int result)
{
    struct queue_upload *u = container_of(commit, struct queue_upload, commit);
    u->done = true;
    u->result = result;
    if (result == 0)
        queue_add(&u->w->queue, &u->writer.stored, &u->envelope);
    else
        queue_unreserve(&u->w->queue, u->envelope.recipients_count);
}

static void upload_again(struct task *task)
{
    struct queue_upload *u = container_of(task, struct queue_upload, task);
    if (u->writer.body_bytes == 0) {
        int r = spool_write_body(&u->writer, SLICE("Subject: x\r\n\r\nbody\r\n"));
        cr_assert_eq(r, 0);
    }
    int r = spool_write_commit(&u->writer, &u->envelope, &u->commit);
    cr_assert(r == 0 || r == -EAGAIN, "commit: %d", r);
}

static bool upload_is_done(void *argument)
{
    return ((struct queue_upload *)argument)->done;
}

/* A durable message. Its id; 0: the disk failed. */
static MAYBE_UNUSED uint64_t queue_mail_to(struct queue_world *w, const struct recipient *list,
                                           uint32_t count)
{
    struct queue_upload u = { .w = w, .commit.done = upload_on_commit };
    u.envelope.recipients_count = count;
    for (uint32_t i = 0; i < count; i++)
        cr_assert(queue_reserve(&w->queue));
    u.envelope.sender = SLICE("s@us.test");
    u.envelope.arrival_us = w->shard.steady_us;
    u.envelope.recipients = list;
    task_init(&u.task, upload_again);
    if (spool_write_begin(w->spool, &u.writer, &u.task) < 0) {
        queue_unreserve(&w->queue, u.envelope.recipients_count);
        return 0;
    }
    u.id = u.writer.id;
    shard_run_later(&w->shard, &u.task);
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + 60'000, upload_is_done, &u));
    return u.result == 0 ? u.id : 0;
}

/* To these addresses, blank between them. */
static MAYBE_UNUSED uint64_t queue_mail(struct queue_world *w, const char *recipients)
{
    static struct recipient list[WORLD_RECIPIENTS_MAX];
    uint32_t count = 0;
    while (*recipients != '\0') {
        size_t size = strcspn(recipients, " ");
        cr_assert_lt(count, WORLD_RECIPIENTS_MAX);
        list[count++] = (struct recipient) {
            .address = slice_of(recipients, size),
            .class = slice_of_string(w->class == NULL ? "" : w->class),
        };
        recipients += size + (recipients[size] == ' ');
    }
    return queue_mail_to(w, list, count);
}

static MAYBE_UNUSED struct destination *queue_there(struct queue_world *w, const char *key)
{
    struct destination *d = queue_destination(&w->queue, key, strlen(key));
    cr_assert_not_null(d);
    return d;
}

static MAYBE_UNUSED struct unit *queue_pull_from(struct queue_world *w, const char *key)
{
    struct unit *unit = queue_pull(&w->queue, queue_there(w, key));
    cr_assert_not_null(unit, "nothing is ready at %s", key);
    return unit;
}

/* ---- settling ---- */

static MAYBE_UNUSED void world_on_settled(void *argument, int result)
{
    struct queue_world *w = argument;
    w->result = result;
    w->settled++;
}

/* One letter for each recipient of the unit, the lowest first: d(elivered), b(ounced), l(ater),
 * e(xpired), or a blank: untried. Returns at once. */
static MAYBE_UNUSED void queue_begin_settle(struct queue_world *w, struct unit *unit,
                                            const char *letters)
{
    static struct outcome outcomes[WORLD_RECIPIENTS_MAX];
    static uint32_t indexes[WORLD_RECIPIENTS_MAX];
    uint32_t place = unit->first, recipient, at = unit->count, count = 0;
    bool untried = false;
    cr_assert_eq(strlen(letters), unit->count);
    while (unit_next(unit, &place, &recipient))
        indexes[--at] = recipient;
    for (uint32_t i = 0; i < unit->count; i++) {
        static const uint8_t kinds[128] = { ['d'] = OUTCOME_DELIVERED,
                                            ['b'] = OUTCOME_BOUNCED,
                                            ['l'] = OUTCOME_DEFERRED,
                                            ['e'] = OUTCOME_EXPIRED };
        if (letters[i] == ' ') {
            untried = true;
            continue;
        }
        outcomes[count++] = (struct outcome) { .recipient = indexes[i],
                                               .kind = kinds[(uint8_t)letters[i]],
                                               .code = 250,
                                               .text = SLICE("as the next hop said") };
    }
    int r = queue_settle(&w->queue, unit, outcomes, count, untried, world_on_settled, w);
    cr_assert_eq(r, 0);
    cr_assert_eq(unit->state, UNIT_SETTLING);
}

static bool world_has_settled(void *argument)
{
    struct queue_world *w = argument;
    return w->settled >= w->next;
}

static MAYBE_UNUSED int queue_wait_settled(struct queue_world *w, unsigned count)
{
    w->next = count;
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + 60'000, world_has_settled, w));
    return w->result;
}

static MAYBE_UNUSED int queue_settle_as(struct queue_world *w, struct unit *unit,
                                        const char *letters)
{
    unsigned settled = w->settled;
    queue_begin_settle(w, unit, letters);
    return queue_wait_settled(w, settled + 1);
}

#endif
