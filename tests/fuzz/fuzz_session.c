/*
 * fuzz_session.c - a TLS session and whatever comes to it, in any pieces
 *
 * Octet 0 chooses what the rest is:
 *   FROM_CLIENT, FROM_SERVER   what a stranger says to our server, or to our client
 *   BETWEEN                    what changes on the way while two of ours shake hands
 *   OPEN                       what two of ours do once they have: write, read, close, new keys, an
 *                              alert, each in any order; and what is done to the wires meanwhile
 * Octet 1: largest piece that a wire moves, 0 for whole.
 *
 * A full handshake takes ten times as long as most else, so how two of ours shake hands is not for
 * an octet to say, which the corpus would collect: a hash of the whole input draws it, and most
 * resume by TLS 1.2, which needs no key exchange. Fifteen of sixteen key exchanges are toys. What
 * is resumed is the same each time, so an input does what it did.
 *
 * Nothing is ever read but what was written, from its beginning, without a gap; an end is told when
 * the peer made it and all before it has come; nothing fails unless something was done to it, and
 * what failed stays so; if nothing was done, all arrives. BoringSSL gets all its memory back.
 */
#include <stdlib.h>
#include <xxhash.h>

#include "core/check.h"
#include "tests/fuzz/library_memory.h"
#include "tests/fuzz/toy_x25519.h"
#include "tests/tls/pair_world.h"
#include "tls/tls_session_inside.h"

enum {
    FROM_CLIENT,
    FROM_SERVER,
    BETWEEN,
    OPEN,
    KIND_MASK = 3,
    KIND_JUDGES = 0x20, /* our client asks more of a stranger than encryption */
    KIND_TLS_12 = 0x40, /* and offers nothing newer */
    KIND_ASKS = 0x80,   /* our server asks for a certificate */
    HEAD_BYTES = 2,
    CHANGE_BYTES = 4,
    TURNS_MAX = 64,
    ACTS_MAX = 128,
    SETTLE_MAX = 1 << 20,
    IDS = 16,
    KEY_SHARES = 16,
    UPDATES_MAX = 30, /* of keys: BoringSSL takes 32 in a row */
    PERIOD = 251,     /* of the pattern that is written */
    WRITE_MAX = 20'480,
    PIECES_MAX = 128, /* of a write */
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* How two of ours shake hands. */
enum way {
    RESUMED_12,
    RESUMED_ID,
    RESUMED_13,
    JUDGED_13,
    FULL_12,
    FULL_13,
    WAYS_BETWEEN_OURS,
    ANYBODY_12 = WAYS_BETWEEN_OURS,
    ANYBODY_13,
    WAYS
};

static struct way_facts {
    unsigned version_max;
    bool no_tickets;
    bool is_resumed;
    bool is_judged; /* by certificate and name, else by nothing */
    uint8_t host[TLS_CLIENT_HOST_BYTES];
    struct tls_client_policy policy;
    struct tls_lru_key key;
    SSL_SESSION *session; /* what is resumed */
    /* Two that have shaken hands, and all that there is of them. */
    struct library_memory *memory;
    struct tls_session *client, *server;
} ways[WAYS] = {
    [RESUMED_12] = { .version_max = TLS_VERSION_12, .is_resumed = true },
    [RESUMED_ID] = { .version_max = TLS_VERSION_12, .is_resumed = true, .no_tickets = true },
    [RESUMED_13] = { .version_max = TLS_VERSION_13, .is_resumed = true },
    [JUDGED_13] = { .version_max = TLS_VERSION_13, .is_resumed = true, .is_judged = true },
    [FULL_12] = { .version_max = TLS_VERSION_12, .is_judged = true },
    [FULL_13] = { .version_max = TLS_VERSION_13, .is_judged = true },
    [ANYBODY_12] = { .version_max = TLS_VERSION_12 },
    [ANYBODY_13] = { .version_max = TLS_VERSION_13 },
};

static struct pair_pki pki;
static struct pair_world world;
static struct pair pair;
static struct tls_keyshares *keyshares;
static struct tls_id_cache *ids;
static uint8_t pattern[PERIOD + WRITE_MAX];

static void begin(enum way way, bool asks)
{
    const struct way_facts *facts = &ways[way];
    asks = asks && way >= RESUMED_13; /* of TLS 1.2 nothing is resumed then */
    struct tls_client_target target = pair_target("server.example");
    target.host = facts->host;
    target.version_max = facts->version_max;
    target.no_tickets = facts->no_tickets;
    if (facts->session != NULL) {
        SSL_SESSION_up_ref(facts->session);
        tls_client_cache_put(&world.sessions, &facts->key, facts->session);
    }
    pair_world_begin(&world, &pair, asks, &facts->policy, &target);
}

static void end(void)
{
    pair_free(&pair);
    tls_client_cache_clear(&world.sessions);
}

/* Also those that resume nothing: what the library makes once is made then. */
static void prepare(enum way way)
{
    struct way_facts *facts = &ways[way];
    enum tls_result client, server;
    facts->host[0] = (uint8_t)way;
    facts->policy = pair_policy(&world, facts->is_judged ? TLS_LEVEL_NAME : TLS_LEVEL_MAY);
    facts->policy.credential = facts->is_judged ? pki.credentials[PAIR_CLIENT] : NULL;
    pair_init(&pair, 1, 0);
    begin(way, false);
    CHECK(pair_handshake(&pair, &client, &server) == PAIR_DONE);
    CHECK(pair_send(&pair, pair.server, pair.client, 1)); /* a ticket goes before it */
    if (facts->is_resumed) {
        facts->key = tls_lru_key_of(slice_of(pair.client->key, sizeof(pair.client->key)));
        facts->session = tls_client_cache_take(&world.sessions, &facts->key, 0);
        CHECK(facts->session != NULL);
    }
    end();
}

static void read_nothing(struct tls_session *session)
{
    uint8_t octet;
    size_t bytes;
    CHECK(tls_session_read(session, &octet, 1, &bytes) == TLS_WANT_IN);
}

/* Sessions as they are once they are open; certificates and contexts are in the first memory. */
static void keep_open(enum way way)
{
    struct way_facts *facts = &ways[way];
    enum tls_result client, server;
    facts->memory = library_memory_new(true);
    library_memory_use(facts->memory);
    pair_init(&pair, 1, 0);
    begin(way, false);
    CHECK(pair_handshake(&pair, &client, &server) == PAIR_DONE);
    CHECK(pair_send(&pair, pair.server, pair.client, 1)); /* a ticket goes before it */
    read_nothing(pair.client);
    read_nothing(pair.server);
    tls_client_cache_clear(&world.sessions);
    ERR_clear_error();
    facts->client = pair.client;
    facts->server = pair.server;
    library_memory_use(NULL);
    library_memory_keep(facts->memory);
}

static void begin_once(void)
{
    static bool done;
    if (done)
        return;
    done = true;
    for (size_t i = 0; i < sizeof(pattern); i++)
        pattern[i] = (uint8_t)(i % PERIOD);
    pair_pki_make(&pki);
    CHECK(tls_id_cache_make(IDS, 3'600, &ids) == 0);
    pair_world_init(&world, &pki, ids, true, KEY_SHARES);
    keyshares = world.shard.keyshares;
    for (unsigned way = 0; way < WAYS; way++)
        prepare((enum way)way);
    for (unsigned way = 0; way < WAYS_BETWEEN_OURS && library_memory_is_here(); way++)
        keep_open((enum way)way);
}

/* One in 16 is in earnest, and draws no key pair from the pool; the others have toys in it. */
static void draw_keys(uint64_t hash)
{
    bool is_toy = (hash >> 8) % 16 != 0 && toy_x25519_is_here();
    toy_x25519_use(is_toy);
    world.shard.keyshares = is_toy ? keyshares : NULL;
    if (is_toy)
        (void)tls_keyshares_fill(keyshares, KEY_SHARES, world.now_ms);
}

static enum way draw_way(uint64_t hash)
{
    switch (hash % 128) {
    case 0: return hash & 128 ? FULL_12 : FULL_13;
    case 1: return JUDGED_13;
    default: return hash % 16 == 15 ? RESUMED_13 : hash % 16 == 14 ? RESUMED_ID : RESUMED_12;
    }
}

static enum way way_to_stranger(uint8_t kind)
{
    if ((kind & KIND_JUDGES) != 0)
        return (kind & KIND_TLS_12) != 0 ? FULL_12 : FULL_13;
    return (kind & KIND_TLS_12) != 0 ? ANYBODY_12 : ANYBODY_13;
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

/* For good. */
static void check_stays_failed(struct tls_session *session)
{
    uint8_t octet = 0;
    size_t bytes;
    if (session->is_open) {
        CHECK(tls_session_read(session, &octet, 1, &bytes) == TLS_FAILED);
        CHECK(tls_session_write(session, slice_of(&octet, 1), &bytes) == TLS_FAILED);
    } else {
        CHECK(tls_session_handshake(session) == TLS_FAILED);
    }
    CHECK(tls_session_close(session) == TLS_FAILED);
}

/* ---- one of ours, and a stranger ---- */

/* Until all is said and nothing moves any more. What ours says is not listened to. */
static void strange(struct tls_session *session, struct pair_end *stranger, const uint8_t *data,
                    size_t size)
{
    enum tls_result r;
    size_t at = 0, before;
    do {
        size_t put = pair_ends.put(stranger, data + at, size - at);
        at += put;
        before = stranger->out->size - stranger->out->at;
        r = tls_session_handshake(session);
        CHECK(r != TLS_CLOSED);
        CHECK(r != TLS_OK); /* nobody guesses a Finished */
        bool said = stranger->in->size > 0;
        stranger->in->at = stranger->in->size = 0;
        if (put == 0 && !said && before == stranger->out->size - stranger->out->at)
            break;
    } while (r != TLS_FAILED);
    CHECK(r == TLS_FAILED || (at == size && stranger->out->size == 0));
    if (r == TLS_FAILED)
        check_stays_failed(session);
    look_at(session);
}

static void from_client(bool asks, const uint8_t *data, size_t size)
{
    pair.server = tls_server_accept(world.server, asks, &pair_ends, &pair.server_end);
    CHECK(pair.server != NULL);
    strange(pair.server, &pair.client_end, data, size);
}

static void from_server(enum way way, const uint8_t *data, size_t size)
{
    begin(way, false);
    CHECK(tls_session_handshake(pair.client) != TLS_OK);
    strange(pair.client, &pair.server_end, data, size);
}

/* ---- two of ours, and a wire that changes what they say ---- */

/* Reads all there is; what was never sent is never read. */
static void drain(struct tls_session *session)
{
    uint8_t in[512];
    size_t bytes;
    CHECK(tls_session_read(session, in, sizeof(in), &bytes) != TLS_OK);
}

static bool change(struct pair_wire *wire, const uint8_t *change)
{
    if (wire->size == wire->at)
        return false;
    size_t at = wire->at + (size_t)(change[1] | change[2] << 8) % (wire->size - wire->at);
    wire->bytes[at] ^= change[3];
    return change[3] != 0;
}

static bool is_over(enum tls_result r)
{
    return r == TLS_OK || r == TLS_FAILED;
}

static void between(const uint8_t *data, size_t size)
{
    bool changed = false;
    enum tls_result client = TLS_WANT_IN, server = TLS_WANT_IN;
    for (unsigned turn = 0; turn < TURNS_MAX && !(is_over(client) && is_over(server)); turn++) {
        if (!is_over(client))
            client = tls_session_handshake(pair.client);
        for (; size >= CHANGE_BYTES && (data[0] >> 1) == turn;
             data += CHANGE_BYTES, size -= CHANGE_BYTES)
            if (change((data[0] & 1) == 0 ? &pair.to_server : &pair.to_client, data))
                changed = true;
        if (!is_over(server))
            server = tls_session_handshake(pair.server);
    }
    CHECK(changed || (client != TLS_FAILED && server != TLS_FAILED));
    if (client == TLS_FAILED)
        check_stays_failed(pair.client);
    if (server == TLS_FAILED)
        check_stays_failed(pair.server);
    if (client == TLS_OK)
        drain(pair.client);
    if (server == TLS_OK)
        drain(pair.server);
    if (client == TLS_OK && server == TLS_OK && !changed)
        CHECK(pair_send(&pair, pair.client, pair.server, 100));
    look_at(pair.client);
    look_at(pair.server);
}

/* ---- two of ours that have shaken hands, and what they do ---- */

static struct side {
    struct tls_session *session;
    struct side *peer;
    struct pair_end *end;
    struct pair_wire *in;
    size_t sent, got;
    size_t refused; /* octets of a write that is to be made again */
    unsigned updates;
    bool in_changed; /* the wire that it reads */
    bool is_closing; /* it was told to close, and may have had no room for that */
    bool is_closed;
    bool is_alerting;
    bool is_ended; /* the peer said close_notify */
} sides[2];

static bool may_write(const struct side *s)
{
    return !s->session->is_failed && !s->is_closing && !s->is_alerting;
}

/* Nothing fails by itself. */
static bool may_fail(const struct side *s)
{
    return s->in_changed || s->is_alerting || s->peer->is_alerting || s->peer->session->is_failed ||
           s->peer->updates > UPDATES_MAX;
}

static void write_some(struct side *s, size_t size)
{
    size_t bytes;
    if (!may_write(s))
        return;
    size = MAX(size, s->refused);
    struct slice out = slice_of(pattern + s->sent % PERIOD, size);
    enum tls_result r = tls_session_write(s->session, out, &bytes);
    if (r == TLS_WANT_OUT) {
        s->refused = size;
        return;
    }
    CHECK(r == TLS_OK);
    CHECK(bytes > 0 && bytes <= size);
    s->refused = 0;
    s->sent += bytes;
}

static void check_got(struct side *s, const uint8_t *in, size_t bytes)
{
    CHECK(bytes <= s->peer->sent - s->got);
    CHECK(memcmp(in, pattern + s->got % PERIOD, bytes) == 0);
    s->got += bytes;
}

static enum tls_result read_some(struct side *s, size_t room)
{
    static uint8_t in[WRITE_MAX];
    size_t bytes;
    bool was_failed = s->session->is_failed;
    bool has_more = !was_failed && tls_session_has_more(s->session);
    size_t untaken = s->in->size - s->in->at;
    enum tls_result r = tls_session_read(s->session, in, room, &bytes);
    CHECK(!has_more || (r == TLS_OK && s->in->size - s->in->at == untaken));
    CHECK(!was_failed || r == TLS_FAILED);
    switch (r) {
    case TLS_OK:
        CHECK(bytes > 0 && bytes <= room);
        CHECK(!s->is_ended);
        check_got(s, in, bytes);
        break;
    case TLS_CLOSED: /* an end that the peer made, and nothing before it is missing */
        CHECK(s->peer->is_closing);
        CHECK(s->got == s->peer->sent);
        s->is_ended = true;
        break;
    case TLS_FAILED:
        CHECK(may_fail(s));
        check_stays_failed(s->session);
        break;
    default: CHECK(!s->is_ended);
    }
    return r;
}

static void close_one(struct side *s)
{
    if (s->refused > 0 || s->is_closed || s->is_alerting)
        return;
    if (s->session->is_failed) {
        check_stays_failed(s->session);
        return;
    }
    enum tls_result r = tls_session_close(s->session);
    CHECK(r == TLS_OK || r == TLS_WANT_OUT);
    s->is_closing = true;
    s->is_closed = r == TLS_OK;
}

/* What peers can do that are not ours. */

static void update_keys(struct side *s, bool and_back)
{
    if (!may_write(s) || s->refused > 0 || SSL_version(s->session->ssl) != TLS1_3_VERSION)
        return;
    int wanted = and_back ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED;
    CHECK(SSL_key_update(s->session->ssl, wanted) == 1);
    s->updates++;
    s->peer->updates += and_back ? 1 : 0;
}

static void send_alert(struct side *s, uint8_t alert)
{
    if (!may_write(s) || s->refused > 0 || alert == SSL_AD_CLOSE_NOTIFY)
        return;
    (void)SSL_send_fatal_alert(s->session->ssl, alert);
    s->is_alerting = true;
}

/* What a wire can do: change an octet, lose some, give some again. */

static void change_one(struct side *s, size_t at, uint8_t by)
{
    size_t waiting = s->in->size - s->in->at;
    if (waiting == 0 || by == 0)
        return;
    s->in->bytes[s->in->at + at % waiting] ^= by;
    s->in_changed = true;
}

static void lose(struct side *s, size_t bytes)
{
    size_t waiting = s->in->size - s->in->at;
    if (waiting == 0)
        return;
    s->in->size -= 1 + bytes % waiting;
    if (s->in->size == s->in->at)
        s->in->size = s->in->at = 0;
    s->in_changed = true;
}

static void put(struct side *s, const uint8_t *data, size_t bytes)
{
    if (pair_ends.put(s->peer->end, data, bytes) > 0)
        s->in_changed = true;
}

static void repeat(struct side *s, size_t bytes)
{
    static uint8_t copy[PAIR_WIRE_BYTES];
    size_t waiting = s->in->size - s->in->at;
    if (waiting == 0)
        return;
    bytes = 1 + bytes % waiting;
    memcpy(copy, s->in->bytes + s->in->size - bytes, bytes);
    put(s, copy, bytes);
}

enum act { WRITE, READ, CLOSE, UPDATE, ALERT, CHANGE, LOSE, REPEAT, PUT, ACTS };
enum { ACT_BYTES = 3, SMALL_MAX = 0xefff, MIDDLE_MAX = 0xfeff };

/* Mostly small; else up to more than a record, but not in very many pieces. */
static size_t size_of(unsigned argument)
{
    size_t size = 1 + (argument <= SMALL_MAX    ? argument & 0xff
                       : argument <= MIDDLE_MAX ? argument & 0xfff
                                                : 80 * (argument & 0xff));
    size_t most = pair.piece_max == 0 ? WRITE_MAX : PIECES_MAX * pair.piece_max;
    return MIN(size, MIN(most, (size_t)WRITE_MAX));
}

/* Octets after the act that are its own. */
static size_t act(struct side *s, enum act act, unsigned argument, const uint8_t *data, size_t size)
{
    switch (act) {
    case WRITE: write_some(s, size_of(argument)); break;
    case READ: (void)read_some(s, size_of(argument)); break;
    case CLOSE: close_one(s); break;
    case UPDATE: update_keys(s, (argument & 1) != 0); break;
    case ALERT: send_alert(s, (uint8_t)argument); break;
    case CHANGE: change_one(s, argument & 0xfff, (uint8_t)(1 << (argument >> 13))); break;
    case LOSE: lose(s, argument); break;
    case REPEAT: repeat(s, argument); break;
    case PUT:
        size = MIN(size, (size_t)(argument & 0xff));
        put(s, data, size);
        return size;
    default: break;
    }
    return 0;
}

static uint64_t moved(void)
{
    return pair.to_server.carried + pair.to_client.carried + sides[0].got + sides[1].got +
           sides[0].sent + sides[1].sent;
}

static bool is_waiting(void)
{
    return pair.to_server.size + pair.to_client.size > 0;
}

/* Nothing was done to the wires: all that was written comes, and then the end, if it was said. */
static void settle(void)
{
    uint64_t before;
    bool was_waiting;
    unsigned turns = 0;
    do {
        before = moved();
        was_waiting = is_waiting();
        for (unsigned i = 0; i < 2; i++) {
            struct side *s = &sides[i];
            if (s->refused > 0)
                write_some(s, s->refused);
            if (s->is_closing)
                close_one(s);
            (void)read_some(s, WRITE_MAX);
        }
        CHECK(turns++ < SETTLE_MAX);
    } while (moved() != before || was_waiting);
    for (unsigned i = 0; i < 2; i++) {
        const struct side *s = &sides[i];
        CHECK(s->got == s->peer->sent);
        CHECK(s->refused == 0);
        CHECK(s->is_ended == s->peer->is_closed);
    }
}

static void check_resumed(struct tls_session *session, bool is_resumed)
{
    struct tls_facts facts;
    tls_session_facts(session, &facts);
    CHECK(facts.is_resumed == is_resumed);
}

static void open_pair(enum way way, bool asks)
{
    enum tls_result client, server;
    begin(way, asks);
    CHECK(pair_handshake(&pair, &client, &server) == PAIR_DONE);
    check_resumed(pair.client, ways[way].is_resumed);
    check_resumed(pair.server, ways[way].is_resumed);
}

static void open_again(enum way way)
{
    struct way_facts *facts = &ways[way];
    library_memory_use(facts->memory);
    library_memory_restore(facts->memory);
    pair.client = facts->client;
    pair.server = facts->server;
}

static void leave_open(void)
{
    pair.client = pair.server = NULL;
    ERR_clear_error();
    library_memory_use(NULL);
}

static void act_all(const uint8_t *data, size_t size)
{
    sides[0] = (struct side) {
        .session = pair.client, .peer = &sides[1], .end = &pair.client_end, .in = &pair.to_client
    };
    sides[1] = (struct side) {
        .session = pair.server, .peer = &sides[0], .end = &pair.server_end, .in = &pair.to_server
    };
    for (unsigned i = 0; i < ACTS_MAX && size >= ACT_BYTES; i++) {
        struct side *s = &sides[data[0] >> 7];
        enum act what = (enum act)((data[0] & 0x7f) % ACTS);
        unsigned argument = data[1] | (unsigned)data[2] << 8;
        data += ACT_BYTES;
        size -= ACT_BYTES;
        size_t own = act(s, what, argument, data, size);
        data += own;
        size -= own;
    }
    if (!may_fail(&sides[0]) && !may_fail(&sides[1]))
        settle();
    look_at(pair.client);
    look_at(pair.server);
}

/* One in 16 shakes hands itself. */
static void open_and_act(uint64_t hash, bool asks, size_t piece_max, const uint8_t *data,
                         size_t size)
{
    bool is_kept = (hash >> 16) % 16 != 0 && library_memory_is_here();
    if (is_kept)
        open_again((enum way)((hash >> 20) % WAYS_BETWEEN_OURS));
    else
        open_pair(draw_way(hash), asks);
    pair.piece_max = piece_max;
    act_all(data, size);
    if (is_kept)
        leave_open();
}

static void run(const uint8_t *data, size_t size)
{
    uint64_t hash = XXH3_64bits(data, size);
    bool asks = (data[0] & KIND_ASKS) != 0;
    const uint8_t *rest = data + HEAD_BYTES;
    size -= HEAD_BYTES;
    draw_keys(hash);
    pair_init(&pair, hash, 0);
    switch (data[0] & KIND_MASK) {
    case OPEN: open_and_act(hash, asks, data[1], rest, size); break;
    case BETWEEN:
        pair.piece_max = data[1];
        begin(draw_way(hash), asks);
        between(rest, size);
        break;
    case FROM_SERVER:
        pair.piece_max = data[1];
        from_server(way_to_stranger(data[0]), rest, size);
        break;
    default:
        pair.piece_max = data[1];
        from_client(asks, rest, size);
        break;
    }
    end();
    ERR_clear_error();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    begin_once();
    if (size < HEAD_BYTES)
        return 0;
    size_t bytes = library_memory_bytes(NULL);
    run(data, size);
    if (library_memory_bytes(NULL) <= bytes)
        return 0;
    bytes = library_memory_bytes(NULL); /* what is made once is not made again */
    run(data, size);
    CHECK(library_memory_bytes(NULL) <= bytes);
    return 0;
}
