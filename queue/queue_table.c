/*
 * queue_table.c - messages by id, in as many slots as there were messages at a time
 *
 *   slots in use: TABLE_SLOTS_MIN --one more message than slots--> one more --> .. messages_max
 *
 * Ids count up, so those that come together are neighbours: NEIGHBOURS of them share a cache line
 * of slots, and lines are mixed, or those that stay would share slots when each thousandth does.
 * With all slots in use ids would go through the table from end to end, and it would be in memory
 * as a whole, however few messages wait. So it grows one slot at a time (linear hashing): the mask
 * reaches the last slot in use, and what it sends beyond that is in the slot of half the mask, out
 * of which the next slot will be filled. Address space is reserved for the most; slots stay in use,
 * as objects of pools stay touched.
 */
#include <errno.h>

#include "core/check.h"
#include "core/memory.h"
#include "queue/queue_inside.h"

enum { TABLE_SLOTS_MIN = 1'024, POWER_MIN = 64, NEIGHBOURS = 8 };
static_assert((TABLE_SLOTS_MIN & (TABLE_SLOTS_MIN - 1)) == 0);

uint32_t queue_power_of_two(uint32_t at_least)
{
    uint32_t size = POWER_MIN;
    while (size < at_least)
        size *= 2;
    return size;
}

size_t queue_table_bytes(uint32_t messages_max)
{
    return sizeof(struct message *) * (size_t)queue_power_of_two(messages_max);
}

int queue_table_init(struct queue *queue)
{
    const uint32_t most = queue_power_of_two(queue->options.messages_max);
    queue->table_slots = MIN(most, (uint32_t)TABLE_SLOTS_MIN);
    queue->table_mask = queue->table_slots - 1;
    queue->table = memory_reserve(queue_table_bytes(queue->options.messages_max));
    return queue->table == NULL ? -ENOMEM : 0;
}

void queue_table_free(struct queue *queue)
{
    memory_release(queue->table, queue_table_bytes(queue->options.messages_max));
    queue->table = NULL;
}

static uint64_t hash_of(uint64_t id)
{
    return queue_mix(id / NEIGHBOURS) * NEIGHBOURS + id % NEIGHBOURS;
}

struct message **queue_table_slot(struct queue *queue, uint64_t id)
{
    const uint64_t hash = hash_of(id);
    uint64_t at = hash & queue->table_mask;
    if (at >= queue->table_slots)
        at = hash & (queue->table_mask >> 1);
    return &queue->table[at];
}

static void table_grow(struct queue *queue)
{
    const uint32_t at = queue->table_slots++;
    if (at > queue->table_mask)
        queue->table_mask = 2 * queue->table_mask + 1;
    CHECK(at < queue_power_of_two(queue->options.messages_max));
    struct message **from = &queue->table[at & (queue->table_mask >> 1)];
    struct message **to = &queue->table[at];
    while (*from != NULL) {
        struct message *message = *from;
        if ((hash_of(message->stored.id) & queue->table_mask) != at) {
            from = &message->chain;
            continue;
        }
        *from = message->chain;
        message->chain = *to;
        *to = message;
    }
    /* What the next one will look at has been idle for long. */
    const uint32_t next = at + 1;
    const uint32_t half = next > queue->table_mask ? queue->table_mask : queue->table_mask >> 1;
    if (queue->table[next & half] != NULL)
        __builtin_prefetch(&queue->table[next & half]->stored.id);
}

void queue_table_add(struct queue *queue, struct message *message)
{
    if (queue->messages.used > queue->table_slots)
        table_grow(queue);
    struct message **slot = queue_table_slot(queue, message->stored.id);
    message->chain = *slot;
    *slot = message;
}

void queue_table_remove(struct queue *queue, struct message *message)
{
    struct message **at = queue_table_slot(queue, message->stored.id);
    while (*at != message)
        at = &(*at)->chain;
    *at = message->chain;
}

struct message *queue_message(struct queue *queue, uint64_t id)
{
    struct message *message = *queue_table_slot(queue, id);
    while (message != NULL && message->stored.id != id)
        message = message->chain;
    return message;
}

struct stored *queue_find_stored(void *argument, uint64_t id)
{
    struct message *message = queue_message(argument, id);
    return message == NULL ? NULL : &message->stored;
}
