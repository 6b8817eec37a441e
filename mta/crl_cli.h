/*
 * crl_cli.h - `ringpost tls crl`
 */
#ifndef RINGPOST_MTA_CRL_CLI_H
#define RINGPOST_MTA_CRL_CLI_H

/* argv[0] is the subcommand. The exit status: 0, 1 (not reachable, or no such list), 2. */
int crl_main(int argc, char **argv);

#endif
