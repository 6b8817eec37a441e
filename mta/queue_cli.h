/*
 * queue_cli.h - `ringpost queue`: what waits, and an operator's verbs over it
 */
#ifndef RINGPOST_MTA_QUEUE_CLI_H
#define RINGPOST_MTA_QUEUE_CLI_H

/* argv[0] is the subcommand. The exit status: 0, 1 (refused, not found, not reachable), 2 (usage).
 */
int queue_main(int argc, char **argv);

#endif
