/*
 * sim_dns.c - names answered from a table, late, wrongly, or not at all, as the seed wants it
 *
 *   request: asked --time--> posted to the shard's ring --ring_wait--> answered()
 *              '--dns_forget--> its query is gone; it lands unheard
 *
 * The answer is made when it lands, from the table as it is then. Requests are owned by the table
 * until sim_free, so that a crash of the machine needs no word of it.
 */
#include "tests/sim/sim_inside.h"

#include <stdlib.h>

enum { CNAMES_MAX = 8, TTL_S = 300, NEGATIVE_TTL_S = 60 };

struct name_record {
    uint16_t preference;
    uint16_t size;
    uint8_t data[DNS_DATA_MAX + 1];
};

struct name_entry {
    char name[DNS_NAME_MAX];
    enum dns_type type;
    enum dns_status status;
    bool secure;
    unsigned count;
    struct name_record *records;
    struct name_entry *next;
};

struct dns_request {
    struct op op;
    struct sim_dns *dns;
    struct dns_query *query; /* NULL: forgotten */
    enum dns_type type;
    enum dns_status fault; /* DNS_OK: none */
    char name[DNS_NAME_MAX];
    struct dns_request *next, *next_idle;
};

struct sim_dns {
    struct sim *sim;
    struct sim_dns *next;
    struct name_entry *entries;
    struct dns_request *requests; /* all ever made */
    struct dns_request *idle;
    uint32_t servfail_ppm, timeout_ppm, timeout_ms;
};

static void name_copy(char to[static DNS_NAME_MAX], const char *name)
{
    size_t length = strlen(name);
    CHECK(length < DNS_NAME_MAX);
    for (size_t i = 0; i <= length; i++)
        to[i] = (char)ascii_lower((uint8_t)name[i]);
}

static struct name_entry *entry_find(struct sim_dns *dns, const char *name, enum dns_type type)
{
    for (struct name_entry *e = dns->entries; e != NULL; e = e->next)
        if (e->type == type && strcmp(e->name, name) == 0)
            return e;
    return NULL;
}

static bool name_exists(struct sim_dns *dns, const char *name)
{
    for (struct name_entry *e = dns->entries; e != NULL; e = e->next)
        if (e->count > 0 && strcmp(e->name, name) == 0)
            return true;
    return false;
}

static struct name_entry *entry_made(struct sim_dns *dns, const char *name, enum dns_type type)
{
    char lower[DNS_NAME_MAX];
    name_copy(lower, name);
    struct name_entry *e = entry_find(dns, lower, type);
    if (e != NULL)
        return e;
    e = sim_take(sizeof(*e));
    memcpy(e->name, lower, sizeof(lower));
    e->type = type;
    e->status = DNS_OK;
    e->next = dns->entries;
    dns->entries = e;
    return e;
}

static const struct dns_record *answer_records(struct sim_dns *dns, const struct name_entry *e,
                                               struct dns_record records[static DNS_RECORDS_MAX],
                                               struct dns_answer *answer)
{
    answer->count = MIN(e->count, DNS_RECORDS_MAX);
    answer->cut = e->count > DNS_RECORDS_MAX;
    for (unsigned i = 0; i < answer->count; i++)
        records[i] = (struct dns_record) { .preference = e->records[i].preference,
                                           .size = e->records[i].size,
                                           .data = e->records[i].data };
    for (unsigned i = answer->count; i > 1; i--) { /* servers rotate */
        unsigned j = (unsigned)random_below(&dns->sim->random, i);
        struct dns_record swap = records[i - 1];
        records[i - 1] = records[j];
        records[j] = swap;
    }
    return records;
}

static void request_landed(struct op *op, int res, unsigned flags)
{
    struct dns_request *request = container_of(op, struct dns_request, op);
    struct sim_dns *dns = request->dns;
    struct dns_query *query = request->query;
    (void)res;
    (void)flags;
    request->next_idle = dns->idle;
    dns->idle = request;
    if (query == NULL)
        return;
    query->request = NULL;
    struct dns_record records[DNS_RECORDS_MAX];
    char name[DNS_NAME_MAX];
    memcpy(name, request->name, sizeof(name));
    struct dns_answer answer = { .ttl_s = TTL_S, .canonical = name, .secure = true };
    answer.status = request->fault;
    while (answer.status == DNS_OK) {
        struct name_entry *e = entry_find(dns, name, request->type);
        struct name_entry *alias = entry_find(dns, name, DNS_CNAME);
        if (e != NULL && (e->count > 0 || e->status != DNS_OK)) {
            answer.secure = answer.secure && e->secure;
            answer.status = e->status;
            if (e->status == DNS_OK)
                answer.records = answer_records(dns, e, records, &answer);
            break;
        }
        if (alias == NULL || alias->count == 0) {
            answer.status = name_exists(dns, name) ? DNS_NODATA : DNS_NXDOMAIN;
            answer.secure = answer.secure && e != NULL && e->secure;
        } else if (++answer.cnames > CNAMES_MAX) {
            answer.status = DNS_SERVFAIL;
        } else {
            answer.secure = answer.secure && alias->secure;
            name_copy(name, (const char *)alias->records[0].data);
        }
    }
    if (answer.status != DNS_OK)
        answer.ttl_s = NEGATIVE_TTL_S;
    if (answer.status != DNS_OK && answer.status != DNS_NODATA && answer.status != DNS_NXDOMAIN) {
        answer.secure = false;
        answer.why = "the simulation wants it so";
    }
    query->answered(query, &answer);
}

static void request_fire(struct sim *sim, const struct sim_event *event)
{
    struct sim_flight *flight = sim_flight_of(sim, event);
    if (flight != NULL)
        sim_post(sim, flight, 0, 0);
}

static void names_ask(void *resolver, struct dns_query *query, const char *name, enum dns_type type)
{
    struct sim_dns *dns = resolver;
    struct sim *sim = dns->sim;
    CHECK(query->request == NULL);
    struct dns_request *request = dns->idle;
    if (request != NULL) {
        dns->idle = request->next_idle;
    } else {
        request = sim_take(sizeof(*request));
        request->next = dns->requests;
        dns->requests = request;
    }
    request->dns = dns;
    request->op = (struct op) { .landed = request_landed };
    request->query = query;
    request->type = type;
    name_copy(request->name, name);
    request->fault = DNS_OK;
    uint64_t ns = sim_chance(sim, 500'000) ? sim_between(sim, 500, 20 * SIM_US) /* cached */
                                           : sim_draw(sim, (struct sim_range) { SIM_MS, SIM_S });
    if (sim_chance(sim, dns->servfail_ppm)) {
        request->fault = DNS_SERVFAIL;
    } else if (sim_chance(sim, dns->timeout_ppm)) {
        request->fault = DNS_TIMEOUT;
        ns = (uint64_t)dns->timeout_ms * SIM_MS;
    }
    query->request = request;
    struct sim_flight *flight = sim_flight(query->shard->ring, &request->op, FLIGHT_NAME);
    sim_flight_event(sim, flight, ns, request_fire);
}

static void names_forget(void *resolver, struct dns_query *query)
{
    struct sim_dns *dns = resolver;
    if (query->request == NULL)
        return;
    CHECK(query->request->dns == dns);
    CHECK(query->request->query == query);
    query->request->query = NULL;
    if (query->request->op.inflight)
        ring_cancel(query->shard->ring, &query->request->op);
    query->request = NULL;
}

/* ---- the table ---- */

struct sim_dns *sim_dns_new(struct sim *sim)
{
    struct sim_dns *dns = sim_take(sizeof(*dns));
    dns->sim = sim;
    dns->next = sim->dns;
    sim->dns = dns;
    return dns;
}

void sim_dns_add(struct sim_dns *dns, const char *name, enum dns_type type, uint16_t preference,
                 struct slice data)
{
    CHECK(data.size <= DNS_DATA_MAX);
    struct name_entry *e = entry_made(dns, name, type);
    e->records = sim_more(e->records, (e->count + 1) * sizeof(*e->records));
    struct name_record *record = &e->records[e->count++];
    memset(record, 0, sizeof(*record));
    record->preference = preference;
    record->size = (uint16_t)data.size;
    if (data.size > 0)
        memcpy(record->data, data.data, data.size); /* a terminator follows: it is zeroed */
}

void sim_dns_a(struct sim_dns *dns, const char *name, const char *address)
{
    struct net_address a;
    CHECK(net_parse(slice_of_string(address), 0, &a) == 0);
    if (net_is_v4(&a))
        sim_dns_add(dns, name, DNS_A, 0, slice_of(a.octets + 12, 4));
    else
        sim_dns_add(dns, name, DNS_AAAA, 0, slice_of(a.octets, sizeof(a.octets)));
}

void sim_dns_mx(struct sim_dns *dns, const char *name, uint16_t preference, const char *host)
{
    sim_dns_add(dns, name, DNS_MX, preference, slice_of_string(host));
}

void sim_dns_clear(struct sim_dns *dns, const char *name, enum dns_type type)
{
    entry_made(dns, name, type)->count = 0;
}

void sim_dns_set(struct sim_dns *dns, const char *name, enum dns_type type, enum dns_status status,
                 bool secure)
{
    struct name_entry *e = entry_made(dns, name, type);
    e->status = status;
    e->secure = secure;
}

void sim_dns_faults(struct sim_dns *dns, uint32_t servfail_ppm, uint32_t timeout_ppm,
                    uint32_t timeout_ms)
{
    dns->servfail_ppm = servfail_ppm;
    dns->timeout_ppm = timeout_ppm;
    dns->timeout_ms = timeout_ms;
}

struct dns sim_dns_of(struct sim_dns *dns)
{
    static const struct dns_ops ops = { .ask = names_ask, .forget = names_forget };
    return (struct dns) { .ops = &ops, .resolver = dns };
}

void sim_dns_free(struct sim *sim)
{
    for (struct sim_dns *dns = sim->dns, *next; dns != NULL; dns = next) {
        next = dns->next;
        for (struct name_entry *e = dns->entries, *after; e != NULL; e = after) {
            after = e->next;
            free(e->records);
            free(e);
        }
        for (struct dns_request *request = dns->requests, *after; request != NULL;
             request = after) {
            after = request->next;
            free(request);
        }
        free(dns);
    }
}
