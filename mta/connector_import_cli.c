/*
 * connector_import_cli.c - `ringpost connector import`: files of Exchange's cmdlets to our sections
 *
 *   file --UTF-16 or UTF-8--> JSON documents --one list--> exchange_import --> standard output
 *
 * Windows PowerShell writes UTF-16 when it is sent into a file by `>`, and appends by `>>`, so a
 * file may have several documents behind one another. Bounds: IMPORT_BYTES_MAX of a file.
 */
#include <errno.h>
#include <getopt.h>
#include <iconv.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/slice.h"
#include "mta/connector_cli.h"
#include "mta/exchange_import.h"

enum { IMPORT_BYTES_MAX = 64 << 20, READ_BYTES = 1 << 16 };

static const char help[] =
    "ringpost connector import FILE...\n"
    "\n"
    "Reads what the cmdlets of Exchange Online print as JSON, and writes connectors for our\n"
    "configuration on standard output, all of them in state = test:\n"
    "  Get-InboundConnector  | ConvertTo-Json -Depth 4 > inbound.json\n"
    "  Get-OutboundConnector | ConvertTo-Json -Depth 4 > outbound.json\n"
    "  ringpost connector import inbound.json outbound.json > connectors.conf\n"
    "Name both files at once: an outbound connector for all mail needs to know the inbound one "
    "that\n"
    "it comes back through. FILE - is standard input.\n"
    "\n"
    "What cannot be carried over is a comment in its section and a warning on standard error; a\n"
    "connector that cannot be one here at all is written as a comment, and is an error. Put the\n"
    "result into a configuration that has relay { domains }, `ringpost check` it, look at it.\n"
    "Exit status: 0 all were written (maybe with warnings), 1 an error, 2 usage.\n";

/* All of a file, to be freed; NULL with the reason in *why. */
static char *file_read(const char *path, size_t *size, const char **why)
{
    FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
    char *text = NULL;
    size_t got = 1;
    *size = 0;
    if (file == NULL) {
        *why = strerror(errno);
        return NULL;
    }
    while (got > 0 && *size <= IMPORT_BYTES_MAX) {
        char *more = realloc(text, *size + READ_BYTES);
        if (more == NULL)
            break;
        text = more;
        got = fread(text + *size, 1, READ_BYTES, file);
        *size += got;
    }
    *why = got == 0 && ferror(file) == 0 ? NULL : "too large, or it cannot be read";
    if (file != stdin)
        fclose(file);
    if (*why == NULL)
        return text;
    free(text);
    return NULL;
}

/* UTF-16 with its mark to UTF-8, in memory of its own. */
static char *utf16_decode(char *text, size_t *size, const char **why)
{
    iconv_t way = iconv_open("UTF-8", "UTF-16");
    size_t room = *size * 2 + 4, left = *size;
    char *out = malloc(room), *in_at = text, *out_at = out;
    size_t done =
        way == (iconv_t)-1 || out == NULL ? (size_t)-1 : iconv(way, &in_at, &left, &out_at, &room);
    if (way != (iconv_t)-1)
        iconv_close(way);
    free(text);
    if (done == (size_t)-1) {
        free(out);
        *why = "begins like UTF-16, and is none";
        return NULL;
    }
    *size = (size_t)(out_at - out);
    return out;
}

/* The objects of one document. */
static bool objects_take(json_t *document, json_t *list)
{
    const json_t *inner = json_is_object(document) ? json_object_get(document, "value") : document;
    size_t index;
    json_t *object;
    if (!json_is_array(inner))
        return json_is_object(document) && json_array_append(list, document) == 0;
    json_array_foreach(inner, index, object) if (!json_is_object(object) ||
                                                 json_array_append(list, object) < 0) return false;
    return true;
}

static bool documents_read(const char *path, const char *text, size_t size, json_t *list)
{
    size_t at = size >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    for (; at < size; at++) {
        json_error_t error;
        if (strchr(" \t\r\n", text[at]) != NULL)
            continue;
        json_t *document = json_loadb(text + at, size - at,
                                      JSON_DISABLE_EOF_CHECK | JSON_REJECT_DUPLICATES, &error);
        if (document == NULL) {
            fprintf(stderr, "%s: error: no JSON: %s; print it by ConvertTo-Json\n", path,
                    error.text);
            return false;
        }
        bool taken = objects_take(document, list);
        json_decref(document);
        if (!taken) {
            fprintf(stderr, "%s: error: is neither a connector nor a list of them\n", path);
            return false;
        }
        at += (size_t)error.position - 1;
    }
    return true;
}

static bool connectors_read(const char *path, json_t *list)
{
    const char *why = NULL;
    size_t size;
    char *text = file_read(path, &size, &why);
    bool marked = text != NULL && size >= 2 &&
                  (memcmp(text, "\xff\xfe", 2) == 0 || memcmp(text, "\xfe\xff", 2) == 0);
    if (marked)
        text = utf16_decode(text, &size, &why);
    if (text == NULL) {
        fprintf(stderr, "%s: error: %s\n", path, why);
        return false;
    }
    bool read = documents_read(path, text, size, list);
    free(text);
    return read;
}

int connector_import_main(int argc, char **argv)
{
    static const struct option options[] = {
        { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    optind = 0;
    for (int option; (option = getopt_long(argc, argv, "h", options, NULL)) != -1;) {
        fputs(help, option == 'h' ? stdout : stderr);
        return option == 'h' ? 0 : 2;
    }
    if (optind == argc) {
        fputs(help, stderr);
        return 2;
    }
    json_t *list = json_array();
    bool read = list != NULL;
    for (int i = optind; i < argc; i++)
        read = connectors_read(argv[i], list) && read;
    struct exchange_sums sums = { .connectors = 0 };
    if (read) {
        exchange_import(list, stdout, stderr, &sums);
        fprintf(stderr, "%u connectors, %u warnings, %u errors\n", sums.connectors, sums.losses,
                sums.errors);
    }
    json_decref(list);
    return read && sums.errors == 0 && fflush(stdout) == 0 ? 0 : 1;
}
