/*
 * fail_each.c - a run of a fixed number of messages; at each operation of a kind a copy of it is
 * made, in which that operation fails
 *
 *   whole run: start --> clients --> settled, drained --> started once more: nothing comes back
 *                |  |  |  |  each operation: fork()
 *   copy:        fails --> AFTER_MESSAGES more --> settled, drained, started --> judged
 *                            '--fork()--> power cut, started --> settled, drained, started -->
 * judged
 *
 * So nothing is done twice for the sake of the next operation, and each copy is as long as a
 * failure needs to show. It ends once in order and once by a power cut when the clients have heard
 * all their replies: a 250 that was given in spite of the failure is found out then. What is done
 * after a power cut has a whole run of its own, in which copies begin there. With nth there are no
 * copies: this process becomes what one would be.
 */
#include "tests/sim/fail_each.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/check.h"
#include "tests/sim/server_sim.h"

enum {
    HOUR_MS = 3'600'000,
    SETTLE_MS = 30 * HOUR_MS,
    STARTS_MAX = 2, /* the first one may fail */
    CLIENTS = 2,
    CONNECTIONS = 4,
    CONTENT_MAX = 20'000,
    AFTER_MESSAGES = 6, /* of each client */
    ALLOCATE = SIM_OPERATIONS,
    TOLD_S = 5,
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

struct run {
    const struct fail_each *options;
    unsigned operation; /* index */
    struct world world;
    struct sim_actor *clients[CLIENTS];
    uint64_t asked;     /* operations so far */
    uint64_t copied_to; /* up to this one copies have been made by the other run */
    uint64_t nth;       /* the one that failed; 0: none yet */
    bool cut;           /* it ends by a power cut */
    bool is_copy;
    bool verbose;
    pid_t other; /* a copy's copy that ends by a power cut; 0: none */
    unsigned failed;
    /* of the whole run */
    unsigned running; /* copies */
    uint64_t all;     /* operations, as counted before */
    struct fail_each_numbers *numbers;
    double begun_s, told_s;
};

static void fail(struct run *run, const char *format, ...) PRINTF_LIKE(2, 3);
static void fail(struct run *run, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s %llu%s: ", run->options->operation, (unsigned long long)run->nth,
            run->cut ? ", power cut" : "");
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    run->failed++;
}

static void on_wrong(void *argument, const char *words)
{
    fail(argument, "%s", words);
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

/* ---- copies ---- */

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void tell(struct run *run)
{
    const struct fail_each_numbers *n = run->numbers;
    const double now_s = seconds_now();
    if (now_s - run->told_s < TOLD_S)
        return;
    run->told_s = now_s;
    fprintf(stderr, "%s%s: %llu of %llu, %llu runs, %llu went wrong, %.1f a second\n",
            run->options->operation, run->cut ? " after a power cut" : "",
            (unsigned long long)run->asked, (unsigned long long)run->all,
            (unsigned long long)n->runs, (unsigned long long)n->wrong,
            (double)n->runs / (now_s - run->begun_s));
}

/* One copy has ended. */
static void copy_wait(struct run *run)
{
    int status;
    const pid_t pid = wait(&status);
    CHECK(pid > 0);
    CHECK(run->running > 0);
    run->running--;
    run->numbers->wrong += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    tell(run);
}

static void watch_no_more(struct run *run)
{
    sim_watch(run->world.sim, 0, SIM_OPEN, NULL, NULL);
    fail_pool_watch(NULL, NULL);
}

/* This process is where it fails, from inside the operation. */
static void fail_here(struct run *run)
{
    struct world *w = &run->world;
    run->nth = run->asked;
    watch_no_more(run);
    for (unsigned i = 0; i < CLIENTS; i++)
        if (run->clients[i] != NULL)
            sim_client_more(run->clients[i], AFTER_MESSAGES);
    if (operations[run->operation].kind == ALLOCATE)
        fail_pool_now();
    else
        sim_fail(w->sim, w->server.machine, (enum sim_operation)operations[run->operation].kind, 0,
                 1, operations[run->operation].error);
}

/* True: this is the copy. Output that waits must not be written twice. */
static bool copied(struct run *run, pid_t *pid)
{
    fflush(NULL);
    *pid = fork();
    CHECK(*pid >= 0);
    if (*pid > 0)
        return false;
    const struct itimerval most = { .it_value.tv_sec = (time_t)run->options->seconds };
    setitimer(ITIMER_PROF, &most, NULL);
    run->is_copy = true;
    run->other = 0;
    return true;
}

static void on_operation(void *argument)
{
    struct run *run = argument;
    const struct fail_each *o = run->options;
    pid_t pid;
    run->asked++;
    if (o->nth > 0) {
        if (run->asked == o->nth)
            fail_here(run);
        return;
    }
    if (run->asked <= run->copied_to || run->numbers == NULL || (run->asked - 1) % o->every != 0)
        return;
    while (run->running >= o->jobs)
        copy_wait(run);
    run->numbers->runs++;
    run->running++;
    if (copied(run, &pid))
        fail_here(run);
}

static void watch(struct run *run)
{
    const unsigned kind = operations[run->operation].kind;
    struct world *w = &run->world;
    if (kind == ALLOCATE)
        fail_pool_watch(on_operation, run);
    else
        sim_watch(w->sim, w->server.machine, (enum sim_operation)kind, on_operation, run);
}

/* ---- parts of a run ---- */

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
        struct sim_client_options o =
            sim_client_plain(&w->in, (run->options->messages + i) / CLIENTS);
        o.connections = CONNECTIONS;
        o.content_max = CONTENT_MAX;
        if (run->nth > 0) /* it failed before */
            o.messages = MIN(o.messages, (uint32_t)AFTER_MESSAGES);
        run->clients[i] = sim_client(w->ledger, w->clients, &o);
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
    sim_ledger_judge(ledger, &b, true, on_wrong, run);
    if (run->nth == 0 && b.sent != run->options->messages)
        fail(run, "%u messages were sent of %u", b.sent, run->options->messages);
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
    if (run->is_copy)
        run->cut = copied(run, &run->other);
    if (run->cut) {
        run->copied_to = run->asked;
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

static void copy_end(struct run *run)
{
    int status = 0;
    if (run->other > 0 && waitpid(run->other, &status, 0) == run->other)
        run->failed += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    if (run->failed > 0 && run->other > 0)
        fprintf(stderr,
                "FAILED: ringpost-sim --fail-each %s --messages %u --shards %u --seed %llu --nth "
                "%llu --verbose\n",
                run->options->operation, run->options->messages, run->options->shards,
                (unsigned long long)run->options->seed, (unsigned long long)run->nth);
    exit(run->failed > 0 ? 1 : 0); /* exit, not _exit: leaks are looked for */
}

static void run_once(struct run *run)
{
    struct world_options o = world_calm(run->options->seed);
    o.shards = run->options->shards;
    world_init(&run->world, &o);
    watch(run);
    const bool whole = run_on(run);
    watch_no_more(run);
    if (whole)
        judge(run);
    world_free(&run->world);
    if (run->is_copy)
        copy_end(run);
    while (run->running > 0)
        copy_wait(run);
}

bool fail_each(const struct fail_each *options, struct fail_each_numbers *numbers)
{
    static struct run run;
    unsigned operation = 0;
    while (operation < ARRAY_COUNT(operations) &&
           strcmp(operations[operation].name, options->operation) != 0)
        operation++;
    *numbers = (struct fail_each_numbers) { .operations = 0 };
    if (operation == ARRAY_COUNT(operations))
        return false;
    uint64_t counted = 0;
    const double begun_s = seconds_now();
    if (options->nth == 0) {
        run = (struct run) { .options = options, .operation = operation };
        run_once(&run);
        CHECK(run.failed == 0); /* nothing failed, and yet */
        counted = numbers->operations = run.asked;
    }
    for (unsigned cut = 0; cut < 2; cut++) {
        run = (struct run) { .options = options,
                             .operation = operation,
                             .cut = cut == 1,
                             .copied_to = cut == 1 ? UINT64_MAX : 0, /* until it is cut */
                             .verbose = options->verbose,
                             .all = counted,
                             .numbers = options->nth == 0 ? numbers : NULL,
                             .begun_s = begun_s,
                             .told_s = seconds_now() };
        run_once(&run);
        numbers->runs += options->nth > 0;
        numbers->wrong += run.failed > 0;
    }
    return true;
}
