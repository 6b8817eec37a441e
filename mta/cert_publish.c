/*
 * cert_publish.c - `ringpost cert publish`: what partners are to know of our certificates
 *
 *   deprecated (may still be recorded there) | current (presented) | next (from a day on)
 *
 * One object is made; --json prints it, the other formats are made of it (cert_table.c).
 */
#include <getopt.h>
#include <stdio.h>
#include <time.h>

#include "mta/cert_facts.h"
#include "mta/cert_table.h"
#include "mta/cert_text.h"
#include "mta/check.h"
#include "mta/cli.h"

static const char publish_help[] =
    "ringpost cert publish [-c FILE] [--markdown|--html|--json] [TITLE...]\n"
    "\n"
    "The table that partners need of our certificates: current, next (certificate { next }) and\n"
    "deprecated ones, each with its dates, names, organisation, root issuer, key, pins, TLSA "
    "records,\n"
    "and the addresses of CRLs, OCSP responders and issuers' certificates, which a firewall of "
    "theirs\n"
    "has to let through. What to do before the next one takes over is told on standard error.\n"
    "  -c, --config FILE   default /etc/ringpost/ringpost.conf\n"
    "  -m, --markdown      a table for a wiki\n"
    "      --html          a page that needs nothing else\n"
    "      --json          the same as an object\n"
    "Exit status: 0, 1 a file or a title that cannot be had (said why), 2 usage.\n";

struct publishing {
    const struct config *config;
    const struct config_certificate *certificate;
    int64_t now;
    json_t *firewall; /* of all */
    json_t *hints;
    bool failed;
};

static void hint(const struct publishing *p, const char *format, ...) PRINTF_LIKE(2, 3);
static void hint(const struct publishing *p, const char *format, ...)
{
    char words[CERT_WORDS_MAX];
    va_list list;
    va_start(list, format);
    vsnprintf(words, sizeof(words), format, list);
    va_end(list);
    json_array_append_new(p->hints, cli_string(words));
}

/* ---- a column ---- */

static void merge(json_t *into, const json_t *from)
{
    for (size_t i = 0; i < json_array_size(from); i++)
        cert_list_add(into, json_string_value(json_array_get(from, i)));
}

/* Of the certificate, and of the issuers that we send along. */
static void add_addresses(const struct publishing *p, json_t *column,
                          const struct tls_credential *credential)
{
    static const char *const keys[] = { "crl", "ocsp", "issuers" };
    json_t *lists[ARRAY_COUNT(keys)];
    json_t *firewall = json_array();
    for (size_t k = 0; k < ARRAY_COUNT(keys); k++) {
        lists[k] = json_array();
        json_object_set_new(column, keys[k], lists[k]);
    }
    for (unsigned i = 0; i < tls_credential_chain_count(credential); i++) {
        json_t *one = json_object();
        cert_pointers(tls_certificate_der(tls_credential_chain_at(credential, i)), one);
        for (size_t k = 0; k < ARRAY_COUNT(keys); k++)
            merge(lists[k], json_object_get(one, keys[k]));
        if (i == 0) {
            json_object_set(column, "organisation", json_object_get(one, "organisation"));
            json_object_set(column, "unit", json_object_get(one, "unit"));
        }
        json_decref(one);
    }
    for (size_t k = 0; k < ARRAY_COUNT(keys); k++) {
        for (size_t i = 0; i < json_array_size(lists[k]); i++) {
            char host[CERT_HOST_PORT_MAX];
            if (cert_host_port(json_string_value(json_array_get(lists[k], i)), host))
                cert_list_add(firewall, host);
        }
    }
    merge(p->firewall, firewall);
    json_object_set_new(column, "firewall", firewall);
}

static json_t *intermediates_of(const struct tls_credential *credential, int64_t now)
{
    json_t *list = json_array();
    for (unsigned i = 1; i < tls_credential_chain_count(credential); i++) {
        json_t *one =
            cert_json_of(tls_certificate_der(tls_credential_chain_at(credential, i)), now);
        char words[CERT_WORDS_MAX];
        snprintf(words, sizeof(words), "%s, until %s, pin %s", cli_text(one, "subject"),
                 cli_text(one, "not_after"), cli_text(one, "pin"));
        json_array_append_new(list, cli_string(words));
        json_decref(one);
    }
    return list;
}

static void add_root(const struct publishing *p, json_t *column,
                     const struct tls_credential *credential)
{
    const struct config_roots *bundle;
    struct tls_credential_text text;
    if (cert_root(p->config, credential, p->now, &bundle, &text) < 0 || bundle == NULL) {
        json_object_set_new(column, "root", cli_string(""));
        return;
    }
    json_object_set_new(column, "root", cli_string(text.root));
    json_object_set_new(column, "root_bundle",
                        cli_string(*bundle->name == '\0' ? "system" : bundle->name));
    json_object_set_new(column, "root_sha256", cli_string(text.root_sha256));
}

static json_t *column_of(const struct publishing *p, const char *role, const char *presented,
                         const struct tls_credential *credential)
{
    json_t *column = cert_json(tls_credential_leaf(credential), p->now);
    char pin[sizeof("sha256:") + TLS_DIGEST_HEX_BYTES];
    snprintf(pin, sizeof(pin), "sha256:%s", cli_text(column, "pin"));
    json_object_set_new(column, "pin", cli_string(pin)); /* as configurations have it */
    json_object_set_new(column, "role", cli_string(role));
    json_object_set_new(column, "presented", cli_string(presented));
    json_object_set_new(column, "intermediates", intermediates_of(credential, p->now));
    json_object_set_new(column, "tlsa", cert_tlsa(p->config, p->certificate, credential));
    add_root(p, column, credential);
    add_addresses(p, column, credential);
    return column;
}

/* ---- a certificate ---- */

static void hints_of_next(const struct publishing *p, const json_t *current, const json_t *next,
                          const char *day)
{
    const struct config_certificate *c = p->certificate;
    const struct tls_certificate *now = tls_credential_leaf(c->credential);
    const struct tls_certificate *then = tls_credential_leaf(c->next_credential);
    const char *when = *day == '\0' ? "the change" : day;
    if (memcmp(now->spki, then->spki, TLS_DIGEST_BYTES) == 0)
        hint(p, "the next one has the same key: pins and TLSA records 3 1 1 stay as they are");
    else
        hint(p,
             "publish the TLSA records of both, and have partners record both pins, before %s: "
             "records at least two TTLs ahead; those of the current one go two TTLs after it",
             when);
    if (!json_equal(json_object_get(current, "root"), json_object_get(next, "root")))
        hint(p, "the next one has another root: partners that record the root need both before %s",
             when);
    if (c->change_on != 0 && (c->change_on < then->not_before || c->change_on > now->not_after))
        hint(p, "change-on %s is %s", day,
             c->change_on < then->not_before ? "before the next one is valid"
                                             : "after the current one has expired");
    if (c->change_on != 0 && c->change_on < p->now)
        hint(p, "change-on %s is over: put the next one in place (cert rehearse, reload)", day);
}

static json_t *publish(struct publishing *p)
{
    const struct config_certificate *c = p->certificate;
    json_t *columns = json_array();
    char day[TLS_TEXT_DATE_BYTES] = "", words[CERT_WORDS_MAX];
    p->hints = json_array();
    if (c->change_on != 0)
        tls_text_date(c->change_on, day);
    bool has_next = c->next_credential != NULL;
    snprintf(words, sizeof(words), "now%s%s", has_next ? ", until " : "",
             !has_next      ? ""
             : *day != '\0' ? day
                            : "the next one takes its place");
    json_t *current = column_of(p, "current", words, c->credential);
    json_array_append_new(columns, current);
    if (has_next) {
        snprintf(words, sizeof(words), "from %s on: to be recorded beside the current one before",
                 *day != '\0' ? day : "a day to be announced");
        json_t *next = column_of(p, "next", words, c->next_credential);
        json_array_append_new(columns, next);
        hints_of_next(p, current, next, day);
    } else if (cert_days_left(tls_credential_leaf(c->credential)->not_after, p->now) <
               CERT_EXPIRES_SOON_DAYS) {
        hint(p, "it expires on %s, and there is no next one", cli_text(current, "not_after"));
    }
    p->failed = p->failed || (*c->next != '\0' && !has_next);
    for (unsigned i = 0; i < c->deprecated_count; i++) {
        const struct tls_credential *credential = c->deprecated_credentials[i];
        if (credential != NULL)
            json_array_append_new(columns, column_of(p, "deprecated", "not any more", credential));
        if (credential != NULL && tls_credential_leaf(credential)->not_after < p->now)
            hint(p, "%s has expired: its line in deprecated can go", c->deprecated[i]);
        p->failed = p->failed || credential == NULL;
    }
    return json_pack("{s:s, s:o, s:o, s:o}", "title", c->name, "used_by", cert_users(p->config, c),
                     "columns", columns, "hints", p->hints);
}

/* ---- the command ---- */

static bool is_wanted(const char *title, char **titles, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(titles[i], title) == 0)
            return true;
    return count == 0;
}

static bool are_there(const struct config *config, char **titles, int count)
{
    bool all = true;
    for (int i = 0; i < count; i++) {
        bool found = false;
        for (unsigned k = 0; k < config->certificates_count; k++)
            found = found || strcmp(config->certificates[k].name, titles[i]) == 0;
        if (!found)
            fprintf(stderr, "ringpost: %s has no certificate \"%s\"\n", config->file, titles[i]);
        all = all && found;
    }
    return all;
}

static json_t *table_of(struct publishing *p, char **titles, int count)
{
    char day[TLS_TEXT_DATE_BYTES];
    tls_text_date(p->now, day);
    json_t *list = json_array();
    p->firewall = json_array();
    for (unsigned i = 0; i < p->config->certificates_count; i++) {
        p->certificate = &p->config->certificates[i];
        if (is_wanted(p->certificate->name, titles, count))
            json_array_append_new(list, publish(p));
    }
    return json_pack("{s:s, s:s, s:o, s:o}", "node", p->config->hostname, "as_of", day,
                     "certificates", list, "firewall", p->firewall);
}

/* They are for us, and the table is for partners. */
static void print_hints(const json_t *certificates)
{
    for (size_t i = 0; i < json_array_size(certificates); i++) {
        const json_t *certificate = json_array_get(certificates, i);
        const json_t *hints = json_object_get(certificate, "hints");
        for (size_t k = 0; k < json_array_size(hints); k++)
            fprintf(stderr, "ringpost: certificate \"%s\": %s\n", cli_text(certificate, "title"),
                    json_string_value(json_array_get(hints, k)));
    }
}

static int publish_all(const char *file, char **titles, int count, bool as_json,
                       enum cert_format format)
{
    struct config *config = cli_config_told(file);
    if (config == NULL)
        return 1;
    struct publishing p = { .config = config, .now = time(NULL) };
    p.failed = !are_there(config, titles, count);
    json_t *table = table_of(&p, titles, count);
    int status = p.failed ? 1 : 0;
    if (as_json) {
        status = cli_print_json(table, status);
    } else {
        cert_table_print(stdout, table, format);
        print_hints(json_object_get(table, "certificates"));
        json_decref(table);
    }
    config_free(config);
    return status;
}

int cert_publish_main(int argc, char **argv)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' }, { "json", no_argument, NULL, 'j' },
        { "markdown", no_argument, NULL, 'm' },     { "html", no_argument, NULL, 'w' },
        { "help", no_argument, NULL, 'h' },         { NULL, 0, NULL, 0 },
    };
    const char *file = check_default_path();
    unsigned formats = 0;
    bool as_json = false;
    enum cert_format format = CERT_TEXT;
    for (int option; (option = getopt_long(argc, argv, "c:jmh", options, NULL)) != -1;) {
        formats += option == 'j' || option == 'm' || option == 'w';
        switch (option) {
        case 'c': file = optarg; break;
        case 'j': as_json = true; break;
        case 'm': format = CERT_MARKDOWN; break;
        case 'w': format = CERT_HTML; break;
        case 'h': fputs(publish_help, stdout); return 0;
        default: fputs(publish_help, stderr); return 2;
        }
    }
    if (formats > 1) {
        fputs(publish_help, stderr);
        return 2;
    }
    return publish_all(file, argv + optind, argc - optind, as_json, format);
}
