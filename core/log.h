/*
 * log.h - one JSON object a line, written by a thread of its own, never blocking a shard
 *
 *   shard: log_begin .. log_text/log_number .. log_end --> this shard's ring buffer --> writer -->
 * file
 *
 * A full buffer drops the line and counts it; the writer says how many were dropped when it can
 * write again (event "log_dropped"). Strings are escaped: control octets, quotes, what is not UTF-8
 * (as \u00XX), and the characters that terminals obey or that change the direction of text, so
 * that nothing a client said can break a line or a terminal. A line is at most LOG_LINE_MAX bytes,
 * a value LOG_VALUE_MAX; what does not fit is cut or left out, and the line says "cut":true.
 */
#ifndef RINGPOST_CORE_LOG_H
#define RINGPOST_CORE_LOG_H

#include "core/net.h"
#include "core/slice.h"

enum {
    LOG_LINE_MAX = 4096,  /* with its line feed */
    LOG_VALUE_MAX = 1024, /* of one string, escaped, without its quotes */
    LOG_BUFFER_BYTES = 1 << 20 /* per shard */,
    LOG_PRODUCERS_MAX = 96,
};

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

struct log; /* a producer's buffer: one per shard, used by its thread only */
struct log_writer;

struct log_line {
    struct log *log; /* NULL: this line is not wanted, all calls on it do nothing */
    size_t size;
    bool cut;
    bool list; /* log_list was called and there was room for it */
    char text[LOG_LINE_MAX];
};

/* path NULL or "-": standard output. 0 or errno. Starts the thread. Lines are put behind what a
 * file has; half a line there, of a process that was killed, is ended first. */
[[nodiscard]] int log_writer_start(const char *path, enum log_level level,
                                   struct log_writer **writer);
/* Writes out all that is buffered (as far as the file lets it within LOG_STOP_MS), stops the
 * thread, closes, and frees the producers' buffers: their threads have ended. */
enum { LOG_STOP_MS = 2000 };
void log_writer_stop(struct log_writer *writer);
/* Opens the path again (rotation); any thread; done by the writer soon after. If that fails it goes
 * on with the file it has and logs "log_reopen_failed". */
void log_writer_reopen(struct log_writer *writer);
/* A producer's buffer; before its thread starts. shard becomes "shard":N, or -1 for none.
 * 0, -ENOMEM, or -ENFILE: there are LOG_PRODUCERS_MAX. */
[[nodiscard]] int log_new(struct log_writer *writer, int shard, struct log **log);
uint64_t log_dropped(const struct log *log); /* lines, any thread */

/* Starts a line: {"t":"2026-11-23T10:15:02.113Z","level":"info","event":event,"shard":N.
 * wall_us: microseconds since the epoch. log may be NULL. */
void log_begin(struct log_line *line, struct log *log, enum log_level level, int64_t wall_us,
               const char *event);
void log_text(struct log_line *line, const char *key, struct slice value);
void log_string(struct log_line *line, const char *key, const char *value); /* NULL: left out */
void log_number(struct log_line *line, const char *key, int64_t value);
void log_hex(struct log_line *line, const char *key, uint64_t value); /* 16 digits, as a string */
void log_bool(struct log_line *line, const char *key, bool value);
void log_address(struct log_line *line, const char *key, const struct net_address *a); /* no port */
void log_format(struct log_line *line, const char *key, const char *format, ...) PRINTF_LIKE(3, 4);
/* A list: log_list(l, "to"), then log_item..., then log_list_end. */
void log_list(struct log_line *line, const char *key);
void log_item(struct log_line *line, struct slice value);
void log_list_end(struct log_line *line);
void log_end(struct log_line *line);

#endif
