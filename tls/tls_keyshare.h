/*
 * tls_keyshare.h - key pairs for the handshakes to come, made while the shard has nothing to do
 *
 * BoringSSL asks X25519_keypair() for each key share; ours takes its place and answers from the
 * pool of the calling thread. An empty pool, or a thread that has none, gets an ordinary key pair:
 * nobody ever waits. Each pair is used once. ML-KEM-768, for handshakes that we begin, the same way
 * where the library has it.
 */
#ifndef RINGPOST_TLS_KEYSHARE_H
#define RINGPOST_TLS_KEYSHARE_H

#include "core/compiler.h"
#include "core/metrics.h"

enum {
    TLS_KEYSHARES_MAX = 1 << 16,       /* 72 bytes each */
    TLS_KEYSHARES_MLKEM_MAX = 1 << 12, /* some 10 kB each */
};

struct tls_keyshares; /* a shard's; made after the last fork, by the process that uses it */

struct tls_keyshare_numbers {
    uint64_t hits, misses, made, expired, level;
    uint64_t mlkem_hits, mlkem_misses, mlkem_made, mlkem_expired, mlkem_level;
    uint64_t locked; /* 1: all of it stays out of swap */
};
extern const struct metric tls_keyshare_metrics_table[];
extern const unsigned tls_keyshare_metrics_count;

/* 0, -EINVAL (no slots, or too many), -ENOMEM, or what the mapping failed with. */
[[nodiscard]] int tls_keyshares_make(uint32_t slots, uint32_t age_max_ms,
                                     struct tls_keyshares **pool);
/* Also keeps this many ML-KEM-768 pairs. Once, before the first fill. 0; -ENOTSUP: this library has
 * none, or cannot be asked; -EINVAL, -ENOMEM as above. */
[[nodiscard]] int tls_keyshares_add_mlkem(struct tls_keyshares *pool, uint32_t slots);
/* Wipes. A thread that uses it stops doing so first, but for the calling one. NULL is fine. */
void tls_keyshares_free(struct tls_keyshares *pool);

/* The calling thread draws from this one from now on; NULL: from none. */
void tls_keyshares_use(struct tls_keyshares *pool);

/* Wipes what is too old, then makes at most count pairs. Begins when a quarter has been used, goes
 * on until full. True: there is more to do. A pair takes 10 to 25 us. */
bool tls_keyshares_fill(struct tls_keyshares *pool, unsigned count, uint64_t now_ms);
/* Only wipes what is too old. A handshake has no clock: without this or the above, pairs stay. */
void tls_keyshares_age(struct tls_keyshares *pool, uint64_t now_ms);

const struct tls_keyshare_numbers *tls_keyshares_numbers(const struct tls_keyshares *pool);

/* Begins a TLS 1.3 handshake with nobody and looks whether its key share came from the pool. 1; 0:
 * it did not, this program was linked in a way that loses us; or -ENOMEM. Takes one pair. */
[[nodiscard]] int tls_keyshares_self_test(struct tls_keyshares *pool);

#endif
