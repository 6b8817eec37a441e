/*
 * floor.h - floor memory: what TLS a host has been capable of, and whether that is less now
 *
 *   unknown --held through at least 3 observations over 24 h--> best --observed less--> less
 *      ^  ^--------not met for 90 days, `tls floor forget`-------'  ^----met again-------'  |
 *      '-------------------the hold is over: learned anew-----------------------------------'
 *
 * A record for each host (as the MX record or the configuration calls it) and recipient domain. So
 * another MX set or provider begins anew. What counts as best is what held through a whole run of
 * observations, property by property: a name with a strong and a weak machine behind it promises no
 * more than the weak one. A run that saw less teaches nothing, and takes nothing away either: best
 * becomes less by time or by the operator's word only.
 *
 * Pure: no clock, no I/O. Times are seconds since the epoch; one that goes back counts as standing.
 */
#ifndef RINGPOST_MTA_FLOOR_H
#define RINGPOST_MTA_FLOOR_H

#include "core/compiler.h"

enum {
    FLOOR_HOST_MAX = 264, /* a name or an address, ":port" unless 25, and a terminator */
    FLOOR_DOMAIN_MAX = 256,
    FLOOR_ISSUER_MAX = 128,
    FLOOR_EVENTS_MAX = 8, /* kept in a record, the last ones */
    FLOOR_TEXT_MAX = 160, /* facts, or what is less, in words */
};

/* What to do when less is offered than remembered; the order of the configuration's words. */
enum floor_action {
    FLOOR_OFF,     /* nothing is read or written */
    FLOOR_OBSERVE, /* counted */
    FLOOR_ALERT,   /* counted, and an event in the log; mail goes on */
    FLOOR_DEFER,   /* the host is skipped until the hold is over, then ALERT, and learned anew */
    FLOOR_HOLD,    /* the host is skipped until the operator decides */
    FLOOR_ACTIONS,
};

enum floor_level { FLOOR_NONE, FLOOR_ENCRYPT, FLOOR_CHAIN, FLOOR_NAME };
enum floor_group { FLOOR_GROUP_NONE, FLOOR_GROUP_CLASSIC, FLOOR_GROUP_HYBRID };

/* Each property by itself: more is better. All 0: no TLS. */
struct floor_facts {
    uint8_t version; /* 10, 11, 12, 13; 0: no TLS */
    uint8_t group;   /* enum floor_group */
    bool secrecy;    /* forward secrecy */
    bool chain;      /* the certificate was valid */
    bool name;       /* and bore, or it was not and bore, a name that was wanted */
    bool dane;       /* it fitted a TLSA record */
};

enum floor_less {
    FLOOR_LESS_TLS = 1 << 0, /* then nothing else is said */
    FLOOR_LESS_VERSION = 1 << 1,
    FLOOR_LESS_SECRECY = 1 << 2,
    FLOOR_LESS_HYBRID = 1 << 3,
    FLOOR_LESS_CHAIN = 1 << 4,
    FLOOR_LESS_NAME = 1 << 5,
    FLOOR_LESS_DANE = 1 << 6,
    FLOOR_LESS_ANY = (1 << 7) - 1,
    FLOOR_ISSUER = 1 << 7, /* another issuer: worth an event, and not less */
};

/* What a host shows now, beside what it is remembered for. */
enum floor_finding {
    FLOOR_UNASKED, /* it was not looked at */
    FLOOR_NEW,     /* not enough was seen of it to be held to */
    FLOOR_SAME,
    FLOOR_BETTER, /* something is more, and nothing is less */
    FLOOR_LESS,
    FLOOR_FINDINGS,
};

enum floor_event_kind {
    FLOOR_EVENT_LEARNED = 1,
    FLOOR_EVENT_LESS,
    FLOOR_EVENT_BACK,
    FLOOR_EVENT_ISSUER,
    FLOOR_EVENT_ACCEPTED,
    FLOOR_EVENT_KEPT,
    FLOOR_EVENT_RELEARNING, /* the hold was over */
    FLOOR_EVENT_FORGOTTEN,  /* what was best was not met for too long */
    FLOOR_EVENT_KINDS,
};

struct floor_event {
    int64_t at;
    uint8_t kind;
    uint8_t less; /* LESS */
};

/* Kept on disk as it is (mta/floor_store.c): a change of it is another format. */
struct floor_record {
    int64_t first, last;           /* observations */
    int64_t best_first, best_last; /* since when best holds, and when it was met last */
    int64_t run_first;
    int64_t less_since; /* 0: nothing is less */
    int64_t decided;
    uint32_t count;
    uint32_t run_count;
    uint32_t regressions; /* how often something became less */
    uint8_t less;         /* at the last observation */
    bool kept;            /* the operator's word: best stays */
    uint8_t events_count;
    struct floor_facts best; /* learned; all 0: nothing yet */
    struct floor_facts ever; /* the most that was ever learned, whatever was accepted since */
    struct floor_facts run;  /* what all observations of this run had */
    struct floor_facts now;
    struct floor_event events[FLOOR_EVENTS_MAX]; /* the oldest first */
    int64_t expires;                             /* of the certificate seen last; 0: none */
    char issuer[FLOOR_ISSUER_MAX];               /* likewise; "": none */
};

struct floor_rules {
    uint32_t learn_count; /* observations in a run, at least */
    int64_t learn_s;      /* from its first to its last, at least */
    int64_t forget_s;     /* best that was not met for longer is forgotten */
    int64_t hold_s;       /* how long DEFER skips a host */
};

enum floor_level floor_level(const struct floor_facts *facts);
/* Something was learned, and is not too old. */
bool floor_known(const struct floor_record *record, int64_t now, const struct floor_rules *rules);
/* What is less now than best: of enum floor_less; 0 also where nothing is known. */
unsigned floor_compare(const struct floor_record *record, const struct floor_facts *observed,
                       const char *issuer, int64_t now, const struct floor_rules *rules);
/* less: what floor_compare said of the same. */
enum floor_finding floor_finding(const struct floor_record *record,
                                 const struct floor_facts *observed, unsigned less, int64_t now,
                                 const struct floor_rules *rules);
/* Takes an observation in. The kinds of events that it made, as a bit set of 1 << kind. */
unsigned floor_learn(struct floor_record *record, const struct floor_facts *observed,
                     const char *issuer, int64_t now, const struct floor_rules *rules);

enum floor_way {
    FLOOR_GO,
    FLOOR_GO_RELEARN, /* DEFER, and the hold is over: floor_relearn */
    FLOOR_SKIP,
};
/* What follows when less is offered now. */
enum floor_way floor_way(const struct floor_record *record, enum floor_action action, unsigned less,
                         int64_t now, const struct floor_rules *rules);

/* What was offered last is best from now on. */
void floor_accept(struct floor_record *record, int64_t now);
/* Best stays, and what is skipped stays so however long it takes. */
void floor_keep(struct floor_record *record, int64_t now);
/* Best is forgotten, and learned again from the next run. */
void floor_relearn(struct floor_record *record, int64_t now);

/* ---- words ---- */

/* "alert", ...: NULL ends the list. */
extern const char *const floor_action_names[FLOOR_ACTIONS + 1];
/* "none", "encrypt", "chain", "name" */
const char *floor_level_name(enum floor_level level);
const char *floor_group_name(enum floor_group group);
/* "new", "same", "better", "less"; NULL: it was not looked at. */
const char *floor_finding_name(enum floor_finding finding);
/* "learned", "less", ... */
const char *floor_event_name(enum floor_event_kind kind);
/* "TLS 1.3, hybrid, valid certificate, name fits" or "no TLS" */
void floor_facts_text(const struct floor_facts *facts, char out[static FLOOR_TEXT_MAX]);
/* "version, hybrid"; "" for nothing. */
void floor_less_text(unsigned less, char out[static FLOOR_TEXT_MAX]);

#endif
