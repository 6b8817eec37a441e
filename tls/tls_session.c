/*
 * tls_session.c - a BoringSSL connection over its owner's buffers
 *
 * BoringSSL reads a record's header, then its body, by the BIO's read, and writes each record by
 * one or more of the BIO's writes; both go to the owner's take and put, and "nothing" means retry.
 * It holds no buffer while idle, and sheds what only the handshake needed.
 *
 * Owns the SSL and what the peer presented. Memory comes from malloc, as BoringSSL's own does: the
 * owner bounds how many sessions there are. A zero-length write is never made (old versions of the
 * library lose count of it).
 */
#include "tls/tls_session_inside.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "tls/tls_shard.h"
#include "tls/tls_verify.h"

/* ---- the BIO ---- */

static BIO_METHOD *bio_method;
static int session_index = -1;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static int bio_read(BIO *bio, char *to, int room)
{
    BIO_clear_retry_flags(bio);
    const struct tls_session *s = BIO_get_data(bio);
    size_t bytes = room <= 0 ? 0 : s->ends->take(s->owner, (uint8_t *)to, (size_t)room);
    if (bytes == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    return (int)bytes;
}

static int bio_write(BIO *bio, const char *from, int size)
{
    BIO_clear_retry_flags(bio);
    const struct tls_session *s = BIO_get_data(bio);
    size_t bytes = size <= 0 ? 0 : s->ends->put(s->owner, (const uint8_t *)from, (size_t)size);
    if (bytes == 0) {
        BIO_set_retry_write(bio);
        return -1;
    }
    return (int)bytes;
}

static long bio_control(BIO *bio, int command, long number, void *pointer)
{
    (void)bio;
    (void)number;
    (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static void make_once(void)
{
    bio_method = BIO_meth_new(0, "ringpost");
    CHECK(bio_method != NULL);
    CHECK(BIO_meth_set_read(bio_method, bio_read));
    CHECK(BIO_meth_set_write(bio_method, bio_write));
    CHECK(BIO_meth_set_ctrl(bio_method, bio_control));
    session_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    CHECK(session_index >= 0);
}

/* ---- the clock: BoringSSL asks without saying for whom ---- */

static _Thread_local const int64_t *clock_us; /* of the shard whose session is at work */

void tls_session_clock(const SSL *ssl, struct timeval *now)
{
    (void)ssl; /* NULL in some versions */
    CHECK(clock_us != NULL);
    now->tv_sec = *clock_us / US_IN_S;
    now->tv_usec = *clock_us % US_IN_S;
}

/* Before each call into the library. */
static void enter(const struct tls_session *s)
{
    clock_us = s->shard->wall_us;
}

/* ---- life ---- */

struct tls_session *tls_session_of(const SSL *ssl)
{
    return SSL_get_ex_data(ssl, session_index);
}

struct tls_session *tls_session_new(SSL_CTX *context, struct tls_shard *shard,
                                    const struct tls_ends *ends, void *owner)
{
    pthread_once(&once, make_once);
    struct tls_session *s = calloc(1, sizeof(*s));
    BIO *bio = BIO_new(bio_method);
    SSL *ssl = SSL_new(context);
    if (s == NULL || bio == NULL || ssl == NULL || !SSL_set_ex_data(ssl, session_index, s)) {
        free(s);
        BIO_free(bio);
        SSL_free(ssl);
        ERR_clear_error();
        return NULL;
    }
    *s = (struct tls_session) { .ssl = ssl, .ends = ends, .owner = owner, .shard = shard };
    BIO_set_data(bio, s);
    BIO_set_init(bio, 1);
    SSL_set_bio(ssl, bio, bio);
    SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_set_shed_handshake_config(ssl, 1);
    return s;
}

void tls_session_free(struct tls_session *s)
{
    if (s == NULL)
        return;
    SSL_free(s->ssl);
    free(s->peer);
    free(s->kept);
    free(s);
}

bool tls_session_is_server(const struct tls_session *s)
{
    return SSL_is_server(s->ssl) != 0;
}

/* ---- what BoringSSL says ---- */

static enum tls_result result_of(struct tls_session *s, int returned)
{
    int error = SSL_get_error(s->ssl, returned);
    if (error == SSL_ERROR_WANT_READ)
        return TLS_WANT_IN;
    if (error == SSL_ERROR_WANT_WRITE)
        return TLS_WANT_OUT;
    if (error == SSL_ERROR_ZERO_RETURN)
        return TLS_CLOSED;
    s->is_failed = true;
    s->error = ERR_peek_error();
    ERR_clear_error();
    return TLS_FAILED;
}

/* Key shares that the pool has given so far. */
static uint64_t draws_of(const struct tls_session *s)
{
    if (s->shard->keyshares == NULL)
        return 0;
    const struct tls_keyshare_numbers *numbers = tls_keyshares_numbers(s->shard->keyshares);
    return numbers->hits + numbers->mlkem_hits;
}

static struct tls_side_numbers *numbers_of(const struct tls_session *s)
{
    struct tls_numbers *numbers = &s->shard->numbers;
    return s->policy != NULL ? &numbers->client : &numbers->server;
}

static enum tls_group_label group_label(uint16_t group)
{
    switch (group) {
    case TLS_GROUP_X25519MLKEM768: return TLS_LABEL_MLKEM;
    case SSL_CURVE_X25519: return TLS_LABEL_X25519;
    case SSL_CURVE_SECP256R1: return TLS_LABEL_P256;
    case SSL_CURVE_SECP384R1: return TLS_LABEL_P384;
    default: return TLS_LABEL_OTHER;
    }
}

static void count_open(const struct tls_session *s)
{
    struct tls_side_numbers *n = numbers_of(s);
    int version = SSL_version(s->ssl);
    metric_add(SSL_session_reused(s->ssl) ? &n->resumed : &n->full, 1);
    metric_add(version == TLS1_3_VERSION   ? &n->tls13
               : version == TLS1_2_VERSION ? &n->tls12
                                           : &n->older,
               1);
    metric_add(&n->groups[group_label(SSL_get_curve_id(s->ssl))], 1);
    if (s->peer != NULL)
        metric_add(s->peer->verdict == TLS_VERDICT_VALID ? &n->certificates_valid
                                                         : &n->certificates_other,
                   1);
}

enum tls_result tls_session_handshake(struct tls_session *s)
{
    CHECK(!s->is_open);
    if (s->is_failed)
        return TLS_FAILED;
    enter(s);
    tls_keyshares_use(s->shard->keyshares);
    uint64_t draws = draws_of(s);
    int r = SSL_do_handshake(s->ssl);
    s->is_pooled = s->is_pooled || draws_of(s) != draws;
    if (r == 1) {
        s->is_open = true;
        if (s->policy != NULL && SSL_session_reused(s->ssl))
            tls_client_recall(s);
        free(s->kept);
        s->kept = NULL;
        count_open(s);
        return TLS_OK;
    }
    enum tls_result result = result_of(s, r);
    if (result == TLS_CLOSED) { /* instead of a handshake */
        s->is_failed = true;
        s->reason = "closed during the handshake";
        result = TLS_FAILED;
    }
    if (result == TLS_FAILED)
        metric_add(&numbers_of(s)->failed, 1);
    return result;
}

enum tls_result tls_session_read(struct tls_session *s, uint8_t *to, size_t room, size_t *bytes)
{
    CHECK(s->is_open);
    CHECK(room > 0);
    if (s->is_failed)
        return TLS_FAILED;
    enter(s);
    int r = SSL_read(s->ssl, to, (int)MIN(room, (size_t)INT32_MAX));
    if (r <= 0)
        return result_of(s, r);
    *bytes = (size_t)r;
    return TLS_OK;
}

bool tls_session_has_more(const struct tls_session *s)
{
    return SSL_pending(s->ssl) > 0;
}

enum tls_result tls_session_write(struct tls_session *s, struct slice in, size_t *bytes)
{
    CHECK(s->is_open);
    CHECK(in.size > 0);
    if (s->is_failed)
        return TLS_FAILED;
    enter(s);
    int r = SSL_write(s->ssl, in.data, (int)MIN(in.size, (size_t)INT32_MAX));
    if (r <= 0)
        return result_of(s, r);
    *bytes = (size_t)r;
    return TLS_OK;
}

enum tls_result tls_session_close(struct tls_session *s)
{
    if (s->is_failed)
        return TLS_FAILED;
    enter(s);
    int r = SSL_shutdown(s->ssl);
    if (r >= 0)
        return TLS_OK; /* said; whether the peer says it too is nobody's concern */
    enum tls_result result = result_of(s, r);
    return result == TLS_WANT_IN ? TLS_OK : result;
}

/* ---- facts ---- */

void tls_session_facts(const struct tls_session *s, struct tls_facts *facts)
{
    const SSL_CIPHER *cipher = SSL_get_current_cipher(s->ssl);
    const char *group = SSL_get_curve_name(SSL_get_curve_id(s->ssl));
    const char *name = SSL_get_servername(s->ssl, TLSEXT_NAMETYPE_host_name);
    *facts = (struct tls_facts) {
        .version = SSL_get_version(s->ssl),
        .suite = cipher == NULL ? "" : SSL_CIPHER_standard_name(cipher),
        .group = group == NULL ? "" : group,
        .is_resumed = SSL_session_reused(s->ssl) != 0,
        .is_pooled = s->is_pooled,
        .server_name = name == NULL ? "" : name,
        .peer = s->peer,
        .peers_count = s->peer == NULL ? 0 : MAX(1U, s->peers_count),
    };
}

unsigned tls_session_chain_count(const struct tls_session *s)
{
    const STACK_OF(CRYPTO_BUFFER) *chain = SSL_get0_peer_certificates(s->ssl);
    return chain == NULL ? 0 : (unsigned)sk_CRYPTO_BUFFER_num(chain);
}

struct slice tls_session_chain_at(const struct tls_session *s, unsigned index)
{
    CHECK(index < tls_session_chain_count(s));
    const CRYPTO_BUFFER *buffer = sk_CRYPTO_BUFFER_value(SSL_get0_peer_certificates(s->ssl), index);
    return slice_of(CRYPTO_BUFFER_data(buffer), CRYPTO_BUFFER_len(buffer));
}

size_t tls_session_why(const struct tls_session *s, char out[static TLS_TEXT_MAX])
{
    const char *words = s->reason;
    if (words == NULL && s->error != 0)
        words = ERR_reason_error_string(s->error);
    if (words == NULL)
        words = "the connection ended";
    size_t size = 0;
    for (; words[size] != '\0' && size < TLS_TEXT_MAX - 1; size++) {
        char c = words[size];
        out[size] = s->reason == NULL && c == '_' ? ' ' : c;
        if (s->reason == NULL && c >= 'A' && c <= 'Z')
            out[size] = (char)(c - 'A' + 'a');
    }
    out[size] = '\0';
    return size;
}
