/*
 * admin_queue.c - /v1/queue: pages of what waits, and operators' verbs
 *
 * A verb is answered when all of it is done but what is being delivered, or, with its progress,
 * ANSWER_MS later: then the client asks for its job again. Only the unix socket may change things,
 * and says who is at its other end.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/check.h"
#include "mta/admin_inside.h"
#include "mta/control.h"
#include "mta/smtp_server.h"

enum { ANSWER_MS = 1'000, TOP_WAIT_MS = 10'000, TOP_DEFAULT = 20 };

static enum MHD_Result error(struct admin_request *request, unsigned status, const char *words)
{
    return admin_answer_json(
        request->connection, status,
        json_pack("{s:o}", "error", json_stringn(words, strcspn(words, "\n"))));
}

static uint64_t number_of(struct MHD_Connection *connection, const char *key)
{
    const char *text = admin_argument(connection, key);
    uint64_t value = 0;
    if (text == NULL || slice_to_u64(slice_of_string(text), UINT32_MAX, &value) < 0)
        return 0;
    return value;
}

/* ---- what is meant ---- */

struct criteria {
    struct queue_selection *selection;
    int64_t now_us;
    char why[SELECT_WHY_MAX];
    bool bad;
};

static enum MHD_Result on_argument(void *cls, enum MHD_ValueKind kind, const char *key,
                                   const char *value)
{
    (void)kind;
    struct criteria *c = cls;
    if (queue_select_add(c->selection, key, value == NULL ? "" : value, c->now_us, c->why) !=
        -EINVAL)
        return MHD_YES; /* what is no criterion is something else */
    c->bad = true;
    return MHD_NO;
}

/* False: it was refused, *result. */
static bool read_selection(struct admin_request *request, struct queue_selection *selection,
                           enum MHD_Result *result)
{
    struct criteria c = { .selection = selection,
                          .now_us = request->daemon->admin->control->shard.steady_us };
    queue_select_init(selection);
    MHD_get_connection_values(request->connection, MHD_GET_ARGUMENT_KIND, on_argument, &c);
    if (c.bad)
        *result = error(request, MHD_HTTP_BAD_REQUEST, c.why);
    return !c.bad;
}

/* ---- looking ---- */

static bool ask(struct admin_request *request)
{
    struct control *control = request->daemon->admin->control;
    struct handoff handoff = { .kind = HANDOFF_ASK, .pointer = &request->question };
    request->question.owner = request;
    request->question.log = request->asked ? 0 : request->question.log;
    request->asked = true;
    return shard_handoff(&control->shard, request->shard, handoff) == 0;
}

static enum MHD_Result answer_queue(struct admin_request *request)
{
    struct inspect_question *q = &request->question;
    struct control *control = request->daemon->admin->control;
    json_t *messages = q->messages;
    q->messages = NULL;
    if (q->id != 0) {
        if (json_array_size(messages) == 0) {
            json_decref(messages);
            return error(request, MHD_HTTP_NOT_FOUND, "no such message in the queue");
        }
        json_t *one = json_incref(json_array_get(messages, 0));
        json_decref(messages);
        return admin_answer_json(request->connection, MHD_HTTP_OK, one);
    }
    json_t *page = json_pack("{s:o}", "messages", messages);
    if (q->more || request->shard + 1 < control->servers_count)
        json_object_set_new(page, "next",
                            json_pack("{s:I, s:I, s:I}", "shard",
                                      (json_int_t)(q->more ? request->shard : request->shard + 1),
                                      "log", (json_int_t)(q->more ? q->log : 0), "cursor",
                                      (json_int_t)(q->more ? q->cursor : 0)));
    return admin_answer_json(request->connection, MHD_HTTP_OK, page);
}

static void admin_on_answered(struct shard *shard, const struct handoff *handoff)
{
    (void)shard;
    struct inspect_question *q = handoff->pointer;
    struct admin_request *request = q->owner;
    struct control *control = request->daemon->admin->control;
    /* A message may be on any shard: the next one is asked. */
    if (q->id != 0 && json_array_size(q->messages) == 0 &&
        request->shard + 1 < control->servers_count) {
        json_decref(q->messages);
        request->shard++;
        if (ask(request))
            return;
        q->messages = json_array();
    }
    request->answered = true;
    MHD_resume_connection(request->connection);
    MHD_run(request->daemon->daemon);
}

void admin_queue_start(struct admin *admin)
{
    list_init(&admin->working);
    shard_handle(&admin->control->shard, HANDOFF_ANSWERED, admin_on_answered);
}

static enum MHD_Result list(struct admin_request *request, const char *id)
{
    struct inspect_question *q = &request->question;
    struct control *control = request->daemon->admin->control;
    enum MHD_Result result;
    if (request->answered)
        return answer_queue(request);
    if (request->asked)
        return MHD_YES;
    if (!read_selection(request, &q->means.selection, &result))
        return result;
    const char *verb = admin_argument(request->connection, "verb");
    q->means.verb = QUEUE_VERBS;
    if (verb != NULL && !queue_verb_named(verb, &q->means.verb))
        return error(request, MHD_HTTP_BAD_REQUEST, "verb: there is none by that name");
    if (*id != '\0' && smtp_id_read(slice_of_string(id), &q->id) < 0)
        return error(request, MHD_HTTP_BAD_REQUEST, "not a message id: 13 characters");
    const uint64_t limit = number_of(request->connection, "limit");
    q->limit = limit == 0 ? INSPECT_PAGE : (unsigned)MIN(limit, (uint64_t)INSPECT_PAGE_MAX);
    uint64_t shard = number_of(request->connection, "shard");
    request->shard = (unsigned)MIN(shard, (uint64_t)control->servers_count - 1);
    q->log = (unsigned)number_of(request->connection, "log");
    q->cursor = (uint32_t)number_of(request->connection, "cursor");
    if (control->stopping || !ask(request))
        return error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "busy");
    MHD_suspend_connection(request->connection);
    return MHD_YES;
}

static enum MHD_Result answer_top(struct admin_request *request)
{
    json_t *answer = control_top_answer(request->daemon->admin->control, request->top);
    return answer == NULL
               ? error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "it took too long")
               : admin_answer_json(request->connection, MHD_HTTP_OK, json_incref(answer));
}

static enum MHD_Result top(struct admin_request *request)
{
    struct admin *admin = request->daemon->admin;
    const char *by = admin_argument(request->connection, "by");
    const char *only = admin_argument(request->connection, "destination");
    const uint64_t limit = number_of(request->connection, "limit");
    if (request->answered)
        return answer_top(request);
    if (request->asked)
        return MHD_YES;
    if (only != NULL && strlen(only) >= DESTINATION_KEY_MAX)
        return error(request, MHD_HTTP_BAD_REQUEST, "destination: is too long for one");
    const int64_t number = control_top_ask(
        admin->control, by != NULL && strcmp(by, "age") == 0 ? TOP_BY_AGE : TOP_BY_COUNT,
        limit == 0 ? TOP_DEFAULT : (unsigned)MIN(limit, (uint64_t)TOP_LIMIT_MAX),
        only == NULL ? "" : only);
    if (number < 0)
        return error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "busy");
    request->top = (uint64_t)number;
    if (control_top_answer(admin->control, request->top) != NULL)
        return answer_top(request);
    request->asked = true;
    request->until_ms = admin->control->shard.now_ms + TOP_WAIT_MS;
    list_push(&admin->working, &request->node);
    MHD_suspend_connection(request->connection);
    return MHD_YES;
}

/* ---- verbs ---- */

static enum MHD_Result answer_job(struct admin_request *request, uint64_t number)
{
    json_t *report = control_queue_report(request->daemon->admin->control, number);
    return report == NULL ? error(request, MHD_HTTP_NOT_FOUND, "no such job, or it is long over")
                          : admin_answer_json(request->connection, MHD_HTTP_OK, report);
}

/* Answers now, or when there is something to say. */
static enum MHD_Result wait_for_job(struct admin_request *request, uint64_t number)
{
    struct admin *admin = request->daemon->admin;
    if (control_queue_done(admin->control, number))
        return answer_job(request, number);
    request->asked = true;
    request->job = number;
    request->until_ms = admin->control->shard.now_ms + ANSWER_MS;
    list_push(&admin->working, &request->node);
    MHD_suspend_connection(request->connection);
    return MHD_YES;
}

void admin_worked(struct admin *admin)
{
    const struct control *control = admin->control;
    bool some = false;
    list_each_safe(node, &admin->working)
    {
        struct admin_request *request = container_of(node, struct admin_request, node);
        const bool done = request->top != 0 ? control_top_answer(control, request->top) != NULL
                                            : control_queue_done(control, request->job);
        if (!done && request->until_ms > control->shard.now_ms && !control->stopping)
            continue;
        list_remove(&request->node);
        request->answered = true;
        MHD_resume_connection(request->connection);
        some = true;
    }
    for (unsigned i = 0; some && i < admin->count; i++)
        MHD_run(admin->daemons[i].daemon);
}

/* Which mail, who, and why. False: it was refused, *result. */
static bool read_job(struct admin_request *request, struct queue_job *job, enum MHD_Result *result)
{
    const char *reason = admin_argument(request->connection, "reason");
    if (!read_selection(request, &job->selection, result))
        return false;
    json_t *text = json_string(reason == NULL ? "" : reason);
    const bool fits = text != NULL && json_string_length(text) < JOB_REASON_MAX;
    json_decref(text);
    if (!fits) {
        *result = error(request, MHD_HTTP_BAD_REQUEST, "reason: too long, or no UTF-8");
        return false;
    }
    snprintf(job->reason, sizeof(job->reason), "%s", reason == NULL ? "" : reason);
    admin_peer(request->connection, job->by);
    job->dry_run = admin_argument(request->connection, "dry-run") != NULL;
    return true;
}

static enum MHD_Result refuse(struct admin_request *request, int64_t why, const char *words)
{
    const unsigned status = why == -EINVAL   ? MHD_HTTP_BAD_REQUEST
                            : why == -ENOENT ? MHD_HTTP_NOT_FOUND
                                             : MHD_HTTP_SERVICE_UNAVAILABLE;
    return error(request, status, words);
}

static enum MHD_Result begin(struct admin_request *request, const struct queue_job *job)
{
    char words[QUEUE_WORDS_MAX];
    const int64_t number = control_queue_begin(request->daemon->admin->control, job, words);
    return number < 0 ? refuse(request, number, words) : wait_for_job(request, (uint64_t)number);
}

/* ---- orders ---- */

static enum MHD_Result ordered(struct admin_request *request, int64_t number)
{
    return admin_answer_json(request->connection, MHD_HTTP_OK,
                             json_pack("{s:I}", "order", (json_int_t)number));
}

/* Mail that is in the queue looks for its way at once. */
static enum MHD_Result follow(struct admin_request *request, struct queue_job *job)
{
    job->verb = QUEUE_REROUTE;
    return begin(request, job);
}

static enum MHD_Result order(struct admin_request *request, const char *verb)
{
    struct control *control = request->daemon->admin->control;
    struct queue_order order = { .kind = strcmp(verb, "relax") == 0     ? ORDER_RELAX
                                         : strcmp(verb, "reroute") == 0 ? ORDER_REROUTE
                                                                        : ORDER_SUSPEND };
    struct queue_job job = { .verb = QUEUE_REROUTE };
    const char *to = admin_argument(request->connection, "to");
    enum MHD_Result result;
    char words[QUEUE_WORDS_MAX];
    if (!read_job(request, &job, &result))
        return result;
    order.what = job.selection;
    snprintf(order.by, sizeof(order.by), "%s", job.by);
    snprintf(order.reason, sizeof(order.reason), "%s", job.reason);
    if (strcmp(verb, "resume") == 0) {
        int r = control_orders_resume(control, &order, words);
        return r < 0 ? refuse(request, r, words) : ordered(request, 0);
    }
    if (job.dry_run)
        return error(request, MHD_HTTP_BAD_REQUEST,
                     "an order has no dry run: GET /v1/queue?verb=reroute shows its mail");
    const int64_t number = control_orders_give(control, &order, to == NULL ? "" : to, words);
    if (number < 0)
        return refuse(request, number, words);
    return order.kind == ORDER_SUSPEND ? ordered(request, number) : follow(request, &job);
}

static enum MHD_Result forget(struct admin_request *request)
{
    char words[QUEUE_WORDS_MAX];
    char by[CONNECTOR_BY_MAX];
    admin_peer(request->connection, by);
    int r = control_orders_forget(request->daemon->admin->control,
                                  number_of(request->connection, "order"), by, words);
    return r < 0 ? refuse(request, r, words) : ordered(request, 0);
}

static bool is_order(const char *verb)
{
    static const char *const orders[] = { "suspend", "resume", "reroute", "relax" };
    for (size_t i = 0; i < ARRAY_COUNT(orders); i++)
        if (strcmp(orders[i], verb) == 0)
            return true;
    return false;
}

enum MHD_Result admin_queue_post(struct admin_request *request, const char *what)
{
    struct queue_job job = { .dry_run = false };
    enum MHD_Result result;
    if (request->answered)
        return answer_job(request, request->job);
    if (request->asked)
        return MHD_YES;
    if (!request->daemon->local)
        return error(request, MHD_HTTP_FORBIDDEN, "only on the unix socket");
    const char *verb = *what == '/' ? what + 1 : what;
    if (is_order(verb))
        return order(request, verb);
    if (strcmp(verb, "forget") == 0)
        return forget(request);
    if (queue_verb_named(verb, &job.verb))
        return read_job(request, &job, &result) ? begin(request, &job) : result;
    return error(request, MHD_HTTP_NOT_FOUND, "no such verb");
}

enum MHD_Result admin_queue_get(struct admin_request *request, const char *what)
{
    if (strcmp(what, "/orders") == 0)
        return admin_answer_json(request->connection, MHD_HTTP_OK,
                                 control_orders_report(request->daemon->admin->control));
    if (strcmp(what, "/top") == 0)
        return top(request);
    if (strncmp(what, "/jobs/", 6) != 0)
        return list(request, *what == '/' ? what + 1 : "");
    uint64_t number;
    if (request->answered)
        return answer_job(request, request->job);
    if (request->asked)
        return MHD_YES;
    if (slice_to_u64(slice_of_string(what + 6), INT64_MAX, &number) < 0)
        return error(request, MHD_HTTP_BAD_REQUEST, "not the number of a job");
    return wait_for_job(request, number);
}
