/*
 * sim_ring.c - the rings themselves: operations in flight, slots, buffers, wakes
 *
 *   flight: taken when an op starts --sim_post--> completion queue --ring_wait--> landed, given
 * back
 *
 * The queue grows as it must. Slots are numbered with a generation, so that a number that was
 * closed is known as such. A ring that was freed or crashed keeps its struct until sim_free: any
 * further use fails a CHECK.
 */
#include "tests/sim/sim_inside.h"

#include <errno.h>
#include <stdlib.h>

enum {
    SLOT_BITS = 20,
    SLOT_GENERATIONS = 1 << 9, /* numbers stay below bit 29, which marks descriptors */
    RUBBISH = 0xdb,
    RUBBISH_BEHIND = 64, /* what was received, for who reads too far */
};

/* ---- flights ---- */

struct sim_flight *sim_flight(struct ring *ring, struct op *op, enum sim_flight_kind kind)
{
    struct sim_ring *r = sim_ring_of(ring);
    struct sim *sim = r->sim;
    CHECK(!op->inflight); /* armed twice */
    CHECK(op->landed != NULL);
    uint32_t index;
    if (sim->flights_idle_count > 0) {
        index = sim->flights_idle[--sim->flights_idle_count];
    } else {
        if (sim->flights_count == sim->flights_size) {
            sim->flights_size = MAX(2 * sim->flights_size, 64);
            sim->flights = sim_more(sim->flights, sim->flights_size * sizeof(*sim->flights));
            sim->flights_idle =
                sim_more(sim->flights_idle, sim->flights_size * sizeof(*sim->flights_idle));
        }
        index = sim->flights_count++;
        sim->flights[index] = sim_take(sizeof(struct sim_flight));
    }
    struct sim_flight *flight = sim->flights[index];
    *flight = (struct sim_flight) {
        .op = op,
        .ring = r,
        .index = index,
        .generation = flight->generation,
        .kind = kind,
    };
    op->inflight = true;
    op->cancelled = false;
    op->ring_private = index;
    if (kind != FLIGHT_NAME) /* names are no operations of the real ring */
        ring->ops_inflight++;
    return flight;
}

void sim_flight_free(struct sim *sim, struct sim_flight *flight)
{
    CHECK(flight->op != NULL);
    flight->op = NULL;
    flight->ring = NULL;
    flight->generation++;
    sim->flights_idle[sim->flights_idle_count++] = flight->index;
}

struct sim_flight *sim_flight_of(struct sim *sim, const struct sim_event *event)
{
    struct sim_flight *flight = sim->flights[event->index];
    if (flight->generation != event->generation || flight->posted)
        return NULL;
    return flight;
}

struct sim_event *sim_flight_event(struct sim *sim, struct sim_flight *flight, uint64_t delay_ns,
                                   void (*fire)(struct sim *sim, const struct sim_event *event))
{
    struct sim_event *event = sim_event(sim, delay_ns, fire);
    event->index = flight->index;
    event->generation = flight->generation;
    return event;
}

void sim_post(struct sim *sim, struct sim_flight *flight, int res, unsigned flags)
{
    struct sim_ring *r = flight->ring;
    CHECK(!flight->posted);
    CHECK(!r->dead);
    sim->operations++;
    if (r->completions_count == r->completions_size) {
        uint32_t size = MAX(2 * r->completions_size, 64);
        struct sim_completion *more = sim_take(size * sizeof(*more));
        for (uint32_t i = 0; i < r->completions_count; i++)
            more[i] = r->completions[(r->completions_head + i) % r->completions_size];
        free(r->completions);
        r->completions = more;
        r->completions_size = size;
        r->completions_head = 0;
    }
    r->completions[(r->completions_head + r->completions_count++) % r->completions_size] =
        (struct sim_completion) { .flight = flight->index, .res = res, .flags = flags };
    flight->posted = !(flags & RING_MORE);
    sim_turn(r);
}

/* Who changes bytes that the kernel still reads is found here, at the latest. */
static void flight_check_memory(const struct sim_flight *flight)
{
    if (flight->kind == FLIGHT_SEND)
        CHECK(sim_hash_vector(flight->vector) == flight->hash);
    if (flight->kind == FLIGHT_WRITE)
        CHECK(sim_hash(flight->from, flight->bytes, 0) == flight->hash);
    if (flight->kind == FLIGHT_OPEN)
        CHECK(sim_hash(flight->path, strlen(flight->path), 0) == flight->hash);
}

static void ring_land(struct sim_ring *r, struct sim_completion completion)
{
    struct sim *sim = r->sim;
    struct ring *ring = &r->ring;
    struct sim_flight *flight = sim->flights[completion.flight];
    struct op *op = flight->op;
    CHECK(op != NULL);
    CHECK(op->inflight); /* its memory was reused while it was in flight */
    CHECK(op->ring_private == flight->index);
    sim_trace_add(sim, (uint64_t)r->number << 40 | (uint64_t)flight->kind << 32 | completion.flags,
                  (uint64_t)(int64_t)completion.res);
    if (completion.flags & RING_BUFFER) {
        CHECK(ring->buffers_free > 0);
        uint32_t buffer = ring_buffer_index(completion.flags);
        ring->buffers_free--;
        r->buffer_held[buffer] = true;
        r->buffer_bytes[buffer] = (uint32_t)completion.res;
        memset(ring_buffer(ring, buffer) + completion.res, RUBBISH,
               MIN(ring->buffer_bytes - (uint32_t)completion.res, (uint32_t)RUBBISH_BEHIND));
        sim_trace_add(sim, buffer, sim_hash(ring_buffer(ring, buffer), (size_t)completion.res, 0));
    }
    if (!(completion.flags & RING_MORE)) {
        CHECK(flight->posted);
        flight_check_memory(flight);
        op->inflight = false;
        if (flight->kind != FLIGHT_NAME)
            ring->ops_inflight--;
        if (flight->end != NULL)
            flight->end->ops--;
        if (flight->kind == FLIGHT_SEND)
            flight->end->send = NULL;
        if (flight->kind == FLIGHT_READ && completion.res > 0)
            sim_trace_add(sim, 0, sim_hash(flight->to, (size_t)completion.res, 0));
        sim_flight_free(sim, flight);
    }
    op->landed(op, completion.res, completion.flags);
}

/* ---- slots ---- */

uint32_t sim_slot_take(struct sim_ring *r, enum sim_slot_kind kind)
{
    uint32_t slot = r->slots_free;
    if (slot != UINT32_MAX) {
        r->slots_free = r->slots[slot].next_free;
    } else if (r->slots_count == r->slots_max) {
        return UINT32_MAX;
    } else {
        if (r->slots_count == r->slots_size) {
            r->slots_size = MAX(2 * r->slots_size, 64);
            r->slots = sim_more(r->slots, r->slots_size * sizeof(*r->slots));
        }
        slot = r->slots_count++;
        r->slots[slot] = (struct sim_slot) { .kind = SLOT_FREE };
    }
    r->slots_used++;
    r->slots[slot] = (struct sim_slot) { .kind = kind, .generation = r->slots[slot].generation };
    return slot;
}

int sim_slot_number(const struct sim_ring *r, uint32_t slot)
{
    return (int)((r->slots[slot].generation % SLOT_GENERATIONS) << SLOT_BITS | slot);
}

bool sim_slot_is_number(int number)
{
    return number >= 0 && number < SLOT_GENERATIONS << SLOT_BITS;
}

struct sim_slot *sim_slot(struct sim_ring *r, int number)
{
    CHECK(sim_slot_is_number(number));
    uint32_t slot = (uint32_t)number & ((1U << SLOT_BITS) - 1);
    CHECK(slot < r->slots_count);
    CHECK(r->slots[slot].kind != SLOT_FREE);   /* closed already, or never opened */
    CHECK(sim_slot_number(r, slot) == number); /* closed, and opened for somebody else */
    return &r->slots[slot];
}

void sim_slot_give(struct sim_ring *r, struct sim_slot *slot)
{
    CHECK(slot->kind != SLOT_FREE);
    slot->kind = SLOT_FREE;
    slot->generation++;
    slot->next_free = r->slots_free;
    r->slots_free = (uint32_t)(slot - r->slots);
    r->slots_used--;
}

/* ---- the ring's own operations ---- */

static void wake_fire(struct sim *sim, const struct sim_event *event)
{
    struct sim_ring *r = sim->rings[event->index];
    if (r->dead)
        return;
    r->woken = true;
    sim_turn(r);
}

static void sim_ring_wake(struct ring *from, struct ring *to)
{
    struct sim_ring *r = sim_ring_of(from);
    struct sim_ring *target = container_of(to, struct sim_ring, ring);
    /* Between machines there is no such thing; between living rings only. */
    CHECK(!target->dead);
    CHECK(target->machine == r->machine);
    struct sim *sim = r->sim;
    sim_event(sim, sim_draw(sim, (struct sim_range) { 200, 20 * SIM_US }), wake_fire)->index =
        target->number;
}

static int sim_ring_wait(struct ring *ring, uint64_t until_ms)
{
    (void)until_ms; /* who calls is run because there is something to do */
    struct sim_ring *r = sim_ring_of(ring);
    int landed = 0;
    if (r->woken) {
        r->woken = false;
        sim_trace_add(r->sim, (uint64_t)r->number << 40 | 0xff, 0);
        if (ring->woken != NULL)
            ring->woken(ring, ring->woken_argument);
        landed++;
    }
    for (uint32_t left = r->completions_count; left > 0; left--) {
        struct sim_completion completion = r->completions[r->completions_head];
        r->completions_head = (r->completions_head + 1) % r->completions_size;
        r->completions_count--;
        ring_land(r, completion);
        landed++;
    }
    return landed;
}

static void sim_ring_clock(struct ring *ring, uint64_t *monotonic_ns, int64_t *wall_us)
{
    struct sim *sim = sim_ring_of(ring)->sim;
    *monotonic_ns = sim->now_ns;
    *wall_us = sim->wall_us + (int64_t)(sim->now_ns / SIM_US);
}

static uint64_t sim_ring_entropy(struct ring *ring)
{
    return random_next(&sim_ring_of(ring)->entropy);
}

static void sim_buffer_give(struct ring *ring, uint32_t index)
{
    struct sim_ring *r = sim_ring_of(ring);
    CHECK(index < ring->buffers_count);
    CHECK(r->buffer_held[index]); /* given back twice */
    r->buffer_held[index] = false;
    /* Who still reads it shall see rubbish. */
    memset(ring_buffer(ring, index), RUBBISH, r->buffer_bytes[index]);
    r->buffers_idle[r->buffers_idle_count++] = index;
    ring->buffers_free++;
}

static void cancel_fire(struct sim *sim, const struct sim_event *event)
{
    struct sim_flight *flight = sim_flight_of(sim, event);
    if (flight == NULL)
        return; /* it raced, and its own result came first */
    switch (flight->kind) {
    case FLIGHT_OPEN:
    case FLIGHT_READ:
    case FLIGHT_WRITE:
    case FLIGHT_SYNC:
        if (!sim_file_cancel(sim, flight))
            return; /* a disk does not stop for anybody */
        break;
    case FLIGHT_POLL:
    case FLIGHT_NAME: break;
    default: sim_net_cancel(sim, flight); return;
    }
    sim_post(sim, flight, -ECANCELED, 0);
}

static void sim_ring_cancel(struct ring *ring, struct op *op)
{
    struct sim_ring *r = sim_ring_of(ring);
    CHECK(op->inflight);
    if (op->cancelled)
        return;
    op->cancelled = true;
    struct sim_flight *flight = r->sim->flights[op->ring_private];
    CHECK(flight->op == op);
    CHECK(flight->ring == r);
    sim_flight_event(r->sim, flight, sim_draw(r->sim, (struct sim_range) { 100, 100 * SIM_US }),
                     cancel_fire);
}

static void sim_ring_poll(struct ring *ring, struct op *op, int fd)
{
    (void)fd; /* nothing in this world ever becomes readable by itself */
    sim_flight(ring, op, FLIGHT_POLL);
}

/* ---- life of rings ---- */

void sim_ring_die(struct sim_ring *r)
{
    r->dead = true;
    r->sim->turn_known = false;
    r->ring.buffers_free = 0;
    free(r->completions);
    free(r->slots);
    free(r->ring.buffers);
    free(r->buffers_idle);
    free(r->buffer_held);
    free(r->buffer_bytes);
    r->completions = NULL;
    r->completions_count = 0;
    r->slots = NULL;
    r->ring.buffers = NULL;
    r->buffers_idle = NULL;
    r->buffer_held = NULL;
    r->buffer_bytes = NULL;
    CHECK(r->sim->machines[r->machine].rings > 0);
    r->sim->machines[r->machine].rings--;
    unsigned i = 0;
    while (r->sim->alive[i] != r)
        i++;
    r->sim->alive_count--;
    memmove(&r->sim->alive[i], &r->sim->alive[i + 1],
            (r->sim->alive_count - i) * sizeof(*r->sim->alive));
}

static void sim_ring_free(struct ring *ring)
{
    struct sim_ring *r = sim_ring_of(ring);
    CHECK(ring->ops_inflight == 0);
    for (uint32_t i = 0; i < r->sim->flights_count; i++) {
        struct sim_flight *flight = r->sim->flights[i]; /* forgotten questions about names */
        if (flight->op != NULL && flight->ring == r)
            sim_flight_free(r->sim, flight);
    }
    sim_net_ring_free(r);
    struct sim_disk *disk = r->sim->machines[r->machine].disk;
    for (uint32_t i = 0; i < r->slots_count; i++)
        if (r->slots[i].kind == SLOT_FILE)
            sim_inode_close(disk, r->slots[i].inode);
    sim_ring_die(r);
    if (r->sim->machines[r->machine].rings == 0)
        sim_net_exit(r->sim, r->machine, false);
}

void sim_ring_idle(const struct ring *ring)
{
    const struct sim_ring *r = container_of(ring, struct sim_ring, ring);
    CHECK(!r->dead);
    CHECK(ring->ops_inflight == 0);
    CHECK(ring->buffers_free == ring->buffers_count);
    CHECK(r->slots_used == 0);
}

static struct ring_ops sim_ring_ops(void)
{
    struct ring_ops ops = sim_net_ops;
    ops.open = sim_file_ops.open;
    ops.file_adopt = sim_file_ops.file_adopt;
    ops.file_close = sim_file_ops.file_close;
    ops.read = sim_file_ops.read;
    ops.write = sim_file_ops.write;
    ops.sync = sim_file_ops.sync;
    ops.now_open = sim_file_ops.now_open;
    ops.now_close = sim_file_ops.now_close;
    ops.now_read = sim_file_ops.now_read;
    ops.now_write = sim_file_ops.now_write;
    ops.now_sync = sim_file_ops.now_sync;
    ops.now_stat = sim_file_ops.now_stat;
    ops.now_mkdir = sim_file_ops.now_mkdir;
    ops.now_unlink = sim_file_ops.now_unlink;
    ops.now_rename = sim_file_ops.now_rename;
    ops.now_list = sim_file_ops.now_list;
    ops.poll = sim_ring_poll;
    ops.cancel = sim_ring_cancel;
    ops.wake = sim_ring_wake;
    ops.wait = sim_ring_wait;
    ops.clock = sim_ring_clock;
    ops.entropy = sim_ring_entropy;
    ops.free = sim_ring_free;
    return ops;
}

struct ring *sim_ring(struct sim *sim, unsigned machine, const struct ring_options *options)
{
    static struct ring_ops ops; /* the same for all worlds */
    ops = sim_ring_ops();
    CHECK(machine < sim->machines_count);
    CHECK(sim->rings_count < SIM_RINGS_MAX);
    CHECK(options->sockets_max > 0 && options->sockets_max < 1U << SLOT_BITS);
    CHECK((options->recv_buffers & (options->recv_buffers - 1)) == 0);
    struct sim_ring *r = sim_take(sizeof(*r));
    r->sim = sim;
    r->number = sim->rings_count;
    r->machine = machine;
    r->timer_ns = UINT64_MAX;
    random_seed(&r->entropy, random_next(&sim->random));
    r->slots_max = options->sockets_max;
    r->slots_free = UINT32_MAX;
    r->ring.ops = &ops;
    r->ring.buffer_give = sim_buffer_give;
    r->ring.buffers_count = options->recv_buffers;
    r->ring.buffer_bytes = options->recv_buffer_bytes;
    r->ring.buffers_free = options->recv_buffers;
    r->ring.buffers = sim_more(NULL, (size_t)options->recv_buffers * options->recv_buffer_bytes);
    r->buffers_idle = sim_take(options->recv_buffers * sizeof(*r->buffers_idle));
    r->buffer_bytes = sim_take(options->recv_buffers * sizeof(*r->buffer_bytes));
    r->buffer_held = sim_take(options->recv_buffers * sizeof(*r->buffer_held));
    for (uint32_t i = 0; i < options->recv_buffers; i++)
        r->buffers_idle[i] = i;
    r->buffers_idle_count = options->recv_buffers;
    sim->rings[sim->rings_count++] = r;
    sim->alive[sim->alive_count++] = r;
    sim->turn_known = false;
    sim->machines[machine].rings++;
    return &r->ring;
}

void sim_shard(struct sim *sim, struct shard *shard)
{
    struct sim_ring *r = sim_ring_of(shard->ring);
    CHECK(r->sim == sim);
    CHECK(!r->runs);
    r->shard = shard;
}

void sim_ring_runs(struct sim *sim, struct ring *ring)
{
    struct sim_ring *r = sim_ring_of(ring);
    CHECK(r->sim == sim);
    CHECK(r->shard == NULL);
    r->runs = true;
}
