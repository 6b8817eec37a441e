/*
 * policy.h - `ringpost-bench policy`: what a decision costs
 */
#ifndef RINGPOST_BENCH_POLICY_H
#define RINGPOST_BENCH_POLICY_H

int policy_main(int argc, char **argv);

#endif
