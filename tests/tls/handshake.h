/*
 * handshake.h - both sides of a handshake in one test, over a pair of BIOs
 */
#ifndef RINGPOST_TESTS_TLS_HANDSHAKE_H
#define RINGPOST_TESTS_TLS_HANDSHAKE_H

#include "core/compiler.h"
#include "tls/tls_boringssl.h"

/* Whether this is AddressSanitizer's build, in which some things are slow or not themselves. */
#if defined(__SANITIZE_ADDRESS__)
#define HANDSHAKE_ASAN 1
#elif defined(__has_feature)
#define HANDSHAKE_ASAN __has_feature(address_sanitizer)
#else
#define HANDSHAKE_ASAN 0
#endif

enum { HANDSHAKE_SESSIONS_MAX = 4 };

struct handshake {
    SSL *client;
    SSL *server;
    SSL_SESSION *sessions[HANDSHAKE_SESSIONS_MAX]; /* given to the client, owned */
    unsigned sessions_count;
    int reason; /* ERR_GET_REASON of what failed; 0 */
};

/* With a self-signed certificate (ECDSA, P-256), made when first asked for. */
SSL_CTX *handshake_server_context(void);
/* Verifies nothing; keeps the sessions that it is given in the handshake they come from. */
SSL_CTX *handshake_client_context(void);
void handshake_version(SSL_CTX *context, uint16_t version); /* this one only */

/* offered may be NULL; it is the client's to offer, its reference stays with the caller. */
void handshake_begin(struct handshake *h, SSL_CTX *client, SSL_CTX *server, SSL_SESSION *offered);
/* Until both are done and have read what the other one said last. True: it worked. */
bool handshake_run(struct handshake *h);
bool handshake_resumed(const struct handshake *h); /* both sides say so */
/* A session that the caller owns, the last one that the server gave; NULL: none. */
SSL_SESSION *handshake_take_session(struct handshake *h);
void handshake_end(struct handshake *h);

/* begin, run, end: true when it worked; *session (may be NULL) is replaced by the one that was got,
 * if any. resumed tells whether the offered one was taken. */
bool handshake_once(SSL_CTX *client, SSL_CTX *server, SSL_SESSION **session, bool *resumed);

#endif
