/*
 * cert_usage.h - which inbound connectors were shown a certificate that is not for clients
 *
 * The store of certificates is the control thread's, and another process must not read it (see
 * mta/store.h). So this, which `ringpost check` and reloads want of it, stands in a file beside it:
 *   {"CONNECTOR": {"where": .., "names": ..}, ..}
 * of each connector the first one will do.
 */
#ifndef RINGPOST_MTA_CERT_USAGE_H
#define RINGPOST_MTA_CERT_USAGE_H

#include <jansson.h>

#include "mta/cert_seen.h"

struct config;

enum { CERT_USAGE_PATH_MAX = STORE_PATH_MAX };

/* Whether it may be shown by a client: each usage that includes that. */
bool cert_usage_fits_client(unsigned usage);
void cert_usage_path(const struct config *config, char path[static CERT_USAGE_PATH_MAX]);
/* Made from the store. 0, or an errno of it or of the file. */
[[nodiscard]] int cert_usage_write(const char *path, struct store *store);
/* To be released; an empty object: there is none. */
json_t *cert_usage_read(const char *path);

#endif
