/*
 * slice.h - borrowed bytes: a pointer and a length, never a terminator
 *
 * A slice owns nothing and is passed by value. Whoever keeps one keeps the bytes behind it alive.
 */
#ifndef RINGPOST_CORE_SLICE_H
#define RINGPOST_CORE_SLICE_H

#include <string.h>

#include "core/compiler.h"

struct slice {
    const uint8_t *data;
    size_t size; /* bytes */
};

/* The bytes of a string literal, without its terminator. */
#define SLICE(literal) ((struct slice) { (const uint8_t *)("" literal ""), sizeof(literal) - 1 })

static inline struct slice slice_of(const void *data, size_t size)
{
    return (struct slice) { (const uint8_t *)data, size };
}

static inline struct slice slice_of_string(const char *string)
{
    return slice_of(string, strlen(string));
}

/* The part from index on, at most size bytes; empty when index is past the end. */
static inline struct slice slice_part(struct slice s, size_t index, size_t size)
{
    if (index >= s.size)
        return slice_of(s.data == NULL ? NULL : s.data + s.size, 0);
    return slice_of(s.data + index, MIN(size, s.size - index));
}

static inline struct slice slice_from(struct slice s, size_t index)
{
    return slice_part(s, index, s.size);
}

static inline bool slice_equal(struct slice a, struct slice b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

/* By octets, a shorter one before what it begins; as strcmp has it: below, at or above 0. */
static inline int slice_order(struct slice a, struct slice b)
{
    size_t common = a.size < b.size ? a.size : b.size;
    int order = common == 0 ? 0 : memcmp(a.data, b.data, common);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static inline uint8_t ascii_lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

/* Equal when ASCII letters are compared without case; other octets are compared as they are. */
bool slice_equal_nocase(struct slice a, struct slice b);
bool slice_starts_nocase(struct slice s, struct slice prefix);
bool slice_ends_nocase(struct slice s, struct slice suffix);

/* Index of the first such octet, or -1. */
ptrdiff_t slice_find(struct slice s, uint8_t octet);

/* Copies into target (capacity bytes) with a terminator, cutting what does not fit. */
void slice_to_string(struct slice s, char *target, size_t capacity);

/* Decimal digits only, the whole slice, no sign. 0, or -EINVAL, or -ERANGE above max. */
[[nodiscard]] int slice_to_u64(struct slice s, uint64_t max, uint64_t *value);

#endif
