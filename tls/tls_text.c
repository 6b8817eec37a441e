/*
 * tls_text.c - escaping, hex, dates; all of them into texts with a bound
 */
#include "tls/tls_text.h"

#include <stdio.h>
#include <time.h>

#include "core/check.h"

static const char hex_digits[] = "0123456789abcdef";

static size_t append(char *text, size_t capacity, size_t used, const char *format, va_list list)
    __attribute__((format(printf, 4, 0)));

static size_t append(char *text, size_t capacity, size_t used, const char *format, va_list list)
{
    CHECK(used < capacity);
    int length = vsnprintf(text + used, capacity - used, format, list);
    CHECK(length >= 0);
    return MIN(used + (size_t)length, capacity - 1);
}

void tls_why(char why[static TLS_WHY_MAX], const char *format, ...)
{
    va_list list;
    va_start(list, format);
    append(why, TLS_WHY_MAX, 0, format, list);
    va_end(list);
}

size_t tls_text_append(char *text, size_t capacity, size_t used, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    size_t length = append(text, capacity, used, format, list);
    va_end(list);
    return length;
}

size_t tls_text_escape(struct slice from, char *text, size_t capacity)
{
    CHECK(capacity > 0);
    size_t used = 0;
    for (size_t i = 0; i < from.size; i++) {
        uint8_t c = from.data[i];
        bool is_plain = c >= ' ' && c < 0x7f && c != '\\';
        size_t needed = is_plain ? 1 : 4;
        if (needed >= capacity - used)
            break;
        if (is_plain) {
            text[used] = (char)c;
        } else {
            const char escaped[] = { '\\', 'x', hex_digits[c >> 4], hex_digits[c & 15] };
            memcpy(text + used, escaped, sizeof(escaped));
        }
        used += needed;
    }
    text[used] = '\0';
    return used;
}

size_t tls_text_hex(struct slice from, char *text, size_t capacity)
{
    CHECK(capacity > 0);
    size_t count = MIN(from.size, (capacity - 1) / 2);
    for (size_t i = 0; i < count; i++) {
        text[2 * i] = hex_digits[from.data[i] >> 4];
        text[2 * i + 1] = hex_digits[from.data[i] & 15];
    }
    text[2 * count] = '\0';
    return 2 * count;
}

void tls_text_date(int64_t unix_seconds, char text[static TLS_TEXT_DATE_BYTES])
{
    time_t when = (time_t)unix_seconds;
    struct tm day;
    if (gmtime_r(&when, &day) == NULL || strftime(text, TLS_TEXT_DATE_BYTES, "%Y-%m-%d", &day) == 0)
        slice_to_string(SLICE("a year far away"), text, TLS_TEXT_DATE_BYTES);
}
