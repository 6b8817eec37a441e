/*
 * sts_watch.c - a shard's part of MTA-STS: copies of policies, and questions
 *
 * Owns the questions; one that is out is control's until it is back, whatever became of the next
 * hop. A watch without a question waits in a list, and gets the next one that is free. Bounds:
 * STS_QUESTIONS, STS_CACHE; waiting watches are in next hops, of which there are so many.
 */
#define XXH_INLINE_ALL
#include "mta/sts_watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "mta/server.h"

enum {
    US_IN_S = 1'000'000,
    CACHE_BELIEVED_MS = 60'000, /* changes are told, but may find the way full */
    RETRY_MS = 20,
};

struct copy {
    struct tls_lru_entry entry;
    uint64_t until_ms;
    char domain[STS_DOMAIN_MAX];
    struct sts_record record;
};

/* ---- copies ---- */

static struct tls_lru_key copy_key(const struct sts_shard *sts, const char *domain)
{
    uint8_t bytes[sizeof(XXH128_canonical_t)];
    const XXH128_hash_t hash = XXH3_128bits_withSeed(domain, strlen(domain), sts->cache.seed[0]);
    XXH128_canonicalFromHash((XXH128_canonical_t *)(void *)bytes, hash);
    return tls_lru_key_of(slice_of(bytes, sizeof(bytes)));
}

static struct copy *copy_find(struct sts_shard *sts, const char *domain)
{
    const struct tls_lru_key key = copy_key(sts, domain);
    struct tls_lru_entry *entry = tls_lru_find(&sts->cache, &key);
    if (entry == NULL)
        return NULL;
    struct copy *copy = container_of(entry, struct copy, entry);
    if (strcmp(copy->domain, domain) == 0)
        return copy;
    tls_lru_remove(&sts->cache, entry); /* two names in one place: the later one has it */
    return NULL;
}

static void copy_put(struct sts_shard *sts, const char *domain, const struct sts_record *record)
{
    struct copy *copy = copy_find(sts, domain);
    if (copy == NULL) {
        struct tls_lru_entry *oldest = tls_lru_oldest_when_full(&sts->cache);
        if (oldest != NULL)
            tls_lru_remove(&sts->cache, oldest);
        const struct tls_lru_key key = copy_key(sts, domain);
        copy = container_of(tls_lru_add(&sts->cache, &key), struct copy, entry);
        snprintf(copy->domain, sizeof(copy->domain), "%s", domain);
    }
    copy->record = *record;
    copy->until_ms = sts->shard->now_ms + CACHE_BELIEVED_MS;
}

/* ---- questions ---- */

static struct sts_question *question_send(struct sts_shard *sts, const char *domain,
                                          struct sts_watch *watch)
{
    struct sts_question *question = pool_take(&sts->questions);
    if (question == NULL)
        return NULL;
    *question = (struct sts_question) { .watch = watch, .failed = watch == NULL };
    snprintf(question->domain, sizeof(question->domain), "%s", domain);
    const struct handoff handoff = { .kind = HANDOFF_STS, .pointer = question };
    if (shard_handoff(sts->shard, sts->control, handoff) == 0)
        return question;
    pool_give(&sts->questions, question);
    return NULL;
}

static void send_unasked(struct sts_shard *sts)
{
    while (!list_empty(&sts->unasked)) {
        struct sts_watch *watch = container_of(sts->unasked.next, struct sts_watch, node);
        watch->question = question_send(sts, watch->domain, watch);
        if (watch->question == NULL) {
            shard_timer_arm(sts->shard, &sts->timer, RETRY_MS);
            return;
        }
        list_remove(&watch->node);
    }
}

static void on_timer(struct timer *timer)
{
    send_unasked(container_of(timer, struct sts_shard, timer));
}

static void on_answer(struct shard *shard, const struct handoff *handoff)
{
    struct server_shard *server = shard->owner;
    struct sts_shard *sts = &server->sts;
    struct sts_question *question = handoff->pointer;
    struct sts_watch *watch = question->watch;
    copy_put(sts, question->domain, &question->record);
    pool_give(&sts->questions, question);
    send_unasked(sts);
    if (watch == NULL)
        return;
    watch->question = NULL;
    watch->sts = NULL;
    watch->answered(watch);
}

static void on_change(struct shard *shard, const struct handoff *handoff)
{
    struct server_shard *server = shard->owner;
    struct sts_change *change = handoff->pointer;
    if (copy_find(&server->sts, change->domain) != NULL)
        copy_put(&server->sts, change->domain, &change->record);
    server->sts.changed(server->sts.owner, change->domain);
    free(change);
}

int sts_shard_init(struct sts_shard *sts, struct shard *shard, unsigned control)
{
    int r = pool_init(&sts->questions, "sts questions", sizeof(struct sts_question), STS_QUESTIONS);
    if (r == 0)
        r = tls_lru_init(&sts->cache, "sts policies", sizeof(struct copy), STS_CACHE);
    if (r < 0)
        return r;
    list_init(&sts->unasked);
    timer_init(&sts->timer, on_timer);
    sts->control = control;
    sts->shard = shard;
    shard_handle(shard, HANDOFF_STS_ANSWER, on_answer);
    shard_handle(shard, HANDOFF_STS_CHANGED, on_change);
    return 0;
}

void sts_shard_free(struct sts_shard *sts)
{
    if (sts->shard != NULL)
        timer_disarm(&sts->shard->timers, &sts->timer);
    pool_free(&sts->questions);
    if (sts->cache.buckets != NULL)
        tls_lru_free(&sts->cache);
    sts->shard = NULL;
}

/* ---- a next hop ---- */

bool sts_watch_ask(struct sts_watch *watch, struct sts_shard *sts, const char *domain,
                   const char *host, struct sts_facts *facts)
{
    *facts = (struct sts_facts) { .domain = domain, .mode = STS_MODE_NONE };
    if (sts == NULL || sts->shard == NULL)
        return true;
    const struct copy *copy = copy_find(sts, domain);
    if (copy != NULL && copy->until_ms > sts->shard->now_ms) {
        const struct sts_record *record = &copy->record;
        if (!sts_record_holds(record, sts->shard->steady_us / US_IN_S))
            return true;
        facts->mode = (enum sts_mode)record->policy.mode;
        facts->lists = sts_policy_lists(&record->policy, host);
        facts->fetched = record->fetched;
        memcpy(facts->id, record->id, sizeof(facts->id));
        return true;
    }
    if (watch->sts != NULL && strcmp(watch->domain, domain) == 0)
        return false; /* it is asked for already */
    sts_watch_end(watch);
    watch->sts = sts;
    snprintf(watch->domain, sizeof(watch->domain), "%s", domain);
    metric_add(&sts->metrics.asked, 1);
    watch->question = list_empty(&sts->unasked) ? question_send(sts, domain, watch) : NULL;
    list_init(&watch->node);
    if (watch->question == NULL) {
        metric_add(&sts->metrics.waited, 1);
        list_push(&sts->unasked, &watch->node);
        shard_timer_arm(sts->shard, &sts->timer, RETRY_MS);
    }
    return false;
}

void sts_watch_end(struct sts_watch *watch)
{
    if (watch->sts == NULL)
        return;
    list_remove(&watch->node);
    if (watch->question != NULL)
        watch->question->watch = NULL;
    watch->question = NULL;
    watch->sts = NULL;
}

void sts_watch_refused(struct sts_shard *sts, const char *domain)
{
    if (sts == NULL || sts->shard == NULL)
        return;
    metric_add(&sts->metrics.refused, 1);
    (void)question_send(sts, domain, NULL); /* if not now, then after the next refusal */
}

/* ---- numbers ---- */

#define STS_CONNECTIONS(word, mode)                                                                \
    {                                                                                              \
        "ringpost_sts_connections_total", "policy=\"" word "\"",                                   \
            "Connections to hosts by the mode of their domain's MTA-STS policy", METRIC_COUNTER,   \
            0, offsetof(struct sts_watch_metrics, connections) + (mode) * sizeof(uint64_t)         \
    }

const struct metric sts_watch_metrics_table[] = {
    STS_CONNECTIONS("none", STS_MODE_NONE),
    STS_CONNECTIONS("testing", STS_MODE_TESTING),
    STS_CONNECTIONS("enforce", STS_MODE_ENFORCE),
    { "ringpost_sts_refused_total", NULL, "Hosts that got no mail by a policy of MTA-STS",
      METRIC_COUNTER, 0, offsetof(struct sts_watch_metrics, refused) },
    { "ringpost_sts_testing_failures_total", NULL,
      "Hosts that would have got no mail, were the policy not in testing", METRIC_COUNTER, 0,
      offsetof(struct sts_watch_metrics, testing_failures) },
    { "ringpost_sts_questions_total", NULL, "Policies that a shard asked control for",
      METRIC_COUNTER, 0, offsetof(struct sts_watch_metrics, asked) },
    { "ringpost_sts_questions_waited_total", NULL, "Of these, that had to wait for their turn",
      METRIC_COUNTER, 0, offsetof(struct sts_watch_metrics, waited) },
};
const unsigned sts_watch_metrics_count = ARRAY_COUNT(sts_watch_metrics_table);
