/*
 * store.c - small durable state on disk
 *
 * Two tables: "records" by key; "seen" by the time of the last observation, big endian, so that its
 * first entry is the one to go. A record's checksum covers its key, so a record in another one's
 * place is damage too.
 *
 * Owns the file. One write transaction stays open from the first change to the commit, and reading
 * goes through it. A failed one is given up whole: then the tables are as of the last commit, and
 * agree. LMDB's own lock file is not used: the spool's lock keeps other processes out.
 */
#define XXH_INLINE_ALL
#include "mta/store.h"

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
    FILE_BYTES_MIN = 4 << 20,
    SEEN_BYTES = 8,
    CHECK_SECONDS = 60,
};

/* Before a record. */
struct header {
    uint64_t checksum; /* of all that follows, and of the key */
    uint32_t format;
    uint32_t bytes; /* with the header */
};

struct store {
    const struct store_kind *kind;
    MDB_env *env;
    MDB_txn *txn; /* NULL: nothing is open */
    MDB_dbi records;
    MDB_dbi seen;
    bool changed;
    uint32_t records_max;
    char path[STORE_PATH_MAX];
    _Alignas(8) uint8_t value[]; /* that is being written: header and record */
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

static MDB_val val_of(struct slice s)
{
    return (MDB_val) { s.size, (void *)(uintptr_t)s.data };
}

static uint64_t checksum_of(const uint8_t *value, size_t size, const MDB_val *key)
{
    const uint64_t seed = XXH3_64bits(key->mv_data, key->mv_size);
    const size_t from = offsetof(struct header, format);
    return XXH3_64bits_withSeed(value + from, size - from, seed);
}

/* The record in a value; -EBADMSG: it is none. */
static int value_read(const struct store *store, const MDB_val *from, const MDB_val *key,
                      struct slice *record)
{
    struct header header;
    if (from->mv_size < sizeof(header) ||
        from->mv_size > sizeof(header) + store->kind->record_bytes)
        return -EBADMSG;
    memcpy(&header, from->mv_data, sizeof(header));
    *record = slice_from(slice_of(from->mv_data, from->mv_size), sizeof(header));
    return header.format == store->kind->format && header.bytes == from->mv_size &&
                   header.checksum == checksum_of(from->mv_data, from->mv_size, key) &&
                   store->kind->good(*record)
               ? 0
               : -EBADMSG;
}

static MDB_val value_make(struct store *store, const MDB_val *key, struct slice record)
{
    const size_t size = sizeof(struct header) + record.size;
    struct header header = { .format = store->kind->format, .bytes = (uint32_t)size };
    memcpy(store->value, &header, sizeof(header));
    memcpy(store->value + sizeof(header), record.data, record.size);
    header.checksum = checksum_of(store->value, size, key);
    memcpy(store->value, &header, sizeof(header));
    return (MDB_val) { size, store->value };
}

static void seen_of(int64_t last, uint8_t bytes[static SEEN_BYTES])
{
    for (unsigned i = 0; i < SEEN_BYTES; i++)
        bytes[i] = (uint8_t)((uint64_t)last >> 8 * (SEEN_BYTES - 1 - i));
}

/* ---- opening ---- */

static void give_up(struct store *store)
{
    if (store->txn != NULL)
        mdb_txn_abort(store->txn);
    store->txn = NULL;
    store->changed = false;
}

static int begin(struct store *store)
{
    return store->txn != NULL ? 0 : errno_of(mdb_txn_begin(store->env, NULL, 0, &store->txn));
}

static void shut(struct store *store)
{
    give_up(store);
    if (store->env != NULL)
        mdb_env_close(store->env);
    store->env = NULL;
}

static int file_open(struct store *store)
{
    size_t bytes = (size_t)store->records_max * store->kind->bytes_guess + FILE_BYTES_MIN;
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
        result = store_commit(store);
    if (result < 0)
        shut(store);
    return result;
}

/* Reads all there is, and changes something without keeping it. */
static int look(struct store *store)
{
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val value = { 0 };
    struct slice name;
    struct slice record = { 0 };
    unsigned dropped;
    size_t count = 0;
    if (begin(store) < 0 || mdb_cursor_open(store->txn, store->records, &cursor) != MDB_SUCCESS)
        return -EBADMSG;
    int r;
    while ((r = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == MDB_SUCCESS) {
        uint8_t seen[SEEN_BYTES];
        MDB_val at = { sizeof(seen), seen };
        MDB_cursor *other;
        if (!store->kind->key_good(slice_of(key.mv_data, key.mv_size)) ||
            value_read(store, &value, &key, &record) < 0)
            return -EBADMSG;
        seen_of(store->kind->seen(record), seen);
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
    store->kind->sample(&name, &record);
    r = store_put(store, name, record, &dropped);
    return r == -ENOSPC ? 0 : r;
}

/* In a process of its own, for what it reads may be anything. */
__attribute__((noreturn)) static void look_and_end(struct store *store)
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
static int file_check(struct store *store, char *why, size_t room)
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

static int move_aside(const struct store *store, struct store_report *report)
{
    report->damaged = true;
    char date[32];
    struct tm tm;
    time_t now = time(NULL);
    strftime(date, sizeof(date), "%Y%m%dT%H%M%SZ", gmtime_r(&now, &tm));
    char aside[STORE_PATH_MAX + 64];
    int r = -EEXIST;
    for (unsigned i = 0; r == -EEXIST && i < 100; i++) {
        snprintf(aside, sizeof(aside), "%s.damaged-%s-%u", store->path, date, i);
        r = renameat2(AT_FDCWD, store->path, AT_FDCWD, aside, RENAME_NOREPLACE) < 0 ? -errno : 0;
    }
    snprintf(report->aside, sizeof(report->aside), "%s", r == 0 ? aside : "");
    return r;
}

int store_open(const char *path, const struct store_kind *kind, uint32_t records_max,
               struct store **result, struct store_report *report)
{
    *report = (struct store_report) { 0 };
    *result = NULL;
    struct store *store = calloc(1, sizeof(*store) + sizeof(struct header) + kind->record_bytes);
    if (store == NULL)
        return -ENOMEM;
    store->kind = kind;
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

int store_renew(struct store **store, struct store_report *report)
{
    *report = (struct store_report) { .why = "a record in it is not what was written" };
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

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    (void)store_commit(store); /* what it does not take is found out again */
    shut(store);
    free(store);
}

/* ---- records ---- */

/* LMDB knows no empty key: for it, one would be damage. */
static int begin_at(struct store *store, struct slice key)
{
    if (key.size == 0)
        return -ENOENT;
    return key.size > STORE_KEY_MAX ? -ENAMETOOLONG : begin(store);
}

int store_get(struct store *store, struct slice key, void *out, size_t *bytes)
{
    int r = begin_at(store, key);
    if (r < 0)
        return r;
    MDB_val at = val_of(key);
    MDB_val value = { 0 };
    struct slice record = { 0 };
    r = errno_of(mdb_get(store->txn, store->records, &at, &value));
    if (r == 0)
        r = value_read(store, &value, &at, &record);
    if (r < 0)
        return r;
    memcpy(out, record.data, record.size);
    *bytes = record.size;
    return 0;
}

static int drop(struct store *store, MDB_val *key, int64_t last)
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

/* The one that is there, if there is one. */
static int drop_present(struct store *store, MDB_val *key)
{
    MDB_val value = { 0 };
    struct slice record = { 0 };
    int r = errno_of(mdb_get(store->txn, store->records, key, &value));
    if (r == 0)
        r = value_read(store, &value, key, &record);
    return r < 0 ? r : drop(store, key, store->kind->seen(record));
}

static int drop_oldest(struct store *store)
{
    MDB_cursor *cursor;
    MDB_val at;
    MDB_val found = { 0 };
    uint8_t key[STORE_KEY_MAX];
    int r = errno_of(mdb_cursor_open(store->txn, store->seen, &cursor));
    if (r < 0)
        return r;
    r = errno_of(mdb_cursor_get(cursor, &at, &found, MDB_FIRST));
    if (r == 0 && (found.mv_size > sizeof(key) || at.mv_size != SEEN_BYTES))
        r = -EBADMSG;
    if (r == 0)
        memcpy(key, found.mv_data, found.mv_size); /* it goes with its page */
    MDB_val same = { found.mv_size, key };
    if (r == 0)
        r = errno_of(mdb_cursor_del(cursor, 0));
    mdb_cursor_close(cursor);
    store->changed = true;
    return r < 0 ? r : errno_of(mdb_del(store->txn, store->records, &same, NULL));
}

static int put(struct store *store, MDB_val *key, struct slice record, unsigned *dropped)
{
    int r = drop_present(store, key);
    if (r == -ENOENT)
        r = 0;
    while (r == 0 && store_count(store) >= store->records_max) {
        r = drop_oldest(store);
        *dropped += r == 0;
    }
    if (r < 0)
        return r == -ENOENT ? -EBADMSG : r;
    uint8_t seen[SEEN_BYTES];
    seen_of(store->kind->seen(record), seen);
    MDB_val when = { sizeof(seen), seen };
    MDB_val value = value_make(store, key, record);
    r = errno_of(mdb_put(store->txn, store->records, key, &value, 0));
    if (r == 0)
        r = errno_of(mdb_put(store->txn, store->seen, &when, key, 0));
    store->changed = true;
    return r;
}

int store_put(struct store *store, struct slice key, struct slice record, unsigned *dropped)
{
    CHECK(record.size <= store->kind->record_bytes);
    *dropped = 0;
    int r = begin_at(store, key);
    if (r < 0)
        return r;
    MDB_val at = val_of(key);
    r = put(store, &at, record, dropped);
    if (r < 0)
        give_up(store);
    return r;
}

int store_drop(struct store *store, struct slice key)
{
    int r = begin_at(store, key);
    if (r < 0)
        return r;
    MDB_val at = val_of(key);
    r = drop_present(store, &at);
    if (r < 0 && r != -ENOENT)
        give_up(store);
    return r;
}

int store_next(struct store *store, uint8_t key[static STORE_KEY_MAX], size_t *key_bytes, void *out,
               size_t *bytes)
{
    MDB_cursor *cursor = NULL;
    int r = begin(store);
    if (r == 0)
        r = errno_of(mdb_cursor_open(store->txn, store->records, &cursor));
    if (r < 0)
        return r;
    MDB_val at = { *key_bytes, key };
    MDB_val value = { 0 };
    struct slice record = { 0 };
    r = errno_of(mdb_cursor_get(cursor, &at, &value, *key_bytes == 0 ? MDB_FIRST : MDB_SET_RANGE));
    if (r == 0 && at.mv_size == *key_bytes && memcmp(at.mv_data, key, at.mv_size) == 0)
        r = errno_of(mdb_cursor_get(cursor, &at, &value, MDB_NEXT));
    if (r == 0 && !store->kind->key_good(slice_of(at.mv_data, at.mv_size)))
        r = -EBADMSG;
    if (r == 0)
        r = value_read(store, &value, &at, &record);
    if (r == 0) {
        memcpy(key, at.mv_data, at.mv_size);
        *key_bytes = at.mv_size;
        memcpy(out, record.data, record.size);
        *bytes = record.size;
    }
    mdb_cursor_close(cursor);
    return r;
}

int store_commit(struct store *store)
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

uint64_t store_count(struct store *store)
{
    MDB_stat stat;
    if (begin(store) < 0 || mdb_stat(store->txn, store->records, &stat) != MDB_SUCCESS)
        return 0;
    return stat.ms_entries;
}
