/*
 * queue_job.c - walking, reading, applying, waiting for what is being delivered
 *
 *   slot: free --a message that may fit--> reading (if need be) --> unit by unit --> free
 *                                                                      '--active--> waiting
 *
 * Units of a message are changed one after the other, and found anew each time: a settlement may
 * have taken any of them away.
 */
#include "mta/queue_job.h"

#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/outbound_envelope.h"
#include "mta/server.h"

enum {
    WAIT_MS = 200,
    WAIT_MAX_MS = 3'600'000, /* longer than any attempt takes */
    TRIES_MAX = 25,          /* of a message that could not be changed, WAIT_MS apart */
};

static const char *const verb_names[QUEUE_VERBS] = {
    [QUEUE_HOLD] = "hold",       [QUEUE_RELEASE] = "release", [QUEUE_RETRY] = "retry",
    [QUEUE_DISCARD] = "discard", [QUEUE_BOUNCE] = "bounce",   [QUEUE_REROUTE] = "reroute",
};

/* As a line of the log says it of a unit. */
static const char *const verb_events[QUEUE_VERBS] = {
    [QUEUE_HOLD] = "queue_held",      [QUEUE_RELEASE] = "queue_released",
    [QUEUE_RETRY] = "queue_retried",  [QUEUE_DISCARD] = "queue_discarded",
    [QUEUE_BOUNCE] = "queue_bounced", [QUEUE_REROUTE] = "queue_rerouted",
};

const char *queue_verb_name(enum queue_verb verb)
{
    CHECK(verb < QUEUE_VERBS);
    return verb_names[verb];
}

bool queue_verb_named(const char *name, enum queue_verb *verb)
{
    for (unsigned i = 0; i < QUEUE_VERBS; i++) {
        if (strcmp(verb_names[i], name) != 0)
            continue;
        *verb = (enum queue_verb)i;
        return true;
    }
    return false;
}

enum queue_verb_step queue_verb_step(enum queue_verb verb, enum unit_state state)
{
    const bool active = state == UNIT_ACTIVE || state == UNIT_SETTLING;
    switch (verb) {
    case QUEUE_HOLD: return active ? VERB_WAITS : state == UNIT_HELD ? VERB_LEAVES : VERB_CHANGES;
    case QUEUE_RELEASE: return state == UNIT_HELD ? VERB_CHANGES : VERB_LEAVES;
    case QUEUE_RETRY:
        return state == UNIT_DEFERRED || state == UNIT_READY ? VERB_CHANGES : VERB_LEAVES;
    case QUEUE_REROUTE: /* what is held looks for its way when it is released */
        return active ? VERB_WAITS : state == UNIT_HELD ? VERB_LEAVES : VERB_CHANGES;
    case QUEUE_DISCARD:
    case QUEUE_BOUNCE: return active ? VERB_WAITS : VERB_CHANGES;
    case QUEUE_VERBS: break;
    }
    CHECK(verb < QUEUE_VERBS);
    return VERB_LEAVES;
}

/* ---- the end of a part ---- */

static void part_tell(struct queue_part *part, enum queue_part_state state)
{
    struct shard *shard = part->shard;
    /* Control may free it as soon as it hears of OVER: nothing is written behind that. */
    const struct handoff told = { .kind = HANDOFF_JOB_TOLD,
                                  .number = (uint64_t)state,
                                  .pointer = part };
    if (shard_handoff(shard, shard->group->count - 1, told) < 0)
        shard_timer_arm(shard, &part->timer, WAIT_MS); /* control is far behind: again */
    else if (state == PART_SETTLED)
        part->told_settled = true;
}

static void part_over(struct queue_part *part)
{
    list_remove(&part->node);
    timer_disarm(&part->shard->timers, &part->timer);
    shard_forget(&part->task);
    part_tell(part, PART_OVER);
}

/* ---- waiting ---- */

static void message_ordered(struct queue_waiting *w, bool ordered)
{
    struct message *m = queue_message(&w->log->queue, w->id);
    if (m != NULL)
        m->ordered = ordered;
}

static void part_forget(struct queue_part *part, unsigned index)
{
    message_ordered(&part->waiting[index], false);
    part->waiting[index] = part->waiting[--part->waiting_count];
    metric_set(&part->numbers.active, part->waiting_count);
}

static void part_wait(struct queue_part *part, const struct queue_slot *slot, bool failed)
{
    struct queue_waiting *w = &part->waiting[part->waiting_count];
    if (part->waiting_count == JOB_WAITING_MAX || (failed && slot->tries >= TRIES_MAX)) {
        metric_add(&part->numbers.failed, 1);
        return;
    }
    *w = (struct queue_waiting) { .log = slot->log,
                                  .id = slot->id,
                                  .tries = (uint16_t)(slot->tries + failed) };
    part->waiting_count++;
    message_ordered(w, true);
    metric_set(&part->numbers.active, part->waiting_count);
}

/* ---- one message ---- */

static void slot_free(struct queue_slot *slot)
{
    struct queue_part *part = slot->part;
    if (slot->reading)
        spool_read_end(&slot->read);
    slot->reading = false;
    slot->id = 0;
    part->slots_used--;
    shard_run_later(part->shard, &part->task);
}

static bool slot_wants(void *argument, uint32_t recipient)
{
    const struct queue_slot *slot = argument;
    return queue_select_wants(&slot->wanted, recipient);
}

static uint32_t slot_count(const struct queue_slot *slot, const struct unit *unit)
{
    return queue_select_count(&slot->wanted, unit);
}

static void slot_log(const struct queue_slot *slot)
{
    const struct queue_part *part = slot->part;
    struct shard *shard = part->shard;
    char id[SMTP_ID_TEXT];
    struct log_line line;
    if (shard->log == NULL)
        return;
    smtp_id_text(slot->id, id);
    log_begin(&line, shard->log, LOG_WARNING, shard->wall_us, verb_events[part->job->verb]);
    log_string(&line, "msg", id);
    log_string(&line, "destination", slot->key);
    log_number(&line, "recipients", slot->recipients);
    log_string(&line, "by", part->job->by);
    log_string(&line, "reason", part->job->reason);
    log_end(&line);
}

static void slot_done(struct queue_slot *slot, bool done)
{
    struct queue_part *part = slot->part;
    if (done && (slot->purpose != ATTEMPT_REROUTE || part->job->verb == QUEUE_REROUTE)) {
        metric_add(&part->numbers.units, 1);
        metric_add(&part->numbers.recipients, slot->recipients);
        slot_log(slot);
    }
    slot->failed = slot->failed || (!done && slot->purpose != ATTEMPT_REROUTE);
    shard_run_later(part->shard, &slot->task);
}

static void slot_on_marked(void *argument, int result)
{
    slot_done(argument, result == 0);
}

static void slot_on_attempt(struct attempt_word *word, bool done)
{
    struct queue_slot *slot = container_of(word, struct queue_slot, word);
    metric_add(&slot->part->numbers.failed, word->lacks);
    slot_done(slot, done);
}

static void slot_mark(struct queue_slot *slot, struct unit *unit)
{
    static const char *const words[QUEUE_VERBS] = {
        [QUEUE_HOLD] = "held", [QUEUE_RELEASE] = "released", [QUEUE_RETRY] = "retried"
    };
    const struct queue_job *job = slot->part->job;
    char text[CONNECTOR_BY_MAX + JOB_REASON_MAX + 32];
    int size = snprintf(text, sizeof(text), "%s by %s%s%s", words[job->verb], job->by,
                        *job->reason == '\0' ? "" : ": ", job->reason);
    CHECK(queue_mark(&slot->log->queue, unit,
                     job->verb == QUEUE_HOLD ? OUTCOME_HELD : OUTCOME_RELEASED,
                     slice_of(text, (size_t)size), slot_on_marked, slot) == 0);
}

static void slot_attempt(struct queue_slot *slot, struct unit *unit, bool was_held)
{
    const struct queue_job *job = slot->part->job;
    slot->word = (struct attempt_word) { .ended = slot_on_attempt, .was_held = was_held };
    const struct attempt_failure failure = {
        .enhanced = { 5, 7, 0 },
        .why = *job->reason != '\0' ? job->reason : "returned by the operator of this mail system",
        .word = &slot->word,
    };
    CHECK(attempt_start(&slot->log->deliver, unit, slot->purpose, NULL, &failure));
}

/* How the unit is changed: SEND: by a mark. */
static enum attempt_purpose purpose_of(enum queue_verb verb, const struct unit *unit)
{
    switch (verb) {
    case QUEUE_DISCARD: return ATTEMPT_DISCARD;
    case QUEUE_BOUNCE: return ATTEMPT_RETURN;
    case QUEUE_REROUTE: return ATTEMPT_REROUTE;
    case QUEUE_RELEASE: return unit->state == UNIT_HELD ? ATTEMPT_SEND : ATTEMPT_REROUTE;
    default: return ATTEMPT_SEND;
    }
}

/* False: not now. */
static bool slot_may(const struct queue_slot *slot, uint32_t recipients)
{
    return slot->purpose == ATTEMPT_SEND ? queue_settles(&slot->log->queue, recipients)
                                         : deliver_spare(&slot->log->deliver);
}

/* What was released may have been ordered another way while it was held. */
static struct unit *slot_next_way(const struct queue_slot *slot, const struct message *m)
{
    const struct queue_orders *orders = slot->log->deliver.orders;
    if (slot->part->job->verb != QUEUE_RELEASE || !slot->released || orders == NULL ||
        !orders->ways)
        return NULL;
    for (struct unit *unit = m->units; unit != NULL; unit = unit->sibling)
        if ((unit->state == UNIT_READY || unit->state == UNIT_DEFERRED) &&
            slot_count(slot, unit) > 0)
            return unit;
    return NULL;
}

/* A way may have to do with the connector on record, which only the envelope tells. */
static bool means(const struct queue_job *job, const struct unit *unit)
{
    return job->verb != QUEUE_REROUTE
               ? queue_job_means(job, unit)
               : queue_verb_step(job->verb, (enum unit_state)unit->state) != VERB_LEAVES;
}

/* The next unit that the verb changes. NULL: none is left. */
static struct unit *slot_next(struct queue_slot *slot, struct message *m, bool *waits)
{
    const struct queue_job *job = slot->part->job;
    for (struct unit *unit = m->units; unit != NULL; unit = unit->sibling) {
        if (!means(job, unit) || slot_count(slot, unit) == 0)
            continue;
        if (queue_verb_step(job->verb, (enum unit_state)unit->state) == VERB_WAITS)
            *waits = true;
        else if (job->verb != QUEUE_RETRY || unit->state != UNIT_READY)
            return unit;
    }
    return slot_next_way(slot, m);
}

static void slot_meant(struct queue_slot *slot)
{
    if (!slot->counted)
        metric_add(&slot->part->numbers.messages, 1);
    slot->counted = true;
}

/* A unit that is ready waits for its destination alone; one that is deferred may, once it is due.
 */
static void slot_retry_ready(struct queue_slot *slot, struct message *m)
{
    const struct queue_job *job = slot->part->job;
    for (struct unit *unit = m->units; unit != NULL; unit = unit->sibling) {
        struct destination *d = unit->destination;
        const uint32_t count = slot_count(slot, unit);
        if ((unit->state != UNIT_READY && unit->state != UNIT_DEFERRED) || count == 0 ||
            !queue_select_unit(&job->selection, unit))
            continue;
        if (d->ordered_ms < slot->part->began_ms)
            queue_destination_retry(&slot->log->queue, d, slot->part->began_ms);
        if (unit->state != UNIT_READY)
            continue;
        slot_meant(slot);
        snprintf(slot->key, sizeof(slot->key), "%s", d->key);
        slot->recipients = count;
        metric_add(&slot->part->numbers.units, 1);
        metric_add(&slot->part->numbers.recipients, slot->recipients);
        slot_log(slot);
    }
}

static void slot_count_only(struct queue_slot *slot, struct message *m)
{
    struct queue_part *part = slot->part;
    bool meant = false;
    for (struct unit *unit = m->units; unit != NULL; unit = unit->sibling) {
        const uint32_t count = slot_count(slot, unit);
        if (count == 0 || !queue_job_means(part->job, unit))
            continue;
        meant = true;
        metric_add(&part->numbers.units, 1);
        metric_add(&part->numbers.recipients, count);
    }
    metric_add(&part->numbers.messages, meant);
}

/* Once is enough: it is elsewhere then, or has nowhere to go. */
static void slot_looked(struct queue_slot *slot, const struct unit *unit)
{
    uint32_t place = unit->first;
    uint32_t recipient;
    while (unit_next(unit, &place, &recipient))
        queue_select_drop(&slot->wanted, recipient);
}

static void slot_apply(struct queue_slot *slot, struct message *m)
{
    struct queue_part *part = slot->part;
    bool waits = false;
    if (part->job->dry_run) {
        slot_count_only(slot, m);
        slot_free(slot);
        return;
    }
    struct unit *unit = slot->left == 0 ? NULL : slot_next(slot, m, &waits);
    if (unit != NULL || waits)
        slot_meant(slot);
    if (unit != NULL)
        slot->purpose = purpose_of(part->job->verb, unit);
    if (unit != NULL && !slot_may(slot, unit->count)) {
        waits = true; /* there is no room for it this moment */
        unit = NULL;
    }
    if (unit == NULL) {
        if (waits || slot->failed)
            part_wait(part, slot, slot->failed);
        else if (slot->tries > 0)
            m->ordered = false;
        slot_free(slot);
        return;
    }
    slot->left--;
    const bool was_held = unit->state == UNIT_HELD;
    unit = queue_take_part(&slot->log->queue, unit, slot_wants, slot);
    slot->recipients = unit->count;
    snprintf(slot->key, sizeof(slot->key), "%s", unit->destination->key);
    if (part->job->verb == QUEUE_REROUTE)
        slot_looked(slot, unit);
    slot->released = slot->released || was_held;
    if (slot->purpose == ATTEMPT_SEND)
        slot_mark(slot, unit);
    else
        slot_attempt(slot, unit, was_held);
}

/* Of the recipients that are meant only those that have another way by now. False: none. */
static bool slot_ways(struct queue_slot *slot, const struct message *m, const struct envelope *e)
{
    const struct deliver *deliver = &slot->log->deliver;
    struct unit **unit_of = slot->part->unit_of;
    struct outbound_choice choice;
    struct recipient recipient;
    size_t cursor = 0;
    bool some = false;
    char key[DESTINATION_KEY_MAX];
    memset(unit_of, 0, e->recipients_count * sizeof(struct unit *));
    for (struct unit *unit = m->units; unit != NULL; unit = unit->sibling) {
        uint32_t place = unit->first, index;
        while (unit_next(unit, &place, &index))
            unit_of[index] = unit;
    }
    for (uint32_t i = 0; envelope_next(e, &cursor, &recipient); i++) {
        const struct destination *d = unit_of[i] == NULL ? NULL : unit_of[i]->destination;
        size_t size = d == NULL || !slot_wants(slot, i)
                          ? 0
                          : outbound_way(deliver->generations->current->config, deliver->orders,
                                         slot->id, e, &recipient, &choice, key);
        if (size > 0 && (size != d->key_size || memcmp(key, d->key, size) != 0))
            some = true;
        else
            queue_select_drop(&slot->wanted, i);
    }
    return some;
}

static void slot_run(struct task *task)
{
    struct queue_slot *slot = container_of(task, struct queue_slot, task);
    struct queue_part *part = slot->part;
    const struct server_shard *server = part->shard->owner;
    struct message *m = queue_message(&slot->log->queue, slot->id);
    if (m == NULL || server->draining) {
        slot_free(slot); /* it is gone */
        return;
    }
    if (slot->reading) {
        struct envelope e;
        int r = spool_read_envelope(&slot->read, &e);
        if (r == -EAGAIN)
            return;
        if (r < 0)
            metric_add(&part->numbers.failed, 1);
        if (r < 0 || !queue_select_envelope(&part->job->selection, &e, &slot->wanted) ||
            (part->job->verb == QUEUE_REROUTE && !slot_ways(slot, m, &e))) {
            slot_free(slot);
            return;
        }
        spool_read_end(&slot->read);
        slot->reading = false;
    }
    if (part->job->verb == QUEUE_RETRY && slot->left == m->units_count && !part->job->dry_run)
        slot_retry_ready(slot, m);
    slot_apply(slot, m);
}

static struct queue_slot *slot_of(struct queue_part *part)
{
    for (unsigned i = 0; i < JOB_SLOTS; i++)
        if (part->slots[i].id == 0)
            return &part->slots[i];
    return NULL;
}

/* tries above 0: it was meant already. False: no slot is free. */
static bool slot_begin(struct queue_part *part, struct server_log *log, struct message *m,
                       uint16_t tries)
{
    struct queue_slot *slot = slot_of(part);
    if (slot == NULL)
        return false;
    slot->part = part;
    slot->log = log;
    slot->id = m->stored.id;
    slot->left = part->job->verb == QUEUE_RELEASE ? 2 * m->units_count : m->units_count;
    slot->released = false;
    slot->tries = tries;
    slot->counted = tries > 0;
    slot->failed = false;
    slot->wanted.all = true;
    slot->reading =
        queue_select_needs_envelope(&part->job->selection) || part->job->verb == QUEUE_REROUTE;
    part->slots_used++;
    task_init(&slot->task, slot_run);
    if (slot->reading)
        spool_read_begin(log->spool, &slot->read, &m->stored, &slot->task);
    shard_run_later(part->shard, &slot->task);
    return true;
}

/* ---- looking ---- */

bool queue_job_means(const struct queue_job *job, const struct unit *unit)
{
    return (job->verb == QUEUE_VERBS ||
            queue_verb_step(job->verb, (enum unit_state)unit->state) != VERB_LEAVES) &&
           queue_select_unit(&job->selection, unit);
}

bool queue_job_may_mean(const struct queue_job *job, const struct message *m)
{
    if (!queue_select_message(&job->selection, m))
        return false;
    for (const struct unit *unit = m->units; unit != NULL; unit = unit->sibling)
        if (queue_job_means(job, unit))
            return true;
    return false;
}

/* False: no slot is free. */
static bool part_look(struct queue_part *part, struct server_log *log, struct message *m)
{
    bool may = queue_select_message(&part->job->selection, m);
    bool some = false;
    for (const struct unit *unit = m->units; may && unit != NULL; unit = unit->sibling)
        some = some || means(part->job, unit);
    return !some || slot_begin(part, log, m, 0);
}

/* True: there is more to look at, now. */
static bool part_scan_ids(struct queue_part *part)
{
    const struct queue_selection *s = &part->job->selection;
    struct server_shard *server = part->shard->owner;
    while (part->ids_done < s->ids_count) {
        for (unsigned i = 0; i < server->logs_count; i++) {
            struct server_log *log = &server->logs[i];
            struct message *m = queue_message(&log->queue, s->ids[part->ids_done]);
            if (m != NULL && !part_look(part, log, m))
                return false;
        }
        part->ids_done++;
        metric_add(&part->numbers.looked, 1);
    }
    part->scanned = true;
    return false;
}

static bool part_scan(struct queue_part *part)
{
    struct server_shard *server = part->shard->owner;
    for (uint32_t left = JOB_SCAN; part->log < server->logs_count;) {
        struct server_log *log = &server->logs[part->log];
        uint32_t cursor = part->cursor;
        struct message *m = queue_walk(&log->queue, &cursor, left);
        if (m == NULL && queue_walked(&log->queue, cursor)) {
            part->log++;
            part->cursor = 0;
            continue;
        }
        left -= cursor - part->cursor;
        if (m == NULL) {
            part->cursor = cursor;
            return true;
        }
        if (!part_look(part, log, m))
            return false;
        part->cursor = cursor;
        metric_add(&part->numbers.looked, 1);
    }
    part->scanned = true;
    return false;
}

static bool is_active(const struct queue_part *part, const struct message *m)
{
    for (const struct unit *unit = m->units; unit != NULL; unit = unit->sibling)
        if ((unit->state == UNIT_ACTIVE || unit->state == UNIT_SETTLING) &&
            (part->job->verb == QUEUE_REROUTE ||
             queue_select_key(&part->job->selection, unit->destination->key)))
            return true;
    return false;
}

/* Those that were being delivered, and are not any more. */
static void part_look_again(struct queue_part *part)
{
    const bool late = part->shard->now_ms >= part->until_ms;
    for (unsigned i = part->waiting_count; i-- > 0;) {
        const struct queue_waiting w = part->waiting[i];
        struct message *m = queue_message(&w.log->queue, w.id);
        if (m != NULL && !late && is_active(part, m))
            continue;
        metric_add(&part->numbers.failed, m != NULL && late);
        part_forget(part, i);
        if (m == NULL || late)
            continue;
        m->ordered = true; /* until its slot has it */
        if (slot_begin(part, w.log, m, (uint16_t)MAX(w.tries, (uint16_t)1)))
            continue;
        part->waiting[part->waiting_count++] = w;
        metric_set(&part->numbers.active, part->waiting_count);
        return;
    }
}

static void part_stop(struct queue_part *part)
{
    part->scanned = true;
    while (part->waiting_count > 0)
        part_forget(part, part->waiting_count - 1);
    for (unsigned i = 0; i < JOB_SLOTS; i++) {
        struct queue_slot *slot = &part->slots[i];
        if (slot->id != 0 && slot->reading) {
            shard_forget(&slot->task);
            slot_free(slot);
        }
    }
}

static void part_run(struct task *task)
{
    struct queue_part *part = container_of(task, struct queue_part, task);
    const struct server_shard *server = part->shard->owner;
    if (server->draining)
        part_stop(part);
    bool more = false;
    if (!part->scanned)
        more = part->job->selection.ids_count > 0 ? part_scan_ids(part) : part_scan(part);
    if (more)
        shard_run_later(part->shard, &part->task);
    if (!part->scanned || part->slots_used > 0)
        return;
    if (part->waiting_count == 0) {
        part_over(part);
        return;
    }
    if (!part->told_settled)
        part_tell(part, PART_SETTLED);
    if (!timer_armed(&part->timer))
        shard_timer_arm(part->shard, &part->timer, WAIT_MS);
}

static void part_on_timer(struct timer *timer)
{
    struct queue_part *part = container_of(timer, struct queue_part, timer);
    if (list_empty(&part->node)) {
        part_tell(part, PART_OVER);
        return;
    }
    part_look_again(part);
    shard_run_later(part->shard, &part->task);
}

void queue_part_asked(struct shard *shard, const struct handoff *handoff)
{
    struct queue_part *part = handoff->pointer;
    struct server_shard *server = shard->owner;
    part->shard = shard;
    part->began_ms = shard->now_ms;
    part->until_ms = shard->now_ms + WAIT_MAX_MS;
    for (unsigned i = 0; i < server->logs_count; i++)
        metric_add(&part->numbers.total, metric_get(&server->logs[i].queue.metrics.messages));
    list_push(&server->parts, &part->node);
    task_init(&part->task, part_run);
    timer_init(&part->timer, part_on_timer);
    shard_run_later(shard, &part->task);
}

void queue_parts_stop(struct server_shard *server)
{
    list_each (node, &server->parts) {
        struct queue_part *part = container_of(node, struct queue_part, node);
        shard_run_later(&server->shard, &part->task);
    }
}
