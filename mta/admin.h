/*
 * admin.h - the operator's HTTP: metrics, health, the queue, reload
 *
 *   GET  /metrics           Prometheus text          GET /healthz   200 while the process runs
 *   GET  /readyz            200 while new mail is taken, else 503
 *   GET  /v1/queue[?shard=S&log=L&cursor=C&limit=N]  a page of messages, and where the next begins;
 *                           criteria of mta/queue_select.h, &verb=V: that the verb would change
 *   GET  /v1/queue/ID       one message, with recipients and outcomes
 *   POST /v1/queue/VERB?CRITERIA[&reason=TEXT&dry-run=1]   hold, release, .. (unix socket only):
 *                           the job, done, or how far it is
 *   GET  /v1/queue/jobs/N   how far it is now
 *   GET  /v1/tls/report     floor memory, a page of it; ?name=HOST_OR_DOMAIN
 *   GET  /v1/connectors[?direction=D&from=N]         a page of them, and where the next begins
 *   GET  /v1/connectors/show?name=NAME               all that is known of those of this name
 *   GET  /v1/connectors/report[?days=N&name=NAME]    daily sums, a page of them
 *   GET  /v1/connectors/readiness?name=NAME          whom an inbound one in test would refuse
 *   POST /v1/connectors/block   ?name=NAME&reason=TEXT[&direction=D] (unix socket only)
 *   POST /v1/connectors/unblock ?name=NAME[&direction=D] (likewise)
 *   POST /v1/reload[?require-validated&accept-weaker]   200 when all shards have it, or 409 and why
 * (unix socket only) POST /v1/connectors/validated?name=N&digest=D&good=0|1[&why=W]   likewise POST
 * /v1/tls/floor/VERB ?host=H[&domain=D]: accept, keep, forget (likewise)
 *
 * Runs on the control thread, driven by its ring; libmicrohttpd does the protocol. Mail does not
 * wait for it. Bounds: ADMIN_CONNECTIONS per socket, ADMIN_TIMEOUT_S, no request bodies.
 */
#ifndef RINGPOST_MTA_ADMIN_H
#define RINGPOST_MTA_ADMIN_H

#include <stdbool.h>

struct control;
struct admin;

enum { ADMIN_CONNECTIONS = 64, ADMIN_TIMEOUT_S = 10, ADMIN_MEMORY = 32 * 1024 };

/* Opens the sockets (before privileges go); answers once the loop runs. 0 or errno, said. */
[[nodiscard]] int admin_new(struct control *control, struct admin **admin);
/* A reload that waited goes on, or is refused; words are for who asked. False: nobody did. */
bool admin_counted(struct admin *admin, bool taken, const char *words);
/* Each shard has answered each reload. */
void admin_reloaded(struct admin *admin);
/* Some verb over the queue is done, or has been waited for long enough. */
void admin_worked(struct admin *admin);
/* Answers nobody from now on. */
void admin_stop(struct admin *admin); /* NULL is allowed */
void admin_free(struct admin *admin); /* NULL is allowed */

#endif
