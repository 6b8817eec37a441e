/*
 * test_queue_orders.c - orders of operators: kept as they were given, and held against mail
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "mta/queue_orders.h"

enum { SECOND_US = 1'000'000 };

static struct queue_order order_of(enum queue_order_kind kind, const char *key, const char *value)
{
    struct queue_order order = {
        .kind = kind, .number = 7, .by = "root", .reason = "because", .at_s = 100
    };
    char why[SELECT_WHY_MAX];
    queue_select_init(&order.what);
    order.before_us = 100 * SECOND_US;
    cr_assert_eq(queue_select_add(&order.what, key, value, 100 * SECOND_US, why), 0);
    return order;
}

static struct queue_orders *set_of(const struct queue_order *order)
{
    struct queue_orders *orders = queue_orders_new(1);
    cr_assert_not_null(orders);
    queue_orders_add(orders, order);
    return orders;
}

static void path_of(char path[static ORDERS_PATH_MAX])
{
    snprintf(path, ORDERS_PATH_MAX, "/tmp/ringpost-orders.%d.json", (int)getpid());
    unlink(path);
}

static int read_text(const char *path, const char *text)
{
    struct queue_orders *orders = NULL;
    char why[ORDERS_WHY_MAX];
    FILE *f = fopen(path, "w");
    cr_assert_not_null(f);
    fputs(text, f);
    fclose(f);
    int r = queue_orders_read(path, &orders, why);
    queue_orders_drop(orders);
    return r;
}

Test(queue_orders, what_is_no_order_is_refused)
{
    char path[ORDERS_PATH_MAX];
    path_of(path);
#define ORDER(more)                                                                                \
    "{\"format\":1,\"orders\":[{\"number\":1,\"by\":\"r\",\"reason\":\"\",\"at\":1" more "}]}"
    static const char *const bad[] = {
        "",
        "{}",
        "[]",
        "{\"format\":2,\"orders\":[]}",
        "{\"format\":1,\"orders\":{}}",
        ORDER(""),
        ORDER(",\"kind\":\"suspend\""),
        ORDER(",\"kind\":\"pause\",\"connector\":\"a\""),
        ORDER(",\"kind\":\"suspend\",\"connector\":7"),
        ORDER(",\"kind\":\"reroute\",\"connector\":\"a\""),
        ORDER(",\"kind\":\"relax\",\"connector\":\"a\",\"to\":\"weak\""),
        ORDER(",\"kind\":\"reroute\",\"ids\":[\"nonsense\"],\"to\":\"b\""),
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        cr_assert_lt(read_text(path, bad[i]), 0, "%s", bad[i]);
    cr_assert_eq(read_text(path, ORDER(",\"kind\":\"suspend\",\"connector\":\"a\"")), 0);
    unlink(path);
}

Test(queue_orders, what_is_written_is_read)
{
    char path[ORDERS_PATH_MAX], why[ORDERS_WHY_MAX], words[SELECT_WHY_MAX];
    path_of(path);
    struct queue_orders *read = NULL;
    cr_assert_eq(queue_orders_read(path, &read, why), 0, "no file: no orders");
    cr_assert_eq(read->count, 0);
    queue_orders_drop(read);
    struct queue_order order = order_of(ORDER_REROUTE, "id", "00HNGA0JJ0000,00HNGA0JJ0001");
    snprintf(order.to, sizeof(order.to), "other");
    static const char *const more[][2] = { { "sender", "<>" },        { "recipient", "a@b.test" },
                                           { "destination", "mx:*" }, { "connector", "" },
                                           { "older", "10s" },        { "younger", "20s" } };
    for (size_t i = 0; i < ARRAY_COUNT(more); i++)
        cr_assert_eq(queue_select_add(&order.what, more[i][0], more[i][1], 100 * SECOND_US, words),
                     0);
    struct queue_orders *orders = set_of(&order);
    const struct queue_order other = order_of(ORDER_SUSPEND, "destination", "d.test");
    queue_orders_add(orders, &other);
    cr_assert_eq(queue_orders_write(path, orders), 0);
    cr_assert_eq(queue_orders_read(path, &read, why), 0, "%s", why);
    cr_assert_eq(read->count, 2);
    cr_assert(read->suspends && read->ways);
    const struct queue_order *r = &read->orders[0];
    cr_assert_eq(r->what.states, order.what.states);
    cr_assert_eq(r->what.by_connector, order.what.by_connector);
    cr_assert_eq(r->what.by_recipient, order.what.by_recipient);
    cr_assert_eq(r->what.arrived_from_us, order.what.arrived_from_us);
    cr_assert_eq(r->what.arrived_to_us, order.what.arrived_to_us);
    cr_assert_eq(r->what.ids_count, order.what.ids_count);
    cr_assert_eq(memcmp(r->what.ids, order.what.ids, sizeof(order.what.ids)), 0);
    cr_assert_str_eq(r->what.sender, order.what.sender);
    cr_assert_str_eq(r->what.recipient, order.what.recipient);
    cr_assert_str_eq(r->what.destination, order.what.destination);
    cr_assert_str_eq(r->what.connector, order.what.connector);
    cr_assert_eq(r->before_us, order.before_us);
    cr_assert_str_eq(r->to, "other");
    cr_assert_str_eq(r->by, "root");
    cr_assert_eq(read->orders[1].kind, ORDER_SUSPEND);
    queue_orders_drop(read);
    queue_orders_drop(orders);
    unlink(path);
}

Test(queue_orders, suspended_keys)
{
    cr_assert(!queue_orders_suspend(NULL, "mx:a.test"));
    struct queue_order order = order_of(ORDER_SUSPEND, "destination", "*.a.test");
    struct queue_orders *orders = set_of(&order);
    cr_assert(queue_orders_suspend(orders, "mx:b.a.test!name"));
    cr_assert(!queue_orders_suspend(orders, "mx:a.test"));
    order = order_of(ORDER_SUSPEND, "connector", "c");
    queue_orders_add(orders, &order);
    cr_assert(queue_orders_suspend(orders, "outbound:c:x.test") &&
              !queue_orders_suspend(orders, "outbound:cc"));
    queue_orders_remove(orders, 0);
    cr_assert(!queue_orders_suspend(orders, "mx:b.a.test!name"));
    struct queue_orders *next = queue_orders_copy(orders);
    cr_assert_eq(next->generation, orders->generation + 1);
    cr_assert(queue_orders_suspend(next, "outbound:c"));
    queue_orders_drop(next);
    queue_orders_drop(orders);
}

Test(queue_orders, a_level_falls_for_mail_that_was_there)
{
    struct queue_order order = order_of(ORDER_RELAX, "connector", "bank");
    order.level = TLS_LEVEL_ENCRYPT;
    struct queue_orders *orders = set_of(&order);
    struct envelope e = { .arrival_us = order.before_us - 1 };
    const struct recipient bank = { .connector = SLICE("bank") },
                           other = { .connector = SLICE("other") };
    cr_assert_eq(queue_orders_floor(orders, &e, &bank, TLS_LEVEL_NAME), TLS_LEVEL_ENCRYPT);
    cr_assert_eq(queue_orders_floor(orders, &e, &bank, TLS_LEVEL_MAY), TLS_LEVEL_MAY,
                 "it never rises");
    cr_assert_eq(queue_orders_floor(orders, &e, &other, TLS_LEVEL_NAME), TLS_LEVEL_NAME);
    e.arrival_us = order.before_us;
    cr_assert_eq(queue_orders_floor(orders, &e, &bank, TLS_LEVEL_NAME), TLS_LEVEL_NAME);
    cr_assert_eq(queue_orders_floor(NULL, &e, &bank, TLS_LEVEL_NAME), TLS_LEVEL_NAME);
    queue_orders_drop(orders);
}

static const char *way(const struct queue_orders *orders, uint64_t id, const struct envelope *e,
                       const struct recipient *r, const char *connector)
{
    const char *to = queue_orders_way(orders, id, e, r, connector, "outbound:chosen");
    return to == NULL ? "" : to;
}

Test(queue_orders, the_newest_way_counts)
{
    struct queue_order order = order_of(ORDER_REROUTE, "connector", "a");
    snprintf(order.to, sizeof(order.to), "one");
    struct queue_orders *orders = set_of(&order);
    order = order_of(ORDER_REROUTE, "id", "0000000000005");
    snprintf(order.to, sizeof(order.to), "two");
    queue_orders_add(orders, &order);
    struct envelope e = { .sender = SLICE("s@us.test"), .arrival_us = order.before_us - 1 };
    const struct recipient recorded = { .address = SLICE("x@y.test"), .connector = SLICE("a") };
    const struct recipient other = { .address = SLICE("x@y.test"), .connector = SLICE("b") };
    cr_assert_str_eq(way(orders, 4, &e, &recorded, "b"), "one", "the one on record");
    cr_assert_str_eq(way(orders, 4, &e, &other, "a"), "one", "the one that is chosen now");
    cr_assert_str_eq(way(orders, 4, &e, &other, "b"), "");
    cr_assert_str_eq(way(orders, 5, &e, &recorded, "a"), "two");
    e.arrival_us = order.before_us;
    cr_assert_str_eq(way(orders, 5, &e, &recorded, "a"), "", "what came later is not meant");
    queue_orders_drop(orders);
}
