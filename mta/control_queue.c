/*
 * control_queue.c - verbs are handed out, counted together, and logged with who and why
 */
#include "mta/control_queue.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/admin.h"
#include "mta/control.h"

int control_queue_open(struct control *control)
{
    control->queue.jobs = calloc(QUEUE_JOBS_MAX, sizeof(*control->queue.jobs));
    return control->queue.jobs == NULL ? -ENOMEM : 0;
}

static void top_free(struct control *control)
{
    struct control_top *top = &control->queue.top;
    for (unsigned i = 0; top->questions != NULL && i < control->servers_count; i++)
        free(top->questions[i]);
    free(top->questions);
    top->questions = NULL;
}

void control_queue_close(struct control *control)
{
    top_free(control);
    json_decref(control->queue.top.answer);
    control->queue.top.answer = NULL;
    for (unsigned i = 0; control->queue.jobs != NULL && i < QUEUE_JOBS_MAX; i++)
        free(control->queue.jobs[i].parts);
    free(control->queue.jobs);
    control->queue.jobs = NULL;
}

/* ---- numbers ---- */

static void add(struct queue_part_numbers *sum, const struct queue_part_numbers *n)
{
    sum->looked += metric_get(&n->looked);
    sum->total += metric_get(&n->total);
    sum->messages += metric_get(&n->messages);
    sum->units += metric_get(&n->units);
    sum->recipients += metric_get(&n->recipients);
    sum->active += metric_get(&n->active);
    sum->failed += metric_get(&n->failed);
}

static struct queue_part_numbers sum_of(const struct control *control,
                                        const struct control_job *job)
{
    struct queue_part_numbers sum = job->sum;
    for (unsigned i = 0; job->parts != NULL && i < control->servers_count; i++)
        add(&sum, &job->parts[i].numbers);
    return sum;
}

static struct control_job *job_of(const struct control *control, uint64_t number)
{
    for (unsigned i = 0; number != 0 && i < QUEUE_JOBS_MAX; i++)
        if (control->queue.jobs[i].number == number)
            return &control->queue.jobs[i];
    return NULL;
}

static bool is_done(const struct control *control, const struct control_job *job)
{
    return job->settled == control->servers_count;
}

bool control_queue_done(const struct control *control, uint64_t number)
{
    const struct control_job *job = job_of(control, number);
    return job == NULL || is_done(control, job);
}

json_t *control_queue_report(const struct control *control, uint64_t number)
{
    const struct control_job *job = job_of(control, number);
    if (job == NULL)
        return NULL;
    const struct queue_part_numbers n = sum_of(control, job);
    const char *state = job->parts == NULL ? "over" : is_done(control, job) ? "done" : "working";
    return json_pack("{s:I, s:s, s:s, s:b, s:s*, s:s*, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "job",
                     (json_int_t)job->number, "verb", queue_verb_name(job->job.verb), "state",
                     state, "dry_run", job->job.dry_run, "by", job->job.by, "reason",
                     job->job.reason, "looked_at", (json_int_t)n.looked, "queued",
                     (json_int_t)n.total, "messages", (json_int_t)n.messages, "units",
                     (json_int_t)n.units, "recipients", (json_int_t)n.recipients, "active",
                     (json_int_t)n.active, "failed", (json_int_t)n.failed);
}

/* ---- the log ---- */

void control_queue_log(struct log_line *line, const struct queue_selection *s, int64_t now_us)
{
    enum { US_IN_S = 1'000'000 };
    if (s->all)
        log_bool(line, "all", true);
    if (s->by_sender)
        log_string(line, "sender", *s->sender == '\0' ? "<>" : s->sender);
    if (s->by_recipient)
        log_string(line, "recipient", s->recipient);
    if (s->by_destination)
        log_string(line, "destination", s->destination);
    if (s->by_connector)
        log_string(line, "connector", s->connector);
    if (s->arrived_to_us != INT64_MAX)
        log_number(line, "older_s", (now_us - s->arrived_to_us) / US_IN_S);
    if (s->arrived_from_us != INT64_MIN)
        log_number(line, "younger_s", (now_us - s->arrived_from_us) / US_IN_S);
    if (s->ids_count > 0) {
        log_list(line, "ids");
        for (unsigned i = 0; i < s->ids_count; i++) {
            char id[SMTP_ID_TEXT];
            smtp_id_text(s->ids[i], id);
            log_item(line, slice_of_string(id));
        }
        log_list_end(line);
    }
}

/* Once when it begins, once when it is done: an operator's hand in mail of others leaves a trace
 * even if the process does not live to its end. */
static void log_job(const struct control *control, const struct control_job *job, const char *event)
{
    const struct shard *shard = &control->shard;
    const struct queue_part_numbers n = sum_of(control, job);
    struct log_line line;
    if (job->job.dry_run)
        return;
    log_begin(&line, shard->log, LOG_WARNING, shard->wall_us, event);
    log_number(&line, "job", (int64_t)job->number);
    log_string(&line, "verb", queue_verb_name(job->job.verb));
    log_string(&line, "by", job->job.by);
    log_string(&line, "reason", job->job.reason);
    control_queue_log(&line, &job->job.selection, job->at_us);
    if (job->settled > 0) {
        log_number(&line, "messages", (int64_t)n.messages);
        log_number(&line, "recipients", (int64_t)n.recipients);
        log_number(&line, "active", (int64_t)n.active);
        log_number(&line, "failed", (int64_t)n.failed);
    }
    log_end(&line);
}

/* ---- beginning and end ---- */

/* A free place, or that of the job that was over first. */
static struct control_job *job_place(struct control *control)
{
    struct control_job *place = NULL;
    for (unsigned i = 0; i < QUEUE_JOBS_MAX; i++) {
        struct control_job *job = &control->queue.jobs[i];
        if (job->parts == NULL && (place == NULL || job->number < place->number))
            place = job;
    }
    return place;
}

static bool fits(const struct queue_job *job, char words[static QUEUE_WORDS_MAX])
{
    const struct queue_selection *s = &job->selection;
    if (queue_select_is_empty(s)) {
        snprintf(words, QUEUE_WORDS_MAX,
                 "no mail was selected: name ids, sender, recipient, destination, connector, "
                 "older, younger or state, or say all\n");
        return false;
    }
    if ((s->states & 1U << UNIT_ACTIVE) != 0) {
        snprintf(words, QUEUE_WORDS_MAX,
                 "mail that is being delivered cannot be selected by that: select it by something "
                 "else, and the verb holds for it when the attempt has settled\n");
        return false;
    }
    if (job->verb == QUEUE_DISCARD && *job->reason == '\0' && !job->dry_run) {
        snprintf(words, QUEUE_WORDS_MAX, "discard wants a reason\n");
        return false;
    }
    return true;
}

static void part_over(struct control *control, struct control_job *job, bool was_settled)
{
    if (!was_settled)
        job->settled++;
    if (++job->over < control->servers_count)
        return;
    job->sum = sum_of(control, job);
    free(job->parts);
    job->parts = NULL;
}

int64_t control_queue_begin(struct control *control, const struct queue_job *asked,
                            char words[static QUEUE_WORDS_MAX])
{
    if (!fits(asked, words))
        return -EINVAL;
    struct control_job *job = control->stopping ? NULL : job_place(control);
    struct queue_part *parts =
        job == NULL ? NULL : calloc(control->servers_count, sizeof(*job->parts));
    if (parts == NULL) {
        snprintf(words, QUEUE_WORDS_MAX, "busy: %s\n",
                 control->stopping ? "the server is stopping"
                 : job == NULL     ? "too many verbs are under way"
                                   : "no memory");
        return -EBUSY;
    }
    *job = (struct control_job) { .number = ++control->queue.last,
                                  .job = *asked,
                                  .parts = parts,
                                  .at_us = control->shard.steady_us };
    log_job(control, job, "queue_verb");
    const int64_t number = (int64_t)job->number;
    for (unsigned i = 0; i < control->servers_count; i++) {
        const struct handoff handoff = { .kind = HANDOFF_JOB, .pointer = &parts[i] };
        parts[i].job = &job->job;
        parts[i].owner = job;
        if (shard_handoff(&control->shard, i, handoff) < 0) {
            metric_add(&parts[i].numbers.failed, 1); /* a shard that does not take it */
            part_over(control, job, false);
        }
    }
    return number;
}

static void on_told(struct shard *shard, const struct handoff *handoff)
{
    struct control *control = shard->owner;
    struct queue_part *part = handoff->pointer;
    struct control_job *job = part->owner;
    const bool was_done = is_done(control, job);
    if (handoff->number == PART_SETTLED)
        job->settled++;
    else
        part_over(control, job, part->told_settled);
    if (was_done || !is_done(control, job))
        return;
    log_job(control, job, "queue_verb_done");
    admin_worked(control->admin);
}

/* ---- top ---- */

json_t *control_top_answer(const struct control *control, uint64_t number)
{
    const struct control_top *top = &control->queue.top;
    const bool answered = top->number > number || (top->number == number && top->questions == NULL);
    return answered ? top->answer : NULL;
}

static void top_answered(struct control *control)
{
    struct control_top *top = &control->queue.top;
    if (top->left > 0)
        return;
    json_decref(top->answer);
    top->answer = queue_top_merge(top->questions, control->servers_count, top->limit,
                                  control->shard.steady_us);
    top_free(control);
    admin_worked(control->admin);
}

static bool top_prepare(struct control *control, enum queue_top_order order, const char *only)
{
    struct control_top *top = &control->queue.top;
    top->questions = calloc(control->servers_count, sizeof(struct queue_top_question *));
    for (unsigned i = 0; top->questions != NULL && i < control->servers_count; i++) {
        top->questions[i] = queue_top_new(control->servers[i].destinations_max, order, only);
        if (top->questions[i] != NULL)
            continue;
        top_free(control);
        return false;
    }
    return top->questions != NULL;
}

int64_t control_top_ask(struct control *control, enum queue_top_order order, unsigned limit,
                        const char *only)
{
    struct control_top *top = &control->queue.top;
    if (control->stopping)
        return -EBUSY;
    if (top->questions != NULL) /* the same one will do, unless it is about something else */
        return top->questions[0]->order == order && top->limit == limit &&
                       strcmp(top->questions[0]->only, only) == 0
                   ? (int64_t)top->number
                   : -EBUSY;
    if (!top_prepare(control, order, only))
        return -ENOMEM;
    top->limit = limit;
    top->number++;
    top->left = 0;
    for (unsigned i = 0; i < control->servers_count; i++) {
        const struct handoff handoff = { .kind = HANDOFF_TOP, .pointer = top->questions[i] };
        top->left += shard_handoff(&control->shard, i, handoff) == 0;
    }
    top_answered(control); /* if nobody took it */
    return (int64_t)top->number;
}

static void on_top(struct shard *shard, const struct handoff *handoff)
{
    struct control *control = shard->owner;
    (void)handoff;
    control->queue.top.left--;
    top_answered(control);
}

void control_queue_start(struct control *control)
{
    shard_handle(&control->shard, HANDOFF_TOP_TOLD, on_top);
    shard_handle(&control->shard, HANDOFF_JOB_TOLD, on_told);
}
