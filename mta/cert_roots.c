/*
 * cert_roots.c - `ringpost cert roots`: what is trusted here, since when, and whether one is in it
 *
 * Sites that do not let their system renew its trust store learn here what it has, how old it is
 * and what would change. The bundles are those of the configuration, with the system's.
 */
#include <getopt.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "mta/cert_facts.h"
#include "mta/cert_text.h"
#include "mta/check.h"
#include "mta/cli.h"
#include "mta/roots_memory.h"

enum { SOON_DAYS = 90, DAY_SECONDS = 86'400, DATE_BYTES = 32, WANTED_MAX = 64 };

static const char roots_help[] =
    "ringpost cert roots [-c FILE] [--bundle TITLE] [--has WHAT] [--json] [--remember]\n"
    "\n"
    "The trust stores of the configuration, the system's first: how many roots, their hash (the "
    "same\n"
    "set has the same hash, whatever the order), the age of the file, roots that expire within 90 "
    "days,\n"
    "and what has changed since the server looked last, or by then.\n"
    "      --has WHAT      whether a root is in it: a PEM file (all of its certificates), SHA-256 "
    "in "
    "hex,\n"
    "                      or a part of the subject\n"
    "  -b, --bundle TITLE  this one only; system: the system's\n"
    "      --remember      takes what there is now as seen, as the server does at start and "
    "reload\n"
    "      --state FILE    where that is remembered (roots.json in the spool's directory)\n"
    "  -c, --config FILE   default /etc/ringpost/ringpost.conf\n"
    "      --json          as an object\n"
    "Exit status: 0, 1 --has is in none of them, or a file cannot be had, 2 usage.\n";

/* ---- --has ---- */

/* Digests of a file's certificates or the one that was given; or a part of a subject. */
struct wanted {
    const char *text; /* NULL: nothing is wanted */
    bool by_subject;
    unsigned count;
    uint8_t digests[WANTED_MAX][TLS_DIGEST_BYTES];
    uint8_t keys[WANTED_MAX][TLS_DIGEST_BYTES]; /* zeros: not known */
    char subjects[WANTED_MAX][TLS_SUBJECT_MAX];
};

/* Hex digits, also as openssl prints them; "sha256:" may stand before them. */
static bool digest_read(const char *text, uint8_t digest[static TLS_DIGEST_BYTES])
{
    char pin[sizeof("sha256:") + TLS_DIGEST_HEX_BYTES] = "sha256:";
    size_t size = strlen(pin);
    if (strncmp(text, "sha256:", size) == 0)
        text += size;
    for (; *text != '\0'; text++) {
        if (*text == ':')
            continue;
        if (size + 1 >= sizeof(pin))
            return false;
        pin[size++] = (char)ascii_lower((uint8_t)*text);
    }
    pin[size] = '\0';
    return config_parse_pin(pin, digest);
}

static int wanted_file(struct wanted *wanted, const char *path)
{
    char why[TLS_WHY_MAX];
    static struct tls_certificate facts;
    struct tls_roots *roots;
    if (tls_roots_load(path, &roots, why) < 0) {
        fprintf(stderr, "ringpost: %s\n", why);
        return -1;
    }
    for (unsigned i = 0; i < tls_roots_count(roots) && wanted->count < WANTED_MAX; i++) {
        uint8_t *der = NULL;
        const char *words = "";
        const int size = i2d_X509(tls_roots_at(roots, i), &der);
        if (size > 0 && tls_certificate_look(slice_of(der, (size_t)size), &facts, &words) == 0) {
            memcpy(wanted->digests[wanted->count], facts.digest, TLS_DIGEST_BYTES);
            memcpy(wanted->keys[wanted->count], facts.spki, TLS_DIGEST_BYTES);
            memcpy(wanted->subjects[wanted->count], facts.subject, TLS_SUBJECT_MAX);
            wanted->count++;
        }
        OPENSSL_free(der);
    }
    tls_roots_drop(roots);
    return 0;
}

static int wanted_read(struct wanted *wanted)
{
    if (wanted->text == NULL)
        return 0;
    if (digest_read(wanted->text, wanted->digests[0])) {
        wanted->count = 1;
        return 0;
    }
    if (strchr(wanted->text, '/') != NULL || access(wanted->text, F_OK) == 0)
        return wanted_file(wanted, wanted->text);
    wanted->by_subject = true;
    return 0;
}

static bool contains_nocase(const char *text, const char *part)
{
    const struct slice all = slice_of_string(text), wanted = slice_of_string(part);
    for (size_t i = 0; i + wanted.size <= all.size; i++)
        if (slice_equal_nocase(slice_part(all, i, wanted.size), wanted))
            return true;
    return false;
}

/* ---- one bundle ---- */

struct looking {
    const struct config *config;
    const json_t *memory;
    struct wanted wanted;
    bool found[WANTED_MAX]; /* of digests, in some bundle; [0]: of the subject */
    int64_t now;
};

static json_t *date_of(int64_t at)
{
    char text[DATE_BYTES];
    struct tm tm;
    const time_t seconds = at;
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M UTC", gmtime_r(&seconds, &tm));
    return json_string(text);
}

static json_t *root_json(const struct tls_certificate *facts)
{
    char hex[TLS_DIGEST_HEX_BYTES], day[TLS_TEXT_DATE_BYTES];
    tls_text_hex(slice_of(facts->digest, TLS_DIGEST_BYTES), hex, sizeof(hex));
    tls_text_date(facts->not_after, day);
    return json_pack("{s:s, s:s, s:s}", "sha256", hex, "subject", facts->subject, "not_after", day);
}

static void look_for(struct looking *l, const struct tls_certificate *facts, json_t *has)
{
    const struct wanted *wanted = &l->wanted;
    if (wanted->by_subject && contains_nocase(facts->subject, wanted->text)) {
        l->found[0] = true;
        json_array_append_new(has, root_json(facts));
    }
    for (unsigned i = 0; i < wanted->count; i++) {
        if (memcmp(facts->digest, wanted->digests[i], TLS_DIGEST_BYTES) == 0) {
            l->found[i] = true;
            json_array_append_new(has, root_json(facts));
        } else if (memcmp(facts->spki, wanted->keys[i], TLS_DIGEST_BYTES) == 0) {
            json_t *other = root_json(facts);
            json_object_set_new(other, "same_key_as", cli_string(wanted->subjects[i]));
            json_array_append_new(has, other);
        }
    }
}

static void each_root(struct looking *l, const struct tls_roots *roots, json_t *has, json_t *expire)
{
    static struct tls_certificate facts;
    for (unsigned i = 0; i < tls_roots_count(roots); i++) {
        uint8_t *der = NULL;
        const char *words = "";
        const int size = i2d_X509(tls_roots_at(roots, i), &der);
        if (size > 0 && tls_certificate_look(slice_of(der, (size_t)size), &facts, &words) == 0) {
            look_for(l, &facts, has);
            if (facts.not_after - l->now < SOON_DAYS * DAY_SECONDS) {
                json_t *root = root_json(&facts);
                json_object_set_new(root, "expired", json_boolean(facts.not_after < l->now));
                json_array_append_new(expire, root);
            }
        }
        OPENSSL_free(der);
    }
}

static void add_file(json_t *object, const char *path, int64_t now)
{
    struct stat facts;
    json_object_set_new(object, "file", cli_string(path));
    if (stat(path, &facts) < 0)
        return;
    json_object_set_new(object, "modified", date_of(facts.st_mtim.tv_sec));
    json_object_set_new(object, "age_days",
                        json_integer((now - facts.st_mtim.tv_sec) / DAY_SECONDS));
}

static void add_changes(struct looking *l, json_t *object, const struct config_roots *bundle)
{
    const json_t *remembered = json_object_get(l->memory, roots_memory_title(bundle));
    const json_t *change = json_object_get(remembered, "change");
    json_t *added, *removed;
    (void)roots_memory_differs(remembered, bundle->roots, &added, &removed);
    json_object_set_new(object, "added", added);
    json_object_set_new(object, "removed", removed);
    json_int_t since = json_integer_value(json_object_get(remembered, "since"));
    json_object_set_new(object, "remembered_since", since == 0 ? json_null() : date_of(since));
    if (json_is_object(change))
        json_object_set_new(object, "change",
                            json_pack("{s:o, s:O*, s:O*}", "at",
                                      date_of(json_integer_value(json_object_get(change, "at"))),
                                      "added", json_object_get(change, "added"), "removed",
                                      json_object_get(change, "removed")));
}

static json_t *look(struct looking *l, const struct config_roots *bundle)
{
    json_t *object = json_object(), *has = json_array(), *expire = json_array();
    json_object_set_new(object, "title", cli_string(roots_memory_title(bundle)));
    json_object_set_new(object, "sha256", cli_string(tls_roots_digest(bundle->roots)));
    json_object_set_new(object, "roots", json_integer(tls_roots_count(bundle->roots)));
    json_object_set_new(object, "unreadable", json_integer(tls_roots_broken(bundle->roots)));
    add_file(object, tls_roots_path(bundle->roots), l->now);
    each_root(l, bundle->roots, has, expire);
    json_object_set_new(object, "expire", expire);
    add_changes(l, object, bundle);
    if (l->wanted.text != NULL)
        json_object_set_new(object, "has", has);
    else
        json_decref(has);
    return object;
}

/* ---- for people ---- */

static void print_set(const char *label, json_t *set)
{
    char words[CERT_WORDS_MAX];
    const char *key;
    json_t *value;
    json_object_foreach(set, key, value)
    {
        snprintf(words, sizeof(words), "%s (%s)", json_string_value(value), key);
        cli_line(label, words);
    }
}

/* Of root_json; expired ones are said to be. */
static void print_roots(const char *label, const json_t *list)
{
    char words[CERT_WORDS_MAX];
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *root = json_array_get(list, i);
        const char *same = cli_text(root, "same_key_as");
        snprintf(words, sizeof(words), "%s, until %s (%s)%s%s", cli_text(root, "subject"),
                 cli_text(root, "not_after"), cli_text(root, "sha256"),
                 *same == '\0' ? "" : ": another certificate, with the key of ", same);
        cli_line(json_is_true(json_object_get(root, "expired")) ? "expired"
                 : *same == '\0'                                ? label
                                                                : "same key",
                 words);
    }
}

static void print_bundle(const json_t *object)
{
    char words[CERT_WORDS_MAX];
    json_t *change = json_object_get(object, "change");
    json_t *added = json_object_get(object, "added"), *removed = json_object_get(object, "removed");
    const json_int_t broken = json_integer_value(json_object_get(object, "unreadable"));
    printf("%s\n", cli_text(object, "title"));
    cli_line("file", cli_text(object, "file"));
    if (*cli_text(object, "modified") != '\0') {
        snprintf(words, sizeof(words), "%s, %lld days ago", cli_text(object, "modified"),
                 json_integer_value(json_object_get(object, "age_days")));
        cli_line("written", words);
    }
    snprintf(words, sizeof(words), "%lld", json_integer_value(json_object_get(object, "roots")));
    cli_line("roots", words);
    if (broken > 0) {
        snprintf(words, sizeof(words), "%lld cannot be read", broken);
        cli_line("WARNING", words);
    }
    cli_line("hash", cli_text(object, "sha256"));
    const char *since = cli_text(object, "remembered_since");
    bool differs = json_object_size(added) + json_object_size(removed) > 0;
    if (*since == '\0')
        cli_line("seen", "never by the server, and not remembered");
    else if (!differs)
        snprintf(words, sizeof(words), "this set since %s", since);
    else
        snprintf(words, sizeof(words), "another set since %s; a reload takes this one", since);
    if (*since != '\0')
        cli_line("seen", words);
    print_set("added", added);
    print_set("removed", removed);
    if (json_is_object(change)) {
        cli_line("changed", cli_text(change, "at"));
        print_set("  added", json_object_get(change, "added"));
        print_set("  removed", json_object_get(change, "removed"));
    }
    print_roots("expires", json_object_get(object, "expire"));
    print_roots("has", json_object_get(object, "has"));
}

/* False: something wanted is in no bundle that was looked at. */
static bool tell_missing(const struct looking *l)
{
    const struct wanted *wanted = &l->wanted;
    bool all = true;
    if (wanted->by_subject && !l->found[0]) {
        fprintf(stderr, "ringpost: no root with \"%s\" in its subject\n", wanted->text);
        all = false;
    }
    for (unsigned i = 0; i < wanted->count; i++) {
        if (l->found[i])
            continue;
        fprintf(stderr, "ringpost: %s is not in it\n",
                wanted->subjects[i][0] == '\0' ? wanted->text : wanted->subjects[i]);
        all = false;
    }
    return all;
}

/* ---- the command ---- */

static bool is_asked(const struct config_roots *bundle, const char *title)
{
    return bundle->roots != NULL &&
           (title == NULL || strcmp(roots_memory_title(bundle), title) == 0);
}

static int remember(struct looking *l, const char *title, const char *state)
{
    json_t *memory = json_deep_copy(l->memory);
    for (unsigned i = 0; i < l->config->roots_count; i++)
        if (is_asked(&l->config->roots[i], title))
            (void)roots_memory_take(memory, &l->config->roots[i], l->now);
    int r = roots_memory_write(state, memory);
    json_decref(memory);
    if (r < 0)
        fprintf(stderr, "ringpost: %s: %s\n", state, strerror(-r));
    return r;
}

static int show(struct looking *l, const char *title, const char *state, bool as_json,
                bool remembers)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < l->config->roots_count; i++)
        if (is_asked(&l->config->roots[i], title))
            json_array_append_new(list, look(l, &l->config->roots[i]));
    int status = 0;
    if (json_array_size(list) == 0) {
        fprintf(stderr, "ringpost: %s has no roots \"%s\"\n", l->config->file,
                title == NULL ? "system" : title);
        status = 1;
    }
    if (as_json) {
        status = cli_print_json(json_pack("{s:o}", "bundles", list), status);
    } else {
        for (size_t i = 0; i < json_array_size(list); i++) {
            if (i > 0)
                printf("\n");
            print_bundle(json_array_get(list, i));
        }
        json_decref(list);
    }
    if (!tell_missing(l) || (remembers && remember(l, title, state) < 0))
        status = 1;
    return status;
}

int cert_roots_main(int argc, char **argv)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' }, { "bundle", required_argument, NULL, 'b' },
        { "has", required_argument, NULL, 'H' },    { "state", required_argument, NULL, 's' },
        { "remember", no_argument, NULL, 'r' },     { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },         { NULL, 0, NULL, 0 },
    };
    static struct looking l;
    const char *file = check_default_path(), *title = NULL, *state = NULL;
    bool as_json = false, remembers = false;
    l = (struct looking) { .now = time(NULL) };
    for (int option; (option = getopt_long(argc, argv, "c:b:jh", options, NULL)) != -1;) {
        switch (option) {
        case 'c': file = optarg; break;
        case 'b': title = optarg; break;
        case 'H': l.wanted.text = optarg; break;
        case 's': state = optarg; break;
        case 'r': remembers = true; break;
        case 'j': as_json = true; break;
        case 'h': fputs(roots_help, stdout); return 0;
        default: fputs(roots_help, stderr); return 2;
        }
    }
    if (optind != argc || (l.wanted.text != NULL && *l.wanted.text == '\0')) {
        fputs(roots_help, stderr);
        return 2;
    }
    struct config *config = cli_config_told(file);
    if (config == NULL)
        return 1;
    char path[ROOTS_MEMORY_PATH_MAX];
    roots_memory_path(config, path);
    json_t *memory = roots_memory_read(state == NULL ? path : state);
    l.config = config;
    l.memory = memory;
    int status = wanted_read(&l.wanted) < 0
                     ? 1
                     : show(&l, title, state == NULL ? path : state, as_json, remembers);
    json_decref(memory);
    config_free(config);
    return status;
}
