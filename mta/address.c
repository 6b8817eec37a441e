/*
 * address.c - mailboxes and paths of an envelope
 *
 * path_parse walks "<", route, local part, "@", domain, ">" once from left to right; each part is
 * found by its own grammar, never by searching for a later "@" or ">". Length limits and UTF-8 are
 * judged when the whole is known, so that ADDRESS_NEEDS_UTF8 says the rest is right.
 *
 * Owns nothing, borrows the line. Bounds: the ADDRESS_ limits. Surprises: a domain whose last label
 * is all digits is refused (RFC 1123 2.1: it would be an address without brackets, and a resolver
 * may take it for one); one with an empty label or a trailing dot too.
 */
#include "mta/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <idn2.h>

#include "core/check.h"

enum {
    IS_ATEXT = 1 << 0, /* RFC 5321 4.1.2 Atom */
    IS_LABEL = 1 << 1, /* letters, digits, hyphen, and the underscore */
    IS_DIGIT = 1 << 2,
    IS_IP = 1 << 3, /* what an address is written with */
    IS_HIGH = 1 << 4,
};

static const uint8_t classes[256] = {
    ['0' ... '9'] = IS_ATEXT | IS_LABEL | IS_DIGIT | IS_IP,
    ['a' ... 'f'] = IS_ATEXT | IS_LABEL | IS_IP,
    ['g' ... 'z'] = IS_ATEXT | IS_LABEL,
    ['A' ... 'F'] = IS_ATEXT | IS_LABEL | IS_IP,
    ['G' ... 'Z'] = IS_ATEXT | IS_LABEL,
    ['-'] = IS_ATEXT | IS_LABEL,
    ['_'] = IS_ATEXT | IS_LABEL,
    ['.'] = IS_IP,
    [':'] = IS_IP,
    ['!'] = IS_ATEXT,
    ['#'] = IS_ATEXT,
    ['$'] = IS_ATEXT,
    ['%'] = IS_ATEXT,
    ['&'] = IS_ATEXT,
    ['\''] = IS_ATEXT,
    ['*'] = IS_ATEXT,
    ['+'] = IS_ATEXT,
    ['/'] = IS_ATEXT,
    ['='] = IS_ATEXT,
    ['?'] = IS_ATEXT,
    ['^'] = IS_ATEXT,
    ['`'] = IS_ATEXT,
    ['{'] = IS_ATEXT,
    ['|'] = IS_ATEXT,
    ['}'] = IS_ATEXT,
    ['~'] = IS_ATEXT,
    [0x80 ... 0xff] = IS_HIGH,
};

static bool is(uint8_t octet, unsigned class)
{
    return (classes[octet] & class) != 0;
}

bool address_utf8_valid(struct slice s)
{
    for (size_t i = 0; i < s.size;) {
        const uint8_t first = s.data[i];
        if (first < 0x80) {
            i++;
            continue;
        }
        const size_t count = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
        if (first < 0xc2 || first > 0xf4 || s.size - i < count)
            return false;
        uint32_t point = first & (0xffU >> (count + 1));
        for (size_t j = 1; j < count; j++) {
            if ((s.data[i + j] & 0xc0) != 0x80)
                return false;
            point = point << 6 | (s.data[i + j] & 0x3fU);
        }
        static const uint32_t least[] = { 0, 0, 0xa0, 0x800, 0x10000 }; /* 80 to 9f: C1 */
        if (point < least[count] || point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff))
            return false;
        i += count;
    }
    return true;
}

static bool has_high_octet(struct slice s)
{
    for (size_t i = 0; i < s.size; i++)
        if (s.data[i] >= 0x80)
            return true;
    return false;
}

bool address_domain_valid(struct slice domain, bool utf8)
{
    if (domain.size == 0 || domain.size > ADDRESS_NAME_MAX)
        return false;
    const unsigned allowed = utf8 ? IS_LABEL | IS_HIGH : IS_LABEL;
    bool digits_only = false;
    for (size_t i = 0; i <= domain.size;) {
        const size_t begin = i;
        bool high = false;
        digits_only = true;
        while (i < domain.size && domain.data[i] != '.') {
            if (!is(domain.data[i], allowed))
                return false;
            digits_only &= is(domain.data[i], IS_DIGIT);
            high |= is(domain.data[i], IS_HIGH);
            i++;
        }
        /* A U-label may need more octets than its A-label; address_domain_to_ascii knows. */
        if (i == begin || (i - begin > ADDRESS_LABEL_MAX && !high))
            return false;
        if (domain.data[begin] == '-' || domain.data[i - 1] == '-')
            return false;
        i++;
    }
    return !digits_only && (!utf8 || address_utf8_valid(domain));
}

bool address_literal_valid(struct slice literal)
{
    if (literal.size < 2 || literal.data[0] != '[' || literal.data[literal.size - 1] != ']')
        return false;
    struct slice inner = slice_part(literal, 1, literal.size - 2);
    const bool six = slice_starts_nocase(inner, SLICE("IPv6:"));
    if (six)
        inner = slice_from(inner, 5);
    char text[INET6_ADDRSTRLEN];
    if (inner.size >= sizeof(text))
        return false;
    for (size_t i = 0; i < inner.size; i++)
        if (!is(inner.data[i], IS_IP))
            return false; /* a NUL too, which would cut the text */
    slice_to_string(inner, text, sizeof(text));
    struct in6_addr binary;
    return inet_pton(six ? AF_INET6 : AF_INET, text, &binary) == 1;
}

/* ---- the parts, each from index on; the index behind it, or 0 ---- */

/* Atom *("." Atom); non-ASCII counts as atext (RFC 6531 3.3) and is judged later. */
static size_t dot_string_end(struct slice in, size_t index)
{
    for (;;) {
        const size_t begin = index;
        while (index < in.size && is(in.data[index], IS_ATEXT | IS_HIGH))
            index++;
        if (index == begin)
            return 0;
        if (index == in.size || in.data[index] != '.')
            return index;
        index++;
    }
}

static size_t quoted_end(struct slice in, size_t index)
{
    for (index++; index < in.size; index++) {
        uint8_t octet = in.data[index];
        if (octet == '"')
            return index + 1;
        if (octet == '\\') {
            if (++index == in.size)
                return 0;
            octet = in.data[index];
            if (octet >= 0x80) /* RFC 6531 extends qtextSMTP, not quoted-pairSMTP */
                return 0;
        }
        if (octet < 0x20 || octet == 0x7f)
            return 0;
    }
    return 0;
}

static size_t domain_end(struct slice in, size_t index)
{
    if (index < in.size && in.data[index] == '[') {
        while (index < in.size && in.data[index] != ']')
            index++;
        return index < in.size ? index + 1 : 0;
    }
    while (index < in.size && (is(in.data[index], IS_LABEL | IS_HIGH) || in.data[index] == '.'))
        index++;
    return index;
}

/* "@a,@b:" from index on: RFC 5321 4.1.2 A-d-l, to be accepted and ignored (appendix C). */
static enum address_result route_skip(struct slice in, size_t *index, bool *utf8)
{
    size_t at = *index;
    for (;;) {
        if (at >= in.size || in.data[at] != '@')
            return ADDRESS_SYNTAX;
        const size_t end = domain_end(in, at + 1);
        if (end == 0)
            return ADDRESS_DOMAIN_SYNTAX;
        const struct slice domain = slice_part(in, at + 1, end - at - 1);
        if (!address_domain_valid(domain, true))
            return ADDRESS_DOMAIN_SYNTAX;
        *utf8 |= has_high_octet(domain);
        at = end + 1;
        if (at - *index > ADDRESS_ROUTE_MAX)
            return ADDRESS_TOO_LONG;
        if (end < in.size && in.data[end] == ':')
            break;
        if (end >= in.size || in.data[end] != ',')
            return ADDRESS_SYNTAX;
    }
    *index = at;
    return ADDRESS_OK;
}

static enum address_result mailbox_parse(struct slice in, size_t *index, unsigned allow,
                                         struct address *address)
{
    const size_t begin = *index;
    address->quoted = begin < in.size && in.data[begin] == '"';
    const size_t at = address->quoted ? quoted_end(in, begin) : dot_string_end(in, begin);
    if (at == 0)
        return ADDRESS_LOCAL_SYNTAX;
    address->local = slice_part(in, begin, at - begin);
    address->domain = slice_part(in, at, 0);
    *index = at;
    if (at == in.size || in.data[at] != '@') {
        if ((allow & ADDRESS_ALLOW_POSTMASTER) == 0 ||
            !slice_equal_nocase(address->local, SLICE("postmaster")))
            return ADDRESS_SYNTAX;
        address->postmaster = true;
        return ADDRESS_OK;
    }

    const size_t end = domain_end(in, at + 1);
    if (end == 0 || end == at + 1)
        return ADDRESS_DOMAIN_SYNTAX;
    address->domain = slice_part(in, at + 1, end - at - 1);
    *index = end;
    address->literal = address->domain.data[0] == '[';
    if (address->local.size > ADDRESS_LOCAL_MAX || address->domain.size > ADDRESS_DOMAIN_MAX ||
        end - begin > ADDRESS_MAX)
        return ADDRESS_TOO_LONG;
    if (address->literal ? !address_literal_valid(address->domain)
                         : !address_domain_valid(address->domain, true))
        return ADDRESS_DOMAIN_SYNTAX;
    if (!address_utf8_valid(address->local))
        return ADDRESS_LOCAL_SYNTAX;
    address->utf8 = has_high_octet(address->local) || has_high_octet(address->domain);
    return ADDRESS_OK;
}

enum address_result address_parse_path(struct slice in, unsigned allow, struct address *address,
                                       size_t *used)
{
    *address = (struct address) { .null = false };
    if (in.size < 2 || in.data[0] != '<')
        return ADDRESS_SYNTAX;
    size_t index = 1;
    if (in.data[index] == '>') {
        address->null = true;
        address->local = address->domain = slice_part(in, index, 0);
        *used = 2;
        return (allow & ADDRESS_ALLOW_NULL) != 0 ? ADDRESS_OK : ADDRESS_SYNTAX;
    }
    bool utf8 = false;
    if (in.data[index] == '@') {
        const enum address_result r = route_skip(in, &index, &utf8);
        if (r != ADDRESS_OK)
            return r;
        allow &= ~(unsigned)ADDRESS_ALLOW_POSTMASTER;
    }
    const enum address_result r = mailbox_parse(in, &index, allow, address);
    if (r != ADDRESS_OK)
        return r;
    if (index == in.size || in.data[index] != '>')
        return ADDRESS_SYNTAX;
    *used = index + 1;
    if ((address->utf8 || utf8) && (allow & ADDRESS_ALLOW_UTF8) == 0)
        return ADDRESS_NEEDS_UTF8;
    return ADDRESS_OK;
}

enum address_result address_parse(struct slice in, unsigned allow, struct address *address)
{
    *address = (struct address) { .null = false };
    size_t index = 0;
    if (in.size == 0)
        return ADDRESS_SYNTAX;
    const enum address_result r = mailbox_parse(in, &index, allow, address);
    if (r != ADDRESS_OK)
        return r;
    if (index != in.size)
        return ADDRESS_SYNTAX;
    return address->utf8 && (allow & ADDRESS_ALLOW_UTF8) == 0 ? ADDRESS_NEEDS_UTF8 : ADDRESS_OK;
}

struct slice address_text(const struct address *address)
{
    /* The two parts stand in one line, with the @ between them. */
    const size_t domain = address->domain.size == 0 ? 0 : address->domain.size + 1;
    return slice_of(address->local.data, address->local.size + domain);
}

static size_t lower_copy(struct slice s, uint8_t *out)
{
    for (size_t i = 0; i < s.size; i++)
        out[i] = ascii_lower(s.data[i]);
    return s.size;
}

/* A quoted local part with what it does not need taken off, in lower case. */
static size_t unquoted_copy(struct slice quoted, uint8_t *out)
{
    uint8_t plain[ADDRESS_LOCAL_MAX];
    size_t size = 0;
    CHECK(quoted.size >= 2 && quoted.size <= ADDRESS_LOCAL_MAX);
    for (size_t i = 1; i + 1 < quoted.size; i++) {
        if (quoted.data[i] == '\\')
            i++;
        plain[size++] = ascii_lower(quoted.data[i]);
    }
    const struct slice text = slice_of(plain, size);
    if (size > 0 && dot_string_end(text, 0) == size)
        return lower_copy(text, out);
    size_t count = 0;
    out[count++] = '"';
    for (size_t i = 0; i < size; i++) {
        if (plain[i] == '"' || plain[i] == '\\')
            out[count++] = '\\';
        out[count++] = plain[i];
    }
    out[count++] = '"';
    return count;
}

size_t address_canonical(const struct address *address, uint8_t out[ADDRESS_MAX])
{
    CHECK(address_text(address).size <= ADDRESS_MAX);
    if (address->null)
        return 0;
    size_t size =
        address->quoted ? unquoted_copy(address->local, out) : lower_copy(address->local, out);
    if (address->domain.size > 0) {
        out[size++] = '@';
        size += lower_copy(address->domain, out + size);
    }
    return size;
}

static size_t dots_count(struct slice s)
{
    size_t count = 0;
    for (size_t i = 0; i < s.size; i++)
        count += s.data[i] == '.';
    return count;
}

int address_domain_to_ascii(struct slice domain, char out[ADDRESS_ASCII_DOMAIN_BYTES])
{
    const bool literal = domain.size > 0 && domain.data[0] == '[';
    if (literal ? !address_literal_valid(domain) : !address_domain_valid(domain, true))
        return -EINVAL;
    if (!has_high_octet(domain)) {
        lower_copy(domain, (uint8_t *)out);
        out[domain.size] = '\0';
        return (int)domain.size;
    }

    uint8_t name[ADDRESS_NAME_MAX + 1], *ascii = NULL;
    slice_to_string(domain, (char *)name, sizeof(name));
    const int r = idn2_lookup_u8(name, &ascii, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
    if (r != IDN2_OK)
        return r == IDN2_MALLOC ? -ENOMEM : -EINVAL;
    const struct slice result = slice_of_string((const char *)ascii);
    int size = -EINVAL;
    /* Mapping must not make labels: U+3002 and its like are dots to it, but none to our parser. */
    if (address_domain_valid(result, false) && dots_count(result) == dots_count(domain)) {
        lower_copy(result, (uint8_t *)out);
        out[result.size] = '\0';
        size = (int)result.size;
    }
    idn2_free(ascii);
    return size;
}
