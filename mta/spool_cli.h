/*
 * spool_cli.h - `ringpost spool check`: a spool that no server has open, looked at and rescued
 */
#ifndef RINGPOST_MTA_SPOOL_CLI_H
#define RINGPOST_MTA_SPOOL_CLI_H

/* The exit status. */
int spool_main(int argc, char **argv);

#endif
