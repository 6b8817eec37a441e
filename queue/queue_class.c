/*
 * queue_class.c - classes of a queue: which slot a name has, and what another configuration changes
 */
#include "core/check.h"
#include "core/log.h"
#include "queue/queue_inside.h"

const struct mail_class *unit_class(const struct unit *unit)
{
    return &unit->destination->queue->classes.slots[unit->class];
}

static void class_log(const struct queue *queue, enum log_level level, struct slice name,
                      const char *what, uint32_t units)
{
    const struct shard *shard = queue->shard;
    if (shard->log == NULL)
        return;
    struct log_line line;
    log_begin(&line, shard->log, level, shard->wall_us, "class_unknown");
    log_text(&line, "class", name);
    log_string(&line, "what", what);
    log_number(&line, "units", units);
    log_end(&line);
}

uint8_t queue_class_slot(struct queue *queue, struct slice name)
{
    bool is_new;
    if (name.size == 0)
        return 0;
    uint8_t slot = class_slot_of(&queue->classes, name, &is_new);
    if (slot == 0 || !queue->classes.listed[slot])
        metric_add(&queue->metrics.classes_unknown, 1);
    if (is_new)
        class_log(
            queue, LOG_WARNING, name,
            "mail that is queued names it, and the configuration has none of that name: it is "
            "treated as mail without a class",
            0);
    return slot;
}

void destination_await_expiry(struct destination *d)
{
    for (unsigned lane = 0; lane < LANES; lane++)
        list_each (node, &d->ready[lane])
            unit_await_expiry(container_of(node, struct unit, node));
}

/* To the end of the lane where each of its units belongs now. */
static void destination_sort(struct destination *d)
{
    struct queue_metrics *m = &d->queue->metrics;
    for (unsigned lane = 0; lane < LANES; lane++)
        list_each_safe(node, &d->ready[lane])
        {
            struct unit *unit = container_of(node, struct unit, node);
            const uint8_t belongs = unit_class(unit)->lane;
            if (belongs == lane)
                continue;
            list_remove(&unit->node);
            list_push(&d->ready[belongs], &unit->node);
            metric_sub(&m->lanes_ready[lane], 1);
            metric_add(&m->lanes_ready[belongs], 1);
        }
    destination_await_expiry(d);
}

void queue_classes_set(struct queue *queue, const struct mail_class *classes, unsigned count)
{
    struct class_slots *slots = &queue->classes;
    unsigned homeless;
    bool changed = class_slots_set(slots, classes, count, &homeless);
    for (unsigned slot = 1; slot < CLASS_SLOTS; slot++)
        if (slots->units[slot] > 0 && !slots->listed[slot])
            class_log(
                queue, LOG_WARNING, slice_of_string(slots->slots[slot].name),
                "the configuration has it no more: its mail is treated as mail without a class",
                slots->units[slot]);
    if (homeless > 0)
        class_log(queue, LOG_ERROR, slice_of(NULL, 0),
                  "too many classes that are gone still have mail: new ones have no effect before "
                  "it is delivered and the configuration is read again",
                  homeless);
    for (uint32_t i = 0; changed && queue->hashes != NULL && i <= queue->hashes_mask; i++) {
        struct list *chain = &queue->hashes[i];
        if (chain->next == NULL)
            continue;
        list_each (node, chain)
            destination_sort(container_of(node, struct destination, node));
    }
}
