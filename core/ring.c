/*
 * ring.c - the world through io_uring; the only user of liburing
 *
 * SINGLE_ISSUER with DEFER_TASKRUN: the kernel does completion work only when the shard asks for
 * it. The ring is made disabled and enabled in the first ring_wait, by the thread that will own it.
 *
 * user_data says what a completion belongs to: an op (aligned, low bits 0), or one of
 *   TAG_NONE   cancel, wake: nobody waits for it
 *   TAG_WAKE   another ring's message
 *   TAG_CLOSE  the slot in the upper bits is free again (not before: a queued close acts on
 *              whatever stands in the slot when the kernel reaches it)
 *
 * Bounds: the table of sockets and files (sockets_max), provided buffers (recv_buffers). The
 * completion queue is sized so that it cannot overflow in ordinary use; should it, the kernel keeps
 * the rest (FEAT_NODROP) and nothing is lost.
 */
#include "core/ring.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <dirent.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/check.h"
#include "core/memory.h"

enum {
    TAG_NONE = 0,
    TAG_WAKE = 1,
    TAG_CLOSE = 2,
    TAG_MASK = 3,
    BUFFER_GROUP = 0,
    SUBMIT_TRIES_MAX = 1000,
    NS_IN_MS = 1'000'000,
    US_IN_S = 1'000'000,
    CQ_PER_SQ = 8,
};

struct slot {
    int next; /* free list; -1 ends it */
    bool used;
    bool closing;
    bool directory;
};

struct ring_real {
    struct ring ring;
    struct io_uring uring;
    bool enabled;
    struct slot *slots;
    uint32_t slots_count;
    uint32_t slots_touched;
    int slots_free;
    struct io_uring_buf_ring *buffer_ring;
    size_t buffer_ring_bytes;
    /* One for each entry of the submission queue: connect's address is read at submission. */
    struct sockaddr_storage *addresses;
    uint32_t addresses_count;
    uint32_t addresses_next;
};

static struct ring_real *real(struct ring *ring)
{
    return container_of(ring, struct ring_real, ring);
}

/* ---- submission ---- */

static struct io_uring_sqe *ring_sqe(struct ring_real *r)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&r->uring);
    for (unsigned tries = 0; sqe == NULL; tries++) {
        /* The queue is full in the middle of a step: hand it over now. EAGAIN and EBUSY pass. */
        CHECK(tries < SUBMIT_TRIES_MAX);
        if (io_uring_submit(&r->uring) < 0)
            sched_yield();
        sqe = io_uring_get_sqe(&r->uring);
    }
    return sqe;
}

static struct io_uring_sqe *ring_sqe_for(struct ring_real *r, struct op *op)
{
    CHECK(!op->inflight);
    CHECK(op->landed != NULL);
    op->inflight = true;
    op->cancelled = false;
    r->ring.ops_inflight++;
    return ring_sqe(r);
}

static void ring_sqe_end(struct io_uring_sqe *sqe, struct op *op)
{
    io_uring_sqe_set_data(sqe, op);
}

/* ---- slots ---- */

static int slot_take(struct ring_real *r)
{
    int slot = r->slots_free;
    if (slot >= 0)
        r->slots_free = r->slots[slot].next;
    else if (r->slots_touched < r->slots_count)
        slot = (int)r->slots_touched++;
    else
        return -ENFILE;
    CHECK(!r->slots[slot].used);
    r->slots[slot] = (struct slot) { .used = true, .next = -1 };
    return slot;
}

static void slot_give(struct ring_real *r, int slot)
{
    CHECK(r->slots[slot].used);
    r->slots[slot] = (struct slot) { .next = r->slots_free };
    r->slots_free = slot;
}

static void slot_check(const struct ring_real *r, int slot)
{
    CHECK(slot >= 0);
    CHECK((uint32_t)slot < r->slots_count);
    CHECK(r->slots[slot].used);
    CHECK(!r->slots[slot].closing);
}

static int slot_register(struct ring_real *r, int fd, int *slot)
{
    int taken = slot_take(r);
    if (taken < 0)
        return taken;
    int updated = io_uring_register_files_update(&r->uring, (unsigned)taken, &fd, 1);
    if (updated != 1) {
        slot_give(r, taken);
        return updated < 0 ? updated : -EIO;
    }
    *slot = taken;
    return 0;
}

static void slot_close(struct ring_real *r, int slot)
{
    slot_check(r, slot);
    r->slots[slot].closing = true;
    struct io_uring_sqe *sqe = ring_sqe(r);
    io_uring_prep_close_direct(sqe, (unsigned)slot);
    io_uring_sqe_set_data64(sqe, (uint64_t)(unsigned)slot << 2 | TAG_CLOSE);
}

/* ---- sockets ---- */

static int real_listen_fd(struct ring *ring, int fd, int *socket_slot)
{
    if (fd < 0) /* the kernel would take it for "none" and say that all is well */
        return -EBADF;
    int r = slot_register(real(ring), fd, socket_slot);
    if (r == 0)
        close(fd);
    return r;
}

static int real_listen(struct ring *ring, const struct net_address *address, int backlog,
                       int *socket_slot)
{
    struct sockaddr_storage name;
    socklen_t size = net_to_sockaddr(address, &name);
    int fd = socket(name.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int one = 1;
    int r = 0;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof(one)) < 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0 ||
        (name.ss_family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one)) < 0) ||
        bind(fd, (struct sockaddr *)&name, size) < 0 || listen(fd, backlog) < 0)
        r = -errno;
    if (r == 0)
        r = real_listen_fd(ring, fd, socket_slot);
    if (r < 0)
        close(fd);
    return r;
}

static void real_accept(struct ring *ring, struct op *op, int listener)
{
    struct ring_real *r = real(ring);
    slot_check(r, listener);
    struct io_uring_sqe *sqe = ring_sqe_for(r, op);
    io_uring_prep_multishot_accept(sqe, listener, NULL, NULL, SOCK_CLOEXEC);
    sqe->flags |= IOSQE_FIXED_FILE;
    ring_sqe_end(sqe, op);
}

static int real_peer(struct ring *ring, int raw, struct net_address *peer,
                     struct net_address *local)
{
    (void)ring;
    struct sockaddr_storage name;
    socklen_t size = sizeof(name);
    if (getpeername(raw, (struct sockaddr *)&name, &size) < 0)
        return -errno;
    net_from_sockaddr(&name, peer);
    if (local == NULL)
        return 0;
    size = sizeof(name);
    if (getsockname(raw, (struct sockaddr *)&name, &size) < 0)
        return -errno;
    net_from_sockaddr(&name, local);
    return 0;
}

static int real_adopt(struct ring *ring, int raw, int *socket_slot)
{
    int r = slot_register(real(ring), raw, socket_slot);
    if (r == 0)
        close(raw);
    return r;
}

static void real_discard(struct ring *ring, int raw)
{
    (void)ring;
    close(raw);
}

static int real_socket(struct ring *ring, const struct net_address *to,
                       const struct net_address *from, int *socket_slot)
{
    int fd = socket(net_is_v4(to) ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    int one = 1;
    int r = 0;
    if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) < 0)
        r = -errno;
    if (r == 0 && from != NULL) {
        struct sockaddr_storage name;
        socklen_t size = net_to_sockaddr(from, &name);
        if (setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof(one)) < 0 ||
            bind(fd, (struct sockaddr *)&name, size) < 0)
            r = -errno;
    }
    if (r == 0)
        r = real_adopt(ring, fd, socket_slot);
    if (r < 0)
        close(fd);
    return r;
}

static void real_connect(struct ring *ring, struct op *op, int socket_slot,
                         const struct net_address *address)
{
    struct ring_real *r = real(ring);
    slot_check(r, socket_slot);
    if (io_uring_sq_ready(&r->uring) == 0)
        r->addresses_next = 0; /* all before it were read: the same few are used, not all in turn */
    struct sockaddr_storage *name = &r->addresses[r->addresses_next++ % r->addresses_count];
    socklen_t size = net_to_sockaddr(address, name);
    struct io_uring_sqe *sqe = ring_sqe_for(r, op);
    io_uring_prep_connect(sqe, socket_slot, (struct sockaddr *)name, size);
    sqe->flags |= IOSQE_FIXED_FILE;
    ring_sqe_end(sqe, op);
}

static void real_recv(struct ring *ring, struct op *op, int socket_slot)
{
    struct ring_real *r = real(ring);
    slot_check(r, socket_slot);
    struct io_uring_sqe *sqe = ring_sqe_for(r, op);
    io_uring_prep_recv_multishot(sqe, socket_slot, NULL, 0, 0);
    sqe->flags |= IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
    sqe->buf_group = BUFFER_GROUP;
    ring_sqe_end(sqe, op);
}

static void real_send(struct ring *ring, struct op *op, int socket_slot, struct ring_vector *v)
{
    struct ring_real *r = real(ring);
    slot_check(r, socket_slot);
    CHECK(v->count > 0);
    CHECK(v->count <= RING_VECTOR_MAX);
    struct io_uring_sqe *sqe = ring_sqe_for(r, op);
    if (v->count == 1) {
        io_uring_prep_send(sqe, socket_slot, v->iov[0].iov_base, v->iov[0].iov_len,
                           MSG_NOSIGNAL | MSG_WAITALL);
    } else {
        v->header = (struct msghdr) { .msg_iov = v->iov, .msg_iovlen = v->count };
        io_uring_prep_sendmsg(sqe, socket_slot, &v->header, MSG_NOSIGNAL | MSG_WAITALL);
    }
    sqe->flags |= IOSQE_FIXED_FILE;
    ring_sqe_end(sqe, op);
}

static void real_shutdown(struct ring *ring, struct op *op, int socket_slot)
{
    struct ring_real *r = real(ring);
    slot_check(r, socket_slot);
    struct io_uring_sqe *sqe = ring_sqe_for(r, op);
    io_uring_prep_shutdown(sqe, socket_slot, SHUT_WR);
    sqe->flags |= IOSQE_FIXED_FILE;
    ring_sqe_end(sqe, op);
}

static void real_close(struct ring *ring, int socket_slot)
{
    slot_close(real(ring), socket_slot);
}

/* ---- files ---- */

static void real_open(struct ring *ring, struct op *op, const char *path, int flags, unsigned mode)
{
    struct io_uring_sqe *sqe = ring_sqe_for(real(ring), op);
    io_uring_prep_openat(sqe, AT_FDCWD, path, flags | O_CLOEXEC, mode);
    ring_sqe_end(sqe, op);
}

static int real_file_adopt(struct ring *ring, int fd, struct ring_file *file)
{
    struct ring_real *r = real(ring);
    struct stat stat;
    if (fstat(fd, &stat) < 0)
        return -errno;
    *file = (struct ring_file) { .fd = fd, .fixed = -1 };
    int registered = slot_register(r, fd, &file->fixed);
    if (registered < 0) {
        *file = (struct ring_file) { -1, -1 }; /* fd stays the caller's: nobody closes it twice */
        return registered;
    }
    r->slots[file->fixed].directory = S_ISDIR(stat.st_mode);
    return 0;
}

static void real_file_close(struct ring *ring, struct ring_file *file)
{
    if (file->fixed >= 0)
        slot_close(real(ring), file->fixed);
    if (file->fd >= 0)
        close(file->fd);
    *file = (struct ring_file) { .fd = -1, .fixed = -1 };
}

static void real_read(struct ring *ring, struct op *op, const struct ring_file *file, void *to,
                      uint32_t bytes, uint64_t offset)
{
    struct ring_real *r = real(ring);
    slot_check(r, file->fixed);
    struct io_uring_sqe *sqe = ring_sqe_for(r, op);
    io_uring_prep_read(sqe, file->fixed, to, bytes, offset);
    sqe->flags |= IOSQE_FIXED_FILE;
    ring_sqe_end(sqe, op);
}

static void real_write(struct ring *ring, struct op *op, const struct ring_file *file,
                       const void *from, uint32_t bytes, uint64_t offset, unsigned flags)
{
    struct ring_real *r = real(ring);
    slot_check(r, file->fixed);
    struct io_uring_sqe *sqe = ring_sqe_for(r, op);
    io_uring_prep_write(sqe, file->fixed, from, bytes, offset);
    sqe->flags |= IOSQE_FIXED_FILE;
    if (flags & RING_WRITE_DURABLE)
        sqe->rw_flags = RWF_DSYNC;
    ring_sqe_end(sqe, op);
}

static void real_sync(struct ring *ring, struct op *op, const struct ring_file *file)
{
    struct ring_real *r = real(ring);
    slot_check(r, file->fixed);
    struct io_uring_sqe *sqe = ring_sqe_for(r, op);
    io_uring_prep_fsync(sqe, file->fixed,
                        r->slots[file->fixed].directory ? 0 : IORING_FSYNC_DATASYNC);
    sqe->flags |= IOSQE_FIXED_FILE;
    ring_sqe_end(sqe, op);
}

static void real_poll(struct ring *ring, struct op *op, int fd)
{
    struct io_uring_sqe *sqe = ring_sqe_for(real(ring), op);
    io_uring_prep_poll_multishot(sqe, fd, POLLIN);
    ring_sqe_end(sqe, op);
}

static void real_cancel(struct ring *ring, struct op *op)
{
    CHECK(op->inflight);
    if (op->cancelled)
        return;
    op->cancelled = true;
    struct io_uring_sqe *sqe = ring_sqe(real(ring));
    io_uring_prep_cancel(sqe, op, 0);
    io_uring_sqe_set_data64(sqe, TAG_NONE);
}

/* ---- on the spot ---- */

static int real_now_open(struct ring *ring, const char *path, int flags, unsigned mode)
{
    (void)ring;
    int fd = open(path, flags | O_CLOEXEC, mode);
    return fd < 0 ? -errno : fd;
}

static int real_now_close(struct ring *ring, int fd)
{
    (void)ring;
    return close(fd) < 0 ? -errno : 0;
}

static int64_t real_now_read(struct ring *ring, int fd, void *to, size_t bytes, uint64_t offset)
{
    (void)ring;
    ssize_t n = pread(fd, to, bytes, (off_t)offset);
    return n < 0 ? -errno : n;
}

static int64_t real_now_write(struct ring *ring, int fd, const void *from, size_t bytes,
                              uint64_t offset)
{
    (void)ring;
    ssize_t n = pwrite(fd, from, bytes, (off_t)offset);
    return n < 0 ? -errno : n;
}

static void real_now_ahead(struct ring *ring, int fd)
{
    (void)ring;
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_WILLNEED);
}

static int real_now_sync(struct ring *ring, int fd)
{
    (void)ring;
    return fsync(fd) < 0 ? -errno : 0;
}

static int real_now_stat(struct ring *ring, int fd, struct ring_stat *result)
{
    (void)ring;
    struct stat file;
    struct statvfs disk;
    if (fstat(fd, &file) < 0 || fstatvfs(fd, &disk) < 0)
        return -errno;
    result->size = (uint64_t)file.st_size;
    result->free_disk = (uint64_t)disk.f_bavail * disk.f_frsize;
    return 0;
}

static int real_now_mkdir(struct ring *ring, const char *path, unsigned mode)
{
    (void)ring;
    return mkdir(path, mode) < 0 ? -errno : 0;
}

static int real_now_unlink(struct ring *ring, const char *path)
{
    (void)ring;
    return unlink(path) < 0 ? -errno : 0;
}

static int real_now_rename(struct ring *ring, const char *from, const char *to)
{
    (void)ring;
    return rename(from, to) < 0 ? -errno : 0;
}

static int real_now_list(struct ring *ring, const char *path,
                         void (*each)(void *argument, const char *name), void *argument)
{
    (void)ring;
    DIR *directory = opendir(path);
    if (directory == NULL)
        return -errno;
    struct dirent *entry;
    /* readdir leaves errno alone at the end; what each() leaves there is none of ours. */
    while ((errno = 0, entry = readdir(directory)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            each(argument, entry->d_name);
    int r = -errno;
    closedir(directory);
    return r;
}

/* ---- the loop ---- */

static void real_wake(struct ring *from, struct ring *to)
{
    struct io_uring_sqe *sqe = ring_sqe(real(from));
    io_uring_prep_msg_ring(sqe, real(to)->uring.ring_fd, 0, TAG_WAKE, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    io_uring_sqe_set_data64(sqe, TAG_NONE);
}

static unsigned real_flags(const struct io_uring_cqe *cqe)
{
    unsigned flags = 0;
    if (cqe->flags & IORING_CQE_F_MORE)
        flags |= RING_MORE;
    if (cqe->flags & IORING_CQE_F_BUFFER)
        flags |= RING_BUFFER | (cqe->flags >> IORING_CQE_BUFFER_SHIFT) << 16;
    return flags;
}

static void real_land(struct ring_real *r, const struct io_uring_cqe *cqe)
{
    uint64_t data = cqe->user_data;
    switch (data & TAG_MASK) {
    case TAG_WAKE:
        if (r->ring.woken != NULL)
            r->ring.woken(&r->ring, r->ring.woken_argument);
        return;
    case TAG_CLOSE: slot_give(r, (int)(data >> 2)); return;
    default: break;
    }
    if (data == TAG_NONE)
        return;
    struct op *op = (struct op *)(uintptr_t)data;
    unsigned flags = real_flags(cqe);
    CHECK(op->inflight);
    if (!(flags & RING_MORE)) {
        op->inflight = false;
        r->ring.ops_inflight--;
    }
    if (flags & RING_BUFFER) {
        CHECK(r->ring.buffers_free > 0);
        r->ring.buffers_free--;
    }
    op->landed(op, cqe->res, flags);
}

static uint64_t monotonic_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1'000'000'000 + (uint64_t)now.tv_nsec;
}

static int ring_enter(struct ring_real *r, uint64_t until_ms)
{
    if (until_ms == 0 || io_uring_cq_ready(&r->uring) > 0)
        return io_uring_submit_and_get_events(&r->uring);
    struct io_uring_cqe *cqe;
    if (until_ms == UINT64_MAX)
        return io_uring_submit_and_wait_timeout(&r->uring, &cqe, 1, NULL, NULL);
    uint64_t now = monotonic_ns();
    uint64_t until = until_ms * NS_IN_MS;
    if (until <= now)
        return io_uring_submit_and_get_events(&r->uring);
    struct __kernel_timespec timeout = {
        .tv_sec = (int64_t)((until - now) / 1'000'000'000),
        .tv_nsec = (int64_t)((until - now) % 1'000'000'000),
    };
    return io_uring_submit_and_wait_timeout(&r->uring, &cqe, 1, &timeout, NULL);
}

static int real_wait(struct ring *ring, uint64_t until_ms)
{
    struct ring_real *r = real(ring);
    if (!r->enabled) {
        /* By hand: Debian 12's liburing declares io_uring_enable_rings but does not export it. */
        if (syscall(__NR_io_uring_register, r->uring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL,
                    0) < 0)
            return -errno;
        r->enabled = true;
        (void)io_uring_register_ring_fd(&r->uring); /* saves a look-up a call; works without */
    }
    int entered = ring_enter(r, until_ms);
    /* ETIME: nothing came. EINTR: a signal. EAGAIN, EBUSY: short of memory, or completions wait to
     * be read: both are mended by going on. */
    if (entered < 0 && entered != -ETIME && entered != -EINTR && entered != -EAGAIN &&
        entered != -EBUSY)
        return entered;
    int landed = 0;
    unsigned head;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&r->uring, head, cqe)
    {
        real_land(r, cqe);
        landed++;
    }
    io_uring_cq_advance(&r->uring, (unsigned)landed);
    return landed;
}

static void real_clock(struct ring *ring, uint64_t *monotonic, int64_t *wall_us)
{
    (void)ring;
    struct timespec wall;
    clock_gettime(CLOCK_REALTIME, &wall);
    *wall_us = (int64_t)wall.tv_sec * US_IN_S + wall.tv_nsec / 1000;
    *monotonic = monotonic_ns();
}

static int64_t real_slept(struct ring *ring)
{
    (void)ring;
    struct timespec boot;
    clock_gettime(CLOCK_BOOTTIME, &boot);
    return (int64_t)boot.tv_sec * US_IN_S + boot.tv_nsec / 1000 - (int64_t)(monotonic_ns() / 1000);
}

static uint64_t real_entropy(struct ring *ring)
{
    (void)ring;
    uint64_t value;
    CHECK(getrandom(&value, sizeof(value), 0) == (ssize_t)sizeof(value));
    return value;
}

static void real_buffer_give(struct ring *ring, uint32_t index)
{
    struct ring_real *r = real(ring);
    CHECK(index < ring->buffers_count);
    CHECK(ring->buffers_free < ring->buffers_count);
    io_uring_buf_ring_add(r->buffer_ring, ring_buffer(ring, index), ring->buffer_bytes,
                          (unsigned short)index, io_uring_buf_ring_mask(ring->buffers_count), 0);
    io_uring_buf_ring_advance(r->buffer_ring, 1);
    ring->buffers_free++;
}

/* ---- life ---- */

static void real_free(struct ring *ring)
{
    struct ring_real *r = real(ring);
    io_uring_queue_exit(&r->uring);
    memory_release(r->buffer_ring, r->buffer_ring_bytes);
    memory_release(ring->buffers, (size_t)ring->buffers_count * ring->buffer_bytes);
    free(r->slots);
    free(r->addresses);
    free(r);
}

static const struct ring_ops real_ops = {
    .listen = real_listen,
    .listen_fd = real_listen_fd,
    .accept = real_accept,
    .peer = real_peer,
    .adopt = real_adopt,
    .discard = real_discard,
    .socket = real_socket,
    .connect = real_connect,
    .recv = real_recv,
    .send = real_send,
    .shutdown = real_shutdown,
    .close = real_close,
    .open = real_open,
    .file_adopt = real_file_adopt,
    .file_close = real_file_close,
    .read = real_read,
    .write = real_write,
    .sync = real_sync,
    .poll = real_poll,
    .cancel = real_cancel,
    .now_open = real_now_open,
    .now_close = real_now_close,
    .now_read = real_now_read,
    .now_write = real_now_write,
    .now_ahead = real_now_ahead,
    .now_sync = real_now_sync,
    .now_stat = real_now_stat,
    .now_mkdir = real_now_mkdir,
    .now_unlink = real_now_unlink,
    .now_rename = real_now_rename,
    .now_list = real_now_list,
    .wake = real_wake,
    .wait = real_wait,
    .clock = real_clock,
    .slept = real_slept,
    .entropy = real_entropy,
    .free = real_free,
};

static const char *setup_words(int error)
{
    switch (error) {
    case -ENOSYS:
        return "io_uring_setup is not there: kernel without io_uring, or a container's seccomp "
               "profile hides it";
    case -EPERM:
        return "io_uring_setup is forbidden: sysctl kernel.io_uring_disabled, or a container's "
               "seccomp profile";
    case -EINVAL:
        return "io_uring lacks SINGLE_ISSUER or DEFER_TASKRUN: Linux 6.1 or newer is needed";
    case -ENOMEM: return "no memory for the ring: see RLIMIT_MEMLOCK and the memory limit";
    default: return "io_uring_setup failed";
    }
}

static int ring_buffers_init(struct ring_real *r, const struct ring_options *options)
{
    struct ring *ring = &r->ring;
    CHECK((options->recv_buffers & (options->recv_buffers - 1)) == 0);
    CHECK(options->recv_buffers <= 32'768);
    ring->buffer_bytes = options->recv_buffer_bytes;
    ring->buffers = memory_reserve((size_t)options->recv_buffers * options->recv_buffer_bytes);
    r->buffer_ring_bytes = options->recv_buffers * sizeof(struct io_uring_buf);
    r->buffer_ring = memory_reserve(r->buffer_ring_bytes);
    if (ring->buffers == NULL || r->buffer_ring == NULL)
        return -ENOMEM;
    ring->buffers_count = options->recv_buffers;
    struct io_uring_buf_reg registration = {
        .ring_addr = (uintptr_t)r->buffer_ring,
        .ring_entries = options->recv_buffers,
        .bgid = BUFFER_GROUP,
    };
    int registered = io_uring_register_buf_ring(&r->uring, &registration, 0);
    if (registered < 0)
        return registered;
    io_uring_buf_ring_init(r->buffer_ring);
    for (uint32_t i = 0; i < ring->buffers_count; i++)
        real_buffer_give(ring, i);
    return 0;
}

static int ring_tables_init(struct ring_real *r, const struct ring_options *options)
{
    r->slots = calloc(options->sockets_max, sizeof(*r->slots));
    r->addresses_count = r->uring.sq.ring_entries;
    r->addresses = calloc(r->addresses_count, sizeof(*r->addresses));
    if (r->slots == NULL || r->addresses == NULL)
        return -ENOMEM;
    r->slots_count = options->sockets_max;
    r->slots_free = -1;
    return io_uring_register_files_sparse(&r->uring, options->sockets_max);
}

int ring_new(const struct ring_options *options, struct ring **ring, const char **what)
{
    struct ring_real *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        *what = "no memory";
        return -ENOMEM;
    }
    r->ring.ops = &real_ops;
    r->ring.buffer_give = real_buffer_give;
    struct io_uring_params params = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_R_DISABLED |
                 IORING_SETUP_CQSIZE | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP,
        .cq_entries = options->entries * CQ_PER_SQ,
    };
    int result = io_uring_queue_init_params(options->entries, &r->uring, &params);
    if (result < 0) {
        *what = setup_words(result);
        free(r);
        return result;
    }
    result = ring_tables_init(r, options);
    *what = "io_uring cannot register a table of files: see RLIMIT_NOFILE (it must hold the limit "
            "of connections)";
    if (result == 0) {
        result = ring_buffers_init(r, options);
        *what = "io_uring cannot register provided buffers: Linux 6.1 or newer is needed, and "
                "memory";
    }
    if (result < 0) {
        real_free(&r->ring);
        return result;
    }
    *what = NULL;
    *ring = &r->ring;
    return 0;
}
