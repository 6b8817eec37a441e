/*
 * tls_hosts.h - how TLS went with a host last time, so that the next handshake begins there
 *
 * Per shard, in memory only. It makes things faster and never decides whether mail goes in the
 * clear: what a host has been capable of, and what to do when that is less now, is kept elsewhere
 * and durably. A host that was forgotten is asked as if it were new.
 */
#ifndef RINGPOST_TLS_HOSTS_H
#define RINGPOST_TLS_HOSTS_H

#include "core/metrics.h"
#include "tls/tls_lru.h"

enum { TLS_HOSTS_STEPS_MAX = 16 };

struct tls_host {
    uint16_t group;         /* the one negotiated last, to be offered first; 0: not known */
    uint16_t version_best;  /* TLS1_2_VERSION, ... as BoringSSL numbers them; 0: none yet */
    uint8_t step;           /* of the ladder; 0 is the strongest */
    bool refuses_less;      /* it takes TLS 1.3, and said so to a lower step */
    uint64_t step_until_ms; /* then the ladder begins at 0 again, and refuses_less is forgotten */
    uint64_t seen_ms;       /* when put last; filled in by put */
};

struct tls_hosts_numbers {
    uint64_t hits, misses, expired, evicted, hosts;
};
extern const struct metric tls_hosts_metrics_table[];
extern const unsigned tls_hosts_metrics_count;

struct tls_hosts {
    struct tls_lru lru;
    uint64_t lifetime_ms;
    struct tls_hosts_numbers numbers;
};

/* For count hosts; what was not put anew for lifetime_ms is not believed. 0, -EINVAL or -ENOMEM. */
[[nodiscard]] int tls_hosts_init(struct tls_hosts *hosts, uint32_t count, uint64_t lifetime_ms);
void tls_hosts_free(struct tls_hosts *hosts);

/* False: not known, and *host is all 0, which is how to begin. */
bool tls_hosts_get(struct tls_hosts *hosts, const struct tls_lru_key *key, uint64_t now_ms,
                   struct tls_host *host);
/* In place of what was there: get it, change it, put it. version_best never goes down by itself. */
void tls_hosts_put(struct tls_hosts *hosts, const struct tls_lru_key *key, uint64_t now_ms,
                   const struct tls_host *host);
void tls_hosts_forget(struct tls_hosts *hosts, const struct tls_lru_key *key);

#endif
