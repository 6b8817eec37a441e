/*
 * floor_store.c - floor memory on disk
 *
 * The key is the host, NUL, the domain. A record is a struct floor_record as it is in memory:
 * FORMAT changes with it.
 */
#include "mta/floor_store.h"

#include <errno.h>
#include <stdio.h>

enum {
    FORMAT = 2, /* 1: without DANE, and without the date when the certificate expires */
    RECORD_BYTES_GUESS = 2'048,
};

struct key {
    size_t size;
    uint8_t bytes[STORE_KEY_MAX];
};

static int key_of(const char *host, const char *domain, struct key *key)
{
    int size = snprintf((char *)key->bytes, sizeof(key->bytes), "%s%c%s", host, '\0', domain);
    if (size < 0 || (size_t)size >= sizeof(key->bytes))
        return -ENAMETOOLONG;
    key->size = (size_t)size;
    return 0;
}

static bool key_good(struct slice key)
{
    ptrdiff_t end = slice_find(key, '\0');
    return end >= 0 && end < FLOOR_HOST_MAX && key.size - (size_t)end - 1 < FLOOR_DOMAIN_MAX;
}

static void key_read(struct slice key, char host[static FLOOR_HOST_MAX],
                     char domain[static FLOOR_DOMAIN_MAX])
{
    size_t end = (size_t)slice_find(key, '\0');
    slice_to_string(slice_part(key, 0, end), host, FLOOR_HOST_MAX);
    slice_to_string(slice_from(key, end + 1), domain, FLOOR_DOMAIN_MAX);
}

static bool record_good(struct slice bytes)
{
    struct floor_record record;
    if (bytes.size != sizeof(record))
        return false;
    memcpy(&record, bytes.data, sizeof(record));
    return record.events_count <= FLOOR_EVENTS_MAX &&
           memchr(record.issuer, '\0', FLOOR_ISSUER_MAX) != NULL;
}

static int64_t record_seen(struct slice bytes)
{
    struct floor_record record;
    memcpy(&record, bytes.data, sizeof(record));
    return record.last;
}

static void sample(struct slice *key, struct slice *record)
{
    static const struct floor_record none;
    *key = SLICE("check.invalid\0check.invalid");
    *record = slice_of(&none, sizeof(none));
}

static const struct store_kind floor_kind = {
    .format = FORMAT,
    .record_bytes = sizeof(struct floor_record),
    .bytes_guess = RECORD_BYTES_GUESS,
    .key_good = key_good,
    .good = record_good,
    .seen = record_seen,
    .sample = sample,
};

int floor_store_open(const char *path, uint32_t records_max, struct store **store,
                     struct store_report *report)
{
    return store_open(path, &floor_kind, records_max, store, report);
}

int floor_store_get(struct store *store, const char *host, const char *domain,
                    struct floor_record *record)
{
    struct key key;
    size_t bytes;
    int r = key_of(host, domain, &key);
    return r < 0 ? r : store_get(store, slice_of(key.bytes, key.size), record, &bytes);
}

int floor_store_put(struct store *store, const char *host, const char *domain,
                    const struct floor_record *record, unsigned *dropped)
{
    struct key key;
    *dropped = 0;
    int r = key_of(host, domain, &key);
    return r < 0 ? r
                 : store_put(store, slice_of(key.bytes, key.size),
                             slice_of(record, sizeof(*record)), dropped);
}

int floor_store_drop(struct store *store, const char *host, const char *domain)
{
    struct key key;
    int r = key_of(host, domain, &key);
    return r < 0 ? r : store_drop(store, slice_of(key.bytes, key.size));
}

int floor_store_next(struct store *store, char host[static FLOOR_HOST_MAX],
                     char domain[static FLOOR_DOMAIN_MAX], struct floor_record *record)
{
    struct key key;
    size_t bytes;
    int r = key_of(host, domain, &key);
    if (r == 0 && *host == '\0' && *domain == '\0')
        key.size = 0;
    if (r == 0)
        r = store_next(store, key.bytes, &key.size, record, &bytes);
    if (r == 0)
        key_read(slice_of(key.bytes, key.size), host, domain);
    return r;
}
