/*
 * tls_shard.c - what the TLS sessions of a shard share, and their numbers
 */
#include "tls/tls_shard.h"

#include <errno.h>

#include "tls/tls_boringssl.h"

int tls_shard_init(struct tls_shard *shard, const int64_t *wall_us)
{
    *shard = (struct tls_shard) { .wall_us = wall_us };
    shard->certificates = CRYPTO_BUFFER_POOL_new();
    return shard->certificates == NULL ? -ENOMEM : 0;
}

void tls_shard_free(struct tls_shard *shard)
{
    tls_crl_watch_take(&shard->crls, NULL);
    CRYPTO_BUFFER_POOL_free(shard->certificates);
    *shard = (struct tls_shard) { .wall_us = NULL };
}

#define COUNT(side, field, name, labels, words)                                                    \
    {                                                                                              \
        "ringpost_tls_" name, "side=\"" #side "\"," labels, words, METRIC_COUNTER, 0,              \
            offsetof(struct tls_numbers, side.field)                                               \
    }
#define HANDSHAKES(side, field)                                                                    \
    COUNT(side, field, "handshakes_total", "result=\"" #field "\"", "TLS handshakes by result")
#define VERSION(side, field, label)                                                                \
    COUNT(side, field, "sessions_total", "version=\"" label "\"", "TLS sessions by version")
#define GROUP(side, label, name)                                                                   \
    COUNT(side, groups[label], "groups_total", "group=\"" name "\"",                               \
          "TLS sessions by the group of their key exchange")
#define CERTIFICATES(side, field, label)                                                           \
    COUNT(side, field, "certificates_total", "verdict=\"" label "\"",                              \
          "Certificates presented by peers")

/* clang-format off */
const struct metric tls_metrics_table[] = {
    HANDSHAKES(server, full), HANDSHAKES(server, resumed), HANDSHAKES(server, failed),
    HANDSHAKES(client, full), HANDSHAKES(client, resumed), HANDSHAKES(client, failed),
    VERSION(server, tls13, "1.3"), VERSION(server, tls12, "1.2"), VERSION(server, older, "older"),
    VERSION(client, tls13, "1.3"), VERSION(client, tls12, "1.2"), VERSION(client, older, "older"),
    GROUP(server, TLS_LABEL_MLKEM, "X25519MLKEM768"), GROUP(server, TLS_LABEL_X25519, "X25519"),
    GROUP(server, TLS_LABEL_P256, "P-256"), GROUP(server, TLS_LABEL_P384, "P-384"),
    GROUP(server, TLS_LABEL_OTHER, "other"),
    GROUP(client, TLS_LABEL_MLKEM, "X25519MLKEM768"), GROUP(client, TLS_LABEL_X25519, "X25519"),
    GROUP(client, TLS_LABEL_P256, "P-256"), GROUP(client, TLS_LABEL_P384, "P-384"),
    GROUP(client, TLS_LABEL_OTHER, "other"),
    CERTIFICATES(server, certificates_valid, "valid"), CERTIFICATES(server, certificates_other, "other"),
    CERTIFICATES(client, certificates_valid, "valid"), CERTIFICATES(client, certificates_other, "other"),
};
/* clang-format on */
const unsigned tls_metrics_count = ARRAY_COUNT(tls_metrics_table);
