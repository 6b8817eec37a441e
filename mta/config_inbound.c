/*
 * config_inbound.c - inbound "title" { }, inbound-defaults { }
 *
 * What a connector cannot be is an error here, with the way out; what it had better not be is for
 * mta/check.c. Keys that only one type has are errors at the other: a partner that was meant to
 * grant something would silently not.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/config_build.h"
#include "tls/tls_server.h"

enum { PIN_PREFIX = 7 /* "sha256:" */ };

static const char *const nulls[] = {
    [INBOUND_NULL_BY_STAR] = "by-star", [INBOUND_NULL_YES] = "yes", [INBOUND_NULL_NO] = "no", NULL
};
static const char *const checks[] = { [INBOUND_NAME] = "name",
                                      [INBOUND_NAME_AND_PIN] = "name+pin",
                                      [INBOUND_NAME_OR_PIN] = "name-or-pin",
                                      [INBOUND_PIN] = "pin",
                                      NULL };
static const char *const usages[] = { [TLS_PURPOSE_ANY] = "any",
                                      [TLS_PURPOSE_CLIENT] = "client",
                                      [TLS_PURPOSE_SERVER] = "server",
                                      NULL };
static const char *const ways[] = {
    [INBOUND_BY_NOTHING] = "",  [INBOUND_BY_CERTIFICATE] = "cert", [INBOUND_BY_ADDRESS] = "address",
    [INBOUND_BY_BOTH] = "both", [INBOUND_BY_EITHER] = "either",    NULL
};
static const char *const classes[] = {
    [CONNECTOR_REJECT] = "reject", [CONNECTOR_DEFER] = "defer", NULL
};
static const char *const requirements[] = { "required", "optional", NULL };
static const char *const versions[] = { "1.2", "1.3", NULL };
static const char *const groups[] = { "any", "hybrid", NULL };
static const char *const relay_senders[] = { "own", "any", NULL };
static const char *const null_relays[] = { [INBOUND_NULL_RELAY_CERT] = "cert",
                                           [INBOUND_NULL_RELAY_YES] = "yes",
                                           [INBOUND_NULL_RELAY_NO] = "no",
                                           NULL };
static const char *const own_senders[] = { [INBOUND_OWN_SENDER_COUNT] = "count",
                                           [INBOUND_OWN_SENDER_ACCEPT] = "accept",
                                           [INBOUND_OWN_SENDER_REJECT] = "reject",
                                           NULL };
static const char *const lockdowns[] = { "most-specific", "any", NULL };
static const char *const reply_words[] = {
    [CONNECTOR_REPLIES_PLAIN] = "plain", [CONNECTOR_REPLIES_EXCHANGE] = "exchange", NULL
};

static bool given(const struct config_section *section, const char *key)
{
    return config_file_given(section, key);
}

/* ---- who it is ---- */

static void names_build(struct config_builder *builder, const struct config_section *section,
                        struct inbound *c)
{
    unsigned count;
    const struct config_value *values = config_file_list(section, "cert-name", &count);
    if (count > INBOUND_NAMES_MAX) {
        config_file_error(section, "cert-name", values[INBOUND_NAMES_MAX].line,
                          "more than %d names; write *.d.example for all below d.example",
                          INBOUND_NAMES_MAX);
        count = INBOUND_NAMES_MAX;
    }
    c->names =
        config_certificate_names(builder, section, "cert-name", values, count, &c->names_count);
}

static int hex_value(char c)
{
    c = (char)ascii_lower((uint8_t)c);
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool config_parse_pin(const char *text, uint8_t pin[static TLS_DIGEST_BYTES])
{
    if (strncmp(text, "sha256:", PIN_PREFIX) != 0 ||
        strlen(text) != PIN_PREFIX + (size_t)2 * TLS_DIGEST_BYTES)
        return false;
    for (unsigned i = 0; i < TLS_DIGEST_BYTES; i++) {
        int high = hex_value(text[PIN_PREFIX + 2 * i]),
            low = hex_value(text[PIN_PREFIX + 2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        pin[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

const uint8_t (*config_pins(struct config_builder *builder, const struct config_section *section,
                            const char *key, unsigned *pins_count))[TLS_DIGEST_BYTES]
{
    unsigned count;
    const struct config_value *values = config_file_list(section, key, &count);
    if (count > INBOUND_PINS_MAX) {
        config_file_error(section, key, values[INBOUND_PINS_MAX].line, "more than %d pins",
                          INBOUND_PINS_MAX);
        count = INBOUND_PINS_MAX;
    }
    uint8_t(*pins)[TLS_DIGEST_BYTES] = config_take(builder, count, sizeof(*pins));
    *pins_count = 0;
    for (unsigned i = 0; i < count && pins != NULL; i++) {
        if (config_parse_pin(values[i].text, pins[*pins_count]))
            ++*pins_count;
        else
            config_file_error(section, key, values[i].line,
                              "`%.80s` is no pin; write sha256: and the 64 hex digits that "
                              "`ringpost cert show` or `ringpost tls probe` print as SPKI",
                              values[i].text);
    }
    return (const uint8_t(*)[TLS_DIGEST_BYTES])pins;
}

static void identify_build(const struct config_section *section, struct inbound *c)
{
    bool certificate = given(section, "cert-name") || given(section, "cert-pin");
    bool address = given(section, "addresses");
    enum inbound_identify usual = certificate ? INBOUND_BY_CERTIFICATE
                                  : address   ? INBOUND_BY_ADDRESS
                                              : INBOUND_BY_NOTHING;
    if (certificate && address && !given(section, "identify"))
        config_file_error(section, "identify", 0,
                          "is missing, and there are certificate keys and addresses (L-03); write "
                          "identify = both (each must fit), either (one is enough), cert or "
                          "address");
    c->identify = (enum inbound_identify)config_file_choice(section, "identify", ways, usual);
    bool wants_certificate = c->identify != INBOUND_BY_ADDRESS && c->identify != INBOUND_BY_NOTHING;
    bool wants_address = c->identify != INBOUND_BY_CERTIFICATE && c->identify != INBOUND_BY_NOTHING;
    if (wants_certificate && !certificate)
        config_file_error(section, "identify", 0,
                          "asks for a certificate, and says not which; write cert-name = { "
                          "mx.d.example } or cert-pin = { sha256:... }");
    if (wants_address && !address)
        config_file_error(section, "identify", 0,
                          "asks for an address, and there is none; write addresses = { "
                          "192.0.2.0/28 }");
    if (c->type == CONNECTOR_OWN && c->identify == INBOUND_BY_NOTHING)
        config_file_error(section, "identify", 0,
                          "an own connector must know its servers; write cert-name or addresses");
}

static void check_build(const struct config_section *section, struct inbound *c)
{
    enum inbound_check usual =
        c->names_count == 0 && c->pins_count > 0 ? INBOUND_PIN : INBOUND_NAME;
    c->check = (enum inbound_check)config_file_choice(section, "cert-check", checks, usual);
    if (c->identify == INBOUND_BY_NOTHING || c->identify == INBOUND_BY_ADDRESS)
        return;
    if (c->check != INBOUND_PIN && !given(section, "cert-name"))
        config_file_error(section, "cert-check", 0,
                          "looks at names, and there are none; write cert-name, or cert-check = "
                          "pin");
    if (c->check != INBOUND_NAME && !given(section, "cert-pin"))
        config_file_error(section, "cert-check", 0,
                          "looks at pins, and there are none; write cert-pin, or cert-check = "
                          "name");
    if (c->check == INBOUND_NAME && given(section, "cert-pin"))
        config_file_error(section, "cert-check", 0,
                          "looks at names only, and there are pins; write name+pin or "
                          "name-or-pin, or remove cert-pin");
}

static void certificate_build(struct config_builder *builder, const struct config_section *section,
                              struct inbound *c)
{
    names_build(builder, section, c);
    c->pins = config_pins(builder, section, "cert-pin", &c->pins_count);
    c->addresses = config_networks(builder, section, "addresses", "");
    identify_build(section, c);
    check_build(section, c);
    c->usage = (enum tls_purpose)config_file_choice(section, "cert-usage", usages, TLS_PURPOSE_ANY);
    c->takes_wildcards = config_file_bool(section, "cert-wildcard", c->type == CONNECTOR_PARTNER);
    c->takes_common_name = config_file_bool(section, "cert-cn", false);
    c->revocation = config_revocation(section, "cert-revocation");
    bool looks_at_chain = c->identify != INBOUND_BY_NOTHING && c->identify != INBOUND_BY_ADDRESS &&
                          c->check != INBOUND_PIN;
    if (!looks_at_chain)
        return;
    const char *title = config_file_text(section, "cert-roots", "public");
    const struct config_roots *roots =
        strcmp(title, "public") == 0 ? &builder->config->roots[0]
                                     : config_roots_named(builder, section, "cert-roots", title);
    c->roots = roots == NULL ? NULL : roots->roots;
    if (c->roots == NULL && c->state != CONNECTOR_OFF && !builder->partial && !builder->elsewhere)
        config_file_error(section, "cert-roots", 0,
                          "there are no trust anchors; install ca-certificates, or write "
                          "cert-roots = TITLE and roots \"TITLE\" { file = BUNDLE }");
}

/* ---- what it must fulfil, what it may do ---- */

static void floor_build(const struct config_section *section, struct inbound *c)
{
    c->needs_tls = config_file_choice(section, "tls", requirements, 0) == 0;
    c->tls_min =
        config_file_choice(section, "tls-min", versions, 0) == 0 ? TLS_VERSION_12 : TLS_VERSION_13;
    c->needs_hybrid = config_file_choice(section, "min-group", groups, 0) == 1;
    c->on_missing_tls = (enum connector_class)config_file_choice(section, "on-missing-tls", classes,
                                                                 CONNECTOR_DEFER);
    for (unsigned i = 0; i < 2 && !c->needs_tls; i++) {
        static const char *const floors[] = { "tls-min", "min-group" };
        if (given(section, floors[i]))
            config_file_error(section, floors[i], 0,
                              "would refuse weaker TLS, and take none at all (tls = optional); "
                              "write tls = required, or remove it");
    }
    bool by_certificate = c->identify == INBOUND_BY_CERTIFICATE || c->identify == INBOUND_BY_BOTH;
    if (by_certificate && !c->needs_tls)
        config_file_error(section, "tls", 0,
                          "is optional, and a certificate is wanted, which nobody can show in "
                          "clear (L-05); write tls = required, or identify = either");
}

static void only_for(const struct config_section *section, const char *const *keys, const char *why)
{
    for (; *keys != NULL; keys++)
        if (given(section, *keys))
            config_file_error(section, *keys, 0, "%s; remove it", why);
}

static void partner_build(struct config_builder *builder, const struct config_section *section,
                          struct inbound *c)
{
    static const char *const others[] = { "rights", "relay-senders", "relay-null-sender",
                                          "abuse-limit", NULL };
    only_for(section, others, "a partner connector grants nothing, an own one does");
    struct pattern_set *senders = config_take_patterns(builder);
    config_patterns(builder, section, "sender-domains", senders);
    c->senders = senders;
    if (!given(section, "sender-domains") && !builder->partial)
        config_file_error(section, "sender-domains", 0,
                          "is missing: whose mail is this about; write sender-domains = { "
                          "d.example, *.d.example }, or * for everybody's");
    c->null_sender =
        (enum inbound_null)config_file_choice(section, "null-sender", nulls, INBOUND_NULL_BY_STAR);
    c->restricts = config_file_bool(section, "restrict", false);
    c->on_mismatch =
        (enum connector_class)config_file_choice(section, "on-mismatch", classes, CONNECTOR_REJECT);
    if (c->restricts && c->identify == INBOUND_BY_NOTHING)
        config_file_error(section, "restrict", 0,
                          "would refuse everybody, for nobody is identified (L-01); write "
                          "cert-name or addresses");
}

static void rights_build(const struct config_section *section, struct inbound *c)
{
    static const char *const words[] = { "relay", "internal", "headers", NULL };
    unsigned count;
    const struct config_value *values = config_file_list(section, "rights", &count);
    for (unsigned i = 0; i < count; i++) {
        unsigned right = 0;
        while (words[right] != NULL && strcmp(values[i].text, words[right]) != 0)
            right++;
        if (words[right] == NULL)
            config_file_error(section, "rights", values[i].line,
                              "`%.64s` is no right; write relay, internal, headers, or several",
                              values[i].text);
        else
            c->rights |= 1U << right;
    }
}

static void own_build(struct config_builder *builder, const struct config_section *section,
                      struct inbound *c)
{
    static const char *const others[] = { "restrict", "null-sender", "on-mismatch", NULL };
    only_for(section, others, "an own connector restricts nobody, a partner one does");
    if (given(section, "sender-domains")) {
        struct pattern_set *senders = config_take_patterns(builder);
        config_patterns(builder, section, "sender-domains", senders);
        c->senders = senders;
    }
    static_assert(INBOUND_RELAY == 1 && INBOUND_INTERNAL == 2 && INBOUND_HEADERS == 4);
    rights_build(section, c);
    c->relays_any_sender = config_file_choice(section, "relay-senders", relay_senders, 0) == 1;
    c->null_relay = (enum inbound_null_relay)config_file_choice(
        section, "relay-null-sender", null_relays, INBOUND_NULL_RELAY_CERT);
}

enum { LIMIT_MAX = 1'000'000 };

static unsigned limit_of(const struct config_section *section, const char *key)
{
    return (unsigned)config_file_number(section, key, 0, LIMIT_MAX, 0);
}

static void limits_build(const struct config_section *section, struct inbound *c)
{
    c->size_max = config_file_size(section, "max-size", 0, UINT64_C(1) << 40, 0);
    c->recipients_max = limit_of(section, "max-recipients");
    c->connections_max = limit_of(section, "max-connections");
    c->rate_max = limit_of(section, "max-rate");
    c->abuse_max = limit_of(section, "abuse-limit");
    if (c->recipients_max > 0 && c->recipients_max < CONFIG_RECIPIENTS_FLOOR)
        config_file_error(section, "max-recipients", 0,
                          "%u is less than the %d that everybody may send to at once (RFC 5321 "
                          "4.5.3.1.8); write %d or more",
                          c->recipients_max, CONFIG_RECIPIENTS_FLOOR, CONFIG_RECIPIENTS_FLOOR);
}

/* What spools could do less than, and this one does not: a 250 comes when the mail is on stable
 * storage, whoever sent it. */
static void durability_check(const struct config_section *section)
{
    const char *class = config_file_text(section, "durability", "synced");
    if (strcmp(class, "synced") != 0)
        config_file_error(section, "durability", 0,
                          "`%.64s` is no class that there is; write synced: mail is on stable "
                          "storage before its 250, always, and nothing less is answered for",
                          class);
}

static void connector_build(struct config_builder *builder, const struct config_section *section,
                            struct inbound *c)
{
    config_connector_head(builder, section, &c->type, &c->state);
    c->cost = config_connector_cost(section);
    c->name = config_take_string(builder, section->title);
    c->label = config_label(builder, section, "label", config_file_single(section, "label"));
    c->class = config_class_named(builder, section, "class");
    c->line = section->line;
    certificate_build(builder, section, c);
    config_required_header(builder, section, &c->header);
    if (c->header.name.size > 0 && c->identify == INBOUND_BY_NOTHING)
        config_file_error(section, "require-header", 0,
                          "is a second factor, and there is no first one: anybody can write a "
                          "header field; write cert-name or addresses as well");
    floor_build(section, c);
    limits_build(section, c);
    durability_check(section);
    if (given(section, "recipient-own-domains")) {
        struct pattern_set *recipients = config_take_patterns(builder);
        config_patterns(builder, section, "recipient-own-domains", recipients);
        c->recipients = recipients;
    }
    if (c->type == CONNECTOR_PARTNER)
        partner_build(builder, section, c);
    else
        own_build(builder, section, c);
}

/* ---- all of them ---- */

static int connector_order(const void *left, const void *right)
{
    const struct inbound *a = left, *b = right;
    if (a->cost != b->cost)
        return a->cost < b->cost ? -1 : 1;
    return strcmp(a->name, b->name);
}

/* Root bundles that clients' certificates are judged by. */
static void bundles_build(struct config_builder *builder, const struct inbound *connectors,
                          unsigned count)
{
    struct config *config = builder->config;
    for (unsigned i = 0; i < count; i++) {
        const struct inbound *c = &connectors[i];
        bool known = c->roots == NULL || c->state == CONNECTOR_OFF;
        for (unsigned k = 0; k < config->inbound_bundles_count; k++)
            known = known || config->inbound_bundles[k] == c->roots;
        if (known)
            continue;
        if (config->inbound_bundles_count == INBOUND_BUNDLES_MAX) {
            config_report_add(builder->report, CONFIG_ERROR, config->file, c->line,
                              "inbound: cert-roots",
                              "a third root bundle; a client's certificate is judged by %d at "
                              "most, so join two of them into one file",
                              INBOUND_BUNDLES_MAX);
            return;
        }
        config->inbound_bundles[config->inbound_bundles_count++] = c->roots;
    }
}

static void defaults_build(struct config_builder *builder, struct inbound_defaults *defaults)
{
    struct config_section section = config_file_section(builder->file, "inbound-defaults", 0);
    defaults->own_sender = (enum inbound_own_sender)config_file_choice(
        &section, "own-sender-anonymous", own_senders, INBOUND_OWN_SENDER_COUNT);
    defaults->any_lockdown = config_file_choice(&section, "lockdown", lockdowns, 0) == 1;
    defaults->replies = (enum connector_replies)config_file_choice(&section, "replies", reply_words,
                                                                   CONNECTOR_REPLIES_PLAIN);
}

void config_build_inbound(struct config_builder *builder)
{
    struct config *config = builder->config;
    struct inbound_defaults defaults;
    unsigned count = config_sections(builder, "inbound", CONNECTORS_MAX,
                                     "connectors; join those with the same rules");
    struct inbound *connectors = config_take(builder, count, sizeof(*connectors));
    config->inbound_slots = config_take(builder, count, sizeof(*config->inbound_slots));
    if (connectors == NULL || config->roots_count == 0)
        return; /* out of memory, and remembered */
    for (unsigned i = 0; i < count; i++) {
        struct config_section section = config_file_section(builder->file, "inbound", i);
        connector_build(builder, &section, &connectors[i]);
    }
    defaults_build(builder, &defaults);
    config_build_platforms(builder);
    if (builder->out_of_memory)
        return;
    if (count > 0)
        qsort(connectors, count, sizeof(*connectors), connector_order);
    bundles_build(builder, connectors, count);
    config_build_headers(builder, connectors, count);
    int r = inbound_set_new(connectors, count, &defaults, config->relay.domains, &config->inbound);
    if (r == -ENOMEM)
        builder->out_of_memory = true;
    else if (r < 0)
        config_report_add(builder->report, CONFIG_ERROR, config->file, 0, "inbound",
                          "more patterns, names or networks in all connectors together than fit "
                          "(%d and %d); join some",
                          PATTERNS_MAX, NETWORKS_PREFIXES_MAX);
}
