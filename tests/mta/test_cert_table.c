/*
 * test_cert_table.c - what stands in a certificate is never markup, and empty lines are left out
 */
#include "mta/cert_table.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

static char *printed(const char *column, enum cert_format format)
{
    json_error_t error;
    char *text = NULL;
    size_t size = 0;
    json_t *cells = json_loads(column, 0, &error);
    cr_assert_not_null(cells, "%s", error.text);
    json_t *table = json_pack("{s:s, s:s, s:[s], s:[{s:s, s:[s], s:[o]}]}", "node", "mx.<b>.test",
                              "as_of", "2026-11-26", "firewall", "crl.test:80", "certificates",
                              "title", "node", "used_by", "listener in", "columns", cells);
    FILE *out = open_memstream(&text, &size);
    cert_table_print(out, table, format);
    fclose(out);
    json_decref(table);
    return text;
}

static void has(char *text, const char *words)
{
    cr_expect(strstr(text, words) != NULL, "no `%s` in\n%s", words, text);
}

static void has_not(char *text, const char *words)
{
    cr_expect(strstr(text, words) == NULL, "`%s` in\n%s", words, text);
}

#define COLUMN                                                                                     \
    "{\"role\": \"current\", \"organisation\": \"A<i>|\\\"'&*_[x](y)\", \"unit\": \"\","           \
    " \"crl\": [], \"names\": [\"a.test\", \"b.test\"]}"

Test(cert_table, html_has_entities)
{
    char *text = printed(COLUMN, CERT_HTML);
    has(text, "<title>Certificates of mx.&lt;b&gt;.test</title>");
    has(text, "<td>A&lt;i&gt;|&quot;&#39;&amp;*_[x](y)</td>");
    has(text, "<td>a.test<br>b.test</td>");
    has(text, "<li>crl.test:80</li>");
    has_not(text, "<b>");
    has_not(text, "<i>");
    has_not(text, "Organisational unit");
    has_not(text, "CRL<");
    cr_expect_str_eq(text + strlen(text) - strlen("</body>\n</html>\n"), "</body>\n</html>\n");
    free(text);
}

Test(cert_table, markdown_has_backslashes_and_entities)
{
    char *text = printed(COLUMN, CERT_MARKDOWN);
    has(text, "# Certificates of mx.&lt;b&gt;.test\n");
    has(text, "\n|  | current |\n|---|---|\n");
    has(text, "| Organisation | A&lt;i&gt;\\|&quot;&#39;&amp;\\*\\_\\[x\\]\\(y\\) |\n");
    has(text, "| Certificate name | a.test<br>b.test |\n");
    has_not(text, "Organisational unit");
    free(text);
}

Test(cert_table, text_is_as_it_is)
{
    char *text = printed(COLUMN, CERT_TEXT);
    has(text, "Certificates of mx.<b>.test, as of 2026-11-26\n");
    has(text, "\n    Organisation          A<i>|\"'&*_[x](y)\n");
    has(text, "\n    Certificate name      a.test\n                          b.test\n");
    has(text, "\n    crl.test:80\n");
    has_not(text, "unit");
    free(text);
}
