/*
 * hop_lease.c - what a next hop may do by the leases that all shards share (queue/lease.h)
 *
 * The lease of a next hop is that of its site: the connector with its hosts, or, where recipients'
 * own MX lead, the connector and the set of MX hosts. So domains with the same MX hosts share
 * connections, rate and back-off, on all shards; what a host must show, and whether it did, stays
 * with each domain. A connection goes from one to the next where their policies let it
 * (link_share.c).
 *
 *   hop: pumped --no slot, no token--> waits in its lease --more came--> pumped, in turn
 *
 * Only that no host could be connected to, or spoke SMTP, is a failure of the site. What DNS or TLS
 * said holds for the domain alone (hop_own.c).
 *
 * While others of this shard wait for the site, a connection goes to the first of them when it has
 * nothing to do, and after its turn, or ends so that it gets its own; while other shards do, it
 * ends when the owner has said so.
 */
#include "core/check.h"
#include "mta/lease_shard.h"
#include "mta/next_hop.h"
#include "tls/tls_boringssl.h"

enum {
    WAKES_MAX = 64,     /* next hops in one go */
    TOKENS_WANTED = 16, /* by a next hop that waits; more when it has some */
    SPREAD_PART = 8,
    WAITING_LOOKS = 8,  /* at next hops that wait, for one that wants a connection */
    RETRY_MS = 1'000,   /* when there is no room for a lease */
    CROWDED_MS = 1'000, /* no more connections for so long, when they are refused beside others */
};

/* ---- whose limits ---- */

static struct lease_key key_of(const struct next_hop *hop, const struct resolve_site *site)
{
    SHA256_CTX sha;
    uint8_t digest[SHA256_DIGEST_LENGTH];
    struct lease_key key;
    const char *name = hop->route->name;
    SHA256_Init(&sha);
    SHA256_Update(&sha, name, strlen(name) + 1);
    if (site != NULL)
        SHA256_Update(&sha, site->digest, sizeof(site->digest));
    SHA256_Final(digest, &sha);
    static_assert(sizeof(key) <= sizeof(digest));
    memcpy(&key, digest, sizeof(key));
    return key;
}

void hop_site_unknown(struct next_hop *hop)
{
    hop_stops_waiting(hop);
    if (hop->told && !hop->destination->owner_alone)
        queue_destination_works(hop->deliver->queue, hop->destination);
    hop->told = false;
    hop->site_known = hop->route != NULL && !route_by_domain(hop->route);
    if (hop->site_known)
        hop->site_key = key_of(hop, NULL);
}

void hop_site_is(struct next_hop *hop, const struct resolve_site *site)
{
    if (!route_by_domain(hop->route))
        return;
    const struct lease_key key = key_of(hop, site);
    if (hop->site_known && memcmp(&key, &hop->site_key, sizeof(key)) != 0)
        hop_stops_waiting(hop);
    hop->site_key = key;
    hop->site_known = true;
}

static struct lease_limits limits_of(const struct next_hop *hop)
{
    const struct config *config = hop->generation->config;
    const struct route *route = hop->route;
    return (struct lease_limits) {
        .generation = config->generation,
        .slots =
            route->connections_max != 0 ? route->connections_max : config->delivery.connections_max,
        .rate = route->rate_max,
    };
}

/* With a reference; NULL: there are too many. */
static struct lease *lease_of(struct next_hop *hop)
{
    const struct lease_limits limits = limits_of(hop);
    CHECK(hop->site_known);
    return lease_get(&hop->deliver->leases->holder, &hop->site_key, &limits);
}

/* ---- waiting ---- */

static bool has_slot(const struct lease *lease)
{
    return lease->slots_used > 0 || lease_usable_slots(lease) > 0;
}

static void say_wants(struct lease_shard *leases, struct lease *lease, bool tokens)
{
    const uint64_t aside = list_empty(&lease->aside) ? 0 : 1; /* they want to hear of it */
    lease_want(lease, (uint32_t)MIN(MAX(lease->waiting_slots, aside), (uint64_t)UINT32_MAX),
               tokens ? (uint32_t)MIN(lease->waiting_tokens, (uint64_t)UINT32_MAX) : 0);
    lease_shard_now(leases, lease);
    if (lease_has_token(lease) && !list_empty(&lease->resting_hops))
        lease_shard_wake(leases, lease); /* more than who asks takes, and nobody else is told */
}

/* Tokens are for who has a slot: with few of both one shard would have a slot without a token,
 * others a token without a slot, each until it has not been used for too long, and then again. */
void lease_wants_changed(struct lease_shard *leases, struct lease *lease)
{
    const bool had = has_slot(lease);
    say_wants(leases, lease, had);
    if (!had && lease->waiting_tokens > 0 && has_slot(lease)) /* its owner is on this shard */
        say_wants(leases, lease, true);
}

bool hop_waits_for_site(const struct next_hop *hop)
{
    return hop->site != NULL && hop->site_known &&
           memcmp(&hop->site->key, &hop->site_key, sizeof(hop->site_key)) == 0;
}

static void hop_not_its_turn(struct next_hop *hop);

/* Whoever waits for a token alone has a connection: it does not wait behind those without. */
static void hop_waits(struct next_hop *hop, struct lease *lease, uint32_t slots, uint32_t tokens)
{
    const bool stays = hop->site == lease && (slots == 0) == (hop->wants_slots == 0);
    if (hop->site != lease) {
        const struct lease_limits limits = lease->limits;
        hop_stops_waiting(hop);
        hop->site = lease_get(lease->holder, &lease->key, &limits);
        CHECK(hop->site == lease);
        lease->waiting_count++;
    }
    if (!stays) {
        hop_not_its_turn(hop);
        list_remove(&hop->waits);
        list_push(slots == 0 ? &lease->resting_hops : &lease->waiting, &hop->waits);
    }
    if (hop->wants_slots == slots && hop->wants_tokens == tokens)
        return;
    lease->waiting_slots += slots - (uint64_t)hop->wants_slots;
    lease->waiting_tokens += tokens - (uint64_t)hop->wants_tokens;
    hop->wants_slots = slots;
    hop->wants_tokens = tokens;
    lease_wants_changed(hop->deliver->leases, lease);
}

/* Its turn is over, used or not. */
static void hop_not_its_turn(struct next_hop *hop)
{
    if (!hop->its_turn)
        return;
    hop->its_turn = false;
    hop->site->waiting_turns--;
}

/* Its mail went some other way, or is over: nor does it look whether its destination works. */
static void hop_wants_nothing(struct next_hop *hop)
{
    hop_stops_waiting(hop);
    hop_looked(hop, false);
}

void hop_lost_link(struct next_hop *hop)
{
    if (hop->links_count > 0 || hop->site == NULL || hop->wants_slots > 0)
        return;
    if (hop->destination->ready_count > 0)
        hop_waits(hop, hop->site, 1, hop->wants_tokens);
    else
        hop_wants_nothing(hop);
}

/* What is left for those whose turn it is not yet. */
static uint32_t slots_left(const struct lease *lease)
{
    const uint32_t usable = lease_usable_slots(lease);
    return usable > lease->waiting_turns ? usable - lease->waiting_turns : 0;
}

void hop_stops_waiting(struct next_hop *hop)
{
    struct lease *lease = hop->site;
    struct destination *d = hop->destination;
    const uint64_t now_ms = hop->deliver->shard->now_ms;
    if (lease == NULL)
        return;
    hop_not_its_turn(hop);
    hop->site = NULL;
    list_remove(&hop->waits);
    lease->waiting_count--;
    lease->waiting_slots -= hop->wants_slots;
    lease->waiting_tokens -= hop->wants_tokens;
    hop->wants_slots = hop->wants_tokens = 0;
    lease_wants_changed(hop->deliver->leases, lease);
    if (hop->told && d->retry_ms > now_ms) { /* nobody else wakes it then; many may do that */
        const uint64_t wait_ms = d->retry_ms - now_ms;
        queue_destination_again(
            hop->deliver->queue, d,
            wait_ms + random_below(&hop->deliver->shard->random, wait_ms / SPREAD_PART + 1));
    }
    if ((!list_empty(&lease->waiting) && slots_left(lease) > 0) || lease_has_room(lease))
        lease_shard_wake(hop->deliver->leases, lease);
    lease_put(lease);
}

/* One that has nothing to do makes room. */
static void rest_ends(struct lease *lease)
{
    if (list_empty(&lease->resting))
        return;
    link_quit(container_of(lease->resting.next, struct link, site_resting));
}

void hop_told(struct next_hop *hop, const struct lease *lease)
{
    struct destination *d = hop->destination;
    if (lease->failures == 0) {
        if (hop->told)
            queue_destination_works(hop->deliver->queue, d);
        hop->told = false;
        return;
    }
    hop_not_its_turn(hop); /* for want of an answer of DNS it may not have used it */
    hop->told = true;
    d->owner_note = lease->token;
    d->failures = lease->failures;
    const bool before = lease->failed_ms < d->ordered_ms; /* news of what he wants is on its way */
    d->retry_ms = before ? 0 : lease->retry_ms;
    d->ordered_ms = before ? d->ordered_ms : 0;
    if (d->error[0] == '\0')
        slice_to_string(slice_of_string(lease->why), d->error, sizeof(d->error));
}

/* ---- slots ---- */

static bool is_its_turn(const struct next_hop *hop, const struct lease *lease)
{
    return hop->its_turn || lease->waiting_slots == hop->wants_slots; /* there is nobody else */
}

bool hop_take_of(struct next_hop *hop, struct lease *lease, uint32_t wanted,
                 struct link_lease *taken)
{
    if (lease == NULL) {
        queue_destination_again(hop->deliver->queue, hop->destination, RETRY_MS);
        return false;
    }
    if (hop->destination->ordered_ms != 0)
        lease_retry(lease, hop->destination->ordered_ms);
    const bool slow = lease->limits.rate > 0;
    bool may = lease_has_token(lease);
    bool took = may && is_its_turn(hop, lease) && lease_take_slot(lease, &taken->probe);
    if (!took) { /* its owner may be on this shard, and answer at once */
        hop_waits(hop, lease, wanted,
                  slow ? MIN(hop->destination->ready_count, (uint32_t)TOKENS_WANTED) : 0);
        may = lease_has_token(lease);
        took = may && is_its_turn(hop, lease) && lease_take_slot(lease, &taken->probe);
    }
    if (took) {
        hop->told = false; /* it works, or this is the one that looks whether it does */
        hop_stops_waiting(hop);
        taken->lease = lease;
        return true;
    }
    if (hop->site == lease)
        hop_not_its_turn(hop);
    if (slots_left(lease) > 0 && may)
        lease_shard_wake(hop->deliver->leases, lease);
    if (lease->failures > 0)
        hop_told(hop, lease);
    else if (may)
        rest_ends(lease);
    lease_put(lease);
    return false;
}

bool hop_take_slot(struct next_hop *hop, uint32_t wanted, struct link_lease *taken)
{
    struct lease *lease = lease_of(hop);
    if (lease != NULL && lease->failures > 0) /* what is wrong is the site's */
        hop_looked(hop, true);
    return hop_take_of(hop, lease, wanted, taken);
}

void hop_give_slot(struct next_hop *hop, struct link_lease *taken)
{
    struct lease *lease = taken->lease;
    if (lease == NULL)
        return;
    taken->lease = NULL;
    if (taken->leaves)
        lease->leaving--;
    if (taken->serves)
        lease_serves_less(lease);
    lease_give_slot(lease, taken->probe);
    if (!list_empty(&lease->waiting))
        lease_shard_wake(hop->deliver->leases, lease);
    lease_put(lease);
}

static bool link_must_leave(struct link *link)
{
    struct lease *lease = link->lease.lease;
    const struct next_hop *hop = link->hop;
    const uint64_t now_ms = hop->deliver->shard->now_ms;
    if (!link->lease.leaves && lease_surplus(lease) > 0) {
        link->lease.leaves = true;
        lease->leaving++;
    }
    if (link->lease.leaves)
        return true;
    if (lease->waiting_slots <= hop->wants_slots || lease->failures > 0)
        return false;
    return hop->destination->ready_count == 0 || now_ms - link->lease.since_ms >= LEASE_TURN_MS;
}

/* The first one besides it that waits for a connection. Who has no mail left does not wait any
 * more. */
static struct next_hop *first_waiting(const struct lease *lease, const struct next_hop *besides)
{
    unsigned looks = 0;
    list_each_safe(node, &lease->waiting)
    {
        struct next_hop *hop = container_of(node, struct next_hop, waits);
        if (hop->destination->ready_count == 0)
            hop_wants_nothing(hop);
        else if (hop != besides)
            return hop;
        if (++looks == WAITING_LOOKS)
            break;
    }
    return NULL;
}

bool link_leaves(struct link *link)
{
    if (!link_must_leave(link))
        return false;
    struct next_hop *next = link->lease.leaves ? NULL : first_waiting(link->lease.lease, link->hop);
    if (!link_must_leave(link))
        return false; /* nobody waits after all */
    if (next == NULL || !link_passes(link, next))
        link_quit(link);
    return true;
}

/* They began to wait while the site failed, and it works. */
static void rests_leave(struct lease *lease)
{
    unsigned looks = 0;
    if (list_empty(&lease->waiting) || lease->failures > 0 || slots_left(lease) > 0 ||
        !lease_has_token(lease))
        return;
    list_each (node, &lease->resting) {
        struct link *link = container_of(node, struct link, site_resting);
        if (link->ready && link->attempt == NULL && link->hop->destination->ready_count == 0) {
            (void)link_leaves(link);
            return;
        }
        if (++looks == WAITING_LOOKS)
            return;
    }
}

/* ---- tokens ---- */

bool link_has_token(struct link *link)
{
    struct lease *lease = link->lease.lease;
    struct next_hop *hop = link->hop;
    if (lease_has_token(lease))
        return true;
    /* As long as one rests for want of a token it needs no other. */
    hop_waits(hop, lease, 0, MIN(hop->destination->ready_count, (uint32_t)TOKENS_WANTED));
    return lease_tokens(lease) > 0;
}

void link_sends(struct link *link)
{
    CHECK(lease_take_token(link->lease.lease, link->hop->destination->ready_count));
}

/* ---- health ---- */

void link_has_its_turn(struct link *link)
{
    link->lease.since_ms = link->hop->deliver->shard->now_ms;
}

void link_works(struct link *link)
{
    struct lease *lease = link->lease.lease;
    link->lease.serves = true;
    link_has_its_turn(link);
    lease_works(lease);
}

void hop_waits_for_probe(struct next_hop *hop, struct lease *lease)
{
    hop_waits(hop, lease, 1, 0);
    hop->told = true;
}

void hop_site_fails(struct next_hop *hop, const struct link *link, enum outbound_token token,
                    struct slice why)
{
    struct lease *lease = link->lease.lease;
    struct destination *d = hop->destination;
    struct deliver *deliver = hop->deliver;
    if (lease->serving > 0) { /* another domain of this site has connections */
        hop->pause_ms = deliver->shard->now_ms + CROWDED_MS;
        queue_destination_again(deliver->queue, d, CROWDED_MS);
        return;
    }
    hop_looked(hop, true);
    const bool known = lease->report == LEASE_FAILED || (lease->failures > 0 && !lease->probing);
    if (known) {
        slice_to_string(why, d->error, sizeof(d->error));
        d->owner_alone = false;
        hop_told(hop, lease);
        hop_waits_for_probe(hop, lease);
        return;
    }
    d->failures = MAX(d->failures, lease->failures);
    hop_backs_off(hop, token, why);
    (void)lease_failed(lease, d->failures, d->retry_ms, (uint8_t)token, why);
    hop_waits_for_probe(hop, lease);
    lease_shard_now(deliver->leases, lease);
}

/* ---- more, or less, than before ---- */

/* It takes what there is, or asks DNS and then takes it, or has no use for it now: then something
 * else will have it pumped. */
static void hop_has_its_turn(struct next_hop *hop)
{
    struct lease *lease = hop->site;
    if (hop->wants_slots == 0 || hop->destination->ready_count == 0) {
        hop_stops_waiting(hop);
        hop_pump(hop);
        return;
    }
    list_remove(&hop->waits);
    list_push(&lease->waiting, &hop->waits);
    hop->its_turn = true;
    lease->waiting_turns++;
    hop_pump(hop);
    if (hop->its_turn && hop->request.resolve == NULL && hop->sts.sts == NULL)
        hop_stops_waiting(hop);
}

void hop_lease_changed(void *owner, struct lease *lease)
{
    struct lease_shard *leases = owner;
    const struct lease_limits limits = lease->limits;
    struct lease *held = lease_get(lease->holder, &lease->key, &limits);
    CHECK(held == lease);
    if (lease->waiting_round != lease->round) {
        lease->waiting_round = lease->round;
        list_each (node, &lease->resting_hops)
            hop_told(container_of(node, struct next_hop, waits), lease);
        list_each (node, &lease->waiting)
            hop_told(container_of(node, struct next_hop, waits), lease);
    }
    if (lease->waiting_tokens > 0)
        lease_wants_changed(leases, lease);
    while (lease_surplus(lease) > 0 && !list_empty(&lease->resting)) {
        struct link *link = container_of(lease->resting.next, struct link, site_resting);
        link->lease.leaves = true;
        lease->leaving++;
        rest_ends(lease);
    }
    unsigned wakes = 0;
    while (!list_empty(&lease->resting_hops) && lease_has_token(lease) && wakes++ < WAKES_MAX)
        hop_has_its_turn(container_of(lease->resting_hops.next, struct next_hop, waits));
    while (!list_empty(&lease->waiting) && wakes++ < WAKES_MAX) {
        struct next_hop *hop = container_of(lease->waiting.next, struct next_hop, waits);
        if (hop->wants_tokens == 0 && !lease_has_token(lease))
            hop_waits(hop, lease, hop->wants_slots, /* it waited for the probe alone */
                      MIN(MAX(hop->destination->ready_count, 1U), (uint32_t)TOKENS_WANTED));
        if (hop->its_turn || !lease_has_token(lease) || slots_left(lease) == 0)
            break;
        hop_has_its_turn(hop);
    }
    if (wakes > WAKES_MAX)
        lease_shard_wake(leases, lease);
    rests_leave(lease);
    lease_calls_back(leases, lease);
    lease_put(lease);
}
