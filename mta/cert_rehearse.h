/*
 * cert_rehearse.h - private to `ringpost cert rehearse`: one comparison of a new chain with the old
 *
 *   rehearsal_say(r, status, point, about, way out, why)     each point once for what it is about
 */
#ifndef RINGPOST_MTA_CERT_REHEARSE_H
#define RINGPOST_MTA_CERT_REHEARSE_H

#include "mta/cert_facts.h"
#include "tls/tls_verify.h"

enum rehearsal_status { REHEARSAL_OK, REHEARSAL_WARN, REHEARSAL_FAIL, REHEARSAL_STATUSES };

struct rehearsal {
    const struct config *config;
    const struct config_certificate *certificate; /* whose place it takes */
    struct tls_credential *new;
    const char *path;
    const char *key; /* "": none is at hand */
    int64_t now;
    int64_t at; /* when it will take over; now or later */
    json_t *points;
    unsigned counts[REHEARSAL_STATUSES];
};

/* way: what to do about it; "" where there is nothing to do. */
void rehearsal_say(struct rehearsal *r, enum rehearsal_status status, const char *point,
                   const char *about, const char *way, const char *format, ...) PRINTF_LIKE(6, 7);

/* cert_points.c: what files and configuration tell. */
void rehearse_offline(struct rehearsal *r);
/* cert_online.c: TLSA records that are published now; CRLs and responders of the chain. */
void rehearse_tlsa(struct rehearsal *r);
void rehearse_revocation(struct rehearsal *r);

#endif
