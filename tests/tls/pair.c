/*
 * pair.c - the wire between two sessions
 */
#include "tests/tls/pair.h"

#include <stdlib.h>

#include "core/check.h"

enum { TURNS_MAX = 1 << 22 };

static size_t piece_of(struct pair *pair, size_t bytes)
{
    if (pair->piece_max == 0)
        return bytes;
    size_t piece = 1 + (size_t)random_below(&pair->random, pair->piece_max);
    return MIN(bytes, piece);
}

static bool is_cut(const struct pair *pair)
{
    return pair->to_server.carried + pair->to_client.carried >= pair->cut_at;
}

static size_t end_take(void *owner, uint8_t *to, size_t bytes)
{
    struct pair_end *end = owner;
    struct pair_wire *wire = end->in;
    size_t size = piece_of(end->pair, bytes);
    size = MIN(size, wire->size - wire->at);
    memcpy(to, wire->bytes + wire->at, size);
    wire->at += size;
    if (wire->at == wire->size)
        wire->at = wire->size = 0;
    return size;
}

static size_t end_put(void *owner, const uint8_t *from, size_t bytes)
{
    struct pair_end *end = owner;
    struct pair *pair = end->pair;
    struct pair_wire *wire = end->out;
    if (wire->at > 0) {
        memmove(wire->bytes, wire->bytes + wire->at, wire->size - wire->at);
        wire->size -= wire->at;
        wire->at = 0;
    }
    size_t room = pair->piece_max == 0 ? sizeof(wire->bytes) : MAX(4 * pair->piece_max, 64U);
    room = MIN(room, sizeof(wire->bytes));
    uint64_t left =
        pair->cut_at - MIN(pair->cut_at, pair->to_server.carried + pair->to_client.carried);
    size_t size = piece_of(pair, bytes);
    size = MIN(size, room - MIN(room, wire->size));
    size = (size_t)MIN((uint64_t)size, left);
    memcpy(wire->bytes + wire->size, from, size);
    wire->size += size;
    wire->carried += size;
    return size;
}

const struct tls_ends pair_ends = { .take = end_take, .put = end_put };

/* But for its octets: there are many, and none of them counts. */
static void wire_empty(struct pair_wire *wire)
{
    wire->at = wire->size = 0;
    wire->carried = 0;
}

void pair_init(struct pair *pair, uint64_t seed, size_t piece_max)
{
    pair->client = pair->server = NULL;
    wire_empty(&pair->to_server);
    wire_empty(&pair->to_client);
    random_seed(&pair->random, seed);
    pair->piece_max = piece_max;
    pair->cut_at = UINT64_MAX;
    pair->client_end = (struct pair_end) { pair, &pair->to_client, &pair->to_server };
    pair->server_end = (struct pair_end) { pair, &pair->to_server, &pair->to_client };
}

void pair_free(struct pair *pair)
{
    tls_session_free(pair->client);
    tls_session_free(pair->server);
    pair->client = pair->server = NULL;
}

enum pair_result pair_handshake(struct pair *pair, enum tls_result *client, enum tls_result *server)
{
    *client = *server = TLS_WANT_IN;
    for (unsigned turn = 0; turn < TURNS_MAX; turn++) {
        uint64_t before = pair->to_server.carried + pair->to_client.carried;
        size_t waiting =
            pair->to_server.size - pair->to_server.at + pair->to_client.size - pair->to_client.at;
        if (*client != TLS_OK)
            *client = tls_session_handshake(pair->client);
        if (*server != TLS_OK && *client != TLS_FAILED)
            *server = tls_session_handshake(pair->server);
        if (*server == TLS_FAILED && *client != TLS_OK && *client != TLS_FAILED)
            *client = tls_session_handshake(pair->client); /* the alert */
        if (*client == TLS_FAILED || *server == TLS_FAILED)
            return PAIR_FAILED;
        if (*client == TLS_OK && *server == TLS_OK)
            return PAIR_DONE;
        size_t waits =
            pair->to_server.size - pair->to_server.at + pair->to_client.size - pair->to_client.at;
        bool moved =
            before != pair->to_server.carried + pair->to_client.carried || waiting != waits;
        if (!moved && is_cut(pair))
            return PAIR_STUCK;
    }
    return PAIR_STUCK;
}

static uint8_t pattern_at(size_t at)
{
    return (uint8_t)(at * 31 + (at >> 8));
}

bool pair_send(struct pair *pair, struct tls_session *from, struct tls_session *to, size_t bytes)
{
    static _Thread_local uint8_t in[TLS_PLAINTEXT_MAX], out[TLS_PLAINTEXT_MAX];
    size_t sent = 0, got = 0;
    for (unsigned turn = 0; got < bytes && turn < TURNS_MAX; turn++) {
        size_t size = MIN(bytes - sent, sizeof(out));
        for (size_t i = 0; i < size; i++)
            out[i] = pattern_at(sent + i);
        size_t done = 0;
        enum tls_result r = TLS_OK;
        if (size > 0)
            r = tls_session_write(from, slice_of(out, size), &done);
        if (r == TLS_FAILED || r == TLS_CLOSED)
            return false;
        sent += r == TLS_OK ? done : 0;
        size_t room = pair->piece_max == 0 ? sizeof(in) : piece_of(pair, sizeof(in));
        r = tls_session_read(to, in, room, &done);
        if (r == TLS_FAILED || r == TLS_CLOSED)
            return false;
        for (size_t i = 0; r == TLS_OK && i < done; i++)
            if (in[i] != pattern_at(got + i))
                return false;
        got += r == TLS_OK ? done : 0;
        if (is_cut(pair) && r == TLS_WANT_IN)
            return false;
    }
    return got == bytes;
}
