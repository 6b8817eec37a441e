/*
 * inspect.c - walking a queue for an operator, a message at a time
 */
#include "mta/inspect.h"

#include <errno.h>

#include "core/check.h"
#include "mta/server.h"

enum { US_IN_S = 1'000'000, MS_IN_S = 1'000 };

static const char *const unit_states[] = {
    [UNIT_READY] = "ready",       [UNIT_ACTIVE] = "active", [UNIT_SETTLING] = "settling",
    [UNIT_DEFERRED] = "deferred", [UNIT_HELD] = "held",
};

static const char *const outcome_names[OUTCOME_KINDS] = {
    [OUTCOME_DELIVERED] = "delivered", [OUTCOME_BOUNCED] = "bounced",
    [OUTCOME_EXPIRED] = "expired",     [OUTCOME_DISCARDED] = "discarded",
    [OUTCOME_DEFERRED] = "deferred",   [OUTCOME_HELD] = "held",
    [OUTCOME_RELEASED] = "released",
};

/* Not every octet string is UTF-8; what is not comes with its octets escaped. */
static json_t *json_of(struct slice s)
{
    json_t *text = json_stringn((const char *)s.data, s.size);
    if (text != NULL)
        return text;
    uint8_t escaped[4 * ENVELOPE_ADDRESS_MAX];
    size_t size = smtp_reply_escape(s, escaped, sizeof(escaped));
    return json_stringn((const char *)escaped, size);
}

static void tell_units(struct inspect_question *q, const struct message *m, json_t *entry)
{
    json_t *units = json_array();
    uint64_t now_ms = q->shard->now_ms;
    for (const struct unit *unit = m->units; unit != NULL; unit = unit->sibling) {
        const struct destination *d = unit->destination;
        int64_t due_s = 0;
        if (unit->state == UNIT_DEFERRED && unit->timer.due_ms > now_ms)
            due_s = (int64_t)((unit->timer.due_ms - now_ms) / MS_IN_S);
        else if (unit->state == UNIT_READY && d->retry_ms > now_ms)
            due_s = (int64_t)((d->retry_ms - now_ms) / MS_IN_S);
        const struct mail_class *c = unit_class(unit);
        json_array_append_new(
            units, json_pack("{s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:s}", "destination", d->key,
                             "state", unit_states[unit->state], "class", c->name, "priority",
                             lane_name((enum lane)c->lane), "recipients", (json_int_t)unit->count,
                             "attempts", (json_int_t)unit->attempts, "due_in_s", (json_int_t)due_s,
                             "destination_error", d->error));
    }
    json_object_set_new(entry, "units", units);
}

static void tell_recipients(const struct envelope *e, json_t *entry)
{
    json_t *list = json_array();
    struct recipient recipient;
    size_t cursor = 0;
    while (json_array_size(list) < INSPECT_RECIPIENTS && envelope_next(e, &cursor, &recipient))
        json_array_append_new(list, json_of(recipient.address));
    json_object_set_new(entry, "recipients", list);
}

void inspect_envelope(const struct envelope *e, json_t *entry)
{
    char client[NET_TEXT_MAX];
    net_text(&e->client, false, client);
    json_object_set_new(entry, "sender", json_of(e->sender));
    json_object_set_new(entry, "size", json_integer((json_int_t)e->body_bytes));
    json_object_set_new(entry, "recipients_total", json_integer(e->recipients_count));
    json_object_set_new(entry, "client", json_string(client));
    json_object_set_new(entry, "helo", json_of(e->helo));
    tell_recipients(e, entry);
}

json_t *inspect_outcome(const struct outcome *o)
{
    return json_pack("{s:I, s:s, s:I, s:I, s:o}", "recipient", (json_int_t)o->recipient, "outcome",
                     o->kind < OUTCOME_KINDS ? outcome_names[o->kind] : "?", "code",
                     (json_int_t)o->code, "time", (json_int_t)(o->time_us / US_IN_S), "text",
                     json_of(o->text));
}

/* The newest outcome of each recipient comes first. 0, or -EAGAIN. */
static int tell_outcomes(struct inspect_question *q, json_t *entry)
{
    json_t *list = json_array();
    struct outcome o;
    int r;
    while ((r = spool_read_outcome(&q->read, &o)) == 1) {
        if (json_array_size(list) >= INSPECT_RECIPIENTS)
            break;
        o.time_us = shard_date_us(q->queue->shard, o.time_us);
        json_array_append_new(list, inspect_outcome(&o));
    }
    if (r == -EAGAIN) { /* from the start again, when it is there */
        json_decref(list);
        return r;
    }
    json_object_set_new(entry, "outcomes", list);
    return 0;
}

/* Recipients that the selection means. */
static uint32_t count_selected(const struct inspect_question *q, const struct message *m)
{
    uint32_t count = 0;
    for (const struct unit *unit = m->units; unit != NULL; unit = unit->sibling)
        if (queue_job_means(&q->means, unit))
            count += queue_select_count(&q->wanted, unit);
    return count;
}

static void inspect_end(struct inspect_question *q)
{
    spool_read_end(&q->read);
    q->reading = 0;
}

/* 0, or -EAGAIN: the task is run again. */
static int inspect_message(struct inspect_question *q, struct message *m)
{
    if (q->reading != m->stored.id) {
        q->reading = m->stored.id;
        spool_read_begin(q->queue->spool, &q->read, &m->stored, &q->task);
    }
    struct envelope e;
    int r = spool_read_envelope(&q->read, &e);
    if (r == -EAGAIN)
        return r;
    const struct queue_selection *s = &q->means.selection;
    q->wanted.all = true;
    if (r < 0 ? queue_select_needs_envelope(s)
              : !queue_select_envelope(s, &e, &q->wanted) || count_selected(q, m) == 0) {
        inspect_end(q);
        return 0;
    }
    char id[SMTP_ID_TEXT];
    smtp_id_text(m->stored.id, id);
    json_t *entry =
        json_pack("{s:s, s:I}", "id", id, "arrival",
                  (json_int_t)(shard_date_us(q->queue->shard, m->arrival_us) / US_IN_S));
    if (r == 0)
        inspect_envelope(&e, entry);
    else
        json_object_set_new(entry, "damaged", json_true());
    tell_units(q, m, entry);
    json_object_set_new(entry, "selected", json_integer(count_selected(q, m)));
    if (q->id != 0 && r == 0 && tell_outcomes(q, entry) == -EAGAIN) {
        json_decref(entry);
        return -EAGAIN;
    }
    json_array_append_new(q->messages, entry);
    inspect_end(q);
    return 0;
}

static void inspect_answer(struct inspect_question *q)
{
    if (q->reading != 0)
        spool_read_end(&q->read);
    q->reading = 0;
    struct shard *shard = q->shard;
    struct handoff answer = { .kind = HANDOFF_ANSWERED, .pointer = q };
    if (shard_handoff(shard, shard->group->count - 1, answer) < 0)
        shard_run_later(shard, &q->task); /* control is far behind: try again */
}

static void inspect_one(struct inspect_question *q)
{
    struct server_shard *server = q->shard->owner;
    for (; q->log < server->logs_count; q->log++) {
        q->queue = &server->logs[q->log].queue;
        struct message *m = queue_message(q->queue, q->id);
        if (m != NULL && inspect_message(q, m) == -EAGAIN)
            return;
        if (m != NULL)
            break;
    }
    inspect_answer(q);
}

static void inspect_page(struct inspect_question *q)
{
    struct server_shard *server = q->shard->owner;
    for (uint32_t left = INSPECT_SCAN; q->log < server->logs_count;) {
        q->queue = &server->logs[q->log].queue;
        uint32_t cursor = q->cursor;
        struct message *m = queue_walk(q->queue, &cursor, left);
        if (m == NULL && queue_walked(q->queue, cursor)) {
            q->log++;
            q->cursor = 0;
            continue;
        }
        left -= cursor - q->cursor;
        if (m == NULL) {
            q->cursor = cursor;
            shard_run_later(q->shard, &q->task);
            return;
        }
        if (q->reading != 0 && q->reading != m->stored.id)
            inspect_end(q); /* it left the queue while we read it */
        if (!queue_job_may_mean(&q->means, m)) {
            q->cursor = cursor;
            continue;
        }
        if (json_array_size(q->messages) >= q->limit) {
            q->more = true;
            break;
        }
        if (inspect_message(q, m) == -EAGAIN)
            return;
        q->cursor = cursor;
    }
    inspect_answer(q);
}

static void inspect_run(struct task *task)
{
    struct inspect_question *q = container_of(task, struct inspect_question, task);
    if (q->id != 0)
        inspect_one(q);
    else
        inspect_page(q);
}

void inspect_asked(struct shard *shard, const struct handoff *handoff)
{
    struct inspect_question *q = handoff->pointer;
    q->shard = shard;
    q->messages = json_array();
    q->more = false;
    q->reading = 0;
    q->read = (struct spool_read) { 0 };
    task_init(&q->task, inspect_run);
    shard_run_later(shard, &q->task);
}
