/*
 * client_cli.h - the subcommands that talk to a running ringpost over its admin socket
 */
#ifndef RINGPOST_MTA_CLIENT_CLI_H
#define RINGPOST_MTA_CLIENT_CLI_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* argv[0] is the subcommand. They return the exit status: 0, 1 (refused or not reachable), 2. */
int reload_main(int argc, char **argv);
int rotate_main(int argc, char **argv); /* `ringpost tls rotate` */

/* ---- for other subcommands of the kind ---- */

struct client_arguments {
    const char *config;
    const char *socket;
    unsigned long most; /* --max */
    bool json;
    bool help;
};

/* Up to the first word that is no option: argv[optind]. 0, or -EINVAL: said. */
[[nodiscard]] int client_arguments_read(int argc, char **argv, struct client_arguments *arguments);
/* The admin socket: named, or the configuration's. malloc'd, or NULL (said why). */
char *client_socket(const struct client_arguments *arguments);

struct client_reply {
    char *text; /* malloc'd, or NULL */
    size_t size;
    long status;
};

/* Somebody listens there: a server, as the rest would tell in words. "": nobody. */
bool client_answers(const char *socket);
/* What a GET of this path answers; NULL: nothing (said why), or no 200. */
json_t *client_ask_json(const char *socket, const char *path);
/* Puts key=value behind a path, escaped. */
void client_path_add(char *path, size_t room, const char *key, const char *value);
/* The answer's status, or -1 (said why). */
long client_ask(const char *socket, const char *path, bool post, struct client_reply *reply);
/* Has the server do something and prints what it says; the exit status. */
int client_post(const char *socket, const char *path);

#endif
