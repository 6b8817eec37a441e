/*
 * main.c - ringpost-bench: the load generator, its counterparts, and three limits of the machine
 */
#include <stdio.h>
#include <string.h>

#include "bench/disk.h"
#include "bench/handshakes.h"
#include "bench/null.h"
#include "bench/options.h"
#include "bench/policy.h"
#include "bench/sink.h"
#include "bench/source.h"
#include "bench/tls_loop.h"
#include "bench/worker.h"

#ifndef RINGPOST_VERSION
#define RINGPOST_VERSION "unversioned"
#endif

static const struct {
    char *name; /* as getopt shows it */
    const char *word;
    int (*run)(int argc, char **argv);
} commands[] = {
    { "ringpost-bench source", "source", source_main },
    { "ringpost-bench sink", "sink", sink_main },
    { "ringpost-bench null", "null", null_main },
    { "ringpost-bench disk", "disk", disk_main },
    { "ringpost-bench handshakes", "handshakes", handshakes_main },
    { "ringpost-bench tls-loop", "tls-loop", tls_loop_main },
    { "ringpost-bench policy", "policy", policy_main },
};

static const char help[] =
    "usage: ringpost-bench COMMAND [options]\n"
    "\n"
    "Measures mail servers, and what the machine would allow.\n"
    "\n"
    "  source   sends mail: connections, sizes, pipelining, BDAT, rate, slow and idle clients\n"
    "  sink     takes mail and throws it away; can be slow, refuse, and cut connections\n"
    "  null     a server that parses next to nothing and writes nothing: the limit of networking\n"
    "  disk     a bare loop of write and sync: the limit of the disk\n"
    "  handshakes   connects, shakes hands, says EHLO, closes: the load for a server's handshakes\n"
    "  tls-loop     BoringSSL alone, both sides in one thread: the limit of handshakes\n"
    "  policy       what connectors decide at MAIL and RCPT, and how long that takes\n"
    "\n"
    "ringpost-bench COMMAND --help tells all about a command. ringpost-bench --version tells the\n"
    "version.\n";

int main(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : "";
    if (strcmp(word, "--version") == 0) {
        puts("ringpost-bench " RINGPOST_VERSION);
        return EXIT_OK;
    }
    if (strcmp(word, "--help") == 0 || strcmp(word, "help") == 0) {
        fputs(help, stdout);
        return EXIT_OK;
    }
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++) {
        if (strcmp(word, commands[i].word) != 0)
            continue;
        argv[1] = commands[i].name;
        signals_init();
        options_raise_files();
        return commands[i].run(argc - 1, argv + 1);
    }
    if (argc > 1)
        fprintf(stderr, "ringpost-bench: %s is not a command\n", word);
    fputs(help, stderr);
    return EXIT_USAGE;
}
