/*
 * library_memory.c - memory of libraries while they are fuzzed: fast, watched, and turned back
 *
 * A handshake asks for memory a thousand times, a configuration some hundred, and most of that time
 * under AddressSanitizer is its malloc. Here are pieces of a power of two from an arena, poisoned
 * but for what was asked for. Before an octet that was lent, a head is out of bounds; behind it, a
 * tail; and a piece that was given back is, until QUARANTINE others of its size have followed it.
 *
 *   arena --carved--> lent --given back--> waiting (first in, first out)
 *                       ^                     |
 *                       '-QUARANTINE behind it'
 *
 * The first arena is BoringSSL's, which asks OPENSSL_memory_alloc where a program has it. While
 * another one is in use, malloc and friends take from it as well, of all that is linked statically
 * (--wrap, tests/meson.build). One that is for keeps can be turned back to what it was, with what
 * AddressSanitizer knows of it: two sessions that have shaken hands are there again in the time of
 * copying them.
 *
 * One thread's. Bounds: ARENA_BYTES of each, PIECE_MAX_SHIFT; beyond them a CHECK. No leak is
 * AddressSanitizer's to find: library_memory_bytes tells.
 */
#include "tests/fuzz/library_memory.h"

#include <sanitizer/asan_interface.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "core/compiler.h"

enum {
    ARENA_BYTES = 8 << 20,
    HEAD_BYTES = 16,
    TAIL_BYTES = 16,
    PIECE_MIN_SHIFT = 6,
    PIECE_MAX_SHIFT = 20,
    SMALL_SHIFT = 9,
    QUARANTINE_SMALL = 128,
    QUARANTINE = 32,
    LENT_MAX = 1 << 16, /* of malloc's */
};

/* BoringSSL looks for these by name. */
void *OPENSSL_memory_alloc(size_t size);
void OPENSSL_memory_free(void *pointer);
size_t OPENSSL_memory_get_size(void *pointer);

/* The linker's: absent where nothing was wrapped. */
void *__real_malloc(size_t size) __attribute__((weak));
void *__real_calloc(size_t count, size_t size) __attribute__((weak));
void *__real_realloc(void *pointer, size_t size) __attribute__((weak));
void __real_free(void *pointer) __attribute__((weak));
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *pointer, size_t size);
void *__wrap_reallocarray(void *pointer, size_t count, size_t size);
char *__wrap_strndup(const char *text, size_t most);
char *__wrap_strdup(const char *text);
void __wrap_free(void *pointer);

struct head {
    struct head *next; /* that waits behind it; lent: itself */
    size_t size;
};
static_assert(sizeof(struct head) == HEAD_BYTES);

struct waiting {
    struct head *first, *last;
    unsigned count;
};

struct books {
    struct waiting waiting[PIECE_MAX_SHIFT + 1];
    size_t carved_bytes, lent_bytes;
};

struct library_memory {
    _Alignas(64) uint8_t arena[ARENA_BYTES];
    bool is_for_keeps;
    struct books books, kept;
    uint64_t *arena_kept, *shadow_kept;
};

static struct library_memory memories[LIBRARY_MEMORIES_MAX];
static unsigned memories_count = 1;
static struct library_memory *here = &memories[0];

static bool is_first(void)
{
    return here == &memories[0];
}

/* Heads, and what else is poisoned, are out of bounds for everybody but these. */
#define BLIND __attribute__((no_sanitize("address")))

typedef uint64_t block __attribute__((vector_size(32), aligned(8)));

/* volatile: else it becomes memcpy, which looks. */
BLIND static void copy(uint64_t *to, const uint64_t *from, size_t bytes)
{
    size_t blocks = bytes / sizeof(block);
    volatile block *to_block = (volatile block *)to;
    const volatile block *from_block = (const volatile block *)from;
    for (size_t i = 0; i < blocks; i++)
        to_block[i] = from_block[i];
    for (size_t i = blocks * sizeof(block); i < bytes; i += sizeof(*to))
        *(volatile uint64_t *)(to + i / sizeof(*to)) =
            *(const volatile uint64_t *)(from + i / sizeof(*to));
}

BLIND static struct head *take(struct waiting *w)
{
    struct head *head = w->first;
    w->first = head->next;
    w->count--;
    return head;
}

BLIND static void give_back(struct waiting *w, struct head *head)
{
    CHECK(head->next == head); /* lent, and given back for the first time */
    head->next = NULL;
    if (w->first == NULL)
        w->first = head;
    else
        w->last->next = head;
    w->last = head;
    w->count++;
}

BLIND static void lend(struct head *head, size_t size)
{
    head->next = head;
    head->size = size;
}

BLIND static size_t size_of(const struct head *head)
{
    return head->size;
}

/* ---- pieces ---- */

static unsigned shift_of(size_t size)
{
    size_t bytes = HEAD_BYTES + size + TAIL_BYTES;
    unsigned shift = PIECE_MIN_SHIFT;
    while (bytes > (size_t)1 << shift)
        shift++;
    CHECK(shift <= PIECE_MAX_SHIFT);
    return shift;
}

static struct head *carve(unsigned shift)
{
    size_t bytes = (size_t)1 << shift;
    CHECK(bytes <= ARENA_BYTES - here->books.carved_bytes);
    struct head *head = (struct head *)(void *)(here->arena + here->books.carved_bytes);
    here->books.carved_bytes += bytes;
    ASAN_POISON_MEMORY_REGION(head, bytes);
    return head;
}

/* None in what is about to be kept: there is less of it to copy. */
static unsigned quarantine(unsigned shift)
{
    if (here->is_for_keeps && here->arena_kept == NULL)
        return 0;
    return shift <= SMALL_SHIFT ? QUARANTINE_SMALL : QUARANTINE;
}

void *OPENSSL_memory_alloc(size_t size)
{
    unsigned shift = shift_of(size);
    struct waiting *w = &here->books.waiting[shift];
    struct head *head = w->count > quarantine(shift) ? take(w) : carve(shift);
    lend(head, size);
    ASAN_UNPOISON_MEMORY_REGION(head + 1, size);
    here->books.lent_bytes += size;
    return head + 1;
}

void OPENSSL_memory_free(void *pointer)
{
    struct head *head = (struct head *)pointer - 1;
    CHECK((uint8_t *)head >= here->arena && (uint8_t *)head < here->arena + ARENA_BYTES);
    size_t size = size_of(head);
    here->books.lent_bytes -= size;
    ASAN_POISON_MEMORY_REGION(pointer, size);
    give_back(&here->books.waiting[shift_of(size)], head);
}

size_t OPENSSL_memory_get_size(void *pointer)
{
    return size_of((const struct head *)pointer - 1);
}

/* ---- whoever asks, while an arena of its own is in use ---- */

static bool is_ours(const void *pointer)
{
    const uint8_t *at = pointer;
    return at >= here->arena && at < here->arena + ARENA_BYTES;
}

void *__wrap_malloc(size_t size)
{
    return is_first() || size > LENT_MAX ? __real_malloc(size) : OPENSSL_memory_alloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    if (is_first() || count > LENT_MAX || size > LENT_MAX || count * size > LENT_MAX)
        return __real_calloc(count, size);
    void *pointer = OPENSSL_memory_alloc(count * size);
    return memset(pointer, 0, count * size);
}

/* What the C library has made is given back to it. */
void __wrap_free(void *pointer)
{
    if (is_first() || !is_ours(pointer))
        __real_free(pointer);
    else
        OPENSSL_memory_free(pointer);
}

void *__wrap_realloc(void *pointer, size_t size)
{
    if (pointer == NULL)
        return __wrap_malloc(size);
    if (is_first() || !is_ours(pointer))
        return __real_realloc(pointer, size);
    void *other = __wrap_malloc(size);
    memcpy(other, pointer, MIN(size, OPENSSL_memory_get_size(pointer)));
    OPENSSL_memory_free(pointer);
    return other;
}

void *__wrap_reallocarray(void *pointer, size_t count, size_t size)
{
    size_t bytes;
    return __builtin_mul_overflow(count, size, &bytes) ? NULL : __wrap_realloc(pointer, bytes);
}

char *__wrap_strndup(const char *text, size_t most)
{
    size_t size = strnlen(text, most);
    char *copied = __wrap_malloc(size + 1);
    memcpy(copied, text, size);
    copied[size] = '\0';
    return copied;
}

char *__wrap_strdup(const char *text)
{
    return __wrap_strndup(text, SIZE_MAX);
}

/* ---- arenas ---- */

bool library_memory_is_here(void)
{
    return __real_malloc != NULL;
}

struct library_memory *library_memory_new(bool is_for_keeps)
{
    CHECK(memories_count < LIBRARY_MEMORIES_MAX);
    struct library_memory *memory = &memories[memories_count++];
    memory->is_for_keeps = is_for_keeps;
    return memory;
}

void library_memory_use(struct library_memory *memory)
{
    here = memory == NULL ? &memories[0] : memory;
}

size_t library_memory_bytes(const struct library_memory *memory)
{
    return memory == NULL ? memories[0].books.lent_bytes : memory->books.lent_bytes;
}

#if __has_feature(address_sanitizer)
void __asan_get_shadow_mapping(size_t *scale, size_t *offset);

/* What AddressSanitizer knows of the arena, and how many octets that is. */
static uint64_t *shadow_of(const struct library_memory *memory, size_t *bytes)
{
    size_t scale, offset;
    __asan_get_shadow_mapping(&scale, &offset);
    *bytes = *bytes >> scale;
    return (uint64_t *)(((uintptr_t)memory->arena >> scale) + offset);
}
#else
static uint64_t *shadow_of(const struct library_memory *memory, size_t *bytes)
{
    (void)memory;
    *bytes = 0;
    return NULL;
}
#endif

void library_memory_keep(struct library_memory *memory)
{
    CHECK(memory->arena_kept == NULL && here != memory);
    size_t bytes = memory->books.carved_bytes, shadow_bytes = bytes;
    const uint64_t *shadow = shadow_of(memory, &shadow_bytes);
    memory->kept = memory->books;
    memory->arena_kept = malloc(bytes + 1);
    memory->shadow_kept = malloc(shadow_bytes + 1);
    CHECK(memory->arena_kept != NULL && memory->shadow_kept != NULL);
    copy(memory->arena_kept, (const uint64_t *)(const void *)memory->arena, bytes);
    copy(memory->shadow_kept, shadow, shadow_bytes);
}

/* What was carved since is poisoned when it is carved again. */
void library_memory_restore(struct library_memory *memory)
{
    CHECK(memory->arena_kept != NULL);
    size_t bytes = memory->kept.carved_bytes, shadow_bytes = bytes;
    uint64_t *shadow = shadow_of(memory, &shadow_bytes);
    memory->books = memory->kept;
    copy((uint64_t *)(void *)memory->arena, memory->arena_kept, bytes);
    copy(shadow, memory->shadow_kept, shadow_bytes);
}
