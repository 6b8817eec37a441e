/*
 * tls_ticket_inside.h - a shard's ticket keys as they lie in memory: for tls_ticket.c and its test
 */
#ifndef RINGPOST_TLS_TICKET_INSIDE_H
#define RINGPOST_TLS_TICKET_INSIDE_H

#include "tls/tls_boringssl.h"
#include "tls/tls_secret.h"
#include "tls/tls_ticket.h"

/* A random nonce each: 2^32 of 96 bits meet with probability 2^-33 (NIST SP 800-38D section 8.3).
 * Each shard of each node counts for itself; keys that are rotated daily never come near. */
static const uint64_t TLS_TICKET_SEALS_MAX = 1ULL << 32;

struct ticket_cipher {
    uint8_t name[TLS_TICKET_NAME_BYTES];
    bool is_set;
    EVP_AEAD_CTX aead; /* the key is in here */
};

/* In the secret mapping. A child of fork finds zeroes: no keys. */
struct ticket_ciphers {
    struct ticket_cipher current;
    struct ticket_cipher previous;
};

struct tls_tickets {
    struct tls_secret secret;
    struct ticket_ciphers *ciphers;
    uint64_t seals; /* under the current key */
    struct tls_ticket_numbers numbers;
};

#endif
