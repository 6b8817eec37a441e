/*
 * admin_wire.h - requests about wire traces, /v1/trace/session
 */
#ifndef RINGPOST_MTA_ADMIN_WIRE_H
#define RINGPOST_MTA_ADMIN_WIRE_H

#include <jansson.h>
#include <microhttpd.h>
#include <stdbool.h>

struct control;

/* The answer to a request whose path goes on with rest ("", "/end"), and its HTTP status. */
json_t *admin_wire(struct control *control, struct MHD_Connection *connection, bool post,
                   const char *rest, unsigned *status);

#endif
