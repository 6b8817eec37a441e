/*
 * smtp_incoming.c - gathering an envelope, tracing it, handing it to the spool
 */
#include "mta/smtp_incoming.h"

#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "mta/outbound_envelope.h"
#include "mta/pattern.h"
#include "queue/bounce.h"

enum {
    TRACE_MAX = 1'152,
    TRACE_TLS_MAX = 128,   /* version, suite and group, as their standards name them */
    TRACE_WORDS_MAX = 160, /* our words, address of the peer, id and date */
    US_IN_S = 1'000'000,
};
static_assert(TRACE_WORDS_MAX + TRACE_TLS_MAX + SMTP_HELO_BYTES + PATTERN_TEXT_MAX +
                  ADDRESS_LOCAL_MAX + 1 + ADDRESS_DOMAIN_MAX <=
              TRACE_MAX);

struct smtp_incoming *smtp_incoming_new(struct smtp_service *service, struct task *task)
{
    struct smtp_incoming *t = pool_take(&service->transactions);
    if (t == NULL)
        return NULL;
    memset(t, 0, offsetof(struct smtp_incoming, recipients));
    t->service = service;
    t->task = task;
    t->begun_ms = service->shard->now_ms;
    t->envelope.recipients = t->recipients;
    return t;
}

void smtp_incoming_free(struct smtp_incoming *t)
{
    CHECK(!t->committing);
    if (!t->asked)
        spool_write_abort(&t->writer);
    /* What was not accepted gives its room in the queue back. */
    if ((!t->asked || t->result < 0) && t->envelope.recipients_count > 0)
        t->service->unroom(t->service->owner, t->envelope.recipients_count);
    if (t->large != NULL)
        pool_give(&t->service->large, t->large);
    pool_give(&t->service->transactions, t);
}

/* ---- texts ---- */

/* Moves recipients and texts to a large block. Slices are rebased. */
static int transaction_grow(struct smtp_incoming *t)
{
    struct smtp_large *large = pool_take(&t->service->large);
    if (large == NULL)
        return -ENOSPC;
    struct envelope *e = &t->envelope;
    memcpy(large->text, t->text, t->text_size);
    if (e->sender.size > 0)
        e->sender.data = large->text + (e->sender.data - t->text);
    if (e->envid.size > 0)
        e->envid.data = large->text + (e->envid.data - t->text);
    if (t->sender_domain.size > 0)
        t->sender_domain.data = large->text + (t->sender_domain.data - t->text);
    for (uint32_t i = 0; i < e->recipients_count; i++) {
        struct recipient *r = &large->recipients[i];
        *r = t->recipients[i];
        r->address.data = large->text + (r->address.data - t->text);
        if (r->orcpt.size > 0)
            r->orcpt.data = large->text + (r->orcpt.data - t->text);
    }
    t->large = large;
    e->recipients = large->recipients;
    return 0;
}

static int transaction_need(struct smtp_incoming *t, size_t bytes, bool recipient)
{
    if (t->large == NULL) {
        bool fits = t->text_size + bytes <= SMTP_TEXT_SMALL &&
                    (!recipient || t->envelope.recipients_count < SMTP_RECIPIENTS_SMALL);
        if (fits)
            return 0;
        int r = transaction_grow(t);
        if (r < 0)
            return r;
    }
    if (t->text_size + bytes > SMTP_TEXT_LARGE || t->envelope.recipients_count >= RECIPIENTS_MAX)
        return -ENOSPC;
    return 0;
}

static struct slice transaction_keep(struct smtp_incoming *t, struct slice text)
{
    uint8_t *base = t->large != NULL ? t->large->text : t->text;
    uint8_t *at = base + t->text_size;
    if (text.size > 0)
        memcpy(at, text.data, text.size);
    t->text_size += (uint32_t)text.size;
    return slice_of(at, text.size);
}

int smtp_incoming_sender(struct smtp_incoming *t, const struct smtp_mail *mail, struct slice domain)
{
    struct slice address = address_text(&mail->path);
    struct envelope *e = &t->envelope;
    int r = transaction_need(t, address.size + mail->envid.size + domain.size, false);
    if (r < 0)
        return r;
    e->sender = transaction_keep(t, address);
    e->envid = transaction_keep(t, mail->envid);
    t->sender_domain = transaction_keep(t, domain);
    e->flags = (mail->smtputf8 ? ENVELOPE_SMTPUTF8 : 0U) |
               (mail->body == SMTP_BODY_8BITMIME ? ENVELOPE_8BITMIME : 0U) |
               (mail->requiretls ? ENVELOPE_REQUIRETLS : 0U);
    e->ret = mail->ret == SMTP_RET_FULL   ? RET_FULL
             : mail->ret == SMTP_RET_HDRS ? RET_HDRS
                                          : RET_NONE;
    t->size_declared = mail->size_given ? mail->size : 0;
    return 0;
}

int smtp_incoming_recipient(struct smtp_incoming *t, const struct smtp_rcpt *rcpt,
                            struct slice domain)
{
    struct slice address = rcpt->path.postmaster ? rcpt->path.local : address_text(&rcpt->path);
    int r = transaction_need(t, address.size + domain.size + 1 + rcpt->orcpt.size, true);
    if (r < 0)
        return r;
    struct recipient recipient = { .address = transaction_keep(t, address) };
    if (rcpt->path.postmaster) {
        (void)transaction_keep(t, SLICE("@"));
        (void)transaction_keep(t, domain);
        recipient.address.size += 1 + domain.size;
    }
    recipient.orcpt = transaction_keep(t, rcpt->orcpt);
    recipient.notify = (uint8_t)((rcpt->notify & SMTP_NOTIFY_NEVER ? NOTIFY_NEVER : 0) |
                                 (rcpt->notify & SMTP_NOTIFY_SUCCESS ? NOTIFY_SUCCESS : 0) |
                                 (rcpt->notify & SMTP_NOTIFY_FAILURE ? NOTIFY_FAILURE : 0) |
                                 (rcpt->notify & SMTP_NOTIFY_DELAY ? NOTIFY_DELAY : 0));
    struct recipient *list = t->large != NULL ? t->large->recipients : t->recipients;
    list[t->envelope.recipients_count++] = recipient;
    return 0;
}

/* ---- content ---- */

static const char id_digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

void smtp_id_text(uint64_t id, char out[static SMTP_ID_TEXT])
{
    for (int i = SMTP_ID_TEXT - 2; i >= 0; i--) {
        out[i] = id_digits[id & 31];
        id >>= 5;
    }
    out[SMTP_ID_TEXT - 1] = '\0';
}

int smtp_id_read(struct slice text, uint64_t *id)
{
    uint64_t value = 0;
    if (text.size != SMTP_ID_TEXT - 1)
        return -EINVAL;
    for (size_t i = 0; i < text.size; i++) {
        char c = (char)text.data[i];
        c = c >= 'a' && c <= 'z' ? (char)(c - ('a' - 'A')) : c;
        const char *at = c == '\0' ? NULL : strchr(id_digits, c);
        if (at == NULL)
            return -EINVAL;
        value = value << 5 | (uint64_t)(at - id_digits);
    }
    *id = value;
    return value == 0 ? -EINVAL : 0;
}

/* The date of this second, made once. */
static struct slice trace_date(struct smtp_service *service, int64_t wall_us)
{
    const int64_t second = wall_us / US_IN_S;
    if (service->date_size == 0 || service->date_second != second) {
        bounce_date(wall_us, service->date);
        service->date_size = (uint8_t)strlen(service->date);
        service->date_second = second;
    }
    return slice_of(service->date, service->date_size);
}

/* RFC 3848, 6531. */
static struct slice trace_with(const struct smtp_incoming *t, const struct smtp_origin *origin)
{
    bool utf8 = (t->envelope.flags & ENVELOPE_SMTPUTF8) != 0;
    if (origin->tls != NULL)
        return utf8 ? SLICE(" with UTF8SMTPS") : SLICE(" with ESMTPS");
    if (utf8)
        return SLICE(" with UTF8SMTP");
    return origin->esmtp ? SLICE(" with ESMTP") : SLICE(" with SMTP");
}

/* A comment: " (TLSv1.3 TLS_AES_128_GCM_SHA256 X25519)", or nothing. */
static struct slice trace_tls(const struct smtp_origin *origin, char out[static TRACE_TLS_MAX])
{
    if (origin->tls == NULL)
        return slice_of(NULL, 0);
    struct tls_facts facts;
    tls_session_facts(origin->tls, &facts);
    int size = snprintf(out, TRACE_TLS_MAX, " (%s %s%s%s)", facts.version, facts.suite,
                        *facts.group != '\0' ? " " : "", facts.group);
    CHECK(size > 0 && size < TRACE_TLS_MAX);
    return slice_of(out, (size_t)size);
}

/* RFC 5321 4.4. The recipient is named only when there is one, so that
 * no recipient learns of another. */
static size_t trace_write(const struct smtp_incoming *t, const struct smtp_origin *origin,
                          char out[static TRACE_MAX])
{
    char peer[NET_TEXT_MAX];
    char id[SMTP_ID_TEXT];
    char tls[TRACE_TLS_MAX];
    const size_t peer_size = net_text(origin->peer, false, peer);
    smtp_id_text(t->writer.id, id);
    const bool one = t->envelope.recipients_count == 1;
    const struct slice parts[] = {
        SLICE("Received: from "),
        origin->helo,
        SLICE(" (["),
        net_is_v4(origin->peer) ? SLICE("") : SLICE("IPv6:"),
        slice_of(peer, peer_size),
        SLICE("])\r\n\tby "),
        slice_of_string(origin->hostname),
        trace_with(t, origin),
        trace_tls(origin, tls),
        SLICE(" id "),
        slice_of(id, SMTP_ID_TEXT - 1),
        one ? SLICE("\r\n\tfor <") : SLICE(""),
        one ? t->envelope.recipients[0].address : SLICE(""),
        one ? SLICE(">;\r\n\t") : SLICE(";\r\n\t"),
        trace_date(t->service, origin->wall_us),
        SLICE("\r\n"),
    };
    size_t size = 0;
    for (unsigned i = 0; i < ARRAY_COUNT(parts); i++) {
        CHECK(parts[i].size <= TRACE_MAX - size);
        if (parts[i].size > 0)
            memcpy(out + size, parts[i].data, parts[i].size);
        size += parts[i].size;
    }
    return size;
}

int smtp_incoming_begin(struct smtp_incoming *t, const struct smtp_origin *origin)
{
    int r = spool_write_begin(t->service->spool, &t->writer, t->task);
    if (r < 0)
        return r;
    char trace[TRACE_MAX];
    size_t size = trace_write(t, origin, trace);
    t->envelope.helo = origin->helo;
    t->envelope.client = *origin->peer;
    t->envelope.arrival_us = origin->steady_us;
    t->envelope.flags |= origin->tls != NULL ? ENVELOPE_TLS : 0U;
    r = spool_write_body(&t->writer, slice_of(trace, size));
    CHECK(r != -EAGAIN); /* a fresh writer has staging room */
    return r;
}

int smtp_incoming_write(struct smtp_incoming *t, struct slice content)
{
    return spool_write_body(&t->writer, content);
}

static void transaction_on_commit(struct commit *commit, int result)
{
    struct smtp_incoming *t = container_of(commit, struct smtp_incoming, commit);
    CHECK(t->committing);
    t->committing = false;
    t->result = result;
    if (result == 0)
        t->service->accepted(t->service->owner, &t->writer.stored, &t->envelope);
    shard_run_later(t->service->shard, t->task);
}

/* Copies that rules want are recipients more. */
static int transaction_copy(struct smtp_incoming *t, const struct config *config)
{
    const struct outbound_rule *rules[OUTBOUND_COPIES_MAX];
    struct envelope *e = &t->envelope;
    unsigned count = outbound_copies(config, e, rules);
    for (unsigned i = 0; i < count; i++) {
        struct recipient copy = outbound_copy_recipient(rules[i]);
        if (transaction_need(t, copy.address.size, true) < 0 ||
            !t->service->room(t->service->owner))
            return -ENOSPC; /* none without its copies */
        copy.address = transaction_keep(t, copy.address);
        struct recipient *list = t->large != NULL ? t->large->recipients : t->recipients;
        list[e->recipients_count++] = copy;
        t->copies++;
    }
    return 0;
}

int smtp_incoming_commit(struct smtp_incoming *t, const struct config *config)
{
    t->envelope.body_bytes = t->writer.body_bytes;
    if (!t->copied) {
        t->copied = true;
        int r = transaction_copy(t, config);
        if (r < 0)
            return r;
    }
    outbound_decide(config, &t->envelope, t->large != NULL ? t->large->recipients : t->recipients);
    t->commit.done = transaction_on_commit;
    int r = spool_write_commit(&t->writer, &t->envelope, &t->commit);
    if (r == 0) {
        t->asked = true;
        t->committing = true;
    }
    return r;
}
