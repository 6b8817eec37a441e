/*
 * tls_server.c - contexts of a listener: one for each certificate, chosen by the ClientHello
 *
 *   ClientHello --name, what the client can verify--> credential --> its SSL_CTX
 *
 * An SSL_CTX has one certificate. A session begins with the first one and changes over when another
 * fits better: by the server name (an exact one before a wildcard), then by what the client can
 * verify, in the order of the configuration. Tickets and ids belong to the first context, so they
 * do not depend on the choice.
 *
 * Names may be reserved for clients that are to show a certificate: who names one of them is asked,
 * by the same ClientHello. Sessions that began under another name are not resumed there, for in
 * those nobody was asked.
 *
 * Forward secrecy always: no suite without ECDHE is ever listed. Groups and suites go by the
 * client's order, which asks for no second ClientHello; the list says what is taken at all.
 */
#include "tls/tls_server.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "core/check.h"
#include "tls/tls_credential.h"
#include "tls/tls_session_inside.h"
#include "tls/tls_shard.h"
#include "tls/tls_verify.h"

enum {
    EXTENSION_NAMES = 0,
    EXTENSION_GROUPS = 10,
    EXTENSION_SIGNATURES = 13,
    EXTENSION_VERSIONS = 43,
    NAME_HOST = 0,
};

struct tls_server {
    struct tls_shard *shard;
    struct tls_roots *bundles[TLS_BUNDLES_MAX];
    unsigned bundles_count;
    unsigned count;
    struct tls_credential **credentials;
    SSL_CTX **contexts;
    const struct slice *asked_names;
    unsigned asked_names_count;
    uint8_t asked_id[SHA256_DIGEST_LENGTH]; /* of their sessions: no other one is resumed there */
};

static int context_index = -1;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_once(void)
{
    context_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    CHECK(context_index >= 0);
}

/* ---- what the client can do ---- */

struct hello {
    CBS name; /* empty: it names nobody */
    bool tls13;
    bool ecdsa_p256, ecdsa_p384;
    bool rsa;
    /* Of TLS 1.2, where the suite says what key it needs, and the groups what curve it may be on.
     */
    bool ecdsa_suites, rsa_suites;
    bool curve_p256, curve_p384;
};

static bool hello_extension(const SSL_CLIENT_HELLO *in, uint16_t type, CBS *out)
{
    const uint8_t *data;
    size_t size;
    if (!SSL_early_callback_ctx_extension_get(in, type, &data, &size))
        return false;
    CBS_init(out, data, size);
    return true;
}

static void hello_name(const SSL_CLIENT_HELLO *in, struct hello *out)
{
    CBS extension, list, name;
    uint8_t type;
    if (hello_extension(in, EXTENSION_NAMES, &extension) &&
        CBS_get_u16_length_prefixed(&extension, &list) && CBS_get_u8(&list, &type) &&
        type == NAME_HOST && CBS_get_u16_length_prefixed(&list, &name))
        out->name = name;
}

static void hello_signatures(const SSL_CLIENT_HELLO *in, struct hello *out)
{
    CBS extension, list;
    uint16_t algorithm;
    if (!hello_extension(in, EXTENSION_SIGNATURES, &extension) ||
        !CBS_get_u16_length_prefixed(&extension, &list)) {
        out->rsa = true; /* RFC 5246 7.4.1.4.1: SHA-1, which is refused anyway */
        return;
    }
    while (CBS_get_u16(&list, &algorithm)) {
        out->ecdsa_p256 = out->ecdsa_p256 || algorithm == SSL_SIGN_ECDSA_SECP256R1_SHA256;
        out->ecdsa_p384 = out->ecdsa_p384 || algorithm == SSL_SIGN_ECDSA_SECP384R1_SHA384;
        out->rsa =
            out->rsa || algorithm == SSL_SIGN_RSA_PSS_RSAE_SHA256 ||
            algorithm == SSL_SIGN_RSA_PKCS1_SHA256 || algorithm == SSL_SIGN_RSA_PSS_RSAE_SHA384 ||
            algorithm == SSL_SIGN_RSA_PKCS1_SHA384 || algorithm == SSL_SIGN_RSA_PSS_RSAE_SHA512 ||
            algorithm == SSL_SIGN_RSA_PKCS1_SHA512;
    }
}

static void hello_versions(const SSL_CLIENT_HELLO *in, struct hello *out)
{
    CBS extension, list;
    uint16_t version;
    if (!hello_extension(in, EXTENSION_VERSIONS, &extension) ||
        !CBS_get_u8_length_prefixed(&extension, &list))
        return;
    while (CBS_get_u16(&list, &version))
        out->tls13 = out->tls13 || version == TLS_VERSION_13;
}

static bool suite_is_ours(const STACK_OF(SSL_CIPHER) * ours, uint16_t id)
{
    for (size_t i = 0; i < sk_SSL_CIPHER_num(ours); i++)
        if ((uint16_t)SSL_CIPHER_get_id(sk_SSL_CIPHER_value(ours, i)) == id)
            return true;
    return false;
}

/* Those that we do not take are no reason for a certificate. */
static void hello_suites(const SSL_CLIENT_HELLO *in, struct hello *out)
{
    const STACK_OF(SSL_CIPHER) *ours = SSL_CTX_get_ciphers(SSL_get_SSL_CTX(in->ssl));
    CBS list;
    uint16_t id;
    CBS_init(&list, in->cipher_suites, in->cipher_suites_len);
    while (!(out->ecdsa_suites && out->rsa_suites) && CBS_get_u16(&list, &id)) {
        if (!suite_is_ours(ours, id))
            continue;
        int key = SSL_CIPHER_get_auth_nid(SSL_get_cipher_by_value(id));
        out->ecdsa_suites = out->ecdsa_suites || key == NID_auth_ecdsa;
        out->rsa_suites = out->rsa_suites || key == NID_auth_rsa;
    }
}

/* RFC 8422 5.1: of TLS 1.2; who says nothing takes any. */
static void hello_curves(const SSL_CLIENT_HELLO *in, struct hello *out)
{
    CBS extension, list;
    uint16_t group;
    if (!hello_extension(in, EXTENSION_GROUPS, &extension) ||
        !CBS_get_u16_length_prefixed(&extension, &list)) {
        out->curve_p256 = out->curve_p384 = true;
        return;
    }
    while (CBS_get_u16(&list, &group)) {
        out->curve_p256 = out->curve_p256 || group == SSL_CURVE_SECP256R1;
        out->curve_p384 = out->curve_p384 || group == SSL_CURVE_SECP384R1;
    }
}

static void hello_read(const SSL_CLIENT_HELLO *in, struct hello *out)
{
    *out = (struct hello) { 0 };
    hello_name(in, out);
    hello_signatures(in, out);
    hello_versions(in, out);
    if (out->tls13)
        return;
    hello_suites(in, out);
    hello_curves(in, out);
}

static bool hello_takes(const struct hello *hello, const struct tls_credential *credential)
{
    const struct tls_certificate *leaf = tls_credential_leaf(credential);
    switch (leaf->key) {
    case TLS_KEY_EC: {
        bool large = leaf->key_bits == 384;
        bool curve = large ? hello->curve_p384 : hello->curve_p256;
        return (hello->tls13 || (hello->ecdsa_suites && curve)) &&
               (large ? hello->ecdsa_p384 : hello->ecdsa_p256);
    }
    case TLS_KEY_RSA: return hello->rsa && (hello->tls13 || hello->rsa_suites);
    default: return false;
    }
}

/* 0: not for this name; 1: by a wildcard; 2: exactly. */
static unsigned name_fit(struct slice name, const struct tls_credential *credential)
{
    const struct tls_names *names = &tls_credential_leaf(credential)->names;
    unsigned best = 0;
    for (unsigned i = 0; i < names->count && best < 2; i++) {
        struct slice presented = tls_names_at(names, i);
        if (tls_name_match(name, presented, false))
            best = 2;
        else if (best == 0 && tls_name_match(name, presented, true))
            best = 1;
    }
    return best;
}

/* The first of those that fit best by name, among these the first that the client can verify. */
static unsigned choose(const struct tls_server *server, const struct hello *hello)
{
    struct slice name = slice_of(CBS_data(&hello->name), CBS_len(&hello->name));
    unsigned chosen = 0, chosen_rank = 0;
    for (unsigned i = 0; i < server->count; i++) {
        unsigned rank = 1 + (name.size > 0 ? 2 * name_fit(name, server->credentials[i]) : 0) +
                        (hello_takes(hello, server->credentials[i]) ? 8 : 0);
        if (rank > chosen_rank) {
            chosen = i;
            chosen_rank = rank;
        }
    }
    return chosen;
}

static bool is_asked_name(const struct tls_server *server, struct slice name)
{
    for (unsigned i = 0; i < server->asked_names_count && name.size > 0; i++) {
        const struct slice asked = server->asked_names[i];
        if (asked.data[0] == '*'
                ? slice_ends_nocase(name, slice_from(asked, 1)) && name.size >= asked.size
                : slice_equal_nocase(name, asked))
            return true;
    }
    return false;
}

static enum ssl_verify_result_t on_verify(SSL *ssl, uint8_t *alert);

static enum ssl_select_cert_result_t on_hello(const SSL_CLIENT_HELLO *in)
{
    struct tls_session *session = tls_session_of(in->ssl);
    const struct tls_server *server = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(in->ssl), context_index);
    struct hello hello;
    if (server->count == 1 && !session->is_asked && !session->asks_by_name)
        return ssl_select_cert_success; /* nothing depends on what it says */
    hello_read(in, &hello);
    const bool by_name =
        session->asks_by_name &&
        is_asked_name(server, slice_of(CBS_data(&hello.name), CBS_len(&hello.name)));
    session->asks_by_name = false; /* it may say hello twice, and is asked once */
    session->is_asked = session->is_asked || by_name;
    if (by_name)
        SSL_set_custom_verify(in->ssl, SSL_VERIFY_PEER, on_verify);
    /* By TLS 1.2 it is known too late whether a certificate comes: none of these is resumed. */
    if (session->is_asked && !hello.tls13)
        SSL_set_options(in->ssl, SSL_OP_NO_TICKET);
    unsigned chosen = choose(server, &hello);
    if (chosen != 0 && SSL_set_SSL_CTX(in->ssl, server->contexts[chosen]) == NULL)
        return ssl_select_cert_error;
    if (by_name &&
        SSL_set_session_id_context(in->ssl, server->asked_id, sizeof(server->asked_id)) != 1)
        return ssl_select_cert_error;
    return ssl_select_cert_success;
}

/* ---- certificates of clients ---- */

/* Never fatal: the verdict is a fact, and what follows from it is policy. */
static enum ssl_verify_result_t on_verify(SSL *ssl, uint8_t *alert)
{
    (void)alert;
    struct tls_session *session = tls_session_of(ssl);
    const struct tls_server *server = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), context_index);
    SSL_set_options(ssl, SSL_OP_NO_TICKET); /* resumed, it would not carry the verdict */
    unsigned count = MAX(1U, server->bundles_count);
    if (session->peer == NULL)
        session->peer = calloc(count, sizeof(*session->peer));
    if (session->peer == NULL)
        return ssl_verify_invalid;
    session->peers_count = count;
    for (unsigned i = 0; i < count; i++)
        (void)tls_verify_chain(SSL_get0_peer_certificates(ssl), server->bundles[i], TLS_PURPOSE_ANY,
                               *session->shard->wall_us / US_IN_S, &session->peer[i]);
    return ssl_verify_ok; /* out of memory: untrusted, it says so itself */
}

/* ---- contexts ---- */

#ifdef SSL_GROUP_X25519_MLKEM768
static const char groups_ours[] = "X25519MLKEM768:X25519:P-256:P-384";
#else
static const char groups_ours[] = "X25519:P-256:P-384";
#endif

static bool context_groups(SSL_CTX *context, const char *groups)
{
    return SSL_CTX_set1_curves_list(context, groups == NULL ? groups_ours : groups) == 1;
}

static int context_make(struct tls_server *server, const struct tls_server_options *options,
                        unsigned index)
{
    SSL_CTX *context = SSL_CTX_new(TLS_with_buffers_method());
    if (context == NULL)
        return -ENOMEM;
    server->contexts[index] = context;
    uint8_t id[SHA256_DIGEST_LENGTH];
    SHA256((const uint8_t *)options->name, strlen(options->name), id);
    unsigned most = options->version_max == 0 ? TLS_VERSION_13 : options->version_max;
    bool done = SSL_CTX_set_ex_data(context, context_index, server) == 1 &&
                SSL_CTX_set_min_proto_version(context, (uint16_t)options->version_min) == 1 &&
                SSL_CTX_set_max_proto_version(context, (uint16_t)most) == 1 &&
                SSL_CTX_set_strict_cipher_list(
                    context, options->allows_cbc ? TLS_SUITES_CBC : TLS_SUITES_AEAD) == 1 &&
                context_groups(context, options->groups) &&
                SSL_CTX_set_session_id_context(context, id, sizeof(id)) == 1 &&
                tls_credential_use_on(server->credentials[index], context) == 0;
    if (!done)
        return -EINVAL;
    SSL_CTX_set_select_certificate_cb(context, on_hello);
    SSL_CTX_set_current_time_cb(context, tls_session_clock);
    SSL_CTX_set_num_tickets(context, 1);
    SSL_CTX_set_timeout(context, options->lifetime_s);
    SSL_CTX_set_session_psk_dhe_timeout(context, options->lifetime_s);
    if (server->shard->tickets == NULL)
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    else if (tls_tickets_attach(server->shard->tickets, context) < 0)
        return -ENOMEM;
    if (server->shard->ids.cache != NULL)
        return tls_id_cache_attach(&server->shard->ids, context);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    return 0;
}

static void asked_id_make(const char *listener, uint8_t id[static SHA256_DIGEST_LENGTH])
{
    static const char why[] = "by name";
    SHA256_CTX hash;
    SHA256_Init(&hash);
    SHA256_Update(&hash, listener, strlen(listener) + 1);
    SHA256_Update(&hash, why, sizeof(why));
    SHA256_Final(id, &hash);
}

int tls_server_make(const struct tls_server_options *options, struct tls_shard *shard,
                    struct tls_server **out)
{
    CHECK(options->credentials_count > 0);
    CHECK(options->credentials_count <= TLS_CREDENTIALS_MAX);
    CHECK(options->version_min == TLS_VERSION_12 || options->version_min == TLS_VERSION_13);
    pthread_once(&once, make_once);
    unsigned count = options->credentials_count;
    struct tls_server *server = calloc(1, sizeof(*server));
    if (server == NULL)
        return -ENOMEM;
    server->shard = shard;
    server->credentials = calloc(count, sizeof(*server->credentials));
    server->contexts = calloc(count, sizeof(SSL_CTX *));
    server->asked_names = options->asked_names;
    server->asked_names_count = options->asked_names_count;
    asked_id_make(options->name, server->asked_id);
    int r = server->credentials == NULL || server->contexts == NULL ? -ENOMEM : 0;
    CHECK(options->bundles_count <= TLS_BUNDLES_MAX);
    for (; r == 0 && server->bundles_count < options->bundles_count; server->bundles_count++)
        server->bundles[server->bundles_count] =
            tls_roots_use((struct tls_roots *)(uintptr_t)options->bundles[server->bundles_count]);
    for (; r == 0 && server->count < count; server->count++) {
        unsigned i = server->count;
        server->credentials[i] = tls_credential_use(options->credentials[i]);
        r = context_make(server, options, i);
    }
    if (r < 0) {
        tls_server_free(server);
        ERR_clear_error();
        return r;
    }
    *out = server;
    return 0;
}

void tls_server_free(struct tls_server *server)
{
    if (server == NULL)
        return;
    for (unsigned i = 0; i < server->count; i++) {
        SSL_CTX_free(server->contexts[i]);
        tls_credential_drop(server->credentials[i]);
    }
    for (unsigned i = 0; i < server->bundles_count; i++)
        tls_roots_drop(server->bundles[i]);
    free(server->contexts);
    free(server->credentials);
    free(server);
}

struct tls_session *tls_server_accept(struct tls_server *server, enum tls_asks asks,
                                      const struct tls_ends *ends, void *owner)
{
    struct tls_session *session = tls_session_new(server->contexts[0], server->shard, ends, owner);
    if (session == NULL)
        return NULL;
    SSL_set_accept_state(session->ssl);
    session->is_asked = asks == TLS_ASKS_ALWAYS;
    session->asks_by_name = asks == TLS_ASKS_BY_NAME && server->asked_names_count > 0;
    if (session->is_asked)
        SSL_set_custom_verify(session->ssl, SSL_VERIFY_PEER, on_verify);
    return session;
}
