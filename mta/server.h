/*
 * server.h - all that one shard of the mail server has, put together on whatever ring it is given
 *
 *   server_shard_init -> server_shard_listen -> server_shard_open (recovers the logs) -> the loop
 *     -> server_shard_drain -> server_shard_drained() -> server_shard_close
 *
 * No threads in here: core threads (mta/control.c) and the simulator run the same shards. The first
 * log of a shard takes new mail; further ones (left by a run with more shards) are only emptied.
 */
#ifndef RINGPOST_MTA_SERVER_H
#define RINGPOST_MTA_SERVER_H

#include "core/dns.h"
#include "mta/cert_watch.h"
#include "mta/config.h"
#include "mta/deliver.h"
#include "mta/floor_watch.h"
#include "mta/lease_shard.h"
#include "mta/queue_count.h"
#include "mta/smtp_server.h"
#include "mta/sts_watch.h"
#include "tls/tls_shard.h"

enum {
    SERVER_LOGS_MAX = SHARDS_MAX, /* of one shard */
    SERVER_SOCKETS_MAX = 256,     /* listening sockets of one shard */
    SERVER_PATH_MAX = 1'024,
    SERVER_REFUSALS = 64, /* sessions that only say 421 */
    SERVER_RECV_BUFFERS = 512,
    SERVER_RECV_BUFFER_BYTES = 16'384,
    SERVER_RING_ENTRIES = 4'096,
    SERVER_RESOLVES_MAX = 256,
};

/* Handoffs between shards and control. */
enum server_handoff {
    HANDOFF_SOCKET,       /* number: raw socket | listener << 32 */
    HANDOFF_CONFIG,       /* pointer: a new generation */
    HANDOFF_CONFIG_TAKEN, /* to control; number: 0 or an errno */
    HANDOFF_CONFIG_FREE,  /* to control: this shard has no use for it any more */
    HANDOFF_DRAIN,
    HANDOFF_DRAINED, /* to control */
    HANDOFF_ASK,     /* to a shard: pointer: struct server_question; answered in place */
    HANDOFF_ANSWERED,
    HANDOFF_DNS_ASK,
    HANDOFF_DNS_ANSWER,
    HANDOFF_TICKETS, /* pointer: struct tls_ticket_keys, wiped and freed by who gets it */
    HANDOFF_FLOOR,   /* to control: pointer: struct floor_question; answered in place */
    HANDOFF_FLOOR_ANSWER,
    HANDOFF_FLOOR_CHANGED, /* to a shard: pointer: struct floor_change, freed by who gets it */
    HANDOFF_CERTIFICATE,   /* to control: pointer: struct cert_shown, freed by who gets it */
    HANDOFF_CRL_WANTED,    /* to control: pointer: struct tls_crl_pointer, freed by who gets it */
    HANDOFF_CRLS,          /* to a shard: pointer: struct tls_crls, a reference */
    HANDOFF_STS,           /* to control: pointer: struct sts_question; answered in place */
    HANDOFF_STS_ANSWER,
    HANDOFF_STS_CHANGED, /* to a shard: pointer: struct sts_change, freed by who gets it */
    HANDOFF_UNBLOCKED,   /* to a shard: mail of some outbound connector may go again */
    HANDOFF_TLSRPT,      /* to control: pointer: struct tlsrpt_lot, which comes back empty */
    HANDOFF_TLSRPT_BACK,
    HANDOFF_CENSUS, /* to a shard: pointer: struct reload_census; answered in place */
    HANDOFF_COUNTED,
    HANDOFF_JOB, /* to a shard: pointer: struct queue_part; number of its state when it is told: */
    HANDOFF_JOB_TOLD,
    HANDOFF_WIRE, /* to a shard: pointer: struct wire_watch; number: 0 look on, 1 no more */
    HANDOFF_TOP,  /* to a shard: pointer: struct queue_top_question; answered in place */
    HANDOFF_TOP_TOLD,
    HANDOFF_ORDERS, /* to a shard: pointer: struct queue_orders, a reference */
    HANDOFF_LEASE,  /* between shards: pointer: struct lease_message, which comes back empty */
    HANDOFF_LEASE_BACK,
    HANDOFF_ABUSE, /* to control; number: slot of an inbound connector over its abuse-limit */
    HANDOFF_MAIL,  /* to a shard: pointer: struct own_mail; answered in place */
    HANDOFF_MAILED,
    HANDOFF_PROBE, /* to a shard: pointer: struct outbound_probe; answered in place */
    HANDOFF_PROBED,
};

/* One log with its queue and deliveries. */
struct server_log {
    struct server_shard *server;
    struct spool *spool;
    struct queue queue;
    struct deliver deliver;
    struct recovery_report report;
    struct task start; /* looks for what is ready after a start */
    uint32_t started;  /* so much of the queue's table of destinations has been looked at */
    uint64_t balance;  /* exported */
    struct metrics_source sources[7];
    char directory[SERVER_PATH_MAX];
    bool open;
};

struct server_socket {
    struct server_shard *server;
    struct op accept;
    struct timer timer; /* when accepting has to pause (-EMFILE) */
    int socket;
    unsigned listener; /* index in the configuration */
};

struct server_shard {
    struct shard shard;
    const struct config *first; /* what it was started with */
    struct connection_pools pools;
    struct generations generations;
    struct limits *limits;
    struct connector_counts connectors;
    struct dns dns;
    struct smtp_clients clients;
    struct resolves resolves;
    struct smtp_service service;
    struct server_log *logs;
    unsigned logs_count;
    struct server_socket *sockets;
    unsigned sockets_count;
    struct hook hook;
    struct queue_orders *orders; /* of operators; NULL: none; set by control before the logs open */
    struct list parts;           /* of operators' verbs that are under way (mta/queue_job.h) */
    struct tls_shard tls;
    struct tls_client_cache tls_sessions;
    struct tls_hosts tls_hosts;
    struct floor_shard floors;  /* attached by control, mta/control_floor.c */
    struct cert_shard certs;    /* likewise, mta/control_certificates.c */
    struct sts_shard sts;       /* likewise, mta/control_sts.c */
    struct tlsrpt_shard tlsrpt; /* likewise, mta/control_tlsrpt.c */
    struct metrics_source tlsrpt_source;
    struct queue_count count; /* likewise, mta/control_connector_waiting.c */
    struct lease_shard leases;
    struct metrics_source leases_source;
    struct task tls_fill; /* makes the loop turn, so that key shares are made in its idle time */
    struct metrics_source sources[6];
    struct metrics_source tls_sources[7];
    char quarantine[SERVER_PATH_MAX];
    uint32_t messages_max; /* of a queue; tests lower them before server_shard_open */
    uint32_t recipients_max;
    uint32_t destinations_max;
    uint64_t accept_errors;
    bool accept_is_short; /* of descriptors or memory, and the log says so */
    uint64_t accepting;
    uint64_t passed;    /* sockets handed to a shard with fewer */
    struct list probes; /* of control's, under way (mta/outbound_probe.h) */
    unsigned mails;     /* of control's, under way (mta/own_mail.h) */
    bool draining;
    bool stopping; /* the logs were told */
    bool drained_told;
};

/* How large its queue and its spool are but for messages, recipients and destinations: for the sum
 * of all memory (memory_plan.c). */
struct queue_options server_queue_sizes(const struct config *config);
struct spool_options server_spool_sizes(const struct config *config, unsigned shards);
/* Of the logs in its spool. */
uint32_t server_block_bytes(const struct config *config);
/* What the shard needs from its ring. */
struct ring_options server_ring_options(const struct config *config, unsigned shards);

/* group has the mail shards first and control as the last one. ids: TLS sessions by their id, of
 * all shards, outlives them; NULL: none. 0 or errno. */
[[nodiscard]] int server_shard_init(struct server_shard *server, struct ring *ring,
                                    struct shard_group *group, unsigned index,
                                    const struct config *config, struct tls_id_cache *ids);
/* New keys for session tickets; before the threads run. Later they come by HANDOFF_TICKETS. */
void server_shard_tickets(struct server_shard *server, const struct tls_ticket_keys *keys);
/* Somebody fetches lists of revoked certificates: control hears which are missing. */
void server_shard_crls(struct server_shard *server);
/* Opens the listening sockets; before privileges go. fds: passed by the service manager, one for
 * each address in the order of the file, or NULL. 0 or errno, *why names the address. */
[[nodiscard]] int server_shard_listen(struct server_shard *server, const int *fds,
                                      unsigned fds_count, char why[static SERVER_PATH_MAX]);
/* Opens its logs: number index, index + shards, .. as far as they exist. dns is filled in by then.
 */
[[nodiscard]] int server_shard_open(struct server_shard *server, char why[static SERVER_PATH_MAX]);
/* Begins to accept and to deliver. */
void server_shard_start(struct server_shard *server);
/* Mail that waits for this host, as floor memory calls it, goes now. owner: the server. */
void server_shard_release(void *server, const char *host);
/* Mail that waits because of this domain's policy of MTA-STS goes now. owner: the server. */
void server_shard_sts_changed(void *server, const char *domain);
void server_shard_drain(struct server_shard *server);
bool server_shard_drained(struct server_shard *server);
/* Everything is idle: gives it all back. */
void server_shard_close(struct server_shard *server);
/* How many of its logs there is something to give back of. */
unsigned server_shard_logs(const struct server_shard *server);
/* The start failed: gives back what is not the kernel's to take back. Harmless when init has not
 * run. */
void server_shard_give_up(struct server_shard *server);
void server_shard_metrics(struct server_shard *server, struct metrics *metrics);
/* Takes new mail now? */
bool server_shard_ready(const struct server_shard *server);

/* ---- server_tls.c: for server.c only ---- */

[[nodiscard]] int server_tls_init(struct server_shard *server, const struct config *config,
                                  struct tls_id_cache *ids);
void server_tls_free(struct server_shard *server);
int server_tls_made(void *server, struct generation *generation);
void server_tls_unmade(void *server, struct generation *generation);
/* At the end of each turn. */
void server_tls_idle(struct server_shard *server);
void server_tls_metrics(struct server_shard *server, struct metrics *metrics);

#endif
