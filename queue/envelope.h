/*
 * envelope.h - sender, recipients and what came with them, and the form in which the log keeps it
 *
 * The encoded form is a version octet followed by fields of (tag, length, bytes), little endian. A
 * reader skips tags that it does not know, so fields can be added without a new version. Decoding
 * copies nothing: slices point into the encoded bytes, recipients are stepped through one by one,
 * so that neither side needs memory for a list that it does not have already.
 *
 * Addresses are octets here; whoever encodes has validated them (mta/address.h). Decoding trusts
 * nothing: whatever the bytes, it stays inside them and says -EBADMSG.
 */
#ifndef RINGPOST_QUEUE_ENVELOPE_H
#define RINGPOST_QUEUE_ENVELOPE_H

#include "core/net.h"
#include "core/slice.h"

enum {
    RECIPIENTS_MAX = 10'000,       /* of a message; the configuration's default is 1000 */
    ENVELOPE_ADDRESS_MAX = 1'024,  /* any address, ORCPT included (RFC 3461 4.2: 500) */
    ENVELOPE_TEXT_MAX = 1'024,     /* any other text field */
    ENVELOPE_RECIPIENT_EXTRA = 32, /* encoded bytes of a recipient besides its texts, at most */
    ENVELOPE_FIXED_MAX = 256,      /* encoded bytes of an envelope besides texts and recipients */
};

enum envelope_flags {
    ENVELOPE_SMTPUTF8 = 1 << 0,
    ENVELOPE_8BITMIME = 1 << 1,   /* BODY=8BITMIME was given */
    ENVELOPE_REQUIRETLS = 1 << 2, /* RFC 8689 */
    ENVELOPE_BINARYMIME = 1 << 3,
    ENVELOPE_IS_DSN = 1 << 4,         /* made by us; the sender is null */
    ENVELOPE_TLS = 1 << 5,            /* came over TLS */
    ENVELOPE_TLS_OPTIONAL = 1 << 6,   /* TLS-Required: No (RFC 8689), and not REQUIRETLS */
    ENVELOPE_TRUSTED_FIELDS = 1 << 7, /* in its header, and not to go to others */
};

enum envelope_ret { RET_NONE, RET_FULL, RET_HDRS }; /* RFC 3461 4.3 */

enum notify { /* RFC 3461 4.1; 0: nothing was said */
              NOTIFY_NEVER = 1 << 0,
              NOTIFY_SUCCESS = 1 << 1,
              NOTIFY_FAILURE = 1 << 2,
              NOTIFY_DELAY = 1 << 3,
              RECIPIENT_COPY = 1 << 7, /* a rule's, not the sender's; its connector is the rule's */
};

struct recipient {
    struct slice address;   /* local@domain, without brackets */
    struct slice orcpt;     /* "rfc822;..." as given, still in xtext; empty: none */
    struct slice connector; /* decided at acceptance; empty: to be decided */
    struct slice class;     /* likewise; empty: none (queue/lane.h) */
    uint8_t notify;         /* enum notify */
    uint8_t floor;          /* TLS level wanted at least; 0: none */
};

struct envelope {
    struct slice sender; /* local@domain; empty: the null sender */
    struct slice envid;  /* xtext, as given; empty: none */
    struct slice helo;
    struct slice listener;  /* attribution: where it came in */
    struct slice connector; /* attribution: what admitted it */
    struct slice user;      /* authenticated identity */
    struct slice session;   /* id for logs */
    struct net_address client;
    int64_t arrival_us;  /* steady time (core/shard.h) */
    uint64_t body_bytes; /* of the message as it is in the log; spool_write_commit sets it */
    uint32_t flags;      /* enum envelope_flags */
    uint8_t ret;         /* enum envelope_ret */
    uint8_t floor;       /* TLS level wanted of all recipients; 0: none */
    uint32_t recipients_count;
    const struct recipient *recipients; /* when encoding; NULL after a decode */
    struct slice encoded_recipients;    /* after a decode: for envelope_next */
};

/* Bytes that envelope_encode will write. */
size_t envelope_bytes(const struct envelope *envelope);
/* What one more recipient adds to that; lets a session answer 452 in time. */
size_t envelope_recipient_bytes(const struct recipient *recipient);
/* Writes exactly envelope_bytes(envelope) bytes to out. Lengths within the bounds are a CHECK. */
void envelope_encode(const struct envelope *envelope, uint8_t *out);

/* 0, or -EBADMSG: not an envelope (also: a recipient that envelope_next would refuse, a count that
 * is not the recipients'). Slices borrow in. */
[[nodiscard]] int envelope_decode(struct slice in, struct envelope *envelope);
/* Steps through the recipients of a decoded envelope. *cursor starts as 0. False: no more. */
bool envelope_next(const struct envelope *envelope, size_t *cursor, struct recipient *recipient);

#endif
