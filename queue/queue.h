/*
 * queue.h - the mail we answer for: messages, their units, and the destinations these wait for
 *
 *   unit: READY --queue_pull--> ACTIVE --queue_settle--> SETTLING --+-- all final --> gone
 *           ^                                                       '-- some left --> DEFERRED
 *           '------------- timer, queue_retry ------------------------------------------'
 *   HELD: damaged or held by an operator; nothing but an operator moves it.
 *
 * A message is in memory by what the schedule needs; envelope and body are in the spool. A unit is
 * the set of its recipients that share a destination: the thing that is sent. Each recipient that
 * is not final belongs to exactly one unit. When the last one is final and that is on stable
 * storage, the message is freed.
 *
 * The queue never calls mail code by name: it is pulled from and reported to. It asks its owner
 * where a recipient goes (route), and tells it when a destination has something ready (wanted).
 *
 * Expiry holds in every state: each unit's timer is armed at the latest for the end of its
 * message's life. A life of 0 ends with the first attempt. Times are steady ones (core/shard.h):
 * that the wall clock is set changes no age; only text for people has dates. Once in it, unless
 * nobody wants to know, the owner is told that a unit is late: when an attempt defers it
 * (unit_is_late), or, when there is no attempt because the destination fails, by the unit's timer
 * (late).
 *
 * Bounds: queue_options; a full queue is known before a message is taken in (queue_reserve), so
 * that what is durable always finds its place.
 */
#ifndef RINGPOST_QUEUE_QUEUE_H
#define RINGPOST_QUEUE_QUEUE_H

#include "core/metrics.h"
#include "core/pool.h"
#include "core/shard.h"
#include "queue/lane.h"
#include "queue/recovery.h"
#include "queue/scan.h"
#include "queue/spool.h"

enum {
    DESTINATION_KEY_MAX = 360, /* with a terminator */
    QUEUE_TEXT_MAX = 192,      /* of the last error of a destination */
    QUEUE_SETTLE_INLINE = 8,   /* outcomes kept in a settlement itself */
    QUEUE_LARGE_SETTLEMENTS = 64,
    QUEUE_UNRECORDED_MAX = 256, /* settlements that nobody waits for, while the disk takes none */
    QUEUE_MESSAGE_BYTES_MAX = 256, /* of memory: a queued message with one recipient, all told */
};
#define QUEUE_PARKING_KEY "parked:"

/* What each message looks at comes first, in the order in which it does, and in few cache lines:
 * with 100,000 of them none is in a cache. */
struct destination {
    _Alignas(64) struct list node; /* hash chain */
    uint64_t hash;
    struct message *adding; /* the message whose units are being made, and its unit here */
    struct unit *adding_unit;
    struct queue *queue;
    void *owner; /* of the delivering side; NULL: it has nothing for it */
    uint16_t key_size;
    uint8_t owner_note; /* what the delivering side remembers without it */
    bool owner_alone;   /* likewise: that it failed by itself, and not with others */
    struct lane_turns turns;
    struct list ready[LANES]; /* units */
    uint32_t ready_count;     /* in all lanes */
    uint32_t waiting_count;   /* deferred units */
    uint32_t active_count;
    uint32_t failures;   /* in a row, of the destination as a whole */
    uint64_t retry_ms;   /* monotonic; back-off ends; 0: none */
    uint64_t ordered_ms; /* an operator said that it is to be tried, and it was not yet; or 0 */
    uint64_t age_max_ms; /* of its units; 0: as their class says */
    struct list idle;    /* of the queue's list, while it has no unit */
    struct list aside;   /* of the delivering side: where it waits without an owner, and in what */
    void *aside_in;
    struct timer timer; /* the end of its back-off */
    char key[DESTINATION_KEY_MAX];
    char error[QUEUE_TEXT_MAX];
};

enum unit_state { UNIT_READY, UNIT_ACTIVE, UNIT_SETTLING, UNIT_DEFERRED, UNIT_HELD };

/* One recipient of a unit that has more behind it in the unit's list. */
struct place {
    uint32_t recipient; /* index in the envelope */
    uint32_t next;      /* as struct unit's first */
};

struct unit {
    struct list node;   /* of the destination's ready list */
    struct timer timer; /* due or expiry, whichever comes first */
    struct message *message;
    struct destination *destination;
    struct unit *sibling; /* next unit of the message */
    uint32_t first;       /* recipient: where the list of them begins, see unit_next */
    uint32_t count;       /* recipients */
    uint32_t attempts;
    uint8_t state;     /* enum unit_state */
    uint8_t class;     /* slot (queue/lane.h); with the destination it makes the unit */
    bool tried;        /* some attempt had an outcome */
    bool warned;       /* its delay was told, or need not be */
    bool found;        /* at the start, and not tried since */
    uint8_t postponed; /* how often a failure was no failure, for want of a report */
};

struct message {
    struct stored stored;
    struct message *chain; /* same slot of the id table */
    struct unit *units;
    int64_t arrival_us; /* steady */
    uint32_t units_count;
    uint8_t recipients_outcomes; /* some recipient has an outcome on disk */
    bool null_sender;
    bool damaged;
    bool ordered; /* an operator waits for its attempts to settle: no other one follows at once */
};

struct queue_options {
    uint32_t messages_max;
    uint32_t recipients_max; /* of all messages together */
    uint32_t destinations_max;
    uint32_t active_max; /* units ACTIVE or SETTLING */
    /* Of mail without a class, until queue_classes_set. */
    uint64_t age_max_ms;    /* expiry, unless age_max says another one for a destination */
    uint64_t warn_after_ms; /* then a delay is told; 0: never */
    uint32_t retry_initial_ms, retry_max_ms, retry_factor_percent, retry_jitter_percent;
    void *owner;
    /* The key of the destination for this recipient of this message; at most DESTINATION_KEY_MAX -
     * 1 octets. QUEUE_PARKING_KEY: there is none now. */
    size_t (*route)(void *owner, const struct envelope *envelope, const struct recipient *recipient,
                    char key[static DESTINATION_KEY_MAX]);
    /* How old mail may get that goes there; 0, or none to ask: as its class says. A class that says
     * less has its way. Asked when the destination is made. */
    uint64_t (*age_max)(void *owner, const char *key);
    /* Something is ready there that was not. From add, timers, queue_settle's end. */
    void (*wanted)(void *owner, struct destination *destination);
    /* It has no unit any more and is about to be forgotten; owner must let go. False: not yet. */
    bool (*unwanted)(void *owner, struct destination *destination);
    /* This unit's time is up: the owner pulls it by queue_take and settles it as expired. */
    void (*expired)(void *owner, struct unit *unit);
    /* This READY unit has waited for its class's warn_after_ms: the owner pulls it by queue_take
     * and settles it by queue_settle_late, or puts it back after queue_warned; or calls
     * queue_late_again. */
    void (*late)(void *owner, struct unit *unit);
    /* What queue_settle was called with (argument) cannot be recorded now. True: the caller does
     * not wait for it, and done is not called. NULL: it does. */
    bool (*unrecorded)(void *argument);
};

struct queue_metrics {
    uint64_t accepted, recovered, delivered, bounced, expired,
        discarded; /* messages and recipients */
    uint64_t recipients_accepted, recipients_recovered, recipients_delivered, recipients_bounced,
        recipients_expired, recipients_discarded, recipients_queued;
    uint64_t messages, units_ready, units_active, units_deferred, units_held, destinations;
    uint64_t deferrals, settle_failures, refused_full;
    uint64_t settlements_alone;                    /* see QUEUE_UNRECORDED_MAX */
    uint64_t recipients_held, recipients_released; /* by an operator */
    uint64_t lanes_ready[LANES];
    uint64_t classes_unknown;
};
extern const struct metric queue_metrics_table[];
extern const unsigned queue_metrics_count;

struct queue {
    struct shard *shard;
    struct spool *spool;
    struct queue_options options;
    struct class_slots classes;
    struct pool messages;
    struct pool units;
    struct pool places;
    struct pool destinations;
    struct pool settlements;
    struct pool large;
    struct message **table; /* by id */
    uint64_t *listed;       /* a bit for each place of the pool: there is a message */
    uint32_t table_slots;   /* in use, never fewer than there were messages at a time */
    uint32_t table_mask;    /* the least that reaches the last of them */
    struct list *hashes;    /* of destinations */
    uint32_t hashes_mask;
    struct list idle; /* destinations without units, the longest so first */
    uint32_t idle_count;
    struct destination *parking; /* for those that find no destination: a key without a route, so
                                    that the delivering side looks for their way again (move) */
    uint32_t recipients;         /* of all units */
    uint32_t reserved;           /* recipients of messages under way */
    bool draining;
    int64_t began_us;  /* steady; its start */
    uint64_t placing;  /* id of the message whose way is asked for (route) */
    uint32_t unplaced; /* recovered and found no room: the start must fail */
    struct queue_metrics metrics;
    struct queue_scan scan;
};

/* The most memory that it takes with these options: for messages that wait; for each of them, with
 * one recipient, as long as there are as many recipients as messages; for destinations; for what
 * is being recorded. */
uint64_t queue_messages_bytes(const struct queue_options *options);
uint64_t queue_message_bytes(void);
uint64_t queue_destinations_bytes(const struct queue_options *options);
uint64_t queue_settlements_bytes(const struct queue_options *options);

[[nodiscard]] int queue_init(struct queue *queue, struct shard *shard,
                             const struct queue_options *options);
void queue_free(struct queue *queue);
/* From now on there are these classes of mail, the first of them that of mail without one (name
 * ""). Lanes and expiry of what is ready follow at once; what is deferred keeps its due time. */
void queue_classes_set(struct queue *queue, const struct mail_class *classes, unsigned count);
/* For spool_options: find and found, with the queue as owner. */
struct stored *queue_find_stored(void *queue, uint64_t id);
void queue_found(void *queue, const struct recovered *recovered);

/* Room for one more recipient, to be given back by queue_unreserve or used up by queue_add.
 * False: full, 452. */
bool queue_reserve(struct queue *queue);
void queue_unreserve(struct queue *queue, uint32_t recipients);
/* A durable message; recipients of the envelope were reserved. Makes its units ready. */
void queue_add(struct queue *queue, const struct stored *stored, const struct envelope *envelope);

/* ---- pulled from ---- */

/* The next ready unit of a destination, now ACTIVE; NULL: none. The most urgent lane's, or that of
 * another one whose turn it is. */
struct unit *queue_pull(struct queue *queue, struct destination *destination);
/* This very unit, READY or DEFERRED, now ACTIVE. */
void queue_take(struct queue *queue, struct unit *unit);
/* Those recipients of a READY, DEFERRED or HELD unit that wanted says yes to, as an ACTIVE unit:
 * the same one where they are all it has. NULL: none of them. */
struct unit *queue_take_part(struct queue *queue, struct unit *unit,
                             bool (*wanted)(void *argument, uint32_t recipient), void *argument);
/* An ACTIVE unit that could not be tried: READY again, at the front. */
void queue_put_back(struct queue *queue, struct unit *unit);
/* ACTIVE, cannot be read, or was HELD before: kept and shown, not tried. */
void queue_hold(struct queue *queue, struct unit *unit);
/* A recipient of an ACTIVE unit goes elsewhere now: it joins a READY unit of its message there, or
 * gets one. True: that was the unit's last one, and the unit is gone, or is READY there itself.
 * -ENOSPC: there are too many destinations; nothing has changed. */
[[nodiscard]] int queue_move(struct queue *queue, struct unit *unit, uint32_t recipient,
                             const char *key, size_t key_size);
/* ACTIVE, for want of something of ours: DEFERRED by the retry curve, nothing is recorded. */
void queue_delay(struct queue *queue, struct unit *unit);
/* ACTIVE, for want of room of ours: DEFERRED for some seconds. That was no attempt. */
void queue_wait(struct queue *queue, struct unit *unit);
bool unit_expired(const struct unit *unit);
/* Of one that has just been tried: it is not to be tried again. */
bool unit_is_over(const struct unit *unit);
/* It has waited for its class's warn_after_ms, and nobody was told. */
bool unit_is_late(const struct unit *unit);
/* When it expires, steady time. */
int64_t unit_expires_us(const struct unit *unit);
/* Nobody wants to know. ACTIVE; not remembered over a restart. */
void queue_warned(struct unit *unit);
/* A failure of an ACTIVE unit is a deferral, since nobody can be told: how often that was so. */
unsigned queue_postponed(struct unit *unit);
/* late() comes again: it cannot be told now. READY or ACTIVE. */
void queue_late_again(struct queue *queue, struct unit *unit);
const struct mail_class *unit_class(const struct unit *unit);
/* Of a destination that has something ready: the most urgent lane with some. */
enum lane destination_lane(const struct destination *destination);
/* Its recipients, as indexes in the envelope, the highest first. *place starts as unit->first.
 * False: no more. */
bool unit_next(const struct unit *unit, uint32_t *place, uint32_t *recipient);

/* ---- reported to ---- */

/* What became of the recipients of an ACTIVE unit: outcomes[].recipient are indexes in the
 * envelope; those not named stay as they were (to be tried at once if some_untried). Deferred ones
 * get their due time here. Texts are copied. The unit is SETTLING until done() with 0 (durable),
 * however long the disk takes none of it; after queue_drain also with an error (some of it was not
 * recorded: those recipients are deferred and will be tried again, at least once, never zero
 * times). done() is never called from in here. */
struct settlement;
[[nodiscard]] int queue_settle(struct queue *queue, struct unit *unit,
                               const struct outcome *outcomes, uint32_t count, bool some_untried,
                               void (*done)(void *argument, int result), void *argument);
/* The same without an attempt: that these recipients' delay was told (OUTCOME_DEFERRED with
 * OUTCOME_DELAY_TOLD and what is known of their last attempt, time_us too). The unit is READY then.
 */
[[nodiscard]] int queue_settle_late(struct queue *queue, struct unit *unit,
                                    const struct outcome *outcomes, uint32_t count,
                                    void (*done)(void *argument, int result), void *argument);
/* An operator's word about an ACTIVE unit, recorded with each of its recipients before it holds:
 * OUTCOME_HELD, and it is HELD until it is released or expires; OUTCOME_RELEASED, and it is due
 * now. No attempt is counted. done as above. 0 or -ENOSPC: not now. */
[[nodiscard]] int queue_mark(struct queue *queue, struct unit *unit, enum outcome_kind kind,
                             struct slice text, void (*done)(void *argument, int result),
                             void *argument);
/* Is there room to settle a unit of so many recipients, now? */
bool queue_settles(const struct queue *queue, uint32_t recipients);
/* Outcomes are being recorded: of attempts, or of those that did not wait for it. */
bool queue_is_settling(const struct queue *queue);
/* The end is near: a settlement that the disk does not take gives up after a few seconds. */
void queue_drain(struct queue *queue);

/* The destination as a whole failed (no address, no connection): one try per back-off. */
void queue_destination_failed(struct queue *queue, struct destination *destination,
                              struct slice why);
/* From now on its units may get this old (0: as their class says); those that are ready and older
 * expire soon, deferred ones when they are due. */
void queue_destination_age(struct destination *destination, uint64_t age_max_ms);
/* Asks age_max anew for all of them: there is another configuration. */
void queue_ages_changed(struct queue *queue);
/* wanted() is called for it soon, without a failure. */
void queue_destination_again(struct queue *queue, struct destination *destination,
                             uint64_t after_ms);
void queue_destination_works(struct queue *queue, struct destination *destination);
/* An operator wants it tried now, and said so at ordered_ms: what failed before does not count;
 * wanted() is called for it soon. */
void queue_destination_retry(struct queue *queue, struct destination *destination,
                             uint64_t ordered_ms);

struct destination *queue_destination(struct queue *queue, const char *key, size_t key_size);
/* NULL: there is none. */
struct destination *queue_destination_find(struct queue *queue, const char *key, size_t key_size);

/* ---- looked at ---- */

/* Calls each with every destination that has something ready. */
void queue_each_ready(struct queue *queue,
                      void (*each)(void *argument, struct destination *destination),
                      void *argument);
/* The same a stretch of them at a time: looks at so many slots of their table, from *cursor (starts
 * as 0) on. False: that was the end. */
bool queue_some_ready(struct queue *queue, uint32_t *cursor, uint32_t slots,
                      void (*each)(void *argument, struct destination *destination),
                      void *argument);

struct message *queue_message(struct queue *queue, uint64_t id);
/* Messages in the order of the table, from *cursor (starts as 0) on; NULL: the end. */
struct message *queue_next(struct queue *queue, uint32_t *cursor);
/* The same, and looks at so many places of the table at most. NULL: there was none among them; the
 * end, if queue_walked. */
struct message *queue_walk(struct queue *queue, uint32_t *cursor, uint32_t places);
bool queue_walked(const struct queue *queue, uint32_t cursor);

#endif
