/*
 * recovery_disk.c - reading segment files at start, and putting damaged ranges aside
 *
 * One file is open at a time, a few blocks are kept. Sectors that cannot be read count as zeros:
 * the walk then finds what is missing. Unless what could be read a moment ago cannot be read
 * either: that is no bad sector, the device is gone, and a log that is taken for empty would be
 * written over. Quarantine files
 * are made once (O_EXCL): a range that is damaged at each start is not copied at each start.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "queue/bytes.h"
#include "queue/recovery_table.h"
#include "queue/segment.h"

int recovery_disk_init(struct recovery_disk *d, struct ring *ring,
                       const struct recovery_options *options, const struct recovery *recovery)
{
    *d =
        (struct recovery_disk) { .ring = ring, .options = options, .recovery = recovery, .fd = -1 };
    d->arena = malloc((size_t)RECOVERY_CACHE_BLOCKS * options->block_bytes);
    return d->arena == NULL ? -ENOMEM : 0;
}

enum { READ_TRIES = 3 };

static void disk_close(struct recovery_disk *d)
{
    if (d->fd >= 0)
        (void)d->ring->ops->now_close(d->ring, d->fd);
    d->fd = -1;
}

void recovery_disk_free(struct recovery_disk *d)
{
    if (d->ring != NULL)
        disk_close(d);
    free(d->arena);
}

static int disk_use(struct recovery_disk *d, const struct recovery_file *file)
{
    if (d->fd >= 0 && d->fd_number == file->number)
        return 0;
    disk_close(d);
    char path[SEGMENT_PATH_MAX];
    segment_path(d->options->directory, file->number, path);
    d->fd = d->ring->ops->now_open(d->ring, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
    d->fd_number = file->number;
    return MIN(d->fd, 0);
}

int recovery_disk_open(struct recovery_disk *d, const struct recovery_file *file, uint64_t *size)
{
    int r = disk_use(d, file);
    struct ring_stat stat;
    if (r == 0)
        r = d->ring->ops->now_stat(d->ring, d->fd, &stat);
    if (r == 0)
        *size = stat.size;
    return r;
}

void recovery_disk_ahead(struct recovery_disk *d, const struct recovery_file *file)
{
    char path[SEGMENT_PATH_MAX];
    struct ring *ring = d->ring;
    if (ring->ops->now_ahead == NULL)
        return;
    segment_path(d->options->directory, file->number, path);
    int fd = ring->ops->now_open(ring, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
    if (fd < 0)
        return;
    ring->ops->now_ahead(ring, fd);
    (void)ring->ops->now_close(ring, fd);
}

int recovery_disk_sync(struct recovery_disk *d, const struct recovery_file *file)
{
    int r = disk_use(d, file);
    return r < 0 ? r : d->ring->ops->now_sync(d->ring, d->fd);
}

static int64_t read_again(struct recovery_disk *d, uint8_t *to, uint32_t bytes, uint64_t offset)
{
    int64_t n = -EIO;
    for (unsigned i = 0; i < READ_TRIES && n < 0; i++)
        n = d->ring->ops->now_read(d->ring, d->fd, to, bytes, offset);
    return n;
}

/* All bytes up to the end of the file; sectors that cannot be read are zeros. An error: nothing can
 * be read (any more). */
static int64_t disk_read(struct recovery_disk *d, uint8_t *to, uint32_t bytes, uint64_t offset)
{
    uint32_t done = 0, good = UINT32_MAX; /* where it could be read */
    int64_t error = 0;
    while (done < bytes) {
        int64_t n = d->ring->ops->now_read(d->ring, d->fd, to + done, bytes - done, offset + done);
        if (n == -EINTR)
            continue;
        if (n == 0)
            break;
        good = n > 0 ? done : good;
        if (n < 0) { /* one sector less */
            uint32_t piece = MIN((uint32_t)BATCH_ALIGNMENT, bytes - done);
            n = read_again(d, to + done, piece, offset + done);
            good = n > 0 ? done : good;
            error = n < 0 ? n : error;
            if (n <= 0) {
                memset(to + done, 0, piece);
                n = piece;
            }
        }
        done += (uint32_t)n;
    }
    if (error < 0 && (good == UINT32_MAX || read_again(d, to + good, 1, offset + good) < 0))
        return error;
    return done;
}

int recovery_disk_load(struct recovery_disk *d, const struct recovery_file *file, uint32_t block,
                       uint8_t *memory, struct slice *in)
{
    int r = disk_use(d, file);
    if (r < 0)
        return r;
    int64_t n = disk_read(d, memory, d->options->block_bytes, block);
    if (n < 0)
        return (int)n;
    *in = slice_of(memory, (size_t)n);
    return 0;
}

int recovery_disk_read(struct recovery_disk *d, const struct recovery_file *file, uint32_t block,
                       struct slice *in)
{
    unsigned slot = 0;
    for (unsigned i = 0; i < RECOVERY_CACHE_BLOCKS; i++) {
        bool here = d->cache[i].used != 0 && d->cache[i].number == file->number &&
                    d->cache[i].block == block;
        if (here || d->cache[i].used < d->cache[slot].used)
            slot = i;
        if (!here)
            continue;
        d->cache[i].used = ++d->clock;
        *in = slice_of(d->arena + (size_t)i * d->options->block_bytes, d->cache[i].bytes);
        return 0;
    }
    int r =
        recovery_disk_load(d, file, block, d->arena + (size_t)slot * d->options->block_bytes, in);
    if (r < 0)
        return r;
    d->cache[slot].number = file->number;
    d->cache[slot].block = block;
    d->cache[slot].bytes = (uint32_t)in->size;
    d->cache[slot].used = ++d->clock;
    return 0;
}

/* ---- identity: the secret, as the payload of a record at position 0 ---- */

enum { IDENTITY_BYTES = 8 };

static int file_path(const char *directory, const char *name, char out[static SEGMENT_PATH_MAX])
{
    int n = snprintf(out, SEGMENT_PATH_MAX, "%s/%s", directory, name);
    return n < 0 || n >= SEGMENT_PATH_MAX ? -ENAMETOOLONG : 0;
}

int recovery_identity_read(struct recovery_disk *d, uint64_t *seed)
{
    char path[SEGMENT_PATH_MAX];
    if (file_path(d->options->directory, "identity", path) < 0)
        return -EBADMSG;
    int fd = d->ring->ops->now_open(d->ring, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd == -ENOENT ? -EBADMSG : fd;
    uint8_t bytes[RECORD_HEAD_BYTES + IDENTITY_BYTES];
    int64_t n = d->ring->ops->now_read(d->ring, fd, bytes, sizeof(bytes), 0);
    (void)d->ring->ops->now_close(d->ring, fd);
    if (n < 0)
        return (int)n;
    struct record record;
    if (n != sizeof(bytes) ||
        record_check(slice_of(bytes, sizeof(bytes)), 0, (struct record_keys) { 0 }, &record) !=
            RECORD_OK ||
        record.payload.size != IDENTITY_BYTES || record.id != d->options->number)
        return -EBADMSG;
    *seed = get_u64(record.payload.data);
    return *seed == 0 ? -EBADMSG : 0;
}

int recovery_identity_write(struct ring *ring, const char *directory, uint64_t seed,
                            uint32_t number)
{
    char made[SEGMENT_PATH_MAX], path[SEGMENT_PATH_MAX];
    int r = file_path(directory, "identity.new", made);
    if (r == 0)
        r = file_path(directory, "identity", path);
    if (r < 0)
        return r;
    uint8_t bytes[RECORD_HEAD_BYTES + IDENTITY_BYTES];
    put_u64(bytes + RECORD_HEAD_BYTES, seed);
    record_seal(bytes, RECORD_CHUNK, number, IDENTITY_BYTES, 0, 0);
    int fd =
        ring->ops->now_open(ring, made, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fd;
    int64_t n = ring->ops->now_write(ring, fd, bytes, sizeof(bytes), 0);
    r = n == sizeof(bytes) ? ring->ops->now_sync(ring, fd) : n < 0 ? (int)n : -ENOSPC;
    (void)ring->ops->now_close(ring, fd);
    return r < 0 ? r : ring->ops->now_rename(ring, made, path);
}

int recovery_disk_prove(struct recovery_disk *d, const struct recovery_file *file, uint32_t from,
                        uint32_t to)
{
    disk_close(d);
    char path[SEGMENT_PATH_MAX];
    segment_path(d->options->directory, file->number, path);
    int fd = d->ring->ops->now_open(d->ring, path, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0);
    if (fd < 0)
        return fd;
    d->fd = fd;
    d->fd_number = file->number;
    uint8_t sector[BATCH_ALIGNMENT];
    for (; from < to; from += (uint32_t)sizeof(sector)) {
        int64_t n = d->ring->ops->now_read(d->ring, fd, sector, sizeof(sector), from);
        if (n < (int64_t)sizeof(sector))
            continue; /* unreadable, or behind the end of the file: nothing of it counts */
        int64_t written = d->ring->ops->now_write(d->ring, fd, sector, sizeof(sector), from);
        if (written != n)
            return written < 0 ? (int)written : -EIO;
    }
    return d->ring->ops->now_sync(d->ring, fd);
}

static const struct recovery_file *disk_file(const struct recovery_disk *d, uint32_t sequence)
{
    for (uint32_t low = 0, high = d->recovery->files_count; low < high;) {
        uint32_t middle = low + (high - low) / 2;
        const struct recovery_file *file = &d->recovery->files[middle];
        if (file->sequence == sequence)
            return file;
        if (file->sequence < sequence)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

int recovery_disk_record(struct recovery_disk *d, uint64_t position, enum record_kind kind,
                         uint64_t id, struct slice *payload)
{
    uint32_t sequence = position_segment(position);
    uint32_t offset = position_offset(position);
    const struct recovery_file *file = disk_file(d, sequence);
    if (sequence == 0 || file == NULL || offset >= d->options->segment_bytes)
        return -EBADMSG;
    uint32_t block = offset & ~(d->options->block_bytes - 1);
    struct slice in;
    int r = recovery_disk_read(d, file, block, &in);
    if (r < 0)
        return r;
    struct record record;
    struct record_keys keys = { d->recovery->seed, file->key };
    if (record_check(slice_from(in, offset - block), position, keys, &record) != RECORD_OK ||
        record.kind != kind || record.id != id)
        return -EBADMSG;
    *payload = record.payload;
    return 0;
}

/* ---- ranges ---- */

void recovery_ranges_add(struct recovery_ranges *ranges, uint64_t position, uint32_t bytes)
{
    if (ranges->count == ranges->capacity) {
        size_t capacity = ranges->capacity * 2 + 64;
        struct recovery_range *list = realloc(ranges->list, capacity * sizeof(*list));
        if (list == NULL) {
            ranges->out_of_memory = true;
            return;
        }
        ranges->list = list;
        ranges->capacity = capacity;
    }
    ranges->list[ranges->count++] = (struct recovery_range) { position, bytes, false };
}

const struct recovery_range *recovery_ranges_find(const struct recovery_ranges *ranges,
                                                  uint64_t position, uint32_t bytes)
{
    size_t low = 0, high = ranges->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (ranges->list[middle].position + ranges->list[middle].bytes <= position)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < ranges->count && ranges->list[low].position < position + bytes)
        return &ranges->list[low];
    return NULL;
}

static int quarantine_copy(struct recovery_disk *d, int fd, uint32_t offset, uint32_t bytes)
{
    uint8_t piece[BATCH_ALIGNMENT];
    for (uint32_t done = 0; done < bytes;) {
        uint32_t want = MIN(bytes - done, (uint32_t)sizeof(piece));
        int64_t n = disk_read(d, piece, want, offset + done);
        if (n == 0)
            break;
        if (n < 0) { /* what is left of it counts */
            memset(piece, 0, want);
            n = want;
        }
        int64_t written = d->ring->ops->now_write(d->ring, fd, piece, (size_t)n, done);
        if (written != n)
            return written < 0 ? (int)written : -ENOSPC;
        done += (uint32_t)n;
    }
    return d->ring->ops->now_sync(d->ring, fd);
}

int recovery_quarantine(struct recovery_disk *d, const struct recovery_file *file,
                        const struct recovery_range *range)
{
    const char *directory = d->options->quarantine;
    if (directory == NULL)
        return 0;
    int r = d->ring->ops->now_mkdir(d->ring, directory, 0700);
    if (r < 0 && r != -EEXIST)
        return r;
    char path[SEGMENT_PATH_MAX];
    int n = snprintf(path, sizeof(path), "%s/log-%03u-file-%06u-segment-%010u-%08x", directory,
                     (unsigned)d->options->number, (unsigned)file->number,
                     (unsigned)position_segment(range->position),
                     (unsigned)position_offset(range->position));
    if (n < 0 || n >= (int)sizeof(path))
        return -ENAMETOOLONG;
    int fd = d->ring->ops->now_open(d->ring, path,
                                    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0)
        return fd == -EEXIST ? 0 : fd;
    r = disk_use(d, file);
    if (r == 0)
        r = quarantine_copy(d, fd, position_offset(range->position), range->bytes);
    (void)d->ring->ops->now_close(d->ring, fd);
    return r;
}
