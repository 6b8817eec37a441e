/*
 * tlsrpt_txt.c - v=TLSRPTv1; rua=mailto:reports@example.org,https://example.org/tlsrpt
 *
 * Fields are told apart by ";", URIs by ","; "!" and these are %-encoded in a URI. One "rua" there
 * must be; of several the first counts. What other fields say is not known, and passes.
 */
#include "mta/tlsrpt_txt.h"

enum { TEXT_MAX = 2'048, FIELD_NAME_MAX = 32 };

static bool is_alnum(uint8_t c)
{
    return (c >= '0' && c <= '9') || (ascii_lower(c) >= 'a' && ascii_lower(c) <= 'z');
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

static struct slice trim(struct slice s)
{
    while (s.size > 0 && is_blank(s.data[0]))
        s = slice_from(s, 1);
    while (s.size > 0 && is_blank(s.data[s.size - 1]))
        s.size--;
    return s;
}

/* Up to the octet, which is left out of both; all of it when there is none. */
static struct slice take_until(struct slice *s, uint8_t octet)
{
    ptrdiff_t at = slice_find(*s, octet);
    size_t size = at < 0 ? s->size : (size_t)at;
    struct slice part = slice_part(*s, 0, size);
    *s = slice_from(*s, at < 0 ? size : size + 1);
    return part;
}

static bool name_ok(struct slice name)
{
    if (name.size == 0 || name.size > FIELD_NAME_MAX || !is_alnum(name.data[0]))
        return false;
    for (size_t i = 0; i < name.size; i++)
        if (!is_alnum(name.data[i]) && name.data[i] != '_' && name.data[i] != '-' &&
            name.data[i] != '.')
            return false;
    return true;
}

static bool value_ok(struct slice value)
{
    for (size_t i = 0; i < value.size; i++)
        if (value.data[i] <= ' ' || value.data[i] > '~' || value.data[i] == '=')
            return false;
    return value.size > 0;
}

/* RFC 3986: a scheme, and octets that a URI may have. */
static bool uri_ok(struct slice uri)
{
    static const char others[] = "-._~:/?#[]@$&'()*+=%";
    ptrdiff_t colon = slice_find(uri, ':');
    if (colon <= 0 || (size_t)colon + 1 == uri.size || !is_alnum(uri.data[0]))
        return false;
    for (size_t i = 0; i < uri.size; i++)
        if (!is_alnum(uri.data[i]) &&
            slice_find(slice_of(others, sizeof(others) - 1), uri.data[i]) < 0)
            return false;
    return true;
}

static void keep(struct slice uri, struct tlsrpt_uris *uris)
{
    const bool mailto = slice_starts_nocase(uri, SLICE("mailto:"));
    const bool https = slice_starts_nocase(uri, SLICE("https://"));
    if ((!mailto && !https) || uri.size >= TLSRPT_URI_MAX || uris->count == TLSRPT_URIS_MAX)
        return;
    struct tlsrpt_uri *kept = &uris->uris[uris->count++];
    kept->scheme = mailto ? TLSRPT_MAILTO : TLSRPT_HTTPS;
    slice_to_string(uri, kept->text, sizeof(kept->text));
}

static bool rua_read(struct slice value, struct tlsrpt_uris *uris)
{
    bool more = true;
    while (more) {
        more = slice_find(value, ',') >= 0;
        const struct slice uri = trim(take_until(&value, ','));
        if (!uri_ok(uri))
            return false;
        keep(uri, uris);
    }
    return true;
}

static enum tlsrpt_txt fields_read(struct slice text, struct tlsrpt_uris *uris)
{
    bool found = false;
    while (text.size > 0) {
        struct slice value = trim(take_until(&text, ';'));
        if (value.size == 0 && trim(text).size == 0)
            break; /* the last ";" */
        const bool has_value = slice_find(value, '=') >= 0;
        const struct slice name = trim(take_until(&value, '='));
        const bool is_rua = slice_equal(name, SLICE("rua"));
        value = trim(value);
        if (!has_value || !name_ok(name) || (!is_rua && !value_ok(value)))
            return TLSRPT_TXT_INVALID;
        if (is_rua && !found && !rua_read(value, uris))
            return TLSRPT_TXT_INVALID;
        found = found || is_rua;
    }
    return found ? TLSRPT_TXT_VALID : TLSRPT_TXT_INVALID;
}

enum tlsrpt_txt tlsrpt_txt_read(struct slice rdata, struct tlsrpt_uris *uris)
{
    uint8_t bytes[TEXT_MAX];
    size_t size = 0;
    uris->count = 0;
    while (rdata.size > 0) { /* strings that are one text */
        struct slice part = slice_part(rdata, 1, rdata.data[0]);
        if (part.size != rdata.data[0] || size + part.size > sizeof(bytes))
            return TLSRPT_TXT_OTHER;
        memcpy(bytes + size, part.data, part.size);
        size += part.size;
        rdata = slice_from(rdata, 1 + part.size);
    }
    struct slice text = slice_of(bytes, size);
    if (size == 0 || bytes[0] != 'v' || slice_find(text, ';') < 0 ||
        !slice_equal(trim(take_until(&text, ';')), SLICE("v=TLSRPTv1")))
        return TLSRPT_TXT_OTHER; /* records that do not begin "v=TLSRPTv1;" are left out */
    return fields_read(text, uris);
}
