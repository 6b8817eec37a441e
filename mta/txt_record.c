/*
 * txt_record.c - names, values and strings of TXT records
 */
#include "mta/txt_record.h"

#include <errno.h>

enum { NAME_MAX_BYTES = 32 };

bool txt_is_alnum(uint8_t c)
{
    return (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

struct slice txt_trim(struct slice s)
{
    while (s.size > 0 && is_blank(s.data[0]))
        s = slice_from(s, 1);
    while (s.size > 0 && is_blank(s.data[s.size - 1]))
        s.size--;
    return s;
}

struct slice txt_take_until(struct slice *s, uint8_t octet)
{
    ptrdiff_t at = slice_find(*s, octet);
    size_t size = at < 0 ? s->size : (size_t)at;
    struct slice part = slice_part(*s, 0, size);
    *s = slice_from(*s, at < 0 ? size : size + 1);
    return part;
}

bool txt_name_ok(struct slice name)
{
    if (name.size == 0 || name.size > NAME_MAX_BYTES || !txt_is_alnum(name.data[0]))
        return false;
    for (size_t i = 1; i < name.size; i++)
        if (!txt_is_alnum(name.data[i]) && name.data[i] != '_' && name.data[i] != '-' &&
            name.data[i] != '.')
            return false;
    return true;
}

bool txt_value_ok(struct slice value)
{
    for (size_t i = 0; i < value.size; i++)
        if (value.data[i] <= ' ' || value.data[i] > '~' || value.data[i] == '=')
            return false;
    return value.size > 0;
}

ptrdiff_t txt_join(struct slice rdata, uint8_t *out, size_t capacity)
{
    size_t size = 0;
    while (rdata.size > 0) {
        struct slice part = slice_part(rdata, 1, rdata.data[0]);
        if (part.size != rdata.data[0] || size + part.size > capacity)
            return -EINVAL;
        memcpy(out + size, part.data, part.size);
        size += part.size;
        rdata = slice_from(rdata, 1 + part.size);
    }
    return (ptrdiff_t)size;
}
