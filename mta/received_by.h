/*
 * received_by.h - who wrote a Received field: the name behind its BY
 *
 *   received_by_begin, then the field's value in pieces --received_by_take--> true:
 * received_by_name
 *
 * RFC 5321 4.4: "FROM" Extended-Domain, CFWS, "BY" Extended-Domain, then the rest, a semicolon and
 * the date. Words are what stands between blanks, line ends and comments; case is that of nobody.
 * The word behind FROM is what a client called itself, and is never taken for a keyword. Other
 * words before BY are passed over, for some hosts write none of FROM, and some more than that.
 *
 * Whoever writes a header can write these fields too, so the name proves nothing. It is good for
 * finding that mail runs in a circle, where who lies has his own mail refused.
 *
 * Bounds: a name over RECEIVED_BY_MAX octets is none.
 */
#ifndef RINGPOST_MTA_RECEIVED_BY_H
#define RINGPOST_MTA_RECEIVED_BY_H

#include "core/slice.h"

enum { RECEIVED_BY_MAX = 255 };

struct received_by {
    /* for received_by.c only */
    uint8_t state;
    uint8_t word; /* what the current one, or the next one, is */
    uint8_t size; /* of name */
    bool escaped;
    uint16_t depth; /* of comments */
    uint8_t name[RECEIVED_BY_MAX];
};

void received_by_begin(struct received_by *by);
/* Takes the next octets of the field's value. True, once: the name is whole. After that, and behind
 * the semicolon, nothing is looked at. */
bool received_by_take(struct received_by *by, struct slice part);
/* The field is over. True: what came last was the name. */
bool received_by_end(struct received_by *by);
/* In lower case, without a dot at its end. */
struct slice received_by_name(const struct received_by *by);

#endif
