/*
 * tls_name.c - compares names octet by octet, with lengths, ASCII letters without case
 *
 * Pure, and fuzzed (tests/fuzz/fuzz_name.c). A name that has passed tls_name_usable holds no NUL,
 * no space and no '*' but the one it may begin with, so no comparison here ends early.
 */
#include "tls/tls_name.h"

#include <errno.h>

#include "core/check.h"
#include "tls/tls_boringssl.h"
#include "tls/tls_text.h"

static bool starts_with_wildcard(struct slice name)
{
    return name.size >= 2 && name.data[0] == '*' && name.data[1] == '.';
}

/* What stands behind "*." */
static struct slice below(struct slice name)
{
    return slice_from(name, 2);
}

static bool is_label_octet(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
}

/* How many labels, or 0: not a name. */
static unsigned labels_of(struct slice name)
{
    unsigned labels = 1;
    size_t label_bytes = 0;
    for (size_t i = 0; i < name.size; i++) {
        if (name.data[i] == '.') {
            if (label_bytes == 0)
                return 0;
            labels++;
            label_bytes = 0;
        } else if (!is_label_octet(name.data[i]) || ++label_bytes > TLS_NAME_LABEL_MAX) {
            return 0;
        }
    }
    return label_bytes == 0 ? 0 : labels;
}

bool tls_name_usable(struct slice presented)
{
    if (presented.size > TLS_NAME_MAX)
        return false;
    if (starts_with_wildcard(presented))
        return labels_of(below(presented)) >= 2;
    return labels_of(presented) > 0;
}

/* True when name is at least one label below domain. */
static bool is_below(struct slice name, struct slice domain)
{
    return name.size > domain.size + 1 && name.data[name.size - domain.size - 1] == '.' &&
           slice_ends_nocase(name, domain);
}

static struct slice without_dot(struct slice pattern)
{
    if (pattern.size > 0 && pattern.data[pattern.size - 1] == '.')
        pattern.size--;
    return pattern;
}

/* A name without wildcard, by a certificate's wildcard: its first label is what '*' stands for. */
static bool is_covered(struct slice name, struct slice domain)
{
    ptrdiff_t dot = slice_find(name, '.');
    return dot > 0 && slice_equal_nocase(slice_from(name, (size_t)dot + 1), domain);
}

bool tls_name_match(struct slice pattern, struct slice presented, bool cert_wildcard)
{
    pattern = without_dot(pattern);
    bool pattern_is_wild = starts_with_wildcard(pattern);
    bool presented_is_wild = starts_with_wildcard(presented);
    if (!tls_name_usable(presented) || (presented_is_wild && !cert_wildcard) ||
        labels_of(pattern_is_wild ? below(pattern) : pattern) == 0)
        return false;
    if (!pattern_is_wild)
        return presented_is_wild ? is_covered(pattern, below(presented))
                                 : slice_equal_nocase(pattern, presented);
    /* Ours for any depth: a certificate's wildcard must not promise more than we asked for. */
    if (!presented_is_wild)
        return is_below(presented, below(pattern));
    return slice_equal_nocase(below(presented), below(pattern)) ||
           is_below(below(presented), below(pattern));
}

void tls_names_add(struct tls_names *names, struct slice presented)
{
    if (!tls_name_usable(presented)) {
        names->ignored++;
        return;
    }
    size_t used = names->count == 0 ? 0 : names->ends[names->count - 1];
    if (names->count == TLS_NAMES_MAX || presented.size > TLS_NAMES_BYTES_MAX - used) {
        names->dropped++;
        return;
    }
    for (size_t i = 0; i < presented.size; i++)
        names->bytes[used + i] = ascii_lower(presented.data[i]);
    names->ends[names->count++] = (uint16_t)(used + presented.size);
}

int tls_names_read(struct tls_names *names, struct slice subject_alt_name)
{
    CBS in, list;
    CBS_init(&in, subject_alt_name.data, subject_alt_name.size);
    if (!CBS_get_asn1(&in, &list, CBS_ASN1_SEQUENCE) || CBS_len(&in) != 0)
        return -EBADMSG;
    while (CBS_len(&list) > 0) {
        CBS name;
        unsigned tag;
        if (!CBS_get_any_asn1(&list, &name, &tag))
            return -EBADMSG;
        if (tag == (CBS_ASN1_CONTEXT_SPECIFIC | 2))
            tls_names_add(names, slice_of(CBS_data(&name), CBS_len(&name)));
    }
    return 0;
}

struct slice tls_names_at(const struct tls_names *names, unsigned index)
{
    CHECK(index < names->count);
    size_t begin = index == 0 ? 0 : names->ends[index - 1];
    CHECK(begin <= names->ends[index]);
    return slice_of(names->bytes + begin, names->ends[index] - begin);
}

size_t tls_names_text(const struct tls_names *names, char *text, size_t capacity)
{
    enum { MORE_BYTES = 32 }; /* " and 65535 more" */
    CHECK(capacity > MORE_BYTES);
    if (names->count == 0)
        return tls_text_append(text, capacity, 0, "no name");
    size_t used = 0;
    unsigned i;
    for (i = 0; i < names->count; i++) {
        struct slice name = tls_names_at(names, i);
        if (used + name.size + MORE_BYTES >= capacity)
            break;
        used = tls_text_append(text, capacity, used, "%s%.*s", i == 0 ? "" : ", ", (int)name.size,
                               (const char *)name.data);
    }
    unsigned more = names->count - i + names->dropped;
    if (more > 0)
        used = tls_text_append(text, capacity, used, "%s%u more", i == 0 ? "" : " and ", more);
    return used;
}

/* 0: no. 1: somehow. Above: equal, and the more labels the higher. */
static unsigned rank_of(struct slice name, const struct slice *patterns, size_t patterns_count,
                        bool cert_wildcard)
{
    unsigned rank = 0;
    for (size_t i = 0; i < patterns_count; i++) {
        if (!tls_name_match(patterns[i], name, cert_wildcard))
            continue;
        bool is_exact =
            !starts_with_wildcard(name) && slice_equal_nocase(without_dot(patterns[i]), name);
        rank = MAX(rank, is_exact ? 1 + labels_of(name) : 1);
    }
    return rank;
}

bool tls_name_best(const struct slice *patterns, size_t patterns_count,
                   const struct tls_names *names, bool cert_wildcard, struct slice *best)
{
    unsigned highest = 0;
    for (unsigned i = 0; i < names->count; i++) {
        struct slice name = tls_names_at(names, i);
        unsigned rank = rank_of(name, patterns, patterns_count, cert_wildcard);
        if (rank > highest) {
            highest = rank;
            *best = name;
        }
    }
    return highest > 0;
}
