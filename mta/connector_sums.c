/*
 * connector_sums.c - records of a day: the key is day (big endian), direction and name; of the
 * record only the tokens that it has are written
 */
#include "mta/connector_sums.h"

#include <errno.h>
#include <stdio.h>

#include "core/check.h"

enum {
    FORMAT = 1,
    BYTES_GUESS = 512,
    DAY_BYTES = 4,
    KEY_HEAD = DAY_BYTES + 1,
};

struct key {
    size_t size;
    uint8_t bytes[STORE_KEY_MAX];
};

static void key_of(const struct sums_key *from, struct key *key)
{
    size_t size = strlen(from->name);
    for (unsigned i = 0; i < DAY_BYTES; i++)
        key->bytes[i] = (uint8_t)(from->day >> 8 * (DAY_BYTES - 1 - i));
    key->bytes[DAY_BYTES] = (uint8_t)from->direction;
    memcpy(key->bytes + KEY_HEAD, from->name, size);
    key->size = KEY_HEAD + size;
}

static bool key_good(struct slice key)
{
    return key.size >= KEY_HEAD && key.size <= KEY_HEAD + CONNECTOR_NAME_MAX &&
           key.data[DAY_BYTES] < CONNECTOR_DIRECTIONS &&
           slice_find(slice_from(key, KEY_HEAD), '\0') < 0;
}

static void key_read(struct slice from, struct sums_key *key)
{
    key->day = 0;
    for (unsigned i = 0; i < DAY_BYTES; i++)
        key->day = key->day << 8 | from.data[i];
    key->direction = (enum connector_direction)from.data[DAY_BYTES];
    slice_to_string(slice_from(from, KEY_HEAD), key->name, sizeof(key->name));
}

static size_t bytes_of(const struct connector_sums *sums)
{
    return offsetof(struct connector_sums, tokens) +
           (size_t)sums->tokens_count * sizeof(sums->tokens[0]);
}

static bool record_good(struct slice bytes)
{
    struct connector_sums sums;
    if (bytes.size < offsetof(struct connector_sums, tokens) || bytes.size > sizeof(sums))
        return false;
    memcpy(&sums, bytes.data, bytes.size);
    if (sums.tokens_count > SUMS_TOKENS_MAX || bytes.size != bytes_of(&sums))
        return false;
    for (uint64_t i = 0; i < sums.tokens_count; i++)
        if (memchr(sums.tokens[i].word, '\0', SUMS_WORD_MAX) == NULL)
            return false;
    return true;
}

static int64_t record_seen(struct slice bytes)
{
    struct connector_sums sums;
    memcpy(&sums, bytes.data, offsetof(struct connector_sums, tokens));
    return (int64_t)sums.day;
}

static void sample(struct slice *key, struct slice *record)
{
    static const struct connector_sums none;
    *key = SLICE("\0\0\0\0\0check.invalid");
    *record = slice_of(&none, offsetof(struct connector_sums, tokens));
}

static const struct store_kind sums_kind = {
    .format = FORMAT,
    .record_bytes = sizeof(struct connector_sums),
    .bytes_guess = BYTES_GUESS,
    .key_good = key_good,
    .good = record_good,
    .seen = record_seen,
    .sample = sample,
};

int connector_sums_open(const char *path, struct store **store, struct store_report *report)
{
    return store_open(path, &sums_kind, SUMS_RECORDS_MAX, store, report);
}

/* ---- adding ---- */

void connector_sums_token(struct connector_sums *sums, const char *word, uint64_t count)
{
    uint64_t at = 0;
    while (at < sums->tokens_count && strcmp(sums->tokens[at].word, word) != 0)
        at++;
    if (count == 0 || at == SUMS_TOKENS_MAX)
        return;
    if (at == sums->tokens_count) {
        CHECK(strlen(word) < SUMS_WORD_MAX);
        sums->tokens[at] = (struct sums_token) { .count = 0 };
        snprintf(sums->tokens[at].word, SUMS_WORD_MAX, "%s", word);
        sums->tokens_count++;
    }
    sums->tokens[at].count += count;
}

static void add(struct connector_sums *sums, const struct connector_sums *delta)
{
    for (unsigned kind = 0; kind < SUMS_KINDS; kind++)
        for (unsigned forced = 0; forced < 2; forced++)
            sums->messages[kind][forced] += delta->messages[kind][forced];
    sums->bytes += delta->bytes;
    sums->deferred += delta->deferred;
    sums->refused += delta->refused;
    for (uint64_t i = 0; i < delta->tokens_count; i++)
        connector_sums_token(sums, delta->tokens[i].word, delta->tokens[i].count);
}

int connector_sums_add(struct store *store, const struct sums_key *key,
                       const struct connector_sums *delta)
{
    struct connector_sums sums = { .day = key->day };
    struct key at;
    size_t bytes;
    unsigned dropped;
    key_of(key, &at);
    const struct slice name = slice_of(at.bytes, at.size);
    int r = store_get(store, name, &sums, &bytes);
    if (r < 0 && r != -ENOENT)
        return r;
    add(&sums, delta);
    return store_put(store, name, slice_of(&sums, bytes_of(&sums)), &dropped);
}

/* ---- reading ---- */

int connector_sums_next(struct store *store, struct sums_key *key, struct connector_sums *sums)
{
    struct key at;
    size_t bytes;
    key_of(key, &at);
    *sums = (struct connector_sums) { .bytes = 0 };
    int r = store_next(store, at.bytes, &at.size, sums, &bytes);
    if (r == 0)
        key_read(slice_of(at.bytes, at.size), key);
    return r;
}

int connector_sums_forget(struct store *store, uint32_t day)
{
    struct sums_key key = { .day = 0 };
    struct connector_sums sums;
    int r;
    while ((r = connector_sums_next(store, &key, &sums)) == 0 && key.day < day) {
        struct key at;
        key_of(&key, &at);
        r = store_drop(store, slice_of(at.bytes, at.size));
        if (r < 0)
            break;
    }
    return r == -ENOENT ? 0 : r;
}

const char *sums_kind_name(enum sums_kind kind)
{
    static const char *const names[] = { [SUMS_CLEAR] = "none",
                                         [SUMS_TLS_12] = "1.2",
                                         [SUMS_TLS_13] = "1.3",
                                         [SUMS_HYBRID] = "hybrid" };
    static_assert(ARRAY_COUNT(names) == SUMS_KINDS);
    CHECK(kind < SUMS_KINDS);
    return names[kind];
}
