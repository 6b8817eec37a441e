/*
 * tls_client.h - sessions that we begin: what a next hop must show, and how much we offer it
 *
 * One struct tls_client for each shard and generation of the configuration; a policy for each
 * route, which the configuration owns. Broken peers are met by steps (TLS_STEP_): each is a new
 * connection that offers less; whoever connects remembers the step that worked.
 */
#ifndef RINGPOST_TLS_CLIENT_H
#define RINGPOST_TLS_CLIENT_H

#include "tls/tls_certificate.h"
#include "tls/tls_crl.h"
#include "tls/tls_dane.h"
#include "tls/tls_session.h"

enum tls_level {
    TLS_LEVEL_NONE,     /* not used */
    TLS_LEVEL_MAY,      /* if offered */
    TLS_LEVEL_ENCRYPT,  /* must; whom we talk to is only recorded */
    TLS_LEVEL_CHAIN,    /* must, with a valid chain */
    TLS_LEVEL_NAME,     /* and a name that was wanted */
    TLS_LEVEL_INTERNAL, /* the same by private roots and TLS 1.3, and we present ours as well: whose
                           policy it is gives these three */
    TLS_LEVELS,
};

enum tls_step {
    TLS_STEP_ALL,   /* TLS 1.3, hybrid key shares where the library has them */
    TLS_STEP_SMALL, /* without hybrids: the ClientHello fits one packet */
    TLS_STEP_12,    /* TLS 1.2 at most, and says so (RFC 7507) */
    TLS_STEP_QUIET, /* and does not say so: for a certificate whose key must not sign (a key usage
                       of encipherment alone), which only TLS 1.2 can do without, and not for less
                     */
    TLS_STEP_RSA,   /* key transport: only where the policy takes TLS 1.0 */
    TLS_STEPS,
};

enum { TLS_CLIENT_HOST_BYTES = 18 /* an address and a port */ };

struct tls_client;
struct tls_client_cache;
struct tls_credential;
struct tls_roots;
struct tls_shard;

struct tls_client_policy {
    enum tls_level level;
    unsigned version_min;                    /* TLS_VERSION_10 to _13 */
    const struct tls_roots *roots;           /* NULL: nothing is trusted */
    const struct tls_credential *credential; /* that we present when asked; or NULL */
    const struct tls_dane_set *dane;         /* the certificate must fit one of them; or NULL */
    const struct slice *dane_names;          /* by usage 2, with one of these names */
    unsigned dane_names_count;
    const uint8_t (*pins)[TLS_DIGEST_BYTES]; /* the certificate's key must be one of these */
    unsigned pins_count;                     /* 0: any. Not at MAY */
    bool needs_hybrid;                       /* no session without it is used. Not at MAY */
    enum tls_revocation revocation;          /* looked at from CHAIN on, resumed sessions too */
    uint8_t digest[32]; /* what one policy has verified is nothing to another */
    bool is_blind;      /* looks at no certificate: for a load generator, below CHAIN */
};

/* Lives until the handshake is over. */
struct tls_client_target {
    const uint8_t *host;       /* TLS_CLIENT_HOST_BYTES: whose sessions may be resumed */
    const char *server_name;   /* SNI; "": none */
    const struct slice *names; /* one of them at NAME; recorded below */
    unsigned names_count;
    struct slice also; /* a name besides, which only counts under a valid chain. Empty: none */
    bool also_must;    /* whatever the level; else it is only recorded */
    enum tls_step step;
    uint16_t group; /* that the host chose last time: offered first. 0: unknown */
    /* For a load generator, which must know what it gets. 0 and false: none of it. */
    uint16_t group_only;  /* no other one, but P-256 for certificates below TLS 1.3 */
    unsigned version_max; /* less than the step's */
    bool is_fresh;        /* a full handshake */
    bool no_tickets;      /* not asked for: TLS 1.2 resumes by id then */
};

/* Fills in the digest from the rest and the names that are wanted. */
void tls_client_policy_seal(struct tls_client_policy *policy, const struct slice *names,
                            unsigned names_count);

/* 0, -ENOMEM, or -EINVAL: the library does not take it. */
[[nodiscard]] int tls_client_make(struct tls_shard *shard, struct tls_client **client);
void tls_client_free(struct tls_client *client); /* NULL is allowed */

/* The step after this one that makes a difference; TLS_STEPS: none. */
enum tls_step tls_client_step_after(const struct tls_client_policy *policy, enum tls_step step);
/* Whether it goes down that far. The step that a host needs is remembered for all policies. */
bool tls_client_step_fits(const struct tls_client_policy *policy, enum tls_step step);
/* "none" to "internal". */
const char *tls_level_name(enum tls_level level);
/* "all", "tls-1.2", ...; "clear" for TLS_STEPS, what is left after the last one. */
const char *tls_client_step_name(enum tls_step step);

/* A session that is about to send its ClientHello. NULL: out of memory. */
struct tls_session *tls_client_connect(struct tls_client *client,
                                       const struct tls_client_policy *policy,
                                       const struct tls_client_target *target,
                                       const struct tls_ends *ends, void *owner);
/* "X25519", "P-256", ... to what group and group_only are; 0: the library has no such thing. */
uint16_t tls_client_group_named(const char *name);
/* Of the group of this session; 0: none. For the next target. */
uint16_t tls_client_group(const struct tls_session *session);
/* The host asked for another key share than we had guessed. */
bool tls_client_retried(const struct tls_session *session);
/* After a failure: the host says that it takes more than we offered (RFC 7507), or that it takes
 * nothing that old. Then less is not what it needs. */
bool tls_client_offered_less(const struct tls_session *session);
/* After a failure: it has no version as high as the policy wants. */
bool tls_client_too_weak(const struct tls_session *session);
/* After a failure: the certificate's key must not sign, by its own usage. TLS_STEP_QUIET is next.
 */
bool tls_client_misused(const struct tls_session *session);
/* The host asked for our certificate, whether the policy has one or not: in this handshake, or in
 * the one that is resumed. */
bool tls_client_asked(const struct tls_session *session);
/* After a failure: it was asked, and its alert is about ours, or about there being none. By TLS 1.3
 * that comes when the handshake is over, at a read. */
bool tls_client_refused(const struct tls_session *session);
/* Whether this binary has a group that is a post-quantum hybrid. */
bool tls_client_has_hybrid(void);
/* Of a session that is open: its key exchange was one. */
bool tls_client_is_hybrid(const struct tls_session *session);
/* Of one that has failed, too: the certificate's key is none of those that are pinned. */
bool tls_client_pin_missed(const struct tls_session *session);
/* Whether one of the names wanted was presented (also where the level does not ask). */
bool tls_client_name_ok(const struct tls_session *session);
/* Whether the certificate of an open session bears one of these, which others want. */
bool tls_client_has_name(const struct tls_session *session, const struct slice *names,
                         unsigned names_count);
/* The session goes on for them: what name_ok says from now on. */
void tls_client_name_is(struct tls_session *session, bool ok);
/* How it fitted the policy's TLSA records; NO_MATCH without any. */
enum tls_dane_match tls_client_dane(const struct tls_session *session);

/* Whether the one besides was, under a valid chain. */
bool tls_client_also_ok(const struct tls_session *session);

#endif
