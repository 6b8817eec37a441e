/*
 * cert_usage.h - what checks want to know of certificates that partners have shown: which inbound
 * connectors were shown one that is not for clients, or that there will be none after for clients;
 * and whose keys are those of certificates that will soon expire
 *
 * The store of certificates is the control thread's, and another process must not read it (see
 * mta/store.h). So this, which `ringpost check` and reloads want of it, stands in a file beside it:
 *   {"CONNECTOR": {"where": .., "names": .., "stops": ..}, ..,
 *    ":keys": {HEX: {"where": .., "until": unix seconds}, ..}}
 * of each connector the first one will do. stops: it is for clients, and its CA has announced to
 * issue none for them from that day on; "": it is not for clients now. Keys are those that expire
 * within CERT_USAGE_SOON_S of the writing, at which nothing is left out that a check would tell:
 * it is written anew each hour. Bound: CERT_SEEN_MAX records.
 */
#ifndef RINGPOST_MTA_CERT_USAGE_H
#define RINGPOST_MTA_CERT_USAGE_H

#include <jansson.h>

#include "mta/cert_seen.h"

struct config;

enum {
    CERT_USAGE_PATH_MAX = STORE_PATH_MAX,
    CERT_USAGE_DAY_S = 86'400,
    CERT_USAGE_SOON_S = 32 * CERT_USAGE_DAY_S, /* two days more than L-07 asks for */
};

/* Whether it may be shown by a client: each usage that includes that. */
bool cert_usage_fits_client(unsigned usage);
/* The day ("2027-03-01") from which on the CA of this root, by its own announcement, issues no
 * certificates for clients; NULL: none is known here. As of November 2026. */
const char *cert_usage_stops(const char *root);
void cert_usage_path(const struct config *config, char path[static CERT_USAGE_PATH_MAX]);
/* Made from the store; now in unix seconds. 0, or an errno of it or of the file. */
[[nodiscard]] int cert_usage_write(const char *path, struct store *store, int64_t now);
/* To be released; an empty object: there is none. */
json_t *cert_usage_read(const char *path);
/* Of the certificate of this key that was shown last; NULL: none is known to expire soon. */
const json_t *cert_usage_key(const json_t *all, const uint8_t spki[static TLS_DIGEST_BYTES]);

#endif
