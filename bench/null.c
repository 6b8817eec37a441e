/*
 * null.c - the limit of the machine: SMTP's form without its sense
 *
 *   LINES --"D.."--> CONTENT --CRLF.CRLF--> LINES
 *         --"B.. n"--> CHUNK --n octets--> LINES
 *
 * It runs on the same ring, shard and connection as ringpost, so what it reaches is what ringpost
 * could reach if parsing, policy and disk cost nothing. It looks at the first octet of a line
 * only, checks no order, stores nothing. The end of content is looked for dot by dot, for dots are
 * rare.
 */
#include "bench/null.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench/options.h"
#include "bench/result.h"
#include "bench/worker.h"
#include "core/check.h"
#include "core/metrics.h"
#include "core/pool.h"

enum {
    REPLY_ROOM = 128,
    CONNECTIONS_DEFAULT = 20'000,
    END_HELD = 4, /* of CRLF.CRLF, this many octets may have come with an earlier buffer */
};

enum null_state { NULL_LINES, NULL_CONTENT, NULL_CHUNK };

struct null_server {
    struct worker worker;
    struct acceptor acceptor;
    struct pool sessions;
    struct list all;
    uint64_t messages;
    uint64_t bytes; /* received */
    uint64_t connections;
    uint64_t open;
};

struct null_session {
    struct connection connection;
    struct task task;
    struct list node;
    struct null_server *server;
    uint64_t chunk_left;
    uint8_t state;
    bool quit;
    uint8_t end[END_HELD]; /* the last octets of content, oldest first */
};

static void reply(struct null_session *s, struct slice text)
{
    uint8_t *out = connection_reserve(&s->connection, text.size);
    if (out == NULL)
        return; /* the socket failed meanwhile: the next step sees it */
    memcpy(out, text.data, text.size);
    connection_commit(&s->connection, text.size);
}

/* ---- content ---- */

static bool is_end(const struct null_session *s, const uint8_t *data, size_t dot)
{
    /* Called with at least two octets behind the dot. */
    if (data[dot + 1] != '\r' || data[dot + 2] != '\n')
        return false;
    uint8_t before_1 = dot >= 1 ? data[dot - 1] : s->end[END_HELD - 1];
    uint8_t before_2 = dot >= 2 ? data[dot - 2] : s->end[END_HELD - 2 + dot];
    return before_1 == '\n' && before_2 == '\r';
}

static void end_keep(struct null_session *s, const uint8_t *data, size_t size)
{
    if (size >= END_HELD) {
        memcpy(s->end, data + size - END_HELD, END_HELD);
        return;
    }
    memmove(s->end, s->end + size, END_HELD - size);
    memcpy(s->end + END_HELD - size, data, size);
}

/* Octets up to and with CRLF.CRLF; 0: it is not there. */
static size_t content_end(struct null_session *s, struct slice in)
{
    /* The end may lie across two buffers: look at the seam first. */
    uint8_t seam[2 * END_HELD];
    size_t ahead = MIN(in.size, (size_t)END_HELD);
    memcpy(seam, s->end, END_HELD);
    memcpy(seam + END_HELD, in.data, ahead);
    for (size_t i = 0; i + 5 <= END_HELD + ahead; i++)
        if (memcmp(seam + i, "\r\n.\r\n", 5) == 0)
            return i + 5 - END_HELD;
    const uint8_t *at = in.data;
    const uint8_t *last = in.data + in.size;
    while (last - at > 2) {
        const uint8_t *dot = memchr(at, '.', (size_t)(last - at) - 2);
        if (dot == NULL)
            break;
        size_t index = (size_t)(dot - in.data);
        if (is_end(s, in.data, index))
            return index + 3;
        at = dot + 1;
    }
    end_keep(s, in.data, in.size);
    return 0;
}

static void message_over(struct null_session *s)
{
    s->state = NULL_LINES;
    metric_add(&s->server->messages, 1);
    reply(s, SLICE("250 OK\r\n"));
}

/* False: wait for more. */
static bool session_content(struct null_session *s)
{
    struct slice in = connection_peek(&s->connection);
    if (in.size == 0)
        return false;
    size_t used = content_end(s, in);
    connection_take(&s->connection, used > 0 ? used : in.size);
    if (used > 0)
        message_over(s);
    return true;
}

static bool session_chunk(struct null_session *s)
{
    struct slice in = connection_peek(&s->connection);
    size_t used = MIN(in.size, s->chunk_left);
    connection_take(&s->connection, used);
    s->chunk_left -= used;
    if (s->chunk_left == 0) {
        message_over(s);
        return true;
    }
    return in.size > 0;
}

/* ---- lines ---- */

static void session_begin_chunk(struct null_session *s, struct slice line)
{
    struct slice number = slice_from(line, sizeof("BDAT ") - 1);
    ptrdiff_t blank = slice_find(number, ' ');
    if (blank >= 0)
        number = slice_part(number, 0, (size_t)blank);
    if (slice_to_u64(number, UINT64_MAX, &s->chunk_left) == 0)
        s->state = NULL_CHUNK;
    else
        reply(s, SLICE("501 number\r\n"));
}

static bool session_lines(struct null_session *s)
{
    struct slice line;
    switch (connection_line(&s->connection, CONNECTION_LINE_BYTES - 2, &line)) {
    case CONNECTION_LINE_MORE:
    case CONNECTION_LINE_NO_ROOM: return false;
    case CONNECTION_LINE_LONG: reply(s, SLICE("500 long\r\n")); return true;
    default: break;
    }
    switch (line.size > 0 ? line.data[0] : 0) {
    case 'D':
        s->state = NULL_CONTENT;
        memcpy(s->end, "\0\0\r\n", END_HELD); /* the start counts as behind a CRLF */
        reply(s, SLICE("354 go on\r\n"));
        break;
    case 'B': session_begin_chunk(s, line); break;
    case 'E':
    case 'L':
        reply(s, SLICE("250-null\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 8BITMIME\r\n"));
        break;
    case 'Q':
        s->quit = true;
        reply(s, SLICE("221 bye\r\n"));
        break;
    default: reply(s, SLICE("250 OK\r\n")); break;
    }
    return true;
}

static void session_run(struct task *task)
{
    struct null_session *s = container_of(task, struct null_session, task);
    struct connection *c = &s->connection;
    bool more = c->error == 0;
    while (more && !s->quit) {
        if (connection_reserve(c, REPLY_ROOM) == NULL)
            break; /* goes on when the replies have left */
        switch (s->state) {
        case NULL_CONTENT: more = session_content(s); break;
        case NULL_CHUNK: more = session_chunk(s); break;
        default: more = session_lines(s); break;
        }
    }
    connection_flush(c);
    if (c->error < 0 || c->eof || (s->quit && connection_idle(c))) {
        connection_close(c);
        return;
    }
    connection_settle(c);
}

static void session_closed(struct connection *connection)
{
    struct null_session *s = container_of(connection, struct null_session, connection);
    struct null_server *server = s->server;
    metric_add(&server->bytes, connection->received);
    metric_sub(&server->open, 1);
    list_remove(&s->node);
    pool_give(&server->sessions, s);
}

static bool null_accepted(struct acceptor *acceptor, int socket)
{
    struct null_server *server = container_of(acceptor, struct null_server, acceptor);
    struct null_session *s = pool_take(&server->sessions);
    if (s == NULL)
        return false;
    s->server = server;
    s->state = NULL_LINES;
    s->quit = false;
    s->chunk_left = 0;
    task_init(&s->task, session_run);
    list_push(&server->all, &s->node);
    connection_init(&s->connection, &server->worker.shard, &server->worker.pools, &s->task,
                    session_closed);
    connection_open(&s->connection, socket);
    metric_add(&server->connections, 1);
    metric_add(&server->open, 1);
    reply(s, SLICE("220 null ESMTP\r\n"));
    connection_flush(&s->connection);
    return true;
}

/* ---- the threads ---- */

static void null_tick(struct worker *worker)
{
    acceptor_tick(&container_of(worker, struct null_server, worker)->acceptor);
}

static bool null_stop(struct worker *worker)
{
    struct null_server *server = container_of(worker, struct null_server, worker);
    list_each (node, &server->all)
        connection_close(&container_of(node, struct null_session, node)->connection);
    return list_empty(&server->all);
}

static const char help[] =
    "usage: ringpost-bench null --listen ADDRESS:PORT [options]\n"
    "\n"
    "The null SMTP server: the limit of this machine. It answers 250 to every line and 354 to\n"
    "DATA, looks for the end of the content, answers 250 again, and throws everything away. It\n"
    "parses next to nothing, checks nothing and writes nothing, but it runs on the same rings,\n"
    "shards and connections as ringpost. What ringpost reaches, divided by what this reaches\n"
    "under the same load, is what mail costs above bare networking.\n"
    "\n"
    "  --listen ADDRESS:PORT   where; each thread has a listener of its own (SO_REUSEPORT)\n"
    "  --threads T             threads, each with a ring (1)\n"
    "  --connections-max N     connections per thread; more are closed at once (20000)\n"
    "  --json FILE             result at the end; - is standard output. Keys: messages,\n"
    "                          connections, bytes (received), refused, seconds, cpu_us_self,\n"
    "                          cpu_us_per_message\n"
    "  --quiet                 no progress lines on standard error\n"
    "  --help                  this text\n"
    "\n"
    "It ends on SIGINT or SIGTERM and prints its counts then.\n"
    "\n"
    "Example:\n"
    "  ringpost-bench null --listen 127.0.0.1:2525 &\n"
    "  ringpost-bench source --to 127.0.0.1:2525 --connections 100 --seconds 5\n";

struct null_options {
    const char *listen;
    const char *json;
    unsigned threads;
    uint32_t connections_max;
    bool quiet;
};

static int null_options(int argc, char **argv, struct null_options *o)
{
    enum { LISTEN = 256, THREADS, CONNECTIONS_MAX, JSON, QUIET, HELP };
    static const struct option options[] = {
        { "listen", required_argument, NULL, LISTEN },
        { "threads", required_argument, NULL, THREADS },
        { "connections-max", required_argument, NULL, CONNECTIONS_MAX },
        { "json", required_argument, NULL, JSON },
        { "quiet", no_argument, NULL, QUIET },
        { "help", no_argument, NULL, HELP },
        { NULL, 0, NULL, 0 },
    };
    *o = (struct null_options) { .threads = 1, .connections_max = CONNECTIONS_DEFAULT };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case LISTEN: o->listen = optarg; break;
        case THREADS: o->threads = option_threads(optarg); break;
        case CONNECTIONS_MAX:
            o->connections_max = option_connections("--connections-max", optarg);
            break;
        case JSON: o->json = optarg; break;
        case QUIET: o->quiet = true; break;
        case HELP: fputs(help, stdout); return -1;
        default: exit(EXIT_USAGE);
        }
    }
    options_end(argc, argv);
    if (o->listen == NULL)
        option_wrong("--listen", "is needed");
    return 0;
}

#define SUM(servers, count, field) result_sum(&(servers)->field, sizeof(*(servers)), (count))

static int null_start(struct null_server *server, unsigned index, const struct null_options *o,
                      const struct net_address *address, const char **what)
{
    int r = worker_init(&server->worker, index, o->connections_max, WORKER_BUFFERS, what);
    if (r < 0)
        return r;
    *what = "cannot listen";
    list_init(&server->all);
    r = pool_init(&server->sessions, "sessions", sizeof(struct null_session), o->connections_max);
    if (r == 0)
        r = acceptor_init(&server->acceptor, &server->worker, address, null_accepted);
    server->worker.on_tick = null_tick;
    server->worker.on_stop = null_stop;
    if (r == 0)
        r = worker_start(&server->worker);
    return r;
}

static void null_watch(const struct null_server *servers, const struct null_options *o)
{
    uint64_t before = 0;
    for (;;) {
        int signal_number = signals_wait(1000);
        if (signal_number == SIGINT || signal_number == SIGTERM)
            return;
        uint64_t messages = SUM(servers, o->threads, messages);
        uint64_t open = SUM(servers, o->threads, open);
        if (messages != before || open > 0)
            result_progress(o->quiet, "%llu messages/s, %llu in all, %llu connections",
                            (unsigned long long)(messages - before), (unsigned long long)messages,
                            (unsigned long long)open);
        before = messages;
    }
}

static void null_report(const struct null_server *servers, const struct null_options *o,
                        uint64_t begun_ns)
{
    uint64_t messages = SUM(servers, o->threads, messages);
    uint64_t connections = SUM(servers, o->threads, connections);
    uint64_t cpu_us = result_cpu_us();
    uint64_t refused = 0;
    for (unsigned i = 0; i < o->threads; i++)
        refused += servers[i].acceptor.refused;
    if (o->json == NULL || strcmp(o->json, "-") != 0)
        printf("messages %llu, connections %llu, CPU %.2f us per message\n",
               (unsigned long long)messages, (unsigned long long)connections,
               messages > 0 ? (double)cpu_us / (double)messages : 0.0);
    result_write(o->json, json_pack("{s:I, s:I, s:I, s:I, s:f, s:I, s:f}", "messages",
                                    (json_int_t)messages, "connections", (json_int_t)connections,
                                    "bytes", (json_int_t)SUM(servers, o->threads, bytes), "refused",
                                    (json_int_t)refused, "seconds",
                                    (double)(result_now_ns() - begun_ns) / 1e9, "cpu_us_self",
                                    (json_int_t)cpu_us, "cpu_us_per_message",
                                    messages > 0 ? (double)cpu_us / (double)messages : 0.0));
}

int null_main(int argc, char **argv)
{
    struct null_options o;
    if (null_options(argc, argv, &o) < 0)
        return EXIT_OK;
    struct net_address address = option_address("--listen", o.listen);
    struct null_server *servers = calloc(o.threads, sizeof(*servers));
    if (servers == NULL)
        return EXIT_NOTHING;
    int status = EXIT_OK;
    unsigned started = 0;
    for (; started < o.threads; started++) {
        const char *what = NULL;
        int r = null_start(&servers[started], started, &o, &address, &what);
        if (r < 0) {
            fprintf(stderr, "ringpost-bench null: %s: %s\n", what, strerror(-r));
            status = EXIT_NOTHING;
            break;
        }
    }
    uint64_t begun_ns = result_now_ns();
    if (status == EXIT_OK)
        null_watch(servers, &o);
    for (unsigned i = 0; i < started; i++)
        worker_ask_stop(&servers[i].worker);
    for (unsigned i = 0; i < started; i++)
        if (worker_join(&servers[i].worker) < 0)
            status = EXIT_NOTHING;
    if (started == o.threads)
        null_report(servers, &o, begun_ns);
    for (unsigned i = 0; i < o.threads; i++) {
        worker_free(&servers[i].worker);
        pool_free(&servers[i].sessions);
    }
    free(servers);
    return status;
}
