/*
 * mail_body.c - parts of the spool, one lent at a time, through a filter where fields stay here
 */
#include "mta/mail_body.h"

#include <errno.h>

#include "core/check.h"

void mail_body_begin(struct mail_body *body, struct shard *shard, struct task *task,
                     struct spool_read *read, uint64_t stored)
{
    memset(body, 0, offsetof(struct mail_body, header));
    body->shard = shard;
    body->task = task;
    body->read = read;
    body->stored = stored;
}

static int read_part(struct mail_body *body, struct slice *out)
{
    if (body->given == body->stored)
        return 0;
    int r = spool_read_body(body->read, out);
    if (r <= 0)
        return r == 0 ? -EBADMSG : r; /* shorter than its envelope says */
    body->given += out->size;
    return 1;
}

/* How much of the header will not go. */
static int scan(struct mail_body *body)
{
    struct slice out;
    int r = 1;
    while (r == 1 && !body->header.header_ended) {
        r = read_part(body, &body->part);
        while (r == 1 && header_filter_take(&body->header, &body->part, &out))
            ; /* looked at only */
    }
    if (r < 0)
        return r;
    (void)header_filter_end(&body->header, &out);
    body->given = 0;
    spool_read_rewind(body->read);
    return 0;
}

int mail_body_prepare(struct mail_body *body, const struct header_rules *strip)
{
    body->size = body->stored;
    body->strips = strip != NULL;
    if (!body->strips)
        return 0;
    if (!body->scanning)
        header_filter_begin(&body->header, strip, NULL, false);
    body->scanning = true;
    int r = body->scanned ? 0 : scan(body);
    if (r < 0)
        return r;
    body->scanned = true;
    CHECK(body->header.removed <= body->stored);
    body->size -= body->header.removed;
    header_filter_begin(&body->header, strip, NULL, false);
    return 0;
}

static int strip_part(struct mail_body *body, struct slice *out)
{
    while (!header_filter_take(&body->header, &body->part, out)) {
        int r = read_part(body, &body->part);
        if (r == 0)
            return header_filter_end(&body->header, out);
        if (r < 0)
            return r;
    }
    return 1;
}

static int next(void *source, struct slice *out)
{
    struct mail_body *body = source;
    if (body->lent) {
        body->wanted = true;
        return -EAGAIN;
    }
    int r = body->strips ? strip_part(body, out) : read_part(body, out);
    body->lent = r == 1;
    return r;
}

static void release(void *source)
{
    struct mail_body *body = source;
    body->lent = false;
    if (body->wanted)
        shard_run_later(body->shard, body->task);
    body->wanted = false;
}

struct smtp_body_source mail_body_source(struct mail_body *body)
{
    return (struct smtp_body_source) { next, release, body };
}
