/*
 * slice.c - comparing and converting borrowed bytes
 */
#include "core/slice.h"

#include <errno.h>

bool slice_equal_nocase(struct slice a, struct slice b)
{
    if (a.size != b.size)
        return false;
    for (size_t i = 0; i < a.size; i++)
        if (ascii_lower(a.data[i]) != ascii_lower(b.data[i]))
            return false;
    return true;
}

bool slice_starts_nocase(struct slice s, struct slice prefix)
{
    return s.size >= prefix.size && slice_equal_nocase(slice_part(s, 0, prefix.size), prefix);
}

bool slice_ends_nocase(struct slice s, struct slice suffix)
{
    return s.size >= suffix.size && slice_equal_nocase(slice_from(s, s.size - suffix.size), suffix);
}

ptrdiff_t slice_find(struct slice s, uint8_t octet)
{
    const uint8_t *at = s.size == 0 ? NULL : memchr(s.data, octet, s.size);
    return at == NULL ? -1 : at - s.data;
}

void slice_to_string(struct slice s, char *target, size_t capacity)
{
    if (capacity == 0)
        return;
    size_t size = MIN(s.size, capacity - 1);
    if (size > 0)
        memcpy(target, s.data, size);
    target[size] = '\0';
}

int slice_to_u64(struct slice s, uint64_t max, uint64_t *value)
{
    uint64_t sum = 0;
    if (s.size == 0)
        return -EINVAL;
    for (size_t i = 0; i < s.size; i++) {
        if (s.data[i] < '0' || s.data[i] > '9')
            return -EINVAL;
        unsigned digit = (unsigned)(s.data[i] - '0');
        if (__builtin_mul_overflow(sum, 10, &sum) || __builtin_add_overflow(sum, digit, &sum))
            return -ERANGE;
        if (sum > max)
            return -ERANGE;
    }
    *value = sum;
    return 0;
}
