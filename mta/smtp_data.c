/*
 * smtp_data.c - finds the end of content, unstuffs, stuffs, and looks at every octet once
 *
 * Wire states of a smtp_data; everything between the rare events is one slice of the input:
 *
 *   LINE --"."--> DOT --CR--> DOT_CR --LF--> ended      (DATA only; LINE: behind CRLF, or at start)
 *     |            `--other-->TEXT `--other--> CR       (the dot is dropped, RFC 5321 4.5.2)
 *     `--other--> TEXT --CR at the end of input--> CR --LF--> LINE
 *                  |                                `--other: it was bare--> TEXT
 *                  `--bare LF, bare CR, to be normalised--> BARE_LF, BARE_CR ----> TEXT
 *
 * TEXT is left for LINE by CRLF only, so a dot behind a bare CR or LF is never special.
 *
 * text_scan does the work: 64 octets at a time become bit masks of CR, LF, NUL and 8-bit octets;
 * CRLF is right where the LF mask equals the CR mask shifted by one. Only line ends and errors are
 * looked at one by one.
 *
 * Owns nothing, borrows the input. Bounds: none to size or lines here, the caller holds the facts
 * against its limits. Surprise: the header is what stands before the first empty line, even when it
 * does not look like one; and its fields are recognised in content, after normalising.
 */
#include "mta/smtp_data.h"

#include "core/check.h"
#include "mta/pattern.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

enum {
    BLOCK = 64, /* octets per mask */
};

enum data_state {
    DATA_LINE = 0,
    DATA_TEXT,
    DATA_CR,
    DATA_DOT,
    DATA_DOT_CR,
    DATA_BARE_LF,
    DATA_BARE_CR,
};

static const struct slice crlf = { (const uint8_t *)"\r\n", 2 };
static const struct slice cr_alone = { (const uint8_t *)"\r", 1 };

enum header_field {
    FIELD_OTHER = 0,
    FIELD_OPEN,     /* its name has not come as a whole, and may be Received */
    FIELD_RECEIVED, /* and its BY has not come */
};

struct masks {
    uint64_t cr, lf, nul, high; /* bit n: octet n of the block */
};

#ifdef __SSE2__
static inline struct masks masks_of(const uint8_t *block)
{
    const __m128i cr = _mm_set1_epi8('\r'), lf = _mm_set1_epi8('\n'), nul = _mm_setzero_si128();
    struct masks m = { 0, 0, 0, 0 };
    for (unsigned i = 0; i < BLOCK; i += 16) {
        const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(block + i));
        m.cr |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(v, cr)) << i;
        m.lf |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(v, lf)) << i;
        m.nul |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(v, nul)) << i;
        m.high |= (uint64_t)(unsigned)_mm_movemask_epi8(v) << i;
    }
    return m;
}
#else
static inline struct masks masks_of(const uint8_t *block)
{
    struct masks m = { 0, 0, 0, 0 };
    for (unsigned i = 0; i < BLOCK; i++) {
        m.cr |= (uint64_t)(block[i] == '\r') << i;
        m.lf |= (uint64_t)(block[i] == '\n') << i;
        m.nul |= (uint64_t)(block[i] == 0) << i;
        m.high |= (uint64_t)(block[i] >> 7) << i;
    }
    return m;
}
#endif

enum scan_stop {
    SCAN_TEXT,    /* used up, amid a line */
    SCAN_LINE,    /* used up, behind a CRLF */
    SCAN_CR,      /* used up but for a CR at the end */
    SCAN_DOT,     /* behind a CRLF, before a dot */
    SCAN_BARE_LF, /* before a bare LF */
    SCAN_BARE_CR, /* before a bare CR */
};

struct scan {
    size_t used;                      /* octets that may leave as they are */
    uint64_t line_size;               /* in: of the line so far; out: of the line at used */
    uint64_t line_longest;            /* raised */
    bool nul, high, bare_cr, bare_lf; /* raised, for the octets used */
};

static inline uint64_t below(unsigned bit)
{
    return bit >= BLOCK ? UINT64_MAX : (UINT64_C(1) << bit) - 1;
}

/*
 * Reads on from amid a line (or its start, when what stands there is known not to be special).
 * dots: stop before a dot that follows CRLF. stop_bare: stop before a bare CR or LF, else raise
 * their flag and go on. Both are constants where this is called, so it is made for each.
 */
static inline __attribute__((always_inline)) enum scan_stop
text_scan(const uint8_t *text, size_t size, bool dots, bool stop_bare, struct scan *scan)
{
    /* Where the current line begins; before text when it began in an earlier input. */
    int64_t begin = -(int64_t)scan->line_size;
    uint64_t carry = 0; /* 1: the octet before this block is a CR */
    CHECK(size > 0);

    for (size_t i = 0; i < size; i += BLOCK) {
        struct masks m;
        uint64_t valid = UINT64_MAX;
        unsigned count = BLOCK;
        if (LIKELY(size - i >= BLOCK)) {
            m = masks_of(text + i);
        } else {
            uint8_t tail[BLOCK];
            count = (unsigned)(size - i);
            memset(tail, ' ', sizeof(tail));
            memcpy(tail, text + i, count);
            m = masks_of(tail);
            valid = below(count);
        }

        const uint64_t expected = (m.cr << 1) | carry; /* LF belongs here, and only here */
        const uint64_t bad = (m.lf ^ expected) & valid;
        uint64_t ends = m.lf & expected;
        unsigned stop_bit = BLOCK; /* first bit not used, from an error or a dot */
        enum scan_stop stop = SCAN_TEXT;
        if (UNLIKELY(bad != 0) && stop_bare) {
            stop_bit = (unsigned)__builtin_ctzll(bad);
            stop = (m.lf >> stop_bit & 1) != 0 ? SCAN_BARE_LF : SCAN_BARE_CR;
            ends &= below(stop_bit);
        }
        while (ends != 0) {
            const unsigned bit = (unsigned)__builtin_ctzll(ends);
            const size_t next = i + bit + 1;
            const uint64_t line_size = (uint64_t)((int64_t)next - 2 - begin);
            scan->line_longest = MAX(scan->line_longest, line_size);
            begin = (int64_t)next;
            ends &= ends - 1;
            if (dots && next < size && text[next] == '.') {
                stop_bit = bit + 1;
                stop = SCAN_DOT;
                break;
            }
        }

        const uint64_t keep = below(stop_bit);
        scan->nul |= (m.nul & keep & valid) != 0;
        scan->high |= (m.high & keep & valid) != 0;
        if (UNLIKELY(bad != 0) && !stop_bare) {
            scan->bare_lf |= (m.lf & bad & keep) != 0;
            scan->bare_cr |= (expected & bad & keep) != 0;
        }
        if (stop != SCAN_TEXT) {
            /* The bad bit of a bare CR is the place behind it. */
            scan->used = i + stop_bit - (stop == SCAN_BARE_CR ? 1 : 0);
            scan->line_size = (uint64_t)((int64_t)scan->used - begin);
            scan->line_longest = MAX(scan->line_longest, scan->line_size);
            return stop;
        }
        carry = m.cr >> (count - 1) & 1;
    }

    scan->used = size - carry;
    scan->line_size = (uint64_t)((int64_t)scan->used - begin);
    scan->line_longest = MAX(scan->line_longest, scan->line_size);
    return carry != 0 ? SCAN_CR : begin == (int64_t)size ? SCAN_LINE : SCAN_TEXT;
}

/* ---- what is in the header ---- */

/* name, then blanks (RFC 5322 4.5 has them), then a colon, at the front of the line's beginning. */
static bool line_has_name(const struct smtp_data *data, struct slice name)
{
    const struct slice line = slice_of(data->name, data->name_count);
    if (!slice_starts_nocase(line, name))
        return false;
    for (size_t i = name.size; i < line.size; i++)
        if (line.data[i] != ' ' && line.data[i] != '\t')
            return line.data[i] == ':';
    return false;
}

static void header_line_ended(struct smtp_data *data)
{
    const uint8_t first = data->name_count > 0 ? ascii_lower(data->name[0]) : 0;
    if (first == 'r' && line_has_name(data, SLICE("Received")))
        data->content.received_count++;
    else if (first == 'd' && line_has_name(data, SLICE("Delivered-To")))
        data->content.delivered_to_count++;
    data->name_count = 0;
}

static void received_by_whom(struct smtp_data *data)
{
    struct pattern_match match;
    data->field = FIELD_OTHER;
    data->content.received_ours_count +=
        pattern_set_find(data->ours, received_by_name(&data->by), &match);
}

/* part is of one line; before: octets of the line's beginning that were known before it. */
static void received_inspect(struct smtp_data *data, struct slice part, size_t before)
{
    if (before == 0 && part.data[0] != ' ' && part.data[0] != '\t')
        data->field = ascii_lower(part.data[0]) == 'r' ? FIELD_OPEN : FIELD_OTHER;
    if (data->field == FIELD_OPEN && line_has_name(data, SLICE("Received"))) {
        const ptrdiff_t colon = slice_find(slice_of(data->name, data->name_count), ':');
        part = slice_from(part, (size_t)colon + 1 - before);
        data->field = FIELD_RECEIVED;
        received_by_begin(&data->by);
    }
    if (data->field == FIELD_RECEIVED && received_by_take(&data->by, part))
        received_by_whom(data);
}

static bool has_high_octet(struct slice s)
{
    uint8_t all = 0;
    for (size_t i = 0; i < s.size; i++)
        all |= s.data[i];
    return all >= 0x80;
}

/* Content in order, in any pieces. Line by line: headers are a small part of mail. */
static void header_inspect(struct smtp_data *data, struct slice content)
{
    struct smtp_content *facts = &data->content;
    while (content.size > 0) {
        const ptrdiff_t newline = slice_find(content, '\n');
        const struct slice part =
            newline < 0 ? content : slice_part(content, 0, (size_t)newline + 1);
        const size_t before = data->name_count;
        const size_t named = MIN(part.size, sizeof(data->name) - before);
        if (named > 0)
            memcpy(data->name + before, part.data, named);
        data->name_count = (uint8_t)(before + named);
        if (data->ours != NULL)
            received_inspect(data, part, before);
        if (has_high_octet(part))
            facts->flags |= SMTP_CONTENT_HEADER_8BIT;
        facts->header_size += part.size;
        content = slice_from(content, part.size);
        if (newline < 0)
            return;
        if (data->name_count == 2 && data->name[0] == '\r' && data->name[1] == '\n') {
            facts->flags |= SMTP_CONTENT_HEADER_ENDED;
            return;
        }
        header_line_ended(data);
    }
}

/* ---- reading ---- */

static void data_begin(struct smtp_data *data, enum smtp_newline newline, uint64_t line_max)
{
    CHECK(newline == SMTP_NEWLINE_REJECT || newline == SMTP_NEWLINE_NORMALIZE);
    memset(data, 0, offsetof(struct smtp_data, by)); /* which is begun when it is wanted */
    data->newline = (uint8_t)newline;
    data->line_max = line_max;
}

void smtp_data_know_ours(struct smtp_data *data, const struct pattern_set *names)
{
    CHECK(data->content.size == 0);
    data->ours = names;
}

void smtp_data_begin(struct smtp_data *data, enum smtp_newline newline, uint64_t line_max)
{
    data_begin(data, newline, line_max);
}

void smtp_data_begin_bdat(struct smtp_data *data, enum smtp_newline newline, uint64_t line_max)
{
    data_begin(data, newline, line_max);
    data->bdat = true;
}

void smtp_data_chunk(struct smtp_data *data, uint64_t size, bool last)
{
    CHECK(data->bdat);
    CHECK(!data->ended);
    CHECK(!data->chunk_last);
    CHECK(data->chunk_left == 0);
    data->chunk_left = size;
    data->chunk_last = last;
}

static void data_line_size(struct smtp_data *data, uint64_t size)
{
    data->line_size = size;
    data->content.line_longest = MAX(data->content.line_longest, size);
}

/* All content leaves through here, and so is counted. */
static bool data_give(struct smtp_data *data, struct slice content, struct slice *out)
{
    CHECK(content.size > 0);
    data->content.size += content.size;
    if ((data->content.flags & SMTP_CONTENT_HEADER_ENDED) == 0)
        header_inspect(data, content);
    if (UNLIKELY(data->content.line_longest > data->line_max))
        data->content.flags |= SMTP_CONTENT_LINE_LONG;
    *out = content;
    return true;
}

static void data_use(struct smtp_data *data, struct slice *in, size_t size)
{
    in->data += size;
    in->size -= size;
    if (data->bdat)
        data->chunk_left -= size;
}

static bool data_give_newline(struct smtp_data *data, struct slice *out)
{
    data_line_size(data, 0);
    return data_give(data, crlf, out);
}

/* The CR that was held, or stands before us, is bare. */
static bool data_bare_cr(struct smtp_data *data, struct slice *out)
{
    data->content.flags |= SMTP_CONTENT_BARE_CR;
    data->state = DATA_TEXT;
    if (data->newline == SMTP_NEWLINE_NORMALIZE)
        return data_give_newline(data, out);
    data_line_size(data, data->line_size + 1);
    return data_give(data, cr_alone, out);
}

static bool data_end(struct smtp_data *data)
{
    if ((data->content.flags & SMTP_CONTENT_HEADER_ENDED) == 0) {
        header_line_ended(data);
        if (data->field == FIELD_RECEIVED && received_by_end(&data->by))
            received_by_whom(data);
    }
    if (data->line_size > 0)
        data->content.flags |= SMTP_CONTENT_NO_NEWLINE;
    data->ended = true;
    return false;
}

/* From TEXT: as much as can leave in one piece. True when that is anything. */
static bool data_text(struct smtp_data *data, struct slice *in, size_t size, struct slice *out)
{
    struct scan scan = { .line_size = data->line_size, .line_longest = data->content.line_longest };
    const uint8_t *text = in->data;
    enum scan_stop stop;
    if (data->newline == SMTP_NEWLINE_NORMALIZE)
        stop = data->bdat ? text_scan(text, size, false, true, &scan)
                          : text_scan(text, size, true, true, &scan);
    else
        stop = data->bdat ? text_scan(text, size, false, false, &scan)
                          : text_scan(text, size, true, false, &scan);

    static const uint8_t states[] = {
        [SCAN_TEXT] = DATA_TEXT, [SCAN_LINE] = DATA_LINE,       [SCAN_CR] = DATA_CR,
        [SCAN_DOT] = DATA_LINE,  [SCAN_BARE_LF] = DATA_BARE_LF, [SCAN_BARE_CR] = DATA_BARE_CR,
    };
    data->state = states[stop];
    data->line_size = scan.line_size;
    data->content.line_longest = scan.line_longest;
    data->content.flags |=
        (scan.nul ? SMTP_CONTENT_NUL : 0U) | (scan.high ? SMTP_CONTENT_8BIT : 0U) |
        (scan.bare_cr ? SMTP_CONTENT_BARE_CR : 0U) | (scan.bare_lf ? SMTP_CONTENT_BARE_LF : 0U);
    data_use(data, in, scan.used + (stop == SCAN_CR ? 1 : 0));
    return scan.used > 0 && data_give(data, slice_of(text, scan.used), out);
}

bool smtp_data_take(struct smtp_data *data, struct slice *in, struct slice *out)
{
    while (!data->ended) {
        const size_t size = data->bdat ? (size_t)MIN(in->size, data->chunk_left) : in->size;
        if (size == 0) {
            if (!data->bdat || data->chunk_left > 0 || !data->chunk_last)
                return false;
            return data->state == DATA_CR ? data_bare_cr(data, out) : data_end(data);
        }
        const uint8_t octet = in->data[0];
        switch ((enum data_state)data->state) {
        case DATA_LINE:
            if (octet == '.' && !data->bdat) {
                data->state = DATA_DOT;
                data_use(data, in, 1);
                break;
            }
            [[fallthrough]];
        case DATA_TEXT:
            if (data_text(data, in, size, out))
                return true;
            break;
        case DATA_CR:
            if (octet != '\n')
                return data_bare_cr(data, out);
            data->state = DATA_LINE;
            data_use(data, in, 1);
            return data_give_newline(data, out);
        case DATA_DOT: /* RFC 5321 4.5.2: alone it ends, else it goes */
            data->state = DATA_TEXT;
            if (octet == '\r') {
                data->state = DATA_DOT_CR;
                data_use(data, in, 1);
            }
            break;
        case DATA_DOT_CR:
            if (octet != '\n') {
                data->state = DATA_CR;
                break;
            }
            data_use(data, in, 1);
            return data_end(data);
        case DATA_BARE_LF:
            CHECK(octet == '\n');
            data->content.flags |= SMTP_CONTENT_BARE_LF;
            data->state = DATA_TEXT;
            data_use(data, in, 1);
            return data_give_newline(data, out);
        case DATA_BARE_CR:
            CHECK(octet == '\r');
            data_use(data, in, 1);
            return data_bare_cr(data, out);
        }
    }
    return false;
}

/* ---- writing ---- */

void smtp_stuff_begin(struct smtp_stuff *stuff)
{
    *stuff = (struct smtp_stuff) { .state = DATA_LINE };
}

static bool stuff_damaged(struct smtp_stuff *stuff)
{
    stuff->damaged = true;
    return false;
}

bool smtp_stuff_take(struct smtp_stuff *stuff, struct slice *in, struct slice *out)
{
    while (in->size > 0 && !stuff->damaged) {
        const uint8_t *text = in->data;
        if (stuff->state == DATA_CR) {
            if (text[0] != '\n')
                return stuff_damaged(stuff);
            stuff->state = DATA_LINE;
            *in = slice_from(*in, 1);
            *out = crlf;
            return true;
        }
        if (stuff->state == DATA_LINE && text[0] == '.') {
            stuff->state = DATA_TEXT; /* the content's own dot leaves with its line */
            *out = SLICE(".");
            return true;
        }
        struct scan scan = { .used = 0 };
        const enum scan_stop stop = text_scan(text, in->size, true, true, &scan);
        if (scan.nul || stop == SCAN_BARE_CR || stop == SCAN_BARE_LF)
            return stuff_damaged(stuff);
        stuff->state = stop == SCAN_CR ? DATA_CR : stop == SCAN_TEXT ? DATA_TEXT : DATA_LINE;
        *in = slice_from(*in, scan.used + (stop == SCAN_CR ? 1 : 0));
        *out = slice_of(text, scan.used);
        if (scan.used > 0)
            return true;
    }
    return false;
}

bool smtp_stuff_end(struct smtp_stuff *stuff, struct slice *out)
{
    if (stuff->damaged || stuff->state == DATA_CR)
        return stuff_damaged(stuff);
    *out = stuff->state == DATA_LINE ? SLICE(".\r\n") : SLICE("\r\n.\r\n");
    return true;
}
