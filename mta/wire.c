/*
 * wire.c - who is watched, what of a dialogue is shown, and the ring it is handed over by
 *
 *   client: LINES --DATA--> ASKED --354--> CONTENT --CRLF.CRLF--> LINES
 *             |               '--another reply--> LINES
 *             '--BDAT n--> CHUNK --n octets--> LINES
 *
 * Whose turn it is follows from counting: each command, each end of content and each line in the
 * middle of an AUTH has one reply. Replies beyond that (LMTP has several) count for nothing. In
 * ASKED nothing is shown: a client that does not wait for the 354 sends content, or what it would
 * have had to send after it.
 */
#include "mta/wire.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "core/shard.h"
#include "mta/connection.h"

static_assert((WIRE_RING_BYTES & (WIRE_RING_BYTES - 1)) == 0);

enum { ALIGNMENT = 8, MS_IN_NS = 1'000'000, NUMBER_SHARD_SHIFT = 20 };

enum wire_mode { LINES, ASKED, CONTENT, CHUNK };

/* A line that is being gathered. */
struct gathered {
    uint32_t size; /* octets of it so far, shown or not */
    bool cr;       /* the last one was a CR, which is not counted */
    uint8_t bytes[WIRE_LINE_MAX];
};

struct wire_session {
    struct wire_watch *watch;
    struct connection *connection; /* NULL: free */
    struct shard *shard;
    uint64_t began_ns;
    uint32_t number;
    bool outbound; /* we are the client */
    bool auth;     /* in the middle of one */
    bool header;   /* of the content, not yet at its end */
    uint8_t mode;  /* enum wire_mode */
    uint8_t dot;   /* CONTENT: how much of CRLF.CRLF was seen */
    uint32_t header_lines;
    uint64_t content;  /* octets */
    uint64_t left;     /* of a chunk */
    uint64_t asked;    /* commands, the connection itself included */
    uint64_t answered; /* of these */
    uint64_t auth_at;  /* the command that AUTH was */
    uint64_t data_at;  /* that DATA was */
    uint64_t untold;   /* octets in ASKED */
    struct gathered client, server, header_line;
};

struct wire_watch {
    struct wire_wish wish;
    uint32_t *left;
    uint32_t open;
    bool released;
    uint64_t lost;              /* lines, not yet told */
    uint32_t made;              /* sessions */
    _Alignas(64) uint64_t tail; /* the shard's: octets ever put in */
    _Alignas(64) uint64_t head; /* control's: octets ever taken out */
    struct wire_session sessions[WIRE_SESSIONS];
    uint8_t text[UINT16_MAX]; /* control's: the line that was read last */
    uint8_t ring[WIRE_RING_BYTES];
};

/* ---- the ring ---- */

static void ring_put(struct wire_watch *w, uint64_t at, const void *from, size_t size)
{
    const uint8_t *bytes = from;
    size_t place = at & (WIRE_RING_BYTES - 1);
    size_t first = MIN(size, WIRE_RING_BYTES - place);
    memcpy(w->ring + place, bytes, first);
    memcpy(w->ring, bytes + first, size - first);
}

static void ring_get(const struct wire_watch *w, uint64_t at, void *to, size_t size)
{
    uint8_t *bytes = to;
    size_t place = at & (WIRE_RING_BYTES - 1);
    size_t first = MIN(size, WIRE_RING_BYTES - place);
    memcpy(bytes, w->ring + place, first);
    memcpy(bytes + first, w->ring, size - first);
}

static size_t line_bytes(size_t text)
{
    return (sizeof(struct wire_line) + text + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static bool put(struct wire_watch *w, const struct wire_line *line, const void *text)
{
    uint64_t head = __atomic_load_n(&w->head, __ATOMIC_ACQUIRE);
    size_t bytes = line_bytes(line->size);
    if (w->tail - head + bytes > WIRE_RING_BYTES)
        return false;
    ring_put(w, w->tail, line, sizeof(*line));
    if (line->size > 0)
        ring_put(w, w->tail + sizeof(*line), text, line->size);
    __atomic_store_n(&w->tail, w->tail + bytes, __ATOMIC_RELEASE);
    return true;
}

bool wire_read(struct wire_watch *w, struct wire_line *line, const uint8_t **text)
{
    uint64_t tail = __atomic_load_n(&w->tail, __ATOMIC_ACQUIRE);
    if (tail == w->head)
        return false;
    ring_get(w, w->head, line, sizeof(*line));
    ring_get(w, w->head + sizeof(*line), w->text, line->size);
    *text = w->text;
    __atomic_store_n(&w->head, w->head + line_bytes(line->size), __ATOMIC_RELEASE);
    return true;
}

static void tell(struct wire_session *s, enum wire_kind kind, struct slice text, uint64_t number)
{
    struct wire_watch *w = s->watch;
    struct wire_line line = {
        .wall_us = s->shard->wall_us,
        .session = s->number,
        .kind = WIRE_LOST,
        .number = w->lost,
    };
    if (w->lost > 0 && put(w, &line, NULL))
        w->lost = 0;
    line.kind = (uint8_t)kind;
    line.number = number;
    line.cut = text.size > WIRE_LINE_MAX;
    line.size = (uint16_t)MIN(text.size, (size_t)WIRE_LINE_MAX);
    if (w->lost > 0 || !put(w, &line, text.data))
        w->lost++;
}

/* ---- lines ---- */

/* True: the line is whole, without its CRLF (or LF). */
static bool gather(struct gathered *g, uint8_t c)
{
    if (c == '\n') {
        g->cr = false;
        return true;
    }
    if (g->cr) { /* a bare one belongs to the line */
        if (g->size < sizeof(g->bytes))
            g->bytes[g->size] = '\r';
        g->size++;
    }
    g->cr = c == '\r';
    if (g->cr)
        return false;
    if (g->size < sizeof(g->bytes))
        g->bytes[g->size] = c;
    g->size++;
    return false;
}

/* As much of it as there is room for; its size tells of the rest. */
static struct slice gathered(const struct gathered *g)
{
    return slice_of(g->bytes, MIN((size_t)g->size, sizeof(g->bytes)));
}

static void tell_line(struct wire_session *s, enum wire_kind kind, struct gathered *g)
{
    tell(s, kind, slice_of(g->bytes, g->size), 0); /* the size before it is cut: so it is said */
    g->size = 0;
}

/* ---- the client's side ---- */

static size_t words_end(struct slice line, size_t at, bool blanks)
{
    while (at < line.size && (line.data[at] <= ' ') == blanks)
        at++;
    return at;
}

/* However it is written: what our parser refuses may be a secret all the same. */
static bool verb_is(struct slice line, struct slice verb)
{
    size_t begin = words_end(line, 0, true);
    size_t end = words_end(line, begin, false);
    return slice_equal_nocase(slice_part(line, begin, end - begin), verb);
}

/* AUTH, the mechanism, and no more. */
static void mask_auth(struct gathered *g)
{
    static const char mask[] = " ****";
    const struct slice line = gathered(g);
    size_t at = words_end(line, words_end(line, 0, true), false);
    at = words_end(line, words_end(line, at, true), false);
    if (at == line.size && g->size <= sizeof(g->bytes))
        return; /* no initial response */
    g->size = (uint32_t)at;
    if (at + sizeof(mask) - 1 > sizeof(g->bytes))
        return;
    memcpy(g->bytes + at, mask, sizeof(mask) - 1);
    g->size += sizeof(mask) - 1;
}

/* Octets of a chunk; one that says it badly is followed by who knows what. */
static uint64_t chunk_size(struct slice line)
{
    size_t begin = words_end(line, words_end(line, words_end(line, 0, true), false), true);
    size_t end = words_end(line, begin, false);
    uint64_t size;
    return slice_to_u64(slice_part(line, begin, end - begin), UINT64_MAX / 2, &size) < 0
               ? UINT64_MAX
               : size;
}

static void content_begins(struct wire_session *s, enum wire_mode mode)
{
    s->mode = (uint8_t)mode;
    s->dot = 2; /* as behind a CRLF: the first line may be the dot */
}

static void content_ends(struct wire_session *s)
{
    s->mode = LINES;
    tell(s, WIRE_CONTENT, slice_of(NULL, 0), s->content);
    s->content = 0;
}

static void header_starts(struct wire_session *s)
{
    s->header = s->watch->wish.headers;
    s->header_lines = 0;
    s->header_line.size = 0;
    s->header_line.cr = false;
}

static void client_line(struct wire_session *s)
{
    struct gathered *g = &s->client;
    const struct slice line = gathered(g);
    s->asked++;
    if (s->auth) {
        tell(s, WIRE_CLIENT, SLICE("****"), 0);
        g->size = 0;
        return;
    }
    if (verb_is(line, SLICE("AUTH"))) {
        s->auth = true;
        s->auth_at = s->asked;
        mask_auth(g);
    } else if (verb_is(line, SLICE("MAIL"))) {
        header_starts(s);
    } else if (verb_is(line, SLICE("DATA"))) {
        s->mode = ASKED;
        s->data_at = s->asked;
        s->untold = 0;
    } else if (verb_is(line, SLICE("BDAT"))) {
        s->left = chunk_size(line);
        if (s->left > 0)
            content_begins(s, CHUNK);
    }
    tell_line(s, WIRE_CLIENT, g);
}

static void header_octet(struct wire_session *s, uint8_t c)
{
    if (!s->header || !gather(&s->header_line, c))
        return;
    if (s->header_line.size == 0 || ++s->header_lines > WIRE_HEADER_MAX) {
        s->header = false;
        return;
    }
    tell_line(s, WIRE_HEADER, &s->header_line);
}

static void content_octet(struct wire_session *s, uint8_t c)
{
    static const char end[] = "\r\n.\r\n";
    s->content++;
    header_octet(s, c);
    if ((char)c == end[s->dot])
        s->dot++;
    else
        s->dot = c == '\r' ? 1 : 0;
    if (s->dot < sizeof(end) - 1)
        return;
    s->content -= 3; /* the dot and its CRLF are none of it */
    s->asked++;
    content_ends(s);
}

static size_t chunk_octets(struct wire_session *s, const uint8_t *bytes, size_t size)
{
    size_t take = (size_t)MIN((uint64_t)size, s->left);
    for (size_t i = 0; i < take && s->header; i++)
        header_octet(s, bytes[i]);
    s->content += take;
    s->left -= take;
    if (s->left == 0)
        content_ends(s);
    return take;
}

static void client_bytes(struct wire_session *s, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size;) {
        switch ((enum wire_mode)s->mode) {
        case CHUNK: i += chunk_octets(s, bytes + i, size - i); break;
        case CONTENT: content_octet(s, bytes[i++]); break;
        case ASKED: s->untold += size - i; return;
        case LINES:
            if (gather(&s->client, bytes[i++]))
                client_line(s);
            break;
        }
    }
}

/* ---- the server's side ---- */

/* The DATA was answered. */
static void asked_ends(struct wire_session *s, bool go)
{
    uint64_t untold = s->untold;
    s->untold = 0;
    s->mode = LINES;
    if (go)
        content_begins(s, CONTENT);
    if (untold > 0) { /* whatever it was: from here on it is counted wrong, and never shown */
        tell(s, WIRE_CONTENT, slice_of(NULL, 0), untold);
        s->mode = CHUNK;
        s->left = UINT64_MAX;
    }
}

static void server_line(struct wire_session *s)
{
    struct gathered *g = &s->server;
    const struct slice line = gathered(g);
    const bool last = line.size < 4 || line.data[3] != '-';
    const bool is_354 = line.size >= 3 && memcmp(line.data, "354", 3) == 0;
    const bool is_334 = line.size >= 3 && memcmp(line.data, "334", 3) == 0;
    if (last && s->answered < s->asked)
        s->answered++;
    if (last && s->auth && !is_334 && s->answered >= s->auth_at)
        s->auth = false;
    if (is_334 && g->size > 4) {
        memcpy(g->bytes + 3, " ****", 5);
        g->size = 8;
    }
    tell_line(s, WIRE_SERVER, g);
    if (last && s->mode == ASKED && (is_354 || s->answered >= s->data_at))
        asked_ends(s, is_354);
}

static void server_bytes(struct wire_session *s, const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (gather(&s->server, bytes[i]))
            server_line(s);
}

/* ---- sessions ---- */

void wire_bytes(struct wire_session *s, bool in, const uint8_t *bytes, size_t size)
{
    CHECK(s->connection != NULL);
    if (in == s->outbound)
        server_bytes(s, bytes, size);
    else
        client_bytes(s, bytes, size);
}

void wire_tls(struct wire_session *s, const char *text)
{
    tell(s, WIRE_TLS, slice_of_string(text), 0);
}

static void session_free(struct wire_session *s)
{
    struct wire_watch *w = s->watch;
    s->connection->tap = NULL;
    s->connection = NULL;
    __atomic_store_n(&w->open, w->open - 1, __ATOMIC_RELEASE);
}

void wire_end(struct wire_session *s)
{
    if (s->content > 0)
        content_ends(s); /* it was cut */
    tell(s, WIRE_END, slice_of(NULL, 0), (s->shard->now_ns - s->began_ns) / MS_IN_NS);
    session_free(s);
}

static bool one_less(uint32_t *left)
{
    uint32_t now = __atomic_load_n(left, __ATOMIC_RELAXED);
    while (now > 0)
        if (__atomic_compare_exchange_n(left, &now, now - 1, false, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED))
            return true;
    return false;
}

static struct wire_session *session_new(struct wire_watch *w, struct shard *shard,
                                        struct connection *connection)
{
    for (unsigned i = 0; i < WIRE_SESSIONS; i++) {
        struct wire_session *s = &w->sessions[i];
        if (s->connection != NULL)
            continue;
        if (!one_less(w->left))
            return NULL;
        memset(s, 0, sizeof(*s));
        s->watch = w;
        s->connection = connection;
        s->shard = shard;
        s->began_ns = shard->now_ns;
        s->number = shard->index << NUMBER_SHARD_SHIFT | ++w->made;
        s->asked = 1;
        connection->tap = s;
        __atomic_store_n(&w->open, w->open + 1, __ATOMIC_RELEASE);
        return s;
    }
    return NULL;
}

void wire_inbound(struct wire_watch *w, struct shard *shard, struct connection *connection,
                  const struct net_address *peer, const char *listener)
{
    const struct wire_wish *wish = &w->wish;
    if (wish->destination[0] != '\0' || (wish->by_peer && !net_in(&wish->peer, peer)) ||
        (wish->listener[0] != '\0' && strcmp(wish->listener, listener) != 0))
        return;
    struct wire_session *s = session_new(w, shard, connection);
    if (s == NULL)
        return;
    char text[WIRE_LINE_MAX];
    char address[NET_TEXT_MAX];
    net_text(peer, true, address);
    snprintf(text, sizeof(text), "from %s, by listener %s", address, listener);
    tell(s, WIRE_BEGIN, slice_of_string(text), 0);
}

void wire_outbound(struct wire_watch *w, struct shard *shard, struct connection *connection,
                   const struct net_address *peer, const char *host, const char *destination)
{
    const struct wire_wish *wish = &w->wish;
    if (wish->listener[0] != '\0' || (wish->by_peer && !net_in(&wish->peer, peer)) ||
        (wish->destination[0] != '\0' && strcmp(wish->destination, destination) != 0))
        return;
    struct wire_session *s = session_new(w, shard, connection);
    if (s == NULL)
        return;
    s->outbound = true;
    char text[WIRE_LINE_MAX];
    char address[NET_TEXT_MAX];
    net_text(peer, true, address);
    snprintf(text, sizeof(text), "to %s (%s), for %s", address, host, destination);
    tell(s, WIRE_BEGIN, slice_of_string(text), 0);
}

/* ---- life ---- */

struct wire_watch *wire_watch_new(const struct wire_wish *wish, uint32_t *left)
{
    struct wire_watch *w = aligned_alloc(64, (sizeof(*w) + 63) / 64 * 64);
    if (w == NULL)
        return NULL;
    memset(w, 0, offsetof(struct wire_watch, text));
    w->wish = *wish;
    w->left = left;
    return w;
}

void wire_watch_free(struct wire_watch *w)
{
    free(w);
}

void wire_watch_release(struct wire_watch *w)
{
    for (unsigned i = 0; i < WIRE_SESSIONS; i++)
        if (w->sessions[i].connection != NULL)
            session_free(&w->sessions[i]);
    __atomic_store_n(&w->released, true, __ATOMIC_RELEASE);
}

uint64_t wire_watch_lost(const struct wire_watch *w)
{
    return wire_watch_released(w) ? w->lost : 0;
}

bool wire_watch_released(const struct wire_watch *w)
{
    return __atomic_load_n(&w->released, __ATOMIC_ACQUIRE);
}

uint32_t wire_watch_open(const struct wire_watch *w)
{
    return __atomic_load_n(&w->open, __ATOMIC_ACQUIRE);
}
