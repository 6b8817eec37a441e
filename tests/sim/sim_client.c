/*
 * sim_client.c - a simulated SMTP client: sends messages, and writes down what it was told
 *
 *   connection: idle --pause--> connecting --220--> EHLO --> message* --> QUIT --> idle
 *   message:    MAIL, RCPT..., DATA or BDAT, one by one or pipelined; expect[] says which replies
 * are still to come, in order (RFC 2920)
 *
 * Mischief is chosen per message: at one of four points it leaves, resets or stalls. The verdict of
 * a message is written when it is known, or when the connection has ended; then UNKNOWN if the last
 * octet had been given to the kernel. Everything that waits goes through tick(), which may come in
 * vain: it looks at the clock.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/sim/sim_actor_inside.h"

enum {
    EXPECT_MAX = 64,
    CHUNKS_MAX = 4,
    EXPECT_RCPT_FIRST = 100, /* + index of the recipient */
};
static const uint64_t MS_NS = 1'000'000;

enum expect {
    EXPECT_GREETING,
    EXPECT_EHLO,
    EXPECT_MAIL,
    EXPECT_DATA,
    EXPECT_CHUNK,
    EXPECT_CONTENT,
    EXPECT_RSET,
    EXPECT_QUIT
};
enum mischief { NO_MISCHIEF, LEAVES, RESETS, STALLS, EARLY };
enum point { BEFORE_MAIL, BEFORE_DATA, IN_CONTENT, AFTER_CONTENT, POINTS };

struct client;

struct client_connection {
    struct sim_line line;
    struct client *client;
    bool pipelining, chunking; /* offered */
    unsigned left;             /* messages that it may still begin */
    int expect[EXPECT_MAX];
    unsigned expect_count;
    /* the message under way; 0: none */
    uint32_t id;
    unsigned step; /* 0 MAIL, 1.. RCPT, then data */
    bool pipelined, bdat;
    bool replied[SIM_RECIPIENTS_MAX];
    unsigned accepted;
    bool begun, ended; /* content: its first, its last octet was given away */
    enum mischief mischief;
    enum point point;
    uint8_t *rest; /* of a content that stalls */
    size_t rest_bytes;
    /* waiting */
    uint64_t pause_ns, deadline_ns; /* 0: none */
    void (*after)(struct client_connection *c);
};

struct client {
    struct sim_actor actor;
    struct sim_client_options options;
    struct ring *ring;
    uint32_t begun; /* messages */
    unsigned active;
    bool stopped;
    struct client_connection *connections;
};

static struct client_connection *connection(struct sim_line *line)
{
    return container_of(line, struct client_connection, line);
}

static struct sim *sim_of(const struct client_connection *c)
{
    return c->client->actor.ledger->sim;
}

static struct sim_message *message(const struct client_connection *c)
{
    return sim_ledger_find(c->client->actor.ledger, c->id);
}

/* ---- waiting ---- */

static void tick(void *argument)
{
    struct client_connection *c = argument;
    uint64_t now = sim_now_ns(sim_of(c));
    if (c->pause_ns != 0 && now >= c->pause_ns) {
        c->pause_ns = 0;
        c->after(c);
    } else if (c->deadline_ns != 0 && now >= c->deadline_ns) {
        c->deadline_ns = 0;
        sim_line_leave(&c->line, false);
    }
}

static void pause_then(struct client_connection *c, uint64_t ms,
                       void (*after)(struct client_connection *c))
{
    uint64_t ns = ms * MS_NS + 1;
    c->pause_ns = sim_now_ns(sim_of(c)) + ns;
    c->after = after;
    sim_at(sim_of(c), ns, tick, c);
}

static uint64_t some_pause(const struct client_connection *c)
{
    return random_below(sim_random(sim_of(c)), c->client->options.pause_max_ms + 1);
}

static void wait_at_most(struct client_connection *c)
{
    uint64_t ns = (uint64_t)c->client->options.reply_timeout_ms * MS_NS;
    c->deadline_ns = sim_now_ns(sim_of(c)) + ns;
    sim_at(sim_of(c), ns, tick, c);
}

static void expect(struct client_connection *c, int what)
{
    CHECK(c->expect_count < EXPECT_MAX);
    c->expect[c->expect_count++] = what;
    wait_at_most(c);
}

/* ---- the message ---- */

static void verdict(struct client_connection *c, enum sim_verdict verdict, int code,
                    const char *text)
{
    struct sim_message *m = message(c);
    if (m == NULL)
        return;
    m->verdict = verdict;
    m->code = code;
    if (verdict == SIM_ACKNOWLEDGED && c->client->actor.ledger->protects)
        c->client->actor.ledger->exposed += m->exposed;
    else
        m->protected = false; /* another configuration may have taken it */
    snprintf(m->reply, sizeof(m->reply), "%s", text);
    m->decided_ms = sim_now_ms(sim_of(c));
    /* Nobody said no to those: if the message is delivered, they may be among it. */
    if (verdict != SIM_REFUSED || code < 500)
        for (unsigned k = 0; k < m->recipients_count; k++)
            if (!c->replied[k])
                m->recipients[k].accepted = true;
    free(c->rest);
    c->rest = NULL;
    c->id = 0;
}

static void connection_lost(struct client_connection *c)
{
    if (c->id != 0)
        verdict(c, c->ended ? SIM_UNKNOWN : c->begun ? SIM_CUT : SIM_UNSENT, 0, "");
}

/* True: the connection is being left. */
static bool misbehave(struct client_connection *c, enum point point,
                      void (*again)(struct client_connection *c))
{
    if (c->mischief == NO_MISCHIEF || c->point != point)
        return false;
    enum mischief mischief = c->mischief;
    c->mischief = NO_MISCHIEF;
    if (mischief == STALLS) {
        uint64_t ms = 1 + random_below(sim_random(sim_of(c)), 600'000);
        c->deadline_ns = 0;
        pause_then(c, ms, again);
        return true;
    }
    sim_line_leave(&c->line, mischief == RESETS);
    return true;
}

static void next_step(struct client_connection *c);

static void rest_send(struct client_connection *c)
{
    uint8_t *rest = c->rest;
    if (rest == NULL || c->line.leaving)
        return;
    c->rest = NULL;
    c->ended = true;
    sim_line_put(&c->line, rest, c->rest_bytes);
    free(rest);
    expect(c, EXPECT_CONTENT);
}

/* Gives the octets of a content (framed) away, in one go or with mischief in the middle. */
static void wire_send(struct client_connection *c, uint8_t *wire, size_t bytes)
{
    c->begun = true;
    if (c->mischief != NO_MISCHIEF && c->point == IN_CONTENT) {
        size_t cut = 1 + random_below(sim_random(sim_of(c)), bytes - 1);
        sim_line_put(&c->line, wire, cut);
        c->rest_bytes = bytes - cut;
        c->rest = malloc(c->rest_bytes);
        CHECK(c->rest != NULL);
        memcpy(c->rest, wire + cut, c->rest_bytes);
        /* Leaving is done later, from sent(), so that the part goes out. */
        if (c->mischief == STALLS)
            (void)misbehave(c, IN_CONTENT, rest_send);
        else
            wait_at_most(c); /* whoever should read it may have lost its power */
    } else {
        c->ended = true;
        sim_line_put(&c->line, wire, bytes);
        expect(c, EXPECT_CONTENT);
        if (c->mischief == EARLY)
            c->point = AFTER_CONTENT;
    }
    free(wire);
}

static void data_send(struct client_connection *c)
{
    uint32_t bytes;
    uint8_t *content = sim_content(c->client->actor.ledger, c->id, &bytes);
    uint8_t *wire = malloc(2 * (size_t)bytes + 8);
    CHECK(wire != NULL);
    size_t at = 0;
    for (uint32_t i = 0; i < bytes; i++) {
        if (content[i] == '.' && (i == 0 || content[i - 1] == '\n'))
            wire[at++] = '.';
        wire[at++] = content[i];
    }
    memcpy(wire + at, ".\r\n", 3);
    free(content);
    wire_send(c, wire, at + 3);
}

static void bdat_send(struct client_connection *c)
{
    uint32_t bytes;
    uint8_t *content = sim_content(c->client->actor.ledger, c->id, &bytes);
    struct random *random = sim_random(sim_of(c));
    uint8_t *wire = malloc((size_t)bytes + CHUNKS_MAX * 32);
    CHECK(wire != NULL);
    size_t at = 0;
    uint32_t from = 0;
    for (unsigned left = 1 + (unsigned)random_below(random, CHUNKS_MAX); left > 0; left--) {
        uint32_t part = left == 1 && random_below(random, 4) != 0
                            ? bytes - from
                            : (uint32_t)random_below(random, bytes - from + 1);
        if (left == 1)
            part = bytes - from;
        at += (size_t)sprintf((char *)wire + at, "BDAT %u%s\r\n", part, left == 1 ? " LAST" : "");
        memcpy(wire + at, content + from, part);
        at += part;
        from += part;
        if (left > 1)
            expect(c, EXPECT_CHUNK);
    }
    free(content);
    wire_send(c, wire, at);
}

static void command_send(struct client_connection *c, unsigned step)
{
    const struct client *client = c->client;
    struct sim_message *m = message(c);
    if (step == 0) {
        sim_line_text(&c->line, "MAIL FROM:<s.m%u@%s>\r\n", m->id, client->options.sender_domain);
        expect(c, EXPECT_MAIL);
    } else if (step <= m->recipients_count) {
        unsigned k = step - 1;
        sim_line_text(&c->line, "RCPT TO:<r%u.m%u@%s>\r\n", k, m->id,
                      client->actor.ledger->domains[m->domains[k]]);
        expect(c, EXPECT_RCPT_FIRST + (int)k);
    } else if (c->bdat) {
        bdat_send(c);
    } else {
        sim_line_text(&c->line, "DATA\r\n");
        expect(c, EXPECT_DATA);
    }
}

static void message_begin(struct client_connection *c)
{
    struct client *client = c->client;
    const struct sim_client_options *o = &client->options;
    struct sim *sim = sim_of(c);
    struct random *random = sim_random(sim);
    struct sim_message *m = sim_ledger_add(client->actor.ledger);
    client->begun++;
    c->left--;
    c->id = m->id;
    m->recipients_count = 1 + (unsigned)random_below(random, o->recipients_max);
    for (unsigned k = 0; k < m->recipients_count; k++)
        m->domains[k] = (uint16_t)random_below(random, client->actor.ledger->domains_count);
    /* Most are small. */
    uint64_t limit = random_below(random, 4) == 0 ? o->content_max : MIN(o->content_max, 2000);
    m->content_bytes = (uint32_t)(1 + random_below(random, limit));
    c->step = 0;
    c->accepted = 0;
    c->begun = c->ended = false;
    memset(c->replied, 0, sizeof(c->replied));
    c->pipelined = c->pipelining && sim_chance(sim, o->pipelined_ppm);
    c->bdat = c->chunking && sim_chance(sim, o->bdat_ppm);
    c->mischief = sim_chance(sim, o->leave_ppm)   ? LEAVES
                  : sim_chance(sim, o->reset_ppm) ? RESETS
                  : sim_chance(sim, o->stall_ppm) ? STALLS
                  : sim_chance(sim, o->early_ppm) ? EARLY
                                                  : NO_MISCHIEF;
    c->point = c->mischief == EARLY ? AFTER_CONTENT : (enum point)random_below(random, POINTS);
}

static void next_message(struct client_connection *c)
{
    struct client *client = c->client;
    if (c->line.leaving || c->id != 0)
        return;
    if (client->stopped || c->left == 0 || client->begun >= client->options.messages) {
        sim_line_text(&c->line, "QUIT\r\n");
        expect(c, EXPECT_QUIT);
        return;
    }
    message_begin(c);
    next_step(c);
}

static void next_step(struct client_connection *c)
{
    struct sim_message *m = message(c);
    if (m == NULL || c->line.leaving)
        return;
    if (c->step == 0 && misbehave(c, BEFORE_MAIL, next_step))
        return;
    do {
        if (c->step == m->recipients_count + 1 && misbehave(c, BEFORE_DATA, next_step))
            return;
        command_send(c, c->step++);
    } while (c->pipelined && c->step <= m->recipients_count + 1);
}

static void message_over(struct client_connection *c, enum sim_verdict what, int code,
                         const char *text)
{
    verdict(c, what, code, text);
    pause_then(c, some_pause(c), next_message);
}

static void reset_and_go_on(struct client_connection *c, int code, const char *text)
{
    verdict(c, SIM_REFUSED, code, text);
    sim_line_text(&c->line, "RSET\r\n");
    expect(c, EXPECT_RSET);
}

/* ---- replies ---- */

static void message_reply(struct client_connection *c, int what, int code, const char *text)
{
    struct sim_message *m = message(c);
    if (m == NULL)
        return;
    bool good = code / 100 == 2;
    if (what >= EXPECT_RCPT_FIRST) {
        unsigned k = (unsigned)(what - EXPECT_RCPT_FIRST);
        c->replied[k] = true;
        m->recipients[k].accepted = good;
        c->accepted += good;
        if (c->pipelined)
            return;
        if (k + 1 == m->recipients_count && c->accepted == 0)
            reset_and_go_on(c, code, text);
        else
            next_step(c);
        return;
    }
    switch (what) {
    case EXPECT_MAIL:
        if (!c->pipelined && good)
            next_step(c);
        else if (!c->pipelined)
            reset_and_go_on(c, code, text);
        return;
    case EXPECT_DATA:
        if (code != 354) { /* the envelope is still open (RFC 5321 4.1.4) */
            reset_and_go_on(c, code, text);
        } else if (c->accepted == 0) {
            /* RFC 2920 3.1: a server that lets an empty envelope through gets an empty content. */
            c->begun = c->ended = true;
            sim_line_text(&c->line, ".\r\n");
            expect(c, EXPECT_CONTENT);
        } else {
            data_send(c);
        }
        return;
    case EXPECT_CHUNK: return; /* the last one's reply decides */
    case EXPECT_CONTENT:
        if (good)
            message_over(c, SIM_ACKNOWLEDGED, code, text);
        else /* after a BDAT that failed it may be open, too (RFC 3030 2) */
            reset_and_go_on(c, code, text);
        return;
    default: return;
    }
}

static void reply(struct client_connection *c, int code, const char *text)
{
    if (c->expect_count == 0) {
        sim_line_leave(&c->line, false); /* 421: it closes */
        return;
    }
    int what = c->expect[0];
    c->expect_count--;
    memmove(c->expect, c->expect + 1, c->expect_count * sizeof(*c->expect));
    if (c->expect_count == 0)
        c->deadline_ns = 0;
    switch (what) {
    case EXPECT_GREETING:
        if (code != 220) {
            sim_line_leave(&c->line, false);
            return;
        }
        sim_line_text(&c->line, "EHLO client.example\r\n");
        expect(c, EXPECT_EHLO);
        return;
    case EXPECT_EHLO:
        if (code != 250)
            sim_line_leave(&c->line, false);
        else
            next_message(c);
        return;
    case EXPECT_RSET:
        if (code / 100 == 2)
            pause_then(c, some_pause(c), next_message);
        else
            sim_line_leave(&c->line, false);
        return;
    case EXPECT_QUIT: sim_line_leave(&c->line, false); return;
    default: message_reply(c, what, code, text);
    }
}

static void client_input(struct sim_line *line)
{
    struct client_connection *c = connection(line);
    char text[1024];
    while (!line->leaving && sim_line_take(line, text, sizeof(text))) {
        int code = atoi(text);
        if (c->expect_count > 0 && c->expect[0] == EXPECT_EHLO && strlen(text) > 4) {
            c->pipelining = c->pipelining || strcmp(text + 4, "PIPELINING") == 0;
            c->chunking = c->chunking || strcmp(text + 4, "CHUNKING") == 0;
        }
        if (strlen(text) < 4 || text[3] != '-')
            reply(c, code, text);
    }
    if (line->ended)
        sim_line_leave(line, false);
}

static void client_sent(struct sim_line *line)
{
    struct client_connection *c = connection(line);
    if (c->id == 0 || c->mischief == NO_MISCHIEF || c->mischief == STALLS)
        return;
    if ((c->rest != NULL && c->point == IN_CONTENT) || (c->ended && c->point == AFTER_CONTENT))
        (void)misbehave(c, c->point, next_message);
}

/* ---- connections ---- */

static void connection_begin(struct client_connection *c);

static void client_connected(struct sim_line *line)
{
    expect(connection(line), EXPECT_GREETING);
}

static void client_closed(struct sim_line *line)
{
    struct client_connection *c = connection(line);
    connection_lost(c);
    c->deadline_ns = 0;
    c->client->active--;
    pause_then(c, 10 + some_pause(c), connection_begin);
}

static void connection_begin(struct client_connection *c)
{
    struct client *client = c->client;
    if (client->stopped || client->begun >= client->options.messages)
        return;
    sim_line_free(&c->line);
    c->line = (struct sim_line) {
        .connected = client_connected,
        .input = client_input,
        .sent = client_sent,
        .closed = client_closed,
    };
    sim_line_init(&c->line, sim_of(c), client->ring);
    c->pipelining = c->chunking = false;
    c->expect_count = 0;
    c->left = 1 + (unsigned)random_below(sim_random(sim_of(c)), client->options.per_connection);
    client->active++;
    if (sim_line_connect(&c->line, &client->options.to) < 0) {
        client->active--;
        pause_then(c, 1000, connection_begin);
    }
}

static bool client_done(const struct sim_actor *actor)
{
    const struct client *client = container_of(actor, struct client, actor);
    return client->active == 0 && (client->stopped || client->begun >= client->options.messages);
}

static void client_free(struct sim_actor *actor)
{
    struct client *client = container_of(actor, struct client, actor);
    for (unsigned i = 0; i < client->options.connections; i++) {
        sim_line_free(&client->connections[i].line);
        free(client->connections[i].rest);
    }
    free(client->connections);
    free(client);
}

bool sim_client_done(const struct sim_actor *client)
{
    return client_done(client);
}

void sim_client_stop(struct sim_actor *actor)
{
    container_of(actor, struct client, actor)->stopped = true;
}

void sim_client_more(struct sim_actor *actor, uint32_t messages)
{
    struct client *client = container_of(actor, struct client, actor);
    client->options.messages = MIN(client->options.messages, client->begun + messages);
}

struct sim_client_options sim_client_plain(const struct net_address *to, uint32_t messages)
{
    return (struct sim_client_options) {
        .to = *to,
        .messages = messages,
        .connections = 4,
        .per_connection = 8,
        .recipients_max = 3,
        .content_max = 20'000,
        .pause_max_ms = 20,
        .reply_timeout_ms = 300'000,
        .sender_domain = "sender.example",
        .pipelined_ppm = 500'000,
        .bdat_ppm = 300'000,
    };
}

struct sim_client_options sim_client_wild(const struct net_address *to, uint32_t messages)
{
    struct sim_client_options options = sim_client_plain(to, messages);
    options.leave_ppm = 40'000;
    options.reset_ppm = 40'000;
    options.stall_ppm = 10'000;
    options.early_ppm = 40'000;
    options.pause_max_ms = 500;
    options.recipients_max = SIM_RECIPIENTS_MAX;
    return options;
}

struct sim_actor *sim_client(struct sim_ledger *ledger, struct ring *ring,
                             const struct sim_client_options *options)
{
    CHECK(options->recipients_max >= 1 && options->recipients_max <= SIM_RECIPIENTS_MAX);
    struct client *client = calloc(1, sizeof(*client));
    CHECK(client != NULL);
    client->options = *options;
    client->ring = ring;
    client->actor.client = true;
    client->actor.done = client_done;
    client->actor.free = client_free;
    client->connections = calloc(options->connections, sizeof(*client->connections));
    CHECK(client->connections != NULL);
    sim_actor_add(ledger, &client->actor);
    for (unsigned i = 0; i < options->connections; i++) {
        client->connections[i].client = client;
        pause_then(&client->connections[i], some_pause(&client->connections[i]), connection_begin);
    }
    return &client->actor;
}
