/*
 * smtp_server.h - the inbound side: one session per connection, one service per shard
 *
 * The service has all that the sessions of a shard share. A session begins with a raw socket that
 * was admitted (mta/listener.c) and ends by itself; smtp_service_drain asks all to end after their
 * transaction.
 */
#ifndef RINGPOST_MTA_SMTP_SERVER_H
#define RINGPOST_MTA_SMTP_SERVER_H

#include "core/histogram.h"
#include "core/metrics.h"
#include "mta/connection.h"
#include "mta/connector_count.h"
#include "mta/generation.h"
#include "mta/inbound.h"
#include "mta/limits.h"
#include "mta/policy.h"
#include "mta/smtp_reply.h"
#include "queue/bounce.h"
#include "queue/spool.h"

enum {
    SMTP_RECIPIENTS_SMALL = 8,     /* kept in the transaction itself */
    SMTP_TEXT_SMALL = 2'048,       /* bytes of addresses kept there */
    SMTP_TEXT_LARGE = 1 << 20,     /* bytes of addresses of a large transaction */
    SMTP_LARGE_TRANSACTIONS = 256, /* of those at the same time in a shard, at most */
    SMTP_HELO_BYTES = 256,
    SMTP_ID_TEXT = 14,      /* 13 characters of a message id and a terminator */
    SMTP_DECISION_TEXT = 8, /* 7 of a decision's */
};

struct smtp_server_metrics {
    uint64_t connections, connections_open, refused_shard, refused_address, refused_network,
        refused_rate, refused_drain, refused_memory, refused_short;
    uint64_t messages, bytes, recipients, copies, commands, bad_commands;
    uint64_t refused_relay, refused_size, refused_newline, refused_nul, refused_loop,
        refused_fleet_loop, refused_space, refused_failed, refused_syntax, refused_line,
        refused_8bit, refused_recipients;
    uint64_t tls_injected, tls_failed, tls_busy, tls_displaced, tls_demanded;
    uint64_t own_senders, candidates_dropped;
    uint64_t status_unknown; /* of certificates that were taken all the same */
    uint64_t header_lacking, fields_removed, requiretls, tls_optional;
    uint64_t early_talk, early_content, http, timeouts, slow, hogs, cut, proxy_bad, aborted;
    struct histogram accept_us; /* end of data to the 250 */
};
extern const struct metric smtp_server_metrics_table[];
extern const unsigned smtp_server_metrics_count;

struct smtp_service {
    struct shard *shard;
    struct connection_pools *pools;
    struct generations *generations;
    struct limits *limits;
    struct connector_counts *connectors; /* NULL: nothing is counted */
    struct cert_shard *certs;            /* NULL: nobody is told which certificates were shown */
    struct spool *spool;
    void *owner;
    /* Room for one more recipient in the queue; given back by unroom, or used up by accepted. */
    bool (*room)(void *owner);
    void (*unroom)(void *owner, uint32_t recipients);
    /* The message is durable and ours; called before its 250 is sent. Slices live for the call. */
    void (*accepted)(void *owner, const struct stored *stored, const struct envelope *envelope);
    struct pool sessions;
    struct pool transactions;
    struct pool large;
    struct list open;    /* sessions */
    struct list shaking; /* sessions in a handshake, the longest so first */
    uint32_t handshakes; /* how many */
    struct smtp_server_metrics metrics;
    int64_t date_second; /* what date tells; made once a second */
    uint8_t date_size;
    char date[BOUNCE_DATE_MAX];
    bool draining;
    const uint64_t *memory_short; /* not 0: no mail is taken; NULL: nobody looks */
};

/* The process has more memory than it may. */
static inline bool smtp_service_is_short(const struct smtp_service *service)
{
    return service->memory_short != NULL && metric_get(service->memory_short) != 0;
}

/* The most memory that it takes for so many. */
uint64_t smtp_service_bytes(uint32_t sessions);
/* shard, pools, generations, limits, spool, accepted and owner are filled in by the caller.
 * sessions: at the same time. 0 or -ENOMEM. */
[[nodiscard]] int smtp_service_init(struct smtp_service *service, uint32_t sessions);
void smtp_service_free(struct smtp_service *service);
/* Idle sessions get a 421 now, the others after their transaction. */
void smtp_service_drain(struct smtp_service *service);

/* A session on a socket that limits_open admitted for peer; or, with a refusal (SMTP_REPLIES:
 * none), one that only says so and ends, and is not counted. On -ENOMEM or an errno of the ring the
 * caller keeps the raw socket and its place in the limits. */
[[nodiscard]] int smtp_server_open(struct smtp_service *service, unsigned listener, int raw,
                                   const struct net_address *peer, const struct net_address *local,
                                   enum smtp_reply_id refusal);

/* 13 characters base32 (Crockford), for logs, replies and Received. */
void smtp_id_text(uint64_t id, char out[static SMTP_ID_TEXT]);
/* The id of a message as the 250 has it, in either case. 0 or -EINVAL. */
[[nodiscard]] int smtp_id_read(struct slice text, uint64_t *id);

/* What ties a reply, its line in the log and `explain` together (CONNECTORS 14): the same facts
 * under the same generation give the same id. */
struct config;
uint32_t smtp_decision_id(const struct config *config, const struct inbound_session *session,
                          struct slice sender, struct slice recipient);
void smtp_decision_text(uint32_t decision, char out[static SMTP_DECISION_TEXT]);

#endif
