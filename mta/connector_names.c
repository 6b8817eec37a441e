/*
 * connector_names.c - tables of connectors' names
 */
#define XXH_INLINE_ALL
#include "mta/connector_names.h"

#include <xxhash.h>

uint32_t connector_name_hash(struct slice name)
{
    return (uint32_t)XXH3_64bits(name.data, name.size);
}

uint32_t connector_name_places(uint32_t count)
{
    uint32_t places = 2;
    while (places < 2 * count)
        places *= 2;
    return places;
}

void connector_name_put(uint32_t *table, uint32_t mask, const char *name, uint32_t index)
{
    uint32_t at = connector_name_hash(slice_of_string(name));
    while (table[at & mask] != 0)
        at++;
    table[at & mask] = index + 1;
}
