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
    uint64_t every;   /* only each so-many-th */
    uint64_t nth;     /* only this one, in this process; 0: all */
    uint64_t seconds; /* of a processor, that one run may take */
    unsigned jobs;
    bool verbose;
};

struct fail_each_numbers {
    uint64_t operations; /* of this kind in a run in which nothing fails */
    uint64_t runs;       /* in which one failed */
    uint64_t wrong;      /* of those; each was told */
};

/* "open read write ..": what --fail-each knows. */
const char *fail_each_names(void);
/* False: there is no such operation. */
bool fail_each(const struct fail_each *options, struct fail_each_numbers *numbers);

/* ---- fail_pool.c ---- */

/* Calls before each pool_take that may be refused, but for pauses; NULL: no more. */
void fail_pool_watch(void (*call)(void *argument), void *argument);
/* From inside that call: this one is refused. */
void fail_pool_now(void);
/* Meanwhile none is refused, nor counted: a start takes what it made room for. */
void fail_pool_pause(bool on);
/* No more than so many of this one pool at a time; one such order. */
void fail_pool_most(const char *pool, uint32_t most);

#endif
