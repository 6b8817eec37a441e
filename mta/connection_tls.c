/*
 * connection_tls.c - TLS over a connection: received buffers opened, gathered output sealed
 *
 *   held buffers --take--> session --read--> opened block --> lines, content
 *   output block, slices of the owner --write--> session --put--> sealed block --> send
 *
 * Opening is done when the owner looks for input, sealing when it flushes and whenever a send has
 * landed, so a large body is sealed block by block while it leaves. Owns the session, and the two
 * blocks while something is in them: an idle connection has neither. Surprises: the end of the
 * stream counts only when all that came before it was opened; one without a close_notify is a cut
 * (RFC 8446 6.1), and after a close_notify nothing that follows is looked at.
 */
#include "mta/connection_inside.h"

#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "mta/wire.h"

/* ---- the session's two ends ---- */

/* What a PROXY header left behind comes first. */
static size_t take_collected(struct connection *c, uint8_t *to, size_t bytes)
{
    struct connection_line_block *line = c->line;
    size_t size = MIN(bytes, (size_t)line->size);
    memcpy(to, line->bytes, size);
    line->size -= (uint32_t)size;
    memmove(line->bytes, line->bytes + size, line->size);
    if (line->size == 0)
        connection_give_line(c);
    return size;
}

static size_t end_take(void *owner, uint8_t *to, size_t bytes)
{
    struct connection *c = owner;
    if (!c->tls_open && c->line != NULL)
        return take_collected(c, to, bytes);
    size_t done = 0;
    while (done < bytes && c->held_count > 0) {
        struct connection_held *held = &c->pools->held[c->held_first];
        size_t size = MIN(bytes - done, (size_t)(held->size - held->at));
        memcpy(to + done, ring_buffer(c->shard->ring, c->held_first) + held->at, size);
        held->at += (uint32_t)size;
        done += size;
        if (held->at == held->size)
            connection_give_front(c);
    }
    return done;
}

static size_t end_put(void *owner, const uint8_t *from, size_t bytes)
{
    struct connection *c = owner;
    if (c->sealed == NULL) {
        c->sealed = pool_take(&c->pools->sealed);
        if (c->sealed == NULL) {
            if (c->error == 0)
                c->error = -ENOBUFS;
            return 0;
        }
        c->sealed->size = c->sealed->sending = c->sealed->sent = 0;
    }
    struct connection_sealed *sealed = c->sealed;
    size_t size = MIN(bytes, sizeof(sealed->bytes) - sealed->size);
    memcpy(sealed->bytes + sealed->size, from, size);
    sealed->size += (uint32_t)size;
    return size;
}

const struct tls_ends connection_ends = { .take = end_take, .put = end_put };

void connection_secure(struct connection *c, struct tls_session *session)
{
    CHECK(c->tls == NULL);
    CHECK(connection_idle(c));
    CHECK(!c->send.inflight);
    c->tls = session;
    c->tls_waits = tls_session_is_server(session);
    c->raw_eof = c->eof;
    c->eof = false;
}

static void tls_fail(struct connection *c)
{
    c->tls_failed = true;
    if (c->error == 0)
        c->error = -EPROTO;
}

/* ---- sending ---- */

static void sealed_give(struct connection *c)
{
    if (c->sealed == NULL)
        return;
    pool_give(&c->pools->sealed, c->sealed);
    c->sealed = NULL;
}

static void output_give(struct connection *c)
{
    if (c->output == NULL)
        return;
    pool_give(&c->pools->outputs, c->output);
    c->output = NULL;
    c->send_borrowed = false;
}

static void sealed_send(struct connection *c)
{
    struct connection_sealed *sealed = c->sealed;
    if (sealed == NULL || c->send.inflight || c->closing)
        return;
    CHECK(sealed->size > sealed->sent);
    sealed->sending = sealed->size - sealed->sent;
    sealed->vector.iov[0] = (struct iovec) { sealed->bytes + sealed->sent, sealed->sending };
    sealed->vector.count = 1;
    ring_send(c->shard->ring, &c->send, c->socket, &sealed->vector);
}

/* What is to be sealed next: the output up to the mark, slices of the owner, the rest of the
 * output. Empty: nothing. */
static struct slice plain_next(const struct connection_output *out)
{
    bool slices = out->vector_at < out->vector.count;
    uint32_t end = slices ? out->sending : out->size;
    if (out->sent < end)
        return slice_of(out->bytes + out->sent, end - out->sent);
    if (!slices)
        return slice_of(NULL, 0);
    const struct iovec *iov = &out->vector.iov[out->vector_at];
    return slice_of(iov->iov_base, iov->iov_len);
}

static void plain_sealed(struct connection_output *out, size_t bytes)
{
    bool slices = out->vector_at < out->vector.count;
    if (out->sent < (slices ? out->sending : out->size)) {
        out->sent += (uint32_t)bytes;
        return;
    }
    struct iovec *iov = &out->vector.iov[out->vector_at];
    iov->iov_base = (uint8_t *)iov->iov_base + bytes;
    iov->iov_len -= bytes;
    if (iov->iov_len == 0)
        out->vector_at++;
}

static void output_seal(struct connection *c)
{
    struct connection_output *out = c->output;
    struct slice piece;
    while (c->error == 0 && (piece = plain_next(out)).size > 0) {
        size_t bytes;
        enum tls_result r = tls_session_write(c->tls, piece, &bytes);
        if (r == TLS_WANT_OUT)
            return;
        if (r == TLS_OK)
            plain_sealed(out, bytes);
        else
            tls_fail(c);
    }
    output_give(c);
}

void connection_tls_pump(struct connection *c)
{
    if (c->closing)
        return;
    if (c->output != NULL && c->tls_open)
        output_seal(c);
    if (c->output == NULL && c->bye_wanted && !c->bye_said && c->error == 0)
        c->bye_said = tls_session_close(c->tls) != TLS_WANT_OUT;
    sealed_send(c);
}

void connection_tls_on_sent(struct connection *c, int res)
{
    struct connection_sealed *sealed = c->sealed;
    if (res > 0)
        c->sent += (uint64_t)res;
    if (res < 0 || (uint32_t)res < sealed->sending) {
        /* A short send means that the peer went away in the middle. */
        if (c->error == 0)
            c->error = res < 0 ? res : -EPIPE;
        sealed_give(c);
        output_give(c);
        connection_wake(c);
        return;
    }
    sealed->sent += sealed->sending;
    sealed->sending = 0;
    if (sealed->sent == sealed->size)
        sealed_give(c);
    connection_tls_pump(c);
    connection_wake(c);
}

int connection_tls_flush_with(struct connection *c, const struct slice *slices, size_t count)
{
    struct connection_output *out = c->output;
    out->sending = out->size;
    out->vector_at = 0;
    out->vector.count = 0;
    for (size_t i = 0; i < count; i++)
        if (slices[i].size > 0)
            out->vector.iov[out->vector.count++] =
                (struct iovec) { (void *)(uintptr_t)slices[i].data, slices[i].size };
    CHECK(out->vector.count > 0 || out->sent < out->size);
    c->send_borrowed = count > 0;
    connection_tls_pump(c);
    return 0;
}

void connection_bye(struct connection *c)
{
    if (c->tls != NULL && c->tls_open)
        c->bye_wanted = true;
}

/* ---- receiving ---- */

static void opened_give(struct connection *c)
{
    if (c->opened == NULL)
        return;
    pool_give(&c->pools->opened, c->opened);
    c->opened = NULL;
}

static void tls_ended(struct connection *c, enum tls_result result)
{
    switch (result) {
    case TLS_CLOSED: c->eof = true; break;
    case TLS_FAILED: tls_fail(c); break;
    case TLS_WANT_IN:
        if (!c->raw_eof || c->held_count > 0)
            break;
        c->eof = true;
        c->tls_cut = true;
        break;
    default: break;
    }
}

/* Without it a call of the session's would only find that out, at the price of some 700
 * instructions and of what it throws out of the caches. */
static bool has_ciphertext(const struct connection *c)
{
    return c->held_count > 0 || c->raw_eof || (!c->tls_open && c->line != NULL);
}

static bool has_more(const struct connection *c)
{
    return has_ciphertext(c) || tls_session_has_more(c->tls);
}

/* Fills the block: many small records become one piece of input. */
static void opened_fill(struct connection *c)
{
    struct connection_opened *opened = c->opened;
    enum tls_result result = TLS_OK;
    opened->at = opened->size = 0;
    while (result == TLS_OK && opened->size < sizeof(opened->bytes) && has_more(c)) {
        size_t bytes;
        result = tls_session_read(c->tls, opened->bytes + opened->size,
                                  sizeof(opened->bytes) - opened->size, &bytes);
        if (result == TLS_OK && c->tap != NULL)
            wire_bytes(c->tap, true, opened->bytes + opened->size, bytes);
        if (result == TLS_OK)
            opened->size += (uint32_t)bytes;
    }
    tls_ended(c, result);
    sealed_send(c); /* an alert, or the answer to a key update */
    if (opened->size == 0)
        opened_give(c);
}

struct slice connection_tls_front(struct connection *c)
{
    if (c->opened != NULL && c->opened->at < c->opened->size)
        return slice_of(c->opened->bytes + c->opened->at, c->opened->size - c->opened->at);
    if (!c->tls_open || c->eof || c->tls_failed || c->error == -ENOBUFS || c->closing)
        return slice_of(NULL, 0); /* after another error, what came before it is still opened */
    if (!has_more(c))
        return slice_of(NULL, 0);
    if (c->opened == NULL)
        c->opened = pool_take(&c->pools->opened);
    if (c->opened == NULL) {
        c->error = -ENOBUFS;
        return slice_of(NULL, 0);
    }
    opened_fill(c);
    return c->opened == NULL ? slice_of(NULL, 0) : slice_of(c->opened->bytes, c->opened->size);
}

void connection_tls_take(struct connection *c, size_t bytes)
{
    CHECK(c->opened != NULL);
    CHECK(bytes <= c->opened->size - c->opened->at);
    c->opened->at += (uint32_t)bytes;
}

void connection_tls_reclaim(struct connection *c)
{
    if (c->opened != NULL && c->opened->at == c->opened->size)
        opened_give(c);
}

void connection_tls_drop_input(struct connection *c)
{
    opened_give(c);
    c->eof = c->eof || c->raw_eof;
}

/* ---- the handshake, and the end ---- */

static void tell_handshake(const struct connection *c, enum tls_result result)
{
    char text[2 * TLS_TEXT_MAX] = "failed: ";
    struct tls_facts facts;
    tls_session_facts(c->tls, &facts);
    if (result == TLS_OK)
        snprintf(text, sizeof(text), "%s %s %s%s%s%s", facts.version, facts.suite, facts.group,
                 facts.is_resumed ? ", resumed" : "", *facts.server_name != '\0' ? ", for " : "",
                 facts.server_name);
    else
        (void)tls_session_why(c->tls, text + strlen(text));
    wire_tls(c->tap, text);
}

enum tls_result connection_handshake(struct connection *c)
{
    CHECK(c->tls != NULL);
    if (c->tls_waits && !has_ciphertext(c))
        return TLS_WANT_IN;
    enum tls_result result = tls_session_handshake(c->tls);
    c->tls_waits = result == TLS_WANT_IN;
    if (result == TLS_OK)
        c->tls_open = true;
    tls_ended(c, result);
    if (c->eof && result != TLS_OK)
        result = TLS_FAILED;
    if (c->tap != NULL && (result == TLS_OK || result == TLS_FAILED))
        tell_handshake(c, result);
    sealed_send(c);
    return result;
}

void connection_tls_free(struct connection *c)
{
    opened_give(c);
    sealed_give(c);
    tls_session_free(c->tls);
    c->tls = NULL;
}
