/*
 * test_smtp_client.c - the outbound session as such: hosts that refuse, connections used again,
 * ends
 */
#include "tests/mta/smtp_client_world.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- hosts that do not want to, or do not speak SMTP ---- */

static void one_failure(const struct line *lines, enum smtp_gone why, enum smtp_verdict verdict,
                        enum smtp_stage stage)
{
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, lines);
        world_mail(w, A_B, SLICE(CONTENT));
        world_run(w);
        cr_assert_eq(w->end.why, why, "%s: %s", smtp_gone_name(w->end.why), w->end_text);
        cr_assert_eq(w->end.verdict, verdict, "%s", w->end_text);
        cr_assert_eq(w->end.stage, stage, "%s", smtp_stage_name(w->end.stage));
        cr_assert_eq(w->readies, 0);
        cr_assert(!w->end.was_ready);
        world_free(w);
    }
}

Test(smtp_client, greetings_that_are_none)
{
    SCRIPT(http, SAY("", "HTTP/1.1 400 Bad Request\r\n\r\n"));
    SCRIPT(nul, SAY("", "220 \x01\n220 x\r\n"));
    SCRIPT(busy, SAY_CLOSE("", "421 4.3.2 busy\r\n"));
    SCRIPT(no, SAY("", "554 5.3.2 not here\r\n"), SAY_CLOSE("QUIT\r\n", "221 x\r\n"));
    SCRIPT(later, SAY("", "450 4.3.2 later\r\n"), BYE);
    SCRIPT(odd, SAY("", "354 go\r\n"));
    SCRIPT(closes, SAY_CLOSE("", ""));
    SCRIPT(resets, SAY_RESET("", ""));
    SCRIPT(half, SAY_CLOSE("", "220-mx"));
    SCRIPT(silent, SAY("", NULL));
    one_failure(http, SMTP_GONE_VIOLATION, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_GREETING);
    one_failure(nul, SMTP_GONE_VIOLATION, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_GREETING);
    one_failure(busy, SMTP_GONE_CLOSING, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_GREETING);
    one_failure(no, SMTP_GONE_REFUSED, SMTP_VERDICT_PERMANENT, SMTP_STAGE_GREETING);
    one_failure(later, SMTP_GONE_REFUSED, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_GREETING);
    one_failure(odd, SMTP_GONE_VIOLATION, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_GREETING);
    one_failure(closes, SMTP_GONE_LOST, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_GREETING);
    one_failure(resets, SMTP_GONE_LOST, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_GREETING);
    one_failure(half, SMTP_GONE_LOST, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_GREETING);
    one_failure(silent, SMTP_GONE_TIMEOUT, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_GREETING);
}

Test(smtp_client, a_foreign_host_is_not_called_as_we_are)
{
    SCRIPT(greets, SAY("", "220 US.test ESMTP\r\n"));
    SCRIPT(lines, SAY("", "220-us.test\r\n220 ESMTP\r\n"));
    SCRIPT(says, GREETING, EHLO("250-us.test hello\r\n250 SIZE\r\n"));
    SCRIPT(other, SAY("", "220 us.test.example ESMTP\r\n"), SAY("EHLO us.test\r\n", NULL));
    world_flags = SMTP_CLIENT_FOREIGN;
    one_failure(greets, SMTP_GONE_LOOP, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_GREETING);
    one_failure(lines, SMTP_GONE_LOOP, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_GREETING);
    one_failure(says, SMTP_GONE_LOOP, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_HELO);
    one_failure(other, SMTP_GONE_TIMEOUT, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_HELO);
    world_flags = 0; /* the configuration names the host */
    SCRIPT(ours, SAY("", "220 us.test ESMTP\r\n"), SAY("EHLO us.test\r\n", NULL));
    one_failure(ours, SMTP_GONE_TIMEOUT, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_HELO);
}

Test(smtp_client, a_reply_before_its_question_is_an_injection)
{
    SCRIPT(eager, SAY("", "220 mx.test\r\n250 PIPELINING\r\n"), LATE("EHLO", NULL));
    unsigned caught = 0;
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, eager);
        struct outcome *o = world_mail(w, A_B, SLICE(CONTENT));
        world_run(w);
        caught += w->end.why == SMTP_GONE_VIOLATION && w->end.stage == SMTP_STAGE_GREETING;
        for (unsigned i = 0; o->done && i < 2; i++)
            cr_assert_neq(o->recipients[i].result.verdict, SMTP_VERDICT_DELIVERED);
        world_free(w);
    }
    cr_assert_gt(caught, 0);
}

Test(smtp_client, ehlo_refused)
{
    SCRIPT(no, GREETING, EHLO("550 5.7.1 not you\r\n"), BYE);
    SCRIPT(later, GREETING, EHLO("451 4.7.1 later\r\n"), BYE);
    SCRIPT(closing, GREETING, EHLO("421 4.7.1 later\r\n"));
    SCRIPT(helo, GREETING, EHLO("502 what\r\n"), SAY("HELO us.test\r\n", "504 no\r\n"), BYE);
    SCRIPT(mixed, GREETING, EHLO("250-a\r\n251 b\r\n"));
    SCRIPT(lines, GREETING, EHLO("250-mx\r\n250-\n250 SIZE\r\n"));
    one_failure(no, SMTP_GONE_REFUSED, SMTP_VERDICT_PERMANENT, SMTP_STAGE_HELO);
    one_failure(later, SMTP_GONE_REFUSED, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_HELO);
    one_failure(closing, SMTP_GONE_CLOSING, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_HELO);
    one_failure(helo, SMTP_GONE_REFUSED, SMTP_VERDICT_PERMANENT, SMTP_STAGE_HELO);
    one_failure(mixed, SMTP_GONE_VIOLATION, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_HELO);
    one_failure(lines, SMTP_GONE_VIOLATION, SMTP_VERDICT_TEMPORARY, SMTP_STAGE_HELO);
}

Test(smtp_client, connections_that_do_not_come_about)
{
    SCRIPT(nothing, SAY("", NULL));
    static const struct {
        enum sim_host host;
        int error;
    } hosts[] = { { SIM_HOST_REFUSES, -ECONNREFUSED }, { SIM_HOST_BLACKHOLE, -ETIMEDOUT } };
    for (unsigned i = 0; i < ARRAY_COUNT(hosts); i++) {
        struct world *w = world_new(i + 1, nothing);
        sim_host(w->sim, address("192.0.2.2"), hosts[i].host);
        uint64_t start_ms = sim_now_ms(w->sim);
        world_run(w);
        cr_assert_eq(w->end.why, SMTP_GONE_CONNECT);
        cr_assert_eq(w->end.error, hosts[i].error);
        cr_assert_eq(w->end.stage, SMTP_STAGE_CONNECT);
        cr_assert_eq(w->end.verdict, SMTP_VERDICT_TEMPORARY);
        cr_assert_lt(sim_now_ms(w->sim) - start_ms, 60'000, "its own limit, not the kernel's");
        cr_assert_eq(w->clients.numbers.connect_failures, 1);
        world_free(w);
    }
}

static char heard[1024];

static void on_heard(struct smtp_client *client, struct slice line)
{
    size_t size = strlen(heard);
    snprintf(heard + size, sizeof(heard) - size, "%u:%.*s|", client->response.code, (int)line.size,
             (const char *)line.data);
}

Test(smtp_client, who_wants_to_hears_each_line)
{
    SCRIPT(two, SAY("", "220-mx.test\r\n220 ESMTP\r\n"), SAY("EHLO us.test\r\n", HELLO_PIPELINING),
           BYE);
    struct smtp_client_callbacks callbacks = world_callbacks;
    callbacks.heard = on_heard;
    EACH_SEED(seed)
    {
        struct world *w = world_new(seed, two);
        heard[0] = '\0';
        cr_assert_eq(smtp_client_start(&w->clients, &w->target, &callbacks, w, &w->client), 0);
        smtp_client_quit(w->client);
        cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + 60'000, world_is_gone, w));
        cr_expect_eq(w->end.why, SMTP_GONE_QUIT);
        const char *begin = "220:mx.test|220:ESMTP|250:mx.test hello|250:PIPELINING|";
        cr_expect_eq(strncmp(heard, begin, strlen(begin)), 0, "%s", heard);
        world_free(w);
    }
}

Test(smtp_client, a_full_pool_says_so)
{
    SCRIPT(nothing, SAY("", NULL));
    struct world *w = world_new(1, nothing);
    struct smtp_client *first, *second, *third;
    cr_assert_eq(smtp_client_start(&w->clients, &w->target, &world_callbacks, w, &first), 0);
    cr_assert_eq(smtp_client_start(&w->clients, &w->target, &world_callbacks, w, &second), 0);
    cr_assert_eq(smtp_client_start(&w->clients, &w->target, &world_callbacks, w, &third), -ENOBUFS);
    smtp_client_abort(first);
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + 1'000, world_is_gone, w));
    cr_assert_eq(w->end.why, SMTP_GONE_ABORT);
    w->gone = false;
    smtp_client_abort(second);
    cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + 1'000, world_is_gone, w));
    world_free(w);
}

Test(smtp_client, lmtp_has_no_helo)
{
    SCRIPT(smtp, SAY("", "220 smtp\r\n"), SAY("LHLO us.test\r\n", "500 what\r\n"), BYE);
    struct world *w = world_new(1, smtp);
    w->target.protocol = SMTP_CLIENT_LMTP;
    world_run(w);
    cr_assert_eq(w->end.why, SMTP_GONE_REFUSED);
    expect_got(w, "LHLO us.test\r\nQUIT\r\n");
    world_free(w);
}

/* ---- connections used again ---- */

Test(smtp_client, a_dead_connection_found_on_reuse_says_retry_now)
{
    SCRIPT(closes, GREETING, EHLO(HELLO_ALL),
           SAY(FLIGHT, "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n"), LATE_RESET(MAIL, ""));
    SCRIPT(idles_out, GREETING, EHLO(HELLO_ALL),
           SAY(FLIGHT, "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n"),
           LATE_CLOSE(MAIL, "421 4.4.2 idle for too long\r\n"));
    EACH_SEED(seed)
    for (unsigned i = 0; i < 2; i++) {
        struct world *w = world_new(seed, i == 0 ? closes : idles_out);
        struct outcome *first = world_mail(w, A_B, SLICE(CONTENT));
        struct outcome *second = world_mail(w, A_B, SLICE(CONTENT));
        world_run(w);
        expect(first, 0, SMTP_VERDICT_DELIVERED, SMTP_STAGE_FINAL, 250, "2.0.0");
        cr_assert(!first->transaction.retry_now);
        cr_assert(second->transaction.retry_now);
        cr_assert_eq(second->recipients[0].result.verdict, SMTP_VERDICT_TEMPORARY);
        world_free(w);
    }
}

Test(smtp_client, a_421_while_idle_is_nobodys_failure)
{
    SCRIPT(idles_out, GREETING, EHLO(HELLO_ALL),
           SAY(FLIGHT, "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n"),
           SAY_CLOSE("", "421 4.4.2 idle for too long\r\n"));
    SCRIPT(leaves, GREETING, EHLO(HELLO_ALL),
           SAY(FLIGHT, "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n"), SAY_CLOSE("", ""));
    SCRIPT(at_once, GREETING, EHLO(HELLO_ALL),
           SAY_CLOSE(FLIGHT, "250 ok\r\n250 ok\r\n250 ok\r\n250 ok\r\n421 that is enough\r\n"));
    const struct line *const scripts[] = { idles_out, leaves, at_once };
    EACH_SEED(seed)
    for (unsigned i = 0; i < ARRAY_COUNT(scripts); i++) {
        struct world *w = world_new(seed, scripts[i]);
        w->quit_when_done = false;
        struct outcome *o = world_mail(w, A_B, SLICE(CONTENT));
        world_run(w);
        expect(o, 0, SMTP_VERDICT_DELIVERED, SMTP_STAGE_FINAL, 250, "2.0.0");
        cr_assert_eq(w->end.why, i == 1 ? SMTP_GONE_LOST : SMTP_GONE_CLOSING);
        cr_assert_eq(w->end.verdict, SMTP_VERDICT_NONE);
        cr_assert_eq(w->clients.numbers.violations + w->clients.numbers.lost, 0);
        world_free(w);
    }
}

Test(smtp_client, idle_for_too_long_quits)
{
    SCRIPT(idle, GREETING, EHLO(HELLO_ALL), BYE);
    struct world *w = world_new(1, idle);
    w->quit_when_done = false;
    world_run(w);
    cr_assert_eq(w->end.why, SMTP_GONE_QUIT);
    cr_assert_eq(w->readies, 1);
    world_free(w);
}

Test(smtp_client, quit_is_not_waited_for_beyond_its_time)
{
    SCRIPT(mute, GREETING, EHLO(HELLO_ALL), SAY("QUIT\r\n", NULL));
    struct world *w = world_new(1, mute);
    uint64_t start_ms = sim_now_ms(w->sim);
    world_run(w);
    cr_assert_eq(w->end.why, SMTP_GONE_QUIT);
    cr_assert_lt(sim_now_ms(w->sim) - start_ms, 30'000);
    world_free(w);
}

Test(smtp_client, the_transaction_has_a_limit_of_its_own)
{
    SCRIPT(slow, GREETING, EHLO(HELLO_PIPELINING), SAY(FLIGHT_DATA, "250 ok\r\n"),
           SAY("", "250 ok\r\n"), SAY("", "250 ok\r\n"), SAY("", "354 go\r\n"));
    struct world *w = world_new(1, slow);
    w->timeouts.transaction_ms = 5'000;
    uint64_t start_ms = sim_now_ms(w->sim);
    struct outcome *o = world_mail(w, A_B, SLICE(CONTENT));
    world_run(w);
    cr_assert_lt(sim_now_ms(w->sim) - start_ms, 30'000);
    cr_assert_eq(w->end.why, SMTP_GONE_TIMEOUT);
    cr_assert_eq(o->recipients[0].result.verdict, SMTP_VERDICT_TEMPORARY);
    world_free(w);
}

static void abort_now(void *argument)
{
    struct world *w = argument;
    if (w->client != NULL)
        smtp_client_abort(w->client);
}

Test(smtp_client, abort_at_any_moment_hands_everything_back)
{
    SCRIPT(data, GREETING, EHLO(HELLO_PIPELINING),
           SAY(FLIGHT_DATA, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
           SAY("\r\n.\r\n", "250 ok\r\n"), BYE);
    size_t size;
    uint8_t *text = big_body(4'000, &size);
    for (unsigned i = 0; i < 120; i++) {
        struct world *w = world_new(i + 1, data);
        struct outcome *o = world_mail(w, A_B, slice_of(text, size));
        sim_at(w->sim, (uint64_t)i * 100'000'000, abort_now, w);
        world_run(w);
        if (w->end.why == SMTP_GONE_ABORT && o->done &&
            o->recipients[0].result.verdict != SMTP_VERDICT_NONE &&
            o->recipients[0].result.verdict != SMTP_VERDICT_DELIVERED)
            cr_assert_eq(o->recipients[0].result.verdict, SMTP_VERDICT_TEMPORARY);
        world_free(w);
    }
    free(text);
}

Test(smtp_client, resets_at_any_moment_lose_no_answer)
{
    SCRIPT(data, GREETING, EHLO(HELLO_PIPELINING),
           SAY(FLIGHT_DATA, "250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n"),
           SAY("\r\n.\r\n", "250 ok\r\n"), BYE);
    size_t size;
    uint8_t *text = big_body(4'000, &size);
    for (uint64_t nth = 0; nth < 8; nth++) {
        struct world *w = world_new(nth + 1, data);
        struct outcome *o = world_mail(w, A_B, slice_of(text, size));
        sim_fail(w->sim, 0, SIM_SEND, nth, 1, -ECONNRESET);
        world_run(w);
        if (nth == 1 || nth == 2)
            cr_assert_eq(o->recipients[0].result.verdict, SMTP_VERDICT_TEMPORARY);
        world_free(w);
    }
    free(text);
}

Test(smtp_client, whatever_the_next_hop_says_everything_is_handed_back)
{
    size_t size;
    uint8_t *text = big_body(2'000, &size);
    unsigned delivered = 0, ends[SMTP_GONES] = { 0 };
    for (uint64_t seed = 1; seed <= 1'500; seed++) {
        struct world *w = world_new_chaos(seed);
        w->target.protocol = seed % 4 == 0 ? SMTP_CLIENT_LMTP : SMTP_CLIENT_SMTP;
        w->timeouts.final_ms = w->timeouts.rcpt_ms = w->timeouts.mail_ms = 5'000;
        for (unsigned i = 0; i < TRANSACTIONS; i++)
            world_mail(w, i % 2 ? A_B " c@y.test" : "a@x.test",
                       i % 3 == 2 ? slice_of(text, size) : SLICE(CONTENT));
        int r = smtp_client_start(&w->clients, &w->target, &world_callbacks, w, &w->client);
        if (r == 0) {
            cr_assert(sim_run_until(w->sim, sim_now_ms(w->sim) + 14'400'000, world_is_gone, w));
            ends[w->end.why]++;
        }
        for (unsigned i = 0; i < w->next; i++)
            cr_assert(w->outcomes[i].done, "seed %lu", (unsigned long)seed);
        const struct smtp_client_numbers *numbers = &w->clients.numbers;
        delivered += numbers->delivered > 0;
        cr_assert_leq(numbers->unknown, numbers->deferred);
        world_free(w);
    }
    free(text);
    cr_assert_gt(delivered, 50, "%u", delivered);
    for (unsigned why = SMTP_GONE_CONNECT; why <= SMTP_GONE_CHUNKING; why++)
        cr_assert_gt(ends[why], 0, "never: %s", smtp_gone_name(why));
}
