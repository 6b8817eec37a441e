/*
 * smtp_server.c - the inbound session: states in protocol order
 *
 *   OPEN -> [PROXY] -> [HANDSHAKE] -> GREET -> COMMAND <-> DATA|BDAT -> COMMIT -> COMMAND ... ->
 * CLOSE HANDSHAKE <-STARTTLS-'
 *
 * OPEN lets one turn of the loop pass with receiving armed, so that GREET can see who talks before
 * the banner. Content that cannot be kept (refused, too big, a failed spool) is read to its end and
 * dropped, then answered: framing stays in step. COMMIT has no deadline: giving up unwrites
 * nothing.
 *
 * Owns its connection and at most one transaction. Bounds: commands, bad commands, messages and
 * time of a session by configuration; STEPS_PER_RUN_MAX steps before others have their turn; after
 * the last reply LINGER_MS and LINGER_BYTES of further talk are dropped so that the reply arrives.
 */
#include "mta/smtp_session.h"

#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/config.h"
#include "mta/policy.h"
#include "mta/proxy.h"
#include "mta/smtp_reply.h"
#include "mta/smtp_incoming.h"
#include "mta/wire.h"

enum {
    STEPS_PER_RUN_MAX = 64,
    LINGER_MS = 2'000,
    LINGER_BYTES = 256 * 1'024,
    PROXY_TIMEOUT_MS = 10'000,
};

static enum step smtp_open(struct smtp_server *s);
static enum step smtp_proxy(struct smtp_server *s);
static enum step smtp_greet(struct smtp_server *s);
static enum step smtp_command_step(struct smtp_server *s);
static enum step smtp_close(struct smtp_server *s);

/* clang-format off */
static const struct {
    const char *name;
    enum step (*step)(struct smtp_server *);
} smtp_states[SMTP_STATES] = {
    [SMTP_OPEN]    = { "open",    smtp_open },
    [SMTP_PROXY]   = { "proxy",   smtp_proxy },        /* only for listed peers */
    [SMTP_HANDSHAKE] = { "handshake", smtp_handshake }, /* nothing from before it survives */
    [SMTP_GREET]   = { "greet",   smtp_greet },        /* who talked before it is sent away */
    [SMTP_COMMAND] = { "command", smtp_command_step },
    [SMTP_DATA]    = { "data",    smtp_data_step },
    [SMTP_BDAT]    = { "bdat",    smtp_bdat_step },
    [SMTP_COMMIT]  = { "commit",  smtp_commit },       /* no deadline: giving up unwrites nothing */
    [SMTP_CLOSE]   = { "close",   smtp_close },        /* the last reply leaves, then the socket */
};
/* clang-format on */

static void smtp_server_check(const struct smtp_server *s)
{
    CHECK(s->state < SMTP_STATES);
    switch (s->state) {
    case SMTP_DATA:
        CHECK(s->transaction != NULL);
        CHECK(!s->transaction->bdat);
        CHECK(!s->transaction->asked);
        break;
    case SMTP_COMMIT:
        CHECK(s->transaction != NULL);
        CHECK(s->transaction->data.ended);
        break;
    default: CHECK(s->transaction == NULL || !s->transaction->asked);
    }
}

enum step smtp_enter(struct smtp_server *s, enum smtp_state state)
{
    s->state = (uint8_t)state;
    return STEP_AGAIN;
}

/* ---- deadlines: one timer, moved lazily ---- */

void smtp_wait_until(struct smtp_server *s, uint32_t timeout_ms)
{
    uint64_t deadline = s->service->shard->now_ms + timeout_ms;
    if (s->transaction != NULL)
        deadline = MIN(deadline, s->transaction->begun_ms + smtp_limits(s)->transaction_timeout_ms);
    s->deadline_ms = MIN(deadline, s->connection_deadline_ms);
    if (!timer_armed(&s->timer) || s->timer.due_ms > s->deadline_ms)
        timer_arm(&s->service->shard->timers, &s->timer, s->deadline_ms);
}

bool smtp_under_load(const struct smtp_server *s)
{
    const struct config_limits *l = smtp_limits(s);
    return limits_under_load(s->service->limits, &l->connections, l->load_percent);
}

void smtp_wait_command(struct smtp_server *s)
{
    const struct config_limits *l = smtp_limits(s);
    smtp_wait_until(s, smtp_under_load(s) ? l->load_command_timeout_ms : l->command_timeout_ms);
}

void smtp_wait_data(struct smtp_server *s)
{
    const struct config_limits *l = smtp_limits(s);
    smtp_wait_until(s, smtp_under_load(s) ? l->load_data_timeout_ms : l->data_timeout_ms);
}

static void smtp_on_timer(struct timer *timer)
{
    struct smtp_server *s = container_of(timer, struct smtp_server, timer);
    struct shard *shard = s->service->shard;
    if (s->deadline_ms == 0)
        return;
    if (shard->now_ms < s->deadline_ms) {
        timer_arm(&shard->timers, timer, s->deadline_ms);
        return;
    }
    s->fired = true;
    shard_run_later(shard, &s->runnable);
}

/* ---- replies ---- */

bool smtp_has_room(const struct smtp_server *s)
{
    const struct connection_output *out = s->connection.output;
    return out == NULL || CONNECTION_OUTPUT_BYTES - out->size >= REPLY_ROOM;
}

void smtp_say_with(struct smtp_server *s, enum smtp_reply_id id, struct slice detail)
{
    uint8_t *out = connection_reserve(&s->connection, SMTP_REPLY_LINE_MAX);
    if (out == NULL)
        return; /* the connection is broken, or out of memory: its error says so */
    int size = smtp_reply_write(id, s->esmtp, detail, out, SMTP_REPLY_LINE_MAX);
    CHECK(size > 0);
    connection_commit(&s->connection, (size_t)size);
}

void smtp_say(struct smtp_server *s, enum smtp_reply_id id)
{
    smtp_say_with(s, id, slice_of(NULL, 0));
}

void smtp_log_refusal(struct smtp_server *s, enum smtp_reply_id id, struct slice what)
{
    struct shard *shard = s->service->shard;
    if (shard->log == NULL)
        return;
    const struct smtp_reply_text *reply = smtp_reply_get(id);
    struct log_line line;
    log_begin(&line, shard->log, LOG_INFO, shard->wall_us, "refused");
    log_string(&line, "listener", s->listener->name);
    log_address(&line, "client", &s->peer);
    log_text(&line, "helo", slice_of(s->helo, s->helo_size));
    if (s->transaction != NULL)
        log_text(&line, "from", s->transaction->envelope.sender);
    if (what.size > 0)
        log_text(&line, "what", what);
    log_number(&line, "code", reply->code);
    log_string(&line, "text", reply->text);
    log_end(&line);
}

/* ---- transactions ---- */

void smtp_reset(struct smtp_server *s)
{
    if (s->transaction != NULL)
        smtp_incoming_free(s->transaction);
    s->transaction = NULL;
}

enum step smtp_part(struct smtp_server *s)
{
    connection_bye(&s->connection);
    smtp_reset(s);
    s->lingering = true;
    s->connection_deadline_ms = UINT64_MAX; /* may be over, and these words have to leave */
    smtp_wait_until(s, LINGER_MS);
    return smtp_enter(s, SMTP_CLOSE);
}

/* Says the last words; what comes after them is dropped. */
enum step smtp_finish(struct smtp_server *s, enum smtp_reply_id id)
{
    smtp_say_with(s, id, slice_of_string(s->listener->banner));
    smtp_part(s);
    s->lingering = id != SMTP_REPLY_BYE;
    return STEP_AGAIN;
}

/* The client is gone, or silent for good: nothing to say. */
enum step smtp_drop(struct smtp_server *s)
{
    if (s->transaction != NULL)
        metric_add(&smtp_metrics(s)->aborted, 1);
    smtp_reset(s);
    connection_close(&s->connection);
    return STEP_GONE;
}

static enum step smtp_timed_out(struct smtp_server *s)
{
    s->fired = false;
    bool late = s->transaction != NULL &&
                s->service->shard->now_ms >=
                    s->transaction->begun_ms + smtp_limits(s)->transaction_timeout_ms;
    metric_add(late ? &smtp_metrics(s)->slow : &smtp_metrics(s)->timeouts, 1);
    if (s->state == SMTP_HANDSHAKE)
        smtp_tls_failed(s, SLICE("the handshake took too long"));
    if (s->state == SMTP_OPEN || s->state == SMTP_PROXY || s->state == SMTP_HANDSHAKE ||
        !smtp_has_room(s) || (s->connection.output != NULL && s->connection.send.inflight))
        return smtp_drop(s);
    return smtp_finish(s, late ? SMTP_REPLY_SLOW : SMTP_REPLY_TIMEOUT);
}

/* ---- before the first command ---- */

/* The state behind all that comes before the protocol. */
static void smtp_begin(struct smtp_server *s)
{
    if (s->listener->tls == CONFIG_TLS_IMPLICIT)
        smtp_enter_handshake(s);
    else
        smtp_enter(s, SMTP_GREET);
}

static enum step smtp_open(struct smtp_server *s)
{
    const struct config_listener *listener = s->listener;
    if (s->refusal != SMTP_REPLIES && listener->tls == CONFIG_TLS_IMPLICIT)
        return smtp_drop(s); /* words would be no TLS */
    if (s->refusal != SMTP_REPLIES)
        return smtp_finish(s, (enum smtp_reply_id)s->refusal);
    if (policy_expects_proxy(listener, &s->peer))
        smtp_enter(s, SMTP_PROXY);
    else
        smtp_begin(s);
    /* One turn of the loop: what was sent before the banner has then been received. */
    connection_settle(&s->connection);
    shard_run_later(s->service->shard, &s->runnable);
    return STEP_WAIT;
}

/* Somebody may want to look on. */
static void smtp_watch(struct smtp_server *s)
{
    struct wire_watch *watch = s->service->pools->watch;
    if (watch != NULL && s->connection.tap == NULL)
        wire_inbound(watch, s->service->shard, &s->connection, &s->peer, s->listener->name);
}

/* Limits count the client that the proxy tells of. False: it is one too many. */
static bool smtp_count_again(struct smtp_server *s, const struct proxy_endpoint *source)
{
    struct smtp_service *service = s->service;
    struct net_address client = { .port = source->port };
    memcpy(client.octets, source->address, sizeof(client.octets));
    limits_close(service->limits, &s->counted);
    enum limits_verdict verdict =
        limits_open(service->limits, &smtp_limits(s)->connections, &client,
                    networks_hold(smtp_limits(s)->exempt, &client), service->shard->now_ms);
    if (verdict != LIMITS_ADMITTED) {
        /* Count the proxy again, so that the close finds what it takes away; unless a reload has
         * lowered the bound meanwhile. */
        if (limits_open(service->limits, &smtp_limits(s)->connections, &s->counted, true,
                        service->shard->now_ms) != LIMITS_ADMITTED)
            s->refusal = SMTP_REPLY_TOO_MANY_CONNECTIONS;
        return false;
    }
    s->peer = client;
    s->counted = client;
    s->facts_known = false;
    return true;
}

static enum step smtp_proxy(struct smtp_server *s)
{
    struct slice in = connection_collect(&s->connection);
    struct proxy_header header;
    size_t used = 0;
    enum proxy_result result = in.size == 0 ? PROXY_NEED_MORE : proxy_parse(in, &header, &used);
    if (result == PROXY_NEED_MORE && !s->connection.eof) {
        if (s->deadline_ms == 0) /* one deadline for all its pieces */
            smtp_wait_until(s, PROXY_TIMEOUT_MS);
        return STEP_WAIT;
    }
    if (result != PROXY_OK) {
        metric_add(&smtp_metrics(s)->proxy_bad, 1);
        return smtp_drop(s);
    }
    connection_collected(&s->connection, used);
    s->deadline_ms = 0;
    smtp_begin(s);
    if (header.family == PROXY_FAMILY_NONE || smtp_count_again(s, &header.source)) {
        smtp_watch(s);
        return STEP_AGAIN;
    }
    if (s->listener->tls == CONFIG_TLS_IMPLICIT)
        return smtp_drop(s);
    return smtp_finish(s, SMTP_REPLY_TOO_MANY_CONNECTIONS);
}

static enum step smtp_greet(struct smtp_server *s)
{
    if (connection_has_input(&s->connection)) {
        metric_add(&smtp_metrics(s)->early_talk, 1);
        smtp_log_refusal(s, SMTP_REPLY_EARLY_TALK, SLICE("talk before the greeting"));
        return smtp_finish(s, SMTP_REPLY_EARLY_TALK);
    }
    if (s->connection.eof)
        return smtp_drop(s);
    int room = spool_room(s->service->spool, 0);
    if (room == -EIO)
        return smtp_finish(s, SMTP_REPLY_NO_SPOOL);
    smtp_say_with(s, SMTP_REPLY_GREETING, slice_of_string(s->listener->banner));
    smtp_wait_command(s);
    return smtp_enter(s, SMTP_COMMAND);
}

/* ---- commands ---- */

enum step smtp_ok(struct smtp_server *s, enum smtp_reply_id id)
{
    smtp_say(s, id);
    return STEP_AGAIN;
}

enum step smtp_refuse(struct smtp_server *s, enum smtp_reply_id id, struct slice what)
{
    smtp_log_refusal(s, id, what);
    smtp_say(s, id);
    return STEP_AGAIN;
}

enum step smtp_bad(struct smtp_server *s, enum smtp_reply_id id)
{
    metric_add(&smtp_metrics(s)->bad_commands, 1);
    if (++s->bad_commands > smtp_limits(s)->bad_commands_max)
        return smtp_finish(s, SMTP_REPLY_TOO_MANY_ERRORS);
    return smtp_ok(s, id);
}

static enum step smtp_ehlo(struct smtp_server *s, const struct smtp_command *command)
{
    smtp_reset(s);
    s->esmtp = command->verb == SMTP_VERB_EHLO;
    s->greeted = true;
    s->helo_size = (uint16_t)MIN(command->helo.name.size, sizeof(s->helo));
    memcpy(s->helo, command->helo.name.data, s->helo_size);
    struct slice banner = slice_of_string(s->listener->banner);
    if (!s->esmtp) {
        smtp_say_with(s, SMTP_REPLY_HELO, banner);
        return STEP_AGAIN;
    }
    char size[32];
    char limits[64];
    snprintf(size, sizeof(size), "SIZE %llu", (unsigned long long)s->listener->size_max);
    snprintf(limits, sizeof(limits), "LIMITS RCPTMAX=%u MAILMAX=%u", smtp_limits(s)->recipients_max,
             smtp_limits(s)->messages_max);
    struct slice lines[] = {
        banner,
        SLICE("PIPELINING"),
        slice_of_string(size),
        SLICE("8BITMIME"),
        SLICE("SMTPUTF8"),
        SLICE("ENHANCEDSTATUSCODES"),
        SLICE("CHUNKING"),
        SLICE("DSN"),
        slice_of_string(limits),
        SLICE("HELP"),
        s->secured ? SLICE("REQUIRETLS") : SLICE("STARTTLS"), /* RFC 8689 2: not in clear */
    };
    size_t count = ARRAY_COUNT(lines) - (s->secured || smtp_offers_tls(s) ? 0 : 1);
    uint8_t *out = connection_reserve(&s->connection, REPLY_ROOM);
    if (out == NULL)
        return STEP_AGAIN; /* there was room: its error is set */
    int written =
        smtp_reply_write_lines(250, (struct smtp_enhanced) { 0 }, lines, count, out, REPLY_ROOM);
    CHECK(written > 0);
    connection_commit(&s->connection, (size_t)written);
    return STEP_AGAIN;
}

static enum step smtp_mail(struct smtp_server *s, const struct smtp_mail *mail)
{
    if (!s->greeted)
        return smtp_bad(s, SMTP_REPLY_NEED_HELO);
    if (s->transaction != NULL && s->transaction->bdat && s->transaction->error < 0)
        smtp_reset(s); /* a chunk was refused: nothing is left of that transaction */
    if (s->transaction != NULL)
        return smtp_bad(s, SMTP_REPLY_NESTED_MAIL);
    if (mail->requiretls && !s->secured) {
        metric_add(&smtp_metrics(s)->tls_demanded, 1);
        return smtp_bad(s, SMTP_REPLY_TLS_REQUIRED);
    }
    if (s->drain)
        return smtp_finish(s, SMTP_REPLY_SHUTDOWN);
    if (s->messages >= smtp_limits(s)->messages_max)
        return smtp_finish(s, SMTP_REPLY_TOO_MANY_MESSAGES);
    if (mail->size_given && mail->size > s->listener->size_max) {
        metric_add(&smtp_metrics(s)->refused_size, 1);
        return smtp_refuse(s, SMTP_REPLY_MESSAGE_BIG, slice_of(NULL, 0));
    }
    char domain[PATTERN_TEXT_MAX] = "";
    int domain_size = 0;
    enum step refused;
    if (mail->path.domain.size > 0) {
        domain_size = pattern_normalise(mail->path.domain, domain);
        if (domain_size < 0)
            return smtp_bad(s, SMTP_REPLY_BAD_SENDER);
    }
    const struct slice sender = slice_of(domain, (size_t)domain_size);
    if (!smtp_policy_mail(s, sender, mail->size_given ? mail->size : 0, &refused))
        return refused;
    if (smtp_service_is_short(s->service)) {
        metric_add(&smtp_metrics(s)->refused_short, 1);
        return smtp_refuse(s, SMTP_REPLY_NO_SPACE, SLICE("memory"));
    }
    int room = spool_room(s->service->spool, mail->size_given ? mail->size : 0);
    if (room < 0) {
        metric_add(&smtp_metrics(s)->refused_space, 1);
        return smtp_refuse(s, room == -ENOSPC ? SMTP_REPLY_NO_SPACE : SMTP_REPLY_LOCAL_ERROR,
                           slice_of(NULL, 0));
    }
    struct smtp_incoming *t = smtp_incoming_new(s->service, &s->runnable);
    if (t == NULL)
        return smtp_refuse(s, SMTP_REPLY_NO_SPACE, SLICE("transactions"));
    s->transaction = t;
    if (smtp_incoming_sender(t, mail, sender) < 0) {
        smtp_reset(s);
        return smtp_refuse(s, SMTP_REPLY_NO_SPACE, SLICE("texts"));
    }
    t->envelope.listener = slice_of_string(s->listener->name);
    return smtp_ok(s, SMTP_REPLY_SENDER_OK);
}

static enum step smtp_rcpt(struct smtp_server *s, const struct smtp_rcpt *rcpt)
{
    struct smtp_incoming *t = s->transaction;
    if (t == NULL)
        return smtp_bad(s, SMTP_REPLY_NEED_MAIL);
    if (t->bdat)
        return smtp_bad(s, SMTP_REPLY_BDAT_EXPECTED);
    char domain[PATTERN_TEXT_MAX] = "";
    int size = 0;
    if (!rcpt->path.postmaster) {
        size = pattern_normalise(rcpt->path.domain, domain);
        if (size < 0)
            return smtp_bad(s, SMTP_REPLY_BAD_RECIPIENT);
    }
    enum step refused;
    if (!smtp_policy_rcpt(s, slice_of(domain, (size_t)size), address_text(&rcpt->path), &refused))
        return refused;
    if (t->envelope.recipients_count >= smtp_limits(s)->recipients_max ||
        !s->service->room(s->service->owner)) {
        metric_add(&smtp_metrics(s)->refused_recipients, 1);
        return smtp_ok(s, SMTP_REPLY_TOO_MANY_RECIPIENTS);
    }
    if (smtp_incoming_recipient(t, rcpt, policy_postmaster_domain(smtp_config(s))) < 0) {
        s->service->unroom(s->service->owner, 1);
        metric_add(&smtp_metrics(s)->refused_recipients, 1);
        return smtp_ok(s, SMTP_REPLY_TOO_MANY_RECIPIENTS);
    }
    return smtp_ok(s, SMTP_REPLY_RECIPIENT_OK);
}

static enum step smtp_data_command(struct smtp_server *s)
{
    struct smtp_incoming *t = s->transaction;
    s->data_refused = true;
    if (t == NULL)
        return smtp_bad(s, SMTP_REPLY_NEED_MAIL);
    if (t->bdat)
        return smtp_bad(s, SMTP_REPLY_BDAT_EXPECTED);
    if (t->envelope.recipients_count == 0)
        return smtp_bad(s, SMTP_REPLY_NO_VALID_RCPT);
    /* RFC 2920 3.1: DATA is the last of what is pipelined, for its reply decides what follows. Who
     * does not wait does not know whether we read content, which is how smuggling begins. */
    if (smtp_limits(s)->early_content == CONFIG_EARLY_CONTENT_REJECT &&
        connection_has_input(&s->connection)) {
        metric_add(&smtp_metrics(s)->early_content, 1);
        smtp_log_refusal(s, SMTP_REPLY_EARLY_CONTENT, slice_of(NULL, 0));
        return smtp_finish(s, SMTP_REPLY_EARLY_CONTENT);
    }
    int r = smtp_begin_content(s);
    if (r < 0) {
        metric_add(&smtp_metrics(s)->refused_space, 1);
        smtp_reset(s);
        return smtp_refuse(s, r == -EIO ? SMTP_REPLY_LOCAL_ERROR : SMTP_REPLY_NO_SPACE,
                           SLICE("DATA"));
    }
    s->data_refused = false;
    smtp_data_begin(&t->data, smtp_newline(s), UINT32_MAX);
    smtp_data_know_ours(&t->data, smtp_config(s)->delivery.fleet_names);
    smtp_say(s, SMTP_REPLY_START_DATA);
    smtp_wait_data(s);
    return smtp_enter(s, SMTP_DATA);
}

/* A chunk's octets follow whatever the reply: they are read in BDAT, kept or not. */
static enum step smtp_bdat_command(struct smtp_server *s, const struct smtp_chunk *chunk)
{
    struct smtp_incoming *t = s->transaction;
    if (t == NULL || t->envelope.recipients_count == 0) {
        /* No transaction to keep the framing in: an empty one, refused from the start. */
        if (t == NULL)
            t = s->transaction = smtp_incoming_new(s->service, &s->runnable);
        if (t == NULL)
            return smtp_finish(s, SMTP_REPLY_OVERLOAD);
        t->error = -EPROTO;
    }
    if (!t->bdat) {
        smtp_data_begin_bdat(&t->data, smtp_newline(s), UINT32_MAX);
        smtp_data_know_ours(&t->data, smtp_config(s)->delivery.fleet_names);
        t->bdat = true;
        if (t->error == 0)
            t->error = smtp_begin_content(s);
    }
    t->chunk_bytes = chunk->size;
    smtp_data_chunk(&t->data, chunk->size, chunk->last);
    smtp_wait_data(s);
    return smtp_enter(s, SMTP_BDAT);
}

/* RFC 3207 4: before TLS only what leads there, or away. BDAT is refused by its own rules, for its
 * octets have to be read: there is no transaction that they could belong to. */
static bool smtp_too_early(const struct smtp_server *s, enum smtp_verb verb)
{
    if (s->listener->tls != CONFIG_TLS_REQUIRED || s->secured)
        return false;
    switch (verb) {
    case SMTP_VERB_EHLO:
    case SMTP_VERB_HELO:
    case SMTP_VERB_NOOP:
    case SMTP_VERB_RSET:
    case SMTP_VERB_QUIT:
    case SMTP_VERB_STARTTLS:
    case SMTP_VERB_BDAT: return false;
    default: return true;
    }
}

static enum step smtp_do(struct smtp_server *s, const struct smtp_command *command)
{
    if (smtp_too_early(s, command->verb)) {
        s->data_refused = command->verb == SMTP_VERB_DATA;
        metric_add(&smtp_metrics(s)->tls_demanded, 1);
        return smtp_bad(s, SMTP_REPLY_TLS_REQUIRED);
    }
    switch (command->verb) {
    case SMTP_VERB_STARTTLS: return smtp_starttls(s);
    case SMTP_VERB_EHLO:
    case SMTP_VERB_HELO: return smtp_ehlo(s, command);
    case SMTP_VERB_MAIL: return smtp_mail(s, &command->mail);
    case SMTP_VERB_RCPT: return smtp_rcpt(s, &command->rcpt);
    case SMTP_VERB_DATA: return smtp_data_command(s);
    case SMTP_VERB_BDAT: return smtp_bdat_command(s, &command->chunk);
    case SMTP_VERB_RSET: smtp_reset(s); return smtp_ok(s, SMTP_REPLY_OK);
    case SMTP_VERB_NOOP: return smtp_ok(s, SMTP_REPLY_OK);
    case SMTP_VERB_VRFY: return smtp_ok(s, SMTP_REPLY_VRFY);
    case SMTP_VERB_HELP: return smtp_ok(s, SMTP_REPLY_HELP);
    case SMTP_VERB_QUIT: return smtp_finish(s, SMTP_REPLY_BYE);
    default: return smtp_bad(s, SMTP_REPLY_NOT_IMPLEMENTED);
    }
}

static enum step smtp_line(struct smtp_server *s, struct slice line)
{
    const unsigned offered =
        SMTP_EXT_SIZE | SMTP_EXT_8BITMIME | SMTP_EXT_SMTPUTF8 | SMTP_EXT_DSN |
        (s->secured || smtp_offers_tls(s) ? SMTP_EXT_REQUIRETLS : 0U) |
        (s->transaction != NULL && (s->transaction->envelope.flags & ENVELOPE_SMTPUTF8)
             ? SMTP_EXT_UTF8_TRANSACTION
             : 0U);
    struct smtp_command command;
    enum smtp_parse_result result = smtp_parse(line, offered, &command);
    bool was_refused = s->data_refused;
    s->data_refused = false;
    if (result == SMTP_PARSE_OK)
        return smtp_do(s, &command);
    enum smtp_reply_id id = smtp_reply_for_parse(result);
    if (result == SMTP_PARSE_HTTP) {
        metric_add(&smtp_metrics(s)->http, 1);
        smtp_log_refusal(s, id, slice_part(line, 0, 64));
        return smtp_finish(s, id);
    }
    metric_add(&smtp_metrics(s)->refused_syntax, 1);
    /* After a refused DATA its content may follow; reading that as commands is how one message
     * becomes another. */
    if (was_refused) {
        metric_add(&smtp_metrics(s)->early_talk, 1);
        return smtp_finish(s, SMTP_REPLY_EARLY_TALK);
    }
    if (result == SMTP_PARSE_CHUNK)
        return smtp_finish(s, id);
    return smtp_bad(s, id);
}

static enum step smtp_command_step(struct smtp_server *s)
{
    if (!smtp_has_room(s))
        return STEP_WAIT;
    if (s->drain && s->transaction == NULL) {
        metric_add(&smtp_metrics(s)->refused_drain, 1);
        return smtp_finish(s, SMTP_REPLY_SHUTDOWN);
    }
    struct slice line;
    switch (connection_line(&s->connection, SMTP_LINE_MAX, &line)) {
    case CONNECTION_LINE_MORE:
        if (!s->connection.eof)
            return STEP_WAIT;
        metric_add(&smtp_metrics(s)->cut, 1);
        return smtp_drop(s);
    case CONNECTION_LINE_NO_ROOM:
        metric_add(&smtp_metrics(s)->refused_memory, 1);
        return smtp_finish(s, SMTP_REPLY_OVERLOAD);
    case CONNECTION_LINE_LONG:
        metric_add(&smtp_metrics(s)->refused_line, 1);
        smtp_wait_command(s);
        return s->data_refused ? smtp_finish(s, SMTP_REPLY_EARLY_TALK)
                               : smtp_bad(s, SMTP_REPLY_LINE_LONG);
    case CONNECTION_LINE_BARE_LF:
        metric_add(&smtp_metrics(s)->refused_newline, 1);
        smtp_wait_command(s);
        /* What stands behind a bare LF is a command for some servers and none for others: nothing
         * more is read from somebody who sends one. */
        return smtp_finish(s, s->data_refused ? SMTP_REPLY_EARLY_TALK : SMTP_REPLY_CONTROL);
    case CONNECTION_LINE_READY: break;
    }
    metric_add(&smtp_metrics(s)->commands, 1);
    smtp_wait_command(s);
    if (++s->commands > smtp_limits(s)->commands_max)
        return smtp_finish(s, SMTP_REPLY_TOO_MANY_ERRORS);
    return smtp_line(s, line);
}

/* ---- the end ---- */

static enum step smtp_close(struct smtp_server *s)
{
    struct connection *c = &s->connection;
    s->linger_bytes += connection_peek_all(c);
    connection_drop_input(c);
    if (!connection_idle(c)) {
        connection_flush(c);
        if (!s->fired)
            return STEP_WAIT;
    } else if (s->lingering && !c->eof && !s->fired && s->linger_bytes <= LINGER_BYTES) {
        /* Closing a socket with unread input resets it, and the client may never see our reply. */
        if (!s->shut)
            connection_shutdown(c);
        s->shut = true;
        return STEP_WAIT;
    }
    connection_close(c);
    return STEP_GONE;
}

static void smtp_server_run(struct task *task)
{
    struct smtp_server *s = container_of(task, struct smtp_server, runnable);
    for (unsigned steps = 0; steps < STEPS_PER_RUN_MAX; steps++) {
        smtp_server_check(s);
        enum step step;
        if (s->connection.error < 0 && s->state != SMTP_COMMIT)
            step = smtp_drop(s);
        else if (s->fired && s->state != SMTP_COMMIT && s->state != SMTP_CLOSE)
            step = smtp_timed_out(s);
        else
            step = smtp_states[s->state].step(s);
        if (step == STEP_GONE)
            return;
        if (step == STEP_WAIT) {
            connection_flush(&s->connection);
            if (connection_hogs(&s->connection) && s->state == SMTP_COMMAND) {
                metric_add(&smtp_metrics(s)->hogs, 1);
                (void)smtp_drop(s);
                return;
            }
            connection_settle(&s->connection);
            return;
        }
    }
    connection_flush(&s->connection);
    shard_run_later(s->service->shard, &s->runnable); /* had its share: the others first */
}

static void smtp_on_closed(struct connection *connection)
{
    struct smtp_server *s = container_of(connection, struct smtp_server, connection);
    struct smtp_service *service = s->service;
    timer_disarm(&service->shard->timers, &s->timer);
    smtp_handshake_over(s);
    smtp_connector_leave(s);
    if (s->refusal == SMTP_REPLIES)
        limits_close(service->limits, &s->counted);
    metric_sub(&service->metrics.connections_open, 1);
    shard_forget(&s->runnable);
    smtp_reset(s);
    generation_drop(service->generations, s->generation);
    list_remove(&s->node);
    pool_give(&service->sessions, s);
}

int smtp_server_open(struct smtp_service *service, unsigned listener, int raw,
                     const struct net_address *peer, const struct net_address *local,
                     enum smtp_reply_id refusal)
{
    struct smtp_server *s = pool_take(&service->sessions);
    if (s == NULL)
        return -ENOMEM;
    int socket;
    int r = ring_adopt(service->shard->ring, raw, &socket);
    if (r < 0) {
        pool_give(&service->sessions, s);
        return r;
    }
    memset(s, 0, offsetof(struct smtp_server, helo));
    s->service = service;
    s->generation = generation_use(service->generations);
    CHECK(listener < smtp_config(s)->listeners_count);
    s->listener = &smtp_config(s)->listeners[listener];
    s->peer = *peer;
    s->local = *local;
    s->counted = *peer;
    s->drain = service->draining;
    s->refusal = (uint8_t)refusal;
    s->connection_deadline_ms = service->shard->now_ms + smtp_limits(s)->connection_timeout_ms;
    list_push(&service->open, &s->node);
    list_init(&s->shaking);
    task_init(&s->runnable, smtp_server_run);
    timer_init(&s->timer, smtp_on_timer);
    connection_init(&s->connection, service->shard, service->pools, &s->runnable, smtp_on_closed);
    if (!policy_expects_proxy(s->listener, peer)) /* or what it tells of is waited for */
        smtp_watch(s);
    connection_open(&s->connection, socket);
    metric_add(&service->metrics.connections, 1);
    metric_add(&service->metrics.connections_open, 1);
    shard_run_later(service->shard, &s->runnable);
    return 0;
}
