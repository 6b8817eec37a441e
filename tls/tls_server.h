/*
 * tls_server.h - what a listener needs to speak TLS: certificates, versions, suites, whom it asks
 *
 * One for each listener, shard and generation of the configuration. Sessions hold on to what they
 * need of it, but it must outlive their handshakes: the generation does.
 */
#ifndef RINGPOST_TLS_SERVER_H
#define RINGPOST_TLS_SERVER_H

#include "tls/tls_session.h"

enum { TLS_VERSION_10 = 0x0301, TLS_VERSION_11, TLS_VERSION_12, TLS_VERSION_13 };
enum { TLS_CREDENTIALS_MAX = 64 }; /* of a listener */

struct tls_credential;
struct tls_roots;
struct tls_shard;
struct tls_server;

struct tls_server_options {
    const char *name; /* of the listener: what one of them sealed, no other one opens */
    struct tls_credential *const *credentials;
    unsigned credentials_count; /* 1 or more; the first ones serve who names none of them */
    unsigned version_min;       /* TLS_VERSION_12 or _13 */
    unsigned version_max;       /* likewise; 0: _13 */
    const char *groups;         /* as BoringSSL lists them; NULL: all of ours */
    bool allows_cbc;            /* ECDHE with AES-CBC, last */
    uint32_t lifetime_s;        /* how long a session may be resumed */
    /* That clients' certificates are judged by, by each on its own; none: none are. */
    const struct tls_roots *const *bundles;
    unsigned bundles_count;
    /* Who names one of these is asked for a certificate: "n", or "*.n" for all below n, lower case.
     * Kept by reference. */
    const struct slice *asked_names;
    unsigned asked_names_count;
};

/* Whom it asks for a certificate. */
enum tls_asks {
    TLS_ASKS_BY_NAME, /* who names one of asked_names; without any that is nobody */
    TLS_ASKS_ALWAYS,
    TLS_ASKS_NEVER,
};

/* 0, -ENOMEM, or -EINVAL: the library does not take it. Keeps references, copies the rest. */
[[nodiscard]] int tls_server_make(const struct tls_server_options *options, struct tls_shard *shard,
                                  struct tls_server **server);
void tls_server_free(struct tls_server *server); /* NULL is allowed */

/* A session that waits for a ClientHello. A certificate that is asked for need not come, and need
 * not be any good (facts.peer->verdict). NULL: out of memory. */
struct tls_session *tls_server_accept(struct tls_server *server, enum tls_asks asks,
                                      const struct tls_ends *ends, void *owner);

#endif
