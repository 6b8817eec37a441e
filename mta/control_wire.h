/*
 * control_wire.h - the wire trace that an operator has under way, as control keeps it
 */
#ifndef RINGPOST_MTA_CONTROL_WIRE_H
#define RINGPOST_MTA_CONTROL_WIRE_H

#include <jansson.h>

#include "core/shard.h"
#include "mta/wire.h"

enum {
    WIRE_SECONDS_MAX = 3'600,
    WIRE_PAGE = 500,           /* lines an answer */
    WIRE_PATIENCE_MS = 15'000, /* without a question for its lines a trace ends */
};

struct control;

struct control_wire {
    struct timer timer;
    uint64_t number;   /* of the trace; 0: none yet */
    bool going;        /* sessions may begin, or are watched */
    bool ending;       /* shards were told, or are to be */
    uint64_t behind;   /* shards that could not be told yet, a bit each */
    uint32_t left;     /* sessions that may still begin; shared with the shards */
    uint64_t until_ms; /* monotonic: no session is watched longer */
    uint64_t asked_ms; /* when somebody last asked for lines */
    struct wire_watch *watches[SHARDS_MAX];
};

void control_wire_start(struct control *control);
/* After the shards' threads. */
void control_wire_stop(struct control *control);
/* {"trace": number}, or NULL and why not in words. */
json_t *control_wire_begin(struct control *control, const struct wire_wish *wish, uint32_t count,
                           uint32_t seconds, const char **why);
/* A page of {"lines": [..], "open": sessions, "more": there is another page now, "ended": that was
 * all, "lost": lines that no line tells of}; NULL: there is no such trace. */
json_t *control_wire_page(struct control *control, uint64_t number);
/* False: there is no such trace. */
bool control_wire_end(struct control *control, uint64_t number);

#endif
