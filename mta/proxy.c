/*
 * proxy.c - PROXY protocol headers (haproxy's specification, doc/proxy-protocol.txt)
 *
 * Pure, and without state: the caller keeps what came, at most PROXY_HEADER_MAX octets, and asks
 * again; a header comes in one segment in practice, so nothing is read twice. What does not fit the
 * beginning of either version is refused at the first octet that shows it.
 *
 * Surprises: v1 wants exactly one blank between fields and numbers without leading zeros; v2's TLVs
 * are stepped over unread; a datagram transport is refused, for mail has none.
 */
#include "mta/proxy.h"

#include <arpa/inet.h>

#include "core/check.h"

static const uint8_t v2_signature[12] = {
    0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a,
};

enum {
    V2_FIXED = 16, /* signature, version and command, family and transport, length */
    V2_INET = 12,  /* octets of two IPv4 addresses and ports */
    V2_INET6 = 36,
    V2_UNIX = 216,
};

static void map_ipv4(const uint8_t four[4], uint8_t sixteen[16])
{
    static const uint8_t prefix[12] = { [10] = 0xff, [11] = 0xff };
    memcpy(sixteen, prefix, sizeof(prefix));
    memcpy(sixteen + sizeof(prefix), four, 4);
}

/* ---- version 1: one line of text ---- */

static bool v1_address(struct slice text, bool six, uint8_t out[16])
{
    char string[INET6_ADDRSTRLEN];
    uint8_t binary[16];
    if (text.size >= sizeof(string) || slice_find(text, 0) >= 0)
        return false;
    slice_to_string(text, string, sizeof(string));
    if (inet_pton(six ? AF_INET6 : AF_INET, string, binary) != 1)
        return false;
    if (six)
        memcpy(out, binary, sizeof(binary));
    else
        map_ipv4(binary, out);
    return true;
}

static bool v1_port(struct slice text, uint16_t *port)
{
    uint64_t value = 0;
    if (text.size > 5 || (text.size > 1 && text.data[0] == '0'))
        return false;
    if (slice_to_u64(text, UINT16_MAX, &value) < 0)
        return false;
    *port = (uint16_t)value;
    return true;
}

static enum proxy_result v1_line(struct slice line, struct proxy_header *header)
{
    header->version = 1;
    line = slice_from(line, 6); /* "PROXY " */
    if (slice_equal(line, SLICE("UNKNOWN")) ||
        (line.size > 7 && memcmp(line.data, "UNKNOWN ", 8) == 0))
        return PROXY_OK; /* the rest of the line is to be ignored */

    struct slice fields[5];
    size_t count = 0;
    for (;;) {
        const ptrdiff_t blank = slice_find(line, ' ');
        if (count == ARRAY_COUNT(fields))
            return PROXY_BAD;
        fields[count++] = blank < 0 ? line : slice_part(line, 0, (size_t)blank);
        if (blank < 0)
            break;
        line = slice_from(line, (size_t)blank + 1);
    }
    const bool six = slice_equal(fields[0], SLICE("TCP6"));
    if (count != ARRAY_COUNT(fields) || (!six && !slice_equal(fields[0], SLICE("TCP4"))))
        return PROXY_BAD;
    if (!v1_address(fields[1], six, header->source.address) ||
        !v1_address(fields[2], six, header->destination.address) ||
        !v1_port(fields[3], &header->source.port) || !v1_port(fields[4], &header->destination.port))
        return PROXY_BAD;
    header->family = six ? PROXY_FAMILY_IPV6 : PROXY_FAMILY_IPV4;
    return PROXY_OK;
}

static enum proxy_result v1_parse(struct slice in, struct proxy_header *header, size_t *used)
{
    const struct slice head = slice_part(in, 0, PROXY_V1_MAX);
    const ptrdiff_t lf = slice_find(head, '\n'), cr = slice_find(head, '\r');
    if (lf < 0) {
        if (head.size == PROXY_V1_MAX || (cr >= 0 && (size_t)cr + 1 != head.size))
            return PROXY_BAD;
        return PROXY_NEED_MORE;
    }
    if (cr < 0 || cr + 1 != lf)
        return PROXY_BAD;
    *used = (size_t)lf + 1;
    return v1_line(slice_part(head, 0, (size_t)cr), header);
}

/* ---- version 2: binary ---- */

static uint16_t big_endian_16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static enum proxy_result v2_parse(struct slice in, struct proxy_header *header, size_t *used)
{
    if (in.size > 12 && in.data[12] != 0x20 && in.data[12] != 0x21) /* version 2; LOCAL, PROXY */
        return PROXY_BAD;
    if (in.size < V2_FIXED)
        return PROXY_NEED_MORE;
    const uint8_t family = in.data[13];
    const size_t length = big_endian_16(in.data + 14);
    if (length > PROXY_HEADER_MAX - V2_FIXED)
        return PROXY_BAD;
    const bool local = in.data[12] == 0x20;
    size_t least = 0;
    switch (family) {
    case 0x00: break;                   /* UNSPEC */
    case 0x11: least = V2_INET; break;  /* TCP over IPv4 */
    case 0x21: least = V2_INET6; break; /* TCP over IPv6 */
    case 0x31: least = V2_UNIX; break;  /* a stream over a unix socket */
    default:
        if (!local) /* with LOCAL the family is to be ignored */
            return PROXY_BAD;
    }
    if (!local && length < least)
        return PROXY_BAD;
    if (in.size < V2_FIXED + length)
        return PROXY_NEED_MORE;

    header->version = 2;
    header->local = local;
    *used = V2_FIXED + length;
    const uint8_t *at = in.data + V2_FIXED;
    if (local)
        return PROXY_OK;
    if (family == 0x11) {
        header->family = PROXY_FAMILY_IPV4;
        map_ipv4(at, header->source.address);
        map_ipv4(at + 4, header->destination.address);
        header->source.port = big_endian_16(at + 8);
        header->destination.port = big_endian_16(at + 10);
    } else if (family == 0x21) {
        header->family = PROXY_FAMILY_IPV6;
        memcpy(header->source.address, at, 16);
        memcpy(header->destination.address, at + 16, 16);
        header->source.port = big_endian_16(at + 32);
        header->destination.port = big_endian_16(at + 34);
    }
    return PROXY_OK;
}

enum proxy_result proxy_parse(struct slice in, struct proxy_header *header, size_t *used)
{
    static const struct slice v1 = { (const uint8_t *)"PROXY ", 6 };
    static const struct slice v2 = { v2_signature, sizeof(v2_signature) };
    *header = (struct proxy_header) { .version = 0 };
    *used = 0;
    if (in.size == 0)
        return PROXY_NEED_MORE;
    const bool one = in.data[0] == v1.data[0];
    const struct slice mark = one ? v1 : v2;
    const size_t known = MIN(in.size, mark.size);
    if (!slice_equal(slice_part(in, 0, known), slice_part(mark, 0, known)))
        return PROXY_BAD;
    if (known < mark.size)
        return PROXY_NEED_MORE;
    enum proxy_result r = one ? v1_parse(in, header, used) : v2_parse(in, header, used);
    if (r == PROXY_OK) {
        CHECK(*used > 0 && *used <= in.size);
        return r;
    }
    *header = (struct proxy_header) { .version = 0 };
    *used = 0;
    return r;
}
