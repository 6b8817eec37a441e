/*
 * tlsrpt_count.h - sessions with MX hosts, counted in a shard for reports about TLS (RFC 8460)
 *
 *   tlsrpt_count --> a row of the lot --every LOT_MS, or full--> HANDOFF_TLSRPT --> control
 *                                            lot, empty again <--HANDOFF_TLSRPT_BACK--'
 *
 * A row is what a report tells apart: domain, policy, result, hosts; and how often it was seen.
 * There are two lots for each shard: one is being filled while control has the other. A session
 * for which there is no room is not in any report, and is counted as lost.
 */
#ifndef RINGPOST_MTA_TLSRPT_COUNT_H
#define RINGPOST_MTA_TLSRPT_COUNT_H

#include "core/metrics.h"
#include "core/net.h"
#include "core/shard.h"
#include "mta/outbound_token.h"
#include "mta/sts_policy.h"

enum {
    TLSRPT_DOMAIN_MAX = 256,
    TLSRPT_RECORDS_BYTES = 1'024, /* TLSA records as text; further ones are left out */
    TLSRPT_LOT_ROWS = 256,
};

enum tlsrpt_policy_type { TLSRPT_NO_POLICY, TLSRPT_STS, TLSRPT_TLSA };

/* Compared octet by octet: from all zero, and each text is filled up with zeros. */
struct tlsrpt_row {
    uint32_t type;               /* enum tlsrpt_policy_type */
    uint32_t token;              /* enum outbound_token; NONE: a good session */
    struct net_address from, to; /* from all zero: not known; ports are 0 */
    uint32_t sts_mode;
    char sts_id[STS_ID_MAX + 3];           /* and no octet between these */
    char domain[TLSRPT_DOMAIN_MAX];        /* the report's */
    char policy_domain[TLSRPT_DOMAIN_MAX]; /* of TLSA: the base domain */
    char host[TLSRPT_DOMAIN_MAX];       /* as its MX record calls it; failures only, as from, to */
    char records[TLSRPT_RECORDS_BYTES]; /* TLSA, a line each */
};

static_assert(sizeof(struct tlsrpt_row) == 3 * sizeof(uint32_t) + 2 * sizeof(struct net_address) +
                                               STS_ID_MAX + 3 + 3 * TLSRPT_DOMAIN_MAX +
                                               TLSRPT_RECORDS_BYTES);

struct tlsrpt_lot {
    struct list node; /* control's */
    unsigned from;    /* shard; filled in by control */
    unsigned count;
    uint64_t counts[TLSRPT_LOT_ROWS];
    struct tlsrpt_row rows[TLSRPT_LOT_ROWS];
    uint16_t places[2 * TLSRPT_LOT_ROWS]; /* by hash: number of a row, from 1 */
};

struct tlsrpt_numbers {
    uint64_t good, failed, lost;
};
extern const struct metric tlsrpt_metrics[];
extern const unsigned tlsrpt_metrics_count;

/* One per shard; all zero: nothing is counted. */
struct tlsrpt_shard {
    struct shard *shard;
    unsigned control;         /* index of its shard */
    struct tlsrpt_lot *lots;  /* two of them */
    struct tlsrpt_lot *lot;   /* the one that is being filled */
    struct tlsrpt_lot *spare; /* NULL: control has it */
    struct timer timer;
    struct tlsrpt_numbers numbers;
};

/* 0 or -ENOMEM. */
[[nodiscard]] int tlsrpt_shard_init(struct tlsrpt_shard *tlsrpt, struct shard *shard,
                                    unsigned control);
void tlsrpt_shard_free(struct tlsrpt_shard *tlsrpt); /* harmless when init has not run */
void tlsrpt_count(struct tlsrpt_shard *tlsrpt, const struct tlsrpt_row *row);
/* Of one that control has read. */
void tlsrpt_lot_clear(struct tlsrpt_lot *lot);

#endif
