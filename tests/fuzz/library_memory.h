/*
 * library_memory.h - BoringSSL's memory while it is fuzzed: fast, closely watched, and turned back
 */
#ifndef RINGPOST_TESTS_FUZZ_LIBRARY_MEMORY_H
#define RINGPOST_TESTS_FUZZ_LIBRARY_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

struct library_memory;

/* One more, empty; as many as LIBRARY_MEMORIES_MAX. */
enum { LIBRARY_MEMORIES_MAX = 8 };
struct library_memory *library_memory_new(void);
/* What anybody asks for from now on comes from this one, and only that may be given back. NULL:
 * what BoringSSL asks for comes from the first one, all else from malloc. */
void library_memory_use(struct library_memory *memory);
/* Octets of the first one that were not given back. */
size_t library_memory_bytes(void);

/* Whether there can be more than the first one: not with the system's shared library. */
bool library_memory_is_here(void);
/* Remembers all that is in it, once; and makes it so again. What others have of it must be as it
 * was then, and what it has of others. */
void library_memory_keep(struct library_memory *memory);
void library_memory_restore(struct library_memory *memory);

#endif
