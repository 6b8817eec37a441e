/*
 * queue.c - the tables of the queue and every change of a unit's state
 *
 * Counts are kept twice on purpose: each unit's state here, and sums in the metrics; tests compare
 * them. A unit leaves a state through one function only. How outcomes are made durable: settle.c;
 * when what is due: unit_time.c.
 */
#include "queue/queue.h"

#include <errno.h>
#include <stdlib.h>

#include "core/check.h"
#include "core/memory.h"
#include "queue/queue_inside.h"

static_assert(sizeof(struct message) + sizeof(struct unit) + 2 * sizeof(struct message *) <=
              QUEUE_MESSAGE_BYTES_MAX);
static_assert((uint32_t)RECIPIENTS_MAX < PLACE_LAST);

/* ---- life ---- */

static void destination_idle(struct destination *d, bool idle);

static size_t listed_bytes(uint32_t messages)
{
    return ((size_t)messages / QUEUE_LISTED_BITS + 1) * sizeof(uint64_t);
}

uint64_t queue_messages_bytes(const struct queue_options *o)
{
    return pool_bytes(sizeof(struct message), o->messages_max) +
           pool_bytes(sizeof(struct unit), o->recipients_max) +
           pool_bytes(sizeof(struct place), o->recipients_max) +
           queue_table_bytes(o->messages_max) + listed_bytes(o->messages_max);
}

uint64_t queue_message_bytes(void)
{
    return pool_bytes(sizeof(struct message), 1) + pool_bytes(sizeof(struct unit), 1) +
           pool_bytes(sizeof(struct place), 1) + 2 * sizeof(struct message *) +
           1; /* for its bit among the listed ones */
}

uint64_t queue_destinations_bytes(const struct queue_options *o)
{
    return pool_bytes(sizeof(struct destination), o->destinations_max) +
           sizeof(struct list) * (uint64_t)queue_power_of_two(o->destinations_max);
}

uint64_t queue_settlements_bytes(const struct queue_options *o)
{
    return pool_bytes(settle_bytes(), o->active_max + QUEUE_UNRECORDED_MAX) +
           pool_bytes(settle_large_bytes(), pool_share(o->active_max, QUEUE_LARGE_SETTLEMENTS));
}

int queue_init(struct queue *queue, struct shard *shard, const struct queue_options *options)
{
    CHECK(options->recipients_max < PLACE_LAST);
    *queue = (struct queue) { .shard = shard, .options = *options, .began_us = shard->steady_us };
    list_init(&queue->idle);
    const struct mail_class class = {
        .lane = LANE_NORMAL,
        .age_max_ms = options->age_max_ms,
        .warn_after_ms = options->warn_after_ms,
        .retry_initial_ms = options->retry_initial_ms,
        .retry_max_ms = options->retry_max_ms,
        .retry_factor_percent = options->retry_factor_percent,
        .retry_jitter_percent = options->retry_jitter_percent,
    };
    queue_classes_set(queue, &class, 1);
    queue->hashes_mask = queue_power_of_two(options->destinations_max) - 1;
    queue->hashes = memory_reserve(sizeof(*queue->hashes) * ((size_t)queue->hashes_mask + 1));
    queue->listed = memory_reserve(listed_bytes(options->messages_max));
    int r = queue->hashes == NULL || queue->listed == NULL ? -ENOMEM : 0;
    if (r == 0)
        r = queue_table_init(queue);
    if (r == 0)
        r = pool_init(&queue->messages, "messages", sizeof(struct message), options->messages_max);
    if (r == 0)
        r = pool_init(&queue->units, "units", sizeof(struct unit), options->recipients_max);
    if (r == 0)
        r = pool_init(&queue->places, "places", sizeof(struct place), options->recipients_max);
    if (r == 0)
        r = pool_init(&queue->destinations, "destinations", sizeof(struct destination),
                      options->destinations_max);
    if (r == 0)
        r = pool_init(&queue->settlements, "settlements", settle_bytes(),
                      options->active_max + QUEUE_UNRECORDED_MAX);
    if (r == 0)
        r = pool_init(&queue->large, "large settlements", settle_large_bytes(),
                      pool_share(options->active_max, QUEUE_LARGE_SETTLEMENTS));
    if (r < 0) {
        queue_free(queue);
        return r;
    }
    queue->parking = queue_destination(queue, QUEUE_PARKING_KEY, strlen(QUEUE_PARKING_KEY));
    destination_idle(queue->parking, false);
    return 0;
}

void queue_free(struct queue *queue)
{
    pool_free(&queue->messages);
    pool_free(&queue->units);
    pool_free(&queue->places);
    pool_free(&queue->destinations);
    pool_free(&queue->settlements);
    pool_free(&queue->large);
    queue_table_free(queue);
    memory_release(queue->hashes, sizeof(*queue->hashes) * ((size_t)queue->hashes_mask + 1));
    memory_release(queue->listed, listed_bytes(queue->options.messages_max));
    queue->listed = NULL;
    queue->hashes = NULL;
}

/* ---- messages ---- */

static void message_list(struct queue *queue, const struct message *message, bool is_listed)
{
    const uint32_t index = pool_index(&queue->messages, message);
    const uint64_t bit = UINT64_C(1) << index % QUEUE_LISTED_BITS;
    uint64_t *word = &queue->listed[index / QUEUE_LISTED_BITS];
    CHECK(((*word & bit) != 0) != is_listed);
    *word ^= bit;
}

static struct message *message_new(struct queue *queue, const struct stored *stored,
                                   const struct envelope *envelope)
{
    struct message *message = pool_take(&queue->messages);
    if (message == NULL)
        return NULL;
    *message = (struct message) {
        .stored = *stored,
        .arrival_us = envelope->arrival_us,
        .null_sender = envelope->sender.size == 0,
    };
    message_list(queue, message, true);
    queue_table_add(queue, message);
    metric_add(&queue->metrics.messages, 1);
    queue_scan_count(queue, message, 1, 0);
    return message;
}

static void message_free(struct queue *queue, struct message *message)
{
    CHECK(message->units_count == 0);
    queue_table_remove(queue, message);
    queue_scan_count(queue, message, -1, 0);
    spool_free(queue->spool, &message->stored);
    message_list(queue, message, false);
    pool_give(&queue->messages, message);
    metric_sub(&queue->metrics.messages, 1);
}

/* ---- destinations by key ---- */

static uint64_t key_hash(const char *key, size_t size)
{
    uint64_t hash = 0xcbf29ce484222325; /* FNV-1a; who could flood it must own that many domains */
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ (uint8_t)key[i]) * 0x100000001b3;
    return queue_mix(hash);
}

static struct list *hash_list(struct queue *queue, uint64_t hash)
{
    struct list *list = &queue->hashes[hash & queue->hashes_mask];
    if (list->next == NULL)
        list_init(list);
    return list;
}

static void destination_on_timer(struct timer *timer)
{
    struct destination *d = container_of(timer, struct destination, timer);
    d->queue->options.wanted(d->queue->options.owner, d);
}

static void destination_idle(struct destination *d, bool idle)
{
    struct queue *queue = d->queue;
    if (idle == !list_empty(&d->idle))
        return;
    if (idle)
        list_push(&queue->idle, &d->idle);
    else
        list_remove(&d->idle);
    queue->idle_count += idle ? 1U : -1U;
}

static bool destination_forget(struct queue *queue, struct destination *d)
{
    if (!queue->options.unwanted(queue->options.owner, d))
        return false;
    timer_disarm(&queue->shard->timers, &d->timer);
    list_remove(&d->node);
    destination_idle(d, false);
    pool_give(&queue->destinations, d);
    metric_sub(&queue->metrics.destinations, 1);
    return true;
}

static struct destination *destination_new(struct queue *queue)
{
    struct destination *d = pool_take(&queue->destinations);
    if (d != NULL)
        return d;
    list_each_safe(node, &queue->idle)
    {
        if (destination_forget(queue, container_of(node, struct destination, idle)))
            return pool_take(&queue->destinations);
    }
    return NULL;
}

static uint64_t age_max(const struct queue *queue, const char *key)
{
    const struct queue_options *o = &queue->options;
    bool parked = strcmp(key, QUEUE_PARKING_KEY) == 0; /* made before there is who to ask */
    return parked || o->age_max == NULL ? 0 : o->age_max(o->owner, key);
}

static struct destination *destination_of(struct queue *queue, uint64_t hash, const char *key,
                                          size_t key_size)
{
    list_each (node, hash_list(queue, hash)) {
        struct destination *d = container_of(node, struct destination, node);
        if (d->hash == hash && d->key_size == key_size && memcmp(d->key, key, key_size) == 0)
            return d;
    }
    return NULL;
}

struct destination *queue_destination_find(struct queue *queue, const char *key, size_t key_size)
{
    return destination_of(queue, key_hash(key, key_size), key, key_size);
}

struct destination *queue_destination(struct queue *queue, const char *key, size_t key_size)
{
    CHECK(key_size > 0);
    CHECK(key_size < DESTINATION_KEY_MAX);
    uint64_t hash = key_hash(key, key_size);
    struct destination *d = destination_of(queue, hash, key, key_size);
    if (d != NULL)
        return d;
    d = destination_new(queue);
    if (d == NULL)
        return NULL;
    memset(d, 0, offsetof(struct destination, key));
    d->queue = queue;
    d->hash = hash;
    d->key_size = (uint16_t)key_size;
    memcpy(d->key, key, key_size);
    d->key[key_size] = '\0';
    d->error[0] = '\0';
    d->age_max_ms = age_max(queue, d->key);
    for (unsigned lane = 0; lane < LANES; lane++)
        list_init(&d->ready[lane]);
    timer_init(&d->timer, destination_on_timer);
    list_push(hash_list(queue, hash), &d->node);
    list_init(&d->idle);
    list_init(&d->aside);
    destination_idle(d, true);
    metric_add(&queue->metrics.destinations, 1);
    return d;
}

/* Call after each change of its counts. */
static void destination_count(struct destination *d)
{
    bool empty = d->ready_count + d->waiting_count + d->active_count == 0;
    destination_idle(d, empty && d != d->queue->parking);
}

/* ---- states of a unit ---- */

void unit_leave(struct unit *unit)
{
    struct queue_metrics *m = &unit_queue(unit)->metrics;
    struct destination *d = unit->destination;
    switch ((enum unit_state)unit->state) {
    case UNIT_READY:
        list_remove(&unit->node);
        d->ready_count--;
        metric_sub(&m->lanes_ready[unit_class(unit)->lane], 1);
        metric_sub(&m->units_ready, 1);
        break;
    case UNIT_ACTIVE:
    case UNIT_SETTLING:
        d->active_count--;
        metric_sub(&m->units_active, 1);
        break;
    case UNIT_DEFERRED:
        d->waiting_count--;
        metric_sub(&m->units_deferred, 1);
        break;
    case UNIT_HELD:
        d->waiting_count--;
        metric_sub(&m->units_held, 1);
        break;
    }
}

void unit_enter(struct unit *unit, enum unit_state state, bool front)
{
    struct queue *queue = unit_queue(unit);
    struct queue_metrics *m = &queue->metrics;
    struct destination *d = unit->destination;
    const uint8_t lane = unit_class(unit)->lane;
    unit->state = (uint8_t)state;
    switch (state) {
    case UNIT_READY:
        if (front)
            list_push_front(&d->ready[lane], &unit->node);
        else
            list_push(&d->ready[lane], &unit->node);
        d->ready_count++;
        metric_add(&m->lanes_ready[lane], 1);
        metric_add(&m->units_ready, 1);
        unit_await_expiry(unit);
        break;
    case UNIT_ACTIVE:
    case UNIT_SETTLING:
        d->active_count++;
        metric_add(&m->units_active, 1);
        timer_disarm(&queue->shard->timers, &unit->timer);
        break;
    case UNIT_DEFERRED:
        d->waiting_count++;
        metric_add(&m->units_deferred, 1);
        break;
    case UNIT_HELD:
        d->waiting_count++;
        metric_add(&m->units_held, 1);
        unit_await_expiry(unit);
        break;
    }
    destination_count(d);
}

static void unit_on_timer(struct timer *timer)
{
    struct unit *unit = container_of(timer, struct unit, timer);
    struct queue *queue = unit_queue(unit);
    CHECK(unit->state != UNIT_ACTIVE && unit->state != UNIT_SETTLING);
    if (unit_expired(unit)) {
        queue->options.expired(queue->options.owner, unit);
        return;
    }
    if (unit->state == UNIT_READY && unit_is_late(unit)) {
        queue->options.late(queue->options.owner, unit);
        return;
    }
    if (unit->state != UNIT_DEFERRED) { /* what it may get old has changed */
        unit_await_expiry(unit);
        return;
    }
    unit_leave(unit);
    unit_enter(unit, UNIT_READY, false);
    queue->options.wanted(queue->options.owner, unit->destination);
}

struct unit *unit_new(struct queue *queue, struct message *message, struct destination *d,
                      uint8_t class)
{
    struct unit *unit = pool_take(&queue->units);
    if (unit == NULL)
        return NULL;
    *unit = (struct unit) {
        .message = message,
        .destination = d,
        .sibling = message->units,
        .first = PLACE_NONE,
        .class = class,
    };
    queue->classes.units[class]++;
    list_init(&unit->node);
    timer_init(&unit->timer, unit_on_timer);
    message->units = unit;
    message->units_count++;
    return unit;
}

void unit_free(struct queue *queue, struct unit *unit)
{
    struct message *message = unit->message;
    struct unit **at = &message->units;
    CHECK(unit->count == 0);
    timer_disarm(&queue->shard->timers, &unit->timer);
    while (*at != unit)
        at = &(*at)->sibling;
    *at = unit->sibling;
    message->units_count--;
    queue->classes.units[unit->class]--;
    destination_count(unit->destination);
    pool_give(&queue->units, unit);
    if (message->units_count == 0)
        message_free(queue, message);
}

/* ---- adding ---- */

bool queue_reserve(struct queue *queue)
{
    uint32_t more = queue->reserved + 1;
    /* Idle destinations give way to new ones. How many of those that are under way need one is not
     * known yet: who finds none is parked. */
    if (queue->destinations.used - queue->idle_count == queue->destinations.count ||
        queue->recipients + more > queue->options.recipients_max ||
        queue->messages.used + more > queue->messages.count) {
        metric_add(&queue->metrics.refused_full, 1);
        return false;
    }
    queue->reserved = more;
    return true;
}

void queue_unreserve(struct queue *queue, uint32_t recipients)
{
    CHECK(recipients <= queue->reserved);
    queue->reserved -= recipients;
}

/* The unit of this message for a destination and a class, if it is easily found: one more unit is
 * one more transaction, and no mistake. Not one of others, which are not being added. */
static struct unit *unit_being_added(const struct queue *queue, const struct message *message,
                                     const struct destination *d, uint8_t class,
                                     const struct unit *others)
{
    if (d->adding != message || d == queue->parking) /* parked ones go different ways */
        return NULL;
    if (d->adding_unit->class == class)
        return d->adding_unit;
    unsigned looks = CLASSES_MAX;
    for (struct unit *unit = message->units; unit != others && looks > 0;
         unit = unit->sibling, looks--)
        if (unit->destination == d && unit->class == class)
            return unit;
    return NULL;
}

/* The recipient's place in the unit of its destination, which is made if need be. */
static int message_place(struct queue *queue, struct message *message,
                         const struct envelope *envelope, const struct recipient *recipient,
                         uint32_t index, const struct unit *others)
{
    char key[DESTINATION_KEY_MAX];
    queue->placing = message->stored.id;
    size_t size = queue->options.route(queue->options.owner, envelope, recipient, key);
    struct destination *d = queue_destination(queue, key, size);
    if (d == NULL)
        d = queue->parking;
    uint8_t class = queue_class_slot(queue, recipient->class);
    struct unit *unit = unit_being_added(queue, message, d, class, others);
    if (unit != NULL) {
        d->adding_unit = unit;
    } else {
        unit = unit_new(queue, message, d, class);
        if (unit == NULL)
            return -ENOSPC;
        d->adding = message;
        d->adding_unit = unit;
        destination_idle(d, false); /* not to be forgotten while its unit has no state yet */
    }
    return unit_add_place(queue, d->adding_unit, index);
}

void queue_add(struct queue *queue, const struct stored *stored, const struct envelope *envelope)
{
    struct message *message = message_new(queue, stored, envelope);
    CHECK(message != NULL); /* it was reserved */
    queue_unreserve(queue, envelope->recipients_count);
    uint32_t unplaced = 0;
    for (uint32_t i = 0; i < envelope->recipients_count; i++)
        if (message_place(queue, message, envelope, &envelope->recipients[i], i, NULL) < 0)
            unplaced++;
    CHECK(unplaced == 0);
    metric_add(&queue->metrics.accepted, 1);
    metric_add(&queue->metrics.recipients_accepted, envelope->recipients_count);
    for (struct unit *unit = message->units, *next; unit != NULL; unit = next) {
        next = unit->sibling;
        unit->destination->adding = NULL;
        unit_enter(unit, UNIT_READY, false);
        queue->options.wanted(queue->options.owner, unit->destination);
    }
}

static const struct outcome *outcome_of(const struct recovered *recovered, uint32_t recipient)
{
    for (uint32_t i = 0; i < recovered->outcomes_count; i++)
        if (recovered->outcomes[i].recipient == recipient)
            return &recovered->outcomes[i];
    return NULL;
}

/* Units of the recipients that are held, or of those that are not. */
static void found_units(struct queue *queue, struct message *message,
                        const struct recovered *recovered, bool held)
{
    struct unit *others = message->units;
    struct recipient recipient;
    size_t cursor = 0;
    int64_t due_us = INT64_MAX;
    uint32_t attempts = 0;
    bool warned = false;
    for (uint32_t i = 0; envelope_next(&recovered->envelope, &cursor, &recipient); i++) {
        const struct outcome *outcome = outcome_of(recovered, i);
        if (outcome != NULL && outcome_final(outcome->kind))
            continue;
        if ((outcome != NULL && outcome->kind == OUTCOME_HELD) != held)
            continue;
        if (message_place(queue, message, &recovered->envelope, &recipient, i, others) < 0) {
            queue->unplaced++;
            continue;
        }
        metric_add(&queue->metrics.recipients_recovered, 1);
        due_us = MIN(due_us, outcome == NULL ? 0 : outcome->due_us);
        attempts = MAX(attempts, outcome == NULL ? 0 : outcome->attempts);
        warned = warned || (outcome != NULL && (outcome->flags & OUTCOME_DELAY_TOLD) != 0);
    }
    for (struct unit *unit = message->units, *next; unit != others; unit = next) {
        next = unit->sibling;
        unit->destination->adding = NULL;
        unit->attempts = attempts;
        unit->tried = attempts > 0;
        unit->warned = warned;
        unit->found = true;
        /* The clock may have gone back since: nobody waits longer than the longest wait. */
        int64_t longest_ms = (int64_t)queue_longest_wait_ms(unit_class(unit));
        int64_t latest_us = queue->shard->steady_us + longest_ms * US_IN_MS;
        if (recovered->damaged || held) {
            unit_enter(unit, UNIT_HELD, false);
        } else if (due_us > queue->shard->steady_us && !unit_is_over(unit)) {
            unit_defer(unit, MIN(due_us, latest_us));
        } else {
            unit_enter(unit, UNIT_READY, false);
            queue->options.wanted(queue->options.owner, unit->destination);
        }
    }
}

static bool some_held(const struct recovered *recovered)
{
    for (uint32_t i = 0; i < recovered->outcomes_count; i++)
        if (recovered->outcomes[i].kind == OUTCOME_HELD)
            return true;
    return false;
}

void queue_found(void *argument, const struct recovered *recovered)
{
    struct queue *queue = argument;
    struct message *message = message_new(queue, &recovered->stored, &recovered->envelope);
    if (message == NULL) {
        queue->unplaced++;
        return;
    }
    message->damaged = recovered->damaged;
    message->recipients_outcomes = recovered->outcomes_count > 0;
    metric_add(&queue->metrics.recovered, 1);
    found_units(queue, message, recovered, false);
    if (some_held(recovered))
        found_units(queue, message, recovered, true);
    if (message->units_count == 0)
        queue->unplaced++; /* recovery tells of live messages only */
}

/* ---- pulled from ---- */

void queue_take(struct queue *queue, struct unit *unit)
{
    CHECK(unit_queue(unit) == queue);
    CHECK(unit->state == UNIT_READY || unit->state == UNIT_DEFERRED || unit->state == UNIT_HELD);
    unit_leave(unit);
    unit_enter(unit, UNIT_ACTIVE, false);
}

enum lane destination_lane(const struct destination *d)
{
    enum lane lane = LANE_URGENT;
    while (lane < LANE_BULK && list_empty(&d->ready[lane]))
        lane++;
    return lane;
}

struct unit *queue_pull(struct queue *queue, struct destination *d)
{
    unsigned present = 0;
    for (unsigned lane = 0; lane < LANES; lane++)
        present |= list_empty(&d->ready[lane]) ? 0 : 1U << lane;
    if (present == 0)
        return NULL;
    enum lane lane = lane_next(&d->turns, present);
    struct unit *unit = container_of(d->ready[lane].next, struct unit, node);
    queue_take(queue, unit);
    return unit;
}

void queue_put_back(struct queue *queue, struct unit *unit)
{
    CHECK(unit_queue(unit) == queue);
    CHECK(unit->state == UNIT_ACTIVE);
    unit_leave(unit);
    if (unit->message->ordered)
        unit_defer(unit, unit_ordered_us(queue));
    else
        unit_enter(unit, UNIT_READY, true);
}

void queue_hold(struct queue *queue, struct unit *unit)
{
    CHECK(unit_queue(unit) == queue);
    CHECK(unit->state == UNIT_ACTIVE);
    unit_leave(unit);
    unit_enter(unit, UNIT_HELD, false);
}

void queue_delay(struct queue *queue, struct unit *unit)
{
    CHECK(unit->state == UNIT_ACTIVE);
    unit_leave(unit);
    unit->attempts++;
    uint64_t wait_ms = queue_retry_after_ms(queue, unit->class, unit->attempts);
    unit_defer(unit, queue->shard->steady_us + (int64_t)wait_ms * US_IN_MS);
}

void queue_wait(struct queue *queue, struct unit *unit)
{
    enum { WAIT_MIN_MS = 1'000, WAIT_SPREAD_MS = 29'000 }; /* they will be many */
    CHECK(unit->state == UNIT_ACTIVE);
    unit_leave(unit);
    uint64_t wait_ms = WAIT_MIN_MS + random_below(&queue->shard->random, WAIT_SPREAD_MS);
    unit_defer(unit, queue->shard->steady_us + (int64_t)wait_ms * US_IN_MS);
}

/* Where the message has something of its class ready already. Those that are parked go different
 * ways. */
static struct unit *unit_to_join(const struct queue *queue, const struct message *message,
                                 const struct destination *d, uint8_t class)
{
    if (d == queue->parking)
        return NULL;
    for (struct unit *unit = message->units; unit != NULL; unit = unit->sibling)
        if (unit->destination == d && unit->class == class && unit->state == UNIT_READY)
            return unit;
    return NULL;
}

struct unit *queue_take_part(struct queue *queue, struct unit *unit,
                             bool (*wanted)(void *argument, uint32_t recipient), void *argument)
{
    uint32_t place = unit->first;
    uint32_t recipient;
    uint32_t count = 0;
    while (unit_next(unit, &place, &recipient))
        count += wanted(argument, recipient);
    if (count == 0)
        return NULL;
    if (count == unit->count) {
        queue_take(queue, unit);
        return unit;
    }
    struct unit *part = unit_new(queue, unit->message, unit->destination, unit->class);
    CHECK(part != NULL); /* there are as many units as recipients */
    part->attempts = unit->attempts;
    part->tried = unit->tried;
    part->warned = unit->warned;
    part->found = unit->found;
    place = unit->first;
    while (unit_next(unit, &place, &recipient))
        if (wanted(argument, recipient))
            place_move(queue, unit, part, recipient);
    unit_enter(part, UNIT_ACTIVE, false);
    return part;
}

/* The whole of it. */
static void unit_move(struct unit *unit, struct destination *d)
{
    struct destination *old = unit->destination;
    unit_leave(unit);
    destination_count(old);
    unit->destination = d;
    unit_enter(unit, UNIT_READY, false);
}

int queue_move(struct queue *queue, struct unit *unit, uint32_t recipient, const char *key,
               size_t key_size)
{
    CHECK(unit->state == UNIT_ACTIVE);
    CHECK(unit->count > 0);
    struct destination *d = queue_destination(queue, key, key_size);
    if (d == NULL)
        return -ENOSPC;
    struct unit *to = unit_to_join(queue, unit->message, d, unit->class);
    bool last = unit->count == 1;
    if (to == NULL && last) {
        unit_move(unit, d);
    } else if (to != NULL) {
        to->tried = to->tried || unit->tried;
        to->warned = to->warned || unit->warned; /* rather not at all than twice */
        to->found = to->found || unit->found;
        place_move(queue, unit, to, recipient);
    } else {
        to = unit_new(queue, unit->message, d, unit->class);
        if (to == NULL)
            return -ENOSPC;
        to->attempts = unit->attempts;
        to->tried = unit->tried;
        to->warned = unit->warned;
        to->found = unit->found;
        place_move(queue, unit, to, recipient);
        unit_enter(to, UNIT_READY, false);
    }
    if (unit->count == 0) {
        unit_leave(unit);
        unit_free(queue, unit);
    }
    queue->options.wanted(queue->options.owner, d);
    return last;
}

/* ---- destinations ---- */

void queue_destination_failed(struct queue *queue, struct destination *d, struct slice why)
{
    /* By the curve of what waits for it most urgently. */
    const struct list *ready = &d->ready[destination_lane(d)];
    uint8_t class =
        list_empty(ready) ? 0 : container_of(ready->next, const struct unit, node)->class;
    d->failures++;
    d->ordered_ms = 0;
    d->retry_ms = queue->shard->now_ms + queue_retry_after_ms(queue, class, d->failures);
    slice_to_string(why, d->error, sizeof(d->error));
    timer_arm(&queue->shard->timers, &d->timer, d->retry_ms);
    if (d->age_max_ms == 0 && queue->classes.slots[0].age_max_ms == 0)
        destination_await_expiry(d); /* that was their one attempt */
}

void queue_destination_again(struct queue *queue, struct destination *d, uint64_t after_ms)
{
    timer_arm(&queue->shard->timers, &d->timer, queue->shard->now_ms + after_ms);
}

void queue_destination_works(struct queue *queue, struct destination *d)
{
    d->failures = 0;
    d->retry_ms = d->ordered_ms = 0;
    timer_disarm(&queue->shard->timers, &d->timer);
}

void queue_destination_retry(struct queue *queue, struct destination *d, uint64_t ordered_ms)
{
    d->ordered_ms = ordered_ms;
    d->retry_ms = 0;
    queue_destination_again(queue, d, 0);
}

void queue_destination_age(struct destination *d, uint64_t age_max_ms)
{
    if (d->age_max_ms == age_max_ms)
        return;
    d->age_max_ms = age_max_ms;
    destination_await_expiry(d);
}

void queue_ages_changed(struct queue *queue)
{
    for (uint32_t i = 0; i <= queue->hashes_mask; i++) {
        struct list *chain = &queue->hashes[i];
        if (chain->next == NULL)
            continue;
        list_each (node, chain) {
            struct destination *d = container_of(node, struct destination, node);
            queue_destination_age(d, age_max(queue, d->key));
        }
    }
}

bool queue_some_ready(struct queue *queue, uint32_t *cursor, uint32_t slots,
                      void (*each)(void *argument, struct destination *destination), void *argument)
{
    const uint32_t all = queue->hashes_mask + 1;
    const uint32_t end = *cursor + MIN(slots, all - *cursor);
    for (; *cursor < end; ++*cursor) {
        struct list *chain = &queue->hashes[*cursor];
        if (chain->next == NULL)
            continue;
        list_each_safe(node, chain)
        {
            struct destination *d = container_of(node, struct destination, node);
            if (d->ready_count > 0)
                each(argument, d);
        }
    }
    return end < all;
}

void queue_each_ready(struct queue *queue,
                      void (*each)(void *argument, struct destination *destination), void *argument)
{
    uint32_t cursor = 0;
    (void)queue_some_ready(queue, &cursor, UINT32_MAX, each, argument);
}
