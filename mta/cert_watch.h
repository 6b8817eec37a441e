/*
 * cert_watch.h - a shard tells control which certificates partners show
 *
 *   connection ready, message accepted --not told within the hour--> HANDOFF_CERTIFICATE -->
 * control
 *
 * What was told is remembered by a hash in a fixed place, which another one may take: then it is
 * told again. At most one in TELL_MS, so that control has time for other things whatever comes.
 * Nothing waits for it, and nothing is lost that the next message would not bring.
 */
#ifndef RINGPOST_MTA_CERT_WATCH_H
#define RINGPOST_MTA_CERT_WATCH_H

#include "core/shard.h"
#include "mta/cert_seen.h"

enum { CERT_TOLD_MAX = 4'096 };

/* To control, which frees it. */
struct cert_shown {
    struct cert_place place;
    struct cert_seen seen;
};

/* One per shard; all zero: nobody is told. */
struct cert_shard {
    struct shard *shard;
    unsigned control; /* index of its shard */
    uint64_t next_ms; /* not before */
    struct {
        uint64_t hash;
        uint64_t until_ms;
    } told[CERT_TOLD_MAX];
};

/* where: as in mta/cert_seen.h. certs may be NULL. */
void cert_watch_tell(struct cert_shard *certs, enum connector_direction direction,
                     const char *connector, struct slice where, const struct tls_peer *peer);

#endif
