/*
 * test_wire.c - what of a dialogue is shown: lines, never content, never what follows AUTH
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/connection.h"
#include "mta/wire.h"

struct wire_world {
    struct shard shard;
    struct connection connection;
    struct wire_watch *watch;
    uint32_t left;
    char said[64 * 1024];
};

static struct net_address address(const char *text)
{
    struct net_address a;
    cr_assert_eq(net_parse(slice_of_string(text), 25, &a), 0);
    a.port = 25;
    return a;
}

static struct wire_world *wire_world(const struct wire_wish *wish, uint32_t count)
{
    struct wire_world *w = calloc(1, sizeof(*w));
    w->left = count;
    w->watch = wire_watch_new(wish, &w->left);
    cr_assert_not_null(w->watch);
    return w;
}

static void wire_world_free(struct wire_world *w)
{
    if (w->connection.tap != NULL)
        wire_end(w->connection.tap);
    wire_watch_free(w->watch);
    free(w);
}

static void inbound(struct wire_world *w, const char *peer, const char *listener)
{
    const struct net_address a = address(peer);
    wire_inbound(w->watch, &w->shard, &w->connection, &a, listener);
}

/* An inbound session that is watched; its first line is read. */
static struct wire_world *session_world(bool headers)
{
    const struct wire_wish wish = { .listener = "in", .headers = headers };
    struct wire_world *w = wire_world(&wish, 1);
    struct wire_line line;
    const uint8_t *text;
    inbound(w, "192.0.2.7", "in");
    cr_assert_not_null(w->connection.tap);
    cr_assert(wire_read(w->watch, &line, &text));
    cr_assert_eq(line.kind, WIRE_BEGIN);
    return w;
}

static void c(struct wire_world *w, const char *bytes)
{
    wire_bytes(w->connection.tap, true, (const uint8_t *)bytes, strlen(bytes));
}

static void s(struct wire_world *w, const char *bytes)
{
    wire_bytes(w->connection.tap, false, (const uint8_t *)bytes, strlen(bytes));
}

/* All lines since, as C:, S:, H: or (octets), each with a line feed. */
static const char *said(struct wire_world *w)
{
    static const char marks[] = {
        [WIRE_BEGIN] = 'B', [WIRE_CLIENT] = 'C', [WIRE_SERVER] = 'S', [WIRE_HEADER] = 'H',
        [WIRE_TLS] = 'T',   [WIRE_END] = 'E',    [WIRE_LOST] = 'L',   [WIRE_CONTENT] = '('
    };
    struct wire_line line;
    const uint8_t *text;
    size_t size = 0;
    w->said[0] = '\0';
    while (wire_read(w->watch, &line, &text)) {
        cr_assert_lt(size, sizeof(w->said) - WIRE_LINE_MAX - 64);
        if (line.kind == WIRE_CONTENT)
            size += (size_t)sprintf(w->said + size, "(%llu)\n", (unsigned long long)line.number);
        else if (line.kind == WIRE_LOST)
            size += (size_t)sprintf(w->said + size, "L%llu\n", (unsigned long long)line.number);
        else
            size += (size_t)sprintf(w->said + size, "%c:%.*s%s\n", marks[line.kind], (int)line.size,
                                    (const char *)text, line.cut ? "+" : "");
    }
    return w->said;
}

/* ---- who ---- */

Test(wire, watches_whom_it_was_told_to)
{
    struct wire_wish wish = { .listener = "in", .by_peer = true };
    cr_assert_eq(net_parse_prefix(SLICE("192.0.2.0/24"), &wish.peer), 0);
    struct wire_world *w = wire_world(&wish, 1);
    inbound(w, "198.51.100.1", "in");
    cr_assert_null(w->connection.tap);
    inbound(w, "192.0.2.1", "other");
    cr_assert_null(w->connection.tap);
    const struct net_address a = address("192.0.2.1");
    wire_outbound(w->watch, &w->shard, &w->connection, &a, "mx", "mx:a");
    cr_assert_null(w->connection.tap, "a listener's only");
    inbound(w, "192.0.2.1", "in");
    cr_assert_not_null(w->connection.tap);
    cr_assert_eq(wire_watch_open(w->watch), 1);
    cr_assert_str_eq(said(w), "B:from 192.0.2.1:25, by listener in\n");
    wire_end(w->connection.tap);
    cr_assert_null(w->connection.tap);
    cr_assert_eq(wire_watch_open(w->watch), 0);
    inbound(w, "192.0.2.1", "in");
    cr_assert_null(w->connection.tap, "one was asked for");
    wire_world_free(w);
}

Test(wire, watches_a_destination)
{
    const struct wire_wish wish = { .destination = "mx:a" };
    struct wire_world *w = wire_world(&wish, 2);
    const struct net_address a = address("192.0.2.1");
    inbound(w, "192.0.2.1", "in");
    wire_outbound(w->watch, &w->shard, &w->connection, &a, "mx", "mx:ab");
    cr_assert_null(w->connection.tap);
    wire_outbound(w->watch, &w->shard, &w->connection, &a, "mx.a", "mx:a");
    cr_assert_not_null(w->connection.tap);
    cr_assert_str_eq(said(w), "B:to 192.0.2.1:25 (mx.a), for mx:a\n");
    c(w, "220 hello\r\n"); /* in: here the server is the other one */
    s(w, "EHLO us\r\n");
    cr_assert_str_eq(said(w), "S:220 hello\nC:EHLO us\n");
    wire_watch_release(w->watch);
    cr_assert_null(w->connection.tap, "nobody looks on any more");
    cr_assert(wire_watch_released(w->watch));
    wire_world_free(w);
}

/* ---- lines ---- */

Test(wire, makes_lines_of_pieces)
{
    struct wire_world *w = session_world(false);
    s(w, "220-one\r\n22");
    s(w, "0 two\r");
    s(w, "\n");
    c(w, "EH");
    c(w, "LO a\r\nRSET\r\nNO\rOP\nQU");
    cr_assert_str_eq(said(w), "S:220-one\nS:220 two\nC:EHLO a\nC:RSET\nC:NO\rOP\n");
    char longer[WIRE_LINE_MAX + 10];
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    c(w, longer);
    c(w, "\r\n");
    const char *text = said(w);
    cr_assert_eq(strlen(text), 2 + WIRE_LINE_MAX + 2);
    cr_assert(strstr(text, "x+\n") != NULL);
    wire_world_free(w);
}

/* ---- content ---- */

Test(wire, counts_content_and_does_not_show_it)
{
    struct wire_world *w = session_world(false);
    s(w, "220 x\r\n");
    c(w, "MAIL FROM:<>\r\nRCPT TO:<a>\r\nDATA\r\n");
    s(w, "250 a\r\n250 b\r\n");
    s(w, "354 go\r\n");
    c(w, "Subject: secret\r\n\r\nsecret\r\n..\r\n.");
    c(w, "\r\nQUIT\r\n");
    s(w, "250 taken\r\n221 bye\r\n");
    cr_assert_str_eq(said(w), "S:220 x\nC:MAIL FROM:<>\nC:RCPT TO:<a>\nC:DATA\nS:250 a\nS:250 b\n"
                              "S:354 go\n(31)\nC:QUIT\nS:250 taken\nS:221 bye\n");
    wire_world_free(w);
}

Test(wire, shows_the_header_when_that_was_asked_for)
{
    struct wire_world *w = session_world(true);
    s(w, "220 x\r\n");
    c(w, "MAIL FROM:<>\r\nDATA\r\n");
    s(w, "250 a\r\n354 go\r\n");
    c(w, "Subject: a\r\n b\r\n\r\nsecret\r\n\r\nsecret: x\r\n.\r\nMAIL FROM:<>\r\nBDAT 7\r\nTo: x");
    s(w, "250 taken\r\n250 a\r\n");
    c(w, "\r\nBDAT 9 LAST\r\nY: z\r\n\r\nlQUIT\r\n");
    cr_assert_str_eq(
        said(w), "S:220 x\nC:MAIL FROM:<>\nC:DATA\nS:250 a\nS:354 go\nH:Subject: a\nH: b\n(39)\n"
                 "C:MAIL FROM:<>\nC:BDAT 7\nS:250 taken\nS:250 a\nH:To: x\n(7)\n"
                 "C:BDAT 9 LAST\nH:Y: z\n(9)\nC:QUIT\n");
    wire_world_free(w);
}

Test(wire, empty_content)
{
    struct wire_world *w = session_world(true);
    s(w, "220 x\r\n");
    c(w, "DATA\r\n");
    s(w, "354 go\r\n");
    c(w, ".\r\n");
    c(w, "BDAT 0 LAST\r\nNOOP\r\n");
    cr_assert_str_eq(said(w), "S:220 x\nC:DATA\nS:354 go\n(0)\nC:BDAT 0 LAST\nC:NOOP\n");
    wire_world_free(w);
}

Test(wire, goes_on_when_data_is_refused)
{
    struct wire_world *w = session_world(false);
    s(w, "220 x\r\n");
    c(w, "MAIL FROM:<>\r\nDATA\r\n");
    s(w, "250 a\r\n");
    s(w, "503 no\r\n");
    c(w, "QUIT\r\n");
    cr_assert_str_eq(said(w), "S:220 x\nC:MAIL FROM:<>\nC:DATA\nS:250 a\nS:503 no\nC:QUIT\n");
    wire_world_free(w);
}

Test(wire, never_shows_content_that_came_too_early)
{
    static const char *const replies[] = { "354 go\r\n", "503 no\r\n" };
    for (unsigned i = 0; i < ARRAY_COUNT(replies); i++) {
        struct wire_world *w = session_world(false);
        s(w, "220 x\r\n");
        c(w, "DATA\r\nsecret\r\n.\r\n");
        c(w, "secret\r\n");
        s(w, replies[i]);
        c(w, "secret\r\n");
        cr_assert(strstr(said(w), "secret") == NULL);
        wire_world_free(w);
    }
}

Test(wire, never_shows_a_chunk_of_who_knows_what_size)
{
    static const char *const commands[] = { "BDAT\r\n", "BDAT x\r\n",
                                            "bdat  99999999999999999999\r\n", " BDAT 100\r\n",
                                            "BDAT\t100\r\n" };
    for (unsigned i = 0; i < ARRAY_COUNT(commands); i++) {
        struct wire_world *w = session_world(true);
        s(w, "220 x\r\n");
        c(w, commands[i]);
        c(w, "\r\nsecret\r\nsecret\r\n");
        cr_assert(strstr(said(w), "secret") == NULL, "%s", commands[i]);
        wire_world_free(w);
    }
}

/* ---- secrets ---- */

Test(wire, masks_what_follows_auth)
{
    static const char *const commands[] = { "AUTH PLAIN secret\r\n", "auth plain  secret\r\n",
                                            "AUTH  PLAIN\tsecret\r\n", "\tAUTH PLAIN secret\r\n",
                                            "AUTH\tPLAIN\tsecret x\r\n" };
    for (unsigned i = 0; i < ARRAY_COUNT(commands); i++) {
        struct wire_world *w = session_world(false);
        s(w, "220 x\r\n");
        c(w, commands[i]);
        s(w, "235 yes\r\n");
        c(w, "NOOP\r\n");
        const char *text = said(w);
        cr_assert(strstr(text, "secret") == NULL, "%s", text);
        cr_assert(strstr(text, " ****\nS:235 yes\nC:NOOP\n") != NULL, "%s", text);
        wire_world_free(w);
    }
}

Test(wire, masks_a_whole_auth_dialogue)
{
    struct wire_world *w = session_world(false);
    s(w, "220 x\r\n");
    c(w, "EHLO a\r\nAUTH LOGIN\r\n");
    s(w, "250 x\r\n334 VXNlcg==\r\n");
    c(w, "secret\r\n");
    s(w, "334 UGFz\r\n");
    c(w, "secret\r\n");
    s(w, "535 no\r\n");
    c(w, "QUIT\r\n");
    cr_assert_str_eq(said(w), "S:220 x\nC:EHLO a\nC:AUTH LOGIN\nS:250 x\nS:334 ****\nC:****\n"
                              "S:334 ****\nC:****\nS:535 no\nC:QUIT\n");
    wire_world_free(w);
}

Test(wire, masks_a_secret_longer_than_a_line)
{
    struct wire_world *w = session_world(false);
    char longer[3 * WIRE_LINE_MAX];
    memset(longer, 's', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    c(w, "AUTH PLAIN ");
    c(w, longer);
    c(w, "\r\n");
    cr_assert_str_eq(said(w), "C:AUTH PLAIN ****\n");
    wire_world_free(w);
}

/* ---- the ring ---- */

Test(wire, tells_how_much_found_no_room)
{
    struct wire_world *w = session_world(false);
    struct wire_line line;
    const uint8_t *text;
    unsigned count = 0;
    uint64_t lost = 0;
    s(w, "220 x\r\n");
    for (unsigned i = 0; i < 20'000; i++)
        c(w, "NOOP\r\n");
    while (wire_read(w->watch, &line, &text)) {
        count += line.kind == WIRE_CLIENT;
        lost += line.kind == WIRE_LOST ? line.number : 0;
    }
    cr_assert_gt(count, 1'000);
    cr_assert_eq(lost, 0, "there was no room to say so");
    for (unsigned i = 0; i < 10; i++)
        c(w, "NOOP\r\n");
    while (wire_read(w->watch, &line, &text)) {
        count += line.kind == WIRE_CLIENT;
        lost += line.kind == WIRE_LOST ? line.number : 0;
    }
    cr_assert_eq(count + lost, 20'010);
    wire_world_free(w);
}

Test(wire, keeps_lines_whole_around_the_end_of_the_ring)
{
    struct wire_world *w = session_world(false);
    char sent[200];
    char expected[220];
    for (unsigned i = 0; i < 10'000; i++) {
        snprintf(sent, sizeof(sent), "NOOP %0*u\r\n", 1 + (int)(i % 150), i);
        snprintf(expected, sizeof(expected), "C:NOOP %0*u\n", 1 + (int)(i % 150), i);
        c(w, sent);
        cr_assert_str_eq(said(w), expected);
    }
    wire_world_free(w);
}
