/*
 * connector_validate_cli.c - `ringpost connector validate`: every host of an outbound connector,
 * met as a delivery meets it, and a message that is really sent
 *
 *   connector's hosts --resolver--> addresses --probe_run--> a row for each host --> lines, or JSON
 *                                                  '--> the running server keeps the result
 *
 * The first host that is good gets the test message, if there is to be one. What the server keeps
 * is the result of all of it, with the digest of the connector's section as it was read here.
 * Bounds: VALIDATE_DOMAINS_MAX domains whose MX hosts are met, VALIDATE_RECIPIENTS_MAX recipients.
 */
#include <curl/curl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mta/address.h"
#include "mta/check.h"
#include "mta/cli.h"
#include "mta/client_cli.h"
#include "mta/config.h"
#include "mta/connector_cli.h"
#include "mta/lookup.h"
#include "mta/probe.h"
#include "mta/resolve_config.h"
#include "queue/bounce.h"

enum {
    VALIDATE_DOMAINS_MAX = 16,
    VALIDATE_RECIPIENTS_MAX = PROBE_RECIPIENTS_MAX,
    TIMEOUT_S = 30,
    TIMEOUT_S_MAX = 600,
    MS_IN_S = 1'000,
    US_IN_S = 1'000'000,
    WORDS_BYTES = 512,
    WHY_BYTES = 200, /* that the server keeps */
    MESSAGE_BYTES = 16'384,
};

static const char help[] =
    "ringpost connector validate NAME [--rcpt ADDRESS...] [OPTION...]\n"
    "\n"
    "Meets each host of an outbound connector as a delivery does, whatever the connector's state:\n"
    "look-up, connection, EHLO, STARTTLS, the connector's level, names, pins and group, our "
    "client\n"
    "certificate. With --rcpt one real test message is sent through the first host that is good.\n"
    "Prints a row for each host; the running server keeps the result, which `connector show` "
    "tells,\n"
    "and which counts until the connector's section is changed (but for its state).\n"
    "  -r, --rcpt ADDRESS  of the test message; may stand several times\n"
    "  -f, --from ADDRESS  its sender (default: bounce { address })\n"
    "  -d, --domain NAME   whose MX hosts are met, where hosts = { mx }; may stand several times.\n"
    "                      Default: the domains of --rcpt, and the connector's exact ones\n"
    "  -c, --config FILE   default /etc/ringpost/ringpost.conf\n"
    "  -s, --socket PATH   of the running server\n"
    "  -t, --timeout N     seconds for each step (default 30)\n"
    "  -j, --json          one object\n"
    "Exit status: 0 all hosts are good and the message was taken, 1 not so, 2 usage.\n";

static struct {
    const char *name, *config_file, *socket, *from;
    const char *rcpt[VALIDATE_RECIPIENTS_MAX];
    unsigned rcpt_count;
    char domains[VALIDATE_DOMAINS_MAX][PATTERN_TEXT_MAX];
    unsigned domains_count;
    uint32_t timeout_ms;
    bool as_json;
    const struct config *config;
    const struct outbound *connector;
    json_t *rows;
    bool mailed;
    char why[WORDS_BYTES]; /* "": nothing is wrong */
} look;

static int usage_because(const char *what, const char *why)
{
    fprintf(stderr, "ringpost: connector validate: %s: %s\n", what, why);
    return 2;
}

/* ---- options ---- */

static bool add_domain(struct slice domain)
{
    char text[PATTERN_TEXT_MAX];
    if (pattern_normalise(domain, text) <= 0)
        return false;
    for (unsigned i = 0; i < look.domains_count; i++)
        if (strcmp(look.domains[i], text) == 0)
            return true;
    if (look.domains_count < VALIDATE_DOMAINS_MAX)
        memcpy(look.domains[look.domains_count++], text, sizeof(text));
    return true;
}

static bool add_recipient(const char *text)
{
    struct address address;
    if (look.rcpt_count == VALIDATE_RECIPIENTS_MAX ||
        address_parse(slice_of_string(text), 0, &address) != ADDRESS_OK)
        return false;
    look.rcpt[look.rcpt_count++] = text;
    return add_domain(address.domain);
}

/* -1: go on. Else the exit status. */
static int take_options(int argc, char **argv)
{
    static const struct option options[] = {
        { "rcpt", required_argument, NULL, 'r' },
        { "from", required_argument, NULL, 'f' },
        { "domain", required_argument, NULL, 'd' },
        { "config", required_argument, NULL, 'c' },
        { "socket", required_argument, NULL, 's' },
        { "timeout", required_argument, NULL, 't' },
        { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    uint64_t number;
    struct address address;
    look.config_file = check_default_path();
    look.timeout_ms = TIMEOUT_S * MS_IN_S;
    optind = 0;
    for (int option; (option = getopt_long(argc, argv, "r:f:d:c:s:t:jh", options, NULL)) != -1;) {
        switch (option) {
        case 'r':
            if (!add_recipient(optarg))
                return usage_because(optarg, "is no address, or there are too many");
            break;
        case 'f':
            if (address_parse(slice_of_string(optarg), 0, &address) != ADDRESS_OK)
                return usage_because(optarg, "is no address");
            look.from = optarg;
            break;
        case 'd':
            if (!add_domain(slice_of_string(optarg)))
                return usage_because(optarg, "is no domain");
            break;
        case 'c': look.config_file = optarg; break;
        case 's': look.socket = optarg; break;
        case 't':
            if (slice_to_u64(slice_of_string(optarg), TIMEOUT_S_MAX, &number) < 0 || number == 0)
                return usage_because("--timeout", "is a number of seconds, 1 to 600");
            look.timeout_ms = (uint32_t)number * MS_IN_S;
            break;
        case 'j': look.as_json = true; break;
        case 'h': fputs(help, stdout); return 0;
        default: fputs(help, stderr); return 2;
        }
    }
    if (optind + 1 != argc) {
        fputs(help, stderr);
        return 2;
    }
    look.name = argv[optind];
    return -1;
}

/* ---- the test message ---- */

static size_t message_write(char out[static MESSAGE_BYTES])
{
    char date[BOUNCE_DATE_MAX];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    bounce_date((int64_t)now.tv_sec * US_IN_S, date);
    int size = snprintf(out, MESSAGE_BYTES, "From: <%s>\r\nTo: ", look.from);
    for (unsigned i = 0; i < look.rcpt_count; i++)
        size += snprintf(out + size, MESSAGE_BYTES - (size_t)size, "%s<%s>",
                         i == 0 ? "" : ",\r\n\t", look.rcpt[i]);
    size += snprintf(out + size, MESSAGE_BYTES - (size_t)size,
                     "\r\nSubject: Test of connector %s\r\nDate: %s\r\n"
                     "Message-ID: <validate.%lld.%09ld@%s>\r\nAuto-Submitted: auto-generated\r\n"
                     "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
                     "%s tries its way to you (connector \"%s\").\r\n"
                     "Nothing is to be done about this message.\r\n",
                     look.name, date, (long long)now.tv_sec, now.tv_nsec, look.config->hostname,
                     look.config->hostname, look.name);
    return (size_t)size;
}

/* ---- a host ---- */

static void wrong(const char *host, const char *why)
{
    if (*look.why == '\0')
        snprintf(look.why, sizeof(look.why), "%.200s: %.250s", host, why);
}

/* What became of our client certificate. */
static const char *client_certificate(const json_t *seen)
{
    const char *shown = cli_text(seen, "client_certificate");
    if (strcmp(shown, "presented") != 0)
        return shown;
    bool ready = json_is_true(json_object_get(seen, "ready"));
    return ready ? "accepted" : "presented, and then refused";
}

static void add_row(const char *host, unsigned port, const json_t *seen)
{
    const json_t *tls = json_object_get(seen, "tls"), *each;
    bool good = json_is_true(json_object_get(seen, "ok"));
    json_t *row = json_object();
    json_object_set_new(row, "host", cli_string(host));
    json_object_set_new(row, "port", json_integer(port));
    json_object_set_new(row, "address", cli_string(cli_text(seen, "address")));
    json_object_set_new(row, "good", json_boolean(good));
    json_object_set_new(row, "why", cli_string(cli_text(seen, "why")));
    json_object_set_new(row, "satisfies", cli_string(cli_text(seen, "satisfies")));
    json_object_set_new(row, "version", cli_string(cli_text(tls, "version")));
    json_object_set_new(row, "group", cli_string(cli_text(tls, "group")));
    json_object_set_new(row, "name",
                        cli_string(cli_text(json_object_get(seen, "name"), "matched")));
    json_object_set_new(row, "client_certificate", cli_string(client_certificate(seen)));
    if (!good)
        wrong(host, cli_text(seen, "why"));
    json_t *message = json_object_get(seen, "message");
    if (message != NULL)
        json_object_set(row, "message", message);
    size_t index;
    json_array_foreach(message, index, each) if (!json_is_true(json_object_get(each, "taken")))
        wrong(cli_text(each, "to"), cli_text(each, "reply"));
    json_array_append_new(look.rows, row);
}

/* domain: whose MX host it is; "": it was named. */
static bool meet(const char *host, bool is_name, const struct net_address *addresses,
                 unsigned count, const char *domain)
{
    const struct route *route = &look.connector->route;
    static char message[MESSAGE_BYTES];
    char below[PATTERN_TEXT_MAX + 2];
    struct slice usual[2], recipients[VALIDATE_RECIPIENTS_MAX];
    unsigned usual_count = 0;
    struct tls_client_policy policy;
    if (*domain != '\0') { /* as deliver.c has it */
        snprintf(below, sizeof(below), "*.%s", domain);
        usual[usual_count++] = slice_of_string(domain);
        usual[usual_count++] = slice_of_string(below);
    } else if (is_name) {
        usual[usual_count++] = slice_of_string(host);
    }
    for (unsigned i = 0; i < look.rcpt_count; i++)
        recipients[i] = slice_of_string(look.rcpt[i]);
    route_policy(route, TLS_LEVEL_NONE, &policy);
    bool given = route->tls_names_count > 0;
    const struct probe_mail mail = {
        .sender = slice_of_string(look.from),
        .recipients = recipients,
        .recipients_count = look.rcpt_count,
        .content = slice_of(message, look.mailed ? 0 : message_write(message)),
    };
    const struct probe_options options = {
        .addresses = addresses,
        .addresses_count = count,
        .host = host,
        .is_name = is_name,
        .server_name = route->server_name,
        .helo_name = route->ehlo,
        .is_lmtp = route->protocol == ROUTE_LMTP,
        .is_implicit = route->tls_implicit,
        .clear = route->clear,
        .policy = &policy,
        .names = given ? route->tls_names : usual,
        .names_count = given ? route->tls_names_count : usual_count,
        .timeout_ms = look.timeout_ms,
        .mail = look.rcpt_count > 0 && !look.mailed ? &mail : NULL,
    };
    json_t *seen = probe_run(&options);
    if (seen == NULL)
        return false;
    look.mailed = look.mailed || json_object_get(seen, "message") != NULL;
    add_row(host, addresses[0].port, seen);
    json_decref(seen);
    return true;
}

/* ---- hosts ---- */

static bool is_first_of_host(const struct resolve_result *found, unsigned index)
{
    for (unsigned i = 0; i < index; i++)
        if (strcmp(found->targets[i].host, found->targets[index].host) == 0 &&
            *found->targets[i].host != '\0')
            return false;
    return true;
}

static bool meet_found(const struct resolve_result *found, const char *domain)
{
    for (unsigned i = 0; i < found->count; i++) {
        struct net_address addresses[PROBE_ADDRESSES_MAX];
        unsigned count = 0;
        const struct resolve_target *target = &found->targets[i];
        char text[NET_TEXT_MAX];
        if (!is_first_of_host(found, i))
            continue;
        bool is_name = *target->host != '\0';
        for (unsigned k = i; k < found->count && count < PROBE_ADDRESSES_MAX; k++)
            if (k == i || (is_name && strcmp(found->targets[k].host, target->host) == 0))
                addresses[count++] = found->targets[k].address;
        net_text(&target->address, false, text);
        if (!meet(is_name ? target->host : text, is_name, addresses, count, domain))
            return false;
    }
    return true;
}

/* False: said why on standard error. */
static bool meet_hosts_of(const struct route_host *host, const char *domain)
{
    static struct lookup lookup;
    const struct route *route = &look.connector->route;
    const struct dns_options options = resolve_dns_options(look.config);
    const struct resolve_policy policy = resolve_policy_of(look.config, route);
    const struct resolve_hop hop = resolve_hop_of(route, host, domain);
    char text[NET_TEXT_MAX];
    const char *called = host->kind == ROUTE_HOST_MX ? domain : host->name;
    if (host->kind == ROUTE_HOST_ADDRESS) {
        net_text(&host->address, false, text);
        return meet(text, false, &host->address, 1, "");
    }
    if (lookup_run(&options, &policy, &hop, &lookup) < 0)
        return false;
    if (lookup.result.verdict == RESOLVE_FOUND)
        return meet_found(&lookup.result, host->kind == ROUTE_HOST_MX_OF ? host->name
                                          : host->kind == ROUTE_HOST_MX  ? domain
                                                                         : "");
    json_array_append_new(look.rows,
                          json_pack("{s:s, s:i, s:b, s:s}", "host", called, "port", (int)host->port,
                                    "good", 0, "why", lookup.result.why));
    wrong(called, lookup.result.why);
    return true;
}

static bool meet_all(void)
{
    const struct outbound *c = look.connector;
    for (unsigned i = 0; i < c->route.hosts_count; i++) {
        const struct route_host *host = &c->route.hosts[i];
        if (host->kind != ROUTE_HOST_MX) {
            if (!meet_hosts_of(host, ""))
                return false;
            continue;
        }
        for (unsigned k = 0; k < look.domains_count; k++)
            if (!meet_hosts_of(host, look.domains[k]))
                return false;
    }
    if (look.rcpt_count > 0 && !look.mailed)
        wrong("test message", "no host was good enough to be given it");
    return true;
}

/* Exact domains of the connector stand for those that it is for. */
static void usual_domains(void)
{
    const struct outbound *c = look.connector;
    unsigned count = c->domains.given ? pattern_set_count(c->domains.patterns) : 0;
    for (unsigned i = 0; i < count; i++) {
        char text[PATTERN_TEXT_MAX + 2];
        struct slice pattern = pattern_set_text(c->domains.patterns, i, text);
        if (text[0] != '*' && text[0] != '[')
            (void)add_domain(pattern);
    }
}

/* ---- the end of it ---- */

static void print_people(void)
{
    const json_t *row, *each;
    size_t i, k;
    printf("%-32s %-5s %-9s %-8s %-16s %-12s %s\n", "HOST", "PORT", "LEVEL", "TLS", "GROUP",
           "CLIENT CERT", "RESULT");
    json_array_foreach(look.rows, i, row)
    {
        const char *certificate = cli_text(row, "client_certificate");
        bool good = json_is_true(json_object_get(row, "good"));
        printf("%-32s %-5d %-9s %-8s %-16s %-12s %s\n", cli_text(row, "host"),
               (int)json_integer_value(json_object_get(row, "port")), cli_text(row, "satisfies"),
               cli_text(row, "version"), cli_text(row, "group"),
               *certificate == '\0' ? "none" : certificate, good ? "good" : cli_text(row, "why"));
        json_array_foreach(json_object_get(row, "message"), k, each)
            printf("  message to %s: %s\n", cli_text(each, "to"), cli_text(each, "reply"));
    }
    printf("%s: %s\n", look.name, *look.why == '\0' ? "good" : look.why);
}

/* Given to the running server, which may not run: then it is said. */
static void record(void)
{
    char path[WORDS_BYTES * 2], why[WHY_BYTES];
    const struct client_arguments where = { .config = look.config_file, .socket = look.socket };
    char *socket = client_socket(&where);
    snprintf(why, sizeof(why), "%s", look.why);
    char *escaped = curl_easy_escape(NULL, why, 0);
    snprintf(path, sizeof(path), "/v1/connectors/validated?name=%s&digest=%016llx&good=%d&why=%s",
             look.name, (unsigned long long)look.connector->digest, *look.why == '\0',
             escaped == NULL ? "" : escaped);
    struct client_reply reply = { .status = -1 };
    if (socket != NULL && client_ask(socket, path, true, &reply) != 200)
        fprintf(stderr, "ringpost: connector validate: not recorded: %s",
                reply.text == NULL ? "the server does not answer\n" : reply.text);
    free(reply.text);
    curl_free(escaped);
    free(socket);
}

static int validate(void)
{
    look.connector = outbound_named(&look.config->outbound, slice_of_string(look.name));
    if (look.connector == NULL)
        return usage_because(look.name, "there is no such outbound connector");
    if (look.from == NULL)
        look.from = look.config->bounce.address;
    usual_domains();
    if (route_by_domain(&look.connector->route) && look.domains_count == 0)
        return usage_because(look.name, "leads to MX hosts; say of which domain, by --domain or "
                                        "--rcpt");
    look.rows = json_array();
    int status = 1;
    if (meet_all()) {
        status = *look.why == '\0' ? 0 : 1;
        record();
        if (look.as_json)
            status =
                cli_print_json(json_pack("{s:s, s:b, s:s, s:O}", "connector", look.name, "good",
                                         status == 0, "why", look.why, "hosts", look.rows),
                               status);
        else
            print_people();
    }
    json_decref(look.rows);
    return status;
}

int connector_validate_main(int argc, char **argv)
{
    int status = take_options(argc, argv);
    if (status >= 0)
        return status;
    struct config *config = cli_config(look.config_file);
    if (config == NULL)
        return 1;
    look.config = config;
    status = validate();
    config_free(config);
    return status;
}
