/*
 * cert_seen.c - records of certificates, when to warn of them, and how they are kept
 *
 * The key is the side, the title, NUL, the place. A record is a struct cert_seen as it is in
 * memory: FORMAT changes with it.
 */
#include "mta/cert_seen.h"

#include <errno.h>
#include <stdio.h>

enum { FORMAT = 1, RECORD_BYTES_GUESS = 2'048, DAY_SECONDS = 86'400 };

struct key {
    size_t size;
    uint8_t bytes[STORE_KEY_MAX];
};

/* ---- records ---- */

static void copy(char to[static CERT_SEEN_TEXT_MAX], const char *from)
{
    slice_to_string(slice_of_string(from), to, CERT_SEEN_TEXT_MAX);
}

void cert_seen_of(const struct tls_certificate *certificate, bool valid, const char *root,
                  int64_t now, struct cert_seen *seen)
{
    char names[CERT_SEEN_TEXT_MAX];
    memset(seen, 0, sizeof(*seen)); /* its padding is written to disk */
    seen->first = seen->last = now;
    seen->not_before = certificate->not_before;
    seen->not_after = certificate->not_after;
    seen->usage = (uint8_t)certificate->usage;
    seen->valid = valid;
    memcpy(seen->digest, certificate->digest, TLS_DIGEST_BYTES);
    memcpy(seen->spki, certificate->spki, TLS_DIGEST_BYTES);
    tls_names_text(&certificate->names, names, sizeof(names));
    copy(seen->names, certificate->names.count == 0 ? certificate->subject : names);
    copy(seen->issuer, certificate->issuer);
    copy(seen->root, root);
}

void cert_seen_again(struct cert_seen *record, const struct cert_seen *seen)
{
    const struct cert_seen before = *record;
    *record = *seen;
    if (memcmp(before.digest, seen->digest, TLS_DIGEST_BYTES) != 0)
        return;
    record->first = before.first;
    record->told_day = before.told_day;
    record->told_left = before.told_left;
}

bool cert_seen_due(struct cert_seen *record, const unsigned *days, unsigned count, int64_t now)
{
    const int64_t left = record->not_after - now, today = now / DAY_SECONDS;
    unsigned reached = 0;
    for (unsigned i = 0; i < count; i++)
        if (left <= (int64_t)days[i] * DAY_SECONDS)
            reached = days[i];
    if (reached == 0)
        return false;
    bool news = record->told_left == 0 || reached < record->told_left;
    bool daily = reached == days[count - 1] && record->told_day != today;
    if (!news && !daily)
        return false;
    record->told_left = reached;
    record->told_day = today;
    return true;
}

/* ---- on disk ---- */

static int key_of(const struct cert_place *place, struct key *key)
{
    int size = snprintf((char *)key->bytes, sizeof(key->bytes), "%u%s%c%s", place->side,
                        place->title, '\0', place->where);
    if (size < 0 || (size_t)size >= sizeof(key->bytes))
        return -ENAMETOOLONG;
    key->size = (size_t)size;
    return 0;
}

static bool key_good(struct slice key)
{
    ptrdiff_t end = slice_find(key, '\0');
    return end >= 1 && end <= CONNECTOR_NAME_MAX + 1 && key.data[0] >= '0' &&
           key.data[0] < '0' + CERT_SIDES && key.size - (size_t)end - 1 < CERT_SEEN_PLACE_MAX;
}

static bool record_good(struct slice bytes)
{
    struct cert_seen record;
    if (bytes.size != sizeof(record))
        return false;
    memcpy(&record, bytes.data, sizeof(record));
    return memchr(record.names, '\0', sizeof(record.names)) != NULL &&
           memchr(record.issuer, '\0', sizeof(record.issuer)) != NULL &&
           memchr(record.root, '\0', sizeof(record.root)) != NULL;
}

static int64_t record_seen(struct slice bytes)
{
    struct cert_seen record;
    memcpy(&record, bytes.data, sizeof(record));
    return record.last;
}

static void sample(struct slice *key, struct slice *record)
{
    static const struct cert_seen none;
    *key = SLICE("2check\0current");
    *record = slice_of(&none, sizeof(none));
}

static const struct store_kind seen_kind = {
    .format = FORMAT,
    .record_bytes = sizeof(struct cert_seen),
    .bytes_guess = RECORD_BYTES_GUESS,
    .key_good = key_good,
    .good = record_good,
    .seen = record_seen,
    .sample = sample,
};

int cert_seen_open(const char *path, struct store **store, struct store_report *report)
{
    return store_open(path, &seen_kind, CERT_SEEN_MAX, store, report);
}

int cert_seen_get(struct store *store, const struct cert_place *place, struct cert_seen *record)
{
    struct key key;
    size_t bytes;
    int r = key_of(place, &key);
    return r < 0 ? r : store_get(store, slice_of(key.bytes, key.size), record, &bytes);
}

int cert_seen_put(struct store *store, const struct cert_place *place,
                  const struct cert_seen *record)
{
    struct key key;
    unsigned dropped;
    int r = key_of(place, &key);
    return r < 0 ? r
                 : store_put(store, slice_of(key.bytes, key.size),
                             slice_of(record, sizeof(*record)), &dropped);
}

int cert_seen_drop(struct store *store, const struct cert_place *place)
{
    struct key key;
    int r = key_of(place, &key);
    return r < 0 ? r : store_drop(store, slice_of(key.bytes, key.size));
}

int cert_seen_next(struct store *store, struct cert_place *place, struct cert_seen *record)
{
    struct key key;
    size_t bytes;
    int r = key_of(place, &key);
    if (r == 0 && place->side == 0 && *place->title == '\0' && *place->where == '\0')
        key.size = 0;
    if (r == 0)
        r = store_next(store, key.bytes, &key.size, record, &bytes);
    if (r < 0)
        return r;
    const struct slice all = slice_of(key.bytes, key.size);
    const size_t end = (size_t)slice_find(all, '\0');
    place->side = (enum cert_side)(key.bytes[0] - '0');
    slice_to_string(slice_part(all, 1, end - 1), place->title, sizeof(place->title));
    slice_to_string(slice_from(all, end + 1), place->where, sizeof(place->where));
    return 0;
}
