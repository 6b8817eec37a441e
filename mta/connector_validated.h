/*
 * connector_validated.h - which outbound connectors were tried by `ringpost connector validate`,
 * with what result, and as what
 *
 * A file of JSON beside the spool: there are few, an operator may read it, and so may `ringpost
 * check` while the server runs. It is written anew and renamed, by the control thread alone. One
 * that is missing or damaged means that nothing is validated, and no more than that.
 *
 * A validation is of a connector as it was: it counts as long as the section's digest is the same,
 * in which `state` is not, so that one in test is validated and then enforced.
 */
#ifndef RINGPOST_MTA_CONNECTOR_VALIDATED_H
#define RINGPOST_MTA_CONNECTOR_VALIDATED_H

#include <jansson.h>

#include "mta/outbound.h"

struct config;

enum { VALIDATED_PATH_MAX = 1'024, VALIDATED_WHY_MAX = 256 };

enum validated { VALIDATED_NEVER, VALIDATED_FAILED, VALIDATED_CHANGED, VALIDATED_GOOD };

void connector_validated_path(const struct config *config, char out[static VALIDATED_PATH_MAX]);
/* Never NULL, but where there is no memory; an empty object where there is no such file. To be
 * given back by json_decref. */
json_t *connector_validated_read(const char *path);
/* 0 or an errno: what was there before is there still. */
[[nodiscard]] int connector_validated_write(const char *path, const json_t *all);

struct validation {
    const char *name;
    uint64_t digest; /* of its section, as it was tried */
    bool good;
    const char *why; /* "" */
    int64_t at;      /* seconds since the epoch */
    uint64_t generation;
};
/* 0 or -ENOMEM. */
[[nodiscard]] int connector_validated_set(json_t *all, const struct validation *validation);
enum validated connector_validated_state(const json_t *all, const struct outbound *connector);
/* Seconds since the epoch; 0: never. */
int64_t connector_validated_at(const json_t *all, const char *name);
/* "never", "failed", "changed since", "good" */
const char *connector_validated_name(enum validated state);

#endif
