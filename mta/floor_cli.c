/*
 * floor_cli.c - `ringpost tls report` and `ringpost tls floor`: floor memory for the operator
 */
#include "mta/floor_cli.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/compiler.h"
#include "mta/cli.h"
#include "mta/client_cli.h"
#include "mta/sts_cli.h"
#include "mta/tlsrpt_cli.h"

enum { PATH_BYTES = 2'048, WORDS_BYTES = 512, TIME_BYTES = 32, WORST_MAX = 1'000 };

static const char report_help[] =
    "ringpost tls report [HOST|DOMAIN] [--json]  what next hops' TLS has been capable of\n"
    "ringpost tls report --worst [--max N]       of those that have ever offered less, the worst\n"
    "ringpost tls report --tlsrpt DOMAIN         a report about it by RFC 8460; --tlsrpt --help\n"
    "\n"
    "One entry for each host, as its MX record or the configuration calls it, and recipient "
    "domain:\n"
    "the best that it held through enough observations (delivery { floor-learn }), what it "
    "offered\n"
    "last, and what has happened; and of a domain its policy of MTA-STS, if it has one. Asks the\n"
    "running server over its admin socket.\n"
    "  -c, --config FILE   the server's configuration, to find the socket (default: built in)\n"
    "  -s, --socket PATH   the socket itself\n"
    "      --json          one JSON object a line\n"
    "      --worst         only those that have offered less: first who does so now, the longest\n"
    "                      so, then who did so most often\n"
    "      --max N         so many of these, 1000 at most (default: 1000)\n"
    "Exit status: 0, 1 nothing is remembered of it, or not reachable, 2 usage.\n";

static const char floor_help[] =
    "ringpost tls floor accept HOST [DOMAIN]    what it offers now is enough; waiting mail goes\n"
    "ringpost tls floor keep HOST [DOMAIN]      what is remembered stays; waiting mail waits on\n"
    "ringpost tls floor forget HOST [DOMAIN]    nothing is remembered; waiting mail goes\n"
    "\n"
    "What to do about a host that offers less than it did (`ringpost tls report`, the event\n"
    "downgrade in the log). HOST is written as there; without DOMAIN all of the host's. Without a\n"
    "decision floor-memory = defer gives in after floor-hold, and floor-memory = hold never does.\n"
    "  -c, --config FILE   the server's configuration, to find the socket (default: built in)\n"
    "  -s, --socket PATH   the socket itself\n"
    "Exit status: 0 done, 1 nothing is remembered of it, or not reachable, 2 usage.\n";

/* ---- report ---- */

static void time_text(const json_t *object, const char *key, char out[static TIME_BYTES])
{
    struct tm tm;
    const time_t at = json_integer_value(json_object_get(object, key));
    strftime(out, TIME_BYTES, "%Y-%m-%d %H:%M UTC", gmtime_r(&at, &tm));
}

static void print_best(const json_t *record)
{
    const json_t *best = json_object_get(record, "best");
    char words[WORDS_BYTES];
    char since[TIME_BYTES];
    char last[TIME_BYTES];
    if (json_is_null(best)) {
        cli_line("best", "not known yet");
    } else {
        time_text(record, "best_since", since);
        time_text(record, "best_last", last);
        snprintf(words, sizeof(words), "%s; since %s, last met %s", cli_text(best, "text"), since,
                 last);
        cli_line("best", words);
    }
    const char *ever = cli_text(json_object_get(record, "ever"), "text");
    if (strcmp(ever, cli_text(best, "text")) != 0)
        cli_line("best ever", ever);
}

static void print_now(const json_t *record)
{
    char words[WORDS_BYTES];
    char at[TIME_BYTES];
    const char *less = cli_text(record, "less");
    time_text(record, "last", at);
    snprintf(words, sizeof(words), "%s; %s", cli_text(json_object_get(record, "now"), "text"), at);
    cli_line("now", words);
    cli_line("issuer", cli_text(record, "issuer"));
    if (json_integer_value(json_object_get(record, "expires")) != 0) {
        time_text(record, "expires", at);
        cli_line("expires", at);
    }
    time_text(record, "first", at);
    snprintf(words, sizeof(words), "%lld times since %s",
             json_integer_value(json_object_get(record, "observations")), at);
    cli_line("seen", words);
    if (*less == '\0')
        return;
    time_text(record, "less_since", at);
    snprintf(words, sizeof(words), "%s since %s%s", less, at,
             json_is_true(json_object_get(record, "kept")) ? "; kept by the operator" : "");
    cli_line("LESS", words);
}

static void print_record(const json_t *record)
{
    const char *domain = cli_text(record, "domain");
    printf("%s%s%s\n", cli_text(record, "host"), *domain == '\0' ? "" : " for ", domain);
    print_best(record);
    print_now(record);
    size_t index;
    json_t *event;
    json_array_foreach(json_object_get(record, "events"), index, event)
    {
        char words[WORDS_BYTES];
        char at[TIME_BYTES];
        const char *less = cli_text(event, "less");
        time_text(event, "at", at);
        snprintf(words, sizeof(words), "%s %s%s%s", at, cli_text(event, "what"),
                 *less == '\0' ? "" : ": ", less);
        cli_line(index == 0 ? "events" : "", words);
    }
}

static void print_as(const json_t *record, bool as_json)
{
    if (!as_json) {
        print_record(record);
        return;
    }
    json_dumpf(record, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
    printf("\n");
}

static json_int_t number_of(const json_t *record, const char *key)
{
    return json_integer_value(json_object_get(record, key));
}

static bool is_worse(const json_t *a, const json_t *b)
{
    const bool now = *cli_text(a, "less") != '\0', other_now = *cli_text(b, "less") != '\0';
    if (now != other_now)
        return now;
    if (now && number_of(a, "less_since") != number_of(b, "less_since"))
        return number_of(a, "less_since") < number_of(b, "less_since");
    return number_of(a, "regressions") > number_of(b, "regressions");
}

/* worst is in order, and has most at most. */
static void worst_keep(json_t *worst, json_t *record, size_t most)
{
    size_t at = json_array_size(worst);
    if (number_of(record, "regressions") == 0)
        return;
    while (at > 0 && is_worse(record, json_array_get(worst, at - 1)))
        at--;
    json_array_insert(worst, at, record);
    if (json_array_size(worst) > most)
        json_array_remove(worst, most);
}

/* What a report is to tell. */
struct report {
    const char *socket;
    const char *name; /* "": all */
    bool as_json;
    json_t *worst; /* gathered, to be printed at the end; NULL: printed as they come */
    size_t most;
};

/* A page; next is where the following one begins, or NULL. How many records, or -1. */
static long report_page(const struct report *r, const char *path, json_t **next)
{
    struct client_reply reply;
    long status = client_ask(r->socket, path, false, &reply);
    json_t *page = status == 200 ? json_loads(reply.text, 0, NULL) : NULL;
    free(reply.text);
    if (page == NULL)
        return -1;
    size_t index;
    json_t *record;
    const json_t *records = json_object_get(page, "records");
    long count = (long)json_array_size(records);
    json_array_foreach(records, index, record)
    {
        if (r->worst != NULL)
            worst_keep(r->worst, record, r->most);
        else
            print_as(record, r->as_json);
    }
    *next = json_incref(json_object_get(page, "next"));
    json_decref(page);
    return count;
}

static int report(const struct report *r)
{
    const char *name = r->name;
    long total = 0;
    json_t *next = NULL;
    do {
        char path[PATH_BYTES] = "/v1/tls/report";
        client_path_add(path, sizeof(path), "name", name);
        if (next != NULL) {
            client_path_add(path, sizeof(path), "host", cli_text(next, "host"));
            client_path_add(path, sizeof(path), "domain", cli_text(next, "domain"));
        }
        json_decref(next);
        next = NULL;
        long count = report_page(r, path, &next);
        if (count < 0)
            return 1;
        total += count;
    } while (next != NULL);
    size_t index;
    json_t *record;
    json_array_foreach(r->worst, index, record) print_as(record, r->as_json);
    if (r->worst == NULL)
        total += *name != '\0' && sts_cli_print(r->socket, name, r->as_json);
    if (total == 0 && *name != '\0')
        fprintf(stderr, "ringpost: %s: nothing is remembered\n", name);
    return total == 0 && *name != '\0' ? 1 : 0;
}

/* True: --worst was among the arguments, and is out of them. */
static bool takes_worst(int *argc, char **argv)
{
    const int before = *argc;
    int kept = 1;
    for (int i = 1; i < before; i++)
        if (strcmp(argv[i], "--worst") != 0)
            argv[kept++] = argv[i];
    argv[kept] = NULL;
    *argc = kept;
    return kept < before;
}

int report_main(int argc, char **argv)
{
    struct client_arguments a;
    if (tlsrpt_cli_wanted(argc, argv))
        return tlsrpt_cli_main(argc, argv);
    const bool worst = takes_worst(&argc, argv);
    int r = client_arguments_read(argc, argv, &a);
    if (r < 0 || a.help || argc - optind > 1 || a.most > WORST_MAX) {
        fputs(report_help, r == 0 && a.help ? stdout : stderr);
        return r == 0 && a.help ? 0 : 2;
    }
    char *socket = client_socket(&a);
    const struct report wanted = { .socket = socket,
                                   .name = optind < argc ? argv[optind] : "",
                                   .as_json = a.json,
                                   .worst = worst ? json_array() : NULL,
                                   .most = a.most };
    int result = socket == NULL ? 1 : report(&wanted);
    json_decref(wanted.worst);
    free(socket);
    return result;
}

/* ---- floor ---- */

int floor_main(int argc, char **argv)
{
    static const char *const verbs[] = { "accept", "keep", "forget" };
    struct client_arguments a;
    int r = client_arguments_read(argc, argv, &a);
    int left = argc - optind;
    bool known = false;
    for (size_t i = 0; left > 0 && i < ARRAY_COUNT(verbs); i++)
        known = known || strcmp(argv[optind], verbs[i]) == 0;
    if (r < 0 || a.help || !known || left < 2 || left > 3) {
        fputs(floor_help, r == 0 && a.help ? stdout : stderr);
        return r == 0 && a.help ? 0 : 2;
    }
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "/v1/tls/floor/%s", argv[optind]);
    client_path_add(path, sizeof(path), "host", argv[optind + 1]);
    if (left == 3)
        client_path_add(path, sizeof(path), "domain", argv[optind + 2]);
    char *socket = client_socket(&a);
    int result = socket == NULL ? 1 : client_post(socket, path);
    free(socket);
    return result;
}
