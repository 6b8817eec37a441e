/*
 * floor_watch.c - a shard's part of floor memory: copies of records, questions, judgement
 *
 * A copy learns here as the record does at control, so that what is told once is not told again by
 * the next connection; the answer then takes its place. An observation that says nothing new goes
 * to control when the last one is OBSERVE_S old, so records count at most one an hour for each
 * shard.
 *
 * Owns the questions; one that is out is control's until it is back, whatever became of the
 * connection. Bounds: FLOOR_QUESTIONS, FLOOR_CACHE.
 */
#define XXH_INLINE_ALL
#include "mta/floor_watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <xxhash.h>

#include "core/log.h"
#include "mta/server.h"
#include "mta/smtp_client.h"
#include "tls/tls_verify.h"

enum {
    US_IN_S = 1'000'000,
    CACHE_BELIEVED_MS = 60'000, /* changes are told, but may find the way full */
    OBSERVE_S = 3'600,
    TELL_AGAIN_S = 3'600, /* of what is less still, whichever shard told it first */
    SMTP_PORT = 25,
};

struct copy {
    struct tls_lru_entry entry;
    struct floor_name name;
    bool found;
    uint64_t until_ms;
    int64_t told; /* when the log was told that it is less */
    struct floor_record record;
};

static int64_t now_s(const struct floor_shard *floors)
{
    return floors->shard->steady_us / US_IN_S;
}

/* As the wall clock shows it now. */
static int64_t date_s(const struct floor_shard *floors, int64_t at_s)
{
    return shard_date_s(floors->shard, at_s);
}

/* ---- copies ---- */

static struct tls_lru_key copy_key(const struct floor_shard *floors, const struct floor_name *name)
{
    uint8_t bytes[sizeof(XXH128_canonical_t)];
    XXH128_hash_t hash =
        XXH3_128bits_withSeed(name->domain, strlen(name->domain), floors->cache.seed[0]);
    hash = XXH3_128bits_withSeed(name->host, strlen(name->host),
                                 hash.low64 ^ hash.high64 ^ floors->cache.seed[1]);
    XXH128_canonicalFromHash((XXH128_canonical_t *)(void *)bytes, hash);
    return tls_lru_key_of(slice_of(bytes, sizeof(bytes)));
}

static bool name_equal(const struct floor_name *a, const struct floor_name *b)
{
    return strcmp(a->host, b->host) == 0 && strcmp(a->domain, b->domain) == 0;
}

static struct copy *copy_find(struct floor_shard *floors, const struct floor_name *name)
{
    const struct tls_lru_key key = copy_key(floors, name);
    struct tls_lru_entry *entry = tls_lru_find(&floors->cache, &key);
    if (entry == NULL)
        return NULL;
    struct copy *copy = container_of(entry, struct copy, entry);
    if (name_equal(&copy->name, name))
        return copy;
    tls_lru_remove(&floors->cache, entry); /* two names in one place: the later one has it */
    return NULL;
}

static struct copy *copy_put(struct floor_shard *floors, const struct floor_name *name, bool found,
                             const struct floor_record *record)
{
    struct copy *copy = copy_find(floors, name);
    if (copy == NULL) {
        struct tls_lru_entry *oldest = tls_lru_oldest_when_full(&floors->cache);
        if (oldest != NULL)
            tls_lru_remove(&floors->cache, oldest);
        const struct tls_lru_key key = copy_key(floors, name);
        copy = container_of(tls_lru_add(&floors->cache, &key), struct copy, entry);
        copy->name = *name;
        copy->told = 0;
    }
    copy->found = found;
    copy->record = *record;
    copy->until_ms = floors->shard->now_ms + CACHE_BELIEVED_MS;
    return copy;
}

/* ---- questions ---- */

static bool question_send(struct floor_shard *floors, struct floor_question *question)
{
    const struct handoff handoff = { .kind = HANDOFF_FLOOR, .pointer = question };
    if (shard_handoff(floors->shard, floors->control, handoff) == 0)
        return true;
    pool_give(&floors->questions, question);
    return false;
}

static struct floor_question *question_of(const struct floor_watch *watch)
{
    struct floor_question *question = pool_take(&watch->floors->questions);
    if (question == NULL)
        return NULL;
    *question = (struct floor_question) { .name = watch->name, .rules = watch->rules };
    return question;
}

static void on_answer(struct shard *shard, const struct handoff *handoff)
{
    struct server_shard *server = shard->owner;
    struct floor_shard *floors = &server->floors;
    struct floor_question *question = handoff->pointer;
    struct floor_watch *watch = question->watch;
    copy_put(floors, &question->name, question->found, &question->record);
    if (watch != NULL) {
        watch->question = NULL;
        watch->found = question->found;
        watch->record = question->record;
    }
    pool_give(&floors->questions, question);
    if (watch == NULL || !watch->waits)
        return;
    watch->waits = false;
    watch->answered(watch);
}

static void on_change(struct shard *shard, const struct handoff *handoff)
{
    struct server_shard *server = shard->owner;
    struct floor_shard *floors = &server->floors;
    struct floor_change *change = handoff->pointer;
    if (copy_find(floors, &change->name) != NULL)
        copy_put(floors, &change->name, change->found, &change->record);
    if (change->release)
        floors->released(floors->owner, change->name.host);
    free(change);
}

int floor_shard_init(struct floor_shard *floors, struct shard *shard, unsigned control)
{
    int r = pool_init(&floors->questions, "floor questions", sizeof(struct floor_question),
                      FLOOR_QUESTIONS);
    if (r == 0)
        r = tls_lru_init(&floors->cache, "floor records", sizeof(struct copy), FLOOR_CACHE);
    if (r < 0)
        return r;
    floors->control = control;
    floors->shard = shard;
    shard_handle(shard, HANDOFF_FLOOR_ANSWER, on_answer);
    shard_handle(shard, HANDOFF_FLOOR_CHANGED, on_change);
    return 0;
}

void floor_shard_free(struct floor_shard *floors)
{
    pool_free(&floors->questions);
    if (floors->cache.buckets != NULL)
        tls_lru_free(&floors->cache);
    floors->shard = NULL;
}

/* ---- a connection ---- */

void floor_host_text(const char *name, const struct net_address *address,
                     char out[static FLOOR_HOST_MAX])
{
    char text[NET_TEXT_MAX];
    bool with_port = address->port != SMTP_PORT;
    net_text(address, with_port, text);
    if (name == NULL)
        snprintf(out, FLOOR_HOST_MAX, "%s", text);
    else if (with_port)
        snprintf(out, FLOOR_HOST_MAX, "%.255s:%u", name, address->port);
    else
        snprintf(out, FLOOR_HOST_MAX, "%.255s", name);
}

void floor_watch_begin(struct floor_watch *watch, struct floor_shard *floors)
{
    watch->finding = FLOOR_UNASKED;
    if (floors == NULL || floors->shard == NULL || watch->action == FLOOR_OFF)
        return;
    watch->floors = floors;
    const struct copy *copy = copy_find(floors, &watch->name);
    if (copy != NULL) {
        watch->found = copy->found;
        watch->record = copy->record;
    }
    if (copy != NULL && copy->until_ms > floors->shard->now_ms)
        return;
    struct floor_question *question = question_of(watch);
    if (question != NULL) {
        question->watch = watch;
        watch->question = question;
        if (question_send(floors, question))
            return;
    }
    watch->question = NULL;
    watch->unasked = copy == NULL; /* an old one is better than none */
    metric_add(&floors->metrics.unanswered, 1);
}

void floor_watch_end(struct floor_watch *watch)
{
    if (watch->question != NULL)
        watch->question->watch = NULL;
    watch->question = NULL;
    watch->floors = NULL;
}

/* ---- facts ---- */

static uint8_t version_of(const char *text)
{
    return strcmp(text, "TLSv1.3") == 0 ? 13 : strcmp(text, "TLSv1.2") == 0 ? 12 : 10;
}

/* What a resumed session does not say again is as it was. */
static void facts_of(const struct floor_watch *watch, const struct smtp_client *client,
                     struct floor_facts *facts, const struct tls_certificate **leaf)
{
    *facts = (struct floor_facts) { 0 };
    *leaf = NULL;
    if (client == NULL || !client->secured)
        return;
    struct tls_facts tls;
    tls_session_facts(client->connection.tls, &tls);
    const struct floor_facts *before = &watch->record.now;
    facts->dane = tls_client_dane(client->connection.tls) >= TLS_DANE_EE;
    facts->version = version_of(tls.version);
    facts->secrecy = facts->version == 13 || strstr(tls.suite, "DHE") != NULL;
    facts->group = strstr(tls.group, "MLKEM") != NULL ? FLOOR_GROUP_HYBRID
                   : *tls.group != '\0'               ? FLOOR_GROUP_CLASSIC
                   : tls.is_resumed                   ? before->group
                                                      : FLOOR_GROUP_NONE;
    if (tls.peer != NULL) {
        facts->chain = tls.peer->verdict == TLS_VERDICT_VALID;
        facts->name = tls_client_name_ok(client->connection.tls);
        *leaf = &tls.peer->leaf;
    } else if (tls.is_resumed) {
        facts->chain = before->chain;
        facts->name = before->name;
    }
}

/* ---- the log ---- */

static void log_time(struct log_line *line, const char *key, int64_t at)
{
    char text[32];
    struct tm tm;
    const time_t seconds = at;
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&seconds, &tm));
    log_string(line, key, text);
}

static void log_names(struct log_line *line, const struct floor_watch *watch, enum log_level level,
                      const char *event, const char *destination)
{
    const struct shard *shard = watch->floors->shard;
    log_begin(line, shard->log, level, shard->wall_us, event);
    log_string(line, "destination", destination);
    log_string(line, "host", watch->name.host);
    if (watch->name.domain[0] != '\0')
        log_string(line, "domain", watch->name.domain);
}

static void log_less(const struct floor_watch *watch, const struct floor_record *before,
                     const struct floor_facts *facts, unsigned less, enum floor_action action,
                     const char *destination)
{
    struct log_line line;
    char words[FLOOR_TEXT_MAX];
    log_names(&line, watch, LOG_WARNING, "downgrade", destination);
    floor_less_text(less, words);
    log_string(&line, "less", words);
    floor_facts_text(&before->best, words);
    log_string(&line, "was", words);
    floor_facts_text(facts, words);
    log_string(&line, "is", words);
    log_time(&line, "since", date_s(watch->floors, before->best_first));
    log_time(&line, "last", date_s(watch->floors, before->best_last));
    log_string(&line, "action", floor_action_names[action]);
    log_end(&line);
}

static void log_others(const struct floor_watch *watch, unsigned events, const char *was_issuer,
                       const char *issuer, const char *destination)
{
    struct log_line line;
    if (events & 1U << FLOOR_EVENT_BACK) {
        log_names(&line, watch, LOG_INFO, "downgrade_over", destination);
        log_end(&line);
    }
    if (events & 1U << FLOOR_EVENT_ISSUER) {
        log_names(&line, watch, LOG_INFO, "issuer_changed", destination);
        log_string(&line, "was", was_issuer);
        log_string(&line, "is", issuer);
        log_end(&line);
    }
}

/* ---- judgement ---- */

static void tell_control(const struct floor_watch *watch, const struct floor_facts *facts,
                         const struct tls_certificate *leaf, bool relearn)
{
    struct floor_shard *floors = watch->floors;
    struct floor_question *question = question_of(watch);
    if (question != NULL) {
        question->observed = true;
        question->relearn = relearn;
        question->facts = *facts;
        snprintf(question->issuer, sizeof(question->issuer), "%s",
                 leaf == NULL ? "" : leaf->issuer);
        question->expires = leaf == NULL ? 0 : leaf->not_after;
        if (question_send(floors, question))
            return;
    }
    metric_add(&floors->metrics.unanswered, 1); /* one observation fewer */
}

static void say_why(const struct floor_record *record, const struct floor_facts *facts,
                    char why[static FLOOR_WHY_MAX])
{
    char was[FLOOR_TEXT_MAX];
    char is[FLOOR_TEXT_MAX];
    floor_facts_text(&record->best, was);
    floor_facts_text(facts, is);
    snprintf(why, FLOOR_WHY_MAX, "4.7.0 less than remembered: was %.60s; is %.60s", was, is);
}

enum floor_judgement floor_watch_judge(struct floor_watch *watch, const struct smtp_client *client,
                                       const char *destination, char why[static FLOOR_WHY_MAX])
{
    struct floor_shard *floors = watch->floors;
    if (floors == NULL)
        return FLOOR_PASS;
    if (watch->question != NULL) {
        watch->waits = true;
        return FLOOR_WAIT;
    }
    if (watch->unasked) {
        snprintf(why, FLOOR_WHY_MAX, "4.3.2 the floor memory cannot be asked now");
        return watch->action < FLOOR_DEFER ? FLOOR_PASS : FLOOR_REFUSE;
    }
    const int64_t now = now_s(floors);
    const struct floor_record before = watch->record;
    struct floor_record *record = &watch->record;
    struct floor_facts facts;
    const struct tls_certificate *leaf;
    facts_of(watch, client, &facts, &leaf);
    const char *issuer = leaf == NULL ? "" : leaf->issuer;
    const unsigned less = floor_compare(&before, &facts, issuer, now, &watch->rules);
    const enum floor_way way = floor_way(&before, watch->action, less, now, &watch->rules);
    watch->finding = floor_finding(&before, &facts, less, now, &watch->rules);
    if (way == FLOOR_GO_RELEARN)
        floor_relearn(record, now);
    const unsigned events = floor_learn(record, &facts, issuer, now, &watch->rules);
    const int64_t rare = MIN((int64_t)OBSERVE_S, watch->rules.learn_s / watch->rules.learn_count);
    bool same = memcmp(&facts, &before.now, sizeof(facts)) == 0;
    if (!watch->found || !same || events != 0 || way == FLOOR_GO_RELEARN ||
        now - before.last >= rare)
        tell_control(watch, &facts, leaf, way == FLOOR_GO_RELEARN);
    else
        *record = before;
    metric_add(&floors->metrics.observations, 1);
    struct copy *copy = copy_put(floors, &watch->name, true, record);
    log_others(watch, events, before.issuer, issuer, destination);
    if ((less & FLOOR_LESS_ANY) == 0)
        return FLOOR_PASS;
    enum floor_action action = way == FLOOR_GO_RELEARN ? FLOOR_ALERT : watch->action;
    metric_add(&floors->metrics.regressions[action], 1);
    if (watch->row != NULL)
        connector_count(&watch->row->traffic, &watch->row->regressions[action], 1);
    bool news = way == FLOOR_GO_RELEARN || (events & 1U << FLOOR_EVENT_LESS) != 0;
    if (action != FLOOR_OBSERVE &&
        (news || now - MAX(copy->told, before.less_since) >= TELL_AGAIN_S)) {
        copy->told = now;
        log_less(watch, &before, &facts, less & FLOOR_LESS_ANY, action, destination);
    }
    say_why(&before, &facts, why);
    return way == FLOOR_SKIP ? FLOOR_REFUSE : FLOOR_PASS;
}

/* ---- numbers ---- */

#define FLOOR_REGRESSIONS(word, action)                                                            \
    {                                                                                              \
        "ringpost_floor_regressions_total", "action=\"" word "\"",                                 \
            "Connections that offered less than is remembered, by what followed", METRIC_COUNTER,  \
            0, offsetof(struct floor_watch_metrics, regressions) + (action) * sizeof(uint64_t)     \
    }

const struct metric floor_watch_metrics_table[] = {
    { "ringpost_floor_observations_total", NULL, "Connections that were compared with the memory",
      METRIC_COUNTER, 0, offsetof(struct floor_watch_metrics, observations) },
    FLOOR_REGRESSIONS("observe", FLOOR_OBSERVE),
    FLOOR_REGRESSIONS("alert", FLOOR_ALERT),
    FLOOR_REGRESSIONS("defer", FLOOR_DEFER),
    FLOOR_REGRESSIONS("hold", FLOOR_HOLD),
    { "ringpost_floor_unanswered_total", NULL,
      "Connections and observations that the memory could not be asked for, or told of",
      METRIC_COUNTER, 0, offsetof(struct floor_watch_metrics, unanswered) },
};
const unsigned floor_watch_metrics_count = ARRAY_COUNT(floor_watch_metrics_table);
