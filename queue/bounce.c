/*
 * bounce.c - a multipart/report: words for people, fields for programs, and the original's header
 *
 * Each part writes through `text`, which stops at the end of the piece instead of overflowing it;
 * the largest part (one recipient) is far below BOUNCE_PIECE_BYTES.
 */
#include "queue/bounce.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "core/check.h"

enum { US_IN_S = 1'000'000, TEXT_SHOWN_MAX = 480, ADDRESS_SHOWN_MAX = 400 };

enum bounce_part {
    PART_HEAD,
    PART_PEOPLE, /* one piece a recipient */
    PART_FIELDS_HEAD,
    PART_FIELDS, /* one piece a recipient */
    PART_ORIGINAL,
    PART_END,
};

struct text {
    char *out;
    size_t size;
};

static PRINTF_LIKE(2, 3) void text(struct text *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(t->out + t->size, BOUNCE_PIECE_BYTES - t->size, format, arguments);
    va_end(arguments);
    CHECK(size >= 0);
    t->size = MIN(t->size + (size_t)size, (size_t)BOUNCE_PIECE_BYTES - 1);
}

/* Printable ASCII as it is; blanks for what could end a line or hide something; UTF-8 if allowed.
 */
static void text_safe(struct text *t, struct slice s, size_t max, bool utf8)
{
    for (size_t i = 0; i < MIN(s.size, max) && t->size < BOUNCE_PIECE_BYTES - 1; i++) {
        uint8_t c = s.data[i];
        bool plain = (c >= 0x20 && c < 0x7f) || (utf8 && c >= 0x80);
        t->out[t->size++] = plain ? (char)c : ' ';
    }
}

static int hex_value(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* xtext as what it stands for (RFC 3461 4); whatever is wrong with it is shown as it is. */
static void text_decoded(struct text *t, struct slice s, size_t max)
{
    for (size_t i = 0; i < MIN(s.size, max); i++) {
        uint8_t c = s.data[i];
        int high = c == '+' && s.size - i > 2 ? hex_value(s.data[i + 1]) : -1;
        int low = high >= 0 ? hex_value(s.data[i + 2]) : -1;
        if (low >= 0) {
            c = (uint8_t)(high * 16 + low);
            i += 2;
        }
        text_safe(t, slice_of(&c, 1), 1, false);
    }
}

static bool has_high_octet(struct slice s)
{
    for (size_t i = 0; i < s.size; i++)
        if (s.data[i] >= 0x80)
            return true;
    return false;
}

void bounce_date(int64_t wall_us, char out[static BOUNCE_DATE_MAX])
{
    static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
    static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    time_t seconds = (time_t)(wall_us / US_IN_S);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    snprintf(out, BOUNCE_DATE_MAX, "%s, %d %s %d %02d:%02d:%02d +0000", days[tm.tm_wday],
             tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

void bounce_begin(struct bounce *bounce, const struct bounce_facts *facts, uint64_t random)
{
    CHECK(facts->sender.size > 0); /* never a bounce for the null sender (RFC 5321 6.1) */
    *bounce = (struct bounce) { .facts = *facts, .boundary = random };
}

/* clang-format off */
static const struct { const char *subject, *words, *action; uint16_t class; } kinds[BOUNCE_KINDS] = {
    [BOUNCE_FAILED]  = { "Undelivered Mail Returned to Sender",
                         "could not be delivered to one or more of the recipients below. It will not be\r\n"
                         "tried again for them.", "failed", 5 },
    [BOUNCE_DELAYED] = { "Delayed Mail (still being retried)",
                         "has not been delivered yet to the recipients below. It will be tried again; you\r\n"
                         "need not send it again.", "delayed", 4 },
    [BOUNCE_RELAYED] = { "Mail Relayed",
                         "was handed to a system that does not confirm deliveries, for the recipients below.",
                         "relayed", 2 },
    [BOUNCE_DELIVERED] = { "Mail Delivered", "was delivered to the recipients below.", "delivered", 2 },
};
/* clang-format on */

const char *bounce_action(enum bounce_kind kind)
{
    CHECK((unsigned)kind < BOUNCE_KINDS);
    return kinds[kind].action;
}

/* The encoding of a part that is not plain ASCII. */
static const char *encoding(bool eight_bit)
{
    return eight_bit ? "Content-Transfer-Encoding: 8bit\r\n" : "";
}

static void part_head(const struct bounce *b, struct text *t)
{
    const struct bounce_facts *f = &b->facts;
    char date[BOUNCE_DATE_MAX];
    bounce_date(f->now_us, date);
    text(t, "Date: %s\r\nFrom: %s <%s>\r\nTo: <", date, f->from_name, f->address);
    text_safe(t, f->sender, ADDRESS_SHOWN_MAX, f->utf8);
    text(t,
         ">\r\nSubject: %s\r\nMessage-ID: <%.*s@%s>\r\nAuto-Submitted: auto-replied\r\n"
         "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=%s;\r\n"
         "\tboundary=\"=_%016llx\"\r\nContent-Transfer-Encoding: %s\r\n\r\n"
         "This is a MIME-encapsulated message.\r\n\r\n--=_%016llx\r\n"
         "Content-Type: text/plain; charset=%s\r\n%sContent-Description: Notification\r\n\r\n",
         kinds[f->kind].subject, (int)f->id.size, (const char *)f->id.data, f->hostname,
         f->utf8 ? "global-delivery-status" : "delivery-status", (unsigned long long)b->boundary,
         f->utf8 || f->eight_bit ? "8bit" : "7bit", (unsigned long long)b->boundary,
         f->utf8 ? "utf-8" : "us-ascii", encoding(f->utf8));
    bounce_date(f->arrival_us, date);
    text(t,
         "This is the mail system at %s.\r\n\r\nYour message of %s,\r\n"
         "which has the number %.*s here,\r\n%s\r\n\r\n",
         f->hostname, date, (int)f->original_id.size, (const char *)f->original_id.data,
         kinds[f->kind].words);
}

static void part_person(const struct bounce *b, const struct bounce_recipient *r, struct text *t)
{
    text(t, "<");
    text_safe(t, r->address, ADDRESS_SHOWN_MAX, b->facts.utf8);
    text(t, "> (%s):\r\n    ", kinds[r->kind].action);
    if (r->outcome->kind == OUTCOME_EXPIRED && r->outcome->code != 0)
        text(t, "not delivered within the time allowed; last:\r\n    ");
    /* a line each: together they could be over 998 octets */
    if (r->host.size > 0) {
        text(t, "host ");
        text_safe(t, r->host, ADDRESS_SHOWN_MAX, false);
        text(t, " said:\r\n    ");
    }
    if (r->outcome->code != 0)
        text(t, "%u ", r->outcome->code);
    text_safe(t, r->outcome->text, TEXT_SHOWN_MAX, false);
    if (r->means != NULL)
        text(t, "\r\n    That is: %s.", r->means);
    if (r->kind == BOUNCE_DELAYED && r->until_us != 0) {
        char date[BOUNCE_DATE_MAX];
        bounce_date(r->until_us, date);
        text(t, "\r\n    It is tried until %s.", date);
    }
    text(t, "\r\n\r\n");
}

static void part_fields_head(const struct bounce *b, struct text *t)
{
    const struct bounce_facts *f = &b->facts;
    char date[BOUNCE_DATE_MAX];
    bounce_date(f->arrival_us, date);
    text(t,
         "--=_%016llx\r\nContent-Type: message/%s\r\n%sContent-Description: Delivery report\r\n"
         "\r\nReporting-MTA: dns; %s\r\n",
         (unsigned long long)b->boundary, f->utf8 ? "global-delivery-status" : "delivery-status",
         encoding(f->utf8), f->hostname);
    if (f->envid.size > 0) {
        text(t, "Original-Envelope-Id: ");
        text_decoded(t, f->envid, ADDRESS_SHOWN_MAX);
        text(t, "\r\n");
    }
    text(t, "Arrival-Date: %s\r\n", date);
}

/* RFC 6533 3: an address of type utf-8 has an encoding of its own, which stays. */
static void part_original_recipient(const struct bounce *b, struct slice orcpt, struct text *t)
{
    text(t, "Original-Recipient: ");
    if (slice_starts_nocase(orcpt, SLICE("utf-8;")))
        text_safe(t, orcpt, ADDRESS_SHOWN_MAX + 100, b->facts.utf8);
    else
        text_decoded(t, orcpt, ADDRESS_SHOWN_MAX + 100);
    text(t, "\r\n");
}

static void part_date(const char *field, int64_t wall_us, struct text *t)
{
    char date[BOUNCE_DATE_MAX];
    bounce_date(wall_us, date);
    text(t, "%s: %s\r\n", field, date);
}

/* RFC 3464 2.3. Without a status from anywhere: x.0.0 of the class that fits. */
static void part_fields(const struct bounce *b, const struct bounce_recipient *r, struct text *t)
{
    const struct bounce_facts *f = &b->facts;
    const struct outcome *o = r->outcome;
    text(t, "\r\n");
    if (r->orcpt.size > 0)
        part_original_recipient(b, r->orcpt, t);
    text(t, "Final-Recipient: %s; ", f->utf8 && has_high_octet(r->address) ? "utf-8" : "rfc822");
    text_safe(t, r->address, ADDRESS_SHOWN_MAX, f->utf8);
    text(t, "\r\nAction: %s\r\n", kinds[r->kind].action);
    if (o->status[0] == kinds[r->kind].class)
        text(t, "Status: %u.%u.%u\r\n", o->status[0], o->status[1], o->status[2]);
    else
        text(t, "Status: %u.0.0\r\n", kinds[r->kind].class);
    if (r->host.size > 0) {
        text(t, "Remote-MTA: dns; ");
        text_safe(t, r->host, ADDRESS_SHOWN_MAX, false);
        text(t, "\r\n");
    }
    if (o->code != 0) {
        text(t, "Diagnostic-Code: smtp; %u ", o->code);
        text_safe(t, o->text, TEXT_SHOWN_MAX, false);
        text(t, "\r\n");
    } else if (o->text.size > 0) {
        text(t, "Diagnostic-Code: x-ringpost; ");
        text_safe(t, o->text, TEXT_SHOWN_MAX, false);
        text(t, "\r\n");
    }
    if (r->attempt_us != 0)
        part_date("Last-Attempt-Date", r->attempt_us, t);
    if (r->kind == BOUNCE_DELAYED && r->until_us != 0)
        part_date("Will-Retry-Until", r->until_us, t);
}

static void part_original(const struct bounce *b, struct text *t)
{
    const struct bounce_facts *f = &b->facts;
    const char *type = f->utf8 ? (f->full ? "message/global" : "message/global-headers")
                               : (f->full ? "message/rfc822" : "text/rfc822-headers");
    text(t, "\r\n--=_%016llx\r\nContent-Type: %s\r\n%sContent-Description: %s\r\n\r\n",
         (unsigned long long)b->boundary, type, encoding(f->utf8 || f->eight_bit),
         f->full ? "The message" : "Header of the message");
}

int bounce_next(struct bounce *b, uint8_t out[static BOUNCE_PIECE_BYTES], struct slice *piece)
{
    struct text t = { .out = (char *)out };
    struct bounce_recipient recipient;
    switch ((enum bounce_part)b->part) {
    case PART_HEAD:
        part_head(b, &t);
        b->part = PART_PEOPLE;
        break;
    case PART_PEOPLE:
        if (b->facts.recipient(b->facts.owner, b->index, &recipient)) {
            part_person(b, &recipient, &t);
            b->index++;
            break;
        }
        b->part = PART_FIELDS_HEAD;
        b->index = 0;
        [[fallthrough]];
    case PART_FIELDS_HEAD:
        part_fields_head(b, &t);
        b->part = PART_FIELDS;
        break;
    case PART_FIELDS:
        if (b->facts.recipient(b->facts.owner, b->index, &recipient)) {
            part_fields(b, &recipient, &t);
            b->index++;
            break;
        }
        b->part = PART_ORIGINAL;
        [[fallthrough]];
    case PART_ORIGINAL:
        part_original(b, &t);
        b->part = PART_END;
        break;
    case PART_END: return 0;
    }
    *piece = slice_of(out, t.size);
    return 1;
}

void bounce_end(struct bounce *b, uint8_t out[static BOUNCE_PIECE_BYTES], struct slice *piece)
{
    struct text t = { .out = (char *)out };
    text(&t, "\r\n--=_%016llx--\r\n", (unsigned long long)b->boundary);
    *piece = slice_of(out, t.size);
}
