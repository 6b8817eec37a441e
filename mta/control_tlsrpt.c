/*
 * control_tlsrpt.c - reports about TLS (RFC 8460): lots of shards become records of a day, and
 * those become reports, which mta/control_tlsrpt_send.c sends
 *
 *   HANDOFF_TLSRPT: each row --> the record of (today, domain) --every COMMIT_MS--> durable
 *
 * Owns the store; there is none unless tls-report { contact } is given. Days older than
 * TLSRPT_DAYS are dropped. Trouble with the file loses numbers, and is told when it begins; mail
 * never waits for it. What was counted around midnight is of the day in which its lot came.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/control.h"
#include "mta/tlsrpt_report.h"
#include "mta/tlsrpt_store.h"

enum { COMMIT_MS = 5'000, UNSENT_MS = 20, US_IN_S = 1'000'000, S_IN_DAY = 86'400, TLSRPT_DAYS = 3 };

static uint32_t today(const struct control *control)
{
    return (uint32_t)(control->shard.wall_us / US_IN_S / S_IN_DAY);
}

/* ---- trouble ---- */

static void log_trouble(struct control *control, const char *event, const char *why,
                        const char *moved)
{
    struct log_line line;
    log_begin(&line, control->shard.log, LOG_ERROR, control->shard.wall_us, event);
    log_string(&line, "file", control->tlsrpt.path);
    log_string(&line, "why", why);
    if (moved != NULL)
        log_string(&line, "moved_to", moved);
    log_end(&line);
}

static void look_at(struct control *control, int r)
{
    struct control_tlsrpt *tlsrpt = &control->tlsrpt;
    if (r >= 0 || r == -ENOENT)
        return;
    metric_add(&tlsrpt->errors, 1);
    if (r == -EBADMSG) {
        r = store_renew(&tlsrpt->store, &tlsrpt->report);
        log_trouble(control, "tlsrpt_damaged", tlsrpt->report.why, tlsrpt->report.aside);
    }
    if (r >= 0 || tlsrpt->failing)
        return;
    tlsrpt->failing = true;
    log_trouble(control, "tlsrpt_failed", strerror(-r), NULL);
}

/* ---- counting ---- */

static void add(struct control *control, const char *domain, const struct tlsrpt_policy *policy,
                const struct tlsrpt_failure *failure, uint64_t count)
{
    struct control_tlsrpt *tlsrpt = &control->tlsrpt;
    struct tlsrpt_key key = { .day = today(control) };
    struct tlsrpt_record record;
    unsigned dropped = 0;
    if (tlsrpt->store == NULL)
        return;
    snprintf(key.domain, sizeof(key.domain), "%s", domain);
    int r = tlsrpt_store_get(tlsrpt->store, &key, &record);
    look_at(control, r);
    if (r < 0)
        return;
    r = tlsrpt_add(record.policies, policy, failure, count);
    if (r == 0)
        r = tlsrpt_store_put(tlsrpt->store, &key, &record, &dropped);
    json_decref(record.policies);
    if (r == -ENOBUFS || r == -EMSGSIZE) {
        metric_add(&tlsrpt->unkept, count);
        return;
    }
    metric_add(&tlsrpt->dropped, dropped);
    look_at(control, r);
}

static void add_row(struct control *control, const struct tlsrpt_row *row, uint64_t count)
{
    struct sts_record record;
    struct tlsrpt_policy policy = { .type = (enum tlsrpt_policy_type)row->type,
                                    .domain = row->policy_domain,
                                    .records = row->records };
    /* The shard only knows its version: another one has its own strings. */
    if (row->type == TLSRPT_STS && control->sts.store != NULL &&
        sts_store_get(control->sts.store, row->policy_domain, &record) == 0 &&
        strcmp(record.id, row->sts_id) == 0)
        policy.sts = &record.policy;
    if (row->token == FAULT_NONE) {
        add(control, row->domain, &policy, NULL, count);
        return;
    }
    const struct outbound_token_row *words = outbound_token_row((enum outbound_token)row->token);
    static const struct net_address none;
    char from[NET_TEXT_MAX] = "";
    char to[NET_TEXT_MAX] = "";
    if (!net_equal(&row->from, &none))
        net_text(&row->from, false, from);
    if (!net_equal(&row->to, &none))
        net_text(&row->to, false, to);
    const struct tlsrpt_failure failure = {
        .result = words->report, .from = from, .host = row->host, .to = to, .reason = words->words
    };
    add(control, row->domain, &policy, &failure, count);
}

static void add_lot(struct control *control, struct tlsrpt_lot *lot)
{
    for (unsigned i = 0; i < lot->count; i++)
        add_row(control, &lot->rows[i], lot->counts[i]);
    tlsrpt_lot_clear(lot);
}

void control_tlsrpt_unfetched(struct control *control, const char *domain,
                              const struct sts_record *record)
{
    const bool holds = sts_record_holds(record, control->shard.steady_us / US_IN_S);
    const struct tlsrpt_policy policy = { .type = TLSRPT_STS,
                                          .domain = domain,
                                          .sts = holds ? &record->policy : NULL };
    const struct tlsrpt_failure failure = {
        .result = sts_failure_name((enum sts_failure)record->failure),
        .from = "",
        .host = "",
        .to = "",
        .reason = record->why,
    };
    add(control, domain, &policy, &failure, 1);
}

/* ---- lots ---- */

static void send_unsent(struct control *control)
{
    struct control_tlsrpt *tlsrpt = &control->tlsrpt;
    while (!list_empty(&tlsrpt->unsent)) {
        struct tlsrpt_lot *lot = container_of(tlsrpt->unsent.next, struct tlsrpt_lot, node);
        const struct handoff handoff = { .kind = HANDOFF_TLSRPT_BACK, .pointer = lot };
        list_remove(&lot->node); /* once handed over it is the shard's */
        if (shard_handoff(&control->shard, lot->from, handoff) == 0)
            continue;
        list_push_front(&tlsrpt->unsent, &lot->node);
        shard_timer_arm(&control->shard, &tlsrpt->unsent_timer, UNSENT_MS);
        return;
    }
}

static void on_lot(struct shard *shard, const struct handoff *handoff)
{
    struct control *control = shard->owner;
    struct tlsrpt_lot *lot = handoff->pointer;
    add_lot(control, lot);
    lot->from = handoff->from;
    list_push(&control->tlsrpt.unsent, &lot->node);
    send_unsent(control);
}

static void on_unsent(struct timer *timer)
{
    send_unsent(container_of(timer, struct control, tlsrpt.unsent_timer));
}

static void commit(struct control *control)
{
    struct control_tlsrpt *tlsrpt = &control->tlsrpt;
    if (tlsrpt->store == NULL)
        return;
    if (tlsrpt->forgot != today(control))
        look_at(control, tlsrpt_store_forget(tlsrpt->store, today(control) - TLSRPT_DAYS + 1));
    tlsrpt->forgot = today(control);
    if (tlsrpt->store == NULL)
        return;
    metric_set(&tlsrpt->records, store_count(tlsrpt->store));
    int r = store_commit(tlsrpt->store);
    look_at(control, r);
    if (r == 0)
        tlsrpt->failing = false;
}

static void on_commit(struct timer *timer)
{
    struct control *control = container_of(timer, struct control, tlsrpt.commit_timer);
    commit(control);
    shard_timer_arm(&control->shard, timer, COMMIT_MS);
}

/* ---- life ---- */

static const struct metric metrics_table[] = {
    { "ringpost_tlsrpt_records", NULL, "Days of domains that reports can be made of", METRIC_GAUGE,
      0, offsetof(struct control_tlsrpt, records) },
    { "ringpost_tlsrpt_dropped_total", NULL, "Records that made room, the oldest", METRIC_COUNTER,
      0, offsetof(struct control_tlsrpt, dropped) },
    { "ringpost_tlsrpt_unkept_total", NULL,
      "Sessions that no report has: their domain has had too many policies that day",
      METRIC_COUNTER, 0, offsetof(struct control_tlsrpt, unkept) },
    { "ringpost_tlsrpt_reports_total", "result=\"sent\"", "Reports, by what became of them",
      METRIC_COUNTER, 0,
      offsetof(struct control_tlsrpt, reports) + TLSRPT_SENT * sizeof(uint64_t) },
    { "ringpost_tlsrpt_reports_total", "result=\"unsent\"", "Reports, by what became of them",
      METRIC_COUNTER, 0,
      offsetof(struct control_tlsrpt, reports) + TLSRPT_UNSENT * sizeof(uint64_t) },
    { "ringpost_tlsrpt_reports_total", "result=\"unwanted\"", "Reports, by what became of them",
      METRIC_COUNTER, 0,
      offsetof(struct control_tlsrpt, reports) + TLSRPT_UNWANTED * sizeof(uint64_t) },
    { "ringpost_tlsrpt_mails_total", "signed=\"yes\"",
      "Reports by mail that were queued, with a DKIM signature or without", METRIC_COUNTER, 0,
      offsetof(struct control_tlsrpt, mails_signed) },
    { "ringpost_tlsrpt_mails_total", "signed=\"no\"",
      "Reports by mail that were queued, with a DKIM signature or without", METRIC_COUNTER, 0,
      offsetof(struct control_tlsrpt, mails_plain) },
    { "ringpost_tlsrpt_errors_total", NULL, "Reads and writes of records that failed",
      METRIC_COUNTER, 0, offsetof(struct control_tlsrpt, errors) },
};

int control_tlsrpt_open(struct control *control, const struct config *config)
{
    struct control_tlsrpt *tlsrpt = &control->tlsrpt;
    list_init(&tlsrpt->unsent);
    timer_init(&tlsrpt->unsent_timer, on_unsent);
    timer_init(&tlsrpt->commit_timer, on_commit);
    int r = control_tlsrpt_send_open(control);
    if (r < 0 || *config->tlsrpt.contact == '\0')
        return r;
    if (*config->tlsrpt.file != '\0')
        snprintf(tlsrpt->path, sizeof(tlsrpt->path), "%s", config->tlsrpt.file);
    else
        snprintf(tlsrpt->path, sizeof(tlsrpt->path), "%s/tlsrpt.mdb", config->spool.directory);
    r = tlsrpt_store_open(tlsrpt->path, config->tlsrpt.records, &tlsrpt->store, &tlsrpt->report);
    if (r < 0)
        fprintf(stderr, "ringpost: reports about TLS %s: %s\n", tlsrpt->path, strerror(-r));
    /* A full disk keeps no mail from being delivered. */
    return r == -ENOSPC || r == -EDQUOT ? 0 : r;
}

int control_tlsrpt_start(struct control *control)
{
    struct control_tlsrpt *tlsrpt = &control->tlsrpt;
    if (*control->config->tlsrpt.contact == '\0')
        return 0;
    if (tlsrpt->report.damaged)
        log_trouble(control, "tlsrpt_damaged", tlsrpt->report.why, tlsrpt->report.aside);
    if (tlsrpt->store == NULL)
        look_at(control, -ENOSPC);
    shard_handle(&control->shard, HANDOFF_TLSRPT, on_lot);
    for (unsigned i = 0; i < control->servers_count; i++) {
        struct server_shard *server = &control->servers[i];
        int r = tlsrpt_shard_init(&server->tlsrpt, &server->shard, control->servers_count);
        if (r < 0)
            return r;
        metrics_add_source(&control->metrics, &server->tlsrpt_source, tlsrpt_metrics,
                           tlsrpt_metrics_count, &server->tlsrpt.numbers, (int)i);
    }
    if (tlsrpt->store != NULL)
        metric_set(&tlsrpt->records, store_count(tlsrpt->store));
    metrics_add_source(&control->metrics, &tlsrpt->source, metrics_table,
                       ARRAY_COUNT(metrics_table), tlsrpt, -1);
    shard_timer_arm(&control->shard, &tlsrpt->commit_timer, COMMIT_MS);
    control_tlsrpt_send_start(control);
    return 0;
}

void control_tlsrpt_stop(struct control *control)
{
    struct control_tlsrpt *tlsrpt = &control->tlsrpt;
    control_tlsrpt_send_stop(control);
    timer_disarm(&control->shard.timers, &tlsrpt->unsent_timer);
    timer_disarm(&control->shard.timers, &tlsrpt->commit_timer);
    /* The threads have ended: whoever had a lot, it is ours now. */
    for (unsigned i = 0; i < control->servers_count; i++) {
        struct tlsrpt_lot *lots = control->servers[i].tlsrpt.lots;
        for (unsigned k = 0; lots != NULL && k < 2; k++)
            add_lot(control, &lots[k]);
    }
    commit(control);
    store_close(tlsrpt->store);
    tlsrpt->store = NULL;
}

/* ---- reports ---- */

int control_tlsrpt_next(struct control *control, struct tlsrpt_key *key,
                        struct tlsrpt_record *record)
{
    struct control_tlsrpt *tlsrpt = &control->tlsrpt;
    int r = tlsrpt->store == NULL ? -ENOENT : tlsrpt_store_next(tlsrpt->store, key, record);
    look_at(control, r);
    return r;
}

void control_tlsrpt_mark(struct control *control, const struct tlsrpt_key *key,
                         enum tlsrpt_state state)
{
    struct control_tlsrpt *tlsrpt = &control->tlsrpt;
    struct tlsrpt_record record = { .policies = NULL };
    unsigned dropped;
    int r = tlsrpt->store == NULL ? -ENOENT : tlsrpt_store_get(tlsrpt->store, key, &record);
    if (r == 0 && json_array_size(record.policies) > 0) {
        record.tries += state == TLSRPT_UNSENT;
        record.state = state;
        r = tlsrpt_store_put(tlsrpt->store, key, &record, &dropped);
    }
    json_decref(record.policies);
    look_at(control, r);
}

json_t *control_tlsrpt_report(struct control *control, const char *domain, const char *day)
{
    struct control_tlsrpt *tlsrpt = &control->tlsrpt;
    const struct config *config = control->config;
    struct tlsrpt_key key = { .day = today(control) };
    struct tlsrpt_record record;
    if (tlsrpt->store == NULL || *domain == '\0' || strlen(domain) >= sizeof(key.domain) ||
        (*day != '\0' && tlsrpt_day_read(day, &key.day) < 0))
        return NULL;
    for (size_t i = 0; domain[i] != '\0'; i++)
        key.domain[i] = (char)ascii_lower((uint8_t)domain[i]);
    int r = tlsrpt_store_get(tlsrpt->store, &key, &record);
    look_at(control, r);
    if (r < 0 || json_array_size(record.policies) == 0) {
        json_decref(record.policies);
        return NULL;
    }
    const struct tlsrpt_head head = {
        .organization = config->tlsrpt.organization,
        .contact = config->tlsrpt.contact,
        .hostname = config->hostname,
        .domain = key.domain,
        .day = key.day,
    };
    return tlsrpt_report(&head, record.policies);
}
