/*
 * compiler.h - what the rest of the code takes for granted of the language
 *
 * gnu2x as gcc 12 and clang 14 speak it: attributes, digit separators, static_assert.
 */
#ifndef RINGPOST_CORE_COMPILER_H
#define RINGPOST_CORE_COMPILER_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define container_of(pointer, type, member)                                                        \
    ((type *)(void *)((char *)(pointer)-offsetof(type, member)))
#define ARRAY_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define LIKELY(x) __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#endif
