/*
 * test_envelope.c - what goes in comes out, and nothing else is taken for an envelope
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>

#include "queue/envelope.h"

static const struct recipient recipients[] = {
    { .address = SLICE("a@example.org"),
      .orcpt = SLICE("rfc822;a+40example.org"),
      .notify = NOTIFY_SUCCESS | NOTIFY_DELAY,
      .floor = 3 },
    { .address = SLICE("b@example.net"), .connector = SLICE("partner"), .class = SLICE("bulk") },
};

static struct envelope full(void)
{
    return (struct envelope) {
        .sender = SLICE("s@example.com"),
        .envid = SLICE("QQ314159"),
        .helo = SLICE("mail.example.com"),
        .listener = SLICE("in"),
        .connector = SLICE("world"),
        .user = SLICE("joe"),
        .session = SLICE("1f"),
        .client = { .octets = { [10] = 0xff, [11] = 0xff, [12] = 192, [14] = 2, [15] = 7 },
                    .port = 4711 },
        .arrival_us = 1'900'000'000'123'456,
        .body_bytes = 12'345,
        .flags = ENVELOPE_SMTPUTF8 | ENVELOPE_REQUIRETLS,
        .ret = RET_HDRS,
        .floor = 2,
        .recipients_count = 2,
        .recipients = recipients,
    };
}

static size_t encode(const struct envelope *envelope, uint8_t **bytes)
{
    size_t size = envelope_bytes(envelope);
    *bytes = malloc(size); /* exactly, so that AddressSanitizer sees one octet too many */
    envelope_encode(envelope, *bytes);
    return size;
}

Test(envelope, every_shorter_one_is_refused)
{
    const struct envelope in = full();
    uint8_t *bytes;
    size_t size = encode(&in, &bytes);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *part = malloc(cut + 1);
        memcpy(part, bytes, cut);
        struct envelope out;
        cr_assert_eq(envelope_decode(slice_of(part, cut), &out), -EBADMSG, "%zu of %zu", cut, size);
        free(part);
    }
    free(bytes);
}

Test(envelope, another_version_and_more_recipients_than_counted_are_refused)
{
    struct envelope in = full(), out;
    uint8_t *bytes;
    size_t size = encode(&in, &bytes);
    bytes[0]++;
    cr_assert_eq(envelope_decode(slice_of(bytes, size), &out), -EBADMSG);
    bytes[0]--;
    bytes[1 + 5 + 40] = 1; /* recipients_count */
    cr_assert_eq(envelope_decode(slice_of(bytes, size), &out), -EBADMSG);
    free(bytes);
}

Test(envelope, flipped_bits_stay_inside)
{
    const struct envelope in = full();
    uint8_t *bytes;
    size_t size = encode(&in, &bytes);
    for (size_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        struct envelope out;
        struct recipient recipient;
        size_t cursor = 0;
        uint32_t count = 0;
        if (envelope_decode(slice_of(bytes, size), &out) == 0) {
            while (envelope_next(&out, &cursor, &recipient))
                count++;
            cr_assert_eq(count, out.recipients_count);
        }
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    free(bytes);
}

Test(envelope, unknown_fields_are_skipped)
{
    const struct envelope in = full();
    uint8_t *bytes;
    size_t size = encode(&in, &bytes);
    const uint8_t unknown[] = { 200, 3, 0, 0, 0, 'x', 'y', 'z' };
    uint8_t *more = malloc(size + sizeof(unknown));
    memcpy(more, bytes, 1);
    memcpy(more + 1, unknown, sizeof(unknown));
    memcpy(more + 1 + sizeof(unknown), bytes + 1, size - 1);
    struct envelope out;
    cr_assert_eq(envelope_decode(slice_of(more, size + sizeof(unknown)), &out), 0);
    cr_assert_eq(out.recipients_count, 2);
    free(more);
    free(bytes);
}

/* The last octets of a recipient are its class: tag, length, name. */
Test(envelope, unknown_fields_of_a_recipient_are_skipped_and_broken_ones_refused)
{
    const struct envelope in = full();
    uint8_t *bytes;
    size_t size = encode(&in, &bytes);
    uint8_t *field = bytes + size - 3 - 4;
    struct envelope out;
    struct recipient r;
    size_t cursor = 0;
    cr_assert_eq(field[0], 1);
    field[0] = 99;
    cr_assert_eq(envelope_decode(slice_of(bytes, size), &out), 0);
    cr_assert(envelope_next(&out, &cursor, &r));
    cr_assert(envelope_next(&out, &cursor, &r));
    cr_assert_eq(r.class.size, 0);
    field[0] = 1;
    field[1] = 5; /* one octet more than there are */
    cr_assert_eq(envelope_decode(slice_of(bytes, size), &out), -EBADMSG);
    field[1] = 3; /* one octet left, no field */
    cr_assert_eq(envelope_decode(slice_of(bytes, size), &out), -EBADMSG);
    free(bytes);
}

Test(envelope, all_of_it_comes_back)
{
    const struct envelope in = full();
    uint8_t *bytes;
    size_t size = encode(&in, &bytes);
    struct envelope out;
    cr_assert_eq(envelope_decode(slice_of(bytes, size), &out), 0);
    cr_assert(slice_equal(out.sender, in.sender));
    cr_assert(slice_equal(out.envid, in.envid));
    cr_assert(slice_equal(out.helo, in.helo));
    cr_assert(slice_equal(out.listener, in.listener));
    cr_assert(slice_equal(out.connector, in.connector));
    cr_assert(slice_equal(out.user, in.user));
    cr_assert(slice_equal(out.session, in.session));
    cr_assert(net_equal(&out.client, &in.client));
    cr_assert_eq(out.arrival_us, in.arrival_us);
    cr_assert_eq(out.body_bytes, in.body_bytes);
    cr_assert_eq(out.flags, in.flags);
    cr_assert_eq(out.ret, in.ret);
    cr_assert_eq(out.floor, in.floor);
    size_t cursor = 0;
    struct recipient r;
    for (unsigned i = 0; i < 2; i++) {
        cr_assert(envelope_next(&out, &cursor, &r));
        cr_assert(slice_equal(r.address, recipients[i].address));
        cr_assert(slice_equal(r.orcpt, recipients[i].orcpt));
        cr_assert(slice_equal(r.connector, recipients[i].connector));
        cr_assert(slice_equal(r.class, recipients[i].class));
        cr_assert_eq(r.notify, recipients[i].notify);
        cr_assert_eq(r.floor, recipients[i].floor);
    }
    cr_assert(!envelope_next(&out, &cursor, &r));
    free(bytes);
}

Test(envelope, the_null_sender_and_ten_thousand_recipients)
{
    struct recipient *many = calloc(RECIPIENTS_MAX, sizeof(*many));
    for (uint32_t i = 0; i < RECIPIENTS_MAX; i++)
        many[i].address = SLICE("someone@example.org");
    const struct envelope in = { .recipients_count = RECIPIENTS_MAX, .recipients = many };
    uint8_t *bytes;
    size_t size = encode(&in, &bytes);
    cr_assert_leq(size, ENVELOPE_FIXED_MAX + RECIPIENTS_MAX * (19u + ENVELOPE_RECIPIENT_EXTRA));
    struct envelope out;
    cr_assert_eq(envelope_decode(slice_of(bytes, size), &out), 0);
    cr_assert_eq(out.sender.size, 0);
    cr_assert_eq(out.recipients_count, RECIPIENTS_MAX);
    free(bytes);
    free(many);
}
