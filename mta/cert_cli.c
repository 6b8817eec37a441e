/*
 * cert_cli.c - `ringpost cert show` and `ringpost cert make`, and which command is which
 *
 * show reads the files as the server does, and tells what a partner, a DNS zone or a calendar has
 * to know of them. make writes a self-signed pair and never over anything that is there.
 */
#include "mta/cert_cli.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mta/cert_facts.h"
#include "mta/cert_text.h"
#include "mta/check.h"
#include "mta/cli.h"
#include "mta/config.h"
#include "tls/tls_credential.h"
#include "tls/tls_make.h"
#include "tls/tls_roots.h"

enum {
    PATH_BYTES = 1'024,
    WORDS_BYTES = 1'024,
    DAYS_DEFAULT = 90,
    DAYS_MAX = 36'500,
    DAY_SECONDS = 86'400,
    SKEW_SECONDS = 3'600, /* clocks of peers that are behind */
    PORT_SMTP = 25,
    KEY_MODE = 0600,
    CHAIN_MODE = 0644,
    DIRECTORY_MODE = 0755,
};

static const char show_help[] =
    "ringpost cert show [-c FILE] [--json] [TITLE...]   certificates of the configuration\n"
    "ringpost cert show [--json] CHAIN.pem...           of files: the certificate, its issuers\n"
    "\n"
    "Of each: names, subject, issuer, key, dates, SHA-256 of the certificate, and of its public "
    "key\n"
    "(the pin); who uses it; whether it verifies by the system's roots, and up to which; the TLSA\n"
    "records to publish (RFC 7672: 3 1 1 is this key, 2 1 1 its issuers' keys; one kind is "
    "enough);\n"
    "and warnings: expires in less than 21 days, does not verify, does not cover the name that "
    "the\n"
    "listener greets with. Reads files only; a running server has what it read last.\n"
    "  -c, --config FILE   default /etc/ringpost/ringpost.conf\n"
    "      --json          the same as an object\n"
    "Exit status: 0 (also with warnings), 1 a file or a title that cannot be had, 2 usage.\n";

static const char make_help[] =
    "ringpost cert make --name NAME [--name NAME...] --out DIR [--days N] [--rsa]\n"
    "\n"
    "A key and a certificate that it signs itself: for a first look, for tests, or to be pinned.\n"
    "Peers that only want encryption take it; those that verify do not, unless TLSA records say "
    "so.\n"
    "Writes DIR/NAME.pem and DIR/NAME.key (mode 0600), by the first NAME, and overwrites nothing.\n"
    "  -n, --name NAME     that it is for: mx.example.org, or *.example.org\n"
    "  -o, --out DIR       where to; made when it is not there\n"
    "  -d, --days N        valid from now on (default 90)\n"
    "      --rsa           RSA 2048 instead of ECDSA P-256\n"
    "Exit status: 0, 1 not written (said why), 2 usage.\n";

/* ---- show ---- */

/* What is known of one certificate besides itself. */
struct shown {
    const struct config *config;                  /* NULL: a file alone */
    const struct config_certificate *certificate; /* NULL: likewise */
    const struct tls_credential *credential;
    const struct tls_roots *roots; /* NULL: the system has none */
    int64_t now;
    json_t *object;
};

static void warn(const struct shown *s, const char *format, ...) PRINTF_LIKE(2, 3);
static void warn(const struct shown *s, const char *format, ...)
{
    char words[WORDS_BYTES];
    va_list list;
    va_start(list, format);
    vsnprintf(words, sizeof(words), format, list);
    va_end(list);
    json_array_append_new(json_object_get(s->object, "warnings"), cli_string(words));
}

static bool uses(const struct shown *s, const struct config_listener *listener)
{
    return cert_listens(s->certificate, listener);
}

static void add_users(const struct shown *s)
{
    if (s->config == NULL)
        return;
    json_t *users = cert_users(s->config, s->certificate);
    if (json_array_size(users) == 0)
        warn(s, "no listener and no connector uses it");
    json_object_set_new(s->object, "used_by", users);
}

/* Of a file alone: at its own names, and the usual port. */
static void add_tlsa(const struct shown *s, const struct tls_credential_text *text)
{
    json_t *records =
        s->config == NULL ? json_array() : cert_tlsa(s->config, s->certificate, s->credential);
    const struct tls_names *names = &tls_credential_leaf(s->credential)->names;
    for (unsigned i = 0; s->config == NULL && i < names->count; i++) {
        char name[TLS_NAME_MAX + 1];
        slice_to_string(tls_names_at(names, i), name, sizeof(name));
        if (name[0] != '*')
            cert_tlsa_add(records, text, PORT_SMTP, name);
    }
    json_object_set_new(s->object, "tlsa", records);
}

/* ---- what is wrong ---- */

static void warn_of_dates(const struct shown *s)
{
    unsigned count = tls_credential_chain_count(s->credential);
    const json_t *chain = json_object_get(s->object, "chain");
    const struct tls_certificate *leaf = tls_credential_leaf(s->credential);
    if (s->now < leaf->not_before)
        warn(s, "not valid before %s", cli_text(s->object, "not_before"));
    for (unsigned i = 0; i < count; i++) {
        const json_t *each = json_array_get(chain, i);
        json_int_t left = json_integer_value(json_object_get(each, "days_left"));
        char which[WORDS_BYTES] = "";
        if (i > 0)
            snprintf(which, sizeof(which), "issuer %u (%s) ", i, cli_text(each, "subject"));
        if (json_object_get(each, "days_left") == NULL)
            warn(s, "issuer %u cannot be read", i);
        else if (left < 0)
            warn(s, "%sexpired on %s", which, cli_text(each, "not_after"));
        else if (left < CERT_EXPIRES_SOON_DAYS)
            warn(s, "%sexpires in %lld days, on %s", which, left, cli_text(each, "not_after"));
    }
}

static void warn_of_names(const struct shown *s)
{
    const struct tls_names *names = &tls_credential_leaf(s->credential)->names;
    if (names->count == 0)
        warn(s, "has no names (subjectAltName): peers that compare names do not take it");
    for (unsigned i = 0; s->config != NULL && i < s->config->listeners_count; i++) {
        const struct config_listener *listener = &s->config->listeners[i];
        struct slice banner = slice_of_string(listener->banner), best;
        if (uses(s, listener) && !tls_name_best(&banner, 1, names, true, &best))
            warn(s, "has no name for %s, which listener %s greets with", listener->banner,
                 listener->name);
    }
}

static void add_verdict(const struct shown *s, const struct tls_credential_text *text)
{
    bool valid = strcmp(text->verdict, "valid") == 0;
    json_object_set_new(s->object, "verdict", cli_string(text->verdict));
    json_object_set_new(s->object, "root", cli_string(text->root));
    if (s->roots == NULL)
        warn(s, "the system has no roots to verify it by; install ca-certificates");
    else if (!valid)
        warn(s, "does not verify by the system's roots: %s", text->verdict);
}

static json_t *show(struct shown *s, const char *title, const char *chain_path)
{
    struct tls_credential_text text;
    if (tls_credential_describe(s->credential, s->roots, s->now, &text) < 0) {
        fputs("ringpost: out of memory\n", stderr);
        return NULL;
    }
    s->object = cert_json(tls_credential_leaf(s->credential), s->now);
    json_object_set_new(s->object, "title", cli_string(title));
    json_object_set_new(s->object, "chain_file", cli_string(chain_path));
    json_object_set_new(s->object, "warnings", json_array());
    json_t *chain = json_array();
    for (unsigned i = 0; i < tls_credential_chain_count(s->credential); i++)
        json_array_append_new(
            chain,
            cert_json_of(tls_certificate_der(tls_credential_chain_at(s->credential, i)), s->now));
    json_object_set_new(s->object, "chain", chain);
    if (s->certificate != NULL)
        json_object_set_new(s->object, "key_file", cli_string(s->certificate->key));
    add_users(s);
    add_tlsa(s, &text);
    warn_of_dates(s);
    warn_of_names(s);
    add_verdict(s, &text);
    return s->object;
}

static void print_list(const char *label, const json_t *array)
{
    for (size_t i = 0; i < json_array_size(array); i++)
        cli_line(label, json_string_value(json_array_get(array, i)));
}

static void print_certificate(const json_t *object)
{
    const json_t *chain = json_object_get(object, "chain");
    const char *title = cli_text(object, "title");
    printf("%s\n", *title != '\0' ? title : cli_text(object, "chain_file"));
    cli_line_list("used by", json_object_get(object, "used_by"));
    if (*title != '\0')
        cli_line("chain", cli_text(object, "chain_file"));
    cli_line("key file", cli_text(object, "key_file"));
    cert_print(object);
    for (size_t i = 1; i < json_array_size(chain); i++) {
        const json_t *issuer = json_array_get(chain, i);
        char line[WORDS_BYTES];
        snprintf(line, sizeof(line), "%zu: %s, %s, until %s", i, cli_text(issuer, "subject"),
                 cli_text(issuer, "key"), cli_text(issuer, "not_after"));
        cli_line("issuer", line);
    }
    cli_line("root", cli_text(object, "root"));
    if (strcmp(cli_text(object, "verdict"), "valid") == 0) /* else it is among the warnings */
        cli_line("verdict", "valid");
    print_list("publish", json_object_get(object, "tlsa"));
    print_list("WARNING", json_object_get(object, "warnings"));
}

static int print_all(json_t *list, bool as_json, int status)
{
    if (as_json)
        return cli_print_json(json_pack("{s:o}", "certificates", list), status);
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (i > 0)
            printf("\n");
        print_certificate(json_array_get(list, i));
    }
    json_decref(list);
    return status;
}

static int show_files(char **paths, int count, bool as_json)
{
    char why[TLS_WHY_MAX];
    struct tls_roots *roots = NULL;
    struct shown s = { .now = time(NULL) };
    if (tls_roots_load(NULL, &roots, why) < 0)
        roots = NULL;
    s.roots = roots;
    json_t *list = json_array();
    int status = 0;
    for (int i = 0; i < count; i++) {
        struct tls_credential *credential;
        if (tls_credential_look(paths[i], &credential, why) < 0) {
            fprintf(stderr, "ringpost: %s\n", why);
            status = 1;
            continue;
        }
        s.credential = credential;
        json_t *object = show(&s, NULL, paths[i]);
        if (object == NULL)
            status = 1;
        else
            json_array_append_new(list, object);
        tls_credential_drop(credential);
    }
    tls_roots_drop(roots);
    return print_all(list, as_json, status);
}

static bool is_wanted(const char *title, char **titles, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(titles[i], title) == 0)
            return true;
    return count == 0;
}

static int missing(const struct config *config, char **titles, int count)
{
    int status = 0;
    for (int i = 0; i < count; i++) {
        bool found = false;
        for (unsigned k = 0; k < config->certificates_count; k++)
            found = found || strcmp(config->certificates[k].name, titles[i]) == 0;
        if (found)
            continue;
        fprintf(stderr, "ringpost: %s has no certificate \"%s\"\n", config->file, titles[i]);
        status = 1;
    }
    return status;
}

static int show_config(const char *file, char **titles, int count, bool as_json)
{
    struct config *config = cli_config(file);
    if (config == NULL)
        return 1;
    int status = missing(config, titles, count);
    json_t *list = json_array();
    struct shown s = { .config = config, .roots = config->roots[0].roots, .now = time(NULL) };
    for (unsigned i = 0; i < config->certificates_count; i++) {
        s.certificate = &config->certificates[i];
        s.credential = s.certificate->credential;
        if (!is_wanted(s.certificate->name, titles, count))
            continue;
        json_t *object = show(&s, s.certificate->name, s.certificate->chain);
        if (object == NULL)
            status = 1;
        else
            json_array_append_new(list, object);
    }
    if (config->certificates_count == 0 && !as_json)
        printf("%s has no certificates: no listener of it speaks TLS\n", config->file);
    status = print_all(list, as_json, status);
    config_free(config);
    return status;
}

static int show_main(int argc, char **argv)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' },
        { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    const char *file = NULL;
    bool as_json = false;
    for (int option; (option = getopt_long(argc, argv, "c:jh", options, NULL)) != -1;) {
        switch (option) {
        case 'c': file = optarg; break;
        case 'j': as_json = true; break;
        case 'h': fputs(show_help, stdout); return 0;
        default: fputs(show_help, stderr); return 2;
        }
    }
    char **words = argv + optind;
    int count = argc - optind;
    /* a title has no slash in it, and a file beside us is most likely meant */
    bool is_file =
        file == NULL && count > 0 && (strchr(words[0], '/') != NULL || access(words[0], F_OK) == 0);
    return is_file ? show_files(words, count, as_json)
                   : show_config(file == NULL ? check_default_path() : file, words, count, as_json);
}

/* ---- make ---- */

/* 0, or an errno that was told. */
static int write_new(const char *path, const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0) {
        int r = -errno;
        fprintf(stderr, "ringpost: %s: %s%s\n", path, strerror(-r),
                r == -EEXIST ? "; nothing is overwritten: remove it, or choose another --out" : "");
        return r;
    }
    size_t size = strlen(text);
    ssize_t written = write(fd, text, size);
    int r = written == (ssize_t)size ? 0 : written < 0 ? -errno : -ENOSPC;
    if (close(fd) < 0 && r == 0)
        r = -errno;
    if (r == 0)
        return 0;
    fprintf(stderr, "ringpost: %s: %s\n", path, strerror(-r));
    unlink(path);
    return r;
}

static int make(const struct tls_make_options *options, const char *directory, const char *name)
{
    struct tls_made made;
    char why[TLS_WHY_MAX], chain[PATH_BYTES], key[PATH_BYTES];
    int size = snprintf(chain, sizeof(chain), "%s/%s.pem", directory, name);
    snprintf(key, sizeof(key), "%s/%s.key", directory, name);
    if (size < 0 || (size_t)size >= sizeof(chain)) {
        fprintf(stderr, "ringpost: --out: too long\n");
        return 1;
    }
    int r = tls_make_self_signed(options, &made, why);
    if (r < 0) {
        fprintf(stderr, "ringpost: %s\n", why);
    } else if (mkdir(directory, DIRECTORY_MODE) < 0 && errno != EEXIST) {
        r = -errno;
        fprintf(stderr, "ringpost: %s: %s\n", directory, strerror(errno));
    } else if ((r = write_new(key, made.key, KEY_MODE)) == 0 &&
               (r = write_new(chain, made.certificate, CHAIN_MODE)) < 0) {
        unlink(key);
    }
    tls_make_erase(&made);
    if (r == 0)
        printf("certificate \"%s\" {\n    chain = \"%s\"\n    key = \"%s\"\n}\n", name, chain, key);
    return r == 0 ? 0 : 1;
}

/* In normal form, into text; 0 or -EINVAL. */
static int name_normal(const char *from, char text[static PATTERN_TEXT_MAX + 2])
{
    bool below = strncmp(from, "*.", 2) == 0;
    struct net_address ignored;
    memcpy(text, "*.", 2);
    if (net_parse(slice_of_string(from), 0, &ignored) >= 0 ||
        pattern_normalise(slice_of_string(below ? from + 2 : from), text + (below ? 2 : 0)) <= 0)
        return -EINVAL;
    return 0;
}

static int make_main(int argc, char **argv)
{
    static const struct option flags[] = {
        { "name", required_argument, NULL, 'n' }, { "out", required_argument, NULL, 'o' },
        { "days", required_argument, NULL, 'd' }, { "rsa", no_argument, NULL, 'r' },
        { "help", no_argument, NULL, 'h' },       { NULL, 0, NULL, 0 },
    };
    static char texts[TLS_MAKE_NAMES_MAX][PATTERN_TEXT_MAX + 2];
    struct slice names[TLS_MAKE_NAMES_MAX];
    struct tls_make_options options = { .names = names };
    const char *directory = NULL;
    uint64_t days = DAYS_DEFAULT;
    bool bad = false;
    for (int flag; (flag = getopt_long(argc, argv, "n:o:d:h", flags, NULL)) != -1;) {
        switch (flag) {
        case 'n':
            if (options.names_count == TLS_MAKE_NAMES_MAX ||
                name_normal(optarg, texts[options.names_count]) < 0) {
                fprintf(stderr, "ringpost: --name %s: %s\n", optarg,
                        options.names_count == TLS_MAKE_NAMES_MAX
                            ? "too many of them"
                            : "no name; write mx.example.org, or *.example.org");
                return 2;
            }
            names[options.names_count] = slice_of_string(texts[options.names_count]);
            options.names_count++;
            break;
        case 'o': directory = optarg; break;
        case 'd':
            bad = bad || slice_to_u64(slice_of_string(optarg), DAYS_MAX, &days) < 0 || days == 0;
            break;
        case 'r': options.is_rsa = true; break;
        case 'h': fputs(make_help, stdout); return 0;
        default: bad = true; break;
        }
    }
    if (bad || optind != argc || directory == NULL || options.names_count == 0) {
        fputs(make_help, stderr);
        return 2;
    }
    int64_t now = time(NULL);
    options.not_before = now - SKEW_SECONDS;
    options.not_after = now + (int64_t)days * DAY_SECONDS;
    char name[PATTERN_TEXT_MAX + sizeof("wildcard")];
    snprintf(name, sizeof(name), "%s%s", texts[0][0] == '*' ? "wildcard" : "",
             texts[0] + (texts[0][0] == '*' ? 1 : 0));
    return make(&options, directory, name);
}

/* ---- which of them ---- */

static const struct cli_command commands[] = {
    { "show", show_main, "what we present: names, dates, pins, TLSA records, and what is wrong" },
    { "publish", cert_publish_main, "the table that partners need: current, next, deprecated" },
    { "rehearse", cert_rehearse_main, "before a change: whether everything fits the new one" },
    { "roots", cert_roots_main, "trust stores: hash, age, what changed, what is in them" },
    { "make", make_main, "a self-signed certificate and its key" },
};

int cert_main(int argc, char **argv)
{
    return cli_dispatch("cert", commands, ARRAY_COUNT(commands), argc, argv);
}
