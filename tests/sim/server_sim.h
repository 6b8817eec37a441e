/*
 * server_sim.h - the whole mail server on a simulated machine, and a world of clients and next hops
 * around it
 *
 *   server_sim: down --start--> up --drain, until drained()--> drained --close--> down
 *                ^              '--crash (kill or power)------------------------> '
 *                '-- start failed (why says what), after a crash --'
 *
 * N mail shards and a control shard, as mta/control.c assembles them, without threads: the
 * simulator steps them all. The disk outlives every incarnation; the memory of each is given back
 * when it ends, however it ends. After an orderly end nothing may be left in any pool (CHECK).
 */
#ifndef RINGPOST_TESTS_SIM_SERVER_SIM_H
#define RINGPOST_TESTS_SIM_SERVER_SIM_H

#include "core/log.h"
#include "mta/queue_job.h"
#include "mta/server.h"
#include "tests/sim/sim_actor.h"

enum {
    SERVER_SIM_SHARDS_MAX = 3,
    SERVER_SIM_GENERATIONS_MAX = 8,
    SERVER_SIM_TEXT_MAX = 4'096, /* of a configuration */
    SERVER_SIM_FLOORS_MAX = 256,
    SERVER_SIM_JOBS_MAX = 4,
};

/* The queue's sums over all logs of the present incarnation, in recipients. */
struct server_sums {
    uint64_t accepted, recovered, delivered, bounced, expired, discarded, queued;
    uint64_t messages, held, deferrals, settle_failures;
};

/* Floor memory: what hosts are said to have been capable of. */
struct server_sim_floor {
    struct floor_name name;
    struct floor_record record;
};

struct server_sim_generation {
    struct config *config;
    unsigned shards; /* that have not given it back */
};

/* An operator's verb, as mta/control_queue.c has one. */
struct server_sim_job {
    struct queue_job job;
    struct queue_part *parts[SERVER_SIM_SHARDS_MAX];
    unsigned left; /* shards that are not over; 0: it is free */
};

struct server_sim {
    struct sim *sim;
    struct sim_dns *dns;
    unsigned machine;
    char text[SERVER_SIM_TEXT_MAX];
    uint32_t recv_buffers; /* of each shard's ring; a power of two */
    uint32_t recv_buffer_bytes;
    uint32_t destinations_max; /* of each shard */
    struct log_writer *writer; /* NULL: nothing is logged */
    char why[SERVER_PATH_MAX]; /* of a start that failed */

    unsigned unproven_ends; /* of logs, in order: see spool_proven */

    /* of the present incarnation */
    bool up;
    bool draining;
    unsigned shards;
    unsigned drained;
    unsigned starts;
    struct shard_group group;
    struct server_shard servers[SERVER_SIM_SHARDS_MAX];
    struct shard control;
    struct server_sim_generation generations[SERVER_SIM_GENERATIONS_MAX];
    unsigned generations_count;
    uint64_t generation;
    struct server_sim_floor floors[SERVER_SIM_FLOORS_MAX];
    unsigned floors_count;
    struct floor_question *floor_late; /* answered when the next one comes */
    struct log *logs[SERVER_SIM_SHARDS_MAX];
    struct server_sim_job jobs[SERVER_SIM_JOBS_MAX];
    uint64_t verbs_failed;       /* messages that a verb could do nothing for, all verbs */
    struct queue_orders *orders; /* over incarnations, as the file is; NULL: none yet */
};

/* A machine that is down and has an empty disk with the spool's directory on it. */
void server_sim_init(struct server_sim *s, struct sim *sim, unsigned machine, struct sim_dns *dns,
                     const char *config_text);
/* Recovers the logs and takes mail. On failure (why) it is down again, its memory given back; the
 * machine's rings are gone as by a kill. */
[[nodiscard]] int server_sim_start(struct server_sim *s, unsigned shards);
/* Also at any moment of a drain. Between steps only. */
void server_sim_crash(struct server_sim *s, enum sim_crash how);
void server_sim_drain(struct server_sim *s);
/* For sim_run_until. */
bool server_sim_drained(void *server_sim);
/* Of a drained one. Everything must be back in its place. */
void server_sim_close(struct server_sim *s);
/* A new generation with this text; false: there is no room for one. */
bool server_sim_reload(struct server_sim *s, const char *config_text);
/* ---- tests/sim/server_operator.c ---- */

/* Begins a verb on all shards. False: it is not up, or too many are under way. */
bool server_sim_verb(struct server_sim *s, const struct queue_job *job);
/* None is under way; for sim_run_until. */
bool server_sim_verbs_over(void *server_sim);
/* Nothing goes to these destinations any more; NULL: to all of them again. */
void server_sim_suspend(struct server_sim *s, const char *destination);
/* An order about ways, beside those that there are; NULL: none of that kind holds any more. What
 * waits already looks for its way by a verb. False: there are too many. */
bool server_sim_order(struct server_sim *s, const struct queue_order *order);
/* For server_sim.c: an incarnation begins, and has ended. */
void server_sim_operator_start(struct server_sim *s);
void server_sim_operator_end(struct server_sim *s);

/* ---- tests/sim/server_watch.c ---- */

/* True: there is ready mail at a destination that nobody will look at again; with units, or a
 * deferred unit without a timer. Between steps. */
bool server_sim_forgets(struct server_sim *s, bool units, char why[static SERVER_PATH_MAX]);

/* Kills it if it is up, gives everything back. */
void server_sim_free(struct server_sim *s);

struct server_sums server_sim_sums(const struct server_sim *s);
/* in - out - queued over each log, by its counters and by its last scan: 0, or what is wrong with
 * log number *log. */
int64_t server_sim_balance(const struct server_sim *s, unsigned *log);
/* Up, no session open, and no message in any queue; for sim_run_until. */
bool server_sim_empty(void *server_sim);

/* ---- the world around it ---- */

enum {
    WORLD_HOPS = 6,
    WORLD_CLIENTS_MAX = 2,
    WORLD_MANY_MAX = 120,
    WORLD_LAX = 3, /* the variant of a configuration by which s.example wants no TLS */
};

struct world_options {
    struct sim_options sim;
    unsigned shards;
    uint32_t segment_kib;
    uint32_t size_max_mib;
    uint32_t cache_kib;
    uint32_t connections_per_hop;
    uint32_t connections_per_shard;
    uint32_t rate_c; /* max-rate of c.example; 0: none */
    uint32_t recv_buffers;
    uint32_t recv_buffer_bytes;
    uint64_t age_max_s;
    uint64_t warn_after_s; /* 0: no news of delays */
    unsigned many;         /* domains d<i>.example */
    bool strict;           /* there is s.example */
    uint32_t destinations; /* of each shard; 0: enough */
};

/* Domains: a.example by two MX hosts (hops 0 and 1), b.example by a route (hop 1), c.example by a
 * route with LMTP (hop 2), gone.example does not exist; bounces go to sender.example (hop 3). All
 * of d<i>.example by one MX host (hop 4). Mail for s.example is to go by TLS, which its host (hop
 * 5) has not, nor has any other. */
struct world {
    struct sim *sim;
    struct sim_dns *dns;
    struct sim_ledger *ledger;
    struct server_sim server;
    unsigned shards;
    struct net_address in; /* where the server listens */
    struct ring *clients;  /* their ring */
    unsigned clients_machine;
    struct sim_actor *hops[WORLD_HOPS];
    struct net_address hop_addresses[WORLD_HOPS];
    char many[WORLD_MANY_MAX][16]; /* names */
};

enum { WORLD_DOMAIN_GONE = 3 }; /* index in the ledger's domains */

struct world_options world_calm(uint64_t seed);
/* Next hops are plain ones. The server is down. */
void world_init(struct world *w, const struct world_options *options);
void world_free(struct world *w);
/* What the configuration says; variant changes what a reload may. */
void world_config(const struct world_options *options, unsigned variant,
                  char text[static SERVER_SIM_TEXT_MAX]);
/* Clients are done, the server is up, its queue is empty; for sim_run_until. */
bool world_settled(void *world);

#endif
