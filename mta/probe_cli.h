/*
 * probe_cli.h - `ringpost tls probe`
 */
#ifndef RINGPOST_MTA_PROBE_CLI_H
#define RINGPOST_MTA_PROBE_CLI_H

/* argv[0] is the subcommand. Returns the exit status: 0 the level is met, 1 it is not, 2 usage. */
int probe_main(int argc, char **argv);

#endif
