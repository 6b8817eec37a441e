/*
 * tls_crl_watch.h - a shard's view of revocation: the set of lists it has, and those it misses
 *
 *   a status is UNKNOWN, and somebody cares --tls_crl_watch_want--> tell, once in TLS_CRL_TELL_S
 *     --> who fetches lists --a set that has it--> tls_crl_watch_take
 *
 * No session waits for a list. What was told of is remembered in a table of fixed size, by id; two
 * that fall into the same place are told of more often, and who fetches has bounds of its own.
 */
#ifndef RINGPOST_TLS_CRL_WATCH_H
#define RINGPOST_TLS_CRL_WATCH_H

#include "core/metrics.h"
#include "tls/tls_crl.h"

enum { TLS_CRL_TOLD = 256, TLS_CRL_TELL_S = 30 };

struct tls_peer;
struct tls_roots;
struct tls_session;

struct tls_crl_numbers {
    uint64_t server[TLS_CRL_STATUSES];
    uint64_t client[TLS_CRL_STATUSES];
    uint64_t told;
};
extern const struct metric tls_crl_metrics_table[];
extern const unsigned tls_crl_metrics_count;

struct tls_crl_watch {
    struct tls_crls *set; /* NULL: there are none */
    /* Takes the pointer over; NULL: nobody fetches. */
    void (*tell)(void *owner, struct tls_crl_pointer *pointer);
    void *owner;
    const char *connector; /* of the one that is being told of */
    struct {
        uint8_t id[TLS_DIGEST_BYTES];
        int64_t at; /* seconds */
    } told[TLS_CRL_TOLD];
    struct tls_crl_numbers numbers;
};

/* Takes the reference; the set it had is dropped. */
void tls_crl_watch_take(struct tls_crl_watch *watch, struct tls_crls *set);
/* What the lists of its shard say of a session's chain, of which peer is the verdict. */
enum tls_crl_status tls_crl_watch_status(const struct tls_session *session,
                                         const struct tls_peer *peer, char why[static TLS_WHY_MAX]);
/* It was looked up for a decision. */
void tls_crl_watch_count(const struct tls_session *session, enum tls_crl_status status);
/* Some list of the session's chain, as roots see it, is missing or old. connector: for whom. */
void tls_crl_watch_want(const struct tls_session *session, const struct tls_peer *peer,
                        const struct tls_roots *roots, const char *connector);

#endif
