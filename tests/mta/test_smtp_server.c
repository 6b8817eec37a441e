/*
 * test_smtp_server.c - the inbound session: what it promises, what it refuses, what it gives back
 */
#include "tests/mta/smtp_server_world.h"

#include "mta/smtp_incoming.h"

enum { SEEDS = 4 };
#define EACH_SEED(seed) for (uint64_t seed = 1; seed <= SEEDS; seed++)

/* ---- before the first command ---- */

Test(smtp_server, who_talks_before_the_greeting_is_sent_away)
{
    unsigned caught = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct smtp_world *w = smtp_world_new(seed);
        sim_options(w->sim)->step = (struct sim_range) { 200'000'000, 200'000'000 };
        struct talk *t = talk_open(w);
        talk_put(t, "EHLO spam.test\r\nMAIL FROM:<>\r\n");
        int code = talk_read(t);
        cr_assert(code == 421 || code == 220, "%d", code);
        cr_assert_eq(w->service.metrics.early_talk, code == 421 ? 1 : 0);
        caught += code == 421;
        sim_options(w->sim)->step = (struct sim_range) { 1'000, 50'000 };
        talk_leave(t);
        smtp_world_free(w);
    }
    cr_assert_gt(caught, 10, "%u", caught);
}

Test(smtp_server, a_refused_connection_hears_why_and_costs_no_limit)
{
    struct smtp_world *w = smtp_world_new(1);
    w->refusal = SMTP_REPLY_TOO_MANY_CONNECTIONS;
    struct talk *t = talk_open(w);
    cr_assert_eq(talk_read(t), 421);
    cr_assert_eq(talk_read(t), GONE);
    cr_assert_eq(limits_connections(w->limits), 0);
    talk_leave(t);
    smtp_world_free(w);
}

Test(smtp_server, no_session_left_means_no_session)
{
    struct smtp_world *w = smtp_world_make(1, "}", 64, 2);
    struct talk *a = talk_hello(w), *b = talk_hello(w), *c = talk_open(w);
    cr_assert_eq(talk_read(c), GONE);
    talk_leave(c);
    talk_leave(a);
    talk_leave(b);
    a = talk_hello(w);
    talk_leave(a);
    smtp_world_free(w);
}

Test(smtp_server, a_broken_spool_is_said_instead_of_a_greeting)
{
    struct smtp_world *w = smtp_world_new(2);
    smtp_world_run(w, 2'000);
    struct talk *t = talk_hello(w);
    sim_fail(w->sim, w->us, SIM_WRITE, 0, 1'000, -EIO);
    for (unsigned i = 0; i < 2; i++) {
        cr_assert_eq(talk_say(t, MAIL_RCPT "DATA\r\n"), 250);
        cr_assert_eq(talk_read(t), 250);
        cr_assert_eq(talk_read(t), 354);
        cr_assert_eq(talk_say(t, "Subject: x\r\n\r\n.\r\n"), 451, "%s", t->reply);
    }
    cr_assert_eq(talk_say(t, "MAIL FROM:<s@them.test>\r\n"), 451);
    struct talk *other = talk_open(w);
    cr_assert_eq(talk_read(other), 421);
    cr_assert(strstr(other->reply, "Not accepting") != NULL);
    cr_assert_eq(w->accepted, 0);
    sim_fail(w->sim, w->us, SIM_WRITE, 0, 0, 0);
    talk_leave(other);
    talk_leave(t);
    smtp_world_run(w, 30'000);
    smtp_world_free(w);
}

/* ---- commands that are refused ---- */

Test(smtp_server, a_bare_lf_ends_the_session_and_nothing_behind_it_is_read)
{
    EACH_SEED(seed)
    {
        struct smtp_world *w = smtp_world_new(seed);
        struct talk *t = talk_open(w);
        cr_assert_eq(talk_read(t), 220);
        cr_assert_eq(talk_say(t, "EHLO c.test\r\n"), 250);
        cr_assert_eq(talk_say(t, "NOOP\nNOOP\r\n"), 500);
        cr_assert_eq(talk_read(t), GONE);
        talk_leave(t);
        smtp_world_free(w);
    }
}

Test(smtp_server, commands_out_of_order_and_out_of_shape)
{
    static const struct {
        const char *say;
        int code;
    } cases[] = {
        { "MAIL FROM:<s@them.test>\r\n", 503 },
        { "RCPT TO:<r@us.test>\r\n", 503 },
        { "DATA\r\n", 503 }, /* what could not be a command now would be content */
        { "NOOP\r\n", 250 },
        { "WHAT\r\n", 500 },
        { "EHLO\r\n", 501 },
        { "\r\n", 500 },
        { "NO\001OP\r\n", 500 },
        { "EHLO client.test\r\n", 250 },
        { "DATA\r\n", 503 },
        { "RCPT TO:<r@us.test>\r\n", 503 },
        { "STARTTLS\r\n", 502 },
        { "MAIL FROM:<s@them.test> SIZE=99999999999\r\n", 552 },
        { "MAIL FROM:<s@them.test> BODY=BINARYMIME\r\n", 555 },
        { "MAIL FROM:<s@them.test> FOO=1\r\n", 555 },
        { "MAIL FROM:<s@them.test>\r\n", 250 },
        { "MAIL FROM:<s@them.test>\r\n", 503 },
        { "DATA\r\n", 554 }, /* nobody to send it to */
        { "RCPT TO:<r@elsewhere.test>\r\n", 550 },
        { "RCPT TO:<@us.test>\r\n", 501 },
        { "RCPT TO:<postmaster>\r\n", 250 },
        { "RSET\r\n", 250 },
        { "RCPT TO:<r@us.test>\r\n", 503 },
        { "VRFY somebody\r\n", 252 },
        { "HELP\r\n", 214 },
        { "QUIT\r\n", 221 },
    };
    EACH_SEED(seed)
    {
        struct smtp_world *w = smtp_world_new(seed);
        struct talk *t = talk_open(w);
        cr_assert_eq(talk_read(t), 220);
        for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
            int code = talk_say(t, cases[i].say);
            cr_assert_eq(code, cases[i].code, "%s: %d %s", cases[i].say, code, t->reply);
        }
        cr_assert_eq(talk_read(t), GONE);
        cr_assert_eq(w->accepted, 0);
        talk_leave(t);
        smtp_world_free(w);
    }
}

Test(smtp_server, an_endless_line_is_skipped_to_its_end)
{
    EACH_SEED(seed)
    {
        static char line[40'000];
        struct smtp_world *w = smtp_world_new(seed);
        struct talk *t = talk_hello(w);
        memset(line, 'x', sizeof(line) - 3);
        memcpy(line + sizeof(line) - 3, "\r\n", 3);
        cr_assert_eq(talk_say(t, line), 500);
        cr_assert_eq(w->service.metrics.refused_line, 1);
        cr_assert_eq(talk_say(t, "NOOP\r\n"), 250);
        talk_leave(t);
        smtp_world_free(w);
    }
}

Test(smtp_server, too_many_errors_end_it)
{
    struct smtp_world *w = smtp_world_make(3, "} limits { bad-commands = 3 }", 64, 8);
    struct talk *t = talk_hello(w);
    for (unsigned i = 0; i < 3; i++)
        cr_assert_eq(talk_say(t, "WHAT\r\n"), 500);
    cr_assert_eq(talk_say(t, "WHAT\r\nNOOP\r\n"), 421);
    cr_assert_eq(talk_read(t), GONE);
    talk_leave(t);
    smtp_world_free(w);
}

Test(smtp_server, too_many_commands_end_it)
{
    struct smtp_world *w = smtp_world_make(4, "} limits { commands = 100 }", 64, 8);
    struct talk *t = talk_hello(w);
    int code = 250;
    for (unsigned i = 0; i < 200 && code == 250; i++)
        code = talk_say(t, "NOOP\r\n");
    cr_assert_eq(code, 421);
    talk_leave(t);
    smtp_world_free(w);
}

Test(smtp_server, http_is_told_apart)
{
    struct smtp_world *w = smtp_world_new(5);
    struct talk *t = talk_open(w);
    cr_assert_eq(talk_read(t), 220);
    cr_assert_eq(talk_say(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"), 421);
    cr_assert_eq(talk_read(t), GONE);
    cr_assert_eq(w->service.metrics.http, 1);
    talk_leave(t);
    smtp_world_free(w);
}

Test(smtp_server, recipients_have_two_bounds)
{
    struct smtp_world *w = smtp_world_make(6, "} limits { recipients = 100 }", 64, 8);
    struct talk *t = talk_hello(w);
    cr_assert_eq(talk_say(t, "MAIL FROM:<s@them.test>\r\n"), 250);
    char text[64];
    for (unsigned i = 0; i < 100; i++) {
        snprintf(text, sizeof(text), "RCPT TO:<recipient-%u@us.test>\r\n", i);
        cr_assert_eq(talk_say(t, text), 250, "%s", t->reply);
    }
    cr_assert_eq(w->room_taken, 100);
    cr_assert_eq(w->service.large.used, 1);
    cr_assert_eq(talk_say(t, "RCPT TO:<more@us.test>\r\n"), 452);
    cr_assert_eq(talk_say(t, "RSET\r\n"), 250);
    cr_assert_eq(w->room_taken, 0);
    w->room = 2;
    cr_assert_eq(talk_say(t, MAIL_RCPT), 250);
    cr_assert_eq(talk_read(t), 250);
    cr_assert_eq(talk_say(t, "RCPT TO:<r2@us.test>\r\n"), 250);
    cr_assert_eq(talk_say(t, "RCPT TO:<r3@us.test>\r\n"), 452, "the queue is full");
    cr_assert_eq(talk_say(t, "DATA\r\n"), 354);
    cr_assert_eq(talk_say(t, "Subject: x\r\n\r\n.\r\n"), 250);
    cr_assert_eq(w->accepted_recipients, 2);
    talk_leave(t);
    smtp_world_free(w);
}

/* ---- content that is refused ---- */

Test(smtp_server, content_behind_a_refused_data_is_never_read_as_commands)
{
    EACH_SEED(seed)
    {
        struct smtp_world *w = smtp_world_new(seed);
        struct talk *t = talk_hello(w);
        cr_assert_eq(talk_say(t, "MAIL FROM:<s@them.test>\r\nRCPT TO:<r@no.test>\r\nDATA\r\n"
                                 "Subject: x\r\n\r\nMAIL FROM:<evil@them.test>\r\n.\r\n"),
                     250);
        cr_assert_eq(talk_read(t), 550);
        cr_assert_eq(talk_read(t), 554);
        cr_assert_eq(talk_read(t), 421);
        cr_assert_eq(talk_read(t), GONE);
        talk_leave(t);
        smtp_world_free(w);
    }
}

Test(smtp_server, content_that_does_not_wait_for_the_reply_to_data_is_not_taken)
{
    static const char said[] = MAIL_RCPT "DATA\r\nSubject: x\r\n\r\nx\r\n.\r\n" MAIL_RCPT;
    unsigned caught = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct smtp_world *w =
            smtp_world_make(seed, seed % 2 == 0 ? "}\nearly-content = accept" : "}", 64, 32);
        struct talk *t = talk_hello(w);
        cr_assert_eq(talk_say(t, said), 250);
        cr_assert_eq(talk_read(t), 250);
        int code = talk_read(t);
        if (code == 503) { /* else it came in pieces, and the rest after our reply */
            cr_assert_neq(seed % 2, 0);
            cr_assert_eq(talk_read(t), GONE);
            cr_assert_eq(w->accepted, 0);
            cr_assert_eq(w->service.metrics.early_content, 1);
            caught++;
        } else {
            cr_assert_eq(code, 354);
            cr_assert_eq(talk_read(t), 250);
            cr_assert_eq(w->accepted, 1);
        }
        talk_leave(t);
        smtp_world_free(w);
    }
    cr_assert_gt(caught, 0);
}

Test(smtp_server, what_content_may_not_hold)
{
    static const struct {
        const char *content;
        size_t size;
        int code;
    } cases[] = {
#define CONTENT(text, code) { text, sizeof(text) - 1, code }
        CONTENT("Subject: x\r\n\r\na\nb\r\n.\r\n", 554),
        CONTENT("Subject: x\r\n\r\na\rb\r\n.\r\n", 554),
        CONTENT("Subject: x\r\n\r\na\n.\nMAIL FROM:<evil@them.test>\r\n.\r\n", 554),
        CONTENT("Subject: x\r\n\r\na\n.\r\nb\r\n.\r\n", 554),
        CONTENT("Subject: x\r\n\r\na\0b\r\n.\r\n", 554),
        CONTENT("Subject: \xc3\xa9\r\n\r\nx\r\n.\r\n", 554),
        CONTENT("Subject: x\r\n\r\n\xc3\xa9\r\n.\r\n", 250),
        CONTENT(".\r\n", 250),
        CONTENT("Subject: x\r\n\r\n..dot\r\n.\r\n", 250),
#undef CONTENT
    };
    EACH_SEED(seed)
    {
        struct smtp_world *w = smtp_world_new(seed);
        struct talk *t = talk_hello(w);
        for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
            cr_assert_eq(talk_say(t, MAIL_RCPT "DATA\r\n"), 250);
            cr_assert_eq(talk_read(t), 250);
            cr_assert_eq(talk_read(t), 354);
            sim_line_put(&t->line, cases[i].content, cases[i].size);
            int code = talk_read(t);
            cr_assert_eq(code, cases[i].code, "case %u: %s", i, t->reply);
            cr_assert_eq(talk_say(t, "NOOP\r\n"), 250, "framing is in step");
        }
        cr_assert_eq(w->accepted, 3);
        talk_leave(t);
        smtp_world_free(w);
    }
}

Test(smtp_server, too_much_content_is_read_to_its_end_and_refused)
{
    EACH_SEED(seed)
    {
        static char line[1'000];
        struct smtp_world *w = smtp_world_make(seed, "} limits { message-size = \"100K\" }", 64, 8);
        struct talk *t = talk_until_data(w);
        memset(line, 'x', sizeof(line));
        memcpy(line + 997, "\r\n", 3);
        for (unsigned i = 0; i < 150; i++)
            talk_put(t, line);
        cr_assert_eq(talk_say(t, ".\r\n"), 552);
        cr_assert_eq(talk_say(t, MAIL_RCPT "DATA\r\n"), 250);
        cr_assert_eq(talk_read(t), 250);
        cr_assert_eq(talk_read(t), 354);
        for (unsigned i = 0; i < 300; i++) /* three times the limit: enough */
            talk_put(t, line);
        cr_assert_eq(talk_read(t), 552);
        cr_assert_eq(talk_read(t), GONE);
        cr_assert_eq(w->accepted, 0);
        talk_leave(t);
        smtp_world_free(w);
    }
}

/* ---- BDAT ---- */

Test(smtp_server, bdat_errors_keep_the_framing)
{
    EACH_SEED(seed)
    {
        struct smtp_world *w = smtp_world_new(seed);
        struct talk *t = talk_hello(w);
        /* No transaction: the octets are read all the same. */
        cr_assert_eq(talk_say(t, "BDAT 11\r\nNOOP\r\nQUIT\rNOOP\r\n"), 503);
        cr_assert_eq(talk_read(t), 250, "%s", t->reply);
        cr_assert_eq(talk_say(t, "MAIL FROM:<s@them.test>\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"),
                     250);
        cr_assert_eq(talk_read(t), 503);
        cr_assert_eq(talk_read(t), 250);
        /* Amid chunks nothing but BDAT and RSET. */
        cr_assert_eq(talk_say(t, MAIL_RCPT "BDAT 4\r\na: bRCPT TO:<x@us.test>\r\nDATA\r\n"), 250);
        cr_assert_eq(talk_read(t), 250);
        cr_assert_eq(talk_read(t), 250);
        cr_assert_eq(talk_read(t), 503);
        cr_assert_eq(talk_read(t), 503);
        cr_assert_eq(talk_say(t, "RSET\r\n"), 250);
        /* A bare LF in a chunk is refused at the end, and the session goes on. */
        cr_assert_eq(talk_say(t, MAIL_RCPT "BDAT 3\r\na\nbBDAT 6 LAST\r\nQUIT\r\n"), 250);
        cr_assert_eq(talk_read(t), 250);
        cr_assert_eq(talk_read(t), 250);
        cr_assert_eq(talk_read(t), 554);
        cr_assert_eq(talk_say(t, "BDAT what\r\n"), 501);
        cr_assert_eq(talk_read(t), GONE);
        cr_assert_eq(w->accepted, 0);
        talk_leave(t);
        smtp_world_free(w);
    }
}

Test(smtp_server, chunks_become_one_message)
{
    EACH_SEED(seed)
    {
        char text[4'096];
        struct smtp_world *w = smtp_world_new(seed);
        struct talk *t = talk_hello(w);
        cr_assert_eq(talk_say(t,
                              MAIL_RCPT "BDAT 12\r\nSubject: x\r\nBDAT 0\r\nBDAT 3\r\n\r\n.BDAT 2 "
                                        "LAST\r\n\r\n"),
                     250);
        for (unsigned i = 0; i < 5; i++)
            cr_assert_eq(talk_read(t), 250);
        cr_assert_eq(w->accepted, 1);
        smtp_world_stored(w, text, sizeof(text));
        cr_assert_str_eq(strstr(text, "Subject:"), "Subject: x\r\n\r\n.\r\n");
        cr_assert_eq(talk_say(t, MAIL_RCPT "BDAT 0 LAST\r\n"), 250);
        cr_assert_eq(talk_read(t), 250);
        cr_assert_eq(talk_read(t), 250);
        cr_assert_eq(w->accepted, 2);
        talk_leave(t);
        smtp_world_free(w);
    }
}

/* ---- the promise ---- */

Test(smtp_server, no_250_before_the_mail_is_durable)
{
    EACH_SEED(seed)
    {
        struct smtp_world *w = smtp_world_new(seed);
        smtp_world_run(w, 2'000);
        struct talk *t = talk_until_data(w);
        sim_hold(w->sim, w->us, SIM_SYNC, true);
        talk_put(t, "Subject: x\r\n\r\nbody\r\n.\r\n");
        cr_assert_eq(talk_read_within(t, 3'600'000), SILENCE, "%s", t->reply);
        cr_assert_eq(w->accepted, 0);
        sim_hold(w->sim, w->us, SIM_SYNC, false);
        cr_assert_eq(talk_read(t), 250);
        cr_assert_eq(w->accepted, 1);
        cr_assert_eq(talk_say(t, "QUIT\r\n"), 221);
        talk_leave(t);
        smtp_world_free(w);
    }
}

Test(smtp_server, a_failed_write_is_451_and_the_next_message_goes_on)
{
    struct smtp_world *w = smtp_world_new(9);
    smtp_world_run(w, 2'000);
    struct talk *t = talk_until_data(w);
    sim_fail(w->sim, w->us, SIM_WRITE, 0, 1, -EIO);
    cr_assert_eq(talk_say(t, "Subject: x\r\n\r\nbody\r\n.\r\n"), 451);
    cr_assert_eq(w->accepted, 0);
    cr_assert_eq(w->service.metrics.refused_failed, 1);
    cr_assert_eq(talk_say(t, MAIL_RCPT "DATA\r\n"), 250);
    cr_assert_eq(talk_read(t), 250);
    cr_assert_eq(talk_read(t), 354);
    cr_assert_eq(talk_say(t, "Subject: x\r\n\r\nbody\r\n.\r\n"), 250);
    talk_leave(t);
    smtp_world_free(w);
}

Test(smtp_server, a_full_disk_is_452_at_mail_and_in_content)
{
    struct smtp_world *w = smtp_world_new(10);
    static char line[1'000];
    smtp_world_run(w, 2'000);
    struct talk *t = talk_hello(w);
    memset(line, 'x', sizeof(line));
    memcpy(line + 997, "\r\n", 3);
    int code = 0;
    for (unsigned i = 0; i < 100; i++) {
        code = talk_say(t, "MAIL FROM:<s@them.test>\r\n");
        if (code != 250)
            break;
        cr_assert_eq(talk_say(t, "RCPT TO:<r@us.test>\r\nDATA\r\n"), 250);
        code = talk_read(t);
        if (code != 354)
            break;
        for (unsigned k = 0; k < 200; k++)
            talk_put(t, line);
        code = talk_say(t, ".\r\n");
        if (code != 250)
            break;
    }
    cr_assert_eq(code, 452, "%s", t->reply);
    cr_assert_gt(w->accepted, 5);
    cr_assert_eq(talk_say(t, "RSET\r\n"), 250);
    cr_assert_eq(talk_say(t, "MAIL FROM:<s@them.test> SIZE=500000\r\n"), 452);
    talk_leave(t);
    smtp_world_free(w);
}

/* The log is behind: content waits in the socket, not in memory, and arrives whole. */
Test(smtp_server, a_spool_that_is_behind_stops_the_reading)
{
    EACH_SEED(seed)
    {
        static char line[1'000], text[600'000];
        struct smtp_world *w = smtp_world_new(seed);
        smtp_world_run(w, 2'000);
        struct talk *t = talk_until_data(w);
        sim_hold(w->sim, w->us, SIM_WRITE, true);
        sim_hold(w->sim, w->us, SIM_SYNC, true);
        talk_put(t, "Subject: x\r\n\r\n");
        for (unsigned i = 0; i < 500; i++) {
            memset(line, 'a' + (int)(i % 26), 997);
            memcpy(line + 997, "\r\n", 3);
            talk_put(t, line);
        }
        talk_put(t, ".\r\n");
        cr_assert_eq(talk_read_within(t, 1'200'000), SILENCE, "%s", t->reply);
        cr_assert_gt(spool_metrics(w->spool)->appends_stalled, 0);
        cr_assert_leq(w->ring->buffers_count - w->ring->buffers_free, 16);
        sim_hold(w->sim, w->us, SIM_WRITE, false);
        sim_hold(w->sim, w->us, SIM_SYNC, false);
        cr_assert_eq(talk_read(t), 250, "%s", t->reply);
        smtp_world_stored(w, text, sizeof(text));
        const char *at = strchr(text, '\0') - 500 * 999;
        for (unsigned i = 0; i < 500 * 999; i++)
            cr_assert_eq(at[i],
                         i % 999 < 997 ? (char)('a' + (i / 999) % 26) : "\r\n"[i % 999 - 997]);
        talk_leave(t);
        smtp_world_free(w);
    }
}

Test(smtp_server, a_client_that_leaves_gets_nothing_stored_and_leaves_nothing)
{
    static const char *const said[] = {
        "",
        "EH",
        "EHLO x.test\r\n",
        "EHLO x.test\r\n" MAIL_RCPT,
        "EHLO x.test\r\n" MAIL_RCPT "DATA\r\n",
        "EHLO x.test\r\n" MAIL_RCPT "DATA\r\nSubject: x\r\n\r\nhalf",
        "EHLO x.test\r\n" MAIL_RCPT "DATA\r\nSubject: x\r\n\r\n.\r",
        "EHLO x.test\r\n" MAIL_RCPT "BDAT 100 LAST\r\nhalf",
    };
    EACH_SEED(seed)
    {
        struct smtp_world *w = smtp_world_make(seed, "}\nearly-content = accept", 64, 32);
        for (unsigned i = 0; i < 2 * ARRAY_COUNT(said); i++) {
            struct talk *t = talk_open(w);
            cr_assert_eq(talk_read(t), 220);
            talk_put(t, said[i / 2]);
            smtp_world_run(w, 500);
            sim_line_leave(&t->line, i % 2 == 0);
            talk_leave(t);
        }
        smtp_world_run(w, 30'000);
        cr_assert_eq(w->service.sessions.used, 0);
        cr_assert_eq(w->accepted, 0);
        smtp_world_free(w);
    }
}

Test(smtp_server, mail_that_was_committed_stays_though_the_client_left)
{
    struct smtp_world *w = smtp_world_new(11);
    smtp_world_run(w, 2'000);
    struct talk *t = talk_until_data(w);
    sim_hold(w->sim, w->us, SIM_SYNC, true);
    talk_put(t, "Subject: x\r\n\r\nbody\r\n.\r\n");
    smtp_world_run(w, 2'000);
    sim_line_leave(&t->line, true);
    smtp_world_run(w, 2'000);
    cr_assert_eq(w->service.sessions.used, 1, "giving up unwrites nothing");
    sim_hold(w->sim, w->us, SIM_SYNC, false);
    smtp_world_run(w, 2'000);
    cr_assert_eq(w->accepted, 1);
    cr_assert_eq(w->service.sessions.used, 0);
    talk_leave(t);
    smtp_world_free(w);
}

/* ---- what goes well ---- */

Test(smtp_server, pipelined_transactions_are_answered_in_order)
{
    EACH_SEED(seed)
    {
        static const int codes[] = {
            250, 250, 250, 550, 250, 354, 250, 250, 250, 250, 354, 250, 221
        };
        static const char *const contents[] = {
            "Subject: 1\r\n\r\none\r\n.\r\nRSET\r\n" MAIL_RCPT "DATA\r\n",
            "Subject: 2\r\n\r\ntwo\r\n.\r\nQUIT\r\n",
        };
        struct smtp_world *w = smtp_world_new(seed);
        struct talk *t = talk_open(w);
        cr_assert_eq(talk_read(t), 220);
        talk_put(t, "EHLO client.test\r\nNOOP\r\nMAIL FROM:<s@them.test>\r\nRCPT TO:<x@no.test>\r\n"
                    "RCPT TO:<r@us.test>\r\nDATA\r\n");
        for (unsigned i = 0, contents_said = 0; i < ARRAY_COUNT(codes); i++) {
            int code = talk_read(t);
            cr_assert_eq(code, codes[i], "reply %u: %d %s", i, code, t->reply);
            if (code == 354)
                talk_put(t, contents[contents_said++]);
        }
        cr_assert_eq(w->accepted, 2);
        cr_assert_eq(talk_read(t), GONE);
        talk_leave(t);
        smtp_world_free(w);
    }
}

Test(smtp_server, a_flood_of_commands_is_answered_whole_though_nobody_reads)
{
    EACH_SEED(seed)
    {
        struct smtp_world *w = smtp_world_make(seed, "} limits { commands = 100000 }", 64, 8);
        struct talk *t = talk_hello(w);
        for (unsigned i = 0; i < 3'000; i++)
            talk_put(t, i % 3 == 0 ? "EHLO again.test\r\n" : "VRFY somebody\r\n");
        for (unsigned i = 0; i < 3'000; i++)
            cr_assert_eq(talk_read(t), i % 3 == 0 ? 250 : 252, "%u: %s", i, t->reply);
        talk_leave(t);
        smtp_world_free(w);
    }
}

Test(smtp_server, the_trace_field_tells_where_it_came_from)
{
    char text[4'096];
    struct smtp_world *w = smtp_world_new(12);
    struct talk *t = talk_until_data(w);
    cr_assert_eq(talk_say(t, "Subject: x\r\n\r\nbody\r\n.\r\n"), 250);
    char id[SMTP_ID_TEXT];
    smtp_id_text(w->last.id, id);
    cr_assert(strstr(t->reply, id) != NULL);
    smtp_world_stored(w, text, sizeof(text));
    char expected[512];
    snprintf(expected, sizeof(expected),
             "Received: from client.test ([192.0.2.2])\r\n\tby mx.us.test with ESMTP id %s\r\n"
             "\tfor <r@us.test>;\r\n\tTue, 1 Jan 2030 00:",
             id);
    cr_assert_eq(strncmp(text, expected, strlen(expected)), 0, "%s", text);
    cr_assert_str_eq(strstr(text, "Subject:"), "Subject: x\r\n\r\nbody\r\n");
    cr_assert_str_eq(w->last_sender, "s@them.test");
    cr_assert_str_eq(w->last_recipient, "r@us.test");
    /* Of two recipients neither is named. */
    cr_assert_eq(talk_say(t, MAIL_RCPT "RCPT TO:<other@us.test>\r\nDATA\r\n"), 250);
    cr_assert_eq(talk_read(t), 250);
    cr_assert_eq(talk_read(t), 250);
    cr_assert_eq(talk_read(t), 354);
    cr_assert_eq(talk_say(t, ".\r\n"), 250);
    smtp_world_stored(w, text, sizeof(text));
    cr_assert_null(strstr(text, "for <"));
    cr_assert_eq(talk_say(t, "MAIL FROM:<>\r\nRCPT TO:<Postmaster>\r\nDATA\r\n"), 250);
    cr_assert_eq(talk_read(t), 250);
    cr_assert_eq(talk_read(t), 354);
    cr_assert_eq(talk_say(t, ".\r\n"), 250);
    cr_assert_str_eq(w->last_sender, "");
    cr_assert_str_eq(w->last_recipient, "Postmaster@us.test");
    talk_leave(t);
    smtp_world_free(w);
}

/* All names as long as they may be: the trace field has room. */
Test(smtp_server, the_longest_names_fit_the_trace_field)
{
    struct smtp_world *w = smtp_world_new(13);
    char domain[254], text[1'024];
    for (unsigned i = 0; i < 253; i++)
        domain[i] = i % 60 == 59 ? '.' : 'a';
    domain[253] = '\0';
    struct talk *t = talk_open(w);
    cr_assert_eq(talk_read(t), 220);
    snprintf(text, sizeof(text), "EHLO %s\r\n", domain);
    cr_assert_eq(talk_say(t, text), 250, "%s", t->reply);
    cr_assert_eq(talk_say(t, "MAIL FROM:<s@them.test>\r\n"), 250);
    for (unsigned longest = 244; longest > 0; longest--) {
        snprintf(text, sizeof(text), "RCPT TO:<%.64s@%.*s.us.test>\r\n",
                 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
                 (int)longest, domain);
        int code = talk_say(t, text);
        if (code == 421)
            break;
        if (code == 550)
            continue;
    }
    talk_leave(t);
    smtp_world_free(w);
    /* The bound itself, whatever the parser lets through. */
    struct net_address peer;
    cr_assert_eq(net_parse(SLICE("2001:db8:1111:2222:3333:4444:5555:6666"), 0, &peer), 0);
    size_t most =
        strlen("Received: from  ([IPv6:])\r\n\tby  with UTF8SMTP id \r\n\tfor <>;\r\n\t\r\n") +
        SMTP_HELO_BYTES + NET_TEXT_MAX + 255 + SMTP_ID_TEXT + 320 + 64;
    cr_assert_lt(most, 1'100);
}

/* ---- time ---- */

Test(smtp_server, silence_ends_a_session_with_words)
{
    EACH_SEED(seed)
    {
        struct smtp_world *w = smtp_world_new(seed);
        uint32_t command_ms = w->config->limits.command_timeout_ms;
        uint32_t data_ms = w->config->limits.data_timeout_ms;
        struct talk *t = talk_hello(w);
        cr_assert_eq(talk_read_within(t, command_ms - 1'000), SILENCE);
        cr_assert_eq(talk_read_within(t, 3'000), 421, "%s", t->reply);
        cr_assert(strstr(t->reply, "4.4.2") != NULL);
        cr_assert_eq(talk_read(t), GONE);
        talk_leave(t);
        t = talk_until_data(w);
        talk_put(t, "Subject: x\r\n");
        cr_assert_eq(talk_read_within(t, data_ms - 3'000), SILENCE);
        cr_assert_eq(talk_read_within(t, 10'000), 421);
        cr_assert_eq(w->service.metrics.timeouts, 2);
        cr_assert_eq(w->room_taken, 0);
        talk_leave(t);
        smtp_world_free(w);
    }
}

Test(smtp_server, a_transaction_that_trickles_ends)
{
    struct smtp_world *w = smtp_world_make(14, "} limits { transaction-timeout = \"10m\" }", 64, 8);
    struct talk *t = talk_until_data(w);
    int code = SILENCE;
    uint64_t begun_ms = sim_now_ms(w->sim);
    while (code == SILENCE && sim_now_ms(w->sim) < begun_ms + 3'600'000) {
        talk_put(t, "x");
        code = talk_read_within(t, 20'000);
    }
    cr_assert_eq(code, 421);
    cr_assert_leq(sim_now_ms(w->sim) - begun_ms, 602'000);
    cr_assert_eq(w->service.metrics.slow, 1);
    talk_leave(t);
    smtp_world_free(w);
}

Test(smtp_server, a_connection_has_an_end_and_hears_of_it)
{
    EACH_SEED(seed)
    {
        struct smtp_world *w =
            smtp_world_make(seed, "} limits { connection-timeout = \"10m\" }", 64, 8);
        struct talk *t = talk_hello(w);
        uint64_t begun_ms = sim_now_ms(w->sim);
        int code = 250;
        while (code == 250 && sim_now_ms(w->sim) < begun_ms + 3'600'000) {
            smtp_world_run(w, 30'000);
            code = talk_say(t, "NOOP\r\n");
        }
        cr_assert_eq(code, 421, "%d", code);
        talk_leave(t);
        smtp_world_free(w);
    }
}

/* ---- the end ---- */

Test(smtp_server, a_drain_lets_transactions_end_and_idle_sessions_go)
{
    EACH_SEED(seed)
    {
        struct smtp_world *w = smtp_world_new(seed);
        struct talk *idle = talk_hello(w);
        struct talk *busy = talk_until_data(w);
        struct talk *begun = talk_hello(w);
        cr_assert_eq(talk_say(begun, "MAIL FROM:<s@them.test>\r\n"), 250);
        smtp_service_drain(&w->service);
        cr_assert_eq(talk_say(begun, "RCPT TO:<r@us.test>\r\n"), 250);
        cr_assert_eq(talk_say(begun, "DATA\r\n"), 354);
        cr_assert_eq(talk_say(begun, ".\r\n"), 250);
        cr_assert_eq(talk_read(begun), 421);
        talk_leave(begun);
        cr_assert_eq(talk_read(idle), 421);
        cr_assert_eq(talk_read(idle), GONE);
        cr_assert_eq(talk_say(busy, "Subject: x\r\n\r\nbody\r\n.\r\n"), 250);
        cr_assert_eq(talk_read(busy), 421);
        cr_assert_eq(talk_read(busy), GONE);
        cr_assert_eq(w->accepted, 2);
        struct talk *late = talk_open(w);
        cr_assert_eq(talk_read(late), 220);
        cr_assert_eq(talk_read(late), 421);
        talk_leave(late);
        talk_leave(idle);
        talk_leave(busy);
        smtp_world_free(w);
    }
}

Test(smtp_server, sessions_keep_the_configuration_they_began_with)
{
    struct smtp_world *w = smtp_world_new(15);
    struct talk *t = talk_hello(w);
    struct config *next = smtp_world_config("} limits { recipients = 100 }");
    struct config *first = w->config;
    cr_assert_eq(generations_switch(&w->generations, next), 0);
    w->config = next;
    cr_assert_eq(w->generations.current->uses, 0);
    cr_assert_eq(talk_say(t, "EHLO again.test\r\n"), 250);
    char words[64];
    snprintf(words, sizeof(words), "RCPTMAX=%u", first->limits.recipients_max);
    cr_assert(strstr(t->reply, words) != NULL);
    talk_leave(t);
    smtp_world_run(w, 10'000);
    t = talk_hello(w);
    cr_assert(strstr(t->reply, "RCPTMAX=100 ") != NULL, "%s", t->reply);
    talk_leave(t);
    smtp_world_free(w);
    config_free(first);
}

Test(smtp_server, an_idle_session_is_small_and_holds_nothing)
{
    cr_assert_leq(sizeof(struct smtp_server), 1'024);
    struct smtp_world *w = smtp_world_new(16);
    struct talk *talks[20];
    for (unsigned i = 0; i < ARRAY_COUNT(talks); i++)
        talks[i] = talk_hello(w);
    smtp_world_run(w, 1'000);
    cr_assert_eq(w->service.sessions.used, ARRAY_COUNT(talks));
    cr_assert_eq(w->service.transactions.used, 0);
    cr_assert_eq(w->pools.outputs.used, 0);
    cr_assert_eq(w->pools.lines.used, 0);
    cr_assert_eq(w->ring->buffers_free, w->ring->buffers_count);
    for (unsigned i = 0; i < ARRAY_COUNT(talks); i++)
        talk_leave(talks[i]);
    smtp_world_free(w);
}

/* Everything at once, with storms on the server's side: at the end nothing is held. */
Test(smtp_server, storms_leave_nothing_behind)
{
    for (uint64_t seed = 50; seed < 70; seed++) {
        struct smtp_world *w = smtp_world_make(seed, "}", 16, 12);
        struct sim_options storm = sim_storm(seed);
        struct random *random = sim_random(w->sim);
        *sim_options(w->sim) = storm;
        sim_faults(w->sim, w->us, true);
        struct talk *talks[8] = { NULL };
        static const char *const words[] = {
            "EHLO x.test\r\n",  MAIL_RCPT,   "DATA\r\n",         "Subject: x\r\n\r\nbody\r\n.\r\n",
            "BDAT 5\r\nhello",  "RSET\r\n",  "QUIT\r\n",         "BDAT 5 LAST\r\nhello",
            "NOOP\r\nNOOP\r\n", "\r\n.\r\n", "MAIL FROM:<>\r\n", "RCPT TO:<a@us.test>\r\n",
        };
        for (unsigned i = 0; i < 1'500; i++) {
            struct talk **t = &talks[random_below(random, ARRAY_COUNT(talks))];
            uint64_t choice = random_below(random, 40);
            if (*t == NULL) {
                *t = talk_open(w);
            } else if (choice == 0 || (*t)->closed) {
                sim_line_leave(&(*t)->line, choice % 2 == 0);
                talk_leave(*t);
                *t = NULL;
            } else {
                talk_put(*t, words[random_below(random, ARRAY_COUNT(words))]);
            }
            smtp_world_run(w, random_below(random, 300));
        }
        sim_faults(w->sim, w->us, false);
        for (unsigned i = 0; i < ARRAY_COUNT(talks); i++)
            if (talks[i] != NULL)
                talk_leave(talks[i]);
        smtp_world_free(w);
    }
}
