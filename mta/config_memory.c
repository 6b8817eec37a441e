/*
 * config_memory.c - memory of one generation: taken in small pieces, given back as a whole
 */
#include <errno.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/config_build.h"

enum { CHUNK_BYTES = 16'384, ALIGNMENT = 16 };

struct chunk {
    struct chunk *next;
    size_t used, size;
    _Alignas(ALIGNMENT) uint8_t bytes[];
};

struct set {
    struct set *next;
    struct pattern_set *patterns;
    struct networks *networks;
};

struct config_memory {
    struct chunk *chunks; /* the one in use first */
    struct set *sets;
};

int config_memory_new(struct config_memory **memory)
{
    *memory = calloc(1, sizeof(**memory));
    return *memory == NULL ? -ENOMEM : 0;
}

void config_memory_free(struct config_memory *memory)
{
    if (memory == NULL)
        return;
    for (struct set *set = memory->sets; set != NULL; set = set->next) {
        pattern_set_free(set->patterns);
        networks_free(set->networks);
    }
    for (struct chunk *chunk = memory->chunks, *next; chunk != NULL; chunk = next) {
        next = chunk->next;
        free(chunk);
    }
    free(memory);
}

void *config_take(struct config_builder *builder, size_t count, size_t size)
{
    struct config_memory *memory = builder->config->memory;
    size_t bytes;
    CHECK(!__builtin_mul_overflow(count, size, &bytes) && bytes < SIZE_MAX / 2);
    bytes = (MAX(bytes, 1U) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    struct chunk *chunk = memory->chunks;
    if (chunk == NULL || chunk->size - chunk->used < bytes) {
        size_t chunk_bytes = MAX(bytes, (size_t)CHUNK_BYTES);
        chunk = calloc(1, sizeof(*chunk) + chunk_bytes);
        if (chunk == NULL) {
            builder->out_of_memory = true;
            return NULL;
        }
        chunk->size = chunk_bytes;
        chunk->next = memory->chunks;
        memory->chunks = chunk;
    }
    void *taken = chunk->bytes + chunk->used;
    chunk->used += bytes;
    return taken;
}

const char *config_take_string(struct config_builder *builder, const char *string)
{
    size_t size = strlen(string) + 1;
    char *copy = config_take(builder, size, 1);
    if (copy == NULL)
        return "";
    memcpy(copy, string, size);
    return copy;
}

static struct set *set_new(struct config_builder *builder)
{
    struct config_memory *memory = builder->config->memory;
    struct set *set = config_take(builder, 1, sizeof(*set));
    if (set == NULL)
        return NULL;
    set->next = memory->sets;
    memory->sets = set;
    return set;
}

struct slice config_take_lower(struct config_builder *builder, struct slice text)
{
    uint8_t *copy = config_take(builder, text.size, 1);
    for (size_t i = 0; copy != NULL && i < text.size; i++)
        copy[i] = ascii_lower(text.data[i]);
    return slice_of(copy, copy == NULL ? 0 : text.size);
}

struct pattern_set *config_take_patterns(struct config_builder *builder)
{
    struct set *set = set_new(builder);
    if (set == NULL || pattern_set_new(&set->patterns) < 0) {
        builder->out_of_memory = true;
        return NULL;
    }
    return set->patterns;
}

struct networks *config_take_networks(struct config_builder *builder)
{
    struct set *set = set_new(builder);
    if (set == NULL || networks_new(&set->networks) < 0) {
        builder->out_of_memory = true;
        return NULL;
    }
    return set->networks;
}
