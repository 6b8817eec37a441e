/*
 * connector_horizon_cli.c - `ringpost connector horizon`: what expires next, as a table or JSON
 */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/slice.h"
#include "mta/cli.h"
#include "mta/client_cli.h"
#include "mta/connector_cli.h"

enum { PATH_BYTES = 2'048, WORDS_BYTES = 64, DAYS = 30 };

static const char help[] =
    "ringpost connector horizon [--days N] [--json]\n"
    "\n"
    "The certificates that partners showed last to connectors that demand TLS, both directions: "
    "the\n"
    "days until they expire, fewest first, and whether the key is one of the connector's pins (or\n"
    "it has none), what the certificate may be used for, its names, and the root that it leads to\n"
    "(or who issued it). Each node knows what it saw itself.\n"
    "  -n, --days N        only those seen within N days (default, and at most, 30)\n"
    "      --json          one JSON object a line\n"
    "  -c, --config FILE   the server's configuration, to find the socket (default: built in)\n"
    "  -s, --socket PATH   the socket itself\n"
    "Exit status: 0, 1 nothing is known, or not reachable, 2 usage.\n";

static int by_days(const void *a, const void *b)
{
    const json_t *x = *(json_t *const *)a, *y = *(json_t *const *)b;
    const json_int_t left = json_integer_value(json_object_get(x, "days_left"));
    const json_int_t right = json_integer_value(json_object_get(y, "days_left"));
    if (left != right)
        return left < right ? -1 : 1;
    int r = strcmp(cli_text(x, "connector"), cli_text(y, "connector"));
    return r != 0 ? r : strcmp(cli_text(x, "where"), cli_text(y, "where"));
}

static void print_line(const json_t *record)
{
    char usage[WORDS_BYTES] = "";
    size_t size = 0, index;
    json_t *word;
    json_array_foreach(json_object_get(record, "usage"), index, word)
    {
        if (size < sizeof(usage))
            size += (size_t)snprintf(usage + size, sizeof(usage) - size, "%s%s",
                                     index == 0 ? "" : ",", json_string_value(word));
    }
    const char *root = cli_text(record, "root");
    printf("%5lld  %-10s  %-3s  %-16s  %-28s  %-6s  %-17s  %s; %s%s\n",
           json_integer_value(json_object_get(record, "days_left")), cli_text(record, "not_after"),
           cli_text(record, "direction"), cli_text(record, "connector"), cli_text(record, "where"),
           cli_text(record, "pin"), *usage == '\0' ? "none" : usage, cli_text(record, "names"),
           *root == '\0' ? "no root, issued by " : "",
           *root == '\0' ? cli_text(record, "issuer") : root);
}

/* A page of them, added to all; next is where the following one begins, or NULL. 0 or -1. */
static int page(const char *socket, const char *path, json_t *all, json_t **next)
{
    struct client_reply reply;
    long status = client_ask(socket, path, false, &reply);
    json_t *root = status == 200 ? json_loads(reply.text, 0, NULL) : NULL;
    free(reply.text);
    if (root == NULL)
        return -1;
    json_array_extend(all, json_object_get(root, "certificates"));
    *next = json_incref(json_object_get(root, "next"));
    json_decref(root);
    return 0;
}

static int ask(const char *socket, unsigned long days, json_t *all)
{
    json_t *next = NULL;
    do {
        char path[PATH_BYTES];
        snprintf(path, sizeof(path), "/v1/connectors/horizon?days=%lu&side=%lld", days,
                 json_integer_value(json_object_get(next, "side")));
        client_path_add(path, sizeof(path), "title", cli_text(next, "title"));
        client_path_add(path, sizeof(path), "where", cli_text(next, "where"));
        json_decref(next);
        next = NULL;
        if (page(socket, path, all, &next) < 0)
            return -1;
    } while (next != NULL);
    return 0;
}

static int horizon(const char *socket, unsigned long days, bool as_json)
{
    json_t *all = json_array();
    int r = ask(socket, days, all);
    const size_t count = json_array_size(all);
    json_t **sorted = calloc(count + 1, sizeof(*sorted));
    if (sorted == NULL)
        r = -1;
    for (size_t i = 0; r == 0 && i < count; i++)
        sorted[i] = json_array_get(all, i);
    if (r == 0)
        qsort(sorted, count, sizeof(json_t *), by_days);
    if (r == 0 && count > 0 && !as_json)
        printf("%5s  %-10s  %-3s  %-16s  %-28s  %-6s  %-17s  %s\n", "days", "until", "dir",
               "connector", "where", "pin", "usage", "names; root");
    for (size_t i = 0; r == 0 && i < count; i++) {
        if (!as_json)
            print_line(sorted[i]);
        else if (json_dumpf(sorted[i], stdout, JSON_COMPACT | JSON_ENSURE_ASCII) == 0)
            printf("\n");
    }
    if (r == 0 && count == 0)
        fprintf(stderr, "ringpost: no certificate was seen by a connector that demands TLS\n");
    free(sorted);
    json_decref(all);
    return r < 0 || count == 0 ? 1 : 0;
}

int connector_horizon_main(int argc, char **argv)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' }, { "socket", required_argument, NULL, 's' },
        { "days", required_argument, NULL, 'n' },   { "json", no_argument, NULL, 'j' },
        { "help", no_argument, NULL, 'h' },         { NULL, 0, NULL, 0 },
    };
    struct client_arguments a = { 0 };
    uint64_t days = DAYS;
    bool bad = false;
    for (int option; (option = getopt_long(argc, argv, "c:s:n:h", options, NULL)) != -1;) {
        switch (option) {
        case 'c': a.config = optarg; break;
        case 's': a.socket = optarg; break;
        case 'n':
            bad = bad || slice_to_u64(slice_of_string(optarg), DAYS, &days) < 0 || days == 0;
            break;
        case 'j': a.json = true; break;
        case 'h': a.help = true; break;
        default: bad = true; break;
        }
    }
    if (bad || a.help || argc != optind) {
        fputs(help, !bad && a.help ? stdout : stderr);
        return !bad && a.help ? 0 : 2;
    }
    char *socket = client_socket(&a);
    int result = socket == NULL ? 1 : horizon(socket, days, a.json);
    free(socket);
    return result;
}
