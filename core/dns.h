/*
 * dns.h - names to records, validated, without waiting
 *
 * One resolver per process (libunbound, its own cache), owned by the control thread; shards ask and
 * are answered by handoff. Forwarders have an address and a port, or are the system's; without any
 * it recurses by itself. Trust anchors come from a file. Behind the interface there is a second
 * implementation: the simulator's table of answers.
 *
 *   dns_query: idle --dns_ask--> asked --answered()--> idle
 *                                  '--dns_forget--> (answer is dropped) idle
 */
#ifndef RINGPOST_CORE_DNS_H
#define RINGPOST_CORE_DNS_H

#include "core/shard.h"

enum {
    DNS_NAME_MAX = 254,    /* as text without the trailing dot, and a terminator */
    DNS_RECORDS_MAX = 128, /* kept of an answer; more are cut and said so */
    DNS_DATA_MAX = 4'096,  /* bytes of a record's data; longer ones are left out (cut) */
};

enum dns_type {
    DNS_A = 1,
    DNS_CNAME = 5,
    DNS_SOA = 6,
    DNS_PTR = 12,
    DNS_MX = 15,
    DNS_TXT = 16,
    DNS_AAAA = 28,
    DNS_TLSA = 52
};

enum dns_status {
    DNS_OK,     /* one record or more */
    DNS_NODATA, /* the name exists, not with this type */
    DNS_NXDOMAIN,
    DNS_SERVFAIL, /* also: refused, malformed, resolver out of order */
    DNS_TIMEOUT,
    DNS_BOGUS, /* validation failed: never taken for "no such record" */
};

struct dns_record {
    uint16_t preference; /* MX */
    uint16_t size;       /* of data */
    const uint8_t *data; /* A, AAAA: the octets. MX, CNAME, PTR: the name as text, terminated, lower
                            case, without trailing dot ("" is the root). Else: RDATA */
};

struct dns_answer {
    enum dns_status status;
    bool secure;     /* validated (AD) */
    bool cut;        /* there were more: above DNS_RECORDS_MAX, or malformed and left out */
    uint32_t ttl_s;  /* also of a negative answer */
    unsigned cnames; /* followed on the way */
    unsigned count;
    const struct dns_record *records; /* good until the callback returns */
    const char *canonical;            /* name at the end of the CNAME chain */
    const char *why;                  /* words for SERVFAIL, TIMEOUT, BOGUS */
};

struct dns_query {
    void (*answered)(struct dns_query *query, const struct dns_answer *answer);
    struct shard *shard;
    struct dns_request *request; /* NULL: idle */
    uint64_t deadline_ms;        /* monotonic; 0, or later than timeout_ms: that is used */
    struct list node;            /* private */
};

struct dns_options {
    const struct net_address *forwarders; /* with ports */
    unsigned forwarders_count;            /* 0: own recursion */
    const char *resolv_conf_file;         /* more forwarders (resolv.conf(5)); NULL: none */
    const char *trust_anchor_file;        /* NULL: no validation */
    const char *root_hints_file;          /* NULL: built in */
    uint32_t timeout_ms;                  /* an answer later than this is DNS_TIMEOUT */
    uint32_t queries_max; /* in flight over the process; more: DNS_SERVFAIL at once */
};

struct dns_ops {
    void (*ask)(void *resolver, struct dns_query *query, const char *name, enum dns_type type);
    void (*forget)(void *resolver, struct dns_query *query);
};

/* What a shard holds. */
struct dns {
    const struct dns_ops *ops;
    void *resolver;
};

/* The answer comes from the shard's loop, never from in here. name: without trailing dot. */
static inline void dns_ask(struct dns *dns, struct shard *shard, struct dns_query *query,
                           const char *name, enum dns_type type)
{
    query->shard = shard;
    dns->ops->ask(dns->resolver, query, name, type);
}
/* No callback after this; harmless when idle. */
static inline void dns_forget(struct dns *dns, struct dns_query *query)
{
    dns->ops->forget(dns->resolver, query);
}

struct resolver;
/* On the control shard's thread (the last one of the group), whose ring polls for it; after
 * shard_init, before the shard's first step. Handoff kinds ask_kind and answer_kind are set aside
 * for it on all shards by resolver_attach. 0, or errno with words in *why (good for ever). options
 * and what they point at are not kept. */
[[nodiscard]] int resolver_new(struct shard *control, const struct dns_options *options,
                               uint32_t ask_kind, uint32_t answer_kind, struct resolver **resolver,
                               const char **why);
/* On the control shard's thread when the other shards' have ended (nobody is answered any more);
 * turns the control shard's loop until its poll has landed. */
void resolver_free(struct resolver *resolver);
/* For each shard that will ask, before its thread starts. */
void resolver_attach(struct resolver *resolver, struct shard *shard, struct dns *dns);

#endif
