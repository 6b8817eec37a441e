/*
 * test_connection.c - a socket as sessions see it, with a peer that says octets when told to
 *
 * The stream is cut and glued anywhere, by seed; each case runs with several seeds.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mta/connection.h"
#include "tests/sim/sim_actor_inside.h"

enum { SEEDS = 8, BUFFER_BYTES = 64, LINES_MAX = 400, TEXT_MAX = 8'192 };
#define EACH_SEED(seed) for (uint64_t seed = 1; seed <= SEEDS; seed++)

struct world {
    struct sim *sim;
    unsigned us, them;
    struct ring *ring;
    struct shard shard;
    struct connection_pools pools;
    struct connection c;
    struct task owner;
    struct op accept;
    int listener;
    struct net_address address;
    struct sim_line peer;
    bool accepted, closed, peer_closed, peer_deaf;
    unsigned runs;
    void (*step)(struct world *w); /* what the owner does */
    size_t line_max;
    unsigned lines_count;
    enum connection_line kinds[LINES_MAX];
    char text[LINES_MAX][160];
    uint64_t taken, bytes_wanted;
};

static void owner_run(struct task *task)
{
    struct world *w = container_of(task, struct world, owner);
    w->runs++;
    if (w->step != NULL)
        w->step(w);
}

static void on_closed(struct connection *c)
{
    struct world *w = container_of(c, struct world, c);
    cr_assert(!w->closed, "once");
    w->closed = true;
}

static void on_accept(struct op *op, int res, unsigned flags)
{
    struct world *w = container_of(op, struct world, accept);
    (void)flags;
    if (res < 0)
        return;
    int socket;
    cr_assert_eq(ring_adopt(w->ring, res, &socket), 0);
    connection_open(&w->c, socket);
    w->accepted = true;
}

static void peer_nothing(struct sim_line *line)
{
    (void)line;
}

static void peer_input(struct sim_line *line)
{
    if (line->ended)
        sim_line_leave(line, false);
}

static void peer_closed(struct sim_line *line)
{
    container_of(line, struct world, peer)->peer_closed = true;
}

static bool is_accepted(void *argument)
{
    return ((struct world *)argument)->accepted;
}

static void run(struct world *w, uint64_t ms)
{
    sim_run(w->sim, sim_now_ms(w->sim) + ms);
}

static struct world *world_new(uint64_t seed, uint32_t buffers, uint32_t blocks)
{
    const struct sim_options calm = sim_calm(seed);
    const struct ring_options options = {
        .entries = 64, .sockets_max = 64, .recv_buffers = buffers, .recv_buffer_bytes = BUFFER_BYTES
    };
    struct world *w = calloc(1, sizeof(*w));
    w->sim = sim_new(&calm);
    w->us = sim_machine(w->sim, "192.0.2.1");
    w->them = sim_machine(w->sim, "192.0.2.2");
    w->ring = sim_ring(w->sim, w->us, &options);
    shard_init(&w->shard, w->ring, NULL, 0);
    sim_shard(w->sim, &w->shard);
    cr_assert_eq(connection_pools_init(&w->pools, w->ring, blocks), 0);
    task_init(&w->owner, owner_run);
    connection_init(&w->c, &w->shard, &w->pools, &w->owner, on_closed);
    w->line_max = 100;
    cr_assert_eq(net_parse(SLICE("192.0.2.1:25"), 0, &w->address), 0);
    w->accept.landed = on_accept;
    cr_assert_eq(ring_listen(w->ring, &w->address, 4, &w->listener), 0);
    ring_accept(w->ring, &w->accept, w->listener);
    sim_line_init(&w->peer, w->sim, sim_actor_ring(w->sim, w->them));
    w->peer.connected = peer_nothing;
    w->peer.sent = peer_nothing;
    w->peer.input = peer_input;
    w->peer.closed = peer_closed;
    cr_assert_eq(sim_line_connect(&w->peer, &w->address), 0);
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + 10'000, is_accepted, w));
    return w;
}

static bool has_closed(void *argument)
{
    return ((struct world *)argument)->closed;
}

/* Closes if need be; nothing may be held then. */
static void world_free(struct world *w)
{
    w->step = NULL;
    connection_close(&w->c);
    connection_close(&w->c);
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + 10'000, has_closed, w));
    cr_assert_eq(w->c.socket, -1);
    cr_assert_eq(w->pools.outputs.used, 0);
    cr_assert_eq(w->pools.lines.used, 0);
    cr_assert_eq(w->ring->buffers_free, w->ring->buffers_count);
    if (w->accept.inflight)
        ring_cancel(w->ring, &w->accept);
    sim_line_leave(&w->peer, false);
    run(w, 10'000);
    ring_close(w->ring, w->listener);
    sim_ring_idle(w->ring);
    sim_line_free(&w->peer);
    connection_pools_free(&w->pools);
    sim_free(w->sim);
    free(w);
}

/* ---- lines ---- */

static void take_lines(struct world *w)
{
    struct slice line = { 0 };
    enum connection_line kind;
    while ((kind = connection_line(&w->c, w->line_max, &line)) != CONNECTION_LINE_MORE) {
        cr_assert_lt(w->lines_count, LINES_MAX);
        w->kinds[w->lines_count] = kind;
        if (kind == CONNECTION_LINE_READY || kind == CONNECTION_LINE_BARE_LF)
            slice_to_string(line, w->text[w->lines_count], sizeof(w->text[0]));
        w->lines_count++;
        if (kind == CONNECTION_LINE_NO_ROOM)
            return;
    }
    connection_settle(&w->c);
}

Test(connection, lines_that_are_none)
{
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, 16, 4);
        w->step = take_lines;
        char text[TEXT_MAX] = "bare\n\n\r\nx\r\r\n";
        size_t at = strlen(text);
        memset(text + at, 'a', 101); /* one too many */
        memcpy(text + at + 101, "\r\n", 3);
        at = strlen(text);
        memset(text + at, 'b', 100); /* just right */
        memcpy(text + at + 100, "\r\n", 3);
        at = strlen(text);
        memset(text + at, 'c', 101); /* too long, and bare */
        memcpy(text + at + 101, "\n", 2);
        at = strlen(text);
        memset(text + at, 'd', 5'000);
        memcpy(text + at + 5'000, "\r\nend\r\n", 8);
        sim_line_put(&w->peer, text, strlen(text));
        run(w, 20'000);
        static const struct {
            enum connection_line kind;
            const char *text;
        } expected[] = {
            { CONNECTION_LINE_BARE_LF, "bare" }, { CONNECTION_LINE_BARE_LF, "" },
            { CONNECTION_LINE_READY, "" },       { CONNECTION_LINE_READY, "x\r" },
            { CONNECTION_LINE_LONG, "" },        { CONNECTION_LINE_READY, NULL },
            { CONNECTION_LINE_LONG, "" },        { CONNECTION_LINE_LONG, "" },
            { CONNECTION_LINE_READY, "end" },
        };
        cr_assert_eq(w->lines_count, ARRAY_COUNT(expected), "seed %lu: %u", seed, w->lines_count);
        for (unsigned i = 0; i < ARRAY_COUNT(expected); i++) {
            cr_assert_eq(w->kinds[i], expected[i].kind, "line %u: %d", i, w->kinds[i]);
            if (expected[i].text != NULL)
                cr_assert_str_eq(w->text[i], expected[i].text);
            else
                cr_assert_eq(strlen(w->text[i]), 100);
        }
        cr_assert_eq(w->pools.lines.used, 0);
        world_free(w);
    }
}

Test(connection, lines_arrive_whole_however_they_are_cut)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct world *w = world_new(seed, 8, 4);
        w->step = take_lines;
        for (unsigned i = 0; i < 300; i++)
            sim_line_text(
                &w->peer, "line %u %.*s\r\n", i, (int)(i * 7 % 80),
                "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
        run(w, 60'000);
        cr_assert_eq(w->lines_count, 300, "seed %lu: %u", seed, w->lines_count);
        for (unsigned i = 0; i < 300; i++) {
            char text[160];
            snprintf(
                text, sizeof(text), "line %u %.*s", i, (int)(i * 7 % 80),
                "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx");
            cr_assert_str_eq(w->text[i], text);
        }
        world_free(w);
    }
}

Test(connection, no_block_for_a_line_in_pieces_is_said)
{
    struct world *w = world_new(3, 8, 1);
    w->step = take_lines;
    void *block = pool_take(&w->pools.lines);
    sim_line_text(&w->peer, "half a line");
    run(w, 1'000);
    cr_assert_geq(w->lines_count, 1);
    cr_assert_eq(w->kinds[0], CONNECTION_LINE_NO_ROOM);
    pool_give(&w->pools.lines, block);
    world_free(w);
}

Test(connection, a_piece_of_a_line_counts_as_input)
{
    struct world *w = world_new(4, 8, 2);
    w->step = take_lines;
    cr_assert(!connection_has_input(&w->c));
    sim_line_text(&w->peer, "EHL");
    run(w, 1'000);
    cr_assert(connection_has_input(&w->c));
    cr_assert_eq(w->ring->buffers_free, w->ring->buffers_count, "it waits in a block");
    cr_assert_eq(w->pools.lines.used, 1);
    connection_drop_input(&w->c);
    cr_assert(!connection_has_input(&w->c));
    world_free(w);
}

/* ---- back-pressure ---- */

static void only_settle(struct world *w)
{
    connection_settle(&w->c);
}

static void take_all(struct world *w)
{
    struct slice in;
    while ((in = connection_peek(&w->c)).size > 0) {
        for (size_t i = 0; i < in.size; i++)
            cr_assert_eq(in.data[i], (uint8_t)('a' + (w->taken + i) % 26));
        size_t bytes = MIN(in.size, 1 + w->taken % 50);
        connection_take(&w->c, bytes);
        w->taken += bytes;
    }
    connection_settle(&w->c);
}

static void put_alphabet(struct world *w, unsigned bytes)
{
    char *text = malloc(bytes);
    for (unsigned i = 0; i < bytes; i++)
        text[i] = (char)('a' + i % 26);
    sim_line_put(&w->peer, text, bytes);
    free(text);
}

Test(connection, an_owner_that_does_not_read_holds_few_buffers)
{
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, 1'024, 4);
        w->step = only_settle;
        put_alphabet(w, 100'000);
        run(w, 30'000);
        cr_assert_geq(w->c.held_count, CONNECTION_HELD_MAX);
        cr_assert_leq(w->c.held_count, 64, "%u, with what the kernel had in hand", w->c.held_count);
        cr_assert_lt(w->c.received, 100'000);
        uint64_t received = w->c.received;
        run(w, 30'000);
        cr_assert_eq(w->c.received, received, "the sender is stopped");
        unsigned runs = w->runs;
        run(w, 30'000);
        cr_assert_eq(w->runs, runs, "and nobody turns in a circle");
        cr_assert_eq(connection_peek_all(&w->c), received);
        w->step = take_all;
        shard_run_later(&w->shard, &w->owner);
        run(w, 120'000);
        cr_assert_eq(w->taken, 100'000, "seed %lu: %lu", seed, w->taken);
        world_free(w);
    }
}

Test(connection, without_buffers_it_tries_again_until_some_are_back)
{
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, 4, 4);
        w->step = take_all;
        sim_options(w->sim)->enobufs_ppm = 300'000;
        sim_faults(w->sim, w->us, true);
        put_alphabet(w, 20'000);
        run(w, 120'000);
        cr_assert_eq(w->taken, 20'000, "seed %lu: %lu", seed, w->taken);
        cr_assert_eq(w->c.error, 0);
        world_free(w);
    }
}

/* A multishot recv may end though it succeeded: it is armed again. */
static void (*real_recv_landed)(struct op *op, int res, unsigned flags);
static unsigned ended_early;

static void recv_ended(struct op *op, int res, unsigned flags)
{
    if (res > 0 && !(flags & RING_MORE) && !op->cancelled)
        ended_early++;
    real_recv_landed(op, res, flags);
}

Test(connection, a_recv_that_ends_although_it_succeeded_is_armed_again)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct world *w = world_new(seed, 8, 4);
        real_recv_landed = w->c.recv.landed;
        w->c.recv.landed = recv_ended;
        w->step = take_all;
        put_alphabet(w, 10'000);
        run(w, 60'000);
        cr_assert_eq(w->taken, 10'000, "seed %lu: %lu", seed, w->taken);
        cr_assert(w->c.recv.inflight);
        world_free(w);
    }
    cr_assert_gt(ended_early, 0, "the simulator ends some so");
}

Test(connection, who_holds_buffers_when_they_are_short_is_known)
{
    struct world *w = world_new(5, 64, 4);
    w->step = only_settle;
    cr_assert(!connection_hogs(&w->c));
    put_alphabet(w, 1'000);
    run(w, 10'000);
    cr_assert_gt(w->c.held_count, 0);
    cr_assert(!connection_hogs(&w->c));
    w->pools.buffers_low = 64;
    cr_assert(connection_hogs(&w->c));
    world_free(w);
}

/* ---- the end of input ---- */

Test(connection, end_of_file_and_resets_are_facts)
{
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, 16, 4);
        w->step = take_all;
        put_alphabet(w, 500);
        run(w, 20'000);
        sim_line_leave(&w->peer, false);
        run(w, 20'000);
        cr_assert_eq(w->taken, 500);
        cr_assert(w->c.eof);
        cr_assert_eq(w->c.error, 0);
        cr_assert(!w->c.recv.inflight);
        world_free(w);
        w = world_new(seed, 16, 4);
        w->step = take_all;
        sim_line_leave(&w->peer, true);
        run(w, 20'000);
        cr_assert(w->c.error < 0 || w->c.eof);
        cr_assert(!w->c.recv.inflight);
        world_free(w);
    }
}

/* ---- output ---- */

static void put(struct world *w, const char *text)
{
    size_t size = strlen(text);
    uint8_t *out = connection_reserve(&w->c, size);
    cr_assert_not_null(out);
    memcpy(out, text, size);
    connection_commit(&w->c, size);
}

Test(connection, without_a_block_for_output_there_is_an_error)
{
    struct world *w = world_new(6, 16, 1);
    void *block = pool_take(&w->pools.outputs);
    cr_assert_null(connection_reserve(&w->c, 10));
    cr_assert_eq(w->c.error, -ENOBUFS);
    pool_give(&w->pools.outputs, block);
    cr_assert_null(connection_reserve(&w->c, 10), "it stays broken");
    world_free(w);
}

Test(connection, a_full_block_waits_until_it_has_left)
{
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, 16, 4);
        uint8_t *out = connection_reserve(&w->c, CONNECTION_OUTPUT_BYTES);
        memset(out, 'a', CONNECTION_OUTPUT_BYTES);
        connection_commit(&w->c, CONNECTION_OUTPUT_BYTES - 10);
        connection_flush(&w->c);
        put(w, "0123456789"); /* while the first part is under way */
        cr_assert_null(connection_reserve(&w->c, 1));
        cr_assert_eq(w->c.error, 0);
        connection_flush(&w->c);
        run(w, 20'000);
        cr_assert(connection_idle(&w->c));
        cr_assert_eq(w->c.sent, CONNECTION_OUTPUT_BYTES);
        cr_assert_eq(w->peer.in_bytes, CONNECTION_OUTPUT_BYTES);
        cr_assert_eq(memcmp(w->peer.in + CONNECTION_OUTPUT_BYTES - 10, "0123456789", 10), 0);
        world_free(w);
    }
}

Test(connection, what_is_gathered_while_sending_follows_by_itself)
{
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, 16, 4);
        put(w, "one ");
        put(w, "two ");
        connection_flush(&w->c);
        cr_assert(!connection_idle(&w->c));
        put(w, "three ");
        connection_flush(&w->c);
        put(w, "four");
        run(w, 10'000);
        cr_assert(connection_idle(&w->c));
        cr_assert_eq(w->pools.outputs.used, 0);
        cr_assert(slice_equal(slice_of(w->peer.in, w->peer.in_bytes), SLICE("one two three four")));
        connection_flush(&w->c); /* nothing: harmless */
        world_free(w);
    }
}

Test(connection, borrowed_slices_leave_behind_what_was_gathered)
{
    EACH_SEED(seed)
    {
        static char big[100'000];
        struct world *w = world_new(seed, 16, 4);
        memset(big, 'x', sizeof(big));
        const struct slice slices[] = { SLICE("b"), slice_of(NULL, 0), slice_of(big, sizeof(big)),
                                        SLICE("c") };
        put(w, "a");
        cr_assert_eq(connection_flush_with(&w->c, slices, ARRAY_COUNT(slices)), 0);
        cr_assert(w->c.send_borrowed);
        cr_assert(!connection_idle(&w->c));
        run(w, 60'000);
        cr_assert(connection_idle(&w->c));
        cr_assert(!w->c.send_borrowed);
        cr_assert_eq(w->peer.in_bytes, sizeof(big) + 3);
        cr_assert_eq(memcmp(w->peer.in, "abx", 3), 0);
        cr_assert_eq(w->peer.in[sizeof(big) + 2], 'c');
        world_free(w);
    }
}

Test(connection, a_peer_that_goes_while_we_send_is_an_error)
{
    EACH_SEED(seed)
    {
        static char big[300'000];
        struct world *w = world_new(seed, 16, 4);
        w->step = take_all;
        const struct slice slices[] = { slice_of(big, sizeof(big)) };
        cr_assert_eq(connection_flush_with(&w->c, slices, 1), 0);
        sim_line_leave(&w->peer, true);
        run(w, 60'000);
        cr_assert(connection_idle(&w->c));
        cr_assert(w->c.error < 0 || w->c.eof);
        world_free(w);
    }
}

/* ---- life ---- */

Test(connection, shutdown_is_seen_by_the_peer_and_receiving_goes_on)
{
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, 16, 4);
        w->step = take_lines;
        w->peer.input = peer_nothing;
        put(w, "bye");
        connection_flush(&w->c);
        run(w, 5'000);
        connection_shutdown(&w->c);
        connection_shutdown(&w->c);
        run(w, 5'000);
        cr_assert(w->peer.ended);
        cr_assert_eq(w->peer.in_bytes, 3);
        sim_line_text(&w->peer, "late words\r\n");
        run(w, 5'000);
        cr_assert_eq(w->lines_count, 1);
        cr_assert_str_eq(w->text[0], "late words");
        world_free(w);
    }
}

Test(connection, it_closes_with_everything_in_flight)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        static char big[400'000];
        struct world *w = world_new(seed, 8, 4);
        w->step = seed % 2 == 0 ? only_settle : take_lines;
        put_alphabet(w, 5'000);
        run(w, seed % 5);
        const struct slice slices[] = { slice_of(big, sizeof(big)) };
        cr_assert_eq(connection_flush_with(&w->c, slices, 1), 0);
        run(w, seed % 3);
        connection_close(&w->c);
        cr_assert(!w->closed, "never from within");
        unsigned runs = w->runs;
        w->step = NULL;
        run(w, 20'000);
        cr_assert(w->closed);
        cr_assert_eq(w->runs, runs, "its owner is left alone");
        world_free(w);
    }
}

Test(connection, one_that_was_never_opened_closes_too)
{
    struct world *w = world_new(7, 8, 4);
    struct world *other = calloc(1, sizeof(*other));
    task_init(&other->owner, owner_run);
    connection_init(&other->c, &w->shard, &w->pools, &other->owner, on_closed);
    connection_close(&other->c);
    run(w, 10);
    cr_assert(other->closed);
    free(other);
    world_free(w);
}

Test(connection, connecting_tells_its_result)
{
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, 8, 4);
        struct world *out = calloc(1, sizeof(*out));
        int socket;
        struct net_address nobody;
        cr_assert_eq(net_parse(SLICE("192.0.2.2:25"), 0, &nobody), 0);
        task_init(&out->owner, owner_run);
        connection_init(&out->c, &w->shard, &w->pools, &out->owner, on_closed);
        cr_assert_eq(ring_socket(w->ring, &nobody, NULL, &socket), 0);
        connection_connect(&out->c, socket, &nobody);
        run(w, 5'000);
        cr_assert_eq(out->c.error, -ECONNREFUSED);
        cr_assert(!out->c.connected);
        cr_assert_gt(out->runs, 0);
        connection_close(&out->c);
        run(w, 5'000);
        cr_assert(out->closed);
        /* And closed in the middle of connecting. */
        *out = (struct world) { 0 };
        task_init(&out->owner, owner_run);
        connection_init(&out->c, &w->shard, &w->pools, &out->owner, on_closed);
        cr_assert_eq(ring_socket(w->ring, &nobody, NULL, &socket), 0);
        sim_host(w->sim, &nobody, SIM_HOST_BLACKHOLE);
        connection_connect(&out->c, socket, &nobody);
        run(w, 1'000);
        connection_close(&out->c);
        run(w, 1'000);
        cr_assert(out->closed);
        sim_host(w->sim, &nobody, SIM_HOST_UP);
        free(out);
        world_free(w);
    }
}
