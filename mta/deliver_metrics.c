/*
 * deliver_metrics.c - what the numbers of deliveries are called
 */
#include "mta/deliver.h"

#define DELIVER_COUNTER(field, name, label, words)                                                 \
    {                                                                                              \
        "ringpost_delivery_" name, label, words, METRIC_COUNTER, 0,                                \
            offsetof(struct deliver_metrics, field)                                                \
    }

/* clang-format off */
const struct metric deliver_metrics_table[] = {
    DELIVER_COUNTER(attempts, "attempts_total", NULL, "Transactions begun with next hops"),
    DELIVER_COUNTER(delivered, "recipients_total", "result=\"delivered\"", "Recipients by the result of an attempt"),
    DELIVER_COUNTER(deferred, "recipients_total", "result=\"deferred\"", "Recipients by the result of an attempt"),
    DELIVER_COUNTER(bounced, "recipients_total", "result=\"bounced\"", "Recipients by the result of an attempt"),
    DELIVER_COUNTER(expired, "recipients_total", "result=\"expired\"", "Recipients by the result of an attempt"),
    DELIVER_COUNTER(held, "held_total", NULL, "Units held because their message could not be read"),
    DELIVER_COUNTER(rerouted, "rerouted_total", NULL, "Recipients whose way changed while they waited"),
    DELIVER_COUNTER(by_connector, "routed_total", "by=\"connector\"", "Recipients for whom a way was looked for, by what was found"),
    DELIVER_COUNTER(by_default, "routed_total", "by=\"default\"", "Recipients for whom a way was looked for, by what was found"),
    DELIVER_COUNTER(too_large, "routed_total", "by=\"refusal\"", "Recipients for whom a way was looked for, by what was found"),
    DELIVER_COUNTER(unroutable, "unroutable_total", NULL, "Looks at recipients that wait because the configuration has no way for them"),
    DELIVER_COUNTER(would, "connector_test_total", NULL, "Recipients that a connector in test would have taken"),
    DELIVER_COUNTER(bounces_sent, "bounces_total", "result=\"made\"", "Delivery status notifications"),
    DELIVER_COUNTER(bounces_suppressed, "bounces_total", "result=\"suppressed\"", "Delivery status notifications"),
    DELIVER_COUNTER(bounces_limited, "bounces_total", "result=\"delayed\"", "Delivery status notifications"),
    DELIVER_COUNTER(bounces_dropped, "bounces_total", "result=\"dropped\"", "Delivery status notifications"),
    DELIVER_COUNTER(reports[BOUNCE_FAILED], "reports_total", "action=\"failed\"", "Delivery status notifications made, by what they tell of first"),
    DELIVER_COUNTER(reports[BOUNCE_DELAYED], "reports_total", "action=\"delayed\"", "Delivery status notifications made, by what they tell of first"),
    DELIVER_COUNTER(reports[BOUNCE_RELAYED], "reports_total", "action=\"relayed\"", "Delivery status notifications made, by what they tell of first"),
    DELIVER_COUNTER(reports[BOUNCE_DELIVERED], "reports_total", "action=\"delivered\"", "Delivery status notifications made, by what they tell of first"),
    DELIVER_COUNTER(destination_failures, "destination_failures_total", NULL, "Next hops found unreachable as a whole"),
    DELIVER_COUNTER(tls_steps, "tls_steps_total", "next=\"weaker\"", "Handshakes that failed, and what is tried next"),
    DELIVER_COUNTER(tls_steps_back, "tls_steps_total", "next=\"strongest\"", "Handshakes that failed, and what is tried next"),
    DELIVER_COUNTER(clear_after_failure, "tls_steps_total", "next=\"clear\"", "Handshakes that failed, and what is tried next"),
    DELIVER_COUNTER(hops_waited, "hop_waits_total", NULL, "Next hops that had to wait for a connection or a look-up of ours"),
    DELIVER_COUNTER(links_yielded, "connections_yielded_total", NULL, "Connections ended so that another next hop has one"),
    DELIVER_COUNTER(links_passed, "connections_passed_total", NULL, "Times that a connection went on with the mail of another domain with the same MX hosts"),
    { "ringpost_delivery_hops_waiting", NULL, "Next hops that wait for a connection or a look-up of ours", METRIC_GAUGE, 0,
      offsetof(struct deliver_metrics, hops_waiting) },
    { "ringpost_delivery_destinations_in_line", NULL, "Destinations with ready mail that wait for a next hop in memory", METRIC_GAUGE, 0,
      offsetof(struct deliver_metrics, in_line) },
    { "ringpost_delivery_queued_seconds", NULL, "From arrival to delivery", METRIC_HISTOGRAM, 1e-3,
      offsetof(struct deliver_metrics, queued_ms) },
    { "ringpost_delivery_lane_queued_seconds", "lane=\"urgent\"", "From arrival to delivery, by the priority of its class", METRIC_HISTOGRAM, 1e-3,
      offsetof(struct deliver_metrics, lanes_queued_ms[LANE_URGENT]) },
    { "ringpost_delivery_lane_queued_seconds", "lane=\"normal\"", "From arrival to delivery, by the priority of its class", METRIC_HISTOGRAM, 1e-3,
      offsetof(struct deliver_metrics, lanes_queued_ms[LANE_NORMAL]) },
    { "ringpost_delivery_lane_queued_seconds", "lane=\"bulk\"", "From arrival to delivery, by the priority of its class", METRIC_HISTOGRAM, 1e-3,
      offsetof(struct deliver_metrics, lanes_queued_ms[LANE_BULK]) },
};
/* clang-format on */
const unsigned deliver_metrics_count = ARRAY_COUNT(deliver_metrics_table);
