/*
 * test_floor_store.c - floor memory on disk: bounded, durable, and never believed when damaged
 */
#include "mta/floor_store.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/random.h"

enum { MAX = 100, FLIPS = 60 };

static char directory[] = "/tmp/ringpost-floor.XXXXXX";
static char path[64];
static struct store *store;
static struct store_report report;

static void start(void)
{
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/floor.mdb", directory);
}

static void stop(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", directory);
    cr_assert_eq(system(command), 0);
}

TestSuite(floor_store, .init = start, .fini = stop);

static void open_store(void)
{
    cr_assert_eq(floor_store_open(path, MAX, &store, &report), 0);
}

static void reopen(void)
{
    store_close(store);
    open_store();
}

static struct floor_record record_of(int64_t last)
{
    struct floor_record r = { .first = 1, .last = last, .count = (uint32_t)last };
    r.best = (struct floor_facts) { 13, FLOOR_GROUP_HYBRID, true, true, false, false };
    snprintf(r.issuer, sizeof(r.issuer), "CN=%ld", (long)last);
    return r;
}

static unsigned put(const char *host, const char *domain, int64_t last)
{
    const struct floor_record r = record_of(last);
    unsigned dropped;
    cr_assert_eq(floor_store_put(store, host, domain, &r, &dropped), 0);
    return dropped;
}

static int64_t get(const char *host, const char *domain)
{
    struct floor_record r;
    int result = floor_store_get(store, host, domain, &r);
    if (result < 0)
        return result;
    const struct floor_record wanted = record_of(r.last);
    cr_assert_eq(r.first, wanted.first);
    cr_assert_eq(r.count, wanted.count);
    cr_assert_eq(memcmp(&r.best, &wanted.best, sizeof(r.best)), 0);
    cr_assert_str_eq(r.issuer, wanted.issuer);
    return r.last;
}

/* 60 hosts, h0.test to h59.test, last seen at 1000 + number. */
static void fill(void)
{
    for (int i = 0; i < 60; i++) {
        char host[32];
        snprintf(host, sizeof(host), "h%d.test", i);
        cr_assert_eq(put(host, "d.test", 1'000 + i), 0);
    }
}

static bool filled(void)
{
    for (int i = 0; i < 60; i++) {
        char host[32];
        snprintf(host, sizeof(host), "h%d.test", i);
        if (get(host, "d.test") != 1'000 + i)
            return false;
    }
    return store_count(store) == 60;
}

Test(floor_store, what_is_not_there)
{
    open_store();
    char host[FLOOR_HOST_MAX] = "";
    char domain[FLOOR_DOMAIN_MAX] = "";
    struct floor_record r;
    cr_assert_not(report.damaged);
    cr_assert_eq(get("a.test", ""), -ENOENT);
    cr_assert_eq(floor_store_drop(store, "a.test", ""), -ENOENT);
    cr_assert_eq(floor_store_next(store, host, domain, &r), -ENOENT);
    cr_assert_eq(store_count(store), 0);
    store_close(store);
}

Test(floor_store, names_that_are_too_long)
{
    open_store();
    char host[FLOOR_HOST_MAX];
    char domain[FLOOR_DOMAIN_MAX];
    memset(host, 'h', sizeof(host) - 1);
    memset(domain, 'd', sizeof(domain) - 1);
    host[sizeof(host) - 1] = domain[sizeof(domain) - 1] = '\0';
    const struct floor_record r = record_of(1);
    unsigned dropped;
    cr_assert_eq(floor_store_put(store, host, domain, &r, &dropped), -ENAMETOOLONG);
    cr_assert_eq(get(host, domain), -ENAMETOOLONG);
    domain[sizeof(domain) - 20] = '\0';
    cr_assert_eq(put(host, domain, 7), 0);
    cr_assert_eq(get(host, domain), 7);
    store_close(store);
}

Test(floor_store, kept_over_a_restart)
{
    open_store();
    put("a.test", "x.test", 10);
    put("a.test", "", 20);
    put("a.test", "x.test", 30);
    cr_assert_eq(get("a.test", "x.test"), 30);
    reopen();
    cr_assert_not(report.damaged);
    cr_assert_eq(get("a.test", "x.test"), 30);
    cr_assert_eq(get("a.test", ""), 20);
    cr_assert_eq(get("a.tes", "tx.test"), -ENOENT);
    cr_assert_eq(floor_store_drop(store, "a.test", ""), 0);
    reopen();
    cr_assert_eq(get("a.test", ""), -ENOENT);
    cr_assert_eq(store_count(store), 1);
    struct stat stat;
    cr_assert_eq(lstat(path, &stat), 0);
    cr_assert_eq(stat.st_mode & 0777, 0600);
    store_close(store);
}

Test(floor_store, in_the_order_of_names)
{
    open_store();
    put("b.test", "", 1);
    put("a.test", "z.test", 2);
    put("a.test", "y.test", 3);
    char host[FLOOR_HOST_MAX] = "";
    char domain[FLOOR_DOMAIN_MAX] = "";
    char all[256] = "";
    struct floor_record r;
    while (floor_store_next(store, host, domain, &r) == 0)
        snprintf(all + strlen(all), sizeof(all) - strlen(all), "%s/%s=%ld ", host, domain,
                 (long)r.last);
    cr_assert_str_eq(all, "a.test/y.test=3 a.test/z.test=2 b.test/=1 ");
    store_close(store);
}

Test(floor_store, the_least_recently_seen_go)
{
    open_store();
    unsigned dropped = 0;
    for (int i = 0; i < MAX; i++) {
        char host[32];
        snprintf(host, sizeof(host), "h%d.test", i);
        dropped += put(host, "", 1'000 + i);
    }
    cr_assert_eq(dropped, 0);
    cr_assert_eq(put("h0.test", "", 5'000), 0);
    cr_assert_eq(put("new.test", "", 5'001), 1);
    cr_assert_eq(store_count(store), MAX);
    cr_assert_eq(get("h1.test", ""), -ENOENT);
    cr_assert_eq(get("h0.test", ""), 5'000);
    cr_assert_eq(get("h2.test", ""), 1'002);
    store_close(store);
}

/* A child that ends without a word is a process that was killed. */
Test(floor_store, a_batch_that_was_not_committed_is_gone_and_nothing_else)
{
    open_store();
    fill();
    cr_assert_eq(store_commit(store), 0);
    store_close(store);
    pid_t child = fork();
    if (child == 0) {
        open_store();
        put("late.test", "", 1);
        _exit(0);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    open_store();
    cr_assert_not(report.damaged);
    cr_assert(filled());
    cr_assert_eq(get("late.test", ""), -ENOENT);
    store_close(store);
}

/* ---- damage ---- */

Test(floor_store, what_is_no_database_is_moved_aside)
{
    FILE *file = fopen(path, "w");
    for (unsigned i = 0; i < 1'000; i++)
        fputs("this is no database\n", file);
    fclose(file);
    open_store();
    cr_assert(report.damaged);
    cr_assert_str_not_empty(report.why);
    char text[32] = "";
    file = fopen(report.aside, "r");
    cr_assert_not_null(file);
    cr_assert_not_null(fgets(text, sizeof(text), file));
    fclose(file);
    cr_assert_str_eq(text, "this is no database\n");
    cr_assert_eq(put("a.test", "", 1), 0);
    reopen();
    cr_assert_not(report.damaged);
    cr_assert_eq(get("a.test", ""), 1);
    store_close(store);
}

Test(floor_store, a_directory_in_its_place)
{
    cr_assert_eq(mkdir(path, 0700), 0);
    open_store();
    cr_assert(report.damaged);
    store_close(store);
}

static void flip(uint64_t seed, unsigned bits)
{
    struct random random;
    random_seed(&random, seed);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    cr_assert_geq(fd, 0);
    struct stat stat;
    cr_assert_eq(fstat(fd, &stat), 0);
    for (unsigned i = 0; i < bits; i++) {
        off_t at = (off_t)random_below(&random, (uint64_t)stat.st_size);
        uint8_t octet;
        cr_assert_eq(pread(fd, &octet, 1, at), 1);
        octet ^= (uint8_t)(1U << random_below(&random, 8));
        cr_assert_eq(pwrite(fd, &octet, 1, at), 1);
    }
    close(fd);
}

/* Bits are flipped anywhere: it is as it was, or as of the commit before (of two roots LMDB takes
 * the newer one that looks right), or moved aside and empty; and it works. */
Test(floor_store, damage_is_seen_or_harmless)
{
    unsigned seen = 0;
    for (uint64_t seed = 1; seed <= FLIPS; seed++) {
        unlink(path);
        open_store();
        fill();
        store_close(store);
        flip(seed, 1U << seed % 8);
        open_store();
        seen += report.damaged;
        bool empty = store_count(store) == 0;
        cr_assert(empty || (!report.damaged && filled()), "seed %lu", seed);
        cr_assert_eq(put("after.test", "", 9'999), 0);
        reopen();
        cr_assert_not(report.damaged, "seed %lu", seed);
        cr_assert_eq(get("after.test", ""), 9'999);
        store_close(store);
    }
    cr_assert_gt(seen, 0);
}

Test(floor_store, a_file_cut_short)
{
    for (unsigned blocks = 1; blocks < 8; blocks++) {
        unlink(path);
        open_store();
        fill();
        store_close(store);
        cr_assert_eq(truncate(path, blocks * 4'096), 0);
        open_store();
        cr_assert(report.damaged ? store_count(store) == 0 : filled(), "%u", blocks);
        cr_assert(report.damaged || blocks > 2);
        store_close(store);
    }
}

Test(floor_store, renewed_while_it_runs)
{
    open_store();
    fill();
    cr_assert_eq(store_renew(&store, &report), 0);
    cr_assert(report.damaged);
    cr_assert_eq(access(report.aside, F_OK), 0);
    cr_assert_eq(store_count(store), 0);
    put("a.test", "", 1);
    reopen();
    cr_assert_eq(get("a.test", ""), 1);
    store_close(store);
}
