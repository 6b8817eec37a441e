/*
 * control_fetch.c - documents by HTTP for whoever works on the control thread
 *
 * Names that strangers wrote lead to private networks only where delivery { private-networks }
 * says so, as their mail does.
 */
#include "mta/control.h"
#include "mta/networks.h"

static bool fetch_allowed(void *owner, const struct net_address *address)
{
    const struct control *control = owner;
    return networks_hold(control->config->delivery.private_networks, address);
}

int control_fetch_start(struct control *control)
{
    const struct fetch_options options = { .agent = "ringpost/" RINGPOST_VERSION,
                                           .allowed = fetch_allowed,
                                           .owner = control };
    int r = fetcher_new(&control->shard, &control->dns, &options, &control->fetcher);
    if (r == 0)
        metrics_add_source(&control->metrics, &control->fetch_source, fetch_metrics,
                           fetch_metrics_count, fetcher_numbers(control->fetcher), -1);
    return r;
}

void control_fetch_stop(struct control *control)
{
    fetcher_free(control->fetcher);
    control->fetcher = NULL;
}
