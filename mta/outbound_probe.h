/*
 * outbound_probe.h - an outbound connector in test: its hosts, met as deliveries would meet them
 *
 *   control: HANDOFF_PROBE --> a shard: each host in turn: connect, EHLO, STARTTLS, verify at the
 *     connector's level, EHLO, QUIT --> HANDOFF_PROBED --> control (mta/control_probes.c)
 *
 * No MAIL, ever. A host is met once in PROBE_HOST_MS, whatever number of connectors lead to it: one
 * that was met a short time ago is not met again, and its row says so. Control's, and untouched by
 * it between the two handoffs. All probes go to one shard, so that they share what is recent.
 *
 * Bounds: PROBE_ROWS_MAX hosts; of a connector by MX those of its exact domains.
 */
#ifndef RINGPOST_MTA_OUTBOUND_PROBE_H
#define RINGPOST_MTA_OUTBOUND_PROBE_H

#include "core/shard.h"
#include "mta/config.h"
#include "mta/resolve.h"
#include "mta/smtp_client.h"

enum {
    PROBE_ROWS_MAX = 32,
    PROBE_HOST_MS = 600'000,
    PROBE_RECENT = 1'024, /* hosts that are remembered; the oldest makes room */
    PROBE_HOST_TEXT = 256,
    PROBE_WHY_TEXT = 192,
    PROBE_FACT_TEXT = 32,
};

struct probe_row {
    char host[PROBE_HOST_TEXT];
    char address[NET_TEXT_MAX]; /* "": it has none */
    uint16_t port;
    bool met; /* false: it was met by another one too short a time ago */
    bool good;
    char why[PROBE_WHY_TEXT];      /* "": nothing is wrong */
    char version[PROBE_FACT_TEXT]; /* "": in clear */
    char group[PROBE_FACT_TEXT];
};

struct probe_recent {
    uint64_t host[PROBE_RECENT]; /* hash of address and port */
    uint64_t until_ms[PROBE_RECENT];
    unsigned next;
};

struct probe_target {
    struct net_address address;
    char host[PROBE_HOST_TEXT];
};

struct outbound_probe {
    char name[CONNECTOR_NAME_MAX + 1]; /* asked */
    struct probe_recent *recent;
    uint64_t digest; /* the answer: of the connector as it was met; 0: it is not in test there */
    bool whole;      /* these are all of its hosts */
    unsigned rows_count;
    struct probe_row rows[PROBE_ROWS_MAX];

    struct list node; /* the rest is the shard's */
    struct shard *shard;
    struct task task;
    struct generation *generation;
    const struct outbound *connector;
    unsigned place, domain; /* of hosts and domains: the next one */
    struct resolve_request request;
    char subject[PATTERN_TEXT_MAX + 2]; /* the domain whose MX is met; "": a named host */
    char below[PATTERN_TEXT_MAX + 4];
    struct probe_target targets[RESOLVE_TARGETS_MAX];
    unsigned targets_count, target;
    enum tls_step step;
    struct slice names[2];
    uint8_t host_key[TLS_CLIENT_HOST_BYTES];
    struct smtp_client_timeouts timeouts;
    struct tls_client_policy policy;
    struct smtp_client *client;
    bool over; /* and control has to hear it */
};

struct server_shard;

/* In a shard of the server: HANDOFF_PROBE. */
void outbound_probe_asked(struct shard *shard, const struct handoff *handoff);
/* No more hosts: what was seen so far is answered. */
void outbound_probes_drain(struct server_shard *server);

#endif
