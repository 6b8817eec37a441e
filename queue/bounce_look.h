/*
 * bounce_look.h - is this mail of a list or a machine, that nobody waits for news of
 *
 * Looks at a header, a part at a time, and at the sender's address. For reports that may be sent,
 * not for those that must: a failure is told to lists as well (RFC 3461 5.2.6), a delay is not
 * (RFC 3834 2 as good manners for all that is sent by itself), unless it was asked for. Pure.
 */
#ifndef RINGPOST_QUEUE_BOUNCE_LOOK_H
#define RINGPOST_QUEUE_BOUNCE_LOOK_H

#include "core/slice.h"

enum {
    BOUNCE_LOOK_MAX = 32 * 1'024, /* of a header; what is behind is not looked at */
    BOUNCE_LOOK_FIELD = 128,      /* of a field: more than those that matter need */
};

struct bounce_look {
    uint8_t field[BOUNCE_LOOK_FIELD];
    uint32_t field_size;
    uint32_t looked; /* octets */
    bool line_begins;
    bool automatic;
    bool done;
};

void bounce_look_begin(struct bounce_look *look);
/* The next octets of the message. True: all that matters was seen, automatic says what it is. */
bool bounce_look_take(struct bounce_look *look, struct slice part);
/* There are no more. */
void bounce_look_end(struct bounce_look *look);

/* The address of a program or of a list's owner: owner-x, x-owner, x-request, x-bounces,
 * mailer-daemon and the like, with or without a +detail. */
bool bounce_look_address(struct slice address);

#endif
