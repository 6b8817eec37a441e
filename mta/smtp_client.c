/*
 * smtp_client.c - the outbound session: state table, life and end
 *
 *   CONNECT -> GREETING -> EHLO -------------> READY -> ENVELOPE -> CONTENT -> FINAL
 *                           `500,502-> HELO -->  ^  ^       |  `---BDAT-------->  |
 *                                                |  `-------|------2xx------------'
 *                                                `--RESET <-'-----else------------'
 *   refused, READY for too long, asked to --> QUIT --> CLOSE --nothing in flight--> gone()
 *   anything out of order, 421, lost, timeout --------> CLOSE
 *
 * Every reply is read by smtp_response, counted against what was asked: a reply that nobody asked
 * for means that the two sides are out of step (or that somebody is between them), and a client out
 * of step takes the wrong 250 for its own and loses mail. So it closes.
 *
 * Owns the connection and one timer; borrows target strings, transaction and body slices. Nothing
 * of a transaction is handed back while a send may still read its bytes. Bounds: SMTP_CLIENT_*, and
 * the bounds of smtp_response.
 *
 * Surprises: after a failed send the session still waits a moment (LOST_GRACE_MS) for what the peer
 * said before it closed, for that is the better explanation. A reply may arrive before the landing
 * of the send that it answers.
 */
#include "mta/smtp_client.h"

#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "mta/smtp_client_inside.h"

enum { LOST_GRACE_MS = 2'000 };

static enum client_step client_connect(struct smtp_client *c);
static enum client_step client_greeting(struct smtp_client *c);
static enum client_step client_hello(struct smtp_client *c);
static enum client_step client_ready(struct smtp_client *c);
static enum client_step client_reset(struct smtp_client *c);
static enum client_step client_quit(struct smtp_client *c);
static enum client_step client_close(struct smtp_client *c);

/* clang-format off */
static const struct {
    const char *name;
    enum client_step (*step)(struct smtp_client *);
    enum smtp_stage stage;    /* what is waited for there; its timeout is in stage_timeouts */
} client_states[SMTP_CLIENT_STATES] = {
    [SMTP_CLIENT_CONNECT]  = { "connect",  client_connect,       SMTP_STAGE_CONNECT },
    [SMTP_CLIENT_GREETING] = { "greeting", client_greeting,      SMTP_STAGE_GREETING },
    [SMTP_CLIENT_EHLO]     = { "ehlo",     client_hello,         SMTP_STAGE_HELO },
    [SMTP_CLIENT_HELO]     = { "helo",     client_hello,         SMTP_STAGE_HELO },
    [SMTP_CLIENT_STARTTLS] = { "starttls", smtp_client_starttls, SMTP_STAGE_TLS },
    [SMTP_CLIENT_HANDSHAKE] = { "handshake", smtp_client_handshake, SMTP_STAGE_TLS },
    [SMTP_CLIENT_READY]    = { "ready",    client_ready,         SMTP_STAGE_NONE },
    [SMTP_CLIENT_ENVELOPE] = { "envelope", smtp_client_envelope, SMTP_STAGE_MAIL },  /* and on */
    [SMTP_CLIENT_CONTENT]  = { "content",  smtp_client_content,  SMTP_STAGE_CONTENT },
    [SMTP_CLIENT_FINAL]    = { "final",    smtp_client_final,    SMTP_STAGE_FINAL },
    [SMTP_CLIENT_RESET]    = { "reset",    client_reset,         SMTP_STAGE_RESET },
    [SMTP_CLIENT_QUIT]     = { "quit",     client_quit,          SMTP_STAGE_QUIT },
    [SMTP_CLIENT_CLOSE]    = { "close",    client_close,         SMTP_STAGE_NONE },  /* frees c */
};

static const size_t stage_timeouts[SMTP_STAGES] = {
    [SMTP_STAGE_NONE]     = offsetof(struct smtp_client_timeouts, idle_ms),
    [SMTP_STAGE_CONNECT]  = offsetof(struct smtp_client_timeouts, connect_ms),
    [SMTP_STAGE_GREETING] = offsetof(struct smtp_client_timeouts, greeting_ms),
    [SMTP_STAGE_HELO]     = offsetof(struct smtp_client_timeouts, helo_ms),
    [SMTP_STAGE_TLS]      = offsetof(struct smtp_client_timeouts, tls_ms),
    [SMTP_STAGE_MAIL]     = offsetof(struct smtp_client_timeouts, mail_ms),
    [SMTP_STAGE_RCPT]     = offsetof(struct smtp_client_timeouts, rcpt_ms),
    [SMTP_STAGE_DATA]     = offsetof(struct smtp_client_timeouts, data_ms),
    [SMTP_STAGE_CONTENT]  = offsetof(struct smtp_client_timeouts, block_ms),
    [SMTP_STAGE_FINAL]    = offsetof(struct smtp_client_timeouts, final_ms),
    [SMTP_STAGE_RESET]    = offsetof(struct smtp_client_timeouts, reset_ms),
    [SMTP_STAGE_QUIT]     = offsetof(struct smtp_client_timeouts, quit_ms),
};
/* clang-format on */

/* ---- the machine ---- */

static void client_check(const struct smtp_client *c)
{
    CHECK(c->state < SMTP_CLIENT_STATES);
    switch (c->state) {
    case SMTP_CLIENT_ENVELOPE:
    case SMTP_CLIENT_CONTENT:
    case SMTP_CLIENT_FINAL:
        CHECK(c->transaction != NULL);
        CHECK(c->rcpt_answered <= c->rcpt_sent);
        CHECK(c->rcpt_sent <= c->transaction->recipients_count);
        CHECK(c->body_taken <= c->transaction->size || c->body_error < 0);
        break;
    case SMTP_CLIENT_READY: CHECK(!c->borrowed); break;
    case SMTP_CLIENT_CLOSE: CHECK(c->connection.closing); break;
    default: CHECK(c->transaction == NULL);
    }
}

static void client_run(struct task *task)
{
    struct smtp_client *c = container_of(task, struct smtp_client, task);
    for (unsigned steps = 0; steps < SMTP_CLIENT_STEPS_MAX; steps++) {
        client_check(c);
        if (c->abort_wanted && c->state != SMTP_CLIENT_CLOSE)
            smtp_client_fail(c, SMTP_GONE_ABORT, 0);
        if (client_states[c->state].step(c) == CLIENT_WAIT)
            return;
    }
    shard_run_later(c->clients->shard, &c->task);
}

static void client_on_timer(struct timer *timer)
{
    struct smtp_client *c = container_of(timer, struct smtp_client, timer);
    c->timed_out = true;
    shard_run_later(c->clients->shard, &c->task);
}

enum smtp_stage smtp_client_stage(const struct smtp_client *c)
{
    if (c->state != SMTP_CLIENT_ENVELOPE)
        return client_states[c->state].stage;
    if (!c->mail_answered)
        return SMTP_STAGE_MAIL;
    if (c->rcpt_answered < c->rcpt_sent || !c->end_sent)
        return SMTP_STAGE_RCPT;
    return SMTP_STAGE_DATA;
}

void smtp_client_arm(struct smtp_client *c)
{
    const uint8_t *timeouts = (const uint8_t *)c->target.timeouts;
    uint32_t delay_ms;
    memcpy(&delay_ms, timeouts + stage_timeouts[smtp_client_stage(c)], sizeof(delay_ms));
    struct shard *shard = c->clients->shard;
    uint64_t due_ms = delay_ms == 0 ? UINT64_MAX : shard->now_ms + delay_ms;
    if (c->transaction != NULL)
        due_ms = MIN(due_ms, c->transaction_until_ms);
    c->timed_out = false;
    if (due_ms == UINT64_MAX)
        shard_timer_disarm(shard, &c->timer);
    else
        timer_arm(&shard->timers, &c->timer, due_ms);
}

enum client_step smtp_client_enter(struct smtp_client *c, enum smtp_client_state state)
{
    c->state = state;
    c->sent = false;
    smtp_client_arm(c);
    return CLIENT_AGAIN;
}

enum client_reply smtp_client_reply(struct smtp_client *c)
{
    for (;;) {
        struct slice in = connection_peek(&c->connection);
        if (in.size == 0)
            return CLIENT_REPLY_NONE;
        if (c->reply_taken)
            smtp_response_begin(&c->response);
        c->reply_taken = false;
        size_t before = in.size;
        enum smtp_response_result result = smtp_response_take(&c->response, &in);
        connection_take(&c->connection, before - in.size);
        if (result == SMTP_RESPONSE_BAD)
            return CLIENT_REPLY_BAD;
        if (result == SMTP_RESPONSE_MORE)
            continue;
        if (c->state == SMTP_CLIENT_EHLO && c->response.code == 250)
            smtp_capabilities_add(&c->capabilities, smtp_response_line(&c->response));
        if (c->callbacks->heard != NULL)
            c->callbacks->heard(c, smtp_response_line(&c->response));
        if (result == SMTP_RESPONSE_DONE) {
            c->reply_taken = true;
            return CLIENT_REPLY_DONE;
        }
    }
}

static bool client_dead(const struct smtp_client *c)
{
    return c->connection.eof || c->connection.error < 0;
}

enum client_step smtp_client_await(struct smtp_client *c)
{
    struct connection *connection = &c->connection;
    if (c->timed_out)
        return smtp_client_fail(c, c->lost_waits ? SMTP_GONE_LOST : SMTP_GONE_TIMEOUT,
                                c->lost_waits ? connection->error : 0);
    if (connection->error == -ENOBUFS)
        return smtp_client_fail(c, SMTP_GONE_LOCAL, -ENOBUFS);
    if (connection->eof || connection->tls_failed ||
        (connection->error < 0 && !connection->recv.inflight))
        return smtp_client_fail(c, SMTP_GONE_LOST, connection->error);
    if (connection->error < 0) {
        struct shard *shard = c->clients->shard;
        uint64_t due_ms = shard->now_ms + LOST_GRACE_MS;
        if (!c->lost_waits || c->timer.due_ms > due_ms)
            timer_arm(&shard->timers, &c->timer, due_ms);
        c->lost_waits = true;
    }
    connection_settle(connection);
    return CLIENT_WAIT;
}

bool smtp_client_only_421(struct smtp_client *c)
{
    struct slice in = connection_peek(&c->connection);
    return in.size == 0 || memcmp(in.data, "421", MIN(in.size, (size_t)3)) == 0;
}

enum client_step smtp_client_unasked(struct smtp_client *c)
{
    switch (smtp_client_reply(c)) {
    case CLIENT_REPLY_NONE: return smtp_client_await(c);
    case CLIENT_REPLY_DONE:
        if (c->response.code == 421)
            return smtp_client_closing(c);
        break;
    case CLIENT_REPLY_BAD: break;
    }
    return smtp_client_fail(c, SMTP_GONE_VIOLATION, 0);
}

bool smtp_client_say(struct smtp_client *c, size_t (*write)(const struct smtp_client *, uint8_t *))
{
    uint8_t *out = connection_reserve(&c->connection, SMTP_CLIENT_COMMAND_MAX);
    if (out == NULL)
        return false;
    connection_commit(&c->connection, write(c, out));
    connection_flush(&c->connection);
    smtp_client_arm(c);
    c->sent = true;
    return true;
}

/* ---- the end ---- */

static void client_end_text(struct smtp_client *c, struct slice text)
{
    size_t size = MIN(text.size, sizeof(c->end_text));
    if (size > 0)
        memcpy(c->end_text, text.data, size);
    c->end.text = slice_of(c->end_text, size);
}

static void client_end_by_reply(struct smtp_client *c)
{
    unsigned klass = c->response.code / 100;
    c->end.code = c->response.code;
    c->end.verdict = klass == 5 ? SMTP_VERDICT_PERMANENT : SMTP_VERDICT_TEMPORARY;
    if (c->response.enhanced.klass != 0)
        c->end.enhanced = c->response.enhanced;
    else if (klass == 5)
        c->end.enhanced = (struct smtp_enhanced) { 5, 3, 2 };
    client_end_text(c, smtp_response_text(&c->response));
}

/* An end between two messages is nobody's failure. */
static bool client_idle(const struct smtp_client *c)
{
    return c->state == SMTP_CLIENT_READY && c->end.was_ready;
}

static void client_end(struct smtp_client *c, enum smtp_gone why, int error)
{
    const struct smtp_gone_words *words = smtp_gone_words(why);
    c->end.why = why;
    c->end.stage = smtp_client_stage(c);
    c->end.error = error;
    c->end.enhanced = words->enhanced;
    c->end.asked = c->secured && tls_client_asked(c->connection.tls);
    bool planned = why == SMTP_GONE_QUIT || why == SMTP_GONE_ABORT || client_idle(c);
    c->end.verdict = planned ? SMTP_VERDICT_NONE : SMTP_VERDICT_TEMPORARY;
    if (why == SMTP_GONE_TLS) {
        if (c->end.fault == SMTP_TLS_NOT_OFFERED || c->end.fault == SMTP_TLS_REFUSED)
            c->end.enhanced = (struct smtp_enhanced) { 4, 7, 0 };
        client_end_text(c, slice_of_string(c->tls_why));
    } else if (why == SMTP_GONE_REFUSED || why == SMTP_GONE_CLOSING) {
        client_end_by_reply(c);
        c->end.verdict = planned ? SMTP_VERDICT_NONE : c->end.verdict;
    } else if (words->words != NULL) {
        char text[SMTP_RESPONSE_TEXT_MAX];
        const char *reason = error < 0 ? strerror(-error) : NULL;
        int size = snprintf(text, sizeof(text), "%s%s%s%s%s%s", words->words,
                            reason != NULL ? " (" : "", reason != NULL ? reason : "",
                            reason != NULL ? ")" : "", c->end.stage == SMTP_STAGE_NONE ? "" : ": ",
                            c->end.stage == SMTP_STAGE_NONE ? "" : smtp_stage_name(c->end.stage));
        CHECK(size > 0);
        client_end_text(c, slice_of(text, MIN((size_t)size, sizeof(text) - 1)));
    }
}

static void client_count_end(struct smtp_client *c, enum smtp_gone why)
{
    struct smtp_client_numbers *numbers = &c->clients->numbers;
    switch (why) {
    case SMTP_GONE_CONNECT: metric_add(&numbers->connect_failures, 1); break;
    case SMTP_GONE_REFUSED: metric_add(&numbers->greetings_refused, 1); break;
    case SMTP_GONE_CLOSING: metric_add(&numbers->closings, 1); break;
    case SMTP_GONE_LOST: metric_add(&numbers->lost, client_idle(c) ? 0 : 1); break;
    case SMTP_GONE_TIMEOUT: metric_add(&numbers->timeouts, 1); break;
    case SMTP_GONE_VIOLATION: metric_add(&numbers->violations, 1); break;
    case SMTP_GONE_CHUNKING: metric_add(&numbers->chunking_broken, 1); break;
    case SMTP_GONE_TLS: metric_add(&numbers->tls_faults[c->end.fault], 1); break;
    default: break;
    }
}

/* Nothing more is said; closed() comes when nothing is in flight. */
static enum client_step client_shut(struct smtp_client *c)
{
    c->state = SMTP_CLIENT_CLOSE;
    shard_timer_disarm(c->clients->shard, &c->timer);
    connection_close(&c->connection);
    return CLIENT_WAIT;
}

enum client_step smtp_client_fail(struct smtp_client *c, enum smtp_gone why, int error)
{
    if (c->state == SMTP_CLIENT_QUIT)
        return client_shut(c); /* why it quits is on record */
    if (c->state == SMTP_CLIENT_CONNECT && why != SMTP_GONE_ABORT) {
        error = why == SMTP_GONE_TIMEOUT ? -ETIMEDOUT : error;
        why = SMTP_GONE_CONNECT;
    }
    if (why == SMTP_GONE_LOST && smtp_client_certificate_refused(c)) {
        error = 0;
        why = SMTP_GONE_TLS;
    }
    client_end(c, why, error);
    client_count_end(c, why);
    if (c->transaction != NULL)
        smtp_client_settle_rest(c, why);
    return client_shut(c);
}

enum client_step smtp_client_closing(struct smtp_client *c)
{
    return smtp_client_fail(c, SMTP_GONE_CLOSING, 0);
}

static enum client_step client_refused(struct smtp_client *c)
{
    if (c->response.code == 421)
        return smtp_client_closing(c);
    if (c->response.code < 400)
        return smtp_client_fail(c, SMTP_GONE_VIOLATION, 0);
    client_end(c, SMTP_GONE_REFUSED, 0);
    client_count_end(c, SMTP_GONE_REFUSED);
    return smtp_client_enter(c, SMTP_CLIENT_QUIT);
}

static void client_on_closed(struct connection *connection)
{
    struct smtp_client *c = container_of(connection, struct smtp_client, connection);
    struct smtp_clients *clients = c->clients;
    if (c->transaction != NULL)
        smtp_client_hand_back(c);
    metric_sub(&clients->numbers.open, 1);
    c->end.transactions = c->transactions;
    c->callbacks->gone(c, &c->end);
    shard_timer_disarm(clients->shard, &c->timer);
    shard_forget(&c->task);
    pool_give(&clients->pool, c);
}

/* ---- the states, in the order of the protocol ---- */

static enum client_step client_connect(struct smtp_client *c)
{
    if (!c->connection.connected)
        return smtp_client_await(c);
    bool implicit = c->target.tls.client != NULL && c->target.tls.implicit;
    return smtp_client_enter(c, implicit ? SMTP_CLIENT_HANDSHAKE : SMTP_CLIENT_GREETING);
}

/* The first word of its greeting, or of its answer to EHLO. */
static bool client_is_us(const struct smtp_client *c)
{
    const struct slice text = slice_of(c->response.text, c->response.text_size);
    const ptrdiff_t blank = slice_find(text, ' ');
    const struct slice name = slice_part(text, 0, blank < 0 ? text.size : (size_t)blank);
    return (c->target.flags & SMTP_CLIENT_FOREIGN) != 0 &&
           slice_equal_nocase(name, slice_of_string(c->target.helo_name));
}

static enum client_step client_greeting(struct smtp_client *c)
{
    switch (smtp_client_reply(c)) {
    case CLIENT_REPLY_NONE: return smtp_client_await(c);
    case CLIENT_REPLY_BAD: return smtp_client_fail(c, SMTP_GONE_VIOLATION, 0);
    case CLIENT_REPLY_DONE: break;
    }
    if (c->response.code != 220)
        return client_refused(c);
    if (connection_has_input(&c->connection))
        return smtp_client_unasked(c); /* it answers questions that were not asked yet */
    if (client_is_us(c))
        return smtp_client_fail(c, SMTP_GONE_LOOP, 0);
    return smtp_client_enter(c, SMTP_CLIENT_EHLO);
}

static size_t client_write_hello(const struct smtp_client *c, uint8_t *out)
{
    return smtp_client_write_hello(c, c->state == SMTP_CLIENT_EHLO, out);
}

static enum client_step client_hello(struct smtp_client *c)
{
    if (!c->sent) {
        c->capabilities = (struct smtp_capabilities) { 0 };
        if (!smtp_client_say(c, client_write_hello))
            return smtp_client_await(c);
    }
    switch (smtp_client_reply(c)) {
    case CLIENT_REPLY_NONE: return smtp_client_await(c);
    case CLIENT_REPLY_BAD: return smtp_client_fail(c, SMTP_GONE_VIOLATION, 0);
    case CLIENT_REPLY_DONE: break;
    }
    if (connection_has_input(&c->connection))
        return smtp_client_unasked(c);
    bool unknown = c->response.code == 500 || c->response.code == 502;
    if (unknown && c->state == SMTP_CLIENT_EHLO && c->target.protocol == SMTP_CLIENT_SMTP) {
        metric_add(&c->clients->numbers.helo_fallbacks, 1);
        return smtp_client_enter(c, SMTP_CLIENT_HELO); /* RFC 5321 3.2 */
    }
    if (c->response.code != 250)
        return client_refused(c);
    if (client_is_us(c))
        return smtp_client_fail(c, SMTP_GONE_LOOP, 0);
    return smtp_client_protect(c);
}

static enum client_step client_ready(struct smtp_client *c)
{
    if (connection_has_input(&c->connection) || !c->reply_taken)
        return smtp_client_unasked(c); /* nothing was asked: a 421, or its beginning */
    if (client_dead(c))
        return smtp_client_await(c);
    if (c->transaction != NULL)
        return smtp_client_begin(c);
    if (c->quit_wanted || c->timed_out) {
        client_end(c, SMTP_GONE_QUIT, 0);
        return smtp_client_enter(c, SMTP_CLIENT_QUIT);
    }
    if (c->tell_ready) {
        c->tell_ready = false;
        c->end.was_ready = true;
        c->callbacks->ready(c);
        return CLIENT_AGAIN;
    }
    connection_settle(&c->connection);
    return CLIENT_WAIT;
}

static size_t client_write_reset(const struct smtp_client *c, uint8_t *out)
{
    (void)c;
    memcpy(out, "RSET\r\n", 6);
    return 6;
}

static enum client_step client_reset(struct smtp_client *c)
{
    if (!c->sent) {
        if (connection_has_input(&c->connection))
            return smtp_client_unasked(c);
        if (!smtp_client_say(c, client_write_reset))
            return smtp_client_await(c);
        metric_add(&c->clients->numbers.resets, 1);
    }
    switch (smtp_client_reply(c)) {
    case CLIENT_REPLY_NONE: return smtp_client_await(c);
    case CLIENT_REPLY_BAD: return smtp_client_fail(c, SMTP_GONE_VIOLATION, 0);
    case CLIENT_REPLY_DONE: break;
    }
    if (c->response.code == 421)
        return smtp_client_closing(c);
    if (c->response.code / 100 != 2)
        return smtp_client_fail(c, SMTP_GONE_VIOLATION, 0); /* RFC 5321 4.1.1.5: always 250 */
    c->tell_ready = true;
    return smtp_client_enter(c, SMTP_CLIENT_READY);
}

static size_t client_write_quit(const struct smtp_client *c, uint8_t *out)
{
    (void)c;
    memcpy(out, "QUIT\r\n", 6);
    return 6;
}

/* Whatever comes now, or nothing: what there was to decide is decided. */
static enum client_step client_quit(struct smtp_client *c)
{
    if (!c->sent && !smtp_client_say(c, client_write_quit))
        return client_shut(c);
    bool over = connection_has_input(&c->connection) || client_dead(c) || c->timed_out;
    if (over && !client_dead(c) && !c->timed_out && c->secured && !c->connection.bye_wanted) {
        connection_bye(&c->connection);
        connection_flush(&c->connection);
    }
    if (over && (connection_idle(&c->connection) || client_dead(c) || c->timed_out))
        return client_shut(c);
    connection_settle(&c->connection);
    return CLIENT_WAIT;
}

static enum client_step client_close(struct smtp_client *c)
{
    (void)c;
    return CLIENT_WAIT;
}

/* ---- for the caller ---- */

uint64_t smtp_clients_bytes(uint32_t count)
{
    return pool_bytes(sizeof(struct smtp_client), count);
}

int smtp_clients_init(struct smtp_clients *clients, struct shard *shard,
                      struct connection_pools *connections, uint32_t count)
{
    *clients = (struct smtp_clients) { .shard = shard, .connections = connections };
    return pool_init(&clients->pool, "clients", sizeof(struct smtp_client), count);
}

void smtp_clients_free(struct smtp_clients *clients)
{
    CHECK(clients->pool.used == 0);
    pool_free(&clients->pool);
}

int smtp_client_start(struct smtp_clients *clients, const struct smtp_client_target *target,
                      const struct smtp_client_callbacks *callbacks, void *owner,
                      struct smtp_client **client)
{
    CHECK(target->timeouts != NULL);
    CHECK(target->helo_name != NULL);
    CHECK(target->address.port != 0);
    struct smtp_client *c = pool_take(&clients->pool);
    if (c == NULL)
        return -ENOBUFS;
    int socket = -1;
    int r = ring_socket(clients->shard->ring, &target->address, target->source, &socket);
    if (r < 0) {
        pool_give(&clients->pool, c);
        return r;
    }
    *c = (struct smtp_client) {
        .owner = owner,
        .target = *target,
        .clients = clients,
        .callbacks = callbacks,
        .transaction_until_ms = UINT64_MAX,
    };
    task_init(&c->task, client_run);
    timer_init(&c->timer, client_on_timer);
    smtp_response_begin(&c->response);
    connection_init(&c->connection, clients->shard, clients->connections, &c->task,
                    client_on_closed);
    connection_connect(&c->connection, socket, &c->target.address);
    smtp_client_enter(c, SMTP_CLIENT_CONNECT);
    metric_add(&clients->numbers.connects, 1);
    metric_add(&clients->numbers.open, 1);
    *client = c;
    return 0;
}

void smtp_client_transact(struct smtp_client *c, struct smtp_transaction *transaction)
{
    CHECK(c->transaction == NULL);
    CHECK(c->state == SMTP_CLIENT_READY || c->state == SMTP_CLIENT_CLOSE);
    CHECK(c->end.was_ready);
    CHECK(transaction->recipients_count > 0);
    CHECK(transaction->texts != NULL || transaction->texts_capacity == 0);
    c->transaction = transaction;
    c->begun = false;
    if (c->state == SMTP_CLIENT_CLOSE) {
        /* It is over, and gone() is on its way: the closing hands this one back untried. */
        smtp_client_settle_rest(c, SMTP_GONE_LOST);
        return;
    }
    shard_run_later(c->clients->shard, &c->task);
}

void smtp_client_body_ready(struct smtp_client *c)
{
    if (c->state == SMTP_CLIENT_ENVELOPE || c->state == SMTP_CLIENT_CONTENT)
        shard_run_later(c->clients->shard, &c->task);
}

void smtp_client_quit(struct smtp_client *c)
{
    c->quit_wanted = true;
    if (c->state != SMTP_CLIENT_CLOSE)
        shard_run_later(c->clients->shard, &c->task);
}

void smtp_client_abort(struct smtp_client *c)
{
    c->abort_wanted = true;
    if (c->state != SMTP_CLIENT_CLOSE)
        shard_run_later(c->clients->shard, &c->task);
}
