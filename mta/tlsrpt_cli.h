/*
 * tlsrpt_cli.h - `ringpost tls report --tlsrpt`, `ringpost tls tlsrpt`: reports about TLS
 */
#ifndef RINGPOST_MTA_TLSRPT_CLI_H
#define RINGPOST_MTA_TLSRPT_CLI_H

#include <stdbool.h>

/* Whether the arguments of `tls report` ask for it. */
bool tlsrpt_cli_wanted(int argc, char **argv);
/* Of `tls report`; of `tls tlsrpt`. The exit status. */
int tlsrpt_cli_main(int argc, char **argv);
int tlsrpt_main(int argc, char **argv);

#endif
