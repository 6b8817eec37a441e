/*
 * cert_text.h - certificates as JSON objects, for `ringpost cert show` and `ringpost tls probe`
 */
#ifndef RINGPOST_MTA_CERT_TEXT_H
#define RINGPOST_MTA_CERT_TEXT_H

#include <jansson.h>

#include "tls/tls_certificate.h"

enum { CERT_EXPIRES_SOON_DAYS = 21 };

/* Whole days from now until not_after; negative: that many since. */
int64_t cert_days_left(int64_t not_after, int64_t now_seconds);
/* subject, issuer, names, key, serial, not_before, not_after, days_left, fingerprint, pin,
 * pin_base64. */
json_t *cert_json(const struct tls_certificate *certificate, int64_t now_seconds);
/* The same read from DER; what cannot be read is {"error": words}. */
json_t *cert_json_of(struct slice der, int64_t now_seconds);
/* Its lines. */
void cert_print(const json_t *certificate);

#endif
