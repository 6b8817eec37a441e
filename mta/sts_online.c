/*
 * sts_online.c - the record at _mta-sts.DOMAIN, then the document at mta-sts.DOMAIN
 *
 * Bounds: mta-sts { timeout }, STS_DOCUMENT_MAX. One at a time: all state is static.
 */
#include "mta/sts_online.h"

#include <curl/curl.h>
#include <stdio.h>
#include <string.h>

#include "core/compiler.h"
#include "mta/lookup.h"
#include "mta/resolve_config.h"
#include "tls/tls_roots.h"

enum {
    URL_MAX = 320,
    RESOLVE_TEXT_MAX = URL_MAX + RESOLVE_TARGETS_MAX * NET_TEXT_MAX,
    HTTP_OK = 200,
};

static struct {
    const struct config *config;
    const struct dns_options *dns;
    struct lookup lookup;
    size_t size;
    char bytes[STS_DOCUMENT_MAX];
    unsigned records;
    char *id;
    char *why;
} look;

static void PRINTF_LIKE(1, 2) because(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(look.why, STS_ONLINE_WHY, format, arguments);
    va_end(arguments);
}

static size_t on_bytes(char *bytes, size_t size, size_t count, void *argument)
{
    const size_t more = size * count;
    (void)argument;
    if (more > sizeof(look.bytes) - look.size)
        return 0;
    memcpy(look.bytes + look.size, bytes, more);
    look.size += more;
    return more;
}

static void on_txt(void *argument, const struct dns_answer *answer)
{
    (void)argument;
    for (unsigned i = 0; i < answer->count; i++) {
        const struct slice rdata = slice_of(answer->records[i].data, answer->records[i].size);
        look.records += sts_txt_read(rdata, look.id) == STS_TXT_VALID;
    }
}

/* Addresses for libcurl, which does not ask by itself then: "NAME:PORT:ADDRESS,.." */
static bool addresses_of(const char *name, char text[static RESOLVE_TEXT_MAX])
{
    const uint16_t port = look.config->sts.port;
    const struct route_host host = { .kind = ROUTE_HOST_NAME, .name = name, .port = port };
    const struct route *route = &look.config->default_route;
    const struct resolve_policy policy = resolve_policy_of(look.config, route);
    const struct resolve_hop hop = resolve_hop_of(route, &host, "");
    if (lookup_run(look.dns, &policy, &hop, &look.lookup) < 0 ||
        look.lookup.result.verdict != RESOLVE_FOUND) {
        because("%s: %s", name, look.lookup.why);
        return false;
    }
    int size = snprintf(text, RESOLVE_TEXT_MAX, "%s:%u:", name, port);
    for (unsigned i = 0; i < look.lookup.result.count; i++) {
        char address[NET_TEXT_MAX];
        net_text(&look.lookup.targets[i].address, false, address);
        size += snprintf(text + size, RESOLVE_TEXT_MAX - (size_t)size, "%s%s", i == 0 ? "" : ",",
                         address);
    }
    return true;
}

static bool fetch(const char *domain)
{
    const struct config_sts *sts = &look.config->sts;
    char name[URL_MAX], url[URL_MAX], text[RESOLVE_TEXT_MAX];
    long status = 0;
    snprintf(name, sizeof(name), "mta-sts.%.255s", domain);
    snprintf(url, sizeof(url), "https://%.264s:%u/.well-known/mta-sts.txt", name, sts->port);
    if (!addresses_of(name, text))
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
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(addresses);
    curl_easy_cleanup(curl);
    if (code != CURLE_OK)
        because("%s: %s", name, curl_easy_strerror(code));
    else if (status != HTTP_OK)
        because("%s: HTTP status %ld", name, status);
    return code == CURLE_OK && status == HTTP_OK;
}

enum sts_online sts_online(const struct config *config, const struct dns_options *dns,
                           const char *domain, struct sts_policy *policy,
                           char id[static STS_ID_MAX], char why[static STS_ONLINE_WHY])
{
    char name[URL_MAX], wrong[STS_WHY_MAX];
    why[0] = '\0';
    id[0] = '\0';
    look.config = config;
    look.dns = dns;
    look.id = id;
    look.why = why;
    look.size = 0;
    look.records = 0;
    snprintf(name, sizeof(name), "_mta-sts.%.255s", domain);
    if (lookup_records(dns, name, DNS_TXT, on_txt, NULL) < 0 || look.records != 1)
        return STS_ONLINE_NONE;
    if (!fetch(domain))
        return STS_ONLINE_FAILED;
    if (sts_policy_read(slice_of(look.bytes, look.size), policy, wrong) == 0)
        return STS_ONLINE_FOUND;
    because("the policy is malformed: %s", wrong);
    return STS_ONLINE_FAILED;
}
