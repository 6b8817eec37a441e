/*
 * resolve.c - asking for a next hop's hosts and addresses
 *
 *   HOPS: one hop after the other; for an MX hop one question --> ADDRESSES: the best hosts, A and
 *   AAAA side by side, RESOLVE_HOSTS_AT_ONCE at a time, until there are enough --> resolved()
 *      '------------- total_ms are over: with what is there -------------------------^
 *
 * Answers leave facts (copied, for the resolver's memory is gone after the callback) and make the
 * resolution runnable; resolve_run decides.
 *
 * RFC 5321 5.1: of an MX list that has ourselves in it, by name or by address, the hosts that are
 * not better than us are dropped; if that leaves none, the mail would loop. Only "the name exists,
 * but has no MX" means implicit MX; a failed lookup never does. RFC 7505: a lone empty MX takes no
 * mail.
 *
 * Owns its questions; borrows request and the arrays of policy. Bounds: RESOLVE_*, total_ms. A pool
 * that is full is -ENOBUFS: the caller defers. Surprise: whether a failure is final is decided over
 * all hosts at the end: one temporary failure makes it temporary, for the host behind it may be the
 * one.
 */
#include "mta/resolve.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "core/check.h"
#include "tls/tls_boringssl.h"

enum { LOOKUPS_MAX = 2 * RESOLVE_HOSTS_AT_ONCE };
#define NO_RANK UINT32_MAX

enum resolve_state { RESOLVE_STATE_HOPS, RESOLVE_STATE_ADDRESSES };

struct resolve_lookup {
    struct dns_query query;
    struct resolve *resolve;
    const struct resolve_host *host;
    bool busy;
    bool v4;
    bool secure;
    enum dns_status status;
    uint16_t canonical; /* name, as in host */
    unsigned count;
    uint8_t octets[RESOLVE_HOST_ADDRESSES_MAX][16];
};

struct resolve_own_hop {
    enum resolve_kind kind;
    uint16_t name;
    uint16_t port;
    bool trusted;
    struct net_address address;
    uint32_t self_rank; /* the best one of ours in its MX list */
};

struct resolve_failure {
    bool seen;
    uint32_t rank;
    uint16_t code;
    struct smtp_enhanced enhanced;
    bool bogus;
    char why[RESOLVE_WHY_MAX];
};

struct resolve {
    struct resolves *resolves;
    struct resolve_request *request;
    struct resolve_policy policy;
    const char *own_names[RESOLVE_OWN_NAMES_MAX];
    struct task task;
    struct timer timer;
    enum resolve_state state;
    bool timed_out;
    bool mx_asked;
    bool mx_answered;
    bool mx_null;
    bool mx_secure;
    bool mx_cut_loop; /* more CNAMEs than anybody needs */
    uint32_t ttl_s;
    enum dns_status mx_status;
    struct dns_query mx_query;
    unsigned hops_count;
    unsigned hop_next;
    unsigned hosts_count;
    unsigned host_next;
    unsigned lookups_count; /* of the questions asked together last */
    unsigned found_count;
    uint32_t names_size;
    struct resolve_failure temporary; /* the one of the best host */
    struct resolve_failure permanent;
    struct resolve_failure loop;
    struct resolve_own_hop hops[RESOLVE_HOPS_MAX];
    struct resolve_target targets[RESOLVE_TARGETS_MAX];
    struct resolve_lookup lookups[LOOKUPS_MAX];
    struct resolve_found found[RESOLVE_FOUND_MAX];
    struct resolve_host hosts[RESOLVE_HOSTS_MAX];
    char names[(RESOLVE_HOSTS_MAX + RESOLVE_HOPS_MAX + RESOLVE_ALIASES_MAX) * DNS_NAME_MAX];
    /* used from the front */
};
static_assert(sizeof(((struct resolve *)0)->names) <= UINT16_MAX);

/* clang-format off */
#define NUMBER(field, metric_name, metric_labels, metric_help)                                     \
    { .name = (metric_name), .labels = (metric_labels), .help = (metric_help),                     \
      .offset = offsetof(struct resolve_numbers, field) }
const struct metric resolve_metrics[] = {
    NUMBER(started, "ringpost_resolve_started_total", NULL, "Next hops to be resolved"),
    NUMBER(found, "ringpost_resolve_total", "result=\"found\"", "Next hops resolved, by result"),
    NUMBER(temporary, "ringpost_resolve_total", "result=\"temporary\"",
           "Next hops resolved, by result"),
    NUMBER(permanent, "ringpost_resolve_total", "result=\"permanent\"",
           "Next hops resolved, by result"),
    NUMBER(null_mx, "ringpost_resolve_null_mx_total", NULL, "Domains that say they take no mail"),
    NUMBER(loops, "ringpost_resolve_loops_total", NULL, "Next hops that were ourselves"),
    NUMBER(refused_addresses, "ringpost_resolve_refused_addresses_total", NULL,
           "Loopback, private and the like, from public DNS"),
    NUMBER(bogus, "ringpost_resolve_bogus_total", NULL,
           "Domains and hosts that were passed over, for their records failed DNSSEC validation"),
    NUMBER(timeouts, "ringpost_resolve_timeouts_total", NULL, "Next hops not resolved in time"),
    NUMBER(questions, "ringpost_resolve_questions_total", NULL, "DNS questions asked"),
};
/* clang-format on */
const unsigned resolve_metrics_count = ARRAY_COUNT(resolve_metrics);

/* ---- facts ---- */

/* Keeps a name. Its place, or -1: too long to be one. */
static int names_add(struct resolve *r, const char *name)
{
    size_t size = strlen(name) + 1;
    if (size > DNS_NAME_MAX)
        return -1;
    CHECK(size <= sizeof(r->names) - r->names_size);
    memcpy(r->names + r->names_size, name, size);
    int place = (int)r->names_size;
    r->names_size += (uint32_t)size;
    return place;
}

static const char *names_at(const struct resolve *r, uint16_t place)
{
    CHECK(place < r->names_size);
    return r->names + place;
}

/* The first one stays: hosts are looked at in their order. */
static void fail(struct resolve_failure *failure, uint32_t rank, uint16_t code,
                 struct smtp_enhanced enhanced, const char *format, ...) PRINTF_LIKE(5, 6);
static void fail(struct resolve_failure *failure, uint32_t rank, uint16_t code,
                 struct smtp_enhanced enhanced, const char *format, ...)
{
    if (failure->seen && failure->rank <= rank)
        return;
    failure->seen = true;
    failure->rank = rank;
    failure->code = code;
    failure->enhanced = enhanced;
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(failure->why, sizeof(failure->why), format, arguments);
    va_end(arguments);
    for (char *c = failure->why; *c != '\0'; c++)
        if (*c < ' ' || *c > '~')
            *c = '?'; /* names come from strangers */
}

static void fail_temporary(struct resolve *r, uint32_t rank, const char *what, const char *name,
                           enum dns_status status)
{
    static const char *const words[] = {
        [DNS_OK] = "too many CNAMEs",    [DNS_NODATA] = "no data",
        [DNS_NXDOMAIN] = "no such name", [DNS_SERVFAIL] = "server failure",
        [DNS_TIMEOUT] = "timeout",       [DNS_BOGUS] = "validation failed",
    };
    bool first = !r->temporary.seen || rank < r->temporary.rank;
    fail(&r->temporary, rank, 0, (struct smtp_enhanced) { 4, 4, 3 }, "DNS lookup of %s %s: %s",
         what, name, words[status]);
    if (first)
        r->temporary.bogus = status == DNS_BOGUS;
    metric_add(&r->resolves->numbers.bogus, status == DNS_BOGUS ? 1 : 0);
}

static void note_loop(struct resolve *r, unsigned hop, uint32_t rank, const char *name)
{
    struct resolve_own_hop *own = &r->hops[hop];
    if (own->kind == RESOLVE_MX && rank < own->self_rank)
        own->self_rank = rank;
    /* A route that leads to us is the operator's slip, who can mend it while mail waits. */
    uint8_t klass = own->trusted ? 4 : 5;
    fail(&r->loop, rank, 0, (struct smtp_enhanced) { klass, 4, 6 },
         "mail loops back: next hop %s is this host", name);
}

static void add_found(struct resolve *r, const struct resolve_host *host, uint16_t canonical,
                      struct net_address address, unsigned round, bool secure)
{
    struct resolve_own_hop *hop = &r->hops[host->hop];
    address.port = hop->port != 0 ? hop->port : r->policy.port;
    const char *name = names_at(r, host->name);
    switch (resolve_judge(&r->policy, hop->trusted, &address)) {
    case RESOLVE_ADDRESS_GOOD: break;
    case RESOLVE_ADDRESS_OWN: note_loop(r, host->hop, host->rank, name); return;
    case RESOLVE_ADDRESS_SPECIAL:
        metric_add(&r->resolves->numbers.refused_addresses, 1);
        fail(&r->permanent, host->rank, 0, (struct smtp_enhanced) { 5, 4, 4 },
             "host %s has an address that is not public", name);
        return;
    case RESOLVE_ADDRESS_FAMILY:
        fail(&r->permanent, host->rank, 0, (struct smtp_enhanced) { 5, 4, 4 },
             "host %s has no address of a usable family", name);
        return;
    }
    CHECK(r->found_count < RESOLVE_FOUND_MAX);
    r->found[r->found_count++] = (struct resolve_found) {
        .address = address,
        .rank = host->rank,
        .name = host->name,
        .canonical = canonical,
        .round = (uint16_t)round,
        .secure = secure,
        .mx_secure = host->secure,
        .v4 = net_is_v4(&address),
        .shuffle = host->shuffle,
    };
}

static struct resolve_host make_host(struct resolve *r, unsigned hop, uint16_t preference, int name,
                                     bool secure)
{
    CHECK(name >= 0);
    return (struct resolve_host) {
        .rank = (uint32_t)hop << 16 | preference,
        .name = (uint16_t)name,
        .hop = (uint8_t)hop,
        .secure = secure,
        .shuffle = random_next(&r->resolves->shard->random),
    };
}

static bool host_known(const struct resolve *r, unsigned hop, const char *name)
{
    for (unsigned i = 0; i < r->hosts_count; i++)
        if (r->hosts[i].hop == hop && strcmp(names_at(r, r->hosts[i].name), name) == 0)
            return true;
    return false;
}

static void add_host(struct resolve *r, unsigned hop, uint16_t preference, const char *name,
                     bool secure)
{
    if (r->hosts_count == RESOLVE_HOSTS_MAX || host_known(r, hop, name))
        return;
    int place = names_add(r, name);
    if (place >= 0)
        r->hosts[r->hosts_count++] = make_host(r, hop, preference, place, secure);
}

static void heard(struct resolve *r, const struct dns_answer *answer)
{
    r->ttl_s = MIN(r->ttl_s, answer->ttl_s);
    shard_run_later(r->resolves->shard, &r->task);
}

static void mx_answered(struct dns_query *query, const struct dns_answer *answer)
{
    struct resolve *r = container_of(query, struct resolve, mx_query);
    CHECK(answer->count <= DNS_RECORDS_MAX);
    r->mx_answered = true;
    r->mx_status = answer->status == DNS_OK && answer->count == 0 ? DNS_NODATA : answer->status;
    r->mx_secure = answer->secure;
    r->mx_cut_loop = answer->cnames > RESOLVE_CNAMES_MAX;
    r->mx_null = false;
    heard(r, answer);
    if (r->mx_status != DNS_OK || r->mx_cut_loop)
        return;
    /* The best ones first: what is over the bound is the worst. */
    uint8_t order[DNS_RECORDS_MAX];
    for (unsigned i = 0; i < answer->count; i++) {
        unsigned at = i;
        for (; at > 0 && answer->records[i].preference < answer->records[order[at - 1]].preference;
             at--)
            order[at] = order[at - 1];
        order[at] = (uint8_t)i;
    }
    bool named = false;
    for (unsigned i = 0; i < answer->count; i++) {
        const struct dns_record *record = &answer->records[order[i]];
        const char *name = (const char *)record->data;
        if (*name == '\0')
            continue;
        named = true;
        add_host(r, r->hop_next, record->preference, name, answer->secure);
    }
    r->mx_null = !named;
}
static_assert(DNS_RECORDS_MAX <= UINT8_MAX + 1);

/* Where the name at the end of the CNAMEs is kept; A and AAAA mostly agree. False: no room. */
static bool alias_keep(struct resolve *r, struct resolve_lookup *lookup, const char *canonical)
{
    for (unsigned i = 0; i < r->lookups_count; i++) {
        const struct resolve_lookup *other = &r->lookups[i];
        if (other->host == lookup->host && strcmp(names_at(r, other->canonical), canonical) == 0) {
            lookup->canonical = other->canonical;
            return true;
        }
    }
    if (strlen(canonical) >= sizeof(r->names) - r->names_size)
        return false;
    int place = names_add(r, canonical);
    if (place >= 0)
        lookup->canonical = (uint16_t)place;
    return place >= 0;
}

static void address_answered(struct dns_query *query, const struct dns_answer *answer)
{
    struct resolve_lookup *lookup = container_of(query, struct resolve_lookup, query);
    CHECK(lookup->busy);
    lookup->busy = false;
    lookup->status = answer->status;
    lookup->count = 0;
    heard(lookup->resolve, answer);
    bool kept = answer->cnames == 0 || alias_keep(lookup->resolve, lookup, answer->canonical);
    lookup->secure = answer->secure && kept;
    if (answer->status != DNS_OK || answer->cnames > RESOLVE_CNAMES_MAX)
        return; /* DNS_OK without an address: fail_temporary has the words */
    size_t size = lookup->v4 ? 4 : 16;
    for (unsigned i = 0; i < answer->count && lookup->count < RESOLVE_HOST_ADDRESSES_MAX; i++) {
        if (answer->records[i].size != size)
            continue;
        uint8_t *octets = lookup->octets[lookup->count++];
        memset(octets, 0, 16);
        if (lookup->v4)
            octets[10] = octets[11] = 0xff;
        memcpy(octets + 16 - size, answer->records[i].data, size);
    }
}

static void resolve_on_timer(struct timer *timer)
{
    struct resolve *r = container_of(timer, struct resolve, timer);
    r->timed_out = true;
    shard_run_later(r->resolves->shard, &r->task);
}

/* ---- the end ---- */

static void resolve_drop(struct resolve *r)
{
    struct resolves *resolves = r->resolves;
    if (r->mx_asked && !r->mx_answered)
        dns_forget(resolves->dns, &r->mx_query);
    for (unsigned i = 0; i < r->lookups_count; i++)
        if (r->lookups[i].busy)
            dns_forget(resolves->dns, &r->lookups[i].query);
    shard_timer_disarm(resolves->shard, &r->timer);
    shard_forget(&r->task);
    pool_give(&resolves->pool, r);
}

/* RFC 5321 5.1: not better than ourselves. */
static bool behind_us(const struct resolve *r, uint32_t rank)
{
    return rank >= r->hops[rank >> 16].self_rank;
}

static void resolve_failed(const struct resolve *r, struct resolve_result *result)
{
    const struct resolve_failure *failure = &r->permanent;
    result->verdict = RESOLVE_PERMANENT;
    if (r->temporary.seen && !behind_us(r, r->temporary.rank)) {
        failure = &r->temporary;
        result->verdict = RESOLVE_TEMPORARY;
    } else if (r->loop.seen) {
        failure = &r->loop;
        if (failure->enhanced.klass == 4)
            result->verdict = RESOLVE_TEMPORARY;
        metric_add(&r->resolves->numbers.loops, 1);
    }
    static const struct resolve_failure nothing = { .enhanced = { 5, 4, 4 },
                                                    .why = "no host to send to" };
    if (!failure->seen)
        failure = &nothing; /* an MX list without one proper name */
    result->code = failure->code;
    result->enhanced = failure->enhanced;
    result->bogus = failure->bogus;
    result->why = failure->why;
}

static int by_name(const void *a, const void *b)
{
    return strcasecmp(*(const char *const *)a, *(const char *const *)b);
}

static void site_add(SHA256_CTX *sha, const char *name)
{
    for (; *name != '\0'; name++) {
        const uint8_t c = ascii_lower((uint8_t)*name);
        SHA256_Update(sha, &c, 1);
    }
    SHA256_Update(sha, "", 1);
}

static void resolve_site(const struct resolve *r, struct resolve_site *site)
{
    const char *names[RESOLVE_HOSTS_MAX];
    SHA256_CTX sha;
    SHA256_Init(&sha);
    for (unsigned i = 0; i < r->hosts_count; i++)
        names[i] = names_at(r, r->hosts[i].name);
    qsort(names, r->hosts_count, sizeof(names[0]), by_name);
    for (unsigned i = 0; i < r->hosts_count; i++)
        site_add(&sha, names[i]);
    if (r->hosts_count == 0) /* a literal in place of a domain */
        site_add(&sha, names_at(r, r->hops[0].name));
    SHA256_Final(site->digest, &sha);
}

static void resolve_finish(struct resolve *r)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < r->found_count; i++)
        if (!behind_us(r, r->found[i].rank))
            r->found[kept++] = r->found[i];
    resolve_sort_found(r->found, kept);
    kept = MIN(kept, (unsigned)RESOLVE_TARGETS_MAX);
    for (unsigned i = 0; i < kept; i++)
        r->targets[i] = (struct resolve_target) {
            .address = r->found[i].address,
            .host = names_at(r, r->found[i].name),
            .rank = r->found[i].rank,
            .canonical = names_at(r, r->found[i].canonical),
            .secure = r->found[i].secure,
            .mx_secure = r->found[i].mx_secure,
        };
    struct resolve_result result = {
        .verdict = RESOLVE_FOUND,
        .ttl_s = r->ttl_s == UINT32_MAX ? 0 : r->ttl_s,
        .count = kept,
        .targets = r->targets,
    };
    if (kept == 0)
        resolve_failed(r, &result);
    else
        resolve_site(r, &result.site);
    struct resolve_numbers *numbers = &r->resolves->numbers;
    metric_add(result.verdict == RESOLVE_FOUND       ? &numbers->found
               : result.verdict == RESOLVE_TEMPORARY ? &numbers->temporary
                                                     : &numbers->permanent,
               1);
    struct resolve_request *request = r->request;
    request->resolve = NULL;
    request->resolved(request, &result);
    resolve_drop(r);
}

/* ---- the states ---- */

/* What the answer means for the hop; its hosts, if any, are in already. */
static void mx_judge(struct resolve *r)
{
    unsigned hop = r->hop_next;
    uint32_t rank = (uint32_t)hop << 16;
    const char *name = names_at(r, r->hops[hop].name);
    if (r->mx_cut_loop) {
        fail_temporary(r, rank, "MX of", name, DNS_OK);
        return;
    }
    switch (r->mx_status) {
    case DNS_OK:
        if (r->mx_null) {
            metric_add(&r->resolves->numbers.null_mx, 1);
            fail(&r->permanent, rank, 556, (struct smtp_enhanced) { 5, 1, 10 },
                 "domain %s takes no mail (null MX)", name);
        }
        for (unsigned i = 0; i < r->hosts_count; i++)
            if (r->hosts[i].hop == hop &&
                resolve_own_name(&r->policy, names_at(r, r->hosts[i].name)))
                note_loop(r, hop, r->hosts[i].rank, names_at(r, r->hosts[i].name));
        break;
    case DNS_NODATA:
        add_host(r, hop, 0, name, r->mx_secure); /* implicit MX */
        break;
    case DNS_NXDOMAIN:
        fail(&r->permanent, rank, 0, (struct smtp_enhanced) { 5, 1, 2 }, "domain %s does not exist",
             name);
        break;
    case DNS_SERVFAIL:
    case DNS_TIMEOUT:
    case DNS_BOGUS: fail_temporary(r, rank, "MX of", name, r->mx_status); break;
    }
}

/* True: this hop has been seen to. */
static bool hop_step(struct resolve *r)
{
    unsigned index = r->hop_next;
    struct resolve_own_hop *hop = &r->hops[index];
    const char *name = names_at(r, hop->name);
    struct net_address literal = hop->address;
    bool is_literal = hop->kind == RESOLVE_ADDRESS ||
                      (hop->kind == RESOLVE_MX && resolve_literal(name, &literal) == 0);
    if (is_literal) {
        struct resolve_host host = make_host(r, index, 0, hop->name, true);
        add_found(r, &host, host.name, literal, 0, true);
        return true;
    }
    if (hop->kind == RESOLVE_HOST) {
        add_host(r, index, 0, name, true);
        return true;
    }
    if (r->timed_out) {
        fail_temporary(r, (uint32_t)index << 16, "MX of", name, DNS_TIMEOUT);
        return true;
    }
    if (!r->mx_asked) {
        r->mx_asked = true;
        r->mx_answered = false;
        r->mx_query = (struct dns_query) { .answered = mx_answered };
        metric_add(&r->resolves->numbers.questions, 1);
        dns_ask(r->resolves->dns, r->resolves->shard, &r->mx_query, name, DNS_MX);
    }
    if (!r->mx_answered)
        return false;
    r->mx_asked = false;
    mx_judge(r);
    return true;
}

static void ask_address(struct resolve *r, const struct resolve_host *host, bool v4)
{
    CHECK(r->lookups_count < LOOKUPS_MAX);
    struct resolve_lookup *lookup = &r->lookups[r->lookups_count++];
    *lookup = (struct resolve_lookup) {
        .query.answered = address_answered,
        .resolve = r,
        .host = host,
        .canonical = host->name,
        .busy = true,
        .v4 = v4,
    };
    metric_add(&r->resolves->numbers.questions, 1);
    dns_ask(r->resolves->dns, r->resolves->shard, &lookup->query, names_at(r, host->name),
            v4 ? DNS_A : DNS_AAAA);
}

/* False: there is nobody left to ask. */
static bool ask_hosts(struct resolve *r)
{
    r->lookups_count = 0;
    while (r->host_next < r->hosts_count && r->lookups_count + 2 <= LOOKUPS_MAX) {
        const struct resolve_host *host = &r->hosts[r->host_next++];
        if (behind_us(r, host->rank))
            continue;
        if (!r->policy.no_ipv6)
            ask_address(r, host, false);
        if (!r->policy.no_ipv4)
            ask_address(r, host, true);
    }
    return r->lookups_count > 0;
}

/* RFC 7672 2.2.2: a host with addresses that are forged, or cannot be told from it, is none. */
static bool is_bogus(const struct resolve *r, const struct resolve_host *host)
{
    for (unsigned i = 0; i < r->lookups_count; i++)
        if (r->lookups[i].host == host && r->lookups[i].status == DNS_BOGUS)
            return true;
    return false;
}

static void take_lookup(struct resolve *r, struct resolve_lookup *lookup)
{
    const struct resolve_host *host = lookup->host;
    const char *name = names_at(r, host->name);
    if (lookup->busy) {
        lookup->busy = false;
        lookup->status = DNS_TIMEOUT;
        dns_forget(r->resolves->dns, &lookup->query);
    }
    if (lookup->status != DNS_BOGUS && is_bogus(r, host))
        return; /* the other one says so */
    for (unsigned i = 0; i < lookup->count; i++) {
        struct net_address address = { .port = 0 };
        memcpy(address.octets, lookup->octets[i], sizeof(address.octets));
        add_found(r, host, lookup->canonical, address, i, host->secure && lookup->secure);
    }
    if (lookup->count > 0)
        return;
    if (lookup->status == DNS_NODATA || lookup->status == DNS_NXDOMAIN)
        fail(&r->permanent, host->rank, 0, (struct smtp_enhanced) { 5, 4, 4 },
             "mail host %s has no address", name);
    else
        fail_temporary(r, host->rank, lookup->v4 ? "A of" : "AAAA of", name, lookup->status);
}

/* True: all questions of this round are answered and taken, or time is up. */
static bool addresses_step(struct resolve *r)
{
    for (unsigned i = 0; i < r->lookups_count; i++)
        if (r->lookups[i].busy && !r->timed_out)
            return false;
    for (unsigned i = 0; i < r->lookups_count; i++)
        take_lookup(r, &r->lookups[i]);
    r->lookups_count = 0;
    return true;
}

static void resolve_run(struct task *task)
{
    struct resolve *r = container_of(task, struct resolve, task);
    if (r->state == RESOLVE_STATE_HOPS) {
        if (r->timed_out && r->mx_asked && !r->mx_answered) {
            dns_forget(r->resolves->dns, &r->mx_query);
            r->mx_asked = false;
        }
        for (; r->hop_next < r->hops_count; r->hop_next++)
            if (!hop_step(r))
                return;
        resolve_sort_hosts(r->hosts, r->hosts_count);
        r->state = RESOLVE_STATE_ADDRESSES;
    }
    do {
        if (!addresses_step(r))
            return;
        if (r->timed_out) {
            metric_add(&r->resolves->numbers.timeouts, 1);
            if (r->host_next < r->hosts_count)
                fail_temporary(r, r->hosts[r->host_next].rank, "address of",
                               names_at(r, r->hosts[r->host_next].name), DNS_TIMEOUT);
            break;
        }
    } while (r->found_count < RESOLVE_TARGETS_MAX && ask_hosts(r));
    resolve_finish(r);
}

/* ---- for the caller ---- */

uint64_t resolves_bytes(uint32_t count)
{
    return pool_bytes(sizeof(struct resolve), count);
}

int resolves_init(struct resolves *resolves, struct shard *shard, struct dns *dns, uint32_t count)
{
    *resolves = (struct resolves) { .shard = shard, .dns = dns };
    return pool_init(&resolves->pool, "resolves", sizeof(struct resolve), count);
}

void resolves_free(struct resolves *resolves)
{
    CHECK(resolves->pool.used == 0);
    pool_free(&resolves->pool);
}

static void copy_hop(struct resolve *r, const struct resolve_hop *hop)
{
    char text[NET_TEXT_MAX];
    const char *name = hop->name;
    if (hop->kind == RESOLVE_ADDRESS && (name == NULL || *name == '\0')) {
        net_text(&hop->address, false, text);
        name = text;
    }
    int place = names_add(r, name);
    CHECK(place >= 0); /* names in configuration and envelopes are shorter */
    r->hops[r->hops_count++] = (struct resolve_own_hop) {
        .kind = hop->kind,
        .name = (uint16_t)place,
        .port = hop->port,
        .trusted = hop->trusted,
        .address = hop->address,
        .self_rank = NO_RANK,
    };
}

int resolve_start(struct resolves *resolves, const struct resolve_policy *policy,
                  const struct resolve_hop *hops, unsigned hops_count,
                  struct resolve_request *request)
{
    CHECK(request->resolve == NULL);
    CHECK(hops_count > 0);
    CHECK(hops_count <= RESOLVE_HOPS_MAX);
    CHECK(policy->total_ms > 0);
    CHECK(policy->own_names_count <= RESOLVE_OWN_NAMES_MAX);
    CHECK(!policy->no_ipv4 || !policy->no_ipv6);
    struct resolve *r = pool_take(&resolves->pool);
    if (r == NULL)
        return -ENOBUFS;
    memset(r, 0, offsetof(struct resolve, hops)); /* the rest is written before it is read */
    r->resolves = resolves;
    r->request = request;
    r->policy = *policy;
    r->policy.own_names = r->own_names;
    for (unsigned i = 0; i < policy->own_names_count; i++)
        r->own_names[i] = policy->own_names[i];
    r->ttl_s = UINT32_MAX;
    for (unsigned i = 0; i < hops_count; i++)
        copy_hop(r, &hops[i]);
    task_init(&r->task, resolve_run);
    timer_init(&r->timer, resolve_on_timer);
    shard_timer_arm(resolves->shard, &r->timer, policy->total_ms);
    request->resolve = r;
    metric_add(&resolves->numbers.started, 1);
    shard_run_later(resolves->shard, &r->task);
    return 0;
}

void resolve_forget(struct resolves *resolves, struct resolve_request *request)
{
    struct resolve *r = request->resolve;
    if (r == NULL)
        return;
    CHECK(r->resolves == resolves);
    request->resolve = NULL;
    resolve_drop(r);
}
