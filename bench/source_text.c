/*
 * source_text.c - commands and content of the source
 */
#include "bench/source_text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

#include "core/check.h"

enum {
    ID_DIGITS = 10,
    NUMBER_MAX = 20,
    COMMAND_SPARE = 64, /* MAIL FROM:<>, RCPT TO:<>, DATA, BDAT and their CRLF */
    BODY_LINE_BYTES = 72,
    HEADER_MAX = 1'024,
    END_BYTES = 3, /* dot, CR, LF */
};

#define ID_FIELD "X-Bench-Id: "

static uint8_t *put(uint8_t *at, struct slice text)
{
    memcpy(at, text.data, text.size);
    return at + text.size;
}

static uint8_t *put_number(uint8_t *at, uint64_t number)
{
    uint8_t digits[NUMBER_MAX];
    size_t count = 0;
    do {
        digits[count++] = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    while (count > 0)
        *at++ = digits[--count];
    return at;
}

static uint8_t *put_address(uint8_t *at, const struct source_address *address, uint64_t number)
{
    at = put(at, address->before);
    if (!address->numbered)
        return at;
    return put(put_number(at, number), address->after);
}

static uint64_t number_of(const struct source_options *o, uint64_t count)
{
    return o->numbers == 0 ? count : count % o->numbers;
}

/* ---- content ---- */

static size_t header_write(const struct source_options *o, char out[static HEADER_MAX])
{
    char date[64];
    time_t now = time(NULL);
    struct tm utc;
    gmtime_r(&now, &utc);
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S +0000", &utc);
    uint8_t from[SOURCE_ADDRESS_MAX + NUMBER_MAX];
    uint8_t rcpt[SOURCE_ADDRESS_MAX + NUMBER_MAX];
    int from_size = (int)(put_address(from, &o->from, 0) - from);
    int rcpt_size = (int)(put_address(rcpt, &o->rcpt, 0) - rcpt);
    int size = snprintf(out, HEADER_MAX,
                        "From: <%.*s>\r\nTo: <%.*s>\r\nSubject: ringpost-bench\r\n"
                        "Date: %s\r\n\r\n",
                        from_size, (const char *)from, rcpt_size, (const char *)rcpt, date);
    CHECK(size > 0);
    CHECK(size < HEADER_MAX);
    return (size_t)size;
}

/* Lines of letters, so that no dot has to be doubled; exactly bytes, of which there are not 1. */
static void body_write(uint8_t *at, size_t bytes)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
    for (size_t line_number = 0; bytes > 0; line_number++) {
        size_t line = MIN(bytes, (size_t)BODY_LINE_BYTES);
        if (bytes - line == 1)
            line--;
        for (size_t i = 0; i < line - 2; i++)
            at[i] = (uint8_t)letters[(i + line_number) % (sizeof(letters) - 1)];
        at[line - 2] = '\r';
        at[line - 1] = '\n';
        at += line;
        bytes -= line;
    }
}

static int content_init(struct source_texts *texts)
{
    const struct source_options *o = texts->options;
    char header[HEADER_MAX];
    size_t header_bytes = header_write(o, header);
    size_t least = texts->id_line_bytes + header_bytes;
    size_t body_bytes = o->size > least ? o->size - least : 0;
    if (body_bytes == 1)
        body_bytes = 2;
    size_t end_bytes = o->bdat ? 0 : END_BYTES;
    texts->content_bytes = least + body_bytes;
    texts->rest_bytes = header_bytes + body_bytes + end_bytes;
    texts->rest = malloc(texts->rest_bytes);
    if (texts->rest == NULL)
        return -ENOMEM;
    memcpy(texts->rest, header, header_bytes);
    body_write(texts->rest + header_bytes, body_bytes);
    memcpy(texts->rest + header_bytes + body_bytes, ".\r\n", end_bytes);
    texts->small = texts->content_bytes <= SOURCE_SMALL_BYTES;
    return 0;
}

/* What of the content stands in a session's block. */
static size_t own_bytes(const struct source_texts *texts)
{
    return texts->id_line_bytes + (texts->small ? texts->rest_bytes : 0);
}

static uint8_t *content_at(const struct source_texts *texts, const struct source_text *text)
{
    return text->block + (texts->options->bdat ? texts->commands_max : 0);
}

/* Commands end where BDAT's content begins, or begin where DATA's content ends. */
static uint8_t *commands_at(const struct source_texts *texts, const struct source_text *text)
{
    return texts->options->bdat ? text->block + texts->commands_max - text->commands_bytes
                                : text->block + own_bytes(texts);
}

void source_text_number(struct source_texts *texts, struct source_text *text)
{
    uint64_t number = texts->sequence++;
    uint8_t *digit = content_at(texts, text) + texts->id_line_bytes - 2;
    for (unsigned i = 0; i < ID_DIGITS; i++, number /= 10)
        *--digit = (uint8_t)('0' + number % 10);
}

size_t source_text_content(const struct source_texts *texts, const struct source_text *text,
                           struct slice slices[static SOURCE_CONTENT_SLICES])
{
    slices[0] = slice_of(content_at(texts, text), own_bytes(texts));
    slices[1] = slice_of(texts->rest, texts->rest_bytes);
    return texts->small ? 1 : 2;
}

struct slice source_text_id(const struct source_texts *texts, const struct source_text *text)
{
    size_t name = sizeof(ID_FIELD) - 1;
    return slice_of(content_at(texts, text) + name, texts->id_line_bytes - name - 2);
}

/* ---- commands ---- */

static size_t commands_write(const struct source_texts *texts, uint64_t number, uint8_t *out)
{
    const struct source_options *o = texts->options;
    uint8_t *at = put(out, SLICE("MAIL FROM:<"));
    at = put(put_address(at, &o->from, number_of(o, number)), SLICE(">\r\n"));
    for (uint32_t i = 0; i < o->recipients; i++) {
        at = put(at, SLICE("RCPT TO:<"));
        uint64_t count = number_of(o, number * o->recipients + i);
        at = put(put_address(at, &o->rcpt, count), SLICE(">\r\n"));
    }
    if (!o->bdat)
        return (size_t)(put(at, SLICE("DATA\r\n")) - out);
    at = put(at, SLICE("BDAT "));
    return (size_t)(put(put_number(at, texts->content_bytes), SLICE(" LAST\r\n")) - out);
}

void source_text_make_commands(struct source_texts *texts, struct source_text *text)
{
    const struct source_options *o = texts->options;
    text->commands_at = 0;
    if (text->commands_made && !o->from.numbered && !o->rcpt.numbered)
        return;
    uint64_t number = texts->number++ * o->threads + texts->thread;
    uint8_t *begin = text->block + (o->bdat ? 0 : own_bytes(texts));
    size_t bytes = commands_write(texts, number, begin);
    CHECK(bytes <= texts->commands_max);
    text->commands_bytes = (uint32_t)bytes;
    if (o->bdat)
        memmove(commands_at(texts, text), begin, bytes);
    text->commands_made = true;
}

struct slice source_text_commands(const struct source_texts *texts, const struct source_text *text)
{
    return slice_of(commands_at(texts, text), text->commands_bytes);
}

struct slice source_text_command(const struct source_texts *texts, struct source_text *text)
{
    struct slice left = slice_from(source_text_commands(texts, text), text->commands_at);
    ptrdiff_t lf = slice_find(left, '\n');
    CHECK(lf >= 0);
    text->commands_at += (uint32_t)lf + 1;
    return slice_part(left, 0, (size_t)lf + 1);
}

/* ---- blocks ---- */

static int id_line_write(const struct source_texts *texts, char *out, size_t capacity)
{
    return snprintf(out, capacity, ID_FIELD "%s.%02u.%0*u\r\n", texts->options->id_prefix,
                    texts->thread, ID_DIGITS, 0U);
}

int source_texts_init(struct source_texts *texts, const struct source_options *options,
                      unsigned thread, uint32_t sessions)
{
    *texts = (struct source_texts) { .options = options, .thread = thread };
    texts->id_line_bytes = (size_t)id_line_write(texts, NULL, 0);
    int r = content_init(texts);
    if (r < 0)
        return r;
    size_t command = SOURCE_ADDRESS_MAX + NUMBER_MAX + COMMAND_SPARE;
    texts->commands_max = command * (1 + (size_t)options->recipients) + COMMAND_SPARE;
    /* One more for the terminator that snprintf puts behind the line of the id. */
    texts->block_bytes = texts->commands_max + own_bytes(texts) + 1;
    texts->blocks_bytes = texts->block_bytes * sessions;
    void *blocks = mmap(NULL, texts->blocks_bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (blocks == MAP_FAILED)
        return -ENOMEM;
    texts->blocks = blocks;
    return 0;
}

void source_texts_free(struct source_texts *texts)
{
    if (texts->blocks != NULL)
        munmap(texts->blocks, texts->blocks_bytes);
    free(texts->rest);
    texts->blocks = NULL;
    texts->rest = NULL;
}

void source_text_init(struct source_texts *texts, struct source_text *text, uint32_t session)
{
    *text = (struct source_text) { .block = texts->blocks + session * texts->block_bytes };
    if (texts->options->idle)
        return; /* its pages stay untouched */
    uint8_t *content = content_at(texts, text);
    int size = id_line_write(texts, (char *)content, texts->id_line_bytes + 1);
    CHECK((size_t)size == texts->id_line_bytes);
    if (texts->small)
        memcpy(content + texts->id_line_bytes, texts->rest, texts->rest_bytes);
}
