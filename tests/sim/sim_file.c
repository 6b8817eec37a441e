/*
 * sim_file.c - the ring's operations on files: they take time, and some fail
 *
 *   started --disk latency--> due --effect on sim_disk--> posted
 *                              '--sim_hold--> held --released--> due
 *
 * What an operation does to the disk happens at once, when it is due; before that a crash decides
 * whether it happened. Its faults are drawn when it starts, so that counting operations is counting
 * what the server asked for. A read's target is filled with rubbish at the start: who looks too
 * early sees it.
 */
#include "tests/sim/sim_inside.h"

#include <errno.h>
#include <fcntl.h>

enum { PAGE_BYTES = 4096, SECTOR_BYTES = 512, RUBBISH = 0xa7 };

static struct sim_disk *disk_of(struct sim_ring *r)
{
    return r->sim->machines[r->machine].disk;
}

static struct sim_disk *flight_disk(struct sim *sim, const struct sim_flight *flight)
{
    return sim->machines[flight->ring->machine].disk;
}

static void due(struct sim *sim, const struct sim_event *event);

static void start(struct sim *sim, struct sim_flight *flight)
{
    uint64_t ns = sim_draw(sim, sim->options.disk);
    if (sim_faulty(sim, flight->ring->machine, sim->options.slow_ppm))
        ns += sim_draw(sim, (struct sim_range) { SIM_MS, 5 * SIM_S });
    sim_flight_event(sim, flight, ns, due);
}

/* ---- effects ---- */

static int open_effect(struct sim *sim, struct sim_flight *flight)
{
    if (flight->error < 0)
        return flight->error;
    struct sim_disk *disk = flight_disk(sim, flight);
    struct sim_inode *inode;
    int r = sim_disk_open(disk, flight->path, flight->flags, flight->mode, &inode);
    if (r < 0)
        return r;
    r = sim_fd_new(disk, inode, flight->flags);
    if (r < 0)
        sim_inode_close(disk, inode);
    return r;
}

/* Some first part of what was asked for, at least one byte less. */
static uint64_t some(struct sim *sim, uint64_t bytes)
{
    if (bytes <= 1)
        return bytes;
    uint64_t part = sim_between(sim, 1, bytes - 1);
    return part > SECTOR_BYTES && sim_chance(sim, 500'000) ? part / SECTOR_BYTES * SECTOR_BYTES
                                                           : part;
}

static int64_t write_effect(struct sim *sim, struct sim_disk *disk, struct sim_inode *inode,
                            const void *from, uint64_t bytes, uint64_t offset, bool durable,
                            bool direct, int error)
{
    if (error < 0) {
        /* Without the disk's verdict there is nothing in the cache. With it there may be a part,
         * and it will never be written. */
        if (durable && sim_chance(sim, 500'000))
            (void)sim_inode_write(disk, inode, from, some(sim, bytes), offset, false, direct, true);
        return error;
    }
    return sim_inode_write(disk, inode, from, bytes, offset, durable, direct, false);
}

static int effect(struct sim *sim, struct sim_flight *flight)
{
    struct sim_disk *disk = flight_disk(sim, flight);
    switch (flight->kind) {
    case FLIGHT_OPEN: return open_effect(sim, flight);
    case FLIGHT_READ:
        if (flight->error < 0)
            return flight->error;
        return (int)sim_inode_read(flight->inode, flight->to, flight->bytes, flight->offset);
    case FLIGHT_WRITE:
        return (int)write_effect(sim, disk, flight->inode, flight->from, flight->done,
                                 flight->offset, flight->flags & RING_WRITE_DURABLE, flight->direct,
                                 flight->error);
    default:
        sim_inode_sync(disk, flight->inode, flight->mark, flight->error < 0);
        return flight->error;
    }
}

static void inode_release(struct sim *sim, struct sim_flight *flight)
{
    if (flight->inode != NULL)
        sim_inode_close(flight_disk(sim, flight), flight->inode);
    flight->inode = NULL;
}

static bool is_held(const struct sim *sim, const struct sim_flight *flight)
{
    const bool *hold = sim->machines[flight->ring->machine].hold;
    switch (flight->kind) {
    case FLIGHT_OPEN: return hold[SIM_OPEN];
    case FLIGHT_READ: return hold[SIM_READ];
    case FLIGHT_WRITE:
        return hold[SIM_WRITE] || (hold[SIM_SYNC] && (flight->flags & RING_WRITE_DURABLE));
    default: return hold[SIM_SYNC];
    }
}

static void due(struct sim *sim, const struct sim_event *event)
{
    struct sim_flight *flight = sim_flight_of(sim, event);
    if (flight == NULL)
        return;
    if (is_held(sim, flight)) {
        flight->held = true;
        return;
    }
    int res = effect(sim, flight);
    inode_release(sim, flight);
    sim_post(sim, flight, res, 0);
}

void sim_hold(struct sim *sim, unsigned machine, enum sim_operation kind, bool on)
{
    CHECK(kind <= SIM_SYNC);
    sim->machines[machine].hold[kind] = on;
    for (uint32_t i = 0; i < sim->flights_count; i++) {
        struct sim_flight *flight = sim->flights[i];
        if (flight->op == NULL || !flight->held || flight->ring->machine != machine ||
            is_held(sim, flight))
            continue;
        flight->held = false;
        start(sim, flight);
    }
}

bool sim_file_cancel(struct sim *sim, struct sim_flight *flight)
{
    if (!sim_chance(sim, 125'000))
        return false;
    inode_release(sim, flight); /* it had not begun */
    return true;
}

void sim_file_crash(struct sim *sim, struct sim_flight *flight, bool power)
{
    struct sim_disk *disk = flight_disk(sim, flight);
    uint64_t luck = random_below(&sim->random, 3);
    if (flight->kind == FLIGHT_READ || flight->error < 0)
        luck = 0;
    if (luck == 1 && flight->kind == FLIGHT_OPEN) {
        struct sim_inode *inode;
        if (sim_disk_open(disk, flight->path, flight->flags, flight->mode, &inode) == 0)
            sim_inode_close(disk, inode);
    } else if (luck >= 1 && flight->kind == FLIGHT_WRITE) {
        /* Into the cache; a power cut then tears it like any other. A kill cuts at a page. */
        uint64_t bytes = flight->done;
        if (luck == 2 && !power)
            bytes = sim_between(sim, 0, bytes / PAGE_BYTES) * PAGE_BYTES;
        if (bytes > 0)
            (void)sim_inode_write(disk, flight->inode, flight->from, bytes, flight->offset, false,
                                  flight->direct, false);
    } else if (luck == 1 && flight->kind == FLIGHT_SYNC) {
        sim_inode_sync(disk, flight->inode, flight->mark, false);
    }
    inode_release(sim, flight);
}

/* ---- started on the ring ---- */

static void file_open(struct ring *ring, struct op *op, const char *path, int flags, unsigned mode)
{
    struct sim_ring *r = sim_ring_of(ring);
    struct sim *sim = r->sim;
    struct sim_flight *flight = sim_flight(ring, op, FLIGHT_OPEN);
    flight->path = path;
    flight->hash = sim_hash(path, strlen(path), 0);
    flight->flags = flags;
    flight->mode = mode;
    flight->error = sim_fault(sim, r->machine, SIM_OPEN, sim->options.open_error_ppm, -EIO);
    start(sim, flight);
}

static int file_adopt(struct ring *ring, int fd, struct ring_file *file)
{
    struct sim_ring *r = sim_ring_of(ring);
    *file = (struct ring_file) { -1, -1 };
    int flags;
    struct sim_inode *inode = sim_fd(disk_of(r), fd, &flags);
    int error = sim_fault(r->sim, r->machine, SIM_ADOPT, 0, 0);
    if (error < 0)
        return error;
    uint32_t slot = sim_slot_take(r, SLOT_FILE);
    if (slot == UINT32_MAX)
        return -ENFILE;
    r->slots[slot].inode = inode;
    r->slots[slot].open_flags = flags;
    sim_inode_open(inode);
    *file = (struct ring_file) { .fd = fd, .fixed = sim_slot_number(r, slot) };
    return 0;
}

static void file_close(struct ring *ring, struct ring_file *file)
{
    struct sim_ring *r = sim_ring_of(ring);
    if (file->fixed >= 0) {
        struct sim_slot *slot = sim_slot(r, file->fixed);
        CHECK(slot->kind == SLOT_FILE);
        sim_inode_close(disk_of(r), slot->inode);
        sim_slot_give(r, slot);
    }
    if (file->fd >= 0)
        sim_fd_close(disk_of(r), file->fd);
    *file = (struct ring_file) { .fd = -1, .fixed = -1 };
}

static struct sim_flight *file_flight(struct ring *ring, struct op *op,
                                      const struct ring_file *file, enum sim_flight_kind kind)
{
    struct sim_ring *r = sim_ring_of(ring);
    struct sim_slot *slot = sim_slot(r, file->fixed);
    CHECK(slot->kind == SLOT_FILE);
    struct sim_flight *flight = sim_flight(ring, op, kind);
    flight->inode = slot->inode;
    sim_inode_open(slot->inode); /* the kernel keeps the file while an operation runs */
    flight->direct = slot->open_flags & O_DIRECT;
    int access = slot->open_flags & O_ACCMODE;
    if ((kind == FLIGHT_READ && access == O_WRONLY) || (kind == FLIGHT_WRITE && access == O_RDONLY))
        flight->error = -EBADF;
    return flight;
}

static void direct_check(struct sim_flight *flight, const void *memory)
{
    if (flight->direct &&
        (flight->bytes % SECTOR_BYTES != 0 || flight->offset % SECTOR_BYTES != 0 ||
         (uintptr_t)memory % SECTOR_BYTES != 0))
        flight->error = -EINVAL;
}

static void file_read(struct ring *ring, struct op *op, const struct ring_file *file, void *to,
                      uint32_t bytes, uint64_t offset)
{
    struct sim_flight *flight = file_flight(ring, op, file, FLIGHT_READ);
    struct sim_ring *r = flight->ring;
    struct sim *sim = r->sim;
    CHECK(bytes > 0 && bytes <= INT32_MAX);
    flight->to = to;
    flight->bytes = bytes;
    flight->offset = offset;
    memset(to, RUBBISH, bytes);
    int error = sim_fault(sim, r->machine, SIM_READ, sim->options.read_error_ppm, -EIO);
    if (flight->error == 0)
        flight->error = error;
    direct_check(flight, to);
    start(sim, flight);
}

static void file_write(struct ring *ring, struct op *op, const struct ring_file *file,
                       const void *from, uint32_t bytes, uint64_t offset, unsigned flags)
{
    struct sim_flight *flight = file_flight(ring, op, file, FLIGHT_WRITE);
    struct sim_ring *r = flight->ring;
    struct sim *sim = r->sim;
    CHECK(bytes > 0 && bytes <= INT32_MAX);
    flight->from = from;
    flight->bytes = bytes;
    flight->done = bytes; /* how much of it is going to be written */
    flight->offset = offset;
    flight->flags = (int)flags;
    flight->hash = sim_hash(from, bytes, 0);
    int error = sim_fault(sim, r->machine, SIM_WRITE, sim->options.write_error_ppm,
                          sim_chance(sim, 300'000) ? -ENOSPC : -EIO);
    if (flight->error == 0)
        flight->error = error;
    direct_check(flight, from);
    if (sim_faulty(sim, r->machine, sim->options.short_write_ppm))
        flight->done = some(sim, bytes);
    start(sim, flight);
}

static void file_sync(struct ring *ring, struct op *op, const struct ring_file *file)
{
    struct sim_flight *flight = file_flight(ring, op, file, FLIGHT_SYNC);
    struct sim_ring *r = flight->ring;
    struct sim *sim = r->sim;
    flight->mark = sim_disk_mark(disk_of(r));
    flight->error = sim_fault(sim, r->machine, SIM_SYNC, sim->options.sync_error_ppm,
                              sim_chance(sim, 300'000) ? -ENOSPC : -EIO);
    start(sim, flight);
}

/* ---- on the spot ---- */

static int now_open(struct ring *ring, const char *path, int flags, unsigned mode)
{
    struct sim_ring *r = sim_ring_of(ring);
    struct sim *sim = r->sim;
    int error = sim_fault(sim, r->machine, SIM_OPEN, sim->options.open_error_ppm, -EIO);
    if (error < 0)
        return error;
    struct sim_inode *inode;
    int result = sim_disk_open(disk_of(r), path, flags, mode, &inode);
    if (result < 0)
        return result;
    result = sim_fd_new(disk_of(r), inode, flags);
    if (result < 0)
        sim_inode_close(disk_of(r), inode);
    return result;
}

static int now_close(struct ring *ring, int fd)
{
    sim_fd_close(disk_of(sim_ring_of(ring)), fd);
    return 0;
}

static int64_t now_read(struct ring *ring, int fd, void *to, size_t bytes, uint64_t offset)
{
    struct sim_ring *r = sim_ring_of(ring);
    int flags;
    struct sim_inode *inode = sim_fd(disk_of(r), fd, &flags);
    int error = sim_fault(r->sim, r->machine, SIM_READ, r->sim->options.read_error_ppm, -EIO);
    if (error < 0)
        return error;
    return sim_inode_read(inode, to, bytes, offset);
}

static int64_t now_write(struct ring *ring, int fd, const void *from, size_t bytes, uint64_t offset)
{
    struct sim_ring *r = sim_ring_of(ring);
    struct sim *sim = r->sim;
    int flags;
    struct sim_inode *inode = sim_fd(disk_of(r), fd, &flags);
    int error = sim_fault(sim, r->machine, SIM_WRITE, sim->options.write_error_ppm, -EIO);
    if ((flags & O_ACCMODE) == O_RDONLY)
        error = -EBADF;
    if (sim_faulty(sim, r->machine, sim->options.short_write_ppm))
        bytes = some(sim, bytes);
    return write_effect(sim, disk_of(r), inode, from, bytes, offset, flags & O_DSYNC,
                        flags & O_DIRECT, error);
}

static int now_sync(struct ring *ring, int fd)
{
    struct sim_ring *r = sim_ring_of(ring);
    int flags;
    struct sim_inode *inode = sim_fd(disk_of(r), fd, &flags);
    int error = sim_fault(r->sim, r->machine, SIM_SYNC, r->sim->options.sync_error_ppm, -EIO);
    sim_inode_sync(disk_of(r), inode, sim_disk_mark(disk_of(r)), error < 0);
    return error;
}

static int now_stat(struct ring *ring, int fd, struct ring_stat *result)
{
    struct sim_ring *r = sim_ring_of(ring);
    int flags;
    result->size = sim_inode_size(sim_fd(disk_of(r), fd, &flags));
    result->free_disk = sim_disk_room(disk_of(r));
    return 0;
}

static int names_fault(struct sim_ring *r)
{
    return sim_fault(r->sim, r->machine, SIM_NAMES, r->sim->options.open_error_ppm, -EIO);
}

static int now_mkdir(struct ring *ring, const char *path, unsigned mode)
{
    struct sim_ring *r = sim_ring_of(ring);
    int error = names_fault(r);
    return error < 0 ? error : sim_disk_mkdir(disk_of(r), path, mode);
}

static int now_unlink(struct ring *ring, const char *path)
{
    struct sim_ring *r = sim_ring_of(ring);
    int error = names_fault(r);
    return error < 0 ? error : sim_disk_unlink(disk_of(r), path);
}

static int now_rename(struct ring *ring, const char *from, const char *to)
{
    struct sim_ring *r = sim_ring_of(ring);
    int error = names_fault(r);
    return error < 0 ? error : sim_disk_rename(disk_of(r), from, to);
}

static int now_list(struct ring *ring, const char *path,
                    void (*each)(void *argument, const char *name), void *argument)
{
    struct sim_ring *r = sim_ring_of(ring);
    int error = names_fault(r);
    return error < 0 ? error : sim_disk_list(disk_of(r), path, each, argument);
}

const struct ring_ops sim_file_ops = {
    .open = file_open,
    .file_adopt = file_adopt,
    .file_close = file_close,
    .read = file_read,
    .write = file_write,
    .sync = file_sync,
    .now_open = now_open,
    .now_close = now_close,
    .now_read = now_read,
    .now_write = now_write,
    .now_sync = now_sync,
    .now_stat = now_stat,
    .now_mkdir = now_mkdir,
    .now_unlink = now_unlink,
    .now_rename = now_rename,
    .now_list = now_list,
};
