/*
 * sink_session.h - one connection of the sink, and the counts of its thread
 */
#ifndef RINGPOST_BENCH_SINK_SESSION_H
#define RINGPOST_BENCH_SINK_SESSION_H

#include "bench/result.h"
#include "bench/secure.h"
#include "bench/worker.h"
#include "core/histogram.h"
#include "core/pool.h"
#include "mta/smtp_data.h"

enum {
    SINK_RECIPIENTS_MAX = 10'000,
    SINK_HEADER_KEPT = 4096, /* octets of a message in which its id is looked for */
};

struct sink_options {
    struct net_address listen;
    const char *received; /* file of ids, or NULL */
    const char *json;
    uint64_t messages_max; /* 0: no end */
    uint32_t delay_ms;
    uint32_t reply_delay_ms;
    uint32_t connections_max;
    uint32_t seconds; /* 0: no end */
    unsigned threads;
    unsigned error_code; /* 0: 451 and 550 by turns */
    double errors;
    double drop;
    struct secure_options tls;
    bool lmtp;
    bool no_pipelining;
    bool no_bdat;
    bool no_8bitmime;
    bool no_size;
    bool no_smtputf8;
    bool quiet;
};

/* Written by one thread, read by the main thread. */
struct sink_counts {
    uint64_t messages;   /* answered 250 (LMTP: for one recipient at least) */
    uint64_t recipients; /* of these */
    uint64_t bytes;      /* content of these */
    uint64_t connections;
    uint64_t open;
    uint64_t refused_recipients; /* on purpose */
    uint64_t refused_messages;   /* on purpose */
    uint64_t dropped;            /* connections cut on purpose */
    uint64_t aborted;            /* connections that ended within a transaction */
    uint64_t bad_commands;       /* answered 5xx for what they were */
    uint64_t bare_newlines;      /* messages with a bare CR or LF, or NUL */
    uint64_t early_data;         /* talk after DATA, before its 354 */
    uint64_t first_ns;           /* first and last message */
    uint64_t last_ns;
    struct histogram transaction; /* us from MAIL to the final reply */
    struct secure_counts tls;
};

struct sink {
    struct worker worker;
    struct acceptor acceptor;
    struct pool sessions;
    struct list all;
    struct list unflushed; /* sessions whose 250 waits for the list of ids */
    struct hook hook;
    const struct sink_options *options;
    uint64_t *messages_total; /* of all threads; for --max-messages */
    struct sink_counts counts;
    struct slice hello; /* reply to EHLO */
    struct slice hello_in_clear;
    char hello_text[512];
    struct secure_server secure;
    struct result_ids ids;
};

/* Once, before its thread: what sessions need. 0 or -ENOMEM. */
[[nodiscard]] int sink_prepare(struct sink *sink);
bool sink_accepted(struct acceptor *acceptor, int socket);
/* Begins to close all; true: none is left. */
bool sink_close_all(struct sink *sink);

#endif
