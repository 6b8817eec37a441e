/*
 * check_inbound.c - what inbound connectors had better not be (CONNECTORS section 12)
 *
 * Each finding names its rule, so that it can be looked up. Errors refuse a reload. What cannot be
 * a connector at all (L-01 to L-03, L-05) is told by config_inbound.c already, whether its clients
 * are asked for a certificate by check_asked.c, and what is wrong with pins by check_pins.c.
 *
 * Indexes made here live for the check only; a check that runs out of memory says so.
 */
#include "mta/check.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "core/check.h"
#include "mta/cert_usage.h"
#include "mta/cli.h"
#include "mta/config.h"
#include "mta/crl_store.h"
#include "mta/inbound.h"

enum { LINT_KEY_MAX = 128, WIDE_V4_BITS = 96 + 24, WIDE_V6_BITS = 48 };

struct lint {
    const struct config *config;
    struct config_report *report;
    const struct inbound_set *set;
    json_t *crls;        /* what became of lists of revoked certificates; NULL: nothing is known */
    json_t *usages;      /* connectors that were shown a certificate which is not for clients */
    int64_t now;         /* unix seconds */
    const char *outside; /* a listener that faces it; NULL: none does */
    bool out_of_memory;
};

static void PRINTF_LIKE(5, 6)
    tell(const struct lint *lint, enum config_severity severity, const struct inbound *c,
         const char *key, const char *format, ...)
{
    char name[LINT_KEY_MAX], text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    snprintf(name, sizeof(name), "inbound \"%.64s\": %.40s", c->name, key);
    config_report_add(lint->report, severity, lint->config->file, c->line, name, "%s", text);
}

static bool by_certificate(const struct inbound *c)
{
    return c->identify != INBOUND_BY_NOTHING && c->identify != INBOUND_BY_ADDRESS;
}

static bool may_relay(const struct inbound *c)
{
    return (c->rights & INBOUND_RELAY) != 0;
}

/* ---- each by itself ---- */

/* Whoever is identified so may be any customer of it. With a second factor it is one of them. */
static void lint_platform(const struct lint *lint, const struct inbound *c, const char *key,
                          const struct platform *platform, const char *what)
{
    if (platform == NULL || !(may_relay(c) || c->restricts) || c->header.name.size > 0)
        return;
    char field[HEADER_NAME_MAX + 64] = "have them use a certificate of their own";
    if (platform->field.size > 0)
        snprintf(field, sizeof(field), "write require-header = { %.*s, ITS VALUE } as well",
                 (int)platform->field.size, (const char *)platform->field.data);
    tell(lint, may_relay(c) ? CONFIG_ERROR : CONFIG_WARNING, c, key,
         "%s is of a platform that sends for all of its customers: any of them would be taken for "
         "this one (L-06); %s",
         what, field);
}

static void lint_header(const struct lint *lint, const struct inbound *c)
{
    if (c->header.name.size > 0 && !platform_has_field(&lint->config->platforms, c->header.name))
        tell(lint, CONFIG_WARNING, c, "require-header",
             "no platform known here sets %.*s itself, so any customer of it may write it (L-23); "
             "choose the field by which the platform tells its customers apart (for Exchange "
             "Online: X-OriginatorOrg)",
             (int)c->header.name.size, (const char *)c->header.name.data);
}

static void lint_names(const struct lint *lint, const struct inbound *c)
{
    unsigned ours = 0;
    for (unsigned i = 0; i < c->names_count; i++) {
        struct slice name = c->names[i];
        ours += inbound_name_is_ours(lint->config->relay.domains, name) ? 1 : 0;
        char text[PATTERN_TEXT_MAX + 2];
        slice_to_string(name, text, sizeof(text));
        lint_platform(lint, c, "cert-name", platform_of_name(&lint->config->platforms, name), text);
    }
    if (c->type == CONNECTOR_OWN && may_relay(c) && c->names_count > 0 && ours == 0)
        tell(lint, CONFIG_WARNING, c, "cert-name",
             "no name lies in a domain of ours (relay { domains }), so it can relay for senders of "
             "ours only (L-12); give the servers names of ours");
}

/* What the server wrote of the lists that certificates pointed to: the one that connectors miss. */
static void lint_revocation(const struct lint *lint, const struct inbound *c)
{
    size_t index;
    json_t *list;
    if (!by_certificate(c) || c->revocation != TLS_REVOCATION_HARD)
        return;
    json_array_foreach(json_object_get(lint->crls, "lists"), index, list)
    {
        const char *error = cli_text(list, "error");
        if (strcmp(cli_text(list, "connector"), c->name) != 0 ||
            json_integer_value(json_object_get(list, "next_update")) >= lint->now)
            continue;
        tell(lint, CONFIG_WARNING, c, "cert-revocation",
             "hard, and a list that its certificates point to is not here, so they are deferred: "
             "%.200s: %.200s (L-17); let this node fetch it, or write soft",
             cli_text(list, "url"), *error == '\0' ? "not fetched yet" : error);
        return; /* of each connector the first one will do */
    }
}

static void lint_usage(const struct lint *lint, const struct inbound *c)
{
    const json_t *shown = json_object_get(lint->usages, c->name);
    if (!by_certificate(c) || c->usage != TLS_PURPOSE_CLIENT || shown == NULL)
        return;
    const char *stops = cli_text(shown, "stops");
    if (*stops != '\0') {
        tell(lint, CONFIG_WARNING, c, "cert-usage",
             "client, and the CA of the certificate that %.200s showed last (%.160s) has announced "
             "to issue none for clients from %.16s on: the next one would be refused (L-18); write "
             "any, or agree on a CA that is not public (cert-roots)",
             cli_text(shown, "where"), cli_text(shown, "names"), stops);
        return;
    }
    tell(lint, CONFIG_WARNING, c, "cert-usage",
         "client, and the certificate that %.200s showed last (%.160s) is not for clients, so it "
         "would be refused (L-18); have the partner get another one, or write any",
         cli_text(shown, "where"), cli_text(shown, "names"));
}

static void lint_rights(const struct lint *lint, const struct inbound *c)
{
    if (c->relays_any_sender)
        tell(lint, CONFIG_WARNING, c, "relay-senders",
             "any: whoever gets hold of this identity can send as anybody (L-13); write own");
    if (may_relay(c) && c->identify == INBOUND_BY_ADDRESS)
        tell(lint, CONFIG_WARNING, c, "rights",
             "relay by address alone: whoever gets such an address relays (L-13); identify these "
             "servers by certificate");
}

/* On a wildcard address, or one that the world reaches. */
static const char *listener_outside(const struct config *config)
{
    static const uint8_t zeros[16];
    for (unsigned i = 0; i < config->listeners_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        for (unsigned k = 0; k < listener->addresses_count; k++) {
            const struct net_address *a = &listener->addresses[k];
            const size_t octets = net_is_v4(a) ? 4 : sizeof(zeros);
            if (!net_is_special(a) ||
                memcmp(a->octets + sizeof(zeros) - octets, zeros, octets) == 0)
                return listener->name;
        }
    }
    return NULL;
}

/* What is private is so to each network of its own: behind a NAT or a tunnel it may be anybody. */
static void lint_private(const struct lint *lint, const struct inbound *c,
                         const struct net_prefix *prefix, const struct net_address *first,
                         const char *text, unsigned bits)
{
    enum { ONE = 128 };
    if (c->type == CONNECTOR_OWN && prefix->bits < ONE && net_is_special(first) &&
        lint->outside != NULL)
        tell(lint, CONFIG_WARNING, c, "addresses",
             "%s/%u is private, and listener \"%.64s\" faces the outside (L-14); list those that "
             "there are, or give them a listener of their own",
             text, bits, lint->outside);
}

static void lint_addresses(const struct lint *lint, const struct inbound *c)
{
    static const struct net_address any_v4 = { .octets = { [10] = 0xff, [11] = 0xff } };
    for (unsigned i = 0; i < networks_count(c->addresses); i++) {
        const struct net_prefix *prefix = networks_prefix(c->addresses, i);
        struct net_address first = { .port = 0 };
        char text[NET_TEXT_MAX];
        memcpy(first.octets, prefix->octets, sizeof(first.octets));
        bool v4 = net_is_v4(&first) || net_in(prefix, &any_v4);
        net_text(&first, false, text);
        lint_platform(lint, c, "addresses", platform_of_network(&lint->config->platforms, prefix),
                      text);
        if (c->type == CONNECTOR_OWN && prefix->bits < (v4 ? WIDE_V4_BITS : WIDE_V6_BITS))
            tell(lint, CONFIG_WARNING, c, "addresses",
                 "%s/%u is wide for servers of ours (L-14); list those that there are", text,
                 v4 ? prefix->bits - 96U : prefix->bits);
        else
            lint_private(lint, c, prefix, &first, text, v4 ? prefix->bits - 96U : prefix->bits);
    }
}

/* d without *.d, and the other way round: what is meant by one is usually meant by both. */
static void lint_subdomains(const struct lint *lint, const struct inbound *c)
{
    for (unsigned i = 0; c->type == CONNECTOR_PARTNER && i < pattern_set_count(c->senders); i++) {
        char text[PATTERN_TEXT_MAX + 2], below[PATTERN_TEXT_MAX + 2];
        struct slice pattern = pattern_set_text(c->senders, i, text);
        struct pattern_match match;
        if (pattern.data[0] == '[' || slice_equal(pattern, SLICE("*")))
            continue;
        if (pattern.data[0] == '*') {
            if (!pattern_set_find(c->senders, slice_from(pattern, 2), &match) ||
                match.kind == PATTERN_ALL)
                tell(lint, CONFIG_WARNING, c, "sender-domains",
                     "%s is there, %s is not: mail from the domain itself is not covered (L-11); "
                     "list both",
                     text, text + 2);
        } else if (c->restricts) {
            snprintf(below, sizeof(below), "any.%.*s", PATTERN_TEXT_MAX - 8, text);
            if (!pattern_set_find(c->senders, slice_of_string(below), &match) ||
                match.kind == PATTERN_ALL)
                tell(lint, CONFIG_WARNING, c, "sender-domains",
                     "%s is there, *.%s is not: its subdomains may come from anywhere (L-11); list "
                     "both",
                     text, text);
        }
    }
}

/* ---- beside each other ---- */

static void lint_same_names(struct lint *lint, struct pattern_set *seen, unsigned index)
{
    const struct inbound *c = inbound_at(lint->set, index);
    for (unsigned i = 0; i < c->names_count; i++) {
        uint32_t other;
        const char *why;
        int r = pattern_set_add(seen, c->names[i], index, &other, &why);
        if (r == -ENOMEM)
            lint->out_of_memory = true;
        if (r == -EEXIST && other != index)
            tell(lint, CONFIG_WARNING, c, "cert-name",
                 "%.*s identifies \"%s\" too, which comes first (cost, name), so this one never "
                 "wins by it (L-08)",
                 (int)c->names[i].size, (const char *)c->names[i].data,
                 inbound_at(lint->set, other)->name);
    }
}

static void lint_same_addresses(struct lint *lint, struct networks *seen, unsigned index)
{
    const struct inbound *c = inbound_at(lint->set, index);
    for (unsigned i = 0; i < networks_count(c->addresses); i++) {
        uint32_t other = index;
        int r = networks_add(seen, networks_prefix(c->addresses, i), index, &other);
        if (r == -ENOMEM)
            lint->out_of_memory = true;
        if (r == -EEXIST && other != index)
            tell(lint, CONFIG_WARNING, c, "addresses",
                 "network %u identifies \"%s\" too, which comes first (cost, name), so this one "
                 "never wins by it (L-08)",
                 i + 1, inbound_at(lint->set, other)->name);
    }
}

/* The same filter in front of both, or none: else they share nothing. */
static bool takes_all_senders(const struct inbound *c)
{
    return c->senders == NULL && c->recipients == NULL;
}

static void lint_same(struct lint *lint)
{
    struct pattern_set *names = NULL;
    struct networks *addresses = NULL;
    if (pattern_set_new(&names) < 0 || networks_new(&addresses) < 0)
        lint->out_of_memory = true;
    for (unsigned i = 0; !lint->out_of_memory && i < inbound_count(lint->set); i++) {
        const struct inbound *c = inbound_at(lint->set, i);
        if (c->type != CONNECTOR_OWN || c->state == CONNECTOR_OFF || !takes_all_senders(c))
            continue;
        if (by_certificate(c))
            lint_same_names(lint, names, i);
        if (c->identify == INBOUND_BY_ADDRESS || c->identify == INBOUND_BY_EITHER)
            lint_same_addresses(lint, addresses, i);
    }
    pattern_set_free(names);
    networks_free(addresses);
}

static bool is_lockdown(const struct inbound *c)
{
    return c->type == CONNECTOR_PARTNER && c->restricts && c->state != CONNECTOR_OFF;
}

/* The broader lockdown that would have covered what a pattern takes for itself. */
static const struct inbound *broader(const struct lint *lint, const struct pattern_set *lockdowns,
                                     const struct inbound *c, struct slice pattern)
{
    struct pattern_match found[PATTERN_MATCHES_MAX];
    unsigned count = pattern_set_find_all(lockdowns, pattern, found);
    for (unsigned i = 0; i < count; i++) {
        const struct inbound *other = inbound_at(lint->set, found[i].value);
        if (other != c)
            return other;
    }
    return NULL;
}

static void lint_narrow(const struct lint *lint, const struct pattern_set *lockdowns,
                        const struct inbound *c)
{
    for (unsigned i = 0; i < pattern_set_count(c->senders); i++) {
        char text[PATTERN_TEXT_MAX + 2];
        struct slice pattern = pattern_set_text(c->senders, i, text);
        const struct inbound *other =
            slice_equal(pattern, SLICE("*")) ? NULL : broader(lint, lockdowns, c, pattern);
        if (other == NULL)
            continue;
        tell(lint, CONFIG_WARNING, c, "sender-domains",
             "%s is narrower than what \"%s\" covers, so its mail need not come by \"%s\", nor may "
             "it unless this connector knows that one's servers (L-10)",
             text, other->name, other->name);
        return;
    }
}

static void lint_lockdowns(struct lint *lint)
{
    struct pattern_set *lockdowns = NULL;
    if (inbound_defaults(lint->set)->any_lockdown)
        return;
    if (pattern_set_new(&lockdowns) < 0)
        lint->out_of_memory = true;
    for (unsigned i = 0; !lint->out_of_memory && i < inbound_count(lint->set); i++) {
        const struct inbound *c = inbound_at(lint->set, i);
        for (unsigned k = 0; is_lockdown(c) && k < pattern_set_count(c->senders); k++) {
            char text[PATTERN_TEXT_MAX + 2];
            uint32_t other;
            const char *why;
            int r =
                pattern_set_add(lockdowns, pattern_set_text(c->senders, k, text), i, &other, &why);
            if (r == -ENOMEM)
                lint->out_of_memory = true;
        }
    }
    for (unsigned i = 0; !lint->out_of_memory && i < inbound_count(lint->set); i++)
        if (is_lockdown(inbound_at(lint->set, i)))
            lint_narrow(lint, lockdowns, inbound_at(lint->set, i));
    pattern_set_free(lockdowns);
}

/* A plain partner with the pattern of another one that always comes first. */
static void lint_shadowed(struct lint *lint)
{
    struct pattern_set *plain = NULL;
    if (pattern_set_new(&plain) < 0)
        lint->out_of_memory = true;
    for (unsigned i = 0; !lint->out_of_memory && i < inbound_count(lint->set); i++) {
        const struct inbound *c = inbound_at(lint->set, i);
        if (c->type != CONNECTOR_PARTNER || c->restricts || c->state == CONNECTOR_OFF ||
            c->identify != INBOUND_BY_NOTHING || c->recipients != NULL)
            continue;
        unsigned shadowed = 0, count = pattern_set_count(c->senders);
        const char *by = "";
        for (unsigned k = 0; k < count; k++) {
            char text[PATTERN_TEXT_MAX + 2];
            uint32_t other;
            const char *why;
            int r = pattern_set_add(plain, pattern_set_text(c->senders, k, text), i, &other, &why);
            if (r == -ENOMEM)
                lint->out_of_memory = true;
            if (r != -EEXIST || other == i)
                continue;
            shadowed++;
            by = inbound_at(lint->set, other)->name;
        }
        if (count > 0 && shadowed == count)
            tell(lint, CONFIG_WARNING, c, "sender-domains",
                 "never wins: \"%s\" has the same patterns and comes first (cost, name) (L-15)",
                 by);
    }
    pattern_set_free(plain);
}

void check_inbound(const struct config *config, struct config_report *report)
{
    char crls[CRL_STORE_PATH_MAX];
    char usages[CERT_USAGE_PATH_MAX];
    crl_store_path(config, crls);
    cert_usage_path(config, usages);
    struct lint lint = { .config = config,
                         .outside = listener_outside(config),
                         .report = report,
                         .set = config->inbound,
                         .crls = crl_store_read_state(crls),
                         .usages = cert_usage_read(usages),
                         .now = time(NULL) };
    for (unsigned i = 0; i < inbound_count(lint.set); i++) {
        const struct inbound *c = inbound_at(lint.set, i);
        lint_names(&lint, c);
        lint_header(&lint, c);
        lint_revocation(&lint, c);
        lint_usage(&lint, c);
        lint_rights(&lint, c);
        lint_addresses(&lint, c);
        lint_subdomains(&lint, c);
    }
    lint_same(&lint);
    lint_lockdowns(&lint);
    lint_shadowed(&lint);
    json_decref(lint.crls);
    json_decref(lint.usages);
    if (lint.out_of_memory)
        config_report_add(report, CONFIG_ERROR, config->file, 0, "inbound",
                          "no memory to check connectors with");
}
