/*
 * recovery_table.c - the messages of a log while it is read back
 *
 * Fed with records in the order of the log, so the last word on a message is the right one. A
 * MESSAGE of an id that is there already is a copy that compaction made: it takes the place of the
 * old one only if all of it is there, otherwise the old one still is (its segment is not retired
 * before the copy is durable). A message is finished when each recipient has a final outcome.
 */
#include "queue/recovery_table.h"

#include <errno.h>
#include <stdlib.h>

#include "core/check.h"

enum {
    TABLE_FIRST = 1'024,
    NEIGHBOURS = 16, /* ids in a row whose entries lie in a row: records come in their order */
    STEP = NEIGHBOURS + 1, /* odd, so that it leads to all entries, whatever ids have in common */
};

void recovery_table_init(struct recovery_table *t, struct recovery_disk *disk,
                         const struct recovery_ranges *ranges)
{
    *t = (struct recovery_table) { .disk = disk, .ranges = ranges };
}

void recovery_table_free(struct recovery_table *t)
{
    for (size_t i = 0; i < t->capacity; i++)
        free(t->entries[i].final);
    free(t->entries);
    *t = (struct recovery_table) { 0 };
}

static struct recovery_entry *slot_of(struct recovery_entry *entries, size_t capacity, uint64_t id)
{
    const size_t lot = (id / NEIGHBOURS * 0x9e3779b97f4a7c15) >> 20;
    size_t i = (lot * NEIGHBOURS + id % NEIGHBOURS) & (capacity - 1);
    while (entries[i].stored.id != 0 && entries[i].stored.id != id)
        i = (i + STEP) & (capacity - 1);
    return &entries[i];
}

static int table_grow(struct recovery_table *t)
{
    size_t capacity = MAX(t->capacity * 2, (size_t)TABLE_FIRST);
    struct recovery_entry *entries = calloc(capacity, sizeof(*entries));
    if (entries == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < t->capacity; i++)
        if (t->entries[i].stored.id != 0)
            *slot_of(entries, capacity, t->entries[i].stored.id) = t->entries[i];
    free(t->entries);
    t->entries = entries;
    t->capacity = capacity;
    return 0;
}

/* The entry of this id, made if need be; NULL: no memory. */
static struct recovery_entry *entry_of(struct recovery_table *t, uint64_t id)
{
    if (t->count * 4 >= t->capacity * 3 && table_grow(t) < 0)
        return NULL;
    struct recovery_entry *entry = slot_of(t->entries, t->capacity, id);
    if (entry->stored.id == 0) {
        entry->stored.id = id;
        t->count++;
    }
    return entry;
}

static int set_final(struct recovery_entry *entry, uint32_t recipient)
{
    if (entry->recipients == 1) {
        entry->finals = 1;
        return 0;
    }
    if (entry->final == NULL)
        entry->final = calloc(1, entry->recipients / 8 + 1);
    if (entry->final == NULL)
        return -ENOMEM;
    uint8_t bit = (uint8_t)(1u << recipient % 8);
    if ((entry->final[recipient / 8] & bit) == 0)
        entry->finals++;
    entry->final[recipient / 8] |= bit;
    return 0;
}

static int apply(struct recovery_entry *entry, struct slice outcomes)
{
    size_t cursor = 0;
    struct outcome outcome;
    int r;
    while ((r = outcome_next(outcomes, &cursor, &outcome)) == 1) {
        if (!outcome_final(outcome.kind))
            continue;
        if (outcome.recipient == OUTCOME_ALL)
            entry->finals = entry->recipients;
        else if (outcome.recipient < entry->recipients)
            r = set_final(entry, outcome.recipient);
        if (r < 0)
            return r;
    }
    return r;
}

static bool is_finished(const struct recovery_entry *entry)
{
    return entry->recipients > 0 && entry->finals >= entry->recipients;
}

/* What of the chunks in a list was lost: NULL, or the range. *gone: a segment is missing. */
static const struct recovery_range *list_lost(const struct recovery_table *t, struct slice list,
                                              uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct extent extent = extent_decode(list, i);
        const struct recovery_range *range = recovery_ranges_find(
            t->ranges, log_position(extent.segment, extent.offset), record_bytes(extent.bytes));
        if (range != NULL)
            return range;
    }
    return NULL;
}

/* 0: all chunks of the message are there; 1: something was torn; -EBADMSG: damaged. */
static int chunks_lost(struct recovery_table *t, uint64_t id, const struct message_head *head)
{
    const struct recovery_range *range = list_lost(t, head->index, head->index_count);
    if (range == NULL)
        range = list_lost(t, head->extents, head->extents_count);
    for (uint32_t i = 0; i < head->index_count && range == NULL; i++) {
        struct extent index = extent_decode(head->index, i);
        struct slice list;
        int r = recovery_disk_record(t->disk, log_position(index.segment, index.offset),
                                     RECORD_INDEX, id, &list);
        if (r < 0)
            return r;
        if (list.size % EXTENT_BYTES != 0)
            return -EBADMSG;
        range = list_lost(t, list, (uint32_t)(list.size / EXTENT_BYTES));
    }
    return range == NULL ? 0 : range->torn ? 1 : -EBADMSG;
}

int recovery_table_message(struct recovery_table *t, const struct record *record, uint64_t position)
{
    struct message_head head;
    uint32_t segment = position_segment(position);
    if (record->id == 0 || message_head_decode(record->payload, &head) < 0 ||
        head.recipients == 0 || head.recipients > RECIPIENTS_MAX || head.first_segment == 0 ||
        head.first_segment > segment || segment - head.first_segment > UINT16_MAX)
        return -EBADMSG;
    struct recovery_entry *entry = entry_of(t, record->id);
    if (entry == NULL)
        return -ENOMEM;
    if (entry->stored.segment != 0 && chunks_lost(t, record->id, &head) != 0)
        return 0;
    free(entry->final);
    *entry = (struct recovery_entry) {
        .stored = { .id = record->id,
                    .segment = segment,
                    .offset = position_offset(position),
                    .units = head.units,
                    .span = (uint16_t)(segment - head.first_segment),
                    .single = head.recipients == 1 },
        .recipients = head.recipients,
    };
    return apply(entry, head.outcome_bytes);
}

int recovery_table_outcome(struct recovery_table *t, const struct record *record, uint64_t position)
{
    struct outcome_head head;
    if (record->id == 0 || outcome_head_decode(record->payload, &head) < 0)
        return -EBADMSG;
    if (t->capacity == 0)
        return 0;
    struct recovery_entry *entry = slot_of(t->entries, t->capacity, record->id);
    if (entry->stored.segment == 0)
        return 0; /* its message is retired */
    entry->stored.outcome_segment = position_segment(position);
    entry->stored.outcome_offset = position_offset(position);
    return apply(entry, head.outcomes);
}

int recovery_table_part(struct recovery_table *t, uint64_t id)
{
    if (id == 0)
        return -EBADMSG;
    return entry_of(t, id) == NULL ? -ENOMEM : 0;
}

/* ---- report ---- */

struct gathered {
    struct outcome_filter filter;
    uint8_t *bytes;
    size_t size, capacity;
    struct outcome *outcomes;
    uint32_t count, room;
};

static int gather(struct gathered *g, struct slice outcomes)
{
    size_t cursor = 0;
    struct outcome outcome;
    int r;
    while ((r = outcome_next(outcomes, &cursor, &outcome)) == 1) {
        if (!outcome_counts(&g->filter, &outcome))
            continue;
        size_t size = outcome_bytes(&outcome, OUTCOME_TEXT_MAX);
        if (g->size + size > g->capacity) {
            size_t capacity = g->capacity * 2 + 8'192;
            uint8_t *bytes = realloc(g->bytes, capacity);
            if (bytes == NULL)
                return -ENOMEM;
            g->bytes = bytes;
            g->capacity = capacity;
        }
        g->size += outcome_encode(&outcome, OUTCOME_TEXT_MAX, g->bytes + g->size);
        g->count++;
    }
    return r;
}

static int unpack(struct gathered *g)
{
    if (g->count > g->room) {
        struct outcome *outcomes = realloc(g->outcomes, g->count * sizeof(*outcomes));
        if (outcomes == NULL)
            return -ENOMEM;
        g->outcomes = outcomes;
        g->room = g->count;
    }
    size_t cursor = 0;
    for (uint32_t i = 0; i < g->count; i++)
        CHECK(outcome_next(slice_of(g->bytes, g->size), &cursor, &g->outcomes[i]) == 1);
    return 0;
}

/* All that is known of a message's recipients, newest first. -EBADMSG: some of it is unreadable,
 * the rest is there. */
static int gather_all(struct recovery_table *t, const struct stored *stored, struct slice own,
                      struct gathered *g)
{
    g->filter = (struct outcome_filter) { 0 };
    g->size = 0;
    g->count = 0;
    bool damaged = false;
    uint64_t floor = log_position(stored->segment, stored->offset);
    uint64_t at = log_position(stored->outcome_segment, stored->outcome_offset);
    while (at > floor && !damaged) {
        struct slice payload;
        struct outcome_head head;
        int r = recovery_disk_record(t->disk, at, RECORD_OUTCOME, stored->id, &payload);
        if (r < 0 && r != -EBADMSG)
            return r;
        damaged = r < 0 || outcome_head_decode(payload, &head) < 0 || head.previous >= at;
        if (damaged)
            break;
        r = gather(g, head.outcomes);
        if (r < 0)
            return r;
        at = head.previous;
    }
    int r = gather(g, own);
    if (r < 0 && r != -EBADMSG)
        return r;
    damaged = damaged || r < 0;
    r = unpack(g);
    return r < 0 ? r : damaged ? -EBADMSG : 0;
}

struct reporting {
    struct recovery_table *table;
    struct recovery_report *report;
    struct gathered gathered;
    uint8_t *message; /* its payload, while other blocks are read */
};

static int report_one(struct reporting *p, const struct recovery_entry *entry)
{
    struct recovery_table *t = p->table;
    const struct recovery_options *options = t->disk->options;
    struct recovered recovered = { .stored = entry->stored };
    struct slice payload;
    struct message_head head;
    int r = recovery_disk_record(t->disk, log_position(entry->stored.segment, entry->stored.offset),
                                 RECORD_MESSAGE, entry->stored.id, &payload);
    if (r < 0) /* it was there a moment ago: reading cannot be trusted now */
        return r == -EBADMSG ? -EIO : r;
    memcpy(p->message, payload.data, payload.size);
    payload.data = p->message;
    if (message_head_decode(payload, &head) < 0 ||
        envelope_decode(head.envelope, &recovered.envelope) < 0 ||
        recovered.envelope.recipients_count != entry->recipients) {
        p->report->messages_damaged++;
        return 0;
    }
    r = chunks_lost(t, entry->stored.id, &head);
    if (r == 1) {
        p->report->messages_torn++;
        return 0;
    }
    if (r < 0 && r != -EBADMSG)
        return r;
    recovered.damaged = r < 0 || (head.flags & MESSAGE_DAMAGED) != 0;
    r = gather_all(t, &entry->stored, head.outcome_bytes, &p->gathered);
    if (r < 0 && r != -EBADMSG)
        return r;
    recovered.damaged = recovered.damaged || r < 0;
    recovered.outcomes = p->gathered.outcomes;
    recovered.outcomes_count = p->gathered.count;
    p->report->messages_damaged += recovered.damaged;
    p->report->messages_live++;
    if (options->found != NULL)
        options->found(options->owner, &recovered);
    return 0;
}

/* One that is to be reported: its position beside it, so that sorting touches nothing else. */
struct live {
    uint64_t position;
    const struct recovery_entry *entry;
};

static int by_position(const void *a, const void *b)
{
    const struct live *x = a;
    const struct live *y = b;
    return x->position < y->position ? -1 : x->position > y->position;
}

int recovery_table_report(struct recovery_table *t, uint32_t oldest, struct recovery_report *report)
{
    struct reporting p = { .table = t, .report = report };
    struct live *live = malloc((t->count + 1) * sizeof(*live));
    p.message = malloc(t->disk->options->block_bytes);
    int r = live == NULL || p.message == NULL ? -ENOMEM : 0;
    size_t count = 0;
    for (size_t i = 0; i < t->capacity && r == 0; i++) {
        const struct recovery_entry *entry = &t->entries[i];
        const struct stored *stored = &entry->stored;
        if (stored->id == 0)
            continue;
        if (stored->segment == 0)
            report->unfinished++;
        else if (is_finished(entry) || stored->segment - stored->span < oldest)
            report->messages_finished++;
        else
            live[count++] = (struct live) { log_position(stored->segment, stored->offset), entry };
    }
    if (r == 0 && count > 0)
        qsort(live, count, sizeof(*live), by_position);
    for (size_t i = 0; i < count && r == 0; i++)
        r = report_one(&p, live[i].entry);
    free(live);
    free(p.message);
    free(p.gathered.bytes);
    free(p.gathered.outcomes);
    return r;
}
