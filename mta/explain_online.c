/*
 * explain_online.c - hosts in the order of a delivery, their TLSA records, the domain's policy, and
 * what follows from all of it
 *
 * The level of each host comes from the function that deliveries call (mta/host_policy.h), with the
 * facts as they are now: nothing that a server has cached. What it remembers of a host stands
 * beside it (mta/explain_known.c), and lowers or raises nothing here.
 * Bounds: EXPLAINED_HOSTS of a connector's own.
 */
#include "mta/explain_online.h"

#include <stdio.h>
#include <string.h>

#include "mta/cli.h"
#include "mta/explain_known.h"
#include "mta/host_policy.h"
#include "mta/lookup.h"
#include "mta/resolve_config.h"
#include "mta/sts_online.h"

enum { EXPLAINED_HOSTS = 16, WORDS_BYTES = 1'024 };

static struct {
    const struct config *config;
    const struct explain_way *way;
    struct dns_options dns;
    struct lookup lookup;
    enum sts_online found; /* of the policy */
    struct sts_policy policy;
    char id[STS_ID_MAX];
    char why[STS_ONLINE_WHY];
} look;

static json_t *policy_json(void)
{
    json_t *object = json_object(), *hosts = json_array();
    static const char *const states[] = {
        [STS_ONLINE_NONE] = "none", [STS_ONLINE_FAILED] = "failed", [STS_ONLINE_FOUND] = "found"
    };
    json_object_set_new(object, "state", cli_string(states[look.found]));
    json_object_set_new(object, "why", cli_string(look.why));
    if (look.found == STS_ONLINE_FOUND) {
        json_object_set_new(object, "mode",
                            cli_string(sts_mode_name((enum sts_mode)look.policy.mode)));
        json_object_set_new(object, "id", cli_string(look.id));
        json_object_set_new(object, "max_age_s", json_integer(look.policy.max_age_s));
        for (const char *mx = NULL; (mx = sts_policy_pattern(&look.policy, mx)) != NULL;)
            json_array_append_new(hosts, cli_string(mx));
    }
    json_object_set_new(object, "mx", hosts);
    return object;
}

static json_t *records_json(const struct lookup_dane *dane)
{
    json_t *records = json_array();
    for (unsigned i = 0; dane->dane == HOST_DANE_USABLE && i < dane->set.count; i++) {
        char text[TLS_DANE_TEXT_MAX];
        tls_dane_text(&dane->set, i, text);
        json_array_append_new(records, cli_string(text));
    }
    return records;
}

/* As link_policy has it. */
static struct host_policy policy_of(const struct resolve_target *target,
                                    const struct lookup_dane *dane)
{
    const struct route *route = look.way->route;
    const bool tls = route->tls.level != TLS_LEVEL_NONE;
    const bool sts = look.found == STS_ONLINE_FOUND && route->sts;
    const struct host_policy_facts facts = {
        .connector = route_floor(route),
        .floor = look.way->floor,
        .dane_mode = route->dane,
        .dane = tls && route->dane != DANE_NONE ? dane->dane : HOST_DANE_OFF,
        .sts = !sts                                   ? HOST_STS_NONE
               : look.policy.mode == STS_MODE_ENFORCE ? HOST_STS_ENFORCE
               : look.policy.mode == STS_MODE_TESTING ? HOST_STS_TESTING
                                                      : HOST_STS_NONE,
        .sts_lists = sts && sts_policy_lists(&look.policy, target->host),
        .mx_secure = target->mx_secure,
        .message = look.way->requiretls ? MESSAGE_REQUIRETLS : 0U,
    };
    return host_policy(&facts);
}

static json_t *host_json(const struct resolve_target *target, const struct lookup_dane *dane)
{
    char address[NET_TEXT_MAX], governors[HOST_GOVERNORS_TEXT_MAX];
    const struct host_policy policy = policy_of(target, dane);
    json_t *object = json_object();
    net_text(&target->address, true, address);
    host_governors_text(policy.governors, governors);
    json_object_set_new(object, "host", cli_string(target->host));
    json_object_set_new(object, "address", cli_string(address));
    json_object_set_new(object, "preference", json_integer(target->rank & UINT16_MAX));
    json_object_set_new(object, "dnssec", json_boolean(target->secure));
    json_object_set_new(object, "dane", cli_string(host_dane_name(dane->dane)));
    json_object_set_new(object, "dane_why", cli_string(dane->why));
    json_object_set_new(object, "tlsa", records_json(dane));
    json_object_set_new(object, "level", cli_string(tls_level_name(policy.level)));
    json_object_set_new(object, "must_dane", json_boolean(policy.dane));
    json_object_set_new(object, "must_sts", json_boolean(policy.sts));
    json_object_set_new(object, "by", cli_string(governors));
    json_object_set_new(object, "memory",
                        explain_memory(look.config, target,
                                       route_by_domain(look.way->route) ? look.way->domain : ""));
    json_object_set_new(
        object, "refused",
        cli_string(policy.token == FAULT_NONE ? "" : outbound_token_row(policy.token)->words));
    return object;
}

static bool is_first_of_host(unsigned index)
{
    const struct resolve_target *targets = look.lookup.result.targets;
    for (unsigned i = 0; i < index; i++)
        if (*targets[index].host != '\0' && strcmp(targets[i].host, targets[index].host) == 0)
            return false;
    return true;
}

/* False: said on standard error. */
static bool look_at(const struct route_host *host, json_t *hosts, json_t *object)
{
    const struct route *route = look.way->route;
    const struct resolve_policy policy = resolve_policy_of(look.config, route);
    const struct resolve_hop hop = resolve_hop_of(route, host, look.way->domain);
    memset(look.lookup.danes, 0, sizeof(look.lookup.danes));
    if (lookup_run(&look.dns, &policy, &hop, &look.lookup) < 0)
        return false;
    if (look.lookup.result.verdict != RESOLVE_FOUND)
        json_object_set_new(object, "why", cli_string(look.lookup.why));
    for (unsigned i = 0;
         look.lookup.result.verdict == RESOLVE_FOUND && i < look.lookup.result.count; i++)
        if (is_first_of_host(i))
            json_array_append_new(hosts,
                                  host_json(&look.lookup.result.targets[i], &look.lookup.danes[i]));
    if (json_object_get(object, "source") == NULL && look.lookup.result.verdict == RESOLVE_FOUND)
        json_object_set_new(
            object, "source",
            explain_source(route, look.lookup.result.targets, look.lookup.result.count));
    return true;
}

static json_t *throttle_json(void)
{
    const struct explain_way *way = look.way;
    char key[ROUTE_KEY_BYTES];
    const enum route_wish wish = !way->requiretls   ? ROUTE_WISH_NONE
                                 : way->null_sender ? ROUTE_WISH_REQUIRETLS_NULL
                                                    : ROUTE_WISH_REQUIRETLS;
    (void)route_key(way->route, slice_of_string(way->domain), way->floor, wish, key);
    return explain_throttle(look.config, way->route, key);
}

json_t *explain_online(const struct config *config, const struct explain_way *way)
{
    const struct route *route = way->route;
    json_t *object = json_object(), *hosts = json_array();
    look.config = config;
    look.way = way;
    look.dns = resolve_dns_options(config);
    look.found = STS_ONLINE_NONE;
    look.why[0] = '\0';
    json_object_set_new(object, "hosts", hosts);
    json_object_set_new(object, "why", cli_string(""));
    if (route->sts && route_by_domain(route) && *way->domain != '\0' && *way->domain != '[')
        look.found = sts_online(config, &look.dns, way->domain, &look.policy, look.id, look.why);
    bool looked = true;
    for (unsigned i = 0; looked && i < MIN(route->hosts_count, (unsigned)EXPLAINED_HOSTS); i++)
        looked = look_at(&route->hosts[i], hosts, object);
    json_object_set_new(object, "mta-sts", policy_json());
    if (json_object_get(object, "source") == NULL)
        json_object_set_new(object, "source", explain_source(route, NULL, 0));
    json_object_set_new(object, "throttle", throttle_json());
    if (looked)
        return object;
    json_decref(object);
    return NULL;
}

/* ---- for people ---- */

static void print_host(const json_t *host)
{
    char words[WORDS_BYTES];
    const char *refused = cli_text(host, "refused"), *why = cli_text(host, "dane_why");
    snprintf(words, sizeof(words), "%lld %s at %s%s",
             (long long)json_integer_value(json_object_get(host, "preference")),
             cli_text(host, "host"), cli_text(host, "address"),
             json_is_true(json_object_get(host, "dnssec")) ? ", secure" : "");
    cli_line("host", words);
    snprintf(words, sizeof(words), "%s%s%s", cli_text(host, "dane"), *why != '\0' ? ": " : "", why);
    cli_line("  dane", words);
    cli_line_list("  tlsa", json_object_get(host, "tlsa"));
    snprintf(words, sizeof(words), "%s%s%s (%s)", cli_text(host, "level"),
             json_is_true(json_object_get(host, "must_dane")) ? " + DANE" : "",
             json_is_true(json_object_get(host, "must_sts")) ? " + MTA-STS" : "",
             cli_text(host, "by"));
    cli_line("  floor", *refused != '\0' ? refused : words);
    explain_memory_print(json_object_get(host, "memory"));
}

static void print_policy(const json_t *policy)
{
    const json_t *each;
    char words[WORDS_BYTES];
    size_t index;
    if (strcmp(cli_text(policy, "state"), "found") != 0) {
        snprintf(words, sizeof(words), "%s%s%s", cli_text(policy, "state"),
                 *cli_text(policy, "why") != '\0' ? ": " : "", cli_text(policy, "why"));
        cli_line("mta-sts now", words);
        return;
    }
    int size = snprintf(words, sizeof(words), "%s, id %s", cli_text(policy, "mode"),
                        cli_text(policy, "id"));
    json_array_foreach(json_object_get(policy, "mx"), index, each)
    {
        if ((size_t)size < sizeof(words))
            size += snprintf(words + size, sizeof(words) - (size_t)size, "%s %s",
                             index == 0 ? ", mx" : "", json_string_value(each));
    }
    cli_line("mta-sts now", words);
}

void explain_online_print(const json_t *online)
{
    const json_t *each;
    size_t index;
    if (!json_is_object(online))
        return;
    json_array_foreach(json_object_get(online, "hosts"), index, each) print_host(each);
    if (*cli_text(online, "why") != '\0')
        cli_line("hosts", cli_text(online, "why"));
    print_policy(json_object_get(online, "mta-sts"));
    explain_source_print(json_object_get(online, "source"));
    explain_throttle_print(json_object_get(online, "throttle"));
}
