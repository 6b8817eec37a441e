/*
 * tlsrpt_store.c - the key is the day (big endian) and the domain; a record is a head, and JSON
 *
 * One buffer for all: only the control thread comes here.
 */
#include "mta/tlsrpt_store.h"

#include <errno.h>
#include <stdio.h>

#include "core/check.h"

enum {
    FORMAT = 1,
    BYTES_GUESS = 2'048,
    DAY_BYTES = 4,
};

struct head {
    int64_t day;
    uint32_t state, tries;
};
enum { HEAD = sizeof(struct head) };

struct key {
    size_t size;
    uint8_t bytes[STORE_KEY_MAX];
};

static uint8_t buffer[TLSRPT_RECORD_BYTES];

static void key_of(const struct tlsrpt_key *from, struct key *key)
{
    const size_t size = strlen(from->domain);
    for (unsigned i = 0; i < DAY_BYTES; i++)
        key->bytes[i] = (uint8_t)(from->day >> 8 * (DAY_BYTES - 1 - i));
    memcpy(key->bytes + DAY_BYTES, from->domain, size);
    key->size = DAY_BYTES + size;
}

static bool key_good(struct slice key)
{
    return key.size > DAY_BYTES && key.size < DAY_BYTES + TLSRPT_DOMAIN_MAX &&
           slice_find(slice_from(key, DAY_BYTES), '\0') < 0;
}

static void key_read(struct slice from, struct tlsrpt_key *key)
{
    key->day = 0;
    for (unsigned i = 0; i < DAY_BYTES; i++)
        key->day = key->day << 8 | from.data[i];
    slice_to_string(slice_from(from, DAY_BYTES), key->domain, sizeof(key->domain));
}

static bool record_good(struct slice bytes)
{
    struct head head;
    if (bytes.size < HEAD + 2)
        return false;
    memcpy(&head, bytes.data, sizeof(head));
    return head.state < TLSRPT_STATES && bytes.data[HEAD] == '[' &&
           bytes.data[bytes.size - 1] == ']';
}

static int64_t record_seen(struct slice bytes)
{
    struct head head;
    memcpy(&head, bytes.data, sizeof(head));
    return head.day;
}

static struct tlsrpt_record record_read(json_t *policies)
{
    struct head head;
    memcpy(&head, buffer, sizeof(head));
    return (struct tlsrpt_record) { (enum tlsrpt_state)head.state, head.tries, policies };
}

static void sample(struct slice *key, struct slice *record)
{
    *key = SLICE("\0\0\0\0check.invalid");
    *record = SLICE("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0[]");
}

static const struct store_kind tlsrpt_kind = {
    .format = FORMAT,
    .record_bytes = TLSRPT_RECORD_BYTES,
    .bytes_guess = BYTES_GUESS,
    .key_good = key_good,
    .good = record_good,
    .seen = record_seen,
    .sample = sample,
};

int tlsrpt_store_open(const char *path, uint32_t records_max, struct store **store,
                      struct store_report *report)
{
    return store_open(path, &tlsrpt_kind, records_max, store, report);
}

int tlsrpt_store_get(struct store *store, const struct tlsrpt_key *key,
                     struct tlsrpt_record *record)
{
    struct key at;
    size_t bytes = 0;
    *record = (struct tlsrpt_record) { .policies = NULL };
    key_of(key, &at);
    int r = store_get(store, slice_of(at.bytes, at.size), buffer, &bytes);
    if (r == -ENOENT)
        record->policies = json_array();
    else if (r == 0)
        *record = record_read(json_loadb((const char *)buffer + HEAD, bytes - HEAD, 0, NULL));
    if (r < 0 && r != -ENOENT)
        return r;
    return record->policies == NULL ? -ENOMEM : 0;
}

int tlsrpt_store_put(struct store *store, const struct tlsrpt_key *key,
                     const struct tlsrpt_record *record, unsigned *dropped)
{
    struct key at;
    const struct head head = { key->day, record->state, record->tries };
    *dropped = 0;
    key_of(key, &at);
    memcpy(buffer, &head, sizeof(head));
    const size_t size = json_dumpb(record->policies, (char *)buffer + HEAD, sizeof(buffer) - HEAD,
                                   JSON_COMPACT | JSON_ENSURE_ASCII);
    if (size == 0 || size > sizeof(buffer) - HEAD)
        return -EMSGSIZE;
    return store_put(store, slice_of(at.bytes, at.size), slice_of(buffer, HEAD + size), dropped);
}

int tlsrpt_store_next(struct store *store, struct tlsrpt_key *key, struct tlsrpt_record *record)
{
    struct key at;
    size_t bytes;
    key_of(key, &at);
    int r = store_next(store, at.bytes, &at.size, buffer, &bytes);
    if (r < 0)
        return r;
    key_read(slice_of(at.bytes, at.size), key);
    *record = record_read(NULL);
    return 0;
}

int tlsrpt_store_forget(struct store *store, uint32_t day)
{
    struct tlsrpt_key key = { .day = 0 };
    struct tlsrpt_record record;
    int r;
    while ((r = tlsrpt_store_next(store, &key, &record)) == 0 && key.day < day) {
        struct key at;
        key_of(&key, &at);
        r = store_drop(store, slice_of(at.bytes, at.size));
        if (r < 0)
            break;
    }
    return r == -ENOENT ? 0 : r;
}
