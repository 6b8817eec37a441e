/*
 * lookup.c - one resolution, or one question, and the machine for it
 *
 *   ring, shard, resolver --> resolve_start --> steps until it is resolved --> all of it is freed
 *
 * The shard is alone in its group: it asks, and it is the one that libunbound's answers come to.
 * One at a time: all state is static. Bounds: those of resolving, its total_ms too.
 */
#include "mta/lookup.h"

#include <stdio.h>
#include <string.h>

#include "core/check.h"

enum {
    RING_ENTRIES = 64,
    SOCKETS = 8,
    RECV_BUFFERS = 8,
    RECV_BUFFER_BYTES = 4'096,
    HANDOFF_ASK = 0,
    HANDOFF_ANSWER = 1,
};

static struct {
    struct ring *ring;
    struct shard_group group;
    struct shard shard;
    struct resolver *resolver;
    struct dns dns;
    struct resolves resolves;
    struct danes danes;
    struct dane_lookup dane;
    struct resolve_request request;
    struct lookup *lookup;
    bool resolved;
    bool looked_up;
    struct dns_query query; /* of lookup_records, instead of the two above */
    void (*told)(void *argument, const struct dns_answer *answer);
    void *argument;
} machine;

static void on_resolved(struct resolve_request *request, const struct resolve_result *result)
{
    (void)request;
    struct lookup *lookup = machine.lookup;
    lookup->result = *result;
    lookup->result.targets = lookup->targets;
    lookup->result.why = lookup->why;
    snprintf(lookup->why, sizeof(lookup->why), "%s",
             result->verdict == RESOLVE_FOUND ? "" : result->why);
    for (unsigned i = 0; i < result->count; i++) {
        snprintf(lookup->hosts[i], sizeof(lookup->hosts[i]), "%s", result->targets[i].host);
        lookup->targets[i] = result->targets[i];
        lookup->targets[i].host = lookup->hosts[i];
        snprintf(lookup->aliases[i], sizeof(lookup->aliases[i]), "%s",
                 result->targets[i].canonical);
        lookup->targets[i].canonical = lookup->aliases[i];
    }
    machine.resolved = true;
}

static int machine_make(const struct dns_options *options, const char **what)
{
    const struct ring_options ring_options = {
        .entries = RING_ENTRIES,
        .sockets_max = SOCKETS,
        .recv_buffers = RECV_BUFFERS,
        .recv_buffer_bytes = RECV_BUFFER_BYTES,
    };
    int r = ring_new(&ring_options, &machine.ring, what);
    if (r < 0)
        return r;
    *what = "memory";
    r = shard_group_init(&machine.group, 1);
    if (r < 0)
        return r;
    shard_init(&machine.shard, machine.ring, &machine.group, 0);
    r = resolver_new(&machine.shard, options, HANDOFF_ASK, HANDOFF_ANSWER, &machine.resolver, what);
    if (r < 0)
        return r;
    resolver_attach(machine.resolver, &machine.shard, &machine.dns);
    *what = "memory";
    r = danes_init(&machine.danes, &machine.shard, &machine.dns, 1);
    if (r < 0)
        return r;
    return resolves_init(&machine.resolves, &machine.shard, &machine.dns, 1);
}

static void machine_free(void)
{
    if (machine.ring == NULL)
        return;
    resolves_free(&machine.resolves);
    dane_lookup_forget(&machine.dane);
    danes_free(&machine.danes);
    resolver_free(machine.resolver);
    shard_group_free(&machine.group);
    ring_free(machine.ring);
}

static void on_looked_up(struct dane_lookup *dane)
{
    (void)dane;
    machine.looked_up = true;
}

/* 0, or an errno of the ring. */
static int look_up_dane(const struct dane_host *host, struct lookup_dane *out)
{
    struct dane_lookup *dane = &machine.dane;
    int r = 0;
    dane->looked_up = on_looked_up;
    machine.looked_up = dane_lookup_start(dane, &machine.danes, host);
    while (r == 0 && !machine.looked_up)
        r = shard_step(&machine.shard, UINT64_MAX);
    out->dane = dane->dane;
    memcpy(out->base, dane->base, sizeof(out->base));
    memcpy(out->why, dane->why, sizeof(out->why));
    out->validated = dane->validated;
    out->ttl_s = dane->ttl_s;
    if (dane->set != NULL)
        out->set = *dane->set;
    dane_lookup_forget(dane);
    return r;
}

static int look_up_records(const struct resolve_target *target, struct lookup_dane *out)
{
    const struct dane_host host = {
        .host = target->host,
        .canonical = target->canonical,
        .port = target->address.port,
        .secure = target->secure,
        .mx_secure = target->mx_secure,
    };
    return look_up_dane(&host, out);
}

int lookup_run(const struct dns_options *options, const struct resolve_policy *policy,
               const struct resolve_hop *hop, struct lookup *lookup)
{
    const char *what = "";
    memset(&machine, 0, sizeof(machine));
    machine.lookup = lookup;
    machine.request.resolved = on_resolved;
    int r = machine_make(options, &what);
    if (r == 0) {
        what = "resolving";
        r = resolve_start(&machine.resolves, policy, hop, 1, &machine.request);
    }
    while (r == 0 && !machine.resolved)
        r = shard_step(&machine.shard, UINT64_MAX);
    for (unsigned i = 0; r == 0 && options->trust_anchor_file != NULL && i < lookup->result.count;
         i++)
        r = look_up_records(&lookup->targets[i], &lookup->danes[i]);
    if (r < 0) {
        fprintf(stderr, "ringpost: DNS: %s: %s\n", what, strerror(-r));
        resolve_forget(&machine.resolves, &machine.request);
    }
    machine_free();
    return r;
}

int lookup_published(const struct dns_options *options, const char *name, uint16_t port,
                     struct lookup_dane *out)
{
    /* As if its addresses were validated: nothing is said of them here. */
    const struct dane_host host = {
        .host = name, .canonical = name, .port = port, .secure = true, .mx_secure = true
    };
    const char *what = "";
    memset(&machine, 0, sizeof(machine));
    *out = (struct lookup_dane) { .dane = HOST_DANE_OFF };
    int r = machine_make(options, &what);
    machine.danes.takes_unvalidated = true;
    if (r == 0)
        r = look_up_dane(&host, out);
    if (r < 0)
        fprintf(stderr, "ringpost: DNS: %s: %s\n", what, strerror(-r));
    machine_free();
    return r;
}

static void on_answered(struct dns_query *query, const struct dns_answer *answer)
{
    (void)query;
    machine.told(machine.argument, answer);
    machine.resolved = true;
}

int lookup_records(const struct dns_options *options, const char *name, enum dns_type type,
                   void (*told)(void *argument, const struct dns_answer *answer), void *argument)
{
    const char *what = "";
    memset(&machine, 0, sizeof(machine));
    machine.told = told;
    machine.argument = argument;
    machine.query.answered = on_answered;
    int r = machine_make(options, &what);
    if (r == 0)
        dns_ask(&machine.dns, &machine.shard, &machine.query, name, type);
    while (r == 0 && !machine.resolved)
        r = shard_step(&machine.shard, UINT64_MAX);
    if (r < 0)
        fprintf(stderr, "ringpost: DNS: %s: %s\n", what, strerror(-r));
    machine_free();
    return r;
}
