/*
 * fail_each.h - ringpost-sim --fail-each: the n-th operation of a kind fails, for each n of a run
 */
#ifndef RINGPOST_TESTS_SIM_FAIL_EACH_H
#define RINGPOST_TESTS_SIM_FAIL_EACH_H

#include <stdbool.h>
#include <stdint.h>

struct fail_each {
    const char *operation;
    uint32_t messages;
    unsigned shards;
    uint64_t seed;
};

/* "open read write ..": what --fail-each knows. */
const char *fail_each_names(void);
/* How many operations of this kind a run has in which nothing fails; 0: no such kind. What follows
 * is about these options. */
uint64_t fail_each_begin(const struct fail_each *options);
/* A run whose n-th (1, 2, ..) one fails, once to an orderly end and once to a power cut. How much
 * was wrong, which was said. */
unsigned fail_each_run(uint64_t n, bool verbose);

/* ---- fail_pool.c ---- */

/* From now on the n-th pool_take that may be refused is; UINT64_MAX: none. Counts anew. */
void fail_pool(uint64_t n);
uint64_t fail_pool_count(void);
/* No more than so many of this one pool at a time; one such order. */
void fail_pool_most(const char *pool, uint32_t most);
/* Meanwhile none is refused, nor counted: a start takes what it made room for. */
void fail_pool_pause(bool on);

#endif
