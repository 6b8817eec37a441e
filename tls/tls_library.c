/*
 * tls_library.c - asks the BoringSSL we are linked with who it is
 *
 * What a build knows comes from meson: source, commit, whether it is the system's. What the
 * library itself can tell is asked here, since the system's shared one may be another than the
 * headers are of: assembler, and groups by name. A name that is not known is no error, it is the
 * answer.
 */
#include "tls/tls_library.h"

#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "tls/tls_boringssl.h"

/* Whether OPENSSL_SMALL was defined shows in no header and no symbol: meson says what it did. */
#ifndef TLS_LIBRARY_SOURCE
#error "meson.build defines it, and TLS_LIBRARY_COMMIT, _SHARED and _SMALL"
#endif

#define TEXT(number) TEXT_OF(number)
#define TEXT_OF(number) #number

const char tls_library_labels[] = "source=\"" TLS_LIBRARY_SOURCE "\",commit=\"" TLS_LIBRARY_COMMIT
                                  "\",api=\"" TEXT(BORINGSSL_API_VERSION) "\"";

static const char *const groups_wanted[] = { "X25519MLKEM768", "X25519", "P-256", "P-384" };
static_assert(ARRAY_COUNT(groups_wanted) <= TLS_LIBRARY_GROUPS_MAX);

int tls_library_ask(struct tls_library *library)
{
    *library = (struct tls_library) {
        .source = TLS_LIBRARY_SOURCE,
        .commit = TLS_LIBRARY_COMMIT,
        .api_version = BORINGSSL_API_VERSION,
        .is_shared = TLS_LIBRARY_SHARED,
        .is_small = TLS_LIBRARY_SMALL,
        .has_assembly = CRYPTO_has_asm() == 1,
    };
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    if (context == NULL)
        return -ENOMEM;
    /* Under this name in all versions; newer ones call it SSL_CTX_set1_groups_list too. */
    for (unsigned i = 0; i < ARRAY_COUNT(groups_wanted); i++)
        if (SSL_CTX_set1_curves_list(context, groups_wanted[i]) == 1)
            library->groups[library->groups_count++] = groups_wanted[i];
    ERR_clear_error();
    SSL_CTX_free(context);
    return 0;
}

size_t tls_library_text(const struct tls_library *library, char *text, size_t size)
{
    int length = snprintf(text, size, "BoringSSL %s%s%s, API %u, %s%s, %s; groups", library->source,
                          library->commit[0] != '\0' ? ", commit " : "", library->commit,
                          library->api_version, library->is_shared ? "shared" : "static",
                          library->is_small ? ", OPENSSL_SMALL" : "",
                          library->has_assembly ? "assembler" : "no assembler");
    CHECK(length > 0 && (size_t)length < size);
    size_t used = (size_t)length;
    for (unsigned i = 0; i < library->groups_count; i++) {
        length = snprintf(text + used, size - used, " %s", library->groups[i]);
        CHECK(length > 0 && (size_t)length < size - used);
        used += (size_t)length;
    }
    return used;
}
