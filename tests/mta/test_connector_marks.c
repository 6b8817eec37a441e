/*
 * test_connector_marks.c - what is blocked is on disk, and a file that is not ours is refused
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mta/connector_marks.h"

static char directory[64];
static char path[128];
static struct connector_marks marks;
static char why[CONNECTOR_MARKS_WHY_MAX];

static void setup(void)
{
    snprintf(directory, sizeof(directory), "/tmp/ringpost-marks.XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/marks.json", directory);
    cr_assert_eq(connector_marks_read(&marks, path, why), 0, "%s", why);
}

static void teardown(void)
{
    connector_marks_free(&marks);
    unlink(path);
    cr_assert_eq(rmdir(directory), 0, "something else was left there");
}

TestSuite(connector_marks, .init = setup, .fini = teardown);

static void read_again(void)
{
    connector_marks_free(&marks);
    cr_assert_eq(connector_marks_read(&marks, path, why), 0, "%s", why);
}

static struct connector_mark mark_of(enum connector_direction direction, const char *name,
                                     const char *reason)
{
    struct connector_mark mark = { .direction = direction, .at = 1'700'000'000 };
    snprintf(mark.name, sizeof(mark.name), "%s", name);
    snprintf(mark.reason, sizeof(mark.reason), "%s", reason);
    snprintf(mark.by, sizeof(mark.by), "root");
    return mark;
}

static void set(enum connector_direction direction, const char *name, const char *reason)
{
    const struct connector_mark mark = mark_of(direction, name, reason);
    cr_assert_eq(connector_marks_set(&marks, &mark), 0);
}

static void expect_refused(const char *text)
{
    FILE *file = fopen(path, "we");
    cr_assert_not_null(file);
    cr_assert(fputs(text, file) >= 0);
    cr_assert_eq(fclose(file), 0);
    connector_marks_free(&marks);
    cr_assert_eq(connector_marks_read(&marks, path, why), -EBADMSG, "%s", text);
    cr_assert_neq(*why, '\0');
}

Test(connector_marks, a_file_that_is_not_what_was_written)
{
    expect_refused("");
    expect_refused("{\"format\": 1, \"blocked\": [");
    expect_refused("{\"format\": 2, \"blocked\": []}");
    expect_refused("{\"format\": 1}");
    expect_refused("{\"format\": 1, \"blocked\": [{\"name\": \"bank\"}]}");
    expect_refused("{\"format\": 1, \"blocked\": [{\"direction\": \"up\", \"name\": \"bank\", "
                   "\"reason\": \"x\", \"by\": \"root\", \"at\": 1}]}");
    expect_refused("{\"format\": 1, \"blocked\": [{\"direction\": \"in\", \"name\": \"\", "
                   "\"reason\": \"x\", \"by\": \"root\", \"at\": 1}]}");
}

Test(connector_marks, no_file_is_no_mark)
{
    cr_assert_eq(marks.count, 0);
    cr_assert_null(connector_marks_find(&marks, CONNECTOR_IN, "bank"));
    cr_assert_eq(connector_marks_clear(&marks, CONNECTOR_IN, "bank"), -ENOENT);
}

Test(connector_marks, are_there_after_a_restart)
{
    set(CONNECTOR_IN, "bank", "sends \"invoices\" \xc3\xa4");
    set(CONNECTOR_OUT, "bank", "not theirs");
    set(CONNECTOR_IN, "site", "stolen");
    set(CONNECTOR_IN, "site", "stolen key");
    cr_assert_eq(connector_marks_clear(&marks, CONNECTOR_OUT, "bank"), 0);
    read_again();
    cr_assert_eq(marks.count, 2);
    cr_assert_null(connector_marks_find(&marks, CONNECTOR_OUT, "bank"));
    const struct connector_mark *bank = connector_marks_find(&marks, CONNECTOR_IN, "bank");
    cr_assert_not_null(bank);
    cr_assert_str_eq(bank->reason, "sends \"invoices\" \xc3\xa4");
    cr_assert_str_eq(bank->by, "root");
    cr_assert_eq(bank->at, 1'700'000'000);
    cr_assert_str_eq(connector_marks_find(&marks, CONNECTOR_IN, "site")->reason, "stolen key");
}

Test(connector_marks, what_cannot_be_written_is_not_so)
{
    set(CONNECTOR_IN, "bank", "x");
    const struct connector_mark bad = mark_of(CONNECTOR_IN, "site", "\xff");
    cr_assert_lt(connector_marks_set(&marks, &bad), 0);
    cr_assert_null(connector_marks_find(&marks, CONNECTOR_IN, "site"));
    snprintf(marks.path, sizeof(marks.path), "%s/none/marks.json", directory);
    const struct connector_mark mark = mark_of(CONNECTOR_IN, "bank", "y");
    cr_assert_eq(connector_marks_set(&marks, &mark), -ENOENT);
    cr_assert_str_eq(connector_marks_find(&marks, CONNECTOR_IN, "bank")->reason, "x");
    cr_assert_eq(connector_marks_clear(&marks, CONNECTOR_IN, "bank"), -ENOENT);
    cr_assert_not_null(connector_marks_find(&marks, CONNECTOR_IN, "bank"));
}
