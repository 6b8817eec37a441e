/*
 * json_file.h - small state that the control thread keeps in files of JSON, for operators to read
 */
#ifndef RINGPOST_MTA_JSON_FILE_H
#define RINGPOST_MTA_JSON_FILE_H

#include <jansson.h>
#include <sys/types.h>

enum { JSON_FILE_PATH_MAX = 4'096 }; /* with a terminator */

/* All of it under its name, with that mode, on stable storage, or nothing: written beside it,
 * synced and renamed, and the directory synced. Blocks. 0 or a negative errno (-EINVAL: root is
 * NULL). */
[[nodiscard]] int json_file_write(const char *path, const json_t *root, mode_t mode);

#endif
