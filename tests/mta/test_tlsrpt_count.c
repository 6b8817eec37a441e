/*
 * test_tlsrpt_count.c - lots between a shard and control: what is the same adds up, what is lost is
 * counted, two lots go to and fro
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mta/server.h"
#include "tests/sim/sim.h"

enum { SERVER, CONTROL, SHARDS, LOT_MS = 5'000 };

static struct world {
    struct sim *sim;
    struct shard_group group;
    struct server_shard server; /* its shard and its tlsrpt are all that is used */
    struct shard control;
    struct tlsrpt_lot *lots[2]; /* that control has */
    unsigned lots_count;
} * w;

static void on_lot(struct shard *shard, const struct handoff *handoff)
{
    (void)shard;
    cr_assert_lt(w->lots_count, 2);
    w->lots[w->lots_count++] = handoff->pointer;
}

static void setup(void)
{
    const struct sim_options calm = sim_calm(1);
    const struct ring_options ring = {
        .entries = 64, .sockets_max = 8, .recv_buffers = 4, .recv_buffer_bytes = 256
    };
    w = calloc(1, sizeof(*w));
    w->sim = sim_new(&calm);
    unsigned machine = sim_machine(w->sim, "192.0.2.1");
    cr_assert_eq(shard_group_init(&w->group, SHARDS), 0);
    shard_init(&w->server.shard, sim_ring(w->sim, machine, &ring), &w->group, SERVER);
    shard_init(&w->control, sim_ring(w->sim, machine, &ring), &w->group, CONTROL);
    w->server.shard.owner = &w->server;
    sim_shard(w->sim, &w->server.shard);
    sim_shard(w->sim, &w->control);
    shard_handle(&w->control, HANDOFF_TLSRPT, on_lot);
    cr_assert_eq(tlsrpt_shard_init(&w->server.tlsrpt, &w->server.shard, CONTROL), 0);
}

static void teardown(void)
{
    tlsrpt_shard_free(&w->server.tlsrpt);
    sim_free(w->sim);
    shard_group_free(&w->group);
    free(w);
}

TestSuite(tlsrpt_count, .init = setup, .fini = teardown);

static void pass(uint64_t ms)
{
    sim_run(w->sim, sim_now_ms(w->sim) + ms);
}

/* Control is done with the lot that it has had the longest. */
static void give_back(void)
{
    struct tlsrpt_lot *lot = w->lots[0];
    w->lots[0] = w->lots[1];
    w->lots_count--;
    tlsrpt_lot_clear(lot);
    const struct handoff handoff = { .kind = HANDOFF_TLSRPT_BACK, .pointer = lot };
    cr_assert_eq(shard_handoff(&w->control, SERVER, handoff), 0);
    pass(10);
}

static struct tlsrpt_row row_of(unsigned number, enum outbound_token token)
{
    struct tlsrpt_row row;
    memset(&row, 0, sizeof(row));
    row.token = token;
    snprintf(row.domain, sizeof(row.domain), "d%u.example", number);
    return row;
}

static void count(unsigned number, enum outbound_token token)
{
    const struct tlsrpt_row row = row_of(number, token);
    tlsrpt_count(&w->server.tlsrpt, &row);
}

static uint64_t count_in(const struct tlsrpt_lot *lot, unsigned number, enum outbound_token token)
{
    const struct tlsrpt_row row = row_of(number, token);
    uint64_t sum = 0;
    for (unsigned i = 0; i < lot->count; i++)
        if (memcmp(&lot->rows[i], &row, sizeof(row)) == 0)
            sum += lot->counts[i];
    return sum;
}

Test(tlsrpt_count, what_is_the_same_is_one_row)
{
    for (unsigned i = 0; i < 3; i++)
        count(1, FAULT_NONE);
    count(1, FAULT_NAME);
    count(2, FAULT_NONE);
    pass(LOT_MS - 1'000);
    cr_assert_eq(w->lots_count, 0);
    pass(2'000);
    cr_assert_eq(w->lots_count, 1);
    cr_expect_eq(w->lots[0]->count, 3);
    cr_expect_eq(count_in(w->lots[0], 1, FAULT_NONE), 3);
    cr_expect_eq(count_in(w->lots[0], 1, FAULT_NAME), 1);
    cr_expect_eq(count_in(w->lots[0], 2, FAULT_NONE), 1);
    cr_expect_eq(w->server.tlsrpt.numbers.good, 4);
    cr_expect_eq(w->server.tlsrpt.numbers.failed, 1);
    cr_expect_eq(w->server.tlsrpt.numbers.lost, 0);
}

Test(tlsrpt_count, one_octet_is_a_difference)
{
    struct tlsrpt_row row = row_of(1, FAULT_NONE);
    tlsrpt_count(&w->server.tlsrpt, &row);
    row.records[sizeof(row.records) - 1] = 1;
    tlsrpt_count(&w->server.tlsrpt, &row);
    row.to.octets[15] = 1;
    tlsrpt_count(&w->server.tlsrpt, &row);
    cr_assert_eq(w->server.tlsrpt.lot->count, 3);
}

Test(tlsrpt_count, a_full_lot_goes_at_once)
{
    for (unsigned i = 0; i <= TLSRPT_LOT_ROWS; i++)
        count(i, FAULT_NONE);
    pass(10);
    cr_assert_eq(w->lots_count, 1);
    cr_expect_eq(w->lots[0]->count, TLSRPT_LOT_ROWS);
    for (unsigned i = 0; i < TLSRPT_LOT_ROWS; i++)
        cr_expect_eq(count_in(w->lots[0], i, FAULT_NONE), 1);
    cr_expect_eq(w->server.tlsrpt.lot->count, 1);
    cr_expect_eq(w->server.tlsrpt.numbers.lost, 0);
}

Test(tlsrpt_count, without_a_lot_to_spare_new_rows_are_lost_and_known_ones_count)
{
    for (unsigned i = 0; i < 2 * TLSRPT_LOT_ROWS + 5; i++)
        count(i, FAULT_NONE);
    cr_expect_eq(w->server.tlsrpt.numbers.lost, 5);
    count(TLSRPT_LOT_ROWS, FAULT_NONE); /* the first one of the second lot */
    cr_expect_eq(w->server.tlsrpt.numbers.lost, 5);
    pass(LOT_MS);
    cr_assert_eq(w->lots_count, 1); /* control keeps the first one, so the second one waits */
    give_back();
    pass(LOT_MS);
    cr_assert_eq(w->lots_count, 1);
    cr_expect_eq(w->lots[0]->count, TLSRPT_LOT_ROWS);
    cr_expect_eq(count_in(w->lots[0], TLSRPT_LOT_ROWS, FAULT_NONE), 2);
    cr_expect_eq(w->server.tlsrpt.numbers.good, 2 * TLSRPT_LOT_ROWS + 6);
}

Test(tlsrpt_count, lots_go_to_and_fro)
{
    for (unsigned round = 0; round < 5; round++) {
        count(round, FAULT_NONE);
        pass(LOT_MS + 1'000);
        cr_assert_eq(w->lots_count, 1, "round %u", round);
        cr_expect_eq(w->lots[0]->count, 1);
        cr_expect_eq(count_in(w->lots[0], round, FAULT_NONE), 1);
        give_back();
    }
}

Test(tlsrpt_count, all_zero_counts_nothing)
{
    struct tlsrpt_shard none = { .shard = NULL };
    const struct tlsrpt_row row = row_of(1, FAULT_NONE);
    tlsrpt_count(&none, &row);
    tlsrpt_count(NULL, &row);
    cr_assert_eq(none.numbers.good, 0);
    tlsrpt_shard_free(&none);
}
