/*
 * ring.h - everything a shard asks of the world: sockets, files, time, randomness
 *
 * One interface, two implementations: core/ring.c on io_uring, and the simulator's (tests/sim) on a
 * simulated network, disk and clock driven by one seed. Code above core/ reaches the kernel through
 * here only, so the whole server runs on either.
 *
 *   op: idle --ring_*()--> in flight --landed(res, flags)--> idle
 *                              ^--landed(.., RING_MORE)--'      (multishot: accept, recv, poll)
 *
 * An op is embedded in its owner, which stays alive until the op has landed. A landed callback
 * records facts and makes its owner runnable; it decides nothing (STYLE.md). Operations never
 * complete inside the call that starts them. Results are what the kernel says: a count or a
 * negative errno. Memory handed to an operation stays untouched until it lands.
 *
 * Sockets are named by a slot of the ring's own table ("socket"), files by a struct ring_file.
 * A socket that was accepted is raw until ring_adopt: a raw one may be passed to another ring.
 */
#ifndef RINGPOST_CORE_RING_H
#define RINGPOST_CORE_RING_H

#include <sys/socket.h>
#include <sys/uio.h>

#include "core/net.h"
#include "core/slice.h"

enum ring_flags {
    RING_MORE = 1,   /* multishot: the op stays in flight */
    RING_BUFFER = 2, /* recv: the bytes are in a provided buffer, see ring_buffer() */
};

struct op {
    void (*landed)(struct op *op, int res, unsigned flags);
    bool inflight;
    bool cancelled; /* ring_cancel was asked for this flight */
    uint32_t ring_private;
};

enum { RING_VECTOR_MAX = 16 };

/* What a send takes: slices to go out in this order. Stays untouched until the send has landed. */
struct ring_vector {
    struct msghdr header; /* filled in by the ring */
    struct iovec iov[RING_VECTOR_MAX];
    unsigned count;
};

struct ring_file {
    int fd;    /* -1: none */
    int fixed; /* slot in the ring's file table, or -1 */
};

struct ring_stat {
    uint64_t size;      /* bytes */
    uint64_t free_disk; /* bytes that an ordinary user may still write on this device */
};

enum ring_write_flags {
    RING_WRITE_DURABLE = 1, /* lands when the bytes are on stable storage (RWF_DSYNC) */
};

enum { RING_NAME_MAX = 128 };

struct ring;

/* Options of a ring; both implementations obey them. */
struct ring_options {
    uint32_t entries;      /* submission queue */
    uint32_t sockets_max;  /* slots of the socket and file table */
    uint32_t recv_buffers; /* power of two */
    uint32_t recv_buffer_bytes;
};

struct ring_ops {
    /* --- sockets --- */
    int (*listen)(struct ring *, const struct net_address *, int backlog, int *socket);
    int (*listen_fd)(struct ring *, int fd, int *socket);
    void (*accept)(struct ring *, struct op *, int socket);
    int (*peer)(struct ring *, int raw, struct net_address *peer, struct net_address *local);
    int (*adopt)(struct ring *, int raw, int *socket);
    void (*discard)(struct ring *, int raw);
    int (*socket)(struct ring *, const struct net_address *to, const struct net_address *from,
                  int *socket);
    void (*connect)(struct ring *, struct op *, int socket, const struct net_address *);
    void (*recv)(struct ring *, struct op *, int socket);
    void (*send)(struct ring *, struct op *, int socket, struct ring_vector *);
    void (*shutdown)(struct ring *, struct op *, int socket);
    void (*close)(struct ring *, int socket);
    /* --- files --- */
    void (*open)(struct ring *, struct op *, const char *path, int flags, unsigned mode);
    int (*file_adopt)(struct ring *, int fd, struct ring_file *);
    void (*file_close)(struct ring *, struct ring_file *);
    void (*read)(struct ring *, struct op *, const struct ring_file *, void *, uint32_t bytes,
                 uint64_t offset);
    void (*write)(struct ring *, struct op *, const struct ring_file *, const void *,
                  uint32_t bytes, uint64_t offset, unsigned flags);
    void (*sync)(struct ring *, struct op *, const struct ring_file *);
    void (*poll)(struct ring *, struct op *, int fd);
    void (*cancel)(struct ring *, struct op *);
    /* --- at start and at stop, on the spot --- */
    int (*now_open)(struct ring *, const char *path, int flags, unsigned mode);
    int (*now_close)(struct ring *, int fd);
    int64_t (*now_read)(struct ring *, int fd, void *, size_t bytes, uint64_t offset);
    int64_t (*now_write)(struct ring *, int fd, const void *, size_t bytes, uint64_t offset);
    /* All of the file is about to be read: the disk may begin. A hint; NULL: not taken. */
    void (*now_ahead)(struct ring *, int fd);
    int (*now_sync)(struct ring *, int fd);
    int (*now_stat)(struct ring *, int fd, struct ring_stat *);
    int (*now_mkdir)(struct ring *, const char *path, unsigned mode);
    int (*now_unlink)(struct ring *, const char *path);
    int (*now_rename)(struct ring *, const char *from, const char *to);
    int (*now_list)(struct ring *, const char *path, void (*each)(void *, const char *name),
                    void *);
    /* --- the rest --- */
    void (*wake)(struct ring *from, struct ring *to);
    int (*wait)(struct ring *, uint64_t until_ms);
    void (*clock)(struct ring *, uint64_t *monotonic_ns, int64_t *wall_us);
    /* How long the machine has been suspended since it began: CLOCK_BOOTTIME less CLOCK_MONOTONIC.
     * NULL: never. */
    int64_t (*slept)(struct ring *);
    uint64_t (*entropy)(struct ring *);
    void (*free)(struct ring *);
};

/* The common part of both implementations; they embed it as their first member. */
struct ring {
    const struct ring_ops *ops;
    uint8_t *buffers; /* recv_buffers of recv_buffer_bytes each */
    uint32_t buffers_count;
    uint32_t buffer_bytes;
    uint32_t buffers_free;                /* with the ring, not held by a session */
    uint32_t ops_inflight;                /* landed callbacks still to come */
    void (*woken)(struct ring *, void *); /* another ring called ring_wake; from ring_wait */
    void *woken_argument;
    void (*buffer_give)(struct ring *, uint32_t buffer);
};

/* A real ring. 0, or a negative errno; *what then names the feature that is missing and why that
 * happens (old kernel, io_uring_disabled, seccomp). */
[[nodiscard]] int ring_new(const struct ring_options *options, struct ring **ring,
                           const char **what);
static inline void ring_free(struct ring *ring)
{
    ring->ops->free(ring);
}

/* ---- sockets ---- */

/* A listening socket (SO_REUSEPORT, TCP_NODELAY, IPv6 only for IPv6). 0 or errno. */
[[nodiscard]] static inline int ring_listen(struct ring *ring, const struct net_address *address,
                                            int backlog, int *socket)
{
    return ring->ops->listen(ring, address, backlog, socket);
}
/* The same for a listening descriptor that somebody passed to us (socket activation). */
[[nodiscard]] static inline int ring_listen_fd(struct ring *ring, int fd, int *socket)
{
    return ring->ops->listen_fd(ring, fd, socket);
}
/* Multishot. Each landing: res is a raw socket, or an errno (-EMFILE: it ends, arm again later). */
static inline void ring_accept(struct ring *ring, struct op *op, int listener)
{
    ring->ops->accept(ring, op, listener);
}
/* Both ends of a raw socket. 0 or errno (-ENOTCONN: it is gone already). */
[[nodiscard]] static inline int ring_peer(struct ring *ring, int raw, struct net_address *peer,
                                          struct net_address *local)
{
    return ring->ops->peer(ring, raw, peer, local);
}
/* Takes a raw socket into this ring's table. On failure (-ENFILE: table full) it stays raw. */
[[nodiscard]] static inline int ring_adopt(struct ring *ring, int raw, int *socket)
{
    return ring->ops->adopt(ring, raw, socket);
}
/* Closes a raw socket. */
static inline void ring_discard(struct ring *ring, int raw)
{
    ring->ops->discard(ring, raw);
}
/* A new TCP socket of to's family, bound to from unless that is NULL. 0 or errno. */
[[nodiscard]] static inline int ring_socket(struct ring *ring, const struct net_address *to,
                                            const struct net_address *from, int *socket)
{
    return ring->ops->socket(ring, to, from, socket);
}
static inline void ring_connect(struct ring *ring, struct op *op, int socket,
                                const struct net_address *address)
{
    ring->ops->connect(ring, op, socket, address);
}
/* Multishot into provided buffers. res > 0: bytes, in ring_buffer(flags); 0: end of file;
 * -ENOBUFS: all buffers are held, arm again when some are back. */
static inline void ring_recv(struct ring *ring, struct op *op, int socket)
{
    ring->ops->recv(ring, op, socket);
}
/* All of the vector or an error: res is the sum of its bytes, or, when the peer went away in the
 * middle, less, or an errno. */
static inline void ring_send(struct ring *ring, struct op *op, int socket, struct ring_vector *v)
{
    ring->ops->send(ring, op, socket, v);
}
/* Sends FIN; receiving goes on. */
static inline void ring_shutdown(struct ring *ring, struct op *op, int socket)
{
    ring->ops->shutdown(ring, op, socket);
}
/* The slot is free again at once; nothing may be in flight on it. */
static inline void ring_close(struct ring *ring, int socket)
{
    ring->ops->close(ring, socket);
}

/* ---- provided buffers: who is told of one holds it until ring_buffer_give ---- */

static inline uint32_t ring_buffer_index(unsigned flags)
{
    return flags >> 16;
}
static inline uint8_t *ring_buffer(const struct ring *ring, uint32_t index)
{
    return ring->buffers + (size_t)index * ring->buffer_bytes;
}
static inline void ring_buffer_give(struct ring *ring, uint32_t index)
{
    ring->buffer_give(ring, index);
}

/* ---- files ---- */

/* res: a descriptor for ring_file_adopt, or an errno. path stays untouched until it lands. */
static inline void ring_open(struct ring *ring, struct op *op, const char *path, int flags,
                             unsigned mode)
{
    ring->ops->open(ring, op, path, flags, mode);
}
[[nodiscard]] static inline int ring_file_adopt(struct ring *ring, int fd, struct ring_file *file)
{
    return ring->ops->file_adopt(ring, fd, file);
}
static inline void ring_file_close(struct ring *ring, struct ring_file *file)
{
    ring->ops->file_close(ring, file);
}
static inline void ring_read(struct ring *ring, struct op *op, const struct ring_file *file,
                             void *to, uint32_t bytes, uint64_t offset)
{
    ring->ops->read(ring, op, file, to, bytes, offset);
}
/* May land with less than bytes: what is missing was not written. */
static inline void ring_write(struct ring *ring, struct op *op, const struct ring_file *file,
                              const void *from, uint32_t bytes, uint64_t offset, unsigned flags)
{
    ring->ops->write(ring, op, file, from, bytes, offset, flags);
}
/* fdatasync of a file, fsync of a directory opened with O_DIRECTORY. */
static inline void ring_sync(struct ring *ring, struct op *op, const struct ring_file *file)
{
    ring->ops->sync(ring, op, file);
}
/* Multishot, readable; for descriptors of other libraries on the control thread. */
static inline void ring_poll(struct ring *ring, struct op *op, int fd)
{
    ring->ops->poll(ring, op, fd);
}
/* Asks an op in flight to land soon (-ECANCELED, or what it had got by then). */
static inline void ring_cancel(struct ring *ring, struct op *op)
{
    ring->ops->cancel(ring, op);
}

/* ---- the loop ---- */

/* From any ring's own thread: makes `to` return from ring_wait and call its woken(). */
static inline void ring_wake(struct ring *from, struct ring *to)
{
    from->ops->wake(from, to);
}
/* Submits, waits until something landed or until_ms (monotonic; 0: do not wait), runs the landed
 * callbacks. Returns how many, or an errno that the ring cannot go on after. */
[[nodiscard]] static inline int ring_wait(struct ring *ring, uint64_t until_ms)
{
    return ring->ops->wait(ring, until_ms);
}
static inline void ring_clock(struct ring *ring, uint64_t *monotonic_ns, int64_t *wall_us)
{
    ring->ops->clock(ring, monotonic_ns, wall_us);
}
static inline int64_t ring_slept_us(struct ring *ring)
{
    return ring->ops->slept == NULL ? 0 : ring->ops->slept(ring);
}
static inline uint64_t ring_entropy(struct ring *ring)
{
    return ring->ops->entropy(ring);
}

#endif
