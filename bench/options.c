/*
 * options.c - words of the command line to values
 */
#include "bench/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

enum { FILES_WANTED = 1 << 18 };

void option_wrong(const char *option, const char *why)
{
    fprintf(stderr, "ringpost-bench: %s: %s\n", option, why);
    exit(EXIT_USAGE);
}

static unsigned suffix_shift(char suffix)
{
    switch (suffix) {
    case 'K':
    case 'k': return 10;
    case 'M':
    case 'm': return 20;
    case 'G':
    case 'g': return 30;
    default: return 0;
    }
}

uint64_t option_number(const char *option, const char *text, uint64_t min, uint64_t max)
{
    struct slice digits = slice_of_string(text);
    unsigned shift = digits.size > 0 ? suffix_shift(text[digits.size - 1]) : 0;
    if (shift > 0)
        digits.size--;
    uint64_t value = 0;
    if (slice_to_u64(digits, UINT64_MAX >> shift, &value) < 0)
        option_wrong(option, "takes a whole number (K, M and G may follow)");
    value <<= shift;
    if (value < min || value > max) {
        char words[96];
        snprintf(words, sizeof(words), "must be between %llu and %llu", (unsigned long long)min,
                 (unsigned long long)max);
        option_wrong(option, words);
    }
    return value;
}

double option_decimal(const char *option, const char *text, double min, double max)
{
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (errno != 0 || end == text || *end != '\0')
        option_wrong(option, "takes a number");
    if (!(value >= min && value <= max)) { /* so written, NaN is refused too */
        char words[96];
        snprintf(words, sizeof(words), "must be between %g and %g", min, max);
        option_wrong(option, words);
    }
    return value;
}

struct net_address option_address(const char *option, const char *text)
{
    struct net_address address;
    if (net_parse(slice_of_string(text), 0, &address) < 0 || address.port == 0)
        option_wrong(option, "takes ADDRESS:PORT, as 127.0.0.1:2525 or [::1]:2525");
    return address;
}

unsigned option_threads(const char *text)
{
    return (unsigned)option_number("--threads", text, 1, OPTION_THREADS_MAX);
}

uint32_t option_connections(const char *option, const char *text)
{
    return (uint32_t)option_number(option, text, 1, OPTION_CONNECTIONS_MAX);
}

void options_end(int argc, char **argv)
{
    if (optind < argc)
        option_wrong(argv[optind], "is not an option");
}

void options_raise_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return;
    if (limit.rlim_max < FILES_WANTED) { /* root may raise it */
        struct rlimit more = { .rlim_cur = FILES_WANTED, .rlim_max = FILES_WANTED };
        if (setrlimit(RLIMIT_NOFILE, &more) == 0)
            return;
    }
    limit.rlim_cur = limit.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &limit); /* if it fails, the ring says what was too few */
}
