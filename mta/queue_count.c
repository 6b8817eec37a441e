/*
 * queue_count.c - one message after the other, STEP of them in a turn of the loop
 *
 *   WAITING --timer--> a round: on_task ... on_task --no more messages--> publish --> WAITING
 *
 * What comes or goes during a round is counted or not; the next one mends it. Rows are address
 * space until they are used. Bounds: a row for each connector.
 */
#include "mta/queue_count.h"

#include <errno.h>
#include <sys/mman.h>

#include "core/check.h"
#include "core/metrics.h"
#include "mta/connector_count.h"
#include "mta/server.h"

enum {
    COUNT_MS = 10'000,
    STEP = 256,
    SHARE = 100, /* of the time that a round may take: one in so many */
    NS_IN_MS = 1'000'000,
};

static uint32_t slot_of(struct queue_count *count, const struct destination *d)
{
    const struct config *config = count->server->generations.current->config;
    struct route_key_parts parts;
    if (d == count->last)
        return count->last_slot;
    uint32_t slot = 0;
    if (route_key_read(d->key, &parts)) {
        const struct outbound *connector = outbound_named(&config->outbound, parts.name);
        slot = connector == NULL ? 0 : config->outbound_slots[connector->route.index];
    }
    CHECK(slot < CONNECTOR_SLOTS_MAX);
    count->last = d;
    count->last_slot = slot;
    return slot;
}

static void look_at(struct queue_count *count, const struct message *m)
{
    for (const struct unit *unit = m->units; unit != NULL; unit = unit->sibling) {
        const uint32_t slot = slot_of(count, unit->destination);
        struct queue_row *row = &count->counts[slot];
        const uint64_t arrival_us = MAX((uint64_t)m->arrival_us, UINT64_C(1));
        row->recipients += unit->count;
        if (row->oldest_us == 0 || arrival_us < row->oldest_us)
            row->oldest_us = arrival_us;
        count->counts_end = MAX(count->counts_end, slot + 1);
    }
}

static void publish(struct queue_count *count)
{
    const uint32_t end = MAX(count->counts_end, count->rows_end);
    for (uint32_t i = 0; i < end; i++) {
        metric_set(&count->rows[i].recipients, count->counts[i].recipients);
        metric_set(&count->rows[i].oldest_us, count->counts[i].oldest_us);
    }
    if (count->counts_end > 0)
        memset(count->counts, 0, count->counts_end * sizeof(*count->counts));
    count->rows_end = count->counts_end;
    count->counts_end = 0;
}

static uint64_t clock_ns(const struct queue_count *count)
{
    uint64_t now_ns;
    int64_t wall_us;
    ring_clock(count->server->shard.ring, &now_ns, &wall_us);
    return now_ns;
}

/* True: that was all. */
static bool step(struct queue_count *count)
{
    struct server_shard *server = count->server;
    count->last = NULL; /* it may be gone by now */
    for (uint32_t left = STEP; count->log < server->logs_count;) {
        struct queue *queue = &server->logs[count->log].queue;
        if (left == 0)
            return false;
        const uint32_t from = count->cursor;
        const struct message *m = queue_walk(queue, &count->cursor, left);
        left -= count->cursor - from;
        if (m != NULL) {
            look_at(count, m);
        } else if (queue_walked(queue, count->cursor)) {
            count->log++;
            count->cursor = 0;
        }
    }
    return true;
}

static void on_task(struct task *task)
{
    struct queue_count *count = container_of(task, struct queue_count, task);
    struct shard *shard = &count->server->shard;
    const uint64_t began_ns = clock_ns(count);
    const bool over = step(count);
    count->spent_ns += clock_ns(count) - began_ns;
    if (!over) {
        shard_run_later(shard, task);
        return;
    }
    publish(count);
    shard_timer_arm(shard, &count->timer,
                    MAX((uint64_t)COUNT_MS, count->spent_ns * SHARE / NS_IN_MS));
}

static void on_timer(struct timer *timer)
{
    struct queue_count *count = container_of(timer, struct queue_count, timer);
    count->log = 0;
    count->cursor = 0;
    count->spent_ns = 0;
    on_task(&count->task);
}

static struct queue_row *reserve(void)
{
    void *memory = mmap(NULL, sizeof(struct queue_row) * CONNECTOR_SLOTS_MAX,
                        PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

int queue_count_init(struct queue_count *count, struct server_shard *server)
{
    count->server = server;
    timer_init(&count->timer, on_timer);
    task_init(&count->task, on_task);
    count->rows = reserve();
    count->counts = reserve();
    return count->rows == NULL || count->counts == NULL ? -ENOMEM : 0;
}

void queue_count_free(struct queue_count *count)
{
    if (count->rows != NULL)
        munmap(count->rows, sizeof(*count->rows) * CONNECTOR_SLOTS_MAX);
    if (count->counts != NULL)
        munmap(count->counts, sizeof(*count->counts) * CONNECTOR_SLOTS_MAX);
    count->rows = NULL;
    count->counts = NULL;
}

void queue_count_start(struct queue_count *count)
{
    if (count->rows != NULL)
        shard_timer_arm(&count->server->shard, &count->timer, 0);
}

void queue_count_stop(struct queue_count *count)
{
    if (count->rows == NULL)
        return;
    shard_timer_disarm(&count->server->shard, &count->timer);
    shard_forget(&count->task);
}
