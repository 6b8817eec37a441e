/*
 * config_certificate.c - a certificate's next and former ones, and partner-expects "title" { }
 *
 * None of it is presented to anybody: it is for `ringpost cert`, and for warnings ahead of time. So
 * a file that cannot be read refuses no configuration.
 */
#include <stdio.h>
#include <time.h>

#include "mta/config_build.h"
#include "tls/tls_credential.h"

enum { DAYS_MAX = 3'650 };

/* ---- next and deprecated ---- */

/* The first moment of a day, in UTC; 0: it is none. */
static int64_t day_read(const char *text)
{
    struct tm tm = { 0 };
    const char *end = strptime(text, "%Y-%m-%d", &tm);
    const int day = tm.tm_mday;
    if (end == NULL || *end != '\0' || strlen(text) != sizeof("2026-12-01") - 1)
        return 0;
    const time_t at = timegm(&tm); /* makes the 31st of June the 1st of July */
    return at > 0 && tm.tm_mday == day ? at : 0;
}

static struct tls_credential *look(const struct config_section *section, const char *key,
                                   unsigned line, const char *chain, const char *chain_key)
{
    struct tls_credential *credential = NULL;
    char why[TLS_WHY_MAX];
    int r = *chain_key == '\0' ? tls_credential_look(chain, &credential, why)
                               : tls_credential_load(chain, chain_key, &credential, why);
    if (r < 0)
        config_file_warn(section, key, line, "%s", why);
    return r < 0 ? NULL : credential;
}

static void next_build(struct config_builder *builder, const struct config_section *section,
                       struct config_certificate *certificate)
{
    certificate->next = config_take_string(builder, config_file_text(section, "next", ""));
    certificate->next_key = config_take_string(builder, config_file_text(section, "next-key", ""));
    const struct config_value *day = config_file_single(section, "change-on");
    if (day != NULL && (certificate->change_on = day_read(day->text)) == 0)
        config_file_error(section, "change-on", day->line, "`%.64s` is no day; write 2026-12-01",
                          day->text);
    if (*certificate->next != '\0')
        certificate->next_credential =
            look(section, "next", 0, certificate->next, certificate->next_key);
    else if (*certificate->next_key != '\0' || day != NULL)
        config_file_error(section, "next", 0,
                          "is missing; write next = FILE (the chain that will take the place of "
                          "this one), or remove next-key and change-on");
}

static void deprecated_build(struct config_builder *builder, const struct config_section *section,
                             struct config_certificate *certificate)
{
    unsigned count;
    const struct config_value *values = config_file_list(section, "deprecated", &count);
    if (count > CONFIG_DEPRECATED_MAX) {
        config_file_error(section, "deprecated", values[CONFIG_DEPRECATED_MAX].line,
                          "more than %d of them; name those that have not expired",
                          CONFIG_DEPRECATED_MAX);
        count = CONFIG_DEPRECATED_MAX;
    }
    const char **names = config_take(builder, count, sizeof(*names));
    certificate->deprecated_credentials =
        config_take(builder, count, sizeof(*certificate->deprecated_credentials));
    if (names == NULL || certificate->deprecated_credentials == NULL)
        return;
    certificate->deprecated = names;
    for (unsigned i = 0; i < count; i++) {
        names[i] = config_take_string(builder, values[i].text);
        certificate->deprecated_credentials[i] =
            look(section, "deprecated", values[i].line, names[i], "");
        certificate->deprecated_count++;
    }
}

void config_certificate_life(struct config_builder *builder, const struct config_section *section,
                             struct config_certificate *certificate)
{
    next_build(builder, section, certificate);
    deprecated_build(builder, section, certificate);
}

void config_certificate_life_free(struct config_certificate *certificate)
{
    tls_credential_drop(certificate->next_credential);
    for (unsigned i = 0; i < certificate->deprecated_count; i++)
        tls_credential_drop(certificate->deprecated_credentials[i]);
}

/* ---- when to warn ---- */

static void days_sort(unsigned *days, unsigned count)
{
    for (unsigned i = 1; i < count; i++)
        for (unsigned k = i; k > 0 && days[k] > days[k - 1]; k--) {
            const unsigned more = days[k];
            days[k] = days[k - 1];
            days[k - 1] = more;
        }
}

void config_expiry_days(const struct config_section *section, struct config_tls *tls)
{
    static const unsigned usual[] = { 30, 14, 7, 3, 1 };
    unsigned count;
    const struct config_value *values = config_file_list(section, "expiry-days", &count);
    if (count > CONFIG_EXPIRY_DAYS_MAX) {
        config_file_error(section, "expiry-days", values[CONFIG_EXPIRY_DAYS_MAX].line,
                          "more than %d of them", CONFIG_EXPIRY_DAYS_MAX);
        count = CONFIG_EXPIRY_DAYS_MAX;
    }
    for (unsigned i = 0; i < count; i++) {
        uint64_t days;
        if (slice_to_u64(slice_of_string(values[i].text), DAYS_MAX, &days) < 0 || days == 0)
            config_file_error(section, "expiry-days", values[i].line,
                              "`%.32s` is no number of days, 1 to %d; write { 30, 14, 7, 3, 1 }",
                              values[i].text, DAYS_MAX);
        else
            tls->expiry_days[tls->expiry_days_count++] = (unsigned)days;
    }
    if (!config_file_given(section, "expiry-days"))
        for (; tls->expiry_days_count < ARRAY_COUNT(usual); tls->expiry_days_count++)
            tls->expiry_days[tls->expiry_days_count] = usual[tls->expiry_days_count];
    days_sort(tls->expiry_days, tls->expiry_days_count);
}

/* ---- what partners have recorded ---- */

static const struct config_value *values_of(const struct config_section *section, const char *key,
                                            unsigned *count)
{
    const struct config_value *values = config_file_list(section, key, count);
    if (*count > CONFIG_EXPECTED_MAX) {
        config_file_error(section, key, values[CONFIG_EXPECTED_MAX].line, "more than %d of them",
                          CONFIG_EXPECTED_MAX);
        *count = CONFIG_EXPECTED_MAX;
    }
    return values;
}

/* Digests of root certificates, and titles of bundles. */
static void roots_build(struct config_builder *builder, const struct config_section *section,
                        struct config_expectation *expectation)
{
    unsigned count;
    const struct config_value *values = values_of(section, "root", &count);
    uint8_t(*roots)[TLS_DIGEST_BYTES] = config_take(builder, count, sizeof(*roots));
    const struct config_roots **bundles = config_take(builder, count, sizeof(*bundles));
    for (unsigned i = 0; roots != NULL && bundles != NULL && i < count; i++) {
        if (config_parse_pin(values[i].text, roots[expectation->roots_count])) {
            expectation->roots_count++;
            continue;
        }
        if (strchr(values[i].text, ':') != NULL) {
            config_file_error(section, "root", values[i].line,
                              "`%.80s` is no digest; write sha256: and the 64 hex digits of the "
                              "root certificate, or the title of a roots section, or system",
                              values[i].text);
            continue;
        }
        const struct config_roots *found =
            config_roots_named(builder, section, "root", values[i].text);
        if (found != NULL)
            bundles[expectation->bundles_count++] = found;
    }
    expectation->roots = (const uint8_t(*)[TLS_DIGEST_BYTES])roots;
    expectation->bundles = bundles;
}

static void expectation_build(struct config_builder *builder, const struct config_section *section,
                              struct config_expectation *expectation)
{
    config_title_check(section);
    expectation->name = config_take_string(builder, section->title);
    expectation->line = section->line;
    const struct config_value *certificate = config_file_single(section, "certificate");
    if (certificate != NULL)
        expectation->certificate =
            config_certificate_named(builder, section, "certificate", certificate);
    unsigned count;
    const struct config_value *names = values_of(section, "name", &count);
    expectation->names =
        config_certificate_names(builder, section, "name", names, count, &expectation->names_count);
    expectation->pins = config_pins(builder, section, "pin", &expectation->pins_count);
    roots_build(builder, section, expectation);
    if (!config_file_given(section, "name") && !config_file_given(section, "pin") &&
        !config_file_given(section, "root") && !builder->partial)
        config_file_error(section, "name", 0,
                          "is missing, and so are pin and root; write what the partner compares: "
                          "name = { NAME }, pin = { \"sha256:..\" } or root = { TITLE }");
}

void config_build_expectations(struct config_builder *builder)
{
    struct config *config = builder->config;
    unsigned count =
        config_sections(builder, "partner-expects", CONFIG_EXPECTATIONS_MAX, "of them");
    struct config_expectation *list = config_take(builder, count, sizeof(*list));
    if (list == NULL)
        return;
    config->expectations = list;
    for (; config->expectations_count < count; config->expectations_count++) {
        struct config_section section =
            config_file_section(builder->file, "partner-expects", config->expectations_count);
        expectation_build(builder, &section, &list[config->expectations_count]);
    }
}
