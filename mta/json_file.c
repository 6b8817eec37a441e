/*
 * json_file.c - a file is there as it was before, or as it is to be
 */
#include "mta/json_file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <unistd.h>

/* The new name must survive a power cut, too. */
static int sync_directory(const char *path)
{
    char copy[JSON_FILE_PATH_MAX];
    snprintf(copy, sizeof(copy), "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    int r = fsync(fd) < 0 ? -errno : 0;
    close(fd);
    return r;
}

int json_file_write(const char *path, const json_t *root, mode_t mode)
{
    char beside[JSON_FILE_PATH_MAX + 8];
    if (root == NULL)
        return -EINVAL;
    snprintf(beside, sizeof(beside), "%s.new", path);
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    int r = fd < 0 ? -errno : 0;
    errno = 0;
    if (r == 0 && json_dumpfd(root, fd, JSON_INDENT(2) | JSON_ENSURE_ASCII | JSON_SORT_KEYS) < 0)
        r = errno != 0 ? -errno : -EIO;
    if (r == 0 && fsync(fd) < 0)
        r = -errno;
    if (fd >= 0)
        close(fd);
    if (r == 0 && rename(beside, path) < 0)
        r = -errno;
    return r == 0 ? sync_directory(path) : r;
}
