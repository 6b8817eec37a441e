/*
 * sim_actor_inside.h - what clients and next hops of the simulation have in common
 *
 * A line: a socket with one recv and at most one send in flight, output that grows as it must,
 * input given as lines or raw octets.
 *
 *   line: opened --> talking --line_leave or end of file--> closing --nothing in flight--> closed()
 */
#ifndef RINGPOST_TESTS_SIM_ACTOR_INSIDE_H
#define RINGPOST_TESTS_SIM_ACTOR_INSIDE_H

#include "core/check.h"
#include "tests/sim/sim_actor.h"

struct sim_line {
    struct sim *sim;
    struct ring *ring;
    int socket;
    struct op connect, recv, send;
    struct ring_vector vector;
    uint8_t *sending; /* in flight */
    uint8_t *out;     /* gathered behind it */
    size_t sending_bytes, out_bytes, out_size;
    uint8_t *in;
    size_t in_bytes, in_size;
    uint64_t dropped;          /* octets that have been taken out of in[] */
    bool open, leaving, ended; /* ended: end of file or an error was seen */
    bool freed;
    unsigned waits; /* sim_at calls that still come */
    /* What the owner does; all from ring_wait or sim_at. */
    void (*connected)(struct sim_line *line);
    void (*input)(struct sim_line *line); /* more in in[], or ended */
    void (*sent)(struct sim_line *line);  /* everything given so far is with the kernel */
    void (*closed)(struct sim_line *line);
};

void sim_line_init(struct sim_line *line, struct sim *sim, struct ring *ring);
/* Connects, or -errno at once (the table is full). */
int sim_line_connect(struct sim_line *line, const struct net_address *to);
int sim_line_accept(struct sim_line *line, int raw);
void sim_line_put(struct sim_line *line, const void *data, size_t bytes);
void sim_line_text(struct sim_line *line, const char *format, ...) PRINTF_LIKE(2, 3);
bool sim_line_idle(const struct sim_line *line); /* all output is with the kernel */
/* Takes one line out of in[], without its CRLF, terminated, cut to size. False: none is whole. */
bool sim_line_take(struct sim_line *line, char *text, size_t size);
void sim_line_drop(struct sim_line *line, size_t bytes); /* of in[] */
/* Ends it: what is not yet sent is not sent any more. closed() comes when nothing is in flight. */
void sim_line_leave(struct sim_line *line, bool reset);
void sim_line_free(struct sim_line *line);

struct sim_message *sim_ledger_add(struct sim_ledger *ledger);
struct sim_message *sim_ledger_find(struct sim_ledger *ledger, uint32_t id); /* or NULL */
/* "r<k>.m<id>@..." or "s.m<id>@...": the id, and k or -1. False: neither. */
bool sim_address_parse(const char *address, uint32_t *id, int *recipient);

/* First member of each actor. */
struct sim_actor {
    struct sim_ledger *ledger;
    struct sim_actor *next;
    bool client;
    bool (*done)(const struct sim_actor *actor);
    void (*free)(struct sim_actor *actor);
};

void sim_actor_add(struct sim_ledger *ledger, struct sim_actor *actor);

#endif
