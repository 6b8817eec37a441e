/*
 * test_ring.c - the real ring: loopback sockets, a temporary file, another thread
 *
 * Skipped where io_uring is not to be had. Waits are bounded, never measured.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/ring.h"
#include "tests/core/fewer.h"

enum { BUFFERS = 4, BUFFER_BYTES = 1'024, SOCKETS = 16, LANDINGS_MAX = 64, WAIT_MS = 10'000 };

/* An op that writes down how it landed. */
struct landing {
    struct op op;
    int res[LANDINGS_MAX];
    unsigned flags[LANDINGS_MAX];
    unsigned count;
};

static void landed(struct op *op, int res, unsigned flags)
{
    struct landing *l = container_of(op, struct landing, op);
    cr_assert_lt(l->count, LANDINGS_MAX);
    cr_assert_eq(op->inflight, (flags & RING_MORE) != 0);
    l->res[l->count] = res;
    l->flags[l->count++] = flags;
}

static struct landing *landing(struct landing *l)
{
    *l = (struct landing) { .op.landed = landed };
    return l;
}

static uint64_t now_ms(struct ring *ring)
{
    uint64_t ns;
    int64_t wall_us;
    ring_clock(ring, &ns, &wall_us);
    return ns / 1'000'000;
}

static struct ring *ring_make(void)
{
    const struct ring_options options = { .entries = 8,
                                          .sockets_max = SOCKETS,
                                          .recv_buffers = BUFFERS,
                                          .recv_buffer_bytes = BUFFER_BYTES };
    struct ring *ring;
    const char *what;
    int r = ring_new(&options, &ring, &what);
    if (r == -EPERM || r == -ENOSYS)
        cr_skip_test("no io_uring here: %s", what);
    cr_assert_eq(r, 0, "%s", what);
    cr_assert_null(what);
    return ring;
}

/* Turns the ring until the op has landed so often. */
static void wait_for(struct ring *ring, const struct landing *l, unsigned count)
{
    uint64_t until = now_ms(ring) + WAIT_MS;
    while (l->count < count && now_ms(ring) < until)
        cr_assert_geq(ring_wait(ring, until), 0);
    cr_assert_geq(l->count, count, "it did not land");
}

static void settle(struct ring *ring)
{
    for (unsigned i = 0; i < 5; i++)
        cr_assert_geq(ring_wait(ring, now_ms(ring) + 5), 0);
}

/* Two ends of a connection, both in this ring. */
struct pair {
    struct net_address address;
    int listener, client, server;
    struct landing accept;
};

static void listen_here(struct ring *ring, struct pair *p)
{
    cr_assert_eq(net_parse(SLICE("127.0.0.1"), 0, &p->address), 0);
    srand((unsigned)getpid());
    int r = -EADDRINUSE;
    for (unsigned i = 0; i < 100 && r == -EADDRINUSE; i++) {
        p->address.port = (uint16_t)(20'000 + rand() % 10'000);
        r = ring_listen(ring, &p->address, 16, &p->listener);
    }
    cr_assert_eq(r, 0);
    ring_accept(ring, &landing(&p->accept)->op, p->listener);
}

static int connect_to(struct ring *ring, const struct net_address *to, int *result)
{
    struct landing connect;
    int socket;
    cr_assert_eq(ring_socket(ring, to, NULL, &socket), 0);
    ring_connect(ring, &landing(&connect)->op, socket, to);
    wait_for(ring, &connect, 1);
    *result = connect.res[0];
    return socket;
}

static void pair_open(struct ring *ring, struct pair *p)
{
    int result;
    struct net_address peer, local;
    listen_here(ring, p);
    p->client = connect_to(ring, &p->address, &result);
    cr_assert_eq(result, 0);
    wait_for(ring, &p->accept, 1);
    cr_assert(p->accept.flags[0] & RING_MORE, "multishot");
    cr_assert_geq(p->accept.res[0], 0);
    cr_assert_eq(ring_peer(ring, p->accept.res[0], &peer, &local), 0);
    cr_assert(net_equal(&local, &p->address));
    cr_assert_eq(ring_adopt(ring, p->accept.res[0], &p->server), 0);
}

static void pair_close(struct ring *ring, struct pair *p)
{
    ring_cancel(ring, &p->accept.op);
    unsigned count = p->accept.count;
    wait_for(ring, &p->accept, count + 1);
    cr_assert_eq(p->accept.res[count], -ECANCELED);
    ring_close(ring, p->client);
    ring_close(ring, p->server);
    ring_close(ring, p->listener);
    settle(ring);
}

static void send_bytes(struct ring *ring, int socket, const char *text, size_t size)
{
    struct ring_vector v = { .count = 1, .iov[0] = { (void *)(uintptr_t)text, size } };
    struct landing send;
    ring_send(ring, &landing(&send)->op, socket, &v);
    wait_for(ring, &send, 1);
    cr_assert_eq(send.res[0], (int)size);
}

/* ---- sockets ---- */

/* Of the process, to the page; the counters in status lag behind. */
static long anonymous_kib(void)
{
    char line[256];
    long kib = -1;
    FILE *file = fopen("/proc/self/smaps_rollup", "r");
    if (file == NULL)
        cr_skip_test("no smaps_rollup here");
    while (kib < 0 && fgets(line, sizeof(line), file) != NULL)
        if (sscanf(line, "Anonymous: %ld", &kib) != 1)
            kib = -1;
    fclose(file);
    cr_assert_geq(kib, 0);
    return kib;
}

static void connect_in_vain(struct ring *ring, const struct net_address *to, unsigned times)
{
    int result;
    for (unsigned i = 0; i < times; i++) {
        ring_close(ring, connect_to(ring, to, &result));
        cr_assert_eq(result, -ECONNREFUSED);
        cr_assert_geq(ring_wait(ring, 0), 0);
    }
}

/* As many addresses are kept as there are entries; in use are those of one submission. A
 * sanitizer's own memory would be counted, too. */
Test(ring, connecting_for_ever_takes_no_memory)
{
    enum { ENTRIES = 4'096, WARM = 200 };
    const struct ring_options options = { .entries = ENTRIES,
                                          .sockets_max = SOCKETS,
                                          .recv_buffers = BUFFERS,
                                          .recv_buffer_bytes = BUFFER_BYTES };
    struct ring *ring;
    const char *what;
    if (UNDER_ASAN)
        cr_skip_test("what a sanitizer keeps would be counted");
    int r = ring_new(&options, &ring, &what);
    if (r == -EPERM || r == -ENOSYS)
        cr_skip_test("no io_uring here: %s", what);
    cr_assert_eq(r, 0, "%s", what);
    struct pair p = { 0 };
    listen_here(ring, &p);
    ring_cancel(ring, &p.accept.op);
    wait_for(ring, &p.accept, 1);
    ring_close(ring, p.listener);
    settle(ring);
    connect_in_vain(ring, &p.address, WARM);
    const long before = anonymous_kib();
    connect_in_vain(ring, &p.address, ENTRIES - WARM);
    const long after = anonymous_kib();
    cr_assert_lt(after - before, 128, "%ld KiB more", after - before);
    ring_free(ring);
}

Test(ring, connections_of_one_submission_find_their_ways)
{
    struct ring *ring = ring_make();
    struct pair p = { 0 };
    enum { CONNECTS = 6 };
    struct landing connects[CONNECTS];
    int sockets[CONNECTS];
    listen_here(ring, &p);
    struct net_address nobody = p.address;
    cr_assert_eq(net_parse(SLICE("127.0.0.2"), p.address.port, &nobody), 0);
    for (unsigned round = 0; round < 3; round++) {
        const unsigned accepted = p.accept.count;
        for (unsigned i = 0; i < CONNECTS; i++) {
            const struct net_address *to = i % 2 == 0 ? &p.address : &nobody;
            cr_assert_eq(ring_socket(ring, to, NULL, &sockets[i]), 0);
            ring_connect(ring, &landing(&connects[i])->op, sockets[i], to);
        }
        for (unsigned i = 0; i < CONNECTS; i++) {
            wait_for(ring, &connects[i], 1);
            cr_assert_eq(connects[i].res[0], i % 2 == 0 ? 0 : -ECONNREFUSED);
            ring_close(ring, sockets[i]);
        }
        wait_for(ring, &p.accept, accepted + CONNECTS / 2);
        for (unsigned i = accepted; i < p.accept.count; i++)
            close(p.accept.res[i]);
        settle(ring);
    }
    ring_cancel(ring, &p.accept.op);
    wait_for(ring, &p.accept, p.accept.count + 1);
    ring_close(ring, p.listener);
    settle(ring);
    ring_free(ring);
}

Test(ring, refused_and_missing_are_errors)
{
    struct ring *ring = ring_make();
    struct pair p = { 0 };
    int result, other;
    listen_here(ring, &p);
    ring_cancel(ring, &p.accept.op);
    wait_for(ring, &p.accept, 1);
    ring_close(ring, p.listener);
    settle(ring);
    int socket = connect_to(ring, &p.address, &result);
    cr_assert_eq(result, -ECONNREFUSED);
    ring_close(ring, socket);
    settle(ring);
    /* The table is full. */
    int sockets[SOCKETS];
    for (unsigned i = 0; i < SOCKETS; i++)
        cr_assert_eq(ring_socket(ring, &p.address, NULL, &sockets[i]), 0);
    cr_assert_eq(ring_socket(ring, &p.address, NULL, &other), -ENFILE);
    for (unsigned i = 0; i < SOCKETS; i++)
        ring_close(ring, sockets[i]);
    settle(ring);
    /* Whoever passes no descriptor gets no listener. */
    cr_assert_lt(ring_listen_fd(ring, -1, &other), 0);
    struct landing open;
    ring_open(ring, &landing(&open)->op, "/nowhere/at/all", O_RDONLY, 0);
    wait_for(ring, &open, 1);
    cr_assert_eq(open.res[0], -ENOENT);
    ring_free(ring);
}

Test(ring, a_slot_is_used_again_only_when_its_close_is_done)
{
    struct ring *ring = ring_make();
    struct net_address address;
    cr_assert_eq(net_parse(SLICE("127.0.0.1:1"), 0, &address), 0);
    int first;
    cr_assert_eq(ring_socket(ring, &address, NULL, &first), 0);
    ring_close(ring, first);
    for (unsigned i = 0; i < 100; i++) {
        int socket, other;
        cr_assert_eq(ring_socket(ring, &address, NULL, &socket), 0);
        cr_assert_eq(ring_socket(ring, &address, NULL, &other), 0);
        cr_assert_neq(socket, other);
        ring_close(ring, socket);
        ring_close(ring, other);
        settle(ring);
    }
    ring_free(ring);
}

Test(ring, accept_goes_on_until_it_is_cancelled)
{
    struct ring *ring = ring_make();
    struct pair p = { 0 };
    pair_open(ring, &p);
    int result;
    for (unsigned i = 0; i < 5; i++) {
        int socket = connect_to(ring, &p.address, &result);
        cr_assert_eq(result, 0);
        wait_for(ring, &p.accept, 2 + i);
        ring_discard(ring, p.accept.res[1 + i]);
        ring_close(ring, socket);
    }
    pair_close(ring, &p);
    ring_free(ring);
}

Test(ring, recv_takes_provided_buffers_and_says_when_there_are_none)
{
    struct ring *ring = ring_make();
    struct pair p = { 0 };
    static char text[BUFFERS * BUFFER_BYTES + 100];
    pair_open(ring, &p);
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (char)('a' + i % 26);
    struct landing recv;
    ring_recv(ring, &landing(&recv)->op, p.server);
    send_bytes(ring, p.client, text, sizeof(text));
    size_t at = 0;
    for (unsigned seen = 0; at < sizeof(text);) {
        wait_for(ring, &recv, seen + 1);
        for (; seen < recv.count; seen++) {
            if (recv.res[seen] == -ENOBUFS) {
                cr_assert_eq(ring->buffers_free, 0);
                cr_assert(!recv.op.inflight);
                break;
            }
            cr_assert_gt(recv.res[seen], 0);
            cr_assert(recv.flags[seen] & RING_BUFFER);
            uint32_t buffer = ring_buffer_index(recv.flags[seen]);
            cr_assert_eq(memcmp(ring_buffer(ring, buffer), text + at, (size_t)recv.res[seen]), 0);
            at += (size_t)recv.res[seen];
        }
        if (seen < recv.count) { /* out of buffers: give all back, arm again */
            for (unsigned i = 0; i < seen; i++)
                ring_buffer_give(ring, ring_buffer_index(recv.flags[i]));
            cr_assert_eq(ring->buffers_free, BUFFERS);
            ring_recv(ring, &landing(&recv)->op, p.server);
            seen = 0;
        } else if (!recv.op.inflight) {
            break;
        }
    }
    cr_assert_eq(at, sizeof(text));
    for (unsigned i = 0; i < recv.count; i++)
        if (recv.flags[i] & RING_BUFFER)
            ring_buffer_give(ring, ring_buffer_index(recv.flags[i]));
    cr_assert_eq(ring->buffers_free, BUFFERS);
    /* The end of file. */
    struct landing shut;
    unsigned count = recv.count;
    ring_shutdown(ring, &landing(&shut)->op, p.client);
    wait_for(ring, &shut, 1);
    cr_assert_eq(shut.res[0], 0);
    if (recv.op.inflight) {
        wait_for(ring, &recv, count + 1);
        cr_assert_eq(recv.res[count], 0);
        if (recv.flags[count] & RING_BUFFER)
            ring_buffer_give(ring, ring_buffer_index(recv.flags[count]));
    }
    cr_assert(!recv.op.inflight);
    pair_close(ring, &p);
    cr_assert_eq(ring->ops_inflight, 0);
    ring_free(ring);
}

Test(ring, a_vector_leaves_whole_and_in_order)
{
    struct ring *ring = ring_make();
    struct pair p = { 0 };
    static char big[100'000];
    pair_open(ring, &p);
    memset(big, 'x', sizeof(big));
    struct ring_vector v = { .count = RING_VECTOR_MAX };
    for (unsigned i = 0; i < RING_VECTOR_MAX; i++)
        v.iov[i] = (struct iovec) { big, 1 + i * 6'000 };
    size_t size = 0;
    for (unsigned i = 0; i < RING_VECTOR_MAX; i++)
        size += v.iov[i].iov_len;
    struct landing send, recv;
    ring_send(ring, &landing(&send)->op, p.client, &v);
    size_t got = 0;
    while (got < size) {
        ring_recv(ring, &landing(&recv)->op, p.server);
        wait_for(ring, &recv, 1);
        for (unsigned i = 0; i < recv.count || recv.op.inflight; i++) {
            wait_for(ring, &recv, i + 1);
            if (recv.flags[i] & RING_BUFFER)
                ring_buffer_give(ring, ring_buffer_index(recv.flags[i]));
            if (recv.res[i] > 0)
                got += (size_t)recv.res[i];
            if (recv.count == LANDINGS_MAX - 8 && recv.op.inflight)
                ring_cancel(ring, &recv.op);
            if (got == size && recv.op.inflight && !recv.op.cancelled)
                ring_cancel(ring, &recv.op);
        }
    }
    wait_for(ring, &send, 1);
    cr_assert_eq(send.res[0], (int)size);
    cr_assert_eq(got, size);
    pair_close(ring, &p);
    ring_free(ring);
}

Test(ring, sending_to_nobody_is_an_error_and_no_signal)
{
    struct ring *ring = ring_make();
    struct pair p = { 0 };
    int result;
    pair_open(ring, &p);
    int socket = connect_to(ring, &p.address, &result);
    wait_for(ring, &p.accept, 2);
    ring_discard(ring, p.accept.res[1]);
    settle(ring);
    struct ring_vector v = { .count = 1, .iov[0] = { (void *)(uintptr_t) "hello", 5 } };
    int res = 5;
    for (unsigned i = 0; i < 10 && res == 5; i++) {
        struct landing send;
        ring_send(ring, &landing(&send)->op, socket, &v);
        wait_for(ring, &send, 1);
        res = send.res[0];
        settle(ring);
    }
    cr_assert(res == -EPIPE || res == -ECONNRESET, "%d", res);
    ring_close(ring, socket);
    pair_close(ring, &p);
    ring_free(ring);
}

Test(ring, cancel_lands_the_op)
{
    struct ring *ring = ring_make();
    struct pair p = { 0 };
    pair_open(ring, &p);
    struct landing recv;
    ring_recv(ring, &landing(&recv)->op, p.server);
    settle(ring);
    ring_cancel(ring, &recv.op);
    ring_cancel(ring, &recv.op); /* asked already: harmless */
    wait_for(ring, &recv, 1);
    cr_assert_eq(recv.res[0], -ECANCELED);
    cr_assert(!recv.op.inflight);
    /* Armed and cancelled in one go. */
    ring_recv(ring, &landing(&recv)->op, p.server);
    ring_cancel(ring, &recv.op);
    wait_for(ring, &recv, 1);
    cr_assert_eq(recv.res[0], -ECANCELED);
    pair_close(ring, &p);
    ring_free(ring);
}

/* More at once than the submission queue holds. */
Test(ring, a_full_submission_queue_is_handed_over)
{
    struct ring *ring = ring_make();
    static struct landing opens[100];
    cr_assert_geq(ring_wait(ring, 0), 0);
    for (unsigned i = 0; i < ARRAY_COUNT(opens); i++)
        ring_open(ring, &landing(&opens[i])->op, "/dev/null", O_RDONLY, 0);
    cr_assert_eq(ring->ops_inflight, ARRAY_COUNT(opens));
    for (unsigned i = 0; i < ARRAY_COUNT(opens); i++) {
        wait_for(ring, &opens[i], 1);
        cr_assert_geq(opens[i].res[0], 0);
        cr_assert_eq(ring->ops->now_close(ring, opens[i].res[0]), 0);
    }
    cr_assert_eq(ring->ops_inflight, 0);
    ring_free(ring);
}

/* ---- files ---- */

static void open_file(struct ring *ring, const char *path, int flags, struct ring_file *file)
{
    struct landing open;
    ring_open(ring, &landing(&open)->op, path, flags, 0600);
    wait_for(ring, &open, 1);
    cr_assert_geq(open.res[0], 0);
    cr_assert_eq(ring_file_adopt(ring, open.res[0], file), 0);
}

static void list_name(void *argument, const char *name)
{
    unsigned *names = argument;
    ++*names;
    cr_assert(name[0] == 'f');
    errno = ENOENT; /* whatever it does with the name */
}

Test(ring, files_are_written_synced_and_read_back)
{
    struct ring *ring = ring_make();
    char directory[] = "/tmp/test_ring.XXXXXX", path[64], other[64];
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/file", directory);
    snprintf(other, sizeof(other), "%s/found", directory);
    struct ring_file file, folder;
    struct landing op;
    open_file(ring, path, O_RDWR | O_CREAT | O_EXCL, &file);
    open_file(ring, directory, O_RDONLY | O_DIRECTORY, &folder);
    ring_write(ring, &landing(&op)->op, &file, "hello world", 11, 4'096, RING_WRITE_DURABLE);
    wait_for(ring, &op, 1);
    cr_assert_eq(op.res[0], 11);
    ring_write(ring, &landing(&op)->op, &file, "HELLO", 5, 4'096, 0);
    wait_for(ring, &op, 1);
    cr_assert_eq(op.res[0], 5);
    ring_sync(ring, &landing(&op)->op, &file);
    wait_for(ring, &op, 1);
    cr_assert_eq(op.res[0], 0);
    ring_sync(ring, &landing(&op)->op, &folder);
    wait_for(ring, &op, 1);
    cr_assert_eq(op.res[0], 0, "a directory, too: %d", op.res[0]);
    char text[64];
    ring_read(ring, &landing(&op)->op, &file, text, sizeof(text), 4'096);
    wait_for(ring, &op, 1);
    cr_assert_eq(op.res[0], 11);
    cr_assert_eq(memcmp(text, "HELLO world", 11), 0);
    ring_read(ring, &landing(&op)->op, &file, text, sizeof(text), 8'192);
    wait_for(ring, &op, 1);
    cr_assert_eq(op.res[0], 0);
    struct ring_stat stat;
    cr_assert_eq(ring->ops->now_stat(ring, file.fd, &stat), 0);
    cr_assert_eq(stat.size, 4'096 + 11);
    cr_assert_eq(ring->ops->now_write(ring, file.fd, "x", 1, 0), 1);
    cr_assert_eq(ring->ops->now_read(ring, file.fd, text, 1, 0), 1);
    cr_assert_eq(text[0], 'x');
    cr_assert_eq(ring->ops->now_sync(ring, file.fd), 0);
    ring_file_close(ring, &file);
    ring_file_close(ring, &folder);
    cr_assert_eq(file.fd, -1);
    settle(ring);
    cr_assert_eq(ring->ops->now_rename(ring, path, other), 0);
    cr_assert_eq(ring->ops->now_unlink(ring, path), -ENOENT);
    unsigned names = 0;
    cr_assert_eq(ring->ops->now_list(ring, directory, list_name, &names), 0);
    cr_assert_eq(names, 1);
    cr_assert_eq(ring->ops->now_list(ring, path, list_name, &names), -ENOENT);
    cr_assert_eq(ring->ops->now_mkdir(ring, directory, 0700), -EEXIST);
    cr_assert_eq(ring->ops->now_unlink(ring, other), 0);
    cr_assert_eq(rmdir(directory), 0);
    ring_free(ring);
}

/* ---- polls and wakes ---- */

Test(ring, poll_tells_of_foreign_descriptors)
{
    struct ring *ring = ring_make();
    int ends[2];
    char octet;
    cr_assert_eq(pipe(ends), 0);
    struct landing poll;
    ring_poll(ring, &landing(&poll)->op, ends[0]);
    settle(ring);
    cr_assert_eq(poll.count, 0);
    for (unsigned i = 0; i < 3; i++) {
        unsigned count = poll.count;
        cr_assert_eq(write(ends[1], "x", 1), 1);
        wait_for(ring, &poll, count + 1);
        cr_assert_gt(poll.res[count], 0);
        cr_assert_eq(read(ends[0], &octet, 1), 1);
        if (!poll.op.inflight)
            ring_poll(ring, &landing(&poll)->op, ends[0]);
    }
    unsigned count = poll.count;
    ring_cancel(ring, &poll.op);
    wait_for(ring, &poll, count + 1);
    cr_assert(!poll.op.inflight);
    close(ends[0]);
    close(ends[1]);
    ring_free(ring);
}

struct waker {
    struct ring *target;
    unsigned wakes;
};

static unsigned woken;

static void on_woken(struct ring *ring, void *argument)
{
    (void)ring;
    (void)argument;
    woken++;
}

static void *wake_from_here(void *argument)
{
    struct waker *w = argument;
    struct ring *ring = ring_make();
    for (unsigned i = 0; i < w->wakes; i++) {
        ring_wake(ring, w->target);
        (void)ring_wait(ring, 0);
    }
    ring_free(ring);
    return NULL;
}

Test(ring, another_thread_wakes_it)
{
    struct ring *ring = ring_make();
    pthread_t thread;
    struct waker waker = { .target = ring, .wakes = 100 };
    woken = 0;
    ring->woken = on_woken;
    cr_assert_geq(ring_wait(ring, 0), 0); /* it is its thread's from here on */
    cr_assert_eq(pthread_create(&thread, NULL, wake_from_here, &waker), 0);
    uint64_t until = now_ms(ring) + WAIT_MS;
    while (woken < waker.wakes && now_ms(ring) < until)
        cr_assert_geq(ring_wait(ring, until), 0);
    pthread_join(thread, NULL);
    cr_assert_eq(woken, waker.wakes);
    ring_wake(ring, ring); /* itself, too */
    while (woken < waker.wakes + 1 && now_ms(ring) < until)
        cr_assert_geq(ring_wait(ring, until), 0);
    cr_assert_eq(woken, waker.wakes + 1);
    ring_free(ring);
}

Test(ring, a_wait_without_anything_ends)
{
    struct ring *ring = ring_make();
    cr_assert_eq(ring_wait(ring, 0), 0);
    uint64_t until = now_ms(ring) + 20;
    while (now_ms(ring) < until)
        cr_assert_eq(ring_wait(ring, until), 0);
    cr_assert_neq(ring_entropy(ring), ring_entropy(ring));
    ring_free(ring);
}
