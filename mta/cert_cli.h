/*
 * cert_cli.h - `ringpost cert`: what we present, and a first pair to present
 */
#ifndef RINGPOST_MTA_CERT_CLI_H
#define RINGPOST_MTA_CERT_CLI_H

/* argv[0] is the subcommand. Returns the exit status: 0, 1 (what was asked for cannot be had), 2.
 */
int cert_main(int argc, char **argv);

#endif
