/*
 * tls_loop.h - `ringpost-bench tls-loop`: what the library alone takes for a handshake
 */
#ifndef RINGPOST_BENCH_TLS_LOOP_H
#define RINGPOST_BENCH_TLS_LOOP_H

int tls_loop_main(int argc, char **argv);

#endif
