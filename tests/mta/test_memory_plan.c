/*
 * test_memory_plan.c - what fits into how much memory
 */
#include "mta/memory_plan.h"

#include <criterion/criterion.h>
#include <stdio.h>

#include "queue/queue.h"

static struct config *config_of(const char *limits)
{
    char text[4'096];
    snprintf(text, sizeof(text), "%s\nlimits { per-address = 0 per-v4-24 = 0 per-v6-64 = 0 %s }\n",
             "hostname = mx.us.test\nuser = \"\"\nshards = 2\nspool { directory = spool }\n"
             "listener \"in\" { addresses = { \"127.0.0.1:2525\" } }\n"
             "relay { domains = { us.test } }\n",
             limits);
    struct config_report report;
    config_report_init(&report);
    struct config *config = NULL;
    int r = config_load_text(slice_of_string(text), "test", 1, &report, &config);
    cr_assert(r == 0 || strstr(report.messages[0].key, "memory-max") != NULL, "%s",
              report.messages[0].text);
    config_report_free(&report);
    return config;
}

static struct memory_plan plan_of(const char *limits)
{
    struct memory_plan plan;
    struct config *config = config_of(limits);
    cr_assert_not_null(config);
    cr_assert(memory_plan_make(config, 2, &plan));
    config_free(config);
    return plan;
}

Test(memory_plan, a_million_fits_as_it_is_shipped_and_ten_million_into_four_gib)
{
    struct memory_plan plan = plan_of("");
    cr_assert_geq(plan.messages_max * 2, 1'000'000);
    cr_assert_geq(plan.recipients_max, plan.messages_max);
    cr_assert_geq(plan.destinations_max, 100'000);
    plan = plan_of("queue-messages = 10000000 connections = 1024 memory-max = 4G");
    cr_assert_leq(plan.total_bytes, UINT64_C(4) << 30);
    cr_assert_geq(plan.messages_max * 2, 10'000'000, "%u", plan.messages_max);
}

Test(memory_plan, the_sum_is_the_sum_and_the_queue_is_what_is_left)
{
    struct memory_plan open = plan_of(""), small = plan_of("memory-max = 5G");
    cr_assert_eq(open.pools_bytes + open.rest_bytes, open.total_bytes);
    cr_assert_eq(small.pools_bytes + small.rest_bytes, small.total_bytes);
    cr_assert_eq(small.pools_bytes, small.sessions_bytes + small.deliveries_bytes +
                                        small.spool_bytes + small.destinations_bytes +
                                        small.queue_bytes);
    cr_assert_leq(small.total_bytes, UINT64_C(5) << 30);
    cr_assert_geq(small.total_bytes, (UINT64_C(5) << 30) - (UINT64_C(64) << 20),
                  "all of it is used");
    cr_assert_lt(small.messages_max, open.messages_max);
    cr_assert_eq(small.sessions_bytes, open.sessions_bytes);
}

Test(memory_plan, less_than_the_smallest_is_refused)
{
    struct memory_plan open = plan_of("");
    char limits[128];
    const uint64_t least =
        open.total_bytes - open.queue_bytes + 2 * MEMORY_PLAN_MESSAGES_MIN * queue_message_bytes();
    snprintf(limits, sizeof(limits), "memory-max = %llu", (unsigned long long)least);
    cr_assert_geq(plan_of(limits).messages_max, MEMORY_PLAN_MESSAGES_MIN);
    snprintf(limits, sizeof(limits), "memory-max = %llu",
             (unsigned long long)(least - 4'096 - (UINT64_C(1) << 15)));
    cr_assert_null(config_of(limits));
}

Test(memory_plan, a_message_takes_what_is_promised)
{
    cr_assert_leq(queue_message_bytes(), QUEUE_MESSAGE_BYTES_MAX);
}
