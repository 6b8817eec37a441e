/*
 * spool_cli.c - `ringpost spool check`: a spool that no server has open, looked at and rescued
 *
 *   the directory's lock (the server's) -> each log: spool_check_open -> numbers
 *     --list, --extract: its live messages; --salvage: a new spool, and a look at that
 *
 * Without --salvage nothing is written but what is asked for with --output. What is printed of a
 * message is an address or a number; octets that a terminal obeys are not passed on.
 */
#include "mta/spool_cli.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/compiler.h"
#include "mta/cli.h"
#include "mta/clock_kept.h"
#include "mta/config.h"
#include "mta/smtp_server.h"
#include "queue/bounce.h"
#include "queue/spool_salvage.h"

enum {
    EXIT_INTACT = 0,
    EXIT_DAMAGED = 1,
    EXIT_USAGE = 2,
    EXIT_FAILED = 3, /* could not look, or not do it */
    PATH_BYTES = 1'024,
    TIME_BYTES = 64,
    SPOOL_MODE = 0700,
    FILE_MODE = 0600,
    RANGES_PRINTED = 100,
    SALVAGE_FILES = 64, /* of the new log's ring, beyond its segments */
    US_IN_S = 1'000'000,
};

static const char check_help[] =
    "ringpost spool check [DIR...]                    verify a spool and print its balance\n"
    "ringpost spool check [DIR...] --list             and each message that waits in it\n"
    "ringpost spool check [DIR...] --extract ID       a message with its envelope (RFC 5322)\n"
    "ringpost spool check DIR --salvage NEWDIR        what is intact, into a new spool\n"
    "\n"
    "For a spool that no server has open: DIR is a spool directory or one log-NNN of it (default:\n"
    "the configuration's). Each record's checksum is verified, and what became of each recipient\n"
    "is added up. Nothing in DIR is changed; a copy or a snapshot on a read-only disk will do.\n"
    "  -c, --config FILE   where the spool is, without DIR (default: built in)\n"
    "  -l, --list          id, arrival, octets, sender, recipients and what became of each\n"
    "  -e, --extract ID    also one that is finished, while the log still has it. The envelope is\n"
    "                      in header fields: Return-Path, X-Ringpost-...\n"
    "  -o, --output FILE   where to (a new file; default: standard output)\n"
    "      --salvage NEWDIR\n"
    "                      makes a spool there that a server starts with: all messages that can\n"
    "                      be read in full, with ids and outcomes, and the small files beside the\n"
    "                      logs. What can be read of the others is in NEWDIR/quarantine/ID.eml,\n"
    "                      damaged ranges beside it. The new spool is verified; DIR is kept\n"
    "      --json          one JSON object; with --list one a line for each message\n"
    "Exit status: 0 all is intact, 1 something is damaged or was not salvaged, 2 usage, 3 could "
    "not\n"
    "look (a server has it open, no spool there, no message ID) or not write.\n";

struct look {
    bool json, list;
    uint64_t extract; /* id; 0: none */
    const char *output;
    const char *salvage;
    struct ring *ring;
    json_t *logs;
    int64_t ahead_us; /* see clock_kept.h */
    /* of the log that is being looked at */
    const char *directory;
    json_t *damage;
    unsigned ranges;
    /* of all of them */
    unsigned count;
    bool damaged, found, failed;
    uint64_t copied, lost;
};

static void complain(const char *path, const char *words)
{
    fprintf(stderr, "ringpost: %s: %s\n", path, words);
}

static bool join(char out[static PATH_BYTES], const char *directory, const char *name)
{
    int n = snprintf(out, PATH_BYTES, "%s/%s", directory, name);
    if (n > 0 && n < PATH_BYTES)
        return true;
    complain(directory, "the name is too long");
    return false;
}

/* ---- texts ---- */

static void print_safe(FILE *out, struct slice text)
{
    for (size_t i = 0; i < text.size; i++)
        fputc(text.data[i] < ' ' || text.data[i] == 0x7f ? '?' : text.data[i], out);
}

static void time_text(int64_t us, char out[static TIME_BYTES])
{
    struct tm tm;
    const time_t at = us / US_IN_S;
    strftime(out, TIME_BYTES, "%Y-%m-%d %H:%M:%S UTC", gmtime_r(&at, &tm));
}

static int64_t oldest_us(const struct look *look, const struct spool_check_numbers *n)
{
    return n->oldest_us == 0 ? 0 : (int64_t)n->oldest_us + look->ahead_us;
}

static json_t *json_of(struct slice text)
{
    json_t *string = json_stringn((const char *)text.data, text.size);
    return string != NULL ? string : json_null();
}

static const char *final_text(uint8_t kind)
{
    switch (kind) {
    case OUTCOME_DELIVERED: return "delivered";
    case OUTCOME_BOUNCED: return "bounced";
    case OUTCOME_EXPIRED: return "expired";
    case OUTCOME_DISCARDED: return "discarded";
    default: return "waiting";
    }
}

/* ---- the balance ---- */

static void on_range(void *owner, uint32_t file, uint64_t position, uint32_t bytes, bool torn)
{
    struct look *look = owner;
    if (torn)
        return;
    if (look->damage != NULL)
        json_array_append_new(look->damage,
                              json_pack("{s:I, s:I, s:I, s:I}", "file", (json_int_t)file, "segment",
                                        (json_int_t)position_segment(position), "offset",
                                        (json_int_t)position_offset(position), "octets",
                                        (json_int_t)bytes));
    if (look->json || look->list || look->extract != 0)
        return;
    if (look->ranges++ < RANGES_PRINTED)
        printf("%s/segment-%06u: octets %u to %u are damaged\n", look->directory, (unsigned)file,
               (unsigned)position_offset(position),
               (unsigned)(position_offset(position) + bytes - 1));
    else if (look->ranges == RANGES_PRINTED + 1)
        printf("%s: and more; --json has all of them\n", look->directory);
}

static bool is_damaged(const struct spool_check_numbers *n)
{
    return n->report.damages > 0 || n->report.messages_damaged > 0 || n->report.segments_gone > 0 ||
           n->unaccounted != 0;
}

static json_t *numbers_json(const struct look *look, const struct spool_check_numbers *n)
{
    const struct recovery_report *r = &n->report;
    json_t *o = json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "directory",
                          look->directory, "intact", !is_damaged(n), "segment_size",
                          (json_int_t)n->segment_bytes, "segments", (json_int_t)r->segments,
                          "segments_free", (json_int_t)r->segments_free, "segments_gone",
                          (json_int_t)r->segments_gone, "batches", (json_int_t)r->batches,
                          "records", (json_int_t)r->records, "live_octets",
                          (json_int_t)n->live_bytes, "dead_octets", (json_int_t)n->dead_bytes);
    json_object_set_new(
        o, "messages",
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "in_log", (json_int_t)n->messages, "live",
                  (json_int_t)r->messages_live, "finished", (json_int_t)r->messages_finished,
                  "damaged", (json_int_t)r->messages_damaged, "torn", (json_int_t)r->messages_torn,
                  "unfinished", (json_int_t)r->unfinished));
    json_object_set_new(
        o, "recipients",
        json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "in_log", (json_int_t)n->recipients,
                  "delivered", (json_int_t)n->delivered, "bounced", (json_int_t)n->bounced,
                  "expired", (json_int_t)n->expired, "discarded", (json_int_t)n->discarded,
                  "waiting", (json_int_t)n->waiting, "unaccounted", (json_int_t)n->unaccounted));
    json_object_set_new(o, "outcomes", json_integer((json_int_t)n->outcomes));
    json_object_set_new(o, "oldest", json_integer(oldest_us(look, n) / US_IN_S));
    json_object_set_new(o, "torn_octets", json_integer((json_int_t)r->torn_bytes));
    json_object_set_new(o, "damaged_octets", json_integer((json_int_t)r->damage_bytes));
    json_object_set(o, "damage", look->damage);
    return o;
}

static void print_numbers(const struct look *look, const struct spool_check_numbers *n)
{
    const struct recovery_report *r = &n->report;
    char words[512];
    printf("%s: %s\n", look->directory, is_damaged(n) ? "DAMAGED" : "intact");
    if (n->segment_bytes == 0) {
        cli_line("segments", "nothing was ever written to it");
        return;
    }
    snprintf(words, sizeof(words), "%u in use, %u free, of %u octets; %llu batches, %llu records",
             (unsigned)r->segments, (unsigned)r->segments_free, (unsigned)n->segment_bytes,
             (unsigned long long)r->batches, (unsigned long long)r->records);
    cli_line("segments", words);
    snprintf(words, sizeof(words), "%llu in the log: %llu live, %llu finished",
             (unsigned long long)n->messages, (unsigned long long)r->messages_live,
             (unsigned long long)r->messages_finished);
    cli_line("messages", words);
    snprintf(words, sizeof(words),
             "%llu = %llu delivered + %llu bounced + %llu expired + %llu discarded + %llu waiting",
             (unsigned long long)n->recipients, (unsigned long long)n->delivered,
             (unsigned long long)n->bounced, (unsigned long long)n->expired,
             (unsigned long long)n->discarded, (unsigned long long)n->waiting);
    if (n->unaccounted != 0)
        snprintf(words + strlen(words), sizeof(words) - strlen(words), " + %lld UNACCOUNTED",
                 (long long)n->unaccounted);
    cli_line("recipients", words);
    snprintf(words, sizeof(words), "%llu in records of their own", (unsigned long long)n->outcomes);
    cli_line("outcomes", words);
    snprintf(words, sizeof(words), "%llu live, %llu dead", (unsigned long long)n->live_bytes,
             (unsigned long long)n->dead_bytes);
    cli_line("octets", words);
    if (n->oldest_us > 0) {
        time_text(oldest_us(look, n), words);
        cli_line("oldest", words);
    }
    if (r->torn_bytes > 0 || r->unfinished > 0 || r->messages_torn > 0) {
        snprintf(words, sizeof(words),
                 "%llu octets of a last write, %llu uploads, %llu messages that nobody was told of",
                 (unsigned long long)r->torn_bytes, (unsigned long long)r->unfinished,
                 (unsigned long long)r->messages_torn);
        cli_line("unfinished", words);
    }
    if (!is_damaged(n))
        return;
    snprintf(words, sizeof(words),
             "%llu places, %llu octets; %llu live messages damaged; %u segments without a file",
             (unsigned long long)r->damages, (unsigned long long)r->damage_bytes,
             (unsigned long long)r->messages_damaged, (unsigned)r->segments_gone);
    cli_line("DAMAGE", words);
}

/* ---- messages ---- */

static json_t *recipients_json(struct spool_check *check, const struct spool_check_message *m)
{
    json_t *list = json_array();
    size_t cursor = 0;
    struct recipient recipient;
    for (uint32_t i = 0; envelope_next(&m->envelope, &cursor, &recipient); i++)
        json_array_append_new(list,
                              json_pack("{s:o, s:s}", "address", json_of(recipient.address),
                                        "state", final_text(spool_check_final(check, m->id, i))));
    return list;
}

static void list_json(struct spool_check *check, const struct spool_check_message *m,
                      const char *id, bool unreadable)
{
    json_t *o = json_pack("{s:s, s:b}", "id", id, "damaged", m->damaged || unreadable);
    if (!unreadable) {
        json_object_set_new(o, "arrival",
                            json_integer((json_int_t)(m->envelope.arrival_us / US_IN_S)));
        json_object_set_new(o, "size", json_integer((json_int_t)m->envelope.body_bytes));
        json_object_set_new(o, "sender", json_of(m->envelope.sender));
        json_object_set_new(o, "recipients", recipients_json(check, m));
    }
    json_dumpf(o, stdout, JSON_COMPACT);
    fputc('\n', stdout);
    json_decref(o);
}

static void list_text(struct spool_check *check, const struct spool_check_message *m,
                      const char *id, bool unreadable)
{
    if (unreadable) {
        printf("%s  DAMAGED: its envelope cannot be read\n", id);
        return;
    }
    char arrival[TIME_BYTES];
    time_text(m->envelope.arrival_us, arrival);
    printf("%s  %s  %llu octets%s  <", id, arrival, (unsigned long long)m->envelope.body_bytes,
           m->damaged ? "  DAMAGED" : "");
    print_safe(stdout, m->envelope.sender);
    puts(">");
    size_t cursor = 0;
    struct recipient recipient;
    for (uint32_t i = 0; envelope_next(&m->envelope, &cursor, &recipient); i++) {
        printf("    %-10s <", final_text(spool_check_final(check, m->id, i)));
        print_safe(stdout, recipient.address);
        puts(">");
    }
}

static int list_messages(const struct look *look, struct spool_check *check)
{
    size_t cursor = 0;
    struct spool_check_message m;
    int r;
    while ((r = spool_check_next(check, &cursor, &m)) != 0) {
        char id[SMTP_ID_TEXT];
        smtp_id_text(m.id, id);
        m.envelope.arrival_us += look->ahead_us;
        if (r < 0 && r != -EBADMSG)
            return r;
        if (look->json)
            list_json(check, &m, id, r < 0);
        else
            list_text(check, &m, id, r < 0);
    }
    return 0;
}

/* ---- one message as a file ---- */

struct missing {
    uint64_t there, gone;
};

static int count_piece(void *owner, struct slice piece)
{
    struct missing *missing = owner;
    if (piece.data != NULL)
        missing->there += piece.size;
    else
        missing->gone += piece.size;
    return 0;
}

static int write_piece(void *owner, struct slice piece)
{
    FILE *out = owner;
    if (piece.data == NULL)
        return 0;
    return fwrite(piece.data, 1, piece.size, out) == piece.size ? 0 : -EIO;
}

static void write_field(FILE *out, const char *name, struct slice value)
{
    fprintf(out, "%s: ", name);
    print_safe(out, value);
    fputs("\r\n", out);
}

static void write_envelope(FILE *out, struct spool_check *check,
                           const struct spool_check_message *m)
{
    const struct envelope *e = &m->envelope;
    char id[SMTP_ID_TEXT];
    char client[NET_TEXT_MAX];
    char date[TIME_BYTES];
    smtp_id_text(m->id, id);
    net_text(&e->client, false, client);
    time_text(e->arrival_us, date);
    fputs("Return-Path: <", out);
    print_safe(out, e->sender);
    fprintf(out, ">\r\nX-Ringpost-Id: %s\r\nX-Ringpost-Arrival: %s\r\nX-Ringpost-Client: [%s]\r\n",
            id, date, client);
    write_field(out, "X-Ringpost-Helo", e->helo);
    if (e->envid.size > 0)
        write_field(out, "X-Ringpost-Envid", e->envid);
    if (e->user.size > 0)
        write_field(out, "X-Ringpost-User", e->user);
    size_t cursor = 0;
    struct recipient recipient;
    for (uint32_t i = 0; envelope_next(e, &cursor, &recipient); i++) {
        fputs("X-Ringpost-Recipient: <", out);
        print_safe(out, recipient.address);
        fprintf(out, ">; %s\r\n", final_text(spool_check_final(check, m->id, i)));
    }
}

/* 0; 1: not all of it could be read; or an errno. */
static int write_message(FILE *out, struct spool_check *check, const struct spool_check_message *m)
{
    struct missing missing = { 0 };
    int r = spool_check_body(check, m, count_piece, &missing);
    if (r < 0 && r != -EBADMSG)
        return r;
    write_envelope(out, check, m);
    if (r == -EBADMSG)
        fprintf(out, "X-Ringpost-Damaged: %llu of %llu octets can be read\r\n",
                (unsigned long long)missing.there, (unsigned long long)m->head.body_bytes);
    int w = spool_check_body(check, m, write_piece, out);
    if (w < 0 && w != -EBADMSG)
        return w;
    return ferror(out) ? -EIO : r == -EBADMSG;
}

/* 0; 1: not all of it could be read; or an errno. path NULL: standard output. */
static int write_file(const char *path, struct spool_check *check,
                      const struct spool_check_message *m)
{
    FILE *out = stdout;
    if (path != NULL) {
        int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
        out = fd < 0 ? NULL : fdopen(fd, "w");
        if (out == NULL)
            return -errno;
    }
    int r = write_message(out, check, m);
    if (fflush(out) != 0 || (path != NULL && fsync(fileno(out)) < 0))
        r = r < 0 ? r : -errno;
    if (path != NULL && fclose(out) != 0 && r >= 0)
        r = -errno;
    return r;
}

static int extract(struct look *look, struct spool_check *check)
{
    struct spool_check_message m;
    int r = spool_check_find(check, look->extract, &m);
    if (r == -ENOENT)
        return 0; /* another log may have it */
    look->found = true;
    if (r == -EBADMSG) {
        complain(look->directory, "the envelope of this message cannot be read");
        look->damaged = true;
        return 0;
    }
    m.envelope.arrival_us += look->ahead_us;
    if (r == 0)
        r = write_file(look->output, check, &m);
    if (r < 0) {
        complain(look->output != NULL ? look->output : "standard output", strerror(-r));
        look->failed = true;
        return 0;
    }
    look->damaged = r > 0;
    if (r > 0)
        complain(look->directory, "not all of this message can be read");
    return 0;
}

/* ---- salvage ---- */

static void on_lost(void *owner, uint64_t id)
{
    (void)id; /* told where it is written out */
    ((struct look *)owner)->lost++;
}

/* What can be read of those that were not copied. */
static int write_damaged(const struct look *look, struct spool_check *check)
{
    char quarantine[PATH_BYTES];
    if (!join(quarantine, look->salvage, "quarantine"))
        return -ENAMETOOLONG;
    if (mkdir(quarantine, SPOOL_MODE) < 0 && errno != EEXIST)
        return -errno;
    size_t cursor = 0;
    struct spool_check_message m;
    int r;
    while ((r = spool_check_next(check, &cursor, &m)) != 0) {
        struct missing missing = { 0 };
        char id[SMTP_ID_TEXT];
        char path[PATH_BYTES + SMTP_ID_TEXT + 8];
        smtp_id_text(m.id, id);
        if (r == 1 && !m.damaged) {
            r = spool_check_body(check, &m, count_piece, &missing);
            if (r == 0)
                continue;
        }
        snprintf(path, sizeof(path), "%s/%s.eml", quarantine, id);
        if (r == 1 || (r == -EBADMSG && m.envelope.recipients_count > 0))
            r = write_file(path, check, &m);
        if (r < 0 && r != -EBADMSG)
            return r;
        fprintf(stderr, "ringpost: %s is damaged: %s%s\n", id,
                r < 0 ? "nothing of it can be read" : "what can be read is in ", r < 0 ? "" : path);
    }
    return 0;
}

static int make_ring(uint32_t files, struct ring **ring)
{
    const struct ring_options options = {
        .entries = 64, .sockets_max = files, .recv_buffers = 4, .recv_buffer_bytes = 256
    };
    const char *what = NULL;
    int r = ring_new(&options, ring, &what);
    if (r < 0)
        complain(what, strerror(-r));
    return r;
}

/* The new log, by the same look as the old one. */
static int verify(struct look *look, const char *directory, uint32_t number, uint64_t copied)
{
    struct spool_check *check;
    const char *why;
    const struct spool_check_options options = { .directory = directory, .number = number };
    int r = spool_check_open(look->ring, &options, &check, &why);
    if (r < 0) {
        complain(directory, why);
        return r;
    }
    const struct spool_check_numbers *n = spool_check_numbers(check);
    if (is_damaged(n) || n->report.messages_live != copied) {
        complain(directory, "what was written is not what can be read back");
        r = -EIO;
    }
    spool_check_close(check);
    return r;
}

static int salvage_log(struct look *look, struct spool_check *check, uint32_t number)
{
    const struct spool_check_numbers *n = spool_check_numbers(check);
    char directory[PATH_BYTES];
    char name[32];
    snprintf(name, sizeof(name), "log-%03u", (unsigned)number);
    if (n->segment_bytes == 0)
        return 0;
    if (!join(directory, look->salvage, name))
        return -ENAMETOOLONG;
    struct ring *ring;
    int r = make_ring(n->report.segments + SALVAGE_FILES, &ring);
    if (r < 0)
        return r;
    const char *why;
    const uint64_t lost = look->lost;
    struct spool_salvage_numbers numbers;
    r = spool_salvage(ring, check, directory, number, on_lost, look, &numbers, &why);
    ring_free(ring);
    if (r < 0) {
        fprintf(stderr, "ringpost: %s: %s (%s)\n", directory, why, strerror(-r));
        return r;
    }
    look->copied += numbers.copied;
    r = verify(look, directory, number, numbers.copied);
    if (r == 0 && look->lost > lost)
        r = write_damaged(look, check);
    return r;
}

static int copy_file(const char *from, const char *to)
{
    uint8_t piece[65'536];
    int in = open(from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
    int r = in < 0 || out < 0 ? -errno : 0;
    ssize_t n = 0;
    while (r == 0 && (n = read(in, piece, sizeof(piece))) > 0)
        r = write(out, piece, (size_t)n) == n ? 0 : -EIO;
    if (r == 0 && (n < 0 || fsync(out) < 0))
        r = -errno;
    if (in >= 0)
        close(in);
    if (out >= 0 && close(out) < 0 && r == 0)
        r = -errno;
    return r;
}

/* Marks of operators, what is remembered of next hops: without the marks of blocked connectors a
 * start would let in whom an operator keeps out. */
static int copy_files(const struct look *look, const char *spool)
{
    DIR *directory = opendir(spool);
    if (directory == NULL)
        return -errno;
    int r = 0;
    const struct dirent *entry;
    while (r == 0 && (entry = readdir(directory)) != NULL) {
        char from[PATH_BYTES];
        char to[PATH_BYTES];
        struct stat stat;
        if (!join(from, spool, entry->d_name) || !join(to, look->salvage, entry->d_name))
            r = -ENAMETOOLONG;
        else if (lstat(from, &stat) == 0 && S_ISREG(stat.st_mode))
            r = copy_file(from, to);
        if (r < 0)
            complain(to, strerror(-r));
    }
    closedir(directory);
    return r;
}

static int sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int r = fd < 0 || fsync(fd) < 0 ? -errno : 0;
    if (fd >= 0)
        close(fd);
    return r;
}

/* The new directory belongs to whom the old one belongs, and so does all that is made in it. */
static int salvage_begin(const struct look *look, const char *spool)
{
    struct stat stat;
    if (lstat(spool, &stat) < 0 || mkdir(look->salvage, SPOOL_MODE) < 0) {
        complain(look->salvage,
                 errno == EEXIST ? "is there already: name a new directory" : strerror(errno));
        return -EEXIST;
    }
    if (geteuid() == 0 && (chown(look->salvage, stat.st_uid, stat.st_gid) < 0 ||
                           setegid(stat.st_gid) < 0 || seteuid(stat.st_uid) < 0)) {
        complain(look->salvage, strerror(errno));
        return -EPERM;
    }
    return 0;
}

static int salvage_end(const struct look *look, const char *spool)
{
    int r = copy_files(look, spool);
    if (r == 0)
        r = sync_directory(look->salvage);
    if (r < 0)
        return r;
    if (look->json)
        return 0;
    printf("%s: %llu messages copied, %llu damaged ones not (%s/quarantine)\n", look->salvage,
           (unsigned long long)look->copied, (unsigned long long)look->lost, look->salvage);
    return 0;
}

/* ---- logs and directories ---- */

static int look_at_log(struct look *look, const char *directory, uint32_t number)
{
    char quarantine[PATH_BYTES];
    struct spool_check_options options = {
        .directory = directory, .number = number, .owner = look, .range = on_range
    };
    if (look->salvage != NULL) {
        if (!join(quarantine, look->salvage, "quarantine"))
            return -ENAMETOOLONG;
        options.quarantine = quarantine;
        options.outcomes = true;
    }
    look->directory = directory;
    look->ranges = 0;
    look->damage = look->json && !look->list ? json_array() : NULL;
    struct spool_check *check;
    const char *why;
    int r = spool_check_open(look->ring, &options, &check, &why);
    if (r < 0) {
        fprintf(stderr, "ringpost: %s: %s (%s)\n", directory, why, strerror(-r));
        json_decref(look->damage);
        return r;
    }
    look->count++;
    const struct spool_check_numbers *n = spool_check_numbers(check);
    look->damaged = look->damaged || (is_damaged(n) && look->extract == 0);
    if (look->extract != 0)
        r = extract(look, check);
    else if (look->list)
        r = list_messages(look, check);
    else if (look->json)
        json_array_append_new(look->logs, numbers_json(look, n));
    else
        print_numbers(look, n);
    if (r == 0 && look->salvage != NULL)
        r = salvage_log(look, check, number);
    json_decref(look->damage);
    spool_check_close(check);
    return r;
}

/* log-NNN, the whole name. */
static bool log_number(const char *name, uint32_t *number)
{
    unsigned n;
    char rest;
    if (strlen(name) != sizeof("log-000") - 1 || sscanf(name, "log-%3u%c", &n, &rest) != 1)
        return false;
    *number = n;
    return n < SPOOL_LOGS_MAX;
}

static int is_log(const struct dirent *entry)
{
    uint32_t number;
    return log_number(entry->d_name, &number);
}

static int look_at_spool(struct look *look, const char *spool)
{
    struct dirent **names;
    int count = scandir(spool, &names, is_log, alphasort);
    int r = count < 0 ? -errno : 0;
    if (count < 0)
        complain(spool, strerror(-r));
    if (count == 0)
        complain(spool, "is not a spool: there is no log-NNN in it");
    for (int i = 0; i < count; i++) {
        char path[PATH_BYTES];
        uint32_t number = 0;
        (void)log_number(names[i]->d_name, &number);
        if (r == 0)
            r = join(path, spool, names[i]->d_name) ? look_at_log(look, path, number)
                                                    : -ENAMETOOLONG;
        free(names[i]);
    }
    if (count >= 0)
        free(names);
    return count == 0 ? -ENOENT : r;
}

/* As the server does. -1: it is in use, or not there; said. Closing it unlocks. */
static int lock_spool(const char *spool)
{
    int fd = open(spool, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        complain(spool, strerror(errno));
        return -1;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) == 0)
        return fd;
    complain(spool,
             errno == EWOULDBLOCK
                 ? "a server has it open: stop that first (systemctl stop ringpost), or look "
                   "with `ringpost queue list` while it runs"
                 : strerror(errno));
    close(fd);
    return -1;
}

static int look_at(struct look *look, const char *given)
{
    char path[PATH_BYTES];
    char parent[PATH_BYTES + 4];
    size_t size = strlen(given);
    while (size > 1 && given[size - 1] == '/')
        size--;
    if (size >= sizeof(path)) {
        complain(given, "the name is too long");
        return -ENAMETOOLONG;
    }
    snprintf(path, sizeof(path), "%.*s", (int)size, given);
    const char *slash = strrchr(path, '/');
    uint32_t number;
    bool log = log_number(slash != NULL ? slash + 1 : path, &number);
    snprintf(parent, sizeof(parent), "%s%s", path, log ? "/.." : "");
    if (log && look->salvage != NULL) {
        complain(path, "is one log: --salvage takes the whole spool");
        return -EINVAL;
    }
    int lock = lock_spool(parent);
    if (lock < 0)
        return -EBUSY;
    look->ahead_us = clock_kept_ahead_us(parent);
    int r = look->salvage != NULL ? salvage_begin(look, path) : 0;
    if (r == 0)
        r = log ? look_at_log(look, path, number) : look_at_spool(look, path);
    if (r == 0 && look->salvage != NULL)
        r = salvage_end(look, path);
    close(lock);
    return r;
}

static int finish(struct look *look, int r)
{
    int status = look->damaged || look->lost > 0 ? EXIT_DAMAGED : EXIT_INTACT;
    if (r == 0 && look->extract != 0 && !look->found) {
        fputs("ringpost: no log has a message of this id (any more)\n", stderr);
        status = EXIT_FAILED;
    }
    if (r < 0 || look->failed)
        status = EXIT_FAILED;
    if (r < 0 && look->salvage != NULL)
        complain(look->salvage, "is not complete: do not start a server with it");
    if (!look->json || look->list || look->extract != 0 || r < 0)
        return status;
    json_t *all = json_pack("{s:b, s:O}", "intact", status == EXIT_INTACT, "logs", look->logs);
    if (look->salvage != NULL)
        json_object_set_new(all, "salvaged",
                            json_pack("{s:s, s:I, s:I}", "directory", look->salvage, "messages",
                                      (json_int_t)look->copied, "damaged", (json_int_t)look->lost));
    return cli_print_json(all, status);
}

static void raise_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int usage(void)
{
    fputs(check_help, stderr);
    return EXIT_USAGE;
}

static int run(struct look *look, int argc, char **argv, const char *file)
{
    struct config *config = NULL;
    if (argc == 0 && (config = cli_config(file)) == NULL)
        return EXIT_FAILED;
    raise_files();
    look->logs = json_array();
    int r = make_ring(1, &look->ring);
    if (r == 0 && config != NULL)
        r = look_at(look, config->spool.directory);
    for (int i = 0; i < argc && r == 0; i++)
        r = look_at(look, argv[i]);
    int status = finish(look, r);
    if (look->ring != NULL)
        ring_free(look->ring);
    json_decref(look->logs);
    if (config != NULL)
        config_free(config);
    return status;
}

static int check_main(int argc, char **argv)
{
    enum { OPTION_SALVAGE = 256, OPTION_JSON };
    static const struct option options[] = {
        { "config", required_argument, NULL, 'c' },
        { "list", no_argument, NULL, 'l' },
        { "extract", required_argument, NULL, 'e' },
        { "output", required_argument, NULL, 'o' },
        { "salvage", required_argument, NULL, OPTION_SALVAGE },
        { "json", no_argument, NULL, OPTION_JSON },
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    struct look look = { 0 };
    const char *file = NULL;
    int option;
    while ((option = getopt_long(argc, argv, "c:le:o:h", options, NULL)) != -1) {
        switch (option) {
        case 'c': file = optarg; break;
        case 'l': look.list = true; break;
        case 'e':
            if (smtp_id_read(slice_of_string(optarg), &look.extract) < 0) {
                fprintf(stderr, "ringpost: \"%s\" is not the id of a message\n", optarg);
                return EXIT_USAGE;
            }
            break;
        case 'o': look.output = optarg; break;
        case OPTION_SALVAGE: look.salvage = optarg; break;
        case OPTION_JSON: look.json = true; break;
        case 'h': fputs(check_help, stdout); return EXIT_INTACT;
        default: return usage();
        }
    }
    bool several = look.list + (look.extract != 0) + (look.salvage != NULL) > 1;
    if (several || (look.output != NULL && look.extract == 0) ||
        (look.salvage != NULL && argc - optind > 1))
        return usage();
    return run(&look, argc - optind, argv + optind, file);
}

static const struct cli_command commands[] = {
    { "check", check_main, "verify a spool while no server has it open; extract, salvage" },
};

int spool_main(int argc, char **argv)
{
    return cli_dispatch("spool", commands, ARRAY_COUNT(commands), argc, argv);
}
