/*
 * cert_online.c - what the world knows of a new chain: TLSA records, CRLs, OCSP responders
 *
 * Asked once, from this node, one after the other, as whoever verifies the chain would: with the
 * configured resolver, by HTTP, with the proxy of the environment if there is one. libcurl fetches,
 * GnuTLS reads and verifies. A CRL comes first and a certificate without a responder is usual: one
 * of the large public authorities has none any more.
 */
#include <curl/curl.h>
#include <gnutls/gnutls.h>
#include <gnutls/ocsp.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "mta/cert_rehearse.h"
#include "mta/lookup.h"
#include "mta/resolve_config.h"

enum {
    FETCH_SECONDS = 30,
    CONNECT_SECONDS = 10,
    REDIRECTS_MAX = 5,
    CRL_BYTES_MAX = 64 << 20,
    OCSP_BYTES_MAX = 1 << 20,
    URLS_MAX = 16,
    WHY_MAX = 256,
    DAY_SECONDS = 86'400,
    SHORT_LIVED_SECONDS = 7 * DAY_SECONDS, /* nobody has to revoke those */
};

/* ---- HTTP ---- */

struct fetched {
    FILE *file;
    char *bytes;
    size_t size;
    size_t most;
};

static size_t on_bytes(char *data, size_t size, size_t count, void *argument)
{
    struct fetched *to = argument;
    if (size * count > to->most)
        return 0;
    to->most -= size * count;
    return fwrite(data, size, count, to->file);
}

static CURLcode transfer(CURL *curl, const char *url, const gnutls_datum_t *post,
                         struct fetched *to, long *status)
{
    struct curl_slist *fields = NULL;
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(curl, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_SECONDS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)FETCH_SECONDS);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, to);
    if (post != NULL) {
        fields = curl_slist_append(NULL, "Content-Type: application/ocsp-request");
        curl_easy_setopt(curl, CURLOPT_HTTPHEADER, fields);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, post->data);
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, (long)post->size);
    }
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, status);
    curl_slist_free_all(fields);
    return code;
}

/* post NULL: GET. False: why. bytes are to be freed either way. */
static bool fetch(const char *url, const gnutls_datum_t *post, size_t most, struct fetched *to,
                  char why[static WHY_MAX])
{
    *to = (struct fetched) { .most = most };
    to->file = open_memstream(&to->bytes, &to->size);
    CURL *curl = curl_easy_init();
    long status = 0;
    CURLcode code = curl == NULL || to->file == NULL ? CURLE_OUT_OF_MEMORY
                                                     : transfer(curl, url, post, to, &status);
    curl_easy_cleanup(curl);
    if (to->file != NULL && fclose(to->file) != 0 && code == CURLE_OK)
        code = CURLE_OUT_OF_MEMORY;
    if (code == CURLE_WRITE_ERROR)
        snprintf(why, WHY_MAX, "larger than %zu bytes", most);
    else if (code != CURLE_OK)
        snprintf(why, WHY_MAX, "does not answer: %s", curl_easy_strerror(code));
    else if (status != 200)
        snprintf(why, WHY_MAX, "answers %ld", status);
    return code == CURLE_OK && status == 200;
}

/* ---- what it says ---- */

/* UNREACHABLE may be made up for by another address. */
enum outcome { GOOD, UNREACHABLE, BAD };

struct pair {
    gnutls_x509_crt_t subject;
    gnutls_x509_crt_t issuer;
};

static enum outcome read_crl(gnutls_x509_crl_t crl, const struct pair *pair,
                             char why[static WHY_MAX])
{
    unsigned verdict = 0;
    char day[TLS_TEXT_DATE_BYTES];
    const time_t next = gnutls_x509_crl_get_next_update(crl);
    tls_text_date(next, day);
    if (!gnutls_x509_crl_check_issuer(crl, pair->issuer)) {
        snprintf(why, WHY_MAX, "is the CRL of another issuer");
        return BAD;
    }
    const unsigned stale = GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED, no = GNUTLS_CERT_INVALID;
    if (gnutls_x509_crl_verify(crl, &pair->issuer, 1, 0, &verdict) < 0 ||
        (verdict & ~(stale | no)) != 0 || (verdict & (stale | no)) == no) {
        snprintf(why, WHY_MAX, "is a CRL %s",
                 (verdict & GNUTLS_CERT_INSECURE_ALGORITHM) != 0
                     ? "that is signed by an algorithm that does not count any more"
                     : "whose signature is not the issuer's");
        return BAD;
    }
    if (gnutls_x509_crt_check_revocation(pair->subject, &crl, 1) != 0) {
        snprintf(why, WHY_MAX, "says that it is revoked");
        return BAD;
    }
    if (next != (time_t)-1 && next < time(NULL)) {
        snprintf(why, WHY_MAX, "is out of date since %s", day);
        return BAD;
    }
    snprintf(why, WHY_MAX, "does not list it; good until %s",
             next == (time_t)-1 ? "the next one" : day);
    return GOOD;
}

static enum outcome ask_crl(const char *url, const struct pair *pair, char why[static WHY_MAX])
{
    struct fetched got;
    gnutls_x509_crl_t crl;
    enum outcome outcome = UNREACHABLE;
    if (fetch(url, NULL, CRL_BYTES_MAX, &got, why)) {
        const gnutls_datum_t data = { (unsigned char *)got.bytes, (unsigned)got.size };
        outcome = BAD;
        snprintf(why, WHY_MAX, "is no CRL that can be read");
        if (gnutls_x509_crl_init(&crl) >= 0) {
            if (gnutls_x509_crl_import(crl, &data, GNUTLS_X509_FMT_DER) >= 0 ||
                gnutls_x509_crl_import(crl, &data, GNUTLS_X509_FMT_PEM) >= 0)
                outcome = read_crl(crl, pair, why);
            gnutls_x509_crl_deinit(crl);
        }
    }
    free(got.bytes);
    return outcome;
}

static enum outcome read_single(gnutls_ocsp_resp_t response, char why[static WHY_MAX])
{
    unsigned status = GNUTLS_OCSP_CERT_UNKNOWN;
    time_t this_update = 0, next = 0;
    char day[TLS_TEXT_DATE_BYTES];
    if (gnutls_ocsp_resp_get_single(response, 0, NULL, NULL, NULL, NULL, &status, &this_update,
                                    &next, NULL, NULL) < 0) {
        snprintf(why, WHY_MAX, "gives an answer that cannot be read");
        return BAD;
    }
    tls_text_date(next, day);
    if (status != GNUTLS_OCSP_CERT_GOOD) {
        snprintf(why, WHY_MAX, "says that it is %s",
                 status == GNUTLS_OCSP_CERT_REVOKED ? "revoked" : "not known there");
        return BAD;
    }
    if (next != (time_t)-1 && next < time(NULL)) {
        snprintf(why, WHY_MAX, "gives an answer that is out of date since %s", day);
        return BAD;
    }
    snprintf(why, WHY_MAX, "says that it is good%s%s", next == (time_t)-1 ? "" : "; until ",
             next == (time_t)-1 ? "" : day);
    return GOOD;
}

static enum outcome read_response(const struct fetched *got, const struct pair *pair,
                                  char why[static WHY_MAX])
{
    gnutls_ocsp_resp_t response;
    const gnutls_datum_t data = { (unsigned char *)got->bytes, (unsigned)got->size };
    enum outcome outcome = BAD;
    unsigned verdict = 0;
    snprintf(why, WHY_MAX, "gives an answer that is no OCSP response");
    if (gnutls_ocsp_resp_init(&response) < 0)
        return BAD;
    if (gnutls_ocsp_resp_import(response, &data) >= 0) {
        int status = gnutls_ocsp_resp_get_status(response);
        if (status != GNUTLS_OCSP_RESP_SUCCESSFUL)
            snprintf(why, WHY_MAX, "refuses to answer (OCSP status %d)", status);
        else if (gnutls_ocsp_resp_check_crt(response, 0, pair->subject) < 0)
            snprintf(why, WHY_MAX, "answers about another certificate");
        else if (gnutls_ocsp_resp_verify_direct(response, pair->issuer, &verdict, 0) < 0 ||
                 verdict != 0)
            snprintf(why, WHY_MAX, "gives an answer whose signature is not the issuer's");
        else
            outcome = read_single(response, why);
    }
    gnutls_ocsp_resp_deinit(response);
    return outcome;
}

static enum outcome ask_ocsp(const char *url, const struct pair *pair, char why[static WHY_MAX])
{
    gnutls_ocsp_req_t request;
    gnutls_datum_t data = { 0 };
    struct fetched got = { 0 };
    enum outcome outcome = BAD;
    snprintf(why, WHY_MAX, "cannot be asked: no request could be made");
    if (gnutls_ocsp_req_init(&request) < 0)
        return BAD;
    /* SHA-1 names the certificate only; it is what all responders know (RFC 5019 section 2.1.1) */
    if (gnutls_ocsp_req_add_cert(request, GNUTLS_DIG_SHA1, pair->issuer, pair->subject) >= 0 &&
        gnutls_ocsp_req_export(request, &data) >= 0)
        outcome = !fetch(url, &data, OCSP_BYTES_MAX, &got, why) ? UNREACHABLE
                                                                : read_response(&got, pair, why);
    free(got.bytes);
    gnutls_free(data.data);
    gnutls_ocsp_req_deinit(request);
    return outcome;
}

/* ---- a certificate of the chain ---- */

static const struct asked {
    const char *point;
    enum outcome (*ask)(const char *url, const struct pair *pair, char why[static WHY_MAX]);
} crl_way = { "crl", ask_crl }, ocsp_way = { "ocsp", ask_ocsp };

static void ask_all(struct rehearsal *r, const struct asked *way, const json_t *urls,
                    const struct pair *pair)
{
    char why[URLS_MAX][WHY_MAX];
    enum outcome outcomes[URLS_MAX];
    bool any = false;
    const size_t count = MIN(json_array_size(urls), (size_t)URLS_MAX);
    for (size_t i = 0; i < count; i++) {
        const char *url = json_string_value(json_array_get(urls, i));
        outcomes[i] = way->ask(url, pair, why[i]);
        any = any || outcomes[i] == GOOD;
    }
    for (size_t i = 0; i < count; i++) {
        const char *url = json_string_value(json_array_get(urls, i));
        char out[CERT_WORDS_MAX] = "", host[CERT_HOST_PORT_MAX];
        if (outcomes[i] == UNREACHABLE && cert_host_port(url, host))
            snprintf(out, sizeof(out),
                     "let this node through to %s, or set http_proxy; partners need it as well",
                     host);
        else if (outcomes[i] == BAD)
            snprintf(out, sizeof(out), "ask its issuer; do not put it in place before");
        rehearsal_say(r,
                      outcomes[i] == GOOD                 ? REHEARSAL_OK
                      : outcomes[i] == UNREACHABLE && any ? REHEARSAL_WARN
                                                          : REHEARSAL_FAIL,
                      way->point, url, out, "%s", why[i]);
    }
}

static bool crt_of(struct slice der, gnutls_x509_crt_t *crt)
{
    const gnutls_datum_t datum = { (unsigned char *)der.data, (unsigned)der.size };
    if (gnutls_x509_crt_init(crt) < 0)
        return false;
    if (gnutls_x509_crt_import(*crt, &datum, GNUTLS_X509_FMT_DER) >= 0)
        return true;
    gnutls_x509_crt_deinit(*crt);
    return false;
}

static void ask_of(struct rehearsal *r, struct slice der, struct slice issuer)
{
    static struct tls_certificate facts;
    json_t *pointers = json_object();
    const char *why = "";
    struct pair pair;
    cert_pointers(der, pointers);
    const json_t *crl = json_object_get(pointers, "crl"), *ocsp = json_object_get(pointers, "ocsp");
    int read = tls_certificate_look(der, &facts, &why);
    const char *subject = read < 0 ? "" : facts.subject;
    if (json_array_size(crl) + json_array_size(ocsp) == 0) {
        bool is_short = read == 0 && facts.not_after - facts.not_before <= SHORT_LIVED_SECONDS;
        if (is_short)
            rehearsal_say(r, REHEARSAL_OK, "crl", subject, "",
                          "is short-lived, and names no address");
        else
            rehearsal_say(r, REHEARSAL_WARN, "crl", subject,
                          "partners that insist on knowing (cert-revocation = hard) defer our mail",
                          "names neither a CRL nor a responder");
    } else if (issuer.size == 0) {
        rehearsal_say(r, REHEARSAL_WARN, "crl", subject, "add its issuer to the file",
                      "its issuer is not at hand, so that nobody's word on it can be verified");
    } else if (crt_of(der, &pair.subject)) {
        if (crt_of(issuer, &pair.issuer)) {
            ask_all(r, &crl_way, crl, &pair);
            ask_all(r, &ocsp_way, ocsp, &pair);
            gnutls_x509_crt_deinit(pair.issuer);
        }
        gnutls_x509_crt_deinit(pair.subject);
    }
    json_decref(pointers);
}

/* The root that the chain builds to; to be freed. NULL: none. */
static X509 *root_of(const struct rehearsal *r)
{
    static struct tls_peer peer;
    for (unsigned i = 0; i < r->config->roots_count; i++) {
        const struct tls_roots *roots = r->config->roots[i].roots;
        if (roots != NULL &&
            tls_credential_verify(r->new, roots, TLS_PURPOSE_ANY, r->at, &peer) == 0 &&
            peer.root[0] != '\0')
            return tls_roots_find(roots, peer.root_digest);
    }
    return NULL;
}

void rehearse_revocation(struct rehearsal *r)
{
    const unsigned count = tls_credential_chain_count(r->new);
    X509 *root = root_of(r);
    uint8_t *root_der = NULL;
    const int root_size = root == NULL ? 0 : i2d_X509(root, &root_der);
    const struct slice root_slice = slice_of(root_der, root_size > 0 ? (size_t)root_size : 0);
    for (unsigned i = 0; i < count; i++) {
        const struct slice der = tls_certificate_der(tls_credential_chain_at(r->new, i));
        if (slice_equal(der, root_slice))
            break; /* nobody revokes a root but those who trust it */
        ask_of(r, der,
               i + 1 < count ? tls_certificate_der(tls_credential_chain_at(r->new, i + 1))
                             : root_slice);
    }
    OPENSSL_free(root_der);
    X509_free(root);
}

/* ---- TLSA ---- */

/* As a sender with DANE would judge it. Its names are a matter of their own, and told elsewhere. */
static bool fits(const struct lookup_dane *records, const struct tls_credential *credential,
                 const char *host)
{
    const struct slice name = slice_of_string(host);
    const int64_t begins = tls_credential_leaf(credential)->not_before;
    char why[TLS_WHY_MAX];
    STACK_OF(CRYPTO_BUFFER) *chain = sk_CRYPTO_BUFFER_new_null();
    for (unsigned i = 0; chain != NULL && i < tls_credential_chain_count(credential); i++)
        if (sk_CRYPTO_BUFFER_push(
                chain, (CRYPTO_BUFFER *)(uintptr_t)tls_credential_chain_at(credential, i)) == 0)
            break; /* no memory: it is cut short, and does not fit */
    const bool match = tls_dane_verify(chain, &records->set, &name, 1,
                                       MAX((int64_t)time(NULL), begins), why) != TLS_DANE_NO_MATCH;
    sk_CRYPTO_BUFFER_free(chain);
    return match;
}

static void say_records(struct rehearsal *r, const char *name, const char *host,
                        const struct lookup_dane *records)
{
    char pin[TLS_DIGEST_HEX_BYTES], way[CERT_WORDS_MAX];
    const char *trust = records->validated ? "" : " (not validated by DNSSEC here)";
    const bool fits_new = fits(records, r->new, host);
    const bool fits_old = fits(records, r->certificate->credential, host);
    const unsigned count = records->set.count;
    tls_text_hex(slice_of(tls_credential_leaf(r->new)->spki, TLS_DIGEST_BYTES), pin, sizeof(pin));
    snprintf(way, sizeof(way), "publish %s. IN TLSA 3 1 1 %s beside the others, wait %u s, change",
             name, pin, 2 * records->ttl_s);
    if (records->dane == HOST_DANE_ABSENT)
        rehearsal_say(r, REHEARSAL_OK, "tlsa", name, "", "nothing is published");
    else if (records->dane == HOST_DANE_UNUSABLE)
        rehearsal_say(r, REHEARSAL_OK, "tlsa", name, "",
                      "no record that says something to senders");
    else if (records->dane == HOST_DANE_BAD)
        rehearsal_say(r, REHEARSAL_FAIL, "tlsa", name, way, "%s%s", records->why, trust);
    else if (records->dane != HOST_DANE_USABLE)
        rehearsal_say(r, REHEARSAL_WARN, "tlsa", name, "look at dns { } and at the zone",
                      "cannot be looked up: %s", records->why);
    else if (fits_new && fits_old)
        rehearsal_say(r, REHEARSAL_OK, "tlsa", name, "", "%u records, for both%s", count, trust);
    else if (fits_new)
        rehearsal_say(r, REHEARSAL_WARN, "tlsa", name,
                      "change now, or publish those of the one in use again",
                      "%u records, none for the one in use: senders with DANE do not deliver%s",
                      count, trust);
    else
        rehearsal_say(r, REHEARSAL_FAIL, "tlsa", name, way, "%u records, %s%s", count,
                      fits_old ? "for the one in use only" : "for neither of the two", trust);
}

static void look_up(struct rehearsal *r, const char *host, uint16_t port, const char *name)
{
    static struct lookup_dane records;
    const struct dns_options options = resolve_dns_options(r->config);
    if (lookup_published(&options, host, port, &records) < 0)
        rehearsal_say(r, REHEARSAL_WARN, "tlsa", name, "", "cannot be looked up");
    else
        say_records(r, name, host, &records);
}

void rehearse_tlsa(struct rehearsal *r)
{
    json_t *names = json_array();
    char name[DNS_NAME_MAX + sizeof("_65535._tcp.")];
    for (unsigned i = 0; i < r->config->listeners_count; i++) {
        const struct config_listener *listener = &r->config->listeners[i];
        for (unsigned k = 0; k < listener->addresses_count; k++) {
            if (!cert_listens(r->certificate, listener))
                continue;
            const size_t before = json_array_size(names);
            snprintf(name, sizeof(name), "_%u._tcp.%s", listener->addresses[k].port,
                     listener->banner);
            cert_list_add(names, name);
            if (json_array_size(names) > before)
                look_up(r, listener->banner, listener->addresses[k].port, name);
        }
    }
    json_decref(names);
}
