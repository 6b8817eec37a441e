/*
 * explain_cli.h - `ringpost explain`: what would happen to this message, and why
 */
#ifndef RINGPOST_MTA_EXPLAIN_CLI_H
#define RINGPOST_MTA_EXPLAIN_CLI_H

/* argv[0] is the subcommand. The exit status. */
int explain_main(int argc, char **argv);

#endif
