/*
 * cli.c - reading a configuration, and lines for people made of the same objects as the JSON
 *
 * A command makes one JSON object of what it found; --json prints it, else its lines are made of
 * it. So both always say the same.
 */
#include "mta/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mta/config.h"

enum { LABEL_COLUMNS = 12 };

/* text NULL: from the file called name. told: also warnings about keys that begin so. */
static struct config *load(const char *text, const char *name, const char *told)
{
    struct config_report *report = calloc(1, sizeof(*report));
    struct config *config = NULL;
    if (report == NULL)
        return NULL;
    config_report_init(report);
    int r = text == NULL ? config_load(name, 1, report, &config)
                         : config_load_text(slice_of_string(text), name, 1, report, &config);
    for (unsigned i = 0; i < report->count; i++)
        if (r < 0 || (told != NULL && strncmp(report->messages[i].key, told, strlen(told)) == 0))
            fprintf(stderr, "%s:%u: %s: %s\n", report->messages[i].file, report->messages[i].line,
                    report->messages[i].key, report->messages[i].text);
    config_report_free(report);
    free(report);
    return r < 0 ? NULL : config;
}

struct config *cli_config(const char *file)
{
    return file != NULL ? load(NULL, file, NULL)
                        : load(config_default_text, "built-in default", NULL);
}

struct config *cli_config_told(const char *file)
{
    return load(NULL, file, "certificate \"");
}

struct config *cli_config_text(const char *text, const char *name)
{
    return load(text, name, NULL);
}

json_t *cli_string(const char *text)
{
    json_t *string = text == NULL ? NULL : json_string(text);
    return string == NULL ? json_null() : string;
}

const char *cli_text(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text == NULL ? "" : text;
}

void cli_line(const char *label, const char *words)
{
    if (*words != '\0')
        printf("  %-*s%s\n", LABEL_COLUMNS, label, words);
}

void cli_line_list(const char *label, const json_t *array)
{
    size_t count = json_array_size(array);
    if (count == 0)
        return;
    printf("  %-*s", LABEL_COLUMNS, label);
    for (size_t i = 0; i < count; i++)
        printf("%s%s", i == 0 ? "" : ", ", json_string_value(json_array_get(array, i)));
    printf("\n");
}

int cli_print_json(json_t *object, int status)
{
    int r = json_dumpf(object, stdout, JSON_INDENT(2) | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(6));
    putchar('\n');
    json_decref(object);
    return r < 0 ? 1 : status;
}

static int help(const char *group, const struct cli_command *commands, size_t count, FILE *out)
{
    int columns = 0;
    for (size_t i = 0; i < count; i++)
        if ((int)strlen(commands[i].name) > columns)
            columns = (int)strlen(commands[i].name);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "ringpost %s %-*s  %s\n", group, columns, commands[i].name, commands[i].words);
    fputs("\nEach has --help.\n", out);
    return out == stdout ? 0 : 2;
}

int cli_dispatch(const char *group, const struct cli_command *commands, size_t count, int argc,
                 char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0)
        return help(group, commands, count, stdout);
    for (size_t i = 0; i < count; i++)
        if (strcmp(name, commands[i].name) == 0)
            return commands[i].main(argc - 1, argv + 1);
    return help(group, commands, count, stderr);
}
