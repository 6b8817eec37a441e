/*
 * deliver.h - from the queue to the next hops and back, for one shard
 *
 *   destination wanted --> next hop (route, addresses) --> client ready --> attempt --> settled
 *
 * A next hop exists while its destination has units or connections. An attempt is one unit on its
 * way: envelope read, transaction, outcomes (and a bounce, if one is due) made durable. A client
 * gets its next message only when the outcome of the last one is durable, so a crash can repeat at
 * most one message for each connection.
 */
#ifndef RINGPOST_MTA_DELIVER_H
#define RINGPOST_MTA_DELIVER_H

#include "mta/connector_count.h"
#include "mta/dane_lookup.h"
#include "mta/generation.h"
#include "mta/outbound_token.h"
#include "mta/queue_orders.h"
#include "mta/resolve.h"
#include "mta/smtp_client.h"
#include "mta/tlsrpt_count.h"
#include "queue/bounce.h"
#include "queue/bounce_limits.h"
#include "queue/queue.h"

/* hop_share.c: who has the shard's connections, and who waits for one. */
struct hop_share {
    struct list waiting[LANE_RANKS]; /* next hops without a connection, by urgency */
    unsigned waiting_count[LANE_RANKS];
    struct list resting; /* connections without a message, the longest so first */
    unsigned holders;    /* next hops that have some */
    unsigned ending;     /* connections, so that others have one */
    unsigned promised;   /* connections, to next hops that look for their addresses */
    bool lacks;          /* the shard's other logs have all clients: until the next tick */
    struct lane_turns turns;
    struct task task;
    struct timer timer;
};

/* hop_aside.c: destinations with mail for which there is no next hop now. */
struct hop_line {
    struct list waiting;
    uint32_t count;
    struct task task;
    struct timer timer;
    uint32_t pushes; /* next hops that may step aside for it, until then */
    uint64_t pushes_until_ms;
};

struct deliver_metrics {
    uint64_t attempts, delivered, deferred, bounced, expired, held, rerouted, bounces_sent,
        bounces_suppressed, bounces_limited, bounces_dropped, reports[BOUNCE_KINDS],
        destination_failures, tls_steps, tls_steps_back, clear_after_failure, by_connector,
        by_default, would, unroutable, too_large, hops_waiting, hops_waited, in_line, links_yielded,
        links_passed;
    struct outbound_token_numbers tokens;
    struct histogram queued_ms; /* from arrival to delivery */
    struct histogram lanes_queued_ms[LANES];
};
extern const struct metric deliver_metrics_table[];
extern const unsigned deliver_metrics_count;

struct deliver {
    struct shard *shard;
    struct queue *queue;
    struct spool *spool;
    struct generations *generations;
    struct smtp_clients *clients;
    struct resolves *resolves;
    struct lease_shard *leases;
    struct tls_shard *tls;
    struct floor_shard *floors;          /* NULL: no memory */
    struct connector_counts *connectors; /* NULL: nothing is counted */
    struct cert_shard *certs;            /* NULL: nobody is told which certificates were shown */
    unsigned shards;                     /* that share bounces a minute */
    struct sts_shard *sts;               /* NULL: no MTA-STS */
    struct tlsrpt_shard *tlsrpt;         /* NULL: no reports about TLS */
    struct queue_orders *orders;         /* the shard's; NULL: none */
    struct danes danes;
    struct pool hops;
    struct pool links;
    struct pool attempts;
    struct pool large;           /* transactions with many recipients */
    unsigned asides;             /* attempts without a connection */
    struct list open;            /* next hops */
    uint64_t hops_full_until_ms; /* none could be forgotten, and none is looked for until then */
    struct hop_share share;
    struct hop_line line;
    struct deliver_metrics metrics;
    struct bounce_limits bounce_limits;
    uint32_t warnings; /* attempts that are none */
    uint32_t switches; /* of the configuration: units are asked for their way again */
    bool draining;
};

/* Next hops in memory at a time, of so many destinations. */
uint32_t deliver_hops_max(uint32_t connections, uint32_t destinations);
/* The most memory that it takes. */
uint64_t deliver_bytes(uint32_t connections, uint32_t destinations);
/* shard to shards are filled in by the caller. connections: out, at the same time. */
[[nodiscard]] int deliver_init(struct deliver *deliver, uint32_t connections);
void deliver_free(struct deliver *deliver);

/* For queue_options; owner is the deliver. */
size_t deliver_route(void *deliver, const struct envelope *envelope,
                     const struct recipient *recipient, char key[static DESTINATION_KEY_MAX]);
void deliver_wanted(void *deliver, struct destination *destination);
bool deliver_unwanted(void *deliver, struct destination *destination);
void deliver_expired(void *deliver, struct unit *unit);
bool deliver_unrecorded(void *attempt);
void deliver_late(void *deliver, struct unit *unit);
uint64_t deliver_age_max(void *deliver, const char *key);

/* A new configuration is current: mail may go elsewhere. */
void deliver_switched(struct deliver *deliver);
/* The operator has decided about a host (as floor memory calls it): mail that it was skipped for
 * goes now. */
void deliver_release(struct deliver *deliver, const char *host);
/* The domain's policy of MTA-STS is another one: mail that was refused by the old one goes now. */
void deliver_sts_changed(struct deliver *deliver, const char *domain);
/* Some connector may be used again (mta/connector_count.h): what waits for it goes. */
void deliver_unblocked(struct deliver *deliver);
/* An operator has ordered something else for mail that waits. */
void deliver_ordered(struct deliver *deliver, struct queue_orders *orders);
/* Is there room for an attempt that an operator wants (mta/queue_job.c)? */
bool deliver_spare(const struct deliver *deliver);
/* No new attempts; connections end when their message is settled. */
void deliver_drain(struct deliver *deliver);
bool deliver_idle(const struct deliver *deliver);

#endif
