/*
 * route.h - where mail for a domain goes: static routes, and MX for all that has none
 *
 * A route says how to reach a next hop; which recipients take it is a separate question, answered
 * by route_select. Outbound connectors will ask that question with more facts and give the same
 * struct route, so delivery does not change then. Nothing in here asks DNS or keeps state.
 *
 * Routes belong to a configuration generation (mta/config.h) and live as long as it.
 */
#ifndef RINGPOST_MTA_ROUTE_H
#define RINGPOST_MTA_ROUTE_H

#include "core/net.h"
#include "mta/floor.h"
#include "tls/tls_client.h"
#include "core/slice.h"

enum {
    ROUTES_MAX = 4'096,
    ROUTE_HOSTS_MAX = 64,   /* of one route */
    ROUTE_SOURCES_MAX = 32, /* source addresses of one route, both families */
    ROUTE_NAME_MAX = 63,    /* a title: letters, digits, '.', '_', '-' */
    ROUTE_KEY_BYTES = 6 + ROUTE_NAME_MAX + 1 + 255 + 1, /* "route:" NAME ":" domain NUL */
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

struct route {
    const char *name; /* the title; "" is the built-in route: MX delivery */
    uint32_t index;   /* in config->routes; ROUTES_MAX for the built-in one */
    uint32_t line;    /* of the file, for explain; 0: built in */
    const struct route_host *hosts;
    unsigned hosts_count; /* 1 or more */
    enum route_order order;
    enum route_protocol protocol;
    uint16_t port;            /* of hosts that name none, and of MX hosts */
    bool allow_special;       /* private and own-network addresses may come out of DNS */
    unsigned connections_max; /* to the next hop over the node; 0: delivery's */
    unsigned messages_max;    /* over one connection; 0: delivery's */
    const char *ehlo;         /* never NULL: the route's, or the hostname */
    const struct net_address *sources_v4; /* to bind to; none: the kernel chooses */
    unsigned sources_v4_count;
    const struct net_address *sources_v6;
    unsigned sources_v6_count;
    struct tls_client_policy tls;
    enum route_clear clear;        /* read at MAY only */
    enum floor_action floor;       /* when a host offers less than remembered */
    bool tls_implicit;             /* TLS from the first octet */
    const struct slice *tls_names; /* wanted in certificates; none: what hosts are called */
    unsigned tls_names_count;
};

struct config;

/* The route of a domain in normal form (mta/pattern.h); the built-in MX route when no pattern
 * fits. Never NULL. Pure: the same answer in the server, in explain and in tests. */
const struct route *route_select(const struct config *config, struct slice domain);

/* Whether the next hop depends on the recipient's domain (hosts = { mx }). */
bool route_by_domain(const struct route *route);

/* Name of the next hop for scheduling, leases and operators, with a terminator; its length.
 *   "mx:DOMAIN"          the built-in route
 *   "route:NAME"         hosts of its own
 *   "route:NAME:DOMAIN"  a named route to the domain's own MX */
size_t route_key(const struct route *route, struct slice domain, char out[ROUTE_KEY_BYTES]);

/* One element of `hosts`: name, name:port, [addr], [addr]:port, IPv4 without brackets, mx,
 * mx:name. name_out takes the
 * normal form of a name (host->name points there). port 0 in host: none was written.
 * 0, or -EINVAL with words in *why. */
enum { ROUTE_HOST_TEXT_MAX = 256 };
[[nodiscard]] int route_host_parse(struct slice text, char name_out[ROUTE_HOST_TEXT_MAX],
                                   struct route_host *host, const char **why);

#endif
