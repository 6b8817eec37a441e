/*
 * cert_usage.h - which inbound connectors were shown a certificate that is not for clients, or that
 * there will be none after for clients
 *
 * The store of certificates is the control thread's, and another process must not read it (see
 * mta/store.h). So this, which `ringpost check` and reloads want of it, stands in a file beside it:
 *   {"CONNECTOR": {"where": .., "names": .., "stops": ..}, ..}
 * of each connector the first one will do. stops: it is for clients, and its CA has announced to
 * issue none for them from that day on; "": it is not for clients now.
 */
#ifndef RINGPOST_MTA_CERT_USAGE_H
#define RINGPOST_MTA_CERT_USAGE_H

#include <jansson.h>

#include "mta/cert_seen.h"

struct config;

enum { CERT_USAGE_PATH_MAX = STORE_PATH_MAX };

/* Whether it may be shown by a client: each usage that includes that. */
bool cert_usage_fits_client(unsigned usage);
/* The day ("2027-03-01") from which on the CA of this root, by its own announcement, issues no
 * certificates for clients; NULL: none is known here. As of November 2026. */
const char *cert_usage_stops(const char *root);
void cert_usage_path(const struct config *config, char path[static CERT_USAGE_PATH_MAX]);
/* Made from the store. 0, or an errno of it or of the file. */
[[nodiscard]] int cert_usage_write(const char *path, struct store *store);
/* To be released; an empty object: there is none. */
json_t *cert_usage_read(const char *path);

#endif
