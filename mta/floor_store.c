/*
 * floor_store.c - floor memory on disk
 *
 * Two tables: "records" by host, NUL, domain; "seen" by the time of the last observation, big
 * endian, so that its first entry is the one to go. A record's checksum covers its key, so a record
 * in another one's place is damage too.
 *
 * Owns the file. One write transaction stays open from the first change to the commit, and reading
 * goes through it. A failed one is given up whole: then the tables are as of the last commit, and
 * agree. LMDB's own lock file is not used: the spool's lock keeps other processes out.
 */
#define XXH_INLINE_ALL
#include "mta/floor_store.h"

#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/check.h"

enum {
    FILE_MODE = 0600,
    FORMAT = 1,
    RECORD_BYTES_GUESS = 2'048, /* in the file, with its share of half empty pages and old ones */
    FILE_BYTES_MIN = 4 << 20,
    KEY_MAX = 511,
    SEEN_BYTES = 8,
    CHECK_SECONDS = 60,
};

struct value {
    uint64_t checksum; /* of all that follows, and of the key */
    uint32_t format;
    uint32_t bytes;
    struct floor_record record;
};

struct key {
    size_t size;
    char bytes[KEY_MAX];
};

struct floor_store {
    MDB_env *env;
    MDB_txn *txn; /* NULL: nothing is open */
    MDB_dbi records;
    MDB_dbi seen;
    bool changed;
    uint32_t records_max;
    char path[FLOOR_PATH_MAX];
};

static int errno_of(int r)
{
    if (r == MDB_SUCCESS)
        return 0;
    if (r == MDB_NOTFOUND)
        return -ENOENT;
    if (r == MDB_MAP_FULL || r == MDB_TXN_FULL)
        return -ENOSPC;
    return r > 0 ? -r : -EBADMSG;
}

/* ---- keys and values ---- */

static int key_of(const char *host, const char *domain, struct key *key)
{
    int size = snprintf(key->bytes, sizeof(key->bytes), "%s%c%s", host, '\0', domain);
    if (size < 0 || (size_t)size >= sizeof(key->bytes))
        return -ENAMETOOLONG;
    key->size = (size_t)size;
    return 0;
}

static int key_read(const MDB_val *from, char host[static FLOOR_HOST_MAX],
                    char domain[static FLOOR_DOMAIN_MAX])
{
    const char *bytes = from->mv_data;
    const char *end = memchr(bytes, '\0', from->mv_size);
    if (end == NULL || end - bytes >= FLOOR_HOST_MAX ||
        from->mv_size - (size_t)(end - bytes) - 1 >= FLOOR_DOMAIN_MAX)
        return -EBADMSG;
    size_t size = from->mv_size - (size_t)(end - bytes) - 1;
    snprintf(host, FLOOR_HOST_MAX, "%s", bytes);
    memcpy(domain, end + 1, size);
    domain[size] = '\0';
    return 0;
}

static uint64_t checksum_of(const struct value *value, const MDB_val *key)
{
    const uint64_t seed = XXH3_64bits(key->mv_data, key->mv_size);
    return XXH3_64bits_withSeed(&value->format, sizeof(*value) - offsetof(struct value, format),
                                seed);
}

static int value_read(const MDB_val *from, const MDB_val *key, struct floor_record *record)
{
    struct value value;
    if (from->mv_size != sizeof(value))
        return -EBADMSG;
    memcpy(&value, from->mv_data, sizeof(value));
    if (value.format != FORMAT || value.bytes != sizeof(value) ||
        value.checksum != checksum_of(&value, key) ||
        value.record.events_count > FLOOR_EVENTS_MAX ||
        memchr(value.record.issuer, '\0', FLOOR_ISSUER_MAX) == NULL)
        return -EBADMSG;
    *record = value.record;
    return 0;
}

static void seen_of(int64_t last, uint8_t bytes[static SEEN_BYTES])
{
    for (unsigned i = 0; i < SEEN_BYTES; i++)
        bytes[i] = (uint8_t)((uint64_t)last >> 8 * (SEEN_BYTES - 1 - i));
}

/* ---- opening ---- */

static void give_up(struct floor_store *store)
{
    if (store->txn != NULL)
        mdb_txn_abort(store->txn);
    store->txn = NULL;
    store->changed = false;
}

static int begin(struct floor_store *store)
{
    return store->txn != NULL ? 0 : errno_of(mdb_txn_begin(store->env, NULL, 0, &store->txn));
}

static void shut(struct floor_store *store)
{
    give_up(store);
    if (store->env != NULL)
        mdb_env_close(store->env);
    store->env = NULL;
}

static int file_open(struct floor_store *store)
{
    size_t bytes = (size_t)store->records_max * RECORD_BYTES_GUESS + FILE_BYTES_MIN;
    int r = mdb_env_create(&store->env);
    if (r != MDB_SUCCESS) {
        store->env = NULL;
        return errno_of(r);
    }
    r = mdb_env_set_mapsize(store->env, bytes);
    if (r == MDB_SUCCESS)
        r = mdb_env_set_maxdbs(store->env, 2);
    if (r == MDB_SUCCESS)
        r = mdb_env_open(store->env, store->path, MDB_NOSUBDIR | MDB_NOLOCK | MDB_NOMETASYNC,
                         FILE_MODE);
    if (r == MDB_SUCCESS)
        r = mdb_txn_begin(store->env, NULL, 0, &store->txn);
    if (r == MDB_SUCCESS)
        r = mdb_dbi_open(store->txn, "records", MDB_CREATE, &store->records);
    if (r == MDB_SUCCESS)
        r = mdb_dbi_open(store->txn, "seen", MDB_CREATE | MDB_DUPSORT, &store->seen);
    store->changed = true; /* the tables */
    int result = errno_of(r);
    if (result == 0)
        result = floor_store_commit(store);
    if (result < 0)
        shut(store);
    return result;
}

/* Reads all there is, and changes something without keeping it. */
static int look(struct floor_store *store)
{
    struct floor_record record = { 0 };
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val value;
    unsigned dropped;
    size_t count = 0;
    if (begin(store) < 0 || mdb_cursor_open(store->txn, store->records, &cursor) != MDB_SUCCESS)
        return -EBADMSG;
    int r;
    while ((r = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == MDB_SUCCESS) {
        char host[FLOOR_HOST_MAX];
        char domain[FLOOR_DOMAIN_MAX];
        uint8_t seen[SEEN_BYTES];
        MDB_val at = { sizeof(seen), seen };
        MDB_cursor *other;
        if (key_read(&key, host, domain) < 0 || value_read(&value, &key, &record) < 0)
            return -EBADMSG;
        seen_of(record.last, seen);
        if (mdb_cursor_open(store->txn, store->seen, &other) != MDB_SUCCESS ||
            mdb_cursor_get(other, &at, &key, MDB_GET_BOTH) != MDB_SUCCESS)
            return -EBADMSG;
        mdb_cursor_close(other);
        count++;
    }
    MDB_stat stat;
    if (r != MDB_NOTFOUND || mdb_stat(store->txn, store->seen, &stat) != MDB_SUCCESS ||
        stat.ms_entries != count)
        return -EBADMSG;
    record = (struct floor_record) { 0 };
    r = floor_store_put(store, "check.invalid", "check.invalid", &record, &dropped);
    return r == -ENOSPC ? 0 : r;
}

/* In a process of its own, for what it reads may be anything. */
__attribute__((noreturn)) static void look_and_end(struct floor_store *store)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
    if (null >= 0)
        dup2(null, STDERR_FILENO);
    (void)alarm(CHECK_SECONDS);
    int r = file_open(store);
    if (r == 0)
        r = look(store);
    _exit(r < 0 ? 1 : 0);
}

/* 0: good, or none; -EBADMSG and why; or an errno: that cannot be told. */
static int file_check(struct floor_store *store, char *why, size_t room)
{
    struct stat stat;
    if (lstat(store->path, &stat) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISREG(stat.st_mode)) {
        snprintf(why, room, "is not a file");
        return -EBADMSG;
    }
    if (access(store->path, R_OK | W_OK) < 0)
        return -errno;
    pid_t child = fork();
    if (child == 0)
        look_and_end(store);
    int status = 0;
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (child < 0)
        return -errno;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (WIFSIGNALED(status))
        snprintf(why, room, "reading it ended by signal %d", WTERMSIG(status));
    else
        snprintf(why, room, "it is not what was written");
    return -EBADMSG;
}

static int move_aside(const struct floor_store *store, struct floor_store_report *report)
{
    report->damaged = true;
    char date[32];
    struct tm tm;
    time_t now = time(NULL);
    strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
    char aside[FLOOR_PATH_MAX + 64];
    int r = -EEXIST;
    for (unsigned i = 0; r == -EEXIST && i < 100; i++) {
        snprintf(aside, sizeof(aside), "%s.damaged-%s-%u", store->path, date, i);
        r = renameat2(AT_FDCWD, store->path, AT_FDCWD, aside, RENAME_NOREPLACE) < 0 ? -errno : 0;
    }
    snprintf(report->aside, sizeof(report->aside), "%s", r == 0 ? aside : "");
    return r;
}

int floor_store_open(const char *path, uint32_t records_max, struct floor_store **result,
                     struct floor_store_report *report)
{
    *report = (struct floor_store_report) { 0 };
    *result = NULL;
    struct floor_store *store = calloc(1, sizeof(*store));
    if (store == NULL)
        return -ENOMEM;
    store->records_max = records_max;
    int size = snprintf(store->path, sizeof(store->path), "%s", path);
    int r = (size_t)size < sizeof(store->path) ? 0 : -ENAMETOOLONG;
    if (r == 0)
        r = file_check(store, report->why, sizeof(report->why));
    if (r == -EBADMSG)
        r = move_aside(store, report);
    if (r == 0)
        r = file_open(store);
    if (r < 0) {
        free(store);
        return r;
    }
    *result = store;
    return 0;
}

int floor_store_renew(struct floor_store **store, struct floor_store_report *report)
{
    *report = (struct floor_store_report) { .why = "a record in it is not what was written" };
    shut(*store);
    int r = move_aside(*store, report);
    if (r == 0)
        r = file_open(*store);
    if (r < 0) {
        free(*store);
        *store = NULL;
    }
    return r;
}

void floor_store_close(struct floor_store *store)
{
    if (store == NULL)
        return;
    (void)floor_store_commit(store); /* what it does not take is learned again */
    shut(store);
    free(store);
}

/* ---- records ---- */

int floor_store_get(struct floor_store *store, const char *host, const char *domain,
                    struct floor_record *record)
{
    struct key key;
    int r = key_of(host, domain, &key);
    if (r == 0)
        r = begin(store);
    if (r < 0)
        return r;
    MDB_val at = { key.size, key.bytes };
    MDB_val value;
    r = errno_of(mdb_get(store->txn, store->records, &at, &value));
    return r < 0 ? r : value_read(&value, &at, record);
}

static int drop(struct floor_store *store, MDB_val *key, int64_t last)
{
    uint8_t seen[SEEN_BYTES];
    seen_of(last, seen);
    MDB_val at = { sizeof(seen), seen };
    store->changed = true;
    int r = errno_of(mdb_del(store->txn, store->seen, &at, key));
    if (r == -ENOENT)
        return -EBADMSG; /* the tables do not agree */
    return r < 0 ? r : errno_of(mdb_del(store->txn, store->records, key, NULL));
}

static int drop_oldest(struct floor_store *store)
{
    MDB_cursor *cursor;
    MDB_val at;
    MDB_val found = { 0 };
    int r = errno_of(mdb_cursor_open(store->txn, store->seen, &cursor));
    if (r < 0)
        return r;
    r = errno_of(mdb_cursor_get(cursor, &at, &found, MDB_FIRST));
    struct key key = { 0 };
    if (r == 0 && (found.mv_size > KEY_MAX || at.mv_size != SEEN_BYTES))
        r = -EBADMSG;
    if (r == 0)
        memcpy(key.bytes, found.mv_data, found.mv_size); /* it goes with its page */
    key.size = found.mv_size;
    if (r == 0)
        r = errno_of(mdb_cursor_del(cursor, 0));
    mdb_cursor_close(cursor);
    MDB_val same = { key.size, key.bytes };
    store->changed = true;
    return r < 0 ? r : errno_of(mdb_del(store->txn, store->records, &same, NULL));
}

static int put(struct floor_store *store, struct key *key, const struct floor_record *record,
               unsigned *dropped)
{
    MDB_val at = { key->size, key->bytes };
    MDB_val old;
    int r = errno_of(mdb_get(store->txn, store->records, &at, &old));
    if (r == 0) {
        struct floor_record before;
        r = value_read(&old, &at, &before);
        if (r == 0)
            r = drop(store, &at, before.last);
    } else if (r == -ENOENT) {
        r = 0;
    }
    while (r == 0 && floor_store_count(store) >= store->records_max) {
        r = drop_oldest(store);
        *dropped += r == 0;
    }
    if (r < 0)
        return r == -ENOENT ? -EBADMSG : r;
    struct value value;
    memset(&value, 0, sizeof(value));
    value.format = FORMAT;
    value.bytes = sizeof(value);
    value.record = *record;
    value.checksum = checksum_of(&value, &at);
    uint8_t seen[SEEN_BYTES];
    seen_of(record->last, seen);
    MDB_val when = { sizeof(seen), seen };
    MDB_val bytes = { sizeof(value), &value };
    r = errno_of(mdb_put(store->txn, store->records, &at, &bytes, 0));
    if (r == 0)
        r = errno_of(mdb_put(store->txn, store->seen, &when, &at, 0));
    store->changed = true;
    return r;
}

int floor_store_put(struct floor_store *store, const char *host, const char *domain,
                    const struct floor_record *record, unsigned *dropped)
{
    struct key key;
    *dropped = 0;
    int r = key_of(host, domain, &key);
    if (r == 0)
        r = begin(store);
    if (r < 0)
        return r;
    r = put(store, &key, record, dropped);
    if (r < 0)
        give_up(store);
    return r;
}

int floor_store_drop(struct floor_store *store, const char *host, const char *domain)
{
    struct floor_record record;
    struct key key;
    int r = floor_store_get(store, host, domain, &record);
    if (r < 0)
        return r;
    CHECK(key_of(host, domain, &key) == 0);
    MDB_val at = { key.size, key.bytes };
    r = drop(store, &at, record.last);
    if (r < 0)
        give_up(store);
    return r;
}

int floor_store_next(struct floor_store *store, char host[static FLOOR_HOST_MAX],
                     char domain[static FLOOR_DOMAIN_MAX], struct floor_record *record)
{
    struct key key;
    int r = key_of(host, domain, &key);
    if (r == 0)
        r = begin(store);
    if (r < 0)
        return r;
    MDB_cursor *cursor;
    r = errno_of(mdb_cursor_open(store->txn, store->records, &cursor));
    if (r < 0)
        return r;
    MDB_val at = { key.size, key.bytes };
    MDB_val value;
    r = errno_of(mdb_cursor_get(cursor, &at, &value, MDB_SET_RANGE));
    if (r == 0 && at.mv_size == key.size && memcmp(at.mv_data, key.bytes, key.size) == 0)
        r = errno_of(mdb_cursor_get(cursor, &at, &value, MDB_NEXT));
    if (r == 0)
        r = key_read(&at, host, domain);
    if (r == 0)
        r = value_read(&value, &at, record);
    mdb_cursor_close(cursor);
    return r;
}

int floor_store_commit(struct floor_store *store)
{
    if (store->txn == NULL)
        return 0;
    if (!store->changed) {
        give_up(store);
        return 0;
    }
    int r = errno_of(mdb_txn_commit(store->txn));
    store->txn = NULL;
    store->changed = false;
    return r;
}

uint64_t floor_store_count(struct floor_store *store)
{
    MDB_stat stat;
    if (begin(store) < 0 || mdb_stat(store->txn, store->records, &stat) != MDB_SUCCESS)
        return 0;
    return stat.ms_entries;
}
