/*
 * test_tls_secret.c - where key memory ends, and what the kernel was told about it
 */
#include "tls/tls_secret.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/tls/handshake.h"

Test(tls_secret, sizes_that_make_no_sense)
{
    struct tls_secret secret;
    cr_assert_eq(tls_secret_make(&secret, 0), -EINVAL);
    cr_assert_eq(tls_secret_make(&secret, TLS_SECRET_BYTES_MAX + 1), -EINVAL);
    tls_secret_free(&secret);
}

/* 0, or the signal that ended a child which wrote there. */
static int signal_of_write(volatile uint8_t *at)
{
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL); /* a sanitizer would exit instead */
        *at = 1;
        _exit(0);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

Test(tls_secret, guards)
{
    struct tls_secret secret;
    cr_assert_eq(tls_secret_make(&secret, 100), 0);
    cr_assert_eq(signal_of_write(secret.data), 0);
    cr_assert_eq(signal_of_write(secret.data + secret.size - 1), 0);
    cr_assert_eq(signal_of_write(secret.data - 1), SIGSEGV);
    cr_assert_eq(signal_of_write(secret.data + secret.size), SIGSEGV);
    tls_secret_free(&secret);
}

/* The VmFlags line of the mapping, from /proc/self/smaps. */
static void flags_of(const void *at, char *flags, size_t size)
{
    FILE *smaps = fopen("/proc/self/smaps", "re");
    char line[512];
    bool here = false;
    unsigned long from, to;
    flags[0] = '\0';
    while (fgets(line, sizeof(line), smaps) != NULL) {
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            here = (uintptr_t)at >= from && (uintptr_t)at < to;
        if (here && strncmp(line, "VmFlags:", 8) == 0)
            snprintf(flags, size, "%s", line);
    }
    fclose(smaps);
}

Test(tls_secret, neither_dumped_nor_inherited)
{
    struct tls_secret secret;
    char flags[512];
    cr_assert_eq(tls_secret_make(&secret, 5000), 0);
    cr_assert_geq(secret.size, 5000);
    flags_of(secret.data, flags, sizeof(flags));
    cr_assert_not_null(strstr(flags, " dd"), "%s", flags);
    cr_assert_not_null(strstr(flags, " wf"), "%s", flags);
    if (!HANDSHAKE_ASAN) /* which makes mlock do nothing, and say that it did */
        cr_assert_eq(strstr(flags, " lo") != NULL, secret.is_locked, "%s", flags);
    memset(secret.data, 'k', secret.size);
    pid_t child = fork();
    if (child == 0) {
        for (size_t i = 0; i < secret.size; i++)
            if (secret.data[i] != 0)
                _exit(1);
        _exit(0);
    }
    int status;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    tls_secret_free(&secret);
    cr_assert_null(secret.data);
}

Test(tls_secret, without_a_lock_it_goes_on)
{
    struct tls_secret secret;
    struct rlimit none = { 0, 0 };
    cr_assert_eq(setrlimit(RLIMIT_MEMLOCK, &none), 0);
    cr_assert_eq(tls_secret_make(&secret, 5000), 0);
    cr_assert(!secret.is_locked || geteuid() == 0, "CAP_IPC_LOCK has no limit");
    secret.data[0] = 1;
    tls_secret_free(&secret);
}
