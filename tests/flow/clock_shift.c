/*
 * clock_shift.c - loaded before a program: its clocks are off
 *
 * By CLOCK_SHIFT seconds; or, while it runs, by the eight octets that the file CLOCK_SHIFT_FILE has
 * at the moment: the wall clock, timers go on as they are. By those of the file CLOCK_PASS_FILE
 * both clocks are ahead: time passes, and timers are due. Calls nothing that needs the clock or
 * memory, so that it works from a program's first instruction on, below any allocator.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct shift_file {
    const char *variable;
    const volatile int64_t *shared;
};

static struct shift_file wall_file = { .variable = "CLOCK_SHIFT_FILE" };
static struct shift_file pass_file = { .variable = "CLOCK_PASS_FILE" };

/* Several threads may map it at once: each map is the same file, and stays. */
static long seconds_of(struct shift_file *file)
{
    const volatile int64_t *here = __atomic_load_n(&file->shared, __ATOMIC_ACQUIRE);
    if (here == NULL) {
        const char *path = getenv(file->variable);
        long fd = path == NULL ? -1 : syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return 0;
        here = (const volatile int64_t *)syscall(SYS_mmap, NULL, sizeof(*here), PROT_READ,
                                                 MAP_SHARED, fd, 0);
        (void)syscall(SYS_close, fd);
        if (here == MAP_FAILED)
            return 0;
        __atomic_store_n(&file->shared, here, __ATOMIC_RELEASE);
    }
    return (long)*here;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    long r = syscall(SYS_clock_gettime, clock, now);
    const char *shift = getenv("CLOCK_SHIFT");
    if (r != 0)
        return (int)r;
    if (clock == CLOCK_REALTIME)
        now->tv_sec += shift != NULL ? strtol(shift, NULL, 10) : seconds_of(&wall_file);
    if (clock == CLOCK_REALTIME || clock == CLOCK_MONOTONIC || clock == CLOCK_BOOTTIME)
        now->tv_sec += seconds_of(&pass_file);
    return 0;
}

time_t time(time_t *out)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL)
        *out = now.tv_sec;
    return now.tv_sec;
}
