/*
 * admin_inside.h - what admin.c and admin_queue.c share: requests, and how they are answered
 */
#ifndef RINGPOST_MTA_ADMIN_INSIDE_H
#define RINGPOST_MTA_ADMIN_INSIDE_H

#include <microhttpd.h>

#include "mta/admin.h"
#include "mta/config.h"
#include "mta/inspect.h"

enum { ADMIN_DAEMONS = CONFIG_ADMIN_ADDRESSES_MAX + 1 };

struct admin_daemon {
    struct admin *admin;
    struct MHD_Daemon *daemon;
    struct op poll;
    int epoll;
    bool stopped;
    bool local; /* the unix socket: may change things */
};

struct admin {
    struct control *control;
    struct timer timer;
    struct admin_daemon daemons[ADMIN_DAEMONS];
    unsigned count;
    struct list counting;  /* the request whose reload waits for shards to count */
    struct list reloading; /* requests whose reload is on its way to the shards */
    struct list working;   /* requests whose verb is under way (admin_queue.c) */
    const char *socket;    /* path of the unix socket; to be removed at the end */
};

struct admin_request {
    struct admin_daemon *daemon;
    struct MHD_Connection *connection;
    struct inspect_question question;
    unsigned shard;
    bool asked;
    bool answered;
    bool refused;
    uint64_t top;      /* a walk's number, or 0, and */
    uint64_t job;      /* a verb's, */
    uint64_t until_ms; /* and until when its end is waited for */
    char *words;       /* of a reload that waited; malloc'd, or NULL */
    struct list node;  /* of counting, reloading or working, or alone */
};

/* Takes the object. */
enum MHD_Result admin_answer_json(struct MHD_Connection *connection, unsigned status,
                                  json_t *object);
/* NULL: it was not given. */
const char *admin_argument(struct MHD_Connection *connection, const char *key);
/* Who is at the other end of the unix socket. */
void admin_peer(struct MHD_Connection *connection, char by[static CONNECTOR_BY_MAX]);

/* ---- admin_queue.c ---- */

void admin_queue_start(struct admin *admin);
/* GET and POST below /v1/queue; what: behind it, with its slash. */
enum MHD_Result admin_queue_get(struct admin_request *request, const char *what);
enum MHD_Result admin_queue_post(struct admin_request *request, const char *what);

#endif
