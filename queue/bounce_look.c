/*
 * bounce_look.c - the few fields and addresses that say that a program has sent this
 *
 * Lines are unfolded into one buffer; what does not fit is dropped, for a name and the first word
 * of a value is all that is asked of a field. Surprises: a bare LF ends a line as CRLF does; a
 * header without an end is looked at as far as BOUNCE_LOOK_MAX. Fuzzed (tests/fuzz/fuzz_bounce.c).
 */
#include "queue/bounce_look.h"

void bounce_look_begin(struct bounce_look *look)
{
    look->field_size = 0;
    look->looked = 0;
    look->line_begins = true;
    look->automatic = false;
    look->done = false;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* The first word of a value: to a blank, a parameter or a comment. */
static struct slice first_word(struct slice value)
{
    while (value.size > 0 && is_blank(value.data[0]))
        value = slice_from(value, 1);
    size_t size = 0;
    while (size < value.size && !is_blank(value.data[size]) && value.data[size] != ';' &&
           value.data[size] != '(' && value.data[size] != ',')
        size++;
    return slice_part(value, 0, size);
}

static bool field_is_automatic(struct slice field)
{
    static const struct slice precedences[] = { SLICE("bulk"), SLICE("list"), SLICE("junk") };
    const ptrdiff_t colon = slice_find(field, ':');
    if (colon <= 0)
        return false;
    struct slice name = slice_part(field, 0, (size_t)colon);
    while (name.size > 0 && is_blank(name.data[name.size - 1]))
        name.size--;
    const struct slice word = first_word(slice_from(field, (size_t)colon + 1));
    if (slice_equal_nocase(name, SLICE("auto-submitted"))) /* RFC 3834 5 */
        return word.size > 0 && !slice_equal_nocase(word, SLICE("no"));
    if (slice_starts_nocase(name, SLICE("list-"))) /* RFC 2919, 2369 */
        return true;
    if (!slice_equal_nocase(name, SLICE("precedence")))
        return false;
    for (size_t i = 0; i < ARRAY_COUNT(precedences); i++)
        if (slice_equal_nocase(word, precedences[i]))
            return true;
    return false;
}

static void field_end(struct bounce_look *look)
{
    const struct slice field = slice_of(look->field, look->field_size);
    look->automatic = look->automatic || field_is_automatic(field);
    look->done = look->done || look->automatic;
    look->field_size = 0;
}

/* The first octet of a line: a new field, more of the last one, or the end of the header. */
static void line_begin(struct bounce_look *look, uint8_t c)
{
    look->line_begins = false;
    if (is_blank(c))
        return;
    field_end(look);
    look->done = look->done || c == '\r' || c == '\n';
}

bool bounce_look_take(struct bounce_look *look, struct slice part)
{
    for (size_t i = 0; i < part.size && !look->done; i++) {
        const uint8_t c = part.data[i];
        if (look->looked++ == BOUNCE_LOOK_MAX) {
            look->done = true;
            break;
        }
        if (look->line_begins)
            line_begin(look, c);
        look->line_begins = c == '\n';
        if (c != '\r' && c != '\n' && look->field_size < BOUNCE_LOOK_FIELD)
            look->field[look->field_size++] = c;
    }
    return look->done;
}

void bounce_look_end(struct bounce_look *look)
{
    if (!look->done)
        field_end(look);
    look->done = true;
}

bool bounce_look_address(struct slice address)
{
    static const struct slice names[] = { SLICE("mailer-daemon"), SLICE("listserv"),
                                          SLICE("majordomo"), SLICE("bounces"), SLICE("bounce") };
    static const struct slice endings[] = { SLICE("-owner"), SLICE("-request"), SLICE("-bounces"),
                                            SLICE("-bounce") };
    size_t size = address.size;
    while (size > 0 && address.data[size - 1] != '@')
        size--;
    struct slice local = slice_part(address, 0, size > 0 ? size - 1 : address.size);
    const ptrdiff_t detail = slice_find(local, '+');
    if (detail > 0)
        local = slice_part(local, 0, (size_t)detail);
    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
        if (slice_equal_nocase(local, names[i]))
            return true;
    for (size_t i = 0; i < ARRAY_COUNT(endings); i++)
        if (slice_ends_nocase(local, endings[i]))
            return true;
    return slice_starts_nocase(local, SLICE("owner-"));
}
