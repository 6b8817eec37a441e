/*
 * queue_orders.h - what operators have ordered for mail that waits: what is suspended, what goes
 * another way, whose level on record was lowered
 *
 * A set is never written once it is handed out; shards and control each hold a reference to the
 * newest one. It is kept in a file of JSON beside the spool, written anew with each order, and
 * read before any mail is: without it mail would go that was to wait. A file that is not what was
 * written keeps the server from starting.
 *
 * An order about ways holds for mail that came before it was given, and is forgotten when that must
 * have gone, ORDERS_KEEP_S later. Of several the newest counts. Bounds: ORDERS_MAX.
 */
#ifndef RINGPOST_MTA_QUEUE_ORDERS_H
#define RINGPOST_MTA_QUEUE_ORDERS_H

#include <jansson.h>

#include "mta/connector_marks.h"
#include "mta/queue_select.h"
#include "mta/resolve.h"
#include "mta/route.h"

enum {
    ORDERS_MAX = 256,
    ORDERS_KEEP_S = 60 * 86'400,
    ORDERS_PATH_MAX = CONNECTOR_MARKS_PATH_MAX,
    ORDERS_WHY_MAX = 256,
};

enum queue_order_kind {
    ORDER_SUSPEND, /* what: a destination, or a connector */
    ORDER_REROUTE, /* what: anything but states */
    ORDER_RELAX,   /* what: a connector, as it is on record */
    ORDER_KINDS,
};
const char *queue_order_name(enum queue_order_kind kind);

struct queue_order {
    enum queue_order_kind kind;
    uint64_t number;
    struct queue_selection what;
    int64_t before_us;           /* REROUTE, RELAX: when the mail came */
    char to[ROUTE_NAME_MAX + 1]; /* REROUTE */
    enum tls_level level;        /* RELAX */
    char by[CONNECTOR_BY_MAX];
    char reason[RESOLVE_WHY_MAX];
    int64_t at_s;
};

struct queue_orders {
    uint32_t references;
    uint32_t count;
    uint64_t generation; /* never 0 */
    bool suspends;       /* some order of that kind is in it */
    bool ways;           /* or of the others */
    struct queue_order orders[ORDERS_MAX];
};

/* Empty, with one reference. NULL: no memory. */
struct queue_orders *queue_orders_new(uint64_t generation);
/* A copy, the next generation. */
struct queue_orders *queue_orders_copy(const struct queue_orders *orders);
void queue_orders_use(struct queue_orders *orders);
/* NULL is allowed. */
void queue_orders_drop(struct queue_orders *orders);
/* Room is the caller's to look for. */
void queue_orders_add(struct queue_orders *orders, const struct queue_order *order);
void queue_orders_remove(struct queue_orders *orders, uint32_t index);

/* No file: an empty set. 0, or an errno and why. */
[[nodiscard]] int queue_orders_read(const char *path, struct queue_orders **orders,
                                    char why[static ORDERS_WHY_MAX]);
/* 0 or an errno: the file is what it was. */
[[nodiscard]] int queue_orders_write(const char *path, const struct queue_orders *orders);

/* As the file has it. */
json_t *queue_order_json(const struct queue_order *order);

/* ---- asked by shards; NULL: there are none ---- */

bool queue_orders_suspend(const struct queue_orders *orders, const char *key);
/* The level that still counts of the one on record. */
enum tls_level queue_orders_floor(const struct queue_orders *orders,
                                  const struct envelope *envelope,
                                  const struct recipient *recipient, enum tls_level recorded);
/* The connector that a recipient is to go by; NULL: the one that was chosen. connector: its name,
 * key: of its destination. id 0: it is new. */
const char *queue_orders_way(const struct queue_orders *orders, uint64_t id,
                             const struct envelope *envelope, const struct recipient *recipient,
                             const char *connector, const char *key);

#endif
