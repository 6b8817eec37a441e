/*
 * faulty_disk.c - a disk that fails when it is told to: one file of a FUSE file system
 *
 *   faulty_disk MOUNTPOINT BACKING BYTES
 *
 * Mounts a file system that has one file, "disk", of so many bytes, kept in the file BACKING. Below
 * a loop device it is a disk; what io_uring writes to a file system on that comes through here.
 * Orders come on standard input, one a line; each is answered by a line on standard output:
 *
 *   write ERRNO COUNT    the next COUNT writes fail (-1: all from now on; 0: none), and do nothing
 *   flush ERRNO COUNT    the same for flushes; what was written before stays
 *   numbers              "WRITES FLUSHES FAILED" so far
 *
 * Ends, and unmounts, when standard input ends. Speaks the kernel's protocol itself: no library.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE_MAX = 128 * 1024, REQUEST_MAX = WRITE_MAX + 8192, DISK = 2, VALID_S = 3600 };

struct fault {
    int error;
    long count;
};

static int fuse, backing;
static uint64_t bytes;
static struct fault write_fault, flush_fault;
static long writes, flushes, failed;
static _Alignas(8) char request[REQUEST_MAX], data[WRITE_MAX];

static int fails(struct fault *fault)
{
    if (fault->count == 0)
        return 0;
    if (fault->count > 0)
        fault->count--;
    failed++;
    return -fault->error;
}

static void reply(const struct fuse_in_header *in, int error, const void *body, size_t size)
{
    struct fuse_out_header out = { .error = error, .unique = in->unique };
    if (error != 0)
        size = 0;
    out.len = (uint32_t)(sizeof(out) + size);
    struct iovec iov[2] = { { &out, sizeof(out) }, { (void *)(uintptr_t)body, size } };
    if (writev(fuse, iov, size > 0 ? 2 : 1) < 0 && errno != ENOENT)
        perror("faulty_disk: reply");
}

static struct fuse_attr attr_of(uint64_t node)
{
    struct fuse_attr attr = { .ino = node, .nlink = 1, .blksize = 4096 };
    attr.mode = node == DISK ? S_IFREG | 0600 : S_IFDIR | 0700;
    attr.size = node == DISK ? bytes : 4096;
    attr.blocks = attr.size / 512;
    return attr;
}

static void on_init(const struct fuse_in_header *in)
{
    struct fuse_init_out out = { .major = FUSE_KERNEL_VERSION,
                                 .minor = 31,
                                 .max_readahead = WRITE_MAX };
    out.flags = FUSE_BIG_WRITES;
    out.max_write = WRITE_MAX;
    out.max_background = 64;
    out.congestion_threshold = 48;
    out.time_gran = 1;
    reply(in, 0, &out, sizeof(out));
}

static void on_lookup(const struct fuse_in_header *in, const char *name)
{
    struct fuse_entry_out out = { .nodeid = DISK, .attr_valid = VALID_S, .entry_valid = VALID_S };
    out.attr = attr_of(DISK);
    reply(in, strcmp(name, "disk") == 0 ? 0 : -ENOENT, &out, sizeof(out));
}

static void on_attr(const struct fuse_in_header *in)
{
    struct fuse_attr_out out = { .attr_valid = VALID_S, .attr = attr_of(in->nodeid) };
    reply(in, 0, &out, sizeof(out));
}

/* Nothing is kept in the page cache of this file: what the loop device does comes here at once. */
static void on_open(const struct fuse_in_header *in)
{
    struct fuse_open_out out = { .open_flags = in->nodeid == DISK ? FOPEN_DIRECT_IO : 0 };
    reply(in, 0, &out, sizeof(out));
}

static void on_read(const struct fuse_in_header *in, const struct fuse_read_in *read_in)
{
    ssize_t n = pread(backing, data, read_in->size < WRITE_MAX ? read_in->size : WRITE_MAX,
                      (off_t)read_in->offset);
    reply(in, n < 0 ? -errno : 0, data, n < 0 ? 0 : (size_t)n);
}

static void on_write(const struct fuse_in_header *in, const struct fuse_write_in *write_in)
{
    struct fuse_write_out out = { .size = write_in->size };
    writes++;
    int error = fails(&write_fault);
    if (error == 0 &&
        pwrite(backing, write_in + 1, write_in->size, (off_t)write_in->offset) != write_in->size)
        error = -EIO;
    reply(in, error, &out, sizeof(out));
}

static void on_flush(const struct fuse_in_header *in)
{
    flushes++;
    reply(in, fails(&flush_fault), NULL, 0);
}

static void on_statfs(const struct fuse_in_header *in)
{
    struct fuse_statfs_out out = { .st = {
                                       .blocks = bytes / 4096, .bsize = 4096, .namelen = 255 } };
    reply(in, 0, &out, sizeof(out));
}

static void on_request(void)
{
    const struct fuse_in_header *in = (const void *)request;
    const void *body = in + 1;
    switch (in->opcode) {
    case FUSE_INIT: on_init(in); break;
    case FUSE_LOOKUP: on_lookup(in, body); break;
    case FUSE_GETATTR:
    case FUSE_SETATTR: on_attr(in); break;
    case FUSE_OPEN:
    case FUSE_OPENDIR: on_open(in); break;
    case FUSE_READ: on_read(in, body); break;
    case FUSE_WRITE: on_write(in, body); break;
    case FUSE_FSYNC: on_flush(in); break;
    case FUSE_STATFS: on_statfs(in); break;
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_ACCESS:
    case FUSE_READDIR: reply(in, 0, NULL, 0); break;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT: break; /* have no reply */
    default: reply(in, -ENOSYS, NULL, 0);
    }
}

static void on_order(const char *line)
{
    char what[16];
    struct fault fault;
    int n = sscanf(line, "%15s %d %ld", what, &fault.error, &fault.count);
    if (n == 3 && strcmp(what, "write") == 0)
        write_fault = fault;
    else if (n == 3 && strcmp(what, "flush") == 0)
        flush_fault = fault;
    else if (n != 1 || strcmp(what, "numbers") != 0)
        printf("? ");
    printf("%ld %ld %ld\n", writes, flushes, failed);
    fflush(stdout);
}

/* Until standard input ends. */
static void serve(void)
{
    struct pollfd fds[2] = { { .fd = fuse, .events = POLLIN }, { .fd = 0, .events = POLLIN } };
    char line[128];
    for (;;) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return;
        if (fds[1].revents != 0) {
            ssize_t n = read(0, line, sizeof(line) - 1); /* one order at a time: it is answered */
            if (n <= 0)
                return;
            line[n] = '\0';
            on_order(line);
        }
        if ((fds[0].revents & POLLIN) != 0) {
            ssize_t n = read(fuse, request, sizeof(request));
            if (n < 0 && errno != EINTR && errno != ENOENT && errno != EAGAIN)
                return; /* unmounted */
            if (n > 0)
                on_request();
        } else if (fds[0].revents != 0) {
            return;
        }
    }
}

int main(int argc, char **argv)
{
    char options[128];
    if (argc != 4) {
        fputs("faulty_disk MOUNTPOINT BACKING BYTES\n", stderr);
        return 2;
    }
    bytes = strtoull(argv[3], NULL, 10);
    backing = open(argv[2], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,max_read=%d",
             fuse, WRITE_MAX);
    if (backing < 0 || fuse < 0 || ftruncate(backing, (off_t)bytes) < 0 ||
        mount("faulty_disk", argv[1], "fuse", MS_NOSUID | MS_NODEV, options) < 0) {
        perror("faulty_disk");
        return 1;
    }
    puts("ready");
    fflush(stdout);
    serve();
    umount2(argv[1], MNT_DETACH);
    return 0;
}
