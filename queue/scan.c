/*
 * scan.c - slices of a pass, what a unit's age means, and the verdict at the end
 *
 * When a unit counts as stuck: it is not at work, and its timer is not armed, or was due more than
 * SCAN_GRACE_MS ago, or, once it has expired, lies further ahead than any wait between two tries.
 * One that waits for its turn to expire, because the disk or the bounce limit make it wait, has a
 * timer that is none of this; nor are timers that are late because the shard stood still, and about
 * to fire. A machine that was suspended made all of them older, timers not: after that nobody is
 * expired from here for as long as a wait may be, in which timers do it.
 */
#include "queue/scan.h"

#include "core/check.h"
#include "core/log.h"
#include "queue/queue_inside.h"

static_assert(SCAN_STATES == UNIT_HELD + 1);

static const char *const state_names[SCAN_STATES] = {
    [UNIT_READY] = "ready",       [UNIT_ACTIVE] = "active", [UNIT_SETTLING] = "settling",
    [UNIT_DEFERRED] = "deferred", [UNIT_HELD] = "held",
};

/* ---- one unit ---- */

static uint64_t longest_wait_ms(const struct mail_class *class)
{
    return queue_longest_wait_ms(class) + SCAN_GRACE_MS;
}

static bool unit_is_stuck(const struct unit *unit, bool expired)
{
    const struct shard *shard = unit_queue(unit)->shard;
    const uint64_t now_ms = shard->now_ms;
    if (unit->state == UNIT_ACTIVE || unit->state == UNIT_SETTLING)
        return false;
    if (!timer_armed(&unit->timer) || unit->timer.due_ms + SCAN_GRACE_MS < shard->timers.fired_ms)
        return true;
    return expired && unit->timer.due_ms > now_ms + longest_wait_ms(unit_class(unit));
}

static void scan_log_unit(struct queue_scan *scan, const struct unit *unit, const char *what)
{
    struct shard *shard = scan->queue->shard;
    if (shard->log == NULL || scan->lines++ >= SCAN_LINES)
        return;
    struct log_line line;
    log_begin(&line, shard->log, LOG_ERROR, shard->wall_us, "queue_scan");
    log_string(&line, "what", what);
    log_hex(&line, "id", unit->message->stored.id);
    log_string(&line, "destination", unit->destination->key);
    log_string(&line, "state", state_names[unit->state]);
    log_number(&line, "age_ms", (shard->steady_us - unit->message->arrival_us) / US_IN_MS);
    log_end(&line);
}

/* It has mail that could go, and neither does anybody look after it nor will anything make somebody
 * do so. */
static bool destination_is_forgotten(const struct destination *d)
{
    return d->ready_count > 0 && d->owner == NULL && !timer_armed(&d->timer);
}

static void scan_unit(struct queue_scan *scan, struct unit *unit)
{
    struct queue *queue = scan->queue;
    const struct message *message = unit->message;
    int64_t *oldest = &scan->oldest_us[unit->state];
    *oldest = MIN(*oldest, message->arrival_us);
    const int64_t limit_us = unit_expires_us(unit) + (int64_t)SCAN_GRACE_MS * US_IN_MS;
    bool expired = queue->shard->steady_us > limit_us;
    scan->overdue += expired;
    if (queue->draining)
        return;
    if (!expired && unit->state == UNIT_READY && destination_is_forgotten(unit->destination)) {
        scan_log_unit(scan, unit, "goes on: its destination was forgotten");
        metric_add(&scan->metrics.woken, 1);
        queue->options.wanted(queue->options.owner, unit->destination);
        return; /* it may be anywhere now */
    }
    if (!unit_is_stuck(unit, expired))
        return;
    if (expired && queue->shard->now_ms < scan->patient_ms)
        return;
    if (expired) {
        scan_log_unit(scan, unit, "expired: its timer did not");
        metric_add(&scan->metrics.expired, 1);
        queue->options.expired(queue->options.owner, unit);
    } else if (unit->state == UNIT_DEFERRED) {
        scan_log_unit(scan, unit, "goes on: its timer was lost");
        metric_add(&scan->metrics.woken, 1);
        unit_leave(unit);
        unit_enter(unit, UNIT_READY, false);
        queue->options.wanted(queue->options.owner, unit->destination);
    }
}

static void scan_message(struct queue_scan *scan, struct message *message)
{
    if (queue_message(scan->queue, message->stored.id) != message)
        return; /* nobody finds it any more */
    scan->messages++;
    for (struct unit *unit = message->units, *next; unit != NULL; unit = next) {
        uint32_t place = unit->first;
        uint32_t recipient;
        while (unit_next(unit, &place, &recipient))
            scan->recipients++;
        next = unit->sibling;
        scan_unit(scan, unit);
    }
}

/* ---- a pass ---- */

static void scan_begin(struct queue_scan *scan)
{
    scan->began_ms = scan->queue->shard->now_ms;
    scan->messages = 0;
    scan->recipients = 0;
    scan->overdue = 0;
    scan->lines = 0;
    for (unsigned i = 0; i < SCAN_STATES; i++)
        scan->oldest_us[i] = INT64_MAX;
}

/* Once for each new number. */
static void scan_tell(struct queue_scan *scan)
{
    struct queue_scan_metrics *m = &scan->metrics;
    struct shard *shard = scan->queue->shard;
    bool news = m->balance != scan->told_balance || m->unlisted != scan->told_unlisted ||
                (m->overdue != 0) != (scan->told_overdue != 0);
    scan->told_balance = m->balance;
    scan->told_unlisted = m->unlisted;
    scan->told_overdue = m->overdue;
    if (!news || shard->log == NULL)
        return;
    bool good = m->balance == 0 && m->unlisted == 0 && m->overdue == 0;
    struct log_line line;
    log_begin(&line, shard->log, good ? LOG_INFO : LOG_ERROR, shard->wall_us, "balance");
    log_number(&line, "recipients", (int64_t)m->balance);
    log_number(&line, "messages", (int64_t)m->unlisted);
    log_number(&line, "overdue", (int64_t)m->overdue);
    log_end(&line);
}

static void scan_judge(struct queue_scan *scan)
{
    const struct queue *queue = scan->queue;
    const struct queue_metrics *q = &queue->metrics;
    struct queue_scan_metrics *m = &scan->metrics;
    uint64_t in = q->recipients_accepted + q->recipients_recovered;
    uint64_t out = q->recipients_delivered + q->recipients_bounced + q->recipients_expired +
                   q->recipients_discarded;
    metric_set(&m->balance, in - out - (uint64_t)scan->recipients);
    metric_set(&m->unlisted, spool_metrics(queue->spool)->live_messages - (uint64_t)scan->messages);
    for (unsigned i = 0; i < SCAN_STATES; i++) {
        int64_t age_us = 0;
        if (scan->oldest_us[i] < queue->shard->steady_us)
            age_us = queue->shard->steady_us - scan->oldest_us[i];
        metric_set(&m->oldest_ms[i], (uint64_t)(age_us / US_IN_MS));
    }
    metric_set(&m->overdue, scan->overdue);
    metric_set(&m->pass_ms, queue->shard->now_ms - scan->began_ms);
    metric_add(&m->passes, 1);
    scan_tell(scan);
}

static void scan_look_at_clock(struct queue_scan *scan)
{
    const struct shard *shard = scan->queue->shard;
    const int64_t clock_us = shard->steady_us - (int64_t)shard->now_ms * US_IN_MS;
    const int64_t jump_us = clock_us - scan->clock_us;
    const int64_t most_us = (int64_t)SCAN_GRACE_MS * US_IN_MS;
    scan->clock_us = clock_us;
    if (jump_us <= most_us && jump_us >= -most_us)
        return;
    for (unsigned i = 0; i < CLASS_SLOTS; i++)
        scan->patient_ms =
            MAX(scan->patient_ms, shard->now_ms + longest_wait_ms(&scan->queue->classes.slots[i]));
}

static void scan_on_timer(struct timer *timer)
{
    struct queue_scan *scan = container_of(timer, struct queue_scan, timer);
    struct queue *queue = scan->queue;
    scan_look_at_clock(scan);
    if (scan->cursor == 0)
        scan_begin(scan);
    const uint32_t end = scan->cursor + SCAN_SLOTS;
    struct message *message;
    /* What is behind the cursor is counted, what is not is not. */
    while ((message = queue_walk(queue, &scan->cursor, end - scan->cursor)) != NULL)
        scan_message(scan, message);
    const bool ended = queue_walked(queue, scan->cursor);
    if (ended) {
        scan_judge(scan);
        scan->cursor = 0;
    }
    shard_timer_arm(queue->shard, timer, ended ? SCAN_PAUSE_MS : SCAN_SLICE_MS);
}

void scan_start(struct queue *queue)
{
    struct queue_scan *scan = &queue->scan;
    scan->queue = queue;
    scan->cursor = 0;
    scan->clock_us = queue->shard->steady_us - (int64_t)queue->shard->now_ms * US_IN_MS;
    timer_init(&scan->timer, scan_on_timer);
    shard_timer_arm(queue->shard, &scan->timer, SCAN_SLICE_MS);
}

void scan_stop(struct queue *queue)
{
    if (queue->scan.queue == NULL)
        return;
    timer_disarm(&queue->shard->timers, &queue->scan.timer);
    queue->scan.queue = NULL;
    queue->scan.cursor = 0;
}

/* ---- numbers ---- */

#define SCAN_NUMBER(type, field, name, label, scale, words)                                        \
    {                                                                                              \
        name, label, words, type, scale, offsetof(struct queue_scan_metrics, field)                \
    }
#define SCAN_OLDEST(state, label)                                                                  \
    SCAN_NUMBER(METRIC_GAUGE, oldest_ms[state], "ringpost_queue_oldest_seconds", label, 1e-3,      \
                "Age of the oldest message with a unit in this state")

/* clang-format off */
const struct metric queue_scan_metrics_table[] = {
    SCAN_NUMBER(METRIC_GAUGE, balance, "ringpost_mail_balance", "by=\"scan\"", 0, "Recipients that came in, less those that went out, less those queued: 0, or mail is lost"),
    SCAN_NUMBER(METRIC_GAUGE, unlisted, "ringpost_mail_unlisted", NULL, 0, "Messages alive in the spool, less those in the queue: 0, or mail is forgotten"),
    SCAN_OLDEST(UNIT_READY, "state=\"ready\""),
    SCAN_OLDEST(UNIT_ACTIVE, "state=\"active\""),
    SCAN_OLDEST(UNIT_SETTLING, "state=\"settling\""),
    SCAN_OLDEST(UNIT_DEFERRED, "state=\"deferred\""),
    SCAN_OLDEST(UNIT_HELD, "state=\"held\""),
    SCAN_NUMBER(METRIC_GAUGE, overdue, "ringpost_queue_overdue", NULL, 0, "Units that are older than they may get and not gone yet"),
    SCAN_NUMBER(METRIC_COUNTER, passes, "ringpost_queue_scans_total", NULL, 0, "Times the whole queue was counted anew"),
    SCAN_NUMBER(METRIC_GAUGE, pass_ms, "ringpost_queue_scan_seconds", NULL, 1e-3, "How long the last count of the whole queue took"),
    SCAN_NUMBER(METRIC_COUNTER, expired, "ringpost_queue_scan_rescued_total", "by=\"expired\"", 0, "Units whose timer was lost, found by the count of the whole queue"),
    SCAN_NUMBER(METRIC_COUNTER, woken, "ringpost_queue_scan_rescued_total", "by=\"retried\"", 0, "Units whose timer was lost, found by the count of the whole queue"),
};
/* clang-format on */
const unsigned queue_scan_metrics_count = ARRAY_COUNT(queue_scan_metrics_table);
