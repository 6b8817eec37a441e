/*
 * test_tls_pem.c - blocks of PEM, the broken ones too, and files that are none
 */
#include "tls/tls_pem.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/tls/pki.h"

static struct tls_pem_cursor cursor_of(const char *text)
{
    return tls_pem_begin(slice_of_string(text));
}

Test(tls_pem, nothing)
{
    static const char *const texts[] = { "",
                                         "\n\n",
                                         "just words\n",
                                         "-----BEGIN X----",
                                         "----BEGIN X-----\n",
                                         " -----BEGIN X-----\nAA==\n-----END X-----\n" };
    struct tls_pem pem;
    for (unsigned i = 0; i < ARRAY_COUNT(texts); i++) {
        struct tls_pem_cursor cursor = cursor_of(texts[i]);
        cr_assert_eq(tls_pem_next(&cursor, &pem), 0, "%u", i);
        cr_assert_null(pem.der);
    }
}

Test(tls_pem, broken)
{
    static const char *const texts[] = {
        "-----BEGIN X-----",
        "-----BEGIN X-----\nAAAA\n",
        "-----BEGIN X-----\nAAAA\n-----END Y-----\n",
        "-----BEGIN X-----\nAAA\n-----END X-----\n",
        "-----BEGIN X-----\nA*==\n-----END X-----\n",
        "-----BEGIN X-----\n-----BEGIN X-----\nAAAA\n-----END X-----\n",
    };
    struct tls_pem pem;
    for (unsigned i = 0; i < ARRAY_COUNT(texts); i++) {
        struct tls_pem_cursor cursor = cursor_of(texts[i]);
        cr_assert_eq(tls_pem_next(&cursor, &pem), -EBADMSG, "%u", i);
        cr_assert_eq(pem.line, 1);
        cr_assert_null(pem.der);
    }
}

Test(tls_pem, goes_on_past_a_broken_one)
{
    struct tls_pem_cursor cursor = cursor_of("# one\n-----BEGIN A-----\nAQID\n-----END A-----\r\n"
                                             "-----BEGIN B-----\nAQ=D\n-----END B-----\n"
                                             "-----BEGIN C-----\nAQID\n"
                                             "-----BEGIN D-----  \r\nAQ\r\nID\r\nBA==\r\n"
                                             "-----END D-----");
    struct tls_pem pem;
    cr_assert_eq(tls_pem_next(&cursor, &pem), 1);
    cr_assert(slice_equal(pem.label, SLICE("A")));
    cr_assert_eq(pem.line, 2);
    cr_assert(slice_equal(slice_of(pem.der, pem.der_size), SLICE("\1\2\3")));
    tls_pem_free(&pem);
    cr_assert_eq(tls_pem_next(&cursor, &pem), -EBADMSG);
    cr_assert_eq(pem.line, 5);
    cr_assert_eq(tls_pem_next(&cursor, &pem), -EBADMSG);
    cr_assert_eq(pem.line, 8);
    cr_assert_eq(tls_pem_next(&cursor, &pem), 1);
    cr_assert(slice_equal(pem.label, SLICE("D")));
    cr_assert(slice_equal(slice_of(pem.der, pem.der_size), SLICE("\1\2\3\4")));
    tls_pem_free(&pem);
    cr_assert_eq(tls_pem_next(&cursor, &pem), 0);
}

Test(tls_pem, encrypted)
{
    struct tls_pem_cursor cursor =
        cursor_of("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n"
                  "DEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n"
                  "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n"
                  "-----END ENCRYPTED PRIVATE KEY-----\n"
                  "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n");
    static const bool expected[] = { true, true, false };
    struct tls_pem pem;
    for (unsigned i = 0; i < ARRAY_COUNT(expected); i++) {
        cr_assert_eq(tls_pem_next(&cursor, &pem), 1, "%u", i);
        cr_assert_eq(pem.is_encrypted, expected[i], "%u", i);
        tls_pem_free(&pem);
    }
}

Test(tls_pem, files)
{
    char directory[PKI_PATH_BYTES], why[TLS_WHY_MAX];
    struct tls_pem_file file;
    pki_directory_make(directory);
    const char *path = pki_file(directory, "a", "12345", 0640);
    cr_assert_eq(tls_pem_file_read("/nonexistent/a", 10, &file, why), -ENOENT);
    cr_assert_str_eq(why, "/nonexistent/a: No such file or directory");
    cr_assert_eq(tls_pem_file_read(directory, 10, &file, why), -EINVAL);
    cr_assert_not_null(strstr(why, "not a regular file"));
    cr_assert_eq(tls_pem_file_read("/dev/zero", 10, &file, why), -EINVAL);
    cr_assert_eq(tls_pem_file_read(path, 4, &file, why), -EFBIG);
    cr_assert_not_null(strstr(why, "larger than 4 bytes"));
    cr_assert_null(file.data);
    cr_assert_eq(tls_pem_file_read(path, 5, &file, why), 0);
    cr_assert(slice_equal(slice_of(file.data, file.size), SLICE("12345")));
    cr_assert_eq(file.mode & 0777, 0640);
    cr_assert_eq(file.owner, geteuid());
    tls_pem_file_free(&file);
    char fifo[2 * PKI_PATH_BYTES];
    snprintf(fifo, sizeof(fifo), "%s/fifo", directory);
    cr_assert_eq(mkfifo(fifo, 0600), 0);
    cr_assert_eq(tls_pem_file_read(fifo, 10, &file, why), -EINVAL,
                 "and does not wait for a writer");
    pki_directory_remove(directory);
}
