/*
 * connector_names.h - tables of connectors' names
 *
 * At most half full: index of a connector + 1, or 0. Looked at from the hash of a name on, for each
 * message, so that it costs the same however many there are.
 */
#ifndef RINGPOST_MTA_CONNECTOR_NAMES_H
#define RINGPOST_MTA_CONNECTOR_NAMES_H

#include "core/slice.h"

uint32_t connector_name_hash(struct slice name);
/* How many places such a table has, a power of two. */
uint32_t connector_name_places(uint32_t count);
/* mask: places - 1. */
void connector_name_put(uint32_t *table, uint32_t mask, const char *name, uint32_t index);

#endif
