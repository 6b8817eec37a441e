/*
 * connector_marks.c - the marks in memory and their file, of which the file is always the newer
 */
#include "mta/connector_marks.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/check.h"
#include "mta/connector_count.h"
#include "mta/json_file.h"

enum { FILE_MODE = 0600, FORMAT = 1 };

/* ---- reading ---- */

static bool text_of(const json_t *object, const char *key, char *out, size_t room)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL && (size_t)snprintf(out, room, "%s", text) < room;
}

static bool mark_of(const json_t *object, struct connector_mark *mark)
{
    char direction[8];
    const json_t *at = json_object_get(object, "at");
    if (!text_of(object, "direction", direction, sizeof(direction)) ||
        !text_of(object, "name", mark->name, sizeof(mark->name)) || *mark->name == '\0' ||
        !text_of(object, "reason", mark->reason, sizeof(mark->reason)) ||
        !text_of(object, "by", mark->by, sizeof(mark->by)) || !json_is_integer(at))
        return false;
    mark->at = json_integer_value(at);
    for (unsigned d = 0; d < CONNECTOR_DIRECTIONS; d++) {
        mark->direction = (enum connector_direction)d;
        if (strcmp(direction, connector_direction_name(mark->direction)) == 0)
            return true;
    }
    return false;
}

static int marks_of(struct connector_marks *marks, const json_t *root)
{
    const json_t *list = json_object_get(root, "blocked");
    if (json_integer_value(json_object_get(root, "format")) != FORMAT || !json_is_array(list) ||
        json_array_size(list) > CONNECTOR_MARKS_MAX)
        return -EBADMSG;
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!mark_of(json_array_get(list, i), &marks->marks[marks->count++]))
            return -EBADMSG;
    return 0;
}

int connector_marks_read(struct connector_marks *marks, const char *path,
                         char why[static CONNECTOR_MARKS_WHY_MAX])
{
    *marks = (struct connector_marks) { .count = 0 };
    snprintf(marks->path, sizeof(marks->path), "%s", path);
    marks->marks = calloc(CONNECTOR_MARKS_MAX, sizeof(*marks->marks));
    snprintf(why, CONNECTOR_MARKS_WHY_MAX, "no memory");
    if (marks->marks == NULL)
        return -ENOMEM;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        int r = errno == ENOENT ? 0 : -errno;
        snprintf(why, CONNECTOR_MARKS_WHY_MAX, "%s", strerror(-r));
        return r;
    }
    json_error_t error;
    json_t *root = json_loadfd(fd, JSON_REJECT_DUPLICATES, &error);
    close(fd);
    int r = root == NULL ? -EBADMSG : marks_of(marks, root);
    if (r < 0)
        snprintf(why, CONNECTOR_MARKS_WHY_MAX, "it is not what was written%s%s",
                 root == NULL ? ": " : "", root == NULL ? error.text : "");
    json_decref(root);
    return r;
}

void connector_marks_free(struct connector_marks *marks)
{
    free(marks->marks);
    marks->marks = NULL;
}

/* ---- writing ---- */

static json_t *json_of(const struct connector_marks *marks)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < marks->count; i++) {
        const struct connector_mark *m = &marks->marks[i];
        json_t *mark = json_pack("{s:s, s:s, s:s, s:s, s:I}", "direction",
                                 connector_direction_name(m->direction), "name", m->name, "reason",
                                 m->reason, "by", m->by, "at", (json_int_t)m->at);
        if (json_array_append_new(list, mark) < 0) {
            json_decref(list);
            return NULL;
        }
    }
    return json_pack("{s:i, s:o}", "format", FORMAT, "blocked", list);
}

static int write_all(const struct connector_marks *marks)
{
    json_t *root = json_of(marks);
    int r = json_file_write(marks->path, root, FILE_MODE); /* no root: a text that is not UTF-8 */
    json_decref(root);
    return r;
}

const struct connector_mark *connector_marks_find(const struct connector_marks *marks,
                                                  enum connector_direction direction,
                                                  const char *name)
{
    for (unsigned i = 0; i < marks->count; i++)
        if (marks->marks[i].direction == direction && strcmp(marks->marks[i].name, name) == 0)
            return &marks->marks[i];
    return NULL;
}

int connector_marks_set(struct connector_marks *marks, const struct connector_mark *mark)
{
    const struct connector_mark *had = connector_marks_find(marks, mark->direction, mark->name);
    unsigned at = had == NULL ? marks->count : (unsigned)(had - marks->marks);
    if (at == CONNECTOR_MARKS_MAX)
        return -ENOSPC;
    const struct connector_mark before = marks->marks[at];
    const unsigned count = marks->count;
    marks->marks[at] = *mark;
    marks->count = MAX(count, at + 1);
    int r = write_all(marks);
    if (r < 0) {
        marks->marks[at] = before;
        marks->count = count;
    }
    return r;
}

int connector_marks_clear(struct connector_marks *marks, enum connector_direction direction,
                          const char *name)
{
    const struct connector_mark *had = connector_marks_find(marks, direction, name);
    if (had == NULL)
        return -ENOENT;
    const struct connector_mark mark = *had;
    const unsigned at = (unsigned)(had - marks->marks);
    marks->marks[at] = marks->marks[--marks->count];
    int r = write_all(marks);
    if (r < 0) {
        marks->marks[marks->count++] = marks->marks[at];
        marks->marks[at] = mark;
    }
    return r;
}
