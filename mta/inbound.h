/*
 * inbound.h - inbound connectors: who a sending host is, what it must fulfil, what it may do
 *
 *   connection, handshake --inbound_candidates--> own connectors worth a look at MAIL
 *   MAIL FROM --inbound_mail--> attributed to one, or none; the floor of TLS is met, or is not
 *   RCPT TO   --inbound_rcpt--> lockdown, rights, our own senders; one verdict for each recipient
 *
 * All three are pure functions of an inbound_set and the session's facts: the server, `explain`
 * and the tests call the same ones. Specified in CONNECTORS sections 2 to 6. Three sentences hold
 * it: partner connectors take away, own connectors give; header fields never identify anybody; a
 * connector in test changes nothing, and says what it would have done.
 *
 * A set belongs to a configuration generation, is read-only, and may be shared by threads. Its
 * connectors stand in the order of (cost, name), so that the lower index wins a tie.
 */
#ifndef RINGPOST_MTA_INBOUND_H
#define RINGPOST_MTA_INBOUND_H

#include "core/net.h"
#include "core/slice.h"
#include "mta/connector.h"
#include "mta/connector_token.h"
#include "mta/header_filter.h"
#include "mta/networks.h"
#include "mta/pattern.h"
#include "tls/tls_verify.h"

enum {
    INBOUND_CANDIDATES_MAX = 16, /* own connectors that one session may be identified by */
    INBOUND_BUNDLES_MAX = 2,     /* root bundles that clients are judged by: public, private */
    INBOUND_NAMES_MAX = 64,      /* cert-name of one connector */
    INBOUND_PINS_MAX = 16,       /* cert-pin of one connector */
};

/* ---- what the file says ---- */

enum inbound_identify {
    INBOUND_BY_NOTHING, /* a partner that only sets a floor */
    INBOUND_BY_CERTIFICATE,
    INBOUND_BY_ADDRESS,
    INBOUND_BY_BOTH,
    INBOUND_BY_EITHER,
};
enum inbound_check { INBOUND_NAME, INBOUND_NAME_AND_PIN, INBOUND_NAME_OR_PIN, INBOUND_PIN };
enum inbound_null { INBOUND_NULL_BY_STAR, INBOUND_NULL_YES, INBOUND_NULL_NO };
enum inbound_null_relay { INBOUND_NULL_RELAY_CERT, INBOUND_NULL_RELAY_YES, INBOUND_NULL_RELAY_NO };
enum inbound_rights { INBOUND_RELAY = 1, INBOUND_INTERNAL = 2, INBOUND_HEADERS = 4 };
enum inbound_own_sender {
    INBOUND_OWN_SENDER_COUNT,
    INBOUND_OWN_SENDER_ACCEPT,
    INBOUND_OWN_SENDER_REJECT
};

struct inbound {
    const char *name;  /* the title */
    const char *label; /* "": none */
    const char *class; /* of its mail (mta/class.h); "": it names none */
    uint32_t line;
    uint32_t cost;
    enum connector_type type;
    enum connector_state state;
    /* who it is about */
    const struct pattern_set *senders;    /* OWN: a filter, NULL: all. PARTNER: whom it covers */
    enum inbound_null null_sender;        /* PARTNER */
    const struct pattern_set *recipients; /* own domains it applies to; NULL: all */
    /* who it is */
    enum inbound_identify identify;
    const struct slice *names; /* cert-name, normal form */
    unsigned names_count;
    const uint8_t (*pins)[TLS_DIGEST_BYTES];
    unsigned pins_count;
    enum inbound_check check;
    const struct tls_roots *roots; /* NULL: it looks at no chain */
    enum tls_purpose usage;
    bool takes_wildcards; /* "*.d.example" in the presented certificate */
    bool takes_common_name;
    enum tls_revocation revocation;
    const struct networks *addresses;
    struct header_required header; /* require-header: the second factor; no name: none */
    /* what it must fulfil */
    bool restricts;
    bool needs_tls;
    bool needs_hybrid;
    unsigned tls_min;
    enum connector_class on_missing_tls;
    enum connector_class on_mismatch;
    /* how much of it, over the node; 0: no limit of its own */
    uint64_t size_max;        /* of a message */
    unsigned recipients_max;  /* of a message */
    unsigned connections_max; /* sessions that are attributed to it */
    unsigned rate_max;        /* messages a minute */
    unsigned abuse_max;       /* OWN: answers 5yz an hour to its mail, then it is blocked */
    /* what it may do */
    unsigned rights; /* enum inbound_rights; OWN only */
    bool relays_any_sender;
    enum inbound_null_relay null_relay;
};

struct inbound_defaults {
    enum inbound_own_sender own_sender;
    bool any_lockdown; /* any covering lockdown suffices, not the most specific only */
    enum connector_replies replies;
};

struct inbound_set;

/* ---- building ---- */

/* Keeps the pointers, of which the configuration's generation owns what they lead to; connectors
 * must be in the order of (cost, name). 0 or -ENOMEM. */
[[nodiscard]] int inbound_set_new(const struct inbound *connectors, unsigned count,
                                  const struct inbound_defaults *defaults,
                                  const struct pattern_set *own_domains, struct inbound_set **set);
void inbound_set_free(struct inbound_set *set); /* NULL is allowed */

unsigned inbound_count(const struct inbound_set *set);
const struct inbound *inbound_at(const struct inbound_set *set, unsigned index);
/* By name; NULL: there is none. */
const struct inbound *inbound_named(const struct inbound_set *set, struct slice name);
unsigned inbound_index(const struct inbound_set *set, const struct inbound *connector);
const struct inbound_defaults *inbound_defaults(const struct inbound_set *set);
/* Whether a peer is to be asked for a certificate: some connector that is not off has a
 * certificate rule, and lists this peer or no addresses (CONNECTORS 4.1). */
bool inbound_asks(const struct inbound_set *set, const struct net_address *peer);

/* ---- facts ---- */

struct inbound_candidates {
    uint16_t count;
    bool more; /* there were more than INBOUND_CANDIDATES_MAX: the lowest indexes are kept */
    uint16_t at[INBOUND_CANDIDATES_MAX]; /* ascending */
};

struct inbound_session {
    const struct net_address *peer; /* behind a trusted proxy: the client it told of */
    bool is_submission;          /* may send anywhere: relay { networks }, on a listener with it */
    bool is_hybrid;              /* the key exchange */
    bool lacks_header;           /* the content came, without the header field that was required: no
                                    connector with require-header is identified any more */
    unsigned tls_version;        /* 0: in clear */
    unsigned certificates_count; /* 0: none was presented */
    struct {
        const struct tls_roots *roots;
        const struct tls_peer *peer;
        enum tls_crl_status revocation;  /* as it was looked up for this MAIL */
    } certificates[INBOUND_BUNDLES_MAX]; /* the same one, as each bundle sees it; roots NULL: none
                                            did, its key is known */
    struct inbound_candidates candidates;
};

/* Fills session->candidates from its other facts. */
void inbound_candidates(const struct inbound_set *set, struct inbound_session *session);

/* ---- verdicts ---- */

enum inbound_kind {
    INBOUND_NONE,       /* no connector: the listener's rules */
    INBOUND_SUBMISSION, /* who may send anywhere */
    INBOUND_OWN,
    INBOUND_PARTNER,
    INBOUND_REFUSED, /* covered by lockdowns, and identified by none of them */
};

/* How a session stands to one connector. */
struct inbound_identity {
    enum connector_token token; /* NONE: identified */
    bool by_certificate;
    bool by_address;
    bool is_status_unknown; /* the certificate fits, and nobody knows whether it is revoked */
    uint32_t rank;          /* the higher, the more specific */
    struct slice name;      /* presented, that matched; of the certificate's */
};
void inbound_identify(const struct inbound *connector, const struct inbound_session *session,
                      struct inbound_identity *identity);

/* A name of a certificate lies in a domain of ours, or below one. A * among them is none. */
bool inbound_name_is_ours(const struct pattern_set *own_domains, struct slice name);

/* What one connector would have done, had it not been in test. */
struct inbound_would {
    const struct inbound *connector; /* NULL: nothing differs */
    enum connector_token token;      /* NONE: accept */
};

struct inbound_mail {
    enum inbound_kind kind;           /* for partners provisional: recipients may differ */
    const struct inbound *connector;  /* NONE, SUBMISSION: NULL */
    struct inbound_identity identity; /* of the connector */
    enum connector_token token;       /* NONE: MAIL is taken */
    enum connector_class class;
    const struct inbound *by;             /* whose floor was missed */
    const struct inbound *status_unknown; /* who wanted to know about a revocation; NULL: nobody */
    struct inbound_would would;
};

struct inbound_rcpt {
    enum inbound_kind kind;
    const struct inbound *connector;
    struct inbound_identity identity;
    enum connector_token token;
    enum connector_class class;
    const struct inbound *by;             /* who refuses; NULL: no connector does */
    const struct inbound *status_unknown; /* as above */
    bool is_own_sender; /* our domain in MAIL FROM, without proof: to be counted */
    bool is_internal;   /* rights: internal */
    bool keeps_fields;  /* rights: headers */
    struct inbound_would would;
};

/* sender: the domain of MAIL FROM in normal form; empty: the null sender. */
void inbound_mail(const struct inbound_set *set, const struct inbound_session *session,
                  struct slice sender, struct inbound_mail *mail);
/* recipient: its domain in normal form; empty: <postmaster>. */
void inbound_rcpt(const struct inbound_set *set, const struct inbound_session *session,
                  struct slice sender, struct slice recipient, struct inbound_rcpt *rcpt);

/* "none", "submission", "own", "partner", "refused". */
const char *inbound_kind_name(enum inbound_kind kind);

/* ---- explaining ---- */

/* Why a connector has, or has not, a say in a message. */
enum inbound_reason {
    INBOUND_IS_OFF,
    INBOUND_NOT_COVERING,   /* partner: MAIL FROM is somebody else's */
    INBOUND_NOT_SENDER,     /* own: sender-domains do not match */
    INBOUND_NOT_RECIPIENT,  /* recipient-own-domains do not match */
    INBOUND_NOT_IDENTIFIED, /* identity.token says why */
    INBOUND_LESS_SPECIFIC,  /* a lockdown with a narrower pattern decides */
    INBOUND_OWN_IS_FIRST,   /* partner: an own connector was identified, or it is a submission */
    INBOUND_LESS_SO,        /* another one fits better: identity, cost, name */
    INBOUND_DECIDES,
};
struct inbound_opinion {
    enum inbound_reason reason;
    bool in_test;
    enum pattern_kind covers; /* partner */
    struct inbound_identity identity;
};
/* Connector number index, as inbound_rcpt saw it (recipient NULL: inbound_mail). */
void inbound_opinion(const struct inbound_set *set, const struct inbound_session *session,
                     struct slice sender, const struct slice *recipient, unsigned index,
                     struct inbound_opinion *opinion);

#endif
