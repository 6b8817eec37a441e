/*
 * class.h - which class mail belongs to: how urgent it is, how it is tried again, when it expires
 *
 * The decision is a pure function of the configuration and a few facts of a recipient. It is made
 * once, before the message is queued, and its name is on record with the recipient: what happens to
 * it later is read off the class of that name in the configuration that is current then
 * (queue/lane.h).
 *
 *   1. a rule that fits and names one: the first by cost, then title
 *   2. the inbound connector that the message is attributed to names one
 *   3. a class whose own lists have the sender and the recipient: the first by cost, then title
 *   4. none: as delivery { } says, in the normal lane
 */
#ifndef RINGPOST_MTA_CLASS_H
#define RINGPOST_MTA_CLASS_H

#include "mta/outbound.h"
#include "queue/lane.h"

struct config;
struct inbound;

/* class "title" { } */
struct class_section {
    struct mail_class class; /* its name is the title */
    unsigned line;
    unsigned cost;
    struct outbound_domains senders;
    struct outbound_domains recipients;
};

struct class_set {
    const struct class_section *sections; /* by (cost, name) */
    unsigned count;                       /* less than CLASSES_MAX */
    bool has_urgent;                      /* some class is */
    struct mail_class without;            /* mail that has none */
};

enum class_by { CLASS_BY_NOBODY, CLASS_BY_RULE, CLASS_BY_INBOUND, CLASS_BY_ITSELF };

struct class_choice {
    const char *name; /* of the configuration; "": none */
    enum class_by by;
    const char *by_name; /* the rule's, or the connector's; else "" */
};

/* from: the inbound connector that the message is attributed to, or NULL. */
void class_decide(const struct config *config, const struct outbound_facts *facts,
                  const struct inbound *from, struct class_choice *choice);
/* NULL: there is none of that name. */
const struct class_section *class_named(const struct class_set *set, const char *name);
/* All of them for queue_classes_set; how many. */
unsigned class_list(const struct class_set *set, struct mail_class out[static CLASSES_MAX]);

#endif
