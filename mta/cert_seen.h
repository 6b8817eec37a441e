/*
 * cert_seen.h - certificates that were seen last: our own, and those that partners showed
 *
 * A record for each connector and place: outbound the host that showed it, inbound the name in it
 * that we know the partner by (its pin, where there is none). Another certificate in the same place
 * takes the record over, so that what was renewed is not warned of. Kept by the control thread
 * (mta/control_certificates.c) in a store.
 */
#ifndef RINGPOST_MTA_CERT_SEEN_H
#define RINGPOST_MTA_CERT_SEEN_H

#include "mta/connector.h"
#include "mta/store.h"
#include "tls/tls_verify.h"

enum {
    CERT_SEEN_MAX = 8'192,
    CERT_SEEN_PLACE_MAX = 264, /* a host with its port, or a name; and a terminator */
    CERT_SEEN_TEXT_MAX = 160,
    CERT_SEEN_FORGET_S = 30 * 86'400, /* a partner's that was not shown for longer says nothing */
};

/* The order of keys. */
enum cert_side { CERT_OF_IN, CERT_OF_OUT, CERT_OF_US, CERT_SIDES };

/* Kept on disk as it is: a change of it is another format. */
struct cert_seen {
    int64_t first, last; /* seen, seconds since the epoch */
    int64_t not_before, not_after;
    int64_t told_day;   /* of the last warning, days since the epoch */
    uint32_t told_left; /* the limit that it was for; 0: none was given */
    uint8_t usage;      /* enum tls_usage */
    bool valid;
    uint8_t digest[TLS_DIGEST_BYTES];
    uint8_t spki[TLS_DIGEST_BYTES];
    char names[CERT_SEEN_TEXT_MAX];
    char issuer[CERT_SEEN_TEXT_MAX];
    char root[CERT_SEEN_TEXT_MAX]; /* "": the chain leads to none */
};

struct cert_place {
    enum cert_side side;
    char title[CONNECTOR_NAME_MAX + 1]; /* of the connector, or of the certificate of ours */
    char where[CERT_SEEN_PLACE_MAX];
};

void cert_seen_of(const struct tls_certificate *certificate, bool valid, const char *root,
                  int64_t now, struct cert_seen *seen);
/* seen again, or another one in its place. */
void cert_seen_again(struct cert_seen *record, const struct cert_seen *seen);
/* Whether to warn now: once for each of days (descending) that is left or less, and once a day from
 * the last one on. Remembers that it was told. */
bool cert_seen_due(struct cert_seen *record, const unsigned *days, unsigned count, int64_t now);

[[nodiscard]] int cert_seen_open(const char *path, struct store **store,
                                 struct store_report *report);
/* As in mta/store.h. */
[[nodiscard]] int cert_seen_get(struct store *store, const struct cert_place *place,
                                struct cert_seen *record);
[[nodiscard]] int cert_seen_put(struct store *store, const struct cert_place *place,
                                const struct cert_seen *record);
[[nodiscard]] int cert_seen_drop(struct store *store, const struct cert_place *place);
/* The first one behind place, which it then is; all zero: the first of all. By side, title, where.
 */
[[nodiscard]] int cert_seen_next(struct store *store, struct cert_place *place,
                                 struct cert_seen *record);

#endif
