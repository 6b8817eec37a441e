/*
 * cert_table.c - the same cells three times over; each format has its own escape
 *
 * Names in certificates are their issuers' words, so nothing of a cell is ever markup: HTML has
 * entities, Markdown backslashes and entities, text has been made printable before it comes here.
 */
#include "mta/cert_table.h"

#include <string.h>

#include "core/compiler.h"
#include "mta/cli.h"

enum { LABEL_COLUMNS = 22 };

static const struct {
    const char *key;
    const char *label;
} lines[] = {
    { "presented", "Presented" },
    { "names", "Certificate name" },
    { "subject", "Subject" },
    { "organisation", "Organisation" },
    { "unit", "Organisational unit" },
    { "issuer", "Issuer" },
    { "root", "Root issuer" },
    { "root_sha256", "Root SHA-256" },
    { "key", "Key" },
    { "not_before", "Valid from" },
    { "not_after", "Valid until" },
    { "pin", "Pin (SPKI SHA-256)" },
    { "pin_base64", "Pin, base64" },
    { "fingerprint", "SHA-256" },
    { "serial", "Serial" },
    { "intermediates", "Intermediates" },
    { "tlsa", "TLSA" },
    { "crl", "CRL" },
    { "ocsp", "OCSP" },
    { "issuers", "Issuer certificates" },
    { "firewall", "To be let through" },
};

static const char page_begin[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<title>Certificates of %s</title>\n"
    "<style>\nbody { font-family: sans-serif; margin: 2em; }\n"
    "table { border-collapse: collapse; }\n"
    "th, td { border: 1px solid #999; padding: .3em .6em; text-align: left; "
    "vertical-align: top; overflow-wrap: anywhere; }\n"
    "thead th { background: #eee; }\n</style>\n</head>\n<body>\n";

/* ---- escapes ---- */

static const char *entity(char c)
{
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

static void put(FILE *out, const char *text, enum cert_format format)
{
    for (const char *at = text; *at != '\0'; at++) {
        const char *instead = format == CERT_TEXT ? NULL : entity(*at);
        if (instead != NULL)
            fputs(instead, out);
        else if (format == CERT_MARKDOWN && strchr("\\`*_[]{}()#+!|~$", *at) != NULL)
            fprintf(out, "\\%c", *at);
        else
            fputc(*at, out);
    }
}

/* Texts of a member, one below the other. */
static void put_cell(FILE *out, const json_t *cell, enum cert_format format)
{
    if (json_is_string(cell))
        put(out, json_string_value(cell), format);
    for (size_t i = 0; i < json_array_size(cell); i++) {
        if (i > 0)
            fputs("<br>", out);
        put(out, json_string_value(json_array_get(cell, i)), format);
    }
}

static bool is_empty(const json_t *cell)
{
    return json_array_size(cell) == 0 &&
           (!json_is_string(cell) || json_string_value(cell)[0] == '\0');
}

static bool is_in_none(const json_t *columns, const char *key)
{
    for (size_t i = 0; i < json_array_size(columns); i++)
        if (!is_empty(json_object_get(json_array_get(columns, i), key)))
            return false;
    return true;
}

/* ---- text ---- */

static void line(FILE *out, const char *label, const json_t *cell)
{
    if (json_is_string(cell) && !is_empty(cell))
        fprintf(out, "    %-*s%s\n", LABEL_COLUMNS, label, json_string_value(cell));
    for (size_t i = 0; i < json_array_size(cell); i++)
        fprintf(out, "    %-*s%s\n", LABEL_COLUMNS, i == 0 ? label : "",
                json_string_value(json_array_get(cell, i)));
}

static void text_certificate(FILE *out, const json_t *certificate)
{
    const json_t *columns = json_object_get(certificate, "columns");
    const json_t *used = json_object_get(certificate, "used_by");
    fprintf(out, "\n%s\n", cli_text(certificate, "title"));
    cli_line_list("used by", used);
    for (size_t i = 0; i < json_array_size(columns); i++) {
        const json_t *column = json_array_get(columns, i);
        fprintf(out, "  %s\n", cli_text(column, "role"));
        for (size_t k = 0; k < ARRAY_COUNT(lines); k++)
            line(out, lines[k].label, json_object_get(column, lines[k].key));
    }
}

/* ---- Markdown and HTML ---- */

static void markdown_grid(FILE *out, const json_t *columns)
{
    size_t count = json_array_size(columns);
    fputs("\n|  |", out);
    for (size_t i = 0; i < count; i++)
        fprintf(out, " %s |", cli_text(json_array_get(columns, i), "role"));
    fputs("\n|---|", out);
    for (size_t i = 0; i < count; i++)
        fputs("---|", out);
    fputc('\n', out);
    for (size_t k = 0; k < ARRAY_COUNT(lines); k++) {
        if (is_in_none(columns, lines[k].key))
            continue;
        fprintf(out, "| %s |", lines[k].label);
        for (size_t i = 0; i < count; i++) {
            fputc(' ', out);
            put_cell(out, json_object_get(json_array_get(columns, i), lines[k].key), CERT_MARKDOWN);
            fputs(" |", out);
        }
        fputc('\n', out);
    }
}

static void html_grid(FILE *out, const json_t *columns)
{
    size_t count = json_array_size(columns);
    fputs("<table>\n<thead><tr><th></th>", out);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "<th>%s</th>", cli_text(json_array_get(columns, i), "role"));
    fputs("</tr></thead>\n<tbody>\n", out);
    for (size_t k = 0; k < ARRAY_COUNT(lines); k++) {
        if (is_in_none(columns, lines[k].key))
            continue;
        fprintf(out, "<tr><th>%s</th>", lines[k].label);
        for (size_t i = 0; i < count; i++) {
            fputs("<td>", out);
            put_cell(out, json_object_get(json_array_get(columns, i), lines[k].key), CERT_HTML);
            fputs("</td>", out);
        }
        fputs("</tr>\n", out);
    }
    fputs("</tbody>\n</table>\n", out);
}

static void list(FILE *out, const json_t *texts, enum cert_format format)
{
    size_t count = json_array_size(texts);
    if (count == 0)
        return;
    fputs(format == CERT_HTML ? "<ul>\n" : "\n", out);
    for (size_t i = 0; i < count; i++) {
        fputs(format == CERT_HTML ? "<li>" : "- ", out);
        put(out, json_string_value(json_array_get(texts, i)), format);
        fputs(format == CERT_HTML ? "</li>\n" : "\n", out);
    }
    if (format == CERT_HTML)
        fputs("</ul>\n", out);
}

static void heading(FILE *out, unsigned level, const char *before, const char *text,
                    enum cert_format format)
{
    if (format == CERT_HTML)
        fprintf(out, "<h%u>%s", level, before);
    else
        fprintf(out, "%s%s %s", level == 1 ? "" : "\n", level == 1 ? "#" : "##", before);
    put(out, text, format);
    if (format == CERT_HTML)
        fprintf(out, "</h%u>\n", level);
    else
        fputc('\n', out);
}

static void marked_certificate(FILE *out, const json_t *certificate, enum cert_format format)
{
    heading(out, 2, "", cli_text(certificate, "title"), format);
    if (format == CERT_MARKDOWN)
        markdown_grid(out, json_object_get(certificate, "columns"));
    else
        html_grid(out, json_object_get(certificate, "columns"));
}

static void paragraph(FILE *out, const char *before, const char *text, enum cert_format format)
{
    fprintf(out, "%s%s", format == CERT_HTML ? "<p>" : "\n", before);
    put(out, text, format);
    fputs(format == CERT_HTML ? "</p>\n" : "\n", out);
}

void cert_table_print(FILE *out, const json_t *table, enum cert_format format)
{
    const char *node = cli_text(table, "node");
    const json_t *certificates = json_object_get(table, "certificates");
    const json_t *firewall = json_object_get(table, "firewall");
    if (format == CERT_HTML) {
        const char *cut = strstr(page_begin, "%s");
        fwrite(page_begin, 1, (size_t)(cut - page_begin), out);
        put(out, node, format);
        fputs(cut + 2, out);
    }
    if (format == CERT_TEXT) {
        fprintf(out, "Certificates of %s, as of %s\n", node, cli_text(table, "as_of"));
    } else {
        heading(out, 1, "Certificates of ", node, format);
        paragraph(out, "As of ", cli_text(table, "as_of"), format);
    }
    for (size_t i = 0; i < json_array_size(certificates); i++) {
        if (format == CERT_TEXT)
            text_certificate(out, json_array_get(certificates, i));
        else
            marked_certificate(out, json_array_get(certificates, i), format);
    }
    if (format == CERT_TEXT && json_array_size(firewall) > 0) {
        fputs("\nto be let through by firewalls of whoever verifies them\n", out);
        for (size_t i = 0; i < json_array_size(firewall); i++)
            fprintf(out, "    %s\n", json_string_value(json_array_get(firewall, i)));
    } else if (json_array_size(firewall) > 0) {
        heading(out, 2, "To be let through by firewalls of whoever verifies them", "", format);
        list(out, firewall, format);
    }
    if (format == CERT_HTML)
        fputs("</body>\n</html>\n", out);
}
