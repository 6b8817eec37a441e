/*
 * timer.h - a hierarchical timer wheel with ticks of one millisecond
 *
 * Arming, disarming and moving a timer cost the same however many there are. A timer never fires
 * early; it fires in the first timers_run at or after its time, in the order of their times. Owned
 * by one shard.
 */
#ifndef RINGPOST_CORE_TIMER_H
#define RINGPOST_CORE_TIMER_H

#include "core/list.h"

enum { TIMER_LEVELS = 6, TIMER_SLOT_BITS = 6, TIMER_SLOTS = 1 << TIMER_SLOT_BITS };

struct timer {
    struct list node;
    uint64_t due_ms;
    void (*fired)(struct timer *timer);
};

struct timers {
    uint64_t now_ms;   /* all that was due up to here, and armed before, has fired or is about to */
    uint64_t fired_ms; /* has fired: in a callback the time of the run before */
    uint64_t occupied[TIMER_LEVELS];
    struct list slots[TIMER_LEVELS][TIMER_SLOTS];
    struct list due; /* fires in the next timers_run */
    uint32_t armed;
};

void timers_init(struct timers *timers, uint64_t now_ms);
void timer_init(struct timer *timer, void (*fired)(struct timer *timer));
/* However far ahead. A time that has passed is taken for the present: the timer fires in the next
 * timers_run, never in the one that is going on. Moves the timer if it is armed. */
void timer_arm(struct timers *timers, struct timer *timer, uint64_t due_ms);
void timer_disarm(struct timers *timers, struct timer *timer);
bool timer_armed(const struct timer *timer);

/* Fires all that is due at now_ms. A callback may arm and disarm any timer. */
void timers_run(struct timers *timers, uint64_t now_ms);
/* A time before which nothing is due: how long the ring may wait. UINT64_MAX: no timer. */
uint64_t timers_next(const struct timers *timers);

#endif
