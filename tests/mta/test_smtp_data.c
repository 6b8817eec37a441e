/*
 * test_smtp_data.c - the end of data, smuggling in every published form, splits, facts, stuffing
 *
 * Every sample is read whole, octet by octet, and cut in two at each place: the same must come out.
 */
#include <criterion/criterion.h>

#include "mta/pattern.h"
#include "mta/smtp_data.h"

enum {
    OUT_MAX = 8'192,
};

struct result {
    struct smtp_content facts;
    bool ended;
    size_t used;
    size_t size;
    uint8_t content[OUT_MAX];
};

static void result_take(struct result *result, struct smtp_data *data, struct slice *in)
{
    struct slice out;
    while (smtp_data_take(data, in, &out)) {
        cr_assert_gt(out.size, 0);
        cr_assert_leq(out.size, OUT_MAX - result->size);
        memcpy(result->content + result->size, out.data, out.size);
        result->size += out.size;
    }
}

static const struct pattern_set *ours(void)
{
    static struct pattern_set *names;
    static const struct slice patterns[] = { SLICE("mx.us.test"), SLICE("*.fleet.test") };
    if (names != NULL)
        return names;
    cr_assert_eq(pattern_set_new(&names), 0);
    for (size_t i = 0; i < ARRAY_COUNT(patterns); i++) {
        uint32_t other;
        const char *why;
        cr_assert_eq(pattern_set_add(names, patterns[i], 0, &other, &why), 0);
    }
    return names;
}

/* Three pieces: to first, to second, the rest. */
static struct result decode(struct slice wire, enum smtp_newline newline, size_t first,
                            size_t second)
{
    static struct result result;
    struct smtp_data data;
    result.size = result.used = 0;
    smtp_data_begin(&data, newline, SMTP_TEXT_LINE_MAX);
    smtp_data_know_ours(&data, ours());
    const size_t cuts[] = { 0, first, second, wire.size };
    for (size_t i = 0; i + 1 < ARRAY_COUNT(cuts) && !data.ended; i++) {
        struct slice in = slice_part(wire, cuts[i], cuts[i + 1] - cuts[i]);
        result_take(&result, &data, &in);
        result.used = cuts[i + 1] - in.size;
    }
    result.facts = data.content;
    result.ended = data.ended;
    return result;
}

static struct result decode_bdat(struct slice wire, enum smtp_newline newline, size_t cut)
{
    static struct result result;
    struct smtp_data data;
    result.size = 0;
    smtp_data_begin_bdat(&data, newline, SMTP_TEXT_LINE_MAX);
    smtp_data_know_ours(&data, ours());
    smtp_data_chunk(&data, cut, false);
    struct slice in = wire;
    result_take(&result, &data, &in);
    cr_assert_eq(in.size, wire.size - cut, "a chunk must not take what is behind it");
    smtp_data_chunk(&data, in.size, true);
    result_take(&result, &data, &in);
    result.used = wire.size - in.size;
    result.facts = data.content;
    result.ended = data.ended;
    return result;
}

static void expect_same(const struct result *a, const struct result *b, size_t first, size_t second)
{
    cr_assert_eq(a->ended, b->ended, "cut at %zu, %zu", first, second);
    cr_assert_eq(a->used, b->used, "cut at %zu, %zu: %zu, %zu", first, second, a->used, b->used);
    cr_assert_eq(a->size, b->size, "cut at %zu, %zu: %zu, %zu", first, second, a->size, b->size);
    cr_assert_eq(memcmp(a->content, b->content, a->size), 0, "cut at %zu, %zu", first, second);
    cr_assert_eq(a->facts.size, b->facts.size);
    cr_assert_eq(a->facts.header_size, b->facts.header_size);
    cr_assert_eq(a->facts.line_longest, b->facts.line_longest);
    cr_assert_eq(a->facts.received_count, b->facts.received_count);
    cr_assert_eq(a->facts.received_ours_count, b->facts.received_ours_count,
                 "cut at %zu, %zu: %u, %u", first, second, a->facts.received_ours_count,
                 b->facts.received_ours_count);
    cr_assert_eq(a->facts.delivered_to_count, b->facts.delivered_to_count);
    cr_assert_eq(a->facts.flags, b->facts.flags);
}

/* The result, after it was found to be the same for each way to cut the wire in three. */
static struct result decode_all_ways(struct slice wire, enum smtp_newline newline)
{
    const struct result whole = decode(wire, newline, wire.size, wire.size);
    for (size_t first = 0; first <= wire.size; first++) {
        for (size_t second = first; second <= wire.size; second++) {
            const struct result cut = decode(wire, newline, first, second);
            expect_same(&whole, &cut, first, second);
        }
    }
    return whole;
}

#define EXPECT_CONTENT(result, text)                                                               \
    do {                                                                                           \
        cr_assert_eq((result).size, sizeof(text) - 1, "%zu: %.*s", (result).size,                  \
                     (int)(result).size, (const char *)(result).content);                          \
        cr_assert_eq(memcmp((result).content, text, sizeof(text) - 1), 0, "%.*s",                  \
                     (int)(result).size, (const char *)(result).content);                          \
    } while (0)

/* What SEC Consult (2023), postfix.org/smtp-smuggling.html and smtpsmug tried, and more. */
static const struct {
    struct slice false_end;
    struct slice normalized; /* what stands for "a" false_end "b" CRLF */
    unsigned flags;
} smuggling[] = {
    { SLICE("\n.\n"), SLICE("a\r\n.\r\nb\r\n"), SMTP_CONTENT_BARE_LF },
    { SLICE("\n.\r\n"), SLICE("a\r\n.\r\nb\r\n"), SMTP_CONTENT_BARE_LF },
    { SLICE("\r\n.\n"), SLICE("a\r\n\r\nb\r\n"), SMTP_CONTENT_BARE_LF },
    { SLICE("\r.\r"), SLICE("a\r\n.\r\nb\r\n"), SMTP_CONTENT_BARE_CR },
    { SLICE("\r.\r\n"), SLICE("a\r\n.\r\nb\r\n"), SMTP_CONTENT_BARE_CR },
    { SLICE("\r\n.\r"), SLICE("a\r\n\r\nb\r\n"), SMTP_CONTENT_BARE_CR },
    { SLICE("\r.\n"), SLICE("a\r\n.\r\nb\r\n"), SMTP_CONTENT_BARE_CR | SMTP_CONTENT_BARE_LF },
    { SLICE("\n.\r"), SLICE("a\r\n.\r\nb\r\n"), SMTP_CONTENT_BARE_CR | SMTP_CONTENT_BARE_LF },
    { SLICE("\r\n.\r\r\n"), SLICE("a\r\n\r\n\r\nb\r\n"), SMTP_CONTENT_BARE_CR },
    { SLICE("\r\r\n.\r\r\n"), SLICE("a\r\n\r\n\r\n\r\nb\r\n"), SMTP_CONTENT_BARE_CR },
    { SLICE("\r\r.\r\r"), SLICE("a\r\n\r\n.\r\n\r\nb\r\n"), SMTP_CONTENT_BARE_CR },
    { SLICE("\n\n.\n\n"), SLICE("a\r\n\r\n.\r\n\r\nb\r\n"), SMTP_CONTENT_BARE_LF },
    { SLICE("\n\r.\r\n"), SLICE("a\r\n\r\n.\r\nb\r\n"),
      SMTP_CONTENT_BARE_CR | SMTP_CONTENT_BARE_LF },
    { SLICE("\r\n.\n\r\n"), SLICE("a\r\n\r\n\r\nb\r\n"), SMTP_CONTENT_BARE_LF },
    { SLICE("\r\n\n.\r\n"), SLICE("a\r\n\r\n.\r\nb\r\n"), SMTP_CONTENT_BARE_LF },
    { SLICE("\r\n\r.\r\n"), SLICE("a\r\n\r\n.\r\nb\r\n"), SMTP_CONTENT_BARE_CR },
    { SLICE("\r\n\0.\r\n"), SLICE("a\r\n\0.\r\nb\r\n"), SMTP_CONTENT_NUL },
    { SLICE("\r\n.\0\r\n"), SLICE("a\r\n\0\r\nb\r\n"), SMTP_CONTENT_NUL },
    { SLICE("\r\0\n.\r\n"), SLICE("a\r\n\0\r\n.\r\nb\r\n"),
      SMTP_CONTENT_BARE_CR | SMTP_CONTENT_BARE_LF | SMTP_CONTENT_NUL },
    { SLICE("\r\n. \r\n"), SLICE("a\r\n \r\nb\r\n"), 0 },
    { SLICE("\r\n..\r\n"), SLICE("a\r\n.\r\nb\r\n"), 0 },
    { SLICE("\r\n.\r.\r\n"), SLICE("a\r\n\r\n.\r\nb\r\n"), SMTP_CONTENT_BARE_CR },
    { SLICE("\r\n\x0b.\r\n"), SLICE("a\r\n\x0b.\r\nb\r\n"), 0 },
    { SLICE("\x85.\x85"), SLICE("a\x85.\x85\x62\r\n"),
      SMTP_CONTENT_8BIT | SMTP_CONTENT_HEADER_8BIT },
};

static struct slice smuggling_wire(size_t index, uint8_t wire[OUT_MAX])
{
    size_t size = 0;
    const struct slice parts[] = { SLICE("a"), smuggling[index].false_end,
                                   SLICE("b\r\n.\r\nQUIT\r\n") };
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        memcpy(wire + size, parts[i].data, parts[i].size);
        size += parts[i].size;
    }
    return slice_of(wire, size);
}

enum {
    CHECKED_FLAGS = SMTP_CONTENT_BARE_CR | SMTP_CONTENT_BARE_LF | SMTP_CONTENT_NUL |
                    SMTP_CONTENT_8BIT | SMTP_CONTENT_HEADER_8BIT,
};

Test(smtp_data, no_smuggling_variant_ends_the_data_and_reject_flags_each)
{
    uint8_t wire[OUT_MAX];
    for (size_t i = 0; i < ARRAY_COUNT(smuggling); i++) {
        const struct slice in = smuggling_wire(i, wire);
        const struct result result = decode_all_ways(in, SMTP_NEWLINE_REJECT);
        cr_assert(result.ended, "variant %zu", i);
        cr_assert_eq(in.size - result.used, sizeof("QUIT\r\n") - 1, "variant %zu", i);
        cr_assert_eq(result.facts.flags & CHECKED_FLAGS, smuggling[i].flags, "variant %zu: %x", i,
                     result.facts.flags);
    }
}

static size_t stuff(struct slice content, size_t cut, uint8_t *out, bool *good)
{
    struct smtp_stuff stuff;
    struct slice piece;
    size_t size = 0;
    smtp_stuff_begin(&stuff);
    const struct slice parts[] = { slice_part(content, 0, cut), slice_from(content, cut) };
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        struct slice in = parts[i];
        while (smtp_stuff_take(&stuff, &in, &piece)) {
            memcpy(out + size, piece.data, piece.size);
            size += piece.size;
        }
    }
    *good = smtp_stuff_end(&stuff, &piece);
    if (*good) {
        memcpy(out + size, piece.data, piece.size);
        size += piece.size;
    }
    return size;
}

Test(smtp_data, normalized_variants_are_one_message_for_any_next_hop)
{
    uint8_t wire[OUT_MAX], out[OUT_MAX];
    for (size_t i = 0; i < ARRAY_COUNT(smuggling); i++) {
        const struct slice in = smuggling_wire(i, wire);
        const struct result result = decode_all_ways(in, SMTP_NEWLINE_NORMALIZE);
        cr_assert(result.ended, "variant %zu", i);
        cr_assert_eq(in.size - result.used, sizeof("QUIT\r\n") - 1, "variant %zu", i);
        cr_assert_eq(result.facts.flags & CHECKED_FLAGS, smuggling[i].flags, "variant %zu", i);
        const struct slice content = slice_of(result.content, result.size);
        cr_assert(slice_equal(content, smuggling[i].normalized), "variant %zu: %.*s", i,
                  (int)content.size, (const char *)content.data);
        if ((smuggling[i].flags & SMTP_CONTENT_NUL) != 0)
            continue; /* refused, always */
        for (size_t cut = 0; cut <= content.size; cut++) {
            bool good = false;
            const size_t size = stuff(content, cut, out, &good);
            cr_assert(good);
            const struct result next = decode(slice_of(out, size), SMTP_NEWLINE_REJECT, size, size);
            cr_assert(next.ended);
            cr_assert_eq(next.used, size, "variant %zu ends early at the next hop", i);
            cr_assert_eq(next.facts.flags & (SMTP_CONTENT_BARE_CR | SMTP_CONTENT_BARE_LF), 0);
            cr_assert(slice_equal(slice_of(next.content, next.size), content));
        }
    }
}

Test(smtp_data, reject_hands_out_what_came)
{
    const struct result result = decode_all_ways(SLICE("a\rb\nc\r\r\n.\r\n"), SMTP_NEWLINE_REJECT);
    cr_assert(result.ended);
    EXPECT_CONTENT(result, "a\rb\nc\r\r\n");
}

Test(smtp_data, an_unfinished_end_is_no_end)
{
    static const struct slice wires[] = {
        SLICE(""), SLICE("."), SLICE(".\r"), SLICE("a\r\n.\r"), SLICE("a\r\n."), SLICE("a\r\n"),
    };
    for (size_t i = 0; i < ARRAY_COUNT(wires); i++) {
        const struct result result = decode_all_ways(wires[i], SMTP_NEWLINE_REJECT);
        cr_assert_not(result.ended, "wire %zu", i);
        cr_assert_eq(result.used, wires[i].size);
    }
}

Test(smtp_data, long_lines_are_flagged_not_cut)
{
    static uint8_t wire[2'100];
    memset(wire, 'x', sizeof(wire));
    memcpy(wire + 999, "\r\n.\r\n", 5);
    struct result result =
        decode(slice_of(wire, 1'004), SMTP_NEWLINE_REJECT, sizeof(wire), sizeof(wire));
    cr_assert(result.ended);
    cr_assert_eq(result.facts.line_longest, 999);
    cr_assert(result.facts.flags & SMTP_CONTENT_LINE_LONG);
    cr_assert_eq(result.size, 1'001);

    result = decode(slice_of(wire + 1, 1'003), SMTP_NEWLINE_REJECT, 500, 999);
    cr_assert_eq(result.facts.line_longest, 998);
    cr_assert_not(result.facts.flags & SMTP_CONTENT_LINE_LONG);
}

Test(smtp_data, a_long_line_shows_before_it_ends)
{
    static uint8_t wire[2'000];
    memset(wire, 'x', sizeof(wire));
    const struct result result =
        decode(slice_of(wire, sizeof(wire)), SMTP_NEWLINE_REJECT, 10, 1'500);
    cr_assert(result.facts.flags & SMTP_CONTENT_LINE_LONG);
}

Test(smtp_data, the_empty_message)
{
    const struct result result = decode_all_ways(SLICE(".\r\nQUIT"), SMTP_NEWLINE_REJECT);
    cr_assert(result.ended);
    cr_assert_eq(result.used, 3);
    EXPECT_CONTENT(result, "");
    cr_assert_eq(result.facts.flags, 0);
}

Test(smtp_data, dots_are_unstuffed_at_line_starts_only)
{
    const struct result result =
        decode_all_ways(SLICE("..\r\n...a.\r\n.b\r\nc.\r\n.\r\n.\r\n"), SMTP_NEWLINE_REJECT);
    cr_assert(result.ended);
    EXPECT_CONTENT(result, ".\r\n..a.\r\nb\r\nc.\r\n");
    cr_assert_eq(result.used, sizeof("..\r\n...a.\r\n.b\r\nc.\r\n.\r\n") - 1);
    cr_assert_eq(result.facts.line_longest, 4);
}

Test(smtp_data, header_facts)
{
    const struct result result = decode_all_ways(SLICE("received: 1\r\n"
                                                       "Received : 2\r\n"
                                                       " Received: folded\r\n"
                                                       "Received-SPF: no\r\n"
                                                       "X-Received: no\r\n"
                                                       "DELIVERED-TO: a@b\r\n"
                                                       "\r\n"
                                                       "Received: body\r\n"
                                                       "Delivered-To: body\xc3\xa9\r\n"
                                                       ".\r\n"),
                                                 SMTP_NEWLINE_REJECT);
    cr_assert(result.ended);
    cr_assert_eq(result.facts.received_count, 2);
    cr_assert_eq(result.facts.delivered_to_count, 1);
    cr_assert_eq(result.facts.header_size, 101, "%zu", (size_t)result.facts.header_size);
    cr_assert_eq(result.facts.flags, SMTP_CONTENT_8BIT | SMTP_CONTENT_HEADER_ENDED);
    cr_assert_eq(result.facts.size, result.size);
}

Test(smtp_data, a_header_without_end_counts_too)
{
    const struct result result =
        decode_all_ways(SLICE("Received: \xc3\xa9\r\n.\r\n"), SMTP_NEWLINE_REJECT);
    cr_assert_eq(result.facts.received_count, 1);
    cr_assert_eq(result.facts.header_size, result.size);
    cr_assert_eq(result.facts.flags, SMTP_CONTENT_8BIT | SMTP_CONTENT_HEADER_8BIT);
}

Test(smtp_data, received_by_hosts_of_ours)
{
    static const struct {
        struct slice field;
        unsigned ours;
    } fields[] = {
        /* what is not ours */
        { SLICE("Received: by mx.us.test.other.test; x\r\n"), 0 },
        { SLICE("Received: by fleet.test; x\r\n"), 0 },
        { SLICE("Received: from mx.us.test by a.test; x\r\n"), 0 },
        { SLICE("Received: from by by a.test; by mx.us.test\r\n"), 0 },
        { SLICE("Received: (by mx.us.test) by a.test; x\r\n"), 0 },
        { SLICE("Received: (a (b\\) by mx.us.test) by mx.us.test; x\r\n"), 0 },
        { SLICE("Received: from a; by mx.us.test\r\n"), 0 },
        { SLICE("Received: from a\r\n"), 0 },
        { SLICE("Received: from a\r\nX: by mx.us.test\r\n"), 0 },
        { SLICE("Received: by\r\nX: mx.us.test\r\n"), 0 },
        { SLICE("X-Received: by mx.us.test; x\r\n"), 0 },
        { SLICE("Received-SPF: by mx.us.test; x\r\n"), 0 },
        { SLICE("Received: bye mx.us.test; x\r\n"), 0 },
        { SLICE("Received: by by mx.us.test; x\r\n"), 0 },
        { SLICE("\r\nReceived: by mx.us.test; x\r\n"), 0 },
        /* what is */
        { SLICE("Received: from a.test (b.test [192.0.2.1])\r\n\tby mx.us.test with ESMTP id 1\r\n"
                "\tfor <by@mx.us.test>; Fri, 27 Nov 2026 07:00:00 +0000\r\n"),
          1 },
        { SLICE("rEcEiVeD:FROM a BY MX.US.TEST; x\r\n"), 1 },
        { SLICE("Received  : from by by mx.us.test; x\r\n"), 1 },
        { SLICE("Received: by (c \\) ( d ) by) mx.us.test. ; x\r\n"), 1 },
        { SLICE("Received: from a(c)by(c)x1.fleet.test(c); x\r\n"), 1 },
        { SLICE("Received:\r\n by\r\n a.b.fleet.test\r\n (c\r\n c)\r\n"), 1 },
        { SLICE("Received: from \"a by mx.us.test; x\r\n"), 1 },
        { SLICE("Received: via x with y by mx.us.test\r\n"), 1 },
        { SLICE("Received: by mx.us.test; x\r\nX: y\r\nReceived: by mx.us.test; by mx.us.test\r\n"),
          2 },
    };
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        uint8_t wire[512];
        const size_t size = fields[i].field.size;
        memcpy(wire, fields[i].field.data, size);
        memcpy(wire + size, "\r\nbody\r\n.\r\n", 11);
        const struct result result =
            decode_all_ways(slice_of(wire, size + 11), SMTP_NEWLINE_REJECT);
        cr_expect_eq(result.facts.received_ours_count, fields[i].ours, "field %zu: %u", i,
                     result.facts.received_ours_count);
    }
}

Test(smtp_data, a_name_that_is_too_long_is_nobodys)
{
    uint8_t wire[512] = "Received: by ";
    const size_t before = strlen((const char *)wire);
    for (size_t size = 240; size < 300; size++) {
        memset(wire + before, 'a', size);
        memcpy(wire + before + size - strlen(".fleet.test"), ".fleet.test", strlen(".fleet.test"));
        memcpy(wire + before + size, "\r\n.\r\n", 5);
        const struct slice in = slice_of(wire, before + size + 5);
        const struct result result = decode(in, SMTP_NEWLINE_REJECT, before, before + 100);
        cr_assert_eq(result.facts.received_ours_count, size <= RECEIVED_BY_MAX, "%zu", size);
    }
}

Test(smtp_data, the_last_word_may_be_the_last_octet)
{
    const struct slice wire = SLICE("Received: by mx.us.test");
    for (size_t cut = 0; cut <= wire.size; cut++) {
        const struct result result = decode_bdat(wire, SMTP_NEWLINE_REJECT, cut);
        cr_assert_eq(result.facts.received_count, 1);
        cr_assert_eq(result.facts.received_ours_count, 1);
    }
}

Test(smtp_data, facts_do_not_come_from_behind_the_end)
{
    const struct result result =
        decode_all_ways(SLICE("\r\na\r\n.\r\nX\xff\r\n\nY\0\rlong line\r\n"), SMTP_NEWLINE_REJECT);
    cr_assert(result.ended);
    cr_assert_eq(result.facts.flags, SMTP_CONTENT_HEADER_ENDED);
    cr_assert_eq(result.facts.line_longest, 1);
}

Test(smtp_data, each_place_in_a_block_for_each_event)
{
    /* text_scan works in blocks of 64: let the event stand at each place, and across the edge. */
    static const struct slice events[] = {
        SLICE("\r\n.\r\n"), SLICE("\r\n..\r\n"), SLICE("\n"), SLICE("\r"), SLICE("\r\r\n"),
    };
    uint8_t wire[256];
    for (size_t event = 0; event < ARRAY_COUNT(events); event++) {
        for (size_t place = 0; place < 140; place++) {
            memset(wire, 'x', sizeof(wire));
            memcpy(wire + place, events[event].data, events[event].size);
            memcpy(wire + 200, "\r\n.\r\n", 5);
            const struct slice in = slice_of(wire, 205);
            const struct result whole = decode(in, SMTP_NEWLINE_NORMALIZE, 205, 205);
            const struct result cut = decode(in, SMTP_NEWLINE_NORMALIZE, place + 1, place + 2);
            expect_same(&whole, &cut, place + 1, place + 2);
            cr_assert(whole.ended);
            cr_assert_eq(whole.used, event == 0 ? place + 5 : 205);
            const size_t sizes[] = { place + 2, 201, 203, 203, 203 };
            cr_assert_eq(whole.size, sizes[event], "event %zu at %zu: %zu", event, place,
                         whole.size);
        }
    }
}

/* ---- BDAT ---- */

Test(smtp_data, bdat_refuses_bare_newlines_and_nul_too)
{
    const struct slice wire = SLICE("a\nb\rc\0\r\n");
    for (size_t cut = 0; cut <= wire.size; cut++) {
        const struct result result = decode_bdat(wire, SMTP_NEWLINE_REJECT, cut);
        cr_assert(result.ended);
        EXPECT_CONTENT(result, "a\nb\rc\0\r\n");
        cr_assert_eq(result.facts.flags,
                     SMTP_CONTENT_BARE_CR | SMTP_CONTENT_BARE_LF | SMTP_CONTENT_NUL);
    }
}

Test(smtp_data, bdat_normalizes_and_finishes_a_cr_at_the_end)
{
    const struct slice wire = SLICE("a\nb\r\n\r");
    for (size_t cut = 0; cut <= wire.size; cut++) {
        const struct result result = decode_bdat(wire, SMTP_NEWLINE_NORMALIZE, cut);
        cr_assert(result.ended);
        EXPECT_CONTENT(result, "a\r\nb\r\n\r\n");
        cr_assert_eq(result.facts.flags,
                     SMTP_CONTENT_BARE_CR | SMTP_CONTENT_BARE_LF | SMTP_CONTENT_HEADER_ENDED);
    }
}

Test(smtp_data, bdat_knows_no_dots)
{
    const struct slice wire = SLICE(".\r\n..\r\nReceived: x\r\n.\r\n\r\nend");
    for (size_t cut = 0; cut <= wire.size; cut++) {
        const struct result result = decode_bdat(wire, SMTP_NEWLINE_REJECT, cut);
        cr_assert(result.ended);
        cr_assert_eq(result.used, wire.size);
        cr_assert(slice_equal(slice_of(result.content, result.size), wire));
        cr_assert_eq(result.facts.received_count, 1);
        cr_assert_eq(result.facts.flags, SMTP_CONTENT_HEADER_ENDED | SMTP_CONTENT_NO_NEWLINE);
    }
}

Test(smtp_data, bdat_0_last_is_an_empty_end)
{
    const struct result result = decode_bdat(SLICE(""), SMTP_NEWLINE_REJECT, 0);
    cr_assert(result.ended);
    cr_assert_eq(result.size, 0);
    cr_assert_eq(result.facts.flags, 0);
}

/* ---- the encoder ---- */

Test(smtp_stuff, damaged_content_never_gets_an_end)
{
    static const struct slice contents[] = {
        SLICE("a\nb\r\n"), SLICE("a\rb\r\n"), SLICE("a\r"),     SLICE("\n.\r\n"),
        SLICE("a\0b\r\n"), SLICE("\r\r\n"),   SLICE("a\r\n\n"),
    };
    uint8_t out[OUT_MAX];
    for (size_t i = 0; i < ARRAY_COUNT(contents); i++) {
        for (size_t cut = 0; cut <= contents[i].size; cut++) {
            bool good = true;
            stuff(contents[i], cut, out, &good);
            cr_assert_not(good, "content %zu cut at %zu", i, cut);
        }
    }
}

Test(smtp_stuff, dots_are_doubled_and_the_end_fits)
{
    static const struct {
        struct slice content, wire;
    } samples[] = {
        { SLICE(""), SLICE(".\r\n") },
        { SLICE("a"), SLICE("a\r\n.\r\n") },
        { SLICE("a\r\n"), SLICE("a\r\n.\r\n") },
        { SLICE("."), SLICE("..\r\n.\r\n") },
        { SLICE(".\r\n"), SLICE("..\r\n.\r\n") },
        { SLICE("a\r\n.\r\n..b\r\nc.d"), SLICE("a\r\n..\r\n...b\r\nc.d\r\n.\r\n") },
    };
    uint8_t out[OUT_MAX];
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        for (size_t cut = 0; cut <= samples[i].content.size; cut++) {
            bool good = false;
            const size_t size = stuff(samples[i].content, cut, out, &good);
            cr_assert(good);
            cr_assert(slice_equal(slice_of(out, size), samples[i].wire), "sample %zu cut at %zu", i,
                      cut);
        }
    }
}
