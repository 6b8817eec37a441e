/*
 * source_session.h - one connection of the source, and what its thread shares
 */
#ifndef RINGPOST_BENCH_SOURCE_SESSION_H
#define RINGPOST_BENCH_SOURCE_SESSION_H

#include "bench/result.h"
#include "bench/secure.h"
#include "bench/source_text.h"
#include "bench/worker.h"
#include "core/histogram.h"

enum source_error {
    SOURCE_CONNECT_REFUSED,
    SOURCE_CONNECT_FAILED, /* no route, no port, no slot, time out of connect */
    SOURCE_RESET,          /* the connection broke */
    SOURCE_CLOSED,         /* the server closed it when it should not */
    SOURCE_TIMEOUT,        /* no reply in time */
    SOURCE_REPLY_421,
    SOURCE_REPLY_4XX,
    SOURCE_REPLY_5XX,
    SOURCE_PROTOCOL, /* not a reply, or not one that fits */
    SOURCE_TLS,      /* not offered, or the handshake failed */
    SOURCE_ERRORS
};

/* Written by one thread, read by the main thread. */
struct source_counts {
    uint64_t messages;   /* acknowledged */
    uint64_t recipients; /* of these */
    uint64_t begun;      /* transactions */
    uint64_t failed;     /* transactions that were refused or broke */
    uint64_t connections;
    uint64_t open;  /* that have been greeted, now */
    uint64_t tried; /* connections of the ramp that are up, or have failed once */
    uint64_t done;  /* sessions that are over */
    uint64_t errors[SOURCE_ERRORS];
    uint64_t first_ns;        /* first message begun */
    uint64_t last_ns;         /* last acknowledgement */
    struct histogram latency; /* us, MAIL to final reply */
    struct histogram commit;  /* us, end of content to final reply */
    struct secure_counts tls;
};

/* What the main thread and all workers see; each field written by one side only, but tickets. */
struct source_shared {
    int64_t tickets; /* messages that may still be begun */
    bool go;         /* the ramp is over */
    bool ending;     /* no new messages, no new connections */
    bool lacks_pipelining;
    bool lacks_chunking;
    bool lacks_starttls;
};

struct source_session;

struct source {
    struct worker worker;
    const struct source_options *options;
    struct source_shared *shared;
    struct source_session *sessions;
    uint32_t count;
    uint32_t first;      /* number of its first session among all */
    uint32_t opening;    /* sessions of the ramp between connect and the reply to EHLO */
    uint32_t opened;     /* sessions that were begun; the others wait their turn */
    struct list waiting; /* READY: for the start, or for the rate */
    uint64_t interval_ns;
    uint64_t due_ns; /* next message, by the rate */
    struct source_texts texts;
    struct secure_client secure;
    uint64_t ids_flushed_ms;
    struct result_ids acked;
    struct source_counts counts;
};

enum { SOURCE_OUT_MAX = 4 }; /* content, commands, and one more */

enum source_state {
    SOURCE_OFF,
    SOURCE_CONNECT,
    SOURCE_GREETING,
    SOURCE_HELLO,
    SOURCE_STARTTLS,
    SOURCE_HANDSHAKE, /* waits for no reply */
    SOURCE_SILENT,
    SOURCE_READY,
    SOURCE_MAIL,
    SOURCE_RCPT,
    SOURCE_DATA,
    SOURCE_FINAL,
    SOURCE_RESET_STATE,
    SOURCE_QUIT,
    SOURCE_CLOSING,
    SOURCE_DONE,
    SOURCE_STATES
};

struct source_session {
    struct connection connection;
    struct task task;
    struct timer deadline;
    struct timer pause; /* back-off, think time, slow sending: never two of them at once */
    struct list node;   /* source->waiting */
    struct source *source;
    uint64_t deadline_ms; /* 0: none */
    uint64_t begun_ns;    /* this transaction */
    uint64_t next_ns;     /* the one whose commands are sent already */
    uint64_t content_ns;  /* content sent */
    uint64_t secure_ns;   /* the handshake begun */
    uint64_t in_session;  /* transactions begun on this connection */
    struct source_text text;
    struct slice out[SOURCE_OUT_MAX];
    uint32_t out_count;
    uint32_t rcpt_left;
    uint32_t accepted; /* recipients */
    uint32_t finals_left;
    uint32_t backoff_ms;
    uint8_t state;
    bool mail_ok;
    bool failed;
    bool next_sent;
    bool quit_sent;
    bool thinking;
    bool ramped; /* counted as tried */
    bool hello_tried;
    bool greeted; /* counted as open */
    bool pipelining;
    bool chunking;
    bool starttls;
    bool secured; /* the handshake is complete */
};

/* ---- for source_transaction.c ---- */

/* To be sent with the next push; adjacent octets become one slice. */
void source_queue(struct source_session *s, struct slice text);
void source_close(struct source_session *s);
void source_fail(struct source_session *s, enum source_error error);
/* Its first connection is up, or failed. */
void source_count_ramp(struct source_session *s);

/* ---- of source_transaction.c ---- */

/* READY, and nothing under way: what next? */
void source_next(struct source_session *s);
void source_reply(struct source_session *s, unsigned code);
/* The handshake is complete. */
void source_secured(struct source_session *s);

static inline bool source_flag(const bool *flag)
{
    return __atomic_load_n(flag, __ATOMIC_RELAXED);
}

static inline bool source_over(const struct source *source)
{
    return source_flag(&source->shared->ending) ||
           (!source->options->idle &&
            __atomic_load_n(&source->shared->tickets, __ATOMIC_RELAXED) <= 0);
}

/* One more message may be begun. */
static inline bool source_ticket(struct source *source)
{
    if (source_over(source))
        return false;
    return __atomic_fetch_sub(&source->shared->tickets, 1, __ATOMIC_RELAXED) > 0;
}

static inline bool source_due(const struct source *source)
{
    if (source->interval_ns == 0)
        return true;
    return source->due_ns > 0 && source->worker.shard.now_ns >= source->due_ns;
}

/* ---- all sessions of a thread ---- */

/* texts are ready. 0 or -ENOMEM. */
[[nodiscard]] int source_sessions_init(struct source *source, uint32_t count, uint32_t first);
void source_sessions_free(struct source *source);
/* Once a tick: opens, starts, sends what the rate allows. */
void source_sessions_tick(struct source *source);
/* Begins to close all; true: none is open. */
bool source_close_all(struct source *source);

#endif
