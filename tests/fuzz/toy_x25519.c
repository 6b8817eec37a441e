/*
 * toy_x25519.c - X25519 without the curve: public and private key are the same, the secret is their
 * exclusive or
 *
 * Takes the place of two functions by --wrap (tests/meson.build), as the pool of key shares does; a
 * shared library cannot be wrapped. A key share of zeros is refused, as the real ones of small
 * order are.
 */
#include "tests/fuzz/toy_x25519.h"

#include <string.h>

#include "core/check.h"
#include "tls/tls_boringssl.h"

enum { KEY_BYTES = 32 };

int __real_X25519(uint8_t *secret, const uint8_t *private_key, const uint8_t *peer_key)
    __attribute__((weak));
void __real_X25519_public_from_private(uint8_t *public_key, const uint8_t *private_key)
    __attribute__((weak));
int __wrap_X25519(uint8_t *secret, const uint8_t *private_key, const uint8_t *peer_key);
void __wrap_X25519_public_from_private(uint8_t *public_key, const uint8_t *private_key);

static bool is_toy;

void toy_x25519_use(bool is_used)
{
    is_toy = is_used && toy_x25519_is_here();
}

bool toy_x25519_is_here(void)
{
    return __real_X25519 != NULL;
}

int __wrap_X25519(uint8_t *secret, const uint8_t *private_key, const uint8_t *peer_key)
{
    if (!is_toy)
        return __real_X25519(secret, private_key, peer_key);
    uint8_t some = 0;
    for (size_t i = 0; i < KEY_BYTES; i++) {
        some |= peer_key[i];
        secret[i] = private_key[i] ^ peer_key[i];
    }
    return some != 0;
}

void __wrap_X25519_public_from_private(uint8_t *public_key, const uint8_t *private_key)
{
    if (is_toy)
        memcpy(public_key, private_key, KEY_BYTES);
    else
        __real_X25519_public_from_private(public_key, private_key);
}
