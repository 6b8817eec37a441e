/*
 * tls_session.h - one TLS connection: ciphertext in, plaintext out, and back; no I/O
 *
 *   tls_server_accept, tls_client_connect
 *     -> HANDSHAKE --tls_session_handshake--> OPEN --tls_session_read, _write--> OPEN
 *            '---------------------------------'--- an error --> FAILED, for good
 *                                              '--- close_notify --> CLOSED (reading)
 *
 * The owner lends two functions: take copies ciphertext that has come, put takes ciphertext that is
 * to be sent. Either may do less than it is asked, or nothing: then the call says TLS_WANT_IN or
 * TLS_WANT_OUT and is made again later, a write with the same bytes (and more behind them).
 *
 * After FAILED an alert may have been put: it is sent, then the socket is closed. Nothing is ever
 * read or written in clear on a connection that has had a session: its owner sees to that.
 */
#ifndef RINGPOST_TLS_SESSION_H
#define RINGPOST_TLS_SESSION_H

#include "core/slice.h"

enum {
    TLS_PLAINTEXT_MAX = 16'384, /* of a record */
    TLS_TEXT_MAX = 256,         /* words about a failure */
    TLS_BUNDLES_MAX = 2,        /* root bundles that a client's certificate is judged by */
};

enum tls_result {
    TLS_OK,       /* the handshake is complete; something was read or written */
    TLS_WANT_IN,  /* take had nothing more */
    TLS_WANT_OUT, /* put had no room */
    TLS_CLOSED,   /* the peer has said close_notify */
    TLS_FAILED,   /* tls_session_why */
};

struct tls_ends {
    size_t (*take)(void *owner, uint8_t *to, size_t bytes);
    size_t (*put)(void *owner, const uint8_t *from, size_t bytes);
};

struct tls_session;
struct tls_peer;

void tls_session_free(struct tls_session *session); /* NULL is allowed */
/* The peer speaks first. */
bool tls_session_is_server(const struct tls_session *session);

enum tls_result tls_session_handshake(struct tls_session *session);
/* Some plaintext. bytes is set on TLS_OK only, and then at least 1. */
enum tls_result tls_session_read(struct tls_session *session, uint8_t *to, size_t room,
                                 size_t *bytes);
/* Plaintext is waiting in the session itself: read gives it without asking take. */
bool tls_session_has_more(const struct tls_session *session);
/* Seals some of in (not empty); bytes says how much, on TLS_OK. */
enum tls_result tls_session_write(struct tls_session *session, struct slice in, size_t *bytes);
/* Puts a close_notify; nothing may be written after it. TLS_OK, TLS_WANT_OUT or TLS_FAILED. */
enum tls_result tls_session_close(struct tls_session *session);

/* ---- what came of it, good after the handshake ---- */

struct tls_facts {
    const char *version; /* "TLSv1.3" */
    const char *suite;   /* the standard's name */
    const char *group;   /* "X25519"; "" without a key exchange */
    bool is_resumed;
    bool is_pooled;              /* a key share of this handshake came from the pool */
    const char *server_name;     /* SNI, sent or received; "" none */
    const struct tls_peer *peer; /* what it presented; NULL: nothing */
    unsigned peers_count;        /* 0: nothing; more than 1: peer[1] is what the listener's next
                                    bundle says of the same chain */
};
void tls_session_facts(const struct tls_session *session, struct tls_facts *facts);
/* Certificates that the peer presented, as far as the handshake got; DER, the leaf first. */
unsigned tls_session_chain_count(const struct tls_session *session);
struct slice tls_session_chain_at(const struct tls_session *session, unsigned index);
/* Why it failed, in words; its length. */
size_t tls_session_why(const struct tls_session *session, char out[static TLS_TEXT_MAX]);

#endif
