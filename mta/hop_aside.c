/*
 * hop_aside.c - destinations that wait for their site without a next hop
 *
 *   next hop waits in its lease --another destination needs it--> destination aside, in the lease
 *        '<--the site works again, or the line is short again------------------'
 *
 * There may be many more destinations than next hops (mta/deliver.h), and as many of one site as
 * there are domains with the same MX hosts. Those whose next hop went wait in line behind the next
 * hops of their site, so that all of them go as soon as it works, by turns, and not when the
 * back-off that each of them once heard of is over; and so that a long line of one site leaves next
 * hops for other sites.
 *
 * Bounds: a destination waits in one lease, once. A lease is kept for those that wait in it only
 * while half of the shard's are free; after that, and in case nobody calls, they have their timer.
 */
#include "core/check.h"
#include "mta/lease_shard.h"
#include "mta/next_hop.h"

enum {
    LINE_MAX = 256, /* next hops of a site in line, when others want theirs */
    CALLS_MAX = 64, /* in one go */
    SAFETY_MS = 60'000,
};

static bool is_half_full(const struct pool *pool)
{
    return pool->used > pool->count / 2;
}

bool lease_has_room(const struct lease *lease)
{
    return !list_empty(&lease->aside) && lease->failures == 0 &&
           lease->waiting_count < LINE_MAX / 2;
}

struct next_hop *hop_last_in_line(const struct next_hop *hop)
{
    if (!hop_waits_for_site(hop) || hop->site->waiting_count <= LINE_MAX ||
        is_half_full(&hop->site->holder->leases))
        return NULL;
    struct next_hop *last = container_of(hop->site->waiting.previous, struct next_hop, waits);
    bool idle = last->links_count == 0 && last->request.resolve == NULL && last->sts.sts == NULL &&
                list_empty(&last->waiting) && !last->its_turn && last->own.lease == NULL;
    return idle && last->deliver == hop->deliver && hop_waits_for_site(last) ? last : NULL;
}

void hop_steps_aside(struct next_hop *hop)
{
    struct destination *d = hop->destination;
    struct lease *lease = hop->site;
    if (!hop_waits_for_site(hop) || d->ready_count == 0 || is_half_full(&lease->holder->leases))
        return;
    const struct lease_limits limits = lease->limits;
    d->aside_in = lease_get(lease->holder, &lease->key, &limits);
    CHECK(d->aside_in == lease);
    list_push(&lease->aside, &d->aside);
    if (!hop->told)
        queue_destination_again(d->queue, d,
                                SAFETY_MS + random_below(&hop->deliver->shard->random, SAFETY_MS));
}

void destination_not_aside(struct destination *d)
{
    struct lease *lease = d->aside_in;
    if (lease == NULL)
        return;
    const struct deliver *deliver = d->queue->options.owner;
    d->aside_in = NULL;
    list_remove(&d->aside);
    lease_wants_changed(deliver->leases, lease);
    lease_put(lease);
}

/* While it is in back-off one of them looks, if no next hop is there to do it. */
static bool calls_one(const struct lease *lease)
{
    if (list_empty(&lease->aside))
        return false;
    return lease->failures == 0 ? lease->waiting_count < LINE_MAX
                                : list_empty(&lease->waiting) && lease_usable_slots(lease) > 0;
}

void lease_calls_back(struct lease_shard *leases, struct lease *lease)
{
    for (unsigned i = 0; calls_one(lease); i++) {
        if (i == CALLS_MAX) {
            lease_shard_wake(leases, lease);
            return;
        }
        struct destination *d = container_of(lease->aside.next, struct destination, aside);
        struct queue *queue = d->queue;
        destination_not_aside(d);
        if (d->ready_count == 0)
            continue;
        if (lease->failures == 0)
            queue_destination_works(queue, d);
        queue->options.wanted(queue->options.owner, d);
        if (d->owner == NULL)
            return; /* there is no next hop to be had: it has its timer, and calls the others */
    }
}
