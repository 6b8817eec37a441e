/*
 * lookup.h - where a next hop is, asked once by a command
 *
 * Runs to its end on the calling thread, on a ring, a shard and a resolver of its own; the answer
 * is the one that a delivery gets (resolve.h).
 */
#ifndef RINGPOST_MTA_LOOKUP_H
#define RINGPOST_MTA_LOOKUP_H

#include "mta/dane_lookup.h"
#include "mta/resolve.h"

struct lookup_dane {
    enum host_dane dane; /* OFF: there is no trust anchor */
    char base[DNS_NAME_MAX];
    char why[DANE_WHY_MAX];
    struct tls_dane_set set; /* empty unless USABLE */
    bool validated;          /* by DNSSEC; never not, but by lookup_published */
    uint32_t ttl_s;          /* of the records */
};

struct lookup {
    struct resolve_result result;
    struct resolve_target targets[RESOLVE_TARGETS_MAX];
    char hosts[RESOLVE_TARGETS_MAX][DNS_NAME_MAX];
    char aliases[RESOLVE_TARGETS_MAX][DNS_NAME_MAX];
    struct lookup_dane danes[RESOLVE_TARGETS_MAX]; /* of each target's host, by its address */
    char why[RESOLVE_WHY_MAX];
};

/* Fills in lookup, which is what its result points into. 0, or an errno that was told on standard
 * error: no io_uring, no memory, files of options that cannot be used. */
[[nodiscard]] int lookup_run(const struct dns_options *options, const struct resolve_policy *policy,
                             const struct resolve_hop *hop, struct lookup *lookup);
/* What is published as TLSA records of a host of ours, by its name alone, and whether DNSSEC
 * vouches for it or not. 0, or errno as above. */
[[nodiscard]] int lookup_published(const struct dns_options *options, const char *host,
                                   uint16_t port, struct lookup_dane *out);
/* Records of one name and type: told is called once, before it returns 0; or errno as above. */
[[nodiscard]] int lookup_records(const struct dns_options *options, const char *name,
                                 enum dns_type type,
                                 void (*told)(void *argument, const struct dns_answer *answer),
                                 void *argument);

#endif
