/*
 * sim_hop.c - a simulated next hop: takes mail by SMTP or LMTP, and writes down what it got
 *
 *   connection: greeting --> command --DATA--> data --CRLF.CRLF--> command
 *                               '--BDAT n--> chunk --n octets--> command
 *
 * Each reply waits a seeded moment; meanwhile input gathers, as it would behind a slow server. What
 * goes wrong is decided when the reply is due: instead of it, in the middle of it, behind it. A
 * delivery counts when its 250 was given to the kernel; if the connection ended in its place, the
 * recipient is unsure.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim_actor_inside.h"

enum { RECIPIENTS_MAX = 100, REPLY_BYTES_MAX = 8192, ADDRESS_MAX = 320 };
static const uint64_t MS_NS = 1'000'000;

struct hop;

struct hop_recipient {
    uint32_t id;   /* 0: a stranger */
    int recipient; /* -1: the sender, by a bounce */
    bool taken;    /* the reply to the content says 250 for it */
};

struct hop_connection {
    struct sim_line line;
    struct hop *hop;
    struct hop_connection *next, *next_idle;
    bool busy, in_data, in_chunk, last_chunk, leaves;
    bool mail, null_sender;
    struct hop_recipient recipients[RECIPIENTS_MAX];
    unsigned recipients_count;
    uint32_t chunk_left;
    uint8_t *content;
    size_t content_bytes, content_size;
    char reply[REPLY_BYTES_MAX];
    size_t reply_bytes;
    bool settles; /* this reply tells of a content */
    uint64_t due_ns;
};

struct hop {
    struct sim_actor actor;
    struct sim_hop_options options;
    struct ring *ring;
    struct op accept;
    int listener;
    uint32_t connections_count;
    uint64_t *begun_ns; /* when the first octet of each message's MAIL left, if there is a rate */
    uint32_t begun_count, begun_size;
    struct hop_connection *connections, *idle;
};

static struct hop_connection *connection(struct sim_line *line)
{
    return container_of(line, struct hop_connection, line);
}

static struct sim *sim_of(const struct hop_connection *c)
{
    return c->hop->actor.ledger->sim;
}

/* ---- what was received ---- */

static const char *text_find(const char *text, const char *end, const char *what)
{
    size_t size = strlen(what);
    for (; (size_t)(end - text) >= size; text++)
        if (memcmp(text, what, size) == 0)
            return text;
    return NULL;
}

static bool is_whole(const struct hop_connection *c, uint32_t id)
{
    const char *content = (const char *)c->content, *end = content + c->content_bytes;
    const char *start = text_find(content, end, "X-Sim-Id: ");
    uint32_t bytes;
    uint8_t *right = sim_content(c->hop->actor.ledger, id, &bytes);
    const bool whole = start != NULL && (start == content || start[-1] == '\n') &&
                       (size_t)(end - start) == bytes && memcmp(start, right, bytes) == 0;
    free(right);
    return whole;
}

/* Counts a copy for a recipient that is told 250. */
static void settle_message(struct hop_connection *c, struct sim_message *m, unsigned k, bool told)
{
    struct sim_ledger *ledger = c->hop->actor.ledger;
    if (k >= m->recipients_count)
        ledger->strangers++;
    else if (told)
        m->recipients[k].delivered++;
    else
        m->recipients[k].unsure++;
}

/* RFC 3464 2.3: groups of fields, one for each recipient, with empty lines between. */
static void settle_bounce(struct sim_ledger *ledger, const char *content, size_t bytes)
{
    uint32_t id = 0;
    int k = -1;
    for (const char *end = content + bytes; content < end;) {
        const char *next = text_find(content, end, "\r\n");
        size_t length = (size_t)((next != NULL ? next : end) - content);
        char line[ADDRESS_MAX];
        size_t copied = MIN(length, sizeof(line) - 1);
        memcpy(line, content, copied);
        line[copied] = 0;
        for (size_t i = 0; i < copied; i++)
            line[i] = (char)ascii_lower((uint8_t)line[i]);
        content = next != NULL ? next + 2 : end;
        const char *address = strchr(line, ';');
        if (length == 0) {
            k = -1;
        } else if (strncmp(line, "final-recipient:", 16) == 0 && address != NULL) {
            address += 1 + strspn(address + 1, " <");
            if (!sim_address_parse(address, &id, &k))
                k = -1;
        } else if (strncmp(line, "action:", 7) == 0 && k >= 0) {
            struct sim_message *m = sim_ledger_find(ledger, id);
            if (m == NULL || (unsigned)k >= m->recipients_count)
                ledger->strangers++;
            else if (strstr(line, "failed") != NULL)
                m->recipients[k].bounced++;
            else if (strstr(line, "delayed") != NULL)
                m->recipients[k].delayed++;
        }
    }
}

/* Nobody here has TLS. */
static void look_at_protection(struct sim_ledger *ledger, struct sim_message *m, unsigned k)
{
    if (!m->protected || k >= m->recipients_count || m->domains[k] != ledger->protected)
        return;
    if (m->verdict == SIM_ACKNOWLEDGED && !m->exposed)
        ledger->exposed++;
    m->exposed = true; /* if it is acknowledged later, that counts then */
}

static void content_settle(struct hop_connection *c, bool told)
{
    struct sim_ledger *ledger = c->hop->actor.ledger;
    uint32_t looked_at = 0; /* the message that the content was held against last */
    bool whole = false;
    for (unsigned i = 0; i < c->recipients_count; i++) {
        const struct hop_recipient *r = &c->recipients[i];
        struct sim_message *m = sim_ledger_find(ledger, r->id);
        if (m != NULL && r->recipient >= 0)
            look_at_protection(ledger, m, (unsigned)r->recipient);
        if (!r->taken)
            continue;
        if (m != NULL && r->recipient >= 0 && looked_at != m->id) {
            looked_at = m->id;
            whole = is_whole(c, m->id);
        }
        if (m == NULL || (r->recipient < 0 && !c->null_sender)) {
            ledger->strangers++;
        } else if (r->recipient >= 0) {
            m->damaged += !whole;
            settle_message(c, m, (unsigned)r->recipient, told);
        } else if (told)
            settle_bounce(ledger, (const char *)c->content, c->content_bytes);
    }
}

static void transaction_end(struct hop_connection *c)
{
    c->mail = c->null_sender = false;
    c->recipients_count = 0;
    c->content_bytes = 0;
}

static void count_no(struct hop_connection *c, const struct hop_recipient *r, int code)
{
    struct sim_message *m = sim_ledger_find(c->hop->actor.ledger, r->id);
    if (m == NULL || r->recipient < 0 || (unsigned)r->recipient >= m->recipients_count)
        return;
    if (code >= 500)
        m->recipients[r->recipient].refused++;
    else
        m->recipients[r->recipient].deferred++;
}

/* ---- replies ---- */

static void hop_run(struct hop_connection *c);

static void reply_fire(void *argument)
{
    struct hop_connection *c = argument;
    struct sim *sim = sim_of(c);
    const struct sim_hop_options *o = &c->hop->options;
    if (!c->busy || sim_now_ns(sim) < c->due_ns)
        return; /* of an earlier life */
    size_t bytes = c->reply_bytes;
    bool told = false, leaves = c->leaves, resets = false;
    if (c->line.leaving || c->line.ended || sim_chance(sim, o->leave_ppm)) {
        leaves = true;
        bytes = 0;
    } else if (sim_chance(sim, o->reset_ppm)) {
        leaves = resets = true;
        bytes = 0;
    } else if (sim_chance(sim, o->mute_ppm)) {
        if (c->settles)
            content_settle(c, false);
        c->settles = false;
        return; /* stays busy for ever: whoever waits gives up */
    } else if (sim_chance(sim, o->half_ppm)) {
        leaves = true;
        bytes = random_below(sim_random(sim), bytes > 5 ? bytes - 4 : 1); /* never a whole line */
    } else {
        told = true;
    }
    if (c->settles) {
        content_settle(c, told);
        transaction_end(c);
        if (told && sim_chance(sim, o->after_ppm)) {
            leaves = true;
            resets = sim_chance(sim, 500'000);
        }
    }
    c->settles = false;
    c->busy = false;
    sim_line_put(&c->line, c->reply, bytes);
    c->reply_bytes = 0;
    if (leaves && (resets || sim_line_idle(&c->line)))
        sim_line_leave(&c->line, resets);
    else if (leaves)
        c->leaves = true; /* from sent() */
    else
        hop_run(c);
}

static void reply_due(struct hop_connection *c)
{
    struct sim *sim = sim_of(c);
    uint64_t ns = 1 + random_below(sim_random(sim), c->hop->options.delay_max_ms * MS_NS + 1);
    c->busy = true;
    c->due_ns = sim_now_ns(sim) + ns;
    sim_at(sim, ns, reply_fire, c);
}

static void reply_add(struct hop_connection *c, const char *text)
{
    size_t bytes = strlen(text);
    CHECK(c->reply_bytes + bytes + 2 <= sizeof(c->reply));
    memcpy(c->reply + c->reply_bytes, text, bytes);
    memcpy(c->reply + c->reply_bytes + bytes, "\r\n", 2);
    c->reply_bytes += bytes + 2;
}

static void reply(struct hop_connection *c, const char *text)
{
    reply_add(c, text);
    reply_due(c);
}

/* 0: none. */
static int content_code(struct hop_connection *c)
{
    struct sim *sim = sim_of(c);
    if (sim_chance(sim, c->hop->options.data_4xx_ppm))
        return 451;
    /* A bounce is never refused for good: then nobody would hear of the message any more. */
    if (!c->null_sender && sim_chance(sim, c->hop->options.data_5xx_ppm))
        return 554;
    return 250;
}

static const char *content_words(int code)
{
    return code == 250   ? "250 2.0.0 taken"
           : code == 451 ? "451 4.3.0 not now"
                         : "554 5.7.0 not this";
}

static void content_end(struct hop_connection *c)
{
    int code = content_code(c);
    for (unsigned i = 0; i < c->recipients_count; i++) {
        struct hop_recipient *r = &c->recipients[i];
        if (c->hop->options.lmtp && i > 0)
            code = content_code(c);
        r->taken = code == 250;
        if (code != 250)
            count_no(c, r, code);
        if (c->hop->options.lmtp || i == 0)
            reply_add(c, content_words(code));
    }
    c->settles = true;
    reply_due(c);
}

/* ---- input ---- */

static void content_add(struct hop_connection *c, const void *data, size_t bytes)
{
    if (c->content_bytes + bytes > c->content_size) {
        c->content_size = 2 * (c->content_bytes + bytes);
        c->content = realloc(c->content, c->content_size);
        CHECK(c->content != NULL);
    }
    memcpy(c->content + c->content_bytes, data, bytes);
    c->content_bytes += bytes;
}

/* Takes whole lines of a content by DATA; false: wants more. */
static bool data_take(struct hop_connection *c)
{
    const uint8_t *in = c->line.in;
    size_t from = 0;
    bool over = false;
    for (size_t i = 0; i + 1 < c->line.in_bytes && !over; i++) {
        if (in[i] != '\r' || in[i + 1] != '\n')
            continue;
        const uint8_t *line = in + from;
        size_t bytes = i + 2 - from;
        from = i + 2;
        if (bytes == 3 && line[0] == '.') {
            over = true;
        } else {
            size_t dot = line[0] == '.' ? 1 : 0;
            content_add(c, line + dot, bytes - dot);
        }
        i++;
    }
    sim_line_drop(&c->line, from);
    return over;
}

static void rcpt(struct hop_connection *c, const char *text)
{
    struct sim *sim = sim_of(c);
    struct hop_recipient r = { 0 };
    const char *address = strchr(text, '<');
    if (!c->mail || address == NULL) {
        reply(c, "503 5.5.1 not now");
        return;
    }
    if (!sim_address_parse(address + 1, &r.id, &r.recipient))
        r.id = 0;
    if (c->recipients_count == RECIPIENTS_MAX) {
        reply(c, "452 4.5.3 too many recipients");
    } else if (sim_chance(sim, c->hop->options.rcpt_4xx_ppm)) {
        count_no(c, &r, 450);
        reply(c, "450 4.2.1 not this one now");
    } else if (!c->null_sender && sim_chance(sim, c->hop->options.rcpt_5xx_ppm)) {
        count_no(c, &r, 550);
        reply(c, "550 5.1.1 nobody of that name");
    } else {
        c->recipients[c->recipients_count++] = r;
        reply(c, "250 2.1.5 ok");
    }
}

static void hello(struct hop_connection *c)
{
    transaction_end(c);
    reply_add(c, "250-hop.example");
    if (c->hop->options.pipelining)
        reply_add(c, "250-PIPELINING");
    if (c->hop->options.chunking)
        reply_add(c, "250-CHUNKING");
    reply_add(c, "250-8BITMIME");
    reply_add(c, "250-ENHANCEDSTATUSCODES");
    reply(c, "250 SIZE 100000000");
}

/* at: where its MAIL stands in the stream. */
static void count_rate(struct hop_connection *c, uint64_t at)
{
    struct hop *hop = c->hop;
    if (hop->options.rate == 0)
        return;
    if (hop->begun_count == hop->begun_size) {
        hop->begun_size = MAX(2 * hop->begun_size, 64);
        hop->begun_ns = realloc(hop->begun_ns, hop->begun_size * sizeof(*hop->begun_ns));
        CHECK(hop->begun_ns != NULL);
    }
    hop->begun_ns[hop->begun_count++] = sim_put_ns(c->line.ring, c->line.socket, at);
}

static bool is(const char *text, const char *verb)
{
    return slice_starts_nocase(slice_of_string(text), slice_of_string(verb));
}

static void command(struct hop_connection *c, const char *text, uint64_t at)
{
    unsigned chunk;
    if (is(text, c->hop->options.lmtp ? "LHLO " : "EHLO ")) {
        hello(c);
    } else if (is(text, "HELO ") && !c->hop->options.lmtp) {
        transaction_end(c);
        reply(c, "250 hop.example");
    } else if (is(text, "MAIL FROM:<")) {
        if (c->mail) {
            reply(c, "503 5.5.1 one at a time");
            return;
        }
        transaction_end(c);
        count_rate(c, at);
        c->mail = true;
        c->null_sender = text[11] == '>';
        reply(c, "250 2.1.0 ok");
    } else if (is(text, "RCPT TO:<")) {
        rcpt(c, text);
    } else if (is(text, "DATA")) {
        if (c->recipients_count == 0) {
            reply(c, "503 5.5.1 for whom");
            return;
        }
        c->in_data = true;
        reply(c, "354 go on");
    } else if (is(text, "BDAT ") && sscanf(text + 5, "%u", &chunk) == 1) {
        c->in_chunk = true;
        c->chunk_left = chunk;
        c->last_chunk = strlen(text) > 4 && is(text + strlen(text) - 4, "LAST");
    } else if (is(text, "RSET")) {
        transaction_end(c);
        reply(c, "250 2.0.0 ok");
    } else if (is(text, "NOOP")) {
        reply(c, "250 2.0.0 ok");
    } else if (is(text, "QUIT")) {
        c->leaves = true;
        reply(c, "221 2.0.0 bye");
    } else {
        reply(c, "502 5.5.1 what");
    }
}

static void chunk_take(struct hop_connection *c)
{
    size_t bytes = MIN(c->line.in_bytes, c->chunk_left);
    content_add(c, c->line.in, bytes);
    sim_line_drop(&c->line, bytes);
    c->chunk_left -= (uint32_t)bytes;
    if (c->chunk_left > 0)
        return;
    c->in_chunk = false;
    if (c->recipients_count == 0) {
        c->content_bytes = 0;
        reply(c, "503 5.5.1 for whom");
    } else if (c->last_chunk) {
        content_end(c);
    } else {
        reply(c, "250 2.0.0 and then");
    }
}

static void hop_run(struct hop_connection *c)
{
    char text[1024];
    while (!c->busy && !c->line.leaving) {
        const uint64_t at = c->line.dropped;
        if (c->in_chunk) {
            if (c->line.in_bytes == 0 && c->chunk_left > 0)
                break;
            chunk_take(c);
        } else if (c->in_data) {
            if (!data_take(c))
                break;
            c->in_data = false;
            content_end(c);
        } else if (!sim_line_take(&c->line, text, sizeof(text))) {
            break;
        } else {
            command(c, text, at);
        }
    }
    if (c->line.ended && !c->line.leaving && !c->settles)
        sim_line_leave(&c->line, false);
}

static void hop_input(struct sim_line *line)
{
    hop_run(connection(line));
}

static void hop_sent(struct sim_line *line)
{
    struct hop_connection *c = connection(line);
    if (c->leaves && !c->busy)
        sim_line_leave(line, false);
}

static void hop_connected(struct sim_line *line)
{
    (void)line;
}

static void hop_closed(struct sim_line *line)
{
    struct hop_connection *c = connection(line);
    if (c->settles)
        content_settle(c, false); /* the client went before the reply was due */
    c->settles = c->busy = false;
    c->next_idle = c->hop->idle;
    c->hop->idle = c;
}

static void hop_begin(struct hop *hop, int raw)
{
    struct hop_connection *c = hop->idle;
    if (c != NULL) {
        hop->idle = c->next_idle;
        struct hop_connection *next = c->next;
        sim_line_free(&c->line);
        free(c->content);
        memset(c, 0, sizeof(*c));
        c->next = next;
    } else {
        c = calloc(1, sizeof(*c));
        CHECK(c != NULL);
        c->next = hop->connections;
        hop->connections = c;
    }
    c->hop = hop;
    c->line.connected = hop_connected;
    c->line.input = hop_input;
    c->line.sent = hop_sent;
    c->line.closed = hop_closed;
    sim_line_init(&c->line, hop->actor.ledger->sim, hop->ring);
    hop->connections_count++;
    if (sim_line_accept(&c->line, raw) < 0) {
        ring_discard(hop->ring, raw);
        c->next_idle = hop->idle;
        hop->idle = c;
        return;
    }
    if (hop->options.rate > 0)
        sim_keep_puts(hop->ring, c->line.socket);
    if (sim_chance(sim_of(c), hop->options.busy_ppm)) {
        c->leaves = true;
        reply(c, sim_chance(sim_of(c), 500'000) ? "421 4.3.2 busy" : "554 5.3.2 no service");
    } else {
        reply(c, "220 hop.example ESMTP");
    }
}

static void hop_on_accept(struct op *op, int res, unsigned flags)
{
    struct hop *hop = container_of(op, struct hop, accept);
    if (!(flags & RING_MORE))
        ring_accept(hop->ring, op, hop->listener);
    if (res >= 0)
        hop_begin(hop, res);
}

static void hop_free(struct sim_actor *actor)
{
    struct hop *hop = container_of(actor, struct hop, actor);
    for (struct hop_connection *c = hop->connections, *next; c != NULL; c = next) {
        next = c->next;
        sim_line_free(&c->line);
        free(c->content);
        free(c);
    }
    free(hop->begun_ns);
    free(hop);
}

struct sim_hop_options *sim_hop_options(struct sim_actor *actor)
{
    return &container_of(actor, struct hop, actor)->options;
}

uint32_t sim_hop_connections(const struct sim_actor *actor)
{
    return container_of(actor, struct hop, actor)->connections_count;
}

static int sooner(const void *left, const void *right)
{
    const uint64_t *a = left, *b = right;
    return (*a > *b) - (*a < *b);
}

double sim_hop_ahead(struct sim_actor *actor)
{
    const double minute_ns = 60e9;
    struct hop *hop = container_of(actor, struct hop, actor);
    double level = 0, most = 0; /* of a bucket that leaks by the rate */
    if (hop->begun_count > 0)   /* connections are late, each in its own way */
        qsort(hop->begun_ns, hop->begun_count, sizeof(*hop->begun_ns), sooner);
    for (uint32_t i = 0; i < hop->begun_count; i++) {
        const uint64_t passed_ns = i == 0 ? 0 : hop->begun_ns[i] - hop->begun_ns[i - 1];
        const double leaked = (double)passed_ns * hop->options.rate / minute_ns;
        level = (level > leaked ? level - leaked : 0) + 1;
        most = MAX(most, level);
    }
    return most;
}

struct sim_hop_options sim_hop_plain(const struct net_address *address)
{
    return (struct sim_hop_options) {
        .address = *address,
        .pipelining = true,
        .chunking = true,
        .delay_max_ms = 20,
    };
}

struct sim_hop_options sim_hop_wild(const struct net_address *address)
{
    struct sim_hop_options options = sim_hop_plain(address);
    options.delay_max_ms = 200;
    options.busy_ppm = 50'000;
    options.rcpt_4xx_ppm = options.rcpt_5xx_ppm = 50'000;
    options.data_4xx_ppm = options.data_5xx_ppm = 50'000;
    options.leave_ppm = options.reset_ppm = 10'000;
    options.half_ppm = 10'000;
    options.mute_ppm = 3'000;
    options.after_ppm = 20'000;
    return options;
}

struct sim_actor *sim_hop(struct sim_ledger *ledger, struct ring *ring,
                          const struct sim_hop_options *options)
{
    struct hop *hop = calloc(1, sizeof(*hop));
    CHECK(hop != NULL);
    hop->options = *options;
    hop->ring = ring;
    hop->actor.free = hop_free;
    hop->accept.landed = hop_on_accept;
    sim_actor_add(ledger, &hop->actor);
    CHECK(ring_listen(ring, &options->address, 512, &hop->listener) == 0);
    ring_accept(ring, &hop->accept, hop->listener);
    return &hop->actor;
}
