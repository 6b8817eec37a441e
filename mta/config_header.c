/*
 * config_header.c - header fields: inbound-defaults { trusted-fields }, require-header of
 * connectors
 *
 * Names are in lower case from here on. Some are always there: our own, Authentication-Results
 * with our host name as its identifier, TLS-Required, and Message-ID, which the log tells.
 */
#include <errno.h>

#include "core/check.h"
#include "mta/config_build.h"

enum { REQUIRED_VALUE_MAX = 255, PREFIX_MIN = 3 };

/* Without these a message is none, or leads in circles. */
static const struct slice needed[] = {
    SLICE("received"),
    SLICE("from"),
    SLICE("sender"),
    SLICE("to"),
    SLICE("cc"),
    SLICE("date"),
    SLICE("subject"),
    SLICE("message-id"),
    SLICE("mime-version"),
    SLICE("content-type"),
    SLICE("references"),
    SLICE("in-reply-to"),
    SLICE("content-transfer-encoding"),
};

static bool is_name(struct slice name)
{
    bool good = name.size > 0 && name.size <= HEADER_NAME_MAX;
    for (size_t i = 0; i < name.size; i++)
        good = good && name.data[i] > ' ' && name.data[i] < 0x7f && name.data[i] != ':';
    return good;
}

/* False: it is wrong, which was reported. */
static bool take_trusted(struct config_builder *builder, const struct config_section *section,
                         const struct config_value *value, struct header_rule *rule)
{
    struct slice text = slice_of_string(value->text);
    bool prefix = slice_ends_nocase(text, SLICE("-*"));
    struct slice name = slice_part(text, 0, text.size - (prefix ? 1 : 0));
    if (!is_name(name) || memchr(name.data, '*', name.size) != NULL ||
        (prefix && name.size < PREFIX_MIN)) {
        config_file_error(section, "trusted-fields", value->line,
                          "`%.80s` is no name of a header field; write X-Corp-Checked, or X-Corp-* "
                          "for all that begin so",
                          value->text);
        return false;
    }
    *rule = (struct header_rule) { .name = config_take_lower(builder, name),
                                   .is_prefix = prefix,
                                   .kinds = HEADER_TRUSTED };
    for (unsigned i = 0; i < ARRAY_COUNT(needed) && rule->name.size > 0; i++) {
        struct slice part = prefix ? slice_part(needed[i], 0, rule->name.size) : needed[i];
        if (!slice_equal(part, rule->name))
            continue;
        config_file_error(section, "trusted-fields", value->line,
                          "`%.80s` would take %.*s out of all mail from others; choose names that "
                          "only your own servers set",
                          value->text, (int)needed[i].size, (const char *)needed[i].data);
        return false;
    }
    return rule->name.size > 0;
}

void config_required_header(struct config_builder *builder, const struct config_section *section,
                            struct header_required *required)
{
    static const struct slice ours[] = { SLICE("authentication-results"), SLICE("tls-required") };
    unsigned count;
    const struct config_value *values = config_file_list(section, "require-header", &count);
    if (!config_file_given(section, "require-header"))
        return;
    if (count != 2 || !is_name(slice_of_string(values[0].text))) {
        config_file_error(section, "require-header", 0,
                          "is a field and its value; write require-header = { X-OriginatorOrg, "
                          "d.example }");
        return;
    }
    struct slice name = slice_of_string(values[0].text), value = slice_of_string(values[1].text);
    bool good = value.size > 0 && value.size <= REQUIRED_VALUE_MAX;
    for (size_t i = 0; i < value.size; i++)
        good = good && value.data[i] > ' ' && value.data[i] < 0x7f;
    if (!good) {
        config_file_error(section, "require-header", values[1].line,
                          "`%.80s` cannot be compared; write a value of 1 to %d octets of ASCII "
                          "without blanks",
                          values[1].text, REQUIRED_VALUE_MAX);
        return;
    }
    for (unsigned i = 0; i < ARRAY_COUNT(ours); i++)
        if (slice_equal_nocase(name, ours[i])) {
            config_file_error(section, "require-header", values[0].line,
                              "%.80s means something of its own here; choose a field that the "
                              "platform sets itself",
                              values[0].text);
            return;
        }
    required->name = config_take_lower(builder, name);
    const char *copy = config_take_string(builder, values[1].text);
    required->value = slice_of(copy, copy == NULL ? 0 : value.size);
}

static bool add_required(struct header_rule *rules, unsigned *count, struct slice name)
{
    unsigned names = 0;
    for (unsigned i = 0; i < *count; i++) {
        if (rules[i].kinds != HEADER_REQUIRED)
            continue;
        if (slice_equal(rules[i].name, name))
            return true;
        names++;
    }
    if (names == HEADER_REQUIRED_MAX)
        return false;
    rules[(*count)++] = (struct header_rule) { .name = name, .kinds = HEADER_REQUIRED };
    return true;
}

void config_build_headers(struct config_builder *builder, const struct inbound *connectors,
                          unsigned count)
{
    struct config *config = builder->config;
    struct header_rule *rules = config_take(builder, HEADER_RULES_MAX, sizeof(*rules));
    if (rules == NULL)
        return;
    unsigned made = 0, given;
    rules[made++] = (struct header_rule) { SLICE("x-ringpost-"), true, HEADER_TRUSTED };
    rules[made++] =
        (struct header_rule) { SLICE("authentication-results"), false, HEADER_TRUSTED_OURS };
    rules[made++] = (struct header_rule) { SLICE("tls-required"), false, HEADER_TLS_REQUIRED };
    rules[made++] = (struct header_rule) { SLICE("message-id"), false, HEADER_MESSAGE_ID };
    struct config_section section = config_file_section(builder->file, "inbound-defaults", 0);
    const struct config_value *values = config_file_list(&section, "trusted-fields", &given);
    if (given > HEADER_TRUSTED_MAX) {
        config_file_error(&section, "trusted-fields", values[HEADER_TRUSTED_MAX].line,
                          "more than %d names; write X-Corp-* for all that begin so",
                          HEADER_TRUSTED_MAX);
        given = HEADER_TRUSTED_MAX;
    }
    for (unsigned i = 0; i < given; i++)
        made += take_trusted(builder, &section, &values[i], &rules[made]);
    for (unsigned i = 0; i < count; i++)
        if (connectors[i].header.name.size > 0 &&
            !add_required(rules, &made, connectors[i].header.name)) {
            config_report_add(builder->report, CONFIG_ERROR, config->file, connectors[i].line,
                              "inbound: require-header",
                              "more than %d different fields; a platform needs one",
                              HEADER_REQUIRED_MAX);
            break;
        }
    config->headers = (struct header_rules) { .rules = rules,
                                              .count = made,
                                              .identifier = slice_of_string(config->hostname) };
    header_rules_seal(&config->headers);
}
