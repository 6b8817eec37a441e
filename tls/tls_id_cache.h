/*
 * tls_id_cache.h - sessions by id, for TLS 1.2 clients that know no tickets; one for all shards
 *
 * The kernel spreads connections over the shards, and a client that comes back comes to another
 * one. So this one thing is shared, in a way in which nobody ever waits for anybody: who finds an
 * entry being written goes on without, the client makes a full handshake.
 */
#ifndef RINGPOST_TLS_ID_CACHE_H
#define RINGPOST_TLS_ID_CACHE_H

#include "core/compiler.h"
#include "core/metrics.h"

typedef struct ssl_ctx_st SSL_CTX; /* BoringSSL's: for callers that do not know it */

enum {
    TLS_ID_CACHE_SESSION_BYTES_MAX = 1024, /* serialized; some 200 without certificates */
    TLS_ID_CACHE_WAYS = 4,
    TLS_ID_CACHE_SLOTS_MAX = 1 << 17, /* some 1.1 kB each */
};

struct tls_id_cache;

struct tls_id_cache_numbers {
    uint64_t stored, hits, misses, expired, evicted, busy, too_big;
    uint64_t withheld; /* a client certificate was presented: its verdict is not for a cache */
};
extern const struct metric tls_id_cache_metrics_table[];
extern const unsigned tls_id_cache_metrics_count;

/* A shard's end of it: lives as long as the contexts that it is attached to. */
struct tls_id_cache_user {
    struct tls_id_cache *cache;
    const uint64_t *now_ms; /* the shard's clock: monotonic, one for all shards */
    struct tls_id_cache_numbers numbers;
};

/* slots is rounded up to a power of two, TLS_ID_CACHE_WAYS at least. 0, -EINVAL, -ENOMEM, or what
 * the mapping failed with. */
[[nodiscard]] int tls_id_cache_make(uint32_t slots, uint32_t lifetime_s,
                                    struct tls_id_cache **cache);
/* When no shard uses it any more. Wipes. NULL is fine. */
void tls_id_cache_free(struct tls_id_cache *cache);
/* From any thread, at once: what is in there is never found again. For a new configuration; what is
 * still put there by connections of the old one is told apart by the session id context. */
void tls_id_cache_forget(struct tls_id_cache *cache);
bool tls_id_cache_is_locked(const struct tls_id_cache *cache); /* into memory */

/* Sets this context's session cache to this one and no other. The session id context is the
 * caller's to set. 0, or -ENOMEM. */
[[nodiscard]] int tls_id_cache_attach(struct tls_id_cache_user *user, SSL_CTX *context);

#endif
