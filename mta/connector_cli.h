/*
 * connector_cli.h - `ringpost connector`: operators' verbs about connectors
 */
#ifndef RINGPOST_MTA_CONNECTOR_CLI_H
#define RINGPOST_MTA_CONNECTOR_CLI_H

/* argv[0] is the subcommand. The exit status. */
int connector_main(int argc, char **argv);

/* The verbs; argv[0] is the verb. */
int connector_list_main(int argc, char **argv);
int connector_show_main(int argc, char **argv);
int connector_report_main(int argc, char **argv);
int connector_horizon_main(int argc, char **argv);
int connector_readiness_main(int argc, char **argv);
int connector_block_main(int argc, char **argv);
int connector_unblock_main(int argc, char **argv);
int connector_import_main(int argc, char **argv);
int connector_validate_main(int argc, char **argv);

#endif
