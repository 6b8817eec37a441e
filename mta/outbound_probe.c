/*
 * outbound_probe.c - a connector's hosts, one after the other
 *
 *   next_place --resolve--> next_host --connect--> ready, QUIT --gone--> next_host ... next_place
 *        '-- no more places, or draining --> answer
 *
 * A handshake that fails is tried with less, as a delivery does; a host whose first address does
 * not answer by its next one. What is looked at is the connector's own level, not what DANE or
 * MTA-STS would add.
 */
#include "mta/outbound_probe.h"

#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "mta/resolve_config.h"
#include "mta/server.h"

enum { STEP_MS_MAX = 60'000, QUIT_MS = 5'000 };

static void next_place(struct outbound_probe *probe);
static void next_host(struct outbound_probe *probe);

static struct server_shard *server_of(const struct outbound_probe *probe)
{
    return probe->shard->owner;
}

/* ---- the end ---- */

static void answer(struct task *task)
{
    struct outbound_probe *probe = container_of(task, struct outbound_probe, task);
    const struct handoff handoff = { .kind = HANDOFF_PROBED, .pointer = probe };
    list_remove(&probe->node);
    if (shard_handoff(probe->shard, probe->shard->group->count - 1, handoff) == 0)
        return;
    list_push(&server_of(probe)->probes, &probe->node);
    shard_run_later(probe->shard, &probe->task); /* control is far behind: try again */
}

/* Answered from the loop, never from inside a callback of what is met. */
static void end(struct outbound_probe *probe, bool whole)
{
    if (probe->generation != NULL)
        generation_drop(&server_of(probe)->generations, probe->generation);
    probe->generation = NULL;
    probe->connector = NULL;
    probe->whole = whole;
    probe->over = true;
    shard_run_later(probe->shard, &probe->task);
}

/* ---- rows ---- */

/* NULL: there are too many. */
static struct probe_row *row_add(struct outbound_probe *probe, const char *host, uint16_t port)
{
    if (probe->rows_count == PROBE_ROWS_MAX)
        return NULL;
    struct probe_row *row = &probe->rows[probe->rows_count++];
    *row = (struct probe_row) { .port = port, .met = true };
    snprintf(row->host, sizeof(row->host), "%s", host);
    return row;
}

static struct probe_row *row_now(struct outbound_probe *probe)
{
    CHECK(probe->rows_count > 0);
    return &probe->rows[probe->rows_count - 1];
}

static void row_fail(struct probe_row *row, struct slice why)
{
    slice_to_string(why, row->why, sizeof(row->why));
    for (char *at = row->why; *at != '\0'; at++)
        if ((uint8_t)*at < ' ' || (uint8_t)*at > '~')
            *at = '?';
}

/* ---- once in a while ---- */

static uint64_t hash_of(const struct net_address *address)
{
    uint64_t hash = 14'695'981'039'346'656'037ULL; /* FNV-1a: a table of some hosts of ours */
    for (size_t i = 0; i < sizeof(address->octets); i++)
        hash = (hash ^ address->octets[i]) * 1'099'511'628'211ULL;
    return (hash ^ address->port) * 1'099'511'628'211ULL;
}

/* False: it was met a short time ago. Else it is met now. */
static bool take_turn(struct outbound_probe *probe, const struct net_address *address)
{
    struct probe_recent *recent = probe->recent;
    const uint64_t hash = hash_of(address), now_ms = probe->shard->now_ms;
    for (unsigned i = 0; i < PROBE_RECENT; i++)
        if (recent->host[i] == hash && recent->until_ms[i] > now_ms)
            return false;
    recent->host[recent->next] = hash;
    recent->until_ms[recent->next] = now_ms + PROBE_HOST_MS;
    recent->next = (recent->next + 1) % PROBE_RECENT;
    return true;
}

/* ---- a host ---- */

static void on_ready(struct smtp_client *client)
{
    struct probe_row *row = row_now(client->owner);
    row->good = true;
    if (client->secured) {
        struct tls_facts facts;
        tls_session_facts(client->connection.tls, &facts);
        snprintf(row->version, sizeof(row->version), "%s", facts.version);
        snprintf(row->group, sizeof(row->group), "%s", facts.group);
    }
    smtp_client_quit(client);
}

static bool connect_to(struct outbound_probe *probe);

/* Another address of the same host. */
static bool next_address(struct outbound_probe *probe)
{
    const char *host = probe->targets[probe->target].host;
    for (unsigned i = probe->target + 1; *host != '\0' && i < probe->targets_count; i++)
        if (strcmp(probe->targets[i].host, host) == 0) {
            probe->target = i;
            probe->step = TLS_STEP_ALL;
            return true;
        }
    return false;
}

static bool step_down(struct outbound_probe *probe, const struct smtp_client_end *end)
{
    if (end->fault != SMTP_TLS_HANDSHAKE && end->fault != SMTP_TLS_TOO_WEAK)
        return false;
    const enum tls_step next = end->misused && probe->step != TLS_STEP_QUIET
                                   ? TLS_STEP_QUIET
                                   : tls_client_step_after(&probe->policy, probe->step);
    if (next == TLS_STEPS || next <= probe->step)
        return false;
    probe->step = next;
    return true;
}

static unsigned first_of_host(const struct outbound_probe *probe)
{
    const char *host = probe->targets[probe->target].host;
    unsigned i = 0;
    while (i < probe->target && (*host == '\0' || strcmp(probe->targets[i].host, host) != 0))
        i++;
    return i;
}

static void host_done(struct outbound_probe *probe)
{
    probe->target = first_of_host(probe) + 1;
    next_host(probe);
}

static void on_gone(struct smtp_client *client, const struct smtp_client_end *end)
{
    struct outbound_probe *probe = client->owner;
    struct probe_row *row = row_now(probe);
    probe->client = NULL;
    if (!row->good) {
        const bool again =
            !server_of(probe)->draining &&
            (step_down(probe, end) || (end->why == SMTP_GONE_CONNECT && next_address(probe)));
        if (again && connect_to(probe))
            return;
        char text[PROBE_WHY_TEXT];
        slice_to_string(end->text.size > 0 ? end->text : slice_of_string(smtp_gone_name(end->why)),
                        text, sizeof(text));
        char words[PROBE_WHY_TEXT + 64];
        if (end->code != 0)
            snprintf(words, sizeof(words), "%s: %u %s", smtp_stage_name(end->stage), end->code,
                     text);
        else
            snprintf(words, sizeof(words), "%s", text);
        row_fail(row, slice_of_string(words));
    }
    host_done(probe);
}

static const struct smtp_client_callbacks callbacks = { .ready = on_ready, .gone = on_gone };

static unsigned usual_names(struct outbound_probe *probe, const char *host)
{
    struct net_address ignored;
    if (*probe->subject != '\0') { /* as link_names has it */
        snprintf(probe->below, sizeof(probe->below), "*.%s", probe->subject);
        probe->names[0] = slice_of_string(probe->subject);
        probe->names[1] = slice_of_string(probe->below);
        return 2;
    }
    if (*host == '\0' || *host == '[' || net_parse(slice_of_string(host), 0, &ignored) == 0)
        return 0;
    probe->names[0] = slice_of_string(host);
    return 1;
}

static void tls_of(struct outbound_probe *probe, const struct probe_target *to,
                   struct smtp_client_tls *tls)
{
    const struct route *route = &probe->connector->route;
    route_policy(route, TLS_LEVEL_NONE, &probe->policy);
    if (probe->policy.level == TLS_LEVEL_NONE)
        return;
    static_assert(sizeof(to->address.octets) + sizeof(to->address.port) == sizeof(probe->host_key));
    memcpy(probe->host_key, to->address.octets, sizeof(to->address.octets));
    memcpy(probe->host_key + sizeof(to->address.octets), &to->address.port,
           sizeof(to->address.port));
    const unsigned usual = usual_names(probe, to->host);
    const bool given = route->tls_names_count > 0;
    *tls = (struct smtp_client_tls) {
        .client = probe->generation->tls_client,
        .policy = &probe->policy,
        .clear_without_offer =
            probe->policy.level == TLS_LEVEL_MAY && route->clear != ROUTE_CLEAR_NEVER,
        .implicit = route->tls_implicit,
        .target = {
            .host = probe->host_key,
            .server_name = route->server_name != NULL ? route->server_name : to->host,
            .names = given ? route->tls_names : probe->names,
            .names_count = given ? route->tls_names_count : usual,
            .step = probe->step,
        },
    };
}

static void timeouts_of(const struct config_delivery *d, uint32_t tls_ms,
                        struct smtp_client_timeouts *t)
{
    *t = smtp_client_timeouts_default;
    t->connect_ms = MIN(d->connect_timeout_ms, (uint32_t)STEP_MS_MAX);
    t->greeting_ms = MIN(d->greeting_timeout_ms, (uint32_t)STEP_MS_MAX);
    t->helo_ms = MIN(d->command_timeout_ms, (uint32_t)STEP_MS_MAX);
    t->tls_ms = MIN(tls_ms, (uint32_t)STEP_MS_MAX);
    t->quit_ms = QUIT_MS;
}

/* False: no connection can be made here; the row says so. */
static bool connect_to(struct outbound_probe *probe)
{
    struct server_shard *server = server_of(probe);
    const struct route *route = &probe->connector->route;
    const struct config *config = probe->generation->config;
    const struct probe_target *to = &probe->targets[probe->target];
    struct probe_row *row = row_now(probe);
    const bool v4 = net_is_v4(&to->address);
    net_text(&to->address, false, row->address);
    timeouts_of(&config->delivery, config->tls.handshake_timeout_ms, &probe->timeouts);
    struct smtp_client_target target = {
        .address = to->address,
        .host = row->host,
        .protocol = route->protocol == ROUTE_LMTP ? SMTP_CLIENT_LMTP : SMTP_CLIENT_SMTP,
        .helo_name = route->ehlo,
        .source = v4 ? (route->sources_v4_count > 0 ? &route->sources_v4[0] : NULL)
                  : route->sources_v6_count > 0 ? &route->sources_v6[0]
                                                : NULL,
        .timeouts = &probe->timeouts,
    };
    tls_of(probe, to, &target.tls);
    int r = smtp_client_start(&server->clients, &target, &callbacks, probe, &probe->client);
    if (r == 0)
        return true;
    probe->client = NULL;
    row_fail(row, slice_of_string(strerror(-r)));
    return false;
}

static void next_host(struct outbound_probe *probe)
{
    while (probe->target < probe->targets_count && !server_of(probe)->draining) {
        const struct probe_target *to = &probe->targets[probe->target];
        char text[NET_TEXT_MAX];
        net_text(&to->address, false, text);
        if (first_of_host(probe) < probe->target) { /* it had its turn */
            probe->target++;
            continue;
        }
        struct probe_row *row =
            row_add(probe, *to->host != '\0' ? to->host : text, to->address.port);
        if (row == NULL)
            break;
        probe->step = TLS_STEP_ALL;
        row->met = take_turn(probe, &to->address);
        if (row->met && connect_to(probe))
            return;
        probe->target++;
    }
    next_place(probe);
}

/* ---- hosts ---- */

static void on_resolved(struct resolve_request *request, const struct resolve_result *result)
{
    struct outbound_probe *probe = container_of(request, struct outbound_probe, request);
    const struct route_host *host = &probe->connector->route.hosts[probe->place - 1];
    probe->targets_count = 0;
    probe->target = 0;
    if (result->verdict != RESOLVE_FOUND) {
        struct probe_row *row =
            row_add(probe, *probe->subject != '\0' ? probe->subject : host->name, host->port);
        if (row != NULL)
            row_fail(row, slice_of_string(result->why));
    }
    for (unsigned i = 0; result->verdict == RESOLVE_FOUND && i < result->count; i++) {
        struct probe_target *to = &probe->targets[probe->targets_count++];
        to->address = result->targets[i].address;
        snprintf(to->host, sizeof(to->host), "%s", result->targets[i].host);
    }
    next_host(probe);
}

/* The next exact domain of the connector, which stand for those that it is for; into subject. */
static bool next_domain(struct outbound_probe *probe)
{
    const struct outbound *c = probe->connector;
    const unsigned count = c->domains.given ? pattern_set_count(c->domains.patterns) : 0;
    for (; probe->domain < count; probe->domain++) {
        char text[PATTERN_TEXT_MAX + 2];
        const struct slice pattern = pattern_set_text(c->domains.patterns, probe->domain, text);
        if (pattern.data[0] == '*' || pattern.data[0] == '[')
            continue;
        slice_to_string(pattern, probe->subject, sizeof(probe->subject));
        probe->domain++;
        return true;
    }
    return false;
}

static void next_place(struct outbound_probe *probe)
{
    struct server_shard *server = server_of(probe);
    const struct route *route = &probe->connector->route;
    const bool by_mx = route_by_domain(route);
    probe->subject[0] = '\0';
    if (by_mx ? !next_domain(probe) : probe->place == route->hosts_count) {
        end(probe, !server->draining);
        return;
    }
    if (server->draining || probe->rows_count == PROBE_ROWS_MAX) {
        end(probe, false);
        return;
    }
    const struct route_host *host = &route->hosts[by_mx ? 0 : probe->place];
    probe->place = by_mx ? 1 : probe->place + 1;
    if (host->kind == ROUTE_HOST_MX_OF)
        snprintf(probe->subject, sizeof(probe->subject), "%s", host->name);
    const struct resolve_policy policy = resolve_policy_of(probe->generation->config, route);
    const struct resolve_hop hop = resolve_hop_of(route, host, probe->subject);
    probe->request = (struct resolve_request) { .resolved = on_resolved };
    if (resolve_start(&server->resolves, &policy, &hop, 1, &probe->request) < 0)
        end(probe, false); /* the next time, then */
}

void outbound_probe_asked(struct shard *shard, const struct handoff *handoff)
{
    struct server_shard *server = shard->owner;
    struct outbound_probe *probe = handoff->pointer;
    const struct config *config = server->generations.current->config;
    const struct outbound *connector =
        outbound_named(&config->outbound, slice_of_string(probe->name));
    list_push(&server->probes, &probe->node);
    task_init(&probe->task, answer);
    probe->shard = shard;
    probe->digest = 0;
    probe->rows_count = 0;
    probe->place = 0;
    probe->domain = 0;
    probe->client = NULL;
    probe->over = false;
    probe->generation = NULL;
    probe->request = (struct resolve_request) { .resolve = NULL };
    if (server->draining || connector == NULL || connector->state != CONNECTOR_TEST) {
        end(probe, false);
        return;
    }
    probe->generation = generation_use(&server->generations);
    probe->connector = connector;
    probe->digest = connector->digest;
    next_place(probe);
}

void outbound_probes_drain(struct server_shard *server)
{
    list_each_safe(node, &server->probes)
    {
        struct outbound_probe *probe = container_of(node, struct outbound_probe, node);
        if (probe->over)
            continue;
        if (probe->client != NULL) {
            smtp_client_abort(probe->client); /* gone() follows */
            continue;
        }
        resolve_forget(&server->resolves, &probe->request);
        end(probe, false);
    }
}
