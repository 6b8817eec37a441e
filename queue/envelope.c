/*
 * envelope.c - the encoded form of an envelope
 *
 *   version 1, fields: tag 1, length 4, bytes; recipients count first, each recipient a field:
 *   notify 1, floor 1, address length 2, orcpt length 2, connector length 2, their bytes, and then
 *   fields again, of tag 1, length 2, bytes
 *
 * Empty texts are left out. Unknown tags are skipped. Fuzzed (tests/fuzz/fuzz_record.c).
 */
#include "queue/envelope.h"

#include <errno.h>

#include "core/check.h"
#include "queue/bytes.h"

enum {
    ENVELOPE_VERSION = 1,
    FIELD_HEAD_BYTES = 5,
    RECIPIENT_FIXED_BYTES = 8,
    RECIPIENT_HEAD_BYTES = 3,
    FACTS_BYTES = 48
};

enum envelope_tag {
    TAG_FACTS = 1, /* all that has a fixed size */
    TAG_SENDER,
    TAG_ENVID,
    TAG_HELO,
    TAG_LISTENER,
    TAG_CONNECTOR,
    TAG_USER,
    TAG_SESSION,
    TAG_RECIPIENT, /* these come last */
    TAGS
};

enum recipient_tag {
    RECIPIENT_CLASS = 1,
};

static_assert(ENVELOPE_RECIPIENT_EXTRA >=
              FIELD_HEAD_BYTES + RECIPIENT_FIXED_BYTES + RECIPIENT_HEAD_BYTES);
static_assert(ENVELOPE_FIXED_MAX >= 1 + FACTS_BYTES + (TAGS - 1) * FIELD_HEAD_BYTES);

/* Where a text field lives in the struct. */
static const size_t text_fields[TAGS] = {
    [TAG_SENDER] = offsetof(struct envelope, sender),
    [TAG_ENVID] = offsetof(struct envelope, envid),
    [TAG_HELO] = offsetof(struct envelope, helo),
    [TAG_LISTENER] = offsetof(struct envelope, listener),
    [TAG_CONNECTOR] = offsetof(struct envelope, connector),
    [TAG_USER] = offsetof(struct envelope, user),
    [TAG_SESSION] = offsetof(struct envelope, session),
};

static struct slice text_of(const struct envelope *envelope, unsigned tag)
{
    return *(const struct slice *)(const void *)((const char *)envelope + text_fields[tag]);
}

size_t envelope_recipient_bytes(const struct recipient *recipient)
{
    size_t class = recipient->class.size > 0 ? RECIPIENT_HEAD_BYTES + recipient->class.size : 0;
    return FIELD_HEAD_BYTES + RECIPIENT_FIXED_BYTES + recipient->address.size +
           recipient->orcpt.size + recipient->connector.size + class;
}

size_t envelope_bytes(const struct envelope *envelope)
{
    size_t bytes = 1 + FIELD_HEAD_BYTES + FACTS_BYTES;
    for (unsigned tag = TAG_SENDER; tag <= TAG_SESSION; tag++) {
        struct slice text = text_of(envelope, tag);
        bytes += text.size > 0 ? FIELD_HEAD_BYTES + text.size : 0;
    }
    for (uint32_t i = 0; i < envelope->recipients_count; i++)
        bytes += envelope_recipient_bytes(&envelope->recipients[i]);
    return bytes;
}

static uint8_t *put_field(uint8_t *out, enum envelope_tag tag, size_t bytes)
{
    *out = (uint8_t)tag;
    put_u32(out + 1, (uint32_t)bytes);
    return out + FIELD_HEAD_BYTES;
}

static uint8_t *put_text(uint8_t *out, struct slice text)
{
    if (text.size > 0)
        memcpy(out, text.data, text.size);
    return out + text.size;
}

static uint8_t *put_recipient(uint8_t *out, const struct recipient *recipient)
{
    CHECK(recipient->address.size <= ENVELOPE_ADDRESS_MAX);
    CHECK(recipient->orcpt.size <= ENVELOPE_ADDRESS_MAX);
    CHECK(recipient->connector.size <= ENVELOPE_TEXT_MAX);
    CHECK(recipient->class.size <= ENVELOPE_TEXT_MAX);
    out = put_field(out, TAG_RECIPIENT, envelope_recipient_bytes(recipient) - FIELD_HEAD_BYTES);
    out[0] = recipient->notify;
    out[1] = recipient->floor;
    put_u16(out + 2, (uint16_t)recipient->address.size);
    put_u16(out + 4, (uint16_t)recipient->orcpt.size);
    put_u16(out + 6, (uint16_t)recipient->connector.size);
    out = put_text(out + RECIPIENT_FIXED_BYTES, recipient->address);
    out = put_text(out, recipient->orcpt);
    out = put_text(out, recipient->connector);
    if (recipient->class.size == 0)
        return out;
    *out = RECIPIENT_CLASS;
    put_u16(out + 1, (uint16_t)recipient->class.size);
    return put_text(out + RECIPIENT_HEAD_BYTES, recipient->class);
}

void envelope_encode(const struct envelope *envelope, uint8_t *out)
{
    CHECK(envelope->recipients_count <= RECIPIENTS_MAX);
    *out++ = ENVELOPE_VERSION;
    out = put_field(out, TAG_FACTS, FACTS_BYTES);
    memcpy(out, envelope->client.octets, 16);
    put_u16(out + 16, envelope->client.port);
    out[18] = envelope->ret;
    out[19] = envelope->floor;
    put_u32(out + 20, envelope->flags);
    put_u64(out + 24, (uint64_t)envelope->arrival_us);
    put_u64(out + 32, envelope->body_bytes);
    put_u32(out + 40, envelope->recipients_count);
    put_u32(out + 44, 0);
    out += FACTS_BYTES;
    for (unsigned tag = TAG_SENDER; tag <= TAG_SESSION; tag++) {
        struct slice text = text_of(envelope, tag);
        CHECK(text.size <= ENVELOPE_TEXT_MAX);
        if (text.size > 0)
            out = put_text(put_field(out, (enum envelope_tag)tag, text.size), text);
    }
    for (uint32_t i = 0; i < envelope->recipients_count; i++)
        out = put_recipient(out, &envelope->recipients[i]);
}

/* The field at *cursor. 1; 0: no more; -EBADMSG. */
static int next_field(struct slice in, size_t *cursor, unsigned *tag, struct slice *bytes)
{
    if (*cursor == in.size)
        return 0;
    if (*cursor > in.size || in.size - *cursor < FIELD_HEAD_BYTES)
        return -EBADMSG;
    *tag = in.data[*cursor];
    size_t size = get_u32(in.data + *cursor + 1);
    *cursor += FIELD_HEAD_BYTES;
    if (size > in.size - *cursor)
        return -EBADMSG;
    *bytes = slice_of(in.data + *cursor, size);
    *cursor += size;
    return 1;
}

/* What stands behind the texts that every recipient has. Unknown tags are skipped. */
static bool take_recipient_more(struct slice more, struct recipient *recipient)
{
    while (more.size > 0) {
        if (more.size < RECIPIENT_HEAD_BYTES)
            return false;
        size_t size = get_u16(more.data + 1);
        if (size > more.size - RECIPIENT_HEAD_BYTES)
            return false;
        if (more.data[0] == RECIPIENT_CLASS) {
            if (size == 0 || size > ENVELOPE_TEXT_MAX || recipient->class.size > 0)
                return false;
            recipient->class = slice_part(more, RECIPIENT_HEAD_BYTES, size);
        }
        more = slice_from(more, RECIPIENT_HEAD_BYTES + size);
    }
    return true;
}

static bool take_recipient(struct slice field, struct recipient *recipient)
{
    if (field.size < RECIPIENT_FIXED_BYTES)
        return false;
    size_t address = get_u16(field.data + 2);
    size_t orcpt = get_u16(field.data + 4);
    size_t connector = get_u16(field.data + 6);
    if (address > ENVELOPE_ADDRESS_MAX || orcpt > ENVELOPE_ADDRESS_MAX ||
        connector > ENVELOPE_TEXT_MAX || address == 0 ||
        RECIPIENT_FIXED_BYTES + address + orcpt + connector > field.size)
        return false;
    recipient->notify = field.data[0];
    recipient->floor = field.data[1];
    recipient->address = slice_part(field, RECIPIENT_FIXED_BYTES, address);
    recipient->orcpt = slice_part(field, RECIPIENT_FIXED_BYTES + address, orcpt);
    recipient->connector = slice_part(field, RECIPIENT_FIXED_BYTES + address + orcpt, connector);
    recipient->class = slice_of(NULL, 0);
    return take_recipient_more(
        slice_from(field, RECIPIENT_FIXED_BYTES + address + orcpt + connector), recipient);
}

static bool take_facts(struct slice field, struct envelope *envelope)
{
    if (field.size < FACTS_BYTES)
        return false;
    memcpy(envelope->client.octets, field.data, 16);
    envelope->client.port = get_u16(field.data + 16);
    envelope->ret = field.data[18];
    envelope->floor = field.data[19];
    envelope->flags = get_u32(field.data + 20);
    envelope->arrival_us = (int64_t)get_u64(field.data + 24);
    envelope->body_bytes = get_u64(field.data + 32);
    envelope->recipients_count = get_u32(field.data + 40);
    return envelope->ret <= RET_HDRS && envelope->recipients_count <= RECIPIENTS_MAX;
}

int envelope_decode(struct slice in, struct envelope *envelope)
{
    *envelope = (struct envelope) { 0 };
    if (in.size < 1 || in.data[0] != ENVELOPE_VERSION)
        return -EBADMSG;
    size_t cursor = 1, last = 1;
    unsigned tag;
    struct slice field;
    bool facts = false;
    uint32_t recipients = 0;
    int r;
    while ((r = next_field(in, &cursor, &tag, &field)) == 1) {
        struct recipient recipient;
        if (tag == TAG_RECIPIENT) {
            if (recipients++ == 0)
                envelope->encoded_recipients = slice_from(in, last);
            if (!take_recipient(field, &recipient))
                return -EBADMSG;
        } else if (tag == TAG_FACTS) {
            if (facts || !take_facts(field, envelope))
                return -EBADMSG;
            facts = true;
        } else if (tag >= TAG_SENDER && tag <= TAG_SESSION) {
            struct slice *text = (void *)((char *)envelope + text_fields[tag]);
            if (field.size == 0 || field.size > ENVELOPE_TEXT_MAX || text->size > 0)
                return -EBADMSG;
            *text = field;
        }
        last = cursor;
    }
    return r == 0 && facts && recipients == envelope->recipients_count ? 0 : -EBADMSG;
}

bool envelope_next(const struct envelope *envelope, size_t *cursor, struct recipient *recipient)
{
    unsigned tag;
    struct slice field;
    while (next_field(envelope->encoded_recipients, cursor, &tag, &field) == 1)
        if (tag == TAG_RECIPIENT)
            return take_recipient(field, recipient);
    return false;
}
