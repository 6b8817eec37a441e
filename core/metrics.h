/*
 * metrics.h - counters and gauges that each shard writes alone and anybody may read
 *
 * A module keeps its numbers in a plain struct of uint64_t and describes them in a static table of
 * struct metric; a shard's copy is registered as a source. Writing is a relaxed load and store, no
 * locked instruction. Rendering (Prometheus text format 0.0.4) reads all sources from the control
 * thread. Labels are fixed text in the table plus shard="N": nothing a stranger chose.
 *
 * A histogram is exported as cumulative buckets whose edges follow from its scale: 1e-6 (numbers
 * are microseconds) 100 us to 60 s, 1e-3 (milliseconds) 5 ms to 5 days, else 1 to 10^9.
 *
 * Series that come and go (one for each connector of the configuration) are written by a writer,
 * which owns its families: no table may have them.
 */
#ifndef RINGPOST_CORE_METRICS_H
#define RINGPOST_CORE_METRICS_H

#include "core/histogram.h"
#include "core/list.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

struct metric {
    const char *name;   /* ringpost_..., counters end in _total; same name = same family */
    const char *labels; /* "reason=\"relay\"", or NULL */
    const char *help;   /* the family's is the first one registered */
    enum metric_type type;
    double scale;  /* the exported value is number * scale; 0 means 1. Gauges are signed */
    size_t offset; /* of the uint64_t (or struct histogram) in the source's block */
};

struct metrics_source {
    struct list node;
    const struct metric *metrics;
    unsigned count;
    const void *block;
    int shard; /* -1: of the whole process, no shard label */
};

struct metrics_text;

struct metrics_writer {
    struct list node;
    void (*write)(struct metrics_writer *writer, struct metrics_text *text);
};

struct metrics {
    struct list sources;
    struct list writers;
};

void metrics_init(struct metrics *metrics);
/* Before the threads start, or from the control thread with the owner quiet. Keeps the pointers.
 * Names and labels that the format does not allow are our mistake (CHECK). */
void metrics_add_source(struct metrics *metrics, struct metrics_source *source,
                        const struct metric *table, unsigned count, const void *block, int shard);
void metrics_remove_source(struct metrics_source *source);
void metrics_add_writer(struct metrics *metrics, struct metrics_writer *writer);
/* For a writer: begins a family, all of whose series follow; name and labels as in struct metric.
 */
void metrics_text_family(struct metrics_text *text, const char *name, const char *help,
                         enum metric_type type);
void metrics_text_number(struct metrics_text *text, const char *name, const char *labels,
                         uint64_t number);
/* The whole text; *text is malloc'd, its size in bytes is the result; or -ENOMEM. */
[[nodiscard]] int64_t metrics_render(const struct metrics *metrics, char **text);

/* Writes name="value" with the value escaped, for tables that are made at start. Its length, or
 * -ENOSPC. */
[[nodiscard]] int metrics_label(char *out, size_t capacity, const char *name, const char *value);

static inline uint64_t metric_get(const uint64_t *value)
{
    return __atomic_load_n(value, __ATOMIC_RELAXED);
}
static inline void metric_set(uint64_t *value, uint64_t to)
{
    __atomic_store_n(value, to, __ATOMIC_RELAXED);
}
/* Only the owning thread writes. */
static inline void metric_add(uint64_t *value, uint64_t by)
{
    __atomic_store_n(value, __atomic_load_n(value, __ATOMIC_RELAXED) + by, __ATOMIC_RELAXED);
}
static inline void metric_sub(uint64_t *value, uint64_t by)
{
    __atomic_store_n(value, __atomic_load_n(value, __ATOMIC_RELAXED) - by, __ATOMIC_RELAXED);
}

#endif
