/*
 * pair.h - two sessions of ours with a wire between them: bounded, in pieces, cut at will
 *
 * For unit tests, the soak and the fuzzer. A pair is one thread's. The wire gives and takes pieces
 * of random sizes, so both sides meet "nothing more" and "no room" at any octet.
 */
#ifndef RINGPOST_TESTS_TLS_PAIR_H
#define RINGPOST_TESTS_TLS_PAIR_H

#include "core/random.h"
#include "tls/tls_client.h"
#include "tls/tls_server.h"
#include "tls/tls_session.h"

enum { PAIR_WIRE_BYTES = 40'000 };

struct pair_wire {
    size_t at, size;
    uint64_t carried;
    uint8_t bytes[PAIR_WIRE_BYTES];
};

struct pair {
    struct tls_session *client, *server;
    struct pair_wire to_server, to_client;
    struct random random;
    size_t piece_max; /* of what one call moves */
    uint64_t cut_at;  /* octets on both wires together; then nothing moves any more */
    struct pair_end {
        struct pair *pair;
        struct pair_wire *in, *out;
    } client_end, server_end;
};

extern const struct tls_ends pair_ends; /* owners: client_end, server_end */

/* Wires, no sessions yet. piece_max 0: whole. */
void pair_init(struct pair *pair, uint64_t seed, size_t piece_max);
/* Frees both sessions; either may be NULL. */
void pair_free(struct pair *pair);

enum pair_result { PAIR_DONE, PAIR_FAILED, PAIR_STUCK /* both wait: the wire was cut */ };
/* Handshakes both until both are done; client and server tell which side ended how. */
enum pair_result pair_handshake(struct pair *pair, enum tls_result *client,
                                enum tls_result *server);
/* Sends bytes of a pattern and reads them on the other side. False: it broke, or came wrong. */
bool pair_send(struct pair *pair, struct tls_session *from, struct tls_session *to, size_t bytes);

#endif
