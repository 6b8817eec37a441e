/*
 * hop_share.c - who gets the shard's connections, when there are not enough for all
 *
 *   wants a connection --room, and nobody waits--> begins one
 *         '--none-----> waiting --hop_share_freed, its turn--> pumped again
 *         '--it has some already--> makes do with those
 *
 * The first connection of a next hop is what others wait for; more of them are growth. Growth ends
 * when somebody waits, and when a next hop has GROWTH times what would be left free: a slow one
 * that needs ever more leaves part of the pool, whatever its own limit is, several slow ones leave
 * a part of what the first one left, and none takes the last. While somebody waits, connections
 * that have no message are ended, and those that have had them for QUANTUM_MS, or of a next hop
 * with more than its even share, end after the message that they are at.
 *
 * Turns are by urgency: of the mail that waits, and behind it the next hops that failed last time,
 * which are only looked at: they may have half of the pool. Part of it is kept for what is more
 * urgent, unless no class is. TICK_MS lets one of each rank have what is free, so that nobody waits
 * for ever for what is kept.
 *
 * Bounds: a next hop waits in one list, once. Nothing here is done for a message.
 */
#include "core/check.h"
#include "mta/next_hop.h"

enum {
    GROWTH = 4,
    QUANTUM_MS = 5'000,
    TICK_MS = 250,
    GRANTS_MAX = 64, /* in one go */
    KEPT_OF_NORMAL = 16,
    KEPT_OF_BULK = 8,
    KEPT_OF_PROBES = 2,
};

static void share_on_timer(struct timer *timer);
static void share_run(struct task *task);

void hop_share_init(struct deliver *deliver)
{
    for (unsigned rank = 0; rank < LANE_RANKS; rank++)
        list_init(&deliver->share.waiting[rank]);
    list_init(&deliver->share.resting);
    task_init(&deliver->share.task, share_run);
    timer_init(&deliver->share.timer, share_on_timer);
}

/* ---- room ---- */

static enum lane rank_of(const struct next_hop *hop)
{
    return hop->destination->failures > 0 ? LANE_PROBE : destination_lane(hop->destination);
}

static unsigned share_free(const struct deliver *deliver)
{
    const unsigned free = deliver->links.count - deliver->links.used;
    return free > deliver->share.promised ? free - deliver->share.promised : 0;
}

/* What a next hop of this rank may take of what is free. */
static unsigned share_room(const struct deliver *deliver, enum lane rank)
{
    const bool keeps = deliver->generations->current->config->classes.has_urgent;
    const unsigned count = deliver->links.count;
    const unsigned kept = rank == LANE_PROBE             ? count / KEPT_OF_PROBES
                          : rank == LANE_BULK            ? count / KEPT_OF_BULK
                          : rank == LANE_NORMAL && keeps ? count / KEPT_OF_NORMAL
                                                         : 0;
    const unsigned free = share_free(deliver);
    return free > kept ? free - kept : 0;
}

/* How many wait who would go before one of this rank. */
static unsigned share_waiting(const struct deliver *deliver, enum lane rank)
{
    unsigned count = 0;
    for (unsigned i = 0; i <= rank; i++)
        count += deliver->share.waiting_count[i];
    return count;
}

bool hop_may_connect(struct next_hop *hop)
{
    struct deliver *deliver = hop->deliver;
    const enum lane rank = rank_of(hop);
    const unsigned room = share_room(deliver, rank);
    if (hop->links_count > 0)
        return share_waiting(deliver, rank) == 0 && room > 0 &&
               hop->links_count < GROWTH * (room - 1);
    bool waits = !list_empty(&hop->waiting);
    if (!waits &&
        (hop->turn ? share_free(deliver) > 0 : room > 0 && share_waiting(deliver, rank) == 0))
        return true;
    hop_wait(hop);
    return false;
}

/* ---- waiting ---- */

/* One connection that nobody needs now makes place for one that is waited for. */
static void share_reclaim(struct deliver *deliver)
{
    struct hop_share *share = &deliver->share;
    while (share->ending < share_waiting(deliver, LANE_BULK) && !list_empty(&share->resting)) {
        struct link *link = container_of(share->resting.next, struct link, resting);
        link_rests(link, false);
        if (link->ready && link->attempt == NULL)
            link_yield(link);
    }
}

void hop_wait(struct next_hop *hop)
{
    struct deliver *deliver = hop->deliver;
    struct hop_share *share = &deliver->share;
    const enum lane rank = rank_of(hop);
    const bool waits = !list_empty(&hop->waiting);
    if (waits && hop->waiting_rank <= rank)
        return; /* where it is; what became urgent moves up */
    hop_wait_no_more(hop);
    if (hop->turn) /* it had to look for addresses first, or another one was faster */
        list_push_front(&share->waiting[rank], &hop->waiting);
    else
        list_push(&share->waiting[rank], &hop->waiting);
    hop->waiting_rank = (uint8_t)rank;
    share->waiting_count[rank]++;
    metric_add(&deliver->metrics.hops_waiting, 1);
    metric_add(&deliver->metrics.hops_waited, waits ? 0 : 1);
    share_reclaim(deliver);
    if (!timer_armed(&share->timer))
        shard_timer_arm(deliver->shard, &share->timer, TICK_MS);
}

void hop_wait_no_more(struct next_hop *hop)
{
    if (list_empty(&hop->waiting))
        return;
    list_remove(&hop->waiting);
    hop->deliver->share.waiting_count[hop->waiting_rank]--;
    metric_sub(&hop->deliver->metrics.hops_waiting, 1);
}

/* False: it lacks something again. */
static bool share_grant(struct deliver *deliver, enum lane rank)
{
    struct next_hop *hop =
        container_of(deliver->share.waiting[rank].next, struct next_hop, waiting);
    hop_wait_no_more(hop);
    hop->turn = true;
    hop_pump(hop);
    if (hop->turn && hop->request.resolve != NULL) {
        hop->promised = true; /* it looks for its addresses anew, and must not find it gone then */
        deliver->share.promised++;
    }
    return list_empty(&hop->waiting);
}

void hop_promise_end(struct next_hop *hop)
{
    if (hop->promised)
        hop->deliver->share.promised--;
    hop->promised = false;
}

static void share_run(struct task *task)
{
    struct deliver *deliver = container_of(task, struct deliver, share.task);
    struct hop_share *share = &deliver->share;
    for (unsigned i = 0; i < GRANTS_MAX && !deliver->draining && !share->lacks; i++) {
        unsigned present = 0;
        for (unsigned rank = 0; rank < LANE_RANKS; rank++)
            if (!list_empty(&share->waiting[rank]) && share_room(deliver, (enum lane)rank) > 0)
                present |= 1U << rank;
        if (present == 0 || !share_grant(deliver, lane_next(&share->turns, present)))
            return;
    }
    hop_share_freed(deliver); /* others of the loop first */
}

/* Nobody is forgotten, whatever did not come, and what is kept for others is not kept for ever. */
static void share_on_timer(struct timer *timer)
{
    struct deliver *deliver = container_of(timer, struct deliver, share.timer);
    deliver->share.lacks = false;
    if (deliver->draining || share_waiting(deliver, LANE_PROBE) == 0)
        return;
    for (unsigned rank = 0; rank < LANE_RANKS; rank++)
        if (!list_empty(&deliver->share.waiting[rank]) && share_free(deliver) > 0)
            (void)share_grant(deliver, (enum lane)rank);
    share_reclaim(deliver);
    if (share_waiting(deliver, LANE_PROBE) > 0)
        shard_timer_arm(deliver->shard, &deliver->share.timer, TICK_MS);
}

void hop_share_freed(struct deliver *deliver)
{
    if (share_waiting(deliver, LANE_PROBE) > 0 && !deliver->draining && !deliver->share.lacks)
        shard_run_later(deliver->shard, &deliver->share.task);
}

void hop_share_lacks(struct next_hop *hop)
{
    hop->deliver->share.lacks = true;
    hop_wait(hop); /* which sees to the tick */
}

/* ---- connections ---- */

void link_shares(struct link *link)
{
    struct hop_share *share = &link->hop->deliver->share;
    list_init(&link->resting);
    link->hop->turn = false;
    if (link->hop->links_count == 1)
        share->holders++;
}

void link_shares_no_more(struct link *link)
{
    struct deliver *deliver = link->hop->deliver;
    link_rests(link, false);
    if (link->hop->links_count == 0)
        deliver->share.holders--;
    if (link->yields)
        deliver->share.ending--;
    hop_share_freed(deliver);
}

void link_changes_hop(struct link *link, struct next_hop *to)
{
    struct next_hop *from = link->hop;
    struct hop_share *share = &to->deliver->share;
    link_rests(link, false);
    list_remove(&link->idle);
    list_remove(&link->node);
    if (--from->links_count == 0)
        share->holders--;
    if (++to->links_count == 1)
        share->holders++;
    link->hop = to;
    list_push(&to->links, &link->node);
    to->turn = false;
    hop_wait_no_more(to);
}

void link_rests(struct link *link, bool rests)
{
    if (rests == !list_empty(&link->resting))
        return;
    list_remove(&link->resting);
    list_remove(&link->site_resting);
    if (!rests)
        return;
    list_push(&link->hop->deliver->share.resting, &link->resting);
    list_push(&link->lease.lease->resting, &link->site_resting);
}

void link_quit(struct link *link)
{
    link->ready = false;
    list_remove(&link->idle);
    link_rests(link, false);
    smtp_client_quit(link->client);
}

bool link_must_yield(const struct link *link)
{
    const struct deliver *deliver = link->hop->deliver;
    const struct hop_share *share = &deliver->share;
    const unsigned waiting = share_waiting(deliver, LANE_BULK);
    if (waiting <= share->ending)
        return false;
    if (deliver->shard->now_ms - link->ready_ms >= QUANTUM_MS)
        return true;
    const unsigned even = deliver->links.count / (share->holders + waiting);
    return link->hop->links_count > MAX(even, 1U) &&
           share_waiting(deliver, destination_lane(link->hop->destination)) > 0;
}

void link_yield(struct link *link)
{
    struct deliver *deliver = link->hop->deliver;
    link->yields = true;
    deliver->share.ending++;
    metric_add(&deliver->metrics.links_yielded, 1);
    link_quit(link);
}
