/*
 * tls_ticket.c - seals and opens tickets for BoringSSL, under keys that come and go
 *
 *   ticket: key's name (16) | nonce (12) | AES-256-GCM of the session (its bytes + 16), name as AAD
 *
 *   key: current --rotate--> previous --lifetime of a ticket, or rotate--> wiped
 *
 * Whoever has a key can read all TLS 1.2 sessions resumed under it, and impersonate us in TLS 1.3
 * resumptions: hence the rotation, the secret mapping, and the wiping of every copy.
 *
 * BoringSSL cannot be told "no ticket this time" in TLS 1.3, where an empty one is a protocol
 * error. So what may not be sealed is answered with random bytes of a ticket's shape: the client
 * offers them next time, no key has that name, and there is a full handshake.
 *
 * Owns its ciphers. One thread. The context keeps a pointer to it in its ex_data.
 */
#include "tls/tls_ticket.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/check.h"
#include "tls/tls_ticket_inside.h"

enum {
    NONCE_BYTES = 12,
    TAG_BYTES = 16,
    HEAD_BYTES = TLS_TICKET_NAME_BYTES + NONCE_BYTES,
    OVERHEAD_BYTES = HEAD_BYTES + TAG_BYTES,
    TICKETS_A_HANDSHAKE = 1,
};

/* ---- keys ---- */

static void key_make(struct tls_ticket_key *key)
{
    CHECK(RAND_bytes(key->name, sizeof(key->name)) == 1);
    CHECK(RAND_bytes(key->secret, sizeof(key->secret)) == 1);
}

void tls_ticket_keys_wipe(struct tls_ticket_keys *keys)
{
    OPENSSL_cleanse(keys, sizeof(*keys));
}

void tls_ticket_keys_make(int64_t now_us, struct tls_ticket_keys *keys)
{
    tls_ticket_keys_wipe(keys);
    key_make(&keys->current);
    keys->flags = TLS_TICKET_HAS_CURRENT;
    keys->made_us = now_us;
}

void tls_ticket_keys_rotate(struct tls_ticket_keys *keys, int64_t now_us)
{
    CHECK(keys->flags & TLS_TICKET_HAS_CURRENT);
    keys->previous = keys->current;
    key_make(&keys->current);
    keys->flags |= TLS_TICKET_HAS_PREVIOUS;
    keys->made_us = now_us;
}

bool tls_ticket_keys_expired(struct tls_ticket_keys *keys, int64_t now_us, int64_t lifetime_us)
{
    if (!(keys->flags & TLS_TICKET_HAS_PREVIOUS) || now_us - keys->made_us <= lifetime_us)
        return false;
    OPENSSL_cleanse(&keys->previous, sizeof(keys->previous));
    keys->flags &= ~(uint64_t)TLS_TICKET_HAS_PREVIOUS;
    return true;
}

/* ---- a shard's ---- */

int tls_tickets_make(struct tls_tickets **result)
{
    struct tls_tickets *tickets = calloc(1, sizeof(*tickets));
    if (tickets == NULL)
        return -ENOMEM;
    int r = tls_secret_make(&tickets->secret, sizeof(struct ticket_ciphers));
    if (r < 0) {
        free(tickets);
        return r;
    }
    tickets->ciphers = (void *)tickets->secret.data;
    metric_set(&tickets->numbers.locked, tickets->secret.is_locked);
    *result = tickets;
    return 0;
}

static void cipher_clear(struct ticket_cipher *cipher)
{
    if (cipher->is_set)
        EVP_AEAD_CTX_cleanup(&cipher->aead);
    OPENSSL_cleanse(cipher, sizeof(*cipher));
}

void tls_tickets_free(struct tls_tickets *tickets)
{
    if (tickets == NULL)
        return;
    cipher_clear(&tickets->ciphers->current);
    cipher_clear(&tickets->ciphers->previous);
    tls_secret_free(&tickets->secret);
    free(tickets);
}

static int cipher_set(struct ticket_cipher *cipher, const struct tls_ticket_key *key)
{
    if (EVP_AEAD_CTX_init(&cipher->aead, EVP_aead_aes_256_gcm(), key->secret, sizeof(key->secret),
                          TAG_BYTES, NULL) != 1) {
        ERR_clear_error();
        return -EINVAL;
    }
    memcpy(cipher->name, key->name, sizeof(cipher->name));
    cipher->is_set = true;
    return 0;
}

int tls_tickets_take(struct tls_tickets *tickets, const struct tls_ticket_keys *keys)
{
    struct ticket_ciphers *ciphers = tickets->ciphers;
    bool is_new = !ciphers->current.is_set || !(keys->flags & TLS_TICKET_HAS_CURRENT) ||
                  memcmp(ciphers->current.name, keys->current.name, TLS_TICKET_NAME_BYTES) != 0;
    cipher_clear(&ciphers->current);
    cipher_clear(&ciphers->previous);
    if (is_new)
        tickets->seals = 0;
    int r = 0;
    if (keys->flags & TLS_TICKET_HAS_CURRENT)
        r = cipher_set(&ciphers->current, &keys->current);
    if (r == 0 && (keys->flags & TLS_TICKET_HAS_PREVIOUS))
        r = cipher_set(&ciphers->previous, &keys->previous);
    return r;
}

const struct tls_ticket_numbers *tls_tickets_numbers(const struct tls_tickets *tickets)
{
    return &tickets->numbers;
}

/* ---- what BoringSSL calls ---- */

static int context_index = -1;

static void context_index_make(void)
{
    context_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

static struct tls_tickets *tickets_of(const SSL *ssl)
{
    struct tls_tickets *tickets = SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), context_index);
    CHECK(tickets != NULL); /* it changed to a context that was not attached */
    return tickets;
}

static size_t ticket_overhead(SSL *ssl)
{
    (void)ssl;
    return OVERHEAD_BYTES;
}

static int seal_nothing(uint8_t *out, size_t *out_size)
{
    *out_size = OVERHEAD_BYTES;
    return RAND_bytes(out, OVERHEAD_BYTES);
}

static int ticket_seal(SSL *ssl, uint8_t *out, size_t *out_size, size_t out_size_max,
                       const uint8_t *session, size_t session_size)
{
    struct tls_tickets *tickets = tickets_of(ssl);
    const struct ticket_cipher *cipher = &tickets->ciphers->current;
    CHECK(out_size_max >= OVERHEAD_BYTES);
    const STACK_OF(CRYPTO_BUFFER) *chain = SSL_get0_peer_certificates(ssl);
    if (chain != NULL && sk_CRYPTO_BUFFER_num(chain) > 0) {
        metric_add(&tickets->numbers.withheld, 1);
        return seal_nothing(out, out_size);
    }
    if (!cipher->is_set || tickets->seals >= TLS_TICKET_SEALS_MAX) {
        metric_add(&tickets->numbers.exhausted, 1);
        return seal_nothing(out, out_size);
    }
    uint8_t *nonce = out + TLS_TICKET_NAME_BYTES;
    memcpy(out, cipher->name, TLS_TICKET_NAME_BYTES);
    CHECK(RAND_bytes(nonce, NONCE_BYTES) == 1);
    size_t sealed_size;
    if (EVP_AEAD_CTX_seal(&cipher->aead, out + HEAD_BYTES, &sealed_size, out_size_max - HEAD_BYTES,
                          nonce, NONCE_BYTES, session, session_size, out,
                          TLS_TICKET_NAME_BYTES) != 1)
        return 0;
    tickets->seals++;
    metric_add(&tickets->numbers.sealed, 1);
    *out_size = HEAD_BYTES + sealed_size;
    return 1;
}

static const struct ticket_cipher *cipher_of(const struct tls_tickets *tickets, const uint8_t *name)
{
    const struct ticket_cipher *ciphers[] = { &tickets->ciphers->current,
                                              &tickets->ciphers->previous };
    for (unsigned i = 0; i < ARRAY_COUNT(ciphers); i++)
        if (ciphers[i]->is_set && memcmp(ciphers[i]->name, name, TLS_TICKET_NAME_BYTES) == 0)
            return ciphers[i];
    return NULL;
}

/* What cannot be opened is no error: the client made a full handshake of it anyway. */
static enum ssl_ticket_aead_result_t ticket_open(SSL *ssl, uint8_t *out, size_t *out_size,
                                                 size_t out_size_max, const uint8_t *ticket,
                                                 size_t ticket_size)
{
    struct tls_tickets *tickets = tickets_of(ssl);
    struct tls_ticket_numbers *numbers = &tickets->numbers;
    if (ticket_size < OVERHEAD_BYTES) {
        metric_add(&numbers->damaged, 1);
        return ssl_ticket_aead_ignore_ticket;
    }
    const struct ticket_cipher *cipher = cipher_of(tickets, ticket);
    if (cipher == NULL) {
        metric_add(&numbers->unknown_key, 1);
        return ssl_ticket_aead_ignore_ticket;
    }
    if (EVP_AEAD_CTX_open(&cipher->aead, out, out_size, out_size_max,
                          ticket + TLS_TICKET_NAME_BYTES, NONCE_BYTES, ticket + HEAD_BYTES,
                          ticket_size - HEAD_BYTES, ticket, TLS_TICKET_NAME_BYTES) != 1) {
        ERR_clear_error();
        metric_add(&numbers->damaged, 1);
        return ssl_ticket_aead_ignore_ticket;
    }
    bool is_current = cipher == &tickets->ciphers->current;
    metric_add(is_current ? &numbers->opened_current : &numbers->opened_previous, 1);
    return ssl_ticket_aead_success;
}

static const SSL_TICKET_AEAD_METHOD ticket_method = {
    .max_overhead = ticket_overhead,
    .seal = ticket_seal,
    .open = ticket_open,
};

int tls_tickets_attach(struct tls_tickets *tickets, SSL_CTX *context)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    CHECK(pthread_once(&once, context_index_make) == 0);
    if (context_index < 0 || SSL_CTX_set_ex_data(context, context_index, tickets) != 1) {
        ERR_clear_error();
        return -ENOMEM;
    }
    SSL_CTX_set_ticket_aead_method(context, &ticket_method);
    CHECK(SSL_CTX_set_num_tickets(context, TICKETS_A_HANDSHAKE) == 1);
    return 0;
}

/* ---- numbers ---- */

#define TICKET_COUNTER(field, name, label, words)                                                  \
    {                                                                                              \
        "ringpost_tls_ticket_" name, label, words, METRIC_COUNTER, 0,                              \
            offsetof(struct tls_ticket_numbers, field)                                             \
    }

/* clang-format off */
const struct metric tls_ticket_metrics_table[] = {
    TICKET_COUNTER(sealed, "sealed_total", NULL, "Session tickets given to clients"),
    TICKET_COUNTER(opened_current, "opened_total", "key=\"current\"", "Session tickets that clients came back with"),
    TICKET_COUNTER(opened_previous, "opened_total", "key=\"previous\"", "Session tickets that clients came back with"),
    TICKET_COUNTER(unknown_key, "refused_total", "reason=\"unknown_key\"", "Session tickets that could not be opened"),
    TICKET_COUNTER(damaged, "refused_total", "reason=\"damaged\"", "Session tickets that could not be opened"),
    TICKET_COUNTER(exhausted, "withheld_total", "reason=\"no_key\"", "Handshakes that got no session ticket"),
    TICKET_COUNTER(withheld, "withheld_total", "reason=\"client_certificate\"", "Handshakes that got no session ticket"),
    { "ringpost_tls_ticket_locked", NULL, "1 when the ticket keys are locked into memory", METRIC_GAUGE, 0,
      offsetof(struct tls_ticket_numbers, locked) },
};
/* clang-format on */
const unsigned tls_ticket_metrics_count = ARRAY_COUNT(tls_ticket_metrics_table);
