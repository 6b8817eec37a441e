/*
 * test_queue_select.c - what an operator means by his words, and what he does not mean
 */
#include <criterion/criterion.h>
#include <errno.h>

#include "mta/queue_job.h"
#include "mta/smtp_server.h"

enum { NOW_S = 1'000'000 };
#define NOW_US (NOW_S * INT64_C(1'000'000))

static int add(struct queue_selection *s, const char *key, const char *value)
{
    char why[SELECT_WHY_MAX] = "";
    int r = queue_select_add(s, key, value, NOW_US, why);
    cr_assert_eq(r == -EINVAL, *why != '\0', "words with a refusal, and with nothing else");
    return r;
}

static struct queue_selection by(const char *key, const char *value)
{
    struct queue_selection s;
    queue_select_init(&s);
    cr_assert(queue_select_is_empty(&s));
    cr_assert_eq(add(&s, key, value), 0);
    cr_assert(!queue_select_is_empty(&s));
    return s;
}

Test(queue_select, wrong_words_are_refused)
{
    struct queue_selection s;
    queue_select_init(&s);
    static const char *const wrong[][2] = {
        { "id", "" },
        { "id", "00HNGA0JJ000" },
        { "id", "00HNGA0JJ000U" },
        { "id", "0000000000000" },
        { "id", "00HNGA0JJ0000," },
        { "older", "" },
        { "older", "h" },
        { "older", "-1h" },
        { "older", "1w" },
        { "younger", "99999999999999999999s" },
        { "state", "settling" },
        { "state", "" },
        { "recipient", "" },
        { "destination", "" },
    };
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++)
        cr_assert_eq(add(&s, wrong[i][0], wrong[i][1]), -EINVAL, "%s %s", wrong[i][0], wrong[i][1]);
    char longer[SELECT_TEXT_MAX + 1];
    memset(longer, 'x', SELECT_TEXT_MAX);
    longer[SELECT_TEXT_MAX] = '\0';
    cr_assert_eq(add(&s, "sender", longer), -EINVAL);
    cr_assert_eq(add(&s, "reason", "x"), -ENOENT, "that is no criterion");
}

Test(queue_select, ids)
{
    struct queue_selection s = by("id", "00HNGA0JJ0000,00hnga0jj0001");
    char id[SMTP_ID_TEXT];
    cr_assert_eq(s.ids_count, 2);
    smtp_id_text(s.ids[1], id);
    cr_assert_str_eq(id, "00HNGA0JJ0001");
    for (unsigned i = 2; i < SELECT_IDS_MAX; i++)
        cr_assert_eq(add(&s, "id", id), 0);
    cr_assert_eq(add(&s, "id", id), -EINVAL, "so many at a time and no more");
    const struct message other = { .stored.id = s.ids[0] + 2 }, one = { .stored.id = s.ids[0] };
    cr_assert(!queue_select_message(&s, &other));
    cr_assert(queue_select_message(&s, &one));
}

Test(queue_select, ages)
{
    const struct message hour = { .arrival_us = NOW_US - 3'600'000'000 };
    struct queue_selection s = by("older", "60m");
    cr_assert(queue_select_message(&s, &hour));
    s = by("older", "3601");
    cr_assert(!queue_select_message(&s, &hour));
    s = by("younger", "1h");
    cr_assert(queue_select_message(&s, &hour));
    s = by("younger", "59m");
    cr_assert(!queue_select_message(&s, &hour));
    cr_assert_eq(add(&s, "younger", "2d"), 0);
    cr_assert(queue_select_message(&s, &hour));
}

static bool glob(const char *pattern, const char *text)
{
    return queue_glob(slice_of_string(pattern), slice_of_string(text));
}

Test(queue_select, stars)
{
    cr_assert(glob("", "") && glob("*", "") && glob("*", "abc") && glob("**", "abc"));
    cr_assert(glob("A*C", "abbc") && glob("*bc", "abcbc") && glob("a*b*c", "aXbXbXc"));
    cr_assert(!glob("", "a") && !glob("a", "") && !glob("a*c", "ab") && !glob("*a", "ab"));
    cr_assert(!glob("a?c", "abc"), "a question mark is an octet of addresses");
}

static bool sender(const char *pattern, const char *address)
{
    struct queue_selection s = by("sender", pattern);
    return queue_select_sender(&s, slice_of_string(address));
}

Test(queue_select, addresses)
{
    cr_assert(sender("a@x.test", "A@X.test") && !sender("a@x.test", "aa@x.test"));
    cr_assert(sender("x.test", "a@x.test") && !sender("x.test", "a@sub.x.test"));
    cr_assert(sender("*.x.test", "a@sub.x.test") && !sender("*.x.test", "a@x.test"));
    cr_assert(sender("*@x.test", "a@x.test") && sender("a@*", "a@x.test"));
    cr_assert(sender("x.test", "\"b@y.test\"@x.test") && !sender("y.test", "\"b@y.test\"@x.test"));
    cr_assert(sender("<>", "") && !sender("<>", "a@x.test") && !sender("a@x.test", ""));
    struct queue_selection s = by("sender", "");
    cr_assert(!queue_select_needs_envelope(&s), "the queue knows who is nobody");
    const struct message null = { .null_sender = true }, other = { .null_sender = false };
    cr_assert(queue_select_message(&s, &null) && !queue_select_message(&s, &other));
    s = by("sender", "x.test");
    cr_assert(queue_select_needs_envelope(&s) && !queue_select_message(&s, &null));
}

static bool key(const char *criterion, const char *value, const char *destination)
{
    struct queue_selection s = by(criterion, value);
    return queue_select_key(&s, destination);
}

Test(queue_select, destinations)
{
    cr_assert(key("destination", "x.test", "mx:x.test"));
    cr_assert(key("destination", "X.test", "mx:x.test!name+requiretls"));
    cr_assert(key("destination", "x.test", "outbound:partner:x.test"));
    cr_assert(!key("destination", "x.test", "outbound:x.test"), "that is a connector's name");
    cr_assert(!key("destination", "partner", "outbound:partner:x.test"));
    cr_assert(key("destination", "outbound:partner", "outbound:partner!name"));
    cr_assert(!key("destination", "outbound:partner", "outbound:partner2"));
    cr_assert(key("destination", "outbound:partner*", "outbound:partner2"));
    cr_assert(key("destination", "mx:*.test", "mx:x.test+tls-optional"));
    cr_assert(key("destination", "mx:x.test!name", "mx:x.test!name"));
    cr_assert(!key("destination", "mx:x.test!name", "mx:x.test"));
    cr_assert(key("destination", "parked:", QUEUE_PARKING_KEY));
    cr_assert(key("connector", "partner", "outbound:partner"));
    cr_assert(key("connector", "partner", "outbound:partner:x.test!name"));
    cr_assert(!key("connector", "partner", "outbound:partner2") &&
              !key("connector", "x.test", "mx:x.test"));
    cr_assert(key("connector", "", "mx:x.test!chain") && !key("connector", "", "outbound:partner"));
    cr_assert(!key("connector", "", QUEUE_PARKING_KEY));
}

Test(queue_select, recipients_of_a_unit)
{
    struct queue_selection s = by("recipient", "b.test");
    const struct recipient list[] = { { .address = SLICE("x@a.test") },
                                      { .address = SLICE("x@b.test") },
                                      { .address = SLICE("y@b.test") } };
    const struct envelope e = { .sender = SLICE("s@us.test"),
                                .recipients = list,
                                .recipients_count = 3 };
    static uint8_t bytes[1'024];
    struct envelope decoded;
    static struct queue_recipients wanted;
    envelope_encode(&e, bytes);
    cr_assert_eq(envelope_decode(slice_of(bytes, envelope_bytes(&e)), &decoded), 0);
    cr_assert(queue_select_envelope(&s, &decoded, &wanted));
    cr_assert(!queue_select_wants(&wanted, 0));
    cr_assert(queue_select_wants(&wanted, 1) && queue_select_wants(&wanted, 2));
    queue_select_drop(&wanted, 1);
    cr_assert(!queue_select_wants(&wanted, 1) && queue_select_wants(&wanted, 2));
    wanted.all = true;
    queue_select_drop(&wanted, 1);
    cr_assert(queue_select_wants(&wanted, 0) && !queue_select_wants(&wanted, 1));
    cr_assert_eq(add(&s, "recipient", "c.test"), 0);
    cr_assert(!queue_select_envelope(&s, &decoded, &wanted));
    cr_assert_eq(add(&s, "recipient", "a.test"), 0);
    cr_assert_eq(add(&s, "sender", "them.test"), 0);
    cr_assert(!queue_select_envelope(&s, &decoded, &wanted), "and, not or");
}

Test(queue_select, what_a_verb_does_in_a_state)
{
    static const char wanted[QUEUE_VERBS][UNIT_HELD + 1] = {
        /* ready, active, settling, deferred, held */
        [QUEUE_HOLD] = { VERB_CHANGES, VERB_WAITS, VERB_WAITS, VERB_CHANGES, VERB_LEAVES },
        [QUEUE_RELEASE] = { VERB_LEAVES, VERB_LEAVES, VERB_LEAVES, VERB_LEAVES, VERB_CHANGES },
        [QUEUE_RETRY] = { VERB_CHANGES, VERB_LEAVES, VERB_LEAVES, VERB_CHANGES, VERB_LEAVES },
        [QUEUE_DISCARD] = { VERB_CHANGES, VERB_WAITS, VERB_WAITS, VERB_CHANGES, VERB_CHANGES },
        [QUEUE_BOUNCE] = { VERB_CHANGES, VERB_WAITS, VERB_WAITS, VERB_CHANGES, VERB_CHANGES },
        [QUEUE_REROUTE] = { VERB_CHANGES, VERB_WAITS, VERB_WAITS, VERB_CHANGES, VERB_LEAVES },
    };
    for (unsigned verb = 0; verb < QUEUE_VERBS; verb++) {
        enum queue_verb named;
        cr_assert(queue_verb_named(queue_verb_name((enum queue_verb)verb), &named));
        cr_assert_eq(named, verb);
        for (unsigned state = 0; state <= UNIT_HELD; state++)
            cr_assert_eq((int)queue_verb_step((enum queue_verb)verb, (enum unit_state)state),
                         wanted[verb][state]);
    }
}
