/*
 * own_mail.h - a message that control makes goes into a shard's spool and queue like any other
 *
 *   control: HANDOFF_MAIL --> the shard: room, spool, commit, queue --> HANDOFF_MAILED --> control
 *
 * Control's, and untouched by it between the two. result 0 says that the message is ours to
 * deliver: it is durable, and queued.
 */
#ifndef RINGPOST_MTA_OWN_MAIL_H
#define RINGPOST_MTA_OWN_MAIL_H

#include "core/shard.h"
#include "queue/spool.h"

struct own_mail {
    struct slice sender; /* empty: the null sender */
    struct slice recipient;
    struct slice content; /* lines that end in CRLF */
    const char *origin;   /* what it is: stands where other mail has its listener */
    uint32_t flags;       /* enum envelope_flags */
    int result;           /* the answer; -ENOSPC: there is no room for it now */
    uint64_t id;          /* and what it is called, when it is 0 */
    struct shard *shard;  /* the rest is the shard's */
    struct task task;
    struct spool_writer writer;
    struct commit commit;
    size_t at; /* of content: the next octet to be written */
    uint8_t state;
};

/* In a shard of the server: HANDOFF_MAIL. */
void own_mail_asked(struct shard *shard, const struct handoff *handoff);

#endif
