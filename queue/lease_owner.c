/*
 * lease_owner.c - who gets how much of a lease: slots, tokens, the probe
 *
 * Slots by max-min: who wants fewer than an even part gets what it wants, the others share the
 * rest evenly. Who has more than its part while others want theirs is told to keep that only. With
 * more holders than slots the slots go round, LEASE_TURN_MS each.
 *
 * Tokens: credit grows by the rate, and what is in the bucket and what is out unused together is
 * never more than one second's worth, or one. So in any span of time no more are used than the
 * rate makes in it and that, wherever they were used.
 *
 * A site is forgotten when no holder has or wants anything, its bucket is full and its back-off
 * over; earlier if there is no room for another one, and it has no bucket. Owns the sites. A
 * failure counts when its reporter knew the present state of health: several that fail at the same
 * time are one failure.
 */
#include <errno.h>

#include "core/check.h"
#include "core/memory.h"
#include "queue/lease.h"

enum {
    MINUTE_MS = 60'000, /* also: the parts of a token that credit is counted in */
    SECONDS = 60,       /* a minute */
    NUMBERS_APART = 1 << 16,
};

static uint64_t now_of(const struct lease_site *site)
{
    return *site->owner->now_ms;
}

static uint32_t held(const struct lease_share *share)
{
    return share->granted - share->returned;
}

/* Asked for and not given. */
static uint32_t wants(const struct lease_share *share)
{
    const uint32_t left = share->asked - share->granted;
    return share->known && (int32_t)left > 0 ? left : 0;
}

static uint32_t wants_tokens(const struct lease_share *share)
{
    const uint32_t left = share->tokens_asked - share->tokens;
    return share->known && (int32_t)left > 0 ? left : 0;
}

static void share_touch(struct lease_share *share)
{
    if (share->known && list_empty(&share->dirty))
        list_push(&share->site->owner->dirty, &share->dirty);
}

static void site_touch_all(struct lease_site *site)
{
    for (unsigned i = 0; i < site->owner->shards; i++)
        share_touch(&site->shares[i]);
}

/* ---- life ---- */

static uint32_t chains(uint32_t sites_max)
{
    uint32_t count = 64;
    while (count < sites_max)
        count *= 2;
    return count;
}

static size_t site_bytes(unsigned shards)
{
    return sizeof(struct lease_site) + shards * sizeof(struct lease_share);
}

uint64_t lease_owner_bytes(uint32_t sites_max, unsigned shards)
{
    return pool_bytes(site_bytes(shards), sites_max) +
           sizeof(struct list) * (uint64_t)chains(sites_max);
}

int lease_owner_init(struct lease_owner *owner, unsigned shards, uint32_t sites_max,
                     struct timers *timers, const uint64_t *now_ms, struct lease_numbers *numbers)
{
    CHECK(shards > 0);
    CHECK(shards <= LEASE_SHARDS_MAX);
    *owner = (struct lease_owner) {
        .timers = timers, .now_ms = now_ms, .shards = shards, .numbers = numbers
    };
    list_init(&owner->dirty);
    list_init(&owner->remembered);
    owner->mask = chains(sites_max) - 1;
    owner->hashes = memory_reserve(sizeof(struct list) * ((size_t)owner->mask + 1));
    if (owner->hashes == NULL)
        return -ENOMEM;
    return pool_init(&owner->sites, "lease sites", site_bytes(shards), sites_max);
}

void lease_owner_free(struct lease_owner *owner)
{
    pool_free(&owner->sites);
    memory_release(owner->hashes, sizeof(struct list) * ((size_t)owner->mask + 1));
    owner->hashes = NULL;
}

static struct list *chain_of(const struct lease_owner *owner, const struct lease_key *key)
{
    struct list *chain = &owner->hashes[key->word[1] & owner->mask];
    if (chain->next == NULL)
        list_init(chain);
    return chain;
}

static struct lease_site *site_find(const struct lease_owner *owner, const struct lease_key *key)
{
    const struct list *chain = chain_of(owner, key);
    list_each (node, chain) {
        struct lease_site *site = container_of(node, struct lease_site, node);
        if (site->key.word[0] == key->word[0] && site->key.word[1] == key->word[1])
            return site;
    }
    return NULL;
}

static uint32_t burst(const struct lease_site *site)
{
    return MAX(site->limits.rate / SECONDS, 1U);
}

static void site_on_timer(struct timer *timer);

static void site_free(struct lease_site *site)
{
    struct lease_owner *owner = site->owner;
    CHECK(site->known == 0);
    CHECK(site->held == 0);
    timer_disarm(owner->timers, &site->timer);
    list_remove(&site->node);
    list_remove(&site->remembered);
    pool_give(&owner->sites, site);
    metric_sub(&owner->numbers->sites, 1);
}

/* There may be more that are dead than there is room for. What is forgotten costs one look more. */
static struct lease_site *site_take(struct lease_owner *owner)
{
    struct lease_site *site = pool_take(&owner->sites);
    if (site != NULL || list_empty(&owner->remembered))
        return site;
    site_free(container_of(owner->remembered.next, struct lease_site, remembered));
    return pool_take(&owner->sites);
}

static struct lease_site *site_new(struct lease_owner *owner, const struct lease_ask *ask)
{
    struct lease_site *site = site_take(owner);
    if (site == NULL) {
        metric_add(&owner->numbers->full, 1);
        return NULL;
    }
    memset(site, 0, site_bytes(owner->shards));
    site->owner = owner;
    site->key = ask->key;
    site->limits = ask->limits;
    site->credit = (uint64_t)burst(site) * MINUTE_MS;
    site->credit_ms = *owner->now_ms;
    timer_init(&site->timer, site_on_timer);
    list_init(&site->remembered);
    for (unsigned i = 0; i < owner->shards; i++) {
        site->shares[i] = (struct lease_share) { .site = site, .holder = (uint8_t)i };
        list_init(&site->shares[i].dirty);
    }
    list_push(chain_of(owner, &ask->key), &site->node);
    metric_add(&owner->numbers->sites, 1);
    return site;
}

/* ---- tokens ---- */

static void credit_fill(struct lease_site *site)
{
    const uint64_t now = now_of(site);
    const uint64_t full = (uint64_t)burst(site) * MINUTE_MS;
    const uint64_t out = (uint64_t)site->outstanding * MINUTE_MS;
    const uint64_t passed = MIN(now - site->credit_ms, (uint64_t)MINUTE_MS);
    site->credit_ms = now;
    site->credit = MIN(site->credit + passed * site->limits.rate, full > out ? full - out : 0);
}

static unsigned askers_of_tokens(const struct lease_site *site)
{
    unsigned count = 0;
    for (unsigned i = 0; i < site->owner->shards; i++)
        count += wants_tokens(&site->shares[i]) > 0;
    return count;
}

/* One round. When there is more to give then, or 0. */
static uint64_t site_give_tokens(struct lease_site *site)
{
    struct lease_owner *owner = site->owner;
    unsigned askers = askers_of_tokens(site);
    if (site->limits.rate == 0 || askers == 0)
        return 0;
    credit_fill(site);
    uint64_t have = site->credit / MINUTE_MS;
    const uint64_t lot = MAX(site->limits.rate / SECONDS / LEASE_LOTS, 1U);
    const unsigned first = site->token_turn;
    for (unsigned i = 0; i < owner->shards && have > 0; i++) {
        struct lease_share *share = &site->shares[(first + i) % owner->shards];
        if (wants_tokens(share) == 0)
            continue;
        const uint64_t give = MIN((uint64_t)wants_tokens(share), MIN(MAX(have / askers, 1), lot));
        askers--;
        have -= give;
        site->credit -= give * MINUTE_MS;
        site->outstanding += (uint32_t)give;
        share->tokens += (uint32_t)give;
        site->token_turn = (first + i + 1) % owner->shards;
        metric_add(&owner->numbers->tokens, give);
        share_touch(share);
    }
    if (askers_of_tokens(site) == 0)
        return 0;
    if (site->outstanding >= burst(site))
        return 0; /* the next ask says what was used of it */
    const uint64_t lacks =
        site->credit >= MINUTE_MS ? 0 : (MINUTE_MS - site->credit) / site->limits.rate + 1;
    return now_of(site) + MAX(lacks, (uint64_t)LEASE_LOT_MS);
}

/* ---- slots ---- */

static bool in_back_off(const struct lease_site *site)
{
    return site->failures > 0 && now_of(site) < site->retry_ms;
}

/* How many this share may have now, if nobody else wanted any. */
static uint32_t demand(const struct lease_site *site, const struct lease_share *share)
{
    if (!share->known || share->pausing)
        return 0;
    if (site->failures == 0)
        return held(share) + wants(share);
    return held(share) + (share->probe && held(share) == 0 ? MIN(wants(share), 1U) : 0);
}

static uint32_t site_limit(const struct lease_site *site)
{
    bool low = now_of(site) < site->ceiling_ms && site->failures == 0;
    return low ? MIN(site->limits.slots, site->ceiling) : site->limits.slots;
}

/* The next one to whom something goes that is less than one for each. */
static unsigned next_of(const struct lease_site *site, unsigned from, const uint32_t *demands)
{
    for (unsigned i = 0; i < site->owner->shards; i++)
        if (demands[(from + i) % site->owner->shards] > 0)
            return (from + i) % site->owner->shards;
    return from;
}

/* Fewer slots than holders: they go round. */
static void take_turns(struct lease_site *site, const uint32_t *demands)
{
    const uint64_t now = now_of(site);
    if (!site->contended) { /* whoever has them begins */
        uint32_t have[LEASE_SHARDS_MAX] = { 0 };
        for (unsigned i = 0; i < site->owner->shards; i++)
            have[i] = held(&site->shares[i]);
        site->contended = true;
        site->turn = next_of(site, site->turn, have);
        site->turn_ms = now;
    } else if (now - site->turn_ms >= LEASE_TURN_MS) {
        site->turn = next_of(site, site->turn + 1, demands);
        site->turn_ms = now;
    }
}

/* parts: as even as demands let them be, and no more than limit together. */
static void divide(struct lease_site *site, const uint32_t *demands, uint32_t *parts)
{
    const unsigned shards = site->owner->shards;
    uint32_t left = site_limit(site);
    unsigned open = 0;
    for (unsigned i = 0; i < shards; i++) {
        parts[i] = 0;
        open += demands[i] > 0;
    }
    const bool scarce = left < open;
    if (scarce)
        take_turns(site, demands);
    else
        site->contended = false;
    while (open > 0 && left >= open) {
        const uint32_t each = left / open;
        open = 0;
        for (unsigned i = 0; i < shards; i++) {
            const uint32_t more = MIN(demands[i] - parts[i], each);
            parts[i] += more;
            left -= more;
            open += parts[i] < demands[i];
        }
    }
    /* What does not go round: to those that have it already, or whose turn it is. */
    for (unsigned pass = scarce ? 1 : 0; pass < 2; pass++) {
        for (unsigned i = 0; i < shards && left > 0; i++) {
            const unsigned at = scarce ? (site->turn + i) % shards : i;
            if (parts[at] < demands[at] && (pass > 0 || held(&site->shares[at]) > parts[at])) {
                parts[at]++;
                left--;
            }
        }
    }
}

static void site_give_slots(struct lease_site *site)
{
    struct lease_owner *owner = site->owner;
    uint32_t demands[LEASE_SHARDS_MAX];
    uint32_t parts[LEASE_SHARDS_MAX];
    for (unsigned i = 0; i < owner->shards; i++)
        demands[i] = demand(site, &site->shares[i]);
    divide(site, demands, parts);
    const uint32_t limit = site_limit(site);
    for (unsigned i = 0; i < owner->shards; i++) {
        struct lease_share *share = &site->shares[i];
        if (!share->known)
            continue;
        const uint32_t has = held(share);
        const uint32_t keep = has > parts[i] ? parts[i] : UINT32_MAX;
        if (keep != share->keep) {
            if (keep < share->keep)
                metric_add(&owner->numbers->recalled, 1);
            share->keep = keep;
            share_touch(share);
        }
        if (has >= parts[i] || site->held >= limit)
            continue;
        const uint32_t give = MIN(parts[i] - has, limit - site->held);
        share->granted += give;
        site->held += give;
        metric_add(&owner->numbers->granted, give);
        share_touch(share);
    }
}

/* ---- health ---- */

static void site_give_probe(struct lease_site *site)
{
    struct lease_owner *owner = site->owner;
    if (site->failures == 0 || in_back_off(site) || site->probed)
        return;
    for (unsigned i = 0; i < owner->shards; i++) {
        struct lease_share *share = &site->shares[(site->probe_turn + i) % owner->shards];
        if (wants(share) == 0)
            continue;
        share->probe = true;
        share->probe_number = share->number + 1;
        site->probed = true;
        site->probe_turn = (share->holder + 1U) % owner->shards;
        metric_add(&owner->numbers->probes, 1);
        share_touch(share);
        return;
    }
}

static void site_health(struct lease_site *site)
{
    site->round++;
    site->probed = false;
    for (unsigned i = 0; i < site->owner->shards; i++)
        site->shares[i].probe = false;
    site_touch_all(site);
}

static void site_failed(struct lease_site *site, const struct lease_share *share,
                        const struct lease_ask *ask)
{
    if (ask->round != site->round)
        return;
    site->failures = MAX(site->failures + 1, ask->failures);
    site->failed_ms = ask->failed_ms;
    site->retry_ms = ask->retry_ms;
    site->token = ask->token;
    site->failed_by = share->holder;
    memcpy(site->why, ask->why, sizeof(site->why));
    metric_add(&site->owner->numbers->failures, 1);
    site_health(site);
}

/* Somebody is connected: it takes no more of us, from who was refused above all. */
static void site_serves(struct lease_site *site, const struct lease_ask *ask)
{
    if (site->failures == 0 || ask->round != site->round)
        return;
    const uint64_t now = now_of(site);
    struct lease_share *refused = &site->shares[site->failed_by];
    site->failures = 0;
    site->ceiling = MAX(site->held - held(refused), 1U);
    site->ceiling_ms = now + LEASE_CEILING_MS;
    if (now - refused->paused_ms > LEASE_CEILING_MS)
        refused->pauses = 0;
    refused->paused_ms = now;
    refused->pause_ms = now + ((uint64_t)LEASE_PAUSE_MS << refused->pauses);
    refused->pauses = (uint8_t)MIN(refused->pauses + 1U, (unsigned)LEASE_PAUSES_MAX);
    metric_add(&site->owner->numbers->ceilings, 1);
    site_health(site);
}

static void site_works(struct lease_site *site)
{
    if (site->failures == 0)
        return;
    site->failures = 0;
    site_health(site);
}

/* All that an operator orders at one time ends one back-off: the next failure is later. */
static void site_ordered(struct lease_site *site, uint64_t ordered_ms)
{
    site->ordered_ms = MAX(site->ordered_ms, ordered_ms);
    if (!in_back_off(site) || site->failed_ms >= site->ordered_ms)
        return;
    site->retry_ms = now_of(site);
    site_health(site);
}

/* ---- what follows from what was heard, and from time ---- */

static uint64_t sooner(uint64_t at_ms, uint64_t other_ms)
{
    return other_ms != 0 && other_ms < at_ms ? other_ms : at_ms;
}

/* When no holder has anything: until then it is remembered. */
static uint64_t forgotten_ms(struct lease_site *site)
{
    uint64_t until_ms = site->failures > 0 ? site->retry_ms + MINUTE_MS : 0;
    if (site->limits.rate > 0) {
        credit_fill(site);
        const uint64_t lacks = (uint64_t)burst(site) * MINUTE_MS - site->credit;
        if (lacks > 0)
            until_ms = MAX(until_ms, now_of(site) + lacks / site->limits.rate + 1);
    }
    return until_ms;
}

/* False: it is gone. */
static bool site_decide(struct lease_site *site)
{
    struct lease_owner *owner = site->owner;
    const uint64_t now = now_of(site);
    uint64_t again_ms = UINT64_MAX;
    if (site->known == 0) {
        const uint64_t until_ms = forgotten_ms(site);
        if (until_ms <= now) {
            site_free(site);
            return false;
        }
        if (site->limits.rate == 0 && list_empty(&site->remembered)) /* a bucket is to be kept */
            list_push(&owner->remembered, &site->remembered);
        timer_arm(owner->timers, &site->timer, until_ms);
        return true;
    }
    for (unsigned i = 0; i < owner->shards; i++) {
        struct lease_share *share = &site->shares[i];
        share->pausing = now < share->pause_ms;
        if (share->pausing && wants(share) > 0)
            again_ms = sooner(again_ms, share->pause_ms);
    }
    site_give_probe(site);
    site_give_slots(site);
    again_ms = sooner(again_ms, site_give_tokens(site));
    if (in_back_off(site))
        again_ms = sooner(again_ms, site->retry_ms);
    if (site->contended)
        again_ms = sooner(again_ms, site->turn_ms + LEASE_TURN_MS);
    if (now < site->ceiling_ms)
        again_ms = sooner(again_ms, site->ceiling_ms);
    if (again_ms == UINT64_MAX)
        timer_disarm(owner->timers, &site->timer);
    else
        timer_arm(owner->timers, &site->timer, again_ms);
    return true;
}

static void site_on_timer(struct timer *timer)
{
    struct lease_site *site = container_of(timer, struct lease_site, timer);
    if (site->ceiling_ms != 0 && site->ceiling_ms <= now_of(site)) {
        site->ceiling_ms = 0;
        site_touch_all(site);
    }
    (void)site_decide(site);
}

/* ---- holders ---- */

/* It begins: what it says it has, it has. */
static void share_open(struct lease_share *share, const struct lease_ask *ask)
{
    struct lease_site *site = share->site;
    const uint32_t tokens = ask->tokens_granted - ask->tokens_used - ask->tokens_returned;
    share->known = true;
    share->number = ask->seen + NUMBERS_APART; /* none that it may have been told before */
    share->granted = ask->slots_granted;
    share->returned = ask->slots_returned;
    share->keep = UINT32_MAX;
    share->tokens = ask->tokens_granted;
    share->tokens_used = ask->tokens_used;
    share->tokens_back = ask->tokens_returned;
    share->probe = false;
    list_remove(&site->remembered);
    site->known++;
    site->held += held(share);
    site->outstanding += tokens;
}

static void share_hear_tokens(struct lease_share *share, const struct lease_ask *ask)
{
    struct lease_site *site = share->site;
    const uint32_t used = ask->tokens_used - share->tokens_used;
    const uint32_t back = ask->tokens_returned - share->tokens_back;
    CHECK(used + back <= site->outstanding);
    if (site->limits.rate > 0)
        credit_fill(site); /* up to now they were out */
    site->outstanding -= used + back;
    site->credit += (uint64_t)back * MINUTE_MS;
    share->tokens_used = ask->tokens_used;
    share->tokens_back = ask->tokens_returned;
    share->tokens_asked = ask->tokens_granted + ask->tokens_wanted;
}

void lease_owner_hear(struct lease_owner *owner, unsigned holder, const struct lease_ask *ask)
{
    CHECK(holder < owner->shards);
    struct lease_site *site = site_find(owner, &ask->key);
    if (site == NULL)
        site = site_new(owner, ask);
    if (site == NULL)
        return; /* it asks again */
    struct lease_share *share = &site->shares[holder];
    if (ask->limits.generation >= site->limits.generation)
        site->limits = ask->limits;
    if (!share->known)
        share_open(share, ask);
    const uint32_t back = ask->slots_returned - share->returned;
    CHECK(back <= held(share));
    site->held -= back;
    share->returned = ask->slots_returned;
    share->asked = ask->slots_granted + ask->slots_wanted;
    share->heard = ask->number;
    share_hear_tokens(share, ask);
    switch ((enum lease_report)ask->report) {
    case LEASE_SILENT: break;
    case LEASE_FAILED: site_failed(site, share, ask); break;
    case LEASE_WORKS: site_works(site); break;
    case LEASE_SERVES: site_serves(site, ask); break;
    }
    site_ordered(site, ask->ordered_ms);
    if (share->probe && !ask->probes && (int32_t)(ask->seen - share->probe_number) >= 0) {
        share->probe = false;
        site->probed = false;
    }
    share_touch(share);
    if (!site_decide(site))
        return;
    if (wants(share) > 0 || wants_tokens(share) > 0)
        metric_add(&owner->numbers->refused, 1);
    share->closing = held(share) == 0 && share->asked == share->granted && !share->probe &&
                     share->tokens == share->tokens_used + share->tokens_back &&
                     share->tokens_asked == share->tokens;
}

struct lease_share *lease_owner_next(struct lease_owner *owner)
{
    return list_empty(&owner->dirty) ? NULL
                                     : container_of(owner->dirty.next, struct lease_share, dirty);
}

struct lease_share *lease_owner_share(struct lease_owner *owner, unsigned holder,
                                      const struct lease_key *key)
{
    CHECK(holder < owner->shards);
    struct lease_site *site = site_find(owner, key);
    if (site == NULL || list_empty(&site->shares[holder].dirty))
        return NULL;
    return &site->shares[holder];
}

void lease_owner_say(const struct lease_share *share, struct lease_tell *tell)
{
    const struct lease_site *site = share->site;
    *tell = (struct lease_tell) {
        .key = site->key,
        .number = share->number + 1,
        .heard = share->heard,
        .slots = share->granted,
        .slots_keep = share->keep,
        .tokens = share->tokens,
        .round = site->round,
        .failures = site->failures,
        .failed_ms = site->failed_ms,
        .retry_ms = site->retry_ms,
        .token = site->token,
        .probe = share->probe,
        .ceiling = site->ceiling_ms != 0,
    };
    if (site->failures > 0)
        memcpy(tell->why, site->why, sizeof(tell->why));
}

void lease_owner_said(struct lease_share *share)
{
    struct lease_site *site = share->site;
    list_remove(&share->dirty);
    share->number++;
    if (!share->closing)
        return;
    share->closing = false;
    share->known = false;
    CHECK(held(share) == 0);
    site->known--;
    if (site->known == 0)
        (void)site_decide(site);
}

/* ---- numbers ---- */

#define LEASE_NUMBER(field, name, label, words, kind)                                              \
    {                                                                                              \
        "ringpost_lease_" name, label, words, kind, 0, offsetof(struct lease_numbers, field)       \
    }

/* clang-format off */
const struct metric lease_metrics_table[] = {
    LEASE_NUMBER(asked, "messages_total", "what=\"asked\"", "Asks to owners of leases, of all kinds", METRIC_COUNTER),
    LEASE_NUMBER(granted, "slots_total", "what=\"granted\"", "Connections that were allowed to shards", METRIC_COUNTER),
    LEASE_NUMBER(returned, "slots_total", "what=\"returned\"", "Connections that were allowed to shards", METRIC_COUNTER),
    LEASE_NUMBER(refused, "refused_total", NULL, "Asks that could not be fulfilled at once", METRIC_COUNTER),
    LEASE_NUMBER(recalled, "recalled_total", NULL, "Times that a shard was told to make room for others", METRIC_COUNTER),
    LEASE_NUMBER(tokens, "tokens_total", NULL, "Messages that were allowed by max-rate", METRIC_COUNTER),
    LEASE_NUMBER(failures, "failures_total", NULL, "Back-offs that all shards keep", METRIC_COUNTER),
    LEASE_NUMBER(probes, "probes_total", NULL, "Connections allowed to see whether a next hop works again", METRIC_COUNTER),
    LEASE_NUMBER(ceilings, "ceilings_total", NULL, "Times that a next hop took no more connections than it had", METRIC_COUNTER),
    LEASE_NUMBER(full, "full_total", NULL, "Leases that there was no room for", METRIC_COUNTER),
    LEASE_NUMBER(leases, "holders", NULL, "Leases of this shard, now", METRIC_GAUGE),
    LEASE_NUMBER(sites, "owned", NULL, "Next hops whose limits this shard keeps, now", METRIC_GAUGE),
};
/* clang-format on */
const unsigned lease_metrics_count = ARRAY_COUNT(lease_metrics_table);
