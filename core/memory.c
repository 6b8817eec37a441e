/*
 * memory.c - reservations, counted
 */
#include "core/memory.h"

#include <sys/mman.h>

#include "core/check.h"

static uint64_t reserved;

void *memory_reserve(size_t bytes)
{
    CHECK(bytes > 0);
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return NULL;
    __atomic_add_fetch(&reserved, bytes, __ATOMIC_RELAXED);
    return memory;
}

void memory_release(void *memory, size_t bytes)
{
    if (memory == NULL)
        return;
    munmap(memory, bytes);
    uint64_t before = __atomic_fetch_sub(&reserved, bytes, __ATOMIC_RELAXED);
    CHECK(before >= bytes);
}

uint64_t memory_reserved(void)
{
    return __atomic_load_n(&reserved, __ATOMIC_RELAXED);
}
