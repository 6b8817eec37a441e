/*
 * generation.h - which configuration a shard works by, and who still works by an older one
 *
 * A reload hands every shard the same new, immutable configuration. Sessions keep the generation
 * they began with; when the last of them has ended, the shard gives its share of the old one back.
 * Counting is the shard's own affair, so nothing is shared and nothing is locked.
 */
#ifndef RINGPOST_MTA_GENERATION_H
#define RINGPOST_MTA_GENERATION_H

#include "core/list.h"
#include "core/pool.h"

enum { GENERATIONS_MAX = 16 }; /* alive in a shard; a reload beyond that waits */

struct config;
struct tls_client;
struct tls_server;

struct generation {
    struct list node;
    const struct config *config;
    uint32_t uses;
    struct tls_server **tls_servers; /* by listener; NULL where TLS is not spoken */
    struct tls_client *tls_client;
};

struct generations {
    struct generation *current;
    struct list retired; /* older ones that are still in use */
    struct pool pool;
    void *owner;
    /* Adds what this shard makes of a configuration, and takes it away; both may be NULL. */
    int (*made)(void *owner, struct generation *generation);
    void (*unmade)(void *owner, struct generation *generation);
    /* The shard has no use for this configuration any more. */
    void (*released)(void *owner, const struct config *config);
};

[[nodiscard]] int generations_init(struct generations *generations);
void generations_free(struct generations *generations);
/* What begins from now on uses config. 0, -EBUSY: GENERATIONS_MAX are alive, or made's error; then
 * nothing has changed. */
[[nodiscard]] int generations_switch(struct generations *generations, const struct config *config);

/* A user of the current one. */
struct generation *generation_use(struct generations *generations);
void generation_drop(struct generations *generations, struct generation *generation);

#endif
