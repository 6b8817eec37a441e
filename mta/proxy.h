/*
 * proxy.h - the PROXY protocol header that a load balancer puts before a connection, v1 and v2
 *
 * Read before the banner, and only on listeners told to expect it: then it must be there, for a
 * client that could send it itself would choose its own address.
 */
#ifndef RINGPOST_MTA_PROXY_H
#define RINGPOST_MTA_PROXY_H

#include "core/slice.h"

enum {
    PROXY_V1_MAX = 107,       /* octets, CRLF included (specification 2.1) */
    PROXY_HEADER_MAX = 4'096, /* a v2 header with its TLVs; longer ones are refused */
};

enum proxy_result {
    PROXY_NEED_MORE, /* so far so good: call again with all octets from the start, and more */
    PROXY_OK,
    PROXY_BAD, /* close; no banner */
};

enum proxy_family {
    PROXY_FAMILY_NONE = 0, /* LOCAL, UNKNOWN, UNSPEC, UNIX: the socket's own addresses count */
    PROXY_FAMILY_IPV4,
    PROXY_FAMILY_IPV6,
};

struct proxy_endpoint {
    uint8_t address[16]; /* network order; IPv4 as ::ffff:a.b.c.d */
    uint16_t port;       /* host order */
};

struct proxy_header {
    uint8_t version; /* 1 or 2 */
    bool local;      /* v2 LOCAL: the balancer's own health check */
    enum proxy_family family;
    struct proxy_endpoint source; /* zero when family is NONE */
    struct proxy_endpoint destination;
};

/*
 * in is all that came so far. OK: used octets belong to the header, the rest to the client.
 * BAD comes as early as it can be known; NEED_MORE never for PROXY_HEADER_MAX octets or more.
 */
[[nodiscard]] enum proxy_result proxy_parse(struct slice in, struct proxy_header *header,
                                            size_t *used);

#endif
