/*
 * test_hop_share.c - connections are shared: a slow next hop does not have those of others
 */
#include "tests/mta/deliver_world.h"

#define RETRY "delivery { retry-initial = \"10m\" retry-max = \"1h\" connections-per-hop = 50 "

struct wanted {
    struct deliver_world *w;
    uint32_t id;
};

static bool is_delivered(void *argument)
{
    const struct wanted *wanted = argument;
    return deliver_of(wanted->w, wanted->id, 0)->delivered > 0;
}

static bool delivers(struct deliver_world *w, uint32_t id, uint64_t ms)
{
    struct wanted wanted = { w, id };
    return sim_run_until(w->sim, sim_now_ms(w->sim) + ms, is_delivered, &wanted);
}

static bool was_delivered(struct deliver_world *w, uint32_t id)
{
    return deliver_of(w, id, 0)->delivered > 0;
}

/* x.test, which takes its time for each reply, and mail for it. */
static struct sim_actor *slow(struct deliver_world *w, unsigned count)
{
    struct sim_actor *hop = deliver_domain(w, "x.test", "9.9.8.2");
    sim_hop_options(hop)->delay_max_ms = 40'000;
    for (unsigned i = 0; i < count; i++)
        deliver_mail(w, "x", 500);
    return hop;
}

static unsigned connected(struct deliver_world *w, const char *domain)
{
    char key[64];
    snprintf(key, sizeof(key), "mx:%s", domain);
    const struct destination *d = queue_destination(&w->queue, key, strlen(key));
    const struct next_hop *hop = d->owner;
    return hop == NULL ? 0 : hop->links_count;
}

Test(hop_share, a_slow_next_hop_leaves_connections_to_others_whatever_its_own_limit_is)
{
    struct deliver_world *w = deliver_world_of(1, 10, RETRY "}");
    struct sim_actor *hop = slow(w, 200);
    (void)deliver_domain(w, "y.test", "9.9.8.3");
    (void)deliver_domain(w, "z.test", "9.9.8.4");
    deliver_world_run(w, 20 * MINUTE_MS);
    cr_assert_eq(connected(w, "x.test"), 8, "what is free is a quarter of what it has, or more");
    for (unsigned i = 0; i < 20; i++) {
        cr_assert(delivers(w, deliver_mail(w, "y", 500), 2'000));
        cr_assert(delivers(w, deliver_mail(w, "z", 500), 2'000));
    }
    cr_assert_gt(w->queue.metrics.messages, 0, "the slow one is at it still");
    sim_hop_options(hop)->delay_max_ms = 0;
    cr_assert(deliver_until_empty(w, HOUR_MS));
    cr_assert_eq(w->deliver.metrics.destination_failures, 0);
    deliver_world_free(w);
}

Test(hop_share, one_connection_serves_all_by_turns)
{
    for (uint64_t seed = 1; seed <= 3; seed++) {
        struct deliver_world *w = deliver_world_of(seed, 1, RETRY "}");
        struct sim_actor *hop = deliver_domain(w, "x.test", "9.9.8.2");
        (void)deliver_domain(w, "y.test", "9.9.8.3");
        (void)deliver_domain(w, "z.test", "9.9.8.4");
        sim_hop_options(hop)->delay_max_ms = 2'000;
        for (unsigned i = 0; i < 100; i++)
            deliver_mail(w, "x", 500);
        uint32_t y = deliver_mail(w, "y", 500);
        uint32_t z = deliver_mail(w, "z", 500);
        cr_assert(delivers(w, y, 2 * MINUTE_MS));
        cr_assert(delivers(w, z, 2 * MINUTE_MS));
        cr_assert_gt(w->queue.metrics.messages, 50, "they did not wait for all of x");
        cr_assert_gt(w->deliver.metrics.links_yielded, 0);
        cr_assert_gt(w->deliver.metrics.hops_waited, 0);
        cr_assert(deliver_until_empty(w, 2 * HOUR_MS));
        cr_assert_eq(w->deliver.metrics.destination_failures, 0,
                     "a lack of ours is nobody's fault");
        cr_assert_eq(w->deliver.metrics.hops_waiting, 0);
        deliver_world_run(w, 20'000);
        cr_assert_eq(w->deliver.share.holders, 0);
        cr_assert_eq(w->deliver.share.ending, 0);
        cr_assert_eq(w->deliver.share.promised, 0);
        deliver_world_free(w);
    }
}

Test(hop_share, a_connection_that_rests_makes_place_at_once)
{
    struct deliver_world *w = deliver_world_of(4, 1, RETRY "idle-timeout = \"1h\" }");
    (void)deliver_domain(w, "x.test", "9.9.8.2");
    (void)deliver_domain(w, "y.test", "9.9.8.3");
    cr_assert(delivers(w, deliver_mail(w, "x", 500), 5'000));
    deliver_world_run(w, MINUTE_MS);
    cr_assert_eq(connected(w, "x.test"), 1);
    cr_assert(delivers(w, deliver_mail(w, "y", 500), 5'000));
    cr_assert_eq(connected(w, "x.test"), 0);
    cr_assert_eq(w->deliver.metrics.links_yielded, 1);
    deliver_world_free(w);
}

Test(hop_share, urgent_mail_to_one_goes_before_bulk_to_another_that_waits_longer)
{
    struct deliver_world *w = deliver_world_of(
        5, 1,
        RETRY "}\nclass news { priority = bulk recipient-domains = { y.test } }\n"
              "class alarms { priority = urgent recipient-domains = { z.test } }\n");
    struct sim_actor *hop = slow(w, 1);
    (void)deliver_domain(w, "y.test", "9.9.8.3");
    (void)deliver_domain(w, "z.test", "9.9.8.4");
    deliver_world_run(w, 2'000);
    cr_assert_eq(connected(w, "x.test"), 1);
    uint32_t y = deliver_mail(w, "y", 500);
    deliver_world_run(w, 1'000);
    uint32_t z = deliver_mail(w, "z", 500);
    deliver_world_run(w, 1'000);
    cr_assert_eq(w->deliver.metrics.hops_waiting, 2);
    cr_assert(!was_delivered(w, y));
    cr_assert(delivers(w, z, 30 * MINUTE_MS));
    cr_assert(!was_delivered(w, y));
    cr_assert(delivers(w, y, MINUTE_MS));
    sim_hop_options(hop)->delay_max_ms = 0;
    cr_assert(deliver_until_empty(w, HOUR_MS));
    deliver_world_free(w);
}

/* What waits for a connection moves up when something urgent joins it. */
Test(hop_share, who_waits_moves_up_with_its_mail)
{
    struct deliver_world *w = deliver_world_of(
        6, 1, RETRY "}\nclass alarms { priority = urgent recipient-domains = { z.test } }\n");
    struct sim_actor *hop = slow(w, 1);
    (void)deliver_domain(w, "y.test", "9.9.8.3");
    (void)deliver_domain(w, "z.test", "9.9.8.4");
    deliver_world_run(w, 2'000);
    deliver_mail(w, "y", 500);
    deliver_world_run(w, 1'000);
    deliver_mail(w, "z", 500);
    deliver_world_run(w, 1'000);
    cr_assert_eq(w->deliver.share.waiting_count[LANE_NORMAL], 1);
    cr_assert_eq(w->deliver.share.waiting_count[LANE_URGENT], 1);
    struct mail_class all[CLASSES_MAX];
    unsigned count = class_list(&w->config->classes, all);
    all[0].lane = LANE_URGENT; /* as a reload would */
    queue_classes_set(&w->queue, all, count);
    deliver_unblocked(&w->deliver);
    cr_assert_eq(w->deliver.share.waiting_count[LANE_NORMAL], 0);
    cr_assert_eq(w->deliver.share.waiting_count[LANE_URGENT], 2);
    cr_assert_eq(w->deliver.metrics.hops_waiting, 2);
    sim_hop_options(hop)->delay_max_ms = 0;
    cr_assert(deliver_until_empty(w, HOUR_MS));
    deliver_world_free(w);
}

Test(hop_share, a_look_at_one_that_failed_leaves_half_of_them)
{
    struct deliver_world *w = deliver_world_of(
        7, 2, "delivery { retry-initial = \"10s\" retry-max = \"10s\" connections-per-hop = 50 }");
    (void)deliver_domain(w, "y.test", "9.9.8.3");
    (void)deliver_domain(w, "z.test", "9.9.8.4");
    sim_host(w->sim, deliver_address("9.9.8.3"), SIM_HOST_REFUSES);
    deliver_mail(w, "y", 500);
    deliver_world_run(w, 2'000);
    cr_assert_eq(w->deliver.metrics.destination_failures, 1);
    struct sim_actor *hop = slow(w, 3);
    deliver_world_run(w, MINUTE_MS);
    cr_assert_eq(connected(w, "x.test"), 1);
    cr_assert(delivers(w, deliver_mail(w, "z", 500), 2'000), "the other half is for mail");
    cr_assert_gt(w->deliver.metrics.destination_failures, 1, "but it is looked at");
    sim_host(w->sim, deliver_address("9.9.8.3"), SIM_HOST_UP);
    sim_hop_options(hop)->delay_max_ms = 0;
    cr_assert(deliver_until_empty(w, HOUR_MS));
    deliver_world_free(w);
}

Test(hop_share, a_lack_of_look_ups_is_waited_for_and_no_failure_of_anybody)
{
    struct deliver_world *w = deliver_world_of(8, 10, RETRY "}");
    (void)deliver_domain(w, "x.test", "9.9.8.2");
    void *taken[64];
    unsigned count = 0;
    while (count < ARRAY_COUNT(taken) && (taken[count] = pool_take(&w->resolves.pool)) != NULL)
        count++;
    cr_assert_gt(count, 0);
    uint32_t x = deliver_mail(w, "x", 500);
    deliver_world_run(w, MINUTE_MS);
    cr_assert_eq(w->deliver.metrics.hops_waiting, 1);
    cr_assert_eq(w->deliver.metrics.destination_failures, 0);
    while (count > 0)
        pool_give(&w->resolves.pool, taken[--count]);
    cr_assert(delivers(w, x, 2'000));
    cr_assert_eq(w->deliver.metrics.hops_waiting, 0);
    deliver_world_free(w);
}

/* Attempts that need no connection have a share of their own: those that do find theirs. */
Test(hop_share, a_thousand_that_expire_at_once_do_not_stop_the_others)
{
    struct deliver_world *w = deliver_world_of(
        9, 4,
        "delivery { retry-initial = \"10m\" retry-max = \"1h\" age-max = \"2h\" }\n"
        "bounce { per-minute = 0 }\n");
    (void)deliver_domain(w, "y.test", "9.9.8.3");
    sim_dns_set(w->names, "void.test", DNS_MX, DNS_SERVFAIL, false);
    for (unsigned i = 0; i < 1'000; i++)
        deliver_mail(w, "v", 200);
    deliver_world_run(w, 2 * HOUR_MS - 10 * MINUTE_MS - w->shard.now_ms % 1'000);
    cr_assert_eq(w->queue.metrics.recipients_expired, 0);
    for (unsigned i = 0; i < 60; i++) {
        cr_assert(delivers(w, deliver_mail(w, "y", 500), 5'000));
        cr_assert_leq(w->deliver.asides, ATTEMPT_ASIDES);
        deliver_world_run(w, 10'000);
    }
    cr_assert(deliver_until_empty(w, 10 * MINUTE_MS), "%lu are left", w->queue.metrics.messages);
    cr_assert_eq(w->queue.metrics.recipients_expired, 1'000);
    cr_assert_eq(w->deliver.asides, 0);
    deliver_world_free(w);
}
