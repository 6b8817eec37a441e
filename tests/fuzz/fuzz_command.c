/*
 * fuzz_command.c - command lines: what parses is safe to use, and every slice lies in the line
 *
 * The first octet is the mask of extensions, the rest the line.
 */
#include "core/check.h"
#include "mta/smtp_parse.h"
#include "mta/smtp_reply.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_inside(struct slice part, struct slice line)
{
    if (part.size == 0)
        return;
    CHECK(part.data >= line.data);
    CHECK(part.size <= line.size - (size_t)(part.data - line.data));
}

static void check_clean(struct slice s, uint8_t low, uint8_t high)
{
    for (size_t i = 0; i < s.size; i++)
        CHECK(s.data[i] >= low && s.data[i] <= high);
}

static void check_path(const struct address *path, struct slice line)
{
    check_inside(path->local, line);
    check_inside(path->domain, line);
    check_inside(address_text(path), line);
    CHECK(address_text(path).size <= ADDRESS_MAX);
    CHECK(path->null || path->local.size > 0);
    CHECK(path->null || path->postmaster || path->domain.size > 0);
}

static void check_mail(const struct smtp_mail *mail, struct slice line, unsigned extensions)
{
    uint8_t text[SMTP_AUTH_PARAM_MAX];
    check_path(&mail->path, line);
    check_inside(mail->envid, line);
    check_inside(mail->auth, line);
    CHECK(!mail->path.postmaster);
    CHECK(!mail->path.utf8 || mail->smtputf8);
    CHECK(!mail->smtputf8 || (extensions & SMTP_EXT_SMTPUTF8) != 0);
    CHECK(!mail->size_given || (extensions & SMTP_EXT_SIZE) != 0);
    CHECK(mail->envid.size <= SMTP_ENVID_MAX);
    const int envid = smtp_xtext_decode(mail->envid, text, sizeof(text));
    CHECK(envid >= 0);
    check_clean(slice_of(text, (size_t)envid), ' ', '~');
    const int auth = smtp_xtext_decode(mail->auth, text, sizeof(text));
    CHECK(auth >= 0);
    check_clean(slice_of(text, (size_t)auth), ' ', '~');
    uint8_t again[3 * SMTP_AUTH_PARAM_MAX], third[SMTP_AUTH_PARAM_MAX];
    const int encoded = smtp_xtext_encode(slice_of(text, (size_t)auth), again, sizeof(again));
    CHECK(encoded >= 0);
    CHECK(smtp_xtext_decode(slice_of(again, (size_t)encoded), third, sizeof(third)) == auth);
    CHECK(memcmp(text, third, (size_t)auth) == 0);
}

static void check_rcpt(const struct smtp_rcpt *rcpt, struct slice line, unsigned extensions)
{
    check_path(&rcpt->path, line);
    check_inside(rcpt->orcpt, line);
    check_inside(rcpt->orcpt_type, rcpt->orcpt);
    check_inside(rcpt->orcpt_address, rcpt->orcpt);
    CHECK(!rcpt->path.null);
    CHECK(!rcpt->path.utf8 || (extensions & SMTP_EXT_UTF8_TRANSACTION) != 0);
    CHECK((rcpt->notify & SMTP_NOTIFY_NEVER) == 0 || rcpt->notify == SMTP_NOTIFY_NEVER);
    CHECK(rcpt->orcpt.size <= SMTP_ORCPT_MAX);
    check_clean(rcpt->orcpt, '!', 0xff);
    if ((extensions & SMTP_EXT_UTF8_TRANSACTION) == 0)
        check_clean(rcpt->orcpt, '!', '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const unsigned extensions = data[0];
    const struct slice line = slice_of(data + 1, size - 1);
    struct smtp_command command;
    const enum smtp_parse_result result = smtp_parse(line, extensions, &command);
    CHECK(smtp_verb_name(command.verb) != NULL);
    if (result != SMTP_PARSE_OK) {
        uint8_t reply[SMTP_REPLY_LINE_MAX];
        CHECK((unsigned)result < SMTP_PARSE_RESULTS);
        CHECK(smtp_reply_write(smtp_reply_for_parse(result), true, line, reply, sizeof(reply)) > 0);
        CHECK(command.verb != SMTP_VERB_BDAT || result == SMTP_PARSE_CHUNK);
        CHECK((command.verb == SMTP_VERB_HTTP) == (result == SMTP_PARSE_HTTP));
        return 0;
    }
    CHECK(line.size <= SMTP_LINE_MAX);
    for (size_t i = 0; i < line.size; i++)
        CHECK(line.data[i] >= ' ' && line.data[i] != 0x7f);
    check_inside(command.argument, line);
    switch (command.verb) {
    case SMTP_VERB_EHLO:
    case SMTP_VERB_HELO:
        check_inside(command.helo.name, line);
        check_clean(command.helo.name, '!', '~');
        CHECK(command.helo.name.size > 0 && command.helo.name.size <= SMTP_HELO_MAX);
        CHECK(!command.helo.literal || command.helo.strict);
        break;
    case SMTP_VERB_MAIL: check_mail(&command.mail, line, extensions); break;
    case SMTP_VERB_RCPT: check_rcpt(&command.rcpt, line, extensions); break;
    case SMTP_VERB_BDAT: CHECK(command.chunk.size <= SMTP_CHUNK_MAX); break;
    case SMTP_VERB_AUTH:
        check_inside(command.auth.mechanism, line);
        check_inside(command.auth.initial, line);
        check_clean(command.auth.mechanism, '-', 'z');
        CHECK(command.auth.initial.size % 4 == 0);
        break;
    default: CHECK(command.verb != SMTP_VERB_UNKNOWN && command.verb != SMTP_VERB_HTTP);
    }
    return 0;
}
