/*
 * sts_cli.c - a domain's MTA-STS policy in words
 */
#include "mta/sts_cli.h"

#include <curl/curl.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/compiler.h"
#include "mta/cli.h"
#include "mta/client_cli.h"

enum { PATH_BYTES = 1'024, WORDS_BYTES = 6'144, MINUTE_S = 60, HOUR_S = 3'600, DAY_S = 86'400 };

static void age_text(long long seconds, char *out, size_t room)
{
    if (seconds < HOUR_S)
        snprintf(out, room, "%lld min", seconds / MINUTE_S);
    else if (seconds < 2LL * DAY_S)
        snprintf(out, room, "%lld h", seconds / HOUR_S);
    else
        snprintf(out, room, "%lld d", seconds / DAY_S);
}

/* "enforce, id 20260101, mx *.bank.example, age 3 h" */
static void print_policy(const json_t *policy)
{
    char words[WORDS_BYTES];
    char age[32];
    age_text(json_integer_value(json_object_get(policy, "age_s")), age, sizeof(age));
    int size = snprintf(words, sizeof(words), "%s, id %s", cli_text(policy, "mode"),
                        cli_text(policy, "id"));
    size_t index;
    json_t *each;
    json_array_foreach(json_object_get(policy, "mx"), index, each) size +=
        snprintf(words + size, sizeof(words) - (size_t)size, "%s %s", index == 0 ? ", mx" : "",
                 json_string_value(each));
    snprintf(words + size, sizeof(words) - (size_t)size, ", age %s%s", age,
             json_is_true(json_object_get(policy, "holds")) ? "" : ", too old: it does not count");
    cli_line("mta-sts", words);
}

void sts_cli_lines(const json_t *policy)
{
    char words[WORDS_BYTES];
    if (policy == NULL)
        return;
    const char *failure = cli_text(policy, "failure");
    bool none = json_integer_value(json_object_get(policy, "fetched")) == 0;
    if (none)
        cli_line("mta-sts", "none");
    else
        print_policy(policy);
    if (*failure == '\0')
        return;
    snprintf(words, sizeof(words), "%s: %s", failure, cli_text(policy, "why"));
    cli_line(none ? "" : "last fetch", words);
}

static void path_of(const char *verb, const char *domain, char path[static PATH_BYTES])
{
    char *escaped = curl_easy_escape(NULL, domain, 0);
    snprintf(path, PATH_BYTES, "/v1/tls/sts%s?domain=%s", verb, escaped == NULL ? "" : escaped);
    curl_free(escaped);
}

static json_t *ask(const char *socket, const char *domain)
{
    char path[PATH_BYTES];
    path_of("", domain, path);
    return client_ask_json(socket, path);
}

json_t *sts_cli_known(const char *socket, const char *domain)
{
    return client_answers(socket) ? ask(socket, domain) : NULL;
}

bool sts_cli_print(const char *socket, const char *domain, bool as_json)
{
    json_t *policy = ask(socket, domain);
    if (policy == NULL)
        return false;
    if (as_json) {
        json_t *object = json_pack("{s:O}", "mta-sts", policy);
        json_dumpf(object, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
        printf("\n");
        json_decref(object);
    } else {
        sts_cli_lines(policy);
    }
    json_decref(policy);
    return true;
}

static const char sts_help[] =
    "ringpost tls sts DOMAIN [--json]           the policy of MTA-STS that counts for its mail\n"
    "ringpost tls sts refresh DOMAIN            look for a newer one now\n"
    "\n"
    "A policy is looked for when there is mail, and daily while there is; it counts until it is\n"
    "max_age old, whatever fails meanwhile. Asks the running server over its admin socket.\n"
    "  -c, --config FILE   the server's configuration, to find the socket (default: built in)\n"
    "  -s, --socket PATH   the socket itself\n"
    "      --json          one JSON object\n"
    "Exit status: 0, 1 nothing is known of it, or not reachable, 2 usage.\n";

int sts_main(int argc, char **argv)
{
    struct client_arguments a;
    char path[PATH_BYTES];
    int r = client_arguments_read(argc, argv, &a);
    int left = argc - optind;
    bool refresh = left == 2 && strcmp(argv[optind], "refresh") == 0;
    if (r < 0 || a.help || (left != 1 && !refresh)) {
        fputs(sts_help, r == 0 && a.help ? stdout : stderr);
        return r == 0 && a.help ? 0 : 2;
    }
    const char *domain = argv[argc - 1];
    char *socket = client_socket(&a);
    int result = 1;
    path_of("/refresh", domain, path);
    if (socket != NULL && refresh)
        result = client_post(socket, path);
    else if (socket != NULL && sts_cli_print(socket, domain, a.json))
        result = 0;
    else if (socket != NULL)
        fprintf(stderr, "ringpost: %s: nothing is known of a policy\n", domain);
    free(socket);
    return result;
}
