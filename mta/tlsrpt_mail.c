/*
 * tlsrpt_mail.c - header, a line for people, the report in base64; then what DKIM says of them
 *
 * Bounds: HEADER_BYTES, TLSRPT_SIGNATURES_MAX, and the report's own (mta/tlsrpt_store.h).
 */
#include "mta/tlsrpt_mail.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/tlsrpt_report.h"
#include "queue/bounce.h"

enum {
    S_IN_DAY = 86'400,
    HEADER_BYTES = 8'192,
    PART_BYTES = 4'096,
    END_BYTES = 64,
    LINE_OCTETS = 57, /* that 76 characters of base64 stand for */
    LINE_BYTES = 76 + 2,
};

/* What is signed. From twice: nobody adds another one. */
static const char signed_names[] =
    "from:from:to:subject:date:message-id:tls-report-domain:tls-report-submitter:tls-required:"
    "auto-submitted:mime-version:content-type";

struct text {
    char *at;
    size_t size, capacity;
};

static PRINTF_LIKE(2, 3) void text(struct text *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int size = vsnprintf(t->at + t->size, t->capacity - t->size, format, arguments);
    va_end(arguments);
    CHECK(size >= 0 && (size_t)size < t->capacity - t->size);
    t->size += (size_t)size;
}

/* Folded where one part alone may be as long as a domain or a mailbox: no line is over 998. */
static void header(struct text *t, const struct tlsrpt_mail *m)
{
    char date[BOUNCE_DATE_MAX];
    bounce_date(m->now_us, date);
    text(t,
         "Date: %s\r\nFrom: %s\r\nTo: %s\r\n"
         "Subject: Report Domain: %s\r\n Submitter: %s\r\n Report-ID: <%s>\r\n"
         "Message-ID:\r\n <tlsrpt.%016llx@%s>\r\n"
         "TLS-Report-Domain: %s\r\nTLS-Report-Submitter: %s\r\nTLS-Required: No\r\n"
         "Auto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\n"
         "Content-Type: multipart/report; report-type=\"tlsrpt\";\r\n"
         "\tboundary=\"=_%016llx\"\r\n",
         date, m->from, m->to, m->domain, m->submitter, m->id, (unsigned long long)m->random,
         m->submitter, m->domain, m->submitter, (unsigned long long)m->random);
}

static void parts(struct text *t, const struct tlsrpt_mail *m)
{
    char day[TLSRPT_DAY_TEXT_MAX];
    const unsigned long long boundary = m->random;
    const unsigned long long begin = (unsigned long long)m->day * S_IN_DAY;
    tlsrpt_day_text(m->day, day);
    text(t,
         "--=_%016llx\r\nContent-Type: text/plain; charset=us-ascii\r\n"
         "Content-Transfer-Encoding: 7bit\r\n\r\n"
         "This is a report (RFC 8460) of %s\r\n"
         "about the TLS of connections to the mail servers of %s\r\n"
         "on %s (UTC). It is made for programs; attached is JSON, compressed with gzip.\r\n\r\n",
         boundary, m->submitter, m->domain, day);
    text(t,
         "--=_%016llx\r\nContent-Type: application/tlsrpt+gzip\r\n"
         "Content-Transfer-Encoding: base64\r\nContent-Disposition: attachment;\r\n"
         "\tfilename=\"%s!%s!%llu!%llu.json.gz\"\r\n\r\n",
         boundary, m->submitter, m->domain, begin, begin + S_IN_DAY - 1);
    for (size_t at = 0; at < m->packed.size; at += LINE_OCTETS) {
        const struct slice part = slice_part(m->packed, at, LINE_OCTETS);
        CHECK(t->capacity - t->size > LINE_BYTES);
        t->size += EVP_EncodeBlock((uint8_t *)t->at + t->size, part.data, part.size);
        text(t, "\r\n");
    }
    text(t, "\r\n--=_%016llx--\r\n", boundary);
}

/* RFC 7489 3.1.1, relaxed: of the sender's domain, or one above. */
static bool is_of(const struct dkim_key *key, struct slice from)
{
    const struct slice domain = slice_of_string(key->domain);
    return slice_equal_nocase(domain, from) ||
           (from.size > domain.size && slice_ends_nocase(from, domain) &&
            from.data[from.size - domain.size - 1] == '.');
}

static size_t sign(struct text *signatures, const struct tlsrpt_mail *m, struct slice head,
                   struct slice body)
{
    const char *sign = strrchr(m->from, '@');
    const struct slice from = slice_of_string(sign == NULL ? "" : sign + 1);
    unsigned count = 0;
    for (unsigned i = 0; i < m->keys_count && count < TLSRPT_SIGNATURES_MAX; i++) {
        char field[DKIM_FIELD_BYTES_MAX];
        if (!is_of(&m->keys[i], from) ||
            dkim_sign(&m->keys[i], head, body, signed_names, m->now_us / 1'000'000, field) < 0)
            continue;
        text(signatures, "%s", field);
        count++;
    }
    return count;
}

char *tlsrpt_mail_make(const struct tlsrpt_mail *m, size_t *size, unsigned *signatures)
{
    const size_t lines = m->packed.size / LINE_OCTETS + 1;
    const size_t capacity = HEADER_BYTES + PART_BYTES + lines * LINE_BYTES + END_BYTES;
    const size_t signs = TLSRPT_SIGNATURES_MAX * DKIM_FIELD_BYTES_MAX + 1;
    struct text t = { .at = malloc(signs + capacity), .capacity = signs };
    struct text rest = { .at = malloc(capacity), .capacity = capacity };
    if (t.at == NULL || rest.at == NULL) {
        free(t.at);
        free(rest.at);
        return NULL;
    }
    header(&rest, m);
    const size_t head = rest.size;
    text(&rest, "\r\n");
    parts(&rest, m);
    *signatures = (unsigned)sign(&t, m, slice_of(rest.at, head),
                                 slice_of(rest.at + head + 2, rest.size - head - 2));
    memcpy(t.at + t.size, rest.at, rest.size);
    *size = t.size + rest.size;
    free(rest.at);
    return t.at;
}
