/*
 * config_text.c - cleans a configuration for libConfuse, and walks the result
 *
 * Pure. Owns nothing after it returns but the copy it hands out. Bounds: CONFIG_FILE_BYTES_MAX in,
 * at most four times that out.
 */
#include "mta/config_text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/check.h"
#include "mta/config.h"

/* Ends a bare word: libConfuse's own set, without the octets it would drop. */
static bool word_octet(uint8_t c)
{
    return c > ' ' && c != 0x7f && strchr("#\"'={}(),+", c) == NULL;
}

struct cleaner {
    struct slice in;
    size_t at;
    unsigned line;
    char *out;
    size_t size;
    unsigned depth;
    unsigned brace_line; /* of the { that was opened last on the outermost level */
    const char *name;
    struct config_report *report;
    bool bad;
};

static int peek(const struct cleaner *c, size_t ahead)
{
    return c->at + ahead < c->in.size ? c->in.data[c->at + ahead] : -1;
}

static void put(struct cleaner *c, uint8_t octet)
{
    c->out[c->size++] = (char)octet;
}

static void complain(struct cleaner *c, unsigned line, const char *text)
{
    c->bad = true;
    config_report_add(c->report, CONFIG_ERROR, c->name, line, "", "%s", text);
}

static void skip_line(struct cleaner *c)
{
    while (peek(c, 0) >= 0 && peek(c, 0) != '\n')
        c->at++;
}

static void skip_comment(struct cleaner *c)
{
    unsigned began = c->line;
    c->at += 2;
    for (; peek(c, 0) >= 0; c->at++) {
        if (peek(c, 0) == '*' && peek(c, 1) == '/') {
            c->at += 2;
            put(c, ' ');
            return;
        }
        if (peek(c, 0) == '\n') {
            c->line++;
            put(c, '\n');
        }
    }
    complain(c, began, "a comment begins here and never ends; close it with */");
}

/* ${NAME} or ${NAME:-value}, which libConfuse replaces; it must not reach past the string. */
static bool variable_ends(const struct cleaner *c)
{
    for (size_t i = 2; peek(c, i) >= 0; i++) {
        int octet = peek(c, i);
        if (octet == '}')
            return i > 2;
        if (octet < ' ' || octet == '"' || octet == '\\' || octet == '$')
            return false;
    }
    return false;
}

static void copy_string(struct cleaner *c)
{
    int quote = peek(c, 0);
    size_t began = c->at;
    put(c, (uint8_t)quote);
    for (c->at++; peek(c, 0) != quote; c->at++) {
        int octet = peek(c, 0);
        if (octet < 0 || octet == '\n') {
            complain(c, c->line,
                     "a string has no end on its line; close it with the quote it began "
                     "with");
            put(c, (uint8_t)quote);
            return;
        }
        if (octet < ' ' || octet == 0x7f)
            complain(c, c->line, "a control octet inside a string; remove it");
        if (octet == '\\') {
            int next = peek(c, 1);
            bool plain = next > ' ' && next < 0x7f;
            bool number = (next >= '0' && next <= '9') || next == 'x';
            if (quote == '"' && (!plain || number || strchr("\\\"'$", next) == NULL)) {
                complain(c, c->line,
                         "a backslash in a string may only stand before \\ \" ' $; write "
                         "the octet itself, or use single quotes");
                continue;
            }
            if (next == '\\' || next == quote || quote == '"') {
                put(c, '\\');
                octet = next;
                c->at++;
            }
        } else if (quote == '"' && octet == '$' && peek(c, 1) == '{' && !variable_ends(c)) {
            complain(c, c->line,
                     "${ without a name and } in the same string; write ${NAME} or \\$");
        }
        put(c, (uint8_t)octet);
    }
    c->at++;
    put(c, (uint8_t)quote);
    if (c->at - began > CONFIG_VALUE_MAX)
        complain(c, c->line, "a string is longer than 4096 octets; shorten it");
}

static void copy_word(struct cleaner *c)
{
    size_t began = c->at;
    put(c, '\'');
    for (; peek(c, 0) >= 0 && word_octet((uint8_t)peek(c, 0)); c->at++) {
        if (peek(c, 0) == '$' && peek(c, 1) == '{')
            complain(c, c->line, "${ outside of a string; put the value in double quotes");
        if (peek(c, 0) == '\\')
            put(c, '\\');
        put(c, (uint8_t)peek(c, 0));
    }
    put(c, '\'');
    if (c->at - began > CONFIG_VALUE_MAX)
        complain(c, c->line, "a word is longer than 4096 octets; shorten it");
}

static void copy_punctuation(struct cleaner *c, uint8_t octet)
{
    if (octet == '+' && peek(c, 1) != '=') {
        complain(c, c->line, "a + outside of a string; put the value in quotes");
        c->at++;
        return;
    }
    if (octet == '{' && c->depth++ == 0)
        c->brace_line = c->line;
    if (octet == '}') {
        if (c->depth == 0)
            complain(c, c->line, "a } without a { before it; remove it");
        else
            c->depth--;
    }
    put(c, octet);
    c->at++;
    if (octet == '+') {
        put(c, '=');
        c->at++;
    }
}

static void clean_one(struct cleaner *c)
{
    uint8_t octet = (uint8_t)peek(c, 0);
    if (octet == '\n') {
        c->line++;
        put(c, '\n');
        c->at++;
    } else if (octet == ' ' || octet == '\t' || octet == '\r') {
        put(c, ' ');
        c->at++;
    } else if (octet == '#' || (octet == '/' && peek(c, 1) == '/')) {
        skip_line(c);
    } else if (octet == '/' && peek(c, 1) == '*') {
        skip_comment(c);
    } else if (octet == '"' || octet == '\'') {
        copy_string(c);
    } else if (word_octet(octet)) {
        copy_word(c);
    } else if (octet < ' ' || octet == 0x7f) {
        complain(c, c->line, "a control octet; remove it (is this a text file?)");
        c->at = c->in.size;
    } else {
        copy_punctuation(c, octet);
    }
}

int config_text_clean(struct slice in, const char *name, struct config_report *report, char **out)
{
    if (in.size > CONFIG_FILE_BYTES_MAX) {
        config_report_add(report, CONFIG_ERROR, name, 0, "", "larger than %d MiB; split the lists",
                          CONFIG_FILE_BYTES_MAX >> 20);
        return -EINVAL;
    }
    if (in.size >= 3 && memcmp(in.data, "\xef\xbb\xbf", 3) == 0) /* a byte order mark */
        in = slice_from(in, 3);
    struct cleaner c = { .in = in, .line = 1, .name = name, .report = report };
    size_t capacity = 4 * in.size + 8;
    c.out = malloc(capacity);
    if (c.out == NULL)
        return -ENOMEM;
    while (c.at < in.size)
        clean_one(&c);
    if (c.depth > 0)
        complain(&c, c.brace_line, "a { is never closed; add the } that ends it");
    put(&c, '\n');
    put(&c, '\0');
    CHECK(c.size <= capacity);
    if (c.bad) {
        free(c.out);
        return -EINVAL;
    }
    *out = c.out;
    return 0;
}

/* ---- walking ---- */

struct config_cursor config_text_begin(const char *cleaned)
{
    return (struct config_cursor) { .text = slice_of_string(cleaned), .line = 1 };
}

struct config_token config_text_token(struct config_cursor *cursor)
{
    const uint8_t *data = cursor->text.data;
    size_t size = cursor->text.size;
    while (cursor->at < size && (data[cursor->at] == ' ' || data[cursor->at] == '\n'))
        if (data[cursor->at++] == '\n')
            cursor->line++;
    struct config_token token = { .line = cursor->line, .start = cursor->at, .end = cursor->at };
    if (cursor->at == size)
        return token;
    uint8_t octet = data[cursor->at++];
    token.kind = octet;
    if (octet == '\'' || octet == '"') {
        while (cursor->at < size && data[cursor->at] != octet)
            cursor->at += data[cursor->at] == '\\' ? 2 : 1;
        token.kind = CONFIG_TOKEN_WORD;
        CHECK(cursor->at < size); /* cleaned: strings have an end */
        token.text = slice_part(cursor->text, token.start + 1, cursor->at - token.start - 1);
        cursor->at++;
    } else if (octet == '+') {
        cursor->at++;
    }
    token.end = cursor->at;
    return token;
}

/* From behind a { to behind its }. */
static size_t body_end(struct config_cursor cursor)
{
    unsigned depth = 1;
    for (;;) {
        struct config_token token = config_text_token(&cursor);
        if (token.kind == '{')
            depth++;
        else if (token.kind == CONFIG_TOKEN_END || (token.kind == '}' && --depth == 0))
            return token.end;
    }
}

bool config_text_statement(struct config_cursor *cursor, struct config_statement *statement)
{
    struct config_token token;
    do {
        token = config_text_token(cursor);
    } while (token.kind == '}');
    if (token.kind != CONFIG_TOKEN_WORD)
        return false;
    *statement =
        (struct config_statement) { .name = token.text, .line = token.line, .start = token.start };
    token = config_text_token(cursor);
    if (token.kind == CONFIG_TOKEN_WORD) {
        statement->title = token.text;
        token = config_text_token(cursor);
        if (token.kind != '{')
            return false;
    }
    if (token.kind == '{') {
        statement->section = true;
        statement->brace_line = token.line;
        statement->end = body_end(*cursor);
        return true;
    }
    if (token.kind != '=' && token.kind != '+')
        return false;
    token = config_text_token(cursor);
    if (token.kind == '{') {
        cursor->at = body_end(*cursor);
        statement->end = cursor->at;
        for (size_t i = token.start; i < cursor->at; i++) /* no newlines inside of strings */
            cursor->line += cursor->text.data[i] == '\n';
        return true;
    }
    statement->end = token.end;
    return token.kind == CONFIG_TOKEN_WORD;
}
