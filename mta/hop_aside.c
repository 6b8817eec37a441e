/*
 * hop_aside.c - destinations that wait for their site, or for a next hop at all, without one
 *
 *   next hop waits in its lease --another destination needs it--> destination aside, in the lease
 *        '<--the site works again, or the line is short again------------------'
 *   destination wanted --no next hop is to be had--> in the shard's line --its turn--> next hop
 *
 * There may be many more destinations than next hops (mta/deliver.h), and as many of one site as
 * there are domains with the same MX hosts. Those whose next hop went wait in line behind the next
 * hops of their site, so that all of them go as soon as it works, by turns, and not when the
 * back-off that each of them once heard of is over; and so that a long line of one site leaves next
 * hops for other sites.
 *
 * The shard's line moves as fast as there are next hops for it. When it only turns, because those
 * that got one gave it back without having been of use, it turns slowly. And so it does while its
 * next hops are those that others gave up who wait for a site that works: mostly they would wait
 * for the same one, and each of them asks DNS again when it is called.
 *
 * Bounds: a destination waits in one lease, or in the line, once. A lease is kept for those that
 * wait in it only while half of the shard's are free; after that, and in case nobody calls, they
 * have their timer.
 */
#include "core/check.h"
#include "mta/lease_shard.h"
#include "mta/next_hop.h"

enum {
    LINE_MAX = 256, /* next hops of a site in line, when others want theirs */
    CALLS_MAX = 64, /* in one go */
    SAFETY_MS = 60'000,
    FULL_MS = 10,  /* until the line asks for a next hop again, when there was none */
    TURN_MS = 200, /* when it became no shorter; or for CALLS_MAX next hops that others give up */
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
        list_empty(&hop->site->waiting) || is_half_full(&hop->site->holder->leases))
        return NULL;
    struct next_hop *last = container_of(hop->site->waiting.previous, struct next_hop, waits);
    bool idle = last->links_count == 0 && last->request.resolve == NULL && last->sts.sts == NULL &&
                list_empty(&last->waiting) && !last->its_turn && last->own.lease == NULL;
    return idle && last->deliver == hop->deliver && hop_waits_for_site(last) ? last : NULL;
}

static void safety_arm(struct destination *d)
{
    queue_destination_again(d->queue, d,
                            SAFETY_MS + random_below(&d->queue->shard->random, SAFETY_MS));
}

void hop_steps_aside(struct next_hop *hop)
{
    struct destination *d = hop->destination;
    struct lease *lease = hop->site;
    if (d->ready_count > 0 && hop_is_blocked(hop) && !timer_armed(&d->timer))
        safety_arm(d); /* deliver_unblocked does not need a next hop to find it */
    if (!hop_waits_for_site(hop) || d->ready_count == 0 || is_half_full(&lease->holder->leases))
        return;
    const struct lease_limits limits = lease->limits;
    d->aside_in = lease_get(lease->holder, &lease->key, &limits);
    CHECK(d->aside_in == lease);
    list_push(&lease->aside, &d->aside);
    if (!hop->told || d->retry_ms <= hop->deliver->shard->now_ms)
        safety_arm(d);
}

void destination_not_aside(struct destination *d)
{
    struct lease *lease = d->aside_in;
    struct deliver *deliver = d->queue->options.owner;
    if (list_empty(&d->aside))
        return;
    list_remove(&d->aside);
    if (lease == NULL) {
        timer_disarm(&deliver->shard->timers, &d->timer);
        deliver->line.count--;
        metric_sub(&deliver->metrics.in_line, 1);
        return;
    }
    d->aside_in = NULL;
    lease_wants_changed(deliver->leases, lease);
    lease_put(lease);
}

/* While it is in back-off one of them looks, if no next hop is there to do it. */
static bool calls_one(const struct lease *lease)
{
    if (list_empty(&lease->aside))
        return false;
    return lease->failures == 0 ? lease->waiting_count < LINE_MAX
                                : lease->waiting_count == 0 && lease_usable_slots(lease) > 0;
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
        queue->options.wanted(queue->options.owner, d); /* it may be in the shard's line then */
    }
}

/* ---- the shard's line ---- */

static void line_run(struct task *task)
{
    struct deliver *deliver = container_of(task, struct deliver, line.task);
    struct hop_line *line = &deliver->line;
    const uint32_t before = line->count;
    const uint64_t now_ms = deliver->shard->now_ms;
    unsigned calls = 0;
    if (now_ms >= line->pushes_until_ms) {
        line->pushes = CALLS_MAX;
        line->pushes_until_ms = now_ms + TURN_MS;
    }
    while (!deliver->draining && !list_empty(&line->waiting) && calls < CALLS_MAX) {
        struct destination *d = container_of(line->waiting.next, struct destination, aside);
        struct next_hop *hop = d->ready_count > 0 ? hop_of(deliver, d, &line->pushes) : NULL;
        if (hop == NULL && d->ready_count > 0)
            break;
        destination_not_aside(d);
        if (hop != NULL)
            hop_pump(hop);
        calls++;
    }
    if (deliver->draining || list_empty(&line->waiting))
        return;
    if (calls == CALLS_MAX && line->count < before)
        shard_run_later(deliver->shard, task);
    else
        shard_timer_arm(deliver->shard, &line->timer, calls == CALLS_MAX ? TURN_MS : FULL_MS);
}

static void line_on_timer(struct timer *timer)
{
    line_run(&container_of(timer, struct deliver, line.timer)->line.task);
}

void hop_line_init(struct deliver *deliver)
{
    list_init(&deliver->line.waiting);
    task_init(&deliver->line.task, line_run);
    timer_init(&deliver->line.timer, line_on_timer);
}

void destination_lines_up(struct deliver *deliver, struct destination *d)
{
    if (!timer_armed(&d->timer))
        safety_arm(d);
    if (!list_empty(&d->aside))
        return; /* in the line, or in its lease, where it has its turn before that */
    list_push(&deliver->line.waiting, &d->aside);
    metric_add(&deliver->metrics.in_line, 1);
    if (deliver->line.count++ == 0)
        shard_timer_arm(deliver->shard, &deliver->line.timer, FULL_MS);
}
