/*
 * smtp_client_tls.c - how an outbound session comes by TLS
 *
 *   EHLO --offered--> STARTTLS --220--> HANDSHAKE --done--> EHLO, as if nothing had been said
 *     '--not offered--> READY in clear, if the target allows it; else the end
 *   implicit: CONNECT --> HANDSHAKE --> GREETING
 *
 * Each fault ends the connection: what follows (another try that offers less, another host, plain
 * text) is decided by who asked for it, on a new one. What stands behind the 220 was said in clear
 * and would be taken for an answer under TLS: nothing of it is read.
 */
#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/smtp_client_inside.h"
#include "mta/smtp_tls_log.h"
#include "tls/tls_verify.h"

static const struct smtp_client_tls *tls_of(const struct smtp_client *c)
{
    return &c->target.tls;
}

static enum client_step protected_ready(struct smtp_client *c)
{
    c->tell_ready = true;
    return smtp_client_enter(c, SMTP_CLIENT_READY);
}

/* The end, with the fault and words about it. */
static enum client_step client_fault(struct smtp_client *c, enum smtp_tls_fault fault,
                                     const char *words)
{
    c->end.fault = fault;
    snprintf(c->tls_why, sizeof(c->tls_why), "%s", words);
    return smtp_client_fail(c, SMTP_GONE_TLS, 0);
}

enum client_step smtp_client_protect(struct smtp_client *c)
{
    const struct smtp_client_tls *tls = tls_of(c);
    if (tls->client == NULL || c->secured)
        return protected_ready(c);
    if (c->state == SMTP_CLIENT_EHLO && (c->capabilities.can & SMTP_CAN_STARTTLS) != 0)
        return smtp_client_enter(c, SMTP_CLIENT_STARTTLS);
    if (tls->policy->level > TLS_LEVEL_MAY || !tls->clear_without_offer)
        return client_fault(c, SMTP_TLS_NOT_OFFERED, "STARTTLS is not offered");
    c->clear_unoffered = true;
    metric_add(&c->clients->numbers.clear_not_offered, 1);
    return protected_ready(c);
}

static size_t write_starttls(const struct smtp_client *c, uint8_t *out)
{
    (void)c;
    memcpy(out, "STARTTLS\r\n", 10);
    return 10;
}

enum client_step smtp_client_starttls(struct smtp_client *c)
{
    if (!c->sent && !smtp_client_say(c, write_starttls))
        return smtp_client_await(c);
    switch (smtp_client_reply(c)) {
    case CLIENT_REPLY_NONE: return smtp_client_await(c);
    case CLIENT_REPLY_BAD: return smtp_client_fail(c, SMTP_GONE_VIOLATION, 0);
    case CLIENT_REPLY_DONE: break;
    }
    if (c->response.code == 421)
        return smtp_client_closing(c);
    if (c->response.code != 220) {
        char words[TLS_TEXT_MAX];
        struct slice text = smtp_response_text(&c->response);
        snprintf(words, sizeof(words), "STARTTLS was offered and is refused: %u %.*s",
                 c->response.code, (int)MIN(text.size, (size_t)160), (const char *)text.data);
        c->end.temporary = c->response.code / 100 == 4;
        return client_fault(c, SMTP_TLS_REFUSED, words);
    }
    if (connection_has_input(&c->connection))
        return client_fault(c, SMTP_TLS_INJECTED, "there was more behind the reply to STARTTLS");
    return smtp_client_enter(c, SMTP_CLIENT_HANDSHAKE);
}

static void tell(struct smtp_client *c, bool over)
{
    if (c->callbacks->handshake != NULL)
        c->callbacks->handshake(c, over);
}

static enum client_step handshake_broken(struct smtp_client *c, const char *words)
{
    tell(c, true);
    return client_fault(c, SMTP_TLS_HANDSHAKE, words);
}

static enum smtp_tls_fault chain_fault(enum tls_verdict verdict)
{
    switch (verdict) {
    case TLS_VERDICT_VALID: return SMTP_TLS_NO_FAULT;
    case TLS_VERDICT_EXPIRED:
    case TLS_VERDICT_NOT_YET: return SMTP_TLS_EXPIRED;
    case TLS_VERDICT_REVOKED: return SMTP_TLS_REVOKED;
    case TLS_VERDICT_REVOCATION_UNKNOWN: return SMTP_TLS_REVOCATION_UNKNOWN;
    default: return SMTP_TLS_CHAIN;
    }
}

/* By what we wanted to see, and have seen; the handshake itself, if that was not it. */
static enum smtp_tls_fault handshake_fault(const struct smtp_client *c)
{
    const struct tls_client_policy *policy = tls_of(c)->policy;
    const struct tls_session *session = c->connection.tls;
    struct tls_facts facts;
    tls_session_facts(session, &facts);
    enum smtp_tls_fault fault = SMTP_TLS_NO_FAULT;
    if (tls_client_refused(session))
        return SMTP_TLS_CLIENT_CERT;
    if (policy->dane != NULL && facts.peer != NULL && tls_client_dane(session) < TLS_DANE_EE)
        return tls_client_dane(session) == TLS_DANE_NO_NAME ? SMTP_TLS_NAME : SMTP_TLS_TLSA;
    if (policy->level >= TLS_LEVEL_CHAIN && facts.peer != NULL)
        fault = chain_fault(facts.peer->verdict);
    if (fault != SMTP_TLS_NO_FAULT)
        return fault;
    if (policy->level >= TLS_LEVEL_NAME && facts.peer != NULL && !tls_client_name_ok(session))
        return SMTP_TLS_NAME;
    if (tls_client_pin_missed(session))
        return SMTP_TLS_PIN;
    if (tls_of(c)->target.also_must && facts.peer != NULL && !tls_client_also_ok(session))
        return SMTP_TLS_STS;
    return tls_client_too_weak(session) ? SMTP_TLS_TOO_WEAK : SMTP_TLS_HANDSHAKE;
}

static void refused_words(struct smtp_client *c)
{
    char why[TLS_TEXT_MAX];
    (void)tls_session_why(c->connection.tls, why);
    snprintf(c->tls_why, sizeof(c->tls_why), "%s: %.180s",
             tls_of(c)->policy->credential == NULL
                 ? "a client certificate is asked for, and we have none"
                 : "our client certificate is refused",
             why);
}

bool smtp_client_certificate_refused(struct smtp_client *c)
{
    const struct connection *connection = &c->connection;
    if (!c->secured || c->end.was_ready || !connection->tls_failed ||
        !tls_client_refused(connection->tls))
        return false;
    c->end.fault = SMTP_TLS_CLIENT_CERT;
    refused_words(c);
    return true;
}

static enum client_step handshake_failed(struct smtp_client *c)
{
    tell(c, true);
    const struct connection *connection = &c->connection;
    char why[TLS_TEXT_MAX] = "TLS handshake: cut by the peer";
    if (!connection->tls_cut) {
        size_t size = (size_t)snprintf(why, sizeof(why), "TLS handshake: ");
        char words[TLS_TEXT_MAX];
        (void)tls_session_why(connection->tls, words);
        snprintf(why + size, sizeof(why) - size, "%s", words);
    }
    c->end.offered_less = tls_client_offered_less(connection->tls);
    c->end.misused = tls_client_misused(connection->tls);
    enum smtp_tls_fault fault = handshake_fault(c);
    if (fault == SMTP_TLS_STS) {
        struct tls_facts facts;
        tls_session_facts(connection->tls, &facts);
        c->end.cert = facts.peer->verdict == TLS_VERDICT_VALID ? SMTP_TLS_NAME
                                                               : chain_fault(facts.peer->verdict);
    }
    if (fault != SMTP_TLS_CLIENT_CERT)
        return client_fault(c, fault, why);
    c->end.fault = fault;
    refused_words(c);
    return smtp_client_fail(c, SMTP_GONE_TLS, 0);
}

enum client_step smtp_client_handshake(struct smtp_client *c)
{
    struct connection *connection = &c->connection;
    if (connection->tls == NULL) {
        if (!connection_idle(connection))
            return smtp_client_await(c);
        struct tls_session *session = tls_client_connect(
            tls_of(c)->client, tls_of(c)->policy, &tls_of(c)->target, &connection_ends, connection);
        if (session == NULL)
            return smtp_client_fail(c, SMTP_GONE_LOCAL, -ENOBUFS);
        connection_secure(connection, session);
        tell(c, false);
    }
    c->end.fault = SMTP_TLS_HANDSHAKE; /* until it is over, whatever ends it */
    switch (connection_handshake(connection)) {
    case TLS_OK: break;
    case TLS_WANT_IN:
    case TLS_WANT_OUT:
        if (c->timed_out)
            return handshake_broken(c, "TLS handshake: timed out");
        if (connection->error < 0 && !connection->recv.inflight)
            return handshake_broken(c, "TLS handshake: the connection was reset");
        return smtp_client_await(c);
    default: return handshake_failed(c);
    }
    tell(c, true);
    if (tls_of(c)->policy->needs_hybrid && !tls_client_is_hybrid(connection->tls))
        return client_fault(c, SMTP_TLS_TOO_WEAK,
                            "TLS without a post-quantum hybrid key exchange (min-group)");
    c->end.fault = SMTP_TLS_NO_FAULT;
    c->secured = true;
    c->capabilities = (struct smtp_capabilities) { 0 };
    return smtp_client_enter(c, tls_of(c)->implicit ? SMTP_CLIENT_GREETING : SMTP_CLIENT_EHLO);
}

void smtp_client_log_tls(const struct smtp_client *c, struct log_line *line)
{
    if (c->clear_unoffered)
        log_string(line, "clear", "STARTTLS is not offered");
    if (!c->secured || c->connection.tls == NULL)
        return;
    struct tls_facts facts;
    tls_session_facts(c->connection.tls, &facts);
    smtp_tls_log(&facts, line);
    if (facts.peer != NULL)
        log_bool(line, "cert_name", tls_client_name_ok(c->connection.tls));
}
