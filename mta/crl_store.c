/*
 * crl_store.c - files with lists of revoked certificates
 *
 * Numbers are in the order of the machine: the files are this machine's, and a checksum that does
 * not fit is all that becomes of one that was carried elsewhere.
 */
#include "mta/crl_store.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "core/check.h"
#include "mta/config.h"
#include "tls/tls_pem.h"

enum {
    DIRECTORY_MODE = 0700,
    FILE_MODE = 0600,
    ID_HEX = 2 * TLS_DIGEST_BYTES,
    ISSUER_BYTES_MAX = 64 << 10,
};

static const char magic[16] = "ringpost crl 1\n";
static const char state_name[] = "state.json";
static const char suffix[] = ".crl";
static const char unfinished[] = ".new";

struct head {
    char magic[16];
    int64_t fetched_at;
    int64_t seen_at;
    uint32_t url_size, connector_size, issuer_size, list_size;
};

enum {
    PARTS = 4,
    FILE_BYTES_MAX = sizeof(struct head) + TLS_CRL_URL_MAX + TLS_SUBJECT_MAX + ISSUER_BYTES_MAX +
                     TLS_CRL_BYTES_MAX + sizeof(uint64_t)
};

void crl_store_path(const struct config *config, char path[static CRL_STORE_PATH_MAX])
{
    if (*config->crl.directory != '\0')
        snprintf(path, CRL_STORE_PATH_MAX, "%s", config->crl.directory);
    else
        snprintf(path, CRL_STORE_PATH_MAX, "%s/crl", config->spool.directory);
}

int crl_store_open(const char *path)
{
    return mkdir(path, DIRECTORY_MODE) == 0 || errno == EEXIST ? 0 : -errno;
}

static void file_name(const uint8_t id[static TLS_DIGEST_BYTES],
                      char name[static ID_HEX + sizeof(suffix)])
{
    size_t size = tls_text_hex(slice_of(id, TLS_DIGEST_BYTES), name, ID_HEX + 1);
    memcpy(name + size, suffix, sizeof(suffix));
}

/* ---- writing ---- */

static int write_all(int fd, struct slice bytes)
{
    while (bytes.size > 0) {
        ssize_t done = write(fd, bytes.data, bytes.size);
        if (done < 0 && errno != EINTR)
            return -errno;
        bytes = slice_from(bytes, done < 0 ? 0 : (size_t)done);
    }
    return 0;
}

/* All of it under that name, or nothing. */
static int replace(const char *directory, const char *name, const struct slice *parts,
                   unsigned count)
{
    char beside[ID_HEX + sizeof(suffix) + sizeof(unfinished)];
    snprintf(beside, sizeof(beside), "%s%s", name, unfinished);
    int dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        return -errno;
    int fd = openat(dir, beside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, FILE_MODE);
    int r = fd < 0 ? -errno : 0;
    for (unsigned i = 0; i < count && r == 0; i++)
        r = write_all(fd, parts[i]);
    if (r == 0 && fdatasync(fd) < 0)
        r = -errno;
    if (fd >= 0)
        close(fd);
    if (r == 0 && renameat(dir, beside, dir, name) < 0)
        r = -errno;
    if (r < 0 && fd >= 0)
        (void)unlinkat(dir, beside, 0);
    close(dir);
    return r;
}

int crl_store_write(const char *path, const uint8_t id[static TLS_DIGEST_BYTES],
                    const struct crl_record *record)
{
    struct head head = { .fetched_at = record->fetched_at, .seen_at = record->seen_at };
    const struct slice parts[PARTS] = { slice_of_string(record->url),
                                        slice_of_string(record->connector), record->issuer,
                                        record->list };
    memcpy(head.magic, magic, sizeof(magic));
    head.url_size = (uint32_t)parts[0].size;
    head.connector_size = (uint32_t)parts[1].size;
    head.issuer_size = (uint32_t)parts[2].size;
    head.list_size = (uint32_t)parts[3].size;
    XXH3_state_t *hash = XXH3_createState();
    if (hash == NULL)
        return -ENOMEM;
    XXH3_64bits_reset(hash);
    struct slice all[PARTS + 2] = { slice_of(&head, sizeof(head)) };
    memcpy(&all[1], parts, sizeof(parts));
    for (unsigned i = 0; i <= PARTS; i++)
        XXH3_64bits_update(hash, all[i].data, all[i].size);
    const uint64_t sum = XXH3_64bits_digest(hash);
    XXH3_freeState(hash);
    all[PARTS + 1] = slice_of(&sum, sizeof(sum));
    char name[ID_HEX + sizeof(suffix)];
    file_name(id, name);
    return replace(path, name, all, ARRAY_COUNT(all));
}

void crl_store_remove(const char *path, const uint8_t id[static TLS_DIGEST_BYTES])
{
    char name[ID_HEX + sizeof(suffix)], file[CRL_STORE_PATH_MAX + sizeof(name)];
    file_name(id, name);
    snprintf(file, sizeof(file), "%s/%s", path, name);
    (void)unlink(file);
}

int crl_store_write_state(const char *path, const json_t *state)
{
    char *text = json_dumps(state, JSON_INDENT(1) | JSON_ENSURE_ASCII);
    if (text == NULL)
        return -ENOMEM;
    const struct slice part = slice_of_string(text);
    int r = replace(path, state_name, &part, 1);
    free(text);
    return r;
}

/* ---- reading ---- */

/* The parts of a file, or false. The texts are copied: a file has no terminators. */
static bool parse(struct slice file, char url[static TLS_CRL_URL_MAX],
                  char connector[static TLS_SUBJECT_MAX], struct crl_record *record)
{
    struct head head;
    uint64_t sum;
    if (file.size < sizeof(head) + sizeof(sum))
        return false;
    memcpy(&head, file.data, sizeof(head));
    memcpy(&sum, file.data + file.size - sizeof(sum), sizeof(sum));
    const struct slice bytes = slice_part(file, 0, file.size - sizeof(sum));
    if (memcmp(head.magic, magic, sizeof(magic)) != 0 ||
        XXH3_64bits(bytes.data, bytes.size) != sum || head.url_size >= TLS_CRL_URL_MAX ||
        head.connector_size >= TLS_SUBJECT_MAX || head.issuer_size > ISSUER_BYTES_MAX ||
        head.list_size > TLS_CRL_BYTES_MAX ||
        bytes.size != sizeof(head) + (size_t)head.url_size + head.connector_size +
                          head.issuer_size + head.list_size)
        return false;
    struct slice rest = slice_from(bytes, sizeof(head));
    slice_to_string(slice_part(rest, 0, head.url_size), url, TLS_CRL_URL_MAX);
    rest = slice_from(rest, head.url_size);
    slice_to_string(slice_part(rest, 0, head.connector_size), connector, TLS_SUBJECT_MAX);
    rest = slice_from(rest, head.connector_size);
    *record = (struct crl_record) {
        .url = url,
        .connector = connector,
        .issuer = slice_part(rest, 0, head.issuer_size),
        .list = slice_from(rest, head.issuer_size),
        .fetched_at = head.fetched_at,
        .seen_at = head.seen_at,
    };
    return tls_crl_url_usable(slice_of_string(url));
}

/* Is it what its name says, and of use? */
static bool read_one(const char *file, const char *name,
                     bool (*taken)(void *owner, const struct crl_record *record), void *owner)
{
    struct tls_pem_file bytes;
    char why[TLS_WHY_MAX], url[TLS_CRL_URL_MAX], connector[TLS_SUBJECT_MAX];
    char right_name[ID_HEX + sizeof(suffix)];
    struct crl_record record;
    uint8_t id[TLS_DIGEST_BYTES];
    if (tls_pem_file_read(file, FILE_BYTES_MAX, &bytes, why) < 0)
        return false;
    bool good = parse(slice_of(bytes.data, bytes.size), url, connector, &record);
    if (good) {
        tls_crl_id(url, record.issuer, id);
        file_name(id, right_name);
        good = strcmp(name, right_name) == 0 && taken(owner, &record);
    }
    tls_pem_file_free(&bytes);
    return good;
}

static bool ends_with(const char *name, const char *end)
{
    size_t size = strlen(name), end_size = strlen(end);
    return size >= end_size && strcmp(name + size - end_size, end) == 0;
}

int crl_store_read(const char *path, bool (*taken)(void *owner, const struct crl_record *record),
                   void *owner, unsigned *damaged)
{
    *damaged = 0;
    DIR *directory = opendir(path);
    if (directory == NULL)
        return -errno;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        char file[CRL_STORE_PATH_MAX + sizeof(entry->d_name) + 1];
        snprintf(file, sizeof(file), "%s/%s", path, entry->d_name);
        bool is_list = ends_with(entry->d_name, suffix);
        if (is_list && read_one(file, entry->d_name, taken, owner))
            continue;
        *damaged += is_list;
        if (is_list || ends_with(entry->d_name, unfinished))
            (void)unlink(file);
    }
    closedir(directory);
    return 0;
}

json_t *crl_store_read_state(const char *path)
{
    char file[CRL_STORE_PATH_MAX + sizeof(state_name) + 1];
    snprintf(file, sizeof(file), "%s/%s", path, state_name);
    return json_load_file(file, 0, NULL);
}
