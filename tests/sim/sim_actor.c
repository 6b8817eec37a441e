/*
 * sim_actor.c - the ledger, the contents of messages, and the sockets of actors
 *
 * A content is a head with the id in it and lines that a generator seeded by ledger and id makes:
 * dots at line starts, long lines, empty ones. What a line of an actor cannot send at once waits in
 * out[]; memory grows as it must: actors are the test's, not the server's.
 */
#include "tests/sim/sim_actor.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim_actor_inside.h"

static void *grown(void *old, size_t bytes)
{
    void *memory = realloc(old, bytes);
    CHECK(memory != NULL);
    return memory;
}

/* ---- ledger ---- */

struct sim_ledger *sim_ledger_new(struct sim *sim, const char *const *domains)
{
    struct sim_ledger *ledger = calloc(1, sizeof(*ledger));
    CHECK(ledger != NULL);
    ledger->sim = sim;
    ledger->seed = sim_options(sim)->seed;
    ledger->count = 1;
    ledger->protected = -1;
    for (; *domains != NULL; domains++) {
        CHECK(ledger->domains_count < SIM_DOMAINS_MAX);
        ledger->domains[ledger->domains_count++] = *domains;
    }
    CHECK(ledger->domains_count > 0);
    return ledger;
}

void sim_ledger_free(struct sim_ledger *ledger)
{
    for (struct sim_actor *actor = ledger->actors, *next; actor != NULL; actor = next) {
        next = actor->next;
        actor->free(actor);
    }
    free(ledger->messages);
    free(ledger);
}

void sim_ledger_protect(struct sim_ledger *ledger, unsigned domain)
{
    ledger->protected = (int)domain;
    ledger->protects = true;
}

void sim_ledger_unprotect(struct sim_ledger *ledger)
{
    for (uint32_t id = 1; id < ledger->count; id++)
        ledger->messages[id].protected = false;
    ledger->unprotected = true;
}

void sim_actor_add(struct sim_ledger *ledger, struct sim_actor *actor)
{
    actor->ledger = ledger;
    actor->next = ledger->actors;
    ledger->actors = actor;
}

bool sim_clients_done(void *argument)
{
    struct sim_ledger *ledger = argument;
    for (struct sim_actor *actor = ledger->actors; actor != NULL; actor = actor->next)
        if (actor->client && !actor->done(actor))
            return false;
    return true;
}

struct sim_message *sim_ledger_add(struct sim_ledger *ledger)
{
    if (ledger->count >= ledger->size) {
        ledger->size = ledger->size == 0 ? 64 : 2 * ledger->size;
        ledger->messages = grown(ledger->messages, ledger->size * sizeof(*ledger->messages));
        if (ledger->count == 1)
            memset(&ledger->messages[0], 0, sizeof(ledger->messages[0]));
    }
    struct sim_message *message = &ledger->messages[ledger->count];
    memset(message, 0, sizeof(*message));
    message->id = ledger->count++;
    message->protected = ledger->protects;
    return message;
}

struct sim_message *sim_ledger_find(struct sim_ledger *ledger, uint32_t id)
{
    return id > 0 && id < ledger->count ? &ledger->messages[id] : NULL;
}

bool sim_address_parse(const char *address, uint32_t *id, int *recipient)
{
    unsigned k, number;
    if (sscanf(address, "r%u.m%u@", &k, &number) == 2) {
        if (k >= SIM_RECIPIENTS_MAX)
            return false;
        *recipient = (int)k;
    } else if (sscanf(address, "s.m%u@", &number) == 1) {
        *recipient = -1;
    } else {
        return false;
    }
    *id = number;
    return true;
}

/* Delivered, and whoever sent it was told that it would not be. */
static bool is_false(const struct sim_message *m, const struct sim_recipient *r)
{
    bool may = m->verdict == SIM_ACKNOWLEDGED || m->verdict == SIM_UNKNOWN ||
               (m->verdict == SIM_REFUSED && m->code < 500);
    return r->delivered > 0 && (!may || !r->accepted);
}

struct sim_balance sim_ledger_balance(const struct sim_ledger *ledger)
{
    struct sim_balance b = { 0 };
    for (uint32_t id = 1; id < ledger->count; id++) {
        const struct sim_message *m = &ledger->messages[id];
        bool acknowledged = m->verdict == SIM_ACKNOWLEDGED;
        b.sent += m->verdict != SIM_UNSENT;
        b.acknowledged += acknowledged;
        b.damaged += m->damaged;
        for (unsigned k = 0; k < m->recipients_count; k++) {
            const struct sim_recipient *r = &m->recipients[k];
            if (r->delivered > 1)
                b.duplicates += r->delivered - 1;
            if (is_false(m, r)) {
                b.false_ones += r->delivered;
                b.first_false = b.first_false == 0 ? id : b.first_false;
            } else if (m->verdict == SIM_REFUSED)
                b.revived += r->delivered;
            if (!acknowledged || !r->accepted)
                continue;
            b.expected++;
            b.delivered += r->delivered > 0;
            b.bounced += r->delivered == 0 && r->bounced > 0;
            if (r->delivered == 0 && r->bounced == 0 && !m->discarded) {
                b.missing++;
                b.first_missing = b.first_missing == 0 ? id : b.first_missing;
            }
        }
    }
    return b;
}

void sim_ledger_judge(const struct sim_ledger *ledger, const struct sim_balance *b, bool settled,
                      void (*wrong)(void *argument, const char *words), void *argument)
{
    char words[128];
    if (b->missing > 0 && settled) {
        snprintf(words, sizeof(words),
                 "%u recipients of acknowledged mail are lost, first of message %u", b->missing,
                 b->first_missing);
        wrong(argument, words);
    }
    if (b->false_ones > 0) {
        snprintf(words, sizeof(words), "%u deliveries of refused or cut mail, first of message %u",
                 b->false_ones, b->first_false);
        wrong(argument, words);
    }
    if (b->damaged > 0) {
        snprintf(words, sizeof(words), "%u damaged copies", b->damaged);
        wrong(argument, words);
    }
    if (ledger->strangers > 0) {
        snprintf(words, sizeof(words), "%u deliveries of mail that nobody sent", ledger->strangers);
        wrong(argument, words);
    }
}

void sim_ledger_print(const struct sim_ledger *ledger, unsigned max)
{
    static const char *const verdicts[] = { "unsent", "cut", "unknown", "refused", "acknowledged" };
    for (uint32_t id = 1; id < ledger->count && max > 0; id++) {
        const struct sim_message *m = &ledger->messages[id];
        for (unsigned k = 0; k < m->recipients_count && max > 0; k++) {
            const struct sim_recipient *r = &m->recipients[k];
            bool lost = m->verdict == SIM_ACKNOWLEDGED && r->accepted && r->delivered == 0 &&
                        r->bounced == 0;
            bool wrong = is_false(m, r);
            if (!lost && !wrong && m->damaged == 0)
                continue;
            fprintf(
                stderr,
                "r%u.m%u@%s: %s%s%s; %s \"%s\" at %llu ms, %u bytes, recipient %s; delivered "
                "%u unsure %u deferred %u refused %u bounced %u delayed %u, damaged copies %u\n",
                k, id, ledger->domains[m->domains[k]], lost ? "missing" : "", wrong ? "false" : "",
                m->damaged > 0 ? " damaged" : "", verdicts[m->verdict], m->reply,
                (unsigned long long)m->decided_ms, m->content_bytes,
                r->accepted ? "accepted" : "refused", r->delivered, r->unsure, r->deferred,
                r->refused, r->bounced, r->delayed, m->damaged);
            max--;
        }
    }
}

/* ---- contents ---- */

/* Eight octets of each random number. */
static size_t printable(struct random *random, uint8_t *to, size_t at, size_t length)
{
    enum { OCTETS = 8, PRINTABLE = 95 };
    for (; length > 0; at += MIN(length, OCTETS), length -= MIN(length, OCTETS)) {
        uint64_t number = random_next(random);
        uint8_t octets[OCTETS];
        for (unsigned i = 0; i < OCTETS; i++, number >>= OCTETS)
            octets[i] = (uint8_t)(' ' + ((number & UINT8_MAX) * PRINTABLE >> OCTETS));
        memcpy(to + at, octets, MIN(length, OCTETS));
    }
    return at;
}

uint8_t *sim_content(const struct sim_ledger *ledger, uint32_t id, uint32_t *bytes)
{
    CHECK(id > 0 && id < ledger->count);
    const struct sim_message *m = &ledger->messages[id];
    struct random random;
    random_seed(&random, ledger->seed * 1'000'003 + id);
    uint8_t *content = grown(NULL, (size_t)m->content_bytes + 1024);
    size_t at = (size_t)sprintf((char *)content,
                                "X-Sim-Id: %u\r\nFrom: <s.m%u@sender.example>\r\n"
                                "Date: Tue, 01 Jan 2030 00:00:00 +0000\r\n"
                                "Message-ID: <m%u.%llx@sim.example>\r\nSubject: %u\r\n\r\n",
                                id, id, id, (unsigned long long)ledger->seed, id);
    while (at < m->content_bytes) {
        size_t left = m->content_bytes - at;
        size_t length = random_below(&random, random_below(&random, 8) == 0 ? 900 : 80);
        length = MIN(length, left);
        if (length > 0 && random_below(&random, 6) == 0)
            content[at++] = '.', length--;
        at = printable(&random, content, at, length);
        memcpy(content + at, "\r\n", 2);
        at += 2;
    }
    *bytes = (uint32_t)at;
    return content;
}

/* ---- lines ---- */

static void line_check_closed(struct sim_line *line)
{
    if (!line->leaving || line->connect.inflight || line->recv.inflight || line->send.inflight)
        return;
    if (line->open) {
        line->open = false;
        ring_close(line->ring, line->socket);
        line->closed(line);
    }
}

static void line_pump(struct sim_line *line)
{
    if (line->leaving || line->send.inflight || line->connect.inflight)
        return;
    if (line->out_bytes == 0) {
        line->sent(line);
        return;
    }
    uint8_t *swap = line->sending;
    line->sending = line->out;
    line->sending_bytes = line->out_bytes;
    free(swap);
    line->out = NULL;
    line->out_bytes = line->out_size = 0;
    line->vector.count = 1;
    line->vector.iov[0] = (struct iovec) { line->sending, line->sending_bytes };
    ring_send(line->ring, &line->send, line->socket, &line->vector);
}

static void line_end(struct sim_line *line)
{
    line->ended = true;
    if (!line->leaving)
        line->input(line);
    line_check_closed(line);
}

static void line_on_connect(struct op *op, int res, unsigned flags)
{
    struct sim_line *line = container_of(op, struct sim_line, connect);
    (void)flags;
    if (line->leaving) {
        line_check_closed(line);
    } else if (res < 0) {
        line_end(line);
    } else {
        ring_recv(line->ring, &line->recv, line->socket);
        line->connected(line);
        line_pump(line);
    }
}

static void line_on_send(struct op *op, int res, unsigned flags)
{
    struct sim_line *line = container_of(op, struct sim_line, send);
    (void)flags;
    if (line->leaving)
        line_check_closed(line);
    else if (res < 0 || (size_t)res < line->sending_bytes)
        line_end(line);
    else
        line_pump(line);
}

static void line_on_recv(struct op *op, int res, unsigned flags)
{
    struct sim_line *line = container_of(op, struct sim_line, recv);
    if (flags & RING_BUFFER) {
        uint32_t buffer = ring_buffer_index(flags);
        if (line->in_bytes + (size_t)res > line->in_size) {
            line->in_size = 2 * (line->in_bytes + (size_t)res);
            line->in = grown(line->in, line->in_size);
        }
        memcpy(line->in + line->in_bytes, ring_buffer(line->ring, buffer), (size_t)res);
        line->in_bytes += (size_t)res;
        ring_buffer_give(line->ring, buffer);
    }
    bool again = !(flags & RING_MORE) && (res > 0 || res == -ENOBUFS);
    if (again && !line->leaving)
        ring_recv(line->ring, &line->recv, line->socket);
    if (res > 0 && !line->leaving)
        line->input(line);
    else if (res != -ENOBUFS && res <= 0)
        line_end(line);
    line_check_closed(line);
}

void sim_line_init(struct sim_line *line, struct sim *sim, struct ring *ring)
{
    line->sim = sim;
    line->ring = ring;
    line->connect.landed = line_on_connect;
    line->recv.landed = line_on_recv;
    line->send.landed = line_on_send;
}

int sim_line_connect(struct sim_line *line, const struct net_address *to)
{
    int r = ring_socket(line->ring, to, NULL, &line->socket);
    if (r < 0)
        return r;
    line->open = true;
    ring_connect(line->ring, &line->connect, line->socket, to);
    return 0;
}

int sim_line_accept(struct sim_line *line, int raw)
{
    int r = ring_adopt(line->ring, raw, &line->socket);
    if (r < 0)
        return r;
    line->open = true;
    ring_recv(line->ring, &line->recv, line->socket);
    return 0;
}

void sim_line_put(struct sim_line *line, const void *data, size_t bytes)
{
    if (line->leaving || bytes == 0)
        return;
    if (line->out_bytes + bytes > line->out_size) {
        line->out_size = 2 * (line->out_bytes + bytes);
        line->out = grown(line->out, line->out_size);
    }
    memcpy(line->out + line->out_bytes, data, bytes);
    line->out_bytes += bytes;
    line_pump(line);
}

void sim_line_text(struct sim_line *line, const char *format, ...)
{
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    int bytes = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    CHECK(bytes >= 0 && (size_t)bytes < sizeof(text));
    sim_line_put(line, text, (size_t)bytes);
}

bool sim_line_idle(const struct sim_line *line)
{
    return !line->send.inflight && line->out_bytes == 0;
}

void sim_line_drop(struct sim_line *line, size_t bytes)
{
    CHECK(bytes <= line->in_bytes);
    line->dropped += bytes;
    line->in_bytes -= bytes;
    memmove(line->in, line->in + bytes, line->in_bytes);
}

bool sim_line_take(struct sim_line *line, char *text, size_t size)
{
    for (size_t i = 0; i + 1 < line->in_bytes; i++) {
        if (line->in[i] != '\r' || line->in[i + 1] != '\n')
            continue;
        size_t length = MIN(i, size - 1);
        memcpy(text, line->in, length);
        text[length] = 0;
        sim_line_drop(line, i + 2);
        return true;
    }
    return false;
}

void sim_line_leave(struct sim_line *line, bool reset)
{
    if (line->leaving)
        return;
    line->leaving = true;
    if (reset && line->open && !line->connect.inflight)
        sim_reset(line->sim, line->ring, line->socket);
    if (line->connect.inflight)
        ring_cancel(line->ring, &line->connect);
    if (line->recv.inflight)
        ring_cancel(line->ring, &line->recv);
    if (line->send.inflight)
        ring_cancel(line->ring, &line->send);
    line_check_closed(line);
}

void sim_line_free(struct sim_line *line)
{
    free(line->in);
    free(line->out);
    free(line->sending);
    line->in = line->out = line->sending = NULL;
}

struct ring *sim_actor_ring(struct sim *sim, unsigned machine)
{
    struct ring_options options = {
        .entries = 256, .sockets_max = 4096, .recv_buffers = 256, .recv_buffer_bytes = 8192
    };
    struct ring *ring = sim_ring(sim, machine, &options);
    sim_ring_runs(sim, ring);
    return ring;
}
