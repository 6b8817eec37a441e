/*
 * fuzz_session.c - a TLS session and whatever comes to it, in any pieces
 *
 * Octet 0 chooses: the input is what a client sends to our server; or a server to our client; or
 * both are ours, and the input says which octets of which flight change on the way, and how the
 * wire is cut up. Octet 1: largest piece, 0 for whole.
 */
#include <stdlib.h>

#include "core/check.h"
#include "tests/tls/pair_world.h"
#include "tls/tls_verify.h"

enum { FROM_CLIENT, FROM_SERVER, BETWEEN, KINDS, CHANGE_BYTES = 4, TURNS_MAX = 64, HEAD_BYTES = 2 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct pair_pki pki;
static struct pair_world world;
static struct pair pair;

static void begin_once(void)
{
    static bool done;
    if (done)
        return;
    done = true;
    pair_pki_make(&pki);
    pair_world_init(&world, &pki, NULL, true, 16);
}

/* Whatever a session does, its facts and words can be asked for. */
static void look_at(struct tls_session *session)
{
    struct tls_facts facts;
    char why[TLS_TEXT_MAX];
    tls_session_facts(session, &facts);
    CHECK(strlen(facts.version) > 0);
    CHECK(tls_session_why(session, why) < TLS_TEXT_MAX);
}

/* Reads all there is; what was never sent is never read. */
static void drain(struct tls_session *session, bool nothing_was_sent)
{
    uint8_t in[512];
    size_t bytes;
    enum tls_result r = TLS_OK;
    for (unsigned i = 0; i < TURNS_MAX && r == TLS_OK; i++) {
        r = tls_session_read(session, in, sizeof(in), &bytes);
        CHECK(r != TLS_OK || (bytes > 0 && bytes <= sizeof(in)));
        CHECK(r != TLS_OK || !nothing_was_sent);
    }
}

/* One of ours, and a stranger. */
static void strange(struct tls_session *session, struct pair_end *stranger, const uint8_t *data,
                    size_t size)
{
    size_t at = 0;
    bool is_open = false;
    for (unsigned turn = 0; turn < TURNS_MAX; turn++) {
        at += pair_ends.put(stranger, data + at, size - at);
        enum tls_result r = is_open ? TLS_OK : tls_session_handshake(session);
        CHECK(r != TLS_CLOSED);
        is_open = is_open || r == TLS_OK;
        CHECK(!is_open); /* nobody guesses a Finished */
        if (r == TLS_FAILED)
            break;
        /* what it says is not listened to */
        stranger->in->at = stranger->in->size = 0;
    }
    look_at(session);
}

static void change(struct pair_wire *wire, const uint8_t *change)
{
    if (wire->size == wire->at)
        return;
    size_t at = wire->at + (size_t)(change[1] | change[2] << 8) % (wire->size - wire->at);
    wire->bytes[at] ^= change[3];
}

static void between(const uint8_t *data, size_t size)
{
    bool changed = false;
    enum tls_result client = TLS_WANT_IN, server = TLS_WANT_IN;
    for (unsigned turn = 0; turn < TURNS_MAX; turn++) {
        if (client != TLS_OK && client != TLS_FAILED)
            client = tls_session_handshake(pair.client);
        for (; size >= CHANGE_BYTES && (data[0] >> 1) == turn;
             data += CHANGE_BYTES, size -= CHANGE_BYTES) {
            change((data[0] & 1) == 0 ? &pair.to_server : &pair.to_client, data);
            changed = changed || data[3] != 0;
        }
        if (server != TLS_OK && server != TLS_FAILED)
            server = tls_session_handshake(pair.server);
        if ((client == TLS_OK || client == TLS_FAILED) &&
            (server == TLS_OK || server == TLS_FAILED))
            break;
    }
    if (client == TLS_OK)
        drain(pair.client, true);
    if (server == TLS_OK)
        drain(pair.server, true);
    if (client == TLS_OK && server == TLS_OK && !changed)
        CHECK(pair_send(&pair, pair.client, pair.server, 1'000));
    look_at(pair.client);
    look_at(pair.server);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    begin_once();
    if (size < HEAD_BYTES)
        return 0;
    struct tls_client_policy policy = pair_policy(&world, TLS_LEVEL_NAME);
    struct tls_client_target target = pair_target("server.example");
    pair_init(&pair, size, data[1]);
    pair_world_begin(&world, &pair, (data[0] & 0x80) != 0, &policy, &target);
    switch ((data[0] & 0x7f) % KINDS) {
    case FROM_CLIENT:
        strange(pair.server, &pair.client_end, data + HEAD_BYTES, size - HEAD_BYTES);
        break;
    case FROM_SERVER:
        CHECK(tls_session_handshake(pair.client) != TLS_OK);
        strange(pair.client, &pair.server_end, data + HEAD_BYTES, size - HEAD_BYTES);
        break;
    default: between(data + HEAD_BYTES, size - HEAD_BYTES); break;
    }
    pair_free(&pair);
    return 0;
}
