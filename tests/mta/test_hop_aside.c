/*
 * test_hop_aside.c - more destinations than next hops: each has its turn, and soon
 */
#include "tests/mta/deliver_world.h"

#define RETRY "delivery { retry-initial = \"10m\" retry-max = \"1h\" "

enum { MANY = 26 };

/* a.many.test to z.many.test on one host, two connections, and so many next hops in memory. */
static struct deliver_world *few_hops(uint64_t seed, uint32_t hops, struct sim_actor **host)
{
    struct deliver_world *w = deliver_world_of(seed, 2, RETRY "}");
    sim_dns_a(w->names, "mx.many.test", "9.9.8.2");
    *host = deliver_hop(w, "9.9.8.2");
    deliver_many_domains(w, "mx.many.test");
    pool_free(&w->deliver.hops);
    cr_assert_eq(pool_init(&w->deliver.hops, "next hops", sizeof(struct next_hop), hops), 0);
    return w;
}

static void mail_to_each(struct deliver_world *w, unsigned messages)
{
    for (unsigned i = 0; i < messages * MANY; i++) {
        const char to[] = { (char)('A' + i % MANY), '\0' };
        deliver_mail(w, to, 500);
    }
}

Test(hop_aside, a_line_for_next_hops_moves_as_they_become_free)
{
    for (uint32_t hops = 3; hops <= 6; hops++) {
        struct sim_actor *host;
        struct deliver_world *w = few_hops(hops, hops, &host);
        sim_hop_options(host)->delay_max_ms = 0;
        mail_to_each(w, 3);
        cr_assert_gt(w->deliver.metrics.in_line, 0);
        cr_assert(deliver_until_empty(w, 4'000), "%u next hops: %lu wait", hops,
                  w->queue.metrics.messages);
        cr_assert_eq(w->deliver.metrics.in_line, 0);
        cr_assert_eq(w->deliver.line.count, 0);
        cr_assert_eq(w->deliver.metrics.destination_failures, 0);
        deliver_world_free(w);
    }
}

/* None of them is of use while the host is down. */
Test(hop_aside, a_line_for_a_host_that_is_down_costs_few_connects_and_goes_on_when_it_is_back)
{
    struct sim_actor *host;
    struct deliver_world *w = few_hops(7, 3, &host);
    const struct net_address *address = deliver_address("9.9.8.2:25");
    sim_host(w->sim, address, SIM_HOST_REFUSES);
    mail_to_each(w, 1);
    deliver_world_run(w, MINUTE_MS);
    cr_assert_leq(sim_count(w->sim, w->us, SIM_CONNECT), 3);
    sim_host(w->sim, address, SIM_HOST_UP);
    cr_assert(deliver_until_empty(w, 20 * MINUTE_MS), "%lu wait", w->queue.metrics.messages);
    deliver_world_free(w);
}

/* After a start all of them are wanted at once. Each asks DNS where its mail goes, hears that it
 * goes where all others' does, and waits: the next one that does so in its place is no nearer. */
Test(hop_aside, a_line_of_one_site_moves_slowly_while_others_have_to_step_aside_for_it)
{
    enum { DOMAINS = 4'000, RUN_MS = 1'000, MOST = 64 * (RUN_MS / 200 + 1) };
    static char names[DOMAINS][32];
    struct deliver_world *w = deliver_world_of(11, 40, RETRY "connections-per-hop = 8 }");
    sim_dns_a(w->names, "mx.many.test", "9.9.8.2");
    (void)deliver_hop(w, "9.9.8.2");
    const struct net_address *address = deliver_address("9.9.8.2:25");
    const unsigned first = w->ledger->domains_count;
    for (unsigned i = 0; i < DOMAINS; i++) {
        snprintf(names[i], sizeof(names[i]), "d%u.many.test", i);
        sim_dns_mx(w->names, names[i], 10, "mx.many.test");
        cr_assert_lt(w->ledger->domains_count, SIM_DOMAINS_MAX);
        w->ledger->domains[w->ledger->domains_count++] = names[i];
    }
    sim_host(w->sim, address, SIM_HOST_REFUSES);
    for (unsigned i = 0; i < DOMAINS; i++) {
        const uint16_t domain = (uint16_t)(first + i);
        deliver_mail_to(w, &domain, 1, 500);
    }
    sim_host(w->sim, address, SIM_HOST_BLACKHOLE);
    deliver_world_crash(w, SIM_KILL);
    w->look_ups = 2'048; /* DNS is no bound */
    deliver_world_open(w);
    deliver_world_run(w, 500);
    const struct hop_line *line = &w->deliver.line;
    const uint32_t before = line->count;
    cr_assert_gt(before, 3 * MOST, "%u are in it", before);
    deliver_world_run(w, RUN_MS);
    cr_assert_lt(line->count, before, "it moves");
    cr_assert_leq(before - line->count, MOST, "%u have left it", before - line->count);
    sim_host(w->sim, address, SIM_HOST_UP);
    cr_assert(deliver_until_empty(w, 20 * MINUTE_MS), "%lu wait", w->queue.metrics.messages);
    deliver_world_free(w);
}
