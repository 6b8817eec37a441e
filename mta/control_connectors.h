/*
 * control_connectors.h - the control thread's part of connectors: names, numbers, marks, reports
 *
 * Included by control.h, which has one of these. Functions are called on the control thread.
 */
#ifndef RINGPOST_MTA_CONTROL_CONNECTORS_H
#define RINGPOST_MTA_CONTROL_CONNECTORS_H

#include <jansson.h>

#include "core/metrics.h"
#include "core/timer.h"
#include "mta/config.h"
#include "mta/connector_count.h"
#include "mta/connector_marks.h"
#include "mta/connector_slots.h"
#include "mta/connector_sums.h"

struct control;

/* Daily sums (control_connector_sums.c). */
struct control_sums {
    struct store *store; /* NULL: there is none any more */
    struct store_report report;
    struct timer timer;
    bool failing;                /* and the log says so */
    struct connector_in_row *in; /* by slot: what of its rows is in the store */
    struct connector_out_row *out;
    char path[STORE_PATH_MAX];
};

struct control_connectors {
    struct connector_slots slots[CONNECTOR_DIRECTIONS];
    struct connector_now *now[CONNECTOR_DIRECTIONS]; /* of all shards */
    struct connector_marks marks;
    struct timer untold_timer;
    uint64_t untold; /* shards that were not told of an unblocking yet, a bit each */
    struct metrics_writer writer;
    struct control_sums sums;
    bool full; /* some connectors have no slot, and the log says so */
    struct timer queue_timer;
    uint8_t *queue_told; /* by slot: events that have begun */
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

bool control_connectors_has(const struct config *config, enum connector_direction direction,
                            const char *name);

/* ---- control_connector_marks.c ---- */

/* As the user we are to be. 0, or an errno that was told. */
[[nodiscard]] int control_marks_open(struct control *control, const struct config *config);
void control_marks_close(struct control *control);
/* After slots have been given out: what is blocked stays so, and what is not there any more is
 * told. */
void control_marks_apply(struct control *control, const struct config *config);

enum { CONTROL_ORDER_WORDS = 512 };
struct control_order {
    const char *name;
    const char *direction; /* "in", "out"; NULL: there is only one of that name */
    const char *reason;    /* of a block */
    const char *by;        /* who wants it */
};
void control_marks_start(struct control *control);
/* 0, or -EINVAL; words either way. */
[[nodiscard]] int control_connectors_block(struct control *control,
                                           const struct control_order *order,
                                           char words[static CONTROL_ORDER_WORDS]);
[[nodiscard]] int control_connectors_unblock(struct control *control,
                                             const struct control_order *order,
                                             char words[static CONTROL_ORDER_WORDS]);

/* ---- control_connector_json.c ---- */

/* A page of {"connectors": [..], "next": {..}} from number from on; then marks of those that are
 * gone. */
json_t *control_connectors_list(struct control *control, enum connector_direction direction,
                                unsigned from);
/* {"connectors": [..]}: all that have this name. */
json_t *control_connectors_show(struct control *control, const char *name);

/* {"connector": .., "state": .., "accept": .., "refuse": .., "rows": [..]} of an inbound one; NULL:
 * there is none. */
json_t *control_connectors_readiness(struct control *control, const char *name);

/* ---- control_connector_sums.c ---- */

/* As the user we are to be, before any thread. 0, or an errno that was told. */
[[nodiscard]] int control_sums_open(struct control *control, const struct config *config);
void control_sums_start(struct control *control);
/* With the shards' rows still there. */
void control_sums_close(struct control *control);
/* The slot is given to another name. */
void control_sums_clear(struct control *control, enum connector_direction direction, uint32_t slot);
/* A page of {"records": [..], "next": {..}} behind key, of the last days with today's; name NULL:
 * all. */
json_t *control_sums_report(struct control *control, const char *name, unsigned days,
                            struct sums_key *key);

/* ---- control_connector_waiting.c ---- */

struct control_waiting {
    uint64_t recipients;
    uint64_t oldest_s;
    bool forced; /* the connector demands TLS */
};
/* Before the shards' threads. 0 or -ENOMEM. */
[[nodiscard]] int control_waiting_start(struct control *control);
void control_waiting_stop(struct control *control);
/* What waits by an outbound connector, as counted last. */
void control_waiting_of(const struct control *control, uint32_t slot,
                        struct control_waiting *queued);

/* ---- control_connector_metrics.c ---- */

void control_connectors_write(struct metrics_writer *writer, struct metrics_text *text);

#endif
