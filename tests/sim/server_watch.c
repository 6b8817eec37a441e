/*
 * server_watch.c - is there mail that nobody will look at again?
 *
 * Ready mail needs a timer of its destination, or a next hop that waits for something which is sure
 * to come: an answer of DNS, the end of a connection, its turn among the shard's connections, or
 * news of its lease. The last is followed to the lease's owner on another shard: it must know that
 * something is wanted, and have a reason to give it later. Deferred mail needs a timer.
 *
 * Looks from outside, at the queue's and the next hops' own structures, between steps; a shard that
 * has something to do at once is left out, for it may be about to set right what is found.
 */
#include <stdio.h>

#include "core/check.h"
#include "mta/next_hop.h"
#include "tests/sim/server_sim.h"

struct watch {
    const struct server_sim *sim;
    const struct server_shard *server;
    char *why;
    bool found;
};

/* ---- leases ---- */

static const struct lease_site *site_of(const struct lease_owner *owner,
                                        const struct lease_key *key)
{
    const struct list *chain = &owner->hashes[key->word[1] & owner->mask];
    if (chain->next == NULL)
        return NULL;
    list_each (node, chain) {
        const struct lease_site *site = container_of(node, const struct lease_site, node);
        if (site->key.word[0] == key->word[0] && site->key.word[1] == key->word[1])
            return site;
    }
    return NULL;
}

static bool wants_slots(const struct lease_share *share)
{
    return share->known && (int32_t)(share->asked - share->granted) > 0;
}

static bool wants_tokens(const struct lease_share *share)
{
    return share->known && (int32_t)(share->tokens_asked - share->tokens) > 0;
}

/* One of the shard's connections is about to end, or to be made. */
static bool some_link_changes(const struct server_shard *server, const struct lease *lease)
{
    for (unsigned i = 0; i < server->logs_count; i++) {
        list_each (node, &server->logs[i].deliver.open) {
            const struct next_hop *hop = container_of(node, const struct next_hop, node);
            list_each (each, &hop->links) {
                const struct link *link = container_of(each, const struct link, node);
                if (link->lease.lease == lease && !link->ready && link->attempt == NULL)
                    return true;
            }
        }
    }
    return false;
}

/* A connection of a next hop of this shard that has no mail for it, and stays. */
static bool another_rests(const struct watch *w, const struct lease *lease)
{
    if (!lease_has_token(lease) || some_link_changes(w->server, lease))
        return false;
    list_each (node, &lease->resting) {
        const struct link *link = container_of(node, const struct link, site_resting);
        if (link->ready && link->attempt == NULL && link->hop->destination->ready_count == 0)
            return true;
    }
    return false;
}

/* Why no news will come to who waits in this lease; NULL: some will. */
static const char *lease_is_silent(const struct watch *w, const struct next_hop *hop)
{
    const struct lease *lease = hop->site;
    const unsigned self = w->server->shard.index;
    const unsigned owner = (unsigned)(lease->key.word[0] % w->sim->shards);
    if (!list_empty(&lease->dirty) || !list_empty(&lease->wake) || lease->number != lease->heard)
        return NULL;
    if (!list_empty(&hop->idle) && lease->limits.rate > 0 && lease_tokens(lease) > 0)
        return "its connections rest, and there are tokens for them";
    if (hop->wants_slots > 0 && hop->links_count == 0 && another_rests(w, lease))
        return "another one's connection rests, which could end";
    if (lease->slots_used > 0)
        return NULL; /* the end of that connection wakes it */
    if (lease->waiting_turns > (hop->its_turn ? 1U : 0U))
        return NULL; /* another one is about to take what there is, and asks DNS first */
    const struct lease_site *site = site_of(&w->sim->servers[owner].leases.owner, &lease->key);
    if (site == NULL)
        return "its lease's owner does not know of it";
    const struct lease_share *share = &site->shares[self];
    if (!list_empty(&share->dirty) || share->number != lease->seen)
        return NULL; /* the owner is about to tell it, or has */
    if (!wants_slots(share) && !wants_tokens(share))
        return "nothing is asked for in its lease";
    const uint32_t others = site->held - (share->granted - share->returned);
    if (timer_armed(&site->timer) || site->probed || others > 0 || site->outstanding > 0)
        return NULL;
    return "its lease's owner has no reason to give it anything";
}

/* ---- destinations ---- */

/* It waits aside (mta/hop_aside.c), and has a timer only in case that nobody calls it: why nobody
 * will. */
static const char *is_not_called(const struct destination *d)
{
    const struct deliver *deliver = d->queue->options.owner;
    const struct lease *lease = d->aside_in;
    if (lease == NULL)
        return timer_armed(&deliver->line.timer) || !list_empty(&deliver->line.task.node)
                   ? NULL
                   : "the line for next hops does not move";
    if (lease->failures > 0 || lease->waiting_count > 0 || lease->slots_used > 0 ||
        !list_empty(&lease->wake) || !list_empty(&lease->dirty) || lease->number != lease->heard)
        return NULL;
    return "its site works, and does not call it";
}

/* Why nobody will look at it again; NULL: somebody will. */
static const char *is_forgotten(const struct watch *w, const struct destination *d)
{
    const struct next_hop *hop = d->owner;
    const char *why = list_empty(&d->aside) ? NULL : is_not_called(d);
    if (why != NULL)
        return why;
    if (timer_armed(&d->timer))
        return NULL;
    if (hop == NULL)
        return "it has neither a timer nor a next hop";
    if (hop->request.resolve != NULL || hop->sts.sts != NULL || hop_is_blocked(hop))
        return NULL;
    if (!list_empty(&hop->waiting))
        return timer_armed(&hop->deliver->share.timer) ? NULL : "nobody gives out connections";
    list_each (node, &hop->links) {
        const struct link *link = container_of(node, const struct link, node);
        if (!link->ready || link->attempt != NULL)
            return NULL; /* its end is a new look */
    }
    if (hop->site != NULL)
        return lease_is_silent(w, hop);
    return hop->links_count > 0 ? "its connections have nothing to do"
                                : "its next hop waits for nothing";
}

/* What its lease looks like, for who reads it. */
static void lease_words(const struct lease *lease, char *words, size_t size)
{
    words[0] = '\0';
    if (lease != NULL)
        snprintf(words, size,
                 "; lease: slots %u of %u, %u usable, %u wanted, %u turns, tokens %u; failures %u, "
                 "probe %d, probing %d, report %u, timer %d",
                 lease->slots_used, lease->slots_granted - lease->slots_returned,
                 lease_usable_slots(lease), lease->slots_wanted, lease->waiting_turns,
                 lease_tokens(lease), lease->failures, lease->probe, lease->probing, lease->report,
                 timer_armed(&lease->timer));
}

static void look_at(void *argument, struct destination *d)
{
    struct watch *w = argument;
    const char *why = w->found ? NULL : is_forgotten(w, d);
    if (why == NULL)
        return;
    const int64_t now_ms = (int64_t)w->server->shard.now_ms;
    const struct next_hop *hop = d->owner;
    char lease[256];
    lease_words(hop == NULL ? NULL : hop->site, lease, sizeof(lease));
    w->found = true;
    snprintf(w->why, SERVER_PATH_MAX,
             "shard %u, %s, %u units ready: %s (failures %u, back-off %lld ms, pause %lld ms, "
             "links %u, told %d%s)",
             w->server->shard.index, d->key, d->ready_count, why, d->failures,
             d->retry_ms == 0 ? 0 : (long long)((int64_t)d->retry_ms - now_ms),
             hop == NULL || hop->pause_ms == 0 ? 0 : (long long)((int64_t)hop->pause_ms - now_ms),
             hop == NULL ? 0 : hop->links_count, hop != NULL && hop->told, lease);
}

/* One that has no mail, waits for nothing, and is the only one that may look for all shards. */
static void look_at_looks(struct watch *w, const struct deliver *deliver)
{
    list_each (node, &deliver->open) {
        const struct next_hop *hop = container_of(node, const struct next_hop, node);
        if (hop->own.lease == NULL || hop->destination->ready_count > 0 || hop->links_count > 0 ||
            hop->request.resolve != NULL || hop->sts.sts != NULL || hop->site != NULL ||
            !list_empty(&hop->waiting) || timer_armed(&hop->destination->timer) || w->found)
            continue;
        w->found = true;
        snprintf(w->why, SERVER_PATH_MAX, "shard %u, %s: it has the look, and no mail",
                 w->server->shard.index, hop->destination->key);
    }
}

static void look_at_deferred(struct watch *w, struct queue *queue)
{
    uint32_t cursor = 0;
    const struct message *m;
    while (!w->found && (m = queue_next(queue, &cursor)) != NULL)
        for (const struct unit *unit = m->units; unit != NULL; unit = unit->sibling)
            if (unit->state == UNIT_DEFERRED && !timer_armed(&unit->timer)) {
                w->found = true;
                snprintf(w->why, SERVER_PATH_MAX, "shard %u, %s: a unit is deferred for ever",
                         w->server->shard.index, unit->destination->key);
            }
}

bool server_sim_forgets(struct server_sim *s, bool units, char why[static SERVER_PATH_MAX])
{
    struct watch w = { .sim = s, .why = why };
    for (unsigned i = 0; s->up && !s->draining && i < s->shards; i++) {
        struct server_shard *server = &s->servers[i];
        if (server->draining || server->shard.woken || !list_empty(&server->shard.runnable))
            continue;
        w.server = server;
        for (unsigned k = 0; k < server->logs_count; k++) {
            struct queue *queue = &server->logs[k].queue;
            if (queue->metrics.units_ready > 0)
                queue_each_ready(queue, look_at, &w);
            look_at_looks(&w, &server->logs[k].deliver);
            if (units && queue->metrics.units_deferred > 0)
                look_at_deferred(&w, queue);
        }
    }
    return w.found;
}
