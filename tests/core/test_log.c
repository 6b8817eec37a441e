/*
 * test_log.c - lines that hold together whatever is put into them, and a writer that loses none
 * without saying so
 */
#include "core/log.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/check.h"

static char directory[64];
static char path[96];
static char other_path[96];
static const int64_t wall_us = INT64_C(1'795'342'502'113'999); /* 2026-11-22T10:15:02.113 */

static void make_directory(void)
{
    strcpy(directory, "/tmp/test_log_XXXXXX");
    cr_assert_neq(mkdtemp(directory), NULL);
    snprintf(path, sizeof(path), "%s/log", directory);
    snprintf(other_path, sizeof(other_path), "%s/log.1", directory);
}

static void remove_directory(void)
{
    unlink(path);
    unlink(other_path);
    rmdir(directory);
}

TestSuite(log, .init = make_directory, .fini = remove_directory);

static void pause_briefly(void)
{
    nanosleep(&(struct timespec) { .tv_nsec = 5'000'000 }, NULL);
}

static char *file_text(const char *name, size_t *size)
{
    FILE *file = fopen(name, "re");
    cr_assert_neq(file, NULL, "%s", name);
    char *text = NULL;
    size_t capacity = 0;
    ssize_t r = getdelim(&text, &capacity, '\0', file);
    *size = r < 0 ? 0 : (size_t)r;
    fclose(file);
    return text;
}

/* All lines there as an array of objects; each must be one, and end in a line feed. */
static json_t *lines_of(const char *text, size_t size)
{
    json_t *all = json_array();
    for (size_t at = 0; at < size;) {
        const char *end = memchr(text + at, '\n', size - at);
        cr_assert_neq(end, NULL, "no line feed at the end");
        size_t line = (size_t)(end - text) - at;
        cr_assert(line + 1 <= LOG_LINE_MAX);
        json_error_t error;
        json_t *object = json_loadb(text + at, line, JSON_REJECT_DUPLICATES, &error);
        cr_assert(json_is_object(object), "%s in: %.*s", error.text, (int)line, text + at);
        json_array_append_new(all, object);
        at += line + 1;
    }
    return all;
}

static json_t *file_lines(const char *name)
{
    size_t size;
    char *text = file_text(name, &size);
    json_t *all = lines_of(text, size);
    free(text);
    return all;
}

static struct log_writer *start(const char *name)
{
    struct log_writer *writer = NULL;
    cr_assert_eq(log_writer_start(name, LOG_INFO, &writer), 0);
    return writer;
}

static struct log *producer(struct log_writer *writer, int shard)
{
    struct log *log = NULL;
    cr_assert_eq(log_new(writer, shard, &log), 0);
    return log;
}

static const char *string_of(const json_t *line, const char *key)
{
    const char *value = json_string_value(json_object_get(line, key));
    cr_assert_neq(value, NULL, "no %s", key);
    return value;
}

Test(log, a_path_that_cannot_be_opened_is_an_error)
{
    struct log_writer *writer = NULL;
    cr_assert_eq(log_writer_start("/tmp/no/such/directory/log", LOG_INFO, &writer), -ENOENT);
    cr_assert_eq(log_writer_start(directory, LOG_INFO, &writer), -EISDIR);
}

Test(log, more_producers_than_there_is_room_for)
{
    struct log_writer *writer = start(path);
    struct log *log;
    for (unsigned i = 0; i < LOG_PRODUCERS_MAX; i++)
        producer(writer, (int)i);
    cr_assert_eq(log_new(writer, 1, &log), -ENFILE);
    log_writer_stop(writer);
}

Test(log, lines_that_are_not_wanted_cost_nothing_and_write_nothing)
{
    struct log_writer *writer = start(path);
    struct log *log = producer(writer, 1);
    struct log *logs[] = { NULL, log };
    for (unsigned i = 0; i < 2; i++) {
        struct log_line line;
        log_begin(&line, logs[i], LOG_DEBUG, wall_us, "unwanted");
        log_string(&line, "a", "b");
        log_list(&line, "list");
        log_item(&line, SLICE("x"));
        log_list_end(&line);
        log_format(&line, "f", "%d", 1);
        log_end(&line);
    }
    log_writer_stop(writer);
    json_t *lines = file_lines(path);
    cr_assert_eq(json_array_size(lines), 0);
    json_decref(lines);
}

/* What a reader of the line must get for one octet: itself, or U+00XX if it is not UTF-8. */
Test(log, every_octet_is_escaped_or_harmless)
{
    struct log_writer *writer = start(path);
    struct log *log = producer(writer, -1);
    for (unsigned octet = 0; octet < 256; octet++) {
        struct log_line line;
        uint8_t text[3] = { 'a', (uint8_t)octet, 'z' };
        log_begin(&line, log, LOG_INFO, wall_us, "octet");
        log_text(&line, "value", slice_of(text, 3));
        log_end(&line);
    }
    log_writer_stop(writer);
    size_t size;
    char *text = file_text(path, &size);
    for (size_t i = 0; i < size; i++)
        cr_assert(text[i] == '\n' || (text[i] >= 0x20 && text[i] < 0x7f), "octet %02x at %zu",
                  (uint8_t)text[i], i);
    free(text);
    json_error_t error;
    FILE *file = fopen(path, "re");
    for (unsigned octet = 0; octet < 256; octet++) {
        char line[512];
        cr_assert_neq(fgets(line, sizeof(line), file), NULL);
        json_t *object = json_loads(line, JSON_ALLOW_NUL, &error);
        cr_assert_neq(object, NULL, "%u: %s", octet, error.text);
        const json_t *value = json_object_get(object, "value");
        const char *got = json_string_value(value);
        size_t length = json_string_length(value);
        uint8_t want[4] = { 'a', (uint8_t)octet, 'z' };
        if (octet >= 0x80) {
            want[1] = (uint8_t)(0xc0 | octet >> 6);
            want[2] = (uint8_t)(0x80 | (octet & 0x3f));
            want[3] = 'z';
        }
        cr_assert_eq(length, octet >= 0x80 ? 4 : 3, "%u", octet);
        cr_assert_eq(memcmp(got, want, length), 0, "%u", octet);
        json_decref(object);
    }
    fclose(file);
}

Test(log, what_is_not_utf8_and_what_terminals_obey_is_escaped)
{
    static const struct {
        const char *in, *out;
    } cases[] = {
        { "\xc0\xaf", "\\u00c0\\u00af" },            /* overlong */
        { "\xe0\x80\xaf", "\\u00e0\\u0080\\u00af" }, /* overlong */
        { "\xed\xa0\x80", "\\u00ed\\u00a0\\u0080" }, /* surrogate */
        { "\xf4\x90\x80\x80", "\\u00f4\\u0090\\u0080\\u0080" },
        { "\xf8", "\\u00f8" },
        { "\xe2\x82", "\\u00e2\\u0082" }, /* cut */
        { "\xc2\x9b", "\\u009b" },        /* CSI */
        { "\xe2\x80\xae", "\\u202e" },    /* right to left */
        { "\xe2\x80\xa8", "\\u2028" },    /* line separator */
        { "\x1b[2J\x7f", "\\u001b[2J\\u007f" },
        { "\"\\", "\\\"\\\\" },
        { "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x93\xa7",
          "gr\xc3\xbc\xc3\x9f \xe2\x82\xac \xf0\x9f\x93\xa7" },
    };
    struct log_writer *writer = start(path);
    struct log *log = producer(writer, -1);
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
        struct log_line line;
        log_begin(&line, log, LOG_INFO, wall_us, "x");
        log_string(&line, "v", cases[i].in);
        log_end(&line);
    }
    log_writer_stop(writer);
    FILE *file = fopen(path, "re");
    for (unsigned i = 0; i < ARRAY_COUNT(cases); i++) {
        char got[512];
        char want[512];
        cr_assert_neq(fgets(got, sizeof(got), file), NULL);
        snprintf(want, sizeof(want),
                 "{\"t\":\"2026-11-22T10:15:02.113Z\",\"level\":\"info\","
                 "\"event\":\"x\",\"v\":\"%s\"}\n",
                 cases[i].out);
        cr_assert_str_eq(got, want);
    }
    fclose(file);
}

Test(log, a_value_of_any_length_makes_one_line)
{
    struct log_writer *writer = start(path);
    struct log *log = producer(writer, 3);
    static char big[3 * LOG_LINE_MAX];
    unsigned count = 0;
    for (unsigned kind = 0; kind < 3; kind++) {
        memset(big, kind == 0 ? 'x' : kind == 1 ? 1 : '"', sizeof(big));
        for (size_t size = 0; size < sizeof(big); size += size < 900 ? 300 : 7) {
            struct log_line line;
            if (count++ % 800 == 799) /* the ring has not room for all of them at once */
                for (unsigned i = 0; i < 20; i++)
                    pause_briefly();
            log_begin(&line, log, LOG_INFO, wall_us, "big");
            log_text(&line, "first", slice_of(big, size));
            log_list(&line, "list");
            for (unsigned i = 0; i < 4; i++)
                log_item(&line, slice_of(big, size / 2));
            log_list_end(&line);
            log_number(&line, "last", INT64_MIN);
            log_end(&line);
        }
    }
    uint64_t dropped = log_dropped(log);
    log_writer_stop(writer);
    json_t *lines = file_lines(path);
    unsigned found = 0;
    for (size_t i = 0; i < json_array_size(lines); i++) {
        const json_t *line = json_array_get(lines, i);
        if (strcmp(string_of(line, "event"), "big") != 0)
            continue;
        found++;
        bool cut = json_is_true(json_object_get(line, "cut"));
        size_t first = strlen(string_of(line, "first"));
        cr_assert(cut || json_is_integer(json_object_get(line, "last")));
        cr_assert(cut || json_array_size(json_object_get(line, "list")) == 4);
        cr_assert(first <= LOG_VALUE_MAX);
    }
    cr_assert_eq(found + dropped, count);
    json_decref(lines);
}

Test(log, a_list_too_long_for_a_line_is_cut_and_marked)
{
    struct log_writer *writer = start(path);
    struct log *log = producer(writer, 3);
    struct log_line line;
    log_begin(&line, log, LOG_INFO, wall_us, "many");
    log_list(&line, "to");
    for (unsigned i = 0; i < 1000; i++)
        log_item(&line, SLICE("somebody@example.org"));
    log_list_end(&line);
    log_string(&line, "after", "x");
    log_list(&line, "no_room_for_this_list_at_all");
    log_item(&line, SLICE("x"));
    log_list_end(&line);
    log_end(&line);
    log_writer_stop(writer);
    json_t *lines = file_lines(path);
    const json_t *only = json_array_get(lines, 0);
    cr_assert(json_is_true(json_object_get(only, "cut")));
    cr_assert_gt(json_array_size(json_object_get(only, "to")), 150);
    json_decref(lines);
}

Test(log, a_value_that_is_left_out_is_marked)
{
    struct log_writer *writer = start(path);
    struct log *log = producer(writer, 3);
    static char text[LOG_VALUE_MAX];
    memset(text, 'x', sizeof(text));
    for (size_t size = 600; size <= LOG_VALUE_MAX; size++) {
        struct log_line line;
        log_begin(&line, log, LOG_INFO, wall_us, "full");
        log_text(&line, "a", slice_of(text, LOG_VALUE_MAX));
        log_text(&line, "b", slice_of(text, LOG_VALUE_MAX));
        log_text(&line, "c", slice_of(text, LOG_VALUE_MAX));
        log_text(&line, "d", slice_of(text, MIN(size, (size_t)800)));
        log_number(&line, "last", (int64_t)size);
        log_text(&line, "e", slice_of(text, size - 600));
        log_bool(&line, "flag", true);
        log_end(&line);
        if (size % 100 == 0)
            for (unsigned i = 0; i < 10; i++)
                pause_briefly();
    }
    log_writer_stop(writer);
    json_t *lines = file_lines(path);
    unsigned whole = 0;
    unsigned left_out = 0;
    for (size_t i = 0; i < json_array_size(lines); i++) {
        const json_t *line = json_array_get(lines, i);
        bool all = json_is_true(json_object_get(line, "flag")) &&
                   strlen(string_of(line, "e")) ==
                       (size_t)json_integer_value(json_object_get(line, "last")) - 600;
        cr_assert_neq(all, json_is_true(json_object_get(line, "cut")));
        whole += all;
        left_out += !all;
    }
    cr_assert_gt(whole, 0);
    cr_assert_gt(left_out, 0);
    json_decref(lines);
}

Test(log, all_kinds_of_values)
{
    struct log_writer *writer = start(path);
    struct log *log = producer(writer, 63);
    struct net_address address;
    cr_assert_eq(net_parse(SLICE("192.0.2.1:25"), 0, &address), 0);
    struct log_line line;
    log_begin(&line, log, LOG_ERROR, INT64_C(951'782'400'000'000), "all");
    log_text(&line, "text", SLICE("t"));
    log_string(&line, "string", "");
    log_string(&line, "nothing", NULL);
    log_number(&line, "zero", 0);
    log_number(&line, "least", INT64_MIN);
    log_number(&line, "most", INT64_MAX);
    log_hex(&line, "hex", 0xab);
    log_bool(&line, "yes", true);
    log_bool(&line, "no", false);
    log_address(&line, "peer", &address);
    log_format(&line, "format", "%s-%d", "a\"b", 7);
    log_list(&line, "empty");
    log_list_end(&line);
    log_list(&line, "two");
    log_item(&line, SLICE("1"));
    log_item(&line, SLICE(""));
    log_list_end(&line);
    log_end(&line);
    log_begin(&line, log, LOG_WARNING, INT64_C(-5), "before 1970");
    log_end(&line);
    log_begin(&line, log, LOG_INFO, INT64_MAX, "the last moment");
    log_end(&line);
    log_writer_stop(writer);
    static const char want[] =
        "{\"t\":\"2000-02-29T00:00:00.000Z\",\"level\":\"error\",\"event\":\"all\",\"shard\":63,"
        "\"text\":\"t\",\"string\":\"\",\"zero\":0,\"least\":-9223372036854775808,"
        "\"most\":9223372036854775807,\"hex\":\"00000000000000ab\",\"yes\":true,\"no\":false,"
        "\"peer\":\"192.0.2.1\",\"format\":\"a\\\"b-7\",\"empty\":[],\"two\":[\"1\",\"\"]}\n"
        "{\"t\":\"1970-01-01T00:00:00.000Z\",\"level\":\"warning\",\"event\":\"before 1970\","
        "\"shard\":63}\n"
        "{\"t\":\"9999-12-31T23:59:59.999Z\",\"level\":\"info\",\"event\":\"the last moment\","
        "\"shard\":63}\n";
    size_t size;
    char *text = file_text(path, &size);
    cr_assert_str_eq(text, want);
    free(text);
    struct stat s;
    cr_assert_eq(stat(path, &s), 0);
    cr_assert_eq(s.st_mode & 0777 & ~0640U, 0);
}

Test(log, dates_agree_with_the_library)
{
    struct log_writer *writer = start(path);
    struct log *log = producer(writer, -1);
    for (int64_t day = 0; day < 80'000; day += 13) {
        struct log_line line;
        log_begin(&line, log, LOG_INFO, (day * 86'400 + 86'399) * 1'000'000, "x");
        time_t seconds = day * 86'400 + 86'399;
        struct tm tm;
        char want[64];
        gmtime_r(&seconds, &tm);
        strftime(want, sizeof(want), "{\"t\":\"%Y-%m-%dT%H:%M:%S.000Z\"", &tm);
        cr_assert_eq(memcmp(line.text, want, strlen(want)), 0, "%s", want);
    }
    log_writer_stop(writer);
}

static void numbered(struct log *log, int64_t number)
{
    struct log_line line;
    log_begin(&line, log, LOG_INFO, wall_us, "n");
    log_number(&line, "n", number);
    log_text(&line, "filling", SLICE("0123456789012345678901234567890123456789"));
    log_end(&line);
}

/* Numbers of one shard rise; those that are missing are those that log_dropped lines count. */
static int64_t count_numbered(const json_t *lines, int shard, int64_t *dropped)
{
    int64_t count = 0;
    int64_t last = -1;
    for (size_t i = 0; i < json_array_size(lines); i++) {
        const json_t *line = json_array_get(lines, i);
        const char *event = string_of(line, "event");
        if (strcmp(event, "log_dropped") == 0 &&
            json_integer_value(json_object_get(line, "of_shard")) == shard)
            *dropped += json_integer_value(json_object_get(line, "lines"));
        if (strcmp(event, "n") != 0 || json_integer_value(json_object_get(line, "shard")) != shard)
            continue;
        int64_t n = json_integer_value(json_object_get(line, "n"));
        cr_assert_gt(n, last);
        last = n;
        count++;
    }
    return count;
}

enum { MANY = 40'000 };

Test(log, a_full_disk_blocks_nobody_and_is_told_of_later)
{
    cr_assert_eq(symlink("/dev/full", path), 0);
    struct log_writer *writer = start(path);
    struct log *log = producer(writer, 5);
    for (int64_t i = 0; i < MANY; i++) /* more than a ring holds */
        numbered(log, i);
    cr_assert_gt(log_dropped(log), 0);
    cr_assert_eq(unlink(path), 0);
    log_writer_reopen(writer);
    log_writer_stop(writer);
    json_t *lines = file_lines(path);
    int64_t dropped = 0;
    int64_t count = count_numbered(lines, 5, &dropped);
    cr_assert_gt(dropped, 0);
    cr_assert_eq(count + dropped, MANY);
    json_decref(lines);
}

Test(log, a_disk_that_stays_full_does_not_hold_the_stop)
{
    cr_assert_eq(symlink("/dev/full", path), 0);
    struct log_writer *writer = start(path);
    numbered(producer(writer, 5), 1);
    log_writer_stop(writer);
}

/* The file's first line is that text, and one line feed is behind it; then come lines. */
static void assert_goes_on_behind(const char *text, size_t lines)
{
    size_t size;
    char *all = file_text(path, &size);
    const size_t first = strlen(text);
    cr_assert_gt(size, first + 1);
    cr_assert_eq(memcmp(all, text, first), 0);
    cr_assert_eq(memcmp(all + first, "\n{", 2), 0, "%s", all);
    json_t *rest = lines_of(all + first + 1, size - first - 1);
    free(all);
    cr_assert_eq(json_array_size(rest), lines);
    json_decref(rest);
}

static void append(const char *text)
{
    FILE *file = fopen(path, "ae");
    cr_assert_neq(file, NULL);
    cr_assert_geq(fputs(text, file), 0);
    cr_assert_eq(fclose(file), 0);
}

Test(log, behind_half_a_line_of_a_killed_process_a_line_begins)
{
    static const char half[] = "{\"t\":\"2026-11-22T10:15:02.113Z\",\"level\":\"in";
    append(half);
    struct log_writer *writer = start(path);
    numbered(producer(writer, 0), 1);
    log_writer_stop(writer);
    writer = start(path); /* a file of whole lines gets no other */
    numbered(producer(writer, 0), 2);
    log_writer_stop(writer);
    assert_goes_on_behind(half, 2);
}

Test(log, behind_half_a_line_of_a_file_that_is_opened_anew_a_line_begins)
{
    cr_assert_eq(symlink("/dev/full", path), 0);
    struct log_writer *writer = start(path);
    struct log *log = producer(writer, 0);
    numbered(log, 1);
    cr_assert_eq(unlink(path), 0);
    append("{\"half");
    log_writer_reopen(writer);
    numbered(log, 2);
    log_writer_stop(writer);
    assert_goes_on_behind("{\"half", 2);
}

Test(log, a_ring_that_goes_round_keeps_every_line)
{
    struct log_writer *writer = start(path);
    struct log *log = producer(writer, 5);
    struct stat s = { .st_size = 0 };
    for (int64_t batch = 0; batch < 8; batch++) { /* each less than a ring, all of them more */
        off_t before = s.st_size;
        for (int64_t i = 0; i < 3000; i++)
            numbered(log, batch * 3000 + i);
        for (unsigned i = 0; i < 2000 && s.st_size < before + 3000 * 100; i++) {
            pause_briefly();
            cr_assert_eq(stat(path, &s), 0);
        }
    }
    cr_assert_eq(log_dropped(log), 0);
    log_writer_stop(writer);
    json_t *lines = file_lines(path);
    int64_t dropped = 0;
    cr_assert_eq(count_numbered(lines, 5, &dropped), 24'000);
    cr_assert_eq(stat(path, &s), 0);
    cr_assert_gt(s.st_size, 2 * LOG_BUFFER_BYTES);
    json_decref(lines);
}

static void *produce(void *argument)
{
    for (int64_t i = 0; i < MANY; i++)
        numbered(argument, i);
    return NULL;
}

Test(log, two_producers_and_a_rotation_lose_no_line_unsaid)
{
    struct log_writer *writer = start(path);
    struct log *logs[2] = { producer(writer, 0), producer(writer, 1) };
    pthread_t threads[2];
    for (unsigned i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, produce, logs[i]), 0);
    for (unsigned i = 0; i < 4; i++)
        pause_briefly();
    cr_assert_eq(rename(path, other_path), 0);
    log_writer_reopen(writer);
    for (unsigned i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    log_writer_stop(writer);
    json_t *lines = file_lines(other_path);
    json_t *rest = file_lines(path);
    json_array_extend(lines, rest);
    for (int shard = 0; shard < 2; shard++) {
        int64_t dropped = 0;
        int64_t count = count_numbered(lines, shard, &dropped);
        cr_assert_eq(count + dropped, MANY, "%ld lines, %ld dropped", count, dropped);
    }
    json_decref(lines);
    json_decref(rest);
}

Test(log, a_reopen_that_fails_keeps_the_file)
{
    struct log_writer *writer = start(path);
    struct log *log = producer(writer, 0);
    cr_assert_eq(rename(path, other_path), 0);
    cr_assert_eq(mkdir(path, 0700), 0);
    log_writer_reopen(writer);
    numbered(log, 1);
    log_writer_stop(writer);
    rmdir(path);
    json_t *lines = file_lines(other_path);
    cr_assert_eq(json_array_size(lines), 2);
    bool told = false;
    for (size_t i = 0; i < 2; i++)
        told =
            told || strcmp(string_of(json_array_get(lines, i), "event"), "log_reopen_failed") == 0;
    cr_assert(told);
    json_decref(lines);
}

/* A reader of standard output that takes a little now and then: writes are partial. */
static void read_slowly(int fd, int sink)
{
    char bytes[1500];
    ssize_t size;
    unsigned turns = 0;
    while ((size = read(fd, bytes, sizeof(bytes))) > 0) {
        cr_assert_eq(write(sink, bytes, (size_t)size), size);
        if (turns++ % 32 == 0)
            nanosleep(&(struct timespec) { .tv_nsec = 1'000'000 }, NULL);
    }
}

struct reader {
    int from, to;
};

static void *reader_run(void *argument)
{
    struct reader *reader = argument;
    read_slowly(reader->from, reader->to);
    return NULL;
}

static void through(int ends[2])
{
    struct reader reader = { ends[0], open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600) };
    pthread_t thread;
    cr_assert_eq(dup2(ends[1], STDOUT_FILENO), STDOUT_FILENO);
    close(ends[1]);
    cr_assert_eq(pthread_create(&thread, NULL, reader_run, &reader), 0);
    struct log_writer *writer = start(NULL);
    struct log *logs[2] = { producer(writer, 0), producer(writer, 1) };
    /* The second one's lines are being written, in parts, while the first one's arrive. */
    for (int64_t i = 0; i < MANY / 8; i++)
        numbered(logs[1], i);
    for (int64_t i = 0; i < MANY / 8; i++) {
        numbered(logs[0], i);
        if (i % (MANY / 8 / 50) == 0)
            pause_briefly();
    }
    log_writer_stop(writer);
    close(STDOUT_FILENO);
    pthread_join(thread, NULL);
    close(reader.to);
    json_t *lines = file_lines(path);
    for (int shard = 0; shard < 2; shard++) {
        int64_t dropped = 0;
        int64_t count = count_numbered(lines, shard, &dropped);
        cr_assert_eq(count + dropped, MANY / 8, "%ld lines, %ld dropped", count, dropped);
    }
    json_decref(lines);
}

Test(log, a_slow_pipe_gets_whole_lines)
{
    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    fcntl(ends[1], F_SETPIPE_SZ, 4096);
    through(ends);
}

Test(log, a_slow_socket_gets_whole_lines)
{
    int ends[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    through(ends);
}

Test(log, a_pipe_that_nobody_reads_does_not_hold_the_stop)
{
    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    cr_assert_eq(dup2(ends[1], STDOUT_FILENO), STDOUT_FILENO);
    struct log_writer *writer = start("-");
    struct log *log = producer(writer, 0);
    for (int64_t i = 0; i < MANY; i++)
        numbered(log, i);
    log_writer_stop(writer);
    close(ends[0]);
    close(STDOUT_FILENO);
}

Test(log, a_pipe_whose_reader_went_away_is_no_signal)
{
    int ends[2];
    cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
    cr_assert_eq(dup2(ends[1], STDOUT_FILENO), STDOUT_FILENO);
    close(ends[1]);
    struct log_writer *writer = start(NULL);
    close(ends[0]);
    numbered(producer(writer, 0), 1);
    log_writer_stop(writer);
    close(STDOUT_FILENO);
}
