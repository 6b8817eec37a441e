/*
 * record.c - encoding, decoding and checking of what is in the log
 *
 *   head: magic 4, kind 1, zero 3, payload bytes 4, segment 4, id 8, payload checksum 8,
 *         checksum of these 32 bytes, seeded with secret and position 8
 *
 * Every decoder is given a slice and stays inside; fuzzed (tests/fuzz/fuzz_record.c).
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "queue/record.h"

#include <errno.h>

#include "core/check.h"
#include "queue/bytes.h"

enum { RECORD_MAGIC = 0x31535052 /* "RPS1" */, HEAD_CHECKED_BYTES = 32 };

/* An odd multiplier, so that neighbouring positions have unlike seeds. */
static const uint64_t position_multiplier = 0x9e3779b97f4a7c15;

static uint64_t head_checksum(const uint8_t *head, uint64_t position, uint64_t seed)
{
    return XXH3_64bits_withSeed(head, HEAD_CHECKED_BYTES, seed ^ (position * position_multiplier));
}

void record_seal(uint8_t *at, enum record_kind kind, uint64_t id, uint32_t payload_bytes,
                 uint64_t position, uint64_t key)
{
    CHECK(kind > 0);
    CHECK(kind < RECORD_KINDS);
    CHECK(position % RECORD_ALIGNMENT == 0);
    uint8_t *payload = at + RECORD_HEAD_BYTES;
    uint32_t bytes = record_bytes(payload_bytes);
    memset(payload + payload_bytes, 0, bytes - RECORD_HEAD_BYTES - payload_bytes);
    put_u32(at, RECORD_MAGIC);
    put_u32(at + 4, kind);
    put_u32(at + 8, payload_bytes);
    put_u32(at + 12, position_segment(position));
    put_u64(at + 16, id);
    put_u64(at + 24, XXH3_64bits(payload, payload_bytes));
    put_u64(at + 32, head_checksum(at, position, key));
}

enum record_check record_check_head(struct slice in, uint64_t position, struct record_keys keys,
                                    struct record *record)
{
    if (in.size < RECORD_HEAD_BYTES || get_u32(in.data) != RECORD_MAGIC)
        return RECORD_INVALID;
    uint32_t kind = get_u32(in.data + 4);
    uint32_t payload_bytes = get_u32(in.data + 8);
    if (kind == 0 || kind >= RECORD_KINDS || payload_bytes > INT32_MAX ||
        get_u32(in.data + 12) != position_segment(position) ||
        get_u64(in.data + 32) !=
            head_checksum(in.data, position, kind == RECORD_BATCH ? keys.log : keys.segment))
        return RECORD_INVALID;
    record->kind = (enum record_kind)kind;
    record->id = get_u64(in.data + 16);
    record->bytes = record_bytes(payload_bytes);
    record->payload = slice_of(in.data + RECORD_HEAD_BYTES, 0);
    if (record->bytes > in.size)
        return RECORD_CUT;
    record->payload.size = payload_bytes;
    return RECORD_OK;
}

enum record_check record_check(struct slice in, uint64_t position, struct record_keys keys,
                               struct record *record)
{
    enum record_check r = record_check_head(in, position, keys, record);
    if (r != RECORD_OK)
        return r;
    if (get_u64(in.data + 24) != XXH3_64bits(record->payload.data, record->payload.size))
        return RECORD_DAMAGED;
    return RECORD_OK;
}

bool record_zeros(const uint8_t *at)
{
    static const uint8_t zeros[RECORD_ZEROS_BYTES];
    return memcmp(at, zeros, sizeof(zeros)) == 0;
}

enum record_check record_find(struct slice in, uint64_t position, struct record_keys keys,
                              size_t *offset, size_t *at, struct record *record)
{
    while (*offset < in.size && in.size - *offset >= RECORD_HEAD_BYTES) {
        if (get_u32(in.data + *offset) == RECORD_MAGIC) {
            enum record_check r =
                record_check(slice_from(in, *offset), position + *offset, keys, record);
            if (r == RECORD_OK || r == RECORD_DAMAGED) {
                *at = *offset;
                *offset += record->bytes;
                return r;
            }
        }
        *offset += RECORD_ALIGNMENT;
        while (in.size - *offset >= RECORD_ZEROS_BYTES && record_zeros(in.data + *offset))
            *offset += RECORD_ZEROS_BYTES;
    }
    *offset = in.size;
    return RECORD_INVALID;
}

void batch_encode(const struct batch *batch, uint8_t *at, uint64_t position)
{
    uint8_t *p = at + RECORD_HEAD_BYTES;
    put_u64(p, batch->seed);
    put_u64(p + 8, batch->before);
    put_u64(p + 16, batch->torn_from);
    put_u64(p + 24, batch->durable);
    put_u64(p + 32, batch->next_id);
    put_u64(p + 40, (uint64_t)batch->wall_us);
    put_u32(p + 48, batch->bytes);
    put_u32(p + 52, batch->used);
    put_u32(p + 56, batch->oldest);
    put_u32(p + 60, batch->log);
    put_u32(p + 64, batch->records);
    put_u32(p + 68, batch->segment_bytes);
    put_u32(p + 72, batch->block_bytes);
    put_u32(p + 76, 0);
    put_u64(p + 80, batch->key);
    put_u64(p + 88, 0);
    record_seal(at, RECORD_BATCH, batch->number, BATCH_PAYLOAD_BYTES, position, batch->seed);
}

int batch_decode(struct slice in, uint64_t position, uint64_t seed, struct batch *batch)
{
    if (in.size < BATCH_BYTES)
        return -EBADMSG;
    const uint8_t *p = in.data + RECORD_HEAD_BYTES;
    *batch = (struct batch) { .seed = get_u64(p) };
    struct record record;
    if ((seed != 0 && batch->seed != seed) ||
        record_check(in, position, (struct record_keys) { .log = batch->seed }, &record) !=
            RECORD_OK ||
        record.kind != RECORD_BATCH || record.payload.size != BATCH_PAYLOAD_BYTES)
        return -EBADMSG;
    batch->number = record.id;
    batch->before = get_u64(p + 8);
    batch->torn_from = get_u64(p + 16);
    batch->durable = get_u64(p + 24);
    batch->next_id = get_u64(p + 32);
    batch->wall_us = (int64_t)get_u64(p + 40);
    batch->bytes = get_u32(p + 48);
    batch->used = get_u32(p + 52);
    batch->oldest = get_u32(p + 56);
    batch->log = get_u32(p + 60);
    batch->records = get_u32(p + 64);
    batch->segment_bytes = get_u32(p + 68);
    batch->block_bytes = get_u32(p + 72);
    batch->key = get_u64(p + 80);
    if (batch->bytes == 0 || batch->bytes % BATCH_ALIGNMENT != 0 || batch->used < BATCH_BYTES ||
        batch->used > batch->bytes || batch->block_bytes < batch->bytes || batch->seed == 0)
        return -EBADMSG;
    return 0;
}

void extent_encode(const struct extent *extent, uint8_t *out)
{
    put_u32(out, extent->segment);
    put_u32(out + 4, extent->offset);
    put_u32(out + 8, extent->bytes);
}

struct extent extent_decode(struct slice list, uint32_t index)
{
    CHECK(((size_t)index + 1) * EXTENT_BYTES <= list.size);
    const uint8_t *at = list.data + (size_t)index * EXTENT_BYTES;
    return (struct extent) { get_u32(at), get_u32(at + 4), get_u32(at + 8) };
}

size_t message_head_bytes(const struct message_head *head)
{
    return MESSAGE_FIXED_BYTES + ((size_t)head->index_count + head->extents_count) * EXTENT_BYTES +
           head->envelope.size + head->outcome_bytes.size + head->tail.size;
}

static uint8_t *put_slice(uint8_t *out, struct slice s)
{
    if (s.data != NULL && s.size > 0)
        memcpy(out, s.data, s.size);
    return out + s.size;
}

void message_head_encode(const struct message_head *head, uint8_t *out)
{
    CHECK(head->index.size == (size_t)head->index_count * EXTENT_BYTES);
    CHECK(head->extents.size == (size_t)head->extents_count * EXTENT_BYTES);
    put_u64(out, head->body_bytes);
    put_u32(out + 8, head->units);
    put_u32(out + 12, head->first_segment);
    put_u32(out + 16, head->recipients);
    put_u32(out + 20, head->outcomes);
    put_u32(out + 24, head->index_count);
    put_u32(out + 28, head->extents_count);
    put_u32(out + 32, (uint32_t)head->envelope.size);
    put_u32(out + 36, (uint32_t)head->outcome_bytes.size);
    put_u32(out + 40, (uint32_t)head->tail.size);
    put_u32(out + 44, head->flags);
    out = put_slice(out + MESSAGE_FIXED_BYTES, head->index);
    out = put_slice(out, head->extents);
    out = put_slice(out, head->envelope);
    out = put_slice(out, head->outcome_bytes);
    put_slice(out, head->tail);
}

int message_head_decode(struct slice in, struct message_head *head)
{
    if (in.size < MESSAGE_FIXED_BYTES)
        return -EBADMSG;
    *head = (struct message_head) {
        .body_bytes = get_u64(in.data),
        .units = get_u32(in.data + 8),
        .first_segment = get_u32(in.data + 12),
        .recipients = get_u32(in.data + 16),
        .outcomes = get_u32(in.data + 20),
        .index_count = get_u32(in.data + 24),
        .extents_count = get_u32(in.data + 28),
        .flags = get_u32(in.data + 44),
    };
    struct slice *parts[] = { &head->index, &head->extents, &head->envelope, &head->outcome_bytes,
                              &head->tail };
    uint64_t sizes[] = { (uint64_t)head->index_count * EXTENT_BYTES,
                         (uint64_t)head->extents_count * EXTENT_BYTES, get_u32(in.data + 32),
                         get_u32(in.data + 36), get_u32(in.data + 40) };
    size_t at = MESSAGE_FIXED_BYTES;
    for (unsigned i = 0; i < ARRAY_COUNT(parts); i++) {
        if (sizes[i] > in.size - at)
            return -EBADMSG;
        *parts[i] = slice_of(in.data + at, (size_t)sizes[i]);
        at += (size_t)sizes[i];
    }
    return at == in.size ? 0 : -EBADMSG;
}

size_t outcome_bytes(const struct outcome *outcome, size_t text_max)
{
    return OUTCOME_FIXED_BYTES + MIN(outcome->text.size, MIN(text_max, (size_t)OUTCOME_TEXT_MAX));
}

size_t outcome_encode(const struct outcome *outcome, size_t text_max, uint8_t *out)
{
    CHECK(outcome->kind > 0);
    CHECK(outcome->kind < OUTCOME_KINDS);
    size_t bytes = outcome_bytes(outcome, text_max);
    put_u32(out, outcome->recipient);
    out[4] = outcome->kind;
    out[5] = outcome->flags;
    put_u16(out + 6, outcome->code);
    put_u16(out + 8, outcome->status[0]);
    put_u16(out + 10, outcome->status[1]);
    put_u16(out + 12, outcome->status[2]);
    put_u16(out + 14, (uint16_t)(bytes - OUTCOME_FIXED_BYTES));
    put_u64(out + 16, (uint64_t)outcome->time_us);
    put_u64(out + 24, (uint64_t)outcome->due_us);
    put_u32(out + 32, outcome->attempts);
    put_u32(out + 36, 0);
    if (bytes > OUTCOME_FIXED_BYTES)
        memcpy(out + OUTCOME_FIXED_BYTES, outcome->text.data, bytes - OUTCOME_FIXED_BYTES);
    return bytes;
}

int outcome_next(struct slice in, size_t *cursor, struct outcome *outcome)
{
    if (*cursor == in.size)
        return 0;
    if (*cursor > in.size || in.size - *cursor < OUTCOME_FIXED_BYTES)
        return -EBADMSG;
    const uint8_t *at = in.data + *cursor;
    size_t text_bytes = get_u16(at + 14);
    if (at[4] == 0 || at[4] >= OUTCOME_KINDS || text_bytes > OUTCOME_TEXT_MAX ||
        text_bytes > in.size - *cursor - OUTCOME_FIXED_BYTES)
        return -EBADMSG;
    *outcome = (struct outcome) {
        .recipient = get_u32(at),
        .kind = at[4],
        .flags = at[5],
        .code = get_u16(at + 6),
        .status = { get_u16(at + 8), get_u16(at + 10), get_u16(at + 12) },
        .attempts = get_u32(at + 32),
        .time_us = (int64_t)get_u64(at + 16),
        .due_us = (int64_t)get_u64(at + 24),
        .text = slice_of(at + OUTCOME_FIXED_BYTES, text_bytes),
    };
    *cursor += OUTCOME_FIXED_BYTES + text_bytes;
    return 1;
}

bool outcome_counts(struct outcome_filter *filter, const struct outcome *outcome)
{
    if (filter->all_seen && !outcome_final(outcome->kind))
        return false;
    if (outcome->recipient == OUTCOME_ALL) {
        bool first = !filter->all_seen;
        filter->all_seen = true;
        return first;
    }
    if (outcome->recipient >= OUTCOME_RECIPIENTS_MAX)
        return false;
    uint8_t *octet = &filter->seen[outcome->recipient / 8];
    uint8_t bit = (uint8_t)(1u << outcome->recipient % 8);
    bool first = (*octet & bit) == 0;
    *octet |= bit;
    return first;
}

void outcome_head_encode(uint64_t previous, uint32_t count, uint8_t *out)
{
    put_u64(out, previous);
    put_u32(out + 8, count);
    put_u32(out + 12, 0);
}

int outcome_head_decode(struct slice payload, struct outcome_head *head)
{
    if (payload.size < OUTCOME_HEAD_BYTES)
        return -EBADMSG;
    head->previous = get_u64(payload.data);
    head->count = get_u32(payload.data + 8);
    head->outcomes = slice_from(payload, OUTCOME_HEAD_BYTES);
    size_t cursor = 0;
    struct outcome outcome;
    uint32_t count = 0;
    int r;
    while ((r = outcome_next(head->outcomes, &cursor, &outcome)) == 1)
        count++;
    return r == 0 && count == head->count ? 0 : -EBADMSG;
}
