/*
 * trace_log.c - looking through log files, line by line
 *
 * Lines without the word that is looked for cost a search in their text and no more. Files are read
 * through zlib, which hands on what is not compressed as it is. Bounds: a line is at most
 * LINE_BYTES (the log writes half of that); what is longer is read in pieces that are no JSON.
 */
#include "mta/trace_log.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "core/compiler.h"
#include "core/log.h"
#include "mta/cli.h"

enum { LINE_BYTES = 2 * LOG_LINE_MAX, PATTERN_MAX = 4'200, BUFFER_BYTES = 1 << 18 };

void trace_log_init(struct trace_log *log)
{
    *log = (struct trace_log) { .files = json_array(), .events = json_array(), .input = -1 };
}

void trace_log_free(struct trace_log *log)
{
    json_decref(log->files);
    json_decref(log->events);
    if (log->input >= 0)
        close(log->input);
}

/* ---- files ---- */

static int by_age(const void *a, const void *b)
{
    struct stat x = { 0 };
    struct stat y = { 0 };
    const char *const *left = a;
    const char *const *right = b;
    if (stat(*left, &x) < 0 || stat(*right, &y) < 0 || x.st_mtime == y.st_mtime)
        return strcmp(*right, *left); /* log.2 is older than log.1 */
    return x.st_mtime < y.st_mtime ? -1 : 1;
}

static void add_rotated(struct trace_log *log, const char *path)
{
    static const char specials[] = "*?[\\";
    char pattern[PATTERN_MAX];
    size_t size = 0;
    for (const char *c = path; *c != '\0' && size < sizeof(pattern) - 8; c++) {
        if (strchr(specials, *c) != NULL)
            pattern[size++] = '\\';
        pattern[size++] = *c;
    }
    memcpy(pattern + size, ".*", 3);
    glob_t found = { 0 };
    const int r = glob(pattern, 0, NULL, &found);
    memcpy(pattern + size, "-*", 3);
    if (r == 0 || r == GLOB_NOMATCH)
        (void)glob(pattern, r == 0 ? GLOB_APPEND : 0, NULL, &found);
    if (found.gl_pathc > 0)
        qsort(found.gl_pathv, found.gl_pathc, sizeof(*found.gl_pathv), by_age);
    for (size_t i = 0; i < found.gl_pathc && json_array_size(log->files) < TRACE_FILES_MAX; i++)
        json_array_append_new(log->files, json_string(found.gl_pathv[i]));
    globfree(&found);
}

/* It is read more than once. */
static bool keep_input(struct trace_log *log)
{
    char bytes[LINE_BYTES];
    size_t size;
    FILE *copy = log->input < 0 ? tmpfile() : NULL;
    if (copy == NULL)
        return log->input >= 0;
    while ((size = fread(bytes, 1, sizeof(bytes), stdin)) > 0 &&
           fwrite(bytes, 1, size, copy) == size)
        continue;
    if (fflush(copy) == 0 && size == 0)
        log->input = dup(fileno(copy));
    fclose(copy);
    return log->input >= 0;
}

bool trace_log_add(struct trace_log *log, const char *path)
{
    const bool input = strcmp(path, "-") == 0;
    if (!input)
        add_rotated(log, path);
    if (input ? !keep_input(log) : access(path, R_OK) < 0) {
        fprintf(stderr, "ringpost: log %s: %s\n", path, strerror(errno));
        return false;
    }
    json_array_append_new(log->files, json_string(path));
    return true;
}

/* ---- lines ---- */

typedef void (*line_handler)(struct trace_log *log, json_t *event, void *argument);

static void read_line(struct trace_log *log, const char *line, line_handler handler, void *argument)
{
    json_t *event = json_loads(line, 0, NULL);
    if (json_is_object(event))
        handler(log, event, argument);
    else
        log->lines_bad++;
    json_decref(event);
}

static void read_file(struct trace_log *log, const char *path, const char *word,
                      line_handler handler, void *argument)
{
    char line[LINE_BYTES];
    const bool input = strcmp(path, "-") == 0;
    gzFile file = input ? gzdopen(dup(log->input), "rb") : gzopen(path, "rb");
    if (file == NULL || (input && lseek(log->input, 0, SEEK_SET) < 0)) {
        fprintf(stderr, "ringpost: log %s: %s\n", path, strerror(errno));
        return;
    }
    gzbuffer(file, BUFFER_BYTES);
    while (gzgets(file, line, sizeof(line)) != NULL)
        if (strstr(line, word) != NULL)
            read_line(log, line, handler, argument);
    int error = Z_OK;
    const char *why = gzerror(file, &error);
    if (error != Z_OK && error != Z_STREAM_END)
        fprintf(stderr, "ringpost: log %s: %s; it was read as far as it goes\n", path, why);
    gzclose(file);
}

static void read_files(struct trace_log *log, const char *word, line_handler handler,
                       void *argument)
{
    size_t index;
    json_t *file;
    json_array_foreach(log->files, index, file)
    {
        read_file(log, json_string_value(file), word, handler, argument);
    }
}

struct placed {
    json_t *event;
    size_t place; /* in the log: what happened at the same time stays in its order */
};

static int by_time(const void *a, const void *b)
{
    const struct placed *left = a, *right = b;
    const int r = strcmp(cli_text(left->event, "t"), cli_text(right->event, "t"));
    return r != 0 ? r : left->place < right->place ? -1 : 1;
}

static void sort_events(struct trace_log *log)
{
    static struct placed sorted[TRACE_EVENTS_MAX];
    const size_t count = json_array_size(log->events);
    for (size_t i = 0; i < count; i++)
        sorted[i] = (struct placed) { json_incref(json_array_get(log->events, i)), i };
    qsort(sorted, count, sizeof(sorted[0]), by_time);
    for (size_t i = 0; i < count; i++)
        json_array_set_new(log->events, i, sorted[i].event);
}

/* ---- one message ---- */

static void keep(struct trace_log *log, json_t *event)
{
    if (json_array_size(log->events) < TRACE_EVENTS_MAX)
        json_array_append(log->events, event);
    else
        log->more = true;
}

static void on_message(struct trace_log *log, json_t *event, void *argument)
{
    const char *id = argument;
    if (strcmp(cli_text(event, "msg"), id) == 0 || strcmp(cli_text(event, "of"), id) == 0)
        keep(log, event);
}

void trace_log_read(struct trace_log *log, const char *id)
{
    read_files(log, id, on_message, (void *)(uintptr_t)id);
    sort_events(log);
}

/* ---- by its Message-ID, or what a next hop said ---- */

struct finding {
    const char *word;
    json_t *ids;
};

/* With its angle brackets or without. */
static bool is_message_id(const json_t *event, const char *word)
{
    const char *id = cli_text(event, "message_id");
    const size_t size = strlen(word);
    const size_t bracket = id[0] == '<' && word[0] != '<' ? 1 : 0;
    return size > 0 && strncmp(id + bracket, word, size) == 0 &&
           (id[bracket + size] == '\0' || (bracket > 0 && strcmp(id + bracket + size, ">") == 0));
}

static void on_word(struct trace_log *log, json_t *event, void *argument)
{
    struct finding *f = argument;
    (void)log;
    const char *id = cli_text(event, "msg");
    size_t index;
    json_t *known;
    if (id[0] == '\0' ||
        (strstr(cli_text(event, "reply"), f->word) == NULL && !is_message_id(event, f->word)))
        return;
    json_array_foreach(f->ids, index, known)
    {
        if (strcmp(json_string_value(known), id) == 0)
            return;
    }
    if (json_array_size(f->ids) < TRACE_IDS_MAX)
        json_array_append_new(f->ids, json_string(id));
}

json_t *trace_log_find(struct trace_log *log, const char *word)
{
    struct finding finding = { .word = word, .ids = json_array() };
    read_files(log, word, on_word, &finding);
    return finding.ids;
}

/* ---- the next hop ---- */

struct befallen {
    const char *key, *since;
    size_t most;
    json_t *events;
};

static void on_destination(struct trace_log *log, json_t *event, void *argument)
{
    struct befallen *b = argument;
    (void)log;
    if (strcmp(cli_text(event, "destination"), b->key) != 0 ||
        json_object_get(event, "msg") != NULL || strcmp(cli_text(event, "t"), b->since) < 0)
        return;
    if (json_array_size(b->events) == b->most)
        json_array_remove(b->events, 0);
    json_array_append(b->events, event);
}

void trace_log_destination(struct trace_log *log, const char *key, const char *since, size_t most)
{
    struct befallen b = { .key = key, .since = since, .most = most, .events = json_array() };
    size_t index;
    json_t *event;
    read_files(log, key, on_destination, &b);
    json_array_foreach(b.events, index, event) keep(log, event);
    json_decref(b.events);
    sort_events(log);
}
