/*
 * control_sts.c - MTA-STS (RFC 8461): policies asked for, fetched, kept, and refreshed
 *
 *   question --a policy that holds--> answered at once; looked up besides when that is due
 *       '--none--> lookup: TXT of _mta-sts.DOMAIN --a version that is new--> fetch --> kept
 *                     '--nothing, or known--------'--failed--------------'--> its questions
 * answered
 *
 *   every SWEEP_MS: a part of the store is walked; what is used and was not looked up for a day is
 *
 * A policy holds for its max_age: a record that is gone, DNS that is silent, a web host that
 * fails, all leave it as it is (section 10.2). It is replaced by another one, or fetched again when
 * half of its time is over. Without a policy that holds, failures are recorded and told of, and
 * mail goes as if there was none. Questions wait ANSWER_MS at the longest; the lookup goes on.
 *
 * Owns the store, and lookups (STS_LOOKUPS_MAX; questions above that wait for one). The operator's
 * settings are those of the configuration that is current when a fetch begins.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mta/control.h"
#include "mta/sts_watch.h"
#include "tls/tls_roots.h"

enum {
    COMMIT_MS = 5'000,
    UNSENT_MS = 20,
    SWEEP_MS = 60'000,
    SWEEP_RECORDS = 500,
    SWEEP_LOOKUPS = 8, /* under way of their own accord */
    US_IN_S = 1'000'000,
    HOUR_S = 3'600,
    DAY_S = 24 * HOUR_S,
    TRY_AGAIN_S = 300,     /* the same version, after a failure (RFC 8461 3.3) */
    NEWER_S = 60,          /* a newer policy is looked for after a refusal, so often */
    UNUSED_S = 30 * DAY_S, /* and then a policy is not refreshed any more */
    ANSWER_MS = 60'000,

    HTTPS_PORT = 443,
    HTTP_OK = 200,
    URL_MAX = STS_DOMAIN_MAX + 64,
};

struct sts_lookup {
    struct list node; /* of its bucket */
    struct control *control;
    struct list questions;
    struct timer timer;
    struct dns_query query;
    struct fetch_request fetch;
    struct sts_record record; /* as it is in the store, and as it will be */
    bool forced;              /* the operator wants it fetched */
    char domain[STS_DOMAIN_MAX];
    char id[STS_ID_MAX]; /* in DNS now */
    char url[URL_MAX];
};

/* Steady: a clock that is set must not make policies old. */
static int64_t now_s(const struct control *control)
{
    return control->shard.steady_us / US_IN_S;
}

static json_int_t date_s(const struct control *control, int64_t at_s)
{
    return at_s == 0 ? 0 : shard_date_s(&control->shard, at_s);
}

/* ---- the store ---- */

static void log_damage(struct control *control)
{
    const struct store_report *report = &control->sts.report;
    struct log_line line;
    log_begin(&line, control->shard.log, LOG_ERROR, control->shard.wall_us, "sts_damaged");
    log_string(&line, "file", control->sts.path);
    log_string(&line, "why", report->why);
    log_string(&line, "moved_to", report->aside);
    log_end(&line);
    metric_add(&control->sts.damaged, 1);
}

/* What a function of the store said; counted and told unless it is fine. */
static void look_at(struct control *control, int r)
{
    struct control_sts *sts = &control->sts;
    if (r >= 0 || r == -ENOENT || r == -ENAMETOOLONG)
        return;
    metric_add(&sts->errors, 1);
    if (r == -EBADMSG) {
        r = store_renew(&sts->store, &sts->report);
        log_damage(control);
    }
    if (r >= 0 || sts->failing)
        return;
    sts->failing = true;
    struct log_line line;
    log_begin(&line, control->shard.log, LOG_ERROR, control->shard.wall_us, "sts_failed");
    log_string(&line, "file", sts->path);
    log_string(&line, "why", strerror(-r));
    log_end(&line);
}

static void get(struct control *control, const char *domain, struct sts_record *record)
{
    int r = -ENOENT;
    if (control->sts.store != NULL)
        r = sts_store_get(control->sts.store, domain, record);
    look_at(control, r);
    if (r < 0)
        memset(record, 0, sizeof(*record));
}

static void put(struct control *control, const char *domain, const struct sts_record *record)
{
    unsigned dropped = 0;
    if (control->sts.store == NULL)
        return;
    look_at(control, sts_store_put(control->sts.store, domain, record, &dropped));
    metric_add(&control->sts.dropped, dropped);
}

static void commit(struct control *control)
{
    struct control_sts *sts = &control->sts;
    if (sts->store == NULL)
        return;
    metric_set(&sts->records, store_count(sts->store));
    int r = store_commit(sts->store);
    look_at(control, r);
    if (r == 0)
        sts->failing = false;
}

/* ---- answers ---- */

static void send_unsent(struct control *control)
{
    struct control_sts *sts = &control->sts;
    while (!list_empty(&sts->unsent)) {
        struct sts_question *q = container_of(sts->unsent.next, struct sts_question, node);
        const struct handoff handoff = { .kind = HANDOFF_STS_ANSWER, .pointer = q };
        list_remove(&q->node); /* once handed over it is the shard's */
        if (shard_handoff(&control->shard, q->from, handoff) == 0)
            continue;
        list_push_front(&sts->unsent, &q->node);
        shard_timer_arm(&control->shard, &sts->unsent_timer, UNSENT_MS);
        return;
    }
}

static void answer(struct control *control, struct sts_question *q, const struct sts_record *record)
{
    q->record = *record;
    list_push(&control->sts.unsent, &q->node);
    send_unsent(control);
}

static void tell_all(struct control *control, const char *domain, const struct sts_record *record)
{
    for (unsigned i = 0; i < control->servers_count; i++) {
        struct sts_change *change = malloc(sizeof(*change));
        if (change == NULL)
            continue; /* it asks again soon */
        change->record = *record;
        snprintf(change->domain, sizeof(change->domain), "%s", domain);
        const struct handoff handoff = { .kind = HANDOFF_STS_CHANGED, .pointer = change };
        if (shard_handoff(&control->shard, i, handoff) < 0)
            free(change);
    }
}

static void log_policy(struct control *control, const struct sts_lookup *lookup)
{
    const struct sts_record *record = &lookup->record;
    bool failed = record->failure != STS_FETCHED;
    struct log_line line;
    log_begin(&line, control->shard.log, failed ? LOG_WARNING : LOG_INFO, control->shard.wall_us,
              failed ? "sts_unfetched" : "sts_policy");
    log_string(&line, "domain", lookup->domain);
    log_string(&line, "id", record->tried_id);
    if (failed) {
        log_string(&line, "result", sts_failure_name((enum sts_failure)record->failure));
        log_string(&line, "why", record->why);
        log_string(&line, "until_then",
                   sts_record_holds(record, now_s(control)) ? "the policy from before" : "none");
    } else {
        log_string(&line, "mode", sts_mode_name((enum sts_mode)record->policy.mode));
        log_number(&line, "max_age_s", record->policy.max_age_s);
    }
    log_end(&line);
}

/* ---- a lookup ---- */

static struct list *bucket_of(struct control *control, const char *domain)
{
    uint32_t hash = 2'166'136'261; /* FNV-1a: the number of lookups is bounded, and small */
    for (; *domain != '\0'; domain++)
        hash = (hash ^ (uint8_t)*domain) * 16'777'619;
    return &control->sts.buckets[hash % STS_BUCKETS];
}

static struct sts_lookup *lookup_find(struct control *control, const char *domain)
{
    list_each (node, bucket_of(control, domain)) {
        struct sts_lookup *lookup = container_of(node, struct sts_lookup, node);
        if (strcmp(lookup->domain, domain) == 0)
            return lookup;
    }
    return NULL;
}

static void answer_questions(struct sts_lookup *lookup)
{
    struct list *node;
    while ((node = list_pop(&lookup->questions)) != NULL)
        answer(lookup->control, container_of(node, struct sts_question, node), &lookup->record);
}

static void ask(struct control *control, struct sts_question *q);

static void lookup_end(struct sts_lookup *lookup)
{
    struct control *control = lookup->control;
    answer_questions(lookup);
    timer_disarm(&control->shard.timers, &lookup->timer);
    list_remove(&lookup->node);
    pool_give(&control->sts.lookups, lookup);
    while (!list_empty(&control->sts.waiting) && control->sts.lookups.used < STS_LOOKUPS_MAX)
        ask(control, container_of(list_pop(&control->sts.waiting), struct sts_question, node));
}

static void on_late(struct timer *timer)
{
    struct sts_lookup *lookup = container_of(timer, struct sts_lookup, timer);
    metric_add(&lookup->control->sts.late, !list_empty(&lookup->questions));
    answer_questions(lookup);
}

static enum sts_failure failure_of(const struct fetch_answer *answer, struct sts_record *record,
                                   struct sts_policy *policy)
{
    if (answer->result == FETCH_CERTIFICATE) {
        snprintf(record->why, sizeof(record->why), "%s", answer->why);
        return STS_WEBPKI_INVALID;
    }
    if (answer->result == FETCH_TOO_LARGE) {
        snprintf(record->why, sizeof(record->why), "it is too large");
        return STS_POLICY_INVALID;
    }
    if (answer->result != FETCH_DONE || answer->status != HTTP_OK) {
        snprintf(record->why, sizeof(record->why), "%s",
                 answer->result == FETCH_DONE ? "its status is not 200" : answer->why);
        return STS_FETCH_ERROR;
    }
    if (!sts_content_type_ok(answer->content_type)) {
        snprintf(record->why, sizeof(record->why), "its type is not text/plain but %.60s",
                 answer->content_type[0] == '\0' ? "not said" : answer->content_type);
        return STS_POLICY_INVALID;
    }
    return sts_policy_read(answer->body, policy, record->why) < 0 ? STS_POLICY_INVALID
                                                                  : STS_FETCHED;
}

/* Words that a stranger may have chosen. */
static void make_plain(char *text)
{
    for (; *text != '\0'; text++)
        if ((uint8_t)*text < ' ' || (uint8_t)*text > '~')
            *text = '?';
}

static void on_fetched(struct fetch_request *request, const struct fetch_answer *fetched)
{
    struct sts_lookup *lookup = container_of(request, struct sts_lookup, fetch);
    struct control *control = lookup->control;
    struct sts_record *record = &lookup->record;
    struct sts_policy policy;
    const int64_t now = now_s(control);
    bool first = record->failure == STS_FETCHED || strcmp(record->tried_id, lookup->id) != 0;
    bool news = strcmp(record->id, lookup->id) != 0;
    record->tried = now;
    memcpy(record->tried_id, lookup->id, sizeof(record->tried_id));
    record->failure = (uint8_t)failure_of(fetched, record, &policy);
    make_plain(record->why);
    metric_add(&control->sts.fetched[record->failure], 1);
    if (record->failure == STS_FETCHED) {
        record->fetched = now;
        memcpy(record->id, lookup->id, sizeof(record->id));
        record->policy = policy;
    }
    put(control, lookup->domain, record);
    if (record->failure == STS_FETCHED)
        tell_all(control, lookup->domain, record);
    else
        control_tlsrpt_unfetched(control, lookup->domain, record);
    if (record->failure == STS_FETCHED ? news : first)
        log_policy(control, lookup);
    lookup_end(lookup);
}

static void lookup_fetch(struct sts_lookup *lookup)
{
    struct control *control = lookup->control;
    const struct config_sts *config = &control->config->sts;
    char port[8] = "";
    if (config->port != HTTPS_PORT)
        snprintf(port, sizeof(port), ":%u", config->port);
    snprintf(lookup->url, sizeof(lookup->url), "https://mta-sts.%s%s/.well-known/mta-sts.txt",
             lookup->domain, port);
    lookup->fetch = (struct fetch_request) {
        .fetched = on_fetched,
        .url = lookup->url,
        .ca_file = config->roots == NULL ? NULL : tls_roots_path(config->roots),
        .bytes_max = STS_DOCUMENT_MAX,
        .timeout_ms = config->timeout_ms,
    };
    int r = fetch_start(control->fetcher, &lookup->fetch);
    if (r == 0)
        return;
    const struct fetch_answer none = { .result = FETCH_LOCAL,
                                       .content_type = "",
                                       .why = r == -ENOBUFS ? "too many fetches under way"
                                                            : strerror(-r) };
    on_fetched(&lookup->fetch, &none);
}

/* RFC 8461 3.1: exactly one record that begins like one, and it is well-formed. */
static bool version_of(const struct dns_answer *dns, char id[static STS_ID_MAX])
{
    unsigned all = 0;
    unsigned valid = 0;
    for (unsigned i = 0; i < dns->count; i++) {
        const struct slice rdata = slice_of(dns->records[i].data, dns->records[i].size);
        char each[STS_ID_MAX];
        enum sts_txt status = sts_txt_read(rdata, each);
        all += status != STS_TXT_OTHER;
        valid += status == STS_TXT_VALID;
        if (status == STS_TXT_VALID)
            memcpy(id, each, sizeof(each));
    }
    return all == 1 && valid == 1;
}

static bool is_tried(const struct sts_lookup *lookup, int64_t now)
{
    const struct sts_record *record = &lookup->record;
    return record->failure != STS_FETCHED && strcmp(record->tried_id, lookup->id) == 0 &&
           now - record->tried < TRY_AGAIN_S;
}

static void on_txt(struct dns_query *query, const struct dns_answer *dns)
{
    struct sts_lookup *lookup = container_of(query, struct sts_lookup, query);
    struct control *control = lookup->control;
    struct sts_record *record = &lookup->record;
    const int64_t now = now_s(control);
    bool known = record->asked != 0;
    bool answered =
        dns->status == DNS_OK || dns->status == DNS_NODATA || dns->status == DNS_NXDOMAIN;
    bool found = dns->status == DNS_OK && version_of(dns, lookup->id);
    record->asked = now;
    record->used = known ? record->used : now;
    if (answered)
        record->checked = now;
    if (known || found)
        put(control, lookup->domain, record);
    metric_add(!answered ? &control->sts.unanswered
               : found   ? &control->sts.found
                         : &control->sts.absent,
               1);
    bool holds = sts_record_holds(record, now);
    bool fresh = holds && strcmp(record->id, lookup->id) == 0 &&
                 now - record->fetched < record->policy.max_age_s / 2;
    if (!found || (!lookup->forced && (fresh || is_tried(lookup, now))))
        lookup_end(lookup);
    else
        lookup_fetch(lookup);
}

/* NULL: there is no room for it now. */
static struct sts_lookup *lookup_begin(struct control *control, const char *domain,
                                       const struct sts_record *record)
{
    char name[DNS_NAME_MAX + 16];
    struct sts_lookup *lookup = pool_take(&control->sts.lookups);
    if (lookup == NULL)
        return NULL;
    memset(lookup, 0, sizeof(*lookup));
    lookup->control = control;
    lookup->record = *record;
    snprintf(lookup->domain, sizeof(lookup->domain), "%s", domain);
    list_init(&lookup->questions);
    list_push(bucket_of(control, domain), &lookup->node);
    timer_init(&lookup->timer, on_late);
    shard_timer_arm(&control->shard, &lookup->timer, ANSWER_MS);
    lookup->query.answered = on_txt;
    snprintf(name, sizeof(name), "_mta-sts.%s", domain);
    dns_ask(&control->dns, &control->shard, &lookup->query, name, DNS_TXT);
    return lookup;
}

/* ---- questions ---- */

/* Daily, not all at the same time; and hourly while something is wrong. */
static bool is_due(const char *domain, const struct sts_record *record, int64_t now)
{
    unsigned spread = 0;
    for (; *domain != '\0'; domain++)
        spread = spread * 31 + (uint8_t)*domain;
    const int64_t day = DAY_S - spread % (DAY_S / 4);
    bool wrong = record->failure != STS_FETCHED || record->checked < record->asked;
    return now - record->asked >= (wrong ? (int64_t)HOUR_S : day);
}

static void use(struct control *control, const char *domain, struct sts_record *record, int64_t now)
{
    if (now - record->used < HOUR_S)
        return;
    record->used = now;
    put(control, domain, record);
}

static void ask(struct control *control, struct sts_question *q)
{
    struct sts_record record;
    const int64_t now = now_s(control);
    get(control, q->domain, &record);
    struct sts_lookup *lookup = lookup_find(control, q->domain);
    if (sts_record_holds(&record, now)) {
        use(control, q->domain, &record, now);
        const int64_t age = now - record.asked;
        if (lookup == NULL && (is_due(q->domain, &record, now) || (q->failed && age >= NEWER_S)))
            (void)lookup_begin(control, q->domain, &record);
        answer(control, q, &record);
        return;
    }
    if (lookup != NULL && !timer_armed(&lookup->timer)) { /* others have waited for it in vain */
        answer(control, q, &record);
        return;
    }
    if (lookup == NULL)
        lookup = lookup_begin(control, q->domain, &record);
    list_push(lookup == NULL ? &control->sts.waiting : &lookup->questions, &q->node);
}

static void on_question(struct shard *shard, const struct handoff *handoff)
{
    struct sts_question *q = handoff->pointer;
    q->from = handoff->from;
    q->since_ms = shard->now_ms;
    ask(shard->owner, q);
}

/* Those that wait for a lookup have their time too. */
static void answer_waiting(struct control *control)
{
    const uint64_t now_ms = control->shard.now_ms;
    while (!list_empty(&control->sts.waiting)) {
        struct list *first = control->sts.waiting.next;
        struct sts_question *q = container_of(first, struct sts_question, node);
        struct sts_record record;
        if (now_ms - q->since_ms < ANSWER_MS)
            return;
        list_remove(&q->node);
        metric_add(&control->sts.late, 1);
        get(control, q->domain, &record);
        answer(control, q, &record);
    }
}

/* ---- refreshing ---- */

static void sweep_one(struct control *control, const char *domain, const struct sts_record *record)
{
    const int64_t now = now_s(control);
    bool unused = now - record->used >= UNUSED_S;
    if (!sts_record_holds(record, now)) {
        if (unused || now - record->used >= DAY_S)
            look_at(control, sts_store_drop(control->sts.store, domain));
        return;
    }
    if (!unused && is_due(domain, record, now) && lookup_find(control, domain) == NULL)
        (void)lookup_begin(control, domain, record);
}

static void sweep(struct control *control)
{
    struct control_sts *sts = &control->sts;
    struct sts_record record;
    for (unsigned i = 0; i < SWEEP_RECORDS && sts->lookups.used < SWEEP_LOOKUPS; i++) {
        int r = sts->store == NULL ? -ENOENT : sts_store_next(sts->store, sts->swept, &record);
        look_at(control, r);
        if (r < 0) {
            sts->swept[0] = '\0';
            return;
        }
        sweep_one(control, sts->swept, &record);
    }
}

static void on_sweep(struct timer *timer)
{
    struct control *control = container_of(timer, struct control, sts.sweep_timer);
    sweep(control);
    shard_timer_arm(&control->shard, timer, SWEEP_MS);
}

static void on_unsent(struct timer *timer)
{
    send_unsent(container_of(timer, struct control, sts.unsent_timer));
}

static void on_commit(struct timer *timer)
{
    struct control *control = container_of(timer, struct control, sts.commit_timer);
    commit(control);
    answer_waiting(control);
    shard_timer_arm(&control->shard, timer, COMMIT_MS);
}

/* ---- life ---- */

#define STS_FETCHED_COUNT(word, failure)                                                           \
    {                                                                                              \
        "ringpost_sts_fetches_total", "result=\"" word "\"", "Policies of MTA-STS asked for",      \
            METRIC_COUNTER, 0,                                                                     \
            offsetof(struct control_sts, fetched) + (failure) * sizeof(uint64_t)                   \
    }

static const struct metric sts_metrics_table[] = {
    { "ringpost_sts_records", NULL, "Domains that something of MTA-STS is known of", METRIC_GAUGE,
      0, offsetof(struct control_sts, records) },
    { "ringpost_sts_lookups_total", "result=\"found\"", "Looks for a version of MTA-STS in DNS",
      METRIC_COUNTER, 0, offsetof(struct control_sts, found) },
    { "ringpost_sts_lookups_total", "result=\"absent\"", "Looks for a version of MTA-STS in DNS",
      METRIC_COUNTER, 0, offsetof(struct control_sts, absent) },
    { "ringpost_sts_lookups_total", "result=\"unanswered\"",
      "Looks for a version of MTA-STS in DNS", METRIC_COUNTER, 0,
      offsetof(struct control_sts, unanswered) },
    STS_FETCHED_COUNT("fetched", STS_FETCHED),
    STS_FETCHED_COUNT("fetch-error", STS_FETCH_ERROR),
    STS_FETCHED_COUNT("invalid", STS_POLICY_INVALID),
    STS_FETCHED_COUNT("webpki-invalid", STS_WEBPKI_INVALID),
    { "ringpost_sts_late_total", NULL, "Lookups that mail did not wait for any longer",
      METRIC_COUNTER, 0, offsetof(struct control_sts, late) },
    { "ringpost_sts_dropped_total", NULL, "Records that made room, the least recently used",
      METRIC_COUNTER, 0, offsetof(struct control_sts, dropped) },
    { "ringpost_sts_errors_total", NULL, "Reads and writes of kept policies that failed",
      METRIC_COUNTER, 0, offsetof(struct control_sts, errors) },
    { "ringpost_sts_damaged_total", NULL, "Times that they were damaged and begun anew",
      METRIC_COUNTER, 0, offsetof(struct control_sts, damaged) },
};

int control_sts_open(struct control *control, const struct config *config)
{
    struct control_sts *sts = &control->sts;
    list_init(&sts->unsent);
    list_init(&sts->waiting);
    for (unsigned i = 0; i < STS_BUCKETS; i++)
        list_init(&sts->buckets[i]);
    timer_init(&sts->unsent_timer, on_unsent);
    timer_init(&sts->commit_timer, on_commit);
    timer_init(&sts->sweep_timer, on_sweep);
    if (*config->sts.file != '\0')
        snprintf(sts->path, sizeof(sts->path), "%s", config->sts.file);
    else
        snprintf(sts->path, sizeof(sts->path), "%s/sts.mdb", config->spool.directory);
    int r = pool_init(&sts->lookups, "sts lookups", sizeof(struct sts_lookup), STS_LOOKUPS_MAX);
    if (r == 0)
        r = sts_store_open(sts->path, config->sts.records, &sts->store, &sts->report);
    if (r < 0)
        fprintf(stderr, "ringpost: MTA-STS policies %s: %s\n", sts->path, strerror(-r));
    /* A full disk keeps no mail from being delivered. */
    return r == -ENOSPC || r == -EDQUOT ? 0 : r;
}

int control_sts_start(struct control *control)
{
    struct control_sts *sts = &control->sts;
    if (sts->report.damaged)
        log_damage(control);
    if (sts->store == NULL)
        look_at(control, -ENOSPC);
    shard_handle(&control->shard, HANDOFF_STS, on_question);
    for (unsigned i = 0; i < control->servers_count; i++) {
        struct server_shard *server = &control->servers[i];
        server->sts.owner = server;
        server->sts.changed = server_shard_sts_changed;
        int r = sts_shard_init(&server->sts, &server->shard, control->servers_count);
        if (r < 0)
            return r;
    }
    if (sts->store != NULL)
        metric_set(&sts->records, store_count(sts->store));
    metrics_add_source(&control->metrics, &sts->source, sts_metrics_table,
                       ARRAY_COUNT(sts_metrics_table), sts, -1);
    shard_timer_arm(&control->shard, &sts->commit_timer, COMMIT_MS);
    shard_timer_arm(&control->shard, &sts->sweep_timer, SWEEP_MS);
    return 0;
}

void control_sts_stop(struct control *control)
{
    struct control_sts *sts = &control->sts;
    struct timers *timers = &control->shard.timers;
    timer_disarm(timers, &sts->unsent_timer);
    timer_disarm(timers, &sts->commit_timer);
    timer_disarm(timers, &sts->sweep_timer);
    for (unsigned i = 0; i < STS_BUCKETS; i++) {
        struct list *node;
        while ((node = list_pop(&sts->buckets[i])) != NULL) {
            struct sts_lookup *lookup = container_of(node, struct sts_lookup, node);
            timer_disarm(timers, &lookup->timer);
            dns_forget(&control->dns, &lookup->query);
            fetch_forget(&lookup->fetch);
        }
    }
    pool_free(&sts->lookups);
    store_close(sts->store);
    sts->store = NULL;
}

/* ---- for people ---- */

/* As records and shards have them. */
static void lower_case(const char *text, char out[static STS_DOMAIN_MAX])
{
    size_t size = 0;
    for (; text[size] != '\0' && size < STS_DOMAIN_MAX - 1; size++)
        out[size] = (char)ascii_lower((uint8_t)text[size]);
    out[size] = '\0';
}

int control_sts_refresh(struct control *control, const char *written,
                        char words[static CONTROL_WORDS_MAX])
{
    struct sts_record record;
    char domain[STS_DOMAIN_MAX];
    lower_case(written, domain);
    if (*domain == '\0' || strlen(written) >= STS_DOMAIN_MAX) {
        snprintf(words, CONTROL_WORDS_MAX, "a domain is wanted\n");
        return -EINVAL;
    }
    get(control, domain, &record);
    struct sts_lookup *lookup = lookup_find(control, domain);
    if (lookup == NULL)
        lookup = lookup_begin(control, domain, &record);
    snprintf(words, CONTROL_WORDS_MAX, "%s: %s\n", domain,
             lookup == NULL ? "too many policies are being looked for" : "being looked for");
    if (lookup == NULL)
        return -EINVAL;
    lookup->forced = true;
    return 0;
}

json_t *control_sts_report(struct control *control, const char *written)
{
    struct sts_record record;
    char domain[STS_DOMAIN_MAX];
    lower_case(written, domain);
    get(control, domain, &record);
    const int64_t now = now_s(control);
    if (record.asked == 0)
        return NULL;
    json_t *patterns = json_array();
    for (const char *p = NULL; (p = sts_policy_pattern(&record.policy, p)) != NULL;)
        json_array_append_new(patterns, json_string(p));
    bool holds = sts_record_holds(&record, now);
    return json_pack(
        "{s:s, s:b, s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:I, s:s, s:s}", "domain", domain, "holds",
        (int)holds, "mode", sts_mode_name((enum sts_mode)record.policy.mode), "id", record.id, "mx",
        patterns, "max_age_s", (json_int_t)record.policy.max_age_s, "fetched",
        date_s(control, record.fetched), "age_s",
        (json_int_t)(record.fetched == 0 ? 0 : now - record.fetched), "checked",
        date_s(control, record.checked), "used", date_s(control, record.used), "failure",
        sts_failure_name((enum sts_failure)record.failure), "why", record.why);
}
