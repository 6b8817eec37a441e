/*
 * smtp_data.h - where content ends, and what is in it: DATA, BDAT, and DATA to a next hop
 *
 * Only CRLF.CRLF ends DATA; the start counts as behind a CRLF. A dot is removed only behind a true
 * CRLF of the wire. Bare CR or LF never ends anything, never makes a dot special:
 *
 *   SMTP_NEWLINE_REJECT      content is handed out as it came, the flag is set, framing goes on to
 *                            the true end; the caller refuses then and forwards nothing
 *   SMTP_NEWLINE_NORMALIZE   each bare CR or LF becomes CRLF in the content. A line that so begins
 *                            with a dot is content; smtp_stuff doubles the dot on the way out
 *
 * Use for DATA:  smtp_data_begin(&d, ...), then for each input
 *                    while (smtp_data_take(&d, &in, &content)) store(content);
 *                until d.ended; in then begins with the next command.
 * Use for BDAT:  smtp_data_begin_bdat(&d, ...) at the first chunk; smtp_data_chunk(&d, size, last)
 *                for each command; take as above until d.chunk_left == 0 and take gave false: the
 *                chunk is whole (reply to it). d.ended is set after the last one.
 *
 * Slices handed out point into the input, or at static octets; they are good until the input goes.
 * At most one CR and one dot are held over between calls, as state, not as octets. Content is the
 * same for every way of splitting the input. All facts are for the content handed out so far.
 */
#ifndef RINGPOST_MTA_SMTP_DATA_H
#define RINGPOST_MTA_SMTP_DATA_H

#include "core/slice.h"
#include "mta/received_by.h"

struct pattern_set;

enum {
    SMTP_TEXT_LINE_MAX = 998,        /* RFC 5322 2.1.1, without CRLF: the usual line_max */
    SMTP_FIELD_NAME_BYTES = 16,      /* as much of a line as tells Received: and Delivered-To: */
    SMTP_HEADER_BYTES_MAX = 262'144, /* the usual limit to hold content.header_size against */
};

enum smtp_newline {
    SMTP_NEWLINE_REJECT = 0,
    SMTP_NEWLINE_NORMALIZE,
};

enum smtp_content_flag {
    SMTP_CONTENT_BARE_CR = 1 << 0, /* seen on the wire, whatever the policy made of it */
    SMTP_CONTENT_BARE_LF = 1 << 1,
    SMTP_CONTENT_NUL = 1 << 2,          /* always to be refused */
    SMTP_CONTENT_8BIT = 1 << 3,         /* octets above 127, anywhere: 8BITMIME on the way out */
    SMTP_CONTENT_HEADER_8BIT = 1 << 4,  /* in the header: SMTPUTF8 on the way out (RFC 6532) */
    SMTP_CONTENT_LINE_LONG = 1 << 5,    /* a line over line_max */
    SMTP_CONTENT_HEADER_ENDED = 1 << 6, /* the empty line was seen */
    SMTP_CONTENT_NO_NEWLINE = 1 << 7,   /* set at the end: content is not empty and its last line
                                           has no CRLF (BDAT only) */
};

/* What was found in the content. All counts are of content: unstuffed, normalised. */
struct smtp_content {
    uint64_t size;           /* octets handed out */
    uint64_t header_size;    /* octets to the empty line and with it; all so far if none was seen */
    uint64_t line_longest;   /* octets without CRLF, an unfinished line included */
    uint32_t received_count; /* Received: fields in the header (RFC 5321 6.3) */
    uint32_t received_ours_count; /* of these, written by a host that is ours, as they say */
    uint32_t delivered_to_count;  /* Delivered-To: fields in the header */
    unsigned flags;               /* enum smtp_content_flag */
};

struct smtp_data {
    struct smtp_content content;
    bool ended;          /* no more content; facts are final */
    uint64_t chunk_left; /* BDAT: octets of this chunk still to come */

    /* The rest is for smtp_data.c only. */
    bool bdat;
    bool chunk_last;
    uint8_t state;
    uint8_t newline;                     /* enum smtp_newline */
    uint8_t name_count;                  /* octets in name */
    uint8_t name[SMTP_FIELD_NAME_BYTES]; /* the current header line's beginning */
    uint8_t field;                       /* the current header field */
    uint64_t line_max;
    uint64_t line_size; /* octets in the current line of the content */
    const struct pattern_set *ours;
    struct received_by by; /* begun with each Received: field */
};

/* Neither allocates nor keeps anything else: to drop a half-read message, just begin anew. */
void smtp_data_begin(struct smtp_data *data, enum smtp_newline newline, uint64_t line_max);
void smtp_data_begin_bdat(struct smtp_data *data, enum smtp_newline newline, uint64_t line_max);

/* Behind begin: names of hosts that are ours, for received_ours_count; kept. */
void smtp_data_know_ours(struct smtp_data *data, const struct pattern_set *names);

/* The next chunk of a BDAT message. The one before must be read whole, and must not be the last. */
void smtp_data_chunk(struct smtp_data *data, uint64_t size, bool last);

/*
 * Takes from the front of in. true: out has content, at least one octet; call again. false: in is
 * used up, or the end (of a chunk) was reached; what is left in in belongs to the next command.
 * With BDAT 0 LAST, call it too: it may hand out a held octet, and sets ended.
 */
bool smtp_data_take(struct smtp_data *data, struct slice *in, struct slice *out);

/*
 * Content to the wire for DATA: dots doubled, the end put behind.
 *
 *   smtp_stuff_begin(&s); for each piece: while (smtp_stuff_take(&s, &piece, &out)) queue(out);
 *   then, if s.damaged: cut the connection without an end of data, the next hop must not accept;
 *   else smtp_stuff_end(&s, &out) and queue(out).
 */
struct smtp_stuff {
    bool damaged;  /* content had a bare CR or LF, or NUL: a hole further up. Nothing more comes. */
    uint8_t state; /* for smtp_data.c only */
};

void smtp_stuff_begin(struct smtp_stuff *stuff);
bool smtp_stuff_take(struct smtp_stuff *stuff, struct slice *in, struct slice *out);

/*
 * True while all is well: ends the content. Sets damaged and gives false if a CR is left over.
 * out is ".\r\n", or "\r\n.\r\n" when the last line had no CRLF.
 */
[[nodiscard]] bool smtp_stuff_end(struct smtp_stuff *stuff, struct slice *out);

#endif
