/*
 * queue_top.c - counting destinations a slice at a time, and putting shards' answers together
 */
#include "mta/queue_top.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/next_hop.h"
#include "mta/server.h"

enum { TOP_DESTINATIONS = 8 * TOP_SCAN, US_IN_S = 1'000'000, MS_IN_S = 1'000 };

struct queue_top_question *queue_top_new(uint32_t destinations_max, enum queue_top_order order,
                                         const char *only)
{
    struct queue_top_question *q = calloc(1, sizeof(*q) + destinations_max * sizeof(q->counts[0]));
    if (q == NULL)
        return NULL;
    q->order = order;
    snprintf(q->only, sizeof(q->only), "%s", only);
    q->counts_size = destinations_max;
    return q;
}

/* ---- the largest of a shard ---- */

static uint64_t count_of(const struct queue_top_count *c)
{
    uint64_t count = 0;
    for (unsigned i = 0; i <= UNIT_HELD; i++)
        count += c->units[i];
    return count;
}

static uint64_t rank_of(const struct queue_top_question *q, const struct queue_top_count *c)
{
    return q->order == TOP_BY_COUNT ? count_of(c) : UINT64_MAX - (uint64_t)MAX(c->oldest_us, 0);
}

static void heap_sink(struct queue_top_question *q, uint32_t at)
{
    for (;;) {
        uint32_t least = at;
        for (uint32_t child = 2 * at + 1; child <= 2 * at + 2; child++)
            if (child < q->heap_count && q->heap[child].rank < q->heap[least].rank)
                least = child;
        if (least == at)
            return;
        const typeof(q->heap[0]) moved = q->heap[at];
        q->heap[at] = q->heap[least];
        q->heap[least] = moved;
        at = least;
    }
}

static void heap_add(struct queue_top_question *q, uint64_t rank, uint32_t index)
{
    if (q->heap_count < TOP_ROWS_MAX) {
        uint32_t at = q->heap_count++;
        for (; at > 0 && q->heap[(at - 1) / 2].rank > rank; at = (at - 1) / 2)
            q->heap[at] = q->heap[(at - 1) / 2];
        q->heap[at].rank = rank;
        q->heap[at].index = index;
    } else if (rank > q->heap[0].rank) {
        q->heap[0].rank = rank;
        q->heap[0].index = index;
        heap_sink(q, 0);
    }
}

static const char *binds_of(const struct destination *d, char words[static TOP_BINDS_WORDS])
{
    static_assert((int)TOP_BINDS_WORDS >= (int)HOP_BINDS_WORDS_MAX);
    const struct next_hop *hop = d->owner;
    const enum hop_bind bind = hop_binds(d, words);
    return bind == HOP_BINDS_BLOCKED && hop->suspended ? "suspended" : hop_bind_name(bind);
}

static void row_of(const struct queue_top_question *q, const struct destination *d,
                   const struct queue_top_count *c, struct queue_top_row *row)
{
    const struct next_hop *hop = d->owner;
    *row = (struct queue_top_row) { .recipients = c->recipients,
                                    .oldest_us = c->oldest_us,
                                    .failures = d->failures,
                                    .connections = hop == NULL ? 0 : hop->links_count };
    for (unsigned i = 0; i <= UNIT_HELD; i++)
        row->units[i] = c->units[i];
    if (d->retry_ms > q->shard->now_ms)
        row->retry_ms = d->retry_ms - q->shard->now_ms;
    row->bound = c->units[UNIT_READY];
    row->binds = binds_of(d, row->words);
    memcpy(row->key, d->key, sizeof(row->key));
    memcpy(row->error, d->error, sizeof(row->error));
}

/* What the heap has of this log becomes rows; the least of earlier logs' give way. */
static void heap_empty(struct queue_top_question *q, const struct queue *queue)
{
    for (uint32_t i = 0; i < q->heap_count; i++) {
        const uint32_t index = q->heap[i].index;
        const struct destination *d = pool_at(&queue->destinations, index);
        if (q->rows_count < TOP_ROWS_MAX && (q->counts[index].recipients > 0 || q->only[0] != '\0'))
            row_of(q, d, &q->counts[index], &q->rows[q->rows_count++]);
    }
    q->heap_count = 0;
}

/* ---- walking ---- */

static void count_message(struct queue_top_question *q, const struct queue *queue,
                          const struct message *m)
{
    for (const struct unit *unit = m->units; unit != NULL; unit = unit->sibling) {
        const uint32_t index = pool_index(&queue->destinations, unit->destination);
        if (index >= q->counts_size)
            continue;
        struct queue_top_count *c = &q->counts[index];
        if (c->recipients == 0 || m->arrival_us < c->oldest_us)
            c->oldest_us = m->arrival_us;
        c->units[unit->state]++;
        c->recipients += unit->count;
        q->units++;
    }
}

/* True: there is more. */
static bool count_some(struct queue_top_question *q, struct queue *queue)
{
    const uint32_t end = q->cursor + TOP_SCAN;
    const struct message *m;
    while ((m = queue_walk(queue, &q->cursor, end - q->cursor)) != NULL)
        count_message(q, queue, m);
    return !queue_walked(queue, q->cursor);
}

/* The limits that it keeps with others: those of a connection, or of what it waits in. */
static void site_of(struct queue_top_question *q, const struct destination *d)
{
    const struct next_hop *hop = d->owner;
    if (hop == NULL)
        return;
    const struct lease *lease = hop->site;
    if (lease == NULL && !list_empty(&hop->links))
        lease = container_of(hop->links.next, struct link, node)->lease.lease;
    if (lease == NULL)
        return;
    q->site_connections = lease->slots_used; /* the same of each log of this shard */
    q->site_limit = lease->limits.slots;
    q->site_rate = lease->limits.rate;
}

/* False: there is no more, for it is the only one. */
static bool rank_only(struct queue_top_question *q, struct queue *queue)
{
    const struct destination *d = queue_destination_find(queue, q->only, strlen(q->only));
    const uint32_t index = d == NULL ? UINT32_MAX : pool_index(&queue->destinations, d);
    if (index >= q->counts_size)
        return false;
    q->destinations++;
    site_of(q, d);
    heap_add(q, 0, index);
    return false;
}

static bool rank_some(struct queue_top_question *q, struct queue *queue)
{
    if (q->only[0] != '\0')
        return rank_only(q, queue);
    for (unsigned i = 0; i < TOP_DESTINATIONS && q->cursor < q->counts_size; i++, q->cursor++) {
        const struct queue_top_count *c = &q->counts[q->cursor];
        if (c->recipients == 0)
            continue;
        q->destinations++;
        heap_add(q, rank_of(q, c), q->cursor);
    }
    return q->cursor < q->counts_size;
}

static void top_run(struct task *task)
{
    struct queue_top_question *q = container_of(task, struct queue_top_question, task);
    struct server_shard *server = q->shard->owner;
    if (q->log < server->logs_count && !server->draining) {
        struct queue *queue = &server->logs[q->log].queue;
        if (!q->counted) {
            if (!count_some(q, queue)) {
                q->counted = true;
                q->cursor = 0;
            }
        } else if (!rank_some(q, queue)) {
            heap_empty(q, queue);
            q->counted = false;
            q->cursor = 0;
            if (++q->log < server->logs_count)
                memset(q->counts, 0, q->counts_size * sizeof(q->counts[0]));
        }
        shard_run_later(q->shard, &q->task);
        return;
    }
    const struct handoff answer = { .kind = HANDOFF_TOP_TOLD, .pointer = q };
    if (shard_handoff(q->shard, q->shard->group->count - 1, answer) < 0)
        shard_run_later(q->shard, &q->task); /* control is far behind: try again */
}

void queue_top_asked(struct shard *shard, const struct handoff *handoff)
{
    struct queue_top_question *q = handoff->pointer;
    q->shard = shard;
    task_init(&q->task, top_run);
    shard_run_later(shard, &q->task);
}

/* ---- merging ---- */

static int by_key(const void *a, const void *b)
{
    const struct queue_top_row *const *x = a, *const *y = b;
    return strcmp((*x)->key, (*y)->key);
}

static uint64_t row_count(const struct queue_top_row *row)
{
    uint64_t count = 0;
    for (unsigned i = 0; i <= UNIT_HELD; i++)
        count += row->units[i];
    return count;
}

static int by_count(const void *a, const void *b)
{
    const struct queue_top_row *const *x = a, *const *y = b;
    const uint64_t m = row_count(*x), n = row_count(*y);
    return m != n ? (m < n) - (m > n) : by_key(a, b);
}

static int by_age(const void *a, const void *b)
{
    const struct queue_top_row *const *x = a, *const *y = b;
    const int64_t m = (*x)->oldest_us, n = (*y)->oldest_us;
    return m != n ? (m > n) - (m < n) : by_key(a, b);
}

/* What binds where more of it waits is what is said of all. */
static void row_add(struct queue_top_row *sum, const struct queue_top_row *row)
{
    for (unsigned i = 0; i <= UNIT_HELD; i++)
        sum->units[i] += row->units[i];
    sum->recipients += row->recipients;
    sum->connections += row->connections;
    sum->failures = MAX(sum->failures, row->failures);
    sum->retry_ms = MAX(sum->retry_ms, row->retry_ms);
    sum->oldest_us = MIN(sum->oldest_us, row->oldest_us);
    if (sum->error[0] == '\0')
        memcpy(sum->error, row->error, sizeof(sum->error));
    if (row->bound <= sum->bound)
        return;
    sum->bound = row->bound;
    sum->binds = row->binds;
    memcpy(sum->words, row->words, sizeof(sum->words));
}

static json_t *json_of(const struct queue_top_row *row, int64_t now_us)
{
    return json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s, s:s}",
                     "destination", row->key, "recipients", (json_int_t)row->recipients, "ready",
                     (json_int_t)row->units[UNIT_READY], "active",
                     (json_int_t)row->units[UNIT_ACTIVE] + (json_int_t)row->units[UNIT_SETTLING],
                     "deferred", (json_int_t)row->units[UNIT_DEFERRED], "held",
                     (json_int_t)row->units[UNIT_HELD], "oldest_s",
                     (json_int_t)(MAX(now_us - row->oldest_us, 0) / US_IN_S), "connections",
                     (json_int_t)row->connections, "failures", (json_int_t)row->failures,
                     "retry_in_s", (json_int_t)(row->retry_ms / MS_IN_S), "binds", row->binds,
                     "why", row->words, "error", row->error);
}

/* Rows of one key become one, the first of them. How many are left. */
static uint32_t merge_keys(struct queue_top_row **rows, uint32_t count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (kept > 0 && strcmp(rows[kept - 1]->key, rows[i]->key) == 0)
            row_add(rows[kept - 1], rows[i]);
        else
            rows[kept++] = rows[i];
    }
    return kept;
}

static json_t *site_json(struct queue_top_question *const *answers, unsigned count)
{
    uint64_t connections = 0;
    uint32_t limit = 0, rate = 0;
    for (unsigned i = 0; i < count; i++) {
        connections += answers[i]->site_connections;
        limit = MAX(limit, answers[i]->site_limit);
        rate = MAX(rate, answers[i]->site_rate);
    }
    return json_pack("{s:I, s:I, s:I}", "connections", (json_int_t)connections, "limit",
                     (json_int_t)limit, "rate", (json_int_t)rate);
}

json_t *queue_top_merge(struct queue_top_question *const *answers, unsigned count, unsigned limit,
                        int64_t now_us)
{
    uint32_t total = 0;
    uint64_t units = 0;
    bool whole = true;
    for (unsigned i = 0; i < count; i++) {
        total += answers[i]->rows_count;
        units += answers[i]->units;
        whole = whole && answers[i]->destinations == answers[i]->rows_count;
    }
    struct queue_top_row **rows = calloc(total + 1, sizeof(struct queue_top_row *));
    json_t *list = json_array();
    total = 0;
    uint64_t most = 0;
    for (unsigned i = 0; rows != NULL && i < count; i++) {
        most = MAX(most, answers[i]->destinations);
        for (uint32_t k = 0; k < answers[i]->rows_count; k++)
            rows[total++] = &answers[i]->rows[k];
    }
    if (total > 0) {
        qsort(rows, total, sizeof(struct queue_top_row *), by_key);
        total = merge_keys(rows, total);
        qsort(rows, total, sizeof(struct queue_top_row *),
              answers[0]->order == TOP_BY_AGE ? by_age : by_count);
    }
    for (uint32_t i = 0; i < MIN(total, limit); i++)
        json_array_append_new(list, json_of(rows[i], now_us));
    free(rows);
    json_t *site = answers[0]->only[0] == '\0' ? NULL : site_json(answers, count);
    /* Where a shard has more than it tells of: at least as many as the one that has most. */
    return json_pack("{s:o, s:I, s:b, s:I, s:o*}", "destinations", list, "total",
                     (json_int_t)(whole ? total : MAX(most, (uint64_t)total)), "total_is_exact",
                     whole, "units", (json_int_t)units, "site", site);
}
