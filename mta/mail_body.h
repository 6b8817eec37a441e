/*
 * mail_body.h - the content of a queued message on its way to a next hop
 *
 *   mail_body_begin --> mail_body_prepare (again after -EAGAIN) --0--> mail_body_source, size bytes
 *
 * Header fields that only we may set stay here where they shall not go along. How many octets they
 * are must be known before MAIL (SIZE, BDAT), so the header of a message that has such fields is
 * read twice; that of any other is not looked at.
 *
 * The reader lends one part of the content at a time: there is none before the last one is
 * released.
 */
#ifndef RINGPOST_MTA_MAIL_BODY_H
#define RINGPOST_MTA_MAIL_BODY_H

#include "core/shard.h"
#include "mta/header_filter.h"
#include "mta/smtp_client.h"
#include "queue/spool.h"

struct mail_body {
    uint64_t size; /* octets that go; known when prepared */

    /* The rest is for mail_body.c only. */
    struct shard *shard;
    struct task *task;
    struct spool_read *read;
    uint64_t stored; /* octets in the spool */
    uint64_t given;  /* of these, by the reader */
    bool strips, scanning, scanned;
    bool lent;         /* a slice is out */
    bool wanted;       /* and more was asked for meanwhile */
    struct slice part; /* given, and not yet through the filter */
    struct header_filter header;
};

/* read has the envelope behind it, and is lent for the time; task is run when there is more. */
void mail_body_begin(struct mail_body *body, struct shard *shard, struct task *task,
                     struct spool_read *read, uint64_t stored);
/* strip: what stays here, lives as long as the body is being sent; NULL: nothing. 0; -EAGAIN: call
 * again when the task runs; or an errno: it cannot be read. */
[[nodiscard]] int mail_body_prepare(struct mail_body *body, const struct header_rules *strip);
struct smtp_body_source mail_body_source(struct mail_body *body);

#endif
