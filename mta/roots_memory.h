/*
 * roots_memory.h - which roots were in a bundle when it was looked at last, beside the spool
 *
 *   { "system": { "file": .., "sha256": .., "since": .., "roots": { sha256: subject, .. },
 *                 "change": { "at": .., "added": { .. }, "removed": { .. } } }, "title": .. }
 *
 * Written by the server at start and at each reload, and by `ringpost cert roots --remember`.
 * Nothing depends on it but what an operator is told: a file that cannot be read begins anew.
 */
#ifndef RINGPOST_MTA_ROOTS_MEMORY_H
#define RINGPOST_MTA_ROOTS_MEMORY_H

#include <jansson.h>

#include "mta/config.h"

enum { ROOTS_MEMORY_PATH_MAX = 1'024 };

/* Where it is, of this configuration. */
void roots_memory_path(const struct config *config, char path[static ROOTS_MEMORY_PATH_MAX]);
/* An empty object when there is none. */
json_t *roots_memory_read(const char *path);
/* Written anew and renamed. 0 or errno. */
[[nodiscard]] int roots_memory_write(const char *path, const json_t *memory);

const char *roots_memory_title(const struct config_roots *bundle); /* "system" */
/* What is in roots and not in remembered (a bundle's object, or NULL), and the other way round:
 * both are objects of { sha256: subject }. False: it is the same set, or nothing is remembered. */
bool roots_memory_differs(const json_t *remembered, const struct tls_roots *roots, json_t **added,
                          json_t **removed);
/* Puts a bundle as it is now into memory. True: it was another one, see "change" of it. */
bool roots_memory_take(json_t *memory, const struct config_roots *bundle, int64_t now);

#endif
