/*
 * heap.c - jemalloc, a sanitizer's allocator or the C library's: whichever malloc is
 *
 * The allocator is chosen when the program is linked, or started (LD_PRELOAD). So it is asked by
 * weak names: the one that is there answers. A sanitizer replaces malloc of whatever is linked.
 */
#include "core/heap.h"

#include <malloc.h>

int mallctl(const char *name, void *old, size_t *old_size, void *new, size_t new_size)
    __attribute__((weak));
size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));
size_t __sanitizer_get_heap_size(void) __attribute__((weak));

/* 0: jemalloc was made without statistics. */
static uint64_t jemalloc_number(const char *name)
{
    size_t number = 0;
    size_t size = sizeof(number);
    return mallctl(name, &number, &size, NULL, 0) == 0 ? number : 0;
}

struct heap_numbers heap_look(void)
{
    if (__sanitizer_get_current_allocated_bytes != NULL && __sanitizer_get_heap_size != NULL)
        return (struct heap_numbers) { __sanitizer_get_current_allocated_bytes(),
                                       __sanitizer_get_heap_size() };
    if (mallctl != NULL) {
        uint64_t epoch = 1;
        size_t size = sizeof(epoch);
        (void)mallctl("epoch", &epoch, &size, &epoch, size); /* else the numbers are old ones */
        return (struct heap_numbers) { jemalloc_number("stats.allocated"),
                                       jemalloc_number("stats.resident") };
    }
    const struct mallinfo2 info = mallinfo2();
    return (struct heap_numbers) { info.uordblks + info.hblkhd, info.arena + info.hblkhd };
}
