/*
 * net.h - addresses of hosts and sockets, IPv4 and IPv6 alike
 *
 * One form: 16 octets, an IPv4 address stands as ::ffff:a.b.c.d. So comparing, masking and hashing
 * have one case. Text is only made for logs, trace fields and errors.
 */
#ifndef RINGPOST_CORE_NET_H
#define RINGPOST_CORE_NET_H

#include <sys/socket.h>

#include "core/slice.h"

enum { NET_TEXT_MAX = 64 }; /* "[v6 address]:port" and its terminator fit */

struct net_address {
    uint8_t octets[16];
    uint16_t port;     /* host order; 0 when there is none */
    uint16_t reserved; /* always 0, so that two of them compare as memory */
};

/* A prefix of 0 to 128 bits over the 16 octets (an IPv4 /24 is a /120). */
struct net_prefix {
    uint8_t octets[16];
    uint8_t bits;
};

bool net_is_v4(const struct net_address *a);
bool net_is_loopback(const struct net_address *a);
/* Private, link-local, unspecified, multicast, documentation and the like (RFC 6890): addresses
 * that no public DNS answer should send mail to. Loopback is one of them. */
bool net_is_special(const struct net_address *a);
bool net_in(const struct net_prefix *prefix, const struct net_address *a);
bool net_equal(const struct net_address *a, const struct net_address *b);      /* with port */
bool net_equal_host(const struct net_address *a, const struct net_address *b); /* without */

/* "192.0.2.1", "2001:db8::1", "[2001:db8::1]", each with ":port" where has_port is allowed
 * (v6 then needs brackets). 0 or -EINVAL. */
[[nodiscard]] int net_parse(struct slice text, uint16_t default_port, struct net_address *a);
/* "192.0.2.0/24", "2001:db8::/32", or a single address. 0 or -EINVAL (also: bits set past the
 * prefix). */
[[nodiscard]] int net_parse_prefix(struct slice text, struct net_prefix *prefix);

/* Text with a terminator into out; returns its length. with_port: "a.b.c.d:25", "[v6]:25". */
size_t net_text(const struct net_address *a, bool with_port, char out[static NET_TEXT_MAX]);

/* To and from the kernel's forms. v4 addresses become AF_INET. Returns the length used. */
socklen_t net_to_sockaddr(const struct net_address *a, struct sockaddr_storage *out);
void net_from_sockaddr(const struct sockaddr_storage *in, struct net_address *a);

/* The address cut to bits (of 128), without port: the key of a per-network count. */
struct net_address net_masked(const struct net_address *a, unsigned bits);

#endif
