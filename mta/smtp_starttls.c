/*
 * smtp_starttls.c - how an inbound session comes by TLS
 *
 *   STARTTLS, 220 --left--> HANDSHAKE --done--> COMMAND, with nothing known (RFC 3207 4.2)
 *   implicit:               HANDSHAKE --done--> GREET
 *
 * What stands behind STARTTLS was said before it and would be believed after it: who sends that is
 * sent away, and nothing of it is read. A handshake that fails ends the connection: there is no way
 * back to plain text.
 *
 * Bounds: handshakes under way in a shard, and their time. When they are all taken, the one that
 * has been at it longest gives way to a new one, unless it is younger than GRACE_MS: so those that
 * stall keep nobody out, and those that work are let be. Only then 454, or the end.
 */
#include "core/check.h"
#include "core/log.h"
#include "mta/smtp_session.h"
#include "mta/smtp_tls_log.h"
#include "tls/tls_server.h"

enum { GRACE_MS = 1'500 /* some round trips, and what a slow client thinks */ };

static const struct config_tls *tls_of(const struct smtp_server *s)
{
    return &s->generation->config->tls;
}

static struct tls_server *server_of(const struct smtp_server *s)
{
    unsigned listener = (unsigned)(s->listener - s->generation->config->listeners);
    return s->generation->tls_servers == NULL ? NULL : s->generation->tls_servers[listener];
}

bool smtp_offers_tls(const struct smtp_server *s)
{
    return !s->secured && server_of(s) != NULL;
}

/* Room for the handshake of this session, which may be counted already. */
static bool make_room(struct smtp_server *s)
{
    struct smtp_service *service = s->service;
    if (service->handshakes < tls_of(s)->handshakes_max + (s->handshaking ? 1 : 0))
        return true;
    struct smtp_server *oldest = container_of(service->shaking.next, struct smtp_server, shaking);
    if (service->shard->now_ms - oldest->shaking_ms < GRACE_MS) {
        metric_add(&smtp_metrics(s)->tls_busy, 1);
        return false;
    }
    metric_add(&smtp_metrics(s)->tls_displaced, 1);
    smtp_tls_failed(oldest, SLICE("took too long while others waited"));
    smtp_handshake_over(oldest);
    (void)smtp_drop(oldest);
    return true;
}

enum step smtp_starttls(struct smtp_server *s)
{
    if (s->secured)
        return smtp_bad(s, SMTP_REPLY_TLS_ACTIVE);
    if (!smtp_offers_tls(s))
        return smtp_bad(s, SMTP_REPLY_NOT_IMPLEMENTED);
    if (connection_has_input(&s->connection)) {
        metric_add(&smtp_metrics(s)->tls_injected, 1);
        smtp_log_refusal(s, SMTP_REPLY_TLS_INJECTION, SLICE("STARTTLS"));
        return smtp_finish(s, SMTP_REPLY_TLS_INJECTION);
    }
    if (!make_room(s))
        return smtp_ok(s, SMTP_REPLY_TLS_UNAVAILABLE);
    smtp_reset(s);
    smtp_say(s, SMTP_REPLY_TLS_READY);
    smtp_enter_handshake(s);
    return STEP_AGAIN;
}

void smtp_enter_handshake(struct smtp_server *s)
{
    CHECK(!s->handshaking);
    s->handshaking = true;
    s->shaking_ms = s->service->shard->now_ms;
    list_push(&s->service->shaking, &s->shaking);
    s->service->handshakes++;
    smtp_wait_until(s, smtp_under_load(s) ? tls_of(s)->load_handshake_timeout_ms
                                          : tls_of(s)->handshake_timeout_ms);
    smtp_enter(s, SMTP_HANDSHAKE);
}

void smtp_handshake_over(struct smtp_server *s)
{
    if (s->handshaking)
        s->service->handshakes--;
    list_remove(&s->shaking);
    s->handshaking = false;
}

void smtp_tls_failed(struct smtp_server *s, struct slice why)
{
    struct shard *shard = s->service->shard;
    metric_add(&smtp_metrics(s)->tls_failed, 1);
    if (shard->log == NULL)
        return;
    struct log_line line;
    log_begin(&line, shard->log, LOG_INFO, shard->wall_us, "tls_failed");
    log_string(&line, "listener", s->listener->name);
    log_address(&line, "client", &s->peer);
    log_text(&line, "why", why);
    log_end(&line);
}

/* False: no memory, or too many are under way. */
static bool smtp_secure(struct smtp_server *s)
{
    const struct config_listener *listener = s->listener;
    if (!make_room(s))
        return false;
    const enum tls_asks asks = networks_hold(listener->never_ask, &s->peer) ? TLS_ASKS_NEVER
                               : networks_hold(listener->ask_certificate, &s->peer) ||
                                       inbound_asks(smtp_config(s)->inbound, &s->peer)
                                   ? TLS_ASKS_ALWAYS
                                   : TLS_ASKS_BY_NAME;
    struct tls_session *session =
        tls_server_accept(server_of(s), asks, &connection_ends, &s->connection);
    if (session == NULL) {
        metric_add(&smtp_metrics(s)->refused_memory, 1);
        return false;
    }
    connection_secure(&s->connection, session);
    return true;
}

static enum step handshake_failed(struct smtp_server *s)
{
    char why[TLS_TEXT_MAX];
    size_t size = 0;
    const struct connection *c = &s->connection;
    if (c->tls_cut)
        size = (size_t)(stpcpy(why, "the client cut the connection") - why);
    else
        size = tls_session_why(c->tls, why);
    smtp_tls_failed(s, slice_of(why, size));
    return smtp_drop(s);
}

enum step smtp_handshake(struct smtp_server *s)
{
    struct connection *c = &s->connection;
    if (c->tls == NULL) {
        if (!connection_idle(c))
            return STEP_WAIT; /* the 220 leaves in clear */
        if (!smtp_secure(s))
            return smtp_drop(s);
    }
    switch (connection_handshake(c)) {
    case TLS_OK: break;
    case TLS_WANT_IN:
    case TLS_WANT_OUT: return STEP_WAIT;
    default: return handshake_failed(s);
    }
    smtp_handshake_over(s);
    s->secured = true;
    s->facts_known = false;
    s->greeted = false;
    s->esmtp = false;
    s->helo_size = 0;
    smtp_wait_command(s);
    return smtp_enter(s, s->listener->tls == CONFIG_TLS_IMPLICIT ? SMTP_GREET : SMTP_COMMAND);
}

void smtp_log_tls(const struct smtp_server *s, struct log_line *line)
{
    if (!s->secured || s->connection.tls == NULL)
        return;
    struct tls_facts facts;
    tls_session_facts(s->connection.tls, &facts);
    smtp_tls_log(&facts, line);
}
