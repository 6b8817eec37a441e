/*
 * clock_kept.h - what was known of the clock when the server ran last
 *
 * While it runs, steps of the wall clock are told from time that has passed (core/shard.h). Over a
 * restart only the wall clock speaks. So a file beside the spool has both times of a moment in
 * which the server ran: mail does not get older by more than the server can have been away.
 */
#ifndef RINGPOST_MTA_CLOCK_KEPT_H
#define RINGPOST_MTA_CLOCK_KEPT_H

#include <stdint.h>

enum {
    CLOCK_AWAY_MAX_S = 30 * 86'400, /* away for longer than that: the clock is taken for wrong */
    CLOCK_BACK_MAX_S = 60,          /* set back by so much nobody needs to be told */
    CLOCK_PATH_MAX = 4'096,
};
#define CLOCK_FILE "clock.json" /* in the spool's directory */

struct clock_kept {
    int64_t wall_us;
    int64_t steady_us; /* see struct shard */
};

enum clock_verdict { CLOCK_FITS, CLOCK_IS_AHEAD, CLOCK_IS_BEHIND };

/* The steady time at a start when the wall clock shows wall_us. What the clock is ahead by more
 * than the server may have been away, or behind, has not passed. */
enum clock_verdict clock_resume(const struct clock_kept *kept, int64_t wall_us, int64_t *steady_us);

/* 0, -ENOENT: there is no such file; -EBADMSG: it is not what was written. */
[[nodiscard]] int clock_kept_read(const char *path, struct clock_kept *kept);
/* By how much the wall clock was ahead of steady times when the server of this spool directory ran
 * last: added to times in its logs they are dates. 0 where nobody knows. */
int64_t clock_kept_ahead_us(const char *spool);
[[nodiscard]] int clock_kept_write(const char *path, const struct clock_kept *kept);

#endif
