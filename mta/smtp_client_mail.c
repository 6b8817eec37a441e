/*
 * smtp_client_mail.c - one transaction of the outbound session, from MAIL to its results
 *
 * The envelope has two cursors, what was sent and what was answered: mail, recipients in their
 * order, then DATA or BDAT. How far the first runs ahead of the second is the whole of pipelining:
 *
 *   no PIPELINING             each command waits for the reply before it
 *   PIPELINING                MAIL RCPT.. DATA in one send; content after 354
 *   PIPELINING and CHUNKING   a small body: MAIL RCPT.. BDAT and content in one send ("together");
 *                             a larger one, or LMTP: BDAT and content once a recipient is accepted
 *
 * A recipient: SKIP (not ours to try), or TRY -> ACCEPTED -> SETTLED, TRY -> SETTLED.
 *
 * Borrows the body's slices from body.next to body.release; releases them when nothing is in flight
 * and nothing taken is left over. Bounds: SMTP_CLIENT_FLIGHT_BYTES and SMTP_CLIENT_SLICES_MAX a
 * send, texts_capacity for words.
 *
 * Surprises: BDAT needs no stuffing, but its content goes through smtp_stuff all the same, which
 * finds bare CR, bare LF and NUL: the host behind the next one may speak DATA. When MAIL was
 * refused the recipients get that reply, not the 503 that followed. A refused BDAT command (50x)
 * means that the content was read as commands, or will be: the connection is closed at once.
 */
#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "mta/smtp_client.h"
#include "mta/smtp_client_inside.h"

enum {
    PHASE_SKIP,
    PHASE_TRY,
    PHASE_ACCEPTED,
    PHASE_SETTLED,
};

enum { COPY_BYTES_MAX = 512 }; /* pieces up to this are copied: fewer slices a send */

/* ---- results ---- */

static struct slice result_text(struct smtp_client *c, struct slice text, bool success)
{
    struct smtp_transaction *t = c->transaction;
    text = slice_part(text, 0, SMTP_RESPONSE_TEXT_MAX);
    if (c->last_text.size > 0 && slice_equal(c->last_text, text))
        return c->last_text;
    uint32_t capacity = success ? t->texts_capacity / 2 : t->texts_capacity;
    if (text.size == 0 || t->texts_used >= capacity || text.size > capacity - t->texts_used)
        return slice_of(NULL, 0);
    memcpy(t->texts + t->texts_used, text.data, text.size);
    c->last_text = slice_of(t->texts + t->texts_used, text.size);
    t->texts_used += (uint32_t)text.size;
    return c->last_text;
}

static void recipient_settle(struct smtp_client *c, struct smtp_recipient *r,
                             struct smtp_result result, struct slice text)
{
    CHECK(r->phase == PHASE_TRY || r->phase == PHASE_ACCEPTED);
    if (r->phase == PHASE_ACCEPTED)
        c->accepted--;
    r->phase = PHASE_SETTLED;
    r->result = result;
    r->result.text = result_text(c, text, result.verdict == SMTP_VERDICT_DELIVERED);
}

/* The outcome that the reply in c->response means. */
static struct smtp_result result_of_reply(const struct smtp_client *c, enum smtp_stage stage)
{
    uint16_t code = c->response.code;
    struct smtp_result result = { .stage = (uint8_t)stage, .code = code };
    uint8_t klass = (uint8_t)(code / 100);
    result.verdict = klass == 2   ? SMTP_VERDICT_DELIVERED
                     : klass == 4 ? SMTP_VERDICT_TEMPORARY
                                  : SMTP_VERDICT_PERMANENT;
    result.enhanced = c->response.enhanced;
    if (result.enhanced.klass == 0)
        result.enhanced = (struct smtp_enhanced) { klass, 0, 0 };
    /* RFC 5321 4.5.3.1.10: 552 for too many recipients is meant as 452. Too big is too big. */
    bool too_big = result.enhanced.subject == 3 && result.enhanced.detail == 4;
    if (stage == SMTP_STAGE_RCPT && code == 552 && !too_big) {
        result.verdict = SMTP_VERDICT_TEMPORARY;
        result.enhanced.klass = 4;
    }
    return result;
}

static void settle_by_reply(struct smtp_client *c, struct smtp_recipient *r, enum smtp_stage stage)
{
    recipient_settle(c, r, result_of_reply(c, stage), smtp_response_text(&c->response));
}

static bool undecided(const struct smtp_recipient *r)
{
    return r->phase == PHASE_TRY || r->phase == PHASE_ACCEPTED;
}

static void settle_local(struct smtp_client *c, struct smtp_recipient *r, enum smtp_verdict verdict,
                         struct smtp_enhanced enhanced, struct slice text)
{
    struct smtp_result result = { .verdict = (uint8_t)verdict,
                                  .stage = SMTP_STAGE_LOCAL,
                                  .enhanced = enhanced };
    recipient_settle(c, r, result, text);
}

static void settle_all_local(struct smtp_client *c, enum smtp_verdict verdict,
                             struct smtp_enhanced enhanced, struct slice text)
{
    struct smtp_transaction *t = c->transaction;
    for (uint32_t i = 0; i < t->recipients_count; i++)
        if (undecided(&t->recipients[i]))
            settle_local(c, &t->recipients[i], verdict, enhanced, text);
}

void smtp_client_settle_rest(struct smtp_client *c, enum smtp_gone why)
{
    struct smtp_transaction *t = c->transaction;
    if (!c->begun) {
        for (uint32_t i = 0; i < t->recipients_count; i++)
            t->recipients[i].result = (struct smtp_result) { .verdict = SMTP_VERDICT_NONE };
        t->attempted = 0;
        t->delivered = 0;
        t->texts_used = 0;
        t->dsn_passed = false;
        t->retry_now = true;
        return;
    }
    bool cut = why == SMTP_GONE_LOST || why == SMTP_GONE_CLOSING;
    t->retry_now = cut && !c->replied && c->transactions > 1;
    /* A 421 says that nothing was taken. Anything else, after all of it was sent, says nothing. */
    bool unknown =
        c->content_handed && !c->abandoned && why != SMTP_GONE_CLOSING && why != SMTP_GONE_CHUNKING;
    bool damaged = why == SMTP_GONE_BODY && c->stuff.damaged;
    struct smtp_result result = {
        .verdict = damaged ? SMTP_VERDICT_PERMANENT : SMTP_VERDICT_TEMPORARY,
        .stage = (uint8_t)(damaged ? SMTP_STAGE_LOCAL : c->end.stage),
        .unknown = unknown,
        .code = why == SMTP_GONE_CLOSING ? 421 : 0,
        .enhanced = damaged ? (struct smtp_enhanced) { 5, 6, 0 } : c->end.enhanced,
    };
    struct slice text = damaged ? SLICE("content has a bare CR or LF, or NUL") : c->end.text;
    for (uint32_t i = 0; i < t->recipients_count; i++)
        if (undecided(&t->recipients[i]))
            recipient_settle(c, &t->recipients[i], result, text);
}

static void client_release(struct smtp_client *c)
{
    if (!c->borrowed)
        return;
    c->borrowed = false;
    c->piece = slice_of(NULL, 0);
    c->staged_next = c->staged_count = c->staged_bytes = 0;
    if (c->transaction->body.release != NULL)
        c->transaction->body.release(c->transaction->body.source);
}

void smtp_client_hand_back(struct smtp_client *c)
{
    struct smtp_transaction *t = c->transaction;
    struct smtp_client_numbers *numbers = &c->clients->numbers;
    client_release(c);
    t->delivered = 0;
    for (uint32_t i = 0; i < t->recipients_count; i++) {
        const struct smtp_result *result = &t->recipients[i].result;
        switch ((enum smtp_verdict)result->verdict) {
        case SMTP_VERDICT_NONE: break;
        case SMTP_VERDICT_DELIVERED:
            metric_add(&numbers->delivered, 1);
            t->delivered++;
            break;
        case SMTP_VERDICT_TEMPORARY: metric_add(&numbers->deferred, 1); break;
        case SMTP_VERDICT_PERMANENT: metric_add(&numbers->refused, 1); break;
        }
        metric_add(&numbers->unknown, result->unknown ? 1 : 0);
    }
    if (t->delivered > 0)
        metric_add(&numbers->content_bytes, t->size);
    c->transaction = NULL;
    c->transaction_until_ms = UINT64_MAX;
    c->callbacks->done(c, t);
}

/* All that is said is answered, nothing is in flight. */
static enum client_step client_finish(struct smtp_client *c)
{
    CHECK(connection_idle(&c->connection));
    settle_all_local(c, SMTP_VERDICT_TEMPORARY, (struct smtp_enhanced) { 4, 5, 0 },
                     SLICE("transaction ended without an outcome"));
    uint32_t told = c->capabilities.mail_max;
    uint32_t ours = c->target.transactions_max;
    bool full = (told > 0 && c->transactions >= told) || (ours > 0 && c->transactions >= ours);
    c->quit_wanted |= full;
    if (c->clean || c->quit_wanted) {
        c->tell_ready = !c->quit_wanted;
        c->state = SMTP_CLIENT_READY;
    } else {
        c->state = SMTP_CLIENT_RESET;
    }
    smtp_client_hand_back(c);
    return smtp_client_enter(c, c->state);
}

/* ---- before MAIL ---- */

static struct slice domain_of(struct slice address)
{
    for (size_t at = address.size; at > 0; at--)
        if (address.data[at - 1] == '@')
            return slice_from(address, at);
    return slice_of(NULL, 0);
}

/* RFC 9422: RCPTMAX and RCPTDOMAINMAX; who is over them stays SKIP. */
static void choose_recipients(struct smtp_client *c)
{
    struct smtp_transaction *t = c->transaction;
    uint32_t count_max = c->capabilities.rcpt_max > 0 ? c->capabilities.rcpt_max : UINT32_MAX;
    uint32_t domains_max = MIN(c->capabilities.rcpt_domain_max, (uint32_t)SMTP_CLIENT_DOMAINS_MAX);
    struct slice domains[SMTP_CLIENT_DOMAINS_MAX];
    uint32_t domains_count = 0;
    t->attempted = 0;
    for (uint32_t i = 0; i < t->recipients_count; i++) {
        struct smtp_recipient *r = &t->recipients[i];
        r->result = (struct smtp_result) { .verdict = SMTP_VERDICT_NONE };
        r->phase = PHASE_SKIP;
        if (t->attempted == count_max)
            continue;
        if (domains_max > 0) {
            struct slice domain = domain_of(r->address);
            uint32_t known = 0;
            while (known < domains_count && !slice_equal_nocase(domains[known], domain))
                known++;
            if (known == domains_max)
                continue;
            if (known == domains_count)
                domains[domains_count++] = domain;
        }
        r->phase = PHASE_TRY;
        t->attempted++;
    }
}

static void judge_by_offer(struct smtp_client *c)
{
    struct smtp_transaction *t = c->transaction;
    unsigned can = c->capabilities.can;
    uint64_t size_max = c->capabilities.size_max;
    if (!smtp_client_text_clean(t->sender, ADDRESS_MAX))
        settle_all_local(c, SMTP_VERDICT_PERMANENT, (struct smtp_enhanced) { 5, 1, 7 },
                         SLICE("sender cannot stand in a command"));
    /* Whoever connects has seen to both; here is where it must never be otherwise. */
    if ((t->flags & SMTP_TRANSACTION_REQUIRETLS) && !c->secured)
        settle_all_local(c, SMTP_VERDICT_TEMPORARY, (struct smtp_enhanced) { 4, 7, 0 },
                         SLICE("message needs TLS (REQUIRETLS)"));
    else if ((t->flags & SMTP_TRANSACTION_REQUIRETLS) && !(can & SMTP_CAN_REQUIRETLS) &&
             t->sender.size > 0)
        settle_all_local(c, SMTP_VERDICT_PERMANENT, (struct smtp_enhanced) { 5, 7, 30 },
                         SLICE("message needs REQUIRETLS, which the host does not offer"));
    if ((can & SMTP_CAN_SIZE) && size_max > 0 && t->size > size_max) {
        char text[128];
        int size = snprintf(text, sizeof(text),
                            "message of %llu octets is over the limit of the host, %llu",
                            (unsigned long long)t->size, (unsigned long long)size_max);
        CHECK(size > 0);
        settle_all_local(c, SMTP_VERDICT_PERMANENT, (struct smtp_enhanced) { 5, 3, 4 },
                         slice_of(text, (size_t)size));
    }
    bool utf8 = can & SMTP_CAN_SMTPUTF8;
    if (!utf8 && ((t->flags & SMTP_TRANSACTION_HEADER_8BIT) || smtp_client_text_utf8(t->sender)))
        settle_all_local(c, SMTP_VERDICT_PERMANENT, (struct smtp_enhanced) { 5, 6, 7 },
                         SLICE("message needs SMTPUTF8, which the host does not offer"));
    if (!(can & SMTP_CAN_8BITMIME) && (t->flags & SMTP_TRANSACTION_8BIT))
        settle_all_local(c, SMTP_VERDICT_PERMANENT, (struct smtp_enhanced) { 5, 6, 3 },
                         SLICE("message needs 8BITMIME, which the host does not offer"));
    for (uint32_t i = 0; i < t->recipients_count; i++) {
        struct smtp_recipient *r = &t->recipients[i];
        if (!undecided(r))
            continue;
        if (!smtp_client_text_clean(r->address, ADDRESS_MAX) || r->address.size == 0)
            settle_local(c, r, SMTP_VERDICT_PERMANENT, (struct smtp_enhanced) { 5, 1, 3 },
                         SLICE("recipient cannot stand in a command"));
        else if (!utf8 && smtp_client_text_utf8(r->address))
            settle_local(c, r, SMTP_VERDICT_PERMANENT, (struct smtp_enhanced) { 5, 6, 7 },
                         SLICE("address needs SMTPUTF8, which the host does not offer"));
    }
    for (uint32_t i = 0; i < t->recipients_count; i++)
        if (t->recipients[i].phase == PHASE_SETTLED)
            t->recipients[i].phase = PHASE_SKIP; /* not to be asked about */
}

/* One slice more from the body. 1, 0 at the end, -EAGAIN, or an errno. */
static int body_next(struct smtp_client *c, struct slice *out)
{
    struct smtp_transaction *t = c->transaction;
    if (c->body_error < 0)
        return c->body_error;
    if (c->body_taken == t->size)
        return 0;
    int r = t->body.next(t->body.source, out);
    if (r == -EAGAIN)
        return r;
    if (r <= 0 || out->size == 0 || out->size > t->size - c->body_taken) {
        c->body_error = r < 0 ? r : -EIO; /* shorter or longer than it was said to be */
        return c->body_error;
    }
    c->body_taken += out->size;
    c->borrowed = true;
    return 1;
}

/* Takes what a small body has, so that it can leave with the envelope. */
static void stage_body(struct smtp_client *c)
{
    struct slice piece;
    while (c->staged_count < SMTP_CLIENT_SLICES_MAX && c->staged_bytes < SMTP_CLIENT_SMALL_BYTES) {
        if (body_next(c, &piece) <= 0)
            return;
        c->staged[c->staged_count++] = piece;
        c->staged_bytes += (uint32_t)MIN(piece.size, (size_t)SMTP_CLIENT_SMALL_BYTES);
    }
}

static bool staged_whole(const struct smtp_client *c)
{
    return c->body_taken == c->transaction->size && c->body_taken <= SMTP_CLIENT_SMALL_BYTES;
}

/* No bare CR, bare LF or NUL in a body that is here as a whole. */
static bool staged_sound(const struct smtp_client *c)
{
    struct smtp_stuff stuff;
    struct slice out;
    smtp_stuff_begin(&stuff);
    for (uint32_t i = 0; i < c->staged_count; i++) {
        struct slice piece = c->staged[i];
        while (smtp_stuff_take(&stuff, &piece, &out))
            ;
    }
    return smtp_stuff_end(&stuff, &out);
}

static void client_reset_transaction(struct smtp_client *c)
{
    c->mail_sent = c->mail_ok = c->mail_answered = false;
    c->end_sent = c->data_answered = c->data_ok = c->end_answered = false;
    c->abandoned = c->content_handed = c->borrowed = c->clean = c->replied = c->together = false;
    c->rcpt_sent = c->rcpt_answered = c->accepted = c->final_next = 0;
    c->body_taken = 0;
    c->body_error = 0;
    c->piece = slice_of(NULL, 0);
    c->staged_next = c->staged_count = c->staged_bytes = 0;
    c->last_text = slice_of(NULL, 0);
    smtp_stuff_begin(&c->stuff);
}

/* Moves index on to the next recipient that is asked about; the count when there is none. */
static uint32_t next_asked(const struct smtp_client *c, uint32_t index)
{
    const struct smtp_transaction *t = c->transaction;
    while (index < t->recipients_count && t->recipients[index].phase == PHASE_SKIP)
        index++;
    return index;
}

enum client_step smtp_client_begin(struct smtp_client *c)
{
    struct smtp_transaction *t = c->transaction;
    unsigned can = c->capabilities.can;
    client_reset_transaction(c);
    c->begun = true;
    uint32_t total_ms = c->target.timeouts->transaction_ms;
    c->transaction_until_ms = total_ms == 0 ? UINT64_MAX : c->clients->shard->now_ms + total_ms;
    t->texts_used = 0;
    t->retry_now = false;
    t->dsn_passed = can & SMTP_CAN_DSN;
    c->pipelining = (can & SMTP_CAN_PIPELINING) && !(c->target.flags & SMTP_CLIENT_NO_PIPELINING);
    c->chunking = (can & SMTP_CAN_CHUNKING) && !(c->target.flags & SMTP_CLIENT_NO_CHUNKING);
    c->clean = true; /* until MAIL is out */
    choose_recipients(c);
    judge_by_offer(c);
    c->rcpt_sent = c->rcpt_answered = next_asked(c, 0);
    if (c->rcpt_sent == t->recipients_count)
        return client_finish(c);
    stage_body(c);
    if (c->body_error < 0) {
        settle_all_local(c, SMTP_VERDICT_TEMPORARY, (struct smtp_enhanced) { 4, 3, 0 },
                         SLICE("content could not be read"));
        return client_finish(c);
    }
    if (staged_whole(c) && !staged_sound(c)) {
        metric_add(&c->clients->numbers.damaged_bodies, 1);
        settle_all_local(c, SMTP_VERDICT_PERMANENT, (struct smtp_enhanced) { 5, 6, 0 },
                         SLICE("content has a bare CR or LF, or NUL"));
        return client_finish(c);
    }
    c->together =
        c->pipelining && c->chunking && staged_whole(c) && c->target.protocol == SMTP_CLIENT_SMTP;
    c->clean = false;
    c->transactions++;
    metric_add(&c->clients->numbers.transactions, 1);
    metric_add(&c->clients->numbers.transactions_reused, c->transactions > 1 ? 1 : 0);
    return smtp_client_enter(c, SMTP_CLIENT_ENVELOPE);
}

/* ---- the envelope ---- */

/* A reply to MAIL, RCPT or DATA is due; the ones to content are FINAL's. */
static bool envelope_outstanding(const struct smtp_client *c)
{
    return (c->mail_sent && !c->mail_answered) || c->rcpt_answered < c->rcpt_sent ||
           (c->end_sent && !c->chunking && !c->data_answered);
}

static void mail_refused(struct smtp_client *c)
{
    struct smtp_transaction *t = c->transaction;
    for (uint32_t i = 0; i < t->recipients_count; i++)
        if (undecided(&t->recipients[i]))
            settle_by_reply(c, &t->recipients[i], SMTP_STAGE_MAIL);
}

static void data_answered(struct smtp_client *c)
{
    struct smtp_transaction *t = c->transaction;
    c->data_answered = true;
    c->data_ok = c->response.code == 354;
    c->abandoned = c->data_ok && c->accepted == 0;
    if (c->data_ok)
        return;
    for (uint32_t i = 0; i < t->recipients_count; i++)
        if (t->recipients[i].phase == PHASE_ACCEPTED)
            settle_by_reply(c, &t->recipients[i], SMTP_STAGE_DATA);
}

static void rcpt_answered(struct smtp_client *c)
{
    struct smtp_recipient *r = &c->transaction->recipients[c->rcpt_answered];
    c->rcpt_answered = next_asked(c, c->rcpt_answered + 1);
    c->rcpt_answered = MIN(c->rcpt_answered, c->rcpt_sent);
    if (r->phase == PHASE_SETTLED)
        return; /* MAIL was refused: this is its echo */
    if (c->response.code / 100 == 2) {
        r->phase = PHASE_ACCEPTED;
        c->accepted++;
        return;
    }
    settle_by_reply(c, r, SMTP_STAGE_RCPT);
}

/* Gives the reply in c->response to the command that it is for. False: it fits none. */
static bool envelope_answer(struct smtp_client *c)
{
    unsigned klass = c->response.code / 100;
    c->replied = true;
    if (!c->mail_answered) {
        if (klass == 3)
            return false;
        c->mail_answered = true;
        c->mail_ok = klass == 2;
        if (!c->mail_ok)
            mail_refused(c);
    } else if (c->rcpt_answered < c->rcpt_sent) {
        if (klass == 3)
            return false;
        rcpt_answered(c);
    } else {
        if (klass == 2 || (klass == 3 && c->response.code != 354))
            return false;
        data_answered(c);
    }
    return true;
}

static bool envelope_add(struct smtp_client *c, size_t size)
{
    connection_commit(&c->connection, size);
    return true;
}

/* The command that comes next, if it may be said now and there is room for it. */
static bool envelope_say_next(struct smtp_client *c)
{
    struct smtp_transaction *t = c->transaction;
    bool wait = !c->pipelining && envelope_outstanding(c);
    bool refused = c->mail_answered && !c->mail_ok;
    if (c->end_sent || wait || refused)
        return false;
    bool rcpt_left = c->rcpt_sent < t->recipients_count;
    if (c->mail_sent && !rcpt_left) {
        bool answered = c->mail_answered && c->rcpt_answered == c->rcpt_sent;
        bool ahead = c->chunking ? c->together : c->pipelining;
        if (answered ? c->accepted == 0 : !ahead)
            return false;
    }
    uint8_t *out = connection_reserve(&c->connection, SMTP_CLIENT_COMMAND_MAX);
    if (out == NULL)
        return false;
    if (!c->mail_sent) {
        c->mail_sent = true;
        return envelope_add(c, smtp_client_write_mail(c, t, out));
    }
    if (rcpt_left) {
        const struct smtp_recipient *r = &t->recipients[c->rcpt_sent];
        c->rcpt_sent = next_asked(c, c->rcpt_sent + 1);
        return envelope_add(c, smtp_client_write_rcpt(c, t, r, out));
    }
    c->end_sent = true;
    if (c->chunking)
        return envelope_add(c, smtp_client_write_bdat(t->size, out));
    memcpy(out, "DATA\r\n", 6);
    return envelope_add(c, 6);
}

/* Says all that may be said now, in one send. Without a block for it connection.error is set. */
static void envelope_say(struct smtp_client *c)
{
    if (c->connection.send.inflight)
        return;
    bool said = false;
    while (envelope_say_next(c))
        said = true;
    if (!said || c->connection.error < 0)
        return;
    if (c->end_sent && c->together) {
        c->content_handed = true;
        int r = connection_flush_with(&c->connection, c->staged, c->staged_count);
        CHECK(r == 0); /* the block is there: BDAT is in it */
    } else if (!c->end_sent || !c->chunking) {
        connection_flush(&c->connection); /* a lone BDAT leaves with the first of the content */
    }
}

enum client_step smtp_client_envelope(struct smtp_client *c)
{
    while (envelope_outstanding(c)) {
        enum client_reply reply = smtp_client_reply(c);
        if (reply == CLIENT_REPLY_NONE)
            break;
        if (reply == CLIENT_REPLY_DONE && c->response.code == 421)
            return smtp_client_closing(c);
        if (reply == CLIENT_REPLY_BAD || !envelope_answer(c))
            return smtp_client_fail(c, SMTP_GONE_VIOLATION, 0);
        smtp_client_arm(c);
    }
    if (envelope_outstanding(c)) {
        envelope_say(c);
        return smtp_client_await(c);
    }
    if (c->end_sent && c->together)
        return smtp_client_enter(c, SMTP_CLIENT_FINAL);
    if (connection_has_input(&c->connection) || !c->reply_taken)
        return smtp_client_unasked(c);
    if (c->end_sent && (c->chunking || c->data_ok))
        return smtp_client_enter(c, SMTP_CLIENT_CONTENT);
    if (!c->end_sent) {
        envelope_say(c);
        if (envelope_outstanding(c) || c->end_sent)
            return CLIENT_AGAIN;
        if (c->connection.error < 0 || c->connection.send.inflight)
            return smtp_client_await(c); /* could not be said, or not yet */
    }
    /* Refused as a whole. The last send has been answered, but may not have landed yet. */
    return connection_idle(&c->connection) ? client_finish(c) : smtp_client_await(c);
}

/* ---- content ---- */

/* Makes c->piece the next octets of the body. 1, 0 at the end, -EAGAIN, or an errno. */
static int content_piece(struct smtp_client *c)
{
    if (c->piece.size > 0)
        return 1;
    if (c->staged_next < c->staged_count) {
        c->piece = c->staged[c->staged_next++];
        return 1;
    }
    return body_next(c, &c->piece);
}

static bool content_exhausted(const struct smtp_client *c)
{
    return c->body_taken == c->transaction->size && c->staged_next == c->staged_count &&
           c->piece.size == 0;
}

struct flight {
    struct slice slices[SMTP_CLIENT_SLICES_MAX];
    uint32_t count;
    size_t bytes;
};

/* False: no room in this flight. */
static bool flight_add(struct smtp_client *c, struct flight *flight, struct slice slice)
{
    if (flight->count == 0 && slice.size <= COPY_BYTES_MAX) {
        uint8_t *out = connection_reserve(&c->connection, COPY_BYTES_MAX);
        if (out != NULL) {
            memcpy(out, slice.data, slice.size);
            connection_commit(&c->connection, slice.size);
            flight->bytes += slice.size;
            return true;
        }
    }
    if (flight->count == SMTP_CLIENT_SLICES_MAX)
        return false;
    flight->slices[flight->count++] = slice;
    flight->bytes += slice.size;
    return true;
}

/* Fills the flight from the body. 1: full, 0: all of the body is in, -EAGAIN, or an errno. */
static int content_fill(struct smtp_client *c, struct flight *flight)
{
    /* One slot is kept for the end of DATA. */
    while (flight->count < SMTP_CLIENT_SLICES_MAX - 1 && flight->bytes < SMTP_CLIENT_FLIGHT_BYTES) {
        int r = content_piece(c);
        if (r <= 0)
            return r;
        struct slice part = slice_part(c->piece, 0, SMTP_CLIENT_FLIGHT_BYTES - flight->bytes);
        struct slice left = part;
        struct slice out;
        if (c->chunking) {
            while (smtp_stuff_take(&c->stuff, &left, &out))
                ; /* looked at, not stuffed */
            if (!c->stuff.damaged)
                CHECK(flight_add(c, flight, part));
        } else if (smtp_stuff_take(&c->stuff, &left, &out)) {
            CHECK(flight_add(c, flight, out));
        }
        if (c->stuff.damaged)
            return -EBADMSG;
        c->piece = slice_from(c->piece, part.size - left.size);
    }
    return content_exhausted(c) ? 0 : 1;
}

/* The end of the body is in the flight: what is to be said behind it. */
static int content_end(struct smtp_client *c, struct flight *flight)
{
    struct slice out;
    if (!smtp_stuff_end(&c->stuff, &out))
        return -EBADMSG;
    if (!c->chunking)
        CHECK(flight_add(c, flight, out));
    c->content_handed = true;
    return 0;
}

static enum client_step content_broken(struct smtp_client *c, int error)
{
    if (error == -EBADMSG && c->stuff.damaged) {
        metric_add(&c->clients->numbers.damaged_bodies, 1);
        return smtp_client_fail(c, SMTP_GONE_BODY, 0);
    }
    return smtp_client_fail(c, SMTP_GONE_BODY, error);
}

/* A reply amid content: the host wants no more of it. The connection is of no use any more. */
static enum client_step content_interrupted(struct smtp_client *c)
{
    struct smtp_transaction *t = c->transaction;
    enum client_reply reply = smtp_client_reply(c);
    if (reply == CLIENT_REPLY_NONE)
        return smtp_client_await(c);
    if (reply == CLIENT_REPLY_DONE && c->response.code == 421)
        return smtp_client_closing(c);
    if (reply == CLIENT_REPLY_DONE && c->response.code >= 400) {
        struct smtp_result result = result_of_reply(c, SMTP_STAGE_CONTENT);
        result.verdict = SMTP_VERDICT_TEMPORARY; /* whose reply it is cannot be known for sure */
        result.enhanced.klass = 4;
        for (uint32_t i = 0; i < t->recipients_count; i++)
            if (undecided(&t->recipients[i]))
                recipient_settle(c, &t->recipients[i], result, smtp_response_text(&c->response));
    }
    return smtp_client_fail(c, SMTP_GONE_VIOLATION, 0);
}

enum client_step smtp_client_content(struct smtp_client *c)
{
    if (connection_has_input(&c->connection) || !c->reply_taken)
        return content_interrupted(c);
    if (c->connection.send.inflight || c->connection.error < 0 || c->connection.eof)
        return smtp_client_await(c);
    if (c->piece.size == 0 && c->staged_next == c->staged_count)
        client_release(c); /* all that was taken has landed */
    struct flight flight = { .count = 0 };
    int r = 0;
    if (c->abandoned) {
        CHECK(flight_add(c, &flight, SLICE(".\r\n"))); /* RFC 2920 3.1: nobody to deliver to */
        c->content_handed = true;
    } else {
        r = content_fill(c, &flight);
        if (r == 0)
            r = content_end(c, &flight);
        if (r < 0 && r != -EAGAIN)
            return content_broken(c, r);
    }
    if (flight.bytes > 0 || c->content_handed) {
        if (flight.count > 0) {
            r = connection_flush_with(&c->connection, flight.slices, flight.count);
            if (r < 0)
                return smtp_client_fail(c, SMTP_GONE_LOCAL, r);
        } else {
            connection_flush(&c->connection);
        }
        smtp_client_arm(c);
    }
    if (c->content_handed)
        return smtp_client_enter(c, SMTP_CLIENT_FINAL);
    return smtp_client_await(c);
}

/* ---- the end of data ---- */

static bool lmtp(const struct smtp_client *c)
{
    return c->target.protocol == SMTP_CLIENT_LMTP && !c->abandoned;
}

/* RFC 2033 4.2: one reply for each accepted recipient, in order. */
static void final_answer(struct smtp_client *c)
{
    struct smtp_transaction *t = c->transaction;
    c->replied = true;
    while (c->final_next < t->recipients_count) {
        struct smtp_recipient *r = &t->recipients[c->final_next++];
        if (r->phase != PHASE_ACCEPTED)
            continue;
        settle_by_reply(c, r, SMTP_STAGE_FINAL);
        if (lmtp(c))
            break;
    }
    c->end_answered = !lmtp(c) || c->accepted == 0;
    c->clean = c->end_answered && c->response.code / 100 == 2;
}

/* 503 is the due answer to a BDAT that nobody is accepted for (RFC 3030 2). */
static bool chunking_refused(const struct smtp_client *c)
{
    uint16_t code = c->response.code;
    return code == 500 || code == 501 || code == 502 || code == 504 ||
           (code == 503 && c->accepted > 0);
}

enum client_step smtp_client_final(struct smtp_client *c)
{
    while (!c->end_answered) {
        enum client_reply reply = smtp_client_reply(c);
        if (reply == CLIENT_REPLY_NONE)
            return smtp_client_await(c);
        if (reply == CLIENT_REPLY_BAD || c->response.code / 100 == 3)
            return smtp_client_fail(c, SMTP_GONE_VIOLATION, 0);
        if (c->response.code == 421)
            return smtp_client_closing(c);
        if (c->chunking && chunking_refused(c))
            return smtp_client_fail(c, SMTP_GONE_CHUNKING, 0);
        bool last = !lmtp(c) || c->accepted == 1;
        if (last && connection_has_input(&c->connection) && !smtp_client_only_421(c))
            return smtp_client_fail(c, SMTP_GONE_VIOLATION, 0); /* whose 250 was it? */
        final_answer(c);
        smtp_client_arm(c);
    }
    if (!connection_idle(&c->connection))
        return smtp_client_await(c);
    return client_finish(c);
}
