/*
 * library_memory.h - memory of libraries while they are fuzzed: fast, watched, and turned back
 */
#ifndef RINGPOST_TESTS_FUZZ_LIBRARY_MEMORY_H
#define RINGPOST_TESTS_FUZZ_LIBRARY_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

struct library_memory;

enum { LIBRARY_MEMORIES_MAX = 8 };
/* Whether there can be more than the first one: not with the system's shared BoringSSL. */
bool library_memory_is_here(void);
/* One more, empty. */
struct library_memory *library_memory_new(bool is_for_keeps);
/* What anybody asks for from now on comes from this one. NULL: what BoringSSL asks for comes from
 * the first one, all else from malloc. */
void library_memory_use(struct library_memory *memory);
/* Octets that were not given back. NULL: of the first one. */
size_t library_memory_bytes(const struct library_memory *memory);

/* Remembers all that is in it, once; and makes it so again. What others have of it must be as it
 * was then, and what it has of others. */
void library_memory_keep(struct library_memory *memory);
void library_memory_restore(struct library_memory *memory);

#endif
