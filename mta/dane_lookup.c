/*
 * dane_lookup.c - asking for a host's TLSA records
 *
 *   start: not signed, no CNAME           --> INSECURE, nothing is asked
 *          not signed, behind a CNAME     --> is the CNAME signed? then TLSA of the host's own name
 *          signed                         --> TLSA of the canonical name, then of the host's own
 *   TLSA:  signed records                 --> USABLE, UNUSABLE or BAD
 *          none, or not signed            --> the next name, or ABSENT
 *          no answer, or one that is wrong --> BOGUS
 *
 * One question at a time. Owns the set of records until it is forgotten.
 */
#include "mta/dane_lookup.h"

#include <stdio.h>

#include "core/check.h"

/* clang-format off */
#define RESULT(dane, word)                                                                         \
    { "ringpost_dane_lookups_total", "result=\"" word "\"",                                        \
      "Hosts whose TLSA records were asked for, or found not to be signed", METRIC_COUNTER, 0,     \
      offsetof(struct dane_numbers, results) + (dane) * sizeof(uint64_t) }
const struct metric dane_metrics[] = {
    RESULT(HOST_DANE_INSECURE, "insecure"), RESULT(HOST_DANE_ABSENT, "absent"),
    RESULT(HOST_DANE_USABLE, "usable"), RESULT(HOST_DANE_UNUSABLE, "unusable"),
    RESULT(HOST_DANE_BAD, "malformed"), RESULT(HOST_DANE_BOGUS, "bogus"),
};
/* clang-format on */
const unsigned dane_metrics_count = ARRAY_COUNT(dane_metrics);

int danes_init(struct danes *danes, struct shard *shard, struct dns *dns, uint32_t count)
{
    *danes = (struct danes) { .shard = shard, .dns = dns };
    return pool_init(&danes->sets, "TLSA records", sizeof(struct tls_dane_set), count);
}

void danes_free(struct danes *danes)
{
    CHECK(danes->sets.used == 0);
    pool_free(&danes->sets);
}

/* ---- what comes out ---- */

static void found(struct dane_lookup *lookup, enum host_dane dane)
{
    lookup->dane = dane;
    metric_add(&lookup->danes->numbers.results[dane], 1);
}

static void found_nothing(struct dane_lookup *lookup, const struct dns_answer *answer)
{
    static const char *const words[] = {
        [DNS_SERVFAIL] = "server failure",
        [DNS_TIMEOUT] = "timeout",
        [DNS_BOGUS] = "validation failed",
    };
    snprintf(lookup->why, sizeof(lookup->why), "DNS lookup of %s of %.100s: %s",
             lookup->asks_alias ? "CNAME" : "TLSA", lookup->base, words[answer->status]);
    found(lookup, HOST_DANE_BOGUS);
}

static void found_records(struct dane_lookup *lookup, const struct dns_answer *answer)
{
    struct tls_dane_set *set = pool_take(&lookup->danes->sets);
    CHECK(set != NULL); /* one for each connection */
    memset(set, 0, offsetof(struct tls_dane_set, data));
    for (unsigned i = 0; i < answer->count; i++)
        tls_dane_add(set, slice_of(answer->records[i].data, answer->records[i].size));
    if (set->count > 0) {
        lookup->set = set;
        found(lookup, HOST_DANE_USABLE);
        return;
    }
    bool bad = set->malformed + set->left_out > 0;
    if (bad)
        snprintf(lookup->why, sizeof(lookup->why),
                 "%u malformed TLSA records, and none that is usable",
                 set->malformed + set->left_out);
    pool_give(&lookup->danes->sets, set);
    found(lookup, bad ? HOST_DANE_BAD : HOST_DANE_UNUSABLE);
}

/* ---- questions ---- */

static void answered(struct dns_query *query, const struct dns_answer *answer);

static void ask(struct dane_lookup *lookup, const char *name, enum dns_type type)
{
    lookup->query = (struct dns_query) { .answered = answered };
    lookup->under_way = true;
    dns_ask(lookup->danes->dns, lookup->danes->shard, &lookup->query, name, type);
}

/* False: there is no such name. */
static bool ask_records(struct dane_lookup *lookup)
{
    char name[DNS_NAME_MAX];
    int size = snprintf(name, sizeof(name), "_%u._tcp.%s", lookup->port, lookup->base);
    if (size < 0 || (size_t)size >= sizeof(name))
        return false;
    ask(lookup, name, DNS_TLSA);
    return true;
}

/* The other base domain, if there is one. */
static bool ask_next(struct dane_lookup *lookup)
{
    if (lookup->next[0] == '\0')
        return false;
    memcpy(lookup->base, lookup->next, sizeof(lookup->base));
    lookup->next[0] = '\0';
    return ask_records(lookup);
}

/* True: it goes on. */
static bool take_alias(struct dane_lookup *lookup, const struct dns_answer *answer)
{
    switch (answer->status) {
    case DNS_OK:
    case DNS_NODATA:
    case DNS_NXDOMAIN: break;
    default: found_nothing(lookup, answer); return false;
    }
    lookup->asks_alias = false;
    if (!answer->secure) {
        found(lookup, HOST_DANE_INSECURE);
        return false;
    }
    if (ask_records(lookup))
        return true;
    found(lookup, HOST_DANE_ABSENT);
    return false;
}

static bool take_records(struct dane_lookup *lookup, const struct dns_answer *answer)
{
    switch (answer->status) {
    case DNS_OK:
        if (answer->secure || lookup->danes->takes_unvalidated) {
            lookup->validated = answer->secure;
            lookup->ttl_s = answer->ttl_s;
            found_records(lookup, answer);
            return false;
        }
        break;
    case DNS_NODATA:
    case DNS_NXDOMAIN: break;
    default: found_nothing(lookup, answer); return false;
    }
    if (ask_next(lookup))
        return true;
    found(lookup, HOST_DANE_ABSENT);
    return false;
}

static void answered(struct dns_query *query, const struct dns_answer *answer)
{
    struct dane_lookup *lookup = container_of(query, struct dane_lookup, query);
    lookup->under_way = false;
    if (lookup->asks_alias ? take_alias(lookup, answer) : take_records(lookup, answer))
        return;
    lookup->looked_up(lookup);
}

/* ---- for the caller ---- */

bool dane_lookup_start(struct dane_lookup *lookup, struct danes *danes,
                       const struct dane_host *host)
{
    CHECK(lookup->set == NULL);
    lookup->danes = danes;
    lookup->port = host->port;
    lookup->asks_alias = false;
    lookup->validated = false;
    lookup->ttl_s = 0;
    lookup->next[0] = lookup->base[0] = lookup->why[0] = '\0';
    bool alias = host->host != NULL && strcmp(host->host, host->canonical) != 0;
    if (host->host == NULL || !host->mx_secure || (!host->secure && !alias)) {
        found(lookup, HOST_DANE_INSECURE);
        return true;
    }
    snprintf(lookup->base, sizeof(lookup->base), "%s", host->secure ? host->canonical : host->host);
    if (!host->secure) {
        lookup->asks_alias = true;
        ask(lookup, lookup->base, DNS_CNAME);
        return false;
    }
    if (alias)
        snprintf(lookup->next, sizeof(lookup->next), "%s", host->host);
    if (ask_records(lookup) || ask_next(lookup))
        return false;
    found(lookup, HOST_DANE_ABSENT);
    return true;
}

void dane_lookup_forget(struct dane_lookup *lookup)
{
    if (lookup->under_way)
        dns_forget(lookup->danes->dns, &lookup->query);
    lookup->under_way = false;
    if (lookup->set != NULL)
        pool_give(&lookup->danes->sets, lookup->set);
    lookup->set = NULL;
}
