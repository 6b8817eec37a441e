/*
 * connection.h - a socket as the sessions see it; the only place that arms recv and send
 *
 * Both sides of mail use it, the inbound and the outbound session. It receives into the ring's
 * provided buffers and lends them to the session; it gathers replies and sends them in one piece.
 * Completions leave facts here and make the owner's task runnable.
 *
 *   OPEN --connection_close--> CLOSING --nothing in flight--> closed() (the owner may free it)
 *
 * An idle connection holds no buffer at all: lines in pieces and replies under way borrow blocks
 * from the shard's pools. What is full has an answer: in_full stops the reading, no block for a
 * line is -ENOBUFS (421), no block for output likewise.
 */
#ifndef RINGPOST_MTA_CONNECTION_H
#define RINGPOST_MTA_CONNECTION_H

#include "core/pool.h"
#include "core/shard.h"

enum {
    CONNECTION_HELD_MAX = 3,        /* provided buffers waiting for one session before it is paused;
                                       what the kernel had in hand by then still comes */
    CONNECTION_OUTPUT_BYTES = 8192, /* replies or commands gathered for one send */
    CONNECTION_LINE_BYTES = 4160,   /* a line that came in pieces: SMTP_LINE_MAX and CRLF fit */
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
    uint32_t buffers_low; /* fewer free receive buffers than this: who holds one is asked to go */
};

struct connection_output {
    uint32_t size;    /* bytes gathered */
    uint32_t sending; /* of these, bytes in the send under way */
    uint32_t sent;    /* bytes that landed */
    struct ring_vector vector;
    uint8_t bytes[CONNECTION_OUTPUT_BYTES];
};

struct connection_line_block {
    uint32_t size;
    uint8_t bytes[CONNECTION_LINE_BYTES];
};

struct connection {
    struct shard *shard;
    struct connection_pools *pools;
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
    int error;          /* negative errno of the socket; 0: none */
    uint64_t received;  /* bytes */
    uint64_t sent;
};

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
/* Bytes of all that is there, in however many pieces. */
size_t connection_peek_all(const struct connection *c);
/* Drops bytes from the front of what connection_peek gave. */
void connection_take(struct connection *c, size_t bytes);
/* All that came so far in one block of at most CONNECTION_LINE_BYTES, however many pieces it came
 * in; for headers before the first line. Empty: nothing, or no block. */
struct slice connection_collect(struct connection *c);
/* Drops bytes from the front of that. What is left counts as input, and is no line any more. */
void connection_collected(struct connection *c, size_t bytes);
/* Something is there that no call has taken yet (a piece of a line counts). */
bool connection_has_input(const struct connection *c);
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
    return c->output == NULL;
}

#endif
