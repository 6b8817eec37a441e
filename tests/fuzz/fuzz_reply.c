/*
 * fuzz_reply.c - a next hop's replies, read in one piece and in random ones: the same must come out
 *
 * The first octet seeds the splits. The same input goes through the writer too, as a detail and as
 * lines; what it writes must read back as exactly one reply.
 */
#include "core/check.h"
#include "mta/smtp_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct summary {
    unsigned done, lines, bad;
    uint64_t hash;
    size_t used;
};

static void mix(struct summary *summary, struct slice s)
{
    for (size_t i = 0; i < s.size; i++)
        summary->hash = (summary->hash ^ s.data[i]) * UINT64_C(1099511628211);
}

static void check_text(struct slice text)
{
    CHECK(text.size <= SMTP_RESPONSE_TEXT_MAX);
    for (size_t i = 0; i < text.size; i++)
        CHECK(text.data[i] >= ' ' && text.data[i] <= '~');
}

static struct summary read_all(struct slice wire, unsigned piece)
{
    struct summary summary = { .hash = 14'695'981'039'346'656'037U };
    struct smtp_response response;
    struct smtp_capabilities capabilities = { .can = 0 };
    smtp_response_begin(&response);
    for (size_t i = 0; i < wire.size && summary.bad == 0;) {
        struct slice in = slice_part(wire, i, piece);
        i += in.size;
        for (;;) {
            const size_t before = in.size;
            const enum smtp_response_result r = smtp_response_take(&response, &in);
            summary.used += before - in.size;
            if (r == SMTP_RESPONSE_MORE)
                break;
            if (r == SMTP_RESPONSE_BAD) {
                summary.bad = 1;
                struct slice more = SLICE("250 ok\r\n");
                CHECK(smtp_response_take(&response, &more) == SMTP_RESPONSE_BAD);
                return summary;
            }
            CHECK(response.code >= 200 && response.code <= 599);
            CHECK(response.enhanced.klass == 0 || response.enhanced.klass == response.code / 100);
            CHECK(response.line_size <= SMTP_RESPONSE_LINE_KEPT);
            CHECK(response.lines <= SMTP_RESPONSE_LINES_MAX);
            check_text(smtp_response_text(&response));
            smtp_capabilities_add(&capabilities, smtp_response_line(&response));
            summary.lines++;
            mix(&summary, smtp_response_line(&response));
            mix(&summary, slice_of(&capabilities.can, sizeof(capabilities.can)));
            if (r == SMTP_RESPONSE_DONE) {
                summary.done++;
                mix(&summary, smtp_response_text(&response));
                mix(&summary, slice_of(&response.code, sizeof(response.code)));
                smtp_response_begin(&response);
            }
        }
        CHECK(in.size == 0);
    }
    return summary;
}

static void check_one_reply(struct slice wire, unsigned code, unsigned lines)
{
    struct smtp_response response;
    unsigned count = 1;
    enum smtp_response_result r;
    smtp_response_begin(&response);
    while ((r = smtp_response_take(&response, &wire)) == SMTP_RESPONSE_LINE)
        count++;
    CHECK(r == SMTP_RESPONSE_DONE);
    CHECK(wire.size == 0);
    CHECK(response.code == code);
    CHECK(count == lines);
}

static void write_and_read(enum smtp_reply_id id, struct slice text)
{
    static uint8_t out[3 * SMTP_REPLY_LINE_MAX];
    int size = smtp_reply_write(id, true, text, out, SMTP_REPLY_LINE_MAX);
    CHECK(size >= 6 && size <= SMTP_REPLY_LINE_MAX);
    check_one_reply(slice_of(out, (size_t)size), smtp_reply_get(id)->code, 1);
    const struct slice lines[3] = { text, slice_from(text, text.size / 2), slice_of(NULL, 0) };
    const struct smtp_enhanced enhanced = { 5, 7, 1 };
    size = smtp_reply_write_lines(550, enhanced, lines, 3, out, sizeof(out));
    CHECK(size > 0);
    check_one_reply(slice_of(out, (size_t)size), 550, 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const struct slice wire = slice_of(data + 1, size - 1);
    const struct summary whole = read_all(wire, UINT32_MAX);
    const struct summary pieces = read_all(wire, data[0] % 37U + 1);
    CHECK(whole.done == pieces.done);
    CHECK(whole.lines == pieces.lines);
    CHECK(whole.bad == pieces.bad);
    CHECK(whole.hash == pieces.hash);
    CHECK(whole.used == pieces.used);
    write_and_read((enum smtp_reply_id)(data[0] % SMTP_REPLIES), wire);
    return 0;
}
