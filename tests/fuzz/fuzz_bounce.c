/*
 * fuzz_bounce.c - a report of strangers' words, and the look at a stranger's header
 *
 * The first octet chooses the kind; the rest is cut into an address, ORCPT, ENVID, sender and text
 * at line feeds, and is a header as a whole, too. A report has no line that is too long, no CR or
 * LF alone and no NUL; where it was cut for the look makes no difference.
 */
#include "core/check.h"
#include "queue/bounce.h"
#include "queue/bounce_look.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LINE_MAX_BYTES = 998, WORDS = 5 };

struct told {
    struct slice words[WORDS];
    struct outcome outcome;
    enum bounce_kind kind;
};

static bool next_recipient(void *owner, uint32_t index, struct bounce_recipient *out)
{
    const struct told *told = owner;
    *out = (struct bounce_recipient) {
        .kind = told->kind,
        .address = told->words[0],
        .orcpt = told->words[1],
        .host = told->words[4],
        .outcome = &told->outcome,
        .attempt_us = 1,
        .until_us = 2,
    };
    return index == 0;
}

static void check_lines(struct slice piece, bool utf8)
{
    size_t line = 0;
    for (size_t i = 0; i < piece.size; i++, line++) {
        uint8_t c = piece.data[i];
        CHECK(c != 0);
        CHECK(utf8 || c < 0x80);
        CHECK(line <= LINE_MAX_BYTES);
        CHECK((c == '\r') == (i + 1 < piece.size && piece.data[i + 1] == '\n'));
        if (c == '\r') {
            line = 0;
            i++;
        } else {
            CHECK(c != '\n');
        }
    }
}

static void make(struct told *told, bool utf8)
{
    uint8_t out[BOUNCE_PIECE_BYTES];
    struct bounce bounce;
    struct slice piece;
    const struct bounce_facts facts = {
        .kind = told->kind,
        .hostname = "mx.us.test",
        .from_name = "Mail Delivery System",
        .address = "postmaster@us.test",
        .id = SLICE("0123456789ABC"),
        .original_id = SLICE("CBA9876543210"),
        .sender = told->words[3],
        .envid = told->words[2],
        .utf8 = utf8,
        .recipient = next_recipient,
        .owner = told,
    };
    if (facts.sender.size == 0)
        return;
    bounce_begin(&bounce, &facts, 1);
    while (bounce_next(&bounce, out, &piece) == 1)
        check_lines(piece, utf8);
    bounce_end(&bounce, out, &piece);
    check_lines(piece, utf8);
}

static bool look(struct slice mail, size_t step)
{
    struct bounce_look l;
    bounce_look_begin(&l);
    for (size_t i = 0; i < mail.size; i += step)
        (void)bounce_look_take(&l, slice_part(mail, i, step));
    bounce_look_end(&l);
    return l.automatic;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    struct slice rest = slice_of(data + 1, size - 1);
    CHECK(look(rest, size) == look(rest, 1 + data[0] % 7));
    struct told told = { .kind = data[0] % BOUNCE_KINDS };
    told.outcome = (struct outcome) { .kind = data[0] & 64 ? OUTCOME_EXPIRED : OUTCOME_BOUNCED,
                                      .code = data[0] & 128 ? 550 : 0,
                                      .text = rest };
    for (unsigned i = 0; i < WORDS; i++) {
        ptrdiff_t end = slice_find(rest, '\n');
        told.words[i] = end < 0 ? rest : slice_part(rest, 0, (size_t)end);
        rest = slice_from(rest, told.words[i].size + 1);
    }
    (void)bounce_look_address(told.words[3]);
    make(&told, data[0] & 32);
    return 0;
}
