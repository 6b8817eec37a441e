/*
 * net.c - addresses from text and kernel structures, and which of them are special
 *
 * Text is read by inet_pton: strict dotted decimal (no octal, no short forms), no zone names. It is
 * written by inet_ntop, but for IPv4, where that goes through printf: each message needs two. The
 * table of special networks is RFC 6890 with its later additions, in one form: an IPv4 network is
 * one below ::ffff:0:0/96.
 */
#include "core/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>

#include "core/check.h"

enum {
    V4_PREFIX_BITS = 96,
    V4_OFFSET = V4_PREFIX_BITS / 8,
    BITS_MAX = 128,
    PORT_MAX = 65'535,
};

static const uint8_t v4_mapped[V4_OFFSET] = { [10] = 0xff, [11] = 0xff };

#define V4(a, b, c, bits)                                                                          \
    {                                                                                              \
        { [10] = 0xff, [11] = 0xff, [12] = (a), [13] = (b), [14] = (c) }, V4_PREFIX_BITS + (bits)  \
    }
#define V6(a, b, c, d, bits)                                                                       \
    {                                                                                              \
        { (a), (b), (c), (d) }, (bits)                                                             \
    }
static const struct net_prefix special[] = {
    V4(0, 0, 0, 8),              /* this network */
    V4(10, 0, 0, 8),             /* private */
    V4(100, 64, 0, 10),          /* shared, RFC 6598 */
    V4(127, 0, 0, 8),            /* loopback */
    V4(169, 254, 0, 16),         /* link-local */
    V4(172, 16, 0, 12),          /* private */
    V4(192, 0, 0, 24),           /* IETF protocols */
    V4(192, 0, 2, 24),           /* documentation */
    V4(192, 88, 99, 24),         /* 6to4 relays, RFC 7526 */
    V4(192, 168, 0, 16),         /* private */
    V4(198, 18, 0, 15),          /* benchmarks */
    V4(198, 51, 100, 24),        /* documentation */
    V4(203, 0, 113, 24),         /* documentation */
    V4(224, 0, 0, 4),            /* multicast */
    V4(240, 0, 0, 4),            /* reserved, broadcast */
    V6(0, 0, 0, 0, 80),          /* unspecified, loopback, IPv4-compatible; not mapped, see below */
    V6(0, 0x64, 0xff, 0x9b, 32), /* translators; the well-known prefix is looked into first */
    V6(0x01, 0, 0, 0, 64),       /* discard */
    V6(0x20, 0x01, 0, 0, 23),    /* IETF protocols, Teredo, ORCHID, benchmarks */
    V6(0x20, 0x01, 0x0d, 0xb8, 32), /* documentation */
    V6(0x3f, 0xff, 0, 0, 20),       /* documentation, RFC 9637 */
    V6(0x5f, 0, 0, 0, 16),          /* SRv6, RFC 9602 */
    V6(0xfc, 0, 0, 0, 7),           /* unique local */
    V6(0xfe, 0x80, 0, 0, 9),        /* link-local, and site-local that was */
    V6(0xff, 0, 0, 0, 8),           /* multicast */
};

bool net_is_v4(const struct net_address *a)
{
    return memcmp(a->octets, v4_mapped, V4_OFFSET) == 0;
}

bool net_is_loopback(const struct net_address *a)
{
    static const uint8_t v6_loopback[16] = { [15] = 1 };
    if (net_is_v4(a))
        return a->octets[V4_OFFSET] == 127;
    return memcmp(a->octets, v6_loopback, sizeof(v6_loopback)) == 0;
}

/* The IPv4 address that a translator or 6to4 would send to: RFC 6052 well-known, RFC 3056. */
static bool net_embedded(const struct net_address *a, struct net_address *v4)
{
    static const uint8_t translator[V4_OFFSET] = { 0, 0x64, 0xff, 0x9b };
    static const uint8_t sixtofour[2] = { 0x20, 0x02 };
    const uint8_t *from;
    if (memcmp(a->octets, translator, sizeof(translator)) == 0)
        from = a->octets + V4_OFFSET;
    else if (memcmp(a->octets, sixtofour, sizeof(sixtofour)) == 0)
        from = a->octets + sizeof(sixtofour);
    else
        return false;
    *v4 = (struct net_address) { 0 };
    memcpy(v4->octets, v4_mapped, V4_OFFSET);
    memcpy(v4->octets + V4_OFFSET, from, 4);
    return true;
}

bool net_is_special(const struct net_address *a)
{
    struct net_address v4;
    if (net_embedded(a, &v4))
        return net_is_special(&v4);
    for (size_t i = 0; i < ARRAY_COUNT(special); i++)
        if (net_in(&special[i], a))
            return special[i].bits >= V4_PREFIX_BITS || !net_is_v4(a);
    return false;
}

bool net_in(const struct net_prefix *prefix, const struct net_address *a)
{
    unsigned octets = prefix->bits / 8;
    unsigned rest = prefix->bits % 8;
    CHECK(prefix->bits <= BITS_MAX);
    if (memcmp(prefix->octets, a->octets, octets) != 0)
        return false;
    return rest == 0 || ((prefix->octets[octets] ^ a->octets[octets]) >> (8 - rest)) == 0;
}

bool net_equal_host(const struct net_address *a, const struct net_address *b)
{
    return memcmp(a->octets, b->octets, sizeof(a->octets)) == 0;
}

bool net_equal(const struct net_address *a, const struct net_address *b)
{
    return net_equal_host(a, b) && a->port == b->port;
}

/* A bare address, no port, no brackets. */
static int net_parse_host(struct slice text, uint8_t octets[static 16], bool *v4)
{
    char string[INET6_ADDRSTRLEN];
    if (text.size == 0 || text.size >= sizeof(string) || slice_find(text, '\0') >= 0)
        return -EINVAL;
    slice_to_string(text, string, sizeof(string));
    *v4 = slice_find(text, ':') < 0;
    if (*v4) {
        memcpy(octets, v4_mapped, V4_OFFSET);
        return inet_pton(AF_INET, string, octets + V4_OFFSET) == 1 ? 0 : -EINVAL;
    }
    return inet_pton(AF_INET6, string, octets) == 1 ? 0 : -EINVAL;
}

int net_parse(struct slice text, uint16_t default_port, struct net_address *a)
{
    struct net_address parsed = { .port = default_port };
    struct slice host = text;
    struct slice port = slice_of(NULL, 0);
    bool has_port = false;
    bool brackets = text.size > 0 && text.data[0] == '[';
    if (brackets) {
        ptrdiff_t end = slice_find(text, ']');
        if (end < 0)
            return -EINVAL;
        host = slice_part(text, 1, (size_t)end - 1);
        struct slice rest = slice_from(text, (size_t)end + 1);
        if (rest.size > 0 && rest.data[0] != ':')
            return -EINVAL;
        has_port = rest.size > 0;
        port = slice_from(rest, 1);
    } else {
        ptrdiff_t colon = slice_find(text, ':');
        /* One colon: a port. More of them: IPv6 without one. */
        if (colon >= 0 && slice_find(slice_from(text, (size_t)colon + 1), ':') < 0) {
            host = slice_part(text, 0, (size_t)colon);
            port = slice_from(text, (size_t)colon + 1);
            has_port = true;
        }
    }
    bool v4;
    int r = net_parse_host(host, parsed.octets, &v4);
    if (r < 0)
        return r;
    if (brackets && v4)
        return -EINVAL;
    if (has_port) {
        uint64_t number;
        if (slice_to_u64(port, PORT_MAX, &number) < 0 || number == 0)
            return -EINVAL;
        parsed.port = (uint16_t)number;
    }
    *a = parsed;
    return 0;
}

int net_parse_prefix(struct slice text, struct net_prefix *prefix)
{
    struct net_address address = { 0 };
    ptrdiff_t slash = slice_find(text, '/');
    bool v4;
    int r =
        net_parse_host(slash < 0 ? text : slice_part(text, 0, (size_t)slash), address.octets, &v4);
    if (r < 0)
        return r;
    uint64_t bits = BITS_MAX;
    if (slash >= 0) {
        uint64_t most = v4 ? BITS_MAX - V4_PREFIX_BITS : BITS_MAX;
        if (slice_to_u64(slice_from(text, (size_t)slash + 1), most, &bits) < 0)
            return -EINVAL;
        bits += v4 ? V4_PREFIX_BITS : 0;
    }
    struct net_address cut = net_masked(&address, (unsigned)bits);
    if (!net_equal_host(&cut, &address))
        return -EINVAL;
    memcpy(prefix->octets, address.octets, sizeof(prefix->octets));
    prefix->bits = (uint8_t)bits;
    return 0;
}

/* Both leave a terminator, and return where it is. */
static char *put_text(char *out, const char *text)
{
    size_t size = strlen(text);
    memcpy(out, text, size + 1);
    return out + size;
}

static char *put_number(char *out, unsigned number)
{
    unsigned digits = 1;
    for (unsigned rest = number; rest >= 10; rest /= 10)
        digits++;
    for (unsigned i = digits; i-- > 0; number /= 10)
        out[i] = (char)('0' + number % 10);
    out[digits] = '\0';
    return out + digits;
}

size_t net_text(const struct net_address *a, bool with_port, char out[static NET_TEXT_MAX])
{
    bool v4 = net_is_v4(a);
    char *end = out;
    if (v4) {
        for (unsigned i = 0; i < 4; i++) {
            end = i > 0 ? put_text(end, ".") : end;
            end = put_number(end, a->octets[V4_OFFSET + i]);
        }
        *end = '\0';
    } else {
        end = with_port ? put_text(end, "[") : end;
        CHECK(inet_ntop(AF_INET6, a->octets, end, INET6_ADDRSTRLEN) != NULL);
        end += strlen(end);
        end = with_port ? put_text(end, "]") : end;
    }
    if (with_port)
        end = put_number(put_text(end, ":"), a->port);
    CHECK(end - out < NET_TEXT_MAX);
    return (size_t)(end - out);
}

socklen_t net_to_sockaddr(const struct net_address *a, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof(*out));
    if (net_is_v4(a)) {
        struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(a->port) };
        memcpy(&v4.sin_addr, a->octets + V4_OFFSET, sizeof(v4.sin_addr));
        memcpy(out, &v4, sizeof(v4));
        return sizeof(v4);
    }
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(a->port) };
    memcpy(&v6.sin6_addr, a->octets, sizeof(v6.sin6_addr));
    memcpy(out, &v6, sizeof(v6));
    return sizeof(v6);
}

void net_from_sockaddr(const struct sockaddr_storage *in, struct net_address *a)
{
    *a = (struct net_address) { 0 }; /* another family (a unix socket) is the address :: */
    if (in->ss_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, in, sizeof(v4));
        memcpy(a->octets, v4_mapped, V4_OFFSET);
        memcpy(a->octets + V4_OFFSET, &v4.sin_addr, sizeof(v4.sin_addr));
        a->port = ntohs(v4.sin_port);
    } else if (in->ss_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, in, sizeof(v6));
        memcpy(a->octets, &v6.sin6_addr, sizeof(v6.sin6_addr));
        a->port = ntohs(v6.sin6_port);
    }
}

struct net_address net_masked(const struct net_address *a, unsigned bits)
{
    CHECK(bits <= BITS_MAX);
    struct net_address cut = { 0 };
    memcpy(cut.octets, a->octets, bits / 8);
    if (bits % 8 != 0)
        cut.octets[bits / 8] = (uint8_t)(a->octets[bits / 8] & (0xff00 >> (bits % 8)));
    return cut;
}
