/*
 * test_heap.c - what is held is told, whichever allocator there is
 */
#include "core/heap.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

enum { PIECES = 1'000, PIECE_BYTES = 1'000 };

Test(heap, what_is_held_is_told_until_it_is_given_back)
{
    void *pieces[PIECES];
    const struct heap_numbers before = heap_look();
    for (unsigned i = 0; i < PIECES; i++) {
        pieces[i] = malloc(PIECE_BYTES);
        cr_assert_not_null(pieces[i]);
        memset(pieces[i], 1, PIECE_BYTES);
    }
    const struct heap_numbers held = heap_look();
    for (unsigned i = 0; i < PIECES; i++)
        free(pieces[i]);
    const struct heap_numbers after = heap_look();
    cr_assert_geq(held.allocated, before.allocated + (uint64_t)PIECES * PIECE_BYTES);
    cr_assert_geq(held.resident, (uint64_t)PIECES * PIECE_BYTES);
    /* Whatever else is counted beside them: less than one of three. */
    cr_assert_leq(after.allocated, held.allocated - (uint64_t)PIECES * PIECE_BYTES * 2 / 3);
}
