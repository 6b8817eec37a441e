/*
 * tls_cli.c - `ringpost tls`: which of its subcommands
 */
#include "mta/tls_cli.h"

#include <stdio.h>
#include <string.h>

#include "core/compiler.h"
#include "mta/client_cli.h"
#include "mta/probe_cli.h"

static const struct {
    const char *name;
    int (*main)(int argc, char **argv);
    const char *words;
} commands[] = {
    { "probe", probe_main, "meet a next hop as a delivery would, and show all of its TLS" },
    { "rotate", rotate_main, "have the running server take new keys for session tickets" },
};

static int help(FILE *out)
{
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++)
        fprintf(out, "ringpost tls %-8s %s\n", commands[i].name, commands[i].words);
    fputs("\nEach has --help.\n", out);
    return out == stdout ? 0 : 2;
}

int tls_main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return help(stdout);
    for (size_t i = 0; i < ARRAY_COUNT(commands); i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].main(argc - 1, argv + 1);
    return help(stderr);
}
