/*
 * test_resolve.c - next hops to addresses: against a table of DNS answers, without ring or clock
 *
 * The shard is a bare one whose tasks and timers the test runs itself.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "mta/resolve.h"

/* ---- a resolver that reads from a table ---- */

struct row {
    const char *name;
    enum dns_type type;
    enum dns_status status;
    uint16_t preference;
    const char *data;
    unsigned cnames;
};

enum { QUERIES_MAX = 64 };

struct table {
    const struct row *rows;
    unsigned count;
    bool mute; /* answers nothing */
    bool secure;
    struct {
        struct dns_query *query;
        char name[DNS_NAME_MAX];
        enum dns_type type;
    } pending[QUERIES_MAX];
    unsigned pending_count, pending_most, asked, forgotten;
};

static void table_ask(void *resolver, struct dns_query *query, const char *name, enum dns_type type)
{
    struct table *table = resolver;
    cr_assert_lt(table->pending_count, QUERIES_MAX);
    table->pending[table->pending_count].query = query;
    table->pending[table->pending_count].type = type;
    snprintf(table->pending[table->pending_count].name, DNS_NAME_MAX, "%s", name);
    table->pending_count++;
    table->asked++;
    table->pending_most = MAX(table->pending_most, table->pending_count);
}

static void table_forget(void *resolver, struct dns_query *query)
{
    struct table *table = resolver;
    for (unsigned i = 0; i < table->pending_count; i++)
        if (table->pending[i].query == query) {
            table->pending[i] = table->pending[--table->pending_count];
            table->forgotten++;
            return;
        }
}

static const struct dns_ops table_ops = { .ask = table_ask, .forget = table_forget };

static bool table_answer(struct table *table)
{
    if (table->pending_count == 0 || table->mute)
        return false;
    /* The latest question first, so that answers come out of order. */
    unsigned last = --table->pending_count;
    struct dns_query *query = table->pending[last].query;
    enum dns_type type = table->pending[last].type;
    char name[DNS_NAME_MAX];
    snprintf(name, sizeof(name), "%s", table->pending[last].name);

    struct dns_record records[DNS_RECORDS_MAX];
    uint8_t octets[DNS_RECORDS_MAX][16];
    struct dns_answer answer = {
        .status = DNS_NXDOMAIN, .ttl_s = 60, .secure = table->secure, .canonical = name
    };
    for (unsigned i = 0; i < table->count; i++) {
        const struct row *row = &table->rows[i];
        if (strcmp(row->name, name) != 0)
            continue;
        if (answer.status == DNS_NXDOMAIN)
            answer.status = DNS_NODATA;
        if (row->type != type || answer.count == DNS_RECORDS_MAX)
            continue;
        answer.status = row->status;
        answer.cnames = row->cnames;
        answer.ttl_s = 300;
        if (row->status != DNS_OK)
            break;
        struct dns_record *record = &records[answer.count];
        *record = (struct dns_record) { .preference = row->preference };
        if (type == DNS_MX) {
            record->data = (const uint8_t *)row->data;
            record->size = (uint16_t)strlen(row->data);
        } else {
            struct net_address address;
            cr_assert_eq(net_parse(slice_of_string(row->data), 0, &address), 0);
            record->size = type == DNS_A ? 4 : 16;
            memcpy(octets[answer.count], address.octets + 16 - record->size, record->size);
            record->data = octets[answer.count];
        }
        answer.count++;
    }
    answer.records = records;
    query->answered(query, &answer);
    memset(octets, 0xee, sizeof(octets)); /* good until the callback returns, and no longer */
    return true;
}

/* ---- a world ---- */

struct world {
    struct shard shard;
    struct table table;
    struct dns dns;
    struct resolves resolves;
    struct resolve_request request;
    struct resolve_policy policy;
    bool done;
    struct resolve_result result;
    struct resolve_target targets[RESOLVE_TARGETS_MAX];
    char hosts[RESOLVE_TARGETS_MAX][DNS_NAME_MAX];
    char why[RESOLVE_WHY_MAX];
};

static void world_resolved(struct resolve_request *request, const struct resolve_result *result)
{
    struct world *w = container_of(request, struct world, request);
    cr_assert(!w->done);
    cr_assert_leq(result->count, RESOLVE_TARGETS_MAX);
    w->done = true;
    w->result = *result;
    for (unsigned i = 0; i < result->count; i++) {
        w->targets[i] = result->targets[i];
        snprintf(w->hosts[i], DNS_NAME_MAX, "%s", result->targets[i].host);
    }
    if (result->verdict != RESOLVE_FOUND) {
        cr_assert_not_null(result->why);
        cr_assert_neq(result->enhanced.klass, 0);
        snprintf(w->why, sizeof(w->why), "%s", result->why);
    }
}

static void world_init(struct world *w, const struct row *rows, unsigned count)
{
    *w = (struct world) { .table = { .rows = rows, .count = count } };
    timers_init(&w->shard.timers, 0);
    random_seed(&w->shard.random, 7);
    list_init(&w->shard.runnable);
    list_init(&w->shard.hooks);
    w->dns = (struct dns) { &table_ops, &w->table };
    w->request.resolved = world_resolved;
    w->policy = (struct resolve_policy) { .port = 25, .total_ms = 30'000 };
    cr_assert_eq(resolves_init(&w->resolves, &w->shard, &w->dns, 2), 0);
}

#define WORLD(w, ...)                                                                              \
    static const struct row rows_of_##w[] = { __VA_ARGS__ };                                       \
    static struct world w;                                                                         \
    world_init(&w, rows_of_##w, ARRAY_COUNT(rows_of_##w))

static void world_tasks(struct world *w)
{
    struct list *node;
    while ((node = list_pop(&w->shard.runnable)) != NULL) {
        struct task *task = container_of(node, struct task, node);
        task->run(task);
    }
}

static void world_run(struct world *w)
{
    do
        world_tasks(w);
    while (table_answer(&w->table));
}

static void world_hops(struct world *w, const struct resolve_hop *hops, unsigned count)
{
    w->done = false;
    const char *own_names[4];
    struct resolve_policy policy = w->policy;
    for (unsigned i = 0; i < policy.own_names_count; i++)
        own_names[i] = policy.own_names[i];
    policy.own_names = own_names;
    cr_assert_eq(resolve_start(&w->resolves, &policy, hops, count, &w->request), 0);
    memset(&policy, 0xee, sizeof(policy)); /* it was copied */
    memset(own_names, 0xee, sizeof(own_names));
    cr_assert(!w->done, "no callback from within");
    world_run(w);
}

static void world_mx(struct world *w, const char *domain)
{
    struct resolve_hop hop = { .kind = RESOLVE_MX, .name = domain };
    world_hops(w, &hop, 1);
    cr_assert(w->done);
    cr_assert_null(w->request.resolve);
    cr_assert_eq(w->resolves.pool.used, 0);
    cr_assert_eq(w->table.pending_count, 0);
}

static void expect_failure(struct world *w, enum resolve_verdict verdict, uint8_t klass,
                           uint16_t subject, uint16_t detail)
{
    cr_assert_eq(w->result.verdict, verdict, "%s", w->why);
    cr_assert_eq(w->result.count, 0);
    cr_assert_eq(w->result.enhanced.klass, klass, "%s", w->why);
    cr_assert_eq(w->result.enhanced.subject, subject, "%s", w->why);
    cr_assert_eq(w->result.enhanced.detail, detail, "%s", w->why);
}

static void expect_target(struct world *w, unsigned index, const char *host, const char *address)
{
    char text[NET_TEXT_MAX];
    cr_assert_eq(w->result.verdict, RESOLVE_FOUND, "%s", w->why);
    cr_assert_lt(index, w->result.count);
    net_text(&w->targets[index].address, true, text);
    cr_assert_str_eq(text, address);
    cr_assert_str_eq(w->hosts[index], host);
}

/* ---- what leads nowhere ---- */

Test(resolve, failed_lookups_of_the_mx_are_temporary_and_never_an_implicit_mx)
{
    WORLD(w, { "servfail.example", DNS_MX, DNS_SERVFAIL, 0, NULL, 0 },
          { "servfail.example", DNS_A, DNS_OK, 0, "198.51.101.1", 0 },
          { "timeout.example", DNS_MX, DNS_TIMEOUT, 0, NULL, 0 },
          { "timeout.example", DNS_A, DNS_OK, 0, "198.51.101.1", 0 },
          { "bogus.example", DNS_MX, DNS_BOGUS, 0, NULL, 0 },
          { "bogus.example", DNS_A, DNS_OK, 0, "198.51.101.1", 0 });
    static const char *const domains[] = { "servfail.example", "timeout.example", "bogus.example" };
    for (unsigned i = 0; i < 3; i++) {
        world_mx(&w, domains[i]);
        expect_failure(&w, RESOLVE_TEMPORARY, 4, 4, 3);
    }
    cr_assert_eq(w.table.asked, 3);
}

Test(resolve, a_domain_that_does_not_exist_is_permanent)
{
    WORLD(w, { "other.example", DNS_A, DNS_OK, 0, "198.51.101.1", 0 });
    world_mx(&w, "gone.example");
    expect_failure(&w, RESOLVE_PERMANENT, 5, 1, 2);
    cr_assert_eq(w.result.ttl_s, 60);
}

Test(resolve, null_mx_is_556_and_asks_no_further)
{
    WORLD(w, { "null.example", DNS_MX, DNS_OK, 0, "", 0 },
          { "null.example", DNS_A, DNS_OK, 0, "198.51.101.1", 0 });
    world_mx(&w, "null.example");
    expect_failure(&w, RESOLVE_PERMANENT, 5, 1, 10);
    cr_assert_eq(w.result.code, 556);
    cr_assert_eq(w.table.asked, 1);
    cr_assert_eq(w.resolves.numbers.null_mx, 1);
}

Test(resolve, hosts_without_addresses_are_permanent_with_a_failed_one_temporary)
{
    WORLD(w, { "none.example", DNS_MX, DNS_OK, 10, "a.none.example", 0 },
          { "half.example", DNS_MX, DNS_OK, 10, "a.none.example", 0 },
          { "half.example", DNS_MX, DNS_OK, 20, "b.half.example", 0 },
          { "b.half.example", DNS_AAAA, DNS_SERVFAIL, 0, NULL, 0 });
    world_mx(&w, "none.example");
    expect_failure(&w, RESOLVE_PERMANENT, 5, 4, 4);
    world_mx(&w, "half.example");
    expect_failure(&w, RESOLVE_TEMPORARY, 4, 4, 3);
}

Test(resolve, no_mx_and_no_address_is_permanent)
{
    WORLD(w, { "empty.example", DNS_TXT, DNS_OK, 0, "192.0.2.1", 0 });
    world_mx(&w, "empty.example");
    expect_failure(&w, RESOLVE_PERMANENT, 5, 4, 4);
}

Test(resolve, too_many_cnames_are_an_error)
{
    WORLD(w, { "mx.example", DNS_MX, DNS_OK, 10, "alias.example", 9 },
          { "host.example", DNS_MX, DNS_OK, 10, "alias.example", 8 },
          { "alias.example", DNS_A, DNS_OK, 0, "198.51.101.1", 9 });
    world_mx(&w, "mx.example");
    expect_failure(&w, RESOLVE_TEMPORARY, 4, 4, 3);
    world_mx(&w, "host.example");
    expect_failure(&w, RESOLVE_TEMPORARY, 4, 4, 3);
    cr_assert_not_null(strstr(w.why, "CNAME"), "%s", w.why);
}

Test(resolve, private_addresses_from_public_dns_are_refused_unless_allowed)
{
    WORLD(w, { "lo.example", DNS_MX, DNS_OK, 10, "localhost.lo.example", 0 },
          { "localhost.lo.example", DNS_A, DNS_OK, 0, "127.0.0.1", 0 },
          { "localhost.lo.example", DNS_AAAA, DNS_OK, 0, "::1", 0 },
          { "ten.example", DNS_MX, DNS_OK, 10, "mx.ten.example", 0 },
          { "mx.ten.example", DNS_A, DNS_OK, 0, "10.1.2.3", 0 });
    world_mx(&w, "lo.example");
    expect_failure(&w, RESOLVE_PERMANENT, 5, 4, 4);
    cr_assert_eq(w.resolves.numbers.refused_addresses, 2);
    world_mx(&w, "[127.0.0.1]");
    expect_failure(&w, RESOLVE_PERMANENT, 5, 4, 4);
    world_mx(&w, "[IPv6:::1]");
    expect_failure(&w, RESOLVE_PERMANENT, 5, 4, 4);
    world_mx(&w, "ten.example");
    expect_failure(&w, RESOLVE_PERMANENT, 5, 4, 4);

    struct net_prefix ten;
    cr_assert_eq(net_parse_prefix(SLICE("10.0.0.0/8"), &ten), 0);
    w.policy.allowed = &ten;
    w.policy.allowed_count = 1;
    world_mx(&w, "ten.example");
    expect_target(&w, 0, "mx.ten.example", "10.1.2.3:25");
    world_mx(&w, "lo.example");
    expect_failure(&w, RESOLVE_PERMANENT, 5, 4, 4);

    struct resolve_hop hop = { .kind = RESOLVE_MX, .name = "lo.example", .trusted = true };
    world_hops(&w, &hop, 1);
    cr_assert_eq(w.result.count, 2);
}

Test(resolve, mx_at_ourselves_is_a_loop)
{
    WORLD(w, { "loop.example", DNS_MX, DNS_OK, 10, "mx.us.example", 0 },
          { "loop.example", DNS_MX, DNS_OK, 10, "a.example", 0 },
          { "loop.example", DNS_MX, DNS_OK, 20, "b.example", 0 },
          { "byip.example", DNS_MX, DNS_OK, 10, "c.example", 0 },
          { "byip.example", DNS_MX, DNS_OK, 20, "a.example", 0 },
          { "implicit.example", DNS_A, DNS_OK, 0, "198.51.101.9", 0 },
          { "c.example", DNS_A, DNS_OK, 0, "198.51.101.9", 0 },
          { "a.example", DNS_A, DNS_OK, 0, "198.51.101.1", 0 },
          { "b.example", DNS_A, DNS_OK, 0, "198.51.101.2", 0 });
    static const char *const names[] = { "MX.us.example" };
    struct net_address own;
    cr_assert_eq(net_parse(SLICE("198.51.101.9:25"), 0, &own), 0);
    w.policy.own_names = names;
    w.policy.own_names_count = 1;
    w.policy.own = &own;
    w.policy.own_count = 1;
    world_mx(&w, "loop.example");
    expect_failure(&w, RESOLVE_PERMANENT, 5, 4, 6);
    cr_assert_eq(w.table.asked, 1, "nobody behind us is asked about");
    world_mx(&w, "byip.example");
    expect_failure(&w, RESOLVE_PERMANENT, 5, 4, 6);
    world_mx(&w, "implicit.example");
    expect_failure(&w, RESOLVE_PERMANENT, 5, 4, 6);
    cr_assert_eq(w.resolves.numbers.loops, 3);

    /* From public DNS our address is a loop on any port; an operator may mean somebody beside us.
     */
    w.policy.port = 2525;
    world_mx(&w, "implicit.example");
    expect_failure(&w, RESOLVE_PERMANENT, 5, 4, 6);
    struct resolve_hop beside = { .kind = RESOLVE_HOST,
                                  .name = "implicit.example",
                                  .trusted = true };
    world_hops(&w, &beside, 1);
    expect_target(&w, 0, "implicit.example", "198.51.101.9:2525");

    /* A route that leads to us: the operator can mend it, the mail waits. */
    struct resolve_hop hop = {
        .kind = RESOLVE_ADDRESS, .address = own, .port = 25, .trusted = true
    };
    world_hops(&w, &hop, 1);
    expect_failure(&w, RESOLVE_TEMPORARY, 4, 4, 6);
}

Test(resolve, only_hosts_better_than_ourselves_are_kept)
{
    WORLD(w, { "backup.example", DNS_MX, DNS_OK, 5, "a.example", 0 },
          { "backup.example", DNS_MX, DNS_OK, 10, "mx.us.example", 0 },
          { "backup.example", DNS_MX, DNS_OK, 10, "b.example", 0 },
          { "backup.example", DNS_MX, DNS_OK, 20, "b.example", 0 },
          { "down.example", DNS_MX, DNS_OK, 5, "fails.example", 0 },
          { "down.example", DNS_MX, DNS_OK, 10, "mx.us.example", 0 },
          { "fails.example", DNS_A, DNS_SERVFAIL, 0, NULL, 0 },
          { "a.example", DNS_A, DNS_OK, 0, "198.51.101.1", 0 },
          { "b.example", DNS_A, DNS_OK, 0, "198.51.101.2", 0 });
    static const char *const names[] = { "mx.us.example" };
    w.policy.own_names = names;
    w.policy.own_names_count = 1;
    world_mx(&w, "backup.example");
    cr_assert_eq(w.result.count, 1);
    expect_target(&w, 0, "a.example", "198.51.101.1:25");
    /* The better one cannot be found just now: that is no loop. */
    world_mx(&w, "down.example");
    expect_failure(&w, RESOLVE_TEMPORARY, 4, 4, 3);
}

Test(resolve, silence_ends_at_the_deadline_with_what_is_there)
{
    WORLD(w, { "d.example", DNS_MX, DNS_OK, 10, "a.example", 0 },
          { "a.example", DNS_A, DNS_OK, 0, "198.51.101.1", 0 });
    struct resolve_hop hops[] = { { .kind = RESOLVE_MX, .name = "d.example" } };
    w.table.mute = true;
    world_hops(&w, hops, 1);
    timers_run(&w.shard.timers, 29'999);
    world_tasks(&w);
    cr_assert(!w.done);
    timers_run(&w.shard.timers, 30'000);
    world_tasks(&w);
    cr_assert(w.done);
    expect_failure(&w, RESOLVE_TEMPORARY, 4, 4, 3);
    cr_assert_eq(w.table.forgotten, 1);
    cr_assert_eq(w.table.pending_count, 0);

    struct resolve_hop mixed[] = { { .kind = RESOLVE_HOST, .name = "a.example" },
                                   { .kind = RESOLVE_ADDRESS, .trusted = true } };
    cr_assert_eq(net_parse(SLICE("10.0.0.1"), 0, &mixed[1].address), 0);
    w.shard.now_ms = 30'000;
    world_hops(&w, mixed, 2);
    timers_run(&w.shard.timers, 60'000);
    world_tasks(&w);
    cr_assert(w.done);
    cr_assert_eq(w.result.count, 1);
    expect_target(&w, 0, "10.0.0.1", "10.0.0.1:25");
    cr_assert_eq(w.resolves.pool.used, 0);
}

Test(resolve, a_full_pool_says_so)
{
    WORLD(w, { "d.example", DNS_MX, DNS_OK, 10, "a.example", 0 });
    struct resolve_hop hop = { .kind = RESOLVE_MX, .name = "d.example" };
    struct resolve_request requests[3] = { 0 };
    for (unsigned i = 0; i < 2; i++) {
        requests[i].resolved = world_resolved;
        cr_assert_eq(resolve_start(&w.resolves, &w.policy, &hop, 1, &requests[i]), 0);
    }
    cr_assert_eq(resolve_start(&w.resolves, &w.policy, &hop, 1, &requests[2]), -ENOBUFS);
    for (unsigned i = 0; i < 3; i++)
        resolve_forget(&w.resolves, &requests[i]);
    world_run(&w);
    cr_assert(!w.done);
    cr_assert_eq(w.resolves.pool.used, 0);
}

Test(resolve, forgotten_in_the_middle_nobody_is_called)
{
    WORLD(w, { "d.example", DNS_MX, DNS_OK, 10, "a.example", 0 },
          { "a.example", DNS_A, DNS_OK, 0, "198.51.101.1", 0 });
    struct resolve_hop hop = { .kind = RESOLVE_MX, .name = "d.example" };
    for (unsigned answers = 0; answers < 3; answers++) {
        w.done = false;
        cr_assert_eq(resolve_start(&w.resolves, &w.policy, &hop, 1, &w.request), 0);
        world_tasks(&w);
        for (unsigned i = 0; i < answers; i++) {
            cr_assert(table_answer(&w.table));
            world_tasks(&w);
        }
        cr_assert(!w.done);
        resolve_forget(&w.resolves, &w.request);
        cr_assert_eq(w.table.pending_count, 0);
        world_run(&w);
        cr_assert(!w.done);
    }
}

/* ---- what can be reached ---- */

Test(resolve, implicit_mx_when_there_is_none)
{
    WORLD(w, { "plain.example", DNS_A, DNS_OK, 0, "198.51.101.1", 0 },
          { "plain.example", DNS_AAAA, DNS_OK, 0, "2a00::1", 0 },
          { "v6.example", DNS_AAAA, DNS_OK, 0, "2a00::2", 0 });
    world_mx(&w, "plain.example");
    cr_assert_eq(w.result.count, 2);
    cr_assert_str_eq(w.hosts[0], "plain.example");
    world_mx(&w, "v6.example");
    cr_assert_eq(w.result.count, 1);
    expect_target(&w, 0, "v6.example", "[2a00::2]:25");
}

Test(resolve, preferences_in_order_and_families_alternating)
{
    WORLD(w, { "d.example", DNS_MX, DNS_OK, 30, "c.example", 0 },
          { "d.example", DNS_MX, DNS_OK, 10, "a.example", 0 },
          { "d.example", DNS_MX, DNS_OK, 20, "b.example", 0 },
          { "a.example", DNS_A, DNS_OK, 0, "198.51.101.1", 0 },
          { "a.example", DNS_A, DNS_OK, 0, "198.51.101.2", 0 },
          { "a.example", DNS_AAAA, DNS_OK, 0, "2a00::1", 0 },
          { "a.example", DNS_AAAA, DNS_OK, 0, "2a00::2", 0 },
          { "b.example", DNS_A, DNS_OK, 0, "198.51.101.3", 3 },
          { "c.example", DNS_AAAA, DNS_OK, 0, "2a00::4", 0 });
    w.table.secure = true;
    world_mx(&w, "d.example");
    cr_assert_eq(w.result.count, 6);
    for (unsigned i = 0; i < 4; i++)
        cr_assert_str_eq(w.hosts[i], "a.example");
    for (unsigned i = 0; i < 3; i++)
        cr_assert_neq(net_is_v4(&w.targets[i].address), net_is_v4(&w.targets[i + 1].address));
    expect_target(&w, 4, "b.example", "198.51.101.3:25");
    expect_target(&w, 5, "c.example", "[2a00::4]:25");
    cr_assert_eq(w.targets[4].rank, 20);
    cr_assert(w.targets[0].secure);
    cr_assert_eq(w.result.ttl_s, 60); /* the AAAA that b has not */
}

Test(resolve, equal_preferences_are_shuffled)
{
    WORLD(w, { "d.example", DNS_MX, DNS_OK, 10, "a.example", 0 },
          { "d.example", DNS_MX, DNS_OK, 10, "b.example", 0 },
          { "d.example", DNS_MX, DNS_OK, 10, "c.example", 0 },
          { "a.example", DNS_A, DNS_OK, 0, "198.51.101.1", 0 },
          { "b.example", DNS_A, DNS_OK, 0, "198.51.101.2", 0 },
          { "c.example", DNS_A, DNS_OK, 0, "198.51.101.3", 0 });
    unsigned first[3] = { 0 };
    for (unsigned i = 0; i < 300; i++) {
        world_mx(&w, "d.example");
        cr_assert_eq(w.result.count, 3);
        first[w.hosts[0][0] - 'a']++;
    }
    for (unsigned i = 0; i < 3; i++)
        cr_assert_gt(first[i], 60, "%u %u %u", first[0], first[1], first[2]);
}

Test(resolve, one_family_may_be_turned_off)
{
    WORLD(w, { "a.example", DNS_A, DNS_OK, 0, "198.51.101.1", 0 },
          { "a.example", DNS_AAAA, DNS_OK, 0, "2a00::1", 0 });
    w.policy.no_ipv6 = true;
    world_mx(&w, "a.example");
    cr_assert_eq(w.result.count, 1);
    expect_target(&w, 0, "a.example", "198.51.101.1:25");
    cr_assert_eq(w.table.asked, 2);
}

Test(resolve, one_family_that_fails_does_not_hide_the_other)
{
    WORLD(w, { "a.example", DNS_A, DNS_OK, 0, "198.51.101.1", 0 },
          { "a.example", DNS_AAAA, DNS_SERVFAIL, 0, NULL, 0 });
    world_mx(&w, "a.example");
    expect_target(&w, 0, "a.example", "198.51.101.1:25");
}

Test(resolve, a_route_keeps_its_order_ports_and_its_private_hosts)
{
    WORLD(w, { "relay.example", DNS_A, DNS_OK, 0, "10.0.0.7", 0 },
          { "d.example", DNS_MX, DNS_OK, 10, "a.example", 0 },
          { "a.example", DNS_A, DNS_OK, 0, "198.51.101.1", 0 });
    struct resolve_hop hops[] = {
        { .kind = RESOLVE_HOST, .name = "relay.example", .port = 2525, .trusted = true },
        { .kind = RESOLVE_ADDRESS, .port = 24, .trusted = true },
        { .kind = RESOLVE_MX, .name = "null.example" },
        { .kind = RESOLVE_MX, .name = "d.example" },
    };
    cr_assert_eq(net_parse(SLICE("[::1]"), 0, &hops[1].address), 0);
    world_hops(&w, hops, 4);
    cr_assert_eq(w.result.count, 3);
    expect_target(&w, 0, "relay.example", "10.0.0.7:2525");
    expect_target(&w, 1, "::1", "[::1]:24");
    expect_target(&w, 2, "a.example", "198.51.101.1:25");
}

Test(resolve, a_null_mx_among_others_is_passed_over)
{
    WORLD(w, { "d.example", DNS_MX, DNS_OK, 0, "", 0 },
          { "d.example", DNS_MX, DNS_OK, 10, "a.example", 0 },
          { "a.example", DNS_A, DNS_OK, 0, "198.51.101.1", 0 });
    world_mx(&w, "d.example");
    expect_target(&w, 0, "a.example", "198.51.101.1:25");
}

Test(resolve, huge_answers_are_bounded)
{
    /* 120 MX hosts in falling preference order, each with 10 addresses of both families. */
    static struct row rows[120 + 120 * 20];
    static char names[120][32], v4[120 * 10][24], v6[120 * 10][24];
    unsigned count = 0;
    for (unsigned i = 0; i < 120; i++) {
        snprintf(names[i], sizeof(names[i]), "h%u.example", i);
        rows[count++] =
            (struct row) { "d.example", DNS_MX, DNS_OK, (uint16_t)(1'000 - i), names[i], 0 };
        for (unsigned k = 0; k < 10; k++) {
            unsigned at = i * 10 + k;
            snprintf(v4[at], sizeof(v4[at]), "198.51.%u.%u", 101 + at / 200, at % 200 + 1);
            snprintf(v6[at], sizeof(v6[at]), "2a00::%x", at + 1);
            rows[count++] = (struct row) { names[i], DNS_A, DNS_OK, 0, v4[at], 0 };
            rows[count++] = (struct row) { names[i], DNS_AAAA, DNS_OK, 0, v6[at], 0 };
        }
    }
    static struct world w;
    world_init(&w, rows, count);
    world_mx(&w, "d.example");
    cr_assert_eq(w.result.count, RESOLVE_TARGETS_MAX);
    cr_assert_str_eq(w.hosts[0], "h119.example");
    cr_assert_leq(w.table.pending_most, 2 * RESOLVE_HOSTS_AT_ONCE);
    cr_assert_eq(w.table.asked, 1 + 2 * RESOLVE_HOSTS_AT_ONCE, "enough after one round");

    /* None has an address: all of those that are kept are asked about, in rounds. */
    static struct row bare[120];
    for (unsigned i = 0; i < 120; i++)
        bare[i] = (struct row) { "d.example", DNS_MX, DNS_OK, (uint16_t)(1'000 - i), names[i], 0 };
    static struct world w2;
    world_init(&w2, bare, 120);
    world_mx(&w2, "d.example");
    expect_failure(&w2, RESOLVE_PERMANENT, 5, 4, 4);
    cr_assert_eq(w2.table.asked, 1 + 2 * RESOLVE_HOSTS_MAX);
    cr_assert_leq(w2.table.pending_most, 2 * RESOLVE_HOSTS_AT_ONCE);
}

/* ---- the pure parts ---- */

Test(resolve, literals)
{
    struct net_address address;
    static const char *const bad[] = { "",        "[]",        "192.0.2.1",    "[192.0.2]",
                                       "[IPv6:]", "[2a00::1]", "[192.0.2.1]x", "[tag:x]" };
    for (unsigned i = 0; i < ARRAY_COUNT(bad); i++)
        cr_assert_eq(resolve_literal(bad[i], &address), -EINVAL, "%s", bad[i]);
    cr_assert_eq(resolve_literal("[192.0.2.1]", &address), 0);
    cr_assert(net_is_v4(&address));
    cr_assert_eq(resolve_literal("[ipv6:2a00::1]", &address), 0);
    cr_assert(!net_is_v4(&address));
}

Test(resolve, rounds_let_no_host_starve_the_others)
{
    struct resolve_found found[12];
    unsigned count = 0;
    for (unsigned host = 0; host < 2; host++)
        for (unsigned i = 0; i < 6; i++)
            found[count++] = (struct resolve_found) { .rank = 10,
                                                      .name = (uint16_t)host,
                                                      .round = (uint16_t)(i / 2),
                                                      .v4 = i % 2,
                                                      .shuffle = 4 + 2 * host };
    found[0].rank = 5;
    resolve_sort_found(found, count);
    cr_assert_eq(found[0].rank, 5);
    static const struct {
        uint16_t name, round;
        bool v4;
    } order[] = { { 0, 0, true }, { 1, 0, false }, { 1, 0, true }, { 0, 1, false },
                  { 0, 1, true }, { 1, 1, false }, { 1, 1, true }, { 0, 2, false },
                  { 0, 2, true }, { 1, 2, false }, { 1, 2, true } };
    for (unsigned i = 0; i < ARRAY_COUNT(order); i++) {
        cr_assert_eq(found[i + 1].name, order[i].name, "at %u", i);
        cr_assert_eq(found[i + 1].round, order[i].round, "at %u", i);
        cr_assert_eq(found[i + 1].v4, order[i].v4, "at %u", i);
    }
}
