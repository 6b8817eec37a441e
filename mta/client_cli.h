/*
 * client_cli.h - the subcommands that talk to a running ringpost over its admin socket
 */
#ifndef RINGPOST_MTA_CLIENT_CLI_H
#define RINGPOST_MTA_CLIENT_CLI_H

/* argv[0] is the subcommand. They return the exit status: 0, 1 (refused or not reachable), 2. */
int queue_main(int argc, char **argv);
int reload_main(int argc, char **argv);
int rotate_main(int argc, char **argv); /* `ringpost tls rotate` */

#endif
