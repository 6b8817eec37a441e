/*
 * connector_sums.h - what each connector did on each day, on disk (mta/store.h)
 *
 *   delta of its rows --connector_sums_add--> the record of (day, direction, name) --commit-->
 * durable
 *
 * Days are those of UTC, since the epoch. Tokens are kept by their words, for their numbers are not
 * the same in each version. A crash loses what was counted since the last commit: these are numbers
 * for people.
 *
 * Bounds: SUMS_RECORDS_MAX, of which the oldest days go first; SUMS_DAYS_MAX; SUMS_TOKENS_MAX words
 * a record, further ones are not kept apart.
 */
#ifndef RINGPOST_MTA_CONNECTOR_SUMS_H
#define RINGPOST_MTA_CONNECTOR_SUMS_H

#include "mta/connector.h"
#include "mta/store.h"

enum {
    SUMS_RECORDS_MAX = 1 << 20,
    SUMS_DAYS_MAX = 400,
    SUMS_TOKENS_MAX = 48,
    SUMS_WORD_MAX = 24, /* with a terminator */
};

enum sums_kind { SUMS_CLEAR, SUMS_TLS_12, SUMS_TLS_13, SUMS_HYBRID, SUMS_KINDS };

struct sums_key {
    uint32_t day;
    enum connector_direction direction;
    char name[CONNECTOR_NAME_MAX + 1]; /* "": of no connector */
};

struct sums_token {
    char word[SUMS_WORD_MAX];
    uint64_t count;
};

struct connector_sums {
    uint64_t day;                     /* its key's, for the store: which ones are the oldest */
    uint64_t messages[SUMS_KINDS][2]; /* taken, or delivered; [1]: TLS was demanded */
    uint64_t bytes;
    uint64_t deferred, refused; /* commands, or attempts */
    uint64_t tokens_count;
    struct sums_token tokens[SUMS_TOKENS_MAX]; /* inbound: refusals; outbound: failures of TLS */
};

/* As store_open. */
[[nodiscard]] int connector_sums_open(const char *path, struct store **store,
                                      struct store_report *report);
void connector_sums_token(struct connector_sums *sums, const char *word, uint64_t count);
/* Adds delta to the record. As store_put. */
[[nodiscard]] int connector_sums_add(struct store *store, const struct sums_key *key,
                                     const struct connector_sums *delta);
/* The first one behind key in the order of (day, direction, name), which key then is. As
 * store_next. */
[[nodiscard]] int connector_sums_next(struct store *store, struct sums_key *key,
                                      struct connector_sums *sums);
/* Days before this one are dropped. As store_drop. */
[[nodiscard]] int connector_sums_forget(struct store *store, uint32_t day);

const char *sums_kind_name(enum sums_kind kind); /* "none", "1.2", "1.3", "hybrid" */

#endif
