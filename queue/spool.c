/*
 * spool.c - opening a log, closing it, and its part in each turn of the loop
 *
 * All of the spool's work is done in one hook at the end of a turn: what landed is judged, those
 * who wait are told, what was appended in the turn becomes the next write. So whatever a turn of
 * the loop brought in goes out together, and a busy shard needs few writes. spool_log.c says what
 * is true on the disk when; spool_internal.h lists the parts.
 *
 * Memory is taken in spool_open. Owned by one shard; only the numbers are read by others.
 */
#include "queue/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "queue/recovery.h"
#include "queue/recovery_internal.h"
#include "queue/spool_internal.h"

static const struct spool_options defaults = {
    .segment_bytes = 64u << 20,
    .block_bytes = 1u << 20,
    .segments_max = 256,
    .segments_reserve = 2,
    .segments_moves = 1,
    .segments_ahead = 2,
    .cache_blocks = 32,
    .writers_max = 8'192,
    .read_buffers = 1'024,
    .message_bytes_max = 100u << 20,
};

#define DEFAULT(field)                                                                             \
    if (s->options.field == 0)                                                                     \
    s->options.field = defaults.field

static void set_options(struct spool *s, const struct spool_options *options)
{
    s->options = *options;
    DEFAULT(segment_bytes);
    DEFAULT(block_bytes);
    DEFAULT(segments_max);
    DEFAULT(segments_reserve);
    DEFAULT(segments_moves);
    DEFAULT(segments_ahead);
    DEFAULT(cache_blocks);
    DEFAULT(writers_max);
    DEFAULT(read_buffers);
    DEFAULT(message_bytes_max);
    CHECK(s->options.number < SPOOL_LOGS_MAX);
    CHECK(s->options.block_bytes >= SPOOL_BLOCK_BYTES_MIN);
    CHECK((s->options.block_bytes & (s->options.block_bytes - 1)) == 0);
    CHECK(s->options.segment_bytes >= SPOOL_SEGMENT_BYTES_MIN);
    CHECK(s->options.segment_bytes % s->options.block_bytes == 0);
    CHECK(s->options.segments_max <= SPOOL_SEGMENTS_MAX);
    CHECK(s->options.segments_moves < s->options.segments_reserve);
    CHECK(s->options.cache_blocks >= 4);
    CHECK(s->options.read_buffers >= 8);
}

static uint32_t staging_bytes(const struct spool_options *options)
{
    return MIN((uint32_t)SPOOL_STAGING_BYTES, options->block_bytes / 8);
}

uint64_t spool_writers_bytes(const struct spool_options *options)
{
    struct spool s;
    set_options(&s, options);
    return pool_bytes(staging_bytes(&s.options), s.options.writers_max) +
           pool_bytes(sizeof(struct spool_extents), s.options.writers_max);
}

uint64_t spool_buffers_bytes(const struct spool_options *options)
{
    struct spool s;
    set_options(&s, options);
    return (uint64_t)s.options.cache_blocks * s.options.block_bytes + read_bytes(&s.options) +
           compact_bytes(&s);
}

/* ---- one turn ---- */

static void publish(struct spool *s)
{
    const uint32_t *states = s->segments.states;
    metric_set(&s->metrics.segments_live, states[SEGMENT_USED]);
    metric_set(&s->metrics.segments_free, states[SEGMENT_FREE]);
    metric_set(&s->metrics.segments_failed, states[SEGMENT_FAILED]);
    metric_set(&s->metrics.segments_preparing, states[SEGMENT_PREPARING]);
    metric_set(&s->metrics.broken, s->broken);
}

/* At the end, as long as the disk may yet take the batch behind the last write: see spool_log.c. */
static bool proving(const struct spool *s)
{
    return s->closed && s->unproven && s->proofs_left > 0;
}

static void prove(struct spool *s)
{
    s->proofs_left--;
    (void)log_touch(s, SEGMENT_FOR_OUTCOMES);
}

static void on_hook(struct hook *hook)
{
    struct spool *s = container_of(hook, struct spool, hook);
    bool landed = s->landed || s->segments.landed;
    shard_forget(&s->wake);
    log_landed(s);
    if (!s->closed || proving(s) || !segments_idle(&s->segments))
        segments_run(&s->segments);
    segments_advance(&s->segments, position_segment(s->durable));
    compact_run(s);
    /* Retirement travels with the next batch; when space is short and nothing comes, alone. */
    if (s->segments.oldest > s->retired && s->writing == NULL && !s->closed &&
        s->segments.states[SEGMENT_FREE] < s->segments.ahead)
        (void)log_touch(s, SEGMENT_FOR_MOVES);
    log_flush(s);
    bool waiting = !list_empty(&s->waiting_append) || !list_empty(&s->waiting_commit);
    if (waiting && (landed || log_has_room(s, CHUNK_BYTES_MAX * 2)))
        write_wake(s);
    if (landed)
        publish(s);
}

static void on_wake(struct task *task)
{
    (void)task;
}

static void on_tick(struct timer *timer)
{
    struct spool *s = container_of(timer, struct spool, tick);
    segments_tick(&s->segments);
    compact_tick(s);
    if (s->writing == NULL && proving(s))
        prove(s);
    else if (s->writing == NULL && !s->closed && (s->broken || s->unproven))
        (void)log_touch(s, SEGMENT_FOR_OUTCOMES); /* does it work again?; see spool_log.c */
    write_wake(s);
    publish(s);
    shard_timer_arm(s->shard, &s->tick, TICK_MS);
}

/* ---- opening and closing ---- */

struct opening {
    struct spool *spool;
    uint32_t *holders; /* first segment of each live message, until the segments are known */
    size_t count, capacity;
    bool out_of_memory;
};

static void on_found(void *argument, const struct recovered *recovered)
{
    struct opening *o = argument;
    struct spool *s = o->spool;
    if (o->count == o->capacity) {
        size_t capacity = o->capacity * 2 + 1'024;
        uint32_t *holders = realloc(o->holders, capacity * sizeof(*holders));
        if (holders == NULL) {
            o->out_of_memory = true;
            return;
        }
        o->holders = holders;
        o->capacity = capacity;
    }
    o->holders[o->count++] = stored_first(&recovered->stored);
    s->metrics.live_messages++;
    s->metrics.live_bytes += (uint64_t)recovered->stored.units * RECORD_ALIGNMENT;
    if (s->options.found != NULL)
        s->options.found(s->options.owner, recovered);
}

/* Each start takes a new segment, and the bound may be lower than it was: whatever is there finds
 * its place, and outcomes always find a segment, or nothing would ever be freed again. */
static uint32_t segments_needed(const struct spool *s, const struct recovery *recovery)
{
    uint32_t used = 0;
    uint32_t highest = 0;
    for (uint32_t i = 0; i < recovery->files_count; i++) {
        const struct recovery_file *file = &recovery->files[i];
        used += file->walked;
        highest = MAX(highest, file->number + 1);
    }
    uint32_t count = MAX(s->options.segments_max, used + s->options.segments_reserve);
    return MIN(MAX(count, highest), (uint32_t)SPOOL_SEGMENTS_MAX);
}

/* Goes on where the recovered log ends: always in a new segment. */
static int take_over(struct spool *s, const struct recovery *recovery, const struct opening *o,
                     const char **why)
{
    s->seed = recovery->seed;
    while (s->seed == 0)
        s->seed = ring_entropy(s->shard->ring);
    int r = 0;
    if (!recovery->identity_known)
        r = recovery_identity_write(s->shard->ring, s->options.directory, s->seed,
                                    s->options.number);
    *why = "the log's identity file cannot be written";
    if (r < 0)
        return r;
    r = segments_init(&s->segments, s->shard, s->options.directory, s->options.segment_bytes,
                      segments_needed(s, recovery) + SEGMENTS_EXTRA + SEGMENTS_EXTRA_MOVES,
                      s->options.segments_reserve, s->options.segments_ahead);
    *why = "the log's directory cannot be opened and synced";
    if (r < 0)
        return r;
    s->segments.for_moves = s->options.segments_moves;
    s->segments.extra = SEGMENTS_EXTRA;
    s->segments.extra_moves = SEGMENTS_EXTRA_MOVES;
    s->segments.oldest = MAX(recovery->oldest, 1u);
    s->segments.newest = recovery->newest;
    s->retired = s->segments.oldest;
    s->durable = s->sealed_end = recovery->end;
    s->torn_from = recovery->torn_from;
    s->batch_number = recovery->batch_number;
    for (uint32_t i = 0; i < recovery->files_count; i++) {
        const struct recovery_file *file = &recovery->files[i];
        bool used = file->walked && file->sequence >= s->segments.oldest;
        r = segments_adopt(&s->segments, file->number, used ? file->sequence : 0, file->key,
                           file->bytes);
        *why = "a segment file cannot be opened for writing";
        if (r < 0)
            return r;
        s->metrics.dead_bytes += used ? file->bytes : 0;
    }
    s->metrics.dead_bytes -= MIN(s->metrics.dead_bytes, s->metrics.live_bytes);
    for (size_t i = 0; i < o->count; i++)
        segments_hold(&s->segments, o->holders[i]);
    r = segments_first(&s->segments);
    *why = "no space for a segment of the log";
    return r == -ENOSPC && recovery->files_count > 0 ? 0 : r; /* deliveries make room */
}

static void first_id(struct spool *s, const struct recovery *recovery)
{
    uint64_t mask = (UINT64_C(1) << ID_COUNTER_BITS) - 1;
    uint64_t clock = s->shard->wall_us > 0 ? ((uint64_t)s->shard->wall_us / 1'000'000) << 20 : 1;
    uint64_t seen = (recovery->next_id & mask) + ID_GAP;
    s->next_id = (uint64_t)s->options.number << ID_COUNTER_BITS | (MAX(clock, seen) & mask);
}

static int open_parts(struct spool *s)
{
    s->staging_bytes = staging_bytes(&s->options);
    int r = log_init(s);
    if (r == 0)
        r = read_init(s);
    if (r == 0)
        r = compact_init(s);
    if (r == 0)
        r = pool_init(&s->staging, "spool staging", s->staging_bytes, s->options.writers_max);
    if (r == 0)
        r = pool_init(&s->extents, "spool extents", sizeof(struct spool_extents),
                      s->options.writers_max);
    return r;
}

static void free_parts(struct spool *s)
{
    if (s->segments.files != NULL)
        segments_free(&s->segments);
    compact_free(s);
    pool_free(&s->staging);
    pool_free(&s->extents);
    read_free(s);
    log_free(s);
    free(s);
}

/* The log's directory, and its name on the disk: else a power cut could take the whole of it. */
static int make_directory(struct spool *s)
{
    struct ring *ring = s->shard->ring;
    int r = ring->ops->now_mkdir(ring, s->options.directory, 0700);
    if (r < 0 && r != -EEXIST)
        return r;
    char parent[SEGMENT_PATH_MAX];
    int n = snprintf(parent, sizeof(parent), "%s", s->options.directory);
    if (n < 0 || n >= (int)sizeof(parent))
        return -ENAMETOOLONG;
    char *slash = strrchr(parent, '/');
    if (slash == NULL)
        snprintf(parent, sizeof(parent), ".");
    else if (slash == parent)
        slash[1] = '\0';
    else
        *slash = '\0';
    int fd = ring->ops->now_open(ring, parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    if (fd < 0)
        return fd;
    r = ring->ops->now_sync(ring, fd);
    (void)ring->ops->now_close(ring, fd);
    return r;
}

int spool_open(struct shard *shard, const struct spool_options *options,
               struct recovery_report *report, struct spool **out, const char **why)
{
    *why = "out of memory";
    struct spool *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return -ENOMEM;
    s->shard = shard;
    set_options(s, options);
    list_init(&s->writers);
    list_init(&s->waiting_append);
    list_init(&s->waiting_commit);
    task_init(&s->wake, on_wake);
    timer_init(&s->tick, on_tick);
    struct recovery_report ignored;
    struct recovery *recovery = NULL;
    struct opening opening = { .spool = s };
    struct recovery_options how = {
        .directory = s->options.directory,
        .quarantine = s->options.quarantine,
        .number = s->options.number,
        .segment_bytes = s->options.segment_bytes,
        .block_bytes = s->options.block_bytes,
        .segments_max = s->options.segments_max,
        .prove = true,
        .owner = &opening,
        .found = on_found,
    };
    int r = open_parts(s);
    if (r < 0)
        goto out_free;
    r = make_directory(s);
    *why = "the log's directory cannot be made and synced";
    if (r < 0)
        goto out_free;
    r = recovery_run(shard->ring, &how, report != NULL ? report : &ignored, &recovery, why);
    if (r < 0)
        goto out_free;
    r = take_over(s, recovery, &opening, why);
    if (r == 0 && opening.out_of_memory) {
        r = -ENOMEM;
        *why = "out of memory";
    }
    if (r < 0)
        goto out_free;
    first_id(s, recovery);
    s->metrics.quarantined = (report != NULL ? report : &ignored)->messages_damaged;
    shard_hook(shard, &s->hook, on_hook);
    shard_timer_arm(shard, &s->tick, TICK_MS);
    publish(s);
    *out = s;
    *why = NULL;
out_free:
    recovery_free(recovery);
    free(opening.holders);
    if (r < 0)
        free_parts(s);
    return r;
}

void spool_stop(struct spool *s)
{
    s->closed = true;
    s->proofs_left = PROOFS_MAX;
    if (s->writing == NULL && proving(s))
        prove(s);
    shard_run_later(s->shard, &s->wake);
}

bool spool_idle(const struct spool *s)
{
    bool clean = list_empty(&s->pending);
    if (!clean && s->current != NULL && s->pending.next == &s->current->node)
        clean = s->current->durable == s->current->fill;
    return clean && s->writing == NULL && !s->landed && list_empty(&s->commits) &&
           segments_idle(&s->segments) && s->reads_inflight == 0 && compact_idle(s) && !proving(s);
}

bool spool_proven(const struct spool *s)
{
    return !s->unproven;
}

void spool_close(struct spool *s)
{
    CHECK(spool_idle(s));
    CHECK(list_empty(&s->writers));
    shard_timer_disarm(s->shard, &s->tick);
    shard_forget(&s->wake);
    list_remove(&s->hook.node);
    free_parts(s);
}

/* ---- numbers ---- */

const struct spool_metrics *spool_metrics(const struct spool *s)
{
    return &s->metrics;
}

#define NUMBER(name_, type_, field_, help_)                                                        \
    {                                                                                              \
        .name = "ringpost_spool_" name_, .help = help_, .type = type_,                             \
        .offset = offsetof(struct spool_metrics, field_)                                           \
    }
#define STATE(state_, field_)                                                                      \
    {                                                                                              \
        .name = "ringpost_spool_segments", .labels = "state=\"" state_ "\"",                       \
        .help = "segments by state", .type = METRIC_GAUGE,                                         \
        .offset = offsetof(struct spool_metrics, field_)                                           \
    }

const struct metric spool_metrics_table[] = {
    NUMBER("syncs_total", METRIC_COUNTER, writes, "durable writes that landed, each one a batch"),
    NUMBER("syncs_failed_total", METRIC_COUNTER, writes_failed, "durable writes that failed"),
    NUMBER("bytes_total", METRIC_COUNTER, bytes, "bytes made durable"),
    NUMBER("padding_bytes_total", METRIC_COUNTER, padding_bytes, "of these, filling of blocks"),
    NUMBER("messages_total", METRIC_COUNTER, messages, "messages made durable"),
    NUMBER("messages_failed_total", METRIC_COUNTER, messages_failed,
           "messages refused because their write failed"),
    NUMBER("aborted_total", METRIC_COUNTER, aborted, "messages given up before their commit"),
    NUMBER("outcomes_total", METRIC_COUNTER, outcomes, "outcomes of recipients appended"),
    NUMBER("appends_stalled_total", METRIC_COUNTER, appends_stalled,
           "appends that had to wait for the disk"),
    NUMBER("refused_space_total", METRIC_COUNTER, refused_space, "messages refused for space"),
    NUMBER("quarantined_total", METRIC_COUNTER, quarantined, "messages found damaged"),
    NUMBER("moved_total", METRIC_COUNTER, moved, "messages moved by compaction"),
    NUMBER("moved_bytes_total", METRIC_COUNTER, moved_bytes, "bytes moved by compaction"),
    NUMBER("reads_total", METRIC_COUNTER, reads, "reads from the disk"),
    NUMBER("reads_cached_total", METRIC_COUNTER, reads_cached, "records read from memory"),
    NUMBER("reads_failed_total", METRIC_COUNTER, reads_failed, "failed or damaged reads"),
    NUMBER("live_messages", METRIC_GAUGE, live_messages, "messages in the log"),
    NUMBER("live_bytes", METRIC_GAUGE, live_bytes, "bytes of messages in the log"),
    NUMBER("dead_bytes", METRIC_GAUGE, dead_bytes, "other bytes in used segments"),
    STATE("used", segments_live),
    STATE("free", segments_free),
    STATE("failed", segments_failed),
    STATE("preparing", segments_preparing),
    NUMBER("broken", METRIC_GAUGE, broken, "1: writes fail, no new mail is taken"),
    NUMBER("batch_records", METRIC_HISTOGRAM, batch_records, "records in a durable write"),
    { .name = "ringpost_spool_write_seconds",
      .help = "time of a durable write",
      .type = METRIC_HISTOGRAM,
      .scale = 1e-6,
      .offset = offsetof(struct spool_metrics, write_us) },
};
const unsigned spool_metrics_count = ARRAY_COUNT(spool_metrics_table);
