/*
 * connector_marks.h - which connectors are blocked, why and by whom, durable beside the spool
 *
 *   read at start --set, clear--> the whole file written anew, synced, renamed: then it counts
 *
 * A file of JSON, for there are few of them and an operator may want to read it without us. One
 * that is not what was written keeps the server from starting: without its marks it would let in
 * what was blocked. Control's.
 *
 * Bound: CONNECTOR_MARKS_MAX.
 */
#ifndef RINGPOST_MTA_CONNECTOR_MARKS_H
#define RINGPOST_MTA_CONNECTOR_MARKS_H

#include "core/compiler.h"
#include "mta/connector.h"

enum {
    CONNECTOR_MARKS_MAX = 4'096,
    CONNECTOR_REASON_MAX = 256, /* with a terminator */
    CONNECTOR_BY_MAX = 64,
    CONNECTOR_MARKS_PATH_MAX = 1'024,
    CONNECTOR_MARKS_WHY_MAX = 256,
};

struct connector_mark {
    enum connector_direction direction;
    char name[CONNECTOR_NAME_MAX + 1];
    char reason[CONNECTOR_REASON_MAX];
    char by[CONNECTOR_BY_MAX];
    int64_t at; /* seconds since the epoch */
};

struct connector_marks {
    struct connector_mark *marks; /* CONNECTOR_MARKS_MAX, NULL before they are read */
    unsigned count;
    char path[CONNECTOR_MARKS_PATH_MAX];
};

/* No file: no marks. 0, or an errno and why. */
[[nodiscard]] int connector_marks_read(struct connector_marks *marks, const char *path,
                                       char why[static CONNECTOR_MARKS_WHY_MAX]);
void connector_marks_free(struct connector_marks *marks);
/* NULL: it has none. */
const struct connector_mark *connector_marks_find(const struct connector_marks *marks,
                                                  enum connector_direction direction,
                                                  const char *name);
/* In place of the one that it has. 0, -ENOSPC: too many, or an errno: nothing has changed. */
[[nodiscard]] int connector_marks_set(struct connector_marks *marks,
                                      const struct connector_mark *mark);
/* 0, -ENOENT, or an errno: nothing has changed. */
[[nodiscard]] int connector_marks_clear(struct connector_marks *marks,
                                        enum connector_direction direction, const char *name);

#endif
