/*
 * bounce_limits.c - a small table of senders and domains, forgotten minute by minute
 *
 * Both kinds share the table: a domain is hashed with its "@", an address as a whole, both without
 * case. Two that have the same hash (one pair in 2^64) share a limit.
 */
#include "queue/bounce_limits.h"

#include <xxhash.h>

#include "core/check.h"

enum { HASHED_MAX = 512 }; /* of an address: its first octets, and its length */

static_assert(BOUNCE_LIMIT_SLOTS % BOUNCE_LIMIT_WAYS == 0);

void bounce_limits_init(struct bounce_limits *limits, uint64_t key)
{
    memset(limits, 0, sizeof(*limits));
    limits->key = key;
}

const char *bounce_limit_name(enum bounce_limit limit)
{
    static const char *const names[] = { [BOUNCE_MAY] = "none",
                                         [BOUNCE_OVER_ALL] = "all",
                                         [BOUNCE_OVER_SENDER] = "sender",
                                         [BOUNCE_OVER_DOMAIN] = "domain" };
    CHECK((unsigned)limit < ARRAY_COUNT(names));
    return names[limit];
}

static uint64_t hash_of(const struct bounce_limits *limits, struct slice who)
{
    uint8_t lower[HASHED_MAX];
    const size_t size = MIN(who.size, sizeof(lower));
    for (size_t i = 0; i < size; i++)
        lower[i] = ascii_lower(who.data[i]);
    const uint64_t hash = XXH3_64bits_withSeed(lower, size, limits->key ^ who.size);
    return hash == 0 ? 1 : hash;
}

/* Its slot in this minute, with what it has had. */
static struct bounce_limit_slot *slot_of(struct bounce_limits *limits, struct slice who)
{
    const uint64_t hash = hash_of(limits, who);
    struct bounce_limit_slot *set =
        &limits->slots[hash % (BOUNCE_LIMIT_SLOTS / BOUNCE_LIMIT_WAYS) * BOUNCE_LIMIT_WAYS];
    const uint32_t minute = (uint32_t)limits->minute;
    struct bounce_limit_slot *least = NULL;
    for (unsigned i = 0; i < BOUNCE_LIMIT_WAYS; i++) {
        struct bounce_limit_slot *slot = &set[i];
        if (slot->minute != minute)
            *slot = (struct bounce_limit_slot) { .minute = minute };
        if (slot->hash == hash)
            return slot;
        if (least == NULL || slot->count < least->count)
            least = slot;
    }
    *least = (struct bounce_limit_slot) { .hash = hash, .minute = minute };
    return least;
}

static bool over(uint32_t count, uint32_t rate, bool failure)
{
    return rate != 0 && count >= (failure ? rate : (rate + 1) / 2);
}

static uint32_t all_in(const struct bounce_limits *limits, uint64_t minute)
{
    return limits->minute == minute ? limits->all : 0;
}

bool bounce_limits_full(const struct bounce_limits *limits, const struct bounce_rates *rates,
                        bool failure, uint64_t minute)
{
    return over(all_in(limits, minute), rates->all, failure);
}

enum bounce_limit bounce_limits_take(struct bounce_limits *limits, const struct bounce_rates *rates,
                                     struct slice sender, bool failure, uint64_t minute)
{
    limits->all = all_in(limits, minute);
    limits->minute = minute;
    if (over(limits->all, rates->all, failure))
        return BOUNCE_OVER_ALL;
    struct bounce_limit_slot *address = rates->sender != 0 ? slot_of(limits, sender) : NULL;
    if (address != NULL && over(address->count, rates->sender, failure))
        return BOUNCE_OVER_SENDER;
    if (rates->domain != 0) {
        size_t at = sender.size;
        while (at > 0 && sender.data[at - 1] != '@')
            at--;
        struct bounce_limit_slot *domain = slot_of(limits, slice_from(sender, at > 0 ? at - 1 : 0));
        if (over(domain->count, rates->domain, failure))
            return BOUNCE_OVER_DOMAIN;
        domain->count++;
        /* Its slot may have been the address's, if all others had more. */
        address = rates->sender != 0 ? slot_of(limits, sender) : NULL;
    }
    if (address != NULL)
        address->count++;
    limits->all++;
    return BOUNCE_MAY;
}
