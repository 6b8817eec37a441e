/*
 * tlsrpt_store.h - what reports about TLS will say, on disk: a record for each day and domain
 *
 * A record is the policies of a report (mta/tlsrpt_report.h). Days are those of UTC, since the
 * epoch. In a store (mta/store.h): the oldest days go first when there are too many domains.
 */
#ifndef RINGPOST_MTA_TLSRPT_STORE_H
#define RINGPOST_MTA_TLSRPT_STORE_H

#include <jansson.h>

#include "mta/store.h"
#include "mta/tlsrpt_count.h"

enum { TLSRPT_RECORD_BYTES = 256 * 1'024 };

/* What became of a day's report. */
enum tlsrpt_state {
    TLSRPT_UNSENT,
    TLSRPT_SENT,
    TLSRPT_UNWANTED, /* the domain does not say where to, or nowhere that we can */
    TLSRPT_STATES
};

struct tlsrpt_record {
    enum tlsrpt_state state;
    uint32_t tries;   /* that ended UNSENT */
    json_t *policies; /* to be freed */
};

struct tlsrpt_key {
    uint32_t day;
    char domain[TLSRPT_DOMAIN_MAX];
};

/* As store_open. */
[[nodiscard]] int tlsrpt_store_open(const char *path, uint32_t records_max, struct store **store,
                                    struct store_report *report);
/* As store_get; there is none: one without policies, and 0. */
[[nodiscard]] int tlsrpt_store_get(struct store *store, const struct tlsrpt_key *key,
                                   struct tlsrpt_record *record);
/* As store_put; -EMSGSIZE: it is too large, and what was there stays. */
[[nodiscard]] int tlsrpt_store_put(struct store *store, const struct tlsrpt_key *key,
                                   const struct tlsrpt_record *record, unsigned *dropped);
/* The first one behind key in the order of (day, domain), which key then is; without its policies.
 * As store_next. */
[[nodiscard]] int tlsrpt_store_next(struct store *store, struct tlsrpt_key *key,
                                    struct tlsrpt_record *record);
/* Days before this one are dropped. As store_drop. */
[[nodiscard]] int tlsrpt_store_forget(struct store *store, uint32_t day);

#endif
