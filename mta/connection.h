/*
 * connection.h - a socket, TLS or not, as the sessions see it; the only place that arms recv and
 * send
 *
 * Both sides of mail use it, the inbound and the outbound session. It receives into the ring's
 * provided buffers and lends them to the session; it gathers replies and sends them in one piece.
 * Completions leave facts here and make the owner's task runnable.
 *
 *   OPEN --connection_close--> CLOSING --nothing in flight--> closed() (the owner may free it)
 *    `--connection_secure--> HANDSHAKE --connection_handshake: TLS_OK--> OPEN, by TLS
 *
 * Once secured, nothing is read or sent in clear any more, whatever happens. The calls for input
 * and output are the same: what was received is opened when it is looked at, what is gathered is
 * sealed when it is flushed.
 *
 * An idle connection holds no buffer at all: lines in pieces and replies under way borrow blocks
 * from the shard's pools. What is full has an answer: in_full stops the reading, no block for a
 * line is -ENOBUFS (421), no block for output likewise.
 */
#ifndef RINGPOST_MTA_CONNECTION_H
#define RINGPOST_MTA_CONNECTION_H

#include "core/pool.h"
#include "core/shard.h"
#include "tls/tls_session.h"

enum {
    CONNECTION_HELD_MAX = 3,        /* provided buffers waiting for one session before it is paused;
                                       what the kernel had in hand by then still comes */
    CONNECTION_OUTPUT_BYTES = 8192, /* replies or commands gathered for one send */
    CONNECTION_LINE_BYTES = 4160,   /* a line that came in pieces: SMTP_LINE_MAX and CRLF fit */
    CONNECTION_SEALED_BYTES = 34 * 1024, /* ciphertext gathered for one send: two full records */
};

#define CONNECTION_NO_BUFFER UINT32_MAX

/* A provided buffer that some connection holds: what is left of it, and the one after it. */
struct connection_held {
    uint32_t next;
    uint32_t at;
    uint32_t size;
};

/* Blocks shared by the connections of a shard. */
struct connection_pools {
    struct connection_held *held; /* one for each buffer of the ring */
    struct pool outputs;
    struct pool lines;
    struct pool opened;
    struct pool sealed;
    struct wire_watch *watch; /* somebody wants to look on; NULL: nobody */
    uint32_t buffers_low; /* fewer free receive buffers than this: who holds one is asked to go */
};

struct connection_output {
    uint32_t size;      /* bytes gathered */
    uint32_t sending;   /* of these, bytes in the send under way */
    uint32_t sent;      /* bytes that landed; by TLS: that were sealed */
    uint32_t vector_at; /* by TLS: slices of the owner before this one were sealed */
    struct ring_vector vector;
    uint8_t bytes[CONNECTION_OUTPUT_BYTES];
};

struct connection_line_block {
    uint32_t size;
    uint8_t bytes[CONNECTION_LINE_BYTES];
};

/* Plaintext that was opened and not yet used up. */
struct connection_opened {
    uint32_t at;
    uint32_t size;
    uint8_t bytes[TLS_PLAINTEXT_MAX];
};

/* Ciphertext on its way out. */
struct connection_sealed {
    uint32_t size;
    uint32_t sending;
    uint32_t sent;
    struct ring_vector vector;
    uint8_t bytes[CONNECTION_SEALED_BYTES];
};

struct wire_session;
struct wire_watch;

struct connection {
    struct shard *shard;
    struct connection_pools *pools;
    struct wire_session *tap;                      /* mta/wire.h; NULL: nobody looks on */
    struct task *owner;                            /* run when a fact has come */
    void (*closed)(struct connection *connection); /* nothing in flight any more; never from within
                                                  connection_close */
    int socket;                                    /* -1: none */
    struct op recv;
    struct op send;
    struct op control; /* connect, later shutdown */
    struct task close_task;
    struct connection_output *output;
    struct connection_line_block *line;
    struct tls_session *tls; /* NULL: in clear */
    struct connection_opened *opened;
    struct connection_sealed *sealed;
    uint32_t held_first; /* buffer, or CONNECTION_NO_BUFFER */
    uint32_t held_last;
    uint32_t held_count;
    bool line_given; /* the block's line was handed out: drop it at the next call */
    bool line_long;  /* the rest of an over-long line is being skipped */
    bool receiving;  /* wanted: recv is armed, or will be when there is room */
    bool eof;        /* the peer will send no more */
    bool closing;
    bool closed_told;
    bool connected;
    bool send_borrowed; /* the send under way points into bytes of the owner */
    bool tls_open;      /* the handshake is complete */
    bool tls_waits;     /* the handshake goes on when something has come */
    bool tls_failed;    /* error is -EPROTO; tls_session_why */
    bool tls_cut;       /* the end came without a close_notify */
    bool raw_eof;       /* by TLS: what was received may still have to be opened */
    bool bye_wanted;    /* a close_notify follows what is gathered */
    bool bye_said;
    int error;         /* negative errno of the socket; 0: none */
    uint64_t received; /* bytes */
    uint64_t sent;
};

uint64_t connection_pools_bytes(uint32_t sockets); /* of memory, at most */
/* sockets: connections that may exist in this shard. */
[[nodiscard]] int connection_pools_init(struct connection_pools *pools, const struct ring *ring,
                                        uint32_t sockets);
void connection_pools_free(struct connection_pools *pools);

void connection_init(struct connection *c, struct shard *shard, struct connection_pools *pools,
                     struct task *owner, void (*closed)(struct connection *connection));
/* Takes an adopted, connected socket and begins to receive. */
void connection_open(struct connection *c, int socket);
/* Takes a socket and connects it; c->connected or c->error tells. Receiving begins then. */
void connection_connect(struct connection *c, int socket, const struct net_address *to);
/* From now on all is TLS; the session is the connection's. What was received before stays input of
 * the handshake: who must not take it (RFC 3207) looks at connection_has_input before. Call when
 * connection_idle. */
extern const struct tls_ends connection_ends; /* its owner is the connection */
void connection_secure(struct connection *c, struct tls_session *session);
/* A step of the handshake; sends what it has to say. TLS_WANT_IN and TLS_WANT_OUT: later, when
 * something has come or was sent. After TLS_FAILED: flush (an alert), then close. */
enum tls_result connection_handshake(struct connection *c);
/* A close_notify follows what is gathered: nothing may be gathered after it. No effect in clear. */
void connection_bye(struct connection *c);
/* Says that nothing more will be sent (FIN); receiving goes on. Call when connection_idle. */
void connection_shutdown(struct connection *c);
/* Ends everything: what is gathered and not sent is dropped, see connection_flush and
 * connection_idle for an orderly end. closed() comes later, once. May be called again. */
void connection_close(struct connection *c);

/* ---- input: slices are good until the next input call or connection_settle ---- */

enum connection_line {
    CONNECTION_LINE_MORE = 0, /* no whole line yet */
    CONNECTION_LINE_READY,
    CONNECTION_LINE_BARE_LF, /* the line ended in LF without CR: the line is given, refuse it */
    CONNECTION_LINE_LONG,    /* over max octets: skipped to its end */
    CONNECTION_LINE_NO_ROOM, /* no block for a line in pieces: 421 */
};
/* One line without its CRLF. max: octets without CRLF, at most CONNECTION_LINE_BYTES - 2. */
enum connection_line connection_line(struct connection *c, size_t max, struct slice *line);
/* All that is there in one piece; empty: nothing now. */
struct slice connection_peek(struct connection *c);
/* Bytes of all that is there, in however many pieces, opened or not. */
size_t connection_peek_all(const struct connection *c);
/* Drops bytes from the front of what connection_peek gave. */
void connection_take(struct connection *c, size_t bytes);
/* All that came so far in one block of at most CONNECTION_LINE_BYTES, however many pieces it came
 * in; for headers before the first line. Empty: nothing, or no block. */
struct slice connection_collect(struct connection *c);
/* Drops bytes from the front of that. What is left counts as input, and is no line any more. */
void connection_collected(struct connection *c, size_t bytes);
/* Something is there that no call has taken yet (a piece of a line counts). */
bool connection_has_input(struct connection *c);
/* Before the owner waits: gives buffers that are used up back to the ring. */
void connection_settle(struct connection *c);
/* Drops all input that is there; for talk after a final reply. */
void connection_drop_input(struct connection *c);
/* Receive buffers are short and this connection holds some without using them. */
bool connection_hogs(const struct connection *c);

/* ---- output ---- */

/* Room for bytes at the end of the output, or NULL: flush, and wait until it has landed (also when
 * no block can be had: c->error is -ENOBUFS then). */
uint8_t *connection_reserve(struct connection *c, size_t bytes);
void connection_commit(struct connection *c, size_t bytes);
/* Sends what is gathered, if nothing is being sent; else it follows by itself. */
void connection_flush(struct connection *c);
/* The same with slices of the owner behind it (at most RING_VECTOR_MAX - 1), which stay untouched
 * until connection_idle. Nothing may be under way. 0, or -ENOBUFS. */
[[nodiscard]] int connection_flush_with(struct connection *c, const struct slice *slices,
                                        size_t count);
/* Nothing gathered and nothing under way. */
static inline bool connection_idle(const struct connection *c)
{
    return c->output == NULL && c->sealed == NULL;
}

#endif
