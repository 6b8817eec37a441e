/*
 * test_smtp_reply.c - our texts stay on their line; a next hop's replies, from broken to whole
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>

#include "mta/smtp_reply.h"

/* ---- ours ---- */

#define EXPECT_TEXT(out, size, text)                                                               \
    cr_assert(slice_equal(slice_of(out, (size_t)(size)), SLICE(text)), "%.*s", (size),             \
              (const char *)(out))

Test(smtp_reply, no_detail_can_end_a_line)
{
    uint8_t out[2 * SMTP_REPLY_LINE_MAX];
    int size =
        smtp_reply_write(SMTP_REPLY_QUEUED, true, SLICE("x\r\n250 \0\xff\\"), out, sizeof(out));
    EXPECT_TEXT(out, size, "250 2.0.0 Ok: queued as x\\x0d\\x0a250 \\x00\\xff\\x5c\r\n");
    const struct slice lines[] = { SLICE("a\nb"), SLICE("c\r") };
    size =
        smtp_reply_write_lines(550, (struct smtp_enhanced) { 5, 7, 1 }, lines, 2, out, sizeof(out));
    EXPECT_TEXT(out, size, "550-5.7.1 a\\x0ab\r\n550 5.7.1 c\\x0d\r\n");
}

Test(smtp_reply, long_lines_are_cut_and_small_buffers_refused)
{
    uint8_t out[SMTP_REPLY_LINE_MAX];
    char detail[2'000];
    memset(detail, '\n', sizeof(detail));
    const int size = smtp_reply_write(SMTP_REPLY_GREETING, true, slice_of(detail, sizeof(detail)),
                                      out, sizeof(out));
    cr_assert_gt(size, SMTP_REPLY_LINE_MAX - 8);
    cr_assert_leq(size, SMTP_REPLY_LINE_MAX);
    cr_assert_eq(memcmp(out + size - 2, "\r\n", 2), 0);
    cr_assert_eq(smtp_reply_write(SMTP_REPLY_OK, true, SLICE(""), out, 13), -ENOSPC);
    cr_assert_eq(smtp_reply_write(SMTP_REPLY_OK, true, SLICE(""), out, 14), 14);
    const struct slice lines[] = { SLICE("a"), SLICE("b") };
    cr_assert_eq(
        smtp_reply_write_lines(250, (struct smtp_enhanced) { .klass = 0 }, lines, 2, out, 13),
        -ENOSPC);
}

Test(smtp_reply, the_table_is_sound)
{
    for (unsigned id = 0; id < SMTP_REPLIES; id++) {
        const struct smtp_reply_text *reply = smtp_reply_get((enum smtp_reply_id)id);
        cr_assert(reply->text != NULL && reply->code >= 200 && reply->code <= 599, "reply %u", id);
        if (reply->enhanced.klass != 0)
            cr_assert_eq(reply->enhanced.klass, reply->code / 100, "reply %u", id);
        else /* RFC 2034 3 */
            cr_assert(reply->code / 100 == 3 || id == SMTP_REPLY_GREETING || id == SMTP_REPLY_HELO);
        for (const char *at = reply->text; *at != '\0'; at++)
            cr_assert(*at >= ' ' && *at <= '~', "reply %u", id);
    }
    for (unsigned result = 1; result < SMTP_PARSE_RESULTS; result++) {
        const enum smtp_reply_id id = smtp_reply_for_parse((enum smtp_parse_result)result);
        cr_assert(smtp_reply_get(id)->code >= 421, "parse result %u has no reply", result);
    }
}

Test(smtp_reply, texts)
{
    uint8_t out[SMTP_REPLY_LINE_MAX];
    int size = smtp_reply_write(SMTP_REPLY_GREETING, true, SLICE("mx.example"), out, sizeof(out));
    EXPECT_TEXT(out, size, "220 mx.example ESMTP ringpost\r\n");
    size = smtp_reply_write(SMTP_REPLY_TOO_MANY_RECIPIENTS, true, SLICE(""), out, sizeof(out));
    EXPECT_TEXT(out, size, "452 4.5.3 Too many recipients\r\n");
    size = smtp_reply_write(SMTP_REPLY_TOO_MANY_RECIPIENTS, false, SLICE(""), out, sizeof(out));
    EXPECT_TEXT(out, size, "452 Too many recipients\r\n");
    size = smtp_reply_write(smtp_reply_for_parse(SMTP_PARSE_PARAM_UNKNOWN), true, SLICE(""), out,
                            sizeof(out));
    cr_assert_gt(size, 10);
    cr_assert_eq(memcmp(out, "555 5.5.4 ", 10), 0);
    const struct slice lines[] = { SLICE("mx"), SLICE("SIZE 10"), SLICE("") };
    size = smtp_reply_write_lines(250, (struct smtp_enhanced) { .klass = 0 }, lines, 3, out,
                                  sizeof(out));
    EXPECT_TEXT(out, size, "250-mx\r\n250-SIZE 10\r\n250 \r\n");
    size = smtp_reply_write_lines(450, (struct smtp_enhanced) { 4, 7, 28 }, lines, 1, out,
                                  sizeof(out));
    EXPECT_TEXT(out, size, "450 4.7.28 mx\r\n");
}

/* ---- theirs ---- */

static enum smtp_response_result read_pieces(struct smtp_response *response, struct slice wire,
                                             size_t cut)
{
    enum smtp_response_result result = SMTP_RESPONSE_MORE;
    const struct slice pieces[] = { slice_part(wire, 0, cut), slice_from(wire, cut) };
    smtp_response_begin(response);
    for (size_t i = 0; i < ARRAY_COUNT(pieces); i++) {
        struct slice in = pieces[i];
        do {
            result = smtp_response_take(response, &in);
        } while (result == SMTP_RESPONSE_LINE);
        if (result != SMTP_RESPONSE_MORE)
            break;
    }
    return result;
}

Test(smtp_response, broken_replies_are_bad)
{
    static const struct slice bad[] = {
        SLICE("\r\n"),
        SLICE("25\r\n"),
        SLICE("2500 x\r\n"),
        SLICE("199 x\r\n"),
        SLICE("600 x\r\n"),
        SLICE("099 x\r\n"),
        SLICE("abc\r\n"),
        SLICE(" 250 x\r\n"),
        SLICE("250_x\r\n"),
        SLICE("250 x\n"),
        SLICE("250\n"),
        SLICE("250 x\rx\r\n"),
        SLICE("250 x\r\r\n"),
        SLICE("250 \0x\r\n"),
        SLICE("250-x\r\n251 y\r\n"),
        SLICE("250-x\r\n550 y\r\n"),
        SLICE("250-x\r\nfree text\r\n"),
        SLICE("+OK x\r\n"),
        SLICE("25a x\r\n"),
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        for (size_t cut = 0; cut <= bad[i].size; cut++) {
            struct smtp_response response;
            cr_assert_eq(read_pieces(&response, bad[i], cut), SMTP_RESPONSE_BAD, "%zu at %zu", i,
                         cut);
            struct slice more = SLICE("250 ok\r\n");
            cr_assert_eq(smtp_response_take(&response, &more), SMTP_RESPONSE_BAD);
        }
    }
}

Test(smtp_response, bounds)
{
    static char wire[SMTP_RESPONSE_BYTES_MAX + 8'192];
    struct smtp_response response;
    /* A line of 2048 octets is the longest; 512 of its text are kept. */
    memset(wire, 'x', sizeof(wire));
    memcpy(wire, "250 ", 4);
    memcpy(wire + SMTP_RESPONSE_LINE_MAX - 1, "\r\n", 2);
    cr_assert_eq(read_pieces(&response, slice_of(wire, SMTP_RESPONSE_LINE_MAX + 1), 9),
                 SMTP_RESPONSE_BAD);
    memcpy(wire + SMTP_RESPONSE_LINE_MAX - 2, "\r\n", 2);
    cr_assert_eq(read_pieces(&response, slice_of(wire, SMTP_RESPONSE_LINE_MAX), 9),
                 SMTP_RESPONSE_DONE);
    cr_assert_eq(response.line_size, SMTP_RESPONSE_LINE_KEPT);
    cr_assert_eq(response.text_size, SMTP_RESPONSE_TEXT_MAX);

    /* 128 lines are the most. */
    for (unsigned lines = 128; lines <= 129; lines++) {
        size_t size = 0;
        for (unsigned i = 0; i < lines; i++) {
            memcpy(wire + size, i + 1 < lines ? "250-x\r\n" : "250 x\r\n", 7);
            size += 7;
        }
        cr_assert_eq(read_pieces(&response, slice_of(wire, size), 1),
                     lines == 128 ? SMTP_RESPONSE_DONE : SMTP_RESPONSE_BAD);
    }

    /* 64 KiB are the most: 64 lines of 1024, and one octet more. */
    memset(wire, 'x', sizeof(wire));
    for (size_t i = 0; i < 64; i++) {
        memcpy(wire + i * 1'024, i < 63 ? "250-" : "250 ", 4);
        memcpy(wire + i * 1'024 + 1'022, "\r\n", 2);
    }
    cr_assert_eq(read_pieces(&response, slice_of(wire, 65'536), 1), SMTP_RESPONSE_DONE);
    memcpy(wire + 65'534, "x\r\n", 3);
    cr_assert_eq(read_pieces(&response, slice_of(wire, 65'537), 1), SMTP_RESPONSE_BAD);
}

Test(smtp_response, text_is_safe_to_log)
{
    struct smtp_response response;
    const struct slice wire = SLICE("550-5.7.1 a\x1b[31m\t\\\xc3\xa9\r\n550 5.7.2 b\r\n");
    for (size_t cut = 0; cut <= wire.size; cut++) {
        cr_assert_eq(read_pieces(&response, wire, cut), SMTP_RESPONSE_DONE);
        cr_assert(slice_equal(smtp_response_text(&response),
                              SLICE("5.7.1 a\\x1b[31m\\x09\\x5c\\xc3\\xa9 5.7.2 b")));
        cr_assert(slice_equal(smtp_response_line(&response), SLICE("5.7.2 b")));
        cr_assert_eq(response.enhanced.detail, 1);
    }
}

Test(smtp_response, codes)
{
    static const struct {
        struct slice wire;
        uint16_t code;
        struct smtp_enhanced enhanced;
    } samples[] = {
        { SLICE("250\r\n"), 250, { 0, 0, 0 } },
        { SLICE("250 \r\n"), 250, { 0, 0, 0 } },
        { SLICE("250 2.1.5 ok\r\n"), 250, { 2, 1, 5 } },
        { SLICE("250 2.1.5\r\n"), 250, { 2, 1, 5 } },
        { SLICE("550 5.7.515 x\r\n"), 550, { 5, 7, 515 } },
        { SLICE("550 5.7.1000 x\r\n"), 550, { 0, 0, 0 } },
        { SLICE("550 4.7.1 x\r\n"), 550, { 0, 0, 0 } },
        { SLICE("550 5.7.1x\r\n"), 550, { 0, 0, 0 } },
        { SLICE("550 5..1 x\r\n"), 550, { 0, 0, 0 } },
        { SLICE("550 5.7 x\r\n"), 550, { 0, 0, 0 } },
        { SLICE("354 3.0.0 go\r\n"), 354, { 0, 0, 0 } },
        { SLICE("451-please\r\n451-4.7.28 wait\r\n451 4.7.1 now\r\n"), 451, { 4, 7, 28 } },
        { SLICE("550 5.1.1 x\r\n"), 550, { 5, 1, 1 } },
    };
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        for (size_t cut = 0; cut <= samples[i].wire.size; cut++) {
            struct smtp_response response;
            cr_assert_eq(read_pieces(&response, samples[i].wire, cut), SMTP_RESPONSE_DONE,
                         "sample %zu", i);
            cr_assert_eq(response.code, samples[i].code, "sample %zu", i);
            cr_assert_eq(response.enhanced.klass, samples[i].enhanced.klass, "sample %zu", i);
            cr_assert_eq(response.enhanced.subject, samples[i].enhanced.subject, "sample %zu", i);
            cr_assert_eq(response.enhanced.detail, samples[i].enhanced.detail, "sample %zu", i);
        }
    }
}

Test(smtp_response, pipelined_replies_come_one_by_one)
{
    struct slice in = SLICE("250 a\r\n550-b\r\n550 c\r\n354");
    struct smtp_response response;
    smtp_response_begin(&response);
    cr_assert_eq(smtp_response_take(&response, &in), SMTP_RESPONSE_DONE);
    cr_assert_eq(response.code, 250);
    smtp_response_begin(&response);
    cr_assert_eq(smtp_response_take(&response, &in), SMTP_RESPONSE_LINE);
    cr_assert(slice_equal(smtp_response_line(&response), SLICE("b")));
    cr_assert_eq(smtp_response_take(&response, &in), SMTP_RESPONSE_DONE);
    cr_assert(slice_equal(smtp_response_text(&response), SLICE("b c")));
    smtp_response_begin(&response);
    cr_assert_eq(smtp_response_take(&response, &in), SMTP_RESPONSE_MORE);
    cr_assert_eq(in.size, 0);
}

/* ---- capabilities ---- */

static struct smtp_capabilities capabilities_of(const struct slice *lines, size_t count)
{
    struct smtp_capabilities capabilities = { .can = 0 };
    for (size_t i = 0; i < count; i++)
        smtp_capabilities_add(&capabilities, lines[i]);
    return capabilities;
}

Test(smtp_capabilities, greeting_and_malformed_keywords_offer_nothing)
{
    static const struct slice lines[] = {
        SLICE("STARTTLS"), SLICE(""),       SLICE("STARTTLSX"),
        SLICE("X-SIZE 1"), SLICE("SIZE x"), SLICE("8BIT"),
    };
    const struct smtp_capabilities capabilities = capabilities_of(lines, ARRAY_COUNT(lines));
    cr_assert_eq(capabilities.can, 0);
    cr_assert_eq(capabilities.size_max, 0);

    static const struct slice limits[] = {
        SLICE("mx"),
        SLICE("LIMITS RCPTMAX= MAILMAX=x RCPTDOMAINMAX=1000000 OTHER=3"),
    };
    const struct smtp_capabilities limited = capabilities_of(limits, ARRAY_COUNT(limits));
    cr_assert_eq(limited.rcpt_max, 0);
    cr_assert_eq(limited.mail_max, 0);
    cr_assert_eq(limited.rcpt_domain_max, 0);
}

Test(smtp_capabilities, all_known)
{
    static const struct slice lines[] = {
        SLICE("mx.example greets you"),
        SLICE("PIPELINING"),
        SLICE("size 35882577"),
        SLICE("8BITMIME"),
        SLICE("SMTPUTF8"),
        SLICE("CHUNKING"),
        SLICE("DSN"),
        SLICE("ENHANCEDSTATUSCODES"),
        SLICE("StartTLS"),
        SLICE("REQUIRETLS"),
        SLICE("BINARYMIME"),
        SLICE("LIMITS MAILMAX=5 rcptmax=100 RCPTDOMAINMAX=1"),
        SLICE("AUTH PLAIN login SCRAM-SHA-256 XOAUTH2"),
        SLICE("HELP"),
    };
    const struct smtp_capabilities capabilities = capabilities_of(lines, ARRAY_COUNT(lines));
    cr_assert_eq(capabilities.can, (SMTP_CAN_AUTH << 1) - 1);
    cr_assert_eq(capabilities.size_max, 35'882'577);
    cr_assert_eq(capabilities.rcpt_max, 100);
    cr_assert_eq(capabilities.mail_max, 5);
    cr_assert_eq(capabilities.rcpt_domain_max, 1);
    cr_assert_eq(capabilities.mechanisms,
                 SMTP_MECHANISM_PLAIN | SMTP_MECHANISM_LOGIN | SMTP_MECHANISM_SCRAM_SHA_256);
}
