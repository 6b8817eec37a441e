/*
 * test_record.c - a record is valid at its own place, with its own keys, untouched, and only then
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "queue/record.h"

static const struct record_keys keys = { 0x1111, 0x2222 };
static const uint64_t place = UINT64_C(7) << 32 | 8'192;

static uint32_t make(uint8_t *at, const char *payload)
{
    uint32_t bytes = (uint32_t)strlen(payload);
    memcpy(at + RECORD_HEAD_BYTES, payload, bytes);
    record_seal(at, RECORD_CHUNK, 42, bytes, place, keys.segment);
    return record_bytes(bytes);
}

Test(record, is_invalid_elsewhere_and_with_other_keys)
{
    uint8_t at[128];
    struct record record;
    uint32_t bytes = make(at, "some of the body");
    struct slice in = slice_of(at, bytes);
    cr_assert_eq(record_check(in, place + 8, keys, &record), RECORD_INVALID);
    cr_assert_eq(record_check(in, place + (UINT64_C(1) << 32), keys, &record), RECORD_INVALID);
    const struct record_keys other = { keys.log, keys.segment + 1 };
    cr_assert_eq(record_check(in, place, other, &record), RECORD_INVALID);
    cr_assert_eq(record_check(in, place, keys, &record), RECORD_OK);
}

Test(record, every_flipped_bit_is_seen)
{
    uint8_t at[128];
    struct record record;
    uint32_t bytes = make(at, "some of the body, 32 octets long");
    cr_assert_eq(bytes, RECORD_HEAD_BYTES + 32);
    for (uint32_t bit = 0; bit < bytes * 8; bit++) {
        at[bit / 8] ^= (uint8_t)(1u << bit % 8);
        enum record_check r = record_check(slice_of(at, bytes), place, keys, &record);
        cr_assert_eq(r, bit / 8 < RECORD_HEAD_BYTES ? RECORD_INVALID : RECORD_DAMAGED, "bit %u",
                     bit);
        at[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

Test(record, a_cut_one_is_cut)
{
    uint8_t at[128];
    struct record record;
    uint32_t bytes = make(at, "some of the body");
    for (uint32_t cut = 0; cut < bytes; cut++) {
        enum record_check r = record_check(slice_of(at, cut), place, keys, &record);
        cr_assert_eq(r, cut < RECORD_HEAD_BYTES ? RECORD_INVALID : RECORD_CUT);
    }
}

Test(record, find_steps_over_rubbish_and_over_forgeries)
{
    uint8_t at[1'024];
    memset(at, 0x5a, sizeof(at));
    memcpy(at + 512 + RECORD_HEAD_BYTES, "inner", 5); /* valid elsewhere: a body that quotes one */
    record_seal(at + 512, RECORD_MESSAGE, 9, 5, 64, keys.segment);
    memcpy(at + 256 + RECORD_HEAD_BYTES, "here", 4);
    record_seal(at + 256, RECORD_CHUNK, 42, 4, place + 256, keys.segment);
    size_t offset = 0, where;
    struct record record;
    struct slice in = slice_of(at, sizeof(at));
    cr_assert_eq(record_find(in, place, keys, &offset, &where, &record), RECORD_OK);
    cr_assert_eq(where, 256);
    cr_assert_eq(record.id, 42);
    cr_assert(slice_equal(record.payload, SLICE("here")));
    cr_assert_eq(record_find(in, place, keys, &offset, &where, &record), RECORD_INVALID);
}

Test(record, a_batch_of_another_log_or_place_is_refused)
{
    uint8_t at[BATCH_BYTES];
    struct batch out;
    const struct batch in = { .number = 5,
                              .seed = keys.log,
                              .key = 77,
                              .before = 1,
                              .torn_from = 2,
                              .durable = 3,
                              .next_id = 4,
                              .wall_us = -5,
                              .bytes = 8'192,
                              .used = 5'000,
                              .oldest = 6,
                              .log = 7,
                              .records = 8,
                              .segment_bytes = 1 << 20,
                              .block_bytes = 1 << 16 };
    batch_encode(&in, at, place);
    struct slice bytes = slice_of(at, sizeof(at));
    cr_assert_eq(batch_decode(bytes, place, keys.log + 1, &out), -EBADMSG);
    cr_assert_eq(batch_decode(bytes, place + 4'096, keys.log, &out), -EBADMSG);
    cr_assert_eq(batch_decode(slice_of(at, sizeof(at) - 1), place, keys.log, &out), -EBADMSG);
    cr_assert_eq(batch_decode(bytes, place, 0, &out), 0);
    cr_assert_eq(out.number, 5);
    cr_assert_eq(out.key, 77);
    cr_assert_eq(out.before, 1);
    cr_assert_eq(out.torn_from, 2);
    cr_assert_eq(out.durable, 3);
    cr_assert_eq(out.next_id, 4);
    cr_assert_eq(out.wall_us, -5);
    cr_assert_eq(out.bytes, 8'192);
    cr_assert_eq(out.used, 5'000);
    cr_assert_eq(out.oldest, 6);
    cr_assert_eq(out.log, 7);
    cr_assert_eq(out.records, 8);
}

Test(record, outcomes_are_bounded_and_come_back)
{
    char text[600];
    memset(text, 't', sizeof(text));
    const struct outcome in = { .recipient = 3,
                                .kind = OUTCOME_DEFERRED,
                                .flags = 1,
                                .code = 451,
                                .status = { 4, 7, 1 },
                                .attempts = 9,
                                .time_us = -1,
                                .due_us = 77,
                                .text = slice_of(text, sizeof(text)) };
    uint8_t *at = malloc(outcome_bytes(&in, OUTCOME_TEXT_MAX));
    size_t bytes = outcome_encode(&in, OUTCOME_TEXT_MAX, at);
    cr_assert_eq(bytes, OUTCOME_FIXED_BYTES + OUTCOME_TEXT_MAX);
    struct outcome out;
    for (size_t cut = 1; cut < bytes; cut++) {
        size_t cursor = 0;
        cr_assert_eq(outcome_next(slice_of(at, cut), &cursor, &out), -EBADMSG);
    }
    size_t cursor = 0;
    cr_assert_eq(outcome_next(slice_of(at, bytes), &cursor, &out), 1);
    cr_assert_eq(out.recipient, 3);
    cr_assert_eq(out.kind, OUTCOME_DEFERRED);
    cr_assert_eq(out.code, 451);
    cr_assert_eq(out.status[1], 7);
    cr_assert_eq(out.attempts, 9);
    cr_assert_eq(out.time_us, -1);
    cr_assert_eq(out.due_us, 77);
    cr_assert_eq(out.text.size, OUTCOME_TEXT_MAX);
    cr_assert_eq(outcome_next(slice_of(at, bytes), &cursor, &out), 0);
    free(at);
}

Test(record, the_newest_outcome_counts_and_final_ones_survive_all)
{
    struct outcome_filter filter = { 0 };
    struct outcome o = { .recipient = 1, .kind = OUTCOME_DEFERRED };
    cr_assert(outcome_counts(&filter, &o));
    cr_assert(!outcome_counts(&filter, &o));
    o = (struct outcome) { .recipient = OUTCOME_ALL, .kind = OUTCOME_HELD };
    cr_assert(outcome_counts(&filter, &o));
    cr_assert(!outcome_counts(&filter, &o));
    o = (struct outcome) { .recipient = 2, .kind = OUTCOME_DEFERRED };
    cr_assert(!outcome_counts(&filter, &o));
    o.kind = OUTCOME_DELIVERED;
    cr_assert(outcome_counts(&filter, &o));
    o.recipient = OUTCOME_RECIPIENTS_MAX;
    cr_assert(!outcome_counts(&filter, &o));
}

Test(record, a_message_head_with_sizes_that_do_not_add_up_is_refused)
{
    uint8_t lists[EXTENT_BYTES];
    extent_encode(&(struct extent) { 1, 2, 3 }, lists);
    struct message_head in = { .body_bytes = 9,
                               .units = 5,
                               .first_segment = 1,
                               .recipients = 1,
                               .extents_count = 1,
                               .extents = slice_of(lists, sizeof(lists)),
                               .envelope = SLICE("envelope"),
                               .tail = SLICE("tail") };
    size_t bytes = message_head_bytes(&in);
    uint8_t *at = malloc(bytes + 1);
    message_head_encode(&in, at);
    struct message_head out;
    for (size_t cut = 0; cut < bytes; cut++)
        cr_assert_eq(message_head_decode(slice_of(at, cut), &out), -EBADMSG);
    cr_assert_eq(message_head_decode(slice_of(at, bytes + 1), &out), -EBADMSG);
    cr_assert_eq(message_head_decode(slice_of(at, bytes), &out), 0);
    cr_assert(slice_equal(out.envelope, in.envelope));
    cr_assert(slice_equal(out.tail, in.tail));
    cr_assert_eq(extent_decode(out.extents, 0).bytes, 3);
    free(at);
}
