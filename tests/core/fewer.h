/*
 * fewer.h - how often a test does the same by chance in AddressSanitizer's build
 *
 * Each time takes several times as long there, and what that build looks for, the first ones show;
 * the many are for the release build.
 */
#ifndef RINGPOST_TESTS_CORE_FEWER_H
#define RINGPOST_TESTS_CORE_FEWER_H

#if defined(__SANITIZE_ADDRESS__)
#define UNDER_ASAN 1
#elif defined(__has_feature)
#define UNDER_ASAN __has_feature(address_sanitizer)
#else
#define UNDER_ASAN 0
#endif

#define FEWER(times) (UNDER_ASAN ? ((times) + 3) / 4 : (times))

#endif
