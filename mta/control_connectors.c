/*
 * control_connectors.c - slots for the connectors of each generation, and the sums of their rows
 *
 * A slot whose name no living generation has may be given to another name when all are taken: then
 * its rows begin anew. No shard holds such a row, for it has given the generation back.
 */
#include "mta/control_connectors.h"

#include <errno.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/control.h"

int control_connectors_open(struct control *control)
{
    struct control_connectors *c = &control->connectors;
    for (unsigned i = 0; i < CONNECTOR_DIRECTIONS; i++) {
        int r = connector_slots_init(&c->slots[i], CONNECTOR_SLOTS_MAX);
        c->now[i] = connector_now_new();
        if (r < 0 || c->now[i] == NULL)
            return -ENOMEM;
    }
    control_connectors_assign(control, control->config);
    return 0;
}

void control_connectors_start(struct control *control)
{
    control->connectors.writer.write = control_connectors_write;
    metrics_add_writer(&control->metrics, &control->connectors.writer);
    for (unsigned i = 0; i < control->servers_count; i++)
        for (unsigned d = 0; d < CONNECTOR_DIRECTIONS; d++)
            control->servers[i].connectors.now[d] = control->connectors.now[d];
    control_marks_apply(control, control->config);
    control_marks_start(control);
    control_sums_start(control);
}

void control_connectors_stop(struct control *control)
{
    control_marks_close(control);
    for (unsigned i = 0; i < CONNECTOR_DIRECTIONS; i++) {
        connector_slots_free(&control->connectors.slots[i]);
        connector_now_free(control->connectors.now[i]);
    }
}

/* ---- slots ---- */

struct sweep {
    struct control *control;
    const struct config *next;
    enum connector_direction direction;
};

bool control_connectors_has(const struct config *config, enum connector_direction direction,
                            const char *name)
{
    const struct slice words = slice_of_string(name);
    return direction == CONNECTOR_IN ? inbound_named(config->inbound, words) != NULL
                                     : outbound_named(&config->outbound, words) != NULL;
}

static void row_clear(struct control *control, enum connector_direction direction, uint32_t slot)
{
    control->connectors.now[direction][slot] = (struct connector_now) { 0 };
    control_sums_clear(control, direction, slot);
    for (unsigned i = 0; i < control->servers_count; i++) {
        const struct connector_counts *counts = &control->servers[i].connectors;
        if (direction == CONNECTOR_IN)
            counts->in[slot] = (struct connector_in_row) { 0 };
        else
            counts->out[slot] = (struct connector_out_row) { 0 };
    }
}

static bool slot_lives(void *owner, uint32_t slot)
{
    const struct sweep *sweep = owner;
    struct control *control = sweep->control;
    const char *name = control->connectors.slots[sweep->direction].names[slot];
    bool lives = control_connectors_has(sweep->next, sweep->direction, name);
    for (unsigned i = 0; !lives && i < control->generations_count; i++)
        lives = control_connectors_has(control->generations[i].config, sweep->direction, name);
    if (!lives)
        row_clear(control, sweep->direction, slot);
    return lives;
}

static uint32_t slot_of(struct control *control, const struct config *config,
                        enum connector_direction direction, const char *name, bool *swept)
{
    struct connector_slots *slots = &control->connectors.slots[direction];
    uint32_t slot = connector_slots_take(slots, name);
    if (slot == 0 && !*swept) {
        struct sweep sweep = { .control = control, .next = config, .direction = direction };
        connector_slots_sweep(slots, slot_lives, &sweep);
        *swept = true;
        slot = connector_slots_take(slots, name);
    }
    if (slot == 0 && !control->connectors.full) {
        struct log_line line;
        control->connectors.full = true;
        log_begin(&line, control->shard.log, LOG_WARNING, control->shard.wall_us,
                  "connectors_uncounted");
        log_string(&line, "connector", name);
        log_string(&line, "why",
                   "too many names in the generations that sessions still use; it is "
                   "counted with mail of no connector");
        log_end(&line);
    }
    return slot;
}

void control_connectors_assign(struct control *control, const struct config *config)
{
    bool swept[CONNECTOR_DIRECTIONS] = { false, false };
    control->connectors.full = false;
    for (unsigned i = 0; i < inbound_count(config->inbound); i++)
        config->inbound_slots[i] =
            slot_of(control, config, CONNECTOR_IN, inbound_at(config->inbound, i)->name,
                    &swept[CONNECTOR_IN]);
    for (unsigned i = 0; i < config->outbound.count; i++)
        config->outbound_slots[i] =
            slot_of(control, config, CONNECTOR_OUT, config->outbound.connectors[i].route.name,
                    &swept[CONNECTOR_OUT]);
}

/* ---- sums ---- */

static void add(void *sum, const void *row, size_t bytes)
{
    uint64_t *to = sum;
    const uint64_t *from = row;
    for (size_t i = 0; i < bytes / sizeof(uint64_t); i++)
        to[i] += metric_get(&from[i]);
}

void control_connectors_in(const struct control *control, uint32_t slot,
                           struct connector_in_row *sum)
{
    *sum = (struct connector_in_row) { 0 };
    for (unsigned i = 0; i < control->servers_count; i++) {
        const struct connector_in_row *row = &control->servers[i].connectors.in[slot];
        if (metric_get(&row->traffic.events) != 0)
            add(sum, row, sizeof(*row));
    }
}

void control_connectors_out(const struct control *control, uint32_t slot,
                            struct connector_out_row *sum)
{
    *sum = (struct connector_out_row) { 0 };
    for (unsigned i = 0; i < control->servers_count; i++) {
        const struct connector_out_row *row = &control->servers[i].connectors.out[slot];
        if (metric_get(&row->traffic.events) != 0)
            add(sum, row, sizeof(*row));
    }
}
