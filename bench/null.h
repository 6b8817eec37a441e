/*
 * null.h - `ringpost-bench null`: a server that answers as fast as this machine can
 */
#ifndef RINGPOST_BENCH_NULL_H
#define RINGPOST_BENCH_NULL_H

int null_main(int argc, char **argv);

#endif
