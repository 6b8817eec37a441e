/*
 * server_sim.c - a process without threads: starting, killing and ending it; the world around it
 *
 * Memory of a victim: what its code would free in an orderly end is freed here without running its
 * code, because that would look for a ring that is gone. Whatever else the server takes from the
 * heap shows as a leak in the sanitizer's report.
 */
#include "tests/sim/server_sim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/check.h"
#include "core/memory.h"
#include "queue/spool_internal.h"

enum {
    CONTROL_ENTRIES = 64,
    CONTROL_SOCKETS = 16,
    CONTROL_BUFFERS = 4,
    CONTROL_BUFFER_BYTES = 256,
    SPOOL_MODE = 0700,
    /* A sanitizer touches what a pool reserves. */
    MESSAGES_MAX = 1 << 12,
    RECIPIENTS_MAX_SIM = 1 << 15,
    DESTINATIONS_MAX = 256,
};

/* ---- control ---- */

static void control_on_drained(struct shard *shard, const struct handoff *handoff)
{
    (void)handoff;
    struct server_sim *s = shard->owner;
    s->drained++;
}

static void control_on_config_taken(struct shard *shard, const struct handoff *handoff)
{
    (void)shard;
    CHECK(handoff->number == 0);
}

static void control_on_config_free(struct shard *shard, const struct handoff *handoff)
{
    struct server_sim *s = shard->owner;
    for (unsigned i = 0; i < s->generations_count; i++) {
        struct server_sim_generation *g = &s->generations[i];
        if (g->config != handoff->pointer)
            continue;
        CHECK(g->shards > 0);
        if (--g->shards > 0)
            return;
        config_free(g->config);
        *g = s->generations[--s->generations_count];
        return;
    }
    CHECK(handoff->pointer == NULL); /* a generation that nobody handed out */
}

static void control_on_answered(struct shard *shard, const struct handoff *handoff)
{
    (void)shard;
    (void)handoff;
}

/* ---- floor memory ---- */

enum { DAY_S = 86'400 };

/* Each second host is said to have had TLS, which nobody has here: by `defer` mail waits for it,
 * and goes when the hold is over. */
static struct floor_record *floor_of(struct server_sim *s, const struct floor_name *name)
{
    for (unsigned i = 0; i < s->floors_count; i++)
        if (strcmp(s->floors[i].name.host, name->host) == 0 &&
            strcmp(s->floors[i].name.domain, name->domain) == 0)
            return &s->floors[i].record;
    CHECK(s->floors_count < SERVER_SIM_FLOORS_MAX);
    struct server_sim_floor *floor = &s->floors[s->floors_count++];
    *floor = (struct server_sim_floor) { .name = *name };
    if (random_below(&s->control.random, 2) == 0)
        return &floor->record;
    const int64_t now = s->control.steady_us / 1'000'000;
    floor->record = (struct floor_record) {
        .first = now - DAY_S, .last = now, .best_first = now - DAY_S, .best_last = now, .count = 3
    };
    floor->record.best = (struct floor_facts) { 13, FLOOR_GROUP_CLASSIC, true, true, true, false };
    return &floor->record;
}

static void floor_answer(struct server_sim *s, struct floor_question *q)
{
    CHECK(shard_handoff(&s->control, q->from,
                        (struct handoff) { .kind = HANDOFF_FLOOR_ANSWER, .pointer = q }) == 0);
}

/* Some answers are late, and find nobody any more. */
static void control_on_floor(struct shard *shard, const struct handoff *handoff)
{
    struct server_sim *s = shard->owner;
    struct floor_question *q = handoff->pointer;
    struct floor_record *record = floor_of(s, &q->name);
    const int64_t now = shard->steady_us / 1'000'000;
    q->from = handoff->from;
    if (q->relearn)
        floor_relearn(record, now);
    if (q->observed)
        (void)floor_learn(record, &q->facts, q->issuer, now, &q->rules);
    q->found = record->count > 0;
    q->record = *record;
    if (s->floor_late != NULL)
        floor_answer(s, s->floor_late);
    s->floor_late = NULL;
    if (random_below(&shard->random, 8) == 0)
        s->floor_late = q;
    else
        floor_answer(s, q);
    if (random_below(&shard->random, 16) == 0) /* an operator who accepts it */
        server_shard_release(&s->servers[q->from], q->name.host);
}

/* ---- configuration ---- */

static struct config *config_of_text(const char *text, uint64_t generation)
{
    struct config_report *report = calloc(1, sizeof(*report));
    CHECK(report != NULL);
    config_report_init(report);
    struct config *config = NULL;
    int r = config_load_text(slice_of_string(text), "sim", generation, report, &config);
    for (unsigned i = 0; r < 0 && i < report->count; i++)
        fprintf(stderr, "%s:%u: %s: %s\n", report->messages[i].file, report->messages[i].line,
                report->messages[i].key, report->messages[i].text);
    CHECK(r == 0);
    config_report_free(report);
    free(report);
    return config;
}

static const struct config *server_sim_keep(struct server_sim *s, const char *text)
{
    CHECK(s->generations_count < SERVER_SIM_GENERATIONS_MAX);
    struct config *config = config_of_text(text, ++s->generation);
    s->generations[s->generations_count++] = (struct server_sim_generation) { config, s->shards };
    return config;
}

bool server_sim_reload(struct server_sim *s, const char *text)
{
    if (!s->up || s->draining || s->generations_count == SERVER_SIM_GENERATIONS_MAX)
        return false;
    const struct config *config = server_sim_keep(s, text);
    for (unsigned i = 0; i < s->shards; i++)
        CHECK(shard_handoff(&s->control, i,
                            (struct handoff) { .kind = HANDOFF_CONFIG,
                                               .pointer = (void *)(uintptr_t)config }) == 0);
    return true;
}

/* ---- start ---- */

void server_sim_init(struct server_sim *s, struct sim *sim, unsigned machine, struct sim_dns *dns,
                     const char *config_text)
{
    *s = (struct server_sim) { .sim = sim, .dns = dns, .machine = machine };
    s->recv_buffers = SERVER_RECV_BUFFERS;
    s->recv_buffer_bytes = SERVER_RECV_BUFFER_BYTES;
    s->destinations_max = DESTINATIONS_MAX;
    size_t size = strlen(config_text);
    CHECK(size < sizeof(s->text));
    memcpy(s->text, config_text, size + 1);
    const struct ring_options options = { CONTROL_ENTRIES, CONTROL_SOCKETS, CONTROL_BUFFERS,
                                          CONTROL_BUFFER_BYTES };
    struct config *config = config_of_text(s->text, 1);
    struct ring *ring = sim_ring(sim, machine, &options);
    CHECK(ring->ops->now_mkdir(ring, config->spool.directory, SPOOL_MODE) == 0);
    int fd = ring->ops->now_open(ring, ".", O_RDONLY | O_DIRECTORY, 0);
    CHECK(fd >= 0);
    CHECK(ring->ops->now_sync(ring, fd) == 0);
    ring->ops->now_close(ring, fd);
    ring_free(ring);
    config_free(config);
}

static int start_rings(struct server_sim *s)
{
    const struct config *config = server_sim_keep(s, s->text);
    const struct ring_options own = { CONTROL_ENTRIES, CONTROL_SOCKETS, CONTROL_BUFFERS,
                                      CONTROL_BUFFER_BYTES };
    struct ring_options mail = server_ring_options(config, s->shards);
    mail.recv_buffers = s->recv_buffers;
    mail.recv_buffer_bytes = s->recv_buffer_bytes;
    int r = shard_group_init(&s->group, s->shards + 1);
    CHECK(r == 0);
    for (unsigned i = 0; i < s->shards; i++) {
        r = server_shard_init(&s->servers[i], sim_ring(s->sim, s->machine, &mail), &s->group, i,
                              config, NULL);
        CHECK(r == 0);
        s->servers[i].dns = sim_dns_of(s->dns);
        s->servers[i].messages_max = MESSAGES_MAX;
        s->servers[i].recipients_max = RECIPIENTS_MAX_SIM;
        s->servers[i].destinations_max = s->destinations_max;
        s->servers[i].shard.log = s->logs[i];
        struct floor_shard *floors = &s->servers[i].floors;
        floors->owner = &s->servers[i];
        floors->released = server_shard_release;
        r = floor_shard_init(floors, &s->servers[i].shard, s->shards);
        CHECK(r == 0);
    }
    s->floors_count = 0;
    s->floor_late = NULL;
    shard_init(&s->control, sim_ring(s->sim, s->machine, &own), &s->group, s->shards);
    s->control.owner = s;
    shard_handle(&s->control, HANDOFF_CONFIG_TAKEN, control_on_config_taken);
    shard_handle(&s->control, HANDOFF_CONFIG_FREE, control_on_config_free);
    shard_handle(&s->control, HANDOFF_DRAINED, control_on_drained);
    shard_handle(&s->control, HANDOFF_ANSWERED, control_on_answered);
    shard_handle(&s->control, HANDOFF_FLOOR, control_on_floor);
    server_sim_operator_start(s);
    for (unsigned i = 0; i < s->shards; i++) {
        r = server_shard_listen(&s->servers[i], NULL, 0, s->why);
        if (r < 0)
            return r;
    }
    return 0;
}

int server_sim_start(struct server_sim *s, unsigned shards)
{
    CHECK(!s->up);
    CHECK(shards >= 1 && shards <= SERVER_SIM_SHARDS_MAX);
    s->shards = shards;
    s->up = true;
    s->draining = false;
    s->drained = 0;
    s->starts++;
    s->why[0] = '\0';
    for (unsigned i = 0; i < shards && s->writer != NULL; i++)
        if (s->logs[i] == NULL)
            CHECK(log_new(s->writer, (int)i, &s->logs[i]) == 0);
    int r = start_rings(s);
    for (unsigned i = 0; i < shards && r == 0; i++)
        r = server_shard_open(&s->servers[i], s->why);
    if (r < 0) {
        server_sim_crash(s, SIM_KILL);
        return r;
    }
    for (unsigned i = 0; i < shards; i++) {
        server_shard_start(&s->servers[i]);
        sim_shard(s->sim, &s->servers[i].shard);
    }
    sim_shard(s->sim, &s->control);
    return 0;
}

/* ---- the end ---- */

static void free_generations(struct server_sim *s)
{
    for (unsigned i = 0; i < s->generations_count; i++)
        config_free(s->generations[i].config);
    s->generations_count = 0;
}

static void spool_drop(struct spool *spool)
{
    spool->segments.step = PREPARE_IDLE;
    for (uint32_t i = 0; spool->segments.files != NULL && i < spool->segments.count; i++)
        spool->segments.files[i].file.fd = -1;
    spool->segments.name.fd = -1;
    segments_free(&spool->segments);
    compact_free(spool);
    pool_free(&spool->staging);
    pool_free(&spool->extents);
    spool->reads_inflight = 0;
    read_free(spool);
    log_free(spool);
    free(spool);
}

static void shard_drop(struct server_shard *server)
{
    for (unsigned i = 0; i < server_shard_logs(server); i++) {
        struct server_log *log = &server->logs[i];
        if (log->open)
            spool_drop(log->spool);
        deliver_free(&log->deliver);
        queue_free(&log->queue);
    }
    smtp_service_free(&server->service);
    pool_free(&server->resolves.pool);
    pool_free(&server->clients.pool);
    connector_counts_free(&server->connectors);
    limits_free(server->limits);
    generations_free(&server->generations);
    server_tls_free(server);
    floor_shard_free(&server->floors);
    lease_shard_free(&server->leases);
    connection_pools_free(&server->pools);
    queue_orders_drop(server->orders);
    memory_release(server->logs, SERVER_LOGS_MAX * sizeof(*server->logs));
    free(server->sockets);
}

void server_sim_crash(struct server_sim *s, enum sim_crash how)
{
    CHECK(s->up);
    sim_crash(s->sim, s->machine, how);
    for (unsigned i = 0; i < s->shards; i++)
        shard_drop(&s->servers[i]);
    server_sim_operator_end(s);
    shard_group_free(&s->group);
    free_generations(s);
    s->up = false;
}

void server_sim_drain(struct server_sim *s)
{
    CHECK(s->up);
    s->draining = true;
    for (unsigned i = 0; i < s->shards; i++)
        CHECK(shard_handoff(&s->control, i, (struct handoff) { .kind = HANDOFF_DRAIN }) == 0);
}

bool server_sim_drained(void *argument)
{
    const struct server_sim *s = argument;
    CHECK(s->draining);
    if (s->drained < s->shards)
        return false;
    for (unsigned i = 0; i < s->shards; i++)
        if (!s->servers[i].shard.stop)
            return false;
    return true;
}

static void check_log(const struct server_log *log)
{
    const struct queue *queue = &log->queue;
    CHECK(log->deliver.links.used == 0);
    CHECK(log->deliver.attempts.used == 0);
    CHECK(log->deliver.large.used == 0);
    CHECK(queue->settlements.used == 0);
    CHECK(queue->large.used == 0);
    CHECK(queue->reserved == 0);
    CHECK(queue->metrics.units_active == 0);
    CHECK(queue->metrics.messages == queue->messages.used);
    CHECK(queue->metrics.recipients_queued == queue->recipients);
    CHECK(queue->metrics.destinations == queue->destinations.used);
    CHECK(queue->metrics.units_ready + queue->metrics.units_deferred + queue->metrics.units_held ==
          queue->units.used);
    CHECK(log->deliver.hops.used <= queue->destinations.used);
    if (queue->metrics.messages == 0) {
        CHECK(queue->units.used == 0);
        CHECK(queue->recipients == 0 && queue->places.used == 0);
        CHECK(log->spool->metrics.live_messages == 0);
    }
    CHECK(log->spool->metrics.live_messages == queue->metrics.messages);
    CHECK(log->spool->staging.used == 0);
    CHECK(log->spool->extents.used == 0);
    CHECK(log->spool->blocks_pinned == 0);
    CHECK(log->spool->reads_inflight == 0);
}

static void check_shard(const struct server_shard *server)
{
    CHECK(server->service.sessions.used == 0);
    CHECK(server->service.transactions.used == 0);
    CHECK(server->service.large.used == 0);
    CHECK(server->service.metrics.connections_open == 0);
    CHECK(server->clients.pool.used == 0);
    CHECK(server->resolves.pool.used == 0);
    CHECK(server->pools.outputs.used == 0);
    CHECK(server->pools.lines.used == 0);
    CHECK(limits_connections(server->limits) == 0);
    CHECK(server->shard.ring->buffers_free == server->shard.ring->buffers_count);
    for (unsigned i = 0; i < server->logs_count; i++)
        check_log(&server->logs[i]);
}

void server_sim_close(struct server_sim *s)
{
    CHECK(server_sim_drained(s));
    for (unsigned i = 0; i < s->shards; i++) {
        check_shard(&s->servers[i]);
        for (unsigned k = 0; k < s->servers[i].logs_count; k++)
            s->unproven_ends += !spool_proven(s->servers[i].logs[k].spool);
        struct ring *ring = s->servers[i].shard.ring;
        server_shard_close(&s->servers[i]);
        sim_ring_idle(ring);
        ring_free(ring);
    }
    sim_ring_idle(s->control.ring);
    ring_free(s->control.ring);
    CHECK(server_sim_verbs_over(s)); /* a drain ends them */
    server_sim_operator_end(s);
    shard_group_free(&s->group);
    free_generations(s);
    s->up = false;
}

void server_sim_free(struct server_sim *s)
{
    if (s->up)
        server_sim_crash(s, SIM_KILL);
    queue_orders_drop(s->orders);
    s->orders = NULL;
}

/* ---- numbers ---- */

static void sums_add(struct server_sums *sums, const struct queue_metrics *m)
{
    sums->accepted += m->recipients_accepted;
    sums->recovered += m->recipients_recovered;
    sums->delivered += m->recipients_delivered;
    sums->bounced += m->recipients_bounced;
    sums->expired += m->recipients_expired;
    sums->discarded += m->recipients_discarded;
    sums->queued += m->recipients_queued;
    sums->messages += m->messages;
    sums->held += m->units_held;
    sums->deferrals += m->deferrals;
    sums->settle_failures += m->settle_failures;
}

struct server_sums server_sim_sums(const struct server_sim *s)
{
    struct server_sums sums = { 0 };
    for (unsigned i = 0; s->up && i < s->shards; i++)
        for (unsigned k = 0; k < s->servers[i].logs_count; k++)
            sums_add(&sums, &s->servers[i].logs[k].queue.metrics);
    return sums;
}

int64_t server_sim_balance(const struct server_sim *s, unsigned *log)
{
    for (unsigned i = 0; s->up && i < s->shards; i++) {
        for (unsigned k = 0; k < s->servers[i].logs_count; k++) {
            struct server_sums sums = { 0 };
            sums_add(&sums, &s->servers[i].logs[k].queue.metrics);
            *log = i + k * s->shards;
            int64_t balance = (int64_t)(sums.accepted + sums.recovered) -
                              (int64_t)(sums.delivered + sums.bounced + sums.expired +
                                        sums.discarded + sums.queued);
            if (balance == 0) /* counted anew, at the last time */
                balance = (int64_t)s->servers[i].logs[k].queue.scan.metrics.balance;
            if (balance == 0)
                balance = (int64_t)s->servers[i].logs[k].queue.scan.metrics.unlisted;
            if (balance != 0)
                return balance;
        }
    }
    return 0;
}

bool server_sim_empty(void *argument)
{
    const struct server_sim *s = argument;
    if (!s->up)
        return false;
    /* A client that did not wait for its reply may be gone before its message is durable. */
    for (unsigned i = 0; i < s->shards; i++)
        if (s->servers[i].service.sessions.used > 0)
            return false;
    for (unsigned i = 0; i < s->shards; i++)
        for (unsigned k = 0; k < s->servers[i].logs_count; k++)
            if (s->servers[i].logs[k].queue.metrics.messages > 0)
                return false;
    return true;
}

/* ---- the world ---- */

static const char *const hop_texts[WORLD_HOPS] = { "20.0.2.1", "20.0.2.2", "20.0.2.3",
                                                   "20.0.2.4", "20.0.2.5", "20.0.2.6" };

struct world_options world_calm(uint64_t seed)
{
    return (struct world_options) {
        .sim = sim_calm(seed),
        .shards = 2,
        .segment_kib = 256,
        .size_max_mib = 64,
        .cache_kib = 1'024,
        .connections_per_hop = 8,
        .connections_per_shard = 24,
        .recv_buffers = 64,
        .recv_buffer_bytes = 4'096,
        .age_max_s = 10 * 86'400,
    };
}

void world_config(const struct world_options *o, unsigned variant,
                  char text[static SERVER_SIM_TEXT_MAX])
{
    char strict[256] = "";
    if (o->strict)
        snprintf(
            strict, sizeof(strict),
            "outbound \"s\" { type = partner state = enforce domains = { s.example } hosts = { "
            "\"20.0.2.6:25\" } tls = %s }\n",
            variant == WORLD_LAX ? "none" : "encrypt");
    int size = snprintf(
        text, SERVER_SIM_TEXT_MAX,
        "hostname = mx.example\nuser = \"\"\n"
        "spool { directory = spool  segment-size = %uK  size-max = %uM  reserve = 1M  cache = %uK "
        "}\n"
        "listener \"in\" { addresses = { \"20.0.0.1:25\" } }\n"
        "relay { networks = { 20.0.1.0/24 } }\n"
        "limits { connections = 48  per-address = 0  per-v4-24 = 0  per-v6-64 = 0\n"
        "         message-size = 1M  command-timeout = 5m  data-timeout = 1m }\n"
        "outbound \"b\" { type = partner state = enforce domains = { b.example }  hosts = { "
        "\"20.0.2.2:25\" }\n"
        "            max-connections = %u }\n"
        "%s"
        "%s"
        "outbound \"c\" { type = partner state = enforce domains = { c.example }  protocol = lmtp  "
        "hosts = { \"20.0.2.3:24\" }  max-rate = %u }\n"
        "delivery {\n"
        "  retry-initial = 1s  retry-max = 30s  age-max = %llus  delay-warning = %llus\n"
        "  connect-timeout = 30s\n"
        "  greeting-timeout = 1m  command-timeout = 1m  mail-timeout = 1m  rcpt-timeout = 1m\n"
        "  data-init-timeout = 1m  data-block-timeout = 1m  data-end-timeout = 2m\n"
        "  connections-per-hop = %u  connections-per-shard = %u  messages-per-connection = 20\n"
        "  floor-memory = %s  floor-hold = 1m\n"
        "}\n"
        "tls { key-shares = 0  tickets = no  client-cache = 16  hosts = 16 }\n"
        "dns { timeout = 5s }\nadmin { socket = \"\" }\nbounce { per-minute = 0 }\n"
        "%s" /* a class that comes and goes, and others whose priority changes */
        "class \"a\" { priority = %s  retry-max = 10s  recipient-domains = { a.example } }\n"
        "class \"b\" { priority = %s  recipient-domains = { b.example } }\n",
        o->segment_kib, o->size_max_mib, o->cache_kib, 1 + variant % 4,
        variant % 2 == 0 ? ""
                         : "outbound \"a\" { type = partner state = enforce domains = { a.example "
                           "}  hosts = { \"20.0.2.1:25\" } }\n",
        strict, o->rate_c, (unsigned long long)o->age_max_s, (unsigned long long)o->warn_after_s,
        o->connections_per_hop, o->connections_per_shard, variant % 2 == 0 ? "defer" : "alert",
        variant % 3 == 0
            ? "class \"c\" { priority = urgent  retry-initial = 2s  recipient-domains = { "
              "c.example } }\n"
            : "",
        variant % 4 < 2 ? "urgent" : "normal", variant % 4 == 1 ? "normal" : "bulk");
    CHECK(size > 0 && size < SERVER_SIM_TEXT_MAX);
}

static struct sim_ledger *world_ledger(struct world *w, const struct world_options *o)
{
    static const char *const always[] = { "a.example", "b.example", "c.example", "gone.example" };
    const char *domains[ARRAY_COUNT(always) + 1 + WORLD_MANY_MAX + 1];
    unsigned count = 0;
    for (; count < ARRAY_COUNT(always); count++)
        domains[count] = always[count];
    const unsigned strict = count;
    if (o->strict)
        domains[count++] = "s.example";
    for (unsigned i = 0; i < o->many; i++) {
        snprintf(w->many[i], sizeof(w->many[i]), "d%u.example", i);
        domains[count++] = w->many[i];
    }
    domains[count] = NULL;
    struct sim_ledger *ledger = sim_ledger_new(w->sim, domains);
    if (o->strict)
        sim_ledger_protect(ledger, strict);
    return ledger;
}

static void world_names(struct world *w, const struct world_options *o)
{
    struct sim_dns *dns = w->dns;
    for (unsigned i = 0; i < o->many; i++)
        sim_dns_mx(dns, w->many[i], 10, "mx5.hops.example");
    sim_dns_a(dns, "mx5.hops.example", hop_texts[4]);
    sim_dns_mx(dns, "a.example", 10, "mx1.hops.example");
    sim_dns_mx(dns, "a.example", 20, "mx2.hops.example");
    sim_dns_mx(dns, "sender.example", 10, "mx4.hops.example");
    sim_dns_a(dns, "mx1.hops.example", hop_texts[0]);
    sim_dns_a(dns, "mx2.hops.example", hop_texts[1]);
    sim_dns_a(dns, "mx4.hops.example", hop_texts[3]);
    sim_dns_set(dns, "gone.example", DNS_MX, DNS_NXDOMAIN, false);
    sim_dns_set(dns, "gone.example", DNS_A, DNS_NXDOMAIN, false);
    sim_dns_set(dns, "gone.example", DNS_AAAA, DNS_NXDOMAIN, false);
}

void world_init(struct world *w, const struct world_options *o)
{
    CHECK(o->many <= WORLD_MANY_MAX);
    *w = (struct world) { .shards = o->shards };
    w->sim = sim_new(&o->sim);
    unsigned machine = sim_machine(w->sim, "20.0.0.1");
    w->clients_machine = sim_machine(w->sim, "20.0.1.1");
    w->clients = sim_actor_ring(w->sim, w->clients_machine);
    w->dns = sim_dns_new(w->sim);
    w->ledger = world_ledger(w, o);
    CHECK(net_parse(SLICE("20.0.0.1"), 25, &w->in) == 0);
    world_names(w, o);
    for (unsigned i = 0; i < WORLD_HOPS; i++) {
        uint16_t port = i == 2 ? 24 : 25;
        CHECK(net_parse(slice_of_string(hop_texts[i]), port, &w->hop_addresses[i]) == 0);
        w->hop_addresses[i].port = port;
        struct sim_hop_options hop = sim_hop_plain(&w->hop_addresses[i]);
        hop.rate = i == 2 ? o->rate_c : 0;
        hop.lmtp = i == 2;
        hop.chunking = i != 1;
        w->hops[i] =
            sim_hop(w->ledger, sim_actor_ring(w->sim, sim_machine(w->sim, hop_texts[i])), &hop);
    }
    w->in.port = 25;
    char text[SERVER_SIM_TEXT_MAX];
    world_config(o, 0, text);
    server_sim_init(&w->server, w->sim, machine, w->dns, text);
    w->server.recv_buffers = o->recv_buffers;
    w->server.recv_buffer_bytes = o->recv_buffer_bytes;
    if (o->destinations > 0)
        w->server.destinations_max = o->destinations;
}

void world_free(struct world *w)
{
    server_sim_free(&w->server);
    sim_free(w->sim);
    sim_ledger_free(w->ledger);
}

bool world_settled(void *argument)
{
    struct world *w = argument;
    return server_sim_empty(&w->server) && sim_clients_done(w->ledger);
}
