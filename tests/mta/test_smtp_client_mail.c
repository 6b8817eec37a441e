/*
 * test_smtp_client_mail.c - transactions: who gets which result, and what leaves in which send
 */
#include "tests/mta/smtp_client_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- messages that this host cannot take ---- */

Test(smtp_client_mail, what_the_host_does_not_offer_is_decided_before_mail)
{
    SCRIPT(bare, GREETING, EHLO("250-mx\r\n250 SIZE 30\r\n"), BYE);
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, bare);
        struct outcome *eight = world_mail(w, A_B, SLICE("\xc3\xa9\r\n"));
        eight->transaction.flags = SMTP_TRANSACTION_8BIT;
        struct outcome *header = world_mail(w, A_B, SLICE("X: \xc3\xa9\r\n\r\n"));
        header->transaction.flags = SMTP_TRANSACTION_8BIT | SMTP_TRANSACTION_HEADER_8BIT;
        struct outcome *sender = world_mail(w, A_B, SLICE(CONTENT));
        sender->transaction.flags = SMTP_TRANSACTION_UTF8;
        sender->transaction.sender = SLICE("\xc3\xa9@us.test");
        struct outcome *big = world_mail(w, A_B, SLICE("0123456789012345678901234567890\r\n"));
        struct outcome *injected = world_mail(w, "a@x.test>\r\nDATA", SLICE(CONTENT));
        struct outcome *from = world_mail(w, "a@x.test", SLICE(CONTENT));
        from->transaction.sender = SLICE("a\nb@us.test");
        struct outcome *bare_lf = world_mail(w, "a@x.test", SLICE("x\ny\r\n"));
        world_run(w);
        expect(eight, 1, SMTP_VERDICT_PERMANENT, SMTP_STAGE_LOCAL, 0, "5.6.3");
        expect(header, 0, SMTP_VERDICT_PERMANENT, SMTP_STAGE_LOCAL, 0, "5.6.7");
        expect(sender, 0, SMTP_VERDICT_PERMANENT, SMTP_STAGE_LOCAL, 0, "5.6.7");
        expect(big, 0, SMTP_VERDICT_PERMANENT, SMTP_STAGE_LOCAL, 0, "5.3.4");
        expect(injected, 0, SMTP_VERDICT_PERMANENT, SMTP_STAGE_LOCAL, 0, "5.1.3");
        expect(from, 0, SMTP_VERDICT_PERMANENT, SMTP_STAGE_LOCAL, 0, "5.1.7");
        expect(bare_lf, 0, SMTP_VERDICT_PERMANENT, SMTP_STAGE_LOCAL, 0, "5.6.0");
        expect_got(w, "EHLO us.test\r\nQUIT\r\n");
        cr_assert_eq(w->readies, 8);
        cr_assert_eq(w->end.why, SMTP_GONE_QUIT);
        cr_assert_eq(w->end.transactions, 0);
        world_free(w);
    }
}

Test(smtp_client_mail, one_utf8_recipient_does_not_spoil_the_others)
{
    SCRIPT(bare, GREETING, EHLO(HELLO_PIPELINING),
           SAY(MAIL "\r\n" RCPT_A RCPT_B "DATA\r\n", "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
           SAY(CONTENT ".\r\n", "250 ok\r\n"), BYE);
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, bare);
        struct outcome *o = world_mail(w, "a@x.test \xc3\xa9@x.test b@x.test", SLICE(CONTENT));
        o->transaction.flags = SMTP_TRANSACTION_UTF8;
        world_run(w);
        expect(o, 0, SMTP_VERDICT_DELIVERED, SMTP_STAGE_FINAL, 250, "2.0.0");
        expect(o, 1, SMTP_VERDICT_PERMANENT, SMTP_STAGE_LOCAL, 0, "5.6.7");
        expect(o, 2, SMTP_VERDICT_DELIVERED, SMTP_STAGE_FINAL, 250, "2.0.0");
        cr_assert_eq(o->transaction.delivered, 2);
        world_free(w);
    }
}

/* ---- transactions that fail ---- */

static void one_transaction(const struct line *lines, struct slice content, enum smtp_gone why,
                            void (*check)(struct world *w, struct outcome *o))
{
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, lines);
        struct outcome *o = world_mail(w, A_B, content);
        world_run(w);
        cr_assert(o->done);
        cr_assert_eq(w->end.why, why, "%s: %s", smtp_gone_name(w->end.why), w->end_text);
        check(w, o);
        world_free(w);
    }
}

static void check_mail_refused(struct world *w, struct outcome *o)
{
    for (unsigned i = 0; i < 2; i++) {
        expect(o, i, SMTP_VERDICT_PERMANENT, SMTP_STAGE_MAIL, 550, "5.7.1");
        expect_text(o, i, "5.7.1 not from you");
    }
    cr_assert_eq(w->readies, 2, "usable again after RSET");
    cr_assert_eq(w->clients.numbers.refused, 2);
}

Test(smtp_client_mail, mail_refused_speaks_for_all_recipients)
{
    SCRIPT(together, GREETING, EHLO(HELLO_ALL),
           SAY(FLIGHT, "550 5.7.1 not from you\r\n503 a\r\n503 b\r\n503 5.5.1 c\r\n"),
           SAY("RSET\r\n", "250 ok\r\n"), BYE);
    SCRIPT(data, GREETING, EHLO(HELLO_PIPELINING),
           SAY(FLIGHT_DATA, "550 5.7.1 not from you\r\n503 a\r\n503 b\r\n503 c\r\n"),
           SAY("RSET\r\n", "250 ok\r\n"), BYE);
    SCRIPT(bare, GREETING, EHLO(HELLO_BARE), SAY(MAIL "\r\n", "550 5.7.1 not from you\r\n"),
           SAY("RSET\r\n", "250 ok\r\n"), BYE);
    one_transaction(together, SLICE(CONTENT), SMTP_GONE_QUIT, check_mail_refused);
    one_transaction(data, SLICE(CONTENT), SMTP_GONE_QUIT, check_mail_refused);
    one_transaction(bare, SLICE(CONTENT), SMTP_GONE_QUIT, check_mail_refused);
}

static void check_rcpt_refused(struct world *w, struct outcome *o)
{
    expect(o, 0, SMTP_VERDICT_PERMANENT, SMTP_STAGE_RCPT, 550, "5.1.1");
    expect_text(o, 0, "5.1.1 nobody");
    expect(o, 1, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_RCPT, 552, "4.2.2");
    cr_assert_eq(w->readies, 2);
}

Test(smtp_client_mail, all_recipients_refused_and_552_is_temporary)
{
    SCRIPT(together, GREETING, EHLO(HELLO_ALL),
           SAY(FLIGHT, "250 ok\r\n550 5.1.1 nobody\r\n552 5.2.2 full\r\n554 none\r\n"),
           SAY("RSET\r\n", "250 ok\r\n"), BYE);
    SCRIPT(odd, GREETING, EHLO(HELLO_ALL),
           SAY(FLIGHT, "250 ok\r\n550 5.1.1 nobody\r\n552 5.2.2 full\r\n250 took it\r\n"), BYE);
    SCRIPT(data, GREETING, EHLO(HELLO_PIPELINING),
           SAY(FLIGHT_DATA, "250 ok\r\n550 5.1.1 nobody\r\n552 5.2.2 full\r\n554 none\r\n"),
           SAY("RSET\r\n", "250 ok\r\n"), BYE);
    /* RFC 2920 3.1: a 354 all the same is answered by a lone dot. */
    SCRIPT(dot, GREETING, EHLO(HELLO_PIPELINING),
           SAY(FLIGHT_DATA, "250 ok\r\n550 5.1.1 nobody\r\n552 5.2.2 full\r\n354 go\r\n"),
           SAY(".\r\n", "554 nobody\r\n"), SAY("RSET\r\n", "250 ok\r\n"), BYE);
    SCRIPT(bare, GREETING, EHLO(HELLO_BARE), SAY(MAIL "\r\n", "250 ok\r\n"),
           SAY(RCPT_A, "550 5.1.1 nobody\r\n"), SAY(RCPT_B, "552 5.2.2 full\r\n"),
           SAY("RSET\r\n", "250 ok\r\n"), BYE);
    one_transaction(together, SLICE(CONTENT), SMTP_GONE_QUIT, check_rcpt_refused);
    one_transaction(odd, SLICE(CONTENT), SMTP_GONE_QUIT, check_rcpt_refused);
    one_transaction(data, SLICE(CONTENT), SMTP_GONE_QUIT, check_rcpt_refused);
    one_transaction(dot, SLICE(CONTENT), SMTP_GONE_QUIT, check_rcpt_refused);
    one_transaction(bare, SLICE(CONTENT), SMTP_GONE_QUIT, check_rcpt_refused);
    struct world *w = world_new(1, dot);
    world_mail(w, A_B, SLICE(CONTENT));
    world_run(w);
    expect_got(w, "EHLO us.test\r\n" FLIGHT_DATA ".\r\nRSET\r\nQUIT\r\n");
    world_free(w);
}

static void check_content_refused(struct world *w, struct outcome *o)
{
    expect(o, 0, SMTP_VERDICT_PERMANENT, SMTP_STAGE_FINAL, 554, "5.6.0");
    expect(o, 1, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_RCPT, 452, "4.5.3");
    cr_assert_eq(w->readies, 2);
}

Test(smtp_client_mail, content_refused)
{
    SCRIPT(together, GREETING, EHLO(HELLO_ALL),
           SAY(FLIGHT, "250 ok\r\n250 ok\r\n452 4.5.3 many\r\n554 5.6.0 bad\r\n"),
           SAY("RSET\r\n", "250 ok\r\n"), BYE);
    SCRIPT(data, GREETING, EHLO(HELLO_PIPELINING),
           SAY(FLIGHT_DATA, "250 ok\r\n250 ok\r\n452 4.5.3 many\r\n354 go\r\n"),
           SAY(CONTENT ".\r\n", "554 5.6.0 bad\r\n"), SAY("RSET\r\n", "250 ok\r\n"), BYE);
    one_transaction(together, SLICE(CONTENT), SMTP_GONE_QUIT, check_content_refused);
    one_transaction(data, SLICE(CONTENT), SMTP_GONE_QUIT, check_content_refused);
}

static void check_421_at_rcpt(struct world *w, struct outcome *o)
{
    (void)w;
    expect(o, 0, SMTP_VERDICT_PERMANENT, SMTP_STAGE_RCPT, 550, "5.1.1");
    expect(o, 1, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_RCPT, 421, "4.7.0");
    expect_text(o, 1, "4.7.0 enough");
    cr_assert(!o->recipients[1].result.unknown);
    cr_assert(!o->transaction.retry_now);
}

Test(smtp_client_mail, a_421_ends_it_for_all_without_an_outcome)
{
    SCRIPT(together, GREETING, EHLO(HELLO_ALL),
           SAY_CLOSE(FLIGHT, "250 ok\r\n550 5.1.1 nobody\r\n421 4.7.0 enough\r\n"));
    SCRIPT(bare, GREETING, EHLO(HELLO_BARE), SAY(MAIL "\r\n", "250 ok\r\n"),
           SAY(RCPT_A, "550 5.1.1 nobody\r\n"), SAY_CLOSE(RCPT_B, "421 4.7.0 enough\r\n"));
    one_transaction(together, SLICE(CONTENT), SMTP_GONE_CLOSING, check_421_at_rcpt);
    one_transaction(bare, SLICE(CONTENT), SMTP_GONE_CLOSING, check_421_at_rcpt);
}

static void check_unknown(struct world *w, struct outcome *o)
{
    for (unsigned i = 0; i < 2; i++) {
        expect(o, i, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_FINAL, 0, "4.4.2");
        cr_assert(o->recipients[i].result.unknown);
    }
    cr_assert_eq(w->clients.numbers.unknown, 2);
    cr_assert_eq(w->clients.numbers.deferred, 2);
}

Test(smtp_client_mail, lost_behind_the_final_dot_is_unknown)
{
    SCRIPT(closes, GREETING, EHLO(HELLO_PIPELINING),
           SAY(FLIGHT_DATA, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
           SAY_CLOSE(CONTENT ".\r\n", ""));
    SCRIPT(resets, GREETING, EHLO(HELLO_PIPELINING),
           SAY(FLIGHT_DATA, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
           SAY_RESET(CONTENT ".\r\n", ""));
    SCRIPT(half, GREETING, EHLO(HELLO_ALL),
           SAY_CLOSE(FLIGHT, "250 ok\r\n250 ok\r\n250 ok\r\n250 o"));
    SCRIPT(silent, GREETING, EHLO(HELLO_ALL), SAY(FLIGHT, "250 ok\r\n250 ok\r\n250 ok\r\n"));
    one_transaction(closes, SLICE(CONTENT), SMTP_GONE_LOST, check_unknown);
    one_transaction(resets, SLICE(CONTENT), SMTP_GONE_LOST, check_unknown);
    one_transaction(half, SLICE(CONTENT), SMTP_GONE_LOST, check_unknown);
    one_transaction(silent, SLICE(CONTENT), SMTP_GONE_TIMEOUT, check_unknown);
}

static void check_lost_before(struct world *w, struct outcome *o)
{
    for (unsigned i = 0; i < 2; i++) {
        cr_assert_eq(o->recipients[i].result.verdict, SMTP_VERDICT_TEMPORARY);
        cr_assert(!o->recipients[i].result.unknown);
    }
    cr_assert(!o->transaction.retry_now, "a fresh connection that is lost is a failure");
    cr_assert_eq(w->clients.numbers.unknown, 0);
}

Test(smtp_client_mail, lost_before_content_is_plain_temporary)
{
    SCRIPT(mail, GREETING, EHLO(HELLO_PIPELINING), SAY_CLOSE(FLIGHT_DATA, "250 ok\r\n"));
    SCRIPT(at_once, GREETING, EHLO(HELLO_PIPELINING), SAY_CLOSE(FLIGHT_DATA, ""));
    SCRIPT(data, GREETING, EHLO(HELLO_PIPELINING),
           SAY_RESET(FLIGHT_DATA, "250 ok\r\n250 ok\r\n250 ok\r\n"));
    SCRIPT(silent, GREETING, EHLO(HELLO_PIPELINING), SAY(FLIGHT_DATA, NULL));
    one_transaction(mail, SLICE(CONTENT), SMTP_GONE_LOST, check_lost_before);
    one_transaction(at_once, SLICE(CONTENT), SMTP_GONE_LOST, check_lost_before);
    one_transaction(data, SLICE(CONTENT), SMTP_GONE_LOST, check_lost_before);
    one_transaction(silent, SLICE(CONTENT), SMTP_GONE_TIMEOUT, check_lost_before);
}

static void check_not_delivered(struct world *w, struct outcome *o)
{
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(o->recipients[i].result.verdict, SMTP_VERDICT_TEMPORARY);
    cr_assert_eq(w->clients.numbers.violations, 1);
}

Test(smtp_client_mail, replies_out_of_step_are_nobodys_250)
{
    SCRIPT(data_250, GREETING, EHLO(HELLO_PIPELINING),
           SAY(FLIGHT_DATA, "250 ok\r\n250 ok\r\n250 ok\r\n250 what\r\n"));
    SCRIPT(mail_354, GREETING, EHLO(HELLO_PIPELINING), SAY(FLIGHT_DATA, "354 go\r\n"));
    SCRIPT(early, GREETING, EHLO(HELLO_PIPELINING),
           SAY(FLIGHT_DATA, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n250 done\r\n"));
    SCRIPT(bare_lf, GREETING, EHLO(HELLO_PIPELINING), SAY(FLIGHT_DATA, "250 ok\n"));
    SCRIPT(final_354, GREETING, EHLO(HELLO_ALL),
           SAY(FLIGHT, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"));
    SCRIPT(twice, GREETING, EHLO(HELLO_BARE), SAY(MAIL "\r\n", "250 ok\r\n250 ok\r\n"),
           SAY(RCPT_A, NULL));
    SCRIPT(in_vain, GREETING, EHLO(HELLO_BARE), SAY(MAIL "\r\n", "250 ok\r\n"),
           SAY(RCPT_A, "250 ok\r\n"), SAY(RCPT_B, "250 ok\r\n250 DATA will be fine\r\n"),
           SAY("DATA", NULL));
    one_transaction(data_250, SLICE(CONTENT), SMTP_GONE_VIOLATION, check_not_delivered);
    one_transaction(mail_354, SLICE(CONTENT), SMTP_GONE_VIOLATION, check_not_delivered);
    one_transaction(bare_lf, SLICE(CONTENT), SMTP_GONE_VIOLATION, check_not_delivered);
    one_transaction(final_354, SLICE(CONTENT), SMTP_GONE_VIOLATION, check_not_delivered);
    /* One reply too many, caught when it is there together with the one before. */
    const struct line *const scripts[] = { early, twice, in_vain };
    unsigned caught = 0;
    EACH_SEED(seed)
    for (unsigned i = 0; i < ARRAY_COUNT(scripts); i++) {
        struct world *w = world_new(seed, scripts[i]);
        struct outcome *o = world_mail(w, A_B, SLICE(CONTENT));
        world_run(w);
        caught += w->clients.numbers.violations == 1 &&
                  o->recipients[0].result.verdict == SMTP_VERDICT_TEMPORARY;
        world_free(w);
    }
    cr_assert_gt(caught, 0);
}

Test(smtp_client_mail, more_replies_than_questions)
{
    SCRIPT(more, GREETING, EHLO(HELLO_ALL),
           SAY(FLIGHT, "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n250 and more\r\n"));
    unsigned doubted = 0;
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, more);
        struct outcome *o = world_mail(w, A_B, SLICE(CONTENT));
        w->quit_when_done = false;
        world_run(w);
        cr_assert_eq(w->end.why, SMTP_GONE_VIOLATION);
        doubted += o->recipients[0].result.unknown;
        world_free(w);
    }
    cr_assert_gt(doubted, 0, "with both there at once, whose 250 it was is not known");
}

static void check_chunking(struct world *w, struct outcome *o)
{
    for (unsigned i = 0; i < 2; i++)
        expect(o, i, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_FINAL, 0, "4.5.1");
    cr_assert_eq(w->clients.numbers.chunking_broken, 1);
}

Test(smtp_client_mail, bdat_offered_and_not_understood_closes)
{
    SCRIPT(unknown, GREETING, EHLO(HELLO_ALL),
           SAY(FLIGHT, "250 ok\r\n250 ok\r\n250 ok\r\n500 5.5.1 BDAT?\r\n500 Subject?\r\n"));
    one_transaction(unknown, SLICE(CONTENT), SMTP_GONE_CHUNKING, check_chunking);
}

Test(smtp_client_mail, a_reset_that_is_refused_ends_the_session)
{
    SCRIPT(no, GREETING, EHLO(HELLO_ALL),
           SAY(FLIGHT, "550 5.7.1 no\r\n503 a\r\n503 b\r\n503 c\r\n"),
           SAY("RSET\r\n", "500 what\r\n"));
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, no);
        world_mail(w, A_B, SLICE(CONTENT));
        world_run(w);
        cr_assert_eq(w->end.why, SMTP_GONE_VIOLATION);
        cr_assert_eq(w->readies, 1);
        world_free(w);
    }
}

/* ---- bodies ---- */

/* The content as a server must read it: unstuffed. */
static void expect_content(const struct world *w, size_t from, const uint8_t *text, size_t size)
{
    struct smtp_data data;
    smtp_data_begin(&data, SMTP_NEWLINE_REJECT, 998);
    struct slice in = slice_of(w->peer.got + from, w->peer.got_size - from), out;
    size_t at = 0;
    while (smtp_data_take(&data, &in, &out)) {
        cr_assert_leq(out.size, size - at);
        cr_assert_eq(memcmp(text + at, out.data, out.size), 0);
        at += out.size;
    }
    cr_assert(data.ended);
    cr_assert_eq(at, size);
    cr_assert(slice_equal(in, SLICE("QUIT\r\n")));
}

Test(smtp_client_mail, damaged_content_is_cut_off_and_never_ended)
{
    SCRIPT(data, GREETING, EHLO(HELLO_PIPELINING),
           SAY(FLIGHT_DATA, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"), LATE("\r\n.\r\n", NULL));
    SCRIPT(bdat, GREETING, EHLO("250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n"),
           SAY(MAIL "\r\n" RCPT_A RCPT_B, "250 ok\r\n250 ok\r\n250 ok\r\n"), LATE("BDAT ", NULL));
    size_t size;
    uint8_t *text = big_body(12'000, &size);
    static const char *const damages[] = { "\r", "\n", "x\ny", "x\ry", "\r\n.\n" };
    for (unsigned i = 0; i < ARRAY_COUNT(damages); i++)
        for (unsigned chunked = 0; chunked < 2; chunked++) {
            struct world *w = world_new(i + 1, chunked ? bdat : data);
            struct outcome *o = world_mail(w, A_B, slice_of(text, size));
            body_add(o, slice_of_string(damages[i]));
            world_run(w);
            cr_assert_eq(w->end.why, SMTP_GONE_BODY);
            for (unsigned k = 0; k < 2; k++) {
                expect(o, k, SMTP_VERDICT_PERMANENT, SMTP_STAGE_LOCAL, 0, "5.6.0");
                cr_assert(!o->recipients[k].result.unknown);
            }
            cr_assert_lt(w->peer.got_size, size, "the end has not left");
            cr_assert_eq(w->clients.numbers.damaged_bodies, 1);
            world_free(w);
        }
    free(text);
}

Test(smtp_client_mail, a_body_that_cannot_be_read)
{
    SCRIPT(data, GREETING, EHLO(HELLO_PIPELINING),
           SAY(FLIGHT_DATA, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"), LATE("\r\n.\r\n", NULL));
    SCRIPT(unasked, GREETING, EHLO(HELLO_PIPELINING), BYE);
    size_t size;
    uint8_t *text = big_body(12'000, &size);
    for (unsigned i = 0; i < 4; i++) {
        struct world *w = world_new(i + 1, i % 2 ? unasked : data);
        struct outcome *o = world_mail(w, A_B, i % 2 ? SLICE("short\r\n") : slice_of(text, size));
        body_add(o, SLICE("end\r\n"));
        if (i < 2)
            o->body.fail_at = 1;
        else
            o->body.slices[1].size += i == 3 ? 1 : 0; /* longer than it was said to be */
        if (i == 2)
            o->transaction.size += 2; /* shorter */
        world_run(w);
        for (unsigned k = 0; k < 2; k++) {
            cr_assert_eq(o->recipients[k].result.verdict, SMTP_VERDICT_TEMPORARY);
            cr_assert_eq(o->recipients[k].result.enhanced.subject, 3);
            cr_assert(!o->recipients[k].result.unknown);
        }
        cr_assert_eq(w->end.why, i % 2 ? SMTP_GONE_QUIT : SMTP_GONE_BODY);
        world_free(w);
    }
    free(text);
}

Test(smtp_client_mail, a_host_that_interrupts_content_gets_no_more)
{
    SCRIPT(data, GREETING, EHLO(HELLO_PIPELINING),
           SAY(FLIGHT_DATA, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
           LATE(".line 0", "552 5.3.4 too much\r\n"));
    size_t size;
    uint8_t *text = big_body(12'000, &size);
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, data);
        struct outcome *o = world_mail(w, A_B, slice_of(text, size));
        body_add(o, SLICE("end\r\n"));
        o->body.stall_at = 1; /* for ever: content does not end */
        world_run(w);
        for (unsigned k = 0; k < 2; k++) {
            expect(o, k, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_CONTENT, 552, "4.3.4");
            expect_text(o, k, "5.3.4 too much");
        }
        cr_assert_eq(w->end.why, SMTP_GONE_VIOLATION);
        world_free(w);
    }
    free(text);
}

Test(smtp_client_mail, large_bodies_arrive_octet_for_octet)
{
    SCRIPT(data, GREETING, EHLO(HELLO_PIPELINING),
           SAY(FLIGHT_DATA, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
           SAY("\r\n.\r\n", "250 2.0.0 ok\r\n"), BYE);
    SCRIPT(bdat, GREETING, EHLO("250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n"),
           SAY(MAIL "\r\n" RCPT_A RCPT_B, "250 ok\r\n250 ok\r\n250 ok\r\n"),
           SAY("end\r\n", "250 2.0.0 ok\r\n"), BYE);
    size_t size;
    uint8_t *text = big_body(30'000, &size);
    memcpy(text + size, "end\r\n", 5);
    for (unsigned pieces = 1; pieces <= 61; pieces += 20)
        for (unsigned chunked = 0; chunked < 2; chunked++) {
            struct world *w = world_new(pieces, chunked ? bdat : data);
            struct outcome *o = world_mail(w, A_B, slice_of(NULL, 0));
            size_t whole = size + 5, at = 0;
            for (unsigned i = 0; i < pieces; i++) {
                size_t part = i + 1 == pieces ? whole - at : whole / pieces;
                body_add(o, slice_of(text + at, part));
                at += part;
            }
            world_run(w);
            for (unsigned k = 0; k < 2; k++)
                expect(o, k, SMTP_VERDICT_DELIVERED, SMTP_STAGE_FINAL, 250, "2.0.0");
            cr_assert_eq(w->clients.numbers.content_bytes, whole);
            if (chunked) {
                char command[64];
                int length = snprintf(command, sizeof(command), "BDAT %zu LAST\r\n", whole);
                const uint8_t *found =
                    memmem(w->peer.got, w->peer.got_size, command, (size_t)length);
                cr_assert_not_null(found);
                cr_assert_eq(memcmp(found + length, text, whole), 0);
            } else {
                expect_content(w, strlen("EHLO us.test\r\n" FLIGHT_DATA), text, whole);
            }
            world_free(w);
        }
    free(text);
}

static void wake_body(void *argument)
{
    struct world *w = argument;
    struct outcome *o = &w->outcomes[0];
    cr_assert(o->body.stalled);
    o->body.stall_at = o->body.stall_at == 1 ? 2 : 0;
    if (o->body.stall_at > 0)
        sim_at(w->sim, 20'000'000'000, wake_body, w);
    smtp_client_body_ready(w->client);
}

Test(smtp_client_mail, a_body_may_come_late)
{
    SCRIPT(data, GREETING, EHLO(HELLO_PIPELINING),
           SAY(FLIGHT_DATA, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
           SAY("Subject: x\r\n\r\n..\r\n...body\r\n.\r\n", "250 ok\r\n"), BYE);
    SCRIPT(bdat, GREETING, EHLO("250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n"),
           SAY(MAIL "\r\n" RCPT_A RCPT_B, "250 ok\r\n250 ok\r\n250 ok\r\n"),
           SAY("BDAT 25 LAST\r\nSubject: x\r\n\r\n.\r\n..body\r\n", "250 ok\r\n"), BYE);
    EACH_SEED(seed)
    for (unsigned chunked = 0; chunked < 2; chunked++) {
        struct world *w = world_new(seed, chunked ? bdat : data);
        struct outcome *o = world_mail(w, A_B, SLICE("Subject: x\r\n\r"));
        body_add(o, SLICE("\n.\r\n."));
        body_add(o, SLICE(".body\r\n"));
        o->body.stall_at = 1;
        sim_at(w->sim, 20'000'000'000, wake_body, w);
        world_run(w);
        for (unsigned k = 0; k < 2; k++)
            expect(o, k, SMTP_VERDICT_DELIVERED, SMTP_STAGE_FINAL, 250, "2.0.0");
        world_free(w);
    }
}

/* ---- transactions as they should be ---- */

static void check_delivered(struct world *w, struct outcome *o)
{
    for (unsigned i = 0; i < 2; i++) {
        expect(o, i, SMTP_VERDICT_DELIVERED, SMTP_STAGE_FINAL, 250, "2.0.0");
        expect_text(o, i, "2.0.0 queued as 7");
    }
    cr_assert_eq(o->recipients[0].result.text.data, o->recipients[1].result.text.data, "shared");
    cr_assert_eq(o->transaction.delivered, 2);
    cr_assert_eq(o->transaction.attempted, 2);
    cr_assert_eq(w->readies, 2);
    cr_assert_eq(w->clients.numbers.delivered, 2);
}

Test(smtp_client_mail, pipelining_and_chunking_in_one_send)
{
    SCRIPT(together, GREETING, EHLO(HELLO_ALL),
           SAY(FLIGHT, "250 ok\r\n250 ok\r\n250 ok\r\n250 2.0.0 queued as 7\r\n"), BYE);
    one_transaction(together, SLICE(CONTENT), SMTP_GONE_QUIT, check_delivered);
    struct world *w = world_new(1, together);
    world_mail(w, A_B, SLICE(CONTENT));
    world_run(w);
    cr_assert_eq(sim_count(w->sim, 0, SIM_SEND), 3, "EHLO, the message, QUIT: %lu",
                 (unsigned long)sim_count(w->sim, 0, SIM_SEND));
    world_free(w);
}

Test(smtp_client_mail, pipelining_with_data)
{
    SCRIPT(data, GREETING, EHLO(HELLO_PIPELINING),
           SAY(FLIGHT_DATA, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
           SAY(CONTENT ".\r\n", "250 2.0.0 queued as 7\r\n"), BYE);
    one_transaction(data, SLICE(CONTENT), SMTP_GONE_QUIT, check_delivered);
    struct world *w = world_new(1, data);
    world_mail(w, A_B, SLICE(CONTENT));
    world_run(w);
    cr_assert_eq(sim_count(w->sim, 0, SIM_SEND), 4);
    world_free(w);
}

Test(smtp_client_mail, step_by_step_without_extensions)
{
    SCRIPT(bare, GREETING, EHLO(HELLO_BARE), SAY(MAIL "\r\n", "250 ok\r\n"),
           SAY(RCPT_A, "250 ok\r\n"), SAY(RCPT_B, "251 ok\r\n"), SAY("DATA\r\n", "354 go\r\n"),
           SAY(CONTENT ".\r\n", "250 2.0.0 queued as 7\r\n"), BYE);
    SCRIPT(helo, GREETING, EHLO("500 what\r\n"), SAY("HELO us.test\r\n", "250 mx\r\n"),
           SAY(MAIL "\r\n", "250 ok\r\n"), SAY(RCPT_A, "250 ok\r\n"), SAY(RCPT_B, "250 ok\r\n"),
           SAY("DATA\r\n", "354 go\r\n"), SAY(CONTENT ".\r\n", "250-2.0.0 queued\r\n250 as 7\r\n"),
           BYE);
    SCRIPT(chunks, GREETING, EHLO("250-mx\r\n250 CHUNKING\r\n"), SAY(MAIL "\r\n", "250 ok\r\n"),
           SAY(RCPT_A, "250 ok\r\n"), SAY(RCPT_B, "250 ok\r\n"),
           SAY("BDAT 20 LAST\r\n" CONTENT, "250 2.0.0 queued as 7\r\n"), BYE);
    one_transaction(bare, SLICE(CONTENT), SMTP_GONE_QUIT, check_delivered);
    one_transaction(helo, SLICE(CONTENT), SMTP_GONE_QUIT, check_delivered);
    one_transaction(chunks, SLICE(CONTENT), SMTP_GONE_QUIT, check_delivered);
}

Test(smtp_client_mail, parameters_are_passed_on_where_offered)
{
    SCRIPT(all, GREETING, EHLO(HELLO_ALL),
           SAY("MAIL FROM:<> SIZE=20 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=id+2B1\r\n"
               "RCPT TO:<a@x.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;q@x.test\r\n"
               "RCPT TO:<b@x.test> NOTIFY=NEVER\r\nBDAT 20 LAST\r\n" CONTENT,
               "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n"),
           BYE);
    SCRIPT(none, GREETING, EHLO("250-mx\r\n250-SMTPUTF8\r\n250 8BITMIME\r\n"),
           SAY("MAIL FROM:<> BODY=8BITMIME SMTPUTF8\r\n", "250 ok\r\n"), SAY(RCPT_A, "250 ok\r\n"),
           SAY(RCPT_B, "250 ok\r\n"), SAY("DATA\r\n", "354 ok\r\n"),
           SAY(CONTENT ".\r\n", "250 ok\r\n"), BYE);
    for (unsigned i = 0; i < 2; i++) {
        struct world *w = world_new(i + 1, i == 0 ? all : none);
        struct outcome *o = world_mail(w, A_B, SLICE(CONTENT));
        o->transaction.sender = slice_of(NULL, 0);
        o->transaction.flags = SMTP_TRANSACTION_UTF8 | SMTP_TRANSACTION_8BIT;
        o->transaction.ret = SMTP_RET_HDRS;
        o->transaction.envid = SLICE("id+2B1");
        o->recipients[0].notify = SMTP_NOTIFY_SUCCESS | SMTP_NOTIFY_FAILURE;
        o->recipients[0].orcpt = SLICE("rfc822;q@x.test");
        o->recipients[1].notify = SMTP_NOTIFY_NEVER;
        world_run(w);
        expect(o, 0, SMTP_VERDICT_DELIVERED, SMTP_STAGE_FINAL, 250, "2.0.0");
        cr_assert_eq(o->transaction.dsn_passed, i == 0);
        world_free(w);
    }
}

Test(smtp_client_mail, requiretls_never_leaves_in_clear)
{
    SCRIPT(clear, GREETING, EHLO("250-mx\r\n250 REQUIRETLS\r\n"), BYE);
    for (unsigned i = 0; i < 2; i++) {
        struct world *w = world_new(i + 1, clear);
        struct outcome *o = world_mail(w, A_B, SLICE(CONTENT));
        if (i == 0)
            o->transaction.sender = slice_of(NULL, 0);
        o->transaction.flags = SMTP_TRANSACTION_REQUIRETLS;
        world_run(w);
        expect(o, 0, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_LOCAL, 0, "4.7.0");
        expect(o, 1, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_LOCAL, 0, "4.7.0");
        world_free(w);
    }
}

Test(smtp_client_mail, empty_and_unended_bodies)
{
    SCRIPT(bdat, GREETING, EHLO("250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n"),
           SAY(MAIL "\r\n" RCPT_A RCPT_B "BDAT 0 LAST\r\n",
               "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n"),
           SAY(MAIL "\r\n" RCPT_A RCPT_B "BDAT 1 LAST\r\nx",
               "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n"),
           BYE);
    SCRIPT(data, GREETING, EHLO(HELLO_PIPELINING),
           SAY(FLIGHT_DATA, "250 ok\r\n250 ok\r\n250 ok\r\n354 ok\r\n"), SAY(".\r\n", "250 ok\r\n"),
           SAY(FLIGHT_DATA, "250 ok\r\n250 ok\r\n250 ok\r\n354 ok\r\n"),
           SAY("x\r\n.\r\n", "250 ok\r\n"), BYE);
    EACH_SEED(seed)
    for (unsigned i = 0; i < 2; i++) {
        struct world *w = world_new(seed, i == 0 ? bdat : data);
        struct outcome *empty = world_mail(w, A_B, slice_of(NULL, 0));
        struct outcome *unended = world_mail(w, A_B, SLICE("x"));
        world_run(w);
        expect(empty, 1, SMTP_VERDICT_DELIVERED, SMTP_STAGE_FINAL, 250, "2.0.0");
        expect(unended, 1, SMTP_VERDICT_DELIVERED, SMTP_STAGE_FINAL, 250, "2.0.0");
        cr_assert_eq(w->clients.numbers.transactions_reused, 1);
        world_free(w);
    }
}

Test(smtp_client_mail, many_recipients_in_few_sends)
{
    static char list[RECIPIENTS * 24], flight[RECIPIENTS * 40], replies[RECIPIENTS * 24];
    size_t list_size = 0, flight_size = 0, replies_size = 0;
    flight_size += (size_t)sprintf(flight, MAIL " SIZE=20\r\n");
    replies_size += (size_t)sprintf(replies, "250 ok\r\n");
    for (unsigned i = 0; i < RECIPIENTS; i++) {
        list_size += (size_t)sprintf(list + list_size, "%sr%u@x.test", i ? " " : "", i);
        flight_size += (size_t)sprintf(flight + flight_size, "RCPT TO:<r%u@x.test>\r\n", i);
        replies_size += (size_t)sprintf(replies + replies_size,
                                        i % 10 == 3 ? "550 no %u\r\n" : "250 ok\r\n", i);
    }
    sprintf(flight + flight_size, "BDAT 20 LAST\r\n" CONTENT);
    sprintf(replies + replies_size, "250 ok\r\n");
    const struct line script[] = { GREETING, EHLO(HELLO_ALL), SAY(flight, replies), BYE, END };
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, script);
        struct outcome *o = world_mail(w, list, SLICE(CONTENT));
        world_run(w);
        for (unsigned i = 0; i < RECIPIENTS; i++) {
            char text[32];
            snprintf(text, sizeof(text), "no %u", i);
            if (i % 10 == 3) {
                expect(o, i, SMTP_VERDICT_PERMANENT, SMTP_STAGE_RCPT, 550, "5.0.0");
                expect_text(o, i, text);
            } else {
                expect(o, i, SMTP_VERDICT_DELIVERED, SMTP_STAGE_FINAL, 250, "2.0.0");
            }
        }
        cr_assert_leq(sim_count(w->sim, 0, SIM_SEND), 2 + 2 + flight_size / 7'000);
        world_free(w);
    }
}

Test(smtp_client_mail, limits_of_the_host_are_obeyed)
{
    SCRIPT(rcptmax, GREETING,
           EHLO("250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 LIMITS RCPTMAX=2 MAILMAX=2\r\n"),
           SAY(MAIL "\r\n" RCPT_A RCPT_B "BDAT 20 LAST\r\n" CONTENT,
               "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n"),
           SAY(MAIL "\r\n" RCPT_A "BDAT 20 LAST\r\n" CONTENT, "250 ok\r\n250 ok\r\n250 ok\r\n"),
           BYE);
    SCRIPT(domains, GREETING,
           EHLO("250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 LIMITS RCPTDOMAINMAX=1\r\n"),
           SAY(MAIL "\r\n" RCPT_A RCPT_B "BDAT 20 LAST\r\n" CONTENT,
               "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n"),
           BYE);
    struct world *w = world_new(1, rcptmax);
    struct outcome *o = world_mail(w, "a@x.test b@x.test c@x.test d@x.test", SLICE(CONTENT));
    struct outcome *last = world_mail(w, "a@x.test", SLICE(CONTENT));
    world_mail(w, "never@x.test", SLICE(CONTENT));
    world_run(w);
    cr_assert_eq(o->transaction.attempted, 2);
    cr_assert_eq(o->transaction.delivered, 2);
    expect(o, 2, SMTP_VERDICT_NONE, SMTP_STAGE_NONE, 0, "0.0.0");
    expect(last, 0, SMTP_VERDICT_DELIVERED, SMTP_STAGE_FINAL, 250, "2.0.0");
    cr_assert_eq(w->next, 2, "no third one on this connection");
    cr_assert_eq(w->end.why, SMTP_GONE_QUIT);
    cr_assert_eq(w->end.transactions, 2);
    world_free(w);

    w = world_new(2, domains);
    o = world_mail(w, "a@x.test c@y.test b@X.test d@z.test", SLICE(CONTENT));
    o->recipients[2].address = SLICE("b@x.test");
    world_run(w);
    cr_assert_eq(o->transaction.attempted, 2);
    expect(o, 1, SMTP_VERDICT_NONE, SMTP_STAGE_NONE, 0, "0.0.0");
    expect(o, 2, SMTP_VERDICT_DELIVERED, SMTP_STAGE_FINAL, 250, "2.0.0");
    expect(o, 3, SMTP_VERDICT_NONE, SMTP_STAGE_NONE, 0, "0.0.0");
    world_free(w);
}

/* ---- LMTP ---- */

Test(smtp_client_mail, lmtp_has_a_reply_for_each_accepted_recipient)
{
    SCRIPT(chunks, SAY("", "220 lmtp\r\n"), SAY("LHLO us.test\r\n", HELLO_ALL),
           SAY(MAIL " SIZE=20\r\n" RCPT_A RCPT_B "RCPT TO:<c@x.test>\r\n",
               "250 ok\r\n250 ok\r\n550 5.1.1 no\r\n250 ok\r\n"),
           SAY("BDAT 20 LAST\r\n" CONTENT, "250 2.1.5 a saved\r\n452 4.2.2 c is full\r\n"),
           SAY("RSET\r\n", "250 ok\r\n"), BYE);
    SCRIPT(data, SAY("", "220 lmtp\r\n"), SAY("LHLO us.test\r\n", HELLO_PIPELINING),
           SAY(MAIL "\r\n" RCPT_A RCPT_B "RCPT TO:<c@x.test>\r\nDATA\r\n",
               "250 ok\r\n250 ok\r\n550 5.1.1 no\r\n250 ok\r\n354 go\r\n"),
           SAY(CONTENT ".\r\n", "250 2.1.5 a saved\r\n452 4.2.2 c is full\r\n"),
           SAY("RSET\r\n", "250 ok\r\n"), BYE);
    SCRIPT(cut, SAY("", "220 lmtp\r\n"), SAY("LHLO us.test\r\n", HELLO_PIPELINING),
           SAY(MAIL "\r\n" RCPT_A RCPT_B "RCPT TO:<c@x.test>\r\nDATA\r\n",
               "250 ok\r\n250 ok\r\n550 5.1.1 no\r\n250 ok\r\n354 go\r\n"),
           SAY_CLOSE(CONTENT ".\r\n", "250 2.1.5 a saved\r\n"));
    SCRIPT(none, SAY("", "220 lmtp\r\n"), SAY("LHLO us.test\r\n", HELLO_PIPELINING),
           SAY(MAIL "\r\n" RCPT_A RCPT_B "RCPT TO:<c@x.test>\r\nDATA\r\n",
               "250 ok\r\n550 5.1.1 no\r\n550 5.1.1 no\r\n550 5.1.1 no\r\n503 no\r\n"),
           SAY("RSET\r\n", "250 ok\r\n"), BYE);
    const struct line *const scripts[] = { chunks, data, cut, none };
    EACH_SEED(seed)
    for (unsigned i = 0; i < ARRAY_COUNT(scripts); i++) {
        struct world *w = world_new(seed, scripts[i]);
        w->target.protocol = SMTP_CLIENT_LMTP;
        struct outcome *o = world_mail(w, A_B " c@x.test", SLICE(CONTENT));
        world_run(w);
        expect(o, 1, SMTP_VERDICT_PERMANENT, SMTP_STAGE_RCPT, 550, "5.1.1");
        if (scripts[i] == none)
            expect(o, 0, SMTP_VERDICT_PERMANENT, SMTP_STAGE_RCPT, 550, "5.1.1");
        else
            expect(o, 0, SMTP_VERDICT_DELIVERED, SMTP_STAGE_FINAL, 250, "2.1.5");
        if (scripts[i] == cut) {
            expect(o, 2, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_FINAL, 0, "4.4.2");
            cr_assert(o->recipients[2].result.unknown);
        } else if (scripts[i] != none) {
            expect(o, 2, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_FINAL, 452, "4.2.2");
            expect_text(o, 2, "4.2.2 c is full");
        }
        world_free(w);
    }
}

/* A reply may be here before the landing of the send that it answers. */
Test(smtp_client_mail, quick_replies)
{
    SCRIPT(together, GREETING, EHLO(HELLO_ALL),
           SAY(FLIGHT, "250 ok\r\n250 ok\r\n250 ok\r\n250 2.0.0 queued as 7\r\n"), BYE);
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct world *w = world_new(seed, together);
        w->peer.pause_ns = 0;
        struct outcome *o = world_mail(w, A_B, SLICE(CONTENT));
        world_run(w);
        check_delivered(w, o);
        world_free(w);
    }
}

Test(smtp_client_mail, a_body_longer_than_its_size_does_not_become_commands)
{
    SCRIPT(bdat, GREETING, EHLO("250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n"),
           SAY(MAIL "\r\n" RCPT_A RCPT_B, "250 ok\r\n250 ok\r\n250 ok\r\n"), LATE("QUIT me", NULL));
    size_t size;
    uint8_t *text = big_body(12'000, &size);
    struct world *w = world_new(1, bdat);
    struct outcome *o = world_mail(w, A_B, slice_of(text, size));
    body_add(o, SLICE("QUIT me\r\n"));
    o->transaction.size -= 9;
    body_add(o, SLICE("QUIT me\r\n"));
    o->transaction.size -= 8;
    world_run(w);
    cr_assert_null(memmem(w->peer.got, w->peer.got_size, "QUIT me", 7));
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(o->recipients[i].result.verdict, SMTP_VERDICT_TEMPORARY);
    world_free(w);
    free(text);
}

/* What a second transaction of a connection may tell of the host. */
Test(smtp_client_mail, lost_after_a_reply_is_no_reason_to_retry_now)
{
    SCRIPT(loses, GREETING, EHLO(HELLO_ALL),
           SAY(FLIGHT, "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n"),
           SAY_CLOSE(FLIGHT, "250 ok\r\n"));
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, loses);
        world_mail(w, A_B, SLICE(CONTENT));
        struct outcome *second = world_mail(w, A_B, SLICE(CONTENT));
        world_run(w);
        cr_assert(!second->transaction.retry_now);
        cr_assert(second->recipients[0].result.unknown);
        world_free(w);
    }
}
