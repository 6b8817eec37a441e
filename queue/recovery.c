/*
 * recovery.c - from what is on the disk to what lives
 *
 *   identify: which segment does each file hold, in which order do they follow
 *   walk:     every record of every segment, oldest first, into a table of messages
 *   report:   each live message with its envelope and outcomes, in the order of the log
 *
 * A segment's walk knows where the log went on in the next one (before of that one's first BATCH),
 * so all that is missing up to there was lost. In the newest segment, what cannot be read behind
 * the last intact BATCH (or in it) is the torn end of a write that nobody was told about; a BATCH
 * behind an unreadable place proves that it was durable once, so that place is damage. Records in
 * torn and in damaged places that are intact themselves are taken: to keep too much is allowed,
 * to keep too little is not.
 *
 * Allocates: a table with an entry for each message that is in the log. Bounds: the log's size.
 */
#include "queue/recovery.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "queue/bytes.h"
#include "queue/recovery_internal.h"
#include "queue/recovery_table.h"
#include "queue/segment.h"

struct walk {
    struct ring *ring;
    const struct recovery_options *options;
    struct recovery_report *report;
    struct recovery *recovery;
    struct recovery_table table;
    struct recovery_disk disk;
    struct recovery_ranges ranges;
    uint8_t *block;  /* being walked */
    uint32_t oldest; /* as the newest BATCH tells */
    /* of the segment that is being walked */
    struct recovery_file *file;
    uint32_t at;         /* where the last BATCH's write ends */
    uint32_t batch_from; /* where it begins */
    uint32_t batch_used; /* where its records end */
    uint32_t solid;      /* all up to here is accounted for */
    uint32_t pending;    /* ranges before this one are judged */
};

/* ---- identify ---- */

static void on_name(void *argument, const char *name)
{
    struct recovery *recovery = argument;
    unsigned number;
    char rest;
    if (sscanf(name, "segment-%6u%c", &number, &rest) != 1)
        return;
    if (recovery->files_count % 64 == 0) {
        size_t size = (recovery->files_count + 64) * sizeof(*recovery->files);
        struct recovery_file *files = realloc(recovery->files, size);
        if (files == NULL)
            return; /* noticed: a sequence number has no file */
        recovery->files = files;
    }
    recovery->files[recovery->files_count++] = (struct recovery_file) { .number = number };
}

static int identify_conflict(const struct walk *w, const struct batch *batch, const char **why)
{
    *why = "the directory holds segments of two different logs";
    if (w->recovery->seed != 0 && batch->seed != w->recovery->seed)
        return -EBADMSG;
    *why = "the directory holds a log of another number";
    if (batch->log != w->options->number)
        return -EBADMSG;
    *why = "the log was made with another segment or block size";
    if (batch->segment_bytes != w->options->segment_bytes ||
        batch->block_bytes != w->options->block_bytes)
        return -EBADMSG;
    return 0;
}

static int batch_at(struct slice in, uint32_t offset, uint64_t seed, struct batch *batch,
                    uint32_t *sequence)
{
    if (in.size < BATCH_BYTES)
        return -EBADMSG;
    *sequence = get_u32(in.data + 12);
    if (*sequence == 0)
        return -EBADMSG;
    return batch_decode(in, log_position(*sequence, offset), seed, batch);
}

static int identify_first(struct walk *w, struct recovery_file *file, const char **why)
{
    *why = "a segment file cannot be read";
    struct slice in = { .size = 0 };
    int r = recovery_disk_open(&w->disk, file, &file->size);
    if (r == 0)
        r = recovery_disk_read(&w->disk, file, 0, &in);
    if (r < 0)
        return r;
    struct batch batch;
    uint32_t sequence;
    if (batch_at(in, 0, 0, &batch, &sequence) < 0)
        return 0;
    r = identify_conflict(w, &batch, why);
    if (r < 0)
        return r;
    w->recovery->seed = batch.seed;
    file->sequence = sequence;
    file->key = batch.key;
    file->first_known = true;
    file->before = batch.before;
    file->torn_from = batch.torn_from;
    w->oldest = MAX(w->oldest, batch.oldest);
    return 0;
}

/* A file that nothing names and that is not empty. What lies in its first block may be a first
 * write that was never completed; more than that was a segment once. */
static void identify_unnamed(struct walk *w, struct recovery_file *file, uint32_t bytes)
{
    if (bytes <= w->options->block_bytes) {
        w->report->torn_bytes += bytes;
        return;
    }
    const struct recovery_range range = { .bytes = bytes };
    if (w->options->range != NULL)
        w->options->range(w->options->owner, file->number, 0, bytes, false);
    w->report->damages++;
    w->report->damage_bytes += bytes;
    if (recovery_quarantine(&w->disk, file, &range) < 0)
        w->report->quarantine_failed++;
}

static uint32_t used_bytes(struct slice in)
{
    size_t size = in.size;
    while (size >= RECORD_ZEROS_BYTES && record_zeros(in.data + size - RECORD_ZEROS_BYTES))
        size -= RECORD_ZEROS_BYTES;
    while (size > 0 && in.data[size - 1] == 0)
        size--;
    return (uint32_t)size;
}

/* A file that does not begin with a BATCH: never used, or used and damaged? A later BATCH tells,
 * because the first was durable before a second was written. When no file says which log this is,
 * only starts of blocks are believed: no message body ever stands there. */
static int identify_rest(struct walk *w, struct recovery_file *file, const char **why)
{
    *why = "a segment file cannot be read";
    uint64_t seed = w->recovery->seed;
    uint32_t step = seed != 0 ? BATCH_ALIGNMENT : w->options->block_bytes;
    uint32_t end = (uint32_t)MIN(file->size, (uint64_t)w->options->segment_bytes), used = 0;
    recovery_disk_ahead(&w->disk, file);
    for (uint32_t block = 0; block < end; block += w->options->block_bytes) {
        struct slice in;
        int r = recovery_disk_read(&w->disk, file, block, &in);
        if (r < 0)
            return r;
        const uint32_t bytes = used_bytes(in);
        if (bytes == 0)
            continue;
        used = block + bytes;
        for (uint32_t i = 0; i < in.size; i += step) {
            struct batch batch;
            uint32_t sequence;
            if (batch_at(slice_from(in, i), block + i, seed, &batch, &sequence) < 0 ||
                sequence <= file->sequence || identify_conflict(w, &batch, why) < 0)
                continue;
            file->sequence = sequence;
            file->key = batch.key;
            w->recovery->seed = seed = batch.seed;
        }
    }
    if (file->sequence == 0)
        identify_unnamed(w, file, used);
    return 0;
}

static int by_sequence(const void *a, const void *b)
{
    const struct recovery_file *x = a, *y = b;
    if (x->sequence != y->sequence)
        return x->sequence < y->sequence ? -1 : 1;
    return x->number < y->number ? -1 : 1;
}

/* Newest first: a file that its successor does not follow on was refused as a whole (all that was
 * in it failed), and one that is older than the oldest is free. */
static int identify_chain(struct walk *w, const char **why)
{
    struct recovery *r = w->recovery;
    uint32_t follows = UINT32_MAX;
    if (r->files_count > 0)
        qsort(r->files, r->files_count, sizeof(*r->files), by_sequence);
    for (uint32_t i = r->files_count; i-- > 0;) {
        struct recovery_file *file = &r->files[i];
        if (file->sequence == 0)
            continue;
        *why = "two files hold the same segment";
        if (i + 1 < r->files_count && r->files[i + 1].sequence == file->sequence)
            return -EBADMSG;
        r->newest = MAX(r->newest, file->sequence);
        if (file->sequence < w->oldest)
            continue;
        if (file->sequence > follows) {
            file->size = 0; /* not walked; free */
            continue;
        }
        follows = file->first_known ? position_segment(file->before) : file->sequence - 1;
    }
    return 0;
}

/* Segments that should have a file and have none; known only when it is known which are retired. */
static void count_gone(struct walk *w)
{
    const struct recovery *r = w->recovery;
    uint32_t have = 0;
    for (uint32_t i = 0; i < r->files_count; i++) {
        const struct recovery_file *file = &r->files[i];
        if (!file->walked)
            continue;
        uint32_t before = position_segment(file->before);
        if (file->first_known && before >= MAX(w->oldest, 1u) && before != have)
            w->report->segments_gone++;
        have = file->sequence;
    }
}

static int identify(struct walk *w, const char **why)
{
    struct recovery *r = w->recovery;
    *why = "the log's directory cannot be read";
    int result = recovery_identity_read(&w->disk, &r->seed);
    r->identity_known = result == 0;
    if (result < 0 && result != -EBADMSG)
        return result;
    result = w->ring->ops->now_list(w->ring, w->options->directory, on_name, r);
    for (uint32_t i = 0; i < r->files_count && result >= 0; i++)
        result = identify_first(w, &r->files[i], why);
    for (uint32_t i = 0; i < r->files_count && result >= 0; i++)
        if (!r->files[i].first_known)
            result = identify_rest(w, &r->files[i], why);
    return result < 0 ? result : identify_chain(w, why);
}

/* ---- walk ---- */

static void lost(struct walk *w, uint32_t from, uint32_t to)
{
    if (from < to)
        recovery_ranges_add(&w->ranges, log_position(w->file->sequence, from), to - from);
}

/* What was found missing since the last judgement: from torn_from on it is torn, before: damage. */
static void judge(struct walk *w, uint32_t torn_from)
{
    for (; w->pending < w->ranges.count; w->pending++) {
        struct recovery_range *range = &w->ranges.list[w->pending];
        range->torn = position_offset(range->position) >= torn_from;
        if (w->options->range != NULL)
            w->options->range(w->options->owner, w->file->number, range->position, range->bytes,
                              range->torn);
        if (range->torn) {
            w->report->torn_bytes += range->bytes;
            continue;
        }
        w->report->damages++;
        w->report->damage_bytes += range->bytes;
        if (recovery_quarantine(&w->disk, w->file, range) < 0)
            w->report->quarantine_failed++;
    }
}

static void on_batch(struct walk *w, uint32_t offset, const struct batch *batch)
{
    uint32_t sequence = w->file->sequence;
    uint32_t before = position_segment(batch->before) == sequence
                          ? MIN(position_offset(batch->before), offset)
                          : 0;
    lost(w, w->solid, MIN(w->batch_used, offset));
    lost(w, MAX(w->solid, w->at), before);
    judge(w, UINT32_MAX);
    w->batch_from = offset;
    w->batch_used = offset + batch->used;
    w->at = offset + batch->bytes;
    w->solid = offset + record_bytes(BATCH_PAYLOAD_BYTES);
    w->oldest = MAX(w->oldest, batch->oldest);
    w->report->batches++;
    w->file->bytes += batch->bytes;
    w->recovery->batch_number = MAX(w->recovery->batch_number, batch->number);
    w->recovery->next_id = MAX(w->recovery->next_id, batch->next_id);
}

static int on_record(struct walk *w, uint32_t offset, const struct record *record)
{
    uint64_t position = log_position(w->file->sequence, offset);
    w->report->records++;
    if (record->id >= w->recovery->next_id)
        w->recovery->next_id = record->id + 1;
    int r;
    if (record->kind == RECORD_MESSAGE)
        r = recovery_table_message(&w->table, record, position);
    else if (record->kind == RECORD_OUTCOME)
        r = recovery_table_outcome(&w->table, record, position);
    else
        return recovery_table_part(&w->table, record->id);
    if (r == 0 && w->options->record != NULL)
        r = w->options->record(w->options->owner, record, position);
    return r;
}

static int walk_block(struct walk *w, uint32_t block, struct slice in)
{
    uint64_t position = log_position(w->file->sequence, block);
    struct record_keys keys = { w->recovery->seed, w->file->key };
    size_t offset = 0, at;
    struct record record;
    enum record_check check;
    while ((check = record_find(in, position, keys, &offset, &at, &record)) != RECORD_INVALID) {
        uint32_t from = block + (uint32_t)at;
        struct batch batch;
        int r = 0;
        if (record.kind == RECORD_BATCH && check == RECORD_OK) {
            struct slice rest = slice_from(in, at);
            if (from % BATCH_ALIGNMENT == 0 &&
                batch_decode(rest, position + at, keys.log, &batch) == 0 &&
                batch.key == keys.segment && batch.bytes <= in.size - at)
                on_batch(w, from, &batch);
            continue;
        }
        if (from < w->batch_used)
            lost(w, w->solid, from);
        else
            lost(w, MAX(MAX(w->solid, w->at), block), from);
        w->solid = from + record.bytes;
        if (check == RECORD_DAMAGED)
            lost(w, from, w->solid);
        else
            r = on_record(w, from, &record);
        if (r == -EBADMSG)
            lost(w, from, w->solid);
        else if (r < 0)
            return r;
    }
    uint32_t end = MIN(w->batch_used, block + (uint32_t)in.size);
    if (w->solid < end) {
        lost(w, w->solid, end);
        w->solid = end;
    }
    return 0;
}

/* next: the segment behind this one, or NULL. */
static int walk_segment(struct walk *w, struct recovery_file *file,
                        const struct recovery_file *next)
{
    uint32_t end = w->options->segment_bytes, torn = UINT32_MAX;
    bool known =
        next != NULL && next->first_known && position_segment(next->before) == file->sequence;
    if (known)
        end = MIN(end, position_offset(next->before));
    if (known && position_segment(next->torn_from) == file->sequence && next->torn_from != 0)
        torn = position_offset(next->torn_from);
    w->file = file;
    file->walked = true;
    w->at = w->batch_from = w->batch_used = w->solid = 0;
    w->report->segments++;
    for (uint32_t block = 0; block < end; block += w->options->block_bytes) {
        struct slice in;
        int r = recovery_disk_load(&w->disk, file, block, w->block, &in);
        if (r == 0)
            r = walk_block(w, block, slice_part(in, 0, end - block));
        if (r < 0)
            return r;
        w->report->bytes += in.size;
    }
    if (known) {
        uint32_t from = MAX(w->solid, w->at);
        lost(w, from, MIN(torn, end));
        lost(w, MAX(from, torn), end);
        judge(w, torn);
        return 0;
    }
    bool whole = w->pending == w->ranges.count && w->solid <= MAX(w->at, w->batch_used);
    if (next != NULL) {
        judge(w, UINT32_MAX);
        return 0;
    }
    /* The newest: the last write, or what there is of one behind it, was never completed. */
    uint32_t tail = MAX(w->at, (w->solid + BATCH_ALIGNMENT - 1) & ~(uint32_t)(BATCH_ALIGNMENT - 1));
    uint32_t first = w->solid > MAX(w->at, w->batch_used) ? w->at : w->batch_from;
    if (!whole && w->pending < w->ranges.count)
        first = MIN(first, position_offset(w->ranges.list[w->pending].position));
    w->recovery->end = log_position(file->sequence, tail);
    w->recovery->torn_from = whole ? 0 : log_position(file->sequence, first);
    judge(w, 0);
    if (w->options->prove)
        return recovery_disk_prove(&w->disk, file, MIN(first, w->batch_from), tail);
    return 0;
}

static int walk_all(struct walk *w, const char **why)
{
    struct recovery *recovery = w->recovery;
    *why = "a segment cannot be read, or the end of the log cannot be written";
    struct recovery_file *last = NULL;
    for (uint32_t i = 0; i < recovery->files_count; i++) {
        struct recovery_file *file = &recovery->files[i];
        if (file->sequence == 0 || file->sequence < w->oldest || file->size == 0) {
            w->report->segments_free++;
            continue;
        }
        recovery_disk_ahead(&w->disk, file); /* while the one before it is walked */
        int r = last != NULL ? walk_segment(w, last, file) : 0;
        if (r < 0)
            return r;
        last = file;
    }
    return last != NULL ? walk_segment(w, last, NULL) : 0;
}

/* ---- report ---- */

static int run(struct walk *w, const char **why)
{
    int r = identify(w, why);
    if (r < 0)
        return r;
    /* A killed process leaves writes that are in memory only. What is counted on from here on must
     * be on the disk; walk_segment sees to the last batch, which may have failed. */
    *why = "a segment cannot be synced";
    for (uint32_t i = 0; w->options->prove && i < w->recovery->files_count && r >= 0; i++)
        if (w->recovery->files[i].sequence >= MAX(w->oldest, 1u))
            r = recovery_disk_sync(&w->disk, &w->recovery->files[i]);
    if (r >= 0)
        r = walk_all(w, why);
    if (r < 0)
        return r;
    if (w->ranges.out_of_memory)
        return -ENOMEM;
    w->recovery->oldest = w->oldest;
    count_gone(w);
    w->report->highest_id = w->recovery->next_id > 0 ? w->recovery->next_id - 1 : 0;
    *why = "a message cannot be read back";
    return recovery_table_report(&w->table, w->oldest, w->report);
}

int recovery_run(struct ring *ring, const struct recovery_options *options,
                 struct recovery_report *report, struct recovery **out, const char **why)
{
    *report = (struct recovery_report) { 0 };
    struct walk w = { .ring = ring, .options = options, .report = report };
    *why = "out of memory";
    w.recovery = calloc(1, sizeof(*w.recovery));
    w.block = malloc(options->block_bytes);
    int r = -ENOMEM;
    if (w.recovery != NULL && w.block != NULL)
        r = recovery_disk_init(&w.disk, ring, options, w.recovery);
    recovery_table_init(&w.table, &w.disk, &w.ranges);
    if (r == 0)
        r = run(&w, why);
    recovery_disk_free(&w.disk);
    recovery_table_free(&w.table);
    free(w.ranges.list);
    free(w.block);
    if (r >= 0 && out != NULL)
        *out = w.recovery;
    else
        recovery_free(w.recovery);
    if (r >= 0)
        *why = NULL;
    return MIN(r, 0);
}

void recovery_free(struct recovery *recovery)
{
    if (recovery == NULL)
        return;
    free(recovery->files);
    free(recovery);
}
