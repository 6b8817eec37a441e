/*
 * smtp_server_world.h - the inbound side of one shard over a real spool, and clients by script
 *
 * Streams are cut and glued anywhere, by seed. A client says octets and reads whole replies. What
 * the service accepted is counted, not queued. smtp_world_free demands that everything was given
 * back.
 */
#ifndef RINGPOST_TESTS_MTA_SMTP_SERVER_WORLD_H
#define RINGPOST_TESTS_MTA_SMTP_SERVER_WORLD_H

#include <criterion/criterion.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "mta/config.h"
#include "mta/smtp_server.h"
#include "mta/smtp_session.h"
#include "tests/sim/sim_actor_inside.h"

#define MAYBE_UNUSED __attribute__((unused))

enum { TALK_REPLY_MAX = 4'096, SILENCE = -1, GONE = -2 };

struct smtp_world {
    struct sim *sim;
    unsigned us, them;
    struct ring *ring;
    struct ring *clients;
    struct shard shard;
    struct spool *spool;
    struct spool_options spool_options;
    struct config *config;
    struct connection_pools pools;
    struct generations generations;
    struct limits *limits;
    struct smtp_service service;
    struct op accept;
    int listener;
    uint32_t sockets; /* that the pools are made for */
    uint32_t room, room_taken;
    uint32_t accepted, accepted_recipients;
    struct stored last;
    char last_sender[512], last_recipient[512];
    enum smtp_reply_id refusal; /* of the next connection */
};

struct talk {
    struct sim_line line;
    struct smtp_world *w;
    bool closed;
    bool refused; /* no connection */
    char reply[TALK_REPLY_MAX];
};

/* ---- the server's side ---- */

static bool smtp_world_room(void *owner)
{
    struct smtp_world *w = owner;
    if (w->room_taken == w->room)
        return false;
    w->room_taken++;
    return true;
}

static void smtp_world_unroom(void *owner, uint32_t recipients)
{
    struct smtp_world *w = owner;
    cr_assert_leq(recipients, w->room_taken);
    w->room_taken -= recipients;
}

static void smtp_world_accepted(void *owner, const struct stored *stored,
                                const struct envelope *envelope)
{
    struct smtp_world *w = owner;
    smtp_world_unroom(owner, envelope->recipients_count);
    w->accepted++;
    w->accepted_recipients += envelope->recipients_count;
    w->last = *stored;
    slice_to_string(envelope->sender, w->last_sender, sizeof(w->last_sender));
    slice_to_string(envelope->recipients[envelope->recipients_count - 1].address, w->last_recipient,
                    sizeof(w->last_recipient));
}

static void smtp_world_on_accept(struct op *op, int res, unsigned flags)
{
    struct smtp_world *w = container_of(op, struct smtp_world, accept);
    if (res >= 0) {
        struct net_address peer, local;
        enum smtp_reply_id refusal = w->refusal;
        cr_assert_eq(ring_peer(w->ring, res, &peer, &local), 0);
        if (refusal == SMTP_REPLIES)
            cr_assert_eq(limits_open(w->limits, &w->config->limits.connections, &peer, false,
                                     w->shard.now_ms),
                         LIMITS_ADMITTED);
        int r = smtp_server_open(&w->service, 0, res, &peer, &local, refusal);
        if (r < 0) {
            if (refusal == SMTP_REPLIES)
                limits_close(w->limits, &peer);
            ring_discard(w->ring, res);
        }
    }
    if (!(flags & RING_MORE) && res != -ECANCELED)
        ring_accept(w->ring, &w->accept, w->listener);
}

static struct stored *smtp_world_find(void *owner, uint64_t id)
{
    struct smtp_world *w = owner;
    return w->last.id == id ? &w->last : NULL;
}

static MAYBE_UNUSED struct config *smtp_world_config(const char *more)
{
    char text[4'096];
    int size = snprintf(text, sizeof(text),
                        "hostname = mx.us.test\n"
                        "spool { directory = spool }\n"
                        "listener \"in\" { addresses = { \"192.0.2.1:25\" } %s\n"
                        "relay { domains = { us.test } }\n",
                        more);
    struct config_report report;
    struct config *config = NULL;
    config_report_init(&report);
    int r = config_load_text(slice_of(text, (size_t)size), "test", 1, &report, &config);
    for (unsigned i = 0; i < report.count; i++)
        if (report.messages[i].severity == CONFIG_ERROR)
            cr_log_error("%u: %s", report.messages[i].line, report.messages[i].text);
    cr_assert_eq(r, 0);
    config_report_free(&report);
    return config;
}

/* more: begins inside the listener's braces, which it closes: "} limits { .. }". */
static MAYBE_UNUSED struct smtp_world *smtp_world_make(uint64_t seed, const char *more,
                                                       uint32_t recv_buffers, uint32_t sessions)
{
    const struct sim_options calm = sim_calm(seed);
    const struct ring_options options = {
        .entries = 64, .sockets_max = 256, .recv_buffers = recv_buffers, .recv_buffer_bytes = 2'048
    };
    struct smtp_world *w = calloc(1, sizeof(*w));
    const char *why = NULL;
    w->sim = sim_new(&calm);
    w->us = sim_machine(w->sim, "192.0.2.1");
    w->them = sim_machine(w->sim, "192.0.2.2");
    w->clients = sim_actor_ring(w->sim, w->them);
    w->ring = sim_ring(w->sim, w->us, &options);
    shard_init(&w->shard, w->ring, NULL, 0);
    w->config = smtp_world_config(more);
    w->room = 20'000;
    w->refusal = SMTP_REPLIES;
    const uint8_t key[LIMITS_KEY_BYTES] = { 1 };
    cr_assert_eq(connection_pools_init(&w->pools, w->ring, sessions + 4), 0);
    cr_assert_eq(generations_init(&w->generations), 0);
    cr_assert_eq(generations_switch(&w->generations, w->config), 0);
    cr_assert_eq(limits_new(sessions + 4, key, &w->limits), 0);
    w->spool_options = (struct spool_options) {
        .directory = "log-000",
        .quarantine = "quarantine",
        .segment_bytes = 256 * 1'024,
        .block_bytes = 64 * 1'024,
        .segments_max = 16,
        .cache_blocks = 6,
        .writers_max = 64,
        .read_buffers = 16,
        .message_bytes_max = UINT64_MAX / 2,
        .owner = w,
        .find = smtp_world_find,
    };
    int r = spool_open(&w->shard, &w->spool_options, NULL, &w->spool, &why);
    cr_assert_eq(r, 0, "%s", why);
    w->service = (struct smtp_service) {
        .shard = &w->shard,
        .pools = &w->pools,
        .generations = &w->generations,
        .limits = w->limits,
        .spool = w->spool,
        .owner = w,
        .room = smtp_world_room,
        .unroom = smtp_world_unroom,
        .accepted = smtp_world_accepted,
    };
    cr_assert_eq(smtp_service_init(&w->service, sessions), 0);
    sim_shard(w->sim, &w->shard);
    w->accept.landed = smtp_world_on_accept;
    cr_assert_eq(ring_listen(w->ring, &w->config->listeners[0].addresses[0], 8, &w->listener), 0);
    ring_accept(w->ring, &w->accept, w->listener);
    return w;
}

static MAYBE_UNUSED struct smtp_world *smtp_world_new(uint64_t seed)
{
    return smtp_world_make(seed, "}", 64, 32);
}

static MAYBE_UNUSED void smtp_world_run(struct smtp_world *w, uint64_t ms)
{
    sim_run(w->sim, sim_now_ms(w->sim) + ms);
}

static bool smtp_world_quiet(void *argument)
{
    const struct smtp_world *w = argument;
    return w->service.sessions.used == 0 && spool_idle(w->spool);
}

/* Every client has left or was sent away: nothing of it may be left. */
static MAYBE_UNUSED void smtp_world_free(struct smtp_world *w)
{
    spool_stop(w->spool);
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + 900'000, smtp_world_quiet, w),
              "%u sessions are left", w->service.sessions.used);
    ring_cancel(w->ring, &w->accept);
    smtp_world_run(w, 1'000);
    ring_close(w->ring, w->listener);
    cr_assert_eq(w->service.transactions.used, 0);
    cr_assert_eq(w->service.large.used, 0);
    cr_assert_eq(w->service.metrics.connections_open, 0);
    cr_assert_eq(w->room_taken, 0);
    cr_assert_eq(limits_connections(w->limits), 0);
    cr_assert_eq(w->pools.outputs.used, 0);
    cr_assert_eq(w->pools.lines.used, 0);
    cr_assert_eq(w->ring->buffers_free, w->ring->buffers_count);
    cr_assert_eq(w->generations.current->uses, 0);
    cr_assert(list_empty(&w->service.open));
    cr_assert_eq(w->shard.timers.armed, 1, "the spool's tick");
    spool_close(w->spool);
    sim_ring_idle(w->ring);
    smtp_service_free(&w->service);
    limits_free(w->limits);
    generations_free(&w->generations);
    connection_pools_free(&w->pools);
    config_free(w->config);
    sim_free(w->sim);
    free(w);
}

/* ---- clients ---- */

static void talk_on(struct sim_line *line)
{
    struct talk *t = container_of(line, struct talk, line);
    if (line->ended)
        sim_line_leave(&t->line, false);
}

static void talk_on_closed(struct sim_line *line)
{
    container_of(line, struct talk, line)->closed = true;
}

static void talk_ignore(struct sim_line *line)
{
    (void)line;
}

static MAYBE_UNUSED struct talk *talk_open(struct smtp_world *w)
{
    struct talk *t = calloc(1, sizeof(*t));
    t->w = w;
    sim_line_init(&t->line, w->sim, w->clients);
    t->line.connected = talk_ignore;
    t->line.sent = talk_ignore;
    t->line.input = talk_on;
    t->line.closed = talk_on_closed;
    cr_assert_eq(sim_line_connect(&t->line, &w->config->listeners[0].addresses[0]), 0);
    return t;
}

static MAYBE_UNUSED void talk_put(struct talk *t, const char *text)
{
    sim_line_put(&t->line, text, strlen(text));
}

/* A whole reply, of however many lines, out of what has come. 0: none yet. */
static int talk_take(struct talk *t)
{
    size_t at = 0;
    const struct sim_line *line = &t->line;
    while (at < line->in_bytes) {
        const uint8_t *end = memmem(line->in + at, line->in_bytes - at, "\r\n", 2);
        if (end == NULL)
            return 0;
        bool last = end - (line->in + at) < 4 || line->in[at + 3] != '-';
        at = (size_t)(end - line->in) + 2;
        if (!last)
            continue;
        cr_assert_lt(at, TALK_REPLY_MAX);
        memcpy(t->reply, line->in, at);
        t->reply[at] = '\0';
        sim_line_drop(&t->line, at);
        return atoi(t->reply);
    }
    return 0;
}

static bool talk_has(void *argument)
{
    struct talk *t = argument;
    return t->closed ||
           (t->line.in_bytes > 0 && memmem(t->line.in, t->line.in_bytes, "\r\n", 2) != NULL);
}

/* The code of the next reply, within so long; SILENCE, or GONE: the server closed. */
static MAYBE_UNUSED int talk_read_within(struct talk *t, uint64_t ms)
{
    uint64_t until_ms = sim_now_ms(t->w->sim) + ms;
    int code;
    while ((code = talk_take(t)) == 0) {
        if (t->closed)
            return GONE;
        if (sim_now_ms(t->w->sim) >= until_ms)
            return SILENCE;
        if (!talk_has(t))
            (void)sim_run_until(t->w->sim, until_ms, talk_has, t);
        else
            sim_run(t->w->sim, sim_now_ms(t->w->sim) + 1);
    }
    return code;
}

static MAYBE_UNUSED int talk_read(struct talk *t)
{
    return talk_read_within(t, 20'000);
}

static MAYBE_UNUSED int talk_say(struct talk *t, const char *text)
{
    talk_put(t, text);
    return talk_read(t);
}

/* Says nothing more and waits until the server has let go, too. */
static MAYBE_UNUSED void talk_leave(struct talk *t)
{
    sim_line_leave(&t->line, false);
    smtp_world_run(t->w, 5'000);
    cr_assert(t->closed);
    sim_line_free(&t->line);
    free(t);
}

static MAYBE_UNUSED struct talk *talk_hello(struct smtp_world *w)
{
    struct talk *t = talk_open(w);
    cr_assert_eq(talk_read(t), 220);
    cr_assert_eq(talk_say(t, "EHLO client.test\r\n"), 250);
    return t;
}

#define MAIL_RCPT "MAIL FROM:<s@them.test>\r\nRCPT TO:<r@us.test>\r\n"

static MAYBE_UNUSED struct talk *talk_until_data(struct smtp_world *w)
{
    struct talk *t = talk_hello(w);
    cr_assert_eq(talk_say(t, MAIL_RCPT "DATA\r\n"), 250);
    cr_assert_eq(talk_read(t), 250);
    cr_assert_eq(talk_read(t), 354);
    return t;
}

/* ---- the body as the spool has it ---- */

static void stored_task(struct task *task)
{
    (void)task;
}

static MAYBE_UNUSED size_t smtp_world_stored(struct smtp_world *w, char *text, size_t capacity)
{
    struct spool_read read;
    struct task task;
    struct envelope envelope;
    struct slice part;
    size_t size = 0;
    int r;
    task_init(&task, stored_task);
    spool_read_begin(w->spool, &read, &w->last, &task);
    while ((r = spool_read_envelope(&read, &envelope)) == -EAGAIN)
        cr_assert(sim_run_one(w->sim));
    cr_assert_eq(r, 0);
    while ((r = spool_read_body(&read, &part)) != 0) {
        if (r == -EAGAIN) {
            cr_assert(sim_run_one(w->sim));
            continue;
        }
        cr_assert_eq(r, 1);
        cr_assert_lt(size + part.size, capacity);
        memcpy(text + size, part.data, part.size);
        size += part.size;
    }
    cr_assert_eq(size, envelope.body_bytes);
    text[size] = '\0';
    spool_read_end(&read);
    shard_forget(&task);
    return size;
}

#endif
