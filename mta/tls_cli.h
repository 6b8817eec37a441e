/*
 * tls_cli.h - `ringpost tls`: its subcommands
 */
#ifndef RINGPOST_MTA_TLS_CLI_H
#define RINGPOST_MTA_TLS_CLI_H

/* argv[0] is the subcommand. Returns the exit status: 0, 1 (no, or not reachable), 2 usage. */
int tls_main(int argc, char **argv);

#endif
