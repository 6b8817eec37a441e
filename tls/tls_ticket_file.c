/*
 * tls_ticket_file.c - ticket keys in a file, for nodes that take each other's tickets
 *
 *   ringpost-ticket-keys 1
 *   made 1764167999000000                         us since the epoch, of the current one
 *   current 32 hex digits, 64 hex digits          name and secret
 *   previous 32 hex digits, 64 hex digits         may be missing
 *   end                                           so that a part of one is none
 *
 * One node, or a job, rotates and writes; the others read. Best on a file system in memory: what
 * was on a disk may be found there later. It is replaced by rename, never written in place, and a
 * temporary file that a crash leaves (PATH.XXXXXX) is as secret as the file itself.
 *
 * Words for people: what is wrong, and the way out. Every copy is wiped. Blocking; for the control
 * thread and the command line.
 */
#include "tls/tls_ticket.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/check.h"
#include "core/slice.h"
#include "tls/tls_boringssl.h"

#define FIRST_LINE "ringpost-ticket-keys 1"

enum {
    MODE_MAX = 0640,
    SKEW_MAX_S = 300, /* another node's clock may be ahead by this much */
};

/* ---- text to keys ---- */

/* The next line without its end, taken off text. False: there is none, or it has no end. */
static bool line_take(struct slice *text, struct slice *line)
{
    ptrdiff_t end = slice_find(*text, '\n');
    if (end < 0)
        return false;
    *line = slice_part(*text, 0, (size_t)end);
    *text = slice_from(*text, (size_t)end + 1);
    return true;
}

static bool word_take(struct slice *line, struct slice word)
{
    if (!slice_equal(slice_part(*line, 0, word.size), word))
        return false;
    *line = slice_from(*line, word.size);
    return true;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = ascii_lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool hex_take(struct slice *line, uint8_t *bytes, size_t size)
{
    if (line->size < 2 * size)
        return false;
    for (size_t i = 0; i < size; i++) {
        int high = hex_digit(line->data[2 * i]);
        int low = hex_digit(line->data[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        bytes[i] = (uint8_t)(high << 4 | low);
    }
    *line = slice_from(*line, 2 * size);
    return true;
}

static bool key_take(struct slice line, struct slice word, struct tls_ticket_key *key)
{
    return word_take(&line, word) && hex_take(&line, key->name, sizeof(key->name)) &&
           word_take(&line, SLICE(" ")) && hex_take(&line, key->secret, sizeof(key->secret)) &&
           line.size == 0;
}

static bool keys_parse(struct slice text, struct tls_ticket_keys *keys)
{
    struct slice line;
    uint64_t made_us;
    if (!line_take(&text, &line) || !slice_equal(line, SLICE(FIRST_LINE)))
        return false;
    if (!line_take(&text, &line) || !word_take(&line, SLICE("made ")) ||
        slice_to_u64(line, INT64_MAX, &made_us) < 0)
        return false;
    if (!line_take(&text, &line) || !key_take(line, SLICE("current "), &keys->current))
        return false;
    if (!line_take(&text, &line))
        return false;
    keys->flags = TLS_TICKET_HAS_CURRENT;
    keys->made_us = (int64_t)made_us;
    if (key_take(line, SLICE("previous "), &keys->previous)) {
        keys->flags |= TLS_TICKET_HAS_PREVIOUS;
        if (!line_take(&text, &line))
            return false;
    }
    return slice_equal(line, SLICE("end")) && text.size == 0;
}

/* ---- reading ---- */

static int file_check(int fd, const char *path, char *why)
{
    struct stat st;
    if (fstat(fd, &st) < 0) {
        int r = -errno;
        snprintf(why, TLS_TICKET_WHY_BYTES_MAX, "%s: %s", path, strerror(-r));
        return r;
    }
    if (!S_ISREG(st.st_mode)) {
        snprintf(why, TLS_TICKET_WHY_BYTES_MAX, "%s: not a regular file; name the file itself",
                 path);
        return -EINVAL;
    }
    if (st.st_uid != geteuid() && st.st_uid != 0) {
        snprintf(why, TLS_TICKET_WHY_BYTES_MAX,
                 "%s: belongs to user %u, who could replace the keys; chown it to root or to user "
                 "%u",
                 path, (unsigned)st.st_uid, (unsigned)geteuid());
        return -EPERM;
    }
    if (st.st_mode & 07777 & ~(mode_t)MODE_MAX) {
        snprintf(why, TLS_TICKET_WHY_BYTES_MAX,
                 "%s: mode %04o lets others in, and whoever reads it reads resumed sessions; make "
                 "new keys, then chmod 0600 (or 0640)",
                 path, (unsigned)(st.st_mode & 07777));
        return -EPERM;
    }
    return 0;
}

/* All of it, at most size bytes, or an errno; -EFBIG: there is more. */
static ssize_t file_read(int fd, uint8_t *text, size_t size)
{
    size_t have = 0;
    while (have < size) {
        ssize_t r = read(fd, text + have, size - have);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        if (r == 0)
            return (ssize_t)have;
        have += (size_t)r;
    }
    return -EFBIG;
}

static int keys_check_age(const struct tls_ticket_keys *keys, const char *path, int64_t now_us,
                          char *why)
{
    int64_t age_us = now_us - keys->made_us;
    if (age_us < -SKEW_MAX_S * 1'000'000LL) {
        snprintf(why, TLS_TICKET_WHY_BYTES_MAX,
                 "%s: its keys will be made in %" PRId64
                 " s; set this clock, or that of the node that wrote it",
                 path, -age_us / 1'000'000);
        return -EINVAL;
    }
    if (age_us > TLS_TICKET_AGE_MAX_US) {
        snprintf(why, TLS_TICKET_WHY_BYTES_MAX,
                 "%s: its keys are %" PRId64
                 " days old, and older than 7 is not taken; see why the job that rotates them "
                 "daily does not",
                 path, age_us / 1'000'000 / 86'400);
        return -ESTALE;
    }
    return 0;
}

static int keys_read(int fd, const char *path, int64_t now_us, struct tls_ticket_keys *keys,
                     char *why)
{
    uint8_t text[TLS_TICKET_FILE_BYTES_MAX];
    int r = file_check(fd, path, why);
    if (r < 0)
        return r;
    ssize_t size = file_read(fd, text, sizeof(text));
    if (size < 0 && size != -EFBIG) {
        r = (int)size;
        snprintf(why, TLS_TICKET_WHY_BYTES_MAX, "%s: %s", path, strerror(-r));
    } else if (size < 0 || !keys_parse(slice_of(text, (size_t)size), keys)) {
        r = -EINVAL;
        snprintf(why, TLS_TICKET_WHY_BYTES_MAX,
                 "%s: not a whole file of ticket keys (first line \"" FIRST_LINE
                 "\", last line \"end\"); write it again, and replace it by rename",
                 path);
    } else {
        r = keys_check_age(keys, path, now_us, why);
    }
    OPENSSL_cleanse(text, sizeof(text));
    return r;
}

int tls_ticket_keys_read(const char *path, int64_t now_us, struct tls_ticket_keys *keys,
                         char why[static TLS_TICKET_WHY_BYTES_MAX])
{
    *keys = (struct tls_ticket_keys) { 0 };
    why[0] = '\0';
    /* O_NONBLOCK: a FIFO there must not hold us up */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        int r = -errno;
        snprintf(why, TLS_TICKET_WHY_BYTES_MAX, "%s: %s%s", path, strerror(-r),
                 r == -ENOENT ? "; write it on one node and copy it to the others" : "");
        return r;
    }
    int r = keys_read(fd, path, now_us, keys, why);
    close(fd);
    if (r < 0)
        tls_ticket_keys_wipe(keys);
    return r;
}

/* ---- writing ---- */

static size_t key_text(const struct tls_ticket_key *key, const char *word, char *text, size_t size)
{
    size_t used = (size_t)snprintf(text, size, "%s ", word);
    for (size_t i = 0; i < sizeof(key->name); i++)
        used += (size_t)snprintf(text + used, size - used, "%02x", key->name[i]);
    text[used++] = ' ';
    for (size_t i = 0; i < sizeof(key->secret); i++)
        used += (size_t)snprintf(text + used, size - used, "%02x", key->secret[i]);
    text[used++] = '\n';
    return used;
}

static size_t keys_text(const struct tls_ticket_keys *keys, char text[TLS_TICKET_FILE_BYTES_MAX])
{
    const size_t size = TLS_TICKET_FILE_BYTES_MAX;
    size_t used = (size_t)snprintf(text, size, FIRST_LINE "\nmade %" PRId64 "\n", keys->made_us);
    used += key_text(&keys->current, "current", text + used, size - used);
    if (keys->flags & TLS_TICKET_HAS_PREVIOUS)
        used += key_text(&keys->previous, "previous", text + used, size - used);
    used += (size_t)snprintf(text + used, size - used, "end\n");
    CHECK(used < size);
    return used;
}

static int file_write(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t r = write(fd, text, size);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        text += r;
        size -= (size_t)r;
    }
    return fsync(fd) < 0 ? -errno : 0;
}

/* So that a reader of another user, who could read the old one, can read the new one. */
static int file_like(int fd, const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    bool is_ours = st.st_uid == geteuid() && st.st_gid == getegid();
    if (!is_ours && fchown(fd, st.st_uid, st.st_gid) < 0)
        return -errno;
    return fchmod(fd, st.st_mode & MODE_MAX) < 0 ? -errno : 0;
}

static int sync_parent(const char *path)
{
    char parent[PATH_MAX];
    snprintf(parent, sizeof(parent), "%s", path);
    int fd = open(dirname(parent), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return r;
}

static int file_replace(const char *path, const char *text, size_t size)
{
    char made[PATH_MAX];
    int length = snprintf(made, sizeof(made), "%s.XXXXXX", path);
    if (length < 0 || (size_t)length >= sizeof(made))
        return -ENAMETOOLONG;
    int fd = mkostemp(made, O_CLOEXEC); /* mode 0600 */
    if (fd < 0)
        return -errno;
    int r = file_like(fd, path);
    if (r == 0)
        r = file_write(fd, text, size);
    if (close(fd) < 0 && r == 0)
        r = -errno;
    if (r == 0 && rename(made, path) < 0)
        r = -errno;
    if (r < 0) {
        unlink(made);
        return r;
    }
    return sync_parent(path);
}

int tls_ticket_keys_write(const char *path, const struct tls_ticket_keys *keys,
                          char why[static TLS_TICKET_WHY_BYTES_MAX])
{
    char text[TLS_TICKET_FILE_BYTES_MAX];
    CHECK(keys->flags & TLS_TICKET_HAS_CURRENT);
    why[0] = '\0';
    int r = file_replace(path, text, keys_text(keys, text));
    OPENSSL_cleanse(text, sizeof(text));
    if (r < 0)
        snprintf(why, TLS_TICKET_WHY_BYTES_MAX,
                 "%s: cannot be replaced: %s; its directory must be writable, and owner and group "
                 "of the old file must be ours to give",
                 path, strerror(-r));
    return r;
}
