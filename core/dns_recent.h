/*
 * dns_recent.h - addresses of hosts that the resolver has just told
 *
 * Many domains have their mail at the same few hosts. Each question to the resolver is two handoffs
 * and the pipe to libunbound's thread, which costs more than all else of a look-up that its cache
 * answers. So a shard remembers addresses (A and AAAA), and that there are none, for DNS_RECENT_MS,
 * and never longer than their TTL. What is to be remembered for longer is libunbound's matter.
 *
 * Owned by one shard. Bounds: DNS_RECENT_MAX answers, each in the one place that its name has: a
 * new one takes the place of another. Failures are not remembered, nor what is cut or has more than
 * DNS_RECENT_RECORDS records.
 */
#ifndef RINGPOST_CORE_DNS_RECENT_H
#define RINGPOST_CORE_DNS_RECENT_H

#include "core/dns.h"

enum { DNS_RECENT_MAX = 256, DNS_RECENT_RECORDS = 8, DNS_RECENT_MS = 10'000 };

struct dns_recent_entry {
    uint64_t until_ms;   /* it is used; 0: empty */
    uint64_t expires_ms; /* its TTL */
    enum dns_type type;
    enum dns_status status;
    bool secure;
    unsigned cnames;
    unsigned count;
    uint8_t octets[DNS_RECENT_RECORDS][16];
    char name[DNS_NAME_MAX];
    char canonical[DNS_NAME_MAX];
};

/* Zeroed at first. */
struct dns_recent {
    struct dns_recent_entry entries[DNS_RECENT_MAX];
};

/* name: lower case, without trailing dot. now_ms: monotonic. */
void dns_recent_put(struct dns_recent *recent, const char *name, enum dns_type type,
                    const struct dns_answer *answer, uint64_t now_ms);
/* False: nothing is remembered. The answer's records are in records, what they and it point at is
 * good until the next put. */
bool dns_recent_get(const struct dns_recent *recent, const char *name, enum dns_type type,
                    uint64_t now_ms, struct dns_record records[static DNS_RECENT_RECORDS],
                    struct dns_answer *answer);

#endif
