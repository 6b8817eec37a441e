/*
 * check.h - `ringpost check`: would this configuration be taken, and is it wise?
 */
#ifndef RINGPOST_MTA_CHECK_H
#define RINGPOST_MTA_CHECK_H

#include "core/slice.h"

struct config;
struct config_listener;
struct config_report;
struct route_host;

enum { CHECK_EXIT_OK = 0, CHECK_EXIT_ERRORS = 1, CHECK_EXIT_USAGE = 2 };
enum { CHECK_FLEET_MAX = 64 }; /* nodes of one fleet */

/* argv[0] is the subcommand. `check [-c FILE] [--fleet FILE].. [--online] [--json] [--quiet]`.
 * Returns the exit code. */
int check_main(int argc, char **argv);
/* The configuration when none is named. */
const char *check_default_path(void);

/* Looks at what is right by itself and wrong together, or wrong on this machine; adds warnings and
 * errors to the report. Reads the file system, asks no DNS. */
void check_lint(const struct config *config, struct config_report *report);
/* The part of it about inbound connectors; each finding names its rule, "(L-08)". */
void check_inbound(const struct config *config, struct config_report *report);

/* check_outbound.c, check_class.c, check_asked.c, check_pins.c: parts of it. */
void check_outbound(const struct config *config, struct config_report *report);
void check_classes(const struct config *config, struct config_report *report);
void check_asked(const struct config *config, struct config_report *report);
void check_pins(const struct config *config, struct config_report *report);
/* The listener that a host leads to; NULL: none of these. here: the host is written in the same
 * file, so localhost is this machine. */
const struct config_listener *check_listener_of(const struct config *config,
                                                const struct route_host *host, bool here);
/* check_fleet.c: the first of the nodes is the one that is checked, and lint has looked at it. */
void check_fleet(const struct config *const *nodes, unsigned count, struct config_report *report);
/* What only the network knows; no part of it, and a command's only: it waits for DNS and others. */
void check_online(const struct config *config, struct config_report *report);

#endif
