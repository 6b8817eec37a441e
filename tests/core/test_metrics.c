/*
 * test_metrics.c - the exported text, as we and as Prometheus read it
 */
#include "core/metrics.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct block {
    uint64_t relay;
    uint64_t limit;
    uint64_t open;
    uint64_t waited_us;
    struct histogram commit_us;
    struct histogram queued_ms;
    struct histogram batch;
};

static char label[64];

static const struct metric table[] = {
    { "ringpost_refused_total", "reason=\"relay\"", "Mail refused", METRIC_COUNTER, 0,
      offsetof(struct block, relay) },
    { "ringpost_open", NULL, "Sessions \\ with a\nstrange help", METRIC_GAUGE, 0,
      offsetof(struct block, open) },
    { "ringpost_refused_total", label, "Mail refused", METRIC_COUNTER, 0,
      offsetof(struct block, limit) },
    { "ringpost_waited_seconds_total", NULL, "Time waited", METRIC_COUNTER, 1e-6,
      offsetof(struct block, waited_us) },
    { "ringpost_commit_seconds", NULL, "Time of a commit", METRIC_HISTOGRAM, 1e-6,
      offsetof(struct block, commit_us) },
    { "ringpost_queued_seconds", "class=\"mail\"", "Time in the queue", METRIC_HISTOGRAM, 1e-3,
      offsetof(struct block, queued_ms) },
    { "ringpost_batch_messages", NULL, "Messages in a batch", METRIC_HISTOGRAM, 0,
      offsetof(struct block, batch) },
};

static struct metrics metrics;
static struct block blocks[3];
static struct metrics_source sources[3];
static char *text;

static void start(void)
{
    metrics_init(&metrics);
    cr_assert_gt(metrics_label(label, sizeof(label), "reason", "a\"b\\c\nd"), 0);
}

static void add_sources(void)
{
    for (int i = 0; i < 3; i++)
        metrics_add_source(&metrics, &sources[i], table, ARRAY_COUNT(table), &blocks[i],
                           i == 2 ? -1 : i);
}

static void render(void)
{
    free(text);
    text = NULL;
    int64_t size = metrics_render(&metrics, &text);
    cr_assert(size >= 0);
    cr_assert_eq(strlen(text), (size_t)size);
}

static void stop(void)
{
    free(text);
}

TestSuite(metrics, .init = start, .fini = stop);

static unsigned count_of(const char *what)
{
    unsigned count = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        count++;
    return count;
}

static void expect(const char *line)
{
    char whole[512];
    snprintf(whole, sizeof(whole), "\n%s\n", line);
    cr_assert_eq(count_of(whole), 1, "%s in:\n%s", line, text);
}

static void add_one(const struct metric *metric)
{
    metrics_add_source(&metrics, &sources[0], metric, 1, &blocks[0], 0);
}

Test(metrics, a_counter_that_is_not_called_total, .signal = SIGABRT)
{
    static const struct metric bad = { "ringpost_open", NULL, "x", METRIC_COUNTER, 0, 0 };
    add_one(&bad);
}

Test(metrics, a_name_that_is_not_one, .signal = SIGABRT)
{
    static const struct metric bad = { "9ringpost", NULL, "x", METRIC_GAUGE, 0, 0 };
    add_one(&bad);
}

Test(metrics, a_label_without_its_quotes, .signal = SIGABRT)
{
    static const struct metric bad = { "ringpost", "reason=x", "x", METRIC_GAUGE, 0, 0 };
    add_one(&bad);
}

Test(metrics, a_label_that_ends_too_early, .signal = SIGABRT)
{
    static const struct metric bad = { "ringpost", "a=\"b\"c\"", "x", METRIC_GAUGE, 0, 0 };
    add_one(&bad);
}

Test(metrics, a_label_that_does_not_end, .signal = SIGABRT)
{
    static const struct metric bad = { "ringpost", "a=\"b\\\"", "x", METRIC_GAUGE, 0, 0 };
    add_one(&bad);
}

Test(metrics, families_of_two_types, .signal = SIGABRT)
{
    static const struct metric two[] = { { "ringpost", NULL, "x", METRIC_GAUGE, 0, 0 },
                                         { "ringpost", NULL, "x", METRIC_HISTOGRAM, 0, 0 } };
    metrics_add_source(&metrics, &sources[0], two, 2, &blocks[0], 0);
    render();
}

Test(metrics, labels_are_escaped_or_do_not_fit)
{
    char out[16];
    cr_assert_eq(metrics_label(out, sizeof(out), "name", "123456789"), -ENOSPC);
    cr_assert_eq(metrics_label(out, sizeof(out), "name", "12345678\n"), -ENOSPC);
    cr_assert_eq(metrics_label(out, 3, "name", ""), -ENOSPC);
    cr_assert_eq(metrics_label(out, sizeof(out), "name", "12345678"), 15);
    cr_assert_str_eq(out, "name=\"12345678\"");
    cr_assert_eq(metrics_label(out, sizeof(out), "n", "\"\\\n"), 10);
    cr_assert_str_eq(out, "n=\"\\\"\\\\\\n\"");
}

Test(metrics, nothing_is_an_empty_text)
{
    render();
    cr_assert_str_eq(text, "");
}

Test(metrics, a_removed_source_is_gone)
{
    add_sources();
    metrics_remove_source(&sources[1]);
    render();
    cr_assert_gt(count_of("shard=\"0\""), 0);
    cr_assert_eq(count_of("shard=\"1\""), 0);
}

Test(metrics, one_help_and_one_type_a_family)
{
    add_sources();
    render();
    cr_assert_eq(count_of("# HELP "), 6);
    cr_assert_eq(count_of("# TYPE "), 6);
    cr_assert_eq(count_of("# HELP ringpost_refused_total Mail refused\n"), 1);
    cr_assert_eq(count_of("# TYPE ringpost_refused_total counter\n"), 1);
    cr_assert_eq(count_of("# HELP ringpost_open Sessions \\\\ with a\\nstrange help\n"), 1);
    /* all series of a family are between its TYPE and the next HELP */
    const char *family = strstr(text, "# TYPE ringpost_refused_total");
    const char *next = strstr(family, "# HELP");
    for (const char *at = text; (at = strstr(at, "\nringpost_refused_total")) != NULL; at++)
        cr_assert(at > family && (next == NULL || at < next));
}

Test(metrics, values)
{
    add_sources();
    metric_add(&blocks[0].relay, 3);
    metric_add(&blocks[1].relay, 4);
    metric_set(&blocks[2].limit, UINT64_MAX);
    metric_set(&blocks[1].open, 5);
    metric_sub(&blocks[1].open, 2);
    metric_sub(&blocks[0].open, 1);
    metric_set(&blocks[1].waited_us, 1'500'000);
    render();
    expect("ringpost_refused_total{reason=\"relay\",shard=\"0\"} 3");
    expect("ringpost_refused_total{reason=\"relay\",shard=\"1\"} 4");
    expect("ringpost_refused_total{reason=\"relay\"} 0");
    expect("ringpost_refused_total{reason=\"a\\\"b\\\\c\\nd\"} 18446744073709551615");
    expect("ringpost_open{shard=\"1\"} 3");
    expect("ringpost_open{shard=\"0\"} -1");
    expect("ringpost_open 0");
    expect("ringpost_waited_seconds_total{shard=\"1\"} 1.5");
}

Test(metrics, histograms_are_cumulative)
{
    add_sources();
    histogram_add(&blocks[0].commit_us, 90);
    histogram_add(&blocks[0].commit_us, 900);
    histogram_add(&blocks[0].commit_us, 30'000'000);
    histogram_add(&blocks[0].commit_us, 90'000'000);
    histogram_add(&blocks[1].queued_ms, 250'000);
    histogram_add(&blocks[1].batch, 7);
    render();
    expect("ringpost_commit_seconds_bucket{shard=\"0\",le=\"0.0001\"} 1");
    expect("ringpost_commit_seconds_bucket{shard=\"0\",le=\"0.0005\"} 1");
    expect("ringpost_commit_seconds_bucket{shard=\"0\",le=\"0.001\"} 2");
    expect("ringpost_commit_seconds_bucket{shard=\"0\",le=\"25\"} 2");
    expect("ringpost_commit_seconds_bucket{shard=\"0\",le=\"60\"} 3");
    expect("ringpost_commit_seconds_bucket{shard=\"0\",le=\"+Inf\"} 4");
    expect("ringpost_commit_seconds_sum{shard=\"0\"} 120.00099");
    expect("ringpost_commit_seconds_count{shard=\"0\"} 4");
    expect("ringpost_commit_seconds_count 0");
    expect("ringpost_queued_seconds_bucket{class=\"mail\",shard=\"1\",le=\"60\"} 0");
    expect("ringpost_queued_seconds_bucket{class=\"mail\",shard=\"1\",le=\"300\"} 1");
    expect("ringpost_queued_seconds_sum{class=\"mail\",shard=\"1\"} 250");
    expect("ringpost_batch_messages_bucket{shard=\"1\",le=\"5\"} 0");
    expect("ringpost_batch_messages_bucket{shard=\"1\",le=\"10\"} 1");
}

static void write_connectors(struct metrics_writer *writer, struct metrics_text *out)
{
    (void)writer;
    metrics_text_family(out, "ringpost_connector_bytes_total", "Bytes", METRIC_COUNTER);
    for (unsigned i = 0; i < 1'000; i++) {
        char labels[64];
        snprintf(labels, sizeof(labels), "connector=\"c%u\"", i);
        metrics_text_number(out, "ringpost_connector_bytes_total", labels, 10 * i);
    }
}

static struct metrics_writer connectors = { .write = write_connectors };

Test(metrics, a_writer_has_families_of_its_own)
{
    add_sources();
    metrics_add_writer(&metrics, &connectors);
    render();
    expect("# TYPE ringpost_connector_bytes_total counter");
    expect("ringpost_connector_bytes_total{connector=\"c0\"} 0");
    expect("ringpost_connector_bytes_total{connector=\"c999\"} 9990");
}

Test(metrics, prometheus_finds_no_fault)
{
    add_sources();
    metrics_add_writer(&metrics, &connectors);
    for (unsigned i = 0; i < 1000; i++) {
        histogram_add(&blocks[i % 3].commit_us, (uint64_t)i * i * i);
        histogram_add(&blocks[i % 3].queued_ms, (uint64_t)i * i);
        histogram_add(&blocks[i % 3].batch, i);
        metric_add(&blocks[i % 3].relay, i);
    }
    render();
    FILE *promtool = popen("promtool check metrics", "we");
    cr_assert_neq(promtool, NULL);
    cr_assert(fputs(text, promtool) >= 0);
    cr_assert_eq(pclose(promtool), 0, "promtool is missing, or found a fault");
}
