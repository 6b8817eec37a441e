/*
 * pattern.c - a hash table of domains, probed at label boundaries
 *
 * The hash runs over a domain from its last octet to its first, so one pass gives the hash of every
 * suffix. Exact patterns and wildcards are told apart by the last step of the hash. A bitmap of the
 * label counts that wildcards have says which suffixes are worth a probe.
 *
 * Load factor at most a half. The keys come from the configuration; a stranger only chooses what is
 * looked up, so he can at worst hit the longest run that the file itself made.
 */
#include "mta/pattern.h"

#include <errno.h>
#include <stdlib.h>

#include "core/check.h"
#include "core/net.h"
#include "mta/address.h"

enum { SLOTS_FIRST = 64, SLOT_EMPTY = 0, LABELS_MAX = 128 };

struct entry {
    uint64_t hash;
    char *text; /* without the star and its dot */
    uint32_t value;
    uint16_t size;
    uint8_t kind;
    uint8_t labels;
};

struct pattern_set {
    struct entry *entries;
    uint32_t *slots; /* index in entries + 1 */
    unsigned count, capacity;
    uint32_t slots_mask;
    uint64_t wildcards[LABELS_MAX / 64]; /* bit n: some *.d has n labels in d */
    bool all;
    unsigned all_index;
};

static inline uint64_t hash_octet(uint64_t hash, uint8_t octet)
{
    return (hash ^ octet) * 0x9e3779b97f4a7c15;
}

static inline uint64_t hash_end(uint64_t hash, enum pattern_kind kind)
{
    hash = (hash ^ (uint64_t)kind) * 0xbf58476d1ce4e5b9;
    return hash ^ (hash >> 29);
}

static const uint64_t HASH_BEGIN = 0x2545f4914f6cdd1d;

static uint64_t hash_of(struct slice text, enum pattern_kind kind)
{
    uint64_t hash = HASH_BEGIN;
    for (size_t i = text.size; i-- > 0;)
        hash = hash_octet(hash, text.data[i]);
    return hash_end(hash, kind);
}

static const struct entry *entry_find(const struct pattern_set *set, uint64_t hash,
                                      struct slice text, enum pattern_kind kind)
{
    for (uint32_t at = (uint32_t)hash & set->slots_mask;; at = (at + 1) & set->slots_mask) {
        uint32_t slot = set->slots[at];
        if (slot == SLOT_EMPTY)
            return NULL;
        const struct entry *entry = &set->entries[slot - 1];
        if (entry->hash == hash && entry->kind == kind && entry->size == text.size &&
            memcmp(entry->text, text.data, text.size) == 0)
            return entry;
    }
}

static void slot_put(struct pattern_set *set, uint32_t index)
{
    uint32_t at = (uint32_t)set->entries[index].hash & set->slots_mask;
    while (set->slots[at] != SLOT_EMPTY)
        at = (at + 1) & set->slots_mask;
    set->slots[at] = index + 1;
}

static int grow(struct pattern_set *set)
{
    unsigned capacity = set->capacity == 0 ? SLOTS_FIRST / 2 : set->capacity * 2;
    struct entry *entries = realloc(set->entries, capacity * sizeof(*entries));
    if (entries == NULL)
        return -ENOMEM;
    set->entries = entries;
    uint32_t *slots = calloc(2 * (size_t)capacity, sizeof(*slots));
    if (slots == NULL)
        return -ENOMEM;
    free(set->slots);
    set->slots = slots;
    set->slots_mask = 2 * capacity - 1;
    set->capacity = capacity;
    for (unsigned i = 0; i < set->count; i++)
        slot_put(set, i);
    return 0;
}

int pattern_set_new(struct pattern_set **out)
{
    struct pattern_set *set = calloc(1, sizeof(*set));
    if (set == NULL)
        return -ENOMEM;
    if (grow(set) < 0) {
        pattern_set_free(set);
        return -ENOMEM;
    }
    *out = set;
    return 0;
}

void pattern_set_free(struct pattern_set *set)
{
    if (set == NULL)
        return;
    for (unsigned i = 0; i < set->count; i++)
        free(set->entries[i].text);
    free(set->entries);
    free(set->slots);
    free(set);
}

static unsigned labels_of(struct slice domain)
{
    unsigned labels = domain.size > 0;
    for (size_t i = 0; i < domain.size; i++)
        labels += domain.data[i] == '.';
    return labels;
}

/* What kind text is, and the part behind the star in normal form. */
static int pattern_read(struct slice text, enum pattern_kind *kind, char out[PATTERN_TEXT_MAX],
                        const char **why)
{
    out[0] = '\0';
    if (slice_equal(text, SLICE("*"))) {
        *kind = PATTERN_ALL;
        return 0;
    }
    *kind = PATTERN_EXACT;
    if (text.size >= 2 && text.data[0] == '*' && text.data[1] == '.') {
        *kind = PATTERN_WILDCARD;
        text = slice_from(text, 2);
    }
    *why = "a * may only stand alone or as the whole first label; write d, *.d or *";
    if (slice_find(text, '*') >= 0)
        return -EINVAL;
    *why = "no domain; write d, *.d, * or an address literal";
    if (text.size == 0 || (*kind == PATTERN_WILDCARD && text.data[0] == '['))
        return -EINVAL;
    int size = pattern_normalise(text, out);
    if (size == -ENOMEM)
        *why = "no memory";
    return size;
}

int pattern_set_add(struct pattern_set *set, struct slice text, uint32_t value, uint32_t *other,
                    const char **why)
{
    char normal[PATTERN_TEXT_MAX];
    enum pattern_kind kind;
    int size = pattern_read(text, &kind, normal, why);
    if (size < 0)
        return size;
    struct slice name = slice_of(normal, (size_t)size);
    uint64_t hash = hash_of(name, kind);
    const struct entry *same = entry_find(set, hash, name, kind);
    if (same != NULL) {
        *why = "this pattern is there already";
        *other = same->value;
        return -EEXIST;
    }
    *why = "more than 65536 patterns in one set";
    if (set->count == PATTERNS_MAX)
        return -ENOSPC;
    *why = "no memory";
    if (set->count == set->capacity && grow(set) < 0)
        return -ENOMEM;
    char *copy = malloc(name.size + 1);
    if (copy == NULL)
        return -ENOMEM;
    memcpy(copy, normal, name.size + 1);
    unsigned labels = *normal == '[' ? 0 : labels_of(name);
    CHECK(labels < LABELS_MAX);
    set->entries[set->count] = (struct entry) { .hash = hash,
                                                .text = copy,
                                                .value = value,
                                                .size = (uint16_t)name.size,
                                                .kind = (uint8_t)kind,
                                                .labels = (uint8_t)labels };
    if (kind == PATTERN_WILDCARD)
        set->wildcards[labels / 64] |= UINT64_C(1) << labels % 64;
    if (kind == PATTERN_ALL) {
        set->all = true;
        set->all_index = set->count;
    }
    slot_put(set, set->count++);
    return 0;
}

/* The entries that match, from the least specific to the most; how many. Once through the domain.
 */
static unsigned entries_of(const struct pattern_set *set, struct slice domain,
                           const struct entry *found[static PATTERN_MATCHES_MAX])
{
    static_assert(LABELS_MAX + 2 <= (int)PATTERN_MATCHES_MAX);
    unsigned count = 0;
    if (domain.size == 0 || domain.size >= PATTERN_TEXT_MAX)
        return 0;
    if (set->all)
        found[count++] = &set->entries[set->all_index];
    bool literal = domain.data[0] == '[';
    uint64_t hash = HASH_BEGIN;
    unsigned labels = 0;
    for (size_t i = domain.size; i-- > 0;) {
        /* At a dot: hash is of what follows it, the d of a *.d. */
        if (domain.data[i] == '.' && !literal && ++labels < LABELS_MAX &&
            (set->wildcards[labels / 64] >> labels % 64 & 1) != 0) {
            const struct entry *entry = entry_find(set, hash_end(hash, PATTERN_WILDCARD),
                                                   slice_from(domain, i + 1), PATTERN_WILDCARD);
            if (entry != NULL)
                found[count++] = entry; /* it has more labels than the one before */
        }
        hash = hash_octet(hash, domain.data[i]);
    }
    const struct entry *exact =
        entry_find(set, hash_end(hash, PATTERN_EXACT), domain, PATTERN_EXACT);
    if (exact != NULL)
        found[count++] = exact;
    return count;
}

static struct pattern_match match_of(const struct entry *entry)
{
    return (struct pattern_match) { .kind = (enum pattern_kind)entry->kind,
                                    .labels = entry->labels,
                                    .value = entry->value,
                                    .text = slice_of(entry->text, entry->size) };
}

bool pattern_set_find(const struct pattern_set *set, struct slice domain,
                      struct pattern_match *match)
{
    const struct entry *found[PATTERN_MATCHES_MAX];
    unsigned count = entries_of(set, domain, found);
    *match =
        count > 0 ? match_of(found[count - 1]) : (struct pattern_match) { .kind = PATTERN_NONE };
    return count > 0;
}

unsigned pattern_set_find_all(const struct pattern_set *set, struct slice domain,
                              struct pattern_match matches[static PATTERN_MATCHES_MAX])
{
    const struct entry *found[PATTERN_MATCHES_MAX];
    unsigned count = entries_of(set, domain, found);
    for (unsigned i = 0; i < count; i++)
        matches[i] = match_of(found[count - 1 - i]);
    return count;
}

unsigned pattern_set_count(const struct pattern_set *set)
{
    return set->count;
}

struct slice pattern_set_text(const struct pattern_set *set, unsigned index,
                              char out[PATTERN_TEXT_MAX + 2])
{
    CHECK(index < set->count);
    const struct entry *entry = &set->entries[index];
    const char *star = entry->kind == PATTERN_EXACT ? "" : "*.";
    size_t size = strlen(star);
    memcpy(out, star, size);
    memcpy(out + size, entry->text, entry->size);
    size += entry->size;
    if (entry->kind == PATTERN_ALL)
        size = 1;
    out[size] = '\0';
    return slice_of(out, size);
}

/* The one way to write an address literal. */
static int literal_normalise(struct slice literal, char out[PATTERN_TEXT_MAX])
{
    struct net_address address;
    char text[NET_TEXT_MAX];
    if (literal.size < 3 || literal.data[literal.size - 1] != ']')
        return -EINVAL;
    struct slice inner = slice_part(literal, 1, literal.size - 2);
    bool v6 = slice_starts_nocase(inner, SLICE("ipv6:"));
    if (v6)
        inner = slice_from(inner, 5);
    bool colon = slice_find(inner, ':') >= 0;
    if (v6 != colon || slice_find(inner, '[') >= 0)
        return -EINVAL;
    if (net_parse(inner, 0, &address) < 0)
        return -EINVAL;
    size_t size = net_text(&address, false, text);
    const char *tag = net_is_v4(&address) ? "[" : "[ipv6:";
    size_t tag_size = strlen(tag);
    CHECK(tag_size + size + 2 <= PATTERN_TEXT_MAX);
    memcpy(out, tag, tag_size);
    memcpy(out + tag_size, text, size);
    memcpy(out + tag_size + size, "]", 2);
    return (int)(tag_size + size + 1);
}

int pattern_normalise(struct slice domain, char out[PATTERN_TEXT_MAX])
{
    static_assert((int)PATTERN_TEXT_MAX == (int)ADDRESS_ASCII_DOMAIN_BYTES);
    if (domain.size > 0 && domain.data[0] == '[')
        return literal_normalise(domain, out);
    if (domain.size > 1 && domain.data[domain.size - 1] == '.')
        domain.size--;
    return address_domain_to_ascii(domain, out);
}
