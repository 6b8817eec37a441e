/*
 * timer.c - six wheels of 64 slots, each turning 64 times slower than the one below
 *
 * A timer lies in the level of the highest base-64 digit in which its time differs from now_ms, in
 * the slot that this digit names. So all of a level's timers are due before those of the level
 * above, and a level's slots lie ahead of its hand without wrapping; only the top level wraps, and
 * what is further ahead than it reaches waits in its last slot and is placed again from there.
 *
 *   idle --timer_arm--> in a slot --slot's time comes--> in a lower slot .. --> due --> fired, idle
 *
 * The clock jumps from one occupied slot to the next, never through the milliseconds between. No
 * callback runs before everything that is due has been gathered; what callbacks arm for a time that
 * has passed waits for the next run, so that a run always ends.
 */
#include "core/timer.h"

#include "core/check.h"

enum {
    TIMER_TOP = TIMER_LEVELS - 1,
    TIMER_TOP_SHIFT = TIMER_TOP * TIMER_SLOT_BITS,
};
/* Reach of the top level: one slot less than a turn, or the last slot would be the hand's own. */
static const uint64_t timer_reach_ms = (uint64_t)(TIMER_SLOTS - 1) << TIMER_TOP_SHIFT;

static_assert(TIMER_SLOTS == 64, "a level's slots are the bits of one word");

void timers_init(struct timers *timers, uint64_t now_ms)
{
    *timers = (struct timers) { .now_ms = now_ms, .fired_ms = now_ms };
    list_init(&timers->due);
    for (unsigned level = 0; level < TIMER_LEVELS; level++)
        for (unsigned slot = 0; slot < TIMER_SLOTS; slot++)
            list_init(&timers->slots[level][slot]);
}

void timer_init(struct timer *timer, void (*fired)(struct timer *timer))
{
    list_init(&timer->node);
    timer->due_ms = 0;
    timer->fired = fired;
}

bool timer_armed(const struct timer *timer)
{
    return !list_empty(&timer->node);
}

static void timer_place(struct timers *timers, struct timer *timer)
{
    if (timer->due_ms <= timers->now_ms) {
        list_push(&timers->due, &timer->node);
        return;
    }
    uint64_t ahead_ms = MIN(timer->due_ms - timers->now_ms, timer_reach_ms);
    uint64_t at_ms = timers->now_ms + ahead_ms; /* <= due_ms: does not overflow */
    unsigned highest_bit = 63 - (unsigned)__builtin_clzll(at_ms ^ timers->now_ms);
    unsigned level = MIN(highest_bit / TIMER_SLOT_BITS, (unsigned)TIMER_TOP);
    unsigned slot = (unsigned)(at_ms >> (level * TIMER_SLOT_BITS)) % TIMER_SLOTS;
    list_push(&timers->slots[level][slot], &timer->node);
    timers->occupied[level] |= UINT64_C(1) << slot;
}

void timer_arm(struct timers *timers, struct timer *timer, uint64_t due_ms)
{
    timer_disarm(timers, timer);
    timer->due_ms = MAX(due_ms, timers->now_ms);
    timer_place(timers, timer);
    timers->armed++;
}

void timer_disarm(struct timers *timers, struct timer *timer)
{
    if (!timer_armed(timer))
        return;
    CHECK(timers->armed > 0);
    timers->armed--;
    struct list *head = timer->node.next;
    bool last = head == timer->node.previous;
    list_remove(&timer->node);
    struct list *slots = &timers->slots[0][0];
    /* The last one of a list leaves its head behind: a slot's, or that of the due ones. */
    if (last && head >= slots && head < slots + (size_t)TIMER_LEVELS * TIMER_SLOTS) {
        size_t index = (size_t)(head - slots);
        timers->occupied[index / TIMER_SLOTS] &= ~(UINT64_C(1) << (index % TIMER_SLOTS));
    }
}

/* The level whose slot comes next, that slot, and the time it begins. UINT64_MAX: all are empty. */
static uint64_t timers_next_slot(const struct timers *timers, unsigned *level, unsigned *slot)
{
    for (unsigned l = 0; l < TIMER_LEVELS; l++) {
        uint64_t occupied = timers->occupied[l];
        if (occupied == 0)
            continue;
        unsigned shift = l * TIMER_SLOT_BITS;
        uint64_t now_slot = timers->now_ms >> shift;
        unsigned hand = (unsigned)(now_slot % TIMER_SLOTS);
        CHECK((occupied & (UINT64_C(1) << hand)) == 0);
        /* Turned so that the hand is at bit 0: the lowest bit is the next slot. */
        uint64_t turned =
            hand == 0 ? occupied : (occupied >> hand) | (occupied << (TIMER_SLOTS - hand));
        unsigned ahead = (unsigned)__builtin_ctzll(turned);
        CHECK(l == TIMER_TOP || hand + ahead < TIMER_SLOTS);
        *level = l;
        *slot = (hand + ahead) % TIMER_SLOTS;
        return (now_slot + ahead) << shift;
    }
    return UINT64_MAX;
}

uint64_t timers_next(const struct timers *timers)
{
    unsigned level;
    unsigned slot;
    if (!list_empty(&timers->due))
        return timers->now_ms;
    return timers_next_slot(timers, &level, &slot);
}

void timers_run(struct timers *timers, uint64_t now_ms)
{
    unsigned level = 0;
    unsigned slot = 0;
    uint64_t at_ms;
    while (timers->armed > 0 && (at_ms = timers_next_slot(timers, &level, &slot)) <= now_ms) {
        if (at_ms == UINT64_MAX) /* nothing in the wheels, and now_ms as large as it gets */
            break;
        struct list moved;
        list_init(&moved);
        list_append(&moved, &timers->slots[level][slot]);
        timers->occupied[level] &= ~(UINT64_C(1) << slot);
        timers->now_ms = at_ms;
        struct list *node;
        while ((node = list_pop(&moved)) != NULL)
            timer_place(timers, container_of(node, struct timer, node));
    }
    timers->now_ms = MAX(timers->now_ms, now_ms);

    struct list firing; /* a callback that disarms one of these takes it out of here */
    list_init(&firing);
    list_append(&firing, &timers->due);
    struct list *node;
    while ((node = list_pop(&firing)) != NULL) {
        struct timer *timer = container_of(node, struct timer, node);
        CHECK(timer->due_ms <= timers->now_ms);
        CHECK(timers->armed > 0);
        timers->armed--;
        timer->fired(timer);
    }
    timers->fired_ms = timers->now_ms;
}
