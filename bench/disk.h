/*
 * disk.h - `ringpost-bench disk`: writes and syncs, and nothing else
 */
#ifndef RINGPOST_BENCH_DISK_H
#define RINGPOST_BENCH_DISK_H

int disk_main(int argc, char **argv);

#endif
