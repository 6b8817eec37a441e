/*
 * cli.h - what the subcommands that look at a configuration share
 */
#ifndef RINGPOST_MTA_CLI_H
#define RINGPOST_MTA_CLI_H

#include <jansson.h>

struct config;

struct cli_command {
    const char *name;
    int (*main)(int argc, char **argv);
    const char *words; /* what it does, in a line of --help */
};

/* Runs the one of commands[count] that argv[1] names, with itself as argv[0]; --help and no such
 * command list them, as "ringpost <group> <name>". The exit status. */
int cli_dispatch(const char *group, const struct cli_command *commands, size_t count, int argc,
                 char **argv);

/* Loads a configuration, NULL: the built-in default. NULL: it has errors, and all of them were said
 * on standard error. To be freed by config_free. */
struct config *cli_config(const char *file);
/* The same of a file, and warnings about certificate files are said too. */
struct config *cli_config_told(const char *file);
/* The same of a text that is called name. */
struct config *cli_config_text(const char *text, const char *name);

/* null for NULL, and for what is not UTF-8. */
json_t *cli_string(const char *text);
/* The member's text; "" when it has none. */
const char *cli_text(const json_t *object, const char *key);
/* "  names       a.example, b.example": a label and its words, or nothing when there are none. */
void cli_line(const char *label, const char *words);
/* The strings of an array, joined: for people. */
void cli_line_list(const char *label, const json_t *array);
/* All of object on standard output. The exit status, taken through. */
int cli_print_json(json_t *object, int status);

#endif
