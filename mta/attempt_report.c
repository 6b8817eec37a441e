/*
 * attempt_report.c - who is told of the outcomes of an attempt, and the DSN that does
 *
 *   attempt_report --nobody is to know-----------------------------------> attempt_settle
 *      '--> BOUNCING (our text) --> RETURNING (the original) --> COMMITTING --durable--^
 *             '------ no room, a limit, an error: failures are deferrals ------------'
 *
 * The DSN of a failure is durable before the failure is recorded: a crash in between sends it
 * twice, never not at all. All that an attempt has to tell of goes in one DSN.
 */
#include <errno.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/attempt_inside.h"
#include "mta/outbound_envelope.h"

enum { MS_IN_MINUTE = 60'000 };

/* RFC 3461 4.1: a failure is told unless it was asked not to. */
static bool failure_is_told(const struct attempt *a, const struct smtp_recipient *r)
{
    return a->envelope.sender.size > 0 &&
           (r->notify == SMTP_NOTIFY_ABSENT || (r->notify & SMTP_NOTIFY_FAILURE));
}

static bool outcome_is_failure(const struct outcome *o)
{
    return o->kind == OUTCOME_BOUNCED || o->kind == OUTCOME_EXPIRED;
}

/* RFC 3461 4.1, 5.2.1: a success is told when that was asked, and nobody further on will do it. */
static bool success_is_told(const struct attempt *a, const struct smtp_recipient *r)
{
    return a->envelope.sender.size > 0 && (r->notify & SMTP_NOTIFY_SUCCESS) &&
           !a->transaction.dsn_passed;
}

static bool outcome_is_told(const struct attempt *a, const struct smtp_recipient *r,
                            const struct outcome *o)
{
    return outcome_is_failure(o)          ? failure_is_told(a, r)
           : o->kind == OUTCOME_DELIVERED ? success_is_told(a, r)
                                          : false;
}

/* Outcomes lie at the places of their recipients: outcomes[i] of recipients[map(i)]. */
static const struct smtp_recipient *recipient_of(const struct attempt *a, const struct outcome *o)
{
    const struct smtp_transaction *t = &a->transaction;
    uint32_t low = 0;
    uint32_t high = t->recipients_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (a->indexes[middle] < o->recipient)
            low = middle + 1;
        else
            high = middle;
    }
    CHECK(low < t->recipients_count);
    return &t->recipients[low];
}

/* ---- the DSN ---- */

static bool bounce_recipient(void *owner, uint32_t index, struct bounce_recipient *out)
{
    struct attempt *a = owner;
    if (index == 0) /* they are asked for in order: go on behind the last one */
        a->told_next = 0;
    while (a->told_next < a->outcomes_count) {
        const struct outcome *o = &a->outcomes[a->told_next++];
        const struct smtp_recipient *r = recipient_of(a, o);
        if (!outcome_is_told(a, r, o))
            continue;
        bool final = a->link != NULL && a->link->hop->route != NULL &&
                     a->link->hop->route->protocol == ROUTE_LMTP; /* RFC 2033: a mailbox */
        *out = (struct bounce_recipient) {
            .kind = outcome_is_failure(o) ? BOUNCE_FAILED
                    : final               ? BOUNCE_DELIVERED
                                          : BOUNCE_RELAYED,
            .address = r->address,
            .orcpt = r->orcpt,
            .outcome = o,
        };
        if (a->link != NULL && o->code != 0)
            out->host = slice_of_string(a->link->host);
        return true;
    }
    return false;
}

/* More than the configuration lets us make in a minute: this one waits for its next attempt. */
static bool bounce_is_too_many(struct deliver *deliver, unsigned per_minute_max)
{
    uint64_t minute = deliver->shard->now_ms / MS_IN_MINUTE;
    if (minute != deliver->bounce_minute) {
        deliver->bounce_minute = minute;
        deliver->bounces = 0;
    }
    unsigned share = (per_minute_max + deliver->shards - 1) / deliver->shards;
    return per_minute_max != 0 && deliver->bounces >= share;
}

/* Failures that nobody can be told of now are deferrals: what was delivered stays delivered. */
static void bounce_postpone(struct attempt *a)
{
    bool was_held = a->word != NULL && a->word->was_held;
    for (uint32_t i = 0; i < a->outcomes_count; i++)
        if (outcome_is_failure(&a->outcomes[i]))
            a->outcomes[i].kind = was_held ? OUTCOME_HELD : OUTCOME_DEFERRED;
    attempt_settle(a);
}

static void report_begin(struct attempt *a)
{
    struct deliver *deliver = a->deliver;
    const struct config *config = attempt_config(a);
    a->state = ATTEMPT_BOUNCING;
    if (a->word == NULL && bounce_is_too_many(deliver, config->bounce.per_minute_max)) {
        metric_add(&deliver->metrics.bounces_limited, 1);
        bounce_postpone(a);
        return;
    }
    if (!queue_reserve(deliver->queue)) {
        bounce_postpone(a);
        return;
    }
    if (spool_write_begin(deliver->spool, &a->writer, &a->task) < 0) {
        queue_unreserve(deliver->queue, 1);
        bounce_postpone(a);
        return;
    }
    deliver->bounces++;
    smtp_id_text(a->writer.id, a->id);
    const struct bounce_facts facts = {
        .kind = a->failed ? BOUNCE_FAILED : BOUNCE_RELAYED,
        .hostname = config->hostname,
        .from_name = config->bounce.from_name,
        .address = config->bounce.address,
        .id = slice_of_string(a->id),
        .original_id = slice_of_string(a->original_id),
        .sender = a->envelope.sender,
        .envid = a->envelope.envid,
        .now_us = deliver->shard->wall_us,
        .arrival_us = a->envelope.arrival_us,
        .full = a->failed && a->envelope.ret == RET_FULL &&
                (a->envelope.flags & ENVELOPE_REQUIRETLS) == 0 && /* RFC 8689 5: as if RET=HDRS */
                a->envelope.body_bytes <= BOUNCE_FULL_MAX,
        .utf8 = (a->envelope.flags & ENVELOPE_SMTPUTF8) != 0,
        .recipient = bounce_recipient,
        .owner = a,
    };
    bounce_begin(&a->bounce, &facts, random_next(&deliver->shard->random));
    spool_read_rewind(&a->read);
    attempt_run(&a->task);
}

void attempt_report(struct attempt *a)
{
    uint32_t told = 0;
    uint32_t failures = 0;
    uint32_t failures_told = 0;
    for (uint32_t i = 0; i < a->outcomes_count; i++) {
        const struct outcome *o = &a->outcomes[i];
        const struct smtp_recipient *r = recipient_of(a, o);
        failures += outcome_is_failure(o);
        told += outcome_is_told(a, r, o);
        failures_told += outcome_is_failure(o) && failure_is_told(a, r);
    }
    a->failed = failures_told > 0;
    if (failures > failures_told)
        metric_add(&a->deliver->metrics.bounces_suppressed, 1);
    if (told > 0)
        report_begin(a);
    else
        attempt_settle(a);
}

static void bounce_give_up(struct attempt *a)
{
    spool_write_abort(&a->writer);
    queue_unreserve(a->deliver->queue, 1);
    bounce_postpone(a);
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
        .arrival_us = a->deliver->shard->wall_us,
        .body_bytes = a->writer.body_bytes,
        .flags = ENVELOPE_IS_DSN |
                 (a->bounce.facts.full ? a->envelope.flags & (ENVELOPE_8BITMIME) : 0U) |
                 (a->envelope.flags & (ENVELOPE_SMTPUTF8 | ENVELOPE_REQUIRETLS)),
        .recipients_count = 1,
        .recipients = to,
    };
    outbound_decide(attempt_config(a), &e, to);
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
    struct log_line line;
    log_begin(&line, deliver->shard->log, LOG_INFO, deliver->shard->wall_us, "bounce");
    log_string(&line, "msg", a->id);
    log_string(&line, "of", a->original_id);
    log_text(&line, "to", a->envelope.sender);
    log_end(&line);
    queue_add(deliver->queue, &a->writer.stored, &e);
    attempt_settle(a);
}

void attempt_report_run(struct attempt *a)
{
    int r = 0;
    switch ((enum attempt_state)a->state) {
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
