/*
 * received_by.c - word by word up to the one behind BY
 *
 *   BETWEEN --octet--> WORD --blank, comment--> BETWEEN       "by" --> the next word is the name
 *      |  ^                |                                 "from" --> the next word is passed
 * over |  '--")"-- COMMENT <--"("
 *      '--";", or the name is whole--> DONE
 *
 * Quotes are octets like others: neither a domain nor a literal has any, and an unpaired one that a
 * host took over from its client must not hide the BY.
 */
#include "mta/received_by.h"

enum by_state { BY_BETWEEN = 0, BY_WORD, BY_COMMENT, BY_DONE };

enum by_word { WORD_KEY = 0, WORD_PASSED, WORD_NAME };

enum { KEY_MAX = 5 }; /* octets kept of a keyword: one more than "from" */

void received_by_begin(struct received_by *by)
{
    by->state = BY_BETWEEN;
    by->word = WORD_KEY;
    by->size = 0;
    by->escaped = false;
    by->depth = 0;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct slice received_by_name(const struct received_by *by)
{
    const struct slice name = slice_of(by->name, by->size);
    const bool dot = name.size > 1 && name.data[name.size - 1] == '.';
    return slice_part(name, 0, name.size - dot);
}

/* True: it was the name, and not too long to be one. */
static bool word_ended(struct received_by *by)
{
    const struct slice word = slice_of(by->name, by->size);
    if (by->word == WORD_NAME) {
        by->state = BY_DONE;
        return true;
    }
    const bool key = by->word == WORD_KEY;
    by->word = key && slice_equal(word, SLICE("by"))     ? WORD_NAME
               : key && slice_equal(word, SLICE("from")) ? WORD_PASSED
                                                         : WORD_KEY;
    by->state = BY_BETWEEN;
    by->size = 0;
    return false;
}

static void word_octet(struct received_by *by, uint8_t c)
{
    by->state = BY_WORD;
    if (by->word == WORD_NAME && by->size == RECEIVED_BY_MAX)
        by->state = BY_DONE;
    else if (by->word == WORD_NAME || (by->word == WORD_KEY && by->size < KEY_MAX))
        by->name[by->size++] = ascii_lower(c);
}

static void comment_octet(struct received_by *by, uint8_t c)
{
    if (by->escaped)
        by->escaped = false;
    else if (c == '\\')
        by->escaped = true;
    else if (c == '(' && ++by->depth == UINT16_MAX)
        by->state = BY_DONE;
    else if (c == ')' && --by->depth == 0)
        by->state = BY_BETWEEN;
}

bool received_by_take(struct received_by *by, struct slice part)
{
    for (size_t i = 0; i < part.size && by->state != BY_DONE; i++) {
        const uint8_t c = part.data[i];
        if (by->state == BY_COMMENT) {
            comment_octet(by, c);
            continue;
        }
        if (!is_blank(c) && c != '(' && c != ';') {
            word_octet(by, c);
            continue;
        }
        if (by->state == BY_WORD && word_ended(by))
            return true;
        if (c == ';')
            by->state = BY_DONE;
        if (c != '(')
            continue;
        by->state = BY_COMMENT;
        by->depth = 1;
    }
    return false;
}

bool received_by_end(struct received_by *by)
{
    const bool is_name = by->state == BY_WORD && word_ended(by);
    by->state = BY_DONE;
    return is_name;
}
