/*
 * source_options.h - what the source was told
 */
#ifndef RINGPOST_BENCH_SOURCE_OPTIONS_H
#define RINGPOST_BENCH_SOURCE_OPTIONS_H

#include "bench/secure.h"

enum { SOURCE_ADDRESS_MAX = 300, SOURCE_ID_PREFIX_MAX = 64 };

/* Addresses with a place for a number: the text before and behind it. */
struct source_address {
    struct slice before;
    struct slice after;
    bool numbered;
};

struct source_options {
    struct net_address to;
    struct source_address from;
    struct source_address rcpt;
    const char *json;
    const char *acked;
    const char *id_prefix;
    uint64_t numbers;  /* of addresses: from 0 to this, and again; 0: no end */
    uint64_t messages; /* 0: no end */
    double seconds;    /* 0: no end */
    double rate;       /* messages/s of all threads; 0: as fast as it goes */
    uint64_t size;
    uint64_t per_connection; /* 0: no limit */
    uint64_t slow;           /* bytes/s of each connection; 0: as fast as it goes */
    uint32_t connections;
    uint32_t recipients;
    uint32_t think_ms;
    uint32_t timeout_ms;
    uint32_t ramp_ms;
    uint32_t give_up_ms;
    uint32_t from_addresses; /* 0: let the kernel choose */
    unsigned threads;
    struct secure_options tls;
    bool pipeline;
    bool bdat;
    bool lmtp;
    bool idle;
    bool quiet;
};

#endif
