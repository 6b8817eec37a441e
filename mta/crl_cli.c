/*
 * crl_cli.c - `ringpost tls crl`: which lists of revoked certificates the running server has
 */
#include "mta/crl_cli.h"

#include <curl/curl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "mta/cli.h"
#include "mta/client_cli.h"

enum { PATH_BYTES = 2'048, WORDS_BYTES = 640, TIME_BYTES = 32 };

static const char help[] =
    "ringpost tls crl [--json]      lists of revoked certificates that the server knows of\n"
    "ringpost tls crl fetch [URL]   has it fetch that one, or all of them, now\n"
    "\n"
    "Lists become known when a certificate that fits a connector points to them, and are fetched\n"
    "ahead of need from then on. State: good; old (its next update is over, so certificates are\n"
    "unknown again); missing (never fetched).\n"
    "  -c, --config FILE   the server's configuration, to find the socket (default: built in)\n"
    "  -s, --socket PATH   the socket itself\n"
    "      --json          one JSON object a line\n"
    "Exit status: 0, 1 there is no such list, or the server is not reachable, 2 usage.\n";

static void time_text(const json_t *object, const char *key, char out[static TIME_BYTES])
{
    struct tm tm;
    const time_t at = json_integer_value(json_object_get(object, key));
    *out = '\0';
    if (at != 0)
        strftime(out, TIME_BYTES, "%Y-%m-%d %H:%M UTC", gmtime_r(&at, &tm));
}

static void print_list(const json_t *list)
{
    char words[WORDS_BYTES], from[TIME_BYTES], to[TIME_BYTES];
    printf("%s\n", cli_text(list, "url"));
    cli_line("state", cli_text(list, "state"));
    cli_line("issuer", cli_text(list, "issuer"));
    time_text(list, "this_update", from);
    time_text(list, "next_update", to);
    if (*from != '\0') {
        snprintf(words, sizeof(words), "%s, next update %s", from, to);
        cli_line("made", words);
        snprintf(words, sizeof(words), "%lld entries, %lld bytes",
                 json_integer_value(json_object_get(list, "entries")),
                 json_integer_value(json_object_get(list, "bytes")));
        cli_line("size", words);
    }
    time_text(list, "fetched", from);
    cli_line("fetched", from);
    time_text(list, "due", to);
    cli_line("next fetch", json_is_true(json_object_get(list, "fetching")) ? "now" : to);
    cli_line("connector", cli_text(list, "connector"));
    cli_line("ERROR", cli_text(list, "error"));
}

static int report(const char *socket, bool as_json)
{
    struct client_reply reply;
    long status = client_ask(socket, "/v1/tls/crl", false, &reply);
    json_t *page = status == 200 ? json_loads(reply.text, 0, NULL) : NULL;
    free(reply.text);
    if (page == NULL)
        return 1;
    size_t index;
    json_t *list;
    json_array_foreach(json_object_get(page, "lists"), index, list)
    {
        if (!as_json) {
            print_list(list);
            continue;
        }
        json_dumpf(list, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
        printf("\n");
    }
    if (index == 0 && !as_json)
        printf("no certificate that fits a connector has pointed to a list yet\n");
    json_decref(page);
    return 0;
}

static int fetch(const char *socket, const char *url)
{
    char path[PATH_BYTES];
    char *escaped = url == NULL ? NULL : curl_easy_escape(NULL, url, 0);
    snprintf(path, sizeof(path), "/v1/tls/crl/fetch%s%s",
             escaped == NULL ? "" : "?url=", escaped == NULL ? "" : escaped);
    curl_free(escaped);
    return client_post(socket, path);
}

int crl_main(int argc, char **argv)
{
    struct client_arguments a;
    int r = client_arguments_read(argc, argv, &a);
    int left = argc - optind;
    bool fetches = left > 0 && strcmp(argv[optind], "fetch") == 0;
    if (r < 0 || a.help || left > 2 || (left > 0 && !fetches)) {
        fputs(help, r == 0 && a.help ? stdout : stderr);
        return r == 0 && a.help ? 0 : 2;
    }
    char *socket = client_socket(&a);
    int result = 1;
    if (socket != NULL)
        result =
            fetches ? fetch(socket, left == 2 ? argv[optind + 1] : NULL) : report(socket, a.json);
    free(socket);
    return result;
}
