/*
 * memory.h - address space taken at start, and how much of it there is
 *
 * Pages are touched as they are used. What is reserved is the most that a process may take for
 * what it keeps in pools, caches and buffers; the sum of all of it is known, and exported.
 */
#ifndef RINGPOST_CORE_MEMORY_H
#define RINGPOST_CORE_MEMORY_H

#include "core/compiler.h"

/* Zeros, at a page's start. NULL: there is no address space left. */
[[nodiscard]] void *memory_reserve(size_t bytes);
/* The same number of bytes. NULL is harmless. */
void memory_release(void *memory, size_t bytes);
/* In this process, now. From any thread. */
uint64_t memory_reserved(void);

#endif
