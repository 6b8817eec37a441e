/*
 * trace_cli.h - `ringpost trace`: all that is known of one message; the dialogue of a session
 */
#ifndef RINGPOST_MTA_TRACE_CLI_H
#define RINGPOST_MTA_TRACE_CLI_H

/* argv[0] is the subcommand. The exit status: 0, 1 nothing is known, 2 usage. */
int trace_main(int argc, char **argv);

#endif
