/*
 * tls_client_cache.h - sessions that servers gave us, to resume the next delivery with
 *
 * Per shard. The key says who a session is good for: host address and port, SNI, and a digest of
 * what was verified and how. A resumption verifies nothing anew, so a session that was made under
 * one policy must not be found under another.
 */
#ifndef RINGPOST_TLS_CLIENT_CACHE_H
#define RINGPOST_TLS_CLIENT_CACHE_H

#include "core/metrics.h"
#include "tls/tls_lru.h"

typedef struct ssl_session_st SSL_SESSION; /* BoringSSL's: for callers that do not know it */

enum { TLS_CLIENT_CACHE_TICKETS = 2 }; /* of TLS 1.3, for one key */

struct tls_client_cache_numbers {
    uint64_t stored, hits, misses, expired, evicted, keys;
};
extern const struct metric tls_client_cache_metrics_table[];
extern const unsigned tls_client_cache_metrics_count;

struct tls_client_cache {
    struct tls_lru lru;
    struct tls_client_cache_numbers numbers;
};

/* For count keys. 0, -EINVAL or -ENOMEM. */
[[nodiscard]] int tls_client_cache_init(struct tls_client_cache *cache, uint32_t count);
void tls_client_cache_free(struct tls_client_cache *cache);

/* Takes the reference over. The newest two of TLS 1.3 are kept, or the newest one of TLS 1.2. */
void tls_client_cache_put(struct tls_client_cache *cache, const struct tls_lru_key *key,
                          SSL_SESSION *session);
/* The newest one that is not older than it may be, now_s since the epoch; a reference of the
 * caller's, or NULL. One of TLS 1.3 is gone from here: who sees the same ticket twice, knows that
 * it is the same client (RFC 8446 appendix C.4). */
SSL_SESSION *tls_client_cache_take(struct tls_client_cache *cache, const struct tls_lru_key *key,
                                   uint64_t now_s);
/* The peer did not like it, or its certificate changed. */
void tls_client_cache_forget(struct tls_client_cache *cache, const struct tls_lru_key *key);
/* All of them: for a new configuration. */
void tls_client_cache_clear(struct tls_client_cache *cache);

#endif
