/*
 * fail_each.c - one run of a fixed number of messages, again and again: each time the next
 * operation fails
 *
 *   start (again, if that is what failed) --> clients --> settled, drained | power cut, started
 *     --> settled, drained --> started once more: nothing comes back --> the ledger is judged
 *
 * Until the operation fails all runs are the same, bit by bit. Half of the runs of each n end by a
 * power cut when the clients have heard all their replies: a 250 that was given in spite of the
 * failure is found out then.
 */
#include "tests/sim/fail_each.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/check.h"
#include "tests/sim/server_sim.h"

enum {
    HOUR_MS = 3'600'000,
    SETTLE_MS = 30 * HOUR_MS,
    STARTS_MAX = 2, /* the first one may fail */
    CLIENTS = 2,
    CONNECTIONS = 4,
    CONTENT_MAX = 20'000,
    ALLOCATE = SIM_OPERATIONS,
};

static const struct {
    const char *name;
    unsigned kind; /* enum sim_operation, or ALLOCATE */
    int error;
} operations[] = {
    { "open", SIM_OPEN, -EMFILE },     { "read", SIM_READ, -EIO },
    { "write", SIM_WRITE, -EIO },      { "write-space", SIM_WRITE, -ENOSPC },
    { "sync", SIM_SYNC, -EIO },        { "names", SIM_NAMES, -EIO },
    { "accept", SIM_ACCEPT, -EMFILE }, { "adopt", SIM_ADOPT, -EMFILE },
    { "socket", SIM_SOCKET, -EMFILE }, { "connect", SIM_CONNECT, -ECONNREFUSED },
    { "send", SIM_SEND, -EPIPE },      { "recv", SIM_RECV, -ENOBUFS },
    { "allocate", ALLOCATE, 0 },
};

static struct fail_each options;
static unsigned operation; /* index */

struct run {
    struct world world;
    uint64_t n; /* 0: nothing fails */
    bool cut;   /* ends by a power cut */
    bool verbose;
    unsigned failed;
};

static void fail(struct run *run, const char *format, ...) PRINTF_LIKE(2, 3);
static void fail(struct run *run, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s %llu%s: ", options.operation, (unsigned long long)run->n,
            run->cut ? ", power cut" : "");
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    run->failed++;
}

const char *fail_each_names(void)
{
    static char names[256];
    size_t size = 0;
    for (unsigned i = 0; i < ARRAY_COUNT(operations); i++)
        size += (size_t)snprintf(names + size, sizeof(names) - size, "%s%s", i == 0 ? "" : " ",
                                 operations[i].name);
    return names;
}

/* ---- parts of a run ---- */

static void arm(struct run *run)
{
    const unsigned kind = operations[operation].kind;
    struct world *w = &run->world;
    fail_pool(kind == ALLOCATE && run->n > 0 ? run->n : UINT64_MAX);
    if (kind != ALLOCATE && run->n > 0)
        sim_fail(w->sim, w->server.machine, kind, run->n - 1, 1, operations[operation].error);
}

static uint64_t counted(const struct run *run)
{
    const unsigned kind = operations[operation].kind;
    const struct world *w = &run->world;
    return kind == ALLOCATE ? fail_pool_count() : sim_count(w->sim, w->server.machine, kind);
}

static bool start(struct run *run)
{
    struct world *w = &run->world;
    for (unsigned i = 0; i < STARTS_MAX; i++) {
        fail_pool_pause(true);
        int r = server_sim_start(&w->server, w->shards);
        fail_pool_pause(false);
        if (r == 0)
            return true;
        if (run->verbose)
            fprintf(stderr, "a start failed: %s: %s\n", strerror(-r), w->server.why);
        sim_run(w->sim, sim_now_ms(w->sim) + 1'000);
    }
    fail(run, "it does not start: %s", w->server.why);
    return false;
}

static void look(struct run *run, const char *when)
{
    unsigned log = 0;
    int64_t balance = server_sim_balance(&run->world.server, &log);
    if (balance != 0)
        fail(run, "%s: the balance of log %u is %lld recipients", when, log, (long long)balance);
}

static bool settle(struct run *run)
{
    struct world *w = &run->world;
    if (sim_run_until(w->sim, sim_now_ms(w->sim) + SETTLE_MS, world_settled, w))
        return true;
    fail(run, "the queue does not run empty");
    return false;
}

static bool drain(struct run *run)
{
    struct world *w = &run->world;
    server_sim_drain(&w->server);
    if (!sim_run_until(w->sim, sim_now_ms(w->sim) + HOUR_MS, server_sim_drained, &w->server)) {
        fail(run, "the drain does not end");
        return false;
    }
    look(run, "after a drain");
    server_sim_close(&w->server);
    return true;
}

static void send_mail(struct run *run)
{
    struct world *w = &run->world;
    for (unsigned i = 0; i < CLIENTS; i++) {
        struct sim_client_options o = sim_client_plain(&w->in, (options.messages + i) / CLIENTS);
        o.connections = CONNECTIONS;
        o.content_max = CONTENT_MAX;
        (void)sim_client(w->ledger, w->clients, &o);
    }
}

static void judge(struct run *run)
{
    const struct sim_ledger *ledger = run->world.ledger;
    const struct sim_balance b = sim_ledger_balance(ledger);
    if (run->verbose)
        fprintf(stderr,
                "%u sent, %u acknowledged: expected %u delivered %u missing %u duplicates %u "
                "false %u damaged %u\n",
                b.sent, b.acknowledged, b.expected, b.delivered, b.missing, b.duplicates,
                b.false_ones, b.damaged);
    if (b.missing > 0)
        fail(run, "%u recipients of acknowledged mail are lost, first of message %u", b.missing,
             b.first_missing);
    if (b.false_ones > 0)
        fail(run, "%u deliveries of refused or cut mail, first of message %u", b.false_ones,
             b.first_false);
    if (b.damaged > 0)
        fail(run, "%u damaged copies", b.damaged);
    if (ledger->strangers > 0)
        fail(run, "%u deliveries of mail that nobody sent", ledger->strangers);
    if (run->n == 0 && b.sent != options.messages) /* else a client may have been sent away */
        fail(run, "%u messages were sent of %u", b.sent, options.messages);
    if (run->failed > 0)
        sim_ledger_print(ledger, 10);
}

/* ---- a run ---- */

static bool run_on(struct run *run)
{
    struct world *w = &run->world;
    if (!start(run))
        return false;
    send_mail(run);
    if (!sim_run_until(w->sim, sim_now_ms(w->sim) + SETTLE_MS, sim_clients_done, w->ledger)) {
        fail(run, "clients do not come to an end");
        return false;
    }
    look(run, "when the clients are done");
    if (run->cut) {
        server_sim_crash(&w->server, SIM_POWER);
        if (!start(run))
            return false;
    }
    if (!settle(run) || !drain(run) || !start(run))
        return false;
    struct server_sums sums = server_sim_sums(&w->server);
    if (sums.messages > 0)
        fail(run, "%llu messages came back after an orderly end",
             (unsigned long long)sums.messages);
    return drain(run);
}

/* How often the operation was asked for. */
static uint64_t run_once(struct run *run)
{
    struct world_options o = world_calm(options.seed);
    o.shards = options.shards;
    world_init(&run->world, &o);
    arm(run);
    const bool whole = run_on(run);
    const uint64_t count = counted(run);
    if (whole)
        judge(run);
    world_free(&run->world);
    return count;
}

uint64_t fail_each_begin(const struct fail_each *given)
{
    static struct run run;
    options = *given;
    operation = 0;
    while (operation < ARRAY_COUNT(operations) &&
           strcmp(operations[operation].name, options.operation) != 0)
        operation++;
    if (operation == ARRAY_COUNT(operations))
        return 0;
    run = (struct run) { .n = 0 };
    const uint64_t count = run_once(&run);
    CHECK(run.failed == 0); /* nothing failed, and yet */
    return count;
}

unsigned fail_each_run(uint64_t n, bool verbose)
{
    static struct run run;
    unsigned failed = 0;
    for (unsigned cut = 0; cut < 2; cut++) {
        run = (struct run) { .n = n, .cut = cut == 1, .verbose = verbose };
        (void)run_once(&run);
        failed += run.failed;
    }
    return failed;
}
