/*
 * seed.c - what one seed does to the whole server, and what must be true of it
 *
 *   seed --draw--> world --storm: clients, next hops, faults, crashes, an operator--> calm
 *        --> queue empty --> orderly end --> started once more: nothing may come back
 *        --> the ledger is judged
 *
 * Meanwhile, each LOOK_STEPS steps: is there mail that nobody will look at again? Virtual time
 * costs nothing.
 */
#include "tests/sim/seed.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/next_hop.h"
#include "tests/sim/fail_each.h"
#include "tests/sim/server_sim.h"

enum {
    EVENTS_MAX = 12,
    HOUR_MS = 3'600'000,
    CLIENTS_END_MS = 4 * HOUR_MS, /* from the calm on: stalls and timeouts are shorter */
    QUEUE_END_MS = 30 * HOUR_MS,  /* clocks jump back by a day at most */
    DRAIN_END_MS = HOUR_MS,
    START_TRIES = 4,
    VARIANTS = 4, /* of a configuration; the connector for b has up to as many connections */
    RELOAD_TRIES = 600,
    RELOAD_PAUSE_MS = 1'000,
    REROUTE_TRIES = 60,
    REROUTE_PAUSE_MS = 60'000,
    LOOK_STEPS = 64,
    LOOKS_AT_UNITS = 16, /* each so-many-th of them */
};

static uint64_t repeated;

void seed_repeat(uint64_t every)
{
    repeated = every;
}

struct run {
    struct world world;
    struct world_options options;
    struct random random;
    uint64_t seed;
    bool verbose;
    bool storm;     /* faults of disk and network */
    bool wild_hops; /* or names that fail */
    bool wild_clients;
    bool failed_starts;
    bool settled;
    bool went_back; /* the clock, since orders about ways have been given */
    unsigned started;
    unsigned looks;
    unsigned crashes;
    unsigned reloads;
    unsigned failed;
};

static uint64_t draw(struct run *run, uint64_t below)
{
    return random_below(&run->random, below);
}

static bool one_in(struct run *run, uint64_t n)
{
    return draw(run, n) == 0;
}

static void say(const struct run *run, const char *format, ...) PRINTF_LIKE(2, 3);
static void say(const struct run *run, const char *format, ...)
{
    if (!run->verbose)
        return;
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%10.3f  ", (double)sim_now_ms(run->world.sim) / 1'000);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

static void fail(struct run *run, const char *format, ...) PRINTF_LIKE(2, 3);
static void fail(struct run *run, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "seed %llu: ", (unsigned long long)run->seed);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    run->failed++;
}

static void on_wrong(void *argument, const char *words)
{
    fail(argument, "%s", words);
}

/* ---- what the seed wants ---- */

static void draw_world(struct run *run)
{
    run->storm = !one_in(run, 3);
    run->options = world_calm(run->seed);
    struct world_options *o = &run->options;
    if (run->storm)
        o->sim = sim_storm(run->seed);
    o->shards = 1 + (unsigned)draw(run, SERVER_SIM_SHARDS_MAX);
    o->segment_kib = 256u << draw(run, 3);
    o->size_max_mib = one_in(run, 3) ? 4 + (uint32_t)draw(run, 12) : 64;
    o->cache_kib = one_in(run, 2) ? 0 : 4'096;
    o->connections_per_hop = 1 + (unsigned)draw(run, 10);
    o->connections_per_shard = draw(run, 2) == 0 ? 24 : 1 + (unsigned)draw(run, 6); /* they share */
    o->rate_c = one_in(run, 3) ? 60 + (uint32_t)draw(run, 600) : 0;
    o->recv_buffers = 32u << draw(run, 3);
    o->recv_buffer_bytes = 512u << draw(run, 5);
    o->warn_after_s = one_in(run, 2) ? 1 + draw(run, 300) : 0;
    o->strict = one_in(run, 3);
    if (!one_in(run, 4))
        return;
    /* More destinations of one site than connections to it, or next hops, or all of them. */
    o->many = 10 + (unsigned)draw(run, WORLD_MANY_MAX - 10);
    o->connections_per_hop = 1 + (unsigned)draw(run, 3);
    fail_pool_most("next hops", o->connections_per_shard + 1 + (uint32_t)draw(run, 16));
    o->destinations = one_in(run, 4) ? 24 : 0;
}

static void draw_hops(struct run *run)
{
    struct world *w = &run->world;
    run->wild_hops = !one_in(run, 3);
    for (unsigned i = 0; i < WORLD_HOPS && run->wild_hops; i++) {
        if (one_in(run, 3))
            continue;
        struct sim_hop_options *now = sim_hop_options(w->hops[i]);
        bool lmtp = now->lmtp;
        *now = sim_hop_wild(&w->hop_addresses[i]);
        now->rate = i == 2 ? run->options.rate_c : 0;
        now->lmtp = lmtp;
        now->pipelining = !one_in(run, 3);
        now->chunking = !one_in(run, 3);
        if (lmtp)
            now->half_ppm =
                0; /* half of several replies has whole ones: more than the ledger tells */
    }
    if (run->wild_hops && one_in(run, 2))
        sim_dns_faults(w->dns, 100'000, 50'000, 5'000);
}

static void draw_clients(struct run *run)
{
    struct world *w = &run->world;
    run->wild_clients = one_in(run, 2);
    unsigned clients = 1 + (unsigned)draw(run, WORLD_CLIENTS_MAX);
    for (unsigned i = 0; i < clients; i++) {
        uint32_t messages =
            1 + (uint32_t)draw(run, one_in(run, 8) && !run->options.many ? 400 : 80);
        struct sim_client_options o = run->wild_clients ? sim_client_wild(&w->in, messages)
                                                        : sim_client_plain(&w->in, messages);
        o.connections = 1 + (unsigned)draw(run, 12);
        o.content_max = one_in(run, 3) ? 300'000 : one_in(run, 3) ? 30'000 : 1'500;
        o.pause_max_ms = draw(run, one_in(run, 2) ? 50 : 2'000);
        (void)sim_client(w->ledger, w->clients, &o);
    }
}

/* ---- what happens to it ---- */

static void look(struct run *run, const char *when)
{
    unsigned log = 0;
    int64_t balance = server_sim_balance(&run->world.server, &log);
    if (balance != 0)
        fail(run, "%s: the balance of log %u is %lld recipients", when, log, (long long)balance);
}

/* Called after each LOOK_STEPS steps. */
static void look_for_forgotten(void *argument)
{
    struct run *run = argument;
    char why[SERVER_PATH_MAX];
    if (run->failed == 0 &&
        server_sim_forgets(&run->world.server, run->looks++ % LOOKS_AT_UNITS == 0, why))
        fail(run, "at %llu ms mail is forgotten: %s",
             (unsigned long long)sim_now_ms(run->world.sim), why);
}

static void say_recovered(const struct run *run)
{
    const struct server_sim *s = &run->world.server;
    for (unsigned i = 0; i < s->shards; i++) {
        for (unsigned k = 0; k < s->servers[i].logs_count; k++) {
            const struct recovery_report *r = &s->servers[i].logs[k].report;
            if (r->records > 0 || r->damages > 0)
                say(run, "  %s: %llu messages, %llu finished, %llu torn, %llu damaged; ranges %llu",
                    s->servers[i].logs[k].directory, (unsigned long long)r->messages_live,
                    (unsigned long long)r->messages_finished, (unsigned long long)r->messages_torn,
                    (unsigned long long)r->messages_damaged, (unsigned long long)r->damages);
        }
    }
}

/* It has the first configuration, and no session of another one. */
static void protect(struct run *run)
{
    struct sim_ledger *ledger = run->world.ledger;
    ledger->protects = run->options.strict && !(ledger->unprotected && run->went_back);
}

static void start(struct run *run, unsigned tries)
{
    struct world *w = &run->world;
    struct server_sim *s = &w->server;
    if (one_in(run, 4))
        w->shards = 1 + (unsigned)draw(run, SERVER_SIM_SHARDS_MAX);
    for (unsigned i = 0; i < tries; i++) {
        bool order = tries > 1 && one_in(run, 3);
        static const enum sim_operation kinds[] = { SIM_OPEN, SIM_READ, SIM_WRITE, SIM_SYNC,
                                                    SIM_NAMES };
        enum sim_operation kind = kinds[draw(run, ARRAY_COUNT(kinds))];
        uint64_t skip = draw(run, 40);
        if (order) {
            say(run, "all operations of kind %u fail from number %llu on", kind,
                (unsigned long long)skip);
            sim_fail(w->sim, s->machine, kind, skip, UINT64_MAX, -EIO);
        }
        int r = server_sim_start(s, w->shards);
        say(run, "start with %u shards: %s%s%s", w->shards, r == 0 ? "up" : strerror(-r),
            r == 0 ? "" : ": ", s->why);
        sim_fail(w->sim, s->machine, kind, 0, 0, 0);
        if (r == 0) {
            run->started++;
            protect(run);
            say_recovered(run);
            look(run, "after recovery");
            return;
        }
        run->failed_starts = true;
        run->crashes++; /* it may have been interrupted anywhere */
        if (one_in(run, 2))
            sim_crash(w->sim, s->machine, SIM_POWER);
        sim_run(w->sim, sim_now_ms(w->sim) + 1 + draw(run, 5'000));
    }
}

static void crash(struct run *run)
{
    struct server_sim *s = &run->world.server;
    if (!s->up)
        return;
    look(run, "before a crash");
    enum sim_crash how = one_in(run, 2) ? SIM_KILL : SIM_POWER;
    say(run, "%s", how == SIM_KILL ? "kill" : "power cut");
    server_sim_crash(s, how);
    run->crashes++;
    if (one_in(run, 2))
        sim_run(run->world.sim, sim_now_ms(run->world.sim) + draw(run, 60'000));
}

/* True: it ended in order. */
static bool drain(struct run *run, bool may_crash)
{
    struct world *w = &run->world;
    struct server_sim *s = &w->server;
    say(run, "drain");
    server_sim_drain(s);
    if (may_crash && one_in(run, 3)) {
        sim_run(w->sim, sim_now_ms(w->sim) + draw(run, 500));
        crash(run);
        return false;
    }
    if (!sim_run_until(w->sim, sim_now_ms(w->sim) + DRAIN_END_MS, server_sim_drained, s)) {
        fail(run, "a drain does not end: %u of %u shards have", s->drained, s->shards);
        server_sim_crash(s, SIM_KILL);
        return false;
    }
    look(run, "after a drain");
    server_sim_close(s);
    say(run, "ended in order");
    return true;
}

static void disk_phase(struct run *run)
{
    struct world *w = &run->world;
    unsigned machine = w->server.machine;
    sim_disk_bytes(w->sim, machine, sim_disk_used(w->sim, machine) + draw(run, 1 << 20));
    say(run, "the disk is full");
    sim_run(w->sim, sim_now_ms(w->sim) + draw(run, 30'000));
    sim_disk_bytes(w->sim, machine, 0);
    say(run, "the disk is empty");
}

static void jump(struct run *run)
{
    int64_t by_s = 1 + (int64_t)draw(run, one_in(run, 2) ? 600 : 86'400);
    if (one_in(run, 2))
        by_s = -by_s;
    say(run, "the clock jumps by %lld s", (long long)by_s);
    if (by_s < 0 && run->world.ledger->unprotected) {
        run->went_back = true;
        run->world.ledger->protects = false;
    }
    sim_wall_jump(run->world.sim, by_s * 1'000'000);
}

static void hosts(struct run *run)
{
    struct world *w = &run->world;
    static const enum sim_host whats[] = { SIM_HOST_UP, SIM_HOST_REFUSES, SIM_HOST_BLACKHOLE,
                                           SIM_HOST_RESETS };
    unsigned hop = (unsigned)draw(run, WORLD_HOPS);
    unsigned what = (unsigned)draw(run, ARRAY_COUNT(whats));
    run->wild_hops = true;
    say(run, "hop %u is in state %u", hop, what);
    sim_host(w->sim, &w->hop_addresses[hop], whats[what]);
}

/* False: there are too many generations. */
static bool reload(struct run *run, unsigned variant)
{
    char text[SERVER_SIM_TEXT_MAX];
    world_config(&run->options, variant, text);
    if (!server_sim_reload(&run->world.server, text))
        return false;
    say(run, "reload, variant %u", variant);
    if (variant == WORLD_LAX)
        run->world.ledger->protects = false;
    run->reloads++;
    return true;
}

static const char *const places[] = { "a.example", "*.example", "outbound:b", "outbound:*" };

static void choose(struct queue_selection *selection, const char *key, const char *value)
{
    char why[SELECT_WHY_MAX];
    CHECK(queue_select_add(selection, key, value, 0, why) == 0);
}

/* Some mail goes by another connector, which may not be there, or not be enough for it; or it may
 * go in clear. */
static void order_way(struct run *run)
{
    static const char *const connectors[] = { "b", "c", "s", "a" };
    struct world *w = &run->world;
    struct queue_order order = { .kind = ORDER_REROUTE, .by = "operator" };
    struct queue_job job = { .verb = QUEUE_REROUTE, .by = "operator" };
    char text[64];
    queue_select_init(&order.what);
    order.before_us = w->server.control.steady_us + 1;
    if (run->options.strict && one_in(run, 6)) {
        order.kind = ORDER_RELAX;
        order.level = TLS_LEVEL_NONE;
        choose(&order.what, "connector", "s");
    } else if (one_in(run, 2)) {
        choose(&order.what, "destination", places[draw(run, ARRAY_COUNT(places))]);
    } else if (one_in(run, 2) || w->ledger->count < 2) {
        choose(&order.what, "connector", connectors[draw(run, ARRAY_COUNT(connectors))]);
    } else {
        snprintf(text, sizeof(text), "s.m%u@*", 1 + (uint32_t)draw(run, w->ledger->count - 1));
        choose(&order.what, "sender", text);
    }
    const char *to = connectors[draw(run, ARRAY_COUNT(connectors))];
    if (order.kind == ORDER_REROUTE)
        snprintf(order.to, sizeof(order.to), "%s", to);
    job.selection = order.what;
    if (!server_sim_order(&w->server, &order))
        return;
    if (order.kind == ORDER_RELAX)
        sim_ledger_unprotect(w->ledger);
    const bool begun = server_sim_verb(&w->server, &job);
    say(run, "operator: %s%s%s%s", queue_order_name(order.kind), *order.to != 0 ? " to " : "",
        order.to, begun ? "" : ", and none looks for its way");
}

/* An operator: of some mail, or of all; what he holds he releases when it is calm. */
static void operate(struct run *run)
{
    struct server_sim *s = &run->world.server;
    struct sim_ledger *ledger = run->world.ledger;
    struct queue_job job = { .verb = (enum queue_verb)draw(run, QUEUE_VERBS), .by = "operator" };
    char text[64];
    queue_select_init(&job.selection);
    if (one_in(run, 5)) {
        order_way(run);
        return;
    }
    if (one_in(run, 6)) {
        const char *place = one_in(run, 2) ? NULL : places[draw(run, ARRAY_COUNT(places))];
        say(run, "suspended: %s", place == NULL ? "nothing" : place);
        server_sim_suspend(s, place);
        return;
    }
    snprintf(job.reason, sizeof(job.reason), "because of seed %llu", (unsigned long long)run->seed);
    if (job.verb == QUEUE_DISCARD || job.verb == QUEUE_BOUNCE || one_in(run, 3)) {
        if (ledger->count < 2)
            return;
        const uint32_t id = 1 + (uint32_t)draw(run, ledger->count - 1);
        snprintf(text, sizeof(text), "s.m%u@*", id);
        choose(&job.selection, "sender", text);
        if (one_in(run, 3))
            choose(&job.selection, "recipient", "r0.*");
        struct sim_message *m = &ledger->messages[id];
        m->discarded = m->discarded || job.verb == QUEUE_DISCARD;
        m->returned = m->returned || job.verb == QUEUE_BOUNCE;
    } else if (one_in(run, 2)) {
        choose(&job.selection, "destination", places[draw(run, ARRAY_COUNT(places))]);
    } else {
        job.selection.all = true;
    }
    const bool begun = server_sim_verb(s, &job);
    say(run, "operator: %s%s", queue_verb_name(job.verb), begun ? "" : ", refused");
}

static void do_with_all(struct run *run, enum queue_verb verb)
{
    struct world *w = &run->world;
    struct queue_job job = { .verb = verb, .by = "operator" };
    queue_select_init(&job.selection);
    job.selection.all = true;
    CHECK(server_sim_verb(&w->server, &job));
    if (!sim_run_until(w->sim, sim_now_ms(w->sim) + CLIENTS_END_MS, server_sim_verbs_over,
                       &w->server))
        fail(run, "%s does not come to an end", queue_verb_name(verb));
}

/* Where some of it should go there may be no room, until other mail is gone: then once more. */
static void to_its_own_way(struct run *run)
{
    struct server_sim *s = &run->world.server;
    for (unsigned i = 0; run->failed == 0; i++) {
        const uint64_t failed = s->verbs_failed;
        do_with_all(run, QUEUE_REROUTE);
        if (s->verbs_failed == failed)
            return;
        if (i == REROUTE_TRIES)
            fail(run, "there is no room for destinations");
        sim_run(run->world.sim, sim_now_ms(run->world.sim) + REROUTE_PAUSE_MS);
    }
}

/* Nothing is protected any more, whenever it comes. */
static void let_go_in_clear(struct run *run)
{
    struct queue_order order = {
        .kind = ORDER_RELAX, .level = TLS_LEVEL_NONE, .before_us = INT64_MAX, .by = "operator"
    };
    queue_select_init(&order.what);
    choose(&order.what, "connector", "s");
    CHECK(server_sim_order(&run->world.server, &order));
    sim_ledger_unprotect(run->world.ledger);
    for (unsigned i = 0; !reload(run, WORLD_LAX); i++) {
        if (i == RELOAD_TRIES) {
            fail(run, "generations of the configuration do not go");
            return;
        }
        sim_run(run->world.sim, sim_now_ms(run->world.sim) + RELOAD_PAUSE_MS);
    }
}

/* Everything that an operator has kept is let go, by its own way. */
static void let_go(struct run *run)
{
    struct world *w = &run->world;
    server_sim_suspend(&w->server, NULL);
    (void)server_sim_order(&w->server, NULL);
    if (run->options.strict)
        let_go_in_clear(run);
    if (!sim_run_until(w->sim, sim_now_ms(w->sim) + CLIENTS_END_MS, server_sim_verbs_over,
                       &w->server))
        fail(run, "verbs do not come to an end");
    if (run->failed > 0)
        return;
    do_with_all(run, QUEUE_RELEASE);
    to_its_own_way(run);
    say(run, "let go");
}

static void event(struct run *run)
{
    struct server_sim *s = &run->world.server;
    if (!s->up) {
        start(run, 1);
        return;
    }
    switch (draw(run, 10)) {
    case 0:
    case 1:
    case 2:
    case 3: crash(run); break;
    case 4: (void)drain(run, true); break;
    case 5: disk_phase(run); break;
    case 6: jump(run); break;
    case 7:
    case 8: hosts(run); break;
    case 9: (void)reload(run, (unsigned)draw(run, VARIANTS)); break;
    }
    if (!s->up)
        start(run, 1 + (unsigned)draw(run, START_TRIES));
}

static void calm_down(struct run *run)
{
    struct world *w = &run->world;
    say(run, "calm");
    sim_faults(w->sim, w->server.machine, false);
    sim_dns_faults(w->dns, 0, 0, 0);
    sim_disk_bytes(w->sim, w->server.machine, 0);
    for (unsigned i = 0; i < WORLD_HOPS; i++) {
        sim_host(w->sim, &w->hop_addresses[i], SIM_HOST_UP);
        struct sim_hop_options *now = sim_hop_options(w->hops[i]);
        bool lmtp = now->lmtp;
        *now = sim_hop_plain(&w->hop_addresses[i]);
        now->rate = i == 2 ? run->options.rate_c : 0;
        now->lmtp = lmtp;
    }
    if (!w->server.up)
        start(run, 1);
    if (!w->server.up)
        fail(run, "it does not start in a calm world: %s", w->server.why);
}

/* ---- what must be true at the end ---- */

static void judge_bounces(struct run *run)
{
    const struct sim_ledger *ledger = run->world.ledger;
    for (uint32_t id = 1; id < ledger->count; id++) {
        const struct sim_message *m = &ledger->messages[id];
        for (unsigned k = 0; k < m->recipients_count; k++) {
            const struct sim_recipient *r = &m->recipients[k];
            if (r->bounced > 0 && r->refused == 0 && !m->returned &&
                m->domains[k] != WORLD_DOMAIN_GONE)
                fail(run, "r%u.m%u bounced, and nobody refused it", k, id);
            if (r->bounced > 0 && (m->verdict == SIM_CUT || m->verdict == SIM_UNSENT))
                fail(run, "r%u.m%u bounced, and was never sent", k, id);
            if (r->delayed > 0 && (m->verdict == SIM_CUT || m->verdict == SIM_UNSENT))
                fail(run, "r%u.m%u is told of as late, and was never sent", k, id);
            if (r->delayed > 0 && run->options.warn_after_s == 0)
                fail(run, "r%u.m%u is told of as late, and nobody is to know", k, id);
            /* What repeats it is a crash, a disk that took the report and not the record of it, or
             * a next hop that took it and said nothing. */
            if (r->delayed > 1 && run->crashes == 0 && !run->storm && !run->wild_hops)
                fail(run, "r%u.m%u is told of as late %u times", k, id, r->delayed);
        }
    }
}

/* Limits hold over all shards at any time. Host 1 is in the MX set of one site, and the host of a
 * connector whose limit reloads change; a reload may lead to host 0 another way, too. max-rate is
 * counted when a message's first octet leaves, which a connection may be late with, by one. */
static void judge_limits(struct run *run)
{
    struct world *w = &run->world;
    const unsigned limit = run->options.connections_per_hop;
    const unsigned changed = run->reloads > 0;
    const unsigned limits[WORLD_HOPS] = {
        changed ? 2 * limit : limit, limit + (changed ? VARIANTS : 1), limit, limit, limit, limit
    };
    for (unsigned i = 0; i < WORLD_HOPS; i++) {
        const unsigned most = sim_connections_most(w->sim, &w->hop_addresses[i]);
        say(run, "host %u had %u connections at a time, of %u", i, most, limits[i]);
        if (most > limits[i])
            fail(run, "%u connections to host %u at a time, %u are allowed", most, i, limits[i]);
    }
    const double rate_s = run->options.rate_c / 60.0;
    const double ahead = sim_hop_ahead(w->hops[2]);
    const double most = MAX(rate_s, 1) * run->started + limit; /* each start has its own bucket */
    if (run->options.rate_c > 0)
        say(run, "%.1f messages ahead of max-rate, of %.1f", ahead, most);
    if (run->options.rate_c > 0 && ahead > most + 0.001)
        fail(run, "%.1f messages ahead of max-rate, %.1f a second", ahead, rate_s);
}

static void judge(struct run *run)
{
    const struct sim_ledger *ledger = run->world.ledger;
    struct sim_balance b = sim_ledger_balance(ledger);
    say(run,
        "%u sent, %u acknowledged: expected %u delivered %u bounced %u missing %u duplicates %u "
        "false %u revived %u damaged %u strangers %u",
        b.sent, b.acknowledged, b.expected, b.delivered, b.bounced, b.missing, b.duplicates,
        b.false_ones, b.revived, b.damaged, ledger->strangers);
    sim_ledger_judge(ledger, &b, run->settled, on_wrong, run);
    if (ledger->exposed > 0)
        fail(run, "%u messages went in clear that were to go by TLS", ledger->exposed);
    if (b.revived > 0 && run->crashes == 0 && run->world.server.unproven_ends == 0)
        fail(run, "%u deliveries of mail that was refused for a time, without a crash", b.revived);
    bool explained = run->crashes > 0 || run->storm || run->wild_hops;
    if (b.duplicates > 0 && !explained)
        fail(run, "%u duplicates in a calm world", b.duplicates);
    /* A kill repeats what was in next hops' hands: one message a connection. */
    unsigned most = run->crashes * SERVER_SIM_SHARDS_MAX * 24 * SIM_RECIPIENTS_MAX;
    if (b.duplicates > most && !run->storm && !run->wild_hops)
        fail(run, "%u duplicates by %u crashes", b.duplicates, run->crashes);
    judge_bounces(run);
    judge_limits(run);
    if (run->failed > 0 && run->settled)
        sim_ledger_print(ledger, 20);
}

static void tell_logs(const struct run *run)
{
    const struct server_sim *s = &run->world.server;
    for (unsigned i = 0; s->up && i < s->shards; i++) {
        for (unsigned k = 0; k < s->servers[i].logs_count; k++) {
            const struct server_log *log = &s->servers[i].logs[k];
            const struct queue_metrics *q = &log->queue.metrics;
            const struct spool_metrics *m = spool_metrics(log->spool);
            fprintf(stderr,
                    "%s: %llu messages, units ready %llu active %llu deferred %llu held %llu, "
                    "outcomes not recorded %llu; segments used %llu free %llu failed %llu, broken "
                    "%llu\n",
                    log->directory, (unsigned long long)q->messages,
                    (unsigned long long)q->units_ready, (unsigned long long)q->units_active,
                    (unsigned long long)q->units_deferred, (unsigned long long)q->units_held,
                    (unsigned long long)q->settle_failures, (unsigned long long)m->segments_live,
                    (unsigned long long)m->segments_free, (unsigned long long)m->segments_failed,
                    (unsigned long long)m->broken);
            list_each (node, &log->deliver.open) {
                const struct next_hop *h = container_of(node, struct next_hop, node);
                const struct destination *d = h->destination;
                fprintf(
                    stderr,
                    "  %s: ready %u waiting %u active %u failures %u back-off %lld ms; links %u "
                    "connecting %u resolving %d targets %u\n",
                    d->key, d->ready_count, d->waiting_count, d->active_count, d->failures,
                    d->retry_ms == 0 ? 0LL : (long long)(d->retry_ms - log->server->shard.now_ms),
                    h->links_count, h->connecting, h->request.resolve != NULL, h->targets_count);
            }
        }
    }
}

static void settle(struct run *run)
{
    struct world *w = &run->world;
    uint64_t now = sim_now_ms(w->sim);
    if (!sim_run_until(w->sim, now + CLIENTS_END_MS, sim_clients_done, w->ledger))
        fail(run, "clients do not come to an end");
    now = sim_now_ms(w->sim);
    if (!sim_run_until(w->sim, now + QUEUE_END_MS, world_settled, w)) {
        struct server_sums sums = server_sim_sums(&w->server);
        fail(run, "the queue does not run empty: %llu messages, %llu units held",
             (unsigned long long)sums.messages, (unsigned long long)sums.held);
        tell_logs(run);
    }
    run->settled = run->failed == 0;
    say(run, "settled");
}

/* Once more from the disk: what is finished stays finished. */
static void start_again(struct run *run)
{
    struct world *w = &run->world;
    for (unsigned i = 0; i < 2; i++) {
        start(run, 1);
        if (!w->server.up) {
            fail(run, "it does not start again: %s", w->server.why);
            return;
        }
        /* Logs of more shards than there are now are nobody's only if they were emptied. */
        struct server_sums sums = server_sim_sums(&w->server);
        if (sums.messages > 0)
            fail(run, "%llu messages came back after an orderly end",
                 (unsigned long long)sums.messages);
        sim_run(w->sim, sim_now_ms(w->sim) + draw(run, 5'000));
        if (!drain(run, false))
            return;
    }
}

/* trace: what all that has happened comes to, in one number. */
static unsigned run_once(uint64_t seed, bool verbose, uint64_t *trace)
{
    static struct run run;
    run = (struct run) { .seed = seed, .verbose = verbose };
    random_seed(&run.random, seed ^ 0x5eed);
    fail_pool_most("next hops", UINT32_MAX);
    draw_world(&run);
    struct world *w = &run.world;
    world_init(w, &run.options);
    if (verbose && getenv("RINGPOST_SIM_LOG") != NULL)
        CHECK(log_writer_start("-", LOG_DEBUG, &w->server.writer) == 0);
    say(&run, "storm %d shards %u segments of %u KiB log %u MiB", run.storm, run.options.shards,
        run.options.segment_kib, run.options.size_max_mib);
    draw_hops(&run);
    draw_clients(&run);
    sim_look(w->sim, LOOK_STEPS, look_for_forgotten, &run);
    start(&run, 1); /* nothing fails yet */
    CHECK(w->server.up);
    sim_faults(w->sim, w->server.machine, run.storm);
    unsigned events = (unsigned)draw(&run, EVENTS_MAX);
    for (unsigned i = 0; i < events; i++) {
        sim_run(w->sim, sim_now_ms(w->sim) + draw(&run, one_in(&run, 3) ? 30'000 : 2'000));
        for (unsigned k = 0; k < 4 && w->server.up && one_in(&run, 2); k++) {
            operate(&run);
            sim_run(w->sim, sim_now_ms(w->sim) + draw(&run, one_in(&run, 2) ? 20 : 3'000));
        }
        event(&run);
    }
    calm_down(&run);
    if (run.failed == 0)
        let_go(&run);
    if (run.failed == 0)
        settle(&run);
    if (run.failed == 0 && drain(&run, false))
        start_again(&run);
    judge(&run);
    if (w->server.writer != NULL)
        log_writer_stop(w->server.writer);
    *trace = sim_trace(w->sim);
    say(&run, "trace %016llx, %llu operations, %u starts", (unsigned long long)*trace,
        (unsigned long long)sim_operations(w->sim), w->server.starts);
    world_free(w);
    return run.failed;
}

unsigned seed_run(uint64_t seed, bool verbose)
{
    uint64_t first;
    uint64_t second;
    unsigned failed = run_once(seed, verbose, &first);
    if (failed > 0 || repeated == 0 || seed % repeated != 0)
        return failed;
    failed = run_once(seed, false, &second);
    if (failed > 0 || first != second) {
        fprintf(stderr, "seed %llu: another run the second time: %016llx and %016llx\n",
                (unsigned long long)seed, (unsigned long long)first, (unsigned long long)second);
        failed++;
    }
    return failed;
}
