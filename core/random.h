/*
 * random.h - numbers that nobody should guess by accident, and that a seed can repeat
 *
 * xoshiro256**, seeded once per shard through the ring: from the kernel on a real one, from the
 * run's seed on a simulated one. For jitter, choice and identifiers; never for keys.
 */
#ifndef RINGPOST_CORE_RANDOM_H
#define RINGPOST_CORE_RANDOM_H

#include "core/compiler.h"

struct random {
    uint64_t state[4];
};

void random_seed(struct random *random, uint64_t seed);
uint64_t random_next(struct random *random);
/* Even over 0 to bound - 1; bound > 0. */
uint64_t random_below(struct random *random, uint64_t bound);

#endif
