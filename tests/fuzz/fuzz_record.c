/*
 * fuzz_record.c - whatever is on the disk: recovery ends, stays inside, finds what is intact
 *
 * The first octet chooses: a decoder alone, or a whole log. That log is built here once, valid,
 * with messages, chunks and outcomes in three segments; then the input changes a copy, four octets
 * a change (file and place, value). Each message of which nothing was touched must be found with
 * its outcomes, unless nothing names its segment any more (each BATCH in it was touched); a live
 * one that is not found must have been told of; nothing else may be found.
 */
#include <errno.h>
#include <stdlib.h>

#include "core/check.h"
#include "queue/recovery.h"
#include "queue/recovery_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    SEGMENT = 16 * 1'024,
    BLOCK = 8 * 1'024,
    FILES = 3,
    BATCHES = 3, /* a segment */
    MESSAGES = FILES * BATCHES,
    KEY = 0x4b4b,
    SEED = 0x5eed,
    IDENTITY_FD = 99,
};

static struct {
    uint8_t files[FILES][SEGMENT];
    uint8_t intact[FILES][SEGMENT]; /* as built */
    struct place {
        uint32_t file, offset, bytes;
    } parts[MESSAGES][3], batches[FILES][BATCHES]; /* MESSAGE, CHUNK, OUTCOME; bytes 0: none */
    bool found[MESSAGES];
    bool finished[MESSAGES];
} log_;

/* ---- a ring with files in memory ---- */

static int fake_open(struct ring *ring, const char *path, int flags, unsigned mode)
{
    (void)ring, (void)flags, (void)mode;
    const char *digits = strrchr(path, '-');
    if (strcmp(path, "log/identity") == 0)
        return IDENTITY_FD;
    if (strstr(path, "segment-") == NULL || digits == NULL)
        return -ENOENT;
    int file = atoi(digits + 1);
    return file < FILES ? 100 + file : -ENOENT;
}

static int fake_close(struct ring *ring, int fd)
{
    (void)ring, (void)fd;
    return 0;
}

static int64_t fake_read(struct ring *ring, int fd, void *to, size_t bytes, uint64_t offset)
{
    (void)ring;
    uint8_t identity[RECORD_HEAD_BYTES + 8] = { [RECORD_HEAD_BYTES] = SEED & 0xff, SEED >> 8 };
    if (fd == IDENTITY_FD) {
        CHECK(bytes == sizeof(identity));
        record_seal(identity, RECORD_CHUNK, 0, 8, 0, 0);
        memcpy(to, identity, sizeof(identity));
        return sizeof(identity);
    }
    CHECK(fd >= 100 && fd < 100 + FILES);
    if (offset >= SEGMENT)
        return 0;
    bytes = MIN(bytes, SEGMENT - (size_t)offset);
    memcpy(to, log_.files[fd - 100] + offset, bytes);
    return (int64_t)bytes;
}

static int fake_sync(struct ring *ring, int fd)
{
    (void)ring, (void)fd;
    return 0;
}

static int fake_stat(struct ring *ring, int fd, struct ring_stat *stat)
{
    (void)ring, (void)fd;
    *stat = (struct ring_stat) { .size = SEGMENT, .free_disk = 0 };
    return 0;
}

static int fake_list(struct ring *ring, const char *path, void (*each)(void *, const char *),
                     void *argument)
{
    (void)ring, (void)path;
    each(argument, "segment-000002");
    each(argument, "segment-000000");
    each(argument, "segment-000001");
    each(argument, "identity");
    return 0;
}

static const struct ring_ops fake_ops = {
    .now_open = fake_open,
    .now_close = fake_close,
    .now_read = fake_read,
    .now_sync = fake_sync,
    .now_stat = fake_stat,
    .now_list = fake_list,
};

/* ---- a valid log ---- */

static struct place put(uint32_t file, uint32_t *offset, enum record_kind kind, uint64_t id,
                        uint32_t payload_bytes)
{
    record_seal(log_.files[file] + *offset, kind, id, payload_bytes,
                log_position(file + 1, *offset), KEY + file);
    struct place place = { file, *offset, record_bytes(payload_bytes) };
    *offset += place.bytes;
    return place;
}

static void put_message(uint32_t file, uint32_t *offset, unsigned m)
{
    struct extent extent = { 0 };
    uint8_t list[EXTENT_BYTES];
    struct recipient recipients[2] = { { .address = SLICE("a@example.org") },
                                       { .address = SLICE("b@example.org") } };
    struct envelope envelope = { .recipients_count = 1 + m % 2, .recipients = recipients };
    if (m % 3 == 0) {
        memset(log_.files[file] + *offset + RECORD_HEAD_BYTES, 'c', 300);
        log_.parts[m][1] = put(file, offset, RECORD_CHUNK, m + 1, 300);
        extent = (struct extent) { file + 1, log_.parts[m][1].offset, 300 };
    }
    extent_encode(&extent, list);
    struct message_head head = {
        .body_bytes = m % 3 == 0 ? 304 : 4,
        .units = 50,
        .first_segment = file + 1,
        .recipients = envelope.recipients_count,
        .extents_count = m % 3 == 0,
        .extents = slice_of(list, m % 3 == 0 ? sizeof(list) : 0),
        .envelope = slice_of(NULL, envelope_bytes(&envelope)),
        .tail = SLICE("tail"),
    };
    uint8_t *payload = log_.files[file] + *offset + RECORD_HEAD_BYTES;
    message_head_encode(&head, payload);
    envelope_encode(&envelope, payload + MESSAGE_FIXED_BYTES + head.extents.size);
    log_.parts[m][0] =
        put(file, offset, RECORD_MESSAGE, m + 1, (uint32_t)message_head_bytes(&head));
}

/* Of the message before: one recipient delivered; that ends every second message. */
static void put_outcome(uint32_t file, uint32_t *offset, unsigned m)
{
    uint8_t *payload = log_.files[file] + *offset + RECORD_HEAD_BYTES;
    struct outcome outcome = { .kind = OUTCOME_DELIVERED, .text = SLICE("ok") };
    outcome_head_encode(0, 1, payload);
    size_t bytes = outcome_encode(&outcome, OUTCOME_TEXT_MAX, payload + OUTCOME_HEAD_BYTES);
    log_.parts[m][2] =
        put(file, offset, RECORD_OUTCOME, m + 1, (uint32_t)(OUTCOME_HEAD_BYTES + bytes));
    log_.finished[m] = m % 2 == 0;
}

static void build(void)
{
    memset(&log_, 0, sizeof(log_));
    uint64_t before = 0;
    for (unsigned m = 0; m < MESSAGES; m++) {
        uint32_t file = m / BATCHES;
        /* A batch takes one or two of a block's 4 KiB pages; ends of blocks stay empty. */
        uint32_t start = m % BATCHES * BATCH_ALIGNMENT, offset = start + BATCH_BYTES;
        put_message(file, &offset, m);
        if (m % 4 == 1)
            put_outcome(file, &offset, m - 1);
        struct batch batch = { .number = m + 1,
                               .seed = SEED,
                               .key = KEY + file,
                               .before = before,
                               .durable = before,
                               .next_id = m + 2,
                               .bytes = BATCH_ALIGNMENT,
                               .used = offset - start,
                               .oldest = 1,
                               .records = 3,
                               .segment_bytes = SEGMENT,
                               .block_bytes = BLOCK };
        batch_encode(&batch, log_.files[file] + start, log_position(file + 1, start));
        log_.batches[file][m % BATCHES] = (struct place) { file, start, BATCH_BYTES };
        before = log_position(file + 1, start + BATCH_ALIGNMENT);
    }
    memcpy(log_.intact, log_.files, sizeof(log_.files));
}

static bool is_touched(struct place place)
{
    return memcmp(log_.files[place.file] + place.offset, log_.intact[place.file] + place.offset,
                  place.bytes) != 0;
}

static void on_found(void *owner, const struct recovered *recovered)
{
    (void)owner;
    uint64_t id = recovered->stored.id;
    CHECK(id >= 1 && id <= MESSAGES);
    CHECK(!log_.found[id - 1]);
    log_.found[id - 1] = true;
    CHECK(recovered->envelope.recipients_count == 1 + (id - 1) % 2);
    size_t cursor = 0;
    struct recipient recipient;
    while (envelope_next(&recovered->envelope, &cursor, &recipient))
        CHECK(recipient.address.size == 13);
    if (!is_touched(log_.parts[id - 1][1]))
        CHECK(!recovered->damaged);
}

static void check_log(const struct recovery_report *report)
{
    bool told = report->damages + report->torn_bytes + report->segments_gone +
                    report->messages_damaged + report->messages_torn >
                0;
    for (unsigned m = 0; m < MESSAGES; m++) {
        bool named = false;
        for (unsigned b = 0; b < BATCHES; b++)
            named = named || !is_touched(log_.batches[m / BATCHES][b]);
        bool whole = !is_touched(log_.parts[m][0]) && !is_touched(log_.parts[m][1]);
        if (log_.finished[m])
            CHECK(!log_.found[m] || is_touched(log_.parts[m][2]) || !named);
        else if (whole && named)
            CHECK(log_.found[m]);
        else if (!log_.found[m] && m != MESSAGES - 1 && m / BATCHES != FILES - 1)
            CHECK(told);
    }
}

static void fuzz_log(const uint8_t *data, size_t size)
{
    static const struct recovery_options options = { .directory = "log",
                                                     .segment_bytes = SEGMENT,
                                                     .block_bytes = BLOCK,
                                                     .segments_max = 8,
                                                     .found = on_found };
    static bool built;
    if (!built)
        build();
    built = true;
    memcpy(log_.files, log_.intact, sizeof(log_.files));
    memset(log_.found, 0, sizeof(log_.found));
    for (size_t i = 0; i + 4 <= size; i += 4) {
        uint32_t file = data[i] % FILES;
        uint32_t place = (data[i + 1] | (uint32_t)data[i + 2] << 8) % SEGMENT;
        if (data[i + 3] == 0)
            continue;
        log_.files[file][place] ^= data[i + 3];
    }
    struct ring ring = { .ops = &fake_ops };
    struct recovery_report report;
    struct recovery *recovery = NULL;
    const char *why = NULL;
    int r = recovery_run(&ring, &options, &report, &recovery, &why);
    if (r < 0)
        abort();
    check_log(&report);
    recovery_free(recovery);
}

static void fuzz_raw(struct slice in)
{
    memset(log_.files, 0, sizeof(log_.files));
    memcpy(log_.files[0], in.data, MIN(in.size, (size_t)SEGMENT));
    static const struct recovery_options options = {
        .directory = "log", .segment_bytes = SEGMENT, .block_bytes = BLOCK, .segments_max = 8
    };
    struct ring ring = { .ops = &fake_ops };
    struct recovery_report report;
    struct recovery *recovery = NULL;
    const char *why = NULL;
    if (recovery_run(&ring, &options, &report, &recovery, &why) == 0)
        recovery_free(recovery);
}

static void fuzz_decoders(struct slice in)
{
    struct envelope envelope;
    struct recipient recipient;
    size_t cursor = 0;
    uint32_t count = 0;
    if (envelope_decode(in, &envelope) == 0) {
        while (envelope_next(&envelope, &cursor, &recipient))
            count++;
        CHECK(count == envelope.recipients_count);
    }
    struct message_head head;
    if (message_head_decode(in, &head) == 0) {
        for (uint32_t i = 0; i < head.extents_count; i++)
            (void)extent_decode(head.extents, i);
        CHECK(message_head_bytes(&head) == in.size);
    }
    struct outcome_head outcomes;
    (void)outcome_head_decode(in, &outcomes);
    struct outcome outcome;
    struct outcome_filter filter = { 0 };
    cursor = 0;
    while (outcome_next(in, &cursor, &outcome) == 1)
        (void)outcome_counts(&filter, &outcome);
    struct batch batch;
    (void)batch_decode(in, log_position(1, 0), 0, &batch);
    struct record record;
    size_t offset = 0, at;
    const struct record_keys keys = { SEED, KEY };
    while (record_find(in, log_position(1, 0), keys, &offset, &at, &record) != RECORD_INVALID)
        CHECK(offset <= in.size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    if (data[0] % 4 == 0)
        fuzz_decoders(slice_of(data + 1, size - 1));
    else if (data[0] % 4 == 1)
        fuzz_raw(slice_of(data + 1, size - 1));
    else
        fuzz_log(data + 1, size - 1);
    return 0;
}
