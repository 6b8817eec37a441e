/*
 * control_tlsrpt_send.c - reports about TLS on their way to who wants them (RFC 8460 3, 5)
 *
 *   after midnight (UTC), and JITTER_S at most: each record of the day that has ended
 *       --> TXT of _smtp._tls.DOMAIN --none--> UNWANTED
 *                 '--rua--> JSON, gzip --> each URI: POST (https:), or mail into our queue
 *                            one took it: SENT; none did: tried again in an hour
 *
 * What became of a record is in it, so that a restart sends nothing twice. TLSRPT_SENDS_MAX are
 * under way at a time, TRIES_MAX times each. An operator may send any day's report at any time.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/check.h"
#include "core/log.h"
#include "mta/control.h"
#include "mta/own_mail.h"
#include "mta/tlsrpt_mail.h"
#include "mta/smtp_server.h"
#include "mta/tlsrpt_report.h"
#include "mta/tlsrpt_store.h"
#include "mta/tlsrpt_txt.h"
#include "tls/tls_roots.h"

enum {
    LOOK_MS = 60'000,
    NEXT_MS = 10, /* when one has ended */
    LOOK_RECORDS = 100,
    US_IN_S = 1'000'000,
    S_IN_DAY = 86'400,
    JITTER_S = 4 * 3'600,
    AGAIN_S = 3'600,
    TRIES_MAX = 8,
    POST_MS = 60'000,
    ANSWER_BYTES_MAX = 65'536,
    GZIP = 15 + 16, /* zlib's word for a window of 32 KiB in a gzip file */
    GZIP_MEMORY = 8,
};

struct tlsrpt_send {
    struct list node;
    struct control *control;
    struct tlsrpt_key key;
    struct dns_query query;
    struct fetch_request fetch;
    struct tlsrpt_uris uris;
    unsigned next; /* URI */
    unsigned taken;
    uint8_t *packed; /* malloc'd; NULL: not yet */
    size_t packed_bytes;
    char *id; /* of the report; malloc'd */
    struct own_mail mail;
    char *text; /* of the mail; malloc'd */
    unsigned signatures;
    char mailbox[TLSRPT_URI_MAX];
};

static int64_t now_s(const struct control *control)
{
    return control->shard.wall_us / US_IN_S;
}

static uint32_t today(const struct control *control)
{
    return (uint32_t)(now_s(control) / S_IN_DAY);
}

/* RFC 8460 3 wants a signature, and lets who gets it ignore a report without. */
static void tell_mail(const struct tlsrpt_send *send, struct log_line *line)
{
    char id[SMTP_ID_TEXT];
    smtp_id_text(send->mail.id, id);
    log_string(line, "msg", id);
    log_number(line, "signatures", send->signatures);
    if (send->signatures == 0)
        log_string(line, "unsigned", "there is no dkim key of the sender's domain");
}

static void tell(const struct tlsrpt_send *send, const char *event, const char *uri,
                 const char *why)
{
    const struct shard *shard = &send->control->shard;
    char day[TLSRPT_DAY_TEXT_MAX];
    struct log_line line;
    tlsrpt_day_text(send->key.day, day);
    log_begin(&line, shard->log, why == NULL ? LOG_INFO : LOG_WARNING, shard->wall_us, event);
    log_string(&line, "domain", send->key.domain);
    log_string(&line, "day", day);
    if (uri != NULL)
        log_string(&line, "uri", uri);
    if (why != NULL)
        log_string(&line, "why", why);
    else
        log_number(&line, "bytes", (int64_t)send->packed_bytes);
    if (why == NULL && send->mail.id != 0)
        tell_mail(send, &line);
    log_end(&line);
}

/* ---- the end ---- */

static void drop(struct tlsrpt_send *send)
{
    list_remove(&send->node);
    free(send->packed);
    free(send->text);
    free(send->id);
    pool_give(&send->control->tlsrpt.sends, send);
}

/* A day that goes on is not over with its report. */
static void end(struct tlsrpt_send *send, enum tlsrpt_state state)
{
    struct control *control = send->control;
    struct control_tlsrpt *tlsrpt = &control->tlsrpt;
    metric_add(&tlsrpt->reports[state], 1);
    if (send->key.day < today(control))
        control_tlsrpt_mark(control, &send->key, state);
    drop(send);
    shard_timer_arm(&control->shard, &tlsrpt->look_timer, NEXT_MS);
}

/* ---- the report ---- */

/* 0 or -ENOMEM. */
static int pack(struct tlsrpt_send *send, const char *text, size_t size)
{
    z_stream z = { .zalloc = NULL };
    if (deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, GZIP, GZIP_MEMORY,
                     Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    const uLong room = deflateBound(&z, size);
    send->packed = malloc(room);
    z.next_in = (Bytef *)(uintptr_t)text;
    z.avail_in = (uInt)size;
    z.next_out = send->packed;
    z.avail_out = (uInt)room;
    int r = send->packed == NULL ? Z_MEM_ERROR : deflate(&z, Z_FINISH);
    send->packed_bytes = z.total_out;
    deflateEnd(&z);
    return r == Z_STREAM_END ? 0 : -ENOMEM;
}

static int make(struct tlsrpt_send *send)
{
    char day[TLSRPT_DAY_TEXT_MAX];
    tlsrpt_day_text(send->key.day, day);
    json_t *report = control_tlsrpt_report(send->control, send->key.domain, day);
    if (report == NULL)
        return -ENOENT;
    char *text = json_dumps(report, JSON_COMPACT | JSON_ENSURE_ASCII);
    send->id = strdup(json_string_value(json_object_get(report, "report-id")));
    json_decref(report);
    int r = text == NULL || send->id == NULL ? -ENOMEM : pack(send, text, strlen(text));
    free(text);
    return r;
}

/* ---- its way ---- */

static void next_uri(struct tlsrpt_send *send);

static void on_posted(struct fetch_request *request, const struct fetch_answer *answer)
{
    struct tlsrpt_send *send = container_of(request, struct tlsrpt_send, fetch);
    const char *uri = send->uris.uris[send->next].text;
    const bool taken = answer->status / 100 == 2;
    send->taken += taken;
    tell(send, taken ? "tlsrpt_sent" : "tlsrpt_unsent", uri, taken ? NULL : answer->why);
    send->next++;
    next_uri(send);
}

static void post(struct tlsrpt_send *send, const char *uri)
{
    struct control *control = send->control;
    const struct tls_roots *roots = control->config->tlsrpt.roots;
    send->fetch = (struct fetch_request) {
        .fetched = on_posted,
        .url = uri,
        .ca_file = roots == NULL ? NULL : tls_roots_path(roots),
        .post_type = "application/tlsrpt+gzip",
        .post = slice_of(send->packed, send->packed_bytes),
        .bytes_max = ANSWER_BYTES_MAX,
        .timeout_ms = POST_MS,
    };
    int r = fetch_start(control->fetcher, &send->fetch);
    if (r == 0)
        return;
    const struct fetch_answer none = { .result = FETCH_LOCAL, .why = strerror(-r) };
    on_posted(&send->fetch, &none);
}

static void on_mailed(struct shard *shard, const struct handoff *handoff)
{
    struct tlsrpt_send *send =
        container_of((struct own_mail *)handoff->pointer, struct tlsrpt_send, mail);
    struct control *control = shard->owner;
    const char *uri = send->uris.uris[send->next].text;
    const int r = send->mail.result;
    free(send->text);
    send->text = NULL;
    if (r < 0) {
        tell(send, "tlsrpt_unsent", uri,
             r == -ENOSPC ? "there is no room in the queue" : strerror(-r));
    } else {
        metric_add(
            send->signatures > 0 ? &control->tlsrpt.mails_signed : &control->tlsrpt.mails_plain, 1);
        tell(send, "tlsrpt_sent", uri, NULL);
        send->mail.id = 0;
        send->taken++;
    }
    send->next++;
    next_uri(send);
}

/* RFC 8460 3: as mail of our own, which goes in clear rather than not at all. A bounce of it would
 * help nobody: the sender is null, and failures are in the log. */
static int mail(struct tlsrpt_send *send)
{
    struct control *control = send->control;
    const struct config *config = control->config;
    const char *at = strrchr(config->tlsrpt.from, '@');
    size_t size = 0;
    if (!tlsrpt_mailbox(send->uris.uris[send->next].text, send->mailbox))
        return -EDESTADDRREQ;
    const struct tlsrpt_mail report = {
        .from = config->tlsrpt.from,
        .to = send->mailbox,
        .submitter = at == NULL ? config->hostname : at + 1,
        .domain = send->key.domain,
        .id = send->id,
        .day = send->key.day,
        .now_us = control->shard.wall_us,
        .random = random_next(&control->shard.random),
        .packed = slice_of(send->packed, send->packed_bytes),
        .keys = config->dkim,
        .keys_count = config->dkim_count,
    };
    send->text = tlsrpt_mail_make(&report, &size, &send->signatures);
    if (send->text == NULL)
        return -ENOMEM;
    send->mail = (struct own_mail) {
        .recipient = slice_of_string(send->mailbox),
        .content = slice_of(send->text, size),
        .origin = "tls-report",
        .flags = ENVELOPE_TLS_OPTIONAL,
    };
    const unsigned to = (unsigned)random_below(&control->shard.random, control->servers_count);
    const struct handoff handoff = { .kind = HANDOFF_MAIL, .pointer = &send->mail };
    return control->stopping ? -ESHUTDOWN : shard_handoff(&control->shard, to, handoff);
}

static void next_uri(struct tlsrpt_send *send)
{
    const struct tlsrpt_uris *uris = &send->uris;
    for (; send->next < uris->count; send->next++) {
        const struct tlsrpt_uri *uri = &uris->uris[send->next];
        if (uri->scheme == TLSRPT_HTTPS) {
            post(send, uri->text);
            return;
        }
        int r = mail(send);
        if (r == 0)
            return;
        free(send->text);
        send->text = NULL;
        tell(send, "tlsrpt_unsent", uri->text,
             r == -EDESTADDRREQ ? "it names no mailbox" : strerror(-r));
    }
    end(send, send->taken > 0 ? TLSRPT_SENT : TLSRPT_UNSENT);
}

/* RFC 8460 3: exactly one record that begins like one. */
static enum tlsrpt_txt wanted(const struct dns_answer *dns, struct tlsrpt_uris *uris)
{
    enum tlsrpt_txt found = TLSRPT_TXT_OTHER;
    for (unsigned i = 0; dns->status == DNS_OK && i < dns->count; i++) {
        struct tlsrpt_uris each;
        enum tlsrpt_txt txt =
            tlsrpt_txt_read(slice_of(dns->records[i].data, dns->records[i].size), &each);
        if (txt == TLSRPT_TXT_OTHER)
            continue;
        if (found != TLSRPT_TXT_OTHER)
            return TLSRPT_TXT_INVALID;
        found = txt;
        *uris = each;
    }
    return found;
}

static void on_txt(struct dns_query *query, const struct dns_answer *dns)
{
    struct tlsrpt_send *send = container_of(query, struct tlsrpt_send, query);
    const bool answered =
        dns->status == DNS_OK || dns->status == DNS_NODATA || dns->status == DNS_NXDOMAIN;
    enum tlsrpt_txt found = wanted(dns, &send->uris);
    const char *why = NULL;
    if (!answered)
        why = "its record could not be asked for";
    else if (found == TLSRPT_TXT_INVALID)
        why = "its record is malformed, or one of several";
    else if (found == TLSRPT_TXT_VALID && send->uris.count == 0)
        why = "it wants reports neither by https nor by mail";
    if (why != NULL)
        tell(send, "tlsrpt_unsent", NULL, why);
    if (!answered || found != TLSRPT_TXT_VALID || why != NULL) {
        end(send, answered ? TLSRPT_UNWANTED : TLSRPT_UNSENT);
        return;
    }
    int r = make(send);
    if (r == 0) {
        next_uri(send);
        return;
    }
    tell(send, "tlsrpt_unsent", NULL, strerror(-r));
    end(send, TLSRPT_UNSENT);
}

static bool is_under_way(const struct control *control, const struct tlsrpt_key *key)
{
    list_each (node, &control->tlsrpt.sending) {
        const struct tlsrpt_send *send = container_of(node, struct tlsrpt_send, node);
        if (send->key.day == key->day && strcmp(send->key.domain, key->domain) == 0)
            return true;
    }
    return false;
}

/* False: there is no room for it now. */
static bool begin(struct control *control, const struct tlsrpt_key *key)
{
    char name[DNS_NAME_MAX + 16];
    struct tlsrpt_send *send = pool_take(&control->tlsrpt.sends);
    if (send == NULL)
        return false;
    memset(send, 0, sizeof(*send));
    send->control = control;
    send->key = *key;
    send->query.answered = on_txt;
    list_push(&control->tlsrpt.sending, &send->node);
    snprintf(name, sizeof(name), "_smtp._tls.%s", key->domain);
    dns_ask(&control->dns, &control->shard, &send->query, name, DNS_TXT);
    return true;
}

/* ---- each day ---- */

/* Of this node: not all of the world's reports leave at midnight. */
static int64_t jitter_s(const struct control *control)
{
    uint32_t hash = 2'166'136'261;
    for (const char *at = control->config->hostname; *at != '\0'; at++)
        hash = (hash ^ (uint8_t)*at) * 16'777'619;
    return hash % JITTER_S;
}

static void look(struct control *control)
{
    struct control_tlsrpt *tlsrpt = &control->tlsrpt;
    const uint32_t day = today(control) - 1;
    if (!control->config->tlsrpt.sends || now_s(control) % S_IN_DAY < jitter_s(control) ||
        now_s(control) < tlsrpt->look_s)
        return;
    if (tlsrpt->looked.day != day)
        tlsrpt->looked = (struct tlsrpt_key) { .day = day };
    for (unsigned i = 0; i < LOOK_RECORDS && tlsrpt->sends.used < TLSRPT_SENDS_MAX; i++) {
        struct tlsrpt_key key = tlsrpt->looked;
        struct tlsrpt_record record;
        int r = control_tlsrpt_next(control, &key, &record);
        if (r < 0 || key.day != day) { /* all were looked at */
            tlsrpt->looked = (struct tlsrpt_key) { .day = day };
            tlsrpt->look_s = now_s(control) + AGAIN_S;
            return;
        }
        tlsrpt->looked = key;
        if (record.state == TLSRPT_UNSENT && record.tries < TRIES_MAX &&
            !is_under_way(control, &key))
            (void)begin(control, &key);
    }
}

static void on_look(struct timer *timer)
{
    struct control *control = container_of(timer, struct control, tlsrpt.look_timer);
    look(control);
    shard_timer_arm(&control->shard, timer, LOOK_MS);
}

/* ---- life ---- */

int control_tlsrpt_send_open(struct control *control)
{
    struct control_tlsrpt *tlsrpt = &control->tlsrpt;
    list_init(&tlsrpt->sending);
    timer_init(&tlsrpt->look_timer, on_look);
    return pool_init(&tlsrpt->sends, "reports about TLS", sizeof(struct tlsrpt_send),
                     TLSRPT_SENDS_MAX);
}

void control_tlsrpt_send_start(struct control *control)
{
    shard_handle(&control->shard, HANDOFF_MAILED, on_mailed);
    shard_timer_arm(&control->shard, &control->tlsrpt.look_timer, LOOK_MS);
}

void control_tlsrpt_send_stop(struct control *control)
{
    struct control_tlsrpt *tlsrpt = &control->tlsrpt;
    timer_disarm(&control->shard.timers, &tlsrpt->look_timer);
    while (!list_empty(&tlsrpt->sending)) {
        struct tlsrpt_send *send = container_of(tlsrpt->sending.next, struct tlsrpt_send, node);
        dns_forget(&control->dns, &send->query);
        fetch_forget(&send->fetch);
        drop(send);
    }
    pool_free(&tlsrpt->sends);
}

/* ---- for people ---- */

int control_tlsrpt_send(struct control *control, const char *domain, const char *day,
                        char words[static CONTROL_WORDS_MAX])
{
    struct tlsrpt_key key = { .day = today(control) - 1 };
    char text[TLSRPT_DAY_TEXT_MAX];
    if (*day != '\0' && tlsrpt_day_read(day, &key.day) < 0) {
        snprintf(words, CONTROL_WORDS_MAX, "a day is written 2026-11-25\n");
        return -EINVAL;
    }
    tlsrpt_day_text(key.day, text);
    json_t *report = control_tlsrpt_report(control, domain, text);
    if (report == NULL) {
        snprintf(words, CONTROL_WORDS_MAX, "%.255s: there is nothing to report of %s\n", domain,
                 text);
        return -EINVAL;
    }
    json_decref(report);
    for (size_t i = 0; domain[i] != '\0'; i++)
        key.domain[i] = (char)ascii_lower((uint8_t)domain[i]);
    const bool begun = !is_under_way(control, &key) && begin(control, &key);
    snprintf(words, CONTROL_WORDS_MAX, "%s: %s\n", key.domain,
             begun ? "the report is being sent; what becomes of it is in the log"
                   : "it is being sent already, or too many others are");
    return begun ? 0 : -EINVAL;
}
