/*
 * trace_session_cli.h - `ringpost trace session`: the dialogue of sessions that begin from now on
 */
#ifndef RINGPOST_MTA_TRACE_SESSION_CLI_H
#define RINGPOST_MTA_TRACE_SESSION_CLI_H

/* argv[0] is "session". The exit status: 0, 1 refused, not reachable, or nobody came, 2 usage. */
int trace_session_main(int argc, char **argv);
/* Prints text with its control characters escaped: strangers wrote it. */
void trace_put(const char *text);

#endif
