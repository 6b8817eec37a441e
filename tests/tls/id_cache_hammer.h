/*
 * id_cache_hammer.h - many threads in few slots of the session id cache
 */
#ifndef RINGPOST_TESTS_TLS_ID_CACHE_HAMMER_H
#define RINGPOST_TESTS_TLS_ID_CACHE_HAMMER_H

#include "tls/tls_id_cache.h"

enum { HAMMER_THREADS_MAX = 16 };

/* Each thread puts, gets and removes at random, rounds times. *numbers is the sum of theirs. How
 * many sessions were found that nobody ever put in, in one piece, under that id: must be 0. */
uint64_t id_cache_hammer(unsigned threads, unsigned rounds, struct tls_id_cache_numbers *numbers);

#endif
