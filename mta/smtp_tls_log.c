/*
 * smtp_tls_log.c - version, suite, group, how it came about, and what the peer presented
 */
#include "mta/smtp_tls_log.h"

#include "tls/tls_verify.h"

static void log_peer(const struct tls_peer *peer, struct log_line *line)
{
    char digest[TLS_DIGEST_HEX_BYTES];
    tls_text_hex(slice_of(peer->leaf.digest, TLS_DIGEST_BYTES), digest, sizeof(digest));
    log_string(line, "cert", digest);
    tls_text_hex(slice_of(peer->leaf.spki, TLS_DIGEST_BYTES), digest, sizeof(digest));
    log_string(line, "spki", digest);
    log_string(line, "cert_issuer", peer->leaf.issuer);
    log_string(line, "cert_verdict", tls_verdict_name(peer->verdict));
    if (peer->reason[0] != '\0')
        log_string(line, "cert_why", peer->reason);
}

void smtp_tls_log(const struct tls_facts *facts, struct log_line *line)
{
    log_string(line, "tls", facts->version);
    log_string(line, "suite", facts->suite);
    log_string(line, "group", facts->group);
    log_bool(line, "resumed", facts->is_resumed);
    log_bool(line, "pooled", facts->is_pooled);
    if (*facts->server_name != '\0')
        log_text(line, "sni", slice_of_string(facts->server_name));
    if (facts->peer != NULL)
        log_peer(facts->peer, line);
}
