/*
 * probe_cli.c - `ringpost tls probe`: whom to meet, by which policy, and the lines for people
 *
 * The policy is that of the connector which a delivery would take, or the default; options change
 * it for this one look. A host is looked up by the system's resolver; the MX hosts of a domain are
 * found as a delivery finds them, and each is met by itself.
 */
#include "mta/probe_cli.h"

#include <getopt.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "mta/cert_text.h"
#include "mta/cli.h"
#include "mta/host_policy.h"
#include "mta/lookup.h"
#include "mta/probe.h"
#include "mta/resolve_config.h"
#include "mta/sts_cli.h"

enum {
    PORT_SMTP = 25,
    PORT_SMTPS = 465,
    TIMEOUT_S = 30,
    TIMEOUT_S_MAX = 600,
    MS_IN_S = 1'000,
    WORDS_BYTES = 1'536,
};

static const char probe_help[] =
    "ringpost tls probe [OPTION...] HOST[:PORT]\n"
    "ringpost tls probe [OPTION...] --mx DOMAIN\n"
    "\n"
    "Connects to a next hop as a delivery would, up to EHLO by TLS, and shows all that was seen:\n"
    "addresses tried, greeting, EHLO keywords, STARTTLS, what was tried when a handshake failed,\n"
    "version, suite, group, certificates with pins, the verdict on them, whether a name fits,\n"
    "whether a second connection resumes the session, and the highest level that this host\n"
    "satisfies. Sends no mail. HOST is a name, an address, or [an address] (IPv6 with a port).\n"
    "  -m, --mx            all MX hosts of a mail domain, in a delivery's order, each as above;\n"
    "                      found as a delivery finds them, 20 addresses at most. By the name\n"
    "                      servers of the configuration, else the system's\n"
    "  -c, --config FILE   by the roots, client certificates and connectors of this\n"
    "                      configuration: the one that names HOST, or --domain's, or the default.\n"
    "                      Else by the system's roots, and what is usual (tls = may)\n"
    "  -d, --domain NAME   of recipients: whose connector, and whose names in certificates (NAME\n"
    "                      and all below it), as for an MX host of theirs\n"
    "  -l, --level LEVEL   none, may, encrypt, chain or name (default: the connector's)\n"
    "  -n, --name NAME     wanted in the certificate, instead of HOST or what the connector says;\n"
    "                      n, or *.n; may stand more than once\n"
    "  -i, --implicit      TLS from the first octet; port 465 unless one is given\n"
    "  -p, --port N        default 25\n"
    "  -t, --timeout N     seconds for each step (default 30)\n"
    "      --json          one object, with \"ok\"; by --mx those of all hosts are in its "
    "\"hosts\"\n"
    "Exit status: 0 the level is met, 1 it is not (or nobody answers), 2 usage. By --mx: 0 all\n"
    "hosts meet it, 1 one does not, or there is none.\n";

/* What stands for a configuration when none is named; its hostname is the machine's name. */
static const char no_config[] = "listener probe { addresses = { 127.0.0.1:25 } }\n";
static const char no_config_dns[] = "/etc/resolv.conf";

static struct look {
    const char *config_file;
    const char *domain;
    int level; /* -1: the connector's */
    bool implicit;
    bool as_json;
    bool by_mx;    /* of domain */
    uint16_t port; /* 0: not given */
    uint32_t timeout_ms;
    char host_text[ROUTE_HOST_TEXT_MAX];
    char address_text[NET_TEXT_MAX];
    struct route_host host;
    char domain_text[PATTERN_TEXT_MAX];
    char name_texts[PROBE_NAMES_MAX][PATTERN_TEXT_MAX + 2];
    struct slice names[PROBE_NAMES_MAX];
    unsigned names_count;
    const struct config *config;
    const struct route *route;
    bool by_route; /* the route leads there: it names the host, or is to MX hosts */
    struct tls_client_policy policy;
    const char *server_name; /* SNI where DANE says which; NULL: the host's */
    struct net_address addresses[PROBE_ADDRESSES_MAX];
    unsigned addresses_count;
} look;

static int usage_because(const char *what, const char *why)
{
    fprintf(stderr, "ringpost: tls probe: %s: %s\n", what, why);
    return 2;
}

/* ---- options ---- */

/* n, or *.n, in normal form. */
static bool add_name(const char *from)
{
    bool below = strncmp(from, "*.", 2) == 0;
    if (look.names_count == PROBE_NAMES_MAX)
        return false;
    char *text = look.name_texts[look.names_count];
    memcpy(text, "*.", 2);
    if (pattern_normalise(slice_of_string(below ? from + 2 : from), text + (below ? 2 : 0)) <= 0)
        return false;
    look.names[look.names_count++] = slice_of_string(text);
    return true;
}

static int level_of(const char *text)
{
    for (int level = TLS_LEVEL_NONE; level <= TLS_LEVEL_NAME; level++)
        if (strcmp(text, tls_level_name((enum tls_level)level)) == 0)
            return level;
    return -1;
}

static int take_domain(const char *option, const char *text)
{
    if (pattern_normalise(slice_of_string(text), look.domain_text) <= 0)
        return usage_because(option, "is no domain");
    look.domain = look.domain_text;
    return 0;
}

/* Whose MX hosts they are. */
static int take_mx(const char *text)
{
    if (look.domain != NULL)
        return usage_because("--domain", "is DOMAIN with --mx");
    if (*text == '[')
        return usage_because(text, "an address has no MX records");
    return take_domain(text, text);
}

static int take_host(const char *text)
{
    const char *why = "";
    struct slice host = slice_of_string(text);
    struct net_address plain; /* an IPv6 address needs no brackets when no port is meant */
    if (net_parse(host, 0, &plain) == 0 && !net_is_v4(&plain) && plain.port == 0)
        look.host = (struct route_host) { .kind = ROUTE_HOST_ADDRESS, .address = plain };
    else if (route_host_parse(host, look.host_text, &look.host, &why) < 0)
        return usage_because(text, why);
    if (look.host.kind == ROUTE_HOST_MX || look.host.kind == ROUTE_HOST_MX_OF)
        return usage_because(text, "name a host; MX records are looked up by --mx");
    uint16_t own = look.host.kind == ROUTE_HOST_ADDRESS && look.host.port == 0
                       ? look.host.address.port
                       : look.host.port;
    if (own != 0 && look.port != 0 && own != look.port)
        return usage_because(text, "has another port than --port");
    look.port = own != 0 ? own : look.port;
    return 0;
}

/* -1: go on. Else the exit status. */
static int take_options(int argc, char **argv)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' },
        { "domain", required_argument, NULL, 'd' },
        { "level", required_argument, NULL, 'l' },
        { "name", required_argument, NULL, 'n' },
        { "implicit", no_argument, NULL, 'i' },
        { "port", required_argument, NULL, 'p' },
        { "timeout", required_argument, NULL, 't' },
        { "json", no_argument, NULL, 'j' },
        { "mx", no_argument, NULL, 'm' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    uint64_t number;
    look.level = -1;
    look.timeout_ms = TIMEOUT_S * MS_IN_S;
    for (int option; (option = getopt_long(argc, argv, "c:d:l:n:ip:t:jmh", options, NULL)) != -1;) {
        switch (option) {
        case 'c': look.config_file = optarg; break;
        case 'd':
            if (take_domain("--domain", optarg) != 0)
                return 2;
            break;
        case 'l':
            if ((look.level = level_of(optarg)) < 0)
                return usage_because("--level", "is none, may, encrypt, chain or name");
            break;
        case 'n':
            if (!add_name(optarg))
                return usage_because("--name", "is no name (n, or *.n), or there are too many");
            break;
        case 'i': look.implicit = true; break;
        case 'p':
            if (slice_to_u64(slice_of_string(optarg), UINT16_MAX, &number) < 0 || number == 0)
                return usage_because("--port", "is a number from 1 to 65535");
            look.port = (uint16_t)number;
            break;
        case 't':
            if (slice_to_u64(slice_of_string(optarg), TIMEOUT_S_MAX, &number) < 0 || number == 0)
                return usage_because("--timeout", "is a number of seconds, 1 to 600");
            look.timeout_ms = (uint32_t)number * MS_IN_S;
            break;
        case 'j': look.as_json = true; break;
        case 'm': look.by_mx = true; break;
        case 'h': fputs(probe_help, stdout); return 0;
        default: fputs(probe_help, stderr); return 2;
        }
    }
    if (optind + 1 != argc) {
        fputs(probe_help, stderr);
        return 2;
    }
    int status = look.by_mx ? take_mx(argv[optind]) : take_host(argv[optind]);
    return status == 0 ? -1 : status;
}

/* ---- the policy ---- */

static bool is_host_of(const struct route *route)
{
    for (unsigned i = 0; i < route->hosts_count; i++) {
        const struct route_host *host = &route->hosts[i];
        bool same = host->kind == look.host.kind &&
                    (host->kind == ROUTE_HOST_NAME
                         ? strcmp(host->name, look.host.name) == 0
                         : host->kind == ROUTE_HOST_ADDRESS &&
                               net_equal_host(&host->address, &look.host.address));
        if (!same || (look.port != 0 && host->port != look.port))
            continue;
        look.port = host->port;
        return true;
    }
    return false;
}

static void choose_route(void)
{
    const struct config *config = look.config;
    const struct outbound_set *set = &config->outbound;
    if (look.domain != NULL) {
        const struct outbound_facts facts = { .recipient_domain = slice_of_string(look.domain) };
        struct outbound_choice choice;
        outbound_select(set, &facts, &choice);
        if (choice.verdict == OUTBOUND_CONNECTOR)
            look.route = &choice.connector->route;
    }
    for (unsigned i = 0; look.domain == NULL && look.route == NULL && i < set->count; i++)
        if (set->connectors[i].state != CONNECTOR_OFF && is_host_of(&set->connectors[i].route))
            look.route = &set->connectors[i].route;
    if (look.route == NULL)
        look.route = &config->default_route;
    look.by_route = look.by_mx ? route_by_domain(look.route) : is_host_of(look.route);
    if (look.by_mx && look.by_route && look.port == 0)
        look.port = look.route->hosts[0].port;
}

/* As deliver.c has it: the route's names, the host's where it is configured by name, else those of
 * the domain. */
static void choose_names(void)
{
    const struct route *route = look.route;
    char below[PATTERN_TEXT_MAX + 2];
    if (look.names_count > 0)
        return;
    for (unsigned i = 0; i < MIN(route->tls_names_count, (unsigned)PROBE_NAMES_MAX); i++)
        look.names[look.names_count++] = route->tls_names[i];
    if (look.names_count > 0)
        return;
    if (look.domain != NULL && (look.by_mx || !look.by_route)) {
        snprintf(below, sizeof(below), "*.%s", look.domain);
        (void)add_name(look.domain);
        (void)add_name(below);
    } else if (look.host.kind == ROUTE_HOST_NAME) {
        (void)add_name(look.host.name);
    }
}

/* 0, or the exit status. */
static int choose_policy(void)
{
    choose_route();
    choose_names();
    look.policy = look.route->tls;
    bool implicit_by_route = look.by_route && look.route->tls_implicit && look.level != 0;
    look.implicit = look.implicit || implicit_by_route;
    if (look.level >= 0)
        look.policy.level = (enum tls_level)look.level;
    else if (look.implicit)
        look.policy.level = MAX(look.policy.level, TLS_LEVEL_ENCRYPT);
    if (look.policy.level <= TLS_LEVEL_MAY)
        look.policy.credential = NULL; /* not shown to whom we do not insist on TLS with */
    if (look.implicit && look.policy.level <= TLS_LEVEL_MAY)
        return usage_because("--implicit", "leaves no way in clear: --level encrypt or more");
    if (look.policy.level == TLS_LEVEL_NAME && look.names_count == 0)
        return usage_because("--level name", "an address has no name; say which by --name");
    if (look.policy.level >= TLS_LEVEL_CHAIN && look.policy.roots == NULL)
        return usage_because("--level", "the system has no roots; install ca-certificates");
    tls_client_policy_seal(&look.policy, look.names, look.names_count);
    if (look.port == 0)
        look.port = look.implicit ? PORT_SMTPS : PORT_SMTP;
    return 0;
}

/* ---- addresses ---- */

static int resolve(void)
{
    if (look.host.kind == ROUTE_HOST_ADDRESS) {
        look.addresses[look.addresses_count++] = look.host.address;
    } else {
        const struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_family = AF_UNSPEC };
        struct addrinfo *found = NULL;
        int r = getaddrinfo(look.host.name, NULL, &hints, &found);
        if (r != 0) {
            fprintf(stderr, "ringpost: %s: %s\n", look.host.name, gai_strerror(r));
            return -1;
        }
        for (struct addrinfo *each = found;
             each != NULL && look.addresses_count < PROBE_ADDRESSES_MAX; each = each->ai_next) {
            struct sockaddr_storage name = { 0 };
            memcpy(&name, each->ai_addr, MIN((size_t)each->ai_addrlen, sizeof(name)));
            net_from_sockaddr(&name, &look.addresses[look.addresses_count++]);
        }
        freeaddrinfo(found);
    }
    for (unsigned i = 0; i < look.addresses_count; i++)
        look.addresses[i].port = look.port;
    return 0;
}

/* ---- for people ---- */

static void print_attempts(const json_t *result)
{
    size_t index;
    const json_t *each;
    json_array_foreach(json_object_get(result, "attempts"), index, each)
    {
        char line[WORDS_BYTES];
        bool ok = json_is_true(json_object_get(each, "ok"));
        const char *step = cli_text(each, "step");
        snprintf(line, sizeof(line), "%s%s%s: %s", cli_text(each, "address"),
                 *step == '\0' || strcmp(step, "all") == 0 ? "" : ", step ",
                 strcmp(step, "all") == 0 ? "" : step, ok ? "ok" : cli_text(each, "why"));
        cli_line("tried", line);
    }
}

static void print_talk(const json_t *result)
{
    cli_line_list("greeting", json_object_get(result, "greeting"));
    cli_line_list("EHLO", json_object_get(result, "ehlo"));
    cli_line_list("refused", json_object_get(result, "refused"));
    if (json_object_get(result, "ehlo") != NULL && !look.implicit)
        cli_line("STARTTLS",
                 json_is_true(json_object_get(result, "starttls")) ? "offered" : "not offered");
    cli_line_list("reply", json_object_get(result, "starttls_reply"));
}

static void print_tls(const json_t *result)
{
    char line[WORDS_BYTES];
    const json_t *tls = json_object_get(result, "tls");
    if (cli_text(tls, "version")[0] != '\0') {
        snprintf(line, sizeof(line), "%s, %s, %s", cli_text(tls, "version"), cli_text(tls, "suite"),
                 cli_text(tls, "group"));
        cli_line("TLS", line);
        snprintf(line, sizeof(line), "%.1f ms, key share %s, %s HelloRetryRequest%s%s",
                 json_real_value(json_object_get(tls, "handshake_ms")),
                 json_is_true(json_object_get(tls, "key_share_pooled")) ? "from the pool"
                                                                        : "made on the spot",
                 json_is_true(json_object_get(tls, "hello_retry")) ? "after a" : "no",
                 cli_text(tls, "sni")[0] == '\0' ? ", no SNI" : ", SNI ", cli_text(tls, "sni"));
        cli_line("handshake", line);
    }
    cli_line_list("EHLO by TLS", json_object_get(result, "ehlo_tls"));
    const json_t *again = json_object_get(result, "resumption");
    if (again == NULL)
        return;
    if (json_is_true(json_object_get(again, "resumed")))
        snprintf(line, sizeof(line), "yes, in %.1f ms",
                 json_real_value(json_object_get(again, "handshake_ms")));
    else
        snprintf(line, sizeof(line), "no: %s", cli_text(again, "why"));
    cli_line("resumed", line);
}

static void print_certificates(const json_t *result)
{
    size_t index;
    const json_t *each;
    json_array_foreach(json_object_get(result, "certificates"), index, each)
    {
        printf("certificate %zu\n", index + 1);
        cert_print(each);
    }
    if (cli_text(result, "verdict")[0] == '\0')
        return;
    printf("verdict\n");
    cli_line("root", cli_text(result, "root"));
    char line[WORDS_BYTES];
    const char *reason = cli_text(result, "reason");
    snprintf(line, sizeof(line), "%s%s%s", cli_text(result, "verdict"), *reason != '\0' ? ": " : "",
             reason);
    cli_line("chain", line);
    const json_t *name = json_object_get(result, "name");
    if (json_is_true(json_object_get(name, "ok")))
        snprintf(line, sizeof(line), "fits: %s", cli_text(name, "matched"));
    else
        snprintf(line, sizeof(line), "does not fit: %s", cli_text(name, "why"));
    cli_line("name", line);
}

static void print_dane(const json_t *result)
{
    const json_t *tlsa = json_object_get(result, "tlsa");
    const char *match = cli_text(result, "dane");
    const char *why = cli_text(tlsa, "why");
    char line[WORDS_BYTES];
    snprintf(line, sizeof(line), "%s%s%s", cli_text(tlsa, "state"), *why != '\0' ? ": " : "", why);
    cli_line("TLSA", line);
    cli_line_list("records", json_object_get(tlsa, "records"));
    if (*match != '\0')
        cli_line("DANE", match);
}

static void print_people(const json_t *result)
{
    const char *connector = cli_text(result, "connector");
    printf("%s port %u, level %s, connector %s\n", cli_text(result, "host"), look.port,
           cli_text(result, "level"), *connector != '\0' ? connector : "(default)");
    const json_t *preference = json_object_get(result, "preference");
    if (preference != NULL) {
        char line[WORDS_BYTES];
        snprintf(line, sizeof(line), "%d, %s", (int)json_integer_value(preference),
                 json_is_true(json_object_get(result, "dnssec")) ? "validated" : "not validated");
        cli_line("MX", line);
        print_dane(result);
    }
    cli_line_list("names", json_object_get(result, "names"));
    print_attempts(result);
    print_talk(result);
    print_tls(result);
    print_certificates(result);
    const char *satisfies = cli_text(result, "satisfies");
    const char *why = cli_text(result, "why");
    printf("satisfies %s; level %s is %s%s%s\n", *satisfies == '\0' ? "nothing" : satisfies,
           cli_text(result, "level"), *why == '\0' ? "met" : "NOT met", *why == '\0' ? "" : ": ",
           why);
}

/* ---- one host ---- */

/* NULL: said why on standard error. */
static json_t *probe_host(void)
{
    bool is_name = look.host.kind == ROUTE_HOST_NAME;
    if (!is_name)
        net_text(&look.host.address, false, look.address_text);
    const struct probe_options options = {
        .addresses = look.addresses,
        .addresses_count = look.addresses_count,
        .host = is_name ? look.host.name : look.address_text,
        .is_name = is_name,
        .server_name = look.server_name,
        .helo_name = look.route->ehlo,
        .is_lmtp = look.by_route && look.route->protocol == ROUTE_LMTP,
        .is_implicit = look.implicit,
        .clear = look.route->clear,
        .policy = &look.policy,
        .names = look.names,
        .names_count = look.names_count,
        .timeout_ms = look.timeout_ms,
    };
    json_t *result = probe_run(&options);
    if (result == NULL)
        return NULL;
    json_t *names = json_array();
    for (unsigned i = 0; i < look.names_count; i++)
        json_array_append_new(names,
                              json_stringn((const char *)look.names[i].data, look.names[i].size));
    json_object_set_new(result, "host", cli_string(options.host));
    json_object_set_new(result, "port", json_integer(look.port));
    json_object_set_new(result, "connector", cli_string(look.route->name));
    json_object_set_new(result, "level", cli_string(tls_level_name(look.policy.level)));
    json_object_set_new(result, "names", names);
    return result;
}

static int look_at_host(void)
{
    if (resolve() < 0)
        return 1;
    json_t *result = probe_host();
    if (result == NULL)
        return 1;
    int status = json_is_true(json_object_get(result, "ok")) ? 0 : 1;
    if (look.as_json)
        return cli_print_json(result, status);
    print_people(result);
    json_decref(result);
    return status;
}

/* ---- the MX hosts of a domain ---- */

static int lookup_mx(struct lookup *lookup)
{
    struct dns_options options = resolve_dns_options(look.config);
    if (look.config_file == NULL)
        options.resolv_conf_file = no_config_dns;
    const struct resolve_policy policy = resolve_policy_of(look.config, look.route);
    const struct route_host mx = { .kind = ROUTE_HOST_MX, .port = look.port };
    const struct resolve_hop hop = resolve_hop_of(look.route, &mx, look.domain);
    return lookup_run(&options, &policy, &hop, lookup);
}

static bool is_first_of_host(const struct resolve_result *found, unsigned index)
{
    for (unsigned i = 0; i < index; i++)
        if (strcmp(found->targets[i].host, found->targets[index].host) == 0)
            return false;
    return true;
}

/* The host of target number first, with all its addresses, in their order. */
static void take_target(const struct resolve_result *found, unsigned first)
{
    const char *host = found->targets[first].host;
    static_assert((int)PROBE_ADDRESSES_MAX >= 2 * RESOLVE_HOST_ADDRESSES_MAX);
    look.host = (struct route_host) { .kind = ROUTE_HOST_NAME, .name = host };
    look.addresses_count = 0;
    for (unsigned i = first; i < found->count; i++)
        if (strcmp(found->targets[i].host, host) == 0)
            look.addresses[look.addresses_count++] = found->targets[i].address;
}

/* What DNS says of the host's TLSA records, for people and programs. */
static json_t *dane_json(const struct lookup_dane *dane)
{
    json_t *records = json_array();
    for (unsigned i = 0; i < dane->set.count; i++) {
        char text[TLS_DANE_TEXT_MAX];
        tls_dane_text(&dane->set, i, text);
        json_array_append_new(records, cli_string(text));
    }
    return json_pack("{s:s, s:s, s:o, s:s}", "state", host_dane_name(dane->dane), "base",
                     dane->base, "records", records, "why", dane->why);
}

/* As a delivery would meet the host: by its TLSA records too. */
static json_t *probe_target(const struct resolve_target *target, const struct lookup_dane *dane)
{
    const struct tls_client_policy policy = look.policy;
    const struct slice names[] = { slice_of_string(dane->base), slice_of_string(look.domain) };
    const struct host_policy_facts facts = {
        .connector = policy.level,
        .dane_mode = look.route->dane,
        .dane = policy.level == TLS_LEVEL_NONE ? HOST_DANE_OFF : dane->dane,
        .mx_secure = target->mx_secure,
    };
    const struct host_policy host = host_policy(&facts);
    look.policy.level = host.level;
    if (host.dane) {
        look.policy.dane = &dane->set;
        look.policy.dane_names = names;
        look.policy.dane_names_count = ARRAY_COUNT(names);
        look.server_name = dane->base;
    }
    tls_client_policy_seal(&look.policy, look.names, look.names_count);
    json_t *result = probe_host();
    look.policy = policy;
    look.server_name = NULL;
    if (result == NULL)
        return NULL;
    json_object_set_new(result, "preference", json_integer(target->rank & UINT16_MAX));
    json_object_set_new(result, "dnssec", json_boolean(target->secure));
    json_object_set_new(result, "tlsa", dane_json(dane));
    if (host.token == FAULT_NONE)
        return result;
    json_object_set_new(result, "ok", json_false());
    json_object_set_new(result, "why", cli_string(outbound_token_row(host.token)->words));
    return result;
}

/* Meets each host. 0, 1: one is not good enough, -1: said why on standard error. */
static int probe_targets(const struct lookup *lookup, json_t *hosts, const char **why)
{
    const struct resolve_result *found = &lookup->result;
    int status = 0;
    for (unsigned i = 0; i < found->count; i++) {
        if (!is_first_of_host(found, i))
            continue;
        take_target(found, i);
        json_t *result = probe_target(&found->targets[i], &lookup->danes[i]);
        if (result == NULL)
            return -1;
        json_array_append_new(hosts, result);
        if (json_is_true(json_object_get(result, "ok")))
            continue;
        status = 1;
        *why = "a host does not meet the level";
    }
    return status;
}

static void print_hosts(const json_t *hosts, const json_t *policy, const char *why)
{
    size_t index;
    const json_t *each;
    json_array_foreach(hosts, index, each)
    {
        print_people(each);
        putchar('\n');
    }
    sts_cli_lines(policy);
    printf("%s: %s\n", look.domain, *why == '\0' ? "all MX hosts meet the level" : why);
}

static int look_at_mx(void)
{
    static const char *const verdicts[] = {
        [RESOLVE_FOUND] = "found",
        [RESOLVE_TEMPORARY] = "temporary",
        [RESOLVE_PERMANENT] = "permanent",
    };
    static struct lookup lookup;
    if (lookup_mx(&lookup) < 0)
        return 1;
    const struct resolve_result *found = &lookup.result;
    bool none = found->verdict != RESOLVE_FOUND;
    json_t *hosts = json_array();
    const char *why = found->why;
    int status = none ? 1 : probe_targets(&lookup, hosts, &why);
    if (status < 0) {
        json_decref(hosts);
        return 1;
    }
    json_t *policy = look.route->sts ? sts_cli_known(look.config->admin.socket, look.domain) : NULL;
    if (!look.as_json) {
        print_hosts(hosts, policy, why);
        json_decref(hosts);
        json_decref(policy);
        return status;
    }
    char code[16];
    snprintf(code, sizeof(code), "%u.%u.%u", found->enhanced.klass, found->enhanced.subject,
             found->enhanced.detail);
    return cli_print_json(json_pack("{s:s, s:o, s:b, s:o, s:s, s:o, s:o}", "domain", look.domain,
                                    "mta-sts", policy == NULL ? json_null() : policy, "ok",
                                    status == 0, "why", cli_string(why), "lookup",
                                    verdicts[found->verdict], "status",
                                    none ? json_string(code) : json_null(), "hosts", hosts),
                          status);
}

/* ---- the command ---- */

int probe_main(int argc, char **argv)
{
    int status = take_options(argc, argv);
    if (status >= 0)
        return status;
    struct config *config = look.config_file == NULL ? cli_config_text(no_config, "what is usual")
                                                     : cli_config(look.config_file);
    if (config == NULL)
        return 1;
    look.config = config;
    status = choose_policy();
    if (status == 0)
        status = look.by_mx ? look_at_mx() : look_at_host();
    config_free(config);
    return status;
}
