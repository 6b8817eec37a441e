/*
 * deliver_world.h - one shard's queue, spool and deliveries, with simulated next hops and names
 *
 * Messages come straight into spool and queue, as the inbound side would bring them, and into the
 * ledger of the simulated next hops, which tells what arrived, whole, how often, and who got a
 * bounce. Senders are at sender.example, where a next hop takes the bounces.
 */
#ifndef RINGPOST_TESTS_MTA_DELIVER_WORLD_H
#define RINGPOST_TESTS_MTA_DELIVER_WORLD_H

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/config.h"
#include "mta/deliver.h"
#include "mta/next_hop.h"
#include "mta/outbound_envelope.h"
#include "mta/generation_tls.h"
#include "mta/smtp_server.h"
#include "tests/sim/sim_actor_inside.h"

#define MAYBE_UNUSED __attribute__((unused))

enum { MINUTE_MS = 60'000, HOUR_MS = 3'600'000, DAY_MS = 86'400'000 };

#define SENDER_HOP "9.9.8.1:25" /* mx.sender.example */

struct deliver_world {
    struct sim *sim;
    unsigned us, them;
    struct ring *ring;
    struct ring *actors;
    struct shard shard;
    struct sim_ledger *ledger;
    struct sim_dns *names;
    struct dns dns;
    struct config *config;
    struct connection_pools pools;
    struct generations generations;
    struct smtp_clients clients;
    struct resolves resolves;
    struct lease_shard leases;
    struct spool *spool;
    struct queue queue;
    struct tls_shard tls;
    struct tls_hosts hosts;
    struct deliver deliver;
    unsigned released;    /* configurations, for tests that count them */
    unsigned connections; /* out, at a time */
    unsigned look_ups;    /* next hops that ask DNS at a time, from deliver_world_open on */
    const char *more;     /* configuration */
    uint8_t notify;       /* of recipients to come */
    bool first_never;     /* the first recipient of each message has NOTIFY=NEVER */
    uint32_t flags;       /* of envelopes to come */
    uint8_t ret;
    const char *sender; /* of envelopes to come; NULL: at sender.example, with its number */
};

struct deliver_upload {
    struct deliver_world *w;
    struct task task;
    struct spool_writer writer;
    struct commit commit;
    struct envelope envelope;
    uint8_t *content;
    uint32_t content_bytes, at;
    bool done;
};

static MAYBE_UNUSED const struct net_address *deliver_address(const char *text)
{
    static struct net_address a[8];
    static unsigned next;
    struct net_address *to = &a[next++ % 8];
    cr_assert_eq(net_parse(slice_of_string(text), 0, to), 0);
    return to;
}

static MAYBE_UNUSED struct config *deliver_config(const char *more)
{
    char text[4'096];
    int size = snprintf(text, sizeof(text),
                        "hostname = mx.us.test\n"
                        "spool { directory = spool }\n"
                        "listener \"in\" { addresses = { \"9.9.9.1:25\" } }\n"
                        "relay { domains = { us.test } }\n%s\n",
                        more);
    struct config_report report;
    struct config *config = NULL;
    config_report_init(&report);
    int r = config_load_text(slice_of(text, (size_t)size), "test", 1, &report, &config);
    for (unsigned i = 0; i < report.count; i++)
        if (report.messages[i].severity == CONFIG_ERROR)
            cr_log_error("%u: %s: %s", report.messages[i].line, report.messages[i].key,
                         report.messages[i].text);
    cr_assert_eq(r, 0);
    config_report_free(&report);
    return config;
}

static int deliver_world_made(void *argument, struct generation *generation)
{
    struct deliver_world *w = argument;
    return generation_tls_make(generation, &w->tls);
}

static void deliver_world_unmade(void *argument, struct generation *generation)
{
    (void)argument;
    generation_tls_free(generation);
}

static MAYBE_UNUSED void deliver_world_open(struct deliver_world *w)
{
    const struct ring_options ring = {
        .entries = 256, .sockets_max = 512, .recv_buffers = 64, .recv_buffer_bytes = 2'048
    };
    const char *why = NULL;
    w->ring = sim_ring(w->sim, w->us, &ring);
    shard_init(&w->shard, w->ring, NULL, 0);
    const struct config_delivery *d = &w->config->delivery;
    const struct queue_options queue = {
        .messages_max = 4'096,
        .recipients_max = 16'384,
        .destinations_max = SIM_DOMAINS_MAX,
        .active_max = 512,
        .age_max_ms = d->age_max_ms,
        .age_max = deliver_age_max,
        .warn_after_ms = d->warn_after_ms,
        .late = deliver_late,
        .retry_initial_ms = d->retry.initial_ms,
        .retry_max_ms = d->retry.max_ms,
        .retry_factor_percent = d->retry.factor_percent,
        .retry_jitter_percent = d->retry.jitter_percent,
        .owner = &w->deliver,
        .route = deliver_route,
        .wanted = deliver_wanted,
        .unwanted = deliver_unwanted,
        .expired = deliver_expired,
    };
    const struct spool_options spool = {
        .directory = "log-000",
        .quarantine = "quarantine",
        .segment_bytes = 1'024 * 1'024,
        .block_bytes = 256 * 1'024,
        .segments_max = 16,
        .cache_blocks = 8,
        .writers_max = 256,
        .read_buffers = 64,
        .message_bytes_max = 4 << 20,
        .owner = &w->queue,
        .find = queue_find_stored,
        .found = queue_found,
    };
    w->dns = sim_dns_of(w->names);
    cr_assert_eq(connection_pools_init(&w->pools, w->ring, 64), 0);
    cr_assert_eq(tls_shard_init(&w->tls, &w->shard.wall_us), 0);
    cr_assert_eq(tls_hosts_init(&w->hosts, 64, DAY_MS), 0);
    w->tls.hosts = &w->hosts;
    cr_assert_eq(generations_init(&w->generations), 0);
    w->generations.owner = w;
    w->generations.made = deliver_world_made;
    w->generations.unmade = deliver_world_unmade;
    cr_assert_eq(generations_switch(&w->generations, w->config), 0);
    cr_assert_eq(smtp_clients_init(&w->clients, &w->shard, &w->pools, w->connections), 0);
    cr_assert_eq(resolves_init(&w->resolves, &w->shard, &w->dns, w->look_ups), 0);
    cr_assert_eq(lease_shard_init(&w->leases, &w->shard, 256, 1, hop_lease_changed, &w->leases), 0);
    cr_assert_eq(queue_init(&w->queue, &w->shard, &queue), 0);
    struct mail_class classes[CLASSES_MAX];
    queue_classes_set(&w->queue, classes, class_list(&w->config->classes, classes));
    w->deliver = (struct deliver) {
        .shard = &w->shard,
        .queue = &w->queue,
        .generations = &w->generations,
        .clients = &w->clients,
        .resolves = &w->resolves,
        .leases = &w->leases,
        .tls = &w->tls,
        .shards = 1,
        .draining = true, /* as the server does until all is open */
    };
    /* queue_init has asked for a destination, and may ask the owner about others from now on. */
    cr_assert_eq(deliver_init(&w->deliver, w->connections), 0);
    int r = spool_open(&w->shard, &spool, NULL, &w->spool, &why);
    cr_assert_eq(r, 0, "%s", why);
    cr_assert_eq(w->queue.unplaced, 0);
    w->queue.spool = w->deliver.spool = w->spool;
    w->deliver.draining = false;
    queue_each_ready(&w->queue, deliver_wanted, &w->deliver);
    sim_shard(w->sim, &w->shard);
}

static MAYBE_UNUSED struct deliver_world *deliver_world_of(uint64_t seed, unsigned connections,
                                                           const char *more)
{
    static const char *const domains[] = { "x.test", "y.test", "z.test", "void.test", NULL };
    const struct sim_options calm = sim_calm(seed);
    struct deliver_world *w = calloc(1, sizeof(*w));
    w->connections = connections;
    w->look_ups = 32;
    w->sim = sim_new(&calm);
    w->us = sim_machine(w->sim, "9.9.9.1");
    w->them = sim_machine(w->sim, "9.9.8.1");
    w->actors = sim_actor_ring(w->sim, w->them);
    w->ledger = sim_ledger_new(w->sim, domains);
    w->names = sim_dns_new(w->sim);
    sim_dns_mx(w->names, "sender.example", 10, "mx.sender.example");
    sim_dns_a(w->names, "mx.sender.example", "9.9.8.1");
    struct sim_hop_options hop = sim_hop_plain(deliver_address(SENDER_HOP));
    (void)sim_hop(w->ledger, w->actors, &hop);
    w->config = deliver_config(more);
    deliver_world_open(w);
    return w;
}

static MAYBE_UNUSED struct deliver_world *deliver_world_new(uint64_t seed, const char *more)
{
    return deliver_world_of(seed, 40, more);
}

/* A domain with one host on its own address; the next hop there. */
static MAYBE_UNUSED struct sim_actor *deliver_hop(struct deliver_world *w, const char *address)
{
    char with_port[64];
    snprintf(with_port, sizeof(with_port), "%s:25", address);
    struct sim_hop_options hop = sim_hop_plain(deliver_address(with_port));
    return sim_hop(w->ledger, w->actors, &hop);
}

static MAYBE_UNUSED struct sim_actor *deliver_domain(struct deliver_world *w, const char *domain,
                                                     const char *address)
{
    char host[64];
    snprintf(host, sizeof(host), "mx.%s", domain);
    sim_dns_mx(w->names, domain, 10, host);
    sim_dns_a(w->names, host, address);
    return deliver_hop(w, address);
}

static MAYBE_UNUSED void deliver_world_run(struct deliver_world *w, uint64_t ms)
{
    sim_run(w->sim, sim_now_ms(w->sim) + ms);
}

static void upload_on_commit(struct commit *commit, int result)
{
    struct deliver_upload *u = container_of(commit, struct deliver_upload, commit);
    cr_assert_eq(result, 0);
    u->done = true;
    queue_add(&u->w->queue, &u->writer.stored, &u->envelope);
}

static void upload_run(struct task *task)
{
    struct deliver_upload *u = container_of(task, struct deliver_upload, task);
    int r = 0;
    while (u->at < u->content_bytes && r == 0) {
        uint32_t bytes = MIN(u->content_bytes - u->at, (uint32_t)SPOOL_STAGING_BYTES);
        r = spool_write_body(&u->writer, slice_of(u->content + u->at, bytes));
        u->at += r == 0 ? bytes : 0;
    }
    if (r == 0)
        r = spool_write_commit(&u->writer, &u->envelope, &u->commit);
    cr_assert(r == 0 || r == -EAGAIN, "%d", r);
}

static bool upload_is_done(void *argument)
{
    return ((struct deliver_upload *)argument)->done;
}

/* Domains a.many.test to z.many.test, with this MX host. */
static MAYBE_UNUSED void deliver_many_domains(struct deliver_world *w, const char *host)
{
    static char names[26][16];
    for (unsigned i = 0; i < ARRAY_COUNT(names); i++) {
        snprintf(names[i], sizeof(names[i]), "%c.many.test", 'a' + i);
        sim_dns_mx(w->names, names[i], 10, host);
        cr_assert_lt(w->ledger->domains_count, SIM_DOMAINS_MAX);
        w->ledger->domains[w->ledger->domains_count++] = names[i];
    }
}

static MAYBE_UNUSED uint16_t deliver_domain_index(char letter)
{
    if (letter >= 'A' && letter <= 'Z')
        return (uint16_t)(4 + letter - 'A');
    return letter == 'v' ? 3 : (uint16_t)(letter - 'x');
}

/* A durable message with content of about so many octets to recipients in these domains, by their
 * place in the ledger. Its id there. */
static uint32_t deliver_mail_to(struct deliver_world *w, const uint16_t *domains,
                                unsigned domains_count, uint32_t bytes)
{
    struct sim_message *m = sim_ledger_add(w->ledger);
    static char texts[SIM_RECIPIENTS_MAX][64];
    char sender[64];
    struct recipient recipients[SIM_RECIPIENTS_MAX];
    struct deliver_upload u = { .w = w, .commit.done = upload_on_commit };
    m->verdict = SIM_ACKNOWLEDGED;
    m->content_bytes = bytes;
    cr_assert_leq(domains_count, SIM_RECIPIENTS_MAX);
    for (unsigned k = 0; k < domains_count; k++) {
        m->recipients_count++;
        m->domains[k] = domains[k];
        m->recipients[k].accepted = true;
        int size = snprintf(texts[k], sizeof(texts[k]), "r%u.m%u@%s", k, m->id,
                            w->ledger->domains[m->domains[k]]);
        recipients[k] =
            (struct recipient) { .address = slice_of(texts[k], (size_t)size),
                                 .notify = k == 0 && w->first_never ? NOTIFY_NEVER : w->notify };
        cr_assert(queue_reserve(&w->queue));
    }
    u.content = sim_content(w->ledger, m->id, &u.content_bytes);
    m->content_bytes = bytes;
    int size = snprintf(sender, sizeof(sender), "s.m%u@sender.example", m->id);
    u.envelope = (struct envelope) { .sender = slice_of(sender, (size_t)size),
                                     .arrival_us = w->shard.steady_us,
                                     .recipients = recipients,
                                     .flags = w->flags,
                                     .ret = w->ret,
                                     .recipients_count = m->recipients_count };
    if (w->sender != NULL)
        u.envelope.sender = slice_of_string(w->sender);
    u.envelope.body_bytes = u.content_bytes;
    outbound_decide(w->config, &u.envelope, recipients);
    task_init(&u.task, upload_run);
    cr_assert_eq(spool_write_begin(w->spool, &u.writer, &u.task), 0);
    shard_run_later(&w->shard, &u.task);
    uint32_t id = m->id; /* m may move: next hops run meanwhile */
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + 60'000, upload_is_done, &u));
    free(u.content);
    return id;
}

/* The same, to domains of one letter each: x, y, z, v; A to Z for a.many.test ... */
static MAYBE_UNUSED uint32_t deliver_mail(struct deliver_world *w, const char *to, uint32_t bytes)
{
    uint16_t domains[SIM_RECIPIENTS_MAX];
    unsigned count = 0;
    for (; to[count] != '\0'; count++) {
        cr_assert_lt(count, SIM_RECIPIENTS_MAX);
        domains[count] = deliver_domain_index(to[count]);
    }
    return deliver_mail_to(w, domains, count, bytes);
}

static MAYBE_UNUSED const struct sim_recipient *deliver_of(struct deliver_world *w, uint32_t id,
                                                           unsigned recipient)
{
    return &sim_ledger_find(w->ledger, id)->recipients[recipient];
}

static bool deliver_world_empty(void *argument)
{
    const struct deliver_world *w = argument;
    return w->queue.metrics.messages == 0;
}

static MAYBE_UNUSED bool deliver_until_empty(struct deliver_world *w, uint64_t ms)
{
    return sim_run_until(w->sim, sim_now_ms(w->sim) + ms, deliver_world_empty, w);
}

static bool deliver_world_quiet(void *argument)
{
    const struct deliver_world *w = argument;
    return deliver_idle(&w->deliver) && w->clients.pool.used == 0 && w->resolves.pool.used == 0;
}

static bool deliver_spool_idle(void *argument)
{
    return spool_idle(((struct deliver_world *)argument)->spool);
}

static void deliver_world_drop(struct deliver_world *w)
{
    queue_free(&w->queue);
    deliver_free(&w->deliver);
    lease_shard_free(&w->leases);
    resolves_free(&w->resolves);
    smtp_clients_free(&w->clients);
    generations_free(&w->generations);
    tls_hosts_free(&w->hosts);
    tls_shard_free(&w->tls);
    connection_pools_free(&w->pools);
}

/* Drains, and demands that all was given back and no mail was lost, damaged, or sent falsely. */
static MAYBE_UNUSED void deliver_world_free(struct deliver_world *w)
{
    deliver_drain(&w->deliver);
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + HOUR_MS, deliver_world_quiet, w));
    deliver_world_run(w, 5'000);
    struct sim_balance b = sim_ledger_balance(w->ledger);
    sim_ledger_print(w->ledger, b.missing > w->queue.metrics.recipients_queued ? 10 : 0);
    cr_assert_leq(b.missing, w->queue.metrics.recipients_queued, "lost: %u", b.missing);
    cr_assert_eq(b.damaged, 0);
    cr_assert_eq(b.false_ones, 0);
    cr_assert_eq(w->ledger->strangers, 0);
    cr_assert_eq(w->deliver.large.used, 0);
    cr_assert_eq(w->queue.settlements.used, 0);
    cr_assert_eq(w->queue.reserved, 0);
    cr_assert_eq(w->queue.metrics.units_active, 0);
    cr_assert_eq(w->pools.outputs.used, 0);
    cr_assert_eq(w->pools.lines.used, 0);
    cr_assert_eq(w->ring->buffers_free, w->ring->buffers_count);
    spool_stop(w->spool);
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + MINUTE_MS, deliver_spool_idle, w));
    spool_close(w->spool);
    sim_ring_idle(w->ring);
    deliver_world_drop(w);
    sim_ledger_free(w->ledger);
    sim_free(w->sim);
    config_free(w->config);
    free(w);
}

static MAYBE_UNUSED void deliver_world_crash(struct deliver_world *w, enum sim_crash how)
{
    static struct spool *dead[1'000]; /* their memory went with the process: nobody frees it */
    static unsigned dead_count;
    dead[dead_count++ % ARRAY_COUNT(dead)] = w->spool;
    sim_crash(w->sim, w->us, how);
    pool_free(&w->clients.pool); /* what is in use dies with it */
    pool_free(&w->resolves.pool);
    deliver_world_drop(w);
}

#endif
