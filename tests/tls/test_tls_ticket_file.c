/*
 * test_tls_ticket_file.c - files of ticket keys: which are refused, with which words, and that one
 * is never seen half written
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/tls/handshake.h"
#include "tls/tls_ticket.h"

static const int64_t NOW_US = 1'764'167'999'000'000;
static const int64_t DAY_US = 86'400'000'000;

static char directory[64];
static char path[96];
static char why[TLS_TICKET_WHY_BYTES_MAX];
static char text[TLS_TICKET_FILE_BYTES_MAX];
static struct tls_ticket_keys keys;
static struct tls_ticket_keys read_back;

static int unlink_one(const char *name, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(name);
}

static void start(void)
{
    snprintf(directory, sizeof(directory), "/tmp/ringpost-ticket-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/keys", directory);
    tls_ticket_keys_make(NOW_US, &keys);
    tls_ticket_keys_rotate(&keys, NOW_US);
    cr_assert_eq(tls_ticket_keys_write(path, &keys, why), 0, "%s", why);
    FILE *file = fopen(path, "re");
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
}

static void stop(void)
{
    nftw(directory, unlink_one, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(tls_ticket_file, .init = start, .fini = stop);

static int read_it(void)
{
    return tls_ticket_keys_read(path, NOW_US, &read_back, why);
}

static void put(const char *content, size_t size)
{
    int fd = open(path, O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC, 0600);
    cr_assert_eq(write(fd, content, size), (ssize_t)size);
    close(fd);
}

/* Refused with this, words that contain that, and no keys. */
static void refused(int error, const char *words)
{
    static const struct tls_ticket_keys none;
    memset(&read_back, 1, sizeof(read_back));
    cr_assert_eq(read_it(), error, "%s", why);
    cr_assert_not_null(strstr(why, words), "%s", why);
    cr_assert_not_null(strstr(why, directory), "%s", why);
    cr_assert_eq(memcmp(&read_back, &none, sizeof(none)), 0);
}

Test(tls_ticket_file, not_there)
{
    unlink(path);
    refused(-ENOENT, "copy it to the others");
}

Test(tls_ticket_file, not_a_file)
{
    unlink(path);
    cr_assert_eq(mkfifo(path, 0600), 0);
    refused(-EINVAL, "not a regular file");
    unlink(path);
    cr_assert_eq(mkdir(path, 0700), 0);
    refused(-EINVAL, "not a regular file");
}

Test(tls_ticket_file, modes)
{
    static const mode_t open_ones[] = { 0644, 0604, 0660, 0602, 0700, 0610, 0601, 04600 };
    static const mode_t fine[] = { 0600, 0640, 0400, 0440 };
    for (unsigned i = 0; i < ARRAY_COUNT(open_ones); i++) {
        chmod(path, open_ones[i]);
        refused(-EPERM, "chmod 0600");
    }
    for (unsigned i = 0; i < ARRAY_COUNT(fine); i++) {
        chmod(path, fine[i]);
        cr_assert_eq(read_it(), 0, "%s", why);
    }
}

Test(tls_ticket_file, owner)
{
    if (geteuid() != 0)
        cr_skip("only root can give a file away");
    cr_assert_eq(chown(path, 12'345, (gid_t)-1), 0);
    refused(-EPERM, "belongs to user 12345");
}

Test(tls_ticket_file, ages)
{
    cr_assert_eq(tls_ticket_keys_read(path, NOW_US + 7 * DAY_US, &read_back, why), 0);
    cr_assert_eq(tls_ticket_keys_read(path, NOW_US + 9 * DAY_US, &read_back, why), -ESTALE);
    cr_assert_not_null(strstr(why, "9 days old"), "%s", why);
    cr_assert_eq(read_back.flags, 0);
    cr_assert_eq(tls_ticket_keys_read(path, NOW_US - 299'000'000, &read_back, why), 0);
    cr_assert_eq(tls_ticket_keys_read(path, NOW_US - 302'000'000, &read_back, why), -EINVAL);
    cr_assert_not_null(strstr(why, "in 302 s; set this clock"), "%s", why);
}

Test(tls_ticket_file, no_part_of_it_will_do)
{
    for (size_t size = 0; size < strlen(text); size++) {
        put(text, size);
        refused(-EINVAL, "not a whole file");
    }
    put(text, strlen(text));
    cr_assert_eq(read_it(), 0, "%s", why);
}

Test(tls_ticket_file, any_octet_that_is_another)
{
    for (size_t i = 0; i < strlen(text); i++) {
        char was = text[i];
        text[i] = '!';
        put(text, strlen(text));
        refused(-EINVAL, "not a whole file");
        text[i] = was;
    }
}

Test(tls_ticket_file, more_than_it_should_be)
{
    char long_one[2 * TLS_TICKET_FILE_BYTES_MAX];
    memset(long_one, '\n', sizeof(long_one));
    memcpy(long_one, text, strlen(text));
    put(long_one, strlen(text) + 1);
    refused(-EINVAL, "not a whole file");
    put(long_one, TLS_TICKET_FILE_BYTES_MAX);
    refused(-EINVAL, "not a whole file");
    put(long_one, sizeof(long_one));
    refused(-EINVAL, "not a whole file");
}

Test(tls_ticket_file, another_version)
{
    text[strlen("ringpost-ticket-keys ")] = '2';
    put(text, strlen(text));
    refused(-EINVAL, "ringpost-ticket-keys 1");
}

Test(tls_ticket_file, what_cannot_be_written)
{
    char nowhere[128];
    snprintf(nowhere, sizeof(nowhere), "%s/no/keys", directory);
    cr_assert_eq(tls_ticket_keys_write(nowhere, &keys, why), -ENOENT);
    cr_assert_not_null(strstr(why, "directory must be writable"), "%s", why);
    unlink(path);
    cr_assert_eq(mkdir(path, 0700), 0);
    cr_assert_eq(tls_ticket_keys_write(path, &keys, why), -EINVAL);
    DIR *listing = opendir(directory);
    unsigned left = 0;
    for (struct dirent *entry; (entry = readdir(listing)) != NULL;)
        left += entry->d_name[0] != '.';
    closedir(listing);
    cr_assert_eq(left, 1, "no temporary file stays");
}

Test(tls_ticket_file, back_as_it_was)
{
    struct stat st;
    cr_assert_eq(read_it(), 0, "%s", why);
    cr_assert_eq(memcmp(&read_back, &keys, sizeof(keys)), 0);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0600);
    tls_ticket_keys_make(NOW_US, &keys);
    cr_assert_eq(tls_ticket_keys_write(path, &keys, why), 0);
    cr_assert_eq(read_it(), 0, "%s", why);
    cr_assert_eq(memcmp(&read_back, &keys, sizeof(keys)), 0, "without a previous one");
}

Test(tls_ticket_file, its_mode_stays)
{
    struct stat st;
    chmod(path, 0640);
    cr_assert_eq(tls_ticket_keys_write(path, &keys, why), 0);
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 07777, 0640);
}

static void *writer(void *argument)
{
    struct tls_ticket_keys own;
    char words[TLS_TICKET_WHY_BYTES_MAX];
    for (unsigned i = 0; i < 100; i++) {
        tls_ticket_keys_make(NOW_US, &own);
        if (i % 2 == 1)
            tls_ticket_keys_rotate(&own, NOW_US);
        if (tls_ticket_keys_write(path, &own, words) < 0)
            return argument;
    }
    return NULL;
}

Test(tls_ticket_file, never_half_written, .timeout = 60)
{
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, writer, path), 0);
    for (unsigned i = 0; i < 500; i++)
        cr_assert_eq(read_it(), 0, "%s", why);
    for (unsigned i = 0; i < 2; i++) {
        void *failed;
        pthread_join(threads[i], &failed);
        cr_assert_null(failed);
    }
}

Test(tls_ticket_file, two_nodes)
{
    struct tls_tickets *tickets[2];
    SSL_CTX *servers[2];
    SSL_CTX *client = handshake_client_context();
    SSL_SESSION *session = NULL;
    for (unsigned i = 0; i < 2; i++) {
        cr_assert_eq(read_it(), 0);
        servers[i] = handshake_server_context();
        cr_assert_eq(tls_tickets_make(&tickets[i]), 0);
        cr_assert_eq(tls_tickets_attach(tickets[i], servers[i]), 0);
        cr_assert_eq(tls_tickets_take(tickets[i], &read_back), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        bool resumed;
        cr_assert(handshake_once(client, servers[i % 2], &session, &resumed));
        cr_assert_eq(resumed, i > 0);
    }
    for (unsigned i = 0; i < 2; i++) {
        SSL_CTX_free(servers[i]);
        tls_tickets_free(tickets[i]);
    }
    SSL_SESSION_free(session);
    SSL_CTX_free(client);
}
