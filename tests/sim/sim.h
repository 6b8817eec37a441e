/*
 * sim.h - a world for the server to run in: rings, network, disks, clock and names from one seed
 *
 * Everything that core/ring.h can ask of Linux is answered here by one thread, in virtual time,
 * with faults. The same seed and the same calls give the same run, bit by bit: sim_trace tells.
 *
 *   sim_new -> sim_ring (one per shard, per actor) -> shard_init -> sim_shard -> sim_run ...
 *           -> sim_crash -> (drop the victims' memory) -> sim_ring again, same machine -> sim_run
 * ...
 *           -> sim_free
 *
 * What is modelled, and what may be relied on:
 * - Time stands still while a shard runs. After each step its thread is busy for some microseconds,
 *   so completions gather and shards interleave in ever new ways.
 * - Operations take random time and finish in random order; only the bytes of one direction of a
 *   socket keep theirs. Numbers of sockets carry a generation: they are no table indices, and using
 *   one after ring_close is a failed CHECK. So are: arming an op twice, two sends at once on one
 *   socket, closing with something in flight, giving a buffer back twice, changing memory that an
 *   operation reads.
 * - A stream is cut anywhere and glued anywhere. Buffers are bounded, a reader that stops stops the
 *   writer. Closing with bytes unread resets, as Linux does. Bytes to a closed socket reset.
 * - A machine is a disk (one file system) and an address. Completed writes are in its page cache.
 * On stable storage are: a RING_WRITE_DURABLE write when it has landed (its pages, and the file's
 * size as far as it needs it), all writes of the file that had landed when a sync that succeeded
 * was started, names in a directory once that directory was synced. A power cut keeps, loses or
 * tears (512 octets) each other write, and keeps or loses each other change of a name, by seed.
 * - After a failed sync what it should have written counts as clean: later syncs succeed without
 * it.
 *
 * The test must end a shard's use of a ring with ring_free (CHECK: nothing in flight), or with
 * sim_crash of its machine, after which no code of the victim may run; its memory is the test's.
 */
#ifndef RINGPOST_TESTS_SIM_H
#define RINGPOST_TESTS_SIM_H

#include "core/dns.h"
#include "core/ring.h"
#include "core/shard.h"

enum { SIM_MACHINES_MAX = 64, SIM_RINGS_MAX = 4096 /* ever made */, SIM_PATH_MAX = 256 };

struct sim;

/* ---- the world ---- */

enum sim_operation {             /* what faults can be asked for, and is counted per machine */
                     SIM_OPEN,   /* also now_open */
                     SIM_READ,   /* also now_read */
                     SIM_WRITE,  /* also now_write; durable ones too */
                     SIM_SYNC,   /* also now_sync; not durable writes */
                     SIM_NAMES,  /* now_mkdir, now_unlink, now_rename, now_list */
                     SIM_ACCEPT, /* a connection handed to the listener's ring */
                     SIM_ADOPT,
                     SIM_SOCKET,
                     SIM_CONNECT,
                     SIM_SEND,
                     SIM_RECV,
                     SIM_OPERATIONS
};

struct sim_range {
    uint64_t min_ns;
    uint64_t max_ns; /* drawn logarithmically: small ones are as frequent as large ones */
};

struct sim_options {
    uint64_t seed;
    int64_t wall_us;          /* wall clock at start; 0: 2030-01-01T00:00Z */
    struct sim_range network; /* one way */
    struct sim_range disk;
    struct sim_range step;                       /* a shard is busy so long after a step */
    uint64_t disk_bytes;                         /* capacity of each machine's disk; 0: no limit */
    uint32_t socket_bytes_min, socket_bytes_max; /* what one direction of a connection holds */
    /* Probabilities in parts per million, each of one operation of its kind. All apply only to
     * machines with `faults` set (sim_faults); the calm world has none. */
    uint32_t slow_ppm;                        /* takes up to some seconds */
    uint32_t stall_ppm;                       /* a step: its thread then sleeps up to 3 s */
    uint32_t refuse_ppm, connect_timeout_ppm; /* of connects towards anybody */
    uint32_t reset_ppm;                       /* of sends */
    uint32_t emfile_ppm;                      /* of accepts: ends the multishot */
    uint32_t short_write_ppm, write_error_ppm, sync_error_ppm, read_error_ppm, open_error_ppm;
    uint32_t enobufs_ppm; /* of recvs: -ENOBUFS although buffers are free */
};

/* Latencies, splits and orders are random; nothing fails. */
struct sim_options sim_calm(uint64_t seed);
/* Each kind of fault is off, rare or frequent, by seed (so that some runs have one kind only). */
struct sim_options sim_storm(uint64_t seed);

struct sim *sim_new(const struct sim_options *options);
/* Frees all; rings need not be freed before. */
void sim_free(struct sim *sim);
/* Options may be changed during the run: sim_options(sim)->reset_ppm = 0. */
struct sim_options *sim_options(struct sim *sim);
/* The world's own random numbers, for decisions of a test or an actor. */
struct random *sim_random(struct sim *sim);
/* True with this probability. */
bool sim_chance(struct sim *sim, uint32_t ppm);
uint64_t sim_now_ms(const struct sim *sim);
uint64_t sim_now_ns(const struct sim *sim);
/* The wall clock of everybody jumps. */
void sim_wall_jump(struct sim *sim, int64_t by_us);
/* Hash over all that has landed anywhere: equal for equal runs. */
uint64_t sim_trace(const struct sim *sim);
/* Events and landings so far. */
uint64_t sim_operations(const struct sim *sim);

/* ---- machines and rings ---- */

/* A machine with an empty disk. address: what its sockets are bound to when nothing else is said,
 * and what a wildcard listener on it is reached by (as by loopback from itself). Returns its
 * number; 0 is the first. */
unsigned sim_machine(struct sim *sim, const char *address);
/* Whether the probabilities of sim_options apply to it. Off for a new machine. */
void sim_faults(struct sim *sim, unsigned machine, bool on);

/* A ring on the machine. It belongs to the sim; ring_free or sim_crash end its use. */
struct ring *sim_ring(struct sim *sim, unsigned machine, const struct ring_options *options);
/* sim_run steps this shard (whose ring is of this sim) when there is something for it to do. */
void sim_shard(struct sim *sim, struct shard *shard);
/* For a ring without a shard: its landings are run by sim_run itself, through ring_wait. */
void sim_ring_runs(struct sim *sim, struct ring *ring);
/* CHECK: no socket, file, operation or buffer is held: after an orderly stop, before ring_free. */
void sim_ring_idle(const struct ring *ring);

/* ---- running ---- */

/* Until the clock shows until_ms. */
void sim_run(struct sim *sim, uint64_t until_ms);
/* Until done() says so (asked after each step of a shard), or until_ms. True: done() said so. */
bool sim_run_until(struct sim *sim, uint64_t until_ms, bool (*done)(void *), void *argument);
/* Exactly one event or one step. False: nothing will ever happen again. */
bool sim_run_one(struct sim *sim);
/* Calls from the loop, between steps, after each steps-th step of a shard. NULL: no more. */
void sim_look(struct sim *sim, unsigned steps, void (*call)(void *), void *argument);
/* Calls from the loop, between steps, after delay_ns. No way to take it back. */
void sim_at(struct sim *sim, uint64_t delay_ns, void (*call)(void *), void *argument);

enum sim_crash {
    SIM_KILL,  /* kill -9: page cache and kernel live on, in-flight writes happened or not */
    SIM_POWER, /* power cut: only stable storage and luck survive; peers hear nothing */
};
/* All rings of the machine are gone with everything in flight. No callback comes any more. Between
 * steps only (from the test, or by sim_at), not from a callback of the victim. */
void sim_crash(struct sim *sim, unsigned machine, enum sim_crash how);

/* ---- faults on order ---- */

/* The skip-th next operation of this kind (0: the very next) and count - 1 after it fail with error
 * (negative errno). One order per kind and machine; count 0 withdraws it. */
void sim_fail(struct sim *sim, unsigned machine, enum sim_operation kind, uint64_t skip,
              uint64_t count, int error);
/* Calls before the fate of each operation of this kind there is decided: sim_fail from inside the
 * call, with skip 0, is about that one. NULL: no more. One such order. */
void sim_watch(struct sim *sim, unsigned machine, enum sim_operation kind, void (*call)(void *),
               void *argument);
/* How many operations of this kind were started on the machine so far: for "n = 1..all" loops. */
uint64_t sim_count(const struct sim *sim, unsigned machine, enum sim_operation kind);
/* While on, nothing of this kind (SIM_READ, SIM_WRITE, SIM_SYNC, SIM_OPEN) finishes on this
 * machine; holding SIM_SYNC holds durable writes too. Off: all of it finishes soon. */
void sim_hold(struct sim *sim, unsigned machine, enum sim_operation kind, bool on);

/* Flips bits of bytes octets in the file, in cache and on the medium. 0 or -ENOENT, -EINVAL. */
int sim_corrupt(struct sim *sim, unsigned machine, const char *path, uint64_t offset,
                uint32_t bytes);
/* A new capacity; 0: no limit. */
void sim_disk_bytes(struct sim *sim, unsigned machine, uint64_t bytes);
/* Bytes that files occupy now. */
uint64_t sim_disk_used(const struct sim *sim, unsigned machine);

enum sim_host {
    SIM_HOST_UP,        /* the default: listeners decide */
    SIM_HOST_REFUSES,   /* each connect: -ECONNREFUSED */
    SIM_HOST_BLACKHOLE, /* each connect: -ETIMEDOUT after two minutes; open ones go silent */
    SIM_HOST_RESETS,    /* connects, then resets after a while */
};
/* What happens to those who connect to this address (any port). */
void sim_host(struct sim *sim, const struct net_address *address, enum sim_host what);
/* When the network took over what comes towards this socket is kept from now on; nothing has come
 * yet. */
void sim_keep_puts(struct ring *ring, int socket);
/* When it did that with the octet that has so many before it in the stream. */
uint64_t sim_put_ns(struct ring *ring, int socket, uint64_t before);
/* Resets one connection now, seen by both ends. socket: as known to the ring, or raw. */
void sim_reset(struct sim *sim, struct ring *ring, int socket);
/* Resets the skip-th of all open connections, in the order of their making; false: fewer there. */
bool sim_reset_nth(struct sim *sim, unsigned skip);
/* Connections open now. */
unsigned sim_connections(const struct sim *sim);
/* The most sockets at a time that were connecting or connected to this address, up to when the one
 * who connects closed them; since it was asked last. */
unsigned sim_connections_most(struct sim *sim, const struct net_address *address);

/* ---- names ---- */

struct sim_dns; /* belongs to the sim */

struct sim_dns *sim_dns_new(struct sim *sim);
/* data as in struct dns_record; for MX, CNAME and PTR the text without terminator. Names may be
 * added and changed during the run. */
void sim_dns_add(struct sim_dns *dns, const char *name, enum dns_type type, uint16_t preference,
                 struct slice data);
void sim_dns_a(struct sim_dns *dns, const char *name, const char *address); /* v4 or v6 */
void sim_dns_mx(struct sim_dns *dns, const char *name, uint16_t preference, const char *host);
void sim_dns_clear(struct sim_dns *dns, const char *name, enum dns_type type);
/* The answer to this question from now on; DNS_OK: by the records. secure: the AD bit. */
void sim_dns_set(struct sim_dns *dns, const char *name, enum dns_type type, enum dns_status status,
                 bool secure);
/* This part of all questions is answered by SERVFAIL, another one by DNS_TIMEOUT after timeout_ms.
 */
void sim_dns_faults(struct sim_dns *dns, uint32_t servfail_ppm, uint32_t timeout_ppm,
                    uint32_t timeout_ms);
/* What the shard asks by. */
struct dns sim_dns_of(struct sim_dns *dns);

#endif
