/*
 * attempt.c - one unit on its way: envelope, transaction, judgement, outcome
 *
 *   ENVELOPE --SEND--> PREPARING --> SENDING --done--> JUDGED ------------------> SETTLING --> gone
 *       '----FAIL, EXPIRE, MOVE-------------------------^ '--attempt_report.c: DSN--^
 *
 * While an outcome is being recorded nothing else holds on to the unit.
 *
 * Owns its reader, its DSN's writer, and room for the transaction. Borrows the link, whose client
 * gets no other message until this one has ended.
 */
#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/attempt_inside.h"
#include "mta/outbound_envelope.h"

enum { US_IN_MS = 1'000 };

size_t attempt_bytes(void)
{
    return sizeof(struct attempt);
}

size_t attempt_large_bytes(void)
{
    return sizeof(struct attempt_large);
}

static void attempt_judge(struct attempt *a);

const struct config *attempt_config(const struct attempt *a)
{
    return a->deliver->generations->current->config;
}

/* ---- beginning and end ---- */

bool attempt_start(struct deliver *deliver, struct unit *unit, enum attempt_purpose purpose,
                   struct link *link, const struct attempt_failure *failure)
{
    const bool room = link != NULL || deliver->asides < ATTEMPT_ASIDES;
    struct attempt *a = room ? pool_take(&deliver->attempts) : NULL;
    if (a == NULL) {
        queue_wait(deliver->queue, unit);
        return false;
    }
    deliver->asides += link == NULL;
    memset(a, 0, offsetof(struct attempt, few));
    a->deliver = deliver;
    a->unit = unit;
    a->link = link;
    a->purpose = (uint8_t)purpose;
    deliver->warnings += purpose == ATTEMPT_WARN;
    a->indexes = a->few_indexes;
    a->outcomes = a->few_outcomes;
    a->transaction.recipients = a->few;
    a->transaction.texts = a->texts;
    a->transaction.texts_capacity = sizeof(a->texts);
    if (failure != NULL) {
        a->code = failure->code;
        a->enhanced = failure->enhanced;
        a->word = failure->word;
        snprintf(a->why, sizeof(a->why), "%s", failure->why);
    }
    if (link != NULL)
        link->attempt = a;
    task_init(&a->task, attempt_run);
    spool_read_begin(deliver->spool, &a->read, &unit->message->stored, &a->task);
    /* Never from inside the caller: it may be walking a list. */
    shard_run_later(deliver->shard, &a->task);
    return true;
}

static void attempt_free(struct attempt *a)
{
    struct deliver *deliver = a->deliver;
    struct link *link = a->link;
    struct attempt_word *word = a->word;
    spool_read_end(&a->read);
    shard_forget(&a->task);
    if (a->large != NULL)
        pool_give(&deliver->large, a->large);
    deliver->warnings -= a->purpose == ATTEMPT_WARN;
    pool_give(&deliver->attempts, a);
    deliver->asides -= link == NULL;
    if (link != NULL)
        link_free_again(link);
    if (word != NULL)
        word->ended(word, word->done);
}

/* As if it had never begun. */
static void attempt_put_back(struct attempt *a)
{
    struct deliver *deliver = a->deliver;
    struct destination *d = a->unit->destination;
    queue_put_back(deliver->queue, a->unit);
    if (a->link == NULL) /* else its connection looks for the next one */
        deliver_wanted(deliver, d);
    attempt_free(a);
}

/* Ours to blame, nothing is known about the recipients: later. */
static void attempt_give_up(struct attempt *a)
{
    if (a->purpose == ATTEMPT_WARN) {
        attempt_warned(a, false);
        return;
    }
    if (a->word != NULL && a->word->was_held)
        queue_hold(a->deliver->queue, a->unit);
    else
        queue_delay(a->deliver->queue, a->unit);
    attempt_free(a);
}

/* ---- the envelope ---- */

static bool attempt_read_recipients(struct attempt *a)
{
    struct unit *unit = a->unit;
    struct smtp_transaction *t = &a->transaction;
    if (unit->count > ATTEMPT_RECIPIENTS_SMALL) {
        a->large = pool_take(&a->deliver->large);
        if (a->large == NULL)
            return false;
        a->indexes = a->large->indexes;
        a->outcomes = a->large->outcomes;
        t->recipients = a->large->recipients;
        t->texts = a->large->texts;
        t->texts_capacity = sizeof(a->large->texts);
    }
    uint32_t at = unit->count; /* the unit's list has the highest first */
    uint32_t place = unit->first;
    uint32_t index;
    while (unit_next(unit, &place, &index))
        a->indexes[--at] = index;
    CHECK(at == 0);
    size_t cursor = 0;
    uint32_t number = 0;
    struct recipient recipient;
    while (at < unit->count && envelope_next(&a->envelope, &cursor, &recipient)) {
        if (number++ != a->indexes[at])
            continue;
        t->recipients[at++] = (struct smtp_recipient) {
            .address = recipient.address,
            .notify = (recipient.notify & NOTIFY_NEVER ? SMTP_NOTIFY_NEVER : 0U) |
                      (recipient.notify & NOTIFY_SUCCESS ? SMTP_NOTIFY_SUCCESS : 0U) |
                      (recipient.notify & NOTIFY_FAILURE ? SMTP_NOTIFY_FAILURE : 0U) |
                      (recipient.notify & NOTIFY_DELAY ? SMTP_NOTIFY_DELAY : 0U),
            .orcpt = recipient.orcpt,
        };
    }
    t->recipients_count = at;
    if (at < unit->count)
        return false;
    /* RFC 5321 4.5.3.1.8: some hosts take a hundred at a time. The rest goes with the next one. */
    unsigned most = attempt_config(a)->delivery.recipients_max;
    if (a->purpose == ATTEMPT_SEND && most != 0 && at > most && !unit_expired(unit)) {
        t->recipients_count = most;
        a->some_untried = true;
    }
    return true;
}

/* ---- sending ---- */

static void attempt_fail_all(struct attempt *a, enum smtp_verdict verdict, uint16_t code,
                             struct smtp_enhanced enhanced, struct slice text);

/* True: the content may go. False: not yet, or it cannot be read. */
static bool attempt_prepare(struct attempt *a)
{
    const struct link *link = a->link;
    bool strips =
        (a->envelope.flags & ENVELOPE_TRUSTED_FIELDS) != 0 && !link->hop->route->keeps_fields;
    if (a->state != ATTEMPT_PREPARING)
        mail_body_begin(&a->body, a->deliver->shard, &a->task, &a->read, a->envelope.body_bytes);
    a->state = ATTEMPT_PREPARING;
    int r = mail_body_prepare(&a->body, strips ? &link->generation->config->headers : NULL);
    if (r < 0 && r != -EAGAIN)
        attempt_fail_all(a, SMTP_VERDICT_TEMPORARY, 0, (struct smtp_enhanced) { 4, 3, 0 },
                         SLICE("content could not be read"));
    return r == 0;
}

static void attempt_send(struct attempt *a)
{
    struct smtp_transaction *t = &a->transaction;
    const struct envelope *e = &a->envelope;
    struct link *link = a->link;
    bool going = link->client == NULL || link->client->state == SMTP_CLIENT_QUIT;
    if (going || link->generation != a->deliver->generations->current ||
        hop_is_blocked(link->hop)) {
        /* It went while the envelope was read, is going, or may not be used any more. */
        link->ready = link->ready && !going;
        attempt_put_back(a);
        return;
    }
    if (!attempt_prepare(a))
        return;
    t->sender = e->sender;
    t->flags = ((e->flags & ENVELOPE_SMTPUTF8) ? SMTP_TRANSACTION_UTF8 : 0U) |
               ((e->flags & ENVELOPE_8BITMIME) ? SMTP_TRANSACTION_8BIT : 0U) |
               ((e->flags & ENVELOPE_REQUIRETLS) ? SMTP_TRANSACTION_REQUIRETLS : 0U);
    t->ret = e->ret == RET_FULL   ? SMTP_RET_FULL
             : e->ret == RET_HDRS ? SMTP_RET_HDRS
                                  : SMTP_RET_ABSENT;
    t->envid = e->envid;
    t->size = a->body.size;
    t->body = mail_body_source(&a->body);
    t->owner = a;
    a->state = ATTEMPT_SENDING;
    link->ready = false;
    metric_add(&a->deliver->metrics.attempts, 1);
    smtp_client_transact(link->client, t);
}

/* Recipients whose way is another one than when they were queued here go there. True: the unit is
 * elsewhere, or not what it was. */
static bool attempt_move(struct attempt *a)
{
    struct deliver *deliver = a->deliver;
    struct unit *unit = a->unit;
    const struct destination *d = unit->destination;
    if (deliver->switches == 0 && a->purpose != ATTEMPT_MOVE && a->purpose != ATTEMPT_REROUTE)
        return false;
    const uint32_t count = unit->count;
    uint32_t moved = 0;
    bool failed = false;
    struct recipient recipient;
    size_t cursor = 0;
    for (uint32_t at = 0, number = 0;
         at < count && envelope_next(&a->envelope, &cursor, &recipient);) {
        if (number++ != a->indexes[at])
            continue;
        char key[DESTINATION_KEY_MAX];
        size_t size = outbound_way(attempt_config(a), deliver->orders, unit->message->stored.id,
                                   &a->envelope, &recipient, &a->choice, key);
        at++;
        if (size == d->key_size && memcmp(key, d->key, size) == 0)
            continue;
        int r = queue_move(deliver->queue, unit, number - 1, key, size);
        failed = failed || r < 0;
        moved += r >= 0;
    }
    metric_add(&deliver->metrics.rerouted, moved);
    if (a->word != NULL) {
        a->word->done = moved > 0;
        a->word->lacks = failed;
    }
    if (moved == 0 && !failed)
        return false;
    if (!failed && moved < count) { /* it is read anew */
        attempt_put_back(a);
        return true;
    }
    if (failed) /* what stayed here must not be sent from here */
        queue_delay(deliver->queue, unit);
    attempt_free(a);
    return true;
}

static void attempt_fail_all(struct attempt *a, enum smtp_verdict verdict, uint16_t code,
                             struct smtp_enhanced enhanced, struct slice text)
{
    struct smtp_transaction *t = &a->transaction;
    t->attempted = t->recipients_count;
    for (uint32_t i = 0; i < t->recipients_count; i++)
        t->recipients[i].result = (struct smtp_result) { .verdict = (uint8_t)verdict,
                                                         .stage = SMTP_STAGE_LOCAL,
                                                         .code = code,
                                                         .enhanced = enhanced,
                                                         .text = text };
    attempt_judge(a);
}

static void attempt_expire(struct attempt *a)
{
    const struct destination *d = a->unit->destination;
    bool parked = d == a->deliver->queue->parking;
    int size = snprintf((char *)a->buffer, sizeof(a->buffer),
                        "not delivered within the time allowed; last: %s",
                        parked                ? "our configuration has no way to this recipient"
                        : d->error[0] != '\0' ? d->error
                        : hop_token(d) != FAULT_CONNECT ? outbound_token_row(hop_token(d))->words
                                                        : "deferred by the next hop");
    memcpy(a->why, a->buffer, MIN((size_t)size, sizeof(a->why) - 1));
    const struct smtp_enhanced status =
        hop_status(a->deliver, parked ? FAULT_CONFIG : hop_token(d), true);
    attempt_fail_all(a, SMTP_VERDICT_PERMANENT, 0, status, slice_of_string(a->why));
}

static void attempt_log_unroutable(struct attempt *a)
{
    struct shard *shard = a->deliver->shard;
    if (shard->log == NULL)
        return;
    struct log_line line;
    log_begin(&line, shard->log, LOG_ERROR, shard->wall_us, "unroutable");
    log_string(&line, "msg", a->original_id);
    log_text(&line, "from", a->envelope.sender);
    log_text(&line, "to", a->transaction.recipients[0].address);
    log_string(&line, "connector",
               a->choice.connector == NULL ? "" : a->choice.connector->route.name);
    log_string(&line, "token", outbound_token_name(FAULT_CONFIG));
    log_string(&line, "status", "4.3.5");
    log_string(&line, "why", outbound_reason_text(a->choice.reason));
    log_end(&line);
}

/* Its way leads nowhere: it bounces, or waits for another configuration. A parked unit has one
 * recipient (queue_move). */
static void attempt_unroutable(struct attempt *a)
{
    if (a->unit->destination != a->deliver->queue->parking) {
        attempt_give_up(a);
        return;
    }
    if (a->choice.verdict == OUTBOUND_BOUNCE) {
        const uint8_t detail = a->choice.reason == OUTBOUND_TOO_LARGE ? 4 : 5;
        metric_add(&a->deliver->metrics.too_large, 1);
        attempt_fail_all(a, SMTP_VERDICT_PERMANENT, 0, (struct smtp_enhanced) { 5, 3, detail },
                         slice_of_string(outbound_reason_text(a->choice.reason)));
        return;
    }
    metric_add(&a->deliver->metrics.unroutable, 1);
    attempt_log_unroutable(a);
    attempt_give_up(a);
}

/* Nobody can say any more whose mail it is, and its time is up: it must not pin the log for ever.
 * The log line and the quarantine are what is left of it. */
static void attempt_discard(struct attempt *a)
{
    struct unit *unit = a->unit;
    uint32_t place = unit->first;
    uint32_t index;
    while (a->outcomes_count < ATTEMPT_RECIPIENTS_SMALL && unit_next(unit, &place, &index))
        a->outcomes[a->outcomes_count++] =
            (struct outcome) { .recipient = index,
                               .kind = OUTCOME_DISCARDED,
                               .status = { 5, 3, 0 },
                               .text = SLICE("unreadable in the spool, and its time is up") };
    a->some_untried = a->outcomes_count < unit->count;
    attempt_settle(a);
}

static void attempt_damaged(struct attempt *a)
{
    deliver_log_damage(a->deliver, a->original_id);
    spool_quarantine(a->deliver->spool, &a->unit->message->stored);
    if (unit_expired(a->unit) || a->purpose == ATTEMPT_DISCARD) {
        attempt_discard(a);
        return;
    }
    metric_add(&a->deliver->metrics.held, 1);
    queue_hold(a->deliver->queue, a->unit);
    attempt_free(a);
}

static void attempt_open(struct attempt *a)
{
    if (a->purpose == ATTEMPT_WARN && unit_expired(a->unit)) {
        a->deliver->warnings--;
        a->purpose = ATTEMPT_EXPIRE;
    }
    int r = spool_read_envelope(&a->read, &a->envelope);
    if (r == -EAGAIN)
        return;
    smtp_id_text(a->unit->message->stored.id, a->original_id);
    if (r < 0 && r != -EBADMSG && !unit_expired(a->unit)) {
        attempt_give_up(a); /* the disk may read it next time */
        return;
    }
    if (r < 0) {
        attempt_damaged(a);
        return;
    }
    if (!attempt_read_recipients(a)) {
        attempt_give_up(a);
        return;
    }
    if (unit_expired(a->unit) && a->purpose != ATTEMPT_DISCARD) {
        attempt_expire(a);
        return;
    }
    switch ((enum attempt_purpose)a->purpose) {
    case ATTEMPT_SEND:
        if (!attempt_move(a))
            attempt_send(a);
        return;
    case ATTEMPT_MOVE:
        if (!attempt_move(a))
            attempt_unroutable(a);
        return;
    case ATTEMPT_FAIL:
        if (attempt_move(a))
            return;
        [[fallthrough]];
    case ATTEMPT_RETURN:
    case ATTEMPT_DISCARD:
        attempt_fail_all(a, SMTP_VERDICT_PERMANENT, a->code, a->enhanced, slice_of_string(a->why));
        return;
    case ATTEMPT_REROUTE:
        if (attempt_move(a))
            return;
        attempt_put_back(a);
        return;
    case ATTEMPT_EXPIRE: /* the clock went back: it has time left */ attempt_give_up(a); return;
    case ATTEMPT_WARN:
        if (unit_is_late(a->unit))
            attempt_warn(a);
        else /* it went back further */
            attempt_warned(a, false);
        return;
    }
}

void attempt_done(struct attempt *a, struct smtp_transaction *transaction)
{
    CHECK(transaction == &a->transaction);
    CHECK(a->state == ATTEMPT_SENDING);
    link_judge_replies(a->link, transaction);
    attempt_judge(a);
}

/* ---- judging ---- */

static void attempt_log_result(struct attempt *a, const struct smtp_recipient *r,
                               const struct outcome *o)
{
    static const char *const events[OUTCOME_KINDS] = {
        [OUTCOME_DELIVERED] = "delivered", [OUTCOME_BOUNCED] = "bounced",
        [OUTCOME_EXPIRED] = "expired",     [OUTCOME_DISCARDED] = "discarded",
        [OUTCOME_DEFERRED] = "deferred",   [OUTCOME_HELD] = "held",
    };
    struct shard *shard = a->deliver->shard;
    if (shard->log == NULL)
        return;
    struct log_line line;
    log_begin(&line, shard->log, o->kind == OUTCOME_DELIVERED ? LOG_INFO : LOG_WARNING,
              shard->wall_us, events[o->kind]);
    log_string(&line, "msg", a->original_id);
    log_text(&line, "from", a->envelope.sender);
    log_text(&line, "to", r->address);
    log_string(&line, "destination", a->unit->destination->key);
    log_string(&line, "class", a->unit->class == 0 ? NULL : unit_class(a->unit)->name);
    if (a->link != NULL) {
        const enum outbound_token token = link_reply_token(a->link, &r->result);
        link_log(a->link, &line);
        log_string(&line, "token", token == FAULT_NONE ? NULL : outbound_token_name(token));
    }
    log_string(&line, "stage", smtp_stage_name(r->result.stage));
    log_number(&line, "code", r->result.code);
    log_format(&line, "status", "%u.%u.%u", o->status[0], o->status[1], o->status[2]);
    log_text(&line, "reply", r->result.text);
    if (r->result.verdict == SMTP_VERDICT_PERMANENT && !outcome_final(o->kind))
        log_string(&line, "why", "a failure, and no report of it can be made now");
    log_number(&line, "attempts", a->unit->attempts + 1);
    log_number(&line, "age_ms", (shard->steady_us - a->envelope.arrival_us) / US_IN_MS);
    log_end(&line);
}

static uint8_t outcome_of(const struct attempt *a, const struct smtp_result *result)
{
    switch ((enum smtp_verdict)result->verdict) {
    case SMTP_VERDICT_DELIVERED: return OUTCOME_DELIVERED;
    case SMTP_VERDICT_PERMANENT:
        return a->purpose == ATTEMPT_DISCARD                           ? OUTCOME_DISCARDED
               : a->purpose == ATTEMPT_EXPIRE || unit_expired(a->unit) ? OUTCOME_EXPIRED
                                                                       : OUTCOME_BOUNCED;
    default: return unit_is_over(a->unit) ? OUTCOME_EXPIRED : OUTCOME_DEFERRED;
    }
}

static void attempt_judge(struct attempt *a)
{
    const struct smtp_transaction *t = &a->transaction;
    for (uint32_t i = 0; i < t->recipients_count; i++) {
        const struct smtp_recipient *r = &t->recipients[i];
        if (r->result.verdict == SMTP_VERDICT_NONE) {
            a->some_untried = true;
            continue;
        }
        struct outcome *o = &a->outcomes[a->outcomes_count++];
        *o = (struct outcome) {
            .recipient = a->indexes[i],
            .kind = outcome_of(a, &r->result),
            .flags = t->dsn_passed ? OUTCOME_DSN_DELEGATED : 0,
            .code = r->result.code,
            .status = { r->result.enhanced.klass, r->result.enhanced.subject,
                        r->result.enhanced.detail },
            .text = r->result.text,
        };
        if (o->kind == OUTCOME_EXPIRED && r->result.verdict == SMTP_VERDICT_TEMPORARY)
            memcpy(o->status, (const uint16_t[]) { 5, 4, 7 }, sizeof(o->status));
    }
    if (a->outcomes_count == 0) {
        /* Nothing is known of any: at once, on another connection. */
        attempt_put_back(a);
        return;
    }
    a->judged = true;
    attempt_report(a);
}

/* Once it is sure what they are: for want of a report a failure may have become a deferral. */
static void attempt_tell(struct attempt *a)
{
    const struct smtp_transaction *t = &a->transaction;
    const struct outcome *o = a->outcomes;
    for (uint32_t i = 0; i < t->recipients_count; i++) {
        if (t->recipients[i].result.verdict == SMTP_VERDICT_NONE)
            continue;
        attempt_log_result(a, &t->recipients[i], o);
        deliver_count(a->deliver, a->unit, o++);
    }
    if (a->link != NULL)
        link_count_message(a->link, a->outcomes, a->outcomes_count, &a->envelope);
}

/* ---- settling ---- */

/* The queue has drawn its consequence: done, or again after the next start. */
static void attempt_on_settled(void *argument, int result)
{
    struct attempt *a = argument;
    if (a->word != NULL)
        a->word->done = result == 0 && outcome_final(a->outcomes[0].kind) && !a->some_untried;
    if (result < 0) {
        const struct shard *shard = a->deliver->shard;
        struct log_line line;
        log_begin(&line, shard->log, LOG_ERROR, shard->wall_us, "outcome_unrecorded");
        log_string(&line, "msg", a->original_id);
        log_string(&line, "why", strerror(-result));
        log_number(&line, "recipients", a->outcomes_count);
        log_end(&line);
    }
    attempt_free(a);
}

/* The disk takes no outcomes: the connection may have another message meanwhile. An operator who
 * waits for it goes on waiting. */
bool deliver_unrecorded(void *argument)
{
    struct attempt *a = argument;
    if (a->word != NULL)
        return false;
    attempt_free(a);
    return true;
}

/* Those of WARN that were not told of have nothing to record. */
static int attempt_settle_late(struct attempt *a)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < a->outcomes_count; i++)
        if ((a->outcomes[i].flags & OUTCOME_DELAY_TOLD) != 0)
            a->outcomes[count++] = a->outcomes[i];
    a->outcomes_count = count;
    return queue_settle_late(a->deliver->queue, a->unit, a->outcomes, count, attempt_on_settled, a);
}

void attempt_settle(struct attempt *a)
{
    a->state = ATTEMPT_SETTLING;
    if (a->judged)
        attempt_tell(a);
    int r = a->purpose == ATTEMPT_WARN
                ? attempt_settle_late(a)
                : queue_settle(a->deliver->queue, a->unit, a->outcomes, a->outcomes_count,
                               a->some_untried, attempt_on_settled, a);
    if (r < 0)
        attempt_give_up(a);
}

void attempt_warned(struct attempt *a, bool nobody)
{
    struct deliver *deliver = a->deliver;
    struct unit *unit = a->unit;
    struct destination *d = unit->destination;
    if (nobody)
        queue_warned(unit);
    queue_put_back(deliver->queue, unit);
    if (!nobody)
        queue_late_again(deliver->queue, unit);
    attempt_free(a);
    deliver_wanted(deliver, d); /* it may have been wanted while it was away */
}

void attempt_run(struct task *task)
{
    struct attempt *a = container_of(task, struct attempt, task);
    switch ((enum attempt_state)a->state) {
    case ATTEMPT_ENVELOPE: attempt_open(a); return;
    case ATTEMPT_PREPARING: attempt_send(a); return;
    case ATTEMPT_SENDING:
        if (a->link->client != NULL)
            smtp_client_body_ready(a->link->client);
        return;
    case ATTEMPT_RECALLING:
    case ATTEMPT_LOOKING:
    case ATTEMPT_BOUNCING:
    case ATTEMPT_RETURNING:
    case ATTEMPT_COMMITTING: attempt_report_run(a); return;
    case ATTEMPT_SETTLING: return;
    }
}

/* ---- when time is up, or runs out ---- */

void deliver_expired(void *argument, struct unit *unit)
{
    struct deliver *deliver = argument;
    queue_take(deliver->queue, unit);
    (void)attempt_start(deliver, unit, ATTEMPT_EXPIRE, NULL, NULL);
}

void deliver_late(void *argument, struct unit *unit)
{
    struct deliver *deliver = argument;
    if (deliver->draining || !attempt_may_warn(deliver)) {
        queue_late_again(deliver->queue, unit);
        return;
    }
    queue_take(deliver->queue, unit);
    (void)attempt_start(deliver, unit, ATTEMPT_WARN, NULL, NULL);
}
