/*
 * queue_metrics.c - what a queue counts, by name
 */
#include "queue/queue.h"

#define QUEUE_COUNTER(field, name, label, words)                                                   \
    {                                                                                              \
        "ringpost_queue_" name, label, words, METRIC_COUNTER, 0,                                   \
            offsetof(struct queue_metrics, field)                                                  \
    }
#define QUEUE_GAUGE(field, name, label, words)                                                     \
    {                                                                                              \
        "ringpost_queue_" name, label, words, METRIC_GAUGE, 0,                                     \
            offsetof(struct queue_metrics, field)                                                  \
    }

/* clang-format off */
const struct metric queue_metrics_table[] = {
    QUEUE_COUNTER(accepted, "messages_accepted_total", NULL, "Messages taken into the queue"),
    QUEUE_COUNTER(recovered, "messages_recovered_total", NULL, "Messages found in the spool at start"),
    QUEUE_COUNTER(recipients_accepted, "recipients_in_total", "from=\"accepted\"", "Recipients that came into the queue"),
    QUEUE_COUNTER(recipients_recovered, "recipients_in_total", "from=\"recovered\"", "Recipients that came into the queue"),
    QUEUE_COUNTER(recipients_delivered, "recipients_out_total", "outcome=\"delivered\"", "Recipients that left the queue"),
    QUEUE_COUNTER(recipients_bounced, "recipients_out_total", "outcome=\"bounced\"", "Recipients that left the queue"),
    QUEUE_COUNTER(recipients_expired, "recipients_out_total", "outcome=\"expired\"", "Recipients that left the queue"),
    QUEUE_COUNTER(recipients_discarded, "recipients_out_total", "outcome=\"discarded\"", "Recipients that left the queue"),
    QUEUE_GAUGE(recipients_queued, "recipients", NULL, "Recipients waiting for an outcome"),
    QUEUE_GAUGE(messages, "messages", NULL, "Messages in the queue"),
    QUEUE_GAUGE(units_ready, "units", "state=\"ready\"", "Units (message and destination) by state"),
    QUEUE_GAUGE(units_active, "units", "state=\"active\"", "Units (message and destination) by state"),
    QUEUE_GAUGE(units_deferred, "units", "state=\"deferred\"", "Units (message and destination) by state"),
    QUEUE_GAUGE(units_held, "units", "state=\"held\"", "Units (message and destination) by state"),
    QUEUE_GAUGE(lanes_ready[LANE_URGENT], "ready_units", "lane=\"urgent\"", "Units that are ready, by the priority of their class"),
    QUEUE_GAUGE(lanes_ready[LANE_NORMAL], "ready_units", "lane=\"normal\"", "Units that are ready, by the priority of their class"),
    QUEUE_GAUGE(lanes_ready[LANE_BULK], "ready_units", "lane=\"bulk\"", "Units that are ready, by the priority of their class"),
    QUEUE_COUNTER(classes_unknown, "classes_unknown_total", NULL, "Recipients queued whose class the configuration does not have"),
    QUEUE_GAUGE(destinations, "destinations", NULL, "Destinations known"),
    QUEUE_COUNTER(deferrals, "deferrals_total", NULL, "Recipients deferred by an attempt"),
    QUEUE_COUNTER(settle_failures, "settle_failures_total", NULL, "Tries to record outcomes that failed; each is made again a second later"),
    QUEUE_GAUGE(settlements_alone, "unrecorded", NULL, "Attempts whose outcome the disk has not taken yet, and whose connection has gone on"),
    QUEUE_COUNTER(recipients_held, "marked_total", "as=\"held\"", "Recipients that an operator held or released"),
    QUEUE_COUNTER(recipients_released, "marked_total", "as=\"released\"", "Recipients that an operator held or released"),
    QUEUE_COUNTER(refused_full, "refused_total", NULL, "Recipients refused because the queue is full"),
};
/* clang-format on */
const unsigned queue_metrics_count = ARRAY_COUNT(queue_metrics_table);
