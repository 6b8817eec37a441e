/*
 * main.c - ringpost-sim: the whole server through storms, crashes and full disks, seed by seed
 *
 * Each seed runs in a process of its own: a failed CHECK or a sanitizer's report is a failing seed
 * like any other, and nothing of it reaches the next one. With --seed it runs in this process, for
 * the debugger. A seed that needs more than SEED_SECONDS_MAX of a processor's time turns in a
 * circle and fails too.
 */
#include <getopt.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/check.h"
#include "tests/sim/fail_each.h"
#include "tests/sim/seed.h"
#include "tests/sim/server_sim.h"
#include "tls/tls_roots.h"

enum {
    SEED_SECONDS_MAX = 120,
    JOBS_MAX = 64,
    REPEAT_EVERY = 100,
};

struct job {
    pid_t pid; /* 0: free */
    uint64_t seed;
};

struct options {
    uint64_t from, seeds, seconds;
    unsigned jobs;
    bool verbose;
    struct fail_each each; /* operation NULL: seeds */
};

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void job_start(struct job *job, uint64_t seed)
{
    fflush(NULL);
    job->seed = seed;
    job->pid = fork();
    if (job->pid < 0) {
        perror("ringpost-sim: fork");
        exit(2);
    }
    if (job->pid > 0)
        return;
    const struct itimerval most = { .it_value.tv_sec = SEED_SECONDS_MAX };
    setitimer(ITIMER_PROF, &most, NULL);
    unsigned failed = seed_run(seed, false);
    exit(failed > 0 ? 1 : 0); /* exit, not _exit: leaks are looked for */
}

/* True: that seed was good. */
static bool job_wait(struct job *jobs, const struct options *o)
{
    const unsigned count = o->jobs;
    int status;
    pid_t pid = wait(&status);
    CHECK(pid > 0);
    for (unsigned i = 0; i < count; i++) {
        if (jobs[i].pid != pid)
            continue;
        jobs[i].pid = 0;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            return true;
        unsigned long long seed = jobs[i].seed;
        if (WIFSIGNALED(status))
            fprintf(stderr, "seed %llu: ended by signal %d (%s)\n", seed, WTERMSIG(status),
                    WTERMSIG(status) == SIGPROF ? "turns in a circle"
                                                : strsignal(WTERMSIG(status)));
        fprintf(stderr, "FAILED: ringpost-sim --seed %llu --verbose\n", seed);
        return false;
    }
    CHECK(pid < 0); /* a child that nobody started */
    return false;
}

static int run_many(const struct options *o)
{
    struct job jobs[JOBS_MAX] = { 0 };
    uint64_t begun = 0, done = 0, failed = 0;
    unsigned running = 0;
    double start_s = seconds_now(), told_s = start_s;
    for (;;) {
        double now_s = seconds_now();
        bool more = begun < o->seeds && (o->seconds == 0 || now_s - start_s < (double)o->seconds);
        if (more && running < o->jobs) {
            unsigned i = 0;
            while (jobs[i].pid != 0)
                i++;
            job_start(&jobs[i], o->from + begun++);
            running++;
            continue;
        }
        if (running == 0)
            break;
        failed += !job_wait(jobs, o);
        running--;
        done++;
        now_s = seconds_now();
        if (now_s - told_s >= 5) {
            told_s = now_s;
            fprintf(stderr, "%llu seeds, %llu failed, %.1f a second\n", (unsigned long long)done,
                    (unsigned long long)failed, (double)done / (now_s - start_s));
        }
    }
    printf("%llu seeds from %llu, %llu failed, %.1f s\n", (unsigned long long)done,
           (unsigned long long)o->from, (unsigned long long)failed, seconds_now() - start_s);
    return failed > 0 ? 1 : 0;
}

/* operation: one, or "all". */
static int run_each(struct fail_each *each)
{
    char names[256];
    char *rest = names;
    struct fail_each_numbers n, sum = { .operations = 0 };
    const bool all = strcmp(each->operation, "all") == 0;
    snprintf(names, sizeof(names), "%s", all ? fail_each_names() : each->operation);
    while ((each->operation = strsep(&rest, " ")) != NULL) {
        const double start_s = seconds_now();
        if (!fail_each(each, &n)) {
            fprintf(stderr, "%s: not one of %s\n", each->operation, fail_each_names());
            return 2;
        }
        printf("%s: %llu operations, %llu of them failed, one in each run, %llu runs went wrong, "
               "%.1f s\n",
               each->operation, (unsigned long long)n.operations, (unsigned long long)n.runs,
               (unsigned long long)n.wrong, seconds_now() - start_s);
        sum.operations += n.operations;
        sum.runs += n.runs;
        sum.wrong += n.wrong;
    }
    if (all)
        printf("all: %llu operations, %llu failed, %llu runs went wrong\n",
               (unsigned long long)sum.operations, (unsigned long long)sum.runs,
               (unsigned long long)sum.wrong);
    return sum.wrong > 0 ? 1 : 0;
}

static void usage(void)
{
    fputs(
        "usage: ringpost-sim [--seeds N] [--from SEED] [--seconds T] [--jobs J] [--repeat R]\n"
        "       ringpost-sim --seed S [--verbose]\n"
        "       ringpost-sim --fail-each OPERATION|all [--messages N] [--shards K] [--seed S]\n"
        "                    [--every E] [--jobs J] [--nth N [--verbose]]\n"
        "N seeds (100) from SEED (1) on, for T seconds at most, J at a time (1); or one, in this\n"
        "process. With RINGPOST_SIM_LOG in the environment --verbose prints the server's log "
        "too.\n"
        "Each R-th seed (100; 0: none) is run twice, and must be the same run both times.\n"
        "--fail-each: a run of N messages (1000) on K shards (2) for each operation of the kind in "
        "it\n"
        "(or each E-th), which fails; each n ends once in order and once by a power cut. Kinds:\n",
        stderr);
    fprintf(stderr, "%s\n", fail_each_names());
}

static uint64_t number(const char *text)
{
    uint64_t value;
    if (slice_to_u64(slice_of_string(text), UINT64_MAX, &value) == 0)
        return value;
    usage();
    exit(2);
}

/* What each run would take anew: memory from the kernel, the system's roots from their file. */
static void take_once(void)
{
    enum { KEPT_BYTES = 1 << 25 }; /* the most that malloc believes */
    struct tls_roots *roots;
    char why[TLS_WHY_MAX];
    (void)mallopt(M_MMAP_THRESHOLD, KEPT_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
    if (tls_roots_load(NULL, &roots, why) == 0)
        tls_roots_drop(roots); /* the library keeps them */
}

int main(int argc, char **argv)
{
    static const struct option names[] = {
        { "seeds", required_argument, NULL, 'n' },
        { "from", required_argument, NULL, 'f' },
        { "seed", required_argument, NULL, 's' },
        { "verbose", no_argument, NULL, 'v' },
        { "seconds", required_argument, NULL, 't' },
        { "jobs", required_argument, NULL, 'j' },
        { "fail-each", required_argument, NULL, 'e' },
        { "messages", required_argument, NULL, 'm' },
        { "shards", required_argument, NULL, 'k' },
        { "every", required_argument, NULL, 'y' },
        { "nth", required_argument, NULL, 'N' },
        { "repeat", required_argument, NULL, 'r' },
        { NULL, 0, NULL, 0 },
    };
    struct options o = { .from = 1, .seeds = 100, .jobs = 1 };
    o.each = (struct fail_each) {
        .messages = 1'000, .shards = 2, .seed = 1, .every = 1, .seconds = SEED_SECONDS_MAX
    };
    uint64_t seed = 0;
    bool one = false;
    seed_repeat(REPEAT_EVERY);
    int c;
    while ((c = getopt_long(argc, argv, "", names, NULL)) >= 0) {
        switch (c) {
        case 'n': o.seeds = number(optarg); break;
        case 'f': o.from = number(optarg); break;
        case 's':
            o.each.seed = seed = number(optarg);
            one = true;
            break;
        case 'e': o.each.operation = optarg; break;
        case 'm': o.each.messages = (uint32_t)MIN(number(optarg), (uint64_t)100'000); break;
        case 'k':
            o.each.shards = (unsigned)MIN(MAX(number(optarg), 1), (uint64_t)SERVER_SIM_SHARDS_MAX);
            break;
        case 'y': o.each.every = MAX(number(optarg), 1); break;
        case 'N': o.each.nth = number(optarg); break;
        case 'r': seed_repeat(number(optarg)); break;
        case 'v': o.verbose = o.each.verbose = true; break;
        case 't':
            o.seconds = number(optarg);
            if (o.seeds == 100)
                o.seeds = UINT64_MAX;
            break;
        case 'j': o.jobs = (unsigned)MIN(MAX(number(optarg), 1), (uint64_t)JOBS_MAX); break;
        default: usage(); return 2;
        }
    }
    take_once();
    o.each.jobs = o.jobs;
    if (o.each.operation != NULL)
        return run_each(&o.each);
    if (!one)
        return run_many(&o);
    unsigned failed = seed_run(seed, o.verbose);
    printf("seed %llu: %s\n", (unsigned long long)seed, failed > 0 ? "FAILED" : "good");
    return failed > 0 ? 1 : 0;
}
