/*
 * link_count.c - connections and attempts in the numbers of their connector
 *
 * What a connection has for protection is noted when it is ready: it may be gone when the outcome
 * of its message is known.
 */
#include "core/check.h"
#include "mta/cert_watch.h"
#include "mta/next_hop.h"
#include "mta/server.h"

enum { US_IN_MS = 1'000 };

static uint32_t slot_of(const struct next_hop *hop)
{
    const struct route *route = hop->route;
    if (route == NULL || *route->name == '\0')
        return 0;
    uint32_t slot = hop->generation->config->outbound_slots[route->index];
    CHECK(slot < CONNECTOR_SLOTS_MAX);
    return slot;
}

static struct connector_out_row *row_of(const struct next_hop *hop)
{
    const struct connector_counts *counts = hop->deliver->connectors;
    return counts == NULL || hop->route == NULL ? NULL : &counts->out[slot_of(hop)];
}

bool hop_is_blocked(const struct next_hop *hop)
{
    return hop->suspended ||
           connector_is_blocked(hop->deliver->connectors, CONNECTOR_OUT, slot_of(hop));
}

void link_count_begun(struct link *link, enum tls_level level)
{
    link->row = row_of(link->hop);
    const struct route *route = link->hop->route;
    link->forced =
        level > TLS_LEVEL_MAY || (level == TLS_LEVEL_MAY && route->clear == ROUTE_CLEAR_NEVER);
}

void link_count_ready(struct link *link)
{
    struct connector_out_row *row = link->row;
    const struct smtp_client *client = link->client;
    if (row == NULL)
        return;
    if (!client->secured) {
        enum connector_clear why = client->clear_unoffered   ? CONNECTOR_CLEAR_NO_OFFER
                                   : link->step == TLS_STEPS ? CONNECTOR_CLEAR_HANDSHAKE
                                                             : CONNECTOR_CLEAR_WANTED;
        connector_count(&row->traffic, &row->clear[why], 1);
        return;
    }
    struct tls_facts facts;
    tls_session_facts(client->connection.tls, &facts);
    link->tls_kind = strcmp(facts.version, "TLSv1.3") == 0 ? CONNECTOR_TLS_13 : CONNECTOR_TLS_12;
    link->is_hybrid = strstr(facts.group, "MLKEM") != NULL;
    if (link->is_hybrid)
        connector_count(&row->traffic, &row->traffic.hybrid_handshakes, 1);
    const char *connector = link->hop->route->name;
    if (facts.peer != NULL && *connector != '\0')
        cert_watch_tell(link->hop->deliver->certs, CONNECTOR_OUT, connector,
                        slice_of_string(link->floor.name.host), facts.peer);
}

void link_count_refused(const struct link *link, enum outbound_token token)
{
    struct connector_out_row *row = link->row;
    if (row != NULL && token != FAULT_CONNECT)
        connector_count(&row->traffic, &row->failures[token], 1);
}

static bool any_refused(const struct outcome *outcomes, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (outcomes[i].code >= 500)
            return true;
    return false;
}

static enum connector_result result_of(const struct outcome *outcomes, uint32_t count)
{
    enum connector_result result = CONNECTOR_DEFERRED;
    for (uint32_t i = 0; i < count; i++) {
        if (outcomes[i].kind == OUTCOME_DELIVERED)
            return CONNECTOR_DONE;
        if (outcomes[i].kind != OUTCOME_DEFERRED)
            result = CONNECTOR_REFUSED;
    }
    return result;
}

/* The outside refuses mail that came by a connector of ours: too often, and control blocks it. */
static void count_abuse(struct deliver *deliver, struct slice name, const struct outcome *outcomes,
                        uint32_t count)
{
    const struct config *config = deliver->generations->current->config;
    const struct inbound *from = inbound_named(config->inbound, name);
    struct connector_now *all = deliver->connectors->now[CONNECTOR_IN];
    if (from == NULL || from->abuse_max == 0 || all == NULL)
        return;
    const uint32_t slot = config->inbound_slots[inbound_index(config->inbound, from)];
    struct shard *shard = deliver->shard;
    for (uint32_t i = 0; i < count && slot != 0; i++) {
        if (outcomes[i].code < 500 || connector_take_one(&all[slot].abuse_us, shard->now_ms * 1'000,
                                                         from->abuse_max, CONNECTOR_HOUR_US))
            continue;
        /* Control may be far behind: the next answer tells it again. */
        (void)shard_handoff(shard, shard->group->count - 1,
                            (struct handoff) { .kind = HANDOFF_ABUSE, .number = slot });
        return;
    }
}

void link_count_message(struct link *link, const struct outcome *outcomes, uint32_t count,
                        const struct envelope *envelope)
{
    struct connector_out_row *row = link->row;
    if (row == NULL)
        return;
    if (envelope->connector.size > 0 && any_refused(outcomes, count))
        count_abuse(link->hop->deliver, envelope->connector, outcomes, count);
    const enum connector_result result = result_of(outcomes, count);
    struct connector_traffic *traffic = &row->traffic;
    connector_count(traffic, &traffic->messages[link->tls_kind][link->forced][result], 1);
    if (result != CONNECTOR_DONE)
        return;
    metric_add(&traffic->bytes, envelope->body_bytes);
    if (link->is_hybrid)
        metric_add(&traffic->hybrid[link->forced], 1);
}

void deliver_count(struct deliver *deliver, const struct unit *unit, const struct outcome *outcome)
{
    struct deliver_metrics *m = &deliver->metrics;
    const int64_t age_us = deliver->shard->steady_us - unit->message->arrival_us;
    const uint64_t age_ms = age_us < 0 ? 0 : (uint64_t)age_us / US_IN_MS;
    switch (outcome->kind) {
    case OUTCOME_DELIVERED:
        metric_add(&m->delivered, 1);
        histogram_add(&m->queued_ms, age_ms);
        histogram_add(&m->lanes_queued_ms[unit_class(unit)->lane], age_ms);
        break;
    case OUTCOME_BOUNCED: metric_add(&m->bounced, 1); break;
    case OUTCOME_EXPIRED: metric_add(&m->expired, 1); break;
    default: metric_add(&m->deferred, 1); break;
    }
}
