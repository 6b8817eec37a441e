/*
 * tlsrpt_txt.c - v=TLSRPTv1; rua=mailto:reports@example.org,https://example.org/tlsrpt
 *
 * Fields are told apart by ";", URIs by ","; "!" and these are %-encoded in a URI. One "rua" there
 * must be; of several the first counts. What other fields say is not known, and passes.
 */
#include "mta/tlsrpt_txt.h"

#include "mta/address.h"
#include "mta/txt_record.h"

enum { TEXT_MAX = 2'048 };

/* RFC 3986: a scheme, and octets that a URI may have. */
static bool uri_ok(struct slice uri)
{
    static const char others[] = "-._~:/?#[]@$&'()*+=%";
    ptrdiff_t colon = slice_find(uri, ':');
    if (colon <= 0 || (size_t)colon + 1 == uri.size || !txt_is_alnum(uri.data[0]))
        return false;
    for (size_t i = 0; i < uri.size; i++)
        if (!txt_is_alnum(uri.data[i]) &&
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
        const struct slice uri = txt_trim(txt_take_until(&value, ','));
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
        struct slice value = txt_trim(txt_take_until(&text, ';'));
        if (value.size == 0 && txt_trim(text).size == 0)
            break; /* the last ";" */
        const bool has_value = slice_find(value, '=') >= 0;
        const struct slice name = txt_trim(txt_take_until(&value, '='));
        const bool is_rua = slice_equal(name, SLICE("rua"));
        value = txt_trim(value);
        if (!has_value || !txt_name_ok(name) || (!is_rua && !txt_value_ok(value)))
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
    uris->count = 0;
    ptrdiff_t size = txt_join(rdata, bytes, sizeof(bytes));
    if (size <= 0)
        return TLSRPT_TXT_OTHER;
    struct slice text = slice_of(bytes, (size_t)size);
    if (bytes[0] != 'v' || slice_find(text, ';') < 0 ||
        !slice_equal(txt_trim(txt_take_until(&text, ';')), SLICE("v=TLSRPTv1")))
        return TLSRPT_TXT_OTHER; /* records that do not begin "v=TLSRPTv1;" are left out */
    return fields_read(text, uris);
}

/* -1: none. */
static int hex_value(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

bool tlsrpt_mailbox(const char *uri, char mailbox[static TLSRPT_URI_MAX])
{
    struct address address;
    size_t size = 0;
    const char *at = uri + strlen("mailto:");
    if (!slice_starts_nocase(slice_of_string(uri), SLICE("mailto:")))
        return false;
    for (; *at != '\0' && *at != '?' && size + 1 < TLSRPT_URI_MAX; at++) {
        int octet = (uint8_t)*at;
        if (*at == '%') {
            if (hex_value(at[1]) < 0 || hex_value(at[2]) < 0)
                return false;
            octet = 16 * hex_value(at[1]) + hex_value(at[2]);
            at += 2;
        }
        if (octet <= ' ' || octet > '~')
            return false;
        mailbox[size++] = (char)octet;
    }
    mailbox[size] = '\0';
    return (*at == '\0' || *at == '?') &&
           address_parse(slice_of(mailbox, size), 0, &address) == ADDRESS_OK;
}
