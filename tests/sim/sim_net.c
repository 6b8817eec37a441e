/*
 * sim_net.c - the simulated network: listeners, connects, and what a test does to them
 *
 *   end: made (socket) --connect--> connecting --SYN, accepted--> open (sim_stream.c)
 *        the other one: in the listener's backlog --accept--> raw --adopt--> in a slot
 *
 * Several listeners at one address share its connections by seed, as SO_REUSEPORT would. Raw
 * sockets are numbers of the whole machine, so one ring may hand them to another.
 *
 * Bounds: SIM_LISTENERS_MAX, SIM_BACKLOG_MAX, SIM_HOSTS_MAX.
 */
#include "tests/sim/sim_inside.h"

#include <errno.h>
#include <stdlib.h>

enum {
    RAW_BIT = 1 << 30, /* raw sockets: numbers that cannot be taken for slots or descriptors */
    RAW_GENERATIONS = 1 << 9,
    SYN_TRIES_MAX = 6,
    PORTS_FIRST = 32'768,
};
static const uint64_t CONNECT_TIMEOUT_NS = 127 * (uint64_t)1'000'000'000;

/* ---- numbers of raw sockets ---- */

static int raw_number(const struct sim_end *e)
{
    return (int)((uint32_t)RAW_BIT | (e->connection->generation % RAW_GENERATIONS) << 21 |
                 e->connection->index << 1 | e->side);
}

static struct sim_end *raw_end(struct sim_ring *r, int raw)
{
    CHECK(raw & RAW_BIT);
    uint32_t index = ((uint32_t)raw & ((1U << 21) - 1)) >> 1;
    CHECK(index < r->sim->connections_count);
    struct sim_end *e = &r->sim->connections[index]->end[raw & 1];
    CHECK(raw_number(e) == raw); /* closed, and forgotten */
    CHECK(e->used && !e->closed);
    CHECK(e->raw);
    CHECK(e->machine == r->machine);
    return e;
}

/* ---- listening ---- */

static int net_listen(struct ring *ring, const struct net_address *address, int backlog,
                      int *socket)
{
    struct sim_ring *r = sim_ring_of(ring);
    struct sim *sim = r->sim;
    int error = sim_fault(sim, r->machine, SIM_SOCKET, 0, 0);
    if (error < 0)
        return error;
    uint32_t slot = sim_slot_take(r, SLOT_LISTENER);
    if (slot == UINT32_MAX)
        return -ENFILE;
    uint32_t number = 0;
    while (number < sim->listeners_count && sim->listeners[number]->used)
        number++;
    if (number == sim->listeners_count) {
        CHECK(number < SIM_LISTENERS_MAX);
        sim->listeners[sim->listeners_count++] = sim_take(sizeof(struct sim_listener));
    }
    struct sim_listener *l = sim->listeners[number];
    memset(l, 0, sizeof(*l));
    l->number = number;
    l->used = true;
    l->ring = r;
    l->address = *address;
    if (l->address.port == 0)
        l->address.port = sim->next_port++;
    l->backlog_max = (uint32_t)MAX(1, MIN(backlog, SIM_BACKLOG_MAX));
    r->slots[slot].listener = l;
    *socket = sim_slot_number(r, slot);
    return 0;
}

static int net_listen_fd(struct ring *ring, int fd, int *socket)
{
    (void)ring;
    (void)fd;
    (void)socket;
    return -ENOTSUP; /* nobody passes descriptors in this world */
}

static void accept_fire(struct sim *sim, const struct sim_event *event)
{
    struct sim_listener *l = sim->listeners[event->index];
    struct sim_flight *flight = l->accept;
    if (!l->used || flight == NULL || flight->generation != event->generation)
        return;
    l->accept_scheduled = false;
    if (l->backlog_count == 0)
        return;
    int error = sim_fault(sim, l->ring->machine, SIM_ACCEPT, sim->options.emfile_ppm, -EMFILE);
    if (error < 0) {
        l->accept = NULL;
        sim_post(sim, flight, error, 0);
        return;
    }
    struct sim_end *e = l->backlog[0];
    memmove(l->backlog, l->backlog + 1, --l->backlog_count * sizeof(*l->backlog));
    bool more = random_below(&sim->random, 64) != 0;
    if (!more)
        l->accept = NULL;
    sim_post(sim, flight, raw_number(e), more ? RING_MORE : 0);
    if (more && l->backlog_count > 0) {
        l->accept_scheduled = true;
        struct sim_event *again = sim_flight_event(sim, flight, sim_moment(sim), accept_fire);
        again->index = l->number;
    }
}

static void accept_kick(struct sim *sim, struct sim_listener *l)
{
    if (l->accept == NULL || l->accept_scheduled || l->backlog_count == 0)
        return;
    l->accept_scheduled = true;
    sim_flight_event(sim, l->accept, sim_moment(sim), accept_fire)->index = l->number;
}

static void net_accept(struct ring *ring, struct op *op, int socket)
{
    struct sim_ring *r = sim_ring_of(ring);
    struct sim_slot *slot = sim_slot(r, socket);
    CHECK(slot->kind == SLOT_LISTENER);
    struct sim_listener *l = slot->listener;
    CHECK(l->accept == NULL);
    l->accept = sim_flight(ring, op, FLIGHT_ACCEPT);
    l->accept->listener = l;
    l->accept_scheduled = false;
    accept_kick(r->sim, l);
}

static void listener_close(struct sim *sim, struct sim_listener *l)
{
    CHECK(l->accept == NULL);
    while (l->backlog_count > 0) {
        struct sim_end *e = l->backlog[--l->backlog_count];
        sim_reset_send(sim, sim_end_other(e), sim_latency(sim, e->machine));
        sim_end_close(sim, e, false);
    }
    l->used = false;
}

static int net_peer(struct ring *ring, int raw, struct net_address *peer, struct net_address *local)
{
    struct sim_ring *r = sim_ring_of(ring);
    struct net_address unused;
    if (local == NULL)
        local = &unused;
    if (sim_slot_is_number(raw)) {
        struct sim_slot *slot = sim_slot(r, raw);
        if (slot->kind == SLOT_LISTENER) {
            *local = slot->listener->address;
            *peer = (struct net_address) { 0 };
            return 0;
        }
        CHECK(slot->kind == SLOT_END);
        *local = slot->end->local;
        *peer = slot->end->remote;
        return slot->end->dead ? -ENOTCONN : 0;
    }
    struct sim_end *e = raw_end(r, raw);
    if (e->dead)
        return -ENOTCONN;
    *peer = e->remote;
    *local = e->local;
    return 0;
}

static int net_adopt(struct ring *ring, int raw, int *socket)
{
    struct sim_ring *r = sim_ring_of(ring);
    struct sim_end *e = raw_end(r, raw);
    int error = sim_fault(r->sim, r->machine, SIM_ADOPT, 0, 0);
    if (error < 0)
        return error;
    uint32_t slot = sim_slot_take(r, SLOT_END);
    if (slot == UINT32_MAX)
        return -ENFILE;
    e->raw = false;
    e->ring = r;
    r->slots[slot].end = e;
    *socket = sim_slot_number(r, slot);
    return 0;
}

static void net_discard(struct ring *ring, int raw)
{
    struct sim_ring *r = sim_ring_of(ring);
    sim_end_close(r->sim, raw_end(r, raw), false);
}

/* ---- connecting ---- */

static int net_socket(struct ring *ring, const struct net_address *to,
                      const struct net_address *from, int *socket)
{
    struct sim_ring *r = sim_ring_of(ring);
    struct sim *sim = r->sim;
    int error = sim_fault(sim, r->machine, SIM_SOCKET, 0, 0);
    if (error < 0)
        return error;
    uint32_t slot = sim_slot_take(r, SLOT_END);
    if (slot == UINT32_MAX)
        return -ENFILE;
    struct sim_connection *c = sim_connection_new(sim);
    c->target = *to;
    struct sim_end *e = &c->end[0];
    e->used = true;
    e->machine = r->machine;
    e->ring = r;
    e->local = from != NULL ? *from : sim->machines[r->machine].address;
    if (e->local.port == 0) {
        e->local.port = sim->next_port++;
        if (sim->next_port == 0)
            sim->next_port = PORTS_FIRST;
    }
    sim_end_buffer(sim, e);
    r->slots[slot].end = e;
    *socket = sim_slot_number(r, slot);
    return 0;
}

static bool listens_for(const struct sim *sim, const struct sim_listener *l,
                        const struct sim_end *from, const struct net_address *to)
{
    if (!l->used || l->address.port != to->port)
        return false;
    if (net_equal(&l->address, to))
        return !net_is_loopback(to) || l->ring->machine == from->machine;
    static const struct net_address zero = { 0 };
    static const struct net_address zero_v4 = { .octets = { [10] = 0xff, [11] = 0xff } };
    if (!net_equal_host(&l->address, &zero) && !net_equal_host(&l->address, &zero_v4))
        return false;
    return net_equal_host(&sim->machines[l->ring->machine].address, to) ||
           (net_is_loopback(to) && l->ring->machine == from->machine);
}

/* One of those that listen there, as SO_REUSEPORT would choose. */
static struct sim_listener *listener_find(struct sim *sim, const struct sim_end *from,
                                          const struct net_address *to)
{
    struct sim_listener *chosen = NULL;
    uint64_t seen = 0;
    for (uint32_t i = 0; i < sim->listeners_count; i++)
        if (listens_for(sim, sim->listeners[i], from, to) &&
            random_below(&sim->random, ++seen) == 0)
            chosen = sim->listeners[i];
    return chosen;
}

static void connect_end(struct sim *sim, struct sim_end *e, int res)
{
    struct sim_flight *flight = e->connect;
    if (flight == NULL)
        return;
    e->connect = NULL;
    e->connecting = false;
    sim_post(sim, flight, res, 0);
}

static void connected_fire(struct sim *sim, const struct sim_event *event)
{
    struct sim_end *e = sim_end_of(sim, event);
    if (e != NULL && !e->closed)
        connect_end(sim, e, (int)(int64_t)event->number);
}

static void connect_later(struct sim *sim, struct sim_end *e, uint64_t delay_ns, int res)
{
    sim_end_event(sim, e, delay_ns, connected_fire)->number = (uint64_t)(int64_t)res;
}

static void syn_fire(struct sim *sim, const struct sim_event *event)
{
    struct sim_end *e = sim_end_of(sim, event);
    if (e == NULL || e->closed || e->connect == NULL)
        return;
    struct sim_connection *c = e->connection;
    uint64_t back = sim_latency(sim, e->machine);
    switch (sim_host_is(sim, &c->target)) {
    case SIM_HOST_REFUSES: connect_later(sim, e, back, -ECONNREFUSED); return;
    case SIM_HOST_BLACKHOLE: connect_later(sim, e, CONNECT_TIMEOUT_NS, -ETIMEDOUT); return;
    case SIM_HOST_RESETS:
        c->end[1].used = c->end[1].closed = true;
        e->open = true;
        connect_later(sim, e, back, 0);
        sim_reset_send(sim, e, back + sim_draw(sim, (struct sim_range) { SIM_US, 2 * SIM_S }));
        return;
    case SIM_HOST_UP: break;
    }
    struct sim_listener *l = listener_find(sim, e, &c->target);
    if (l == NULL) {
        connect_later(sim, e, back, -ECONNREFUSED);
        return;
    }
    if (l->backlog_count >= l->backlog_max) {
        if (++c->connect_tries == SYN_TRIES_MAX)
            connect_later(sim, e, CONNECT_TIMEOUT_NS / 2, -ETIMEDOUT);
        else
            sim_end_event(sim, e, SIM_S << (c->connect_tries - 1), syn_fire);
        return;
    }
    struct sim_end *far = &c->end[1];
    far->used = true;
    far->raw = true;
    far->open = true;
    far->machine = l->ring->machine;
    far->ring = l->ring;
    far->local = c->target;
    far->remote = e->local;
    sim_end_buffer(sim, far);
    e->open = true;
    l->backlog[l->backlog_count++] = far;
    accept_kick(sim, l);
    connect_later(sim, e, back, 0);
}

/* Sockets that have this target, not closed by who connects. */
static unsigned towards(const struct sim *sim, const struct net_address *address)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < sim->connections_count; i++) {
        const struct sim_connection *c = sim->connections[i];
        const struct sim_end *e = &c->end[0];
        count += c->used && e->used && !e->closed && !e->gone && net_equal(&c->target, address);
    }
    return count;
}

static void count_towards(struct sim *sim, const struct net_address *address)
{
    unsigned i = 0;
    while (i < sim->most_count && !net_equal(&sim->most[i].address, address))
        i++;
    if (i == SIM_HOSTS_MAX)
        return;
    if (i == sim->most_count)
        sim->most[sim->most_count++].address = *address;
    sim->most[i].count = MAX(sim->most[i].count, towards(sim, address));
}

unsigned sim_connections_most(struct sim *sim, const struct net_address *address)
{
    for (unsigned i = 0; i < sim->most_count; i++) {
        const unsigned most = sim->most[i].count;
        if (!net_equal(&sim->most[i].address, address))
            continue;
        sim->most[i].count = 0;
        return most;
    }
    return 0;
}

static void net_connect(struct ring *ring, struct op *op, int socket,
                        const struct net_address *address)
{
    struct sim_ring *r = sim_ring_of(ring);
    struct sim *sim = r->sim;
    struct sim_end *e = sim_slot_end(r, socket);
    CHECK(!e->connecting && !e->open); /* connected twice */
    struct sim_flight *flight = sim_flight(ring, op, FLIGHT_CONNECT);
    flight->end = e;
    e->ops++;
    e->connect = flight;
    e->connecting = true;
    e->connection->target = *address;
    e->remote = *address;
    count_towards(sim, address);
    int error = sim_fault(sim, r->machine, SIM_CONNECT, sim->options.refuse_ppm, -ECONNREFUSED);
    if (error == 0 && sim_faulty(sim, r->machine, sim->options.connect_timeout_ppm))
        error = -ETIMEDOUT;
    uint64_t there = sim_latency(sim, r->machine);
    if (error < 0)
        connect_later(sim, e, error == -ETIMEDOUT ? CONNECT_TIMEOUT_NS : there, error);
    else
        sim_end_event(sim, e, there, syn_fire);
}

/* ---- closing ---- */

static void net_close(struct ring *ring, int socket)
{
    struct sim_ring *r = sim_ring_of(ring);
    struct sim_slot *slot = sim_slot(r, socket);
    if (slot->kind == SLOT_LISTENER) {
        listener_close(r->sim, slot->listener);
    } else {
        CHECK(slot->kind == SLOT_END);
        CHECK(slot->end->ops == 0);
        sim_end_close(r->sim, slot->end, false);
    }
    sim_slot_give(r, slot);
}

void sim_net_cancel(struct sim *sim, struct sim_flight *flight)
{
    struct sim_end *e = flight->end;
    int res = -ECANCELED;
    switch (flight->kind) {
    case FLIGHT_ACCEPT: flight->listener->accept = NULL; break;
    case FLIGHT_RECV: e->recv = NULL; break;
    case FLIGHT_CONNECT:
        e->connect = NULL;
        e->connecting = false;
        break;
    case FLIGHT_SEND: /* e->send stays until it has landed */
        if (flight->done > 0)
            res = (int)flight->done;
        break;
    default: return; /* a shutdown is quick */
    }
    sim_post(sim, flight, res, 0);
}

/* ---- ends of processes and of the world ---- */

void sim_net_ring_free(struct sim_ring *r)
{
    for (uint32_t i = 0; i < r->slots_count; i++) {
        struct sim_slot *slot = &r->slots[i];
        if (slot->kind == SLOT_LISTENER)
            listener_close(r->sim, slot->listener);
        else if (slot->kind == SLOT_END)
            sim_end_close(r->sim, slot->end, false);
        else
            continue;
        sim_slot_give(r, slot);
    }
}

void sim_net_exit(struct sim *sim, unsigned machine, bool power)
{
    for (uint32_t i = 0; i < sim->listeners_count; i++) {
        struct sim_listener *l = sim->listeners[i];
        if (!l->used || l->ring->machine != machine)
            continue;
        l->used = false; /* the ends in its backlog are closed below */
        l->accept = NULL;
        l->backlog_count = 0;
    }
    for (uint32_t i = 0; i < sim->connections_count; i++) {
        struct sim_connection *c = sim->connections[i];
        for (unsigned side = 0; side < 2 && c->used; side++) {
            struct sim_end *e = &c->end[side];
            if (e->used && !e->closed && e->machine == machine)
                sim_end_close(sim, e, power);
        }
    }
}

void sim_net_free(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->connections_count; i++) {
        for (unsigned side = 0; side < 2; side++) {
            free(sim->connections[i]->end[side].bytes);
            free(sim->connections[i]->end[side].puts);
        }
        free(sim->connections[i]);
    }
    free(sim->connections);
    for (uint32_t i = 0; i < sim->listeners_count; i++)
        free(sim->listeners[i]);
}

void sim_host(struct sim *sim, const struct net_address *address, enum sim_host what)
{
    unsigned i = 0;
    while (i < sim->hosts_count && !net_equal_host(&sim->hosts[i].address, address))
        i++;
    CHECK(i < SIM_HOSTS_MAX);
    if (i == sim->hosts_count)
        sim->hosts_count++;
    sim->hosts[i].address = *address;
    sim->hosts[i].what = what;
}

void sim_reset(struct sim *sim, struct ring *ring, int socket)
{
    struct sim_ring *r = sim_ring_of(ring);
    struct sim_end *e = socket & RAW_BIT ? raw_end(r, socket) : sim_slot_end(r, socket);
    sim_connection_reset(sim, e->connection);
}

static bool connection_open(const struct sim_connection *c)
{
    for (unsigned side = 0; side < 2; side++) {
        const struct sim_end *e = &c->end[side];
        if (!c->used || !e->used || e->closed || e->dead || !e->open)
            return false;
    }
    return true;
}

bool sim_reset_nth(struct sim *sim, unsigned skip)
{
    /* In the order of making: the skip-th smallest serial. */
    uint64_t above = 0;
    for (;; skip--) {
        struct sim_connection *found = NULL;
        for (uint32_t i = 0; i < sim->connections_count; i++) {
            struct sim_connection *c = sim->connections[i];
            if (connection_open(c) && c->serial >= above &&
                (found == NULL || c->serial < found->serial))
                found = c;
        }
        if (found == NULL)
            return false;
        if (skip == 0) {
            sim_connection_reset(sim, found);
            return true;
        }
        above = found->serial + 1;
    }
}

unsigned sim_connections(const struct sim *sim)
{
    unsigned count = 0;
    for (uint32_t i = 0; i < sim->connections_count; i++)
        count += connection_open(sim->connections[i]);
    return count;
}

const struct ring_ops sim_net_ops = {
    .listen = net_listen,
    .listen_fd = net_listen_fd,
    .accept = net_accept,
    .peer = net_peer,
    .adopt = net_adopt,
    .discard = net_discard,
    .socket = net_socket,
    .connect = net_connect,
    .recv = sim_stream_recv,
    .send = sim_stream_send,
    .shutdown = sim_stream_shutdown,
    .close = net_close,
};
