/*
 * main.c - the subcommands of ringpost
 */
#include <getopt.h>
#include <stdio.h>
#include <string.h>

#include "core/compiler.h"
#include "mta/cert_cli.h"
#include "mta/check.h"
#include "mta/client_cli.h"
#include "mta/connector_cli.h"
#include "mta/control.h"
#include "mta/explain_cli.h"
#include "mta/queue_cli.h"
#include "mta/spool_cli.h"
#include "mta/tls_cli.h"
#include "mta/trace_cli.h"
#include "tls/tls_library.h"

static int serve_main(int argc, char **argv);
static int version_main(int argc, char **argv);

static const struct {
    const char *name;
    int (*main)(int argc, char **argv);
    const char *words;
} commands[] = {
    { "serve", serve_main, "run the server in the foreground" },
    { "check", check_main, "read a configuration and say what is wrong with it" },
    { "explain", explain_main, "what connectors would say to a message, and why" },
    { "connector", connector_main,
      "look at connectors, block, try and report them, bring them from Exchange" },
    { "queue", queue_main,
      "look at the queue of the running server; hold, release, retry, discard, return mail" },
    { "spool", spool_main, "verify a spool without a server; extract messages, salvage" },
    { "trace", trace_main, "all that is known of one message: log, queue, spool" },
    { "reload", reload_main, "have the running server read its configuration again" },
    { "cert", cert_main, "certificates of ours: show, publish, rehearse a change; trust stores" },
    { "tls", tls_main,
      "probe a next hop; what hosts were capable of; MTA-STS, revoked certificates, ticket keys" },
    { "--version", version_main, "print version, compiler, and which BoringSSL it has" },
};

static const char serve_help[] =
    "ringpost serve [-c FILE]\n"
    "\n"
    "Runs the server in the foreground until SIGTERM or SIGINT, which drain: no new connections,\n"
    "transactions and deliveries under way end, then it exits; a second one exits now. Nothing "
    "that\n"
    "was acknowledged is lost either way.\n"
    "  -c, --config FILE   the configuration; without one a built-in default: loopback ports, a\n"
    "                      spool below the working directory (for a first look, and for tests)\n"
    "\n"
    "SIGHUP reads the configuration again (all of it or nothing) and opens the log file anew;\n"
    "SIGUSR1 opens the log file anew. Started as root it binds its ports, then becomes the `user`\n"
    "of the configuration. Takes listening sockets from systemd and tells it when it is ready.\n"
    "Exit status: 0 after a drain, 1 when it could not start (the reason is on standard error).\n";

static int serve_main(int argc, char **argv)
{
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    const char *file = NULL;
    int option;
    while ((option = getopt_long(argc, argv, "c:h", options, NULL)) != -1) {
        switch (option) {
        case 'c': file = optarg; break;
        case 'h': fputs(serve_help, stdout); return 0;
        default: fputs(serve_help, stderr); return 2;
        }
    }
    if (optind != argc) {
        fputs(serve_help, stderr);
        return 2;
    }
    return control_run(file);
}

static int version_main(int argc, char **argv)
{
    (void)argc;
    (void)argv;
    printf("ringpost %s (%s)\n", RINGPOST_VERSION, __VERSION__);
    struct tls_library library;
    char text[TLS_LIBRARY_TEXT_BYTES_MAX];
    if (tls_library_ask(&library) < 0) {
        fputs("ringpost: out of memory\n", stderr);
        return 1;
    }
    tls_library_text(&library, text, sizeof(text));
    puts(text);
    return 0;
}

static void help(FILE *out)
{
    fputs("ringpost - a mail transfer agent for fleets\n\n", out);
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++)
        fprintf(out, "  ringpost %-10s %s\n", commands[i].name, commands[i].words);
    fputs("\nEach has --help.\n", out);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        help(stderr);
        return 2;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        help(stdout);
        return 0;
    }
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].main(argc - 1, argv + 1);
    fprintf(stderr, "ringpost: unknown command \"%s\"\n\n", argv[1]);
    help(stderr);
    return 2;
}
