/*
 * connector_readiness_cli.c - `ringpost connector readiness`: whom a connector in test would refuse
 */
#include <jansson.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/cli.h"
#include "mta/client_cli.h"
#include "mta/connector_cli.h"

enum { PATH_BYTES = 1'024 };

static const char help[] =
    "ringpost connector readiness NAME [--json]    what a connector in test would do\n"
    "\n"
    "Inbound: how much would have passed and been refused since the start, and who would hear it: "
    "the 50\n"
    "that came most often, by network of the client (IPv4 /24, IPv6 /64), domain of MAIL FROM and\n"
    "token. It is ready to be enforced when each of these lines is explained. \"at most N too\n"
    "many\" is told of counts that others may have a share in.\n"
    "Outbound: its hosts, which the server meets every ten minutes (connect, EHLO, STARTTLS, the\n"
    "certificate at the connector's level, QUIT; no mail). It is ready when all have been good for "
    "a\n"
    "day.\n"
    "  -c, --config FILE   the server's configuration, to find the socket (default: built in)\n"
    "  -s, --socket PATH   the socket itself\n"
    "      --json          the object that /v1/connectors/readiness has\n"
    "Exit status: 0, 1 no such connector, or not reachable, 2 usage.\n";

static long long number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

static void print_hosts(const json_t *root)
{
    size_t index;
    json_t *row;
    const bool ready = json_is_true(json_object_get(root, "ready"));
    const long long left_s = number_of(root, "left_s");
    printf("%s: %s; ", cli_text(root, "connector"), cli_text(root, "state"));
    if (ready)
        printf("ready: all hosts have been good for a day\n");
    else if (left_s > 0)
        printf("all hosts are good; ready in %lld h %lld min\n", left_s / 3600, left_s / 60 % 60);
    else
        printf("not ready\n");
    json_array_foreach(json_object_get(root, "hosts"), index, row)
    {
        const bool good = json_is_true(json_object_get(row, "good"));
        printf("%-40s %-16s %-8s %-16s %s for %lld min%s%s\n", cli_text(row, "host"),
               cli_text(row, "address"), cli_text(row, "version"), cli_text(row, "group"),
               good ? "good" : "bad", number_of(row, "for_s") / 60, good ? "" : ": ",
               cli_text(row, "why"));
    }
}

static void print(const json_t *root)
{
    size_t index;
    json_t *row;
    if (strcmp(cli_text(root, "direction"), "out") == 0) {
        print_hosts(root);
        return;
    }
    printf("%s: %s; %lld would have passed, %lld would have been refused\n",
           cli_text(root, "connector"), cli_text(root, "state"), number_of(root, "accept"),
           number_of(root, "refuse"));
    json_array_foreach(json_object_get(root, "rows"), index, row)
    {
        const char *domain = cli_text(row, "domain");
        printf("%10lld  %-24s %-32s %s", number_of(row, "count"), cli_text(row, "network"),
               *domain == '\0' ? "<>" : domain, cli_text(row, "token"));
        if (number_of(row, "over") > 0)
            printf("  (at most %lld too many)", number_of(row, "over"));
        printf("\n");
    }
}

int connector_readiness_main(int argc, char **argv)
{
    struct client_arguments a;
    int r = client_arguments_read(argc, argv, &a);
    if (r < 0 || a.help || argc - optind != 1) {
        fputs(help, r == 0 && a.help ? stdout : stderr);
        return r == 0 && a.help ? 0 : 2;
    }
    char *socket = client_socket(&a);
    char path[PATH_BYTES] = "/v1/connectors/readiness";
    struct client_reply reply = { 0 };
    client_path_add(path, sizeof(path), "name", argv[optind]);
    long status = socket == NULL ? -1 : client_ask(socket, path, false, &reply);
    free(socket);
    json_t *root = status == 200 ? json_loads(reply.text, 0, NULL) : NULL;
    free(reply.text);
    if (root == NULL) {
        if (status == 404)
            fprintf(stderr, "ringpost: %s: no such connector\n", argv[optind]);
        return 1;
    }
    if (a.json)
        return cli_print_json(root, 0);
    print(root);
    json_decref(root);
    return 0;
}
