/*
 * connection.c - bytes in and out of one socket, with nothing held while idle
 *
 * Receiving is one multishot recv into provided buffers. Buffers that the session has not used up
 * wait in held[]; when that is full the recv is cancelled and armed again once there is room.
 * -ENOBUFS (all buffers of the shard are held) is tried again in the next step.
 *
 * A line is handed out straight from the receive buffer when it lies there whole; only a line in
 * pieces is copied to a block.
 */
#include "mta/connection_inside.h"

#include <errno.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/wire.h"

enum { BUFFERS_LOW_SHARE = 8 };

uint64_t connection_pools_bytes(uint32_t sockets)
{
    return pool_bytes(sizeof(struct connection_output), sockets) +
           pool_bytes(sizeof(struct connection_line_block), sockets) +
           pool_bytes(sizeof(struct connection_opened), sockets) +
           pool_bytes(sizeof(struct connection_sealed), sockets);
}

int connection_pools_init(struct connection_pools *pools, const struct ring *ring, uint32_t sockets)
{
    *pools = (struct connection_pools) { .buffers_low = ring->buffers_count / BUFFERS_LOW_SHARE };
    pools->held = calloc(ring->buffers_count, sizeof(*pools->held));
    if (pools->held == NULL)
        return -ENOMEM;
    int r = pool_init(&pools->outputs, "outputs", sizeof(struct connection_output), sockets);
    if (r == 0)
        r = pool_init(&pools->lines, "lines", sizeof(struct connection_line_block), sockets);
    if (r == 0)
        r = pool_init(&pools->opened, "plaintexts", sizeof(struct connection_opened), sockets);
    if (r == 0)
        r = pool_init(&pools->sealed, "ciphertexts", sizeof(struct connection_sealed), sockets);
    if (r < 0)
        connection_pools_free(pools);
    return r;
}

void connection_pools_free(struct connection_pools *pools)
{
    pool_free(&pools->outputs);
    pool_free(&pools->lines);
    pool_free(&pools->opened);
    pool_free(&pools->sealed);
    free(pools->held);
    pools->held = NULL;
}

void connection_wake(struct connection *c)
{
    if (c->closing)
        shard_run_later(c->shard, &c->close_task);
    else
        shard_run_later(c->shard, c->owner);
}

/* ---- receiving ---- */

static void connection_arm(struct connection *c)
{
    if (!c->receiving || c->recv.inflight || c->eof || c->raw_eof || c->error < 0 || c->closing)
        return;
    if (c->held_count >= CONNECTION_HELD_MAX)
        return;
    ring_recv(c->shard->ring, &c->recv, c->socket);
}

static void connection_hold(struct connection *c, uint32_t buffer, uint32_t size)
{
    struct connection_held *held = c->pools->held;
    held[buffer] = (struct connection_held) { .next = CONNECTION_NO_BUFFER, .size = size };
    if (c->held_count++ == 0)
        c->held_first = buffer;
    else
        held[c->held_last].next = buffer;
    c->held_last = buffer;
}

static void connection_on_recv(struct op *op, int res, unsigned flags)
{
    struct connection *c = container_of(op, struct connection, recv);
    if (flags & RING_BUFFER) {
        uint32_t buffer = ring_buffer_index(flags);
        if (res > 0 && !c->closing) {
            connection_hold(c, buffer, (uint32_t)res);
            c->received += (uint64_t)res;
            if (c->tap != NULL && c->tls == NULL)
                wire_bytes(c->tap, true, ring_buffer(c->shard->ring, buffer), (size_t)res);
        } else {
            ring_buffer_give(c->shard->ring, buffer);
        }
    }
    if (res == 0 && c->tls != NULL)
        c->raw_eof = true;
    else if (res == 0)
        c->eof = true;
    else if (res < 0 && res != -ENOBUFS && res != -ECANCELED && res != -EINTR)
        c->error = res;
    if (c->held_count >= CONNECTION_HELD_MAX && c->recv.inflight)
        ring_cancel(c->shard->ring, &c->recv);
    connection_wake(c);
}

void connection_give_front(struct connection *c)
{
    uint32_t buffer = c->held_first;
    CHECK(c->held_count > 0);
    c->held_first = c->pools->held[buffer].next;
    c->held_count--;
    ring_buffer_give(c->shard->ring, buffer);
}

void connection_give_line(struct connection *c)
{
    if (c->line == NULL)
        return;
    pool_give(&c->pools->lines, c->line);
    c->line = NULL;
    c->line_given = false;
}

/* Gives back what was handed out and used up before this call. */
static void connection_reclaim(struct connection *c)
{
    if (c->tls != NULL)
        connection_tls_reclaim(c);
    while (c->tls == NULL && c->held_count > 0) {
        const struct connection_held *held = &c->pools->held[c->held_first];
        if (held->at < held->size)
            break;
        connection_give_front(c);
    }
    if (c->line_given)
        connection_give_line(c);
}

static struct slice connection_front(struct connection *c)
{
    if (c->tls != NULL)
        return connection_tls_front(c);
    if (c->held_count == 0)
        return slice_of(NULL, 0);
    const struct connection_held *held = &c->pools->held[c->held_first];
    const uint8_t *buffer = ring_buffer(c->shard->ring, c->held_first);
    return slice_of(buffer + held->at, held->size - held->at);
}

struct slice connection_peek(struct connection *c)
{
    connection_reclaim(c);
    CHECK(c->line == NULL);
    return connection_front(c);
}

void connection_take(struct connection *c, size_t bytes)
{
    if (bytes == 0)
        return;
    if (c->tls != NULL) {
        connection_tls_take(c, bytes);
        return;
    }
    CHECK(c->held_count > 0);
    struct connection_held *held = &c->pools->held[c->held_first];
    CHECK(bytes <= held->size - held->at);
    held->at += (uint32_t)bytes;
}

size_t connection_peek_all(const struct connection *c)
{
    size_t bytes = c->opened != NULL ? c->opened->size - c->opened->at : 0;
    uint32_t buffer = c->held_first;
    for (uint32_t i = 0; i < c->held_count; i++) {
        const struct connection_held *held = &c->pools->held[buffer];
        bytes += held->size - held->at;
        buffer = held->next;
    }
    return bytes;
}

bool connection_has_input(struct connection *c)
{
    if (c->line != NULL && !c->line_given)
        return true;
    return c->tls != NULL ? connection_tls_front(c).size > 0 : connection_peek_all(c) > 0;
}

void connection_settle(struct connection *c)
{
    if (c->closing)
        return;
    connection_reclaim(c);
    connection_arm(c);
}

void connection_drop_input(struct connection *c)
{
    while (c->held_count > 0)
        connection_give_front(c);
    if (c->tls != NULL)
        connection_tls_drop_input(c);
    connection_give_line(c);
    c->line_long = false;
}

bool connection_hogs(const struct connection *c)
{
    return c->held_count > 0 && c->shard->ring->buffers_free < c->pools->buffers_low;
}

/* Adds a piece to the block. False: no block. What is over max is dropped, line_long tells. */
static bool line_gather(struct connection *c, struct slice piece, size_t max)
{
    if (c->line_long)
        return true;
    if (c->line == NULL) {
        c->line = pool_take(&c->pools->lines);
        if (c->line == NULL)
            return false;
        c->line->size = 0;
    }
    if (c->line->size + piece.size > max + 2) {
        c->line_long = true;
        c->line->size = 0;
        return true;
    }
    memcpy(c->line->bytes + c->line->size, piece.data, piece.size);
    c->line->size += (uint32_t)piece.size;
    return true;
}

static enum connection_line line_judge(struct slice whole, size_t max, struct slice *line)
{
    size_t size = whole.size - 1; /* without LF */
    bool bare = size == 0 || whole.data[size - 1] != '\r';
    *line = slice_part(whole, 0, bare ? size : size - 1);
    if (line->size > max)
        return CONNECTION_LINE_LONG;
    return bare ? CONNECTION_LINE_BARE_LF : CONNECTION_LINE_READY;
}

enum connection_line connection_line(struct connection *c, size_t max, struct slice *line)
{
    CHECK(max + 2 <= CONNECTION_LINE_BYTES);
    for (;;) {
        connection_reclaim(c);
        struct slice in = connection_front(c);
        if (in.size == 0)
            return CONNECTION_LINE_MORE;
        ptrdiff_t lf = slice_find(in, '\n');
        size_t size = lf < 0 ? in.size : (size_t)lf + 1;
        struct slice piece = slice_part(in, 0, size);
        if (lf >= 0 && c->line == NULL && !c->line_long) {
            connection_take(c, size);
            return line_judge(piece, max, line);
        }
        if (!line_gather(c, piece, max))
            return CONNECTION_LINE_NO_ROOM;
        connection_take(c, size);
        if (lf < 0)
            continue;
        c->line_given = c->line != NULL;
        if (c->line_long) {
            c->line_long = false;
            return CONNECTION_LINE_LONG;
        }
        return line_judge(slice_of(c->line->bytes, c->line->size), max, line);
    }
}

struct slice connection_collect(struct connection *c)
{
    for (;;) {
        connection_reclaim(c);
        struct slice in = connection_front(c);
        if (in.size == 0)
            break;
        if (c->line == NULL) {
            c->line = pool_take(&c->pools->lines);
            if (c->line == NULL)
                return slice_of(NULL, 0);
            c->line->size = 0;
        }
        size_t size = MIN(in.size, (size_t)CONNECTION_LINE_BYTES - c->line->size);
        if (size == 0)
            break;
        memcpy(c->line->bytes + c->line->size, in.data, size);
        c->line->size += (uint32_t)size;
        connection_take(c, size);
    }
    return c->line == NULL ? slice_of(NULL, 0) : slice_of(c->line->bytes, c->line->size);
}

void connection_collected(struct connection *c, size_t bytes)
{
    CHECK(c->line != NULL);
    CHECK(bytes <= c->line->size);
    c->line->size -= (uint32_t)bytes;
    memmove(c->line->bytes, c->line->bytes + bytes, c->line->size);
    if (c->line->size == 0)
        connection_give_line(c);
}

/* ---- sending ---- */

static void connection_send_gathered(struct connection *c)
{
    struct connection_output *out = c->output;
    out->sending = out->size - out->sent;
    out->vector.iov[0] = (struct iovec) { out->bytes + out->sent, out->sending };
    out->vector.count = 1;
    ring_send(c->shard->ring, &c->send, c->socket, &out->vector);
}

static void connection_on_send(struct op *op, int res, unsigned flags)
{
    (void)flags;
    struct connection *c = container_of(op, struct connection, send);
    if (c->tls != NULL) {
        connection_tls_on_sent(c, res);
        return;
    }
    struct connection_output *out = c->output;
    size_t asked = 0;
    for (unsigned i = 0; i < out->vector.count; i++)
        asked += out->vector.iov[i].iov_len;
    c->send_borrowed = false;
    if (res > 0)
        c->sent += (uint64_t)res;
    if (res < 0 || (size_t)res < asked) {
        /* A short send means that the peer went away in the middle. */
        if (c->error == 0)
            c->error = res < 0 ? res : -EPIPE;
    } else {
        out->sent += out->sending;
        out->sending = 0;
        if (out->sent < out->size && !c->closing) {
            connection_send_gathered(c);
            connection_wake(c);
            return;
        }
    }
    pool_give(&c->pools->outputs, out);
    c->output = NULL;
    connection_wake(c);
}

struct connection_output *connection_output(struct connection *c)
{
    if (c->output != NULL)
        return c->output;
    c->output = pool_take(&c->pools->outputs);
    if (c->output == NULL) {
        if (c->error == 0)
            c->error = -ENOBUFS;
        return NULL;
    }
    c->output->size = 0;
    c->output->sending = 0;
    c->output->sent = 0;
    c->output->vector_at = 0;
    c->output->vector.count = 0;
    return c->output;
}

uint8_t *connection_reserve(struct connection *c, size_t bytes)
{
    CHECK(bytes <= CONNECTION_OUTPUT_BYTES);
    if (c->closing || c->error < 0)
        return NULL;
    struct connection_output *out = connection_output(c);
    if (out == NULL || CONNECTION_OUTPUT_BYTES - out->size < bytes)
        return NULL;
    return out->bytes + out->size;
}

void connection_commit(struct connection *c, size_t bytes)
{
    CHECK(c->output != NULL);
    CHECK(bytes <= CONNECTION_OUTPUT_BYTES - c->output->size);
    if (c->tap != NULL)
        wire_bytes(c->tap, false, c->output->bytes + c->output->size, bytes);
    c->output->size += (uint32_t)bytes;
}

void connection_flush(struct connection *c)
{
    if (c->tls != NULL) {
        connection_tls_pump(c);
        return;
    }
    struct connection_output *out = c->output;
    if (out == NULL || c->send.inflight)
        return;
    if (out->size == out->sent || c->closing || c->error < 0) {
        pool_give(&c->pools->outputs, out);
        c->output = NULL;
        return;
    }
    connection_send_gathered(c);
}

int connection_flush_with(struct connection *c, const struct slice *slices, size_t count)
{
    CHECK(!c->send.inflight);
    CHECK(count < RING_VECTOR_MAX);
    CHECK(!c->closing);
    struct connection_output *out = connection_output(c);
    if (out == NULL)
        return -ENOBUFS;
    for (size_t i = 0; c->tap != NULL && i < count; i++)
        wire_bytes(c->tap, false, slices[i].data, slices[i].size);
    if (c->tls != NULL)
        return connection_tls_flush_with(c, slices, count);
    unsigned used = 0;
    out->sending = out->size - out->sent;
    if (out->sending > 0)
        out->vector.iov[used++] = (struct iovec) { out->bytes + out->sent, out->sending };
    for (size_t i = 0; i < count; i++)
        if (slices[i].size > 0)
            out->vector.iov[used++] =
                (struct iovec) { (void *)(uintptr_t)slices[i].data, slices[i].size };
    CHECK(used > 0);
    out->vector.count = used;
    c->send_borrowed = count > 0;
    ring_send(c->shard->ring, &c->send, c->socket, &out->vector);
    return 0;
}

/* ---- life ---- */

static void connection_on_connect(struct op *op, int res, unsigned flags)
{
    (void)flags;
    struct connection *c = container_of(op, struct connection, control);
    if (res < 0) {
        c->error = res;
    } else if (!c->closing) {
        c->connected = true;
        c->receiving = true;
        connection_arm(c);
    }
    connection_wake(c);
}

static void connection_on_shutdown(struct op *op, int res, unsigned flags)
{
    (void)res; /* a peer that is gone already needs no FIN */
    (void)flags;
    connection_wake(container_of(op, struct connection, control));
}

void connection_shutdown(struct connection *c)
{
    if (c->closing || c->control.inflight)
        return;
    CHECK(connection_idle(c));
    c->control.landed = connection_on_shutdown;
    ring_shutdown(c->shard->ring, &c->control, c->socket);
}

/* Runs in CLOSING whenever something landed, until nothing is in flight. */
static void connection_close_step(struct task *task)
{
    struct connection *c = container_of(task, struct connection, close_task);
    if (c->recv.inflight || c->send.inflight || c->control.inflight || c->closed_told)
        return;
    if (c->output != NULL) {
        pool_give(&c->pools->outputs, c->output);
        c->output = NULL;
    }
    connection_drop_input(c);
    connection_tls_free(c);
    if (c->socket >= 0)
        ring_close(c->shard->ring, c->socket);
    c->socket = -1;
    if (c->tap != NULL)
        wire_end(c->tap);
    c->closed_told = true;
    c->closed(c);
}

void connection_init(struct connection *c, struct shard *shard, struct connection_pools *pools,
                     struct task *owner, void (*closed)(struct connection *connection))
{
    *c = (struct connection) {
        .shard = shard,
        .pools = pools,
        .owner = owner,
        .closed = closed,
        .socket = -1,
        .held_first = CONNECTION_NO_BUFFER,
        .recv.landed = connection_on_recv,
        .send.landed = connection_on_send,
        .control.landed = connection_on_connect,
    };
    task_init(&c->close_task, connection_close_step);
}

void connection_open(struct connection *c, int socket)
{
    CHECK(c->socket < 0);
    c->socket = socket;
    c->connected = true;
    c->receiving = true;
    connection_arm(c);
}

void connection_connect(struct connection *c, int socket, const struct net_address *to)
{
    CHECK(c->socket < 0);
    c->socket = socket;
    ring_connect(c->shard->ring, &c->control, socket, to);
}

void connection_close(struct connection *c)
{
    if (c->closing)
        return;
    c->closing = true;
    struct ring *ring = c->shard->ring;
    if (c->recv.inflight)
        ring_cancel(ring, &c->recv);
    if (c->send.inflight)
        ring_cancel(ring, &c->send);
    if (c->control.inflight)
        ring_cancel(ring, &c->control);
    shard_forget(c->owner);
    shard_run_later(c->shard, &c->close_task);
}
