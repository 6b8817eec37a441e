/*
 * test_bounce_look.c - mail that nobody waits for news of, however its header is cut
 */
#include <criterion/criterion.h>

#include "queue/bounce_look.h"

static bool look(struct slice mail, size_t piece)
{
    struct bounce_look l;
    bounce_look_begin(&l);
    for (size_t i = 0; i < mail.size && !l.done; i += piece)
        (void)bounce_look_take(&l, slice_part(mail, i, piece));
    bounce_look_end(&l);
    return l.automatic;
}

static bool look_all_ways(struct slice mail)
{
    bool automatic = look(mail, mail.size + 1);
    for (size_t piece = 1; piece < 40; piece++)
        cr_assert_eq(look(mail, piece), automatic, "%zu octets at a time", piece);
    return automatic;
}

#define AUTOMATIC(text) cr_assert(look_all_ways(SLICE(text)), "%s", text)
#define NOT_AUTOMATIC(text) cr_assert_not(look_all_ways(SLICE(text)), "%s", text)

Test(bounce_look, fields_of_people_say_nothing)
{
    NOT_AUTOMATIC("");
    NOT_AUTOMATIC("\r\n");
    NOT_AUTOMATIC("From: a@b\r\nSubject: x\r\n\r\nbody\r\n");
    NOT_AUTOMATIC("Auto-Submitted: no\r\n\r\n");
    NOT_AUTOMATIC("Auto-Submitted:   No (by hand)\r\n\r\n");
    NOT_AUTOMATIC("auto-submitted: no; owner=x\r\n\r\n");
    NOT_AUTOMATIC("Auto-Submitted:\r\n\r\n");
    NOT_AUTOMATIC("Precedence: first-class\r\n\r\n");
    NOT_AUTOMATIC("Precedence: listing\r\n\r\n");
    NOT_AUTOMATIC("X-List-Id: <a.b>\r\nListId: x\r\n\r\n");
    NOT_AUTOMATIC("Subject: a\r\n List-Id: <folded.into.a.subject>\r\n\r\n");
    NOT_AUTOMATIC(": List-Id: x\r\n\r\n");
    NOT_AUTOMATIC("From: a@b\r\n\r\nList-Id: <in.the.body>\r\n");
    NOT_AUTOMATIC("From: a@b\n\nPrecedence: list\n");
}

Test(bounce_look, lists_and_machines_are_known)
{
    AUTOMATIC("List-Id: <a.example>\r\n\r\n");
    AUTOMATIC("From: a@b\r\nlist-unsubscribe: <mailto:x@y>\r\n\r\nbody\r\n");
    AUTOMATIC("From: a@b\r\nPrecedence: bulk\r\n\r\n");
    AUTOMATIC("PRECEDENCE :  List (x)\r\n\r\n");
    AUTOMATIC("Precedence:\r\n junk\r\n\r\n");
    AUTOMATIC("Auto-Submitted: auto-generated\r\n\r\n");
    AUTOMATIC("Auto-Submitted:\r\n\tauto-replied (vacation)\r\n\r\n");
    AUTOMATIC("Auto-Submitted: nothing-known\r\n\r\n");
    AUTOMATIC("From: a@b\nPrecedence: list\n\n");
    AUTOMATIC("From: a@b\r\nPrecedence: list");
}

Test(bounce_look, an_endless_header_is_looked_at_so_far)
{
    static uint8_t mail[2 * BOUNCE_LOOK_MAX];
    static const char name[] = "X: ";
    for (size_t i = 0; i < sizeof(mail); i++)
        mail[i] = i % 100 == 99 ? '\n' : i % 100 < 3 ? (uint8_t)name[i % 100] : 'x';
    memcpy(mail + BOUNCE_LOOK_MAX + 100 - BOUNCE_LOOK_MAX % 100, "List-Id: x\r\n", 12);
    cr_assert_not(look_all_ways(slice_of(mail, sizeof(mail))));
    memcpy(mail + BOUNCE_LOOK_MAX - 1'000 - BOUNCE_LOOK_MAX % 100, "List-Id: x\r\n", 12);
    cr_assert(look_all_ways(slice_of(mail, sizeof(mail))));
    /* One line of all that: its name counts, the rest is dropped. */
    memset(mail, 'x', sizeof(mail));
    memcpy(mail, "Precedence: list ", 17);
    cr_assert(look_all_ways(slice_of(mail, BOUNCE_LOOK_MAX / 2)));
}

Test(bounce_look, addresses_of_programs_are_known)
{
    static const char *const theirs[] = { "owner-news@x.test",    "news-owner@x.test",
                                          "OWNER-NEWS@x.test",    "news-request@x.test",
                                          "news-bounces@x.test",  "news-bounces+r=y.test@x.test",
                                          "MAILER-DAEMON@x.test", "bounce+123@x.test",
                                          "listserv@x.test",      "mailer-daemon" };
    static const char *const peoples[] = { "a@x.test",
                                           "owner@x.test",
                                           "a+owner-b@x.test",
                                           "a@owner-b.test",
                                           "bouncer@x.test",
                                           "request@x.test",
                                           "+x-owner@x.test",
                                           "",
                                           "@" };
    for (size_t i = 0; i < ARRAY_COUNT(theirs); i++)
        cr_assert(bounce_look_address(slice_of_string(theirs[i])), "%s", theirs[i]);
    for (size_t i = 0; i < ARRAY_COUNT(peoples); i++)
        cr_assert_eq(bounce_look_address(slice_of_string(peoples[i])), i == 6, "%s", peoples[i]);
}
