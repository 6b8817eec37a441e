/*
 * test_random.c - a seed repeats its numbers, and numbers are spread evenly
 */
#include "core/random.h"

#include <criterion/criterion.h>
#include <signal.h>

Test(random, below_nothing_is_a_mistake, .signal = SIGABRT)
{
    struct random random;
    random_seed(&random, 1);
    (void)random_below(&random, 0);
}

Test(random, known_numbers)
{
    /* xoshiro256** from the state 1, 2, 3, 4: its authors' first outputs */
    struct random random = { .state = { 1, 2, 3, 4 } };
    static const uint64_t want[] = { 11520, 0, 1509978240, 1215971899390074240 };
    for (unsigned i = 0; i < ARRAY_COUNT(want); i++)
        cr_assert_eq(random_next(&random), want[i]);
}

Test(random, a_seed_repeats_and_another_differs)
{
    struct random a;
    struct random b;
    struct random c;
    random_seed(&a, 7);
    random_seed(&b, 7);
    random_seed(&c, 8);
    unsigned same = 0;
    for (unsigned i = 0; i < 1000; i++) {
        uint64_t number = random_next(&a);
        cr_assert_eq(number, random_next(&b));
        same += number == random_next(&c);
    }
    cr_assert_eq(same, 0);
    random_seed(&a, 0);
    cr_assert_neq(random_next(&a), 0);
}

Test(random, below_is_even_and_below)
{
    enum { FACES = 6, THROWS = 60'000 };
    struct random random;
    unsigned count[FACES] = { 0 };
    random_seed(&random, 3);
    for (unsigned i = 0; i < THROWS; i++) {
        uint64_t number = random_below(&random, FACES);
        cr_assert_lt(number, FACES);
        count[number]++;
    }
    for (unsigned i = 0; i < FACES; i++) /* five standard deviations */
        cr_assert(count[i] > 10'000 - 460 && count[i] < 10'000 + 460, "%u: %u", i, count[i]);
    cr_assert_eq(random_below(&random, 1), 0);
}
