/*
 * config_platform.c - mail platforms, which send for all of their customers alike
 *
 * A connector that knows a platform knows any of its customers (CONNECTORS 4.6), so the linter has
 * to know platforms. The list below is one of November 2026; inbound-defaults { platforms = FILE }
 * takes another one in its place, in the same form: a domain or a network a line, and behind it the
 * header field, if there is one, that the platform sets itself, so that nobody else's says whose
 * mail it is. '#' begins a comment.
 *
 * Bounds: PLATFORMS_MAX lines that say something, PLATFORM_FILE_MAX octets.
 */
#include <errno.h>
#include <stdio.h>

#include "core/check.h"
#include "mta/config_build.h"

enum { PLATFORMS_MAX = 4'096, PLATFORM_FILE_MAX = 1 << 20 };

static const char built_in[] =
    /* Exchange Online: its certificate names, and what its SPF record lists */
    "protection.outlook.com X-OriginatorOrg\n"
    "mail.onmicrosoft.com X-OriginatorOrg\n"
    "40.92.0.0/15 X-OriginatorOrg\n"
    "40.107.0.0/16 X-OriginatorOrg\n"
    "52.100.0.0/14 X-OriginatorOrg\n"
    "104.47.0.0/17 X-OriginatorOrg\n"
    "2a01:111:f400::/48 X-OriginatorOrg\n"
    "2a01:111:f403::/48 X-OriginatorOrg\n"
    /* Google Workspace and Gmail */
    "google.com\n"
    "35.190.247.0/24\n"
    "64.233.160.0/19\n"
    "66.102.0.0/20\n"
    "66.249.80.0/20\n"
    "72.14.192.0/18\n"
    "74.125.0.0/16\n"
    "108.177.8.0/21\n"
    "173.194.0.0/16\n"
    "209.85.128.0/17\n"
    "216.58.192.0/19\n"
    "216.239.32.0/19\n"
    "2001:4860:4000::/36\n"
    "2404:6800:4000::/36\n"
    "2607:f8b0:4000::/36\n"
    "2800:3f0:4000::/36\n"
    "2a00:1450:4000::/36\n"
    "2c0f:fb50:4000::/36\n"
    /* Amazon SES */
    "amazonses.com\n"
    "54.240.0.0/17\n"
    "69.169.224.0/20\n"
    "76.223.128.0/18\n"
    "199.127.232.0/22\n"
    "199.255.192.0/22\n"
    /* others that send in bulk, or filter */
    "sendgrid.net\n"
    "149.72.0.0/16\n"
    "159.183.0.0/16\n"
    "167.89.0.0/17\n"
    "168.245.0.0/17\n"
    "208.117.48.0/20\n"
    "mailgun.net\n"
    "mailgun.org\n"
    "pphosted.com\n"
    "mimecast.com\n"
    "messagelabs.com\n"
    "mandrillapp.com\n"
    "sparkpostmail.com\n"
    "mtasv.net\n"
    "zoho.com\n"
    "mxlogic.net\n";

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\r';
}

/* The next word of the line, which loses it. */
static struct slice take_word(struct slice *line)
{
    size_t begin = 0;
    while (begin < line->size && is_blank(line->data[begin]))
        begin++;
    size_t end = begin;
    while (end < line->size && !is_blank(line->data[end]))
        end++;
    struct slice word = slice_part(*line, begin, end - begin);
    *line = slice_from(*line, end);
    return word;
}

/* 1: it says something; 0: it says nothing; -EINVAL. */
static int line_read(struct config_builder *builder, struct slice line, struct platform *platform)
{
    ptrdiff_t mark = slice_find(line, '#');
    if (mark >= 0)
        line = slice_part(line, 0, (size_t)mark);
    struct slice subject = take_word(&line), field = take_word(&line);
    char name[PATTERN_TEXT_MAX];
    if (subject.size == 0)
        return 0;
    if (take_word(&line).size > 0 || field.size > HEADER_NAME_MAX)
        return -EINVAL;
    *platform = (struct platform) { .field = config_take_lower(builder, field) };
    if (net_parse_prefix(subject, &platform->network) == 0) {
        platform->is_network = true;
        return 1;
    }
    int size = pattern_normalise(subject, name);
    if (size <= 0 || *name == '[' || slice_find(subject, '/') >= 0)
        return -EINVAL;
    platform->name = config_take_lower(builder, slice_of(name, (size_t)size));
    return 1;
}

static void text_read(struct config_builder *builder, struct slice text, const char *file,
                      struct platforms *platforms)
{
    unsigned line = 0, lines = 1;
    for (size_t i = 0; i < text.size; i++)
        lines += text.data[i] == '\n';
    struct platform *list =
        config_take(builder, MIN(lines, (unsigned)PLATFORMS_MAX), sizeof(*list));
    while (list != NULL && text.size > 0) {
        ptrdiff_t newline = slice_find(text, '\n');
        struct slice part = newline < 0 ? text : slice_part(text, 0, (size_t)newline);
        text = slice_from(text, part.size + 1);
        line++;
        struct platform platform;
        int r = line_read(builder, part, &platform);
        if (r == 1 && platforms->count == PLATFORMS_MAX) {
            config_report_add(builder->report, CONFIG_ERROR, file, line, "",
                              "more than %d platforms and networks; join networks", PLATFORMS_MAX);
            break;
        }
        if (r == 1)
            list[platforms->count++] = platform;
        else if (r < 0)
            config_report_add(builder->report, CONFIG_ERROR, file, line, "",
                              "`%.*s` is no domain or network with at most one header field behind "
                              "it; write for example protection.outlook.com X-OriginatorOrg",
                              (int)MIN(part.size, (size_t)80), (const char *)part.data);
    }
    platforms->list = list;
}

void config_build_platforms(struct config_builder *builder)
{
    struct config_section section = config_file_section(builder->file, "inbound-defaults", 0);
    struct platforms *platforms = &builder->config->platforms;
    const struct config_value *file = config_file_single(&section, "platforms");
    if (file == NULL || builder->elsewhere) {
        text_read(builder, slice_of(built_in, sizeof(built_in) - 1), "", platforms);
        return;
    }
    uint8_t *text = config_take(builder, PLATFORM_FILE_MAX, 1);
    FILE *in = text == NULL ? NULL : fopen(file->text, "re");
    if (text != NULL && in == NULL)
        config_file_error(&section, "platforms", file->line, "%.200s: %s; write a list there",
                          file->text, strerror(errno));
    if (in == NULL)
        return;
    size_t size = fread(text, 1, PLATFORM_FILE_MAX, in);
    if (ferror(in) != 0 || size == PLATFORM_FILE_MAX)
        config_file_error(&section, "platforms", file->line,
                          "%.200s cannot be read, or has a megabyte or more; write a list of "
                          "domains and networks there",
                          file->text);
    else
        text_read(builder, slice_of(text, size), config_take_string(builder, file->text),
                  platforms);
    fclose(in);
}

/* ---- looking up ---- */

const struct platform *platform_of_name(const struct platforms *platforms, struct slice name)
{
    if (name.size > 2 && name.data[0] == '*')
        name = slice_from(name, 2);
    for (unsigned i = 0; i < platforms->count; i++) {
        const struct slice platform = platforms->list[i].name;
        if (platforms->list[i].is_network || !slice_ends_nocase(name, platform))
            continue;
        if (name.size == platform.size || name.data[name.size - platform.size - 1] == '.')
            return &platforms->list[i];
    }
    return NULL;
}

bool platform_is_built_in(struct slice name)
{
    struct slice text = slice_of(built_in, sizeof(built_in) - 1);
    while (text.size > 0) {
        struct slice line = slice_part(text, 0, (size_t)slice_find(text, '\n'));
        text = slice_from(text, line.size + 1);
        const struct platform one = { .name = take_word(&line) };
        if (platform_of_name(&(struct platforms) { &one, 1 }, name) != NULL)
            return true;
    }
    return false;
}

const struct platform *platform_of_network(const struct platforms *platforms,
                                           const struct net_prefix *network)
{
    struct net_address first = { .port = 0 }, other = { .port = 0 };
    memcpy(first.octets, network->octets, sizeof(first.octets));
    for (unsigned i = 0; i < platforms->count; i++) {
        const struct net_prefix *prefix = &platforms->list[i].network;
        memcpy(other.octets, prefix->octets, sizeof(other.octets));
        if (platforms->list[i].is_network && (net_in(prefix, &first) || net_in(network, &other)))
            return &platforms->list[i];
    }
    return NULL;
}

bool platform_has_field(const struct platforms *platforms, struct slice field)
{
    for (unsigned i = 0; i < platforms->count; i++)
        if (field.size > 0 && slice_equal(platforms->list[i].field, field))
            return true;
    return false;
}
