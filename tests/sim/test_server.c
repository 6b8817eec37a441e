/*
 * test_server.c - the whole server in the simulated world: one kind of fault at a time
 *
 * ringpost-sim mixes everything by seed; here each kind has a name, and fails on its own. After
 * each run the ledger is judged: what was acknowledged is delivered or bounced, nothing else is.
 */
#include <criterion/criterion.h>

#include <errno.h>

#include "core/check.h"
#include "tests/sim/server_sim.h"

enum {
    MINUTE_MS = 60'000,
    HOUR_MS = 60 * MINUTE_MS,
    FEW = 8,       /* messages of a run in a loop over operations */
    LOOP_MAX = 24, /* operations of a kind that such a loop fails, one after the other */
    SEVERAL = 60,
};

static struct world *world_new(const struct world_options *options)
{
    static struct world worlds[1]; /* each test has a process of its own */
    world_init(&worlds[0], options);
    return &worlds[0];
}

static void run_for(struct world *w, uint64_t ms)
{
    sim_run(w->sim, sim_now_ms(w->sim) + ms);
}

static void start(struct world *w)
{
    int r = server_sim_start(&w->server, w->shards);
    cr_assert_eq(r, 0, "%s (%s)", strerror(-r), w->server.why);
}

static void clients(struct world *w, uint32_t messages, uint32_t content_max)
{
    struct sim_client_options o = sim_client_plain(&w->in, messages);
    o.content_max = content_max;
    (void)sim_client(w->ledger, w->clients, &o);
}

static bool settle(struct world *w)
{
    return sim_run_until(w->sim, sim_now_ms(w->sim) + 6 * HOUR_MS, world_settled, w);
}

static void drain(struct world *w)
{
    server_sim_drain(&w->server);
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + HOUR_MS, server_sim_drained, &w->server),
              "the drain does not end");
    server_sim_close(&w->server);
}

static struct sim_balance judge(struct world *w)
{
    unsigned log = 0;
    cr_assert_eq(server_sim_balance(&w->server, &log), 0, "log %u", log);
    struct sim_balance b = sim_ledger_balance(w->ledger);
    if (b.missing + b.false_ones + b.damaged > 0)
        sim_ledger_print(w->ledger, 10);
    cr_assert_eq(b.missing, 0);
    cr_assert_eq(b.false_ones, 0);
    cr_assert_eq(b.damaged, 0);
    cr_assert_eq(w->ledger->strangers, 0);
    return b;
}

/* Everything of a run that is to end well. */
static struct sim_balance finish(struct world *w)
{
    cr_assert(settle(w), "the queue does not run empty");
    struct sim_balance b = judge(w);
    drain(w);
    return b;
}

static void all_hops(struct world *w, enum sim_host what)
{
    for (unsigned i = 0; i < WORLD_HOPS; i++)
        sim_host(w->sim, &w->hop_addresses[i], what);
}

static unsigned count_code(const struct world *w, int code)
{
    unsigned count = 0;
    for (uint32_t id = 1; id < w->ledger->count; id++)
        count += w->ledger->messages[id].code == code;
    return count;
}

/* ---- faults ---- */

Test(server_sim, a_failed_sync_is_451_and_never_250)
{
    const struct world_options o = world_calm(1);
    struct world *w = world_new(&o);
    start(w);
    for (unsigned i = 0; i < 3; i++) {
        run_for(w, MINUTE_MS); /* segments are prepared, outcomes written */
        sim_fail(w->sim, w->server.machine, SIM_WRITE, 0, 1, -EIO);
        struct sim_client_options one = sim_client_plain(&w->in, 1);
        one.connections = 1;
        (void)sim_client(w->ledger, w->clients, &one);
        cr_assert(
            sim_run_until(w->sim, sim_now_ms(w->sim) + MINUTE_MS, sim_clients_done, w->ledger));
        cr_assert_eq(count_code(w, 451), i + 1);
        cr_assert_eq(count_code(w, 250), i * FEW);
        clients(w, FEW, 2'000); /* the next ones are taken */
        cr_assert(settle(w));
        cr_assert_eq(count_code(w, 250), (i + 1) * FEW);
    }
    cr_assert_eq(judge(w).revived, 0);
    drain(w);
    world_free(w);
}

Test(server_sim, a_disk_that_fails_for_good_takes_no_mail_until_it_works_again)
{
    const struct world_options o = world_calm(2);
    struct world *w = world_new(&o);
    start(w);
    run_for(w, MINUTE_MS);
    sim_fail(w->sim, w->server.machine, SIM_WRITE, 0, UINT64_MAX, -EIO);
    clients(w, SEVERAL, 2'000);
    run_for(w, 10 * MINUTE_MS);
    cr_assert_eq(count_code(w, 250), 0);
    cr_assert(!server_shard_ready(&w->server.servers[0]));
    sim_fail(w->sim, w->server.machine, SIM_WRITE, 0, 0, 0);
    run_for(w, MINUTE_MS);
    cr_assert(server_shard_ready(&w->server.servers[0]));
    clients(w, FEW, 2'000);
    finish(w);
    cr_assert_geq(count_code(w, 250), FEW);
    world_free(w);
}

Test(server_sim, a_full_disk_is_452_and_mends_by_itself)
{
    const struct world_options o = world_calm(3);
    struct world *w = world_new(&o);
    start(w);
    run_for(w, MINUTE_MS);
    all_hops(w, SIM_HOST_REFUSES);
    unsigned machine = w->server.machine;
    sim_disk_bytes(w->sim, machine, sim_disk_used(w->sim, machine));
    clients(w, 4 * SEVERAL, 60'000);
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + HOUR_MS, sim_clients_done, w->ledger));
    cr_assert_gt(count_code(w, 452), 0);
    cr_assert_gt(count_code(w, 250), 0);
    sim_disk_bytes(w->sim, machine, 0);
    all_hops(w, SIM_HOST_UP);
    run_for(w, 5 * MINUTE_MS);
    unsigned refused = count_code(w, 452);
    clients(w, FEW, 60'000);
    finish(w);
    cr_assert_eq(count_code(w, 452), refused, "it refuses although there is space");
    world_free(w);
}

Test(server_sim, a_full_log_still_records_outcomes)
{
    struct world_options o = world_calm(4);
    o.size_max_mib = 4;
    o.shards = 1;
    struct world *w = world_new(&o);
    all_hops(w, SIM_HOST_REFUSES);
    start(w);
    clients(w, 4 * SEVERAL, 60'000);
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + HOUR_MS, sim_clients_done, w->ledger));
    cr_assert_gt(count_code(w, 452), 0);
    for (unsigned i = 0; i < 8; i++) { /* each start takes a segment */
        server_sim_crash(&w->server, SIM_KILL);
        start(w);
        run_for(w, MINUTE_MS);
    }
    all_hops(w, SIM_HOST_UP);
    struct sim_balance b = finish(w);
    cr_assert_eq(b.duplicates, 0);
    world_free(w);
}

/* The n-th operation of a kind fails, once; for each n. No disk makes us deliver twice; a
 * connection that breaks may. */
static void nth_fails(enum sim_operation kind, int error)
{
    unsigned twice = kind == SIM_WRITE || kind == SIM_SYNC || kind == SIM_READ ? 0 : 24;
    for (uint64_t n = 0; n < LOOP_MAX; n++) {
        const struct world_options o = world_calm(100 + n);
        struct world *w = world_new(&o);
        start(w);
        uint64_t before = sim_count(w->sim, w->server.machine, kind);
        sim_fail(w->sim, w->server.machine, kind, n, 1, error);
        clients(w, FEW, 30'000);
        struct sim_balance b = finish(w);
        bool reached = sim_count(w->sim, w->server.machine, kind) > before + n;
        cr_assert_eq(b.revived, 0);
        world_free(w);
        if (!reached)
            break;
        cr_assert_leq(b.duplicates, twice);
    }
}

Test(server_sim, nth_write_fails)
{
    nth_fails(SIM_WRITE, -EIO);
}

Test(server_sim, nth_write_has_no_space)
{
    nth_fails(SIM_WRITE, -ENOSPC);
}

Test(server_sim, nth_sync_fails)
{
    nth_fails(SIM_SYNC, -EIO);
}

Test(server_sim, nth_open_fails)
{
    nth_fails(SIM_OPEN, -EMFILE);
}

Test(server_sim, nth_read_fails)
{
    nth_fails(SIM_READ, -EIO);
}

Test(server_sim, nth_accept_fails)
{
    nth_fails(SIM_ACCEPT, -EMFILE);
}

Test(server_sim, nth_adopt_fails)
{
    nth_fails(SIM_ADOPT, -ENFILE);
}

Test(server_sim, nth_socket_fails)
{
    nth_fails(SIM_SOCKET, -ENFILE);
}

Test(server_sim, nth_connect_fails)
{
    nth_fails(SIM_CONNECT, -ECONNREFUSED);
}

Test(server_sim, nth_send_fails)
{
    nth_fails(SIM_SEND, -ECONNRESET);
}

Test(server_sim, nth_recv_has_no_buffer)
{
    nth_fails(SIM_RECV, -ENOBUFS);
}

/* All operations of a kind fail from the n-th on, during a start with mail in the logs. */
static void start_fails(enum sim_operation kind)
{
    struct world_options o = world_calm(200);
    struct world *w = world_new(&o);
    all_hops(w, SIM_HOST_REFUSES);
    start(w);
    clients(w, SEVERAL, 30'000);
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + HOUR_MS, sim_clients_done, w->ledger));
    unsigned refused = 0;
    for (uint64_t n = 0; n < LOOP_MAX; n++) {
        server_sim_crash(&w->server, n % 2 == 0 ? SIM_KILL : SIM_POWER);
        sim_fail(w->sim, w->server.machine, kind, n, UINT64_MAX, -EIO);
        int r = server_sim_start(&w->server, 1 + (unsigned)(n % 3));
        sim_fail(w->sim, w->server.machine, kind, 0, 0, 0);
        refused += r < 0;
        if (r < 0)
            cr_assert_neq(w->server.why[0], '\0', "it says why");
        if (r < 0)
            start(w);
    }
    cr_assert_gt(refused, 0);
    all_hops(w, SIM_HOST_UP);
    finish(w);
    world_free(w);
}

Test(server_sim, a_start_that_cannot_open_loses_nothing)
{
    start_fails(SIM_OPEN);
}

Test(server_sim, a_start_that_cannot_read_loses_nothing)
{
    start_fails(SIM_READ);
}

Test(server_sim, a_start_that_cannot_write_loses_nothing)
{
    start_fails(SIM_WRITE);
}

Test(server_sim, a_start_that_cannot_sync_loses_nothing)
{
    start_fails(SIM_SYNC);
}

Test(server_sim, a_start_that_cannot_name_loses_nothing)
{
    start_fails(SIM_NAMES);
}

/* ---- one kind of fault, all the time ---- */

static void storm_of(size_t offset, uint32_t ppm)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct world_options o = world_calm(seed);
        memcpy((uint8_t *)&o.sim + offset, &ppm, sizeof(ppm));
        struct world *w = world_new(&o);
        start(w);
        sim_faults(w->sim, w->server.machine, true);
        clients(w, SEVERAL, 30'000);
        run_for(w, 5 * MINUTE_MS);
        sim_faults(w->sim, w->server.machine, false);
        finish(w);
        world_free(w);
    }
}

#define STORM(field, ppm)                                                                          \
    Test(server_sim, storm_of_##field)                                                             \
    {                                                                                              \
        storm_of(offsetof(struct sim_options, field), ppm);                                        \
    }

STORM(slow_ppm, 50'000)
STORM(stall_ppm, 5'000)
STORM(refuse_ppm, 300'000)
STORM(connect_timeout_ppm, 200'000)
STORM(reset_ppm, 50'000)
STORM(emfile_ppm, 200'000)
STORM(short_write_ppm, 200'000)
STORM(write_error_ppm, 50'000)
STORM(sync_error_ppm, 200'000)
STORM(read_error_ppm, 50'000)
STORM(open_error_ppm, 200'000)
STORM(enobufs_ppm, 200'000)

Test(server_sim, names_that_fail)
{
    const struct world_options o = world_calm(7);
    struct world *w = world_new(&o);
    sim_dns_faults(w->dns, 300'000, 300'000, 5'000);
    start(w);
    clients(w, SEVERAL, 2'000);
    cr_assert_eq(finish(w).duplicates, 0);
    world_free(w);
}

Test(server_sim, next_hops_gone_wild)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        const struct world_options o = world_calm(seed);
        struct world *w = world_new(&o);
        for (unsigned i = 0; i < WORLD_HOPS; i++) {
            bool lmtp = sim_hop_options(w->hops[i])->lmtp;
            *sim_hop_options(w->hops[i]) = sim_hop_wild(&w->hop_addresses[i]);
            sim_hop_options(w->hops[i])->lmtp = lmtp;
            if (lmtp)
                sim_hop_options(w->hops[i])->half_ppm = 0;
        }
        start(w);
        clients(w, SEVERAL, 30'000);
        finish(w);
        world_free(w);
    }
}

Test(server_sim, mail_that_nobody_takes_expires_as_a_bounce)
{
    struct world_options o = world_calm(8);
    o.age_max_s = 600;
    struct world *w = world_new(&o);
    all_hops(w, SIM_HOST_REFUSES);
    sim_host(w->sim, &w->hop_addresses[3], SIM_HOST_UP); /* the sender's takes bounces */
    start(w);
    clients(w, SEVERAL, 2'000);
    struct sim_balance b = finish(w);
    cr_assert_eq(b.bounced, b.expected);
    cr_assert_eq(b.delivered, 0);
    world_free(w);
}

/* ---- crashes ---- */

static void crashes(enum sim_crash how)
{
    for (uint64_t seed = 1; seed <= 10; seed++) {
        const struct world_options o = world_calm(seed);
        struct world *w = world_new(&o);
        start(w);
        clients(w, SEVERAL, 30'000);
        for (unsigned i = 0; i < 4; i++) {
            run_for(w, 10 + 70 * seed);
            server_sim_crash(&w->server, how);
            w->shards = 1 + (unsigned)(seed + i) % SERVER_SIM_SHARDS_MAX;
            start(w);
        }
        finish(w);
        world_free(w);
    }
}

Test(server_sim, kills)
{
    crashes(SIM_KILL);
}

Test(server_sim, power_cuts)
{
    crashes(SIM_POWER);
}

Test(server_sim, a_crash_in_the_middle_of_a_drain)
{
    for (uint64_t seed = 1; seed <= 10; seed++) {
        const struct world_options o = world_calm(seed);
        struct world *w = world_new(&o);
        start(w);
        clients(w, SEVERAL, 30'000);
        run_for(w, 300);
        server_sim_drain(&w->server);
        run_for(w, 5 * seed);
        server_sim_crash(&w->server, seed % 2 == 0 ? SIM_KILL : SIM_POWER);
        start(w);
        finish(w);
        world_free(w);
    }
}

Test(server_sim, a_drain_while_names_are_asked_and_next_hops_are_silent)
{
    const struct world_options o = world_calm(9);
    struct world *w = world_new(&o);
    sim_dns_faults(w->dns, 0, 500'000, 5'000);
    all_hops(w, SIM_HOST_BLACKHOLE);
    start(w);
    clients(w, SEVERAL, 2'000);
    run_for(w, 2'000);
    drain(w);
    sim_dns_faults(w->dns, 0, 0, 0);
    all_hops(w, SIM_HOST_UP);
    w->shards = 1; /* serves both logs, and ends with both of them full */
    start(w);
    run_for(w, 20);
    drain(w);
    start(w);
    finish(w);
    world_free(w);
}

/* ---- the calm world ---- */

Test(server_sim, clock_jumps)
{
    const struct world_options o = world_calm(10);
    struct world *w = world_new(&o);
    all_hops(w, SIM_HOST_REFUSES);
    start(w);
    clients(w, SEVERAL, 2'000);
    for (int i = 0; i < 8; i++) {
        run_for(w, MINUTE_MS);
        sim_wall_jump(w->sim, (i % 2 == 0 ? -1 : 1) * (int64_t)HOUR_MS * 1'000 * (i + 1));
    }
    all_hops(w, SIM_HOST_UP);
    cr_assert_eq(finish(w).duplicates, 0);
    world_free(w);
}

Test(server_sim, reloads_move_mail_to_its_new_way)
{
    const struct world_options o = world_calm(11);
    struct world *w = world_new(&o);
    start(w);
    clients(w, SEVERAL, 30'000);
    for (unsigned i = 1; i < 10; i++) {
        char text[SERVER_SIM_TEXT_MAX];
        world_config(&o, i, text);
        run_for(w, 100);
        server_sim_reload(&w->server, text);
    }
    cr_assert_eq(finish(w).duplicates, 0);
    world_free(w);
}

Test(server_sim, all_is_delivered_exactly_once)
{
    for (unsigned shards = 1; shards <= SERVER_SIM_SHARDS_MAX; shards++) {
        struct world_options o = world_calm(12);
        o.shards = shards;
        struct world *w = world_new(&o);
        start(w);
        clients(w, 5 * SEVERAL, 100'000);
        struct sim_balance b = finish(w);
        cr_assert_eq(b.acknowledged, 5 * SEVERAL);
        cr_assert_eq(b.delivered + b.bounced, b.expected);
        cr_assert_gt(b.bounced, 0); /* gone.example */
        cr_assert_eq(b.duplicates, 0);
        start(w); /* nothing of it is left */
        cr_assert(server_sim_empty(&w->server));
        cr_assert_eq(server_sim_sums(&w->server).recovered, 0);
        drain(w);
        world_free(w);
    }
}

/* ---- limits that all shards keep together ---- */

static uint64_t probes(const struct world *w)
{
    uint64_t count = 0;
    for (unsigned i = 0; i < w->shards; i++)
        count += w->server.servers[i].leases.numbers.probes;
    return count;
}

Test(server_sim, limits_hold_over_all_shards_at_any_time)
{
    for (unsigned limit = 1; limit <= 5; limit += 2) {
        struct world_options o = world_calm(20 + limit);
        o.shards = SERVER_SIM_SHARDS_MAX;
        o.connections_per_hop = limit;
        o.rate_c = 300;
        struct world *w = world_new(&o);
        start(w);
        clients(w, 4 * SEVERAL, 2'000);
        (void)finish(w);
        const unsigned most[WORLD_HOPS] = {
            sim_connections_most(w->sim, &w->hop_addresses[0]),
            sim_connections_most(w->sim, &w->hop_addresses[1]),
            sim_connections_most(w->sim, &w->hop_addresses[2]),
            sim_connections_most(w->sim, &w->hop_addresses[3]),
        };
        cr_assert_leq(most[0], limit, "%u", most[0]);
        cr_assert_leq(most[1], limit + 1, "%u", most[1]); /* b's own limit, and the MX set of a */
        cr_assert_leq(most[2], limit, "%u", most[2]);
        cr_assert_leq(most[3], limit, "%u", most[3]);
        cr_assert_gt(most[0], 0);
        const double ahead = sim_hop_ahead(w->hops[2]);
        cr_assert_leq(ahead, 5 + 1.0, "%f", ahead); /* a second's worth, and one for the way */
        cr_assert_gt(ahead, 1);
        world_free(w);
    }
}

static void nobody_is_forgotten(void *argument)
{
    struct world *w = argument;
    char why[SERVER_PATH_MAX];
    cr_assert(!server_sim_forgets(&w->server, true, why), "at %lu ms: %s", sim_now_ms(w->sim), why);
}

/* Many domains of one host that refuses, resets and answers late, and its connections are few. */
Test(server_sim, ready_mail_has_somebody_who_looks_at_it_again)
{
    for (uint64_t seed = 1; seed <= 8; seed++) {
        struct world_options o = world_calm(seed);
        o.sim.refuse_ppm = o.sim.reset_ppm = 50'000;
        o.many = 40;
        o.connections_per_hop = 2;
        o.shards = 1 + seed % 2;
        struct world *w = world_new(&o);
        *sim_hop_options(w->hops[4]) = sim_hop_wild(&w->hop_addresses[4]);
        sim_hop_options(w->hops[4])->busy_ppm = 300'000;
        sim_dns_faults(w->dns, 50'000, 50'000, 5'000);
        start(w);
        sim_faults(w->sim, w->server.machine, true);
        sim_look(w->sim, 16, nobody_is_forgotten, w);
        clients(w, SEVERAL, 1'500);
        run_for(w, 5 * MINUTE_MS);
        sim_faults(w->sim, w->server.machine, false);
        (void)finish(w);
        world_free(w);
    }
}

Test(server_sim, a_dead_next_hop_costs_one_probe_a_back_off_for_all_shards)
{
    struct world_options o = world_calm(30);
    o.shards = SERVER_SIM_SHARDS_MAX;
    struct world *w = world_new(&o);
    start(w);
    sim_host(w->sim, &w->hop_addresses[2], SIM_HOST_REFUSES);
    clients(w, 2 * SEVERAL, 2'000);
    run_for(w, 5 * MINUTE_MS); /* all else is gone */
    uint64_t waiting[SERVER_SIM_SHARDS_MAX];
    for (unsigned i = 0; i < w->shards; i++) {
        waiting[i] = w->server.servers[i].logs[0].queue.metrics.units_ready;
        cr_assert_gt(waiting[i], 0, "shard %u has none", i);
    }
    const uint64_t connects = sim_count(w->sim, w->server.machine, SIM_CONNECT);
    const uint64_t probed = probes(w);
    run_for(w, HOUR_MS);
    const uint64_t tries = sim_count(w->sim, w->server.machine, SIM_CONNECT) - connects;
    cr_assert_leq(tries, 160, "%lu", tries); /* a back-off of 30 s, 20 % less at most */
    cr_assert_geq(tries, 90, "%lu", tries);
    cr_assert_geq(probes(w) - probed, tries);
    for (unsigned i = 0; i < w->shards; i++)
        cr_assert_eq(w->server.servers[i].logs[0].queue.metrics.units_ready, waiting[i]);
    sim_host(w->sim, &w->hop_addresses[2], SIM_HOST_UP);
    run_for(w, 5 * MINUTE_MS); /* one probe wakes all; floor memory may skip it for a minute */
    cr_assert(server_sim_empty(&w->server));
    (void)finish(w);
    world_free(w);
}

static uint64_t trace_of(uint64_t seed)
{
    struct world_options o = world_calm(seed);
    o.sim = sim_storm(seed);
    struct world *w = world_new(&o);
    start(w);
    sim_faults(w->sim, w->server.machine, true);
    clients(w, SEVERAL, 30'000);
    run_for(w, 1'000);
    server_sim_crash(&w->server, SIM_POWER);
    sim_faults(w->sim, w->server.machine, false);
    start(w);
    run_for(w, HOUR_MS);
    uint64_t trace = sim_trace(w->sim);
    world_free(w);
    return trace;
}

Test(server_sim, a_seed_repeats)
{
    for (uint64_t seed = 1; seed <= 5; seed++)
        cr_assert_eq(trace_of(seed), trace_of(seed));
    cr_assert_neq(trace_of(1), trace_of(2));
}
