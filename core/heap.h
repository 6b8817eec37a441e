/*
 * heap.h - what the allocator says of the memory that is taken in pieces: the TLS library's, DNS,
 * configurations
 *
 * Pools are not in it (core/memory.h counts those).
 */
#ifndef RINGPOST_CORE_HEAP_H
#define RINGPOST_CORE_HEAP_H

#include "core/compiler.h"

struct heap_numbers {
    uint64_t allocated; /* bytes that callers hold now */
    uint64_t resident;  /* bytes of the allocator's own, with what it keeps for callers to come */
};

/* By the allocator that the process has. From any thread; some microseconds, with its locks. */
struct heap_numbers heap_look(void);

#endif
