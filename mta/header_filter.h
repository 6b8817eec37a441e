/*
 * header_filter.h - what a message's header says to us, and fields that leave it on the way
 *
 *   content in pieces --header_filter_take--> the same without the fields that only we may set
 *                              '--> facts: a required field, TLS-Required, how much was trusted
 *
 * Trusted fields (CONNECTORS 5.7) are those of the rules, and Authentication-Results with our
 * identifier (RFC 8601 5). They are taken out; or, where whoever sent them has the right to, they
 * stay and are counted. What comes out is the same for every way of splitting what goes in.
 *
 * Use:  header_filter_begin(&f, rules, required, keeps), then for each piece
 *           while (header_filter_take(&f, &in, &out)) store(out);
 *       and at the end
 *           if (header_filter_end(&f, &out)) store(out);
 *       A slice handed out points into the piece, or into the filter until the next call.
 *
 * The header is what stands before the first empty line. Lines end with LF; that CRs belong to them
 * was seen to before. Behind the header nothing is looked at.
 *
 * Bounds: HEADER_HELD_MAX octets of a field are held back until it is known what it is: a field
 * that takes longer to say so (blanks, comments) counts as one of those that only we may set when
 * its name is such a one. A name over HEADER_NAME_MAX octets is none but by its prefix.
 */
#ifndef RINGPOST_MTA_HEADER_FILTER_H
#define RINGPOST_MTA_HEADER_FILTER_H

#include "core/slice.h"

enum {
    HEADER_NAME_MAX = 76,
    HEADER_HELD_MAX = 768,    /* a host name, and as much again of blanks and comments before it */
    HEADER_TRUSTED_MAX = 64,  /* names in a configuration */
    HEADER_REQUIRED_MAX = 16, /* likewise */
    HEADER_RULES_MAX = 4 + HEADER_TRUSTED_MAX + HEADER_REQUIRED_MAX, /* four are built in */
    HEADER_ID_MAX = 250,                                             /* of a Message-ID */
};

enum header_rule_kind {
    HEADER_TRUSTED = 1 << 0,      /* only we may set it */
    HEADER_TRUSTED_OURS = 1 << 1, /* if it begins with our identifier (Authentication-Results) */
    HEADER_TLS_REQUIRED = 1 << 2, /* RFC 8689 */
    HEADER_REQUIRED = 1 << 3,     /* some connector asks for it */
    HEADER_MESSAGE_ID = 1 << 4,
};

struct header_rule {
    struct slice name; /* lower case */
    bool is_prefix;    /* all names that begin with it */
    unsigned kinds;    /* enum header_rule_kind */
};

/* Of a configuration's generation; never written once it is made. */
struct header_rules {
    const struct header_rule *rules;
    unsigned count;
    struct slice identifier; /* ours, in Authentication-Results; lower case */
    bool only_id;            /* Message-ID is nothing but that */
    /* How names begin, for a first look. */
    uint64_t first[4]; /* the octets, in either case */
    unsigned heads_count;
    struct {
        uint32_t octets, mask; /* four of them, the bit that tells cases apart set */
    } heads[HEADER_RULES_MAX];
};

/* A field that must stand in the header once, with this value and nothing else. */
struct header_required {
    struct slice name;  /* lower case; empty: none is asked for */
    struct slice value; /* without blanks */
};

struct header_filter {
    const struct header_rules *rules;
    const struct header_required *required; /* NULL: none */
    bool keeps;                             /* trusted fields stay */

    /* --- facts, of what went in so far; whole after header_filter_end --- */
    bool header_ended;
    uint32_t removed_fields;
    uint64_t removed; /* octets */
    uint64_t trusted; /* octets of trusted fields that stayed */
    uint32_t required_count, required_right;
    uint32_t tls_required_count, tls_required_no;
    uint8_t id_size; /* of id: what the first Message-ID has up to a blank, as strangers wrote it */

    /* --- for header_filter.c only --- */
    uint8_t state;
    uint8_t field;
    uint8_t watch;
    uint8_t at; /* in the value */
    uint8_t depth;
    bool escaped;
    uint16_t matched;
    uint16_t name_size;
    uint16_t held_size;
    uint8_t name[HEADER_NAME_MAX];
    uint8_t held[HEADER_HELD_MAX + 1];
    uint8_t id[HEADER_ID_MAX];
};

static inline struct slice header_filter_id(const struct header_filter *filter)
{
    return slice_of(filter->id, filter->id_size);
}

/* Fills in how names begin. */
void header_rules_seal(struct header_rules *rules);

/* rules and required are kept. */
void header_filter_begin(struct header_filter *filter, const struct header_rules *rules,
                         const struct header_required *required, bool keeps);
/* True: out has content that stays, at least one octet; call again. False: in is used up. */
bool header_filter_take(struct header_filter *filter, struct slice *in, struct slice *out);
/* No more comes. True: out is what was held back. */
bool header_filter_end(struct header_filter *filter, struct slice *out);

/* The required field stood there once, and had the value. */
bool header_filter_has_required(const struct header_filter *filter);
/* TLS-Required stood there, and never with anything but No (RFC 8689 3). */
bool header_filter_tls_optional(const struct header_filter *filter);

#endif
