/*
 * link_share.c - a connection goes on with the mail of another next hop of its site
 *
 *   has nothing to do, or had its turn --another one wants a connection--> is it what that one
 *   would have made? --yes--> that one's from here on; floor memory judges it anew --> link_open
 *                    '--no--> it rests, or ends, and that one makes its own
 *
 * Next hops of a site are domains with the same MX hosts, and levels of one connector
 * (hop_lease.c). A connection was made for one of them, by its policy. Another one takes it only if
 * what it was made with, and what its session has shown, is all that this one demands of the host
 * now: its own MX set leads there, with no better host untried; DNS is as trustworthy; its own
 * policy of MTA-STS is asked; names in the certificate are compared with its own. The verdict for
 * the first counts for nothing. What cannot be known at once is a no: TLSA records of usage 2,
 * whose names were judged with the chain; a policy that has to be fetched.
 *
 * Messages per connection are counted by the client, over all of them. While an operator looks on
 * (mta/wire.h) each next hop has its own, so that he sees all of its mail and no other's.
 *
 * A shard that serves several logs (mta/server.h) has next hops for each: their connections do not
 * mix.
 *
 * Bounds: RESTING_LOOKS connections are looked at. Nothing here is done for a message, unless it is
 * the only one of its domain.
 */
#include "core/check.h"
#include "mta/next_hop.h"

enum { RESTING_LOOKS = 8 };

/* What is found on the way to a yes. */
struct fit {
    unsigned target;
    struct sts_facts sts;
    struct host_policy policy;
    enum tls_level level; /* that it would have been made with */
    bool is_name_ok;
};

static bool same_host(const struct link *link, const struct hop_target *to)
{
    if (!net_equal(&link->to.address, &to->address) || link->to.secure != to->secure ||
        link->to.mx_secure != to->mx_secure || (link->to.host == NULL) != (to->host == NULL))
        return false;
    if (to->host == NULL)
        return true;
    const struct dane_lookup *dane = &link->dane;
    return strcasecmp(link->to.host, to->host) == 0 &&
           (dane->set == NULL || strcasecmp(dane->base, to->host) == 0 ||
            strcasecmp(dane->base, to->canonical) == 0);
}

/* None that comes before the one it would connect to is passed over. */
static bool find_target(const struct link *link, const struct next_hop *hop, unsigned *target)
{
    for (unsigned i = 0; i < hop->targets_count; i++) {
        const struct hop_target *to = &hop->targets[i];
        if (to->rank > hop->targets[hop->target_next].rank)
            break;
        if (same_host(link, to)) {
            *target = i;
            return true;
        }
    }
    return false;
}

/* As its handshake would be judged by this next hop's policy. */
static bool session_fits(const struct link *link, const struct next_hop *hop, struct fit *fit)
{
    const struct smtp_client *client = link->client;
    const struct host_policy *policy = &fit->policy;
    const struct tls_client_target *made = &client->target.tls.target;
    const bool testing = fit->sts.mode == STS_MODE_TESTING && !policy->dane;
    if (fit->level > link->tls.level ||
        (fit->level == TLS_LEVEL_NONE) != (link->tls.level == TLS_LEVEL_NONE))
        return false;
    if (!client->secured) /* in clear, by a level that allows it */
        return fit->level == link->tls.level && !testing;
    const struct tls_session *tls = client->connection.tls;
    if (policy->dane != (link->tls.dane != NULL) ||
        (policy->dane && tls_client_dane(tls) != TLS_DANE_EE))
        return false;
    if ((policy->sts || testing) && !tls_client_also_ok(tls))
        return false; /* or nobody has looked */
    if (policy->sts && !made->also_must)
        return false; /* nobody has asked whether it is revoked */
    const struct route *route = hop->route;
    struct hop_names names;
    const unsigned count = route->tls_names_count > 0
                               ? 0
                               : hop_names(hop, link->to.host == NULL ? NULL : link->host, &names);
    fit->is_name_ok = route->tls_names_count > 0 ? tls_client_name_ok(tls)
                                                 : tls_client_has_name(tls, names.names, count);
    return fit->level < TLS_LEVEL_NAME || fit->is_name_ok;
}

static bool link_is_free(const struct link *link)
{
    const struct smtp_client *client = link->client;
    return link->ready && link->attempt == NULL && client != NULL &&
           client->state == SMTP_CLIENT_READY && !client->quit_wanted && !client->timed_out &&
           client->connection.tap == NULL && client->clients->connections->watch == NULL;
}

static bool link_serves(const struct link *link, struct next_hop *hop, struct fit *fit)
{
    if (!link_is_free(link) || link->hop->deliver != hop->deliver ||
        link->generation != hop->generation || link->hop->generation != hop->generation ||
        link->hop->route != hop->route || link->hop->wish != hop->wish ||
        (hop->client_flags & ~link->client->target.flags) != 0 ||
        !find_target(link, hop, &fit->target))
        return false;
    const struct hop_target *to = &hop->targets[fit->target];
    if (!hop_sts_ask(hop, to, &fit->sts))
        return false;
    fit->policy = hop_policy(hop, &fit->sts, link->dane.dane, to->mx_secure);
    if (fit->policy.token != FAULT_NONE)
        return false;
    fit->level = route_level(hop->route, fit->policy.level);
    return session_fits(link, hop, fit);
}

/* What the session was made with (tls, dane, generation, lease) stays as it is. */
static void link_pass(struct link *link, struct next_hop *hop, const struct fit *fit)
{
    struct deliver *deliver = hop->deliver;
    struct next_hop *from = link->hop;
    link_changes_hop(link, hop);
    hop->told = false;
    hop_stops_waiting(hop);
    hop->connecting++;
    link->target = fit->target;
    link->to = hop->targets[fit->target];
    link->to.host = link->to.host != NULL ? link->host : NULL;
    link->to.canonical = NULL;
    link->sts = fit->sts;
    link->policy = fit->policy;
    link->ready = link->was_ready = link->is_reported = false;
    link->passed = true;
    if (link->client->secured)
        tls_client_name_is(link->client->connection.tls, fit->is_name_ok);
    link_count_begun(link, fit->level);
    floor_watch_end(&link->floor);
    link->floor = (struct floor_watch) { .floors = NULL };
    link_floor_watch(link, &link->to);
    metric_add(&deliver->metrics.links_passed, 1);
    link_open(link);
    if (from->destination->ready_count > 0)
        hop_pump(from); /* it has it no more, and waits */
}

bool hop_takes_over(struct next_hop *hop)
{
    struct lease *lease = lease_find(&hop->deliver->leases->holder, &hop->site_key);
    if (lease == NULL || !lease_has_token(lease))
        return false;
    const struct list *node = lease->resting.previous; /* the least likely to have been closed */
    for (unsigned i = 0; i < RESTING_LOOKS && node != &lease->resting; i++) {
        struct link *link = container_of(node, struct link, site_resting);
        struct fit fit;
        node = node->previous;
        if (link->hop == hop || link->hop->destination->ready_count > 0 ||
            !link_serves(link, hop, &fit))
            continue;
        link_pass(link, hop, &fit);
        return true;
    }
    return false;
}

/* It would begin a connection now, and knows where to. */
static bool hop_is_about_to(const struct next_hop *hop)
{
    const struct destination *d = hop->destination;
    const uint64_t now_ms = hop->deliver->shard->now_ms;
    return hop->route != NULL && !hop_is_blocked(hop) && !hop->deliver->draining &&
           d->ready_count > 0 && d->retry_ms <= now_ms && hop->pause_ms <= now_ms &&
           hop->request.resolve == NULL && hop->targets_count > 0 && hop->targets_until_ms > now_ms;
}

bool link_passes(struct link *link, struct next_hop *to)
{
    struct fit fit;
    const struct lease *lease = link->lease.lease;
    if (!lease_has_token(lease) || !hop_is_about_to(to) || !link_serves(link, to, &fit))
        return false;
    link_pass(link, to, &fit);
    return true;
}
