/*
 * server_tls.c - a shard's part in TLS: keys and caches, contexts of each configuration, idle time
 *
 * Key shares are made in quiet turns of the loop: a turn in which nothing but our own wish to turn
 * again was run. So a busy shard makes none, and its handshakes make theirs on the spot.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/generation_tls.h"
#include "mta/server.h"

enum {
    HYBRID_KEY_SHARES = 64,
    FILL_AT_A_TIME = 4,
    MS_IN_S = 1'000,
    HOSTS_LIFETIME_MS = 7 * 86'400 * MS_IN_S
};

static void on_fill(struct task *task)
{
    (void)task; /* the turn was all that was wanted */
}

static void server_on_tickets(struct shard *shard, const struct handoff *handoff)
{
    struct server_shard *server = shard->owner;
    struct tls_ticket_keys *keys = handoff->pointer;
    server_shard_tickets(server, keys);
    tls_ticket_keys_wipe(keys);
    free(keys);
}

void server_shard_tickets(struct server_shard *server, const struct tls_ticket_keys *keys)
{
    if (server->tls.tickets != NULL)
        (void)tls_tickets_take(server->tls.tickets, keys); /* none are given out then */
}

static void server_on_crls(struct shard *shard, const struct handoff *handoff)
{
    struct server_shard *server = shard->owner;
    tls_crl_watch_take(&server->tls.crls, handoff->pointer);
}

/* The last of the group is control. When it has no room, the next session tells again. */
static void server_tell_crl(void *owner, struct tls_crl_pointer *pointer)
{
    struct server_shard *server = owner;
    const struct handoff handoff = { .kind = HANDOFF_CRL_WANTED, .pointer = pointer };
    if (shard_handoff(&server->shard, server->shard.group->count - 1, handoff) < 0)
        free(pointer);
}

void server_shard_crls(struct server_shard *server)
{
    server->tls.crls.owner = server;
    server->tls.crls.tell = server_tell_crl;
}

int server_tls_init(struct server_shard *server, const struct config *config,
                    struct tls_id_cache *ids)
{
    struct tls_shard *tls = &server->tls;
    int r = tls_shard_init(tls, &server->shard.wall_us);
    tls->ids.cache = ids;
    tls->ids.now_ms = &server->shard.now_ms;
    task_init(&server->tls_fill, on_fill);
    shard_handle(&server->shard, HANDOFF_TICKETS, server_on_tickets);
    shard_handle(&server->shard, HANDOFF_CRLS, server_on_crls);
    if (r == 0 && config->tls.tickets)
        r = tls_tickets_make(&tls->tickets);
    if (r == 0 && config->tls.key_shares > 0)
        r = tls_keyshares_make(config->tls.key_shares, config->tls.key_share_age_ms,
                               &tls->keyshares);
    if (tls->keyshares != NULL) /* where the library has none there is nothing to keep */
        (void)tls_keyshares_add_mlkem(tls->keyshares, HYBRID_KEY_SHARES);
    if (r == 0 && config->tls.client_cache > 0)
        r = tls_client_cache_init(&server->tls_sessions, config->tls.client_cache);
    if (r == 0 && config->tls.client_cache > 0)
        tls->sessions = &server->tls_sessions;
    if (r == 0)
        r = tls_hosts_init(&server->tls_hosts, config->tls.hosts, HOSTS_LIFETIME_MS);
    if (r == 0)
        tls->hosts = &server->tls_hosts;
    return r;
}

void server_tls_free(struct server_shard *server)
{
    struct tls_shard *tls = &server->tls;
    if (tls->sessions != NULL)
        tls_client_cache_free(tls->sessions);
    if (tls->hosts != NULL)
        tls_hosts_free(tls->hosts);
    tls_tickets_free(tls->tickets);
    tls_keyshares_free(tls->keyshares);
    tls_shard_free(tls);
}

int server_tls_made(void *owner, struct generation *generation)
{
    struct server_shard *server = owner;
    return generation_tls_make(generation, &server->tls);
}

void server_tls_unmade(void *owner, struct generation *generation)
{
    (void)owner;
    generation_tls_free(generation);
}

void server_tls_idle(struct server_shard *server)
{
    struct shard *shard = &server->shard;
    if (server->tls.keyshares == NULL || server->draining)
        return;
    bool ours = !list_empty(&server->tls_fill.node);
    bool quiet = shard->ran <= 1 && list_empty(&shard->runnable);
    if (ours || !quiet)
        return;
    if (tls_keyshares_fill(server->tls.keyshares, FILL_AT_A_TIME, shard->now_ms))
        shard_run_later(shard, &server->tls_fill);
}

void server_tls_metrics(struct server_shard *server, struct metrics *metrics)
{
    int index = (int)server->shard.index;
    struct tls_shard *tls = &server->tls;
    metrics_add_source(metrics, &server->tls_sources[0], tls_metrics_table, tls_metrics_count,
                       &tls->numbers, index);
    metrics_add_source(metrics, &server->tls_sources[1], tls_id_cache_metrics_table,
                       tls_id_cache_metrics_count, &tls->ids.numbers, index);
    metrics_add_source(metrics, &server->tls_sources[5], tls_hosts_metrics_table,
                       tls_hosts_metrics_count, &server->tls_hosts.numbers, index);
    metrics_add_source(metrics, &server->tls_sources[6], tls_crl_metrics_table,
                       tls_crl_metrics_count, &tls->crls.numbers, index);
    if (tls->keyshares != NULL)
        metrics_add_source(metrics, &server->tls_sources[2], tls_keyshare_metrics_table,
                           tls_keyshare_metrics_count, tls_keyshares_numbers(tls->keyshares),
                           index);
    if (tls->tickets != NULL)
        metrics_add_source(metrics, &server->tls_sources[3], tls_ticket_metrics_table,
                           tls_ticket_metrics_count, tls_tickets_numbers(tls->tickets), index);
    if (tls->sessions != NULL)
        metrics_add_source(metrics, &server->tls_sources[4], tls_client_cache_metrics_table,
                           tls_client_cache_metrics_count, &tls->sessions->numbers, index);
}
