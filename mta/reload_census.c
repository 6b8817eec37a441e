/*
 * reload_census.c - walking a queue, and the choices of two configurations side by side
 */
#include "mta/reload_census.h"

#include <errno.h>
#include <string.h>

#include "core/check.h"
#include "mta/outbound_envelope.h"
#include "mta/server.h"

/* ---- whether to count ---- */

static bool same_patterns(const struct pattern_set *a, const struct pattern_set *b)
{
    char x[PATTERN_TEXT_MAX + 2], y[PATTERN_TEXT_MAX + 2];
    bool same = pattern_set_count(a) == pattern_set_count(b);
    for (unsigned i = 0; same && i < pattern_set_count(a); i++)
        same = slice_equal(pattern_set_text(a, i, x), pattern_set_text(b, i, y));
    return same;
}

/* Where mail came from decides by label and type of that connector. */
static bool same_inbound(const struct inbound_set *a, const struct inbound_set *b)
{
    bool same = inbound_count(a) == inbound_count(b);
    for (unsigned i = 0; same && i < inbound_count(a); i++) {
        const struct inbound *x = inbound_at(a, i), *y = inbound_at(b, i);
        same =
            x->type == y->type && strcmp(x->name, y->name) == 0 && strcmp(x->label, y->label) == 0;
    }
    return same;
}

bool reload_census_is_needed(const struct config *now, const struct config *next)
{
    const struct outbound_set *a = &now->outbound, *b = &next->outbound;
    bool same = a->count == b->count && a->rules_count == 0 && b->rules_count == 0 &&
                route_floor(a->default_route) == route_floor(b->default_route) &&
                same_patterns(a->own, b->own) && same_inbound(now->inbound, next->inbound);
    for (unsigned i = 0; same && i < a->count; i++) {
        const struct outbound *x = &a->connectors[i], *y = &b->connectors[i];
        same = x->digest == y->digest && x->state == y->state &&
               strcmp(x->route.name, y->route.name) == 0;
    }
    return !same;
}

/* ---- counting ---- */

static void count_message(struct reload_census *q, const struct message *m,
                          const struct envelope *envelope)
{
    struct recipient recipient;
    size_t cursor = 0;
    memset(q->waiting, 0, sizeof(q->waiting));
    for (const struct unit *unit = m->units; unit != NULL; unit = unit->sibling) {
        uint32_t place = unit->first, index;
        while (unit_next(unit, &place, &index))
            q->waiting[index / 64] |= UINT64_C(1) << index % 64;
    }
    for (uint32_t i = 0; envelope_next(envelope, &cursor, &recipient); i++) {
        struct outbound_change change;
        if ((q->waiting[i / 64] >> i % 64 & 1) == 0)
            continue;
        outbound_compare(q->now, q->next, envelope, &recipient, &change);
        const unsigned count = q->now->outbound.count;
        struct census_row *row = &q->rows[change.from == NULL ? count : change.from->route.index];
        row->moves += change.moves;
        row->weaker += change.weaker;
    }
}

static void stop_reading(struct reload_census *q)
{
    if (q->reading != 0)
        spool_read_end(&q->read);
    q->reading = 0;
}

/* 0, or -EAGAIN: the task is run again. What cannot be read goes nowhere, and is not counted. */
static int look_at(struct reload_census *q, const struct message *m)
{
    struct envelope envelope;
    if (q->reading != m->stored.id) {
        stop_reading(q); /* it left the queue while we read it */
        q->reading = m->stored.id;
        spool_read_begin(q->queue->spool, &q->read, &m->stored, &q->task);
    }
    int r = spool_read_envelope(&q->read, &envelope);
    if (r == -EAGAIN)
        return r;
    if (r == 0)
        count_message(q, m, &envelope);
    stop_reading(q);
    return 0;
}

static void run(struct task *task)
{
    struct reload_census *q = container_of(task, struct reload_census, task);
    struct server_shard *server = q->shard->owner;
    for (unsigned looked = 0; q->log < server->logs_count; looked++) {
        uint32_t cursor = q->cursor;
        q->queue = &server->logs[q->log].queue;
        const struct message *m = queue_next(q->queue, &cursor);
        if (m == NULL) {
            stop_reading(q);
            q->log++;
            q->cursor = 0;
            continue;
        }
        if (looked >= CENSUS_STEP) {
            shard_run_later(q->shard, &q->task);
            return;
        }
        if (look_at(q, m) == -EAGAIN)
            return;
        q->cursor = cursor;
    }
    const struct handoff answer = { .kind = HANDOFF_COUNTED, .pointer = q };
    if (shard_handoff(q->shard, q->shard->group->count - 1, answer) < 0)
        shard_run_later(q->shard, &q->task); /* control is far behind: try again */
}

void reload_census_asked(struct shard *shard, const struct handoff *handoff)
{
    struct reload_census *q = handoff->pointer;
    q->shard = shard;
    task_init(&q->task, run);
    shard_run_later(shard, &q->task);
}
