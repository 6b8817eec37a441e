/*
 * config_tls.c - certificate "title" { }, roots "title" { }, tls { }, and TLS on a listener
 *
 * Files are read here, with the configuration: a reload has them all, or says which it cannot have
 * and keeps the old ones.
 */
#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "mta/config_build.h"
#include "tls/tls_credential.h"
#include "tls/tls_roots.h"
#include "tls/tls_server.h"

enum { SECOND_MS = 1'000, MINUTE_MS = 60 * SECOND_MS, HOUR_MS = 60 * MINUTE_MS };

static const char *const modes[] = {
    [CONFIG_TLS_NONE] = "none",
    [CONFIG_TLS_STARTTLS] = "starttls",
    [CONFIG_TLS_REQUIRED] = "required",
    [CONFIG_TLS_IMPLICIT] = "implicit",
    NULL,
};
static const char *const versions[] = { "1.2", "1.3", NULL };
static const char *const levels[] = {
    [TLS_LEVEL_NONE] = "none",
    [TLS_LEVEL_MAY] = "may",
    [TLS_LEVEL_ENCRYPT] = "encrypt",
    [TLS_LEVEL_CHAIN] = "chain",
    [TLS_LEVEL_NAME] = "name",
    [TLS_LEVEL_INTERNAL] = "internal",
    NULL,
};
/* Of mail that no connector takes: INTERNAL needs certificates of ours on both sides. */
static const char *const delivery_levels[] = {
    [TLS_LEVEL_NONE] = "none",   [TLS_LEVEL_MAY] = "may",   [TLS_LEVEL_ENCRYPT] = "encrypt",
    [TLS_LEVEL_CHAIN] = "chain", [TLS_LEVEL_NAME] = "name", NULL,
};
static const char *const clears[] = {
    [ROUTE_CLEAR_NEVER] = "never",
    [ROUTE_CLEAR_NO_OFFER] = "no-offer",
    [ROUTE_CLEAR_HANDSHAKE] = "handshake-failed",
    NULL,
};
static const char *const client_versions[] = { "1.0", "1.1", "1.2", "1.3", NULL };

/* ---- what is read from files ---- */

/* r of loading, and its words, which may be a warning. */
static void tell_loaded(const struct config_section *section, const char *key, int r,
                        const char *why)
{
    if (r < 0)
        config_file_error(section, key, 0, "%s", why);
    else if (*why != '\0')
        config_file_warn(section, key, 0, "%s", why);
}

static void certificate_build(struct config_builder *builder, const struct config_section *section,
                              struct config_certificate *certificate)
{
    config_title_check(section);
    certificate->name = config_take_string(builder, section->title);
    certificate->line = section->line;
    certificate->chain = config_take_string(builder, config_file_text(section, "chain", ""));
    certificate->key = config_take_string(builder, config_file_text(section, "key", ""));
    if (*certificate->chain == '\0' || *certificate->key == '\0') {
        if (!builder->partial)
            config_file_error(section, *certificate->chain == '\0' ? "chain" : "key", 0,
                              "is missing; write chain = FILE (the certificate, then its issuers, "
                              "PEM) and key = FILE");
        return;
    }
    if (builder->elsewhere)
        return;
    char why[TLS_WHY_MAX];
    int r =
        tls_credential_load(certificate->chain, certificate->key, &certificate->credential, why);
    if (r < 0)
        certificate->credential = NULL;
    tell_loaded(section, "", r, why);
    config_certificate_life(builder, section, certificate);
}

static void build_certificates(struct config_builder *builder)
{
    struct config *config = builder->config;
    unsigned count = config_sections(builder, "certificate", CONFIG_CERTIFICATES_MAX, "of them");
    config->certificates = config_take(builder, count, sizeof(*config->certificates));
    if (config->certificates == NULL)
        return;
    for (; config->certificates_count < count; config->certificates_count++) {
        struct config_section section =
            config_file_section(builder->file, "certificate", config->certificates_count);
        certificate_build(builder, &section, &config->certificates[config->certificates_count]);
    }
}

static void roots_build(struct config_builder *builder, const struct config_section *section,
                        struct config_roots *roots)
{
    config_title_check(section);
    roots->name = config_take_string(builder, section->title);
    roots->line = section->line;
    roots->file = config_take_string(builder, config_file_text(section, "file", ""));
    if (*roots->file == '\0') {
        if (!builder->partial)
            config_file_error(section, "file", 0, "is missing; write file = BUNDLE (PEM)");
        return;
    }
    if (builder->elsewhere)
        return;
    char why[TLS_WHY_MAX];
    int r = tls_roots_load(roots->file, &roots->roots, why);
    if (r < 0)
        roots->roots = NULL;
    tell_loaded(section, "file", r, why);
}

/* The system's are read in any case: what a next hop presents is judged by them even where nothing
 * follows from it. None is no error, as long as nobody asks for them. */
static void system_roots_build(struct config_roots *roots)
{
    char why[TLS_WHY_MAX];
    *roots = (struct config_roots) { .name = "", .file = "" };
    if (tls_roots_load(NULL, &roots->roots, why) < 0)
        roots->roots = NULL;
}

static void build_roots(struct config_builder *builder)
{
    struct config *config = builder->config;
    unsigned count = config_sections(builder, "roots", CONFIG_ROOTS_MAX, "bundles; join some");
    config->roots = config_take(builder, count + 1, sizeof(*config->roots));
    if (config->roots == NULL)
        return;
    system_roots_build(&config->roots[0]);
    for (config->roots_count = 1; config->roots_count <= count; config->roots_count++) {
        struct config_section section =
            config_file_section(builder->file, "roots", config->roots_count - 1);
        roots_build(builder, &section, &config->roots[config->roots_count]);
    }
}

void config_tls_free(struct config *config)
{
    for (unsigned i = 0; i < config->certificates_count; i++) {
        tls_credential_drop(config->certificates[i].credential);
        config_certificate_life_free(&config->certificates[i]);
    }
    for (unsigned i = 0; i < config->roots_count; i++)
        tls_roots_drop(config->roots[i].roots);
}

const struct config_certificate *config_certificate_named(struct config_builder *builder,
                                                          const struct config_section *section,
                                                          const char *key,
                                                          const struct config_value *value)
{
    const struct config *config = builder->config;
    for (unsigned i = 0; i < config->certificates_count; i++)
        if (strcmp(config->certificates[i].name, value->text) == 0)
            return &config->certificates[i];
    config_file_error(section, key, value->line,
                      "there is no certificate \"%.64s\" { chain = .. key = .. }", value->text);
    return NULL;
}

const struct config_roots *config_roots_named(struct config_builder *builder,
                                              const struct config_section *section, const char *key,
                                              const char *title)
{
    const struct config *config = builder->config;
    const struct config_roots *found = NULL;
    bool of_system = strcmp(title, "system") == 0;
    for (unsigned i = of_system ? 0 : 1; i < config->roots_count && found == NULL; i++)
        if (of_system || strcmp(config->roots[i].name, title) == 0)
            found = &config->roots[i];
    if (found == NULL)
        config_file_error(section, key, 0, "there is no roots \"%.64s\" { file = .. }", title);
    else if (of_system && found->roots == NULL && !builder->elsewhere)
        config_file_error(section, key, 0,
                          "the system has no bundle of roots; install ca-certificates, or name one "
                          "by roots \"title\" { file = .. }");
    return found;
}

/* ---- tls { } ---- */

void config_build_tls(struct config_builder *builder)
{
    struct config_tls *tls = &builder->config->tls;
    struct config_section s = config_file_section(builder->file, "tls", 0);
    tls->handshake_timeout_ms = (uint32_t)config_file_time(&s, "handshake-timeout", SECOND_MS,
                                                           10 * MINUTE_MS, 30 * SECOND_MS);
    tls->load_handshake_timeout_ms = (uint32_t)config_file_time(
        &s, "load-handshake-timeout", SECOND_MS, 10 * MINUTE_MS, 5 * SECOND_MS);
    tls->handshakes_max = (unsigned)config_file_number(&s, "handshakes", 1, 1'000'000, 1'024);
    tls->tickets = config_file_bool(&s, "tickets", true);
    tls->ticket_rotate_ms =
        config_file_time(&s, "ticket-rotate", MINUTE_MS, 7 * 24 * HOUR_MS, 12 * HOUR_MS);
    tls->ticket_key_file = config_take_string(builder, config_file_text(&s, "ticket-key-file", ""));
    tls->id_cache = (unsigned)config_file_number(&s, "id-cache", 0, 1 << 17, 16'384);
    tls->client_cache = (unsigned)config_file_number(&s, "client-cache", 0, 1 << 20, 4'096);
    tls->hosts = (unsigned)config_file_number(&s, "hosts", 1, 1 << 20, 16'384);
    tls->key_shares = (unsigned)config_file_number(&s, "key-shares", 0, 1 << 16, 2'048);
    tls->key_share_age_ms =
        (uint32_t)config_file_time(&s, "key-share-age", SECOND_MS, 24 * HOUR_MS, HOUR_MS);
    config_expiry_days(&s, tls);
    build_certificates(builder);
    build_roots(builder);
    config_build_expectations(builder);
}

/* ---- a listener's ---- */

static void listener_certificates(struct config_builder *builder,
                                  const struct config_section *section,
                                  struct config_listener *listener)
{
    unsigned count;
    const struct config_value *values = config_file_list(section, "certificates", &count);
    if (count > TLS_CREDENTIALS_MAX) {
        config_file_error(section, "certificates", values[TLS_CREDENTIALS_MAX].line,
                          "more than %d of them on one listener", TLS_CREDENTIALS_MAX);
        count = TLS_CREDENTIALS_MAX;
    }
    const struct config_certificate **list = config_take(builder, count, sizeof(*list));
    if (list == NULL)
        return;
    listener->certificates = list;
    for (unsigned i = 0; i < count; i++) {
        const struct config_certificate *found =
            config_certificate_named(builder, section, "certificates", &values[i]);
        if (found != NULL)
            list[listener->certificates_count++] = found;
    }
}

/* Its own first, then those of connectors. */
static void listener_bundles(struct config_builder *builder, const struct config_section *section,
                             struct config_listener *listener)
{
    const struct config *config = builder->config;
    const struct tls_roots *own =
        listener->client_roots == NULL ? NULL : listener->client_roots->roots;
    if (own != NULL)
        listener->bundles[listener->bundles_count++] = own;
    for (unsigned i = 0; i < config->inbound_bundles_count; i++) {
        if (config->inbound_bundles[i] == own)
            continue;
        if (listener->bundles_count == INBOUND_BUNDLES_MAX) {
            config_file_error(section, "client-roots", 0,
                              "with those of inbound connectors (cert-roots) these are more than "
                              "%d root bundles; use one of the connectors', or join files",
                              INBOUND_BUNDLES_MAX);
            return;
        }
        listener->bundles[listener->bundles_count++] = config->inbound_bundles[i];
    }
}

static void listener_asked_names(struct config_builder *builder,
                                 const struct config_section *section,
                                 struct config_listener *listener)
{
    unsigned count;
    const struct config_value *values = config_file_list(section, "request-on-sni", &count);
    if (count > CONFIG_ASKED_NAMES_MAX) {
        config_file_error(section, "request-on-sni", values[CONFIG_ASKED_NAMES_MAX].line,
                          "more than %d of them; write *.NAME for all that are below it",
                          CONFIG_ASKED_NAMES_MAX);
        count = CONFIG_ASKED_NAMES_MAX;
    }
    if (count > 0 && listener->tls == CONFIG_TLS_NONE && !builder->partial)
        config_file_error(section, "request-on-sni", values[0].line,
                          "this listener does not speak TLS; write certificates = { title } and "
                          "tls = starttls, or remove the line");
    listener->request_on_sni = config_certificate_names(builder, section, "request-on-sni", values,
                                                        count, &listener->request_on_sni_count);
}

void config_listener_tls(struct config_builder *builder, const struct config_section *section,
                         struct config_listener *listener)
{
    listener_certificates(builder, section, listener);
    listener->tls = (enum config_listener_tls)config_file_choice(
        section, "tls", modes,
        listener->certificates_count > 0 ? CONFIG_TLS_STARTTLS : CONFIG_TLS_NONE);
    unsigned given;
    (void)config_file_list(section, "certificates", &given);
    if (listener->tls != CONFIG_TLS_NONE && given == 0 && !builder->partial)
        config_file_error(section, "certificates", 0,
                          "TLS needs one; write certificates = { title } and a section "
                          "certificate \"title\" { chain = FILE key = FILE }");
    listener->tls_min =
        config_file_choice(section, "tls-min", versions, 0) == 0 ? TLS_VERSION_12 : TLS_VERSION_13;
    listener->tls_cbc = config_file_bool(section, "tls-cbc", false);
    listener->ask_certificate = config_networks(builder, section, "ask-certificate", "");
    listener->never_ask = config_networks(builder, section, "never-ask", "");
    listener_asked_names(builder, section, listener);
    if (networks_count(listener->ask_certificate) > 0 || listener->request_on_sni_count > 0)
        listener->client_roots = config_roots_named(
            builder, section, "client-roots", config_file_text(section, "client-roots", "system"));
    listener_bundles(builder, section, listener);
}

/* ---- lists of revoked certificates ---- */

void config_build_crl(struct config_builder *builder)
{
    struct config_crl *crl = &builder->config->crl;
    struct config_section section = config_file_section(builder->file, "crl", 0);
    crl->directory = config_take_string(builder, config_file_text(&section, "directory", ""));
    crl->lists_max = (unsigned)config_file_number(&section, "lists", 1, CONFIG_CRL_LISTS_MAX, 256);
    crl->bytes_max = config_file_size(&section, "bytes", UINT64_C(1) << 20, UINT64_C(1) << 32,
                                      UINT64_C(64) << 20);
}

/* ---- a route's ---- */

static int64_t floor_seconds(const struct config_section *section, const char *key, uint64_t min_ms,
                             uint64_t otherwise_ms)
{
    return (int64_t)(config_file_time(section, key, min_ms, UINT64_C(3'650) * 24 * HOUR_MS,
                                      otherwise_ms) /
                     SECOND_MS);
}

static const char *const sts_modes[] = { "may", "none", NULL };

static void delivery_floor(struct config_builder *builder, const struct config_section *section)
{
    struct config_delivery *d = &builder->config->delivery;
    d->floor = (enum floor_action)config_file_choice(section, "floor-memory", floor_action_names,
                                                     FLOOR_ALERT);
    struct floor_rules *rules = &d->floor_rules;
    rules->learn_count = (uint32_t)config_file_number(section, "floor-learn", 1, 1'000, 3);
    rules->learn_s = floor_seconds(section, "floor-learn-time", 0, 24 * HOUR_MS);
    rules->forget_s = floor_seconds(section, "floor-forget", HOUR_MS, UINT64_C(90) * 24 * HOUR_MS);
    rules->hold_s = floor_seconds(section, "floor-hold", SECOND_MS, 4 * HOUR_MS);
    d->floor_records =
        (uint32_t)config_file_number(section, "floor-records", 100, 1 << 24, 1 << 16);
    d->floor_file = config_take_string(builder, config_file_text(section, "floor-file", ""));
}

static const char *const dane_modes[] = {
    [DANE_MAY] = "may", [DANE_NONE] = "none", [DANE_MUST] = "must", NULL
};

void config_delivery_tls(struct config_builder *builder, const struct config_section *section)
{
    struct config_delivery *d = &builder->config->delivery;
    d->tls = (enum tls_level)config_file_choice(section, "tls", delivery_levels, TLS_LEVEL_MAY);
    d->clear =
        (enum route_clear)config_file_choice(section, "cleartext", clears, ROUTE_CLEAR_HANDSHAKE);
    d->tls_min = TLS_VERSION_10 + config_file_choice(section, "tls-min", client_versions, 2);
    d->sts = config_file_choice(section, "mta-sts", sts_modes, 0) == 0;
    d->dane = (enum dane_mode)config_file_choice(section, "dane", dane_modes, DANE_MAY);
    delivery_floor(builder, section);
    if (d->tls == TLS_LEVEL_CHAIN || d->tls == TLS_LEVEL_NAME)
        config_file_warn(section, "tls", 0,
                         "asks every MX of the world for a valid certificate, and many have none: "
                         "their mail will wait and bounce. Usual: may, and more on connectors");
}

const struct slice *config_certificate_names(struct config_builder *builder,
                                             const struct config_section *section, const char *key,
                                             const struct config_value *values, unsigned count,
                                             unsigned *names_count)
{
    struct slice *names = config_take(builder, count, sizeof(*names));
    *names_count = 0;
    for (unsigned i = 0; i < count && names != NULL; i++) {
        const char *text = values[i].text;
        bool below = strncmp(text, "*.", 2) == 0;
        char domain[PATTERN_TEXT_MAX + 2] = "*.";
        char *at = below ? domain + 2 : domain;
        if (pattern_normalise(slice_of_string(below ? text + 2 : text), at) <= 0)
            config_file_error(section, key, values[i].line,
                              "`%.64s` is no name; write mx.example.org, or *.example.org for all "
                              "names below it",
                              text);
        else
            names[(*names_count)++] = slice_of_string(config_take_string(builder, domain));
    }
    return names;
}

static void route_level_check(const struct config_builder *builder,
                              const struct config_section *section, const struct route *route)
{
    if (route->tls.level < TLS_LEVEL_CHAIN)
        return;
    if (route->tls.roots == NULL && !builder->elsewhere)
        config_file_error(section, "tls", 0,
                          "needs trust anchors, and the system has none; install ca-certificates, "
                          "or write roots = TITLE and roots \"TITLE\" { file = BUNDLE }");
    if (route->tls.level < TLS_LEVEL_NAME || route->tls_names_count > 0)
        return;
    for (unsigned i = 0; i < route->hosts_count; i++)
        if (route->hosts[i].kind == ROUTE_HOST_ADDRESS)
            config_file_error(section, "tls-name", 0,
                              "an address has no name that a certificate could bear; write "
                              "tls-name = { NAME }, or the host by name (L-04)");
}

/* INTERNAL is between hosts of ours, by certificates that we make. */
static void route_internal(const struct config_section *section, struct tls_client_policy *tls)
{
    const struct config_value *version = config_file_single(section, "tls-min");
    const char *roots = config_file_text(section, "roots", "system");
    if (version != NULL && tls->version_min != TLS_VERSION_13)
        config_file_error(section, "tls-min", version->line,
                          "internal is TLS 1.3 only; remove the line");
    tls->version_min = TLS_VERSION_13;
    if (strcmp(roots, "system") == 0)
        config_file_error(section, "roots", 0,
                          "internal trusts no public authority; write roots = TITLE and roots "
                          "\"TITLE\" { file = BUNDLE } with your own");
    if (config_file_single(section, "client-certificate") == NULL)
        config_file_error(section, "client-certificate", 0,
                          "internal presents one; write client-certificate = TITLE and certificate "
                          "\"TITLE\" { chain = FILE key = FILE }");
}

/* Of the session itself and of the key, at levels that do not take plain text. */
static void route_more(struct config_builder *builder, const struct config_section *section,
                       struct tls_client_policy *tls)
{
    static const char *const groups[] = { "any", "hybrid", NULL };
    tls->needs_hybrid = config_file_choice(section, "min-group", groups, 0) == 1;
    tls->pins = config_pins(builder, section, "tls-pin", &tls->pins_count);
    if (tls->level <= TLS_LEVEL_MAY && tls->needs_hybrid)
        config_file_error(section, "min-group", 0,
                          "would refuse weaker TLS, and take none at all; write tls = encrypt or "
                          "more, or remove it");
    if (tls->level <= TLS_LEVEL_MAY && tls->pins_count > 0)
        config_file_error(section, "tls-pin", 0,
                          "would be worth nothing, as mail may go in clear; write tls = encrypt "
                          "(the key alone), or name (the name too)");
    if (tls->level > TLS_LEVEL_MAY && tls->needs_hybrid && !tls_client_has_hybrid())
        config_file_warn(section, "min-group", 0,
                         "this ringpost has no hybrid group, so all mail of this connector waits; "
                         "build it with -Dboringssl_source=chromium");
}

/* What nobody could fulfil. */
static void route_dane_check(struct config_builder *builder, const struct config_section *section,
                             const struct route *route)
{
    if (route->dane != DANE_MUST)
        return;
    if (builder->config->dns.trust_anchor_file == NULL)
        config_file_error(section, "dane", 0,
                          "must needs DNSSEC validation; write dns { trust-anchor = FILE }, with "
                          "the root's key (package dns-root-data: /usr/share/dns/root.key)");
    if (route->tls.level == TLS_LEVEL_NONE)
        config_file_error(section, "dane", 0,
                          "must contradicts tls = none; write tls = may, or dane = none");
    for (unsigned i = 0; i < route->hosts_count; i++)
        if (route->hosts[i].kind == ROUTE_HOST_ADDRESS)
            config_file_error(section, "dane", 0,
                              "must, and a host is an address, which has no TLSA records; write "
                              "the host by name");
}

void config_route_tls(struct config_builder *builder, const struct config_section *section,
                      struct route *route)
{
    const struct config *config = builder->config;
    const struct config_delivery *d = &config->delivery;
    struct tls_client_policy *tls = &route->tls;
    if (config->roots_count == 0)
        return; /* out of memory, and remembered */
    tls->level = (enum tls_level)config_file_choice(section, "tls", levels, d->tls);
    tls->version_min = TLS_VERSION_10 + config_file_choice(section, "tls-min", client_versions,
                                                           d->tls_min - TLS_VERSION_10);
    route->clear = (enum route_clear)config_file_choice(section, "cleartext", clears, d->clear);
    route->dane = (enum dane_mode)config_file_choice(section, "dane", dane_modes, d->dane);
    route->floor = (enum floor_action)config_file_choice(section, "floor-memory",
                                                         floor_action_names, d->floor);
    tls->revocation = config_revocation(section, "tls-revocation");
    const struct config_value *revocation = config_file_single(section, "tls-revocation");
    if (revocation != NULL && tls->revocation == TLS_REVOCATION_HARD &&
        tls->level < TLS_LEVEL_CHAIN)
        config_file_error(section, "tls-revocation", revocation->line,
                          "is asked of certificates that must be valid; write tls = name, internal "
                          "or chain");
    route->sts = config_file_choice(section, "mta-sts", sts_modes, d->sts ? 0 : 1) == 0;
    route->tls_implicit = config_file_bool(section, "tls-implicit", false);
    const char *roots = config_file_text(section, "roots", "");
    const struct config_roots *found =
        *roots == '\0' ? &config->roots[0] : config_roots_named(builder, section, "roots", roots);
    tls->roots = found == NULL ? NULL : found->roots;
    const struct config_value *certificate = config_file_single(section, "client-certificate");
    if (certificate != NULL) {
        const struct config_certificate *named =
            config_certificate_named(builder, section, "client-certificate", certificate);
        tls->credential = named == NULL ? NULL : named->credential;
        if (tls->level <= TLS_LEVEL_MAY)
            config_file_error(section, "client-certificate", 0,
                              "is not shown to whom we do not insist on TLS with; write tls = "
                              "encrypt or more");
        if (config_file_given(section, "cleartext") && route->clear != ROUTE_CLEAR_NEVER)
            config_file_error(section, "cleartext", 0,
                              "contradicts client-certificate, which is shown by TLS only; remove "
                              "the line, or write never (L-20)");
    }
    if (tls->level == TLS_LEVEL_INTERNAL && !builder->partial)
        route_internal(section, tls);
    route_more(builder, section, tls);
    unsigned count;
    const struct config_value *names = config_file_list(section, "tls-name", &count);
    route->tls_names = config_certificate_names(builder, section, "tls-name", names, count,
                                                &route->tls_names_count);
    if (!builder->partial)
        route_dane_check(builder, section, route);
    if (route->tls_implicit && tls->level <= TLS_LEVEL_MAY)
        config_file_error(section, "tls-implicit", 0,
                          "leaves no way in clear; write tls = encrypt or more");
    if (!builder->partial)
        route_level_check(builder, section, route);
    tls_client_policy_seal(tls, route->tls_names, route->tls_names_count);
}
