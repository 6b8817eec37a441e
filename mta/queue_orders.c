/*
 * queue_orders.c - orders in memory, on disk, and held against mail
 */
#include "mta/queue_orders.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/check.h"
#include "mta/json_file.h"
#include "mta/smtp_server.h"

enum { FILE_MODE = 0600, FORMAT = 1 };

static const char *const kind_names[ORDER_KINDS] = {
    [ORDER_SUSPEND] = "suspend", [ORDER_REROUTE] = "reroute", [ORDER_RELAX] = "relax"
};

const char *queue_order_name(enum queue_order_kind kind)
{
    CHECK(kind < ORDER_KINDS);
    return kind_names[kind];
}

/* ---- sets ---- */

struct queue_orders *queue_orders_new(uint64_t generation)
{
    struct queue_orders *orders = calloc(1, sizeof(*orders));
    if (orders == NULL)
        return NULL;
    orders->references = 1;
    orders->generation = generation;
    return orders;
}

struct queue_orders *queue_orders_copy(const struct queue_orders *orders)
{
    struct queue_orders *copy = queue_orders_new(orders->generation + 1);
    for (uint32_t i = 0; copy != NULL && i < orders->count; i++)
        queue_orders_add(copy, &orders->orders[i]);
    return copy;
}

void queue_orders_use(struct queue_orders *orders)
{
    __atomic_add_fetch(&orders->references, 1, __ATOMIC_RELAXED);
}

void queue_orders_drop(struct queue_orders *orders)
{
    if (orders != NULL && __atomic_sub_fetch(&orders->references, 1, __ATOMIC_ACQ_REL) == 0)
        free(orders);
}

static void note(struct queue_orders *orders)
{
    orders->suspends = orders->ways = false;
    for (uint32_t i = 0; i < orders->count; i++) {
        const bool suspends = orders->orders[i].kind == ORDER_SUSPEND;
        orders->suspends = orders->suspends || suspends;
        orders->ways = orders->ways || !suspends;
    }
}

void queue_orders_add(struct queue_orders *orders, const struct queue_order *order)
{
    CHECK(orders->count < ORDERS_MAX);
    orders->orders[orders->count++] = *order;
    note(orders);
}

void queue_orders_remove(struct queue_orders *orders, uint32_t index)
{
    CHECK(index < orders->count);
    memmove(&orders->orders[index], &orders->orders[index + 1],
            (--orders->count - index) * sizeof(orders->orders[0]));
    note(orders);
}

/* ---- the file ---- */

/* An optional text. False: it is none. */
static bool text_of(const json_t *object, const char *key, char *out, size_t room, bool *given)
{
    const json_t *member = json_object_get(object, key);
    const char *text = json_string_value(member);
    *given = member != NULL;
    return member == NULL || (text != NULL && (size_t)snprintf(out, room, "%s", text) < room);
}

static bool needed(const json_t *object, const char *key, char *out, size_t room)
{
    bool given;
    return text_of(object, key, out, room, &given) && given;
}

static int64_t number_of(const json_t *object, const char *key, int64_t otherwise)
{
    const json_t *member = json_object_get(object, key);
    return json_is_integer(member) ? json_integer_value(member) : otherwise;
}

static bool what_of(const json_t *object, struct queue_selection *s)
{
    const json_t *ids = json_object_get(object, "ids");
    queue_select_init(s);
    s->all = json_is_true(json_object_get(object, "all"));
    s->arrived_from_us = number_of(object, "from_us", INT64_MIN);
    s->arrived_to_us = number_of(object, "to_us", INT64_MAX);
    if (json_array_size(ids) > SELECT_IDS_MAX)
        return false;
    for (; s->ids_count < json_array_size(ids); s->ids_count++) {
        const char *id = json_string_value(json_array_get(ids, s->ids_count));
        if (id == NULL || smtp_id_read(slice_of_string(id), &s->ids[s->ids_count]) < 0)
            return false;
    }
    return text_of(object, "sender", s->sender, SELECT_TEXT_MAX, &s->by_sender) &&
           text_of(object, "recipient", s->recipient, SELECT_TEXT_MAX, &s->by_recipient) &&
           text_of(object, "destination", s->destination, SELECT_TEXT_MAX, &s->by_destination) &&
           text_of(object, "connector", s->connector, SELECT_TEXT_MAX, &s->by_connector) &&
           !queue_select_is_empty(s);
}

static bool kind_of(const char *name, enum queue_order_kind *kind)
{
    for (unsigned i = 0; i < ORDER_KINDS; i++) {
        *kind = (enum queue_order_kind)i;
        if (strcmp(kind_names[i], name) == 0)
            return true;
    }
    return false;
}

static bool level_of(const char *name, enum tls_level *level)
{
    for (unsigned i = TLS_LEVEL_NONE; i <= TLS_LEVEL_INTERNAL; i++) {
        *level = (enum tls_level)i;
        if (strcmp(tls_level_name(*level), name) == 0)
            return true;
    }
    return false;
}

static bool order_of(const json_t *object, struct queue_order *order)
{
    char kind[16];
    char level[16];
    *order = (struct queue_order) { .number = (uint64_t)number_of(object, "number", 0),
                                    .at_s = number_of(object, "at", 0),
                                    .before_us = number_of(object, "before_us", INT64_MAX) };
    if (order->number == 0 || !needed(object, "kind", kind, sizeof(kind)) ||
        !kind_of(kind, &order->kind) || !what_of(object, &order->what) ||
        !needed(object, "by", order->by, sizeof(order->by)) ||
        !needed(object, "reason", order->reason, sizeof(order->reason)))
        return false;
    switch (order->kind) {
    case ORDER_REROUTE: return needed(object, "to", order->to, sizeof(order->to));
    case ORDER_RELAX:
        return needed(object, "to", level, sizeof(level)) && level_of(level, &order->level);
    default: return true;
    }
}

static int orders_of(const json_t *root, struct queue_orders *orders)
{
    const json_t *list = json_object_get(root, "orders");
    struct queue_order order;
    if (number_of(root, "format", 0) != FORMAT || !json_is_array(list) ||
        json_array_size(list) > ORDERS_MAX)
        return -EBADMSG;
    for (size_t i = 0; i < json_array_size(list); i++) {
        if (!order_of(json_array_get(list, i), &order))
            return -EBADMSG;
        queue_orders_add(orders, &order);
    }
    return 0;
}

int queue_orders_read(const char *path, struct queue_orders **result,
                      char why[static ORDERS_WHY_MAX])
{
    struct queue_orders *orders = queue_orders_new(1);
    snprintf(why, ORDERS_WHY_MAX, "no memory");
    *result = orders;
    if (orders == NULL)
        return -ENOMEM;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT)
        return 0;
    json_error_t error = { .text = "" };
    json_t *root = NULL;
    int r = fd < 0 ? -errno : 0;
    if (r < 0)
        snprintf(why, ORDERS_WHY_MAX, "%s", strerror(-r));
    else
        root = json_loadfd(fd, JSON_REJECT_DUPLICATES, &error);
    if (fd >= 0)
        close(fd);
    if (r == 0 && (r = root == NULL ? -EBADMSG : orders_of(root, orders)) < 0)
        snprintf(why, ORDERS_WHY_MAX, "it is not what was written%s%s", root == NULL ? ": " : "",
                 error.text);
    json_decref(root);
    if (r < 0) {
        queue_orders_drop(orders);
        *result = NULL;
    }
    return r;
}

json_t *queue_order_json(const struct queue_order *o)
{
    const struct queue_selection *s = &o->what;
    json_t *object =
        json_pack("{s:I, s:s, s:s, s:s, s:I}", "number", (json_int_t)o->number, "kind",
                  kind_names[o->kind], "by", o->by, "reason", o->reason, "at", (json_int_t)o->at_s);
    if (o->kind != ORDER_SUSPEND) {
        json_object_set_new(object, "before_us", json_integer(o->before_us));
        json_object_set_new(object, "to",
                            json_string(o->kind == ORDER_RELAX ? tls_level_name(o->level) : o->to));
    }
    if (s->all)
        json_object_set_new(object, "all", json_true());
    if (s->by_sender)
        json_object_set_new(object, "sender", json_string(s->sender));
    if (s->by_recipient)
        json_object_set_new(object, "recipient", json_string(s->recipient));
    if (s->by_destination)
        json_object_set_new(object, "destination", json_string(s->destination));
    if (s->by_connector)
        json_object_set_new(object, "connector", json_string(s->connector));
    if (s->arrived_from_us != INT64_MIN)
        json_object_set_new(object, "from_us", json_integer(s->arrived_from_us));
    if (s->arrived_to_us != INT64_MAX)
        json_object_set_new(object, "to_us", json_integer(s->arrived_to_us));
    json_t *ids = s->ids_count > 0 ? json_array() : NULL;
    for (unsigned i = 0; i < s->ids_count; i++) {
        char id[SMTP_ID_TEXT];
        smtp_id_text(s->ids[i], id);
        json_array_append_new(ids, json_string(id));
    }
    if (ids != NULL)
        json_object_set_new(object, "ids", ids);
    return object;
}

int queue_orders_write(const char *path, const struct queue_orders *orders)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < orders->count; i++)
        if (json_array_append_new(list, queue_order_json(&orders->orders[i])) < 0) {
            json_decref(list);
            return -ENOMEM;
        }
    json_t *root = json_pack("{s:i, s:o}", "format", FORMAT, "orders", list);
    int r = json_file_write(path, root, FILE_MODE);
    json_decref(root);
    return r;
}

/* ---- asked ---- */

bool queue_orders_suspend(const struct queue_orders *orders, const char *key)
{
    if (orders == NULL || !orders->suspends)
        return false;
    for (uint32_t i = 0; i < orders->count; i++)
        if (orders->orders[i].kind == ORDER_SUSPEND &&
            queue_select_key(&orders->orders[i].what, key))
            return true;
    return false;
}

enum tls_level queue_orders_floor(const struct queue_orders *orders,
                                  const struct envelope *envelope,
                                  const struct recipient *recipient, enum tls_level recorded)
{
    if (orders == NULL || !orders->ways)
        return recorded;
    for (uint32_t i = 0; i < orders->count; i++) {
        const struct queue_order *o = &orders->orders[i];
        if (o->kind == ORDER_RELAX && envelope->arrival_us < o->before_us &&
            slice_equal(recipient->connector, slice_of_string(o->what.connector)))
            recorded = MIN(recorded, o->level);
    }
    return recorded;
}

static bool names(const struct queue_selection *s, uint64_t id)
{
    for (unsigned i = 0; i < s->ids_count; i++)
        if (s->ids[i] == id)
            return true;
    return s->ids_count == 0;
}

/* The connector on record counts as well as the one that would be chosen now. */
static bool is_of(const struct queue_selection *s, const struct recipient *recipient,
                  const char *connector)
{
    return !s->by_connector || strcmp(s->connector, connector) == 0 ||
           slice_equal(recipient->connector, slice_of_string(s->connector));
}

static bool is_meant(const struct queue_order *o, uint64_t id, const struct envelope *envelope,
                     const struct recipient *recipient, const char *connector, const char *key)
{
    if (envelope->arrival_us >= o->before_us || envelope->arrival_us < o->what.arrived_from_us ||
        envelope->arrival_us > o->what.arrived_to_us || !names(&o->what, id) ||
        !is_of(&o->what, recipient, connector) ||
        !queue_select_sender(&o->what, envelope->sender) ||
        !queue_select_recipient(&o->what, recipient->address))
        return false;
    return queue_select_destination(&o->what, key);
}

const char *queue_orders_way(const struct queue_orders *orders, uint64_t id,
                             const struct envelope *envelope, const struct recipient *recipient,
                             const char *connector, const char *key)
{
    if (orders == NULL || !orders->ways)
        return NULL;
    for (uint32_t i = orders->count; i-- > 0;) {
        const struct queue_order *o = &orders->orders[i];
        if (o->kind == ORDER_REROUTE && is_meant(o, id, envelope, recipient, connector, key))
            return o->to;
    }
    return NULL;
}
