/*
 * config.h - one generation of the configuration: all that the file says, checked, never changed
 *
 * Read by `serve`, `check` and `reload` with the same code. A generation is built whole or not at
 * all; then it is read-only and may be shared by threads. Who holds it counts references (sessions
 * keep the generation they began with) and calls config_free after the last one.
 *
 *   file --config_load--> generation (immutable) --config_free--> gone
 *              '--------> refused; the report has every reason
 *
 * Strings, lists and sets in here belong to the generation. No string is NULL unless its comment
 * says so; empty means "not given". Times carry their unit in the name.
 */
#ifndef RINGPOST_MTA_CONFIG_H
#define RINGPOST_MTA_CONFIG_H

#include "core/net.h"
#include "core/slice.h"
#include "mta/class.h"
#include "mta/dkim_sign.h"
#include "mta/inbound.h"
#include "mta/limits.h"
#include "mta/networks.h"
#include "mta/pattern.h"
#include "mta/outbound.h"

enum {
    CONFIG_FILE_BYTES_MAX = 16 << 20,
    CONFIG_LISTENERS_MAX = 64,
    CONFIG_LISTENER_ADDRESSES_MAX = 32,
    CONFIG_ADMIN_ADDRESSES_MAX = 8,
    CONFIG_FORWARDERS_MAX = 16,
    CONFIG_OWN_ADDRESSES_MAX = 256,
    CONFIG_FLEET_NAMES_MAX = 256,
    CONFIG_CERTIFICATES_MAX = 1'024,
    CONFIG_ROOTS_MAX = 64,
    CONFIG_DEPRECATED_MAX = 8, /* of one certificate */
    CONFIG_EXPECTATIONS_MAX = 1'024,
    CONFIG_EXPECTED_MAX = 16, /* names, pins or roots of one partner */
    CONFIG_EXPIRY_DAYS_MAX = 16,
    CONFIG_ASKED_NAMES_MAX = 64, /* of one listener */
    CONFIG_DKIM_MAX = 16,
    CONFIG_CRL_LISTS_MAX = TLS_CRLS_MAX,
    CONFIG_RECIPIENTS_FLOOR = 100, /* RFC 5321 4.5.3.1.8 */
    CONFIG_MESSAGES_MAX = 256,     /* kept of a report; more are counted */
};

/* ---- what is wrong with it ---- */

enum config_severity { CONFIG_WARNING, CONFIG_ERROR };

struct config_message {
    enum config_severity severity;
    unsigned line; /* 0: the file as a whole */
    char *file;
    char *key;  /* `listener "in": addresses`; "" for syntax */
    char *text; /* what is wrong; way out */
};

struct config_report {
    struct config_message messages[CONFIG_MESSAGES_MAX];
    unsigned count;    /* of messages */
    unsigned errors;   /* also those that were not kept */
    unsigned warnings; /* likewise */
};

void config_report_init(struct config_report *report);
void config_report_free(struct config_report *report);
void config_report_add(struct config_report *report, enum config_severity severity,
                       const char *file, unsigned line, const char *key, const char *format, ...)
    PRINTF_LIKE(6, 7);

/* ---- what it says ---- */

enum config_protocol { CONFIG_SMTP /* later: CONFIG_SUBMISSION */ };

/* ---- TLS ---- */

struct tls_credential;
struct tls_roots;

/* A key and its certificate: what we present. */
struct config_certificate {
    const char *name; /* the title */
    unsigned line;
    const char *chain; /* files */
    const char *key;
    struct tls_credential *credential; /* NULL: it could not be read, and the report says so */
    /* What partners are told of (mta/cert_publish.c). No session depends on these files, so that
     * one that cannot be read is a warning, and NULL. */
    const char *next; /* "": none */
    const char *next_key;
    struct tls_credential *next_credential;
    int64_t change_on; /* when next takes its place, since the epoch; 0: not said */
    const char *const *deprecated;
    struct tls_credential **deprecated_credentials;
    unsigned deprecated_count;
};

/* Trust anchors. */
struct config_roots {
    const char *name; /* the title; "": the system's */
    unsigned line;
    const char *file;
    struct tls_roots *roots;
};

/* What a partner has recorded about us, as far as it was told: for `cert rehearse`. Of each list
 * one must fit; an empty one asks nothing. */
struct config_expectation {
    const char *name; /* the title */
    unsigned line;
    const struct config_certificate *certificate; /* NULL: of all that are presented */
    const struct slice *names;
    unsigned names_count;
    const uint8_t (*pins)[TLS_DIGEST_BYTES];
    unsigned pins_count;
    const struct config_roots *const *bundles;
    unsigned bundles_count;
    const uint8_t (*roots)[TLS_DIGEST_BYTES]; /* SHA-256 of root certificates */
    unsigned roots_count;
};

struct config_tls {
    unsigned expiry_days[CONFIG_EXPIRY_DAYS_MAX]; /* before the end: warned of; descending */
    unsigned expiry_days_count;
    uint32_t handshake_timeout_ms;
    uint32_t load_handshake_timeout_ms; /* under load */
    unsigned handshakes_max;            /* under way at a time, in a shard */
    bool tickets;
    uint64_t ticket_rotate_ms;
    const char *ticket_key_file; /* "": keys live in memory only */
    unsigned id_cache;           /* TLS 1.2 sessions kept for clients without tickets; all shards */
    unsigned client_cache;       /* sessions kept for next hops; a shard */
    unsigned hosts;              /* remembered: what worked with a next hop; a shard */
    unsigned key_shares;         /* made ahead; a shard. 0: none */
    uint32_t key_share_age_ms;
};

enum config_listener_tls {
    CONFIG_TLS_NONE,
    CONFIG_TLS_STARTTLS, /* offered */
    CONFIG_TLS_REQUIRED, /* 530 to mail before STARTTLS */
    CONFIG_TLS_IMPLICIT, /* from the first octet */
};

struct config_listener {
    const char *name; /* the title */
    unsigned line;
    const struct net_address *addresses; /* with ports */
    unsigned addresses_count;            /* 1 or more */
    enum config_protocol protocol;
    const char *banner;                /* name in greeting and EHLO; the hostname by default */
    const struct networks *proxy_from; /* peers that begin with a PROXY header; may be empty */
    unsigned backlog;                  /* of listen(2) */
    uint64_t size_max;                 /* bytes of a message; limits' by default */
    bool relay;                        /* relay { networks } count on this listener */
    enum config_listener_tls tls;
    const struct config_certificate *const *certificates;
    unsigned certificates_count; /* 1 or more unless tls is NONE */
    unsigned tls_min;            /* TLS_VERSION_12 or _13 */
    bool tls_cbc;
    const struct networks *ask_certificate; /* peers that are asked for theirs */
    const struct networks *never_ask;       /* and those of them that stumble over it */
    const struct slice *request_on_sni;     /* names; who names one of them is asked too */
    unsigned request_on_sni_count;
    const struct config_roots *client_roots;              /* NULL: it asks nobody of itself */
    const struct tls_roots *bundles[INBOUND_BUNDLES_MAX]; /* client_roots, those of connectors */
    unsigned bundles_count;                               /* 0: nobody is asked */
};

struct config_spool {
    const char *directory;
    uint64_t segment_bytes;
    uint64_t size_max_bytes; /* over all shards; 0: as much as the disk has, less the reserve */
    uint64_t reserve_bytes;  /* never filled by new mail */
    uint64_t cache_bytes;    /* fresh bodies kept in memory, over all shards */
    uint64_t ahead_bytes;    /* prepared before they are needed, over all shards; 0: a little */
};

struct config_relay {
    const struct pattern_set *domains; /* mail for them is accepted from anybody */
    const struct networks *networks;   /* may send anywhere */
    const char *postmaster_domain;     /* of <postmaster>; first exact domain, or the hostname */
    bool open_relay;                   /* i-run-an-open-relay yes */
};

/* Who sends for all of its customers alike (config_platform.c). */
struct platform {
    struct slice name;         /* and all below it; empty: a network */
    struct net_prefix network; /* of is_network */
    bool is_network;
    struct slice field; /* that it sets itself, lower case; empty: none */
};
struct platforms {
    const struct platform *list;
    unsigned count;
};
/* Of a name in a certificate ("*." before it is passed over), or of a network that has addresses in
 * common with one of it; NULL: none. */
const struct platform *platform_of_name(const struct platforms *platforms, struct slice name);
const struct platform *platform_of_network(const struct platforms *platforms,
                                           const struct net_prefix *network);
/* The same by the list that is built in, where there is no configuration. */
bool platform_is_built_in(struct slice name);
/* Whether some platform sets it. In lower case. */
bool platform_has_field(const struct platforms *platforms, struct slice field);

enum config_bare_newline { CONFIG_BARE_NEWLINE_REJECT, CONFIG_BARE_NEWLINE_NORMALIZE };
enum config_early_content { CONFIG_EARLY_CONTENT_REJECT, CONFIG_EARLY_CONTENT_ACCEPT };

struct config_limits {
    struct limits_options connections; /* per shard, address, network; rate */
    const struct networks *exempt;     /* from all but the shard's own bound */
    unsigned recipients_max;           /* of a message */
    uint64_t message_bytes_max;
    uint64_t memory_max_bytes;       /* of the process; 0: what the pools come to */
    uint32_t queue_messages_max;     /* over all shards */
    uint32_t queue_destinations_max; /* of a shard */
    unsigned commands_max;           /* of a session */
    unsigned bad_commands_max;       /* of a session: unknown, refused, out of order */
    unsigned refused_messages_max;   /* likewise, by connectors, in a row; 0: no limit */
    unsigned messages_max;           /* over one connection */
    unsigned received_max;      /* Received fields before it is a loop; delivery { loop-limit } */
    unsigned received_ours_max; /* of delivery { fleet-names }, and that many are a loop */
    uint32_t command_timeout_ms;
    uint32_t data_timeout_ms;         /* between two reads of content */
    uint32_t transaction_timeout_ms;  /* MAIL to end of data */
    uint32_t connection_timeout_ms;   /* from accept */
    unsigned load_percent;            /* of connections.connections_max: under load from here */
    uint32_t load_command_timeout_ms; /* instead of command_timeout_ms, under load */
    uint32_t load_data_timeout_ms;
    enum config_bare_newline bare_newline;
    enum config_early_content early_content;
};

/* Next attempt after n failures: min(initial * factor^n, max), give or take jitter. */
struct config_retry {
    uint32_t initial_ms;
    uint32_t max_ms;
    unsigned factor_percent; /* 200: doubles */
    unsigned jitter_percent; /* 20: 80 to 120 % */
};

struct config_delivery {
    struct config_retry retry;
    uint64_t age_max_ms;          /* then it bounces */
    uint64_t warn_after_ms;       /* delay warning; 0: none */
    uint32_t connect_timeout_ms;  /* one address */
    uint32_t greeting_timeout_ms; /* RFC 5321 4.5.3.2, this one and those below */
    uint32_t command_timeout_ms;  /* EHLO, RSET */
    uint32_t mail_timeout_ms;
    uint32_t rcpt_timeout_ms;
    uint32_t data_init_timeout_ms;
    uint32_t data_block_timeout_ms;
    uint32_t data_end_timeout_ms;
    uint32_t idle_timeout_ms;                /* a connection kept for the next message */
    unsigned connections_max;                /* to one next hop, over the node */
    unsigned shard_connections_max;          /* out, all next hops, of one shard */
    unsigned messages_max;                   /* over one connection */
    unsigned recipients_max;                 /* in one transaction */
    unsigned loop_limit;                     /* Received fields */
    const struct pattern_set *fleet_names;   /* in Received fields: hostname, banners, and those
                                                that the file gives */
    const struct net_address *own_addresses; /* ours: never a next hop found by DNS. Listeners'
                                                are among them unless they are wildcards */
    unsigned own_addresses_count;
    const struct networks *private_networks; /* special addresses that DNS may lead to */
    const char *ehlo;                        /* the hostname by default */
    enum tls_level tls; /* of connectors that say nothing, and of MX delivery */
    enum route_clear clear;
    unsigned tls_min;
    enum dane_mode dane; /* likewise, and those below */
    enum floor_action floor;
    bool sts; /* mta-sts = may */
    struct floor_rules floor_rules;
    uint32_t floor_records; /* at most */
    const char *floor_file; /* "": in the spool's directory */
};

/* Lists of revoked certificates (mta/control_crl.c). */
struct config_crl {
    const char *directory; /* "": crl in the spool's directory */
    unsigned lists_max;
    uint64_t bytes_max; /* of all of them */
};

struct config_dns {
    const struct net_address *forwarders; /* with ports */
    unsigned forwarders_count;            /* 0: own recursion */
    const char *trust_anchor_file;        /* NULL: no validation */
    const char *root_hints_file;          /* NULL: built in */
    uint32_t timeout_ms;
    uint32_t queries_max;
};

/* MTA-STS: policies of others (mta/control_sts.c). */
struct config_sts {
    const struct tls_roots *roots; /* that policy hosts are verified by; NULL: libcurl's */
    uint32_t timeout_ms;
    uint32_t records; /* at most */
    const char *file; /* "": in the spool's directory */
    uint16_t port;    /* 443 */
};

/* Reports about TLS (mta/control_tlsrpt.c). */
struct config_tlsrpt {
    const char *contact; /* local@domain; "": nothing is counted */
    const char *organization;
    const char *from;              /* mailbox in the From field of reports by mail */
    bool sends;                    /* each day; else they are only counted */
    const struct tls_roots *roots; /* that hosts which take reports are verified by; or NULL */
    uint32_t records;              /* at most */
    const char *file;              /* "": in the spool's directory */
};

enum config_log_level {
    CONFIG_LOG_ERROR, /* in the order of core/log.h */
    CONFIG_LOG_WARNING,
    CONFIG_LOG_INFO,
    CONFIG_LOG_DEBUG,
};

struct config_log {
    const char *file; /* "-": standard output */
    enum config_log_level level;
};

struct config_admin {
    const char *socket;                  /* path; "": none */
    const struct net_address *addresses; /* with ports */
    unsigned addresses_count;
    const struct networks *allow; /* who may connect to the addresses */
};

struct config_bounce {
    const char *from_name;   /* "Mail Delivery System" */
    const char *address;     /* local@domain in the From field of a bounce */
    unsigned per_minute_max; /* 0: no limit; as the next two */
    unsigned per_sender_max; /* to one address */
    unsigned per_domain_max; /* to one domain */
    const char *class;       /* of bounces, where no rule names one; "": none */
};

struct config {
    uint64_t generation;
    const char *file;     /* "built-in default" when there is none */
    const char *hostname; /* normal form */
    const char *user;     /* "": stay who we are */
    const char *group;    /* "": the user's */
    unsigned shards;      /* 0: one per core */
    bool pin;             /* each shard to a core */
    struct config_spool spool;
    struct config_tls tls;
    struct config_certificate *certificates;
    unsigned certificates_count;
    struct config_roots *roots; /* the system's is the first */
    unsigned roots_count;
    const struct config_expectation *expectations;
    unsigned expectations_count;
    const struct dkim_key *dkim;
    unsigned dkim_count;
    const struct config_listener *listeners;
    unsigned listeners_count; /* 1 or more */
    struct config_relay relay;
    struct inbound_set *inbound;
    uint32_t *inbound_slots; /* by index: where a connector is counted (mta/connector_count.h).
                                Filled in before any shard has the generation; else all 0 */
    struct header_rules headers;
    struct platforms platforms;
    const struct tls_roots *inbound_bundles[INBOUND_BUNDLES_MAX];
    unsigned inbound_bundles_count;
    struct config_limits limits;
    struct outbound_set outbound;
    uint32_t *outbound_slots;   /* likewise */
    struct route default_route; /* MX */
    struct config_delivery delivery;
    struct class_set classes;
    struct config_crl crl;
    struct config_dns dns;
    struct config_sts sts;
    struct config_tlsrpt tlsrpt;
    struct config_log log;
    struct config_admin admin;
    struct config_bounce bounce;
    void *memory; /* all of the above */
};

/* A text that parses with the same code: everything on loopback ports 2525 and 8025, spool and
 * socket below the working directory. For a first look, and for tests. */
extern const char config_default_text[];

/* Reads a file. 0, and *config is the caller's; or -EINVAL when the report has errors (warnings do
 * not refuse); or -ENOMEM. The report also tells why a file could not be read. */
[[nodiscard]] int config_load(const char *path, uint64_t generation, struct config_report *report,
                              struct config **config);
/* That of another machine: what it names besides (certificates, keys, lists) is not read, and a
 * wildcard listener has no addresses but its own-addresses. For looking at, not for serving. */
[[nodiscard]] int config_load_elsewhere(const char *path, struct config_report *report,
                                        struct config **config);
/* The same from memory; name stands for the file in messages. */
[[nodiscard]] int config_load_text(struct slice text, const char *name, uint64_t generation,
                                   struct config_report *report, struct config **config);
void config_free(struct config *config); /* NULL is allowed */
/* How many there will be: its own number, or one per core. */
unsigned config_shards(const struct config *config);

/* "sha256:" and 64 hex digits: the digest of a certificate's SubjectPublicKeyInfo. */
bool config_parse_pin(const char *text, uint8_t pin[static TLS_DIGEST_BYTES]);

/* What a running process cannot change: NULL, or words naming the first such key that differs. */
const char *config_needs_restart(const struct config *running, const struct config *next);

#endif
