/*
 * control_orders.c - operators' orders: written, then told to all shards
 *
 *   order --durable--> the new set is current --HANDOFF_ORDERS--> each shard has it
 *
 * A shard whose way is full is told again UNTOLD_MS later. Orders about mail that must have gone by
 * now are left out of the next set.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/control.h"

enum { UNTOLD_MS = 20, US_IN_S = 1'000'000 };

/* ---- shards ---- */

static void tell_untold(struct control *control)
{
    struct control_orders *c = &control->orders;
    for (unsigned i = 0; i < control->servers_count; i++) {
        const struct handoff handoff = { .kind = HANDOFF_ORDERS, .pointer = c->now };
        if ((c->untold & (uint64_t)1 << i) == 0)
            continue;
        queue_orders_use(c->now);
        if (shard_handoff(&control->shard, i, handoff) < 0)
            queue_orders_drop(c->now);
        else
            c->untold &= ~((uint64_t)1 << i);
    }
    if (c->untold != 0)
        shard_timer_arm(&control->shard, &c->timer, UNTOLD_MS);
}

static void on_untold(struct timer *timer)
{
    tell_untold(container_of(timer, struct control, orders.timer));
}

/* ---- life ---- */

static void log_order(const struct control *control, const char *event,
                      const struct queue_order *order, const char *by)
{
    struct log_line line;
    log_begin(&line, control->shard.log, LOG_WARNING, control->shard.wall_us, event);
    log_number(&line, "order", (int64_t)order->number);
    log_string(&line, "kind", queue_order_name(order->kind));
    log_string(&line, "by", by);
    log_string(&line, "reason", order->reason);
    if (order->kind != ORDER_SUSPEND)
        log_string(&line, "to",
                   order->kind == ORDER_RELAX ? tls_level_name(order->level) : order->to);
    control_queue_log(&line, &order->what, order->before_us);
    log_end(&line);
}

int control_orders_open(struct control *control, const struct config *config)
{
    struct control_orders *c = &control->orders;
    char why[ORDERS_WHY_MAX];
    snprintf(c->path, sizeof(c->path), "%s/queue-orders.json", config->spool.directory);
    timer_init(&c->timer, on_untold);
    int r = queue_orders_read(c->path, &c->now, why);
    if (r < 0) {
        fprintf(stderr,
                "ringpost: %s: %s; it says what is suspended and what goes another way: mend it, "
                "or remove it and order that again (ringpost queue suspend, reroute, relax)\n",
                c->path, why);
        return r;
    }
    for (uint32_t i = 0; i < c->now->count; i++)
        c->last = MAX(c->last, c->now->orders[i].number);
    for (unsigned i = 0; i < control->servers_count; i++) {
        queue_orders_use(c->now);
        control->servers[i].orders = c->now;
    }
    return 0;
}

void control_orders_start(struct control *control)
{
    const struct queue_orders *now = control->orders.now;
    for (uint32_t i = 0; i < now->count; i++) /* so that nobody wonders why mail waits */
        log_order(control, "queue_order_kept", &now->orders[i], now->orders[i].by);
}

void control_orders_close(struct control *control)
{
    timer_disarm(&control->shard.timers, &control->orders.timer);
    queue_orders_drop(control->orders.now);
    control->orders.now = NULL;
}

/* ---- changes ---- */

static bool is_over(const struct control *control, const struct queue_order *order)
{
    return order->kind != ORDER_SUSPEND &&
           order->before_us / US_IN_S + ORDERS_KEEP_S < control->shard.steady_us / US_IN_S;
}

static struct queue_orders *next_of(struct control *control, char words[static QUEUE_WORDS_MAX])
{
    struct queue_orders *next = queue_orders_copy(control->orders.now);
    if (next == NULL)
        snprintf(words, QUEUE_WORDS_MAX, "no memory\n");
    for (uint32_t i = next == NULL ? 0 : next->count; i-- > 0;)
        if (is_over(control, &next->orders[i]))
            queue_orders_remove(next, i);
    return next;
}

/* Takes next. */
static int take(struct control *control, struct queue_orders *next,
                char words[static QUEUE_WORDS_MAX])
{
    struct control_orders *c = &control->orders;
    int r = queue_orders_write(c->path, next);
    if (r < 0) {
        snprintf(words, QUEUE_WORDS_MAX, "nothing has changed, the order cannot be written: %s\n",
                 strerror(-r));
        queue_orders_drop(next);
        return -EIO;
    }
    queue_orders_drop(c->now);
    c->now = next;
    c->untold =
        control->servers_count == 64 ? UINT64_MAX : ((uint64_t)1 << control->servers_count) - 1;
    tell_untold(control);
    return 0;
}

static bool same(const struct queue_order *a, const struct queue_order *b)
{
    return a->kind == b->kind && a->what.by_connector == b->what.by_connector &&
           a->what.by_destination == b->what.by_destination &&
           strcmp(a->what.connector, b->what.connector) == 0 &&
           strcmp(a->what.destination, b->what.destination) == 0;
}

static bool level_named(const char *name, enum tls_level *level)
{
    for (unsigned i = TLS_LEVEL_NONE; i <= TLS_LEVEL_INTERNAL; i++) {
        *level = (enum tls_level)i;
        if (strcmp(tls_level_name(*level), name) == 0)
            return true;
    }
    return false;
}

static bool target_fits(const struct control *control, struct queue_order *order, const char *to,
                        char words[static QUEUE_WORDS_MAX])
{
    if (order->kind == ORDER_SUSPEND)
        return true;
    if (order->kind == ORDER_RELAX) {
        if (level_named(to, &order->level))
            return true;
        snprintf(words, QUEUE_WORDS_MAX,
                 "to: a level: none, may, encrypt, chain, name, internal\n");
        return false;
    }
    const struct outbound *connector =
        outbound_named(&control->config->outbound, slice_of_string(to));
    if (connector == NULL || connector->state != CONNECTOR_ENFORCE) {
        snprintf(words, QUEUE_WORDS_MAX,
                 "to: %.64s: no outbound connector in state enforce; a host gets mail by one with "
                 "scope = rule that names it\n",
                 to);
        return false;
    }
    snprintf(order->to, sizeof(order->to), "%s", to);
    return true;
}

/* What its kind needs to know of the mail. */
static bool what_fits(const struct control *control, const struct queue_order *order,
                      char words[static QUEUE_WORDS_MAX])
{
    const struct queue_selection *s = &order->what;
    const bool others = s->by_sender || s->by_recipient || s->ids_count > 0 || s->states != 0 ||
                        s->arrived_from_us != INT64_MIN || s->arrived_to_us != INT64_MAX || s->all;
    const char *wrong = NULL;
    switch (order->kind) {
    case ORDER_SUSPEND:
        if (others || s->by_connector == s->by_destination)
            wrong = "suspend wants a destination, or a connector, and nothing else";
        break;
    case ORDER_RELAX:
        if (others || s->by_destination || !s->by_connector)
            wrong = "relax wants the connector that the mail has on record, and nothing else";
        break;
    default:
        if (s->states != 0 || queue_select_is_empty(s))
            wrong = "say which mail: by anything but its state, which does not last";
    }
    if (wrong == NULL && order->kind == ORDER_SUSPEND && s->by_connector && *s->connector != '\0' &&
        outbound_named(&control->config->outbound, slice_of_string(s->connector)) == NULL)
        wrong = "there is no such outbound connector";
    if (wrong != NULL)
        snprintf(words, QUEUE_WORDS_MAX, "%s\n", wrong);
    return wrong == NULL;
}

int64_t control_orders_give(struct control *control, struct queue_order *order, const char *to,
                            char words[static QUEUE_WORDS_MAX])
{
    struct control_orders *c = &control->orders;
    if (!what_fits(control, order, words) || !target_fits(control, order, to, words))
        return -EINVAL;
    if (c->untold != 0) {
        snprintf(words, QUEUE_WORDS_MAX, "busy: not all shards have the last order yet\n");
        return -EBUSY;
    }
    struct queue_orders *next = next_of(control, words);
    if (next == NULL)
        return -ENOMEM;
    for (uint32_t i = next->count; i-- > 0 && order->kind != ORDER_REROUTE;)
        if (same(&next->orders[i], order))
            queue_orders_remove(next, i);
    if (next->count == ORDERS_MAX) {
        snprintf(words, QUEUE_WORDS_MAX,
                 "there are %d orders already: queue orders, queue forget\n", ORDERS_MAX);
        queue_orders_drop(next);
        return -ENOSPC;
    }
    order->number = c->last + 1;
    order->at_s = control->shard.wall_us / US_IN_S;
    order->before_us = control->shard.steady_us + 1;
    queue_orders_add(next, order);
    int r = take(control, next, words);
    if (r < 0)
        return r;
    c->last = order->number;
    log_order(control, "queue_order", order, order->by);
    return (int64_t)order->number;
}

/* Those that is_one says yes to; none: words have why. */
static int remove_orders(struct control *control, const struct queue_order *like, uint64_t number,
                         const char *by, char words[static QUEUE_WORDS_MAX])
{
    struct queue_orders *before = control->orders.now;
    struct queue_orders *next = next_of(control, words);
    unsigned found = 0;
    if (next == NULL)
        return -ENOMEM;
    for (uint32_t i = next->count; i-- > 0;) {
        const struct queue_order *o = &next->orders[i];
        if (like != NULL ? !same(o, like) : o->number != number)
            continue;
        queue_orders_remove(next, i);
        found++;
    }
    if (found == 0) {
        queue_orders_drop(next);
        snprintf(words, QUEUE_WORDS_MAX, "%s: queue orders lists them\n",
                 like != NULL ? "that is not suspended" : "there is no such order");
        return -ENOENT;
    }
    queue_orders_use(before);
    int r = take(control, next, words);
    for (uint32_t i = 0; r == 0 && i < before->count; i++)
        if (like != NULL ? same(&before->orders[i], like) : before->orders[i].number == number)
            log_order(control, "queue_order_over", &before->orders[i], by);
    queue_orders_drop(before);
    return r;
}

int control_orders_resume(struct control *control, const struct queue_order *order,
                          char words[static QUEUE_WORDS_MAX])
{
    if (order->what.by_connector == order->what.by_destination) {
        snprintf(words, QUEUE_WORDS_MAX, "resume wants a destination, or a connector\n");
        return -EINVAL;
    }
    return remove_orders(control, order, 0, order->by, words);
}

int control_orders_forget(struct control *control, uint64_t number, const char *by,
                          char words[static QUEUE_WORDS_MAX])
{
    return remove_orders(control, NULL, number, by, words);
}

json_t *control_orders_report(const struct control *control)
{
    const struct queue_orders *now = control->orders.now;
    json_t *list = json_array();
    for (uint32_t i = 0; i < now->count; i++)
        json_array_append_new(list, queue_order_json(&now->orders[i]));
    return json_pack("{s:o}", "orders", list);
}
