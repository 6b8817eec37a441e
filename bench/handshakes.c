/*
 * handshakes.c - one connection after the other, for the sake of its handshake
 *
 *   FREE --due--> CONNECT -> GREETING -> HELLO -> STARTTLS -> HANDSHAKE -> AGAIN -> CLOSING -> FREE
 *     implicit:   CONNECT -> HANDSHAKE -> GREETING -> AGAIN
 *     in clear:   CONNECT -> GREETING -> HELLO -> NOOP.. -> AGAIN
 *
 * AGAIN waits for the reply to EHLO under TLS, with which a TLS 1.3 server sends its ticket. In
 * clear NOOPs stand in for STARTTLS and for each flight of a handshake, and the last EHLO may leave
 * in two packets, as the client's last flight and its EHLO do: so that a connection without TLS
 * takes as many packets, and what is left of the difference in the server's CPU is TLS.
 *
 * Bounds: connections at the same time; a reply is waited for at most TIMEOUT_MS. By the rate, what
 * cannot be begun for want of a slot stays due. Slots that were used last are used first: so few of
 * them have no session to resume.
 */
#include "bench/handshakes.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/options.h"
#include "bench/result.h"
#include "bench/secure.h"
#include "bench/worker.h"
#include "core/check.h"
#include "core/metrics.h"

enum {
    POLL_MS = 5,
    TIMEOUT_MS = 10'000,
    SECOND_NS = 1'000'000'000,
    US_IN_NS = 1'000,
    CONNECTIONS_DEFAULT = 32,
    NOOPS_DEFAULT = 2,
};

static const char help[] =
    "usage: ringpost-bench handshakes --to ADDRESS:PORT [options]\n"
    "\n"
    "Connects, shakes hands, says EHLO, and closes; for what a server pays for a handshake (which\n"
    "the caller measures). With --tls none the same connections in clear, with as many packets.\n"
    "\n"
    "  --to ADDRESS:PORT      the server\n"
    "  --count N              connections in all (no end)\n"
    "  --seconds S            for so long (no end)\n"
    "  --rate R               connections per second, evenly spaced (as fast as it goes)\n"
    "  --connections N        at the same time at most (32)\n"
    "  --from-addresses N     connect from 127.0.0.1, 127.0.0.2 ... in turn, N of them\n"
    "  --noops N              with --tls none: NOOPs in place of STARTTLS and of each flight of "
    "the\n"
    "                         server but the last one (2: TLS 1.3, or resumed; TLS 1.2 full: 3)\n"
    "  --split                likewise: the last EHLO in two packets, since the client's last\n"
    "                         flight is one of its own (not in TLS 1.2 full)\n"
    "  --quit                 say QUIT and wait for its reply\n"
    "\n" SECURE_CLIENT_HELP "\n"
    "What it tells:\n"
    "  --json FILE            the result; - is standard output. Keys:\n"
    "    connections            that went well\n"
    "    failed                 that did not\n"
    "    seconds, per_second    from the first connection begun to the last one over\n"
    "    connection_us {p50, p90, p99, p999, max, mean, count}   from connect to the last reply\n"
    "    tls {full, resumed, failed, handshake_us {...}}\n"
    "    cpu_us_self            CPU time of this process\n"
    "  --help                 this text\n"
    "\n"
    "Exit status: 0, 1 when one in a hundred connections failed, 2 for wrong options.\n"
    "\n"
    "Examples:\n"
    "  ringpost-bench handshakes --to 127.0.0.1:2525 --tls starttls --count 10K --rate 3000\n"
    "  ringpost-bench handshakes --to 127.0.0.1:2465 --tls implicit --tls-version 1.2 \\\n"
    "      --tls-resume 1 --seconds 10\n";

/* ---- options ---- */

struct shakes_options {
    struct net_address to;
    struct secure_options tls;
    const char *json;
    uint64_t count; /* 0: no end */
    double seconds; /* 0: no end */
    double rate;    /* 0: as fast as it goes */
    uint32_t connections;
    uint32_t from_addresses; /* 0: let the kernel choose */
    unsigned noops;
    bool split;
    bool quit;
};

static void options_check(const struct shakes_options *o)
{
    if (o->to.port == 0)
        option_wrong("--to", "is needed");
    if (o->from_addresses > 0 && !(net_is_v4(&o->to) && net_is_loopback(&o->to)))
        option_wrong("--from-addresses", "needs a server on an IPv4 loopback address");
    secure_check_client(&o->tls);
}

/* False: help was asked for. */
static bool shakes_options(int argc, char **argv, struct shakes_options *o)
{
    enum {
        TO = 256,
        COUNT,
        SECONDS,
        RATE,
        CONNECTIONS,
        FROM_ADDRESSES,
        NOOPS,
        SPLIT,
        QUIT,
        JSON,
        HELP
    };
    static const struct option options[] = {
        { "to", required_argument, NULL, TO },
        { "count", required_argument, NULL, COUNT },
        { "seconds", required_argument, NULL, SECONDS },
        { "rate", required_argument, NULL, RATE },
        { "connections", required_argument, NULL, CONNECTIONS },
        { "from-addresses", required_argument, NULL, FROM_ADDRESSES },
        { "noops", required_argument, NULL, NOOPS },
        { "split", no_argument, NULL, SPLIT },
        { "quit", no_argument, NULL, QUIT },
        { "json", required_argument, NULL, JSON },
        { "help", no_argument, NULL, HELP },
        SECURE_LONG_OPTIONS,
        SECURE_CLIENT_LONG_OPTIONS,
        { NULL, 0, NULL, 0 },
    };
    *o = (struct shakes_options) { .connections = CONNECTIONS_DEFAULT, .noops = NOOPS_DEFAULT };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case TO: o->to = option_address("--to", optarg); break;
        case COUNT: o->count = option_number("--count", optarg, 1, INT64_MAX); break;
        case SECONDS: o->seconds = option_decimal("--seconds", optarg, 0.001, 1e6); break;
        case RATE: o->rate = option_decimal("--rate", optarg, 0, 1e9); break;
        case CONNECTIONS: o->connections = option_connections("--connections", optarg); break;
        case FROM_ADDRESSES:
            o->from_addresses = (uint32_t)option_number("--from-addresses", optarg, 1, 1 << 20);
            break;
        case NOOPS: o->noops = (unsigned)option_number("--noops", optarg, 0, 100); break;
        case SPLIT: o->split = true; break;
        case QUIT: o->quit = true; break;
        case JSON: o->json = optarg; break;
        case HELP: fputs(help, stdout); return false;
        default: secure_option(&o->tls, option, optarg);
        }
    }
    options_end(argc, argv);
    options_check(o);
    return true;
}

/* ---- a connection ---- */

enum shake_state {
    SHAKE_FREE,
    SHAKE_CONNECT,
    SHAKE_GREETING,
    SHAKE_HELLO,
    SHAKE_NOOP,
    SHAKE_STARTTLS,
    SHAKE_HANDSHAKE, /* waits for no reply */
    SHAKE_HALF,      /* of the last EHLO has been said */
    SHAKE_AGAIN,
    SHAKE_QUIT,
    SHAKE_CLOSING,
};

struct shakes_counts {
    uint64_t done;
    uint64_t failed;
    uint64_t first_ns;
    uint64_t last_ns;
    struct histogram latency; /* us, connect to the last reply */
    struct secure_counts tls;
};

struct shakes {
    struct worker worker;
    const struct shakes_options *options;
    struct secure_client secure;
    struct shake *all;
    struct list free;
    uint32_t busy;
    uint64_t begun;
    uint64_t interval_ns;
    uint64_t due_ns;
    struct shakes_counts counts;
    bool over; /* nothing new; read by the main thread */
};

struct shake {
    struct connection connection;
    struct task task;
    struct timer deadline;
    struct list node; /* shakes->free */
    struct shakes *shakes;
    uint64_t begun_ns;
    uint64_t secure_ns;
    unsigned noops_left;
    uint8_t state;
};

static void shake_open(struct shake *s);

static void shake_close(struct shake *s)
{
    s->state = SHAKE_CLOSING;
    shard_timer_disarm(&s->shakes->worker.shard, &s->deadline);
    connection_close(&s->connection);
}

static void shake_fail(struct shake *s)
{
    if (s->state == SHAKE_HANDSHAKE)
        metric_add(&s->shakes->counts.tls.failed, 1);
    metric_add(&s->shakes->counts.failed, 1);
    shake_close(s);
}

static void shake_done(struct shake *s)
{
    struct shakes *shakes = s->shakes;
    uint64_t now_ns = shakes->worker.shard.now_ns;
    metric_add(&shakes->counts.done, 1);
    metric_set(&shakes->counts.last_ns, now_ns);
    histogram_add(&shakes->counts.latency, (now_ns - s->begun_ns) / US_IN_NS);
    shake_close(s);
}

static void shake_say(struct shake *s, struct slice line, enum shake_state next)
{
    uint8_t *out = connection_reserve(&s->connection, line.size);
    if (out == NULL) {
        shake_fail(s);
        return;
    }
    memcpy(out, line.data, line.size);
    connection_commit(&s->connection, line.size);
    connection_flush(&s->connection);
    s->state = (uint8_t)next;
}

static void shake_hello(struct shake *s, enum shake_state next)
{
    shake_say(s, SLICE("EHLO bench.invalid\r\n"), next);
}

/* In clear, after EHLO. */
static void shake_pass_time(struct shake *s)
{
    if (s->noops_left == 0 && s->shakes->options->split) {
        shake_say(s, SLICE("EHLO bench"), SHAKE_HALF);
        return;
    }
    if (s->noops_left == 0) {
        shake_hello(s, SHAKE_AGAIN);
        return;
    }
    s->noops_left--;
    shake_say(s, SLICE("NOOP\r\n"), SHAKE_NOOP);
}

static void shake_reply(struct shake *s, unsigned code)
{
    const struct shakes_options *o = s->shakes->options;
    if (code / 100 != 2) {
        shake_fail(s);
        return;
    }
    switch (s->state) {
    case SHAKE_GREETING:
        shake_hello(s, o->tls.mode == SECURE_IMPLICIT ? SHAKE_AGAIN : SHAKE_HELLO);
        break;
    case SHAKE_HELLO:
        if (o->tls.mode == SECURE_STARTTLS)
            shake_say(s, SLICE("STARTTLS\r\n"), SHAKE_STARTTLS);
        else
            shake_pass_time(s);
        break;
    case SHAKE_NOOP: shake_pass_time(s); break;
    case SHAKE_STARTTLS: s->state = SHAKE_HANDSHAKE; break;
    case SHAKE_AGAIN:
        if (o->quit)
            shake_say(s, SLICE("QUIT\r\n"), SHAKE_QUIT);
        else
            shake_done(s);
        break;
    case SHAKE_QUIT: shake_done(s); break;
    default: shake_fail(s); /* nobody asked */
    }
}

static bool is_digit(uint8_t octet)
{
    return octet >= '0' && octet <= '9';
}

/* False: wait for more, or for something else than a reply. */
static bool shake_read(struct shake *s)
{
    struct slice line;
    enum connection_line got = connection_line(&s->connection, CONNECTION_LINE_BYTES - 2, &line);
    if (got == CONNECTION_LINE_MORE)
        return false;
    if (got != CONNECTION_LINE_READY || line.size < 3 || !is_digit(line.data[0]) ||
        !is_digit(line.data[1]) || !is_digit(line.data[2])) {
        shake_fail(s);
        return false;
    }
    if (line.size > 3 && line.data[3] == '-')
        return true;
    shake_reply(s, (unsigned)(line.data[0] - '0') * 100 + (unsigned)(line.data[1] - '0') * 10 +
                       (unsigned)(line.data[2] - '0'));
    return s->state != SHAKE_CLOSING && s->state != SHAKE_HANDSHAKE;
}

/* True: it is complete. */
static bool shake_hands(struct shake *s)
{
    struct connection *c = &s->connection;
    struct shakes *shakes = s->shakes;
    uint64_t now_ns = shakes->worker.shard.now_ns;
    if (c->tls == NULL) {
        if (!connection_idle(c))
            return false;
        struct tls_session *session = secure_client_connect(
            &shakes->secure, (uint32_t)(s - shakes->all), &connection_ends, c);
        if (session == NULL) {
            shake_fail(s);
            return false;
        }
        connection_secure(c, session);
        s->secure_ns = now_ns;
    }
    enum tls_result result = connection_handshake(c);
    if (result == TLS_FAILED || c->error < 0) {
        shake_fail(s);
        return false;
    }
    if (result != TLS_OK)
        return false;
    secure_count(&shakes->counts.tls, c->tls, (now_ns - s->secure_ns) / US_IN_NS);
    if (shakes->options->tls.mode == SECURE_IMPLICIT)
        s->state = SHAKE_GREETING;
    else
        shake_hello(s, SHAKE_AGAIN);
    return s->state != SHAKE_CLOSING;
}

static bool shake_connected(struct shake *s)
{
    bool implicit = s->shakes->options->tls.mode == SECURE_IMPLICIT;
    if (s->connection.connected)
        s->state = implicit ? SHAKE_HANDSHAKE : SHAKE_GREETING;
    return s->connection.connected;
}

static void shake_run(struct task *task)
{
    struct shake *s = container_of(task, struct shake, task);
    struct connection *c = &s->connection;
    if (s->state == SHAKE_CLOSING || s->state == SHAKE_FREE)
        return;
    bool goes_on = s->state != SHAKE_CONNECT || shake_connected(s);
    if (goes_on && s->state == SHAKE_HANDSHAKE)
        goes_on = shake_hands(s);
    if (s->state == SHAKE_HALF && connection_idle(c))
        shake_say(s, SLICE(".invalid\r\n"), SHAKE_AGAIN);
    while (goes_on && shake_read(s))
        ;
    if (goes_on && s->state == SHAKE_HANDSHAKE && shake_hands(s))
        while (shake_read(s))
            ;
    if (s->state == SHAKE_CLOSING)
        return;
    if (c->error < 0 || c->eof || !timer_armed(&s->deadline))
        shake_fail(s);
    else
        connection_settle(c);
}

static void shake_on_deadline(struct timer *timer)
{
    struct shake *s = container_of(timer, struct shake, deadline);
    shard_run_later(&s->shakes->worker.shard, &s->task);
}

/* ---- all of them ---- */

static bool shakes_may_begin(const struct shakes *shakes)
{
    const struct shakes_options *o = shakes->options;
    if (__atomic_load_n(&shakes->over, __ATOMIC_RELAXED))
        return false;
    return o->count == 0 || shakes->begun < o->count;
}

static bool shakes_due(const struct shakes *shakes)
{
    return shakes->interval_ns == 0 || shakes->due_ns <= shakes->worker.shard.now_ns;
}

static void shakes_begin(struct shakes *shakes)
{
    while (shakes_may_begin(shakes) && shakes_due(shakes) && !list_empty(&shakes->free)) {
        struct list *node = list_pop(&shakes->free);
        shakes->due_ns += shakes->interval_ns;
        shake_open(container_of(node, struct shake, node));
    }
    const struct shakes_options *o = shakes->options;
    if (shakes->busy == 0 && o->count > 0 && shakes->begun >= o->count)
        __atomic_store_n(&shakes->over, true, __ATOMIC_RELAXED);
}

static void shake_closed(struct connection *connection)
{
    struct shake *s = container_of(connection, struct shake, connection);
    struct shakes *shakes = s->shakes;
    s->state = SHAKE_FREE;
    shard_forget(&s->task);
    list_push_front(&shakes->free, &s->node);
    shakes->busy--;
    shakes_begin(shakes);
}

static void shake_open(struct shake *s)
{
    struct shakes *shakes = s->shakes;
    const struct shakes_options *o = shakes->options;
    struct shard *shard = &shakes->worker.shard;
    struct net_address from;
    if (o->from_addresses > 0)
        from = worker_from((uint32_t)(shakes->begun % o->from_addresses));
    if (shakes->begun++ == 0)
        metric_set(&shakes->counts.first_ns, shard->now_ns);
    shakes->busy++;
    s->state = SHAKE_CONNECT;
    s->begun_ns = shard->now_ns;
    s->noops_left = o->noops;
    connection_init(&s->connection, shard, &shakes->worker.pools, &s->task, shake_closed);
    int socket;
    if (ring_socket(shakes->worker.ring, &o->to, o->from_addresses > 0 ? &from : NULL, &socket) <
        0) {
        shake_fail(s);
        return;
    }
    connection_connect(&s->connection, socket, &o->to);
    shard_timer_arm(shard, &s->deadline, TIMEOUT_MS);
}

static void shakes_tick(struct worker *worker)
{
    struct shakes *shakes = container_of(worker, struct shakes, worker);
    if (shakes->due_ns == 0)
        shakes->due_ns = worker->shard.now_ns;
    shakes_begin(shakes);
}

static bool shakes_stop(struct worker *worker)
{
    struct shakes *shakes = container_of(worker, struct shakes, worker);
    __atomic_store_n(&shakes->over, true, __ATOMIC_RELAXED);
    return shakes->busy == 0;
}

static int shakes_start(struct shakes *shakes, const struct shakes_options *o, const char **what)
{
    shakes->options = o;
    if (o->rate > 0)
        shakes->interval_ns = (uint64_t)llround(1e9 / o->rate);
    int r = worker_init(&shakes->worker, 0, o->connections, WORKER_BUFFERS, what);
    if (r < 0)
        return r;
    *what = "no memory";
    r = secure_client_init(&shakes->secure, &o->tls, &shakes->worker.shard.wall_us,
                           &shakes->worker.shard.random, o->connections);
    if (r < 0)
        return r;
    shakes->all = calloc(o->connections, sizeof(*shakes->all));
    if (shakes->all == NULL)
        return -ENOMEM;
    list_init(&shakes->free);
    for (uint32_t i = 0; i < o->connections; i++) {
        struct shake *s = &shakes->all[i];
        s->shakes = shakes;
        task_init(&s->task, shake_run);
        timer_init(&s->deadline, shake_on_deadline);
        list_init(&s->node);
        list_push(&shakes->free, &s->node);
    }
    shakes->worker.on_tick = shakes_tick;
    shakes->worker.on_stop = shakes_stop;
    shakes->worker.tick_ms = 1;
    *what = "cannot start a thread";
    return worker_start(&shakes->worker);
}

static void shakes_watch(const struct shakes *shakes, const struct shakes_options *o)
{
    uint64_t begun_ns = result_now_ns();
    for (;;) {
        int signal_number = signals_wait(POLL_MS);
        if (signal_number == SIGINT || signal_number == SIGTERM)
            return;
        if (__atomic_load_n(&shakes->over, __ATOMIC_RELAXED))
            return;
        if (o->seconds > 0 &&
            (double)(result_now_ns() - begun_ns) >= o->seconds * (double)SECOND_NS)
            return;
    }
}

static int shakes_report(const struct shakes *shakes, const struct shakes_options *o)
{
    const struct shakes_counts *counts = &shakes->counts;
    double seconds = counts->last_ns > counts->first_ns
                         ? (double)(counts->last_ns - counts->first_ns) / SECOND_NS
                         : 0;
    double rate = seconds > 0 ? (double)counts->done / seconds : 0;
    json_t *tls = secure_json(&counts->tls, sizeof(*shakes), 1);
    if (o->json == NULL || strcmp(o->json, "-") != 0) {
        printf("connections %llu in %.3f s, %.0f/s, failed %llu\n",
               (unsigned long long)counts->done, seconds, rate, (unsigned long long)counts->failed);
        secure_print(&o->tls, tls);
    }
    result_write(o->json, json_pack("{s:I, s:I, s:f, s:f, s:o, s:o, s:I}", "connections",
                                    (json_int_t)counts->done, "failed", (json_int_t)counts->failed,
                                    "seconds", seconds, "per_second", rate, "connection_us",
                                    result_latency(&counts->latency), "tls", tls, "cpu_us_self",
                                    (json_int_t)result_cpu_us()));
    return counts->done > 0 && counts->failed <= counts->done / 100 ? EXIT_OK : EXIT_NOTHING;
}

int handshakes_main(int argc, char **argv)
{
    struct shakes_options o;
    if (!shakes_options(argc, argv, &o))
        return EXIT_OK;
    struct shakes *shakes = calloc(1, sizeof(*shakes));
    if (shakes == NULL)
        return EXIT_NOTHING;
    const char *what = NULL;
    int r = shakes_start(shakes, &o, &what);
    if (r < 0)
        fprintf(stderr, "ringpost-bench handshakes: %s: %s\n", what, strerror(-r));
    else
        shakes_watch(shakes, &o);
    worker_ask_stop(&shakes->worker);
    if (worker_join(&shakes->worker) < 0)
        r = -EIO;
    int status = r < 0 ? EXIT_NOTHING : shakes_report(shakes, &o);
    worker_free(&shakes->worker);
    secure_client_free(&shakes->secure);
    free(shakes->all);
    free(shakes);
    return status;
}
