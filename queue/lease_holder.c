/*
 * lease_holder.c - what one shard has of a lease: takes, gives back, asks for more, hears
 *
 *   made --ask--> known to the owner --unused for LEASE_KEEP_MS, nobody has a reference: all goes
 *                 back, and the owner has heard that--> gone
 *
 * What was not used at any moment of the last LEASE_KEEP_MS goes back, so a few that come and go
 * need no asking. Nothing is said that the owner knows already: a lease in use is silent.
 */
#include <errno.h>

#include "core/check.h"
#include "core/memory.h"
#include "queue/lease.h"

static uint32_t slots_held(const struct lease *lease)
{
    return lease->slots_granted - lease->slots_returned;
}

static uint32_t slots_free(const struct lease *lease)
{
    return slots_held(lease) - lease->slots_used;
}

uint32_t lease_tokens(const struct lease *lease)
{
    return lease->tokens_granted - lease->tokens_used - lease->tokens_returned;
}

bool lease_has_token(const struct lease *lease)
{
    return lease->limits.rate == 0 || lease_tokens(lease) > 0;
}

static void lease_touch(struct lease *lease)
{
    if (list_empty(&lease->dirty))
        list_push(&lease->holder->dirty, &lease->dirty);
}

static void slots_return(struct lease *lease, uint32_t count)
{
    CHECK(count <= slots_free(lease));
    lease->slots_returned += count;
    lease->slots_low = MIN(lease->slots_low, slots_free(lease));
    metric_add(&lease->holder->numbers->returned, count);
    if (count > 0)
        lease_touch(lease);
}

static void tokens_return(struct lease *lease, uint32_t count)
{
    CHECK(count <= lease_tokens(lease));
    lease->tokens_returned += count;
    lease->tokens_low = MIN(lease->tokens_low, lease_tokens(lease));
    if (count > 0)
        lease_touch(lease);
}

/* ---- life ---- */

static uint32_t chains(uint32_t leases_max)
{
    uint32_t count = 64;
    while (count < leases_max)
        count *= 2;
    return count;
}

uint64_t lease_holder_bytes(uint32_t leases_max)
{
    return pool_bytes(sizeof(struct lease), leases_max) +
           sizeof(struct list) * (uint64_t)chains(leases_max);
}

int lease_holder_init(struct lease_holder *holder, uint32_t leases_max, struct timers *timers,
                      const uint64_t *now_ms, struct lease_numbers *numbers)
{
    *holder = (struct lease_holder) { .timers = timers, .now_ms = now_ms, .numbers = numbers };
    list_init(&holder->dirty);
    holder->mask = chains(leases_max) - 1;
    holder->hashes = memory_reserve(sizeof(struct list) * ((size_t)holder->mask + 1));
    if (holder->hashes == NULL)
        return -ENOMEM;
    return pool_init(&holder->leases, "leases", sizeof(struct lease), leases_max);
}

void lease_holder_free(struct lease_holder *holder)
{
    pool_free(&holder->leases);
    memory_release(holder->hashes, sizeof(struct list) * ((size_t)holder->mask + 1));
    holder->hashes = NULL;
}

static struct list *chain_of(const struct lease_holder *holder, const struct lease_key *key)
{
    struct list *chain = &holder->hashes[key->word[1] & holder->mask];
    if (chain->next == NULL)
        list_init(chain);
    return chain;
}

struct lease *lease_find(struct lease_holder *holder, const struct lease_key *key)
{
    const struct list *chain = chain_of(holder, key);
    list_each (node, chain) {
        struct lease *lease = container_of(node, struct lease, node);
        if (lease->key.word[0] == key->word[0] && lease->key.word[1] == key->word[1])
            return lease;
    }
    return NULL;
}

static void lease_on_timer(struct timer *timer);

struct lease *lease_get(struct lease_holder *holder, const struct lease_key *key,
                        const struct lease_limits *limits)
{
    CHECK(limits->slots > 0);
    struct lease *lease = lease_find(holder, key);
    if (lease == NULL) {
        lease = pool_take(&holder->leases);
        if (lease == NULL) {
            metric_add(&holder->numbers->full, 1);
            return NULL;
        }
        *lease = (struct lease) {
            .holder = holder, .key = *key, .limits = *limits, .slots_keep = UINT32_MAX
        };
        list_init(&lease->dirty);
        list_init(&lease->waiting);
        list_init(&lease->resting_hops);
        list_init(&lease->aside);
        list_init(&lease->resting);
        list_init(&lease->wake);
        timer_init(&lease->timer, lease_on_timer);
        list_push(chain_of(holder, key), &lease->node);
        metric_add(&holder->numbers->leases, 1);
    }
    lease->references++;
    if (limits->generation > lease->limits.generation) {
        bool same = limits->slots == lease->limits.slots && limits->rate == lease->limits.rate;
        lease->limits = *limits;
        if (!same)
            lease_touch(lease);
    }
    return lease;
}

/* Nothing is out that the owner would have to hear of. */
static bool lease_is_closed(const struct lease *lease)
{
    return lease->references == 0 && lease->number == lease->heard && slots_held(lease) == 0 &&
           lease_tokens(lease) == 0 && lease->slots_said == lease->slots_granted &&
           lease->tokens_said == lease->tokens_granted && list_empty(&lease->dirty) &&
           lease->report == LEASE_SILENT && !lease->probe;
}

static void lease_close(struct lease *lease)
{
    struct lease_holder *holder = lease->holder;
    timer_disarm(holder->timers, &lease->timer);
    list_remove(&lease->node);
    list_remove(&lease->wake);
    pool_give(&holder->leases, lease);
    metric_sub(&holder->numbers->leases, 1);
}

static void lease_await(struct lease *lease)
{
    bool idle = lease->references == 0 || slots_free(lease) > 0 || lease_tokens(lease) > 0 ||
                lease->number != lease->heard;
    if (idle && !timer_armed(&lease->timer))
        timer_arm(lease->holder->timers, &lease->timer, *lease->holder->now_ms + LEASE_KEEP_MS);
}

static void lease_on_timer(struct timer *timer)
{
    struct lease *lease = container_of(timer, struct lease, timer);
    if (lease_is_closed(lease)) {
        lease_close(lease);
        return;
    }
    const bool unused = lease->references == 0;
    slots_return(lease, unused ? slots_free(lease) : MIN(lease->slots_low, slots_free(lease)));
    tokens_return(lease,
                  unused ? lease_tokens(lease) : MIN(lease->tokens_low, lease_tokens(lease)));
    lease->slots_low = slots_free(lease);
    lease->tokens_low = lease_tokens(lease);
    if (lease->tokens_wanted == 0)
        lease->tokens_ahead = 0;
    if (unused || lease->number != lease->heard)
        lease_touch(lease); /* the owner has no room for it, or is late */
    lease_await(lease);
}

void lease_put(struct lease *lease)
{
    CHECK(lease->references > 0);
    if (--lease->references > 0)
        return;
    CHECK(lease->slots_used == 0);
    CHECK(lease->serving == 0);
    CHECK(lease->leaving == 0);
    CHECK(list_empty(&lease->waiting));
    CHECK(list_empty(&lease->resting_hops));
    CHECK(list_empty(&lease->aside));
    CHECK(list_empty(&lease->resting));
    lease_want(lease, 0, 0);
    lease->tokens_ahead = 0;
    if (lease->probe)
        lease_touch(lease);
    if (lease_is_closed(lease))
        lease_close(lease);
    else
        lease_await(lease);
}

/* ---- what is wanted and used ---- */

static uint32_t tokens_wanted(const struct lease *lease)
{
    return lease->limits.rate == 0 ? 0 : MAX(lease->tokens_wanted, lease->tokens_ahead);
}

void lease_want(struct lease *lease, uint32_t slots, uint32_t tokens)
{
    lease->slots_wanted = MIN(slots, (uint32_t)LEASE_WANTED_MAX);
    lease->tokens_wanted = MIN(tokens, (uint32_t)LEASE_WANTED_MAX);
    bool known = lease->slots_granted + lease->slots_wanted == lease->slots_said &&
                 lease->tokens_granted + tokens_wanted(lease) == lease->tokens_said;
    if (!known || (lease->probe && !lease->probing && slots == 0))
        lease_touch(lease);
}

uint32_t lease_usable_slots(const struct lease *lease)
{
    if (lease->report == LEASE_FAILED || lease->slots_used >= lease->slots_keep)
        return 0;
    const uint32_t usable = MIN(slots_free(lease), lease->slots_keep - lease->slots_used);
    if (lease->failures == 0)
        return usable;
    return lease->probe && !lease->probing ? MIN(usable, 1U) : 0;
}

bool lease_take_slot(struct lease *lease, bool *probe)
{
    *probe = lease->failures > 0;
    if (lease_usable_slots(lease) == 0)
        return false;
    lease->probing = lease->probing || *probe;
    lease->slots_used++;
    lease->slots_low = MIN(lease->slots_low, slots_free(lease));
    return true;
}

void lease_give_slot(struct lease *lease, bool probe)
{
    CHECK(lease->slots_used > 0);
    lease->slots_used--;
    if (probe && lease->probing) { /* it ended without saying anything of the next hop */
        lease->probing = false;
        lease_touch(lease);
    }
    if (slots_held(lease) > lease->slots_keep || lease->failures > 0)
        lease_touch(lease);
    lease_await(lease);
}

uint32_t lease_surplus(const struct lease *lease)
{
    if (slots_held(lease) <= lease->slots_keep)
        return 0;
    const uint32_t back = slots_held(lease) - lease->slots_keep;
    const uint32_t coming = slots_free(lease) + lease->leaving;
    return back <= coming ? 0 : back - coming;
}

bool lease_take_token(struct lease *lease, uint32_t more)
{
    if (lease->limits.rate == 0)
        return true;
    if (lease_tokens(lease) == 0)
        return false;
    lease->tokens_used++;
    const uint32_t left = lease_tokens(lease);
    lease->tokens_low = MIN(lease->tokens_low, left);
    lease->tokens_ahead = MIN(more, (uint32_t)LEASE_WANTED_MAX);
    /* Before the last one is gone; the owner still knows of what it has not given. */
    bool asked = lease->tokens_said != lease->tokens_granted;
    if (left == 0 || (more > 0 && !asked && left <= lease->tokens_lot / 2))
        lease_touch(lease);
    return true;
}

/* ---- health ---- */

static void lease_report(struct lease *lease, enum lease_report report)
{
    lease->report = (uint8_t)report;
    lease->report_number = lease->number + 1;
    lease_touch(lease);
}

bool lease_failed(struct lease *lease, uint32_t failures, uint64_t retry_ms, uint8_t token,
                  struct slice why)
{
    if (lease->serving > 0 || lease->report == LEASE_FAILED ||
        (lease->failures > 0 && !lease->probing))
        return false;
    lease->probing = false;
    lease->probe = false;
    lease->failures = failures;
    lease->failed_ms = *lease->holder->now_ms;
    lease->retry_ms = retry_ms;
    lease->token = token;
    slice_to_string(why, lease->why, sizeof(lease->why));
    lease_report(lease, LEASE_FAILED);
    return true;
}

void lease_retry(struct lease *lease, uint64_t ordered_ms)
{
    if (ordered_ms <= lease->ordered_ms)
        return;
    lease->ordered_ms = ordered_ms;
    if (lease->failures == 0 || lease->failed_ms < ordered_ms)
        lease_touch(lease); /* the owner may know of a failure that is not known here */
}

void lease_works(struct lease *lease)
{
    lease->serving++;
    lease->probing = false;
    if (lease->failures > 0)
        lease_report(lease, LEASE_WORKS);
}

void lease_serves_less(struct lease *lease)
{
    CHECK(lease->serving > 0);
    lease->serving--;
}

/* ---- to the owner and back ---- */

struct lease *lease_next(struct lease_holder *holder)
{
    return list_empty(&holder->dirty) ? NULL
                                      : container_of(holder->dirty.next, struct lease, dirty);
}

void lease_say(struct lease *lease, struct lease_ask *ask)
{
    uint32_t back = 0;
    if (slots_held(lease) > lease->slots_keep)
        back = MIN(slots_held(lease) - lease->slots_keep, slots_free(lease));
    if (lease->failures > 0 && (!lease->probe || lease->probing))
        back = slots_free(lease); /* nobody may use them */
    slots_return(lease, back);
    *ask = (struct lease_ask) {
        .key = lease->key,
        .limits = lease->limits,
        .number = lease->number + 1,
        .seen = lease->seen,
        .slots_granted = lease->slots_granted,
        .slots_returned = lease->slots_returned,
        .slots_wanted = lease->slots_wanted,
        .tokens_granted = lease->tokens_granted,
        .tokens_used = lease->tokens_used,
        .tokens_returned = lease->tokens_returned,
        .tokens_wanted = tokens_wanted(lease),
        .round = lease->round,
        .failures = lease->failures,
        .failed_ms = lease->failed_ms,
        .retry_ms = lease->retry_ms,
        .ordered_ms = lease->ordered_ms,
        .report = lease->report,
        .token = lease->token,
        .probes = lease->probe && (lease->probing || lease->slots_wanted > 0),
    };
    if (lease->report == LEASE_FAILED)
        memcpy(ask->why, lease->why, sizeof(ask->why));
}

void lease_said(struct lease *lease, const struct lease_ask *ask)
{
    list_remove(&lease->dirty);
    lease->number = ask->number;
    lease->slots_said = ask->slots_granted + ask->slots_wanted;
    lease->tokens_said = ask->tokens_granted + ask->tokens_wanted;
    if (!ask->probes)
        lease->probe = false;
    metric_add(&lease->holder->numbers->asked, 1);
    lease_await(lease);
}

static void lease_hear_health(struct lease *lease, const struct lease_tell *tell)
{
    const bool news = tell->round != lease->round;
    if (lease->report != LEASE_SILENT && (int32_t)(tell->heard - lease->report_number) >= 0)
        lease->report = LEASE_SILENT;
    lease->round = tell->round;
    lease->ceiling = tell->ceiling;
    lease->probe = tell->probe;
    if (lease->report == LEASE_FAILED)
        return; /* it speaks of a time before that */
    if (news)
        lease->probing = false;
    lease->failures = tell->failures;
    lease->failed_ms = tell->failed_ms;
    lease->retry_ms = tell->retry_ms;
    lease->token = tell->token;
    if (tell->failures > 0)
        memcpy(lease->why, tell->why, sizeof(lease->why));
    if (news && tell->failures > 0 && lease->serving > 0)
        lease_report(lease, LEASE_SERVES);
}

void lease_hear(struct lease_holder *holder, const struct lease_tell *tell, bool quietly)
{
    struct lease *lease = lease_find(holder, &tell->key);
    if (lease == NULL)
        return;
    lease->heard = tell->heard;
    lease->seen = tell->number;
    const uint32_t tokens = tell->tokens - lease->tokens_granted;
    lease->slots_granted = tell->slots;
    lease->slots_keep = tell->slots_keep;
    lease->tokens_granted = tell->tokens;
    if (tokens > 0)
        lease->tokens_lot = tokens;
    lease_hear_health(lease, tell);
    if (lease_surplus(lease) == 0 && slots_held(lease) > lease->slots_keep && slots_free(lease) > 0)
        lease_touch(lease);
    if (lease->failures > 0 && slots_free(lease) > 0 && (!lease->probe || lease->probing))
        lease_touch(lease);
    if (lease->probe && !lease->probing && lease->slots_wanted == 0)
        lease_touch(lease); /* whoever wanted it is gone */
    if (lease_is_closed(lease)) {
        lease_close(lease);
        return;
    }
    lease_await(lease);
    if (!quietly)
        holder->changed(holder->owner, lease);
}
