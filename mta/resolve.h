/*
 * resolve.h - from a next hop to the addresses to try, in order (RFC 5321 5, RFC 7505)
 *
 *   resolve_start --> MX of each hop that has one --> A and AAAA of its hosts --> resolved()
 *        '--resolve_forget: no callback
 *
 * A destination is a list of hops: one MX hop for an ordinary domain, a route's hosts for a route.
 * Hosts are tried by rank: the hop's place in the list, then the MX preference; equal ones in
 * random order; each one's addresses round by round, families alternating.
 *
 * The pure parts (names and addresses in, order and verdict out) are separate functions, so that
 * each rule has its test.
 */
#ifndef RINGPOST_MTA_RESOLVE_H
#define RINGPOST_MTA_RESOLVE_H

#include "core/dns.h"
#include "core/metrics.h"
#include "core/pool.h"
#include "mta/smtp_reply.h"

enum {
    RESOLVE_HOPS_MAX = 64,
    RESOLVE_HOSTS_MAX = 100,        /* MX hosts kept, of all hops; the best ones of each */
    RESOLVE_ALIASES_MAX = 90,       /* names at the end of their CNAMEs */
    RESOLVE_TARGETS_MAX = 20,       /* addresses handed out */
    RESOLVE_CNAMES_MAX = 8,         /* on the way to one name */
    RESOLVE_HOSTS_AT_ONCE = 8,      /* asked at a time: twice as many queries in flight */
    RESOLVE_HOST_ADDRESSES_MAX = 8, /* of one family of one host */
    RESOLVE_FOUND_MAX = RESOLVE_TARGETS_MAX - 1 +
                        RESOLVE_HOSTS_AT_ONCE * 2 * RESOLVE_HOST_ADDRESSES_MAX + RESOLVE_HOPS_MAX,
    RESOLVE_OWN_NAMES_MAX = 16,
    RESOLVE_WHY_MAX = 192,
};

/* ---- asked ---- */

enum resolve_kind {
    RESOLVE_MX,      /* the MX of name; without any, name itself (implicit MX) */
    RESOLVE_HOST,    /* name's addresses */
    RESOLVE_ADDRESS, /* a literal */
};

struct resolve_hop {
    enum resolve_kind kind;
    const char *name; /* A-labels, no trailing dot; RESOLVE_MX: may be "[192.0.2.1]" too */
    uint16_t port;    /* 0: the policy's */
    struct net_address address; /* RESOLVE_ADDRESS (name is not needed); its port is ignored */
    bool trusted; /* an operator wrote it: any address will do, save our own. Not for MX of
                     strangers */
};

/* Copied by resolve_start; names, own and allowed stay until resolved(). */
struct resolve_policy {
    uint16_t port; /* 25; LMTP has no usual one */
    bool no_ipv4;
    bool no_ipv6;
    const char *const *own_names; /* of this host, as they stand in MX records */
    unsigned own_names_count;
    const struct net_address *own; /* where we listen, wildcards resolved. A loop: on any port
                                    when DNS says so; for trusted hops on this port (0: any) */
    unsigned own_count;
    const struct net_prefix *allowed; /* private networks that public names may point to */
    unsigned allowed_count;
    uint32_t total_ms; /* for all questions together */
};

/* ---- answered ---- */

enum resolve_verdict {
    RESOLVE_FOUND, /* one target or more */
    RESOLVE_TEMPORARY,
    RESOLVE_PERMANENT,
};

struct resolve_target {
    struct net_address address; /* with port */
    const char *host;           /* good until resolved() returns */
    uint32_t rank;              /* place of the hop << 16 | MX preference */
    const char *canonical;      /* at the end of host's CNAMEs; host itself where there are none */
    bool secure;                /* MX and address were validated (DNSSEC), all the way */
    bool mx_secure;             /* the MX answer was, or the operator named the host */
};

/* Of the MX hosts by name, those without an address too: the same for all domains that have them.
 */
struct resolve_site {
    uint8_t digest[32];
};

struct resolve_result {
    enum resolve_verdict verdict;
    uint16_t code;                 /* 556 for a null MX, else 0: nobody said a code */
    struct smtp_enhanced enhanced; /* unless FOUND */
    bool bogus;                    /* TEMPORARY, for a validation that failed */
    const char *why;               /* printable ASCII, at most RESOLVE_WHY_MAX; unless FOUND */
    uint32_t ttl_s;                /* the least of all answers that went into it */
    unsigned count;
    const struct resolve_target *targets; /* good until resolved() returns */
    struct resolve_site site;             /* FOUND */
};

struct resolve;

struct resolve_request {
    void (*resolved)(struct resolve_request *request, const struct resolve_result *result);
    struct resolve *resolve; /* NULL: idle */
};

/* Per shard. */
struct resolve_numbers {
    uint64_t started, found, temporary, permanent;
    uint64_t null_mx, loops, refused_addresses, bogus, timeouts, questions;
};
extern const struct metric resolve_metrics[];
extern const unsigned resolve_metrics_count;

struct resolves {
    struct shard *shard;
    struct dns *dns;
    struct pool pool;
    struct resolve_numbers numbers;
};

uint64_t resolves_bytes(uint32_t count); /* of memory, at most */
/* count: resolutions under way at a time. 0 or errno. */
[[nodiscard]] int resolves_init(struct resolves *resolves, struct shard *shard, struct dns *dns,
                                uint32_t count);
void resolves_free(struct resolves *resolves);

/* hops are copied, names included; one at least, RESOLVE_HOPS_MAX at most. The answer comes from
 * the loop, never from in here. 0, or -ENOBUFS: too many under way, try later. */
[[nodiscard]] int resolve_start(struct resolves *resolves, const struct resolve_policy *policy,
                                const struct resolve_hop *hops, unsigned hops_count,
                                struct resolve_request *request);
/* No callback after this; harmless when idle. */
void resolve_forget(struct resolves *resolves, struct resolve_request *request);

/* ---- the pure parts, in resolve_order.c ---- */

struct resolve_host {
    uint32_t rank;
    uint16_t name; /* where its name begins in the names */
    uint8_t hop;
    bool secure;
    uint64_t shuffle; /* random: decides among equal ranks */
};

struct resolve_found {
    struct net_address address; /* with port */
    uint32_t rank;
    uint16_t name; /* of its host, as above */
    uint16_t canonical;
    uint16_t round; /* how many of its host and family are before it */
    bool secure;
    bool mx_secure;
    bool v4;
    uint64_t shuffle; /* its host's */
};

enum resolve_address {
    RESOLVE_ADDRESS_GOOD,
    RESOLVE_ADDRESS_OWN,     /* a loop */
    RESOLVE_ADDRESS_SPECIAL, /* loopback, private and the like from public DNS */
    RESOLVE_ADDRESS_FAMILY,  /* turned off */
};
enum resolve_address resolve_judge(const struct resolve_policy *policy, bool trusted,
                                   const struct net_address *address);
bool resolve_own_name(const struct resolve_policy *policy, const char *name);
/* "[192.0.2.1]", "[IPv6:2001:db8::1]". 0 or -EINVAL. */
[[nodiscard]] int resolve_literal(const char *text, struct net_address *address);
/* By rank, then by chance. */
void resolve_sort_hosts(struct resolve_host *hosts, unsigned count);
/* By rank, round, chance, family (an even shuffle has IPv6 first). */
void resolve_sort_found(struct resolve_found *found, unsigned count);

#endif
