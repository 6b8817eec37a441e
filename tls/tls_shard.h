/*
 * tls_shard.h - what all TLS sessions of a shard share: clock, keys, caches, numbers
 *
 * Owned by the shard's thread, and filled in by whoever puts the shard together. Each part may be
 * NULL: then there is no such thing (no pool: key shares are made on the spot; no tickets: nobody
 * resumes by one).
 */
#ifndef RINGPOST_TLS_SHARD_H
#define RINGPOST_TLS_SHARD_H

#include "core/metrics.h"
#include "tls/tls_client_cache.h"
#include "tls/tls_crl_watch.h"
#include "tls/tls_hosts.h"
#include "tls/tls_id_cache.h"
#include "tls/tls_keyshare.h"
#include "tls/tls_ticket.h"

enum tls_group_label {
    TLS_LABEL_MLKEM,
    TLS_LABEL_X25519,
    TLS_LABEL_P256,
    TLS_LABEL_P384,
    TLS_LABEL_OTHER, /* or none: resumed by TLS 1.2 */
    TLS_LABELS
};

/* One side: sessions that clients began, or that we began. */
struct tls_side_numbers {
    uint64_t full, resumed, failed; /* handshakes */
    uint64_t tls13, tls12, older;   /* of those that succeeded */
    uint64_t groups[TLS_LABELS];
    uint64_t certificates_valid, certificates_other; /* that the peer presented */
};

struct tls_numbers {
    struct tls_side_numbers server;
    struct tls_side_numbers client;
};
extern const struct metric tls_metrics_table[];
extern const unsigned tls_metrics_count;

typedef struct crypto_buffer_pool_st CRYPTO_BUFFER_POOL; /* BoringSSL's */

struct tls_shard {
    CRYPTO_BUFFER_POOL *certificates; /* of peers: equal ones are one. Outlives kept sessions */
    const int64_t *wall_us;           /* the shard's clock */
    struct tls_keyshares *keyshares;
    struct tls_tickets *tickets;
    struct tls_id_cache_user ids; /* its cache, of all shards, may be NULL */
    struct tls_client_cache *sessions;
    struct tls_hosts *hosts; /* what worked last time; never NULL where we connect */
    struct tls_crl_watch crls;
    struct tls_numbers numbers;
};

/* Makes what is the shard's own; the rest is filled in. 0 or -ENOMEM. */
[[nodiscard]] int tls_shard_init(struct tls_shard *shard, const int64_t *wall_us);
/* After all that was filled in is gone. */
void tls_shard_free(struct tls_shard *shard);

#endif
