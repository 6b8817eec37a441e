/*
 * test_recovery_table.c - every id finds its place, whichever of them there are
 */
#include "queue/recovery_table.h"

#include <criterion/criterion.h>

/* Of what is left in a log ids may be anything: all of one residue, too. */
Test(recovery_table, ids_far_apart_find_a_place)
{
    enum { IDS = 5'000 };
    for (uint64_t apart = 1; apart <= 1'024; apart *= 2) {
        struct recovery_table table;
        recovery_table_init(&table, NULL, NULL);
        for (uint64_t i = 1; i <= IDS; i++)
            cr_assert_eq(recovery_table_part(&table, i * apart), 0);
        cr_assert_eq(table.count, IDS, "%lu apart", apart);
        for (uint64_t i = 1; i <= IDS; i++)
            cr_assert_eq(recovery_table_part(&table, i * apart), 0);
        cr_assert_eq(table.count, IDS, "%lu apart", apart);
        recovery_table_free(&table);
    }
}
