/*
 * seed.h - one seed of ringpost-sim
 */
#ifndef RINGPOST_TESTS_SIM_SEED_H
#define RINGPOST_TESTS_SIM_SEED_H

#include <stdbool.h>
#include <stdint.h>

/* How much was wrong, which was said. verbose: what happens is told. */
unsigned seed_run(uint64_t seed, bool verbose);
/* Each such seed is run twice from now on, and must be the same run both times; 0: none. */
void seed_repeat(uint64_t every);

#endif
