/*
 * link_floor.c - a connection and floor memory: asked, judged, skipped, released
 *
 *   link_floor_watch, connect, EHLO, STARTTLS --ready--> link_floor_judge --PASS--> mail
 *                                                            |  '--WAIT--> link_open --> here again
 *                                                            '--REFUSE--> QUIT, the next host
 *
 * Judged once, when the connection has the protection it will have and before MAIL. A host that is
 * skipped fails like one that does not answer: other hosts of the next hop are tried, then it backs
 * off; each try looks again, so mail goes as soon as the host offers what it did, or the operator
 * has decided.
 */
#include <stdio.h>
#include <string.h>

#include "mta/next_hop.h"
#include "tls/tls_shard.h"

static void on_answered(struct floor_watch *watch)
{
    struct link *link = container_of(watch, struct link, floor);
    if (link->client != NULL)
        link_open(link);
}

void link_floor_watch(struct link *link, const struct hop_target *to)
{
    const struct route *route = link->hop->route;
    struct floor_watch *watch = &link->floor;
    watch->action =
        link->tls.level == TLS_LEVEL_NONE || link->policy.no_memory ? FLOOR_OFF : route->floor;
    watch->rules = link->generation->config->delivery.floor_rules;
    watch->answered = on_answered;
    watch->row = link->row;
    floor_host_text(to->host, &to->address, watch->name.host);
    snprintf(watch->name.domain, sizeof(watch->name.domain), "%s", link->hop->domain);
    floor_watch_begin(watch, link->hop->deliver->floors);
}

/* Handshakes that failed before may be why it is in clear now: the next connection begins with the
 * strongest again. */
static void forget_steps(const struct link *link)
{
    const struct deliver *deliver = link->hop->deliver;
    const struct tls_lru_key key = tls_lru_key_of(slice_of(link->host_key, sizeof(link->host_key)));
    struct tls_host host;
    if (!tls_hosts_get(deliver->tls->hosts, &key, deliver->shard->now_ms, &host))
        return;
    host.step = TLS_STEP_ALL;
    tls_hosts_put(deliver->tls->hosts, &key, deliver->shard->now_ms, &host);
}

enum floor_judgement link_floor_judge(struct link *link, char why[static FLOOR_WHY_MAX])
{
    enum floor_judgement judgement =
        floor_watch_judge(&link->floor, link->client, link->hop->destination->key, why);
    if (judgement == FLOOR_WAIT)
        return judgement;
    link->hop->skipped = judgement == FLOOR_REFUSE;
    if (judgement == FLOOR_REFUSE) {
        forget_steps(link);
        smtp_client_quit(link->client);
    }
    return judgement;
}

void link_floor_missed(struct link *link)
{
    char why[FLOOR_WHY_MAX];
    (void)floor_watch_judge(&link->floor, NULL, link->hop->destination->key, why);
}

static bool hop_leads_to(const struct next_hop *hop, const char *host)
{
    char text[FLOOR_HOST_MAX];
    for (unsigned i = 0; i < hop->targets_count; i++) {
        floor_host_text(hop->targets[i].host, &hop->targets[i].address, text);
        if (strcmp(text, host) == 0)
            return true;
    }
    return false;
}

void deliver_release(struct deliver *deliver, const char *host)
{
    list_each (node, &deliver->open) {
        struct next_hop *hop = container_of(node, struct next_hop, node);
        if (!hop->skipped || !hop_leads_to(hop, host))
            continue;
        queue_destination_works(deliver->queue, hop->destination);
        queue_destination_again(deliver->queue, hop->destination, 0);
    }
}
