/*
 * cert_facts.c - users, TLSA records, and the addresses inside of a certificate
 *
 * GnuTLS, which libcurl brings along, reads what BoringSSL has only as nested ASN.1: the addresses
 * of CRLs, responders and issuers. What it says is escaped before anybody sees it.
 */
#include "mta/cert_facts.h"

#include <curl/curl.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <stdio.h>

#include "mta/cli.h"

enum { POINTERS_MAX = 16, URL_MAX = 1'024, NAME_PART_MAX = 256 };

/* ---- who presents it ---- */

bool cert_listens(const struct config_certificate *certificate,
                  const struct config_listener *listener)
{
    for (unsigned i = 0; i < listener->certificates_count; i++)
        if (listener->certificates[i] == certificate && listener->tls != CONFIG_TLS_NONE)
            return true;
    return false;
}

json_t *cert_users(const struct config *config, const struct config_certificate *certificate)
{
    json_t *users = json_array();
    char words[CERT_WORDS_MAX];
    for (unsigned i = 0; i < config->listeners_count; i++) {
        if (!cert_listens(certificate, &config->listeners[i]))
            continue;
        snprintf(words, sizeof(words), "listener %s", config->listeners[i].name);
        json_array_append_new(users, cli_string(words));
    }
    for (unsigned i = 0; i < config->outbound.count; i++) {
        const struct route *route = &config->outbound.connectors[i].route;
        if (route->tls.credential == NULL || route->tls.credential != certificate->credential)
            continue;
        snprintf(words, sizeof(words), "outbound %s", route->name);
        json_array_append_new(users, cli_string(words));
    }
    return users;
}

/* ---- TLSA ---- */

void cert_list_add(json_t *list, const char *text)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(json_string_value(json_array_get(list, i)), text) == 0)
            return;
    json_array_append_new(list, json_string(text));
}

void cert_tlsa_add(json_t *records, const struct tls_credential_text *text, unsigned port,
                   const char *name)
{
    char record[CERT_WORDS_MAX];
    for (unsigned i = 0; i < text->tlsa_count; i++) {
        snprintf(record, sizeof(record), "_%u._tcp.%s. IN TLSA %s", port, name, text->tlsa[i]);
        cert_list_add(records, record);
    }
}

json_t *cert_tlsa(const struct config *config, const struct config_certificate *certificate,
                  const struct tls_credential *credential)
{
    json_t *records = json_array();
    struct tls_credential_text text;
    if (tls_credential_describe(credential, NULL, 0, &text) < 0)
        return records;
    for (unsigned i = 0; i < config->listeners_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        if (!cert_listens(certificate, listener))
            continue;
        for (unsigned k = 0; k < listener->addresses_count; k++)
            cert_tlsa_add(records, &text, listener->addresses[k].port, listener->banner);
    }
    return records;
}

/* ---- roots ---- */

int cert_root(const struct config *config, const struct tls_credential *credential, int64_t now,
              const struct config_roots **bundle, struct tls_credential_text *text)
{
    *bundle = NULL;
    for (unsigned i = 0; i < config->roots_count; i++) {
        if (config->roots[i].roots == NULL)
            continue;
        int r = tls_credential_describe(credential, config->roots[i].roots, now, text);
        if (r < 0)
            return r;
        if (text->root[0] == '\0')
            continue;
        *bundle = &config->roots[i];
        return 0;
    }
    return tls_credential_describe(credential, NULL, now, text);
}

/* ---- addresses ---- */

static void add_text(json_t *list, const void *data, size_t size)
{
    char text[URL_MAX];
    tls_text_escape(slice_of(data, size), text, sizeof(text));
    if (*text != '\0')
        cert_list_add(list, text);
}

static json_t *lists_of(gnutls_x509_crt_t crt, gnutls_info_access_what_t what)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < POINTERS_MAX; i++) {
        gnutls_datum_t data = { 0 };
        int r = gnutls_x509_crt_get_authority_info_access(crt, i, (int)what, &data, NULL);
        if (r == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            break;
        if (r >= 0)
            add_text(list, data.data, data.size);
        gnutls_free(data.data);
    }
    return list;
}

static json_t *crls_of(gnutls_x509_crt_t crt)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < POINTERS_MAX; i++) {
        char url[URL_MAX];
        size_t size = sizeof(url);
        int r = gnutls_x509_crt_get_crl_dist_points(crt, i, url, &size, NULL, NULL);
        if (r == GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            break;
        if (r == GNUTLS_SAN_URI)
            add_text(list, url, strnlen(url, size));
    }
    return list;
}

/* UTF-8 as it is, for it goes into documents; anything that could end a line is escaped. */
static json_t *text_of(const ASN1_STRING *string)
{
    uint8_t *utf8 = NULL;
    const int size = ASN1_STRING_to_UTF8(&utf8, string);
    bool plain = size >= 0;
    for (int i = 0; i < size; i++)
        plain = plain && utf8[i] >= ' ' && utf8[i] != 0x7f;
    json_t *text = plain ? json_stringn((const char *)utf8, (size_t)size) : NULL;
    if (text == NULL) {
        char escaped[NAME_PART_MAX];
        tls_text_escape(slice_of(utf8, size < 0 ? 0 : (size_t)size), escaped, sizeof(escaped));
        text = json_string(escaped);
    }
    OPENSSL_free(utf8);
    ERR_clear_error();
    return text;
}

/* The values that the subject has of it. */
static json_t *parts_of(X509 *x509, int nid)
{
    json_t *parts = json_array();
    X509_NAME *subject = x509 == NULL ? NULL : X509_get_subject_name(x509);
    for (int i = -1; subject != NULL && json_array_size(parts) < POINTERS_MAX;) {
        i = X509_NAME_get_index_by_NID(subject, nid, i);
        if (i < 0)
            break;
        json_array_append_new(parts,
                              text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i))));
    }
    return parts;
}

void cert_pointers(struct slice der, json_t *object)
{
    gnutls_x509_crt_t crt;
    X509 *x509 = tls_certificate_parse(der);
    json_object_set_new(object, "organisation", parts_of(x509, NID_organizationName));
    json_object_set_new(object, "unit", parts_of(x509, NID_organizationalUnitName));
    X509_free(x509);
    if (gnutls_x509_crt_init(&crt) < 0)
        return;
    const gnutls_datum_t datum = { (unsigned char *)der.data, (unsigned)der.size };
    if (gnutls_x509_crt_import(crt, &datum, GNUTLS_X509_FMT_DER) >= 0) {
        json_object_set_new(object, "crl", crls_of(crt));
        json_object_set_new(object, "ocsp", lists_of(crt, GNUTLS_IA_OCSP_URI));
        json_object_set_new(object, "issuers", lists_of(crt, GNUTLS_IA_CAISSUERS_URI));
    }
    gnutls_x509_crt_deinit(crt);
}

bool cert_host_port(const char *url, char text[static CERT_HOST_PORT_MAX])
{
    CURLU *parts = curl_url();
    char *host = NULL, *port = NULL;
    bool ok = parts != NULL &&
              curl_url_set(parts, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME) == CURLUE_OK &&
              curl_url_get(parts, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
              curl_url_get(parts, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
              *host != '\0';
    if (ok)
        snprintf(text, CERT_HOST_PORT_MAX, "%.260s:%s", host, port);
    curl_free(host);
    curl_free(port);
    curl_url_cleanup(parts);
    return ok;
}
