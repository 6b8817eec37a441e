/*
 * tls_session_inside.h - what the session shares with its two beginnings, server and client
 */
#ifndef RINGPOST_TLS_SESSION_INSIDE_H
#define RINGPOST_TLS_SESSION_INSIDE_H

#include "tls/tls_boringssl.h"
#include "tls/tls_client.h"
#include "tls/tls_session.h"

struct tls_shard;

enum {
    US_IN_S = 1'000'000,
    TLS_GROUP_X25519MLKEM768 = 0x11ec, /* not all versions have a name for it */
};

/* As BoringSSL's lists of suites; TLS 1.3 has its own. */
#define TLS_SUITES_AEAD "ECDHE+AESGCM:ECDHE+CHACHA20"
#define TLS_SUITES_CBC TLS_SUITES_AEAD ":ECDHE+AES+SHA"

struct tls_session {
    SSL *ssl;
    const struct tls_ends *ends;
    void *owner;
    struct tls_shard *shard;
    struct tls_peer *peer;                  /* one for each bundle that judged it */
    unsigned peers_count;                   /* 0: one, if any */
    const struct tls_client_policy *policy; /* of a client; NULL: we are the server */
    struct tls_client_target target;        /* likewise */
    void *kept;         /* of a client that offers a session: what was known of its certificate */
    uint32_t error;     /* BoringSSL's; 0: none, or see reason */
    const char *reason; /* words of our own */
    bool is_open;
    bool is_failed;
    bool is_pooled;
    bool is_asked;     /* for a certificate */
    bool asks_by_name; /* of a server: whether it is depends on the name in the ClientHello */
    bool is_name_ok;   /* a name that was wanted was presented */
    enum tls_dane_match dane;
    bool is_pin_missed;
    bool is_also_ok; /* and the one besides, under a valid chain */
    uint8_t key[32]; /* of a client: under what its sessions are kept */
};

/* A session of this context, with its ends connected. NULL: out of memory. */
struct tls_session *tls_session_new(SSL_CTX *context, struct tls_shard *shard,
                                    const struct tls_ends *ends, void *owner);
struct tls_session *tls_session_of(const SSL *ssl);
/* After a resumption that judged nothing: what is known of the certificate from before. */
void tls_client_recall(struct tls_session *session);
/* For SSL_CTX_set_current_time_cb. */
void tls_session_clock(const SSL *ssl, struct timeval *now);

#endif
