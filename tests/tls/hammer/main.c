/*
 * main.c - the session id cache under ThreadSanitizer, which Criterion cannot be run in
 *
 * Usage: ringpost-hammer [THREADS [ROUNDS]]
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/tls/id_cache_hammer.h"

int main(int argc, char **argv)
{
    unsigned threads = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 4;
    unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 100'000;
    struct tls_id_cache_numbers numbers;
    if (threads == 0 || threads > HAMMER_THREADS_MAX) {
        fprintf(stderr, "1 to %d threads\n", HAMMER_THREADS_MAX);
        return 2;
    }
    uint64_t broken = id_cache_hammer(threads, rounds, &numbers);
    printf("%" PRIu64 " stored, %" PRIu64 " hits, %" PRIu64 " misses, %" PRIu64 " evicted, %" PRIu64
           " busy; %" PRIu64 " broken\n",
           numbers.stored, numbers.hits, numbers.misses, numbers.evicted, numbers.busy, broken);
    return broken == 0 && numbers.hits > 0 ? 0 : 1;
}
