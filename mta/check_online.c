/*
 * check_online.c - `ringpost check --online`: what outbound connectors ask for, and what there is
 *
 * L-21: dane = must, and hosts have no usable TLSA records now; mta-sts = none, and the domain has
 * a policy in mode enforce, which says that mail had better not come without it. DNS is asked as
 * the server does (mta/lookup.h), and the policy host at the addresses that it gave. One after the
 * other, each with its time-out. Where hosts are MX, the domains that a connector names are looked
 * at, ONLINE_DOMAINS_MAX of each; patterns name none.
 */
#include <stdio.h>
#include <string.h>

#include "core/compiler.h"
#include "mta/check.h"
#include "mta/lookup.h"
#include "mta/resolve_config.h"
#include "mta/sts_online.h"

enum {
    ONLINE_DOMAINS_MAX = 64,
    KEY_MAX = 128,
    WORDS_MAX = 512,
};

struct online {
    const struct config *config;
    struct config_report *report;
    const struct outbound *c;
    struct dns_options dns;
    struct lookup lookup;
};

static void PRINTF_LIKE(3, 4) warn(const struct online *o, const char *key, const char *format, ...)
{
    char where[KEY_MAX], words[WORDS_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof(words), format, arguments);
    va_end(arguments);
    snprintf(where, sizeof(where), "outbound \"%s\": %s", o->c->route.name, key);
    config_report_add(o->report, CONFIG_WARNING, o->config->file, o->c->route.line, where, "%s",
                      words);
}

/* False: said on standard error, or in o->lookup.why. */
static bool find(struct online *o, const struct route_host *host, const char *domain)
{
    const struct resolve_policy policy = resolve_policy_of(o->config, &o->c->route);
    const struct resolve_hop hop = resolve_hop_of(&o->c->route, host, domain);
    o->lookup.why[0] = '\0';
    return lookup_run(&o->dns, &policy, &hop, &o->lookup) == 0 &&
           o->lookup.result.verdict == RESOLVE_FOUND;
}

/* ---- dane = must ---- */

static void look_at_host(struct online *o, const struct route_host *host, const char *domain)
{
    const char *called = host->kind == ROUTE_HOST_MX ? domain : host->name;
    if (!find(o, host, domain)) {
        warn(o, "dane", "must, and the hosts of %s cannot be looked up: %s (L-21)", called,
             o->lookup.why);
        return;
    }
    const struct resolve_result *found = &o->lookup.result;
    for (unsigned i = 0; i < found->count; i++) {
        const struct lookup_dane *dane = &o->lookup.danes[i];
        if (dane->dane == HOST_DANE_USABLE ||
            (i > 0 && strcmp(found->targets[i].host, found->targets[i - 1].host) == 0))
            continue;
        warn(o, "dane",
             "must, and %s has no usable TLSA records now (%s%s%s), so it gets no mail (L-21); "
             "write may, or have its operator publish them",
             found->targets[i].host, host_dane_name(dane->dane), *dane->why == '\0' ? "" : ": ",
             dane->why);
    }
}

/* ---- mta-sts = none ---- */

/* No record, or a policy that cannot be had: then there is nothing that is passed over. */
static void look_at_policy(struct online *o, const char *domain)
{
    static struct sts_policy policy;
    char id[STS_ID_MAX], why[STS_ONLINE_WHY];
    if (sts_online(o->config, &o->dns, domain, &policy, id, why) != STS_ONLINE_FOUND ||
        policy.mode != STS_MODE_ENFORCE)
        return;
    warn(o, "mta-sts",
         "none, and %s has a policy in mode enforce, which mail passes over (L-21); write may",
         domain);
}

/* ---- all ---- */

static void look_at_domains(struct online *o, const struct route_host *host)
{
    const struct outbound_domains *domains = &o->c->domains;
    unsigned looked = 0;
    for (unsigned i = 0; domains->given && i < pattern_set_count(domains->patterns); i++) {
        char text[PATTERN_TEXT_MAX + 2];
        (void)pattern_set_text(domains->patterns, i, text);
        if (text[0] == '*' || text[0] == '[' || looked++ >= ONLINE_DOMAINS_MAX)
            continue;
        if (o->c->route.dane == DANE_MUST)
            look_at_host(o, host, text);
        if (!o->c->route.sts)
            look_at_policy(o, text);
    }
}

void check_online(const struct config *config, struct config_report *report)
{
    static struct online o;
    o = (struct online) { .config = config, .report = report, .dns = resolve_dns_options(config) };
    for (unsigned i = 0; i < config->outbound.count; i++) {
        o.c = &config->outbound.connectors[i];
        for (unsigned k = 0; o.c->state != CONNECTOR_OFF && k < o.c->route.hosts_count; k++) {
            const struct route_host *host = &o.c->route.hosts[k];
            if (host->kind == ROUTE_HOST_MX)
                look_at_domains(&o, host);
            else if (host->kind != ROUTE_HOST_ADDRESS && o.c->route.dane == DANE_MUST)
                look_at_host(&o, host, "");
        }
    }
}
