/*
 * attempt_report.c - who is told of the outcomes of an attempt, and the DSN that does
 *
 *   attempt_warn --> RECALLING --.
 *   attempt_report --------------+--> LOOKING --> decided --nobody is to know--> attempt_settle
 *                                     (delays)      '--> BOUNCING (our text) --> RETURNING (the
 *                  original) --> COMMITTING --durable--> attempt_settle
 *
 * The DSN of a failure is durable before the failure is recorded: a crash in between sends it
 * twice, never not at all. All that an attempt has to tell of goes in one DSN. Where there is no
 * room for it, or one of its limits is reached, failures are deferrals, REPORTS_POSTPONED_MAX
 * times; then, and for successes at once, the log has to do.
 *
 * A delay is told once (RFC 3461 5.2.5), by the attempt that defers an overdue unit, or, when there
 * is none, by attempt_warn, which knows from the log what was said last. Where NOTIFY says nothing
 * it is not told to lists and machines (queue/bounce_look.h): what is LOOKING for. No report goes
 * to the null sender: what became of such mail is in the log.
 */
#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/attempt_inside.h"
#include "mta/outbound_envelope.h"

enum {
    MS_IN_MINUTE = 60'000,
    REPORTS_POSTPONED_MAX = 12,
    RECALLED_MAX = 1'000, /* outcomes of a message that are looked at for what was said last */
};

/* ---- who is told ---- */

static bool outcome_is_failure(const struct outcome *o)
{
    return o->kind == OUTCOME_BOUNCED || o->kind == OUTCOME_EXPIRED;
}

/* RFC 3461 4.1: a failure is told unless it was asked not to. */
static bool failure_is_told(const struct attempt *a, const struct smtp_recipient *r)
{
    return a->envelope.sender.size > 0 &&
           (r->notify == SMTP_NOTIFY_ABSENT || (r->notify & SMTP_NOTIFY_FAILURE));
}

/* RFC 3461 4.1, 5.2.1: a success is told when that was asked, and nobody further on will do it. */
static bool success_is_told(const struct attempt *a, const struct smtp_recipient *r)
{
    return a->envelope.sender.size > 0 && (r->notify & SMTP_NOTIFY_SUCCESS) &&
           !a->transaction.dsn_passed;
}

/* RFC 3461 5.2.5. */
static bool delay_is_told(const struct attempt *a, const struct smtp_recipient *r)
{
    return a->envelope.sender.size > 0 && ((r->notify & SMTP_NOTIFY_DELAY) ||
                                           (r->notify == SMTP_NOTIFY_ABSENT && !a->look.automatic));
}

static bool outcome_is_told(const struct attempt *a, const struct smtp_recipient *r,
                            const struct outcome *o)
{
    switch ((enum outcome_kind)o->kind) {
    case OUTCOME_BOUNCED:
    case OUTCOME_EXPIRED: return failure_is_told(a, r);
    case OUTCOME_DELIVERED: return success_is_told(a, r);
    case OUTCOME_DEFERRED: return (o->flags & OUTCOME_DELAY_TOLD) != 0;
    default: return false;
    }
}

static enum bounce_kind kind_of(const struct attempt *a, const struct outcome *o)
{
    if (outcome_is_failure(o))
        return BOUNCE_FAILED;
    if (o->kind == OUTCOME_DEFERRED)
        return BOUNCE_DELAYED;
    const struct route *route = a->link != NULL ? a->link->hop->route : NULL;
    return route != NULL && route->protocol == ROUTE_LMTP
               ? BOUNCE_DELIVERED /* RFC 2033: a mailbox */
               : BOUNCE_RELAYED;
}

/* Its place among the recipients here; -1: none of them. */
static int place_of(const struct attempt *a, uint32_t recipient)
{
    uint32_t low = 0;
    uint32_t high = a->transaction.recipients_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (a->indexes[middle] < recipient)
            low = middle + 1;
        else
            high = middle;
    }
    bool here = low < a->transaction.recipients_count && a->indexes[low] == recipient;
    return here ? (int)low : -1;
}

static const struct smtp_recipient *recipient_of(const struct attempt *a, const struct outcome *o)
{
    int place = place_of(a, o->recipient);
    CHECK(place >= 0);
    return &a->transaction.recipients[place];
}

/* What nobody is told of, or not yet, is in the log all the same. */
static void report_log(const struct attempt *a, const char *event, const char *why,
                       uint32_t recipients)
{
    const struct shard *shard = a->deliver->shard;
    if (shard->log == NULL)
        return;
    struct log_line line;
    log_begin(&line, shard->log, LOG_WARNING, shard->wall_us, event);
    log_string(&line, "msg", a->original_id);
    log_text(&line, "from", a->envelope.sender);
    log_string(&line, "why", why);
    log_number(&line, "recipients", recipients);
    log_end(&line);
}

/* ---- the DSN ---- */

static bool bounce_recipient(void *owner, uint32_t index, struct bounce_recipient *out)
{
    struct attempt *a = owner;
    const struct shard *shard = a->deliver->shard;
    if (index == 0) /* they are asked for in order: go on behind the last one */
        a->told_next = 0;
    while (a->told_next < a->outcomes_count) {
        const struct outcome *o = &a->outcomes[a->told_next++];
        const struct smtp_recipient *r = recipient_of(a, o);
        if (!outcome_is_told(a, r, o))
            continue;
        const int64_t last_us = o->time_us == 0 ? 0 : shard_date_us(shard, o->time_us);
        *out = (struct bounce_recipient) {
            .kind = kind_of(a, o),
            .address = r->address,
            .orcpt = r->orcpt,
            .outcome = o,
            .attempt_us = a->link != NULL ? shard->wall_us : last_us,
            .until_us = shard_date_us(shard, unit_expires_us(a->unit)),
        };
        if (a->link == NULL || o->code == 0)
            return true;
        const enum outbound_token token = link_reply_token(a->link, &r->result);
        out->host = slice_of_string(a->link->host);
        out->means = token == FAULT_NONE ? NULL : outbound_token_row(token)->words;
        return true;
    }
    return false;
}

static uint32_t share(const struct deliver *deliver, unsigned rate)
{
    return (rate + deliver->shards - 1) / deliver->shards;
}

static struct bounce_rates rates_of(const struct deliver *deliver)
{
    const struct config_bounce *bounce = &deliver->generations->current->config->bounce;
    return (struct bounce_rates) {
        .all = share(deliver, bounce->per_minute_max),
        .sender = share(deliver, bounce->per_sender_max),
        .domain = share(deliver, bounce->per_domain_max),
    };
}

static uint64_t minute_of(const struct deliver *deliver)
{
    return deliver->shard->now_ms / MS_IN_MINUTE;
}

bool attempt_may_warn(const struct deliver *deliver)
{
    const struct bounce_rates rates = rates_of(deliver);
    return deliver->warnings < ATTEMPT_WARNINGS_MAX &&
           deliver->attempts.used < deliver->attempts.count &&
           !bounce_limits_full(&deliver->bounce_limits, &rates, false, minute_of(deliver));
}

/* Failures that nobody can be told of now are deferrals: what was delivered stays delivered. */
static void report_postpone(struct attempt *a)
{
    const bool was_held = a->word != NULL && a->word->was_held;
    uint32_t lost = 0;
    for (uint32_t i = 0; i < a->outcomes_count; i++) {
        struct outcome *o = &a->outcomes[i];
        lost += o->kind == OUTCOME_DELIVERED && outcome_is_told(a, recipient_of(a, o), o);
        if (outcome_is_failure(o))
            o->kind = was_held ? OUTCOME_HELD : OUTCOME_DEFERRED;
        o->flags &= (uint8_t)~OUTCOME_DELAY_TOLD;
    }
    if (lost > 0) {
        metric_add(&a->deliver->metrics.bounces_dropped, 1);
        report_log(a, "bounce_not_sent", "a success, and no report can be made now", lost);
    }
    if (a->purpose == ATTEMPT_WARN)
        attempt_warned(a, false);
    else
        attempt_settle(a);
}

static void report_limited(struct attempt *a, enum bounce_limit limit)
{
    struct deliver *deliver = a->deliver;
    char why[64];
    snprintf(why, sizeof(why), "over the limit: %s", bounce_limit_name(limit));
    metric_add(&deliver->metrics.bounces_limited, 1);
    if (a->kind != BOUNCE_FAILED || queue_postponed(a->unit) <= REPORTS_POSTPONED_MAX) {
        report_log(a, "bounce_postponed", why, a->told);
        report_postpone(a);
        return;
    }
    metric_add(&deliver->metrics.bounces_dropped, 1);
    report_log(a, "bounce_not_sent", why, a->told);
    for (uint32_t i = 0; i < a->outcomes_count; i++)
        a->outcomes[i].flags &= (uint8_t)~OUTCOME_DELAY_TOLD;
    attempt_settle(a);
}

static void report_begin(struct attempt *a)
{
    struct deliver *deliver = a->deliver;
    const struct config *config = attempt_config(a);
    const struct bounce_rates rates = rates_of(deliver);
    const bool failed = a->kind == BOUNCE_FAILED;
    const enum bounce_limit limit =
        a->word != NULL ? BOUNCE_MAY /* an operator's are as many as he says */
                        : bounce_limits_take(&deliver->bounce_limits, &rates, a->envelope.sender,
                                             failed, minute_of(deliver));
    if (limit != BOUNCE_MAY) {
        report_limited(a, limit);
        return;
    }
    if (!queue_reserve(deliver->queue)) {
        report_postpone(a);
        return;
    }
    if (spool_write_begin(deliver->spool, &a->writer, &a->task) < 0) {
        queue_unreserve(deliver->queue, 1);
        report_postpone(a);
        return;
    }
    a->state = ATTEMPT_BOUNCING;
    smtp_id_text(a->writer.id, a->id);
    const bool full = failed && a->envelope.ret == RET_FULL &&
                      (a->envelope.flags & ENVELOPE_REQUIRETLS) == 0 && /* RFC 8689 5: as HDRS */
                      a->envelope.body_bytes <= BOUNCE_FULL_MAX;
    const struct bounce_facts facts = {
        .kind = (enum bounce_kind)a->kind,
        .hostname = config->hostname,
        .from_name = config->bounce.from_name,
        .address = config->bounce.address,
        .id = slice_of_string(a->id),
        .original_id = slice_of_string(a->original_id),
        .sender = a->envelope.sender,
        .envid = a->envelope.envid,
        .now_us = deliver->shard->wall_us,
        .arrival_us = shard_date_us(deliver->shard, a->envelope.arrival_us),
        .full = full,
        .eight_bit = full && (a->envelope.flags & ENVELOPE_8BITMIME) != 0,
        .utf8 = (a->envelope.flags & ENVELOPE_SMTPUTF8) != 0,
        .recipient = bounce_recipient,
        .owner = a,
    };
    bounce_begin(&a->bounce, &facts, random_next(&deliver->shard->random));
    spool_read_rewind(&a->read);
    attempt_report_run(a);
}

/* All is known of the recipients and of the mail. */
static void report_decide(struct attempt *a)
{
    uint32_t failures = 0;
    uint32_t failures_told = 0;
    uint32_t deferred = 0;
    uint32_t delays = 0;
    a->told = 0;
    a->kind = BOUNCE_KINDS;
    for (uint32_t i = 0; i < a->outcomes_count; i++) {
        struct outcome *o = &a->outcomes[i];
        const struct smtp_recipient *r = recipient_of(a, o);
        if (a->late && o->kind == OUTCOME_DEFERRED && delay_is_told(a, r))
            o->flags |= OUTCOME_DELAY_TOLD;
        const bool told = outcome_is_told(a, r, o);
        failures += outcome_is_failure(o);
        failures_told += outcome_is_failure(o) && told;
        deferred += o->kind == OUTCOME_DEFERRED;
        delays += o->kind == OUTCOME_DEFERRED && told;
        a->told += told;
        if (!told)
            continue;
        const enum bounce_kind kind = kind_of(a, o);
        a->kind = (uint8_t)MIN((unsigned)a->kind, (unsigned)kind);
        if (kind == BOUNCE_RELAYED)
            o->flags |= OUTCOME_DSN_RELAYED;
    }
    if (failures > failures_told) {
        metric_add(&a->deliver->metrics.bounces_suppressed, 1);
        report_log(a, "bounce_not_sent",
                   a->envelope.sender.size == 0 ? "the null sender" : "NOTIFY",
                   failures - failures_told);
    }
    if (a->late && deferred > 0 && delays == 0 && !a->some_untried)
        queue_warned(a->unit);
    if (a->told > 0)
        report_begin(a);
    else if (a->purpose == ATTEMPT_WARN)
        attempt_warned(a, true);
    else
        attempt_settle(a);
}

/* Is there somebody whose wish for news of delays depends on the mail itself? */
static bool report_must_look(const struct attempt *a)
{
    if (!a->late || a->look.automatic)
        return false;
    for (uint32_t i = 0; i < a->outcomes_count; i++)
        if (a->outcomes[i].kind == OUTCOME_DEFERRED &&
            recipient_of(a, &a->outcomes[i])->notify == SMTP_NOTIFY_ABSENT)
            return true;
    return false;
}

/* 0, or -EAGAIN. A header that cannot be read is nobody's. */
static int report_look(struct attempt *a)
{
    struct slice part;
    int r;
    while ((r = spool_read_body(&a->read, &part)) == 1)
        if (bounce_look_take(&a->look, part))
            return 0;
    if (r == -EAGAIN)
        return r;
    bounce_look_end(&a->look);
    return 0;
}

void attempt_report(struct attempt *a)
{
    a->late = a->envelope.sender.size > 0 && unit_is_late(a->unit);
    bounce_look_begin(&a->look);
    a->look.automatic = a->late && bounce_look_address(a->envelope.sender);
    if (!report_must_look(a)) {
        report_decide(a);
        return;
    }
    a->state = ATTEMPT_LOOKING;
    spool_read_rewind(&a->read);
    attempt_report_run(a);
}

/* ---- without an attempt ---- */

/* What stands in the way of all mail there, or what was said of this recipient last. */
static void warn_default(struct attempt *a, struct outcome *o)
{
    const struct destination *d = a->unit->destination;
    const bool parked = d == a->deliver->queue->parking;
    const enum outbound_token token = parked ? FAULT_CONFIG : hop_token(d);
    const struct smtp_enhanced retry = hop_status(a->deliver, token, false);
    const char *words = parked                   ? "our configuration has no way to this recipient"
                        : d->error[0] != '\0'    ? d->error
                        : token != FAULT_CONNECT ? outbound_token_row(token)->words
                                                 : "waiting for its turn";
    o->code = 0;
    o->status[0] = retry.klass;
    o->status[1] = retry.subject;
    o->status[2] = retry.detail;
    o->text = slice_of_string(words);
}

/* Copies the text: the reader's lives until its next call. */
static void warn_recall_one(struct attempt *a, struct outcome *mine, const struct outcome *o)
{
    struct smtp_transaction *t = &a->transaction;
    mine->attempts = 1; /* it is known: older ones do not count */
    mine->time_us = o->time_us;
    if (a->unit->destination->error[0] != '\0' || o->code == 0 ||
        o->text.size > t->texts_capacity - t->texts_used)
        return;
    mine->code = o->code;
    memcpy(mine->status, o->status, sizeof(mine->status));
    if (o->text.size > 0)
        memcpy(t->texts + t->texts_used, o->text.data, o->text.size);
    mine->text = slice_of(t->texts + t->texts_used, o->text.size);
    t->texts_used += (uint32_t)o->text.size;
}

/* 0, or -EAGAIN. */
static int warn_recall(struct attempt *a)
{
    struct outcome o;
    int r = 0;
    while (a->recalled < RECALLED_MAX && (r = spool_read_outcome(&a->read, &o)) == 1) {
        const int place = place_of(a, o.recipient);
        a->recalled++;
        if (place < 0)
            continue;
        struct outcome *mine = &a->outcomes[place];
        mine->flags |= o.flags & OUTCOME_DELAY_TOLD;
        if (mine->attempts == 0 && o.kind == OUTCOME_DEFERRED)
            warn_recall_one(a, mine, &o);
    }
    return r == -EAGAIN ? r : 0;
}

/* Who was told already is not told again: with another unit, before its way changed. */
static void warn_recalled(struct attempt *a)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < a->outcomes_count; i++)
        if ((a->outcomes[i].flags & OUTCOME_DELAY_TOLD) == 0)
            a->outcomes[count++] = a->outcomes[i];
    a->outcomes_count = count;
    attempt_report(a);
}

void attempt_warn(struct attempt *a)
{
    const struct smtp_transaction *t = &a->transaction;
    for (uint32_t i = 0; i < t->recipients_count; i++) {
        a->outcomes[i] = (struct outcome) { .recipient = a->indexes[i], .kind = OUTCOME_DEFERRED };
        warn_default(a, &a->outcomes[i]);
    }
    a->outcomes_count = t->recipients_count;
    a->state = ATTEMPT_RECALLING;
    attempt_report_run(a);
}

/* ---- writing it ---- */

static void bounce_give_up(struct attempt *a)
{
    spool_write_abort(&a->writer);
    queue_unreserve(a->deliver->queue, 1);
    report_postpone(a);
}

/* Writes a->piece. 0, or an error; -EAGAIN: the task is run again. */
static int bounce_write(struct attempt *a)
{
    if (a->piece.size == 0)
        return 0;
    int r = spool_write_body(&a->writer, a->piece);
    if (r == 0)
        a->piece.size = 0;
    return r;
}

static int bounce_step(struct attempt *a)
{
    int r;
    while ((r = bounce_write(a)) == 0) {
        if (bounce_next(&a->bounce, a->buffer, &a->piece) == 0) {
            a->state = ATTEMPT_RETURNING;
            return 0;
        }
    }
    return r;
}

/* As much of the part as belongs into the DSN: to the end of the header, or to the limit, in whole
 * lines. True: that was the last of it. */
static bool bounce_cut(struct attempt *a, struct slice *part)
{
    if (a->bounce.facts.full)
        return false;
    static const char end[] = "\r\n\r\n"; /* it may lie across two parts */
    for (size_t i = 0; i < part->size && a->returned + i < BOUNCE_HEADER_MAX; i++) {
        char c = (char)part->data[i];
        a->end_seen = c == end[a->end_seen] ? (uint8_t)(a->end_seen + 1) : (uint8_t)(c == '\r');
        if (a->end_seen == sizeof(end) - 1) {
            part->size = i + 1;
            return true;
        }
    }
    if (a->returned + part->size < BOUNCE_HEADER_MAX)
        return false;
    size_t size = BOUNCE_HEADER_MAX > a->returned ? (size_t)(BOUNCE_HEADER_MAX - a->returned) : 0;
    size = MIN(size, part->size);
    while (size > 0 && part->data[size - 1] != '\n')
        size--;
    part->size = size;
    return true;
}

static void bounce_on_commit(struct commit *commit, int result);

/* The part of the original that is at hand. */
static int bounce_write_part(struct attempt *a)
{
    while (a->part.size > 0) {
        struct slice piece = slice_part(a->part, 0, SPOOL_STAGING_BYTES);
        int r = spool_write_body(&a->writer, piece);
        if (r < 0)
            return r;
        a->part = slice_from(a->part, piece.size);
    }
    return 0;
}

static int bounce_return(struct attempt *a)
{
    for (;;) {
        int r = a->part.size > 0 ? bounce_write_part(a) : bounce_write(a);
        if (r < 0 || a->bounce_ended)
            return r;
        if (a->part_last) {
            bounce_end(&a->bounce, a->buffer, &a->piece);
            a->bounce_ended = true;
            return bounce_write(a);
        }
        r = spool_read_body(&a->read, &a->part);
        if (r == -EAGAIN)
            return r;
        /* An original that cannot be read any more is returned as far as it goes. */
        a->part_last = r != 1 || bounce_cut(a, &a->part);
        if (r != 1)
            a->part.size = 0;
        a->returned += a->part.size;
    }
}

/* The DSN's envelope, decided by the configuration that is current. */
static struct envelope bounce_envelope(const struct attempt *a, struct recipient *to)
{
    *to = (struct recipient) { .address = a->envelope.sender, .notify = NOTIFY_NEVER };
    const struct envelope e = {
        .listener = SLICE("bounce"),
        .arrival_us = a->deliver->shard->steady_us,
        .body_bytes = a->writer.body_bytes,
        .flags = ENVELOPE_IS_DSN | (a->bounce.facts.eight_bit ? ENVELOPE_8BITMIME : 0U) |
                 (a->envelope.flags & (ENVELOPE_SMTPUTF8 | ENVELOPE_REQUIRETLS)),
        .recipients_count = 1,
        .recipients = to,
    };
    outbound_decide(attempt_config(a), &e, to);
    if (to->class.size == 0)
        to->class = slice_of_string(attempt_config(a)->bounce.class);
    return e;
}

static int bounce_commit(struct attempt *a)
{
    struct recipient to;
    const struct envelope e = bounce_envelope(a, &to);
    a->commit.done = bounce_on_commit;
    return spool_write_commit(&a->writer, &e, &a->commit);
}

static void bounce_on_commit(struct commit *commit, int result)
{
    struct attempt *a = container_of(commit, struct attempt, commit);
    struct deliver *deliver = a->deliver;
    if (result < 0) {
        bounce_give_up(a);
        return;
    }
    struct recipient to;
    const struct envelope e = bounce_envelope(a, &to);
    metric_add(&deliver->metrics.bounces_sent, 1);
    metric_add(&deliver->metrics.reports[a->kind], 1);
    struct log_line line;
    log_begin(&line, deliver->shard->log, LOG_INFO, deliver->shard->wall_us, "bounce");
    log_string(&line, "msg", a->id);
    log_string(&line, "of", a->original_id);
    log_text(&line, "to", a->envelope.sender);
    log_string(&line, "action", bounce_action((enum bounce_kind)a->kind));
    log_number(&line, "recipients", a->told);
    log_end(&line);
    queue_add(deliver->queue, &a->writer.stored, &e);
    attempt_settle(a);
}

void attempt_report_run(struct attempt *a)
{
    int r = 0;
    switch ((enum attempt_state)a->state) {
    case ATTEMPT_RECALLING:
        if (warn_recall(a) == 0)
            warn_recalled(a);
        return;
    case ATTEMPT_LOOKING:
        if (report_look(a) == 0)
            report_decide(a);
        return;
    case ATTEMPT_BOUNCING:
        r = bounce_step(a);
        if (r < 0)
            break;
        [[fallthrough]];
    case ATTEMPT_RETURNING:
        r = bounce_return(a);
        if (r < 0)
            break;
        a->state = ATTEMPT_COMMITTING;
        [[fallthrough]];
    case ATTEMPT_COMMITTING:
        if (!a->commit_asked) {
            r = bounce_commit(a);
            a->commit_asked = r == 0;
        }
        break;
    default: CHECK(false);
    }
    if (r < 0 && r != -EAGAIN)
        bounce_give_up(a);
}
