/*
 * connector_slots.c - open addressing, at most half full; made anew by a sweep
 */
#define XXH_INLINE_ALL
#include "mta/connector_slots.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "core/check.h"

int connector_slots_init(struct connector_slots *slots, uint32_t max)
{
    uint32_t places = 16;
    CHECK(max > 1 && max <= 1U << 30);
    while (places < 2 * max)
        places *= 2;
    *slots = (struct connector_slots) { .count = 1, .max = max, .mask = places - 1 };
    slots->names = calloc(max, sizeof(*slots->names));
    slots->table = calloc(places, sizeof(*slots->table));
    if (slots->names != NULL && slots->table != NULL)
        return 0;
    connector_slots_free(slots);
    return -ENOMEM;
}

void connector_slots_free(struct connector_slots *slots)
{
    free(slots->names);
    free(slots->table);
    slots->names = NULL;
    slots->table = NULL;
}

/* Where the name is, or the free place where it would be. */
static uint32_t place_of(const struct connector_slots *slots, const char *name)
{
    uint32_t at = (uint32_t)XXH3_64bits(name, strlen(name)) & slots->mask;
    while (slots->table[at] != 0 && strcmp(slots->names[slots->table[at]], name) != 0)
        at = (at + 1) & slots->mask;
    return at;
}

uint32_t connector_slots_find(const struct connector_slots *slots, const char *name)
{
    return slots->table[place_of(slots, name)];
}

static uint32_t free_slot(struct connector_slots *slots)
{
    if (slots->count < slots->max)
        return slots->count++;
    if (slots->free == 0)
        return 0;
    slots->free--;
    while (slots->names[slots->free_from][0] != '\0')
        slots->free_from++;
    CHECK(slots->free_from < slots->max);
    return slots->free_from;
}

uint32_t connector_slots_take(struct connector_slots *slots, const char *name)
{
    CHECK(*name != '\0');
    CHECK(strlen(name) <= CONNECTOR_NAME_MAX);
    const uint32_t at = place_of(slots, name);
    if (slots->table[at] == 0) {
        const uint32_t slot = free_slot(slots);
        if (slot != 0)
            snprintf(slots->names[slot], sizeof(slots->names[slot]), "%s", name);
        slots->table[at] = slot;
    }
    return slots->table[at];
}

void connector_slots_sweep(struct connector_slots *slots, bool (*lives)(void *owner, uint32_t slot),
                           void *owner)
{
    slots->free_from = 1;
    memset(slots->table, 0, ((size_t)slots->mask + 1) * sizeof(*slots->table));
    for (uint32_t slot = 1; slot < slots->count; slot++) {
        char *name = slots->names[slot];
        if (*name == '\0')
            continue;
        if (lives(owner, slot)) {
            slots->table[place_of(slots, name)] = slot;
            continue;
        }
        *name = '\0';
        slots->free++;
    }
}
