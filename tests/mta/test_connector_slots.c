/*
 * test_connector_slots.c - slots of names: stable, bounded, given to others only when nobody is
 * left
 */
#include <criterion/criterion.h>
#include <stdio.h>

#include "mta/connector_slots.h"

enum { MAX = 8 };

static struct connector_slots slots;

static void setup(void)
{
    cr_assert_eq(connector_slots_init(&slots, MAX), 0);
}

static void teardown(void)
{
    connector_slots_free(&slots);
}

TestSuite(connector_slots, .init = setup, .fini = teardown);

static uint32_t take(unsigned number)
{
    char name[16];
    snprintf(name, sizeof(name), "c%u", number);
    return connector_slots_take(&slots, name);
}

static bool is_even(void *owner, uint32_t slot)
{
    (void)owner;
    return slot % 2 == 0;
}

Test(connector_slots, nobody_has_one_at_first)
{
    cr_assert_eq(connector_slots_find(&slots, "bank"), 0);
    cr_assert_str_eq(slots.names[0], "");
}

Test(connector_slots, a_name_keeps_its_slot)
{
    uint32_t bank = connector_slots_take(&slots, "bank");
    uint32_t store = connector_slots_take(&slots, "store");
    cr_assert_neq(bank, 0);
    cr_assert_neq(bank, store);
    cr_assert_eq(connector_slots_take(&slots, "bank"), bank);
    cr_assert_eq(connector_slots_find(&slots, "store"), store);
    cr_assert_str_eq(slots.names[store], "store");
}

Test(connector_slots, are_as_many_as_there_are)
{
    for (unsigned i = 1; i < MAX; i++)
        cr_assert_eq(take(i), i);
    cr_assert_eq(take(MAX), 0);
    cr_assert_eq(take(MAX), 0);
    cr_assert_eq(take(3), 3);
}

Test(connector_slots, a_sweep_frees_those_of_nobody)
{
    for (unsigned i = 1; i < MAX; i++)
        take(i);
    connector_slots_sweep(&slots, is_even, NULL);
    cr_assert_eq(connector_slots_find(&slots, "c2"), 2);
    cr_assert_eq(connector_slots_find(&slots, "c1"), 0);
    bool seen[MAX] = { false };
    for (unsigned i = 1; i < MAX; i += 2) {
        uint32_t slot = take(100 + i);
        cr_assert_eq(slot % 2, 1, "slot %u", slot);
        cr_assert_not(seen[slot]);
        seen[slot] = true;
    }
    cr_assert_eq(take(200), 0);
    cr_assert_eq(connector_slots_find(&slots, "c6"), 6);
    connector_slots_sweep(&slots, is_even, NULL);
    cr_assert_eq(take(200) % 2, 1);
}
