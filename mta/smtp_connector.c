/*
 * smtp_connector.c - an inbound session and its connector: the mark that blocks it, its limits, its
 * numbers
 *
 * Limits are those of the node: what they count is shared by all shards (struct connector_now). A
 * share for each shard would leave a host with one connection a fraction of what it may send.
 */
#include "core/check.h"
#include "mta/cert_watch.h"
#include "mta/smtp_session.h"
#include "tls/tls_server.h"

static uint32_t slot_of(const struct smtp_server *s, const struct inbound *connector)
{
    const struct config *config = smtp_config(s);
    uint32_t slot =
        connector == NULL ? 0 : config->inbound_slots[inbound_index(config->inbound, connector)];
    CHECK(slot < CONNECTOR_SLOTS_MAX);
    return slot;
}

static struct connector_in_row *row_of(const struct smtp_server *s, const struct inbound *connector)
{
    const struct connector_counts *counts = s->service->connectors;
    return counts == NULL ? NULL : &counts->in[slot_of(s, connector)];
}

bool smtp_connector_is_blocked(const struct smtp_server *s, enum inbound_kind kind,
                               const struct inbound *connector, enum connector_token token)
{
    return (kind == INBOUND_OWN || kind == INBOUND_PARTNER) &&
           (token == TOKEN_NONE || token > TOKEN_BLOCKED) &&
           connector_is_blocked(s->service->connectors, CONNECTOR_IN, slot_of(s, connector));
}

/* ---- limits ---- */

static struct connector_now *now_of(const struct smtp_server *s, uint32_t slot)
{
    const struct connector_counts *counts = s->service->connectors;
    return counts == NULL || counts->now[CONNECTOR_IN] == NULL ? NULL
                                                               : &counts->now[CONNECTOR_IN][slot];
}

void smtp_connector_leave(struct smtp_server *s)
{
    struct connector_now *now = s->slot_held == 0 ? NULL : now_of(s, s->slot_held);
    s->slot_held = 0;
    if (now != NULL)
        __atomic_sub_fetch(&now->connections, 1, __ATOMIC_RELAXED);
}

/* Counted whether there is a limit or not, so that a reload that brings one finds true counts. */
static bool hold(struct smtp_server *s, struct connector_now *now, uint32_t slot, unsigned max)
{
    if (s->slot_held == slot)
        return true;
    smtp_connector_leave(s);
    uint32_t count = __atomic_add_fetch(&now->connections, 1, __ATOMIC_RELAXED);
    s->slot_held = slot;
    if (max == 0 || count <= max)
        return true;
    smtp_connector_leave(s);
    return false;
}

enum connector_token smtp_connector_begin(struct smtp_server *s, enum inbound_kind kind,
                                          const struct inbound *connector, uint64_t size)
{
    if (kind != INBOUND_OWN && kind != INBOUND_PARTNER)
        return TOKEN_NONE;
    const uint32_t slot = slot_of(s, connector);
    struct connector_now *now = slot == 0 ? NULL : now_of(s, slot);
    const uint64_t now_us = s->service->shard->now_ms * 1'000;
    if (now != NULL && !hold(s, now, slot, connector->connections_max))
        return TOKEN_CONNECTIONS;
    if (connector->size_max > 0 && size > connector->size_max)
        return TOKEN_SIZE;
    if (now != NULL && connector->rate_max > 0 &&
        !connector_take_one(&now->rate_us, now_us, connector->rate_max, CONNECTOR_MINUTE_US))
        return TOKEN_RATE;
    return TOKEN_NONE;
}

enum connector_token smtp_connector_recipients(const struct inbound *connector, uint32_t count)
{
    bool full =
        connector != NULL && connector->recipients_max > 0 && count >= connector->recipients_max;
    return full ? TOKEN_RECIPIENTS : TOKEN_NONE;
}

uint64_t smtp_size_max(const struct smtp_server *s)
{
    const struct inbound *connector = s->transaction->verdict.connector;
    uint64_t max = s->listener->size_max;
    return connector == NULL || connector->size_max == 0 ? max : MIN(max, connector->size_max);
}

/* ---- numbers ---- */

static enum connector_tls tls_of(const struct inbound_session *session)
{
    return session->tls_version == 0                ? CONNECTOR_TLS_NONE
           : session->tls_version == TLS_VERSION_13 ? CONNECTOR_TLS_13
                                                    : CONNECTOR_TLS_12;
}

void smtp_connector_refused(struct smtp_server *s, const struct inbound *by,
                            enum connector_token token, unsigned code)
{
    struct connector_in_row *row = row_of(s, by);
    if (row == NULL)
        return;
    bool forced = by != NULL && by->needs_tls;
    enum connector_result result = code >= 500 ? CONNECTOR_REFUSED : CONNECTOR_DEFERRED;
    connector_count(&row->traffic, &row->refused[token], 1);
    metric_add(&row->traffic.messages[tls_of(&s->facts)][forced][result], 1);
}

void smtp_connector_would(struct smtp_server *s, const struct inbound_would *would,
                          struct slice sender)
{
    struct connector_in_row *row = would->connector == NULL ? NULL : row_of(s, would->connector);
    if (row == NULL)
        return;
    connector_count(&row->traffic, &row->would[would->token], 1);
    if (would->token != TOKEN_NONE)
        readiness_add(&s->service->connectors->readiness, would->connector->name, &s->peer, sender,
                      would->token);
}

/* As the bundle of this connector judges it. */
static void tell_certificate(struct smtp_server *s, const struct inbound_rcpt *verdict)
{
    const struct inbound_session *session = &s->facts;
    char pin[sizeof("sha256:") + TLS_DIGEST_HEX_BYTES] = "sha256:";
    unsigned at = 0;
    for (unsigned i = 0; i < session->certificates_count; i++)
        if (session->certificates[i].roots == verdict->connector->roots)
            at = i;
    const struct tls_peer *peer = session->certificates[at].peer;
    struct slice where = verdict->identity.name;
    if (where.size == 0) {
        tls_text_hex(slice_of(peer->leaf.spki, TLS_DIGEST_BYTES), pin + strlen(pin),
                     TLS_DIGEST_HEX_BYTES);
        where = slice_of_string(pin);
    }
    cert_watch_tell(s->service->certs, CONNECTOR_IN, verdict->connector->name, where, peer);
}

void smtp_connector_accepted(struct smtp_server *s)
{
    const struct smtp_incoming *t = s->transaction;
    const struct inbound_rcpt *verdict = &t->verdict;
    struct connector_in_row *row = row_of(s, verdict->connector);
    if (row == NULL)
        return;
    bool forced = verdict->connector != NULL && verdict->connector->needs_tls;
    struct connector_traffic *traffic = &row->traffic;
    connector_count(traffic, &traffic->messages[tls_of(&s->facts)][forced][CONNECTOR_DONE], 1);
    metric_add(&traffic->bytes, t->envelope.body_bytes);
    if (s->facts.is_hybrid) {
        metric_add(&traffic->hybrid[forced], 1);
        if (!s->hybrid_counted || s->hybrid_of != verdict->connector)
            metric_add(&traffic->hybrid_handshakes, 1);
        s->hybrid_counted = true;
        s->hybrid_of = verdict->connector;
    }
    if (verdict->identity.by_certificate) {
        metric_add(&row->by_certificate, 1);
        tell_certificate(s, verdict);
    } else if (verdict->identity.by_address)
        metric_add(&row->by_address, 1);
}
