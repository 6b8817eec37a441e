/*
 * toy_x25519.h - a key agreement that takes no time, where the agreement is not what is looked at
 */
#ifndef RINGPOST_TESTS_FUZZ_TOY_X25519_H
#define RINGPOST_TESTS_FUZZ_TOY_X25519_H

#include <stdbool.h>

/* Whether keys are toys from now on: those made before this call, and shares of the other kind, are
 * of no use after it. False at first, and always where BoringSSL is the system's. */
void toy_x25519_use(bool is_used);
/* Whether it can be. */
bool toy_x25519_is_here(void);

#endif
