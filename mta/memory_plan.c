/*
 * memory_plan.c - adding up what the pools of a shard are made with in server.c
 */
#include "mta/memory_plan.h"

#include <stdio.h>

#include "core/pool.h"
#include "mta/config_build.h"
#include "mta/next_hop.h"
#include "mta/server.h"

enum {
    PROCESS_BYTES = 64 << 20, /* code, control, configuration, DNS */
    SHARD_BYTES = 32 << 20,   /* rings, limits, keys and caches of TLS */
    TLS_SESSION_BYTES = 8'192,
    TLS_HANDSHAKE_BYTES = 65'536,
    MESSAGE_RECIPIENTS = 2, /* on average, where memory is not short */
};

static void plan_queue(struct memory_plan *plan, const struct queue_options *o, unsigned shards)
{
    plan->messages_max = o->messages_max;
    plan->recipients_max = o->recipients_max;
    plan->queue_bytes = shards * queue_messages_bytes(o);
    plan->total_bytes = plan->pools_bytes + plan->queue_bytes + plan->rest_bytes;
}

bool memory_plan_make(const struct config *config, unsigned shards, struct memory_plan *plan)
{
    const struct config_limits *limits = &config->limits;
    const uint32_t sessions = limits->connections.connections_max + SERVER_REFUSALS;
    const uint32_t clients = config->delivery.shard_connections_max;
    const struct spool_options spool = server_spool_sizes(config, shards);
    struct queue_options queue = server_queue_sizes(config);
    queue.destinations_max = limits->queue_destinations_max;
    *plan = (struct memory_plan) { .destinations_max = queue.destinations_max };
    plan->sessions_bytes = shards * (smtp_service_bytes(sessions) + spool_writers_bytes(&spool) +
                                     connection_pools_bytes(sessions));
    plan->deliveries_bytes =
        shards * (deliver_bytes(clients, queue.destinations_max) + queue_settlements_bytes(&queue) +
                  smtp_clients_bytes(clients) + connection_pools_bytes(clients) +
                  resolves_bytes(SERVER_RESOLVES_MAX) +
                  lease_shard_bytes(deliver_hops_max(clients, queue.destinations_max), shards));
    plan->spool_bytes = shards * spool_buffers_bytes(&spool);
    plan->destinations_bytes = shards * queue_destinations_bytes(&queue);
    plan->pools_bytes = plan->sessions_bytes + plan->deliveries_bytes + plan->spool_bytes +
                        plan->destinations_bytes;
    const uint64_t handshakes = MIN((uint64_t)config->tls.handshakes_max, (uint64_t)sessions);
    plan->rest_bytes =
        PROCESS_BYTES + shards * (SHARD_BYTES + (sessions + clients) * (uint64_t)TLS_SESSION_BYTES +
                                  handshakes * TLS_HANDSHAKE_BYTES);
    queue.messages_max =
        MAX(limits->queue_messages_max / shards, (uint32_t)MEMORY_PLAN_MESSAGES_MIN);
    queue.recipients_max = queue.messages_max * MESSAGE_RECIPIENTS;
    plan_queue(plan, &queue, shards);
    if (limits->memory_max_bytes != 0 && plan->total_bytes > limits->memory_max_bytes) {
        const uint64_t taken = plan->pools_bytes + plan->rest_bytes;
        const uint64_t left = MAX(limits->memory_max_bytes, taken) - taken;
        const uint64_t fit = left / shards / queue_message_bytes();
        queue.messages_max = (uint32_t)MAX(MIN(fit, (uint64_t)queue.messages_max),
                                           (uint64_t)MEMORY_PLAN_MESSAGES_MIN);
        queue.recipients_max = queue.messages_max;
        plan_queue(plan, &queue, shards);
    }
    plan->pools_bytes += plan->queue_bytes;
    return limits->memory_max_bytes == 0 || plan->total_bytes <= limits->memory_max_bytes;
}

enum { SIZE_TEXT = 32, KIB_SHIFT = 10 };

static const char *size_text(uint64_t bytes, char text[static SIZE_TEXT])
{
    static const char units[] = "KMGT";
    unsigned unit = 0;
    uint64_t rest = bytes >> KIB_SHIFT;
    for (; rest >= 10 << KIB_SHIFT && unit + 2 < sizeof(units); unit++)
        rest >>= KIB_SHIFT;
    snprintf(text, SIZE_TEXT, "%llu %ciB", (unsigned long long)rest, units[unit]);
    return text;
}

void memory_plan_words(const struct memory_plan *plan, char text[static MEMORY_PLAN_TEXT])
{
    char total[SIZE_TEXT], sessions[SIZE_TEXT], deliveries[SIZE_TEXT], spool[SIZE_TEXT],
        destinations[SIZE_TEXT], queue[SIZE_TEXT], rest[SIZE_TEXT];
    snprintf(text, MEMORY_PLAN_TEXT,
             "%s: sessions %s, deliveries %s, spool buffers %s, destinations %s, the queue %s (%u "
             "messages, %u recipients a shard), about %s beside them",
             size_text(plan->total_bytes, total), size_text(plan->sessions_bytes, sessions),
             size_text(plan->deliveries_bytes, deliveries), size_text(plan->spool_bytes, spool),
             size_text(plan->destinations_bytes, destinations), size_text(plan->queue_bytes, queue),
             plan->messages_max, plan->recipients_max, size_text(plan->rest_bytes, rest));
}

void config_build_memory(struct config_builder *builder)
{
    struct memory_plan plan;
    char words[MEMORY_PLAN_TEXT];
    const struct config *config = builder->config;
    if (builder->report->errors > 0 || memory_plan_make(config, config_shards(config), &plan))
        return;
    struct config_section s = config_file_section(builder->file, "limits", 0);
    memory_plan_words(&plan, words);
    config_file_error(&s, "memory-max", 0,
                      "is less than what the smallest queue needs, %s; raise it, or lower limits { "
                      "connections }, delivery { connections-per-shard } or spool { cache }",
                      words);
}
