/*
 * tls_cli.c - `ringpost tls`: which of its subcommands
 */
#include "mta/tls_cli.h"

#include "core/compiler.h"
#include "mta/cli.h"
#include "mta/client_cli.h"
#include "mta/crl_cli.h"
#include "mta/floor_cli.h"
#include "mta/probe_cli.h"
#include "mta/sts_cli.h"
#include "mta/tlsrpt_cli.h"

static const struct cli_command commands[] = {
    { "probe", probe_main, "meet a next hop as a delivery would, and show all of its TLS" },
    { "report", report_main, "what next hops' TLS has been capable of, and is now" },
    { "floor", floor_main, "accept, keep or forget what is remembered of a host" },
    { "crl", crl_main, "lists of revoked certificates that the running server has" },
    { "sts", sts_main, "show a domain's policy of MTA-STS, or have it fetched anew" },
    { "tlsrpt", tlsrpt_main, "send a domain's report about TLS now" },
    { "rotate", rotate_main, "have the running server take new keys for session tickets" },
};

int tls_main(int argc, char **argv)
{
    return cli_dispatch("tls", commands, ARRAY_COUNT(commands), argc, argv);
}
