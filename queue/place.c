/*
 * place.c - the recipients of a unit, as a list that takes no room while there is one
 */
#include <errno.h>

#include "core/check.h"
#include "queue/queue_inside.h"

/* The link that leads to this recipient, or the one that ends the list. */
static uint32_t *place_find(struct queue *queue, struct unit *unit, uint32_t recipient)
{
    uint32_t *at = &unit->first;
    while (*at != PLACE_NONE && !place_is_last(*at)) {
        struct place *place = pool_at(&queue->places, *at);
        if (place->recipient == recipient)
            break;
        at = &place->next;
    }
    return place_is_last(*at) && *at != (PLACE_LAST | recipient) ? NULL : at;
}

/* Before what at leads to. There is always a place: no recipient has more than one. */
static void place_insert(struct queue *queue, uint32_t *at, uint32_t recipient)
{
    if (*at == PLACE_NONE) {
        *at = PLACE_LAST | recipient;
        return;
    }
    struct place *place = pool_take(&queue->places);
    CHECK(place != NULL);
    *place = (struct place) { .recipient = recipient, .next = *at };
    *at = pool_index(&queue->places, place);
}

static bool place_remove(struct queue *queue, struct unit *unit, uint32_t recipient)
{
    uint32_t *at = place_find(queue, unit, recipient);
    if (at == NULL || *at == PLACE_NONE)
        return false;
    if (place_is_last(*at)) {
        *at = PLACE_NONE;
    } else {
        struct place *place = pool_at(&queue->places, *at);
        *at = place->next;
        pool_give(&queue->places, place);
    }
    unit->count--;
    return true;
}

int unit_add_place(struct queue *queue, struct unit *unit, uint32_t recipient)
{
    if (queue->recipients == queue->options.recipients_max)
        return -ENOSPC;
    place_insert(queue, &unit->first, recipient);
    unit->count++;
    queue->recipients++;
    metric_add(&queue->metrics.recipients_queued, 1);
    queue_scan_count(queue, unit->message, 0, 1);
    return 0;
}

bool unit_drop_place(struct queue *queue, struct unit *unit, uint32_t recipient)
{
    if (!place_remove(queue, unit, recipient))
        return false;
    queue->recipients--;
    metric_sub(&queue->metrics.recipients_queued, 1);
    queue_scan_count(queue, unit->message, 0, -1);
    return true;
}

bool unit_next(const struct unit *unit, uint32_t *place, uint32_t *recipient)
{
    if (*place == PLACE_NONE)
        return false;
    if (place_is_last(*place)) {
        *recipient = *place & ~PLACE_LAST;
        *place = PLACE_NONE;
        return true;
    }
    const struct place *at = pool_at(&unit_queue(unit)->places, *place);
    *recipient = at->recipient;
    *place = at->next;
    return true;
}

void place_move(struct queue *queue, struct unit *from, struct unit *to, uint32_t recipient)
{
    CHECK(place_remove(queue, from, recipient));
    uint32_t *at = &to->first;
    while (*at != PLACE_NONE && !place_is_last(*at)) {
        struct place *place = pool_at(&queue->places, *at);
        if (place->recipient < recipient)
            break;
        at = &place->next;
    }
    const uint32_t last = *at & ~PLACE_LAST;
    if (place_is_last(*at) && last > recipient) {
        *at = PLACE_LAST | recipient;
        recipient = last;
    }
    place_insert(queue, at, recipient);
    to->count++;
}
