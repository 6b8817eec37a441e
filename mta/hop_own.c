/*
 * hop_own.c - a destination that fails by itself: DNS does not answer for it, or its hosts do not
 * show what it demands
 *
 *   hop_fail --> waits in a lease of its own --back-off over, this shard has the probe-->
 *       hop_may_look: DNS, a connection --> hop_looked, it works: all shards hear of it
 *              '--hop_fail again
 *
 * What holds for one domain must not stop others of its site, so it is not the site's lease that
 * says it (hop_lease.c). The lease is made when the destination fails: one that works has none. A
 * shard whose first mail for a failing destination comes later finds out once by itself, and hears
 * then what the others know.
 *
 * What the site does, or that it can be connected to at all, ends the look: then the destination
 * itself is not what fails.
 */
#include "mta/lease_shard.h"
#include "mta/next_hop.h"
#include "tls/tls_boringssl.h"

/* No connector's name begins so. */
#define OWN_PREFIX "\1"

/* With a reference; NULL: there are too many. */
static struct lease *own_lease(struct next_hop *hop)
{
    const struct destination *d = hop->destination;
    const struct lease_limits limits = { .generation = hop->generation->config->generation,
                                         .slots = LEASE_SHARDS_MAX };
    SHA256_CTX sha;
    uint8_t digest[SHA256_DIGEST_LENGTH];
    struct lease_key key;
    SHA256_Init(&sha);
    SHA256_Update(&sha, OWN_PREFIX, sizeof(OWN_PREFIX));
    SHA256_Update(&sha, d->key, d->key_size);
    SHA256_Final(digest, &sha);
    static_assert(sizeof(key) <= sizeof(digest));
    memcpy(&key, digest, sizeof(key));
    return lease_get(&hop->deliver->leases->holder, &key, &limits);
}

void hop_fail(struct next_hop *hop, enum outbound_token token, struct slice why)
{
    struct destination *d = hop->destination;
    struct lease *lease = own_lease(hop);
    if (lease != NULL)
        d->failures = MAX(d->failures, lease->failures);
    hop_backs_off(hop, token, why);
    d->owner_alone = true;
    if (lease == NULL)
        return; /* this shard alone backs off */
    const bool news = lease_failed(lease, d->failures, d->retry_ms, (uint8_t)token, why);
    hop_looked(hop, false);
    if (!news)
        hop_told(hop, lease);
    hop_waits_for_probe(hop, lease);
    lease_shard_now(hop->deliver->leases, lease);
    lease_put(lease);
}

bool hop_may_look(struct next_hop *hop)
{
    const struct destination *d = hop->destination;
    if (hop->own.lease != NULL)
        return true;
    if (d->failures == 0 || !d->owner_alone) {
        if (hop->site != NULL &&
            !hop_waits_for_site(hop)) /* it works again: what it waits for now is a connection */
            hop_stops_waiting(hop);
        return true;
    }
    return hop_take_of(hop, own_lease(hop), 1, &hop->own);
}

void hop_looked(struct next_hop *hop, bool works)
{
    struct lease *lease = hop->own.lease;
    if (works)
        hop->destination->owner_alone = false;
    if (lease == NULL)
        return;
    hop->own.lease = NULL;
    if (works) {
        lease_works(lease);
        lease_serves_less(lease);
    }
    lease_give_slot(lease, hop->own.probe);
    lease_put(lease);
}
