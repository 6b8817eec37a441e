/*
 * sts_cli.h - what the running server knows of a domain's MTA-STS policy, for subcommands
 */
#ifndef RINGPOST_MTA_STS_CLI_H
#define RINGPOST_MTA_STS_CLI_H

#include <jansson.h>
#include <stdbool.h>

/* `ringpost tls sts`. The exit status: 0, 1 (nothing known, or not reachable), 2. */
int sts_main(int argc, char **argv);

/* Asks over the admin socket; the lines "mta-sts .." behind whatever was printed before, or one
 * object {"mta-sts": ..}. False: the server knows nothing, or is not reachable. */
bool sts_cli_print(const char *socket, const char *domain, bool as_json);

/* The same for who looks at a configuration: NULL also when no server answers there, which is not
 * said. */
json_t *sts_cli_known(const char *socket, const char *domain);
/* The lines; NULL: none. */
void sts_cli_lines(const json_t *policy);

#endif
