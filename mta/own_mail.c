/*
 * own_mail.c - a message of control's, piece by piece into the spool of the shard that got it
 *
 *   BEGIN --room in the queue, an id--> WRITING --> COMMITTING --durable, queued--> ANSWERING
 *     '----- no room, draining, the disk says no: result < 0 -----------------------^
 *
 * The shard is not drained before it has answered. Bounds: control has few of them under way.
 */
#include "mta/own_mail.h"

#include <errno.h>

#include "core/check.h"
#include "mta/outbound_envelope.h"
#include "mta/server.h"

enum { MAIL_BEGIN, MAIL_WRITING, MAIL_COMMITTING, MAIL_ANSWERING };

static struct server_log *log_of(const struct own_mail *mail)
{
    struct server_shard *server = mail->shard->owner;
    return &server->logs[0];
}

static void answer(struct own_mail *mail)
{
    struct server_shard *server = mail->shard->owner;
    const struct handoff handoff = { .kind = HANDOFF_MAILED, .pointer = mail };
    mail->state = MAIL_ANSWERING;
    if (shard_handoff(mail->shard, mail->shard->group->count - 1, handoff) == 0)
        server->mails--; /* and it is control's again */
    else
        shard_run_later(mail->shard, &mail->task); /* control is far behind: try again */
}

static void finish(struct own_mail *mail, int result)
{
    mail->result = result;
    answer(mail);
}

/* What was begun is undone. */
static void give_up(struct own_mail *mail, int result)
{
    spool_write_abort(&mail->writer);
    queue_unreserve(&log_of(mail)->queue, 1);
    finish(mail, result);
}

static struct envelope envelope_of(const struct own_mail *mail, struct recipient *to)
{
    const struct server_shard *server = mail->shard->owner;
    *to = (struct recipient) { .address = mail->recipient, .notify = NOTIFY_NEVER };
    const struct envelope e = {
        .sender = mail->sender,
        .listener = slice_of_string(mail->origin),
        .arrival_us = mail->shard->steady_us,
        .body_bytes = mail->writer.body_bytes,
        .flags = mail->flags,
        .recipients_count = 1,
        .recipients = to,
    };
    outbound_decide(server->generations.current->config, &e, to);
    return e;
}

static void on_commit(struct commit *commit, int result)
{
    struct own_mail *mail = container_of(commit, struct own_mail, commit);
    struct recipient to;
    if (result < 0) {
        give_up(mail, result);
        return;
    }
    const struct envelope e = envelope_of(mail, &to);
    mail->id = mail->writer.id;
    queue_add(&log_of(mail)->queue, &mail->writer.stored, &e);
    finish(mail, 0);
}

/* 0, or an error of the writer's. */
static int write_content(struct own_mail *mail)
{
    while (mail->at < mail->content.size) {
        const struct slice piece = slice_part(mail->content, mail->at, SPOOL_STAGING_BYTES);
        int r = spool_write_body(&mail->writer, piece);
        if (r < 0)
            return r;
        mail->at += piece.size;
    }
    return 0;
}

/* False: it was answered, and is not ours any more. */
static bool begin(struct own_mail *mail)
{
    struct server_log *log = log_of(mail);
    const struct server_shard *server = mail->shard->owner;
    if (server->draining) {
        finish(mail, -ESHUTDOWN);
        return false;
    }
    if (!queue_reserve(&log->queue)) {
        finish(mail, -ENOSPC);
        return false;
    }
    mail->writer = (struct spool_writer) { .spool = NULL };
    int r = spool_write_begin(log->spool, &mail->writer, &mail->task);
    if (r < 0) {
        queue_unreserve(&log->queue, 1);
        finish(mail, r);
        return false;
    }
    mail->state = MAIL_WRITING;
    return true;
}

static void go_on(struct own_mail *mail)
{
    struct recipient to;
    int r = write_content(mail);
    if (r == 0) {
        const struct envelope e = envelope_of(mail, &to);
        mail->commit = (struct commit) { .done = on_commit };
        r = spool_write_commit(&mail->writer, &e, &mail->commit);
    }
    if (r == 0)
        mail->state = MAIL_COMMITTING;
    else if (r != -EAGAIN)
        give_up(mail, r);
}

static void run(struct task *task)
{
    struct own_mail *mail = container_of(task, struct own_mail, task);
    switch (mail->state) {
    case MAIL_BEGIN:
        if (begin(mail))
            go_on(mail);
        return;
    case MAIL_WRITING: go_on(mail); return;
    case MAIL_COMMITTING: return;
    case MAIL_ANSWERING: answer(mail); return;
    }
}

void own_mail_asked(struct shard *shard, const struct handoff *handoff)
{
    struct server_shard *server = shard->owner;
    struct own_mail *mail = handoff->pointer;
    server->mails++;
    mail->shard = shard;
    mail->at = 0;
    mail->state = MAIL_BEGIN;
    task_init(&mail->task, run);
    shard_run_later(shard, &mail->task);
}
