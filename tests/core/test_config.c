/*
 * test_config.c - durations, sizes and shares, and files that are wrong in one place
 */
#include "core/config.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char path[64];
static struct config_errors errors;

static cfg_opt_t *schema(void)
{
    static cfg_opt_t listener[] = {
        CFG_STR_LIST("address", "{}", CFGF_NONE), CFG_STR("idle", "5m", CFGF_NONE),
        CFG_STR("size", "50M", CFGF_NONE),        CFG_STR("share", "10%", CFGF_NONE),
        CFG_INT("backlog", 128, CFGF_NONE),       CFG_END()
    };
    static cfg_opt_t top[] = {
        CFG_STR("hostname", "localhost", CFGF_NONE),
        CFG_SEC("listener", listener, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES), CFG_END()
    };
    return top;
}

static void make_path(void)
{
    strcpy(path, "/tmp/test_config_XXXXXX");
    close(mkstemp(path));
}

static void remove_path(void)
{
    unlink(path);
}

TestSuite(config, .init = make_path, .fini = remove_path);

static int open_text(const char *text, cfg_t **cfg)
{
    FILE *file = fopen(path, "we");
    cr_assert(fputs(text, file) >= 0);
    fclose(file);
    return config_open(path, schema(), &errors, cfg);
}

static void expect_error(unsigned index, unsigned line, const char *const words[], unsigned count)
{
    char place[96];
    snprintf(place, sizeof(place), "%s:%u: ", path, line);
    cr_assert_lt(index, errors.count);
    cr_assert_eq(strncmp(errors.text[index], place, strlen(place)), 0, "%s", errors.text[index]);
    for (unsigned i = 0; i < count; i++)
        cr_assert_neq(strstr(errors.text[index], words[i]), NULL, "%s in %s", words[i],
                      errors.text[index]);
}
#define EXPECT_ERROR(index, line, ...)                                                             \
    expect_error(index, line, (const char *const[]) { __VA_ARGS__ },                               \
                 sizeof((const char *const[]) { __VA_ARGS__ }) / sizeof(char *))

Test(config, what_is_not_a_duration)
{
    static const char *const bad[] = { "",    "5",  "s",    "-5s",  "5 s",  " 5s",
                                       "5s ", "5x", "1.5h", "5S",   "5m5h", "5s5s",
                                       "5ss", "00", "5s\n", "1h30", "+5s",  "5min" };
    uint64_t ms = 7;
    for (unsigned i = 0; i < ARRAY_COUNT(bad); i++)
        cr_assert_eq(config_duration(slice_of_string(bad[i]), &ms), -EINVAL, "%s", bad[i]);
    cr_assert_eq(config_duration(slice_of("5\0s", 3), &ms), -EINVAL);
    cr_assert_eq(config_duration(SLICE("18446744073709551616ms"), &ms), -ERANGE);
    cr_assert_eq(config_duration(SLICE("213503982335d"), &ms), -ERANGE);
    cr_assert_eq(config_duration(SLICE("213503982334d99999999999h"), &ms), -ERANGE);
    cr_assert_eq(ms, 7);
}

Test(config, durations)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = { { "0", 0 },
                 { "0s", 0 },
                 { "500ms", 500 },
                 { "5s", 5000 },
                 { "10m", 600'000 },
                 { "1h30m", 5'400'000 },
                 { "4d", 345'600'000 },
                 { "1d1h1m1s1ms", 90'061'001 },
                 { "18446744073709551615ms", UINT64_MAX } };
    uint64_t ms = 7;
    for (unsigned i = 0; i < ARRAY_COUNT(good); i++) {
        cr_assert_eq(config_duration(slice_of_string(good[i].text), &ms), 0, "%s", good[i].text);
        cr_assert_eq(ms, good[i].ms, "%s", good[i].text);
    }
}

Test(config, sizes)
{
    static const char *const bad[] = { "",    "K",   "1k",   "1 K", "-1",
                                       "1KB", "1K1", "1.5M", "1M ", "0x1" };
    uint64_t bytes = 7;
    for (unsigned i = 0; i < ARRAY_COUNT(bad); i++)
        cr_assert_eq(config_size(slice_of_string(bad[i]), &bytes), -EINVAL, "%s", bad[i]);
    cr_assert_eq(config_size(SLICE("16777216T"), &bytes), -ERANGE);
    cr_assert_eq(bytes, 7);
    cr_assert_eq(config_size(SLICE("16777215T"), &bytes), 0);
    cr_assert_eq(bytes, UINT64_C(16777215) << 40);
    cr_assert_eq(config_size(SLICE("0"), &bytes), 0);
    cr_assert_eq(bytes, 0);
    cr_assert_eq(config_size(SLICE("64M"), &bytes), 0);
    cr_assert_eq(bytes, 64 << 20);
}

Test(config, shares)
{
    static const char *const bad[] = { "",      "%",   "5",   "5 %", "-5%", "5.%",
                                       "5.55%", "5.5", ".5%", "5%%", "5.%%" };
    unsigned share = 7;
    for (unsigned i = 0; i < ARRAY_COUNT(bad); i++)
        cr_assert_eq(config_share(slice_of_string(bad[i]), &share), -EINVAL, "%s", bad[i]);
    cr_assert_eq(config_share(SLICE("100.1%"), &share), -ERANGE);
    cr_assert_eq(config_share(SLICE("18446744073709551615%"), &share), -ERANGE);
    cr_assert_eq(share, 7);
    cr_assert_eq(config_share(SLICE("100%"), &share), 0);
    cr_assert_eq(share, 1000);
    cr_assert_eq(config_share(SLICE("12.5%"), &share), 0);
    cr_assert_eq(share, 125);
}

Test(config, a_file_that_is_not_there)
{
    cfg_t *cfg;
    cr_assert_eq(config_open("/no/such/file", schema(), &errors, &cfg), -ENOENT);
    cr_assert_eq(errors.count, 1);
    cr_assert_neq(strstr(errors.text[0], "/no/such/file"), NULL);
}

Test(config, a_key_that_nobody_knows)
{
    cfg_t *cfg;
    cr_assert_eq(open_text("hostname = \"mx\"\nlistener \"mx\" {\n  adress = { \"a\" }\n}\n", &cfg),
                 -EINVAL);
    EXPECT_ERROR(0, 3, "listener \"mx\"", "adress");
}

Test(config, syntax)
{
    cfg_t *cfg;
    cr_assert_eq(open_text("hostname = \"mx\"\n\nlistener {\n}\n", &cfg), -EINVAL);
    EXPECT_ERROR(0, 3, "listener");
    cr_assert_eq(open_text("listener \"a\" { backlog = many }\n", &cfg), -EINVAL);
    EXPECT_ERROR(0, 1, "backlog", "listener \"a\"");
    cr_assert_eq(open_text("listener \"a\" { }\nlistener \"a\" { }\n", &cfg), -EINVAL);
    EXPECT_ERROR(0, 2, "duplicate title 'a'");
}

Test(config, values_out_of_range_name_key_and_bounds)
{
    cfg_t *cfg;
    int r = open_text("listener \"mx\" {\n idle = 1h\n size = \"x\"\n share = \"90%\"\n"
                      " backlog = 0\n address = { \"a\", \"b\", \"c\" }\n}\n",
                      &cfg);
    cr_assert_eq(r, 0);
    cfg_t *mx = cfg_gettsec(cfg, "listener", "mx");
    const char *list[2];
    cr_assert_eq(config_get_duration(mx, "idle", 1000, 600'000, &errors), 1000);
    cr_assert_eq(config_get_size(mx, "size", 1024, 1 << 20, &errors), 1024);
    cr_assert_eq(config_get_share(mx, "share", 5, 500, &errors), 5);
    cr_assert_eq(config_get_number(mx, "backlog", 1, 10, &errors), 1);
    cr_assert_eq(config_get_list(mx, "address", list, 2, &errors), 2);
    cr_assert_eq(errors.count, 5);
    EXPECT_ERROR(0, 7, "listener \"mx\": idle:", "1h", "from 1s to 10m");
    EXPECT_ERROR(1, 7, "size:", "\"x\"", "from 1K to 1M");
    EXPECT_ERROR(2, 7, "share:", "90%", "from 0.5% to 50.0%");
    EXPECT_ERROR(3, 7, "backlog:", "0 is", "from 1 to 10");
    EXPECT_ERROR(4, 7, "address:", "3 values", "at most 2");
    cfg_free(cfg);
}

Test(config, more_complaints_than_are_kept)
{
    cfg_t *cfg;
    static char value[4 * CONFIG_ERROR_BYTES];
    memset(value, 'v', sizeof(value) - 1);
    cr_assert_eq(open_text("", &cfg), 0);
    for (unsigned i = 0; i < CONFIG_ERRORS_MAX + 6; i++)
        config_complain(&errors, cfg, value, "%s", value);
    cr_assert_eq(errors.count, CONFIG_ERRORS_MAX);
    cr_assert_eq(errors.more, 6);
    for (unsigned i = 0; i < CONFIG_ERRORS_MAX; i++)
        cr_assert_lt(strnlen(errors.text[i], CONFIG_ERROR_BYTES), CONFIG_ERROR_BYTES);
    cfg_free(cfg);
}

Test(config, a_good_file)
{
    cfg_t *cfg;
    int r =
        open_text("hostname = \"mx.example.org\"\n"
                  "listener \"mx\" { address = { \"0.0.0.0:25\", \"[::]:25\" } idle = \"90s\" }\n"
                  "listener \"submission\" { size = \"1G\" share = \"33.3%\" backlog = 7 }\n",
                  &cfg);
    cr_assert_eq(r, 0, "%s", errors.text[0]);
    cr_assert_eq(errors.count, 0);
    cr_assert_eq(cfg_size(cfg, "listener"), 2);
    cfg_t *mx = cfg_gettsec(cfg, "listener", "mx");
    cfg_t *submission = cfg_gettsec(cfg, "listener", "submission");
    const char *list[4];
    cr_assert_eq(config_get_list(mx, "address", list, 4, &errors), 2);
    cr_assert_str_eq(list[1], "[::]:25");
    cr_assert_eq(config_get_duration(mx, "idle", 0, UINT64_MAX, &errors), 90'000);
    cr_assert_eq(config_get_duration(submission, "idle", 0, UINT64_MAX, &errors), 300'000);
    cr_assert_eq(config_get_size(submission, "size", 0, UINT64_MAX, &errors), 1 << 30);
    cr_assert_eq(config_get_share(submission, "share", 0, 1000, &errors), 333);
    cr_assert_eq(config_get_number(submission, "backlog", 1, 10, &errors), 7);
    cr_assert_eq(errors.count, 0);
    cfg_free(cfg);
}
