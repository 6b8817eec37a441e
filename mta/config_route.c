/*
 * config_route.c - route "title" { }, and the built-in one
 */
#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "mta/config_build.h"

enum { PORT_SMTP = 25, PORT_LMTP = 24 };

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
                              "a route needs one; write hosts = { \"mail.example.org:25\" } or "
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

static void route_build(struct config_builder *builder, const struct config_section *section,
                        struct route *route)
{
    config_title_check(section);
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
    route->allow_special = config_file_bool(section, "allow-private", false);
    route->ehlo = config_domain(builder, section, "ehlo", builder->config->delivery.ehlo);
    hosts_build(builder, section, route);
    sources_build(builder, section, route);
    config_route_tls(builder, section, route);
}

static const char *route_of_pattern(const struct config_builder *builder, uint32_t value)
{
    static _Thread_local char text[ROUTE_NAME_MAX + 16];
    snprintf(text, sizeof(text), "route \"%.*s\"", ROUTE_NAME_MAX,
             builder->config->routes[value].name);
    return text;
}

void config_build_default_route(struct config_builder *builder)
{
    struct route *route = &builder->config->default_route;
    struct route_host *host = config_take(builder, 1, sizeof(*host));
    if (host == NULL)
        return;
    *host = (struct route_host) { .kind = ROUTE_HOST_MX, .port = PORT_SMTP, .name = "" };
    *route = (struct route) { .name = "",
                              .index = ROUTES_MAX,
                              .hosts = host,
                              .hosts_count = 1,
                              .port = PORT_SMTP,
                              .ehlo = builder->config->delivery.ehlo };
    const struct config_section none = { .file = builder->file, .name = "delivery", .title = "" };
    config_route_tls(builder, &none, route);
}

void config_build_routes(struct config_builder *builder)
{
    struct config *config = builder->config;
    unsigned count =
        config_sections(builder, "route", ROUTES_MAX, "routes; join those with the same hosts");
    struct route *routes = config_take(builder, count, sizeof(*routes));
    struct pattern_set *patterns = config_take_patterns(builder);
    if (routes == NULL || patterns == NULL)
        return;
    config->routes = routes;
    config->routes_count = count;
    config->route_domains = patterns;
    for (unsigned i = 0; i < count; i++) {
        struct config_section section = config_file_section(builder->file, "route", i);
        routes[i].index = i;
        route_build(builder, &section, &routes[i]);
        config_patterns(builder, &section, "domains", patterns, i, route_of_pattern);
        unsigned given;
        if (config_file_list(&section, "domains", &given) == NULL && !builder->partial)
            config_file_warn(&section, "domains", 0,
                             "no domain, so no mail goes here; write domains = { d.example }");
    }
}
