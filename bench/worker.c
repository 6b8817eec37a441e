/*
 * worker.c - a thread with a shard, an acceptor, and the signals of the main thread
 */
#include "bench/worker.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include "core/check.h"

enum { TICK_MS = 10, BACKLOG = 16'384, SLOTS_SPARE = 64 };

static void worker_on_tick(struct timer *timer)
{
    struct worker *worker = container_of(timer, struct worker, tick);
    struct shard *shard = &worker->shard;
    if (worker->on_tick != NULL)
        worker->on_tick(worker);
    if (__atomic_load_n(&worker->stop_asked, __ATOMIC_ACQUIRE)) {
        if (worker->stop_by_ms == 0)
            worker->stop_by_ms = shard->now_ms + WORKER_STOP_MS;
        if (worker->on_stop(worker) || shard->now_ms >= worker->stop_by_ms) {
            shard->stop = true;
            return;
        }
    }
    shard_timer_arm(shard, &worker->tick, worker->tick_ms);
}

int worker_init(struct worker *worker, unsigned index, uint32_t sockets, uint32_t buffers,
                const char **what)
{
    struct rlimit files;
    uint64_t slots = 2 * (uint64_t)sockets + SLOTS_SPARE;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0)
        slots = MIN(slots, files.rlim_cur); /* the kernel allows no larger table */
    struct ring_options options = {
        .entries = WORKER_RING_ENTRIES,
        /* A closed socket's slot is free only when the kernel says so: twice as many. */
        .sockets_max = (uint32_t)slots,
        .recv_buffers = buffers,
        .recv_buffer_bytes = WORKER_BUFFER_BYTES,
    };
    int r = ring_new(&options, &worker->ring, what);
    if (r < 0)
        return r;
    r = connection_pools_init(&worker->pools, worker->ring, sockets);
    if (r < 0) {
        *what = "no memory";
        ring_free(worker->ring);
        worker->ring = NULL;
        return r;
    }
    shard_init(&worker->shard, worker->ring, NULL, 0);
    worker->shard.index = index;
    worker->tick_ms = TICK_MS;
    timer_init(&worker->tick, worker_on_tick);
    return 0;
}

static void *worker_run(void *argument)
{
    struct worker *worker = argument;
    shard_timer_arm(&worker->shard, &worker->tick, worker->tick_ms);
    worker->error = shard_loop(&worker->shard);
    return NULL;
}

int worker_start(struct worker *worker)
{
    CHECK(worker->on_stop != NULL);
    int r = pthread_create(&worker->thread, NULL, worker_run, worker);
    worker->started = r == 0;
    return -r;
}

void worker_ask_stop(struct worker *worker)
{
    __atomic_store_n(&worker->stop_asked, true, __ATOMIC_RELEASE);
}

int worker_join(struct worker *worker)
{
    if (!worker->started)
        return 0;
    pthread_join(worker->thread, NULL);
    worker->started = false;
    return worker->error;
}

void worker_free(struct worker *worker)
{
    if (worker->ring == NULL)
        return;
    ring_free(worker->ring);
    connection_pools_free(&worker->pools);
    worker->ring = NULL;
}

/* ---- accepting ---- */

static void acceptor_on_accept(struct op *op, int res, unsigned flags)
{
    (void)flags;
    struct acceptor *acceptor = container_of(op, struct acceptor, op);
    struct ring *ring = acceptor->worker->ring;
    if (res < 0)
        return; /* armed again by the next tick */
    int socket;
    if (ring_adopt(ring, res, &socket) < 0) {
        ring_discard(ring, res);
        acceptor->refused++;
    } else if (!acceptor->accepted(acceptor, socket)) {
        ring_close(ring, socket);
        acceptor->refused++;
    }
}

int acceptor_init(struct acceptor *acceptor, struct worker *worker,
                  const struct net_address *address,
                  bool (*accepted)(struct acceptor *acceptor, int socket))
{
    *acceptor = (struct acceptor) {
        .worker = worker,
        .op.landed = acceptor_on_accept,
        .accepted = accepted,
    };
    return ring_listen(worker->ring, address, BACKLOG, &acceptor->listener);
}

void acceptor_tick(struct acceptor *acceptor)
{
    if (!acceptor->op.inflight)
        ring_accept(acceptor->worker->ring, &acceptor->op, acceptor->listener);
}

/* ---- connecting ---- */

struct net_address worker_from(uint32_t number)
{
    uint32_t host = (127U << 24 | 1) + number;
    struct net_address from = { .octets = { [10] = 0xff, 0xff } };
    for (unsigned i = 0; i < 4; i++)
        from.octets[12 + i] = (uint8_t)(host >> (24 - 8 * i));
    return from;
}

/* ---- signals ---- */

static void signals_set(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGUSR1);
}

void signals_init(void)
{
    sigset_t set;
    signals_set(&set);
    CHECK(pthread_sigmask(SIG_BLOCK, &set, NULL) == 0);
    signal(SIGPIPE, SIG_IGN);
}

int signals_wait(uint32_t ms)
{
    sigset_t set;
    signals_set(&set);
    struct timespec timeout = { .tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1'000'000 };
    int signal_number = sigtimedwait(&set, NULL, &timeout);
    return signal_number > 0 ? signal_number : 0;
}
