/*
 * connector_count.h - what each connector did, counted by each shard on its own
 *
 *   a connector --its slot (mta/connector_slots.h)--> a row of this shard: one load, one store
 *   control --every row of every shard--> metrics, daily sums, `ringpost connector`
 *
 * A slot belongs to a name for as long as any generation has the name, so that counts outlive
 * reloads. Slot 0 of each direction is of no connector: mail that none has a say in, and the
 * default route.
 *
 * Rows are address space until they are first used: idle connectors cost a bit of a page table.
 * Bounds: CONNECTOR_SLOTS_MAX rows a direction and shard. Only the shard writes.
 */
#ifndef RINGPOST_MTA_CONNECTOR_COUNT_H
#define RINGPOST_MTA_CONNECTOR_COUNT_H

#include "core/metrics.h"
#include "mta/connector.h"
#include "mta/connector_token.h"
#include "mta/floor.h"
#include "mta/outbound_token.h"
#include "mta/readiness.h"

enum { CONNECTOR_SLOTS_MAX = 1 << 16 };

enum connector_tls {
    CONNECTOR_TLS_NONE,
    CONNECTOR_TLS_12,
    CONNECTOR_TLS_13,
    CONNECTOR_TLS_KINDS,
};
/* Inbound: what the client heard. Outbound: what became of an attempt. */
enum connector_result {
    CONNECTOR_DONE, /* accepted; delivered, to one recipient at least */
    CONNECTOR_DEFERRED,
    CONNECTOR_REFUSED, /* for good */
    CONNECTOR_RESULTS,
};
enum connector_clear {
    CONNECTOR_CLEAR_WANTED,    /* tls = none */
    CONNECTOR_CLEAR_NO_OFFER,  /* STARTTLS is not offered */
    CONNECTOR_CLEAR_HANDSHAKE, /* it failed before */
    CONNECTOR_CLEARS,
};

/* Rows are nothing but numbers; control adds them up word by word. */
struct connector_traffic {
    uint64_t events; /* all that was counted: 0 is an idle row */
    uint64_t messages[CONNECTOR_TLS_KINDS][2][CONNECTOR_RESULTS]; /* [1]: TLS was demanded */
    uint64_t hybrid[2]; /* of those done with 1.3: post-quantum key exchange */
    uint64_t bytes;     /* of those done */
    uint64_t hybrid_handshakes;
};
struct connector_in_row {
    struct connector_traffic traffic;
    uint64_t refused[TOKENS], would[TOKENS]; /* would[TOKEN_NONE]: accept */
    uint64_t by_certificate, by_address;     /* messages whose host was identified */
};
struct connector_out_row {
    struct connector_traffic traffic;
    uint64_t failures[OUTBOUND_TOKENS]; /* hosts that did not get mail for want of protection */
    uint64_t clear[CONNECTOR_CLEARS];   /* connections that carried mail so */
    uint64_t regressions[FLOOR_ACTIONS];
};

/* What all shards know of a connector now, by slot: the only thing about connectors that they share
 * and write, by atomic operations on one word. */
struct connector_now {
    uint32_t blocked;     /* control's: nothing comes or goes by it */
    uint32_t connections; /* inbound: sessions that are attributed to it */
    uint64_t rate_us;     /* inbound: when its messages of a minute are all to be had again */
    uint64_t abuse_us;    /* the same of answers 5yz to mail that came by it, in an hour */
};

enum { CONNECTOR_MINUTE_US = 60'000'000 };
#define CONNECTOR_HOUR_US (60ULL * CONNECTOR_MINUTE_US)

struct connector_counts {
    struct connector_in_row *in; /* by slot */
    struct connector_out_row *out;
    struct connector_now *now[CONNECTOR_DIRECTIONS]; /* control's; NULL: there is none */
    struct readiness readiness;                      /* whom those in test would refuse */
};

/* seed: so that nobody chooses who shares a place in readiness. 0 or -ENOMEM. */
[[nodiscard]] int connector_counts_init(struct connector_counts *counts, uint64_t seed);
void connector_counts_free(struct connector_counts *counts);

/* number: of the row that traffic begins. */
static inline void connector_count(struct connector_traffic *traffic, uint64_t *number, uint64_t by)
{
    metric_add(&traffic->events, 1);
    metric_add(number, by);
}

/* Read anew for each message: a mark acts at once, whatever generation a session has. */
static inline bool connector_is_blocked(const struct connector_counts *counts,
                                        enum connector_direction direction, uint32_t slot)
{
    return counts != NULL && counts->now[direction] != NULL &&
           __atomic_load_n(&counts->now[direction][slot].blocked, __ATOMIC_ACQUIRE) != 0;
}

/* One of many a period; that many may come at once. False: there is none now. full_us is shared by
 * all shards, now_us their clock. */
bool connector_take_one(uint64_t *full_us, uint64_t now_us, uint32_t many, uint64_t period_us);

/* All zero, CONNECTOR_SLOTS_MAX of them; NULL: no memory. */
struct connector_now *connector_now_new(void);
void connector_now_free(struct connector_now *now); /* NULL is allowed */

/* "in", "out" */
const char *connector_direction_name(enum connector_direction direction);
/* "accept", "defer", "reject"; outbound "delivered", "deferred", "bounced". */
const char *connector_result_name(enum connector_direction direction, enum connector_result result);
const char *connector_clear_name(enum connector_clear clear);
/* "none", "1.2", "1.3" */
const char *connector_tls_name(enum connector_tls tls);

#endif
