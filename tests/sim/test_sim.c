/*
 * test_sim.c - the simulator itself: faults appear, promises hold, seeds repeat
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "tests/sim/sim.h"

static const struct ring_options RING = {
    .entries = 64, .sockets_max = 64, .recv_buffers = 16, .recv_buffer_bytes = 1024
};

/* An op that remembers how it landed. */
struct fact {
    struct op op;
    int res;
    unsigned flags;
    unsigned landings;
};

static void fact_landed(struct op *op, int res, unsigned flags)
{
    struct fact *fact = container_of(op, struct fact, op);
    fact->res = res;
    fact->flags = flags;
    fact->landings++;
}

static struct fact fact_new(void)
{
    return (struct fact) { .op = { .landed = fact_landed } };
}

static bool fact_done(void *fact)
{
    return ((struct fact *)fact)->landings > 0;
}

static int await(struct sim *sim, struct fact *fact)
{
    cr_assert(sim_run_until(sim, sim_now_ms(sim) + 600'000, fact_done, fact));
    return fact->res;
}

static struct sim *world(uint64_t seed, struct ring **ring)
{
    struct sim_options options = sim_calm(seed);
    struct sim *sim = sim_new(&options);
    *ring = sim_ring(sim, sim_machine(sim, "192.0.2.1"), &RING);
    sim_ring_runs(sim, *ring);
    return sim;
}

/* ---- files ---- */

static int file_new(struct ring *ring, const char *path)
{
    int fd = ring->ops->now_open(ring, path, O_RDWR | O_CREAT, 0600);
    cr_assert_geq(fd, 0);
    return fd;
}

static void root_sync(struct ring *ring)
{
    int fd = ring->ops->now_open(ring, "/", O_RDONLY | O_DIRECTORY, 0);
    cr_assert_geq(fd, 0);
    cr_assert_eq(ring->ops->now_sync(ring, fd), 0);
    ring->ops->now_close(ring, fd);
}

static struct ring *restart(struct sim *sim, enum sim_crash how)
{
    sim_crash(sim, 0, how);
    struct ring *ring = sim_ring(sim, 0, &RING);
    sim_ring_runs(sim, ring);
    return ring;
}

Test(sim, missing_files_and_wrong_names_are_refused)
{
    struct ring *ring;
    struct sim *sim = world(1, &ring);
    cr_assert_eq(ring->ops->now_open(ring, "/no", O_RDONLY, 0), -ENOENT);
    cr_assert_eq(ring->ops->now_open(ring, "/no/no", O_RDWR | O_CREAT, 0600), -ENOENT);
    cr_assert_eq(ring->ops->now_open(ring, "/", O_RDWR, 0), -EISDIR);
    int fd = file_new(ring, "/file");
    cr_assert_eq(ring->ops->now_open(ring, "/file/x", O_RDWR | O_CREAT, 0600), -ENOTDIR);
    cr_assert_eq(ring->ops->now_open(ring, "/file", O_RDWR | O_CREAT | O_EXCL, 0600), -EEXIST);
    cr_assert_eq(ring->ops->now_mkdir(ring, "/file", 0700), -EEXIST);
    cr_assert_eq(ring->ops->now_unlink(ring, "/no"), -ENOENT);
    cr_assert_eq(ring->ops->now_rename(ring, "/no", "/x"), -ENOENT);
    ring->ops->now_close(ring, fd);
    sim_free(sim);
}

/* How 64 sectors of 'b' over 'a' look after a power cut, by seed. */
static void cut(uint64_t seed, bool synced, bool durable, unsigned *old, unsigned *new)
{
    enum { BYTES = 64 * 512 };
    static uint8_t block[BYTES];
    struct ring *ring;
    struct sim *sim = world(seed, &ring);
    int fd = file_new(ring, "/file");
    memset(block, 'a', sizeof(block));
    cr_assert_eq(ring->ops->now_write(ring, fd, block, BYTES, 0), BYTES);
    cr_assert_eq(ring->ops->now_sync(ring, fd), 0);
    root_sync(ring);
    struct ring_file file;
    cr_assert_eq(ring_file_adopt(ring, fd, &file), 0);
    memset(block, 'b', sizeof(block));
    struct fact write = fact_new();
    ring_write(ring, &write.op, &file, block, BYTES, 0, durable ? RING_WRITE_DURABLE : 0);
    cr_assert_eq(await(sim, &write), BYTES);
    struct fact sync = fact_new();
    if (synced) {
        ring_sync(ring, &sync.op, &file);
        cr_assert_eq(await(sim, &sync), 0);
    }
    ring = restart(sim, SIM_POWER);
    fd = ring->ops->now_open(ring, "/file", O_RDONLY, 0);
    cr_assert_geq(fd, 0);
    cr_assert_eq(ring->ops->now_read(ring, fd, block, BYTES, 0), BYTES);
    *old = *new = 0;
    for (unsigned i = 0; i < 64; i++) {
        for (unsigned j = 1; j < 512; j++)
            cr_assert_eq(block[i * 512 + j], block[i * 512], "a sector is torn inside");
        *old += block[i * 512] == 'a';
        *new += block[i * 512] == 'b';
    }
    cr_assert_eq(*old + *new, 64);
    sim_free(sim);
}

Test(sim, an_unsynced_write_is_lost_kept_or_torn)
{
    unsigned lost = 0, kept = 0, torn = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        unsigned old, new;
        cut(seed, false, false, &old, &new);
        lost += new == 0;
        kept += old == 0;
        torn += old > 0 && new > 0;
    }
    cr_assert_geq(lost, 10);
    cr_assert_geq(kept, 10);
    cr_assert_geq(torn, 10);
}

Test(sim, a_synced_and_a_durable_write_survive)
{
    for (uint64_t seed = 1; seed <= 50; seed++) {
        unsigned old, new;
        cut(seed, true, false, &old, &new);
        cr_assert_eq(new, 64);
        cut(seed, false, true, &old, &new);
        cr_assert_eq(new, 64);
    }
}

Test(sim, a_name_survives_a_power_cut_only_when_its_directory_was_synced)
{
    unsigned lost = 0, kept = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct ring *ring;
        struct sim *sim = world(seed, &ring);
        int fd = file_new(ring, "/synced");
        root_sync(ring);
        int other = file_new(ring, "/unsynced");
        cr_assert_eq(ring->ops->now_write(ring, other, "x", 1, 0), 1);
        cr_assert_eq(ring->ops->now_sync(ring, other), 0);
        (void)fd;
        ring = restart(sim, seed % 2 ? SIM_POWER : SIM_KILL);
        cr_assert_geq(ring->ops->now_open(ring, "/synced", O_RDONLY, 0), 0);
        bool there = ring->ops->now_open(ring, "/unsynced", O_RDONLY, 0) >= 0;
        if (seed % 2 == 0)
            cr_assert(there, "a kill loses no name");
        lost += !there;
        kept += there && seed % 2;
        sim_free(sim);
    }
    cr_assert_geq(lost, 5);
    cr_assert_geq(kept, 5);
}

Test(sim, a_rename_is_there_as_a_whole_or_not)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct ring *ring;
        struct sim *sim = world(seed, &ring);
        int fd = file_new(ring, "/new");
        cr_assert_eq(ring->ops->now_write(ring, fd, "n", 1, 0), 1);
        cr_assert_eq(ring->ops->now_sync(ring, fd), 0);
        int old = file_new(ring, "/name");
        cr_assert_eq(ring->ops->now_write(ring, old, "o", 1, 0), 1);
        cr_assert_eq(ring->ops->now_sync(ring, old), 0);
        root_sync(ring);
        cr_assert_eq(ring->ops->now_rename(ring, "/new", "/name"), 0);
        ring = restart(sim, SIM_POWER);
        char c = 0;
        fd = ring->ops->now_open(ring, "/name", O_RDONLY, 0);
        cr_assert_geq(fd, 0);
        cr_assert_eq(ring->ops->now_read(ring, fd, &c, 1, 0), 1);
        bool still = ring->ops->now_open(ring, "/new", O_RDONLY, 0) >= 0;
        cr_assert(still ? c == 'o' : c == 'n');
        sim_free(sim);
    }
}

Test(sim, after_a_failed_sync_the_next_one_lies)
{
    unsigned lost = 0;
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct ring *ring;
        struct sim *sim = world(seed, &ring);
        int fd = file_new(ring, "/file");
        root_sync(ring);
        cr_assert_eq(ring->ops->now_write(ring, fd, "x", 1, 0), 1);
        sim_fail(sim, 0, SIM_SYNC, 0, 1, -EIO);
        cr_assert_eq(ring->ops->now_sync(ring, fd), -EIO);
        cr_assert_eq(ring->ops->now_sync(ring, fd), 0);
        ring = restart(sim, SIM_POWER);
        fd = ring->ops->now_open(ring, "/file", O_RDONLY, 0);
        char c = 0;
        lost += ring->ops->now_read(ring, fd, &c, 1, 0) != 1 || c != 'x';
        sim_free(sim);
    }
    cr_assert_geq(lost, 10);
}

Test(sim, an_old_write_never_comes_back_over_a_durable_one)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct ring *ring;
        struct sim *sim = world(seed, &ring);
        static uint8_t old[8192], new[1024], read[8192];
        memset(old, 'o', sizeof(old));
        memset(new, 'n', sizeof(new));
        int fd = file_new(ring, "/file");
        root_sync(ring);
        struct ring_file file;
        cr_assert_eq(ring_file_adopt(ring, fd, &file), 0);
        cr_assert_eq(ring->ops->now_write(ring, fd, old, sizeof(old), 0), sizeof(old));
        if (seed % 2 == 0) {
            sim_fail(sim, 0, SIM_SYNC, 0, 1, -EIO);
            cr_assert_eq(ring->ops->now_sync(ring, fd), -EIO);
        }
        if (seed % 3 == 0) {
            cr_assert_eq(ring->ops->now_write(ring, fd, new, sizeof(new), 2048), sizeof(new));
            cr_assert_eq(ring->ops->now_sync(ring, fd), 0);
        } else {
            struct fact write = fact_new();
            ring_write(ring, &write.op, &file, new, sizeof(new), 2048, RING_WRITE_DURABLE);
            cr_assert_eq(await(sim, &write), sizeof(new));
        }
        ring = restart(sim, SIM_POWER);
        fd = ring->ops->now_open(ring, "/file", O_RDONLY, 0);
        cr_assert_geq(ring->ops->now_read(ring, fd, read, sizeof(read), 0), 3072);
        cr_assert_eq(memcmp(read + 2048, new, sizeof(new)), 0);
        sim_free(sim);
    }
}

Test(sim, a_kill_keeps_what_was_written_and_cuts_what_was_under_way)
{
    enum { DONE = 4096, MORE = 4 * 4096 };
    static uint8_t done[DONE], more[MORE], read[DONE + MORE];
    memset(done, 'd', sizeof(done));
    memset(more, 'm', sizeof(more));
    unsigned none = 0, part = 0, whole = 0;
    for (uint64_t seed = 1; seed <= 90; seed++) {
        struct ring *ring;
        struct sim *sim = world(seed, &ring);
        int fd = file_new(ring, "/file");
        struct ring_file file;
        cr_assert_eq(ring_file_adopt(ring, fd, &file), 0);
        cr_assert_eq(ring->ops->now_write(ring, fd, done, DONE, 0), DONE);
        struct fact write = fact_new();
        ring_write(ring, &write.op, &file, more, MORE, DONE, RING_WRITE_DURABLE);
        ring = restart(sim, SIM_KILL);
        fd = ring->ops->now_open(ring, "/file", O_RDONLY, 0);
        int64_t bytes = ring->ops->now_read(ring, fd, read, sizeof(read), 0);
        cr_assert_geq(bytes, DONE);
        cr_assert_eq(memcmp(read, done, DONE), 0);
        cr_assert_eq(memcmp(read + DONE, more, (size_t)bytes - DONE), 0);
        none += bytes == DONE;
        whole += bytes == DONE + MORE;
        part += bytes != DONE && bytes != DONE + MORE;
        sim_run(sim, sim_now_ms(sim) + 10'000);
        cr_assert_eq(write.landings, 0, "nothing lands for the dead");
        sim_free(sim);
    }
    cr_assert_geq(none, 5);
    cr_assert_geq(part, 5);
    cr_assert_geq(whole, 5);
}

/* Random writes and syncs, with faults, then a crash: each sector must hold a version that is not
 * older than the last one that was promised, and that was ever written there. */
enum { SECTORS = 96, SECTOR = 512, WRITERS = 4 };

struct versions {
    uint32_t written, landed, promised; /* of a sector */
};

struct writer {
    struct fact fact;
    bool busy, sync, durable;
    unsigned first, count;
    uint32_t landed[SECTORS]; /* when the sync began */
    uint8_t data[8 * SECTOR];
};

static bool sectors_busy(const struct writer *writers, unsigned first, unsigned count)
{
    for (unsigned i = 0; i < WRITERS; i++)
        if (writers[i].busy && !writers[i].sync && writers[i].first < first + count &&
            first < writers[i].first + writers[i].count)
            return true;
    return false;
}

static bool sync_busy(const struct writer *writers)
{
    for (unsigned i = 0; i < WRITERS; i++)
        if (writers[i].busy && writers[i].sync)
            return true;
    return false;
}

static void writer_landed(struct writer *w, struct versions *sectors)
{
    w->busy = false;
    if (w->sync) {
        for (unsigned i = 0; w->fact.res == 0 && i < SECTORS; i++)
            sectors[i].promised = MAX(sectors[i].promised, w->landed[i]);
        return;
    }
    unsigned whole = w->fact.res > 0 ? (unsigned)w->fact.res / SECTOR : 0;
    for (unsigned i = w->first; i < w->first + whole; i++) {
        sectors[i].landed = sectors[i].written;
        if (w->durable)
            sectors[i].promised = sectors[i].written;
    }
}

static void versions_round(struct sim *sim, struct ring *ring, const struct ring_file *file,
                           struct versions *sectors, bool *failed)
{
    static struct writer writers[WRITERS];
    memset(writers, 0, sizeof(writers));
    struct random *random = sim_random(sim);
    for (uint64_t steps = random_below(random, 400); steps > 0; steps--) {
        for (unsigned i = 0; i < WRITERS; i++) {
            struct writer *w = &writers[i];
            if (w->busy && w->fact.landings > 0) {
                writer_landed(w, sectors);
                *failed = *failed || (w->sync && w->fact.res < 0);
            }
            if (w->busy || *failed) /* a failed sync is final: nothing is promised any more */
                continue;
            w->fact = fact_new();
            /* One at a time: of two, the one that fails takes from the other what it promises. */
            w->sync = random_below(random, 4) == 0 && !sync_busy(writers);
            w->count = 1 + (unsigned)random_below(random, 8);
            w->first = (unsigned)random_below(random, SECTORS - w->count + 1);
            if (!w->sync && sectors_busy(writers, w->first, w->count))
                continue;
            w->busy = true;
            for (unsigned j = 0; j < SECTORS; j++)
                w->landed[j] = sectors[j].landed;
            if (w->sync) {
                ring_sync(ring, &w->fact.op, file);
                continue;
            }
            for (unsigned j = 0; j < w->count; j++) {
                uint32_t version = ++sectors[w->first + j].written;
                memset(w->data + j * SECTOR, 0, SECTOR);
                memcpy(w->data + j * SECTOR, &version, sizeof(version));
            }
            w->durable = random_below(random, 2) == 0;
            ring_write(ring, &w->fact.op, file, w->data, w->count * SECTOR,
                       (uint64_t)w->first * SECTOR, w->durable ? RING_WRITE_DURABLE : 0);
        }
        (void)sim_run_one(sim);
    }
    for (unsigned i = 0; i < WRITERS; i++)
        if (writers[i].busy && writers[i].fact.landings > 0)
            writer_landed(&writers[i], sectors);
}

Test(sim, what_was_promised_survives_and_nothing_old_comes_back)
{
    static uint8_t zeros[SECTORS * SECTOR];
    unsigned newer = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct sim_options options = seed % 2 ? sim_calm(seed) : sim_storm(seed);
        struct sim *sim = sim_new(&options);
        struct ring *ring = sim_ring(sim, sim_machine(sim, "192.0.2.1"), &RING);
        sim_ring_runs(sim, ring);
        int fd = file_new(ring, "/file");
        cr_assert_eq(ring->ops->now_write(ring, fd, zeros, sizeof(zeros), 0), sizeof(zeros));
        cr_assert_eq(ring->ops->now_sync(ring, fd), 0);
        root_sync(ring);
        struct versions sectors[SECTORS] = { 0 };
        for (unsigned round = 0; round < 3; round++) {
            struct ring_file file;
            cr_assert_eq(ring_file_adopt(ring, fd, &file), 0);
            sim_faults(sim, 0, true);
            bool failed = false;
            versions_round(sim, ring, &file, sectors, &failed);
            sim_faults(sim, 0, false);
            ring = restart(sim, random_below(sim_random(sim), 3) ? SIM_POWER : SIM_KILL);
            fd = ring->ops->now_open(ring, "/file", O_RDWR, 0);
            for (unsigned i = 0; i < SECTORS; i++) {
                uint32_t version;
                cr_assert_eq(ring->ops->now_read(ring, fd, &version, 4, (uint64_t)i * SECTOR), 4);
                cr_assert_geq(version, sectors[i].promised, "seed %u, sector %u", (unsigned)seed,
                              i);
                cr_assert_leq(version, sectors[i].written);
                newer += version > sectors[i].promised;
            }
            /* What is there now may change with the next cut, but not below what was promised. */
            if (random_below(sim_random(sim), 2) == 0)
                cr_assert_eq(ring->ops->now_sync(ring, fd), 0);
            for (unsigned i = 0; i < SECTORS; i++)
                sectors[i].landed = sectors[i].promised;
        }
        sim_free(sim);
    }
    cr_assert_geq(newer, 1000);
}

Test(sim, a_full_disk_says_so_and_takes_what_fits)
{
    struct ring *ring;
    struct sim *sim = world(1, &ring);
    sim_disk_bytes(sim, 0, 8192);
    static uint8_t block[16'384];
    int fd = file_new(ring, "/file");
    cr_assert_eq(ring->ops->now_write(ring, fd, block, sizeof(block), 0), 8192);
    cr_assert_eq(ring->ops->now_write(ring, fd, block, 1, 8192), -ENOSPC);
    cr_assert_eq(ring->ops->now_write(ring, fd, block, 8192, 0), 8192);
    struct ring_stat stat;
    cr_assert_eq(ring->ops->now_stat(ring, fd, &stat), 0);
    cr_assert_eq(stat.free_disk, 0);
    ring->ops->now_close(ring, fd);
    cr_assert_eq(ring->ops->now_unlink(ring, "/file"), 0);
    cr_assert_eq(sim_disk_used(sim, 0), 0);
    sim_free(sim);
}

Test(sim, faults_come_in_order_and_operations_are_counted)
{
    struct ring *ring;
    struct sim *sim = world(1, &ring);
    int fd = file_new(ring, "/file");
    sim_fail(sim, 0, SIM_WRITE, 1, 2, -EIO);
    cr_assert_eq(ring->ops->now_write(ring, fd, "a", 1, 0), 1);
    cr_assert_eq(ring->ops->now_write(ring, fd, "b", 1, 0), -EIO);
    cr_assert_eq(ring->ops->now_write(ring, fd, "c", 1, 0), -EIO);
    cr_assert_eq(ring->ops->now_write(ring, fd, "d", 1, 0), 1);
    cr_assert_eq(sim_count(sim, 0, SIM_WRITE), 4);
    char c;
    cr_assert_eq(sim_corrupt(sim, 0, "/file", 0, 1), 0);
    cr_assert_eq(ring->ops->now_read(ring, fd, &c, 1, 0), 1);
    cr_assert_neq(c, 'd');
    sim_free(sim);
}

Test(sim, held_syncs_wait_for_their_release)
{
    struct ring *ring;
    struct sim *sim = world(1, &ring);
    struct ring_file file;
    cr_assert_eq(ring_file_adopt(ring, file_new(ring, "/file"), &file), 0);
    sim_hold(sim, 0, SIM_SYNC, true);
    struct fact sync = fact_new(), write = fact_new();
    ring_sync(ring, &sync.op, &file);
    ring_write(ring, &write.op, &file, "x", 1, 0, RING_WRITE_DURABLE);
    sim_run(sim, sim_now_ms(sim) + 60'000);
    cr_assert_eq(sync.landings + write.landings, 0);
    sim_hold(sim, 0, SIM_SYNC, false);
    cr_assert_eq(await(sim, &sync), 0);
    cr_assert_eq(await(sim, &write), 1);
    ring_file_close(ring, &file);
    sim_ring_idle(ring);
    ring_free(ring);
    sim_free(sim);
}

/* ---- misuse ---- */

Test(sim, changing_memory_that_is_being_written_is_found, .signal = SIGABRT)
{
    struct ring *ring;
    struct sim *sim = world(1, &ring);
    struct ring_file file;
    cr_assert_eq(ring_file_adopt(ring, file_new(ring, "/file"), &file), 0);
    char text[] = "text";
    struct fact write = fact_new();
    ring_write(ring, &write.op, &file, text, 4, 0, 0);
    text[0] = 'n';
    sim_run(sim, sim_now_ms(sim) + 60'000);
}

Test(sim, arming_twice_is_found, .signal = SIGABRT)
{
    struct ring *ring;
    (void)world(1, &ring);
    struct fact open = fact_new();
    ring_open(ring, &open.op, "/a", O_RDONLY, 0);
    ring_open(ring, &open.op, "/a", O_RDONLY, 0);
}

Test(sim, freeing_a_ring_with_something_in_flight_is_found, .signal = SIGABRT)
{
    struct ring *ring;
    (void)world(1, &ring);
    struct fact open = fact_new();
    ring_open(ring, &open.op, "/a", O_RDONLY, 0);
    ring_free(ring);
}

Test(sim, using_a_closed_socket_is_found, .signal = SIGABRT)
{
    struct ring *ring;
    (void)world(1, &ring);
    int socket, again;
    struct net_address to = { .port = 25 };
    cr_assert_eq(ring_socket(ring, &to, NULL, &socket), 0);
    ring_close(ring, socket);
    cr_assert_eq(ring_socket(ring, &to, NULL, &again), 0);
    ring_close(ring, socket);
}

Test(sim, using_a_ring_after_the_crash_is_found, .signal = SIGABRT)
{
    struct ring *ring;
    struct sim *sim = world(1, &ring);
    sim_crash(sim, 0, SIM_KILL);
    (void)ring_entropy(ring);
}
