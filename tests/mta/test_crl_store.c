/*
 * test_crl_store.c - lists on disk: back as they were, or gone and told
 */
#include "mta/crl_store.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/tls/pki.h"

static const struct crl_record record = {
    .url = "http://crl.example/a.crl",
    .connector = "bank",
    .issuer = SLICE("issuer's bytes"),
    .list = SLICE("the list, \0 and all"),
    .fetched_at = 1'900'000'000,
    .seen_at = 1'900'000'123,
};

struct found {
    unsigned count;
    bool refuse;
};

static bool taken(void *owner, const struct crl_record *r)
{
    struct found *found = owner;
    cr_assert_str_eq(r->url, record.url);
    cr_assert_str_eq(r->connector, record.connector);
    cr_assert(slice_equal(r->issuer, record.issuer));
    cr_assert(slice_equal(r->list, record.list));
    cr_assert_eq(r->fetched_at, record.fetched_at);
    cr_assert_eq(r->seen_at, record.seen_at);
    found->count++;
    return !found->refuse;
}

static void id_of(const struct crl_record *r, uint8_t id[static TLS_DIGEST_BYTES])
{
    tls_crl_id(r->url, r->issuer, id);
}

static unsigned files_in(const char *path)
{
    unsigned count = 0;
    DIR *directory = opendir(path);
    cr_assert_not_null(directory);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
        count += entry->d_name[0] != '.';
    closedir(directory);
    return count;
}

/* Records that come back; damaged: files that do not. */
static unsigned read_back(const char *path, bool refuse, unsigned *damaged)
{
    struct found found = { .refuse = refuse };
    cr_assert_eq(crl_store_read(path, taken, &found, damaged), 0);
    return found.count;
}

Test(crl_store, comes_back_and_goes)
{
    char path[PKI_PATH_BYTES];
    uint8_t id[TLS_DIGEST_BYTES];
    unsigned damaged;
    pki_directory_make(path);
    cr_assert_eq(crl_store_open(path), 0);
    id_of(&record, id);
    cr_assert_eq(crl_store_write(path, id, &record), 0);
    cr_assert_eq(crl_store_write(path, id, &record), 0); /* in its place */
    cr_assert_eq(files_in(path), 1);
    cr_assert_eq(read_back(path, false, &damaged), 1);
    cr_assert_eq(damaged, 0);
    crl_store_remove(path, id);
    cr_assert_eq(files_in(path), 0);
    /* what is of no use is removed as well */
    cr_assert_eq(crl_store_write(path, id, &record), 0);
    cr_assert_eq(read_back(path, true, &damaged), 1);
    cr_assert_eq(damaged, 1);
    cr_assert_eq(files_in(path), 0);
    pki_directory_remove(path);
    cr_assert_lt(crl_store_write(path, id, &record), 0);
    cr_assert_lt(crl_store_read(path, taken, NULL, &damaged), 0);
}

/* The only file in there, other than what the test made of it. */
static void damage(const char *path, off_t at, off_t cut_to)
{
    char name[64 + 8 + PKI_PATH_BYTES + 2];
    DIR *directory = opendir(path);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(name, sizeof(name), "%s/%.72s", path, entry->d_name);
        int fd = open(name, O_RDWR | O_CLOEXEC);
        char octet;
        cr_assert_geq(fd, 0);
        if (cut_to >= 0) {
            cr_assert_eq(ftruncate(fd, cut_to), 0);
        } else {
            cr_assert_eq(pread(fd, &octet, 1, at), 1);
            octet ^= 0x10;
            cr_assert_eq(pwrite(fd, &octet, 1, at), 1);
        }
        close(fd);
    }
    closedir(directory);
}

Test(crl_store, damage_anywhere_is_seen)
{
    char path[PKI_PATH_BYTES];
    uint8_t id[TLS_DIGEST_BYTES];
    unsigned damaged;
    pki_directory_make(path);
    id_of(&record, id);
    off_t size = 48 + (off_t)strlen(record.url) + (off_t)strlen(record.connector) +
                 (off_t)record.issuer.size + (off_t)record.list.size + 8;
    for (off_t at = 0; at < 2 * size; at++) {
        cr_assert_eq(crl_store_write(path, id, &record), 0);
        damage(path, at, at < size ? -1 : at - size);
        cr_assert_eq(read_back(path, false, &damaged), 0, "%ld", (long)at);
        cr_assert_eq(damaged, 1);
        cr_assert_eq(files_in(path), 0);
    }
    pki_directory_remove(path);
}

Test(crl_store, what_a_crash_leaves_behind_is_swept)
{
    char path[PKI_PATH_BYTES];
    unsigned damaged;
    pki_directory_make(path);
    (void)pki_file(path, "abc.crl.new", "half of", 0600);
    (void)pki_file(path, "abc.crl", "not of that name", 0600);
    cr_assert_eq(read_back(path, false, &damaged), 0);
    cr_assert_eq(damaged, 1);
    cr_assert_eq(files_in(path), 0);
    pki_directory_remove(path);
}

Test(crl_store, the_state_for_check)
{
    char path[PKI_PATH_BYTES];
    pki_directory_make(path);
    cr_assert_null(crl_store_read_state(path));
    json_t *state = json_pack("{s:i}", "a", 1), *back;
    cr_assert_eq(crl_store_write_state(path, state), 0);
    back = crl_store_read_state(path);
    cr_assert(json_equal(state, back));
    json_decref(state);
    json_decref(back);
    pki_directory_remove(path);
}
