/*
 * test_attempt_report.c - who is told of what became of mail: in time, once, and only who wants it
 */
#include "tests/mta/deliver_world.h"

enum { SEEDS = 3, ALL = 1'000'000 };
#define EACH_SEED(seed) for (uint64_t seed = 1; seed <= SEEDS; seed++)
#define WARNS                                                                                      \
    "delivery { retry-initial = \"10m\" retry-max = \"1h\" age-max = \"2d\" "                      \
    "delay-warning = \"4h\" }"

static uint64_t reports(const struct deliver_world *w, enum bounce_kind kind)
{
    return w->deliver.metrics.reports[kind];
}

/* Nobody hears of it, on purpose. */
static void silent(struct deliver_world *w, uint32_t id)
{
    sim_ledger_find(w->ledger, id)->verdict = SIM_UNKNOWN;
}

static struct sim_actor *busy(struct deliver_world *w)
{
    struct sim_actor *hop = deliver_domain(w, "x.test", "9.9.8.2");
    sim_hop_options(hop)->rcpt_4xx_ppm = ALL;
    return hop;
}

static void dead(struct deliver_world *w)
{
    (void)deliver_domain(w, "x.test", "9.9.8.2");
    sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_REFUSES);
}

/* ---- delays ---- */

Test(attempt_report, a_delay_is_told_once_by_the_attempt_at_that_time)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(seed, WARNS);
        (void)busy(w);
        uint32_t id = deliver_mail(w, "xx", 500);
        deliver_world_run(w, 4 * HOUR_MS - 2 * MINUTE_MS);
        cr_assert_eq(reports(w, BOUNCE_DELAYED), 0, "not before its time");
        deliver_world_run(w, 5 * MINUTE_MS);
        cr_assert_eq(reports(w, BOUNCE_DELAYED), 1, "one for both, not an attempt late");
        cr_assert_eq(deliver_of(w, id, 0)->delayed, 1);
        cr_assert_eq(deliver_of(w, id, 1)->delayed, 1);
        deliver_world_run(w, DAY_MS);
        cr_assert_eq(deliver_of(w, id, 0)->delayed, 1);
        cr_assert(deliver_until_empty(w, 2ULL * DAY_MS));
        cr_assert_eq(deliver_of(w, id, 0)->delayed, 1);
        cr_assert_eq(deliver_of(w, id, 0)->bounced, 1);
        deliver_world_free(w);
    }
}

Test(attempt_report, a_delay_is_told_though_there_is_no_attempt)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(seed, WARNS);
        uint32_t ids[20];
        dead(w);
        for (unsigned i = 0; i < ARRAY_COUNT(ids); i++)
            ids[i] = deliver_mail(w, "x", 500);
        deliver_world_run(w, 4 * HOUR_MS - 2 * MINUTE_MS);
        cr_assert_eq(reports(w, BOUNCE_DELAYED), 0);
        deliver_world_run(w, 5 * MINUTE_MS);
        cr_assert_eq(reports(w, BOUNCE_DELAYED), ARRAY_COUNT(ids));
        cr_assert_eq(w->deliver.metrics.attempts, ARRAY_COUNT(ids), "to the sender");
        cr_assert_eq(w->queue.metrics.deferrals, 0);
        deliver_world_run(w, DAY_MS);
        for (unsigned i = 0; i < ARRAY_COUNT(ids); i++)
            cr_assert_eq(deliver_of(w, ids[i], 0)->delayed, 1);
        sim_host(w->sim, deliver_address("9.9.8.2"), SIM_HOST_UP);
        cr_assert(deliver_until_empty(w, 2 * HOUR_MS));
        for (unsigned i = 0; i < ARRAY_COUNT(ids); i++)
            cr_assert_eq(deliver_of(w, ids[i], 0)->delivered, 1);
        deliver_world_free(w);
    }
}

Test(attempt_report, a_delay_that_was_told_is_remembered_over_a_crash)
{
    for (unsigned down = 0; down < 2; down++) {
        struct deliver_world *w = deliver_world_new(30 + down, WARNS);
        if (down)
            dead(w);
        else
            (void)busy(w);
        uint32_t id = deliver_mail(w, "x", 500);
        deliver_world_run(w, 5 * HOUR_MS);
        cr_assert_eq(deliver_of(w, id, 0)->delayed, 1);
        deliver_world_crash(w, SIM_POWER);
        deliver_world_open(w);
        deliver_world_run(w, DAY_MS);
        cr_assert_eq(deliver_of(w, id, 0)->delayed, 1);
        cr_assert_eq(w->queue.metrics.recipients_queued, 1);
        deliver_world_free(w);
    }
}

Test(attempt_report, a_delay_that_fell_into_our_own_absence_is_told)
{
    struct deliver_world *w = deliver_world_new(33, WARNS);
    (void)busy(w);
    uint32_t id = deliver_mail(w, "x", 500);
    deliver_world_run(w, HOUR_MS);
    deliver_world_crash(w, SIM_KILL);
    deliver_world_run(w, 10 * HOUR_MS);
    deliver_world_open(w);
    deliver_world_run(w, HOUR_MS);
    cr_assert_eq(deliver_of(w, id, 0)->delayed, 1);
    deliver_world_free(w);
}

/* RFC 3461 5.2.5 (c), and no report for the null sender, ever. */
Test(attempt_report, a_delay_is_told_to_nobody_who_does_not_want_it)
{
    static const struct {
        uint8_t notify;
        const char *sender;
        unsigned delayed;
    } cases[] = {
        { NOTIFY_NEVER, NULL, 0 },
        { NOTIFY_FAILURE, NULL, 0 },
        { NOTIFY_SUCCESS, NULL, 0 },
        { NOTIFY_DELAY, NULL, 1 },
        { NOTIFY_FAILURE | NOTIFY_DELAY, NULL, 1 },
        { 0, NULL, 1 },
        { 0, "", 0 },
        { NOTIFY_DELAY, "", 0 },
        { 0, "owner-news@sender.example", 0 },
        { 0, "news-bounces+r=x.test@sender.example", 0 },
    };
    for (unsigned down = 0; down < 2; down++) {
        for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
            struct deliver_world *w = deliver_world_new(40 + i, WARNS);
            if (down)
                dead(w);
            else
                (void)busy(w);
            w->notify = cases[i].notify;
            w->sender = cases[i].sender;
            uint32_t id = deliver_mail(w, "x", 500);
            deliver_world_run(w, 12 * HOUR_MS);
            cr_assert_eq(deliver_of(w, id, 0)->delayed, cases[i].delayed, "case %u", i);
            cr_assert_eq(reports(w, BOUNCE_DELAYED), cases[i].delayed, "case %u", i);
            deliver_world_free(w);
        }
    }
}

Test(attempt_report, delays_beyond_the_limit_are_told_later_and_leave_room_for_failures)
{
    struct deliver_world *w = deliver_world_new(
        50, "delivery { retry-initial = \"10m\" retry-max = \"1h\" age-max = \"2d\" "
            "delay-warning = \"4h\" } bounce { per-minute = 4 }");
    uint32_t ids[40];
    dead(w);
    sim_dns_mx(w->names, "void.test", 0, "");
    for (unsigned i = 0; i < ARRAY_COUNT(ids); i++)
        ids[i] = deliver_mail(w, "x", 500);
    deliver_world_run(w, 4 * HOUR_MS);
    uint64_t before = reports(w, BOUNCE_DELAYED);
    deliver_world_run(w, 5 * MINUTE_MS);
    cr_assert_leq(reports(w, BOUNCE_DELAYED) - before, 12, "two a minute");
    uint32_t failed = deliver_mail(w, "v", 500);
    deliver_world_run(w, 2 * MINUTE_MS);
    cr_assert_eq(deliver_of(w, failed, 0)->bounced, 1);
    deliver_world_run(w, DAY_MS);
    for (unsigned i = 0; i < ARRAY_COUNT(ids); i++)
        cr_assert_eq(deliver_of(w, ids[i], 0)->delayed, 1);
    deliver_world_free(w);
}

Test(attempt_report, without_a_disk_for_it_a_delay_is_told_later)
{
    for (uint64_t skip = 0; skip < 5; skip++) {
        struct deliver_world *w = deliver_world_new(60 + skip, WARNS);
        dead(w);
        uint32_t id = deliver_mail(w, "x", 500);
        deliver_world_run(w, 3 * HOUR_MS);
        sim_fail(w->sim, w->us, SIM_WRITE, skip, 2, -EIO);
        deliver_world_run(w, 12 * HOUR_MS);
        cr_assert_geq(deliver_of(w, id, 0)->delayed, 1, "%lu", skip);
        cr_assert_leq(deliver_of(w, id, 0)->delayed, 2, "at most what was not recorded: %lu", skip);
        deliver_world_free(w);
    }
}

/* ---- failures ---- */

Test(attempt_report, one_sender_has_its_own_limit)
{
    struct deliver_world *w =
        deliver_world_new(70, "delivery { retry-initial = \"1m\" retry-max = \"2m\" } "
                              "bounce { per-minute = 0 per-sender = 5 }");
    uint32_t id = 0;
    sim_dns_mx(w->names, "void.test", 0, "");
    w->sender = "s.m1@sender.example";
    for (unsigned i = 0; i < 20; i++)
        (void)deliver_mail(w, "v", 500);
    w->sender = "s.m2@sender.example";
    id = deliver_mail(w, "v", 500);
    deliver_world_run(w, 20'000);
    cr_assert_leq(w->deliver.metrics.bounces_sent, 11, "the minute may have turned once");
    cr_assert_eq(deliver_of(w, id, 0)->bounced, 1);
    cr_assert(deliver_until_empty(w, HOUR_MS));
    cr_assert_eq(w->deliver.metrics.bounces_sent, 21);
    cr_assert_eq(w->deliver.metrics.bounces_dropped, 0);
    deliver_world_free(w);
}

Test(attempt_report, what_stays_over_the_limit_ends_in_the_log)
{
    enum { MAILS = 60 };
    struct deliver_world *w =
        deliver_world_new(71, "delivery { retry-initial = \"1m\" retry-max = \"2m\" } "
                              "bounce { per-minute = 0 per-sender = 1 }");
    sim_dns_mx(w->names, "void.test", 0, "");
    w->sender = "s.m1@sender.example";
    for (unsigned i = 0; i < MAILS; i++)
        silent(w, deliver_mail(w, "v", 500));
    cr_assert(deliver_until_empty(w, 2 * HOUR_MS));
    cr_assert_gt(w->deliver.metrics.bounces_dropped, 0);
    cr_assert_geq(w->deliver.metrics.bounces_sent, 10);
    cr_assert_eq(w->deliver.metrics.bounces_sent + w->deliver.metrics.bounces_dropped, MAILS);
    cr_assert_eq(w->queue.metrics.recipients_bounced, MAILS);
    deliver_world_free(w);
}

/* ---- a life of one attempt ---- */

#define ONE_TRY "delivery { retry-initial = \"10m\" retry-max = \"1h\" age-max = 0 }"

Test(attempt_report, mail_that_lives_for_one_attempt_gets_one)
{
    EACH_SEED(seed)
    {
        struct deliver_world *w = deliver_world_new(seed, ONE_TRY);
        (void)busy(w);
        (void)deliver_domain(w, "y.test", "9.9.8.3");
        (void)deliver_domain(w, "z.test", "9.9.8.4");
        sim_host(w->sim, deliver_address("9.9.8.4"), SIM_HOST_REFUSES);
        uint32_t x = deliver_mail(w, "x", 500);
        uint32_t y = deliver_mail(w, "y", 500);
        uint32_t z = deliver_mail(w, "zz", 500);
        cr_assert(deliver_until_empty(w, 5 * MINUTE_MS));
        cr_assert_eq(deliver_of(w, y, 0)->delivered, 1);
        cr_assert_eq(deliver_of(w, x, 0)->bounced, 1);
        cr_assert_eq(deliver_of(w, z, 0)->bounced, 1);
        cr_assert_eq(deliver_of(w, z, 1)->bounced, 1);
        cr_assert_eq(w->deliver.metrics.attempts, 4, "x, y, and two reports");
        cr_assert_eq(w->queue.metrics.recipients_expired, 3);
        deliver_world_free(w);
    }
}

/* The configuration has no way for it: there may be one soon. */
Test(attempt_report, one_attempt_is_waited_for_but_not_for_ever)
{
    struct deliver_world *w = deliver_world_new(80, "relay { domains = { x.test } } " ONE_TRY);
    uint32_t id = deliver_mail(w, "x", 500);
    deliver_world_run(w, 50 * MINUTE_MS);
    cr_assert_eq(w->queue.metrics.messages, 1);
    cr_assert(deliver_until_empty(w, 20 * MINUTE_MS));
    cr_assert_eq(deliver_of(w, id, 0)->bounced, 1);
    deliver_world_free(w);
}
