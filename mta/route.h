/*
 * route.h - how a next hop is reached: by hosts of a connector, or by MX
 *
 * Which recipients take a route is a separate question, answered by mta/outbound.h. Nothing in here
 * asks DNS or keeps state.
 *
 * Routes belong to a configuration generation (mta/config.h) and live as long as it.
 */
#ifndef RINGPOST_MTA_ROUTE_H
#define RINGPOST_MTA_ROUTE_H

#include "core/net.h"
#include "core/slice.h"
#include "mta/connector.h"
#include "mta/floor.h"
#include "tls/tls_client.h"

enum {
    ROUTE_HOSTS_MAX = 64,   /* of one route */
    ROUTE_SOURCES_MAX = 32, /* source addresses of one route, both families */
    ROUTE_NAME_MAX = CONNECTOR_NAME_MAX,
    ROUTE_KEY_BYTES = 9 + ROUTE_NAME_MAX + 1 + 255 + 9 + 16 + 1,
};

enum route_host_kind {
    ROUTE_HOST_NAME,    /* name: its A and AAAA records */
    ROUTE_HOST_ADDRESS, /* address, as written */
    ROUTE_HOST_MX,      /* the MX set of the recipient's domain; then the only host of its route */
    ROUTE_HOST_MX_OF,   /* the MX set of name */
};

struct route_host {
    enum route_host_kind kind;
    uint16_t port;              /* never 0: the host's own, or the route's */
    const char *name;           /* NAME, MX_OF: normal form; else "" */
    struct net_address address; /* ADDRESS, with the port in it */
};

enum route_protocol { ROUTE_SMTP, ROUTE_LMTP };
enum route_order {
    ROUTE_LISTED,   /* fail-over: the first one that works */
    ROUTE_BALANCED, /* round robin per shard */
};

enum route_clear {
    ROUTE_CLEAR_NEVER,
    ROUTE_CLEAR_NO_OFFER,  /* when STARTTLS is not offered */
    ROUTE_CLEAR_HANDSHAKE, /* also when it is, and fails: on a new connection, not at once */
};

enum dane_mode {
    DANE_MAY, /* where a host has usable TLSA records, they must fit */
    DANE_NONE,
    DANE_MUST, /* and hosts without get no mail */
};

struct route {
    const char *name; /* of the connector; "" is the built-in route: MX delivery */
    uint32_t index;   /* of the connector in its set; 0 for the built-in one */
    uint32_t line;    /* of the file; 0: built in */
    const struct route_host *hosts;
    unsigned hosts_count; /* 1 or more */
    enum route_order order;
    enum route_protocol protocol;
    uint16_t port;            /* of hosts that name none, and of MX hosts */
    bool allow_special;       /* private and own-network addresses may come out of DNS */
    unsigned connections_max; /* to the next hop over the node; 0: delivery's */
    unsigned messages_max;    /* over one connection; 0: delivery's */
    unsigned rate_max;        /* messages a minute to the next hop over the node; 0: no limit */
    uint64_t age_max_ms;      /* then mail bounces; 0: delivery's */
    uint64_t tls_age_max_ms;  /* likewise, when nothing but TLS holds it back; 0: the same */
    const char *ehlo;         /* never NULL: the connector's, or the hostname */
    const struct net_address *sources_v4; /* to bind to; none: the kernel chooses */
    unsigned sources_v4_count;
    const struct net_address *sources_v6;
    unsigned sources_v6_count;
    struct tls_client_policy tls;
    enum route_clear clear; /* read at MAY only */
    enum dane_mode dane;
    enum floor_action floor;       /* when a host offers less than remembered */
    bool sts;                      /* policies of MTA-STS count (mta-sts = may) */
    bool tls_implicit;             /* TLS from the first octet */
    const char *server_name;       /* SNI; "": none, NULL: the host's name, where it has one */
    bool keeps_fields;             /* header fields that only we may set go along */
    const struct slice *tls_names; /* wanted in certificates; none: what hosts are called */
    unsigned tls_names_count;
};

/* Whether the next hop depends on the recipient's domain (hosts = { mx }). */
bool route_by_domain(const struct route *route);

/* The least that a route demands: a level, and without plain text MAY is as good as ENCRYPT. */
enum tls_level route_floor(const struct route *route);

/* The level of a connection where at least this much is demanded. */
enum tls_level route_level(const struct route *route, enum tls_level floor);

/* The policy of a route where more is demanded of it than it says. */
void route_policy(const struct route *route, enum tls_level floor,
                  struct tls_client_policy *policy);

/* What a message itself asks of its way (RFC 8689). */
enum route_wish {
    ROUTE_WISH_NONE,
    ROUTE_WISH_REQUIRETLS,      /* hosts that are authenticated, and offer it; no others */
    ROUTE_WISH_REQUIRETLS_NULL, /* of the null sender, whom nobody could tell: authenticated */
    ROUTE_WISH_TLS_OPTIONAL,    /* rather delivered than protected by what others publish */
    ROUTE_WISHES,
};

/* Name of the next hop for scheduling, leases and operators, with a terminator; its length.
 *   "mx:DOMAIN"             the built-in route
 *   "outbound:NAME"         hosts of its own
 *   "outbound:NAME:DOMAIN"  a connector to the domain's own MX
 * and "!LEVEL" behind it where floor is more than the route demands by itself, "+requiretls",
 * "+requiretls-null" or "+tls-optional" where the message has a wish. */
size_t route_key(const struct route *route, struct slice domain, enum tls_level floor,
                 enum route_wish wish, char out[ROUTE_KEY_BYTES]);
struct route_key_parts {
    struct slice name;    /* of the connector; empty: the built-in route */
    char domain[256];     /* whose MX; "": the connector has hosts of its own */
    enum tls_level floor; /* NONE: what the route demands by itself */
    enum route_wish wish;
};
/* False: it is no key of a route. */
bool route_key_read(const char *key, struct route_key_parts *parts);

/* One element of `hosts`: name, name:port, [addr], [addr]:port, IPv4 without brackets, mx,
 * mx:name. name_out takes the
 * normal form of a name (host->name points there). port 0 in host: none was written.
 * 0, or -EINVAL with words in *why. */
enum { ROUTE_HOST_TEXT_MAX = 256 };
[[nodiscard]] int route_host_parse(struct slice text, char name_out[ROUTE_HOST_TEXT_MAX],
                                   struct route_host *host, const char **why);

#endif
