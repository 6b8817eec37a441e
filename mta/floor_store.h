/*
 * floor_store.h - floor memory on disk: records by host and domain in a store (mta/store.h)
 */
#ifndef RINGPOST_MTA_FLOOR_STORE_H
#define RINGPOST_MTA_FLOOR_STORE_H

#include "mta/floor.h"
#include "mta/store.h"

/* As store_open. */
[[nodiscard]] int floor_store_open(const char *path, uint32_t records_max, struct store **store,
                                   struct store_report *report);

/* All as those of store.h. Names that are together longer than a key are never there
 * (-ENAMETOOLONG). */
[[nodiscard]] int floor_store_get(struct store *store, const char *host, const char *domain,
                                  struct floor_record *record);
[[nodiscard]] int floor_store_put(struct store *store, const char *host, const char *domain,
                                  const struct floor_record *record, unsigned *dropped);
[[nodiscard]] int floor_store_drop(struct store *store, const char *host, const char *domain);
/* The first one behind host and domain in the order of names ("" and "": the first of all), which
 * host and domain then name. */
[[nodiscard]] int floor_store_next(struct store *store, char host[static FLOOR_HOST_MAX],
                                   char domain[static FLOOR_DOMAIN_MAX],
                                   struct floor_record *record);

#endif
