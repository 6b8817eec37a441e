/*
 * hop_sts.c - MTA-STS of a next hop: whose policy, and what it says of the host that is next
 *
 * The policy is that of the domain whose MX the host is; of a host that the configuration names,
 * the host's own (RFC 8461 3.4). Addresses have none. It is asked for before each connection, which
 * costs one look into the shard's copies. A policy in testing changes nothing; what it would have
 * refused is told.
 */
#include <string.h>

#include "mta/next_hop.h"

enum { BELIEVED_MS = 60'000 }; /* while it waits for a connection */

/* Whose policy counts for this host; "": nobody's. */
static const char *subject_of(const struct next_hop *hop, const struct hop_target *to)
{
    const struct route *route = hop->route;
    bool named;
    if (!route->sts || to->host == NULL || route->tls.level == TLS_LEVEL_NONE ||
        route->protocol != ROUTE_SMTP)
        return "";
    const char *domain = hop_subject(hop, to->host, &named);
    return *domain == '[' ? "" : domain;
}

static void on_answered(struct sts_watch *watch)
{
    hop_pump(container_of(watch, struct next_hop, sts));
}

bool hop_sts_ask(struct next_hop *hop, const struct hop_target *to, struct sts_facts *facts)
{
    const bool same = to == &hop->targets[hop->target_next] || hop->sts_facts.mode == STS_MODE_NONE;
    if (same && hop->deliver->shard->now_ms < hop->sts_until_ms) {
        *facts = hop->sts_facts; /* it waits in line with many: the shard's copy may be gone */
        return true;
    }
    const char *domain = subject_of(hop, to);
    *facts = (struct sts_facts) { .domain = "", .mode = STS_MODE_NONE };
    hop->sts.answered = on_answered;
    return *domain == '\0' || sts_watch_ask(&hop->sts, hop->deliver->sts, domain, to->host, facts);
}

bool hop_sts_known(struct next_hop *hop)
{
    hop->sts_until_ms = 0;
    if (!hop_sts_ask(hop, &hop->targets[hop->target_next], &hop->sts_facts))
        return false;
    hop->sts_until_ms = hop->deliver->shard->now_ms + BELIEVED_MS;
    return true;
}

static enum outbound_token testing_fault(const struct link *link)
{
    const struct smtp_client *client = link->client;
    if (link->policy.reported != FAULT_NONE)
        return link->policy.reported;
    if (!client->secured)
        return client->clear_unoffered ? FAULT_STARTTLS_NONE : FAULT_HANDSHAKE;
    return tls_client_also_ok(client->connection.tls) ? FAULT_NONE : FAULT_STS_CERT;
}

void link_sts_tell(const struct link *link)
{
    const struct deliver *deliver = link->hop->deliver;
    const struct shard *shard = deliver->shard;
    if (deliver->sts == NULL)
        return;
    metric_add(&deliver->sts->metrics.connections[link->sts.mode], 1);
    if (link->sts.mode != STS_MODE_TESTING || link->policy.dane)
        return;
    enum outbound_token token = testing_fault(link);
    if (token == FAULT_NONE)
        return;
    metric_add(&deliver->sts->metrics.testing_failures, 1);
    if (shard->log == NULL)
        return;
    struct log_line line;
    log_begin(&line, shard->log, LOG_WARNING, shard->wall_us, "sts_testing");
    log_string(&line, "domain", link->sts.domain);
    log_string(&line, "host", link->host);
    log_string(&line, "id", link->sts.id);
    log_string(&line, "token", outbound_token_name(token));
    log_string(&line, "why", outbound_token_row(token)->words);
    log_end(&line);
}

void deliver_sts_changed(struct deliver *deliver, const char *domain)
{
    list_each (node, &deliver->open) {
        struct next_hop *hop = container_of(node, struct next_hop, node);
        const char *subject = hop->sts_facts.domain;
        if (subject != NULL && strcmp(subject, domain) == 0)
            hop->sts_until_ms = 0;
        bool refused = hop_token(hop->destination) == FAULT_STS_MX ||
                       hop_token(hop->destination) == FAULT_STS_CERT;
        if (!refused || subject == NULL || strcmp(subject, domain) != 0)
            continue;
        queue_destination_works(deliver->queue, hop->destination);
        queue_destination_again(deliver->queue, hop->destination, 0);
    }
}
