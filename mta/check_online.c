/*
 * check_online.c - `ringpost check --online`: what outbound connectors ask for, and what there is
 *
 * L-21: dane = must, and hosts have no usable TLSA records now; mta-sts = none, and the domain has
 * a policy in mode enforce, which says that mail had better not come without it. DNS is asked as
 * the server does (mta/lookup.h), and the policy host at the addresses that it gave. One after the
 * other, each with its time-out. Where hosts are MX, the domains that a connector names are looked
 * at, ONLINE_DOMAINS_MAX of each; patterns name none.
 */
#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#include "core/compiler.h"
#include "mta/check.h"
#include "mta/lookup.h"
#include "mta/resolve_config.h"
#include "mta/sts_policy.h"
#include "tls/tls_roots.h"

enum {
    ONLINE_DOMAINS_MAX = 64,
    KEY_MAX = 128,
    WORDS_MAX = 512,
    URL_MAX = 320,
    RESOLVE_TEXT_MAX = URL_MAX + RESOLVE_TARGETS_MAX * NET_TEXT_MAX,
    HTTP_OK = 200,
};

struct online {
    const struct config *config;
    struct config_report *report;
    const struct outbound *c;
    struct dns_options dns;
    struct lookup lookup;
};

static void PRINTF_LIKE(3, 4) warn(const struct online *o, const char *key, const char *format, ...)
{
    char where[KEY_MAX], words[WORDS_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(words, sizeof(words), format, arguments);
    va_end(arguments);
    snprintf(where, sizeof(where), "outbound \"%s\": %s", o->c->route.name, key);
    config_report_add(o->report, CONFIG_WARNING, o->config->file, o->c->route.line, where, "%s",
                      words);
}

/* False: said on standard error, or in o->lookup.why. */
static bool find(struct online *o, const struct route_host *host, const char *domain)
{
    const struct resolve_policy policy = resolve_policy_of(o->config, &o->c->route);
    const struct resolve_hop hop = resolve_hop_of(&o->c->route, host, domain);
    o->lookup.why[0] = '\0';
    return lookup_run(&o->dns, &policy, &hop, &o->lookup) == 0 &&
           o->lookup.result.verdict == RESOLVE_FOUND;
}

/* ---- dane = must ---- */

static void look_at_host(struct online *o, const struct route_host *host, const char *domain)
{
    const char *called = host->kind == ROUTE_HOST_MX ? domain : host->name;
    if (!find(o, host, domain)) {
        warn(o, "dane", "must, and the hosts of %s cannot be looked up: %s (L-21)", called,
             o->lookup.why);
        return;
    }
    const struct resolve_result *found = &o->lookup.result;
    for (unsigned i = 0; i < found->count; i++) {
        const struct lookup_dane *dane = &o->lookup.danes[i];
        if (dane->dane == HOST_DANE_USABLE ||
            (i > 0 && strcmp(found->targets[i].host, found->targets[i - 1].host) == 0))
            continue;
        warn(o, "dane",
             "must, and %s has no usable TLSA records now (%s%s%s), so it gets no mail (L-21); "
             "write may, or have its operator publish them",
             found->targets[i].host, host_dane_name(dane->dane), *dane->why == '\0' ? "" : ": ",
             dane->why);
    }
}

/* ---- mta-sts = none ---- */

struct document {
    size_t size;
    char bytes[STS_DOCUMENT_MAX];
};

static size_t on_bytes(char *bytes, size_t size, size_t count, void *argument)
{
    struct document *document = argument;
    const size_t more = size * count;
    if (more > sizeof(document->bytes) - document->size)
        return 0;
    memcpy(document->bytes + document->size, bytes, more);
    document->size += more;
    return more;
}

static void on_txt(void *argument, const struct dns_answer *answer)
{
    unsigned *records = argument;
    char id[STS_ID_MAX];
    for (unsigned i = 0; i < answer->count; i++) {
        const struct slice rdata = slice_of(answer->records[i].data, answer->records[i].size);
        *records += sts_txt_read(rdata, id) == STS_TXT_VALID;
    }
}

/* Addresses for libcurl, which does not ask by itself then: "NAME:PORT:ADDRESS,.." */
static bool addresses_of(struct online *o, const char *name, char text[static RESOLVE_TEXT_MAX])
{
    const uint16_t port = o->config->sts.port;
    const struct route_host host = { .kind = ROUTE_HOST_NAME, .name = name, .port = port };
    if (!find(o, &host, ""))
        return false;
    int size = snprintf(text, RESOLVE_TEXT_MAX, "%s:%u:", name, port);
    for (unsigned i = 0; i < o->lookup.result.count; i++) {
        char address[NET_TEXT_MAX];
        net_text(&o->lookup.targets[i].address, false, address);
        size += snprintf(text + size, RESOLVE_TEXT_MAX - (size_t)size, "%s%s", i == 0 ? "" : ",",
                         address);
    }
    return true;
}

static bool fetch(struct online *o, const char *domain, struct document *document)
{
    const struct config_sts *sts = &o->config->sts;
    char name[URL_MAX], url[URL_MAX], text[RESOLVE_TEXT_MAX];
    long status = 0;
    snprintf(name, sizeof(name), "mta-sts.%.255s", domain);
    snprintf(url, sizeof(url), "https://%.264s:%u/.well-known/mta-sts.txt", name, sts->port);
    if (!addresses_of(o, name, text))
        return false;
    CURL *curl = curl_easy_init();
    if (curl == NULL)
        return false;
    struct curl_slist *addresses = curl_slist_append(NULL, text);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_RESOLVE, addresses);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)sts->timeout_ms);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    if (sts->roots != NULL) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, tls_roots_path(sts->roots));
        curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    }
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, document);
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(addresses);
    curl_easy_cleanup(curl);
    return code == CURLE_OK && status == HTTP_OK;
}

/* No record, or a policy that cannot be had: then there is nothing that is passed over. */
static void look_at_policy(struct online *o, const char *domain)
{
    static struct document document;
    static struct sts_policy policy;
    char name[URL_MAX], why[STS_WHY_MAX];
    unsigned records = 0;
    snprintf(name, sizeof(name), "_mta-sts.%.255s", domain);
    document.size = 0;
    if (lookup_records(&o->dns, name, DNS_TXT, on_txt, &records) < 0 || records != 1 ||
        !fetch(o, domain, &document) ||
        sts_policy_read(slice_of(document.bytes, document.size), &policy, why) < 0 ||
        policy.mode != STS_MODE_ENFORCE)
        return;
    warn(o, "mta-sts",
         "none, and %s has a policy in mode enforce, which mail passes over (L-21); write may",
         domain);
}

/* ---- all ---- */

static void look_at_domains(struct online *o, const struct route_host *host)
{
    const struct outbound_domains *domains = &o->c->domains;
    unsigned looked = 0;
    for (unsigned i = 0; domains->given && i < pattern_set_count(domains->patterns); i++) {
        char text[PATTERN_TEXT_MAX + 2];
        (void)pattern_set_text(domains->patterns, i, text);
        if (text[0] == '*' || text[0] == '[' || looked++ >= ONLINE_DOMAINS_MAX)
            continue;
        if (o->c->route.dane == DANE_MUST)
            look_at_host(o, host, text);
        if (!o->c->route.sts)
            look_at_policy(o, text);
    }
}

void check_online(const struct config *config, struct config_report *report)
{
    static struct online o;
    o = (struct online) { .config = config, .report = report, .dns = resolve_dns_options(config) };
    for (unsigned i = 0; i < config->outbound.count; i++) {
        o.c = &config->outbound.connectors[i];
        for (unsigned k = 0; o.c->state != CONNECTOR_OFF && k < o.c->route.hosts_count; k++) {
            const struct route_host *host = &o.c->route.hosts[k];
            if (host->kind == ROUTE_HOST_MX)
                look_at_domains(&o, host);
            else if (host->kind != ROUTE_HOST_ADDRESS && o.c->route.dane == DANE_MUST)
                look_at_host(&o, host, "");
        }
    }
}
