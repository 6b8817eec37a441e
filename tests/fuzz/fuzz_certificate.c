/*
 * fuzz_certificate.c - whatever a peer may present as its chain, against one root
 *
 * The first octet is the purpose; then certificates, each after its length in two octets. The seeds
 * are chains that do lead to the root, all of them expired at the time they are verified at: so an
 * input gets as deep as there is, and still none may be valid.
 */
#include "core/check.h"
#include "tls/tls_verify.h"

enum { PRESENTED_MAX = 12 };

static const int64_t year_2100 = 4'102'444'800;

static const char root[] = "-----BEGIN CERTIFICATE-----\n"
                           "MIIBIDCBx6ADAgECAgIQATAKBggqhkjOPQQDAjAPMQ0wCwYDVQQDDARSb290MB4X\n"
                           "DTIwMDMxNzE3NDY0MFoXDTQwMDMxNjE3NDY0MFowDzENMAsGA1UEAwwEUm9vdDBZ\n"
                           "MBMGByqGSM49AgEGCCqGSM49AwEHA0IABKocBp+njhGBo3gGsLc6nXXmYtzu2nfZ\n"
                           "4nsKlFdDT3vt3Uhmn9WuQ+eCFUsZD7Co068GXEHEt9Tsaj4cIqIrpfijEzARMA8G\n"
                           "A1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0EAwIDSAAwRQIhAJjf1WJ+pMkk8LqsxYTu\n"
                           "OIXbVi/JY+Wg5TPkTfB+nYSuAiBNgE26/aAGJUjc4ZKtnQzziRJRKgXhycaZM8Qx\n"
                           "6pmU2A==\n"
                           "-----END CERTIFICATE-----\n";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_printable(const char *text, size_t capacity)
{
    const size_t length = strnlen(text, capacity);
    CHECK(length < capacity);
    for (size_t i = 0; i < length; i++)
        CHECK(text[i] >= ' ' && text[i] < 0x7f);
}

static void check_leaf(const struct tls_certificate *leaf)
{
    check_printable(leaf->subject, sizeof(leaf->subject));
    check_printable(leaf->issuer, sizeof(leaf->issuer));
    check_printable(leaf->serial, sizeof(leaf->serial));
    check_printable(leaf->common_name, sizeof(leaf->common_name));
    CHECK(leaf->names.count <= TLS_NAMES_MAX);
    for (unsigned i = 0; i < leaf->names.count; i++)
        CHECK(tls_name_usable(tls_names_at(&leaf->names, i)));
}

static void check_peer(const struct tls_peer *peer, size_t presented)
{
    CHECK(peer->verdict < TLS_VERDICTS);
    CHECK(peer->verdict != TLS_VERDICT_VALID);
    CHECK((peer->verdict == TLS_VERDICT_NONE) == (presented == 0));
    CHECK(peer->reason[0] != '\0');
    CHECK(peer->count <= MIN(presented, (size_t)TLS_CHAIN_MAX));
    check_printable(peer->reason, sizeof(peer->reason));
    check_printable(peer->root, sizeof(peer->root));
    check_leaf(&peer->leaf);
}

/* Names and pins may be asked of any peer. */
static void check_questions(const struct tls_peer *peer)
{
    static const struct slice patterns[] = { SLICE("mx.d.example"), SLICE("*.e.example") };
    static const uint8_t zeros[1][TLS_DIGEST_BYTES];
    char why[TLS_WHY_MAX];
    struct slice matched;
    const unsigned all = TLS_ALLOW_WILDCARD | TLS_ALLOW_COMMON_NAME;
    if (tls_verify_name(peer, patterns, ARRAY_COUNT(patterns), all, &matched, why))
        CHECK(tls_name_usable(matched));
    else
        CHECK(why[0] != '\0');
    check_printable(why, sizeof(why));
    CHECK(tls_verify_pin(peer, zeros, 1) < 0);
}

static const struct tls_roots *roots_once(void)
{
    static struct tls_roots *roots;
    char why[TLS_WHY_MAX];
    if (roots == NULL)
        CHECK(tls_roots_of(slice_of_string(root), "root", &roots, why) == 0);
    return roots;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct tls_peer peer;
    if (size == 0)
        return 0;
    STACK_OF(CRYPTO_BUFFER) *chain = sk_CRYPTO_BUFFER_new_null();
    CHECK(chain != NULL);
    struct slice rest = slice_of(data + 1, size - 1);
    while (rest.size >= 2 && sk_CRYPTO_BUFFER_num(chain) < PRESENTED_MAX) {
        const size_t bytes = (size_t)rest.data[0] << 8 | rest.data[1];
        const struct slice der = slice_part(rest, 2, bytes);
        CRYPTO_BUFFER *buffer = CRYPTO_BUFFER_new(der.data, der.size, NULL);
        CHECK(buffer != NULL);
        CHECK(sk_CRYPTO_BUFFER_push(chain, buffer));
        rest = slice_from(rest, 2 + der.size);
    }
    const enum tls_purpose purpose = (enum tls_purpose)(data[0] % 3);
    CHECK(tls_verify_chain(chain, roots_once(), purpose, year_2100, &peer) == 0);
    check_peer(&peer, sk_CRYPTO_BUFFER_num(chain));
    check_questions(&peer);
    CHECK(ERR_peek_error() == 0);
    sk_CRYPTO_BUFFER_pop_free(chain, CRYPTO_BUFFER_free);
    return 0;
}
