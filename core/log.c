/*
 * log.c - lines into rings of bytes, and the thread that empties them into a file
 *
 * Each producer has a ring: the producer owns tail, the writer head; only whole lines are
 * published. The writer looks at all rings every POLL_MS and writes what it finds with one writev;
 * producers never make a system call. What could not be written stays in the rings and is tried
 * again, so a full disk costs lines only once a ring is full.
 *
 *   writer: RUN --write fails--> RETRY_MS pause --> RUN          --stop--> drain --> end
 *
 * A write may end in the middle of a line. Then that ring goes first next time, so that no other
 * line comes between. When the file was opened again meanwhile, the rest of the line is dropped and
 * counted instead. The writer is a producer too, of lines about the log itself.
 *
 * A process that was killed amid a write leaves a file that ends in half a line. That stays, and
 * the next process begins a line of its own.
 */
#include "core/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "core/check.h"

enum {
    POLL_MS = 25,
    RETRY_MS = 100,
    FILE_MODE = 0640,
    CACHE_LINE = 64,
    TIME_TEXT_MAX = 32,
    IOV_MAX_USED = 2 * (LOG_PRODUCERS_MAX + 1),
    /* What always has to fit behind the last value: "]", the mark, the brace, the line feed. */
    LINE_END_MAX = 24,
};
static const char cut_mark[] = ",\"cut\":true";
static_assert(sizeof(cut_mark) + 4 <= LINE_END_MAX);
static_assert((LOG_BUFFER_BYTES & (LOG_BUFFER_BYTES - 1)) == 0);

struct log {
    struct log_writer *writer;
    uint8_t *bytes;
    enum log_level level;
    int shard;
    _Alignas(CACHE_LINE) uint64_t tail; /* bytes ever put in; written by the producer */
    uint64_t head_seen;
    uint64_t dropped;                   /* lines; written by the producer */
    _Alignas(CACHE_LINE) uint64_t head; /* bytes ever taken out; written by the writer */
    uint64_t torn;                      /* lines cut in two by the writer, or given up at the end */
    uint64_t told;                      /* of dropped and torn, already in the log */
};

struct log_writer {
    struct log *logs[LOG_PRODUCERS_MAX + 1]; /* [0] is the writer's own */
    uint32_t logs_count;                     /* published with release */
    char *path;                              /* NULL: standard output */
    enum log_level level;
    pthread_t thread;
    int fd;
    int wake_fd;
    bool socket;         /* standard output is one: the only kind without O_NONBLOCK of its own */
    bool stop;           /* asked by another thread */
    bool reopen;         /* asked by another thread */
    bool after_half;     /* the file ends in half a line, behind which nothing was written yet */
    uint32_t unfinished; /* number of the log whose line the last write ended in, or none */
};

static const uint32_t none = UINT32_MAX;

/* ---- a line ---- */

static bool line_has_room(const struct log_line *line, size_t size)
{
    return line->size + size + LINE_END_MAX <= LOG_LINE_MAX;
}

static void line_put(struct log_line *line, const char *text, size_t size)
{
    CHECK(line->size + size <= LOG_LINE_MAX);
    memcpy(line->text + line->size, text, size);
    line->size += size;
}

static size_t digits(char out[static 20], uint64_t value)
{
    char reversed[20];
    size_t size = 0;
    do {
        reversed[size++] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    for (size_t i = 0; i < size; i++)
        out[i] = reversed[size - 1 - i];
    return size;
}

static void put_padded(char *out, unsigned width, uint64_t value)
{
    while (width-- > 0) {
        out[width] = (char)('0' + value % 10);
        value /= 10;
    }
}

/* RFC 3339, UTC, years 1970 to 9999; days to a date by Howard Hinnant's days_from_civil. */
static size_t time_text(char out[static TIME_TEXT_MAX], int64_t wall_us)
{
    static const int64_t last_us = INT64_C(253'402'300'799'999'999);
    uint64_t ms = (uint64_t)MAX(0, MIN(wall_us, last_us)) / 1000;
    uint64_t day_ms = ms % 86'400'000;
    uint64_t days = ms / 86'400'000 + 719'468; /* since 0000-03-01 */
    uint64_t era = days / 146'097;
    uint64_t day_of_era = days % 146'097;
    uint64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36'524 - day_of_era / 146'096) / 365;
    uint64_t day = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    uint64_t month = (5 * day + 2) / 153; /* 0 is March */
    memcpy(out, "0000-00-00T00:00:00.000Z", 24);
    put_padded(out, 4, era * 400 + year_of_era + (month >= 10));
    put_padded(out + 5, 2, month < 10 ? month + 3 : month - 9);
    put_padded(out + 8, 2, day - (153 * month + 2) / 5 + 1);
    put_padded(out + 11, 2, day_ms / 3'600'000);
    put_padded(out + 14, 2, day_ms / 60'000 % 60);
    put_padded(out + 17, 2, day_ms / 1000 % 60);
    put_padded(out + 20, 3, day_ms % 1000);
    return 24;
}

/* Octets of the UTF-8 character at the start of s, and the character; 0 if there is none
 * (RFC 3629: no overlong forms, no surrogates, at most U+10FFFF). */
static unsigned utf8_character(struct slice s, uint32_t *character)
{
    uint8_t c = s.data[0];
    unsigned size = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    if (size == 0 || size > s.size)
        return 0;
    uint32_t value = size == 1 ? c : c & (0x7fU >> size);
    for (unsigned i = 1; i < size; i++) {
        if ((s.data[i] & 0xc0) != 0x80)
            return 0;
        value = value << 6 | (s.data[i] & 0x3f);
    }
    if ((size == 3 && (value < 0x800 || (value >= 0xd800 && value <= 0xdfff))) ||
        (size == 4 && (value < 0x10000 || value > 0x10ffff)))
        return 0;
    *character = value;
    return size;
}

/* C0 and C1 controls, line separators, and what turns the direction of text around. */
static bool character_is_obeyed(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x061c || c == 0x200e || c == 0x200f ||
           (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

/* The value in quotes. False: cut short. */
static bool line_quoted(struct log_line *line, struct slice value)
{
    static const char hex[] = "0123456789abcdef";
    bool whole = true;
    size_t room = LOG_LINE_MAX - LINE_END_MAX - line->size - 2;
    size_t end = line->size + 1 + MIN(room, (size_t)LOG_VALUE_MAX);
    line->text[line->size++] = '"';
    for (size_t i = 0; i < value.size;) {
        uint8_t octet = value.data[i];
        if (octet >= 0x20 && octet < 0x7f && octet != '"' && octet != '\\') {
            whole = line->size < end;
            if (!whole)
                break;
            line->text[line->size++] = (char)octet;
            i++;
            continue;
        }
        uint32_t character = octet;
        unsigned taken = utf8_character(slice_from(value, i), &character);
        char escape[6] = { '\\', (char)octet };
        const char *put = escape;
        size_t size = 2;
        if (taken == 0 || character_is_obeyed(character)) {
            escape[1] = 'u';
            for (unsigned d = 0; d < 4; d++)
                escape[2 + d] = hex[character >> (12 - 4 * d) & 0xf];
            size = 6;
        } else if (octet != '"' && octet != '\\') {
            put = (const char *)value.data + i;
            size = taken;
        }
        whole = line->size + size <= end;
        if (!whole)
            break;
        line_put(line, put, size);
        i += taken == 0 ? 1 : taken;
    }
    line->text[line->size++] = '"';
    return whole;
}

/* ,"key": and room for a value of value_min bytes. False: the line is full. Keys are ours, plain.
 */
static bool line_key(struct log_line *line, const char *key, size_t value_min)
{
    CHECK(!line->list);
    size_t size = strlen(key);
    if (!line_has_room(line, size + value_min + 4)) {
        line->cut = true;
        return false;
    }
    line_put(line, ",\"", 2);
    line_put(line, key, size);
    line_put(line, "\":", 2);
    return true;
}

void log_begin(struct log_line *line, struct log *log, enum log_level level, int64_t wall_us,
               const char *event)
{
    static const char *const levels[] = {
        [LOG_ERROR] = "error", [LOG_WARNING] = "warning", [LOG_INFO] = "info", [LOG_DEBUG] = "debug"
    };
    line->log = log != NULL && level <= log->level ? log : NULL;
    if (line->log == NULL)
        return;
    line->size = 0;
    line->cut = false;
    line->list = false;
    char when[TIME_TEXT_MAX];
    size_t when_size = time_text(when, wall_us);
    line_put(line, "{\"t\":\"", 6);
    line_put(line, when, when_size);
    line_put(line, "\"", 1);
    log_string(line, "level", levels[level]);
    log_string(line, "event", event);
    if (log->shard >= 0)
        log_number(line, "shard", log->shard);
}

void log_text(struct log_line *line, const char *key, struct slice value)
{
    if (line->log == NULL || !line_key(line, key, 2))
        return;
    if (!line_quoted(line, value))
        line->cut = true;
}

void log_string(struct log_line *line, const char *key, const char *value)
{
    if (value != NULL)
        log_text(line, key, slice_of_string(value));
}

void log_number(struct log_line *line, const char *key, int64_t value)
{
    char text[21];
    if (line->log == NULL || !line_key(line, key, sizeof(text)))
        return;
    text[0] = '-';
    size_t size = digits(text + 1, value < 0 ? -(uint64_t)value : (uint64_t)value);
    line_put(line, value < 0 ? text : text + 1, value < 0 ? size + 1 : size);
}

void log_hex(struct log_line *line, const char *key, uint64_t value)
{
    char text[17];
    snprintf(text, sizeof(text), "%016" PRIx64, value);
    log_string(line, key, text);
}

void log_bool(struct log_line *line, const char *key, bool value)
{
    if (line->log == NULL || !line_key(line, key, 5))
        return;
    line_put(line, value ? "true" : "false", value ? 4 : 5);
}

void log_address(struct log_line *line, const char *key, const struct net_address *a)
{
    char text[NET_TEXT_MAX];
    if (line->log == NULL)
        return;
    size_t size = net_text(a, false, text);
    log_text(line, key, slice_of(text, size));
}

void log_format(struct log_line *line, const char *key, const char *format, ...)
{
    char text[LOG_VALUE_MAX + 2]; /* one more than a value may have: then it is cut, and said so */
    if (line->log == NULL)
        return;
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    CHECK(size >= 0);
    log_text(line, key, slice_of(text, MIN((size_t)size, sizeof(text) - 1)));
}

void log_list(struct log_line *line, const char *key)
{
    if (line->log == NULL || !line_key(line, key, 1))
        return;
    line_put(line, "[", 1);
    line->list = true;
}

void log_item(struct log_line *line, struct slice value)
{
    if (line->log == NULL || !line->list)
        return;
    if (!line_has_room(line, 3)) {
        line->cut = true;
        return;
    }
    if (line->text[line->size - 1] != '[')
        line_put(line, ",", 1);
    if (!line_quoted(line, value))
        line->cut = true;
}

void log_list_end(struct log_line *line)
{
    if (line->log == NULL || !line->list)
        return;
    line_put(line, "]", 1); /* LINE_END_MAX has room for it */
    line->list = false;
}

/* ---- the rings ---- */

static void log_count_dropped(struct log *log)
{
    uint64_t dropped = __atomic_load_n(&log->dropped, __ATOMIC_RELAXED);
    __atomic_store_n(&log->dropped, dropped + 1, __ATOMIC_RELAXED);
}

void log_end(struct log_line *line)
{
    struct log *log = line->log;
    if (log == NULL)
        return;
    CHECK(!line->list);
    if (line->cut)
        line_put(line, cut_mark, sizeof(cut_mark) - 1);
    line_put(line, "}\n", 2);
    line->log = NULL;
    if (log->tail - log->head_seen + line->size > LOG_BUFFER_BYTES)
        log->head_seen = __atomic_load_n(&log->head, __ATOMIC_ACQUIRE);
    if (log->tail - log->head_seen + line->size > LOG_BUFFER_BYTES) {
        log_count_dropped(log);
        return;
    }
    size_t at = log->tail % LOG_BUFFER_BYTES;
    size_t first = MIN(line->size, LOG_BUFFER_BYTES - at);
    memcpy(log->bytes + at, line->text, first);
    memcpy(log->bytes, line->text + first, line->size - first);
    __atomic_store_n(&log->tail, log->tail + line->size, __ATOMIC_RELEASE);
}

uint64_t log_dropped(const struct log *log)
{
    return __atomic_load_n(&log->dropped, __ATOMIC_RELAXED) +
           __atomic_load_n(&log->torn, __ATOMIC_RELAXED);
}

static void log_free(struct log *log)
{
    munmap(log->bytes, LOG_BUFFER_BYTES);
    free(log);
}

int log_new(struct log_writer *writer, int shard, struct log **log_out)
{
    uint32_t count = writer->logs_count;
    if (count == ARRAY_COUNT(writer->logs))
        return -ENFILE;
    struct log *log = aligned_alloc(CACHE_LINE, sizeof(*log));
    if (log == NULL)
        return -ENOMEM;
    void *bytes =
        mmap(NULL, LOG_BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED) {
        free(log);
        return -ENOMEM;
    }
    *log =
        (struct log) { .writer = writer, .bytes = bytes, .level = writer->level, .shard = shard };
    writer->logs[count] = log;
    __atomic_store_n(&writer->logs_count, count + 1, __ATOMIC_RELEASE);
    *log_out = log;
    return 0;
}

/* ---- the writer's thread ---- */

static int64_t clock_us(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1'000'000 + now.tv_nsec / 1000;
}

/* What is in the ring, in one piece or two. */
static unsigned log_pieces(const struct log *log, struct iovec iov[static 2])
{
    uint64_t tail = __atomic_load_n(&log->tail, __ATOMIC_ACQUIRE);
    size_t size = (size_t)(tail - log->head);
    if (size == 0)
        return 0;
    size_t at = log->head % LOG_BUFFER_BYTES;
    size_t first = MIN(size, LOG_BUFFER_BYTES - at);
    iov[0] = (struct iovec) { log->bytes + at, first };
    if (first == size)
        return 1;
    iov[1] = (struct iovec) { log->bytes, size - first };
    return 2;
}

static void log_take(struct log *log, uint64_t bytes)
{
    __atomic_store_n(&log->head, log->head + bytes, __ATOMIC_RELEASE);
}

static uint8_t log_octet(const struct log *log, uint64_t position)
{
    return log->bytes[position % LOG_BUFFER_BYTES];
}

static int writer_open(const struct log_writer *writer)
{
    /* O_NONBLOCK matters to pipes and terminals only: a reader that stopped must not stop us. */
    int flags = O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
    if (writer->path != NULL) {
        int fd = open(writer->path, flags | O_CREAT, FILE_MODE);
        return fd < 0 ? -errno : fd;
    }
    struct stat s;
    if (fstat(STDOUT_FILENO, &s) < 0)
        return -errno;
    /* A description of our own, because O_NONBLOCK would be seen by whoever shares this one. */
    int fd = S_ISFIFO(s.st_mode) || S_ISCHR(s.st_mode) ? open("/proc/self/fd/1", flags) : -1;
    if (fd < 0)
        fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    return fd < 0 ? -errno : fd;
}

/* A file that ends in something else than a line feed; false where it cannot be read. */
static bool ends_in_half_a_line(int fd)
{
    char name[32];
    struct stat s;
    if (fstat(fd, &s) < 0 || !S_ISREG(s.st_mode) || s.st_size == 0)
        return false;
    snprintf(name, sizeof(name), "/proc/self/fd/%d", fd); /* which is open for writing only */
    int reader = open(name, O_RDONLY | O_CLOEXEC);
    uint8_t last;
    bool half = reader >= 0 && pread(reader, &last, 1, s.st_size - 1) == 1 && last != '\n';
    if (reader >= 0)
        close(reader);
    return half;
}

static bool is_socket(int fd)
{
    struct stat s;
    return fstat(fd, &s) == 0 && S_ISSOCK(s.st_mode);
}

static void writer_use(struct log_writer *writer, int fd)
{
    writer->fd = fd;
    writer->socket = is_socket(fd);
    writer->after_half = ends_in_half_a_line(fd);
}

/* Writes what there is. Bytes, or errno. */
static int64_t writer_round(struct log_writer *writer)
{
    struct iovec iov[IOV_MAX_USED];
    uint32_t owners[IOV_MAX_USED];
    unsigned count = 0;
    uint32_t logs = __atomic_load_n(&writer->logs_count, __ATOMIC_ACQUIRE);
    uint32_t first = writer->unfinished == none ? 0 : writer->unfinished;
    for (uint32_t i = 0; i < logs; i++) {
        uint32_t number = (first + i) % logs;
        unsigned pieces = log_pieces(writer->logs[number], iov + count);
        for (unsigned p = 0; p < pieces; p++)
            owners[count++] = number;
    }
    if (count == 0)
        return 0;
    if (writer->after_half && write(writer->fd, "\n", 1) < 0)
        return -errno;
    writer->after_half = false;
    struct msghdr message = { .msg_iov = iov, .msg_iovlen = count };
    ssize_t written = writer->socket ? sendmsg(writer->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
                                     : writev(writer->fd, iov, (int)count);
    if (written < 0)
        return -errno;
    writer->unfinished = none;
    uint64_t rest = (uint64_t)written;
    for (unsigned i = 0; i < count && rest > 0; i++) {
        struct log *log = writer->logs[owners[i]];
        uint64_t taken = MIN(rest, iov[i].iov_len);
        rest -= taken;
        bool whole = log_octet(log, log->head + taken - 1) == '\n';
        log_take(log, taken);
        /* A line that goes on in the ring's second piece may be finished by the next turn. */
        writer->unfinished = whole ? none : owners[i];
    }
    CHECK(rest == 0);
    return written;
}

/* Drops up to the end of the line that the last write ended in. */
static void writer_drop_unfinished(struct log_writer *writer)
{
    if (writer->unfinished == none)
        return;
    struct log *log = writer->logs[writer->unfinished];
    uint64_t end = log->head;
    while (log_octet(log, end) != '\n')
        end++;
    log_take(log, end + 1 - log->head);
    __atomic_store_n(&log->torn, log->torn + 1, __ATOMIC_RELAXED);
    writer->unfinished = none;
}

static void writer_reopen(struct log_writer *writer)
{
    if (writer->path == NULL)
        return;
    int fd = writer_open(writer);
    if (fd < 0) {
        struct log_line line;
        log_begin(&line, writer->logs[0], LOG_ERROR, clock_us(CLOCK_REALTIME), "log_reopen_failed");
        log_string(&line, "why", strerrordesc_np(-fd));
        log_end(&line);
        return;
    }
    writer_drop_unfinished(writer);
    close(writer->fd);
    writer_use(writer, fd);
}

/* Lines about lines that are missing. Only while writing works, or they would pile up. */
static void writer_tell_dropped(struct log_writer *writer)
{
    uint32_t logs = __atomic_load_n(&writer->logs_count, __ATOMIC_ACQUIRE);
    for (uint32_t i = 0; i < logs; i++) {
        struct log *log = writer->logs[i];
        uint64_t dropped = log_dropped(log);
        if (dropped == log->told)
            continue;
        struct log_line line;
        log_begin(&line, writer->logs[0], LOG_ERROR, clock_us(CLOCK_REALTIME), "log_dropped");
        if (log->shard >= 0)
            log_number(&line, "of_shard", log->shard);
        log_number(&line, "lines", (int64_t)(dropped - log->told));
        log_end(&line);
        log->told = dropped;
    }
}

static void writer_pause(struct log_writer *writer, int ms)
{
    struct pollfd polled = { .fd = writer->wake_fd, .events = POLLIN };
    uint64_t count;
    if (poll(&polled, 1, ms) > 0 && read(writer->wake_fd, &count, sizeof(count)) < 0)
        CHECK(errno == EAGAIN || errno == EINTR);
}

/* Not cut short by a wake: nobody who waits for us can be helped before the file takes more. */
static void writer_pause_failed(const struct log_writer *writer, bool full)
{
    struct pollfd polled = { .fd = full ? writer->fd : -1, .events = POLLOUT };
    poll(&polled, 1, RETRY_MS);
}

static void *writer_run(void *argument)
{
    struct log_writer *writer = argument;
    int64_t give_up_us = 0;
    for (;;) {
        bool stop = __atomic_load_n(&writer->stop, __ATOMIC_ACQUIRE);
        if (__atomic_exchange_n(&writer->reopen, false, __ATOMIC_ACQ_REL))
            writer_reopen(writer);
        int64_t written = writer_round(writer);
        if (written >= 0)
            writer_tell_dropped(writer);
        if (stop) {
            if (give_up_us == 0)
                give_up_us = clock_us(CLOCK_MONOTONIC) + LOG_STOP_MS * 1000;
            if (written == 0 && log_pieces(writer->logs[0], (struct iovec[2]) { 0 }) == 0)
                break;
            if (clock_us(CLOCK_MONOTONIC) >= give_up_us)
                break;
        }
        if (written < 0)
            writer_pause_failed(writer, written == -EAGAIN);
        else if (written == 0)
            writer_pause(writer, POLL_MS);
        /* else: there may be more already */
    }
    return NULL;
}

/* ---- start and stop ---- */

/* Signals are the control thread's; and a reader that went away must not be SIGPIPE. */
static int start_thread_without_signals(struct log_writer *writer)
{
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int r = pthread_create(&writer->thread, NULL, writer_run, writer);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -r;
}

static void writer_free(struct log_writer *writer)
{
    for (uint32_t i = 0; i < writer->logs_count; i++)
        log_free(writer->logs[i]);
    if (writer->fd >= 0)
        close(writer->fd);
    if (writer->wake_fd >= 0)
        close(writer->wake_fd);
    free(writer->path);
    free(writer);
}

int log_writer_start(const char *path, enum log_level level, struct log_writer **writer_out)
{
    struct log_writer *writer = calloc(1, sizeof(*writer));
    if (writer == NULL)
        return -ENOMEM;
    int r = -ENOMEM;
    struct log *own;
    writer->fd = -1;
    writer->level = level;
    writer->unfinished = none;
    writer->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (writer->wake_fd < 0) {
        r = -errno;
        goto out_free;
    }
    if (path != NULL && strcmp(path, "-") != 0) {
        writer->path = strdup(path);
        if (writer->path == NULL)
            goto out_free;
    }
    r = log_new(writer, -1, &own);
    if (r < 0)
        goto out_free;
    r = writer_open(writer);
    if (r < 0)
        goto out_free;
    writer_use(writer, r);
    r = start_thread_without_signals(writer);
    if (r < 0)
        goto out_free;
    *writer_out = writer;
    return 0;

out_free:
    writer_free(writer);
    return r;
}

static void writer_wake(struct log_writer *writer)
{
    uint64_t one = 1;
    ssize_t written = write(writer->wake_fd, &one, sizeof(one));
    CHECK(written == sizeof(one) || errno == EAGAIN);
}

void log_writer_stop(struct log_writer *writer)
{
    if (writer == NULL)
        return;
    __atomic_store_n(&writer->stop, true, __ATOMIC_RELEASE);
    writer_wake(writer);
    int r = pthread_join(writer->thread, NULL);
    CHECK(r == 0);
    writer_free(writer);
}

void log_writer_reopen(struct log_writer *writer)
{
    __atomic_store_n(&writer->reopen, true, __ATOMIC_RELEASE);
    writer_wake(writer);
}
