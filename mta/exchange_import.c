/*
 * exchange_import.c - connectors of Exchange Online, property by property
 *
 *   object --section_begin--> lines, losses --section_end--> "inbound "title" { .. }", or comments
 *
 * Inbound ones are written first, so that it is known whether one stands for the servers that an
 * outbound one with RouteAllMessagesViaOnPremises sends to: both need the same label. Everything
 * gets `state = test`, or off where it was disabled.
 *
 * A section is gathered in memory (open_memstream), as the last property may make a comment of it.
 * Bounds: those of the configuration; lists that are longer are refused by `ringpost check`.
 */
#include "mta/exchange_import.h"

#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <strings.h>

#include "core/check.h"
#include "mta/config.h"
#include "mta/connector.h"
#include "mta/pattern.h"
#include "mta/route.h"

enum { ORIGINAL_MAX = 160, TITLE_BYTES = CONNECTOR_NAME_MAX + 1, VALUE_BYTES = 320 };

static const char shared_label[] = "on-premises";

struct import {
    FILE *messages;
    struct exchange_sums *sums;
    json_t *titles[2]; /* sets: inbound, outbound */
    bool wants_label;  /* an outbound connector takes all mail to servers of ours */
    bool has_label;    /* and an inbound one, in force, has the label */
};

struct section {
    struct import *import;
    const json_t *object;
    bool is_inbound;
    bool is_own;
    bool refused;
    char title[TITLE_BYTES];
    FILE *lines;
};

/* ---- words ---- */

/* Text of strangers for comments and terminals: printable, in one line, and not without end. */
static const char *shown(const char *text, char out[static ORIGINAL_MAX])
{
    size_t at = 0;
    for (; *text != '\0' && at + 2 < ORIGINAL_MAX; text++) {
        unsigned char c = (unsigned char)*text, next = (unsigned char)text[1];
        bool control = c < ' ' || c == 0x7f;
        if (c == 0xc2 && next >= 0x80 && next < 0xa0) { /* C1 controls, in UTF-8 */
            control = true;
            text++;
        }
        out[at++] = control ? '?' : (char)c;
    }
    while (*text != '\0' && at > 0 && ((unsigned char)out[at - 1] & 0xc0) == 0x80)
        at--; /* not the middle of a character */
    if (*text != '\0' && at > 0 && (unsigned char)out[at - 1] >= 0xc0)
        at--;
    out[at] = '\0';
    return out;
}

static void PRINTF_LIKE(3, 0)
    tell(struct section *s, const char *what, const char *format, va_list arguments)
{
    char text[512];
    vsnprintf(text, sizeof(text), format, arguments);
    fprintf(s->lines, "    # %s: %s\n", what, text);
    fprintf(s->import->messages, "%s \"%s\": %s: %s\n", s->is_inbound ? "inbound" : "outbound",
            s->title, what, text);
}

/* Something is not carried over, or means less or more than it did. */
static void PRINTF_LIKE(2, 3) loss(struct section *s, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    tell(s, "warning", format, arguments);
    va_end(arguments);
    s->import->sums->losses++;
}

/* It cannot be a connector of ours as it is. */
static void PRINTF_LIKE(2, 3) refuse(struct section *s, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    tell(s, "error", format, arguments);
    va_end(arguments);
    s->import->sums->errors++;
    s->refused = true;
}

/* ---- properties ---- */

static bool is_empty(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING: return json_string_length(value) == 0;
    case JSON_ARRAY: return json_array_size(value) == 0;
    case JSON_OBJECT: return json_object_size(value) == 0;
    case JSON_NULL:
    case JSON_FALSE: return true;
    default: return false;
    }
}

static bool is_true(const struct section *s, const char *key)
{
    const json_t *value = json_object_get(s->object, key);
    return json_is_true(value) ||
           (json_is_string(value) && strcasecmp(json_string_value(value), "true") == 0);
}

/* The strings of a list, which PowerShell may have written as one string, or as an object around
 * it; NULL behind the last one. */
static const char *item(struct section *s, const char *key, size_t index)
{
    const json_t *value = json_object_get(s->object, key);
    if (json_is_object(value) && json_is_array(json_object_get(value, "value")))
        value = json_object_get(value, "value");
    if (json_is_string(value))
        return index == 0 && json_string_length(value) > 0 ? json_string_value(value) : NULL;
    if (value == NULL || is_empty(value))
        return NULL;
    if (!json_is_array(value)) {
        refuse(s, "%s is no list of texts", key);
        return NULL;
    }
    const json_t *element = json_array_get(value, index);
    if (element == NULL)
        return NULL;
    if (!json_is_string(element)) {
        refuse(s, "%s has an element that is no text; take it from a session with Exchange Online",
               key);
        return NULL;
    }
    return json_string_value(element);
}

/* An enum by its number or its name, without case. choices end with a NULL; 0 and empty: otherwise.
 * -1: it is none of them. */
struct choice {
    const char *name;
    int number;
    int value;
};
static int choose(const struct section *s, const char *key, const struct choice *choices,
                  int otherwise)
{
    const json_t *value = json_object_get(s->object, key);
    if (value == NULL || is_empty(value))
        return otherwise;
    for (; choices->name != NULL; choices++) {
        if (json_is_integer(value) && json_integer_value(value) == choices->number)
            return choices->value;
        if (json_is_string(value) && strcasecmp(json_string_value(value), choices->name) == 0)
            return choices->value;
    }
    return -1;
}

/* ---- lists of ours ---- */

struct list {
    struct section *section;
    const char *key;
    json_t *seen; /* a set: twice is once */
};

static struct list list_begin(struct section *s, const char *key)
{
    return (struct list) { .section = s, .key = key, .seen = json_object() };
}

/* value has nothing in it that a quoted string of the configuration could end or expand by. */
static void list_add(struct list *list, const char *value)
{
    CHECK(strpbrk(value, "\"\\$\n\r") == NULL);
    if (json_object_get(list->seen, value) != NULL ||
        json_object_set_new(list->seen, value, json_true()) < 0)
        return;
    size_t count = json_object_size(list->seen);
    if (count == 1)
        fprintf(list->section->lines, "    %s = { \"%s\"", list->key, value);
    else
        fprintf(list->section->lines, ",%s\"%s\"", count % 4 == 1 ? "\n        " : " ", value);
}

/* How many there are. */
static size_t list_end(struct list *list)
{
    size_t count = json_object_size(list->seen);
    if (count > 0)
        fputs(" }\n", list->section->lines);
    json_decref(list->seen);
    return count;
}

/* `d`, `*.d` or `*` in normal form. An inbound `*.d` of Exchange means d, too. False: it is none.
 */
static bool list_add_pattern(struct list *list, const char *text, bool with_domain)
{
    char domain[PATTERN_TEXT_MAX + 2] = "*.";
    bool below = strncmp(text, "*.", 2) == 0;
    if (strcmp(text, "*") == 0) {
        list_add(list, "*");
        return true;
    }
    if (pattern_normalise(slice_of_string(below ? text + 2 : text), domain + 2) <= 0 ||
        strpbrk(domain + 2, "\"\\$*") != NULL)
        return false;
    if (!below || with_domain)
        list_add(list, domain + 2);
    if (below)
        list_add(list, domain);
    return true;
}

static size_t patterns(struct section *s, const char *property, const char *key, bool with_domain)
{
    struct list list = list_begin(s, key);
    struct {
        const char *text;
    } bad[8];
    unsigned bad_count = 0;
    const char *text;
    for (size_t i = 0; (text = item(s, property, i)) != NULL; i++)
        if (!list_add_pattern(&list, text, with_domain) && bad_count < ARRAY_COUNT(bad))
            bad[bad_count++].text = text;
    size_t count = list_end(&list);
    char words[ORIGINAL_MAX];
    for (unsigned i = 0; i < bad_count; i++)
        loss(s, "%s: %s is no domain, and was left out", property, shown(bad[i].text, words));
    return count;
}

/* ---- what both kinds have ---- */

/* A title of ours of any name, which nobody else has. */
static void title_make(struct section *s, const char *name)
{
    char plain[TITLE_BYTES];
    size_t at = 0;
    for (; *name != '\0' && at + 5 < TITLE_BYTES; name++) {
        uint8_t c = (uint8_t)*name, lower = ascii_lower(c);
        bool good = (lower >= 'a' && lower <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
                    c == '_' || c == '-';
        if (good)
            plain[at++] = (char)c;
        else if (at > 0 && plain[at - 1] != '-')
            plain[at++] = '-';
    }
    while (at > 0 && plain[at - 1] == '-')
        at--;
    plain[at] = '\0';
    json_t *titles = s->import->titles[s->is_inbound ? 0 : 1];
    snprintf(s->title, sizeof(s->title), "%.58s", at == 0 ? "connector" : plain);
    for (unsigned i = 2; json_object_get(titles, s->title) != NULL && i < 10'000; i++)
        snprintf(s->title, sizeof(s->title), "%.58s-%u", at == 0 ? "connector" : plain, i);
    json_object_set_new(titles, s->title, json_true());
}

static void comment(struct section *s, const char *what, const char *key)
{
    const json_t *value = json_object_get(s->object, key);
    char words[ORIGINAL_MAX];
    if (json_is_string(value) && json_string_length(value) > 0)
        fprintf(s->lines, "    # %s: %s\n", what, shown(json_string_value(value), words));
}

static void head(struct section *s)
{
    static const struct choice types[] = { { "OnPremises", 1, 1 },
                                           { "Partner", 2, 0 },
                                           { NULL, 0, 0 } };
    int type = choose(s, "ConnectorType", types, -1);
    const char *name = json_string_value(json_object_get(s->object, "Name"));
    const char *identity = json_string_value(json_object_get(s->object, "Identity"));
    title_make(s, name != NULL ? name : identity != NULL ? identity : "");
    comment(s, "in Exchange", name != NULL ? "Name" : "Identity");
    comment(s, "comment", "Comment");
    if (type < 0)
        refuse(s, "ConnectorType is neither Partner nor OnPremises");
    s->is_own = type == 1;
    const json_t *enabled = json_object_get(s->object, "Enabled");
    fprintf(s->lines, "    type = %s\n    state = %s\n", s->is_own ? "own" : "partner",
            enabled != NULL && is_empty(enabled) ? "off" : "test");
}

/* Properties that have no equal here; those that say nothing about mail are not even mentioned. */
static void leftovers(struct section *s, const char *const *read)
{
    static const char *const silent[] = {
        "Name",
        "Identity",
        "Comment",
        "ConnectorType",
        "Enabled",
        "TestMode",
        "ConnectorSource",
        "Id",
        "Guid",
        "ImmutableId",
        "ExchangeVersion",
        "DistinguishedName",
        "ObjectClass",
        "ObjectCategory",
        "WhenChanged",
        "WhenCreated",
        "WhenChangedUTC",
        "WhenCreatedUTC",
        "OrganizationId",
        "OrganizationalUnitRoot",
        "ExchangeObjectId",
        "AdminDisplayName",
        "IsValid",
        "ObjectState",
        "OriginatingServer",
        "PSComputerName",
        "PSShowComputerName",
        "RunspaceId",
        "LinkForModifiedConnector",
        "Organization",
        NULL,
    };
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)s->object, key, value)
    {
        char words[ORIGINAL_MAX];
        bool known = is_empty(value) || strchr(key, '@') != NULL;
        for (unsigned i = 0; silent[i] != NULL && !known; i++)
            known = strcmp(key, silent[i]) == 0;
        for (unsigned i = 0; read[i] != NULL && !known; i++)
            known = strcmp(key, read[i]) == 0;
        if (!known)
            loss(s, "%s has no equal here, and was left out", shown(key, words));
    }
}

/* ---- inbound ---- */

/* "smtp:*.d;1": the cost stands behind the domain. */
static void sender_domains(struct section *s)
{
    struct list list = list_begin(s, "sender-domains");
    const char *bad = NULL;
    const char *text;
    unsigned lowest = UINT_MAX, highest = 0;
    bool all = false;
    for (size_t i = 0; (text = item(s, "SenderDomains", i)) != NULL; i++) {
        char domain[VALUE_BYTES];
        const char *at = strncasecmp(text, "smtp:", 5) == 0 ? text + 5 : text;
        size_t size = strcspn(at, ";");
        uint64_t cost;
        if (at[size] == ';' && slice_to_u64(slice_of_string(at + size + 1), 1'000, &cost) == 0) {
            lowest = MIN(lowest, (unsigned)cost);
            highest = MAX(highest, (unsigned)cost);
        }
        snprintf(domain, sizeof(domain), "%.*s", (int)MIN(size, sizeof(domain) - 1), at);
        if (s->is_own && strcmp(domain, "*") == 0)
            all = true; /* of an own connector: no list */
        else if (!list_add_pattern(&list, domain, true))
            bad = text;
    }
    if (json_object_size(list.seen) == 0 && !s->is_own && bad == NULL)
        list_add(&list, "*");
    size_t count = list_end(&list);
    char words[ORIGINAL_MAX];
    if (all && count > 0)
        loss(s, "SenderDomains has * and others; write no sender-domains if it is for all");
    if (bad != NULL && count == 0)
        refuse(s, "SenderDomains: %s is no domain, and there is no other", shown(bad, words));
    else if (bad != NULL)
        loss(s, "SenderDomains: %s is no domain, and was left out", shown(bad, words));
    if (lowest != UINT_MAX)
        fprintf(s->lines, "    cost = %u\n", lowest);
    if (lowest != UINT_MAX && lowest != highest)
        loss(s, "SenderDomains have different costs; a connector has one here, the lowest");
}

/* The name that certificates are asked for: a domain, or <I>issuer<S>subject with a CN in it. */
static bool certificate_name(struct section *s)
{
    const char *text = json_string_value(json_object_get(s->object, "TlsSenderCertificateName"));
    char words[ORIGINAL_MAX], name[VALUE_BYTES];
    if (text == NULL || *text == '\0')
        return false;
    snprintf(name, sizeof(name), "%s", text);
    if (strchr(text, '<') != NULL) {
        const char *subject = strstr(text, "<S>");
        const char *cn = subject == NULL ? NULL : strcasestr(subject, "CN=");
        snprintf(name, sizeof(name), "%.*s", cn == NULL ? 0 : (int)strcspn(cn + 3, ",<"),
                 cn == NULL ? "" : cn + 3);
        loss(s,
             "TlsSenderCertificateName %s: the issuer is not looked at here, but whether the "
             "roots of cert-roots vouch for it",
             shown(text, words));
    }
    struct list list = list_begin(s, "cert-name");
    bool good = *name != '\0' && strcmp(name, "*") != 0 && list_add_pattern(&list, name, false);
    (void)list_end(&list);
    if (!good)
        refuse(s, "TlsSenderCertificateName: %s is no name", shown(text, words));
    else if (s->is_own && strncmp(name, "*.", 2) == 0)
        fputs("    cert-wildcard = yes\n", s->lines); /* as it is there */
    return good;
}

static bool addresses(struct section *s)
{
    struct list list = list_begin(s, "addresses");
    const char *bad = NULL;
    const char *text;
    for (size_t i = 0; (text = item(s, "SenderIPAddresses", i)) != NULL; i++) {
        struct net_prefix prefix;
        if (net_parse_prefix(slice_of_string(text), &prefix) == 0)
            list_add(&list, text);
        else
            bad = text;
    }
    char words[ORIGINAL_MAX];
    size_t count = list_end(&list);
    if (bad != NULL)
        loss(s,
             "SenderIPAddresses: %s is no network, and was left out; write a range as "
             "192.0.2.0/28",
             shown(bad, words));
    return count > 0;
}

static void identify_partner(struct section *s, bool certificate, bool address)
{
    bool by_certificate = is_true(s, "RestrictDomainsToCertificate");
    bool by_address = is_true(s, "RestrictDomainsToIPAddresses");
    if (by_certificate && !certificate)
        refuse(s, "RestrictDomainsToCertificate, and there is no TlsSenderCertificateName");
    if (by_address && !address)
        refuse(s, "RestrictDomainsToIPAddresses, and there are no SenderIPAddresses");
    if (certificate && address) {
        fprintf(s->lines, "    identify = %s\n",
                by_certificate && by_address ? "both"
                : by_certificate             ? "cert"
                : by_address                 ? "address"
                                             : "either");
        if (by_certificate == by_address)
            loss(s,
                 "certificate and addresses: what the pair means there is not documented; check "
                 "identify = %s",
                 by_certificate ? "both" : "either");
    }
    if (by_certificate || by_address)
        fputs("    restrict = yes\n", s->lines);
    if (certificate && !by_certificate)
        loss(s, "TlsSenderCertificateName without RestrictDomainsToCertificate: mail without that "
                "certificate is not refused for it");
    if (address && !by_address)
        loss(s, "SenderIPAddresses without RestrictDomainsToIPAddresses: mail from elsewhere is "
                "not refused for it");
}

static void identify_own(struct section *s, bool certificate, bool address)
{
    if (!certificate && !address)
        refuse(s, "OnPremises without TlsSenderCertificateName and SenderIPAddresses: nothing says "
                  "who these servers are");
    if (!certificate || !address)
        return;
    fputs("    identify = both\n", s->lines);
    loss(s,
         "certificate and addresses: what the pair means there is not documented; check identify "
         "= both (either: one is enough)");
}

static void rights(struct section *s)
{
    const char *name = json_string_value(json_object_get(s->object, "TlsSenderCertificateName"));
    struct list list = list_begin(s, "rights");
    bool shared = name != NULL && platform_is_built_in(slice_of_string(name));
    if (!shared)
        list_add(&list, "relay");
    if (is_true(s, "TreatMessagesAsInternal"))
        list_add(&list, "internal");
    if (is_true(s, "CloudServicesMailEnabled") && !shared)
        list_add(&list, "headers");
    (void)list_end(&list);
    if (shared)
        loss(s, "the certificate is that of a platform that sends for all of its customers, any of "
                "whom could relay: without rights = { relay } (L-06)");
    if (is_true(s, "CloudServicesMailEnabled"))
        loss(s, shared ? "CloudServicesMailEnabled: any customer of the platform could set trusted "
                         "header fields: without rights = { headers }"
                       : "CloudServicesMailEnabled: list your own fields in inbound-defaults { "
                         "trusted-fields }");
}

static void inbound(struct section *s)
{
    static const char *const read[] = {
        "SenderDomains",
        "SenderIPAddresses",
        "TlsSenderCertificateName",
        "RequireTls",
        "RestrictDomainsToIPAddresses",
        "RestrictDomainsToCertificate",
        "TreatMessagesAsInternal",
        "CloudServicesMailEnabled",
        "AssociatedAcceptedDomains",
        NULL,
    };
    sender_domains(s);
    bool certificate = certificate_name(s);
    bool address = addresses(s);
    if (s->is_own)
        identify_own(s, certificate, address);
    else
        identify_partner(s, certificate, address);
    bool only_certificate =
        certificate && (!address || s->is_own || is_true(s, "RestrictDomainsToCertificate"));
    bool tls = is_true(s, "RequireTls");
    if (!tls && only_certificate)
        loss(s, "RequireTls is false, and a certificate can only be shown by TLS: required");
    fprintf(s->lines, "    tls = %s\n", tls || only_certificate ? "required" : "optional");
    if (patterns(s, "AssociatedAcceptedDomains", "recipient-own-domains", false) > 0)
        loss(s, "AssociatedAcceptedDomains is taken for recipients in these domains; check it");
    if (s->is_own)
        rights(s);
    else if (is_true(s, "CloudServicesMailEnabled"))
        loss(s, "CloudServicesMailEnabled: a partner's header fields are never trusted here");
    if (s->is_own && s->import->wants_label) {
        fprintf(s->lines, "    label = %s\n", shared_label);
        const json_t *enabled = json_object_get(s->object, "Enabled");
        bool off = enabled != NULL && is_empty(enabled);
        s->import->has_label = s->import->has_label || (!s->refused && !off);
    }
    leftovers(s, read);
}

/* ---- outbound ---- */

static void all_mail(struct section *s, bool by_rule)
{
    if (!is_true(s, "RouteAllMessagesViaOnPremises"))
        return;
    if (!s->is_own || by_rule)
        loss(s, "RouteAllMessagesViaOnPremises %s was left out",
             by_rule ? "of a connector that only rules name" : "of a partner");
    else if (!s->import->has_label)
        loss(s, "RouteAllMessagesViaOnPremises needs the inbound connector that these servers send "
                "back through, which has the same label; write it, then all-mail = yes");
    else
        fprintf(s->lines, "    all-mail = yes\n    label = %s\n", shared_label);
}

static void domains(struct section *s)
{
    bool by_rule = is_true(s, "IsTransportRuleScoped");
    bool own = is_true(s, "AllAcceptedDomains");
    const json_t *listed = json_object_get(s->object, "RecipientDomains");
    if (by_rule) {
        fputs("    scope = rule\n", s->lines);
        loss(s, "IsTransportRuleScoped: rules are not imported; write a rule with use = %s",
             s->title);
        if (own || (listed != NULL && !is_empty(listed)))
            loss(s, "RecipientDomains of a connector that only rules name were left out");
        all_mail(s, by_rule);
        return;
    }
    struct list list = list_begin(s, "domains");
    const char *bad = NULL;
    const char *text;
    for (size_t i = 0; (text = item(s, "RecipientDomains", i)) != NULL; i++)
        if (!list_add_pattern(&list, text, false))
            bad = text;
    if (own && s->is_own)
        list_add(&list, "all-own");
    (void)list_end(&list);
    char words[ORIGINAL_MAX];
    if (bad != NULL)
        loss(s, "RecipientDomains: %s is no domain, and was left out", shown(bad, words));
    if (own && !s->is_own)
        loss(s, "AllAcceptedDomains of a partner was left out: our own mail goes to no partner");
    all_mail(s, by_rule);
}

static void hosts(struct section *s)
{
    struct list list = list_begin(s, "hosts");
    const char *bad = NULL;
    const char *text;
    bool by_mx = is_true(s, "UseMXRecord");
    for (size_t i = 0; !by_mx && (text = item(s, "SmartHosts", i)) != NULL; i++) {
        char name[ROUTE_HOST_TEXT_MAX];
        struct route_host host;
        const char *why;
        bool good = route_host_parse(slice_of_string(text), name, &host, &why) == 0 &&
                    (host.kind == ROUTE_HOST_NAME || host.kind == ROUTE_HOST_ADDRESS) &&
                    strpbrk(text, "\"\\$") == NULL;
        if (good)
            list_add(&list, text);
        else
            bad = text;
    }
    if (by_mx)
        list_add(&list, "mx");
    size_t count = list_end(&list);
    char words[ORIGINAL_MAX];
    if (bad != NULL)
        refuse(s, "SmartHosts: %s is no host", shown(bad, words));
    else if (count == 0)
        refuse(s, "neither SmartHosts nor UseMXRecord: nothing says where mail goes");
}

static bool has_literal_host(struct section *s)
{
    const char *text;
    for (size_t i = 0; (text = item(s, "SmartHosts", i)) != NULL; i++) {
        struct net_address address;
        if (net_parse(slice_of_string(text), 25, &address) == 0)
            return true;
    }
    return false;
}

static void level(struct section *s)
{
    static const struct choice levels[] = { { "EncryptionOnly", 1, TLS_LEVEL_ENCRYPT },
                                            { "CertificateValidation", 2, TLS_LEVEL_CHAIN },
                                            { "DomainValidation", 4, TLS_LEVEL_NAME },
                                            { NULL, 0, 0 } };
    static const char *const names[] = {
        [TLS_LEVEL_MAY] = "may",
        [TLS_LEVEL_ENCRYPT] = "encrypt",
        [TLS_LEVEL_CHAIN] = "chain",
        [TLS_LEVEL_NAME] = "name",
    };
    int chosen = choose(s, "TlsSettings", levels, TLS_LEVEL_MAY);
    const char *domain = json_string_value(json_object_get(s->object, "TlsDomain"));
    bool named = domain != NULL && *domain != '\0';
    char words[ORIGINAL_MAX];
    if (chosen < 0) {
        refuse(s, "TlsSettings is none of EncryptionOnly, CertificateValidation, DomainValidation");
        return;
    }
    fprintf(s->lines, "    tls = %s\n", names[chosen]);
    if (named && chosen == TLS_LEVEL_NAME) {
        struct list list = list_begin(s, "tls-name");
        bool good = strcmp(domain, "*") != 0 && list_add_pattern(&list, domain, false);
        (void)list_end(&list);
        if (!good)
            refuse(s, "TlsDomain: %s is no name", shown(domain, words));
    } else if (named) {
        loss(s,
             "TlsDomain %s is looked at with TlsSettings DomainValidation only, and was left out",
             shown(domain, words));
    } else if (chosen == TLS_LEVEL_NAME && !is_true(s, "UseMXRecord") && has_literal_host(s)) {
        refuse(s,
               "DomainValidation of an address without TlsDomain: nothing says which name (L-04)");
    }
}

static void outside_policies(struct section *s)
{
    const char *dane = json_string_value(json_object_get(s->object, "SmtpDaneMode"));
    const char *sts = json_string_value(json_object_get(s->object, "MtaStsMode"));
    char words[ORIGINAL_MAX];
    if (dane != NULL && *dane != '\0' && strcasecmp(dane, "Opportunistic") != 0)
        loss(s, "SmtpDaneMode %s is not carried over", shown(dane, words));
    if (sts != NULL && *sts != '\0' && strcasecmp(sts, "Opportunistic") != 0)
        loss(s, "MtaStsMode %s is not carried over", shown(sts, words));
}

static void outbound(struct section *s)
{
    static const char *const read[] = {
        "RecipientDomains",
        "AllAcceptedDomains",
        "IsTransportRuleScoped",
        "UseMXRecord",
        "RouteAllMessagesViaOnPremises",
        "SmartHosts",
        "TlsSettings",
        "TlsDomain",
        "SmtpDaneMode",
        "MtaStsMode",
        "CloudServicesMailEnabled",
        "SenderRewritingEnabled",
        "IsValidated",
        "LastValidationTimestamp",
        "ValidationRecipients",
        NULL,
    };
    domains(s);
    hosts(s);
    level(s);
    outside_policies(s);
    if (is_true(s, "CloudServicesMailEnabled") && s->is_own)
        fprintf(s->lines, "    headers = keep\n");
    else if (is_true(s, "CloudServicesMailEnabled"))
        loss(s, "CloudServicesMailEnabled: a partner gets no trusted header fields here");
    if (is_true(s, "SenderRewritingEnabled"))
        loss(s, "SenderRewritingEnabled: senders are not rewritten");
    if (is_true(s, "IsValidated")) {
        comment(s, "validated there", "LastValidationTimestamp");
        loss(s, "IsValidated: not here; ringpost connector validate %s", s->title);
    }
    leftovers(s, read);
}

/* ---- all of them ---- */

enum kind { KIND_NONE, KIND_INBOUND, KIND_OUTBOUND };

static enum kind kind_of(const json_t *object)
{
    static const char *const in[] = { "SenderDomains", "SenderIPAddresses", "RequireTls",
                                      "TlsSenderCertificateName", NULL };
    static const char *const out[] = { "RecipientDomains", "SmartHosts", "UseMXRecord",
                                       "IsTransportRuleScoped", NULL };
    bool is_in = false, is_out = false;
    for (unsigned i = 0; in[i] != NULL; i++)
        is_in = is_in || json_object_get(object, in[i]) != NULL;
    for (unsigned i = 0; out[i] != NULL; i++)
        is_out = is_out || json_object_get(object, out[i]) != NULL;
    return is_in == is_out ? KIND_NONE : is_in ? KIND_INBOUND : KIND_OUTBOUND;
}

/* The section, or the same as comments. */
static void print(const struct section *s, char *text, FILE *out)
{
    const char *before = s->refused ? "# " : "";
    char *rest = text, *line;
    fprintf(out, "\n%s%s \"%s\" {\n", before, s->is_inbound ? "inbound" : "outbound", s->title);
    while ((line = strsep(&rest, "\n")) != NULL)
        if (*line != '\0')
            fprintf(out, "%s%s\n", before, line);
    fprintf(out, "%s}\n", before);
}

static void section_write(struct import *import, const json_t *object, enum kind kind, FILE *out)
{
    struct section s = { .import = import, .object = object, .is_inbound = kind == KIND_INBOUND };
    char *text = NULL;
    size_t size;
    if ((s.lines = open_memstream(&text, &size)) == NULL) {
        fputs("out of memory\n", import->messages);
        import->sums->errors++;
        return;
    }
    head(&s);
    if (s.is_inbound)
        inbound(&s);
    else
        outbound(&s);
    if (fclose(s.lines) == 0 && text != NULL)
        print(&s, text, out);
    free(text);
    import->sums->connectors++;
}

void exchange_import(const json_t *connectors, FILE *out, FILE *messages,
                     struct exchange_sums *sums)
{
    struct import import = { .messages = messages,
                             .sums = sums,
                             .titles = { json_object(), json_object() } };
    *sums = (struct exchange_sums) { .connectors = 0 };
    fputs("# Connectors of Exchange Online. All are in test: they change nothing before they are\n"
          "# put into state = enforce. Our own domains are not among them: relay { domains }.\n",
          out);
    size_t index;
    const json_t *object;
    json_array_foreach(connectors, index, object)
    {
        const struct section look = { .object = object };
        import.wants_label =
            import.wants_label ||
            (kind_of(object) == KIND_OUTBOUND && is_true(&look, "RouteAllMessagesViaOnPremises"));
        if (kind_of(object) != KIND_NONE)
            continue;
        fprintf(messages,
                "number %zu: error: is neither what Get-InboundConnector nor what "
                "Get-OutboundConnector prints\n",
                index + 1);
        sums->errors++;
    }
    for (enum kind kind = KIND_INBOUND; kind <= KIND_OUTBOUND; kind++)
        json_array_foreach(connectors, index, object) if (kind_of(object) == kind)
            section_write(&import, object, kind, out);
    json_decref(import.titles[0]);
    json_decref(import.titles[1]);
}
