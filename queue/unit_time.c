/*
 * unit_time.c - when something is due for a unit: its next attempt, news of its delay, its end
 *
 * A unit has one timer, for whichever comes first. Steady time decides, which the steps of the wall
 * clock are not in (core/shard.h); the timer is monotonic, so it looks again when it fires. Expiry
 * is by the age that destination and class allow, from arrival on. What was found at the start is
 * tried once before it expires, for nobody knows for sure how long the server was away: it has at
 * least as long as the longest wait between two tries.
 */
#include "core/check.h"
#include "queue/queue_inside.h"

enum {
    FIRST_ATTEMPT_MS = 3'600'000, /* how long mail that lives for one attempt waits for it */
    LATE_PATIENCE_MS = 60'000,    /* for an attempt, before a delay is told without one */
};

uint64_t queue_monotonic_ms(const struct queue *queue, int64_t steady_us)
{
    int64_t ahead_us = steady_us - queue->shard->steady_us;
    return queue->shard->now_ms + (ahead_us <= 0 ? 0 : (uint64_t)ahead_us / US_IN_MS + 1);
}

uint64_t queue_longest_wait_ms(const struct mail_class *class)
{
    return (uint64_t) class->retry_max_ms * (100 + class->retry_jitter_percent) / 100;
}

uint64_t unit_age_max_ms(const struct unit *unit)
{
    const uint64_t usual_ms = unit_queue(unit)->classes.slots[0].age_max_ms;
    const uint64_t there_ms = unit->destination->age_max_ms;
    const uint64_t class_ms = unit->class == 0 ? 0 : unit_class(unit)->age_max_ms;
    if (class_ms != 0)
        return there_ms != 0 ? MIN(there_ms, class_ms) : class_ms;
    return there_ms != 0 ? there_ms : usual_ms;
}

int64_t unit_ends_us(const struct unit *unit)
{
    return unit->message->arrival_us + (int64_t)unit_age_max_ms(unit) * US_IN_MS;
}

/* A life of 0 is one attempt, for which it waits FIRST_ATTEMPT_MS at most, unless it is known to be
 * in vain. */
int64_t unit_expires_us(const struct unit *unit)
{
    int64_t ends_us = unit_ends_us(unit);
    if (unit_age_max_ms(unit) == 0 && !unit->tried && unit->destination->failures == 0)
        ends_us = unit->message->arrival_us + (int64_t)FIRST_ATTEMPT_MS * US_IN_MS;
    if (!unit->found || unit->state == UNIT_HELD)
        return ends_us;
    int64_t owed_ms = (int64_t)queue_longest_wait_ms(unit_class(unit));
    return MAX(ends_us, unit_queue(unit)->began_us + owed_ms * US_IN_MS);
}

bool unit_expired(const struct unit *unit)
{
    return unit_queue(unit)->shard->steady_us >= unit_expires_us(unit);
}

bool unit_is_over(const struct unit *unit)
{
    return unit_queue(unit)->shard->steady_us >= unit_ends_us(unit);
}

/* INT64_MAX: it has been told, or is not to be. */
int64_t unit_warns_us(const struct unit *unit)
{
    uint64_t after_ms = unit_class(unit)->warn_after_ms;
    if (unit->warned || after_ms == 0 || unit->message->null_sender)
        return INT64_MAX;
    return unit->message->arrival_us + (int64_t)after_ms * US_IN_MS;
}

bool unit_is_late(const struct unit *unit)
{
    return unit_queue(unit)->shard->steady_us >= unit_warns_us(unit) && !unit_is_over(unit);
}

void queue_warned(struct unit *unit)
{
    CHECK(unit->state == UNIT_ACTIVE);
    unit->warned = true;
}

unsigned queue_postponed(struct unit *unit)
{
    CHECK(unit->state == UNIT_ACTIVE);
    unit->postponed = (uint8_t)MIN(unit->postponed + 1, UINT8_MAX);
    return unit->postponed;
}

/* For one that nothing but time will change. Who is late already is told when it turns out that no
 * attempt comes. */
void unit_await_expiry(struct unit *unit)
{
    struct queue *queue = unit_queue(unit);
    int64_t due_us = unit_expires_us(unit);
    if (unit->state == UNIT_READY && !unit_is_over(unit)) {
        int64_t patience_ms = MIN(unit_class(unit)->retry_initial_ms, (uint32_t)LATE_PATIENCE_MS);
        int64_t soon_us = queue->shard->steady_us + patience_ms * US_IN_MS;
        due_us = MIN(due_us, MAX(unit_warns_us(unit), soon_us));
    }
    timer_arm(&queue->shard->timers, &unit->timer, queue_monotonic_ms(queue, due_us));
}

/* The longer it has been late the longer it waits again: a million that may not be told of at once
 * cost little. */
void queue_late_again(struct queue *queue, struct unit *unit)
{
    uint64_t wait_ms = LATE_PATIENCE_MS;
    int64_t late_ms = (queue->shard->steady_us - unit_warns_us(unit)) / US_IN_MS;
    if (unit->state != UNIT_READY)
        return; /* when it is READY again */
    if (late_ms > 0)
        wait_ms +=
            (uint64_t)late_ms / 4 + random_below(&queue->shard->random, (uint64_t)late_ms / 4 + 1);
    int64_t due_us = queue->shard->steady_us + (int64_t)wait_ms * US_IN_MS;
    timer_arm(&queue->shard->timers, &unit->timer,
              queue_monotonic_ms(queue, MIN(due_us, unit_expires_us(unit))));
}

uint64_t queue_retry_after_ms(struct queue *queue, uint8_t class, uint32_t failures)
{
    const struct mail_class *c = &queue->classes.slots[class];
    uint64_t wait = class_retry_ms(c, failures);
    uint64_t spread = wait * c->retry_jitter_percent / 100;
    if (spread > 0)
        wait = wait - spread + random_below(&queue->shard->random, 2 * spread + 1);
    return MAX(wait, 1);
}

void unit_defer(struct unit *unit, int64_t due_us)
{
    struct queue *queue = unit_queue(unit);
    int64_t expires_us = unit->found ? unit_ends_us(unit) : unit_expires_us(unit);
    int64_t warns_us = unit_warns_us(unit);
    /* One that has expired and could not be settled so waits for its turn like any other. */
    if (expires_us > queue->shard->steady_us)
        due_us = MIN(due_us, expires_us);
    if (warns_us > queue->shard->steady_us) /* what is told then is fresh */
        due_us = MIN(due_us, warns_us);
    unit_enter(unit, UNIT_DEFERRED, false);
    timer_arm(&queue->shard->timers, &unit->timer, queue_monotonic_ms(queue, due_us));
}
