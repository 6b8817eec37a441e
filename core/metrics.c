/*
 * metrics.c - numbers to Prometheus text, one family at a time
 *
 * The format wants all series of a family in one block under one HELP and TYPE, while sources hold
 * all families of one shard. So rendering gathers every series, sorts them by name (stable in the
 * order of registration) and writes them out. Runs on the control thread; it allocates, and nobody
 * waits for it.
 */
#include "core/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/compiler.h"

enum { TEXT_FIRST_BYTES = 1 << 16, LINE_MAX_BYTES = 512, LABELS_MAX = 256, NAME_MAX_BYTES = 128 };

/* Edges in what is exported; the numbers themselves are these divided by the scale. */
static const double edges_us[] = { 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                                   0.1,    0.25,    0.5,    1,     2.5,    5,     10,   25,    60 };
static const double edges_ms[] = { 0.005, 0.01,   0.025,  0.05,   0.1,     0.25,   0.5, 1,
                                   2.5,   5,      10,     30,     60,      300,    900, 3'600,
                                   7'200, 14'400, 43'200, 86'400, 172'800, 432'000 };
static const double edges_count[] = { 1,   2,     5,     10,    20,     50,     100,    200,
                                      500, 1'000, 2'000, 5'000, 10'000, 20'000, 50'000, 1e5,
                                      2e5, 5e5,   1e6,   2e6,   5e6,    1e7,    1e8,    1e9 };

struct metrics_text {
    char *data;
    size_t size;
    size_t capacity;
    bool failed; /* out of memory: what follows is dropped */
};

struct series {
    const struct metric *metric;
    const struct metrics_source *source;
    unsigned order;
};

static bool name_is_valid(const char *name, size_t size, bool colon_allowed)
{
    for (size_t i = 0; i < size; i++) {
        char c = name[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
                      (c == ':' && colon_allowed);
        if (!letter && !(i > 0 && c >= '0' && c <= '9'))
            return false;
    }
    return size > 0;
}

/* name="value",name="value" with backslash, quote and line feed escaped in the values. */
static bool labels_are_valid(const char *labels)
{
    for (const char *at = labels;; at++) {
        size_t size = strcspn(at, "=");
        if (!name_is_valid(at, size, false) || strncmp(at + size, "=\"", 2) != 0)
            return false;
        for (at += size + 2; *at != '"'; at++) {
            if (*at == '\\' && strchr("\\\"n", *++at) == NULL)
                return false;
            if (*at == '\0' || *at == '\n')
                return false;
        }
        if (*++at == '\0')
            return true;
        if (*at != ',')
            return false;
    }
}

static bool ends_in(const char *name, const char *ending)
{
    size_t size = strlen(name);
    size_t ending_size = strlen(ending);
    return size >= ending_size && strcmp(name + size - ending_size, ending) == 0;
}

void metrics_init(struct metrics *metrics)
{
    list_init(&metrics->sources);
    list_init(&metrics->writers);
}

void metrics_add_source(struct metrics *metrics, struct metrics_source *source,
                        const struct metric *table, unsigned count, const void *block, int shard)
{
    for (unsigned i = 0; i < count; i++) {
        CHECK(table[i].name != NULL);
        CHECK(strlen(table[i].name) < NAME_MAX_BYTES);
        CHECK(name_is_valid(table[i].name, strlen(table[i].name), true));
        CHECK(table[i].help != NULL);
        CHECK(table[i].type != METRIC_COUNTER || ends_in(table[i].name, "_total"));
        CHECK(table[i].type == METRIC_COUNTER || !ends_in(table[i].name, "_total"));
        if (table[i].labels != NULL) {
            CHECK(strlen(table[i].labels) < LABELS_MAX);
            CHECK(labels_are_valid(table[i].labels));
        }
    }
    *source = (struct metrics_source) {
        .metrics = table, .count = count, .block = block, .shard = shard
    };
    list_push(&metrics->sources, &source->node);
}

void metrics_remove_source(struct metrics_source *source)
{
    list_remove(&source->node);
}

/* Quotes are escaped in a label's value, not in a HELP text. */
static int escaped(char *out, size_t capacity, const char *value, bool quotes)
{
    size_t size = 0;
    for (const char *at = value; *at != '\0'; at++) {
        char c = *at;
        bool escape = c == '\\' || c == '\n' || (quotes && c == '"');
        if (size + escape + 1 >= capacity)
            return -ENOSPC;
        if (escape)
            out[size++] = '\\';
        out[size++] = c == '\n' ? 'n' : c;
    }
    out[size] = '\0';
    return (int)size;
}

int metrics_label(char *out, size_t capacity, const char *name, const char *value)
{
    CHECK(name_is_valid(name, strlen(name), false));
    int start = snprintf(out, capacity, "%s=\"", name);
    if (start < 0 || (size_t)start >= capacity)
        return -ENOSPC;
    int size = escaped(out + start, capacity - (size_t)start, value, true);
    if (size < 0 || (size_t)start + (size_t)size + 2 > capacity)
        return -ENOSPC;
    memcpy(out + start + size, "\"", 2);
    return start + size + 1;
}

static void text_add(struct metrics_text *text, const char *format, ...) PRINTF_LIKE(2, 3);
static void text_add(struct metrics_text *text, const char *format, ...)
{
    if (text->failed)
        return;
    if (text->capacity - text->size < LINE_MAX_BYTES) {
        size_t capacity = text->capacity == 0 ? TEXT_FIRST_BYTES : text->capacity * 2;
        char *data = realloc(text->data, capacity);
        if (data == NULL) {
            text->failed = true;
            return;
        }
        text->data = data;
        text->capacity = capacity;
    }
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text->data + text->size, text->capacity - text->size, format, arguments);
    va_end(arguments);
    CHECK(size >= 0);
    CHECK((size_t)size < text->capacity - text->size);
    text->size += (size_t)size;
}

static double scale_of(const struct metric *metric)
{
    return metric->scale > 0 ? metric->scale : 1;
}

/* name{labels,shard="N",le="..."} and a space. le NULL: none. */
static void text_series(struct metrics_text *text, const struct series *series, const char *ending,
                        const char *le)
{
    const char *labels = series->metric->labels;
    char shard[32] = "";
    if (series->source->shard >= 0)
        snprintf(shard, sizeof(shard), "shard=\"%d\"", series->source->shard);
    const char *parts[] = { labels == NULL ? "" : labels, shard, le == NULL ? "" : le };
    text_add(text, "%s%s", series->metric->name, ending);
    const char *before = "{";
    for (unsigned i = 0; i < ARRAY_COUNT(parts); i++) {
        if (*parts[i] == '\0')
            continue;
        text_add(text, "%s%s", before, parts[i]);
        before = ",";
    }
    text_add(text, *before == ',' ? "} " : " ");
}

static void text_count(struct metrics_text *text, uint64_t number)
{
    text_add(text, "%" PRIu64 "\n", number);
}

/* A gauge may have been counted below 0: it is written as what it means. */
static void text_value(struct metrics_text *text, uint64_t number, const struct metric *metric)
{
    double scale = scale_of(metric);
    bool is_signed = metric->type == METRIC_GAUGE;
    if (scale != 1)
        text_add(text, "%.15g\n", (is_signed ? (double)(int64_t)number : (double)number) * scale);
    else if (is_signed)
        text_add(text, "%" PRId64 "\n", (int64_t)number);
    else
        text_count(text, number);
}

static void text_histogram(struct metrics_text *text, const struct series *series,
                           const struct histogram *histogram)
{
    double scale = scale_of(series->metric);
    const double *edges = edges_count;
    unsigned count = ARRAY_COUNT(edges_count);
    if (scale < 1e-5) {
        edges = edges_us;
        count = ARRAY_COUNT(edges_us);
    } else if (scale < 1) {
        edges = edges_ms;
        count = ARRAY_COUNT(edges_ms);
    }
    /* The shard goes on writing: count in a copy, so that no bucket is above the one behind it. */
    struct histogram copy = { 0 };
    histogram_merge(&copy, histogram);
    char le[48];
    for (unsigned i = 0; i < count; i++) {
        uint64_t limit = (uint64_t)(edges[i] / scale + 0.5);
        snprintf(le, sizeof(le), "le=\"%.15g\"", edges[i]);
        text_series(text, series, "_bucket", le);
        text_count(text, histogram_at_most(&copy, limit));
    }
    uint64_t all = histogram_at_most(&copy, UINT64_MAX);
    text_series(text, series, "_bucket", "le=\"+Inf\"");
    text_count(text, all);
    text_series(text, series, "_sum", NULL);
    text_value(text, copy.sum, series->metric);
    text_series(text, series, "_count", NULL);
    text_count(text, all);
}

void metrics_text_family(struct metrics_text *text, const char *name, const char *words,
                         enum metric_type type)
{
    static const char *const types[] = {
        [METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_HISTOGRAM] = "histogram"
    };
    char help[LINE_MAX_BYTES / 2];
    if (escaped(help, sizeof(help), words, false) < 0)
        snprintf(help, sizeof(help), "(too long)");
    text_add(text, "# HELP %s %s\n", name, help);
    text_add(text, "# TYPE %s %s\n", name, types[type]);
}

void metrics_text_number(struct metrics_text *text, const char *name, const char *labels,
                         uint64_t number)
{
    text_add(text, "%s{%s} %" PRIu64 "\n", name, labels, number);
}

void metrics_add_writer(struct metrics *metrics, struct metrics_writer *writer)
{
    list_push(&metrics->writers, &writer->node);
}

static int by_name(const void *a, const void *b)
{
    const struct series *x = a;
    const struct series *y = b;
    int r = strcmp(x->metric->name, y->metric->name);
    if (r != 0)
        return r;
    return x->order < y->order ? -1 : 1;
}

int64_t metrics_render(const struct metrics *metrics, char **text_out)
{
    struct metrics_text text = { 0 };
    size_t count = 0;
    list_each (node, &metrics->sources)
        count += container_of(node, struct metrics_source, node)->count;
    struct series *all = calloc(count + 1, sizeof(*all));
    if (all == NULL)
        return -ENOMEM;
    unsigned n = 0;
    list_each (node, &metrics->sources) {
        const struct metrics_source *source = container_of(node, struct metrics_source, node);
        for (unsigned i = 0; i < source->count; i++, n++)
            all[n] = (struct series) { &source->metrics[i], source, n };
    }
    CHECK(n == count);
    qsort(all, count, sizeof(*all), by_name);
    text_add(&text, "%s", ""); /* an empty text is a text too */
    for (size_t i = 0; i < count; i++) {
        const struct metric *metric = all[i].metric;
        if (i == 0 || strcmp(metric->name, all[i - 1].metric->name) != 0)
            metrics_text_family(&text, metric->name, metric->help, metric->type);
        else
            CHECK(metric->type == all[i - 1].metric->type);
        const void *at = (const uint8_t *)all[i].source->block + metric->offset;
        if (metric->type == METRIC_HISTOGRAM) {
            text_histogram(&text, &all[i], at);
        } else {
            text_series(&text, &all[i], "", NULL);
            text_value(&text, metric_get(at), metric);
        }
    }
    free(all);
    list_each (node, &metrics->writers) {
        struct metrics_writer *writer = container_of(node, struct metrics_writer, node);
        writer->write(writer, &text);
    }
    if (text.failed) {
        free(text.data);
        return -ENOMEM;
    }
    *text_out = text.data;
    return (int64_t)text.size;
}
