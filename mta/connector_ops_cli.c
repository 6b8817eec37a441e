/*
 * connector_ops_cli.c - `ringpost connector list`, `show`, `block` and `unblock`
 */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "core/compiler.h"
#include "mta/cli.h"
#include "mta/client_cli.h"
#include "mta/connector_cli.h"

enum { PATH_BYTES = 2'048, WORDS_BYTES = 512, TIME_BYTES = 32 };

#define SOCKET_HELP                                                                                \
    "  -c, --config FILE   the server's configuration, to find the socket (default: built in)\n"   \
    "  -s, --socket PATH   the socket itself\n"

static const char list_help[] =
    "ringpost connector list [--json]           all connectors: state, what they did\n"
    "\n"
    "One line a connector: direction, state (off, test, enforce, blocked), type, messages taken "
    "or\n"
    "delivered, deferred, and refused, since the start. One that is blocked and not in the\n"
    "configuration any more is gone. Asks the running server over its admin socket.\n" SOCKET_HELP
    "      --json          one JSON object a line\n"
    "Exit status: 0, 1 not reachable, 2 usage.\n";

static const char show_help[] =
    "ringpost connector show NAME [--json]      all that is known of a connector\n"
    "\n"
    "Of both, where an inbound and an outbound one have the name. Counts are those since the\n"
    "start.\n" SOCKET_HELP "      --json          one JSON object a line\n"
    "Exit status: 0, 1 there is none, or not reachable, 2 usage.\n";

static const char block_help[] =
    "ringpost connector block NAME --reason TEXT [--direction in|out]\n"
    "ringpost connector unblock NAME [--direction in|out]\n"
    "\n"
    "Inbound: mail that the connector is attributed is refused from the next MAIL on, in sessions\n"
    "that are open too (550 5.7.1, token connector-blocked). Outbound: mail waits in the queue,\n"
    "and bounces when its time is up. The mark is on disk, so it survives reloads, restarts, and\n"
    "that the connector is taken out of the configuration; only unblock takes it away. The log\n"
    "says who did it and why.\n"
    "  -r, --reason TEXT   why, for the log and `ringpost connector show`\n"
    "  -d, --direction D   in or out, where both have a connector of this name\n" SOCKET_HELP
    "Exit status: 0 done, 1 no such connector, or not reachable, 2 usage.\n";

/* ---- printing ---- */

static const char *state_of(const json_t *entry)
{
    const char *state = cli_text(entry, "state");
    bool blocked = json_is_object(json_object_get(entry, "blocked"));
    return blocked && strcmp(state, "enforce") == 0 ? "blocked" : state;
}

static void print_line(const json_t *entry)
{
    const char *key;
    json_t *value;
    printf("%-3s  %-24s %-8s %-7s", cli_text(entry, "direction"), cli_text(entry, "name"),
           state_of(entry), cli_text(entry, "type"));
    json_object_foreach(json_object_get(entry, "totals"), key, value)
        printf("  %lld %s", json_integer_value(value), key);
    printf("\n");
}

/* "key 12, other 3" */
static void print_numbers(const char *label, const json_t *object)
{
    char words[WORDS_BYTES] = "";
    size_t size = 0;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        if (json_integer_value(value) != 0 && size < sizeof(words))
            size += (size_t)snprintf(words + size, sizeof(words) - size, "%s%s %lld",
                                     size == 0 ? "" : ", ", key, json_integer_value(value));
    }
    cli_line(label, words);
}

static void print_mark(const json_t *mark)
{
    char words[WORDS_BYTES];
    char at[TIME_BYTES];
    struct tm tm;
    const time_t seconds = json_integer_value(json_object_get(mark, "at"));
    if (!json_is_object(mark))
        return;
    strftime(at, sizeof(at), "%Y-%m-%d %H:%M UTC", gmtime_r(&seconds, &tm));
    snprintf(words, sizeof(words), "since %s by %s: %s", at, cli_text(mark, "by"),
             cli_text(mark, "reason"));
    cli_line("BLOCKED", words);
}

static void print_messages(const json_t *entry)
{
    char words[WORDS_BYTES];
    size_t index;
    json_t *each;
    json_array_foreach(json_object_get(entry, "messages"), index, each)
    {
        const char *tls = cli_text(each, "tls");
        snprintf(words, sizeof(words), "%lld %s, %s%s%s",
                 json_integer_value(json_object_get(each, "count")), cli_text(each, "result"),
                 strcmp(tls, "none") == 0 ? "without TLS" : "TLS ",
                 strcmp(tls, "none") == 0 ? "" : tls,
                 json_is_true(json_object_get(each, "forced")) ? ", demanded" : "");
        cli_line(index == 0 ? "messages" : "", words);
    }
    snprintf(words, sizeof(words), "%lld", json_integer_value(json_object_get(entry, "hybrid")));
    cli_line("hybrid", words);
    snprintf(words, sizeof(words), "%lld", json_integer_value(json_object_get(entry, "bytes")));
    cli_line("bytes", words);
}

static void print_all(const json_t *entry)
{
    const char *direction = cli_text(entry, "direction");
    printf("%sbound %s: %s %s", direction, cli_text(entry, "name"), cli_text(entry, "type"),
           state_of(entry));
    long long line = json_integer_value(json_object_get(entry, "line"));
    if (line > 0)
        printf(", line %lld", line);
    printf("\n");
    print_mark(json_object_get(entry, "blocked"));
    cli_line("label", cli_text(entry, "label"));
    cli_line("validation", cli_text(entry, "validation"));
    if (json_object_get(entry, "messages") != NULL)
        print_messages(entry);
    print_numbers("identified", json_object_get(entry, "identified"));
    print_numbers("refusals", json_object_get(entry, "refusals"));
    print_numbers("in test", json_object_get(entry, "would"));
    print_numbers("no TLS", json_object_get(entry, "tls_failures"));
    print_numbers("in clear", json_object_get(entry, "cleartext"));
    print_numbers("less TLS", json_object_get(entry, "memory_regressions"));
}

/* ---- asking ---- */

/* A page of connectors; next is where the following one begins, or NULL. How many, or -1. */
static long page(const char *socket, const char *path, bool as_json,
                 void (*print)(const json_t *entry), json_t **next)
{
    struct client_reply reply;
    long status = client_ask(socket, path, false, &reply);
    json_t *root = status == 200 ? json_loads(reply.text, 0, NULL) : NULL;
    free(reply.text);
    if (root == NULL)
        return -1;
    size_t index;
    json_t *entry;
    const json_t *list = json_object_get(root, "connectors");
    long count = (long)json_array_size(list);
    json_array_foreach(list, index, entry)
    {
        if (!as_json) {
            print(entry);
            continue;
        }
        json_dumpf(entry, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
        printf("\n");
    }
    *next = json_incref(json_object_get(root, "next"));
    json_decref(root);
    return count;
}

int connector_list_main(int argc, char **argv)
{
    struct client_arguments a;
    int r = client_arguments_read(argc, argv, &a);
    if (r < 0 || a.help || argc != optind) {
        fputs(list_help, r == 0 && a.help ? stdout : stderr);
        return r == 0 && a.help ? 0 : 2;
    }
    char *socket = client_socket(&a);
    char path[PATH_BYTES] = "/v1/connectors";
    json_t *next = NULL;
    long count = socket == NULL ? -1 : 0;
    while (count >= 0) {
        count = page(socket, path, a.json, print_line, &next);
        if (next == NULL)
            break;
        snprintf(path, sizeof(path), "/v1/connectors?direction=%s&from=%lld",
                 cli_text(next, "direction"), json_integer_value(json_object_get(next, "from")));
        json_decref(next);
        next = NULL;
    }
    free(socket);
    return count < 0 ? 1 : 0;
}

int connector_show_main(int argc, char **argv)
{
    struct client_arguments a;
    int r = client_arguments_read(argc, argv, &a);
    if (r < 0 || a.help || argc - optind != 1) {
        fputs(show_help, r == 0 && a.help ? stdout : stderr);
        return r == 0 && a.help ? 0 : 2;
    }
    char *socket = client_socket(&a);
    char path[PATH_BYTES] = "/v1/connectors/show";
    json_t *next = NULL;
    client_path_add(path, sizeof(path), "name", argv[optind]);
    long count = socket == NULL ? -1 : page(socket, path, a.json, print_all, &next);
    json_decref(next);
    free(socket);
    if (count == 0)
        fprintf(stderr, "ringpost: %s: no such connector\n", argv[optind]);
    return count > 0 ? 0 : 1;
}

/* ---- marks ---- */

static int mark_main(int argc, char **argv, bool blocks)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' },    { "socket", required_argument, NULL, 's' },
        { "reason", required_argument, NULL, 'r' },    { "help", no_argument, NULL, 'h' },
        { "direction", required_argument, NULL, 'd' }, { NULL, 0, NULL, 0 },
    };
    struct client_arguments a = { 0 };
    const char *reason = NULL;
    const char *direction = NULL;
    bool bad = false;
    for (int option; (option = getopt_long(argc, argv, "c:s:r:d:h", options, NULL)) != -1;) {
        switch (option) {
        case 'c': a.config = optarg; break;
        case 's': a.socket = optarg; break;
        case 'r': reason = optarg; break;
        case 'd': direction = optarg; break;
        case 'h': a.help = true; break;
        default: bad = true; break;
        }
    }
    if (bad || a.help || argc - optind != 1 || (reason != NULL) != blocks) {
        fputs(block_help, !bad && a.help ? stdout : stderr);
        return !bad && a.help ? 0 : 2;
    }
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "/v1/connectors/%s", blocks ? "block" : "unblock");
    client_path_add(path, sizeof(path), "name", argv[optind]);
    if (direction != NULL)
        client_path_add(path, sizeof(path), "direction", direction);
    if (reason != NULL)
        client_path_add(path, sizeof(path), "reason", reason);
    char *socket = client_socket(&a);
    int result = socket == NULL ? 1 : client_post(socket, path);
    free(socket);
    return result;
}

int connector_block_main(int argc, char **argv)
{
    return mark_main(argc, argv, true);
}

int connector_unblock_main(int argc, char **argv)
{
    return mark_main(argc, argv, false);
}
