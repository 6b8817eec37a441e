/*
 * lease_shard.c - carries asks and tells of leases between shards
 *
 * All changes of a step leave in one message for each lease, from the hook at its end. The order of
 * messages between two shards is that of the handoffs. Bounds: LEASE_MESSAGES of this shard are
 * under way; FLUSH_MAX leases are seen to in one step.
 */
#include "mta/lease_shard.h"

#include "core/check.h"
#include "mta/server.h"

enum { FLUSH_MAX = 1'024, RETRY_MS = 1 };

static unsigned owner_of(const struct lease_shard *leases, const struct lease_key *key)
{
    return (unsigned)(key->word[0] % leases->shards);
}

static bool is_own(const struct lease_shard *leases, const struct lease_key *key)
{
    return leases->shards == 1 || owner_of(leases, key) == leases->shard->index;
}

/* This shard as a holder; tests may have one that is in no group. */
static unsigned self(const struct lease_shard *leases)
{
    return leases->shards == 1 ? 0 : leases->shard->index;
}

static bool message_send(struct lease_shard *leases, unsigned to, struct lease_message *message)
{
    const struct handoff handoff = { .kind = HANDOFF_LEASE, .pointer = message };
    message->home = leases->shard->index;
    list_init(&message->node);
    if (shard_handoff(leases->shard, to, handoff) == 0)
        return true;
    pool_give(&leases->messages, message);
    return false;
}

/* False: it cannot be said now. */
static bool ask_send(struct lease_shard *leases, struct lease *lease)
{
    if (is_own(leases, &lease->key)) {
        struct lease_ask ask;
        lease_say(lease, &ask);
        lease_said(lease, &ask);
        lease_owner_hear(&leases->owner, self(leases), &ask);
        return true;
    }
    struct lease_message *message = pool_take(&leases->messages);
    if (message == NULL)
        return false;
    message->tells = false;
    lease_say(lease, &message->ask);
    const struct lease_ask ask = message->ask; /* once sent it is another thread's */
    if (!message_send(leases, owner_of(leases, &lease->key), message))
        return false;
    lease_said(lease, &ask);
    return true;
}

static bool tell_send(struct lease_shard *leases, struct lease_share *share)
{
    if (share->holder == self(leases)) {
        struct lease_tell tell;
        lease_owner_say(share, &tell);
        lease_owner_said(share);
        lease_hear(&leases->holder, &tell, false);
        return true;
    }
    struct lease_message *message = pool_take(&leases->messages);
    if (message == NULL)
        return false;
    message->tells = true;
    lease_owner_say(share, &message->tell);
    if (!message_send(leases, share->holder, message))
        return false;
    lease_owner_said(share);
    return true;
}

static void message_home(struct lease_shard *leases, struct lease_message *message)
{
    const struct handoff handoff = { .kind = HANDOFF_LEASE_BACK, .pointer = message };
    if (shard_handoff(leases->shard, message->home, handoff) == 0)
        return;
    list_push(&leases->homeward, &message->node);
    shard_timer_arm(leases->shard, &leases->retry, RETRY_MS);
}

static void send_home(struct lease_shard *leases)
{
    struct list waiting;
    list_init(&waiting);
    list_append(&waiting, &leases->homeward);
    struct list *node;
    while ((node = list_pop(&waiting)) != NULL)
        message_home(leases, container_of(node, struct lease_message, node));
}

static bool something_to_do(const struct lease_shard *leases)
{
    return !list_empty(&leases->holder.dirty) || !list_empty(&leases->owner.dirty) ||
           !list_empty(&leases->woken);
}

static void lease_on_hook(struct hook *hook)
{
    struct lease_shard *leases = container_of(hook, struct lease_shard, hook);
    if (!list_empty(&leases->homeward))
        send_home(leases);
    for (unsigned i = 0; i < FLUSH_MAX && something_to_do(leases); i++) {
        struct list *node = list_pop(&leases->woken);
        if (node != NULL)
            leases->holder.changed(leases->holder.owner, container_of(node, struct lease, wake));
        struct lease *lease = lease_next(&leases->holder);
        bool stuck = lease != NULL && !ask_send(leases, lease);
        struct lease_share *share = lease_owner_next(&leases->owner);
        stuck = (share != NULL && !tell_send(leases, share)) || stuck;
        if (stuck) {
            shard_timer_arm(leases->shard, &leases->retry, RETRY_MS);
            return;
        }
    }
    if (something_to_do(leases))
        shard_run_later(leases->shard, &leases->again);
}

/* The hook of the step that runs these is what is wanted. */
static void lease_again(struct task *task)
{
    (void)task;
}

static void lease_on_retry(struct timer *timer)
{
    (void)timer;
}

static void on_message(struct shard *shard, const struct handoff *handoff)
{
    struct server_shard *server = shard->owner;
    struct lease_shard *leases = &server->leases;
    struct lease_message *message = handoff->pointer;
    if (message->tells)
        lease_hear(&leases->holder, &message->tell, false);
    else
        lease_owner_hear(&leases->owner, handoff->from, &message->ask);
    message_home(leases, message);
}

static void on_back(struct shard *shard, const struct handoff *handoff)
{
    struct server_shard *server = shard->owner;
    pool_give(&server->leases.messages, handoff->pointer);
}

/* Of its site, and its own while that fails; some were left a moment ago, and their connections'
 * slots go back soon. */
static uint32_t leases_max(uint32_t hops)
{
    return 3 * hops;
}

/* A hash spreads them over the owners: more or less evenly. */
static uint32_t sites_max(uint32_t hops)
{
    return 2 * leases_max(hops);
}

uint64_t lease_shard_bytes(uint32_t hops, unsigned shards)
{
    return lease_holder_bytes(leases_max(hops)) + lease_owner_bytes(sites_max(hops), shards) +
           pool_bytes(sizeof(struct lease_message), LEASE_MESSAGES);
}

int lease_shard_init(struct lease_shard *leases, struct shard *shard, uint32_t hops,
                     unsigned shards, void (*changed)(void *owner, struct lease *lease),
                     void *owner)
{
    *leases = (struct lease_shard) { .shard = shard, .shards = shards };
    list_init(&leases->homeward);
    list_init(&leases->woken);
    task_init(&leases->again, lease_again);
    timer_init(&leases->retry, lease_on_retry);
    int r = lease_holder_init(&leases->holder, leases_max(hops), &shard->timers, &shard->now_ms,
                              &leases->numbers);
    if (r == 0)
        r = lease_owner_init(&leases->owner, shards, sites_max(hops), &shard->timers,
                             &shard->now_ms, &leases->numbers);
    if (r == 0)
        r = pool_init(&leases->messages, "lease messages", sizeof(struct lease_message),
                      LEASE_MESSAGES);
    if (r < 0)
        return r;
    leases->holder.changed = changed;
    leases->holder.owner = owner;
    shard_hook(shard, &leases->hook, lease_on_hook);
    if (shards > 1) {
        shard_handle(shard, HANDOFF_LEASE, on_message);
        shard_handle(shard, HANDOFF_LEASE_BACK, on_back);
    }
    return 0;
}

void lease_shard_free(struct lease_shard *leases)
{
    lease_holder_free(&leases->holder);
    lease_owner_free(&leases->owner);
    pool_free(&leases->messages);
}

void lease_shard_now(struct lease_shard *leases, struct lease *lease)
{
    if (!is_own(leases, &lease->key) || list_empty(&lease->dirty))
        return;
    (void)ask_send(leases, lease);
    struct lease_share *share = lease_owner_share(&leases->owner, self(leases), &lease->key);
    if (share == NULL)
        return;
    struct lease_tell tell;
    lease_owner_say(share, &tell);
    lease_owner_said(share);
    lease_hear(&leases->holder, &tell, true);
}

void lease_shard_wake(struct lease_shard *leases, struct lease *lease)
{
    if (list_empty(&lease->wake))
        list_push(&leases->woken, &lease->wake);
}
