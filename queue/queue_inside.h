/*
 * queue_inside.h - what the files of the queue share: the states of a unit
 */
#ifndef RINGPOST_QUEUE_QUEUE_INSIDE_H
#define RINGPOST_QUEUE_QUEUE_INSIDE_H

#include "queue/queue.h"

/* A unit's list of recipients: indexes of places, the last of which may be followed by one more
 * recipient, instead of an index: so that a unit with one recipient has no place. */
#define PLACE_NONE UINT32_MAX
#define PLACE_LAST UINT32_C(0x8000'0000) /* and the recipient */

static inline bool place_is_last(uint32_t link)
{
    return (link & PLACE_LAST) != 0 && link != PLACE_NONE;
}

enum {
    US_IN_MS = 1'000,
    ORDERED_WAIT_US = 1'000'000,
    QUEUE_LISTED_BITS = 64, /* places of messages in a word of queue->listed */
};

static inline struct queue *unit_queue(const struct unit *unit)
{
    return unit->destination->queue;
}

/* So many more are there, for a pass of the scan that is under way (queue/scan.h). */
static inline void queue_scan_count(struct queue *queue, const struct message *message,
                                    int64_t messages, int64_t recipients)
{
    if (queue->scan.cursor > 0)
        scan_count(&queue->scan, pool_index(&queue->messages, message), messages, recipients);
}

/* ---- unit_time.c ---- */

/* The monotonic time of a steady one. */
uint64_t queue_monotonic_ms(const struct queue *queue, int64_t steady_us);
/* The wait after so many failures of mail of a class (its slot), with jitter. */
uint64_t queue_retry_after_ms(struct queue *queue, uint8_t class, uint32_t failures);
/* Between two tries. */
uint64_t queue_longest_wait_ms(const struct mail_class *class);
/* How old it may get, by its destination and its class; 0: one attempt. */
uint64_t unit_age_max_ms(const struct unit *unit);
/* When its time is up, whether it was tried or not. */
int64_t unit_ends_us(const struct unit *unit);
/* When its delay is to be told; INT64_MAX: it was, or never. */
int64_t unit_warns_us(const struct unit *unit);
/* Arms its timer, for one that nothing but time will change. */
void unit_await_expiry(struct unit *unit);
/* Enters DEFERRED. */
void unit_defer(struct unit *unit, int64_t due_us);

/* ---- queue.c ---- */

/* Out of its state's lists and counts; unit_enter or unit_free must follow. */
void unit_leave(struct unit *unit);
void unit_enter(struct unit *unit, enum unit_state state, bool front);
/* Until when a unit of a message waits that an operator has an order for. */
static inline int64_t unit_ordered_us(const struct queue *queue)
{
    return queue->shard->steady_us + ORDERED_WAIT_US;
}
/* NULL: the pool is empty. In no state yet. */
struct unit *unit_new(struct queue *queue, struct message *message, struct destination *d,
                      uint8_t class);
/* Left its state, and has no place any more. Its message goes with its last unit. */
void unit_free(struct queue *queue, struct unit *unit);

/* ---- queue_table.c ---- */

/* All bits of it in the low ones. */
static inline uint64_t queue_mix(uint64_t x)
{
    x ^= x >> 32;
    x *= 0x9e3779b97f4a7c15;
    x ^= x >> 29;
    return x;
}
/* At least so many, and not few. */
uint32_t queue_power_of_two(uint32_t at_least);
/* The most that the table takes. */
size_t queue_table_bytes(uint32_t messages_max);
[[nodiscard]] int queue_table_init(struct queue *queue);
void queue_table_free(struct queue *queue);
/* The message is out of the pool already, and has its id. */
void queue_table_add(struct queue *queue, struct message *message);
void queue_table_remove(struct queue *queue, struct message *message);
/* Where the chain of messages begins that this one is in. */
struct message **queue_table_slot(struct queue *queue, uint64_t id);

/* ---- place.c ---- */

/* Recipients come in ascending order. -ENOSPC: there are as many as may be. */
[[nodiscard]] int unit_add_place(struct queue *queue, struct unit *unit, uint32_t recipient);
/* False: it has no such one. */
bool unit_drop_place(struct queue *queue, struct unit *unit, uint32_t recipient);
/* From one unit to another, whose list has the highest first as well. */
void place_move(struct queue *queue, struct unit *from, struct unit *to, uint32_t recipient);

/* ---- queue_class.c ---- */

/* The slot of the class that is on record with a recipient. */
uint8_t queue_class_slot(struct queue *queue, struct slice name);
/* Of all that is ready there. */
void destination_await_expiry(struct destination *destination);

/* ---- settle.c: what its pools hold ---- */

size_t settle_bytes(void);
size_t settle_large_bytes(void);

#endif
