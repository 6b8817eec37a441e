/*
 * config_connector.c - keys that connectors of both directions have
 */
#include "core/check.h"
#include "mta/config_build.h"

static const char *const types[] = {
    [CONNECTOR_PARTNER] = "partner", [CONNECTOR_OWN] = "own", NULL
};
static const char *const states[] = {
    [CONNECTOR_OFF] = "off", [CONNECTOR_TEST] = "test", [CONNECTOR_ENFORCE] = "enforce", NULL
};

static const char *const revocations[] = { [TLS_REVOCATION_OFF] = "off",
                                           [TLS_REVOCATION_SOFT] = "soft",
                                           [TLS_REVOCATION_HARD] = "hard",
                                           NULL };

void config_connector_head(struct config_builder *builder, const struct config_section *section,
                           enum connector_type *type, enum connector_state *state)
{
    config_title_check(section);
    *type = (enum connector_type)config_file_choice(section, "type", types, CONNECTOR_PARTNER);
    *state = (enum connector_state)config_file_choice(section, "state", states, CONNECTOR_OFF);
    if (builder->partial)
        return;
    if (!config_file_given(section, "type"))
        config_file_error(section, "type", 0,
                          "is missing; write type = partner (another organisation), or own (our "
                          "own servers)");
    if (!config_file_given(section, "state"))
        config_file_error(section, "state", 0,
                          "is missing; write state = enforce, test to see first what it would do, "
                          "or off to keep it for later");
}

unsigned config_connector_cost(const struct config_section *section)
{
    return (unsigned)config_file_number(section, "cost", 0, CONNECTOR_COST_MAX, CONNECTOR_COST);
}

enum tls_revocation config_revocation(const struct config_section *section, const char *key)
{
    return (enum tls_revocation)config_file_choice(section, key, revocations, TLS_REVOCATION_SOFT);
}

const char *config_label(struct config_builder *builder, const struct config_section *section,
                         const char *key, const struct config_value *value)
{
    struct slice text = slice_of_string(value == NULL ? "" : value->text);
    bool good = text.size <= CONNECTOR_NAME_MAX;
    if (text.size == 0)
        return "";
    for (size_t i = 0; i < text.size; i++)
        good = good && text.data[i] > ' ' && text.data[i] < 0x7f;
    if (!good)
        config_file_error(section, key, value->line,
                          "`%.64s` is no label; write 1 to %d letters without blanks", value->text,
                          CONNECTOR_NAME_MAX);
    return config_take_string(builder, value->text);
}
