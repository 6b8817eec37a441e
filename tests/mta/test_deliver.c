/*
 * test_deliver.c - from the queue to next hops and back: nobody lost, nobody hammered, nobody twice
 */
#include "tests/mta/deliver_world.h"

enum { SEEDS = 3, ALL = 1'000'000 };
#define EACH_SEED(seed) for (uint64_t seed = 1; seed <= SEEDS; seed++)
#define CALM_RETRY "delivery { retry-initial = \"10m\" retry-max = \"1h\" age-max = \"2d\" }"

/* ---- nobody takes it ---- */

Test(deliver, a_null_mx_bounces_all_at_once)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(seed, CALM_RETRY);
        sim_dns_mx(w->names, "void.test", 0, "");
        uint32_t ids[200];
        for (unsigned i = 0; i < ARRAY_COUNT(ids); i++)
            ids[i] = deliver_mail(w, "v", 500);
        cr_assert(deliver_until_empty(w, 5 * MINUTE_MS), "%lu are left", w->queue.metrics.messages);
        for (unsigned i = 0; i < ARRAY_COUNT(ids); i++)
            cr_assert_eq(deliver_of(w, ids[i], 0)->bounced, 1);
        cr_assert_eq(w->deliver.metrics.bounces_sent, ARRAY_COUNT(ids));
        deliver_world_free(w);
    }
}

Test(deliver, a_domain_that_does_not_exist_bounces)
{
    struct deliver_world *w = deliver_world_new(4, CALM_RETRY);
    uint32_t id = deliver_mail(w, "x", 500);
    cr_assert(deliver_until_empty(w, 5 * MINUTE_MS));
    cr_assert_eq(deliver_of(w, id, 0)->bounced, 1);
    deliver_world_free(w);
}

Test(deliver, names_that_cannot_be_asked_wait)
{
    struct deliver_world *w = deliver_world_new(5, CALM_RETRY);
    (void)deliver_domain(w, "x.test", "9.9.8.2");
    sim_dns_set(w->names, "x.test", DNS_MX, DNS_SERVFAIL, false);
    uint32_t id = deliver_mail(w, "x", 500);
    deliver_world_run(w, 5 * MINUTE_MS);
    cr_assert_eq(w->queue.metrics.messages, 1);
    cr_assert_eq(w->deliver.metrics.destination_failures, 1);
    sim_dns_set(w->names, "x.test", DNS_MX, DNS_OK, false);
    cr_assert(deliver_until_empty(w, 2 * HOUR_MS));
    cr_assert_eq(deliver_of(w, id, 0)->delivered, 1);
    deliver_world_free(w);
}

Test(deliver, refused_for_good_bounces_and_the_bounce_of_nobody_is_not_sent)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(seed, CALM_RETRY);
        struct sim_actor *hop = deliver_domain(w, "x.test", "9.9.8.2");
        sim_hop_options(hop)->rcpt_5xx_ppm = ALL;
        w->ret = RET_FULL;
        uint32_t id = deliver_mail(w, "xx", 3'000);
        w->notify = NOTIFY_NEVER;
        uint32_t silent = deliver_mail(w, "x", 500);
        cr_assert(deliver_until_empty(w, 5 * MINUTE_MS));
        cr_assert_eq(deliver_of(w, id, 0)->bounced, 1);
        cr_assert_eq(deliver_of(w, id, 1)->bounced, 1);
        cr_assert_eq(deliver_of(w, silent, 0)->bounced, 0);
        cr_assert_eq(w->deliver.metrics.bounces_sent, 1, "one for both");
        cr_assert_eq(w->deliver.metrics.bounces_suppressed, 1);
        cr_assert_eq(w->queue.metrics.recipients_bounced, 3);
        /* The silent one is missing on purpose. */
        sim_ledger_find(w->ledger, silent)->verdict = SIM_UNKNOWN;
        deliver_world_free(w);
    }
}

Test(deliver, a_bounce_tells_of_those_who_want_it)
{
    struct deliver_world *w = deliver_world_new(22, CALM_RETRY);
    sim_dns_mx(w->names, "void.test", 0, "");
    w->first_never = true;
    uint32_t id = deliver_mail(w, "vvvv", 500);
    cr_assert(deliver_until_empty(w, 5 * MINUTE_MS));
    cr_assert_eq(deliver_of(w, id, 0)->bounced, 0);
    for (unsigned i = 1; i < 4; i++)
        cr_assert_eq(deliver_of(w, id, i)->bounced, 1);
    sim_ledger_find(w->ledger, id)->verdict = SIM_UNKNOWN;
    deliver_world_free(w);
}

Test(deliver, a_bounce_that_bounces_is_the_end)
{
    struct deliver_world *w = deliver_world_new(6, CALM_RETRY);
    sim_dns_mx(w->names, "void.test", 0, "");
    sim_dns_clear(w->names, "sender.example", DNS_MX);
    sim_dns_mx(w->names, "sender.example", 0, "");
    uint32_t id = deliver_mail(w, "v", 500);
    cr_assert(deliver_until_empty(w, 5 * MINUTE_MS));
    cr_assert_eq(w->deliver.metrics.bounces_sent, 1);
    cr_assert_eq(w->deliver.metrics.bounces_suppressed, 1);
    sim_ledger_find(w->ledger, id)->verdict = SIM_UNKNOWN;
    deliver_world_free(w);
}

Test(deliver, mail_that_expires_bounces_once)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(seed, CALM_RETRY);
        struct sim_actor *hop = deliver_domain(w, "x.test", "9.9.8.2");
        sim_hop_options(hop)->rcpt_4xx_ppm = ALL;
        (void)deliver_domain(w, "y.test", "9.9.8.3");
        sim_host(w->sim, deliver_address("9.9.8.3"), SIM_HOST_REFUSES);
        uint32_t x = deliver_mail(w, "x", 500);
        uint32_t y = deliver_mail(w, "y", 500);
        deliver_world_run(w, 2ULL * DAY_MS - 10 * MINUTE_MS);
        cr_assert_eq(w->queue.metrics.messages, 2);
        cr_assert(deliver_until_empty(w, 3 * HOUR_MS));
        cr_assert_eq(deliver_of(w, x, 0)->bounced, 1);
        cr_assert_eq(deliver_of(w, y, 0)->bounced, 1);
        cr_assert_eq(w->queue.metrics.recipients_expired, 2);
        deliver_world_free(w);
    }
}

#define TO_X "outbound \"x\" { type = partner state = enforce domains = { x.test } hosts = { mx } "

Test(deliver, mail_of_a_connector_expires_by_its_max_age)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w =
            deliver_world_new(seed, CALM_RETRY TO_X "tls = none max-age = 1h }");
        (void)deliver_domain(w, "x.test", "9.9.8.2");
        (void)deliver_domain(w, "y.test", "9.9.8.3");
        sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_REFUSES);
        sim_host(w->sim, deliver_address("9.9.8.3"), SIM_HOST_REFUSES);
        uint32_t x = deliver_mail(w, "x", 500);
        uint32_t y = deliver_mail(w, "y", 500);
        deliver_world_run(w, HOUR_MS - MINUTE_MS);
        cr_assert_eq(w->queue.metrics.messages, 2);
        deliver_world_run(w, 10 * MINUTE_MS);
        cr_assert_eq(deliver_of(w, x, 0)->bounced, 1);
        cr_assert_eq(deliver_of(w, y, 0)->bounced, 0);
        deliver_world_free(w);
    }
}

Test(deliver, mail_that_only_tls_holds_back_expires_by_tls_max_age)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w =
            deliver_world_new(seed, CALM_RETRY "outbound x { type = partner state = enforce "
                                               "domains = { x.test, y.test } hosts = { mx } "
                                               "tls = encrypt max-age = 1d tls-max-age = 1h }");
        (void)deliver_domain(w, "x.test", "9.9.8.2"); /* without STARTTLS */
        (void)deliver_domain(w, "y.test", "9.9.8.3");
        sim_host(w->sim, deliver_address("9.9.8.3"), SIM_HOST_REFUSES);
        uint32_t x = deliver_mail(w, "x", 500);
        uint32_t y = deliver_mail(w, "y", 500);
        deliver_world_run(w, HOUR_MS - MINUTE_MS);
        cr_assert_eq(w->queue.metrics.messages, 2);
        deliver_world_run(w, 10 * MINUTE_MS);
        cr_assert_eq(deliver_of(w, x, 0)->bounced, 1);
        cr_assert_eq(deliver_of(w, y, 0)->bounced, 0, "its host is down: that may pass");
        deliver_world_run(w, DAY_MS);
        cr_assert_eq(deliver_of(w, y, 0)->bounced, 1);
        deliver_world_free(w);
    }
}

Test(deliver, a_host_that_is_down_beside_one_without_tls_is_waited_for)
{
    struct deliver_world *w = deliver_world_new(
        43, CALM_RETRY "outbound x { type = partner state = enforce domains = { x.test } hosts = { "
                       "mx } tls = encrypt tls-max-age = 1h }");
    (void)deliver_domain(w, "x.test", "9.9.8.2");
    sim_dns_mx(w->names, "x.test", 20, "backup.x.test");
    sim_dns_a(w->names, "backup.x.test", "9.9.8.4");
    (void)deliver_hop(w, "9.9.8.4");
    sim_host(w->sim, deliver_address("9.9.8.4"), SIM_HOST_REFUSES);
    uint32_t x = deliver_mail(w, "x", 500);
    deliver_world_run(w, 6 * HOUR_MS);
    cr_assert_eq(deliver_of(w, x, 0)->bounced, 0);
    deliver_world_free(w);
}

Test(deliver, a_reload_changes_how_old_waiting_mail_may_get)
{
    struct deliver_world *w = deliver_world_new(41, CALM_RETRY TO_X "tls = none }");
    struct config *old = w->config;
    (void)deliver_domain(w, "x.test", "9.9.8.2");
    sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_REFUSES);
    uint32_t x = deliver_mail(w, "x", 500);
    deliver_world_run(w, 2 * HOUR_MS);
    cr_assert_eq(w->queue.metrics.messages, 1);
    w->config = deliver_config(CALM_RETRY TO_X "tls = none max-age = 1h }");
    cr_assert_eq(generations_switch(&w->generations, w->config), 0);
    deliver_switched(&w->deliver);
    deliver_world_run(w, 10 * MINUTE_MS);
    cr_assert_eq(deliver_of(w, x, 0)->bounced, 1);
    deliver_world_free(w);
    config_free(old);
}

Test(deliver, a_connector_gets_no_more_messages_a_minute_than_its_max_rate)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(seed, TO_X "tls = none max-rate = 30 }");
        (void)deliver_domain(w, "x.test", "9.9.8.2");
        for (unsigned i = 0; i < 100; i++)
            deliver_mail(w, "x", 500);
        uint64_t taken = sim_ledger_balance(w->ledger).delivered;
        deliver_world_run(w, MINUTE_MS);
        taken = sim_ledger_balance(w->ledger).delivered - taken;
        cr_assert(taken >= 25 && taken <= 31, "%lu in a minute", taken);
        cr_assert(deliver_until_empty(w, 5 * MINUTE_MS));
        cr_assert_eq(sim_ledger_balance(w->ledger).duplicates, 0);
        deliver_world_free(w);
    }
}

Test(deliver, too_many_bounces_a_minute_wait_and_are_not_spun_upon)
{
    struct deliver_world *w = deliver_world_new(
        7, "delivery { retry-initial = \"1m\" retry-max = \"2m\" } bounce { per-minute = 10 }");
    sim_dns_mx(w->names, "void.test", 0, "");
    for (unsigned i = 0; i < 40; i++)
        deliver_mail(w, "v", 500);
    deliver_world_run(w, 20'000);
    cr_assert_leq(w->deliver.metrics.bounces_sent, 20, "the minute may have turned once");
    cr_assert_gt(w->deliver.metrics.bounces_limited, 0);
    cr_assert_leq(w->deliver.metrics.bounces_limited, 40);
    cr_assert(deliver_until_empty(w, HOUR_MS));
    cr_assert_eq(w->deliver.metrics.bounces_sent, 40);
    deliver_world_free(w);
}

Test(deliver, expired_mail_beyond_the_bounce_limit_is_not_spun_upon)
{
    struct deliver_world *w = deliver_world_new(
        8, "delivery { retry-initial = \"1m\" retry-max = \"2m\" age-max = \"1h\" } "
           "bounce { per-minute = 5 }");
    (void)deliver_domain(w, "x.test", "9.9.8.2");
    sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_REFUSES);
    for (unsigned i = 0; i < 20; i++)
        deliver_mail(w, "x", 500);
    deliver_world_run(w, HOUR_MS);
    uint64_t outcomes = spool_metrics(w->spool)->outcomes;
    deliver_world_run(w, MINUTE_MS);
    cr_assert_leq(spool_metrics(w->spool)->outcomes - outcomes, 100, "%lu outcomes in a minute",
                  spool_metrics(w->spool)->outcomes - outcomes);
    cr_assert(deliver_until_empty(w, HOUR_MS));
    cr_assert_eq(w->queue.metrics.recipients_expired, 20);
    deliver_world_free(w);
}

Test(deliver, a_disk_that_fails_when_the_bounce_is_written_means_later)
{
    for (uint64_t skip = 0; skip < 6; skip++) {
        struct deliver_world *w = deliver_world_new(9 + skip, CALM_RETRY);
        sim_dns_mx(w->names, "void.test", 0, "");
        uint32_t id = deliver_mail(w, "v", 500);
        sim_fail(w->sim, w->us, SIM_WRITE, skip, 1, -EIO);
        cr_assert(deliver_until_empty(w, 3 * HOUR_MS));
        cr_assert_geq(deliver_of(w, id, 0)->bounced, 1);
        deliver_world_free(w);
    }
}

/* ---- back-off ---- */

Test(deliver, a_dead_destination_is_asked_once_per_back_off)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(
            seed, "delivery { retry-initial = \"10m\" retry-max = \"1h\" delay-warning = 0 }");
        (void)deliver_domain(w, "x.test", "9.9.8.2");
        sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_REFUSES);
        for (unsigned i = 0; i < 100; i++)
            deliver_mail(w, "x", 500);
        deliver_world_run(w, MINUTE_MS); /* at first as many as would be useful are tried */
        uint64_t before = sim_count(w->sim, w->us, SIM_CONNECT);
        deliver_world_run(w, 6 * HOUR_MS);
        uint64_t tries = sim_count(w->sim, w->us, SIM_CONNECT) - before;
        cr_assert_leq(tries, 10, "%lu connections to a dead host", tries);
        cr_assert_geq(tries, 5);
        cr_assert_eq(w->queue.metrics.recipients_queued, 100);
        sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_UP);
        cr_assert(deliver_until_empty(w, 2 * HOUR_MS));
        deliver_world_free(w);
    }
}

Test(deliver, a_host_that_is_always_busy_is_not_hammered)
{
    struct deliver_world *w = deliver_world_new(16, CALM_RETRY);
    struct sim_actor *hop = deliver_domain(w, "x.test", "9.9.8.2");
    sim_hop_options(hop)->busy_ppm = ALL;
    for (unsigned i = 0; i < 50; i++)
        deliver_mail(w, "x", 500);
    deliver_world_run(w, 3 * HOUR_MS);
    cr_assert_leq(sim_hop_connections(hop), 40, "%u", sim_hop_connections(hop));
    sim_hop_options(hop)->busy_ppm = 0;
    cr_assert(deliver_until_empty(w, 3 * HOUR_MS));
    deliver_world_free(w);
}

Test(deliver, deferred_recipients_do_not_turn_in_a_circle)
{
    struct deliver_world *w = deliver_world_new(
        17,
        "delivery { retry-initial = \"10m\" retry-max = \"1h\" recipients-per-transaction = 100 }");
    struct sim_actor *hop = deliver_domain(w, "x.test", "9.9.8.2");
    sim_hop_options(hop)->rcpt_4xx_ppm = ALL;
    uint32_t id = deliver_mail(w, "xxxxxxxx", 500);
    deliver_world_run(w, 5 * MINUTE_MS);
    cr_assert_eq(deliver_of(w, id, 0)->deferred, 1);
    cr_assert_eq(deliver_of(w, id, 7)->deferred, 1);
    sim_hop_options(hop)->rcpt_4xx_ppm = 0;
    cr_assert(deliver_until_empty(w, HOUR_MS));
    deliver_world_free(w);
}

/* ---- outcomes ---- */

Test(deliver, each_recipient_has_an_outcome_of_its_own)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(seed, CALM_RETRY);
        struct sim_actor *hop = deliver_domain(w, "x.test", "9.9.8.2");
        (void)deliver_domain(w, "y.test", "9.9.8.3");
        sim_dns_mx(w->names, "void.test", 0, "");
        struct sim_hop_options *o = sim_hop_options(hop);
        o->rcpt_4xx_ppm = o->rcpt_5xx_ppm = 300'000;
        for (unsigned i = 0; i < 40; i++)
            deliver_mail(w, "xxyxxvxx", 2'000);
        cr_assert(deliver_until_empty(w, 12 * HOUR_MS));
        struct sim_balance b = sim_ledger_balance(w->ledger);
        cr_assert_eq(b.missing, 0);
        cr_assert_eq(b.duplicates, 0);
        cr_assert_eq(b.delivered + b.bounced, 320);
        cr_assert_geq(b.bounced, 40);
        cr_assert_geq(b.delivered, 40);
        deliver_world_free(w);
    }
}

Test(deliver, success_is_told_where_it_was_asked_for)
{
    struct deliver_world *w = deliver_world_new(18, CALM_RETRY);
    (void)deliver_domain(w, "x.test", "9.9.8.2");
    w->notify = NOTIFY_SUCCESS | NOTIFY_FAILURE;
    uint32_t id = deliver_mail(w, "xx", 500);
    cr_assert(deliver_until_empty(w, 5 * MINUTE_MS));
    cr_assert_eq(deliver_of(w, id, 0)->delivered, 1);
    cr_assert_eq(deliver_of(w, id, 1)->delivered, 1);
    cr_assert_eq(w->deliver.metrics.bounces_sent, 1);
    cr_assert_eq(deliver_of(w, id, 0)->bounced, 0);
    cr_assert_eq(w->ledger->strangers, 0);
    deliver_world_free(w);
}

Test(deliver, large_content_arrives_whole)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(seed, CALM_RETRY);
        struct sim_actor *hop = deliver_domain(w, "x.test", "9.9.8.2");
        sim_hop_options(hop)->chunking = seed % 2 == 0;
        for (unsigned i = 0; i < 4; i++)
            deliver_mail(w, "x", 300'000 * (i + 1));
        cr_assert(deliver_until_empty(w, HOUR_MS));
        cr_assert_eq(sim_ledger_balance(w->ledger).delivered, 4);
        deliver_world_free(w);
    }
}

/* ---- connections ---- */

Test(deliver, connections_are_used_again_and_bounded)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(seed, "delivery { connections-per-hop = 3 }");
        struct sim_actor *hop = deliver_domain(w, "x.test", "9.9.8.2");
        for (unsigned i = 0; i < 60; i++)
            deliver_mail(w, "x", 500);
        cr_assert(deliver_until_empty(w, 10 * MINUTE_MS));
        cr_assert_leq(sim_hop_connections(hop), 3);
        cr_assert_eq(sim_ledger_balance(w->ledger).delivered, 60);
        cr_assert_eq(sim_ledger_balance(w->ledger).duplicates, 0);
        cr_assert_gt(w->clients.numbers.transactions_reused, 50);
        deliver_world_free(w);
    }
}

Test(deliver, messages_per_connection_are_bounded)
{
    struct deliver_world *w =
        deliver_world_new(19, "delivery { connections-per-hop = 1 messages-per-connection = 5 }");
    struct sim_actor *hop = deliver_domain(w, "x.test", "9.9.8.2");
    for (unsigned i = 0; i < 20; i++)
        deliver_mail(w, "x", 500);
    cr_assert(deliver_until_empty(w, 10 * MINUTE_MS));
    cr_assert_geq(sim_hop_connections(hop), 4);
    deliver_world_free(w);
}

Test(deliver, the_next_address_is_tried_when_one_is_dead)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(seed, CALM_RETRY);
        (void)deliver_domain(w, "x.test", "9.9.8.2");
        sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_REFUSES);
        sim_dns_mx(w->names, "x.test", 20, "backup.x.test");
        sim_dns_a(w->names, "backup.x.test", "9.9.8.4");
        struct sim_actor *backup = deliver_hop(w, "9.9.8.4");
        for (unsigned i = 0; i < 10; i++)
            deliver_mail(w, "x", 500);
        cr_assert(deliver_until_empty(w, 5 * MINUTE_MS));
        cr_assert_geq(sim_hop_connections(backup), 1);
        cr_assert_eq(sim_ledger_balance(w->ledger).delivered, 10);
        cr_assert_eq(w->deliver.metrics.destination_failures, 0);
        deliver_world_free(w);
    }
}

/* ---- routes that change ---- */

static void on_released(void *argument, const struct config *config)
{
    struct deliver_world *w = argument;
    (void)config;
    w->released++;
}

Test(deliver, mail_follows_its_route_though_there_is_much_of_it)
{
    struct deliver_world *w =
        deliver_world_new(20, "outbound \"old\" { type = partner state = enforce domains = { "
                              "x.test } hosts = { \"9.9.8.2:25\" } }\n"
                              "delivery { retry-initial = \"10m\" }");
    w->generations.released = on_released;
    sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_REFUSES);
    struct sim_actor *new_hop = deliver_hop(w, "9.9.8.5");
    for (unsigned i = 0; i < 300; i++)
        deliver_mail(w, "x", 500);
    deliver_world_run(w, MINUTE_MS);
    cr_assert_eq(w->queue.metrics.messages, 300);
    struct config *old = w->config;
    w->config = deliver_config("outbound \"new\" { type = partner state = enforce domains = { "
                               "x.test } hosts = { \"9.9.8.5:25\" } }\n"
                               "delivery { retry-initial = \"10m\" }");
    cr_assert_eq(generations_switch(&w->generations, w->config), 0);
    deliver_switched(&w->deliver);
    cr_assert(deliver_until_empty(w, 5 * MINUTE_MS), "%lu are left", w->queue.metrics.messages);
    cr_assert_geq(sim_hop_connections(new_hop), 1);
    cr_assert_eq(w->deliver.metrics.rerouted, 300);
    deliver_world_run(w, 10 * MINUTE_MS);
    cr_assert_eq(w->released, 1, "nobody uses the old one any more");
    deliver_world_free(w);
    config_free(old);
}

static void reload(struct deliver_world *w, const char *more)
{
    w->config = deliver_config(more);
    cr_assert_eq(generations_switch(&w->generations, w->config), 0);
    deliver_switched(&w->deliver);
}

#define X_ENCRYPTED                                                                                \
    "outbound \"x\" { type = partner state = enforce domains = { x.test } "                        \
    "hosts = { \"9.9.8.2:25\" } tls = encrypt }\n"
#define STUBBORN "delivery { retry-initial = \"10s\" retry-max = \"20s\" }\n"

/* S-19: no connector says any more how well it has to be protected; the envelope does. */
Test(deliver, mail_of_a_deleted_connector_does_not_go_weaker_by_mx)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(seed, X_ENCRYPTED STUBBORN);
        struct config *old = w->config;
        (void)deliver_domain(w, "x.test", "9.9.8.2"); /* without STARTTLS */
        uint32_t before = deliver_mail(w, "x", 500);
        deliver_world_run(w, MINUTE_MS);
        cr_assert_eq(deliver_of(w, before, 0)->delivered, 0);
        reload(w, STUBBORN);
        uint32_t after = deliver_mail(w, "x", 500);
        deliver_world_run(w, 5 * MINUTE_MS);
        cr_assert_eq(deliver_of(w, before, 0)->delivered, 0);
        cr_assert_eq(deliver_of(w, after, 0)->delivered, 1, "by MX, which has no TLS");
        struct destination *d = queue_destination(&w->queue, "mx:x.test!encrypt", 17);
        cr_assert_eq(d->ready_count + d->waiting_count + d->active_count, 1);
        deliver_world_crash(w, SIM_KILL);
        deliver_world_open(w); /* and not at the next start either */
        deliver_world_run(w, 5 * MINUTE_MS);
        cr_assert_eq(deliver_of(w, before, 0)->delivered, 0);
        cr_assert_eq(w->queue.metrics.messages, 1);
        deliver_world_free(w);
        config_free(old);
    }
}

Test(deliver, an_own_domain_without_connector_waits_and_then_bounces)
{
    struct deliver_world *w = deliver_world_new(22, "relay { domains = { x.test } }\n" CALM_RETRY);
    (void)deliver_domain(w, "x.test", "9.9.8.2");
    uint32_t id = deliver_mail(w, "xx", 500);
    deliver_world_run(w, 2ULL * DAY_MS - 10 * MINUTE_MS);
    cr_assert_eq(w->queue.metrics.messages, 1);
    cr_assert_eq(deliver_of(w, id, 0)->delivered, 0, "its MX may lead back to us");
    cr_assert_geq(w->deliver.metrics.unroutable, 10);
    cr_assert(deliver_until_empty(w, 3 * HOUR_MS));
    cr_assert_eq(deliver_of(w, id, 0)->bounced, 1);
    cr_assert_eq(deliver_of(w, id, 1)->bounced, 1);
    deliver_world_free(w);
}

Test(deliver, what_is_too_large_for_its_connector_bounces_and_the_rest_arrives)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(
            seed, "outbound \"x\" { type = partner state = enforce domains = { x.test } "
                  "hosts = { \"9.9.8.2:25\" } max-size = 1K }\n");
        (void)deliver_hop(w, "9.9.8.2");
        (void)deliver_domain(w, "y.test", "9.9.8.3");
        uint32_t id = deliver_mail(w, "xyx", 5'000);
        uint32_t small = deliver_mail(w, "x", 100);
        cr_assert(deliver_until_empty(w, 5 * MINUTE_MS));
        cr_assert_eq(deliver_of(w, id, 0)->bounced, 1);
        cr_assert_eq(deliver_of(w, id, 1)->delivered, 1);
        cr_assert_eq(deliver_of(w, id, 2)->bounced, 1);
        cr_assert_eq(deliver_of(w, small, 0)->delivered, 1);
        cr_assert_eq(w->deliver.metrics.too_large, 2);
        deliver_world_free(w);
    }
}

Test(deliver, recipients_of_a_unit_part_when_their_connectors_do)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(
            seed, "outbound \"all\" { type = partner state = enforce domains = { *.test, x.test } "
                  "hosts = { \"9.9.8.2:25\" } }\n" STUBBORN);
        struct config *old = w->config;
        sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_REFUSES);
        struct sim_actor *x = deliver_hop(w, "9.9.8.3");
        struct sim_actor *y = deliver_hop(w, "9.9.8.4");
        uint32_t id = deliver_mail(w, "xyxzy", 500);
        deliver_world_run(w, MINUTE_MS);
        reload(w, "outbound \"x\" { type = partner state = enforce domains = { x.test } "
                  "hosts = { \"9.9.8.3:25\" } }\n"
                  "outbound \"y\" { type = partner state = enforce domains = { y.test, z.test } "
                  "hosts = { \"9.9.8.4:25\" } }\n" STUBBORN);
        cr_assert(deliver_until_empty(w, 5 * MINUTE_MS));
        for (unsigned i = 0; i < 5; i++)
            cr_assert_eq(deliver_of(w, id, i)->delivered, 1);
        cr_assert_geq(sim_hop_connections(x), 1);
        cr_assert_geq(sim_hop_connections(y), 1);
        cr_assert_eq(w->deliver.metrics.rerouted, 5);
        deliver_world_free(w);
        config_free(old);
    }
}

Test(deliver, parked_mail_finds_its_way_when_there_is_room)
{
    struct deliver_world *w = deliver_world_new(21, "delivery { retry-initial = \"1m\" }");
    (void)deliver_domain(w, "x.test", "9.9.8.2");
    (void)deliver_domain(w, "y.test", "9.9.8.3");
    /* As if all destinations had been busy when it came. */
    deliver_drain(&w->deliver);
    uint32_t id = deliver_mail(w, "xy", 500);
    for (unsigned i = 0; i < 2; i++) {
        struct destination *d = queue_destination(&w->queue, i == 0 ? "mx:x.test" : "mx:y.test", 9);
        struct unit *unit = queue_pull(&w->queue, d);
        cr_assert_not_null(unit);
        cr_assert_eq(queue_move(&w->queue, unit, i, QUEUE_PARKING_KEY, strlen(QUEUE_PARKING_KEY)),
                     1);
    }
    cr_assert_eq(w->queue.parking->ready_count, 2);
    w->deliver.draining = false;
    deliver_wanted(&w->deliver, w->queue.parking);
    cr_assert(deliver_until_empty(w, 5 * MINUTE_MS));
    cr_assert_eq(deliver_of(w, id, 0)->delivered, 1);
    cr_assert_eq(deliver_of(w, id, 1)->delivered, 1);
    deliver_world_free(w);
}

/* ---- crashes and the end ---- */

Test(deliver, a_crash_repeats_at_most_one_message_of_each_connection)
{
    for (uint64_t seed = 30; seed < 45; seed++) {
        struct deliver_world *w =
            deliver_world_new(seed, "delivery { connections-per-hop = 3 retry-initial = \"1m\" }");
        (void)deliver_domain(w, "x.test", "9.9.8.2");
        unsigned crashes = 0;
        for (unsigned i = 0; i < 80; i++)
            deliver_mail(w, "x", 500);
        for (; crashes < 3 && w->queue.metrics.messages > 0; crashes++) {
            deliver_world_run(w, 50 + random_below(sim_random(w->sim), 600));
            deliver_world_crash(w, seed % 2 == 0 ? SIM_KILL : SIM_POWER);
            deliver_world_run(w, 1'000);
            deliver_world_open(w);
        }
        cr_assert(deliver_until_empty(w, 2 * HOUR_MS));
        struct sim_balance b = sim_ledger_balance(w->ledger);
        cr_assert_eq(b.missing, 0);
        cr_assert_leq(b.duplicates, 3 * crashes, "seed %lu: %u twice after %u crashes", seed,
                      b.duplicates, crashes);
        deliver_world_free(w);
    }
}

Test(deliver, a_drain_ends_what_is_under_way_and_begins_nothing)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(seed, "delivery { connections-per-hop = 2 }");
        struct sim_actor *hop = deliver_domain(w, "x.test", "9.9.8.2");
        sim_hop_options(hop)->delay_max_ms = 500;
        for (unsigned i = 0; i < 50; i++)
            deliver_mail(w, "x", 500);
        deliver_world_run(w, 300);
        uint64_t attempts = w->deliver.metrics.attempts;
        deliver_drain(&w->deliver);
        cr_assert(
            sim_run_until(w->sim, sim_now_ms(w->sim) + 10 * MINUTE_MS, deliver_world_quiet, w));
        cr_assert_leq(w->deliver.metrics.attempts, attempts + 2);
        cr_assert_gt(w->queue.metrics.messages, 0);
        struct sim_balance b = sim_ledger_balance(w->ledger);
        cr_assert_eq(b.missing, w->queue.metrics.recipients_queued);
        cr_assert_eq(b.duplicates, 0);
        deliver_world_free(w);
    }
}

Test(deliver, storms_lose_nobody)
{
    for (uint64_t seed = 60; seed < 68; seed++) {
        struct deliver_world *w = deliver_world_new(
            seed, "delivery { retry-initial = \"1m\" retry-max = \"5m\" connections-per-hop = 4 }");
        struct sim_actor *x = deliver_domain(w, "x.test", "9.9.8.2");
        struct sim_actor *y = deliver_domain(w, "y.test", "9.9.8.3");
        const struct sim_hop_options plain_x = *sim_hop_options(x), plain_y = *sim_hop_options(y);
        *sim_hop_options(x) = sim_hop_wild(&plain_x.address);
        *sim_hop_options(y) = sim_hop_wild(&plain_y.address);
        sim_options(w->sim)->reset_ppm = 5'000;
        sim_options(w->sim)->refuse_ppm = 50'000;
        sim_options(w->sim)->enobufs_ppm = 50'000;
        sim_options(w->sim)->read_error_ppm = 5'000;
        sim_faults(w->sim, w->us, true);
        for (unsigned i = 0; i < 60; i++)
            deliver_mail(w, i % 3 == 0 ? "xyxy" : "x", i % 7 == 0 ? 60'000 : 800);
        deliver_world_run(w, HOUR_MS);
        sim_faults(w->sim, w->us, false);
        *sim_hop_options(x) = plain_x;
        *sim_hop_options(y) = plain_y;
        cr_assert(deliver_until_empty(w, 12 * HOUR_MS), "seed %lu: %lu are left", seed,
                  w->queue.metrics.messages);
        cr_assert_eq(sim_ledger_balance(w->ledger).missing, 0);
        deliver_world_free(w);
    }
}
