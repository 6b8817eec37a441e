/*
 * tls_id_cache_inside.h - the table behind the callbacks, of bytes: for tls_id_cache.c and its
 * tests
 */
#ifndef RINGPOST_TLS_ID_CACHE_INSIDE_H
#define RINGPOST_TLS_ID_CACHE_INSIDE_H

#include <stdatomic.h>

#include "core/slice.h"
#include "tls/tls_id_cache.h"
#include "tls/tls_secret.h"

enum {
    ID_BYTES_MAX = 32, /* of TLS */
    ID_BYTES_MIN = 16, /* shorter ones are not ours */
    ID_WORDS = ID_BYTES_MAX / 8,
    SESSION_WORDS = TLS_ID_CACHE_SESSION_BYTES_MAX / 8,
};

/* All of it is written between two odd sequences only. Relaxed words, so that what is read in
 * between is garbage at worst, and no undefined behaviour. */
struct id_slot {
    _Atomic uint64_t sequence;   /* odd: somebody writes */
    _Atomic uint64_t expires_ms; /* 0: empty */
    _Atomic uint32_t generation;
    _Atomic uint16_t id_size;
    _Atomic uint16_t session_size;
    _Atomic uint64_t id[ID_WORDS];
    _Atomic uint64_t session[SESSION_WORDS];
};

struct tls_id_cache {
    struct tls_secret secret;
    struct id_slot *slots;
    uint32_t sets_mask;
    uint32_t lifetime_s;
    _Atomic uint32_t generation;
};

/* Counts in numbers. */
void id_cache_put(struct tls_id_cache *cache, struct slice id, struct slice session,
                  uint64_t now_ms, struct tls_id_cache_numbers *numbers);
/* Its size in bytes, 0: not there. */
size_t id_cache_get(struct tls_id_cache *cache, struct slice id, uint64_t now_ms,
                    uint8_t session[TLS_ID_CACHE_SESSION_BYTES_MAX],
                    struct tls_id_cache_numbers *numbers);
void id_cache_remove(struct tls_id_cache *cache, struct slice id,
                     struct tls_id_cache_numbers *numbers);

#endif
