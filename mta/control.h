/*
 * control.h - the one thread beside the shards: start, signals, reload, drain, names, admin
 *
 *   control_run: load -> rings -> listen -> (privileges go) -> recover -> threads -> READY
 *                -> loop -> SIGTERM: drain -> threads end -> close
 *
 * It is a shard too, the last of the group, without mail: it waits on its ring for signals, the
 * resolver and the admin sockets, and talks to the others by handoff.
 */
#ifndef RINGPOST_MTA_CONTROL_H
#define RINGPOST_MTA_CONTROL_H

#include <jansson.h>
#include <pthread.h>

#include "core/fetch.h"
#include "core/heap.h"
#include "core/log.h"
#include "mta/clock_kept.h"
#include "mta/connector_validated.h"
#include "mta/control_connectors.h"
#include "mta/control_queue.h"
#include "mta/control_wire.h"
#include "mta/crl_store.h"
#include "mta/floor_store.h"
#include "mta/reload_census.h"
#include "mta/server.h"
#include "mta/sts_store.h"
#include "mta/tlsrpt_store.h"

enum {
    CONTROL_WORDS_MAX = 4'096,
    CONTROL_GENERATIONS_MAX = GENERATIONS_MAX - 2,
    CONTROL_FILES_MAX = 128, /* certificates and bundles of roots that have metrics of their own */
    CONTROL_LABELS_MAX = 192,
};

struct admin;

struct control_generation {
    struct config *config;
    unsigned shards; /* that still use it */
};

/* One row of metrics for each file that TLS was configured with; made anew by each reload. */
struct control_files {
    struct metrics_source source;
    unsigned count;
    struct metric rows[CONTROL_FILES_MAX];
    uint64_t numbers[CONTROL_FILES_MAX];
    char labels[CONTROL_FILES_MAX][CONTROL_LABELS_MAX];
};

/* Floor memory (mta/control_floor.c). */
struct control_floor {
    struct store *store; /* NULL: there is none any more */
    struct store_report report;
    struct timer timer;
    struct list unsent; /* questions whose way back was full */
    struct metrics_source source;
    bool failing; /* and the log says so */
    uint64_t records, dropped, errors, damaged;
    char path[STORE_PATH_MAX];
};

/* Certificates that were seen (mta/control_certificates.c). */
struct control_certificates {
    struct store *store; /* NULL: there is none any more */
    struct store_report report;
    struct timer timer;
    struct metrics_writer writer;
    int64_t next_look_s;
    bool failing;       /* and the log says so */
    bool usage_changed; /* and its file (mta/cert_usage.h) is to be written */
    char path[STORE_PATH_MAX];
};

enum { CRL_FETCH_RESULTS = FETCH_RESULTS + 1 /* the last one: what came is no list for us */ };

/* Lists of revoked certificates (mta/control_crl.c). */
struct control_crl {
    struct list entries;
    unsigned count, fetching;
    size_t bytes;         /* of the lists that are kept */
    struct tls_crls *set; /* what shards are to have */
    uint64_t behind;      /* shards that have not got it, a bit each */
    bool changed;         /* since the state was written */
    unsigned tokens;      /* fetches that may begin now */
    struct timer timer;
    struct metrics_source source;
    uint64_t lists_good, lists_old, lists_missing, entries_count, bytes_now, damaged, dropped, full,
        errors;
    uint64_t fetched[CRL_FETCH_RESULTS];
    char path[CRL_STORE_PATH_MAX];
};

/* MTA-STS (mta/control_sts.c). */
enum { STS_LOOKUPS_MAX = 1'024, STS_BUCKETS = 256 };
struct control_sts {
    struct store *store; /* NULL: there is none any more */
    struct store_report report;
    struct pool lookups;
    struct list buckets[STS_BUCKETS]; /* of lookups, by domain */
    struct list waiting;              /* questions that there was no lookup for */
    struct list unsent;               /* questions whose way back was full */
    struct timer unsent_timer, commit_timer, sweep_timer;
    struct metrics_source source;
    bool failing; /* and the log says so */
    uint64_t records, dropped, errors, damaged, late, found, absent, unanswered;
    uint64_t fetched[STS_FAILURES];
    char swept[STS_DOMAIN_MAX]; /* so far */
    char path[STORE_PATH_MAX];
};

/* Reports about TLS (mta/control_tlsrpt.c, mta/control_tlsrpt_send.c). */
enum { TLSRPT_SENDS_MAX = 8 };
struct control_tlsrpt {
    struct store *store; /* NULL: there is none, or none any more */
    struct store_report report;
    struct list unsent; /* lots whose way back was full */
    struct timer unsent_timer, commit_timer;
    struct metrics_source source;
    bool failing;      /* and the log says so */
    uint32_t forgot;   /* the day in which old ones were looked for */
    struct pool sends; /* reports on their way */
    struct list sending;
    struct timer look_timer;
    struct tlsrpt_key looked; /* records so far */
    int64_t look_s;           /* not before */
    uint64_t reports[TLSRPT_STATES];
    uint64_t mails_signed, mails_plain;
    uint64_t records, dropped, unkept, errors;
    char path[STORE_PATH_MAX];
};

/* Validations of connectors (mta/control_validated.c). */
struct control_validated {
    json_t *all;
    struct metrics_writer writer;
    char path[VALIDATED_PATH_MAX];
};

/* How much memory there is (mta/control_memory.c). */
struct control_memory {
    uint64_t used, reserved, max, is_short; /* is_short: read by shards */
    struct heap_numbers heap;
    struct timer timer;
    struct metrics_source source;
    int statm; /* /proc/self/statm */
};

/* Outbound connectors in test (mta/control_probes.c). */
enum { CONTROL_PROBES = 4 };
struct control_probes {
    struct outbound_probe *probes; /* CONTROL_PROBES */
    bool busy[CONTROL_PROBES];
    struct probe_recent *recent; /* a shard's while one is under way */
    uint64_t *due_ms;            /* by slot */
    unsigned next;               /* connector to be looked at */
    struct timer timer;
    struct metrics_source source;
    struct metrics_writer writer;
    uint64_t good, bad; /* hosts met */
    json_t *all;        /* {connector: {"digest", "hosts": {"host:port": {..}}}} */
    int64_t written_s;
    bool changed;
    char path[VALIDATED_PATH_MAX];
};

/* The self-check of validation (mta/control_dnssec.c). */
struct control_dnssec {
    struct dns_query query;
    struct timer timer;
    struct metrics_source source;
    uint64_t works, failures;
    char zone[DNS_NAME_MAX]; /* that the trust anchor is for; "": the root */
};

/* A reload that waits for shards to count (control_census.c). */
struct control_census {
    struct config *next; /* NULL: there is none */
    unsigned wishes;
    unsigned left; /* shards that have not answered yet */
    bool incomplete;
    bool again; /* a signal came meanwhile */
    struct reload_census *questions;
};

/* Steps of the wall clock (mta/control_clock.c). */
struct control_clock {
    struct hook hook;
    struct timer timer;
    struct metrics_source source;
    struct clock_kept kept; /* as of the last run */
    int read;               /* 0: there was such a run */
    enum clock_verdict verdict;
    bool told; /* that the file cannot be written */
    uint64_t steps, ahead_s;
    char path[CLOCK_PATH_MAX];
};

struct control {
    struct shard shard;
    struct shard_group group;
    struct server_shard *servers;
    pthread_t *threads;
    unsigned servers_count;
    unsigned threads_count;
    const char *file; /* configuration; NULL: the built-in default */
    struct config *config;
    struct control_generation generations[CONTROL_GENERATIONS_MAX];
    unsigned generations_count;
    unsigned untaken; /* answers of shards to reloads, still to come */
    struct log_writer *writer;
    struct log **logs;
    struct metrics metrics;
    struct metrics_source source;
    struct resolver *resolver;
    struct dns dns; /* control's own */
    struct control_dnssec dnssec;
    struct control_memory memory;
    struct fetcher *fetcher; /* mta/control_fetch.c */
    struct metrics_source fetch_source;
    struct admin *admin;
    struct tls_id_cache *ids; /* of all shards */
    struct tls_ticket_keys tickets;
    struct timer tickets_timer;
    struct control_files files;
    struct control_floor floor;
    struct control_certificates certificates;
    struct control_connectors connectors;
    struct control_crl crl;
    struct control_sts sts;
    struct control_tlsrpt tlsrpt;
    struct control_validated validated;
    struct control_probes probes;
    struct control_census census;
    struct control_queue queue;
    struct control_wire wire;
    struct control_orders orders;
    struct control_clock clock;
    bool tickets_stale; /* the file cannot be read any more, and the log says so */
    struct op signals;
    int signal_fd;
    unsigned drained;
    bool ready;
    bool stopping;
    uint64_t started_us; /* numbers of its own, exported */
    uint64_t reloads, reloads_refused, generation_now, is_ready;
    uint64_t ticket_rotations, ticket_file_errors, keyshares_live;
};

/* Runs until told to stop. Exit status: 0, 1 (could not start: said on standard error). */
int control_run(const char *file);
enum control_reload { RELOAD_REQUIRE_VALIDATED = 1 << 0, RELOAD_ACCEPT_WEAKER = 1 << 1 };
/* Loads the file again; 0; 1: waiting mail is counted first, then control_reload_counted goes on;
 * or -EINVAL and why in words (one line each), at most CONTROL_WORDS_MAX - 1. wishes: enum
 * control_reload. */
[[nodiscard]] int control_reload(struct control *control, unsigned wishes,
                                 char words[static CONTROL_WORDS_MAX]);
/* The end of a reload that was to wait: next is taken, or freed; words are for who asked. */
void control_reload_counted(struct control *control, struct config *next, bool taken,
                            const char *words);
/* Nobody waits for it. */
void control_reload_signalled(struct control *control);
/* Takes new mail on all shards. */
bool control_ready(const struct control *control);

/* ---- control_clock.c ---- */

/* As the user we are to be, before any mail is read: all shards' steady time. */
void control_clock_open(struct control *control, const struct config *config);
void control_clock_start(struct control *control);
void control_clock_stop(struct control *control);

/* ---- control_tls.c ---- */

/* Before the rings: what all shards share. 0 or errno. */
[[nodiscard]] int control_tls_open(struct control *control, const struct config *config);
/* As the user we are to be, before the threads: keys for tickets. 0, or an errno that was told. */
[[nodiscard]] int control_tls_start(struct control *control);
void control_tls_stop(struct control *control);
/* Metrics of the certificates and roots of control->config. */
void control_tls_files(struct control *control);
/* New keys for session tickets; the present ones still open what they sealed. 0, or -EINVAL and why
 * in words. */
[[nodiscard]] int control_tls_rotate(struct control *control, char words[static CONTROL_WORDS_MAX]);

/* ---- control_dnssec.c ---- */

/* When there is a resolver; and before it goes. */
void control_dnssec_start(struct control *control);
void control_dnssec_stop(struct control *control);

/* ---- control_memory.c ---- */

/* When the shards are there and none runs yet; and after they have ended. */
void control_memory_start(struct control *control);
void control_memory_stop(struct control *control);

/* ---- control_fetch.c ---- */

/* After the resolver. 0 or errno. */
[[nodiscard]] int control_fetch_start(struct control *control);
/* Before the resolver's end. */
void control_fetch_stop(struct control *control);

/* ---- control_certificates.c ---- */

/* As the user we are to be, before any thread. 0, or an errno that was told. */
[[nodiscard]] int control_certificates_open(struct control *control, const struct config *config);
/* Before the shards' threads, with the log. */
void control_certificates_start(struct control *control);
void control_certificates_stop(struct control *control);
/* After each reload. */
void control_certificates_look(struct control *control);

/* ---- control_horizon.c ---- */

/* A page of {"certificates": [..], "next": {..}} behind place (all zero: from the first one on): of
 * partners whose connectors demand TLS, seen within days. */
json_t *control_certificates_horizon(struct control *control, unsigned days,
                                     struct cert_place *place);

/* ---- control_census.c ---- */

void control_census_start(struct control *control);
/* After the shards' threads, before the admin sockets' end. */
void control_census_stop(struct control *control);
/* 0: there is nothing to count; 1: it owns next until control_reload_counted; or an errno. */
[[nodiscard]] int control_census_begin(struct control *control, struct config *next,
                                       unsigned wishes);

/* ---- control_validated.c ---- */

/* 0 or -ENOMEM. */
[[nodiscard]] int control_validated_open(struct control *control, const struct config *config);
void control_validated_start(struct control *control);
void control_validated_close(struct control *control);
/* at and generation are ours. 0, or -EINVAL; words either way. */
[[nodiscard]] int control_validated_put(struct control *control, const struct validation *found,
                                        char words[static CONTROL_WORDS_MAX]);
/* 0; or -EINVAL: some enforced connector of next is not validated as it is, which words name. */
[[nodiscard]] int control_validated_demand(const struct control *control, const struct config *next,
                                           char words[static CONTROL_WORDS_MAX]);

/* ---- control_probes.c ---- */

/* As the user we are to be, before the shards' threads. 0 or -ENOMEM. */
[[nodiscard]] int control_probes_start(struct control *control);
/* After the shards' threads. */
void control_probes_stop(struct control *control);
/* {"connector", "direction", "state", "ready", "left_s", "hosts": [..]} of an outbound one. */
json_t *control_probes_readiness(const struct control *control, const struct outbound *connector);

/* ---- control_floor.c ---- */

/* As the user we are to be, before any thread. 0, or an errno that was told. */
[[nodiscard]] int control_floor_open(struct control *control, const struct config *config);
/* Before the shards' threads. 0 or errno. */
[[nodiscard]] int control_floor_start(struct control *control);
void control_floor_stop(struct control *control);
/* verb: accept, keep or forget. domain NULL: of all domains. 0, or -EINVAL; words either way. */
[[nodiscard]] int control_floor_decide(struct control *control, const char *verb, const char *host,
                                       const char *domain, char words[static CONTROL_WORDS_MAX]);
/* A page of {"records": [..], "next": {..}} behind host and domain, of those that name is the host
 * or the domain of ("": all). */
json_t *control_floor_report(struct control *control, const char *name, const char *after_host,
                             const char *after_domain);
/* Of this host, written as there, and this domain alone: one record, or none. */
json_t *control_floor_record(struct control *control, const char *host, const char *domain);

/* ---- control_crl.c ---- */

/* As the user we are to be, before the shards' threads; after the fetcher. 0, or an errno that was
 * told. */
[[nodiscard]] int control_crl_start(struct control *control);
/* Before the fetcher's end, after the shards'. */
void control_crl_stop(struct control *control);
/* {"lists": [..]}: all that are known, with what has become of them. */
json_t *control_crl_report(struct control *control);
/* Fetches them now, that of one URL or (url NULL) all. 0, or -EINVAL; words either way. */
[[nodiscard]] int control_crl_fetch(struct control *control, const char *url,
                                    char words[static CONTROL_WORDS_MAX]);
/* ---- control_sts.c ---- */

/* As the user we are to be, before any thread. 0, or an errno that was told. */
[[nodiscard]] int control_sts_open(struct control *control, const struct config *config);
/* Before the shards' threads, after the fetcher's. 0 or errno. */
[[nodiscard]] int control_sts_start(struct control *control);
/* Before the fetcher's end. */
void control_sts_stop(struct control *control);
/* Looks for a newer policy now. 0, or -EINVAL; words either way. */
[[nodiscard]] int control_sts_refresh(struct control *control, const char *domain,
                                      char words[static CONTROL_WORDS_MAX]);
/* What is known of the domain; NULL: nothing. */
json_t *control_sts_report(struct control *control, const char *domain);

/* ---- control_tlsrpt.c ---- */

/* As the user we are to be, before any thread. 0, or an errno that was told. */
[[nodiscard]] int control_tlsrpt_open(struct control *control, const struct config *config);
/* Before the shards' threads. 0 or errno. */
[[nodiscard]] int control_tlsrpt_start(struct control *control);
/* After the shards' threads, before what they have is freed. */
void control_tlsrpt_stop(struct control *control);
/* A policy of MTA-STS could not be had. */
void control_tlsrpt_unfetched(struct control *control, const char *domain,
                              const struct sts_record *record);
/* Of a day ("2026-11-26"; "": today). NULL: there is nothing to report. */
json_t *control_tlsrpt_report(struct control *control, const char *domain, const char *day);
/* As tlsrpt_store_next. */
[[nodiscard]] int control_tlsrpt_next(struct control *control, struct tlsrpt_key *key,
                                      struct tlsrpt_record *record);
/* What became of its report. */
void control_tlsrpt_mark(struct control *control, const struct tlsrpt_key *key,
                         enum tlsrpt_state state);

/* ---- control_tlsrpt_send.c: for control_tlsrpt.c, but the last one ---- */

/* 0 or -ENOMEM. */
[[nodiscard]] int control_tlsrpt_send_open(struct control *control);
void control_tlsrpt_send_start(struct control *control);
void control_tlsrpt_send_stop(struct control *control);
/* Sends the report of a day ("": yesterday). 0, or -EINVAL; words either way. */
[[nodiscard]] int control_tlsrpt_send(struct control *control, const char *domain, const char *day,
                                      char words[static CONTROL_WORDS_MAX]);

#endif
