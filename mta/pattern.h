/*
 * pattern.h - sets of domain patterns: d.example, *.d.example, * and address literals
 *
 * Built when a configuration is loaded, read-only from then on, so any thread may look up. A look
 * up hashes the domain once, from its last octet to its first, and probes only where a label begins
 * and some pattern has as many labels: no allocation, O(octets) with O(labels) probes.
 *
 * Specificity: exact, then *.x with more labels, then with fewer, then *. `*.d` does not match `d`.
 * An address literal matches its exact literal and `*` only.
 *
 * Normal form (both sides of a comparison): A-labels, ASCII lower case, no trailing dot; literals
 * as [192.0.2.1] and [ipv6:2001:db8::1] with the address written in the one canonical way.
 */
#ifndef RINGPOST_MTA_PATTERN_H
#define RINGPOST_MTA_PATTERN_H

#include "core/slice.h"

enum {
    PATTERNS_MAX = 65'536,     /* in one set */
    PATTERN_TEXT_MAX = 256,    /* a buffer for pattern_normalise */
    PATTERN_MATCHES_MAX = 130, /* of one domain: itself, *.d for each label of it, and * */
};

enum pattern_kind {
    PATTERN_NONE = 0, /* nothing matched */
    PATTERN_ALL,      /* * */
    PATTERN_WILDCARD, /* *.d */
    PATTERN_EXACT,    /* d, or a literal */
};

struct pattern_match {
    enum pattern_kind kind;
    unsigned labels;   /* of the pattern without its star; 0 for * and literals */
    uint32_t value;    /* what pattern_set_add was given */
    struct slice text; /* of the pattern; lives as long as the set */
};

struct pattern_set;

/* 0 or -ENOMEM. */
[[nodiscard]] int pattern_set_new(struct pattern_set **set);
void pattern_set_free(struct pattern_set *set); /* NULL is allowed */

/* Adds a pattern as somebody wrote it. 0, or with words in *why (static text):
 *   -EINVAL  no pattern
 *   -EEXIST  the same pattern (in normal form) is there; *other is its value, the first one stays
 *   -ENOSPC  PATTERNS_MAX are in
 *   -ENOMEM */
[[nodiscard]] int pattern_set_add(struct pattern_set *set, struct slice text, uint32_t value,
                                  uint32_t *other, const char **why);

/* The most specific match of a domain in normal form. False: none (match->kind is PATTERN_NONE).
 * An empty domain (null sender, bare postmaster) matches nothing: that is the caller's case. */
bool pattern_set_find(const struct pattern_set *set, struct slice domain,
                      struct pattern_match *match);
/* All matches of it, the most specific first; how many. */
unsigned pattern_set_find_all(const struct pattern_set *set, struct slice domain,
                              struct pattern_match matches[static PATTERN_MATCHES_MAX]);

unsigned pattern_set_count(const struct pattern_set *set);
/* Pattern number index in the order of adding: text with its star. */
struct slice pattern_set_text(const struct pattern_set *set, unsigned index,
                              char out[PATTERN_TEXT_MAX + 2]);

/* A domain or address literal to normal form, with a terminator. Number of octets, or -EINVAL,
 * or -ENOMEM. Only names with octets above 127 cost an allocation (libidn2). */
[[nodiscard]] int pattern_normalise(struct slice domain, char out[PATTERN_TEXT_MAX]);

#endif
