/*
 * outbound.h - outbound connectors: which one takes a recipient, and how well protected the way is
 *
 * The decision is a pure function of the connectors and a few facts: no clock, no load, no state of
 * the network. The server, `tls probe` and the tests call the same one. How the next hop is reached
 * then is the connector's route (mta/route.h).
 *
 *   1. a rule names a connector: that one. Off, in test or too small: on-unavailable, no other one
 *   2. eligible: enforced, scope any, sender and label fit
 *   3. all-mail, when the recipient is not own and the mail did not come from those servers
 *   4. the most specific pattern that has an eligible one: d, *.d with more labels, with fewer,
 *      all-own, *
 *   5. of those the ones that take a message of this size; none: it bounces
 *   6. the lowest cost, then the lowest name
 *
 * No fit: the default route, by MX; but an own domain waits, as its MX may lead back to us. There
 * is no fall-over from one connector to another: one whose hosts are down keeps its mail.
 *
 * Connectors belong to a configuration generation, stand in the order of (cost, name), and are
 * never written. The decision is one look-up, and linear in the number of connectors that share a
 * pattern, and of rules. Bounds: CONNECTORS_MAX, PATTERNS_MAX, OUTBOUND_RULES_MAX.
 */
#ifndef RINGPOST_MTA_OUTBOUND_H
#define RINGPOST_MTA_OUTBOUND_H

#include "mta/connector.h"
#include "mta/pattern.h"
#include "mta/route.h"

enum {
    OUTBOUND_RULES_MAX = 1'024,
    OUTBOUND_LABELS_MAX = 64, /* in one list */
    OUTBOUND_COPIES_MAX = 8,  /* of one message */
};

/* A list of domains in the file, with the word all-own in it or not. */
struct outbound_domains {
    bool given; /* not: nothing is asked */
    bool own;
    const struct pattern_set *patterns;
};

struct outbound_labels {
    const char *const *labels;
    unsigned count; /* 0: nothing is asked */
};

struct outbound {
    struct route route; /* its name, index and line are the connector's */
    enum connector_type type;
    enum connector_state state;
    bool by_rule; /* scope = rule: only where one names it */
    bool all_mail;
    bool bounces; /* on-unavailable = bounce */
    bool sticky;  /* the floor of queued mail never falls */
    unsigned cost;
    uint64_t size_max; /* 0: none */
    const char *label; /* "" */
    uint64_t digest;   /* of its section without state: of another one, it was changed */
    struct outbound_domains domains;
    struct outbound_domains senders;
    struct outbound_labels from_labels;
};

enum outbound_if { OUTBOUND_EITHER, OUTBOUND_NO, OUTBOUND_YES };

struct outbound_rule {
    const char *name; /* the title */
    unsigned line;
    unsigned cost;
    struct outbound_domains senders;
    struct outbound_domains recipients;
    struct outbound_labels labels;
    bool asks_size;
    uint64_t size_over;
    enum outbound_if tls;
    enum outbound_if requiretls;
    const struct outbound *use; /* NULL: it names none */
    enum tls_level require;     /* NONE: nothing */
    const char *copy_to;        /* local@domain; NULL: no copy */
    const struct outbound *copy_via;
    const char *class; /* (mta/class.h); "": it names none */
};

/* Connectors of equal specificity, as ascending indexes: the first that fits wins. */
struct outbound_list {
    const uint32_t *members;
    unsigned count;
};

struct outbound_set {
    const struct outbound *connectors; /* by (cost, name) */
    unsigned count;
    const uint32_t *by_name; /* as in mta/connector_names.h */
    uint32_t by_name_mask;
    const struct pattern_set *patterns; /* to the index of its list */
    const struct outbound_list *lists;
    struct outbound_list all_own;
    struct outbound_list all_mail;
    const struct outbound_rule *rules; /* by (cost, name) */
    unsigned rules_count;
    const struct pattern_set *own; /* domains that are ours */
    const struct route *default_route;
    bool has_tests;
    bool has_copies;  /* some rule makes one */
    bool has_classes; /* some rule names one */
};

struct outbound_facts {
    struct slice recipient_domain; /* normal form (mta/pattern.h) */
    struct slice sender_domain;    /* likewise; empty: the null sender, which is in no list */
    struct slice label;            /* of the inbound connector it came by; empty: none */
    bool from_own;                 /* that one is of type own */
    bool tls;                      /* it came by TLS */
    bool requiretls;               /* with REQUIRETLS (RFC 8689) */
    uint64_t size;                 /* of the message */
    bool is_copy;                  /* it goes by the connector that its rule names: */
    struct slice copy_via;
};

enum outbound_verdict {
    OUTBOUND_CONNECTOR,
    OUTBOUND_DEFAULT, /* by MX */
    OUTBOUND_BOUNCE,
    OUTBOUND_DEFER, /* for want of configuration; its owner should hear of it */
};

enum outbound_reason {
    OUTBOUND_CHOSEN,
    OUTBOUND_TOO_LARGE,   /* bounce */
    OUTBOUND_UNAVAILABLE, /* a rule names one that is off, in test or too small */
    OUTBOUND_NO_WAY,      /* an own domain, and no connector for it */
    OUTBOUND_OFF,         /* it waits for a connector that was turned off */
};

struct outbound_choice {
    enum outbound_verdict verdict;
    enum outbound_reason reason;
    const struct outbound *connector; /* that takes it, or is to blame; or NULL */
    const struct outbound_rule *rule; /* that named it, or NULL */
    const struct outbound *would;     /* one in test that would have taken it, or NULL */
    enum tls_level floor;             /* by connector or default route, and rules */
};

void outbound_select(const struct outbound_set *set, const struct outbound_facts *facts,
                     struct outbound_choice *choice);

/* The same for mail that has a connector and a floor on record: the floor does not fall, whatever
 * is configured now, and mail of a connector that was turned off waits for it. */
struct outbound_record {
    struct slice connector; /* empty: the default route, or nothing was decided */
    enum tls_level floor;
};
void outbound_select_again(const struct outbound_set *set, const struct outbound_facts *facts,
                           const struct outbound_record *record, struct outbound_choice *choice);

/* A list of the file has the domain, or nothing is asked. */
bool outbound_domains_fit(const struct outbound_set *set, const struct outbound_domains *domains,
                          struct slice domain);
/* Whether this rule applies to a recipient, whatever it does then. */
bool outbound_rule_fits(const struct outbound_set *set, const struct outbound_facts *facts,
                        const struct outbound_rule *rule);

/* Whether some rule sends copies to this address. */
bool outbound_is_copied_to(const struct outbound_set *set, struct slice address);

/* Why a connector has, or has not, been chosen: for explaining. */
enum outbound_why {
    OUTBOUND_IS_OFF,
    OUTBOUND_NOT_NAMED,    /* scope rule, and no rule names it; or a rule names another one */
    OUTBOUND_NOT_SENDER,   /* sender-domains */
    OUTBOUND_NOT_LABEL,    /* from-labels */
    OUTBOUND_NOT_DOMAIN,   /* domains, and it is not for all mail */
    OUTBOUND_CAME_THENCE,  /* all-mail, and it came from those servers */
    OUTBOUND_IS_TOO_SMALL, /* max-size */
    OUTBOUND_FITS_LESS,    /* another one is more specific, or first by cost and name */
    OUTBOUND_DECIDES,
};
/* Of connector number index, in test as if it were enforced. */
enum outbound_why outbound_opinion(const struct outbound_set *set,
                                   const struct outbound_facts *facts, unsigned index);

/* The route of a choice that has one (CONNECTOR, DEFAULT). */
const struct route *outbound_route(const struct outbound_set *set,
                                   const struct outbound_choice *choice);
/* By name; NULL: there is none. */
const struct outbound *outbound_named(const struct outbound_set *set, struct slice name);
/* In words, for logs and reports. */
const char *outbound_reason_text(enum outbound_reason reason);
bool outbound_is_own(const struct outbound_set *set, struct slice domain);

#endif
