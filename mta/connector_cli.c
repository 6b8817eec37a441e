/*
 * connector_cli.c - the verbs of `ringpost connector`
 */
#include "mta/connector_cli.h"

#include "core/compiler.h"
#include "mta/cli.h"

static const struct cli_command commands[] = {
    { "list", connector_list_main, "all connectors of the running server, and what they did" },
    { "show", connector_show_main, "all that is known of one" },
    { "report", connector_report_main, "what came and went by each, day by day" },
    { "horizon", connector_horizon_main, "certificates of partners, the first to expire first" },
    { "readiness", connector_readiness_main, "whom one in test would refuse" },
    { "block", connector_block_main, "nothing comes or goes by one any more, from now on" },
    { "unblock", connector_unblock_main, "it works again" },
    { "validate", connector_validate_main, "meet each host of one, and send it a test message" },
    { "import", connector_import_main, "make sections of what Exchange's cmdlets print as JSON" },
};

int connector_main(int argc, char **argv)
{
    return cli_dispatch("connector", commands, ARRAY_COUNT(commands), argc, argv);
}
