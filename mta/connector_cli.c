/*
 * connector_cli.c - the verbs of `ringpost connector`
 */
#include "mta/connector_cli.h"

#include "core/compiler.h"
#include "mta/cli.h"

static const struct cli_command commands[] = {
    { "import", connector_import_main, "make sections of what Exchange's cmdlets print as JSON" },
};

int connector_main(int argc, char **argv)
{
    return cli_dispatch("connector", commands, ARRAY_COUNT(commands), argc, argv);
}
