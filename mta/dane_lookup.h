/*
 * dane_lookup.h - what DNS says of one host's TLSA records (RFC 7672 2.2, 3.1)
 *
 *   dane_lookup_start --> [CNAME] --> TLSA of each base domain, until one has some --> looked_up()
 *         '--nothing to ask: true at once         '--dane_lookup_forget: no callback
 *
 * Only what DNSSEC has validated counts: the MX answer, the addresses, the records themselves. The
 * TLSA base domain is the name at the end of the host's CNAMEs, where all of them are signed, else
 * the host's own name, where at least its own CNAME is.
 *
 * A failure to find out is never "no such record": the host is passed over then.
 */
#ifndef RINGPOST_MTA_DANE_LOOKUP_H
#define RINGPOST_MTA_DANE_LOOKUP_H

#include "core/dns.h"
#include "core/metrics.h"
#include "core/pool.h"
#include "mta/host_policy.h"

enum { DANE_WHY_MAX = 160 };

struct dane_numbers {
    uint64_t results[HOST_DANES];
};
extern const struct metric dane_metrics[];
extern const unsigned dane_metrics_count;

/* Per shard. */
struct danes {
    struct shard *shard;
    struct dns *dns;
    struct pool sets; /* struct tls_dane_set */
    struct dane_numbers numbers;
    bool takes_unvalidated; /* what is published is asked, not what may be relied on: for a command
                               about our own records, never for a delivery */
};

/* count: hosts with usable records that are connected to at a time. 0 or errno. */
[[nodiscard]] int danes_init(struct danes *danes, struct shard *shard, struct dns *dns,
                             uint32_t count);
void danes_free(struct danes *danes);

struct dane_host {
    const char *host;      /* as the MX record or the configuration calls it; NULL: an address */
    const char *canonical; /* at the end of its CNAMEs */
    uint16_t port;
    bool secure;    /* MX and addresses were validated, all the way */
    bool mx_secure; /* MX was, or it has none */
};

struct dane_lookup {
    void (*looked_up)(struct dane_lookup *lookup);

    /* --- answered --- */
    enum host_dane dane;
    struct tls_dane_set *set; /* USABLE; or NULL */
    char base[DNS_NAME_MAX];  /* TLSA base domain: SNI, and a name for usage 2 */
    char why[DANE_WHY_MAX];   /* BOGUS, BAD */
    bool validated;           /* the answer with the records was, by DNSSEC */
    uint32_t ttl_s;           /* of the records, if there are some */

    /* --- private --- */
    struct danes *danes; /* NULL: idle */
    struct dns_query query;
    uint16_t port;
    bool asks_alias;
    bool under_way;
    char next[DNS_NAME_MAX]; /* the other base domain; "": none */
};

/* True: answered already, looked_up does not come. The host's texts are copied. */
bool dane_lookup_start(struct dane_lookup *lookup, struct danes *danes,
                       const struct dane_host *host);
/* Gives the set back too. Harmless at any time. */
void dane_lookup_forget(struct dane_lookup *lookup);

#endif
