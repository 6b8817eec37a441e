/*
 * tls_pem.c - finds BEGIN and END lines, and decodes what is between them
 *
 * BoringSSL has a reader too, but it gives up a file at its first broken block, and cannot say in
 * which line that was. Text between blocks is skipped: bundles name their certificates there.
 */
#include "tls/tls_pem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/check.h"
#include "tls/tls_boringssl.h"

static int refuse_file(const char *path, int error, char why[static TLS_WHY_MAX])
{
    char text[128];
    tls_why(why, "%s: %s", path, strerror_r(error, text, sizeof(text)));
    return -error;
}

/* Until the end of the file, or one byte more than allowed. */
static int read_all(int fd, size_t size_max, struct tls_pem_file *file)
{
    file->data = malloc(size_max + 1);
    if (file->data == NULL)
        return -ENOMEM;
    while (file->size <= size_max) {
        ssize_t n = read(fd, file->data + file->size, size_max + 1 - file->size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return 0;
        file->size += (size_t)n;
    }
    return -EFBIG;
}

int tls_pem_file_read(const char *path, size_t size_max, struct tls_pem_file *file,
                      char why[static TLS_WHY_MAX])
{
    *file = (struct tls_pem_file) { 0 };
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return refuse_file(path, errno, why);
    struct stat facts;
    int r = fstat(fd, &facts) < 0 ? -errno : 0;
    if (r == 0 && !S_ISREG(facts.st_mode)) {
        tls_why(why, "%s: not a regular file", path);
        close(fd);
        return -EINVAL;
    }
    if (r == 0) {
        file->mode = facts.st_mode;
        file->owner = facts.st_uid;
        r = read_all(fd, size_max, file);
    }
    close(fd);
    if (r < 0)
        tls_pem_file_free(file);
    if (r == -EFBIG)
        tls_why(why, "%s: larger than %zu bytes", path, size_max);
    else if (r < 0)
        return refuse_file(path, -r, why);
    return r;
}

void tls_pem_file_free(struct tls_pem_file *file)
{
    if (file->data != NULL)
        OPENSSL_cleanse(file->data, file->size);
    free(file->data);
    *file = (struct tls_pem_file) { 0 };
}

struct tls_pem_cursor tls_pem_begin(struct slice text)
{
    return (struct tls_pem_cursor) { .rest = text, .line = 0 };
}

/* The next line without its end and white space at it; false: there is none. */
static bool next_line(struct tls_pem_cursor *cursor, struct slice *line)
{
    if (cursor->rest.size == 0)
        return false;
    ptrdiff_t end = slice_find(cursor->rest, '\n');
    *line = end < 0 ? cursor->rest : slice_part(cursor->rest, 0, (size_t)end);
    cursor->rest = slice_from(cursor->rest, line->size + (end < 0 ? 0 : 1));
    cursor->line++;
    while (line->size > 0 &&
           (line->data[line->size - 1] == '\r' || line->data[line->size - 1] == ' ' ||
            line->data[line->size - 1] == '\t'))
        line->size--;
    return true;
}

/* "-----BEGIN label-----" and its like. */
static bool is_edge(struct slice line, struct slice begins, struct slice *label)
{
    static const struct slice dashes = { (const uint8_t *)"-----", 5 };
    if (line.size < begins.size + dashes.size ||
        !slice_equal(slice_part(line, 0, begins.size), begins) ||
        !slice_equal(slice_from(line, line.size - dashes.size), dashes))
        return false;
    *label = slice_part(line, begins.size, line.size - begins.size - dashes.size);
    return true;
}

struct body {
    uint8_t *base64;
    size_t size;
    bool is_encrypted;
};

/* Lines up to the END, without headers (RFC 1421). A BEGIN in there is left for the next call. */
static int gather(struct tls_pem_cursor *cursor, struct slice label, struct body *body)
{
    struct slice line, other;
    struct tls_pem_cursor before = *cursor;
    while (next_line(cursor, &line)) {
        if (is_edge(line, SLICE("-----BEGIN "), &other)) {
            *cursor = before;
            return -EBADMSG;
        }
        if (is_edge(line, SLICE("-----END "), &other))
            return slice_equal(label, other) ? 0 : -EBADMSG;
        before = *cursor;
        if (slice_find(line, ':') >= 0) {
            body->is_encrypted |= slice_starts_nocase(line, SLICE("Proc-Type: 4,ENCRYPTED"));
            continue;
        }
        if (line.size > 0)
            memcpy(body->base64 + body->size, line.data, line.size);
        body->size += line.size;
    }
    return -EBADMSG;
}

static int decode(struct body body, struct tls_pem *pem)
{
    size_t size_max;
    if (!EVP_DecodedLength(&size_max, body.size))
        return -EBADMSG;
    pem->der = malloc(size_max + 1);
    if (pem->der == NULL)
        return -ENOMEM;
    /* What is encrypted by headers is no DER; nobody looks at it. */
    if (!EVP_DecodeBase64(pem->der, &pem->der_size, size_max, body.base64, body.size)) {
        tls_pem_free(pem);
        return -EBADMSG;
    }
    return 0;
}

int tls_pem_next(struct tls_pem_cursor *cursor, struct tls_pem *pem)
{
    struct slice line;
    *pem = (struct tls_pem) { 0 };
    do {
        if (!next_line(cursor, &line))
            return 0;
    } while (!is_edge(line, SLICE("-----BEGIN "), &pem->label));
    pem->line = cursor->line;
    size_t capacity = cursor->rest.size + 1;
    struct body body = { .base64 = malloc(capacity) };
    if (body.base64 == NULL)
        return -ENOMEM;
    int r = gather(cursor, pem->label, &body);
    if (r == 0)
        r = decode(body, pem);
    pem->is_encrypted =
        body.is_encrypted || slice_equal(pem->label, SLICE("ENCRYPTED PRIVATE KEY"));
    OPENSSL_cleanse(body.base64, body.size);
    free(body.base64);
    return r == 0 ? 1 : r;
}

void tls_pem_free(struct tls_pem *pem)
{
    if (pem->der != NULL)
        OPENSSL_cleanse(pem->der, pem->der_size);
    free(pem->der);
    pem->der = NULL;
    pem->der_size = 0;
}
