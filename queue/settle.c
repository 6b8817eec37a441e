/*
 * settle.c - what became of recipients, made durable before anything follows from it
 *
 *   queue_settle --> ASKED of the spool, OUTCOMES_PER_RECORD at a time --all durable--> places
 *                      ^   |    dropped, the unit freed, deferred, or ready again --> done(0)
 *                      |   '--an error--> WAITING
 *                      '---- AGAIN_MS ------'   '--the drain's last try failed--> what is durable
 *                                                  counts, the rest is deferred --> done(error)
 *
 * Owns the copies of outcomes and texts. The unit is SETTLING meanwhile: nobody else touches it. A
 * disk that takes no record keeps its settlements: to give the unit back would be to deliver again
 * what was delivered. QUEUE_UNRECORDED_MAX small ones go on by themselves then, so that who waits
 * for them (an attempt, and with it a connection) can do something else; with more of them
 * deliveries end, for each is one that a crash would make twice. All try again in the same
 * millisecond, in one write. Only a drain gives up, after LAST_TRIES; then the next start delivers
 * again: at least once, never zero times. Bounds: settlements (active_max and those), large ones
 * (QUEUE_LARGE_SETTLEMENTS), texts of one (over that they are dropped).
 */
#include <errno.h>

#include "core/check.h"
#include "core/log.h"
#include "queue/queue_inside.h"

enum {
    OUTCOMES_PER_RECORD = 512,
    LARGE_TEXT_BYTES = 1 << 20,
    INLINE_TEXT_BYTES = 2'048,
    AGAIN_MS = 1'000,
    LAST_TRIES = 3, /* from the drain on */
};

struct settlement {
    struct queue *queue;
    struct unit *unit;
    struct commit commit;
    struct timer again;
    void (*done)(void *argument, int result);
    void *argument;
    struct outcome *outcomes;
    struct settlement_large *large;
    uint32_t count;
    uint32_t at;    /* outcomes before this one are durable */
    uint32_t asked; /* how many are in the commit under way */
    uint32_t text_size;
    uint32_t last_tries;
    uint64_t failed_ms; /* when the disk did not take it first; 0: it has not refused it */
    bool some_untried;
    bool warned; /* an outcome says that a delay was told */
    bool late;   /* there was no attempt: queue_settle_late */
    bool alone;  /* nobody waits for it any more */
    bool may_be_alone;
    struct outcome few[QUEUE_SETTLE_INLINE];
    uint8_t text[INLINE_TEXT_BYTES];
};

struct settlement_large {
    struct outcome outcomes[RECIPIENTS_MAX];
    uint8_t text[LARGE_TEXT_BYTES];
};

size_t settle_bytes(void)
{
    return sizeof(struct settlement);
}

size_t settle_large_bytes(void)
{
    return sizeof(struct settlement_large);
}

static void settlement_free(struct settlement *s)
{
    if (s->large != NULL)
        pool_give(&s->queue->large, s->large);
    pool_give(&s->queue->settlements, s);
}

static void settlement_copy(struct settlement *s, const struct outcome *outcomes, uint32_t count)
{
    uint8_t *text = s->large != NULL ? s->large->text : s->text;
    size_t capacity = s->large != NULL ? LARGE_TEXT_BYTES : INLINE_TEXT_BYTES;
    for (uint32_t i = 0; i < count; i++) {
        struct outcome *o = &s->outcomes[i];
        *o = outcomes[i];
        o->text = slice_part(o->text, 0, OUTCOME_TEXT_MAX);
        if (s->text_size + o->text.size > capacity)
            o->text.size = 0;
        if (o->text.size > 0)
            memcpy(text + s->text_size, o->text.data, o->text.size);
        o->text.data = text + s->text_size;
        s->text_size += (uint32_t)o->text.size;
    }
}

static void settle_count(struct queue *queue, const struct outcome *o)
{
    struct queue_metrics *m = &queue->metrics;
    switch (o->kind) {
    case OUTCOME_DELIVERED: metric_add(&m->recipients_delivered, 1); break;
    case OUTCOME_BOUNCED: metric_add(&m->recipients_bounced, 1); break;
    case OUTCOME_EXPIRED: metric_add(&m->recipients_expired, 1); break;
    case OUTCOME_DISCARDED: metric_add(&m->recipients_discarded, 1); break;
    case OUTCOME_HELD: metric_add(&m->recipients_held, 1); break;
    case OUTCOME_RELEASED: metric_add(&m->recipients_released, 1); break;
    default: metric_add(&m->deferrals, 1); break;
    }
}

static bool settlement_names(const struct settlement *s, uint32_t recipient)
{
    for (uint32_t i = 0; i < s->at; i++)
        if (s->outcomes[i].recipient == recipient)
            return true;
    return false;
}

/* Some are deferred, others were not tried: the deferred ones become a unit of their own. There is
 * always one, for there are as many units as recipients. */
static void settlement_split(struct settlement *s, int64_t due_us)
{
    struct queue *queue = s->queue;
    struct unit *unit = s->unit;
    struct unit *later = unit_new(queue, unit->message, unit->destination, unit->class);
    CHECK(later != NULL);
    later->attempts = unit->attempts;
    later->tried = true;
    later->warned = unit->warned || s->warned;
    for (uint32_t *at = &unit->first, *to = &later->first; *at != PLACE_NONE;) {
        bool last = place_is_last(*at);
        struct place *place = last ? NULL : pool_at(&queue->places, *at);
        uint32_t *next = last ? NULL : &place->next;
        if (settlement_names(s, last ? *at & ~PLACE_LAST : place->recipient)) {
            *to = *at;
            *at = last ? PLACE_NONE : *next;
            unit->count--;
            later->count++;
            to = next;
            if (!last)
                *next = PLACE_NONE;
        } else {
            at = next;
        }
        if (last)
            break;
    }
    CHECK(unit->count > 0);
    unit_defer(later, due_us);
}

/* Nobody else tells of it. */
static void settlement_was_alone(const struct settlement *s, int result)
{
    const struct shard *shard = s->queue->shard;
    metric_sub(&s->queue->metrics.settlements_alone, 1);
    if (result == 0 || shard->log == NULL)
        return;
    struct log_line line;
    log_begin(&line, shard->log, LOG_ERROR, shard->wall_us, "outcome_unrecorded");
    log_hex(&line, "id", s->unit->message->stored.id);
    log_string(&line, "why", strerror(-result));
    log_number(&line, "recipients", s->count - s->at);
    log_end(&line);
}

/* All is durable (0), or the rest could not be recorded. */
static void settlement_end(struct settlement *s, int result)
{
    struct queue *queue = s->queue;
    struct unit *unit = s->unit;
    int64_t due_us = INT64_MAX;
    bool holds = false;
    for (uint32_t i = 0; i < s->at; i++) {
        const struct outcome *o = &s->outcomes[i];
        if (!s->late)
            settle_count(queue, o);
        if (outcome_final(o->kind))
            CHECK(unit_drop_place(queue, unit, o->recipient));
        else if (o->kind == OUTCOME_HELD)
            holds = true;
        else
            due_us = MIN(due_us, o->due_us);
    }
    void (*done)(void *, int) = s->done;
    void *argument = s->argument;
    bool untried = s->some_untried;
    if (result == 0 && untried && due_us != INT64_MAX && unit->count > 0)
        settlement_split(s, due_us);
    else
        unit->warned = unit->warned || (result == 0 && s->warned);
    bool late = s->late;
    if (s->alone)
        settlement_was_alone(s, result);
    settlement_free(s);
    unit_leave(unit);
    if (result < 0) {
        unit->attempts++;
        uint64_t wait_ms = queue_retry_after_ms(queue, unit->class, unit->attempts);
        due_us = queue->shard->steady_us + (int64_t)wait_ms * US_IN_MS;
    }
    struct destination *d = unit->destination;
    if (unit->count == 0) {
        unit_free(queue, unit);
    } else if (result == 0 && holds) {
        unit_enter(unit, UNIT_HELD, false);
    } else if (unit->message->ordered) {
        unit_defer(unit, MAX(due_us == INT64_MAX ? 0 : due_us, unit_ordered_us(queue)));
    } else if (result == 0 && (untried || late)) {
        unit_enter(unit, UNIT_READY, untried);
    } else {
        unit_defer(unit, due_us == INT64_MAX ? 0 : due_us);
    }
    if (done != NULL)
        done(argument, result);
    if (d->ready_count > 0)
        queue->options.wanted(queue->options.owner, d);
}

static void settlement_ask(struct settlement *s);

/* The disk does not take it, now. */
static void settlement_failed(struct settlement *s, int result)
{
    if (s->failed_ms == 0)
        s->failed_ms = s->queue->shard->now_ms;
    metric_add(&s->queue->metrics.settle_failures, 1);
    if (s->queue->draining && ++s->last_tries >= LAST_TRIES)
        settlement_end(s, result);
    else
        timer_arm(&s->queue->shard->timers, &s->again,
                  (s->queue->shard->now_ms / AGAIN_MS + 1) * AGAIN_MS);
}

/* Not from inside queue_settle, whose caller does not know yet that there is a settlement; and not
 * in the first second: of a machine that goes down with its disk a connection repeats one message.
 */
static void settlement_leave(struct settlement *s)
{
    struct queue *queue = s->queue;
    if (!s->may_be_alone || s->alone || queue->draining || s->large != NULL ||
        queue->shard->now_ms - s->failed_ms < AGAIN_MS ||
        queue->metrics.settlements_alone >= QUEUE_UNRECORDED_MAX ||
        queue->options.unrecorded == NULL || !queue->options.unrecorded(s->argument))
        return;
    s->alone = true;
    s->done = NULL;
    metric_add(&queue->metrics.settlements_alone, 1);
}

static void settlement_on_commit(struct commit *commit, int result)
{
    struct settlement *s = container_of(commit, struct settlement, commit);
    if (result == -EAGAIN) {
        settlement_ask(s);
        return;
    }
    if (result < 0) {
        settlement_failed(s, result);
        return;
    }
    s->at += s->asked;
    if (s->at == s->count)
        settlement_end(s, 0);
    else
        settlement_ask(s);
}

static void settlement_on_timer(struct timer *timer)
{
    struct settlement *s = container_of(timer, struct settlement, again);
    settlement_leave(s);
    settlement_ask(s);
}

static void settlement_ask(struct settlement *s)
{
    struct message *message = s->unit->message;
    int r;
    s->asked = 2 * MIN(s->count - s->at, (uint32_t)OUTCOMES_PER_RECORD);
    do { /* fewer, if these do not fit into one block of the log; one always does */
        s->asked /= 2;
        s->commit = (struct commit) { .done = settlement_on_commit };
        r = spool_outcome(s->queue->spool, &message->stored, s->outcomes + s->at, s->asked,
                          !message->recipients_outcomes, &s->commit);
    } while (r == -E2BIG && s->asked > 1);
    /* From now on, not from done on: another unit may be settled meanwhile, and its record must not
     * claim to stand for this one. */
    if (r == 0)
        message->recipients_outcomes = true;
    if (r == 0 || r == -EAGAIN)
        return; /* done comes */
    CHECK(r == -ENOSPC || r == -EIO);
    settlement_failed(s, r);
}

bool queue_is_settling(const struct queue *queue)
{
    return queue->settlements.used > 0;
}

void queue_drain(struct queue *queue)
{
    queue->draining = true;
}

/* NULL: there is no room for so many outcomes now. */
static struct settlement *settlement_new(struct queue *queue, struct unit *unit, uint32_t count,
                                         void (*done)(void *argument, int result), void *argument)
{
    CHECK(unit->state == UNIT_ACTIVE);
    CHECK(count > 0);
    CHECK(count <= unit->count);
    struct settlement *s = pool_take(&queue->settlements);
    if (s == NULL)
        return NULL;
    memset(s, 0, offsetof(struct settlement, few));
    s->outcomes = s->few;
    if (count > QUEUE_SETTLE_INLINE) {
        s->large = pool_take(&queue->large);
        if (s->large == NULL) {
            pool_give(&queue->settlements, s);
            return NULL;
        }
        s->outcomes = s->large->outcomes;
    }
    s->queue = queue;
    s->unit = unit;
    s->done = done;
    s->argument = argument;
    s->count = count;
    timer_init(&s->again, settlement_on_timer);
    return s;
}

static void settlement_begin(struct settlement *s)
{
    for (uint32_t i = 0; i < s->count; i++) {
        struct outcome *o = &s->outcomes[i];
        s->warned = s->warned || (o->flags & OUTCOME_DELAY_TOLD) != 0;
        if (s->unit->warned && !outcome_final(o->kind)) /* the newest one is the one that counts */
            o->flags |= OUTCOME_DELAY_TOLD;
    }
    unit_leave(s->unit);
    unit_enter(s->unit, UNIT_SETTLING, false);
    settlement_ask(s);
}

int queue_settle(struct queue *queue, struct unit *unit, const struct outcome *outcomes,
                 uint32_t count, bool some_untried, void (*done)(void *argument, int result),
                 void *argument)
{
    struct settlement *s = settlement_new(queue, unit, count, done, argument);
    if (s == NULL)
        return -ENOSPC;
    s->some_untried = some_untried;
    s->may_be_alone = true;
    settlement_copy(s, outcomes, count);
    unit->attempts++;
    unit->tried = true;
    unit->found = false;
    uint64_t wait_ms = queue_retry_after_ms(queue, unit->class, unit->attempts);
    int64_t due_us = queue->shard->steady_us + (int64_t)wait_ms * US_IN_MS;
    for (uint32_t i = 0; i < count; i++) {
        s->outcomes[i].attempts = unit->attempts;
        s->outcomes[i].time_us = queue->shard->steady_us;
        if (s->outcomes[i].kind == OUTCOME_DEFERRED)
            s->outcomes[i].due_us = due_us;
    }
    settlement_begin(s);
    return 0;
}

int queue_settle_late(struct queue *queue, struct unit *unit, const struct outcome *outcomes,
                      uint32_t count, void (*done)(void *argument, int result), void *argument)
{
    struct settlement *s = settlement_new(queue, unit, count, done, argument);
    if (s == NULL)
        return -ENOSPC;
    s->late = true;
    settlement_copy(s, outcomes, count);
    for (uint32_t i = 0; i < count; i++) {
        struct outcome *o = &s->outcomes[i];
        CHECK(o->kind == OUTCOME_DEFERRED);
        o->attempts = unit->attempts;
        o->due_us = queue->shard->steady_us;
    }
    settlement_begin(s);
    return 0;
}

bool queue_settles(const struct queue *queue, uint32_t count)
{
    return queue->settlements.used < queue->settlements.count &&
           (count <= QUEUE_SETTLE_INLINE || queue->large.used < queue->large.count);
}

int queue_mark(struct queue *queue, struct unit *unit, enum outcome_kind kind, struct slice text,
               void (*done)(void *argument, int result), void *argument)
{
    CHECK(kind == OUTCOME_HELD || kind == OUTCOME_RELEASED);
    struct settlement *s = settlement_new(queue, unit, unit->count, done, argument);
    if (s == NULL)
        return -ENOSPC;
    text = slice_part(text, 0, OUTCOME_TEXT_MAX);
    if (text.size > 0)
        memcpy(s->text, text.data, text.size);
    text.data = s->text;
    uint32_t place = unit->first;
    uint32_t recipient;
    for (uint32_t i = 0; unit_next(unit, &place, &recipient); i++)
        s->outcomes[i] = (struct outcome) { .recipient = recipient,
                                            .kind = (uint8_t)kind,
                                            .attempts = unit->attempts,
                                            .time_us = queue->shard->steady_us,
                                            .due_us = queue->shard->steady_us,
                                            .text = text };
    settlement_begin(s);
    return 0;
}
