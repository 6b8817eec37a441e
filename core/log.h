/*
 * log.h - one JSON object a line, written by a thread of its own, never blocking a shard
 *
 *   shard: log_begin .. log_text/log_number .. log_end --> this shard's ring buffer --> writer -->
 * file
 *
 * A full buffer drops the line and counts it; the writer says how many were dropped when it can
 * write again. Strings are escaped: control octets, quotes, and what is not UTF-8 (as \u00XX), so
 * that nothing a client said can break a line or a terminal. A line is at most LOG_LINE_MAX bytes;
 * longer values are cut and marked.
 */
#ifndef RINGPOST_CORE_LOG_H
#define RINGPOST_CORE_LOG_H

#include "core/net.h"
#include "core/slice.h"

enum { LOG_LINE_MAX = 4096, LOG_BUFFER_BYTES = 1 << 20 /* per shard */ };

enum log_level { LOG_ERROR, LOG_WARNING, LOG_INFO, LOG_DEBUG };

struct log; /* a producer's buffer: one per shard, used by its thread only */
struct log_writer;

struct log_line {
    struct log *log; /* NULL: this line is not wanted, all calls on it do nothing */
    size_t size;
    bool cut;
    char text[LOG_LINE_MAX];
};

/* path NULL or "-": standard output. 0 or errno. Starts the thread. */
[[nodiscard]] int log_writer_start(const char *path, enum log_level level,
                                   struct log_writer **writer);
/* Writes out all that is buffered, stops the thread, closes. */
void log_writer_stop(struct log_writer *writer);
/* Opens the path again (rotation); any thread. */
void log_writer_reopen(struct log_writer *writer);
/* A producer's buffer; before its thread starts. name becomes "shard": number, or -1 for none. */
[[nodiscard]] int log_new(struct log_writer *writer, int shard, struct log **log);
uint64_t log_dropped(const struct log *log); /* lines, any thread */

/* Starts a line: {"t":"2026-11-23T10:15:02.113Z","level":"info","event":event,"shard":N.
 * wall_us: microseconds since the epoch. log may be NULL. */
void log_begin(struct log_line *line, struct log *log, enum log_level level, int64_t wall_us,
               const char *event);
void log_text(struct log_line *line, const char *key, struct slice value);
void log_string(struct log_line *line, const char *key, const char *value);
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
