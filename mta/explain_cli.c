/*
 * explain_cli.c - `ringpost explain`: the server's own decisions about a message that nobody sent
 *
 *   options --> facts of a session --inbound_mail, inbound_rcpt--> one object --> lines, or JSON
 *
 * Calls the functions that the server calls, on the configuration that it would read, so that a
 * change can be tried before it is one. No network but by --online, no spool. Facts that are not
 * given are those of a stranger: plain text, no certificate, an address of TEST-NET-3.
 */
#include "mta/explain_cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "core/check.h"
#include "mta/address.h"
#include "mta/check.h"
#include "mta/cli.h"
#include "mta/config.h"
#include "mta/config_file.h"
#include "mta/explain_online.h"
#include "mta/explain_words.h"
#include "mta/policy.h"
#include "mta/smtp_server.h"
#include "mta/sts_cli.h"
#include "tls/tls_server.h"

enum { RECIPIENTS_EXPLAINED_MAX = 64, WORDS_BYTES = 512, DAY_SECONDS = 86'400, DAYS_USUAL = 90 };
enum { MS_IN_S = 1'000 };

static const char help[] =
    "ringpost explain [in|out] [-c FILE] --from ADDRESS --to ADDRESS... [--peer ADDRESS]\n"
    "                 [--tls VERSION] [--cert NAME...] [--revocation WORD] [--online] [--json]\n"
    "\n"
    "What inbound connectors would say to a message, which outbound one would take it, why each\n"
    "of them does or does not have a say, and which class it would be of: the same decisions as\n"
    "the server's, by a configuration that need not be the one in use. Nothing is sent, and\n"
    "without --online nothing is asked of the network.\n"
    "in: only what is said at the door. out: only the way out, as if it had come in.\n"
    "  -c, --config FILE     default /etc/ringpost/ringpost.conf\n"
    "  -f, --from ADDRESS    MAIL FROM; <> for the null sender\n"
    "  -t, --to ADDRESS      RCPT TO; may stand several times\n"
    "  -i, --ip, --peer ADDRESS   of the client (default 203.0.113.1)\n"
    "  -l, --listener TITLE  where it connects to (default: the first)\n"
    "      --tls VERSION     none (default), 1.2 or 1.3\n"
    "      --hybrid          the key exchange is a post-quantum hybrid\n"
    "      --cert NAME       a name in the client's certificate; may stand several times\n"
    "      --verdict WORD    what the certificate is worth: valid (default), untrusted, expired,\n"
    "                        not-yet, usage, weak, malformed\n"
    "      --revocation WORD what lists say of it: good, unknown or revoked (default: unknown; "
    "good\n"
    "                        for one that lives for 7 days at most)\n"
    "      --usage WORD      its extended key usage: both (default), client or server\n"
    "      --pin sha256:HEX  SHA-256 of its public key\n"
    "      --days N          its lifetime (default 90)\n"
    "      --size BYTES      of the message; K, M and G as in the configuration\n"
    "      --requiretls      MAIL FROM has REQUIRETLS\n"
    "      --lacks-header    the content has come, without the header field that a connector's\n"
    "                        require-header asks for; else it is taken to have it\n"
    "      --online          looks up the hosts of the way out, their TLSA records (DANE) and the\n"
    "                        domain's policy of MTA-STS as they are now, and says what each host\n"
    "                        would have to show; where we would come from; and, if the server\n"
    "                        answers at its admin socket, what it remembers of each host's TLS, "
    "the\n"
    "                        connections it has there, and the messages that wait before this one\n"
    "  -j, --json            the same as an object\n"
    "Exit status: 0 all is taken, 1 something is refused, or the configuration cannot be read,\n"
    "2 usage.\n";

static struct {
    const char *config_file, *listener;
    const char *from;
    const char *to[RECIPIENTS_EXPLAINED_MAX];
    unsigned to_count;
    bool as_json, has_certificate, requiretls, online;
    bool only_in, only_out;
    uint64_t size;
    struct net_address address;
    struct tls_peer peer;
    enum tls_crl_status revocation; /* NONE: not given */
    struct inbound_session session;
    char sender[PATTERN_TEXT_MAX];
} look;

/* ---- options ---- */

static int usage_because(const char *what, const char *why)
{
    fprintf(stderr, "ringpost: explain: %s: %s\n", what, why);
    return 2;
}

/* The domain of an address in normal form; empty: <>, or a postmaster without one. */
static int domain_of(const char *text, unsigned allow, char out[static PATTERN_TEXT_MAX])
{
    struct slice in = slice_of_string(text);
    struct address address;
    size_t used = in.size;
    *out = '\0';
    if (strcmp(text, "<>") == 0 || *text == '\0')
        return (allow & ADDRESS_ALLOW_NULL) != 0 ? 0 : -EINVAL;
    if (strcasecmp(text, "postmaster") == 0)
        return (allow & ADDRESS_ALLOW_POSTMASTER) != 0 ? 0 : -EINVAL;
    enum address_result result =
        in.data[0] == '<' ? address_parse_path(in, allow | ADDRESS_ALLOW_UTF8, &address, &used)
                          : address_parse(in, ADDRESS_ALLOW_UTF8, &address);
    if (result != ADDRESS_OK || (in.data[0] == '<' && used != in.size))
        return -EINVAL;
    return address.domain.size == 0 ? 0 : MIN(pattern_normalise(address.domain, out), 0);
}

static int take_tls(const char *text)
{
    if (strcmp(text, "1.3") == 0)
        look.session.tls_version = TLS_VERSION_13;
    else if (strcmp(text, "1.2") == 0)
        look.session.tls_version = TLS_VERSION_12;
    else if (strcmp(text, "none") != 0)
        return usage_because("--tls", "is none, 1.2 or 1.3");
    return -1;
}

static int take_name(const char *text)
{
    char name[PATTERN_TEXT_MAX + 2] = "*.";
    bool below = strncmp(text, "*.", 2) == 0;
    if (pattern_normalise(slice_of_string(below ? text + 2 : text), name + (below ? 2 : 0)) <= 0)
        return usage_because(text, "is no name that a certificate can bear");
    unsigned before = look.peer.leaf.names.count;
    tls_names_add(&look.peer.leaf.names, slice_of_string(name));
    look.has_certificate = true;
    return look.peer.leaf.names.count > before
               ? -1
               : usage_because(text, "is a name that is passed over in a certificate");
}

static int take_verdict(const char *text)
{
    for (unsigned i = TLS_VERDICT_VALID; i < TLS_VERDICTS; i++)
        if (i != TLS_VERDICT_REVOKED && i != TLS_VERDICT_REVOCATION_UNKNOWN &&
            strcmp(text, tls_verdict_name((enum tls_verdict)i)) == 0) {
            look.peer.verdict = (enum tls_verdict)i;
            return -1;
        }
    return usage_because("--verdict", "is none of the words of --help");
}

static int take_revocation(const char *text)
{
    for (unsigned i = TLS_CRL_GOOD; i < TLS_CRL_STATUSES; i++)
        if (strcmp(text, tls_crl_status_name((enum tls_crl_status)i)) == 0)
            look.revocation = (enum tls_crl_status)i;
    return look.revocation == TLS_CRL_NONE
               ? usage_because("--revocation", "is good, unknown or revoked")
               : -1;
}

static int take_usage(const char *text)
{
    if (strcmp(text, "client") == 0)
        look.peer.leaf.usage = TLS_USAGE_CLIENT;
    else if (strcmp(text, "server") == 0)
        look.peer.leaf.usage = TLS_USAGE_SERVER;
    else if (strcmp(text, "both") != 0)
        return usage_because("--usage", "is both, client or server");
    return -1;
}

static int take_days(const char *text)
{
    uint64_t days;
    if (slice_to_u64(slice_of_string(text), 36'500, &days) < 0 || days == 0)
        return usage_because("--days", "is a number of days, 1 to 36500");
    look.peer.leaf.not_after = (int64_t)days * DAY_SECONDS;
    return -1;
}

static int take_size(const char *text)
{
    return config_parse_size(text, &look.size) < 0 ? usage_because("--size", "is no size") : -1;
}

static int take_pin(const char *text)
{
    if (!config_parse_pin(text, look.peer.leaf.spki))
        return usage_because("--pin", "is sha256: and 64 hex digits");
    look.peer.has_key = look.has_certificate = true;
    return -1;
}

static int take_recipient(const char *text)
{
    if (look.to_count == RECIPIENTS_EXPLAINED_MAX)
        return usage_because("--to", "more than 64 of them");
    look.to[look.to_count++] = text;
    return -1;
}

enum {
    OPTION_TLS = 256,
    OPTION_HYBRID,
    OPTION_CERT,
    OPTION_VERDICT,
    OPTION_REVOCATION,
    OPTION_USAGE,
    OPTION_PIN,
    OPTION_DAYS,
    OPTION_SIZE,
    OPTION_REQUIRETLS,
    OPTION_LACKS_HEADER,
    OPTION_ONLINE,
};

/* -1: go on. Else the exit status. */
static int take_option(int option)
{
    switch (option) {
    case 'c': look.config_file = optarg; return -1;
    case 'f': look.from = optarg; return -1;
    case 't': return take_recipient(optarg);
    case 'l': look.listener = optarg; return -1;
    case 'j': look.as_json = true; return -1;
    case 'i':
        return net_parse(slice_of_string(optarg), 0, &look.address) < 0 || look.address.port != 0
                   ? usage_because("--ip", "is no address")
                   : -1;
    case OPTION_TLS: return take_tls(optarg);
    case OPTION_HYBRID: look.session.is_hybrid = true; return -1;
    case OPTION_CERT: return take_name(optarg);
    case OPTION_VERDICT: return take_verdict(optarg);
    case OPTION_REVOCATION: return take_revocation(optarg);
    case OPTION_USAGE: return take_usage(optarg);
    case OPTION_PIN: return take_pin(optarg);
    case OPTION_DAYS: return take_days(optarg);
    case OPTION_SIZE: return take_size(optarg);
    case OPTION_REQUIRETLS: look.requiretls = true; return -1;
    case OPTION_LACKS_HEADER: look.session.lacks_header = true; return -1;
    case OPTION_ONLINE: look.online = true; return -1;
    case 'h': fputs(help, stdout); return 0;
    default: fputs(help, stderr); return 2;
    }
}

static int take_options(int argc, char **argv)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' },
        { "from", required_argument, NULL, 'f' },
        { "to", required_argument, NULL, 't' },
        { "ip", required_argument, NULL, 'i' },
        { "peer", required_argument, NULL, 'i' },
        { "listener", required_argument, NULL, 'l' },
        { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },
        { "tls", required_argument, NULL, OPTION_TLS },
        { "hybrid", no_argument, NULL, OPTION_HYBRID },
        { "cert", required_argument, NULL, OPTION_CERT },
        { "verdict", required_argument, NULL, OPTION_VERDICT },
        { "revocation", required_argument, NULL, OPTION_REVOCATION },
        { "usage", required_argument, NULL, OPTION_USAGE },
        { "pin", required_argument, NULL, OPTION_PIN },
        { "days", required_argument, NULL, OPTION_DAYS },
        { "size", required_argument, NULL, OPTION_SIZE },
        { "requiretls", no_argument, NULL, OPTION_REQUIRETLS },
        { "lacks-header", no_argument, NULL, OPTION_LACKS_HEADER },
        { "online", no_argument, NULL, OPTION_ONLINE },
        { NULL, 0, NULL, 0 },
    };
    look.config_file = check_default_path();
    look.peer.verdict = TLS_VERDICT_VALID;
    look.peer.leaf.usage = TLS_USAGE_CLIENT | TLS_USAGE_SERVER;
    look.peer.leaf.not_after = (int64_t)DAYS_USUAL * DAY_SECONDS;
    CHECK(net_parse(SLICE("203.0.113.1"), 0, &look.address) == 0);
    for (int option; (option = getopt_long(argc, argv, "c:f:t:i:l:jh", options, NULL)) != -1;) {
        int status = take_option(option);
        if (status >= 0)
            return status;
    }
    look.only_in = optind < argc && strcmp(argv[optind], "in") == 0;
    look.only_out = optind < argc && strcmp(argv[optind], "out") == 0;
    optind += look.only_in || look.only_out;
    if (optind < argc)
        return usage_because(argv[optind], "is not understood; see --help");
    if (look.from == NULL || look.to_count == 0)
        return usage_because("--from, --to", "are both needed");
    if (domain_of(look.from, ADDRESS_ALLOW_NULL, look.sender) < 0)
        return usage_because(look.from, "is no sender");
    if (look.requiretls && look.session.tls_version == 0)
        return usage_because("--requiretls", "is said in TLS only; add --tls 1.3");
    if (look.has_certificate && look.session.tls_version == 0)
        return usage_because("--cert", "comes by TLS only; add --tls 1.3");
    return -1;
}

/* ---- facts ---- */

static const struct config_listener *listener_of(const struct config *config)
{
    for (unsigned i = 0; look.listener != NULL && i < config->listeners_count; i++)
        if (strcmp(config->listeners[i].name, look.listener) == 0)
            return &config->listeners[i];
    return look.listener == NULL ? &config->listeners[0] : NULL;
}

/* Every bundle sees the same verdict: which one a connector names is then of no account. */
static void facts_build(const struct config *config, const struct config_listener *listener)
{
    look.session.peer = &look.address;
    look.session.is_submission = policy_is_submission(config, listener, &look.address);
    enum tls_crl_status status = look.revocation;
    if (status == TLS_CRL_NONE)
        status = look.peer.leaf.not_after <= TLS_CRL_SHORT_LIVED_S ? TLS_CRL_GOOD : TLS_CRL_UNKNOWN;
    if (look.has_certificate) {
        look.session.certificates_count = MAX(1U, config->inbound_bundles_count);
        for (unsigned i = 0; i < look.session.certificates_count; i++) {
            look.session.certificates[i].roots = config->inbound_bundles[i];
            look.session.certificates[i].peer = &look.peer;
            look.session.certificates[i].revocation = status;
        }
    }
    inbound_candidates(config->inbound, &look.session);
}

/* ---- what comes out ---- */

static const char *state_name(enum connector_state state)
{
    static const char *const names[] = {
        [CONNECTOR_OFF] = "off", [CONNECTOR_TEST] = "test", [CONNECTOR_ENFORCE] = "enforce"
    };
    return names[state];
}

static const char *type_name(enum connector_type type)
{
    return type == CONNECTOR_OWN ? "own" : "partner";
}

static void reason_words(const struct inbound_opinion *opinion, char words[static WORDS_BYTES])
{
    static const char *const reasons[] = {
        [INBOUND_IS_OFF] = "off",
        [INBOUND_NOT_COVERING] = "does not cover this sender",
        [INBOUND_NOT_SENDER] = "its sender-domains do not have this sender",
        [INBOUND_NOT_RECIPIENT] = "not for this recipient (recipient-own-domains)",
        [INBOUND_NOT_IDENTIFIED] = "not identified",
        [INBOUND_LESS_SPECIFIC] = "a lockdown with a narrower pattern decides",
        [INBOUND_OWN_IS_FIRST] = "an own connector, or submission, comes before partners",
        [INBOUND_LESS_SO] = "another one fits better (identity, cost, name)",
        [INBOUND_DECIDES] = "decides",
    };
    CHECK((size_t)opinion->reason < ARRAY_COUNT(reasons));
    const struct inbound_identity *identity = &opinion->identity;
    bool tells = opinion->reason != INBOUND_IS_OFF && opinion->reason != INBOUND_NOT_COVERING;
    const char *token = identity->token == TOKEN_NONE ? "" : connector_token_name(identity->token);
    const char *how = identity->by_certificate ? "identified by certificate"
                      : identity->by_address   ? "identified by address"
                                               : "";
    snprintf(words, WORDS_BYTES, "%s%s%s%s%s", reasons[opinion->reason],
             tells && (*token != '\0' || *how != '\0') ? "; " : "", tells ? how : "",
             tells && *token != '\0' ? token : "", opinion->in_test ? "; in test: no effect" : "");
}

static json_t *options_explained(const struct config *config, const struct slice *recipient)
{
    json_t *all = json_array();
    for (unsigned i = 0; i < inbound_count(config->inbound); i++) {
        const struct inbound *c = inbound_at(config->inbound, i);
        struct inbound_opinion opinion;
        char words[WORDS_BYTES];
        inbound_opinion(config->inbound, &look.session, slice_of_string(look.sender), recipient, i,
                        &opinion);
        reason_words(&opinion, words);
        char more[EXPLAIN_WORDS_BYTES];
        explain_inbound_words(c, &look.session, slice_of_string(look.sender), &opinion, more);
        json_t *one = json_object();
        json_object_set_new(one, "connector", cli_string(c->name));
        json_object_set_new(one, "type", cli_string(type_name(c->type)));
        json_object_set_new(one, "state", cli_string(state_name(c->state)));
        json_object_set_new(one, "decides", json_boolean(opinion.reason == INBOUND_DECIDES));
        json_object_set_new(
            one, "identified",
            json_boolean(opinion.identity.by_certificate || opinion.identity.by_address));
        json_object_set_new(one, "why", cli_string(words));
        json_object_set_new(one, "by", cli_string(more));
        json_array_append_new(all, one);
    }
    return all;
}

static void reply_words(const struct config *config, enum connector_token token,
                        enum connector_class class, uint32_t decision,
                        char words[static WORDS_BYTES])
{
    if (token == TOKEN_NONE) {
        snprintf(words, WORDS_BYTES, "250");
        return;
    }
    const struct connector_reply *r =
        connector_reply(token, class, inbound_defaults(config->inbound)->replies);
    char id[SMTP_DECISION_TEXT];
    smtp_decision_text(decision, id);
    snprintf(words, WORDS_BYTES, "%u %u.%u.%u %s [%s] d=%s", r->code, r->enhanced.klass,
             r->enhanced.subject, r->enhanced.detail, r->text, connector_token_name(token), id);
}

static void add_connector(json_t *object, const char *key, const struct inbound *c)
{
    json_object_set_new(object, key, c == NULL ? json_null() : cli_string(c->name));
}

static void add_would(json_t *object, const struct inbound_would *would)
{
    if (would->connector == NULL)
        return;
    json_t *one = json_object();
    add_connector(one, "connector", would->connector);
    json_object_set_new(one, "result",
                        cli_string(would->token == TOKEN_NONE ? "accept" : "reject"));
    json_object_set_new(one, "token", cli_string(connector_token_name(would->token)));
    json_object_set_new(object, "would", one);
}

/* ---- the way out ---- */

/* Rules that have a copy made of mail to this recipient; but mail to where copies go makes none. */
static json_t *copies_explained(const struct config *config, const struct outbound_facts *facts,
                                const char *to)
{
    const struct outbound_set *set = &config->outbound;
    json_t *all = json_array();
    for (unsigned i = 0; i < set->rules_count; i++) {
        const struct outbound_rule *rule = &set->rules[i];
        if (rule->copy_to != NULL && outbound_is_copied_to(set, slice_of_string(to)))
            break;
        if (rule->copy_to == NULL || !outbound_rule_fits(set, facts, rule))
            continue;
        char words[WORDS_BYTES];
        snprintf(words, sizeof(words), "to %s by connector %s (rule %s)", rule->copy_to,
                 rule->copy_via->route.name, rule->name);
        json_array_append_new(all, cli_string(words));
    }
    return all;
}

static json_t *ways_explained(const struct config *config, const struct outbound_facts *facts)
{
    static const char *const whys[] = {
        [OUTBOUND_IS_OFF] = "off",
        [OUTBOUND_NOT_NAMED] = "no rule names it, or a rule names another one",
        [OUTBOUND_NOT_SENDER] = "its sender-domains do not have this sender",
        [OUTBOUND_NOT_LABEL] = "its from-labels do not have the label that this came by",
        [OUTBOUND_NOT_DOMAIN] = "not for this domain",
        [OUTBOUND_CAME_THENCE] = "this came from there",
        [OUTBOUND_IS_TOO_SMALL] = "max-size is smaller than this message",
        [OUTBOUND_FITS_LESS] = "another one fits better (domain, cost, name)",
        [OUTBOUND_DECIDES] = "decides",
    };
    const struct outbound_set *set = &config->outbound;
    json_t *all = json_array();
    for (unsigned i = 0; i < set->count; i++) {
        const struct outbound *c = &set->connectors[i];
        enum outbound_why why = outbound_opinion(set, facts, i);
        char words[WORDS_BYTES];
        CHECK((size_t)why < ARRAY_COUNT(whys));
        snprintf(words, sizeof(words), "%s%s", whys[why],
                 c->state == CONNECTOR_TEST ? "; in test: carries no mail" : "");
        json_t *one = json_object();
        json_object_set_new(one, "connector", cli_string(c->route.name));
        json_object_set_new(one, "type", cli_string(type_name(c->type)));
        json_object_set_new(one, "state", cli_string(state_name(c->state)));
        json_object_set_new(one, "decides", json_boolean(why == OUTBOUND_DECIDES));
        json_object_set_new(one, "why", cli_string(words));
        json_array_append_new(all, one);
    }
    return all;
}

static json_t *class_explained(const struct config *config, const struct outbound_facts *facts,
                               const struct inbound *from)
{
    static const char *const bys[] = { [CLASS_BY_NOBODY] = "",
                                       [CLASS_BY_RULE] = "rule",
                                       [CLASS_BY_INBOUND] = "inbound",
                                       [CLASS_BY_ITSELF] = "its lists" };
    struct class_choice choice;
    class_decide(config, facts, from, &choice);
    const struct class_section *section = class_named(&config->classes, choice.name);
    const struct mail_class *c = section == NULL ? &config->classes.without : &section->class;
    uint64_t age_ms = c->age_max_ms != 0 ? c->age_max_ms : config->classes.without.age_max_ms;
    json_t *class = json_object();
    json_object_set_new(class, "name", cli_string(choice.name));
    json_object_set_new(class, "priority", cli_string(lane_name((enum lane)c->lane)));
    json_object_set_new(class, "by", cli_string(bys[choice.by]));
    json_object_set_new(class, "by_name", cli_string(choice.by_name));
    json_object_set_new(class, "retry_initial_s", json_integer(c->retry_initial_ms / MS_IN_S));
    json_object_set_new(class, "retry_max_s", json_integer(c->retry_max_ms / MS_IN_S));
    json_object_set_new(class, "age_max_s", json_integer((json_int_t)(age_ms / MS_IN_S)));
    return class;
}

static json_t *way_explained(const struct config *config, const char *to, struct slice recipient,
                             const struct inbound *from)
{
    static const char *const verdicts[] = {
        [OUTBOUND_CONNECTOR] = "connector",
        [OUTBOUND_DEFAULT] = "default",
        [OUTBOUND_BOUNCE] = "bounce",
        [OUTBOUND_DEFER] = "defer",
    };
    const struct outbound_facts facts = {
        .recipient_domain = recipient,
        .sender_domain = slice_of_string(look.sender),
        .label = from == NULL ? slice_of(NULL, 0) : slice_of_string(from->label),
        .from_own = from != NULL && from->type == CONNECTOR_OWN,
        .tls = look.session.tls_version != 0,
        .requiretls = look.requiretls,
        .size = look.size,
    };
    struct outbound_choice choice;
    outbound_select(&config->outbound, &facts, &choice);
    json_t *way = json_object();
    json_object_set_new(way, "verdict", cli_string(verdicts[choice.verdict]));
    json_object_set_new(way, "connector",
                        choice.connector == NULL ? json_null()
                                                 : cli_string(choice.connector->route.name));
    json_object_set_new(way, "rule",
                        choice.rule == NULL ? json_null() : cli_string(choice.rule->name));
    char pattern[EXPLAIN_WORDS_BYTES];
    explain_pattern(&config->outbound, &choice, recipient, pattern);
    json_object_set_new(way, "pattern", cli_string(pattern));
    json_object_set_new(way, "floor", cli_string(tls_level_name(choice.floor)));
    json_object_set_new(way, "reason", cli_string(outbound_reason_text(choice.reason)));
    json_object_set_new(way, "would",
                        choice.would == NULL ? json_null() : cli_string(choice.would->route.name));
    json_object_set_new(way, "copies", copies_explained(config, &facts, to));
    json_object_set_new(way, "class", class_explained(config, &facts, from));
    const struct route *route =
        choice.connector == NULL ? &config->default_route : &choice.connector->route;
    json_object_set_new(way, "min_group", cli_string(route->tls.needs_hybrid ? "hybrid" : "any"));
    char domain[PATTERN_TEXT_MAX];
    slice_to_string(recipient, domain, sizeof(domain));
    json_t *policy = choice.verdict <= OUTBOUND_DEFAULT && route->sts && route_by_domain(route)
                         ? sts_cli_known(config->admin.socket, domain)
                         : NULL;
    if (policy != NULL)
        json_object_set_new(way, "mta-sts", policy);
    const struct explain_way now = { .route = route,
                                     .domain = domain,
                                     .floor = choice.floor,
                                     .requiretls = look.requiretls,
                                     .null_sender = *look.sender == '\0' };
    if (look.online && choice.verdict <= OUTBOUND_DEFAULT) {
        json_t *online = explain_online(config, &now);
        json_object_set_new(way, "online", online == NULL ? json_null() : online);
    }
    json_object_set_new(way, "considered", ways_explained(config, &facts));
    return way;
}

/* What is said at RCPT. */
static void door_explained(const struct config *config, struct slice recipient,
                           const struct inbound_rcpt *found, json_t *object)
{
    char words[WORDS_BYTES], id[SMTP_DECISION_TEXT];
    struct slice sender = slice_of_string(look.sender);
    const struct inbound_rcpt rcpt = *found;
    uint32_t decision = smtp_decision_id(config, &look.session, sender, recipient);
    json_object_set_new(object, "attributed", cli_string(inbound_kind_name(rcpt.kind)));
    add_connector(object, "connector", rcpt.connector);
    json_object_set_new(object, "how",
                        cli_string(rcpt.identity.by_certificate ? "cert"
                                   : rcpt.identity.by_address   ? "address"
                                                                : ""));
    json_object_set_new(object, "internal", json_boolean(rcpt.is_internal));
    json_object_set_new(object, "keeps_fields", json_boolean(rcpt.keeps_fields));
    json_object_set_new(object, "own_sender", json_boolean(rcpt.is_own_sender));
    json_object_set_new(object, "relay", cli_string(explain_relay(config, &rcpt, recipient)));
    json_object_set_new(
        object, "floor",
        explain_floor(rcpt.by != NULL ? rcpt.by : rcpt.connector, rcpt.token, &look.session));
    json_object_set_new(object, "token", cli_string(connector_token_name(rcpt.token)));
    add_connector(object, "refused_by", rcpt.by);
    reply_words(config, rcpt.token, rcpt.class, decision, words);
    json_object_set_new(object, "reply", cli_string(words));
    add_would(object, &rcpt.would);
    smtp_decision_text(decision, id);
    json_object_set_new(object, "decision", cli_string(id));
    json_object_set_new(object, "considered", options_explained(config, &recipient));
}

static json_t *recipient_explained(const struct config *config, const char *to, bool *refused)
{
    char domain[PATTERN_TEXT_MAX];
    if (domain_of(to, ADDRESS_ALLOW_POSTMASTER, domain) < 0) {
        usage_because(to, "is no recipient");
        return NULL;
    }
    struct slice recipient = slice_of_string(domain);
    struct inbound_rcpt rcpt;
    inbound_rcpt(config->inbound, &look.session, slice_of_string(look.sender), recipient, &rcpt);
    json_t *object = json_object();
    json_object_set_new(object, "to", cli_string(to));
    if (!look.only_out) {
        door_explained(config, recipient, &rcpt, object);
        *refused = *refused || rcpt.token != TOKEN_NONE;
    }
    if (!look.only_in && (rcpt.token == TOKEN_NONE || look.only_out))
        json_object_set_new(object, "way", way_explained(config, to, recipient, rcpt.connector));
    return object;
}

static json_t *mail_explained(const struct config *config, bool *refused)
{
    struct slice sender = slice_of_string(look.sender);
    struct inbound_mail mail;
    char words[WORDS_BYTES];
    inbound_mail(config->inbound, &look.session, sender, &mail);
    reply_words(config, mail.token, mail.class,
                smtp_decision_id(config, &look.session, sender, slice_of(NULL, 0)), words);
    json_t *object = json_object();
    json_object_set_new(object, "from", cli_string(look.from));
    json_object_set_new(object, "token", cli_string(connector_token_name(mail.token)));
    add_connector(object, "refused_by", mail.by);
    json_object_set_new(object, "reply", cli_string(words));
    add_would(object, &mail.would);
    *refused = *refused || mail.token != TOKEN_NONE;
    return object;
}

/* ---- for people ---- */

static void print_would(const json_t *object)
{
    const json_t *would = json_object_get(object, "would");
    char words[WORDS_BYTES];
    if (would == NULL)
        return;
    snprintf(words, sizeof(words), "%s would %s %s", cli_text(would, "connector"),
             cli_text(would, "result"), cli_text(would, "token"));
    cli_line("in test", words);
}

static void print_considered(const json_t *object)
{
    const json_t *one;
    size_t i;
    json_array_foreach(json_object_get(object, "considered"), i, one)
        printf("    %-24s %-8s %-8s %s%s%s\n", cli_text(one, "connector"), cli_text(one, "type"),
               cli_text(one, "state"), cli_text(one, "why"),
               *cli_text(one, "by") != '\0' ? "; " : "", cli_text(one, "by"));
}

static json_int_t number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void print_class(const json_t *class)
{
    char words[WORDS_BYTES];
    const char *name = cli_text(class, "name"), *by = cli_text(class, "by");
    const char *by_name = cli_text(class, "by_name");
    snprintf(words, sizeof(words), "%s, %s%s%s%s%s; tried again after %lld s to %lld s, for %lld s",
             *name != '\0' ? name : "none", cli_text(class, "priority"), *by != '\0' ? ", by " : "",
             by, *by_name != '\0' ? " " : "", by_name, number_of(class, "retry_initial_s"),
             number_of(class, "retry_max_s"), number_of(class, "age_max_s"));
    cli_line("class", words);
}

static void print_way(const json_t *way)
{
    char words[WORDS_BYTES];
    if (way == NULL)
        return;
    const char *connector = cli_text(way, "connector"), *pattern = cli_text(way, "pattern");
    const bool hybrid = strcmp(cli_text(way, "min_group"), "hybrid") == 0;
    snprintf(words, sizeof(words), "%s%s%s%s%s, at least %s%s%s%s", cli_text(way, "verdict"),
             *connector != '\0' ? " " : "", connector, *pattern != '\0' ? " by " : "", pattern,
             cli_text(way, "floor"), hybrid ? ", hybrid group" : "",
             *cli_text(way, "reason") != '\0' ? "; " : "", cli_text(way, "reason"));
    cli_line("way out", words);
    sts_cli_lines(json_object_get(way, "mta-sts"));
    explain_online_print(json_object_get(way, "online"));
    print_considered(way);
    print_class(json_object_get(way, "class"));
    cli_line_list("copies", json_object_get(way, "copies"));
    cli_line("in test", cli_text(way, "would"));
}

static void print_recipient(const json_t *object)
{
    char words[WORDS_BYTES];
    const char *connector = cli_text(object, "connector");
    const char *how = cli_text(object, "how");
    printf("RCPT %s\n", cli_text(object, "to"));
    if (look.only_out) {
        print_way(json_object_get(object, "way"));
        return;
    }
    snprintf(words, sizeof(words), "%s%s%s%s%s", cli_text(object, "attributed"),
             *connector != '\0' ? " " : "", connector, *how != '\0' ? ", by " : "", how);
    cli_line("attributed", words);
    print_considered(object);
    explain_floor_print(json_object_get(object, "floor"));
    explain_relay_print(cli_text(object, "relay"), connector);
    if (json_is_true(json_object_get(object, "own_sender")))
        cli_line("own sender", "one of our domains in MAIL FROM, without proof");
    print_would(object);
    cli_line("reply", cli_text(object, "reply"));
    cli_line("decision", cli_text(object, "decision"));
    print_way(json_object_get(object, "way"));
}

static void print_all(const json_t *all)
{
    const json_t *mail = json_object_get(all, "mail"), *one;
    size_t i;
    printf("MAIL %s\n", cli_text(mail, "from"));
    if (!look.only_out) {
        print_would(mail);
        cli_line("reply", cli_text(mail, "reply"));
    }
    json_array_foreach(json_object_get(all, "recipients"), i, one) print_recipient(one);
}

static int explain(const struct config *config)
{
    const struct config_listener *listener = listener_of(config);
    bool refused = false;
    if (listener == NULL)
        return usage_because(look.listener, "is no listener of this configuration");
    facts_build(config, listener);
    json_t *all = json_object(), *recipients = json_array();
    json_object_set_new(all, "listener", cli_string(listener->name));
    json_object_set_new(all, "submission", json_boolean(look.session.is_submission));
    json_object_set_new(all, "mail", mail_explained(config, &refused));
    refused = refused && !look.only_out;
    json_object_set_new(all, "recipients", recipients);
    for (unsigned i = 0; i < look.to_count; i++) {
        json_t *one = recipient_explained(config, look.to[i], &refused);
        if (one == NULL) {
            json_decref(all);
            return 2;
        }
        json_array_append_new(recipients, one);
    }
    int status = refused ? 1 : 0;
    if (look.as_json)
        return cli_print_json(all, status);
    print_all(all);
    json_decref(all);
    return status;
}

int explain_main(int argc, char **argv)
{
    int status = take_options(argc, argv);
    if (status >= 0)
        return status;
    struct config *config = cli_config(look.config_file);
    if (config == NULL)
        return 1;
    status = explain(config);
    config_free(config);
    return status;
}
