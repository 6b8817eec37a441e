/*
 * server.c - assembling a shard: pools, listeners, logs, deliveries
 *
 * Everything a shard will ever use is reserved here; what a pool holds is said beside it in
 * server.h and bounds.
 */
#include "mta/server.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/check.h"
#include "core/log.h"
#include "core/memory.h"
#include "mta/inspect.h"
#include "mta/memory_plan.h"
#include "mta/next_hop.h"
#include "mta/outbound_probe.h"
#include "mta/own_mail.h"
#include "mta/queue_job.h"
#include "mta/queue_top.h"
#include "mta/reload_census.h"
#include "mta/wire.h"

enum {
    BLOCK_BYTES = 1 << 20,
    SEGMENTS_LIMIT = 4'096,
    SEGMENTS_RESERVE_MIN = 2,
    SEGMENTS_AHEAD_MIN = 2,
    CACHE_BLOCKS_MIN = 4,
    FILES_EXTRA = 1'024,
    ACCEPT_PAUSE_MS = 100,
    START_SLOTS = 512, /* of a queue's table of destinations, in a turn of the loop */
    PASS_SHARE = 4,
};

static unsigned mail_shards(const struct shard_group *group)
{
    return group->count - 1; /* the last one is control */
}

struct ring_options server_ring_options(const struct config *config, unsigned shards)
{
    (void)shards;
    return (struct ring_options) {
        .entries = SERVER_RING_ENTRIES,
        .sockets_max = config->limits.connections.connections_max +
                       config->delivery.shard_connections_max + SERVER_REFUSALS +
                       SERVER_SOCKETS_MAX + SEGMENTS_LIMIT + FILES_EXTRA,
        .recv_buffers = SERVER_RECV_BUFFERS,
        .recv_buffer_bytes = SERVER_RECV_BUFFER_BYTES,
    };
}

/* ---- configuration ---- */

static void server_on_released(void *owner, const struct config *config)
{
    struct server_shard *server = owner;
    struct shard *shard = &server->shard;
    /* Control is never that far behind; should it be, the generation stays in memory. */
    (void)shard_handoff(
        shard, shard->group->count - 1,
        (struct handoff) { .kind = HANDOFF_CONFIG_FREE, .pointer = (void *)(uintptr_t)config });
}

static void server_on_config(struct shard *shard, const struct handoff *handoff)
{
    struct server_shard *server = shard->owner;
    int r = generations_switch(&server->generations, handoff->pointer);
    for (unsigned i = 0; r == 0 && i < server->logs_count; i++)
        deliver_switched(&server->logs[i].deliver);
    (void)shard_handoff(shard, shard->group->count - 1,
                        (struct handoff) { .kind = HANDOFF_CONFIG_TAKEN,
                                           .number = (uint64_t)(int64_t)r,
                                           .pointer = handoff->pointer });
}

/* ---- accepting ---- */

static const struct config *server_config(const struct server_shard *server)
{
    return server->generations.current->config;
}

static enum smtp_reply_id refusal_of(struct server_shard *server, enum limits_verdict verdict)
{
    struct smtp_server_metrics *m = &server->service.metrics;
    switch (verdict) {
    case LIMITS_ADMITTED: return SMTP_REPLIES;
    case LIMITS_SHARD_FULL: metric_add(&m->refused_shard, 1); return SMTP_REPLY_OVERLOAD;
    case LIMITS_ADDRESS_FULL: metric_add(&m->refused_address, 1); break;
    case LIMITS_NETWORK_FULL: metric_add(&m->refused_network, 1); break;
    case LIMITS_RATE: metric_add(&m->refused_rate, 1); return SMTP_REPLY_RATE_CLOSE;
    }
    return SMTP_REPLY_TOO_MANY_CONNECTIONS;
}

static void server_admit(struct server_shard *server, unsigned listener, int raw,
                         const struct net_address *peer, const struct net_address *local)
{
    const struct config *config = server_config(server);
    const struct config_listener *l = &config->listeners[listener];
    bool exempt = networks_hold(config->limits.exempt, peer) || policy_expects_proxy(l, peer);
    enum limits_verdict verdict = limits_open(server->limits, &config->limits.connections, peer,
                                              exempt, server->shard.now_ms);
    enum smtp_reply_id refusal = refusal_of(server, verdict);
    if (refusal == SMTP_REPLIES && smtp_service_is_short(&server->service)) {
        metric_add(&server->service.metrics.refused_short, 1);
        limits_close(server->limits, peer); /* who is refused is not counted */
        refusal = SMTP_REPLY_OVERLOAD;
    }
    int r = smtp_server_open(&server->service, listener, raw, peer, local, refusal);
    if (r == 0)
        return;
    metric_add(&server->service.metrics.refused_memory, 1);
    if (refusal == SMTP_REPLIES)
        limits_close(server->limits, peer);
    ring_discard(server->shard.ring, raw);
}

/* SO_REUSEPORT spreads connections by chance; whoever has more than its share passes a new one on
 * before its banner. False: it stays here. */
static bool server_pass(struct server_shard *server, unsigned listener, int raw)
{
    struct shard *shard = &server->shard;
    struct shard_group *group = shard->group;
    uint64_t least = UINT64_MAX;
    unsigned to = shard->index;
    for (unsigned i = 0; i < mail_shards(group); i++) {
        if (group->shards[i] == NULL)
            continue;
        const struct server_shard *other = group->shards[i]->owner;
        uint64_t open = metric_get(&other->service.metrics.connections_open);
        if (open < least) {
            least = open;
            to = i;
        }
    }
    uint64_t mine = metric_get(&server->service.metrics.connections_open);
    /* A few are spread evenly; of many, only what chance heaps up: passing costs a wake. */
    if (to == shard->index || mine <= least + least / PASS_SHARE)
        return false;
    struct handoff handoff = { .kind = HANDOFF_SOCKET,
                               .number = (uint64_t)(unsigned)raw | (uint64_t)listener << 32 };
    if (shard_handoff(shard, to, handoff) < 0)
        return false;
    metric_add(&server->passed, 1);
    return true;
}

static void server_take(struct server_shard *server, unsigned listener, int raw)
{
    struct net_address peer;
    struct net_address local;
    if (ring_peer(server->shard.ring, raw, &peer, &local) < 0) {
        ring_discard(server->shard.ring, raw);
        return;
    }
    server_admit(server, listener, raw, &peer, &local);
}

static void server_on_socket(struct shard *shard, const struct handoff *handoff)
{
    server_take(shard->owner, (unsigned)(handoff->number >> 32), (int)(uint32_t)handoff->number);
}

static void server_accept_again(struct timer *timer)
{
    struct server_socket *s = container_of(timer, struct server_socket, timer);
    if (!s->server->draining && !s->accept.inflight && s->socket >= 0)
        ring_accept(s->server->shard.ring, &s->accept, s->socket);
}

/* Nobody is to connect to what will not be answered. */
static void server_unlisten(struct server_socket *s)
{
    if (s->socket >= 0)
        ring_close(s->server->shard.ring, s->socket);
    s->socket = -1;
}

/* What a client did is not meant. */
static bool server_is_short(int error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -ENOBUFS;
}

/* Once when it begins to fail, and once when that is over: then what waits in the backlog is
 * accepted. */
static void server_tell_accept(struct server_socket *s, int error)
{
    struct server_shard *server = s->server;
    const struct shard *shard = &server->shard;
    server->accept_is_short = error < 0;
    if (shard->log == NULL)
        return;
    struct log_line line;
    log_begin(&line, shard->log, error < 0 ? LOG_ERROR : LOG_INFO, shard->wall_us,
              error < 0 ? "accept_failed" : "accept_works");
    log_string(&line, "listener", server_config(server)->listeners[s->listener].name);
    if (error < 0)
        log_string(&line, "why", strerror(-error));
    log_number(&line, "errors", (int64_t)metric_get(&server->accept_errors));
    log_end(&line);
}

static void server_on_accept(struct op *op, int res, unsigned flags)
{
    struct server_socket *s = container_of(op, struct server_socket, accept);
    struct server_shard *server = s->server;
    if (res >= 0) {
        if (server->draining)
            ring_discard(server->shard.ring, res);
        else if (!server_pass(server, s->listener, res))
            server_take(server, s->listener, res);
    } else if (res != -ECANCELED) {
        metric_add(&server->accept_errors, 1);
    }
    if (server->accept_is_short ? res >= 0 : server_is_short(res))
        server_tell_accept(s, res);
    if (flags & RING_MORE)
        return;
    if (server->draining) {
        server_unlisten(s);
        return;
    }
    shard_timer_arm(&server->shard, &s->timer, res < 0 ? ACCEPT_PAUSE_MS : 0);
}

int server_shard_listen(struct server_shard *server, const int *fds, unsigned fds_count,
                        char why[static SERVER_PATH_MAX])
{
    const struct config *config = server->first;
    unsigned passed = 0;
    for (unsigned i = 0; i < config->listeners_count; i++) {
        const struct config_listener *l = &config->listeners[i];
        for (unsigned k = 0; k < l->addresses_count; k++) {
            struct server_socket *s = &server->sockets[server->sockets_count];
            if (server->sockets_count == SERVER_SOCKETS_MAX) {
                snprintf(why, SERVER_PATH_MAX, "more than %d listening addresses",
                         SERVER_SOCKETS_MAX);
                return -E2BIG;
            }
            int r = passed < fds_count
                        ? ring_listen_fd(server->shard.ring, dup(fds[passed]), &s->socket)
                        : ring_listen(server->shard.ring, &l->addresses[k], (int)l->backlog,
                                      &s->socket);
            passed++;
            if (r < 0) {
                char address[NET_TEXT_MAX];
                net_text(&l->addresses[k], true, address);
                snprintf(why, SERVER_PATH_MAX, "listener \"%s\": %s: %s", l->name, address,
                         strerror(-r));
                return r;
            }
            s->server = server;
            s->listener = i;
            s->accept.landed = server_on_accept;
            timer_init(&s->timer, server_accept_again);
            server->sockets_count++;
        }
    }
    return 0;
}

/* ---- logs ---- */

static bool server_room(void *owner)
{
    struct server_shard *server = owner;
    return queue_reserve(&server->logs[0].queue);
}

static void server_unroom(void *owner, uint32_t recipients)
{
    struct server_shard *server = owner;
    queue_unreserve(&server->logs[0].queue, recipients);
}

static void server_accepted(void *owner, const struct stored *stored,
                            const struct envelope *envelope)
{
    struct server_shard *server = owner;
    queue_add(&server->logs[0].queue, stored, envelope);
}

struct queue_options server_queue_sizes(const struct config *config)
{
    return (struct queue_options) {
        .active_max = config->delivery.shard_connections_max + FILES_EXTRA,
    };
}

static struct queue_options server_queue_options(struct server_log *log,
                                                 const struct config *config)
{
    const struct config_delivery *d = &config->delivery;
    return (struct queue_options) {
        .messages_max = log->server->messages_max,
        .recipients_max = log->server->recipients_max,
        .destinations_max = log->server->destinations_max,
        .active_max = server_queue_sizes(config).active_max,
        .age_max_ms = d->age_max_ms,
        .age_max = deliver_age_max,
        .warn_after_ms = d->warn_after_ms,
        .late = deliver_late,
        .unrecorded = deliver_unrecorded,
        .retry_initial_ms = d->retry.initial_ms,
        .retry_max_ms = d->retry.max_ms,
        .retry_factor_percent = d->retry.factor_percent,
        .retry_jitter_percent = d->retry.jitter_percent,
        .owner = &log->deliver,
        .route = deliver_route,
        .wanted = deliver_wanted,
        .unwanted = deliver_unwanted,
        .expired = deliver_expired,
    };
}

uint32_t server_block_bytes(const struct config *config)
{
    return (uint32_t)MIN((uint64_t)BLOCK_BYTES, config->spool.segment_bytes / 4);
}

struct spool_options server_spool_sizes(const struct config *config, unsigned shards)
{
    const struct config_spool *s = &config->spool;
    uint64_t segments = SEGMENTS_LIMIT;
    if (s->size_max_bytes != 0)
        segments = s->size_max_bytes / shards / s->segment_bytes;
    /* The largest message must find room to be moved, or a full log is never compacted. */
    uint64_t largest = config->limits.message_bytes_max / s->segment_bytes + 1;
    uint64_t reserve =
        MAX(s->reserve_bytes / shards / s->segment_bytes, largest + SEGMENTS_RESERVE_MIN);
    uint64_t block = server_block_bytes(config);
    uint64_t cache = s->cache_bytes / shards / block;
    uint64_t ahead = MAX(s->ahead_bytes / shards / s->segment_bytes, (uint64_t)SEGMENTS_AHEAD_MIN);
    segments = MIN(MAX(segments, 2 * (largest + SEGMENTS_RESERVE_MIN)), (uint64_t)SEGMENTS_LIMIT);
    return (struct spool_options) {
        .segment_bytes = (uint32_t)s->segment_bytes,
        .block_bytes = (uint32_t)block,
        .segments_max = (uint32_t)segments,
        .segments_reserve = (uint32_t)MIN(reserve, segments / 2),
        .segments_moves = (uint32_t)largest + 1,
        .segments_ahead = (uint32_t)MIN(ahead, segments),
        .cache_blocks = (uint32_t)MAX(cache, (uint64_t)CACHE_BLOCKS_MIN),
        .writers_max = config->limits.connections.connections_max + FILES_EXTRA,
        .message_bytes_max = UINT64_MAX / 2,
    };
}

static struct spool_options server_spool_options(struct server_log *log, unsigned number,
                                                 const struct config *config, unsigned shards)
{
    struct spool_options options = server_spool_sizes(config, shards);
    options.directory = log->directory;
    options.quarantine = log->server->quarantine;
    options.number = number;
    options.owner = &log->queue;
    options.find = queue_find_stored;
    options.found = queue_found;
    return options;
}

static int server_log_open(struct server_shard *server, struct server_log *log, unsigned number,
                           char why[static SERVER_PATH_MAX])
{
    const struct config *config = server->first;
    unsigned shards = mail_shards(server->shard.group);
    log->server = server;
    log->deliver = (struct deliver) {
        .shard = &server->shard,
        .queue = &log->queue,
        .generations = &server->generations,
        .clients = &server->clients,
        .resolves = &server->resolves,
        .leases = &server->leases,
        .tls = &server->tls,
        .floors = &server->floors,
        .connectors = &server->connectors,
        .certs = &server->certs,
        .sts = &server->sts,
        .tlsrpt = &server->tlsrpt,
        .shards = shards,
        .orders = server->orders,
        .draining = true, /* nothing is delivered before server_shard_start */
    };
    const struct queue_options queue_options = server_queue_options(log, config);
    struct mail_class classes[CLASSES_MAX];
    unsigned classes_count = class_list(&config->classes, classes);
    int r = queue_init(&log->queue, &server->shard, &queue_options);
    if (r == 0) /* before the log is read: what is found is of some class */
        queue_classes_set(&log->queue, classes, classes_count);
    if (r == 0)
        r = deliver_init(&log->deliver, config->delivery.shard_connections_max);
    if (r < 0) {
        snprintf(why, SERVER_PATH_MAX, "no memory for the queue");
        return r;
    }
    const struct spool_options options = server_spool_options(log, number, config, shards);
    const char *words = NULL;
    r = spool_open(&server->shard, &options, &log->report, &log->spool, &words);
    if (r < 0) {
        snprintf(why, SERVER_PATH_MAX, "%s: %s", log->directory,
                 words != NULL ? words : strerror(-r));
        return r;
    }
    log->queue.spool = log->spool;
    log->deliver.spool = log->spool;
    log->open = true;
    if (log->queue.unplaced > 0) {
        snprintf(why, SERVER_PATH_MAX, "%s: %u recipients found no place in memory", log->directory,
                 log->queue.unplaced);
        return -ENOMEM;
    }
    return 0;
}

/* 1, 0, or why that cannot be told: mail in a log that is passed over waits for the next start. */
static int directory_exists(struct ring *ring, const char *path)
{
    int fd = ring->ops->now_open(ring, path, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return fd == -ENOENT ? 0 : fd;
    ring->ops->now_close(ring, fd);
    return 1;
}

int server_shard_open(struct server_shard *server, char why[static SERVER_PATH_MAX])
{
    unsigned shards = mail_shards(server->shard.group);
    const char *spool = server->first->spool.directory;
    snprintf(server->quarantine, sizeof(server->quarantine), "%s/quarantine", spool);
    for (unsigned number = server->shard.index; server->logs_count < SERVER_LOGS_MAX;
         number += shards) {
        struct server_log *log = &server->logs[server->logs_count];
        snprintf(log->directory, sizeof(log->directory), "%s/log-%03u", spool, number);
        int r = server->logs_count == 0 ? 1 : directory_exists(server->shard.ring, log->directory);
        if (r == 0)
            break;
        if (r < 0)
            snprintf(why, SERVER_PATH_MAX, "%s: %s", log->directory, strerror(-r));
        else
            r = server_log_open(server, log, number, why);
        if (r < 0)
            return r;
        server->logs_count++;
    }
    struct smtp_service *service = &server->service;
    service->spool = server->logs[0].spool;
    return 0;
}

/* ---- life ---- */

static void server_on_drain(struct shard *shard, const struct handoff *handoff)
{
    (void)handoff;
    server_shard_drain(shard->owner);
}

/* The books of the shard, balanced after each step. */
static void server_log_balance(struct server_log *log)
{
    const struct queue_metrics *m = &log->queue.metrics;
    metric_set(&log->balance, m->recipients_accepted + m->recipients_recovered -
                                  m->recipients_delivered - m->recipients_bounced -
                                  m->recipients_expired - m->recipients_discarded -
                                  m->recipients_queued);
}

/* Last in each step: has the drain come to its end? */
static void server_on_hook(struct hook *hook)
{
    struct server_shard *server = container_of(hook, struct server_shard, hook);
    metric_set(&server->accepting, server_shard_ready(server));
    for (unsigned i = 0; i < server->logs_count; i++)
        server_log_balance(&server->logs[i]);
    server_tls_idle(server);
    struct shard *shard = &server->shard;
    if (server->drained_told) {
        shard->stop = true; /* its last word went out with the wait of this step */
        return;
    }
    if (!server->draining || !server_shard_drained(server))
        return;
    server->drained_told = true;
    shard->woken = true;
    (void)shard_handoff(shard, shard->group->count - 1,
                        (struct handoff) { .kind = HANDOFF_DRAINED });
}

static void server_on_unblocked(struct shard *shard, const struct handoff *handoff)
{
    (void)handoff;
    struct server_shard *server = shard->owner;
    for (unsigned i = 0; i < server->logs_count; i++)
        deliver_unblocked(&server->logs[i].deliver);
}

static void server_on_wire(struct shard *shard, const struct handoff *handoff)
{
    struct server_shard *server = shard->owner;
    const bool end = handoff->number != 0;
    server->pools.watch = end ? NULL : handoff->pointer;
    if (end)
        wire_watch_release(handoff->pointer);
}

static void server_on_orders(struct shard *shard, const struct handoff *handoff)
{
    struct server_shard *server = shard->owner;
    struct queue_orders *before = server->orders;
    server->orders = handoff->pointer;
    for (unsigned i = 0; i < server->logs_count; i++)
        deliver_ordered(&server->logs[i].deliver, server->orders);
    queue_orders_drop(before);
}

int server_shard_init(struct server_shard *server, struct ring *ring, struct shard_group *group,
                      unsigned index, const struct config *config, struct tls_id_cache *ids)
{
    struct memory_plan plan;
    (void)memory_plan_make(config, mail_shards(group), &plan); /* the configuration was checked */
    *server = (struct server_shard) { .first = config,
                                      .messages_max = plan.messages_max,
                                      .recipients_max = plan.recipients_max,
                                      .destinations_max = plan.destinations_max };
    struct shard *shard = &server->shard;
    shard_init(shard, ring, group, index);
    shard->owner = server;
    list_init(&server->parts);
    uint32_t sessions = config->limits.connections.connections_max + SERVER_REFUSALS;
    uint32_t clients = config->delivery.shard_connections_max;
    uint64_t key[2] = { random_next(&shard->random), random_next(&shard->random) };
    static_assert(sizeof(key) == LIMITS_KEY_BYTES);
    server->logs = memory_reserve(SERVER_LOGS_MAX * sizeof(*server->logs));
    server->sockets = calloc(SERVER_SOCKETS_MAX, sizeof(*server->sockets));
    if (server->logs == NULL || server->sockets == NULL)
        return -ENOMEM;
    int r = connection_pools_init(&server->pools, ring, sessions + clients);
    if (r == 0)
        r = server_tls_init(server, config, ids);
    if (r == 0)
        r = generations_init(&server->generations);
    server->generations.owner = server;
    server->generations.made = server_tls_made;
    server->generations.unmade = server_tls_unmade;
    if (r == 0)
        r = generations_switch(&server->generations, config);
    if (r == 0)
        r = limits_new(sessions, (const uint8_t *)key, &server->limits);
    if (r == 0)
        r = connector_counts_init(&server->connectors, key[0]);
    if (r == 0)
        r = smtp_clients_init(&server->clients, shard, &server->pools, clients);
    if (r == 0)
        r = resolves_init(&server->resolves, shard, &server->dns, SERVER_RESOLVES_MAX);
    if (r == 0)
        r = lease_shard_init(&server->leases, shard,
                             deliver_hops_max(clients, plan.destinations_max), mail_shards(group),
                             hop_lease_changed, &server->leases);
    if (r < 0)
        return r;
    server->generations.released = server_on_released;
    server->service = (struct smtp_service) {
        .shard = shard,
        .pools = &server->pools,
        .generations = &server->generations,
        .limits = server->limits,
        .connectors = &server->connectors,
        .certs = &server->certs,
        .owner = server,
        .room = server_room,
        .unroom = server_unroom,
        .accepted = server_accepted,
    };
    r = smtp_service_init(&server->service, sessions);
    if (r < 0)
        return r;
    shard_handle(shard, HANDOFF_SOCKET, server_on_socket);
    shard_handle(shard, HANDOFF_CONFIG, server_on_config);
    shard_handle(shard, HANDOFF_DRAIN, server_on_drain);
    shard_handle(shard, HANDOFF_ASK, inspect_asked);
    shard_handle(shard, HANDOFF_CENSUS, reload_census_asked);
    shard_handle(shard, HANDOFF_JOB, queue_part_asked);
    shard_handle(shard, HANDOFF_ORDERS, server_on_orders);
    shard_handle(shard, HANDOFF_TOP, queue_top_asked);
    shard_handle(shard, HANDOFF_UNBLOCKED, server_on_unblocked);
    shard_handle(shard, HANDOFF_WIRE, server_on_wire);
    shard_handle(shard, HANDOFF_MAIL, own_mail_asked);
    shard_handle(shard, HANDOFF_PROBE, outbound_probe_asked);
    list_init(&server->probes);
    shard_hook(shard, &server->hook, server_on_hook);
    return 0;
}

/* What was found at the start goes out a stretch at a time: nobody waits for a greeting meanwhile.
 * The scan takes what has something ready and nobody to look after it for forgotten: it comes after
 * that. */
static void server_log_on_start(struct task *task)
{
    struct server_log *log = container_of(task, struct server_log, start);
    if (log->deliver.draining)
        return;
    if (queue_some_ready(&log->queue, &log->started, START_SLOTS, deliver_wanted, &log->deliver))
        shard_run_later(&log->server->shard, task);
    else
        scan_start(&log->queue);
}

void server_shard_start(struct server_shard *server)
{
    queue_count_start(&server->count);
    for (unsigned i = 0; i < server->sockets_count; i++)
        ring_accept(server->shard.ring, &server->sockets[i].accept, server->sockets[i].socket);
    for (unsigned i = 0; i < server->logs_count; i++) {
        struct server_log *log = &server->logs[i];
        log->deliver.draining = false;
        task_init(&log->start, server_log_on_start);
        shard_run_later(&server->shard, &log->start);
    }
}

void server_shard_release(void *argument, const char *host)
{
    struct server_shard *server = argument;
    for (unsigned i = 0; i < server->logs_count; i++)
        deliver_release(&server->logs[i].deliver, host);
}

void server_shard_sts_changed(void *argument, const char *domain)
{
    struct server_shard *server = argument;
    for (unsigned i = 0; i < server->logs_count; i++)
        deliver_sts_changed(&server->logs[i].deliver, domain);
}

void server_shard_drain(struct server_shard *server)
{
    if (server->draining)
        return;
    server->draining = true;
    struct ring *ring = server->shard.ring;
    for (unsigned i = 0; i < server->sockets_count; i++) {
        timer_disarm(&server->shard.timers, &server->sockets[i].timer);
        if (server->sockets[i].accept.inflight)
            ring_cancel(ring, &server->sockets[i].accept);
        else
            server_unlisten(&server->sockets[i]);
    }
    queue_count_stop(&server->count);
    outbound_probes_drain(server);
    smtp_service_drain(&server->service);
    queue_parts_stop(server);
    for (unsigned i = 0; i < server->logs_count; i++) {
        queue_drain(&server->logs[i].queue);
        deliver_drain(&server->logs[i].deliver);
    }
}

/* If that write failed, the next start may find what was refused in it: who looks for a duplicate
 * will want to know. */
static void server_tell_unproven(const struct server_shard *server)
{
    const struct shard *shard = &server->shard;
    for (unsigned i = 0; i < server->logs_count && shard->log != NULL; i++) {
        if (spool_proven(server->logs[i].spool))
            continue;
        struct log_line line;
        log_begin(&line, shard->log, LOG_WARNING, shard->wall_us, "spool_unproven");
        log_string(&line, "log", server->logs[i].directory);
        log_string(&line, "why",
                   "nothing could be written behind the last write: "
                   "if that failed, the next start may find messages that heard 451");
        log_end(&line);
    }
}

bool server_shard_drained(struct server_shard *server)
{
    for (unsigned i = 0; i < server->sockets_count; i++)
        if (server->sockets[i].accept.inflight)
            return false;
    if (server->service.sessions.used > 0 || server->clients.pool.used > 0 ||
        !list_empty(&server->parts) || server->mails > 0 || !list_empty(&server->probes))
        return false;
    for (unsigned i = 0; i < server->logs_count; i++)
        if (!deliver_idle(&server->logs[i].deliver))
            return false;
    if (!server->stopping)
        for (unsigned i = 0; i < server->logs_count; i++)
            spool_stop(server->logs[i].spool); /* nobody has anything for it any more */
    server->stopping = true;
    for (unsigned i = 0; i < server->logs_count; i++)
        if (!spool_idle(server->logs[i].spool))
            return false;
    server_tell_unproven(server);
    return true;
}

bool server_shard_ready(const struct server_shard *server)
{
    return !server->draining && server->logs_count > 0 && spool_room(server->logs[0].spool, 0) == 0;
}

/* Opened ones, and the one that could not be. */
unsigned server_shard_logs(const struct server_shard *server)
{
    return server->logs == NULL ? 0 : MIN(server->logs_count + 1, (unsigned)SERVER_LOGS_MAX);
}

void server_shard_close(struct server_shard *server)
{
    for (unsigned i = 0; i < server->sockets_count; i++)
        server_unlisten(&server->sockets[i]);
    /* A timer that is armed is linked to others: no queue goes before the last spool has. */
    const unsigned logs = server_shard_logs(server);
    for (unsigned i = 0; i < logs; i++) {
        scan_stop(&server->logs[i].queue);
        if (server->logs[i].open)
            spool_close(server->logs[i].spool);
    }
    for (unsigned i = 0; i < logs; i++) {
        struct server_log *log = &server->logs[i];
        deliver_free(&log->deliver);
        queue_free(&log->queue);
    }
    smtp_service_free(&server->service);
    resolves_free(&server->resolves);
    smtp_clients_free(&server->clients);
    limits_free(server->limits);
    connector_counts_free(&server->connectors);
    generations_free(&server->generations);
    server_tls_free(server);
    floor_shard_free(&server->floors);
    sts_shard_free(&server->sts);
    tlsrpt_shard_free(&server->tlsrpt);
    queue_count_free(&server->count);
    lease_shard_free(&server->leases);
    connection_pools_free(&server->pools);
    queue_orders_drop(server->orders);
    server->orders = NULL;
    memory_release(server->logs, SERVER_LOGS_MAX * sizeof(*server->logs));
    free(server->sockets);
    server->logs = NULL;
    server->sockets = NULL;
}

void server_shard_give_up(struct server_shard *server)
{
    if (server->first == NULL || server->generations.retired.next == NULL)
        return;
    generations_free(&server->generations);
    server_tls_free(server);
}

/* ---- numbers ---- */

static const struct metric server_metrics_table[] = {
    { "ringpost_accept_errors_total", NULL, "Accepts that failed: descriptors, memory",
      METRIC_COUNTER, 0, offsetof(struct server_shard, accept_errors) },
    { "ringpost_accepting", NULL, "1: this shard takes new mail", METRIC_GAUGE, 0,
      offsetof(struct server_shard, accepting) },
    { "ringpost_connections_passed_total", NULL, "Connections passed to a shard with fewer",
      METRIC_COUNTER, 0, offsetof(struct server_shard, passed) },
};

#define RECOVERY_GAUGE(field, name, words)                                                         \
    {                                                                                              \
        "ringpost_recovery_" name, NULL, words, METRIC_GAUGE, 0,                                   \
            offsetof(struct server_log, report) + offsetof(struct recovery_report, field)          \
    }

static const struct metric log_metrics_table[] = {
    { "ringpost_mail_balance", "by=\"counters\"",
      "Recipients that came in, less those that went out, less those queued: 0, or mail is lost",
      METRIC_GAUGE, 0, offsetof(struct server_log, balance) },
    RECOVERY_GAUGE(messages_live, "messages", "Messages found at the last start"),
    RECOVERY_GAUGE(messages_damaged, "damaged_messages", "Of these, damaged ones (held)"),
    RECOVERY_GAUGE(damages, "damaged_ranges", "Ranges copied to quarantine at the last start"),
    RECOVERY_GAUGE(quarantine_failed, "quarantine_failures", "Ranges that could not be copied"),
    RECOVERY_GAUGE(torn_bytes, "torn_bytes",
                   "Bytes of writes cut by the last crash, never acknowledged"),
};

void server_shard_metrics(struct server_shard *server, struct metrics *metrics)
{
    int index = (int)server->shard.index;
    metrics_add_source(metrics, &server->sources[0], server_metrics_table,
                       ARRAY_COUNT(server_metrics_table), server, index);
    metrics_add_source(metrics, &server->sources[1], smtp_server_metrics_table,
                       smtp_server_metrics_count, &server->service.metrics, index);
    metrics_add_source(metrics, &server->sources[2], smtp_client_metrics, smtp_client_metrics_count,
                       &server->clients.numbers, index);
    metrics_add_source(metrics, &server->sources[3], resolve_metrics, resolve_metrics_count,
                       &server->resolves.numbers, index);
    metrics_add_source(metrics, &server->sources[4], floor_watch_metrics_table,
                       floor_watch_metrics_count, &server->floors.metrics, index);
    metrics_add_source(metrics, &server->sources[5], sts_watch_metrics_table,
                       sts_watch_metrics_count, &server->sts.metrics, index);
    metrics_add_source(metrics, &server->leases_source, lease_metrics_table, lease_metrics_count,
                       &server->leases.numbers, index);
    server_tls_metrics(server, metrics);
    for (unsigned i = 0; i < server->logs_count; i++) {
        struct server_log *log = &server->logs[i];
        /* A shard's further logs are numbered as if they were shards of their own: that is what
         * they were. */
        int number = index + (int)(i * mail_shards(server->shard.group));
        metrics_add_source(metrics, &log->sources[0], queue_metrics_table, queue_metrics_count,
                           &log->queue.metrics, number);
        metrics_add_source(metrics, &log->sources[1], deliver_metrics_table, deliver_metrics_count,
                           &log->deliver.metrics, number);
        metrics_add_source(metrics, &log->sources[4], outbound_token_metrics,
                           outbound_token_metrics_count, &log->deliver.metrics.tokens, number);
        metrics_add_source(metrics, &log->sources[5], dane_metrics, dane_metrics_count,
                           &log->deliver.danes.numbers, number);
        metrics_add_source(metrics, &log->sources[6], queue_scan_metrics_table,
                           queue_scan_metrics_count, &log->queue.scan.metrics, number);
        metrics_add_source(metrics, &log->sources[3], log_metrics_table,
                           ARRAY_COUNT(log_metrics_table), log, number);
        metrics_add_source(metrics, &log->sources[2], spool_metrics_table, spool_metrics_count,
                           spool_metrics(log->spool), number);
    }
}
