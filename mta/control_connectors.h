/*
 * control_connectors.h - the control thread's part of connectors: names, numbers, marks, reports
 *
 * Included by control.h, which has one of these. Functions are called on the control thread.
 */
#ifndef RINGPOST_MTA_CONTROL_CONNECTORS_H
#define RINGPOST_MTA_CONTROL_CONNECTORS_H

#include "core/metrics.h"
#include "mta/config.h"
#include "mta/connector_count.h"
#include "mta/connector_slots.h"

struct control;

struct control_connectors {
    struct connector_slots slots[CONNECTOR_DIRECTIONS];
    struct metrics_writer writer;
    bool full; /* some connectors have no slot, and the log says so */
};

/* Before any configuration is handed out. 0 or -ENOMEM. */
[[nodiscard]] int control_connectors_open(struct control *control);
/* With the shards made, before their threads. */
void control_connectors_start(struct control *control);
void control_connectors_stop(struct control *control);
/* Before shards get this generation: where each of its connectors is counted. */
void control_connectors_assign(struct control *control, const struct config *config);
/* All shards' rows of a slot, added up. */
void control_connectors_in(const struct control *control, uint32_t slot,
                           struct connector_in_row *sum);
void control_connectors_out(const struct control *control, uint32_t slot,
                            struct connector_out_row *sum);

/* ---- control_connector_metrics.c ---- */

void control_connectors_write(struct metrics_writer *writer, struct metrics_text *text);

#endif
