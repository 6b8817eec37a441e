/*
 * config_schema.c - every key that a configuration may have
 *
 * deploy/ringpost.conf.example says what each one means; a test keeps the two together.
 */
#include "mta/config_build.h"

/* How a next hop is reached. */
#define ROUTE_SINGLES                                                                              \
    "protocol", "port", "host-order", "max-connections", "max-per-connection", "allow-private",    \
        "ehlo", "tls", "tls-min", "tls-implicit", "cleartext", "roots", "client-certificate"
#define ROUTE_LISTS "domains", "hosts", "source-addresses", "tls-name"

const struct config_schema config_schemas[] = {
    { .name = "", .singles = { "hostname", "user", "group", "shards", "pin", "bare-newline" } },
    { .name = "spool",
      .singles = { "directory", "segment-size", "size-max", "reserve", "cache", "ahead" } },
    { .name = "listener",
      .titled = true,
      .singles = { "protocol", "banner", "backlog", "size-max", "relay", "tls", "tls-min",
                   "tls-cbc", "client-roots" },
      .lists = { "addresses", "proxy-from", "certificates", "ask-certificate", "never-ask" } },
    { .name = "certificate", .titled = true, .singles = { "chain", "key" } },
    { .name = "roots", .titled = true, .singles = { "file" } },
    { .name = "tls",
      .singles = { "handshake-timeout", "load-handshake-timeout", "handshakes", "tickets",
                   "ticket-rotate", "ticket-key-file", "id-cache", "client-cache", "hosts",
                   "key-shares", "key-share-age" } },
    { .name = "relay", .singles = { "i-run-an-open-relay" }, .lists = { "domains", "networks" } },
    { .name = "limits",
      .singles = { "connections", "per-address", "per-v4-24", "per-v6-64", "rate-per-minute",
                   "rate-burst", "recipients", "message-size", "commands", "bad-commands",
                   "messages-per-connection", "command-timeout", "data-timeout",
                   "transaction-timeout", "connection-timeout", "load-percent",
                   "load-command-timeout", "load-data-timeout" },
      .lists = { "exempt" } },
    { .name = "outbound",
      .titled = true,
      .singles = { "type", "state", "scope", "all-mail", "max-size", "cost", "label",
                   "on-unavailable", "sticky", ROUTE_SINGLES },
      .lists = { "sender-domains", "from-labels", ROUTE_LISTS } },
    { .name = "rule",
      .titled = true,
      .singles = { "if-size-over", "if-tls", "use", "require", "cost" },
      .lists = { "if-sender-domain", "if-recipient-domain", "if-label" } },
    /* what outbound was called: known, to be told from a slip of the pen */
    { .name = "route", .titled = true, .singles = { ROUTE_SINGLES }, .lists = { ROUTE_LISTS } },
    { .name = "delivery",
      .singles = { "retry-initial",
                   "retry-max",
                   "retry-factor",
                   "retry-jitter",
                   "age-max",
                   "warn-after",
                   "connect-timeout",
                   "greeting-timeout",
                   "command-timeout",
                   "mail-timeout",
                   "rcpt-timeout",
                   "data-init-timeout",
                   "data-block-timeout",
                   "data-end-timeout",
                   "idle-timeout",
                   "connections-per-hop",
                   "connections-per-shard",
                   "messages-per-connection",
                   "recipients-per-transaction",
                   "loop-limit",
                   "ehlo",
                   "tls",
                   "tls-min",
                   "cleartext" },
      .lists = { "own-addresses", "private-networks" } },
    { .name = "dns",
      .singles = { "trust-anchor", "root-hints", "timeout", "queries-max" },
      .lists = { "forwarders" } },
    { .name = "log", .singles = { "file", "level" } },
    { .name = "admin", .singles = { "socket" }, .lists = { "addresses", "allow" } },
    { .name = "bounce", .singles = { "from-name", "address", "per-minute" } },
};
const unsigned config_schemas_count = ARRAY_COUNT(config_schemas);
