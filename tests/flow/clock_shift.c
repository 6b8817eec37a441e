/*
 * clock_shift.c - loaded before a program: its wall clock is CLOCK_SHIFT seconds off
 *
 * Only the wall clock: timers go on as they are. Calls nothing that needs the clock or memory, so
 * that it works from a program's first instruction on, below any allocator.
 */
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now)
{
    long r = syscall(SYS_clock_gettime, clock, now);
    const char *shift = getenv("CLOCK_SHIFT");
    if (r == 0 && clock == CLOCK_REALTIME && shift != NULL)
        now->tv_sec += strtol(shift, NULL, 10);
    return (int)r;
}

time_t time(time_t *out)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL)
        *out = now.tv_sec;
    return now.tv_sec;
}
