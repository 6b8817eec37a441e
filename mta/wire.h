/*
 * wire.h - the dialogue of chosen sessions, both directions, for an operator who asked for it
 *
 *   control: makes a watch for each shard --handoff--> watching --handoff--> released --> freed
 *   session: wire_session (it is one of those asked for) --wire_bytes..--> wire_end
 *
 * A session that is watched has a tap on its connection, where plaintext passes. The tap makes
 * lines of what it sees and puts them into a ring that control empties: one producer, one consumer.
 * Content is counted, not shown (its header, if that was asked for); what follows AUTH is masked.
 * When in doubt, octets count as content.
 *
 * Costs nothing when nobody asks: a pointer that is NULL is looked at. Bounds: WIRE_SESSIONS at a
 * time of each shard, WIRE_RING_BYTES of lines that were not fetched yet; what finds no room is
 * counted, and told.
 */
#ifndef RINGPOST_MTA_WIRE_H
#define RINGPOST_MTA_WIRE_H

#include "core/net.h"
#include "core/slice.h"

enum {
    WIRE_SESSIONS = 16,
    WIRE_RING_BYTES = 1 << 18,
    WIRE_LINE_MAX = 1'000,  /* shown of a line */
    WIRE_HEADER_MAX = 200,  /* lines shown of a header */
    WIRE_NAME_MAX = 400,    /* of a destination, or a listener; with a terminator */
    WIRE_COUNT_MAX = 1'000, /* sessions of one trace */
};

struct connection;
struct shard;
struct wire_watch;
struct wire_session;

struct wire_wish {
    bool by_peer;
    struct net_prefix peer;          /* who is at the other end */
    char destination[WIRE_NAME_MAX]; /* outbound; "": any */
    char listener[WIRE_NAME_MAX];    /* inbound; "": any */
    bool headers;
};

enum wire_kind {
    WIRE_BEGIN = 1, /* text: who with whom */
    WIRE_CLIENT,    /* a line of the client's, without CRLF */
    WIRE_SERVER,
    WIRE_HEADER,  /* a line of the content's header */
    WIRE_CONTENT, /* number: its octets */
    WIRE_TLS,     /* text: what was agreed on, or why not */
    WIRE_END,     /* number: milliseconds it took */
    WIRE_LOST,    /* number: lines that found no room before this one */
};

/* In the ring, with size octets of text behind it. */
struct wire_line {
    int64_t wall_us;
    uint64_t number;
    uint32_t session;
    uint16_t size;
    uint8_t kind; /* enum wire_kind */
    bool cut;     /* the line was longer */
};

/* ---- control ---- */

/* left: sessions that may still begin, of all shards together. NULL: no memory. */
struct wire_watch *wire_watch_new(const struct wire_wish *wish, uint32_t *left);
/* After wire_watch_released, or with the shard's thread gone. */
void wire_watch_free(struct wire_watch *watch);
bool wire_watch_released(const struct wire_watch *watch);
/* Lines that found no room, and that no line tells of. */
uint64_t wire_watch_lost(const struct wire_watch *watch);
/* Sessions that are watched now. */
uint32_t wire_watch_open(const struct wire_watch *watch);
/* The next line with its text, which lives until the next call. False: none now. */
bool wire_read(struct wire_watch *watch, struct wire_line *line, const uint8_t **text);

/* ---- a shard ---- */

/* The end: no tap is left; from now on the watch is control's. */
void wire_watch_release(struct wire_watch *watch);
/* A session that begins: puts a tap on its connection if it is asked for. name: of the listener,
 * or the key of the destination; us: what it is called in the first line. */
void wire_inbound(struct wire_watch *watch, struct shard *shard, struct connection *connection,
                  const struct net_address *peer, const char *listener);
void wire_outbound(struct wire_watch *watch, struct shard *shard, struct connection *connection,
                   const struct net_address *peer, const char *host, const char *destination);
/* Plaintext of the connection, in or out. */
void wire_bytes(struct wire_session *session, bool in, const uint8_t *bytes, size_t size);
void wire_tls(struct wire_session *session, const char *text);
/* The connection is closed. */
void wire_end(struct wire_session *session);

#endif
