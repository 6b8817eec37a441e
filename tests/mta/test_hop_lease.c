/*
 * test_hop_lease.c - what domains with the same MX hosts share: connections, limits, back-off
 */
#include "tests/mta/deliver_world.h"

enum { SEEDS = 3 };
#define EACH_SEED(seed) for (uint64_t seed = 1; seed <= SEEDS; seed++)
#define CALM_RETRY "delivery { retry-initial = \"10m\" retry-max = \"1h\" age-max = \"2d\" }"
#define TO_X "outbound \"x\" { type = partner state = enforce domains = { x.test } hosts = { mx } "

static enum hop_bind binds(struct deliver_world *w, const char *key)
{
    char words[HOP_BINDS_WORDS_MAX];
    const enum hop_bind bind = hop_binds(queue_destination(&w->queue, key, strlen(key)), words);
    cr_assert((words[0] != '\0') == (bind != HOP_BINDS_NOTHING));
    return bind;
}

/* x.test, y.test and z.test, all by one MX host. */
static struct sim_actor *hop_of_three(struct deliver_world *w)
{
    struct sim_actor *hop = deliver_hop(w, "9.9.8.2");
    sim_dns_a(w->names, "mx.host.test", "9.9.8.2");
    sim_dns_mx(w->names, "x.test", 10, "mx.host.test");
    sim_dns_mx(w->names, "y.test", 20, "MX.host.test");
    sim_dns_mx(w->names, "z.test", 5, "mx.host.test");
    return hop;
}

Test(hop_lease, domains_with_the_same_mx_hosts_share_connections)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(seed, "delivery { connections-per-hop = 3 }");
        (void)hop_of_three(w);
        for (unsigned i = 0; i < 30; i++) {
            deliver_mail(w, "xy", 500);
            deliver_mail(w, "z", 500);
        }
        cr_assert(deliver_until_empty(w, 10 * MINUTE_MS));
        cr_assert_leq(sim_connections_most(w->sim, deliver_address("9.9.8.2:25")), 3);
        cr_assert_eq(sim_ledger_balance(w->ledger).delivered, 90);
        deliver_world_free(w);
    }
}

/* Domain after domain, and all at once with fewer connections than domains. */
Test(hop_lease, a_connection_goes_on_with_the_mail_of_another_domain)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(seed, "delivery { connections-per-hop = 1 }");
        struct sim_actor *hop = hop_of_three(w);
        for (unsigned i = 0; i < 4; i++) {
            deliver_mail(w, "x", 500);
            deliver_world_run(w, 1'000);
            deliver_mail(w, "y", 500);
            deliver_world_run(w, 1'000);
        }
        cr_assert_eq(sim_hop_connections(hop), 1);
        cr_assert_geq(w->deliver.metrics.links_passed, 7);
        for (unsigned i = 0; i < 10; i++)
            deliver_mail(w, "xyz", 500);
        cr_assert(deliver_until_empty(w, MINUTE_MS));
        cr_assert_eq(sim_hop_connections(hop), 1, "%u", sim_hop_connections(hop));
        cr_assert_eq(sim_ledger_balance(w->ledger).delivered, 38);
        cr_assert_eq(sim_ledger_balance(w->ledger).duplicates, 0);
        deliver_world_free(w);
    }
}

/* The other host is preferred there: a connection to the second best one is none for it. */
Test(hop_lease, a_connection_to_a_host_that_comes_later_is_not_taken)
{
    struct deliver_world *w = deliver_world_new(3, CALM_RETRY);
    struct sim_actor *first = deliver_hop(w, "9.9.8.2");
    struct sim_actor *second = deliver_hop(w, "9.9.8.3");
    sim_dns_a(w->names, "a.host.test", "9.9.8.2");
    sim_dns_a(w->names, "b.host.test", "9.9.8.3");
    sim_dns_mx(w->names, "x.test", 10, "a.host.test");
    sim_dns_mx(w->names, "x.test", 20, "b.host.test");
    sim_dns_mx(w->names, "y.test", 20, "a.host.test");
    sim_dns_mx(w->names, "y.test", 10, "b.host.test");
    deliver_mail(w, "x", 500);
    deliver_world_run(w, 1'000);
    deliver_mail(w, "y", 500);
    deliver_world_run(w, 1'000);
    cr_assert_eq(w->queue.metrics.messages, 0);
    cr_assert_eq(sim_hop_connections(first), 1);
    cr_assert_eq(sim_hop_connections(second), 1);
    cr_assert_eq(w->deliver.metrics.links_passed, 0);
    deliver_world_free(w);
}

/* So many messages by one connection, whosever they are. */
Test(hop_lease, messages_per_connection_are_bounded_over_all_domains)
{
    struct deliver_world *w =
        deliver_world_new(19, "delivery { connections-per-hop = 1 messages-per-connection = 7 }");
    struct sim_actor *hop = deliver_hop(w, "9.9.8.2");
    sim_dns_a(w->names, "mx.host.test", "9.9.8.2");
    sim_dns_mx(w->names, "x.test", 10, "mx.host.test");
    sim_dns_mx(w->names, "y.test", 10, "mx.host.test");
    for (unsigned i = 0; i < 10; i++)
        deliver_mail(w, "xy", 500);
    cr_assert(deliver_until_empty(w, 10 * MINUTE_MS));
    cr_assert_eq(sim_hop_connections(hop), 3);
    cr_assert_gt(w->deliver.metrics.links_passed, 0);
    deliver_world_free(w);
}

Test(hop_lease, a_dead_site_costs_one_probe_whatever_domains_it_has)
{
    struct deliver_world *w = deliver_world_new(
        20, "delivery { retry-initial = \"10m\" retry-max = \"1h\" delay-warning = 0 }");
    (void)deliver_hop(w, "9.9.8.2");
    sim_dns_a(w->names, "mx.host.test", "9.9.8.2");
    sim_dns_mx(w->names, "x.test", 10, "mx.host.test");
    sim_dns_mx(w->names, "y.test", 10, "mx.host.test");
    sim_dns_mx(w->names, "z.test", 10, "mx.host.test");
    sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_REFUSES);
    for (unsigned i = 0; i < 20; i++)
        deliver_mail(w, "xyz", 500);
    deliver_world_run(w, MINUTE_MS);
    cr_assert_eq(binds(w, "mx:x.test"), HOP_BINDS_BACK_OFF);
    cr_assert_eq(binds(w, "mx:y.test"), HOP_BINDS_BACK_OFF);
    const uint64_t before = sim_count(w->sim, w->us, SIM_CONNECT);
    deliver_world_run(w, 6 * HOUR_MS);
    const uint64_t tries = sim_count(w->sim, w->us, SIM_CONNECT) - before;
    cr_assert_leq(tries, 10, "%lu", tries);
    cr_assert_geq(tries, 5);
    sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_UP);
    cr_assert(deliver_until_empty(w, 2 * HOUR_MS));
    cr_assert_eq(binds(w, "mx:x.test"), HOP_BINDS_NOTHING);
    deliver_world_free(w);
}

/* A next hop that gives way to another one while its site's back-off is over, and one connection
 * looks whether it works: nobody tells it of what comes of that, so a timer must bring it back. */
Test(hop_lease, nobody_is_forgotten_when_there_are_few_next_hops)
{
    struct deliver_world *w = deliver_world_new(
        23, "delivery { retry-initial = \"10m\" retry-max = \"10m\" retry-jitter = 0 "
            "delay-warning = 0 connect-timeout = \"2m\" }");
    (void)deliver_hop(w, "9.9.8.2");
    (void)deliver_domain(w, "z.test", "9.9.8.3");
    sim_dns_a(w->names, "mx.host.test", "9.9.8.2");
    sim_dns_mx(w->names, "x.test", 10, "mx.host.test");
    sim_dns_mx(w->names, "y.test", 10, "mx.host.test");
    sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_BLACKHOLE);
    deliver_mail(w, "xy", 500);
    deliver_world_run(w, MINUTE_MS);
    struct destination *x = queue_destination(&w->queue, "mx:x.test", strlen("mx:x.test"));
    struct destination *y = queue_destination(&w->queue, "mx:y.test", strlen("mx:y.test"));
    const struct destination *told = NULL;
    for (unsigned i = 0; i < 60 && told == NULL; i++) { /* one of the two looks, the other waits */
        deliver_world_run(w, MINUTE_MS);
        const uint64_t now_ms = w->shard.now_ms;
        if (x->retry_ms > now_ms || y->retry_ms > now_ms || x->failures == 0 || y->failures == 0)
            continue;
        const struct next_hop *of_x = x->owner;
        const struct next_hop *of_y = y->owner;
        if (of_x != NULL && of_y != NULL && of_x->links_count + of_y->links_count == 1)
            told = of_x->links_count == 0 ? x : y;
    }
    cr_assert_not_null(told);
    void *taken[4'096];
    unsigned count = 0;
    while (w->deliver.hops.used < w->deliver.hops.count && count < ARRAY_COUNT(taken))
        taken[count++] = pool_take(&w->deliver.hops);
    deliver_mail(w, "z", 500);
    cr_assert_null(told->owner, "it gave way");
    sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_UP);
    cr_assert(deliver_until_empty(w, 30 * MINUTE_MS));
    while (count > 0)
        pool_give(&w->deliver.hops, taken[--count]);
    deliver_world_free(w);
}

/* All of them go when it works again, also those that have no next hop and once heard of a back-off
 * that is not over; none is forgotten, and none of them looks by itself. */
Test(hop_lease, many_domains_of_a_site_that_comes_back_go_at_once)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(
            seed, "delivery { retry-initial = \"10m\" retry-max = \"1h\" delay-warning = 0 "
                  "connections-per-hop = 2 }");
        (void)deliver_hop(w, "9.9.8.2");
        sim_dns_a(w->names, "mx.host.test", "9.9.8.2");
        deliver_many_domains(w, "mx.host.test");
        sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_REFUSES);
        void *taken[4'096];
        unsigned count = 0;
        while (w->deliver.hops.used + 5 < w->deliver.hops.count && count < ARRAY_COUNT(taken))
            taken[count++] = pool_take(&w->deliver.hops);
        for (int letter = 'A'; letter <= 'Z'; letter++) {
            const char to[] = { (char)letter, '\0' };
            deliver_mail(w, to, 500);
            deliver_mail(w, to, 500);
        }
        deliver_world_run(w, 6 * HOUR_MS);
        cr_assert_leq(sim_count(w->sim, w->us, SIM_CONNECT), 14, "%lu",
                      sim_count(w->sim, w->us, SIM_CONNECT));
        sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_UP);
        for (unsigned i = 0; i < 90 && w->deliver.metrics.delivered == 0; i++)
            deliver_world_run(w, MINUTE_MS);
        cr_assert(deliver_until_empty(w, MINUTE_MS), "%lu are left", w->queue.metrics.messages);
        cr_assert_leq(sim_connections_most(w->sim, deliver_address("9.9.8.2:25")), 2);
        while (count > 0)
            pool_give(&w->deliver.hops, taken[--count]);
        deliver_world_free(w);
    }
}

/* An operator's word about a destination that has given way: it hears of the back-off anew, and
 * that is one that he has ended. */
Test(hop_lease, an_order_reaches_a_destination_without_a_next_hop)
{
    struct deliver_world *w = deliver_world_new(24, CALM_RETRY);
    (void)deliver_hop(w, "9.9.8.2");
    (void)deliver_domain(w, "z.test", "9.9.8.3");
    sim_dns_a(w->names, "mx.host.test", "9.9.8.2");
    sim_dns_mx(w->names, "x.test", 10, "mx.host.test");
    sim_dns_mx(w->names, "y.test", 10, "mx.host.test");
    sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_REFUSES);
    const uint32_t to_x = deliver_mail(w, "x", 500);
    const uint32_t to_y = deliver_mail(w, "y", 500);
    deliver_world_run(w, MINUTE_MS);
    struct destination *x = queue_destination(&w->queue, "mx:x.test", strlen("mx:x.test"));
    struct destination *y = queue_destination(&w->queue, "mx:y.test", strlen("mx:y.test"));
    cr_assert_gt(MIN(x->retry_ms, y->retry_ms), w->shard.now_ms + 5ULL * MINUTE_MS);
    void *taken[4'096];
    unsigned count = 0;
    while (w->deliver.hops.used < w->deliver.hops.count && count < ARRAY_COUNT(taken))
        taken[count++] = pool_take(&w->deliver.hops);
    deliver_mail(w, "z", 500);
    struct destination *gone = x->owner == NULL ? x : y;
    cr_assert_null(gone->owner);
    sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_UP);
    queue_destination_retry(&w->queue, gone, w->shard.now_ms);
    deliver_world_run(w, MINUTE_MS);
    cr_assert_eq(deliver_of(w, gone == x ? to_x : to_y, 0)->delivered, 1);
    cr_assert(deliver_until_empty(w, HOUR_MS));
    while (count > 0)
        pool_give(&w->deliver.hops, taken[--count]);
    deliver_world_free(w);
}

Test(hop_lease, what_mail_waits_for_can_be_told)
{
    struct deliver_world *w = deliver_world_new(21, "delivery { connections-per-hop = 2 }\n" TO_X
                                                    "tls = none max-rate = 6 }");
    struct sim_actor *hop = deliver_domain(w, "y.test", "9.9.8.3");
    (void)deliver_domain(w, "x.test", "9.9.8.2");
    sim_hop_options(hop)->delay_max_ms = 3'000;
    for (unsigned i = 0; i < 20; i++)
        deliver_mail(w, "xy", 500);
    deliver_world_run(w, 30'000);
    cr_assert_eq(binds(w, "outbound:x:x.test"), HOP_BINDS_RATE);
    cr_assert_eq(binds(w, "mx:y.test"), HOP_BINDS_CONNECTIONS);
    cr_assert(deliver_until_empty(w, HOUR_MS));
    deliver_world_free(w);
}

/* Each has a connection, wants more of them, and there are none: it takes what there is. */
Test(hop_lease, connections_that_wait_for_a_token_do_not_wait_for_others)
{
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct deliver_world *w = deliver_world_new(
            seed,
            "delivery { connections-per-hop = 3 idle-timeout = 1h }\n"
            "outbound \"x\" { type = partner state = enforce domains = { x.test, y.test, z.test } "
            "hosts = { mx } tls = none max-rate = 300 }");
        struct sim_actor *hop = hop_of_three(w);
        sim_hop_options(hop)->delay_max_ms = 100;
        for (unsigned i = 0; i < 400; i++) {
            const char to[] = { (char)('x' + random_below(&w->shard.random, 3)), '\0' };
            deliver_mail(w, to, 500);
            deliver_world_run(w, random_below(&w->shard.random, 300));
        }
        cr_assert(deliver_until_empty(w, MINUTE_MS), "seed %lu: %lu wait", seed,
                  w->queue.metrics.messages);
        deliver_world_free(w);
    }
}
