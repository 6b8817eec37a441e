/*
 * test_bounce.c - a notification that any mail program can read, whatever the others said
 */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/random.h"
#include "queue/bounce.h"

enum { MADE_MAX = 32 << 20, LINE_MAX_BYTES = 998 };

struct told {
    struct bounce_recipient *recipients;
    uint32_t count;
};

static bool next_recipient(void *owner, uint32_t index, struct bounce_recipient *recipient)
{
    const struct told *told = owner;
    if (index >= told->count)
        return false;
    *recipient = told->recipients[index];
    return true;
}

static struct bounce_facts facts_of(struct told *told)
{
    return (struct bounce_facts) {
        .kind = BOUNCE_FAILED,
        .hostname = "mx.us.test",
        .from_name = "Mail Delivery System",
        .address = "postmaster@us.test",
        .id = SLICE("0123456789ABC"),
        .original_id = SLICE("CBA9876543210"),
        .sender = SLICE("s@them.test"),
        .now_us = 1'893'456'000'000'000,
        .arrival_us = 1'893'455'999'000'000,
        .recipient = next_recipient,
        .owner = told,
    };
}

/* The whole of it, terminated; to be freed. */
static char *make(const struct bounce_facts *facts, struct slice original, size_t *size)
{
    char *text = malloc(MADE_MAX);
    uint8_t *piece = malloc(BOUNCE_PIECE_BYTES); /* so that a sanitizer sees its end */
    struct bounce bounce;
    struct slice out;
    *size = 0;
    bounce_begin(&bounce, facts, 0x1234'5678'9abc'def0);
    while (bounce_next(&bounce, piece, &out) == 1) {
        cr_assert_leq(out.size, BOUNCE_PIECE_BYTES);
        cr_assert_leq(*size + out.size, MADE_MAX / 2);
        memcpy(text + *size, out.data, out.size);
        *size += out.size;
    }
    memcpy(text + *size, original.data, original.size);
    *size += original.size;
    bounce_end(&bounce, piece, &out);
    memcpy(text + *size, out.data, out.size);
    *size += out.size;
    text[*size] = '\0';
    free(piece);
    return text;
}

/* RFC 5322 2.3: lines of at most 998 octets, CR and LF only together; no NUL. */
static void check_lines(const char *text, size_t size, bool utf8)
{
    size_t line = 0;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];
        cr_assert_neq(c, 0);
        if (!utf8)
            cr_assert_lt(c, 0x80, "octet %02x at %zu", c, i);
        if (c == '\r') {
            cr_assert_eq(text[i + 1], '\n', "bare CR");
            line = 0;
            i++;
            continue;
        }
        cr_assert_neq(c, '\n', "bare LF");
        cr_assert_leq(++line, LINE_MAX_BYTES, "...%.60s", text + i - 60);
    }
}

/* The three parts between the boundaries, each with its header. */
static void split(char *text, char *parts[static 3])
{
    static const char boundary[] = "--=_123456789abcdef0";
    char *at = text;
    cr_assert_not_null(strstr(text, "boundary=\"=_123456789abcdef0\""));
    for (unsigned i = 0; i < 4; i++) {
        char *next = strstr(at, boundary);
        cr_assert_not_null(next, "boundary %u", i);
        cr_assert(next[-1] == '\n');
        if (i > 0)
            *next = '\0';
        at = next + strlen(boundary);
        if (i == 3) {
            cr_assert_str_eq(at, "--\r\n");
            return;
        }
        cr_assert_eq(strncmp(at, "\r\n", 2), 0);
        at += 2;
        parts[i] = at;
    }
}

static unsigned count_of(const char *text, const char *what)
{
    size_t size = strlen(what);
    unsigned count = 0;
    for (; *text != '\0'; text++) /* a sanitizer's strstr looks at all of the text each time */
        count += *text == *what && strncmp(text, what, size) == 0;
    return count;
}

#define HAS(text, what) cr_assert_not_null(strstr((text), (what)), "no %s in %s", (what), (text))
#define HAS_NOT(text, what) cr_assert_null(strstr((text), (what)), "%s in %s", (what), (text))

static const struct outcome refused = { .kind = OUTCOME_BOUNCED,
                                        .code = 550,
                                        .status = { 5, 1, 1 },
                                        .text = { (const uint8_t *)"5.1.1 nobody here", 17 } };

Test(bounce, the_null_sender_gets_none, .signal = SIGABRT)
{
    struct told told = { 0 };
    struct bounce_facts facts = facts_of(&told);
    facts.sender.size = 0;
    struct bounce bounce;
    bounce_begin(&bounce, &facts, 1);
}

/* Whatever a next hop said, or a client gave as ENVID and ORCPT. */
Test(bounce, no_text_ends_a_line_or_makes_one_too_long)
{
    struct random random;
    random_seed(&random, 7);
    for (unsigned round = 0; round < 300; round++) {
        static uint8_t noise[6][3'000];
        size_t sizes[6];
        for (unsigned i = 0; i < 6; i++) {
            sizes[i] = (size_t)random_below(&random, round % 3 == 0 ? 3'000 : 30);
            for (size_t k = 0; k < sizes[i]; k++)
                noise[i][k] = round % 2 == 0
                                  ? (uint8_t)random_next(&random)
                                  : (uint8_t) "\r\n\0 a\x80.-="[random_below(&random, 9)];
        }
        struct outcome outcome = refused;
        outcome.text = slice_of(noise[0], sizes[0]);
        struct bounce_recipient recipient = { .kind = BOUNCE_FAILED,
                                              .address = slice_of(noise[1], sizes[1]),
                                              .orcpt = slice_of(noise[2], sizes[2]),
                                              .host = slice_of(noise[3], sizes[3]),
                                              .outcome = &outcome };
        struct told told = { &recipient, 1 };
        struct bounce_facts facts = facts_of(&told);
        facts.envid = slice_of(noise[4], sizes[4]);
        facts.sender = slice_of(noise[5], sizes[5] + 1);
        facts.utf8 = round % 5 == 0;
        size_t size;
        char *text = make(&facts, SLICE("Subject: x\r\n"), &size);
        check_lines(text, size, facts.utf8);
        /* And no text is taken for a boundary. */
        cr_assert_eq(count_of(text, "\r\n--=_"), 4);
        free(text);
    }
}

Test(bounce, without_a_status_there_is_one_of_the_right_class)
{
    static const struct {
        enum bounce_kind kind;
        uint16_t status[3];
        const char *line;
    } cases[] = {
        { BOUNCE_FAILED, { 0, 0, 0 }, "Status: 5.0.0\r\n" },
        { BOUNCE_FAILED, { 4, 4, 7 }, "Status: 5.0.0\r\n" },
        { BOUNCE_FAILED, { 5, 4, 7 }, "Status: 5.4.7\r\n" },
        { BOUNCE_DELAYED, { 5, 1, 1 }, "Status: 4.0.0\r\n" },
        { BOUNCE_DELAYED, { 4, 4, 1 }, "Status: 4.4.1\r\n" },
        { BOUNCE_RELAYED, { 2, 0, 0 }, "Status: 2.0.0\r\n" },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
        struct outcome outcome = refused;
        memcpy(outcome.status, cases[i].status, sizeof(outcome.status));
        struct bounce_recipient recipient = { .kind = cases[i].kind,
                                              .address = SLICE("r@x.test"),
                                              .outcome = &outcome };
        struct told told = { &recipient, 1 };
        struct bounce_facts facts = facts_of(&told);
        facts.kind = cases[i].kind;
        size_t size;
        char *text = make(&facts, SLICE(""), &size);
        HAS(text, cases[i].line);
        free(text);
    }
}

Test(bounce, three_parts_with_all_that_the_standards_ask_for)
{
    struct bounce_recipient recipients[] = {
        { .kind = BOUNCE_FAILED,
          .address = SLICE("r@x.test"),
          .orcpt = SLICE("rfc822;alias+40y.test"),
          .host = SLICE("mx.x.test"),
          .outcome = &refused },
        { .kind = BOUNCE_FAILED, .address = SLICE("q@x.test"), .outcome = &refused },
    };
    struct told told = { recipients, 2 };
    struct bounce_facts facts = facts_of(&told);
    facts.envid = SLICE("QQ+2B314+20159+3");
    size_t size;
    char *text = make(&facts, SLICE("From: s@them.test\r\nSubject: x\r\n"), &size);
    check_lines(text, size, false);
    char *parts[3];
    char *head_end = strstr(text, "\r\n\r\n");
    split(text, parts);
    *head_end = '\0';
    HAS(text, "From: Mail Delivery System <postmaster@us.test>");
    HAS(text, "To: <s@them.test>");
    HAS(text, "Subject: ");
    HAS(text, "Date: Tue, 1 Jan 2030 00:00:00 +0000");
    HAS(text, "Message-ID: <0123456789ABC@mx.us.test>");
    HAS(text, "Auto-Submitted: auto-replied");
    HAS(text, "MIME-Version: 1.0");
    HAS(text, "Content-Type: multipart/report; report-type=delivery-status;");
    HAS(parts[0], "Content-Type: text/plain");
    HAS(parts[0], "r@x.test");
    HAS(parts[0], "550 5.1.1 nobody here");
    HAS(parts[1], "Content-Type: message/delivery-status\r\n");
    HAS(parts[1], "\r\n\r\nReporting-MTA: dns; mx.us.test\r\n");
    HAS(parts[0], "CBA9876543210");
    HAS_NOT(text, "\r\nX-");
    HAS_NOT(parts[1], "\r\nX-");
    HAS_NOT(parts[1], "Last-Attempt-Date");
    HAS_NOT(parts[1], "Will-Retry-Until");
    HAS(parts[1], "\r\nOriginal-Envelope-Id: QQ+314 159+3\r\n");
    HAS(parts[1], "\r\nArrival-Date: Mon, 31 Dec 2029 23:59:59 +0000\r\n");
    HAS(parts[1], "\r\n\r\nOriginal-Recipient: rfc822;alias@y.test\r\nFinal-Recipient: rfc822; "
                  "r@x.test\r\nAction: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx.x.test\r\n"
                  "Diagnostic-Code: smtp; 550 5.1.1 nobody here\r\n");
    HAS(parts[1], "\r\n\r\nFinal-Recipient: rfc822; q@x.test\r\n");
    cr_assert_eq(count_of(parts[1], "Original-Recipient"), 1);
    HAS(parts[2], "Content-Type: text/rfc822-headers\r\n");
    HAS(parts[2], "\r\n\r\nFrom: s@them.test\r\nSubject: x\r\n");
    free(text);
}

Test(bounce, what_nobody_gave_is_not_there)
{
    struct bounce_recipient recipient = { .kind = BOUNCE_FAILED,
                                          .address = SLICE("r@x.test"),
                                          .outcome = &refused };
    struct outcome ours = refused;
    ours.code = 0;
    ours.text = SLICE("not delivered within the time allowed");
    recipient.outcome = &ours;
    struct told told = { &recipient, 1 };
    struct bounce_facts facts = facts_of(&told);
    size_t size;
    char *text = make(&facts, SLICE(""), &size);
    HAS_NOT(text, "Original-Envelope-Id");
    HAS_NOT(text, "Original-Recipient");
    HAS_NOT(text, "Remote-MTA");
    HAS_NOT(text, "Diagnostic-Code: smtp");
    HAS(text, "Diagnostic-Code: x-ringpost; not delivered within");
    free(text);
}

Test(bounce, what_a_reply_is_about_is_said_in_words)
{
    struct bounce_recipient recipient = { .kind = BOUNCE_FAILED,
                                          .address = SLICE("r@x.test"),
                                          .host = SLICE("mx.x.test"),
                                          .outcome = &refused };
    struct told told = { &recipient, 1 };
    struct bounce_facts facts = facts_of(&told);
    size_t size;
    char *text = make(&facts, SLICE(""), &size);
    HAS_NOT(text, "That is:");
    free(text);
    recipient.means = "it refuses us";
    text = make(&facts, SLICE(""), &size);
    check_lines(text, size, false);
    HAS(text, "\r\n    That is: it refuses us.\r\n\r\n");
    free(text);
}

/* RFC 6533. */
Test(bounce, utf8_addresses_have_types_of_their_own)
{
    struct bounce_recipient recipient = { .kind = BOUNCE_FAILED,
                                          .address = SLICE("r\xc3\xa9@x.test"),
                                          .outcome = &refused };
    struct told told = { &recipient, 1 };
    struct bounce_facts facts = facts_of(&told);
    facts.utf8 = true;
    for (unsigned full = 0; full < 2; full++) {
        facts.full = full == 1;
        size_t size;
        char *text = make(&facts, SLICE("Subject: \xc3\xa9\r\n"), &size);
        check_lines(text, size, true);
        HAS(text, "report-type=global-delivery-status");
        HAS(text, "Content-Type: message/global-delivery-status\r\n");
        HAS(text, "Final-Recipient: utf-8; r\xc3\xa9@x.test\r\n");
        HAS(text,
            full ? "Content-Type: message/global\r\n" : "Content-Type: message/global-headers\r\n");
        HAS(text, "charset=utf-8");
        cr_assert_eq(count_of(text, "Content-Transfer-Encoding: 8bit\r\n"), 4, "all over");
        free(text);
    }
    /* RFC 6533 3: who needs no UTF-8 has an address of the old type; theirs of the new one stays.
     */
    struct bounce_recipient ascii = { .kind = BOUNCE_FAILED,
                                      .address = SLICE("r@x.test"),
                                      .orcpt = SLICE("utf-8;r\\x{E9}+@x.test"),
                                      .outcome = &refused };
    told.recipients = &ascii;
    facts.full = false;
    {
        size_t size;
        char *text = make(&facts, SLICE("Subject: x\r\n"), &size);
        HAS(text, "Original-Recipient: utf-8;r\\x{E9}+@x.test\r\n");
        HAS(text, "Final-Recipient: rfc822; r@x.test\r\n");
        free(text);
    }
    told.recipients = &recipient;
    facts.full = true;
    facts.utf8 = false;
    size_t size;
    char *text = make(&facts, SLICE("Subject: x\r\n\r\nbody\r\n"), &size);
    check_lines(text, size, false);
    HAS(text, "Content-Type: message/rfc822\r\n");
    HAS_NOT(text, "8bit");
    free(text);
    facts.eight_bit = true;
    text = make(&facts, SLICE("Subject: x\r\n\r\n\xc3\xb6\r\n"), &size);
    cr_assert_eq(count_of(text, "Content-Transfer-Encoding: 8bit\r\n"), 2, "the whole, its part");
    free(text);
}

/* xtext of theirs that stands for CR LF: nobody lets it in, and it does no harm here. */
Test(bounce, decoding_makes_no_fields)
{
    struct bounce_recipient recipient = { .kind = BOUNCE_FAILED,
                                          .address = SLICE("r@x.test"),
                                          .orcpt = SLICE("rfc822;a+0D+0AX-Evil:+20yes"),
                                          .outcome = &refused };
    struct told told = { &recipient, 1 };
    struct bounce_facts facts = facts_of(&told);
    facts.envid = SLICE("+0D+0A+0D+0AX-Evil:+20yes+");
    size_t size;
    char *text = make(&facts, SLICE(""), &size);
    check_lines(text, size, false);
    HAS_NOT(text, "\nX-Evil");
    HAS(text, "Original-Recipient: rfc822;a  X-Evil: yes\r\n");
    free(text);
}

Test(bounce, one_tells_of_several_kinds_and_of_times)
{
    struct outcome deferred = {
        .kind = OUTCOME_DEFERRED, .code = 451, .status = { 4, 3, 2 }, .text = SLICE("4.3.2 later")
    };
    struct outcome expired = {
        .kind = OUTCOME_EXPIRED, .code = 451, .status = { 5, 4, 7 }, .text = SLICE("4.3.2 later")
    };
    struct outcome taken = { .kind = OUTCOME_DELIVERED, .code = 250, .status = { 2, 1, 5 } };
    struct bounce_recipient recipients[] = {
        { .kind = BOUNCE_FAILED, .address = SLICE("a@x.test"), .outcome = &expired },
        { .kind = BOUNCE_DELAYED,
          .address = SLICE("b@x.test"),
          .host = SLICE("mx.x.test"),
          .outcome = &deferred,
          .attempt_us = 1'893'455'999'000'000,
          .until_us = 1'893'456'060'000'000 },
        { .kind = BOUNCE_RELAYED, .address = SLICE("c@x.test"), .outcome = &taken },
        { .kind = BOUNCE_DELIVERED, .address = SLICE("d@x.test"), .outcome = &taken },
    };
    struct told told = { recipients, 4 };
    struct bounce_facts facts = facts_of(&told);
    size_t size;
    char *text = make(&facts, SLICE("Subject: x\r\n"), &size);
    check_lines(text, size, false);
    char *parts[3];
    split(text, parts);
    HAS(parts[0], "<a@x.test> (failed):");
    HAS(parts[0], "not delivered within the time allowed; last:");
    HAS(parts[0], "<b@x.test> (delayed):");
    HAS(parts[0], "It is tried until Tue, 1 Jan 2030 00:01:00 +0000.");
    HAS(parts[0], "<c@x.test> (relayed):");
    HAS(parts[0], "<d@x.test> (delivered):");
    HAS(parts[1], "Final-Recipient: rfc822; a@x.test\r\nAction: failed\r\nStatus: 5.4.7\r\n"
                  "Diagnostic-Code: smtp; 451 4.3.2 later\r\n\r\n");
    HAS(parts[1], "Final-Recipient: rfc822; b@x.test\r\nAction: delayed\r\nStatus: 4.3.2\r\n"
                  "Remote-MTA: dns; mx.x.test\r\nDiagnostic-Code: smtp; 451 4.3.2 later\r\n"
                  "Last-Attempt-Date: Mon, 31 Dec 2029 23:59:59 +0000\r\n"
                  "Will-Retry-Until: Tue, 1 Jan 2030 00:01:00 +0000\r\n\r\n");
    HAS(parts[1], "Final-Recipient: rfc822; c@x.test\r\nAction: relayed\r\nStatus: 2.1.5\r\n");
    HAS(parts[1], "Final-Recipient: rfc822; d@x.test\r\nAction: delivered\r\nStatus: 2.1.5\r\n");
    free(text);
}

Test(bounce, ten_thousand_recipients_need_one_piece_each)
{
    static struct bounce_recipient recipients[RECIPIENTS_MAX];
    static char addresses[RECIPIENTS_MAX][32];
    for (unsigned i = 0; i < RECIPIENTS_MAX; i++) {
        int size = snprintf(addresses[i], sizeof(addresses[i]), "r%u@x.test", i);
        recipients[i] = (struct bounce_recipient) { .kind = BOUNCE_FAILED,
                                                    .address = slice_of(addresses[i], (size_t)size),
                                                    .outcome = &refused };
    }
    struct told told = { recipients, RECIPIENTS_MAX };
    struct bounce_facts facts = facts_of(&told);
    size_t size;
    char *text = make(&facts, SLICE("Subject: x\r\n"), &size);
    check_lines(text, size, false);
    cr_assert_eq(count_of(text, "Final-Recipient: rfc822; r"), RECIPIENTS_MAX);
    HAS(text, "Final-Recipient: rfc822; r9999@x.test\r\n");
    char *parts[3];
    split(text, parts);
    cr_assert_eq(count_of(parts[0], "@x.test>"), RECIPIENTS_MAX);
    free(text);
}

Test(bounce, dates_are_of_rfc_5322)
{
    char date[BOUNCE_DATE_MAX];
    bounce_date(0, date);
    cr_assert_str_eq(date, "Thu, 1 Jan 1970 00:00:00 +0000");
    bounce_date(1'582'934'401'999'999, date);
    cr_assert_str_eq(date, "Sat, 29 Feb 2020 00:00:01 +0000");
}
