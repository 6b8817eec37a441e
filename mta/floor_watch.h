/*
 * floor_watch.h - floor memory as a shard sees it: asked before a connection, judged before its
 * mail
 *
 *   floor_watch_begin --cached--> ANSWERED --floor_watch_judge--> go, or skip this host
 *        '--question to control--> ASKED --answer--> ANSWERED, answered()
 *
 * The records are control's (mta/control_floor.c). A shard keeps copies of those it has used last,
 * and asks for others while the connection comes about, so that the answer is there when it is
 * wanted. A connection that is ready first waits for it; nothing else does.
 *
 * What cannot be asked (all questions are out) is unknown: mail goes where the memory would only
 * have told of it, and is tried later where it might have held it back.
 */
#ifndef RINGPOST_MTA_FLOOR_WATCH_H
#define RINGPOST_MTA_FLOOR_WATCH_H

#include "core/metrics.h"
#include "core/net.h"
#include "core/pool.h"
#include "core/shard.h"
#include "mta/connector_count.h"
#include "mta/floor.h"
#include "tls/tls_lru.h"

enum {
    FLOOR_QUESTIONS = 512, /* of a shard that are out */
    FLOOR_CACHE = 4'096,   /* records that a shard has copies of */
    FLOOR_WHY_MAX = 192,
};
static_assert((int)FLOOR_QUESTIONS < (int)HANDOFFS_MAX);

struct floor_name {
    char host[FLOOR_HOST_MAX];
    char domain[FLOOR_DOMAIN_MAX]; /* "": of a route with hosts of its own, all domains */
};

struct floor_watch;

/* Goes to control by HANDOFF_FLOOR, and comes back by HANDOFF_FLOOR_ANSWER. */
struct floor_question {
    struct list node;          /* control's, while the way back is full */
    unsigned from;             /* shard; filled in by control */
    struct floor_watch *watch; /* who waits for it; NULL: nobody, or not any more */
    struct floor_name name;
    bool observed; /* facts and issuer are to be learned; else only asked for */
    bool relearn;  /* and what was best is forgotten before */
    struct floor_facts facts;
    char issuer[FLOOR_ISSUER_MAX];
    int64_t expires;
    struct floor_rules rules;
    /* answered */
    bool found;
    struct floor_record record;
};

/* From control to all shards, by HANDOFF_FLOOR_CHANGED; malloc'd, freed by who gets it. */
struct floor_change {
    struct floor_name name;
    bool found;   /* false: it is erased */
    bool release; /* mail that waits for this host goes now */
    struct floor_record record;
};

struct floor_watch_metrics {
    uint64_t observations, unanswered;
    uint64_t regressions[FLOOR_ACTIONS]; /* by what followed; OFF is not counted */
};
extern const struct metric floor_watch_metrics_table[];
extern const unsigned floor_watch_metrics_count;

/* One per shard; all zero: there is no memory. */
struct floor_shard {
    struct shard *shard;
    unsigned control; /* index of its shard */
    struct pool questions;
    struct tls_lru cache;
    struct floor_watch_metrics metrics;
    void *owner;
    void (*released)(void *owner, const char *host);
};

/* In a connection. */
struct floor_watch {
    struct floor_shard *floors; /* NULL: nothing is remembered of it */
    struct floor_question *question;
    enum floor_action action;
    enum floor_finding finding; /* of floor_watch_judge; UNASKED before */
    bool unasked;               /* it could not be asked */
    bool waits;                 /* answered() is due */
    bool found;
    struct floor_name name;
    struct floor_rules rules;
    struct floor_record record;
    struct connector_out_row *row; /* of its connector, or NULL: where less is counted too */
    void (*answered)(struct floor_watch *watch);
};

struct smtp_client;

[[nodiscard]] int floor_shard_init(struct floor_shard *floors, struct shard *shard,
                                   unsigned control);
void floor_shard_free(struct floor_shard *floors); /* harmless when init has not run */

/* How the memory calls a host: by its name, or its address where it has none; with the port unless
 * that is 25. */
void floor_host_text(const char *name, const struct net_address *address,
                     char out[static FLOOR_HOST_MAX]);

/* name, action, rules and answered are filled in; floors may be NULL or without memory. */
void floor_watch_begin(struct floor_watch *watch, struct floor_shard *floors);

enum floor_judgement {
    FLOOR_PASS,
    FLOOR_REFUSE, /* this host gets no mail now; why */
    FLOOR_WAIT,   /* answered() comes */
};
/* The connection has the protection that it will have: client is past EHLO, or NULL: TLS is missing
 * and the mail would not go without it anyway. Learns it, counts and logs what is less. destination
 * is for the log. */
enum floor_judgement floor_watch_judge(struct floor_watch *watch, const struct smtp_client *client,
                                       const char *destination, char why[static FLOOR_WHY_MAX]);
/* Harmless at any time; answered() does not come any more. */
void floor_watch_end(struct floor_watch *watch);

#endif
