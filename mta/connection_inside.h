/*
 * connection_inside.h - what the two halves of a connection share: the socket, and TLS over it
 *
 * connection.c: buffers, lines, sends, life. connection_tls.c: opening and sealing. For these only.
 */
#ifndef RINGPOST_MTA_CONNECTION_INSIDE_H
#define RINGPOST_MTA_CONNECTION_INSIDE_H

#include "mta/connection.h"

/* ---- connection.c ---- */

void connection_wake(struct connection *c);
void connection_give_front(struct connection *c);
void connection_give_line(struct connection *c);
/* The block of the output; NULL: none to be had, and error says so. */
struct connection_output *connection_output(struct connection *c);

/* ---- connection_tls.c; all but the last two with c->tls ---- */

struct slice connection_tls_front(struct connection *c);
void connection_tls_take(struct connection *c, size_t bytes);
void connection_tls_reclaim(struct connection *c);
void connection_tls_drop_input(struct connection *c);
/* Seals what is gathered as far as there is room, and sends. */
void connection_tls_pump(struct connection *c);
int connection_tls_flush_with(struct connection *c, const struct slice *slices, size_t count);
void connection_tls_on_sent(struct connection *c, int res);
void connection_tls_free(struct connection *c);

#endif
