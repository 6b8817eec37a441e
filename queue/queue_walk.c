/*
 * queue_walk.c - all messages of a queue, a stretch of their pool at a time
 *
 * Places in it that are free are passed over, by the bits of those that are not; after a queue was
 * large there may be many, so who must not hold up his shard says how many places he looks at.
 */
#include "queue/queue_inside.h"

struct message *queue_walk(struct queue *queue, uint32_t *cursor, uint32_t places)
{
    const uint32_t touched = queue->messages.touched;
    const uint32_t end = *cursor + MIN(places, touched - MIN(*cursor, touched));
    while (*cursor < end) {
        const uint32_t bit = *cursor % QUEUE_LISTED_BITS;
        const uint64_t listed = queue->listed[*cursor / QUEUE_LISTED_BITS] >> bit;
        *cursor += listed == 0 ? QUEUE_LISTED_BITS - bit : (uint32_t)__builtin_ctzll(listed);
        if (*cursor >= end)
            *cursor = end;
        else if (listed != 0)
            return pool_at(&queue->messages, (*cursor)++);
    }
    return NULL;
}

bool queue_walked(const struct queue *queue, uint32_t cursor)
{
    return cursor >= queue->messages.touched;
}

struct message *queue_next(struct queue *queue, uint32_t *cursor)
{
    return queue_walk(queue, cursor, UINT32_MAX);
}
