/*
 * tlsrpt_count.c - a shard's lots: rows found by hash, handed over, taken back
 *
 * The first row of a lot arms the timer. When the spare lot is not back yet the one that is full
 * stays, and what it has no row for is lost; rows that it has go on counting.
 */
#define XXH_INLINE_ALL
#include "mta/tlsrpt_count.h"

#include <errno.h>
#include <stdlib.h>
#include <xxhash.h>

#include "core/check.h"
#include "mta/server.h"

enum { LOT_MS = 5'000, RETRY_MS = 100 };

void tlsrpt_lot_clear(struct tlsrpt_lot *lot)
{
    lot->count = 0;
    memset(lot->places, 0, sizeof(lot->places));
}

static bool hand_over(struct tlsrpt_shard *tlsrpt)
{
    struct tlsrpt_lot *lot = tlsrpt->lot;
    if (tlsrpt->spare == NULL)
        return false;
    const struct handoff handoff = { .kind = HANDOFF_TLSRPT, .pointer = lot };
    if (shard_handoff(tlsrpt->shard, tlsrpt->control, handoff) < 0)
        return false;
    tlsrpt->lot = tlsrpt->spare;
    tlsrpt->spare = NULL;
    shard_timer_disarm(tlsrpt->shard, &tlsrpt->timer);
    return true;
}

static void on_timer(struct timer *timer)
{
    struct tlsrpt_shard *tlsrpt = container_of(timer, struct tlsrpt_shard, timer);
    if (tlsrpt->lot->count > 0 && !hand_over(tlsrpt))
        shard_timer_arm(tlsrpt->shard, timer, RETRY_MS);
}

static void on_back(struct shard *shard, const struct handoff *handoff)
{
    struct server_shard *server = shard->owner;
    server->tlsrpt.spare = handoff->pointer;
}

int tlsrpt_shard_init(struct tlsrpt_shard *tlsrpt, struct shard *shard, unsigned control)
{
    timer_init(&tlsrpt->timer, on_timer);
    tlsrpt->lots = calloc(2, sizeof(*tlsrpt->lots));
    if (tlsrpt->lots == NULL)
        return -ENOMEM;
    tlsrpt->lot = &tlsrpt->lots[0];
    tlsrpt->spare = &tlsrpt->lots[1];
    tlsrpt->control = control;
    tlsrpt->shard = shard;
    shard_handle(shard, HANDOFF_TLSRPT_BACK, on_back);
    return 0;
}

void tlsrpt_shard_free(struct tlsrpt_shard *tlsrpt)
{
    if (tlsrpt->shard != NULL)
        timer_disarm(&tlsrpt->shard->timers, &tlsrpt->timer);
    free(tlsrpt->lots);
    *tlsrpt = (struct tlsrpt_shard) { .shard = NULL };
}

/* The place of the row, or the empty one where it would be. There are twice as many as rows. */
static uint16_t *place_of(struct tlsrpt_lot *lot, const struct tlsrpt_row *row)
{
    const size_t places = ARRAY_COUNT(lot->places);
    size_t at = XXH3_64bits(row, sizeof(*row)) % places;
    while (lot->places[at] != 0 && memcmp(&lot->rows[lot->places[at] - 1], row, sizeof(*row)) != 0)
        at = (at + 1) % places;
    return &lot->places[at];
}

void tlsrpt_count(struct tlsrpt_shard *tlsrpt, const struct tlsrpt_row *row)
{
    if (tlsrpt == NULL || tlsrpt->shard == NULL)
        return;
    struct tlsrpt_numbers *numbers = &tlsrpt->numbers;
    metric_add(row->token == FAULT_NONE ? &numbers->good : &numbers->failed, 1);
    uint16_t *place = place_of(tlsrpt->lot, row);
    if (*place == 0 && tlsrpt->lot->count == TLSRPT_LOT_ROWS) {
        if (!hand_over(tlsrpt)) {
            metric_add(&numbers->lost, 1);
            return;
        }
        place = place_of(tlsrpt->lot, row);
    }
    struct tlsrpt_lot *lot = tlsrpt->lot;
    if (lot->count == 0)
        shard_timer_arm(tlsrpt->shard, &tlsrpt->timer, LOT_MS);
    if (*place == 0) {
        lot->rows[lot->count] = *row;
        lot->counts[lot->count] = 0;
        *place = (uint16_t)++lot->count;
    }
    lot->counts[*place - 1]++;
}

const struct metric tlsrpt_metrics[] = {
    { "ringpost_tlsrpt_sessions_total", "result=\"good\"", "Sessions with MX hosts, for reports",
      METRIC_COUNTER, 0, offsetof(struct tlsrpt_numbers, good) },
    { "ringpost_tlsrpt_sessions_total", "result=\"failed\"", "Sessions with MX hosts, for reports",
      METRIC_COUNTER, 0, offsetof(struct tlsrpt_numbers, failed) },
    { "ringpost_tlsrpt_lost_total", NULL, "Of these, that no report has: too many in a short time",
      METRIC_COUNTER, 0, offsetof(struct tlsrpt_numbers, lost) },
};
const unsigned tlsrpt_metrics_count = ARRAY_COUNT(tlsrpt_metrics);
