/*
 * floor_cli.h - `ringpost tls report` and `ringpost tls floor`
 */
#ifndef RINGPOST_MTA_FLOOR_CLI_H
#define RINGPOST_MTA_FLOOR_CLI_H

/* argv[0] is the subcommand. They return the exit status: 0, 1 (refused or not reachable), 2. */
int report_main(int argc, char **argv);
int floor_main(int argc, char **argv);

#endif
