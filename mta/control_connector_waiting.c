/*
 * control_connector_waiting.c - what waits by each outbound connector: metrics, and events when it
 * is much, or waits for long where TLS is demanded
 *
 * Shards count (mta/queue_count.h); this adds up. An event begins at QUEUED_MANY recipients, or at
 * QUEUED_OLD_S where the connector demands TLS, and its end is told at three quarters of that: what
 * goes to and fro at the mark is told once. Bounds: LINES_MAX events a look, the others at the
 * next.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/control.h"

enum {
    LOOK_MS = 10'000,
    LINES_MAX = 64,
    QUEUED_MANY = 200,
    QUEUED_OLD_S = 3'600,
    US_IN_S = 1'000'000,
    TOLD_MANY = 1 << 0,
    TOLD_OLD = 1 << 1,
};

void control_waiting_of(const struct control *control, uint32_t slot,
                        struct control_waiting *queued)
{
    const struct config *config = control->config;
    const char *name = control->connectors.slots[CONNECTOR_OUT].names[slot];
    uint64_t oldest_us = 0;
    *queued = (struct control_waiting) { .recipients = 0 };
    for (unsigned i = 0; i < control->servers_count; i++) {
        const struct queue_row *rows = control->servers[i].count.rows;
        if (rows == NULL)
            continue;
        const uint64_t since_us = metric_get(&rows[slot].oldest_us);
        queued->recipients += metric_get(&rows[slot].recipients);
        if (since_us != 0 && (oldest_us == 0 || since_us < oldest_us))
            oldest_us = since_us;
    }
    const uint64_t now_us = (uint64_t)control->shard.steady_us;
    if (oldest_us != 0 && oldest_us < now_us)
        queued->oldest_s = (now_us - oldest_us) / US_IN_S;
    const struct outbound *connector = outbound_named(&config->outbound, slice_of_string(name));
    const struct route *route = connector == NULL ? &config->default_route : &connector->route;
    queued->forced = route_floor(route) > TLS_LEVEL_MAY ||
                     (route_floor(route) == TLS_LEVEL_MAY && route->clear == ROUTE_CLEAR_NEVER);
}

static void tell(struct control *control, const char *name, const struct control_waiting *queued,
                 const char *what, bool begins)
{
    struct log_line line;
    const struct shard *shard = &control->shard;
    log_begin(&line, shard->log, begins ? LOG_WARNING : LOG_INFO, shard->wall_us,
              begins ? "connector_queue" : "connector_queue_over");
    log_string(&line, "connector", name);
    log_string(&line, "what", what);
    log_number(&line, "recipients", (int64_t)queued->recipients);
    log_number(&line, "oldest_s", (int64_t)queued->oldest_s);
    log_bool(&line, "forced", queued->forced);
    log_end(&line);
}

/* Lines that were written. */
static unsigned look_at(struct control *control, uint32_t slot)
{
    struct control_connectors *c = &control->connectors;
    struct control_waiting queued;
    control_waiting_of(control, slot, &queued);
    const struct {
        uint8_t told;
        bool begins, over;
        const char *what;
    } marks[] = {
        { TOLD_MANY, queued.recipients > QUEUED_MANY, queued.recipients <= QUEUED_MANY * 3 / 4,
          "many" },
        { TOLD_OLD, queued.forced && queued.oldest_s > QUEUED_OLD_S,
          !queued.forced || queued.oldest_s <= QUEUED_OLD_S * 3 / 4, "old" },
    };
    unsigned lines = 0;
    for (unsigned i = 0; i < ARRAY_COUNT(marks); i++) {
        const bool told = (c->queue_told[slot] & marks[i].told) != 0;
        if (told ? !marks[i].over : !marks[i].begins)
            continue;
        c->queue_told[slot] ^= marks[i].told;
        tell(control, c->slots[CONNECTOR_OUT].names[slot], &queued, marks[i].what, !told);
        lines++;
    }
    return lines;
}

static void on_look(struct timer *timer)
{
    struct control *control = container_of(timer, struct control, connectors.queue_timer);
    const uint32_t slots = control->connectors.slots[CONNECTOR_OUT].count;
    unsigned lines = 0;
    for (uint32_t slot = 0; slot < slots && lines < LINES_MAX; slot++)
        lines += look_at(control, slot);
    shard_timer_arm(&control->shard, timer, LOOK_MS);
}

int control_waiting_start(struct control *control)
{
    struct control_connectors *c = &control->connectors;
    c->queue_told = calloc(CONNECTOR_SLOTS_MAX, sizeof(*c->queue_told));
    if (c->queue_told == NULL)
        return -ENOMEM;
    for (unsigned i = 0; i < control->servers_count; i++) {
        int r = queue_count_init(&control->servers[i].count, &control->servers[i]);
        if (r < 0)
            return r;
    }
    timer_init(&c->queue_timer, on_look);
    shard_timer_arm(&control->shard, &c->queue_timer, LOOK_MS);
    return 0;
}

void control_waiting_stop(struct control *control)
{
    struct control_connectors *c = &control->connectors;
    if (c->queue_told != NULL)
        shard_timer_disarm(&control->shard, &c->queue_timer);
    free(c->queue_told);
    c->queue_told = NULL;
}
