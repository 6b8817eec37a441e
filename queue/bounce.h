/*
 * bounce.h - the text of a delivery status notification (RFC 3464 in RFC 6522, RFC 3834)
 *
 * Made piece by piece, so that ten thousand recipients need no more memory than one:
 *
 *   bounce_begin --> bounce_next ... (1: a piece) --> bounce_next 0: now the caller copies the
 *   original's header (or all of it, RET=FULL) --> bounce_end: the last piece
 *
 * All that others said is escaped or cut before it gets here or when it is written: a bounce never
 * holds a bare CR or LF, NUL, or a line over 998 octets. What a client gave as xtext is shown
 * decoded (RFC 3461 6.3). One DSN may tell of recipients of several kinds; its own kind says how it
 * begins. Pure: no clock, no I/O.
 */
#ifndef RINGPOST_QUEUE_BOUNCE_H
#define RINGPOST_QUEUE_BOUNCE_H

#include "queue/envelope.h"
#include "queue/record.h"

enum {
    BOUNCE_PIECE_BYTES = 8'192,
    BOUNCE_FULL_MAX = 64 * 1'024,   /* an original up to this is returned whole when RET=FULL */
    BOUNCE_HEADER_MAX = 32 * 1'024, /* of a larger one: its header, cut at a line */
};

/* Those that weigh more come first: the kind of the whole is the first one that it tells of. */
enum bounce_kind { BOUNCE_FAILED, BOUNCE_DELAYED, BOUNCE_RELAYED, BOUNCE_DELIVERED, BOUNCE_KINDS };

/* "failed", "delayed", "relayed", "delivered": RFC 3464 2.3.3. */
const char *bounce_action(enum bounce_kind kind);

struct bounce_recipient {
    enum bounce_kind kind;
    struct slice address;
    struct slice orcpt;            /* "type;xtext", or empty */
    const struct outcome *outcome; /* code, status, text */
    struct slice host;             /* the next hop that said it; empty: we did */
    const char *means;             /* what that is about, in words; NULL: nothing is known */
    int64_t attempt_us;            /* of its last attempt; 0: not known, or there was none */
    int64_t until_us;              /* DELAYED: it is tried until then */
};

struct bounce_facts {
    enum bounce_kind kind; /* of the whole */
    const char *hostname;  /* ours: Reporting-MTA, Message-ID */
    const char *from_name; /* "Mail Delivery System" */
    const char *address;   /* postmaster@... in From */
    struct slice id;       /* of this notification, text */
    struct slice original_id;
    struct slice sender; /* of the original: To */
    struct slice envid;  /* xtext, or empty */
    int64_t now_us;
    int64_t arrival_us;
    bool full;      /* the whole original follows, not only its header */
    bool eight_bit; /* and it came as 8BITMIME */
    bool utf8;      /* addresses may hold UTF-8: message/global-delivery-status (RFC 6533) */
    /* Recipient number index of those that are reported; false: no more. */
    bool (*recipient)(void *owner, uint32_t index, struct bounce_recipient *recipient);
    void *owner;
};

struct bounce {
    struct bounce_facts facts;
    uint32_t part;
    uint32_t index;
    uint64_t boundary;
};

void bounce_begin(struct bounce *bounce, const struct bounce_facts *facts, uint64_t random);
/* 1 and a piece in out; 0: the original comes now. */
int bounce_next(struct bounce *bounce, uint8_t out[static BOUNCE_PIECE_BYTES], struct slice *piece);
/* Behind the original. */
void bounce_end(struct bounce *bounce, uint8_t out[static BOUNCE_PIECE_BYTES], struct slice *piece);

/* RFC 5322 3.3, UTC. */
enum { BOUNCE_DATE_MAX = 64 };
void bounce_date(int64_t wall_us, char out[static BOUNCE_DATE_MAX]);

#endif
