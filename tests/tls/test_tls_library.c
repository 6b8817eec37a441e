/*
 * test_tls_library.c - it is BoringSSL that we talk to, the one that the build says, and no other
 */
#include "tls/tls_library.h"

#include <criterion/criterion.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>

#include "tls/tls_boringssl.h"

Test(tls_library, text_that_does_not_fit_is_our_mistake, .signal = SIGABRT)
{
    char text[16];
    struct tls_library library;
    cr_assert_eq(tls_library_ask(&library), 0);
    tls_library_text(&library, text, sizeof(text));
}

static bool has_group(const struct tls_library *library, const char *name)
{
    for (unsigned i = 0; i < library->groups_count; i++)
        if (strcmp(library->groups[i], name) == 0)
            return true;
    return false;
}

Test(tls_library, groups)
{
    struct tls_library library;
    cr_assert_eq(tls_library_ask(&library), 0);
    cr_assert_geq(library.groups_count, 3);
    cr_assert(has_group(&library, "X25519"));
    cr_assert(has_group(&library, "P-256"));
    cr_assert(has_group(&library, "P-384"));
#ifdef SSL_GROUP_X25519_MLKEM768
    bool in_headers = true;
#else
    bool in_headers = false;
#endif
    if (!library.is_shared)
        cr_assert_eq(has_group(&library, "X25519MLKEM768"), in_headers);
}

Test(tls_library, text)
{
    struct tls_library library;
    char text[TLS_LIBRARY_TEXT_BYTES_MAX];
    cr_assert_eq(tls_library_ask(&library), 0);
    cr_assert_eq(tls_library_text(&library, text, sizeof(text)), strlen(text));
    cr_assert_not_null(strstr(text, library.source), "%s", text);
    cr_assert_not_null(strstr(text, library.commit), "%s", text);
    cr_assert_not_null(strstr(text, " X25519 P-256 P-384"), "%s", text);
    cr_assert_null(strpbrk(library.source, "\"\\\n"), "goes into a label");
    cr_assert(strlen(library.commit) == 0 || strlen(library.commit) == 40);
    char api[16];
    snprintf(api, sizeof(api), "API %u", library.api_version);
    cr_assert_not_null(strstr(text, api), "%s", text);
    cr_assert_geq(library.api_version, 17);
}

Test(tls_library, bundled_is_fast)
{
    struct tls_library library;
    cr_assert_eq(tls_library_ask(&library), 0);
    if (library.is_shared)
        return;
    cr_assert_not(library.is_small);
#if defined(__x86_64__) || defined(__aarch64__)
    cr_assert(library.has_assembly);
#endif
}

/* Criterion brings OpenSSL's libcrypto into this process. Ours must be ours, and stay hidden from
 * those who want theirs. */
Test(tls_library, openssl_beside_it)
{
    struct tls_library library;
    cr_assert_eq(tls_library_ask(&library), 0);
    cr_assert_eq(OPENSSL_VERSION_NUMBER >> 28, 1, "the headers");
    cr_assert_str_eq(OpenSSL_version(OPENSSL_VERSION), "BoringSSL");
    const char *(*theirs)(int) = (const char *(*)(int))dlsym(RTLD_DEFAULT, "OpenSSL_version");
    if (theirs != NULL && !library.is_shared)
        cr_assert_neq(theirs, OpenSSL_version, "exported");
}

/* A handshake in memory, with a shared key instead of certificates: curves, ciphers and libssl run,
 * under the sanitizers too. */
static unsigned psk(uint8_t *key, unsigned capacity)
{
    cr_assert_geq(capacity, 16);
    memset(key, 7, 16);
    return 16;
}

static unsigned psk_client(SSL *ssl, const char *hint, char *identity, unsigned identity_capacity,
                           uint8_t *key, unsigned key_capacity)
{
    (void)ssl;
    (void)hint;
    snprintf(identity, identity_capacity, "test");
    return psk(key, key_capacity);
}

static unsigned psk_server(SSL *ssl, const char *identity, uint8_t *key, unsigned key_capacity)
{
    (void)ssl;
    cr_assert_str_eq(identity, "test");
    return psk(key, key_capacity);
}

static SSL *endpoint(SSL_CTX *context, BIO *bio, bool is_client)
{
    cr_assert_eq(SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION), 1);
    cr_assert_eq(SSL_CTX_set_strict_cipher_list(context, "ECDHE-PSK-CHACHA20-POLY1305"), 1);
    SSL *ssl = SSL_new(context);
    cr_assert_not_null(ssl);
    SSL_set_bio(ssl, bio, bio);
    if (is_client)
        SSL_set_connect_state(ssl);
    else
        SSL_set_accept_state(ssl);
    return ssl;
}

Test(tls_library, handshake_in_memory)
{
    BIO *bios[2];
    cr_assert_eq(BIO_new_bio_pair(&bios[0], 0, &bios[1], 0), 1);
    SSL_CTX *contexts[2] = { SSL_CTX_new(TLS_method()), SSL_CTX_new(TLS_method()) };
    SSL_CTX_set_psk_client_callback(contexts[0], psk_client);
    SSL_CTX_set_psk_server_callback(contexts[1], psk_server);
    SSL *ends[2] = { endpoint(contexts[0], bios[0], true), endpoint(contexts[1], bios[1], false) };

    for (unsigned turn = 0; turn < 10; turn++)
        for (unsigned i = 0; i < 2; i++)
            if (SSL_do_handshake(ends[i]) != 1)
                ERR_clear_error();
    cr_assert_eq(SSL_in_init(ends[0]), 0, "%s", SSL_state_string_long(ends[0]));
    cr_assert_eq(SSL_in_init(ends[1]), 0, "%s", SSL_state_string_long(ends[1]));

    char got[8] = "";
    cr_assert_eq(SSL_write(ends[0], "hello", 5), 5);
    cr_assert_eq(SSL_read(ends[1], got, sizeof(got)), 5);
    cr_assert_str_eq(got, "hello");
    for (unsigned i = 0; i < 2; i++) {
        SSL_free(ends[i]);
        SSL_CTX_free(contexts[i]);
    }
}
