/*
 * deliver.c - next hops: finding them, connecting, giving messages to connections
 *
 * Addresses are tried in order; the first that answers serves until its answers' time to live is
 * over. When none answers the destination backs off as a whole: one connection is tried per
 * back-off, the messages wait.
 *
 * Bounds: connections per next hop (hop_lease.c), of the shard in all (hop_share.c says who gets
 * them), attempts (one per connection and some for expiry and failures).
 */
#include "mta/deliver.h"

#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/next_hop.h"
#include "mta/outbound_envelope.h"
#include "mta/wire.h"
#include "tls/tls_shard.h"

enum {
    ASIDES_SPARE = 64, /* attempts that operators do not get */
    GROW_PAUSE_MS = 1'000,
    REFUSE_PAUSE_MS = 200, /* between two lots of PUMP_MAX that are refused or moved */
    PUMP_MAX = 64,         /* connections or failures begun in one go */
    HOPS_EXTRA = 2'048,    /* next hops in memory, beyond those with a connection */
    HOPS_LOOKS_MAX = 64,   /* at next hops, for one to be forgotten */
    ADDRESS_MAX_BYTES = 1'100,
};

static void link_free(struct link *link);
static void hop_target_failed(struct next_hop *hop, const struct link *link,
                              enum outbound_token token, const char *what, struct slice text);

uint32_t deliver_hops_max(uint32_t connections, uint32_t destinations)
{
    return MIN(destinations, connections + HOPS_EXTRA);
}

uint64_t deliver_bytes(uint32_t connections, uint32_t destinations)
{
    return pool_bytes(sizeof(struct next_hop), deliver_hops_max(connections, destinations)) +
           pool_bytes(sizeof(struct link), connections) +
           pool_bytes(attempt_bytes(), connections + ATTEMPT_ASIDES) +
           pool_bytes(attempt_large_bytes(), pool_share(connections, ATTEMPT_LARGE)) +
           pool_bytes(sizeof(struct tls_dane_set), connections);
}

int deliver_init(struct deliver *deliver, uint32_t connections)
{
    list_init(&deliver->open);
    bounce_limits_init(&deliver->bounce_limits, random_next(&deliver->shard->random));
    hop_share_init(deliver);
    hop_line_init(deliver);
    int r = pool_init(&deliver->hops, "next hops", sizeof(struct next_hop),
                      deliver_hops_max(connections, deliver->queue->options.destinations_max));
    if (r == 0)
        r = pool_init(&deliver->links, "links", sizeof(struct link), connections);
    if (r == 0)
        r = pool_init(&deliver->attempts, "attempts", attempt_bytes(),
                      connections + ATTEMPT_ASIDES);
    if (r == 0)
        r = pool_init(&deliver->large, "large attempts", attempt_large_bytes(),
                      pool_share(connections, ATTEMPT_LARGE));
    if (r == 0)
        r = danes_init(&deliver->danes, deliver->shard, deliver->resolves->dns, connections);
    if (r < 0)
        deliver_free(deliver);
    return r;
}

void deliver_free(struct deliver *deliver)
{
    pool_free(&deliver->hops);
    pool_free(&deliver->links);
    pool_free(&deliver->attempts);
    pool_free(&deliver->large);
    danes_free(&deliver->danes);
}

bool deliver_idle(const struct deliver *deliver)
{
    return deliver->links.used == 0 && deliver->attempts.used == 0 &&
           !queue_is_settling(deliver->queue);
}

bool deliver_spare(const struct deliver *deliver)
{
    return deliver->asides + ASIDES_SPARE < ATTEMPT_ASIDES &&
           deliver->large.used + 1 < deliver->large.count;
}

void deliver_log_damage(const struct deliver *deliver, const char *id)
{
    struct log_line line;
    log_begin(&line, deliver->shard->log, LOG_ERROR, deliver->shard->wall_us, "message_damaged");
    log_string(&line, "msg", id);
    log_string(&line, "what", "held: its records in the spool fail their checksum");
    log_end(&line);
}

/* ---- where a recipient goes ---- */

static void log_would(const struct deliver *deliver, const struct envelope *envelope,
                      const struct recipient *recipient, const struct outbound_choice *choice)
{
    const struct shard *shard = deliver->shard;
    if (shard->log == NULL)
        return;
    struct log_line line;
    log_begin(&line, shard->log, LOG_INFO, shard->wall_us, "connector_test");
    log_text(&line, "from", envelope->sender);
    log_text(&line, "to", recipient->address);
    log_string(&line, "connector", choice->connector == NULL ? "" : choice->connector->route.name);
    log_string(&line, "would", choice->would->route.name);
    log_end(&line);
}

size_t deliver_route(void *argument, const struct envelope *envelope,
                     const struct recipient *recipient, char key[static DESTINATION_KEY_MAX])
{
    struct deliver *deliver = argument;
    struct deliver_metrics *m = &deliver->metrics;
    struct outbound_choice choice;
    size_t size = outbound_way(deliver->generations->current->config, deliver->orders,
                               deliver->queue->placing, envelope, recipient, &choice, key);
    switch (choice.verdict) {
    case OUTBOUND_CONNECTOR: metric_add(&m->by_connector, 1); break;
    case OUTBOUND_DEFAULT: metric_add(&m->by_default, 1); break;
    case OUTBOUND_BOUNCE:
    case OUTBOUND_DEFER: break; /* counted when it is looked at, soon */
    }
    if (choice.would != NULL) {
        metric_add(&m->would, 1);
        log_would(deliver, envelope, recipient, &choice);
    }
    return size;
}

/* ---- next hops ---- */

static bool rules_demand(const struct config *config, enum tls_level floor)
{
    for (unsigned i = 0; i < config->outbound.rules_count; i++)
        if (config->outbound.rules[i].require >= floor)
            return true;
    return false;
}

/* Where its key leads by the current configuration. */
static void hop_find_route(struct next_hop *hop)
{
    const struct config *config = hop->generation->config;
    struct route_key_parts parts;
    hop->route = NULL;
    hop->domain[0] = '\0';
    if (!route_key_read(hop->destination->key, &parts))
        return; /* parked */
    const struct outbound *connector = outbound_named(&config->outbound, parts.name);
    if (parts.name.size == 0)
        hop->route = &config->default_route;
    else if (connector != NULL && connector->state == CONNECTOR_ENFORCE &&
             route_by_domain(&connector->route) == (*parts.domain != '\0'))
        hop->route = &connector->route;
    if (hop->route == NULL)
        return;
    memcpy(hop->domain, parts.domain, sizeof(hop->domain));
    hop->floor = parts.floor;
    hop->wish = parts.wish;
    hop->floor_recorded = !rules_demand(config, parts.floor);
}

static void hop_learn_route(struct next_hop *hop)
{
    struct deliver *deliver = hop->deliver;
    if (hop->generation != NULL)
        generation_drop(deliver->generations, hop->generation);
    hop->generation = generation_use(deliver->generations);
    hop_find_route(hop);
    hop->suspended = queue_orders_suspend(deliver->orders, hop->destination->key);
    hop->targets_count = 0;
    hop->targets_until_ms = hop->sts_until_ms = 0;
    hop_looked(hop, false);
    hop_site_unknown(hop);
}

static void hop_forget_resolve(struct next_hop *hop)
{
    resolve_forget(hop->deliver->resolves, &hop->request);
    hop_promise_end(hop);
}

static void hop_free(struct next_hop *hop)
{
    struct deliver *deliver = hop->deliver;
    hop_wait_no_more(hop);
    hop_forget_resolve(hop);
    sts_watch_end(&hop->sts);
    hop_looked(hop, false);
    hop_stops_waiting(hop);
    generation_drop(deliver->generations, hop->generation);
    list_remove(&hop->node);
    hop->destination->owner = NULL;
    pool_give(&deliver->hops, hop);
}

/* Nothing is under way for it: what it knows can be asked for again. */
static bool hop_is_idle(const struct next_hop *hop)
{
    return hop->links_count == 0 && hop->request.resolve == NULL && hop->sts.sts == NULL &&
           list_empty(&hop->waiting) && (hop->site == NULL || hop->told);
}

/* There may be more destinations than next hops: the one that was made or passed over last goes
 * last. Those that are told when protection comes back there go when there are no others. When
 * none was found, nobody looks again in the same millisecond: a hundred thousand may want one. */
static struct next_hop *hop_new(struct deliver *deliver, uint32_t *pushes)
{
    struct next_hop *hop = pool_take(&deliver->hops);
    if (hop == NULL && deliver->shard->now_ms < deliver->hops_full_until_ms)
        return NULL;
    for (unsigned i = 0; hop == NULL && i < HOPS_LOOKS_MAX && !list_empty(&deliver->open); i++) {
        struct next_hop *old = container_of(deliver->open.next, struct next_hop, node);
        list_remove(&old->node);
        list_push(&deliver->open, &old->node);
        struct destination *d = old->destination;
        bool waits = old->skipped || hop_waits_for_tls(d);
        if (waits && i < HOPS_LOOKS_MAX / 2)
            continue;
        if (!hop_is_idle(old)) {
            old = *pushes > 0 ? hop_last_in_line(old) : NULL;
            if (old == NULL)
                continue;
            *pushes -= 1;
        }
        d = old->destination;
        hop_steps_aside(old);
        hop_free(old);
        if (d->ready_count > 0 && !timer_armed(&d->timer))
            destination_lines_up(deliver, d); /* it waited for something that it knew of: news */
        hop = pool_take(&deliver->hops);
    }
    if (hop == NULL)
        deliver->hops_full_until_ms = deliver->shard->now_ms + 1;
    return hop;
}

struct next_hop *hop_of(struct deliver *deliver, struct destination *d, uint32_t *pushes)
{
    if (d->owner != NULL)
        return d->owner;
    struct next_hop *hop = hop_new(deliver, pushes);
    if (hop == NULL)
        return NULL;
    destination_not_aside(d);
    memset(hop, 0, offsetof(struct next_hop, targets));
    hop->deliver = deliver;
    hop->destination = d;
    list_init(&hop->waiting);
    list_init(&hop->idle);
    list_init(&hop->links);
    list_init(&hop->waits);
    list_push(&deliver->open, &hop->node);
    d->owner = hop;
    hop_learn_route(hop);
    return hop;
}

bool deliver_unwanted(void *argument, struct destination *d)
{
    (void)argument;
    struct next_hop *hop = d->owner;
    if (hop == NULL) {
        destination_not_aside(d);
        return true;
    }
    if (hop->links_count > 0)
        return false;
    hop_free(hop);
    return true;
}

void deliver_wanted(void *argument, struct destination *d)
{
    struct deliver *deliver = argument;
    if (deliver->draining)
        return;
    if (d->retry_ms > deliver->shard->now_ms && d->owner == NULL)
        return; /* its back-off ends by its timer */
    uint32_t pushes = 1;
    struct next_hop *hop = hop_of(deliver, d, &pushes);
    if (hop == NULL)
        destination_lines_up(deliver, d);
    else
        hop_pump(hop);
}

/* Its connections lead where the old configuration said: each ends after its message (link_give).
 */
static void hop_leave(struct next_hop *hop)
{
    list_each (node, &hop->links) {
        struct link *link = container_of(node, struct link, node);
        if (!link->ready || link->attempt != NULL)
            continue;
        link_quit(link);
    }
}

void deliver_switched(struct deliver *deliver)
{
    struct mail_class classes[CLASSES_MAX];
    deliver->switches++;
    queue_classes_set(deliver->queue, classes,
                      class_list(&deliver->generations->current->config->classes, classes));
    queue_ages_changed(deliver->queue);
    list_each (node, &deliver->open) {
        struct next_hop *hop = container_of(node, struct next_hop, node);
        hop_forget_resolve(hop);
        hop_learn_route(hop);
        hop_leave(hop);
        if (!deliver->draining)
            hop_pump(hop);
    }
}

void deliver_unblocked(struct deliver *deliver)
{
    if (!deliver->draining)
        queue_each_ready(deliver->queue, deliver_wanted, deliver);
}

void deliver_ordered(struct deliver *deliver, struct queue_orders *orders)
{
    deliver->orders = orders;
    deliver->switches++;
    list_each (node, &deliver->open) {
        struct next_hop *hop = container_of(node, struct next_hop, node);
        hop->suspended = queue_orders_suspend(orders, hop->destination->key);
    }
    deliver_unblocked(deliver);
}

void deliver_drain(struct deliver *deliver)
{
    deliver->draining = true;
    list_each (node, &deliver->open) {
        struct next_hop *hop = container_of(node, struct next_hop, node);
        hop_forget_resolve(hop);
        sts_watch_end(&hop->sts);
        hop_looked(hop, false);
        hop_stops_waiting(hop);
        list_each_safe(each, &hop->links)
        {
            struct link *link = container_of(each, struct link, node);
            link_rests(link, false);
            /* One with a message ends when that is settled, see link_give. */
            if (link->attempt == NULL && link->client != NULL)
                smtp_client_quit(link->client);
            else if (link->attempt == NULL)
                link_free(link); /* not connected yet */
        }
    }
}

/* ---- all of it fails ---- */

void hop_backs_off(struct next_hop *hop, enum outbound_token token, struct slice why)
{
    struct deliver *deliver = hop->deliver;
    struct shard *shard = deliver->shard;
    metric_add(&deliver->metrics.destination_failures, 1);
    hop->destination->owner_note = (uint8_t)token;
    hop->destination->owner_alone = false;
    hop_all_failed(hop, token);
    queue_destination_failed(deliver->queue, hop->destination, why);
    hop->targets_until_ms = 0;
    hop->target_next = 0;
    hop->sts_until_ms = 0;
    hop->lacking = 0;
    hop->told = false;
    hop_stops_waiting(hop);
    if (shard->log == NULL)
        return;
    struct log_line line;
    log_begin(&line, shard->log, LOG_WARNING, shard->wall_us, "destination_failed");
    log_string(&line, "destination", hop->destination->key);
    log_string(&line, "token", outbound_token_name(token));
    log_text(&line, "why", why);
    log_number(&line, "failures", hop->destination->failures);
    log_number(&line, "retry_in_ms", (int64_t)(hop->destination->retry_ms - shard->now_ms));
    log_number(&line, "waiting", hop->destination->ready_count);
    log_end(&line);
}

/* Nobody will ever take it: every message bounces, now and not in five days. */
void hop_refuse_all(struct next_hop *hop, const struct attempt_failure *failure)
{
    struct deliver *deliver = hop->deliver;
    struct destination *d = hop->destination;
    hop_looked(hop, true); /* it has an answer */
    for (unsigned i = 0; i < PUMP_MAX; i++) {
        struct unit *unit = queue_pull(deliver->queue, d);
        if (unit == NULL || !attempt_start(deliver, unit, ATTEMPT_FAIL, NULL, failure))
            return;
    }
    if (d->ready_count > 0) /* the rest soon, by the same question: no back-off, nobody is asked */
        queue_destination_again(deliver->queue, d, REFUSE_PAUSE_MS);
}

/* ---- connections ---- */

static void link_on_ready(struct smtp_client *client);
static void link_on_done(struct smtp_client *client, struct smtp_transaction *transaction);
static void link_on_gone(struct smtp_client *client, const struct smtp_client_end *end);

static const struct smtp_client_callbacks link_callbacks = {
    .ready = link_on_ready,
    .done = link_on_done,
    .gone = link_on_gone,
};

static struct smtp_client_timeouts hop_timeouts(const struct config *config)
{
    const struct config_delivery *d = &config->delivery;
    return (struct smtp_client_timeouts) {
        .connect_ms = d->connect_timeout_ms,
        .greeting_ms = d->greeting_timeout_ms,
        .helo_ms = d->command_timeout_ms,
        .tls_ms = config->tls.handshake_timeout_ms,
        .mail_ms = d->mail_timeout_ms,
        .rcpt_ms = d->rcpt_timeout_ms,
        .data_ms = d->data_init_timeout_ms,
        .block_ms = d->data_block_timeout_ms,
        .final_ms = d->data_end_timeout_ms,
        .reset_ms = d->command_timeout_ms,
        .quit_ms = MIN(d->command_timeout_ms, 5'000U),
        .idle_ms = d->idle_timeout_ms,
    };
}

static const struct net_address *hop_source(struct next_hop *hop, const struct net_address *to)
{
    const struct route *route = hop->route;
    bool v4 = net_is_v4(to);
    unsigned count = v4 ? route->sources_v4_count : route->sources_v6_count;
    if (count == 0)
        return NULL;
    unsigned chosen = (unsigned)random_below(&hop->deliver->shard->random, count);
    return v4 ? &route->sources_v4[chosen] : &route->sources_v6[chosen];
}

static void link_free(struct link *link)
{
    struct next_hop *hop = link->hop;
    struct deliver *deliver = hop->deliver;
    CHECK(link->attempt == NULL);
    if (!link->was_ready)
        hop->connecting--;
    hop->links_count--;
    link_shares_no_more(link);
    list_remove(&link->node);
    list_remove(&link->idle);
    hop_give_slot(hop, &link->lease);
    hop_lost_link(hop);
    floor_watch_end(&link->floor);
    dane_lookup_forget(&link->dane);
    generation_drop(deliver->generations, link->generation);
    pool_give(&deliver->links, link);
}

/* DNS says which host it is, and not the configuration: that is where mail comes back from. */
static bool link_is_foreign(const struct link *link)
{
    bool named;
    return link->to.host != NULL && link->hop->route->protocol == ROUTE_SMTP &&
           *hop_subject(link->hop, link->host, &named) != '\0' && !named;
}

/* All is known of its host: it is connected to, or is not to have mail. False: no connection can
 * be made here. */
static bool link_begin(struct link *link)
{
    struct next_hop *hop = link->hop;
    struct deliver *deliver = hop->deliver;
    const struct route *route = hop->route;
    const struct config *config = hop->generation->config;
    link_policy(link);
    link_count_begun(link, link->tls.level);
    if (link->policy.token != FAULT_NONE) {
        const struct outbound_token_row *row = outbound_token_row(link->policy.token);
        const char *why = link->dane.why[0] != '\0' ? link->dane.why : row->words;
        link_tlsrpt_unused(link);
        hop_target_failed(hop, link, link->policy.token, row->name, slice_of_string(why));
        link_free(link);
        return true;
    }
    struct smtp_client_target target = {
        .address = link->to.address,
        .host = link->host,
        .protocol = route->protocol == ROUTE_LMTP ? SMTP_CLIENT_LMTP : SMTP_CLIENT_SMTP,
        .flags = hop->client_flags | (link_is_foreign(link) ? SMTP_CLIENT_FOREIGN : 0U),
        .helo_name = route->ehlo,
        .source = hop_source(hop, &link->to.address),
        .transactions_max =
            route->messages_max != 0 ? route->messages_max : config->delivery.messages_max,
        .timeouts = &link->timeouts,
    };
    link_tls(link, &link->to, &target.tls);
    link_floor_watch(link, &link->to);
    int r = smtp_client_start(deliver->clients, &target, &link_callbacks, link, &link->client);
    struct wire_watch *watch = deliver->clients->connections->watch;
    if (r == 0 && watch != NULL)
        wire_outbound(watch, deliver->shard, &link->client->connection, &link->to.address,
                      link->host, hop->destination->key);
    if (r < 0)
        link_free(link);
    if (r == -ENOBUFS && hop->links_count == 0) { /* the shard's other logs have all clients */
        hop_share_lacks(hop);
        return true;
    }
    return r == 0;
}

static void hop_fail_here(struct next_hop *hop)
{
    if (hop->links_count == 0)
        hop_backs_off(
            hop, FAULT_CONNECT,
            SLICE("no connection can be made here: out of connections, descriptors or ports"));
}

void link_known(struct link *link)
{
    struct next_hop *hop = link->hop;
    if (link->generation != hop->generation || hop->route == NULL)
        link_free(link); /* it was asked for by a configuration that is gone */
    else if (!link_begin(link))
        hop_fail_here(hop);
    hop_pump(hop);
}

static bool hop_connect(struct next_hop *hop, struct link_lease *lease)
{
    struct deliver *deliver = hop->deliver;
    struct link *link = pool_take(&deliver->links);
    if (link == NULL) {
        hop_give_slot(hop, lease);
        return false;
    }
    *link = (struct link) { .hop = hop, .target = hop->target_next, .lease = *lease };
    list_init(&link->idle);
    list_init(&link->site_resting);
    list_push(&hop->links, &link->node);
    link->generation = generation_use(deliver->generations);
    link->timeouts = hop_timeouts(hop->generation->config);
    hop->links_count++;
    hop->connecting++;
    link_shares(link);
    link->to = hop->targets[hop->target_next];
    link->sts = hop->sts_facts; /* of this target: it may be another one when DNS has answered */
    if (link->to.host != NULL)
        snprintf(link->host, sizeof(link->host), "%s", link->to.host);
    else
        net_text(&link->to.address, false, link->host);
    bool known = link_ask(link);
    link->to.host = link->to.host != NULL ? link->host : NULL; /* the hop's go with its targets */
    link->to.canonical = NULL;
    return !known || link_begin(link);
}

/* Its connector is gone with the old configuration, or these found none: units look for their way.
 */
static void hop_move_all(struct next_hop *hop)
{
    struct deliver *deliver = hop->deliver;
    for (unsigned i = 0; i < PUMP_MAX; i++) {
        struct unit *unit = queue_pull(deliver->queue, hop->destination);
        if (unit == NULL)
            return;
        if (!attempt_start(deliver, unit, ATTEMPT_MOVE, NULL, NULL))
            break; /* that one waits by itself, and nothing else would look at the others */
    }
    if (hop->destination->ready_count > 0)
        queue_destination_again(deliver->queue, hop->destination, REFUSE_PAUSE_MS);
}

static void link_give(struct link *link)
{
    struct next_hop *hop = link->hop;
    struct deliver *deliver = hop->deliver;
    if (!link->ready || link->attempt != NULL)
        return;
    if (link->generation != deliver->generations->current || hop_is_blocked(hop)) {
        link->ready = false;
        smtp_client_quit(link->client);
        return;
    }
    if (link_must_yield(link)) {
        link_yield(link);
        return;
    }
    if (link_leaves(link))
        return;
    bool goes = !deliver->draining && hop->destination->ready_count > 0 && link_has_token(link);
    struct unit *unit = goes ? queue_pull(deliver->queue, hop->destination) : NULL;
    if (unit == NULL) {
        if (list_empty(&link->idle))
            list_push_front(&hop->idle, &link->idle);
        link_rests(link, true);
        if (deliver->draining)
            smtp_client_quit(link->client);
        return;
    }
    list_remove(&link->idle);
    link_rests(link, false);
    link_sends(link);
    (void)attempt_start(deliver, unit, ATTEMPT_SEND, link, NULL);
}

/* It must wait. The timer that was to end that may have been used for something else meanwhile, or
 * disarmed by a connection that worked. */
static void hop_comes_back(struct next_hop *hop)
{
    struct destination *d = hop->destination;
    const uint64_t until_ms = MAX(d->retry_ms, hop->pause_ms);
    if (hop->its_turn)
        hop_stops_waiting(hop);
    if (hop->links_count == 0 && hop->site == NULL && !timer_armed(&d->timer))
        queue_destination_again(hop->deliver->queue, d, until_ms - hop->deliver->shard->now_ms);
}

static void hop_begin_all(struct next_hop *hop)
{
    struct deliver *deliver = hop->deliver;
    struct destination *d = hop->destination;
    if (deliver->draining || d->ready_count == 0) {
        hop_looked(hop, false);
        return;
    }
    if (hop->route == NULL) {
        hop_move_all(hop);
        return;
    }
    if (hop_is_blocked(hop)) {
        hop_looked(hop, false);
        return; /* deliver_unblocked comes by here again */
    }
    while (d->ready_count > 0 && !list_empty(&hop->idle)) {
        struct link *link = container_of(hop->idle.next, struct link, idle);
        if (!link_has_token(link))
            return;
        list_remove(&link->idle);
        link_give(link);
    }
    for (unsigned i = 0; i < PUMP_MAX; i++) {
        if (d->retry_ms > deliver->shard->now_ms || hop->pause_ms > deliver->shard->now_ms) {
            hop_comes_back(hop);
            return;
        }
        /* The end of a connection comes by here again; when there is none nothing else would. */
        if (hop->links_count > 0 && hop->grow_ms > deliver->shard->now_ms)
            return;
        if ((d->failures > 0 && hop->links_count > 0) || hop->connecting >= d->ready_count)
            return;
        /* As many again as answer already: a dead host costs one connection, not the limit. */
        const unsigned most =
            MIN(MAX(hop->links_count - hop->connecting, 1U), (unsigned)d->ready_count);
        if (hop->connecting >= most)
            return;
        if (hop->request.resolve != NULL || !hop_may_look(hop))
            return;
        if (hop->targets_until_ms <= deliver->shard->now_ms) {
            if (!hop_resolve(hop))
                hop_wait(hop); /* too many look-ups under way */
            return;
        }
        if (!hop_sts_known(hop))
            return;
        if (hop_takes_over(hop))
            continue;
        if (!hop_may_connect(hop))
            return;
        struct link_lease lease = { .lease = NULL };
        if (!hop_take_slot(hop, most - hop->connecting, &lease))
            return;
        if (!hop_connect(hop, &lease)) {
            hop_fail_here(hop);
            return;
        }
    }
}

void hop_pump(struct next_hop *hop)
{
    hop_begin_all(hop);
    /* What a lease keeps for it others are to have, unless it asks where to connect to. */
    if (hop->its_turn && hop->request.resolve == NULL && hop->sts.sts == NULL)
        hop_stops_waiting(hop);
}

static void link_first(struct link *link)
{
    link->ready_ms = link->hop->deliver->shard->now_ms;
    link_learn(link);
    link_count_ready(link);
    link_works(link);
}

void link_open(struct link *link)
{
    struct next_hop *hop = link->hop;
    if (!link->was_ready) {
        char why[FLOOR_WHY_MAX];
        link_tlsrpt_ready(link);
        if (!link_grants_wish(link)) {
            hop_target_failed(hop, link, FAULT_REQUIRETLS, "requiretls",
                              SLICE("REQUIRETLS is demanded, and not offered"));
            smtp_client_quit(link->client);
            return;
        }
        enum floor_judgement judgement = link_floor_judge(link, why);
        if (judgement == FLOOR_REFUSE)
            hop_target_failed(hop, link, FAULT_MEMORY, "memory", slice_of_string(why));
        if (judgement != FLOOR_PASS)
            return;
        link->was_ready = true;
        link_sts_tell(link);
        link_reply_begin(link);
        hop->connecting--;
        if (link->passed)
            link_has_its_turn(link);
        else
            link_first(link);
        queue_destination_works(hop->deliver->queue, hop->destination);
        hop_looked(hop, true);
        hop_works(hop);
    }
    link->ready = true;
    link_give(link);
    if (hop->destination->ready_count > 0)
        hop_pump(hop);
}

static void link_on_ready(struct smtp_client *client)
{
    link_open(client->owner);
}

void link_free_again(struct link *link)
{
    link->attempt = NULL;
    if (link->client == NULL) { /* it went while its outcome was being written */
        struct next_hop *hop = link->hop;
        link_free(link);
        hop_pump(hop);
        return;
    }
    link_give(link);
}

static void link_on_done(struct smtp_client *client, struct smtp_transaction *transaction)
{
    struct link *link = client->owner;
    link->ready = false;
    CHECK(link->attempt != NULL);
    attempt_done(link->attempt, transaction);
}

/* CONNECTORS 9: which host, what it lacks, and who asks for it. What floor memory says has that. */
static void target_words(const struct link *link, enum outbound_token token, const char *what,
                         struct slice text, char out[static QUEUE_TEXT_MAX])
{
    char governors[HOST_GOVERNORS_TEXT_MAX], asked[HOST_GOVERNORS_TEXT_MAX + 32] = "";
    host_governors_text(link->policy.governors, governors);
    if (token != FAULT_CONNECT && token != FAULT_LOOP && token != FAULT_MEMORY)
        snprintf(asked, sizeof(asked), "; wanted: %s, by %s", tls_level_name(link->policy.level),
                 governors);
    const size_t room = QUEUE_TEXT_MAX - strlen(asked);
    snprintf(out, room, "%.100s: %s: %.*s", link->host, what, (int)text.size,
             (const char *)text.data);
    memcpy(out + strlen(out), asked, strlen(asked) + 1); /* room was left for it */
}

/* No connection to this address: the next one, or, when it was the last, all of them are down. */
static void hop_target_failed(struct next_hop *hop, const struct link *link,
                              enum outbound_token token, const char *what, struct slice text)
{
    link_refused(link, token, text);
    hop_host_failed(hop, token);
    if (link->target != hop->target_next)
        return; /* another connection has found that out already */
    if (token == FAULT_LOOP && link->target == 0) { /* the best one: the others send it here */
        const struct attempt_failure failure = {
            .enhanced = hop_status(hop->deliver, token, true),
            .why = "mail loops back: the first host of the destination calls itself by our name",
        };
        hop->targets_until_ms = 0;
        hop_refuse_all(hop, &failure);
        return;
    }
    hop->target_next++;
    hop->sts_until_ms = 0;
    hop->lacking += token == FAULT_REQUIRETLS;
    if (hop->target_next < hop->targets_count)
        return;
    hop->target_next = 0;
    const bool all_lack = hop->lacking > 0 && hop->lacking == hop->targets_count;
    hop->lacking = 0;
    if (all_lack) { /* CONNECTORS 8.4.9: at once; a host that did not answer might have it */
        const struct attempt_failure failure = {
            .enhanced = hop_status(hop->deliver, token, true),
            .why = "REQUIRETLS is demanded, and no host of the destination offers it",
        };
        hop_refuse_all(hop, &failure);
        return;
    }
    struct deliver *deliver = hop->deliver;
    if (hop->links_count > hop->connecting) {
        /* Others are connected: it serves, only not more of us. */
        hop->grow_ms = deliver->shard->now_ms + GROW_PAUSE_MS;
        return;
    }
    if (hop->destination->retry_ms > deliver->shard->now_ms)
        return; /* one of those that were tried at the same time has said so */
    char why[QUEUE_TEXT_MAX];
    target_words(link, token, what, text, why);
    if (token == FAULT_CONNECT)
        hop_site_fails(hop, link, token, slice_of_string(why));
    else
        hop_fail(hop, token, slice_of_string(why));
}

static void link_on_gone(struct smtp_client *client, const struct smtp_client_end *end)
{
    struct link *link = client->owner;
    struct next_hop *hop = link->hop;
    link->client = NULL;
    link->ready = false;
    if (end->why == SMTP_GONE_CHUNKING)
        hop->client_flags |= SMTP_CLIENT_NO_CHUNKING;
    if (end->fault == SMTP_TLS_NOT_OFFERED)
        link_floor_missed(link);
    link_tlsrpt_gone(link, client, end);
    if (!link->was_ready && !link->passed && end->why != SMTP_GONE_ABORT &&
        end->why != SMTP_GONE_QUIT && !link_step_down(link, end)) {
        enum outbound_token token = link_token(end);
        if (end->code != 0)
            link->answered = end->enhanced;
        const char *what = end->why == SMTP_GONE_TLS || token == FAULT_CLIENT_CERT
                               ? outbound_token_name(token)
                               : smtp_gone_name(end->why);
        hop_target_failed(hop, link, token, what, end->text);
    }
    if (link->attempt != NULL)
        return; /* its settlement frees the link */
    link_free(link);
    hop_pump(hop);
}
