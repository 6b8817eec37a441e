/*
 * sink_session.c - takes mail, checks its framing to the letter, keeps none of it
 *
 *   COMMAND --DATA--> CONTENT --CRLF.CRLF--> FINAL --reply--> COMMAND
 *           --BDAT--> CONTENT --chunk------> COMMAND
 *                             --last chunk-> FINAL
 *           --refused BDAT--> SKIP --its octets--> COMMAND
 *           --STARTTLS------> HANDSHAKE (with --tls implicit it begins there) --> COMMAND
 *
 * FINAL waits --delay-ms; then the ids go to their list, and only after that the replies to the
 * socket: sessions that have a fresh 250 wait for the hook at the end of the step, which writes the
 * list once for all of them.
 *
 * A session holds at most one connection's share of receive buffers; output is bounded by the
 * connection's block: no command is read while there is no room for its reply.
 */
#include "bench/sink_session.h"

#include <stdio.h>

#include "core/check.h"
#include "core/metrics.h"

enum { REPLY_ROOM = 512, US_IN_NS = 1'000, DROP_CONTENT_MAX = 2'048 };

enum sink_state { SINK_COMMAND, SINK_CONTENT, SINK_SKIP, SINK_FINAL, SINK_HANDSHAKE };

/* Where a connection that is to be cut, is cut. */
enum sink_drop {
    DROP_NOT,
    DROP_MAIL,
    DROP_RCPT,
    DROP_DATA,
    DROP_CONTENT,
    DROP_BEFORE_FINAL, /* nothing was recorded */
    DROP_AFTER_FINAL,  /* recorded, and the reply is lost: the client will send it again */
    DROP_POINTS
};

struct sink_session {
    struct connection connection;
    struct task task;
    struct timer final_timer; /* --delay-ms */
    struct timer reply_timer; /* --reply-delay-ms */
    struct list node;
    struct list unflushed;
    struct sink *sink;
    struct smtp_data data;
    uint64_t begun_ns;  /* MAIL */
    uint64_t left;      /* octets to skip */
    uint64_t drop_at;   /* octets of content */
    uint64_t secure_ns; /* the handshake begun */
    uint32_t recipients;
    uint32_t finals; /* LMTP: replies still to give */
    uint32_t accepted;
    uint32_t header_size;
    uint8_t state;
    uint8_t drop;
    bool greeted;
    bool mail;
    bool bdat;
    bool quit;
    bool final_begun; /* the delay before the final reply is under way or over */
    bool reply_held;  /* by --reply-delay-ms */
    bool secured;
    uint8_t header[SINK_HEADER_KEPT];
};

static void reply(struct sink_session *s, struct slice text)
{
    uint8_t *out = connection_reserve(&s->connection, text.size);
    if (out == NULL)
        return; /* the socket failed meanwhile: the next step sees it */
    memcpy(out, text.data, text.size);
    connection_commit(&s->connection, text.size);
}

static void reply_bad(struct sink_session *s, struct slice text)
{
    metric_add(&s->sink->counts.bad_commands, 1);
    reply(s, text);
}

static bool chance(struct sink *sink, double share)
{
    if (share <= 0)
        return false;
    return (double)(random_next(&sink->worker.shard.random) >> 11) < share * 0x1p53;
}

static void reply_error(struct sink_session *s)
{
    unsigned code = s->sink->options->error_code;
    if (code == 0)
        code = random_below(&s->sink->worker.shard.random, 2) == 0 ? 451 : 550;
    char text[64];
    int size = snprintf(text, sizeof(text), "%u %u.3.0 refused as asked for\r\n", code, code / 100);
    reply(s, slice_of(text, (size_t)size));
}

static void transaction_end(struct sink_session *s)
{
    s->state = SINK_COMMAND;
    s->mail = false;
    s->bdat = false;
    s->final_begun = false;
    s->recipients = 0;
    s->accepted = 0;
    s->header_size = 0;
    s->drop = DROP_NOT;
}

static bool drop_here(struct sink_session *s, enum sink_drop point)
{
    if (LIKELY(s->drop != point))
        return false;
    metric_add(&s->sink->counts.dropped, 1);
    transaction_end(s);
    connection_close(&s->connection);
    return true;
}

/* ---- commands ---- */

static void command_hello(struct sink_session *s, bool extended)
{
    bool offers = s->sink->options->tls.mode == SECURE_STARTTLS && !s->secured;
    transaction_end(s);
    s->greeted = true;
    if (!extended)
        reply(s, SLICE("250 sink\r\n"));
    else
        reply(s, offers ? s->sink->hello_in_clear : s->sink->hello);
}

static void command_starttls(struct sink_session *s)
{
    if (s->sink->options->tls.mode != SECURE_STARTTLS || s->secured) {
        reply_bad(s, SLICE("503 5.5.1 not now\r\n"));
        return;
    }
    if (connection_has_input(&s->connection)) { /* RFC 3207 6: it was said in clear */
        reply_bad(s, SLICE("554 5.5.1 nothing may follow STARTTLS\r\n"));
        s->quit = true;
        return;
    }
    transaction_end(s);
    s->greeted = false;
    s->state = SINK_HANDSHAKE;
    reply(s, SLICE("220 2.0.0 go on\r\n"));
}

/* The next word of what is left of a line; empty at its end. */
static struct slice next_word(struct slice *left)
{
    while (left->size > 0 && left->data[0] == ' ')
        *left = slice_from(*left, 1);
    ptrdiff_t blank = slice_find(*left, ' ');
    struct slice word = blank < 0 ? *left : slice_part(*left, 0, (size_t)blank);
    *left = slice_from(*left, word.size);
    return word;
}

/* Takes "FROM:" or "TO:" and a path in angle brackets from the front. */
static bool take_path(struct slice *left, struct slice prefix)
{
    while (left->size > 0 && left->data[0] == ' ')
        *left = slice_from(*left, 1);
    if (!slice_starts_nocase(*left, prefix))
        return false;
    *left = slice_from(*left, prefix.size);
    while (left->size > 0 && left->data[0] == ' ') /* forbidden, and common */
        *left = slice_from(*left, 1);
    if (left->size == 0 || left->data[0] != '<')
        return false;
    ptrdiff_t end = slice_find(*left, '>');
    if (end < 0)
        return false;
    *left = slice_from(*left, (size_t)end + 1);
    return left->size == 0 || left->data[0] == ' ';
}

static bool parameter_known(const struct sink_options *o, struct slice word)
{
    if (slice_starts_nocase(word, SLICE("SIZE=")))
        return !o->no_size;
    if (slice_equal_nocase(word, SLICE("BODY=8BITMIME")) ||
        slice_equal_nocase(word, SLICE("BODY=7BIT")))
        return !o->no_8bitmime;
    if (slice_equal_nocase(word, SLICE("SMTPUTF8")))
        return !o->no_smtputf8;
    return false;
}

static void choose_drop(struct sink_session *s)
{
    struct random *random = &s->sink->worker.shard.random;
    s->drop = DROP_NOT;
    if (!chance(s->sink, s->sink->options->drop))
        return;
    s->drop = (uint8_t)(1 + random_below(random, DROP_POINTS - 1));
    s->drop_at = random_below(random, DROP_CONTENT_MAX);
}

static void command_mail(struct sink_session *s, struct slice arguments)
{
    if (!s->greeted) {
        reply_bad(s, SLICE("503 5.5.1 greet first\r\n"));
        return;
    }
    if (s->mail) {
        reply_bad(s, SLICE("503 5.5.1 one transaction at a time\r\n"));
        return;
    }
    if (!take_path(&arguments, SLICE("FROM:"))) {
        reply_bad(s, SLICE("501 5.5.4 MAIL FROM:<address>\r\n"));
        return;
    }
    struct slice word;
    while ((word = next_word(&arguments)).size > 0) {
        if (!parameter_known(s->sink->options, word)) {
            reply_bad(s, SLICE("555 5.5.4 parameter not offered\r\n"));
            return;
        }
    }
    s->mail = true;
    s->begun_ns = s->sink->worker.shard.now_ns;
    choose_drop(s);
    if (!drop_here(s, DROP_MAIL))
        reply(s, SLICE("250 2.1.0 Ok\r\n"));
}

static void command_rcpt(struct sink_session *s, struct slice arguments)
{
    if (!s->mail) {
        reply_bad(s, SLICE("503 5.5.1 MAIL first\r\n"));
        return;
    }
    if (!take_path(&arguments, SLICE("TO:"))) {
        reply_bad(s, SLICE("501 5.5.4 RCPT TO:<address>\r\n"));
        return;
    }
    if (next_word(&arguments).size > 0) {
        reply_bad(s, SLICE("555 5.5.4 parameter not offered\r\n"));
        return;
    }
    if (s->recipients >= SINK_RECIPIENTS_MAX) {
        reply_bad(s, SLICE("452 4.5.3 too many recipients\r\n"));
        return;
    }
    if (drop_here(s, DROP_RCPT))
        return;
    if (chance(s->sink, s->sink->options->errors)) {
        metric_add(&s->sink->counts.refused_recipients, 1);
        reply_error(s);
        return;
    }
    s->recipients++;
    reply(s, SLICE("250 2.1.5 Ok\r\n"));
}

static void command_data(struct sink_session *s)
{
    if (!s->mail || s->bdat) {
        reply_bad(s, SLICE("503 5.5.1 not now\r\n"));
        return;
    }
    if (s->recipients == 0) {
        reply_bad(s, s->sink->options->lmtp ? SLICE("503 5.5.1 no valid recipients\r\n")
                                            : SLICE("554 5.5.1 no valid recipients\r\n"));
        return;
    }
    if (drop_here(s, DROP_DATA))
        return;
    if (connection_has_input(&s->connection))
        metric_add(&s->sink->counts.early_data, 1);
    smtp_data_begin(&s->data, SMTP_NEWLINE_REJECT, UINT64_MAX);
    s->state = SINK_CONTENT;
    reply(s, SLICE("354 go on\r\n"));
}

static void command_bdat(struct sink_session *s, struct slice arguments)
{
    uint64_t size;
    if (s->sink->options->no_bdat) {
        reply_bad(s, SLICE("502 5.5.1 not offered\r\n"));
        return;
    }
    if (slice_to_u64(next_word(&arguments), UINT64_MAX, &size) < 0) {
        reply_bad(s, SLICE("501 5.5.4 BDAT size [LAST]\r\n"));
        s->quit = true; /* where the chunk ends is anybody's guess */
        return;
    }
    struct slice word = next_word(&arguments);
    bool last = slice_equal_nocase(word, SLICE("LAST"));
    if (s->recipients == 0 || (word.size > 0 && !last)) {
        s->left = size;
        s->state = SINK_SKIP; /* RFC 3030 2: the chunk is read and thrown away */
        return;
    }
    if (drop_here(s, DROP_DATA))
        return;
    if (!s->bdat)
        smtp_data_begin_bdat(&s->data, SMTP_NEWLINE_REJECT, UINT64_MAX);
    s->bdat = true;
    smtp_data_chunk(&s->data, size, last);
    s->state = SINK_CONTENT;
}

static void command(struct sink_session *s, struct slice line)
{
    const struct sink_options *o = s->sink->options;
    struct slice left = line;
    struct slice verb = next_word(&left);
    if (slice_equal_nocase(verb, SLICE("MAIL")))
        command_mail(s, left);
    else if (slice_equal_nocase(verb, SLICE("RCPT")))
        command_rcpt(s, left);
    else if (slice_equal_nocase(verb, SLICE("DATA")))
        command_data(s);
    else if (slice_equal_nocase(verb, SLICE("BDAT")))
        command_bdat(s, left);
    else if (slice_equal_nocase(verb, SLICE("EHLO")) && !o->lmtp)
        command_hello(s, true);
    else if (slice_equal_nocase(verb, SLICE("LHLO")) && o->lmtp)
        command_hello(s, true);
    else if (slice_equal_nocase(verb, SLICE("HELO")) && !o->lmtp)
        command_hello(s, false);
    else if (slice_equal_nocase(verb, SLICE("RSET"))) {
        transaction_end(s);
        reply(s, SLICE("250 2.0.0 Ok\r\n"));
    } else if (slice_equal_nocase(verb, SLICE("NOOP")))
        reply(s, SLICE("250 2.0.0 Ok\r\n"));
    else if (slice_equal_nocase(verb, SLICE("STARTTLS")))
        command_starttls(s);
    else if (slice_equal_nocase(verb, SLICE("VRFY")))
        reply(s, SLICE("252 2.5.0 send it and see\r\n"));
    else if (slice_equal_nocase(verb, SLICE("QUIT"))) {
        s->quit = true;
        reply(s, SLICE("221 2.0.0 Bye\r\n"));
    } else
        reply_bad(s, SLICE("500 5.5.1 unknown command\r\n"));
}

/* Each of these is true when it should be called again, false when it must wait. */
static bool session_command(struct sink_session *s)
{
    struct slice line;
    switch (connection_line(&s->connection, CONNECTION_LINE_BYTES - 2, &line)) {
    case CONNECTION_LINE_MORE: return false;
    case CONNECTION_LINE_READY: command(s, line); return true;
    case CONNECTION_LINE_NO_ROOM:
        reply_bad(s, SLICE("421 4.3.2 no room\r\n"));
        s->quit = true;
        return true;
    default: reply_bad(s, SLICE("500 5.5.2 line too long, or not ended by CRLF\r\n")); return true;
    }
}

/* ---- content ---- */

static void keep_header(struct sink_session *s, struct slice piece)
{
    size_t size = MIN(piece.size, sizeof(s->header) - s->header_size);
    memcpy(s->header + s->header_size, piece.data, size);
    s->header_size += (uint32_t)size;
}

static bool session_content(struct sink_session *s)
{
    struct slice in = connection_peek(&s->connection);
    size_t before = in.size;
    bool keep = s->sink->ids.fd >= 0;
    struct slice piece;
    while (smtp_data_take(&s->data, &in, &piece))
        if (keep)
            keep_header(s, piece);
    connection_take(&s->connection, before - in.size);
    if (UNLIKELY(s->drop == DROP_CONTENT) &&
        (s->data.content.size >= s->drop_at || s->data.ended) && drop_here(s, DROP_CONTENT))
        return false;
    if (s->data.ended) {
        s->state = SINK_FINAL;
        return true;
    }
    if (s->bdat && s->data.chunk_left == 0) {
        s->state = SINK_COMMAND;
        reply(s, SLICE("250 2.0.0 chunk\r\n"));
        return true;
    }
    return before > 0;
}

static bool session_skip(struct sink_session *s)
{
    struct slice in = connection_peek(&s->connection);
    size_t used = MIN(in.size, s->left);
    connection_take(&s->connection, used);
    s->left -= used;
    if (s->left > 0)
        return used > 0;
    s->state = SINK_COMMAND;
    reply_bad(s, SLICE("503 5.5.1 no valid transaction for this chunk\r\n"));
    return true;
}

/* ---- the final reply ---- */

/* The value of the message's X-Bench-Id field; empty when it has none. */
static struct slice find_id(const struct sink_session *s)
{
    static const struct slice name = { (const uint8_t *)"X-Bench-Id:", 11 };
    struct slice left = slice_of(s->header, s->header_size);
    while (left.size > 0) {
        ptrdiff_t lf = slice_find(left, '\n');
        if (lf < 1) /* not whole, or not a header line */
            break;
        struct slice line = slice_part(left, 0, (size_t)lf - 1);
        if (line.size == 0)
            break; /* end of the header */
        if (slice_starts_nocase(line, name)) {
            line = slice_from(line, name.size);
            return next_word(&line);
        }
        left = slice_from(left, (size_t)lf + 1);
    }
    return slice_of(NULL, 0);
}

static void record(struct sink_session *s)
{
    struct sink *sink = s->sink;
    if (sink->ids.fd < 0)
        return;
    struct slice id = find_id(s);
    if (id.size == 0)
        id = SLICE("-");
    result_ids_add(&sink->ids, id.data, id.size);
    if (list_empty(&s->unflushed))
        list_push(&sink->unflushed, &s->unflushed);
}

static void count_message(struct sink_session *s)
{
    struct sink_counts *counts = &s->sink->counts;
    uint64_t now_ns = s->sink->worker.shard.now_ns;
    metric_add(&counts->messages, 1);
    metric_add(&counts->recipients, s->accepted);
    metric_add(&counts->bytes, s->data.content.size);
    if (counts->first_ns == 0)
        metric_set(&counts->first_ns, now_ns);
    metric_set(&counts->last_ns, now_ns);
    histogram_add(&counts->transaction, (now_ns - s->begun_ns) / US_IN_NS);
    if (UNLIKELY(s->sink->options->messages_max > 0))
        __atomic_fetch_add(s->sink->messages_total, 1, __ATOMIC_RELAXED);
}

/* One reply: for the message, or for one of its recipients (RFC 2033 4.2). */
static void final_reply(struct sink_session *s)
{
    if (chance(s->sink, s->sink->options->errors)) {
        metric_add(&s->sink->counts.refused_messages, 1);
        reply_error(s);
        return;
    }
    if (s->accepted == 0)
        record(s);
    s->accepted += s->sink->options->lmtp ? 1 : s->recipients;
    if (s->drop != DROP_AFTER_FINAL)
        reply(s, SLICE("250 2.0.0 Ok: thrown away\r\n"));
}

static bool session_final(struct sink_session *s)
{
    const struct sink_options *o = s->sink->options;
    if (!s->final_begun) {
        if (drop_here(s, DROP_BEFORE_FINAL))
            return false;
        s->final_begun = true;
        s->finals = o->lmtp ? s->recipients : 1;
        if (s->data.content.flags &
            (SMTP_CONTENT_BARE_CR | SMTP_CONTENT_BARE_LF | SMTP_CONTENT_NUL))
            metric_add(&s->sink->counts.bare_newlines, 1);
        if (o->delay_ms > 0) {
            shard_timer_arm(&s->sink->worker.shard, &s->final_timer, o->delay_ms);
            return false;
        }
    }
    if (timer_armed(&s->final_timer))
        return false;
    final_reply(s);
    if (--s->finals > 0)
        return true;
    if (s->accepted > 0)
        count_message(s);
    if (drop_here(s, DROP_AFTER_FINAL))
        return false;
    transaction_end(s);
    return true;
}

/* ---- the session ---- */

static void session_greet(struct sink_session *s)
{
    reply(s, s->sink->options->lmtp ? SLICE("220 sink LMTP\r\n") : SLICE("220 sink ESMTP\r\n"));
}

static void session_flush(struct sink_session *s)
{
    if (list_empty(&s->unflushed))
        connection_flush(&s->connection);
}

static bool session_hold_reply(struct sink_session *s)
{
    uint32_t delay_ms = s->sink->options->reply_delay_ms;
    if (delay_ms == 0 || connection_idle(&s->connection) || s->connection.send.inflight)
        return false;
    if (!s->reply_held) {
        s->reply_held = true;
        shard_timer_arm(&s->sink->worker.shard, &s->reply_timer, delay_ms);
    }
    if (timer_armed(&s->reply_timer))
        return true;
    s->reply_held = false;
    return false;
}

static void session_handshake_failed(struct sink_session *s)
{
    metric_add(&s->sink->counts.tls.failed, 1);
    connection_close(&s->connection);
}

/* True: it is complete. */
static bool session_handshake(struct sink_session *s)
{
    struct connection *c = &s->connection;
    struct sink *sink = s->sink;
    uint64_t now_ns = sink->worker.shard.now_ns;
    if (c->tls == NULL) {
        if (!connection_idle(c) && c->error == 0)
            return false; /* the 220 leaves in clear */
        struct tls_session *session =
            c->error < 0 ? NULL
                         : tls_server_accept(sink->secure.server, false, &connection_ends, c);
        if (session == NULL) {
            session_handshake_failed(s);
            return false;
        }
        connection_secure(c, session);
        s->secure_ns = now_ns;
    }
    enum tls_result result = connection_handshake(c);
    if (result == TLS_FAILED || c->error < 0) {
        session_handshake_failed(s);
        return false;
    }
    if (result != TLS_OK) {
        connection_settle(c);
        return false;
    }
    secure_count(&sink->counts.tls, c->tls, (now_ns - s->secure_ns) / US_IN_NS);
    s->secured = true;
    s->state = SINK_COMMAND;
    if (sink->options->tls.mode == SECURE_IMPLICIT)
        session_greet(s);
    return true;
}

static bool session_step(struct sink_session *s)
{
    switch (s->state) {
    case SINK_HANDSHAKE: return false; /* once the 220 has left */
    case SINK_CONTENT: return session_content(s);
    case SINK_SKIP: return session_skip(s);
    case SINK_FINAL: return session_final(s);
    default: return session_command(s);
    }
}

static void session_run(struct task *task)
{
    struct sink_session *s = container_of(task, struct sink_session, task);
    struct connection *c = &s->connection;
    if (s->state == SINK_HANDSHAKE && !session_handshake(s))
        return;
    bool more = c->error == 0 && !s->reply_held;
    while (more && !s->quit && !c->closing) {
        if (connection_reserve(c, REPLY_ROOM) == NULL)
            break; /* goes on when the replies have left */
        more = session_step(s);
    }
    if (c->closing)
        return;
    if (c->output != NULL && c->output->size == 0)
        connection_flush(c); /* reserved for nothing */
    if (s->quit)
        connection_bye(c);
    if (!session_hold_reply(s))
        session_flush(s);
    bool over = s->quit || (c->eof && !more && s->state != SINK_FINAL && !s->reply_held);
    if (c->error < 0 || (over && connection_idle(c))) {
        connection_close(c);
        return;
    }
    connection_settle(c);
}

static void session_wake(struct sink_session *s)
{
    if (!s->connection.closing)
        shard_run_later(&s->sink->worker.shard, &s->task);
}

static void session_on_final(struct timer *timer)
{
    session_wake(container_of(timer, struct sink_session, final_timer));
}

static void session_on_reply(struct timer *timer)
{
    session_wake(container_of(timer, struct sink_session, reply_timer));
}

static void session_closed(struct connection *connection)
{
    struct sink_session *s = container_of(connection, struct sink_session, connection);
    struct sink *sink = s->sink;
    if (s->mail)
        metric_add(&sink->counts.aborted, 1);
    metric_sub(&sink->counts.open, 1);
    shard_timer_disarm(&sink->worker.shard, &s->final_timer);
    shard_timer_disarm(&sink->worker.shard, &s->reply_timer);
    list_remove(&s->unflushed);
    list_remove(&s->node);
    pool_give(&sink->sessions, s);
}

bool sink_accepted(struct acceptor *acceptor, int socket)
{
    struct sink *sink = container_of(acceptor, struct sink, acceptor);
    struct sink_session *s = pool_take(&sink->sessions);
    if (s == NULL)
        return false;
    memset(s, 0, offsetof(struct sink_session, header));
    s->sink = sink;
    task_init(&s->task, session_run);
    timer_init(&s->final_timer, session_on_final);
    timer_init(&s->reply_timer, session_on_reply);
    list_init(&s->unflushed);
    list_push(&sink->all, &s->node);
    metric_add(&sink->counts.connections, 1);
    metric_add(&sink->counts.open, 1);
    connection_init(&s->connection, &sink->worker.shard, &sink->worker.pools, &s->task,
                    session_closed);
    connection_open(&s->connection, socket);
    if (sink->options->tls.mode == SECURE_IMPLICIT)
        s->state = SINK_HANDSHAKE;
    else
        session_greet(s);
    shard_run_later(&sink->worker.shard, &s->task);
    return true;
}

bool sink_close_all(struct sink *sink)
{
    list_each (node, &sink->all)
        connection_close(&container_of(node, struct sink_session, node)->connection);
    return list_empty(&sink->all);
}

/* The end of a step: first the list of ids, then the replies that depend on it. */
static void sink_on_hook(struct hook *hook)
{
    struct sink *sink = container_of(hook, struct sink, hook);
    if (list_empty(&sink->unflushed))
        return;
    result_ids_flush(&sink->ids);
    struct list *node;
    while ((node = list_pop(&sink->unflushed)) != NULL) {
        struct sink_session *s = container_of(node, struct sink_session, unflushed);
        if (!s->connection.closing && !s->reply_held)
            connection_flush(&s->connection);
    }
}

static struct slice sink_hello(const struct sink_options *o, bool starttls, char *text, size_t room)
{
    int size = snprintf(
        text, room, "250-sink\r\n%s%s%s%s%s%s250 %s\r\n", starttls ? "250-STARTTLS\r\n" : "",
        o->no_pipelining ? "" : "250-PIPELINING\r\n", o->no_bdat ? "" : "250-CHUNKING\r\n",
        o->no_8bitmime ? "" : "250-8BITMIME\r\n", o->no_size ? "" : "250-SIZE\r\n",
        o->no_smtputf8 ? "" : "250-SMTPUTF8\r\n", "ENHANCEDSTATUSCODES");
    CHECK(size > 0);
    CHECK((size_t)size < room);
    return slice_of(text, (size_t)size);
}

int sink_prepare(struct sink *sink)
{
    const struct sink_options *o = sink->options;
    list_init(&sink->all);
    list_init(&sink->unflushed);
    size_t half = sizeof(sink->hello_text) / 2;
    sink->hello = sink_hello(o, false, sink->hello_text, half);
    sink->hello_in_clear = sink_hello(o, true, sink->hello_text + half, half);
    shard_hook(&sink->worker.shard, &sink->hook, sink_on_hook);
    return pool_init(&sink->sessions, "sessions", sizeof(struct sink_session), o->connections_max);
}
