/*
 * worker.h - one thread of the load generator: a shard of its own, and how it is told to stop
 *
 *   worker_init --worker_start--> running --worker_ask_stop--> on_stop() until true --> joined
 *
 * The main thread owns signals, progress and results; it reads the workers' numbers (relaxed) and
 * never touches anything else of theirs. A worker looks at what the main thread asks for once a
 * tick, so nothing has to wake it.
 */
#ifndef RINGPOST_BENCH_WORKER_H
#define RINGPOST_BENCH_WORKER_H

#include <pthread.h>

#include "mta/connection.h"

enum {
    WORKER_RING_ENTRIES = 4096,
    WORKER_BUFFERS = 512,
    WORKER_BUFFER_BYTES = 16'384,
    WORKER_STOP_MS = 1'000, /* how long sessions may take to close at the end */
};

struct worker {
    struct shard shard;
    struct ring *ring;
    struct connection_pools pools;
    struct timer tick;
    uint32_t tick_ms;
    void (*on_tick)(struct worker *worker); /* or NULL */
    bool (*on_stop)(struct worker *worker); /* closes sessions; true: nothing is left */
    uint64_t stop_by_ms;                    /* 0: not asked to stop yet */
    pthread_t thread;
    int error;
    bool stop_asked; /* written by the main thread */
    bool started;
};

/* Ring, shard and pools for so many sockets. 0, or errno with words in *what. */
[[nodiscard]] int worker_init(struct worker *worker, unsigned index, uint32_t sockets,
                              uint32_t buffers, const char **what);
[[nodiscard]] int worker_start(struct worker *worker);
void worker_ask_stop(struct worker *worker);
/* Waits for the end of its thread; 0 or what ended its loop. */
int worker_join(struct worker *worker);
void worker_free(struct worker *worker);

/* Listens, and gives adopted sockets away. */
struct acceptor {
    struct worker *worker;
    struct op op;
    int listener;
    uint64_t refused; /* sockets for which there was no room */
    /* false: no room, the socket is closed again. */
    bool (*accepted)(struct acceptor *acceptor, int socket);
};

[[nodiscard]] int acceptor_init(struct acceptor *acceptor, struct worker *worker,
                                const struct net_address *address,
                                bool (*accepted)(struct acceptor *acceptor, int socket));
/* Once a tick: accepts again after it had to end. */
void acceptor_tick(struct acceptor *acceptor);

/* To connect from: 127.0.0.1 is number 0, and so on. */
struct net_address worker_from(uint32_t number);

/* Blocks what signals_wait takes; before any thread is started. */
void signals_init(void);
/* Waits for at most ms: the signal that came, or 0. */
int signals_wait(uint32_t ms);

#endif
