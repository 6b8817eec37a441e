/*
 * tls_crl.h - certificate revocation lists (RFC 5280 section 5): read, kept in a set, asked
 *
 *   path of a verified chain --tls_crl_question--> what must be asked about each certificate in it
 *   bytes that were fetched  --tls_crl_read-->     a list that its issuer signed, or why it is none
 *   lists                    --tls_crls_make-->    a set, which answers questions: tls_crls_status
 *
 * A list is known by its id: the issuer's certificate and the URL. So nobody's list answers for
 * another issuer, whatever is served at the URL. A set never changes; whoever has a list that is
 * newer makes another set. Counted references: lists and sets may be read by any thread.
 *
 * An answer takes two binary searches for each certificate, and no memory. Whatever is not known
 * for sure is UNKNOWN: no list, one whose next update is over (no grace is given; but who is on it
 * stays revoked), one that is for other certificates. Refused as lists: indirect ones, deltas,
 * those for some reasons only, weak signatures. Bounds: TLS_CRL_BYTES_MAX, TLS_CRL_ENTRIES_MAX,
 * TLS_CRLS_MAX.
 */
#ifndef RINGPOST_TLS_CRL_H
#define RINGPOST_TLS_CRL_H

#include "tls/tls_certificate.h"
#include "tls/tls_text.h"

enum {
    TLS_CRL_BYTES_MAX = 16 << 20,       /* of one list */
    TLS_CRL_ENTRIES_MAX = 1 << 18,      /* likewise */
    TLS_CRLS_MAX = 4'096,               /* in a set */
    TLS_CRL_URL_MAX = 512,              /* with its terminator */
    TLS_CRL_POINTERS_MAX = 4,           /* of a certificate that are looked at */
    TLS_CRL_SERIAL_BYTES = 22,          /* its length, and up to 21 octets */
    TLS_CRL_SHORT_LIVED_S = 7 * 86'400, /* what needs no list when it names none */
};

/* What follows from a status is policy's. */
enum tls_revocation {
    TLS_REVOCATION_OFF,  /* not asked */
    TLS_REVOCATION_SOFT, /* known revoked: refused */
    TLS_REVOCATION_HARD, /* and unknown, too */
};

enum tls_crl_status {
    TLS_CRL_NONE, /* nothing was asked */
    TLS_CRL_GOOD,
    TLS_CRL_UNKNOWN,
    TLS_CRL_REVOKED,
    TLS_CRL_STATUSES
};
/* "good", "unknown", "revoked"; "" for NONE. */
const char *tls_crl_status_name(enum tls_crl_status status);

/* About one certificate below the root. Any of the lists that it points to will do. */
struct tls_crl_question {
    uint8_t serial[TLS_CRL_SERIAL_BYTES]; /* the first octet is the length; 0: too long */
    bool is_ca;
    bool needs_none; /* points to no list, and lives for a few days */
    uint8_t count;
    uint8_t ids[TLS_CRL_POINTERS_MAX][TLS_DIGEST_BYTES];
};

/* About a path, the leaf first, without its root. */
struct tls_crl_questions {
    uint8_t count;  /* 0: there was no path */
    bool is_longer; /* than can be asked about: unknown */
    struct tls_crl_question at[TLS_CHAIN_MAX];
};

/* Where a list is to be had, and who must have signed it. Freed by free. */
struct tls_crl_pointer {
    uint8_t id[TLS_DIGEST_BYTES];
    char url[TLS_CRL_URL_MAX];
    char connector[TLS_SUBJECT_MAX]; /* whose peer pointed to it; filled in by who tells of it */
    size_t issuer_size;
    uint8_t issuer[]; /* its certificate, DER */
};

struct tls_crl;
struct tls_crls;

/* ---- certificates ---- */

/* issuer is the certificate above it. */
void tls_crl_question(X509 *x509, X509 *issuer, struct tls_crl_question *question);
/* The URL of number index of that question's ids. False: there is no such one. */
bool tls_crl_url(X509 *x509, unsigned index, char url[static TLS_CRL_URL_MAX]);
void tls_crl_id(const char *url, struct slice issuer, uint8_t id[static TLS_DIGEST_BYTES]);
/* http or https, printable, without user or password, not too long. */
bool tls_crl_url_usable(struct slice url);
/* NULL: no memory. */
struct tls_crl_pointer *tls_crl_pointer_make(const char *url, struct slice issuer);

/* ---- one list ---- */

/* DER, or the first "X509 CRL" of PEM. issuer: the certificate, DER. Says nothing about dates.
 * 0, or with why: -EBADMSG, -EFBIG above a bound, -ENOTSUP for a kind that is refused, -EACCES: the
 * issuer has not signed it, -ENOMEM. */
[[nodiscard]] int tls_crl_read(struct slice bytes, const char *url, struct slice issuer,
                               struct tls_crl **list, char why[static TLS_WHY_MAX]);
struct tls_crl *tls_crl_use(struct tls_crl *list);
/* The last one frees it. NULL is left alone. */
void tls_crl_drop(struct tls_crl *list);

const uint8_t *tls_crl_list_id(const struct tls_crl *list);
/* "CN=..": who signed it. */
const char *tls_crl_issuer(const struct tls_crl *list);
int64_t tls_crl_this_update(const struct tls_crl *list); /* unix seconds */
int64_t tls_crl_next_update(const struct tls_crl *list);
unsigned tls_crl_count(const struct tls_crl *list);
/* When a set with it was asked about a certificate that it is for; 0: never. */
int64_t tls_crl_asked_at(const struct tls_crl *list);

/* ---- a set ---- */

/* Uses count lists, of different ids. 0 or -ENOMEM. */
[[nodiscard]] int tls_crls_make(struct tls_crl *const *lists, unsigned count,
                                struct tls_crls **set);
struct tls_crls *tls_crls_use(struct tls_crls *set);
void tls_crls_drop(struct tls_crls *set); /* NULL is left alone */

/* The worst of what is known about each; NONE: there is no path. set NULL: an empty one. why names
 * the certificate, by its place (1: the leaf). */
enum tls_crl_status tls_crls_status(const struct tls_crls *set,
                                    const struct tls_crl_questions *questions, int64_t now_seconds,
                                    char why[static TLS_WHY_MAX]);

#endif
