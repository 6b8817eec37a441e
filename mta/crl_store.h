/*
 * crl_store.h - lists of revoked certificates on disk, so that a restart knows what was known
 *
 * A directory of ours, a file for each list, called by its id: head, URL, connector, the issuer's
 * certificate, the list, and a checksum over it all. A file is written beside its place, synced and
 * renamed: it is there whole, or not at all. One that is not what was written is removed when it is
 * read, and told; the list is fetched again. state.json beside them is for `ringpost check` alone.
 *
 * Who reads a list verifies it again: the checksum is against disks, not against people.
 */
#ifndef RINGPOST_MTA_CRL_STORE_H
#define RINGPOST_MTA_CRL_STORE_H

#include <jansson.h>

#include "tls/tls_crl.h"

enum { CRL_STORE_PATH_MAX = 1'024 };

struct config;

struct crl_record {
    const char *url;
    const char *connector;
    struct slice issuer; /* DER */
    struct slice list;   /* as it was fetched */
    int64_t fetched_at;  /* unix seconds */
    int64_t seen_at;     /* when a certificate pointed to it */
};

/* Where the configuration says. */
void crl_store_path(const struct config *config, char path[static CRL_STORE_PATH_MAX]);
/* Makes the directory when there is none. 0 or errno. */
[[nodiscard]] int crl_store_open(const char *path);
/* 0 or errno. */
[[nodiscard]] int crl_store_write(const char *path, const uint8_t id[static TLS_DIGEST_BYTES],
                                  const struct crl_record *record);
void crl_store_remove(const char *path, const uint8_t id[static TLS_DIGEST_BYTES]);
/* Each record that is whole; taken says whether it is of any use, else it is removed as well. Those
 * that are not are removed and counted in damaged. 0 or errno. */
[[nodiscard]] int crl_store_read(const char *path,
                                 bool (*taken)(void *owner, const struct crl_record *record),
                                 void *owner, unsigned *damaged);
/* 0 or errno. */
[[nodiscard]] int crl_store_write_state(const char *path, const json_t *state);
/* To be released; NULL: there is none. */
json_t *crl_store_read_state(const char *path);

#endif
