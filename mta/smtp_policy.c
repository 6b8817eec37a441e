/*
 * smtp_policy.c - what inbound connectors say to a session: at MAIL, at each RCPT, and to content
 *
 *   facts of the connection --inbound_candidates--> kept until TLS changes them
 *   MAIL, RCPT --> a verdict (mta/inbound.c) --> taken, and told with the message
 *                                           '--> refused: reply, log and metric by its token
 *   a certificate fits, and its revocation is not known --> its lists are asked for, nobody waits
 *
 * A connector with require-header counts until the header is known. When it lacks the field, all
 * recipients are judged anew, as if no such connector knew the client; one that is refused then
 * refuses the message, for there is one reply to all of it.
 *
 * Each verdict has a decision id, which its reply, its line in the log and `ringpost explain`
 * share: a hash over the configuration's generation, the host's name and the facts.
 */
#include <stdio.h>
#include <xxhash.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/policy.h"
#include "mta/smtp_session.h"
#include "tls/tls_crl_watch.h"
#include "tls/tls_server.h"

enum { DECISION_BYTES_MAX = 1'024 };

/* ---- facts ---- */

static void certificate_facts(const struct smtp_server *s, const struct tls_facts *facts,
                              struct inbound_session *session)
{
    static_assert((int)INBOUND_BUNDLES_MAX == (int)TLS_BUNDLES_MAX);
    if (facts->peer == NULL || facts->peer->verdict == TLS_VERDICT_NONE)
        return;
    session->certificates_count = facts->peers_count; /* one without bundles, for pins */
    for (unsigned i = 0; i < session->certificates_count; i++) {
        session->certificates[i].roots =
            i < s->listener->bundles_count ? s->listener->bundles[i] : NULL;
        session->certificates[i].peer = &facts->peer[i];
    }
}

static const struct inbound_session *facts_of(struct smtp_server *s)
{
    struct inbound_session *session = &s->facts;
    if (s->facts_known)
        return session;
    *session = (struct inbound_session) {
        .peer = &s->peer,
        .is_submission = policy_is_submission(smtp_config(s), s->listener, &s->peer),
    };
    if (s->secured) {
        struct tls_facts facts;
        tls_session_facts(s->connection.tls, &facts);
        session->tls_version =
            strcmp(facts.version, "TLSv1.3") == 0 ? TLS_VERSION_13 : TLS_VERSION_12;
        session->is_hybrid = strstr(facts.group, "MLKEM") != NULL;
        certificate_facts(s, &facts, session);
    }
    inbound_candidates(smtp_config(s)->inbound, session);
    if (session->candidates.more)
        metric_add(&smtp_metrics(s)->candidates_dropped, 1);
    s->facts_known = true;
    return session;
}

/* Afresh for each MAIL: a list may have come since the last one, or a certificate been revoked. */
static void look_up(const struct smtp_server *s, struct inbound_session *session)
{
    char why[TLS_WHY_MAX];
    for (unsigned i = 0; i < session->certificates_count; i++) {
        if (session->certificates[i].peer->verdict != TLS_VERDICT_VALID)
            continue;
        session->certificates[i].revocation =
            tls_crl_watch_status(s->connection.tls, session->certificates[i].peer, why);
        tls_crl_watch_count(s->connection.tls, session->certificates[i].revocation);
    }
}

/* connector wanted to know whether the certificate is revoked: the next attempt will. */
static void want_lists(const struct smtp_server *s, const struct inbound *connector)
{
    const struct inbound_session *session = &s->facts;
    for (unsigned i = 0; connector != NULL && i < session->certificates_count; i++)
        if (session->certificates[i].revocation == TLS_CRL_UNKNOWN)
            tls_crl_watch_want(s->connection.tls, session->certificates[i].peer,
                               session->certificates[i].roots, connector->name);
}

/* Of the worst, for the lines of the log. */
static void log_revocation(const struct smtp_server *s, struct log_line *line)
{
    char why[TLS_WHY_MAX] = "";
    enum tls_crl_status worst = TLS_CRL_NONE;
    if (s->connection.tls == NULL)
        return;
    for (unsigned i = 0; i < s->facts.certificates_count; i++) {
        if (s->facts.certificates[i].revocation <= worst)
            continue;
        worst = s->facts.certificates[i].revocation;
        (void)tls_crl_watch_status(s->connection.tls, s->facts.certificates[i].peer, why);
    }
    if (worst == TLS_CRL_NONE)
        return;
    log_string(line, "revocation", tls_crl_status_name(worst));
    if (why[0] != '\0')
        log_string(line, "revocation_why", why);
}

/* ---- decision ids ---- */

static size_t put(uint8_t *out, size_t at, const void *bytes, size_t size)
{
    size = MIN(size, DECISION_BYTES_MAX - at);
    if (size > 0)
        memcpy(out + at, bytes, size);
    return at + size;
}

uint32_t smtp_decision_id(const struct config *config, const struct inbound_session *session,
                          struct slice sender, struct slice recipient)
{
    uint8_t bytes[DECISION_BYTES_MAX];
    size_t size = put(bytes, 0, config->hostname, strlen(config->hostname) + 1);
    size = put(bytes, size, session->peer->octets, sizeof(session->peer->octets));
    size = put(bytes, size, &session->tls_version, sizeof(session->tls_version));
    size = put(bytes, size, &session->is_hybrid, sizeof(session->is_hybrid));
    if (session->certificates_count > 0)
        size = put(bytes, size, session->certificates[0].peer->leaf.spki, TLS_DIGEST_BYTES);
    size = put(bytes, size, sender.data, sender.size);
    size = put(bytes, size, ">", 1);
    size = put(bytes, size, recipient.data, recipient.size);
    return (uint32_t)XXH3_64bits_withSeed(bytes, size, config->generation);
}

void smtp_decision_text(uint32_t decision, char out[static SMTP_DECISION_TEXT])
{
    char id[SMTP_ID_TEXT];
    smtp_id_text(decision, id);
    memcpy(out, id + SMTP_ID_TEXT - SMTP_DECISION_TEXT, SMTP_DECISION_TEXT);
}

/* ---- refusing ---- */

static void log_refused(struct smtp_server *s, const struct inbound *by,
                        const struct connector_reply *reply, enum connector_token token,
                        const char *decision, struct slice sender, struct slice what)
{
    struct shard *shard = s->service->shard;
    if (shard->log == NULL)
        return;
    struct log_line line;
    log_begin(&line, shard->log, LOG_INFO, shard->wall_us, "refused");
    log_string(&line, "listener", s->listener->name);
    log_address(&line, "client", &s->peer);
    log_text(&line, "helo", slice_of(s->helo, s->helo_size));
    log_text(&line, "from", s->transaction != NULL ? s->transaction->envelope.sender : sender);
    if (what.size > 0)
        log_text(&line, "what", what);
    log_number(&line, "code", reply->code);
    log_string(&line, "text", reply->text);
    log_string(&line, "token", connector_token_name(token));
    if (by != NULL)
        log_string(&line, "connector", by->name);
    log_number(&line, "generation", (int64_t)smtp_config(s)->generation);
    log_string(&line, "decision", decision);
    log_revocation(s, &line);
    smtp_log_tls(s, &line);
    log_end(&line);
}

/* A message that was refused counts once, however many of its recipients were; what has a bound of
 * its own, and what our own servers and submissions do, does not. */
static void count_refused(struct smtp_server *s, enum inbound_kind kind, enum connector_token token)
{
    struct smtp_incoming *t = s->transaction;
    const bool ours = kind == INBOUND_OWN || kind == INBOUND_SUBMISSION;
    const bool bounded = token == TOKEN_RATE || token == TOKEN_CONNECTIONS ||
                         token == TOKEN_RECIPIENTS || token == TOKEN_SIZE;
    if ((ours && token != TOKEN_BLOCKED) || bounded || (t != NULL && t->refused))
        return;
    if (t != NULL)
        t->refused = true;
    s->refused_messages++;
}

/* Neither those who have more recipients than fit at once, nor those whose recipients are to come
 * again later: cut off at the same place each time, they would never come to the others. */
static bool is_bad_command(const struct smtp_server *s, enum connector_token token,
                           const struct connector_reply *reply)
{
    return token != TOKEN_RECIPIENTS && (s->transaction == NULL || reply->code >= 500);
}

static bool has_refused_enough(const struct smtp_server *s)
{
    const struct config_limits *limits = smtp_limits(s);
    return s->bad_commands > limits->bad_commands_max ||
           (limits->refused_messages_max > 0 && s->refused_messages > limits->refused_messages_max);
}

static enum step refuse(struct smtp_server *s, enum connector_token token,
                        enum connector_class class, const struct inbound *by, uint32_t decision_id,
                        struct slice sender, struct slice what)
{
    const struct inbound_defaults *defaults = inbound_defaults(smtp_config(s)->inbound);
    const struct connector_reply *reply = connector_reply(token, class, defaults->replies);
    char decision[SMTP_DECISION_TEXT], text[SMTP_REPLY_LINE_MAX / 2];
    smtp_decision_text(decision_id, decision);
    log_refused(s, by, reply, token, decision, sender, what);
    smtp_connector_refused(s, by, token, reply->code);
    metric_add(&smtp_metrics(s)->bad_commands, 1);
    s->bad_commands += is_bad_command(s, token, reply);
    if (has_refused_enough(s))
        return smtp_finish(s, SMTP_REPLY_TOO_MANY_ERRORS);
    int size = snprintf(text, sizeof(text), "%s [%s] d=%s", reply->text,
                        connector_token_name(token), decision);
    struct slice line = slice_of(text, (size_t)size);
    uint8_t *out = connection_reserve(&s->connection, SMTP_REPLY_LINE_MAX);
    if (out == NULL)
        return STEP_AGAIN; /* the connection is broken, or out of memory: its error says so */
    static const struct smtp_enhanced none = { 0 };
    size = smtp_reply_write_lines(reply->code, s->esmtp ? reply->enhanced : none, &line, 1, out,
                                  SMTP_REPLY_LINE_MAX);
    CHECK(size > 0);
    connection_commit(&s->connection, (size_t)size);
    return reply->code == 421 ? smtp_part(s) : STEP_AGAIN;
}

bool smtp_policy_mail(struct smtp_server *s, struct slice sender, uint64_t size, enum step *refused)
{
    const struct inbound_session *session = facts_of(s);
    struct inbound_mail mail;
    look_up(s, &s->facts);
    inbound_mail(smtp_config(s)->inbound, session, sender, &mail);
    want_lists(s, mail.status_unknown);
    if (smtp_connector_is_blocked(s, mail.kind, mail.connector, mail.token)) {
        mail.token = TOKEN_BLOCKED;
        mail.class = CONNECTOR_REJECT;
        mail.by = mail.connector;
    }
    if (mail.token == TOKEN_NONE) {
        mail.token = smtp_connector_begin(s, mail.kind, mail.connector, size);
        mail.class = CONNECTOR_REJECT; /* each of these has one class only */
        mail.by = mail.connector;
    }
    if (mail.token == TOKEN_NONE)
        return true;
    smtp_connector_would(s, &mail.would, sender);
    uint32_t decision = smtp_decision_id(smtp_config(s), session, sender, slice_of(NULL, 0));
    count_refused(s, mail.kind, mail.token);
    *refused = refuse(s, mail.token, mail.class, mail.by, decision, sender, slice_of(NULL, 0));
    return false;
}

/* False: another recipient depends on another field, and one is looked for in a message. */
static bool require_header(struct smtp_incoming *t, const struct inbound_rcpt *rcpt)
{
    const struct inbound *asks = rcpt->connector;
    const struct inbound *would = rcpt->would.connector;
    if (asks != NULL && asks->header.name.size > 0) {
        if (t->required != NULL && !t->required_in_test &&
            !(slice_equal(t->required->name, asks->header.name) &&
              slice_equal(t->required->value, asks->header.value)))
            return false;
        t->required = &asks->header;
        t->required_in_test = false;
    } else if (t->required == NULL && would != NULL && would->header.name.size > 0) {
        t->required = &would->header;
        t->required_in_test = true;
    }
    return true;
}

bool smtp_policy_rcpt(struct smtp_server *s, struct slice recipient, struct slice address,
                      enum step *refused)
{
    struct smtp_incoming *t = s->transaction;
    const struct inbound_session *session = facts_of(s);
    struct inbound_rcpt rcpt;
    inbound_rcpt(smtp_config(s)->inbound, session, t->sender_domain, recipient, &rcpt);
    if (smtp_connector_is_blocked(s, rcpt.kind, rcpt.connector, rcpt.token)) {
        rcpt.token = TOKEN_BLOCKED;
        rcpt.class = CONNECTOR_REJECT;
        rcpt.by = rcpt.connector;
    }
    if (rcpt.token == TOKEN_NONE) {
        rcpt.token = smtp_connector_recipients(rcpt.connector, t->envelope.recipients_count);
        rcpt.by = rcpt.connector;
    }
    smtp_connector_would(s, &rcpt.would, t->sender_domain);
    want_lists(s, rcpt.status_unknown);
    if (rcpt.is_own_sender)
        metric_add(&smtp_metrics(s)->own_senders, 1);
    const bool first = t->envelope.recipients_count == 0;
    if (rcpt.token == TOKEN_NONE && !require_header(t, &rcpt)) {
        metric_add(&smtp_metrics(s)->refused_recipients, 1);
        *refused = smtp_ok(s, SMTP_REPLY_TOO_MANY_RECIPIENTS);
        return false;
    }
    if (rcpt.token == TOKEN_NONE)
        t->keeps_fields = (first || t->keeps_fields) && rcpt.keeps_fields;
    if (rcpt.token == TOKEN_NONE && !first)
        return true; /* the first one stands for the message, and has its decision's id */
    uint32_t decision = smtp_decision_id(smtp_config(s), session, t->sender_domain, recipient);
    if (rcpt.token != TOKEN_NONE) {
        if (rcpt.token == TOKEN_RELAY_DENIED)
            metric_add(&smtp_metrics(s)->refused_relay, 1);
        count_refused(s, rcpt.kind, rcpt.token);
        *refused = refuse(s, rcpt.token, rcpt.class, rcpt.by, decision, t->sender_domain, address);
        return false;
    }
    t->verdict = rcpt;
    t->decision = decision;
    if (rcpt.identity.is_status_unknown)
        metric_add(&smtp_metrics(s)->status_unknown, 1);
    if (rcpt.connector != NULL)
        t->envelope.connector = slice_of_string(rcpt.connector->name);
    return true;
}

/* A recipient's domain as RCPT had it: none of <postmaster>. */
static struct slice recipient_domain(const struct config *config, struct slice address,
                                     char out[static PATTERN_TEXT_MAX])
{
    size_t at = address.size;
    while (at > 0 && address.data[at - 1] != '@')
        at--;
    int size = pattern_normalise(slice_from(address, at), out);
    const struct slice domain = slice_of(out, size < 0 ? 0 : (size_t)size);
    bool postmaster = slice_equal_nocase(slice_part(address, 0, at), SLICE("postmaster@")) &&
                      slice_equal(domain, policy_postmaster_domain(config));
    return postmaster ? slice_of(NULL, 0) : domain;
}

bool smtp_policy_content(struct smtp_server *s, enum step *refused)
{
    struct smtp_incoming *t = s->transaction;
    const struct envelope *e = &t->envelope;
    if (t->required == NULL || header_filter_has_required(&t->header))
        return true;
    metric_add(&smtp_metrics(s)->header_lacking, 1);
    struct inbound_session session = *facts_of(s);
    session.lacks_header = true;
    struct inbound_rcpt first = { .token = TOKEN_NONE }, worst = { .token = TOKEN_NONE };
    for (uint32_t i = 0; i < e->recipients_count; i++) {
        char domain[PATTERN_TEXT_MAX];
        struct inbound_rcpt rcpt;
        inbound_rcpt(smtp_config(s)->inbound, &session, t->sender_domain,
                     recipient_domain(smtp_config(s), e->recipients[i].address, domain), &rcpt);
        if (i == 0)
            first = rcpt;
        if (rcpt.token != TOKEN_NONE && (worst.token == TOKEN_NONE || rcpt.token < worst.token))
            worst = rcpt;
    }
    /* Fields were let through in the belief that it is one of our own. */
    if (worst.token == TOKEN_NONE && t->header.trusted > 0 && !first.keeps_fields)
        worst = (struct inbound_rcpt) { .token = TOKEN_RELAY_DENIED, .class = CONNECTOR_REJECT };
    if (worst.token != TOKEN_NONE) {
        if (worst.token == TOKEN_RELAY_DENIED)
            metric_add(&smtp_metrics(s)->refused_relay, 1);
        count_refused(s, worst.kind, worst.token);
        *refused = refuse(s, worst.token, worst.class, worst.by, t->decision, t->sender_domain,
                          SLICE("require-header"));
        return false;
    }
    t->verdict = first;
    t->envelope.connector =
        first.connector == NULL ? slice_of(NULL, 0) : slice_of_string(first.connector->name);
    return true;
}

void smtp_log_policy(const struct smtp_server *s, struct log_line *line)
{
    const struct smtp_incoming *t = s->transaction;
    const struct inbound_rcpt *v = &t->verdict;
    char decision[SMTP_DECISION_TEXT];
    log_string(line, "attributed", inbound_kind_name(v->kind));
    if (v->connector != NULL) {
        log_string(line, "connector", v->connector->name);
        if (v->identity.by_certificate || v->identity.by_address)
            log_string(line, "how", v->identity.by_certificate ? "cert" : "address");
        if (v->identity.name.size > 0)
            log_text(line, "cert_name", v->identity.name);
        if (v->identity.by_certificate)
            log_revocation(s, line);
    }
    if (v->is_internal)
        log_bool(line, "internal", true);
    if (v->is_own_sender)
        log_bool(line, "own_sender", true);
    if (v->would.connector != NULL) {
        log_string(line, "would", v->would.token == TOKEN_NONE ? "accept" : "reject");
        log_string(line, "would_connector", v->would.connector->name);
        if (v->would.token != TOKEN_NONE)
            log_string(line, "would_token", connector_token_name(v->would.token));
    }
    smtp_decision_text(t->decision, decision);
    log_number(line, "generation", (int64_t)smtp_config(s)->generation);
    log_string(line, "decision", decision);
}
