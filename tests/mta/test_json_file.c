/*
 * test_json_file.c - all of it, or what was there before
 */
#include "mta/json_file.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

Test(json_file, is_written_and_replaced_as_a_whole)
{
    char directory[] = "/tmp/ringpost-json.XXXXXX", path[64], beside[72];
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/a.json", directory);
    snprintf(beside, sizeof(beside), "%s.new", path);
    for (int i = 1; i <= 2; i++) {
        json_t *root = json_pack("{s:i, s:s}", "number", i, "text", "na\xc3\xafve");
        cr_assert_eq(json_file_write(path, root, 0600), 0);
        json_t *back = json_load_file(path, 0, NULL);
        cr_assert(json_equal(root, back));
        json_decref(back);
        json_decref(root);
    }
    struct stat is;
    cr_assert_eq(stat(path, &is), 0);
    cr_assert_eq(is.st_mode & 0777, 0600);
    cr_assert_lt(access(beside, F_OK), 0);

    /* A link that waits there is not written through, and the file stays what it is. */
    json_t *other = json_pack("{s:i}", "number", 3);
    cr_assert_eq(symlink("/dev/null", beside), 0);
    cr_assert_eq(json_file_write(path, other, 0600), -ELOOP);
    cr_assert_eq(json_file_write(path, NULL, 0600), -EINVAL);
    json_t *back = json_load_file(path, 0, NULL);
    cr_assert_eq(json_integer_value(json_object_get(back, "number")), 2);
    json_decref(back);
    json_decref(other);
    unlink(beside);
    unlink(path);
    rmdir(directory);
}
