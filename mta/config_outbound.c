/*
 * config_outbound.c - outbound "title" { }, rule "title" { }, and the built-in route
 *
 * Connectors and rules are built in the order of (cost, name), whatever the order in the file, so
 * that whoever looks for one takes the first that fits.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/address.h"
#include "mta/config_build.h"
#include "mta/connector_names.h"

enum { PORT_SMTP = 25, PORT_LMTP = 24, AGE_MIN_MS = 1'000 };
#define AGE_MAX_MS (UINT64_C(365) * 24 * 3'600 * 1'000)

static const char *const protocols[] = { [ROUTE_SMTP] = "smtp", [ROUTE_LMTP] = "lmtp", NULL };
static const char *const orders[] = {
    [ROUTE_LISTED] = "listed", [ROUTE_BALANCED] = "balanced", NULL
};

static bool host_read(struct config_builder *builder, const struct config_section *section,
                      const struct config_value *value, uint16_t port, struct route_host *host)
{
    char name[ROUTE_HOST_TEXT_MAX];
    const char *why = "no host";
    int r = route_host_parse(slice_of_string(value->text), name, host, &why);
    if (r == -ENOMEM)
        builder->out_of_memory = true;
    if (r < 0) {
        config_file_error(section, "hosts", value->line, "`%.64s`: %s", value->text, why);
        return false;
    }
    if (*host->name != '\0')
        host->name = config_take_string(builder, name);
    if (host->port == 0)
        host->port = port;
    if (host->kind == ROUTE_HOST_ADDRESS)
        host->address.port = host->port;
    return true;
}

static void hosts_build(struct config_builder *builder, const struct config_section *section,
                        struct route *route)
{
    unsigned count;
    const struct config_value *values = config_file_list(section, "hosts", &count);
    if (count == 0) {
        if (!builder->partial)
            config_file_error(section, "hosts", 0,
                              "a connector needs one; write hosts = { \"mail.example.org:25\" } or "
                              "{ mx }");
        return;
    }
    if (count > ROUTE_HOSTS_MAX) {
        config_file_error(section, "hosts", values[ROUTE_HOSTS_MAX].line,
                          "more than %d hosts; put them behind one name", ROUTE_HOSTS_MAX);
        count = ROUTE_HOSTS_MAX;
    }
    struct route_host *hosts = config_take(builder, count, sizeof(*hosts));
    if (hosts == NULL)
        return;
    for (unsigned i = 0; i < count; i++) {
        struct route_host *host = &hosts[route->hosts_count];
        if (!host_read(builder, section, &values[i], route->port, host))
            continue;
        if (host->kind == ROUTE_HOST_MX && count > 1)
            config_file_error(
                section, "hosts", values[i].line,
                "mx stands alone in its list; write mx:DOMAIN for somebody's MX hosts "
                "among others");
        else
            route->hosts_count++;
    }
    route->hosts = hosts;
}

static void sources_build(struct config_builder *builder, const struct config_section *section,
                          struct route *route)
{
    unsigned count;
    const struct net_address *all =
        config_addresses(builder, section, "source-addresses", ROUTE_SOURCES_MAX, 0, &count);
    struct net_address *v4 = config_take(builder, count, sizeof(*v4));
    struct net_address *v6 = config_take(builder, count, sizeof(*v6));
    if (all == NULL || v4 == NULL || v6 == NULL)
        return;
    for (unsigned i = 0; i < count; i++) {
        if (net_is_v4(&all[i]))
            v4[route->sources_v4_count++] = all[i];
        else
            v6[route->sources_v6_count++] = all[i];
    }
    route->sources_v4 = v4;
    route->sources_v6 = v6;
}

/* Without tls-max-age and max-age those of delivery hold, which is told by 0. */
static void ages_build(const struct config_builder *builder, const struct config_section *section,
                       struct route *route)
{
    route->age_max_ms = config_file_time(section, "max-age", AGE_MIN_MS, AGE_MAX_MS, 0);
    route->tls_age_max_ms = config_file_time(section, "tls-max-age", AGE_MIN_MS, AGE_MAX_MS, 0);
    uint64_t most =
        route->age_max_ms != 0 ? route->age_max_ms : builder->config->delivery.age_max_ms;
    if (route->tls_age_max_ms > most)
        config_file_error(section, "tls-max-age", 0,
                          "is longer than mail may wait at all (max-age); lower it, or raise "
                          "max-age");
}

/* RFC 6066 3: a name, and no address. NULL: what each host is called. */
static const char *server_name_build(struct config_builder *builder,
                                     const struct config_section *section)
{
    const char *text = config_file_text(section, "sni", "host");
    if (strcmp(text, "host") == 0)
        return NULL;
    return strcmp(text, "none") == 0 ? "" : config_domain(builder, section, "sni", "");
}

/* How the next hop is reached. */
static void route_build(struct config_builder *builder, const struct config_section *section,
                        struct route *route)
{
    route->name = config_take_string(builder, section->title);
    route->line = section->line;
    route->protocol =
        (enum route_protocol)config_file_choice(section, "protocol", protocols, ROUTE_SMTP);
    uint64_t usual = route->protocol == ROUTE_LMTP ? PORT_LMTP : PORT_SMTP;
    route->port = (uint16_t)config_file_number(section, "port", 1, 65'535, usual);
    route->order =
        (enum route_order)config_file_choice(section, "host-order", orders, ROUTE_LISTED);
    route->connections_max =
        (unsigned)config_file_number(section, "max-connections", 0, 1'000'000, 0);
    route->messages_max =
        (unsigned)config_file_number(section, "max-per-connection", 0, 1'000'000, 0);
    route->rate_max = (unsigned)config_file_number(section, "max-rate", 0, 60'000'000, 0);
    route->allow_special = config_file_bool(section, "allow-private", false);
    ages_build(builder, section, route);
    route->server_name = server_name_build(builder, section);
    route->ehlo = config_domain(builder, section, "ehlo", builder->config->delivery.ehlo);
    hosts_build(builder, section, route);
    sources_build(builder, section, route);
    config_route_tls(builder, section, route);
}

void config_build_default_route(struct config_builder *builder)
{
    struct route *route = &builder->config->default_route;
    struct route_host *host = config_take(builder, 1, sizeof(*host));
    if (host == NULL)
        return;
    *host = (struct route_host) { .kind = ROUTE_HOST_MX, .port = PORT_SMTP, .name = "" };
    *route = (struct route) { .name = "",
                              .hosts = host,
                              .hosts_count = 1,
                              .port = PORT_SMTP,
                              .ehlo = builder->config->delivery.ehlo };
    const struct config_section none = { .file = builder->file, .name = "delivery", .title = "" };
    config_route_tls(builder, &none, route);
}

/* ---- the order of sections ---- */

struct order {
    const char *title;
    unsigned cost;
    unsigned section;
};

static int order_compare(const void *left, const void *right)
{
    const struct order *a = left;
    const struct order *b = right;
    return a->cost != b->cost ? (a->cost > b->cost) - (a->cost < b->cost)
                              : strcmp(a->title, b->title);
}

/* The sections of this name by (cost, title). NULL: there is none, or no memory. */
static const struct order *sections_sorted(struct config_builder *builder, const char *name,
                                           unsigned max, unsigned *out)
{
    unsigned count = config_sections(builder, name, max, "of them; join those that say the same");
    *out = 0;
    struct order *orders_of = count == 0 ? NULL : config_take(builder, count, sizeof(*orders_of));
    if (orders_of == NULL)
        return NULL;
    for (unsigned i = 0; i < count; i++) {
        struct config_section section = config_file_section(builder->file, name, i);
        orders_of[i] = (struct order) {
            .title = section.title,
            .cost = config_connector_cost(&section),
            .section = i,
        };
    }
    qsort(orders_of, count, sizeof(*orders_of), order_compare);
    *out = count;
    return orders_of;
}

/* ---- lists that say for which mail ---- */

/* The patterns of a list without the word all-own, which stands for domains of ours. */
struct outbound_domains config_domains(struct config_builder *builder,
                                       const struct config_section *section, const char *key)
{
    unsigned count;
    const struct config_value *values = config_file_list(section, key, &count);
    struct outbound_domains domains = { .given = count > 0 };
    struct pattern_set *patterns = count > 0 ? config_take_patterns(builder) : NULL;
    for (unsigned i = 0; i < count && patterns != NULL; i++) {
        if (strcmp(values[i].text, "all-own") == 0)
            domains.own = true;
        else
            config_pattern(builder, section, key, &values[i], patterns);
    }
    domains.patterns = patterns;
    return domains;
}

static struct outbound_labels labels_build(struct config_builder *builder,
                                           const struct config_section *section, const char *key)
{
    struct outbound_labels none = { .count = 0 };
    unsigned count;
    const struct config_value *values = config_file_list(section, key, &count);
    if (count > OUTBOUND_LABELS_MAX) {
        config_file_error(section, key, values[OUTBOUND_LABELS_MAX].line,
                          "more than %d labels; give one to several connectors",
                          OUTBOUND_LABELS_MAX);
        count = OUTBOUND_LABELS_MAX;
    }
    const char **labels = config_take(builder, count, sizeof(*labels));
    if (labels == NULL)
        return none;
    for (unsigned i = 0; i < count; i++)
        labels[i] = config_label(builder, section, key, &values[i]);
    return (struct outbound_labels) { labels, count };
}

/* ---- outbound "title" { } ---- */

static const char *const scopes[] = { "any", "rule", NULL };
static const char *const when_unavailable[] = { "defer", "bounce", NULL };
static const char *const header_words[] = { "strip", "keep", NULL };

static void selection_check(struct config_builder *builder, const struct config_section *section,
                            const struct outbound *c)
{
    if (c->type == CONNECTOR_PARTNER && c->domains.own)
        config_file_error(section, "domains", 0,
                          "all-own is our own mail, which no partner gets; write type = own, or "
                          "name the domains");
    if (c->type == CONNECTOR_PARTNER && c->all_mail)
        config_file_error(section, "all-mail", 0,
                          "is for servers of ours, not for a partner; write type = own");
    if (c->by_rule && (c->domains.given || c->all_mail))
        config_file_error(section, "scope", 0,
                          "rule: only a rule brings mail here, so domains and all-mail have no "
                          "effect; remove them, or this line");
    struct pattern_match match;
    if (c->domains.given && c->route.tls.level == TLS_LEVEL_NONE &&
        pattern_set_find(c->domains.patterns, SLICE("any.invalid"), &match) &&
        match.kind == PATTERN_ALL)
        config_file_error(section, "tls", 0,
                          "none sends mail for * in clear to everybody; name the domains, or write "
                          "tls = may (L-20)");
    if (!c->domains.given && !c->by_rule && !c->all_mail && !builder->partial)
        config_file_warn(section, "domains", 0,
                         "no domain, so no mail goes here; write domains = { d.example }, or scope "
                         "= rule");
}

static void connector_build(struct config_builder *builder, const struct config_section *section,
                            struct outbound *c)
{
    route_build(builder, section, &c->route);
    config_connector_head(builder, section, &c->type, &c->state);
    c->digest = config_file_digest(section, "state");
    c->by_rule = config_file_choice(section, "scope", scopes, 0) == 1;
    c->all_mail = config_file_bool(section, "all-mail", false);
    c->bounces = config_file_choice(section, "on-unavailable", when_unavailable, 0) == 1;
    c->sticky = config_file_bool(section, "sticky", true);
    c->route.keeps_fields = config_file_choice(section, "headers", header_words, 0) == 1;
    if (c->route.keeps_fields && c->type == CONNECTOR_PARTNER)
        config_file_error(section, "headers", 0,
                          "keep would show partners fields that are between servers of ours; write "
                          "type = own, or strip");
    c->size_max = config_file_size(section, "max-size", 0, UINT64_C(1) << 40, 0);
    c->label = config_label(builder, section, "label", config_file_single(section, "label"));
    c->domains = config_domains(builder, section, "domains");
    c->senders = config_domains(builder, section, "sender-domains");
    c->from_labels = labels_build(builder, section, "from-labels");
    selection_check(builder, section, c);
}

static void connectors_build(struct config_builder *builder, struct outbound_set *set)
{
    unsigned count;
    const struct order *sorted = sections_sorted(builder, "outbound", CONNECTORS_MAX, &count);
    struct outbound *connectors = config_take(builder, count, sizeof(*connectors));
    builder->config->outbound_slots =
        config_take(builder, count, sizeof(*builder->config->outbound_slots));
    if (connectors == NULL)
        return;
    for (unsigned i = 0; i < count; i++) {
        struct config_section section =
            config_file_section(builder->file, "outbound", sorted[i].section);
        connectors[i].route.index = i;
        connectors[i].cost = sorted[i].cost;
        connector_build(builder, &section, &connectors[i]);
        set->has_tests = set->has_tests || connectors[i].state == CONNECTOR_TEST;
    }
    set->connectors = connectors;
    set->count = count;
}

/* ---- the index ---- */

static void names_index(struct config_builder *builder, struct outbound_set *set)
{
    set->by_name_mask = connector_name_places(set->count) - 1;
    uint32_t *by_name = config_take(builder, set->by_name_mask + 1, sizeof(*by_name));
    if (by_name == NULL) {
        set->count = 0;
        return;
    }
    for (unsigned i = 0; i < set->count; i++)
        connector_name_put(by_name, set->by_name_mask, set->connectors[i].route.name, i);
    set->by_name = by_name;
}

static bool is_all_own(const struct outbound *c)
{
    return c->domains.own;
}

static bool is_all_mail(const struct outbound *c)
{
    return c->all_mail;
}

static bool is_listed(const struct outbound *c)
{
    return c->state != CONNECTOR_OFF && !c->by_rule;
}

static struct outbound_list list_of(struct config_builder *builder, const struct outbound_set *set,
                                    bool (*belongs)(const struct outbound *c))
{
    struct outbound_list list = { .count = 0 };
    for (unsigned i = 0; i < set->count; i++)
        list.count += is_listed(&set->connectors[i]) && belongs(&set->connectors[i]);
    uint32_t *members = config_take(builder, list.count, sizeof(*members));
    if (members == NULL)
        return (struct outbound_list) { .count = 0 };
    unsigned at = 0;
    for (unsigned i = 0; i < set->count; i++)
        if (is_listed(&set->connectors[i]) && belongs(&set->connectors[i]))
            members[at++] = i;
    list.members = members;
    return list;
}

struct pair {
    uint32_t list;
    uint32_t connector;
};

/* All patterns into one set, each with the list that it stands for. How many pairs. */
static unsigned pairs_find(struct config_builder *builder, const struct outbound_set *set,
                           struct pattern_set *patterns, struct pair *pairs)
{
    unsigned count = 0;
    for (unsigned i = 0; i < set->count; i++) {
        const struct outbound *c = &set->connectors[i];
        unsigned own =
            !is_listed(c) || !c->domains.given ? 0 : pattern_set_count(c->domains.patterns);
        for (unsigned k = 0; k < own; k++) {
            char text[PATTERN_TEXT_MAX + 2];
            const char *why;
            uint32_t list = pattern_set_count(patterns);
            int r = pattern_set_add(patterns, pattern_set_text(c->domains.patterns, k, text), list,
                                    &list, &why);
            if (r == -ENOMEM)
                builder->out_of_memory = true;
            if (r == -ENOSPC) {
                config_report_add(builder->report, CONFIG_ERROR, builder->config->file,
                                  c->route.line, "outbound", "%s", why);
                return count;
            }
            if (r == 0 || r == -EEXIST)
                pairs[count++] = (struct pair) { list, i };
        }
    }
    return count;
}

static void patterns_index(struct config_builder *builder, struct outbound_set *set)
{
    struct pattern_set *patterns = config_take_patterns(builder);
    unsigned most = 0;
    for (unsigned i = 0; i < set->count; i++)
        if (set->connectors[i].domains.given)
            most += pattern_set_count(set->connectors[i].domains.patterns);
    struct pair *pairs = config_take(builder, most, sizeof(*pairs));
    uint32_t *members = config_take(builder, most, sizeof(*members));
    if (patterns == NULL || pairs == NULL || members == NULL)
        return;
    unsigned count = pairs_find(builder, set, patterns, pairs);
    struct outbound_list *lists = config_take(builder, pattern_set_count(patterns), sizeof(*lists));
    if (lists == NULL)
        return;
    for (unsigned i = 0; i < count; i++)
        lists[pairs[i].list].count++;
    for (unsigned i = 0, at = 0; i < pattern_set_count(patterns); i++) {
        lists[i].members = &members[at];
        at += lists[i].count;
        lists[i].count = 0;
    }
    for (unsigned i = 0; i < count; i++) { /* in the order of connectors */
        struct outbound_list *list = &lists[pairs[i].list];
        members[(list->members - members) + list->count++] = pairs[i].connector;
    }
    set->patterns = patterns;
    set->lists = lists;
}

/* ---- rule "title" { } ---- */

static const char *const require_levels[] = {
    [TLS_LEVEL_NONE] = "none",   [TLS_LEVEL_MAY] = "may",   [TLS_LEVEL_ENCRYPT] = "encrypt",
    [TLS_LEVEL_CHAIN] = "chain", [TLS_LEVEL_NAME] = "name", NULL,
};

/* NULL: there is none by that name, which is an error, unless the key is not given. */
static const struct outbound *rule_connector(struct config_builder *builder,
                                             const struct config_section *section, const char *key)
{
    const struct config_value *value = config_file_single(section, key);
    const struct outbound *found =
        value == NULL ? NULL
                      : outbound_named(&builder->config->outbound, slice_of_string(value->text));
    if (value != NULL && found == NULL && !builder->partial)
        config_file_error(section, key, value->line,
                          "there is no outbound \"%.64s\" { .. }; name a connector", value->text);
    return found;
}

static void copy_build(struct config_builder *builder, const struct config_section *section,
                       struct outbound_rule *rule)
{
    const struct config_value *to = config_file_single(section, "copy-to");
    struct address address;
    rule->copy_via = rule_connector(builder, section, "copy-via");
    if (to == NULL && !config_file_given(section, "copy-via"))
        return;
    if (to == NULL || !config_file_given(section, "copy-via")) {
        if (!builder->partial)
            config_file_error(section, to == NULL ? "copy-to" : "copy-via", 0,
                              "is missing; a copy needs copy-to = ADDRESS and copy-via = "
                              "CONNECTOR");
        return;
    }
    if (address_parse(slice_of_string(to->text), 0, &address) != ADDRESS_OK)
        config_file_error(section, "copy-to", to->line,
                          "`%.64s` is no address; write archive@example.org", to->text);
    else if (rule->copy_via != NULL)
        rule->copy_to = config_take_string(builder, to->text);
}

static enum outbound_if if_build(const struct config_section *section, const char *key)
{
    if (!config_file_given(section, key))
        return OUTBOUND_EITHER;
    return config_file_bool(section, key, false) ? OUTBOUND_YES : OUTBOUND_NO;
}

static void rule_build(struct config_builder *builder, const struct config_section *section,
                       struct outbound_rule *rule)
{
    config_title_check(section);
    rule->name = config_take_string(builder, section->title);
    rule->line = section->line;
    rule->senders = config_domains(builder, section, "if-sender-domain");
    rule->recipients = config_domains(builder, section, "if-recipient-domain");
    rule->labels = labels_build(builder, section, "if-label");
    rule->asks_size = config_file_given(section, "if-size-over");
    rule->size_over = config_file_size(section, "if-size-over", 0, UINT64_C(1) << 40, 0);
    rule->tls = if_build(section, "if-tls");
    rule->requiretls = if_build(section, "if-requiretls");
    rule->require = (enum tls_level)config_file_choice(section, "require", require_levels, 0);
    rule->use = rule_connector(builder, section, "use");
    rule->class = config_class_named(builder, section, "class");
    copy_build(builder, section, rule);
    bool does = config_file_given(section, "use") || config_file_given(section, "class") ||
                config_file_given(section, "copy-to") || config_file_given(section, "copy-via") ||
                rule->require != TLS_LEVEL_NONE;
    if (!does && !builder->partial)
        config_file_warn(section, "", 0,
                         "does nothing; write use = CONNECTOR, copy-to and copy-via, class = "
                         "CLASS, or require = encrypt, chain or name");
}

static void rules_build(struct config_builder *builder, struct outbound_set *set)
{
    unsigned count;
    const struct order *sorted = sections_sorted(builder, "rule", OUTBOUND_RULES_MAX, &count);
    struct outbound_rule *rules = config_take(builder, count, sizeof(*rules));
    if (rules == NULL)
        return;
    for (unsigned i = 0; i < count; i++) {
        struct config_section section =
            config_file_section(builder->file, "rule", sorted[i].section);
        rules[i].cost = sorted[i].cost;
        rule_build(builder, &section, &rules[i]);
        set->has_copies = set->has_copies || rules[i].copy_to != NULL;
        set->has_classes = set->has_classes || *rules[i].class != '\0';
    }
    set->rules = rules;
    set->rules_count = count;
}

/* Of a file that was written before connectors. */
static void routes_refuse(struct config_builder *builder)
{
    for (unsigned i = 0; i < config_file_count(builder->file, "route"); i++) {
        struct config_section section = config_file_section(builder->file, "route", i);
        config_file_error(&section, "", 0,
                          "routes are outbound connectors now; write outbound \"%.64s\" { type = "
                          "partner state = enforce .. } with the same keys (type = own for servers "
                          "of yours)",
                          section.title);
    }
}

void config_build_outbound(struct config_builder *builder)
{
    struct outbound_set *set = &builder->config->outbound;
    set->own = builder->config->relay.domains;
    set->default_route = &builder->config->default_route;
    routes_refuse(builder);
    connectors_build(builder, set);
    names_index(builder, set);
    patterns_index(builder, set);
    set->all_own = list_of(builder, set, is_all_own);
    set->all_mail = list_of(builder, set, is_all_mail);
    rules_build(builder, set);
}
