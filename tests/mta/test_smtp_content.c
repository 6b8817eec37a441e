/*
 * test_smtp_content.c - content that is refused for what its header says: mail in a circle
 */
#include "tests/mta/smtp_server_world.h"

Test(smtp_content, a_mail_loop_is_cut)
{
    static const struct {
        const char *config, *status;
    } cases[] = {
        { "} delivery { loop-limit = 30 }", " 5.4.6 " },
        { "} delivery { loop-limit = 30 } inbound-defaults { replies = exchange }", " 5.4.14 " },
    };
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
        struct smtp_world *w = smtp_world_make(7, cases[i].config, 64, 8);
        struct talk *t = talk_until_data(w);
        for (unsigned k = 0; k < 31; k++)
            talk_put(t, "Received: from somewhere\r\n");
        cr_assert_eq(talk_say(t, "\r\n.\r\n"), 554);
        cr_assert_not_null(strstr(t->reply, cases[i].status), "%s", t->reply);
        cr_assert_eq(w->service.metrics.refused_loop, 1);
        talk_leave(t);
        smtp_world_free(w);
    }
}

/* DATA and BDAT; on one connection, so that nothing is left of the message before. */
Test(smtp_content, a_loop_of_the_fleet_is_cut)
{
    static const char field[] = "Received: from a.test ([192.0.2.9])\r\n\tby %s; Fri, 27 Nov\r\n";
    static const char *const names[] = { "mx.us.test", "mx2.fleet.test", "MX.US.TEST.", "b.test" };
    struct smtp_world *w = smtp_world_make(
        7, "} delivery { fleet-loop-limit = 3 fleet-names = { \"*.fleet.test\" } }", 64, 8);
    struct talk *t = talk_hello(w);
    for (unsigned count = 0; count <= ARRAY_COUNT(names); count++) {
        char content[1'024] = "", text[1'200];
        size_t size = 0;
        for (unsigned i = count; i-- > 0;) /* the stranger's first */
            size += (size_t)snprintf(content + size, sizeof(content) - size, field,
                                     names[ARRAY_COUNT(names) - 1 - i]);
        size += (size_t)snprintf(content + size, sizeof(content) - size, "\r\nReceived: by x\r\n");
        const int wanted = count <= 3 ? 250 : 554;
        cr_assert_eq(talk_say(t, MAIL_RCPT "DATA\r\n"), 250);
        cr_assert_eq(talk_read(t), 250);
        cr_assert_eq(talk_read(t), 354);
        snprintf(text, sizeof(text), "%s.\r\n", content);
        cr_assert_eq(talk_say(t, text), wanted, "%u fields: %s", count, t->reply);
        snprintf(text, sizeof(text), MAIL_RCPT "BDAT %zu LAST\r\n%s", size, content);
        cr_assert_eq(talk_say(t, text), 250);
        cr_assert_eq(talk_read(t), 250);
        cr_assert_eq(talk_read(t), wanted, "%u fields: %s", count, t->reply);
    }
    cr_assert_eq(w->service.metrics.refused_fleet_loop, 2);
    cr_assert_eq(w->service.metrics.refused_loop, 0);
    talk_leave(t);
    smtp_world_free(w);
}
