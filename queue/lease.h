/*
 * lease.h - limits of a next hop that all shards keep together: connections, rate, back-off
 *
 *   holder (each shard): wants --lease_ask--> owner (one shard, by the key)
 *                        has   <--lease_tell-- slots and tokens in lots, health, a probe
 *
 * A slot is the right to have one connection, a token the right to send one message. What a shard
 * holds it uses without asking anybody. Slots that it has no use for go back; so do those that the
 * owner gives others, when their connection has ended its message. No more slots are out than the
 * limit says, counting what is on its way: an ask says what came back since the beginning, a tell
 * what was given since the beginning, so each may replace an earlier one that was not sent.
 *
 *   health: WORKS --failed--> BACK-OFF --over--> one holder gets the probe --works--> WORKS
 *                                ^---------------failed----------'
 *
 * While it is in back-off nobody connects; who has connections that work says so, and then it is
 * not: it only takes no more of them, and for a while no more are given out.
 *
 * Pure: no I/O, no clock but the one pointed to, timers of the shard's wheel. Who carries asks and
 * tells (mta/lease_shard.c) must keep their order for each pair of shards, and may be as late as
 * it likes. Slots have no time limit: shards live as long as the process.
 *
 * Bounds: leases of a holder, sites of an owner, LEASE_SHARDS_MAX. A site that is only remembered
 * for its back-off gives way to one that is wanted. A key without a site is asked for again each
 * LEASE_KEEP_MS.
 */
#ifndef RINGPOST_QUEUE_LEASE_H
#define RINGPOST_QUEUE_LEASE_H

#include "core/metrics.h"
#include "core/pool.h"
#include "core/slice.h"
#include "core/timer.h"

enum {
    LEASE_SHARDS_MAX = 64,
    LEASE_WANTED_MAX = 4'096, /* slots or tokens that one ask is for */
    LEASE_KEEP_MS = 1'000,    /* what has not been used for so long goes back */
    LEASE_TURN_MS = 1'000,    /* with more shards than slots each has one for so long */
    LEASE_LOTS = 20,          /* of tokens, in a second */
    LEASE_LOT_MS = 10,        /* and not less apart, when they are short */
    LEASE_CEILING_MS = 60'000,
    LEASE_PAUSE_MS = 1'000, /* at first, for who was refused while others are connected */
    LEASE_PAUSES_MAX = 5,   /* doublings of it */
    LEASE_WHY_MAX = 160,
};

struct lease_key {
    uint64_t word[2];
};

struct lease_limits {
    uint64_t generation; /* of the configuration: the newest one counts */
    uint32_t slots;      /* 1 or more */
    uint32_t rate;       /* tokens a minute; 0: none are needed */
};

enum lease_report {
    LEASE_SILENT,
    LEASE_FAILED,
    LEASE_WORKS,  /* a connection came about */
    LEASE_SERVES, /* others say it failed, but we have connections */
};

/* To the owner. Counts are since the lease was made, and wrap. */
struct lease_ask {
    struct lease_key key;
    struct lease_limits limits;
    uint32_t number;
    uint32_t seen; /* tells */
    uint32_t slots_granted, slots_returned;
    uint32_t slots_wanted; /* besides those */
    uint32_t tokens_granted, tokens_used, tokens_returned;
    uint32_t tokens_wanted;
    uint32_t round; /* of the health that was known */
    uint32_t failures;
    uint64_t failed_ms;  /* FAILED: when; */
    uint64_t retry_ms;   /* the end of the back-off */
    uint64_t ordered_ms; /* an operator wanted it tried then: back-offs for what failed before are
                            over. 0: nobody did */
    uint8_t report;      /* enum lease_report */
    uint8_t token;       /* FAILED: the reporter's number for it */
    bool probes;         /* it has a use for the probe, if it has that */
    char why[LEASE_WHY_MAX];
};

/* To a holder. */
struct lease_tell {
    struct lease_key key;
    uint32_t number;
    uint32_t heard; /* asks */
    uint32_t slots; /* granted */
    uint32_t slots_keep;
    uint32_t tokens;
    uint32_t round;
    uint32_t failures;
    uint64_t failed_ms; /* the last time */
    uint64_t retry_ms;
    uint8_t token;
    bool probe;
    bool ceiling; /* fewer connections than the limit, for it took no more */
    char why[LEASE_WHY_MAX];
};

struct lease_numbers {
    uint64_t asked, granted, refused, recalled, returned, tokens, probes, failures, ceilings, full;
    uint64_t leases, sites; /* now */
};
extern const struct metric lease_metrics_table[];
extern const unsigned lease_metrics_count;

/* ---- holder ---- */

struct lease {
    struct list node;  /* hash chain */
    struct list dirty; /* of the holder's, while there is something to say */
    struct timer timer;
    struct lease_holder *holder;
    struct lease_key key;
    struct lease_limits limits;
    uint32_t references;
    uint32_t number, heard; /* asks: said, and answered */
    uint32_t seen;          /* tells */
    /* slots_said and tokens_said: granted, when all that was asked for is */
    uint32_t slots_granted, slots_returned, slots_used, slots_low, slots_wanted, slots_said;
    uint32_t slots_keep;
    uint32_t tokens_granted, tokens_used, tokens_returned, tokens_low, tokens_wanted, tokens_said;
    uint32_t tokens_ahead, tokens_lot;
    uint32_t leaving; /* slots whose connection is about to end for the sake of others */
    uint32_t serving; /* connections that work */
    /* health */
    uint32_t round;
    uint32_t failures; /* 0: it works */
    uint64_t failed_ms;
    uint64_t retry_ms;
    uint64_t ordered_ms; /* by an operator, as far as is known here */
    uint8_t token;
    uint8_t report; /* enum lease_report; what the owner has not answered yet */
    uint32_t report_number;
    bool probe;   /* it may connect, once */
    bool probing; /* that connection */
    bool ceiling;
    char why[LEASE_WHY_MAX];
    /* of the user */
    struct list waiting;      /* next hops, for a slot */
    struct list resting_hops; /* next hops with a connection that waits for a token */
    struct list aside;        /* destinations that wait without one */
    struct list resting;      /* connections that have nothing to do */
    struct list wake;
    uint64_t waiting_slots, waiting_tokens; /* wanted by those that wait */
    uint32_t waiting_count;
    uint32_t waiting_turns; /* of them, about to take a slot */
    uint32_t waiting_round; /* of health, that they know of */
};

struct lease_holder {
    struct timers *timers;
    const uint64_t *now_ms;
    struct pool leases;
    struct list *hashes;
    uint32_t mask;
    struct list dirty;
    /* More may be done, or less, than before. Not from inside the calls below. */
    void (*changed)(void *owner, struct lease *lease);
    void *owner;
    struct lease_numbers *numbers;
};

/* The most memory that one takes. */
uint64_t lease_holder_bytes(uint32_t leases_max);
[[nodiscard]] int lease_holder_init(struct lease_holder *holder, uint32_t leases_max,
                                    struct timers *timers, const uint64_t *now_ms,
                                    struct lease_numbers *numbers);
void lease_holder_free(struct lease_holder *holder);

/* A reference to the lease of this key; NULL: there are too many. */
struct lease *lease_get(struct lease_holder *holder, const struct lease_key *key,
                        const struct lease_limits *limits);
/* The one that there is, without a reference; or NULL. */
struct lease *lease_find(struct lease_holder *holder, const struct lease_key *key);
void lease_put(struct lease *lease);
/* What those who wait want altogether, besides what they have. */
void lease_want(struct lease *lease, uint32_t slots, uint32_t tokens);

/* A connection may be begun: true, and a slot is used; *probe: it is the one that may try. */
[[nodiscard]] bool lease_take_slot(struct lease *lease, bool *probe);
/* How many could be begun now. */
uint32_t lease_usable_slots(const struct lease *lease);
void lease_give_slot(struct lease *lease, bool probe);
/* Slots that others are to have, of those in use and not leaving yet. */
uint32_t lease_surplus(const struct lease *lease);
/* A message may go: true, and a token is used. more: that are ready behind it. */
[[nodiscard]] bool lease_take_token(struct lease *lease, uint32_t more);
uint32_t lease_tokens(const struct lease *lease);
/* A message may go, as far as the rate is concerned. */
bool lease_has_token(const struct lease *lease);

/* No connection came about. False: that is known, or this was not for us to try: nothing changes.
 * True: all holders hear of it. */
bool lease_failed(struct lease *lease, uint32_t failures, uint64_t retry_ms, uint8_t token,
                  struct slice why);
/* An operator wanted it tried at ordered_ms: if it did not fail since, its back-off is over now,
 * for all. May be said again. */
void lease_retry(struct lease *lease, uint64_t ordered_ms);
/* A connection came about, and is one that works; until lease_serves_less. */
void lease_works(struct lease *lease);
void lease_serves_less(struct lease *lease);

/* The next lease that has something to say, and that; said when it is on its way. */
struct lease *lease_next(struct lease_holder *holder);
void lease_say(struct lease *lease, struct lease_ask *ask);
void lease_said(struct lease *lease, const struct lease_ask *ask);
/* The lease may be gone after that, when nobody has a reference. quietly: without changed(). */
void lease_hear(struct lease_holder *holder, const struct lease_tell *tell, bool quietly);

/* ---- owner ---- */

struct lease_share { /* of one holder */
    struct list dirty;
    struct lease_site *site;
    uint64_t pause_ms; /* it gets none before */
    uint64_t paused_ms;
    uint32_t heard, number;
    uint32_t probe_number;
    uint32_t granted, returned, asked, keep; /* asked: granted, when all is */
    uint32_t tokens, tokens_back, tokens_used, tokens_asked;
    uint8_t holder;
    uint8_t pauses;
    bool known;
    bool closing; /* it has nothing and wants nothing: forgotten when it has been told so */
    bool probe;
    bool pausing;
};

struct lease_site {
    struct list node;
    struct list remembered; /* of the owner's, while no holder has anything */
    struct timer timer;
    struct lease_owner *owner;
    struct lease_key key;
    struct lease_limits limits;
    uint32_t held;
    uint32_t known;                        /* shares */
    uint32_t turn, token_turn, probe_turn; /* who is the next one */
    uint64_t turn_ms;
    bool contended;  /* more holders than slots */
    uint64_t credit; /* tokens * 60'000 */
    uint64_t credit_ms;
    uint32_t outstanding; /* tokens */
    uint32_t round, failures;
    uint64_t failed_ms;
    uint64_t retry_ms;
    uint64_t ordered_ms;
    uint32_t ceiling;
    uint64_t ceiling_ms; /* until */
    uint8_t token;
    uint8_t failed_by;
    bool probed; /* some share has the probe */
    char why[LEASE_WHY_MAX];
    struct lease_share shares[];
};

struct lease_owner {
    struct timers *timers;
    const uint64_t *now_ms;
    unsigned shards;
    struct pool sites;
    struct list *hashes;
    uint32_t mask;
    struct list dirty;      /* shares */
    struct list remembered; /* sites, the longest so first: they give way to new ones */
    struct lease_numbers *numbers;
};

uint64_t lease_owner_bytes(uint32_t sites_max, unsigned shards);
[[nodiscard]] int lease_owner_init(struct lease_owner *owner, unsigned shards, uint32_t sites_max,
                                   struct timers *timers, const uint64_t *now_ms,
                                   struct lease_numbers *numbers);
void lease_owner_free(struct lease_owner *owner);
void lease_owner_hear(struct lease_owner *owner, unsigned holder, const struct lease_ask *ask);
/* The next holder that is to be told something, and what; told when it is on its way. */
struct lease_share *lease_owner_next(struct lease_owner *owner);
void lease_owner_say(const struct lease_share *share, struct lease_tell *tell);
void lease_owner_said(struct lease_share *share);
/* What holder would be told of this key now; NULL: nothing. */
struct lease_share *lease_owner_share(struct lease_owner *owner, unsigned holder,
                                      const struct lease_key *key);

#endif
