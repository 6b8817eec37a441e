/*
 * options.h - what a subcommand was told: words to values, with bounds
 *
 * All of these end the program with status 2 and say which option was wrong, and why: they are for
 * the command line only.
 */
#ifndef RINGPOST_BENCH_OPTIONS_H
#define RINGPOST_BENCH_OPTIONS_H

#include "core/net.h"

enum {
    EXIT_OK = 0,
    EXIT_NOTHING = 1, /* it ran, and the result is not what it was meant for */
    EXIT_USAGE = 2,
};

enum { OPTION_THREADS_MAX = 64, OPTION_CONNECTIONS_MAX = 1'000'000 };

/* A whole number from min to max; K, M and G behind it stand for 2^10, 2^20 and 2^30. */
uint64_t option_number(const char *option, const char *text, uint64_t min, uint64_t max);
/* A decimal number from min to max. */
double option_decimal(const char *option, const char *text, double min, double max);
/* ADDRESS:PORT. */
struct net_address option_address(const char *option, const char *text);
/* --threads, and connections by an option of any name. */
unsigned option_threads(const char *text);
uint32_t option_connections(const char *option, const char *text);
/* After the last option: there is nothing more. */
void options_end(int argc, char **argv);
__attribute__((noreturn)) void option_wrong(const char *option, const char *why);

/* As many open files as this process may have. */
void options_raise_files(void);

#endif
