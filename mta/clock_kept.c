/*
 * clock_kept.c - the clock's file, and what it means for a start
 */
#include "mta/clock_kept.h"

#include <errno.h>
#include <stdbool.h>
#include <unistd.h>

#include "mta/json_file.h"

enum { FILE_MODE = 0644, US_IN_S = 1'000'000 };

/* Years 1970 to 9999: with such numbers nothing overflows. */
static const int64_t last_us = INT64_C(253'402'300'799) * US_IN_S;

enum clock_verdict clock_resume(const struct clock_kept *kept, int64_t wall_us, int64_t *steady_us)
{
    const int64_t away_us = wall_us - kept->wall_us;
    *steady_us = kept->steady_us;
    if (away_us < 0)
        return away_us < -(int64_t)CLOCK_BACK_MAX_S * US_IN_S ? CLOCK_IS_BEHIND : CLOCK_FITS;
    if (away_us > (int64_t)CLOCK_AWAY_MAX_S * US_IN_S)
        return CLOCK_IS_AHEAD;
    *steady_us += away_us;
    return CLOCK_FITS;
}

static bool is_time(const json_t *number)
{
    return json_is_integer(number) && json_integer_value(number) >= 0 &&
           json_integer_value(number) <= last_us;
}

int clock_kept_read(const char *path, struct clock_kept *kept)
{
    if (access(path, F_OK) < 0 && errno == ENOENT)
        return -ENOENT;
    json_error_t error;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    const json_t *wall = json_object_get(root, "wall_us");
    const json_t *steady = json_object_get(root, "steady_us");
    const int r = is_time(wall) && is_time(steady) ? 0 : -EBADMSG;
    if (r == 0)
        *kept = (struct clock_kept) { json_integer_value(wall), json_integer_value(steady) };
    json_decref(root);
    return r;
}

int64_t clock_kept_ahead_us(const char *spool)
{
    char path[CLOCK_PATH_MAX];
    struct clock_kept kept;
    const int n = snprintf(path, sizeof(path), "%s/" CLOCK_FILE, spool);
    if (n < 0 || n >= (int)sizeof(path) || clock_kept_read(path, &kept) < 0)
        return 0;
    return kept.wall_us - kept.steady_us;
}

int clock_kept_write(const char *path, const struct clock_kept *kept)
{
    json_t *root = json_pack("{s:I, s:I}", "wall_us", (json_int_t)kept->wall_us, "steady_us",
                             (json_int_t)kept->steady_us);
    int r = json_file_write(path, root, FILE_MODE);
    json_decref(root);
    return r;
}
