/*
 * tls_library.h - which BoringSSL this program has, for people and for metrics
 */
#ifndef RINGPOST_TLS_LIBRARY_H
#define RINGPOST_TLS_LIBRARY_H

#include "core/compiler.h"

enum {
    TLS_LIBRARY_GROUPS_MAX = 8,
    TLS_LIBRARY_TEXT_BYTES_MAX = 512, /* all of tls_library_text() fits */
};

struct tls_library {
    const char *source;   /* "debian 13.0.0+r24-2", "git 3a9254f16eda", ... as the build took it */
    const char *commit;   /* BoringSSL's, 40 hex digits; "" when the source does not tell */
    unsigned api_version; /* BORINGSSL_API_VERSION of the headers compiled against */
    bool is_shared;       /* the system's library, not an archive of ours */
    bool is_small;        /* with OPENSSL_SMALL: slower curves */
    bool has_assembly;
    unsigned groups_count;
    const char *groups[TLS_LIBRARY_GROUPS_MAX]; /* those of ours that it knows, the best first */
};

/* For ringpost_tls_library_info: source, commit and API as labels. */
extern const char tls_library_labels[];

/* Asks the library. Makes and frees an SSL_CTX, so not on a message's way. 0, or -ENOMEM. */
[[nodiscard]] int tls_library_ask(struct tls_library *library);
/* One line without its end. Its length; CHECKs that size is enough. */
size_t tls_library_text(const struct tls_library *library, char *text, size_t size);

#endif
