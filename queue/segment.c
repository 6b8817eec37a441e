/*
 * segment.c - preparing, taking and retiring the files of a log
 *
 * Prepared one at a time, in the order that lets power go at any moment: the file with all its
 * zeros is synced, then the directory, and only then is it free to be used. What a crash leaves
 * behind before that is a short file, or one without a name: both are prepared again. A file that
 * was used before needs nothing: its name and its size are on the disk, and what is in it carries
 * old sequence numbers. Owns the files. One operation is in flight at most.
 */
#include "queue/segment.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "core/check.h"

enum { PREPARE_PIECE = 256 * 1'024, PREPARE_RETRY_MS = 1'000, FILE_MODE = 0600 };

size_t segment_path(const char *directory, uint32_t number, char out[static SEGMENT_PATH_MAX])
{
    int n = snprintf(out, SEGMENT_PATH_MAX, "%s/segment-%06u", directory, (unsigned)number);
    CHECK(n > 0);
    CHECK(n < SEGMENT_PATH_MAX);
    return (size_t)n;
}

static void set_state(struct segments *s, struct segment *segment, enum segment_state state)
{
    s->states[segment->state]--;
    s->states[state]++;
    segment->state = (uint8_t)state;
}

static uint32_t power_of_two(uint32_t at_least)
{
    uint32_t n = 1;
    while (n < at_least)
        n *= 2;
    return n;
}

static void on_landed(struct op *op, int res, unsigned flags)
{
    (void)flags;
    struct segments *s = container_of(op, struct segments, op);
    s->landed = true;
    s->result = res;
}

int segments_init(struct segments *s, struct shard *shard, const char *directory,
                  uint32_t segment_bytes, uint32_t count, uint32_t reserve, uint32_t ahead)
{
    CHECK(segment_bytes % PREPARE_PIECE == 0);
    *s = (struct segments) {
        .shard = shard,
        .directory = directory,
        .segment_bytes = segment_bytes,
        .count = count,
        .reserve = reserve,
        .ahead = ahead,
        .oldest = 1,
        .name = { -1, -1 },
        .op = { .landed = on_landed },
        .direct = O_DIRECT,
    };
    s->states[SEGMENT_NONE] = count;
    s->by_mask = power_of_two(2 * count) - 1;
    s->files = calloc(count, sizeof(*s->files));
    s->by_sequence = calloc((size_t)s->by_mask + 1, sizeof(*s->by_sequence));
    s->zeros =
        mmap(NULL, PREPARE_PIECE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s->zeros == MAP_FAILED)
        s->zeros = NULL;
    if (s->files == NULL || s->by_sequence == NULL || s->zeros == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++)
        s->files[i].file = (struct ring_file) { -1, -1 };
    int fd = shard->ring->ops->now_open(shard->ring, directory,
                                        O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd;
    int r = ring_file_adopt(shard->ring, fd, &s->name);
    if (r < 0) {
        (void)shard->ring->ops->now_close(shard->ring, fd);
        return r;
    }
    /* Names that an earlier run made and did not live to sync. */
    r = shard->ring->ops->now_sync(shard->ring, s->name.fd);
    segments_tick(s);
    return r;
}

void segments_free(struct segments *s)
{
    CHECK(segments_idle(s));
    for (uint32_t i = 0; s->files != NULL && i < s->count; i++)
        if (s->files[i].file.fd >= 0)
            ring_file_close(s->shard->ring, &s->files[i].file);
    if (s->name.fd >= 0)
        ring_file_close(s->shard->ring, &s->name);
    free(s->files);
    free(s->by_sequence);
    if (s->zeros != NULL)
        munmap(s->zeros, PREPARE_PIECE);
    s->files = NULL;
}

bool segments_idle(const struct segments *s)
{
    return s->step == PREPARE_IDLE;
}

static uint32_t *slot_of(const struct segments *s, uint32_t sequence)
{
    return &s->by_sequence[sequence & s->by_mask];
}

struct segment *segments_find(const struct segments *s, uint32_t sequence)
{
    uint32_t index = *slot_of(s, sequence);
    if (index == 0 || s->files[index - 1].sequence != sequence)
        return NULL;
    return &s->files[index - 1];
}

static void name_segment(struct segments *s, struct segment *segment, uint32_t sequence)
{
    CHECK(*slot_of(s, sequence) == 0);
    segment->sequence = sequence;
    *slot_of(s, sequence) = (uint32_t)(segment - s->files) + 1;
}

static void unname_segment(struct segments *s, struct segment *segment)
{
    if (segment->sequence != 0)
        *slot_of(s, segment->sequence) = 0;
    segment->sequence = 0;
    segment->holders = 0;
    segment->bytes = 0;
}

/* Opens a file on the spot, without O_DIRECT where that is refused (tmpfs). */
static int open_now(struct segments *s, struct segment *segment, int flags)
{
    struct ring *ring = s->shard->ring;
    segment_path(s->directory, (uint32_t)(segment - s->files), s->path);
    flags |= O_RDWR | O_CLOEXEC | O_NOFOLLOW;
    int fd = ring->ops->now_open(ring, s->path, flags | s->direct, FILE_MODE);
    if (fd == -EINVAL && s->direct != 0) {
        s->direct = 0;
        fd = ring->ops->now_open(ring, s->path, flags, FILE_MODE);
    }
    if (fd < 0)
        return fd;
    int r = ring_file_adopt(ring, fd, &segment->file);
    if (r < 0)
        (void)ring->ops->now_close(ring, fd);
    return r;
}

int segments_adopt(struct segments *s, uint32_t number, uint32_t sequence, uint64_t key,
                   uint32_t bytes)
{
    if (number >= s->count)
        return -ENFILE;
    struct segment *segment = &s->files[number];
    CHECK(segment->state == SEGMENT_NONE);
    if (sequence != 0 && *slot_of(s, sequence) != 0)
        return -EEXIST;
    int r = open_now(s, segment, 0);
    if (r < 0)
        return r;
    struct ring_stat stat;
    r = s->shard->ring->ops->now_stat(s->shard->ring, segment->file.fd, &stat);
    if (r < 0)
        return r;
    if (sequence == 0) {
        if (stat.size >= s->segment_bytes)
            set_state(s, segment, SEGMENT_FREE);
        else /* half prepared */
            ring_file_close(s->shard->ring, &segment->file);
        return 0;
    }
    set_state(s, segment, SEGMENT_USED);
    name_segment(s, segment, sequence);
    segment->bytes = bytes;
    segment->key = key;
    return 0;
}

int segments_first(struct segments *s)
{
    struct ring *ring = s->shard->ring;
    if (s->states[SEGMENT_FREE] > 0 || s->states[SEGMENT_NONE] == 0)
        return 0;
    struct segment *segment = s->files;
    while (segment->state != SEGMENT_NONE)
        segment++;
    int r = open_now(s, segment, O_CREAT);
    if (r < 0)
        return r;
    int fd = segment->file.fd;
    for (uint32_t at = 0; at < s->segment_bytes && r >= 0; at += PREPARE_PIECE) {
        int64_t n = ring->ops->now_write(ring, fd, s->zeros, PREPARE_PIECE, at);
        r = n < 0 ? (int)n : n < PREPARE_PIECE ? -ENOSPC : 0;
    }
    if (r >= 0)
        r = ring->ops->now_sync(ring, fd);
    if (r >= 0)
        r = ring->ops->now_sync(ring, s->name.fd);
    if (r < 0) {
        ring_file_close(ring, &segment->file);
        segment->file = (struct ring_file) { -1, -1 };
        (void)ring->ops->now_unlink(ring, s->path);
        return r;
    }
    set_state(s, segment, SEGMENT_FREE);
    return 0;
}

void segments_tick(struct segments *s)
{
    struct ring_stat stat;
    if (s->shard->ring->ops->now_stat(s->shard->ring, s->name.fd, &stat) == 0)
        s->free_disk = stat.free_disk;
}

/* As many as the disk has room for, and so many of count not among them. A failed one has its room.
 */
static uint32_t left_without(const struct segments *s, uint32_t extra)
{
    uint64_t room = s->free_disk / s->segment_bytes;
    uint64_t makeable = (uint64_t)s->states[SEGMENT_NONE] + s->states[SEGMENT_PREPARING];
    uint32_t takeable = s->count - s->states[SEGMENT_USED];
    uint32_t left =
        s->states[SEGMENT_FREE] + s->states[SEGMENT_FAILED] + (uint32_t)MIN(room, makeable);
    return MIN(left, takeable - MIN(takeable, extra));
}

uint32_t segments_left(const struct segments *s)
{
    return left_without(s, s->extra + s->extra_moves);
}

static bool may_take(const struct segments *s, enum segment_use use)
{
    switch (use) {
    case SEGMENT_FOR_MAIL: return segments_left(s) > s->reserve;
    case SEGMENT_FOR_OUTCOMES: return left_without(s, s->extra_moves) > s->for_moves;
    case SEGMENT_FOR_MOVES: break;
    }
    return left_without(s, 0) > 0;
}

bool segments_last(const struct segments *s)
{
    return !may_take(s, SEGMENT_FOR_OUTCOMES);
}

bool segments_none(const struct segments *s)
{
    return !may_take(s, SEGMENT_FOR_MOVES);
}

int segments_take(struct segments *s, enum segment_use use, struct segment **segment)
{
    if (!may_take(s, use) || s->newest + 1 - s->oldest > s->by_mask)
        return -ENOSPC;
    if (s->states[SEGMENT_FREE] == 0)
        return s->retry_ms > s->shard->now_ms ? -ENOSPC : -EAGAIN;
    struct segment *free = s->files;
    while (free->state != SEGMENT_FREE)
        free++;
    set_state(s, free, SEGMENT_USED);
    name_segment(s, free, ++s->newest);
    free->key = random_next(&s->shard->random);
    *segment = free;
    return 0;
}

void segments_hold(struct segments *s, uint32_t sequence)
{
    struct segment *segment = segments_find(s, sequence);
    if (segment != NULL)
        segment->holders++;
}

void segments_release(struct segments *s, uint32_t sequence)
{
    struct segment *segment = segments_find(s, sequence);
    if (segment == NULL) /* it failed, and took its holders with it */
        return;
    CHECK(segment->holders > 0);
    segment->holders--;
}

void segments_advance(struct segments *s, uint32_t limit)
{
    while (s->oldest < limit) {
        const struct segment *segment = segments_find(s, s->oldest);
        if (segment != NULL && segment->holders > 0)
            return;
        s->oldest++;
    }
}

uint64_t segments_retire(struct segments *s, uint32_t oldest)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        struct segment *segment = &s->files[i];
        if (segment->state != SEGMENT_USED || segment->sequence >= oldest)
            continue;
        CHECK(segment->holders == 0);
        bytes += segment->bytes;
        unname_segment(s, segment);
        set_state(s, segment, segment->suspect ? SEGMENT_FAILED : SEGMENT_FREE);
    }
    return bytes;
}

void segments_fail(struct segments *s, struct segment *segment, bool durable)
{
    segment->suspect = true;
    if (durable)
        return;
    unname_segment(s, segment);
    set_state(s, segment, SEGMENT_FAILED);
}

/* ---- preparing ---- */

static void prepare_fill(struct segments *s)
{
    s->step = PREPARE_FILL;
    ring_write(s->shard->ring, &s->op, &s->preparing->file, s->zeros, PREPARE_PIECE, s->filled, 0);
}

static void prepare_open(struct segments *s)
{
    s->step = PREPARE_OPEN;
    segment_path(s->directory, (uint32_t)(s->preparing - s->files), s->path);
    ring_open(s->shard->ring, &s->op, s->path,
              O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | s->direct, FILE_MODE);
}

/* A file that could not be finished takes no space, and is tried again in a while. */
static void prepare_failed(struct segments *s)
{
    struct ring *ring = s->shard->ring;
    struct segment *segment = s->preparing;
    if (segment->file.fd >= 0)
        ring_file_close(ring, &segment->file);
    segment->file = (struct ring_file) { -1, -1 };
    segment_path(s->directory, (uint32_t)(segment - s->files), s->path);
    (void)ring->ops->now_unlink(ring, s->path);
    segment->suspect = false;
    set_state(s, segment, SEGMENT_NONE);
    s->preparing = NULL;
    s->step = PREPARE_IDLE;
    s->retry_ms = s->shard->now_ms + PREPARE_RETRY_MS;
    segments_tick(s);
}

static void prepare_begin(struct segments *s)
{
    struct segment *segment = NULL;
    bool room = s->free_disk >= s->segment_bytes;
    for (uint32_t i = 0; i < s->count && segment == NULL; i++)
        if ((s->files[i].state == SEGMENT_NONE && room) || s->files[i].state == SEGMENT_FAILED)
            segment = &s->files[i];
    if (segment == NULL)
        return;
    set_state(s, segment, SEGMENT_PREPARING);
    s->preparing = segment;
    s->filled = 0;
    if (segment->file.fd >= 0)
        prepare_fill(s);
    else
        prepare_open(s);
}

static void prepare_opened(struct segments *s, int fd)
{
    if (fd == -EINVAL && s->direct != 0) {
        s->direct = 0;
        prepare_open(s);
        return;
    }
    if (fd < 0) {
        prepare_failed(s);
        return;
    }
    if (ring_file_adopt(s->shard->ring, fd, &s->preparing->file) < 0) {
        (void)s->shard->ring->ops->now_close(s->shard->ring, fd);
        prepare_failed(s);
        return;
    }
    prepare_fill(s);
}

static void prepare_filled(struct segments *s, int res)
{
    if (res != PREPARE_PIECE) {
        prepare_failed(s);
        return;
    }
    s->filled += PREPARE_PIECE;
    if (s->filled < s->segment_bytes) {
        prepare_fill(s);
        return;
    }
    s->step = PREPARE_SYNC;
    ring_sync(s->shard->ring, &s->op, &s->preparing->file);
}

static void prepare_synced(struct segments *s, int res)
{
    if (res < 0) {
        prepare_failed(s);
        return;
    }
    s->step = PREPARE_NAME;
    ring_sync(s->shard->ring, &s->op, &s->name);
}

static void prepare_named(struct segments *s, int res)
{
    if (res < 0) {
        prepare_failed(s);
        return;
    }
    s->preparing->suspect = false;
    set_state(s, s->preparing, SEGMENT_FREE);
    s->preparing = NULL;
    s->step = PREPARE_IDLE;
    segments_tick(s);
}

void segments_run(struct segments *s)
{
    if (s->step == PREPARE_IDLE && s->states[SEGMENT_FREE] < s->ahead &&
        s->states[SEGMENT_NONE] + s->states[SEGMENT_FAILED] > 0 && s->shard->now_ms >= s->retry_ms)
        prepare_begin(s);
    if (!s->landed)
        return;
    s->landed = false;
    switch (s->step) {
    case PREPARE_OPEN: prepare_opened(s, s->result); break;
    case PREPARE_FILL: prepare_filled(s, s->result); break;
    case PREPARE_SYNC: prepare_synced(s, s->result); break;
    case PREPARE_NAME: prepare_named(s, s->result); break;
    case PREPARE_IDLE: CHECK(s->step != PREPARE_IDLE);
    }
}
