/*
 * spool_check.c - a log that no server has open: verified, counted, its messages read back
 *
 *   sizes (the first BATCH that is found) -> recovery_run, watched -> numbers, messages
 *
 * The table here is fed with the same records as the recovery's and remembers more: where each
 * message was last, and the final outcome of each of its recipients. A copy that compaction made
 * brings all outcomes with it, so it begins the message anew.
 */
#include "queue/spool_check.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "queue/bytes.h"
#include "queue/recovery_table.h"
#include "queue/segment.h"

enum { TABLE_FIRST = 1'024, LIVE_FIRST = 1'024, LOOK_FILES_MAX = 1 << 20 };

struct entry {
    uint64_t id;       /* 0: empty */
    uint64_t position; /* of its MESSAGE record; 0: none is left */
    uint32_t recipients;
    uint32_t outcomes_count;
    uint8_t single; /* final outcome of the only one */
    bool live, damaged;
    uint8_t *kinds;    /* final outcome of each, of several */
    uint8_t *outcomes; /* encoded, with options.outcomes */
    size_t outcomes_size;
};

struct spool_check {
    struct ring *ring;
    struct spool_check_options options;
    struct spool_check_numbers numbers;
    struct recovery_options how;
    struct recovery *recovery;
    struct recovery_disk disk;
    struct entry *entries; /* open addressing */
    size_t count, capacity;
    uint64_t *live; /* ids, in the order of the log */
    size_t live_count, live_room;
    uint8_t *message; /* payload of the message that was read last */
    bool out_of_memory;
};

/* ---- which segment and block size, told by any BATCH ---- */

struct looking {
    uint32_t *numbers; /* of files */
    size_t count, room;
};

static void on_name(void *argument, const char *name)
{
    struct looking *l = argument;
    unsigned number;
    char rest;
    if (sscanf(name, "segment-%6u%c", &number, &rest) != 1 || l->count == LOOK_FILES_MAX)
        return;
    if (l->count == l->room) {
        size_t room = 2 * l->room + 64;
        uint32_t *numbers = realloc(l->numbers, room * sizeof(*numbers));
        if (numbers == NULL)
            return; /* it need not be this one that tells */
        l->numbers = numbers;
        l->room = room;
    }
    l->numbers[l->count++] = number;
}

static bool batch_tells(struct spool_check *c, const uint8_t *bytes, size_t size, uint64_t at)
{
    struct batch batch;
    if (size < BATCH_BYTES || at > UINT32_MAX)
        return false;
    const uint64_t position = log_position(get_u32(bytes + 12), (uint32_t)at);
    if (batch_decode(slice_of(bytes, size), position, 0, &batch) < 0 ||
        batch.log != c->options.number || batch.block_bytes < SPOOL_BLOCK_BYTES_MIN ||
        (batch.block_bytes & (batch.block_bytes - 1)) != 0 ||
        batch.segment_bytes < batch.block_bytes || batch.segment_bytes % batch.block_bytes != 0)
        return false;
    c->numbers.segment_bytes = batch.segment_bytes;
    c->numbers.block_bytes = batch.block_bytes;
    return true;
}

/* Only starts of sectors count, and only in blocks of SPOOL_BLOCK_BYTES_MIN first. */
static int file_tells(struct spool_check *c, uint32_t number, uint64_t step, bool *told)
{
    char path[SEGMENT_PATH_MAX];
    struct ring *ring = c->ring;
    uint8_t sector[BATCH_ALIGNMENT];
    struct ring_stat stat;
    segment_path(c->options.directory, number, path);
    int fd = ring->ops->now_open(ring, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd;
    int r = ring->ops->now_stat(ring, fd, &stat);
    for (uint64_t at = 0; r == 0 && !*told && at < stat.size; at += step) {
        int64_t n = ring->ops->now_read(ring, fd, sector, sizeof(sector), at);
        *told = n > 0 && batch_tells(c, sector, (size_t)n, at);
        if (step == 0)
            break;
    }
    (void)ring->ops->now_close(ring, fd);
    return r;
}

/* The first sector of each file; if none of them is intact, all sectors where a block may begin. */
static int find_sizes(struct spool_check *c, const char **why)
{
    static const uint64_t steps[] = { 0, SPOOL_BLOCK_BYTES_MIN, BATCH_ALIGNMENT };
    struct looking l = { 0 };
    bool told = false;
    *why = "the log's directory cannot be read";
    int r = c->ring->ops->now_list(c->ring, c->options.directory, on_name, &l);
    for (unsigned i = 0; i < ARRAY_COUNT(steps) && r >= 0 && !told; i++)
        for (size_t k = 0; k < l.count && r >= 0 && !told; k++) {
            *why = "a segment file cannot be read";
            r = file_tells(c, l.numbers[k], steps[i], &told);
        }
    free(l.numbers);
    return MIN(r, 0);
}

/* ---- the books ---- */

static struct entry *slot_of(struct entry *entries, size_t capacity, uint64_t id)
{
    size_t i = (id * 0x9e3779b97f4a7c15) >> 20 & (capacity - 1);
    while (entries[i].id != 0 && entries[i].id != id)
        i = (i + 1) & (capacity - 1);
    return &entries[i];
}

static const struct entry *find_entry(const struct spool_check *c, uint64_t id)
{
    const struct entry *e = c->capacity > 0 ? slot_of(c->entries, c->capacity, id) : NULL;
    return e != NULL && e->id != 0 ? e : NULL;
}

static struct entry *entry_of(struct spool_check *c, uint64_t id)
{
    if (c->count * 4 >= c->capacity * 3) {
        size_t capacity = MAX(c->capacity * 2, (size_t)TABLE_FIRST);
        struct entry *entries = calloc(capacity, sizeof(*entries));
        if (entries == NULL)
            return NULL;
        for (size_t i = 0; i < c->capacity; i++)
            if (c->entries[i].id != 0)
                *slot_of(entries, capacity, c->entries[i].id) = c->entries[i];
        free(c->entries);
        c->entries = entries;
        c->capacity = capacity;
    }
    struct entry *e = slot_of(c->entries, c->capacity, id);
    if (e->id == 0) {
        e->id = id;
        c->count++;
    }
    return e;
}

static uint8_t *kind_of(struct entry *e, uint32_t recipient)
{
    return e->kinds != NULL ? &e->kinds[recipient] : &e->single;
}

/* Later records come later: a final outcome is the last word, whatever follows it. */
static void apply(struct entry *e, struct slice outcomes)
{
    size_t cursor = 0;
    struct outcome o;
    while (outcome_next(outcomes, &cursor, &o) == 1) {
        if (!outcome_final(o.kind))
            continue;
        uint32_t from = o.recipient == OUTCOME_ALL ? 0 : o.recipient;
        uint32_t to = o.recipient == OUTCOME_ALL ? e->recipients : from + 1;
        for (uint32_t i = from; i < MIN(to, e->recipients); i++)
            if (*kind_of(e, i) == 0)
                *kind_of(e, i) = o.kind;
    }
}

static int on_message(struct spool_check *c, const struct record *record, uint64_t position)
{
    struct message_head head;
    CHECK(message_head_decode(record->payload, &head) == 0);
    struct entry *e = entry_of(c, record->id);
    if (e == NULL)
        return -ENOMEM;
    free(e->kinds);
    e->kinds = NULL;
    e->single = 0;
    e->position = position;
    e->recipients = head.recipients;
    if (head.recipients > 1) {
        e->kinds = calloc(1, head.recipients);
        if (e->kinds == NULL)
            return -ENOMEM;
    }
    apply(e, head.outcome_bytes);
    return 0;
}

static int on_record(void *owner, const struct record *record, uint64_t position)
{
    struct spool_check *c = owner;
    if (record->kind == RECORD_MESSAGE)
        return on_message(c, record, position);
    struct outcome_head head;
    CHECK(outcome_head_decode(record->payload, &head) == 0);
    c->numbers.outcomes += head.count;
    if (find_entry(c, record->id) != NULL)
        apply(entry_of(c, record->id), head.outcomes);
    return 0;
}

static int keep_outcomes(struct entry *e, const struct recovered *recovered)
{
    size_t size = 0;
    for (uint32_t i = 0; i < recovered->outcomes_count; i++)
        size += outcome_bytes(&recovered->outcomes[i], OUTCOME_TEXT_MAX);
    e->outcomes = malloc(size + 1);
    if (e->outcomes == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < recovered->outcomes_count; i++)
        e->outcomes_size += outcome_encode(&recovered->outcomes[i], OUTCOME_TEXT_MAX,
                                           e->outcomes + e->outcomes_size);
    e->outcomes_count = recovered->outcomes_count;
    return 0;
}

static void on_found(void *owner, const struct recovered *recovered)
{
    struct spool_check *c = owner;
    struct spool_check_numbers *n = &c->numbers;
    struct entry *e = entry_of(c, recovered->stored.id);
    if (e != NULL && c->live_count == c->live_room) {
        size_t room = c->live_room * 2 + LIVE_FIRST;
        uint64_t *live = realloc(c->live, room * sizeof(*live));
        c->live = live != NULL ? live : c->live;
        c->live_room = live != NULL ? room : c->live_room;
    }
    if (e == NULL || c->live_count == c->live_room ||
        (c->options.outcomes && recovered->outcomes_count > 0 && keep_outcomes(e, recovered) < 0)) {
        c->out_of_memory = true;
        return;
    }
    c->live[c->live_count++] = e->id;
    e->live = true;
    e->damaged = recovered->damaged;
    e->position = log_position(recovered->stored.segment, recovered->stored.offset);
    bool all = false;
    uint32_t finals = 0;
    for (uint32_t i = 0; i < recovered->outcomes_count; i++) {
        bool final = outcome_final(recovered->outcomes[i].kind);
        all = all || (final && recovered->outcomes[i].recipient == OUTCOME_ALL);
        finals += final && recovered->outcomes[i].recipient < e->recipients;
    }
    n->waiting += all ? 0 : e->recipients - MIN(finals, e->recipients);
    n->live_bytes += (uint64_t)recovered->stored.units * RECORD_ALIGNMENT;
    uint64_t arrival = (uint64_t)MAX(recovered->envelope.arrival_us, (int64_t)0);
    if (arrival > 0 && (n->oldest_us == 0 || arrival < n->oldest_us))
        n->oldest_us = arrival;
}

static void count_kind(struct spool_check_numbers *n, uint8_t kind)
{
    n->delivered += kind == OUTCOME_DELIVERED;
    n->bounced += kind == OUTCOME_BOUNCED;
    n->expired += kind == OUTCOME_EXPIRED;
    n->discarded += kind == OUTCOME_DISCARDED;
}

static void sum_up(struct spool_check *c)
{
    struct spool_check_numbers *n = &c->numbers;
    for (size_t i = 0; i < c->capacity; i++) {
        struct entry *e = &c->entries[i];
        if (e->id == 0 || e->position == 0)
            continue;
        n->messages++;
        n->recipients += e->recipients;
        for (uint32_t k = 0; k < e->recipients; k++)
            count_kind(n, *kind_of(e, k));
    }
    n->unaccounted = (int64_t)n->recipients -
                     (int64_t)(n->delivered + n->bounced + n->expired + n->discarded + n->waiting);
    uint64_t used = 0;
    for (uint32_t i = 0; i < c->recovery->files_count; i++)
        if (c->recovery->files[i].walked)
            used += c->recovery->files[i].bytes;
    n->dead_bytes = used - MIN(used, n->live_bytes);
}

/* ---- opening and closing ---- */

static void on_range(void *owner, uint32_t file, uint64_t position, uint32_t bytes, bool torn)
{
    const struct spool_check *c = owner;
    c->options.range(c->options.owner, file, position, bytes, torn);
}

static int check_run(struct spool_check *c, const char **why)
{
    int r = find_sizes(c, why);
    if (r < 0 || c->numbers.segment_bytes == 0)
        return r; /* nothing was ever written to it */
    c->how = (struct recovery_options) {
        .directory = c->options.directory,
        .quarantine = c->options.quarantine,
        .number = c->options.number,
        .segment_bytes = c->numbers.segment_bytes,
        .block_bytes = c->numbers.block_bytes,
        .segments_max = SPOOL_SEGMENTS_MAX,
        .owner = c,
        .found = on_found,
        .record = on_record,
        .range = c->options.range != NULL ? on_range : NULL,
    };
    r = recovery_run(c->ring, &c->how, &c->numbers.report, &c->recovery, why);
    if (r < 0)
        return r;
    *why = "out of memory";
    c->message = malloc(c->numbers.block_bytes);
    if (c->out_of_memory || c->message == NULL)
        return -ENOMEM;
    r = recovery_disk_init(&c->disk, c->ring, &c->how, c->recovery);
    if (r == 0)
        sum_up(c);
    return r;
}

int spool_check_open(struct ring *ring, const struct spool_check_options *options,
                     struct spool_check **check, const char **why)
{
    *why = "out of memory";
    struct spool_check *c = calloc(1, sizeof(*c));
    if (c == NULL)
        return -ENOMEM;
    c->ring = ring;
    c->options = *options;
    int r = check_run(c, why);
    if (r < 0)
        spool_check_close(c);
    else
        *check = c;
    return r;
}

void spool_check_close(struct spool_check *c)
{
    recovery_disk_free(&c->disk);
    recovery_free(c->recovery);
    for (size_t i = 0; i < c->capacity; i++) {
        free(c->entries[i].kinds);
        free(c->entries[i].outcomes);
    }
    free(c->entries);
    free(c->live);
    free(c->message);
    free(c);
}

const struct spool_check_numbers *spool_check_numbers(const struct spool_check *c)
{
    return &c->numbers;
}

/* ---- messages ---- */

static int read_entry(struct spool_check *c, const struct entry *e, struct spool_check_message *m)
{
    *m = (struct spool_check_message) {
        .id = e->id, .recipients = e->recipients, .live = e->live, .damaged = e->damaged
    };
    struct slice payload;
    int r = recovery_disk_record(&c->disk, e->position, RECORD_MESSAGE, e->id, &payload);
    if (r < 0)
        return r;
    memcpy(c->message, payload.data, payload.size);
    r = message_head_decode(slice_of(c->message, payload.size), &m->head);
    return r < 0 ? r : envelope_decode(m->head.envelope, &m->envelope);
}

int spool_check_next(struct spool_check *c, size_t *cursor, struct spool_check_message *m)
{
    if (*cursor >= c->live_count)
        return 0;
    int r = read_entry(c, find_entry(c, c->live[(*cursor)++]), m);
    return r < 0 ? r : 1;
}

int spool_check_find(struct spool_check *c, uint64_t id, struct spool_check_message *m)
{
    const struct entry *e = find_entry(c, id);
    return e == NULL || e->position == 0 ? -ENOENT : read_entry(c, e, m);
}

uint8_t spool_check_final(const struct spool_check *c, uint64_t id, uint32_t recipient)
{
    const struct entry *e = find_entry(c, id);
    if (e == NULL || recipient >= e->recipients)
        return 0;
    return e->kinds != NULL ? e->kinds[recipient] : e->single;
}

struct slice spool_check_outcomes(const struct spool_check *c, uint64_t id, uint32_t *count)
{
    const struct entry *e = find_entry(c, id);
    *count = e != NULL ? e->outcomes_count : 0;
    return e != NULL ? slice_of(e->outcomes, e->outcomes_size) : slice_of(NULL, 0);
}

struct body {
    struct spool_check *check;
    uint64_t id;
    int (*each)(void *owner, struct slice piece);
    void *owner;
    bool gone; /* some of it */
};

static int body_list(struct body *b, struct slice list, uint32_t count)
{
    int r = 0;
    for (uint32_t i = 0; i < count && r == 0; i++) {
        struct extent extent = extent_decode(list, i);
        struct slice piece;
        r = recovery_disk_record(&b->check->disk, log_position(extent.segment, extent.offset),
                                 RECORD_CHUNK, b->id, &piece);
        if (r == -EBADMSG || (r == 0 && piece.size != extent.bytes)) {
            b->gone = true;
            piece = slice_of(NULL, extent.bytes);
            r = 0;
        }
        if (r == 0)
            r = b->each(b->owner, piece);
    }
    return r;
}

/* The list has to outlive the chunks that are read meanwhile. */
static int body_index(struct body *b, struct extent index)
{
    struct slice list;
    int r = recovery_disk_record(&b->check->disk, log_position(index.segment, index.offset),
                                 RECORD_INDEX, b->id, &list);
    uint8_t copy[SPOOL_EXTENTS_MAX * EXTENT_BYTES];
    if (r == -EBADMSG || (r == 0 && list.size != sizeof(copy))) {
        b->gone = true; /* how much it spoke of is not known */
        return b->each(b->owner, slice_of(NULL, 0));
    }
    if (r < 0)
        return r;
    memcpy(copy, list.data, sizeof(copy));
    return body_list(b, slice_of(copy, sizeof(copy)), SPOOL_EXTENTS_MAX);
}

int spool_check_body(struct spool_check *c, const struct spool_check_message *m,
                     int (*each)(void *owner, struct slice piece), void *owner)
{
    struct body b = { .check = c, .id = m->id, .each = each, .owner = owner };
    int r = 0;
    for (uint32_t i = 0; i < m->head.index_count && r == 0; i++)
        r = body_index(&b, extent_decode(m->head.index, i));
    if (r == 0)
        r = body_list(&b, m->head.extents, m->head.extents_count);
    if (r == 0 && m->head.tail.size > 0)
        r = each(owner, m->head.tail);
    return r < 0 ? r : b.gone ? -EBADMSG : 0;
}
