/*
 * source.c - the source's options, its clock, its result; what it says is in source_session.c
 *
 *   ramp --all connections are up, or have failed once, or ramp_ms--> measure
 *   measure --seconds over, or messages used up, or a signal--> drain --all sessions over--> report
 *
 * The main thread keeps the clock: messages count for the rate if they were acknowledged within the
 * window, from the first message begun to the end of measuring (--seconds) or to the last
 * acknowledgement (--messages).
 */
#include "bench/source.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "bench/options.h"
#include "bench/source_session.h"
#include "core/metrics.h"

enum {
    POLL_MS = 5,
    DRAIN_MS_MAX = 10'000,
    SECOND_NS = 1'000'000'000,
    MS_NS = 1'000'000,
    RECIPIENTS_MAX = 10'000,
};

static const char help[] =
    "usage: ringpost-bench source --to ADDRESS:PORT [options]\n"
    "\n"
    "Sends mail by SMTP or LMTP and measures how fast it is taken. Message text is made before "
    "the\n"
    "start; a round trip is one send. Without --pipeline it waits for the reply to each command, "
    "as\n"
    "most clients do.\n"
    "\n"
    "How much, and for how long (without --messages and --seconds: until a signal comes):\n"
    "  --to ADDRESS:PORT      the server, as 127.0.0.1:2525 or [::1]:2525\n"
    "  --connections N        connections at the same time (1)\n"
    "  --threads T            threads, each with a ring and its share of the connections (1)\n"
    "  --messages M           begin M messages in all; one that fails is not sent again\n"
    "  --seconds S            begin messages for S seconds, then finish those under way\n"
    "  --per-connection K     messages on each connection, then QUIT and a new one (0: no limit)\n"
    "  --rate R               messages per second over all connections, evenly spaced; latency\n"
    "                         then counts from the time a message was due (0: as fast as it goes)\n"
    "  --think-ms D           wait so long between the messages of a connection (0)\n"
    "\n"
    "What:\n"
    "  --size BYTES           content of a message, header included; K, M, G may follow (1024)\n"
    "  --recipients R         recipients of a message (1)\n"
    "  --from ADDRESS         sender (source@example.com)\n"
    "  --rcpt ADDRESS         recipient (sink@example.com). %d in either is replaced by a number,\n"
    "                         another one for each message (and recipient)\n"
    "  --numbers N            these numbers are 0 to N - 1, again and again (0: without end)\n"
    "  --id-prefix X          each message has a header field X-Bench-Id: X.THREAD.NUMBER (X is\n"
    "                         random by default, so that no two runs give the same id)\n"
    "  --acked FILE           append the id of each acknowledged message, a line each; written at\n"
    "                         least every 100 ms and at the end\n"
    "\n"
    "How:\n"
    "  --pipeline             MAIL, RCPT and DATA leave together; the content leaves together "
    "with\n"
    "                         the next message's commands (RFC 2920)\n"
    "  --bdat                 BDAT n LAST instead of DATA (RFC 3030); with --pipeline the whole\n"
    "                         transaction leaves in one piece\n"
    "  --lmtp                 LMTP (RFC 2033)\n"
    "  --slow BYTES_PER_S     send no faster than this on each connection, a piece every 100 ms\n"
    "  --idle                 connect, read the greeting, say EHLO, and be silent; connections "
    "that\n"
    "                         the server closes are opened again\n"
    "  --from-addresses N     connect from 127.0.0.1, 127.0.0.2 ... in turn, N of them, so that\n"
    "                         ports last for more connections and limits per address are spread\n"
    "  --timeout S            wait at most so long for a reply (60)\n"
    "  --ramp S               begin after so long even if not all connections are up (10). With\n"
    "                         --per-connection 1 and with --idle there is no waiting for them\n"
    "  --give-up S            end when no connection could be had for so long (30)\n"
    "\n" SECURE_CLIENT_HELP "\n"
    "What it tells:\n"
    "  --json FILE            the result; - is standard output. With --idle it is written anew\n"
    "                         every second, never seen half-written. Keys:\n"
    "    messages               acknowledged in all\n"
    "    seconds                the window measured: from the first message begun (the set-up of\n"
    "                           connections comes before) to S seconds later, or without "
    "--seconds\n"
    "                           to the last acknowledgement\n"
    "    messages_per_second    acknowledged in the window / seconds\n"
    "    bytes_per_second       of content, likewise\n"
    "    recipients, begun, failed, size (octets of content), connections (opened in all)\n"
    "    connections_open       that are up (at the end of the window)\n"
    "    errors {total, connect_refused, connect_failed, reset, closed, timeout, reply_421,\n"
    "      reply_4xx, reply_5xx, protocol, tls}\n"
    "    latency_us {p50, p90, p99, p999, max, mean, count}   from MAIL to the final reply\n"
    "    commit_us {...}        from the end of the content to the final reply\n"
    "    tls {full, resumed, failed, handshake_us {...}}      handshakes\n"
    "    cpu_us_self            CPU time of this process in the window\n"
    "    cpu_us_self_per_message\n"
    "    samples [{second, messages, errors, connections_open}]   one for each second\n"
    "  --quiet                no progress lines on standard error\n"
    "  --help                 this text\n"
    "\n"
    "SIGINT and SIGTERM end it in good order, with results; a second one at once. Exit status: 0,\n"
    "1 when nothing was acknowledged (with --idle: no connection came up) or it gave up, 2 for\n"
    "wrong options.\n"
    "\n"
    "Examples:\n"
    "  ringpost-bench source --to 127.0.0.1:2525 --connections 100 --seconds 10 --json out.json\n"
    "  ringpost-bench source --to 127.0.0.1:2525 --connections 500 --per-connection 1 --messages "
    "1M\n"
    "  ringpost-bench source --to 127.0.0.1:2525 --connections 50 --pipeline --bdat --size 1M\n"
    "  ringpost-bench source --to 127.0.0.1:2525 --connections 20000 --idle --from-addresses 4\n";

/* ---- options ---- */

static struct source_address address_template(const char *option, const char *text)
{
    struct slice whole = slice_of_string(text);
    if (whole.size > SOURCE_ADDRESS_MAX)
        option_wrong(option, "is too long");
    for (size_t i = 0; i < whole.size; i++)
        if (whole.data[i] <= ' ' || whole.data[i] == '<' || whole.data[i] == '>' ||
            whole.data[i] == 0x7f)
            option_wrong(option, "takes an address without blanks and angle brackets");
    const char *place = strstr(text, "%d");
    if (place == NULL)
        return (struct source_address) { .before = whole };
    size_t before = (size_t)(place - text);
    return (struct source_address) {
        .before = slice_part(whole, 0, before),
        .after = slice_from(whole, before + 2),
        .numbered = true,
    };
}

static uint32_t option_ms(const char *option, const char *text, double min)
{
    return (uint32_t)(option_decimal(option, text, min, 1e6) * 1000);
}

static void check_prefix(const char *prefix)
{
    struct slice text = slice_of_string(prefix);
    if (text.size == 0 || text.size > SOURCE_ID_PREFIX_MAX)
        option_wrong("--id-prefix", "takes 1 to 64 characters");
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] <= ' ' || text.data[i] >= 0x7f)
            option_wrong("--id-prefix", "takes printable ASCII without blanks");
}

static void options_check(struct source_options *o)
{
    if (o->to.port == 0)
        option_wrong("--to", "is needed");
    if (o->idle && (o->messages > 0 || o->acked != NULL || o->rate > 0))
        option_wrong("--idle", "sends no messages: no --messages, --acked or --rate");
    if (o->from_addresses > 0 && !(net_is_v4(&o->to) && net_is_loopback(&o->to)))
        option_wrong("--from-addresses", "needs a server on an IPv4 loopback address");
    if (o->slow > 0 && o->think_ms > 0 && o->slow > UINT32_MAX)
        option_wrong("--slow", "is too fast to be slow");
    secure_check_client(&o->tls);
    o->threads = MIN(o->threads, o->connections);
}

static const struct source_options options_default = {
    .connections = 1,
    .threads = 1,
    .size = 1024,
    .recipients = 1,
    .timeout_ms = 60'000,
    .ramp_ms = 10'000,
    .give_up_ms = 30'000,
};

/* False: help was asked for. */
static bool source_options(int argc, char **argv, struct source_options *o)
{
    enum {
        TO = 256,
        CONNECTIONS,
        MESSAGES,
        SECONDS,
        SIZE,
        PER_CONNECTION,
        RECIPIENTS,
        PIPELINE,
        BDAT,
        THREADS,
        RATE,
        SLOW,
        IDLE,
        FROM_ADDRESSES,
        FROM,
        RCPT,
        NUMBERS,
        LMTP,
        JSON,
        THINK,
        ID_PREFIX,
        ACKED,
        TIMEOUT,
        RAMP,
        GIVE_UP,
        QUIET,
        HELP
    };
    static const struct option options[] = {
        { "to", required_argument, NULL, TO },
        { "connections", required_argument, NULL, CONNECTIONS },
        { "messages", required_argument, NULL, MESSAGES },
        { "seconds", required_argument, NULL, SECONDS },
        { "size", required_argument, NULL, SIZE },
        { "per-connection", required_argument, NULL, PER_CONNECTION },
        { "recipients", required_argument, NULL, RECIPIENTS },
        { "pipeline", no_argument, NULL, PIPELINE },
        { "bdat", no_argument, NULL, BDAT },
        { "threads", required_argument, NULL, THREADS },
        { "rate", required_argument, NULL, RATE },
        { "slow", required_argument, NULL, SLOW },
        { "idle", no_argument, NULL, IDLE },
        { "from-addresses", required_argument, NULL, FROM_ADDRESSES },
        { "from", required_argument, NULL, FROM },
        { "rcpt", required_argument, NULL, RCPT },
        { "numbers", required_argument, NULL, NUMBERS },
        { "lmtp", no_argument, NULL, LMTP },
        { "json", required_argument, NULL, JSON },
        { "think-ms", required_argument, NULL, THINK },
        { "id-prefix", required_argument, NULL, ID_PREFIX },
        { "acked", required_argument, NULL, ACKED },
        { "timeout", required_argument, NULL, TIMEOUT },
        { "ramp", required_argument, NULL, RAMP },
        { "give-up", required_argument, NULL, GIVE_UP },
        { "quiet", no_argument, NULL, QUIET },
        { "help", no_argument, NULL, HELP },
        SECURE_LONG_OPTIONS,
        SECURE_CLIENT_LONG_OPTIONS,
        { NULL, 0, NULL, 0 },
    };
    *o = options_default;
    const char *from = "source@example.com";
    const char *rcpt = "sink@example.com";
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case TO: o->to = option_address("--to", optarg); break;
        case CONNECTIONS: o->connections = option_connections("--connections", optarg); break;
        case MESSAGES: o->messages = option_number("--messages", optarg, 1, INT64_MAX); break;
        case SECONDS: o->seconds = option_decimal("--seconds", optarg, 0.001, 1e6); break;
        case SIZE: o->size = option_number("--size", optarg, 0, 1 << 30); break;
        case PER_CONNECTION:
            o->per_connection = option_number("--per-connection", optarg, 0, UINT64_MAX);
            break;
        case RECIPIENTS:
            o->recipients = (uint32_t)option_number("--recipients", optarg, 1, RECIPIENTS_MAX);
            break;
        case PIPELINE: o->pipeline = true; break;
        case BDAT: o->bdat = true; break;
        case THREADS: o->threads = option_threads(optarg); break;
        case RATE: o->rate = option_decimal("--rate", optarg, 0, 1e9); break;
        case SLOW: o->slow = option_number("--slow", optarg, 1, 1 << 30); break;
        case IDLE: o->idle = true; break;
        case FROM_ADDRESSES:
            o->from_addresses = (uint32_t)option_number("--from-addresses", optarg, 1, 1 << 20);
            break;
        case FROM: from = optarg; break;
        case RCPT: rcpt = optarg; break;
        case NUMBERS: o->numbers = option_number("--numbers", optarg, 0, INT64_MAX); break;
        case LMTP: o->lmtp = true; break;
        case JSON: o->json = optarg; break;
        case THINK:
            o->think_ms = (uint32_t)option_number("--think-ms", optarg, 0, 86'400'000);
            break;
        case ID_PREFIX: o->id_prefix = optarg; break;
        case ACKED: o->acked = optarg; break;
        case TIMEOUT: o->timeout_ms = option_ms("--timeout", optarg, 0.001); break;
        case RAMP: o->ramp_ms = option_ms("--ramp", optarg, 0); break;
        case GIVE_UP: o->give_up_ms = option_ms("--give-up", optarg, 0.001); break;
        case QUIET: o->quiet = true; break;
        case HELP: fputs(help, stdout); return false;
        default: secure_option(&o->tls, option, optarg);
        }
    }
    options_end(argc, argv);
    o->from = address_template("--from", from);
    o->rcpt = address_template("--rcpt", rcpt);
    if (o->id_prefix != NULL)
        check_prefix(o->id_prefix);
    options_check(o);
    return true;
}

/* ---- counts of all threads ---- */

struct run {
    const struct source_options *options;
    struct source *sources;
    struct source_shared shared;
    uint64_t begun_ns;     /* of the whole run */
    uint64_t go_ns;        /* 0: ramp */
    uint64_t window_ns;    /* end of measuring; 0: not yet */
    uint64_t end_by_ns;    /* of the drain */
    uint64_t second_ns;    /* next sample */
    uint64_t connected_ns; /* a connection was up */
    uint64_t in_window;    /* messages acknowledged in the window */
    uint64_t open_at_end;
    uint64_t cpu_us; /* at the start of the window, then in the window */
    uint64_t before; /* messages up to the last sample */
    uint64_t errors_before;
    uint64_t seconds; /* samples taken */
    json_t *samples;
    char prefix[32];
    bool gave_up;
};

#define SUM(run, field)                                                                            \
    result_sum(&(run)->sources->counts.field, sizeof(*(run)->sources), (run)->options->threads)

static uint64_t sum_errors(const struct run *run)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < SOURCE_ERRORS; i++)
        total += SUM(run, errors[i]);
    return total;
}

/* From the first message begun to the end of measuring. */
static double window_seconds(const struct run *run)
{
    const struct source_options *o = run->options;
    uint64_t first_ns = UINT64_MAX;
    uint64_t last_ns = 0;
    for (unsigned i = 0; i < o->threads; i++) {
        const struct source_counts *counts = &run->sources[i].counts;
        uint64_t first = metric_get(&counts->first_ns);
        if (first > 0)
            first_ns = MIN(first_ns, first);
        last_ns = MAX(last_ns, metric_get(&counts->last_ns));
    }
    uint64_t from_ns = o->per_connection == 1 ? run->go_ns : first_ns;
    if (run->window_ns > 0)
        last_ns = o->messages > 0 && last_ns > 0 ? MIN(last_ns, run->window_ns) : run->window_ns;
    if (from_ns == UINT64_MAX || last_ns <= from_ns)
        return 0;
    return (double)(last_ns - from_ns) / SECOND_NS;
}

static json_t *errors_json(const struct run *run)
{
    static const char *const names[SOURCE_ERRORS] = {
        [SOURCE_CONNECT_REFUSED] = "connect_refused",
        [SOURCE_CONNECT_FAILED] = "connect_failed",
        [SOURCE_RESET] = "reset",
        [SOURCE_CLOSED] = "closed",
        [SOURCE_TIMEOUT] = "timeout",
        [SOURCE_REPLY_421] = "reply_421",
        [SOURCE_REPLY_4XX] = "reply_4xx",
        [SOURCE_REPLY_5XX] = "reply_5xx",
        [SOURCE_PROTOCOL] = "protocol",
        [SOURCE_TLS] = "tls",
    };
    json_t *errors = json_object();
    json_object_set_new(errors, "total", json_integer((json_int_t)sum_errors(run)));
    for (unsigned i = 0; i < SOURCE_ERRORS; i++)
        json_object_set_new(errors, names[i], json_integer((json_int_t)SUM(run, errors[i])));
    return errors;
}

static void set_integer(json_t *root, const char *key, uint64_t value)
{
    json_object_set_new(root, key, json_integer((json_int_t)value));
}

static json_t *run_json(const struct run *run)
{
    const struct source_options *o = run->options;
    json_t *root = json_object();
    struct histogram *latency = calloc(2, sizeof(*latency));
    if (root == NULL || latency == NULL) {
        free(latency);
        return root;
    }
    struct histogram *commit = latency + 1;
    for (unsigned i = 0; i < o->threads; i++) {
        histogram_merge(latency, &run->sources[i].counts.latency);
        histogram_merge(commit, &run->sources[i].counts.commit);
    }
    double seconds = window_seconds(run);
    uint64_t size = run->sources[0].texts.content_bytes;
    bool measured = run->window_ns > 0;
    uint64_t in_window = measured ? run->in_window : SUM(run, messages);
    double rate = seconds > 0 ? (double)in_window / seconds : 0;
    uint64_t cpu_us = measured ? run->cpu_us : result_cpu_us() - run->cpu_us;
    set_integer(root, "messages", SUM(run, messages));
    json_object_set_new(root, "seconds", json_real(seconds));
    json_object_set_new(root, "messages_per_second", json_real(rate));
    json_object_set_new(root, "bytes_per_second", json_real(rate * (double)size));
    set_integer(root, "recipients", SUM(run, recipients));
    set_integer(root, "begun", SUM(run, begun));
    set_integer(root, "failed", SUM(run, failed));
    set_integer(root, "size", size);
    set_integer(root, "connections", SUM(run, connections));
    set_integer(root, "connections_open", measured ? run->open_at_end : SUM(run, open));
    json_object_set_new(root, "errors", errors_json(run));
    json_object_set_new(root, "latency_us", result_latency(latency));
    json_object_set_new(root, "commit_us", result_latency(commit));
    json_object_set_new(
        root, "tls", secure_json(&run->sources[0].counts.tls, sizeof(*run->sources), o->threads));
    set_integer(root, "cpu_us_self", cpu_us);
    json_object_set_new(root, "cpu_us_self_per_message",
                        json_real(in_window > 0 ? (double)cpu_us / (double)in_window : 0));
    json_object_set(root, "samples", run->samples);
    free(latency);
    return root;
}

/* ---- the run ---- */

static void set_flag(bool *flag)
{
    __atomic_store_n(flag, true, __ATOMIC_RELAXED);
}

static bool is_set(const bool *flag)
{
    return __atomic_load_n(flag, __ATOMIC_RELAXED);
}

static void run_sample(struct run *run, uint64_t now_ns)
{
    if (run->go_ns == 0 || now_ns < run->second_ns)
        return;
    const struct source_options *o = run->options;
    uint64_t messages = SUM(run, messages);
    uint64_t errors = sum_errors(run);
    uint64_t open = SUM(run, open);
    run->second_ns += SECOND_NS;
    run->seconds++;
    json_array_append_new(run->samples,
                          json_pack("{s:I, s:I, s:I, s:I}", "second", (json_int_t)run->seconds,
                                    "messages", (json_int_t)(messages - run->before), "errors",
                                    (json_int_t)(errors - run->errors_before), "connections_open",
                                    (json_int_t)open));
    result_progress(
        o->quiet, "%4llu s  %llu messages/s, %llu in all, %llu connections, %llu errors",
        (unsigned long long)run->seconds, (unsigned long long)(messages - run->before),
        (unsigned long long)messages, (unsigned long long)open, (unsigned long long)errors);
    run->before = messages;
    run->errors_before = errors;
    if (o->idle && o->json != NULL && strcmp(o->json, "-") != 0)
        result_write(o->json, run_json(run));
}

static void run_go(struct run *run, uint64_t now_ns)
{
    run->go_ns = now_ns;
    run->second_ns = now_ns + SECOND_NS;
    run->cpu_us = result_cpu_us();
    set_flag(&run->shared.go);
}

static void run_end_window(struct run *run, uint64_t now_ns)
{
    if (run->window_ns > 0)
        return;
    if (run->go_ns == 0)
        run_go(run, now_ns);
    run->window_ns = now_ns;
    run->in_window = SUM(run, messages);
    run->open_at_end = SUM(run, open);
    run->cpu_us = result_cpu_us() - run->cpu_us;
    run->end_by_ns = now_ns + (uint64_t)MIN(run->options->timeout_ms, DRAIN_MS_MAX) * MS_NS;
    set_flag(&run->shared.ending);
}

static bool run_may_go(const struct run *run, uint64_t now_ns)
{
    const struct source_options *o = run->options;
    return o->per_connection == 1 || o->idle || SUM(run, tried) >= o->connections ||
           now_ns - run->begun_ns >= (uint64_t)o->ramp_ms * MS_NS;
}

/* False: all is over. */
static bool run_watch(struct run *run, uint64_t now_ns)
{
    const struct source_options *o = run->options;
    if (run->go_ns == 0 && run_may_go(run, now_ns))
        run_go(run, now_ns);
    run_sample(run, now_ns);
    bool all_done = SUM(run, done) >= o->connections;
    if (run->window_ns > 0)
        return !all_done && now_ns < run->end_by_ns;
    if (SUM(run, open) > 0 || run->connected_ns == 0)
        run->connected_ns = now_ns;
    if (all_done || is_set(&run->shared.ending)) {
        run_end_window(run, now_ns);
        return !all_done;
    }
    if (o->seconds > 0 && run->go_ns > 0 &&
        (double)(now_ns - run->go_ns) >= o->seconds * (double)SECOND_NS)
        run_end_window(run, now_ns);
    if (now_ns - run->connected_ns >= (uint64_t)o->give_up_ms * MS_NS) {
        run->gave_up = true;
        run_end_window(run, now_ns);
    }
    return true;
}

static void run_loop(struct run *run)
{
    unsigned signals = 0;
    do {
        int signal_number = signals_wait(POLL_MS);
        if (signal_number != SIGINT && signal_number != SIGTERM)
            continue;
        run_end_window(run, result_now_ns());
        if (++signals > 1)
            break;
    } while (run_watch(run, result_now_ns()));
    run_end_window(run, result_now_ns());
}

static void source_tick(struct worker *worker)
{
    source_sessions_tick(container_of(worker, struct source, worker));
}

static bool source_stop(struct worker *worker)
{
    return source_close_all(container_of(worker, struct source, worker));
}

static int run_start(struct run *run, unsigned index, const char **what)
{
    const struct source_options *o = run->options;
    struct source *source = &run->sources[index];
    uint32_t first = (uint32_t)((uint64_t)o->connections * index / o->threads);
    uint32_t count = (uint32_t)((uint64_t)o->connections * (index + 1) / o->threads) - first;
    source->options = o;
    source->shared = &run->shared;
    source->acked.fd = -1;
    if (o->rate > 0)
        source->interval_ns = (uint64_t)llround(1e9 * o->threads / o->rate);
    int r = worker_init(&source->worker, index, count, WORKER_BUFFERS, what);
    if (r < 0)
        return r;
    *what = "no memory for texts and sessions";
    r = source_texts_init(&source->texts, o, index, count);
    if (r == 0)
        r = source_sessions_init(source, count, first);
    if (r == 0)
        r = secure_client_init(&source->secure, &o->tls, &source->worker.shard.wall_us,
                               &source->worker.shard.random, count);
    if (r < 0)
        return r;
    *what = "cannot open the file of acknowledged ids";
    r = result_ids_open(&source->acked, o->acked);
    if (r < 0)
        return r;
    source->worker.on_tick = source_tick;
    source->worker.on_stop = source_stop;
    if (o->rate > 0)
        source->worker.tick_ms = 1;
    *what = "cannot start a thread";
    return worker_start(&source->worker);
}

static int run_report(struct run *run)
{
    const struct source_options *o = run->options;
    uint64_t messages = SUM(run, messages);
    uint64_t connections = SUM(run, connections);
    json_t *root = run_json(run);
    if (o->json == NULL || strcmp(o->json, "-") != 0) {
        json_t *latency = json_object_get(root, "latency_us");
        printf("messages %llu in %.3f s, %.0f messages/s, %.1f MB/s, errors %llu, latency us p50 "
               "%lld p99 %lld max %lld, own CPU %.2f us per message\n",
               (unsigned long long)messages, json_number_value(json_object_get(root, "seconds")),
               json_number_value(json_object_get(root, "messages_per_second")),
               json_number_value(json_object_get(root, "bytes_per_second")) / 1e6,
               (unsigned long long)sum_errors(run),
               (long long)json_integer_value(json_object_get(latency, "p50")),
               (long long)json_integer_value(json_object_get(latency, "p99")),
               (long long)json_integer_value(json_object_get(latency, "max")),
               json_number_value(json_object_get(root, "cpu_us_self_per_message")));
        secure_print(&o->tls, json_object_get(root, "tls"));
    }
    result_write(o->json, root);
    if (run->shared.lacks_pipelining || run->shared.lacks_chunking)
        fprintf(stderr, "ringpost-bench source: the server does not offer %s\n",
                run->shared.lacks_chunking ? "CHUNKING" : "PIPELINING");
    if (run->shared.lacks_starttls)
        fprintf(stderr, "ringpost-bench source: the server does not offer STARTTLS\n");
    if (run->gave_up)
        fprintf(stderr, "ringpost-bench source: no connection could be had: gave up\n");
    if (run->gave_up || (o->idle ? run->open_at_end == 0 || connections == 0 : messages == 0))
        return EXIT_NOTHING;
    return EXIT_OK;
}

int source_main(int argc, char **argv)
{
    struct source_options o;
    if (!source_options(argc, argv, &o))
        return EXIT_OK;
    struct run run = {
        .options = &o,
        .begun_ns = result_now_ns(),
        .shared.tickets = o.messages > 0 ? (int64_t)o.messages : INT64_MAX,
        .sources = calloc(o.threads, sizeof(*run.sources)),
        .samples = json_array(),
    };
    if (run.sources == NULL || run.samples == NULL)
        return EXIT_NOTHING;
    if (o.id_prefix == NULL) {
        snprintf(run.prefix, sizeof(run.prefix), "%08x",
                 (unsigned)((uint64_t)getpid() * 2'654'435'761 ^ (uint64_t)time(NULL) << 20 ^
                            run.begun_ns));
        o.id_prefix = run.prefix;
    }
    int status = EXIT_OK;
    unsigned started = 0;
    for (; started < o.threads; started++) {
        const char *what = NULL;
        int r = run_start(&run, started, &what);
        if (r < 0) {
            fprintf(stderr, "ringpost-bench source: %s: %s\n", what, strerror(-r));
            status = EXIT_NOTHING;
            break;
        }
    }
    if (status == EXIT_OK)
        run_loop(&run);
    for (unsigned i = 0; i < started; i++)
        worker_ask_stop(&run.sources[i].worker);
    for (unsigned i = 0; i < started; i++) {
        int r = worker_join(&run.sources[i].worker);
        if (r < 0) {
            fprintf(stderr, "ringpost-bench source: a thread ended: %s\n", strerror(-r));
            status = EXIT_NOTHING;
        }
        result_ids_close(&run.sources[i].acked);
    }
    if (started == o.threads) {
        int reported = run_report(&run);
        status = status == EXIT_OK ? reported : status;
    }
    for (unsigned i = 0; i < o.threads; i++) {
        worker_free(&run.sources[i].worker);
        source_sessions_free(&run.sources[i]);
        secure_client_free(&run.sources[i].secure);
        source_texts_free(&run.sources[i].texts);
    }
    free(run.sources);
    json_decref(run.samples);
    return status;
}
