/*
 * smtp_content.c - the states of the inbound session that read content and make it durable
 *
 *   DATA|BDAT: input -> framing (smtp_data) -> spool; what cannot be kept is read and dropped
 *   COMMIT:    envelope to the spool, wait until it is on stable storage, 250
 *
 * Content refused for what it holds is only judged when all of it has been read, so framing stays
 * in step. Bound: content over the limit is read up to DROP_FACTOR times the limit, then the
 * connection ends.
 */
#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/smtp_session.h"

enum { DROP_FACTOR = 2, SMTP_LOOP_TEXT = 96 };

enum smtp_newline smtp_newline(const struct smtp_server *s)
{
    return smtp_limits(s)->bare_newline == CONFIG_BARE_NEWLINE_NORMALIZE ? SMTP_NEWLINE_NORMALIZE
                                                                         : SMTP_NEWLINE_REJECT;
}

int smtp_begin_content(struct smtp_server *s)
{
    struct smtp_incoming *t = s->transaction;
    header_filter_begin(&t->header, &smtp_config(s)->headers, t->required, t->keeps_fields);
    const struct smtp_origin origin = {
        .helo = slice_of(s->helo, s->helo_size),
        .esmtp = s->esmtp,
        .tls = s->connection.tls,
        .peer = &s->peer,
        .hostname = s->listener->banner,
        .wall_us = s->service->shard->wall_us,
        .steady_us = s->service->shard->steady_us,
    };
    return smtp_incoming_begin(t, &origin);
}

/* Moves what is there into the spool. 1: the end of content or chunk is reached; 0: more is to
 * come; -EAGAIN: the spool is behind. Errors of the spool stay in t->error, reading goes on. */
static int smtp_take_content(struct smtp_server *s)
{
    struct smtp_incoming *t = s->transaction;
    struct connection *c = &s->connection;
    for (;;) {
        if (t->pending.size > 0) {
            int r = t->error < 0 ? t->error : smtp_incoming_write(t, t->pending);
            if (r == -EAGAIN)
                return r;
            if (r < 0)
                t->error = r;
            t->pending.size = 0;
        }
        if (t->error == 0 && header_filter_take(&t->header, &t->unfiltered, &t->pending))
            continue;
        /* Its place in the input is only left behind when the spool has taken it. */
        connection_take(c, t->pending_input);
        t->pending_input = 0;
        struct slice in = connection_peek(c);
        struct slice rest = in;
        struct slice content;
        bool got = smtp_data_take(&t->data, &rest, &content);
        size_t used = in.size - rest.size;
        if (got) {
            t->unfiltered = content;
            t->pending_input = used;
            if (t->data.content.size > smtp_size_max(s) && t->error == 0)
                t->error = -EFBIG;
            continue;
        }
        connection_take(c, used);
        if (t->data.ended && t->error == 0 && header_filter_end(&t->header, &t->pending))
            continue;
        if (t->data.ended || (t->bdat && t->data.chunk_left == 0))
            return 1;
        if (in.size == 0)
            return 0;
    }
}

static enum smtp_reply_id smtp_loop_reply(const struct smtp_server *s)
{
    return inbound_defaults(smtp_config(s)->inbound)->replies == CONNECTOR_REPLIES_EXCHANGE
               ? SMTP_REPLY_LOOP_EXCHANGE
               : SMTP_REPLY_LOOP;
}

/* Why this message cannot be taken; SMTP_REPLIES: it can. */
static enum smtp_reply_id smtp_judge(struct smtp_server *s)
{
    const struct smtp_incoming *t = s->transaction;
    const struct smtp_content *content = &t->data.content;
    struct smtp_server_metrics *m = smtp_metrics(s);
    if (t->error == -EPROTO)
        return t->envelope.recipients_count == 0 ? SMTP_REPLY_NEED_RCPT : SMTP_REPLY_NEED_MAIL;
    if (content->size > smtp_size_max(s)) {
        metric_add(&m->refused_size, 1);
        if (content->size <= s->listener->size_max)
            smtp_connector_refused(s, t->verdict.connector, TOKEN_SIZE, 552);
        return SMTP_REPLY_MESSAGE_BIG;
    }
    if (content->flags & SMTP_CONTENT_NUL) {
        metric_add(&m->refused_nul, 1);
        return SMTP_REPLY_NUL;
    }
    if ((content->flags & (SMTP_CONTENT_BARE_CR | SMTP_CONTENT_BARE_LF)) &&
        smtp_limits(s)->bare_newline == CONFIG_BARE_NEWLINE_REJECT) {
        metric_add(&m->refused_newline, 1);
        return SMTP_REPLY_BARE_NEWLINE;
    }
    if (content->header_size > SMTP_HEADER_BYTES_MAX) {
        metric_add(&m->refused_size, 1);
        return SMTP_REPLY_HEADER_BIG;
    }
    if (content->received_count > smtp_limits(s)->received_max) {
        metric_add(&m->refused_loop, 1);
        return smtp_loop_reply(s);
    }
    if (content->received_ours_count >= smtp_limits(s)->received_ours_max) {
        metric_add(&m->refused_fleet_loop, 1);
        return smtp_loop_reply(s);
    }
    if ((content->flags & SMTP_CONTENT_HEADER_8BIT) && !(t->envelope.flags & ENVELOPE_SMTPUTF8)) {
        metric_add(&m->refused_8bit, 1);
        return SMTP_REPLY_8BIT_HEADER;
    }
    if (t->error < 0) {
        metric_add(t->error == -EIO ? &m->refused_failed : &m->refused_space, 1);
        return t->error == -EIO ? SMTP_REPLY_WRITE_FAILED : SMTP_REPLY_NO_SPACE;
    }
    return SMTP_REPLIES;
}

/* For the log: how often it was here, as far as its header says. */
static struct slice smtp_loop(const struct smtp_server *s, char out[static SMTP_LOOP_TEXT])
{
    const struct smtp_content *content = &s->transaction->data.content;
    const int size =
        snprintf(out, SMTP_LOOP_TEXT, "%u Received fields, %u of them by hosts of ours",
                 content->received_count, content->received_ours_count);
    return slice_of(out, (size_t)size);
}

/* What the header says about the way on. RFC 8689 4.2: beside REQUIRETLS the field means nothing.
 */
static void smtp_tag_content(struct smtp_server *s)
{
    struct smtp_incoming *t = s->transaction;
    struct smtp_server_metrics *m = smtp_metrics(s);
    metric_add(&m->fields_removed, t->header.removed_fields);
    if (t->header.trusted > 0)
        t->envelope.flags |= ENVELOPE_TRUSTED_FIELDS;
    if (t->envelope.flags & ENVELOPE_REQUIRETLS) {
        metric_add(&m->requiretls, 1);
    } else if (header_filter_tls_optional(&t->header)) {
        metric_add(&m->tls_optional, 1);
        t->envelope.flags |= ENVELOPE_TLS_OPTIONAL;
    }
}

/* All content is here: commit it, or say why not. */
static enum step smtp_content_ended(struct smtp_server *s)
{
    struct smtp_incoming *t = s->transaction;
    enum smtp_reply_id why = smtp_judge(s);
    if (why != SMTP_REPLIES) {
        char what[SMTP_LOOP_TEXT];
        smtp_refuse(s, why, why == smtp_loop_reply(s) ? smtp_loop(s, what) : slice_of(NULL, 0));
        smtp_reset(s);
        smtp_wait_command(s);
        return smtp_enter(s, SMTP_COMMAND);
    }
    enum step refused;
    if (!smtp_policy_content(s, &refused)) {
        if (s->state == SMTP_CLOSE)
            return refused;
        smtp_reset(s);
        smtp_wait_command(s);
        return smtp_enter(s, SMTP_COMMAND);
    }
    if (t->data.content.flags & SMTP_CONTENT_8BIT)
        t->envelope.flags |= ENVELOPE_8BITMIME;
    smtp_tag_content(s);
    t->ended_ns = s->service->shard->now_ns;
    s->deadline_ms = 0;
    return smtp_enter(s, SMTP_COMMIT);
}

static enum step smtp_content_step(struct smtp_server *s, int taken)
{
    const struct smtp_incoming *t = s->transaction;
    if (taken == -EAGAIN) {
        s->deadline_ms = 0; /* the spool keeps us waiting, not the client */
        return STEP_WAIT;
    }
    if (t->data.content.size / DROP_FACTOR > smtp_size_max(s)) {
        metric_add(&smtp_metrics(s)->refused_size, 1);
        return smtp_finish(s, SMTP_REPLY_MESSAGE_BIG);
    }
    if (s->connection.eof) {
        metric_add(&smtp_metrics(s)->cut, 1);
        return smtp_drop(s);
    }
    smtp_wait_data(s);
    return STEP_WAIT;
}

enum step smtp_data_step(struct smtp_server *s)
{
    int taken = smtp_take_content(s);
    if (taken != 1)
        return smtp_content_step(s, taken);
    return smtp_content_ended(s);
}

enum step smtp_bdat_step(struct smtp_server *s)
{
    struct smtp_incoming *t = s->transaction;
    int taken = smtp_take_content(s);
    if (taken != 1)
        return smtp_content_step(s, taken);
    if (t->data.ended)
        return smtp_content_ended(s);
    if (!smtp_has_room(s))
        return STEP_WAIT;
    /* RFC 3030 2: a chunk that failed is answered so, and so are those after it. */
    if (t->error < 0) {
        enum smtp_reply_id why = smtp_judge(s);
        smtp_say(s, why == SMTP_REPLIES ? SMTP_REPLY_TRANSACTION_FAILED : why);
        if (t->error == -EPROTO)
            smtp_reset(s);
    } else {
        char octets[24];
        snprintf(octets, sizeof(octets), "%llu", (unsigned long long)t->chunk_bytes);
        smtp_say_with(s, SMTP_REPLY_CHUNK_OK, slice_of_string(octets));
    }
    smtp_wait_command(s);
    return smtp_enter(s, SMTP_COMMAND);
}

/* ---- commit ---- */

static void smtp_log_received(struct smtp_server *s, const char *id)
{
    const struct smtp_incoming *t = s->transaction;
    struct shard *shard = s->service->shard;
    if (shard->log == NULL)
        return;
    struct log_line line;
    log_begin(&line, shard->log, LOG_INFO, shard->wall_us, "received");
    log_string(&line, "msg", id);
    log_string(&line, "listener", s->listener->name);
    log_address(&line, "client", &s->peer);
    log_text(&line, "helo", slice_of(s->helo, s->helo_size));
    log_text(&line, "from", t->envelope.sender);
    log_list(&line, "to");
    uint32_t asked = t->envelope.recipients_count - t->copies;
    for (uint32_t i = 0; i < asked && line.size < LOG_LINE_MAX / 2; i++)
        log_item(&line, t->envelope.recipients[i].address);
    log_list_end(&line);
    log_number(&line, "recipients", asked);
    log_number(&line, "size", (int64_t)t->envelope.body_bytes);
    if (t->header.id_size > 0)
        log_text(&line, "message_id", header_filter_id(&t->header));
    log_string(&line, "proto", s->secured ? "ESMTPS" : s->esmtp ? "ESMTP" : "SMTP");
    smtp_log_policy(s, &line);
    smtp_log_tls(s, &line);
    if (t->envelope.flags & ENVELOPE_REQUIRETLS)
        log_bool(&line, "requiretls", true);
    if (t->envelope.flags & ENVELOPE_TLS_OPTIONAL)
        log_bool(&line, "tls_optional", true);
    if (t->header.removed_fields > 0)
        log_number(&line, "fields_removed", t->header.removed_fields);
    log_number(&line, "commit_us", (int64_t)((shard->now_ns - t->ended_ns) / 1000));
    log_end(&line);
}

/* Copies that rules have added; decision: the one that let their original in. */
static void smtp_log_copies(struct smtp_server *s, const char *id)
{
    const struct smtp_incoming *t = s->transaction;
    struct shard *shard = s->service->shard;
    for (uint32_t i = 0; i < t->copies && shard->log != NULL; i++) {
        const struct recipient *copy =
            &t->envelope.recipients[t->envelope.recipients_count - t->copies + i];
        char decision[SMTP_DECISION_TEXT];
        struct log_line line;
        smtp_decision_text(t->decision, decision);
        log_begin(&line, shard->log, LOG_INFO, shard->wall_us, "copy");
        log_string(&line, "msg", id);
        log_text(&line, "to", copy->address);
        log_text(&line, "connector", copy->connector);
        log_string(&line, "decision", decision);
        log_end(&line);
    }
}

enum step smtp_commit(struct smtp_server *s)
{
    struct smtp_incoming *t = s->transaction;
    if (!t->asked) {
        int r = smtp_incoming_commit(t, smtp_config(s));
        if (r == 0 || r == -EAGAIN)
            return STEP_WAIT;
        t->error = r;
        t->result = r;
    } else if (t->committing) {
        return STEP_WAIT;
    }
    struct smtp_server_metrics *m = smtp_metrics(s);
    if (t->result == 0) {
        char id[SMTP_ID_TEXT];
        smtp_id_text(t->writer.id, id);
        metric_add(&m->messages, 1);
        metric_add(&m->bytes, t->envelope.body_bytes);
        metric_add(&m->recipients, t->envelope.recipients_count - t->copies);
        metric_add(&m->copies, t->copies);
        histogram_add(&m->accept_us, (s->service->shard->now_ns - t->ended_ns) / 1000);
        s->messages++;
        s->refused_messages = 0;
        smtp_connector_accepted(s);
        smtp_log_received(s, id);
        smtp_log_copies(s, id);
        smtp_say_with(s, SMTP_REPLY_QUEUED, slice_of_string(id));
    } else {
        bool space = t->result == -ENOSPC || t->result == -E2BIG || t->result == -ENOMEM;
        metric_add(space ? &m->refused_space : &m->refused_failed, 1);
        smtp_refuse(s, space ? SMTP_REPLY_NO_SPACE : SMTP_REPLY_WRITE_FAILED, slice_of(NULL, 0));
    }
    smtp_reset(s);
    smtp_wait_command(s);
    return smtp_enter(s, SMTP_COMMAND);
}
