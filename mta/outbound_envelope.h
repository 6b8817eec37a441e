/*
 * outbound_envelope.h - outbound connectors and queued mail: facts out of an envelope, the decision
 * into it, and the destination that follows from both
 *
 * What is decided when a message is accepted is written with each recipient: the connector's name
 * and the floor. Later the choice is made anew whenever a way is asked for (a start, a reload); the
 * floor that is on record stays, and so cannot fall by a change of the configuration.
 */
#ifndef RINGPOST_MTA_OUTBOUND_ENVELOPE_H
#define RINGPOST_MTA_OUTBOUND_ENVELOPE_H

#include "mta/outbound.h"
#include "queue/envelope.h"
#include "queue/queue.h"

struct config;

/* The rules that have a copy made of this message, each pair of address and connector once; how
 * many. A recipient that some rule sends copies to has none made: a copy makes no copy, also when
 * it comes back. */
unsigned outbound_copies(const struct config *config, const struct envelope *envelope,
                         const struct outbound_rule *copies[static OUTBOUND_COPIES_MAX]);
/* The recipient that stands for a copy in the envelope of its message: one record on disk, so that
 * neither is there without the other. */
struct recipient outbound_copy_recipient(const struct outbound_rule *rule);

/* Decides, and writes connector, floor and class into the recipients, which are the envelope's;
 * names are borrowed from config. The message's size is known by now. */
void outbound_decide(const struct config *config, const struct envelope *envelope,
                     struct recipient *recipients);

/* The choice for a recipient of a queued message, and the key of its destination: QUEUE_PARKING_KEY
 * when the choice has no route. The key's length. orders: operators' (NULL: none); id: the
 * message's. */
struct queue_orders;
size_t outbound_way(const struct config *config, const struct queue_orders *orders, uint64_t id,
                    const struct envelope *envelope, const struct recipient *recipient,
                    struct outbound_choice *choice, char key[static DESTINATION_KEY_MAX]);

/* What becomes of a recipient that waits when next is taken in place of now. */
struct outbound_change {
    const struct outbound *from; /* of now; NULL: by the default route, or nowhere */
    bool moves;                  /* by another one, or none, or nowhere */
    bool weaker;                 /* and the level that is demanded there is a lower one */
};
void outbound_compare(const struct config *now, const struct config *next,
                      const struct envelope *envelope, const struct recipient *recipient,
                      struct outbound_change *change);

#endif
