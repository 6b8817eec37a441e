/*
 * cert_watch.c - once an hour for each connector, place and certificate
 */
#define XXH_INLINE_ALL
#include "mta/cert_watch.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "mta/server.h"

enum { US_IN_S = 1'000'000, TELL_MS = 10, AGAIN_MS = 3'600'000 };

void cert_watch_tell(struct cert_shard *certs, enum connector_direction direction,
                     const char *connector, struct slice where, const struct tls_peer *peer)
{
    if (certs == NULL || certs->shard == NULL || !peer->has_key)
        return;
    const uint64_t now_ms = certs->shard->now_ms;
    uint64_t hash = XXH3_64bits_withSeed(connector, strlen(connector), direction);
    hash = XXH3_64bits_withSeed(where.data, where.size, hash);
    hash = XXH3_64bits_withSeed(peer->leaf.digest, TLS_DIGEST_BYTES, hash);
    const size_t at = hash % CERT_TOLD_MAX;
    if (now_ms < certs->next_ms ||
        (certs->told[at].hash == hash && now_ms < certs->told[at].until_ms))
        return;
    struct cert_shown *shown = malloc(sizeof(*shown));
    if (shown == NULL)
        return;
    shown->place =
        (struct cert_place) { .side = direction == CONNECTOR_IN ? CERT_OF_IN : CERT_OF_OUT };
    snprintf(shown->place.title, sizeof(shown->place.title), "%s", connector);
    slice_to_string(where, shown->place.where, sizeof(shown->place.where));
    cert_seen_of(&peer->leaf, peer->verdict == TLS_VERDICT_VALID, peer->root,
                 certs->shard->wall_us / US_IN_S, &shown->seen);
    const struct handoff handoff = { .kind = HANDOFF_CERTIFICATE, .pointer = shown };
    if (shard_handoff(certs->shard, certs->control, handoff) < 0) {
        free(shown);
        return;
    }
    certs->next_ms = now_ms + TELL_MS;
    certs->told[at].hash = hash;
    certs->told[at].until_ms = now_ms + AGAIN_MS;
}
