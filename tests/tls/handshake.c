/*
 * handshake.c - two SSL objects that talk until both are content
 */
#include "tests/tls/handshake.h"

#include <stdlib.h>

#include "core/check.h"

enum { ROUNDS_MAX = 20, DAY_SECONDS = 86'400 };

static EVP_PKEY *key;
static X509 *certificate;

static void certificate_make(void)
{
    EC_KEY *ec = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    CHECK(ec != NULL);
    CHECK(EC_KEY_generate_key(ec) == 1);
    key = EVP_PKEY_new();
    certificate = X509_new();
    CHECK(key != NULL && certificate != NULL);
    CHECK(EVP_PKEY_assign_EC_KEY(key, ec) == 1);
    CHECK(X509_set_version(certificate, 2) == 1);
    CHECK(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1) == 1);
    CHECK(X509_gmtime_adj(X509_getm_notBefore(certificate), -DAY_SECONDS) != NULL);
    CHECK(X509_gmtime_adj(X509_getm_notAfter(certificate), DAY_SECONDS) != NULL);
    X509_NAME *name = X509_get_subject_name(certificate);
    CHECK(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"mx.example", -1,
                                     -1, 0) == 1);
    CHECK(X509_set_issuer_name(certificate, name) == 1);
    CHECK(X509_set_pubkey(certificate, key) == 1);
    CHECK(X509_sign(certificate, key, EVP_sha256()) > 0);
}

SSL_CTX *handshake_server_context(void)
{
    if (certificate == NULL)
        certificate_make();
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    CHECK(context != NULL);
    CHECK(SSL_CTX_use_certificate(context, certificate) == 1);
    CHECK(SSL_CTX_use_PrivateKey(context, key) == 1);
    CHECK(SSL_CTX_set_session_id_context(context, (const uint8_t *)"test", 4) == 1);
    return context;
}

static int on_session(SSL *ssl, SSL_SESSION *session)
{
    struct handshake *h = SSL_get_app_data(ssl);
    if (h == NULL || h->sessions_count == HANDSHAKE_SESSIONS_MAX)
        return 0;
    h->sessions[h->sessions_count++] = session;
    return 1;
}

SSL_CTX *handshake_client_context(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    CHECK(context != NULL);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context, on_session);
    return context;
}

void handshake_version(SSL_CTX *context, uint16_t version)
{
    CHECK(SSL_CTX_set_min_proto_version(context, version) == 1);
    CHECK(SSL_CTX_set_max_proto_version(context, version) == 1);
}

void handshake_begin(struct handshake *h, SSL_CTX *client, SSL_CTX *server, SSL_SESSION *offered)
{
    *h = (struct handshake) { .client = SSL_new(client), .server = SSL_new(server) };
    BIO *client_end;
    BIO *server_end;
    CHECK(h->client != NULL && h->server != NULL);
    CHECK(BIO_new_bio_pair(&client_end, 0, &server_end, 0) == 1);
    SSL_set_bio(h->client, client_end, client_end);
    SSL_set_bio(h->server, server_end, server_end);
    SSL_set_app_data(h->client, h);
    SSL_set_connect_state(h->client);
    SSL_set_accept_state(h->server);
    if (offered != NULL)
        CHECK(SSL_set_session(h->client, offered) == 1);
}

/* 1: done; 0: waits for the other side; -1: failed. */
static int turn(SSL *ssl)
{
    int r = SSL_do_handshake(ssl);
    if (r == 1)
        return 1;
    int error = SSL_get_error(ssl, r);
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

/* Tickets of TLS 1.3 go out with the server's first octet, and come in before it. */
static bool talk(struct handshake *h)
{
    uint8_t octet = '2';
    return SSL_write(h->server, &octet, 1) == 1 && SSL_read(h->client, &octet, 1) == 1 &&
           octet == '2';
}

bool handshake_run(struct handshake *h)
{
    int client = 0;
    int server = 0;
    ERR_clear_error();
    for (unsigned round = 0; round < ROUNDS_MAX && (client == 0 || server == 0); round++) {
        client = turn(h->client);
        server = client < 0 ? 0 : turn(h->server);
        if (client < 0 || server < 0)
            break;
    }
    if (client == 1 && server == 1 && talk(h))
        return true;
    h->reason = ERR_GET_REASON(ERR_peek_error());
    return false;
}

bool handshake_resumed(const struct handshake *h)
{
    bool resumed = SSL_session_reused(h->client) == 1;
    CHECK(resumed == (SSL_session_reused(h->server) == 1));
    return resumed;
}

SSL_SESSION *handshake_take_session(struct handshake *h)
{
    return h->sessions_count == 0 ? NULL : h->sessions[--h->sessions_count];
}

void handshake_end(struct handshake *h)
{
    for (SSL_SESSION *session; (session = handshake_take_session(h)) != NULL;)
        SSL_SESSION_free(session);
    SSL_free(h->client);
    SSL_free(h->server);
    ERR_clear_error();
}

bool handshake_once(SSL_CTX *client, SSL_CTX *server, SSL_SESSION **session, bool *resumed)
{
    struct handshake h;
    handshake_begin(&h, client, server, session == NULL ? NULL : *session);
    bool worked = handshake_run(&h);
    *resumed = worked && handshake_resumed(&h);
    SSL_SESSION *got = session == NULL ? NULL : handshake_take_session(&h);
    if (got != NULL) {
        SSL_SESSION_free(*session);
        *session = got;
    }
    handshake_end(&h);
    return worked;
}
