/*
 * handshakes.h - `ringpost-bench handshakes`: connections that shake hands and go
 */
#ifndef RINGPOST_BENCH_HANDSHAKES_H
#define RINGPOST_BENCH_HANDSHAKES_H

int handshakes_main(int argc, char **argv);

#endif
