/*
 * tls_crl_watch.c - the lists that a shard has, and who is told of those that it misses
 *
 * The chain is verified once more for it: where its lists are, and who signs them, is needed so
 * seldom that no session carries it along.
 */
#include "tls/tls_crl_watch.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "tls/tls_session_inside.h"
#include "tls/tls_shard.h"
#include "tls/tls_verify.h"

void tls_crl_watch_take(struct tls_crl_watch *watch, struct tls_crls *set)
{
    tls_crls_drop(watch->set);
    watch->set = set;
}

/* Its place, or where it would go. */
static unsigned place_of(const uint8_t id[static TLS_DIGEST_BYTES])
{
    static_assert(TLS_CRL_TOLD == 256);
    return id[0];
}

static bool was_told(const struct tls_crl_watch *watch, const uint8_t id[static TLS_DIGEST_BYTES],
                     int64_t now)
{
    unsigned place = place_of(id);
    return memcmp(watch->told[place].id, id, TLS_DIGEST_BYTES) == 0 &&
           now - watch->told[place].at < TLS_CRL_TELL_S;
}

static bool all_were_told(const struct tls_crl_watch *watch,
                          const struct tls_crl_questions *questions, int64_t now)
{
    for (unsigned i = 0; i < questions->count; i++)
        for (unsigned k = 0; k < questions->at[i].count; k++)
            if (!was_told(watch, questions->at[i].ids[k], now))
                return false;
    return true;
}

static void on_found(void *owner, struct tls_crl_pointer *pointer)
{
    struct tls_crl_watch *watch = owner;
    snprintf(pointer->connector, sizeof(pointer->connector), "%s", watch->connector);
    metric_add(&watch->numbers.told, 1);
    watch->tell(watch->owner, pointer);
}

static int64_t now_of(const struct tls_session *session)
{
    return *session->shard->wall_us / US_IN_S;
}

enum tls_crl_status tls_crl_watch_status(const struct tls_session *session,
                                         const struct tls_peer *peer, char why[static TLS_WHY_MAX])
{
    return tls_crls_status(session->shard->crls.set, &peer->questions, now_of(session), why);
}

void tls_crl_watch_count(const struct tls_session *session, enum tls_crl_status status)
{
    struct tls_crl_numbers *numbers = &session->shard->crls.numbers;
    bool is_server = tls_session_is_server(session);
    metric_add(is_server ? &numbers->server[status] : &numbers->client[status], 1);
}

void tls_crl_watch_want(const struct tls_session *session, const struct tls_peer *peer,
                        const struct tls_roots *roots, const char *connector)
{
    struct tls_crl_watch *watch = &session->shard->crls;
    const struct tls_crl_questions *questions = &peer->questions;
    int64_t now = now_of(session);
    if (watch->tell == NULL || all_were_told(watch, questions, now))
        return;
    watch->connector = connector;
    if (tls_verify_pointers(SSL_get0_peer_certificates(session->ssl), roots, now, on_found, watch) <
        0)
        return; /* no memory: another session will tell */
    for (unsigned i = 0; i < questions->count; i++) {
        for (unsigned k = 0; k < questions->at[i].count; k++) {
            const uint8_t *id = questions->at[i].ids[k];
            memcpy(watch->told[place_of(id)].id, id, TLS_DIGEST_BYTES);
            watch->told[place_of(id)].at = now;
        }
    }
}

#define LOOKED_UP(side, status, label)                                                             \
    {                                                                                              \
        "ringpost_tls_revocation_total", "side=\"" #side "\",status=\"" label "\"",                \
            "Valid certificates whose revocation was looked up", METRIC_COUNTER, 0,                \
            offsetof(struct tls_crl_numbers, side[status])                                         \
    }

const struct metric tls_crl_metrics_table[] = {
    LOOKED_UP(server, TLS_CRL_GOOD, "good"),
    LOOKED_UP(server, TLS_CRL_UNKNOWN, "unknown"),
    LOOKED_UP(server, TLS_CRL_REVOKED, "revoked"),
    LOOKED_UP(client, TLS_CRL_GOOD, "good"),
    LOOKED_UP(client, TLS_CRL_UNKNOWN, "unknown"),
    LOOKED_UP(client, TLS_CRL_REVOKED, "revoked"),
    { "ringpost_tls_crl_wanted_total", NULL, "Lists that this shard missed and told of",
      METRIC_COUNTER, 0, offsetof(struct tls_crl_numbers, told) },
};
const unsigned tls_crl_metrics_count = ARRAY_COUNT(tls_crl_metrics_table);
