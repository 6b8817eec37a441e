/*
 * server_operator.c - the operator of a simulated server: verbs over its queue, destinations
 * suspended
 *
 * Jobs belong to an incarnation and die with it; orders outlive it, as their file does.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/queue_orders.h"
#include "tests/sim/server_sim.h"

static void on_told(struct shard *shard, const struct handoff *handoff)
{
    struct queue_part *part = handoff->pointer;
    struct server_sim_job *job = part->owner;
    if (handoff->number != PART_OVER)
        return;
    CHECK(part->numbers.looked <= part->numbers.total + 10'000);
    CHECK(part->slots_used == 0);
    container_of(shard, struct server_sim, control)->verbs_failed += part->numbers.failed;
    for (unsigned i = 0; i < SERVER_SIM_SHARDS_MAX; i++)
        if (job->parts[i] == part)
            job->parts[i] = NULL;
    free(part);
    CHECK(job->left > 0);
    job->left--;
}

void server_sim_operator_start(struct server_sim *s)
{
    shard_handle(&s->control, HANDOFF_JOB_TOLD, on_told);
    for (unsigned i = 0; s->orders != NULL && i < s->shards; i++) {
        queue_orders_use(s->orders);
        s->servers[i].orders = s->orders;
    }
}

void server_sim_operator_end(struct server_sim *s)
{
    for (unsigned k = 0; k < SERVER_SIM_JOBS_MAX; k++) {
        for (unsigned i = 0; i < SERVER_SIM_SHARDS_MAX; i++)
            free(s->jobs[k].parts[i]);
        s->jobs[k] = (struct server_sim_job) { .left = 0 };
    }
}

bool server_sim_verb(struct server_sim *s, const struct queue_job *asked)
{
    struct server_sim_job *job = s->jobs;
    while (job < s->jobs + SERVER_SIM_JOBS_MAX && job->left > 0)
        job++;
    if (!s->up || s->draining || job == s->jobs + SERVER_SIM_JOBS_MAX)
        return false;
    job->job = *asked;
    for (unsigned i = 0; i < s->shards; i++) {
        struct queue_part *part = calloc(1, sizeof(*part));
        CHECK(part != NULL);
        part->job = &job->job;
        part->owner = job;
        job->parts[i] = part;
        job->left++;
        CHECK(shard_handoff(&s->control, i,
                            (struct handoff) { .kind = HANDOFF_JOB, .pointer = part }) == 0);
    }
    return true;
}

bool server_sim_verbs_over(void *argument)
{
    const struct server_sim *s = argument;
    for (unsigned k = 0; k < SERVER_SIM_JOBS_MAX; k++)
        if (s->up && s->jobs[k].left > 0)
            return false;
    return true;
}

/* The next set; without the orders that suspend, or without those about ways. */
static struct queue_orders *orders_next(const struct server_sim *s, bool suspending)
{
    struct queue_orders *next =
        s->orders == NULL ? queue_orders_new(1) : queue_orders_copy(s->orders);
    CHECK(next != NULL);
    for (uint32_t i = next->count; i-- > 0;)
        if ((next->orders[i].kind == ORDER_SUSPEND) == suspending)
            queue_orders_remove(next, i);
    return next;
}

static void orders_take(struct server_sim *s, struct queue_orders *next)
{
    queue_orders_drop(s->orders);
    s->orders = next;
    for (unsigned i = 0; s->up && i < s->shards; i++) {
        const struct handoff handoff = { .kind = HANDOFF_ORDERS, .pointer = next };
        queue_orders_use(next);
        s->servers[i].shard.handlers[HANDOFF_ORDERS](&s->servers[i].shard, &handoff);
    }
}

void server_sim_suspend(struct server_sim *s, const char *destination)
{
    struct queue_orders *next = orders_next(s, true);
    if (destination != NULL) {
        struct queue_order order = { .kind = ORDER_SUSPEND, .number = next->generation };
        char why[SELECT_WHY_MAX];
        queue_select_init(&order.what);
        CHECK(queue_select_add(&order.what, "destination", destination, 0, why) == 0);
        queue_orders_add(next, &order);
    }
    orders_take(s, next);
}

bool server_sim_order(struct server_sim *s, const struct queue_order *order)
{
    if (order == NULL) {
        orders_take(s, orders_next(s, false));
        return true;
    }
    CHECK(order->kind != ORDER_SUSPEND);
    if (s->orders != NULL && s->orders->count == ORDERS_MAX)
        return false;
    struct queue_orders *next =
        s->orders == NULL ? queue_orders_new(1) : queue_orders_copy(s->orders);
    CHECK(next != NULL);
    struct queue_order given = *order;
    given.number = next->generation;
    queue_orders_add(next, &given);
    orders_take(s, next);
    return true;
}
