/*
 * spool_check.h - a log that no server has open: verified, counted, its messages read back
 *
 * All of the log is read by the recovery that a start would do, without a change to anything.
 * Beside it the books are kept once more, from the records alone: what became of each recipient of
 * each message that the log still has. Both must agree (unaccounted is 0) where nothing is damaged.
 *
 * Allocates as it likes: it runs in a process of its own, for an operator.
 */
#ifndef RINGPOST_QUEUE_SPOOL_CHECK_H
#define RINGPOST_QUEUE_SPOOL_CHECK_H

#include "queue/recovery.h"

struct spool_check_options {
    const char *directory;  /* of the log; kept */
    const char *quarantine; /* damaged ranges are copied to here; NULL: nowhere; kept */
    uint32_t number;        /* of the log */
    bool outcomes;          /* keep those of live messages, for spool_check_outcomes */
    void *owner;
    /* See recovery.h; may be NULL. */
    void (*range)(void *owner, uint32_t file, uint64_t position, uint32_t bytes, bool torn);
};

struct spool_check_numbers {
    struct recovery_report report;
    uint32_t segment_bytes, block_bytes; /* 0: nothing was ever written to it */
    uint64_t outcomes;                   /* in records of their own */
    /* Of all messages that the log still has, live or finished. */
    uint64_t messages;
    uint64_t recipients, delivered, bounced, expired, discarded;
    uint64_t waiting;    /* recipients of live messages without a final outcome */
    int64_t unaccounted; /* recipients that are none of these */
    uint64_t live_bytes; /* records of live messages */
    uint64_t dead_bytes; /* the rest of the segments in use */
    uint64_t oldest_us;  /* arrival of the oldest live message; 0: none */
};

struct spool_check;

/* Reads all of it. 0, or errno with *why. */
[[nodiscard]] int spool_check_open(struct ring *ring, const struct spool_check_options *options,
                                   struct spool_check **check, const char **why);
void spool_check_close(struct spool_check *check);
const struct spool_check_numbers *spool_check_numbers(const struct spool_check *check);

/* A message as it is in the log. */
struct spool_check_message {
    uint64_t id;
    uint32_t recipients;
    bool live;
    bool damaged;             /* live, and something of it cannot be read */
    struct message_head head; /* until the next message is read */
    struct envelope envelope;
};

/* Live messages in the order of the log; *cursor starts as 0. 1; 0: no more; -EBADMSG: this one's
 * envelope cannot be read (id is set); or an errno. */
[[nodiscard]] int spool_check_next(struct spool_check *check, size_t *cursor,
                                   struct spool_check_message *message);
/* Any message that the log still has; also one that is finished. 0, -ENOENT, or as above. */
[[nodiscard]] int spool_check_find(struct spool_check *check, uint64_t id,
                                   struct spool_check_message *message);
/* enum outcome_kind of a recipient's final outcome; 0: it waits. */
uint8_t spool_check_final(const struct spool_check *check, uint64_t id, uint32_t recipient);
/* The newest outcomes of a live message, encoded, newest first. */
struct slice spool_check_outcomes(const struct spool_check *check, uint64_t id, uint32_t *count);
/* The body of the message that was read last, piece by piece; a piece without data is one that
 * cannot be read. each: 0, or an errno that ends it. Returns 0, -EBADMSG: some cannot be read, or
 * an errno. */
[[nodiscard]] int spool_check_body(struct spool_check *check,
                                   const struct spool_check_message *message,
                                   int (*each)(void *owner, struct slice piece), void *owner);

#endif
