/*
 * inbound_inside.h - private to inbound*.c: how a set is indexed
 *
 * Patterns, prefixes and names lead to lists of connectors, for several connectors may have the
 * same one. A list is ascending, so the first of equals is the one that counts.
 */
#ifndef RINGPOST_MTA_INBOUND_INSIDE_H
#define RINGPOST_MTA_INBOUND_INSIDE_H

#include "mta/inbound.h"

enum { INBOUND_LIST_END = UINT32_MAX };

struct inbound_link {
    uint32_t connector;
    uint32_t next;
};
struct inbound_list {
    uint32_t first, last; /* links */
};
struct inbound_pin {
    uint8_t digest[TLS_DIGEST_BYTES];
    uint32_t connector;
};

struct inbound_set {
    const struct inbound *connectors;
    unsigned count;
    uint32_t *by_name; /* as in mta/connector_names.h */
    uint32_t by_name_mask;
    struct inbound_defaults defaults;
    const struct pattern_set *own_domains;
    struct inbound_link *links;
    unsigned links_count, links_capacity;
    struct inbound_list *lists;
    unsigned lists_count, lists_capacity;
    struct pattern_set *senders; /* of partners; values here and below are lists */
    uint32_t null_senders;       /* partners that cover the null sender */
    struct networks *addresses;  /* of own connectors */
    struct pattern_set *names;   /* cert-name of own connectors */
    struct pattern_set *parents; /* "d.example" of a cert-name "mx.d.example": for "*.d.example" */
    struct inbound_pin *pins;    /* of own connectors, ascending */
    unsigned pins_count;
    struct networks *asked; /* peers of connectors that have a certificate rule and addresses */
    bool asks_all;          /* one of them lists none */
    bool has_tests;
};

#endif
