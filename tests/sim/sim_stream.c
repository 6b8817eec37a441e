/*
 * sim_stream.c - connections of the simulated network: octets, their ends, and closing
 *
 *   end: open --FIN from the other--> half --close--> closed
 *          '--RST--> dead (told once) --close--> closed
 *
 * The bytes towards an end lie in one circular buffer: those that arrived, then those that fly. An
 * arrival is an event that moves a count from flying to arrived, so a stream keeps its order
 * however its pieces are cut; its capacity is the window. A connection is given back when both ends
 * are closed; what still flies then is void by its generation.
 *
 * Bounds: CONNECTIONS_MAX, socket_bytes_max.
 */
#include "tests/sim/sim_inside.h"

#include <errno.h>
#include <stdlib.h>

enum {
    CONNECTIONS_MAX = 1 << 20,
    TRIES_SHIFT = 48,
    RETRANSMISSIONS_MAX = 9, /* a second, two, four, ...: 17 minutes */
    CRUMB_BYTES_MAX = 7,
    CRUMBS_BYTES_MAX = 2048, /* more than this waiting is not shredded */
};

uint64_t sim_latency(struct sim *sim, unsigned machine)
{
    uint64_t ns = sim_draw(sim, sim->options.network);
    if (sim_faulty(sim, machine, sim->options.slow_ppm))
        ns += sim_draw(sim, (struct sim_range) { SIM_MS, 10 * SIM_S });
    return ns;
}

uint64_t sim_moment(struct sim *sim)
{
    return sim_draw(sim, (struct sim_range) { 500, 200 * SIM_US });
}

/* ---- connections and ends ---- */

struct sim_end *sim_end_other(struct sim_end *e)
{
    return &e->connection->end[!e->side];
}

struct sim_event *sim_end_event(struct sim *sim, struct sim_end *e, uint64_t delay_ns,
                                void (*fire)(struct sim *sim, const struct sim_event *event))
{
    struct sim_event *event = sim_event(sim, delay_ns, fire);
    event->index = e->connection->index << 1 | e->side;
    event->generation = e->connection->generation;
    return event;
}

struct sim_end *sim_end_of(struct sim *sim, const struct sim_event *event)
{
    struct sim_connection *c = sim->connections[event->index >> 1];
    return c->generation == event->generation ? &c->end[event->index & 1] : NULL;
}

struct sim_connection *sim_connection_new(struct sim *sim)
{
    uint32_t index = sim->connections_free;
    if (index != UINT32_MAX) {
        sim->connections_free = sim->connections[index]->next_free;
    } else {
        CHECK(sim->connections_count < CONNECTIONS_MAX);
        if (sim->connections_count == sim->connections_size) {
            sim->connections_size = MAX(2 * sim->connections_size, 64);
            sim->connections =
                sim_more(sim->connections, sim->connections_size * sizeof(*sim->connections));
        }
        index = sim->connections_count++;
        sim->connections[index] = sim_take(sizeof(struct sim_connection));
    }
    struct sim_connection *c = sim->connections[index];
    *c = (struct sim_connection) {
        .index = index,
        .generation = c->generation,
        .serial = sim->connections_made++,
        .used = true,
        .shredded = random_below(&sim->random, 16) == 0,
    };
    for (unsigned side = 0; side < 2; side++) {
        c->end[side].connection = c;
        c->end[side].side = side;
    }
    return c;
}

static void connection_forget(struct sim *sim, struct sim_connection *c)
{
    for (unsigned side = 0; side < 2; side++)
        if (c->end[side].used && !c->end[side].closed)
            return;
    for (unsigned side = 0; side < 2; side++) {
        CHECK(c->end[side].ops == 0);
        free(c->end[side].bytes);
        free(c->end[side].puts);
        c->end[side].bytes = NULL;
        c->end[side].puts = NULL;
    }
    c->generation++;
    c->used = false;
    c->next_free = sim->connections_free;
    sim->connections_free = c->index;
}

void sim_end_buffer(struct sim *sim, struct sim_end *e)
{
    e->capacity = (uint32_t)sim_draw(
        sim, (struct sim_range) { sim->options.socket_bytes_min, sim->options.socket_bytes_max });
    e->bytes = sim_more(NULL, e->capacity);
}

enum sim_host sim_host_is(const struct sim *sim, const struct net_address *address)
{
    for (unsigned i = 0; i < sim->hosts_count; i++)
        if (net_equal_host(&sim->hosts[i].address, address))
            return sim->hosts[i].what;
    return SIM_HOST_UP;
}

static bool end_silent(const struct sim *sim, const struct sim_end *e)
{
    return sim->hosts_count > 0 && sim_host_is(sim, &e->connection->target) == SIM_HOST_BLACKHOLE;
}

struct sim_end *sim_slot_end(struct sim_ring *r, int socket)
{
    struct sim_slot *slot = sim_slot(r, socket);
    CHECK(slot->kind == SLOT_END);
    return slot->end;
}

/* ---- what moves a stream ---- */

static void recv_fire(struct sim *sim, const struct sim_event *event);
static void pump_fire(struct sim *sim, const struct sim_event *event);

static void recv_kick(struct sim *sim, struct sim_end *e)
{
    if (e->recv == NULL || e->recv_scheduled)
        return;
    if (e->arrived == 0 && !e->fin_arrived && !e->dead)
        return;
    e->recv_scheduled = true;
    sim_end_event(sim, e, sim_moment(sim), recv_fire);
}

static void pump_kick(struct sim *sim, struct sim_end *e, uint64_t delay_ns)
{
    if (e->send == NULL || e->send->posted || e->pump_scheduled)
        return;
    e->pump_scheduled = true;
    sim_end_event(sim, e, delay_ns, pump_fire);
}

static void end_die(struct sim *sim, struct sim_end *e, int error)
{
    if (!e->used || e->closed || e->dead)
        return;
    e->dead = true;
    e->error = error;
    if (sim_chance(sim, 500'000))
        e->arrived = 0; /* what was not read yet may go with it */
    recv_kick(sim, e);
    pump_kick(sim, e, sim_moment(sim));
    if (e->connect != NULL) {
        struct sim_flight *flight = e->connect;
        e->connect = NULL;
        e->connecting = false;
        sim_post(sim, flight, error, 0);
    }
}

static void reset_fire(struct sim *sim, const struct sim_event *event)
{
    struct sim_end *e = sim_end_of(sim, event);
    if (e != NULL)
        end_die(sim, e, -ECONNRESET);
}

/* A reset is on its way to e. */
void sim_reset_send(struct sim *sim, struct sim_end *e, uint64_t delay_ns)
{
    if (e->used && !e->closed && !e->dead && !end_silent(sim, e))
        sim_end_event(sim, e, delay_ns, reset_fire);
}

void sim_connection_reset(struct sim *sim, struct sim_connection *c)
{
    for (unsigned side = 0; side < 2; side++)
        if (c->end[side].used && !c->end[side].closed && !c->end[side].dead)
            sim_end_event(sim, &c->end[side], sim_moment(sim), reset_fire);
}

/* Bytes, or a FIN (number 0), reach an end. Upper bits of number: how often they got lost so far.
 */
static void arrive_fire(struct sim *sim, const struct sim_event *event)
{
    struct sim_end *e = sim_end_of(sim, event);
    if (e == NULL || e->dead)
        return;
    uint64_t bytes = event->number & ((UINT64_C(1) << TRIES_SHIFT) - 1);
    uint64_t tries = event->number >> TRIES_SHIFT;
    bool early = bytes == 0 && e->flying > 0 && !e->closed; /* a FIN overtakes nothing */
    if (end_silent(sim, e) || early) {
        if (tries == RETRANSMISSIONS_MAX) {
            end_die(sim, e, -ETIMEDOUT);
            end_die(sim, sim_end_other(e), -ETIMEDOUT);
        } else {
            uint64_t delay_ns = (SIM_S << tries) + sim_latency(sim, e->machine);
            sim_end_event(sim, e, delay_ns, arrive_fire)->number = bytes | (tries + 1)
                                                                               << TRIES_SHIFT;
        }
        return;
    }
    if (e->closed) {
        if (bytes == 0)
            return;
        if (!e->gone)
            sim_reset_send(sim, sim_end_other(e), sim_latency(sim, e->machine));
        else if (sim->machines[e->machine].rings > 0) /* it is up again, and knows of nothing */
            sim_reset_send(sim, sim_end_other(e),
                           sim_draw(sim, (struct sim_range) { SIM_MS, 3 * SIM_S }));
        else
            sim_reset_send(sim, sim_end_other(e), sim_between(sim, 10 * SIM_S, 300 * SIM_S));
        return;
    }
    if (bytes == 0) {
        e->fin_arrived = true;
    } else {
        CHECK(e->flying >= bytes);
        e->flying -= (uint32_t)bytes;
        e->arrived += (uint32_t)bytes;
    }
    recv_kick(sim, e);
}

/* On the way to e, behind everything that is already. */
static void fly(struct sim *sim, struct sim_end *e, uint64_t bytes)
{
    uint64_t at = sim->now_ns + sim_latency(sim, sim_end_other(e)->machine);
    uint64_t gap = e->connection->shredded ? sim_between(sim, 1, SIM_MS) : 1;
    e->last_arrival_ns = MAX(at, e->last_arrival_ns + gap);
    sim_end_event(sim, e, e->last_arrival_ns - sim->now_ns, arrive_fire)->number = bytes;
}

static void end_fin(struct sim *sim, struct sim_end *e)
{
    if (e->shut || e->dead)
        return;
    e->shut = true;
    if (e->open)
        fly(sim, sim_end_other(e), 0);
}

/* How much of what is left goes out as one piece. */
static uint32_t piece(struct sim *sim, const struct sim_end *e, uint64_t left)
{
    if (e->connection->shredded && left <= CRUMBS_BYTES_MAX)
        return (uint32_t)sim_between(sim, 1, MIN(left, CRUMB_BYTES_MAX));
    uint64_t cut = random_below(&sim->random, 4);
    if (cut != 0)
        return (uint32_t)left;
    return (uint32_t)sim_between(sim, MIN(left, left / 8 + 1), left);
}

/* Copies bytes of the vector from its position done on behind what flies towards e. */
static void put_keep(struct sim *sim, struct sim_end *e, uint32_t bytes)
{
    e->put_bytes += bytes;
    if (!e->puts_kept)
        return;
    if (e->puts_count == e->puts_size) {
        e->puts_size = MAX(2 * e->puts_size, 32);
        e->puts = sim_more(e->puts, e->puts_size * sizeof(*e->puts));
    }
    e->puts[e->puts_count++] = (struct sim_put) { .end = e->put_bytes, .at_ns = sim->now_ns };
}

void sim_keep_puts(struct ring *ring, int socket)
{
    struct sim_end *e = sim_slot_end(sim_ring_of(ring), socket);
    CHECK(e->put_bytes == 0);
    e->puts_kept = true;
}

uint64_t sim_put_ns(struct ring *ring, int socket, uint64_t before)
{
    const struct sim_end *e = sim_slot_end(sim_ring_of(ring), socket);
    uint32_t i = 0;
    while (i < e->puts_count && e->puts[i].end <= before)
        i++;
    CHECK(i < e->puts_count); /* else it has not come yet */
    return e->puts[i].at_ns;
}

static void stream_put(struct sim_end *e, const struct ring_vector *v, uint64_t done,
                       uint32_t bytes)
{
    for (unsigned i = 0; i < v->count && bytes > 0; i++) {
        if (done >= v->iov[i].iov_len) {
            done -= v->iov[i].iov_len;
            continue;
        }
        const uint8_t *from = (const uint8_t *)v->iov[i].iov_base + done;
        uint32_t part = (uint32_t)MIN(v->iov[i].iov_len - done, bytes);
        done = 0;
        bytes -= part;
        while (part > 0) {
            uint32_t tail = (uint32_t)(((uint64_t)e->head + e->arrived + e->flying) % e->capacity);
            uint32_t run = MIN(part, e->capacity - tail);
            memcpy(e->bytes + tail, from, run);
            e->flying += run;
            from += run;
            part -= run;
        }
    }
    CHECK(bytes == 0);
}

static void stream_take(struct sim_end *e, uint8_t *to, uint32_t bytes)
{
    uint32_t run = MIN(bytes, e->capacity - e->head);
    memcpy(to, e->bytes + e->head, run);
    memcpy(to + run, e->bytes, bytes - run);
    e->head = (uint32_t)(((uint64_t)e->head + bytes) % e->capacity);
    e->arrived -= bytes;
}

static int end_error(struct sim_end *e)
{
    int error = e->error != 0 ? e->error : -EPIPE;
    e->error = 0;
    return error;
}

static void pump_fire(struct sim *sim, const struct sim_event *event)
{
    struct sim_end *e = sim_end_of(sim, event);
    if (e == NULL)
        return;
    e->pump_scheduled = false;
    struct sim_flight *flight = e->send;
    if (flight == NULL || flight->posted)
        return;
    if (e->dead || e->shut) {
        sim_post(sim, flight, flight->done > 0 ? (int)flight->done : end_error(e), 0);
        return;
    }
    struct sim_end *to = sim_end_other(e);
    while (flight->done < flight->bytes) {
        uint64_t left = flight->bytes - flight->done;
        if (to->closed) {
            /* The kernel takes it, and learns only from the answer that nobody wants it. */
            fly(sim, to, left);
            flight->done += left;
            break;
        }
        uint32_t room = to->capacity - to->arrived - to->flying;
        if (to->dead || room == 0)
            break;
        uint32_t bytes = piece(sim, e, MIN(left, room));
        stream_put(to, flight->vector, flight->done, bytes);
        put_keep(sim, to, bytes);
        flight->done += bytes;
        fly(sim, to, bytes);
    }
    if (flight->done == flight->bytes)
        sim_post(sim, flight, (int)flight->done, 0);
    else if (to->dead)
        sim_reset_send(sim, e, sim_latency(sim, e->machine));
}

static void recv_fire(struct sim *sim, const struct sim_event *event)
{
    struct sim_end *e = sim_end_of(sim, event);
    if (e == NULL)
        return;
    e->recv_scheduled = false;
    struct sim_flight *flight = e->recv;
    if (flight == NULL)
        return;
    struct sim_ring *r = flight->ring;
    if (e->arrived == 0) {
        if (!e->dead && !e->fin_arrived)
            return;
        e->recv = NULL;
        sim_post(sim, flight, e->dead && e->error != 0 ? end_error(e) : 0, 0);
        return;
    }
    if (r->buffers_idle_count == 0 || flight->error != 0) {
        e->recv = NULL;
        sim_post(sim, flight, -ENOBUFS, 0);
        return;
    }
    uint32_t bytes = MIN(e->arrived, r->ring.buffer_bytes);
    if (random_below(&sim->random, 8) == 0)
        bytes = (uint32_t)sim_between(sim, 1, bytes);
    uint32_t buffer = r->buffers_idle[--r->buffers_idle_count];
    stream_take(e, ring_buffer(&r->ring, buffer), bytes);
    /* The kernel may end a multishot at any time; whoever wants more arms it again. */
    bool more = random_below(&sim->random, 64) != 0;
    if (!more)
        e->recv = NULL;
    sim_post(sim, flight, (int)bytes, RING_BUFFER | (more ? RING_MORE : 0) | buffer << 16);
    recv_kick(sim, e);
    pump_kick(sim, sim_end_other(e), sim_latency(sim, e->machine));
}

/* ---- closing ---- */

void sim_end_close(struct sim *sim, struct sim_end *e, bool power)
{
    CHECK(e->used && !e->closed);
    if (e->open && !e->dead && !power) {
        /* RFC 1122 4.2.2.13: bytes that nobody will read turn the close into a reset. */
        if (e->arrived > 0)
            sim_reset_send(sim, sim_end_other(e), sim_latency(sim, e->machine));
        else
            end_fin(sim, e);
    }
    e->closed = true;
    e->gone = power;
    e->recv = e->send = e->connect = NULL;
    connection_forget(sim, e->connection);
}

/* ---- the ring's stream operations ---- */

void sim_stream_recv(struct ring *ring, struct op *op, int socket)
{
    struct sim_ring *r = sim_ring_of(ring);
    struct sim_end *e = sim_slot_end(r, socket);
    CHECK(e->recv == NULL);
    CHECK(e->open || e->dead);
    e->recv = sim_flight(ring, op, FLIGHT_RECV);
    e->recv->end = e;
    e->recv->error = sim_fault(r->sim, r->machine, SIM_RECV, r->sim->options.enobufs_ppm, -ENOBUFS);
    e->ops++;
    recv_kick(r->sim, e);
}

void sim_stream_send(struct ring *ring, struct op *op, int socket, struct ring_vector *v)
{
    struct sim_ring *r = sim_ring_of(ring);
    struct sim *sim = r->sim;
    struct sim_end *e = sim_slot_end(r, socket);
    CHECK(e->send == NULL); /* two at once would interleave */
    CHECK(e->open || e->dead);
    CHECK(v->count > 0);
    CHECK(v->count <= RING_VECTOR_MAX);
    struct sim_flight *flight = sim_flight(ring, op, FLIGHT_SEND);
    flight->end = e;
    flight->vector = v;
    for (unsigned i = 0; i < v->count; i++)
        flight->bytes += v->iov[i].iov_len;
    CHECK(flight->bytes > 0);
    CHECK(flight->bytes <= INT32_MAX);
    flight->hash = sim_hash_vector(v);
    e->ops++;
    e->send = flight;
    pump_kick(sim, e, sim_moment(sim));
    if (sim_fault(sim, r->machine, SIM_SEND, sim->options.reset_ppm, -ECONNRESET) < 0)
        for (unsigned side = 0; side < 2; side++)
            sim_reset_send(sim, &e->connection->end[side],
                           sim_draw(sim, (struct sim_range) { SIM_US, SIM_S }));
}

static void shutdown_fire(struct sim *sim, const struct sim_event *event)
{
    struct sim_flight *flight = sim_flight_of(sim, event);
    if (flight == NULL)
        return;
    struct sim_end *e = flight->end;
    bool dead = e->dead;
    end_fin(sim, e);
    sim_post(sim, flight, dead ? -ENOTCONN : 0, 0);
}

void sim_stream_shutdown(struct ring *ring, struct op *op, int socket)
{
    struct sim_ring *r = sim_ring_of(ring);
    struct sim_end *e = sim_slot_end(r, socket);
    struct sim_flight *flight = sim_flight(ring, op, FLIGHT_SHUTDOWN);
    flight->end = e;
    e->ops++;
    sim_flight_event(r->sim, flight, sim_moment(r->sim), shutdown_fire);
}
