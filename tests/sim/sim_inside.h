/*
 * sim_inside.h - what the parts of the simulator share
 *
 * sim.c: events, clock, turns. sim_ring.c: rings, flights, slots. sim_net.c: listeners, connects.
 * sim_stream.c: connections. sim_disk.c: files and
 * what a crash leaves of them. sim_file.c: the ring's operations on them. sim_dns.c: names.
 *
 *   flight: taken by an op's start --sim_post (kernel is done)--> completion queue of the ring
 *           --ring_wait--> landed, given back (unless RING_MORE)
 *
 * Everything is found by number and generation, never by address, so that nothing depends on where
 * memory lies. An event whose generation has passed is void: that is how things are called off.
 */
#ifndef RINGPOST_TESTS_SIM_INSIDE_H
#define RINGPOST_TESTS_SIM_INSIDE_H

#include "core/check.h"
#include "core/list.h"
#include "core/random.h"
#include "tests/sim/sim.h"

enum {
    SIM_US = 1000,
    SIM_MS = 1000 * 1000,
    SIM_LISTENERS_MAX = 1024,
    SIM_HOSTS_MAX = 1024,
    SIM_BACKLOG_MAX = 1024,
};
#define SIM_S ((uint64_t)1000 * SIM_MS)

struct sim_event {
    uint64_t at_ns;
    uint64_t order; /* random, then the order of making: ties are broken by seed */
    void (*fire)(struct sim *sim, const struct sim_event *event);
    void *pointer;
    uint32_t index;
    uint32_t generation;
    uint64_t number;
};

enum sim_flight_kind {
    FLIGHT_ACCEPT = 1,
    FLIGHT_CONNECT,
    FLIGHT_RECV,
    FLIGHT_SEND,
    FLIGHT_SHUTDOWN,
    FLIGHT_OPEN,
    FLIGHT_READ,
    FLIGHT_WRITE,
    FLIGHT_SYNC,
    FLIGHT_POLL,
    FLIGHT_NAME,
};

/* One op under way. */
struct sim_flight {
    struct op *op;
    struct sim_ring *ring;
    uint32_t index;
    uint32_t generation; /* changes when it is given back */
    enum sim_flight_kind kind;
    bool posted; /* its last completion waits in the queue: the kernel is done with it */
    bool held;   /* due, but sim_hold keeps it */
    int error;   /* the fault that was drawn for it at its start */
    /* sockets */
    struct sim_listener *listener;
    struct sim_end *end;
    struct ring_vector *vector;
    uint64_t bytes; /* send: in the vector; read, write: asked for */
    uint64_t done;  /* send: taken over by the network */
    uint64_t hash;  /* of the bytes that must not change meanwhile */
    /* files */
    struct sim_inode *inode;
    uint8_t *to;
    const uint8_t *from;
    const char *path;
    uint64_t offset;
    uint64_t mark; /* sync: writes up to this one were there when it began */
    int flags;     /* open: O_; write: RING_WRITE_ */
    unsigned mode;
    bool direct;
};

struct sim_completion {
    uint32_t flight;
    int res;
    unsigned flags;
};

enum sim_slot_kind { SLOT_FREE, SLOT_END, SLOT_LISTENER, SLOT_FILE };

struct sim_slot {
    enum sim_slot_kind kind;
    uint32_t generation;
    uint32_t next_free;
    struct sim_end *end;
    struct sim_listener *listener;
    struct sim_inode *inode;
    int open_flags;
};

struct sim_ring {
    struct ring ring;
    struct sim *sim;
    unsigned number; /* in the sim */
    unsigned machine;
    bool dead;  /* freed, or its machine crashed: any use is a failed CHECK */
    bool woken; /* a wake has arrived */
    bool runs;  /* sim_run calls ring_wait for it */
    struct shard *shard;
    uint64_t busy_until_ns;
    uint64_t timer_ns; /* when its shard wants to run for a timer */
    struct random entropy;
    struct sim_completion *completions; /* circular */
    uint32_t completions_size, completions_head, completions_count;
    struct sim_slot *slots;
    uint32_t slots_max, slots_count, slots_size, slots_free, slots_used; /* count: ever taken */
    uint32_t *buffers_idle; /* stack of indices with the kernel */
    uint32_t buffers_idle_count;
    bool *buffer_held;
    uint32_t *buffer_bytes; /* what was last put into each */
};

struct sim_listener {
    uint32_t number;
    bool used;
    struct sim_ring *ring;
    struct net_address address;
    uint32_t backlog_max;
    struct sim_flight *accept;
    bool accept_scheduled;
    struct sim_end *backlog[SIM_BACKLOG_MAX]; /* first come, first served */
    uint32_t backlog_count;
};

struct sim_put;

/* One end of a connection, and the stream that flows towards it. */
struct sim_end {
    struct sim_connection *connection;
    unsigned side;
    bool used; /* somebody has (or had) it */
    bool raw;  /* accepted, not adopted */
    bool closed;
    bool gone; /* closed by a power cut: nobody answers for it */
    bool open; /* established */
    bool connecting;
    bool shut; /* FIN is queued behind what it has sent */
    bool dead; /* was reset */
    int error; /* told once, by the op that comes first */
    unsigned machine;
    struct sim_ring *ring; /* of its slot, or of the listener that it came by */
    struct net_address local, remote;
    uint8_t *bytes; /* circular; arrived ones first, then flying ones */
    uint32_t capacity, head, arrived, flying;
    uint64_t last_arrival_ns;
    bool fin_arrived;
    bool recv_scheduled, pump_scheduled;
    struct sim_flight *recv, *send, *connect;
    unsigned ops;
    struct sim_put *puts; /* when octets towards it were taken over, if it wants to know */
    uint32_t puts_count, puts_size;
    uint64_t put_bytes;
    bool puts_kept;
};

struct sim_put {
    uint64_t end; /* of the octets, in the stream */
    uint64_t at_ns;
};

struct sim_connection {
    uint32_t index;
    uint32_t generation;
    uint64_t serial; /* in order of making */
    bool used;
    bool shredded; /* this one is cut into crumbs */
    unsigned connect_tries;
    struct net_address target;
    struct sim_end end[2]; /* 0: who connected */
    uint32_t next_free;
};

struct sim_order { /* sim_fail */
    uint64_t skip, count;
    int error;
};

struct sim_machine {
    bool faults;
    unsigned rings; /* alive */
    struct net_address address;
    struct sim_order orders[SIM_OPERATIONS];
    uint64_t counts[SIM_OPERATIONS];
    bool hold[SIM_OPERATIONS];
    struct sim_disk *disk;
};

struct sim {
    struct sim_options options;
    struct random random;
    uint64_t now_ns;
    int64_t wall_us; /* at monotonic 0 */
    uint64_t trace;
    uint64_t operations;
    struct sim_event *events; /* heap */
    uint32_t events_count, events_size;
    uint32_t events_made;
    struct sim_machine machines[SIM_MACHINES_MAX];
    unsigned machines_count;
    struct sim_ring *rings[SIM_RINGS_MAX];
    unsigned rings_count;
    struct sim_ring *alive[SIM_RINGS_MAX]; /* those of them that are not dead, in order */
    unsigned alive_count;
    struct sim_flight **flights;
    uint32_t flights_count, flights_size;
    uint32_t *flights_idle;
    uint32_t flights_idle_count;
    struct sim_listener *listeners[SIM_LISTENERS_MAX];
    uint32_t listeners_count;
    struct sim_connection **connections;
    uint32_t connections_count, connections_size, connections_free;
    uint64_t connections_made;
    uint16_t next_port;
    struct {
        struct net_address address;
        enum sim_host what;
    } hosts[SIM_HOSTS_MAX];
    unsigned hosts_count;
    struct {
        struct net_address address;
        unsigned count;
    } most[SIM_HOSTS_MAX]; /* connections towards it at a time */
    unsigned most_count;
    struct sim_dns *dns;   /* list */
    struct sim_ring *turn; /* whose it is next, and when; unless it is not known any more */
    uint64_t turn_ns;
    bool turn_known;
    void (*watch)(void *argument); /* operations of a kind on a machine */
    void *watch_argument;
    unsigned watch_machine;
    enum sim_operation watch_kind;
    void (*look)(void *argument);
    void *look_argument;
    unsigned look_steps, look_left;
};

/* ---- sim.c ---- */

static inline struct sim_ring *sim_ring_of(struct ring *ring)
{
    struct sim_ring *r = container_of(ring, struct sim_ring, ring);
    CHECK(!r->dead);
    return r;
}

void sim_turn(struct sim_ring *r);
void *sim_take(size_t bytes);            /* zeroed */
void *sim_more(void *old, size_t bytes); /* realloc */
uint64_t sim_draw(struct sim *sim, struct sim_range range);
/* Even over low to high. */
uint64_t sim_between(struct sim *sim, uint64_t low, uint64_t high);
uint64_t sim_hash(const void *data, size_t bytes, uint64_t seed);
uint64_t sim_hash_vector(const struct ring_vector *v);
void sim_trace_add(struct sim *sim, uint64_t what, uint64_t value);

struct sim_event *sim_event(struct sim *sim, uint64_t delay_ns,
                            void (*fire)(struct sim *sim, const struct sim_event *event));
/* Counts the operation; 0, or the error that it shall have (order or probability). */
int sim_fault(struct sim *sim, unsigned machine, enum sim_operation kind, uint32_t ppm, int error);
bool sim_faulty(struct sim *sim, unsigned machine, uint32_t ppm);

/* ---- sim_ring.c ---- */

void sim_ring_die(struct sim_ring *r);
struct sim_flight *sim_flight(struct ring *ring, struct op *op, enum sim_flight_kind kind);
/* The flight that an event was made for, or NULL: it has landed meanwhile. */
struct sim_flight *sim_flight_of(struct sim *sim, const struct sim_event *event);
struct sim_event *sim_flight_event(struct sim *sim, struct sim_flight *flight, uint64_t delay_ns,
                                   void (*fire)(struct sim *sim, const struct sim_event *event));
/* The kernel's answer; without RING_MORE the last one. */
void sim_post(struct sim *sim, struct sim_flight *flight, int res, unsigned flags);
void sim_flight_free(struct sim *sim, struct sim_flight *flight);
uint32_t sim_slot_take(struct sim_ring *r, enum sim_slot_kind kind); /* UINT32_MAX: full */
int sim_slot_number(const struct sim_ring *r, uint32_t slot);
struct sim_slot *sim_slot(struct sim_ring *r, int number);
bool sim_slot_is_number(int number);
void sim_slot_give(struct sim_ring *r, struct sim_slot *slot);

/* ---- sim_stream.c ---- */

uint64_t sim_latency(struct sim *sim, unsigned machine);
uint64_t sim_moment(struct sim *sim); /* what a kernel needs for something small */
struct sim_end *sim_end_other(struct sim_end *e);
struct sim_event *sim_end_event(struct sim *sim, struct sim_end *e, uint64_t delay_ns,
                                void (*fire)(struct sim *sim, const struct sim_event *event));
struct sim_end *sim_end_of(struct sim *sim, const struct sim_event *event); /* NULL: gone */
struct sim_connection *sim_connection_new(struct sim *sim);
void sim_end_buffer(struct sim *sim, struct sim_end *e);
void sim_end_close(struct sim *sim, struct sim_end *e, bool power);
enum sim_host sim_host_is(const struct sim *sim, const struct net_address *address);
struct sim_end *sim_slot_end(struct sim_ring *r, int socket);
/* A reset is on its way to e. */
void sim_reset_send(struct sim *sim, struct sim_end *e, uint64_t delay_ns);
void sim_connection_reset(struct sim *sim, struct sim_connection *c);
void sim_stream_recv(struct ring *ring, struct op *op, int socket);
void sim_stream_send(struct ring *ring, struct op *op, int socket, struct ring_vector *v);
void sim_stream_shutdown(struct ring *ring, struct op *op, int socket);

/* ---- sim_net.c ---- */

extern const struct ring_ops sim_net_ops; /* the socket part */
void sim_net_cancel(struct sim *sim, struct sim_flight *flight);
/* The process of this machine is gone: its sockets are closed. */
void sim_net_exit(struct sim *sim, unsigned machine, bool power);
void sim_net_ring_free(struct sim_ring *r);
void sim_net_free(struct sim *sim);

/* ---- sim_file.c ---- */

extern const struct ring_ops sim_file_ops; /* the file part */
/* What happened to it, now that its process or machine is gone. */
void sim_file_crash(struct sim *sim, struct sim_flight *flight, bool power);
bool sim_file_cancel(struct sim *sim, struct sim_flight *flight);

/* ---- sim_disk.c ---- */

struct sim_disk *sim_disk_new(struct sim *sim, uint64_t capacity);
void sim_disk_free(struct sim_disk *disk);
/* An inode, its references counted by sim_inode_open and _close; or an errno. */
int sim_disk_open(struct sim_disk *disk, const char *path, int flags, unsigned mode,
                  struct sim_inode **inode);
void sim_inode_open(struct sim_inode *inode);
void sim_inode_close(struct sim_disk *disk, struct sim_inode *inode);
bool sim_inode_directory(const struct sim_inode *inode);
uint64_t sim_inode_size(const struct sim_inode *inode);
uint64_t sim_disk_mark(const struct sim_disk *disk);
int64_t sim_inode_read(struct sim_inode *inode, void *to, uint64_t bytes, uint64_t offset);
/* Into the page cache; durable: pages are written through (exactly the bytes if direct). doomed:
 * they will never be written. */
int64_t sim_inode_write(struct sim_disk *disk, struct sim_inode *inode, const void *from,
                        uint64_t bytes, uint64_t offset, bool durable, bool direct, bool doomed);
/* All up to mark becomes durable, or, on failure, is forgotten by the page cache's writer. */
void sim_inode_sync(struct sim_disk *disk, struct sim_inode *inode, uint64_t mark, bool failed);
int sim_disk_mkdir(struct sim_disk *disk, const char *path, unsigned mode);
int sim_disk_unlink(struct sim_disk *disk, const char *path);
int sim_disk_rename(struct sim_disk *disk, const char *from, const char *to);
int sim_disk_list(struct sim_disk *disk, const char *path,
                  void (*each)(void *argument, const char *name), void *argument);
uint64_t sim_disk_room(const struct sim_disk *disk);
/* Descriptors: 0 or more, or -EMFILE; the inode's reference goes along. */
int sim_fd_new(struct sim_disk *disk, struct sim_inode *inode, int flags);
struct sim_inode *sim_fd(struct sim_disk *disk, int fd, int *flags); /* CHECK: it is open */
void sim_fd_close(struct sim_disk *disk, int fd);
void sim_disk_crash(struct sim_disk *disk, bool power);

/* ---- sim_dns.c ---- */

void sim_dns_free(struct sim *sim);

#endif
