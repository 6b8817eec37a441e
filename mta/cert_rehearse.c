/*
 * cert_rehearse.c - `ringpost cert rehearse`: before a change, whether everything fits the new one
 *
 * Reads files and asks the network; changes nothing. The configuration says what the certificate
 * is for (cert_points.c); DNS, CRLs and responders say what the world knows of it (cert_online.c).
 */
#include "mta/cert_rehearse.h"

#include <getopt.h>
#include <stdio.h>
#include <time.h>

#include "mta/cert_text.h"
#include "mta/check.h"
#include "mta/cli.h"

static const char rehearse_help[] =
    "ringpost cert rehearse [-c FILE] [OPTION...] [NEW.pem]\n"
    "\n"
    "Before a change: whether what there is still fits when NEW.pem takes the place of a "
    "certificate\n"
    "of the configuration. Without NEW.pem: its `next`. Nothing is changed.\n"
    "  names, key, dates   of the listeners that present it, and against the one in use now\n"
    "  roots               whether the chain builds to each root bundle in use\n"
    "  own pins, own names of connectors that know the one in use now\n"
    "  partner-expects     what partners have recorded of us: names, pins, roots\n"
    "  tlsa                records published now, compared with both\n"
    "  crl, ocsp           whether their addresses answer from this node, and call it good\n"
    "  -c, --config FILE   default /etc/ringpost/ringpost.conf\n"
    "  -k, --key FILE      its key: whether it fits, and may be read\n"
    "  -n, --certificate TITLE  whose place it takes; needed if there are several\n"
    "      --offline       asks neither DNS nor anybody else\n"
    "      --json          the points as an object\n"
    "Each point is ok, WARN or FAIL, with the reason and the way out.\n"
    "Exit status: 0 nothing fails, 1 something does, or a file cannot be had, 2 usage.\n";

static const char *const status_words[] = {
    [REHEARSAL_OK] = "ok",
    [REHEARSAL_WARN] = "warn",
    [REHEARSAL_FAIL] = "fail",
};

void rehearsal_say(struct rehearsal *r, enum rehearsal_status status, const char *point,
                   const char *about, const char *way, const char *format, ...)
{
    char words[CERT_WORDS_MAX];
    va_list list;
    va_start(list, format);
    vsnprintf(words, sizeof(words), format, list);
    va_end(list);
    r->counts[status]++;
    json_array_append_new(r->points,
                          json_pack("{s:s, s:s, s:o, s:o, s:o}", "status", status_words[status],
                                    "point", point, "about", cli_string(about), "why",
                                    cli_string(words), "way", cli_string(way)));
}

/* ---- whose place ---- */

static const struct config_certificate *named(const struct config *config, const char *title)
{
    for (unsigned i = 0; i < config->certificates_count; i++)
        if (strcmp(config->certificates[i].name, title) == 0)
            return &config->certificates[i];
    fprintf(stderr, "ringpost: %s has no certificate \"%s\"\n", config->file, title);
    return NULL;
}

/* The only one, the one that has this file as its next, or, without a file, has a next at all. */
static const struct config_certificate *guessed(const struct config *config, const char *path)
{
    const struct config_certificate *found = NULL;
    unsigned count = 0;
    for (unsigned i = 0; i < config->certificates_count; i++) {
        const struct config_certificate *c = &config->certificates[i];
        if (path == NULL ? *c->next == '\0' : strcmp(c->next, path) != 0)
            continue;
        found = c;
        count++;
    }
    if (count == 1)
        return found;
    if (path != NULL && count == 0 && config->certificates_count == 1)
        return &config->certificates[0];
    if (config->certificates_count == 0)
        fprintf(stderr, "ringpost: %s has no certificate that could be replaced\n", config->file);
    else if (path == NULL && count == 0)
        fprintf(stderr, "ringpost: %s: no certificate has a `next`; name the file\n", config->file);
    else
        fprintf(stderr, "ringpost: which certificate is to be replaced? --certificate TITLE\n");
    return NULL;
}

/* ---- what is printed ---- */

static void print_points(const struct rehearsal *r)
{
    printf("%s in the place of certificate %s\n", r->path, r->certificate->name);
    for (size_t i = 0; i < json_array_size(r->points); i++) {
        const json_t *point = json_array_get(r->points, i);
        const char *status = cli_text(point, "status");
        const char *about = cli_text(point, "about");
        printf("  %-4s  %-15s %s%s%s\n",
               strcmp(status, "fail") == 0   ? "FAIL"
               : strcmp(status, "warn") == 0 ? "WARN"
                                             : status,
               cli_text(point, "point"), about, *about == '\0' ? "" : ": ", cli_text(point, "why"));
        if (*cli_text(point, "way") != '\0')
            printf("                        way out: %s\n", cli_text(point, "way"));
    }
    printf("%u ok, %u to look at, %u failing: %s\n", r->counts[REHEARSAL_OK],
           r->counts[REHEARSAL_WARN], r->counts[REHEARSAL_FAIL],
           r->counts[REHEARSAL_FAIL] > 0 ? "not yet" : "it may take over");
}

static int print(const struct rehearsal *r, bool as_json)
{
    int status = r->counts[REHEARSAL_FAIL] > 0 ? 1 : 0;
    if (!as_json) {
        print_points(r);
        json_decref(r->points);
        return status;
    }
    json_t *new = r->new == NULL ? json_null() : cert_json(tls_credential_leaf(r->new), r->now);
    json_t *current = cert_json(tls_credential_leaf(r->certificate->credential), r->now);
    return cli_print_json(json_pack("{s:b, s:s, s:s, s:o, s:o, s:o, s:i, s:i}", "ok",
                                    (int)(status == 0), "certificate", r->certificate->name, "file",
                                    r->path, "current", current, "new", new, "points", r->points,
                                    "warnings", (int)r->counts[REHEARSAL_WARN], "failures",
                                    (int)r->counts[REHEARSAL_FAIL]),
                          status);
}

/* ---- the command ---- */

static void load(struct rehearsal *r)
{
    char why[TLS_WHY_MAX];
    if (tls_credential_look(r->path, &r->new, why) < 0) {
        r->new = NULL;
        rehearsal_say(r, REHEARSAL_FAIL, "chain", "",
                      "put the certificate first, then each one's issuer, without the root", "%s",
                      why);
        return;
    }
    rehearsal_say(r, REHEARSAL_OK, "chain", "", "", "%u certificates, %s",
                  tls_credential_chain_count(r->new), tls_credential_leaf(r->new)->subject);
    const struct tls_certificate *leaf = tls_credential_leaf(r->new);
    bool is_next = strcmp(r->certificate->next, r->path) == 0;
    r->at = MAX(r->now, leaf->not_before);
    if (is_next)
        r->at = MAX(r->at, r->certificate->change_on);
    if (*r->key == '\0')
        r->key = is_next ? r->certificate->next_key : "";
}

static int rehearse(struct rehearsal *r, bool offline, bool as_json)
{
    r->points = json_array();
    load(r);
    if (r->new != NULL)
        rehearse_offline(r);
    if (r->new != NULL && !offline) {
        rehearse_tlsa(r);
        rehearse_revocation(r);
    }
    int status = print(r, as_json);
    tls_credential_drop(r->new);
    return status;
}

int cert_rehearse_main(int argc, char **argv)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' },
        { "key", required_argument, NULL, 'k' },
        { "certificate", required_argument, NULL, 'n' },
        { "offline", no_argument, NULL, 'o' },
        { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    static struct rehearsal r;
    const char *file = check_default_path(), *title = NULL;
    bool offline = false, as_json = false;
    r = (struct rehearsal) { .key = "", .now = time(NULL) };
    for (int option; (option = getopt_long(argc, argv, "c:k:n:jh", options, NULL)) != -1;) {
        switch (option) {
        case 'c': file = optarg; break;
        case 'k': r.key = optarg; break;
        case 'n': title = optarg; break;
        case 'o': offline = true; break;
        case 'j': as_json = true; break;
        case 'h': fputs(rehearse_help, stdout); return 0;
        default: fputs(rehearse_help, stderr); return 2;
        }
    }
    if (argc - optind > 1) {
        fputs(rehearse_help, stderr);
        return 2;
    }
    struct config *config = cli_config_told(file);
    if (config == NULL)
        return 1;
    r.config = config;
    r.path = argv[optind]; /* NULL: none is given */
    r.certificate = title != NULL ? named(config, title) : guessed(config, r.path);
    if (r.certificate != NULL && r.path == NULL)
        r.path = r.certificate->next;
    int status = 1;
    if (r.certificate != NULL && *r.path == '\0')
        fprintf(stderr, "ringpost: certificate \"%s\" has no `next`; name the file\n",
                r.certificate->name);
    else if (r.certificate != NULL)
        status = rehearse(&r, offline, as_json);
    config_free(config);
    return status;
}
