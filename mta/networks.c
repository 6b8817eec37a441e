/*
 * networks.c - prefixes cut into disjoint ranges, and a binary search over them
 *
 *   building --networks_add--> building --networks_seal--> sealed (read-only)
 *
 * Sealing sorts the prefixes by first address, shorter first, and walks them with a stack of those
 * that are open: prefixes nest or are apart, they never overlap in part. A range begins where its
 * prefix begins or where a longer one inside it has ended; there are at most two for each prefix.
 */
#include "mta/networks.h"

#include <errno.h>
#include <stdlib.h>

#include "core/check.h"

typedef unsigned __int128 number;

enum { NONE = UINT32_MAX };

struct member {
    struct net_prefix prefix;
    uint32_t value;
    uint32_t outer; /* index of the next shorter one that holds it, or NONE; when sealed */
};

struct networks {
    struct member *members; /* sorted when sealed */
    unsigned count, capacity;
    number *starts;   /* of ranges, ascending */
    uint32_t *owners; /* of ranges: index in members, or NONE */
    unsigned ranges;
    bool sealed;
};

static number number_of(const uint8_t octets[static 16])
{
    number n = 0;
    for (unsigned i = 0; i < 16; i++)
        n = n << 8 | octets[i];
    return n;
}

static number last_of(const struct net_prefix *prefix)
{
    number rest = prefix->bits == 128 ? 0 : ~(number)0 >> prefix->bits;
    return number_of(prefix->octets) | rest;
}

int networks_new(struct networks **networks)
{
    *networks = calloc(1, sizeof(**networks));
    return *networks == NULL ? -ENOMEM : 0;
}

void networks_free(struct networks *networks)
{
    if (networks == NULL)
        return;
    free(networks->members);
    free(networks->starts);
    free(networks->owners);
    free(networks);
}

static int member_order(const void *left, const void *right)
{
    const struct member *a = left, *b = right;
    int order = memcmp(a->prefix.octets, b->prefix.octets, sizeof(a->prefix.octets));
    return order != 0 ? order : (int)a->prefix.bits - (int)b->prefix.bits;
}

/* Index of the first member that is not before key. Members are kept sorted. */
static unsigned member_position(const struct networks *networks, const struct member *key)
{
    unsigned low = 0, high = networks->count;
    while (low < high) {
        unsigned middle = low + (high - low) / 2;
        if (member_order(&networks->members[middle], key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int networks_add(struct networks *networks, const struct net_prefix *prefix, uint32_t value,
                 uint32_t *other)
{
    CHECK(!networks->sealed);
    CHECK(prefix->bits <= 128);
    struct member member = { .prefix = *prefix, .value = value };
    unsigned at = member_position(networks, &member);
    if (at < networks->count && member_order(&networks->members[at], &member) == 0) {
        if (other != NULL)
            *other = networks->members[at].value;
        return -EEXIST;
    }
    if (networks->count == NETWORKS_PREFIXES_MAX)
        return -ENOSPC;
    if (networks->count == networks->capacity) {
        unsigned capacity = MAX(16U, networks->capacity * 2);
        void *more = realloc(networks->members, capacity * sizeof(member));
        if (more == NULL)
            return -ENOMEM;
        networks->members = more;
        networks->capacity = capacity;
    }
    memmove(networks->members + at + 1, networks->members + at,
            (networks->count - at) * sizeof(member));
    networks->members[at] = member;
    networks->count++;
    return 0;
}

static void range_begin(struct networks *networks, number start, uint32_t owner)
{
    unsigned last = networks->ranges;
    if (last > 0 && networks->starts[last - 1] == start) /* the one before it is empty */
        networks->ranges = --last;
    networks->starts[last] = start;
    networks->owners[last] = owner;
    networks->ranges++;
}

int networks_seal(struct networks *networks)
{
    CHECK(!networks->sealed);
    size_t ranges_max = 2 * (size_t)networks->count + 1;
    networks->starts = calloc(ranges_max, sizeof(networks->starts[0]));
    networks->owners = calloc(ranges_max, sizeof(networks->owners[0]));
    if (networks->starts == NULL || networks->owners == NULL)
        return -ENOMEM;
    uint32_t open[NETWORKS_DEPTH_MAX];
    unsigned depth = 0;
    range_begin(networks, 0, NONE);
    for (unsigned i = 0; i <= networks->count; i++) {
        bool end = i == networks->count;
        number first = end ? 0 : number_of(networks->members[i].prefix.octets);
        while (depth > 0) {
            number last = last_of(&networks->members[open[depth - 1]].prefix);
            if (!end && first <= last)
                break;
            depth--;
            if (last != ~(number)0)
                range_begin(networks, last + 1, depth > 0 ? open[depth - 1] : NONE);
        }
        if (end)
            break;
        CHECK(depth < NETWORKS_DEPTH_MAX);
        networks->members[i].outer = depth > 0 ? open[depth - 1] : NONE;
        open[depth++] = i;
        range_begin(networks, first, i);
    }
    CHECK(networks->ranges <= ranges_max);
    networks->sealed = true;
    return 0;
}

unsigned networks_count(const struct networks *networks)
{
    return networks == NULL ? 0 : networks->count;
}

const struct net_prefix *networks_prefix(const struct networks *networks, unsigned index)
{
    CHECK(index < networks->count);
    return &networks->members[index].prefix;
}

/* Index of the longest prefix that holds it, or NONE. */
static uint32_t owner_of(const struct networks *networks, const struct net_address *address)
{
    if (networks == NULL || !networks->sealed)
        return NONE;
    number n = number_of(address->octets);
    unsigned low = 0, high = networks->ranges; /* starts[low] <= n < starts[high] */
    while (high - low > 1) {
        unsigned middle = low + (high - low) / 2;
        if (networks->starts[middle] <= n)
            low = middle;
        else
            high = middle;
    }
    return networks->owners[low];
}

const struct net_prefix *networks_find(const struct networks *networks,
                                       const struct net_address *address, uint32_t *value)
{
    uint32_t owner = owner_of(networks, address);
    if (owner == NONE)
        return NULL;
    if (value != NULL)
        *value = networks->members[owner].value;
    return &networks->members[owner].prefix;
}

unsigned networks_find_all(const struct networks *networks, const struct net_address *address,
                           uint32_t values[static NETWORKS_DEPTH_MAX])
{
    unsigned count = 0;
    for (uint32_t at = owner_of(networks, address); at != NONE; at = networks->members[at].outer) {
        CHECK(count < NETWORKS_DEPTH_MAX);
        values[count++] = networks->members[at].value;
    }
    return count;
}
