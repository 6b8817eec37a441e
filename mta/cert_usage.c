/*
 * cert_usage.c - from records of certificates to a file of JSON, and back
 */
#include "mta/cert_usage.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "mta/cli.h"
#include "mta/config.h"
#include "tls/tls_text.h"

bool cert_usage_fits_client(unsigned usage)
{
    return (usage & (TLS_USAGE_CLIENT | TLS_USAGE_ANY)) != 0;
}

/* By the organisation of the root. Chrome's root programme wants all public ones to stop; these
 * have said when, and some have put it off before: DigiCert's ALERT53 of March 2026, Sectigo's
 * notice of April 2026, Let's Encrypt's for its profile tlsclient. */
static const struct {
    const char *organization;
    const char *day;
} stops[] = {
    { "O=Internet Security Research Group", "2026-07-08" }, /* Let's Encrypt */
    { "O=DigiCert Inc", "2027-03-01" },
    { "O=DigiCert, Inc.", "2027-03-01" },
    { "O=Sectigo Limited", "2027-02-10" },
    { "O=The USERTRUST Network", "2027-02-10" },
    { "O=COMODO CA Limited", "2027-02-10" },
};

const char *cert_usage_stops(const char *root)
{
    for (size_t i = 0; i < ARRAY_COUNT(stops); i++)
        if (strstr(root, stops[i].organization) != NULL)
            return stops[i].day;
    return NULL;
}

void cert_usage_path(const struct config *config, char path[static CERT_USAGE_PATH_MAX])
{
    snprintf(path, CERT_USAGE_PATH_MAX, "%s/certificates.json", config->spool.directory);
}

static const char keys_name[] = ":keys"; /* a title has no colon */

static void key_text(const uint8_t spki[static TLS_DIGEST_BYTES],
                     char out[static TLS_DIGEST_HEX_BYTES])
{
    tls_text_hex(slice_of(spki, TLS_DIGEST_BYTES), out, TLS_DIGEST_HEX_BYTES);
}

/* One key may have had several certificates: what counts is the one that lasts. */
static void key_gather(json_t *keys, const struct cert_place *place, const struct cert_seen *record)
{
    char key[TLS_DIGEST_HEX_BYTES];
    key_text(record->spki, key);
    const json_t *before = json_object_get(keys, key);
    if (before == NULL || json_integer_value(json_object_get(before, "until")) < record->not_after)
        json_object_set_new(
            keys, key,
            json_pack("{s:s, s:I}", "where", place->where, "until", (json_int_t)record->not_after));
}

static void keys_trim(json_t *keys, int64_t now)
{
    const char *key;
    json_t *value;
    void *next;
    json_object_foreach_safe(keys, next, key, value)
    {
        if (json_integer_value(json_object_get(value, "until")) >= now + CERT_USAGE_SOON_S)
            json_object_del(keys, key);
    }
}

static int gather(struct store *store, json_t *all, json_t *keys)
{
    struct cert_place place = { 0 };
    struct cert_seen record;
    int r;
    while ((r = cert_seen_next(store, &place, &record)) == 0 && place.side != CERT_OF_US) {
        key_gather(keys, &place, &record);
        if (place.side != CERT_OF_IN)
            continue;
        const bool fits = cert_usage_fits_client(record.usage);
        const char *day = fits ? cert_usage_stops(record.root) : "";
        const json_t *before = json_object_get(all, place.title);
        /* One that is refused now says more than one that will be. */
        const bool is_worse = !fits && *cli_text(before, "stops") != '\0';
        if (day == NULL || (before != NULL && !is_worse))
            continue;
        json_object_set_new(all, place.title,
                            json_pack("{s:s, s:s, s:s}", "where", place.where, "names",
                                      record.names, "stops", day));
    }
    return r == -ENOENT ? 0 : r;
}

int cert_usage_write(const char *path, struct store *store, int64_t now)
{
    char beside[CERT_USAGE_PATH_MAX + sizeof(".new")];
    snprintf(beside, sizeof(beside), "%s.new", path);
    json_t *all = json_object();
    json_t *keys = json_object();
    int r = gather(store, all, keys);
    keys_trim(keys, now);
    json_object_set_new(all, keys_name, keys);
    errno = 0;
    if (r == 0 && (json_dump_file(all, beside, JSON_INDENT(1) | JSON_SORT_KEYS) < 0 ||
                   rename(beside, path) < 0)) {
        r = errno == 0 ? -EIO : -errno;
        unlink(beside);
    }
    json_decref(all);
    return r;
}

json_t *cert_usage_read(const char *path)
{
    json_t *all = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    if (json_is_object(all))
        return all;
    json_decref(all);
    return json_object();
}

const json_t *cert_usage_key(const json_t *all, const uint8_t spki[static TLS_DIGEST_BYTES])
{
    char key[TLS_DIGEST_HEX_BYTES];
    key_text(spki, key);
    return json_object_get(json_object_get(all, keys_name), key);
}
