/*
 * address.h - mailboxes and paths as they stand in an envelope (RFC 5321 4.1.2, RFC 6531 3.3)
 *
 * A struct address can only be had from the parsers below, so whoever holds one holds valid syntax
 * within the limits: no control octets, no blanks outside quotes, no NUL. Its slices borrow the
 * line it was parsed from. % and ! are plain octets of the local part (no rewriting, ever); source
 * routes are checked and dropped, so the relay decision has one domain to look at.
 */
#ifndef RINGPOST_MTA_ADDRESS_H
#define RINGPOST_MTA_ADDRESS_H

#include "core/slice.h"

enum {
    ADDRESS_LOCAL_MAX = 64,   /* RFC 5321 4.5.3.1.1, octets, quotes included */
    ADDRESS_DOMAIN_MAX = 255, /* RFC 5321 4.5.3.1.2, an address literal's brackets included */
    ADDRESS_NAME_MAX = 253,   /* a domain name as text: 255 octets in DNS form */
    ADDRESS_LABEL_MAX = 63,
    ADDRESS_MAX = 254,      /* local@domain */
    ADDRESS_PATH_MAX = 256, /* <local@domain>; RFC 5321 4.5.3.1.3, the source route not counted */
    ADDRESS_ROUTE_MAX = 1'024,        /* a source route, which is thrown away */
    ADDRESS_ASCII_DOMAIN_BYTES = 256, /* a buffer for address_domain_to_ascii */
};

/* What a caller lets pass besides an ordinary ASCII mailbox. */
enum address_allow {
    ADDRESS_ALLOW_UTF8 = 1 << 0,       /* SMTPUTF8 is in force */
    ADDRESS_ALLOW_NULL = 1 << 1,       /* <>, for MAIL */
    ADDRESS_ALLOW_POSTMASTER = 1 << 2, /* <postmaster>, for RCPT (RFC 5321 4.5.1) */
};

enum address_result {
    ADDRESS_OK = 0,
    ADDRESS_SYNTAX,        /* not a path or mailbox at all: brackets, missing parts */
    ADDRESS_LOCAL_SYNTAX,  /* the local part is malformed */
    ADDRESS_DOMAIN_SYNTAX, /* the domain or address literal is malformed */
    ADDRESS_TOO_LONG,      /* one of the limits above */
    ADDRESS_NEEDS_UTF8,    /* well formed, but ADDRESS_ALLOW_UTF8 was not given (5.6.7) */
};

struct address {
    struct slice local;  /* as written; with its quotes when quoted */
    struct slice domain; /* as written; with its brackets when literal; empty: null, postmaster */
    bool utf8;           /* octets above 127 in either part */
    bool quoted;         /* local is a quoted-string */
    bool literal;        /* domain is [1.2.3.4] or [IPv6:...] */
    bool null;           /* <> */
    bool postmaster;     /* <postmaster>, no domain: ours */
};

/*
 * A path at the start of in: "<", an optional source route, a mailbox, ">". used is the number of
 * octets it took, brackets included; what follows is the caller's. On failure address and used are
 * not to be read.
 */
[[nodiscard]] enum address_result address_parse_path(struct slice in, unsigned allow,
                                                     struct address *address, size_t *used);

/* A mailbox without brackets that fills all of in (configuration, queue tools, VRFY). */
[[nodiscard]] enum address_result address_parse(struct slice in, unsigned allow,
                                                struct address *address);

/* local@domain as one slice of the parsed line; empty for the null path. */
struct slice address_text(const struct address *address);

/*
 * Writes the form under which two spellings of a mailbox compare equal: ASCII lower case, a quoted
 * local part without the quotes and backslashes that it does not need. For look-ups and limits,
 * never for the wire (a local part's case is its owner's business). No terminator.
 * Returns the number of octets; the result is never longer than the address itself.
 */
size_t address_canonical(const struct address *address, uint8_t out[ADDRESS_MAX]);

/*
 * LDH labels of 1 to 63, at most 253 in all, no trailing dot, no hyphen at either end of a label;
 * an underscore passes as a letter. Labels with valid UTF-8 pass when utf8 is set; that they are
 * U-labels is known only after address_domain_to_ascii.
 */
bool address_domain_valid(struct slice domain, bool utf8);

/* [1.2.3.4] or [IPv6:...], brackets included. General literals ([tag:...]) are refused. */
bool address_literal_valid(struct slice literal);

/* RFC 3629: no surrogates, no overlong forms, nothing above 10FFFF; and no C1 controls. */
bool address_utf8_valid(struct slice s);

/*
 * Lower case A-labels with a terminator, for DNS, certificates and the relay decision. Number of
 * octets, or -EINVAL: not a valid IDNA2008 name or the result is no valid domain, or -ENOMEM.
 * ASCII names and address literals are lower-cased and copied; only others go through libidn2,
 * which allocates: the one function here that does.
 */
[[nodiscard]] int address_domain_to_ascii(struct slice domain,
                                          char out[ADDRESS_ASCII_DOMAIN_BYTES]);

#endif
