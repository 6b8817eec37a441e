/*
 * generation.c - counting the users of each configuration in a shard
 */
#include "mta/generation.h"

#include <errno.h>

#include "core/check.h"

int generations_init(struct generations *generations)
{
    list_init(&generations->retired);
    generations->current = NULL;
    return pool_init(&generations->pool, "generations", sizeof(struct generation), GENERATIONS_MAX);
}

void generations_free(struct generations *generations)
{
    struct list *node;
    while ((node = list_pop(&generations->retired)) != NULL)
        if (generations->unmade != NULL)
            generations->unmade(generations->owner, container_of(node, struct generation, node));
    if (generations->current != NULL && generations->unmade != NULL)
        generations->unmade(generations->owner, generations->current);
    generations->current = NULL;
    pool_free(&generations->pool);
}

static void generation_release(struct generations *generations, struct generation *generation)
{
    const struct config *config = generation->config;
    list_remove(&generation->node);
    if (generations->unmade != NULL)
        generations->unmade(generations->owner, generation);
    pool_give(&generations->pool, generation);
    if (generations->released != NULL)
        generations->released(generations->owner, config);
}

int generations_switch(struct generations *generations, const struct config *config)
{
    struct generation *generation = pool_take(&generations->pool);
    if (generation == NULL)
        return -EBUSY;
    *generation = (struct generation) { .config = config };
    list_init(&generation->node);
    int r = generations->made != NULL ? generations->made(generations->owner, generation) : 0;
    if (r < 0) {
        pool_give(&generations->pool, generation);
        return r;
    }
    struct generation *old = generations->current;
    generations->current = generation;
    if (old == NULL)
        return 0;
    if (old->uses == 0)
        generation_release(generations, old);
    else
        list_push(&generations->retired, &old->node);
    return 0;
}

struct generation *generation_use(struct generations *generations)
{
    CHECK(generations->current != NULL);
    generations->current->uses++;
    return generations->current;
}

void generation_drop(struct generations *generations, struct generation *generation)
{
    CHECK(generation->uses > 0);
    generation->uses--;
    if (generation->uses == 0 && generation != generations->current)
        generation_release(generations, generation);
}
