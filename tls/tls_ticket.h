/*
 * tls_ticket.h - session tickets under keys of our own, which every shard has, and every node may
 *
 * Keys are a plain value: the control thread makes and rotates them, a copy goes to each shard in a
 * handoff, and whoever is done with a copy wipes it. A shard's struct tls_tickets seals under the
 * current key and opens what either seals. A file is how a fleet shares them (tls_ticket_file.c).
 */
#ifndef RINGPOST_TLS_TICKET_H
#define RINGPOST_TLS_TICKET_H

#include "core/compiler.h"
#include "core/metrics.h"

typedef struct ssl_ctx_st SSL_CTX; /* BoringSSL's: for callers that do not know it */

enum {
    TLS_TICKET_NAME_BYTES = 16,
    TLS_TICKET_SECRET_BYTES = 32, /* AES-256-GCM */
    TLS_TICKET_HAS_CURRENT = 1,
    TLS_TICKET_HAS_PREVIOUS = 2,
    TLS_TICKET_FILE_BYTES_MAX = 1024,
    TLS_TICKET_WHY_BYTES_MAX = 512,
};

/* No older key is believed: RFC 8446 section 4.6.1 lets no ticket live longer. Rotate daily. */
static const int64_t TLS_TICKET_AGE_MAX_US = 7LL * 86'400 * 1'000'000;

struct tls_ticket_key {
    uint8_t name[TLS_TICKET_NAME_BYTES]; /* random; goes into each ticket, in the clear */
    uint8_t secret[TLS_TICKET_SECRET_BYTES];
};

struct tls_ticket_keys {
    struct tls_ticket_key current;
    struct tls_ticket_key previous;
    uint64_t flags;  /* TLS_TICKET_HAS_..., as wide as the rest: no padding to compare */
    int64_t made_us; /* the current one, since the epoch */
};

/* A first key, no previous one. */
void tls_ticket_keys_make(int64_t now_us, struct tls_ticket_keys *keys);
/* The current one becomes the previous one, whose own is forgotten. */
void tls_ticket_keys_rotate(struct tls_ticket_keys *keys, int64_t now_us);
/* Drops the previous key when nothing that it sealed can be alive. True: it did, tell the shards.
 */
bool tls_ticket_keys_expired(struct tls_ticket_keys *keys, int64_t now_us, int64_t lifetime_us);
void tls_ticket_keys_wipe(struct tls_ticket_keys *keys);

/* ---- the file; text, see tls_ticket_file.c ---- */

/* 0, or with words for the log in why, which tell the way out: what open and read fail with;
 * -EPERM: others may read it, or own it; -EINVAL: not such a file, or a part of one; -ESTALE: too
 * old. */
[[nodiscard]] int tls_ticket_keys_read(const char *path, int64_t now_us,
                                       struct tls_ticket_keys *keys,
                                       char why[static TLS_TICKET_WHY_BYTES_MAX]);
/* Durable when it returns; who reads meanwhile has the old ones or the new ones, whole. The owner,
 * the group and the mode of a file that was there stay; a new one is ours alone. 0, or an errno. */
[[nodiscard]] int tls_ticket_keys_write(const char *path, const struct tls_ticket_keys *keys,
                                        char why[static TLS_TICKET_WHY_BYTES_MAX]);

/* ---- a shard's ---- */

struct tls_ticket_numbers {
    uint64_t sealed, opened_current, opened_previous, unknown_key, damaged;
    uint64_t exhausted; /* no current key, or it has sealed all that it may */
    uint64_t withheld;  /* a client certificate was presented: its verdict is not for tickets */
    uint64_t locked;
};
extern const struct metric tls_ticket_metrics_table[];
extern const unsigned tls_ticket_metrics_count;

struct tls_tickets; /* no keys at first: gives none out, takes none */

/* 0, -ENOMEM, or what the mapping for the keys failed with. */
[[nodiscard]] int tls_tickets_make(struct tls_tickets **tickets);
/* After the last SSL_CTX that it was attached to. Wipes. NULL is fine. */
void tls_tickets_free(struct tls_tickets *tickets);
/* Copies; the caller's copy stays the caller's to wipe. 0, or -EINVAL: the library refuses them,
 * and what was there before is gone. */
[[nodiscard]] int tls_tickets_take(struct tls_tickets *tickets, const struct tls_ticket_keys *keys);
/* Tickets of this context are ours, one a handshake. Attach to each context that a connection may
 * change to. The session id context, without which a ticket of one listener were good on all, is
 * the caller's to set. 0, or -ENOMEM. */
[[nodiscard]] int tls_tickets_attach(struct tls_tickets *tickets, SSL_CTX *context);
const struct tls_ticket_numbers *tls_tickets_numbers(const struct tls_tickets *tickets);

#endif
