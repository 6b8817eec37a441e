/*
 * test_memory.c - what is reserved is counted
 */
#include "core/memory.h"

#include <criterion/criterion.h>
#include <signal.h>

#include "core/pool.h"

Test(memory, what_is_reserved_is_counted_until_it_is_released)
{
    const uint64_t before = memory_reserved();
    uint8_t *memory = memory_reserve(1 << 20);
    cr_assert_not_null(memory);
    cr_assert_eq(memory[0] + memory[(1 << 20) - 1], 0);
    struct pool pool;
    cr_assert_eq(pool_init(&pool, "test", 100, 1'000), 0);
    cr_assert_eq(memory_reserved() - before, (1 << 20) + 112 * 1'000);
    pool_free(&pool);
    memory_release(memory, 1 << 20);
    memory_release(NULL, 1 << 20);
    cr_assert_eq(memory_reserved(), before);
}

Test(memory, what_cannot_be_had_is_not_counted)
{
    const uint64_t before = memory_reserved();
    cr_assert_null(memory_reserve(SIZE_MAX / 2));
    cr_assert_eq(memory_reserved(), before);
}

Test(memory, releasing_more_than_was_reserved_is_our_mistake, .signal = SIGABRT)
{
    uint8_t *memory = memory_reserve(4'096);
    memory_release(memory, 4'096);
    memory_release(memory, (size_t)memory_reserved() + 1);
}
