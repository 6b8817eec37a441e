/*
 * smtp_client_world.c - the world of the outbound session's tests
 *
 * The next hop lives on a ring of its own, run by the simulator; the client on a shard.
 */
#include "tests/mta/smtp_client_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a next hop ---- */

static void peer_poll(struct peer *p);

static void peer_close(struct peer *p)
{
    p->leaving = true;
    if (p->recv.inflight && !p->recv.cancelled)
        ring_cancel(p->ring, &p->recv);
    if (p->recv.inflight || p->send.inflight || p->socket < 0)
        return;
    ring_close(p->ring, p->socket);
    p->socket = -1;
    p->turn++;
    p->due = false;
    peer_poll(p);
}

static void peer_open(struct peer *p)
{
    if (p->socket >= 0 || p->raws_count == 0)
        return;
    int raw = p->raws[0];
    p->raws_count--;
    memmove(p->raws, p->raws + 1, sizeof(p->raws) - sizeof(p->raws[0]));
    cr_assert_eq(ring_adopt(p->ring, raw, &p->socket), 0);
    p->leaving = false;
    p->connections++;
    ring_recv(p->ring, &p->recv, p->socket);
}

static void peer_say(void *argument)
{
    struct due *due = argument;
    struct peer *p = due->peer;
    bool stale = due->turn != p->turn || p->socket < 0 || p->leaving;
    if (stale)
        return;
    const struct line *line = &p->lines[p->at++];
    p->due = false;
    if (line->alone)
        cr_assert_eq(p->got_seen, p->got_size, "said too early: %.*s",
                     (int)(p->got_size - p->got_seen), p->got + p->got_seen);
    if (line->then == RESET)
        sim_reset(p->sim, p->ring, p->socket);
    if (line->then == RESET || *line->say == '\0') {
        if (line->then != GO_ON)
            peer_close(p);
        else
            peer_poll(p);
        return;
    }
    cr_assert(!p->send.inflight);
    p->vector.count = 1;
    p->vector.iov[0] = (struct iovec) { (void *)(uintptr_t)line->say, strlen(line->say) };
    p->leaving = line->then == CLOSE;
    ring_send(p->ring, &p->send, p->socket, &p->vector);
}

/* What has been got whole: a line, or content that DATA or BDAT announced. False: not yet. */
static bool peer_hears(struct peer *p, char command[static 5])
{
    struct slice got = slice_of(p->got + p->got_seen, p->got_size - p->got_seen);
    size_t size = p->content_left;
    const char *end = p->in_data ? "\r\n.\r\n" : "\r\n";
    memcpy(command, p->in_data || size > 0 ? "done" : "line", 5);
    if (size == 0) {
        const uint8_t *found = memmem(got.data, got.size, end, strlen(end));
        if (found == NULL)
            return false;
        size = (size_t)(found - got.data) + strlen(end);
        if (!p->in_data)
            memcpy(command, got.data, MIN(size, (size_t)4));
    }
    if (got.size < size)
        return false;
    p->content_left = 0;
    p->in_data = false;
    p->got_seen += size;
    if (strcmp(command, "BDAT") == 0) {
        p->content_left = strtoul((const char *)got.data + 5, NULL, 10);
        return peer_hears(p, command);
    }
    return true;
}

/* Mostly right, at times anything. */
static void peer_improvise(struct peer *p)
{
    static const char *const hellos[] = {
        "250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n",
        "250-mx\r\n250 PIPELINING\r\n",
        "250-mx\r\n250-PIPELINING\r\n250 LIMITS RCPTMAX=1 MAILMAX=3\r\n",
        "250 mx\r\n",
        "250-mx\r\n250-CHUNKING\r\n250-SIZE 30000\r\n250 DSN\r\n",
    };
    static const char *const odd[] = {
        "421 4.3.2 bye\r\n",
        "550 5.1.1 no\r\n",
        "452 4.5.3 many\r\n",
        "552 5.2.2 full\r\n",
        "500 what\r\n",
        "503 not now\r\n",
        "25",
        "0 x\r\n",
        "250 x\n",
        "999 x\r\n",
        "",
        "250-a\r\n550 b\r\n",
        "\r\n",
        "334 \r\n",
        "250\r\n",
        "250 ok\r\n250 ok\r\n",
        "354 go\r\n",
        "250 ok\r\n",
    };
    struct random *random = sim_random(p->sim);
    char command[5];
    if (p->socket < 0 || p->leaving || p->send.inflight)
        return;
    const char *say = "250 2.0.0 ok\r\n";
    if (p->greeted != p->connections) {
        p->greeted = p->connections;
        p->got_seen = p->got_size;
        p->in_data = false;
        p->content_left = 0;
        say = "220 mx\r\n";
    } else if (!peer_hears(p, command)) {
        return;
    } else if (strcmp(command, "EHLO") == 0 || strcmp(command, "LHLO") == 0) {
        say = hellos[random_below(random, ARRAY_COUNT(hellos))];
    } else if (strcmp(command, "DATA") == 0) {
        say = "354 go\r\n";
        p->in_data = true;
    }
    if (sim_chance(p->sim, 30'000))
        say = odd[random_below(random, ARRAY_COUNT(odd))];
    p->leaving = sim_chance(p->sim, 10'000);
    p->vector.count = 1;
    p->vector.iov[0] = (struct iovec) { (void *)(uintptr_t)say, strlen(say) };
    if (*say != '\0')
        ring_send(p->ring, &p->send, p->socket, &p->vector);
    else if (p->leaving)
        peer_close(p);
}

static void peer_poll(struct peer *p)
{
    peer_open(p);
    if (p->chaos) {
        peer_improvise(p);
        return;
    }
    const struct line *line = &p->lines[p->at];
    if (p->due || p->socket < 0 || p->leaving || p->send.inflight || line->wait == NULL)
        return;
    size_t size = strlen(line->wait);
    const uint8_t *found =
        size == 0 ? p->got + p->got_seen
                  : memmem(p->got + p->got_seen, p->got_size - p->got_seen, line->wait, size);
    if (found == NULL)
        return;
    p->got_seen = (size_t)(found - p->got) + size;
    if (line->say == NULL)
        return;
    p->due = true;
    struct due *due = &p->dues[p->dues_next++ % DUES];
    *due = (struct due) { p, p->turn };
    sim_at(p->sim, p->pause_ns, peer_say, due);
}

static void peer_on_accept(struct op *op, int res, unsigned flags)
{
    struct peer *p = container_of(op, struct peer, accept);
    (void)flags;
    if (res < 0)
        return;
    cr_assert_lt(p->raws_count, ARRAY_COUNT(p->raws));
    p->raws[p->raws_count++] = res;
    peer_poll(p);
}

static void peer_on_recv(struct op *op, int res, unsigned flags)
{
    struct peer *p = container_of(op, struct peer, recv);
    if (flags & RING_BUFFER) {
        uint32_t buffer = ring_buffer_index(flags);
        cr_assert_leq((size_t)res, GOT_MAX - p->got_size);
        memcpy(p->got + p->got_size, ring_buffer(p->ring, buffer), (size_t)res);
        p->got_size += (size_t)res;
        ring_buffer_give(p->ring, buffer);
    }
    if (res <= 0 && res != -ENOBUFS)
        p->leaving = true;
    if (p->leaving && !p->send.inflight)
        peer_close(p);
    else if (!op->inflight)
        ring_recv(p->ring, &p->recv, p->socket);
    peer_poll(p);
}

static void peer_on_send(struct op *op, int res, unsigned flags)
{
    struct peer *p = container_of(op, struct peer, send);
    (void)flags;
    if (p->leaving || res < 0)
        peer_close(p);
    peer_poll(p);
}

/* ---- a body ---- */

static int body_pull(void *source, struct slice *out)
{
    struct body *body = source;
    if (body->stall_at > 0 && body->next == body->stall_at) {
        body->stalled = true;
        return -EAGAIN;
    }
    if (body->fail_at > 0 && body->next == body->fail_at)
        return -EIO;
    if (body->next == body->count)
        return 0;
    body->lent = true;
    *out = body->slices[body->next++];
    return 1;
}

static void body_release(void *source)
{
    struct body *body = source;
    cr_assert(body->lent);
    body->lent = false;
}

/* ---- a world ---- */

static void world_ready(struct smtp_client *client)
{
    struct world *w = client->owner;
    w->readies++;
    if (w->next < w->outcomes_count)
        smtp_client_transact(client, &w->outcomes[w->next++].transaction);
    else if (w->quit_when_done)
        smtp_client_quit(client);
}

static void world_done(struct smtp_client *client, struct smtp_transaction *transaction)
{
    struct world *w = client->owner;
    struct outcome *o = transaction->owner;
    cr_assert(!w->gone);
    cr_assert(!o->done);
    cr_assert(!o->body.lent, "all slices are given back");
    cr_assert(!client->connection.send.inflight, "nothing in flight points to them");
    o->done = true;
}

static void world_gone(struct smtp_client *client, const struct smtp_client_end *end)
{
    struct world *w = client->owner;
    cr_assert(!w->gone);
    w->gone = true;
    w->end = *end;
    if (end->text.size > 0)
        memcpy(w->end_text, end->text.data, end->text.size);
    w->client = NULL;
}

const struct smtp_client_callbacks world_callbacks = {
    .ready = world_ready,
    .done = world_done,
    .gone = world_gone,
};

bool world_is_gone(void *argument)
{
    return ((struct world *)argument)->gone;
}

const struct net_address *address(const char *text)
{
    static struct net_address a;
    cr_assert_eq(net_parse(slice_of_string(text), 0, &a), 0);
    return &a;
}

unsigned world_flags;

static struct world *world_make(const struct sim_options *sim, const struct line *lines)
{
    static const struct ring_options options = {
        .entries = 64, .sockets_max = 16, .recv_buffers = 32, .recv_buffer_bytes = 2048
    };
    struct world *w = calloc(1, sizeof(*w));
    w->sim = sim_new(sim);
    unsigned us = sim_machine(w->sim, "192.0.2.1");
    unsigned them = sim_machine(w->sim, "192.0.2.2");
    struct ring *ring = sim_ring(w->sim, us, &options);
    shard_init(&w->shard, ring, NULL, 0);
    sim_shard(w->sim, &w->shard);
    cr_assert_eq(connection_pools_init(&w->connections, ring, 16), 0);
    cr_assert_eq(smtp_clients_init(&w->clients, &w->shard, &w->connections, 2), 0);
    w->timeouts = smtp_client_timeouts_default;
    w->quit_when_done = true;
    w->target = (struct smtp_client_target) {
        .address = *address("192.0.2.2:25"),
        .host = "mx.test",
        .helo_name = "us.test",
        .flags = world_flags,
        .timeouts = &w->timeouts,
    };

    struct peer *p = &w->peer;
    p->sim = w->sim;
    p->pause_ns = 2'000'000'000;
    p->lines = lines;
    p->socket = -1;
    p->got = malloc(GOT_MAX);
    p->ring = sim_ring(w->sim, them, &options);
    sim_ring_runs(w->sim, p->ring);
    p->accept.landed = peer_on_accept;
    p->recv.landed = peer_on_recv;
    p->send.landed = peer_on_send;
    int listener;
    cr_assert_eq(ring_listen(p->ring, address("192.0.2.2:25"), 8, &listener), 0);
    ring_accept(p->ring, &p->accept, listener);
    return w;
}

struct world *world_new(uint64_t seed, const struct line *lines)
{
    struct sim_options calm = sim_calm(seed);
    return world_make(&calm, lines);
}

struct world *world_new_chaos(uint64_t seed)
{
    struct sim_options storm = sim_storm(seed);
    struct world *w = world_make(&storm, NULL);
    w->peer.chaos = true;
    w->peer.pause_ns = 0;
    sim_faults(w->sim, 0, true);
    return w;
}

void world_free(struct world *w)
{
    cr_assert_eq(w->clients.pool.used, 0);
    cr_assert_eq(w->clients.numbers.open, 0);
    cr_assert_eq(w->connections.outputs.used, 0);
    cr_assert_eq(w->connections.lines.used, 0);
    sim_ring_idle(w->shard.ring);
    smtp_clients_free(&w->clients);
    connection_pools_free(&w->connections);
    sim_free(w->sim);
    free(w->peer.got);
    free(w);
}

struct outcome *world_mail(struct world *w, const char *recipients, struct slice content)
{
    cr_assert_lt(w->outcomes_count, TRANSACTIONS);
    struct outcome *o = &w->outcomes[w->outcomes_count++];
    uint32_t count = 0;
    while (*recipients != '\0') {
        size_t size = strcspn(recipients, " ");
        cr_assert_lt(count, RECIPIENTS);
        o->recipients[count++].address = slice_of(recipients, size);
        recipients += size + (recipients[size] == ' ');
    }
    if (content.size > 0)
        o->body.slices[o->body.count++] = content;
    o->transaction = (struct smtp_transaction) {
        .sender = SLICE("s@us.test"),
        .size = content.size,
        .body = { body_pull, body_release, &o->body },
        .recipients = o->recipients,
        .recipients_count = count,
        .texts = o->texts,
        .texts_capacity = sizeof(o->texts),
        .owner = o,
    };
    return o;
}

void body_add(struct outcome *o, struct slice slice)
{
    cr_assert_lt(o->body.count, BODY_SLICES);
    o->body.slices[o->body.count++] = slice;
    o->transaction.size += slice.size;
}

static void world_start(struct world *w)
{
    int r = smtp_client_start(&w->clients, &w->target, &world_callbacks, w, &w->client);
    cr_assert_eq(r, 0);
}

void world_run(struct world *w)
{
    world_start(w);
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + 7'200'000, world_is_gone, w),
              "it never ended; got: %.*s", (int)w->peer.got_size, w->peer.got);
    for (unsigned i = 0; i < w->next; i++)
        cr_assert(w->outcomes[i].done, "transaction %u was not handed back", i);
}

void expect(const struct outcome *o, unsigned index, enum smtp_verdict verdict,
            enum smtp_stage stage, uint16_t code, const char *enhanced)
{
    const struct smtp_result *result = &o->recipients[index].result;
    char text[32];
    snprintf(text, sizeof(text), "%u.%u.%u", result->enhanced.klass, result->enhanced.subject,
             result->enhanced.detail);
    cr_assert_eq(result->verdict, verdict, "recipient %u: %u %s %.*s", index, result->code, text,
                 (int)result->text.size, (const char *)result->text.data);
    cr_assert_eq(result->stage, stage, "recipient %u: %s", index, smtp_stage_name(result->stage));
    cr_assert_eq(result->code, code, "recipient %u: %u", index, result->code);
    cr_assert_str_eq(text, enhanced);
}

void expect_text(const struct outcome *o, unsigned index, const char *text)
{
    struct slice got = o->recipients[index].result.text;
    cr_assert(slice_equal(got, slice_of_string(text)), "recipient %u: %.*s", index, (int)got.size,
              (const char *)got.data);
}

void expect_got(const struct world *w, const char *said)
{
    const struct peer *p = &w->peer;
    cr_assert(slice_equal(slice_of(p->got, p->got_size), slice_of_string(said)), "got: %.*s",
              (int)p->got_size, p->got);
}

uint8_t *big_body(size_t lines, size_t *size)
{
    uint8_t *text = malloc(lines * 80);
    *size = 0;
    for (size_t i = 0; i < lines; i++)
        *size += (size_t)sprintf((char *)text + *size, "%sline %zu of a long text%s\r\n",
                                 i % 3 == 0 ? "." : "", i, i % 7 == 0 ? " and more of it" : "");
    return text;
}
