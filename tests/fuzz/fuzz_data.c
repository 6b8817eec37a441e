/*
 * fuzz_data.c - content framing against a decoder that is too simple to be wrong
 *
 * The first four octets choose policy, mode and splits; the rest is the wire. Whatever the splits,
 * content, facts and end must be those of the reference, which sees all the wire at once; content
 * that is clean must come back from the encoder and the decoder as it was, and on the way hold the
 * end of data at its very end only.
 */
#include <stdlib.h>

#include "core/check.h"
#include "mta/pattern.h"
#include "mta/smtp_data.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    WIRE_MAX = 65'536,
};

struct bytes {
    size_t size;
    uint8_t octets[3 * WIRE_MAX + 16];
};

static void bytes_add(struct bytes *bytes, struct slice s)
{
    CHECK(s.size <= sizeof(bytes->octets) - bytes->size);
    if (s.size > 0)
        memcpy(bytes->octets + bytes->size, s.data, s.size);
    bytes->size += s.size;
}

struct reference {
    bool ended;
    size_t used;
    unsigned flags;
    struct bytes content;
};

static void reference_decode(struct reference *ref, struct slice wire, bool bdat, bool normalize)
{
    const uint8_t *w = wire.data;
    bool line_start = true;
    size_t i = 0;
    ref->ended = bdat;
    ref->flags = 0;
    ref->content.size = 0;
    while (i < wire.size) {
        const size_t left = wire.size - i;
        if (line_start && !bdat && w[i] == '.') {
            if (left < 2 || (left < 3 && w[i + 1] == '\r'))
                break;
            if (w[i + 1] == '\r' && w[i + 2] == '\n') {
                ref->ended = true;
                i += 3;
                break;
            }
            line_start = false;
            i++;
            continue;
        }
        line_start = false;
        if (w[i] == '\r' && left < 2 && !bdat)
            break;
        if (w[i] == '\r' && left >= 2 && w[i + 1] == '\n') {
            bytes_add(&ref->content, SLICE("\r\n"));
            line_start = true;
            i += 2;
            continue;
        }
        if (w[i] == '\r' || w[i] == '\n') {
            ref->flags |= w[i] == '\r' ? SMTP_CONTENT_BARE_CR : SMTP_CONTENT_BARE_LF;
            bytes_add(&ref->content, normalize ? SLICE("\r\n") : slice_of(w + i, 1));
            i++;
            continue;
        }
        ref->flags |= (w[i] == 0 ? SMTP_CONTENT_NUL : 0U) | (w[i] > 127 ? SMTP_CONTENT_8BIT : 0U);
        bytes_add(&ref->content, slice_of(w + i, 1));
        i++;
    }
    ref->used = ref->ended ? i : wire.size;
}

static bool name_is(struct slice line, const char *name)
{
    const size_t size = strlen(name);
    if (!slice_starts_nocase(line, slice_of_string(name)))
        return false;
    for (size_t i = size; i < line.size && i < SMTP_FIELD_NAME_BYTES; i++)
        if (line.data[i] != ' ' && line.data[i] != '\t')
            return line.data[i] == ':';
    return false;
}

/* The value of a field that is whole: comments are blanks, and words are all that counts. */
static bool is_by_us(struct slice value)
{
    static uint8_t words[3 * WIRE_MAX + 16];
    size_t size = 0, depth = 0;
    for (size_t i = 0; i < value.size; i++) {
        const uint8_t c = value.data[i];
        if (depth > 0 && c == '\\') {
            i++;
            continue;
        }
        if (depth == 0 && c == ';')
            break;
        depth += c == '(' ? 1 : 0;
        if (depth == 0)
            words[size++] = c == '\t' || c == '\r' || c == '\n' ? ' ' : ascii_lower(c);
        else
            words[size++] = ' ';
        depth -= depth > 0 && c == ')' ? 1 : 0;
        if (depth >= UINT16_MAX)
            return false;
    }
    bool passes = false, named = false;
    for (size_t i = 0; i < size;) {
        if (words[i] == ' ') {
            i++;
            continue;
        }
        size_t end = i;
        while (end < size && words[end] != ' ')
            end++;
        const struct slice word = slice_of(words + i, end - i);
        i = end;
        if (named && word.size > RECEIVED_BY_MAX)
            return false;
        if (named)
            return slice_equal(word, SLICE("by.us.test")) ||
                   slice_equal(word, SLICE("by.us.test."));
        named = !passes && slice_equal(word, SLICE("by"));
        passes = !passes && slice_equal(word, SLICE("from"));
    }
    return false;
}

/* line begins content: the field that it begins, with what it is folded over. */
static struct slice field_of(struct slice content, size_t line_size)
{
    size_t size = line_size;
    while (size < content.size && (content.data[size] == ' ' || content.data[size] == '\t')) {
        const ptrdiff_t newline = slice_find(slice_from(content, size), '\n');
        size = newline < 0 ? content.size : size + (size_t)newline + 1;
    }
    return slice_part(content, 0, size);
}

/* Those of which the BY has not ended yet count when all has come. */
static bool is_received_by_us(struct slice content, struct slice line, bool final)
{
    const struct slice field = field_of(content, line.size);
    if (!name_is(line, "Received"))
        return false;
    const struct slice value = slice_from(field, (size_t)slice_find(field, ':') + 1);
    if (final || field.size < content.size)
        return is_by_us(value);
    struct slice more = value; /* up to what ends its last word */
    while (more.size > 0 && strchr(" \t\r\n(;", more.data[more.size - 1]) == NULL)
        more.size--;
    return is_by_us(more);
}

/* The facts, from content that is whole. */
static struct smtp_content reference_facts(const struct reference *ref, bool final,
                                           uint64_t line_max)
{
    struct smtp_content facts = { .size = ref->content.size, .flags = ref->flags };
    const struct slice content = slice_of(ref->content.octets, ref->content.size);
    size_t begin = 0;
    for (size_t i = 0; i < content.size; i++) {
        if (i + 1 < content.size && content.data[i] == '\r' && content.data[i + 1] == '\n') {
            facts.line_longest = MAX(facts.line_longest, i - begin);
            begin = i + 2;
            i++;
        }
    }
    facts.line_longest = MAX(facts.line_longest, content.size - begin);
    if (final && begin < content.size)
        facts.flags |= SMTP_CONTENT_NO_NEWLINE;
    if (facts.line_longest > line_max)
        facts.flags |= SMTP_CONTENT_LINE_LONG;

    for (size_t i = 0; i < content.size && (facts.flags & SMTP_CONTENT_HEADER_ENDED) == 0;) {
        const struct slice rest = slice_from(content, i);
        const ptrdiff_t newline = slice_find(rest, '\n');
        const struct slice line = newline < 0 ? rest : slice_part(rest, 0, (size_t)newline + 1);
        i += line.size;
        facts.header_size = i;
        for (size_t j = 0; j < line.size; j++)
            if (line.data[j] > 127)
                facts.flags |= SMTP_CONTENT_HEADER_8BIT;
        if (slice_equal(line, SLICE("\r\n")))
            facts.flags |= SMTP_CONTENT_HEADER_ENDED;
        else if (newline >= 0 || final)
            facts.received_count += name_is(line, "Received");
        facts.received_ours_count += is_received_by_us(rest, line, final);
        if (newline >= 0 || final)
            facts.delivered_to_count += name_is(line, "Delivered-To");
    }
    return facts;
}

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void take_all(struct smtp_data *d, struct slice *in, struct bytes *content)
{
    struct slice out;
    while (smtp_data_take(d, in, &out)) {
        CHECK(out.size > 0);
        bytes_add(content, out);
    }
}

static void decode_data(struct smtp_data *d, struct slice wire, uint64_t *random, size_t piece_max,
                        struct bytes *content, size_t *used)
{
    content->size = 0;
    *used = 0;
    while (*used < wire.size && !d->ended) {
        struct slice in = slice_part(wire, *used, (size_t)(random_next(random) % piece_max) + 1);
        const size_t before = in.size;
        take_all(d, &in, content);
        CHECK(in.size == 0 || d->ended);
        *used += before - in.size;
    }
}

static void decode_bdat(struct smtp_data *d, struct slice wire, uint64_t *random, size_t piece_max,
                        struct bytes *content, size_t *used)
{
    content->size = 0;
    *used = 0;
    while (!d->ended) {
        const size_t left = wire.size - *used;
        const size_t wanted = (size_t)(random_next(random) % (piece_max * 2));
        const size_t chunk = MIN(left, wanted);
        const bool last = chunk == left && (chunk == 0 || (random_next(random) & 1) != 0);
        smtp_data_chunk(d, chunk, last);
        /* What follows the chunk is in the buffer too, and must be left there. */
        while (d->chunk_left > 0) {
            struct slice in =
                slice_part(wire, *used, (size_t)(random_next(random) % piece_max) + 1);
            const size_t before = in.size;
            take_all(d, &in, content);
            CHECK(in.size == 0 || d->chunk_left == 0);
            *used += before - in.size;
        }
        struct slice none = slice_from(wire, *used);
        const size_t before = none.size;
        take_all(d, &none, content);
        CHECK(none.size == before);
        CHECK(d->ended == last);
    }
}

static void round_trip(const struct bytes *content, uint64_t *random, size_t piece_max)
{
    static struct bytes wire, back;
    struct smtp_stuff stuff;
    smtp_stuff_begin(&stuff);
    wire.size = 0;
    for (size_t i = 0; i < content->size;) {
        struct slice piece = slice_part(slice_of(content->octets, content->size), i,
                                        (size_t)(random_next(random) % piece_max) + 1);
        struct slice out;
        i += piece.size;
        while (smtp_stuff_take(&stuff, &piece, &out)) {
            CHECK(out.size > 0);
            bytes_add(&wire, out);
        }
        CHECK(piece.size == 0);
    }
    struct slice end;
    CHECK(smtp_stuff_end(&stuff, &end));
    bytes_add(&wire, end);

    for (size_t i = 0; i + 3 < wire.size; i++) {
        const uint8_t *at = wire.octets + i;
        const bool line = i == 0 || (i >= 2 && at[-2] == '\r' && at[-1] == '\n');
        CHECK(!line || at[0] != '.' || at[1] == '.' || (at[1] != '\r' && at[1] != '\n'));
    }

    struct smtp_data d;
    size_t used;
    smtp_data_begin(&d, SMTP_NEWLINE_REJECT, SMTP_TEXT_LINE_MAX);
    decode_data(&d, slice_of(wire.octets, wire.size), random, piece_max, &back, &used);
    CHECK(d.ended);
    CHECK(used == wire.size);
    CHECK((d.content.flags & (SMTP_CONTENT_BARE_CR | SMTP_CONTENT_BARE_LF)) == 0);
    CHECK(back.size >= content->size);
    CHECK(memcmp(back.octets, content->octets, content->size) == 0);
    CHECK(back.size == content->size ||
          (back.size == content->size + 2 && memcmp(back.octets + content->size, "\r\n", 2) == 0));
}

/* Content with a hole in it must never get an end of data. */
static void damage_shows(const struct bytes *content, uint64_t *random, size_t piece_max)
{
    struct smtp_stuff stuff;
    struct slice out;
    smtp_stuff_begin(&stuff);
    for (size_t i = 0; i < content->size && !stuff.damaged;) {
        struct slice piece = slice_part(slice_of(content->octets, content->size), i,
                                        (size_t)(random_next(random) % piece_max) + 1);
        i += piece.size;
        while (smtp_stuff_take(&stuff, &piece, &out))
            continue;
    }
    CHECK(!smtp_stuff_end(&stuff, &out));
    CHECK(stuff.damaged);
}

static const struct pattern_set *ours(void)
{
    static struct pattern_set *names;
    uint32_t other;
    const char *why;
    if (names == NULL) {
        CHECK(pattern_set_new(&names) == 0);
        CHECK(pattern_set_add(names, SLICE("by.us.test"), 0, &other, &why) == 0);
    }
    return names;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t size)
{
    static struct reference ref;
    static struct bytes content;
    if (size < 4 || size > WIRE_MAX)
        return 0;
    const bool bdat = (input[0] & 1) != 0, normalize = (input[0] & 2) != 0;
    const uint64_t line_max = (input[0] & 4) != 0 ? 16 : SMTP_TEXT_LINE_MAX;
    static const size_t pieces[] = { 1, 2, 3, 17, 64, 65, 200, 5'000 };
    const size_t piece_max = pieces[input[1] % ARRAY_COUNT(pieces)];
    uint64_t random = (uint64_t)input[2] << 8 | input[3] | 0x10000;
    const struct slice wire = slice_of(input + 4, size - 4);
    const enum smtp_newline newline = normalize ? SMTP_NEWLINE_NORMALIZE : SMTP_NEWLINE_REJECT;

    reference_decode(&ref, wire, bdat, normalize);
    struct smtp_data d;
    size_t used;
    if (bdat) {
        smtp_data_begin_bdat(&d, newline, line_max);
        smtp_data_know_ours(&d, ours());
        decode_bdat(&d, wire, &random, piece_max, &content, &used);
    } else {
        smtp_data_begin(&d, newline, line_max);
        smtp_data_know_ours(&d, ours());
        decode_data(&d, wire, &random, piece_max, &content, &used);
    }
    CHECK(d.ended == ref.ended);
    CHECK(used == ref.used);
    CHECK(content.size == ref.content.size);
    CHECK(memcmp(content.octets, ref.content.octets, content.size) == 0);

    const struct smtp_content facts = reference_facts(&ref, ref.ended, line_max);
    CHECK(d.content.size == facts.size);
    CHECK(d.content.line_longest == facts.line_longest);
    CHECK(d.content.header_size == facts.header_size);
    CHECK(d.content.received_count == facts.received_count);
    CHECK(d.content.received_ours_count == facts.received_ours_count);
    CHECK(d.content.delivered_to_count == facts.delivered_to_count);
    CHECK(d.content.flags == facts.flags);

    const unsigned bare = SMTP_CONTENT_BARE_CR | SMTP_CONTENT_BARE_LF;
    if (((facts.flags & bare) != 0 && !normalize) || (facts.flags & SMTP_CONTENT_NUL) != 0)
        damage_shows(&content, &random, piece_max);
    else
        round_trip(&content, &random, piece_max);
    return 0;
}
