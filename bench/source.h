/*
 * source.h - `ringpost-bench source`: a client that sends mail as fast, or as badly, as asked for
 */
#ifndef RINGPOST_BENCH_SOURCE_H
#define RINGPOST_BENCH_SOURCE_H

int source_main(int argc, char **argv);

#endif
