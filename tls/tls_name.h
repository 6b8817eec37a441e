/*
 * tls_name.h - names in certificates: which count, and which match what we wanted
 *
 * A pattern is ours, from the configuration or made from a domain: "mx.d.example", or "*.d.example"
 * for any name below d.example, however deep, and not d.example itself. It is in A-labels (whoever
 * reads it converts it, once). A presented name comes from a dNSName; "*.d.example" there stands
 * for one label, and counts only where the caller accepts wildcards (cert_wildcard).
 *
 * Trailing dots are treated one way: one at the end of a pattern is dropped; a presented name that
 * has one is not usable, for certificates name hosts without it (RFC 5280 section 4.2.1.6).
 */
#ifndef RINGPOST_TLS_NAME_H
#define RINGPOST_TLS_NAME_H

#include "core/slice.h"

enum {
    TLS_NAME_MAX = 253, /* octets of a name */
    TLS_NAME_LABEL_MAX = 63,
    TLS_NAMES_MAX = 256,
    TLS_NAMES_BYTES_MAX = 8'192,
};

/* The usable ones of a certificate, in its order and in lower case. */
struct tls_names {
    uint32_t count;
    uint32_t ignored; /* dNSNames that are not usable: NUL, space, "m*.d", ... */
    uint32_t dropped; /* usable, but there was no room left */
    uint16_t ends[TLS_NAMES_MAX];
    uint8_t bytes[TLS_NAMES_BYTES_MAX];
};

/* Letters, digits, '-' and '_' in labels of 1 to 63; or "*." before at least two such labels. */
bool tls_name_usable(struct slice presented);
bool tls_name_match(struct slice pattern, struct slice presented, bool cert_wildcard);

void tls_names_add(struct tls_names *names, struct slice presented);
/* Adds the dNSNames of a subjectAltName, the DER inside of the extension. 0, or -EBADMSG: it is
 * broken somewhere, and what came before that has been added. */
[[nodiscard]] int tls_names_read(struct tls_names *names, struct slice subject_alt_name);
struct slice tls_names_at(const struct tls_names *names, unsigned index);
/* "a.example, *.b.example and 3 more", or "no name". The length. */
size_t tls_names_text(const struct tls_names *names, char *text, size_t capacity);

/* Which name matched: of those that equal a pattern the one with the most labels, else the first
 * that matches. Of two as good the first. False: none, and best is left alone. */
bool tls_name_best(const struct slice *patterns, size_t patterns_count,
                   const struct tls_names *names, bool cert_wildcard, struct slice *best);

#endif
