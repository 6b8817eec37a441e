/*
 * smtp_service.c - what the inbound sessions of a shard share: pools, numbers, the drain
 */
#include "core/check.h"
#include "mta/smtp_session.h"
#include "mta/smtp_incoming.h"

#define COUNTER(field, name, label, words)                                                         \
    {                                                                                              \
        "ringpost_smtp_" name, label, words, METRIC_COUNTER, 0,                                    \
            offsetof(struct smtp_server_metrics, field)                                            \
    }
#define REFUSED(field, label)                                                                      \
    COUNTER(field, "refused_total", "reason=\"" label "\"",                                        \
            "Commands, messages and connections refused, by reason")

/* clang-format off */
const struct metric smtp_server_metrics_table[] = {
    COUNTER(connections, "connections_total", NULL, "Connections admitted"),
    { "ringpost_smtp_connections", NULL, "Connections open now", METRIC_GAUGE, 0,
      offsetof(struct smtp_server_metrics, connections_open) },
    COUNTER(messages, "messages_total", NULL, "Messages accepted: on stable storage and answered 250"),
    COUNTER(bytes, "bytes_total", NULL, "Bytes of accepted messages, trace field included"),
    COUNTER(recipients, "recipients_total", NULL, "Recipients of accepted messages"),
    COUNTER(copies, "copies_total", NULL, "Copies of accepted messages that rules have made"),
    COUNTER(commands, "commands_total", NULL, "Commands read"),
    COUNTER(bad_commands, "bad_commands_total", NULL, "Commands unknown, malformed or out of order"),
    REFUSED(refused_shard, "connections"),
    REFUSED(refused_address, "connections_address"),
    REFUSED(refused_network, "connections_network"),
    REFUSED(refused_rate, "connection_rate"),
    REFUSED(refused_drain, "shutdown"),
    REFUSED(refused_memory, "memory"),
    REFUSED(refused_short, "memory_max"),
    REFUSED(refused_relay, "relay"),
    REFUSED(refused_size, "size"),
    REFUSED(refused_newline, "bare_newline"),
    REFUSED(refused_nul, "nul"),
    REFUSED(refused_loop, "loop"),
    REFUSED(refused_fleet_loop, "fleet_loop"),
    REFUSED(refused_space, "space"),
    REFUSED(refused_failed, "write_failed"),
    REFUSED(refused_syntax, "syntax"),
    REFUSED(refused_line, "line_length"),
    REFUSED(refused_8bit, "header_8bit"),
    REFUSED(refused_recipients, "recipients"),
    REFUSED(early_talk, "early_talk"),
    REFUSED(early_content, "early_content"),
    REFUSED(http, "http"),
    REFUSED(tls_injected, "input_behind_starttls"),
    REFUSED(tls_failed, "tls_handshake"),
    REFUSED(tls_busy, "tls_handshakes"),
    REFUSED(tls_displaced, "tls_handshake_displaced"),
    REFUSED(tls_demanded, "tls_required"),
    REFUSED(timeouts, "timeout"),
    REFUSED(slow, "slow_transaction"),
    REFUSED(hogs, "buffers_held"),
    REFUSED(proxy_bad, "proxy_header"),
    COUNTER(header_lacking, "header_lacking_total", NULL,
            "Messages without the header field that their connector asks for (require-header)"),
    COUNTER(fields_removed, "header_fields_removed_total", NULL,
            "Header fields that only we may set, taken out of accepted messages"),
    COUNTER(requiretls, "requiretls_total", NULL, "Messages accepted with REQUIRETLS"),
    COUNTER(tls_optional, "tls_optional_total", NULL, "Messages accepted with TLS-Required: No"),
    { "ringpost_connector_own_senders_total", NULL,
      "Recipients of mail that uses one of our domains in MAIL FROM without proof", METRIC_COUNTER,
      0, offsetof(struct smtp_server_metrics, own_senders) },
    { "ringpost_connector_revocation_unknown_total", NULL,
      "Messages attributed by a certificate of which nobody knows whether it is revoked (cert-revocation = soft)",
      METRIC_COUNTER, 0, offsetof(struct smtp_server_metrics, status_unknown) },
    { "ringpost_connector_candidates_dropped_total", NULL,
      "Sessions that more own connectors might identify than are looked at", METRIC_COUNTER, 0,
      offsetof(struct smtp_server_metrics, candidates_dropped) },
    COUNTER(cut, "cut_total", NULL, "Connections that the client cut"),
    COUNTER(aborted, "aborted_total", NULL, "Transactions given up before their end"),
    { "ringpost_smtp_accept_seconds", NULL, "From the end of data to the 250", METRIC_HISTOGRAM, 1e-6,
      offsetof(struct smtp_server_metrics, accept_us) },
};
/* clang-format on */
const unsigned smtp_server_metrics_count = ARRAY_COUNT(smtp_server_metrics_table);

uint64_t smtp_service_bytes(uint32_t sessions)
{
    return pool_bytes(sizeof(struct smtp_server), sessions) +
           pool_bytes(sizeof(struct smtp_incoming), sessions) +
           pool_bytes(sizeof(struct smtp_large), pool_share(sessions, SMTP_LARGE_TRANSACTIONS));
}

int smtp_service_init(struct smtp_service *service, uint32_t sessions)
{
    list_init(&service->open);
    list_init(&service->shaking);
    int r = pool_init(&service->sessions, "sessions", sizeof(struct smtp_server), sessions);
    if (r == 0)
        r = pool_init(&service->transactions, "transactions", sizeof(struct smtp_incoming),
                      sessions);
    if (r == 0)
        r = pool_init(&service->large, "large transactions", sizeof(struct smtp_large),
                      pool_share(sessions, SMTP_LARGE_TRANSACTIONS));
    if (r < 0)
        smtp_service_free(service);
    return r;
}

void smtp_service_free(struct smtp_service *service)
{
    pool_free(&service->sessions);
    pool_free(&service->transactions);
    pool_free(&service->large);
}

void smtp_service_drain(struct smtp_service *service)
{
    service->draining = true;
    list_each (node, &service->open) {
        struct smtp_server *s = container_of(node, struct smtp_server, node);
        s->drain = true;
        if (!s->connection.closing)
            shard_run_later(service->shard, &s->runnable);
    }
}
