/*
 * sink.c - the sink's options, threads and result; what it says to clients is in sink_session.c
 */
#include "bench/sink.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/options.h"
#include "bench/sink_session.h"
#include "core/metrics.h"

enum {
    CONNECTIONS_DEFAULT = 20'000,
    SINK_BUFFERS = 2'048, /* delayed sessions hold some each */
    GRACE_MS = 200,       /* for the replies of the last messages, with --max-messages */
    POLL_MS = 50,
    SECOND_NS = 1'000'000'000,
};

static const char help[] =
    "usage: ringpost-bench sink --listen ADDRESS:PORT [options]\n"
    "\n"
    "Takes mail by SMTP or LMTP and throws it away, as fast as it can, or as badly as asked for.\n"
    "Commands are checked for form and order, content for exact framing (only CRLF.CRLF ends it;\n"
    "bare CR, LF and NUL are counted), so that it notices what a faulty client does.\n"
    "\n"
    "  --listen ADDRESS:PORT   where; each thread has a listener of its own (SO_REUSEPORT)\n"
    "  --threads T             threads, each with a ring (1)\n"
    "  --connections-max N     connections per thread; more are closed at once (20000)\n"
    "  --lmtp                  LMTP (RFC 2033): LHLO, and a final reply for each recipient\n"
    "\n"
    "What it offers:\n"
    "  --no-pipelining --no-bdat --no-8bitmime --no-size --no-smtputf8\n"
    "                          leave the extension out; its use is then refused (pipelined\n"
    "                          commands are understood in any case)\n"
    "\n"
    "  --tls MODE              none, starttls (offered), implicit (none)\n"
    "  --cert CHAIN --key KEY  PEM; again for more: by server name, then what a client can verify\n"
    "  --tls-version V         1.2 or 1.3 only\n"
    "  --tls-group NAME        this one only (see source)\n"
    "  --tls-resume SHARE      0: no session is resumed; else any may be (0)\n"
    "  --tls-no-tickets        TLS 1.2 resumes by session id, TLS 1.3 does not\n"
    "\n"
    "How it misbehaves:\n"
    "  --delay-ms D            wait so long before the final reply to a message\n"
    "  --reply-delay-ms D      wait so long before each reply (pipelined ones: each group)\n"
    "  --errors SHARE          refuse this share (0 to 1) of recipients, and of messages at their\n"
    "                          end\n"
    "  --error-code CODE       with this code, 400 to 599 (451 and 550 by turns)\n"
    "  --drop SHARE            cut the connection in this share of transactions, at a random\n"
    "                          place: at MAIL, RCPT or DATA, amid the content, before the final\n"
    "                          reply, or instead of it with the message taken\n"
    "\n"
    "When it ends (else on SIGINT or SIGTERM):\n"
    "  --max-messages N        after N messages (a few more may come in the same moment)\n"
    "  --seconds S             after S seconds\n"
    "\n"
    "What it tells:\n"
    "  --received FILE         append the X-Bench-Id of each message (- when it has none), a line\n"
    "                          each, with the kernel before its 250 leaves\n"
    "  --json FILE             counts; written anew every second, on SIGUSR1 and at the end, "
    "never\n"
    "                          seen half-written; - is standard output, at the end only. Keys:\n"
    "    messages, recipients, bytes         accepted; bytes of content\n"
    "    connections, connections_open, refused_connections\n"
    "    messages_refused, recipients_refused, dropped    as asked for with --errors, --drop\n"
    "    aborted                             connections that ended within a transaction\n"
    "    bad_commands                        commands that deserved a 5xx\n"
    "    bare_newlines                       messages with a bare CR or LF, or NUL\n"
    "    early_data                          content sent before the 354\n"
    "    seconds                             since the start\n"
    "    seconds_active                      from the first message to the last\n"
    "    messages_per_second                 in seconds_active\n"
    "    latency_us {p50,p90,p99,p999,max,mean,count}     from MAIL to the final reply\n"
    "    tls {full, resumed, failed, handshake_us {...}}  handshakes\n"
    "    cpu_us_self                         CPU time of this process\n"
    "  --quiet                 no progress lines on standard error\n"
    "  --help                  this text\n"
    "\n"
    "Examples:\n"
    "  ringpost-bench sink --listen 127.0.0.1:2526 --json sink.json\n"
    "  ringpost-bench sink --listen 127.0.0.1:2526 --errors 0.05 --error-code 451 --drop 0.01\n"
    "  ringpost-bench sink --listen 127.0.0.1:2424 --lmtp --received ids\n";

static double share(const char *option, const char *text)
{
    return option_decimal(option, text, 0, 1);
}

static uint32_t ms(const char *option, const char *text)
{
    return (uint32_t)option_number(option, text, 0, 3'600'000);
}

/* False: help was asked for. */
static bool sink_options(int argc, char **argv, struct sink_options *o)
{
    enum {
        LISTEN = 256,
        THREADS,
        CONNECTIONS_MAX,
        LMTP,
        NO_PIPELINING,
        NO_BDAT,
        NO_8BITMIME,
        NO_SIZE,
        NO_SMTPUTF8,
        DELAY,
        REPLY_DELAY,
        ERRORS,
        ERROR_CODE,
        DROP,
        MAX_MESSAGES,
        SECONDS,
        RECEIVED,
        JSON,
        QUIET,
        HELP
    };
    static const struct option options[] = {
        { "listen", required_argument, NULL, LISTEN },
        { "threads", required_argument, NULL, THREADS },
        { "connections-max", required_argument, NULL, CONNECTIONS_MAX },
        { "lmtp", no_argument, NULL, LMTP },
        { "no-pipelining", no_argument, NULL, NO_PIPELINING },
        { "no-bdat", no_argument, NULL, NO_BDAT },
        { "no-8bitmime", no_argument, NULL, NO_8BITMIME },
        { "no-size", no_argument, NULL, NO_SIZE },
        { "no-smtputf8", no_argument, NULL, NO_SMTPUTF8 },
        { "delay-ms", required_argument, NULL, DELAY },
        { "reply-delay-ms", required_argument, NULL, REPLY_DELAY },
        { "errors", required_argument, NULL, ERRORS },
        { "error-code", required_argument, NULL, ERROR_CODE },
        { "drop", required_argument, NULL, DROP },
        { "max-messages", required_argument, NULL, MAX_MESSAGES },
        { "seconds", required_argument, NULL, SECONDS },
        { "received", required_argument, NULL, RECEIVED },
        { "json", required_argument, NULL, JSON },
        { "quiet", no_argument, NULL, QUIET },
        { "help", no_argument, NULL, HELP },
        SECURE_LONG_OPTIONS,
        SECURE_SERVER_LONG_OPTIONS,
        { NULL, 0, NULL, 0 },
    };
    *o = (struct sink_options) { .threads = 1, .connections_max = CONNECTIONS_DEFAULT };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case LISTEN: o->listen = option_address("--listen", optarg); break;
        case THREADS: o->threads = option_threads(optarg); break;
        case CONNECTIONS_MAX:
            o->connections_max = option_connections("--connections-max", optarg);
            break;
        case LMTP: o->lmtp = true; break;
        case NO_PIPELINING: o->no_pipelining = true; break;
        case NO_BDAT: o->no_bdat = true; break;
        case NO_8BITMIME: o->no_8bitmime = true; break;
        case NO_SIZE: o->no_size = true; break;
        case NO_SMTPUTF8: o->no_smtputf8 = true; break;
        case DELAY: o->delay_ms = ms("--delay-ms", optarg); break;
        case REPLY_DELAY: o->reply_delay_ms = ms("--reply-delay-ms", optarg); break;
        case ERRORS: o->errors = share("--errors", optarg); break;
        case ERROR_CODE:
            o->error_code = (unsigned)option_number("--error-code", optarg, 400, 599);
            break;
        case DROP: o->drop = share("--drop", optarg); break;
        case MAX_MESSAGES:
            o->messages_max = option_number("--max-messages", optarg, 1, UINT64_MAX);
            break;
        case SECONDS: o->seconds = (uint32_t)option_number("--seconds", optarg, 1, 1 << 30); break;
        case RECEIVED: o->received = optarg; break;
        case JSON: o->json = optarg; break;
        case QUIET: o->quiet = true; break;
        case HELP: fputs(help, stdout); return false;
        default: secure_option(&o->tls, option, optarg);
        }
    }
    options_end(argc, argv);
    if (o->listen.port == 0)
        option_wrong("--listen", "is needed");
    secure_check_server(&o->tls);
    return true;
}

/* ---- counts of all threads ---- */

static const struct {
    const char *key;
    size_t offset;
} sink_keys[] = {
    { "messages", offsetof(struct sink_counts, messages) },
    { "recipients", offsetof(struct sink_counts, recipients) },
    { "bytes", offsetof(struct sink_counts, bytes) },
    { "connections", offsetof(struct sink_counts, connections) },
    { "connections_open", offsetof(struct sink_counts, open) },
    { "messages_refused", offsetof(struct sink_counts, refused_messages) },
    { "recipients_refused", offsetof(struct sink_counts, refused_recipients) },
    { "dropped", offsetof(struct sink_counts, dropped) },
    { "aborted", offsetof(struct sink_counts, aborted) },
    { "bad_commands", offsetof(struct sink_counts, bad_commands) },
    { "bare_newlines", offsetof(struct sink_counts, bare_newlines) },
    { "early_data", offsetof(struct sink_counts, early_data) },
};

#define SUM(sinks, threads, field) result_sum(&(sinks)->counts.field, sizeof(*(sinks)), (threads))

static double seconds_active(const struct sink *sinks, unsigned threads)
{
    uint64_t first_ns = UINT64_MAX;
    uint64_t last_ns = 0;
    for (unsigned i = 0; i < threads; i++) {
        uint64_t first = metric_get(&sinks[i].counts.first_ns);
        if (first > 0)
            first_ns = MIN(first_ns, first);
        last_ns = MAX(last_ns, metric_get(&sinks[i].counts.last_ns));
    }
    return last_ns > first_ns ? (double)(last_ns - first_ns) / SECOND_NS : 0;
}

static json_t *sink_json(const struct sink *sinks, unsigned threads, uint64_t begun_ns)
{
    json_t *root = json_object();
    struct histogram *all = calloc(1, sizeof(*all));
    if (root == NULL || all == NULL) {
        free(all);
        return root;
    }
    for (size_t i = 0; i < ARRAY_COUNT(sink_keys); i++) {
        const void *first = (const char *)&sinks->counts + sink_keys[i].offset;
        json_object_set_new(root, sink_keys[i].key,
                            json_integer((json_int_t)result_sum(first, sizeof(*sinks), threads)));
    }
    uint64_t refused = result_sum(&sinks->acceptor.refused, sizeof(*sinks), threads);
    for (unsigned i = 0; i < threads; i++)
        histogram_merge(all, &sinks[i].counts.transaction);
    double active = seconds_active(sinks, threads);
    uint64_t messages = SUM(sinks, threads, messages);
    json_object_set_new(root, "refused_connections", json_integer((json_int_t)refused));
    json_object_set_new(root, "seconds", json_real((double)(result_now_ns() - begun_ns) / 1e9));
    json_object_set_new(root, "seconds_active", json_real(active));
    json_object_set_new(root, "messages_per_second",
                        json_real(active > 0 ? (double)messages / active : 0));
    json_object_set_new(root, "latency_us", result_latency(all));
    json_object_set_new(root, "tls", secure_json(&sinks[0].counts.tls, sizeof(*sinks), threads));
    json_object_set_new(root, "cpu_us_self", json_integer((json_int_t)result_cpu_us()));
    free(all);
    return root;
}

/* ---- the threads ---- */

static void sink_tick(struct worker *worker)
{
    acceptor_tick(&container_of(worker, struct sink, worker)->acceptor);
}

static bool sink_stop(struct worker *worker)
{
    return sink_close_all(container_of(worker, struct sink, worker));
}

static int sink_start(struct sink *sink, unsigned index, const struct sink_options *o,
                      const struct secure_keys *keys, uint64_t *messages_total, const char **what)
{
    sink->options = o;
    sink->messages_total = messages_total;
    int r = worker_init(&sink->worker, index, o->connections_max, SINK_BUFFERS, what);
    if (r < 0)
        return r;
    *what = "no memory for sessions";
    r = sink_prepare(sink);
    if (r < 0)
        return r;
    *what = "cannot set up TLS";
    r = secure_server_init(&sink->secure, &o->tls, keys, &sink->worker.shard.wall_us,
                           &sink->worker.shard.now_ms);
    if (r < 0)
        return r;
    *what = "cannot open the list of ids";
    r = result_ids_open(&sink->ids, o->received);
    if (r < 0)
        return r;
    *what = "cannot listen";
    r = acceptor_init(&sink->acceptor, &sink->worker, &o->listen, sink_accepted);
    sink->worker.on_tick = sink_tick;
    sink->worker.on_stop = sink_stop;
    if (r == 0)
        r = worker_start(&sink->worker);
    return r;
}

static void sink_tell(const struct sink *sinks, const struct sink_options *o, uint64_t *before)
{
    uint64_t messages = SUM(sinks, o->threads, messages);
    uint64_t open = SUM(sinks, o->threads, open);
    if (messages != *before || open > 0)
        result_progress(o->quiet, "%llu messages/s, %llu in all, %llu connections",
                        (unsigned long long)(messages - *before), (unsigned long long)messages,
                        (unsigned long long)open);
    *before = messages;
}

static void sink_watch(const struct sink *sinks, const struct sink_options *o, uint64_t begun_ns,
                       const uint64_t *messages_total)
{
    bool to_file = o->json != NULL && strcmp(o->json, "-") != 0;
    uint64_t second_ns = begun_ns + SECOND_NS;
    uint64_t before = 0;
    if (to_file)
        result_write(o->json, sink_json(sinks, o->threads, begun_ns));
    for (;;) {
        int signal_number = signals_wait(POLL_MS);
        if (signal_number == SIGINT || signal_number == SIGTERM)
            return;
        uint64_t now_ns = result_now_ns();
        if (to_file && (signal_number == SIGUSR1 || now_ns >= second_ns))
            result_write(o->json, sink_json(sinks, o->threads, begun_ns));
        if (now_ns >= second_ns) {
            sink_tell(sinks, o, &before);
            second_ns += SECOND_NS;
        }
        if (o->seconds > 0 && now_ns - begun_ns >= o->seconds * (uint64_t)SECOND_NS)
            return;
        if (o->messages_max > 0 && metric_get(messages_total) >= o->messages_max) {
            (void)signals_wait(GRACE_MS);
            return;
        }
    }
}

static void sink_report(const struct sink *sinks, const struct sink_options *o, uint64_t begun_ns)
{
    if (o->json == NULL || strcmp(o->json, "-") != 0) {
        double active = seconds_active(sinks, o->threads);
        uint64_t messages = SUM(sinks, o->threads, messages);
        printf("messages %llu in %.3f s, %.0f messages/s, connections %llu, bad commands %llu\n",
               (unsigned long long)messages, active, active > 0 ? (double)messages / active : 0,
               (unsigned long long)SUM(sinks, o->threads, connections),
               (unsigned long long)SUM(sinks, o->threads, bad_commands));
    }
    result_write(o->json, sink_json(sinks, o->threads, begun_ns));
}

int sink_main(int argc, char **argv)
{
    struct sink_options o;
    if (!sink_options(argc, argv, &o))
        return EXIT_OK;
    struct secure_keys keys;
    struct sink *sinks = calloc(o.threads, sizeof(*sinks));
    if (sinks == NULL || secure_keys_make(&o.tls, &keys) < 0)
        return EXIT_NOTHING;
    uint64_t messages_total = 0;
    uint64_t begun_ns = result_now_ns();
    int status = EXIT_OK;
    unsigned started = 0;
    for (; started < o.threads; started++) {
        const char *what = NULL;
        int r = sink_start(&sinks[started], started, &o, &keys, &messages_total, &what);
        if (r < 0) {
            fprintf(stderr, "ringpost-bench sink: %s: %s\n", what, strerror(-r));
            status = EXIT_NOTHING;
            break;
        }
    }
    if (status == EXIT_OK)
        sink_watch(sinks, &o, begun_ns, &messages_total);
    for (unsigned i = 0; i < started; i++)
        worker_ask_stop(&sinks[i].worker);
    for (unsigned i = 0; i < started; i++) {
        if (worker_join(&sinks[i].worker) < 0)
            status = EXIT_NOTHING;
        result_ids_close(&sinks[i].ids);
    }
    if (started == o.threads)
        sink_report(sinks, &o, begun_ns);
    for (unsigned i = 0; i < o.threads; i++) {
        worker_free(&sinks[i].worker);
        secure_server_free(&sinks[i].secure);
        pool_free(&sinks[i].sessions);
    }
    secure_keys_free(&keys);
    free(sinks);
    return status;
}
