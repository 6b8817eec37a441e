/*
 * test_smtp_parse.c - command lines: what each refusal is for, then what each command carries
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>

#include "mta/smtp_parse.h"

enum {
    EXT_ALL = SMTP_EXT_SIZE | SMTP_EXT_8BITMIME | SMTP_EXT_SMTPUTF8 | SMTP_EXT_DSN | SMTP_EXT_AUTH |
              SMTP_EXT_REQUIRETLS,
    EXT_UTF8 = EXT_ALL | SMTP_EXT_UTF8_TRANSACTION,
};

struct sample {
    struct slice line;
    enum smtp_parse_result result;
};

static void expect_results(const struct sample *samples, size_t count, unsigned extensions)
{
    for (size_t i = 0; i < count; i++) {
        struct smtp_command command;
        const enum smtp_parse_result result = smtp_parse(samples[i].line, extensions, &command);
        cr_assert_eq(result, samples[i].result, "%.*s: %d, not %d", (int)samples[i].line.size,
                     (const char *)samples[i].line.data, result, samples[i].result);
    }
}

Test(smtp_parse, control_octets_are_refused_everywhere)
{
    static const struct slice lines[] = {
        SLICE("MAIL FROM:<a@b.c> X"),
        SLICE("NOOP xxx"),
        SLICE("EHLO a.b"),
        SLICE("RSET "),
        SLICE("XXXX xxx"),
        SLICE("DATA"),
    };
    static const uint8_t octets[] = { 0, 1, '\t', '\n', '\r', 0x1b, 0x1f, 0x7f };
    for (size_t i = 0; i < ARRAY_COUNT(lines); i++) {
        for (size_t place = 4; place <= lines[i].size; place++) {
            for (size_t j = 0; j < sizeof(octets); j++) {
                uint8_t line[64];
                struct smtp_command command;
                memcpy(line, lines[i].data, place);
                line[place] = octets[j];
                memcpy(line + place + 1, lines[i].data + place, lines[i].size - place);
                cr_assert_eq(smtp_parse(slice_of(line, lines[i].size + 1), EXT_ALL, &command),
                             SMTP_PARSE_CONTROL, "line %zu, place %zu, octet %u", i, place,
                             octets[j]);
            }
        }
    }
}

Test(smtp_parse, long_lines)
{
    static uint8_t line[SMTP_LINE_MAX + 1];
    struct smtp_command command;
    memset(line, 'x', sizeof(line));
    memcpy(line, "NOOP ", 5);
    cr_assert_eq(smtp_parse(slice_of(line, SMTP_LINE_MAX), 0, &command), SMTP_PARSE_OK);
    cr_assert_eq(smtp_parse(slice_of(line, SMTP_LINE_MAX + 1), 0, &command), SMTP_PARSE_LINE_LONG);
    memcpy(line, "BDAT ", 5);
    cr_assert_eq(smtp_parse(slice_of(line, SMTP_LINE_MAX + 1), 0, &command), SMTP_PARSE_CHUNK);
    memcpy(line, "POST ", 5);
    cr_assert_eq(smtp_parse(slice_of(line, SMTP_LINE_MAX + 1), 0, &command), SMTP_PARSE_HTTP);
}

Test(smtp_parse, unknown_http_and_misused_commands)
{
    static const struct sample samples[] = {
        { SLICE(""), SMTP_PARSE_UNKNOWN },
        { SLICE(" "), SMTP_PARSE_UNKNOWN },
        { SLICE(" NOOP"), SMTP_PARSE_UNKNOWN },
        { SLICE("XCLIENT a=b"), SMTP_PARSE_UNKNOWN },
        { SLICE("MAILFROM:<a@b>"), SMTP_PARSE_UNKNOWN },
        { SLICE("NOO\xc3\xa9"), SMTP_PARSE_UNKNOWN },
        { SLICE("GET / HTTP/1.1"), SMTP_PARSE_HTTP },
        { SLICE("POST / HTTP/1.1\r"), SMTP_PARSE_HTTP },
        { SLICE("put /"), SMTP_PARSE_HTTP },
        { SLICE("CONNECT a:25 HTTP/1.1"), SMTP_PARSE_HTTP },
        { SLICE("HEAD /"), SMTP_PARSE_HTTP },
        { SLICE("OPTIONS *"), SMTP_PARSE_HTTP },
        { SLICE("PRI * HTTP/2.0"), SMTP_PARSE_HTTP },
        { SLICE("DATA x"), SMTP_PARSE_HAS_ARGUMENT },
        { SLICE("RSET x"), SMTP_PARSE_HAS_ARGUMENT },
        { SLICE("QUIT x"), SMTP_PARSE_HAS_ARGUMENT },
        { SLICE("STARTTLS x"), SMTP_PARSE_HAS_ARGUMENT },
        { SLICE("VRFY"), SMTP_PARSE_NO_ARGUMENT },
        { SLICE("EXPN "), SMTP_PARSE_NO_ARGUMENT },
        { SLICE("MAIL"), SMTP_PARSE_NO_ARGUMENT },
        { SLICE("RCPT"), SMTP_PARSE_NO_ARGUMENT },
        { SLICE("EHLO"), SMTP_PARSE_NO_ARGUMENT },
        { SLICE("HELO "), SMTP_PARSE_NO_ARGUMENT },
        { SLICE("AUTH"), SMTP_PARSE_NO_ARGUMENT },
        { SLICE("NOOP \xc3\xa9"), SMTP_PARSE_SYNTAX },
        { SLICE("VRFY \xc3"), SMTP_PARSE_SYNTAX },
        { SLICE("EHLO a b"), SMTP_PARSE_HELO },
        { SLICE("EHLO a@b"), SMTP_PARSE_HELO },
        { SLICE("EHLO <a>"), SMTP_PARSE_HELO },
        { SLICE("EHLO a\"b"), SMTP_PARSE_HELO },
        { SLICE("EHLO a:b"), SMTP_PARSE_HELO },
        { SLICE("EHLO [1.2.3.4"), SMTP_PARSE_HELO },
        { SLICE("EHLO []"), SMTP_PARSE_HELO },
        { SLICE("EHLO [1.2.3.4]x"), SMTP_PARSE_HELO },
        { SLICE("EHLO m\xc3\xa9"), SMTP_PARSE_HELO },
        { SLICE("AUTH PL+IN"), SMTP_PARSE_MECHANISM },
        { SLICE("AUTH AVERYLONGMECHANISMNAME"), SMTP_PARSE_MECHANISM },
        { SLICE("AUTH PLAIN a"), SMTP_PARSE_BASE64 },
        { SLICE("AUTH PLAIN a==="), SMTP_PARSE_BASE64 },
        { SLICE("AUTH PLAIN ab=c"), SMTP_PARSE_BASE64 },
        { SLICE("AUTH PLAIN abcd efgh"), SMTP_PARSE_BASE64 },
        { SLICE("BDAT"), SMTP_PARSE_CHUNK },
        { SLICE("BDAT x"), SMTP_PARSE_CHUNK },
        { SLICE("BDAT -1"), SMTP_PARSE_CHUNK },
        { SLICE("BDAT 1 FIRST"), SMTP_PARSE_CHUNK },
        { SLICE("BDAT 1 LAST x"), SMTP_PARSE_CHUNK },
        { SLICE("BDAT 281474976710657"), SMTP_PARSE_CHUNK },
        { SLICE("BDAT 18446744073709551617"), SMTP_PARSE_CHUNK },
        { SLICE("BDAT 1\r"), SMTP_PARSE_CHUNK },
    };
    expect_results(samples, ARRAY_COUNT(samples), EXT_ALL);
}

Test(smtp_parse, mail_and_rcpt_refused)
{
    static const struct sample samples[] = {
        { SLICE("MAIL <a@b>"), SMTP_PARSE_SYNTAX },
        { SLICE("MAIL FROM <a@b>"), SMTP_PARSE_SYNTAX },
        { SLICE("MAIL TO:<a@b>"), SMTP_PARSE_SYNTAX },
        { SLICE("MAIL FROM:"), SMTP_PARSE_SENDER },
        { SLICE("MAIL FROM:a@b"), SMTP_PARSE_SENDER },
        { SLICE("MAIL FROM:<a@b"), SMTP_PARSE_SENDER },
        { SLICE("MAIL FROM:<postmaster>"), SMTP_PARSE_SENDER },
        { SLICE("MAIL FROM:<a@b>SIZE=1"), SMTP_PARSE_SYNTAX },
        { SLICE("MAIL FROM:<a@b> =1"), SMTP_PARSE_SYNTAX },
        { SLICE("MAIL FROM:<a@b> -x"), SMTP_PARSE_SYNTAX },
        { SLICE("MAIL FROM:<a@b> <c@d>"), SMTP_PARSE_SYNTAX },
        { SLICE("MAIL FROM:<a@b> X"), SMTP_PARSE_PARAM_UNKNOWN },
        { SLICE("MAIL FROM:<a@b> NOTIFY=NEVER"), SMTP_PARSE_PARAM_UNKNOWN },
        { SLICE("MAIL FROM:<a@b> SIZE=1 size=1"), SMTP_PARSE_PARAM_DUPLICATE },
        { SLICE("MAIL FROM:<a@b> SIZE"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("MAIL FROM:<a@b> SIZE="), SMTP_PARSE_PARAM_VALUE },
        { SLICE("MAIL FROM:<a@b> SIZE=1=2"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("MAIL FROM:<a@b> SIZE=-1"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("MAIL FROM:<a@b> SIZE=999999999999999999999"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("MAIL FROM:<a@b> BODY=BINARYMIME"), SMTP_PARSE_BINARYMIME },
        { SLICE("MAIL FROM:<a@b> BODY=9BIT"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("MAIL FROM:<a@b> SMTPUTF8=1"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("MAIL FROM:<a@b> REQUIRETLS=1"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("MAIL FROM:<a@b> RET=ALL"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("MAIL FROM:<a@b> ENVID=a+2"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("MAIL FROM:<a@b> ENVID=a+2b"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("MAIL FROM:<a@b> ENVID=a+0D+0Ab"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("MAIL FROM:<a@b> AUTH=+00"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("MAIL FROM:<\xc3\xa9@b>"), SMTP_PARSE_SENDER_UTF8 },
        { SLICE("RCPT TO:<>"), SMTP_PARSE_RECIPIENT },
        { SLICE("RCPT TO:<a@b c>"), SMTP_PARSE_RECIPIENT },
        { SLICE("RCPT TO:<\xc3\xa9@b>"), SMTP_PARSE_RECIPIENT_UTF8 },
        { SLICE("RCPT TO:<a@b> SIZE=1"), SMTP_PARSE_PARAM_UNKNOWN },
        { SLICE("RCPT TO:<a@b> NOTIFY=NEVER,DELAY"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("RCPT TO:<a@b> NOTIFY=DELAY,DELAY"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("RCPT TO:<a@b> NOTIFY=DELAY,"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("RCPT TO:<a@b> NOTIFY=,DELAY"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("RCPT TO:<a@b> NOTIFY=SOMETIMES"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("RCPT TO:<a@b> NOTIFY=NEVER NOTIFY=NEVER"), SMTP_PARSE_PARAM_DUPLICATE },
        { SLICE("RCPT TO:<a@b> ORCPT=a@b"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("RCPT TO:<a@b> ORCPT=;a@b"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("RCPT TO:<a@b> ORCPT=rfc822;"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("RCPT TO:<a@b> ORCPT=rfc822;a+0Ab"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("RCPT TO:<a@b> ORCPT=rfc822;\xc3\xa9"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("RCPT TO:<a@b> ORCPT=utf-8;\xc3\xa9"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("RCPT TO:<a@b> ORCPT=utf-8;\\x{0A}"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("RCPT TO:<a@b> ORCPT=utf-8;\\x{D800}"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("RCPT TO:<a@b> ORCPT=utf-8;\\x{E9"), SMTP_PARSE_PARAM_VALUE },
        { SLICE("RCPT TO:<a@b> ORCPT=utf-8;\\y"), SMTP_PARSE_PARAM_VALUE },
    };
    expect_results(samples, ARRAY_COUNT(samples), EXT_ALL);
}

Test(smtp_parse, what_was_not_offered_is_unknown)
{
    static const struct sample samples[] = {
        { SLICE("MAIL FROM:<a@b> SIZE=1"), SMTP_PARSE_PARAM_UNKNOWN },
        { SLICE("MAIL FROM:<a@b> BODY=7BIT"), SMTP_PARSE_PARAM_UNKNOWN },
        { SLICE("MAIL FROM:<a@b> SMTPUTF8"), SMTP_PARSE_PARAM_UNKNOWN },
        { SLICE("MAIL FROM:<a@b> RET=FULL"), SMTP_PARSE_PARAM_UNKNOWN },
        { SLICE("MAIL FROM:<a@b> AUTH=<>"), SMTP_PARSE_PARAM_UNKNOWN },
        { SLICE("MAIL FROM:<a@b> REQUIRETLS"), SMTP_PARSE_PARAM_UNKNOWN },
        { SLICE("RCPT TO:<a@b> NOTIFY=NEVER"), SMTP_PARSE_PARAM_UNKNOWN },
        { SLICE("VRFY \xc3\xa9"), SMTP_PARSE_SYNTAX },
    };
    expect_results(samples, ARRAY_COUNT(samples), 0);
}

Test(smtp_parse, long_values)
{
    char line[1'024];
    struct smtp_command command;
    int size = snprintf(line, sizeof(line), "MAIL FROM:<> ENVID=%0101d", 0);
    cr_assert_eq(smtp_parse(slice_of(line, (size_t)size), EXT_ALL, &command),
                 SMTP_PARSE_PARAM_VALUE);
    cr_assert_eq(smtp_parse(slice_of(line, (size_t)size - 1), EXT_ALL, &command), SMTP_PARSE_OK);
    size = snprintf(line, sizeof(line), "RCPT TO:<a@b> ORCPT=rfc822;%0494d", 0);
    cr_assert_eq(smtp_parse(slice_of(line, (size_t)size), EXT_ALL, &command),
                 SMTP_PARSE_PARAM_VALUE);
    cr_assert_eq(smtp_parse(slice_of(line, (size_t)size - 1), EXT_ALL, &command), SMTP_PARSE_OK);
    size = snprintf(line, sizeof(line), "RCPT TO:<%065d@b>", 0);
    cr_assert_eq(smtp_parse(slice_of(line, (size_t)size), EXT_ALL, &command),
                 SMTP_PARSE_ADDRESS_LONG);
    size = snprintf(line, sizeof(line), "EHLO a%0255d", 0);
    cr_assert_eq(smtp_parse(slice_of(line, (size_t)size), EXT_ALL, &command), SMTP_PARSE_HELO);
}

static struct smtp_command parse(struct slice line, unsigned extensions)
{
    struct smtp_command command;
    cr_assert_eq(smtp_parse(line, extensions, &command), SMTP_PARSE_OK, "%.*s", (int)line.size,
                 (const char *)line.data);
    return command;
}

Test(smtp_parse, helo)
{
    static const struct {
        struct slice line;
        bool strict, literal;
    } samples[] = {
        { SLICE("EHLO mx.example.org"), true, false },
        { SLICE("ehlo  mx.example.org "), true, false },
        { SLICE("HELO [192.0.2.1]"), true, true },
        { SLICE("EHLO [IPv6:::1]"), true, true },
        { SLICE("EHLO [::1]"), false, false },
        { SLICE("EHLO localhost"), false, false },
        { SLICE("EHLO my_pc.example"), false, false },
        { SLICE("EHLO a..b."), false, false },
        { SLICE("EHLO 192.0.2.1"), false, false },
    };
    for (size_t i = 0; i < ARRAY_COUNT(samples); i++) {
        const struct smtp_command command = parse(samples[i].line, 0);
        cr_assert_eq(command.helo.strict, samples[i].strict, "sample %zu", i);
        cr_assert_eq(command.helo.literal, samples[i].literal, "sample %zu", i);
    }
}

Test(smtp_parse, mail)
{
    struct smtp_command command =
        parse(SLICE("mail from:<a@b.c> size=1000 Body=8bitmime RET=hdrs ENVID=x+2By AUTH=<> "
                    "REQUIRETLS SMTPUTF8"),
              EXT_ALL);
    cr_assert_eq(command.verb, SMTP_VERB_MAIL);
    cr_assert(slice_equal(address_text(&command.mail.path), SLICE("a@b.c")));
    cr_assert(command.mail.size_given);
    cr_assert_eq(command.mail.size, 1'000);
    cr_assert_eq(command.mail.body, SMTP_BODY_8BITMIME);
    cr_assert_eq(command.mail.ret, SMTP_RET_HDRS);
    cr_assert(slice_equal(command.mail.envid, SLICE("x+2By")));
    cr_assert(slice_equal(command.mail.auth, SLICE("<>")));
    cr_assert(command.mail.requiretls);
    cr_assert(command.mail.smtputf8);

    command = parse(SLICE("MAIL FROM: <> "), 0);
    cr_assert(command.mail.path.null);
    cr_assert_not(command.mail.size_given || command.mail.smtputf8 || command.mail.requiretls);
    cr_assert_eq(command.mail.body, SMTP_BODY_ABSENT);
    command = parse(SLICE("MAIL FROM:<\xc3\xa9@b> SMTPUTF8"), EXT_ALL);
    cr_assert(command.mail.path.utf8);
    command = parse(SLICE("MAIL FROM:<a@b> SIZE=99999999999999999999 BODY=7BIT RET=FULL"), EXT_ALL);
    cr_assert_eq(command.mail.size, UINT64_MAX);
    cr_assert_eq(command.mail.body, SMTP_BODY_7BIT);
    cr_assert_eq(command.mail.ret, SMTP_RET_FULL);
}

Test(smtp_parse, rcpt)
{
    struct smtp_command command =
        parse(SLICE("RCPT TO:<\"a b> X=\"@c.d> NOTIFY=success,FAILURE,Delay ORCPT=rfc822;a+2Bb@c"),
              EXT_ALL);
    cr_assert(slice_equal(address_text(&command.rcpt.path), SLICE("\"a b> X=\"@c.d")));
    cr_assert_eq(command.rcpt.notify,
                 SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_FAILURE | SMTP_NOTIFY_DELAY);
    cr_assert(slice_equal(command.rcpt.orcpt, SLICE("rfc822;a+2Bb@c")));
    cr_assert(slice_equal(command.rcpt.orcpt_type, SLICE("rfc822")));
    cr_assert(slice_equal(command.rcpt.orcpt_address, SLICE("a+2Bb@c")));

    command = parse(SLICE("RCPT TO:<Postmaster> NOTIFY=NEVER"), EXT_ALL);
    cr_assert(command.rcpt.path.postmaster);
    cr_assert_eq(command.rcpt.notify, SMTP_NOTIFY_NEVER);
    command = parse(SLICE("RCPT TO:<a@b> ORCPT=utf-8;\\x{E9}@b"), EXT_ALL);
    cr_assert_eq(command.rcpt.notify, SMTP_NOTIFY_ABSENT);
    command = parse(SLICE("RCPT TO:<\xc3\xa9@b> ORCPT=utf-8;\xc3\xa9@b"), EXT_UTF8);
    cr_assert(command.rcpt.path.utf8);
}

Test(smtp_parse, other_commands)
{
    struct smtp_command command = parse(SLICE("bdat 0 last"), 0);
    cr_assert(command.chunk.last);
    cr_assert_eq(command.chunk.size, 0);
    command = parse(SLICE("BDAT 281474976710656"), 0);
    cr_assert_eq(command.chunk.size, SMTP_CHUNK_MAX);
    cr_assert_not(command.chunk.last);

    command = parse(SLICE("AUTH PLAIN"), 0);
    cr_assert_not(command.auth.initial_given);
    command = parse(SLICE("AUTH EXTERNAL ="), 0);
    cr_assert(command.auth.initial_given);
    cr_assert_eq(command.auth.initial.size, 0);
    command = parse(SLICE("AUTH scram-sha-256 YWJj"), 0);
    cr_assert(slice_equal(command.auth.mechanism, SLICE("scram-sha-256")));
    cr_assert(slice_equal(command.auth.initial, SLICE("YWJj")));

    static const struct slice plain[] = {
        SLICE("DATA"), SLICE("data "),   SLICE("RSET"), SLICE("NOOP"),     SLICE("NOOP any thing"),
        SLICE("HELP"), SLICE("HELP me"), SLICE("QUIT"), SLICE("STARTTLS"),
    };
    for (size_t i = 0; i < ARRAY_COUNT(plain); i++)
        parse(plain[i], 0);
    command = parse(SLICE("VRFY \xc3\xa9 x"), EXT_ALL);
    cr_assert(slice_equal(command.argument, SLICE("\xc3\xa9 x")));
    cr_assert_str_eq(smtp_verb_name(command.verb), "VRFY");
}

Test(smtp_parse, xtext)
{
    uint8_t out[64];
    cr_assert_not(smtp_xtext_valid(SLICE("a b")));
    cr_assert_not(smtp_xtext_valid(SLICE("a=b")));
    cr_assert_not(smtp_xtext_valid(SLICE("+")));
    cr_assert_not(smtp_xtext_valid(SLICE("+4")));
    cr_assert_not(smtp_xtext_valid(SLICE("+4a")));
    cr_assert(smtp_xtext_valid(SLICE("+4A")));
    cr_assert_eq(smtp_xtext_decode(SLICE("+4"), out, sizeof(out)), -EINVAL);
    cr_assert_eq(smtp_xtext_decode(SLICE("abc"), out, 2), -ENOSPC);
    cr_assert_eq(smtp_xtext_encode(SLICE("+"), out, 2), -ENOSPC);
    cr_assert_eq(smtp_xtext_decode(SLICE("a+2B+3Db"), out, sizeof(out)), 4);
    cr_assert_eq(memcmp(out, "a+=b", 4), 0);
    cr_assert_eq(smtp_xtext_encode(SLICE("a+= \n"), out, sizeof(out)), 13);
    cr_assert_eq(memcmp(out, "a+2B+3D+20+0A", 13), 0);
}
