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

/* What an octet may be, in a word and in a comment: most are nothing. */
enum { IS_BLANK = 1, IS_OPEN = 2, IS_END = 4, IS_COMMENTS = 8 };

static const uint8_t octets[256] = {
    [' '] = IS_BLANK,    ['\t'] = IS_BLANK,    ['\r'] = IS_BLANK,
    ['\n'] = IS_BLANK,   [';'] = IS_END,       ['('] = IS_OPEN | IS_COMMENTS,
    [')'] = IS_COMMENTS, ['\\'] = IS_COMMENTS,
};

/* The place of the first octet from index on that is one of these; the end: there is none. */
static size_t first_of(struct slice s, size_t index, unsigned kinds)
{
    while (index < s.size && (octets[s.data[index]] & kinds) == 0)
        index++;
    return index;
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

static void word_goes_on(struct received_by *by, struct slice part)
{
    const size_t max = by->word == WORD_NAME ? RECEIVED_BY_MAX : by->word == WORD_KEY ? KEY_MAX : 0;
    const size_t size = MIN(part.size, max - by->size);
    for (size_t i = 0; i < size; i++)
        by->name[by->size++] = ascii_lower(part.data[i]);
    by->state = by->word == WORD_NAME && size < part.size ? BY_DONE : BY_WORD;
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
        if (by->state == BY_COMMENT) {
            i = by->escaped ? i : first_of(part, i, IS_COMMENTS);
            if (i < part.size)
                comment_octet(by, part.data[i]);
            continue;
        }
        const size_t end = first_of(part, i, IS_BLANK | IS_OPEN | IS_END);
        if (end > i)
            word_goes_on(by, slice_part(part, i, end - i));
        i = end;
        if (i == part.size || by->state == BY_DONE)
            break;
        if (by->state == BY_WORD && word_ended(by))
            return true;
        if (part.data[i] == ';')
            by->state = BY_DONE;
        if (part.data[i] != '(')
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
