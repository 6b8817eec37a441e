/*
 * sts_store.c - MTA-STS policies on disk
 *
 * The key is the domain. A record is a struct sts_record as it is in memory, without the room for
 * patterns that the policy does not use: FORMAT changes with it.
 */
#include "mta/sts_store.h"

#include <errno.h>
#include <stddef.h>

#include "core/check.h"

enum {
    FORMAT = 1,
    RECORD_BYTES_GUESS = 2'048, /* most have few patterns */
    RECORD_BYTES_MIN = offsetof(struct sts_record, policy.patterns),
};

const char *sts_failure_name(enum sts_failure failure)
{
    static const char *const names[STS_FAILURES] = { "", "sts-policy-fetch-error",
                                                     "sts-policy-invalid", "sts-webpki-invalid" };
    return names[failure];
}

static bool key_good(struct slice key)
{
    return key.size > 0 && key.size < STS_DOMAIN_MAX && slice_find(key, '\0') < 0;
}

static bool record_good(struct slice bytes)
{
    struct sts_record record;
    if (bytes.size < RECORD_BYTES_MIN || bytes.size > sizeof(record))
        return false;
    memcpy(&record, bytes.data, bytes.size);
    const struct sts_policy *policy = &record.policy;
    return bytes.size == (size_t)RECORD_BYTES_MIN + policy->patterns_bytes &&
           policy->patterns_bytes <= STS_PATTERNS_BYTES && policy->mode < STS_MODES &&
           (policy->patterns_bytes == 0 || policy->patterns[policy->patterns_bytes - 1] == '\0') &&
           record.failure < STS_FAILURES && memchr(record.id, '\0', STS_ID_MAX) != NULL &&
           memchr(record.tried_id, '\0', STS_ID_MAX) != NULL &&
           memchr(record.why, '\0', STS_WHY_MAX) != NULL;
}

static int64_t record_seen(struct slice bytes)
{
    int64_t used;
    memcpy(&used, bytes.data + offsetof(struct sts_record, used), sizeof(used));
    return used;
}

static void sample(struct slice *key, struct slice *record)
{
    static const struct sts_record none;
    *key = SLICE("check.invalid");
    *record = slice_of(&none, RECORD_BYTES_MIN);
}

static const struct store_kind sts_kind = {
    .format = FORMAT,
    .record_bytes = sizeof(struct sts_record),
    .bytes_guess = RECORD_BYTES_GUESS,
    .key_good = key_good,
    .good = record_good,
    .seen = record_seen,
    .sample = sample,
};

int sts_store_open(const char *path, uint32_t records_max, struct store **store,
                   struct store_report *report)
{
    return store_open(path, &sts_kind, records_max, store, report);
}

int sts_store_get(struct store *store, const char *domain, struct sts_record *record)
{
    size_t bytes;
    memset(record, 0, sizeof(*record));
    return store_get(store, slice_of_string(domain), record, &bytes);
}

int sts_store_put(struct store *store, const char *domain, const struct sts_record *record,
                  unsigned *dropped)
{
    const size_t bytes = (size_t)RECORD_BYTES_MIN + record->policy.patterns_bytes;
    return store_put(store, slice_of_string(domain), slice_of(record, bytes), dropped);
}

int sts_store_drop(struct store *store, const char *domain)
{
    return store_drop(store, slice_of_string(domain));
}

int sts_store_next(struct store *store, char domain[static STS_DOMAIN_MAX],
                   struct sts_record *record)
{
    uint8_t key[STORE_KEY_MAX];
    size_t key_bytes = strlen(domain);
    size_t bytes;
    CHECK(key_bytes < STS_DOMAIN_MAX);
    memcpy(key, domain, key_bytes);
    memset(record, 0, sizeof(*record));
    int r = store_next(store, key, &key_bytes, record, &bytes);
    if (r == 0)
        slice_to_string(slice_of(key, key_bytes), domain, STS_DOMAIN_MAX);
    return r;
}
