/*
 * control_floor.c - floor memory's keeper: answers shards, writes it down, takes the operator's
 * word
 *
 *   question --> looked up, or learned --> answer to that shard; to all, when it changes a verdict
 *   every COMMIT_MS: what was learned meanwhile becomes durable
 *
 * Owns the store. Shards never wait for it but in a connection that is ready before its answer. An
 * error loses what was learned since the last commit, is counted, and told when it begins; a record
 * that is not what was written makes the store begin anew.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mta/control.h"
#include "mta/floor_store.h"
#include "mta/floor_watch.h"

enum {
    COMMIT_MS = 5'000,
    UNSENT_MS = 20,
    US_IN_S = 1'000'000,
    PAGE_RECORDS = 200,
    PAGE_LOOKED_AT = 5'000, /* for one page: the thread has other things to do */
};

/* Steady: a clock that is set must not make anything forgotten. */
static int64_t now_s(const struct control *control)
{
    return control->shard.steady_us / US_IN_S;
}

static json_int_t date_s(const struct control *control, int64_t at_s)
{
    return at_s == 0 ? 0 : shard_date_s(&control->shard, at_s);
}

/* ---- trouble ---- */

static void log_damage(struct control *control)
{
    const struct store_report *report = &control->floor.report;
    struct log_line line;
    log_begin(&line, control->shard.log, LOG_ERROR, control->shard.wall_us, "floor_damaged");
    log_string(&line, "file", control->floor.path);
    log_string(&line, "why", report->why);
    log_string(&line, "moved_to", report->aside);
    log_end(&line);
    metric_add(&control->floor.damaged, 1);
}

/* What a function of the store said; counted and told unless it is fine. */
static void look_at(struct control *control, int r)
{
    struct control_floor *floor = &control->floor;
    if (r >= 0 || r == -ENOENT || r == -ENAMETOOLONG)
        return;
    metric_add(&floor->errors, 1);
    if (r == -EBADMSG) {
        r = store_renew(&floor->store, &floor->report);
        log_damage(control);
    }
    if (r >= 0 || floor->failing)
        return;
    floor->failing = true;
    struct log_line line;
    log_begin(&line, control->shard.log, LOG_ERROR, control->shard.wall_us, "floor_failed");
    log_string(&line, "file", floor->path);
    log_string(&line, "why", strerror(-r));
    log_end(&line);
}

static void commit(struct control *control)
{
    struct control_floor *floor = &control->floor;
    if (floor->store == NULL)
        return;
    metric_set(&floor->records, store_count(floor->store));
    int r = store_commit(floor->store);
    look_at(control, r);
    if (r == 0)
        floor->failing = false;
}

/* ---- shards ---- */

static void tell_all(struct control *control, const struct floor_change *change, unsigned but)
{
    for (unsigned i = 0; i < control->servers_count; i++) {
        struct floor_change *copy = i == but ? NULL : malloc(sizeof(*copy));
        if (copy == NULL)
            continue; /* it asks again soon */
        *copy = *change;
        const struct handoff handoff = { .kind = HANDOFF_FLOOR_CHANGED, .pointer = copy };
        if (shard_handoff(&control->shard, i, handoff) < 0)
            free(copy);
    }
}

static int put(struct control *control, const struct floor_name *name,
               const struct floor_record *record)
{
    unsigned dropped;
    int r = floor_store_put(control->floor.store, name->host, name->domain, record, &dropped);
    metric_add(&control->floor.dropped, dropped);
    return r;
}

static int learn(struct control *control, struct floor_question *q)
{
    int64_t now = now_s(control);
    int r = floor_store_get(control->floor.store, q->name.host, q->name.domain, &q->record);
    if (r == -ENOENT)
        q->record = (struct floor_record) { 0 };
    else if (r < 0)
        return r;
    if (q->relearn)
        floor_relearn(&q->record, now);
    unsigned events = floor_learn(&q->record, &q->facts, q->issuer, now, &q->rules);
    if (q->expires != 0)
        q->record.expires = q->expires;
    r = put(control, &q->name, &q->record);
    if (r < 0 || (events == 0 && !q->relearn))
        return r;
    const struct floor_change change = { .name = q->name, .found = true, .record = q->record };
    tell_all(control, &change, q->from);
    return 0;
}

static void send_unsent(struct control *control)
{
    struct control_floor *floor = &control->floor;
    while (!list_empty(&floor->unsent)) {
        struct floor_question *q = container_of(floor->unsent.next, struct floor_question, node);
        const struct handoff handoff = { .kind = HANDOFF_FLOOR_ANSWER, .pointer = q };
        list_remove(&q->node); /* once handed over it is the shard's */
        if (shard_handoff(&control->shard, q->from, handoff) == 0)
            continue;
        list_push_front(&floor->unsent, &q->node);
        shard_timer_arm(&control->shard, &floor->timer, UNSENT_MS);
        return;
    }
}

static void on_question(struct shard *shard, const struct handoff *handoff)
{
    struct control *control = shard->owner;
    struct floor_question *q = handoff->pointer;
    q->from = handoff->from;
    int r = -ENOENT;
    if (control->floor.store != NULL)
        r = q->observed
                ? learn(control, q)
                : floor_store_get(control->floor.store, q->name.host, q->name.domain, &q->record);
    look_at(control, r);
    q->found = r == 0;
    if (!q->found)
        q->record = (struct floor_record) { 0 };
    list_push(&control->floor.unsent, &q->node);
    send_unsent(control);
}

static void on_timer(struct timer *timer)
{
    struct control *control = container_of(timer, struct control, floor.timer);
    commit(control);
    shard_timer_arm(&control->shard, timer, COMMIT_MS);
    send_unsent(control);
}

/* ---- life ---- */

static const struct metric floor_metrics_table[] = {
    { "ringpost_floor_records", NULL, "Hosts and domains in floor memory", METRIC_GAUGE, 0,
      offsetof(struct control_floor, records) },
    { "ringpost_floor_dropped_total", NULL, "Records that made room, the least recently seen",
      METRIC_COUNTER, 0, offsetof(struct control_floor, dropped) },
    { "ringpost_floor_errors_total", NULL, "Reads and writes of floor memory that failed",
      METRIC_COUNTER, 0, offsetof(struct control_floor, errors) },
    { "ringpost_floor_damaged_total", NULL, "Times that it was damaged and begun anew",
      METRIC_COUNTER, 0, offsetof(struct control_floor, damaged) },
};

int control_floor_open(struct control *control, const struct config *config)
{
    struct control_floor *floor = &control->floor;
    list_init(&floor->unsent);
    timer_init(&floor->timer, on_timer);
    if (*config->delivery.floor_file != '\0')
        snprintf(floor->path, sizeof(floor->path), "%s", config->delivery.floor_file);
    else
        snprintf(floor->path, sizeof(floor->path), "%s/floor.mdb", config->spool.directory);
    int r = floor_store_open(floor->path, config->delivery.floor_records, &floor->store,
                             &floor->report);
    if (r < 0)
        fprintf(stderr, "ringpost: floor memory %s: %s\n", floor->path, strerror(-r));
    /* A full disk keeps no mail from being delivered. */
    return r == -ENOSPC || r == -EDQUOT ? 0 : r;
}

int control_floor_start(struct control *control)
{
    struct control_floor *floor = &control->floor;
    if (floor->report.damaged)
        log_damage(control);
    if (floor->store == NULL)
        look_at(control, -ENOSPC);
    shard_handle(&control->shard, HANDOFF_FLOOR, on_question);
    for (unsigned i = 0; i < control->servers_count; i++) {
        struct server_shard *server = &control->servers[i];
        server->floors.owner = server;
        server->floors.released = server_shard_release;
        int r = floor_shard_init(&server->floors, &server->shard, control->servers_count);
        if (r < 0)
            return r;
    }
    if (floor->store != NULL)
        metric_set(&floor->records, store_count(floor->store));
    metrics_add_source(&control->metrics, &floor->source, floor_metrics_table,
                       ARRAY_COUNT(floor_metrics_table), floor, -1);
    shard_timer_arm(&control->shard, &floor->timer, COMMIT_MS);
    return 0;
}

void control_floor_stop(struct control *control)
{
    timer_disarm(&control->shard.timers, &control->floor.timer);
    store_close(control->floor.store);
    control->floor.store = NULL;
}

/* ---- the operator's word ---- */

struct decision {
    const char *verb;
    const char *done;                                         /* of so many records */
    void (*decide)(struct floor_record *record, int64_t now); /* NULL: erased */
    bool release;
};

static const struct decision decisions[] = {
    { "accept", "what is offered now is enough from now on", floor_accept, true },
    { "keep", "what was remembered stays", floor_keep, false },
    { "forget", "nothing is remembered", NULL, true },
};

static int decide_one(struct control *control, const struct decision *decision,
                      const struct floor_name *name, struct floor_record *record)
{
    struct floor_change change = { .name = *name,
                                   .found = decision->decide != NULL,
                                   .release = decision->release };
    int r;
    if (decision->decide == NULL) {
        r = floor_store_drop(control->floor.store, name->host, name->domain);
    } else {
        decision->decide(record, now_s(control));
        change.record = *record;
        r = put(control, name, record);
    }
    if (r < 0)
        return r;
    struct log_line line;
    log_begin(&line, control->shard.log, LOG_INFO, control->shard.wall_us, "floor_decided");
    log_string(&line, "host", name->host);
    log_string(&line, "domain", name->domain);
    log_string(&line, "decision", decision->verb);
    log_end(&line);
    tell_all(control, &change, UINT32_MAX);
    return 0;
}

/* domain NULL: all of the host's. How many, or an errno. */
static int decide_all(struct control *control, const struct decision *decision, const char *host,
                      const char *domain)
{
    struct store **store = &control->floor.store;
    struct floor_name name = { 0 };
    struct floor_record record;
    int count = 0;
    snprintf(name.host, sizeof(name.host), "%s", host);
    snprintf(name.domain, sizeof(name.domain), "%s", domain == NULL ? "" : domain);
    int r = floor_store_get(*store, name.host, name.domain, &record);
    if (r == -ENOENT && domain == NULL)
        r = floor_store_next(*store, name.host, name.domain, &record);
    while (r == 0 && strcmp(name.host, host) == 0) {
        r = decide_one(control, decision, &name, &record);
        count += r == 0;
        if (r < 0 || domain != NULL)
            break;
        r = floor_store_next(*store, name.host, name.domain, &record);
    }
    return r < 0 && r != -ENOENT ? r : count;
}

int control_floor_decide(struct control *control, const char *verb, const char *host,
                         const char *domain, char words[static CONTROL_WORDS_MAX])
{
    const struct decision *decision = NULL;
    for (size_t i = 0; i < ARRAY_COUNT(decisions); i++)
        if (strcmp(decisions[i].verb, verb) == 0)
            decision = &decisions[i];
    if (decision == NULL || host == NULL || *host == '\0') {
        snprintf(words, CONTROL_WORDS_MAX, "accept, keep or forget, and a host\n");
        return -EINVAL;
    }
    int r = control->floor.store == NULL ? -ENODEV : decide_all(control, decision, host, domain);
    look_at(control, r);
    if (r <= 0) {
        snprintf(words, CONTROL_WORDS_MAX, "%s%s%s: %s\n", host, domain == NULL ? "" : " for ",
                 domain == NULL ? "" : domain, r == 0 ? "nothing is remembered" : strerror(-r));
        return -EINVAL;
    }
    commit(control);
    snprintf(words, CONTROL_WORDS_MAX, "%s: %s; %d record%s\n", host, decision->done, r,
             r == 1 ? "" : "s");
    return 0;
}

/* ---- what is remembered ---- */

static json_t *facts_json(const struct floor_facts *facts)
{
    char text[FLOOR_TEXT_MAX];
    char version[8] = "";
    floor_facts_text(facts, text);
    if (facts->version != 0)
        snprintf(version, sizeof(version), "%u.%u", facts->version / 10U, facts->version % 10U);
    return json_pack("{s:s, s:s, s:s, s:b, s:b, s:b, s:b, s:s}", "level",
                     floor_level_name(floor_level(facts)), "version", version, "group",
                     floor_group_name(facts->group), "forward_secrecy", (int)facts->secrecy,
                     "chain", (int)facts->chain, "name", (int)facts->name, "dane", (int)facts->dane,
                     "text", text);
}

static json_t *events_json(const struct control *control, const struct floor_record *record)
{
    json_t *events = json_array();
    for (unsigned i = 0; i < record->events_count; i++) {
        const struct floor_event *event = &record->events[i];
        char less[FLOOR_TEXT_MAX];
        floor_less_text(event->less, less);
        json_array_append_new(events,
                              json_pack("{s:I, s:s, s:s}", "at", date_s(control, event->at), "what",
                                        floor_event_name(event->kind), "less", less));
    }
    return events;
}

static json_t *record_json(const struct control *control, const char *host, const char *domain,
                           const struct floor_record *r)
{
    char less[FLOOR_TEXT_MAX];
    floor_less_text(r->less, less);
    bool learned = r->best.version != 0;
    return json_pack(
        "{s:s, s:s, s:o, s:I, s:I, s:o, s:o, s:s, s:I, s:b, s:I, s:I, s:I, s:I, s:s, s:I, s:o}",
        "host", host, "domain", domain, "best", learned ? facts_json(&r->best) : json_null(),
        "best_since", date_s(control, r->best_first), "best_last", date_s(control, r->best_last),
        "ever", r->ever.version != 0 ? facts_json(&r->ever) : json_null(), "now",
        facts_json(&r->now), "less", less, "less_since", date_s(control, r->less_since), "kept",
        (int)r->kept, "first", date_s(control, r->first), "last", date_s(control, r->last),
        "observations", (json_int_t)r->count, "regressions", (json_int_t)r->regressions, "issuer",
        r->issuer, "expires", (json_int_t)r->expires, "events", events_json(control, r));
}

/* name: a host, with or without its port, or a domain. */
static bool is_named(const char *host, const char *domain, const char *name)
{
    size_t size = strlen(name);
    return *name == '\0' || strcmp(domain, name) == 0 ||
           (strncmp(host, name, size) == 0 && (host[size] == '\0' || host[size] == ':'));
}

json_t *control_floor_record(struct control *control, const char *host, const char *domain)
{
    struct floor_record record;
    json_t *records = json_array();
    const int r = control->floor.store == NULL
                      ? -ENOENT
                      : floor_store_get(control->floor.store, host, domain, &record);
    look_at(control, r);
    if (r == 0)
        json_array_append_new(records, record_json(control, host, domain, &record));
    return json_pack("{s:o}", "records", records);
}

json_t *control_floor_report(struct control *control, const char *name, const char *after_host,
                             const char *after_domain)
{
    struct floor_record record;
    char host[FLOOR_HOST_MAX];
    char domain[FLOOR_DOMAIN_MAX];
    snprintf(host, sizeof(host), "%s", after_host);
    snprintf(domain, sizeof(domain), "%s", after_domain);
    json_t *records = json_array();
    int r = control->floor.store == NULL ? -ENOENT : 0;
    for (unsigned i = 0; r == 0 && i < PAGE_LOOKED_AT && json_array_size(records) < PAGE_RECORDS;
         i++) {
        r = floor_store_next(control->floor.store, host, domain, &record);
        if (r == 0 && is_named(host, domain, name))
            json_array_append_new(records, record_json(control, host, domain, &record));
    }
    look_at(control, r);
    json_t *page = json_pack("{s:o}", "records", records);
    if (r == 0)
        json_object_set_new(page, "next", json_pack("{s:s, s:s}", "host", host, "domain", domain));
    return page;
}
