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

/* Decides, and writes connector and floor into the recipients, which are the envelope's; names are
 * borrowed from config. The message's size is known by now. */
void outbound_decide(const struct config *config, const struct envelope *envelope,
                     struct recipient *recipients);

/* The choice for a recipient of a queued message, and the key of its destination: QUEUE_PARKING_KEY
 * when the choice has no route. The key's length. */
size_t outbound_way(const struct config *config, const struct envelope *envelope,
                    const struct recipient *recipient, struct outbound_choice *choice,
                    char key[static DESTINATION_KEY_MAX]);

#endif
