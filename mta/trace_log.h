/*
 * trace_log.h - what the log has about a message, rotated and compressed files included
 */
#ifndef RINGPOST_MTA_TRACE_LOG_H
#define RINGPOST_MTA_TRACE_LOG_H

#include <jansson.h>
#include <stdbool.h>

enum {
    TRACE_EVENTS_MAX = 10'000, /* kept of one message: the first ones */
    TRACE_IDS_MAX = 16,        /* messages that one word of a reply may lead to */
    TRACE_FILES_MAX = 1'000,
};

struct trace_log {
    json_t *files;  /* names, the oldest first; "-": standard input, of which input is a copy */
    int input;      /* descriptor, or -1 */
    json_t *events; /* objects as the log has them, in the order of their time */
    unsigned long lines_bad; /* name the word, and are no JSON */
    bool more;               /* than TRACE_EVENTS_MAX */
};

void trace_log_init(struct trace_log *log);
void trace_log_free(struct trace_log *log);
/* The file and, beside it, FILE.* and FILE-*, as rotation names them. False: there is none (said).
 */
bool trace_log_add(struct trace_log *log, const char *path);
/* Reads all that is about the message with this id, also what it was bounced by. */
void trace_log_read(struct trace_log *log, const char *id);
/* Ids of messages with this Message-ID, or that a next hop's reply with this word in it was about:
 * an array of strings. */
json_t *trace_log_find(struct trace_log *log, const char *word);
/* Adds what befell the next hop with this key from that time on, the last most of it. */
void trace_log_destination(struct trace_log *log, const char *key, const char *since, size_t most);

#endif
