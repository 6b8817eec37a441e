/*
 * check.c - `ringpost check`: all errors and warnings of a configuration, for people or as JSON
 *
 * Lint reads the file system and nothing else: no DNS, no network. What needs the network to be
 * known is asked for by --online only (check_online.c).
 */
#include "mta/check.h"

#include <errno.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mta/config.h"
#include "mta/memory_plan.h"

enum { LINT_KEY_MAX = 128, WIDE_V4_BITS = 8, WIDE_V6_BITS = 16 };

const char *check_default_path(void)
{
    return "/etc/ringpost/ringpost.conf";
}

/* ---- lint ---- */

/* Bits of its own family: a /0 of IPv4 is a /96 of the 16 octets. */
static unsigned family_bits(const struct net_prefix *prefix, bool *v4)
{
    struct net_address address = { .port = 0 };
    memcpy(address.octets, prefix->octets, sizeof(address.octets));
    *v4 = prefix->bits >= 96 && net_is_v4(&address);
    return *v4 ? prefix->bits - 96U : prefix->bits;
}

/* All of IPv4, all of IPv6 that is in use (2000::/3), or a large part of either. */
static bool is_everybody(const struct net_prefix *prefix)
{
    bool v4;
    return family_bits(prefix, &v4) <= 3;
}

static void prefix_text(const struct net_prefix *prefix, char out[NET_TEXT_MAX + 8])
{
    struct net_address address = { .port = 0 };
    memcpy(address.octets, prefix->octets, sizeof(address.octets));
    char text[NET_TEXT_MAX];
    net_text(&address, false, text);
    bool v4;
    snprintf(out, NET_TEXT_MAX + 8, "%s/%u", text, family_bits(prefix, &v4));
}

/* Half the Internet may relay: an open relay, however it is written (0.0.0.0/1 and its other half
 * too). Less than that and still very wide is a warning. */
static void lint_relay(const struct config *config, struct config_report *report)
{
    const struct networks *networks = config->relay.networks;
    bool open = false;
    for (unsigned i = 0; i < networks_count(networks); i++) {
        const struct net_prefix *prefix = networks_prefix(networks, i);
        char text[NET_TEXT_MAX + 8];
        bool v4;
        unsigned bits = family_bits(prefix, &v4);
        prefix_text(prefix, text);
        if (is_everybody(prefix)) {
            open = true;
            if (!config->relay.open_relay)
                config_report_add(report, CONFIG_ERROR, config->file, 0, "relay: networks",
                                  "%s makes this an open relay, which spammers find within hours; "
                                  "list your own networks (or write i-run-an-open-relay = yes)",
                                  text);
        } else if (bits < (v4 ? WIDE_V4_BITS : WIDE_V6_BITS)) {
            config_report_add(report, CONFIG_WARNING, config->file, 0, "relay: networks",
                              "%s is very wide for networks that may send anywhere; list your own",
                              text);
        }
    }
    struct pattern_match match;
    if (pattern_set_find(config->relay.domains, SLICE("any.invalid"), &match) &&
        match.kind == PATTERN_ALL && !config->relay.open_relay)
        config_report_add(report, CONFIG_ERROR, config->file, 0, "relay: domains",
                          "* accepts mail for every domain from everybody: an open relay; list "
                          "your own domains (or write i-run-an-open-relay = yes)");
    if (config->relay.open_relay && !open && match.kind != PATTERN_ALL)
        config_report_add(report, CONFIG_WARNING, config->file, 0, "relay: i-run-an-open-relay",
                          "is yes without a network or domain that needs it; remove it");
}

static bool is_wildcard(const struct net_address *address)
{
    static const uint8_t zeros[16];
    size_t octets = net_is_v4(address) ? 4 : 16;
    return memcmp(address->octets + 16 - octets, zeros, octets) == 0;
}

static void lint_listeners(const struct config *config, struct config_report *report)
{
    bool domains = pattern_set_count(config->relay.domains) > 0;
    bool networks = networks_count(config->relay.networks) > 0;
    for (unsigned i = 0; i < config->listeners_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        char key[LINT_KEY_MAX];
        snprintf(key, sizeof(key), "listener \"%.64s\"", listener->name);
        bool public = false;
        for (unsigned k = 0; k < listener->addresses_count; k++)
        public = public || is_wildcard(&listener->addresses[k]) ||
                 !net_is_special(&listener->addresses[k]);
        if (!domains && !(networks && listener->relay))
            config_report_add(report, CONFIG_WARNING, config->file, listener->line, key,
                              "will refuse all mail; list your domains in relay { domains }, or "
                              "clients in relay { networks }");
        else if (public && !domains)
            config_report_add(report, CONFIG_WARNING, config->file, listener->line, key,
                              "listens on a public address without a domain to accept mail for; "
                              "list them in relay { domains }, or listen on an inner address");
        for (unsigned k = 0; k < networks_count(listener->proxy_from); k++)
            if (is_everybody(networks_prefix(listener->proxy_from, k)))
                config_report_add(report, CONFIG_ERROR, config->file, listener->line, key,
                                  "proxy-from trusts everybody to tell the client's address; list "
                                  "the load balancers");
    }
}

/* Whether connecting to address would reach a listener of ours. */
static const struct config_listener *listener_at(const struct config *config,
                                                 const struct net_address *address, bool here)
{
    for (unsigned i = 0; i < config->listeners_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        for (unsigned k = 0; k < listener->addresses_count; k++) {
            const struct net_address *own = &listener->addresses[k];
            if (own->port != address->port)
                continue;
            if (net_equal(own, address))
                return listener;
            if (!here && net_is_loopback(address))
                continue;
            /* behind a wildcard is what is known to be ours */
            bool ours = net_is_loopback(address);
            for (unsigned n = 0; n < config->delivery.own_addresses_count; n++)
                ours = ours || net_equal_host(&config->delivery.own_addresses[n], address);
            bool family = net_is_v4(own) == net_is_v4(address);
            if (ours && family && is_wildcard(own))
                return listener;
        }
    }
    return NULL;
}

const struct config_listener *check_listener_of(const struct config *config,
                                                const struct route_host *host, bool here)
{
    if (host->kind == ROUTE_HOST_ADDRESS)
        return listener_at(config, &host->address, here);
    if (host->kind != ROUTE_HOST_NAME)
        return NULL;
    bool local = strcmp(host->name, "localhost") == 0;
    if (local && !here)
        return NULL;
    for (unsigned i = 0; i < config->listeners_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        bool named =
            strcmp(host->name, config->hostname) == 0 || strcmp(host->name, listener->banner) == 0;
        for (unsigned k = 0; k < listener->addresses_count && (named || local); k++)
            if (listener->addresses[k].port == host->port &&
                (named || net_is_loopback(&listener->addresses[k]) ||
                 is_wildcard(&listener->addresses[k])))
                return listener;
    }
    return NULL;
}

static void lint_hosts(const struct config *config, struct config_report *report)
{
    for (unsigned i = 0; i < config->outbound.count; i++) {
        const struct route *route = &config->outbound.connectors[i].route;
        char key[LINT_KEY_MAX];
        snprintf(key, sizeof(key), "outbound \"%s\": hosts", route->name);
        for (unsigned k = 0; k < route->hosts_count; k++) {
            const struct config_listener *listener =
                check_listener_of(config, &route->hosts[k], true);
            if (listener != NULL)
                config_report_add(report, CONFIG_ERROR, config->file, route->line, key,
                                  "host %u leads to our own listener \"%s\": mail would run in a "
                                  "circle; name the next hop",
                                  k + 1, listener->name);
            if (route->protocol == ROUTE_LMTP && route->hosts[k].port == 25)
                config_report_add(report, CONFIG_WARNING, config->file, route->line, key,
                                  "LMTP must not be spoken on port 25 (RFC 2033); give the port of "
                                  "the LMTP server");
        }
    }
}

static void lint_spool(const struct config *config, struct config_report *report)
{
    const char *key = "spool: directory";
    const char *directory = config->spool.directory;
    struct stat status;
    if (lstat(directory, &status) < 0) {
        config_report_add(report, CONFIG_WARNING, config->file, 0, key,
                          "%s: %s; create it, owned by the user ringpost runs as, mode 0700",
                          directory, strerror(errno));
        return;
    }
    if (!S_ISDIR(status.st_mode)) {
        config_report_add(report, CONFIG_ERROR, config->file, 0, key,
                          "%s is no directory (symbolic links are not followed); name one",
                          directory);
        return;
    }
    if ((status.st_mode & 077) != 0)
        config_report_add(report, CONFIG_ERROR, config->file, 0, key,
                          "%s has mode %04o, so others can reach the mail; chmod 0700", directory,
                          (unsigned)(status.st_mode & 07777));
    if (geteuid() != 0 && status.st_uid != geteuid())
        config_report_add(report, CONFIG_WARNING, config->file, 0, key,
                          "%s belongs to user id %u, not to the one that checks; start ringpost as "
                          "its owner or as root",
                          directory, (unsigned)status.st_uid);
}

static void lint_file(const struct config *config, struct config_report *report, const char *key,
                      const char *path)
{
    if (path != NULL && access(path, R_OK) < 0)
        config_report_add(report, CONFIG_ERROR, config->file, 0, key,
                          "%s: %s; correct the path or its permissions", path, strerror(errno));
}

static void lint_admin(const struct config *config, struct config_report *report)
{
    for (unsigned i = 0; i < config->admin.addresses_count; i++) {
        const struct net_address *address = &config->admin.addresses[i];
        char text[NET_TEXT_MAX];
        net_text(address, true, text);
        if (is_wildcard(address) || !net_is_special(address))
            config_report_add(
                report, CONFIG_WARNING, config->file, 0, "admin: addresses",
                "%s can be reached from outside, and nothing but `allow` protects it; "
                "use loopback or a management address",
                text);
        for (unsigned k = 0; k < config->listeners_count; k++)
            for (unsigned n = 0; n < config->listeners[k].addresses_count; n++)
                if (net_equal(address, &config->listeners[k].addresses[n]))
                    config_report_add(report, CONFIG_ERROR, config->file, 0, "admin: addresses",
                                      "%s belongs to listener \"%s\"; choose another port", text,
                                      config->listeners[k].name);
    }
}

void check_lint(const struct config *config, struct config_report *report)
{
    if (strchr(config->hostname, '.') == NULL)
        config_report_add(report, CONFIG_WARNING, config->file, 0, "hostname",
                          "`%s` is not fully qualified, so other servers may refuse us; write "
                          "hostname = mx1.your.domain",
                          config->hostname);
    lint_relay(config, report);
    lint_listeners(config, report);
    check_inbound(config, report);
    check_asked(config, report);
    lint_hosts(config, report);
    check_outbound(config, report);
    check_classes(config, report);
    check_pins(config, report);
    lint_spool(config, report);
    lint_file(config, report, "dns: trust-anchor", config->dns.trust_anchor_file);
    lint_file(config, report, "dns: root-hints", config->dns.root_hints_file);
    lint_admin(config, report);
}

/* ---- the command ---- */

static void print_text(const struct config_report *report)
{
    for (unsigned i = 0; i < report->count; i++) {
        const struct config_message *m = &report->messages[i];
        printf("%s:", m->file);
        if (m->line > 0)
            printf("%u:", m->line);
        printf(" %s%s%s%s\n", m->severity == CONFIG_ERROR ? "" : "warning: ", m->key,
               *m->key == '\0' ? "" : ": ", m->text);
    }
    unsigned kept = report->count, all = report->errors + report->warnings;
    if (all > kept)
        printf("... and %u more\n", all - kept);
}

static void print_memory(const struct config *config)
{
    struct memory_plan plan;
    char words[MEMORY_PLAN_TEXT];
    (void)memory_plan_make(config, config_shards(config), &plan); /* it fits, or config is NULL */
    memory_plan_words(&plan, words);
    printf("memory at most %s\n", words);
}

static json_t *memory_json(const struct config *config)
{
    struct memory_plan plan;
    (void)memory_plan_make(config, config_shards(config), &plan);
    return json_pack(
        "{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "total",
        (json_int_t)plan.total_bytes, "pools", (json_int_t)plan.pools_bytes, "sessions",
        (json_int_t)plan.sessions_bytes, "deliveries", (json_int_t)plan.deliveries_bytes, "spool",
        (json_int_t)plan.spool_bytes, "destinations", (json_int_t)plan.destinations_bytes, "queue",
        (json_int_t)plan.queue_bytes, "rest", (json_int_t)plan.rest_bytes, "shard_messages",
        (json_int_t)plan.messages_max, "shard_recipients", (json_int_t)plan.recipients_max,
        "shard_destinations", (json_int_t)plan.destinations_max);
}

static int print_json(const struct config_report *report, const char *path,
                      const struct config *config)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < report->count; i++) {
        const struct config_message *m = &report->messages[i];
        json_t *item = json_object();
        json_object_set_new(item, "severity",
                            json_string(m->severity == CONFIG_ERROR ? "error" : "warning"));
        /* null when it is not UTF-8 */
        json_t *file = json_string(m->file), *key = json_string(m->key);
        json_t *text = json_string(m->text);
        json_object_set_new(item, "file", file == NULL ? json_null() : file);
        json_object_set_new(item, "line", json_integer(m->line));
        json_object_set_new(item, "key", key == NULL ? json_null() : key);
        json_object_set_new(item, "text", text == NULL ? json_null() : text);
        json_array_append_new(list, item);
    }
    json_t *name = json_string(path);
    json_t *all = json_object();
    json_object_set_new(all, "file", name == NULL ? json_null() : name);
    json_object_set_new(all, "ok", json_boolean(report->errors == 0));
    json_object_set_new(all, "errors", json_integer(report->errors));
    json_object_set_new(all, "warnings", json_integer(report->warnings));
    json_object_set_new(all, "messages", list);
    if (config != NULL)
        json_object_set_new(all, "memory", memory_json(config));
    int r = json_dumpf(all, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(all);
    return r;
}

static int usage(FILE *out)
{
    fprintf(out,
            "usage: ringpost check [-c FILE] [--fleet FILE]... [--online] [--json] [--quiet]\n"
            "Reads a configuration (default %s) and tells all that is wrong with it.\n"
            "--fleet names that of another node, 63 at most. It is read without the files that it\n"
            "names (certificates, keys), and told is what is wrong in it and whether mail would\n"
            "run in a circle between nodes (L-19).\n"
            "--online also asks DNS and policy hosts, whether dane = must and mta-sts = none of\n"
            "outbound connectors fit what is published now.\n"
            "Exit code: 0 usable (maybe with warnings), 1 errors, 2 usage.\n",
            check_default_path());
    return CHECK_EXIT_USAGE;
}

/* The circles that only show in several files; paths[0] is that of config. */
static void check_others(const struct config *config, const char *const *paths, unsigned count,
                         struct config_report *report)
{
    struct config *others[CHECK_FLEET_MAX] = { NULL };
    const struct config *nodes[CHECK_FLEET_MAX] = { config };
    bool all = true;
    for (unsigned i = 1; i < count; i++) {
        const int r = config_load_elsewhere(paths[i], report, &others[i]);
        if (r == -ENOMEM)
            config_report_add(report, CONFIG_ERROR, paths[i], 0, "", "out of memory");
        nodes[i] = others[i];
        all = all && others[i] != NULL;
    }
    if (all)
        check_fleet(nodes, count, report);
    for (unsigned i = 1; i < count; i++)
        config_free(others[i]);
}

int check_main(int argc, char **argv)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' },
        { "online", no_argument, NULL, 'o' },
        { "json", no_argument, NULL, 'j' },
        { "quiet", no_argument, NULL, 'q' },
        { "fleet", required_argument, NULL, 'f' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    const char *fleet[CHECK_FLEET_MAX] = { NULL };
    unsigned fleet_count = 1; /* the one that is checked is the first */
    const char *path = check_default_path();
    bool json = false, quiet = false, online = false;
    optind = 0; /* start anew: the main program has looked at its own */
    for (int option; (option = getopt_long(argc, argv, "c:jqh", options, NULL)) != -1;) {
        switch (option) {
        case 'c': path = optarg; break;
        case 'o': online = true; break;
        case 'f':
            if (fleet_count == CHECK_FLEET_MAX)
                return usage(stderr);
            fleet[fleet_count++] = optarg;
            break;
        case 'j': json = true; break;
        case 'q': quiet = true; break;
        case 'h': usage(stdout); return CHECK_EXIT_OK;
        default: return usage(stderr);
        }
    }
    if (optind < argc)
        return usage(stderr);
    struct config_report *report = calloc(1, sizeof(*report));
    if (report == NULL)
        return CHECK_EXIT_ERRORS;
    config_report_init(report);
    struct config *config = NULL;
    int r = config_load(path, 1, report, &config);
    if (r == -ENOMEM)
        config_report_add(report, CONFIG_ERROR, path, 0, "", "out of memory; split the file");
    if (config != NULL)
        check_lint(config, report);
    fleet[0] = path;
    if (config != NULL && fleet_count > 1)
        check_others(config, fleet, fleet_count, report);
    if (config != NULL && online)
        check_online(config, report);
    if (json)
        print_json(report, path, config);
    else
        print_text(report);
    if (!json && !quiet && config != NULL)
        print_memory(config);
    if (!json && !quiet)
        printf("%s: %s, %u errors, %u warnings\n", path, report->errors == 0 ? "usable" : "refused",
               report->errors, report->warnings);
    int code = report->errors == 0 ? CHECK_EXIT_OK : CHECK_EXIT_ERRORS;
    config_free(config);
    config_report_free(report);
    free(report);
    return code;
}
