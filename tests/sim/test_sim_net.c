/*
 * test_sim_net.c - the simulated network and its actors: streams keep their octets, whatever
 * happens to them; the ledger of a client and a next hop agree; a seed repeats
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>

#include "core/check.h"
#include "tests/sim/sim_actor.h"

enum { STREAM_BYTES = 100'000 };

static struct net_address address(const char *text)
{
    struct net_address a;
    cr_assert_eq(net_parse(slice_of_string(text), 0, &a), 0);
    return a;
}

/* One end of a connection in a test: keeps all that came. */
struct peer {
    struct ring *ring;
    int socket;
    struct op accept, connect, recv, send, shut;
    struct ring_vector vector;
    int raw, accepted, connected, sent, recv_last;
    unsigned recvs, shuts;
    bool hold; /* does not give buffers back */
    unsigned held_count;
    uint32_t held[64];
    uint8_t got[STREAM_BYTES];
    size_t got_bytes;
};

static void peer_on_accept(struct op *op, int res, unsigned flags)
{
    struct peer *p = container_of(op, struct peer, accept);
    p->accepted = res;
    if (res >= 0)
        p->raw = res;
    if (!(flags & RING_MORE) && res >= 0)
        ring_accept(p->ring, op, p->socket);
}

static void peer_on_connect(struct op *op, int res, unsigned flags)
{
    (void)flags;
    container_of(op, struct peer, connect)->connected = res;
}

static void peer_on_recv(struct op *op, int res, unsigned flags)
{
    struct peer *p = container_of(op, struct peer, recv);
    p->recv_last = res;
    p->recvs++;
    if (flags & RING_BUFFER) {
        uint32_t buffer = ring_buffer_index(flags);
        cr_assert_leq(p->got_bytes + (size_t)res, sizeof(p->got));
        memcpy(p->got + p->got_bytes, ring_buffer(p->ring, buffer), (size_t)res);
        p->got_bytes += (size_t)res;
        if (p->hold)
            p->held[p->held_count++] = buffer;
        else
            ring_buffer_give(p->ring, buffer);
    }
    bool again = res > 0 || (res == -ENOBUFS && !p->hold);
    if (!(flags & RING_MORE) && again)
        ring_recv(p->ring, op, p->socket);
}

static void peer_on_send(struct op *op, int res, unsigned flags)
{
    (void)flags;
    container_of(op, struct peer, send)->sent = res;
}

static void peer_on_shut(struct op *op, int res, unsigned flags)
{
    (void)flags;
    cr_assert_eq(res, 0);
    container_of(op, struct peer, shut)->shuts++;
}

enum { NOTHING = -100'000 }; /* has not landed */

static void peer_init(struct peer *p, struct ring *ring)
{
    memset(p, 0, sizeof(*p));
    p->ring = ring;
    p->raw = p->accepted = p->connected = p->sent = p->recv_last = NOTHING;
    p->accept.landed = peer_on_accept;
    p->connect.landed = peer_on_connect;
    p->recv.landed = peer_on_recv;
    p->send.landed = peer_on_send;
    p->shut.landed = peer_on_shut;
}

static void peer_send(struct peer *p, const uint8_t *data, size_t bytes)
{
    p->vector.count = 2;
    p->vector.iov[0] = (struct iovec) { (void *)(uintptr_t)data, bytes / 2 };
    p->vector.iov[1] = (struct iovec) { (void *)(uintptr_t)(data + bytes / 2), bytes - bytes / 2 };
    p->sent = NOTHING;
    ring_send(p->ring, &p->send, p->socket, &p->vector);
}

struct pair {
    struct sim *sim;
    struct peer listener, near, far;
    struct net_address to;
};

static struct pair *pair_new(uint64_t seed)
{
    static struct pair pairs[1]; /* each test has a process of its own */
    struct pair *pair = &pairs[0];
    struct ring_options ring_options = {
        .entries = 64, .sockets_max = 64, .recv_buffers = 8, .recv_buffer_bytes = 1000
    };
    struct sim_options options = sim_calm(seed);
    pair->sim = sim_new(&options);
    struct ring *near = sim_ring(pair->sim, sim_machine(pair->sim, "192.0.2.1"), &ring_options);
    struct ring *far = sim_ring(pair->sim, sim_machine(pair->sim, "192.0.2.2"), &ring_options);
    sim_ring_runs(pair->sim, near);
    sim_ring_runs(pair->sim, far);
    peer_init(&pair->near, near);
    peer_init(&pair->far, far);
    peer_init(&pair->listener, far);
    pair->to = address("192.0.2.2");
    pair->to.port = 25;
    return pair;
}

static void run(struct pair *pair, uint64_t ms)
{
    sim_run(pair->sim, sim_now_ms(pair->sim) + ms);
}

static struct pair *pair_connected(uint64_t seed)
{
    struct pair *pair = pair_new(seed);
    struct net_address any = { .port = 25 };
    cr_assert_eq(ring_listen(pair->far.ring, &any, 8, &pair->listener.socket), 0);
    ring_accept(pair->far.ring, &pair->listener.accept, pair->listener.socket);
    cr_assert_eq(ring_socket(pair->near.ring, &pair->to, NULL, &pair->near.socket), 0);
    ring_connect(pair->near.ring, &pair->near.connect, pair->near.socket, &pair->to);
    run(pair, 1000);
    cr_assert_eq(pair->near.connected, 0);
    cr_assert_neq(pair->listener.raw, NOTHING);
    struct net_address peer, local;
    cr_assert_eq(ring_peer(pair->far.ring, pair->listener.raw, &peer, &local), 0);
    cr_assert(net_equal(&local, &pair->to));
    struct net_address near = address("192.0.2.1");
    cr_assert(net_equal_host(&peer, &near));
    cr_assert_eq(ring_adopt(pair->far.ring, pair->listener.raw, &pair->far.socket), 0);
    return pair;
}

static void connect_only(struct pair *pair, int expected, uint64_t ms)
{
    cr_assert_eq(ring_socket(pair->near.ring, &pair->to, NULL, &pair->near.socket), 0);
    ring_connect(pair->near.ring, &pair->near.connect, pair->near.socket, &pair->to);
    run(pair, ms);
    cr_assert_eq(pair->near.connected, expected);
}

Test(sim_net, nobody_there_refuses)
{
    struct pair *pair = pair_new(1);
    connect_only(pair, -ECONNREFUSED, 1000);
    ring_close(pair->near.ring, pair->near.socket);
    sim_ring_idle(pair->near.ring);
    sim_free(pair->sim);
}

Test(sim_net, a_black_hole_times_out_late_and_can_be_cancelled)
{
    struct pair *pair = pair_new(1);
    sim_host(pair->sim, &pair->to, SIM_HOST_BLACKHOLE);
    connect_only(pair, NOTHING, 60'000);
    run(pair, 120'000);
    cr_assert_eq(pair->near.connected, -ETIMEDOUT);
    pair->near.connected = NOTHING;
    connect_only(pair, NOTHING, 10'000);
    ring_cancel(pair->near.ring, &pair->near.connect);
    run(pair, 10);
    cr_assert_eq(pair->near.connected, -ECANCELED);
    sim_free(pair->sim);
}

Test(sim_net, a_host_may_accept_and_reset)
{
    struct pair *pair = pair_new(1);
    sim_host(pair->sim, &pair->to, SIM_HOST_RESETS);
    connect_only(pair, 0, 1000);
    ring_recv(pair->near.ring, &pair->near.recv, pair->near.socket);
    run(pair, 10'000);
    cr_assert_eq(pair->near.recv_last, -ECONNRESET);
    sim_free(pair->sim);
}

Test(sim_net, streams_keep_their_octets_however_they_are_cut)
{
    static uint8_t data[STREAM_BYTES];
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 7 + i / 251);
    unsigned pieces_least = UINT_MAX, pieces_most = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct pair *pair = pair_connected(seed);
        struct peer *from = seed % 2 ? &pair->near : &pair->far;
        struct peer *to = seed % 2 ? &pair->far : &pair->near;
        size_t bytes = seed % 4 < 2 ? 1500 : sizeof(data);
        ring_recv(to->ring, &to->recv, to->socket);
        peer_send(from, data, bytes);
        run(pair, 600'000);
        cr_assert_eq(from->sent, (int)bytes);
        cr_assert_eq(to->got_bytes, bytes);
        cr_assert_eq(memcmp(to->got, data, bytes), 0);
        if (bytes == 1500) {
            pieces_least = MIN(pieces_least, to->recvs);
            pieces_most = MAX(pieces_most, to->recvs);
        }
        ring_shutdown(from->ring, &from->shut, from->socket);
        run(pair, 1000);
        cr_assert_eq(from->shuts, 1);
        cr_assert_eq(to->recv_last, 0);
        /* Half closed: the other way still works. */
        peer_send(to, data, 10);
        ring_recv(from->ring, &from->recv, from->socket);
        run(pair, 1000);
        cr_assert_eq(from->got_bytes, 10);
        peer_send(from, data, 10);
        run(pair, 1000);
        cr_assert_eq(from->sent, -EPIPE);
        ring_close(to->ring, to->socket);
        run(pair, 1000);
        cr_assert_eq(from->recv_last, 0);
        ring_close(from->ring, from->socket);
        sim_ring_idle(pair->near.ring);
        sim_free(pair->sim);
    }
    cr_assert_leq(pieces_least, 3);
    cr_assert_geq(pieces_most, 20);
}

Test(sim_net, a_reader_that_stops_stops_the_writer)
{
    static uint8_t data[STREAM_BYTES];
    struct pair *pair = pair_new(3);
    sim_options(pair->sim)->socket_bytes_max = 8192;
    struct net_address any = { .port = 25 };
    cr_assert_eq(ring_listen(pair->far.ring, &any, 8, &pair->listener.socket), 0);
    ring_accept(pair->far.ring, &pair->listener.accept, pair->listener.socket);
    connect_only(pair, 0, 1000);
    peer_send(&pair->near, data, sizeof(data));
    run(pair, 60'000);
    cr_assert_eq(pair->near.sent, NOTHING);
    ring_cancel(pair->near.ring, &pair->near.send);
    run(pair, 1000);
    cr_assert_gt(pair->near.sent, 0);
    cr_assert_leq(pair->near.sent, 8192);
    sim_free(pair->sim);
}

Test(sim_net, without_buffers_recv_ends_and_goes_on_when_some_are_back)
{
    static uint8_t data[20'000];
    memset(data, 'x', sizeof(data));
    struct pair *pair = pair_connected(5);
    struct peer *far = &pair->far;
    far->hold = true;
    ring_recv(far->ring, &far->recv, far->socket);
    peer_send(&pair->near, data, sizeof(data));
    run(pair, 60'000);
    cr_assert_eq(far->recv_last, -ENOBUFS);
    cr_assert_eq(far->ring->buffers_free, 0);
    cr_assert_eq(far->held_count, 8);
    cr_assert_not(far->recv.inflight);
    while (far->held_count > 0)
        ring_buffer_give(far->ring, far->held[--far->held_count]);
    far->hold = false;
    ring_recv(far->ring, &far->recv, far->socket);
    run(pair, 60'000);
    cr_assert_eq(far->got_bytes, sizeof(data));
    sim_free(pair->sim);
}

Test(sim_net, closing_with_bytes_unread_resets)
{
    static uint8_t data[100];
    struct pair *pair = pair_connected(6);
    peer_send(&pair->near, data, sizeof(data));
    ring_recv(pair->near.ring, &pair->near.recv, pair->near.socket);
    run(pair, 1000);
    ring_close(pair->far.ring, pair->far.socket);
    run(pair, 1000);
    cr_assert_eq(pair->near.recv_last, -ECONNRESET);
    peer_send(&pair->near, data, sizeof(data));
    run(pair, 1000);
    cr_assert_eq(pair->near.sent, -EPIPE);
    sim_free(pair->sim);
}

Test(sim_net, resets_on_demand_and_cancelled_recv)
{
    struct pair *pair = pair_connected(7);
    cr_assert_eq(sim_connections(pair->sim), 1);
    ring_recv(pair->near.ring, &pair->near.recv, pair->near.socket);
    ring_recv(pair->far.ring, &pair->far.recv, pair->far.socket);
    run(pair, 10);
    ring_cancel(pair->far.ring, &pair->far.recv);
    run(pair, 10);
    cr_assert_eq(pair->far.recv_last, -ECANCELED);
    cr_assert_not(sim_reset_nth(pair->sim, 1));
    cr_assert(sim_reset_nth(pair->sim, 0));
    run(pair, 10);
    cr_assert_eq(pair->near.recv_last, -ECONNRESET);
    cr_assert_eq(sim_connections(pair->sim), 0);
    sim_free(pair->sim);
}

Test(sim_net, a_kill_closes_connections_and_a_power_cut_is_silent)
{
    for (unsigned power = 0; power < 2; power++) {
        struct pair *pair = pair_connected(8);
        ring_recv(pair->near.ring, &pair->near.recv, pair->near.socket);
        run(pair, 10);
        sim_crash(pair->sim, 1, power ? SIM_POWER : SIM_KILL);
        run(pair, 60'000);
        cr_assert_eq(pair->near.recv_last, power ? NOTHING : 0);
        static uint8_t data[10];
        peer_send(&pair->near, data, sizeof(data));
        run(pair, 400'000);
        if (power)
            cr_assert_eq(pair->near.recv_last, -ECONNRESET);
        sim_free(pair->sim);
    }
}

Test(sim_net, the_table_may_be_full_and_accept_may_fail)
{
    struct pair *pair = pair_new(9);
    int socket;
    for (unsigned i = 0; i < 64; i++)
        cr_assert_eq(ring_socket(pair->near.ring, &pair->to, NULL, &socket), 0);
    cr_assert_eq(ring_socket(pair->near.ring, &pair->to, NULL, &socket), -ENFILE);
    sim_free(pair->sim);
    pair = pair_new(9);
    sim_fail(pair->sim, 1, SIM_ACCEPT, 0, 1, -EMFILE);
    struct net_address any = { .port = 25 };
    cr_assert_eq(ring_listen(pair->far.ring, &any, 8, &pair->listener.socket), 0);
    ring_accept(pair->far.ring, &pair->listener.accept, pair->listener.socket);
    connect_only(pair, 0, 1000);
    cr_assert_eq(pair->listener.accepted, -EMFILE);
    cr_assert_not(pair->listener.accept.inflight);
    ring_accept(pair->far.ring, &pair->listener.accept, pair->listener.socket);
    run(pair, 1000);
    cr_assert_geq(pair->listener.accepted, 0);
    sim_free(pair->sim);
}

Test(sim_net, a_buffer_given_back_twice_is_found, .signal = SIGABRT)
{
    struct pair *pair = pair_connected(5);
    static uint8_t data[10];
    pair->far.hold = true;
    ring_recv(pair->far.ring, &pair->far.recv, pair->far.socket);
    peer_send(&pair->near, data, sizeof(data));
    run(pair, 1000);
    ring_buffer_give(pair->far.ring, pair->far.held[0]);
    ring_buffer_give(pair->far.ring, pair->far.held[0]);
}

Test(sim_net, closing_with_a_recv_in_flight_is_found, .signal = SIGABRT)
{
    struct pair *pair = pair_connected(5);
    ring_recv(pair->far.ring, &pair->far.recv, pair->far.socket);
    ring_close(pair->far.ring, pair->far.socket);
}

/* ---- shards, wakes, names ---- */

struct asker {
    struct dns_query query;
    enum dns_status status;
    unsigned count, answers, cnames;
    uint16_t preference;
    char first[64];
};

static void asker_answered(struct dns_query *query, const struct dns_answer *answer)
{
    struct asker *a = container_of(query, struct asker, query);
    a->status = answer->status;
    a->count = answer->count;
    a->cnames = answer->cnames;
    a->answers++;
    if (answer->count > 0) {
        a->preference = answer->records[0].preference;
        memcpy(a->first, answer->records[0].data, MIN(answer->records[0].size, 64U));
    }
}

static void ask(struct sim *sim, struct dns *dns, struct shard *shard, struct asker *a,
                const char *name, enum dns_type type)
{
    *a = (struct asker) { .query.answered = asker_answered };
    dns_ask(dns, shard, &a->query, name, type);
    sim_run(sim, sim_now_ms(sim) + 10'000);
    cr_assert_eq(a->answers, 1);
}

Test(sim_dns, answers_follow_the_table)
{
    struct sim_options options = sim_calm(1);
    struct sim *sim = sim_new(&options);
    struct ring_options ring_options = { .entries = 8, .sockets_max = 8 };
    static struct shard shard;
    shard_init(&shard, sim_ring(sim, sim_machine(sim, "192.0.2.1"), &ring_options), NULL, 0);
    sim_shard(sim, &shard);
    struct sim_dns *table = sim_dns_new(sim);
    struct dns dns = sim_dns_of(table);
    sim_dns_mx(table, "Example.org", 10, "mx.example.org");
    sim_dns_a(table, "mx.example.org", "192.0.2.25");
    sim_dns_add(table, "www.example.org", DNS_CNAME, 0, SLICE("mx.example.org"));
    sim_dns_set(table, "bad.example.org", DNS_MX, DNS_BOGUS, false);
    struct asker a;
    ask(sim, &dns, &shard, &a, "no.example.org", DNS_MX);
    cr_assert_eq(a.status, DNS_NXDOMAIN);
    ask(sim, &dns, &shard, &a, "example.org", DNS_A);
    cr_assert_eq(a.status, DNS_NODATA);
    ask(sim, &dns, &shard, &a, "bad.example.org", DNS_MX);
    cr_assert_eq(a.status, DNS_BOGUS);
    ask(sim, &dns, &shard, &a, "EXAMPLE.org", DNS_MX);
    cr_assert_eq(a.status, DNS_OK);
    cr_assert_eq(a.preference, 10);
    cr_assert_str_eq(a.first, "mx.example.org");
    ask(sim, &dns, &shard, &a, "www.example.org", DNS_A);
    cr_assert_eq(a.status, DNS_OK);
    cr_assert_eq(a.cnames, 1);
    sim_dns_faults(table, 1'000'000, 0, 0);
    ask(sim, &dns, &shard, &a, "www.example.org", DNS_A);
    cr_assert_eq(a.status, DNS_SERVFAIL);
    a = (struct asker) { .query.answered = asker_answered };
    dns_ask(&dns, &shard, &a.query, "www.example.org", DNS_A);
    dns_forget(&dns, &a.query);
    sim_run(sim, sim_now_ms(sim) + 10'000);
    cr_assert_eq(a.answers, 0);
    ring_free(shard.ring);
    sim_free(sim);
}

/* Two shards that send a number back and forth, and a timer each. */
static unsigned bounces;

static void on_handoff(struct shard *shard, const struct handoff *handoff)
{
    bounces++;
    struct handoff next = { .kind = 0, .number = handoff->number + 1 };
    if (handoff->number < 1000)
        cr_assert_eq(shard_handoff(shard, 1 - shard->index, next), 0);
}

static unsigned fires;

static void on_timer(struct timer *timer)
{
    (void)timer;
    fires++;
}

static uint64_t shards_trace(uint64_t seed)
{
    struct sim_options options = sim_storm(seed);
    struct sim *sim = sim_new(&options);
    struct ring_options ring_options = { .entries = 8, .sockets_max = 8 };
    static struct shard shards[2];
    struct shard_group group;
    cr_assert_eq(shard_group_init(&group, 2), 0);
    unsigned machine = sim_machine(sim, "192.0.2.1");
    sim_faults(sim, machine, true);
    for (unsigned i = 0; i < 2; i++) {
        shard_init(&shards[i], sim_ring(sim, machine, &ring_options), &group, i);
        shard_handle(&shards[i], 0, on_handoff);
        sim_shard(sim, &shards[i]);
    }
    bounces = fires = 0;
    struct timer timer;
    timer_init(&timer, on_timer);
    shard_timer_arm(&shards[0], &timer, 5000);
    cr_assert_eq(shard_handoff(&shards[0], 1, (struct handoff) { .number = 0 }), 0);
    sim_run(sim, sim_now_ms(sim) + 4999);
    cr_assert_eq(fires, 0);
    sim_run(sim, sim_now_ms(sim) + 60'000);
    cr_assert_eq(fires, 1);
    cr_assert_eq(bounces, 1001);
    uint64_t trace = sim_trace(sim);
    sim_free(sim);
    shard_group_free(&group);
    return trace;
}

Test(sim, shards_wake_each_other_and_timers_fire_in_virtual_time)
{
    for (uint64_t seed = 1; seed <= 5; seed++)
        cr_assert_eq(shards_trace(seed), shards_trace(seed));
    cr_assert_neq(shards_trace(1), shards_trace(2));
}

/* ---- actors: a client talks to a next hop, without a server between ---- */

static struct sim_balance actors_run(uint64_t seed, bool wild_client, bool wild_hop, bool lmtp,
                                     uint32_t messages, uint64_t *trace, uint64_t *operations)
{
    static const char *const domains[] = { "one.example", "two.example", NULL };
    struct sim_options options = sim_calm(seed);
    struct sim *sim = sim_new(&options);
    struct ring *clients = sim_actor_ring(sim, sim_machine(sim, "192.0.2.1"));
    struct ring *hops = sim_actor_ring(sim, sim_machine(sim, "192.0.2.2"));
    struct sim_ledger *ledger = sim_ledger_new(sim, domains);
    struct net_address to = address("192.0.2.2");
    to.port = 25;
    struct sim_hop_options hop = wild_hop ? sim_hop_wild(&to) : sim_hop_plain(&to);
    hop.lmtp = lmtp;
    struct sim_actor *next_hop = sim_hop(ledger, hops, &hop);
    struct sim_client_options client =
        wild_client ? sim_client_wild(&to, messages) : sim_client_plain(&to, messages);
    struct sim_actor *one = sim_client(ledger, clients, &client);
    cr_assert(sim_run_until(sim, 100'000'000, sim_clients_done, ledger));
    sim_run(sim, sim_now_ms(sim) + 1'000'000);
    cr_assert(sim_client_done(one));
    cr_assert_gt(sim_hop_connections(next_hop), 0);
    struct sim_balance balance = sim_ledger_balance(ledger);
    *trace = sim_trace(sim);
    *operations = sim_operations(sim);
    if (balance.missing + balance.false_ones + balance.damaged > 0)
        sim_ledger_print(ledger, 10);
    cr_assert_eq(ledger->strangers, 0);
    sim_ledger_free(ledger);
    sim_free(sim);
    return balance;
}

Test(sim_actor, a_plain_client_and_a_plain_hop_agree)
{
    uint64_t trace, operations;
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct sim_balance b = actors_run(seed, false, false, false, 50, &trace, &operations);
        cr_assert_eq(b.sent, 50);
        cr_assert_eq(b.acknowledged, 50);
        cr_assert_eq(b.delivered, b.expected);
        cr_assert_eq(b.missing + b.false_ones + b.damaged + b.duplicates, 0);
    }
}

Test(sim_actor, wild_ones_agree_too)
{
    uint64_t trace, operations;
    uint32_t refused_or_unknown = 0;
    for (uint64_t seed = 1; seed <= 30; seed++) {
        struct sim_balance b =
            actors_run(seed, seed % 3 != 0, seed % 3 != 1, false, 60, &trace, &operations);
        cr_assert_gt(b.acknowledged, 10);
        cr_assert_eq(b.missing + b.false_ones + b.damaged + b.duplicates, 0);
        refused_or_unknown += b.sent - b.acknowledged;
    }
    cr_assert_gt(refused_or_unknown, 100);
}

Test(sim_actor, a_seed_repeats)
{
    for (uint64_t seed = 1; seed <= 6; seed++) {
        uint64_t first, second, other, operations;
        actors_run(seed, true, true, false, 30, &first, &operations);
        actors_run(seed, true, true, false, 30, &second, &operations);
        actors_run(seed + 1000, true, true, false, 30, &other, &operations);
        cr_assert_eq(first, second);
        cr_assert_neq(first, other);
    }
}
