/*
 * sink.h - `ringpost-bench sink`: a next hop that takes mail and throws it away
 */
#ifndef RINGPOST_BENCH_SINK_H
#define RINGPOST_BENCH_SINK_H

int sink_main(int argc, char **argv);

#endif
