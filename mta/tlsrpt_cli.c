/*
 * tlsrpt_cli.c - asks the running server for a report and prints it as it is, or has it sent
 */
#include "mta/tlsrpt_cli.h"

#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/cli.h"
#include "mta/client_cli.h"

enum { PATH_BYTES = 1'024 };

static const char help[] =
    "ringpost tls report --tlsrpt DOMAIN [--day YYYY-MM-DD]\n"
    "\n"
    "The report about TLS (RFC 8460) of a recipient domain, as JSON: its policies, good sessions\n"
    "with its MX hosts, and failures. Of today so far, or of one of the two days before (UTC). "
    "Asks\n"
    "the running server, which counts when tls-report { contact } is given.\n"
    "  -c, --config FILE   the server's configuration, to find the socket (default: built in)\n"
    "  -s, --socket PATH   the socket itself\n"
    "Exit status: 0, 1 there is nothing to report, or not reachable, 2 usage.\n";

bool tlsrpt_cli_wanted(int argc, char **argv)
{
    for (int i = 1; i < argc; i++)
        if (strcmp(argv[i], "--tlsrpt") == 0)
            return true;
    return false;
}

/* Takes what is ours out of the arguments; how many are left, or -1. */
static int take_options(int argc, char **argv, const char **day)
{
    int kept = 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--tlsrpt") == 0)
            continue;
        if (strcmp(argv[i], "--day") != 0)
            argv[kept++] = argv[i];
        else if (++i < argc)
            *day = argv[i];
        else
            return -1;
    }
    argv[kept] = NULL;
    return kept;
}

static int print(const char *socket, const char *domain, const char *day)
{
    char path[PATH_BYTES] = "/v1/tls/tlsrpt";
    struct client_reply reply;
    client_path_add(path, sizeof(path), "domain", domain);
    client_path_add(path, sizeof(path), "day", day);
    long status = client_ask(socket, path, false, &reply);
    json_t *report = status == 200 ? json_loads(reply.text, 0, NULL) : NULL;
    free(reply.text);
    if (report == NULL) {
        if (status >= 0)
            fprintf(stderr, "ringpost: %s: there is nothing to report\n", domain);
        return 1;
    }
    return cli_print_json(report, 0);
}

int tlsrpt_cli_main(int argc, char **argv)
{
    struct client_arguments a = { .help = false };
    const char *day = "";
    int left = take_options(argc, argv, &day);
    int r = left < 0 ? left : client_arguments_read(left, argv, &a);
    if (r < 0 || a.help || left - optind != 1) {
        fputs(help, r == 0 && a.help ? stdout : stderr);
        return r == 0 && a.help ? 0 : 2;
    }
    char *socket = client_socket(&a);
    int result = socket == NULL ? 1 : print(socket, argv[optind], day);
    free(socket);
    return result;
}

static const char send_help[] =
    "ringpost tls tlsrpt send DOMAIN [--day YYYY-MM-DD]\n"
    "\n"
    "Sends the report about TLS of yesterday, or of that day (UTC), to where the domain wants it: "
    "the\n"
    "https: URIs of its TXT record at _smtp._tls. What becomes of it is in the log (tlsrpt_sent,\n"
    "tlsrpt_unsent). The server does so by itself each day.\n"
    "  -c, --config FILE   the server's configuration, to find the socket (default: built in)\n"
    "  -s, --socket PATH   the socket itself\n"
    "Exit status: 0 it is on its way, 1 there is nothing to report, or not reachable, 2 usage.\n";

int tlsrpt_main(int argc, char **argv)
{
    struct client_arguments a = { .help = false };
    const char *day = "";
    char path[PATH_BYTES] = "/v1/tls/tlsrpt/send";
    int left = take_options(argc, argv, &day);
    int r = left < 0 ? left : client_arguments_read(left, argv, &a);
    if (r < 0 || a.help || left - optind != 2 || strcmp(argv[optind], "send") != 0) {
        fputs(send_help, r == 0 && a.help ? stdout : stderr);
        return r == 0 && a.help ? 0 : 2;
    }
    client_path_add(path, sizeof(path), "domain", argv[optind + 1]);
    client_path_add(path, sizeof(path), "day", day);
    char *socket = client_socket(&a);
    int result = socket == NULL ? 1 : client_post(socket, path);
    free(socket);
    return result;
}
