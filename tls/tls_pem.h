/*
 * tls_pem.h - PEM files (RFC 7468): a file into memory, its blocks one after the other
 *
 * For configuration: files are read at start and at reload, never on a message's way. A block that
 * is broken is told with its line, and the next one is found all the same.
 */
#ifndef RINGPOST_TLS_PEM_H
#define RINGPOST_TLS_PEM_H

#include <sys/types.h>

#include "core/slice.h"
#include "tls/tls_text.h"

struct tls_pem_file {
    uint8_t *data;
    size_t size;
    mode_t mode;
    uid_t owner;
};

struct tls_pem {
    struct slice label; /* "CERTIFICATE", "EC PRIVATE KEY", ... in the file's bytes */
    bool is_encrypted;  /* by its label, or by a header "Proc-Type: 4,ENCRYPTED" */
    unsigned line;      /* where it begins */
    uint8_t *der;       /* to be given back with tls_pem_free; NULL when broken */
    size_t der_size;
};

struct tls_pem_cursor {
    struct slice rest;
    unsigned line;
};

/* Regular files of at most size_max bytes. 0, or a negative errno with why: -EFBIG, -EINVAL for
 * what is not a regular file, and what open and read say. */
[[nodiscard]] int tls_pem_file_read(const char *path, size_t size_max, struct tls_pem_file *file,
                                    char why[static TLS_WHY_MAX]);
/* Erases, since there may have been a key in it. */
void tls_pem_file_free(struct tls_pem_file *file);

struct tls_pem_cursor tls_pem_begin(struct slice text);
/* 1: a block. 0: no more. -EBADMSG: a block that is broken; go on. -ENOMEM. */
[[nodiscard]] int tls_pem_next(struct tls_pem_cursor *cursor, struct tls_pem *pem);
/* Erases and frees der. */
void tls_pem_free(struct tls_pem *pem);

#endif
