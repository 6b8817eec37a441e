/*
 * link_tls.c - a connection's session: what is offered to its host, and what is learned from it
 *
 *   link_tls, connect --handshake good--> link_learn: what worked comes first next time
 *                          '--bad--> link_step_down: another connection that offers less, or none
 *
 * What a host must show is link_policy.c's; this is how it is asked. The step that a host needs is
 * remembered for all connectors, and used by those that go down that far.
 */
#include "core/log.h"
#include "mta/next_hop.h"
#include "tls/tls_shard.h"

enum {
    STEP_BELIEVED_MS = 4 * 3'600'000,  /* that a host needs less than the strongest */
    REFUSAL_BELIEVED_MS = 15 * 60'000, /* that it does not give TLS now: for the next attempt */
};

static void log_step(const struct link *link, const struct smtp_client_end *end, enum tls_step next)
{
    const struct shard *shard = link->hop->deliver->shard;
    if (shard->log == NULL)
        return;
    struct log_line line;
    log_begin(&line, shard->log, LOG_WARNING, shard->wall_us, "tls_step");
    log_string(&line, "destination", link->hop->destination->key);
    log_string(&line, "host", link->host);
    log_text(&line, "why", end->text);
    log_string(&line, "tried", tls_client_step_name(link->step));
    log_string(&line, "next", tls_client_step_name(next));
    log_end(&line);
}

static struct tls_lru_key host_key(const struct link *link)
{
    return tls_lru_key_of(slice_of(link->host_key, sizeof(link->host_key)));
}

/* RFC 6066 3: a name, and no address. */
static const char *server_name(const struct link *link, const struct hop_target *to)
{
    if (link->hop->route->server_name != NULL)
        return link->hop->route->server_name;
    if (link->policy.dane)
        return link->dane.base; /* RFC 7672 8.1 */
    struct net_address ignored;
    bool named = to->host != NULL && *link->host != '[' &&
                 net_parse(slice_of_string(link->host), 0, &ignored) < 0;
    return named ? link->host : "";
}

/* RFC 8461 4.1: the name of the MX host, as the policy lists it. */
static struct slice also_name(const struct link *link)
{
    bool looks = link->policy.sts || (link->sts.mode == STS_MODE_TESTING && !link->policy.dane);
    return looks ? slice_of_string(link->host) : (struct slice) { NULL, 0 };
}

void link_tls(struct link *link, const struct hop_target *to, struct smtp_client_tls *tls)
{
    const struct next_hop *hop = link->hop;
    const struct deliver *deliver = hop->deliver;
    const struct route *route = hop->route;
    static_assert(sizeof(to->address.octets) + sizeof(to->address.port) == sizeof(link->host_key));
    memcpy(link->host_key, to->address.octets, sizeof(to->address.octets));
    memcpy(link->host_key + sizeof(to->address.octets), &to->address.port,
           sizeof(to->address.port));
    if (link->tls.level == TLS_LEVEL_NONE)
        return;
    struct tls_host host;
    const struct tls_lru_key key = host_key(link);
    (void)tls_hosts_get(deliver->tls->hosts, &key, deliver->shard->now_ms, &host);
    bool may = link->tls.level == TLS_LEVEL_MAY;
    link->step = (enum tls_step)host.step;
    if ((link->step == TLS_STEPS && (!may || route->clear != ROUTE_CLEAR_HANDSHAKE)) ||
        !tls_client_step_fits(&link->tls, link->step))
        link->step = TLS_STEP_ALL; /* another connector goes down that far; this one does not */
    if (link->step == TLS_STEPS)
        return;
    bool given = route->tls_names_count > 0;
    *tls = (struct smtp_client_tls) {
        .client = link->generation->tls_client,
        .policy = &link->tls,
        .clear_without_offer = may && route->clear != ROUTE_CLEAR_NEVER,
        .implicit = route->tls_implicit,
        .target = {
            .host = link->host_key,
            .server_name = server_name(link, to),
            .names = given ? route->tls_names : link->names.names,
            .names_count =
                given ? route->tls_names_count : hop_names(hop, link->to.host, &link->names),
            .step = link->step,
            .group = host.group,
            .also = also_name(link),
            .also_must = link->policy.sts,
        },
    };
}

void link_learn(const struct link *link)
{
    const struct smtp_client *client = link->client;
    if (!client->secured)
        return;
    struct deliver *deliver = link->hop->deliver;
    const struct tls_lru_key key = host_key(link);
    struct tls_host host;
    (void)tls_hosts_get(deliver->tls->hosts, &key, deliver->shard->now_ms, &host);
    uint16_t group = tls_client_group(client->connection.tls);
    host.group = group != 0 ? group : host.group;
    tls_hosts_put(deliver->tls->hosts, &key, deliver->shard->now_ms, &host);
}

/* What this host is begun with from now on. */
static void remember_step(const struct link *link, struct tls_host *host, enum tls_step step,
                          uint64_t believed_ms)
{
    struct deliver *deliver = link->hop->deliver;
    const struct tls_lru_key key = host_key(link);
    host->step = (uint8_t)step;
    host->step_until_ms = deliver->shard->now_ms + believed_ms;
    tls_hosts_put(deliver->tls->hosts, &key, deliver->shard->now_ms, host);
}

/* TLS_STEPS: nothing is left but plain text. */
static enum tls_step step_next(const struct link *link, const struct smtp_client_end *end,
                               const struct tls_host *host)
{
    if (end->fault == SMTP_TLS_REFUSED || end->fault == SMTP_TLS_CLIENT_CERT)
        return TLS_STEPS; /* what is offered is not what is wrong */
    if (end->misused)
        return TLS_STEP_QUIET;
    enum tls_step next = tls_client_step_after(&link->tls, link->step);
    return next == TLS_STEP_12 && host->refuses_less ? TLS_STEPS : next;
}

bool link_step_down(struct link *link, const struct smtp_client_end *end)
{
    struct next_hop *hop = link->hop;
    struct deliver *deliver = hop->deliver;
    const struct route *route = hop->route;
    if (route == NULL || (end->fault != SMTP_TLS_HANDSHAKE && end->fault != SMTP_TLS_TOO_WEAK &&
                          end->fault != SMTP_TLS_REFUSED && end->fault != SMTP_TLS_CLIENT_CERT))
        return false; /* a certificate does not get better, nor does a host that we do not trust */
    const struct tls_lru_key key = host_key(link);
    struct tls_host host;
    (void)tls_hosts_get(deliver->tls->hosts, &key, deliver->shard->now_ms, &host);
    if (end->offered_less) {
        /* What failed before was a mishap, or somebody's doing: from the top, at the next attempt.
         */
        host.refuses_less = true;
        remember_step(link, &host, TLS_STEP_ALL, STEP_BELIEVED_MS);
        log_step(link, end, TLS_STEP_ALL);
        metric_add(&deliver->metrics.tls_steps_back, 1);
        return false;
    }
    enum tls_step next = step_next(link, end, &host);
    bool clear = link->tls.level == TLS_LEVEL_MAY && route->clear == ROUTE_CLEAR_HANDSHAKE;
    if (next == TLS_STEPS && !clear) {
        /* None has helped, so none is worth remembering: the host may be well again soon. */
        if (host.step != TLS_STEP_ALL)
            remember_step(link, &host, TLS_STEP_ALL, STEP_BELIEVED_MS);
        return false;
    }
    remember_step(link, &host, next, end->temporary ? REFUSAL_BELIEVED_MS : STEP_BELIEVED_MS);
    log_step(link, end, next);
    metric_add(
        next == TLS_STEPS ? &deliver->metrics.clear_after_failure : &deliver->metrics.tls_steps, 1);
    return next != TLS_STEPS; /* in clear not before the next attempt */
}
