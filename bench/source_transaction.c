/*
 * source_transaction.c - the source's side of SMTP: what is said, and what a reply means
 *
 *   GREETING -> HELLO -> READY -> MAIL -> RCPT.. -> DATA -> FINAL -> READY
 *                ^ `-> SILENT         `------`----refused-> RESET -> READY
 *                `- HANDSHAKE <- STARTTLS <- HELLO (the first one, with --tls starttls)
 *                        QUIT <- READY (no more for this connection)
 *
 * A state is named for the reply it waits for. With pipelining the next transaction's commands
 * leave together with a content, so FINAL may lead straight to MAIL.
 */
#include "bench/source_session.h"

#include "core/check.h"
#include "core/metrics.h"

enum { US_IN_NS = 1'000 };

static void session_queue_commands(struct source_session *s)
{
    source_queue(s, source_text_commands(&s->source->texts, &s->text));
}

static void session_queue_command(struct source_session *s)
{
    source_queue(s, source_text_command(&s->source->texts, &s->text));
}

static void session_queue_content(struct source_session *s)
{
    struct source *source = s->source;
    struct slice slices[SOURCE_CONTENT_SLICES];
    source_text_number(&source->texts, &s->text);
    s->content_ns = source->worker.shard.now_ns;
    size_t count = source_text_content(&source->texts, &s->text, slices);
    for (size_t i = 0; i < count; i++)
        source_queue(s, slices[i]);
}

static enum source_error error_of_code(unsigned code)
{
    if (code == 421)
        return SOURCE_REPLY_421;
    if (code >= 400 && code < 500)
        return SOURCE_REPLY_4XX;
    return code >= 500 && code < 600 ? SOURCE_REPLY_5XX : SOURCE_PROTOCOL;
}

/* A reply that ends the connection. */
static void session_refused(struct source_session *s, unsigned code)
{
    source_fail(s, error_of_code(code));
}

/* A reply that ends the transaction, but not the connection. False: it does. */
static bool session_note_refusal(struct source_session *s, unsigned code)
{
    enum source_error error = error_of_code(code);
    if (error == SOURCE_REPLY_421 || error == SOURCE_PROTOCOL) {
        source_fail(s, error);
        return false;
    }
    metric_add(&s->source->counts.errors[error], 1);
    return true;
}

static void session_quit(struct source_session *s)
{
    s->state = SOURCE_QUIT;
    source_queue(s, SLICE("QUIT\r\n"));
}

/* ---- transactions ---- */

static bool session_has_had_its_share(const struct source_session *s)
{
    uint64_t limit = s->source->options->per_connection;
    return limit > 0 && s->in_session >= limit;
}

/* Takes the time at which this message begins. By the rate, that is when it was due: a server that
 * falls behind cannot slow the clock down. */
static uint64_t session_clock(struct source_session *s)
{
    struct source *source = s->source;
    uint64_t begun_ns = source->worker.shard.now_ns;
    s->in_session++;
    metric_add(&source->counts.begun, 1);
    if (source->counts.first_ns == 0)
        metric_set(&source->counts.first_ns, begun_ns);
    if (source->interval_ns == 0)
        return begun_ns;
    begun_ns = source->due_ns;
    source->due_ns += source->interval_ns;
    return begun_ns;
}

static void session_enter_transaction(struct source_session *s, uint64_t begun_ns)
{
    s->begun_ns = begun_ns;
    s->state = SOURCE_MAIL;
    s->rcpt_left = s->source->options->recipients;
    s->accepted = 0;
    s->mail_ok = false;
    s->failed = false;
    s->next_sent = false;
}

static void session_begin(struct source_session *s)
{
    const struct source_options *o = s->source->options;
    session_enter_transaction(s, session_clock(s));
    source_text_make_commands(&s->source->texts, &s->text);
    if (!o->pipeline) {
        session_queue_command(s);
        return;
    }
    session_queue_commands(s);
    if (o->bdat)
        session_queue_content(s);
}

/* READY, and nothing under way: what next? */
void source_next(struct source_session *s)
{
    struct source *source = s->source;
    s->state = SOURCE_READY;
    s->deadline_ms = 0;
    if (source_over(source) || session_has_had_its_share(s)) {
        session_quit(s);
        return;
    }
    if (!source_flag(&source->shared->go) || !source_due(source)) {
        list_push(&source->waiting, &s->node);
        return;
    }
    if (source_ticket(source))
        session_begin(s);
    else
        session_quit(s);
}

static void session_transaction_over(struct source_session *s)
{
    uint32_t think_ms = s->source->options->think_ms;
    if (s->failed)
        metric_add(&s->source->counts.failed, 1);
    s->state = SOURCE_READY;
    if (think_ms == 0 || session_has_had_its_share(s)) {
        source_next(s);
        return;
    }
    s->thinking = true;
    s->deadline_ms = 0;
    shard_timer_arm(&s->source->worker.shard, &s->pause, think_ms);
}

static void session_reset(struct source_session *s)
{
    s->state = SOURCE_RESET_STATE;
    source_queue(s, SLICE("RSET\r\n"));
}

/* Content, and with pipelining what follows it. */
static void session_send_content(struct source_session *s)
{
    struct source *source = s->source;
    s->state = SOURCE_FINAL;
    s->finals_left = source->options->lmtp ? s->accepted : 1;
    session_queue_content(s);
    if (!source->options->pipeline || source->options->think_ms > 0)
        return;
    if (source_over(source) || session_has_had_its_share(s)) {
        source_queue(s, SLICE("QUIT\r\n"));
        s->quit_sent = true;
    } else if (source_due(source) && source_ticket(source)) {
        s->next_sent = true;
        s->next_ns = session_clock(s);
        source_text_make_commands(&s->source->texts, &s->text);
        session_queue_commands(s);
    }
}

static void session_acknowledged(struct source_session *s)
{
    struct source *source = s->source;
    struct source_counts *counts = &source->counts;
    uint64_t now_ns = source->worker.shard.now_ns;
    metric_add(&counts->messages, 1);
    metric_add(&counts->recipients, s->accepted);
    metric_set(&counts->last_ns, now_ns);
    histogram_add(&counts->latency, (now_ns - s->begun_ns) / US_IN_NS);
    histogram_add(&counts->commit, (now_ns - s->content_ns) / US_IN_NS);
    if (source->acked.fd >= 0) {
        struct slice id = source_text_id(&source->texts, &s->text);
        result_ids_add(&source->acked, id.data, id.size);
    }
}

/* ---- replies, by state ---- */

static void session_hello(struct source_session *s)
{
    s->state = SOURCE_HELLO;
    source_queue(s, s->source->options->lmtp ? SLICE("LHLO bench.invalid\r\n")
                                             : SLICE("EHLO bench.invalid\r\n"));
}

static void on_greeting(struct source_session *s, unsigned code)
{
    if (code / 100 != 2)
        session_refused(s, code);
    else
        session_hello(s);
}

/* ---- TLS ---- */

static void session_starttls(struct source_session *s)
{
    if (!s->starttls) {
        __atomic_store_n(&s->source->shared->lacks_starttls, true, __ATOMIC_RELAXED);
        __atomic_store_n(&s->source->shared->ending, true, __ATOMIC_RELAXED);
        source_fail(s, SOURCE_TLS);
        return;
    }
    s->state = SOURCE_STARTTLS;
    source_queue(s, SLICE("STARTTLS\r\n"));
}

static void on_starttls(struct source_session *s, unsigned code)
{
    if (code != 220)
        session_refused(s, code);
    else
        s->state = SOURCE_HANDSHAKE;
}

void source_secured(struct source_session *s)
{
    if (s->source->options->tls.mode == SECURE_IMPLICIT) {
        s->state = SOURCE_GREETING;
        return;
    }
    s->pipelining = false; /* what was offered in clear counts no more (RFC 3207 4.2) */
    s->chunking = false;
    session_hello(s);
}

static void on_hello(struct source_session *s, unsigned code)
{
    struct source *source = s->source;
    const struct source_options *o = source->options;
    if (code / 100 == 5 && !o->lmtp && !s->hello_tried) {
        s->hello_tried = true;
        source_queue(s, SLICE("HELO bench.invalid\r\n"));
        return;
    }
    if (code / 100 != 2) {
        session_refused(s, code);
        return;
    }
    if (o->tls.mode == SECURE_STARTTLS && !s->secured) {
        session_starttls(s);
        return;
    }
    metric_add(&source->counts.open, 1);
    s->greeted = true;
    s->backoff_ms = 0;
    source_count_ramp(s);
    if (o->idle) {
        s->state = SOURCE_SILENT;
        s->deadline_ms = 0;
        return;
    }
    if ((o->pipeline && !s->pipelining) || (o->bdat && !s->chunking)) {
        __atomic_store_n(o->bdat && !s->chunking ? &source->shared->lacks_chunking
                                                 : &source->shared->lacks_pipelining,
                         true, __ATOMIC_RELAXED);
        __atomic_store_n(&source->shared->ending, true, __ATOMIC_RELAXED);
    }
    source_next(s);
}

static void on_mail(struct source_session *s, unsigned code)
{
    bool pipeline = s->source->options->pipeline;
    s->mail_ok = code / 100 == 2;
    if (!s->mail_ok) {
        if (!session_note_refusal(s, code))
            return;
        s->failed = true;
        if (!pipeline) {
            session_transaction_over(s);
            return;
        }
    }
    s->state = SOURCE_RCPT;
    if (!pipeline)
        session_queue_command(s);
}

static void on_rcpt_done(struct source_session *s)
{
    const struct source_options *o = s->source->options;
    if (s->accepted == 0)
        s->failed = true;
    if (o->pipeline) {
        s->state = o->bdat ? SOURCE_FINAL : SOURCE_DATA;
        s->finals_left = o->lmtp && s->accepted > 0 ? s->accepted : 1;
        return;
    }
    if (s->failed) {
        session_reset(s);
        return;
    }
    session_queue_command(s); /* DATA, or BDAT and its content */
    if (o->bdat)
        session_send_content(s);
    else
        s->state = SOURCE_DATA;
}

static void on_rcpt(struct source_session *s, unsigned code)
{
    if (code / 100 == 2)
        s->accepted++;
    else if (s->mail_ok && !session_note_refusal(s, code))
        return;
    if (--s->rcpt_left == 0)
        on_rcpt_done(s);
    else if (!s->source->options->pipeline)
        session_queue_command(s);
}

static void on_data(struct source_session *s, unsigned code)
{
    if (code == 354) {
        if (s->failed) { /* the server waits for content that nobody wants (RFC 2920 3.1) */
            s->state = SOURCE_FINAL;
            s->finals_left = 1;
            source_queue(s, SLICE(".\r\n"));
        } else {
            session_send_content(s);
        }
        return;
    }
    if (!s->failed && !session_note_refusal(s, code))
        return;
    s->failed = true;
    session_reset(s);
}

static void on_final(struct source_session *s, unsigned code)
{
    const struct source_options *o = s->source->options;
    if (code / 100 != 2 && !s->failed) {
        if (!session_note_refusal(s, code))
            return;
        s->failed = !o->lmtp || --s->accepted == 0;
    }
    if (--s->finals_left > 0)
        return;
    if (!s->failed)
        session_acknowledged(s);
    if (s->next_sent) {
        if (s->failed)
            metric_add(&s->source->counts.failed, 1);
        session_enter_transaction(s, s->next_ns);
    } else if (s->quit_sent) {
        if (s->failed)
            metric_add(&s->source->counts.failed, 1);
        s->state = SOURCE_QUIT;
    } else if (s->failed && o->bdat) {
        session_reset(s); /* RFC 3030 2: a failed BDAT leaves the transaction to be reset */
    } else {
        session_transaction_over(s);
    }
}

static void on_reset(struct source_session *s, unsigned code)
{
    if (code / 100 != 2)
        session_refused(s, code);
    else
        session_transaction_over(s);
}

static void on_quit(struct source_session *s, unsigned code)
{
    (void)code;
    source_close(s);
}

/* Talk when it is not the server's turn: "421 going down" is the usual case. */
static void on_unasked(struct source_session *s, unsigned code)
{
    source_fail(s, code == 421 ? SOURCE_REPLY_421 : SOURCE_PROTOCOL);
}

static void (*const source_replies[SOURCE_STATES])(struct source_session *s, unsigned code) = {
    [SOURCE_GREETING] = on_greeting, [SOURCE_HELLO] = on_hello,
    [SOURCE_SILENT] = on_unasked,    [SOURCE_READY] = on_unasked,
    [SOURCE_MAIL] = on_mail,         [SOURCE_RCPT] = on_rcpt,
    [SOURCE_DATA] = on_data,         [SOURCE_FINAL] = on_final,
    [SOURCE_RESET_STATE] = on_reset, [SOURCE_QUIT] = on_quit,
    [SOURCE_STARTTLS] = on_starttls, [SOURCE_HANDSHAKE] = on_unasked,
};

/* Sent slowly and pipelined, a part of the group is answered before the rest has left; nothing is
 * queued on such an answer. */
static bool may_answer_early(const struct source_session *s)
{
    const struct source_options *o = s->source->options;
    if (o->slow == 0 || !o->pipeline)
        return false;
    return s->state == SOURCE_MAIL || (s->state == SOURCE_RCPT && s->rcpt_left > 0) ||
           (s->state == SOURCE_FINAL && (s->next_sent || s->quit_sent));
}

void source_reply(struct source_session *s, unsigned code)
{
    if (UNLIKELY(s->out_count > 0) && !may_answer_early(s))
        on_unasked(s, code);
    else
        source_replies[s->state](s, code);
}
