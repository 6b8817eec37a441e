/*
 * tls_secret.c - a mapping that stays in memory, in this process, and within its bounds
 *
 *   [ no access ][ data, size bytes ][ no access ]
 */
#include "tls/tls_secret.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/check.h"
#include "tls/tls_boringssl.h"

static size_t page_bytes(void)
{
    long page = sysconf(_SC_PAGESIZE);
    CHECK(page > 0);
    return (size_t)page;
}

/* An older kernel than 4.14 has no MADV_WIPEONFORK: then a child would have our keys, so no. */
static int secret_protect(uint8_t *data, size_t size)
{
    if (mprotect(data, size, PROT_READ | PROT_WRITE) < 0)
        return -errno;
    if (madvise(data, size, MADV_DONTDUMP) < 0)
        return -errno;
    if (madvise(data, size, MADV_WIPEONFORK) < 0)
        return -errno;
    return 0;
}

int tls_secret_make(struct tls_secret *secret, size_t size)
{
    *secret = (struct tls_secret) { 0 };
    if (size == 0 || size > TLS_SECRET_BYTES_MAX)
        return -EINVAL;
    size_t page = page_bytes();
    size = (size + page - 1) / page * page;
    uint8_t *memory = mmap(NULL, size + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        return -errno;
    int r = secret_protect(memory + page, size);
    if (r < 0) {
        munmap(memory, size + 2 * page);
        return r;
    }
    secret->data = memory + page;
    secret->size = size;
    secret->is_locked = mlock(secret->data, size) == 0;
    return 0;
}

void tls_secret_free(struct tls_secret *secret)
{
    if (secret->data == NULL)
        return;
    OPENSSL_cleanse(secret->data, secret->size);
    size_t page = page_bytes();
    munmap(secret->data - page, secret->size + 2 * page); /* unlocks too */
    *secret = (struct tls_secret) { 0 };
}
