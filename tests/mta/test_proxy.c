/*
 * test_proxy.c - PROXY headers: what must be refused, then each form, each prefix asks for more
 */
#include <criterion/criterion.h>

#include "mta/proxy.h"

#define V2 "\r\n\r\n\0\r\nQUIT\n"

static enum proxy_result parse(struct slice in, struct proxy_header *header, size_t *used)
{
    const enum proxy_result result = proxy_parse(in, header, used);
    if (result != PROXY_OK)
        return result;
    for (size_t i = 0; i < *used; i++) {
        struct proxy_header early;
        size_t early_used;
        cr_assert_eq(proxy_parse(slice_part(in, 0, i), &early, &early_used), PROXY_NEED_MORE,
                     "at %zu", i);
    }
    return result;
}

Test(proxy, refuses)
{
    static const struct slice bad[] = {
        SLICE("E"),
        SLICE("EHLO x\r\n"),
        SLICE("PROXX"),
        SLICE("proxy TCP4 1.2.3.4 1.2.3.4 1 2\r\n"),
        SLICE("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n"),
        SLICE("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n"),
        SLICE("PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n"),
        SLICE("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n"),
        SLICE("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n"),
        SLICE("PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n"),
        SLICE("PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n"),
        SLICE("PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n"),
        SLICE("PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n"),
        SLICE("PROXY TCP4 ::1 ::1 1 2\r\n"),
        SLICE("PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n"),
        SLICE("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n"),
        SLICE("PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n"),
        SLICE("PROXY UNKNOWNX\r\n"),
        SLICE("PROXY \r\n"),
        SLICE("PROXY UNKNOWN\rX"),
        SLICE("PROXY UNKNOWN\n"),
        SLICE("PROXY UNKNOWN x\n"),
        SLICE("PROXY UNKNOWN x\ry\r\n"),
        SLICE(V2 "\x11"),
        SLICE(V2 "\x22"),
        SLICE(V2 "\x31\x11"),
        SLICE(V2 "\x21\x12\0\x0c"),
        SLICE(V2 "\x21\x41\0\x0c"),
        SLICE(V2 "\x21\x11\0\x0b"),
        SLICE(V2 "\x21\x21\0\x23"),
        SLICE(V2 "\x21\x11\x0f\xf1"),
        SLICE("\r\n\r\n\0\r\nQUIT\r"),
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct proxy_header header;
        size_t used;
        cr_assert_eq(proxy_parse(bad[i], &header, &used), PROXY_BAD, "sample %zu", i);
        cr_assert_eq(used, 0);
    }
}

Test(proxy, refuses_a_first_line_without_end)
{
    uint8_t line[PROXY_V1_MAX + 1];
    struct proxy_header header;
    size_t used;
    memset(line, 'x', sizeof(line));
    memcpy(line, "PROXY UNKNOWN ", 14);
    cr_assert_eq(proxy_parse(slice_of(line, PROXY_V1_MAX - 1), &header, &used), PROXY_NEED_MORE);
    cr_assert_eq(proxy_parse(slice_of(line, PROXY_V1_MAX), &header, &used), PROXY_BAD);
    memcpy(line + PROXY_V1_MAX - 2, "\r\n", 2);
    cr_assert_eq(proxy_parse(slice_of(line, PROXY_V1_MAX), &header, &used), PROXY_OK);
    memcpy(line + PROXY_V1_MAX - 2, "x\r\n", 3);
    cr_assert_eq(proxy_parse(slice_of(line, PROXY_V1_MAX + 1), &header, &used), PROXY_BAD);
}

Test(proxy, v1_ipv4)
{
    struct proxy_header header;
    size_t used;
    const struct slice in = SLICE("PROXY TCP4 192.0.2.1 198.51.100.2 65535 25\r\nEHLO x\r\n");
    cr_assert_eq(parse(in, &header, &used), PROXY_OK);
    cr_assert_eq(used, in.size - 8);
    cr_assert_eq(header.version, 1);
    cr_assert_eq(header.family, PROXY_FAMILY_IPV4);
    cr_assert_eq(memcmp(header.source.address, "\0\0\0\0\0\0\0\0\0\0\xff\xff\xc0\0\2\1", 16), 0);
    cr_assert_eq(memcmp(header.destination.address + 12, "\xc6\x33\x64\2", 4), 0);
    cr_assert_eq(header.source.port, 65'535);
    cr_assert_eq(header.destination.port, 25);
}

Test(proxy, v1_ipv6_and_unknown)
{
    struct proxy_header header;
    size_t used;
    cr_assert_eq(parse(SLICE("PROXY TCP6 2001:db8::1 ::2 1 25\r\n"), &header, &used), PROXY_OK);
    cr_assert_eq(header.family, PROXY_FAMILY_IPV6);
    cr_assert_eq(memcmp(header.source.address, "\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\1", 16), 0);
    cr_assert_eq(header.destination.address[15], 2);
    cr_assert_eq(parse(SLICE("PROXY UNKNOWN\r\n"), &header, &used), PROXY_OK);
    cr_assert_eq(header.family, PROXY_FAMILY_NONE);
    cr_assert_eq(parse(SLICE("PROXY UNKNOWN any thing\r\nX"), &header, &used), PROXY_OK);
    cr_assert_eq(used, 25);
}

Test(proxy, v2)
{
    struct proxy_header header;
    size_t used;
    cr_assert_eq(parse(SLICE(V2 "\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\4\xd2\0\x19X"), &header, &used),
                 PROXY_OK);
    cr_assert_eq(used, 28);
    cr_assert_eq(header.version, 2);
    cr_assert_eq(header.family, PROXY_FAMILY_IPV4);
    cr_assert_eq(memcmp(header.source.address + 10, "\xff\xff\xc0\0\2\1", 6), 0);
    cr_assert_eq(header.source.port, 1'234);
    cr_assert_eq(header.destination.port, 25);

    /* With a TLV behind the addresses. */
    cr_assert_eq(parse(SLICE(V2 "\x21\x21\0\x28"
                                "\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\1"
                                "\x20\1\xd\xb8\0\0\0\0\0\0\0\0\0\0\0\2"
                                "\4\xd2\0\x19\4\0\1\0"),
                       &header, &used),
                 PROXY_OK);
    cr_assert_eq(used, 56);
    cr_assert_eq(header.family, PROXY_FAMILY_IPV6);
    cr_assert_eq(header.source.address[15], 1);
    cr_assert_eq(header.destination.address[15], 2);
    cr_assert_eq(header.destination.port, 25);
}

Test(proxy, v2_local_and_unspec_leave_the_socket_its_addresses)
{
    struct proxy_header header;
    size_t used;
    cr_assert_eq(parse(SLICE(V2 "\x20\0\0\0"), &header, &used), PROXY_OK);
    cr_assert(header.local);
    cr_assert_eq(header.family, PROXY_FAMILY_NONE);
    cr_assert_eq(used, 16);
    cr_assert_eq(parse(SLICE(V2 "\x20\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\4\xd2\0\x19"), &header, &used),
                 PROXY_OK);
    cr_assert_eq(header.family, PROXY_FAMILY_NONE);
    cr_assert_eq(parse(SLICE(V2 "\x21\0\0\2xx"), &header, &used), PROXY_OK);
    cr_assert_not(header.local);
    cr_assert_eq(header.family, PROXY_FAMILY_NONE);
    cr_assert_eq(used, 18);
}
