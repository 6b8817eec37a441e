/*
 * sts_store.h - MTA-STS policies on disk: what is known of a domain, in a store (mta/store.h)
 *
 * A policy that was fetched holds for its max_age, whatever happens to DNS and web host meanwhile:
 * that is what it is kept for (RFC 8461 section 10.2), over restarts too.
 */
#ifndef RINGPOST_MTA_STS_STORE_H
#define RINGPOST_MTA_STS_STORE_H

#include "mta/store.h"
#include "mta/sts_policy.h"

enum { STS_DOMAIN_MAX = 256 };

/* Of the last try to fetch a policy; by RFC 8460 section 4.3.2.3. */
enum sts_failure { STS_FETCHED, STS_FETCH_ERROR, STS_POLICY_INVALID, STS_WEBPKI_INVALID };
enum { STS_FAILURES = STS_WEBPKI_INVALID + 1 };
/* "", "sts-policy-fetch-error", ... */
const char *sts_failure_name(enum sts_failure failure);

/* Times are seconds since the epoch; 0: never. */
struct sts_record {
    int64_t fetched; /* the policy was; never: there is none */
    int64_t checked; /* DNS was asked, and had an answer */
    int64_t asked;   /* DNS was asked */
    int64_t tried;   /* the policy with tried_id was asked for */
    int64_t used;    /* by mail; written once an hour */
    uint8_t failure; /* enum sts_failure, of that try */
    char id[STS_ID_MAX];
    char tried_id[STS_ID_MAX];
    char why[STS_WHY_MAX]; /* of the failure, in words */
    struct sts_policy policy;
};

/* It holds: there is a policy, and it is not too old. */
static inline bool sts_record_holds(const struct sts_record *record, int64_t now)
{
    return record->fetched != 0 && now - record->fetched < record->policy.max_age_s;
}

/* As store_open; the others as those of store.h. */
[[nodiscard]] int sts_store_open(const char *path, uint32_t records_max, struct store **store,
                                 struct store_report *report);
[[nodiscard]] int sts_store_get(struct store *store, const char *domain, struct sts_record *record);
[[nodiscard]] int sts_store_put(struct store *store, const char *domain,
                                const struct sts_record *record, unsigned *dropped);
[[nodiscard]] int sts_store_drop(struct store *store, const char *domain);
/* The first one behind domain ("": the first of all), which domain then is. */
[[nodiscard]] int sts_store_next(struct store *store, char domain[static STS_DOMAIN_MAX],
                                 struct sts_record *record);

#endif
