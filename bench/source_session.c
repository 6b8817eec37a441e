/*
 * source_session.c - sends mail at a cost that does not count
 *
 *   OFF -> CONNECT -> talk (source_transaction.c) -> CLOSING -> closed -> OFF, or DONE
 *    ^--pause--'  '-> HANDSHAKE -^  (implicit TLS; by STARTTLS from within the talk)
 *
 * Bounds: a reply is waited for at most timeout_ms; a failed connection is opened again after
 * BACKOFF_MIN_MS, doubled up to BACKOFF_MAX_MS. Nothing is sent before the send before has landed,
 * and no reply is read while something waits to be sent (a server that talks out of turn cannot
 * confuse it).
 */
#include "bench/source_session.h"

#include <errno.h>
#include <stdlib.h>

#include "core/check.h"
#include "core/metrics.h"

enum {
    OPENING_MAX = 64, /* connections of the ramp that are set up at the same time, per thread */
    BACKOFF_MIN_MS = 10,
    BACKOFF_MAX_MS = 1'000,
    SLOW_STEP_MS = 100,
    ACKED_FLUSH_MS = 100,
    US_IN_NS = 1'000,
};

/* ---- sending ---- */

static void session_expect(struct source_session *s)
{
    struct shard *shard = &s->source->worker.shard;
    s->deadline_ms = shard->now_ms + s->source->options->timeout_ms;
    if (!timer_armed(&s->deadline))
        shard_timer_arm(shard, &s->deadline, s->source->options->timeout_ms);
}

void source_queue(struct source_session *s, struct slice text)
{
    CHECK(s->out_count < SOURCE_OUT_MAX);
    if (s->out_count > 0) {
        struct slice *last = &s->out[s->out_count - 1];
        if (last->data + last->size == text.data) {
            last->size += text.size;
            return;
        }
    }
    s->out[s->out_count++] = text;
}

/* A piece, and the next one when its time has come. True: all is out. */
static bool session_push_slowly(struct source_session *s)
{
    struct connection *c = &s->connection;
    uint64_t rate = s->source->options->slow;
    if (timer_armed(&s->pause))
        return false;
    size_t size = MAX(rate * SLOW_STEP_MS / 1000, 1U);
    struct slice piece = slice_part(s->out[0], 0, size);
    if (connection_flush_with(c, &piece, 1) < 0)
        return false;
    session_expect(s);
    shard_timer_arm(&s->source->worker.shard, &s->pause, MAX(1000 * piece.size / rate, 1U));
    s->out[0] = slice_from(s->out[0], piece.size);
    if (s->out[0].size > 0)
        return false;
    s->out_count--;
    memmove(s->out, s->out + 1, s->out_count * sizeof(s->out[0]));
    return s->out_count == 0;
}

/* True: nothing is left to be sent. */
static bool session_push(struct source_session *s)
{
    if (s->out_count == 0)
        return true;
    if (!connection_idle(&s->connection))
        return false;
    if (s->source->options->slow > 0)
        return session_push_slowly(s);
    if (connection_flush_with(&s->connection, s->out, s->out_count) < 0)
        return false;
    s->out_count = 0;
    session_expect(s);
    return true;
}

/* ---- ends ---- */

void source_count_ramp(struct source_session *s)
{
    if (s->ramped)
        return;
    s->ramped = true;
    s->source->opening--;
    metric_add(&s->source->counts.tried, 1);
}

static bool in_transaction(const struct source_session *s)
{
    return s->state >= SOURCE_MAIL && s->state <= SOURCE_FINAL;
}

void source_close(struct source_session *s)
{
    if (in_transaction(s))
        metric_add(&s->source->counts.failed, s->next_sent ? 2 : 1);
    source_count_ramp(s);
    list_remove(&s->node);
    s->state = SOURCE_CLOSING;
    s->deadline_ms = 0;
    connection_close(&s->connection);
}

void source_fail(struct source_session *s, enum source_error error)
{
    metric_add(&s->source->counts.errors[error], 1);
    s->backoff_ms = MIN(MAX(s->backoff_ms * 2, BACKOFF_MIN_MS), BACKOFF_MAX_MS);
    source_close(s);
}

/* ---- reading ---- */

static void session_capability(struct source_session *s, struct slice line)
{
    struct slice word = slice_from(line, 4);
    if (slice_equal_nocase(word, SLICE("PIPELINING")))
        s->pipelining = true;
    else if (slice_equal_nocase(word, SLICE("CHUNKING")))
        s->chunking = true;
    else if (slice_equal_nocase(word, SLICE("STARTTLS")))
        s->starttls = true;
}

static bool is_digit(uint8_t octet)
{
    return octet >= '0' && octet <= '9';
}

/* False: wait for more. */
static bool session_read(struct source_session *s)
{
    struct slice line;
    enum connection_line got = connection_line(&s->connection, CONNECTION_LINE_BYTES - 2, &line);
    if (got == CONNECTION_LINE_MORE)
        return false;
    if ((got != CONNECTION_LINE_READY && got != CONNECTION_LINE_BARE_LF) || line.size < 3 ||
        !is_digit(line.data[0]) || !is_digit(line.data[1]) || !is_digit(line.data[2])) {
        source_fail(s, SOURCE_PROTOCOL);
        return false;
    }
    if (s->state == SOURCE_HELLO)
        session_capability(s, line);
    if (line.size > 3 && line.data[3] == '-')
        return true;
    unsigned code = (unsigned)(line.data[0] - '0') * 100 + (unsigned)(line.data[1] - '0') * 10 +
                    (unsigned)(line.data[2] - '0');
    source_reply(s, code);
    return s->state != SOURCE_CLOSING && s->state != SOURCE_HANDSHAKE;
}

/* ---- the session ---- */

static void session_open(struct source_session *s);

static void session_failed_socket(struct source_session *s)
{
    int error = s->connection.error;
    if (s->state != SOURCE_CONNECT)
        source_fail(s, SOURCE_RESET);
    else
        source_fail(s, error == -ECONNREFUSED ? SOURCE_CONNECT_REFUSED : SOURCE_CONNECT_FAILED);
}

/* True: the reply is late, or there is none to wait for and the session was closed. */
static bool session_late(struct source_session *s)
{
    struct shard *shard = &s->source->worker.shard;
    if (s->deadline_ms == 0 || timer_armed(&s->deadline))
        return false;
    if (shard->now_ms < s->deadline_ms) { /* it moved on since the timer was armed */
        shard_timer_arm(shard, &s->deadline, s->deadline_ms - shard->now_ms);
        return false;
    }
    source_fail(s, s->state == SOURCE_CONNECT ? SOURCE_CONNECT_FAILED : SOURCE_TIMEOUT);
    return true;
}

static void session_talk(struct source_session *s)
{
    struct connection *c = &s->connection;
    if (s->state == SOURCE_READY && s->thinking && !timer_armed(&s->pause)) {
        s->thinking = false;
        source_next(s);
    }
    /* Replies that came before the connection broke are still read. */
    for (;;) {
        bool pushed = session_push(s);
        bool slow = s->source->options->slow > 0;
        if ((!pushed && !slow && c->error == 0) || !session_read(s))
            break;
    }
    if (s->state == SOURCE_CLOSING)
        return;
    if (c->error < 0)
        session_failed_socket(s);
    else if (c->eof && s->state == SOURCE_QUIT)
        source_close(s);
    else if (c->eof)
        source_fail(s, SOURCE_CLOSED);
    else if (!session_late(s))
        connection_settle(c);
}

/* ---- TLS ---- */

static void session_handshake_failed(struct source_session *s)
{
    metric_add(&s->source->counts.tls.failed, 1);
    source_fail(s, SOURCE_TLS);
}

/* False: what was said last has not left yet, or there is no memory. */
static bool session_secure(struct source_session *s)
{
    struct connection *c = &s->connection;
    struct source *source = s->source;
    if (!connection_idle(c))
        return false;
    struct tls_session *session = secure_client_connect(
        &source->secure, (uint32_t)(s - source->sessions), &connection_ends, c);
    if (session == NULL) {
        session_handshake_failed(s);
        return false;
    }
    connection_secure(c, session);
    s->secure_ns = source->worker.shard.now_ns;
    session_expect(s);
    return true;
}

/* True: it is complete, and the talk goes on. */
static bool session_handshake(struct source_session *s)
{
    struct connection *c = &s->connection;
    struct source *source = s->source;
    if (c->tls == NULL && !session_secure(s)) {
        if (s->state == SOURCE_HANDSHAKE && c->error < 0)
            session_handshake_failed(s);
        return false;
    }
    switch (connection_handshake(c)) {
    case TLS_OK: break;
    case TLS_WANT_IN:
    case TLS_WANT_OUT:
        if (c->error < 0)
            session_handshake_failed(s);
        else if (!session_late(s))
            connection_settle(c);
        return false;
    default: session_handshake_failed(s); return false;
    }
    secure_count(&source->counts.tls, c->tls,
                 (source->worker.shard.now_ns - s->secure_ns) / US_IN_NS);
    s->secured = true;
    source_secured(s);
    return true;
}

static void session_run(struct task *task)
{
    struct source_session *s = container_of(task, struct source_session, task);
    switch (s->state) {
    case SOURCE_CLOSING:
    case SOURCE_DONE: return;
    case SOURCE_OFF: session_open(s); return;
    case SOURCE_CONNECT:
        if (s->connection.error < 0)
            session_failed_socket(s);
        else if (s->connection.connected)
            s->state = s->source->options->tls.mode == SECURE_IMPLICIT ? SOURCE_HANDSHAKE
                                                                       : SOURCE_GREETING;
        else if (session_late(s))
            return;
        if (s->state != SOURCE_GREETING && s->state != SOURCE_HANDSHAKE)
            return;
        break;
    default: break;
    }
    if (s->state == SOURCE_HANDSHAKE && !session_handshake(s))
        return;
    session_talk(s);
    if (s->state == SOURCE_HANDSHAKE && session_handshake(s))
        session_talk(s);
}

static void session_done(struct source_session *s)
{
    s->state = SOURCE_DONE;
    metric_add(&s->source->counts.done, 1);
}

static void session_closed(struct connection *connection)
{
    struct source_session *s = container_of(connection, struct source_session, connection);
    struct source *source = s->source;
    struct shard *shard = &source->worker.shard;
    if (s->greeted)
        metric_sub(&source->counts.open, 1);
    s->greeted = false;
    s->state = SOURCE_OFF;
    s->thinking = false;
    timer_disarm(&shard->timers, &s->pause);
    timer_disarm(&shard->timers, &s->deadline);
    shard_forget(&s->task);
    if (source_over(source) || source->worker.stop_by_ms > 0)
        session_done(s);
    else if (s->backoff_ms == 0)
        session_open(s);
    else
        shard_timer_arm(shard, &s->pause, s->backoff_ms);
}

/* A different one for each session, in turn. */
static struct net_address session_from(const struct source_session *s)
{
    const struct source *source = s->source;
    uint32_t index = source->first + (uint32_t)(s - source->sessions);
    return worker_from(index % source->options->from_addresses);
}

static void session_open(struct source_session *s)
{
    struct source *source = s->source;
    const struct source_options *o = source->options;
    if (source_over(source) || source->worker.stop_by_ms > 0) {
        source_count_ramp(s);
        session_done(s);
        return;
    }
    struct net_address from;
    if (o->from_addresses > 0)
        from = session_from(s);
    connection_init(&s->connection, &source->worker.shard, &source->worker.pools, &s->task,
                    session_closed);
    s->out_count = 0;
    s->in_session = 0;
    s->quit_sent = false;
    s->next_sent = false;
    s->hello_tried = false;
    s->pipelining = false;
    s->chunking = false;
    s->starttls = false;
    s->secured = false;
    s->state = SOURCE_CONNECT;
    int socket;
    if (ring_socket(source->worker.ring, &o->to, o->from_addresses > 0 ? &from : NULL, &socket) <
        0) {
        source_fail(s, SOURCE_CONNECT_FAILED); /* closed() comes, also without a socket */
        return;
    }
    metric_add(&source->counts.connections, 1);
    connection_connect(&s->connection, socket, &o->to);
    session_expect(s);
}

static void session_wake(struct source_session *s)
{
    if (s->state != SOURCE_CLOSING && s->state != SOURCE_DONE)
        shard_run_later(&s->source->worker.shard, &s->task);
}

static void session_on_deadline(struct timer *timer)
{
    session_wake(container_of(timer, struct source_session, deadline));
}

static void session_on_pause(struct timer *timer)
{
    session_wake(container_of(timer, struct source_session, pause));
}

/* It is over: nobody waits any more for a pause to end. */
static void session_hurry(struct source_session *s)
{
    if (s->state == SOURCE_SILENT) {
        source_close(s);
    } else if (s->state == SOURCE_OFF || s->thinking) {
        timer_disarm(&s->source->worker.shard.timers, &s->pause);
        session_wake(s);
    }
}

/* ---- all of them ---- */

int source_sessions_init(struct source *source, uint32_t count, uint32_t first)
{
    source->count = count;
    source->first = first;
    list_init(&source->waiting);
    source->sessions = calloc(count, sizeof(*source->sessions));
    if (source->sessions == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        struct source_session *s = &source->sessions[i];
        s->source = source;
        task_init(&s->task, session_run);
        timer_init(&s->deadline, session_on_deadline);
        timer_init(&s->pause, session_on_pause);
        list_init(&s->node);
        source_text_init(&source->texts, &s->text, i);
    }
    return 0;
}

void source_sessions_free(struct source *source)
{
    free(source->sessions);
    source->sessions = NULL;
}

void source_sessions_tick(struct source *source)
{
    struct shard *shard = &source->worker.shard;
    while (source->opened < source->count && source->opening < OPENING_MAX) {
        source->opening++;
        session_open(&source->sessions[source->opened++]);
    }
    bool go = source_flag(&source->shared->go);
    if (go && source->due_ns == 0)
        source->due_ns = shard->now_ns;
    bool over = source_over(source);
    /* By the rate, a message that cannot be begun for want of a session stays due. */
    while (!list_empty(&source->waiting) && (over || (go && source_due(source)))) {
        struct list *node = list_pop(&source->waiting);
        struct source_session *s = container_of(node, struct source_session, node);
        source_next(s);
        shard_run_later(shard, &s->task);
    }
    if (over)
        for (uint32_t i = 0; i < source->opened; i++)
            session_hurry(&source->sessions[i]);
    if (source->acked.fd >= 0 && shard->now_ms - source->ids_flushed_ms >= ACKED_FLUSH_MS) {
        source->ids_flushed_ms = shard->now_ms;
        result_ids_flush(&source->acked);
    }
}

bool source_close_all(struct source *source)
{
    bool all = true;
    for (uint32_t i = 0; i < source->opened; i++) {
        struct source_session *s = &source->sessions[i];
        if (s->state == SOURCE_DONE)
            continue;
        all = false;
        if (s->state == SOURCE_OFF)
            session_wake(s);
        else if (s->state != SOURCE_CLOSING)
            source_close(s);
    }
    return all;
}
