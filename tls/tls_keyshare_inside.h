/*
 * tls_keyshare_inside.h - how the pool lies in memory: for tls_keyshare.c and its test, which looks
 * whether what was used is gone
 *
 * A shelf is a ring of slots of one size. All that changes is in the secret mapping, so that a
 * child of fork, which finds zeroes there, has a valid shelf that is empty. What describes the
 * shelf is outside, so that the child can fill and free it.
 */
#ifndef RINGPOST_TLS_KEYSHARE_INSIDE_H
#define RINGPOST_TLS_KEYSHARE_INSIDE_H

#include "tls/tls_keyshare.h"
#include "tls/tls_secret.h"

enum {
    KEYSHARE_BYTES = 32,
    KEYSHARE_SLOT_BYTES = 2 * KEYSHARE_BYTES, /* public, private; a cache line */
};

struct shelf_state {
    uint32_t head;  /* the oldest one's slot */
    uint32_t level; /* how many there are */
    bool filling;   /* between the low mark and full */
};

struct shelf {
    struct tls_secret secret;
    struct shelf_state *state; /* these three lie in the mapping */
    uint64_t *made_ms;
    uint8_t *slots;
    size_t slot_bytes;
    uint32_t slots_count; /* 0: no such shelf */
};

struct tls_keyshares {
    struct shelf x25519;
    struct shelf mlkem;
    uint32_t age_max_ms;
    uint64_t now_ms; /* as of the last fill or age */
    struct tls_keyshare_numbers numbers;
};

#endif
