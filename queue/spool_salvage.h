/*
 * spool_salvage.h - what is intact of a damaged log, written into a new one
 *
 * The new log is made by the spool itself, message by message: the same ids, envelopes, bodies and
 * outcomes, so the server goes on where the old one ended.
 */
#ifndef RINGPOST_QUEUE_SPOOL_SALVAGE_H
#define RINGPOST_QUEUE_SPOOL_SALVAGE_H

#include "queue/spool_check.h"

struct spool_salvage_numbers {
    uint64_t copied;  /* messages that are on stable storage in the new log */
    uint64_t damaged; /* live ones that could not be read in full, so were not */
};

/* Copies each live message of check (opened with outcomes) that can be read in full to a log in
 * directory, which is new. Told is called for those that cannot. 0, or errno with *why: what is in
 * directory then is not all. */
[[nodiscard]] int spool_salvage(struct ring *ring, struct spool_check *check, const char *directory,
                                uint32_t number, void (*told)(void *owner, uint64_t id),
                                void *owner, struct spool_salvage_numbers *numbers,
                                const char **why);

#endif
