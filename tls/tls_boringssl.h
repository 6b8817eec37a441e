/*
 * tls_boringssl.h - the only door to <openssl/...>
 *
 * OpenSSL's headers have the same names, are often installed, and much of our code would compile
 * against them. So nobody else includes these (tests/tidy.py checks it), and here we look. What is
 * used is in all of BORINGSSL_API_VERSION 17 to 43, or asked for by its macro.
 */
#ifndef RINGPOST_TLS_BORINGSSL_H
#define RINGPOST_TLS_BORINGSSL_H

#include <openssl/aead.h>
#include <openssl/base.h>
#include <openssl/base64.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/bytestring.h>
#include <openssl/crypto.h>
#include <openssl/curve25519.h>
#include <openssl/digest.h>
#include <openssl/ec.h>
#include <openssl/ec_key.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/mem.h>
#include <openssl/nid.h>
#include <openssl/obj.h>
#include <openssl/pool.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/siphash.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#if __has_include(<openssl/mlkem.h>)
#include <openssl/mlkem.h>
#endif

#ifndef OPENSSL_IS_BORINGSSL
#error "OpenSSL's headers, not BoringSSL's: see meson's options boringssl and boringssl_source"
#endif

#endif
