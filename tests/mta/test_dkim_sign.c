/*
 * test_dkim_sign.c - the vectors of RFC 6376 and RFC 8463, and signatures that BoringSSL verifies
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mta/dkim_sign.h"

/* RFC 8463, appendix A.3 */
static const char football[] = "From: Joe SixPack <joe@football.example.com>\r\n"
                               "To: Suzie Q <suzie@shopping.example.net>\r\n"
                               "Subject: Is dinner ready?\r\n"
                               "Date: Fri, 11 Jul 2003 21:00:37 -0700 (PDT)\r\n"
                               "Message-ID: <20030712040037.46341.5F8J@football.example.com>\r\n";
static const char dinner[] =
    "Hi.\r\n\r\nWe lost the game.  Are you hungry yet?\r\n\r\nJoe.\r\n\r\n";
static const char dinner_hash[] = "2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=";

static const char *base64_of(const uint8_t *octets, size_t size)
{
    static char text[1'024];
    cr_assert_lt(size, 700);
    EVP_EncodeBlock((uint8_t *)text, octets, size);
    return text;
}

static const char *body_hash(const char *body)
{
    uint8_t hash[DKIM_HASH_BYTES];
    dkim_body_hash(slice_of_string(body), hash);
    return base64_of(hash, sizeof(hash));
}

static char *hash_of(const char *canonical)
{
    static char text[64];
    uint8_t hash[DKIM_HASH_BYTES];
    SHA256((const uint8_t *)canonical, strlen(canonical), hash);
    snprintf(text, sizeof(text), "%s", base64_of(hash, sizeof(hash)));
    return text;
}

Test(dkim_sign, bodies_in_relaxed_form)
{
    static const struct {
        const char *body, *canonical;
    } cases[] = {
        { " C \r\nD \t E\r\n\r\n\r\n", " C\r\nD E\r\n" }, /* RFC 6376 3.4.5 */
        { "", "" },
        { "\r\n", "" },
        { "\r\n \t\r\n\r\n", "" },
        { "a", "a\r\n" },
        { "a \t", "a\r\n" },
        { "a\r\n \r\nb\r\n", "a\r\n\r\nb\r\n" },
        { "\r\n\r\na\r\n", "\r\n\r\na\r\n" },
        { "\ta\r\n", " a\r\n" },
    };
    for (size_t i = 0; i < ARRAY_COUNT(cases); i++)
        cr_expect_str_eq(body_hash(cases[i].body), hash_of(cases[i].canonical), "case %zu", i);
    cr_assert_str_eq(body_hash(dinner), dinner_hash);
}

static char *header_hash(const char *header, const char *names, const char *signature)
{
    static char text[64];
    uint8_t hash[DKIM_HASH_BYTES];
    dkim_header_hash(slice_of_string(header), slice_of_string(names), slice_of_string(signature),
                     hash);
    snprintf(text, sizeof(text), "%s", base64_of(hash, sizeof(hash)));
    return text;
}

static void expect_header(const char *header, const char *names, const char *signature,
                          const char *canonical)
{
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "%s", hash_of(canonical));
    cr_expect_str_eq(header_hash(header, names, signature), wanted, "%s", canonical);
}

Test(dkim_sign, headers_in_relaxed_form)
{
    /* RFC 6376 3.4.5 */
    expect_header("A: X\r\nB : Y\t\r\n\tZ  \r\n", "a:b",
                  "DKIM-Signature: b=", "a:X\r\nb:Y Z\r\ndkim-signature:b=");
    /* from the bottom up (5.4.2); what is not there is the null string */
    expect_header("A: 1\r\nB: 2\r\na: 3\r\n", "A:a:c:A:b", "S: b=", "a:3\r\na:1\r\nb:2\r\ns:b=");
    expect_header("Ab: 1\r\nA: 2\r\n", " a : ab ", "S:b=", "a:2\r\nab:1\r\ns:b=");
    expect_header("", "a", "S:b=", "s:b=");
    expect_header("A:\r\n\tx\r\n", "a", "S:b=", "a:x\r\ns:b=");
}

Test(dkim_sign, the_ed25519_signature_of_rfc_8463)
{
    static const char value[] = "DKIM-Signature: v=1; a=ed25519-sha256; c=relaxed/relaxed;\r\n"
                                " d=football.example.com; i=@football.example.com;\r\n"
                                " q=dns/txt; s=brisbane; t=1528637909; h=from : to :\r\n"
                                " subject : date : message-id : from : subject : date;\r\n"
                                " bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=;\r\n b=";
    static const char secret[] = "nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=";
    uint8_t hash[DKIM_HASH_BYTES], seed[48], public[32], private[64], signature[64];
    dkim_header_hash(slice_of_string(football),
                     SLICE("from : to : subject : date : message-id : from : subject : date"),
                     slice_of_string(value), hash);
    size_t size;
    cr_assert(EVP_DecodeBase64(seed, &size, sizeof(seed), (const uint8_t *)secret, strlen(secret)));
    ED25519_keypair_from_seed(public, private, seed);
    cr_assert(ED25519_sign(signature, hash, sizeof(hash), private));
    cr_assert_str_eq(base64_of(signature, sizeof(signature)),
                     "/gCrinpcQOoIfuHNQIbq4pgh9kyIK3AQUdt9OdqQehSwhEIug4D11Bus"
                     "Fa3bT3FY5OsU7ZbnKELq+eXdp1Q1Dw==");
}

/* ---- with keys from files ---- */

static char folder[] = "/tmp/ringpost-dkim.XXXXXX";

static void setup(void)
{
    cr_assert_not_null(mkdtemp(folder));
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -r '%s'", folder);
    cr_assert_eq(system(command), 0);
}

TestSuite(dkim_key, .init = setup, .fini = teardown);

/* Path of a new key. */
static const char *written(const char *name, EVP_PKEY *key, mode_t mode)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    cr_assert_eq(chmod(path, mode), 0);
    CBB cbb;
    uint8_t *der;
    size_t size;
    cr_assert(CBB_init(&cbb, 256));
    cr_assert(EVP_marshal_private_key(&cbb, key));
    cr_assert(CBB_finish(&cbb, &der, &size));
    fprintf(file, "-----BEGIN PRIVATE KEY-----\n");
    for (size_t at = 0; at < size; at += 48)
        fprintf(file, "%s\n", base64_of(der + at, MIN(size - at, (size_t)48)));
    fprintf(file, "-----END PRIVATE KEY-----\n");
    fclose(file);
    OPENSSL_free(der);
    EVP_PKEY_free(key);
    return path;
}

static EVP_PKEY *rsa(int bits)
{
    EVP_PKEY *key = EVP_PKEY_new();
    RSA *made = RSA_new();
    BIGNUM *exponent = BN_new();
    cr_assert(BN_set_word(exponent, RSA_F4));
    cr_assert(RSA_generate_key_ex(made, bits, exponent, NULL));
    cr_assert(EVP_PKEY_assign_RSA(key, made));
    BN_free(exponent);
    return key;
}

static EVP_PKEY *ed25519(void)
{
    static const uint8_t seed[32] = { 1, 2, 3 };
    return EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof(seed));
}

static EVP_PKEY *ec(void)
{
    EVP_PKEY *key = EVP_PKEY_new();
    EC_KEY *made = EC_KEY_new_by_curve_name(NID_X9_62_prime256v1);
    cr_assert(EC_KEY_generate_key(made));
    cr_assert(EVP_PKEY_assign_EC_KEY(key, made));
    return key;
}

static bool verifies(EVP_PKEY *key, const uint8_t hash[static DKIM_HASH_BYTES],
                     const uint8_t *signature, size_t size)
{
    if (EVP_PKEY_id(key) == EVP_PKEY_RSA)
        return RSA_verify(NID_sha256, hash, DKIM_HASH_BYTES, signature, size,
                          EVP_PKEY_get0_RSA(key)) == 1;
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) &&
                EVP_DigestVerify(context, signature, size, hash, DKIM_HASH_BYTES);
    EVP_MD_CTX_free(context);
    return good;
}

/* As a verifier has it: b= is taken out of the field, and all of it is judged. */
static void sign_and_verify(EVP_PKEY *evp, const char *algorithm)
{
    const struct dkim_key key = { "football.example.com", "test", evp };
    static const char names[] = "from:from:to:subject:date:message-id";
    char field[DKIM_FIELD_BYTES_MAX], b[1'024], value[DKIM_FIELD_BYTES_MAX];
    cr_assert_eq(dkim_sign(&key, slice_of_string(football), slice_of_string(dinner), names,
                           1'528'637'909, field),
                 0);
    cr_assert_not_null(strstr(field, algorithm), "%s", field);
    cr_assert_not_null(strstr(field, dinner_hash), "%s", field);
    cr_assert_not_null(strstr(field, "c=relaxed/relaxed; d=football.example.com;"));
    cr_assert_not_null(strstr(field, "s=test; t=1528637909;"));
    char *at = strstr(field, "\tb=");
    cr_assert_not_null(at);
    at += 3;
    snprintf(value, sizeof(value), "%.*s", (int)(at - field), field);
    size_t size = 0;
    for (; *at != '\0'; at++)
        if (*at != '\r' && *at != '\n' && *at != '\t')
            b[size++] = *at;
    uint8_t signature[1'024], hash[DKIM_HASH_BYTES];
    size_t octets;
    cr_assert(EVP_DecodeBase64(signature, &octets, sizeof(signature), (uint8_t *)b, size));
    dkim_header_hash(slice_of_string(football), slice_of_string(names), slice_of_string(value),
                     hash);
    cr_expect(verifies(evp, hash, signature, octets));
    hash[0] ^= 1;
    cr_expect_not(verifies(evp, hash, signature, octets));
    for (const char *line = field, *end; (end = strstr(line, "\r\n")) != NULL; line = end + 2)
        cr_expect_leq(end - line, 200);
    cr_expect(slice_ends_nocase(slice_of_string(field), SLICE("\r\n")));
}

Test(dkim_key, signs_and_is_verified)
{
    EVP_PKEY *key;
    char why[TLS_WHY_MAX];
    cr_assert_eq(dkim_key_load(written("rsa", rsa(2'048), 0600), &key, why), 0, "%s", why);
    cr_expect_str_eq(why, "");
    sign_and_verify(key, "a=rsa-sha256;");
    EVP_PKEY_free(key);
    cr_assert_eq(dkim_key_load(written("ed", ed25519(), 0600), &key, why), 0, "%s", why);
    sign_and_verify(key, "a=ed25519-sha256;");
    EVP_PKEY_free(key);
}

Test(dkim_key, names_that_are_too_long_are_an_error)
{
    EVP_PKEY *evp = ed25519();
    char names[DKIM_FIELD_BYTES_MAX + 1], field[DKIM_FIELD_BYTES_MAX];
    const struct dkim_key key = { "d.example", "s", evp };
    memset(names, 'a', sizeof(names) - 1);
    names[sizeof(names) - 1] = '\0';
    for (size_t size = 1'700; size < sizeof(names); size += 1) {
        int r = dkim_sign(&key, SLICE(""), SLICE(""), names + sizeof(names) - 1 - size, 0, field);
        cr_assert(r == -EMSGSIZE || (r == 0 && strlen(field) < sizeof(field)), "%zu: %d", size, r);
        cr_assert(r == 0 || size > 1'750);
    }
    EVP_PKEY_free(evp);
}

Test(dkim_key, what_is_wrong_is_said)
{
    EVP_PKEY *key;
    char why[TLS_WHY_MAX];
    cr_expect_eq(dkim_key_load(written("weak", rsa(1'024), 0600), &key, why), 0);
    cr_expect_not_null(strstr(why, "2048 are wanted"), "%s", why);
    EVP_PKEY_free(key);
    cr_expect_eq(dkim_key_load(written("ec", ec(), 0600), &key, why), -EINVAL);
    cr_expect_not_null(strstr(why, "RSA or Ed25519 is wanted"), "%s", why);
    cr_expect_null(key);
    cr_expect_eq(dkim_key_load(written("open", ed25519(), 0644), &key, why), -EACCES);
    cr_expect_not_null(strstr(why, "chmod 600"), "%s", why);
    cr_expect_eq(dkim_key_load("/nowhere/key", &key, why), -ENOENT);
    cr_expect_null(key);
}
