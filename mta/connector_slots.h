/*
 * connector_slots.h - a number for each connector's name, that stays over generations
 *
 *   name --take--> the slot it has, or a free one --sweep: no generation has the name--> free
 *
 * Control's, one for each direction. Slots are given out in order and kept when a connector is
 * removed from the file, so that its counts go on when it comes back; only when all are taken,
 * those of names that nobody has any more are given to others. Slot 0 is nobody's.
 */
#ifndef RINGPOST_MTA_CONNECTOR_SLOTS_H
#define RINGPOST_MTA_CONNECTOR_SLOTS_H

#include "core/slice.h"
#include "mta/connector.h"

struct connector_slots {
    char (*names)[CONNECTOR_NAME_MAX + 1]; /* by slot; "": free */
    uint32_t *table;                       /* slots by hash of their name, 0: free */
    uint32_t mask;
    uint32_t count; /* that were ever given out, with slot 0 */
    uint32_t max;
    uint32_t free;      /* below count, */
    uint32_t free_from; /* and none of them lower than this */
};

/* max: slots, with slot 0; at most 2^30. 0 or -ENOMEM. */
[[nodiscard]] int connector_slots_init(struct connector_slots *slots, uint32_t max);
void connector_slots_free(struct connector_slots *slots);
/* 0: it has none. */
uint32_t connector_slots_find(const struct connector_slots *slots, const char *name);
/* 0: all are taken. */
uint32_t connector_slots_take(struct connector_slots *slots, const char *name);
/* Frees each slot that lives() says no to. */
void connector_slots_sweep(struct connector_slots *slots, bool (*lives)(void *owner, uint32_t slot),
                           void *owner);

#endif
