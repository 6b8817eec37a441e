/*
 * sts_watch.h - MTA-STS as a shard sees it: what a domain demands, asked before connecting
 *
 *   sts_watch_ask --copy--> known
 *        '--question to control--> ASKED --answer--> answered(): ask again
 *
 * Policies are control's (mta/control_sts.c), which asks DNS and fetches. A shard keeps copies of
 * those it has used last. A next hop is not connected to before its domain's policy is known or
 * known not to be had; control answers in bounded time, and one domain's delay is no other's.
 */
#ifndef RINGPOST_MTA_STS_WATCH_H
#define RINGPOST_MTA_STS_WATCH_H

#include "core/metrics.h"
#include "core/pool.h"
#include "core/shard.h"
#include "mta/sts_store.h"
#include "tls/tls_lru.h"

enum {
    STS_QUESTIONS = 1'000, /* of a shard that are out; more wait */
    STS_CACHE = 1'024,     /* domains that a shard has copies of */
};
static_assert((int)STS_QUESTIONS < (int)HANDOFFS_MAX);

struct sts_watch;

/* Goes to control by HANDOFF_STS, and comes back by HANDOFF_STS_ANSWER. */
struct sts_question {
    struct list node; /* control's, as is since_ms */
    uint64_t since_ms;
    unsigned from;           /* shard; filled in by control */
    struct sts_watch *watch; /* who waits for it; NULL: nobody, or not any more */
    char domain[STS_DOMAIN_MAX];
    bool failed; /* a host was refused by the policy: is there a newer one? */
    /* answered */
    struct sts_record record; /* without a policy that holds: there is none */
};

/* From control to all shards, by HANDOFF_STS_CHANGED; malloc'd, freed by who gets it. */
struct sts_change {
    char domain[STS_DOMAIN_MAX];
    struct sts_record record;
};

struct sts_watch_metrics {
    uint64_t asked, waited, connections[STS_MODES], refused, testing_failures;
};
extern const struct metric sts_watch_metrics_table[];
extern const unsigned sts_watch_metrics_count;

/* One per shard; all zero: there is no MTA-STS. */
struct sts_shard {
    struct shard *shard;
    unsigned control; /* index of its shard */
    struct pool questions;
    struct tls_lru cache;
    struct list unasked; /* watches, while there is no question to be had */
    struct timer timer;
    struct sts_watch_metrics metrics;
    void *owner;
    void (*changed)(void *owner, const char *domain); /* its policy is another one */
};

/* In a next hop; all zero: idle. */
struct sts_watch {
    struct sts_shard *sts; /* NULL: idle */
    struct sts_question *question;
    struct list node; /* of unasked */
    char domain[STS_DOMAIN_MAX];
    void (*answered)(struct sts_watch *watch);
};

/* What a domain demands of one host. */
struct sts_facts {
    const char *domain; /* whose policy it is; the asker's text */
    enum sts_mode mode; /* NONE also: it says nothing */
    bool lists;         /* this host */
    int64_t fetched;    /* 0: there is no policy */
    char id[STS_ID_MAX];
};

[[nodiscard]] int sts_shard_init(struct sts_shard *sts, struct shard *shard, unsigned control);
void sts_shard_free(struct sts_shard *sts); /* harmless when init has not run */

/* True: facts are filled in. False: answered() comes, never from in here; ask again then. */
[[nodiscard]] bool sts_watch_ask(struct sts_watch *watch, struct sts_shard *sts, const char *domain,
                                 const char *host, struct sts_facts *facts);
/* answered() does not come any more. Harmless at any time. */
void sts_watch_end(struct sts_watch *watch);
/* A host was refused by the domain's policy: control looks for a newer one (RFC 8461 5.1). */
void sts_watch_refused(struct sts_shard *sts, const char *domain);

#endif
